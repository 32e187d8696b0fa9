//! A set of small integers: one bit each, fixed size.
//!
//! Allocates in [`Bits::new`] only. Every call is O(1) but [`Bits::next_set`] and [`Bits::next_clear`], which
//! read one word per 32 members.

use alloc::boxed::Box;
use alloc::vec;

const WORD: usize = 32;

/// A set over `0..len`.
#[derive(Debug)]
pub(crate) struct Bits {
    words: Box<[u32]>,
    len: usize,
}

impl Bits {
    /// An empty set over `0..len`.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(WORD)].into_boxed_slice(),
            len,
        }
    }

    /// Heap bytes of a set over `0..len`.
    pub(crate) const fn ram_bytes(len: usize) -> usize {
        len.div_ceil(WORD) * size_of::<u32>()
    }

    /// Puts `i` in, or takes it out. Outside the range: nothing happens.
    pub(crate) fn put(&mut self, i: usize, member: bool) {
        if let Some(word) = self.words.get_mut(i / WORD)
            && i < self.len
        {
            let bit = 1 << (i % WORD);
            if member {
                *word |= bit;
            } else {
                *word &= !bit;
            }
        }
    }

    /// Whether `i` is in.
    pub(crate) fn has(&self, i: usize) -> bool {
        self.words
            .get(i / WORD)
            .is_some_and(|word| word & (1 << (i % WORD)) != 0)
    }

    /// Members from `from` to below `to`, which lie in one word.
    pub(crate) fn count(&self, from: usize, to: usize) -> usize {
        let below = |i: usize| (1_u64 << (i - (from / WORD * WORD))) - 1;
        let word = self.words.get(from / WORD).map_or(0, |&word| u64::from(word));
        (word & below(to) & !below(from)).count_ones() as usize
    }

    /// The smallest member at or above `from`.
    pub(crate) fn next_set(&self, from: usize) -> Option<usize> {
        self.next(from, 0)
    }

    /// The smallest non-member at or above `from`.
    pub(crate) fn next_clear(&self, from: usize) -> Option<usize> {
        self.next(from, u32::MAX)
    }

    /// Takes everything out.
    pub(crate) fn clear(&mut self) {
        self.words.fill(0);
    }

    /// The first bit at or above `from` that differs from those of `flip`.
    fn next(&self, from: usize, flip: u32) -> Option<usize> {
        let mut at = from / WORD;
        let mut word = (self.words.get(at)? ^ flip) & (u32::MAX << (from % WORD));
        while word == 0 {
            at += 1;
            word = self.words.get(at)? ^ flip;
        }
        let i = at * WORD + word.trailing_zeros() as usize;
        (i < self.len).then_some(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_an_array_of_flags() {
        let mut random = fastrand::Rng::with_seed(7);
        for len in [1, 31, 32, 33, 64, 100] {
            let mut bits = Bits::new(len);
            let mut model = vec![false; len];
            for _ in 0..2_000 {
                let i = random.usize(0..len + 5);
                let member = random.bool();
                bits.put(i, member);
                if i < len {
                    model[i] = member;
                }
                let from = random.usize(0..len + 40);
                let wanted = |member| (from..len).find(|&i| model[i] == member);
                assert_eq!(bits.next_set(from), wanted(true));
                assert_eq!(bits.next_clear(from), wanted(false));
                assert_eq!(bits.has(i), i < len && model[i]);
                let (group, at) = (i / 16 * 16, i.min(len));
                let members = (group..at).filter(|&i| model[i]).count();
                assert_eq!(bits.count(group, i.max(group)), members);
            }
            bits.clear();
            assert_eq!(bits.next_set(0), None);
        }
    }
}
