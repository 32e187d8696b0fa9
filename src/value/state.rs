//! What a codec remembers of one series between two scrapes.

use super::decimal::{MANTISSA_LIMIT, MIN_EXPONENT, at_scale, bit_length, from_decimal, rescale};
use crate::sample::{Form, Number, POWERS_OF_TEN};

/// The history of one series as both codecs use it: last value, last change, a few learned bits. 19 bytes.
///
/// The encoder and the decoder each keep one per series and move them in step. A state is only meaningful to the
/// codec that moved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct SeriesState {
    /// Mantissa at `scale` as an `i64`, or in bits mode the pattern of the float.
    word: u64,
    /// Last change of `word` that was one; 0 if there was none at this scale or it did not fit.
    delta: i32,
    /// The float lies this many steps of its own precision beyond the decimal; 0 in bits mode (TC1).
    offset: i16,
    /// Exponent of the mantissa in `word`, as a rule the finest seen since the reset; kept in bits mode.
    scale: i8,
    /// Smoothed bit length of the residuals (TC1).
    pub(super) class: u8,
    /// One bit per scrape, newest lowest: changed or not (TC1).
    pub(super) history: u8,
    flags: u8,
    /// Trailing zero bits that all residuals had in common (TC1).
    pub(super) zeros: u8,
}

/// A value has been coded since the reset.
pub(super) const SEEN: u8 = 0x01;
/// `word` is a float's pattern.
pub(super) const BITS: u8 = 0x02;
/// Last time `delta` was the better guess at the next change than no change.
pub(super) const SLOPE: u8 = 0x04;
/// An offset other than 0 has occurred since the reset (TC1).
pub(super) const NEAR: u8 = 0x08;
/// Two bits: did the last two comparisons with the neighbour's change hit (TC1)?
pub(super) const NEIGHBOUR_SHIFT: u8 = 4;
/// Two bits: did the last two comparisons with the own last change hit (TC1)?
pub(super) const REPEAT_SHIFT: u8 = 6;

/// `zeros` before any residual was seen.
pub(super) const ZEROS_UNKNOWN: u8 = 63;

/// `class` of a series that has just entered bits mode: about what a small change of a float costs.
const BITS_CLASS: u8 = 40;

/// Finest scale at which sums are recognised: femtoseconds.
const MAX_NEAR_SCALE: i8 = -15;

/// Bits of mantissa and offset up to which a float is taken for a sum of decimals; a float of no such origin has about 53.
const NEAR_BITS: u32 = 47;

/// A number in terms of a state: `mantissa x 10^scale`, then `offset` floats further.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) scale: i8,
    pub(super) mantissa: i64,
    pub(super) offset: i16,
}

const _: () = assert!(size_of::<SeriesState>() == 19, "the memory plan and the docs say 19");

impl SeriesState {
    /// The state at a SYNC point and of a new series: the first value is coded in full.
    pub const RESET: Self = Self {
        word: 0,
        delta: 0,
        offset: 0,
        scale: 0,
        class: 0,
        history: 0,
        flags: 0,
        zeros: ZEROS_UNKNOWN,
    };

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    pub(super) const fn word(&self) -> u64 {
        self.word
    }

    pub(super) const fn scale(&self) -> i8 {
        self.scale
    }

    pub(super) const fn offset(&self) -> i16 {
        self.offset
    }

    pub(super) const fn last_delta(&self) -> i64 {
        self.delta as i64
    }

    /// The two newest hits of the history at `shift`.
    pub(super) const fn hits(&self, shift: u8) -> usize {
        (self.flags >> shift & 3) as usize
    }

    pub(super) fn push_hit(&mut self, shift: u8, hit: bool) {
        let hits = (self.flags >> shift << 1 | u8::from(hit)) & 3;
        self.flags = self.flags & !(3 << shift) | hits << shift;
    }

    /// The value, `None` if damaged input has driven the mantissa out of bounds.
    pub(super) fn number(&self) -> Option<Number> {
        if self.has(BITS) {
            return Some(Number::from_raw_bits(self.word));
        }
        let decimal = from_decimal(self.word as i64, self.scale.into())?;
        match self.offset {
            0 => Some(decimal),
            offset => Some(Number::from_raw_bits(
                decimal.to_bits().wrapping_add_signed(offset.into()),
            )),
        }
    }

    /// True if `number` is the value held. A false "no" costs bytes, never exactness.
    pub(super) fn holds(&self, number: Number) -> bool {
        if self.has(BITS) {
            return self.word == number.to_bits();
        }
        match number.form() {
            Form::Decimal { mantissa, exponent } if self.offset == 0 => {
                at_scale(mantissa, exponent, self.scale) == Some(self.word as i64)
            }
            _ => self.number().is_some_and(|held| held.to_bits() == number.to_bits()),
        }
    }

    /// How to write `number` as a decimal, `None` if it is not one.
    ///
    /// The scale is the present one where the mantissa fits, so that it changes rarely.
    pub(super) fn place(&self, number: Number) -> Option<Place> {
        let Form::Decimal { mantissa, exponent } = number.form() else {
            return None;
        };
        let (scale, mantissa) =
            at_scale(mantissa, exponent, self.scale).map_or((exponent, mantissa), |there| (self.scale, there));
        Some(Place {
            scale,
            mantissa,
            offset: 0,
        })
    }

    /// How to write `number` as a decimal that may be a few steps of the float's precision off; `None` if it is better
    /// written as a pattern.
    ///
    /// Sums of decimals look like this: 0.1 + 0.2 is one step beyond 0.3. Of a float without such a past, mantissa and
    /// offset together have as many bits as the float's own mantissa, whatever the scale; it is taken for a sum if they
    /// have clearly fewer. Long decimals may be such sums too, and are no reason to return from bits mode.
    pub(super) fn place_near(&self, number: Number) -> Option<Place> {
        let long = match number.form() {
            Form::Decimal { mantissa, .. } => bit_length(mantissa.unsigned_abs()) > NEAR_BITS,
            Form::Bits(_) => true,
        };
        if !long {
            return self.place(number);
        }
        self.place_sum(number.to_bits())
            .or_else(|| if self.has(BITS) { None } else { self.place(number) })
    }

    fn place_sum(&self, bits: u64) -> Option<Place> {
        let value = f64::from_bits(bits);
        // Also keeps out infinities and NaN.
        if !(value.abs() >= 1e-9 && value.abs() < MANTISSA_LIMIT as f64) {
            return None;
        }
        (MAX_NEAR_SCALE..=self.scale).rev().find_map(|scale| {
            let power = POWERS_OF_TEN.get(usize::from(scale.unsigned_abs()))?;
            let half = if value < 0.0 { -0.5 } else { 0.5 };
            // Any mantissa would do, the offset makes up for it; the nearest has the smallest.
            let mantissa = (value * power + half) as i64;
            let offset = bits.wrapping_sub(from_decimal(mantissa, scale.into())?.to_bits()) as i64;
            let offset = i16::try_from(offset).ok()?;
            let length = bit_length(mantissa.unsigned_abs()) + bit_length(offset.unsigned_abs().into());
            let expected = self.has(NEAR) && scale == self.scale;
            (expected || length <= NEAR_BITS).then_some(Place {
                scale,
                mantissa,
                offset,
            })
        })
    }

    /// The series is coded as patterns from here.
    pub(super) fn enter_bits(&mut self) {
        // Out of bounds only on damaged input, where any pattern will do.
        self.word = self.number().map_or(0, Number::to_bits);
        self.delta = 0;
        self.offset = 0;
        self.class = BITS_CLASS;
        self.set(BITS, true);
    }

    /// Back to decimals, at the scale they had; the next value is coded as a first one is.
    pub(super) fn leave_bits(&mut self) {
        self.word = 0;
        self.delta = 0;
        self.set(BITS, false);
    }

    pub(super) fn set_offset(&mut self, offset: i16) {
        self.offset = offset;
        if offset != 0 {
            self.set(NEAR, true);
        }
    }

    /// Expresses the mantissa at another scale. `false`: no such scale.
    pub(super) fn set_scale(&mut self, scale: i8) -> bool {
        if !(MIN_EXPONENT..=0).contains(&scale) {
            return false;
        }
        self.word = rescale(self.word as i64, self.scale, scale) as u64;
        self.delta = 0;
        self.scale = scale;
        true
    }

    /// The change to expect: the last one if that was the better guess last time, else none.
    pub(super) fn expected_delta(&self) -> i64 {
        if self.has(SLOPE) { self.last_delta() } else { 0 }
    }

    /// Moves to the next value, `delta` above the last one.
    pub(super) fn advance(&mut self, delta: i64) {
        let curve = delta.wrapping_sub(self.last_delta());
        self.set(SLOPE, curve.unsigned_abs() < delta.unsigned_abs());
        self.set(SEEN, true);
        self.word = self.word.wrapping_add(delta as u64);
        self.delta = i32::try_from(delta).unwrap_or(0);
    }

    /// The value stays; so does the last change, since counters that tick now and then tick alike.
    pub(super) fn rest(&mut self) {
        self.set(SEEN, true);
    }
}

impl Default for SeriesState {
    fn default() -> Self {
        Self::RESET
    }
}
