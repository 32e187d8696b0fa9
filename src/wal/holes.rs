//! Frames that are missing and counted: whoever misses them again does not count them again.
//!
//! A range for each hole, not one number before which all is counted: frames between two holes may be lost later, and are to be
//! counted then. DROP records keep the ranges on flash.
//!
//! # Limits
//!
//! [`MAX_HOLES`] ranges, 16 bytes each. One more takes the place of the lowest: then everything before its end is taken to be counted.

use super::format::Geometry;
use super::storage::Storage;
use super::{Reason, Ring, WrittenOff, without_left_out};
use crate::frame::FrameNo;

/// Holes remembered.
pub(crate) const MAX_HOLES: usize = 8;

/// Ranges that neither overlap nor touch, in rising order: from the first to before the second.
pub(crate) type Holes = heapless::Vec<(u64, u64), MAX_HOLES>;

/// Room for all ranges of two lists.
type Ranges = heapless::Vec<(u64, u64), { 2 * MAX_HOLES }>;

/// Adds a range. Gives the end of the lowest one if that had to make room.
fn add(holes: &mut Holes, from: u64, end: u64) -> Option<u64> {
    let (mut from, mut end) = (from, end);
    holes.retain(|hole| {
        let apart = hole.1 < from || hole.0 > end;
        if !apart {
            (from, end) = (from.min(hole.0), end.max(hole.1));
        }
        apart
    });
    let mut lowest = None;
    if holes.is_full() {
        if end < holes[0].0 {
            return Some(end);
        }
        lowest = Some(holes.remove(0).1);
    }
    let at = holes.iter().filter(|hole| hole.0 < from).count();
    // There is room: one has just left if there was none.
    let _ = holes.insert(at, (from, end));
    lowest
}

/// Of the numbers from `from` to before `to`, those that were frames nobody has counted.
pub(crate) fn uncounted(written_off: &WrittenOff, holes: &Holes, missing_to: FrameNo, from: u64, to: u64) -> u64 {
    let from = from.max(missing_to.0);
    let mut ranges = Ranges::new();
    // As many as both lists hold.
    ranges.extend(written_off.iter().chain(holes).copied());
    ranges.sort_unstable();
    let (mut at, mut numbers) = (from, 0);
    for (first, end) in ranges {
        numbers += first.min(to).saturating_sub(at);
        at = at.max(end);
    }
    without_left_out(numbers + to.saturating_sub(at))
}

impl<S: Storage> Ring<S> {
    /// Of the numbers from `from` to before `to`, those that were frames nobody has counted.
    pub(crate) fn uncounted(&self, from: u64, to: u64) -> u64 {
        uncounted(&self.written_off, &self.holes, self.missing_to, from, to)
    }

    /// Frames that are missing from `from` to before `to` are counted, or about to be.
    pub(crate) fn note_hole(&mut self, from: u64, to: u64) {
        let passed = self.min_ack().max(self.lapped_to).max(self.missing_to).0;
        self.holes.retain(|hole| hole.1 > passed);
        if from < to
            && let Some(end) = add(&mut self.holes, from, to)
        {
            self.missing_to = self.missing_to.max(FrameNo(end));
        }
        self.holes_news = true;
    }

    /// Mount has found all there is: numbers that will be given out again are no holes.
    pub(crate) fn settle_holes(&mut self) {
        let next = self.next;
        self.missing_to = self.missing_to.min(next);
        self.holes.retain(|hole| hole.0 < next.0);
        for hole in &mut self.holes {
            hole.1 = hole.1.min(next.0);
        }
        self.holes_news = false;
    }

    /// The hole at place `at` as a DROP record that adds nothing, up to frame `limit`; `None`: nothing of it is before that.
    pub(crate) fn hole_record(&self, at: usize, limit: u64) -> Option<super::record::Drop> {
        let &(first, end) = self.holes.get(at)?;
        let end = end.min(limit);
        (first < end).then(|| super::record::Drop {
            first_frame: first,
            last_frame: end - 1,
            samples: 0,
            reason: Reason::Damaged as u8,
            frames: 0,
            first_ms: 0,
            last_ms: 0,
        })
    }
}

/// Blocks that control records other than definitions may take without being missed.
pub(crate) fn control_room(bytes: usize, geometry: &Geometry) -> usize {
    bytes.div_ceil(geometry.payload_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_between_holes_are_left_to_count() {
        let (mut written_off, mut holes) = (WrittenOff::new(), Holes::new());
        assert_eq!(add(&mut holes, 10, 20), None);
        assert_eq!(add(&mut holes, 30, 40), None);
        let _ = written_off.push_back((15, 32));
        let count = |missing_to, from, to| uncounted(&written_off, &holes, FrameNo(missing_to), from, to);
        assert_eq!(count(0, 5, 50), 5 + 10);
        assert_eq!(count(45, 5, 50), 5);
        assert_eq!(count(0, 12, 35), 0);
        assert_eq!(count(0, 50, 45), 0);
        assert_eq!(
            count(0, 45, 50 + super::super::FRAME_NO_SKIP),
            5,
            "those a mount left out were no frames"
        );
    }

    #[test]
    fn holes_grow_together_and_the_lowest_makes_room() {
        let mut holes = Holes::new();
        for at in (0..MAX_HOLES as u64).rev() {
            assert_eq!(add(&mut holes, 10 + at * 10, 15 + at * 10), None);
        }
        assert_eq!(add(&mut holes, 15, 20), None, "between two");
        assert_eq!(holes[0], (10, 25));
        assert_eq!(add(&mut holes, 1, 2), None);
        assert_eq!(add(&mut holes, 4, 5), Some(2));
        assert_eq!(add(&mut holes, 0, 1), Some(1));
        assert_eq!(holes.len(), MAX_HOLES);
        assert!(holes.is_sorted());
    }
}
