//! Everything that needs an operating system: sockets, files, TLS, clocks.
//!
//! One OS thread runs it all. Tasks live on a `smol::LocalExecutor`; readiness and timers come from
//! [`runtime`], because every other part of smol starts a second thread.

pub mod app;
pub mod civil;
pub mod cli;
pub mod config;
#[cfg(feature = "tools")]
pub mod demo;
pub mod dns;
pub mod event;
pub mod gunzip;
pub mod heap;
pub mod http;
pub mod limits;
pub mod logger;
pub mod medium;
pub mod net;
pub mod regex;
pub mod resident;
pub mod runtime;
pub mod snappy;
pub mod status;
pub mod systemd;
pub mod tls;
