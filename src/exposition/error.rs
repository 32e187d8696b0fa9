//! What was wrong with an exposition, and where.

use super::protobuf::HistogramProblem;
use crate::labels::{Excerpt, LabelsFull};
use core::fmt;

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is documented by its text below")]
pub enum Problem {
    ExpectedMetricName,
    ExpectedLabelName,
    ExpectedEqual,
    ExpectedLabelValue,
    ExpectedCommaOrBrace,
    ExpectedValue,
    ExpectedKeyword,
    ExpectedText,
    ExpectedLineEnd,
    ExpectedExemplar,
    OpenBrace,
    OpenQuote,
    MetricNameTwice,
    NoMetricName,
    NotUtf8,
    Value,
    TimestampMillis,
    TimestampSeconds,
    MetricType,
    Unit,
    MissingEof,
    TextAfterEof,
    LineTooLong { limit: usize },
    Labels(LabelsFull),
    Wire,
    BodyEnds,
    FieldOrder,
    NameTooLong { limit: usize },
    MetricTooLong { limit: usize },
    MetricText { limit: usize },
    Histogram(HistogramProblem),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExpectedMetricName => "expected a metric name",
            Self::ExpectedLabelName => "expected a label name",
            Self::ExpectedEqual => "expected '=' after the label name",
            Self::ExpectedLabelValue => "expected a label value in double quotes",
            Self::ExpectedCommaOrBrace => "expected ',' or '}' after the label value",
            Self::ExpectedValue => "expected a value after the series",
            Self::ExpectedKeyword => "expected HELP, TYPE, UNIT or EOF after '# '",
            Self::ExpectedText => "expected a space and text after the metric name",
            Self::ExpectedLineEnd => "expected the end of the line",
            Self::ExpectedExemplar => "expected the labels and the value of an exemplar",
            Self::OpenBrace => "series has no closing brace",
            Self::OpenQuote => "quoted text has no closing quote",
            Self::MetricNameTwice => "metric name is set twice",
            Self::NoMetricName => "metric name is not set",
            Self::NotUtf8 => "text is not UTF-8",
            Self::Value => "value is not a number",
            Self::TimestampMillis => "timestamp is not a whole number of milliseconds",
            Self::TimestampSeconds => "timestamp is not a finite number of seconds",
            Self::MetricType => "metric type is not known to this format",
            Self::Unit => "unit is not the last word of the metric name",
            Self::MissingEof => "data does not end with # EOF",
            Self::TextAfterEof => "text after # EOF",
            Self::LineTooLong { limit } => return write!(f, "line is longer than the limit of {limit} bytes"),
            Self::Labels(full) => return full.fmt(f),
            Self::Wire => "not a protobuf message of a metric family",
            Self::BodyEnds => "data ends inside a metric family",
            Self::FieldOrder => "name or type of the metric family after its first metric",
            Self::NameTooLong { limit } => return write!(f, "metric name is longer than the limit of {limit} bytes"),
            Self::MetricTooLong { limit } => return write!(f, "metric is longer than the limit of {limit} bytes"),
            Self::MetricText { limit } => return write!(f, "series of a metric take more than {limit} bytes as text"),
            Self::Histogram(problem) => return problem.fmt(f),
        })
    }
}

/// Why an exposition was refused: the problem, the place, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What was wrong.
    pub problem: Problem,
    /// Line of the body, counted from 1 (of a protobuf body, metric family); 0 when only a series text was parsed.
    pub line: u32,
    /// Byte within the line (or the series text; of a protobuf body, within the body), counted from 1.
    pub column: u32,
    /// What stands there, at most [`Excerpt::BYTES`] bytes and not beyond the line; of a protobuf body, the name of the family.
    pub found: Excerpt,
    /// The body is protobuf.
    pub protobuf: bool,
}

impl ParseError {
    /// The error for `fault` in `text`, which begins where columns are counted from.
    pub(super) fn new(fault: Fault, line: u32, text: &[u8]) -> Self {
        let rest = text.get(fault.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        Self {
            problem: fault.problem,
            line,
            column: u32::try_from(fault.at).unwrap_or(u32::MAX).saturating_add(1),
            found: Excerpt::new(rest.get(..end).unwrap_or_default()),
            protobuf: false,
        }
    }

    /// The error for `problem` in metric family number `line`, called `name`, about byte `at` of a protobuf body.
    pub(super) fn in_family(problem: Problem, line: u32, (name, at): (&str, u64)) -> Self {
        Self {
            problem,
            line,
            column: u32::try_from(at).unwrap_or(u32::MAX).saturating_add(1),
            found: Excerpt::new(name.as_bytes()),
            protobuf: true,
        }
    }

    /// The same error, said to be on `line` of the body ([`super::Parser::line`]).
    #[must_use]
    pub fn on_line(mut self, line: u32) -> Self {
        self.line = line;
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.protobuf {
            write!(f, "metric family {} ", self.line)?;
            if !self.found.is_empty() {
                write!(f, "({}) ", self.found)?;
            }
            return write!(f, "byte {}: {}", self.column, self.problem);
        }
        if self.line > 0 {
            write!(f, "line {} ", self.line)?;
        }
        write!(f, "column {}: {}", self.column, self.problem)?;
        if self.found.is_empty() {
            return Ok(());
        }
        write!(f, ", found {}", self.found)
    }
}

impl core::error::Error for ParseError {}

/// A problem and the offset at which it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) problem: Problem,
    pub(super) at: usize,
}

/// Why a line could not be read: it is wrong, or its end has not arrived yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Incomplete,
    Fault(Fault),
}

impl Stop {
    pub(super) const fn fault(problem: Problem, at: usize) -> Self {
        Self::Fault(Fault { problem, at })
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_names_the_place_and_what_was_found() {
        let fault = Fault {
            problem: Problem::Value,
            at: 2,
        };
        let error = ParseError::new(fault, 0, b"a true\nb 1");
        assert_eq!(error.to_string(), "column 3: value is not a number, found \"true\"");
        let error = error.on_line(12);
        assert_eq!(
            error.to_string(),
            "line 12 column 3: value is not a number, found \"true\""
        );
        let fault = Fault {
            problem: Problem::MissingEof,
            at: 9,
        };
        assert_eq!(
            ParseError::new(fault, 3, b"").to_string(),
            "line 3 column 10: data does not end with # EOF"
        );
    }
}
