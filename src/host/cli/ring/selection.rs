//! Which samples a tool is asked for: times and target labels, read from the command line.

use crate::host::regex;
use crate::labels::body_labels;
use crate::relabel::Pattern;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

/// A choice of samples.
#[derive(Debug)]
pub struct Selection {
    /// First time, Unix milliseconds.
    pub from_ms: i64,
    /// Time to stop before.
    pub to_ms: i64,
    /// All must hold.
    targets: Vec<LabelMatch>,
    /// Only frames that are not acknowledged.
    pub unacknowledged_only: bool,
}

impl Selection {
    /// Reads the options.
    ///
    /// # Errors
    /// What is wrong with which option.
    pub fn parse(
        from: Option<&str>,
        to: Option<&str>,
        targets: &[String],
        unacknowledged_only: bool,
    ) -> Result<Self, String> {
        let time = |name: &str, text: Option<&str>, default: i64| match text {
            None => Ok(default),
            Some(text) => instant(text).ok_or_else(|| {
                format!("{name}: found {text:?}, expected 2026-11-22T11:00:00Z or seconds since the Unix epoch")
            }),
        };
        let selection = Self {
            from_ms: time("--from", from, i64::MIN)?,
            to_ms: time("--until", to, i64::MAX)?,
            targets: targets
                .iter()
                .map(|text| LabelMatch::parse(text).map_err(|problem| format!("--target: {problem}")))
                .collect::<Result<_, _>>()?,
            unacknowledged_only,
        };
        if selection.from_ms >= selection.to_ms {
            return Err("--from is not before --until".to_string());
        }
        Ok(selection)
    }

    /// Whether a sample of this time is wanted.
    #[must_use]
    pub fn has_time(&self, unix_ms: i64) -> bool {
        (self.from_ms..self.to_ms).contains(&unix_ms)
    }

    /// Whether a target with these labels is wanted.
    #[must_use]
    pub fn has_target(&self, body: &str) -> bool {
        self.targets.iter().all(|wanted| wanted.holds(body))
    }
}

/// A condition on one label of a target.
#[derive(Debug)]
struct LabelMatch {
    name: String,
    negated: bool,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Text(String),
    Pattern(Box<dyn Pattern>),
}

impl LabelMatch {
    /// Reads `name=value`, `!=`, `=~` or `!~`; the value may be in double quotes.
    fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("found {text:?}, expected label=value, label!=value, label=~regex or label!~regex");
        let at = text.find(['=', '!']).ok_or_else(expected)?;
        let (name, rest) = text.split_at_checked(at).ok_or_else(expected)?;
        let operators = [
            ("=~", false, true),
            ("!~", true, true),
            ("!=", true, false),
            ("=", false, false),
        ];
        let found = operators
            .iter()
            .find_map(|&(word, negated, regex)| Some((rest.strip_prefix(word)?, negated, regex)));
        let (value, negated, is_regex) = found.filter(|_| !name.trim().is_empty()).ok_or_else(expected)?;
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let value = quoted.unwrap_or(value);
        Ok(Self {
            name: name.trim().to_string(),
            negated,
            value: if is_regex {
                Value::Pattern(regex::compile(value).map_err(|error| error.to_string())?)
            } else {
                Value::Text(value.to_string())
            },
        })
    }

    /// A label that is not there has the empty value, as everywhere in Prometheus.
    fn holds(&self, body: &str) -> bool {
        let mut found = String::new();
        if let Some(label) = body_labels(body).find(|label| label.name.cmp_plain(&self.name).is_eq()) {
            // Strings grow.
            let _ = label.value.unescape_into(&mut found);
        }
        let matches = match &self.value {
            Value::Text(text) => *text == found,
            Value::Pattern(pattern) => pattern.is_full_match(&found),
        };
        matches != self.negated
    }
}

/// Unix milliseconds of seconds with up to three decimals, or of RFC 3339.
fn instant(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    if digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !digits.is_empty() {
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let seconds: i64 = whole.parse().ok()?;
        return seconds
            .checked_mul(1_000)?
            .checked_add(milliseconds(fraction)?)?
            .checked_mul(sign);
    }
    rfc_3339(text)
}

/// Milliseconds of the digits behind the point; more than three are cut off.
fn milliseconds(fraction: &str) -> Option<i64> {
    let mut ms = 0;
    for place in 0..3 {
        let digit = fraction.as_bytes().get(place).map_or(0, |byte| byte.wrapping_sub(b'0'));
        ms = ms * 10 + i64::from(digit);
    }
    fraction.bytes().all(|byte| byte.is_ascii_digit()).then_some(ms)
}

fn rfc_3339(text: &str) -> Option<i64> {
    let number = |range: core::ops::Range<usize>, low: i64, high: i64| {
        let digits = text.get(range)?;
        let all = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|_| all)?;
        (low..=high).contains(&number).then_some(number)
    };
    let mark = |at: usize, marks: &[u8]| text.as_bytes().get(at).is_some_and(|byte| marks.contains(byte));
    if !(mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":") && mark(16, b":")) {
        return None;
    }
    let (year, month) = (number(0..4, 0, 9999)?, number(5..7, 1, 12)?);
    let day = number(8..10, 1, days_of_month(year, month))?;
    let (hour, minute, second) = (number(11..13, 0, 23)?, number(14..16, 0, 59)?, number(17..19, 0, 60)?);
    let (fraction, zone) = match text.get(19..)?.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            rest.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?
        }
        None => ("", text.get(19..)?),
    };
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute - offset_minutes(zone)?) * 60 + second;
    Some(seconds * 1_000 + milliseconds(fraction)?)
}

/// Minutes that a zone is ahead of UTC.
fn offset_minutes(zone: &str) -> Option<i64> {
    if zone == "Z" || zone == "z" {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let two = |text: &str, limit: i64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|&number| digits && number < limit)
    };
    Some(sign * (two(hours, 24)? * 60 + two(minutes, 60)?))
}

const fn days_of_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01: years counted from March, so that the leap day comes last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days from 0000-03-01 to 1970-01-01.
    year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::civil::Timestamp;

    #[test]
    fn times_are_rfc_3339_or_seconds() {
        for (text, ms) in [
            ("0", 0),
            ("1700000000", 1_700_000_000_000),
            ("1700000000.5", 1_700_000_000_500),
            ("-1.25", -1_250),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00.000Z", 951_782_400_000),
            ("2026-11-22t11:17:22.1234z", 1_795_346_242_123),
            ("2026-11-22 12:17:22.123+01:00", 1_795_346_242_123),
            ("2026-11-22T05:47:22.123-05:30", 1_795_346_242_123),
        ] {
            assert_eq!(instant(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "-",
            "1.x",
            "1..2",
            "2026-11-22",
            "2026-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T11:17:22",
            "2026-11-22T11:17:22.Z",
            "2026-11-22T11:17:22+1:00",
            "2026-11-22T11:17:22+25:00",
            "+5",
            "2026-11-2ü11:17:22Z",
            "99999999999999999999",
        ] {
            assert_eq!(instant(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..5_000 {
            let ms = random.i64(-62_135_596_800_000..253_402_300_800_000);
            assert_eq!(instant(&Timestamp(ms).to_string()), Some(ms));
        }
    }

    #[test]
    fn target_labels_match_as_selectors_do() {
        let body = r#"instance="10.0.0.1:9100",job="node",path="C:\\x""#;
        for (text, holds) in [
            ("job=node", true),
            ("job=\"node\"", true),
            ("job=nod", false),
            ("job!=nod", true),
            ("job=~n.*", true),
            ("job=~n", false),
            ("job!~n.*", false),
            ("instance=~10[.].*", true),
            (r"path=C:\x", true),
            ("rack=", true),
            ("rack!=", false),
        ] {
            let selection = Selection::parse(None, None, &[text.to_string()], false).expect(text);
            assert_eq!(selection.has_target(body), holds, "{text}");
        }
        for text in ["job", "=x", "job~x", "job=~("] {
            assert!(
                Selection::parse(None, None, &[text.to_string()], false).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn all_targets_must_hold_and_times_are_half_open() {
        let both = ["job=a".to_string(), "instance=b".to_string()];
        let selection = Selection::parse(Some("1"), Some("2"), &both, true).expect("fine");
        assert!(selection.has_target(r#"instance="b",job="a""#));
        assert!(!selection.has_target(r#"instance="c",job="a""#));
        assert_eq!(
            [999, 1_000, 1_999, 2_000].map(|ms| selection.has_time(ms)),
            [false, true, true, false]
        );
        assert!(Selection::parse(Some("2"), Some("2"), &[], false).is_err());
    }
}
