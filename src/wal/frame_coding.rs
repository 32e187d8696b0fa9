//! A frame to record bytes and back: header, layout, codec state.
//!
//! Encoder and decoder go through the same changes of state in the same order: both begin empty at START and see
//! every frame of the chunk. A redefined index keeps the state of its old series; that costs a few bits once, where
//! a reset at the definition would have to happen at the same place of the stream on flash and in staging.
//!
//! # Invariants
//!
//! - A chunk is decodable from its START alone, given the dictionary.
//! - After an error the state is unknown: nothing is coded until the next START.
//!
//! # Limits and cost
//!
//! Per series the codec's state and 2 bytes of layout, per coder the codec's tables and 64 targets of 4 bytes.

use super::record::{self, FrameHead, RecordFault, Start, frame_flag};
use crate::frame::{Frame, FrameNo, Full, ScrapeCounts};
use crate::limits::MAX_TARGETS;
use crate::sample::{Number, Sample, SeriesRef, TargetRef};
use crate::value::codec::{Codec, CodecId, SeriesState};
use crate::value::varint::{Sink, put_i64, put_u64};
use alloc::boxed::Box;
use alloc::vec;

/// Most bytes of a frame's head before lists and values.
const MAX_HEAD_BYTES: usize = 2 + 10 + 5 + 15;

/// Most bytes of a frame record of `samples` samples: what no capture comes near.
#[must_use]
pub const fn max_frame_bytes(codec: CodecId, samples: usize) -> usize {
    // Series lists: 6 bytes per run; a time: 3 + 10 bytes.
    MAX_HEAD_BYTES + codec.max_encoded_bytes(samples) + samples * (2 * 6 + 13) + 3 * 10
}

#[derive(Clone, Copy, Debug)]
struct Head {
    first: u16,
    count: u16,
}

/// Which series each target's last frame had, in order: linked lists through one array.
#[derive(Debug)]
struct Layouts {
    next: Box<[u16]>,
    heads: [Option<Head>; MAX_TARGETS],
}

impl Layouts {
    fn new(max_series: usize) -> Self {
        Self {
            next: vec![0; max_series].into_boxed_slice(),
            heads: [None; MAX_TARGETS],
        }
    }

    fn forget(&mut self) {
        self.heads = [None; MAX_TARGETS];
    }

    fn head(&self, target: TargetRef) -> Option<Head> {
        self.heads.get(usize::from(target.0)).copied().flatten()
    }

    /// The series of the target's last frame. A list that another target's frame has cut across is as long as it was,
    /// and the same for encoder and decoder.
    fn of(&self, target: TargetRef) -> Option<impl Iterator<Item = SeriesRef> + '_> {
        let head = self.head(target)?;
        let mut at = head.first;
        Some((0..head.count).map(move |_| {
            let series = SeriesRef(at);
            at = self.next.get(usize::from(at)).copied().unwrap_or(0);
            series
        }))
    }

    fn is(&self, target: TargetRef, samples: &[Sample]) -> bool {
        self.head(target)
            .is_some_and(|head| usize::from(head.count) == samples.len())
            && self
                .of(target)
                .is_some_and(|layout| layout.zip(samples).all(|(series, sample)| series == sample.series))
    }

    /// Remembers the series of `samples`, all in range. A frame that has a series twice cannot be remembered: the
    /// target's next frame then carries its layout again.
    fn set(&mut self, target: TargetRef, samples: &[Sample]) {
        for pair in samples.windows(2) {
            self.next[usize::from(pair[0].series.0)] = pair[1].series.0;
        }
        let head = Head {
            first: samples.first().map_or(0, |sample| sample.series.0),
            count: samples.len().min(usize::from(u16::MAX)) as u16,
        };
        if let Some(place) = self.heads.get_mut(usize::from(target.0)) {
            *place = Some(head);
            if !self.is(target, samples) {
                self.heads[usize::from(target.0)] = None;
            }
        }
    }
}

/// Codec, per-series state, layouts and the time of the last frame.
#[derive(Debug)]
struct Coder {
    codec: Codec,
    states: Box<[SeriesState]>,
    layouts: Layouts,
    last_ms: u64,
}

impl Coder {
    fn new(id: CodecId, max_series: usize) -> Self {
        Self {
            codec: Codec::new(id),
            states: vec![SeriesState::RESET; max_series].into_boxed_slice(),
            layouts: Layouts::new(max_series),
            last_ms: 0,
        }
    }

    fn reset(&mut self, mono_ms: u64) {
        self.codec.reset();
        self.states.fill(SeriesState::RESET);
        self.layouts.forget();
        self.last_ms = mono_ms;
    }
}

/// Encodes frames of one chunk after another.
#[derive(Debug)]
pub(crate) struct Encoder(Coder);

impl Encoder {
    pub(crate) fn new(id: CodecId, max_series: usize) -> Self {
        Self(Coder::new(id, max_series))
    }

    /// Begins a chunk whose START says `mono_ms`.
    pub(crate) fn reset(&mut self, mono_ms: u64) {
        self.0.reset(mono_ms);
    }

    /// Whether every series of the frame is in range.
    pub(crate) fn knows(&self, frame: &Frame) -> bool {
        let limit = self.0.states.len();
        let within = |series: SeriesRef| usize::from(series.0) < limit;
        usize::from(frame.target.0) < MAX_TARGETS
            && frame.samples.iter().all(|sample| within(sample.series))
            && frame.stale.iter().all(|&series| within(series))
    }

    /// Writes the payload of a FRAME record. The caller has asked [`Encoder::knows`].
    ///
    /// # Errors
    /// [`Full`]: `out` is too small; the state is unknown then.
    pub(crate) fn encode(&mut self, frame: &Frame, clock_known: bool, out: &mut impl Sink) -> Result<(), Full> {
        let coder = &mut self.0;
        let samples: &[Sample] = if frame.up { &frame.samples } else { &[] };
        let n = samples.len() as u32;
        let counts = frame.counts;
        let usual = counts
            == ScrapeCounts {
                scraped: n,
                post_relabel: n,
                added: 0,
            };
        let layout = frame.up && !coder.layouts.is(frame.target, samples);
        let mut flags = 0;
        for (set, bit) in [
            (!frame.up, frame_flag::FAILED),
            (layout, frame_flag::LAYOUT),
            (frame.up && !frame.explicit.is_empty(), frame_flag::TIMES),
            (!clock_known, frame_flag::NO_CLOCK),
            (!frame.stale.is_empty(), frame_flag::STALE),
            (!usual, frame_flag::COUNTS),
        ] {
            flags |= if set { bit } else { 0 };
        }
        out.put(&[frame.target.0, flags])?;
        put_i64(out, frame.time_ms.wrapping_sub(coder.last_ms) as i64)?;
        put_u64(out, frame.duration_100us.into())?;
        if !usual {
            for count in [counts.scraped, counts.post_relabel, counts.added] {
                put_u64(out, count.into())?;
            }
        }
        if !frame.stale.is_empty() {
            record::put_series(out, frame.stale.iter().copied())?;
        }
        if layout {
            record::put_series(out, samples.iter().map(|sample| sample.series))?;
        }
        if flags & frame_flag::TIMES != 0 {
            record::put_times(out, &frame.explicit)?;
        }
        coder.codec.encode(&mut coder.states, samples, out)?;
        coder.last_ms = frame.time_ms;
        if layout {
            coder.layouts.set(frame.target, samples);
        }
        Ok(())
    }
}

/// Decodes frames of a chunk in order.
#[derive(Debug)]
pub(crate) struct Decoder {
    coder: Coder,
    /// Number of the next frame; `None`: nothing can be decoded until the next START.
    next: Option<FrameNo>,
    /// First frame of the chunk: with `next`, tells which point of the stream the state belongs to.
    chunk: FrameNo,
    boot: u32,
}

impl Decoder {
    pub(crate) fn new(id: CodecId, max_series: usize) -> Self {
        Self {
            coder: Coder::new(id, max_series),
            next: None,
            chunk: FrameNo(0),
            boot: 0,
        }
    }

    /// The state belongs to no point of the stream.
    pub(crate) fn forget(&mut self) {
        self.next = None;
    }

    /// Begins a chunk.
    pub(crate) fn start(&mut self, start: &Start) {
        self.coder.reset(start.mono_ms);
        self.next = Some(FrameNo(start.frame_no));
        self.chunk = FrameNo(start.frame_no);
        self.boot = boot_key(&start.boot_id);
    }

    pub(crate) fn next(&self) -> Option<FrameNo> {
        self.next
    }

    /// The segment was written with this codec. Allocates when it is not the one in use: once per change of the
    /// configured codec.
    pub(crate) fn use_codec(&mut self, id: CodecId) {
        if self.coder.codec.id() != id {
            self.coder.codec = Codec::new(id);
            self.next = None;
        }
    }

    /// Whether the state is that before frame `next` of the chunk that begins with frame `chunk`.
    pub(crate) fn stands_at(&self, chunk: FrameNo, next: FrameNo) -> bool {
        self.chunk == chunk && self.next == Some(next)
    }

    /// The boot of the frames of this chunk.
    pub(crate) fn boot(&self) -> u32 {
        self.boot
    }

    /// Reads the payload of the next FRAME record. `frame.unix_ms` is left `None`.
    ///
    /// # Errors
    /// [`RecordFault`]; nothing can be decoded until the next START then.
    pub(crate) fn decode(&mut self, payload: &[u8], frame: &mut Frame) -> Result<(), RecordFault> {
        let number = self.next.take().ok_or(RecordFault::Malformed)?;
        let coder = &mut self.coder;
        let head = FrameHead::parse(payload)?;
        let time_ms = coder.last_ms.wrapping_add(head.dt_ms as u64);
        frame.reset(head.target, time_ms);
        frame.number = number;
        frame.up = !head.failed();
        frame.duration_100us = head.duration_100us;
        let limit = coder.states.len();
        let too_large = |_: Full| RecordFault::TooLarge;
        for series in head.stale {
            if usize::from(series.0) >= limit {
                return Err(RecordFault::TooLarge);
            }
            frame.stale.push(series).map_err(too_large)?;
        }
        let mut place = |series: SeriesRef| -> Result<(), RecordFault> {
            if usize::from(series.0) >= limit {
                return Err(RecordFault::TooLarge);
            }
            let number = Number::decimal(0, 0);
            frame.samples.push(Sample { number, series }).map_err(too_large)
        };
        if frame.up {
            if let Some(layout) = head.layout {
                layout.into_iter().try_for_each(&mut place)?;
            } else {
                let mut layout = coder.layouts.of(head.target).ok_or(RecordFault::Malformed)?;
                layout.try_for_each(&mut place)?;
            }
        }
        for time in head.times {
            if usize::from(time.position) >= frame.samples.len() {
                return Err(RecordFault::Malformed);
            }
            frame.explicit.push(time).map_err(too_large)?;
        }
        coder
            .codec
            .decode(&mut coder.states, head.values, &mut frame.samples)
            .map_err(|_| RecordFault::Malformed)?;
        coder.last_ms = time_ms;
        if head.layout.is_some() && frame.up {
            coder.layouts.set(head.target, &frame.samples);
        }
        let n = frame.samples.len() as u32;
        let [scraped, post_relabel, added] = head.counts.unwrap_or([n, n, 0]);
        frame.counts = ScrapeCounts {
            scraped,
            post_relabel,
            added,
        };
        self.next = Some(FrameNo(number.0 + 1));
        Ok(())
    }
}

/// What a walk learns of a frame without decoding its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Its number.
    pub number: FrameNo,
    /// The scraped target.
    pub target: TargetRef,
    /// Whether the scrape succeeded.
    pub up: bool,
    /// Boot time, milliseconds.
    pub time_ms: u64,
    /// Key of the boot, see [`boot_key`].
    pub boot: u32,
    /// Samples in it; `None` when the frame that listed the series was not seen.
    pub samples: Option<u32>,
    /// Bytes of the record's payload.
    pub bytes: u32,
}

/// Follows frames without codec state: 64 targets of 8 bytes.
#[derive(Debug)]
pub struct Tally {
    next: Option<FrameNo>,
    last_ms: u64,
    boot: u32,
    samples: [Option<u32>; MAX_TARGETS],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            next: None,
            last_ms: 0,
            boot: 0,
            samples: [None; MAX_TARGETS],
        }
    }
}

impl Tally {
    /// Nothing is known until the next START.
    pub fn forget(&mut self) {
        self.next = None;
    }

    /// Begins a chunk.
    pub fn start(&mut self, start: &Start) {
        self.next = Some(FrameNo(start.frame_no));
        self.last_ms = start.mono_ms;
        self.boot = boot_key(&start.boot_id);
        self.samples = [None; MAX_TARGETS];
    }

    /// Reads the head of the next FRAME record.
    ///
    /// # Errors
    /// [`RecordFault`].
    pub fn frame(&mut self, payload: &[u8]) -> Result<FrameInfo, RecordFault> {
        let number = self.next.take().ok_or(RecordFault::Malformed)?;
        let head = FrameHead::parse(payload)?;
        self.last_ms = self.last_ms.wrapping_add(head.dt_ms as u64);
        // `parse` has checked the target.
        let known = &mut self.samples[usize::from(head.target.0)];
        let samples = if head.failed() {
            Some(0)
        } else {
            if let Some(layout) = &head.layout {
                *known = u32::try_from(layout.len()).ok();
            }
            *known
        };
        self.next = Some(FrameNo(number.0 + 1));
        Ok(FrameInfo {
            number,
            target: head.target,
            up: !head.failed(),
            time_ms: self.last_ms,
            boot: self.boot,
            samples,
            bytes: payload.len() as u32,
        })
    }
}

/// CRC-32C of a boot id: how CLOCK records and tables name a boot.
#[must_use]
pub fn boot_key(id: &[u8; 16]) -> u32 {
    crate::hash::crc32c(0, id)
}
