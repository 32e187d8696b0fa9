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
mod steps;

pub use clock::{BootId, ClockState, boot_id, clock_state, now, unix_now};
pub use reactor::{Interest, Ready, Sleep, TableFull, Timeout, TimeoutError, ready, sleep_until, timeout_at};
pub use signals::{Signal, Signals};
pub use steps::{Named, STEP_BOUNDS_US, StepStats, TASKS, TaskName, named, step, step_stats, take_longest_steps};

#[cfg(test)]
pub(crate) use reactor::slots_in_use;

use alloc::sync::Arc;
use alloc::task::Wake;
use core::cell::Cell;
use core::future::Future;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

use smol::LocalExecutor;

use super::limits::TASKS_PER_STEP;

std::thread_local! {
    static TURNS: Cell<u64> = const { Cell::new(0) };
}

/// How often the loop has waited in poll(2) and gone on, since the thread started.
#[must_use]
pub fn turns() -> u64 {
    TURNS.get()
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
/// wakes `main`); per turn one poll(2), and two clock reads for each named step ([`named`]; those of `main` itself are).
pub fn run<T>(executor: &LocalExecutor<'_>, main: impl Future<Output = T>) -> T {
    let flag = Arc::new(MainFlag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut context = Context::from_waker(&waker);
    let mut main = pin!(main);
    loop {
        if flag.0.swap(false, Ordering::Relaxed)
            && let Poll::Ready(value) = step(TaskName::Main, || main.as_mut().poll(&mut context))
        {
            return value;
        }
        let idle = run_tasks(executor) && !flag.0.load(Ordering::Relaxed);
        TURNS.set(TURNS.get() + 1);
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
    use core::time::Duration;

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
    fn the_longest_step_is_that_of_the_task_that_blocks() {
        let executor = LocalExecutor::new();
        take_longest_steps();
        let task = executor.spawn(named(TaskName::Commit, async {
            std::thread::sleep(Duration::from_millis(20));
        }));
        run(&executor, task);
        let [_, _, commit, ..] = take_longest_steps();
        assert!(commit >= Duration::from_millis(20));
        assert_eq!(take_longest_steps(), [Duration::ZERO; TASKS.len()]);
    }

    #[test]
    fn sleeping_costs_a_handful_of_steps() {
        let executor = LocalExecutor::new();
        let before = turns();
        run(&executor, async {
            sleep_until(now() + 50).await.expect("timer table has room")
        });
        assert!(turns() - before <= 4, "{} steps", turns() - before);
    }
}
