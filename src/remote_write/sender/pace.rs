//! How fast a backlog goes home.
//!
//! A region that comes back does so all at once. Each agent alone would send its backlog as fast as the link takes it; ten
//! thousand of them would bury the receiver. Nobody can count the others, so every agent paces itself by what it knows: how
//! much scraped time a batch covers, and how the receiver answers.
//!
//! A backlog older than `slow_start_ms` goes out in whichever of two ways is the quicker:
//!
//! *At a speed*: scraped time per time. It begins at [`FIRST_SPEED`], a little
//! above what the receiver carries anyway, and doubles every [`DOUBLING_MS`] for as long as the receiver answers as quickly as
//! it used to. A slow answer takes a third off; 429, 5xx or no answer halve it, and what was refused is not sent again before
//! [`REFUSED_MS`]. Batches shrink and grow with the speed: about [`TURN_MS`] lie between two requests.
//!
//! *Running*, at a receiver that answers at once: the next request follows the answer. The first holds one scrape, each further one an
//! eighth more. An answer that comes more than [`AT_ONCE_SLACK_MS`] later than expected means that others want something, too: the next request
//! holds one scrape and waits [`FIRST_PAUSE_MS`], after another late one [`LATE_FACTOR`] times as long, and so on
//! until the other way is the quicker; each answer that comes at once takes a quarter off the pause. So an agent that is alone is up to the speed
//! of the link after some twenty answers, and one late answer costs it a tenth of a second and half of
//! its batch. Of many agents each has one request on its way
//! and one scrape in it as long as answers are late: together they send what the receiver works off, not more, and the queue they make there is
//! shorter than the delay they all watch for. This is how LEDBAT (RFC 6817) shares a link; no agent needs to know how many there are.
//!
//! What that bounds: the load of a fleet is at most what its receiver takes without delay. A receiver that could take twenty times its
//! steady load is given that. Who wants less says so with `rate_limit`.
//!
//! When all is sent, pacing is over. Younger backlogs, and a flush, are sent at once.
//!
//! Jitter: the first request after a restart waits for up to [`FIRST_WAIT_MS`], each further one half of
//! its wait more or less, and three quarters of its pause.
//!
//! Nothing is allocated. All arithmetic saturates: times come from clocks and receivers.

use crate::clock::{Instant, UnixMillis};

/// Speeds are in thousandths of the speed of scraping.
const REAL_TIME: u64 = 1_000;

/// Speed of the first paced request. Below it a backlog would take longer than the outage did; above, the
/// first seconds after a regional outage leave the receiver no reserve for noise.
const FIRST_SPEED: u64 = REAL_TIME * 8 / 5;

/// Lowest speed: a backlog still gets shorter.
const LOWEST_SPEED: u64 = REAL_TIME + REAL_TIME / 4;

/// Highest speed: beyond it the wait between two requests is below the time they take.
const HIGHEST_SPEED: u64 = 1 << 40;

/// Time in which the speed doubles, milliseconds. A receiver shows what a fleet asks of it with the delay of
/// a turn: a fleet that doubles in five turns or less overshoots what it has not seen yet by a seventh and more.
const DOUBLING_MS: u64 = 75_000;

/// Milliseconds between two requests, as long as they hold what is due by then.
const TURN_MS: u64 = 10_000;

/// Longest wait between two requests: scraped time may have holes of any length.
const LONGEST_WAIT_MS: u64 = 2 * TURN_MS;

/// Longest wait before the first paced request after a restart, milliseconds: a region whose power returns starts at once. With 10 s the first
/// seconds of ten thousand agents are above three times their steady load; with more than 12 s a day's backlog of one is not home in 15 s.
const FIRST_WAIT_MS: u64 = 11_500;

/// Shortest wait after a paced request was refused for the receiver's load, milliseconds.
const REFUSED_MS: u64 = 5_000;

/// An answer may take this much longer than expected before it counts as slow, milliseconds.
const SLACK_MS: u64 = 100;

/// An answer may take this much longer than expected and still come at once, milliseconds. The queue of a fleet is about as long;
/// below it the unevenness of a healthy receiver counts as a queue.
const AT_ONCE_SLACK_MS: u64 = 20;

/// A receiver whose quickest answer takes longer does not answer at once, milliseconds: what it says is not of now.
const AT_ONCE_MS: u64 = 150;

/// Pause of a run after its first late answer, milliseconds: what one stutter of the receiver or the link costs.
const FIRST_PAUSE_MS: u64 = 100;

/// What each further late answer makes of it. As each that comes at once takes a quarter off, pauses are in balance where two in seven are late.
const LATE_FACTOR: u64 = 2;

/// Pause of what is no run.
const NO_RUN: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Pace {
    slow_start_ms: u64,
    active: bool,
    /// Pause between an answer and the next request of a run.
    pause_ms: u64,
    /// Most samples of a request of a run; 0: there was none yet.
    run: usize,
    /// Most samples per 1,024 ms of a run, beyond three quarters of the quickest answer; 0: not known.
    run_rate: u64,
    /// The last answer came at once.
    at_once: bool,
    speed: u64,
    /// When the speed was last set.
    set_at: Instant,
    /// When the last request left.
    sent: Option<Instant>,
    /// When the last answer came.
    answered: Instant,
    /// When what was quickest was last forgotten a little.
    forgot: Instant,
    /// Not before this instant goes the batch in hand.
    next: Instant,
    /// When its speed lets it go.
    by_speed: Instant,
    /// Newest time that is settled.
    settled: Option<UnixMillis>,
    /// Samples per 1,024 s of scraped time, as of the last batch; 0: not known.
    density: u64,
    /// What is scraped now goes ahead of the backlog: that much of the speed is taken.
    fresh_ahead: bool,
    /// Samples of the largest frame seen.
    largest_frame: usize,
    /// Quickest answer of late, milliseconds.
    quickest_ms: u64,
    /// Most samples per 1,024 ms that an answer took.
    best_rate: u64,
    random: u64,
}

impl Pace {
    pub const fn new(slow_start_ms: u64, seed: u64) -> Self {
        Self {
            slow_start_ms,
            active: false,
            pause_ms: NO_RUN,
            run: 0,
            run_rate: 0,
            at_once: false,
            speed: FIRST_SPEED,
            set_at: Instant(0),
            sent: None,
            answered: Instant(0),
            forgot: Instant(0),
            next: Instant(0),
            by_speed: Instant(0),
            settled: None,
            density: 0,
            fresh_ahead: false,
            largest_frame: 0,
            quickest_ms: u64::MAX,
            best_rate: 0,
            random: seed ^ 0x7061_6365,
        }
    }

    /// Speed over that of scraping in thousandths, while a backlog is paced.
    pub const fn speed(&self) -> Option<u64> {
        if self.active { Some(self.speed) } else { None }
    }

    /// Most samples of a batch, where `most` would be allowed.
    pub fn limit(&self, most: usize) -> usize {
        match self.pause_ms {
            0 if self.active => return self.run.max(self.largest_frame).min(most),
            NO_RUN => {}
            _ if self.active => return self.largest_frame.max(1).min(most),
            _ => {}
        }
        if !self.active || self.density == 0 {
            return most;
        }
        let turn = self.of_backlog().saturating_mul(TURN_MS) / REAL_TIME;
        let due = self.density.saturating_mul(turn) / (1024 * 1000);
        usize::try_from(due)
            .unwrap_or(usize::MAX)
            .max(self.largest_frame)
            .min(most)
    }

    /// Fresh samples take their share of the speed from now on, or no longer.
    pub const fn set_fresh_ahead(&mut self, ahead: bool) {
        self.fresh_ahead = ahead;
    }

    /// Speed of what is left to the backlog. The lowest speed is above that of scraping.
    const fn of_backlog(&self) -> u64 {
        if self.fresh_ahead {
            self.speed - REAL_TIME
        } else {
            self.speed
        }
    }

    /// A batch may have to hold one frame of so many samples.
    pub fn frame(&mut self, samples: usize) {
        self.largest_frame = self.largest_frame.max(samples);
    }

    /// A batch of `samples` between two times is sealed, with more behind it unless `caught_up`; it goes at [`Pace::next`].
    ///
    /// True: pacing has begun, and the batch may be larger than it now should be.
    pub fn sealed(
        &mut self,
        now: Instant,
        wall: Option<UnixMillis>,
        (samples, range): (usize, (UnixMillis, UnixMillis)),
        caught_up: bool,
    ) -> bool {
        self.next = Instant(0);
        let (oldest, newest) = range;
        let since = |from: UnixMillis| u64::try_from(newest.0.saturating_sub(from.0)).unwrap_or(0);
        let lag = wall.and_then(|wall| u64::try_from(wall.0.saturating_sub(oldest.0)).ok());
        let begins = !self.active && self.slow_start_ms > 0 && lag.is_some_and(|lag| lag > self.slow_start_ms);
        if begins {
            self.active = true;
            self.speed = FIRST_SPEED;
            self.set_at = now;
            (self.run, self.pause_ms) = if self.at_once { (1, 0) } else { (0, NO_RUN) };
            self.run_rate = 0;
        }
        if caught_up {
            self.caught_up();
        }
        if !self.active {
            return false;
        }
        let span = since(self.settled.unwrap_or(oldest)).max(since(oldest));
        if let Some(density) = (samples as u64).saturating_mul(1024 * 1000).checked_div(span) {
            self.density = density;
        }
        self.by_speed = match self.sent {
            Some(sent) => {
                let wait = (span.saturating_mul(REAL_TIME) / self.of_backlog()).min(LONGEST_WAIT_MS);
                sent + (wait / 2 + self.random_to(wait))
            }
            None => now + self.random_to(FIRST_WAIT_MS),
        };
        self.next = match self.sent {
            Some(_) => self.next_part(),
            None => self.by_speed,
        };
        begins
    }

    /// There is nothing more to send.
    pub const fn caught_up(&mut self) {
        self.active = false;
        self.next = Instant(0);
    }

    /// When the batch in hand, or a further part of it, may go: a run that makes pauses makes one before each request.
    pub fn next_part(&mut self) -> Instant {
        match self.pause_ms {
            _ if !self.active => Instant(0),
            NO_RUN => self.by_speed,
            pause => {
                let after = self.answered + (pause / 4 + self.random_to(pause / 2 * 3));
                after.min(self.by_speed)
            }
        }
    }

    /// When the batch in hand may go.
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// A request leaves.
    pub const fn sent(&mut self, now: Instant) {
        self.sent = Some(now);
    }

    /// The samples of a batch up to `newest` are settled.
    pub fn settled(&mut self, newest: Option<UnixMillis>) {
        self.settled = self.settled.max(newest);
    }

    /// The receiver took so many samples.
    pub fn taken(&mut self, now: Instant, samples: usize) {
        let Some(sent) = self.sent else { return };
        let (took, samples) = (now.since(sent), samples as u64);
        let size = samples.saturating_mul(1024).checked_div(self.best_rate).unwrap_or(0);
        let expected = self.quickest_ms.saturating_add(size);
        let slow = took > expected.saturating_add(expected / 2).saturating_add(SLACK_MS);
        let quickest = self.quickest_ms.min(took);
        let size = samples.saturating_mul(1024).checked_div(self.run_rate).unwrap_or(0);
        self.at_once = quickest <= AT_ONCE_MS && took <= quickest + AT_ONCE_SLACK_MS + size.min(LONGEST_WAIT_MS);
        if now.since(self.forgot) >= TURN_MS / 2 {
            // What was quickest long ago is forgotten, little by little; not by the many answers of a run.
            self.forgot = now;
            self.quickest_ms = self.quickest_ms.saturating_add(self.quickest_ms / 16 + 1);
            self.best_rate -= self.best_rate / 16;
        }
        let rate = samples.saturating_mul(1024) / took.max(1);
        self.quickest_ms = self.quickest_ms.min(took);
        self.best_rate = self.best_rate.max(rate);
        self.answered = now;
        if self.active {
            let beyond = took.saturating_sub(quickest / 4 * 3).max(1);
            self.run_on(samples.saturating_mul(1024) / beyond);
        }
        if slow {
            self.slow_down(now, self.speed / 3);
        } else if self.active {
            // Where some answers come at once, late ones mean that others are in want: no time for more.
            if self.at_once || quickest > AT_ONCE_MS {
                let passed = now.since(self.set_at).min(DOUBLING_MS);
                self.speed = (self.speed + self.speed.saturating_mul(passed) / DOUBLING_MS).min(HIGHEST_SPEED);
            }
            self.set_at = now;
        }
    }

    /// The length of the next pause of a run, and the size of its next request.
    fn run_on(&mut self, rate: u64) {
        if !self.at_once {
            self.run = (self.run / 2).max(1);
            self.pause_ms = match self.pause_ms {
                0 => FIRST_PAUSE_MS,
                pause if pause < TURN_MS => pause * LATE_FACTOR,
                _ => {
                    self.run_rate = 0;
                    NO_RUN
                }
            };
            return;
        }
        self.run_rate = self.run_rate.max(rate);
        if self.pause_ms == 0 {
            self.run = self.run.max(self.largest_frame).saturating_mul(9) / 8 + 1;
        }
        self.pause_ms = match self.pause_ms {
            NO_RUN if self.run == 0 => 0,
            NO_RUN => TURN_MS,
            pause if pause <= FIRST_PAUSE_MS => 0,
            pause => pause / 4 * 3,
        };
        self.run = self.run.max(1);
    }

    /// The receiver did not take a request for its load, or did not answer; the shortest wait.
    pub fn refused(&mut self, now: Instant) -> u64 {
        self.slow_down(now, self.speed / 2);
        self.at_once = false;
        self.pause_ms = NO_RUN;
        self.run_rate = 0;
        self.run = 1;
        if self.active {
            REFUSED_MS + self.random_to(REFUSED_MS)
        } else {
            0
        }
    }

    fn slow_down(&mut self, now: Instant, by: u64) {
        self.speed = (self.speed - by).max(LOWEST_SPEED);
        self.set_at = now;
    }

    /// Evenly spread over 0..=`most`, which is below 2^32.
    fn random_to(&mut self, most: u64) -> u64 {
        let draw = crate::backoff::next_random(&mut self.random);
        ((draw >> 32) * (most + 1)) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const HOUR_MS: i64 = 3_600_000;

    /// Seals a batch of 100 samples over 15 s that is an hour old.
    fn seal(pace: &mut Pace, now: u64, at: i64) -> bool {
        let range = (UnixMillis(at), UnixMillis(at + 15_000));
        pace.sealed(Instant(now), Some(UnixMillis(at + HOUR_MS)), (100, range), false)
    }

    #[test]
    fn an_old_backlog_begins_a_little_faster_than_scraping() {
        let mut pace = Pace::new(60_000, 1);
        pace.sent(Instant(1_000));
        assert!(seal(&mut pace, 1_000, 0));
        assert!(!seal(&mut pace, 1_000, 0), "it begins once");
        let wait = pace.next().since(Instant(1_000));
        assert!((4_600..=14_100).contains(&wait), "{wait}");
        // 16 s of scraped time per turn.
        assert_eq!(pace.limit(10_000), 106);
        assert_eq!(pace.limit(50), 50);
        pace.frame(200);
        assert_eq!(pace.limit(10_000), 200, "a whole scrape");
    }

    #[test]
    fn the_speed_doubles_while_answers_are_quick() {
        let mut pace = Pace::new(60_000, 1);
        let (mut now, mut at, mut doublings) = (0, 0, 0);
        while now < 10 * DOUBLING_MS {
            seal(&mut pace, now, at);
            now = pace.next().0.max(now);
            pace.sent(Instant(now));
            now += AT_ONCE_MS + 10;
            pace.taken(Instant(now), 100);
            pace.settled(Some(UnixMillis(at + 15_000)));
            at += 15_000;
            let expected = FIRST_SPEED << (now / DOUBLING_MS).min(30);
            doublings += u64::from(pace.speed >= expected);
        }
        assert!(pace.speed > FIRST_SPEED << 9, "{}", pace.speed);
        assert!(doublings > 10);
    }

    /// Sends a backlog of a day, 100 samples per scrape, to a receiver that takes so long for so many samples; milliseconds, requests.
    fn day(pace: &mut Pace, mut takes_ms: impl FnMut(u64, usize) -> u64) -> (u64, u64) {
        let (mut now, mut scrape, mut requests) = (0, 0, 0);
        pace.frame(100);
        while scrape < 5_760 {
            let scrapes = loop {
                let scrapes = (pace.limit(8_000) / 100).clamp(1, 5_760 - scrape);
                let from = scrape as i64 * 15_000;
                let range = (UnixMillis(from), UnixMillis(from + (scrapes as i64 - 1) * 15_000));
                let wall = Some(UnixMillis(86_400_000));
                if !pace.sealed(Instant(now), wall, (scrapes * 100, range), scrape + scrapes == 5_760) {
                    break scrapes;
                }
            };
            now = now.max(pace.next().0);
            pace.sent(Instant(now));
            now += takes_ms(now, scrapes * 100);
            pace.taken(Instant(now), scrapes * 100);
            scrape += scrapes;
            pace.settled(Some(UnixMillis((scrape as i64 - 1) * 15_000)));
            requests += 1;
        }
        (now, requests)
    }

    #[test]
    fn alone_at_a_quick_receiver_a_day_is_a_matter_of_seconds() {
        // A live batch before the outage was answered in 40 ms.
        let mut pace = Pace::new(60_000, 1);
        pace.sent(Instant(0));
        pace.taken(Instant(40), 100);
        let (ms, requests) = day(&mut pace, |_, samples| 40 + samples as u64 / 1_000);
        assert!(ms < 6_000, "{ms} ms, {requests} requests");
        assert_eq!(pace.speed(), None);
        // After a restart it waits for its jitter first.
        let mut pace = Pace::new(60_000, 1);
        let (ms, _) = day(&mut pace, |_, samples| 40 + samples as u64 / 1_000);
        assert!(ms < 6_000 + FIRST_WAIT_MS, "{ms}");
    }

    #[test]
    fn a_stutter_costs_a_run_little() {
        let mut pace = Pace::new(60_000, 1);
        pace.sent(Instant(0));
        pace.taken(Instant(40), 100);
        let mut n = 0;
        let (ms, _) = day(&mut pace, |_, samples| {
            n += 1;
            40 + samples as u64 / 1_000 + if n % 20 == 0 { 300 } else { 0 }
        });
        assert!(ms < 20_000, "{ms}");
    }

    #[test]
    fn a_receiver_that_stays_late_ends_the_run() {
        let mut pace = Pace::new(60_000, 1);
        pace.sent(Instant(0));
        pace.taken(Instant(40), 100);
        let mut at = Vec::new();
        day(&mut pace, |now, samples| {
            at.push((now, samples));
            // Quick again after a minute.
            if at.len() > 1 && now < 60_000 { 120 } else { 40 }
        });
        let in_minute: Vec<_> = at.iter().filter(|(now, _)| *now < 60_000).collect();
        assert!(in_minute.len() < 20, "{in_minute:?}");
        assert!(in_minute.iter().all(|(_, samples)| *samples <= 200), "{in_minute:?}");
        let (end, _) = *at.last().expect("sent");
        assert!(end < 180_000, "{end}");
    }

    #[test]
    fn a_slow_link_is_no_queue() {
        // 60 ms there and back, 20,000 samples a second.
        let mut pace = Pace::new(60_000, 1);
        pace.sent(Instant(0));
        pace.taken(Instant(65), 100);
        let (ms, _) = day(&mut pace, |_, samples| 60 + samples as u64 / 20);
        assert!(ms < 40_000, "{ms} of 28,800 for the samples alone");
    }

    #[test]
    fn slow_answers_and_refusals_lower_it_down_to_a_floor() {
        let mut pace = Pace::new(60_000, 1);
        pace.sent(Instant(0));
        seal(&mut pace, 0, 0);
        pace.speed = 16_000;
        pace.taken(Instant(50), 100);
        let before = pace.speed;
        pace.sent(Instant(1_000));
        pace.taken(Instant(2_000), 100);
        assert_eq!(pace.speed, before - before / 3, "a second where 50 ms were usual");
        let before = pace.speed;
        pace.refused(Instant(3_000));
        assert_eq!(pace.speed, before - before / 2);
        for _ in 0..10 {
            assert!((REFUSED_MS..=2 * REFUSED_MS).contains(&pace.refused(Instant(3_000))));
        }
        assert_eq!(pace.speed, LOWEST_SPEED);
    }

    #[test]
    fn a_large_batch_over_a_slow_link_is_no_slow_answer() {
        let mut pace = Pace::new(60_000, 1);
        pace.sent(Instant(0));
        seal(&mut pace, 0, 0);
        // 100 samples a second, and half a second for the way.
        let mut now = 0;
        let mut before = pace.speed;
        for samples in [100_u64, 150, 300, 700, 1_500, 3_000] {
            pace.sent(Instant(now));
            now += 500 + samples * 10;
            pace.taken(Instant(now), samples as usize);
            assert!(pace.speed > before, "{samples}");
            before = pace.speed;
        }
    }

    #[test]
    fn young_backlogs_and_the_end_of_one_are_not_paced() {
        let mut pace = Pace::new(60_000, 1);
        let range = (UnixMillis(0), UnixMillis(30_000));
        assert!(!pace.sealed(Instant(0), Some(UnixMillis(60_000)), (100, range), false));
        assert_eq!((pace.speed(), pace.next()), (None, Instant(0)));
        assert_eq!(pace.limit(10_000), 10_000);
        assert!(pace.refused(Instant(0)) == 0);
        seal(&mut pace, 0, 0);
        assert!(pace.speed().is_some());
        assert!(!pace.sealed(Instant(0), Some(UnixMillis(HOUR_MS)), (100, range), true));
        assert_eq!((pace.speed(), pace.next()), (None, Instant(0)));
        let mut off = Pace::new(0, 1);
        assert!(!seal(&mut off, 0, 0));
    }

    #[test]
    fn hostile_times_do_no_harm() {
        let mut pace = Pace::new(1, 1);
        let range = (UnixMillis(i64::MIN), UnixMillis(i64::MAX));
        pace.sealed(Instant(0), Some(UnixMillis(i64::MAX)), (usize::MAX, range), false);
        pace.sent(Instant(0));
        pace.taken(Instant(u64::MAX), usize::MAX);
        pace.settled(Some(UnixMillis(i64::MIN)));
        pace.sealed(Instant(5), Some(UnixMillis(i64::MAX)), (1, range), false);
        assert!(pace.next() <= Instant(LONGEST_WAIT_MS * 2));
    }
}
