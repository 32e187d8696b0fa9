//! Wakes tasks of this thread when something they wait for has happened.
//!
//! An [`Event`] counts; a listener remembers the count it has seen and waits until it differs. No wake-up is
//! lost, none needs memory: the table of waiting tasks is fixed.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};

/// Tasks that may wait for one event: scrape workers, remotes, the committer. 16 bytes each.
const MAX_LISTENERS: usize = 24;

/// Something that happens again and again.
#[derive(Debug, Default)]
pub struct Event {
    count: Cell<u64>,
    waiting: RefCell<heapless::Vec<Waker, MAX_LISTENERS>>,
}

impl Event {
    /// An event that has not happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How often it has happened.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// It has happened: wakes everyone who waits.
    pub fn notify(&self) {
        self.count.set(self.count.get().wrapping_add(1));
        // Taken out first: a woken task may wait again at once.
        let waiting = core::mem::take(&mut *self.waiting.borrow_mut());
        for waker in waiting {
            waker.wake();
        }
    }

    /// Waits until the count differs from `seen`.
    pub async fn after(&self, seen: u64) {
        poll_fn(|context| {
            if self.count.get() != seen {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker()))
                && let Err(waker) = waiting.push(context.waker().clone())
            {
                // More listeners than the table holds: look again at once rather than sleep for ever.
                waker.wake();
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::Event;
    use alloc::rc::Rc;

    #[test]
    fn a_listener_sees_what_happened_before_it_asked() {
        let event = Event::new();
        event.notify();
        smol::future::block_on(event.after(0));
        assert_eq!(event.count(), 1);
    }

    #[test]
    fn notify_wakes_every_listener() {
        let event = Rc::new(Event::new());
        let executor = smol::LocalExecutor::new();
        let tasks: alloc::vec::Vec<_> = (0..3)
            .map(|_| {
                let event = event.clone();
                executor.spawn(async move { event.after(0).await })
            })
            .collect();
        while executor.try_tick() {}
        event.notify();
        while executor.try_tick() {}
        assert!(tasks.iter().all(smol::Task::is_finished));
    }
}
