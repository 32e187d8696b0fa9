//! What a sender counts, under the names Prometheus uses.

use crate::clock::UnixMillis;
use crate::remote_write::batch::{Counts, Span, Tally};

/// Totals since start. Field docs name the metric; all but the last two groups are `prometheus_remote_storage_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `samples_total`: put on the wire, every attempt counted.
    pub samples: u64,
    /// `samples_failed_total`: refused for good, lost.
    pub samples_failed: u64,
    /// Times of these.
    pub failed_span: Span,
    /// `samples_retried_total`: in attempts that failed and are repeated.
    pub samples_retried: u64,
    /// `histograms_*_total`: native histograms, likewise.
    pub histograms: Totals,
    /// `exemplars_*_total`: exemplars, likewise. Nobody asks for them again: they are as good as sent once their samples are.
    pub exemplars: Totals,
    /// `metadata_*_total`: families in the requests of 1.0 that describe them.
    pub metadata: Totals,
    /// `metadata_bytes_total`: compressed bodies of those.
    pub metadata_bytes: u64,
    /// `samples_dropped_total`, all reasons but `in_doubt`.
    pub dropped: Tally,
    /// `bytes_total`: compressed bodies put on the wire.
    pub bytes: u64,
    /// `queue_highest_timestamp_seconds`, in milliseconds: newest timestamp gathered; 0 before any.
    pub highest_timestamp_ms: i64,
    /// `queue_highest_sent_timestamp_seconds`, in milliseconds: newest timestamp accepted or refused, of batches of which no slice is left;
    /// 0 before any.
    pub highest_sent_timestamp_ms: i64,

    /// `tidegate_remote_write_samples_accepted_total`: the receiver has them, native histograms included.
    pub samples_accepted: u64,
    /// `tidegate_remote_write_samples_in_doubt_refused_total`: refused because, as far as anyone can tell, the receiver
    /// had them already.
    pub samples_in_doubt: u64,
    /// `tidegate_remote_write_requests_total`: attempts with samples.
    pub requests: u64,

    /// `tidegate_remote_write_ahead_samples_total`: of the accepted ones, those sent ahead of a backlog.
    pub samples_ahead: u64,
    /// Batches made smaller after answers of 429.
    pub eased: u64,
    /// `tidegate_remote_write_rate_limited_total`: requests that have waited for the rate limit.
    pub rate_limited: u64,
    /// Attempts without an answer.
    pub errors: u64,
    /// Batches halved for 413.
    pub halved: u64,
    /// Refused batches sent again in parts.
    pub split: u64,
    /// Answers that led to a hold.
    pub holds: u64,
    /// Changes from 2.0 to 1.0.
    pub fallbacks: u64,
    /// `tidegate_remote_write_clock_vetoes_total`: times that sending stopped because the receiver's clock is far from ours.
    pub vetoes: u64,
}

/// How items other than samples fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Put on the wire, every attempt counted.
    pub sent: u64,
    /// Refused for good, lost.
    pub failed: u64,
    /// In attempts that failed and are repeated.
    pub retried: u64,
}

impl Counters {
    /// An attempt with these goes out.
    pub(super) const fn note_attempt(&mut self, counts: Counts) {
        self.requests += 1;
        self.samples += counts.samples as u64;
        self.histograms.sent += counts.histograms as u64;
        self.exemplars.sent += counts.exemplars as u64;
    }

    /// An attempt with these will be repeated.
    pub(super) const fn note_retry(&mut self, counts: Counts) {
        self.samples_retried += counts.samples as u64;
        self.histograms.retried += counts.histograms as u64;
        self.exemplars.retried += counts.exemplars as u64;
    }

    /// Samples lost for good: what the ring's ledger is to know of.
    #[must_use]
    pub const fn samples_lost(&self) -> u64 {
        let dropped = &self.dropped;
        self.samples_failed
            + self.histograms.failed
            + dropped.too_old
            + dropped.clock_unknown
            + dropped.backward
            + dropped.too_large
            + dropped.custom_buckets
            + dropped.damaged_histograms
    }

    pub(super) fn add_tally(&mut self, tally: &Tally) {
        let to = &mut self.dropped;
        to.too_old += tally.too_old;
        to.dropped_series += tally.dropped_series;
        to.unknown_series += tally.unknown_series;
        to.clock_unknown += tally.clock_unknown;
        to.too_large += tally.too_large;
        to.backward += tally.backward;
        to.held_back += tally.held_back;
        to.custom_buckets += tally.custom_buckets;
        to.unwanted_histograms += tally.unwanted_histograms;
        to.damaged_histograms += tally.damaged_histograms;
        to.large_exemplars += tally.large_exemplars;
        to.rebased += tally.rebased;
        to.too_old_span.join(tally.too_old_span);
        to.clock_span.join(tally.clock_span);
        to.too_large_span.join(tally.too_large_span);
    }

    pub(super) fn note_gathered(&mut self, range: Option<(UnixMillis, UnixMillis)>) {
        if let Some((_, newest)) = range {
            self.highest_timestamp_ms = self.highest_timestamp_ms.max(newest.0);
        }
    }

    pub(super) fn note_sent(&mut self, range: Option<(UnixMillis, UnixMillis)>) {
        if let Some((_, newest)) = range {
            self.highest_sent_timestamp_ms = self.highest_sent_timestamp_ms.max(newest.0);
        }
    }
}
