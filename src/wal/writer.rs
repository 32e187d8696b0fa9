//! From frames to staged blocks; when to commit.
//!
//! Where a chunk begins decides everything else: after a cut, after 64 KiB, after an error, and wherever the open segment
//! cannot surely take what is staged, the definitions it needs and the new frame. Rotation happens only there, so a
//! chunk never spans segments.

use super::config::{AppendError, Commit};
use super::counters::{Loss, Reason};
use super::record::{self, SliceSink, Start, UNKNOWN_MS, kind};
use super::storage::Storage;
use super::{DEGRADED_PAUSE_MS, Ring, SYNC_SPAN_BYTES};
use crate::catalogue::Catalogue;
use crate::clock::Instant;
use crate::frame::{Frame, FrameNo};
use crate::limits::MAX_TARGETS;
use crate::sample::{SeriesRef, TargetRef};

/// Bytes of an entry beyond its text, at most: type, prefix, suffix, length; and of a record around few entries.
const ENTRY_OVERHEAD: usize = 16;

/// Longest START record, head included: 16 bytes of boot id and eight varints.
const MAX_START_BYTES: usize = 96;

/// The chunk that takes frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chunk {
    /// Frames can be added; else the next frame begins a chunk.
    pub(crate) open: bool,
    first: FrameNo,
    bytes: usize,
    /// Of the last frame, record head included.
    frame_bytes: usize,
}

/// Bytes that segment header, START, acknowledgements and ledger take, at most.
pub(crate) const HEAD_BYTES: usize = 640;

/// A frame in encoded form, waiting for its place.
#[derive(Clone, Copy, Debug)]
struct Encoded {
    len: usize,
    samples: u32,
}

impl<S: Storage> Ring<S> {
    /// Takes a frame into staging and numbers it. Nothing is written.
    ///
    /// Cost: encoding, one copy; nothing is allocated.
    ///
    /// # Errors
    /// [`AppendError::StagingFull`]: commit and call again. Otherwise the frame is refused for good, see there.
    pub fn append(&mut self, frame: &Frame, catalogue: &mut Catalogue) -> Result<FrameNo, AppendError> {
        self.now = self.now.max(Instant(frame.time_ms));
        if !self.encoder.knows(frame) {
            return Err(AppendError::UnknownSeries);
        }
        self.reclaim(catalogue);
        self.frame_needs = self.undefined_bytes(frame, catalogue);
        let samples = if frame.up { frame.samples.len() as u32 } else { 0 };
        let placed = loop {
            match self.place(frame, samples, catalogue) {
                Err(AppendError::StagingFull) if self.make_room() => {}
                other => break other,
            }
        };
        let needs = core::mem::take(&mut self.frame_needs) > 0;
        match placed {
            Ok(number) => {
                if needs {
                    self.need(frame, catalogue);
                }
                self.counters.frames_appended += 1;
                self.counters.samples_appended += u64::from(samples);
                return Ok(number);
            }
            Err(AppendError::Stopped) => self.refuse(frame, Reason::Stopped, samples),
            Err(AppendError::TooBig) => self.refuse(frame, Reason::TooBig, samples),
            Err(_) => {}
        }
        placed
    }

    /// The next frame begins a new chunk, so that the frames before it can leave staging on their own. Called when a
    /// sender has taken everything there is.
    pub fn cut(&mut self) {
        self.chunk.open = false;
    }

    /// When the next commit is due and what it is for, `None` while there is no reason or one is under way; an instant
    /// not after `now` means at once.
    ///
    /// Due is the oldest unacknowledged staged frame at `commit_interval_ms`; staging with an eighth left, at least a block,
    /// once its last block takes no more frames; an acknowledgement worth keeping: all that is on flash, or 50,000 samples since it was last written.
    #[must_use]
    pub fn commit_due(&self, now: Instant) -> Option<(Instant, Commit)> {
        if self.round.active || self.stopped {
            return None;
        }
        if let Some(since) = self.degraded_since {
            return (!self.staging.is_empty()).then(|| (since + DEGRADED_PAUSE_MS, Commit::All));
        }
        if self.keep_sent || self.tell_clock {
            return Some((now, Commit::Acknowledgement));
        }
        let ack = self.min_ack();
        let aged = self
            .staging
            .time_of(ack)
            .map(|time| Instant(time) + self.config.commit_interval_ms);
        let full = aged.is_some() && self.staging_is_full();
        let frames = if full { Some(now) } else { aged };
        if frames.is_some_and(|at| at <= now) || !self.acknowledgement_due(ack) {
            return frames.map(|at| (at, Commit::All));
        }
        Some((now, Commit::Acknowledgement))
    }

    /// What a commit leaves of the last block is lost for good, so it waits until that is less than another frame. The spare
    /// blocks take what is scraped while the commit is under way.
    fn staging_is_full(&self) -> bool {
        let spare = (self.staging.capacity() / 8).max(1);
        let free = self.staging.free();
        free < spare || free == spare && self.staging.room() < self.chunk.frame_bytes
    }

    fn acknowledgement_due(&self, ack: FrameNo) -> bool {
        if ack <= self.persisted_ack || self.persisted_ack >= self.flash_next {
            return false;
        }
        let since = || self.backlog(self.persisted_ack).1.saturating_sub(self.backlog(ack).1);
        ack >= self.flash_next || since() >= super::ACKNOWLEDGED_SAMPLES
    }

    /// Drops the leading chunks of staging that every holding remote has acknowledged.
    pub(crate) fn release_acknowledged(&mut self) {
        let ack = self.min_ack();
        if ack > self.persisted_ack {
            self.stopped = false;
        }
        while !self.round.active && !self.staging.is_empty() {
            let first = self.staging.first();
            let end = self.staging.chunk_end(first);
            let next = self.staging.get(end).map_or(self.next, |block| block.chunk);
            if next > ack {
                return;
            }
            self.counters.frames_acknowledged_in_memory += self.staging.sum(first, end).0;
            self.drop_staged((end - first) as usize);
        }
    }

    /// Forgets staged blocks, whole chunks; a chunk that is gone takes no more frames.
    pub(crate) fn drop_staged(&mut self, blocks: usize) {
        let first = self.staging.first();
        let begun =
            (first..first + blocks as u64).any(|at| self.staging.get(at).is_some_and(|block| block.new_segment));
        self.staging.drop_front(blocks);
        if let Some(front) = self.staging.get_mut(self.staging.first()).filter(|_| begun) {
            // What these frames need was not noted: they counted on a segment that begins before them.
            front.new_segment = true;
        }
        if self.clock_staged.is_some_and(|at| at < self.staging.first()) {
            // It left with its block, unwritten.
            self.clock_staged = None;
            self.clock_pending = true;
        }
        if self.staged_losses.is_some_and(|(at, _)| at < self.staging.first()) {
            self.take_back_losses();
        }
        if self.staging.is_empty() {
            self.chunk.open = false;
        }
    }

    /// The DROP records in staging have left it unwritten: the next commit writes them.
    pub(crate) fn take_back_losses(&mut self) {
        self.holes_news = !self.holes.is_empty();
        let Some((_, losses)) = self.staged_losses.take() else {
            return;
        };
        for (loss, pending) in losses.iter().zip(&mut self.pending_losses) {
            if let Some(loss) = loss {
                loss.add_to(pending);
            }
        }
    }

    /// Lets the catalogue use indices again that no staged frame, and no frame a sender holds, refers to.
    pub(crate) fn reclaim(&mut self, catalogue: &mut Catalogue) {
        let waiting = catalogue.waiting();
        if waiting == 0 {
            return;
        }
        let staged = self.staging.first_frame().unwrap_or(self.next);
        let held = self
            .readers
            .iter()
            .flatten()
            .zip(&self.remotes)
            .filter_map(|(reader, remote)| reader.holds(remote.acknowledged))
            .min();
        catalogue.reclaim(held.map_or(staged, |held| held.min(staged)));
        if catalogue.waiting() < waiting {
            self.forget_dead_needs(catalogue);
        }
    }

    /// Indices that may be used again are needed for what they mean then: what they meant was never written.
    fn forget_dead_needs(&mut self, catalogue: &Catalogue) {
        let (mut from, mut bytes) = (0, 0);
        while let Some(index) = self.needed.next_set(from) {
            // Series are fewer than 65,536.
            let series = SeriesRef(index as u16);
            if catalogue.target_of(series).is_some() {
                bytes += entry_bytes(series, catalogue);
            } else {
                self.needed.put(index, false);
            }
            from = index + 1;
        }
        self.needed_bytes = bytes;
    }

    fn refuse(&mut self, frame: &Frame, reason: Reason, samples: u32) {
        let mut loss = Loss::default();
        loss.add_frame(samples.into(), self.unix_ms(frame.time_ms));
        self.lose(reason, self.next.0, self.next.0, &loss);
    }

    /// Staging is full: a ring that cannot write gives up its oldest chunk.
    fn make_room(&mut self) -> bool {
        if self.degraded_since.is_none() || self.round.active || self.staging.is_empty() {
            return false;
        }
        self.lose_front(Reason::WriteError);
        true
    }

    /// Bytes of the definitions that `frame` needs beside those that are noted; no less than one for each. What is noted stays so until it
    /// is written: with the uplink up nothing ever is, and a frame costs a look at two bits a series.
    fn undefined_bytes(&self, frame: &Frame, catalogue: &Catalogue) -> usize {
        let series = series_of(frame).filter(|&s| catalogue.is_dirty(s) && !self.needed.has(usize::from(s.0)));
        let target =
            Some(frame.target).filter(|&t| catalogue.is_target_dirty(t) && !self.needed_targets.has(usize::from(t.0)));
        let bytes: usize = series.map(|series| entry_bytes(series, catalogue).max(1)).sum();
        bytes + target.map_or(0, |target| target_bytes(target, catalogue))
    }

    /// Notes what `frame`, which was staged, needs defined in the open segment. What is noted is written in front of that segment's frames,
    /// so it is only what these need: not what a frame that was refused does, nor one that goes to the next segment, which begins with all
    /// definitions. Their room was promised to nobody.
    fn need(&mut self, frame: &Frame, catalogue: &Catalogue) {
        if self.boundary().is_some_and(|at| at > self.staging.first()) {
            return;
        }
        if catalogue.is_target_dirty(frame.target) {
            self.needed_targets.put(usize::from(frame.target.0), true);
        }
        for series in series_of(frame) {
            let index = usize::from(series.0);
            if catalogue.is_dirty(series) && !self.needed.has(index) {
                self.needed.put(index, true);
                self.needed_bytes += entry_bytes(series, catalogue);
            }
        }
    }

    /// A definition was written, or is no longer needed.
    pub(crate) fn unneed(&mut self, series: SeriesRef, catalogue: &Catalogue) {
        let index = usize::from(series.0);
        if self.needed.has(index) {
            self.needed.put(index, false);
            self.needed_bytes = self.needed_bytes.saturating_sub(entry_bytes(series, catalogue));
        }
    }

    pub(crate) fn place(&mut self, frame: &Frame, samples: u32, catalogue: &Catalogue) -> Result<FrameNo, AppendError> {
        if self.chunk.open {
            let encoded = self.encode(frame, samples)?;
            let growth = self.staging.growth(encoded.len, false);
            let span = if self.degraded_since.is_some() {
                // A chunk is the least that can be given up.
                SYNC_SPAN_BYTES.min(self.staging.capacity() * self.flash.geometry.payload_bytes() / 4)
            } else {
                SYNC_SPAN_BYTES
            };
            // A chunk begins a block: end this one where the frame would not fit the block anyway.
            let long = self.chunk.bytes >= span && growth != Some(0);
            match growth {
                Some(growth) if !long && self.segment_takes(growth, catalogue) => {
                    return self.store(frame, encoded);
                }
                None if !long => {
                    self.chunk.open = false;
                    return Err(self.full());
                }
                _ => {}
            }
        }
        self.begin(frame, samples, catalogue)
    }

    fn begin(&mut self, frame: &Frame, samples: u32, catalogue: &Catalogue) -> Result<FrameNo, AppendError> {
        self.chunk.open = false;
        self.encoder.reset(frame.time_ms);
        let encoded = self.encode(frame, samples)?;
        let (mut payload, mut start) = ([0; MAX_START_BYTES], [0; MAX_START_BYTES]);
        let mut sink = SliceSink::new(&mut start);
        // Both buffers hold the longest START.
        if record::emit(
            kind::START,
            &self.start(self.next, frame.time_ms),
            &mut payload,
            &mut sink,
        )
        .is_err()
        {
            return Err(AppendError::TooBig);
        }
        let bytes = sink.len() + record::head_len(encoded.len) + encoded.len;
        let blocks = bytes.div_ceil(self.flash.geometry.payload_bytes());
        if blocks > self.staging.capacity() {
            return Err(AppendError::TooBig);
        }
        if blocks > self.staging.free() {
            return Err(self.full());
        }
        let new_segment = !self.segment_takes(blocks, catalogue);
        let started = self.staging.begin_chunk(self.next, new_segment, sink.written());
        if started.is_err() {
            return Err(self.full());
        }
        self.chunk = Chunk {
            open: true,
            first: self.next,
            bytes: sink.len(),
            frame_bytes: 0,
        };
        self.store(frame, encoded)
    }

    fn encode(&mut self, frame: &Frame, samples: u32) -> Result<Encoded, AppendError> {
        let clock_known = self.unix_ms(frame.time_ms).is_some();
        let mut sink = SliceSink::new(&mut self.scratch.record);
        if self.encoder.encode(frame, clock_known, &mut sink).is_err() {
            self.chunk.open = false;
            return Err(AppendError::TooBig);
        }
        Ok(Encoded {
            len: sink.len(),
            samples,
        })
    }

    /// Puts the frame in the scratch buffer behind the chunk; the caller has checked the room.
    fn store(&mut self, frame: &Frame, encoded: Encoded) -> Result<FrameNo, AppendError> {
        let number = self.next;
        let payload = &self.scratch.record[..encoded.len];
        let mark = Some((number, encoded.samples));
        if self
            .staging
            .put(kind::FRAME, payload, mark, self.chunk.first, number)
            .is_err()
        {
            self.chunk.open = false;
            return Err(self.full());
        }
        self.chunk.frame_bytes = record::head_len(encoded.len) + encoded.len;
        self.chunk.bytes += self.chunk.frame_bytes;
        self.staging.mark(number, frame.time_ms);
        self.next = FrameNo(number.0 + 1);
        Ok(number)
    }

    fn full(&self) -> AppendError {
        if self.stopped {
            AppendError::Stopped
        } else {
            AppendError::StagingFull
        }
    }

    /// START as of boot time `mono_ms`, before frame `frame_no`.
    pub(crate) fn start(&self, frame_no: FrameNo, mono_ms: u64) -> Start {
        Start {
            epoch: self.epoch,
            boot_id: self.boot.id,
            mono_ms,
            wall_ms: self.unix_ms(mono_ms).unwrap_or(UNKNOWN_MS),
            clock: self.boot.wall.map_or(0, |(_, source)| source as u8),
            error_ms: self.boot.error_ms,
            frame_no: frame_no.0,
            prior: self.prior(frame_no).0,
            config_crc: self.config.config_crc,
        }
    }

    /// The number that follows the last frame before `frame_no` that was not counted as lost: mount leaves numbers out.
    pub(crate) fn prior(&self, frame_no: FrameNo) -> FrameNo {
        // The latest ranges are at the back, and each ends where a later one may begin.
        let before = self.written_off.iter().rev().fold(
            frame_no,
            |at, &(from, end)| {
                if end == at.0 { FrameNo(from) } else { at }
            },
        );
        if before == self.first_number {
            self.found_next
        } else {
            before
        }
    }

    /// The staged block that begins the segment which the next frame goes to, if that is not the open one.
    fn boundary(&self) -> Option<u64> {
        (self.staging.first()..self.staging.end())
            .rev()
            .find(|&serial| self.staging.get(serial).is_some_and(|block| block.new_segment))
    }

    /// Whether the segment that the staged blocks go to surely takes `growth` more, with every definition needed.
    pub(crate) fn segment_takes(&mut self, growth: usize, catalogue: &Catalogue) -> bool {
        let boundary = self.boundary();
        let slot = self.flash.geometry.blocks_per_slot;
        let (staged, left, whole) = match (boundary, &self.head) {
            (None, Some(head)) => {
                let waiting = self.staging.len() - self.round.in_flight();
                (waiting, slot - head.index.min(slot), !head.dictionary_done)
            }
            (boundary, _) => {
                let from = boundary.unwrap_or(self.staging.first());
                let staged = (self.staging.end() - from) as usize;
                (staged, slot - self.flash.geometry.first_block(), true)
            }
        };
        let fresh = boundary.is_some() || self.head.is_none();
        if fresh && staged == 0 {
            return true;
        }
        let definitions = if whole {
            Self::whole_dictionary_bytes(catalogue)
        } else {
            self.needed_bytes + self.frame_needs + self.needed_target_bytes(catalogue)
        };
        let payload = self.flash.geometry.payload_bytes();
        // Headers and control records, and one block because the last control block is padded.
        let heads = if whole { HEAD_BYTES.div_ceil(payload) } else { 1 };
        let blocks = staged + growth + definitions.div_ceil(payload) + heads + 1;
        blocks <= left as usize
    }

    fn needed_target_bytes(&self, catalogue: &Catalogue) -> usize {
        let mut bytes = 0;
        let mut from = 0;
        while let Some(index) = self.needed_targets.next_set(from) {
            // Targets are at most `MAX_TARGETS`, which fits a byte.
            bytes += target_bytes(TargetRef(index as u8), catalogue);
            from = index + 1;
        }
        bytes
    }

    /// Bytes of all definitions, uncompressed: no less.
    fn whole_dictionary_bytes(catalogue: &Catalogue) -> usize {
        let series = catalogue.len() + catalogue.waiting();
        // The catalogue keeps texts as the dictionary writes them, but for the type and for what a group's first one shares.
        let bytes = catalogue.text_bytes_used() + series;
        // A sixteenth for growth, and heads of records.
        bytes + bytes / 16 + MAX_TARGETS * ENTRY_OVERHEAD
    }
}

/// The series that `frame` has samples or markers of.
fn series_of(frame: &Frame) -> impl Iterator<Item = SeriesRef> {
    let series = frame.samples.iter().map(|sample| sample.series);
    series.chain(frame.stale.iter().copied())
}

fn target_bytes(target: TargetRef, catalogue: &Catalogue) -> usize {
    catalogue.target_body(target).len() + ENTRY_OVERHEAD
}

fn entry_bytes(series: SeriesRef, catalogue: &Catalogue) -> usize {
    match catalogue.text_len(series) {
        0 => 0,
        bytes => bytes + ENTRY_OVERHEAD,
    }
}
