//! The cap: once the agent has started, live bytes stay below `memory.limit`.
//!
//! The pools exist by then ([`seal`] is called last), so what is left of the limit is the *arena*: TLS, HTTP's protocol engine, reloads
//! and the status port live on it. It is a count over the allocator of the C library, not a region of its own: requested bytes are what
//! the plan adds up, and a second allocator beside musl's would cost memory of its own for what both round up.
//!
//! Rust's collections, and those of every dependency, abort the process when an allocation yields null. So the cap is kept
//! by refusing *operations*, never by null:
//! - an operation runs in steps (one poll of its future, or one call), and each begins only when the arena has as
//!   much left as such a step may take ([`Operation::step_bytes`]). Nothing else runs during a step: there is one thread;
//! - an allocation beyond the cap is *refused*: it is served by the system all the same, counted, and the operation in whose
//!   step it happened is ended with [`ArenaFull`] as soon as the step is over, which frees what it held. An operation that completes in
//!   that very step keeps its result: a request that was answered is not sent again.
//!
//! So the cap is passed only by what one step takes beyond its budget, only until that step ends, and that is counted
//! (`tidegate_heap_refused_total`; 0 in every test). What allocates outside of operations (the executor's queue, log lines: a few hundred
//! bytes) is never ended, only counted. If the system itself has no memory, the process ends as every other does.
//!
//! Limits: the more an operation can wait, the more it leaves to others ([`Operation::floor_bytes`]): scrapes and requests to receivers
//! go on where handshakes, the status port and reloads are refused.

use super::{HeapUse, heap_use};
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll};

const KIB: usize = 1024;

/// Live bytes at most; no limit before [`seal`].
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Live bytes when it was called: the pools.
static POOLS: AtomicUsize = AtomicUsize::new(0);
/// Most live bytes since then.
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Allocations beyond the limit.
static REFUSED: AtomicUsize = AtomicUsize::new(0);
/// Value of [`REFUSED`] when an operation was last ended for it: operations nest, and the innermost answers for it.
static ANSWERED: AtomicUsize = AtomicUsize::new(0);
static ENDED: [AtomicUsize; OPERATIONS.len()] = [const { AtomicUsize::new(0) }; OPERATIONS.len()];

/// What may be refused for want of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One HTTP request, of a scrape or to a receiver.
    Request,
    /// A TLS handshake.
    Handshake,
    /// A connection to the status port.
    Status,
    /// Loading a configuration, or files of targets.
    Reload,
}

/// All of them.
pub const OPERATIONS: [Operation; 4] = [
    Operation::Request,
    Operation::Handshake,
    Operation::Status,
    Operation::Reload,
];

impl Operation {
    /// As a metric's label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Handshake => "tls_handshake",
            Self::Status => "status_port",
            Self::Reload => "reload",
        }
    }

    /// What must be free before a step: the most that one may take.
    ///
    /// What whole operations take is measured in `tests/sealed_heap.rs`, which fails when one takes more: client and server of a plain
    /// request together 2.4 KiB, a handshake and its request 9.4 KiB, a small configuration 8.6 KiB. What hostile peers can make of them is
    /// added: records of 17 KiB and their plaintext for a request, the 64 KiB handshake message that rustls joins (deps.md §2).
    #[must_use]
    pub const fn step_bytes(self) -> usize {
        match self {
            Self::Request => 36 * KIB,
            Self::Handshake => 64 * KIB,
            Self::Status => 8 * KIB,
            Self::Reload => 40 * KIB,
        }
    }

    /// What it leaves to others beyond that.
    #[must_use]
    pub const fn floor_bytes(self) -> usize {
        match self {
            Self::Request | Self::Handshake => 0,
            Self::Status | Self::Reload => Self::Request.step_bytes(),
        }
    }
}

/// The arena has no room for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaFull {
    /// What was refused or ended.
    pub operation: Operation,
    /// Bytes that a step of it must find free.
    pub wanted: usize,
    /// Bytes that were free.
    pub free: usize,
}

impl fmt::Display for ArenaFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "out of memory for {}: {} bytes wanted, {} free below tidegate.memory.limit",
            self.operation.name(),
            self.wanted,
            self.free
        )
    }
}

impl core::error::Error for ArenaFull {}

/// The arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaUse {
    /// Bytes it has: the limit less the pools. 0 before [`seal`].
    pub size: usize,
    /// Bytes in use.
    pub used: usize,
    /// Most bytes ever in use.
    pub peak: usize,
    /// Allocations beyond it.
    pub refused: usize,
}

/// Caps live bytes at `limit`: everything that was planned is allocated.
pub fn seal(limit: usize) {
    let HeapUse { live_bytes, .. } = heap_use();
    POOLS.store(live_bytes, Ordering::Relaxed);
    PEAK.store(live_bytes, Ordering::Relaxed);
    LIMIT.store(limit, Ordering::Relaxed);
}

/// Lifts the cap: other pools are to be made.
pub fn unseal() {
    LIMIT.store(usize::MAX, Ordering::Relaxed);
}

/// How much of the arena is in use.
#[must_use]
pub fn arena_use() -> ArenaUse {
    let (limit, pools) = (LIMIT.load(Ordering::Relaxed), POOLS.load(Ordering::Relaxed));
    let size = if limit == usize::MAX {
        0
    } else {
        limit.saturating_sub(pools)
    };
    ArenaUse {
        size,
        used: heap_use().live_bytes.saturating_sub(pools),
        peak: PEAK.load(Ordering::Relaxed).saturating_sub(pools),
        refused: REFUSED.load(Ordering::Relaxed),
    }
}

impl Operation {
    /// How often it was refused or ended for want of memory.
    #[must_use]
    pub fn refused(self) -> usize {
        self.counter().load(Ordering::Relaxed)
    }

    fn counter(self) -> &'static AtomicUsize {
        let [request, handshake, status, reload] = &ENDED;
        match self {
            Self::Request => request,
            Self::Handshake => handshake,
            Self::Status => status,
            Self::Reload => reload,
        }
    }

    fn full(self, wanted: usize, free: usize) -> ArenaFull {
        self.counter().fetch_add(1, Ordering::Relaxed);
        ArenaFull {
            operation: self,
            wanted,
            free,
        }
    }

    /// Whether a step may begin. The value tells [`Self::after`] what was refused before.
    fn before(self, more_bytes: usize) -> Result<usize, ArenaFull> {
        let limit = LIMIT.load(Ordering::Relaxed);
        let free = limit.saturating_sub(heap_use().live_bytes);
        let wanted = self.step_bytes() + self.floor_bytes() + more_bytes;
        if free < wanted {
            return Err(self.full(wanted, free));
        }
        Ok(REFUSED.load(Ordering::Relaxed))
    }

    /// Whether the step kept to the arena.
    fn after(self, refused_before: usize) -> Result<(), ArenaFull> {
        let refused = REFUSED.load(Ordering::Relaxed);
        if refused == refused_before || ANSWERED.swap(refused, Ordering::Relaxed) == refused {
            return Ok(());
        }
        Err(self.full(self.step_bytes(), 0))
    }
}

/// Bytes are live: what the allocator says after each allocation.
pub(super) fn grown(live: usize) {
    PEAK.fetch_max(live, Ordering::Relaxed);
    if live > LIMIT.load(Ordering::Relaxed) {
        refuse();
    }
}

/// An allocation of the present step is refused. For allocators of tests, which refuse what would fit.
pub fn refuse() {
    REFUSED.fetch_add(1, Ordering::Relaxed);
}

/// Runs an operation of a single step, which may take `more_bytes` than usual.
///
/// # Errors
/// It was not begun, or its result is given up, for want of memory.
pub fn within<T>(operation: Operation, more_bytes: usize, step: impl FnOnce() -> T) -> Result<T, ArenaFull> {
    let refused = operation.before(more_bytes)?;
    let value = step();
    operation.after(refused).map(|()| value)
}

/// Polls `future` as long as the arena has room for its steps.
pub const fn guard<F: Future>(operation: Operation, future: F) -> Guarded<F> {
    Guarded { future, operation }
}

/// Future of [`guard`]: what the future says, or that it was given up for want of memory.
#[must_use]
pub struct Guarded<F> {
    future: F,
    operation: Operation,
}

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, ArenaFull>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let operation = self.operation;
        let refused = match operation.before(0) {
            Ok(refused) => refused,
            Err(full) => return Poll::Ready(Err(full)),
        };
        // SAFETY: `future` is pinned with `self`: nothing moves out of it, `Guarded` has no `Drop` of its own and is
        // `Unpin` only if `F` is.
        let future = unsafe { self.map_unchecked_mut(|this| &mut this.future) };
        if let Poll::Ready(value) = future.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        match operation.after(refused) {
            Ok(()) => Poll::Pending,
            Err(full) => Poll::Ready(Err(full)),
        }
    }
}
