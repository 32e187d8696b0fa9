//! One metric: its labels, and its events one after the other.

use super::classic::{self, Item};
use super::histogram::{field, is_native, no_marker, whole_number};
use super::wire::{self, Fields, Malformed};
use super::{ExemplarValue, Found, Kind, MAX_EXEMPLARS, MAX_METRIC_TEXT_BYTES, Protobuf, malformed, problem, text_of};
use crate::exposition::error::{Fault, Problem};
use crate::exposition::normalise::canonical;
use crate::labels::{Label, TextBuf, is_legacy_metric_name, write_escaped, write_label};
use crate::sample::Number;
use crate::value;
use core::fmt::{self, Write};
use core::ops::Range;

/// A metric that has been read.
#[derive(Clone, Debug)]
pub(super) struct Metric {
    /// Where in its message the counter, gauge, ... stands; empty if it is not there: all zeros, as for any absent message.
    pub(super) value: Range<usize>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) start_ms: Option<i64>,
    pub(super) step: Step,
}

/// What comes next of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// Its value.
    Value,
    /// The native histogram.
    Native,
    /// The exemplars of the native histogram behind the one with this time and place; so many have been.
    Exemplars { after: (i64, usize), seen: usize },
    /// `_count`.
    Count,
    /// `_sum`.
    Sum,
    /// Buckets or quantiles; so many bytes of the message have been read.
    Items(usize),
    /// Nothing.
    Done,
}

impl Protobuf {
    /// Reads labels and times of a metric, and checks its messages.
    pub(super) fn read_metric(&mut self, message: &[u8]) -> Result<Metric, Fault> {
        let number = match self.kind {
            Kind::Gauge => 2,
            Kind::Counter => 3,
            Kind::Summary => 4,
            Kind::Untyped => 5,
            Kind::Histogram | Kind::GaugeHistogram => 7,
        };
        let mut metric = Metric {
            value: 0..0,
            timestamp_ms: None,
            start_ms: None,
            step: Step::Value,
        };
        self.labels.clear();
        self.metric_text = 0;
        let mut fields = Fields::new(message);
        while let Some((found, value)) = fields.read().map_err(malformed)? {
            match found {
                1 => write_pair(value.bytes(), &mut self.labels)?,
                6 => metric.timestamp_ms = Some(value.varint() as i64).filter(|&ms| ms != 0),
                _ if found == number => {
                    let end = message.len() - fields.remaining();
                    metric.value = end - value.bytes().len()..end;
                }
                _ => {}
            }
        }
        let value = message.get(metric.value.clone()).unwrap_or_default();
        Fields::check(value).map_err(malformed)?;
        let created = match self.kind {
            Kind::Counter => Some(3),
            Kind::Summary => Some(4),
            Kind::Histogram | Kind::GaugeHistogram => Some(field::CREATED),
            Kind::Gauge | Kind::Untyped => None,
        };
        // Zero is "not known" there, too.
        metric.start_ms = created
            .and_then(|number| wire::timestamp_ms(value, number))
            .filter(|&ms| ms != 0);
        metric.step = match self.kind {
            Kind::Histogram | Kind::GaugeHistogram if self.wanted.native && is_native(value) => Step::Native,
            Kind::Histogram | Kind::GaugeHistogram | Kind::Summary => Step::Count,
            Kind::Counter | Kind::Gauge | Kind::Untyped => Step::Value,
        };
        Ok(metric)
    }

    /// The event of this step, if it has one, and the step that follows. The value's message stands at `offset` of the unread bytes.
    pub(super) fn step(&mut self, value: &[u8], offset: usize, mut step: Step) -> Result<(Option<Found>, Step), Fault> {
        loop {
            let (found, next) = match step {
                Step::Value => {
                    self.set_series("", None)?;
                    let exemplar = match self.kind {
                        Kind::Counter => self.exemplar(wire::last(value, 2).map(wire::Value::bytes))?,
                        _ => None,
                    };
                    let value = number(wire::double(value, 1));
                    (Some(Found::Sample { value, exemplar }), Step::Done)
                }
                Step::Native => {
                    self.set_series("", None)?;
                    for (number, span) in Fields::new(value) {
                        if matches!(number, field::NEGATIVE_SPAN | field::POSITIVE_SPAN) {
                            Fields::check(span.bytes()).map_err(malformed)?;
                        }
                    }
                    let found = Found::Histogram {
                        message: offset..offset + value.len(),
                        gauge: self.kind == Kind::GaugeHistogram,
                    };
                    let after = (i64::MIN, 0);
                    (Some(found), Step::Exemplars { after, seen: 0 })
                }
                Step::Exemplars { after, seen } => match classic::next_exemplar(value, after).map_err(malformed)? {
                    Some((at, message)) if seen < MAX_EXEMPLARS => {
                        let exemplar = self.exemplar(Some(message))?;
                        let next = Step::Exemplars {
                            after: (at.0, at.1 + 1),
                            seen: seen + 1,
                        };
                        (exemplar.map(Found::Exemplar), next)
                    }
                    _ if self.wanted.classic_too && wire::last(value, field::BUCKET).is_some() => (None, Step::Count),
                    _ => (None, Step::Done),
                },
                Step::Count => {
                    self.set_series("_count", None)?;
                    let value = match self.kind {
                        Kind::Summary => whole_number(wire::varint(value, 1)),
                        _ => classic::count(value, field::COUNT_FLOAT, field::COUNT),
                    };
                    (Some(Found::Sample { value, exemplar: None }), Step::Sum)
                }
                Step::Sum => {
                    self.set_series("_sum", None)?;
                    let value = number(wire::double(value, 2));
                    (Some(Found::Sample { value, exemplar: None }), Step::Items(0))
                }
                Step::Items(read) => self.item(value, read)?,
                Step::Done => return Ok((None, Step::Done)),
            };
            if found.is_some() {
                return Ok((found, next));
            }
            step = next;
        }
    }

    /// The next bucket or quantile.
    fn item(&mut self, value: &[u8], read: usize) -> Result<(Option<Found>, Step), Fault> {
        let Item { bound, message, read } = classic::next_item(value, read).map_err(malformed)?;
        if self.kind == Kind::Summary {
            let Some(message) = message else {
                return Ok((None, Step::Done));
            };
            self.set_series("", Some(("quantile", wire::double(message, 1))))?;
            let value = number(wire::double(message, 2));
            return Ok((Some(Found::Sample { value, exemplar: None }), Step::Items(read)));
        }
        self.set_series("_bucket", Some(("le", bound)))?;
        let (value, exemplar) = match message {
            Some(bucket) => (
                classic::count(bucket, 4, 1),
                self.exemplar(wire::last(bucket, 3).map(wire::Value::bytes))?,
            ),
            None => (classic::count(value, field::COUNT_FLOAT, field::COUNT), None),
        };
        let next = if bound == f64::INFINITY {
            Step::Done
        } else {
            Step::Items(read)
        };
        Ok((Some(Found::Sample { value, exemplar }), next))
    }

    /// Writes the series: the family's name and `suffix`, the metric's labels and one more.
    fn set_series(&mut self, suffix: &str, more: Option<(&str, f64)>) -> Result<(), Fault> {
        let Self {
            series, name, labels, ..
        } = self;
        series.clear();
        write_series(series, name, suffix, labels, more).map_err(|fmt::Error| too_long(labels.limit()))?;
        self.metric_text += self.series.len();
        if self.metric_text > MAX_METRIC_TEXT_BYTES {
            return Err(problem(Problem::MetricText {
                limit: MAX_METRIC_TEXT_BYTES,
            }));
        }
        Ok(())
    }

    /// Writes the labels of an exemplar; `None`: there is none.
    fn exemplar(&mut self, message: Option<&[u8]>) -> Result<Option<ExemplarValue>, Fault> {
        let Some(message) = message else { return Ok(None) };
        Fields::check(message).map_err(malformed)?;
        let labels = &mut self.exemplar;
        labels.clear();
        let written = write_exemplar(message, labels)?;
        if written.is_err() {
            // Longer than an exemplar may be. Text that is no label set is refused and counted as such (SCR-843).
            labels.clear();
        }
        Ok(Some(ExemplarValue {
            value: number(wire::double(message, 2)),
            timestamp_ms: exemplar_time(message).map_err(malformed)?,
        }))
    }
}

/// Time of an exemplar, which is checked.
pub(super) fn exemplar_time(message: &[u8]) -> Result<Option<i64>, Malformed> {
    if let Some(timestamp) = wire::last(message, 3) {
        Fields::check(timestamp.bytes())?;
    }
    Ok(wire::timestamp_ms(message, 3))
}

/// A float of the exposition.
pub(super) fn number(value: f64) -> Number {
    value::from_bits(no_marker(value))
}

fn too_long(limit: usize) -> Fault {
    problem(Problem::Labels(crate::labels::LabelsFull::Text { limit }))
}

/// Appends one label of a metric.
fn write_pair(message: &[u8], out: &mut TextBuf) -> Result<(), Fault> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Fields::new(message);
    while let Some((number, text)) = fields.read().map_err(malformed)? {
        match number {
            1 => name = text.bytes(),
            2 => value = text.bytes(),
            _ => {}
        }
    }
    let label = Label {
        name: text_of(name)?,
        value: text_of(value)?,
    };
    let comma = if out.is_empty() || out.ends_with('{') { "" } else { "," };
    out.write_str(comma)
        .and_then(|()| write_label(label, out))
        .map_err(|fmt::Error| too_long(out.limit()))
}

/// Writes the labels of an exemplar in braces; the inner result: whether they fit.
fn write_exemplar(message: &[u8], out: &mut TextBuf) -> Result<fmt::Result, Fault> {
    let _ = out.write_str("{");
    for (_, label) in Fields::new(message).filter(|(number, _)| *number == 1) {
        match write_pair(label.bytes(), out) {
            Err(Fault {
                problem: Problem::Labels(_),
                ..
            }) => return Ok(Err(fmt::Error)),
            other => other?,
        }
    }
    Ok(out.write_str("}"))
}

fn write_series(out: &mut TextBuf, name: &str, suffix: &str, labels: &str, more: Option<(&str, f64)>) -> fmt::Result {
    let empty = labels.is_empty() && more.is_none();
    if is_legacy_metric_name(name.as_bytes()) {
        out.write_str(name)?;
        out.write_str(suffix)?;
        if empty {
            return Ok(());
        }
        out.write_str("{")?;
    } else {
        out.write_str("{\"")?;
        write_escaped(name, out)?;
        out.write_str(suffix)?;
        out.write_str(if empty { "\"" } else { "\"," })?;
    }
    out.write_str(labels)?;
    if let Some((label, bound)) = more {
        out.write_str(if labels.is_empty() { "" } else { "," })?;
        out.write_str(label)?;
        out.write_str("=\"")?;
        out.write_str(&canonical(bound).ok_or(fmt::Error)?)?;
        out.write_str("\"")?;
    }
    out.write_str("}")
}
