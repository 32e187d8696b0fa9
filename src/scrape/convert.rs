//! Classic histograms of an exposition as native histograms with custom buckets, one at a time.
//!
//! Stands between the parser and the series where `convert_classic_histograms_to_nhcb` is on, for all formats. The lines of one label
//! set that follow each other are one histogram; it is complete, and becomes a sample of the series without suffix and
//! `le`, as soon as anything else comes: a line of another series, TYPE, HELP, UNIT, a comment, the end. The lines themselves are
//! samples only with `always_scrape_classic_histograms`. All as Prometheus 3.5 does it:
//!
//! - Lines count only under a TYPE line that says histogram and names their family (up to 256 bytes). A `_bucket` without
//!   a number in `le` is an ordinary sample.
//! - The exemplars of the lines are those of the histogram, oldest first; without a time of their own they are left out.
//! - In the text formats the histogram has the timestamp of the last line that was read, which may be the one that ended it.
//! - A native histogram of the same labels inhibits: the classic lines after it are ordinary samples.
//!
//! # Differences to Prometheus
//!
//! - A histogram that does not convert is left out and counted. In Prometheus what is left of some of them gets into the next one.
//! - A histogram of protobuf has its own timestamp, and one in front of a native histogram of its family is not lost (in Prometheus
//!   since 3.7).
//! - Since 3.7 Prometheus converts gauge histograms of protobuf too; these stay classic here.
//!
//! # Limits
//!
//! One histogram at a time: [`MAX_CLASSIC_BUCKETS`](crate::exposition::MAX_CLASSIC_BUCKETS) buckets, [`MAX_EXEMPLARS`] exemplars with
//! [`EXEMPLAR_BYTES`] bytes of labels; what is beyond is counted. [`Converter::ram_bytes`], only where some target converts.
//!
//! Sources: Prometheus' `model/textparse/nhcbparse.go` and `scrape/scrape.go`.

use super::labels::{ClassicPart, LabelBuilder};
use crate::catalogue::SeriesText;
use crate::exposition::{ClassicHistogram, Exemplar, Format, Unconvertible};
use crate::frame::Bounded;
use crate::labels::{TextBuf, join_series};
use crate::limits::MAX_SERIES_TEXT_BYTES;
use crate::sample::Number;
use core::cmp::Ordering;
use core::fmt::{self, Write};

/// Exemplars of one histogram: a bucket has at most one, and few buckets see one between two scrapes.
pub(super) const MAX_EXEMPLARS: usize = 64;

/// Bytes of their labels as exposed; 64 with a trace id each.
pub(super) const EXEMPLAR_BYTES: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No histogram.
    Outside,
    /// Lines of a histogram have been taken.
    Collecting,
    /// There was a native histogram with these labels.
    Inhibited,
}

/// What a line is to the histogram at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// It has the histogram's labels and name, if there is one.
    same: bool,
    /// What it says of a classic histogram; `None`: it is a sample like any other.
    part: Option<ClassicPart>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    value: Number,
    unix_ms: i64,
    /// Where its labels are.
    start: u16,
    end: u16,
}

/// The classic histogram that is being read.
#[derive(Debug)]
pub(super) struct Converter {
    state: State,
    /// Its series as text, without suffix and `le`.
    series: TextBuf,
    histogram: ClassicHistogram,
    exemplars: Bounded<Held>,
    labels: Bounded<u8>,
    start_ms: Option<i64>,
    timestamp_ms: Option<i64>,
}

impl Converter {
    /// Allocates; the only call here that does.
    pub(super) fn new() -> Self {
        Self {
            state: State::Outside,
            series: TextBuf::new(MAX_SERIES_TEXT_BYTES),
            histogram: ClassicHistogram::new(),
            exemplars: Bounded::with_capacity(MAX_EXEMPLARS),
            labels: Bounded::with_capacity(EXEMPLAR_BYTES),
            start_ms: None,
            timestamp_ms: None,
        }
    }

    /// Exact heap bytes.
    pub(super) const fn ram_bytes() -> usize {
        MAX_SERIES_TEXT_BYTES + ClassicHistogram::ram_bytes() + MAX_EXEMPLARS * size_of::<Held>() + EXEMPLAR_BYTES
    }

    /// A scrape begins.
    pub(super) fn reset(&mut self) {
        self.clear();
        self.timestamp_ms = None;
    }

    /// The histogram was dealt with.
    pub(super) fn clear(&mut self) {
        self.state = State::Outside;
        self.histogram.clear();
        self.exemplars.clear();
        self.labels.clear();
        self.start_ms = None;
    }

    /// Looks at the series of a sample line under a TYPE line of histogram `family`, or of another type (`None`).
    pub(super) fn look(
        &self,
        (format, family): (Format, Option<&str>),
        raw: &[u8],
        builder: &mut LabelBuilder,
    ) -> Seen {
        let classic = family.and_then(|family| builder.classic(format, family, raw));
        classic.map_or(
            Seen {
                same: false,
                part: None,
            },
            |(part, series)| Seen {
                same: self.state != State::Outside && self.is(series),
                part: Some(part),
            },
        )
    }

    /// Whether the histogram at hand ends before a line like this, which has that timestamp.
    pub(super) fn ends_before(&mut self, seen: Seen, format: Format, timestamp_ms: Option<i64>) -> bool {
        if !seen.same && self.state == State::Inhibited {
            self.clear();
        }
        if format != Format::Protobuf {
            self.timestamp_ms = timestamp_ms;
        }
        !seen.same && self.state == State::Collecting
    }

    /// Takes the line, if it is one of a histogram; false: it is a sample and nothing else.
    pub(super) fn take(
        &mut self,
        seen: Seen,
        value: Number,
        (format, family, raw): (Format, &str, &[u8]),
        builder: &mut LabelBuilder,
    ) -> bool {
        let part = match seen.part {
            Some(part) if part != ClassicPart::Other && self.state != State::Inhibited => part,
            _ => return false,
        };
        if self.state == State::Outside
            && !self.begin(
                State::Collecting,
                builder.classic(format, family, raw).map(|(_, series)| series),
            )
        {
            return false;
        }
        let number = f64::from_bits(value.to_bits());
        match part {
            ClassicPart::Bucket(bound) => self.histogram.bucket(bound, number),
            ClassicPart::Count => self.histogram.count(number),
            ClassicPart::Sum | ClassicPart::Other => self.histogram.sum(number),
        }
        true
    }

    /// A native histogram stands here: classic lines with its labels are no histogram.
    pub(super) fn inhibit(&mut self, (format, family, raw): (Format, &str, &[u8]), builder: &mut LabelBuilder) {
        self.clear();
        self.begin(State::Inhibited, builder.histogram(format, (family, ""), raw));
    }

    fn begin(&mut self, state: State, series: Option<SeriesText<'_>>) -> bool {
        self.series.clear();
        // As text it is not longer than what it was read from; if it did not fit after all, it would be no histogram.
        let fits = series.is_some_and(|series| join_series(series, &mut self.series).is_ok());
        if fits {
            self.state = state;
        }
        fits
    }

    fn is(&self, series: SeriesText<'_>) -> bool {
        let mut rest = Expected(&self.series);
        join_series(series, &mut rest).is_ok() && rest.0.is_empty()
    }

    /// Whether this is the histogram's `_created` line: then it is dealt with.
    pub(super) fn is_created(
        &mut self,
        seconds: f64,
        (format, family, raw): (Format, &str, &[u8]),
        builder: &mut LabelBuilder,
    ) -> bool {
        let created = self.state == State::Collecting
            && builder
                .histogram(format, (family, "_created"), raw)
                .is_some_and(|series| self.is(series));
        if created {
            // As for other samples, see `carried`.
            let unix_ms = (seconds * 1000.0) as i64;
            self.start_ms = (unix_ms != 0).then_some(unix_ms);
        }
        created
    }

    /// The histogram began at this time, if it has not been said before.
    pub(super) fn started(&mut self, start_ms: Option<i64>) {
        self.start_ms = self.start_ms.or(start_ms);
    }

    /// The timestamp of the line that was taken last.
    pub(super) fn stamp(&mut self, timestamp_ms: Option<i64>) {
        self.timestamp_ms = timestamp_ms;
    }

    /// An exemplar of a line that was taken; false: there was no room.
    pub(super) fn exemplar(&mut self, exemplar: &Exemplar<'_>) -> bool {
        let Some(unix_ms) = exemplar.timestamp_ms else {
            return true;
        };
        let start = self.labels.len();
        if self.exemplars.len() == self.exemplars.capacity() || self.labels.extend(exemplar.labels).is_err() {
            return false;
        }
        // `EXEMPLAR_BYTES` fits 16 bits.
        let held = Held {
            value: exemplar.value,
            unix_ms,
            start: start as u16,
            end: self.labels.len() as u16,
        };
        self.exemplars.push(held).is_ok()
    }

    /// All lines are there: whether they make a histogram. Nothing is at hand: `None`.
    pub(super) fn complete(&mut self) -> Option<Result<(), Unconvertible>> {
        if self.state != State::Collecting {
            return None;
        }
        let Self { exemplars, labels, .. } = self;
        exemplars.sort_unstable_by(|a, b| {
            let (x, y) = (f64::from_bits(a.value.to_bits()), f64::from_bits(b.value.to_bits()));
            let values = x.partial_cmp(&y).unwrap_or(Ordering::Equal);
            let text = |held: &Held| labels.get(held.start.into()..held.end.into());
            a.unix_ms
                .cmp(&b.unix_ms)
                .then(values)
                .then_with(|| text(a).cmp(&text(b)))
        });
        Some(self.histogram.convert())
    }

    /// The series of the histogram, as an exposition would write it.
    pub(super) fn series(&self) -> &[u8] {
        self.series.as_bytes()
    }

    pub(super) const fn histogram(&self) -> &ClassicHistogram {
        &self.histogram
    }

    /// Timestamp and start time of the histogram.
    pub(super) const fn times(&self) -> (Option<i64>, Option<i64>) {
        (self.timestamp_ms, self.start_ms)
    }

    /// Its exemplars, oldest first.
    pub(super) fn exemplars(&self) -> impl Iterator<Item = Exemplar<'_>> {
        self.exemplars.iter().map(|held| Exemplar {
            labels: self.labels.get(held.start.into()..held.end.into()).unwrap_or_default(),
            value: held.value,
            timestamp_ms: Some(held.unix_ms),
        })
    }
}

/// What is still to be written, if it is to be the same text.
struct Expected<'a>(&'a str);

impl Write for Expected<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(text).ok_or(fmt::Error)?;
        Ok(())
    }
}
