//! What the configuration says of one running target, in the form a scrape needs.
//!
//! Built from the configuration at start and on reload (the only time it allocates), read by every scrape. URL,
//! credentials and headers are the host's. Labels are given once and kept both as canonical body, which the catalogue
//! and the ring hold, and as pairs, which the merge of label sets reads.
//!
//! Sources: SCR-401 to SCR-408 (how the labels come about is the configuration's part), SCR-651, §4.2.

use crate::exposition::{DEFAULT_PROTOCOLS, EscapingScheme, Format, Histograms, Protocol, Resolution};
use crate::labels::{Label, Labels, NameScheme, TextBuf};
use crate::limits::MAX_SERIES_TEXT_BYTES;
use crate::relabel::Relabel;
use crate::sample::TargetRef;
use crate::scrape::report::ScrapeError;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// Limits of one scrape; 0 means unlimited (SCR-651).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `body_size_limit`, uncompressed bytes. Reached is too much (SCR-204).
    pub body_bytes: u64,
    /// `sample_limit`, samples after relabelling.
    pub samples: u32,
    /// `label_limit`, labels of a series, `__name__` and target labels included.
    pub labels: u32,
    /// `label_name_length_limit`, bytes.
    pub name_bytes: u32,
    /// `label_value_length_limit`, bytes.
    pub value_bytes: u32,
}

/// One target.
#[derive(Debug)]
pub struct Target {
    /// Its index in the ring's frames.
    pub reference: TargetRef,
    /// Index of its job in the configuration.
    pub job: u16,
    /// Scrape interval, milliseconds.
    pub interval_ms: u32,
    /// Scrape timeout, milliseconds, over connection, headers and body (SCR-203).
    pub timeout_ms: u32,
    /// What the target exposes wins over its own labels.
    pub honor_labels: bool,
    /// Exposed timestamps are used.
    pub honor_timestamps: bool,
    /// How much older than the newest of its series a sample may be, milliseconds (`out_of_order_time_window`).
    pub out_of_order_ms: i64,
    /// Series with exposed timestamps are tracked for staleness too.
    pub track_timestamps_staleness: bool,
    /// Limits.
    pub limits: Limits,
    /// The scrape reports its timeout, sample limit and body size too (`extra_scrape_metrics`).
    pub extra_metrics: bool,
    /// Changes with everything that decides which series an exposed text becomes: rules, limits, names.
    pub meaning: u32,
    /// Which names are valid.
    pub names: NameScheme,
    /// Protocols to ask for, most wanted first.
    pub protocols: Box<[Protocol]>,
    /// How names outside the legacy alphabet are to be written.
    pub escaping: EscapingScheme,
    /// Which histograms of a protobuf exposition are wanted.
    pub histograms: Histograms,
    /// Classic histograms become native ones with custom buckets; with [`Histograms::classic_too`] they stay, too.
    pub convert_classic: bool,
    /// How finely native histograms may be resolved.
    pub resolution: Resolution,
    /// Start times are carried, and `_created` lines of OpenMetrics are no series (`tidegate.start_timestamps`).
    pub start_times: bool,
    /// Format of a response that names none (`fallback_scrape_protocol`).
    pub fallback: Option<Format>,
    /// `metric_relabel_configs`.
    pub metric_relabel: Relabel,
    body: Box<str>,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// Positions in `labels`, shortest name first.
    by_length: Box<[u8]>,
}

impl Target {
    /// A target with these labels and Prometheus' defaults for everything else.
    ///
    /// Labels that begin with `__` never appear on series (SCR-407) and are left out, as are those with an empty value.
    ///
    /// # Errors
    /// [`ScrapeError::LabelsFull`]: more labels, or more text, than a series may have.
    pub fn new(reference: TargetRef, labels: &[Label<'_>]) -> Result<Self, ScrapeError> {
        let full = |problem| ScrapeError::LabelsFull { line: 0, problem };
        let mut set = Labels::new(MAX_SERIES_TEXT_BYTES);
        for label in labels.iter().filter(|label| !label.name.starts_with("__")) {
            set.set(label.name, label.value).map_err(full)?;
        }
        set.remove_empty();
        let mut body = TextBuf::new(MAX_SERIES_TEXT_BYTES);
        set.write_body(&mut body).map_err(|_| {
            full(crate::labels::LabelsFull::Text {
                limit: MAX_SERIES_TEXT_BYTES,
            })
        })?;
        let labels: Box<[(Box<str>, Box<str>)]> = set
            .iter()
            .map(|label| (label.name.into(), label.value.into()))
            .collect();
        // A label set holds at most `MAX_LABELS` labels, which fits a byte.
        let mut by_length: Vec<u8> = (0..labels.len() as u8).collect();
        by_length.sort_by_key(|&index| labels[usize::from(index)].0.len());
        Ok(Self {
            reference,
            job: 0,
            interval_ms: 60_000,
            timeout_ms: 10_000,
            honor_labels: false,
            honor_timestamps: true,
            out_of_order_ms: 0,
            track_timestamps_staleness: false,
            limits: Limits::default(),
            extra_metrics: false,
            meaning: 0,
            names: NameScheme::default(),
            protocols: DEFAULT_PROTOCOLS.into(),
            escaping: EscapingScheme::default(),
            histograms: Histograms::default(),
            convert_classic: false,
            resolution: Resolution::default(),
            start_times: false,
            fallback: None,
            metric_relabel: Relabel::default(),
            body: String::from(body.as_str()).into_boxed_str(),
            labels,
            by_length: by_length.into_boxed_slice(),
        })
    }

    /// Its labels as canonical body, for [`crate::catalogue::Catalogue::set_target`].
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Its labels, sorted by name.
    pub fn labels(&self) -> impl Iterator<Item = Label<'_>> + Clone {
        self.labels.iter().map(|(name, value)| Label { name, value })
    }

    /// Its labels, shortest name first (SCR-502).
    pub(super) fn labels_by_length(&self) -> impl Iterator<Item = Label<'_>> {
        self.by_length.iter().map(|&index| {
            let (name, value) = &self.labels[usize::from(index)];
            Label { name, value }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_LABELS;
    use alloc::format;

    fn label<'a>(name: &'a str, value: &'a str) -> Label<'a> {
        Label { name, value }
    }

    #[test]
    fn labels_are_sorted_and_internal_ones_left_out() {
        let labels = [
            label("job", "node"),
            label("__address__", "h:1"),
            label("a", "x\"y"),
            label("none", ""),
            label("instance", "h:1"),
        ];
        let target = Target::new(TargetRef(3), &labels).unwrap();
        assert_eq!(target.body(), "a=\"x\\\"y\",instance=\"h:1\",job=\"node\"");
        let names: Vec<_> = target.labels_by_length().map(|label| label.name).collect();
        assert_eq!(names, ["a", "job", "instance"]);
    }

    #[test]
    fn too_many_labels_are_an_error() {
        let names: Vec<_> = (0..=MAX_LABELS).map(|i| format!("l{i}")).collect();
        let labels: Vec<_> = names.iter().map(|name| label(name, "x")).collect();
        assert!(Target::new(TargetRef(0), &labels[..MAX_LABELS]).is_ok());
        assert!(matches!(
            Target::new(TargetRef(0), &labels),
            Err(ScrapeError::LabelsFull { .. })
        ));
    }
}
