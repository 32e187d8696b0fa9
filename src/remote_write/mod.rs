//! Drains frames to one receiver by Prometheus remote write.
//!
//! Frames come from a [`FrameSource`](crate::frame::FrameSource) in rising order, go out as requests of one remote,
//! and are acknowledged by number. This module knows neither the ring behind the frames nor sockets, TLS or
//! compression: it hands out an uncompressed body and is told what came of it.
//!
//! | module | job |
//! |---|---|
//! | [`proto`] | protobuf of both messages: writer, checked reader |
//! | [`identity`] | labels on the wire: target, external, `write_relabel_configs` |
//! | [`batch`] | gathers samples from frames, writes requests |
//! | [`response`] | status and headers to verdict, a pure function |
//! | [`http_date`] | `Date`, `Retry-After` |
//! | [`sender`] | when to send what, what to make of the outcome |
//!
//! Compression is a seam ([`Compressor`]), because the snappy package needs an operating system's allocator.
//!
//! Memory is allocated at construction and never after; [`sender::Sender::ram_bytes`] is the plan. A loss of power leaves
//! nothing behind here: the ring keeps the acknowledgement. A full ring shows as frames that are missing, which are
//! passed over. Hostile answers meet parsers with bounds, see [`response`].
//!
//! Sources: Remote Write 1.0 and 2.0 specifications.

pub mod batch;
pub mod http_date;
pub mod identity;
pub mod proto;
pub mod response;
pub mod sender;

/// Writes snappy's block format.
pub trait Compressor {
    /// Compresses `input` into `out` as one block; returns its bytes. Allocates nothing once it has compressed.
    ///
    /// # Errors
    /// [`OutputTooSmall`]; the content of `out` is then not specified. The caller reports
    /// [`sender::ErrorKind::TooLarge`] and gets a smaller batch.
    fn compress(&mut self, input: &[u8], out: &mut [u8]) -> Result<usize, OutputTooSmall>;
}

/// The memory for a compressed body is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputTooSmall {
    /// Bytes needed in the worst case.
    pub needed: usize,
    /// Bytes there are.
    pub available: usize,
}

impl core::fmt::Display for OutputTooSmall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { needed, available } = self;
        write!(
            f,
            "compressed body may take {needed} bytes, {available} bytes are there"
        )
    }
}

impl core::error::Error for OutputTooSmall {}

#[cfg(test)]
mod declared;
#[cfg(test)]
mod testkit;
