//! Snappy's block format for remote write, by the `snap` package.
//!
//! Wraps its encoder so that nothing is allocated after [`Snappy::new`]: the encoder grows its hash table (32 KiB) when it
//! first sees a large input, so a large input is shown to it at once. Framed snappy, which remote write forbids, is
//! not offered. Decompression is for the demo's receiver and tests, which use `snap` themselves.
//!
//! Memory: the encoder holds 34 KiB; the output buffer is the caller's, [`output_bytes`] says how large.
//!
//! Source: `google/snappy` format_description.txt.

use crate::remote_write::{Compressor, OutputTooSmall};
use crate::wal::dictionary::Compress;
use alloc::vec;

/// Bytes of the largest input for which the encoder's table stops growing.
const TABLE_SATURATES_AT: usize = 16 * 1024;

/// A snappy block encoder, reused for every body.
#[derive(Debug)]
pub struct Snappy(snap::raw::Encoder);

/// Method byte of a dictionary compressed by this (`src/wal/FORMAT.md`).
const RING_METHOD: u8 = 1;

/// Bytes of output buffer that always suffice for `input` bytes: a sixth more and 32.
#[must_use]
pub fn output_bytes(input: usize) -> usize {
    snap::raw::max_compress_len(input)
}

impl Snappy {
    /// An encoder that has its memory already.
    #[must_use]
    pub fn new() -> Self {
        let mut encoder = snap::raw::Encoder::new();
        let mut out = vec![0; output_bytes(TABLE_SATURATES_AT)];
        // Not a constant: it would be as many bytes of the program.
        let warmed = encoder.compress(&vec![0; TABLE_SATURATES_AT], &mut out);
        debug_assert!(warmed.is_ok(), "{warmed:?}");
        Self(encoder)
    }
}

impl Default for Snappy {
    fn default() -> Self {
        Self::new()
    }
}

/// The ring's compressor of dictionaries.
#[derive(Debug)]
pub struct Dictionaries(Snappy);

impl Dictionaries {
    /// A compressor; allocates its tables now.
    #[must_use]
    pub fn new() -> Self {
        Self(Snappy::new())
    }
}

impl Default for Dictionaries {
    fn default() -> Self {
        Self::new()
    }
}

impl Compress for Dictionaries {
    fn method(&self) -> u8 {
        RING_METHOD
    }

    fn compress(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        // Refused without room for the worst case; the dictionary is then stored plain.
        (out.len() >= output_bytes(raw.len()))
            .then(|| self.0.compress(raw, out).ok())
            .flatten()
    }

    fn decompress(&mut self, method: u8, packed: &[u8], out: &mut [u8]) -> Option<usize> {
        if method != RING_METHOD || snap::raw::decompress_len(packed).ok()? > out.len() {
            return None;
        }
        snap::raw::Decoder::new().decompress(packed, out).ok()
    }
}

impl Compressor for Snappy {
    fn compress(&mut self, input: &[u8], out: &mut [u8]) -> Result<usize, OutputTooSmall> {
        let too_small = OutputTooSmall {
            needed: output_bytes(input.len()),
            available: out.len(),
        };
        self.0.compress(input, out).map_err(|_| too_small)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn compressed(input: &[u8]) -> Vec<u8> {
        let mut out = vec![0; output_bytes(input.len())];
        let len = Snappy::new().compress(input, &mut out).expect("large enough");
        out.truncate(len);
        out
    }

    #[test]
    fn blocks_come_back_and_are_not_framed() {
        let mut rng = fastrand::Rng::with_seed(3);
        for size in [0, 1, 17, 1000, 65_535, 65_536, 65_537, 200_000] {
            let input: Vec<u8> = (0..size).map(|_| rng.u8(0..4)).collect();
            let out = compressed(&input);
            assert_eq!(snap::raw::Decoder::new().decompress_vec(&out), Ok(input));
            assert!(!out.starts_with(b"\xff\x06\x00\x00sNaPpY"));
        }
    }

    #[test]
    fn the_same_encoder_gives_the_same_bytes() {
        let mut snappy = Snappy::new();
        let inputs = [&[7; 100_000][..], b"short", &[9; 3000]];
        for input in inputs.iter().chain(&inputs) {
            let mut out = vec![0; output_bytes(input.len())];
            let len = snappy.compress(input, &mut out).expect("large enough");
            assert_eq!(out[..len], compressed(input)[..]);
        }
    }

    #[test]
    fn too_little_room_is_an_error_with_the_numbers() {
        let mut out = [0; 100];
        let error = Snappy::new().compress(&[0; 1000], &mut out).expect_err("too small");
        assert_eq!((error.needed, error.available), (output_bytes(1000), 100));
    }
}
