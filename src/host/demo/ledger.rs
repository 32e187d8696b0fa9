//! What the demo's receiver has seen: every sample checked against the workload's formula.
//!
//! A delivered sample is right when it carries the value its series had in the scrape with that timestamp,
//! and when it is the next of its series. Anything else is counted: missing, repeated, out of order, wrong. A staleness
//! marker says that a scrape failed, as happens when the machine is too busy to answer in time.

use super::workload::{SERIES_PER_TARGET, TARGETS, value};
use crate::sample::STALE_NAN_BITS;
use alloc::vec::Vec;

/// Scrapes remembered per target, to know which scrape a timestamp was: twice what the demo makes.
const SCRAPES: usize = 1_024;

/// One series' progress.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Number of the scrape expected next.
    next: u64,
    /// Timestamp of the last sample.
    last_ms: i64,
}

/// Counts of what arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples of the workload, each once.
    pub delivered: u64,
    /// Samples of scrapes that were passed over.
    pub missing: u64,
    /// Samples that had arrived before.
    pub repeated: u64,
    /// Samples older than the newest of their series.
    pub out_of_order: u64,
    /// Samples with another value than the target had.
    pub wrong: u64,
    /// Staleness markers.
    pub markers: u64,
    /// Samples of the synthetic series (`up` and its kind).
    pub synthetic: u64,
}

/// The receiver's book.
#[derive(Debug)]
pub struct Ledger {
    progress: Vec<[Progress; SERIES_PER_TARGET]>,
    /// (timestamp, scrape number) of each target's scrapes, in order of arrival.
    scrapes: Vec<Vec<(i64, u64)>>,
    tally: Tally,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self {
            progress: alloc::vec![[Progress::default(); SERIES_PER_TARGET]; TARGETS],
            scrapes: alloc::vec![Vec::with_capacity(SCRAPES); TARGETS],
            tally: Tally::default(),
        }
    }

    /// What has arrived so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Enters a sample of a synthetic series.
    pub fn synthetic(&mut self) {
        self.tally.synthetic += 1;
    }

    /// Enters a sample of the workload.
    pub fn sample(&mut self, target: usize, series: usize, unix_ms: i64, bits: u64) {
        if bits == STALE_NAN_BITS {
            self.tally.markers += 1;
            return;
        }
        if series == 0 && self.scrapes[target].len() < SCRAPES {
            // The series is the scrape number itself.
            self.scrapes[target].push((unix_ms, f64::from_bits(bits) as u64));
        }
        let scrape = self.scrapes[target]
            .iter()
            .rev()
            .find(|(at, _)| *at == unix_ms)
            .map(|(_, scrape)| *scrape);
        let Some(scrape) = scrape else {
            self.tally.wrong += 1;
            return;
        };
        if value(target, series, scrape).to_f64().to_bits() != bits {
            self.tally.wrong += 1;
        }
        let progress = &mut self.progress[target][series];
        if scrape < progress.next {
            if unix_ms < progress.last_ms {
                self.tally.out_of_order += 1;
            }
            self.tally.repeated += 1;
            return;
        }
        self.tally.missing += scrape - progress.next;
        self.tally.delivered += 1;
        *progress = Progress {
            next: scrape + 1,
            last_ms: unix_ms,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, Tally};
    use crate::host::demo::workload::value;
    use crate::sample::STALE_NAN_BITS;

    fn enter(ledger: &mut Ledger, series: usize, scrape: u64) {
        ledger.sample(
            0,
            series,
            scrape as i64 * 500 + 1,
            value(0, series, scrape).to_f64().to_bits(),
        );
    }

    #[test]
    fn faults_are_told_apart() {
        let mut ledger = Ledger::new();
        for scrape in 0..4 {
            enter(&mut ledger, 0, scrape);
        }
        enter(&mut ledger, 1, 0);
        enter(&mut ledger, 1, 2);
        enter(&mut ledger, 1, 2);
        enter(&mut ledger, 1, 1);
        ledger.sample(0, 2, 1, 0);
        ledger.sample(0, 3, 2, STALE_NAN_BITS);
        assert_eq!(
            ledger.tally(),
            Tally {
                delivered: 7,
                missing: 1,
                repeated: 2,
                out_of_order: 1,
                wrong: 1,
                markers: 1,
                synthetic: 0
            }
        );
    }
}
