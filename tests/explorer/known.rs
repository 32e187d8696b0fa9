//! What a run knows of itself: the truth against which an image cut from it is held.

use super::device::Device;
use tidegate::wal::{Counters, Loss, Ring};

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
}

/// Everything that was ever done to a ring.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// In rising number.
    pub frames: Vec<Told>,
    /// Acknowledgements given, by remote, and those that a sync has covered.
    pub acked: [u64; 2],
    pub acked_durable: [u64; 2],
    /// Losses reported from outside, frames refused; and those that a sync has covered.
    pub refused: u64,
    pub refused_durable: u64,
    /// Lapped frames by the ring's count, as far as they are marked here.
    lapped_seen: u64,
}

impl Known {
    /// Takes note of a frame. A number is given out again only if nothing with it can be on the medium; after rot, if nothing
    /// with it was found there.
    pub fn append(&mut self, told: Told, lax: bool) {
        while !lax && self.frames.last().is_some_and(|last| last.number >= told.number) {
            self.frames.pop();
        }
        let at = self.frames.partition_point(|other| other.number <= told.number);
        self.frames.insert(at, told);
    }

    /// A mount has counted so far.
    pub fn mounted(&mut self, counters: &Counters) {
        self.lapped_seen = counters.frames_lapped;
    }

    /// Marks what the ring says it has lapped since: the oldest.
    pub fn settle(&mut self, ring: &Ring<Device>) {
        let lapped = ring.counters().frames_lapped;
        let mut fresh = lapped - self.lapped_seen;
        self.lapped_seen = lapped;
        let from = ring.min_ack().0;
        for told in self.frames.iter_mut().skip_while(|told| told.number < from) {
            if fresh == 0 {
                return;
            }
            told.may = true;
            if told.durable && !told.owed {
                told.owed = true;
                fresh -= 1;
            }
        }
    }

    /// Everything before `to` is on the medium and synced.
    pub fn synced(&mut self, from: u64, to: u64) {
        for told in self.frames.iter_mut().rev().take_while(|told| told.number >= from) {
            told.durable |= told.number < to;
        }
        self.refused_durable = self.refused;
    }

    /// The power is back: of all frames these are left, and `acked` of the acknowledgements.
    pub fn survive(&mut self, present: &[u64], acked: [u64; 2], holding: usize) {
        let read_from = acked[..holding].iter().copied().min().unwrap_or(0);
        let needed_from = self.needed_from(holding);
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
        }
        self.acked_durable = acked;
        self.refused_durable = 0;
    }

    /// Frames below it nobody needs any more.
    pub fn needed_from(&self, holding: usize) -> u64 {
        self.acked[..holding].iter().copied().min().unwrap_or(0)
    }

    /// Frame after the last durable one.
    pub fn durable_end(&self) -> u64 {
        let last = self.frames.iter().rev().find(|told| told.durable);
        last.map_or(0, |told| told.number + 1)
    }

    /// At least and at most how many frames a ring must have counted as lost in which `present` is left, read from
    /// `read_from` on.
    pub fn losses(&self, present: &[u64], read_from: u64, holding: usize) -> (u64, u64) {
        let needed_from = self.needed_from(holding);
        let (mut least, mut most) = (self.refused_durable, self.refused);
        let mut at = 0;
        for told in &self.frames {
            while present.get(at).is_some_and(|&number| number < told.number) {
                at += 1;
            }
            if present.get(at) == Some(&told.number) {
                continue;
            }
            least += u64::from(told.owed || (told.durable && told.number >= needed_from));
            most += u64::from(told.may || told.number >= read_from);
        }
        (least, most)
    }
}

/// Frames lost, whatever the reason.
pub fn lost(counters: &Counters) -> u64 {
    counters.losses.iter().map(|loss: &Loss| loss.frames).sum()
}
