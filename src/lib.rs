//! Prometheus Agent Mode for boxes that have nothing.
//!
//! tidegate scrapes a small set of static targets, keeps the samples in a ring of
//! fixed size on flash and drains it over TLS remote write when the uplink returns.
//!
//! The crate has two halves. Everything outside [`host`] is `no_std`: it is handed
//! bytes and the time and answers with bytes to send, a record to store, or the
//! instant at which it next wants to be called. `host` alone knows sockets, files,
//! TLS and clocks; it exists with the feature `host` (default).
//!
//! ```text
//! target --http--> exposition --samples--> scrape/series --Frame--> wal (staging -> blocks -> flash)
//!                                                                        |
//! receiver <--TLS-- http <-- snappy <-- remote_write batch <-- reader <--+   acknowledgement moves the tail
//! ```
//!
//! Dependencies point one way; a module may use what stands to its right:
//!
//! ```text
//! host -> agent -> {scrape, wal, remote_write}
//!      -> {exposition, relabel, series, catalogue, frame, extras, value, backoff} -> {labels, sample, clock, hash, limits}
//! ```
//!
//! `scrape`, `wal` and `remote_write` never name each other.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]
#![warn(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::alloc_instead_of_core
)]

extern crate alloc;
#[cfg(any(feature = "host", test))]
extern crate std;

pub mod agent;
pub mod backoff;
pub mod catalogue;
pub mod clock;
pub mod exposition;
pub mod extras;
pub mod frame;
pub mod hash;
#[cfg(feature = "host")]
pub mod host;
pub mod labels;
pub mod limits;
pub mod metadata;
pub mod relabel;
pub mod remote_write;
pub mod sample;
pub mod scrape;
pub mod series;
pub mod value;
pub mod wal;
