//! The protobuf exposition: length-delimited `io.prometheus.client.MetricFamily` messages.
//!
//! Works on the buffer of [`super::Parser`], like the text formats. A family may be of any size; what must fit the buffer as
//! a whole is one of its metrics (all series of one label set), its name, its help and its unit. A series gets the text that
//! OpenMetrics would give it, with `le` and `quantile` in canonical form, so that the same tables know it.
//!
//! # Which messages are read
//!
//! - Name and type must stand before the first metric, as every encoder writes them; a type after it fails the scrape unless it
//!   says the same again. Without a type a family is one of counters, the default of the enumeration.
//! - HELP that stands before the name, or is longer than the buffer, is passed over. A unit that is not the last word of the name
//!   fails the scrape, as in Prometheus, but only once it is read: it stands behind the metrics.
//! - Unknown fields are passed over. Groups, a message that ends inside a field and a known field of another type are errors.
//! - Of a message that is there twice within a metric the last one counts; protobuf would merge them.
//! - `timestamp_ms` 0 means none. A staleness marker becomes the normal NaN.
//! - A native histogram has at most [`MAX_EXEMPLARS`] exemplars read, the oldest first; one without a time is passed over.
//!
//! # Histograms
//!
//! With [`Histograms::native`] a histogram that has a span, or a zero bucket of some width or with observations, is an
//! [`super::Event::Histogram`], followed by its exemplars; its classic series come after it only with
//! [`Histograms::classic_too`]. All others are classic: `_count`, `_sum`, a `_bucket` for each bound, and one for `+Inf` if the
//! exposition has none.
//!
//! # Limits
//!
//! [`ram_bytes`]; a family's name up to [`MAX_NAME_BYTES`]; labels of a metric up to the bytes given. A dripping target costs a look at
//! a tag and a length per chunk. Hostile messages cost time linear in their bytes, except that the exemplars of a native
//! histogram are looked through [`MAX_EXEMPLARS`] times.
//!
//! Sources: `io/prometheus/client/metrics.proto` of prometheus/prometheus, its `model/textparse/protobufparse.go`; §1.15.

mod classic;
mod histogram;
mod metric;
#[cfg(test)]
mod tests;
mod wire;

pub use histogram::{HistogramProblem, NativeHistogram, Resolution, SCHEMA_MAX, SCHEMA_MIN, WriteError};
pub(super) use histogram::{put_double, put_nonzero_double, put_span, put_tag, whole_number};

use super::error::{Fault, Problem};
use super::{Event, Exemplar};
use crate::labels::TextBuf;
use crate::sample::{MetricType, Number};
use crate::value::varint::{Cursor, CursorError};
use core::fmt::Write;
use core::ops::Range;
use metric::{Metric, Step};
use wire::Malformed;

/// Bytes of a family's name.
pub const MAX_NAME_BYTES: usize = 1_024;

/// Exemplars of one native histogram that are read; client libraries keep 10 unless told otherwise.
pub const MAX_EXEMPLARS: usize = 16;

/// Bytes of text that the series of one metric may take together: hundreds of buckets with long labels. Without this bound
/// a short message could stand for any amount of text.
const MAX_METRIC_TEXT_BYTES: usize = 1 << 20;

/// Bytes of an exemplar's labels as text: more than 128 characters can take (SCR-843).
const EXEMPLAR_BYTES: usize = 2_048;

/// Which histograms are wanted (`scrape_native_histograms`, `always_scrape_classic_histograms`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histograms {
    /// Native histograms; otherwise every histogram is read as a classic one.
    pub native: bool,
    /// The classic series of a histogram that is native, too.
    pub classic_too: bool,
}

/// Exact heap bytes for labels of up to `label_bytes` bytes.
#[must_use]
pub const fn ram_bytes(label_bytes: usize) -> usize {
    2 * MAX_NAME_BYTES + 2 * label_bytes + EXEMPLAR_BYTES
}

/// What the parser keeps beside its buffer.
#[derive(Debug)]
pub(super) struct Protobuf {
    wanted: Histograms,
    /// Bytes that are passed over.
    skip: u64,
    /// Bytes of the family's message that have not been taken; `None`: between two of them.
    left: Option<u64>,
    /// Families so far.
    families: u32,
    /// Bytes of the body taken so far.
    taken: u64,
    name: TextBuf,
    kind: Kind,
    /// A metric has been seen: name and type are settled, and the latter was told.
    settled: bool,
    /// The metric at the front of the buffer, and what of it comes next.
    metric: Option<Metric>,
    /// Labels of that metric, `a="b",c="d"`.
    labels: TextBuf,
    /// Bytes of text of its series so far.
    metric_text: usize,
    /// The series of the last event.
    series: TextBuf,
    /// Labels of the last exemplar, in braces.
    exemplar: TextBuf,
}

/// `MetricType` of the exposition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Counter,
    Gauge,
    Summary,
    Untyped,
    Histogram,
    GaugeHistogram,
}

impl Kind {
    const fn new(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Counter,
            1 => Self::Gauge,
            2 => Self::Summary,
            3 => Self::Untyped,
            4 => Self::Histogram,
            5 => Self::GaugeHistogram,
            _ => return None,
        })
    }

    const fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Summary => MetricType::Summary,
            Self::Untyped => MetricType::Unknown,
            Self::Histogram => MetricType::Histogram,
            Self::GaugeHistogram => MetricType::GaugeHistogram,
        }
    }
}

/// What was found, as offsets into the buffer's unread bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// More bytes are needed, or there are no more.
    Nothing,
    Help(Range<usize>),
    Type(MetricType),
    Unit(Range<usize>),
    /// A sample of the series in `series`, its exemplar's labels in `exemplar`.
    Sample {
        value: Number,
        exemplar: Option<ExemplarValue>,
    },
    /// The native histogram in this message.
    Histogram {
        message: Range<usize>,
        gauge: bool,
    },
    /// An exemplar of the histogram before.
    Exemplar(ExemplarValue),
}

/// An exemplar without its labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ExemplarValue {
    value: Number,
    timestamp_ms: Option<i64>,
}

/// A field of a family, as far as its length.
struct Head {
    number: u32,
    wire: u8,
    /// Bytes before what it holds.
    bytes: usize,
    /// Bytes of what it holds.
    len: u64,
}

impl Protobuf {
    /// For labels of up to `label_bytes` bytes. Allocates; the only call here that does.
    pub(super) fn new(label_bytes: usize) -> Self {
        Self {
            wanted: Histograms::default(),
            skip: 0,
            left: None,
            families: 0,
            taken: 0,
            name: TextBuf::new(MAX_NAME_BYTES),
            kind: Kind::Counter,
            settled: false,
            metric: None,
            labels: TextBuf::new(label_bytes),
            metric_text: 0,
            series: TextBuf::new(label_bytes + MAX_NAME_BYTES),
            exemplar: TextBuf::new(EXEMPLAR_BYTES),
        }
    }

    /// Begins a new body.
    pub(super) fn start(&mut self, wanted: Histograms) {
        self.wanted = wanted;
        self.skip = 0;
        self.left = None;
        self.families = 0;
        self.taken = 0;
        self.metric = None;
        self.name.clear();
    }

    /// The number of the family that is being read, counted from 1.
    pub(super) const fn family(&self) -> u32 {
        self.families
    }

    /// The family's name, and the offset in the body of what is read next: where an error is.
    pub(super) fn place(&self) -> (&str, u64) {
        (&self.name, self.taken)
    }

    /// Finds the next event in the `unread` bytes, which may not be more than `limit`; `taken` counts those of its front that are done
    /// with once the event is. Call again with the same bytes, less those taken.
    pub(super) fn next(
        &mut self,
        unread: &[u8],
        (limit, finished): (usize, bool),
        taken: &mut usize,
    ) -> Result<Found, Fault> {
        loop {
            let rest = unread.get(*taken..).unwrap_or_default();
            if self.skip > 0 {
                let skipped = self.skip.min(rest.len() as u64);
                self.skip -= skipped;
                self.take(skipped as usize, taken);
                if self.skip > 0 {
                    return incomplete(finished);
                }
                continue;
            }
            match self.left {
                None if rest.is_empty() => return Ok(Found::Nothing),
                None => {
                    let mut cursor = Cursor::new(rest);
                    match cursor.u64() {
                        Ok(len) => self.begin_family(len),
                        Err(CursorError::Truncated) => return incomplete(finished),
                        Err(_) => return Err(malformed(Malformed)),
                    }
                    self.count(rest.len() - cursor.remaining(), taken);
                }
                Some(0) => self.left = None,
                Some(left) => {
                    if let Some(found) = self.field(rest, left, (limit, finished), taken)? {
                        return Ok(found);
                    }
                }
            }
        }
    }

    fn begin_family(&mut self, len: u64) {
        self.left = Some(len);
        self.families = self.families.saturating_add(1);
        self.name.clear();
        self.kind = Kind::Counter;
        self.settled = false;
    }

    /// Bytes that belong to no family.
    fn count(&mut self, bytes: usize, taken: &mut usize) {
        *taken += bytes;
        self.taken += bytes as u64;
    }

    /// Bytes of the family.
    fn take(&mut self, bytes: usize, taken: &mut usize) {
        self.count(bytes, taken);
        self.left = self.left.map(|left| left.saturating_sub(bytes as u64));
    }

    /// The field of the family at the front of `rest`; `None`: it was dealt with.
    fn field(
        &mut self,
        rest: &[u8],
        left: u64,
        (limit, finished): (usize, bool),
        taken: &mut usize,
    ) -> Result<Option<Found>, Fault> {
        let within = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let cut_off = (within as u64) < left;
        let head = match head(rest.get(..within).unwrap_or_default()) {
            Ok(head) => head,
            Err(CursorError::Truncated) if cut_off => return incomplete(finished).map(Some),
            Err(_) => return Err(malformed(Malformed)),
        };
        let whole = head.len.saturating_add(head.bytes as u64);
        if whole > left {
            return Err(malformed(Malformed));
        }
        let known = match (head.number, head.wire) {
            (1 | 2 | 4 | 5, 2) | (3, 0) => true,
            (1..=5, _) => return Err(malformed(Malformed)),
            _ => false,
        };
        if known && whole > limit as u64 {
            match head.number {
                1 => return Err(problem(Problem::NameTooLong { limit: MAX_NAME_BYTES })),
                4 => return Err(problem(Problem::MetricTooLong { limit })),
                _ => {}
            }
        }
        if !known || whole > limit as u64 {
            self.skip = whole;
            return Ok(None);
        }
        // At most `limit`, by the lines above.
        let (whole, start) = (whole as usize, *taken);
        let Some(field) = rest.get(head.bytes..whole) else {
            return incomplete(finished).map(Some);
        };
        let content = start + head.bytes..start + whole;
        match head.number {
            1 => self.set_name(field)?,
            2 if self.name.is_empty() => {}
            2 => {
                text_of(field)?;
                self.take(whole, taken);
                return Ok(Some(Found::Help(content)));
            }
            3 => self.set_kind(field)?,
            4 => return self.metric(field, (whole, content.start), taken),
            _ if self.name.is_empty() || field.is_empty() => {}
            _ => {
                check_unit(text_of(field)?, &self.name, self.kind)?;
                self.take(whole, taken);
                return Ok(Some(Found::Unit(content)));
            }
        }
        self.take(whole, taken);
        Ok(None)
    }

    fn set_name(&mut self, field: &[u8]) -> Result<(), Fault> {
        let name = text_of(field)?;
        if self.settled && name != self.name.as_str() {
            return Err(problem(Problem::FieldOrder));
        }
        self.name.clear();
        self.name
            .write_str(name)
            .map_err(|_| problem(Problem::NameTooLong { limit: MAX_NAME_BYTES }))
    }

    fn set_kind(&mut self, field: &[u8]) -> Result<(), Fault> {
        let number = Cursor::new(field).u64().map_err(|_| malformed(Malformed))?;
        let kind = Kind::new(number).ok_or(problem(Problem::MetricType))?;
        if self.settled && kind != self.kind {
            return Err(problem(Problem::FieldOrder));
        }
        self.kind = kind;
        Ok(())
    }

    /// The next event of a metric, whose field takes `whole` bytes and whose message begins at offset `start`.
    fn metric(
        &mut self,
        message: &[u8],
        (whole, start): (usize, usize),
        taken: &mut usize,
    ) -> Result<Option<Found>, Fault> {
        if !self.settled {
            if self.name.is_empty() {
                return Err(problem(Problem::NoMetricName));
            }
            self.settled = true;
            return Ok(Some(Found::Type(self.kind.metric_type())));
        }
        let metric = match self.metric.take() {
            Some(metric) => metric,
            None => self.read_metric(message)?,
        };
        let value = message.get(metric.value.clone()).unwrap_or_default();
        let (found, step) = self.step(value, start + metric.value.start, metric.step)?;
        if step == Step::Done && found.is_none() {
            self.take(whole, taken);
            return Ok(None);
        }
        self.metric = Some(Metric { step, ..metric });
        Ok(found)
    }

    /// The event for what was found in `unread`.
    pub(super) fn event<'a>(&'a self, found: Found, unread: &'a [u8]) -> Result<Option<Event<'a>>, Fault> {
        // Texts were checked when they were found.
        let text =
            |range: Range<usize>| core::str::from_utf8(unread.get(range).unwrap_or_default()).unwrap_or_default();
        let family = self.name.as_str();
        let (timestamp_ms, start_ms) = self
            .metric
            .as_ref()
            .map_or((None, None), |metric| (metric.timestamp_ms, metric.start_ms));
        let exemplar_of = |exemplar: ExemplarValue| Exemplar {
            labels: self.exemplar.as_bytes(),
            value: exemplar.value,
            timestamp_ms: exemplar.timestamp_ms,
        };
        Ok(Some(match found {
            Found::Nothing => return Ok(None),
            Found::Help(range) => Event::Help {
                family,
                text: text(range),
            },
            Found::Type(kind) => Event::Type { family, kind },
            Found::Unit(range) => Event::Unit {
                family,
                unit: text(range),
            },
            Found::Sample { value, exemplar } => Event::Sample {
                series: self.series.as_bytes(),
                value,
                timestamp_ms,
                exemplar: exemplar.map(exemplar_of),
                start_ms,
            },
            Found::Histogram { message, gauge } => {
                let message = unread.get(message).unwrap_or_default();
                let histogram =
                    NativeHistogram::new(message, gauge).map_err(|found| problem(Problem::Histogram(found)))?;
                Event::Histogram {
                    series: self.series.as_bytes(),
                    histogram,
                    timestamp_ms,
                    start_ms,
                }
            }
            Found::Exemplar(exemplar) => Event::Exemplar(exemplar_of(exemplar)),
        }))
    }
}

/// Reads tag and length. [`CursorError::Truncated`] also when only what it holds is missing and its length is not known without.
fn head(bytes: &[u8]) -> Result<Head, CursorError> {
    let mut cursor = Cursor::new(bytes);
    let (number, wire) = wire::split_tag(cursor.u64()?).map_err(|Malformed| CursorError::Overflow)?;
    let tag = bytes.len() - cursor.remaining();
    let (bytes, len) = match wire {
        0 => {
            cursor.u64()?;
            (tag, bytes.len() - tag - cursor.remaining())
        }
        1 => (tag, 8),
        2 => {
            let len = cursor.u64()?;
            return Ok(Head {
                number,
                wire,
                bytes: bytes.len() - cursor.remaining(),
                len,
            });
        }
        5 => (tag, 4),
        _ => return Err(CursorError::Overflow),
    };
    Ok(Head {
        number,
        wire,
        bytes,
        len: len as u64,
    })
}

fn incomplete(finished: bool) -> Result<Found, Fault> {
    if finished {
        return Err(problem(Problem::BodyEnds));
    }
    Ok(Found::Nothing)
}

const fn problem(problem: Problem) -> Fault {
    Fault { problem, at: 0 }
}

const fn malformed(_: Malformed) -> Fault {
    problem(Problem::Wire)
}

fn text_of(bytes: &[u8]) -> Result<&str, Fault> {
    core::str::from_utf8(bytes).map_err(|_| problem(Problem::NotUtf8))
}

/// A unit must be the last word of the name, before `_total` in the name of a counter.
fn check_unit(unit: &str, name: &str, kind: Kind) -> Result<(), Fault> {
    let name = match kind {
        Kind::Counter => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    };
    match name.strip_suffix(unit) {
        Some(before) if before.ends_with('_') => Ok(()),
        _ => Err(problem(Problem::Unit)),
    }
}
