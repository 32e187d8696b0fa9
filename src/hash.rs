//! Two hashes: one for tables in RAM, one for bytes on flash.
//!
//! - [`hash64`] finds series by their text while a scrape is parsed. It is fast, not cryptographic, and
//!   never stored: it may change with any release. The result is the same on every architecture. Series
//!   text comes from targets, so a table that must not degrade under chosen keys takes its seed from the host's
//!   random source.
//! - [`crc32c`] (Castagnoli) guards every block of the ring. It detects all single and double bit errors and every
//!   burst up to 32 bits within a block. It is part of the on-flash format.
//!
//! Neither allocates nor can fail. The CRC's table is 1 KiB of read-only data; a sixteen-lane table would be
//! several times faster but is 16 KiB, which is the whole L1 data cache of the smallest boards, and a
//! block is decoded far slower than it is checked. Tests, which check blocks by the million, have the larger one; the long
//! run of the crash explorer uses the processor's own instruction.
//!
//! Source: RFC 3720 §12.1 and appendix B.4 (CRC-32C and its test vectors).

#[cfg(not(all(feature = "fast-crc", target_arch = "x86_64", target_feature = "sse4.2")))]
use crc::{CRC_32_ISCSI, Crc, Table};

/// Odd constants with an even spread of bits: the fractional parts of the golden ratio and of two square roots.
const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xbb67_ae85_84ca_a73b;
const K2: u64 = 0xa54f_f53a_5f1d_36f1;

/// Hash of `bytes` under `seed`: 16 bytes per multiplication, no table, no allocation.
#[must_use]
pub fn hash64(seed: u64, bytes: &[u8]) -> u64 {
    // Every word is masked by a key that depends on the seed, so that text cannot choose a zero factor.
    let key = fold(seed ^ K0, K1);
    let mut state = key ^ K2;
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first_chunk::<16>()
        && !tail.is_empty()
    {
        let (low, high) = halves(head);
        state = fold(low ^ key, high ^ state);
        rest = tail;
    }
    // The last 16 bytes may overlap what was mixed already; the length below keeps that unambiguous.
    let (low, high) = bytes.last_chunk::<16>().map_or_else(|| short(bytes), halves);
    fold(fold(low ^ key, high ^ state) ^ bytes.len() as u64, K1)
}

/// Both halves of the 128-bit product, so that every input bit reaches every output bit.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

fn halves(bytes: &[u8; 16]) -> (u64, u64) {
    let all = u128::from_le_bytes(*bytes);
    (all as u64, (all >> 64) as u64)
}

/// Two words that together hold every byte of a text shorter than 16 bytes.
fn short(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
    } else {
        let word = bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        (word, 0)
    }
}

/// Bytes taken at once; the table has 1 KiB for each.
#[cfg(not(all(feature = "fast-crc", target_arch = "x86_64", target_feature = "sse4.2")))]
const LANES: usize = if cfg!(any(debug_assertions, feature = "fast-crc")) {
    16
} else {
    1
};

#[cfg(not(all(feature = "fast-crc", target_arch = "x86_64", target_feature = "sse4.2")))]
static CASTAGNOLI: Crc<u32, Table<LANES>> = Crc::<u32, Table<LANES>>::new(&CRC_32_ISCSI);

/// CRC-32C of `bytes`, continuing from `seed`.
///
/// Seed 0 starts afresh, and a checksum may be continued: `crc32c(crc32c(0, a), b)` is the checksum of `a` followed
/// by `b`.
#[must_use]
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new(seed);
    crc.update(bytes);
    crc.finish()
}

/// As below, by the processor's own instruction: for the crash explorer, built for one processor.
#[cfg(all(feature = "fast-crc", target_arch = "x86_64", target_feature = "sse4.2"))]
mod hardware {
    use core::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};

    /// The register: the complement of the checksum.
    #[derive(Clone)]
    pub struct Crc32c(u32);

    impl Crc32c {
        /// Starts at `seed`: 0, or a checksum to be continued.
        #[must_use]
        pub fn new(seed: u32) -> Self {
            Self(!seed)
        }

        /// Adds `bytes`.
        pub fn update(&mut self, bytes: &[u8]) {
            let (words, rest) = bytes.as_chunks::<8>();
            // SAFETY: the build is for processors with SSE 4.2 only, see `cfg` above.
            self.0 = unsafe {
                let state = words.iter().fold(u64::from(self.0), |state, word| {
                    _mm_crc32_u64(state, u64::from_le_bytes(*word))
                });
                // The upper half of the result is zero.
                rest.iter().fold(state as u32, |state, &byte| _mm_crc32_u8(state, byte))
            };
        }

        /// The checksum of everything added.
        #[must_use]
        pub fn finish(self) -> u32 {
            !self.0
        }
    }

    impl core::fmt::Debug for Crc32c {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            write!(f, "{:08x}", !self.0)
        }
    }
}
#[cfg(all(feature = "fast-crc", target_arch = "x86_64", target_feature = "sse4.2"))]
pub use hardware::Crc32c;

/// [`crc32c`] over bytes that arrive in pieces.
#[cfg(not(all(feature = "fast-crc", target_arch = "x86_64", target_feature = "sse4.2")))]
pub struct Crc32c(crc::Digest<'static, u32, Table<LANES>>);

#[cfg(not(all(feature = "fast-crc", target_arch = "x86_64", target_feature = "sse4.2")))]
impl Crc32c {
    /// Starts at `seed`: 0, or a checksum to be continued.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        // The register holds the complement of the checksum; the crate wants its start value unreflected.
        Self(CASTAGNOLI.digest_with_initial((!seed).reverse_bits()))
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything added.
    #[must_use]
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(not(all(feature = "fast-crc", target_arch = "x86_64", target_feature = "sse4.2")))]
impl core::fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:08x}", self.0.clone().finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::{Crc32c, crc32c, hash64};
    use alloc::{collections::BTreeSet, format, vec};

    #[test]
    fn crc32c_matches_the_vectors_of_rfc_3720() {
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0, &[0xff; 32]), 0x62a8_ab43);
        let rising: [u8; 32] = core::array::from_fn(|i| i as u8);
        assert_eq!(crc32c(0, &rising), 0x46dd_794e);
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(0, b""), 0);
    }

    #[test]
    fn crc32c_is_the_same_with_either_table() {
        let small = crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISCSI);
        let bytes: [u8; 300] = core::array::from_fn(|i| (i * i) as u8);
        for len in 0..=bytes.len() {
            assert_eq!(crc32c(0, &bytes[..len]), small.checksum(&bytes[..len]));
        }
    }

    #[test]
    fn crc32c_continues_across_pieces() {
        let bytes: [u8; 100] = core::array::from_fn(|i| (i * 7) as u8);
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(crc32c(crc32c(0, head), tail), crc32c(0, &bytes));
            let mut pieces = Crc32c::new(0);
            pieces.update(head);
            pieces.update(tail);
            assert_eq!(pieces.finish(), crc32c(0, &bytes));
        }
    }

    #[test]
    fn hash64_separates_lengths_positions_and_seeds() {
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for len in 0..70 {
            let mut bytes = vec![0u8; len];
            for seed in 0..3 {
                assert!(seen.insert(hash64(seed, &bytes)));
                count += 1;
            }
            for at in 0..len {
                for bit in 0..8 {
                    bytes[at] ^= 1 << bit;
                    assert!(seen.insert(hash64(0, &bytes)), "byte {at} of {len}, bit {bit}");
                    bytes[at] ^= 1 << bit;
                    count += 1;
                }
            }
        }
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn hash64_spreads_series_text_over_low_and_high_bits() {
        let mut low = [0u32; 64];
        let mut high = [0u32; 64];
        for i in 0..6400 {
            let hash = hash64(
                1,
                format!("http_requests_total{{code=\"200\",path=\"/p{i}\"}}").as_bytes(),
            );
            low[(hash & 63) as usize] += 1;
            high[(hash >> 58) as usize] += 1;
        }
        for (&low, &high) in low.iter().zip(&high) {
            // 100 expected, standard deviation 10.
            assert!((50..150).contains(&low) && (50..150).contains(&high));
        }
    }
}
