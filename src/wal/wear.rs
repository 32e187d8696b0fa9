//! What a load costs the medium: commits, bytes, laps, and how long an outage the ring covers.
//!
//! Formulae only; `check`, the metrics and the tools all take them from here. A commit writes whole blocks, so what counts is
//! how full they get: 1,000 series at 15 s fill half a block of 4 KiB a minute.
//!
//! # Assumptions
//!
//! - [`MILLIBYTES_PER_SAMPLE`] on the ring before padding; noisy analogue sensors take 1,500 to 3,000.
//! - The uplink is away the whole time. While it works, nothing is written.
//! - A file costs the block layer [`FILE_COMMIT_BYTES`] a commit more than its blocks (ext4, zero-filled, `fdatasync`).
//!
//! Sources: flash.md §3.2, §3.3 (compared with in the tests), §4.3.

use super::format::{BLOCK_HEADER_BYTES, Geometry};

/// Bytes a sample takes on the ring before padding, thousandths: between 0.47 (several targets in a segment) and 0.62
/// (node_exporter alone), 15 s, 256 KiB segments.
pub const MILLIBYTES_PER_SAMPLE: u64 = 550;

/// What the file system adds to a commit at the block layer: 24.3 - 23.6 MB over 5,760 commits, 6.1 - 5.9 over 1,440.
pub const FILE_COMMIT_BYTES: u64 = 130;

const DAY_MS: u64 = 86_400_000;
const YEAR_DAYS: u64 = 365;

/// What is scraped, and how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Samples a day.
    pub samples_per_day: u64,
    /// Scrape rounds a day: what a commit interval of 0 writes one by one.
    pub rounds_per_day: u64,
    /// Commit interval, milliseconds; 0: every scrape.
    pub commit_interval_ms: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// The ring is a file.
    pub in_file: bool,
}

/// What it costs while the uplink is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wear {
    /// Commits, each with one sync.
    pub commits_per_day: u64,
    /// Bytes written into the ring, padding included.
    pub bytes_per_day: u64,
    /// Bytes at the block layer.
    pub device_bytes_per_day: u64,
}

impl Load {
    /// The cost of this load.
    #[must_use]
    pub fn wear(&self) -> Wear {
        let commits = match self.commit_interval_ms {
            0 => self.rounds_per_day,
            ms => self.rounds_per_day.min(DAY_MS / ms.min(DAY_MS)),
        };
        let per_commit = self.samples_per_day.saturating_mul(MILLIBYTES_PER_SAMPLE) / 1_000 / commits.max(1);
        let block = u64::from(self.block_bytes).max(BLOCK_HEADER_BYTES as u64 + 1);
        let blocks = per_commit.div_ceil(block - BLOCK_HEADER_BYTES as u64);
        let bytes = blocks.saturating_mul(block).saturating_mul(commits);
        let extra = if self.in_file { FILE_COMMIT_BYTES } else { 0 };
        Wear {
            commits_per_day: commits,
            bytes_per_day: bytes,
            device_bytes_per_day: bytes.saturating_add(commits.saturating_mul(extra)),
        }
    }
}

/// Bytes that frames can wait in: every slot but the one that is being made room for.
#[must_use]
pub fn capacity(geometry: &Geometry) -> u64 {
    let blocks = u64::from(geometry.blocks_per_slot - geometry.first_block());
    u64::from(geometry.slots.saturating_sub(1)) * blocks * u64::from(geometry.block_bytes)
}

/// Milliseconds until `bytes` are written at `bytes_per_day`; `None`: never.
#[must_use]
pub fn lasts_ms(bytes: u64, bytes_per_day: u64) -> Option<u64> {
    let ms = (u128::from(bytes) * u128::from(DAY_MS)).checked_div(u128::from(bytes_per_day))?;
    Some(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// Laps of a ring of this shape in a year at `bytes_per_day`, thousandths: on raw flash erases of every slot.
#[must_use]
pub fn millilaps_per_year(geometry: &Geometry, bytes_per_day: u64) -> u64 {
    let blocks = u64::from(geometry.blocks_per_slot - geometry.first_block());
    let ring = u64::from(geometry.slots) * blocks * u64::from(geometry.block_bytes);
    let bytes = u128::from(bytes_per_day) * u128::from(YEAR_DAYS) * 1_000;
    bytes
        .checked_div(u128::from(ring))
        .map_or(0, |laps| u64::try_from(laps).unwrap_or(u64::MAX))
}

/// What was counted over `elapsed_ms`, as so much a day. 0 before the first second.
#[must_use]
pub fn per_day(count: u64, elapsed_ms: u64) -> u64 {
    if elapsed_ms < 1_000 {
        return 0;
    }
    let rate = u128::from(count) * u128::from(DAY_MS) / u128::from(elapsed_ms);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::format::Medium;
    use super::*;

    /// 1,000 series in two targets at 15 s.
    fn reference(commit_interval_ms: u64) -> Load {
        Load {
            samples_per_day: 5_760_000,
            rounds_per_day: 5_760,
            commit_interval_ms,
            block_bytes: 4_096,
            in_file: true,
        }
    }

    fn megabytes(bytes: u64) -> f64 {
        (bytes as f64 / 1e5).round() / 10.0
    }

    #[test]
    fn the_reference_load_costs_what_was_measured() {
        // flash.md §3.3: on-file MB a day, block-layer MB a day, flushes a day.
        for (interval, file, device, flushes) in [
            (0, 23.6, 24.3, 5_760),
            (60_000, 5.9, 6.1, 1_440),
            (300_000, 3.5, 3.6, 288),
        ] {
            let wear = reference(interval).wear();
            assert_eq!(
                (
                    megabytes(wear.bytes_per_day),
                    megabytes(wear.device_bytes_per_day),
                    wear.commits_per_day
                ),
                (file, device, flushes)
            );
        }
        let raw = Load {
            block_bytes: 512,
            in_file: false,
            ..reference(0)
        };
        // 4.6 MB were measured, of which 1.15 blocks a commit: the estimate is on the safe side.
        assert_eq!(megabytes(raw.wear().device_bytes_per_day), 5.9);
    }

    #[test]
    fn bytes_per_sample_follow_block_and_interval_as_measured() {
        // flash.md §3.2, B per sample of 1,136 series: 60 s and 5 min. Up to a third too high where a last block is barely begun, never too low by more than 5 %.
        let series = 1_136;
        for (block_bytes, minute, five) in [(512, 0.56, 0.50), (1_024, 0.59, 0.49), (4_096, 0.92, 0.56)] {
            for (commit_interval_ms, measured) in [(60_000, minute), (300_000, five)] {
                let load = Load {
                    samples_per_day: series * 5_760,
                    rounds_per_day: 2 * 5_760,
                    commit_interval_ms,
                    block_bytes,
                    in_file: true,
                };
                let estimate = load.wear().bytes_per_day as f64 / load.samples_per_day as f64;
                let ratio = estimate / measured;
                assert!(
                    (0.95..1.32).contains(&ratio),
                    "{block_bytes} {commit_interval_ms}: {estimate:.2} for {measured}"
                );
            }
        }
    }

    #[test]
    fn outages_and_laps_are_those_of_the_reference() {
        let geometry = Geometry {
            block_bytes: 4_096,
            blocks_per_slot: 64,
            slots: 255,
            medium: Medium::Rewritable,
        };
        let minute = reference(60_000).wear();
        let days = lasts_ms(capacity(&geometry), minute.bytes_per_day).expect("it ends") as f64 / 86_400_000.0;
        assert!((11.0..11.6).contains(&days), "{days}");
        assert_eq!(lasts_ms(capacity(&geometry), 0), None);
        // A 16 MiB part at 2.8 MB a day: 0.17 laps a day; a 1 MiB part 2.7.
        let nor = Geometry {
            block_bytes: 1_024,
            blocks_per_slot: 64,
            slots: 256,
            medium: Medium::WriteOnce,
        };
        assert_eq!(millilaps_per_year(&nor, 2_800_000) / 365, 169);
        let small = Geometry { slots: 16, ..nor };
        assert_eq!(millilaps_per_year(&small, 2_800_000) / 365, 2_712);
    }

    #[test]
    fn rates_need_a_second() {
        assert_eq!(per_day(5, 999), 0);
        assert_eq!(per_day(5, 1_000), 432_000);
        assert_eq!(per_day(u64::MAX, 1_000), u64::MAX);
    }
}
