//! What can be wrong with a label set: too large, malformed text, or no valid series.

use super::Excerpt;
use core::fmt;

/// A label did not fit; the set is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelsFull {
    /// The set holds as many labels as it can.
    Labels {
        /// [`crate::limits::MAX_LABELS`].
        limit: usize,
    },
    /// Names and values together are too long.
    Text {
        /// Bytes the set (or the relabelling scratch) was made for.
        limit: usize,
    },
}

impl fmt::Display for LabelsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Labels { limit } => write!(f, "series has more labels than the limit of {limit}"),
            Self::Text { limit } => write!(f, "names and values of a series exceed the limit of {limit} bytes"),
        }
    }
}

impl core::error::Error for LabelsFull {}

/// Why a body could not be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// Too large; see [`LabelsFull`].
    Full(LabelsFull),
    /// Not a canonical body from this byte on.
    Malformed {
        /// Offset in bytes.
        offset: usize,
    },
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => full.fmt(f),
            Self::Malformed { offset } => write!(f, "label text is malformed at byte {offset}"),
        }
    }
}

impl core::error::Error for BodyError {}

/// Why a label set may not become a series (`SCR-507`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelsInvalid {
    /// `__name__` is missing or empty.
    NoMetricName,
    /// The metric name is outside the validation scheme.
    MetricName(Excerpt),
    /// A label name is outside the validation scheme.
    LabelName(Excerpt),
    /// A label name occurs twice.
    Duplicate(Excerpt),
}

impl fmt::Display for LabelsInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMetricName => f.write_str("series has no metric name"),
            Self::MetricName(name) => write!(f, "invalid metric name {name}"),
            Self::LabelName(name) => write!(f, "invalid label name {name}"),
            Self::Duplicate(name) => write!(f, "label name {name} occurs twice"),
        }
    }
}

impl core::error::Error for LabelsInvalid {}
