//! How long tasks hold the loop: a histogram of their polls, and the longest of each task.
//!
//! A task is named where it is spawned ([`named`]); one poll of it is a step. Named futures nest: the time of the inner one is
//! its own, and what is left counts for the outer. Two clock reads per step, no allocation.

use core::cell::Cell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::time::Instant;

/// Who holds the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskName {
    /// A scrape worker.
    Scrape,
    /// A remote's sender.
    Send,
    /// The ring's writer; with a medium that writes synchronously its time is in here.
    Commit,
    /// Clock, watchdog, signals, files of targets, start and reload.
    Main,
    /// The status port.
    Status,
}

/// All of them.
pub const TASKS: [TaskName; 5] = [
    TaskName::Scrape,
    TaskName::Send,
    TaskName::Commit,
    TaskName::Main,
    TaskName::Status,
];

impl TaskName {
    /// As a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scrape => "scrape",
            Self::Send => "send",
            Self::Commit => "commit",
            Self::Main => "main",
            Self::Status => "status",
        }
    }
}

/// Upper bounds of the histogram's buckets, microseconds. 2 ms is the goal for every step; what is above says what a card does.
pub const STEP_BOUNDS_US: [u32; 9] = [100, 250, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 200_000];

/// The steps so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepStats {
    /// Steps within each bound of [`STEP_BOUNDS_US`] and above the one before, then those above all.
    pub buckets: [u64; STEP_BOUNDS_US.len() + 1],
    /// Time of all steps together.
    pub total: Duration,
    /// Longest step of each of [`TASKS`] since the last [`take_longest_steps`].
    pub longest: [Duration; TASKS.len()],
}

std::thread_local! {
    static STATS: Cell<StepStats> = const {
        Cell::new(StepStats {
            buckets: [0; STEP_BOUNDS_US.len() + 1],
            total: Duration::ZERO,
            longest: [Duration::ZERO; TASKS.len()],
        })
    };
    /// Time of the named futures that were polled within the present step.
    static WITHIN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// What is known of the steps.
#[must_use]
pub fn step_stats() -> StepStats {
    STATS.get()
}

/// Begins a new measurement of the longest steps.
pub fn take_longest_steps() -> [Duration; TASKS.len()] {
    let mut stats = STATS.get();
    let longest = core::mem::take(&mut stats.longest);
    STATS.set(stats);
    longest
}

fn record(task: TaskName, took: Duration) {
    let mut stats = STATS.get();
    let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
    let bucket = STEP_BOUNDS_US.partition_point(|bound| *bound < micros);
    if let Some(count) = stats.buckets.get_mut(bucket) {
        *count += 1;
    }
    stats.total += took;
    if let Some(longest) = stats.longest.get_mut(task as usize) {
        *longest = took.max(*longest);
    }
    STATS.set(stats);
}

/// Runs `step` in the name of `task`.
pub fn step<T>(task: TaskName, step: impl FnOnce() -> T) -> T {
    let (outer, start) = (WITHIN.take(), Instant::now());
    let value = step();
    let took = start.elapsed();
    record(task, took.saturating_sub(WITHIN.get()));
    WITHIN.set(outer + took);
    value
}

/// Every poll of `future` is a step of `task`.
pub const fn named<F: Future>(task: TaskName, future: F) -> Named<F> {
    Named { task, future }
}

/// Future of [`named`].
#[must_use]
pub struct Named<F> {
    task: TaskName,
    future: F,
}

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let task = self.task;
        // SAFETY: `future` is pinned with `self`: nothing moves out of it, `Named` has no `Drop` of its own and is `Unpin`
        // only if `F` is.
        let future = unsafe { self.map_unchecked_mut(|this| &mut this.future) };
        step(task, || future.poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_inner_step_is_not_the_outers() {
        let before = step_stats();
        take_longest_steps();
        step(TaskName::Main, || {
            std::thread::sleep(Duration::from_millis(5));
            step(TaskName::Status, || std::thread::sleep(Duration::from_millis(30)));
        });
        let after = step_stats();
        let [scrape, send, commit, main, status] = take_longest_steps();
        assert_eq!((scrape, send, commit), (Duration::ZERO, Duration::ZERO, Duration::ZERO));
        assert!(main >= Duration::from_millis(5) && status >= Duration::from_millis(30));
        // Each once, whatever the machine's load adds to them.
        let steps = |stats: &StepStats| stats.buckets.iter().sum::<u64>();
        assert_eq!(steps(&after) - steps(&before), 2);
        assert_eq!(after.total - before.total, main + status);
    }

    #[test]
    fn a_step_on_a_bound_is_within_it() {
        let before = step_stats();
        record(TaskName::Send, Duration::from_micros(2_000));
        record(TaskName::Send, Duration::from_micros(2_001));
        record(TaskName::Send, Duration::from_secs(9));
        let after = step_stats();
        let grown: Vec<u64> = after.buckets.iter().zip(before.buckets).map(|(a, b)| a - b).collect();
        assert_eq!(grown, [0, 0, 0, 0, 1, 1, 0, 0, 0, 1]);
    }
}
