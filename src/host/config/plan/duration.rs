//! How long an outage the ring covers.

use crate::host::config::{Config, Targets};

/// Bytes a sample takes on the ring before padding, thousandths: between 0.47 (several targets in a segment) and 0.62
/// (node_exporter alone), 15 s, 256 KiB segments (flash.md §4.3). Noisy analogue sensors take 1.5 to 3.
const RING_MILLIBYTES_PER_SAMPLE: u64 = 550;

/// How long an outage the ring covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingDuration {
    /// Milliseconds of scraping that fit.
    pub ms: u64,
    /// Samples a day.
    pub samples_per_day: u64,
    /// Bytes written a day during an outage, padding included.
    pub bytes_per_day: u64,
}

impl Config {
    /// How long the ring lasts without an uplink when `series` series are spread evenly over the targets.
    ///
    /// Commits write whole blocks, so a short `commit_interval` pads: 1,000 series at 15 s fill 55 % of a 4 KiB block a minute.
    #[must_use]
    pub fn ring_duration(&self, targets: &Targets, series: u64) -> RingDuration {
        const DAY_MS: u64 = 86_400_000;
        let count = targets.active.len().max(1) as u64;
        let each = series.div_ceil(count);
        let scrapes_per_day: u64 = targets.active.iter().map(|t| DAY_MS / t.interval.ms.max(1)).sum();
        let samples_per_day = each.saturating_mul(scrapes_per_day);
        let ring = &self.tidegate.ring;
        // A commit interval of 0 writes each scrape by itself.
        let commits = match ring.commit_interval.ms {
            0 => scrapes_per_day,
            ms => scrapes_per_day.min(DAY_MS / ms.min(DAY_MS)),
        };
        let per_commit = samples_per_day.saturating_mul(RING_MILLIBYTES_PER_SAMPLE) / 1_000 / commits.max(1);
        let block = ring.block_size.bytes.max(1);
        let bytes_per_day = per_commit.div_ceil(block).saturating_mul(block).saturating_mul(commits);
        // The segment that is being made room for holds nothing.
        let capacity = ring.size.bytes.saturating_sub(ring.segment_size.bytes);
        let ms = (u128::from(capacity) * u128::from(DAY_MS)).checked_div(u128::from(bytes_per_day));
        RingDuration {
            ms: ms.map_or(u64::MAX, |ms| u64::try_from(ms).unwrap_or(u64::MAX)),
            samples_per_day,
            bytes_per_day,
        }
    }
}
