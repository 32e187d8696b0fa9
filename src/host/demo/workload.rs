//! What the demo's targets expose, as a closed formula: the receiver can check every value it is sent.
//!
//! 350 series a target, changing about as often as a real exporter's do: most stand still, some count,
//! some wander. The value of a series in scrape number `n` depends on nothing but the target, the series and `n`.

use core::fmt::{self, Write};

/// Series of one target.
pub const SERIES_PER_TARGET: usize = 350;

/// Targets of the demo.
pub const TARGETS: usize = 3;

/// A value as its scrape text would have it: `mantissa / 10^decimals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    mantissa: i64,
    decimals: u32,
}

impl Decimal {
    /// The float a parser makes of the text.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        // Both operands are exact, so the quotient is the correctly rounded one.
        self.mantissa as f64 / f64::from(10_u32.pow(self.decimals))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10_i64.pow(self.decimals);
        write!(f, "{}", self.mantissa / scale)?;
        if self.decimals > 0 {
            write!(f, ".{:0width$}", self.mantissa % scale, width = self.decimals as usize)?;
        }
        Ok(())
    }
}

/// A well mixed number from three small ones (SplitMix64's finaliser).
fn noise(target: usize, series: usize, scrape: u64) -> i64 {
    let mut word = (target as u64) << 48 ^ (series as u64) << 32 ^ scrape;
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((word ^ word >> 31) & 0xffff) as i64
}

/// The value of series number `series` of `target` in scrape number `scrape`.
#[must_use]
pub fn value(target: usize, series: usize, scrape: u64) -> Decimal {
    let base = series as i64 * 1_000 + target as i64;
    let count = scrape as i64;
    match series % 10 {
        // The scrape number itself: series 0 tells the receiver which scrape it sees.
        0 if series == 0 => Decimal {
            mantissa: count,
            decimals: 0,
        },
        // Counters that rise by an uneven amount.
        0 | 1 => Decimal {
            mantissa: base + count * 90 + noise(target, series, scrape) % 90,
            decimals: 0,
        },
        // A reading with one digit of noise.
        2 => Decimal {
            mantissa: 200 + base + noise(target, series, scrape) % 25,
            decimals: 1,
        },
        // A total of seconds with milliseconds.
        3 => Decimal {
            mantissa: base + count * 15 + noise(target, series, scrape) % 15,
            decimals: 3,
        },
        // Most of what an exporter tells stands still.
        _ => Decimal {
            mantissa: base,
            decimals: 0,
        },
    }
}

/// Metric name of series number `series`.
#[must_use]
pub fn metric_name(series: usize) -> &'static str {
    match series % 10 {
        0 if series == 0 => "demo_scrapes_total",
        0 | 1 => "demo_packets_total",
        2 => "demo_temperature_celsius",
        3 => "demo_busy_seconds_total",
        _ => "demo_setting",
    }
}

/// The number of the series with this metric name and `item` label; `None` when it is not the demo's.
#[must_use]
pub fn series_number(name: &str, item: Option<&str>) -> Option<usize> {
    let series = match item {
        None => 0,
        Some(text) => text.parse().ok()?,
    };
    (series < SERIES_PER_TARGET && metric_name(series) == name && (series == 0) == item.is_none()).then_some(series)
}

/// Writes the exposition of `target` for scrape number `scrape`.
///
/// # Errors
/// `out` is full.
pub fn exposition(out: &mut impl Write, target: usize, scrape: u64) -> fmt::Result {
    for series in 0..SERIES_PER_TARGET {
        out.write_str(metric_name(series))?;
        if series > 0 {
            write!(out, "{{item=\"{series}\"}}")?;
        }
        writeln!(out, " {}", value(target, series, scrape))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{SERIES_PER_TARGET, exposition, metric_name, series_number, value};
    use alloc::string::{String, ToString as _};

    #[test]
    fn names_and_numbers_agree() {
        for series in 1..SERIES_PER_TARGET {
            assert_eq!(
                series_number(metric_name(series), Some(&series.to_string())),
                Some(series)
            );
        }
        assert_eq!(series_number("demo_scrapes_total", None), Some(0));
        assert_eq!(series_number("demo_setting", Some("1")), None);
        assert_eq!(series_number("up", None), None);
    }

    #[test]
    fn text_and_float_agree_and_counters_rise() {
        for series in 0..SERIES_PER_TARGET {
            for scrape in 0..50 {
                let now = value(1, series, scrape);
                assert_eq!(
                    now.to_string().parse::<f64>().unwrap().to_bits(),
                    now.to_f64().to_bits()
                );
                if matches!(series % 10, 0 | 1 | 3) {
                    assert!(
                        value(1, series, scrape + 1).to_f64() >= now.to_f64(),
                        "series {series} scrape {scrape}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_exposition_has_one_line_per_series() {
        let mut text = String::new();
        exposition(&mut text, 0, 7).unwrap();
        assert_eq!(text.lines().count(), SERIES_PER_TARGET);
        assert!(text.starts_with("demo_scrapes_total 7\ndemo_packets_total{item=\"1\"} "));
    }
}
