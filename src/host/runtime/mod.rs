//! One-thread runtime: executor loop, poll(2) reactor, timers, signals, clocks.
//!
//! [`run`] drives a `smol::LocalExecutor` and a main future on the calling thread and sleeps in
//! poll(2) until a descriptor is ready or a timer is due. It starts no thread, and neither do the
//! futures offered here.
//!
//! Invariants:
//! - the loop sleeps exactly until the earliest timer, or for ever when there is none: no tick;
//! - a future that is dropped leaves no entry in the reactor;
//! - a full table is an error of the future that found it full ([`TableFull`]), never a panic.
//!
//! Limits: [`MAX_WAITING_FDS`](crate::host::limits::MAX_WAITING_FDS) and
//! [`MAX_TIMERS`](crate::host::limits::MAX_TIMERS), together about 6 KiB in thread-local storage. The
//! executor's own queue allocates one block of about 500 bytes per 31 wakes.
//!
//! Suspend: deadlines are `CLOCK_BOOTTIME`, which counts suspend, but poll(2) sleeps on a clock that
//! does not. After a resume a timer may therefore fire late, by at most what was left of its sleep.
//!
//! Sources: poll(2), signalfd(2), adjtimex(2), clock_gettime(2).

mod clock;
mod reactor;
mod signals;

pub use clock::{BootId, ClockState, boot_id, clock_state, now, unix_now};
pub use reactor::{Interest, Ready, Sleep, TableFull, Timeout, TimeoutError, ready, sleep_until, timeout_at};
pub use signals::{Signal, Signals};

#[cfg(test)]
pub(crate) use reactor::slots_in_use;

use alloc::sync::Arc;
use alloc::task::Wake;
use core::cell::Cell;
use core::future::Future;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use smol::LocalExecutor;

use super::limits::TASKS_PER_STEP;

/// What the loop did since the thread started, for the agent's own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopStats {
    /// Returns from poll(2).
    pub steps: u64,
    /// Longest time between two calls of poll(2) since the last [`take_longest_step`]: how long one
    /// task could keep the others waiting.
    pub longest_step: Duration,
}

std::thread_local! {
    static STATS: Cell<LoopStats> = const { Cell::new(LoopStats { steps: 0, longest_step: Duration::ZERO }) };
}

/// The loop's counters.
#[must_use]
pub fn loop_stats() -> LoopStats {
    STATS.get()
}

/// The longest loop step since the previous call; starts a new measurement.
pub fn take_longest_step() -> Duration {
    let stats = STATS.get();
    STATS.set(LoopStats {
        longest_step: Duration::ZERO,
        ..stats
    });
    stats.longest_step
}

fn record_step(took: Duration) {
    let stats = STATS.get();
    STATS.set(LoopStats {
        steps: stats.steps + 1,
        longest_step: stats.longest_step.max(took),
    });
}

/// Wakes the main future by setting a flag that the loop looks at.
struct MainFlag(AtomicBool);

impl Wake for MainFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `main` and the tasks of `executor` on this thread until `main` is done.
///
/// Tasks still pending then stay in `executor` and are dropped with it. One allocation (the flag that
/// wakes `main`); per step two clock reads and one poll(2).
pub fn run<T>(executor: &LocalExecutor<'_>, main: impl Future<Output = T>) -> T {
    let flag = Arc::new(MainFlag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut context = Context::from_waker(&waker);
    let mut main = pin!(main);
    loop {
        let started = std::time::Instant::now();
        if flag.0.swap(false, Ordering::Relaxed)
            && let Poll::Ready(value) = main.as_mut().poll(&mut context)
        {
            return value;
        }
        let idle = run_tasks(executor) && !flag.0.load(Ordering::Relaxed);
        record_step(started.elapsed());
        reactor::turn(if idle {
            reactor::Wait::UntilDue
        } else {
            reactor::Wait::No
        });
    }
}

/// Polls up to a budget of woken tasks; true when none is left.
fn run_tasks(executor: &LocalExecutor<'_>) -> bool {
    for _ in 0..TASKS_PER_STEP {
        if !executor.try_tick() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::rc::Rc;

    #[test]
    fn main_future_and_tasks_take_turns() {
        let executor = LocalExecutor::new();
        let (send, receive) = smol::channel::bounded(1);
        let task = executor.spawn(async move {
            sleep_until(now() + 5).await.expect("timer table has room");
            send.send(7).await.expect("receiver is alive");
        });
        let got = run(&executor, async { receive.recv().await });
        assert_eq!(got, Ok(7));
        drop(task);
    }

    #[test]
    fn a_task_that_wakes_itself_does_not_starve_a_timer() {
        let executor = LocalExecutor::new();
        let stop = Rc::new(Cell::new(false));
        let spinner = stop.clone();
        let task = executor.spawn(async move {
            while !spinner.get() {
                smol::future::yield_now().await;
            }
        });
        run(&executor, async {
            sleep_until(now() + 10).await.expect("timer table has room");
            stop.set(true);
            task.await;
        });
    }

    #[test]
    fn longest_step_sees_a_task_that_blocks() {
        let executor = LocalExecutor::new();
        take_longest_step();
        run(&executor, async {
            std::thread::sleep(Duration::from_millis(20));
            sleep_until(now() + 1).await.expect("timer table has room");
        });
        assert!(take_longest_step() >= Duration::from_millis(20));
        assert!(take_longest_step() < Duration::from_millis(20));
    }

    #[test]
    fn sleeping_costs_a_handful_of_steps() {
        let executor = LocalExecutor::new();
        let before = loop_stats().steps;
        run(&executor, async {
            sleep_until(now() + 50).await.expect("timer table has room")
        });
        assert!(
            loop_stats().steps - before <= 4,
            "{} steps",
            loop_stats().steps - before
        );
    }
}
