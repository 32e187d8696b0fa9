//! Readiness and timers: two fixed tables per thread and one poll(2).
//!
//! A waiting future owns one slot, named by index and generation, and gives it back when it is
//! dropped. Wakers are dropped and woken only while the tables are not borrowed: dropping the last
//! waker of a task may drop futures that come back here.

use core::cell::RefCell;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use heapless::Vec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::clock::{now, now_ns};
use crate::clock::Instant;
use crate::host::limits::{MAX_TIMERS, MAX_WAITING_FDS};

/// A reactor table has no free slot: more tasks wait than the plan allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull {
    /// Name of the table.
    pub table: &'static str,
    /// Slots it has.
    pub limit: usize,
}

impl fmt::Display for TableFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table of waiting {} is full, limit is {}", self.table, self.limit)
    }
}

impl core::error::Error for TableFull {}

impl From<TableFull> for io::Error {
    fn from(full: TableFull) -> Self {
        Self::other(full)
    }
}

/// Why [`timeout_at`] did not return the future's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutError {
    /// The deadline passed first; the future was dropped.
    Elapsed,
    /// No timer was free.
    TableFull(TableFull),
}

/// What a task wants to do with a descriptor, and what it may now do.
///
/// From 1, which leaves 0 for a free place: the empty table is zeros, and those take no room in the program's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Interest {
    /// Read without blocking.
    Read = 1,
    /// Write without blocking.
    Write,
    /// Either; the answer names one or both.
    ReadOrWrite,
}

impl Interest {
    fn flags(self) -> PollFlags {
        match self {
            Self::Read => PollFlags::IN,
            Self::Write => PollFlags::OUT,
            Self::ReadOrWrite => PollFlags::IN | PollFlags::OUT,
        }
    }

    /// Reading is possible.
    #[must_use]
    pub fn can_read(self) -> bool {
        self != Self::Write
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Token {
    index: usize,
    generation: u32,
}

/// Fixed table; a slot is free when it holds nothing.
struct Table<T, const N: usize> {
    slots: [Option<(u32, T)>; N],
    next_generation: u32,
}

impl<T, const N: usize> Table<T, N> {
    const fn new() -> Self {
        Self {
            slots: [const { None }; N],
            next_generation: 0,
        }
    }

    fn insert(&mut self, value: T) -> Option<Token> {
        let index = self.slots.iter().position(Option::is_none)?;
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        self.slots[index] = Some((generation, value));
        Some(Token { index, generation })
    }

    fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.slots.get_mut(token.index) {
            Some(Some((generation, value))) if *generation == token.generation => Some(value),
            _ => None,
        }
    }

    fn remove(&mut self, token: Token) -> Option<T> {
        self.get_mut(token)?;
        self.slots[token.index].take().map(|(_, value)| value)
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten().map(|(_, value)| value)
    }
}

struct Waiting {
    fd: RawFd,
    interest: Interest,
    /// What poll(2) reported; empty until then.
    fired: PollFlags,
    waker: Option<Waker>,
}

struct Timer {
    at: Instant,
    waker: Option<Waker>,
}

struct Reactor {
    fds: Table<Waiting, MAX_WAITING_FDS>,
    timers: Table<Timer, MAX_TIMERS>,
}

std::thread_local! {
    static REACTOR: RefCell<Reactor> =
        const { RefCell::new(Reactor { fds: Table::new(), timers: Table::new() }) };
}

/// Stores `cx`'s waker, returning the one to drop outside the borrow.
fn keep_waker(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => slot.replace(cx.waker().clone()),
    }
}

/// Waits until `fd` can do what `interest` says. The answer may be spurious: try, and wait again.
///
/// Errors and hang-ups count as readable and writable, so that the next call reports them.
#[must_use]
pub fn ready(fd: BorrowedFd<'_>, interest: Interest) -> Ready<'_> {
    Ready {
        fd,
        interest,
        token: None,
    }
}

/// Future of [`ready`]. Holds one of [`MAX_WAITING_FDS`] slots from its first poll until it is done
/// or dropped.
pub struct Ready<'fd> {
    fd: BorrowedFd<'fd>,
    interest: Interest,
    token: Option<Token>,
}

impl Future for Ready<'_> {
    type Output = Result<Interest, TableFull>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (answer, _dropped_after_the_borrow) = REACTOR.with_borrow_mut(|reactor| self.poll_slot(reactor, cx));
        answer
    }
}

impl Ready<'_> {
    fn poll_slot(
        &mut self,
        reactor: &mut Reactor,
        cx: &Context<'_>,
    ) -> (Poll<Result<Interest, TableFull>>, Option<Waker>) {
        let Some(token) = self.token else {
            let slot = Waiting {
                fd: self.fd.as_raw_fd(),
                interest: self.interest,
                fired: PollFlags::empty(),
                waker: Some(cx.waker().clone()),
            };
            self.token = reactor.fds.insert(slot);
            let full = TableFull {
                table: "descriptors",
                limit: MAX_WAITING_FDS,
            };
            return (
                if self.token.is_some() {
                    Poll::Pending
                } else {
                    Poll::Ready(Err(full))
                },
                None,
            );
        };
        let Some(slot) = reactor.fds.get_mut(token) else {
            // Polled again after completion: answer as the first time, the caller tries and waits again.
            return (Poll::Ready(Ok(self.interest)), None);
        };
        if slot.fired.is_empty() {
            return (Poll::Pending, keep_waker(&mut slot.waker, cx));
        }
        let can = answer(self.interest, slot.fired);
        self.token = None;
        let old = reactor.fds.remove(token).and_then(|slot| slot.waker);
        (Poll::Ready(Ok(can)), old)
    }
}

fn answer(wanted: Interest, fired: PollFlags) -> Interest {
    let failed = fired.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
    match wanted {
        Interest::ReadOrWrite if failed => Interest::ReadOrWrite,
        Interest::ReadOrWrite => match (fired.contains(PollFlags::IN), fired.contains(PollFlags::OUT)) {
            (true, false) => Interest::Read,
            (false, true) => Interest::Write,
            _ => Interest::ReadOrWrite,
        },
        one => one,
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            // The thread may be ending: then the table is gone already.
            let _slot = REACTOR.try_with(|reactor| reactor.borrow_mut().fds.remove(token));
        }
    }
}

/// Waits until `CLOCK_BOOTTIME` reaches `at`; at once when it has passed.
#[must_use]
pub fn sleep_until(at: Instant) -> Sleep {
    Sleep { at, token: None }
}

/// Future of [`sleep_until`]. Holds one of [`MAX_TIMERS`] slots while pending.
pub struct Sleep {
    at: Instant,
    token: Option<Token>,
}

impl Future for Sleep {
    type Output = Result<(), TableFull>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if now() >= self.at {
            return Poll::Ready(Ok(()));
        }
        let (answer, _dropped_after_the_borrow) = REACTOR.with_borrow_mut(|reactor| {
            if let Some(timer) = self.token.and_then(|token| reactor.timers.get_mut(token)) {
                return (Poll::Pending, keep_waker(&mut timer.waker, cx));
            }
            self.token = reactor.timers.insert(Timer {
                at: self.at,
                waker: Some(cx.waker().clone()),
            });
            let full = TableFull {
                table: "timers",
                limit: MAX_TIMERS,
            };
            (
                if self.token.is_some() {
                    Poll::Pending
                } else {
                    Poll::Ready(Err(full))
                },
                None,
            )
        });
        answer
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            let _timer = REACTOR.try_with(|reactor| reactor.borrow_mut().timers.remove(token));
        }
    }
}

/// Runs `future` until `deadline`, then drops it.
///
/// # Errors
///
/// [`TimeoutError::Elapsed`] when the deadline passed before the future was done. The future is polled
/// first: one that is already done wins over a deadline already passed.
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout {
        future,
        sleep: sleep_until(deadline),
    }
}

/// Future of [`timeout_at`]. A struct rather than an `async fn`, which would hold `future` twice: once as
/// its argument and once while it waits.
#[must_use]
pub struct Timeout<F> {
    future: F,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimeoutError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is pinned with `self`: nothing moves out of it, `Timeout` has no `Drop` of its own
        // and is `Unpin` only if `F` is. `sleep` is `Unpin`.
        let (future, sleep) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), Pin::new(&mut this.sleep))
        };
        if let Poll::Ready(value) = future.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        sleep
            .poll(cx)
            .map(|slept| Err(slept.err().map_or(TimeoutError::Elapsed, TimeoutError::TableFull)))
    }
}

/// Pause after poll(2) itself failed.
const FAILED_POLL_PAUSE: Duration = Duration::from_millis(10);

/// How long [`turn`] may sleep.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Tasks are waiting to run.
    No,
    /// Nothing to do before a descriptor or timer is due.
    UntilDue,
}

/// One poll(2), then wakes every task whose descriptor is ready or whose timer is due.
pub(super) fn turn(wait: Wait) {
    REACTOR.with_borrow_mut(|reactor| reactor.poll_fds(wait));
    // One waker at a time, so that each is woken (and dropped) outside the borrow.
    while let Some(waker) = REACTOR.with_borrow_mut(Reactor::next_fired) {
        waker.wake();
    }
    let now = now();
    while let Some(waker) = REACTOR.with_borrow_mut(|reactor| reactor.next_due(now)) {
        waker.wake();
    }
}

impl Reactor {
    fn poll_fds(&mut self, wait: Wait) {
        let timeout = match wait {
            Wait::No => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
            Wait::UntilDue => self.until_next_timer(),
        };
        let mut fds: Vec<PollFd<'_>, MAX_WAITING_FDS> = Vec::new();
        let mut slots: Vec<&mut Waiting, MAX_WAITING_FDS> = Vec::new();
        for slot in self
            .fds
            .values_mut()
            .filter(|slot| slot.waker.is_some() && slot.fired.is_empty())
        {
            // SAFETY: a slot exists only while its `Ready` does, and that borrows the descriptor, so it
            // is open. A `Ready` that was leaked may leave a closed number here; poll(2) answers NVAL.
            let fd = unsafe { BorrowedFd::borrow_raw(slot.fd) };
            // Both vectors have as many places as the table has slots.
            let _ = fds.push(PollFd::from_borrowed_fd(fd, slot.interest.flags()));
            let _ = slots.push(slot);
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return,
            Err(_) => {
                // No memory, or more descriptors than the process may have: nothing was waited for, and
                // coming round at once would spin.
                std::thread::sleep(FAILED_POLL_PAUSE);
                return;
            }
        }
        for (fd, slot) in fds.iter().zip(slots.iter_mut()) {
            slot.fired = fd.revents();
        }
    }

    /// Time until the earliest timer that has not been woken; `None` without timers.
    fn until_next_timer(&mut self) -> Option<Timespec> {
        let at = self
            .timers
            .values_mut()
            .filter(|timer| timer.waker.is_some())
            .map(|timer| timer.at)
            .min()?;
        let left = at.0.saturating_mul(1_000_000).saturating_sub(now_ns());
        // tv_sec is 32 bits wide on some targets; a day is as good as longer.
        let seconds = (left / 1_000_000_000).min(86_400);
        Some(Timespec {
            tv_sec: seconds as _,
            tv_nsec: (left % 1_000_000_000) as _,
        })
    }

    fn next_fired(&mut self) -> Option<Waker> {
        self.fds
            .values_mut()
            .filter(|slot| !slot.fired.is_empty())
            .find_map(|slot| slot.waker.take())
    }

    fn next_due(&mut self, now: Instant) -> Option<Waker> {
        self.timers
            .values_mut()
            .filter(|timer| timer.at <= now)
            .find_map(|timer| timer.waker.take())
    }
}

#[cfg(test)]
pub(crate) fn slots_in_use() -> (usize, usize) {
    REACTOR.with_borrow_mut(|reactor| (reactor.fds.values_mut().count(), reactor.timers.values_mut().count()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec as StdVec;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn run<T>(main: impl Future<Output = T>) -> T {
        super::super::run(&smol::LocalExecutor::new(), main)
    }

    #[test]
    fn readiness_arrives_and_the_slot_is_returned() {
        let (mut near, far) = UnixStream::pair().expect("socketpair");
        run(async {
            let waited = timeout_at(now() + 20, ready(far.as_fd(), Interest::Read)).await;
            assert_eq!(waited, Err(TimeoutError::Elapsed));
            assert_eq!(slots_in_use(), (0, 0));
            near.write_all(b"x").expect("room in the socket buffer");
            assert_eq!(ready(far.as_fd(), Interest::Read).await, Ok(Interest::Read));
            assert_eq!(
                ready(far.as_fd(), Interest::ReadOrWrite).await,
                Ok(Interest::ReadOrWrite)
            );
        });
        assert_eq!(slots_in_use(), (0, 0));
    }

    #[test]
    fn hang_up_counts_as_ready() {
        let (near, far) = UnixStream::pair().expect("socketpair");
        drop(near);
        run(async { assert_eq!(ready(far.as_fd(), Interest::Read).await, Ok(Interest::Read)) });
    }

    #[test]
    fn timers_fire_in_order_and_not_early() {
        let order = RefCell::new(StdVec::new());
        let start = now();
        {
            let executor = smol::LocalExecutor::new();
            // A task each: woken in the order of their timers even where a slow machine finds all of them expired.
            let naps = [30, 10, 20].map(|ms| {
                let order = &order;
                executor.spawn(async move {
                    sleep_until(start + ms).await.expect("room");
                    assert!(now() >= start + ms);
                    order.borrow_mut().push(ms);
                })
            });
            super::super::run(&executor, async {
                for nap in naps {
                    nap.await;
                }
            });
        }
        assert_eq!(*order.borrow(), [10, 20, 30]);
    }

    #[test]
    fn full_tables_are_errors() {
        let (_near, far) = UnixStream::pair().expect("socketpair");
        run(async {
            let mut sleeps: StdVec<_> = (0..MAX_TIMERS).map(|_| sleep_until(now() + 10_000)).collect();
            for sleep in &mut sleeps {
                assert!(smol::future::poll_once(sleep).await.is_none());
            }
            let full = TableFull {
                table: "timers",
                limit: MAX_TIMERS,
            };
            assert_eq!(sleep_until(now() + 10_000).await, Err(full));
            drop(sleeps);
            let mut waits: StdVec<_> = (0..MAX_WAITING_FDS)
                .map(|_| ready(far.as_fd(), Interest::Read))
                .collect();
            for wait in &mut waits {
                assert!(smol::future::poll_once(wait).await.is_none());
            }
            let full = TableFull {
                table: "descriptors",
                limit: MAX_WAITING_FDS,
            };
            assert_eq!(ready(far.as_fd(), Interest::Read).await, Err(full));
        });
        assert_eq!(slots_in_use(), (0, 0));
    }

    #[test]
    fn a_deadline_in_the_past_still_lets_a_finished_future_win() {
        run(async {
            assert_eq!(timeout_at(Instant(0), async { 1 }).await, Ok(1));
            assert_eq!(
                timeout_at(Instant(0), core::future::pending::<()>()).await,
                Err(TimeoutError::Elapsed)
            );
        });
    }
}
