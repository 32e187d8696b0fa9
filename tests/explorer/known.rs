//! What a run knows of itself: the truth against which an image cut from it is held.

use super::device::Device;
use tidegate::wal::{Counters, Loss, Reason, Ring};

/// A frame that was appended.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub number: u64,
    /// See [`super::world::print`].
    pub print: u64,
    /// Wall time, if it was known at the scrape.
    pub unix_ms: Option<i64>,
    /// A sync has covered it, or it was read after a cut.
    pub durable: bool,
    /// Lost while nobody had it: must be counted wherever it is not there.
    pub owed: bool,
    /// May have been counted as lost.
    pub may: bool,
    /// Given up while a sender had it: lost, and to be counted, unless it is acknowledged yet.
    pub lent: bool,
    /// Before the end of a hole that the ring could not remember among too many: should this be lost as well, nobody looks there again.
    pub shadowed: bool,
}

/// Everything that was ever done to a ring.
#[derive(Debug, Default)]
pub struct Known {
    /// In rising number.
    pub frames: Vec<Told>,
    /// Acknowledgements given, by remote, and those that a sync has covered.
    pub acked: [u64; 2],
    pub acked_durable: [u64; 2],
    /// First frame that each remote has not read since the mount.
    pub read_to: [u64; 2],
    /// Remotes that hold the tail.
    pub holding: usize,
    /// Losses reported from outside, frames refused; those since the mount; and those that a sync has covered.
    refused: u64,
    refused_since: u64,
    refused_durable: u64,
}

impl Known {
    /// Makes this a copy; allocates nothing in the long run.
    pub fn copy_from(&mut self, from: &Self) {
        let mut frames = std::mem::take(&mut self.frames);
        frames.clone_from(&from.frames);
        *self = Self { frames, ..*from };
    }

    /// Takes note of a frame. A number is given out again only if nothing with it can be on the medium; after rot, if nothing
    /// with it was found there.
    pub fn append(&mut self, told: Told, lax: bool) {
        while !lax && self.frames.last().is_some_and(|last| last.number >= told.number) {
            self.frames.pop();
        }
        let at = self.frames.partition_point(|other| other.number <= told.number);
        self.frames.insert(at, told);
    }

    /// A loss reported from outside, a frame refused.
    pub fn refuse(&mut self) {
        self.refused += 1;
        self.refused_since += 1;
    }

    /// Marks what the ring says it has given up since.
    pub fn settle(&mut self, ring: &Ring<Device>) {
        let (from, to) = (ring.min_ack().0, ring.given_up_to().0);
        let held = |remote| ring.acknowledged(remote).0.max(self.read_to[remote]);
        let held_to = (0..self.holding).map(held).min().unwrap_or(0);
        let given_up = |told: &&mut Told| told.number < to;
        for told in self
            .frames
            .iter_mut()
            .skip_while(|told| told.number < from)
            .take_while(given_up)
        {
            told.may = true;
            if told.durable && !told.owed && !told.lent {
                told.lent = told.number < held_to;
                told.owed = !told.lent;
            }
        }
    }

    /// The ring has counted more frames that are missing than it remembers: what stands before the lowest of them is not counted
    /// should it be lost as well.
    pub fn shade(&mut self, ring: &Ring<Device>) {
        let to = ring.missing_to().0;
        let missing = |told: &&Told| told.number < to && !told.durable;
        let hole = self.frames.iter().rev().find(missing).map(|told| told.number);
        for told in self.frames.iter_mut().take_while(|told| Some(told.number) < hole) {
            told.shadowed |= told.durable;
        }
    }

    /// Everything before `to` is on the medium and synced.
    pub fn synced(&mut self, from: u64, to: u64) {
        for told in self.frames.iter_mut().rev().take_while(|told| told.number >= from) {
            told.durable |= told.number < to;
        }
        self.refused_durable += std::mem::take(&mut self.refused_since);
    }

    /// The medium has done more than lose what was not synced: any frame may be gone, and any count.
    pub fn distrust(&mut self) {
        for told in &mut self.frames {
            told.owed = false;
            told.durable = false;
            told.may = true;
        }
        self.refused_durable = 0;
    }

    /// The power is back: of all frames these are left, and `acked` of the acknowledgements.
    pub fn survive(&mut self, present: &[u64], acked: [u64; 2]) {
        let read_from = acked[..self.holding].iter().copied().min().unwrap_or(0);
        let needed_from = self.needed_from();
        let mut at = 0;
        for told in &mut self.frames {
            while present.get(at).is_some_and(|&number| number < told.number) {
                at += 1;
            }
            let here = present.get(at) == Some(&told.number);
            if !here && told.number >= read_from {
                told.may = true;
                told.owed |= told.durable && told.number >= needed_from;
            }
            // What was lapped in memory only is not lapped.
            told.owed &= !here;
            told.durable = here;
            told.lent = false;
        }
        self.acked_durable = acked;
        self.read_to = acked;
        self.refused_since = 0;
    }

    /// Frames below it nobody needs any more.
    pub fn needed_from(&self) -> u64 {
        self.acked[..self.holding].iter().copied().min().unwrap_or(0)
    }

    /// Frame after the last durable one.
    pub fn durable_end(&self) -> u64 {
        let last = self.frames.iter().rev().find(|told| told.durable);
        last.map_or(0, |told| told.number + 1)
    }

    /// At least and at most how many frames a ring must have counted as lost in which `present` is left, read from
    /// `read_from` on.
    pub fn losses(&self, present: &[u64], read_from: u64) -> (u64, u64) {
        let needed_from = self.needed_from();
        let (mut least, mut most) = (self.refused_durable, self.refused);
        let mut at = 0;
        for told in &self.frames {
            while present.get(at).is_some_and(|&number| number < told.number) {
                at += 1;
            }
            if present.get(at) == Some(&told.number) {
                continue;
            }
            let lost = told.owed || (told.durable && told.number >= needed_from);
            least += u64::from(lost && !told.shadowed);
            most += u64::from(told.may || told.number >= read_from);
        }
        (least, most)
    }
}

/// Frames lost that had been in the ring, whatever the reason: not those of [`Reason::Crash`], which an estimate takes to have
/// been in memory.
pub fn lost(counters: &Counters) -> u64 {
    let all: u64 = counters.losses.iter().map(|loss: &Loss| loss.frames).sum();
    all - counters.loss(Reason::Crash).frames
}
