//! OpenMetrics text: how names, values and times are written.
//!
//! Every metric name is a family of its own, of type `unknown`: the ring keeps series as they were scraped, and names of the
//! classic text format need not obey OpenMetrics' rules for typed families. Names outside the classic character set are
//! quoted inside the braces, as Prometheus 3 reads them.
//!
//! A line may end with an exemplar, as OpenMetrics allows for counters and buckets: what a family's series were is not said.
//!
//! Times are seconds with up to three decimals: parsed as a float and multiplied by 1,000 they give the same millisecond
//! (checked for a million times up to the year 2030). A NaN loses its payload.

use crate::catalogue::SeriesText;
use crate::labels::{is_legacy_metric_name, join_series, write_escaped};
use alloc::string::String;
use core::fmt::{self, Write};

/// Writes the line that begins a family.
pub fn family(name: &str, out: &mut String) -> fmt::Result {
    if is_legacy_metric_name(name.as_bytes()) {
        return writeln!(out, "# TYPE {name} unknown");
    }
    out.write_str("# TYPE \"")?;
    write_escaped(name, out)?;
    writeln!(out, "\" unknown")
}

/// Writes name and labels of a sample.
pub fn series(name: &str, body: &str, out: &mut String) -> fmt::Result {
    join_series(SeriesText { name, body }, out)
}

/// Writes what follows them: value and time. The line is not ended yet.
pub fn point(bits: u64, unix_ms: i64, out: &mut String) -> fmt::Result {
    out.write_char(' ')?;
    value(f64::from_bits(bits), out)?;
    time(unix_ms, out)
}

/// Writes the exemplar at the end of a line; `labels` as in a body, escaped.
pub fn exemplar(labels: &str, bits: u64, unix_ms: Option<i64>, out: &mut String) -> fmt::Result {
    write!(out, " # {{{labels}}} ")?;
    value(f64::from_bits(bits), out)?;
    unix_ms.map_or(Ok(()), |unix_ms| time(unix_ms, out))
}

fn time(unix_ms: i64, out: &mut String) -> fmt::Result {
    let sign = if unix_ms < 0 { "-" } else { "" };
    let ms = unix_ms.unsigned_abs();
    match ms % 1_000 {
        0 => write!(out, " {sign}{}", ms / 1_000),
        rest => write!(out, " {sign}{}.{rest:03}", ms / 1_000),
    }
}

/// The shortest text that is the same float again; no exponent where a person would not write one.
fn value(value: f64, out: &mut String) -> fmt::Result {
    let size = value.abs();
    if value.is_nan() {
        out.write_str("NaN")
    } else if value.is_infinite() {
        out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else if size == 0.0 || (1e-5..1e17).contains(&size) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    }
}

/// Ends the text.
pub const END: &str = "# EOF\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, body: &str, value: f64, ms: i64) -> String {
        let mut out = String::new();
        series(name, body, &mut out).expect("strings grow");
        point(value.to_bits(), ms, &mut out).expect("strings grow");
        out.push('\n');
        out
    }

    #[test]
    fn samples_are_lines_of_series_value_and_seconds() {
        for (expected, made) in [
            ("up 1 1700000000\n", line("up", "", 1.0, 1_700_000_000_000)),
            ("a{b=\"c\"} -0 0.001\n", line("a", "b=\"c\"", -0.0, 1)),
            ("a NaN -1.500\n", line("a", "", f64::NAN, -1_500)),
            ("a +Inf 1\n", line("a", "", f64::INFINITY, 1_000)),
            ("a -Inf 1\n", line("a", "", f64::NEG_INFINITY, 1_000)),
            ("a 1e300 1\n", line("a", "", 1e300, 1_000)),
            ("a 5e-324 1\n", line("a", "", 5e-324, 1_000)),
            ("a 0.1 1.020\n", line("a", "", 0.1, 1_020)),
            ("{\"my.name\",a=\"b\"} 2 1\n", line("my.name", "a=\"b\"", 2.0, 1_000)),
        ] {
            assert_eq!(made, expected);
        }
    }

    #[test]
    fn families_are_unknown_and_odd_names_are_quoted() {
        let mut out = String::new();
        family("up", &mut out).expect("strings grow");
        family("a \"b\"", &mut out).expect("strings grow");
        assert_eq!(out, "# TYPE up unknown\n# TYPE \"a \\\"b\\\"\" unknown\n");
    }

    #[test]
    fn a_value_read_back_is_the_same_float() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let bits = random.u64(..);
            let mut out = String::new();
            value(f64::from_bits(bits), &mut out).expect("strings grow");
            let back: f64 = out.parse().expect("a float");
            assert!(
                back.to_bits() == bits || (back.is_nan() && f64::from_bits(bits).is_nan()),
                "{out}"
            );
        }
    }
}
