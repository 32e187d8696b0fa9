//! Series that stand in one batch under several keys.
//!
//! A series that was gone and came back has another reference, where frames with the old one may still wait. A batch of a backlog can hold
//! both, and each key has a slot. Slots are kept from batch to batch, so their order is not that of time: in grouped layout what came last
//! could stand first, or in an earlier slice, and a receiver refuses samples older than what it has. So the entries of such *twins* become
//! entries of one slot before they are sorted.
//!
//! Twins are made from the same texts, and hold the same: one series entry must not have floats and native histograms. Finding out that there
//! are none costs a sort of the slots that the batch uses, by a number that each has. No memory.

use super::{Dictionary, Slot};
use crate::remote_write::batch::Batch;
use core::cmp::Ordering;

/// Equal for twins. Labels are compared only where check values are equal, which those of different texts are as good as never.
fn order(slots: &[Slot], refs: &[u16], one: u16, other: u16) -> Ordering {
    let (one, other) = (slots.get(usize::from(one)), slots.get(usize::from(other)));
    let check = |slot: Option<&Slot>| slot.map(|slot| slot.check);
    let rest = |slot: Option<&Slot>| {
        let slot = slot?;
        let at = slot.refs_at as usize;
        Some((slot.holds as u8, refs.get(at..at + usize::from(slot.refs))?))
    };
    check(one).cmp(&check(other)).then_with(|| rest(one).cmp(&rest(other)))
}

impl Dictionary {
    /// Brings the slots of the batch into an order in which twins are side by side; whether there are any.
    fn sort_twins(&mut self) -> bool {
        let Self { used, slots, refs, .. } = self;
        used.sort_unstable_by(|&a, &b| order(slots, refs, a, b).then(a.cmp(&b)));
        !used.is_sorted_by(|&a, &b| order(slots, refs, a, b).is_lt())
    }

    /// The first of the twins of slot `number` of the batch, itself if it has none.
    fn first_twin(&self, number: u16) -> u16 {
        let before = |&other: &u16| order(&self.slots, &self.refs, other, number).is_lt();
        let first = self.used.partition_point(before);
        self.used.get(first).copied().unwrap_or(number)
    }
}

impl Batch {
    /// Makes one series of those that are the same.
    pub(in crate::remote_write::batch) fn join_twins(&mut self) {
        if !self.dictionary.sort_twins() {
            return;
        }
        for entry in self.entries.iter_mut() {
            entry.slot = self.dictionary.first_twin(entry.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::SeriesText;
    use crate::frame::{Frame, FrameNo};
    use crate::relabel::Relabel;
    use crate::remote_write::batch::{BatchLimits, Layout, Place};
    use crate::remote_write::identity::Identity;
    use crate::remote_write::response::Protocol;
    use crate::remote_write::testkit::{Frames, NO_BOUNDS, Scrape, Sent, decode, label, limits};
    use crate::sample::{MetricType, SeriesRef, TargetRef};
    use alloc::vec::Vec;

    const LIMITS: BatchLimits = limits(10);

    /// Gathers from frame `first` on.
    fn gather(batch: &mut Batch, source: &mut Frames, first: u64, protocol: Protocol) {
        let mut frame = Frame::with_capacity(LIMITS.frame_samples);
        let mut identity = Identity::new(&[], Relabel::default());
        batch.begin(Place::before(FrameNo(first)), protocol);
        source.position = first;
        batch
            .gather(source, &mut frame, &mut identity, &NO_BOUNDS)
            .expect("the medium works");
    }

    /// Series 1 and 2 are the same: frames of it under 1, 2, 1, 2. Slots are those of a batch that knew 2 alone.
    fn known_under_two_references(protocol: Protocol) -> Batch {
        let mut source = Frames::new(3);
        let text = SeriesText {
            name: "metric_1",
            body: r#"n="1""#,
        };
        let again = source
            .catalogue
            .define_at(SeriesRef(2), TargetRef(0), text, MetricType::Gauge);
        assert!(again.is_ok());
        source.scrapes.push(Scrape::new(0, 1_000, &[(2, 100)]));
        let mut batch = Batch::new(LIMITS, 1);
        gather(&mut batch, &mut source, 0, protocol);
        for (number, series) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
            let samples = [(0, number), (series, 100 + number)];
            let scrape = Scrape::new(number as u64, 1_000 + 1_000 * number, &samples);
            source.scrapes.push(scrape);
        }
        gather(&mut batch, &mut source, 1, protocol);
        batch
    }

    fn times_of(sent: &[Sent], name: &str) -> Vec<Vec<i64>> {
        let of_it = sent.iter().filter(|s| label(s, "__name__") == Some(name));
        of_it
            .map(|s| s.samples.iter().map(|&(_, time)| time).collect())
            .collect()
    }

    #[test]
    fn a_series_that_came_back_under_another_reference_is_one_entry_by_time() {
        for protocol in [Protocol::V1, Protocol::V2] {
            let mut batch = known_under_two_references(protocol);
            batch.seal(Layout::Grouped);
            let sent = decode(batch.body(), protocol);
            for name in ["metric_0", "metric_1", "up"] {
                assert_eq!(times_of(&sent, name), [[2_000, 3_000, 4_000, 5_000]], "{name}");
            }
        }
    }

    #[test]
    fn its_samples_are_in_order_from_slice_to_slice() {
        let mut batch = known_under_two_references(Protocol::V2);
        batch.cut(Layout::Grouped);
        let mut times = Vec::new();
        while batch.seal_slice(3, None).is_some() {
            times.extend(times_of(&decode(batch.body(), Protocol::V2), "metric_1").concat());
            batch.settle();
        }
        assert_eq!(times, [2_000, 3_000, 4_000, 5_000]);
    }
}
