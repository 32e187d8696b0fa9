//! From staged blocks to the medium: rounds of writes, each ended by a sync.
//!
//! A commit is one or more rounds. A round is control blocks (segment header, definitions) and staged blocks; nothing
//! of it is forgotten before its sync. After an error the whole round is written again behind, with the same stream
//! offsets, three times in all; then the next slot is opened, with full values. After three slots in a row the ring is
//! degraded: it lives in memory, and once a minute the next slot is tried with a single block. The first round of a segment, and one for which the segment
//! has no room, is written again in place, on write-once media not at all.
//!
//! # Invariants
//!
//! - A slot is opened only between rounds: everything before it is synced.
//! - A block index is used once per segment, whatever became of the write; it may only be repeated in place with the
//!   same bytes, before its sync.
//! - Definitions precede the frames that need them in the stream.

use super::config::{Commit, CommitError, CommitStep};
use super::control::MAX_HOLE_BYTES;
use super::counters::{Loss, Reason};
use super::format::{BlockHeader, Medium, block_seed, flag};
use super::record::{self, Ack, Clock, UNKNOWN_MS, kind};
use super::seeded::{self, Fault as Seeded};
use super::slots::Slot;
use super::storage::Storage;
use super::{DEGRADED_LAP_MS, Ring};
use crate::catalogue::Catalogue;
use crate::frame::{Frame, FrameNo, Full};
use serde::Serialize;

/// Times a round is written in one slot.
const ATTEMPTS: u8 = 3;
/// Slots in a row that may fail.
pub(crate) const FAILED_SLOTS: u8 = 3;

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
    pub(crate) until: u64,
    /// Staged blocks written and not yet synced.
    staged: usize,
    attempts: u8,
    /// Block index at which it was last written.
    from: u32,
    pub(crate) failed_slots: u8,
    /// A block of control records is to be written whatever else there is.
    pub(crate) control_due: bool,
    clean: bool,
    ack: FrameNo,
    /// First frame of losses that a control block of the round tells.
    pub(crate) tells_from: Option<FrameNo>,
    /// Dictionary records before the round.
    pub(crate) dictionary: u16,
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
        self.commit_step_with(catalogue, want, None)
    }

    /// As [`Ring::commit_step`]. `spare` is memory for a frame of the configured size: if a slot fails in the middle of a
    /// chunk, what is staged of it can then be written to the next slot; without it that is given up, counted.
    ///
    /// # Errors
    /// As [`Ring::commit_step`].
    pub fn commit_step_with(
        &mut self,
        catalogue: &mut Catalogue,
        want: Commit,
        mut spare: Option<&mut Frame>,
    ) -> Result<CommitStep, CommitError> {
        if !self.round.active && !self.begin_commit(want, catalogue) {
            return Ok(CommitStep::Done);
        }
        loop {
            match self.round.phase {
                Phase::Written if self.skips_sync() => self.synced::<()>(Ok(())),
                Phase::Written => return Ok(CommitStep::NeedSync),
                Phase::Failed => {
                    if !self.write_again() {
                        self.abandon(catalogue, spare.as_deref_mut())?;
                    }
                }
                Phase::Between => match self.fill(catalogue, spare.as_deref_mut()) {
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

    /// A seeded fault: more is to be written, so this round's sync is left out.
    fn skips_sync(&self) -> bool {
        let rest = self.staging.first() + self.round.staged as u64;
        seeded::is(Seeded::NoSync) && self.staging.get(rest).is_some_and(|next| next.new_segment)
    }

    /// Tells how the sync asked for went.
    pub fn synced<E>(&mut self, result: Result<(), E>) {
        if !self.round.active || self.round.phase != Phase::Written {
            return;
        }
        if result.is_err() && !seeded::is(Seeded::ForgottenEarly) {
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
        if self.staged_losses.is_some_and(|(at, _)| at < self.staging.first()) {
            self.staged_losses = None;
        }
        self.clock_staged = self.clock_staged.filter(|&at| at >= self.staging.first());
        self.clock_in_control = false;
        self.round.tells_from = None;
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
        self.commit_with(catalogue, None)
    }

    /// As [`Ring::commit`], with memory for a frame as in [`Ring::commit_step_with`].
    ///
    /// # Errors
    /// As [`Ring::commit`].
    pub fn commit_with(&mut self, catalogue: &mut Catalogue, mut spare: Option<&mut Frame>) -> Result<(), CommitError> {
        while self.commit_step_with(catalogue, Commit::All, spare.as_deref_mut())? == CommitStep::NeedSync {
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
        self.close_with(catalogue, None)
    }

    /// As [`Ring::close`], with memory for a frame as in [`Ring::commit_step_with`].
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn close_with(&mut self, catalogue: &mut Catalogue, mut spare: Option<&mut Frame>) -> Result<(), CommitError> {
        // What is in a sender's hands is not acknowledged, and will not be read again.
        for place in 0..self.remotes.len() {
            self.lose_held(place, FrameNo(0));
        }
        if self.round.active {
            // It may not have everything.
            self.commit_with(catalogue, spare.as_deref_mut())?;
        }
        self.round.clean = true;
        let mut result = self.commit_with(catalogue, spare.as_deref_mut());
        if result.is_ok() {
            // What found no room behind full staging, and so no acknowledgement after it: there is no next commit for it to wait for.
            result = self.commit_with(catalogue, spare);
        }
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
        let delivered = self.delivered_losses.iter().any(|loss| loss.frames + loss.samples > 0);
        let losses = delivered || self.pending_losses.iter().any(Option::is_some);
        let note = self.note_due() && self.note_fits();
        if !(frames || acknowledged || losses || note) {
            self.keep_sent = false;
            self.told_clock |= core::mem::take(&mut self.tell_clock);
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
            control_due: !frames || delivered,
            clean: self.round.clean,
            // A degraded ring tries one slot at a time.
            failed_slots: self.round.failed_slots,
            ..Round::default()
        };
        true
    }

    /// Something is to be kept though there may be no frames: that the ring was closed in order, or what was sent before the
    /// clock was set back, or before the process ends.
    fn note_due(&self) -> bool {
        let news = || {
            let mut remotes = self.remotes.iter();
            remotes.any(|remote| remote.sent != remote.sent_persisted || remote.ahead != remote.ahead_persisted)
        };
        let backlog = self.min_ack() < self.flash_next;
        self.keep_sent || self.tell_clock || (self.round.clean && (news() || (backlog && !self.clean)))
    }

    /// A note is not worth a sample.
    fn note_fits(&self) -> bool {
        let slot = self.flash.geometry.blocks_per_slot;
        self.head.is_some_and(|head| head.index < slot)
            || !self.holds_unacknowledged(self.slots.slot_of(self.slots.last_seq + 1))
    }

    fn finish(&mut self, catalogue: &mut Catalogue) {
        self.round.active = false;
        if self.tell_clock && !self.clock_pending {
            (self.tell_clock, self.told_clock) = (false, true);
        }
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
            if !self.clock_pending {
                self.clock_staged = Some(self.staging.end() - 1);
            }
        }
        // The header of a segment that this commit begins tells all; a cut between it and a record behind it loses no count.
        let first = self.staging.first();
        let begins = |at: u64| self.staging.get(at).is_some_and(|block| block.new_segment);
        let header = self
            .head
            .is_none_or(|head| (head.has_frames && begins(first)) || (first + 1..self.staging.end()).any(begins));
        // So does a block that takes back some of them.
        let in_control = header || self.delivered_losses.iter().any(|loss| loss.frames + loss.samples > 0);
        for place in 0..self.pending_losses.len() {
            if let Some(loss) = self.pending_losses[place].filter(|_| !in_control) {
                let staging = &mut self.staging;
                if put(&loss, |bytes| staging.put(kind::DROP, bytes, None, chunk, next)).is_ok() {
                    self.pending_losses[place] = None;
                    let (at, losses) = self.staged_losses.get_or_insert_default();
                    *at = staging.end() - 1;
                    loss.add_to(&mut losses[place]);
                }
            }
        }
        // In the room that is there: a hole that is not told may be counted once more after a loss of power.
        if self.holes_news && !in_control {
            let mut all = true;
            for at in 0..self.holes.len() {
                let Some(hole) = self.hole_record(at, u64::MAX) else {
                    continue;
                };
                let staging = &mut self.staging;
                all &= staging.room() >= MAX_HOLE_BYTES
                    && put(&hole, |bytes| staging.put(kind::DROP, bytes, None, chunk, next)).is_ok();
            }
            self.holes_news = !all;
        }
        let wall_ms = self.unix_ms(self.now.0);
        for remote in &mut self.remotes {
            if remote.sent != remote.sent_persisted
                && let Some(sent) = remote.sent_record(wall_ms)
            {
                let staging = &mut self.staging;
                if put(&sent, |bytes| staging.put(kind::SENT, bytes, None, chunk, next)).is_ok() {
                    remote.sent_persisted = remote.sent;
                }
            }
        }
        self.keep_sent = false;
        for remote in &mut self.remotes {
            let staging = &mut self.staging;
            let news = (0..remote.ahead.len()).filter(|&at| !remote.ahead_persisted.contains(&remote.ahead[at]));
            let mut records = news.map(|at| remote.ahead_record(at));
            let written =
                records.all(|record| put(&record, |bytes| staging.put(kind::AHEAD, bytes, None, chunk, next)).is_ok());
            if written {
                remote.ahead_persisted.clone_from(&remote.ahead);
            }
        }
        if self.remotes.len() > 1 || self.told_later() < self.min_ack() {
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

    pub(crate) fn clock_record(&self) -> Clock {
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
    fn fill(&mut self, catalogue: &mut Catalogue, mut spare: Option<&mut Frame>) -> Result<bool, CommitError> {
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
                self.head = None;
                self.begin_with_chunk(Some(head), catalogue, spare.as_deref_mut());
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
        // Blocks land in any order: one that acknowledged more than is told of the losses before it would leave these to nobody. An ACK
        // record behind them says the rest.
        self.round.ack = self.min_ack().min(self.told_later());
        let Some(head) = &mut self.head else { return };
        let mut opening = match head.opening {
            Opening::No => 0,
            Opening::First => flag::FIRST,
            Opening::Resume { .. } if seeded::is(Seeded::NoResume) => 0,
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
        self.round.from = self.head.map_or(0, |head| head.index);
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
            ack: if seeded::is(Seeded::AckNotWritten) {
                0
            } else {
                self.round.ack.0 as u32
            },
            stream_offset: block.stream_offset,
            epoch: self.epoch,
        };
        let at = self.flash.geometry.block(head.slot, head.index);
        head.index += 1;
        let bytes = blocks.block_mut(serial);
        header.emit(bytes, block_seed(&self.flash.uuid, head.slot));
        self.counters.blocks_written += 1;
        self.clean = block.flags & flag::CLEAN != 0;
        self.payload_bytes_written += u64::from(block.used);
        self.flash.storage.write(at, bytes).is_ok()
    }

    /// Writes the round again behind the failed one; false when the slot has no room for it, or had its chances.
    fn write_again(&mut self) -> bool {
        self.round.attempts += 1;
        let rewritable = self.flash.geometry.medium == Medium::Rewritable;
        let blocks = (self.control.len() + self.round.staged) as u32;
        let Some(head) = &mut self.head else { return false };
        let first = head.opening == Opening::First;
        let room = self.flash.geometry.blocks_per_slot.saturating_sub(head.index);
        if self.round.attempts >= ATTEMPTS || self.degraded_since.is_some() {
            return false;
        }
        if first || blocks > room {
            // A segment's header is looked for in its first block only; and at the end of a segment there is no elsewhere. The
            // bytes are the same and nothing durable is among them, so where the medium allows they go to the same place.
            if !rewritable {
                return false;
            }
            head.index = self.round.from;
        }
        self.write_round();
        true
    }

    /// Gives the slot up; chunks that begin in staging go to the next one.
    fn abandon(&mut self, catalogue: &Catalogue, spare: Option<&mut Frame>) -> Result<(), CommitError> {
        self.control.drop_front(usize::MAX);
        let head = self.head.take();
        if let Some(head) = head.filter(|head| head.opening == Opening::First) {
            // Nothing of it is safe: the slot holds no segment.
            self.slots.set(head.slot, Slot::default());
        }
        self.clock_pending |= core::mem::take(&mut self.clock_in_control);
        self.round.staged = 0;
        self.round.attempts = 0;
        self.round.phase = Phase::Between;
        self.note_failed_slot();
        self.begin_with_chunk(head, catalogue, spare);
        self.round.control_due = self.round.until <= self.staging.first();
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

    /// A slot took nothing.
    pub(crate) fn note_failed_slot(&mut self) {
        self.counters.slots_failed += 1;
        self.round.failed_slots = self.round.failed_slots.saturating_add(1);
        if self.round.failed_slots == 1 {
            self.lap_after = self.now + DEGRADED_LAP_MS;
        }
    }

    /// Frames `from..to` are counted as lost: who misses them does not count them again, now or after a restart.
    pub(crate) fn write_off(&mut self, from: FrameNo, to: FrameNo) {
        if let Some((_, end)) = self.written_off.back_mut().filter(|(_, end)| *end == from.0) {
            *end = to.0;
            return;
        }
        if self.written_off.is_full() {
            self.written_off.pop_front();
        }
        let _ = self.written_off.push_back((from.0, to.0));
    }

    /// Makes the staged chunks say which of the frames before them were counted as lost since they were begun. A number is never
    /// longer than the one it takes the place of.
    pub(crate) fn tell_prior(&mut self) {
        for serial in self.staging.first()..self.staging.end() {
            let Some(chunk) = self
                .staging
                .get(serial)
                .filter(|block| block.sync)
                .map(|block| block.chunk)
            else {
                continue;
            };
            let prior = self.prior(chunk);
            if prior < chunk {
                self.staging
                    .edit_front_record(serial, |start| record::set_prior(start, prior.0));
            }
        }
    }

    /// Frames from `from` to before `to` in the staged blocks `of`, and their samples: as they were read, else, in a block of
    /// which only a part is asked for, in proportion.
    fn staged_sum(&self, of: core::ops::Range<u64>, from: FrameNo, to: FrameNo) -> (u64, u64) {
        self.given(from, to).unwrap_or_else(|| {
            let blocks = of.filter_map(|serial| self.staging.get(serial));
            blocks.filter(|block| block.frames > 0).fold((0, 0), |sum, block| {
                let (first, all) = (block.first_frame.0, u64::from(block.frames));
                let part = to.0.min(first + all).saturating_sub(from.0.max(first));
                (sum.0 + part, sum.1 + u64::from(block.samples) * part / all)
            })
        })
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
            // What is acknowledged or was delivered ahead is not lost, what a sender has in hand may not be.
            let to = to.max(from);
            let (delivered, in_hand) = self.delivered_and_held();
            let sum = |spans: &[(FrameNo, FrameNo)]| {
                let within = spans.iter().map(|span| (span.0.max(from), span.1.min(to)));
                let sums = within.filter(|span| span.0 < span.1);
                sums.map(|span| self.staged_sum(first..end, span.0, span.1))
                    .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
            };
            let (done, reached) = (sum(&delivered), sum(&in_hand));
            let part = |all: (u64, u64), less: (u64, u64)| Loss {
                frames: all.0.saturating_sub(less.0),
                samples: all.1.saturating_sub(less.1),
                ..loss
            };
            let (held, rest) = (part(reached, done), part((frames, samples), reached));
            let ack = self.min_ack().clamp(from, to);
            self.give_up(reason, ack, to, &held, &rest);
            self.write_off(from, to);
        }
        if end == self.staging.end() {
            self.chunk.open = false;
        }
        self.drop_staged((end - first) as usize);
        self.tell_prior();
    }
}

/// Encodes a control record's payload and hands it on.
pub(crate) fn put<T: Serialize>(value: &T, to: impl FnOnce(&[u8]) -> Result<(), Full>) -> Result<(), Full> {
    let mut buffer = [0; record::MAX_CONTROL_BYTES];
    let bytes = postcard::to_slice(value, &mut buffer).map_err(|_| Full {
        limit: record::MAX_CONTROL_BYTES,
    })?;
    to(bytes)
}
