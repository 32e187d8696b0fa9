//! From staged blocks to the medium: rounds of writes, each ended by a sync.
//!
//! A commit is one or more rounds. A round is control blocks (segment header, definitions) and staged blocks; nothing
//! of it is forgotten before its sync. After an error the whole round is written again behind, with the same stream
//! offsets, three times in all; then the next slot is opened (the first round of a segment is written again in
//! place, or not at all on write-once media).
//!
//! # Invariants
//!
//! - A slot is opened only between rounds: everything before it is synced.
//! - A block index is used once per segment, whatever became of the write; only a segment's first round may be repeated
//!   in place, with the same bytes.
//! - Definitions precede the frames that need them in the stream.

use super::config::{Commit, CommitError, CommitStep, WhenFull};
use super::counters::{Loss, Reason};
use super::dictionary::{DictHead, put_entry};
use super::format::{BlockHeader, EraseHeader, MAJOR, MINOR, Medium, block_seed, flag};
use super::frame_coding::Tally;
use super::record::{self, Ack, Clock, SegmentHeader, SliceSink, Start, Target, UNKNOWN_MS, kind};
use super::segment::Item;
use super::slots::{Slot, State};
use super::storage::Storage;
use super::{DEGRADED_LAP_MS, Ring, boot_key};
use crate::catalogue::Catalogue;
use crate::frame::{FrameNo, Full};
use crate::sample::{SeriesRef, TargetRef};
use serde::Serialize;

/// Times a round is written in one slot.
const ATTEMPTS: u8 = 3;
/// Slots in a row that may fail.
const FAILED_SLOTS: u8 = 3;

/// How the next block begins its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// It continues.
    No,
    /// First block of the segment.
    First,
    /// First block of this epoch; with a new dictionary or not.
    Resume { anew: bool },
}

/// The segment being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    pub(crate) slot: u32,
    /// Next block.
    pub(crate) index: u32,
    pub(crate) offset: u32,
    /// Dictionary records so far.
    pub(crate) dictionary: u16,
    pub(crate) opening: Opening,
    /// Every entry of the catalogue has been written once.
    pub(crate) dictionary_done: bool,
    pub(crate) has_frames: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Between,
    Written,
    Failed,
}

/// A commit under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    pub(crate) active: bool,
    phase: Phase,
    /// Staged blocks before this serial are part of the commit.
    until: u64,
    /// Staged blocks written and not yet synced.
    staged: usize,
    attempts: u8,
    failed_slots: u8,
    /// A block of control records is to be written whatever else there is.
    control_due: bool,
    clean: bool,
    ack: FrameNo,
    /// Dictionary records before the round.
    dictionary: u16,
}

impl Round {
    /// Staged blocks that are in the medium's hands.
    pub(crate) fn in_flight(&self) -> usize {
        if self.active { self.staged } else { 0 }
    }
}

impl<S: Storage> Ring<S> {
    /// Goes on with a commit of `want`, or begins one if none is under way.
    ///
    /// After [`CommitStep::NeedSync`], sync the storage, report with [`Ring::synced`], call again. Frames may be appended,
    /// read and acknowledged in between.
    ///
    /// # Errors
    /// [`CommitError`]; the commit is over, what was staged stays staged.
    pub fn commit_step(&mut self, catalogue: &mut Catalogue, want: Commit) -> Result<CommitStep, CommitError> {
        if !self.round.active && !self.begin_commit(want, catalogue) {
            return Ok(CommitStep::Done);
        }
        loop {
            match self.round.phase {
                Phase::Written => return Ok(CommitStep::NeedSync),
                Phase::Failed => {
                    if !self.write_again() {
                        self.abandon()?;
                    }
                }
                Phase::Between => match self.fill(catalogue) {
                    Ok(true) => self.write_round(),
                    Ok(false) => {
                        self.finish(catalogue);
                        return Ok(CommitStep::Done);
                    }
                    Err(error) => {
                        self.round.active = false;
                        self.round.clean = false;
                        self.control.drop_front(usize::MAX);
                        return Err(error);
                    }
                },
            }
        }
    }

    /// Tells how the sync asked for went.
    pub fn synced<E>(&mut self, result: Result<(), E>) {
        if !self.round.active || self.round.phase != Phase::Written {
            return;
        }
        if result.is_err() {
            self.counters.write_errors += 1;
            self.round.phase = Phase::Failed;
            return;
        }
        self.counters.syncs += 1;
        let from = self.staging.first();
        let to = from + self.round.staged as u64;
        let (frames, samples) = self.staging.sum(from, to);
        self.flash_frames += frames;
        self.flash_samples += samples;
        self.samples_written += samples;
        for serial in from..to {
            if let Some(block) = self.staging.get(serial).filter(|block| block.frames > 0) {
                self.flash_next = FrameNo(block.first_frame.0 + u64::from(block.frames));
            }
        }
        if let Some(head) = &mut self.head {
            head.opening = Opening::No;
            head.has_frames |= self.round.staged > 0;
        }
        self.persisted_ack = self.persisted_ack.max(self.round.ack);
        self.control.drop_front(usize::MAX);
        self.staging.drop_front(self.round.staged);
        self.forget_staged_losses();
        self.round.staged = 0;
        self.round.attempts = 0;
        self.round.failed_slots = 0;
        self.round.phase = Phase::Between;
        self.degraded_since = None;
        self.stopped = false;
        self.flash_version += 1;
    }

    /// Commits everything staged, syncing in place.
    ///
    /// # Errors
    /// [`CommitError`]; what was staged stays staged.
    pub fn commit(&mut self, catalogue: &mut Catalogue) -> Result<(), CommitError> {
        self.commit_now(catalogue, Commit::All)
    }

    fn commit_now(&mut self, catalogue: &mut Catalogue, want: Commit) -> Result<(), CommitError> {
        while self.commit_step(catalogue, want)? == CommitStep::NeedSync {
            let result = self.flash.storage.sync();
            self.synced(result);
        }
        Ok(())
    }

    /// Commits what there is to keep, marked as an orderly stop. Writes nothing if there is nothing.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn close(&mut self, catalogue: &mut Catalogue) -> Result<(), CommitError> {
        if self.round.active {
            // It may not have everything.
            self.commit_now(catalogue, Commit::All)?;
        }
        self.round.clean = true;
        let result = self.commit_now(catalogue, Commit::All);
        self.round.clean = false;
        result
    }

    fn begin_commit(&mut self, want: Commit, catalogue: &Catalogue) -> bool {
        self.release_acknowledged();
        // A block for an acknowledgement must not take the room that staged frames count on.
        let all = want == Commit::All || !self.segment_takes(1, catalogue);
        let frames = all && !self.staging.is_empty();
        let acknowledged = self.persisted_ack < self.flash_next
            && (self.min_ack() > self.persisted_ack
                || self.remotes.iter().any(|remote| remote.acknowledged > remote.persisted));
        let losses = self.pending_losses.iter().any(Option::is_some);
        if !(frames || acknowledged || losses) {
            return false;
        }
        if frames {
            self.put_tail_records();
            self.staging.close();
        }
        self.round = Round {
            active: true,
            until: if frames {
                self.staging.end()
            } else {
                self.staging.first()
            },
            control_due: !frames,
            clean: self.round.clean,
            // A degraded ring tries one slot at a time.
            failed_slots: self.round.failed_slots,
            ..Round::default()
        };
        true
    }

    fn finish(&mut self, catalogue: &mut Catalogue) {
        self.round.active = false;
        self.counters.commits += 1;
        self.release_acknowledged();
        self.reclaim(catalogue);
    }

    /// CLOCK, DROP and ACK behind the staged frames; what finds no room waits for the next commit.
    fn put_tail_records(&mut self) {
        let Some(last) = self.staging.get(self.staging.end() - 1) else {
            return;
        };
        let (chunk, next) = (last.chunk, self.next);
        if self.clock_pending {
            let clock = self.clock_record();
            let staging = &mut self.staging;
            self.clock_pending = put(&clock, |bytes| staging.put(kind::CLOCK, bytes, None, chunk, next)).is_err();
        }
        for place in 0..self.pending_losses.len() {
            if let Some(loss) = self.pending_losses[place] {
                let staging = &mut self.staging;
                if put(&loss, |bytes| staging.put(kind::DROP, bytes, None, chunk, next)).is_ok() {
                    self.pending_losses[place] = None;
                    let (at, losses) = self.staged_losses.get_or_insert_default();
                    *at = staging.end() - 1;
                    losses[place].add(&Loss {
                        frames: loss.frames,
                        samples: loss.samples,
                        ..Loss::default()
                    });
                }
            }
        }
        if self.remotes.len() > 1 {
            for remote in &mut self.remotes {
                if remote.acknowledged > remote.persisted {
                    let ack = Ack {
                        remote: remote.config.id,
                        frame_no: remote.acknowledged.0,
                    };
                    let staging = &mut self.staging;
                    if put(&ack, |bytes| staging.put(kind::ACK, bytes, None, chunk, next)).is_ok() {
                        remote.persisted = remote.acknowledged;
                    }
                }
            }
        }
    }

    fn clock_record(&self) -> Clock {
        let now = self.boot.now.0;
        Clock {
            boot: self.boot_key,
            mono_ms: now,
            wall_ms: self.unix_ms(now).unwrap_or(UNKNOWN_MS),
            error_ms: self.boot.error_ms,
            source: self.boot.wall.map_or(0, |(_, source)| source as u8),
        }
    }

    /// Prepares the next round; false when everything is written.
    fn fill(&mut self, catalogue: &mut Catalogue) -> Result<bool, CommitError> {
        loop {
            let staged_left = self.round.until > self.staging.first();
            if !staged_left && !self.round.control_due {
                return Ok(false);
            }
            let front = self.staging.get(self.staging.first()).copied();
            let rotate = front.is_some_and(|front| front.new_segment);
            if staged_left && rotate && self.head.is_some_and(|head| head.has_frames) {
                self.head = None;
            }
            if self.head.is_none() {
                self.open_next(catalogue)?;
            }
            let ready = self.build_control(catalogue, staged_left);
            let Some(head) = self.head else {
                return Err(CommitError::Degraded);
            };
            let room = self.flash.geometry.blocks_per_slot.saturating_sub(head.index) as usize;
            let control = self.control.len();
            if let Some(staged) = self.choose(room.checked_sub(control), staged_left && ready)
                && control + staged > 0
            {
                self.round.staged = staged;
                self.assign();
                return Ok(true);
            }
            // Nothing fits. The definitions just built are built again for the next segment.
            self.control.drop_front(usize::MAX);
            let front_begins = front.is_none_or(|front| front.sync);
            if !staged_left && !front_begins {
                return Ok(false);
            }
            if staged_left && !front_begins {
                // The append made sure of room; copies after errors have taken it.
                self.lose_front(Reason::WriteError);
            } else if staged_left && !head.has_frames {
                // Not even an empty segment takes it.
                self.lose_front(Reason::TooBig);
            }
            self.round.control_due = !staged_left;
            self.head = None;
            if self.staging.is_empty() {
                self.chunk.open = false;
            }
        }
    }

    /// How many staged blocks go into the `room` left, `None` if what must be written does not fit.
    fn choose(&mut self, room: Option<usize>, ready: bool) -> Option<usize> {
        let room = room?;
        if !ready {
            return Some(0);
        }
        let first = self.staging.first();
        let end = (first + 1..self.round.until)
            .find(|&serial| self.staging.get(serial).is_some_and(|block| block.new_segment))
            .unwrap_or(self.round.until);
        if (end - first) as usize <= room {
            return Some((end - first) as usize);
        }
        // Whole chunks as far as they fit; the next one begins a segment.
        let fits = (first + 1..=first + room as u64)
            .rev()
            .find(|&serial| self.staging.get(serial).is_some_and(|block| block.sync))?;
        if let Some(block) = self.staging.get_mut(fits) {
            block.new_segment = true;
        }
        Some((fits - first) as usize)
    }

    /// Gives the blocks of the round their flags and places in the stream.
    fn assign(&mut self) {
        self.round.ack = self.min_ack();
        let Some(head) = &mut self.head else { return };
        let mut opening = match head.opening {
            Opening::No => 0,
            Opening::First => flag::FIRST,
            Opening::Resume { anew: false } => flag::RESUME,
            Opening::Resume { anew: true } => flag::RESUME | flag::NEW_DICTIONARY,
        };
        let (control, staged) = (self.control.first(), self.staging.first());
        let last = staged + self.round.staged as u64;
        let finished = last >= self.round.until;
        let control_end = self.control.end();
        for serial in control..control_end {
            if let Some(block) = self.control.get_mut(serial) {
                block.dictionary = if opening == 0 { 0 } else { self.round.dictionary };
                block.flags = core::mem::take(&mut opening);
                block.stream_offset = head.offset;
                head.offset = head.offset.wrapping_add(block.used.into());
                if self.round.clean && finished && self.round.staged == 0 && serial + 1 == control_end {
                    block.flags |= flag::CLEAN;
                }
            }
        }
        for serial in staged..last {
            if let Some(block) = self.staging.get_mut(serial) {
                block.flags = core::mem::take(&mut opening) | if block.sync { flag::SYNC } else { 0 };
                block.stream_offset = head.offset;
                // Said where the stream may be entered.
                block.dictionary = if block.flags & flag::RESTART == 0 {
                    0
                } else {
                    head.dictionary
                };
                head.offset = head.offset.wrapping_add(block.used.into());
                if self.round.clean && finished && serial + 1 == last {
                    block.flags |= flag::CLEAN;
                }
            }
        }
    }

    fn write_round(&mut self) {
        let control = self.control.first()..self.control.end();
        let staged = self.staging.first()..self.staging.first() + self.round.staged as u64;
        self.round.phase = Phase::Written;
        for (serial, of_control) in control.map(|serial| (serial, true)).chain(staged.map(|s| (s, false))) {
            if !self.write_block(serial, of_control) {
                self.counters.write_errors += 1;
                self.round.phase = Phase::Failed;
                return;
            }
        }
    }

    fn write_block(&mut self, serial: u64, of_control: bool) -> bool {
        let blocks = if of_control {
            &mut self.control
        } else {
            &mut self.staging
        };
        let (Some(head), Some(&block)) = (&mut self.head, blocks.get(serial)) else {
            return false;
        };
        let header = BlockHeader {
            flags: block.flags,
            seq: head.seq as u32,
            // Below 1,024.
            index: head.index as u16,
            used: block.used,
            first_record: block.first_record,
            dictionary: block.dictionary,
            ack: self.round.ack.0 as u32,
            stream_offset: block.stream_offset,
            epoch: self.epoch,
        };
        let at = self.flash.geometry.block(head.slot, head.index);
        head.index += 1;
        let bytes = blocks.block_mut(serial);
        header.emit(bytes, block_seed(&self.flash.uuid, head.slot));
        self.counters.blocks_written += 1;
        self.payload_bytes_written += u64::from(block.used);
        self.flash.storage.write(at, bytes).is_ok()
    }

    /// Writes the round again behind the failed one; false when the slot has no room for it, or had its chances.
    fn write_again(&mut self) -> bool {
        self.round.attempts += 1;
        let blocks = self.control.len() + self.round.staged;
        let slot = self.flash.geometry.blocks_per_slot as usize;
        let room = self.head.map_or(0, |head| slot.saturating_sub(head.index as usize));
        if let Some(head) = &mut self.head
            && head.opening == Opening::First
        {
            // A segment's header is looked for in its first block only. Nothing of the segment is needed yet and the bytes
            // are the same: where that is possible they go to the same place.
            let again = self.flash.geometry.medium == Medium::Rewritable && self.round.attempts < ATTEMPTS;
            if again {
                head.index = self.flash.geometry.first_block();
                self.write_round();
            }
            return again;
        }
        if self.round.attempts >= ATTEMPTS || blocks > room {
            return false;
        }
        self.write_round();
        true
    }

    /// Gives the slot up; chunks that begin in staging go to the next one.
    fn abandon(&mut self) -> Result<(), CommitError> {
        self.control.drop_front(usize::MAX);
        self.head = None;
        self.round.staged = 0;
        self.round.attempts = 0;
        self.round.phase = Phase::Between;
        self.round.failed_slots = self.round.failed_slots.saturating_add(1);
        if self.round.failed_slots == 1 {
            self.lap_after = self.now + DEGRADED_LAP_MS;
        }
        self.round.control_due = self.round.until <= self.staging.first();
        if self.staging.get(self.staging.first()).is_some_and(|front| !front.sync) {
            self.lose_front(Reason::WriteError);
        }
        if self.staging.is_empty() {
            // The encoder's past is on the slot given up.
            self.chunk.open = false;
        }
        if self.round.failed_slots >= FAILED_SLOTS {
            self.round.active = false;
            self.degraded_since = Some(self.now);
            return Err(CommitError::Degraded);
        }
        Ok(())
    }

    /// Counts and forgets the staged blocks up to the next chunk.
    pub(crate) fn lose_front(&mut self, reason: Reason) {
        let first = self.staging.first();
        let end = self.staging.chunk_end(first);
        let (frames, samples) = self.staging.sum(first, end);
        let (Some(from), to) = (
            self.staging.first_frame(),
            self.staging.get(end).map_or(self.next, |block| block.chunk),
        ) else {
            self.drop_staged((end - first) as usize);
            return;
        };
        let wall = |time: Option<u64>| time.and_then(|time| self.unix_ms(time)).unwrap_or(0);
        let loss = Loss {
            frames,
            samples,
            first_ms: wall(self.staging.time_of(from)),
            last_ms: wall(self.staging.time_of(FrameNo(to.0.saturating_sub(1)))),
        };
        if frames > 0 {
            self.lose(reason, from.0, to.0.saturating_sub(1), &loss);
            if self.written_off.is_full() {
                self.written_off.pop_front();
            }
            let _ = self.written_off.push_back((from.0, to.0));
        }
        if end == self.staging.end() {
            self.chunk.open = false;
        }
        self.drop_staged((end - first) as usize);
    }

    /// Opens the next slot that can be written.
    fn open_next(&mut self, catalogue: &mut Catalogue) -> Result<(), CommitError> {
        for _ in 0..self.flash.geometry.slots {
            let seq = self.slots.last_seq + 1;
            let slot = self.slots.slot_of(seq);
            if self.flash.storage.is_bad(slot) {
                self.slots.last_seq = seq;
                self.slots.set(
                    slot,
                    Slot {
                        state: State::Bad,
                        ..Slot::default()
                    },
                );
                continue;
            }
            if self.holds_unacknowledged(slot) {
                if self.config.when_full == WhenFull::Stop {
                    self.stopped = true;
                    return Err(CommitError::Full);
                }
                // A medium that fails must not cost what is still readable on it.
                if self.round.failed_slots > 0 {
                    if self.now < self.lap_after {
                        self.degraded_since = Some(self.now);
                        return Err(CommitError::Degraded);
                    }
                    self.lap_after = self.now + DEGRADED_LAP_MS;
                }
                self.lap(slot);
            }
            self.slots.last_seq = seq;
            self.slots.set(slot, Slot::default());
            if self.prepare(slot).is_err() {
                self.counters.write_errors += 1;
                continue;
            }
            self.outdo(slot, seq);
            catalogue.mark_all_dirty();
            self.counters.segments_opened += 1;
            self.head = Some(Head {
                seq,
                slot,
                index: self.flash.geometry.first_block(),
                offset: 0,
                dictionary: 0,
                opening: Opening::First,
                dictionary_done: false,
                has_frames: false,
            });
            return Ok(());
        }
        self.degraded_since = Some(self.now);
        Err(CommitError::Degraded)
    }

    /// Blocks of this very segment may be in the slot: written by a boot that was cut before the first of them landed, and not
    /// seen by mount. A higher epoch keeps them from continuing what is written now.
    fn outdo(&mut self, slot: u32, seq: u64) {
        let spare = &mut self.spare;
        spare.index.scan(&mut self.flash, slot, &mut spare.stream.block);
        spare.stream.rewind();
        if spare.index.newest_ack().is_some() && spare.index.seq == seq as u32 {
            self.epoch = self.epoch.max(spare.index.epoch().wrapping_add(1));
        }
    }

    fn holds_unacknowledged(&self, slot: u32) -> bool {
        let info = self.slots.get(slot);
        matches!(info.state, State::Segment | State::Headless | State::Foreign)
            && self.slots.end_of(info.seq, self.flash_next) > self.min_ack().max(self.lapped_to)
    }

    /// Erases a slot of a write-once medium and writes its header.
    fn prepare(&mut self, slot: u32) -> Result<(), S::Error> {
        if self.flash.geometry.medium == Medium::Rewritable {
            return self.flash.storage.erase(slot);
        }
        self.spare.stream.rewind();
        let block = &mut self.spare.stream.block;
        let at = self.flash.geometry.block(slot, 0);
        let worn = match self.flash.storage.read(at, block) {
            Ok(()) => EraseHeader::parse(block).map_or(0, |header| header.erase_count),
            Err(_) => 0,
        };
        self.counters.slots_erased += 1;
        self.flash.storage.erase(slot)?;
        let header = EraseHeader {
            uuid: self.flash.uuid,
            geometry: self.flash.geometry,
            slot,
            erase_count: worn.saturating_add(1),
        };
        header.emit(block);
        self.flash.storage.write(at, block)
    }

    /// Counts the unacknowledged frames of a slot that is about to be overwritten.
    fn lap(&mut self, slot: u32) {
        let info = self.slots.get(slot);
        let next = self.slots.segments_from(info.seq + 1).next().map(|(_, next)| next);
        let (end, end_prior) = next.map_or((self.flash_next, self.flash_next), |next| {
            (next.first_frame, next.prior)
        });
        let from = self.min_ack().max(self.lapped_to);
        let counted = self.missing_to.0;
        let mut loss = Loss::default();
        let (mut expected, mut missing) = (from.max(info.first_frame), 0);
        let average = self.samples_per_frame();
        let spare = &mut self.spare;
        spare.index.scan(&mut self.flash, slot, &mut spare.stream.block);
        spare.stream.rewind();
        let mut tally = Tally::default();
        while info.state == State::Segment && spare.index.seq == info.seq as u32 {
            match spare
                .stream
                .next(&mut self.flash, &spare.index, &mut self.scratch.record)
            {
                Item::Record { kind: kind::START, len } => {
                    if let Ok(start) = record::parse::<Start>(&self.scratch.record[..len]) {
                        self.boots
                            .note(boot_key(&start.boot_id), start.mono_ms, start.wall_ms, start.clock);
                        missing += start.prior.saturating_sub(expected.0.max(counted));
                        expected = expected.max(FrameNo(start.frame_no));
                        tally.start(&start);
                    }
                }
                Item::Record { kind: kind::CLOCK, len } => {
                    if let Ok(clock) = record::parse::<Clock>(&self.scratch.record[..len]) {
                        self.boots.note(clock.boot, clock.mono_ms, clock.wall_ms, clock.source);
                    }
                }
                Item::Record { kind: kind::FRAME, len } => {
                    if let Ok(frame) = tally.frame(&self.scratch.record[..len])
                        && frame.number >= expected
                    {
                        let samples = frame.samples.map_or(average, u64::from);
                        loss.add_frame(samples, self.boots.unix_ms(frame.boot, frame.time_ms));
                        expected = FrameNo(frame.number.0 + 1);
                    }
                }
                Item::Record { .. } | Item::Restart { .. } => {}
                Item::TooLarge { .. } => tally.forget(),
                Item::End => break,
            }
        }
        missing += end_prior.0.saturating_sub(expected.0.max(counted));
        loss.frames += missing;
        loss.samples += missing.saturating_mul(average);
        if loss.frames > 0 {
            self.lose(Reason::Lapped, from.0, end.0.saturating_sub(1), &loss);
            self.counters.dropped_segments += 1;
        }
        self.lapped_to = self.lapped_to.max(end);
    }

    /// Control records of the round: segment header, START, acknowledgements, definitions.
    /// Whether every definition that the staged blocks need is written or among them.
    fn build_control(&mut self, catalogue: &mut Catalogue, staged_left: bool) -> bool {
        self.control.drop_front(usize::MAX);
        let Some(head) = self.head else { return false };
        self.round.dictionary = head.dictionary;
        let defines = staged_left && self.undefined(catalogue, 0).is_some();
        let first = self.staging.first_frame().unwrap_or(self.next);
        let time = self.staging.time_of(first).unwrap_or(self.now.0);
        if head.opening == Opening::First {
            self.put_segment_header(&head, first);
        }
        let alone = defines || !staged_left;
        if head.opening == Opening::First || (head.opening != Opening::No && alone) {
            let start = self.start(first, time);
            self.put_control(kind::START, &start);
        }
        if head.opening == Opening::First || self.round.control_due {
            for place in 0..self.remotes.len() {
                let remote = &mut self.remotes[place];
                remote.persisted = remote.acknowledged;
                let ack = Ack {
                    remote: remote.config.id,
                    frame_no: remote.acknowledged.0,
                };
                self.put_control(kind::ACK, &ack);
            }
        }
        if self.round.control_due {
            self.put_notes();
            self.round.control_due = false;
        }
        staged_left && self.put_definitions(catalogue)
    }

    /// CLOCK and DROP when no frames are written.
    fn put_notes(&mut self) {
        if self.clock_pending {
            let clock = self.clock_record();
            self.put_control(kind::CLOCK, &clock);
            self.clock_pending = false;
        }
        for place in 0..self.pending_losses.len() {
            if let Some(loss) = self.pending_losses[place].take() {
                self.put_control(kind::DROP, &loss);
            }
        }
    }

    fn put_segment_header(&mut self, head: &Head, first: FrameNo) {
        let geometry = self.flash.geometry;
        let prior = self.prior(first);
        let wall_ms = self.unix_ms(self.now.0).unwrap_or(0);
        let info = Slot {
            state: State::Segment,
            seq: head.seq,
            first_frame: first,
            prior,
            frames: self.flash_frames,
            samples: self.flash_samples,
            wall_ms,
        };
        self.slots.set(head.slot, info);
        let (tail_seq, _) = self.slots.in_use(self.min_ack(), self.flash_next);
        let header = SegmentHeader {
            major: MAJOR,
            minor: MINOR,
            uuid: self.flash.uuid,
            seq: head.seq,
            slots: geometry.slots,
            log2_block: geometry.block_bytes.trailing_zeros() as u8,
            log2_segment: geometry.segment_bytes().trailing_zeros() as u8,
            slot: head.slot,
            tail_seq,
            frame_no: first.0,
            dropped_samples: self.ledger().iter().map(|loss| loss.samples).sum(),
            dropped_segments: self.counters.dropped_segments,
            config_crc: self.config.config_crc,
            codec: self.config.codec as u8,
            ack: self.min_ack().0,
            prior: prior.0,
            tail_frame: self.lapped_to.max(self.min_ack()).0,
            counted_frame: self.missing_to.0,
            frames: self.flash_frames,
            samples: self.flash_samples,
            wall_ms,
            max_series: self.config.max_series as u32,
            losses: self.ledger(),
        };
        // The header has the rest of the ledger.
        self.pending_losses = [None; Loss::REASONS];
        self.put_control(kind::SEGMENT, &header);
    }

    /// The losses without those in DROP records that will stand behind the header.
    fn ledger(&self) -> [Loss; Loss::REASONS] {
        let mut losses = self.counters.losses;
        if let Some((_, staged)) = &self.staged_losses {
            for (loss, staged) in losses.iter_mut().zip(staged) {
                loss.frames = loss.frames.saturating_sub(staged.frames);
                loss.samples = loss.samples.saturating_sub(staged.samples);
            }
        }
        losses
    }

    /// Control records other than definitions are few and small: the pool, sized by mount, always takes them.
    fn put_control<T: Serialize>(&mut self, kind: u8, value: &T) {
        let control = &mut self.control;
        let _ = put(value, |bytes| control.put(kind, bytes, None, FrameNo(0), FrameNo(0)));
    }

    /// The first series from `from` on whose definition this segment needs and has not; or a target.
    fn undefined(&self, catalogue: &Catalogue, from: usize) -> Option<Undefined> {
        if from == 0
            && let Some(target) = catalogue.next_dirty_target(0)
        {
            return Some(Undefined::Target(target));
        }
        let whole = self.head.is_some_and(|head| !head.dictionary_done);
        let mut at = from;
        while let Some(series) = catalogue.next_dirty(at) {
            if whole || self.needed.has(usize::from(series.0)) {
                return Some(Undefined::Series(series));
            }
            at = usize::from(series.0) + 1;
        }
        None
    }

    /// As many definitions as the control blocks take. They count as written: if the round fails for good, the next segment
    /// begins with all of them.
    fn put_definitions(&mut self, catalogue: &mut Catalogue) -> bool {
        let mut from = 0;
        while let Some(undefined) = self.undefined(catalogue, from) {
            let written = match undefined {
                Undefined::Target(target) => {
                    let body = catalogue.target_body(target);
                    let index = target.0;
                    let (control, raw) = (&mut self.control, &mut self.scratch.raw);
                    let record = postcard::to_slice(&Target { index, body }, raw);
                    let put = record.map(|bytes| control.put(kind::TARGET, bytes, None, FrameNo(0), FrameNo(0)));
                    if matches!(put, Ok(Err(_))) && !self.control.is_empty() {
                        false
                    } else {
                        catalogue.mark_target_clean(target);
                        self.note_definition();
                        true
                    }
                }
                Undefined::Series(series) => {
                    from = usize::from(series.0);
                    self.put_dict(series, catalogue)
                }
            };
            if !written {
                return false;
            }
        }
        if let Some(head) = &mut self.head {
            head.dictionary_done = true;
        }
        true
    }

    /// A dictionary record was put.
    fn note_definition(&mut self) {
        let Some(head) = &mut self.head else { return };
        head.dictionary = head.dictionary.wrapping_add(1);
    }

    /// One DICT record from `first` on; false when the control blocks are full.
    fn put_dict(&mut self, first: SeriesRef, catalogue: &mut Catalogue) -> bool {
        let Some(target) = catalogue.target_of(first) else {
            // No longer a series: nothing refers to it.
            catalogue.mark_clean(first);
            return true;
        };
        let space = self.control.space().saturating_sub(DICT_OVERHEAD);
        let limit = space.min(self.scratch.raw.len());
        let (count, raw_len) = self.gather(first, target, limit, catalogue);
        if count == 0 {
            if self.control.is_empty() {
                // Cannot be: the pool takes the longest text. Were it otherwise, one series would hold up the ring.
                catalogue.mark_clean(first);
                self.unneed(first, catalogue);
                return true;
            }
            return false;
        }
        let scratch = &mut self.scratch;
        let raw = &scratch.raw[..raw_len];
        let packed = scratch.compress.as_mut().and_then(|codec| {
            let len = codec.compress(raw, &mut scratch.packed)?;
            (len < raw_len).then_some((codec.method(), len))
        });
        let head = DictHead {
            target,
            first: first.0,
            count,
            method: packed.map_or(0, |(method, _)| method),
            raw_len,
            packed: packed.map_or(raw, |(_, len)| &scratch.packed[..len]),
        };
        let mut sink = SliceSink::new(&mut scratch.record);
        if head.emit(&mut sink).is_err() {
            return false;
        }
        let control = &mut self.control;
        if control
            .put(kind::DICT, sink.written(), None, FrameNo(0), FrameNo(0))
            .is_err()
        {
            return false;
        }
        for index in first.0..first.0 + count {
            catalogue.mark_clean(SeriesRef(index));
            self.unneed(SeriesRef(index), catalogue);
        }
        self.note_definition();
        true
    }

    /// Codes consecutive undefined series of `target` from `first` on into the raw buffer, up to `limit` bytes.
    fn gather(&mut self, first: SeriesRef, target: TargetRef, limit: usize, catalogue: &Catalogue) -> (u16, usize) {
        let whole = self.head.is_some_and(|head| !head.dictionary_done);
        let mut sink = SliceSink::new(&mut self.scratch.raw[..limit]);
        let (mut before, mut count, mut len) = (None, 0u16, 0);
        for index in first.0..crate::limits::MAX_SERIES as u16 {
            let series = SeriesRef(index);
            let wanted = catalogue.is_dirty(series) && (whole || self.needed.has(usize::from(index)));
            let (Some(text), true) = (
                catalogue.text(series),
                wanted && catalogue.target_of(series) == Some(target),
            ) else {
                break;
            };
            if put_entry(&mut sink, before, text, catalogue.kind(series)).is_err() {
                break;
            }
            (before, count, len) = (Some(text), count + 1, sink.len());
        }
        (count, len)
    }
}

/// Bytes of a DICT record around its entries, at most.
const DICT_OVERHEAD: usize = 1 + 5 + 1 + 3 + 3 + 1 + 5;

enum Undefined {
    Target(TargetRef),
    Series(SeriesRef),
}

/// Encodes a control record's payload and hands it on.
fn put<T: Serialize>(value: &T, to: impl FnOnce(&[u8]) -> Result<(), Full>) -> Result<(), Full> {
    let mut buffer = [0; record::MAX_CONTROL_BYTES];
    let bytes = postcard::to_slice(value, &mut buffer).map_err(|_| Full {
        limit: record::MAX_CONTROL_BYTES,
    })?;
    to(bytes)
}
