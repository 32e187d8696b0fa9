//! What the events of a body do to its frame: series found or made, samples taken with what they carry, and the end.

use super::{Shared, Tally};
use crate::exposition::{ClassicHistogram, Event, Exemplar, Format, NativeHistogram, Resolution, WriteError};
use crate::frame::{Bounded, Frame};
use crate::sample::{MetricType, Number, SeriesRef};
use crate::scrape::carried::{self, Carried};
use crate::scrape::convert::Converter;
use crate::scrape::labels::Built;
use crate::scrape::report::ScrapeError;
use crate::scrape::staleness::{self, FrameFull, Offer};
use crate::scrape::target::Target;
use crate::series::{SeriesTable, Verdict};

/// Bytes of a family name that TYPE lines are remembered with; series of families with longer ones have no type.
const FAMILY_BYTES: usize = 256;

/// One body in progress.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) frame: Frame,
    pub(super) tally: Tally,
    pub(super) format: Format,
    pub(super) kind: MetricType,
    pub(super) family: heapless::String<FAMILY_BYTES>,
    pub(super) unix_ms: Option<i64>,
    pub(super) carried: Carried,
}

/// One sample line.
struct Line<'a> {
    series: &'a [u8],
    value: Number,
    timestamp_ms: Option<i64>,
    start_ms: Option<i64>,
    histogram: Option<Histogram<'a>>,
    exemplar: Option<Exemplar<'a>>,
}

/// Where the buckets of a native histogram are.
#[derive(Clone, Copy)]
enum Histogram<'a> {
    Exposed(NativeHistogram<'a>),
    Converted(&'a ClassicHistogram),
}

impl Histogram<'_> {
    fn write(self, resolution: Resolution, out: &mut Bounded<u8>) -> Result<(), WriteError> {
        match self {
            Self::Exposed(histogram) => histogram.write(resolution, out),
            Self::Converted(histogram) => histogram.write(resolution.bucket_limit, out),
        }
    }
}

impl Work {
    pub(super) fn event(
        &mut self,
        event: Event<'_>,
        converter: &mut Option<Converter>,
        target: &Target,
        shared: &mut Shared<'_>,
    ) -> Result<(), ScrapeError> {
        match event {
            Event::Sample {
                series,
                value,
                timestamp_ms,
                exemplar,
                start_ms,
            } => {
                let line = Line {
                    series,
                    value,
                    timestamp_ms,
                    start_ms,
                    histogram: None,
                    exemplar,
                };
                return match converter {
                    Some(_) if target.convert_classic => self.line(line, converter, target, shared),
                    _ => self.sample(line, target, shared),
                };
            }
            Event::Histogram {
                series,
                histogram,
                timestamp_ms,
                start_ms,
            } => {
                self.complete(converter, target, shared)?;
                if let Some(converter) = converter.as_mut().filter(|_| target.convert_classic) {
                    converter.inhibit((self.format, &self.family, series), shared.builder);
                }
                let line = Line {
                    series,
                    value: histogram.count(),
                    timestamp_ms,
                    start_ms,
                    histogram: Some(Histogram::Exposed(histogram)),
                    exemplar: None,
                };
                return self.sample(line, target, shared);
            }
            Event::Exemplar(exemplar) => {
                self.exemplar(&exemplar, shared);
                return Ok(());
            }
            _ => {}
        }
        self.complete(converter, target, shared)?;
        let Shared { metadata, .. } = shared;
        match event {
            Event::Type { family, kind } => {
                self.set_type(family, kind);
                metadata.note_type(target.reference, family, kind);
            }
            Event::Help { family, text } => metadata.note_help(target.reference, family, text),
            Event::Unit { family, unit } => metadata.note_unit(target.reference, family, unit),
            _ => {}
        }
        Ok(())
    }

    /// A sample line of a target whose classic histograms become native ones.
    fn line(
        &mut self,
        mut line: Line<'_>,
        converter: &mut Option<Converter>,
        target: &Target,
        shared: &mut Shared<'_>,
    ) -> Result<(), ScrapeError> {
        let Some(at_hand) = converter else { return Ok(()) };
        let format = self.format;
        let family = (self.kind == MetricType::Histogram).then_some(self.family.as_str());
        let place = (format, family.unwrap_or_default(), line.series);
        if target.start_times && format == Format::OpenMetrics && family.is_some() {
            let seconds = f64::from_bits(line.value.to_bits());
            if at_hand.is_created(seconds, place, shared.builder) && !target.histograms.classic_too {
                return Ok(());
            }
        }
        let seen = at_hand.look((format, family), line.series, shared.builder);
        if at_hand.ends_before(seen, format, line.timestamp_ms) {
            self.complete(converter, target, shared)?;
        }
        let Some(at_hand) = converter else { return Ok(()) };
        let place = (format, self.family.as_str(), line.series);
        let taken = at_hand.take(seen, line.value, place, shared.builder);
        at_hand.stamp(line.timestamp_ms);
        if taken {
            at_hand.started(line.start_ms);
            if let Some(exemplar) = line.exemplar.take()
                && shared.table.keeps_exemplars()
                && !at_hand.exemplar(&exemplar)
            {
                self.tally.exemplars.no_room += 1;
            }
            if !target.histograms.classic_too {
                return Ok(());
            }
        }
        self.sample(line, target, shared)
    }

    /// The classic histogram at hand is complete, if there is one: takes the native one it makes.
    pub(super) fn complete(
        &mut self,
        converter: &mut Option<Converter>,
        target: &Target,
        shared: &mut Shared<'_>,
    ) -> Result<(), ScrapeError> {
        let Some(converter) = converter else { return Ok(()) };
        match converter.complete() {
            None => return Ok(()),
            Some(Err(_)) => self.tally.unconvertible += 1,
            Some(Ok(())) => {
                let (timestamp_ms, start_ms) = converter.times();
                let line = Line {
                    series: converter.series(),
                    value: converter.histogram().observations(),
                    timestamp_ms,
                    start_ms,
                    histogram: Some(Histogram::Converted(converter.histogram())),
                    exemplar: None,
                };
                self.sample(line, target, shared)?;
                for exemplar in converter.exemplars() {
                    self.exemplar(&exemplar, shared);
                }
            }
        }
        converter.clear();
        Ok(())
    }

    fn set_type(&mut self, family: &str, kind: MetricType) {
        self.kind = kind;
        self.family.clear();
        // A family whose name does not fit matches no series, so those have no type.
        let _ = self.family.push_str(family);
        self.carried.reset();
    }

    /// An exemplar of the sample taken last.
    fn exemplar(&mut self, exemplar: &Exemplar<'_>, shared: &mut Shared<'_>) {
        let Self {
            frame, tally, carried, ..
        } = self;
        carried.exemplar(exemplar, shared.builder, (shared.table, frame), tally);
    }

    /// Whether the line is a `_created` line that is a start time instead of a sample.
    fn is_start_time(&mut self, line: &Line<'_>) -> bool {
        let Self {
            frame, tally, carried, ..
        } = self;
        let seconds = f64::from_bits(line.value.to_bits());
        carried.created_line((line.series, seconds), (&self.family, self.kind), frame, tally)
    }

    fn sample(&mut self, line: Line<'_>, target: &Target, shared: &mut Shared<'_>) -> Result<(), ScrapeError> {
        if target.start_times && self.format == Format::OpenMetrics && self.is_start_time(&line) {
            return Ok(());
        }
        let taken = self.resolve(&line, target, shared)?;
        if taken {
            if let Some(start_ms) = line.start_ms.filter(|_| target.start_times) {
                self.carried.start_time(start_ms, &mut self.frame, &mut self.tally);
            }
            if let Some(exemplar) = &line.exemplar {
                self.exemplar(exemplar, shared);
            }
        } else {
            self.carried.not_taken();
        }
        Ok(())
    }

    /// A sample without exemplar or start time, of a text that the table knows.
    pub(super) fn known(
        &mut self,
        (verdict, value, timestamp_ms): (Verdict, Number, Option<i64>),
        target: &Target,
        table: &mut SeriesTable,
    ) -> Result<(), ScrapeError> {
        self.tally.counts.scraped += 1;
        let taken = match verdict {
            Verdict::Series(series) if self.survives(target) => {
                let offer = Offer {
                    series,
                    value,
                    timestamp_ms,
                    histogram: None,
                };
                put(offer, target, self.unix_ms, &mut self.frame, table, &mut self.tally)?
            }
            _ => false,
        };
        match verdict {
            Verdict::Series(series) if taken => self.carried.taken(series, &self.frame),
            _ => self.carried.not_taken(),
        }
        Ok(())
    }

    /// Finds or makes the series of a sample and takes the sample; whether it is in the frame.
    fn resolve(&mut self, line: &Line<'_>, target: &Target, shared: &mut Shared<'_>) -> Result<bool, ScrapeError> {
        let t = target.reference;
        let Shared {
            table,
            catalogue,
            builder,
            ..
        } = shared;
        self.tally.counts.scraped += 1;
        let key = table.key(t, line.series);
        match table.verdict(t, key) {
            Some(Verdict::Dropped) => return Ok(false),
            Some(Verdict::Series(series)) => {
                return Ok(self.survives(target) && self.take(series, line, target, table)?);
            }
            None => {}
        }
        let built = builder.build(target, (self.format, self.kind), line.series);
        // Prometheus' parsers of text read the labels before the sample counts; here it counts first.
        if matches!(built, Err(ScrapeError::Parse(_))) && self.format != Format::Protobuf {
            self.tally.counts.scraped -= 1;
        }
        match built? {
            Built::Dropped => {
                table.learn_dropped(t, key);
                Ok(false)
            }
            Built::Synthetic => {
                self.tally.synthetic += 1;
                self.survives(target);
                Ok(false)
            }
            Built::Series(text) => {
                let kind = kind_in_family(text.name, &self.family, self.kind);
                self.tally.counts.post_relabel += 1;
                if over_limit(&self.tally, target) {
                    return Ok(false);
                }
                let series = catalogue.define(t, text, kind).map_err(ScrapeError::SeriesLimit)?;
                if let Err(full) = table.learn(t, key, series) {
                    if !table.is_owned(series) {
                        catalogue.undefine(series);
                    }
                    return Err(ScrapeError::TextLimit(full));
                }
                let taken = self.take(series, line, target, table)?;
                self.tally.counts.added += u32::from(taken);
                Ok(taken)
            }
        }
    }

    /// Counts a sample that relabelling has kept. False: over `sample_limit`, count on but keep nothing.
    fn survives(&mut self, target: &Target) -> bool {
        self.tally.counts.post_relabel += 1;
        !over_limit(&self.tally, target)
    }

    fn take(
        &mut self,
        series: SeriesRef,
        line: &Line<'_>,
        target: &Target,
        table: &mut SeriesTable,
    ) -> Result<bool, ScrapeError> {
        let Self {
            frame, tally, carried, ..
        } = self;
        carried.message.clear();
        let written = line
            .histogram
            .map(|histogram| histogram.write(target.resolution, &mut carried.message));
        if written == Some(Err(WriteError::BucketLimit)) {
            tally.over_bucket_limit = true;
            return Ok(false);
        }
        let offer = Offer {
            series,
            value: line.value,
            timestamp_ms: line.timestamp_ms,
            histogram: written.map(|written| match written {
                Err(WriteError::Full(full)) => Err(full),
                _ => Ok(&*carried.message),
            }),
        };
        let taken = put(offer, target, self.unix_ms, frame, table, tally)?;
        if taken {
            carried.taken(series, frame);
        }
        Ok(taken)
    }

    /// Completes the frame; returns how many markers did not fit.
    pub(super) fn close(&mut self, end: End, out_of_order_ms: i64, shared: &mut Shared<'_>) -> usize {
        let Shared { table, catalogue, .. } = shared;
        let frame = &mut self.frame;
        frame.up = end != End::Failed;
        let left_out = match end {
            End::Body => {
                staleness::remember_newest(frame, self.unix_ms, table);
                carried::remember_exemplars(frame, table);
                table.succeed(frame.target, catalogue, &mut frame.stale)
            }
            // An empty body marks everything but is no reason to forget the series: it is mostly a target in trouble.
            End::Empty | End::Failed => {
                frame.samples.clear();
                frame.explicit.clear();
                frame.extras.clear();
                table.fail(frame.target, catalogue, &mut frame.stale)
            }
        };
        staleness::drop_late_markers(frame, self.unix_ms, out_of_order_ms, table);
        left_out
    }
}

/// Puts the sample into the frame, if it counts; whether it is in.
fn put(
    offer: Offer<'_>,
    target: &Target,
    unix_ms: Option<i64>,
    frame: &mut Frame,
    table: &mut SeriesTable,
    tally: &mut Tally,
) -> Result<bool, ScrapeError> {
    staleness::take(offer, target, unix_ms, frame, table, tally).map_err(|FrameFull| ScrapeError::FrameLimit {
        limit: frame.samples.capacity(),
    })
}

/// How a scrape ended, as the tables see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Body,
    Empty,
    Failed,
}

fn over_limit(tally: &Tally, target: &Target) -> bool {
    let limit = target.limits.samples;
    limit > 0 && tally.counts.post_relabel > limit
}

/// The type of the last TYPE line, if the metric is of its family.
pub(super) fn kind_in_family(name: &str, family: &str, kind: MetricType) -> MetricType {
    let suffixes: &[&str] = match kind {
        MetricType::Counter => &["", "_total"],
        MetricType::Histogram => &["", "_bucket", "_count", "_sum"],
        // The latter two in protobuf.
        MetricType::GaugeHistogram => &["", "_bucket", "_gcount", "_gsum", "_count", "_sum"],
        MetricType::Summary => &["", "_count", "_sum"],
        MetricType::Info => &["", "_info"],
        MetricType::Gauge | MetricType::Stateset | MetricType::Unknown => &[""],
    };
    match name.strip_prefix(family) {
        Some(suffix) if !family.is_empty() && suffixes.contains(&suffix) => kind,
        _ => MetricType::Unknown,
    }
}
