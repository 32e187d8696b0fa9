//! Names of the series and labels of the targets.

use crate::frame::{FrameNo, Full};
use crate::sample::{MetricType, SeriesRef, TargetRef};

/// A series' name and labels as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesText<'a> {
    /// Metric name, unescaped.
    pub name: &'a str,
    /// Labels without the metric name and without braces: `a="b",c="d"`, sorted, values escaped.
    pub body: &'a str,
}

/// Names of series and labels of targets.
#[derive(Debug)]
pub struct Catalogue {}
