//! Labels: one, a bounded sorted set of them, and their text form.
//!
//! Three things live here: what a valid name is ([`NameScheme`]), the reusable set that
//! a scrape, a relabel rule and a sender work on ([`Labels`]), and the canonical text that
//! the ring stores and remote write reads back ([`split_series`], [`join_series`],
//! [`body_labels`]). Nothing here knows an exposition format.
//!
//! Canonical text: a *body* is `a="b",c="d"` without braces and without the metric name, sorted by
//! the bytes of the unescaped names; values escape `\`, `"` and newline as `\\`, `\"`, `\n`; a label name outside
//! `[a-zA-Z_][a-zA-Z0-9_]*` is quoted and escaped like a value. The *joined* form is `name{a="b"}`, `name` when the
//! body is empty, or `{"odd.name",a="b"}` when the name is outside `[a-zA-Z_:][a-zA-Z0-9_:]*`.
//!
//! Invariants:
//! - A [`Labels`] is sorted by name at all times, so iterating it needs no sort step.
//! - Nothing allocates after [`Labels::new`] and [`TextBuf::new`]. What does not fit is
//!   [`LabelsFull`], which names the limit; the set is then as before the call.
//! - Text from outside never panics: a malformed body yields the labels before the damage.
//!
//! Limits: [`crate::limits::MAX_LABELS`] labels (16 bytes each, inside the struct) and the text
//! bytes given to [`Labels::new`].
//!
//! Sources: Prometheus data model (names and labels); `SCR-507` for the two validation schemes.

mod error;
mod scan;
mod set;
mod text;

pub use error::{BodyError, LabelsFull, LabelsInvalid};
pub(crate) use scan::{find_any3, find_byte};
pub use set::Labels;
pub(crate) use text::write_label;
pub use text::{
    BodyLabel, BodyLabels, Escaped, Excerpt, TextBuf, body_labels, join_series, split_series, write_escaped,
};

/// Name of the label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// A label: a name and its value, both unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label<'a> {
    /// The name.
    pub name: &'a str,
    /// The value; empty means the same as absent to every receiver.
    pub value: &'a str,
}

/// Which names are valid (`metric_name_validation_scheme`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameScheme {
    /// Any non-empty UTF-8 text.
    #[default]
    Utf8,
    /// Metrics `[a-zA-Z_:][a-zA-Z0-9_:]*`, labels `[a-zA-Z_][a-zA-Z0-9_]*`.
    Legacy,
}

impl NameScheme {
    /// True when `name` may name a metric.
    #[must_use]
    pub fn allows_metric(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => is_legacy_metric_name(name.as_bytes()),
        }
    }

    /// True when `name` may name a label.
    #[must_use]
    pub fn allows_label(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => is_legacy_label_name(name.as_bytes()),
        }
    }
}

/// True for `[a-zA-Z_:][a-zA-Z0-9_:]*`: a metric name that needs no quotes.
#[must_use]
pub fn is_legacy_metric_name(name: &[u8]) -> bool {
    is_name(name, |byte| byte == b':')
}

/// True for `[a-zA-Z_][a-zA-Z0-9_]*`: a label name that needs no quotes.
#[must_use]
pub fn is_legacy_label_name(name: &[u8]) -> bool {
    is_name(name, |_| false)
}

fn is_name(name: &[u8], extra: impl Fn(u8) -> bool) -> bool {
    let start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || extra(byte);
    match name.split_first() {
        Some((&first, rest)) => start(first) && rest.iter().all(|&byte| start(byte) || byte.is_ascii_digit()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_differ_in_what_they_allow() {
        for (name, metric, label) in [
            ("up", true, true),
            ("_", true, true),
            ("a:b", true, false),
            (":a", true, false),
            ("a1", true, true),
            ("1a", false, false),
            ("a.b", false, false),
            ("é", false, false),
            ("", false, false),
        ] {
            assert_eq!(NameScheme::Legacy.allows_metric(name), metric, "metric {name:?}");
            assert_eq!(NameScheme::Legacy.allows_label(name), label, "label {name:?}");
            assert_eq!(NameScheme::Utf8.allows_metric(name), !name.is_empty(), "utf8 {name:?}");
            assert_eq!(NameScheme::Utf8.allows_label(name), !name.is_empty(), "utf8 {name:?}");
        }
    }
}
