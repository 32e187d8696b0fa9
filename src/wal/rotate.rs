//! Opening the next slot: passing over bad ones, giving up the oldest segment.
//!
//! What is given up is read once more, without its values, and counted frame by frame.
//!
//! # Invariants
//!
//! - The newest segment on the medium stays until a newer one is: it says which ring this is, what was acknowledged and what was lost.

use super::ahead::is_in;
use super::commit::{FAILED_SLOTS, Head, Opening};
use super::config::{CommitError, WhenFull};
use super::counters::{Loss, Reason};
use super::format::{BlockHeader, Medium, block_seed};
use super::frame_coding::Tally;
use super::holes::uncounted;
use super::record::{self, Clock, Start, kind};
use super::segment::{DictionaryCheck, Item};
use super::slots::{Slot, State};
use super::storage::Storage;
use super::{DEGRADED_LAP_MS, Ring, boot_key};
use crate::catalogue::Catalogue;
use crate::frame::FrameNo;

impl<S: Storage> Ring<S> {
    /// Opens the next slot that can be written.
    ///
    /// While the medium fails what is still readable on it is not given up for another attempt, but once an hour, the newest segment
    /// never: the slot that failed last is tried again instead.
    pub(crate) fn open_next(&mut self, catalogue: &mut Catalogue) -> Result<(), CommitError> {
        for _ in 0..self.flash.geometry.slots {
            let mut seq = self.slots.last_seq + 1;
            let mut slot = self.slots.slot_of(seq);
            if self.pass_over_bad(seq) {
                continue;
            }
            let newest = self.is_newest(slot);
            if newest || self.holds_unacknowledged(slot) {
                if !newest && self.config.when_full == WhenFull::Stop && self.round.failed_slots == 0 {
                    self.stopped = true;
                    return Err(CommitError::Full);
                }
                let keep = self.config.when_full == WhenFull::Stop || self.now < self.lap_after;
                if newest || self.round.failed_slots > 0 && keep {
                    let Some(failed) = self.last_failed() else {
                        return Err(self.degrade());
                    };
                    (seq, slot) = (failed, self.slots.slot_of(failed));
                } else {
                    if self.round.failed_slots > 0 {
                        self.lap_after = self.now + DEGRADED_LAP_MS;
                    }
                    self.lap(slot);
                }
            }
            self.slots.last_seq = seq;
            self.slots.set(slot, Slot::default());
            if self.prepare(slot).is_err() || !self.blank_remains(slot, seq) {
                self.counters.write_errors += 1;
                self.note_failed_slot();
                if self.round.failed_slots >= FAILED_SLOTS {
                    break;
                }
                continue;
            }
            catalogue.mark_all_dirty();
            self.counters.segments_opened += 1;
            self.head = Some(Head {
                seq,
                slot,
                index: self.flash.geometry.first_block(),
                offset: 0,
                dictionary: DictionaryCheck::segment_count(self.boot_key, self.epoch),
                opening: Opening::First,
                dictionary_done: false,
                has_frames: false,
            });
            return Ok(());
        }
        Err(self.degrade())
    }

    /// Whether the slot has the newest segment, and there are others to write to. Where nothing was ever written, a slot that would be
    /// erased stands for it: the header of one must say which ring this is.
    fn is_newest(&mut self, slot: u32) -> bool {
        if self.slots.usable() < 2 {
            return false;
        }
        match self.slots.segments_from(0).last() {
            Some((newest, _)) => newest == slot,
            None => {
                let write_once = self.flash.geometry.medium == Medium::WriteOnce;
                let last = (0..self.flash.geometry.slots).rfind(|&slot| self.slots.get(slot).state != State::Bad);
                write_once && last == Some(slot) && !self.is_ready(slot)
            }
        }
    }

    /// Sequence number of the slot that failed last, of those tried behind the newest segment. Where there is no such segment, one of
    /// which the beginning is lost counts as failed: nothing is read from it.
    fn last_failed(&mut self) -> Option<u64> {
        let newest = self.slots.segments_from(0).last().map_or(0, |(_, newest)| newest.seq);
        let oldest = self.slots.oldest().max(newest + 1);
        (oldest..=self.slots.last_seq).rfind(|&seq| {
            let slot = self.slots.slot_of(seq);
            let state = self.slots.get(slot).state;
            matches!(state, State::Empty | State::Headless) && !self.flash.storage.is_bad(slot)
        })
    }

    fn degrade(&mut self) -> CommitError {
        self.degraded_since = Some(self.now);
        CommitError::Degraded
    }

    /// A slot that is bad, or has refused its erase, uses up its sequence number.
    fn pass_over_bad(&mut self, seq: u64) -> bool {
        let slot = self.slots.slot_of(seq);
        let bad = self.flash.storage.is_bad(slot);
        if bad || self.erases.refused(seq) {
            self.slots.last_seq = seq;
            let state = if bad { State::Bad } else { State::Empty };
            self.slots.set(
                slot,
                Slot {
                    state,
                    ..Slot::default()
                },
            );
            return true;
        }
        false
    }

    /// Blanks what is in the slot of this very segment: blocks, whole or in part, of a boot that was cut before the first of them had
    /// landed, and which no mount has seen. False if it is still there: the slot is then not to be written.
    ///
    /// A block that is whole would belong to the segment that is written now, and may acknowledge frames whose numbers were given
    /// out again since. One of which the first part landed is made whole by the rest of the block to come if the power fails while that
    /// is written, and their ends are alike; it would say what was so when it was begun.
    ///
    /// Whole blocks of a later segment are blanked as well: after damage, or where slots failed. Nothing is written where there is
    /// nothing of the kind, which is every time but after a cut.
    fn blank_remains(&mut self, slot: u32, seq: u64) -> bool {
        let geometry = self.flash.geometry;
        let mut first = true;
        for index in geometry.first_block()..geometry.blocks_per_slot {
            if !self.is_in_the_way(slot, index, seq) {
                continue;
            }
            if geometry.medium == Medium::WriteOnce {
                // Just erased: a medium that still has it does not do what it says.
                return false;
            }
            // They hide what is left of the segment that the slot held, which was given up: that must not come back without them.
            if core::mem::take(&mut first)
                && !(self.blank(slot, geometry.first_block()) && self.flash.storage.sync().is_ok())
            {
                return false;
            }
            if !self.blank(slot, index) {
                return false;
            }
        }
        first || self.flash.storage.sync().is_ok()
    }

    fn is_in_the_way(&mut self, slot: u32, index: u32, seq: u64) -> bool {
        self.spare.stream.rewind();
        let block = &mut self.spare.stream.block;
        let at = self.flash.geometry.block(slot, index);
        match self.flash.storage.read(at, block) {
            Ok(()) => BlockHeader::is_in_the_way(block, block_seed(&self.flash.uuid, slot), seq as u32),
            // It may be such a block; what is written to can be read again, or the slot is given up. An erased one is not read again.
            Err(_) => self.flash.geometry.medium == Medium::Rewritable,
        }
    }

    fn blank(&mut self, slot: u32, index: u32) -> bool {
        let block = &mut self.spare.stream.block;
        block.fill(0);
        self.counters.blocks_written += 1;
        self.flash
            .storage
            .write(self.flash.geometry.block(slot, index), block)
            .is_ok()
    }

    pub(crate) fn holds_unacknowledged(&self, slot: u32) -> bool {
        let info = self.slots.get(slot);
        matches!(info.state, State::Segment | State::Headless | State::Foreign)
            && self.slots.end_of(info.seq, self.flash_next) > self.min_ack().max(self.lapped_to)
    }

    /// Counts the unacknowledged frames of a slot that is about to be overwritten.
    pub(crate) fn lap(&mut self, slot: u32) {
        let info = self.slots.get(slot);
        let next = self.slots.segments_from(info.seq + 1).next().map(|(_, next)| next);
        let (end, end_prior) = next.map_or((self.flash_next, self.flash_next), |next| {
            (next.first_frame, next.prior)
        });
        let from = self.min_ack().max(self.lapped_to);
        let (written_off, holes, missing_to) = (&self.written_off, &self.holes, self.missing_to);
        let uncounted = |from: FrameNo, to: u64| uncounted(written_off, holes, missing_to, from.0, to);
        let (delivered, in_hand) = self.delivered_and_held();
        let (mut loss, mut held) = (Loss::default(), Loss::default());
        let (mut expected, mut missing) = (from.max(info.first_frame), 0);
        let average = self.samples_of(1);
        let spare = &mut self.spare;
        spare.index.scan(&mut self.flash, slot, &mut spare.stream.block);
        spare.stream.rewind();
        let mut tally = Tally::default();
        // What a reader could not name it has counted as missing.
        let mut dictionary = DictionaryCheck::default();
        while info.state == State::Segment && spare.index.seq == info.seq as u32 {
            match spare
                .stream
                .next(&mut self.flash, &spare.index, &mut self.scratch.record)
            {
                Item::Record { kind: kind::START, len } => {
                    if let Ok(start) = record::parse::<Start>(&self.scratch.record[..len]) {
                        self.boots
                            .note(boot_key(&start.boot_id), start.mono_ms, start.wall_ms, start.clock);
                        missing += uncounted(expected, start.prior);
                        expected = expected.max(FrameNo(start.frame_no));
                        if dictionary.broken {
                            tally.forget();
                        } else {
                            tally.start(&start);
                        }
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
                        let is_held = is_in(&in_hand, frame.number);
                        let to = if is_held { &mut held } else { &mut loss };
                        if !is_in(&delivered, frame.number) {
                            to.add_frame(samples, self.boots.unix_ms(frame.boot, frame.time_ms));
                        }
                        expected = FrameNo(frame.number.0 + 1);
                    }
                }
                Item::Record {
                    kind: kind::TARGET | kind::DICT,
                    ..
                } => dictionary.record(),
                Item::Restart {
                    flags,
                    dictionary: count,
                } => {
                    dictionary.restart(flags, count);
                    tally.forget();
                }
                Item::Record { .. } => {}
                Item::TooLarge { .. } => tally.forget(),
                Item::End => break,
            }
        }
        missing += uncounted(expected, end_prior.0);
        loss.frames = loss.frames.saturating_add(missing);
        loss.samples = loss.samples.saturating_add(self.samples_of(missing));
        if loss.frames.saturating_add(held.frames) > 0 {
            self.give_up(Reason::Lapped, from, end.max(from), &held, &loss);
            self.counters.dropped_segments = self.counters.dropped_segments.saturating_add(1);
        }
        self.lapped_to = self.lapped_to.max(end);
    }
}
