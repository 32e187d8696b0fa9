//! Finding a byte in text eight or sixteen bytes at a time.
//!
//! The parsers spend their time looking for the end of a name, a quoted value or a line. One word
//! is tested at once with the classic zero-byte trick: exact for the lowest match, which is the one wanted.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// High bit set in the lowest byte of `word` that equals `byte` (bytes above it may be set wrongly).
const fn matches(word: u64, byte: u8) -> u64 {
    let zeroed = word ^ (LOW.wrapping_mul(byte as u64));
    zeroed.wrapping_sub(LOW) & !zeroed & HIGH
}

/// Position of the first `byte`. Sixteen at once: lines and help texts are long.
pub(crate) fn find_byte(bytes: &[u8], byte: u8) -> Option<usize> {
    let (pairs, rest) = bytes.as_chunks::<16>();
    for (index, pair) in pairs.iter().enumerate() {
        let pair = u128::from_le_bytes(*pair);
        let (low, high) = (matches(pair as u64, byte), matches((pair >> 64) as u64, byte));
        if low | high != 0 {
            let at = match low {
                0 => 64 + high.trailing_zeros(),
                low => low.trailing_zeros(),
            };
            return Some(index * 16 + (at / 8) as usize);
        }
    }
    let at = rest.iter().position(|&other| other == byte)?;
    Some(pairs.len() * 16 + at)
}

/// Position of the first byte at or after `from` that equals `a` or `b`.
pub(crate) fn find_any2(bytes: &[u8], from: usize, a: u8, b: u8) -> Option<usize> {
    find(
        bytes,
        from,
        |word| matches(word, a) | matches(word, b),
        |byte| byte == a || byte == b,
    )
}

/// Position of the first byte at or after `from` that equals `a`, `b` or `c`.
pub(crate) fn find_any3(bytes: &[u8], from: usize, a: u8, b: u8, c: u8) -> Option<usize> {
    find(
        bytes,
        from,
        |word| matches(word, a) | matches(word, b) | matches(word, c),
        |byte| byte == a || byte == b || byte == c,
    )
}

#[inline(always)]
fn find(bytes: &[u8], from: usize, in_word: impl Fn(u64) -> u64, is_one: impl Fn(u8) -> bool) -> Option<usize> {
    let tail = bytes.get(from..)?;
    let (words, rest) = tail.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = in_word(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(from + index * 8 + (found.trailing_zeros() / 8) as usize);
        }
    }
    let done = from + words.len() * 8;
    rest.iter().position(|&byte| is_one(byte)).map(|at| done + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_plain_loop_finds() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let len = rng.usize(..40);
            let bytes: alloc::vec::Vec<u8> = (0..len)
                .map(|_| if rng.bool() { rng.u8(..) } else { rng.u8(0x20..0x24) })
                .collect();
            let from = rng.usize(..45);
            let plain = |set: &[u8]| (from..len).find(|&at| set.contains(&bytes[at]));
            assert_eq!(
                find_any2(&bytes, from, b'!', b'"'),
                plain(b"!\""),
                "{bytes:?} from {from}"
            );
            assert_eq!(
                find_any3(&bytes, from, b'!', 0x80, 0xff),
                plain(b"!\x80\xff"),
                "{bytes:?} from {from}"
            );
        }
    }

    #[test]
    fn finds_one_byte_as_a_plain_loop_does() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let bytes: alloc::vec::Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(0..12) * 23).collect();
            for byte in [0, 23, 253, 1, 22] {
                let plain = bytes.iter().position(|&other| other == byte);
                assert_eq!(find_byte(&bytes, byte), plain, "{bytes:?}");
            }
        }
    }
}
