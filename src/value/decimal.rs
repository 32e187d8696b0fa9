//! Number text to exact decimals, and decimals between scales.
//!
//! A value is kept as the digits it was written with wherever the float can be had back exactly: mantissa below 2^53,
//! exponent -22..=0. Then `mantissa / 10^-exponent` is one correctly rounded division of two exact operands, which is
//! what a correct parser returns. All else becomes the float's bits.
//!
//! The syntax is that of Prometheus' text format (`1`, `-.5`, `1.`, `1e-7`, `+Inf`, `Infinity`, `NaN` in any letter
//! case): no hexadecimal, no `_`, no spaces, overflow is an error, underflow is zero. Every NaN becomes the
//! normal NaN, so no text can pass for a staleness marker.
//!
//! Sources: Go `strconv.ParseFloat`; W. Clinger, "How to read floating point numbers accurately" (the fast path).

use crate::sample::{NORMAL_NAN_BITS, Number};
use core::fmt::Write;

/// Mantissas of decimals lie strictly between minus this and this.
pub(super) const MANTISSA_LIMIT: u64 = 1 << 53;

/// Lowest exponent of a decimal: 10^22 is the largest power of ten that a binary64 holds exactly.
pub(super) const MIN_EXPONENT: i8 = -22;

/// Powers of ten that fit an `i64`.
const POWERS: [i64; 19] = {
    let mut powers = [1; 19];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// Parses the value of a sample line. `None`: not a number in the syntax above, or beyond the range of a float.
///
/// `text` is the whole token, without surrounding space. Plain decimals of up to 18 digits take about 10 ns on
/// x86-64; longer ones go through the standard parser and formatter, about 80 ns.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Number> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    if !matches!(digits.first()?, b'0'..=b'9' | b'.') {
        return parse_word(text, negative, digits);
    }
    let scan = scan(digits)?;
    match scan.mantissa {
        Some(0) if negative => Some(Number::from_raw_bits((-0.0_f64).to_bits())),
        Some(mantissa) => {
            let signed = if negative { -mantissa } else { mantissa };
            from_decimal(signed, scan.exponent).or_else(|| parse_float(text))
        }
        None => parse_float(text),
    }
}

/// Infinities and NaN. Go takes a sign before the former only.
fn parse_word(text: &[u8], negative: bool, word: &[u8]) -> Option<Number> {
    if word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity") {
        let infinity = if negative { f64::NEG_INFINITY } else { f64::INFINITY };
        Some(Number::from_raw_bits(infinity.to_bits()))
    } else if text.eq_ignore_ascii_case(b"nan") {
        Some(Number::from_raw_bits(NORMAL_NAN_BITS))
    } else {
        None
    }
}

/// A number without sign whose syntax has been checked.
struct Scan {
    /// All digits as an integer; `None` if they do not fit.
    mantissa: Option<i64>,
    /// Power of ten of the last digit, saturated.
    exponent: i32,
}

/// Checks the syntax of an unsigned number and gathers its digits.
fn scan(text: &[u8]) -> Option<Scan> {
    const NO_OVERFLOW: u64 = (i64::MAX as u64 - 9) / 10;
    let mut mantissa = 0_u64;
    let mut fits = true;
    let mut any_digit = false;
    let mut point = false;
    let mut exponent = 0_i32;
    for (i, &byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            if mantissa <= NO_OVERFLOW {
                mantissa = mantissa * 10 + u64::from(digit);
            } else {
                fits = false;
            }
            any_digit = true;
            exponent = exponent.saturating_sub(i32::from(point));
        } else if byte == b'.' && !point {
            point = true;
        } else if byte | 0x20 == b'e' && any_digit {
            exponent = exponent.saturating_add(scan_exponent(text.get(i + 1..)?)?);
            break;
        } else {
            return None;
        }
    }
    any_digit.then_some(Scan {
        mantissa: if fits { i64::try_from(mantissa).ok() } else { None },
        exponent,
    })
}

/// The signed integer behind `e`, saturated at a million, far beyond what a line can compensate with digits.
fn scan_exponent(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    digits.first()?;
    let mut value = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = (value * 10 + i32::from(digit)).min(1_000_000);
    }
    Some(if negative { -value } else { value })
}

/// The correctly rounded float of a checked text. `None` beyond the range of a float.
#[cold]
fn parse_float(text: &[u8]) -> Option<Number> {
    let value: f64 = core::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then(|| from_bits(value.to_bits()))
}

/// The decimal `mantissa x 10^exponent` in normal form, `None` if it has none within the bounds of
/// [`Form::Decimal`](crate::sample::Form::Decimal).
///
/// Trailing zeros go into the exponent while that is negative; a positive exponent goes into the mantissa.
#[must_use]
pub fn from_decimal(mut mantissa: i64, mut exponent: i32) -> Option<Number> {
    if mantissa == 0 {
        return Some(Number::decimal(0, 0));
    }
    while exponent < 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    if exponent > 0 {
        mantissa = mantissa.checked_mul(*POWERS.get(usize::try_from(exponent).ok()?)?)?;
        exponent = 0;
    }
    let exponent = i8::try_from(exponent).ok()?;
    (exponent >= MIN_EXPONENT && mantissa.unsigned_abs() < MANTISSA_LIMIT).then(|| Number::decimal(mantissa, exponent))
}

/// `mantissa x 10^exponent` as a mantissa at `scale`; `None` where `scale` is too coarse or the mantissa overflows.
pub(super) fn at_scale(mantissa: i64, exponent: i8, scale: i8) -> Option<i64> {
    if exponent == scale {
        return Some(mantissa);
    }
    let finer = usize::try_from(i32::from(exponent) - i32::from(scale)).ok()?;
    match POWERS.get(finer) {
        Some(&power) => mantissa.checked_mul(power),
        None => (mantissa == 0).then_some(0),
    }
}

/// A mantissa at scale `from` brought to scale `to`, wrapped or truncated where it does not fit: only a prediction.
pub(super) fn rescale(mantissa: i64, from: i8, to: i8) -> i64 {
    let power = POWERS.get(usize::from(from.abs_diff(to))).copied();
    if to < from {
        mantissa.wrapping_mul(power.unwrap_or(0))
    } else {
        power.map_or(0, |power| mantissa / power)
    }
}

/// Bits in use: 0 for 0, 64 for numbers from 2^63.
pub(super) const fn bit_length(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// The shortest decimal that has exactly these bits, or the bits themselves where there is none within bounds.
///
/// Whole numbers are quick; others pass through the standard shortest-digits formatter.
#[must_use]
pub fn from_bits(bits: u64) -> Number {
    exact_decimal(f64::from_bits(bits))
        // Guards against -0, and makes the promise independent of the formatter.
        .filter(|number| number.to_bits() == bits)
        .unwrap_or(Number::from_raw_bits(bits))
}

fn exact_decimal(value: f64) -> Option<Number> {
    let magnitude = value.abs();
    // A NaN must not meet an arithmetic operation.
    if value.is_nan() || magnitude >= MANTISSA_LIMIT as f64 {
        return None;
    }
    let whole = value as i64;
    if whole as f64 == value {
        return Some(Number::decimal(whole, 0));
    }
    if magnitude < 1e-22 {
        return None;
    }
    let mut text = ShortText::default();
    write!(text, "{magnitude:e}").ok()?;
    let scan = scan(text.bytes.get(..text.len)?)?;
    let mantissa = scan.mantissa?;
    from_decimal(if value < 0.0 { -mantissa } else { mantissa }, scan.exponent)
}

/// Room for the longest shortest form, `1.7976931348623157e308`.
#[derive(Default)]
struct ShortText {
    bytes: [u8; 24],
    len: usize,
}

impl Write for ShortText {
    fn write_str(&mut self, piece: &str) -> core::fmt::Result {
        let free = self.bytes.get_mut(self.len..).unwrap_or_default();
        let room = free.get_mut(..piece.len()).ok_or(core::fmt::Error)?;
        room.copy_from_slice(piece.as_bytes());
        self.len += piece.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{from_bits, from_decimal, parse};
    use crate::sample::{Form, NORMAL_NAN_BITS, Number, STALE_NAN_BITS};
    use alloc::{format, string::String};

    fn decimal(text: &str) -> (i64, i8) {
        match parse(text.as_bytes()).map(Number::form) {
            Some(Form::Decimal { mantissa, exponent }) => (mantissa, exponent),
            other => panic!("{text}: {other:?}"),
        }
    }

    fn bits(text: &str) -> u64 {
        match parse(text.as_bytes()).map(Number::form) {
            Some(Form::Bits(bits)) => bits,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn decimals_are_kept_in_normal_form() {
        for (text, expected) in [
            ("0", (0, 0)),
            ("0.000", (0, 0)),
            ("0e99", (0, 0)),
            ("+7", (7, 0)),
            ("-7", (-7, 0)),
            ("007", (7, 0)),
            ("1.", (1, 0)),
            (".5", (5, -1)),
            ("12.500", (125, -1)),
            ("1.79533667e+09", (1_795_336_670, 0)),
            ("1.795336670019e+09", (1_795_336_670_019, -3)),
            ("2.5e-07", (25, -8)),
            ("100e-2", (1, 0)),
            ("1E3", (1000, 0)),
            ("9007199254740991", ((1 << 53) - 1, 0)),
            ("-9007199254740991e-22", (-((1 << 53) - 1), -22)),
            ("0.0000000000000000000001", (1, -22)),
            ("100000000000000000e-17", (1, 0)),
            // Longer than 18 digits, but the float is the one that short text gives.
            ("1.00000000000000000000000000", (1, 0)),
            ("0.50000000000000000000000000", (5, -1)),
            ("0.10000000000000001", (1, -1)),
        ] {
            assert_eq!(decimal(text), expected, "{text}");
        }
    }

    #[test]
    fn what_has_no_exact_decimal_becomes_the_bits_of_the_parsed_float() {
        for (text, expected) in [
            ("-0", -0.0),
            ("-0.00e5", -0.0),
            ("9007199254740992", 9_007_199_254_740_992.0),
            ("1e22", 1e22),
            ("1e-23", 1e-23),
            ("0.30000000000000004", 0.1 + 0.2),
            ("1.7976931348623157e308", f64::MAX),
            ("5e-324", f64::from_bits(1)),
            ("2.2250738585072011e-308", 2.225_073_858_507_201e-308),
            ("-1e-999", -0.0),
            ("inf", f64::INFINITY),
            ("+Inf", f64::INFINITY),
            ("-INFINITY", f64::NEG_INFINITY),
        ] {
            assert_eq!(bits(text), expected.to_bits(), "{text}");
        }
        for nan in ["NaN", "nan", "NAN"] {
            assert_eq!(bits(nan), NORMAL_NAN_BITS);
        }
        assert_eq!(decimal("1e-999"), (0, 0));
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "+",
            "-",
            ".",
            "-.",
            "e5",
            ".e5",
            "1e",
            "1e+",
            "1e1.5",
            "1_000",
            "0x10",
            "0x1p-2",
            "1p3",
            "--1",
            "+-1",
            "1.2.3",
            " 1",
            "1 ",
            "1f",
            "infi",
            "in",
            "+nan",
            "-nan",
            "nano",
            "StaleNaN",
            "1e309",
            "-1e999",
            "1e99999999999999999999",
            "\u{661}",
            "1,5",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"1\xff"), None);
    }

    /// The bounds stated at `Form::Decimal`.
    fn assert_normal(number: Number) {
        if let Form::Decimal { mantissa, exponent } = number.form() {
            assert!(
                mantissa.unsigned_abs() < 1 << 53 && (-22..=0).contains(&exponent),
                "{number:?}"
            );
            assert!(exponent == 0 || mantissa % 10 != 0, "{number:?}");
        }
    }

    #[test]
    fn agrees_with_the_standard_parser_on_random_text() {
        let mut rng = fastrand::Rng::with_seed(2);
        let mut accepted = 0;
        for _ in 0..200_000 {
            let len = rng.usize(1..12);
            let text: String = (0..len)
                .map(|_| char::from(*rng.choice(b"0123456789012.e-+").unwrap()))
                .collect();
            let expected = text.parse::<f64>().ok().filter(|value| value.is_finite());
            let number = parse(text.as_bytes());
            assert_eq!(number.map(Number::to_bits), expected.map(f64::to_bits), "{text}");
            if let Some(number) = number {
                accepted += 1;
                assert_normal(number);
            }
        }
        assert!(accepted > 20_000);
    }

    #[test]
    fn every_float_survives_formatting_and_parsing() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..100_000 {
            // Random patterns, and numbers of everyday size with few or many digits.
            let value = match rng.u8(0..4) {
                0 => f64::from_bits(rng.u64(..)),
                1 => (rng.i64(..) >> rng.u32(0..64)) as f64 / 10f64.powi(rng.i32(0..23)),
                2 => rng.f64() * 1e6,
                _ => rng.u64((1 << 53) - 3..(1 << 53) + 4) as f64,
            };
            if !value.is_finite() {
                continue;
            }
            for text in [format!("{value}"), format!("{value:e}"), format!("{value:.17e}")] {
                let number = parse(text.as_bytes()).unwrap();
                assert_eq!(number.to_bits(), value.to_bits(), "{text}");
                assert_normal(number);
            }
        }
    }

    #[test]
    fn floats_find_their_shortest_decimal() {
        assert_eq!(from_bits(0.1f64.to_bits()), Number::decimal(1, -1));
        assert_eq!(from_bits((-2.5e-7f64).to_bits()), Number::decimal(-25, -8));
        assert_eq!(from_bits(1e15f64.to_bits()), Number::decimal(1_000_000_000_000_000, 0));
        for raw in [
            (-0.0f64).to_bits(),
            (0.1f64 + 0.2).to_bits(),
            1e300f64.to_bits(),
            1,
            NORMAL_NAN_BITS,
            STALE_NAN_BITS,
        ] {
            assert_eq!(from_bits(raw), Number::from_raw_bits(raw));
        }
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..100_000 {
            let bits = rng.u64(..);
            assert_eq!(from_bits(bits).to_bits(), bits);
            let short = (rng.i64(-1_000_000_000..1_000_000_000) as f64 / 1e5).to_bits();
            let number = from_bits(short);
            assert_eq!(number.to_bits(), short);
            assert_normal(number);
            assert!(matches!(number.form(), Form::Decimal { .. }));
        }
    }

    #[test]
    fn from_decimal_refuses_what_lies_out_of_bounds() {
        assert_eq!(from_decimal(1 << 53, 0), None);
        assert_eq!(from_decimal((1 << 53) * 10, -1), None);
        assert_eq!(from_decimal(i64::MIN, 0), None);
        assert_eq!(from_decimal(1, -23), None);
        assert_eq!(from_decimal(1, i32::MAX), None);
        assert_eq!(from_decimal(1, i32::MIN), None);
        assert_eq!(from_decimal(0, i32::MIN), Some(Number::decimal(0, 0)));
        assert_eq!(from_decimal(1_000, -25), Some(Number::decimal(1, -22)));
        assert_eq!(from_decimal(-5, 3), Some(Number::decimal(-5000, 0)));
    }
}
