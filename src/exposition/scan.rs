//! Finding one byte sixteen bytes at a time, as [`find_any3`](crate::labels::find_any3) finds one of three.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = LOW << 7;

/// Position of the first `byte`.
pub(super) fn find_byte(bytes: &[u8], byte: u8) -> Option<usize> {
    let wanted = LOW * u64::from(byte);
    // Bit 7 set in the lowest byte that matches, and perhaps in bytes above it.
    let matches = |word: u64| {
        let zeroed = word ^ wanted;
        zeroed.wrapping_sub(LOW) & !zeroed
    };
    let (pairs, rest) = bytes.as_chunks::<16>();
    for (index, pair) in pairs.iter().enumerate() {
        let pair = u128::from_le_bytes(*pair);
        let (low, high) = (matches(pair as u64), matches((pair >> 64) as u64));
        if (low | high) & HIGH != 0 {
            let at = match low & HIGH {
                0 => 64 + (high & HIGH).trailing_zeros(),
                low => low.trailing_zeros(),
            };
            return Some(index * 16 + (at / 8) as usize);
        }
    }
    let at = rest.iter().position(|&other| other == byte)?;
    Some(pairs.len() * 16 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_plain_loop_finds() {
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let bytes: alloc::vec::Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(0..12) * 23).collect();
            for byte in [0, 23, 253, 1, 22] {
                assert_eq!(
                    find_byte(&bytes, byte),
                    bytes.iter().position(|&other| other == byte),
                    "{bytes:?}"
                );
            }
        }
    }
}
