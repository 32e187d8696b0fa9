//! Adaptive binary range coder.
//!
//! Each decision is coded at a price set by a [`Slot`] that has learned how often it goes which way. The encoder
//! keeps an interval `[low, low + range)` of the byte string read as a fraction and narrows it with each decision; the
//! decoder follows. Carries out of `low` are resolved by holding back the last byte and any 0xFF behind it.
//!
//! ```text
//! bound = (range >> 12) * p12       p12 = chance of `false` in 1/4096, 24..=4072
//! false: range = bound              true: low += bound, range -= bound
//! below 2^24: one byte leaves from the top of low
//! ```
//!
//! Steps are forced inline: a profile for size would make a call of each, and there are a dozen of them per decision and a
//! dozen decisions per sample.
//!
//! A coder lives for one frame, its slots until the next SYNC. At the end the encoder picks the value of the interval with
//! the most trailing zero bytes and leaves those away; a decoder that reads past the end reads zeros.
//!
//! Source: G. N. N. Martin, "Range encoding" (1979); carry handling as in Subbotin's and Pavlov's coders.

use super::codec::DecodeError;
use super::varint::Sink;
use crate::frame::Full;

/// Width kept in `range`; below it bytes are shifted out.
const RENORMALISE: u32 = 1 << 24;

/// Most bits that one division of the range codes; leaves it at least 2^8 wide.
const RAW_CHUNK: u32 = 16;

/// Bytes of the decoder's register: it reads this far ahead, and the encoder leaves away up to as many zero bytes.
const REGISTER_BYTES: usize = 4;

/// Chance of `false`, learned: quickly at first, then with a fixed window. 16 bits.
///
/// A slot is young until it has learned at its final speed: then it holds the number of decisions seen (5 bits) and the
/// chance to 10 bits. After that the count is of no use and the chance has 15 bits, so that rare events can be priced
/// down to the 24/4096 that the coder admits.
///
/// ```text
/// 0nnn nnpp pppp pppp    young        1ppp pppp pppp pppp    mature
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u16);

const MATURE: u16 = 0x8000;

impl Slot {
    /// Nothing learned: both ways equally likely.
    pub(super) const RESET: Self = Self(1 << 9);

    /// Chance of `false` in 1/4096.
    #[inline(always)]
    fn chance(self) -> u32 {
        let chance = if self.0 & MATURE == 0 {
            (self.0 & 0x3ff) << 2
        } else {
            (self.0 & 0x7fff) >> 3
        };
        u32::from(chance).clamp(24, 4072)
    }

    /// Learns one outcome. `slowest` is the final shift: the window is about 2^slowest decisions.
    #[inline(always)]
    fn learn(&mut self, outcome: bool, slowest: u16) {
        if self.0 & MATURE != 0 {
            let chance = self.0 & 0x7fff;
            self.0 = MATURE | drift(chance, 0x7fff, outcome, slowest);
            return;
        }
        let count = self.0 >> 10;
        // 1, 2, then four times each 3, 4, 5, ...
        let shift = if count < 2 { count + 1 } else { 3 + (count - 2) / 4 };
        if shift >= slowest {
            let chance = (self.0 & 0x3ff) << 5 | 0x10;
            self.0 = MATURE | drift(chance, 0x7fff, outcome, slowest);
        } else {
            self.0 = (count + 1) << 10 | drift(self.0 & 0x3ff, 0x3ff, outcome, shift);
        }
    }
}

#[inline(always)]
const fn drift(chance: u16, certain: u16, outcome: bool, shift: u16) -> u16 {
    if outcome {
        chance - (chance >> shift)
    } else {
        chance + ((certain - chance) >> shift)
    }
}

/// Either direction of the coder, so that one description of a frame serves both.
///
/// An encoder writes what it is given and returns it; a decoder ignores it and returns what was written.
pub(super) trait BitCoder {
    /// One decision, priced by `slot`, which learns from it.
    fn bit(&mut self, slot: &mut Slot, slowest: u16, wish: bool) -> bool;

    /// The low `count` bits (at most 64) of `wish` at full price; the bits above must be zero.
    fn raw(&mut self, count: u32, wish: u64) -> u64;
}

/// Writes decisions to a sink.
pub(super) struct Encoder<'a, S> {
    out: &'a mut S,
    /// Lower end of the interval; bit 32 is a carry.
    low: u64,
    range: u32,
    /// The last byte, held back until no carry can reach it. `None` at the start: the value is below 1, nothing carries out.
    held: Option<u8>,
    /// Bytes 0xFF behind the held one.
    held_ff: u32,
    /// The sink's first refusal; checked once, at the end.
    full: Result<(), Full>,
}

impl<'a, S: Sink> Encoder<'a, S> {
    pub(super) fn new(out: &'a mut S) -> Self {
        Self {
            out,
            low: 0,
            range: u32::MAX,
            held: None,
            held_ff: 0,
            full: Ok(()),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.full.is_ok() {
            self.full = self.out.put(bytes);
        }
    }

    /// Sends the bytes held back, with the carry if there is one.
    fn release(&mut self) {
        let carry = (self.low >> 32) as u8;
        if let Some(byte) = self.held.take() {
            self.put(&[byte.wrapping_add(carry)]);
        }
        for _ in 0..self.held_ff {
            self.put(&[0xff_u8.wrapping_add(carry)]);
        }
        self.held_ff = 0;
    }

    /// Takes the top byte out of `low`.
    fn shift_out(&mut self) {
        if self.low >> 24 == 0xff {
            self.held_ff += 1;
        } else {
            self.release();
            self.held = Some((self.low >> 24) as u8);
        }
        self.low = self.low << 8 & 0xffff_ffff;
    }

    #[inline(always)]
    fn renormalise(&mut self) {
        while self.range < RENORMALISE {
            self.range <<= 8;
            self.shift_out();
        }
    }

    /// Ends the frame.
    ///
    /// # Errors
    /// [`Full`] if the sink refused any byte of it.
    pub(super) fn finish(mut self) -> Result<(), Full> {
        let end = self.low + u64::from(self.range);
        // The most zero bytes first; with none, `low` itself lies inside.
        for zeros in (0..=REGISTER_BYTES).rev() {
            let mask = (1_u64 << (8 * zeros)) - 1;
            let value = (self.low + mask) & !mask;
            if value < end {
                self.low = value;
                self.release();
                let bytes = (value as u32).to_be_bytes();
                self.put(bytes.get(..REGISTER_BYTES - zeros).unwrap_or_default());
                break;
            }
        }
        self.full
    }
}

impl<S: Sink> BitCoder for Encoder<'_, S> {
    fn bit(&mut self, slot: &mut Slot, slowest: u16, wish: bool) -> bool {
        let bound = (self.range >> 12) * slot.chance();
        if wish {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        slot.learn(wish, slowest);
        self.renormalise();
        wish
    }

    fn raw(&mut self, count: u32, wish: u64) -> u64 {
        let mut left = count;
        while left > 0 {
            let step = left.min(RAW_CHUNK);
            left -= step;
            self.range >>= step;
            self.low += u64::from(self.range) * (wish >> left & ((1 << step) - 1));
            self.renormalise();
        }
        wish
    }
}

/// Reads decisions from a slice.
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    /// Bytes taken, those past the end included.
    taken: usize,
    /// Where the value lies above the interval's lower end.
    code: u32,
    range: u32,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self {
            bytes,
            taken: 0,
            code: 0,
            range: u32::MAX,
        };
        for _ in 0..REGISTER_BYTES {
            decoder.shift_in();
        }
        decoder
    }

    #[inline(always)]
    fn shift_in(&mut self) {
        let byte = self.bytes.get(self.taken).copied().unwrap_or(0);
        self.taken += 1;
        self.code = self.code << 8 | u32::from(byte);
    }

    #[inline(always)]
    fn renormalise(&mut self) {
        while self.range < RENORMALISE {
            self.range <<= 8;
            self.shift_in();
        }
    }

    /// Checks that the frame was as long as its decisions.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] or [`DecodeError::TrailingBytes`].
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.taken < self.bytes.len() {
            Err(DecodeError::TrailingBytes)
        } else if self.taken > self.bytes.len() + REGISTER_BYTES {
            Err(DecodeError::Truncated)
        } else {
            Ok(())
        }
    }
}

impl BitCoder for Decoder<'_> {
    fn bit(&mut self, slot: &mut Slot, slowest: u16, _: bool) -> bool {
        let bound = (self.range >> 12) * slot.chance();
        let outcome = self.code >= bound;
        if outcome {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        slot.learn(outcome, slowest);
        self.renormalise();
        outcome
    }

    fn raw(&mut self, count: u32, _: u64) -> u64 {
        let mut value = 0;
        let mut left = count;
        while left > 0 {
            let step = left.min(RAW_CHUNK);
            left -= step;
            self.range >>= step;
            // Damaged bytes may lie outside the interval.
            let chunk = (self.code / self.range).min((1 << step) - 1);
            self.code -= chunk * self.range;
            value = value << step | u64::from(chunk);
            self.renormalise();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::{BitCoder, DecodeError, Decoder, Encoder, Slot};
    use crate::frame::{Bounded, Full};
    use alloc::vec::Vec;

    enum Step {
        Bit { slot: usize, bit: bool },
        Raw { count: u32, value: u64 },
    }

    /// Decisions whose slots range from certain to even, mixed with raw bits, all ones often: those make carries.
    fn script(rng: &mut fastrand::Rng) -> Vec<Step> {
        (0..rng.usize(0..600))
            .map(|_| {
                if rng.u8(0..5) == 0 {
                    let count = rng.u32(0..=64);
                    let ones = if count == 0 { 0 } else { u64::MAX >> (64 - count) };
                    let value = if rng.bool() { ones } else { rng.u64(..) & ones };
                    Step::Raw { count, value }
                } else {
                    let slot = rng.usize(0..8);
                    Step::Bit {
                        slot,
                        bit: rng.u32(0..1 << (2 * slot)) == 0,
                    }
                }
            })
            .collect()
    }

    fn write(script: &[Step], out: &mut Bounded<u8>) -> Result<(), Full> {
        let mut slots = [Slot::RESET; 8];
        let mut encoder = Encoder::new(out);
        for step in script {
            match *step {
                Step::Bit { slot, bit } => assert_eq!(encoder.bit(&mut slots[slot], 7, bit), bit),
                Step::Raw { count, value } => assert_eq!(encoder.raw(count, value), value),
            }
        }
        encoder.finish()
    }

    #[test]
    fn decisions_and_raw_bits_come_back() {
        let mut rng = fastrand::Rng::with_seed(20);
        let mut out = Bounded::with_capacity(8000);
        for _ in 0..2000 {
            let script = script(&mut rng);
            out.clear();
            write(&script, &mut out).unwrap();
            let mut slots = [Slot::RESET; 8];
            let mut decoder = Decoder::new(&out);
            for step in &script {
                match *step {
                    Step::Bit { slot, bit } => assert_eq!(decoder.bit(&mut slots[slot], 7, !bit), bit),
                    Step::Raw { count, value } => assert_eq!(decoder.raw(count, !value), value),
                }
            }
            decoder.finish().unwrap();
        }
    }

    #[test]
    fn a_sink_that_is_full_anywhere_is_reported_at_the_end() {
        let script = script(&mut fastrand::Rng::with_seed(21));
        let mut out = Bounded::with_capacity(8000);
        write(&script, &mut out).unwrap();
        for capacity in 0..out.len() {
            let mut small = Bounded::with_capacity(capacity);
            assert_eq!(write(&script, &mut small), Err(Full { limit: capacity }));
            assert_eq!(small[..], out[..capacity]);
        }
    }

    #[test]
    fn a_frame_of_the_wrong_length_is_noticed() {
        let mut out = Bounded::with_capacity(64);
        let mut encoder = Encoder::new(&mut out);
        encoder.raw(64, 0x0123_4567_89ab_cdef);
        encoder.finish().unwrap();
        let outcome = |bytes: &[u8]| {
            let mut decoder = Decoder::new(bytes);
            decoder.raw(64, 0);
            decoder.finish()
        };
        assert_eq!(outcome(&out), Ok(()));
        let mut longer = out.to_vec();
        longer.resize(out.len() + 8, 0);
        assert_eq!(outcome(&longer), Err(DecodeError::TrailingBytes));
        assert_eq!(outcome(&out[..2]), Err(DecodeError::Truncated));
    }

    #[test]
    fn slots_learn_certainty_both_ways_and_forget_it() {
        let mut slot = Slot::RESET;
        assert_eq!(slot.chance(), 2048);
        for (outcome, range) in [(false, 4072..=4072), (true, 24..=24), (false, 4072..=4072)] {
            (0..2000).for_each(|_| slot.learn(outcome, 7));
            assert!(range.contains(&slot.chance()), "{slot:?}");
        }
        // Quick at first: half the way per step, then a quarter.
        let mut slot = Slot::RESET;
        slot.learn(true, 5);
        assert_eq!(slot.chance(), 1024);
        slot.learn(true, 5);
        assert_eq!(slot.chance(), 768);
        // An even slot stays near the middle whatever its speed.
        for slowest in [5, 6, 7] {
            let mut slot = Slot::RESET;
            let mut rng = fastrand::Rng::with_seed(22);
            let mean = (0..10_000).map(|_| {
                slot.learn(rng.bool(), slowest);
                u64::from(slot.chance())
            });
            assert!((1950..2150).contains(&(mean.sum::<u64>() / 10_000)));
        }
    }

    #[test]
    fn what_was_expected_costs_next_to_nothing() {
        let mut out = Bounded::with_capacity(64);
        let mut slot = Slot::RESET;
        let mut encoder = Encoder::new(&mut out);
        (0..1000).for_each(|_| assert!(!encoder.bit(&mut slot, 7, false)));
        encoder.finish().unwrap();
        // 1000 x 0.0085 bits, and about 10 bits for learning.
        assert!(out.len() <= 4, "{} bytes", out.len());
    }
}
