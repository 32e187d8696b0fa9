//! How much goes into a request: the bounds of a batch, and its sealing as a request or as slices.
//!
//! The least of many limits counts: what is configured, live and for a backlog; what the receiver was found to take (413, 429); the pace of a
//! backlog; half of a batch that was refused. Sealing cannot fail, see `batch`.

use super::{Sender, Split};
use crate::clock::{Instant, UnixMillis};
use crate::metadata::Metadata;
use crate::remote_write::batch::{Bounds, Layout, Stop};
use crate::remote_write::response::Protocol;

impl Sender {
    pub(super) fn live_limit(&self) -> usize {
        self.config
            .max_samples_per_send
            .min(self.size_limit)
            .min(self.eased_limit)
    }

    /// Most samples of a request while a backlog drains.
    pub(super) fn request_limit(&self) -> usize {
        let most = if self.ahead.is_fresh() {
            self.config.max_samples_per_send
        } else {
            self.largest_request()
        };
        most.min(self.size_limit).min(self.eased_limit)
    }

    /// Most samples of a batch: where it can be sent in slices as many requests' worth as memory was planned for.
    pub(super) fn batch_limit(&self) -> usize {
        let limit = self.request_limit();
        if self.ahead.is_fresh() || self.protocol == Protocol::V1 {
            return limit;
        }
        limit.saturating_mul(self.batch_samples()) / self.largest_request().max(1)
    }

    /// Most samples of a request by the configuration.
    fn largest_request(&self) -> usize {
        self.config
            .backlog_samples_per_send
            .max(self.config.max_samples_per_send)
    }

    pub(super) fn bounds(&self, now: Instant, wall: Option<UnixMillis>) -> Bounds {
        let doubt_end = (self.place < self.doubt_until).then_some(self.doubt_until);
        let split_end = self.split.map(Split::end);
        let (frames, half) = match self.split {
            Some(Split::Frames(_)) => (1, None),
            Some(Split::Halves(_, half)) => (usize::MAX, half),
            None => (usize::MAX, None),
        };
        let samples = match half {
            Some(half) => half.min(self.request_limit()),
            None => self.batch_limit(),
        };
        let ends = [doubt_end, split_end, self.ahead.end_of_old_row()];
        Bounds {
            samples: self.paced(samples),
            frames,
            end: ends.into_iter().flatten().min(),
            oldest: self.oldest(wall),
            unknown_time: self.config.unknown_time,
            latest: self.latest(now),
        }
    }

    /// What the pace of a backlog makes of a limit of samples.
    fn paced(&self, samples: usize) -> usize {
        if self.ahead.is_fresh() {
            samples
        } else {
            self.pace.limit(samples)
        }
    }

    /// What was sent later than this lay in the receiver's future.
    pub(super) fn latest(&self, now: Instant) -> Option<UnixMillis> {
        let receiver = self.receiver_offset_ms?.saturating_add_unsigned(now.0);
        (self.max_skew_ms > 0).then_some(UnixMillis(receiver.saturating_add_unsigned(self.max_skew_ms)))
    }

    pub(super) fn oldest(&self, wall: Option<UnixMillis>) -> Option<UnixMillis> {
        let age = i64::try_from(self.config.max_sample_age_ms).unwrap_or(i64::MAX);
        wall.filter(|_| age > 0)
            .map(|wall| UnixMillis(wall.0.saturating_sub(age)))
    }

    pub(super) fn seal(&mut self, now: Instant, next_flush: Instant, stop: Stop, metadata: &Metadata) {
        let fresh = self.batch.span_ms() <= self.config.flush_interval_ms.saturating_mul(2);
        let caught_up = stop == Stop::End || stop == Stop::TimeUnknown;
        self.caught_up = caught_up;
        let wanted = if fresh && (caught_up || self.batch.samples() <= self.live_limit()) && !self.config.group_live {
            Layout::Live
        } else {
            Layout::Grouped
        };
        if self.batch.samples() > self.request_limit() {
            self.batch.cut(wanted);
            self.seal_slice(now, metadata);
        } else {
            let metadata = self.in_series(now, metadata);
            self.layout = self.batch.seal_with(wanted, metadata);
            self.described_in_series(now, metadata);
        }
        if now >= next_flush && caught_up && !self.ahead.is_fresh() {
            self.next_flush = Some(now + self.config.flush_interval_ms);
        }
    }

    /// Seals the next slice; false: none is left.
    pub(super) fn seal_slice(&mut self, now: Instant, metadata: &Metadata) -> bool {
        let metadata = self.in_series(now, metadata);
        let limit = self.request_limit();
        // Fresh samples wait for the last slice: no pause, and none made smaller, makes that longer.
        let samples = if self.ahead.is_open() {
            limit
        } else {
            self.pace.limit(limit)
        };
        let Some(layout) = self.batch.seal_slice(samples, metadata) else {
            return false;
        };
        self.layout = layout;
        if self.batch.is_last_slice() {
            self.described_in_series(now, metadata);
        }
        true
    }

    /// The batch in hand goes in slices, and there may be a further one.
    pub(super) fn is_in_slices(&self) -> bool {
        !self.seek && self.batch.is_cut()
    }

    fn in_series<'m>(&self, now: Instant, metadata: &'m Metadata) -> Option<&'m Metadata> {
        let due = self.describing.in_series(now, &self.config.metadata);
        due.then_some(metadata)
    }

    /// A batch was sealed with this of what targets say of their families.
    fn described_in_series(&mut self, now: Instant, metadata: Option<&Metadata>) {
        if metadata.is_some() && self.layout == Layout::Live && self.protocol == Protocol::V2 {
            self.describing.done_in_series(now, &self.config.metadata);
        }
    }

    /// The limit learnt from 429 has cut a frame in two: it is gathered again, whole. The ring may lap the rest of it.
    pub(super) fn eases_too_far(&mut self) -> bool {
        let eased = self.eased_limit < self.largest_request().min(self.size_limit);
        if !eased || self.batch.end().part == 0 || self.batch.samples() < self.batch_limit() {
            return false;
        }
        self.eased_limit = self.eased_limit.saturating_mul(2);
        let attempts = self.attempts;
        self.rebuild();
        self.attempts = attempts;
        true
    }
}
