//! When each target is scraped, and which timestamp its samples get.
//!
//! Every target has a fixed phase inside its interval, the same after every restart, spread over targets and hosts,
//! measured from multiples of the interval since the Unix epoch. The first scrape comes within
//! [`FIRST_ROUND_MS`] of [`Schedule::set`]; after it the target settles into its phase, half to one and a half intervals
//! later. It does not start scrapes, count how many run, or read a clock: the host asks [`Schedule::next_due`],
//! sleeps, takes [`Schedule::due`] while it has a free session, and reports [`Schedule::done`].
//!
//! # Difference to Prometheus, on purpose
//!
//! Everything runs on boot time; wall time only sets the phase. A step of the wall clock therefore freezes nothing
//! and loses nothing (Prometheus' one-sided comparison freezes timestamps after a step back, SCR-306). After a step of
//! [`REPHASE_MS`] or more the phases are computed anew. Before the wall clock is known phases count from boot.
//!
//! # Invariants
//!
//! - Timestamps of one target rise strictly.
//! - A target is never due while its scrape runs. Missed slots are dropped, never queued; only a slot missed by at most a
//!   tenth of the interval is still served, so that a target that always needs its whole timeout keeps its rate.
//! - A timestamp is its slot if the scrape started within `min(interval/100, 2 ms)` of it on either side, else
//!   the start itself: a steady target gives exact multiples.
//!
//! # Cost
//!
//! 40 bytes per target; every call reads all entries, which are at most [`MAX_TARGETS`].
//!
//! Sources: SCR-301 to SCR-307, SCR-953.

use crate::clock::Instant;
use crate::hash::hash64;
use crate::limits::MAX_TARGETS;
use crate::sample::TargetRef;
use alloc::boxed::Box;
use alloc::vec;

/// The first scrape of a target comes within this many milliseconds: soon, but not all targets in the same one. With the time
/// a mount takes it stays below the 100 ms promised from start to first scrape.
pub const FIRST_ROUND_MS: u64 = 50;

/// A step of the wall clock by this many milliseconds moves the phases; the ring records steps from 250 ms on too.
pub const REPHASE_MS: u64 = 250;

/// Largest distance between slot and start at which the slot is the timestamp (SCR-305).
const TOLERANCE_MS: u64 = 2;

/// A scrape to start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The target.
    pub target: TargetRef,
    /// Timestamp of its samples, boot time.
    pub time: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unused,
    /// Its first scrape is at `next`.
    New,
    Waiting,
    Running,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Picks the phase.
    key: u64,
    /// The slot waited for, or the one being served.
    next: Instant,
    /// Timestamp of the newest scrape.
    last: Option<Instant>,
    interval_ms: u32,
    state: State,
    /// The phase is new: the next slot must keep half an interval of distance.
    settling: bool,
}

const UNUSED: Entry = Entry {
    key: 0,
    next: Instant(0),
    last: None,
    interval_ms: 1,
    state: State::Unused,
    settling: false,
};

/// Timetable of all targets.
#[derive(Debug)]
pub struct Schedule {
    entries: Box<[Entry]>,
    /// Wall time minus boot time at the last phasing.
    offset_ms: Option<i64>,
}

/// What fixes the phase of a target: its labels and URL, and the host's own `seed`.
///
/// Stable over restarts, different per host (SCR-302; the values are not Prometheus').
#[must_use]
pub fn phase_key(target_body: &str, url: &str, seed: u64) -> u64 {
    hash64(hash64(0, target_body.as_bytes()), url.as_bytes()) ^ seed
}

/// The seed of a host: from its name and external labels (SCR-302).
#[must_use]
pub fn host_seed(host_name: &str, external_labels: &str) -> u64 {
    hash64(hash64(0, host_name.as_bytes()), external_labels.as_bytes())
}

impl Schedule {
    /// An empty timetable for targets below `max_targets`. The only call that allocates.
    #[must_use]
    pub fn new(max_targets: usize) -> Self {
        Self {
            entries: vec![UNUSED; max_targets.min(MAX_TARGETS)].into_boxed_slice(),
            offset_ms: None,
        }
    }

    /// Targets it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Exact heap bytes.
    #[must_use]
    pub const fn ram_bytes(max_targets: usize) -> usize {
        let targets = if max_targets > MAX_TARGETS {
            MAX_TARGETS
        } else {
            max_targets
        };
        targets * size_of::<Entry>()
    }

    /// Adds target `t`, or changes its interval or key. A target that stays as it was keeps its phase (SCR-953).
    ///
    /// An interval of 0 counts as 1 ms. A target beyond the size of the timetable is ignored.
    pub fn set(&mut self, t: TargetRef, interval_ms: u32, key: u64, now: Instant) {
        let interval_ms = interval_ms.max(1);
        let Some(entry) = self.entries.get_mut(usize::from(t.0)) else {
            return;
        };
        if entry.state == State::Unused {
            *entry = Entry {
                key,
                next: now + key % FIRST_ROUND_MS,
                interval_ms,
                state: State::New,
                ..UNUSED
            };
        } else if (entry.interval_ms, entry.key) != (interval_ms, key) {
            entry.interval_ms = interval_ms;
            entry.key = key;
            entry.rephase(self.offset_ms, now);
        }
    }

    /// Removes target `t`.
    pub fn remove(&mut self, t: TargetRef) {
        if let Some(entry) = self.entries.get_mut(usize::from(t.0)) {
            *entry = UNUSED;
        }
    }

    /// Wall time is `offset_ms` ahead of boot time now. Call when it became known or changed.
    pub fn clock(&mut self, offset_ms: i64, now: Instant) {
        if self.offset_ms.is_some_and(|old| old.abs_diff(offset_ms) < REPHASE_MS) {
            return;
        }
        self.offset_ms = Some(offset_ms);
        for entry in &mut self.entries {
            entry.rephase(self.offset_ms, now);
        }
    }

    /// The next scrape to start at `now`, the one that has waited longest first. It counts as running until
    /// [`Schedule::done`].
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        self.due_of(now, |_| true)
    }

    /// As [`Schedule::due`], among the targets that are `allowed`.
    pub fn due_of(&mut self, now: Instant, allowed: impl Fn(TargetRef) -> bool) -> Option<Due> {
        let waiting = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_due(now));
        let waiting = waiting.filter(|(index, _)| allowed(TargetRef(*index as u8)));
        let (index, _) = waiting.min_by_key(|(_, entry)| entry.next)?;
        let entry = &mut self.entries[index];
        let time = entry.start(self.offset_ms, now);
        // At most `MAX_TARGETS` entries.
        let target = TargetRef(index as u8);
        Some(Due { target, time })
    }

    /// When [`Schedule::due`] will next have something; `None` while nothing waits.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.next_due_of(|_| true)
    }

    /// As [`Schedule::next_due`], among the targets that are `allowed`.
    #[must_use]
    pub fn next_due_of(&self, allowed: impl Fn(TargetRef) -> bool) -> Option<Instant> {
        let waiting = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_waiting());
        let waiting = waiting.filter(|(index, _)| allowed(TargetRef(*index as u8)));
        waiting.map(|(_, entry)| entry.next).min()
    }

    /// The scrape of `t` has ended, well or not.
    pub fn done(&mut self, t: TargetRef, now: Instant) {
        if let Some(entry) = self.entries.get_mut(usize::from(t.0))
            && entry.state == State::Running
        {
            entry.state = State::Waiting;
            entry.next = entry.slot_after_scrape(self.offset_ms, now);
            entry.settling = false;
        }
    }

    /// The scrape of `t` was given up without a verdict: it is due again at `again`, its slot not yet served. False if none runs.
    pub fn again(&mut self, t: TargetRef, again: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(usize::from(t.0)) else {
            return false;
        };
        if entry.state != State::Running {
            return false;
        }
        entry.state = if entry.settling { State::New } else { State::Waiting };
        entry.next = entry.next.max(again);
        true
    }

    /// Interval of `t`, milliseconds; `None` if it is not in the timetable.
    #[must_use]
    pub fn interval_ms(&self, t: TargetRef) -> Option<u32> {
        let entry = self.entries.get(usize::from(t.0))?;
        (entry.state != State::Unused).then_some(entry.interval_ms)
    }
}

impl Entry {
    fn interval(&self) -> u64 {
        u64::from(self.interval_ms)
    }

    fn tolerance(&self) -> u64 {
        (self.interval() / 100).min(TOLERANCE_MS)
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, State::New | State::Waiting)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.is_waiting() && now + self.tolerance() >= self.next
    }

    /// The first slot at or after `from`.
    fn slot_from(&self, offset_ms: Option<i64>, from: Instant) -> Instant {
        let interval = self.interval();
        let phase = i128::from(self.key % interval) - i128::from(offset_ms.unwrap_or(0));
        let wait = (phase - i128::from(from.0)).rem_euclid(i128::from(interval));
        // Below the interval, which fits.
        from + wait as u64
    }

    /// Takes the slot that is due and says the timestamp.
    fn start(&mut self, offset_ms: Option<i64>, now: Instant) -> Instant {
        let mut time = now;
        if self.state == State::New {
            self.settling = true;
            self.next = now;
        } else {
            if now.since(self.next) >= self.interval() {
                // Slots were missed: serve the newest, forget the others.
                self.next = self.slot_from(offset_ms, now - (self.interval() - 1));
            }
            if now.since(self.next).max(self.next.since(now)) <= self.tolerance() {
                time = self.next;
            }
        }
        if let Some(last) = self.last {
            time = time.max(last + 1);
        }
        self.state = State::Running;
        self.last = Some(time);
        time
    }

    fn slot_after_scrape(&self, offset_ms: Option<i64>, now: Instant) -> Instant {
        if self.settling {
            return self.spaced_slot(offset_ms, now);
        }
        let grace = self.interval() / 10;
        let earliest = (now - grace).max(self.next + 1);
        self.slot_from(offset_ms, earliest)
    }

    /// The first slot not before `now` and at least half an interval after the last scrape.
    fn spaced_slot(&self, offset_ms: Option<i64>, now: Instant) -> Instant {
        let earliest = self.last.map_or(now, |last| now.max(last + self.interval() / 2));
        self.slot_from(offset_ms, earliest)
    }

    fn rephase(&mut self, offset_ms: Option<i64>, now: Instant) {
        match self.state {
            State::Waiting => self.next = self.spaced_slot(offset_ms, now),
            State::Running => self.settling = true,
            State::Unused | State::New => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const T: TargetRef = TargetRef(0);
    const INTERVAL: u32 = 15_000;

    fn at(ms: u64) -> Instant {
        Instant(ms)
    }

    /// One target past its first scrape; returns its next slot.
    fn settled(schedule: &mut Schedule, key: u64) -> Instant {
        schedule.set(T, INTERVAL, key, at(1_000));
        let first = schedule.next_due().unwrap();
        assert_eq!(schedule.due(first).unwrap().time, first);
        schedule.done(T, first + 50);
        schedule.next_due().unwrap()
    }

    #[test]
    fn targets_that_are_not_allowed_wait_and_hold_nobody_up() {
        let mut schedule = Schedule::new(2);
        schedule.set(T, INTERVAL, 0, at(0));
        schedule.set(TargetRef(1), INTERVAL, 7, at(0));
        let second = |t: TargetRef| t == TargetRef(1);
        assert_eq!(schedule.next_due_of(second), Some(at(7)));
        assert_eq!(
            schedule.due_of(at(60), second).map(|due| due.target),
            Some(TargetRef(1))
        );
        assert_eq!(schedule.due_of(at(60), second), None);
        assert_eq!(schedule.due(at(60)).map(|due| due.target), Some(T));
    }

    #[test]
    fn scr_301_the_phase_is_fixed_in_wall_time_and_survives_a_restart() {
        for key in [0, 7, 14_999, 123_456_789] {
            // Two runs of the agent with different boots.
            for (start, offset) in [(1_000, 1_700_000_000_123), (987_654, 1_690_000_000_777)] {
                let mut schedule = Schedule::new(1);
                schedule.clock(offset, at(start));
                schedule.set(T, INTERVAL, key, at(start));
                schedule.due(at(start + 100)).unwrap();
                schedule.done(T, at(start + 150));
                let slot = schedule.next_due().unwrap();
                assert_eq!((slot.0 as i64 + offset) as u64 % 15_000, key % 15_000);
            }
        }
    }

    #[test]
    fn scr_302_keys_spread_and_differ_per_host() {
        let mut used = [0u32; 10];
        for i in 0..1_000 {
            let body = alloc::format!("instance=\"host{i}:9100\",job=\"node\"");
            let [a, b] = ["a", "b"].map(|host| phase_key(&body, "http://x/metrics", host_seed(host, "")));
            assert_ne!(a, b);
            assert_eq!(a, phase_key(&body, "http://x/metrics", host_seed("a", "")));
            used[(a % 15_000 / 1_500) as usize] += 1;
        }
        assert!(used.iter().all(|&count| (50..150).contains(&count)), "{used:?}");
        assert_ne!(host_seed("a", ""), host_seed("a", "site=\"x\""));
    }

    #[test]
    fn the_first_round_is_immediate_then_targets_settle() {
        let mut schedule = Schedule::new(60);
        for i in 0..60 {
            schedule.set(
                TargetRef(i),
                INTERVAL,
                phase_key("x", "y", u64::from(i) * 977),
                at(5_000),
            );
        }
        let mut seen = 0;
        while let Some(due) = schedule.due(at(5_000 + FIRST_ROUND_MS)) {
            schedule.done(due.target, at(5_000 + FIRST_ROUND_MS));
            seen += 1;
        }
        assert_eq!(seen, 60);
        let slots: Vec<_> = schedule.entries.iter().map(|entry| entry.next.0).collect();
        let (low, high) = (*slots.iter().min().unwrap(), *slots.iter().max().unwrap());
        assert!(low >= 5_000 + 7_500 && high < 5_100 + 22_500, "{low} {high}");
        assert!(high - low > 10_000, "spread over the interval");
    }

    #[test]
    fn scr_303_missed_slots_are_dropped() {
        let mut schedule = Schedule::new(1);
        let slot = settled(&mut schedule, 3);
        schedule.due(slot).unwrap();
        schedule.done(T, slot + 40_000);
        assert_eq!(schedule.next_due(), Some(slot + 45_000));
        // Nobody asked for a long time, as after a suspend: one scrape, not a burst.
        let late = slot + 45_000 + 100_000;
        assert_eq!(schedule.due(late).unwrap().time, late);
        assert_eq!(schedule.due(late), None);
        schedule.done(T, late + 10);
        assert_eq!(schedule.next_due(), Some(slot + 150_000));
    }

    #[test]
    fn scr_303_a_target_that_needs_its_whole_interval_keeps_its_rate() {
        let mut schedule = Schedule::new(1);
        let slot = settled(&mut schedule, 3);
        schedule.due(slot).unwrap();
        schedule.done(T, slot + 15_004);
        assert_eq!(schedule.due(slot + 15_004).map(|due| due.time), Some(slot + 15_004));
    }

    #[test]
    fn scr_305_timestamps_are_slots_within_the_tolerance_on_both_sides() {
        for (jitter, aligned) in [
            (-2, true),
            (-1, true),
            (0, true),
            (1, true),
            (2, true),
            (3, false),
            (900, false),
        ] {
            let mut schedule = Schedule::new(1);
            let slot = settled(&mut schedule, 3);
            let start = Instant(slot.0.saturating_add_signed(jitter));
            let time = schedule.due(start).unwrap().time;
            assert_eq!(time, if aligned { slot } else { start }, "jitter {jitter}");
            schedule.done(T, start + 5);
            assert_eq!(schedule.next_due(), Some(slot + 15_000), "lateness does not add up");
        }
        let mut schedule = Schedule::new(1);
        let slot = settled(&mut schedule, 3);
        assert_eq!(schedule.due(slot - 3), None);
    }

    #[test]
    fn scr_305_short_intervals_tolerate_one_percent() {
        let mut schedule = Schedule::new(1);
        schedule.set(T, 100, 40, at(1_000));
        schedule.due(at(1_100)).unwrap();
        schedule.done(T, at(1_101));
        let slot = schedule.next_due().unwrap();
        assert_eq!(slot.0 % 100, 40);
        assert_eq!(schedule.due(slot + 2).unwrap().time, slot + 2);
    }

    #[test]
    fn scr_306_a_clock_step_freezes_nothing() {
        for step in [-3_600_000, 3_600_000, -90_000_007, 1_234] {
            let mut schedule = Schedule::new(1);
            let mut offset = 1_700_000_000_000;
            schedule.clock(offset, at(0));
            let mut last = settled(&mut schedule, 3);
            schedule.due(last).unwrap();
            schedule.done(T, last + 20);
            offset += step;
            schedule.clock(offset, last + 4_000);
            for round in 0..5 {
                let slot = schedule.next_due().unwrap();
                let gap = slot.since(last);
                assert!((7_500..22_500).contains(&gap), "gap {gap} after a step of {step}");
                assert!(round == 0 || gap == 15_000);
                assert_eq!((slot.0 as i64 + offset) as u64 % 15_000, 3);
                assert_eq!(schedule.due(slot).unwrap().time, slot);
                schedule.done(T, slot + 20);
                last = slot;
            }
        }
    }

    #[test]
    fn a_step_during_a_scrape_is_obeyed_after_it() {
        for step in [1_000, 5_000, 14_000] {
            let mut schedule = Schedule::new(1);
            schedule.clock(0, at(0));
            let slot = settled(&mut schedule, 3);
            schedule.due(slot).unwrap();
            schedule.clock(step, slot + 1);
            schedule.done(T, slot + 20);
            let next = schedule.next_due().unwrap();
            assert_eq!((next.0 + step as u64) % 15_000, 3);
            assert!((7_500..22_500).contains(&next.since(slot)), "{step}");
        }
    }

    #[test]
    fn scr_305_a_late_start_is_aligned_to_the_newest_slot() {
        let mut schedule = Schedule::new(1);
        let slot = settled(&mut schedule, 3);
        assert_eq!(schedule.due(slot + 60_001).unwrap().time, slot + 60_000);
    }

    #[test]
    fn slewing_moves_no_slot() {
        let mut schedule = Schedule::new(1);
        schedule.clock(1_000_000, at(0));
        let slot = settled(&mut schedule, 3);
        schedule.clock(1_000_249, slot - 10);
        assert_eq!(schedule.next_due(), Some(slot));
    }

    #[test]
    fn scr_953_an_unchanged_target_keeps_its_phase() {
        let mut schedule = Schedule::new(2);
        let slot = settled(&mut schedule, 3);
        schedule.set(T, INTERVAL, 3, slot - 500);
        assert_eq!(schedule.next_due(), Some(slot));
        schedule.set(T, 30_000, 3, slot - 500);
        assert_eq!(schedule.next_due().unwrap().0 % 30_000, 3);
        schedule.remove(T);
        assert_eq!(schedule.next_due(), None);
        schedule.set(TargetRef(2), INTERVAL, 3, slot);
        assert_eq!(schedule.next_due(), None, "beyond the timetable");
    }

    #[test]
    fn timestamps_rise_strictly_whatever_the_host_does() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut schedule = Schedule::new(3);
        for i in 0..3 {
            schedule.set(TargetRef(i), [1, 70, 1_000][usize::from(i)], random.u64(..), at(0));
        }
        let (mut now, mut last, mut scrapes) = (at(0), [None; 3], 0);
        for _ in 0..20_000 {
            now = now + random.u64(0..3) * random.u64(0..200);
            if random.u8(0..20) == 0 {
                schedule.clock(random.i64(-100_000..100_000), now);
            }
            if let Some(due) = schedule.due(now) {
                let newest = &mut last[usize::from(due.target.0)];
                assert!(newest.is_none_or(|newest| due.time > newest));
                *newest = Some(due.time);
                scrapes += 1;
                if random.bool() {
                    now = now + random.u64(0..30);
                }
                schedule.done(due.target, now);
            }
        }
        assert!(scrapes > 5_000, "{scrapes}");
    }
}
