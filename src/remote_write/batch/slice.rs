//! A batch that is larger than a request goes out in *slices*, each a request of its own.
//!
//! Labels are paid once per series and request. Where a request may hold few samples, whole frames would make it hold one or two
//! of each series. So more frames are gathered than one request takes, entries are brought into the order of the layout (by
//! series, then by time), and each slice is the next of them: all samples of some series, but for the series at its borders. What a
//! series gets stays in order, as slices go one after the other.
//!
//! ```text
//! entries   | settled |  request in hand  |      later slices      |
//!           0        from                 to                     len
//! ```
//!
//! - What waits at the end of the body stays there until the last slice is settled; a slice is written in front of it. Whatever
//!   the batch holds fits as a whole, so a slice does, but for strings whose references are longer than in the
//!   whole: a slice that would not fit ends earlier.
//! - A sample and its exemplars are in one slice.
//! - Samples that may be stored already ([`Batch::doubt`]) share no slice with others.
//! - A slice that was refused goes in parts ([`Batch::split`]) before any later one.
//! - Nothing is gathered again: smaller slices, another message, samples grown too old are all made of what is there.
//!
//! It takes no memory beside the batch's own: how many requests that may hold is up to [`BatchLimits::samples`](super::BatchLimits::samples). A loss of
//! power between two slices leaves nothing behind: the frames were not acknowledged, and all of the batch is sent again.

use super::carried::Content;
use super::{Batch, Counts, Entry, Layout};
use crate::clock::UnixMillis;
use crate::metadata::Metadata;
use crate::remote_write::proto;
use crate::remote_write::response::Protocol;
use core::ops::Range;

/// How a refused slice is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parts {
    /// A first one of so many samples, then the rest.
    Halves(Option<usize>),
    /// The samples of one target and time each: a frame of it.
    Moments,
}

/// Where a batch that is sent in slices stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    layout: Layout,
    /// Entries before it are settled.
    from: usize,
    /// Where the request in hand ends.
    to: usize,
    /// What the request in hand holds.
    counts: Counts,
    /// Entries before it may be stored already, if they are not settled.
    doubt_end: usize,
    /// How entries before the place are sent.
    parts: Option<(Parts, usize)>,
}

impl Cut {
    /// Takes note that an entry is taken out at `at`.
    fn shift(&mut self, at: usize, removed: usize) {
        // `at` is its place before anything was taken out.
        let place = at - removed;
        if place < self.doubt_end {
            self.doubt_end -= 1;
        }
        if let Some((_, end)) = &mut self.parts
            && place < *end
        {
            *end -= 1;
        }
    }
}

impl Batch {
    /// Makes ready to go in slices; the first is sealed by [`Batch::seal_slice`].
    pub fn cut(&mut self, layout: Layout) {
        self.sort(layout);
        self.cut = Some(Cut {
            layout,
            from: 0,
            to: 0,
            counts: Counts::default(),
            doubt_end: 0,
            parts: None,
        });
    }

    /// Whether it goes in slices.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// Whether a slice of it was settled, or may be stored: gathered anew it would be sent twice.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.cut.is_some_and(|cut| cut.from > 0 || cut.doubt_end > 0)
    }

    /// Whether a slice of it was settled.
    #[must_use]
    pub fn has_settled(&self) -> bool {
        self.cut.is_some_and(|cut| cut.from > 0)
    }

    /// Whether the request in hand is the last slice.
    #[must_use]
    pub fn is_last_slice(&self) -> bool {
        self.cut.is_none_or(|cut| cut.to == self.entries.len())
    }

    /// What the request in hand holds: the batch, or the slice sealed last.
    #[must_use]
    pub fn request_counts(&self) -> Counts {
        self.cut.map_or(self.counts, |cut| cut.counts)
    }

    /// Samples and native histograms of the request in hand.
    #[must_use]
    pub fn request_samples(&self) -> usize {
        self.request_counts().items()
    }

    /// Oldest and newest timestamp of the request in hand.
    #[must_use]
    pub fn request_range(&self) -> Option<(UnixMillis, UnixMillis)> {
        let Some(cut) = self.cut else {
            return self.time_range();
        };
        let entries = self.entries.get(cut.from..cut.to)?.iter();
        let times = entries.map(|entry| self.time_of(entry));
        Some((UnixMillis(times.clone().min()?), UnixMillis(times.max()?)))
    }

    /// Writes the next slice of at most `samples` samples; `None`: none is left. `metadata` as for [`Batch::seal_with`].
    pub fn seal_slice(&mut self, samples: usize, metadata: Option<&Metadata>) -> Option<Layout> {
        while self.cut.is_some_and(|cut| cut.from < self.entries.len()) {
            let cut = self.choose(samples.max(1))?;
            if cut.to > cut.from {
                self.write(cut.layout, cut.from..cut.to, metadata);
                return Some(cut.layout);
            }
            self.leave_out_first();
        }
        None
    }

    /// The samples of the request in hand are done with; whether any are left.
    pub fn settle(&mut self) -> bool {
        let Some(cut) = &mut self.cut else {
            return false;
        };
        self.counts = self.counts.less(cut.counts);
        cut.from = cut.to;
        cut.counts = Counts::default();
        cut.parts = match cut.parts {
            Some((_, end)) if cut.from >= end => None,
            Some((Parts::Halves(_), end)) => Some((Parts::Halves(None), end)),
            parts => parts,
        };
        cut.from < self.entries.len()
    }

    /// The slice in hand may be stored already.
    pub fn doubt(&mut self) {
        if let Some(cut) = &mut self.cut {
            cut.doubt_end = cut.doubt_end.max(cut.to);
        }
    }

    /// Whether the slice in hand may be stored already.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.cut.is_some_and(|cut| cut.from < cut.doubt_end)
    }

    /// The slice in hand goes in parts: by the frame if it may be stored already, else in two halves.
    pub fn split(&mut self, in_doubt: bool) {
        let Some(mut cut) = self.cut else { return };
        let parts = if in_doubt {
            self.sort_by_moment(cut.from..cut.to);
            Parts::Moments
        } else {
            Parts::Halves(Some(cut.counts.items().div_ceil(2)))
        };
        cut.parts = Some((parts, cut.to));
        self.cut = Some(cut);
    }

    /// Whether the request in hand is a part of a slice that was refused.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.cut.is_some_and(|cut| cut.parts.is_some())
    }

    /// Whether the request in hand holds samples of one frame only.
    #[must_use]
    pub fn is_of_one_frame(&self) -> bool {
        let of_moment = |cut: Cut| matches!(cut.parts, Some((Parts::Moments, _)));
        self.frames <= 1 || self.cut.is_some_and(of_moment)
    }

    /// Takes what is older than `oldest` out of what is not settled, and counts it.
    pub fn expire(&mut self, oldest: UnixMillis) {
        self.leave_out(|batch, entry| {
            let time = batch.time_of(entry);
            let old = time < oldest.0;
            if old && !entry.is_exemplar() {
                batch.tally.too_old += 1;
                batch.tally.too_old_span.add(time);
            }
            old
        });
    }

    /// What is not settled goes as another message.
    pub fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        if protocol == Protocol::V2 {
            return;
        }
        let mut with_it = false;
        self.leave_out(|batch, entry| {
            if !entry.is_exemplar() {
                let message = match entry.content() {
                    Content::Histogram(range) => batch.body.get(range),
                    _ => None,
                };
                with_it = message.and_then(proto::has_custom_buckets) == Some(true);
                batch.tally.custom_buckets += u64::from(with_it);
            }
            with_it
        });
    }

    /// Chooses the next slice and makes its series part of the request.
    fn choose(&mut self, samples: usize) -> Option<Cut> {
        let mut cut = self.cut?;
        let mut end = self.entries.len();
        if cut.from < cut.doubt_end {
            end = end.min(cut.doubt_end);
        }
        let mut limit = samples;
        let mut moment = None;
        if let Some((parts, place)) = cut.parts {
            end = end.min(place);
            match parts {
                Parts::Halves(half) => limit = limit.min(half.unwrap_or(limit)),
                Parts::Moments => moment = self.entries.get(cut.from).map(|entry| self.moment(entry)),
            }
        }
        self.dictionary.begin_slice();
        cut.to = cut.from;
        cut.counts = Counts::default();
        let (mut bytes, mut last) = (0, None);
        while cut.to < end && cut.counts.items() < limit {
            let group = cut.to..self.behind_sample(cut.to, end);
            let Some(&first) = self.entries.get(group.start) else {
                break;
            };
            if moment.is_some_and(|moment| moment != self.moment(&first)) {
                break;
            }
            let before = self.dictionary.mark();
            let begins = cut.layout == Layout::Live || last != Some(first.slot);
            let more = self.open_again(&first, begins) + self.content_bytes(group.clone());
            if self.fits(bytes + more).is_err() {
                self.dictionary.undo(before);
                break;
            }
            for entry in self.entries.get(group.clone()).unwrap_or_default() {
                cut.counts.add(entry);
            }
            (bytes, last, cut.to) = (bytes + more, Some(first.slot), group.end);
        }
        self.cut = Some(cut);
        Some(cut)
    }

    /// Where the exemplars of the sample at `at` end.
    fn behind_sample(&self, at: usize, end: usize) -> usize {
        let behind = self.entries.get(at + 1..end).unwrap_or_default();
        at + 1 + behind.iter().take_while(|entry| entry.is_exemplar()).count()
    }

    /// Makes the series of `entry` part of the request; the bytes of a series entry if one begins.
    fn open_again(&mut self, entry: &Entry, begins: bool) -> usize {
        let Some(&slot) = self.dictionary.slot(entry.slot) else {
            return 0;
        };
        if !slot.is_used() {
            self.dictionary
                .use_slot(entry.slot, (slot.target, slot.kind), self.protocol);
        }
        if begins { self.series_bytes(entry) } else { 0 }
    }

    /// The first sample does not fit an empty request: none will ever hold it.
    fn leave_out_first(&mut self) {
        let mut left_out = 0;
        self.leave_out(|batch, entry| {
            let is_first = left_out == 0 || (left_out == 1 && entry.is_exemplar());
            if left_out == 0 {
                batch.tally.too_large += 1;
                batch.tally.too_large_span.add(batch.time_of(entry));
            }
            left_out = if is_first { 1 } else { 2 };
            is_first
        });
    }

    /// Takes entries out of what is not settled; the request in hand is no more.
    fn leave_out(&mut self, mut unwanted: impl FnMut(&mut Self, &Entry) -> bool) {
        let Some(mut cut) = self.cut else { return };
        let mut kept = cut.from;
        for at in cut.from..self.entries.len() {
            let Some(&entry) = self.entries.get(at) else { break };
            if unwanted(self, &entry) {
                let mut one = Counts::default();
                one.add(&entry);
                self.counts = self.counts.less(one);
                cut.shift(at, at - kept);
            } else {
                if let Some(place) = self.entries.get_mut(kept) {
                    *place = entry;
                }
                kept += 1;
            }
        }
        self.entries.truncate(kept);
        cut.parts = cut.parts.filter(|&(_, end)| end > cut.from);
        cut.to = cut.from;
        cut.counts = Counts::default();
        self.cut = Some(cut);
    }

    fn time_of(&self, entry: &Entry) -> i64 {
        entry.times(&self.times, &[]).0
    }

    /// Time and target: what one frame has in common.
    fn moment(&self, entry: &Entry) -> (i64, u8) {
        let target = self.dictionary.slot(entry.slot).map_or(0, |slot| slot.target.0);
        (self.time_of(entry), target)
    }

    fn sort_by_moment(&mut self, range: Range<usize>) {
        let (dictionary, times) = (&self.dictionary, &self.times);
        let key = |entry: &Entry| {
            let time = times.get(usize::from(entry.time_index())).copied();
            let target = dictionary.slot(entry.slot).map(|slot| slot.target.0);
            (time, target, entry.slot, entry.time_index(), entry.is_exemplar())
        };
        if let Some(entries) = self.entries.get_mut(range) {
            entries.sort_unstable_by_key(key);
        }
    }
}

#[cfg(test)]
mod tests;
