//! How many senders side by side a remote would need to keep up: `prometheus_remote_storage_shards_desired`.
//!
//! There is one, always. The figure says whether it is enough, by the rule of Prometheus' queue manager: the time that a sample
//! takes to be settled, retries included, times the samples that come in and a twentieth of those that wait, per second. Above 1
//! the remote falls behind or does not catch up, which is what the mixin's alert PrometheusRemoteWriteDesiredShards asks.
//!
//! Rates are averages over periods of 10 s, the newest weighing a fifth. Costs 100 bytes a remote.
//!
//! Source: prometheus.md §5.5, §5.6.

use crate::clock::Instant;

/// Length of a period, milliseconds.
const PERIOD_MS: u64 = 10_000;

/// Weight of the newest period in an average.
const WEIGHT: f64 = 0.2;

/// Periods after which what was before does not count any more.
const MEMORY: u64 = 64;

/// Share of what waits that is to be sent in each second, besides what comes in.
const CATCH_UP: f64 = 0.05;

/// Something per second.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    counted: f64,
    average: Option<f64>,
}

impl Rate {
    fn end(&mut self, ms: u64, periods: u64) {
        let latest = core::mem::take(&mut self.counted) * 1_000.0 / ms as f64;
        let before = self.average.unwrap_or(latest);
        self.average = Some((0..periods.min(MEMORY)).fold(before, |all, _| all + WEIGHT * (latest - all)));
    }

    fn per_second(self) -> f64 {
        self.average.unwrap_or(0.0)
    }
}

/// What only grows: samples stored, and those that this remote's rules have dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Samples stored for all remotes.
    pub stored: u64,
    /// Of them those that are not meant for this one.
    pub unwanted: u64,
}

/// One remote's load.
#[derive(Debug)]
pub struct Demand {
    since: Instant,
    totals: Totals,
    /// When the batch in hand was first sent.
    begun: Option<Instant>,
    stored: Rate,
    unwanted: Rate,
    settled: Rate,
    /// Seconds in which a batch was under way.
    busy: Rate,
}

impl Demand {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            totals: Totals::default(),
            begun: None,
            stored: Rate::default(),
            unwanted: Rate::default(),
            settled: Rate::default(),
            busy: Rate::default(),
        }
    }

    /// A batch is sent, perhaps not for the first time.
    pub fn sending(&mut self, now: Instant) {
        self.begun.get_or_insert(now);
    }

    /// The batch is done with, one way or the other.
    pub fn settled(&mut self, now: Instant, samples: usize) {
        if let Some(begun) = self.begun.take() {
            self.settled.counted += samples as f64;
            self.busy.counted += now.since(begun) as f64 / 1_000.0;
        }
    }

    /// Ends a period if it is time; to be called every now and then.
    pub fn look(&mut self, now: Instant, totals: Totals) {
        let ms = now.since(self.since);
        if ms < PERIOD_MS {
            return;
        }
        let before = core::mem::replace(&mut self.totals, totals);
        self.since = now;
        self.stored.counted += totals.stored.saturating_sub(before.stored) as f64;
        self.unwanted.counted += totals.unwanted.saturating_sub(before.unwanted) as f64;
        for rate in [&mut self.stored, &mut self.unwanted, &mut self.settled, &mut self.busy] {
            rate.end(ms, ms / PERIOD_MS);
        }
    }

    /// Senders needed, in thousandths, when the newest sample settled is `behind_ms` older than the newest stored.
    #[must_use]
    pub fn desired_milli(&self, behind_ms: i64) -> i64 {
        let settled = self.settled.per_second();
        if settled <= 0.0 {
            return 1_000;
        }
        let kept = settled / (settled + self.unwanted.per_second());
        let wanted = self.stored.per_second() * kept;
        let waiting = wanted * behind_ms.max(0) as f64 / 1_000.0;
        let desired = self.busy.per_second() / settled * (wanted + CATCH_UP * waiting);
        // Saturates where it is absurd.
        (desired * 1_000.0) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A remote that gets 100 samples a second in one batch a second, each taking `took_ms`.
    fn busy(took_ms: u64, seconds: u64) -> Demand {
        let mut demand = Demand::new(Instant(0));
        for second in 0..seconds {
            let at = Instant(second * 1_000);
            demand.sending(at);
            demand.settled(at + took_ms, 100);
            let stored = (second + 1) * 100;
            demand.look(at + 1_000, Totals { stored, unwanted: 0 });
        }
        demand
    }

    #[test]
    fn one_sender_suffices_while_requests_are_short() {
        assert_eq!(Demand::new(Instant(0)).desired_milli(0), 1_000, "nothing known");
        assert_eq!(busy(200, 60).desired_milli(0), 200);
        assert_eq!(busy(200, 60).desired_milli(10_000), 300, "ten seconds behind");
        assert_eq!(busy(200, 60).desired_milli(-5), 200);
    }

    #[test]
    fn more_would_be_needed_when_samples_take_longer_than_they_come() {
        assert_eq!(busy(3_000, 60).desired_milli(0), 3_000);
        // An outage: one batch waits, the rest comes in behind it.
        let mut demand = busy(200, 60);
        demand.sending(Instant(60_000));
        demand.look(
            Instant(660_000),
            Totals {
                stored: 66_000,
                unwanted: 0,
            },
        );
        assert!(
            demand.desired_milli(600_000) > 1_000,
            "{}",
            demand.desired_milli(600_000)
        );
        // Over, and caught up.
        demand.settled(Instant(660_100), 60_000);
        demand.look(
            Instant(670_100),
            Totals {
                stored: 67_000,
                unwanted: 0,
            },
        );
        assert!(demand.desired_milli(0) < 1_000, "{}", demand.desired_milli(0));
    }

    #[test]
    fn what_the_rules_drop_is_not_counted() {
        let mut demand = Demand::new(Instant(0));
        for second in 1..=40 {
            let at = Instant(second * 1_000);
            demand.sending(at);
            demand.settled(at + 400, 25);
            demand.look(
                at + 1_000,
                Totals {
                    stored: second * 100,
                    unwanted: second * 75,
                },
            );
        }
        let desired = demand.desired_milli(0);
        assert!((360..=440).contains(&desired), "{desired}");
    }
}
