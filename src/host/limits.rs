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

/// Tasks that wait for the next look at the descriptors at once; one more goes on after the other tasks that are ready. Each scrape worker and
/// each remote has one task that yields. 128 wakers of 16 bytes.
pub const MAX_YIELDED: usize = 128;

/// Addresses of one name that are kept and tried. Names with more are load-balanced pools, where any
/// few do.
pub const MAX_ADDRESSES: usize = 8;

/// Head start of the address family that comes first before the other is tried beside it,
/// milliseconds: the fallback delay of Go's dialer (RFC 8305 proposes 250).
pub const FAMILY_HEAD_START_MS: u64 = 300;

/// Least time one address gets before the next is tried, milliseconds: one retransmitted SYN (1 s by
/// RFC 6298) and its answer over a slow radio link.
pub const MIN_CONNECT_BUDGET_MS: u64 = 3_000;

/// Receive buffer of one exchange, bytes: also the longest response head (and its longest trailer
/// section). nginx and Go accept 8 KiB and 1 MiB; exporters send 200 bytes.
pub const HTTP_RECEIVE_BYTES: usize = 8 * 1024;

/// Send and decode buffer of one exchange, bytes: the request head and the beginning of the body leave
/// in one piece, decoded body pieces are at most this long. A single header line must fit into it.
pub const HTTP_SEND_BYTES: usize = 8 * 1024;

/// Redirects followed for one request, as Prometheus (Go's default).
pub const MAX_REDIRECTS: usize = 10;

/// Bytes of an unwanted body that are read off so that the connection can be used again. Reading more
/// costs more than the handshake it saves (about 3 KB with TLS).
pub const HTTP_DISCARD_BYTES: u64 = 16 * 1024;

/// A connection idle for longer is not used again, milliseconds: Prometheus' 5 minutes. Also below the
/// usual 2-hour silence of mobile NATs and the 350 s of cloud load balancers.
pub const HTTP_IDLE_MS: u64 = 300_000;

/// Longest secret read from a file, bytes; a header line of it must fit into [`HTTP_SEND_BYTES`].
pub const SECRET_BYTES: usize = 6 * 1024;

/// Names whose addresses are remembered. Each costs about 170 bytes and its text; with more names in use
/// the one asked for longest ago is forgotten and resolved anew.
pub const DNS_CACHE_NAMES: usize = 32;

/// Longest time an answer is used, seconds, whatever its TTL: an address that moved is found within the hour.
pub const DNS_MAX_TTL_S: u32 = 3_600;

/// How long a lookup waits before it falls back on the last good address, milliseconds, and how long that
/// address then serves without asking again. Longer would eat a scrape's 10 s deadline when the name
/// server is gone.
pub const DNS_STALE_WAIT_MS: u64 = 2_000;
/// See [`DNS_STALE_WAIT_MS`].
pub const DNS_STALE_USE_MS: u64 = 30_000;

/// Grace for the second of the A and AAAA answers once the first brought an address, milliseconds: some
/// name servers never answer AAAA.
pub const DNS_SECOND_ANSWER_MS: u64 = 300;

/// Bytes read of `/etc/hosts` and `/etc/resolv.conf`; what lies behind is ignored. Block lists of 100,000
/// hosts are not for this machine.
pub const DNS_FILE_BYTES: usize = 64 * 1024;
