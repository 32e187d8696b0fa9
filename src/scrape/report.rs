//! How scrapes went: errors with their texts, health per target, counters.
//!
//! [`ScrapeError`] is why a body was refused, [`Outcome`] how the host's part ended. [`Reports`] keeps for each target
//! what `/api/v1/targets` shows (state, last scrape, duration, last error as bounded text) and for all of them the
//! counters, under Prometheus' names where it has one. Nothing allocates after [`Reports::new`].
//!
//! Sources: SCR-654, SCR-704, the failure matrix §1.9.

use crate::catalogue::CatalogueFull;
use crate::clock::Instant;
use crate::exposition::{ContentTypeError, Format, ParseError};
use crate::labels::{Excerpt, LabelsFull, LabelsInvalid};
use crate::limits::MAX_TARGETS;
use crate::sample::TargetRef;
use crate::series::TextsFull;
use alloc::boxed::Box;
use alloc::vec;
use core::fmt::{self, Display, Write};

/// Bytes of error text kept per target: the longest text of [`ScrapeError`] fits.
pub const ERROR_BYTES: usize = 256;

/// Why the body of a response was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScrapeError {
    /// No usable media type, and no fallback (SCR-212).
    ContentType(ContentTypeError),
    /// `body_size_limit` reached (SCR-204).
    BodyTooLarge {
        /// The limit, bytes.
        limit: u64,
    },
    /// Outside the grammar of its format.
    Parse(ParseError),
    /// A label set that may not become a series (SCR-507).
    Invalid {
        /// Line of the body.
        line: u32,
        /// What is wrong with it.
        problem: LabelsInvalid,
    },
    /// A label set larger than the buffers for one.
    LabelsFull {
        /// Line of the body.
        line: u32,
        /// Which limit.
        problem: LabelsFull,
    },
    /// `label_limit` exceeded.
    LabelLimit {
        /// Line of the body.
        line: u32,
        /// Labels found.
        found: usize,
        /// The limit.
        limit: u32,
    },
    /// `label_name_length_limit` exceeded.
    NameLength {
        /// Line of the body.
        line: u32,
        /// The name.
        name: Excerpt,
        /// Its bytes.
        found: usize,
        /// The limit.
        limit: u32,
    },
    /// `label_value_length_limit` exceeded.
    ValueLength {
        /// Line of the body.
        line: u32,
        /// Name of the label.
        name: Excerpt,
        /// Bytes of the value.
        found: usize,
        /// The limit.
        limit: u32,
    },
    /// `sample_limit` exceeded.
    SampleLimit {
        /// Samples after relabelling.
        found: u32,
        /// The limit.
        limit: u32,
    },
    /// `native_histogram_bucket_limit` exceeded at the lowest resolution.
    BucketLimit {
        /// The limit.
        limit: u32,
    },
    /// No room for another series.
    SeriesLimit(CatalogueFull),
    /// No room for another exposed text.
    TextLimit(TextsFull),
    /// More samples than a frame holds.
    FrameLimit {
        /// Samples of a frame.
        limit: usize,
    },
}

impl ScrapeError {
    /// The same error, said to be on this line of the body.
    #[must_use]
    pub fn on_line(self, at: u32) -> Self {
        let mut this = self;
        match &mut this {
            Self::Parse(error) => return Self::Parse(error.clone().on_line(at)),
            Self::Invalid { line, .. }
            | Self::LabelsFull { line, .. }
            | Self::LabelLimit { line, .. }
            | Self::NameLength { line, .. }
            | Self::ValueLength { line, .. } => *line = at,
            _ => {}
        }
        this
    }
}

impl Display for ScrapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ContentType(error) => error.fmt(f),
            Self::BodyTooLarge { limit } => write!(f, "body size limit of {limit} bytes reached"),
            Self::Parse(error) => error.fmt(f),
            Self::Invalid { line, problem } => write!(f, "line {line}: {problem}"),
            Self::LabelsFull { line, problem } => write!(f, "line {line}: {problem}"),
            Self::LabelLimit { line, found, limit } => {
                write!(f, "line {line}: series has {found} labels, label_limit is {limit}")
            }
            Self::NameLength {
                line,
                name,
                found,
                limit,
            } => write!(
                f,
                "line {line}: label name {name} is {found} bytes, label_name_length_limit is {limit}"
            ),
            Self::ValueLength {
                line,
                name,
                found,
                limit,
            } => write!(
                f,
                "line {line}: value of label {name} is {found} bytes, label_value_length_limit is {limit}"
            ),
            Self::SampleLimit { found, limit } => {
                write!(f, "{found} samples after relabelling, sample_limit is {limit}")
            }
            Self::BucketLimit { limit } => write!(
                f,
                "native histogram has more than native_histogram_bucket_limit ({limit}) buckets at the lowest resolution"
            ),
            Self::SeriesLimit(full) => write!(f, "series limit: {full}"),
            Self::TextLimit(TextsFull { limit }) => {
                write!(
                    f,
                    "series limit: all {limit} exposed texts are in use (tidegate.memory.max_series)"
                )
            }
            Self::FrameLimit { limit } => write!(
                f,
                "series limit: more than {limit} samples in one scrape (tidegate.memory.max_series)"
            ),
        }
    }
}

impl core::error::Error for ScrapeError {}

/// How the host's part of a scrape ended.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// Status 200 and the whole body arrived.
    Complete,
    /// Another status (SCR-201).
    Status(u16),
    /// No answer, or not all of it: address, connection, TLS, timeout, broken compression. The text says which.
    Fetch(&'a dyn Display),
    /// The job has more targets than its `target_limit`; nothing was fetched.
    TargetLimit {
        /// Targets of the job after relabelling.
        targets: usize,
        /// The limit.
        limit: usize,
    },
    /// The target is no more, after a reload: a last frame with markers for its series (SCR-806).
    Removed,
}

impl Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Status(code) => write!(f, "server returned HTTP status {code}"),
            Self::Fetch(text) => text.fmt(f),
            Self::TargetLimit { targets, limit } => {
                write!(
                    f,
                    "target_limit exceeded (number of targets: {targets}, limit: {limit})"
                )
            }
            Self::Removed => f.write_str("target was removed"),
        }
    }
}

impl fmt::Debug for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outcome({self})")
    }
}

/// State of a target, in the words of `/api/v1/targets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthState {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
}

impl HealthState {
    /// `unknown`, `up` or `down`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What is known of a target's last scrape.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Whether it succeeded.
    pub state: HealthState,
    /// When it was, boot time; `None` before the first.
    pub last_scrape: Option<Instant>,
    /// How long it took, 100 microseconds.
    pub duration_100us: u32,
    /// Its samples as exposed.
    pub samples: u32,
    /// Bytes of its uncompressed body; -1 when the limit was reached, 0 when there was none.
    pub body_bytes: i64,
    /// The parser has cut every known text of the target out of bodies in this format.
    pub(super) cut: Option<Format>,
    /// Why it failed, cut to [`ERROR_BYTES`]; empty if it did not.
    error: heapless::String<ERROR_BYTES>,
}

impl Health {
    /// Why the last scrape failed; empty if it did not.
    #[must_use]
    pub fn error(&self) -> &str {
        &self.error
    }

    pub(super) fn set_error(&mut self, text: Option<&dyn Display>) {
        self.error.clear();
        if let Some(text) = text {
            // Cut, not refused, when it is too long: `Cutting` never fails.
            let _ = write!(Cutting(&mut self.error), "{text}");
        }
    }
}

/// Writes as much as fits.
struct Cutting<'a>(&'a mut heapless::String<ERROR_BYTES>);

impl Write for Cutting<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(ERROR_BYTES - self.0.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        // Fits by the line above.
        let _ = self.0.push_str(text.get(..end).unwrap_or_default());
        Ok(())
    }
}

/// Event counters over all targets since the start; `prometheus_*` names where Prometheus has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is documented by its help text below")]
pub struct Counters {
    pub scrapes: u64,
    pub failed: u64,
    pub samples: u64,
    pub duplicate: u64,
    pub out_of_order: u64,
    pub out_of_bounds: u64,
    pub synthetic_name: u64,
    pub exceeded_body_size: u64,
    pub exceeded_sample_limit: u64,
    pub exceeded_label_limits: u64,
    pub exceeded_target_limit: u64,
    pub exceeded_series_limit: u64,
    pub markers_lost: u64,
    pub exceeded_bucket_limit: u64,
    pub exemplars: u64,
    pub exemplars_invalid: u64,
    pub exemplars_too_long: u64,
    pub exemplars_duplicate: u64,
    pub exemplars_no_room: u64,
    pub exemplars_out_of_order: u64,
    pub histograms_no_room: u64,
    pub histograms_unconvertible: u64,
    pub start_times_no_room: u64,
}

impl Counters {
    /// Calls `each` with name, labels (`reason=".."` or nothing), help text and value of every counter; those of
    /// one name follow each other.
    pub fn for_each(&self, mut each: impl FnMut(&'static str, &'static str, &'static str, u64)) {
        for (name, labels, help, value) in [
            ("tidegate_scrapes_total", "", "Scrapes attempted.", self.scrapes),
            (
                "tidegate_scrapes_failed_total",
                "",
                "Scrapes that reported up as 0.",
                self.failed,
            ),
            (
                "tidegate_scraped_samples_total",
                "",
                "Samples that went into frames.",
                self.samples,
            ),
            (
                "tidegate_scrape_samples_dropped_total",
                "reason=\"synthetic_name\"",
                "Samples of successful scrapes that were dropped.",
                self.synthetic_name,
            ),
            (
                "tidegate_scrape_samples_dropped_total",
                "reason=\"histogram_no_room\"",
                "Samples of successful scrapes that were dropped.",
                self.histograms_no_room,
            ),
            (
                "tidegate_scrape_samples_dropped_total",
                "reason=\"histogram_unconvertible\"",
                "Samples of successful scrapes that were dropped.",
                self.histograms_unconvertible,
            ),
            (
                "tidegate_scraped_exemplars_total",
                "",
                "Exemplars that went into frames.",
                self.exemplars,
            ),
            (
                "tidegate_scrape_exemplars_dropped_total",
                "reason=\"invalid\"",
                "Exemplars not kept.",
                self.exemplars_invalid,
            ),
            (
                "tidegate_scrape_exemplars_dropped_total",
                "reason=\"too_long\"",
                "Exemplars not kept.",
                self.exemplars_too_long,
            ),
            (
                "tidegate_scrape_exemplars_dropped_total",
                "reason=\"duplicate\"",
                "Exemplars not kept.",
                self.exemplars_duplicate,
            ),
            (
                "tidegate_scrape_exemplars_dropped_total",
                "reason=\"no_room\"",
                "Exemplars not kept.",
                self.exemplars_no_room,
            ),
            (
                "prometheus_target_scrapes_exemplar_out_of_order_total",
                "",
                "Exemplars dropped because they were older than their series' last.",
                self.exemplars_out_of_order,
            ),
            (
                "tidegate_scrape_start_times_dropped_total",
                "",
                "Start times for which the frame had no room.",
                self.start_times_no_room,
            ),
            (
                "tidegate_scrapes_exceeded_series_limit_total",
                "",
                "Scrapes that failed for want of memory for series.",
                self.exceeded_series_limit,
            ),
            (
                "tidegate_scrape_staleness_markers_lost_total",
                "",
                "Staleness markers that did not fit into their frame.",
                self.markers_lost,
            ),
            (
                "prometheus_target_scrapes_sample_duplicate_timestamp_total",
                "",
                "Samples dropped as second of their series in one scrape.",
                self.duplicate,
            ),
            (
                "prometheus_target_scrapes_sample_out_of_order_total",
                "",
                "Samples dropped because their timestamp was not newer than their series' last.",
                self.out_of_order,
            ),
            (
                "prometheus_target_scrapes_sample_out_of_bounds_total",
                "",
                "Samples dropped because their timestamp was too far in the future.",
                self.out_of_bounds,
            ),
            (
                "prometheus_target_scrapes_exceeded_body_size_limit_total",
                "",
                "Scrapes that hit body_size_limit.",
                self.exceeded_body_size,
            ),
            (
                "prometheus_target_scrapes_exceeded_sample_limit_total",
                "",
                "Scrapes that hit sample_limit.",
                self.exceeded_sample_limit,
            ),
            (
                "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total",
                "",
                "Scrapes that hit native_histogram_bucket_limit.",
                self.exceeded_bucket_limit,
            ),
            (
                "prometheus_target_scrape_pool_exceeded_target_limit_total",
                "",
                "Scrapes refused because the job exceeded target_limit.",
                self.exceeded_target_limit,
            ),
            (
                "prometheus_target_scrape_pool_exceeded_label_limits_total",
                "",
                "Scrapes that hit label_limit or a label length limit.",
                self.exceeded_label_limits,
            ),
        ] {
            each(name, labels, help, value);
        }
    }

    /// Counts the reason of a refused body.
    pub(super) fn count_error(&mut self, error: &ScrapeError) {
        let counter = match error {
            ScrapeError::BodyTooLarge { .. } => &mut self.exceeded_body_size,
            ScrapeError::LabelLimit { .. } | ScrapeError::NameLength { .. } | ScrapeError::ValueLength { .. } => {
                &mut self.exceeded_label_limits
            }
            ScrapeError::SampleLimit { .. } => &mut self.exceeded_sample_limit,
            ScrapeError::BucketLimit { .. } => &mut self.exceeded_bucket_limit,
            ScrapeError::SeriesLimit(_) | ScrapeError::TextLimit(_) | ScrapeError::FrameLimit { .. } => {
                &mut self.exceeded_series_limit
            }
            _ => return,
        };
        *counter += 1;
    }
}

/// Health of every target and the counters.
#[derive(Debug)]
pub struct Reports {
    health: Box<[Health]>,
    /// Events so far.
    pub counters: Counters,
}

impl Reports {
    /// Reports on targets below `max_targets`, about 300 bytes each. The only call that allocates.
    #[must_use]
    pub fn new(max_targets: usize) -> Self {
        Self {
            health: vec![Health::default(); max_targets.min(MAX_TARGETS)].into_boxed_slice(),
            counters: Counters::default(),
        }
    }

    /// Exact heap bytes.
    #[must_use]
    pub const fn ram_bytes(max_targets: usize) -> usize {
        let targets = if max_targets > MAX_TARGETS {
            MAX_TARGETS
        } else {
            max_targets
        };
        targets * size_of::<Health>()
    }

    /// What is known of target `t`.
    #[must_use]
    pub fn health(&self, t: TargetRef) -> Option<&Health> {
        self.health.get(usize::from(t.0))
    }

    /// Forgets target `t`.
    pub fn forget(&mut self, t: TargetRef) {
        if let Some(health) = self.health_mut(t) {
            *health = Health::default();
        }
    }

    pub(super) fn health_mut(&mut self, t: TargetRef) -> Option<&mut Health> {
        self.health.get_mut(usize::from(t.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;

    #[test]
    fn scr_704_error_texts_are_cut_at_a_character_not_refused() {
        let mut health = Health::default();
        health.set_error(Some(&"ü".repeat(200)));
        assert_eq!(health.error(), "ü".repeat(ERROR_BYTES / 2));
        health.set_error(Some(&"x"));
        assert_eq!(health.error(), "x");
        health.set_error(None);
        assert_eq!(health.error(), "");
    }

    #[test]
    fn scr_654_every_counter_has_its_own_name_and_value() {
        let counters = Counters {
            scrapes: 1,
            failed: 2,
            samples: 3,
            duplicate: 4,
            out_of_order: 5,
            out_of_bounds: 6,
            synthetic_name: 7,
            exceeded_body_size: 8,
            exceeded_sample_limit: 9,
            exceeded_label_limits: 10,
            exceeded_target_limit: 11,
            exceeded_series_limit: 12,
            markers_lost: 13,
            exceeded_bucket_limit: 14,
            exemplars: 15,
            exemplars_invalid: 16,
            exemplars_too_long: 17,
            exemplars_duplicate: 18,
            exemplars_no_room: 19,
            exemplars_out_of_order: 20,
            histograms_no_room: 21,
            start_times_no_room: 22,
            histograms_unconvertible: 23,
        };
        let (mut names, mut values) = (BTreeSet::new(), BTreeSet::new());
        counters.for_each(|name, labels, help, value| {
            assert!(name.ends_with("_total") && help.ends_with('.'), "{name}");
            assert!(names.insert((name, labels)));
            assert!(values.insert(value));
        });
        assert_eq!(values, (1..=23).collect());
    }

    #[test]
    fn texts_name_what_was_found_and_the_limit() {
        let name = Excerpt::new(b"path");
        for (error, text) in [
            (
                ScrapeError::BodyTooLarge { limit: 10 },
                "body size limit of 10 bytes reached",
            ),
            (
                ScrapeError::ValueLength {
                    line: 3,
                    name: name.clone(),
                    found: 1300,
                    limit: 1024,
                },
                "line 3: value of label \"path\" is 1300 bytes, label_value_length_limit is 1024",
            ),
            (
                ScrapeError::NameLength {
                    line: 3,
                    name,
                    found: 4,
                    limit: 3,
                },
                "line 3: label name \"path\" is 4 bytes, label_name_length_limit is 3",
            ),
            (
                ScrapeError::SeriesLimit(CatalogueFull::Series { limit: 5 }),
                "series limit: all 5 series are in use (tidegate.memory.max_series)",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
        let limit = Outcome::TargetLimit { targets: 3, limit: 2 };
        assert_eq!(
            limit.to_string(),
            "target_limit exceeded (number of targets: 3, limit: 2)"
        );
        assert_eq!(Outcome::Status(404).to_string(), "server returned HTTP status 404");
    }
}
