//! A limit for the bytes a remote is sent, `tidegate.uplink.rate_limit`.
//!
//! A token bucket that lends: a request leaves when nothing is owed, and owes what it took, headers and body, failed
//! attempts included. So the rate over time is the limit whatever the sizes are, and no limit is so small that a request
//! never goes. What was saved while nothing was sent is worth [`BURST_MS`] of the limit at most; the burst is that
//! and one request. TLS and TCP come on top.
//!
//! Nothing is allocated. All arithmetic saturates.

use crate::clock::Instant;

/// What may be saved up, milliseconds of the limit: a live request now and then is not held up by its own size.
const BURST_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Rate {
    /// Bytes per second; 0: no limit.
    limit: u64,
    /// Thousandths of a byte, saved less owed.
    level: i128,
    at: Instant,
    /// The request in hand has been counted as waiting.
    waiting: bool,
}

impl Rate {
    pub const fn new(limit: u64) -> Self {
        Self {
            limit,
            level: 0,
            at: Instant(0),
            waiting: false,
        }
    }

    /// When the next request may leave, if not now; true: it has just begun to wait.
    pub fn wait(&mut self, now: Instant) -> Option<(Instant, bool)> {
        self.refill(now);
        if self.limit == 0 || self.level >= 0 {
            self.waiting = false;
            return None;
        }
        let owed = self.level.unsigned_abs().div_ceil(u128::from(self.limit));
        let first = !core::mem::replace(&mut self.waiting, true);
        Some((now + u64::try_from(owed).unwrap_or(u64::MAX), first))
    }

    /// So many bytes went out.
    pub fn charge(&mut self, now: Instant, bytes: u64) {
        self.refill(now);
        if self.limit > 0 {
            self.level -= i128::from(bytes) * 1000;
        }
    }

    fn refill(&mut self, now: Instant) {
        let limit = i128::from(self.limit);
        let gained = limit.saturating_mul(i128::from(now.since(self.at)));
        self.level = self.level.saturating_add(gained).min(limit * i128::from(BURST_MS));
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends requests of these sizes, each as soon as it may, for `ms`; bytes per second over the time after the first.
    fn measured(limit: u64, ms: u64, mut size: impl FnMut(u64) -> u64) -> (f64, u64) {
        let (mut rate, mut now, mut bytes, mut requests) = (Rate::new(limit), Instant(5_000), 0, 0);
        let start = now;
        while now.since(start) < ms {
            match rate.wait(now) {
                Some((at, _)) => now = at,
                None => {
                    // The burst that was saved before is not part of the measurement.
                    let n = size(requests);
                    rate.charge(now, n);
                    bytes += n;
                    requests += 1;
                }
            }
        }
        (bytes as f64 * 1000.0 / now.since(start) as f64, requests)
    }

    #[test]
    fn a_minute_of_any_sizes_is_within_a_twentieth() {
        let mut random = fastrand::Rng::with_seed(1);
        for limit in [300, 1_000, 20_000, 1_000_000] {
            let (rate, _) = measured(limit, 60_000, |_| random.u64(300..limit + 301));
            let error = (rate - limit as f64).abs() / limit as f64;
            assert!(error < 0.05, "{limit}: {rate}");
        }
    }

    #[test]
    fn the_smallest_limit_starves_nobody() {
        let (_, requests) = measured(1, 24 * 3_600_000, |_| 10_000);
        assert_eq!(
            requests, 9,
            "one request of 10,000 bytes in 10,000 s, and one at the start"
        );
    }

    #[test]
    fn the_burst_is_a_second_and_one_request() {
        let mut rate = Rate::new(1_000);
        let now = Instant(3_600_000);
        let mut sent = 0;
        while rate.wait(now).is_none() {
            rate.charge(now, 400);
            sent += 400;
        }
        assert_eq!(sent, 1_200);
        assert_eq!(rate.wait(now), Some((now + 200, false)));
        assert_eq!(rate.wait(now + 200), None);
    }

    #[test]
    fn no_limit_never_waits_and_nothing_overflows() {
        let mut rate = Rate::new(0);
        rate.charge(Instant(0), u64::MAX);
        assert_eq!(rate.wait(Instant(0)), None);
        let mut rate = Rate::new(u64::MAX);
        for _ in 0..3 {
            rate.charge(Instant(u64::MAX), u64::MAX);
        }
        rate.charge(Instant(0), u64::MAX);
        assert!(rate.wait(Instant(u64::MAX)).is_some());
    }
}
