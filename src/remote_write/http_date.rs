//! Reads the three date forms of HTTP.
//!
//! For `Date` and `Retry-After`. Only reads; allocates nothing. Whatever is not exactly one of the three forms, or
//! names a day that does not exist, is no date: the caller then behaves as if the header were absent.
//!
//! Source: RFC 9110 §5.6.7 (a recipient must accept all three forms).

use crate::clock::UnixMillis;

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// The instant `text` names, or `None`.
///
/// A two-digit year (RFC 850 form) means 1970 to 2069.
#[must_use]
pub fn parse(text: &[u8]) -> Option<UnixMillis> {
    let text = text.trim_ascii();
    let mut words = text
        .split(|&b| b == b' ' || b == b',' || b == b'-')
        .filter(|w| !w.is_empty());
    let _weekday = words.next()?;
    let second = words.next()?;
    let (day, month, year, time) = if second.first()?.is_ascii_digit() {
        // Sun, 06 Nov 1994 08:49:37 GMT, or Sunday, 06-Nov-94 08:49:37 GMT
        let (month, year, time) = (words.next()?, words.next()?, words.next()?);
        if words.next()? != b"GMT" {
            return None;
        }
        (second, month, year, time)
    } else {
        // Sun Nov  6 08:49:37 1994
        let (day, time, year) = (words.next()?, words.next()?, words.next()?);
        (day, second, year, time)
    };
    if words.next().is_some() {
        return None;
    }
    let year = match (year.len(), digits(year)?) {
        (4, year) => year,
        (2, year) if year < 70 => 2000 + year,
        (2, year) => 1900 + year,
        _ => return None,
    };
    let month = MONTHS.iter().position(|m| *m == month)? as i64 + 1;
    let day = digits(day)?;
    if !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let mut parts = time.split(|&b| b == b':').map(digits);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    // 60: a leap second, which Unix time counts as the first second of the next minute.
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(UnixMillis(seconds * 1000))
}

/// One to four decimal digits.
fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 4 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |n, &b| n * 10 + i64::from(b - b'0')))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `year` is 0 to 9999.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    // Day 0 of year 1 is 719,162 days before the epoch.
    let to_year = before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162;
    let to_month: i64 = (1..month).map(|m| days_in_month(year, m)).sum();
    to_year + to_month + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_forms_of_rfc_9110() {
        let expected = Some(UnixMillis(784_111_777_000));
        assert_eq!(parse(b"Sun, 06 Nov 1994 08:49:37 GMT"), expected);
        assert_eq!(parse(b"Sunday, 06-Nov-94 08:49:37 GMT"), expected);
        assert_eq!(parse(b"Sun Nov  6 08:49:37 1994"), expected);
        assert_eq!(parse(b"  Sun, 06 Nov 1994 08:49:37 GMT "), expected);
    }

    #[test]
    fn counts_days_over_leap_years_and_centuries() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
            ("Sat, 01 Jan 0000 00:00:00 GMT", -62_167_219_200),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(UnixMillis(seconds * 1000)), "{text}");
        }
    }

    #[test]
    fn two_digit_years_turn_at_1970() {
        assert_eq!(parse(b"Friday, 01-Jan-70 00:00:00 GMT"), Some(UnixMillis(0)));
        assert_eq!(
            parse(b"Friday, 01-Jan-27 00:00:00 GMT"),
            parse(b"Fri, 01 Jan 2027 00:00:00 GMT")
        );
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "0",
            "soon",
            "Sun, 06 Nov 1994 08:49:37 PST",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:37:00 GMT",
            "Sun, 29 Feb 2023 00:00:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 194 08:49:37 GMT",
            "Sun, 06 Nov 19941 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT GMT",
            "Sun, -6 Nov 1994 8:-9:37 GMT",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
