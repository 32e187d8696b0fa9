//! Compile-time bounds of the host half: unit, why this value, what it costs.
//!
//! The bounds of the core are in [`crate::limits`].

/// File descriptors that tasks may wait on at once. 64 covers 16 concurrent scrapes, 8 remotes with a
/// resolver query each, the status port and the signal descriptor. 64 slots of 32 bytes on a 64-bit
/// machine, and one `pollfd` of 8 bytes each on the stack while the loop sleeps.
pub const MAX_WAITING_FDS: usize = 64;

/// Timers that tasks may wait on at once. A request holds up to four (deadline, connect budget, second
/// address family, resolver attempt). 128 slots of 32 bytes.
pub const MAX_TIMERS: usize = 128;

/// Task polls between two looks at the descriptors. Low enough that a task which wakes itself cannot
/// starve a socket, high enough that `poll(2)` stays a small share of the time.
pub const TASKS_PER_STEP: usize = 64;

/// Addresses of one name that are kept and tried. Names with more are load-balanced pools, where any
/// few do.
pub const MAX_ADDRESSES: usize = 8;

/// Head start of the address family that comes first before the other is tried beside it,
/// milliseconds: the fallback delay of Go's dialer (RFC 8305 proposes 250).
pub const FAMILY_HEAD_START_MS: u64 = 300;

/// Least time one address gets before the next is tried, milliseconds: one retransmitted SYN (1 s by
/// RFC 6298) and its answer over a slow radio link.
pub const MIN_CONNECT_BUDGET_MS: u64 = 3_000;
