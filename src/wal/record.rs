//! Records of the stream: their types, and control records. The payload of a FRAME is in `frame`.
//!
//! `type u8 | length varint | payload`. Control records are postcard structs whose fields are only ever added at
//! the end; a reader ignores what follows the fields it knows.
//!
//! Nothing here allocates or panics on any input; what does not parse is a [`RecordFault`].

mod frame;

pub use frame::{FrameHead, SeriesList, Times, check_extras, frame_flag, put_series, put_times};
pub(crate) use frame::{MAX_NOTES_BYTES, put_notes, put_runs, run_from};

use super::counters::Loss;
use crate::frame::Full;
use crate::value::varint::{Cursor, CursorError, Sink, len_u64, put_u64};
use serde::{Deserialize, Serialize};

/// Record types. A reader that does not know a type skips it if [`kind::SKIPPABLE`] is set, else it stops reading the
/// segment.
pub mod kind {
    /// Bit that makes an unknown record safe to skip.
    pub const SKIPPABLE: u8 = 0x80;
    /// First record of a segment.
    pub const SEGMENT: u8 = 0x01;
    /// Begins a chunk or an epoch.
    pub const START: u8 = 0x02;
    /// Labels of a target.
    pub const TARGET: u8 = 0x03;
    /// Definitions of series.
    pub const DICT: u8 = 0x04;
    /// One scrape.
    pub const FRAME: u8 = 0x05;
    /// Offset of the boot's clock.
    pub const CLOCK: u8 = 0x06;
    /// Samples lost.
    pub const DROP: u8 = 0x87;
    /// Acknowledgement of one remote.
    pub const ACK: u8 = 0x89;
    /// Newest time sent to one remote.
    pub const SENT: u8 = 0x8c;
    /// Frames that one remote has beyond its acknowledgement.
    pub const AHEAD: u8 = 0x8d;
    /// Samples counted as lost that were delivered after all.
    pub const DELIVERED: u8 = 0x8e;
}

/// Most bytes of a control record's payload: SEGHDR with every field at its longest is below 450.
pub const MAX_CONTROL_BYTES: usize = 512;

/// Wall time that is not known.
pub const UNKNOWN_MS: i64 = i64::MIN;

/// How far the wall clock is to be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum ClockSource {
    /// Not at all.
    #[default]
    None = 0,
    /// A battery-backed clock.
    Rtc = 1,
    /// The kernel says it is synchronised, or the configuration says to trust it.
    Synchronised = 2,
    /// Set by hand.
    Manual = 3,
}

impl ClockSource {
    /// The source with this number; unknown numbers are [`ClockSource::None`].
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Rtc,
            2 => Self::Synchronised,
            3 => Self::Manual,
            _ => Self::None,
        }
    }
}

/// SEGHDR: what a segment needs to be read on its own, and the ledger as it was when the segment was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "FORMAT.md describes each field under the same name")]
pub struct SegmentHeader {
    pub major: u16,
    pub minor: u16,
    pub uuid: [u8; 16],
    pub seq: u64,
    pub slots: u32,
    pub log2_block: u8,
    pub log2_segment: u8,
    pub slot: u32,
    pub tail_seq: u64,
    pub frame_no: u64,
    pub dropped_samples: u64,
    pub dropped_segments: u32,
    pub config_crc: u32,
    pub codec: u8,
    pub ack: u64,
    pub prior: u64,
    pub tail_frame: u64,
    pub counted_frame: u64,
    pub frames: u64,
    pub samples: u64,
    pub wall_ms: i64,
    pub max_series: u32,
    pub losses: [Loss; Loss::IN_HEADER],
}

/// START: where time, numbering and codec state begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "FORMAT.md describes each field under the same name")]
pub struct Start {
    pub epoch: u32,
    pub boot_id: [u8; 16],
    pub mono_ms: u64,
    pub wall_ms: i64,
    pub clock: u8,
    pub error_ms: u32,
    pub frame_no: u64,
    pub prior: u64,
    pub config_crc: u32,
}

/// TARGET: labels of a target, `instance="..",job=".."`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "FORMAT.md describes each field under the same name")]
pub struct Target<'a> {
    pub index: u8,
    pub body: &'a str,
}

/// CLOCK: wall time of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "FORMAT.md describes each field under the same name")]
pub struct Clock {
    pub boot: u32,
    pub mono_ms: u64,
    pub wall_ms: i64,
    pub error_ms: u32,
    pub source: u8,
}

/// DROP: frames that will never be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "FORMAT.md describes each field under the same name")]
pub struct Drop {
    pub first_frame: u64,
    pub last_frame: u64,
    pub samples: u64,
    pub reason: u8,
    pub frames: u64,
    pub first_ms: i64,
    pub last_ms: i64,
}

/// Of what the losses told before count for a reason, this much was delivered after all: it was in the hands of senders when the
/// ring gave it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// [`super::counters::Reason`].
    pub reason: u8,
    /// Scrapes.
    pub frames: u64,
    /// Samples in them.
    pub samples: u64,
}

impl Drop {
    /// Adds this to one for the same reason, if there is one.
    pub(crate) fn add_to(&self, other: &mut Option<Self>) {
        let loss = |drop: &Self| Loss {
            frames: drop.frames,
            samples: drop.samples,
            first_ms: drop.first_ms,
            last_ms: drop.last_ms,
        };
        let (mut sum, own) = (other.as_ref().map_or(Loss::default(), loss), loss(self));
        sum.add(&own);
        let before = other.unwrap_or(*self);
        *other = Some(Self {
            first_frame: before.first_frame.min(self.first_frame),
            last_frame: before.last_frame.max(self.last_frame),
            samples: sum.samples,
            reason: self.reason,
            frames: sum.frames,
            first_ms: sum.first_ms,
            last_ms: sum.last_ms,
        });
    }
}

/// ACK: first frame a remote has not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "FORMAT.md describes each field under the same name")]
pub struct Ack {
    pub remote: u32,
    pub frame_no: u64,
}

/// SENT: the newest frame time that a remote was sent, its boot, and when that boot was taken to have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "FORMAT.md describes each field under the same name")]
pub struct Sent {
    pub remote: u32,
    pub sent_ms: i64,
    pub boot: u32,
    pub offset_ms: i64,
}

/// AHEAD: frames beyond its acknowledgement that a remote has, from the first to before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "FORMAT.md describes each field under the same name")]
pub struct Ahead {
    pub remote: u32,
    pub first_frame: u64,
    pub end_frame: u64,
}

/// A record's payload is not what its type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordFault {
    /// It ends too early, or a field is out of range.
    Malformed,
    /// It is well formed but needs more room than this reader has.
    TooLarge,
}

impl From<CursorError> for RecordFault {
    fn from(_: CursorError) -> Self {
        Self::Malformed
    }
}

impl core::fmt::Display for RecordFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "record is malformed",
            Self::TooLarge => "record needs more room than configured",
        })
    }
}

impl core::error::Error for RecordFault {}

/// Frame numbers, segment numbers and totals are below this: a million a second for 146,000 years. A record that says more
/// was not written by a ring, and could make sums overflow.
pub const MAX_COUNT: u64 = 1 << 62;

/// A control record.
pub trait Control {
    /// The numbers in it that others are added to.
    fn counts(&self) -> impl IntoIterator<Item = u64>;
}

impl Control for SegmentHeader {
    fn counts(&self) -> impl IntoIterator<Item = u64> {
        [
            self.seq,
            self.tail_seq,
            self.frame_no,
            self.ack,
            self.prior,
            self.tail_frame,
            self.counted_frame,
            self.frames,
            self.samples,
        ]
    }
}

impl Control for Start {
    fn counts(&self) -> impl IntoIterator<Item = u64> {
        [self.frame_no, self.prior]
    }
}

impl Control for Drop {
    fn counts(&self) -> impl IntoIterator<Item = u64> {
        [self.first_frame, self.last_frame]
    }
}

impl Control for Delivered {
    fn counts(&self) -> impl IntoIterator<Item = u64> {
        []
    }
}

impl Control for Ack {
    fn counts(&self) -> impl IntoIterator<Item = u64> {
        [self.frame_no]
    }
}

impl Control for Ahead {
    fn counts(&self) -> impl IntoIterator<Item = u64> {
        [self.first_frame, self.end_frame]
    }
}

impl Control for Sent {
    fn counts(&self) -> impl IntoIterator<Item = u64> {
        []
    }
}

impl Control for Target<'_> {
    fn counts(&self) -> impl IntoIterator<Item = u64> {
        []
    }
}

impl Control for Clock {
    fn counts(&self) -> impl IntoIterator<Item = u64> {
        []
    }
}

/// Parses a control record.
///
/// # Errors
/// [`RecordFault::Malformed`].
pub fn parse<'a, T: Deserialize<'a> + Control>(payload: &'a [u8]) -> Result<T, RecordFault> {
    postcard::take_from_bytes(payload)
        .map(|(value, _later_fields): (T, _)| value)
        .ok()
        .filter(|value| value.counts().into_iter().all(|count| count < MAX_COUNT))
        .ok_or(RecordFault::Malformed)
}

/// Writes a control record with its type and length.
///
/// # Errors
/// [`Full`], also when the record is longer than `buffer`.
pub fn emit<T: Serialize>(kind: u8, value: &T, buffer: &mut [u8], out: &mut impl Sink) -> Result<(), Full> {
    let limit = buffer.len();
    let payload = postcard::to_slice(value, buffer).map_err(|_| Full { limit })?;
    put_head(out, kind, payload.len())?;
    out.put(payload)
}

/// Sets the field `prior` of a START to a number not above the one it has, as long as that.
pub(crate) fn set_prior(start: &mut [u8], prior: u64) {
    let len = start.len();
    let place = || -> Result<(usize, usize), CursorError> {
        let mut cursor = Cursor::new(start);
        cursor.u64()?;
        cursor.bytes(16)?;
        cursor.u64()?;
        cursor.u64()?;
        cursor.u8()?;
        cursor.u64()?;
        cursor.u64()?;
        let at = len - cursor.remaining();
        cursor.u64()?;
        Ok((at, len - cursor.remaining()))
    };
    if let Ok((from, to)) = place() {
        let last = to - from - 1;
        for (place, byte) in start[from..to].iter_mut().enumerate() {
            *byte = (prior >> (7 * place)) as u8 & 0x7f | if place < last { 0x80 } else { 0 };
        }
    }
}

/// Writes type and length.
///
/// # Errors
/// [`Full`].
pub fn put_head(out: &mut impl Sink, kind: u8, len: usize) -> Result<(), Full> {
    out.put(&[kind])?;
    put_u64(out, len as u64)
}

/// Bytes of type and length before a payload of `len` bytes.
#[must_use]
pub const fn head_len(len: usize) -> usize {
    1 + len_u64(len as u64)
}

/// A sink over a borrowed buffer.
#[derive(Debug)]
pub(crate) struct SliceSink<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> SliceSink<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }

    /// Bytes written.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What was written.
    pub(crate) fn written(&self) -> &[u8] {
        // `len` never passes the buffer's end, see `put`.
        &self.bytes[..self.len]
    }
}

impl Sink for SliceSink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let limit = self.bytes.len();
        self.bytes
            .get_mut(self.len..self.len + bytes.len())
            .ok_or(Full { limit })?
            .copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Bounded;

    #[test]
    fn later_fields_of_a_control_record_are_ignored() {
        let ack = Ack {
            remote: 7,
            frame_no: 300,
        };
        let mut buffer = [0; MAX_CONTROL_BYTES];
        let mut out = Bounded::with_capacity(100);
        emit(kind::ACK, &ack, &mut buffer, &mut out).unwrap();
        assert_eq!(&out[..], [0x89, 3, 7, 0xac, 0x02]);
        out.extend(&[9, 9, 9]).unwrap();
        assert_eq!(parse::<Ack>(&out[2..]), Ok(ack));
        assert_eq!(parse::<Ack>(&out[2..4]), Err(RecordFault::Malformed));
    }

    #[test]
    fn the_longest_segment_header_fits_its_buffer() {
        let header = SegmentHeader {
            major: u16::MAX,
            minor: u16::MAX,
            uuid: [0xff; 16],
            seq: MAX_COUNT - 1,
            slots: u32::MAX,
            log2_block: 16,
            log2_segment: 26,
            slot: u32::MAX,
            tail_seq: MAX_COUNT - 1,
            frame_no: MAX_COUNT - 1,
            dropped_samples: u64::MAX,
            dropped_segments: u32::MAX,
            config_crc: u32::MAX,
            codec: 0xff,
            ack: MAX_COUNT - 1,
            prior: MAX_COUNT - 1,
            tail_frame: MAX_COUNT - 1,
            counted_frame: MAX_COUNT - 1,
            frames: MAX_COUNT - 1,
            samples: MAX_COUNT - 1,
            wall_ms: i64::MIN,
            max_series: u32::MAX,
            losses: [Loss {
                frames: u64::MAX,
                samples: u64::MAX,
                first_ms: i64::MIN,
                last_ms: i64::MIN,
            }; Loss::IN_HEADER],
        };
        let mut buffer = [0; MAX_CONTROL_BYTES];
        let mut out = Bounded::with_capacity(MAX_CONTROL_BYTES);
        emit(kind::SEGMENT, &header, &mut buffer, &mut out).unwrap();
        assert_eq!(parse::<SegmentHeader>(&out[3..]), Ok(header));
    }

    #[test]
    fn numbers_no_ring_can_reach_are_refused() {
        let mut buffer = [0; MAX_CONTROL_BYTES];
        for (frame_no, expected) in [(MAX_COUNT - 1, true), (MAX_COUNT, false), (u64::MAX, false)] {
            let ack = Ack { remote: 7, frame_no };
            let mut out = Bounded::with_capacity(100);
            emit(kind::ACK, &ack, &mut buffer, &mut out).unwrap();
            assert_eq!(parse::<Ack>(&out[2..]).is_ok(), expected, "{frame_no}");
        }
    }
}
