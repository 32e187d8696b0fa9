//! The label set of a sample: merged, relabelled, checked, and cut down to what the catalogue stores.
//!
//! Runs only for texts the series table does not know. Order as in SCR-501: labels as exposed, `le` and `quantile`
//! normalised, merge with the target's, `metric_relabel_configs`, empty values removed, validity, limits.
//!
//! What comes out is a name and a body that holds only what differs from the target's labels; a target label that the
//! sample must not carry appears with an empty value. So final labels = entry labels + target labels whose name the
//! entry does not have, and empty values are not sent.
//!
//! Sources: SCR-501 to SCR-509, §1.8.

use super::report::ScrapeError;
use super::target::Target;
use crate::catalogue::{CatalogueFull, SeriesText};
use crate::exposition::{Format, normalise_le_quantile, parse_exemplar_labels, parse_series};
use crate::labels::{Excerpt, Labels, LabelsFull, METRIC_NAME, TextBuf};
use crate::limits::MAX_SERIES_TEXT_BYTES;
use crate::relabel::{Scratch, Verdict};
use crate::sample::MetricType;
use crate::value;
use core::fmt::Write;

/// The series that every scrape reports itself (SCR-509).
pub(super) const SYNTHETIC: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// Those it reports besides with `extra_scrape_metrics`.
const EXTRA_SYNTHETIC: [&str; 3] = [
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

/// Labels of a sample while they are merged with the target's: those and `exported_` prefixes come on top.
const MERGED_BYTES: usize = MAX_SERIES_TEXT_BYTES + MAX_SERIES_TEXT_BYTES / 4;

/// A label name after `exported_` was put in front: target labels have short names.
const NAME_BYTES: usize = 2048;

/// Memory for one label set at a time; all sessions may share one. See [`LabelBuilder::ram_bytes`].
#[derive(Debug)]
pub struct LabelBuilder {
    exposed: Labels,
    merged: Labels,
    scratch: Scratch,
    name: TextBuf,
    body: TextBuf,
}

/// What a line says of a classic histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ClassicPart {
    /// Observations up to this bound.
    Bucket(f64),
    /// The number of observations.
    Count,
    /// Their sum.
    Sum,
    /// Nothing.
    Other,
}

/// What became of an exposed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Built<'a> {
    /// This series.
    Series(SeriesText<'a>),
    /// Dropped by relabelling.
    Dropped,
    /// It would collide with a series that the scrape reports itself.
    Synthetic,
}

impl LabelBuilder {
    /// The only call that allocates.
    #[must_use]
    pub fn new() -> Self {
        Self {
            exposed: Labels::new(MAX_SERIES_TEXT_BYTES),
            merged: Labels::new(MERGED_BYTES),
            scratch: Scratch::new(MAX_SERIES_TEXT_BYTES),
            name: TextBuf::new(NAME_BYTES),
            body: TextBuf::new(MAX_SERIES_TEXT_BYTES),
        }
    }

    /// Exact heap bytes.
    #[must_use]
    pub const fn ram_bytes() -> usize {
        // Labels, body and the three buffers of relabelling.
        5 * MAX_SERIES_TEXT_BYTES + MERGED_BYTES + NAME_BYTES
    }

    /// Builds the label set of the series exposed as `raw`; `kind` is that of the last TYPE line. Errors are without a
    /// line number.
    pub(super) fn build(
        &mut self,
        target: &Target,
        (format, kind): (Format, MetricType),
        raw: &[u8],
    ) -> Result<Built<'_>, ScrapeError> {
        parse_series(format, raw, &mut self.exposed).map_err(ScrapeError::Parse)?;
        let full = |problem| ScrapeError::LabelsFull { line: 0, problem };
        normalise_le_quantile(kind, &mut self.exposed).map_err(full)?;
        self.merge(target).map_err(full)?;
        self.merged.remove_empty();
        let verdict = target
            .metric_relabel
            .apply(&mut self.merged, &mut self.scratch)
            .map_err(full)?;
        if verdict == Verdict::Drop {
            return Ok(Built::Dropped);
        }
        self.merged.remove_empty();
        if self.merged.is_empty() {
            return Ok(Built::Dropped);
        }
        self.merged
            .validate(target.names)
            .map_err(|problem| ScrapeError::Invalid { line: 0, problem })?;
        self.check_limits(target)?;
        self.reduce(target).map_err(full)?;
        self.write(target)
    }

    /// Reads the labels of an exemplar as exposed: their canonical text, and the characters of all names and values. `None`: they
    /// are none, or a name is there twice.
    pub(super) fn exemplar(&mut self, raw: &[u8]) -> Option<(&str, usize)> {
        parse_exemplar_labels(raw, &mut self.exposed).ok()?;
        if self.exposed.has_duplicate() {
            return None;
        }
        let chars = |label: crate::labels::Label<'_>| label.name.chars().count() + label.value.chars().count();
        let chars = self.exposed.iter().map(chars).sum();
        self.body.clear();
        self.exposed.write_body(&mut self.body).ok()?;
        Some((&self.body, chars))
    }

    /// What the series exposed as `raw` is to a classic histogram of `family`, and the series of that histogram. `None`: of another
    /// family, or not to be read.
    pub(super) fn classic<'a>(
        &'a mut self,
        format: Format,
        family: &'a str,
        raw: &[u8],
    ) -> Option<(ClassicPart, SeriesText<'a>)> {
        parse_series(format, raw, &mut self.exposed).ok()?;
        let name = self.exposed.metric_name();
        let parts = [
            ("_bucket", self.exposed.get("le").map_or(ClassicPart::Other, bucket)),
            ("_count", ClassicPart::Count),
            ("_sum", ClassicPart::Sum),
        ];
        let mut parts = parts.into_iter();
        let found = parts.find_map(|(suffix, part)| name.strip_suffix(suffix).map(|base| (base, part)));
        let (base, part) = found.unwrap_or((name, ClassicPart::Other));
        if base != family {
            return None;
        }
        Some((part, self.without_bound(family)?))
    }

    /// The series of the histogram of `family` whose line with this suffix is exposed as `raw`; `None`: it is another line.
    pub(super) fn histogram<'a>(
        &'a mut self,
        format: Format,
        (family, suffix): (&'a str, &str),
        raw: &[u8],
    ) -> Option<SeriesText<'a>> {
        parse_series(format, raw, &mut self.exposed).ok()?;
        let base = self.exposed.metric_name().strip_suffix(suffix);
        if base != Some(family) {
            return None;
        }
        self.without_bound(family)
    }

    /// The labels of `exposed` that a histogram keeps.
    fn without_bound<'a>(&'a mut self, name: &'a str) -> Option<SeriesText<'a>> {
        self.exposed.remove("le");
        self.exposed.remove_empty();
        self.body.clear();
        self.exposed.write_body(&mut self.body).ok()?;
        Some(SeriesText { name, body: &self.body })
    }

    /// `merged` = `exposed` with the labels of the target.
    fn merge(&mut self, target: &Target) -> Result<(), LabelsFull> {
        self.merged.clear();
        for label in self.exposed.iter() {
            // Not `set`: a name that occurs twice must still do so when it is judged.
            self.merged.push(label.name, label.value)?;
        }
        for label in target.labels() {
            // SCR-504: an exposed label counts as carried even if its value is empty.
            if !(target.honor_labels && self.exposed.contains(label.name)) {
                self.merged.set(label.name, label.value)?;
            }
        }
        if target.honor_labels {
            return Ok(());
        }
        // SCR-502: what the target's labels displaced moves aside, once all of them are in place.
        for label in target.labels_by_length() {
            if let Some(value) = self.exposed.get(label.name).filter(|value| !value.is_empty()) {
                let mut prefixes = 0;
                // Ends: the names get longer, and only so many are taken.
                while prefixes == 0 || !self.merged.get(&self.name).unwrap_or_default().is_empty() {
                    prefixes += 1;
                    self.name.clear();
                    for _ in 0..prefixes {
                        self.name.write_str("exported_").map_err(|_| TOO_LONG)?;
                    }
                    self.name.write_str(label.name).map_err(|_| TOO_LONG)?;
                }
                self.merged.set(&self.name, value)?;
            }
        }
        Ok(())
    }

    fn check_limits(&self, target: &Target) -> Result<(), ScrapeError> {
        let limits = target.limits;
        let over = |found: usize, limit: u32| limit > 0 && found > limit as usize;
        if over(self.merged.len(), limits.labels) {
            return Err(ScrapeError::LabelLimit {
                line: 0,
                found: self.merged.len(),
                limit: limits.labels,
            });
        }
        for label in self.merged.iter() {
            let name = || Excerpt::new(label.name.as_bytes());
            if over(label.name.len(), limits.name_bytes) {
                return Err(ScrapeError::NameLength {
                    line: 0,
                    name: name(),
                    found: label.name.len(),
                    limit: limits.name_bytes,
                });
            }
            if over(label.value.len(), limits.value_bytes) {
                return Err(ScrapeError::ValueLength {
                    line: 0,
                    name: name(),
                    found: label.value.len(),
                    limit: limits.value_bytes,
                });
            }
        }
        Ok(())
    }

    /// `exposed` = what of `merged` differs from the target's labels.
    fn reduce(&mut self, target: &Target) -> Result<(), LabelsFull> {
        self.exposed.clear();
        for label in self.merged.iter() {
            if !target.labels().any(|own| own == label) {
                self.exposed.set(label.name, label.value)?;
            }
        }
        for own in target.labels() {
            if !self.merged.contains(own.name) {
                self.exposed.set(own.name, "")?;
            }
        }
        Ok(())
    }

    fn write(&mut self, target: &Target) -> Result<Built<'_>, ScrapeError> {
        let too_long = |_| {
            ScrapeError::SeriesLimit(CatalogueFull::TextTooLong {
                bytes: MAX_SERIES_TEXT_BYTES + 1,
            })
        };
        self.body.clear();
        self.exposed.write_body(&mut self.body).map_err(too_long)?;
        let text = SeriesText {
            name: self.exposed.get(METRIC_NAME).unwrap_or_default(),
            body: &self.body,
        };
        // Name, braces and body together must fit one buffer wherever they are joined.
        let bytes = text.name.len() + text.body.len() + 2;
        if bytes > MAX_SERIES_TEXT_BYTES {
            return Err(ScrapeError::SeriesLimit(CatalogueFull::TextTooLong { bytes }));
        }
        let own = SYNTHETIC.contains(&text.name) || target.extra_metrics && EXTRA_SYNTHETIC.contains(&text.name);
        if text.body.is_empty() && own {
            return Ok(Built::Synthetic);
        }
        Ok(Built::Series(text))
    }
}

impl Default for LabelBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// A bound that is no number makes an ordinary sample.
fn bucket(le: &str) -> ClassicPart {
    let bound = value::parse(le.as_bytes()).map(|bound| f64::from_bits(bound.to_bits()));
    match bound {
        Some(bound) if !bound.is_nan() => ClassicPart::Bucket(bound),
        _ => ClassicPart::Other,
    }
}

const TOO_LONG: LabelsFull = LabelsFull::Text { limit: NAME_BYTES };
