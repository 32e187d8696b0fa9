//! Frames to drain and bodies to look into, for the tests of this module.

use super::batch::{BatchLimits, Bounds, MIN_BODY_BYTES, Sends, UnknownTime};
use super::proto::Reader;
use super::response::Protocol;
use crate::catalogue::{Catalogue, Names, SeriesText};
use crate::frame::{ExplicitTime, Frame, FrameNo, FrameSource, Next, Notes, ScrapeCounts};
use crate::sample::{MetricType, Number, Sample, SeriesRef, TargetRef};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Values only of so many series, all of them in one frame at most.
pub const fn limits(max_series: usize) -> BatchLimits {
    BatchLimits {
        samples: 100,
        body_bytes: MIN_BODY_BYTES,
        max_series,
        max_targets: 4,
        frame_samples: max_series,
        extras_bytes: 0,
        sends: Sends {
            histograms: false,
            exemplars: false,
        },
        families: 0,
    }
}

/// Whatever fits.
pub const NO_BOUNDS: Bounds = Bounds {
    samples: usize::MAX,
    frames: usize::MAX,
    end: None,
    oldest: None,
    unknown_time: UnknownTime::Hold,
    latest: None,
};

/// A frame as a test writes it down.
#[derive(Clone, Debug)]
pub struct Scrape {
    pub number: u64,
    pub target: u8,
    pub up: bool,
    pub unix_ms: Option<i64>,
    /// When its boot began, as the clock has it.
    pub boot_ms: i64,
    /// Series and value.
    pub samples: Vec<(u16, i64)>,
    /// Position and time.
    pub explicit: Vec<(u16, i64)>,
    pub stale: Vec<u16>,
    /// What the samples carry, as on flash.
    pub extras: Vec<u8>,
    pub notes: Notes,
}

impl Scrape {
    pub fn new(number: u64, unix_ms: i64, samples: &[(u16, i64)]) -> Self {
        Self {
            number,
            target: 0,
            up: true,
            unix_ms: Some(unix_ms),
            boot_ms: 0,
            samples: samples.to_vec(),
            explicit: Vec::new(),
            stale: Vec::new(),
            extras: Vec::new(),
            notes: Notes::default(),
        }
    }

    fn fill(&self, frame: &mut Frame) {
        let time_ms = self.unix_ms.unwrap_or_default().saturating_sub(self.boot_ms);
        frame.reset(
            TargetRef(self.target),
            u64::try_from(time_ms).expect("scraped after the boot"),
        );
        frame.number = FrameNo(self.number);
        frame.up = self.up;
        frame.unix_ms = self.unix_ms;
        frame.duration_100us = 125;
        frame.notes = self.notes;
        let n = self.samples.len() as u32;
        frame.counts = ScrapeCounts {
            scraped: n,
            post_relabel: n,
            added: 0,
        };
        for &(series, value) in &self.samples {
            let sample = Sample {
                number: Number::decimal(value, 0),
                series: SeriesRef(series),
            };
            frame.samples.push(sample).expect("test frame fits");
        }
        for &(position, unix_ms) in &self.explicit {
            frame
                .explicit
                .push(ExplicitTime { position, unix_ms })
                .expect("test frame fits");
        }
        for &series in &self.stale {
            frame.stale.push(SeriesRef(series)).expect("test frame fits");
        }
        let taken = frame.extras.set_bytes(&self.extras);
        taken.expect("test frame fits").expect("they are extras");
    }
}

/// A source over a list.
#[derive(Debug)]
pub struct Frames {
    pub scrapes: Vec<Scrape>,
    pub catalogue: Catalogue,
    /// A boundary comes before each of these frames.
    pub boundaries: Vec<u64>,
    /// Announced and not crossed yet.
    crossed: Option<u64>,
    pub position: u64,
    /// So many calls of `next` fail.
    pub failures: usize,
    pub seeks: usize,
}

impl Frames {
    /// Target 0 is `instance="box",job="node"`; series i of it is `metric_i{n="i"}`, a gauge.
    pub fn new(series: u16) -> Self {
        Self::over_targets(series, 1)
    }

    /// As [`Frames::new`], series i belongs to target `i % targets`.
    pub fn over_targets(series: u16, targets: u16) -> Self {
        let mut catalogue = Catalogue::new(usize::from(series), usize::from(series) * 64 + 1000, 4);
        for t in 0..4 {
            let instance = ["box", "box1", "box2", "box3"][usize::from(t)];
            let body = format!(r#"instance="{instance}",job="node""#);
            catalogue.set_target(TargetRef(t), &body).expect("fits");
        }
        for i in 0..series {
            let (name, body) = (format!("metric_{i}"), format!(r#"n="{i}""#));
            let text = SeriesText {
                name: &name,
                body: &body,
            };
            let target = TargetRef((i % targets) as u8);
            let found = catalogue.define(target, text, MetricType::Gauge).expect("fits");
            assert_eq!(found, SeriesRef(i));
        }
        Self {
            scrapes: Vec::new(),
            catalogue,
            boundaries: Vec::new(),
            crossed: None,
            position: 0,
            failures: 0,
            seeks: 0,
        }
    }
}

impl FrameSource for Frames {
    type Error = &'static str;

    fn next(&mut self, frame: &mut Frame) -> Result<Next, Self::Error> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err("medium");
        }
        let at = self.scrapes.partition_point(|s| s.number < self.position);
        let Some(scrape) = self.scrapes.get(at) else {
            return Ok(Next::End);
        };
        let number = scrape.number;
        if self.boundaries.contains(&number) && self.crossed != Some(number) {
            self.crossed = Some(number);
            return Ok(Next::Boundary);
        }
        scrape.fill(frame);
        self.position = number + 1;
        Ok(Next::Frame)
    }

    fn seek(&mut self, at: FrameNo) {
        self.seeks += 1;
        self.position = at.0;
    }

    fn end(&self) -> Option<FrameNo> {
        Some(FrameNo(self.scrapes.last().map_or(0, |scrape| scrape.number + 1)))
    }

    fn names(&mut self) -> Names<'_> {
        Names::Catalogue(&mut self.catalogue)
    }
}

/// One series entry of a decoded body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// `name=value;` for each label.
    pub labels: String,
    /// Bits and time.
    pub samples: Vec<(u64, i64)>,
    /// Start timestamp of each, 0 where there is none.
    pub starts: Vec<i64>,
    pub kind: MetricType,
}

/// Reads a body with the crate's own reader and checks the rules every request has to keep.
pub fn decode(body: &[u8], protocol: Protocol) -> Vec<Sent> {
    let mut index = alloc::vec![(0, 0); 1000];
    let mut reader = Reader::new(body, protocol, &mut index).expect("well-formed");
    let symbols: Vec<&str> = reader.symbols().map(|s| s.expect("UTF-8")).collect();
    if protocol == Protocol::V2 {
        assert_eq!(symbols.first(), Some(&""), "symbol 0 is the empty string");
        let distinct: alloc::collections::BTreeSet<_> = symbols.iter().collect();
        assert_eq!(distinct.len(), symbols.len(), "symbols are not repeated");
    }
    let mut all = Vec::new();
    while let Some(series) = reader.next_series().expect("well-formed") {
        let mut names: Vec<&str> = Vec::new();
        let mut labels = String::new();
        let each = |name, value| {
            assert!(!str::is_empty(name) && !str::is_empty(value), "label without text");
            assert!(
                names.last().is_none_or(|&last| last < name),
                "labels are sorted and unique"
            );
            names.push(name);
            labels += &format!("{name}={value};");
        };
        series.labels(each).expect("well-formed");
        let mut samples: Vec<(u64, i64)> = Vec::new();
        let mut starts = Vec::new();
        let each = |bits, time, start| {
            assert!(
                samples.last().is_none_or(|&(_, last)| last < time),
                "samples are in order"
            );
            samples.push((bits, time));
            starts.push(start);
        };
        series.samples(each).expect("well-formed");
        all.push(Sent {
            labels,
            samples,
            starts,
            kind: series.kind().expect("well-formed"),
        });
    }
    all
}

/// The value of label `name` in [`Sent::labels`].
pub fn label<'a>(sent: &'a Sent, name: &str) -> Option<&'a str> {
    let prefix = name.to_string() + "=";
    sent.labels.split(';').find_map(|l| l.strip_prefix(&*prefix))
}
