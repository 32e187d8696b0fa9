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
//! Per series the codec's state and 2 bytes of layout, per coder the codec's tables and 64 targets of 36 bytes.

use super::layout::Layouts;
use super::record::{self, FrameHead, RecordFault, Start, frame_flag};
use super::timing::Timing;
use crate::extras::{self, Extra};
use crate::frame::{ExplicitTime, Frame, FrameNo, Full, Notes, ScrapeCounts};
use crate::limits::MAX_TARGETS;
use crate::sample::{Number, Sample, SeriesRef, TargetRef};
use crate::value::codec::{Codec, CodecId, SeriesState};
use crate::value::varint::{Sink, put_i64, put_u64};
use alloc::boxed::Box;
use alloc::vec;

/// Most bytes of a frame's head before lists and values.
const MAX_HEAD_BYTES: usize = 2 + 10 + 5 + 15 + record::MAX_NOTES_BYTES;

/// Most bytes of a frame record of `samples` samples that carry `extras_bytes`: what no capture comes near.
#[must_use]
pub const fn max_frame_bytes(codec: CodecId, samples: usize, extras_bytes: usize) -> usize {
    // Series lists: 6 bytes per run; a time: 3 + 10 bytes; four lengths of lists.
    MAX_HEAD_BYTES + codec.max_encoded_bytes(samples) + samples * (2 * 6 + 13) + extras_bytes + 4 * 10
}

/// Codec, per-series state, layouts and when frames are expected.
#[derive(Debug)]
struct Coder {
    codec: Codec,
    states: Box<[SeriesState]>,
    layouts: Layouts,
    /// Apart, because readers are moved.
    timing: Box<Timing>,
}

impl Coder {
    fn new(id: CodecId, max_series: usize) -> Self {
        Self {
            codec: Codec::new(id),
            states: vec![SeriesState::RESET; max_series].into_boxed_slice(),
            layouts: Layouts::new(max_series),
            timing: Box::default(),
        }
    }

    fn reset(&mut self, mono_ms: u64) {
        self.codec.reset();
        self.states.fill(SeriesState::RESET);
        self.layouts.forget();
        self.timing.start(mono_ms);
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

    /// Whether every series and every position of the frame is in range.
    pub(crate) fn knows(&self, frame: &Frame) -> bool {
        let limit = self.0.states.len();
        let within = |series: SeriesRef| usize::from(series.0) < limit;
        usize::from(frame.target.0) < MAX_TARGETS
            && frame.samples.iter().all(|sample| within(sample.series))
            && frame.stale.iter().all(|&series| within(series))
            && record::check_extras(frame.extras.as_bytes(), Some(frame.samples.len())).is_ok()
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
            (frame.up && !frame.extras.is_empty(), frame_flag::EXTRAS),
            (frame.notes != Notes::default(), frame_flag::NOTES),
        ] {
            flags |= if set { bit } else { 0 };
        }
        out.put(&[frame.target.0, flags])?;
        let (time, duration) = coder.timing.off(frame.target, frame.time_ms, frame.duration_100us);
        put_i64(out, time)?;
        put_i64(out, duration)?;
        if !usual {
            for count in [counts.scraped, counts.post_relabel, counts.added] {
                put_u64(out, count.into())?;
            }
        }
        if !frame.stale.is_empty() {
            record::put_series(out, frame.stale.iter().copied())?;
        }
        if layout {
            coder.layouts.put(out, frame.target, samples)?;
        }
        if flags & frame_flag::TIMES != 0 {
            record::put_times(out, &frame.explicit)?;
        }
        if flags & frame_flag::EXTRAS != 0 {
            let bytes = frame.extras.as_bytes();
            put_u64(out, bytes.len() as u64)?;
            out.put(bytes)?;
        }
        if flags & frame_flag::NOTES != 0 {
            record::put_notes(out, &frame.notes)?;
        }
        coder.codec.encode(&mut coder.states, samples, out)?;
        coder.timing.note(frame.target, frame.time_ms, frame.duration_100us);
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
    left_out: bool,
}

impl Decoder {
    pub(crate) fn new(id: CodecId, max_series: usize) -> Self {
        Self {
            coder: Coder::new(id, max_series),
            next: None,
            chunk: FrameNo(0),
            boot: 0,
            left_out: false,
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

    /// The last frame came without what its samples carry, and without those that are native histograms: the frame it was
    /// read into has no room for it.
    pub(crate) fn left_out(&self) -> bool {
        self.left_out
    }

    /// Reads the payload of the next FRAME record. `frame.unix_ms` is left `None`.
    ///
    /// # Errors
    /// [`RecordFault`]; nothing can be decoded until the next START then.
    pub(crate) fn decode(&mut self, payload: &[u8], frame: &mut Frame) -> Result<(), RecordFault> {
        let number = self.next.take().ok_or(RecordFault::Malformed)?;
        let coder = &mut self.coder;
        let head = FrameHead::parse(payload)?;
        self.left_out = false;
        let (time_ms, duration_100us) = coder.timing.read(head.target, head.off)?;
        frame.reset(head.target, time_ms);
        frame.number = number;
        frame.up = !head.failed();
        frame.duration_100us = duration_100us;
        frame.notes = head.notes;
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
            coder.layouts.read(head.target, head.layout.as_ref(), &mut place)?;
        }
        for time in head.times {
            if usize::from(time.position) >= frame.samples.len() {
                return Err(RecordFault::Malformed);
            }
            frame.explicit.push(time).map_err(too_large)?;
        }
        record::check_extras(head.extras, Some(frame.samples.len()))?;
        coder
            .codec
            .decode(&mut coder.states, head.values, &mut frame.samples)
            .map_err(|_| RecordFault::Malformed)?;
        coder.timing.note(head.target, time_ms, duration_100us);
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
        match frame.extras.set_bytes(head.extras) {
            Ok(sound) => sound.map_err(|_| RecordFault::Malformed)?,
            Err(Full { .. }) => {
                self.left_out = true;
                leave_out_histograms(head.extras, frame);
            }
        }
        self.next = Some(FrameNo(number.0 + 1));
        Ok(())
    }
}

/// Takes the samples out of the frame that are native histograms according to `extras`, which have been checked: their
/// numbers mean nothing without them.
fn leave_out_histograms(extras: &[u8], frame: &mut Frame) {
    /// No series has this index: a list of series ends before it.
    const OUT: SeriesRef = SeriesRef(u16::MAX);
    for extra in extras::read(extras).flatten() {
        if let Extra::Histogram { position, .. } = extra
            && let Some(sample) = frame.samples.get_mut(usize::from(position))
        {
            sample.series = OUT;
        }
    }
    let (mut kept, mut times, mut kept_times) = (0, 0, 0);
    for position in 0..frame.samples.len() {
        let sample = frame.samples[position];
        let out = sample.series == OUT;
        if let Some(&time) = frame.explicit.get(times)
            && usize::from(time.position) == position
        {
            times += 1;
            if !out {
                let position = kept as u16;
                frame.explicit[kept_times] = ExplicitTime { position, ..time };
                kept_times += 1;
            }
        }
        if !out {
            frame.samples[kept] = sample;
            kept += 1;
        }
    }
    frame.samples.truncate(kept);
    frame.explicit.truncate(kept_times);
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
    /// Bytes of what the samples carry.
    pub extras_bytes: u32,
}

/// Follows frames without codec state: 64 targets of 32 bytes.
#[derive(Debug)]
pub struct Tally {
    next: Option<FrameNo>,
    timing: Timing,
    boot: u32,
    samples: [Option<u32>; MAX_TARGETS],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            next: None,
            timing: Timing::default(),
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
        self.timing.start(start.mono_ms);
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
        let (time_ms, duration_100us) = self.timing.read(head.target, head.off)?;
        self.timing.note(head.target, time_ms, duration_100us);
        // `parse` has checked the target.
        let known = &mut self.samples[usize::from(head.target.0)];
        let samples = if head.failed() {
            Some(0)
        } else {
            if let Some(layout) = &head.layout {
                *known = u32::try_from(layout.count()).ok();
            }
            *known
        };
        record::check_extras(head.extras, samples.map(|samples| samples as usize))?;
        self.next = Some(FrameNo(number.0 + 1));
        Ok(FrameInfo {
            number,
            target: head.target,
            up: !head.failed(),
            time_ms,
            boot: self.boot,
            samples,
            bytes: payload.len() as u32,
            extras_bytes: head.extras.len() as u32,
        })
    }
}

/// CRC-32C of a boot id: how CLOCK records and tables name a boot.
#[must_use]
pub fn boot_key(id: &[u8; 16]) -> u32 {
    crate::hash::crc32c(0, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Bounded;
    use alloc::vec::Vec;

    /// Samples of series 10 to 14; 1 and 3 are histograms, 2 and 3 have times of their own.
    fn frame() -> Frame {
        let mut frame = Frame::with_extras(8, 100);
        frame.reset(TargetRef(0), 1_000);
        frame.up = true;
        for series in 10..15 {
            let number = Number::decimal(i64::from(series) * 2, 0);
            let series = SeriesRef(series);
            frame.samples.push(Sample { number, series }).unwrap();
        }
        for position in [2, 3] {
            let unix_ms = 1_700_000_000_000;
            frame.explicit.push(ExplicitTime { position, unix_ms }).unwrap();
        }
        (frame.counts.scraped, frame.counts.post_relabel) = (5, 5);
        frame.extras.push_histogram(1, &[8, 22]).unwrap();
        frame.extras.push_exemplar(4, None, 0, "a=\"b\"").unwrap();
        frame.extras.push_histogram(3, &[8, 26]).unwrap();
        frame
    }

    fn encoded(frames: &[&Frame]) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(CodecId::Tc1, 20);
        encoder.reset(1_000);
        let encode = |frame: &&Frame| {
            assert!(encoder.knows(frame));
            let mut out = Bounded::with_capacity(1_000);
            encoder.encode(frame, true, &mut out).unwrap();
            out.to_vec()
        };
        frames.iter().map(encode).collect()
    }

    fn decoder() -> Decoder {
        let mut decoder = Decoder::new(CodecId::Tc1, 20);
        decoder.start(&Start {
            epoch: 1,
            boot_id: [0; 16],
            mono_ms: 1_000,
            wall_ms: 0,
            clock: 0,
            error_ms: 0,
            frame_no: 5,
            prior: 5,
            config_crc: 0,
        });
        decoder
    }

    fn series(frame: &Frame) -> Vec<u16> {
        frame.samples.iter().map(|sample| sample.series.0).collect()
    }

    #[test]
    fn what_samples_carry_comes_back_byte_for_byte() {
        let written = frame();
        let mut read = Frame::with_extras(8, written.extras.as_bytes().len());
        let mut decoder = decoder();
        for payload in encoded(&[&written, &written]) {
            decoder.decode(&payload, &mut read).unwrap();
            assert_eq!(read.extras.as_bytes(), written.extras.as_bytes());
            assert_eq!(&read.samples[..], &written.samples[..]);
            assert!(!decoder.left_out());
        }
    }

    #[test]
    fn notes_come_back_with_frames_that_failed_too() {
        let extra = Some(crate::frame::ExtraMetrics {
            timeout_ms: 10_000,
            sample_limit: 7,
            body_bytes: -1,
        });
        let (mut good, mut failed) = (frame(), Frame::with_capacity(8));
        good.notes = Notes { ended: false, extra };
        failed.reset(TargetRef(1), 2_000);
        failed.notes = Notes {
            ended: true,
            extra: None,
        };
        let mut read = Frame::with_extras(8, 100);
        let mut decoder = decoder();
        for (payload, written) in encoded(&[&good, &failed, &frame()])
            .iter()
            .zip([&good, &failed, &frame()])
        {
            decoder.decode(payload, &mut read).unwrap();
            assert_eq!((read.notes, &read.samples[..]), (written.notes, &written.samples[..]));
        }
    }

    #[test]
    fn a_failed_scrape_carries_nothing() {
        let mut written = frame();
        written.up = false;
        let payload = encoded(&[&written]).remove(0);
        assert_eq!(payload[1] & frame_flag::EXTRAS, 0);
        assert_eq!(decoder().decode(&payload, &mut Frame::with_capacity(8)), Ok(()));
    }

    #[test]
    fn without_room_the_frame_comes_without_extras_and_histograms() {
        let written = frame();
        let payloads = encoded(&[&written, &written]);
        let mut decoder = decoder();
        for payload in &payloads {
            let mut read = Frame::with_extras(8, written.extras.as_bytes().len() - 1);
            decoder.decode(payload, &mut read).unwrap();
            assert!(decoder.left_out() && read.extras.is_empty());
            assert_eq!(series(&read), [10, 12, 14]);
            assert_eq!(read.samples[1].number, Number::decimal(24, 0));
            let unix_ms = 1_700_000_000_000;
            assert_eq!(&read.explicit[..], [ExplicitTime { position: 1, unix_ms }]);
            assert_eq!(read.counts.scraped, 5);
        }
    }

    #[test]
    fn extras_of_no_sample_are_neither_written_nor_read() {
        let mut written = frame();
        written.extras.push_start_time(5, 1).unwrap();
        assert!(!Encoder::new(CodecId::Tc1, 20).knows(&written));

        let falls: [fn(&mut Frame); 2] = [
            |frame| frame.extras.push_histogram(3, &[]).unwrap(),
            |frame| frame.extras.push_exemplar(3, None, 0, "").unwrap(),
        ];
        for push in falls {
            let mut written = frame();
            push(&mut written);
            assert!(
                !Encoder::new(CodecId::Tc1, 20).knows(&written),
                "positions of a kind rise"
            );
        }

        let mut written = frame();
        written.extras.push_start_time(4, 1).unwrap();
        let mut payload = encoded(&[&written]).remove(0);
        let start_time = [0x83, 2, 4, 2];
        let at = payload.windows(4).position(|bytes| bytes == start_time).unwrap();
        payload[at + 2] = 5;
        let mut read = Frame::with_extras(8, 100);
        assert_eq!(decoder().decode(&payload, &mut read), Err(RecordFault::Malformed));
        let mut tally = Tally {
            next: Some(FrameNo(5)),
            ..Tally::default()
        };
        assert_eq!(tally.frame(&payload), Err(RecordFault::Malformed));
        payload[at + 2] = 4;
        assert_eq!(decoder().decode(&payload, &mut read), Ok(()));
        let mut tally = Tally {
            next: Some(FrameNo(5)),
            ..Tally::default()
        };
        let info = tally.frame(&payload).unwrap();
        assert_eq!(info.extras_bytes as usize, written.extras.as_bytes().len());
    }
}
