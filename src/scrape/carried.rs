//! What samples carry beside their values, on its way into the frame: exemplars, start times, native histograms.
//!
//! None of it can fail a scrape: what is refused is counted (native histograms that exceed `native_histogram_bucket_limit` are the
//! session's business). An exemplar is refused if its labels have more than [`MAX_EXEMPLAR_CHARS`] characters, if it is the last
//! one of its series again, or if it is older than that (SCR-843). What is remembered of the last exemplar are 8 bytes in the series
//! table, and only where some remote wants exemplars; a scrape that fails leaves them as they were.
//!
//! # Start times
//!
//! Only where `tidegate.start_timestamps` asks for them; otherwise `_created` is a series like any other (SCR-846). In OpenMetrics
//! the line stands behind the samples of its label set: the start time goes to the samples since that label set began. Label sets are
//! compared as exposed, order aside, without `le` and `quantile`. A `_created` line without samples before it is hidden and
//! tells nothing.
//!
//! # Differences to Prometheus
//!
//! Its agent sends an exemplar that is older than the last one of its series, and so the exemplars of a native histogram at every
//! scrape; receivers refuse them.
//!
//! Sources: SCR-841 to SCR-846.

use super::labels::LabelBuilder;
use super::session::Tally;
use crate::exposition::Exemplar;
use crate::extras::Extra;
use crate::frame::{Bounded, Frame};
use crate::hash::hash64;
use crate::sample::{MetricType, SeriesRef};
use crate::series::{LastExemplar, SeriesTable};

/// Characters of an exemplar's label names and values together (OpenMetrics 1.0, "Exemplars").
pub(super) const MAX_EXEMPLAR_CHARS: usize = 128;

/// The sample that what comes next belongs to.
#[derive(Clone, Copy, Debug)]
struct Carrier {
    series: SeriesRef,
    position: u16,
    /// The exemplar that its series was given in this scrape.
    last: Option<LastExemplar>,
}

/// Samples of one label set, for a `_created` line.
#[derive(Clone, Copy, Debug)]
struct Run {
    labels: u64,
    /// Position of the first.
    first: u16,
}

/// State of one scrape.
#[derive(Debug)]
pub(super) struct Carried {
    /// Remote write's message of a native histogram.
    pub(super) message: Bounded<u8>,
    carrier: Option<Carrier>,
    run: Option<Run>,
}

impl Carried {
    /// Room for the message of one native histogram. Allocates; the only call here that does.
    pub(super) fn new(message_bytes: usize) -> Self {
        Self {
            message: Bounded::with_capacity(message_bytes),
            carrier: None,
            run: None,
        }
    }

    /// A scrape or a family begins.
    pub(super) fn reset(&mut self) {
        self.carrier = None;
        self.run = None;
    }

    /// What comes next belongs to a sample that is not in the frame.
    pub(super) fn not_taken(&mut self) {
        self.carrier = None;
    }

    /// What comes next belongs to the sample of `series` that was put into `frame` last.
    pub(super) fn taken(&mut self, series: SeriesRef, frame: &Frame) {
        // A frame holds at most 65,536 samples, and one was pushed.
        let position = frame.samples.len().saturating_sub(1) as u16;
        self.carrier = Some(Carrier {
            series,
            position,
            last: None,
        });
    }

    /// The sample carries this start time.
    pub(super) fn start_time(&self, unix_ms: i64, frame: &mut Frame, tally: &mut Tally) {
        if let Some(carrier) = self.carrier
            && frame.extras.push_start_time(carrier.position, unix_ms).is_err()
        {
            tally.start_times_lost += 1;
        }
    }

    /// The sample carries this exemplar, if it is one to keep.
    pub(super) fn exemplar(
        &mut self,
        exemplar: &Exemplar<'_>,
        builder: &mut LabelBuilder,
        (table, frame): (&SeriesTable, &mut Frame),
        tally: &mut Tally,
    ) {
        let Some(carrier) = self.carrier.as_mut().filter(|_| table.keeps_exemplars()) else {
            return;
        };
        let Some((labels, chars)) = builder.exemplar(exemplar.labels) else {
            tally.exemplars.invalid += 1;
            return;
        };
        if chars > MAX_EXEMPLAR_CHARS {
            tally.exemplars.too_long += 1;
            return;
        }
        let value = exemplar.value.to_bits();
        let this = fingerprint(labels, value, exemplar.timestamp_ms);
        match carrier.last.or_else(|| table.last_exemplar(carrier.series)) {
            Some(last) if last.hash == this.hash => tally.exemplars.duplicate += 1,
            Some(last) if is_older(this, last) => tally.exemplars.out_of_order += 1,
            _ => match frame
                .extras
                .push_exemplar(carrier.position, exemplar.timestamp_ms, value, labels)
            {
                Ok(()) => {
                    tally.exemplars.kept += 1;
                    carrier.last = Some(this);
                }
                Err(_) => tally.exemplars.no_room += 1,
            },
        }
    }

    /// A sample line of OpenMetrics is about to be taken, with the family and type of the TYPE line above. True: it is a `_created`
    /// line, is dealt with, and counts as no sample.
    pub(super) fn created_line(
        &mut self,
        (raw, seconds): (&[u8], f64),
        (family, kind): (&str, MetricType),
        frame: &mut Frame,
        tally: &mut Tally,
    ) -> bool {
        let has_start = matches!(kind, MetricType::Counter | MetricType::Histogram | MetricType::Summary);
        let Some(suffix) = name_of(raw).strip_prefix(family.as_bytes()).filter(|_| has_start) else {
            self.run = None;
            return false;
        };
        let labels = labels_hash(raw);
        // Below 65,536 by the capacity of a frame.
        let end = frame.samples.len().min(usize::from(u16::MAX)) as u16;
        if suffix != b"_created" {
            if self.run.is_none_or(|run| run.labels != labels) {
                self.run = Some(Run { labels, first: end });
            }
            return false;
        }
        // Out of range saturates; what is no number becomes 0, which is "not known".
        let unix_ms = (seconds * 1000.0) as i64;
        if let Some(run) = self.run.take().filter(|run| run.labels == labels && unix_ms != 0) {
            for position in run.first..end {
                if frame.extras.push_start_time(position, unix_ms).is_err() {
                    tally.start_times_lost += 1;
                }
            }
        }
        true
    }
}

/// The frame is going to be kept: remembers the last exemplar of each series.
pub(super) fn remember_exemplars(frame: &Frame, table: &mut SeriesTable) {
    if !table.keeps_exemplars() {
        return;
    }
    for extra in frame.extras.iter() {
        if let Extra::Exemplar {
            position,
            unix_ms,
            value,
            labels,
        } = extra
            && let Some(sample) = frame.samples.get(usize::from(position))
        {
            table.set_last_exemplar(sample.series, fingerprint(labels, value, unix_ms));
        }
    }
}

/// Two exemplars with the same fingerprint are the same one. A time that the exemplar does not have itself does not count.
fn fingerprint(labels: &str, value: u64, unix_ms: Option<i64>) -> LastExemplar {
    let time = unix_ms.unwrap_or(i64::MIN) as u64;
    let hash = hash64(hash64(value, &time.to_le_bytes()), labels.as_bytes());
    LastExemplar {
        // 0 is "none".
        hash: (hash as u32).max(1),
        time: unix_ms.map_or(0, |ms| (ms as u32).max(1)),
    }
}

/// By their times, if both have one. Sequence arithmetic over 32 bits of milliseconds: right within 24 days, and an exemplar that has
/// not changed for longer is followed by a new one that is taken or, at worst, refused as old until the next.
fn is_older(this: LastExemplar, last: LastExemplar) -> bool {
    this.time != 0 && last.time != 0 && (this.time.wrapping_sub(last.time) as i32) < 0
}

/// The metric name of a series as exposed, without quotes.
fn name_of(raw: &[u8]) -> &[u8] {
    let quoted = raw.strip_prefix(b"{\"");
    let (text, ends): (&[u8], &[u8]) = quoted.map_or((raw, b"{"), |rest| (rest, b"\""));
    let end = text.iter().position(|byte| ends.contains(byte));
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// Hash of the labels of a series as exposed but `le`, `quantile` and the name; the same in any order.
fn labels_hash(raw: &[u8]) -> u64 {
    let start = raw.iter().position(|&byte| byte == b'{').map_or(raw.len(), |at| at + 1);
    let inside = raw.get(start..).unwrap_or_default();
    let inside = inside.strip_suffix(b"}").unwrap_or(inside);
    let (mut sum, mut piece_start, mut quoted, mut escaped) = (0_u64, 0, false, false);
    for at in 0..=inside.len() {
        match inside.get(at) {
            Some(_) if escaped => escaped = false,
            Some(b'\\') if quoted => escaped = true,
            Some(b'"') => quoted = !quoted,
            Some(b',') | None if !quoted || at == inside.len() => {
                let piece = inside.get(piece_start..at).unwrap_or_default();
                piece_start = at + 1;
                let named = piece.ends_with(b"\"") && !piece.starts_with(b"\"") || is_quoted_label(piece);
                if named && !piece.starts_with(b"le=") && !piece.starts_with(b"quantile=") {
                    sum = sum.wrapping_add(hash64(0, piece));
                }
            }
            _ => {}
        }
    }
    sum
}

/// Whether `"name"="value"`, not the metric name alone.
fn is_quoted_label(piece: &[u8]) -> bool {
    piece.windows(3).any(|window| window == b"\"=\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_the_same_in_any_order_and_without_bounds() {
        let same: &[&[u8]] = &[
            b"a_bucket{x=\"1\",le=\"0.5\",y=\"a,}\\\"\"}",
            b"a_count{y=\"a,}\\\"\",x=\"1\"}",
            b"{\"a_sum\",x=\"1\",y=\"a,}\\\"\",}",
            b"a{quantile=\"0.5\",x=\"1\",y=\"a,}\\\"\"}",
        ];
        for text in same {
            assert_eq!(labels_hash(text), labels_hash(same[0]), "{}", text.escape_ascii());
        }
        let others: &[&[u8]] = &[
            b"a{x=\"1\"}",
            b"a{x=\"2\",y=\"a,}\\\"\"}",
            b"a",
            b"a{x=\"1\",y=\"a,}\\\"\",\"z.z\"=\"1\"}",
        ];
        for text in others {
            assert_ne!(labels_hash(text), labels_hash(same[0]), "{}", text.escape_ascii());
        }
        assert_eq!(labels_hash(b"a"), labels_hash(b"a_created{}"));
        assert_eq!(labels_hash(b"a{le=\"1\"}"), 0);
    }

    #[test]
    fn names_are_found_quoted_or_not() {
        for (raw, name) in [
            ("a_b{c=\"d\"}", "a_b"),
            ("a", "a"),
            ("{\"a.b\",c=\"d\"}", "a.b"),
            ("{\"a.b\"}", "a.b"),
            ("", ""),
        ] {
            assert_eq!(name_of(raw.as_bytes()), name.as_bytes());
        }
    }

    #[test]
    fn age_is_by_time_where_there_is_one() {
        let at = |unix_ms| fingerprint("a=\"b\"", 1, unix_ms);
        assert!(is_older(at(Some(1_700_000_000_000)), at(Some(1_700_000_000_001))));
        assert!(!is_older(at(Some(1_700_000_000_001)), at(Some(1_700_000_000_000))));
        assert!(!is_older(at(None), at(Some(1_700_000_000_001))));
        assert!(!is_older(at(Some(1)), at(None)));
        assert_ne!(at(None).hash, at(Some(5)).hash);
        assert_ne!(at(None).hash, fingerprint("a=\"b\"", 2, None).hash);
    }
}
