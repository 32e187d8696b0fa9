//! Frames that a sender has in hand when the ring gives them up.
//!
//! They are not lost yet: the request they are in may be answered well. They are put aside with their sums, and counted when the
//! sender goes back to read them again, or when the ring is closed; once they are acknowledged they are forgotten. The ledger on flash
//! counts them at once, as nobody else could after a loss of power, and takes them back (a DELIVERED record) once they are acknowledged.
//!
//! # Limits
//!
//! [`MAX_HELD`] groups; one more is counted at once. After a loss of power what was in hand counts as lost though it may have been
//! delivered: whether it was, only the receiver knows. If a group is acknowledged in part and then given up, the rest of it is counted as it was read, from
//! [`Given`]; only where more frames are in hand than it remembers, or some of them were delivered ahead of others, in proportion.

use super::ahead::{keep_part, overlap};
use super::counters::{Loss, Reason};
use super::storage::Storage;
use super::{FRAME_NO_SKIP, Ring, without_left_out};
use crate::frame::FrameNo;

/// Groups put aside.
pub(crate) const MAX_HELD: usize = 4;

/// Frames given up while a sender had them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    reason: Reason,
    from: FrameNo,
    end: FrameNo,
    loss: Loss,
}

/// Runs of frames with as many samples that a reader remembers: any one request, unless it is of a thousand tiny scrapes.
const GIVEN_RUNS: usize = 128;

/// The latest frames a reader has given out, and their samples: 2 KiB.
#[derive(Debug, Default)]
pub(crate) struct Given {
    runs: heapless::Deque<Run, GIVEN_RUNS>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    frames: u32,
    samples: u32,
}

impl Run {
    fn end(&self) -> u64 {
        self.first + u64::from(self.frames)
    }
}

impl Given {
    /// A frame was given out, for the first time or again. What is passed over is not asked for: it was lost before.
    pub(crate) fn note(&mut self, number: FrameNo, samples: u32) {
        if self.runs.back().is_some_and(|last| number.0 < last.end()) {
            return;
        }
        if let Some(last) = self.runs.back_mut()
            && last.end() == number.0
            && last.samples == samples
            && last.frames < u32::MAX
        {
            last.frames += 1;
            return;
        }
        if self.runs.is_full() {
            self.runs.pop_front();
        }
        let first = number.0;
        // There is room: the oldest has just left.
        let _ = self.runs.push_back(Run {
            first,
            frames: 1,
            samples,
        });
    }

    /// The next frame is this one: frames between what is remembered and what follows would be missing in a sum.
    pub(crate) fn goes_to(&mut self, at: FrameNo) {
        let known = self.runs.front().zip(self.runs.back());
        if known.is_some_and(|(first, last)| at.0 < first.first || at.0 > last.end()) {
            self.forget();
        }
    }

    pub(crate) fn forget(&mut self) {
        self.runs.clear();
    }

    /// Frames from `from` to before `to` that were given out, and their samples; `None`: not all of them are remembered.
    fn sum(&self, from: FrameNo, to: FrameNo) -> Option<(u64, u64)> {
        let covers = self.runs.front()?.first <= from.0 && self.runs.back()?.end() >= to.0;
        let part = |run: &Run| run.end().min(to.0).saturating_sub(run.first.max(from.0));
        let add = |(frames, samples): (u64, u64), run: &Run| {
            (frames + part(run), samples + part(run) * u64::from(run.samples))
        };
        covers.then(|| self.runs.iter().fold((0, 0), add))
    }
}

/// Samples that left the ring before a remote that does not hold the tail had them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Scrapes.
    pub frames: u64,
    /// Samples in them, estimated by the average.
    pub samples: u64,
    /// Those before this frame are counted.
    to: FrameNo,
}

impl<S: Storage> Ring<S> {
    /// Frames from `from` to before `to` that a sender has read and their samples, if they are remembered.
    pub(crate) fn given(&self, from: FrameNo, to: FrameNo) -> Option<(u64, u64)> {
        if to <= from {
            return Some((0, 0));
        }
        self.readers
            .iter()
            .flatten()
            .find_map(|reader| reader.given.sum(from, to))
    }

    /// Counts frames that are given up, but for those that senders have in hand, whose sums are `held`.
    pub(crate) fn give_up(&mut self, reason: Reason, from: FrameNo, end: FrameNo, held: &Loss, rest: &Loss) {
        if reason == Reason::Lapped {
            self.counters.frames_lapped += held.frames + rest.frames;
        }
        let mut rest_from = from;
        if held.frames > 0 {
            let (delivered, in_hand) = self.delivered_and_held();
            let spans = in_hand.iter().map(|span| (span.0.max(from), span.1.min(end)));
            let spans = spans.filter(|span| overlap(&delivered, span.0, span.1) < span.1.0.saturating_sub(span.0.0));
            // In one group: mostly they are one span.
            let (first, last) = spans.fold((end, from), |all, span| (all.0.min(span.0), all.1.max(span.1)));
            if first <= from {
                rest_from = last;
            }
            let aside = Held {
                reason,
                from: first.min(last),
                end: last,
                loss: *held,
            };
            if self.held.push(aside).is_err() {
                self.counters.losses[reason as usize].add(held);
            }
            self.tell_lost(reason, first.0, last.0.saturating_sub(1), held);
        }
        if rest.frames > 0 {
            self.lose(reason, rest_from.0, end.0.saturating_sub(1), rest);
        }
    }

    /// A remote has acknowledged more.
    pub(crate) fn release_held(&mut self) {
        let ack = self.min_ack();
        self.release_where(|held| held.end <= ack);
    }

    /// Frames in hand were delivered: what flash was told of them is to be taken back.
    fn release_where(&mut self, is_delivered: impl Fn(&Held) -> bool) {
        let told = &mut self.delivered_losses;
        self.held.retain(|held| {
            let keep = !is_delivered(held);
            if !keep {
                told[held.reason as usize].add(&held.loss);
            }
            keep
        });
    }

    /// What flash was told of losses and is not in the counters, by reason: what is in hand, and what was delivered of it.
    pub(crate) fn told_beside(&self, place: usize) -> Loss {
        let held = self.held.iter().filter(|held| held.reason as usize == place);
        held.fold(self.delivered_losses[place], |mut sum, held| {
            sum.add(&held.loss);
            sum
        })
    }

    /// A remote has more ahead of its acknowledgement.
    pub(crate) fn release_delivered(&mut self) {
        if !self.held.is_empty() {
            let (delivered, _) = self.delivered_and_held();
            self.release_where(|held| {
                overlap(&delivered, held.from, held.end) >= held.end.0.saturating_sub(held.from.0)
            });
        }
    }

    /// The sender of remote `remote` reads again from frame `at` on: what was put aside from there on is lost. What was put aside before
    /// it is still in the hands of others.
    pub(crate) fn lose_held(&mut self, remote: usize, at: FrameNo) {
        if self.remotes.get(remote).is_some_and(|remote| remote.config.best_effort) {
            return;
        }
        let ack = self.min_ack();
        while let Some(place) = self.held.iter().position(|held| held.end > at) {
            let held = self.held.swap_remove(place);
            let kept = held.from.max(ack.min(held.end));
            let from = kept.max(at.min(held.end));
            let mut loss = self.part_of(&held, kept, from);
            let mut rest = Loss::default();
            if kept < from {
                let sum = self.given(kept, from);
                let (frames, samples) = sum.unwrap_or_else(|| {
                    let all = self.part_of(&held, kept, kept);
                    let frames = all.frames.saturating_sub(loss.frames);
                    (frames, all.samples.saturating_sub(loss.samples))
                });
                rest = Loss {
                    frames,
                    samples,
                    ..held.loss
                };
                // There is room: the whole of it has just left.
                let _ = self.held.push(Held {
                    from: kept,
                    end: from,
                    loss: rest,
                    ..held
                });
            }
            let delivered = overlap(&self.delivered_and_held().0, from, held.end);
            let (frames, left) = (loss.frames, (held.end.0 - from.0).saturating_sub(delivered));
            if frames > left {
                keep_part(&mut loss, left, frames);
            }
            if loss.frames > 0 {
                self.counters.losses[held.reason as usize].add(&loss);
            }
            rest.add(&loss);
            self.correct(&held, &rest);
        }
    }

    /// Of a group, which flash was told of as a whole, only this much is lost or still in hand. Sums that were estimated may also be
    /// found to be larger.
    fn correct(&mut self, held: &Held, left: &Loss) {
        let mut more = *left;
        more.take(held.loss.frames, held.loss.samples);
        if more.frames + more.samples > 0 {
            self.tell_lost(held.reason, held.from.0, held.end.0 - 1, &more);
        }
        let mut less = held.loss;
        less.take(left.frames, left.samples);
        self.delivered_losses[held.reason as usize].add(&less);
    }

    /// What of a group are the frames from `from` on, of which those from `kept` on are not acknowledged: as they were read; or else, as
    /// a group may reach over numbers that were no frames, to which a reader has not come, all but those that were read before them;
    /// or else in proportion.
    fn part_of(&self, held: &Held, kept: FrameNo, from: FrameNo) -> Loss {
        let mut loss = held.loss;
        if from <= held.from {
            return loss;
        }
        if let Some((frames, samples)) = self.given(from, held.end) {
            (loss.frames, loss.samples) = (frames, samples);
            return loss;
        }
        // Those delivered ahead were read, and are not in the sums.
        let ahead = overlap(&self.delivered_and_held().0, kept, from);
        if let Some((frames, samples)) = self.given(held.from, from).filter(|_| ahead == 0) {
            loss.take(frames, samples);
            return loss;
        }
        let numbers = |from: FrameNo| without_left_out(held.end.0.saturating_sub(from.0));
        let all = numbers(held.from);
        let part = numbers(from).min(all);
        let share = (u128::from(loss.samples) * u128::from(part)).checked_div(all.into());
        // No more than what is in hand before them leaves.
        let (frames, samples) = self.given(kept, from).unwrap_or_default();
        loss.take(frames, samples);
        loss.frames = loss.frames.min(part);
        loss.samples = loss.samples.min(share.map_or(0, |share| share as u64));
        loss
    }

    /// Frames `from..to` are passed over by the reader of remote `remote`.
    pub(crate) fn skip(&mut self, remote: usize, from: FrameNo, to: FrameNo) {
        if !self.is_best_effort(remote) {
            return;
        }
        let all_frames = self.flash_frames + self.counters.frames_appended;
        let all_samples = self.flash_samples + self.counters.samples_appended;
        let (first, found) = (self.first_number, self.found_next);
        let Some(remote) = self.remotes.get_mut(remote) else {
            return;
        };
        let from = from.max(remote.skipped.to).max(remote.acknowledged);
        if to <= from {
            return;
        }
        remote.skipped.to = to;
        // Every mount leaves out so many numbers: they never stood for a scrape.
        let before = to.min(found).0.saturating_sub(from.0) % FRAME_NO_SKIP;
        let frames = before + to.0.saturating_sub(from.max(first).0);
        let frames = frames.saturating_sub(overlap(&remote.ahead, from, to));
        remote.skipped.frames += frames;
        let samples = (u128::from(frames) * u128::from(all_samples)).checked_div(all_frames.into());
        remote.skipped.samples += samples.map_or(0, |samples| samples as u64);
    }

    /// What left the ring before remote `remote`, which does not hold the tail, had it; since the mount.
    #[must_use]
    pub fn skipped(&self, remote: usize) -> Skipped {
        self.remotes
            .get(remote)
            .map_or(Skipped::default(), |remote| remote.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_out_is_remembered_frame_by_frame() {
        let mut given = Given::default();
        let sum = |given: &Given, from, to| given.sum(FrameNo(from), FrameNo(to));
        assert_eq!(sum(&given, 1, 2), None);
        for (number, samples) in [(5, 3), (6, 3), (7, 0), (5, 3), (6, 3), (8, 9), (20, 9)] {
            given.note(FrameNo(number), samples);
        }
        assert_eq!(sum(&given, 5, 21), Some((5, 24)));
        assert_eq!(sum(&given, 6, 8), Some((2, 3)));
        assert_eq!(sum(&given, 8, 20), Some((1, 9)), "there was nothing in between");
        assert_eq!(sum(&given, 4, 8), None);
        assert_eq!(sum(&given, 5, 22), None);
        for number in 21..21 + 2 * GIVEN_RUNS as u64 {
            given.note(FrameNo(number), number as u32);
        }
        let end = 21 + 2 * GIVEN_RUNS as u64;
        assert_eq!(
            sum(&given, end - 1 - GIVEN_RUNS as u64, end),
            None,
            "the oldest is forgotten"
        );
        let last = GIVEN_RUNS as u64;
        let samples = (end - last..end).sum();
        assert_eq!(sum(&given, end - last, end), Some((last, samples)));
    }
}
