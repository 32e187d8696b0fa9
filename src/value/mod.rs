//! Values: from text to exact decimals, to bytes on flash and back.
//!
//! - [`parse`] reads the value of an exposition line, [`from_bits`] takes a float (protobuf expositions); both give
//!   a [`Number`](crate::sample::Number), as a decimal wherever that is exact.
//! - [`codec`] packs the values of a scrape for the ring, predicted from the scrape before.
//! - [`varint`] holds the integers, sink and cursor that every record of the ring is written with.
//!
//! Nothing here does I/O, and no input makes it panic.

pub mod codec;
mod decimal;
mod range;
mod state;
mod tc0;
mod tc1;
pub mod varint;

pub use decimal::{from_bits, from_decimal, parse};
