//! Variable-length integers, a bounded byte sink and a checked byte cursor.
//!
//! Unsigned integers are LEB128: seven bits per byte, lowest first, bit 7 set on all but the last; at most ten
//! bytes. Signed ones are zigzag-mapped first (0, -1, 1, -2, ... become 0, 1, 2, 3, ...). This is the
//! `varint` and `zz` of the ring's format and the encoding of protobuf and postcard.
//!
//! The writer always chooses the shortest form. The reader also accepts padded ones, refuses more than 64 bits, and
//! never looks past its slice; after an error it stands where it stood before the call.

use crate::frame::{Bounded, Full};

/// Most bytes one [`put_u64`] or [`put_i64`] writes.
pub const MAX_VARINT_BYTES: usize = 10;

/// Where encoded bytes go.
pub trait Sink {
    /// Appends `bytes`, all or nothing.
    ///
    /// # Errors
    /// [`Full`] when they do not fit.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full>;
}

impl Sink for Bounded<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.extend(bytes)
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        (**self).put(bytes)
    }
}

/// A sink that only counts; never full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteCount(pub usize);

impl Sink for ByteCount {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.0 += bytes.len();
        Ok(())
    }
}

/// Appends `value` as LEB128, 1 to 10 bytes.
///
/// # Errors
/// [`Full`]; nothing was written then.
pub fn put_u64(out: &mut impl Sink, mut value: u64) -> Result<(), Full> {
    let mut bytes = [0; MAX_VARINT_BYTES];
    let mut len = 0;
    for byte in &mut bytes {
        *byte = value as u8 & 0x7f;
        value >>= 7;
        len += 1;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    out.put(bytes.get(..len).unwrap_or(&bytes))
}

/// Appends `value` as zigzag LEB128.
///
/// # Errors
/// [`Full`]; nothing was written then.
pub fn put_i64(out: &mut impl Sink, value: i64) -> Result<(), Full> {
    put_u64(out, zigzag(value))
}

/// Bytes that [`put_u64`] writes for `value`.
#[inline]
#[must_use]
pub const fn len_u64(value: u64) -> usize {
    // Bits in use, at least one, in groups of seven: a division rounded up, exact for 1 to 64, and cheap where code is made small.
    ((64 - (value | 1).leading_zeros() as usize) * 9 + 64) >> 6
}

/// Maps small magnitudes of either sign to small numbers.
#[must_use]
pub const fn zigzag(value: i64) -> u64 {
    ((value as u64) << 1) ^ (value >> 63) as u64
}

/// Inverse of [`zigzag`].
#[must_use]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Why a [`Cursor`] could not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CursorError {
    /// The bytes end before the item does.
    Truncated,
    /// A varint has more than 64 bits.
    Overflow,
}

impl core::fmt::Display for CursorError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Truncated => "bytes end inside an item",
            Self::Overflow => "varint has more than 64 bits",
        })
    }
}

impl core::error::Error for CursorError {}

/// Reads items from the front of a byte slice, checking every step.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// True when everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    ///
    /// # Errors
    /// [`CursorError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, CursorError> {
        let (&byte, rest) = self.rest.split_first().ok_or(CursorError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    /// The next `len` bytes, borrowed from the slice the cursor was made from.
    ///
    /// # Errors
    /// [`CursorError::Truncated`].
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], CursorError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(CursorError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The next `N` bytes as an array, for fixed-width fields.
    ///
    /// # Errors
    /// [`CursorError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CursorError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(CursorError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// A LEB128 integer.
    ///
    /// # Errors
    /// [`CursorError`], either variant.
    pub fn u64(&mut self) -> Result<u64, CursorError> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().take(MAX_VARINT_BYTES).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if i == MAX_VARINT_BYTES - 1 && bits > 1 {
                return Err(CursorError::Overflow);
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(if self.rest.len() < MAX_VARINT_BYTES {
            CursorError::Truncated
        } else {
            CursorError::Overflow
        })
    }

    /// A zigzag LEB128 integer.
    ///
    /// # Errors
    /// [`CursorError`], either variant.
    pub fn i64(&mut self) -> Result<i64, CursorError> {
        self.u64().map(unzigzag)
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteCount, Cursor, CursorError, MAX_VARINT_BYTES, Sink, len_u64, put_i64, put_u64, unzigzag, zigzag};
    use crate::frame::{Bounded, Full};

    fn interesting() -> impl Iterator<Item = u64> {
        let mut rng = fastrand::Rng::with_seed(1);
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let random = core::iter::repeat_with(move || rng.u64(..) >> rng.u32(0..64)).take(2000);
        edges.chain([u64::MAX]).chain(random)
    }

    #[test]
    fn every_integer_comes_back_in_the_announced_length() {
        for value in interesting() {
            let mut out = Bounded::with_capacity(MAX_VARINT_BYTES);
            put_u64(&mut out, value).unwrap();
            assert_eq!(out.len(), len_u64(value));
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.u64(), Ok(value));
            assert!(cursor.is_empty());
            for cut in 0..out.len() {
                assert_eq!(Cursor::new(&out[..cut]).u64(), Err(CursorError::Truncated));
            }

            let signed = value as i64;
            out.clear();
            put_i64(&mut out, signed).unwrap();
            assert_eq!(Cursor::new(&out).i64(), Ok(signed));
            assert_eq!(unzigzag(zigzag(signed)), signed);
        }
    }

    #[test]
    fn zigzag_orders_by_magnitude() {
        assert_eq!([0, -1, 1, -2, 2].map(zigzag), [0, 1, 2, 3, 4]);
        assert_eq!((zigzag(i64::MAX), zigzag(i64::MIN)), (u64::MAX - 1, u64::MAX));
    }

    #[test]
    fn padded_forms_are_read_and_oversized_ones_refused() {
        assert_eq!(Cursor::new(&[0x81, 0x80, 0x00]).u64(), Ok(1));
        assert_eq!(Cursor::new(&[0xff; 11]).u64(), Err(CursorError::Overflow));
        let mut too_large = [0xff; 10];
        too_large[9] = 0x02;
        let mut cursor = Cursor::new(&too_large);
        assert_eq!(cursor.u64(), Err(CursorError::Overflow));
        assert_eq!(cursor.remaining(), 10);
    }

    #[test]
    fn cursor_stays_inside_its_slice() {
        let mut cursor = Cursor::new(&[1, 2, 3, 4]);
        assert_eq!(cursor.bytes(5), Err(CursorError::Truncated));
        assert_eq!(cursor.u8(), Ok(1));
        assert_eq!(cursor.array::<4>(), Err(CursorError::Truncated));
        assert_eq!(cursor.array(), Ok([2, 3]));
        assert_eq!(cursor.bytes(1), Ok(&[4][..]));
        assert_eq!(cursor.u8(), Err(CursorError::Truncated));
        assert_eq!(cursor.bytes(0), Ok(&[][..]));
    }

    #[test]
    fn a_full_sink_takes_nothing_and_counting_matches_writing() {
        let mut small = Bounded::with_capacity(2);
        assert_eq!(put_u64(&mut small, 1 << 14), Err(Full { limit: 2 }));
        assert!(small.is_empty());

        let mut counted = ByteCount::default();
        let mut written = Bounded::with_capacity(100_000);
        for value in interesting() {
            put_u64(&mut counted, value).unwrap();
            put_u64(&mut written, value).unwrap();
        }
        let mut lent = &mut counted;
        Sink::put(&mut lent, b"xy").unwrap();
        assert_eq!(counted.0, written.len() + 2);
    }
}
