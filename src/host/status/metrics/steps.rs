//! How long tasks hold the loop.

use super::super::exposition::{Kind, Writer};
use super::MicroSeconds;
use crate::host::runtime::{STEP_BOUNDS_US, TASKS, step_stats, turns};
use core::fmt::{self, Display, Write};
use core::time::Duration;

/// A bound of the histogram in seconds, as short as it goes.
struct Bound(u32);

impl Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1e6)
    }
}

fn micros(time: Duration) -> MicroSeconds {
    MicroSeconds(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

pub(super) fn write<W: Write>(out: &mut Writer<'_, W>) -> fmt::Result {
    out.single(
        "tidegate_loop_turns_total",
        Kind::Counter,
        "Times the loop has waited and gone on.",
        turns(),
    )?;
    let stats = step_stats();
    let buckets = STEP_BOUNDS_US.into_iter().map(Bound).zip(stats.buckets);
    out.histogram(
        "tidegate_loop_step_seconds",
        "How long tasks held the loop, each time they ran.",
        buckets,
        stats.buckets.last().copied().unwrap_or(0),
        micros(stats.total),
    )?;
    out.family(
        "tidegate_loop_longest_step_seconds",
        Kind::Gauge,
        "Longest time a task held the loop since the last scrape of this page.",
    )?;
    let mut longest = TASKS.iter().zip(stats.longest);
    longest.try_for_each(|(task, time)| out.sample(&[("task", &task.as_str())], micros(time)))
}
