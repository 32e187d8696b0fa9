//! Frames for one remote, oldest first, from flash and on into staging.
//!
//! The position is a frame number. On flash a reader indexes one segment at a time, enters it at the last chunk that begins
//! at or before its position and decodes forward; where the open chunk goes on in staging, so does the reader, with the
//! same state. If a commit has moved the blocks it stood in, it finds them again on flash.
//!
//! # Invariants
//!
//! - Frames come in rising number, none twice.
//! - Between two boundaries a series reference means one series: in staging the writer's catalogue names it, on flash the
//!   segment's own definitions, read again when they are asked for ([`Places`]).
//! - What is skipped because it is damaged is counted once, by the reader of the remote that is furthest behind.
//!
//! # Limits and memory
//!
//! Per reader one block, 12 bytes per block of a slot, a codec, 24 bytes per series and a bit. Entering a segment
//! reads it twice (checksums and chunk starts), going through it once more.

use super::config::RingConfig;
use super::definitions::{Places, View};
use super::format::Geometry;
use super::frame_coding::{Decoder, boot_key};
use super::held::Given;
use super::record::{self, Clock, RecordFault, Start, kind};
use super::segment::{Dictionary, DictionaryCheck, Index, Item, Place, Stream};
use super::slots::State;
use super::storage::{Storage, StorageFailure};
use super::{Reason, Ring};
use crate::catalogue::{Catalogue, Definition, Definitions, Names, SeriesText};
use crate::frame::{Frame, FrameNo, FrameSource, Next};
use crate::sample::{SeriesRef, TargetRef};
use crate::value::codec::CodecId;
use alloc::boxed::Box;

/// State of one reader.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Next frame wanted.
    position: FrameNo,
    /// Frame after the last one given out: what lies between it and the next is missing.
    expected: FrameNo,
    /// Writer's count of changes when flash was last searched for the beginning of a staged chunk.
    tried: Option<u64>,
    decoder: Decoder,
    pub(crate) places: Places,
    pub(crate) index: Index,
    stream: Stream,
    /// Segment that `index` is of.
    segment: Option<u64>,
    /// First frame of the chunk to begin decoding at; frames before it are passed over.
    enter_at: FrameNo,
    /// Writer's count of changes when `index` was read.
    version: u64,
    dictionary: DictionaryCheck,
    /// The definitions must be forgotten before going on.
    anew: bool,
    /// The last frame came from staging.
    in_staging: bool,
    /// Lowest frame given out since the last boundary.
    delivered: Option<FrameNo>,
    /// The frame given out last, and which reading it was (see [`Frame::reading`]), as long as all else stands right behind it.
    last: Option<(FrameNo, u64)>,
    /// What the sender may have in hand.
    pub(crate) given: Box<Given>,
    /// Place of its remote.
    remote: usize,
}

/// What a look at flash or staging gave.
enum Found {
    Frame,
    Boundary,
    /// Not there; look elsewhere.
    No,
}

impl Reader {
    pub(crate) fn new(config: &RingConfig, geometry: &Geometry) -> Self {
        Self {
            position: FrameNo(0),
            expected: FrameNo(0),
            tried: None,
            decoder: Decoder::new(config.codec, config.max_series),
            places: Places::new(config.max_series, geometry),
            index: Index::new(geometry),
            stream: Stream::new(geometry),
            segment: None,
            enter_at: FrameNo(0),
            version: 0,
            dictionary: DictionaryCheck::default(),
            anew: false,
            in_staging: false,
            delivered: None,
            last: None,
            given: Box::default(),
            remote: 0,
        }
    }

    /// Next frame wanted.
    pub(crate) fn position(&self) -> FrameNo {
        self.position
    }

    /// First frame whose series the sender may still name through the writer's catalogue.
    pub(crate) fn holds(&self, acknowledged: FrameNo) -> Option<FrameNo> {
        let from = self.delivered.filter(|_| self.in_staging)?;
        (acknowledged < self.position).then(|| from.max(acknowledged))
    }

    /// The decoder, for another use; the reader begins again where it stands.
    pub(crate) fn lend(&mut self) -> &mut Decoder {
        self.tried = None;
        self.last = None;
        if !self.in_staging {
            self.segment = None;
        }
        &mut self.decoder
    }

    /// Says Boundary once if frames were given out since the last one.
    fn boundary(&mut self) -> bool {
        self.delivered.take().is_some()
    }
}

/// The frames of a ring for one remote. Borrowed anew for every use; the position stays in the ring.
pub struct RingSource<'a, S: Storage> {
    ring: &'a mut Ring<S>,
    writer: &'a mut Catalogue,
    remote: usize,
    view: View,
}

impl<S: Storage> core::fmt::Debug for RingSource<'_, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RingSource")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> Ring<S> {
    /// The frames for remote `remote` (its place in the configuration; the last one stands for any beyond). `catalogue` is
    /// the writer's.
    pub fn source<'a>(&'a mut self, remote: usize, catalogue: &'a mut Catalogue) -> RingSource<'a, S> {
        let remote = remote.min(self.remotes.len().saturating_sub(1));
        RingSource {
            ring: self,
            writer: catalogue,
            remote,
            view: View::default(),
        }
    }
}

impl<S: Storage> FrameSource for RingSource<'_, S> {
    type Error = StorageFailure;

    fn next(&mut self, frame: &mut Frame) -> Result<Next, StorageFailure> {
        // Taken out so that ring and reader can be borrowed apart; put back below.
        let Some(mut reader) = self.ring.readers.get_mut(self.remote).and_then(Option::take) else {
            return Ok(Next::End);
        };
        let next = self.ring.read_next(&mut reader, self.remote, frame);
        self.ring.readers[self.remote] = Some(reader);
        Ok(next)
    }

    fn seek(&mut self, at: FrameNo) {
        if let Some(Some(reader)) = self.ring.readers.get_mut(self.remote) {
            // The state stays: if it fits the new position it is used.
            if at != reader.position {
                reader.position = at;
                reader.expected = at;
                reader.tried = None;
                reader.last = reader.last.filter(|&(number, _)| number == at);
                if reader.last.is_none() {
                    reader.segment = None;
                }
                self.ring.lose_held(self.remote, at);
                if let Some(Some(reader)) = self.ring.readers.get_mut(self.remote) {
                    reader.given.goes_to(at);
                }
            }
        }
    }

    fn end(&self) -> Option<FrameNo> {
        Some(self.ring.next)
    }

    fn names(&mut self) -> Names<'_> {
        match self.ring.readers.get(self.remote) {
            Some(Some(reader)) if !reader.in_staging => Names::Stored(self),
            _ => Names::Catalogue(self.writer),
        }
    }
}

impl<S: Storage> Definitions for RingSource<'_, S> {
    fn definition(&mut self, s: SeriesRef, t: TargetRef) -> Option<Definition<'_>> {
        self.ring.definition(self.remote, s, t, &mut self.view)
    }

    fn text(&mut self, s: SeriesRef) -> Option<SeriesText<'_>> {
        self.ring.stored_text(self.remote, s, &mut self.view)
    }

    fn target_body(&mut self, t: TargetRef) -> Option<&str> {
        self.ring.stored_target(self.remote, t, &mut self.view)
    }

    fn find_created(&mut self, t: TargetRef, text: SeriesText<'_>, near: SeriesRef) -> Option<SeriesRef> {
        self.ring.find_created(self.remote, t, text, near, &mut self.view)
    }

    fn generation(&self) -> u32 {
        self.ring.definitions_generation(self.remote)
    }
}

impl<S: Storage> Ring<S> {
    fn read_next(&mut self, reader: &mut Reader, remote: usize, frame: &mut Frame) -> Next {
        reader.remote = remote;
        let floor = self.acknowledged(remote).max(self.lapped_to.min(self.next));
        if reader.position < floor {
            self.skip(remote, reader.position.max(self.acknowledged(remote)), floor);
            reader.position = floor;
            reader.expected = floor;
            reader.tried = None;
        }
        if self.give_again(reader, frame) {
            return Next::Frame;
        }
        loop {
            if reader.position >= self.next {
                return Next::End;
            }
            let staged = self.staging.first_frame();
            let found = match staged.filter(|&first| first <= reader.position) {
                Some(_) => match self.read_staging(reader, frame) {
                    // Its chunk begins on flash: decode that first.
                    Found::No if reader.tried != Some(self.flash_version) => {
                        let found = self.read_flash(reader, frame, true);
                        if matches!(found, Found::No) {
                            reader.tried = Some(self.flash_version);
                        }
                        found
                    }
                    Found::No => {
                        if !self.next_staged_chunk(reader) {
                            return Next::End;
                        }
                        continue;
                    }
                    found => found,
                },
                None => self.read_flash(reader, frame, false),
            };
            match (found, staged) {
                (Found::Frame, _) => return Next::Frame,
                (Found::Boundary, _) => return Next::Boundary,
                (Found::No, Some(first)) => reader.position = reader.position.max(first),
                (Found::No, None) => return Next::End,
            }
        }
    }

    /// Gives out once more the frame read last, if it is wanted, still in `frame`, and named as it was then: in staging the writer's
    /// catalogue keeps its names, on flash they stand in its segment. What is read after this call may change the names.
    fn give_again(&mut self, reader: &mut Reader, frame: &mut Frame) -> bool {
        let Some(last) = reader.last.take().filter(|last| last.0 == reader.position) else {
            return false;
        };
        let named = if reader.in_staging {
            self.staging.first_frame().is_some_and(|first| first <= last.0)
        } else {
            reader.segment.is_some_and(|seq| self.slots.of_seq(seq).is_some())
        };
        if named && (frame.number, frame.reading) == last {
            self.deliver(reader, frame);
            return true;
        }
        reader.segment = None;
        false
    }

    fn deliver(&mut self, reader: &mut Reader, frame: &mut Frame) {
        let boot = reader.decoder.boot();
        self.skip(reader.remote, reader.expected, frame.number);
        self.stamp(frame, boot, reader.segment, reader.remote);
        self.counters.frames_without_extras += u64::from(reader.decoder.left_out());
        reader.position = FrameNo(frame.number.0 + 1);
        reader.expected = reader.position;
        reader.tried = None;
        self.readings += 1;
        frame.reading = self.readings;
        reader.last = Some((frame.number, frame.reading));
        let first = reader.delivered.unwrap_or(frame.number);
        reader.delivered = Some(first.min(frame.number));
        if reader.decoder.left_out() {
            // It had more samples than it has.
            reader.given.forget();
        } else {
            reader.given.note(frame.number, frame.samples.len() as u32);
        }
    }

    /// Reads the next frame from staging. `No`: it cannot be decoded without what is on flash.
    fn read_staging(&mut self, reader: &mut Reader, frame: &mut Frame) -> Found {
        let Some(serial) = self.staging.block_of(reader.position) else {
            return Found::No;
        };
        let (Some(&block), Some(first)) = (self.staging.get(serial), self.staging.first_frame()) else {
            return Found::No;
        };
        // A reader that has decoded the frames of this chunk so far goes on, any other begins with the chunk. (A START alone
        // proves nothing: that of a control block before the chunk has the same number and another time.)
        let warm = reader.decoder.next().is_some_and(|next| {
            (first..=reader.position).contains(&next)
                && next > block.chunk
                && reader.decoder.stands_at(block.chunk, next)
        });
        let start = self.staging.chunk_start(serial);
        if !warm && start.is_none() {
            return Found::No;
        }
        if !reader.in_staging {
            if reader.boundary() {
                return Found::Boundary;
            }
            reader.in_staging = true;
            reader.segment = None;
        }
        if !warm && !self.begin_staged_chunk(reader, start.unwrap_or(serial)) {
            return Found::No;
        }
        while let Some(number) = reader.decoder.next() {
            if !self.decode_staged(reader, number, frame) {
                reader.decoder.forget();
                break;
            }
            if number >= reader.position {
                self.deliver(reader, frame);
                return Found::Frame;
            }
        }
        Found::No
    }

    fn begin_staged_chunk(&mut self, reader: &mut Reader, serial: u64) -> bool {
        let found = self.staging.record((serial, 0), &mut self.scratch.record);
        let start = found
            .filter(|found| found.kind == kind::START)
            .and_then(|found| record::parse::<Start>(&self.scratch.record[..found.len]).ok());
        let Some(start) = start else { return false };
        self.missing(reader.remote, reader.expected, FrameNo(start.prior));
        reader.decoder.use_codec(self.config.codec);
        reader.decoder.start(&start);
        true
    }

    /// Decodes frame `number`, which must be the decoder's next.
    fn decode_staged(&mut self, reader: &mut Reader, number: FrameNo, frame: &mut Frame) -> bool {
        let Some(serial) = self.staging.block_of(number) else {
            return false;
        };
        let Some(&block) = self.staging.get(serial) else {
            return false;
        };
        let mut at = (serial, usize::from(block.first_record));
        let mut count = block.first_frame;
        while let Some(found) = self.staging.record(at, &mut self.scratch.record) {
            at = found.next;
            if found.kind != kind::FRAME {
                continue;
            }
            if count == number {
                let payload = &self.scratch.record[..found.len];
                return reader.decoder.decode(payload, frame).is_ok();
            }
            count = FrameNo(count.0 + 1);
        }
        false
    }

    /// Passes over the rest of a chunk whose beginning cannot be read; false if staging has no other yet.
    fn next_staged_chunk(&mut self, reader: &mut Reader) -> bool {
        let Some(serial) = self.staging.block_of(reader.position) else {
            return false;
        };
        match self.staging.get(self.staging.chunk_end(serial)) {
            Some(next) => {
                reader.position = next.chunk;
                true
            }
            None => false,
        }
    }

    /// Makes `reader` stand in the segment of its position. `Frame`: it does.
    fn find_segment(&mut self, reader: &mut Reader, warm_up: bool) -> Found {
        let there = reader.segment.is_some_and(|seq| self.slots.of_seq(seq).is_some());
        if there && !reader.in_staging && !warm_up {
            return Found::Frame;
        }
        if reader.position >= self.flash_next && !warm_up {
            return Found::No;
        }
        let Some((slot, info)) = self.slots.locate(reader.position) else {
            return Found::No;
        };
        if reader.boundary() {
            return Found::Boundary;
        }
        reader.in_staging = false;
        self.enter(reader, slot, info.seq);
        Found::Frame
    }

    /// Reads the next frame from flash. `No`: flash has nothing more.
    fn read_flash(&mut self, reader: &mut Reader, frame: &mut Frame, warm_up: bool) -> Found {
        match self.find_segment(reader, warm_up) {
            Found::Frame => {}
            other => return other,
        }
        loop {
            let place = reader.stream.place();
            let item = reader
                .stream
                .next(&mut self.flash, &reader.index, &mut self.scratch.record);
            let found = match item {
                Item::Restart { flags, dictionary } => {
                    if reader.dictionary.restart(flags, dictionary) == Dictionary::Anew {
                        reader.anew = true;
                    }
                    reader.decoder.forget();
                    (reader.anew && reader.boundary()).then_some(Found::Boundary)
                }
                Item::Record { kind, len } => {
                    if core::mem::take(&mut reader.anew) {
                        reader.places.clear();
                    }
                    self.take_record(reader, kind, len, frame, place)
                }
                Item::TooLarge { kind } => {
                    if kind == kind::FRAME && reader.decoder.next().is_some() {
                        self.count_too_big(reader);
                    }
                    reader.decoder.forget();
                    reader.dictionary.broken |= matches!(kind, kind::DICT | kind::TARGET);
                    None
                }
                Item::End => self.next_segment(reader),
            };
            if let Some(found) = found {
                return found;
            }
        }
    }

    fn take_record(
        &mut self,
        reader: &mut Reader,
        kind: u8,
        len: usize,
        frame: &mut Frame,
        place: Place,
    ) -> Option<Found> {
        match kind {
            kind::START => {
                let start: Start = record::parse(&self.scratch.record[..len]).ok()?;
                self.boots
                    .note(boot_key(&start.boot_id), start.mono_ms, start.wall_ms, start.clock);
                self.missing(reader.remote, reader.expected, FrameNo(start.prior));
                if start.frame_no >= reader.enter_at.0 && !reader.dictionary.broken {
                    reader.decoder.start(&start);
                } else {
                    reader.decoder.forget();
                }
            }
            kind::FRAME => {
                reader.decoder.next()?;
                match reader.decoder.decode(&self.scratch.record[..len], frame) {
                    Ok(()) if frame.number >= reader.position => {
                        self.deliver(reader, frame);
                        return Some(Found::Frame);
                    }
                    Ok(()) => {}
                    Err(RecordFault::TooLarge) => self.count_too_big(reader),
                    Err(_) => {}
                }
            }
            kind::TARGET | kind::DICT => {
                if reader.delivered.is_some() && reader.places.redefines(kind, &self.scratch.record[..len]) {
                    reader.stream.go(place);
                    reader.boundary();
                    return Some(Found::Boundary);
                }
                reader.dictionary.record();
                let at = reader.stream.record_place(&reader.index);
                let defined = at.map(|at| reader.places.define(kind, len, at, &mut self.scratch));
                if !matches!(defined, Some(Ok(()))) {
                    reader.dictionary.broken = true;
                    reader.decoder.forget();
                }
            }
            kind::CLOCK => {
                let clock: Clock = record::parse(&self.scratch.record[..len]).ok()?;
                self.boots.note(clock.boot, clock.mono_ms, clock.wall_ms, clock.source);
            }
            kind::SEGMENT | kind::DROP | kind::ACK => {}
            other if other & kind::SKIPPABLE != 0 => {}
            _ => {
                // What follows cannot be understood.
                reader.decoder.forget();
                reader.dictionary.broken = true;
            }
        }
        None
    }

    /// A frame larger than this configuration allows: it and the rest of its chunk cannot be read.
    fn count_too_big(&mut self, reader: &Reader) {
        let number = reader.position;
        if number >= self.min_ack() && self.uncounted(number.0, number.0 + 1) > 0 {
            let mut loss = super::Loss::default();
            loss.add_frame(self.samples_of(1), None);
            self.lose(Reason::TooBig, number.0, number.0, &loss);
            self.note_hole(number.0, number.0 + 1);
        }
    }

    /// At the end of what the index knows: more of the same segment, the next one, or `No`. `None`: go on reading.
    fn next_segment(&mut self, reader: &mut Reader) -> Option<Found> {
        let seq = reader.segment?;
        if reader.version != self.flash_version {
            // The writer may have added blocks before it went on to the next segment.
            reader.version = self.flash_version;
            let before = reader.index.entries.len();
            let key = reader.stream.key(&reader.index);
            self.spare.stream.rewind();
            reader.index.extend(&mut self.flash, &mut self.spare.stream.block);
            if reader.index.entries.len() > before {
                reader.stream.refresh(&reader.index, key);
                return None;
            }
        }
        let Some((slot, info)) = self.slots.segments_from(seq + 1).next() else {
            return Some(Found::No);
        };
        if info.first_frame >= self.next {
            return Some(Found::No);
        }
        if reader.boundary() {
            return Some(Found::Boundary);
        }
        self.missing(reader.remote, reader.expected, info.prior);
        self.enter(reader, slot, info.seq);
        None
    }

    /// Indexes a segment and finds the chunk to begin at.
    fn enter(&mut self, reader: &mut Reader, slot: u32, seq: u64) {
        reader.segment = Some(seq);
        reader.version = self.flash_version;
        reader.dictionary = DictionaryCheck::default();
        reader.anew = false;
        reader.places.clear();
        reader.decoder.forget();
        reader.index.scan(&mut self.flash, slot, &mut reader.stream.block);
        reader.stream.rewind();
        if reader.index.seq != seq as u32 {
            // The slot does not hold what mount found there.
            reader.index.entries.clear();
        }
        self.counters.damaged_blocks += u64::from(reader.index.damaged);
        reader.enter_at = FrameNo(0);
        loop {
            let item = reader
                .stream
                .next(&mut self.flash, &reader.index, &mut self.scratch.record);
            match item {
                Item::Record { kind: kind::START, len } => {
                    if let Ok(start) = record::parse::<Start>(&self.scratch.record[..len]) {
                        self.boots
                            .note(boot_key(&start.boot_id), start.mono_ms, start.wall_ms, start.clock);
                        let number = FrameNo(start.frame_no);
                        if number <= reader.position {
                            reader.enter_at = reader.enter_at.max(number);
                        }
                    }
                }
                Item::Record { kind: kind::CLOCK, len } => {
                    if let Ok(clock) = record::parse::<Clock>(&self.scratch.record[..len]) {
                        self.boots.note(clock.boot, clock.mono_ms, clock.wall_ms, clock.source);
                    }
                }
                Item::Record {
                    kind: kind::SEGMENT,
                    len,
                } => {
                    let header = record::parse::<record::SegmentHeader>(&self.scratch.record[..len]);
                    if let Some(codec) = header.ok().and_then(|header| CodecId::from_byte(header.codec)) {
                        reader.decoder.use_codec(codec);
                    }
                }
                Item::End => break,
                _ => {}
            }
        }
        reader.stream.rewind();
        debug_assert!(self.slots.get(slot).state == State::Segment);
    }
}
