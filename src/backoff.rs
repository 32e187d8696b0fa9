//! Exponential back-off with bounded jitter and Retry-After.
//!
//! Says how long to wait before the next attempt; it never looks at a clock and never sleeps. One value serves one
//! remote. Nothing is allocated.
//!
//! # Invariants
//!
//! - Steps double from the minimum up to the cap; a delay lies within 10% *below* its step, so it never exceeds the
//!   cap and is never less than 0.9 times the delay before it. Compliance suites ask for 0.8, which full jitter
//!   would fail; without any jitter a fleet that lost the same receiver would come back in step.
//! - A Retry-After replaces one step and is never undercut: its jitter is added.
//! - The same seed gives the same delays.
//!
//! Sources: Prometheus `storage/remote/queue_manager.go` (30 ms to 5 s, doubling, Retry-After replaces one sleep),
//! RFC 9110 §10.2.3.

/// Longest Retry-After that is honoured, milliseconds. Receivers in the field ask for 6 s to 96 s (Mimir); a value of
/// hours or days is a broken clock or a hostile answer, and must not silence a box for that long.
pub const MAX_RETRY_AFTER_MS: u64 = 10 * 60 * 1000;

/// Share of a step that jitter may take: one part in this many.
const JITTER_DIVISOR: u64 = 10;

/// The waits between attempts for one remote.
#[derive(Clone, Debug)]
pub struct Backoff {
    min_ms: u64,
    max_ms: u64,
    /// Base of the next delay.
    step_ms: u64,
    random: u64,
}

impl Backoff {
    /// Doubles from `min_ms` to `max_ms`. A minimum of 0 counts as 1, a maximum below the minimum as the minimum.
    #[must_use]
    pub const fn new(min_ms: u64, max_ms: u64, seed: u64) -> Self {
        let min_ms = if min_ms == 0 { 1 } else { min_ms };
        let max_ms = if max_ms < min_ms { min_ms } else { max_ms };
        Self {
            min_ms,
            max_ms,
            step_ms: min_ms,
            random: seed,
        }
    }

    /// Milliseconds to wait before the next attempt.
    pub fn delay(&mut self) -> u64 {
        self.delay_up_to(self.max_ms)
    }

    /// As [`Backoff::delay`], with a lower cap for this step and for the growth it causes.
    pub fn delay_up_to(&mut self, cap_ms: u64) -> u64 {
        let cap = cap_ms.clamp(self.min_ms, self.max_ms);
        let step = self.step_ms.min(cap);
        self.step_ms = step.saturating_mul(2).min(cap);
        step - self.jitter(step)
    }

    /// Milliseconds to wait when the receiver asked for `retry_after_ms`; at most [`MAX_RETRY_AFTER_MS`] and a tenth.
    ///
    /// The next ordinary step is twice that, within the cap, as Prometheus does.
    pub fn retry_after(&mut self, retry_after_ms: u64) -> u64 {
        let asked = retry_after_ms.min(MAX_RETRY_AFTER_MS);
        self.step_ms = (asked * 2).clamp(self.min_ms, self.max_ms);
        asked + self.jitter(asked)
    }

    /// Milliseconds within 10% below `step_ms`, which may lie beyond the cap; nothing grows.
    pub fn delay_of(&mut self, step_ms: u64) -> u64 {
        step_ms - self.jitter(step_ms)
    }

    /// Starts again at the minimum: the last attempt got through.
    pub const fn reset(&mut self) {
        self.step_ms = self.min_ms;
    }

    /// Evenly spread over 0..=`step_ms`/10.
    fn jitter(&mut self, step_ms: u64) -> u64 {
        let span = step_ms / JITTER_DIVISOR + 1;
        // The high half times the span, shifted down: no bias worth naming for spans below 2^32.
        ((next_random(&mut self.random) >> 32) * span) >> 32
    }
}

/// SplitMix64: passes statistical tests from any seed, 0 included; nothing here needs secrecy.
pub(crate) const fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_30_ms_to_5_s_and_stays() {
        let mut backoff = Backoff::new(30, 5000, 7);
        for step in [30, 60, 120, 240, 480, 960, 1920, 3840, 5000, 5000, 5000] {
            let delay = backoff.delay();
            assert!(delay <= step && delay >= step - step / 10, "step {step}, delay {delay}");
        }
        backoff.reset();
        assert!(backoff.delay() <= 30);
    }

    #[test]
    fn no_gap_is_below_four_fifths_of_the_gap_before() {
        for seed in 0..2000 {
            let mut backoff = Backoff::new(30, 5000, seed);
            let mut before = 0;
            for _ in 0..40 {
                let delay = backoff.delay();
                assert!(delay * 10 >= before * 8, "seed {seed}: {before} then {delay}");
                assert!(delay <= 5000);
                before = delay;
            }
        }
    }

    #[test]
    fn jitter_differs_between_seeds_and_repeats_for_one() {
        let delays = |seed| {
            let mut backoff = Backoff::new(1000, 5000, seed);
            [backoff.delay(), backoff.delay(), backoff.delay()]
        };
        assert_eq!(delays(1), delays(1));
        let distinct: alloc::collections::BTreeSet<_> = (0..100).map(delays).collect();
        assert!(distinct.len() > 95);
        // All of the allowed tenth is used.
        let firsts: alloc::vec::Vec<u64> = (0..1000).map(|seed| delays(seed)[0]).collect();
        assert!(firsts.iter().any(|&d| d < 910) && firsts.iter().any(|&d| d > 990));
    }

    #[test]
    fn retry_after_replaces_one_step_and_is_never_undercut() {
        let mut backoff = Backoff::new(30, 5000, 3);
        let delay = backoff.retry_after(1000);
        assert!((1000..=1100).contains(&delay));
        assert!((1800..=2000).contains(&backoff.delay()));
        let delay = backoff.retry_after(60_000);
        assert!((60_000..=66_000).contains(&delay));
        assert!((4500..=5000).contains(&backoff.delay()));
        assert!(backoff.retry_after(0) <= 1);
        assert!(backoff.delay() <= 30);
    }

    #[test]
    fn absurd_retry_after_is_capped() {
        let mut backoff = Backoff::new(30, 5000, 3);
        let delay = backoff.retry_after(u64::MAX);
        assert!((MAX_RETRY_AFTER_MS..=MAX_RETRY_AFTER_MS * 11 / 10).contains(&delay));
    }

    #[test]
    fn a_lower_cap_binds_growth_too() {
        let mut backoff = Backoff::new(30, 5000, 9);
        let last = (0..20).map(|_| backoff.delay_up_to(1000)).last();
        assert!(last.is_some_and(|d| (900..=1000).contains(&d)));
        assert!((900..=1000).contains(&backoff.delay()));
        assert!((1800..=2000).contains(&backoff.delay()));
    }

    #[test]
    fn impossible_bounds_are_mended() {
        let mut backoff = Backoff::new(0, 0, 0);
        assert!((0..=1).contains(&backoff.delay()));
        let mut backoff = Backoff::new(100, 50, 0);
        assert!((90..=100).contains(&backoff.delay()));
    }
}
