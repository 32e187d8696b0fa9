//! Drains frames to one receiver by Prometheus remote write.
//!
//! Frames come from a [`FrameSource`](crate::frame::FrameSource) in rising order, go out as requests of one remote,
//! and are acknowledged by number. This module knows neither the ring behind the frames nor sockets, TLS or
//! compression: it hands out an uncompressed body and is told what came of it.
//!
//! | module | job |
//! |---|---|
//! | [`proto`] | protobuf of both messages: writer, checked reader |
//! | [`response`] | status and headers to verdict, a pure function |
//! | [`http_date`] | `Date`, `Retry-After` |
//!
//! Sources: Remote Write 1.0 and 2.0 specifications.

pub mod batch;
pub mod http_date;
pub mod identity;
pub mod proto;
pub mod response;
pub mod sender;

#[cfg(test)]
mod testkit;
