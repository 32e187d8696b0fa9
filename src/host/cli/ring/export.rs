//! `tidegate ring export`: the samples of any image as OpenMetrics text.
//!
//! For `promtool tsdb create-blocks-from openmetrics`: a box that will never be online again still gives up its data. Reads
//! only, through the decoder the drain uses.
//!
//! OpenMetrics wants all samples of a family together, the ring has them by time. So it is read once to learn which
//! series there are and how many samples each has, then once more for every [`PASS_SAMPLES`] samples wanted. Nothing is
//! written but the text.
//!
//! What is exported is what would have been sent, without external labels and `write_relabel_configs`: the scraped samples and the
//! series of the scrapes themselves (`up` and the like). Not exported, but counted on standard error:
//!
//! - staleness markers: the text has no form for them;
//! - native histograms: OpenMetrics 1.0 has none (`--to` sends them);
//! - exemplars of those, and all but the first of a sample: a line has room for one. Start times are not written;
//! - samples whose wall time the ring does not know (a boot that never had a clock);
//! - samples of a series at a time for which it already has one;
//! - frames that cannot be read.
//!
//! # Memory
//!
//! 64 MiB for samples, the names and labels of all series selected (about 200 bytes each), and what
//! [`crate::wal::values`] takes.

use super::openmetrics;
use super::selection::Selection;
use super::send::send;
use crate::catalogue::SeriesText;
use crate::extras::Extra;
use crate::frame::Frame;
use crate::host::cli::EXIT_CONFIGURATION;
use crate::host::cli::args::RingExport;
use crate::limits::{MAX_SERIES, MAX_TARGETS};
use crate::relabel::Relabel;
use crate::remote_write::batch::{SYNTHETIC, synthetic_values};
use crate::remote_write::identity::Identity;
use crate::sample::{Number, SeriesRef};
use crate::wal::storage::Storage;
use crate::wal::values::{FrameReader, Read};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use std::io::{self, Write};
use std::process::ExitCode;

/// Samples held at once, 16 bytes each. A single series with more is held whole.
const PASS_SAMPLES: u64 = 4 << 20;

/// Bytes of text gathered before they are written.
const TEXT_BYTES: usize = 64 * 1024;

/// Runs the command.
pub fn run(arguments: &RingExport) -> ExitCode {
    let selection = Selection::parse(
        arguments.from.as_deref(),
        arguments.until.as_deref(),
        &arguments.target,
        arguments.remote_unacknowledged_only,
    );
    let selection = match selection {
        Ok(selection) => selection,
        Err(error) => {
            std::eprintln!("tidegate: {error}");
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let mut reader = match super::inspect::open(&arguments.path) {
        Ok(inspector) => FrameReader::new(inspector),
        Err(error) => return super::failed(&error),
    };
    if let Some(url) = &arguments.to {
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            std::eprintln!(
                "tidegate: --to: found {url:?}, expected an http:// or https:// URL; the time to stop before is --until"
            );
            return ExitCode::from(EXIT_CONFIGURATION);
        }
        return match send(&mut reader, &selection, url, arguments) {
            Ok(sent) => {
                std::eprintln!("{}: {sent}", arguments.path);
                if sent.is_whole() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                }
            }
            Err(error) => super::failed(&error),
        };
    }
    match export(&mut reader, &selection, PASS_SAMPLES, &mut io::stdout().lock()) {
        Ok(tally) => {
            std::eprintln!("{}: {tally}", arguments.path);
            ExitCode::SUCCESS
        }
        Err(error) => super::failed(&alloc::format!("write: {error}")),
    }
}

/// What was written, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    samples: u64,
    series: u64,
    exemplars: u64,
    markers: u64,
    histograms: u64,
    exemplars_left: u64,
    timeless: u64,
    duplicates: u64,
    nameless: u64,
    unreadable: u64,
}

impl core::fmt::Display for Tally {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} samples of {} series written", self.samples, self.series)?;
        if self.exemplars > 0 {
            write!(f, ", {} exemplars", self.exemplars)?;
        }
        let left_out = [
            (self.markers, "staleness markers"),
            (self.histograms, "native histograms"),
            (self.exemplars_left, "exemplars"),
            (self.timeless, "samples of unknown time"),
            (self.duplicates, "samples at a time their series already had"),
            (self.nameless, "samples whose labels cannot be made"),
            (self.unreadable, "frames that cannot be read"),
        ];
        let mut before = "; left out: ";
        for (count, what) in left_out.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{before}{count} {what}")?;
            before = ", ";
        }
        Ok(())
    }
}

/// Number of a series over the whole export.
type Id = u32;
/// Not asked yet.
const UNKNOWN: Id = Id::MAX;
/// Asked, and it has no labels that could be written.
const NAMELESS: Id = Id::MAX - 1;

/// Gives series of the ring, whose references come and go, a number for good.
struct Names {
    /// By name, then labels.
    ids: BTreeMap<(String, String), Id>,
    /// For every reference, then for every synthetic series of every target.
    cache: Vec<Id>,
    generation: u64,
    identity: Identity,
}

impl Names {
    fn new() -> Self {
        Self {
            ids: BTreeMap::new(),
            cache: vec![UNKNOWN; MAX_SERIES + MAX_TARGETS * SYNTHETIC.len()],
            generation: 0,
            identity: Identity::new(&[], Relabel::default()),
        }
    }

    /// Number of the series in place `place` of the cache.
    fn id(&mut self, read: &mut Read<'_>, place: usize) -> Id {
        if self.generation != read.generation {
            self.generation = read.generation;
            self.cache.fill(UNKNOWN);
        }
        let Some(&known) = self.cache.get(place) else {
            return NAMELESS;
        };
        if known != UNKNOWN {
            return known;
        }
        let found = self.resolve(read, place).unwrap_or(NAMELESS);
        self.cache[place] = found;
        found
    }

    fn resolve(&mut self, read: &mut Read<'_>, place: usize) -> Option<Id> {
        let target = read.frame.target;
        let (text, target_body) = match place.checked_sub(MAX_SERIES) {
            // A reference has 16 bits: the cache is no longer than that.
            None => {
                let found = read.catalogue.definition(SeriesRef(place as u16), target)?;
                (found.text, found.target_body)
            }
            Some(synthetic) => {
                let name = SYNTHETIC[synthetic % SYNTHETIC.len()];
                (SeriesText { name, body: "" }, read.catalogue.target_body(target))
            }
        };
        let labels = self.identity.resolve(text, target_body).ok()??;
        let mut body = String::new();
        labels.write_body(&mut body).ok()?;
        let next = self.ids.len() as Id;
        Some(*self.ids.entry((labels.metric_name().into(), body)).or_insert(next))
    }
}

/// Place in [`Names`]' cache, value and time of every sample of a frame; `None`: it is a native histogram; the time is not known.
fn samples(frame: &Frame) -> impl Iterator<Item = (usize, Option<Number>, Option<i64>)> + '_ {
    let mut explicit = frame.explicit.iter().peekable();
    let histogram = |extra| match extra {
        Extra::Histogram { position, .. } => Some(usize::from(position)),
        _ => None,
    };
    let mut histograms = frame.extras.iter().filter_map(histogram).peekable();
    let own = frame.samples.iter().enumerate().map(move |(position, sample)| {
        let time = explicit.next_if(|time| usize::from(time.position) == position);
        let time = time.map(|time| time.unix_ms).or(frame.unix_ms);
        let native = histograms.next_if(|&native| native == position);
        let number = native.is_none().then_some(sample.number);
        (usize::from(sample.series.0), number, time)
    });
    let first = MAX_SERIES + usize::from(frame.target.0) * SYNTHETIC.len();
    let values = synthetic_values(frame).into_iter().enumerate();
    own.chain(values.map(move |(index, number)| (first + index, Some(number), frame.unix_ms)))
}

/// Position of the sample, and text, of every exemplar of a frame whose sample's time is known.
fn exemplars(frame: &Frame) -> impl Iterator<Item = (usize, String)> + '_ {
    frame.extras.iter().filter_map(|extra| match extra {
        Extra::Exemplar {
            position,
            unix_ms,
            value,
            labels,
        } => {
            let mut text = String::new();
            // Strings grow.
            let written = openmetrics::exemplar(labels, value, unix_ms, &mut text);
            written.ok().map(|()| (usize::from(position), text))
        }
        _ => None,
    })
}

/// Writes everything selected, at most `pass_samples` samples per pass over the ring.
fn export<S: Storage>(
    reader: &mut FrameReader<S>,
    selection: &Selection,
    pass_samples: u64,
    out: &mut impl Write,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let mut names = Names::new();
    let mut counts: Vec<u64> = Vec::new();
    let mut seen = 0;
    tally.unreadable = each_selected(reader, selection, |read| {
        tally.markers += read.frame.stale.len() as u64;
        seen += exemplars(read.frame).count() as u64;
        for (place, number, time) in samples(read.frame) {
            match time {
                None => tally.timeless += 1,
                Some(time) if !selection.has_time(time) => {}
                Some(_) if number.is_none() => tally.histograms += 1,
                Some(_) if number.is_some_and(Number::is_stale) => tally.markers += 1,
                Some(_) => match names.id(read, place) {
                    NAMELESS => tally.nameless += 1,
                    id => {
                        counts.resize(counts.len().max(id as usize + 1), 0);
                        counts[id as usize] += 1;
                    }
                },
            }
        }
    });
    // In the order of names, so that families and series stand together.
    let order: Vec<((String, String), Id)> = names.ids.iter().map(|(key, &id)| (key.clone(), id)).collect();
    let mut writer = Text::new(out);
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        let (group, later) = rest.split_at(group_len(rest, &counts, pass_samples));
        rest = later;
        let mut gathered = gather(reader, selection, &mut names, group, &counts);
        for (((name, body), _), Points { points, exemplars }) in group.iter().zip(&mut gathered) {
            // Stable: of two samples at one time the one scraped first stays.
            points.sort_by_key(|&(time, _)| time);
            let all = points.len();
            points.dedup_by_key(|&mut (time, _)| time);
            tally.duplicates += (all - points.len()) as u64;
            tally.samples += points.len() as u64;
            tally.series += 1;
            exemplars.sort_by_key(|&(time, _)| time);
            tally.exemplars += writer.series(name, body, points, exemplars)?;
        }
    }
    tally.exemplars_left = seen - tally.exemplars;
    writer.end()?;
    Ok(tally)
}

/// How many series of `rest` one pass takes: at least one.
fn group_len(rest: &[((String, String), Id)], counts: &[u64], pass_samples: u64) -> usize {
    let mut sum = 0_u64;
    let fitting = rest.iter().take_while(|(_, id)| {
        sum = sum.saturating_add(counts.get(*id as usize).copied().unwrap_or(0));
        sum <= pass_samples
    });
    fitting.count().max(1)
}

/// Calls `visit` for every frame of a wanted target. Returns how many frames cannot be read.
pub(super) fn each_selected<S: Storage>(
    reader: &mut FrameReader<S>,
    selection: &Selection,
    mut visit: impl FnMut(&mut Read<'_>),
) -> u64 {
    let acknowledged = reader.summary().acknowledged;
    let mut wanted: [Option<bool>; MAX_TARGETS] = [None; MAX_TARGETS];
    let mut generation = 0;
    reader.for_each(|read| {
        if selection.unacknowledged_only && read.frame.number < acknowledged {
            return;
        }
        if generation != read.generation {
            generation = read.generation;
            wanted = [None; MAX_TARGETS];
        }
        let Some(wanted) = wanted.get_mut(usize::from(read.frame.target.0)) else {
            return;
        };
        let is_wanted =
            *wanted.get_or_insert_with(|| selection.has_target(read.catalogue.target_body(read.frame.target)));
        if is_wanted {
            visit(read);
        }
    })
}

/// Times and values of the series of `group`, in its order.
fn gather<S: Storage>(
    reader: &mut FrameReader<S>,
    selection: &Selection,
    names: &mut Names,
    group: &[((String, String), Id)],
    counts: &[u64],
) -> Vec<Points> {
    let mut points: Vec<Points> = Vec::with_capacity(group.len());
    let mut place_of = vec![usize::MAX; names.ids.len()];
    for (place, (_, id)) in group.iter().enumerate() {
        place_of[*id as usize] = place;
        let count = counts.get(*id as usize).copied().unwrap_or(0);
        points.push(Points {
            points: Vec::with_capacity(usize::try_from(count).unwrap_or(0)),
            exemplars: Vec::new(),
        });
    }
    // Generations begin anew with every pass.
    names.generation = 0;
    each_selected(reader, selection, |read| {
        let mut exemplars = exemplars(read.frame).peekable();
        for (position, (place, number, time)) in samples(read.frame).enumerate() {
            let number = number.filter(|number| !number.is_stale());
            let (Some(time), Some(number)) = (time.filter(|&time| selection.has_time(time)), number) else {
                continue;
            };
            let id = names.id(read, place);
            let wanted = place_of.get(id as usize).and_then(|&place| points.get_mut(place));
            if let Some(points) = wanted {
                points.points.push((time, number.to_bits()));
                while exemplars.next_if(|&(of, _)| of < position).is_some() {}
                while let Some((_, text)) = exemplars.next_if(|&(of, _)| of == position) {
                    points.exemplars.push((time, text));
                }
            }
        }
    });
    points
}

/// What is gathered of one series.
struct Points {
    /// Times and bits.
    points: Vec<(i64, u64)>,
    /// Times of the samples that have one, and texts.
    exemplars: Vec<(i64, String)>,
}

/// Writes text in large pieces.
struct Text<'a, W> {
    out: &'a mut W,
    text: String,
    /// Family that was begun last.
    family: Option<String>,
}

impl<'a, W: Write> Text<'a, W> {
    fn new(out: &'a mut W) -> Self {
        Self {
            out,
            text: String::new(),
            family: None,
        }
    }

    /// Returns how many exemplars were written: one for each sample that has any.
    fn series(
        &mut self,
        name: &str,
        body: &str,
        points: &[(i64, u64)],
        exemplars: &[(i64, String)],
    ) -> io::Result<u64> {
        if self.family.as_deref() != Some(name) {
            openmetrics::family(name, &mut self.text).map_err(io::Error::other)?;
            self.family = Some(name.into());
        }
        let mut labels = String::new();
        openmetrics::series(name, body, &mut labels).map_err(io::Error::other)?;
        let mut exemplars = exemplars.iter().peekable();
        let mut written = 0;
        for &(time, bits) in points {
            self.text.push_str(&labels);
            openmetrics::point(bits, time, &mut self.text).map_err(io::Error::other)?;
            let mut first = true;
            while let Some((_, text)) = exemplars.next_if(|(of, _)| *of <= time) {
                if core::mem::take(&mut first) {
                    self.text.push_str(text);
                    written += 1;
                }
            }
            self.text.push('\n');
            if self.text.len() >= TEXT_BYTES {
                self.flush()?;
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        self.text.push_str(openmetrics::END);
        self.flush()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
