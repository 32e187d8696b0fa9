//! Canonical floats in the labels `le` and `quantile` (`SCR-901`, `SCR-902`).

use crate::labels::{Labels, LabelsFull};
use crate::sample::MetricType;
use crate::value;
use core::fmt::Write;

/// Room for a canonical float: sign, 17 digits, point, exponent of five characters, with some to spare.
pub type FloatText = heapless::String<32>;

/// Rewrites `le` of a histogram and `quantile` of a summary; any other type leaves `labels` alone.
///
/// `kind` is that of the last TYPE line seen in the body, even if it names another family (`SCR-901`).
///
/// # Errors
/// [`LabelsFull`].
pub fn normalise_le_quantile(kind: MetricType, labels: &mut Labels) -> Result<(), LabelsFull> {
    let name = match kind {
        MetricType::Histogram => "le",
        MetricType::Summary => "quantile",
        _ => return Ok(()),
    };
    let Some(old) = labels.get(name) else {
        return Ok(());
    };
    match canonical_float(old) {
        Some(new) if new != old => labels.set(name, &new),
        _ => Ok(()),
    }
}

/// `text` as OpenMetrics writes floats: shortest digits that read back the same, always with a point or an exponent.
/// `None`: not a number of the exposition formats, and so left as it is.
#[must_use]
pub fn canonical_float(text: &str) -> Option<FloatText> {
    canonical(f64::from_bits(value::parse(text.as_bytes())?.to_bits()))
}

/// `float` as OpenMetrics writes it; `Some` for every float, as [`FloatText`] has room for all.
pub(super) fn canonical(float: f64) -> Option<FloatText> {
    let mut out = FloatText::new();
    let special = match float {
        0.0 => "0.0",
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        _ if float.is_nan() => "NaN",
        _ => "",
    };
    if !special.is_empty() {
        out.push_str(special).ok()?;
        return Some(out);
    }
    // `1.5e8`: shortest digits, and the exponent that decides about the form.
    let mut scientific = FloatText::new();
    write!(scientific, "{float:e}").ok()?;
    let (digits, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if (-4..6).contains(&exponent) {
        write!(out, "{float}").ok()?;
        if !out.contains('.') {
            out.push_str(".0").ok()?;
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs()).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_floats_as_openmetrics_does() {
        for (text, canonical) in [
            ("1", "1.0"),
            ("1.0", "1.0"),
            ("1.00", "1.0"),
            ("1e0", "1.0"),
            ("-1", "-1.0"),
            ("0", "0.0"),
            ("-0", "0.0"),
            ("10", "10.0"),
            ("0.50", "0.5"),
            (".5", "0.5"),
            ("2.5", "2.5"),
            ("-2.50", "-2.5"),
            ("100000", "100000.0"),
            ("999999", "999999.0"),
            ("1000000", "1e+06"),
            ("123456789", "1.23456789e+08"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1e100", "1e+100"),
            ("-1.5e-300", "-1.5e-300"),
            ("2.2250738585072014e-308", "2.2250738585072014e-308"),
            ("5e-324", "5e-324"),
            ("Inf", "+Inf"),
            ("+inf", "+Inf"),
            ("-Inf", "-Inf"),
            ("nan", "NaN"),
        ] {
            assert_eq!(canonical_float(text).as_deref(), Some(canonical), "{text}");
        }
        for text in ["abc", "", "1_0", "0x1p1", " 1", "1e999"] {
            assert_eq!(canonical_float(text), None, "{text}");
        }
    }

    #[test]
    fn is_idempotent_and_exact() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..20_000 {
            let float = f64::from_bits(rng.u64(..));
            if !float.is_finite() || float == 0.0 {
                continue;
            }
            let once = canonical_float(&alloc::format!("{float:e}")).unwrap();
            assert_eq!(once.parse(), Ok(float), "{once}");
            assert_eq!(canonical_float(&once).as_deref(), Some(once.as_str()));
        }
    }

    #[test]
    fn touches_only_the_label_of_the_type() {
        for (kind, le, quantile) in [
            (MetricType::Histogram, "1.0", "1"),
            (MetricType::Summary, "1", "1.0"),
            (MetricType::GaugeHistogram, "1", "1"),
            (MetricType::Unknown, "1", "1"),
        ] {
            let mut labels = Labels::new(64);
            labels.load_body("le=\"1\",quantile=\"1\"").unwrap();
            normalise_le_quantile(kind, &mut labels).unwrap();
            assert_eq!(
                (labels.get("le"), labels.get("quantile")),
                (Some(le), Some(quantile)),
                "{kind:?}"
            );
        }
        let mut labels = Labels::new(64);
        labels.load_body("le=\"abc\"").unwrap();
        normalise_le_quantile(MetricType::Histogram, &mut labels).unwrap();
        assert_eq!(labels.get("le"), Some("abc"));
    }
}
