//! Slots of write-once media: erased ahead of need, worn evenly.
//!
//! An erase takes half a second to two seconds, so one slot is kept erased ahead: [`Ring::erase_step`] erases a piece of it
//! whenever the host has time, and a commit that opens it finds it ready. If nobody calls it, the commit erases. Slots are used
//! in turn whatever becomes of them, so their erase counts differ by one, by as many more as erases were cut by a loss of power.
//!
//! # Invariants
//!
//! - A slot is erased only when nothing in it is still needed, or its frames are counted as lapped.
//! - The erase header is written after the erase has returned; a slot that has one and reads blank behind it is not erased again,
//!   so restarts wear nothing. In the run that opened it, it is: a program that failed may leave a block that reads blank, and
//!   must not be repeated.
//!
//! Costs 5 bytes per slot, on write-once media only.

use super::config::WhenFull;
use super::format::{EraseHeader, Medium};
use super::slots::{Slot, State};
use super::storage::Storage;
use super::{Geometry, Ring};
use alloc::boxed::Box;
use alloc::vec;

/// Erases that may fail one after the other before the commit is left to find a slot.
const REFUSALS: u64 = 3;

/// What is known of erases.
#[derive(Debug)]
pub(crate) struct Erases {
    /// By slot, [`UNKNOWN`] where no header was read; empty on rewritable media.
    counts: Box<[u32]>,
    /// By slot: opened for writing in this run, and not erased since.
    opened: Box<[bool]>,
    /// The slot being erased for this sequence number: pieces done, and whether it has its header.
    ahead: Option<Ahead>,
    /// Sequence numbers up to this one have slots that would not be erased.
    refused_to: u64,
}

const UNKNOWN: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Ahead {
    seq: u64,
    slot: u32,
    pieces: u32,
    ready: bool,
}

impl Erases {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        let slots = match geometry.medium {
            Medium::Rewritable => 0,
            Medium::WriteOnce => geometry.slots as usize,
        };
        Self {
            counts: vec![UNKNOWN; slots].into_boxed_slice(),
            opened: vec![false; slots].into_boxed_slice(),
            ahead: None,
            refused_to: 0,
        }
    }

    pub(crate) const fn ram_bytes(geometry: &Geometry) -> usize {
        match geometry.medium {
            Medium::Rewritable => 0,
            Medium::WriteOnce => geometry.slots as usize * (size_of::<u32>() + size_of::<bool>()),
        }
    }

    /// Least and most erased slot, of those known.
    pub(crate) fn range(&self) -> Option<(u32, u32)> {
        let known = || self.counts.iter().copied().filter(|&count| count != UNKNOWN);
        known().min().zip(known().max())
    }

    fn note(&mut self, slot: u32, count: u32) {
        if let Some(place) = self.counts.get_mut(slot as usize) {
            *place = count;
        }
    }

    fn set_opened(&mut self, slot: u32, opened: bool) {
        if let Some(place) = self.opened.get_mut(slot as usize) {
            *place = opened;
        }
    }

    /// Erases of a slot so far. A header that was cut off is taken for as worn as the worst.
    fn of(&self, slot: u32) -> u32 {
        let known = self.counts.get(slot as usize).copied();
        match known.filter(|&count| count != UNKNOWN) {
            Some(count) => count,
            None => self.range().map_or(0, |(_, most)| most),
        }
    }

    /// Whether the slot of `seq` is known not to erase.
    pub(crate) const fn refused(&self, seq: u64) -> bool {
        seq <= self.refused_to
    }
}

impl<S: Storage> Ring<S> {
    /// Whether [`Ring::erase_step`] has something to do: on write-once media, until one slot is erased ahead. Slots whose
    /// frames still wait are given up for it only when half of the open one is used.
    #[must_use]
    pub fn erase_due(&self) -> bool {
        !self.round.active && self.degraded_since.is_none() && self.slot_ahead().is_some()
    }

    /// Erases a piece of the next slot: one erase block, half a second to two seconds. Call it between commits while
    /// [`Ring::erase_due`]. A failure is counted, and the slot passed over.
    pub fn erase_step(&mut self) {
        if !self.erase_due() {
            return;
        }
        let Some((seq, slot)) = self.slot_ahead() else { return };
        let known = self.erases.ahead.filter(|ahead| ahead.seq == seq);
        let mut ahead = known.unwrap_or(Ahead {
            seq,
            slot,
            pieces: 0,
            ready: false,
        });
        if known.is_none() {
            if self.holds_unacknowledged(slot) {
                self.lap(slot);
            }
            self.slots.set(slot, Slot::default());
            ahead.ready = self.is_erased(slot);
        }
        if !ahead.ready {
            let done = self.flash.storage.erase_step(slot, ahead.pieces);
            let done = done.and_then(|done| {
                if done {
                    self.erases.set_opened(slot, false);
                    self.write_erase_header(slot)?;
                }
                Ok(done)
            });
            ahead.pieces += 1;
            let Ok(done) = done else {
                self.counters.write_errors += 1;
                self.counters.slots_failed += 1;
                self.erases.ahead = None;
                self.erases.refused_to = seq;
                return;
            };
            ahead.ready = done;
        }
        self.erases.ahead = Some(ahead);
    }

    /// Sequence number and slot to erase next, if there is a reason.
    fn slot_ahead(&self) -> Option<(u64, u32)> {
        let head = self.head?;
        if self.flash.geometry.medium == Medium::Rewritable {
            return None;
        }
        let after = self.slots.last_seq.max(self.erases.refused_to);
        if after - self.slots.last_seq >= REFUSALS {
            return None;
        }
        let slots = u64::from(self.flash.geometry.slots);
        let seq =
            (after + 1..after + slots).find(|&seq| self.slots.get(self.slots.slot_of(seq)).state != State::Bad)?;
        if self.erases.ahead.is_some_and(|ahead| ahead.seq == seq && ahead.ready) {
            return None;
        }
        let slot = self.slots.slot_of(seq);
        let wanted = !self.holds_unacknowledged(slot)
            || (self.config.when_full == WhenFull::DropOldest && head.index >= self.flash.geometry.blocks_per_slot / 2);
        (wanted && slot != head.slot).then_some((seq, slot))
    }

    /// Makes a slot of a write-once medium writable, unless it is.
    pub(crate) fn prepare(&mut self, slot: u32) -> Result<(), S::Error> {
        if self.flash.geometry.medium == Medium::Rewritable {
            return self.flash.storage.erase(slot);
        }
        let ready = self.is_ready(slot);
        self.erases.ahead = None;
        if !ready {
            self.flash.storage.erase(slot)?;
            self.counters.erases_in_commits += 1;
            self.write_erase_header(slot)?;
        }
        self.erases.set_opened(slot, true);
        Ok(())
    }

    /// Whether a slot of a write-once medium can be written as it is.
    pub(crate) fn is_ready(&mut self, slot: u32) -> bool {
        let ahead = self.erases.ahead;
        ahead.is_some_and(|ahead| ahead.slot == slot && ahead.ready) || self.is_erased(slot)
    }

    /// Reads how often the slot was erased.
    pub(crate) fn read_erase_count(&mut self, slot: u32) {
        if self.flash.geometry.medium == Medium::Rewritable {
            return;
        }
        if let Some(header) = self.erase_header(slot) {
            self.erases.note(slot, header.erase_count);
        }
    }

    fn erase_header(&mut self, slot: u32) -> Option<EraseHeader> {
        self.spare.stream.rewind();
        let block = &mut self.spare.stream.block;
        self.flash
            .storage
            .read(self.flash.geometry.block(slot, 0), block)
            .ok()?;
        let header = EraseHeader::parse(block).ok()?;
        (header.uuid == self.flash.uuid && header.slot == slot && header.geometry == self.flash.geometry)
            .then_some(header)
    }

    /// Whether the slot has an erase header and nothing behind it, and nothing was tried on it.
    fn is_erased(&mut self, slot: u32) -> bool {
        let opened = self.erases.opened.get(slot as usize).copied();
        if opened == Some(true) || self.erase_header(slot).is_none() {
            return false;
        }
        let geometry = self.flash.geometry;
        let block = &mut self.spare.stream.block;
        (geometry.first_block()..geometry.blocks_per_slot).all(|index| {
            let read = self.flash.storage.read(geometry.block(slot, index), block);
            read.is_ok() && block.iter().all(|&byte| byte == 0xff)
        })
    }

    fn write_erase_header(&mut self, slot: u32) -> Result<(), S::Error> {
        self.counters.slots_erased += 1;
        let erase_count = self.erases.of(slot).saturating_add(1).min(UNKNOWN - 1);
        let header = EraseHeader {
            uuid: self.flash.uuid,
            geometry: self.flash.geometry,
            slot,
            erase_count,
        };
        self.erases.note(slot, erase_count);
        self.spare.stream.rewind();
        let block = &mut self.spare.stream.block;
        header.emit(block);
        self.flash.storage.write(self.flash.geometry.block(slot, 0), block)
    }
}
