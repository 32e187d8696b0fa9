//! Pull parsers for the exposition formats, over byte chunks of any size.
//!
//! [`Parser`] turns chunks of a scrape body into [`Event`]s: text format 0.0.4, OpenMetrics 1.0 and, if made for it, protobuf
//! (see `protobuf`). Which one is the response's choice, see [`select()`]; what is asked for is [`write_accept`].
//!
//! Most samples of most scrapes belong to a series that the scrape before had, written with the same bytes. So a sample carries its
//! series as raw text, whose end is all that [`Parser::next`] looks for ([`Parser::look_ahead`] need not even do that); only for a text
//! not seen before does the caller ask [`parse_series`] for its labels, which is where they are validated. Together the two accept
//! and refuse what Prometheus does (`TXT-01..13`, `OM-01..10`), except:
//! - a raw newline in the quoted name of a HELP, TYPE or UNIT line is refused in both formats, and anywhere in OpenMetrics;
//! - a byte zero in a comment does not end the text;
//! - in the text format a name and its value need a space between them (`foo-1` is refused).
//!
//! Invariants:
//! - Nothing allocates after [`Parser::new`]; events borrow from its buffer until the next call.
//! - The events do not depend on how the body is cut into chunks.
//! - Arbitrary bytes never panic and cost time linear in their number, except that a quoted text holding many raw newlines is read
//!   again with each chunk that brings one (bounded by the line length).
//!
//! Limits: one line may have as many bytes as given to [`Parser::new`] (its whole memory), terminator included. A longer
//! comment or HELP line is skipped, any other fails.
//!
//! An error may come after events of the same body: whoever keeps samples must be able to take them back.
//!
//! Sources: `SCR-105..112`, `SCR-211..215`, `SCR-901..903`; the OpenMetrics 1.0 specification; Prometheus' `model/textparse`.

mod accept;
mod custom_buckets;
mod error;
mod meta;
mod normalise;
mod parser;
mod protobuf;
mod sample;
mod select;
mod series;
#[cfg(test)]
mod tests;

pub use accept::{DEFAULT_PROTOCOLS, EscapingScheme, PROTOBUF_FIRST, Protocol, write_accept};
pub use custom_buckets::{ClassicHistogram, MAX_CLASSIC_BUCKETS, Unconvertible};
pub use error::{ParseError, Problem};
pub use normalise::{FloatText, canonical_float, normalise_le_quantile};
pub use parser::{AHEAD, Candidate, Parser};
pub use protobuf::{
    HistogramProblem, Histograms, MAX_EXEMPLARS, MAX_NAME_BYTES, NativeHistogram, Resolution, SCHEMA_MAX, SCHEMA_MIN,
    WriteError, ram_bytes as protobuf_ram_bytes,
};
pub use select::{ContentTypeError, select};
pub use series::{parse_exemplar_labels, parse_series};

use crate::sample::{MetricType, Number};

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain`: text format 0.0.4 (and 1.0.0, which has the same grammar here).
    Text,
    /// `application/openmetrics-text`: OpenMetrics 1.0.
    OpenMetrics,
    /// `application/vnd.google.protobuf`: length-delimited messages, see `protobuf`.
    Protobuf,
}

/// What a line of an exposition says. Borrowed from the parser until its next call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A sample.
    Sample {
        /// Name and labels exactly as exposed, without surrounding space: the key to recognise a series by.
        /// Neither validated nor necessarily UTF-8; [`parse_series`] does that.
        series: &'a [u8],
        /// The value.
        value: Number,
        /// The sample's own timestamp, milliseconds since the Unix epoch.
        timestamp_ms: Option<i64>,
        /// The exemplar; not in the text format.
        exemplar: Option<Exemplar<'a>>,
        /// When the counter, summary or histogram began, milliseconds since the Unix epoch; protobuf only.
        start_ms: Option<i64>,
    },
    /// A native histogram; protobuf only, and only if asked for.
    Histogram {
        /// As in [`Event::Sample`].
        series: &'a [u8],
        /// Its buckets.
        histogram: NativeHistogram<'a>,
        /// As in [`Event::Sample`].
        timestamp_ms: Option<i64>,
        /// As in [`Event::Sample`].
        start_ms: Option<i64>,
    },
    /// An exemplar of the histogram before; always with a timestamp, oldest first.
    Exemplar(Exemplar<'a>),
    /// A TYPE line.
    Type {
        /// The metric family, unescaped.
        family: &'a str,
        /// Its type.
        kind: MetricType,
    },
    /// A HELP line.
    Help {
        /// The metric family, unescaped.
        family: &'a str,
        /// The text, unescaped; may be empty.
        text: &'a str,
    },
    /// A UNIT line; not in the text format.
    Unit {
        /// The metric family, unescaped.
        family: &'a str,
        /// The unit; may be empty.
        unit: &'a str,
    },
    /// A comment; only after [`Parser::tell_comments`].
    Comment,
    /// `# EOF`, the last line of OpenMetrics.
    Eof,
}

/// An exemplar as exposed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar<'a> {
    /// Its labels as exposed, braces included; syntax is checked, [`parse_exemplar_labels`] reads them.
    pub labels: &'a [u8],
    /// Its value.
    pub value: Number,
    /// Its timestamp, milliseconds since the Unix epoch; without one it has that of the sample (`SCR-842`).
    pub timestamp_ms: Option<i64>,
}
