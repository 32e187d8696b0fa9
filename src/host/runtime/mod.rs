//! One-thread runtime: executor loop, poll(2) reactor, timers, signals, clocks.
//!
//! [`run`] drives a `smol::LocalExecutor` and a main future on the calling thread and sleeps in
//! poll(2) until a descriptor is ready or a timer is due. It starts no thread, and neither do the
//! futures offered here.
//!
//! Invariants:
//! - the loop sleeps exactly until the earliest timer, or for ever when there is none: no tick;
//! - a future that is dropped leaves no entry in the reactor;
//! - a task that yields in a long piece of work ([`yield_turn`]) is polled once between two looks at descriptors and timers;
//! - a full table is an error of the future that found it full ([`TableFull`]), never a panic.
//!
//! Limits: [`MAX_WAITING_FDS`](crate::host::limits::MAX_WAITING_FDS), [`MAX_TIMERS`](crate::host::limits::MAX_TIMERS) and
//! [`MAX_YIELDED`], together about 8 KiB in thread-local storage. The
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
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

use smol::LocalExecutor;

use super::limits::{MAX_YIELDED, TASKS_PER_STEP};

std::thread_local! {
    static TURNS: Cell<u64> = const { Cell::new(0) };
    static YIELDED: RefCell<heapless::Vec<Waker, MAX_YIELDED>> = const { RefCell::new(heapless::Vec::new()) };
}

/// Lets all others have their turn in a long piece of work: the tasks that are ready, and after a look at descriptors and timers those that
/// have become so.
///
/// A task that only wakes itself would be polled again up to [`TASKS_PER_STEP`] times before that look. No allocation.
pub const fn yield_turn() -> YieldTurn {
    YieldTurn { since: None }
}

/// Future of [`yield_turn`].
#[must_use]
pub struct YieldTurn {
    /// The turn in which it was polled first.
    since: Option<u64>,
}

impl Future for YieldTurn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.since.is_some_and(|turn| turn != turns()) {
            return Poll::Ready(());
        }
        self.since = Some(turns());
        let woken_later = YIELDED.with_borrow_mut(|yielded| {
            // Polled again in this turn, for another of its task's futures.
            yielded.iter().any(|waker| waker.will_wake(cx.waker())) || yielded.push(cx.waker().clone()).is_ok()
        });
        if !woken_later {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Wakes those that have yielded before this turn.
fn wake_yielded() {
    // One at a time, outside the borrow; a waker does not poll.
    while let Some(waker) = YIELDED.with_borrow_mut(heapless::Vec::pop) {
        waker.wake();
    }
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
            wake_yielded();
            return value;
        }
        let idle =
            run_tasks(executor) && !flag.0.load(Ordering::Relaxed) && YIELDED.with_borrow(|yielded| yielded.is_empty());
        TURNS.set(TURNS.get() + 1);
        reactor::turn(if idle {
            reactor::Wait::UntilDue
        } else {
            reactor::Wait::No
        });
        wake_yielded();
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
    fn a_task_that_yields_is_polled_once_between_two_looks_at_the_timers() {
        let executor = LocalExecutor::new();
        let polls = Rc::new(Cell::new(0_u64));
        let counted = polls.clone();
        let task = executor.spawn(async move {
            loop {
                counted.set(counted.get() + 1);
                yield_turn().await;
            }
        });
        run(&executor, async {
            let (before, first) = (turns(), polls.get());
            sleep_until(now() + 10).await.expect("timer table has room");
            let (turned, polled) = (turns() - before, polls.get() - first);
            assert!(polled.abs_diff(turned) <= 1, "{polled} polls in {turned} turns");
            assert!(polled > 10);
        });
        drop(task);
    }

    #[test]
    fn more_that_yield_than_there_is_room_for_go_on_all_the_same() {
        let executor = LocalExecutor::new();
        let tasks: alloc::vec::Vec<_> = (0..2 * MAX_YIELDED)
            .map(|_| {
                executor.spawn(async {
                    yield_turn().await;
                    yield_turn().await;
                })
            })
            .collect();
        run(&executor, async {
            for task in tasks {
                task.await;
            }
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
