//! Codec TC1: predictions coded by a binary range coder.
//!
//! Each series of a frame is a short walk over yes/no decisions; every decision has a price learned in the context it
//! is made in ([`Model`]). [`Walk`] describes that walk once, for encoder and decoder alike. In order:
//!
//! 1. **Changed?** Context: how many of the last 8 scrapes changed, the last two of them, and whether the two series before
//!    it in this frame changed; for a first value only the latter.
//! 2. If changed, **as a pattern?** Context: first value, decimal so far, pattern so far. What has no decimal (NaN, infinities,
//!    -0) and floats of no decimal origin are written as the difference of bit patterns ("bits mode"). A series that comes back
//!    from there is treated as if this were its first value, except that it keeps its scale.
//! 3. For a decimal: **scale**. A first value has it in a 5-bit tree; later ones first say whether it differs. The
//!    remembered mantissa is brought to the new scale.
//! 4. **Same delta as the neighbour?** (the series that changed before this one in the frame; histogram buckets, byte and packet
//!    counters) and else, **same delta as last time?** Contexts: the last two answers, mode, and for the neighbour whether it
//!    stood directly before and whether both guesses agree.
//! 5. Else the **residual** against no change or the last change, whichever was closer last time: sign; whether the trailing zero
//!    bits that all residuals so far had in common are zero again (memory counts in pages); bit length by a tree in the context
//!    of this series' usual length; the two bits below the leading one; the rest at full price.
//! 6. For a decimal: the **offset**, in steps of the float's precision, by which the value lies beyond it. Programs add up
//!    seconds as floats, and 0.1 + 0.2 prints as 0.30000000000000004: a dozen noise digits that as an offset of one cost
//!    two bits. Whether it moved (context: first value, never was one, was 0, was not), sign, bit length, bits.
//!
//! The model is 3.6 KB ([`Codec::ram_bytes`](super::codec::Codec::ram_bytes)) and is shared by all series and targets.

use super::codec::DecodeError;
use super::decimal::bit_length;
use super::range::{BitCoder, Decoder, Encoder, Slot};
use super::state::{BITS, NEAR, NEIGHBOUR_SHIFT, REPEAT_SHIFT, SEEN, SLOPE, SeriesState, ZEROS_UNKNOWN};
use super::varint::Sink;
use crate::frame::Full;
use crate::sample::{Number, Sample};

/// Final learning speeds: yes/no decisions settle slowly, the many branches of the trees quickly.
const FLAG: u16 = 7;
const MANTISSA: u16 = 6;
const TREE: u16 = 5;

/// Contexts of the bit length: 16 usual lengths, first value, bits mode, offset.
const SIZE_CONTEXTS: usize = 19;
const SIZE_FIRST: usize = 16;
const SIZE_BITS: usize = 17;
const SIZE_OFFSET: usize = 18;

/// Common trailing zeros that are worth a decision.
const WORTHWHILE_ZEROS: core::ops::Range<u8> = 2..60;

/// Upper bound for a frame of `samples`.
///
/// The longest walk is 32 decisions at no more than log2(4096 / 24) bits, and 61 + 13 raw bits: 38.9 bytes.
pub(super) const fn max_encoded_bytes(samples: usize) -> usize {
    samples * 39 + 8
}

/// All that TC1 has learned beyond single series.
#[derive(Debug)]
pub(super) struct Model {
    changed: [Slot; 9 * 16],
    first_changed: [Slot; 4],
    bits_mode: [Slot; 3],
    first_scale: [Slot; 32],
    scale_differs: Slot,
    scale: [Slot; 32],
    neighbour: [Slot; 32],
    repeat: [Slot; 8],
    sign: [Slot; 16],
    offset_moves: [Slot; 4],
    offset_sign: [Slot; 2],
    aligned: [Slot; 32],
    size_is_64: [Slot; SIZE_CONTEXTS],
    size: [[Slot; 64]; SIZE_CONTEXTS],
    mantissa: [[Slot; 4]; 64],
}

impl Model {
    /// Nothing learned.
    pub(super) fn new() -> Self {
        Self {
            changed: [Slot::RESET; 9 * 16],
            first_changed: [Slot::RESET; 4],
            bits_mode: [Slot::RESET; 3],
            first_scale: [Slot::RESET; 32],
            scale_differs: Slot::RESET,
            scale: [Slot::RESET; 32],
            neighbour: [Slot::RESET; 32],
            repeat: [Slot::RESET; 8],
            sign: [Slot::RESET; 16],
            offset_moves: [Slot::RESET; 4],
            offset_sign: [Slot::RESET; 2],
            aligned: [Slot::RESET; 32],
            size_is_64: [Slot::RESET; SIZE_CONTEXTS],
            size: [[Slot::RESET; 64]; SIZE_CONTEXTS],
            mantissa: [[Slot::RESET; 4]; 64],
        }
    }
}

pub(super) fn encode(
    model: &mut Model,
    states: &mut [SeriesState],
    samples: &[Sample],
    out: &mut impl Sink,
) -> Result<(), Full> {
    let limit = states.len();
    let mut walk = Walk::new(model, Encoder::new(out));
    for sample in samples {
        let state = states.get_mut(usize::from(sample.series.0)).ok_or(Full { limit })?;
        // An encoder never meets the malformed.
        let _ = walk.sample(state, Some(sample.number));
    }
    walk.coder.finish()
}

pub(super) fn decode(
    model: &mut Model,
    states: &mut [SeriesState],
    bytes: &[u8],
    samples: &mut [Sample],
) -> Result<(), DecodeError> {
    let mut walk = Walk::new(model, Decoder::new(bytes));
    for sample in samples {
        let state = states
            .get_mut(usize::from(sample.series.0))
            .ok_or(DecodeError::UnknownSeries(sample.series))?;
        walk.sample(state, None).ok_or(DecodeError::Malformed)?;
        sample.number = state.number().ok_or(DecodeError::Malformed)?;
    }
    walk.coder.finish()
}

/// One frame's way through the decisions.
///
/// Arguments called `wish` are what an encoder wants to say; a decoder passes anything and goes by what comes back.
struct Walk<'a, C> {
    model: &'a mut Model,
    coder: C,
    /// One bit per series of this frame so far, newest lowest: changed or not.
    recent: u8,
    /// Delta of the last series of this frame that changed; 0: none yet.
    neighbour: i64,
}

impl<'a, C: BitCoder> Walk<'a, C> {
    fn new(model: &'a mut Model, coder: C) -> Self {
        Self {
            model,
            coder,
            recent: 0,
            neighbour: 0,
        }
    }

    /// Moves `state` to the next value. `None`: the bytes are damaged.
    fn sample(&mut self, state: &mut SeriesState, wish: Option<Number>) -> Option<()> {
        let first = !state.has(SEEN);
        let recent = usize::from(self.recent & 3);
        let slot = if first {
            &mut self.model.first_changed[recent]
        } else {
            let often = state.history.count_ones() as usize;
            &mut self.model.changed[often << 4 | usize::from(state.history & 3) << 2 | recent]
        };
        let changed = self
            .coder
            .bit(slot, FLAG, wish.is_some_and(|number| !state.holds(number)));
        state.history = state.history << 1 | u8::from(changed);
        self.recent = self.recent << 1 | u8::from(changed);
        if changed {
            self.change(state, first, wish)?;
        } else {
            state.rest();
        }
        Some(())
    }

    fn change(&mut self, state: &mut SeriesState, mut first: bool, wish: Option<Number>) -> Option<()> {
        let place = wish.and_then(|number| state.place_near(number));
        let had_bits = state.has(BITS);
        let context = if first { 0 } else { 1 + usize::from(had_bits) };
        let has_bits = self
            .coder
            .bit(&mut self.model.bits_mode[context], FLAG, place.is_none());
        if has_bits {
            if !had_bits {
                state.enter_bits();
            }
            let pattern = wish.map_or(0, Number::to_bits);
            self.advance(state, first, pattern);
        } else {
            let place = place.unwrap_or_default();
            self.scale(state, first, place.scale)?;
            if had_bits {
                state.leave_bits();
                first = true;
            }
            self.advance(state, first, place.mantissa as u64);
            self.offset(state, first, place.offset);
        }
        Some(())
    }

    /// Settles the scale; the remembered mantissa follows. `None`: no such scale.
    fn scale(&mut self, state: &mut SeriesState, first: bool, wish: i8) -> Option<()> {
        let tree = if first {
            &mut self.model.first_scale
        } else if self
            .coder
            .bit(&mut self.model.scale_differs, FLAG, wish != state.scale())
        {
            &mut self.model.scale
        } else {
            return Some(());
        };
        let digits = tree_bits(&mut self.coder, tree, 5, wish.unsigned_abs().into());
        state.set_scale(-(digits as i8)).then_some(())
    }

    /// Moves the word of `state` to `wish`.
    fn advance(&mut self, state: &mut SeriesState, first: bool, wish: u64) {
        let delta = self.delta(state, first, wish.wrapping_sub(state.word()) as i64);
        state.advance(delta);
        self.neighbour = delta;
    }

    /// Moves the offset of `state` to `wish`. Errors of sums drift, so it is coded against the last one.
    fn offset(&mut self, state: &mut SeriesState, first: bool, wish: i16) {
        let last = state.offset();
        let context = match (first, state.has(NEAR)) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2 + usize::from(last != 0),
        };
        if !self
            .coder
            .bit(&mut self.model.offset_moves[context], FLAG, wish != last)
        {
            return;
        }
        let wish = wish.wrapping_sub(last);
        // An error tends back to zero.
        let slot = &mut self.model.offset_sign[usize::from(last < 0)];
        let negative = self.coder.bit(slot, FLAG, wish < 0);
        let magnitude = self.magnitude(SIZE_OFFSET, wish.unsigned_abs().into()) as i16;
        state.set_offset(last.wrapping_add(if negative { magnitude.wrapping_neg() } else { magnitude }));
    }

    /// The change of `state`'s word.
    fn delta(&mut self, state: &mut SeriesState, first: bool, wish: i64) -> i64 {
        let bits = usize::from(state.has(BITS));
        let last = state.last_delta();
        let neighbour = self.neighbour;
        if neighbour != 0 && !first {
            let adjacent = usize::from(self.recent >> 1 & 1);
            let agree = usize::from(last == neighbour);
            let context = state.hits(NEIGHBOUR_SHIFT) | adjacent << 2 | bits << 3 | agree << 4;
            let hit = self
                .coder
                .bit(&mut self.model.neighbour[context], FLAG, wish == neighbour);
            state.push_hit(NEIGHBOUR_SHIFT, hit);
            if hit {
                return neighbour;
            }
        }
        if last != 0 && last != neighbour {
            let context = state.hits(REPEAT_SHIFT) | bits << 2;
            let hit = self.coder.bit(&mut self.model.repeat[context], FLAG, wish == last);
            state.push_hit(REPEAT_SHIFT, hit);
            if hit {
                return last;
            }
        }
        let expected = state.expected_delta();
        expected.wrapping_add(self.residual(state, first, wish.wrapping_sub(expected)))
    }

    /// What the prediction missed.
    fn residual(&mut self, state: &mut SeriesState, first: bool, wish: i64) -> i64 {
        let bits = usize::from(state.has(BITS));
        let slope = usize::from(state.has(SLOPE));
        let falling = usize::from(state.last_delta() < 0);
        let context = slope | usize::from(!first) << 1 | bits << 2 | falling << 3;
        let negative = self.coder.bit(&mut self.model.sign[context], FLAG, wish < 0);

        let mut zeros = if !first && WORTHWHILE_ZEROS.contains(&state.zeros) {
            state.zeros
        } else {
            0
        };
        let size_context = if first {
            SIZE_FIRST
        } else if bits == 1 {
            SIZE_BITS
        } else {
            usize::from(state.class.saturating_sub(zeros) / 2).min(15)
        };
        let wish = wish.unsigned_abs();
        if zeros > 0 {
            let slot = &mut self.model.aligned[usize::from(zeros / 4).min(15) | bits << 4];
            let unaligned = wish & ((1 << zeros) - 1) != 0;
            if self.coder.bit(slot, FLAG, unaligned) {
                zeros = 0;
            }
        }
        // Damaged bytes may ask for more bits than there are.
        let magnitude = self.magnitude(size_context, wish >> zeros).wrapping_shl(zeros.into());

        if !first && magnitude != 0 {
            let found = magnitude.trailing_zeros() as u8;
            state.zeros = if state.zeros == ZEROS_UNKNOWN {
                found
            } else {
                state.zeros.min(found)
            };
        }
        state.class = (state.class + bit_length(magnitude) as u8).div_ceil(2);
        if negative {
            (magnitude as i64).wrapping_neg()
        } else {
            magnitude as i64
        }
    }

    /// An unsigned number: bit length, two bits below the leading one, the rest raw.
    fn magnitude(&mut self, context: usize, wish: u64) -> u64 {
        let length = bit_length(wish);
        let length = if self.coder.bit(&mut self.model.size_is_64[context], TREE, length == 64) {
            64
        } else {
            tree_bits(&mut self.coder, &mut self.model.size[context], 6, length & 63)
        };
        if length < 2 {
            return length.into();
        }
        let below = length - 1;
        let modelled = below.min(2);
        let rest = below - modelled;
        let slots = &mut self.model.mantissa[(length & 63) as usize];
        let top = 1 << modelled | (wish >> rest) as u32 & ((1 << modelled) - 1);
        let mut node = 1;
        for i in (0..modelled).rev() {
            node = node << 1 | usize::from(self.coder.bit(&mut slots[node], MANTISSA, top >> i & 1 == 1));
        }
        (node as u64) << rest | self.coder.raw(rest, wish & ((1 << rest) - 1))
    }
}

/// `count` bits of `wish`, highest first, each priced by those before it; `slots` has `1 << count`.
fn tree_bits<C: BitCoder>(coder: &mut C, slots: &mut [Slot], count: u32, wish: u32) -> u32 {
    let mut node = 1;
    for i in (0..count).rev() {
        node = node << 1 | usize::from(coder.bit(&mut slots[node], TREE, wish >> i & 1 == 1));
    }
    (node - (1 << count)) as u32
}

#[cfg(test)]
mod tests {
    use super::{BITS, Model, SeriesState, decode, encode};
    use crate::frame::Bounded;
    use crate::sample::{NORMAL_NAN_BITS, Number, Sample, SeriesRef};
    use crate::value::{from_bits, from_decimal};

    struct Writer {
        model: Model,
        states: [SeriesState; 1],
    }

    impl Writer {
        fn new() -> Self {
            Self {
                model: Model::new(),
                states: [SeriesState::RESET],
            }
        }

        fn bytes(&mut self, number: Number) -> usize {
            let mut out = Bounded::with_capacity(64);
            let samples = [Sample {
                number,
                series: SeriesRef(0),
            }];
            encode(&mut self.model, &mut self.states, &samples, &mut out).unwrap();
            out.len()
        }
    }

    #[test]
    fn a_sum_of_decimals_costs_what_the_decimal_costs() {
        let mut rng = fastrand::Rng::with_seed(30);
        let (mut sums, mut decimals) = (Writer::new(), Writer::new());
        let (mut sum, mut nanoseconds, mut bytes, mut long) = (0.0, 0, [0, 0], 0);
        for _ in 0..2000 {
            let step = rng.i64(1..1_000_000);
            nanoseconds += step;
            sum += step as f64 / 1e9;
            let number = from_bits(f64::to_bits(sum));
            let decimal = from_decimal(nanoseconds, -9).unwrap();
            long += u32::from(number != decimal);
            bytes[0] += sums.bytes(number);
            bytes[1] += decimals.bytes(decimal);
            assert!(!sums.states[0].has(BITS));
        }
        // The pattern would take four bytes more.
        assert!(long > 1000 && bytes[0] < bytes[1] + 2000, "{bytes:?}, {long} long");
    }

    #[test]
    fn an_unchanged_sum_is_unchanged_however_it_was_given() {
        // 16 digits: a decimal by its text, a sum by its origin.
        let number = from_decimal(2_049_307_650_000_001, -15).unwrap();
        let mut writer = Writer::new();
        writer.bytes(number);
        assert_eq!(writer.states[0].scale(), -8);
        for given in [number, Number::from_raw_bits(number.to_bits())] {
            assert!(writer.states[0].holds(given));
        }
    }

    #[test]
    fn a_series_returns_from_patterns_to_its_decimals() {
        let mut writer = Writer::new();
        writer.bytes(from_decimal(1_234_567, -3).unwrap());
        writer.bytes(Number::from_raw_bits(NORMAL_NAN_BITS));
        assert!(writer.states[0].has(BITS));
        writer.bytes(from_decimal(1_234_568, -3).unwrap());
        assert!(!writer.states[0].has(BITS));
        assert_eq!(writer.states[0].scale(), -3);
    }

    #[test]
    fn a_float_of_no_decimal_origin_stays_a_pattern() {
        let mut rng = fastrand::Rng::with_seed(31);
        let mut writer = Writer::new();
        let mut patterns = 0;
        for _ in 0..1000 {
            writer.bytes(from_bits(rng.f64().to_bits()));
            patterns += u32::from(writer.states[0].has(BITS));
        }
        // A few look like sums by chance.
        assert!(patterns > 850, "{patterns} of 1000");
    }

    #[test]
    fn the_frame_of_a_steady_series_is_empty() {
        let mut writer = Writer::new();
        let number = Number::decimal(7, 0);
        assert!(writer.bytes(number) > 0);
        for _ in 0..20 {
            writer.bytes(number);
        }
        assert_eq!(writer.bytes(number), 0);
        let mut reader = Writer::new();
        let mut samples = [Sample {
            number: Number::STALE,
            series: SeriesRef(0),
        }];
        reader.states = writer.states;
        decode(&mut writer.model, &mut reader.states, &[], &mut samples).unwrap();
        assert_eq!(samples[0].number, number);
    }
}
