//! One scrape in progress: bytes of a response in, one frame out.
//!
//! ```text
//! begin -> content_type -> feed* -> finish -> (the ring appends the frame) -> settle -> begin ...
//! ```
//!
//! The body is parsed as it arrives and never held. A series whose text the [`SeriesTable`] knows costs one hash, and mostly its
//! line is not even walked to find where the text ends ([`Parser::look_ahead`]); only a
//! new text is parsed into labels, merged, relabelled and defined. What each event of the
//! parser does to the frame is in `work`. A session does not fetch, inflate, or time anything.
//!
//! # Invariants
//!
//! - All or nothing: a frame with `up` has every sample that counts, one without has none, lists the series to
//!   mark, and leaves no text or series behind in the tables.
//! - Nothing allocates after [`Session::new`]. Several sessions may interleave on one table and catalogue, each on its
//!   own target.
//! - What a target sends never panics, and costs time linear in its bytes (times the relabel rules for new texts).
//!
//! # Differences to Prometheus
//!
//! - A body is judged in the order of its bytes: of two faults the first is reported, whichever kind.
//! - `scrape_series_added` counts again what a failed scrape had brought first, because it was taken back.
//! - Samples that would collide with `up` and the other series of the scrape itself are dropped and counted (SCR-509).
//! - The metric type of a series is that of the TYPE line above its first appearance.
//! - See also `staleness` on duplicates and explicit timestamps.
//!
//! # Memory
//!
//! [`Session::ram_bytes`]: one line plus 30 bytes per sample. The buffers for a label set are in the [`LabelBuilder`] that
//! all sessions share.
//!
//! Sources: SCR-211 to SCR-215, SCR-304, SCR-501 to SCR-509, SCR-651 to SCR-653, §1.9 to §1.12.

mod work;

use super::carried::Carried;
use super::convert::Converter;
use super::labels::LabelBuilder;
use super::report::{Counters, HealthState, Outcome, Reports, ScrapeError};
use super::target::Target;
use crate::catalogue::{Catalogue, CatalogueFull};
use crate::clock::{Instant, UnixMillis};
use crate::exposition::{AHEAD, ContentTypeError, Format, Parser, Problem, protobuf_ram_bytes, select};
use crate::frame::{ExplicitTime, ExtraMetrics, Frame, FrameNo, Notes, ScrapeCounts};
use crate::labels::Excerpt;
use crate::metadata::Metadata;
use crate::sample::{MetricType, Sample, SeriesRef, TargetRef};
use crate::series::SeriesTable;
use core::fmt::Display;
use work::{End, Work};

/// What the buffers of a session are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionSize {
    /// Samples of one scrape, and series of one target to mark; at most 65,535 count.
    pub max_samples: usize,
    /// Bytes of a line, terminator included; of a protobuf body, of a metric.
    pub line_bytes: usize,
    /// Bytes of the labels of a metric in a protobuf body; 0: protobuf is not read.
    pub label_bytes: usize,
    /// Bytes of what samples may carry: exemplars, start times, native histograms; 0: nothing.
    pub extras_bytes: usize,
    /// Classic histograms may have to become native ones.
    pub converts: bool,
}

/// What all sessions work on. Lent to each call, so that the tables may live where their other users need them.
#[derive(Debug)]
pub struct Shared<'a> {
    /// Exposed texts.
    pub table: &'a mut SeriesTable,
    /// Names of the series; the ring's writer reads it too.
    pub catalogue: &'a mut Catalogue,
    /// Buffers for one label set.
    pub builder: &'a mut LabelBuilder,
    /// Health and counters.
    pub reports: &'a mut Reports,
    /// What targets say about their families.
    pub metadata: &'a mut Metadata,
}

/// What a scrape has counted so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    counts: ScrapeCounts,
    pub(super) duplicate: u32,
    pub(super) out_of_order: u32,
    pub(super) out_of_bounds: u32,
    synthetic: u32,
    /// Native histograms for which the frame had no room.
    pub(super) histograms_lost: u32,
    /// Classic histograms that were to become native ones and are none.
    unconvertible: u32,
    pub(super) start_times_lost: u32,
    pub(super) exemplars: ExemplarTally,
    /// A native histogram had too many buckets at the lowest resolution: the scrape fails once it is read to its end.
    over_bucket_limit: bool,
}

/// What became of exemplars.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExemplarTally {
    pub(super) kept: u32,
    pub(super) invalid: u32,
    pub(super) too_long: u32,
    pub(super) duplicate: u32,
    pub(super) out_of_order: u32,
    pub(super) no_room: u32,
}

/// One scrape in progress. Reused for one scrape after the other.
#[derive(Debug)]
pub struct Session {
    parser: Parser,
    work: Work,
    converter: Option<Converter>,
    format: Result<Format, ContentTypeError>,
    error: Option<ScrapeError>,
    body_bytes: u64,
    started: bool,
    /// The format of the body, if all texts of this scrape are as the parser cuts them: the converter makes its own.
    cuts: Option<Format>,
    /// The known texts of the target were all cut so: [`Parser::look_ahead`] may be asked.
    asks_known: bool,
}

impl Session {
    /// A session. The only call that allocates.
    #[must_use]
    pub fn new(size: SessionSize) -> Self {
        Self {
            parser: Parser::with_protobuf(size.line_bytes, size.label_bytes),
            work: Work {
                frame: Frame::with_extras(size.max_samples, size.extras_bytes),
                tally: Tally::default(),
                format: Format::Text,
                kind: MetricType::Unknown,
                family: heapless::String::new(),
                unix_ms: None,
                carried: Carried::new(message_bytes(size)),
            },
            converter: size.converts.then(Converter::new),
            format: Err(ContentTypeError::Missing),
            error: None,
            body_bytes: 0,
            started: false,
            cuts: None,
            asks_known: false,
        }
    }

    /// Exact heap bytes of a session of this size.
    #[must_use]
    pub const fn ram_bytes(size: SessionSize) -> usize {
        // The parser keeps one byte more than a line.
        let protobuf = match size.label_bytes {
            0 => 0,
            labels => protobuf_ram_bytes(labels),
        };
        size.line_bytes
            + 1
            + protobuf
            + message_bytes(size)
            + if size.converts { Converter::ram_bytes() } else { 0 }
            + size.extras_bytes
            + size.max_samples * (size_of::<Sample>() + size_of::<ExplicitTime>() + size_of::<SeriesRef>())
    }

    /// Begins a scrape of `target`, whose samples have the timestamp `time` ([`super::Due::time`]). `now` is wall
    /// time, if known; it bounds explicit timestamps.
    pub fn begin(&mut self, target: &Target, time: Instant, now: Option<UnixMillis>, shared: &mut Shared<'_>) {
        self.work.frame.reset(target.reference, time.0);
        self.work.tally = Tally::default();
        self.work.kind = MetricType::Unknown;
        self.work.family.clear();
        self.work.unix_ms = now.map(|now| now.0);
        self.work.carried.reset();
        if let Some(converter) = &mut self.converter {
            converter.reset();
        }
        self.format = Err(ContentTypeError::Missing);
        self.error = None;
        self.body_bytes = 0;
        self.started = false;
        self.cuts = None;
        self.asks_known = false;
        shared.table.begin(target.reference);
    }

    /// The Content-Type header of the response, if it has one. A header that names no format fails the scrape with the
    /// first byte of the body, not before: an empty body needs none (SCR-213).
    pub fn content_type(&mut self, header: Option<&[u8]>, target: &Target) {
        self.format = select(header, target.fallback);
        if self.format == Ok(Format::Protobuf) && !self.parser.reads_protobuf() {
            self.format = Err(ContentTypeError::Unsupported(Excerpt::new(header.unwrap_or_default())));
        }
    }

    /// Takes the next piece of the uncompressed body, of any size.
    ///
    /// # Errors
    /// The scrape has failed; [`Session::finish`] will say so. More of the body is not needed, and is refused with
    /// the same error.
    pub fn feed(&mut self, bytes: &[u8], target: &Target, shared: &mut Shared<'_>) -> Result<(), ScrapeError> {
        if self.error.is_none()
            && !bytes.is_empty()
            && let Err(error) = self.try_feed(bytes, target, shared)
        {
            self.error = Some(error);
        }
        self.error.clone().map_or(Ok(()), Err)
    }

    /// Ends the scrape and completes its frame, whose number the ring will set. `duration_100us` is the time since
    /// [`Session::begin`] in units of 100 microseconds.
    ///
    /// Next, append the frame and call [`Session::settle`].
    pub fn finish(
        &mut self,
        outcome: Outcome<'_>,
        duration_100us: u32,
        target: &Target,
        shared: &mut Shared<'_>,
    ) -> &mut Frame {
        if matches!(outcome, Outcome::Complete)
            && self.error.is_none()
            && let Err(error) = self.try_finish(target, shared)
        {
            self.error = Some(error);
        }
        self.work.frame.duration_100us = duration_100us;
        self.work.frame.counts = self.counts(outcome);
        self.work.frame.notes = self.notes(outcome, target);
        let end = match (outcome, &self.error) {
            (Outcome::Complete, None) if self.started => End::Body,
            (Outcome::Complete, None) => End::Empty,
            _ => End::Failed,
        };
        let left_out = self.work.close(end, target.out_of_order_ms, shared);
        if self.started {
            shared.metadata.end_scrape(target.reference, end == End::Body);
        }
        shared.reports.counters.markers_lost += left_out as u64;
        self.report(outcome, shared.reports);
        &mut self.work.frame
    }

    /// The frame was appended as number `last`; or it was not, and `last` is the newest that was. Lets go of the
    /// series that are no longer exposed.
    pub fn settle(&mut self, last: FrameNo, shared: &mut Shared<'_>) {
        if let Some(
            ScrapeError::SeriesLimit(CatalogueFull::Series { .. } | CatalogueFull::Text { .. })
            | ScrapeError::TextLimit(_),
        ) = self.error
        {
            shared.table.note_pressure();
        }
        shared.table.settle(self.work.frame.target, last, shared.catalogue);
        // The texts that are left were all in this body.
        if self.is_body()
            && let Some(health) = shared.reports.health_mut(self.work.frame.target)
        {
            health.cut = self.cuts;
        }
    }

    /// The target being scraped, or scraped last.
    #[must_use]
    pub fn target(&self) -> TargetRef {
        self.work.frame.target
    }

    /// The frame as [`Session::finish`] left it.
    pub fn frame(&mut self) -> &mut Frame {
        &mut self.work.frame
    }

    fn try_feed(&mut self, bytes: &[u8], target: &Target, shared: &mut Shared<'_>) -> Result<(), ScrapeError> {
        self.body_bytes += bytes.len() as u64;
        let limit = target.limits.body_bytes;
        if limit > 0 && self.body_bytes >= limit {
            return Err(ScrapeError::BodyTooLarge { limit });
        }
        if !self.started {
            self.work.format = self.format.clone().map_err(ScrapeError::ContentType)?;
            self.parser.start_with(self.work.format, target.histograms);
            if target.convert_classic {
                self.parser.tell_comments();
            }
            let converts = self.converter.is_some() && target.convert_classic;
            self.cuts = (!converts).then_some(self.work.format);
            // Start times of OpenMetrics need the text of every line.
            let is_plain = !(target.start_times && self.work.format == Format::OpenMetrics);
            self.asks_known = is_plain
                && self.cuts.is_some()
                && shared
                    .reports
                    .health(target.reference)
                    .is_some_and(|health| health.cut == self.cuts);
            self.started = true;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.parser.feed(rest);
            rest = rest.get(taken..).unwrap_or_default();
            self.drain(target, shared)?;
        }
        Ok(())
    }

    fn try_finish(&mut self, target: &Target, shared: &mut Shared<'_>) -> Result<(), ScrapeError> {
        if self.started {
            self.parser.finish();
            self.drain(target, shared)?;
            let taken = self.work.complete(&mut self.converter, target, shared);
            taken.map_err(|error| error.on_line(self.parser.line()))?;
        }
        let (found, limit) = (self.work.tally.counts.post_relabel, target.limits.samples);
        if limit > 0 && found > limit {
            return Err(ScrapeError::SampleLimit { found, limit });
        }
        if self.work.tally.over_bucket_limit {
            let limit = target.resolution.bucket_limit;
            return Err(ScrapeError::BucketLimit { limit });
        }
        Ok(())
    }

    /// Takes the events there are.
    fn drain(&mut self, target: &Target, shared: &mut Shared<'_>) -> Result<(), ScrapeError> {
        let converter = &mut self.converter;
        loop {
            while self.asks_known && pass_known(&mut self.parser, &mut self.work, target, shared.table)? {}
            let event = match self.parser.next() {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(()),
                Err(error) => {
                    // A histogram that contradicts itself is a sample, though one that cannot be stored.
                    self.work.tally.counts.scraped += u32::from(matches!(error.problem, Problem::Histogram(_)));
                    return Err(ScrapeError::Parse(error));
                }
            };
            let taken = self.work.event(event, converter, target, shared);
            taken.map_err(|error| error.on_line(self.parser.line()))?;
        }
    }

    /// The scrape has succeeded with a body.
    fn is_body(&self) -> bool {
        self.started && self.work.frame.up
    }

    /// The row of the failure matrix (§1.9).
    fn counts(&self, outcome: Outcome<'_>) -> ScrapeCounts {
        match (outcome, &self.error) {
            (Outcome::Complete, Some(ScrapeError::BodyTooLarge { .. } | ScrapeError::ContentType(_))) => {
                ScrapeCounts::default()
            }
            (Outcome::Complete, _) => self.work.tally.counts,
            _ => ScrapeCounts::default(),
        }
    }

    fn notes(&self, outcome: Outcome<'_>, target: &Target) -> Notes {
        let extra = ExtraMetrics {
            timeout_ms: target.timeout_ms,
            sample_limit: target.limits.samples,
            body_bytes: self.body_size(outcome),
        };
        Notes {
            ended: matches!(outcome, Outcome::Removed),
            extra: target.extra_metrics.then_some(extra),
        }
    }

    /// Column `body_size` of the failure matrix (§1.9).
    fn body_size(&self, outcome: Outcome<'_>) -> i64 {
        match (outcome, &self.error) {
            (Outcome::Complete, Some(ScrapeError::BodyTooLarge { .. })) => -1,
            (Outcome::Complete, _) => i64::try_from(self.body_bytes).unwrap_or(i64::MAX),
            _ => 0,
        }
    }

    fn report(&self, outcome: Outcome<'_>, reports: &mut Reports) {
        let frame = &self.work.frame;
        if !matches!(outcome, Outcome::Removed) {
            self.count(outcome, &mut reports.counters);
        }
        let Some(health) = reports.health_mut(frame.target) else {
            return;
        };
        if self.is_body() && health.cut != self.cuts {
            // Until the texts of other bodies are let go of.
            health.cut = None;
        }
        health.state = if frame.up { HealthState::Up } else { HealthState::Down };
        health.last_scrape = Some(Instant(frame.time_ms));
        health.duration_100us = frame.duration_100us;
        health.samples = frame.counts.scraped;
        health.body_bytes = self.body_size(outcome);
        let text: Option<&dyn Display> = match (&outcome, &self.error) {
            (Outcome::Complete, Some(error)) => Some(error),
            (Outcome::Complete, None) => None,
            (outcome, _) => Some(outcome),
        };
        health.set_error(text);
    }

    fn count(&self, outcome: Outcome<'_>, counters: &mut Counters) {
        let frame = &self.work.frame;
        counters.scrapes += 1;
        counters.failed += u64::from(!frame.up);
        counters.samples += frame.samples.len() as u64;
        counters.duplicate += u64::from(self.work.tally.duplicate);
        counters.out_of_order += u64::from(self.work.tally.out_of_order);
        counters.out_of_bounds += u64::from(self.work.tally.out_of_bounds);
        counters.synthetic_name += u64::from(self.work.tally.synthetic);
        let Tally { exemplars, .. } = self.work.tally;
        counters.exemplars += if frame.up { u64::from(exemplars.kept) } else { 0 };
        counters.exemplars_invalid += u64::from(exemplars.invalid);
        counters.exemplars_too_long += u64::from(exemplars.too_long);
        counters.exemplars_duplicate += u64::from(exemplars.duplicate);
        counters.exemplars_out_of_order += u64::from(exemplars.out_of_order);
        counters.exemplars_no_room += u64::from(exemplars.no_room);
        counters.histograms_no_room += u64::from(self.work.tally.histograms_lost);
        counters.histograms_unconvertible += u64::from(self.work.tally.unconvertible);
        counters.start_times_no_room += u64::from(self.work.tally.start_times_lost);
        match (outcome, &self.error) {
            (Outcome::Complete, Some(error)) => counters.count_error(error),
            (Outcome::TargetLimit { .. }, _) => counters.exceeded_target_limit += 1,
            _ => {}
        }
    }
}

/// Takes the samples of known texts that come next, some of them at most; false: the next line is none of them.
///
/// A text is known by its hash alone, here as on the long way: 64 bits under a seed that no target knows. Bytes that are no
/// series text pass for one no more often than one text passes for another.
fn pass_known(
    parser: &mut Parser,
    work: &mut Work,
    target: &Target,
    table: &mut SeriesTable,
) -> Result<bool, ScrapeError> {
    let t = target.reference;
    let mut ahead = heapless::Vec::<_, AHEAD>::new();
    parser.look_ahead(&mut ahead, |text| table.key(t, text));
    // All are looked up before the first is taken: their places in the table are far from each other and in no cache, and so the processor waits for some
    // of them together. A text that is not known ends it: what stands behind it may be part of it.
    let verdicts: heapless::Vec<_, AHEAD> = ahead.iter().map_while(|line| table.verdict(t, line.key)).collect();
    for (line, &verdict) in ahead.iter().zip(&verdicts) {
        parser.pass(line);
        work.known((verdict, line.value, line.timestamp_ms), target, table)?;
    }
    Ok(!ahead.is_empty() && verdicts.len() == ahead.len())
}

/// Room for the message of one native histogram. Without empty buckets it is hardly longer than what was exposed, which fitted the line;
/// and one that does not fit the frame is not kept.
const fn message_bytes(size: SessionSize) -> usize {
    let bytes = if size.line_bytes < size.extras_bytes {
        size.line_bytes
    } else {
        size.extras_bytes
    };
    if size.label_bytes == 0 && !size.converts {
        0
    } else {
        bytes
    }
}

#[cfg(test)]
mod tests;
