//! Scalars of the configuration: durations, sizes, secrets, labels, booleans with a third state.
//!
//! Each type reads itself from the text of one YAML scalar ([`FromText`]) and says in its error
//! what was found and what is accepted; the reader adds file, line, column and key.
//!
//! Sources: `model.Duration` and `units.Base2Bytes` of Prometheus as described in prometheus.md
//! SCR-308 and SCR-651.

use super::read::Read;
use super::yaml::{self, Yaml};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroizing;

/// A type that is one scalar in the file.
pub trait FromText: Sized {
    /// Reads the scalar.
    ///
    /// # Errors
    /// A complete message: what was found, what is accepted.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// Reads a [`FromText`].
pub(super) fn read_text<T: FromText>(yaml: &mut Yaml<'_>) -> yaml::Result<T> {
    T::from_text(&yaml.text()?).map_err(yaml::Error::new)
}

macro_rules! read_from_text {
    ($($t:ty),* $(,)?) => {$(
        impl $crate::host::config::read::Read for $t {
            fn read(yaml: &mut $crate::host::config::yaml::Yaml<'_>) -> $crate::host::config::yaml::Result<Self> {
                $crate::host::config::value::read_text(yaml)
            }
        }
    )*};
}
pub(super) use read_from_text;

/// Declares an enum read from a fixed set of words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// The word of the configuration file.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromText for $name {
            fn from_text(text: &str) -> Result<Self, String> {
                $(if text == $word { return Ok(Self::$variant); })+
                Err(format!("found {text:?}, expected {}", $crate::host::config::keys::List(&[$($word),+])))
            }
        }

        $crate::host::config::value::read_from_text!($name);
    };
}
pub(super) use words;

read_from_text!(Duration, Size);

/// A length of time in milliseconds, written as Prometheus writes it: `1h30m`, `15s`, `500ms`, `0`.
///
/// Zero means "not set" wherever a default is inherited, as in Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration {
    /// Milliseconds.
    pub ms: u64,
}

/// Units in the order in which they may appear; milliseconds each.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Longest duration: that of Go's 64-bit nanoseconds, about 292 years.
const MAX_DURATION_MS: u64 = i64::MAX as u64 / 1_000_000;

impl Duration {
    /// A duration of `ms` milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// A duration of `s` seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Self { ms: s * 1_000 }
    }

    /// True for zero: "not set" or "off", depending on the key.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.ms == 0
    }
}

/// Value of the digits in front of `text`, and the rest. `None`: no digit or out of range.
fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

fn parse_duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let index = UNITS.iter().position(|(name, _)| *name == unit)?;
        if index < next_unit {
            return None;
        }
        next_unit = index + 1;
        total = total.checked_add(number.checked_mul(UNITS[index].1)?)?;
        rest = after;
    }
    (!text.is_empty() && total <= MAX_DURATION_MS).then_some(total)
}

impl FromText for Duration {
    fn from_text(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self::from_ms).ok_or_else(|| {
            format!(
                "found {text:?}, expected a duration such as 15s, 500ms or 1h30m (whole numbers; units y w d h m s ms in this order)"
            )
        })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.ms;
        if rest == 0 {
            return f.write_str("0s");
        }
        for (index, (unit, ms)) in UNITS.iter().enumerate() {
            // Years, weeks and days only when nothing remains, as Prometheus prints them.
            if rest < *ms || (index < 3 && !rest.is_multiple_of(*ms)) {
                continue;
            }
            write!(f, "{}{unit}", rest / ms)?;
            rest %= ms;
        }
        Ok(())
    }
}

/// A number of bytes, written with a unit of powers of 1024: `64MiB`, `256KB`, `0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
}

/// Letter in front of `B` or `iB`, and the power of two it stands for.
const SIZES: [(&str, u32); 6] = [("K", 10), ("M", 20), ("G", 30), ("T", 40), ("P", 50), ("E", 60)];

impl Size {
    /// A size of `bytes` bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// A size of `n` KiB.
    #[must_use]
    pub const fn from_kib(n: u64) -> Self {
        Self { bytes: n << 10 }
    }

    /// A size of `n` MiB.
    #[must_use]
    pub const fn from_mib(n: u64) -> Self {
        Self { bytes: n << 20 }
    }

    /// True for zero: "no limit".
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.bytes == 0
    }
}

/// Fraction digits understood; more would not change a byte count anyone writes.
const MAX_FRACTION_DIGITS: u32 = 6;

fn parse_size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (whole, mut rest) = leading_number(text)?;
    let mut fraction = (0_u64, 1_u64);
    if let Some(after_dot) = rest.strip_prefix('.') {
        let (digits, after) = leading_number(after_dot)?;
        let count = u32::try_from(after_dot.len() - after.len()).ok()?;
        if count > MAX_FRACTION_DIGITS {
            return None;
        }
        fraction = (digits, 10_u64.pow(count));
        rest = after;
    }
    let shift = if rest == "B" {
        0
    } else {
        let prefix = rest.strip_suffix("iB").or_else(|| rest.strip_suffix('B'))?;
        SIZES.iter().find(|(letter, _)| *letter == prefix)?.1
    };
    let unit = 1_u64 << shift;
    // 10^6 x 2^60 exceeds 64 bits, hence the wide product.
    let part = u128::from(fraction.0) * u128::from(unit) / u128::from(fraction.1);
    whole.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

impl FromText for Size {
    fn from_text(text: &str) -> Result<Self, String> {
        parse_size(text).map(Self::from_bytes).ok_or_else(|| {
            format!("found {text:?}, expected a size such as 4KiB or 64MiB (units B, KB, MB, GB, TB, PB, EB, powers of 1024; KB and KiB are the same)")
        })
    }
}

impl core::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_text(text)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, shift) in SIZES.iter().rev() {
            if self.bytes != 0 && self.bytes.is_multiple_of(1 << shift) {
                return write!(f, "{}{letter}iB", self.bytes >> shift);
            }
        }
        write!(f, "{}B", self.bytes)
    }
}

/// Text that must not be seen: wiped when dropped, printed as `<secret>`.
///
/// The file's own text is wiped after parsing as well; copies the YAML scanner makes of quoted
/// scalars with escapes are not.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

/// What stands for a secret in logs, errors and the configuration dump.
pub const SECRET_MASK: &str = "<secret>";

impl Secret {
    /// Takes over `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True when nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SECRET_MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SECRET_MASK)
    }
}

impl Read for Secret {
    fn read(yaml: &mut Yaml<'_>) -> yaml::Result<Self> {
        yaml.text().map(Self::new)
    }
}

/// Names with values, sorted by name: `external_labels`, `labels`, `headers`, `params`, ...
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T>(pub Vec<(String, T)>);

/// A label set as written in the file.
pub type Labels = Named<String>;

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        let at = self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }
}

impl<T> core::ops::Deref for Named<T> {
    type Target = [(String, T)];
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: Read> Read for Named<T> {
    fn read(yaml: &mut Yaml<'_>) -> yaml::Result<Self> {
        let mut all = Vec::new();
        yaml.mapping(None, &mut |yaml, name| {
            all.push((String::from(name), T::read(yaml)?));
            Ok(())
        })?;
        all.sort_unstable_by(|a: &(String, T), b| a.0.cmp(&b.0));
        Ok(Self(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn durations_follow_prometheus_syntax() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("15s", 15_000),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            (
                "1y2w3d4h5m6s7ms",
                31_536_000_000 + 1_209_600_000 + 259_200_000 + 14_706_007,
            ),
            ("500ms", 500),
            ("90s", 90_000),
            ("9223372036854ms", MAX_DURATION_MS),
        ] {
            assert_eq!(Duration::from_text(text).map(|d| d.ms), Ok(ms), "{text}");
        }
        for text in [
            "",
            "15",
            "1.5s",
            "s",
            "30x",
            "1m1h",
            "1s1s",
            "-5s",
            " 5s",
            "5 s",
            "1us",
            "9223372036855ms",
            "99999999999999999999s",
            "300y",
            "５s",
        ] {
            assert!(Duration::from_text(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn durations_print_as_prometheus_prints_them() {
        for (ms, text) in [
            (0, "0s"),
            (15_000, "15s"),
            (60_000, "1m"),
            (90_000, "1m30s"),
            (86_400_000, "1d"),
            (90_000_000, "25h"),
            (7 * 86_400_000, "1w"),
            (30, "30ms"),
            (1_500, "1s500ms"),
        ] {
            assert_eq!(Duration::from_ms(ms).to_string(), text);
            assert_eq!(Duration::from_text(text), Ok(Duration::from_ms(ms)));
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("0B", 0),
            ("512B", 512),
            ("4KB", 4_096),
            ("4KiB", 4_096),
            ("64MiB", 64 << 20),
            ("1.5MB", 3 << 19),
            ("1GB", 1 << 30),
            ("15EB", 15 << 60),
        ] {
            assert_eq!(Size::from_text(text).map(|s| s.bytes), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "64",
            "64M",
            "MB",
            "16EB",
            "-1KB",
            "1 KB",
            "1kb",
            "1.KB",
            "1.0000001MB",
            "1KBB",
        ] {
            assert!(Size::from_text(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn sizes_print_with_the_largest_exact_unit() {
        for (bytes, text) in [(0, "0B"), (4_096, "4KiB"), (64 << 20, "64MiB"), (1_500, "1500B")] {
            assert_eq!(Size::from_bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn secrets_are_never_printed() {
        let secret = Secret::new("hunter2".to_string());
        assert_eq!(format!("{secret} {secret:?}"), "<secret> <secret>");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
