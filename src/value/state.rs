//! What a codec remembers of one series between two scrapes.

use super::decimal::{MIN_EXPONENT, at_scale, from_decimal, rescale};
use crate::sample::{Form, Number};

/// The history of one series as both codecs use it: last value, last change, a few learned bits. 17 bytes.
///
/// The encoder and the decoder each keep one per series and move them in step. A state is only meaningful to the
/// codec that moved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct SeriesState {
    /// Mantissa at `scale` as an `i64`, or in bits mode the pattern of the float.
    word: u64,
    /// Last change of `word`; 0 if it did not fit or nothing changed.
    delta: i32,
    /// Exponent of the mantissa in `word`: the finest seen since the reset.
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
/// Two bits: did the last two comparisons with the neighbour's change hit (TC1)?
pub(super) const NEIGHBOUR_SHIFT: u8 = 4;
/// Two bits: did the last two comparisons with the own last change hit (TC1)?
pub(super) const REPEAT_SHIFT: u8 = 6;

/// `zeros` before any residual was seen.
pub(super) const ZEROS_UNKNOWN: u8 = 63;

/// `class` of a series that has just entered bits mode: about what a small change of a float costs.
const BITS_CLASS: u8 = 40;

impl SeriesState {
    /// The state at a SYNC point and of a new series: the first value is coded in full.
    pub const RESET: Self = Self {
        word: 0,
        delta: 0,
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
            Some(Number::from_raw_bits(self.word))
        } else {
            from_decimal(self.word as i64, self.scale.into())
        }
    }

    /// True if `number` is the value held. A false "no" costs bytes, never exactness.
    pub(super) fn holds(&self, number: Number) -> bool {
        if self.has(BITS) {
            return self.word == number.to_bits();
        }
        match number.form() {
            Form::Decimal { mantissa, exponent } => at_scale(mantissa, exponent, self.scale) == Some(self.word as i64),
            Form::Bits(_) => false,
        }
    }

    /// The scale to write `number` at and its mantissa there, `None` if only its pattern can be written.
    ///
    /// The scale is the present one where the mantissa fits, so that it changes rarely.
    pub(super) fn place(&self, number: Number) -> Option<(i8, i64)> {
        match number.form() {
            _ if self.has(BITS) => None,
            Form::Bits(_) => None,
            Form::Decimal { mantissa, exponent } => {
                Some(at_scale(mantissa, exponent, self.scale).map_or((exponent, mantissa), |there| (self.scale, there)))
            }
        }
    }

    /// From here to the reset the series is coded as patterns.
    pub(super) fn enter_bits(&mut self) {
        // Out of bounds only on damaged input, where any pattern will do.
        self.word = self.number().map_or(0, Number::to_bits);
        self.delta = 0;
        self.class = BITS_CLASS;
        self.set(BITS, true);
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

    /// The value stays.
    pub(super) fn rest(&mut self) {
        self.set(SEEN, true);
        self.delta = 0;
    }
}

impl Default for SeriesState {
    fn default() -> Self {
        Self::RESET
    }
}
