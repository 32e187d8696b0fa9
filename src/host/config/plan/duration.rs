//! How long an outage the ring covers, and what it costs the medium.

use crate::host::config::{Config, TargetSpec, Targets};
use crate::host::medium::Kind;
use crate::wal::format::Geometry;
use crate::wal::wear::{self, Load, Wear};
use std::path::Path;

const DAY_MS: u64 = 86_400_000;

/// How long an outage the ring covers, and what it costs the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingDuration {
    /// Milliseconds of scraping that fit.
    pub ms: u64,
    /// Samples a day.
    pub samples_per_day: u64,
    /// What is written meanwhile.
    pub wear: Wear,
    /// Laps of the ring if the outage lasted a year, thousandths.
    pub millilaps_per_year: u64,
}

impl Config {
    /// What the ring is: a file where nothing is yet.
    #[must_use]
    pub fn ring_kind(&self) -> Kind {
        Kind::of(Path::new(&self.tidegate.ring.path)).unwrap_or(Kind::File)
    }

    /// The ring's shape, if it fits the medium.
    #[must_use]
    pub fn ring_geometry(&self) -> Option<Geometry> {
        let (ring, kind) = (&self.tidegate.ring, self.ring_kind());
        Geometry::behind(
            kind.first_offset(),
            u32::try_from(ring.block_size.bytes).ok()?,
            u32::try_from(ring.segment_size.bytes).ok()?,
            ring.size.bytes,
            kind.writing(),
        )
    }

    /// The load when `samples_per_day` come in `rounds_per_day` scrapes.
    #[must_use]
    pub fn ring_load(&self, samples_per_day: u64, rounds_per_day: u64) -> Load {
        let ring = &self.tidegate.ring;
        Load {
            samples_per_day,
            rounds_per_day,
            commit_interval_ms: ring.commit_interval.ms,
            block_bytes: u32::try_from(ring.block_size.bytes).unwrap_or(u32::MAX),
            in_file: self.ring_kind() == Kind::File,
        }
    }

    /// How long the ring lasts without an uplink when `series` series are spread evenly over the targets, none having more than
    /// its `sample_limit`.
    ///
    /// Commits write whole blocks, so a short `commit_interval` pads: 1,000 series at 15 s fill 55 % of a 4 KiB block a minute.
    #[must_use]
    pub fn ring_duration(&self, targets: &Targets, series: u64) -> RingDuration {
        let count = targets.active.len().max(1) as u64;
        let each = series.div_ceil(count);
        let limit = |target: &TargetSpec| {
            let job = self.scrape_configs.get(target.job);
            job.map(|job| u64::from(job.sample_limit)).filter(|&limit| limit > 0)
        };
        let rounds = |target: &TargetSpec| DAY_MS / target.interval.ms.max(1);
        let samples = |target: &TargetSpec| rounds(target).saturating_mul(limit(target).unwrap_or(each).min(each));
        let samples_per_day = targets.active.iter().map(samples).fold(0, u64::saturating_add);
        let wear = self
            .ring_load(samples_per_day, targets.active.iter().map(rounds).sum())
            .wear();
        let geometry = self.ring_geometry();
        let capacity = geometry.as_ref().map_or(0, wear::capacity);
        RingDuration {
            ms: wear::lasts_ms(capacity, wear.bytes_per_day).unwrap_or(u64::MAX),
            samples_per_day,
            wear,
            millilaps_per_year: geometry.map_or(0, |geometry| wear::millilaps_per_year(&geometry, wear.bytes_per_day)),
        }
    }
}
