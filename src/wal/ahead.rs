//! What remotes were given ahead of what they have acknowledged.
//!
//! A sender with a live share delivers frames that lie beyond a backlog. They stay in the ring until the acknowledgement has come by,
//! but they are not sent again, after a mount neither: AHEAD records say which they are. What was delivered since the last of
//! them is sent a second time after a loss of power. Frames that every remote has, one way or the other, are no loss when the ring laps them.
//!
//! # Limits
//!
//! [`MAX_SPANS_AHEAD`] spans per remote; more are not remembered.

use super::Ring;
use super::counters::Loss;
use super::record::Ahead;
use super::storage::Storage;
use crate::frame::FrameNo;
use crate::limits::{MAX_REMOTES, MAX_SPANS_AHEAD};

/// Frames from the first to before the second.
pub(crate) type Span = (FrameNo, FrameNo);

/// In rising order.
pub(crate) type Spans = heapless::Vec<Span, MAX_SPANS_AHEAD>;

/// Spans of several remotes.
pub(crate) type Common = heapless::Vec<Span, { MAX_SPANS_AHEAD * MAX_REMOTES }>;

/// How many of the frames `from..to` are in `spans`, none of which overlap.
pub(crate) fn overlap(spans: &[Span], from: FrameNo, to: FrameNo) -> u64 {
    let common = |span: &Span| span.1.min(to).0.saturating_sub(span.0.max(from).0);
    spans.iter().map(common).sum()
}

/// Whether `frame` is in `spans`.
pub(crate) fn is_in(spans: &[Span], frame: FrameNo) -> bool {
    spans.iter().any(|span| (span.0..span.1).contains(&frame))
}

/// Leaves so many in `of` of a loss.
pub(crate) fn keep_part(loss: &mut Loss, left: u64, of: u64) {
    let part = |n: u64| (u128::from(n) * u128::from(left)).checked_div(of.into()).unwrap_or(0) as u64;
    loss.frames = part(loss.frames);
    loss.samples = part(loss.samples);
}

impl<S: Storage> Ring<S> {
    /// Tells which frames beyond its acknowledgement remote `remote` has, in rising order, and that what its sender has in hand begins
    /// at `hand`, or later.
    pub fn delivered_ahead(&mut self, remote: usize, spans: impl Iterator<Item = (FrameNo, FrameNo)>, hand: FrameNo) {
        let next = self.next;
        if let Some(remote) = self.remotes.get_mut(remote) {
            remote.hand = hand;
            let acknowledged = remote.acknowledged;
            let known = spans.map(|(first, end)| (first, end.min(next)));
            let beyond = known.filter(|&(first, end)| first < end && end > acknowledged);
            remote.ahead.clear();
            // What has no room is sent again after a loss of power.
            remote.ahead.extend(beyond.take(MAX_SPANS_AHEAD));
        }
        self.release_delivered();
    }

    /// Which frames beyond its acknowledgement remote `remote` has.
    pub fn ahead(&self, remote: usize) -> impl Iterator<Item = (FrameNo, FrameNo)> + '_ {
        let remote = self.remotes.get(remote);
        remote.into_iter().flat_map(|remote| remote.ahead.iter().copied())
    }

    /// The frames that every remote which holds the tail has; and with those that their senders have in hand.
    pub(crate) fn delivered_and_held(&self) -> (Common, Common) {
        let holding = self.remotes.iter().zip(&self.readers);
        let holding = holding.filter(|(remote, _)| !remote.config.best_effort);
        let mut both: Option<(Common, Common)> = None;
        for (remote, reader) in holding {
            let read = reader.as_ref().map_or(FrameNo(0), |reader| reader.position());
            let hand = (remote.hand.max(remote.acknowledged), read);
            let mut delivered = Common::new();
            // Two more than a remote's spans, and fewer than those of all.
            let _ = delivered.push((FrameNo(0), remote.acknowledged));
            delivered.extend(remote.ahead.iter().copied());
            let mut held = delivered.clone();
            held.retain(|span| span.0 < hand.0 || span.0 >= hand.1);
            let _ = held.push(hand);
            held.sort_unstable();
            both = Some(match both {
                None => (delivered, held),
                Some((others, theirs)) => (intersection(&others, &delivered), intersection(&theirs, &held)),
            });
        }
        both.unwrap_or_default()
    }

    /// An AHEAD record was read by mount.
    pub(crate) fn note_ahead(&mut self, record: &Ahead) {
        let remote = self.remotes.iter_mut().find(|remote| remote.config.id == record.remote);
        let (first, end) = (FrameNo(record.first_frame), FrameNo(record.end_frame));
        let Some(remote) = remote.filter(|_| first < end) else {
            return;
        };
        match remote.ahead.iter_mut().find(|span| span.0 <= end && first <= span.1) {
            Some(span) => *span = (span.0.min(first), span.1.max(end)),
            None => {
                // See the limits above.
                let _ = remote.ahead.push((first, end));
            }
        }
    }

    /// Mount has found all there is.
    pub(crate) fn settle_ahead(&mut self) {
        for remote in &mut self.remotes {
            let acknowledged = remote.acknowledged;
            remote.ahead.retain(|span| span.1 > acknowledged);
            remote.ahead.sort_unstable();
            remote.ahead_persisted.clone_from(&remote.ahead);
        }
    }
}

/// What both lists cover; both are in rising order.
fn intersection(one: &[Span], other: &[Span]) -> Common {
    let mut common = Common::new();
    for a in one {
        for b in other {
            let span = (a.0.max(b.0), a.1.min(b.1));
            if span.0 < span.1 {
                // Too many: what is left out is counted as lost.
                let _ = common.push(span);
            }
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(of: &[(u64, u64)]) -> Common {
        of.iter().map(|&(a, b)| (FrameNo(a), FrameNo(b))).collect()
    }

    #[test]
    fn what_both_have_is_common() {
        let common = intersection(&spans(&[(0, 5), (8, 12), (20, 30)]), &spans(&[(0, 3), (9, 25)]));
        assert_eq!(common, spans(&[(0, 3), (9, 12), (20, 25)]));
        assert_eq!(overlap(&common, FrameNo(2), FrameNo(21)), 1 + 3 + 1);
        assert!(intersection(&common, &[]).is_empty());
    }

    #[test]
    fn what_was_delivered_is_taken_out_of_a_loss() {
        let mut loss = Loss {
            frames: 10,
            samples: 100,
            ..Loss::default()
        };
        keep_part(&mut loss, 6, 10);
        assert_eq!((loss.frames, loss.samples), (6, 60));
        keep_part(&mut loss, 0, 0);
        assert_eq!((loss.frames, loss.samples), (0, 0));
    }
}
