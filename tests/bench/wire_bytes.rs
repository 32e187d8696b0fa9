//! Bytes on the wire and nanoseconds per sample of recorded scrapes, batch by batch size.
//!
//! `cargo bench --bench wire_bytes -- FILE.cap.gz...` (without files: the small captures of the tests). One line per file,
//! message, layout and batch size: samples per request, uncompressed and compressed bytes per sample (HTTP and TLS come on
//! top, some 300 bytes a request), nanoseconds per sample to gather and seal, and to compress.

#[path = "../common/capture.rs"]
mod capture;

use capture::Capture;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tidegate::catalogue::{Catalogue, Names, SeriesText};
use tidegate::frame::{Frame, FrameNo, FrameSource, Next, ScrapeCounts};
use tidegate::host::snappy::{Snappy, output_bytes};
use tidegate::remote_write::Compressor;
use tidegate::remote_write::batch::{Batch, BatchLimits, Bounds, Layout, Place, Sends, UnknownTime};
use tidegate::remote_write::identity::Identity;
use tidegate::remote_write::response::Protocol;
use tidegate::sample::{MetricType, SeriesRef, TargetRef};

const START_MS: i64 = 1_795_000_000_000;
const INTERVAL_MS: i64 = 15_000;
/// Passes over a capture per line; the fastest counts.
const ROUNDS: usize = 5;
const BODY_BYTES: usize = 4 << 20;

fn main() {
    // `cargo bench` adds `--bench`.
    let mut files: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .map(PathBuf::from)
        .collect();
    if files.is_empty() {
        let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata/captures");
        let entries = std::fs::read_dir(samples).expect("test data is part of the repository");
        files = entries
            .map(|entry| entry.expect("directory can be read").path())
            .collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
        files.sort();
    }
    println!(
        "{:<28} {:<8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7}",
        "capture", "", "limit", "samples", "raw B", "wire B", "batch", "snappy"
    );
    for file in files {
        let capture = Capture::read(&file);
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (protocol, layout, frames, limit) in [
            (Protocol::V1, Layout::Live, 1, 65_000),
            (Protocol::V2, Layout::Live, 1, 65_000),
            (Protocol::V1, Layout::Grouped, usize::MAX, 10_000),
            (Protocol::V2, Layout::Grouped, usize::MAX, 2_000),
            (Protocol::V2, Layout::Grouped, usize::MAX, 5_000),
            (Protocol::V2, Layout::Grouped, usize::MAX, 10_000),
            (Protocol::V2, Layout::Grouped, usize::MAX, 20_000),
            (Protocol::V2, Layout::Grouped, usize::MAX, 40_000),
        ] {
            let rounds = (0..ROUNDS).map(|_| measure(&capture, protocol, layout, frames, limit));
            let report = rounds
                .min_by_key(|report| report.batching + report.compressing)
                .expect("more than one round");
            let kind = format!("{protocol:?} {}", if layout == Layout::Live { "live" } else { "group" });
            println!("{name:<28} {kind:<8} {limit:>8} {report}");
        }
    }
}

struct Replay {
    capture_scrapes: Vec<Vec<tidegate::sample::Sample>>,
    catalogue: Catalogue,
    at: usize,
}

impl FrameSource for Replay {
    type Error = core::convert::Infallible;

    fn next(&mut self, frame: &mut Frame) -> Result<Next, Self::Error> {
        let Some(samples) = self.capture_scrapes.get(self.at) else {
            return Ok(Next::End);
        };
        frame.reset(TargetRef(0), 0);
        frame.number = FrameNo(self.at as u64);
        frame.up = true;
        frame.unix_ms = Some(START_MS + self.at as i64 * INTERVAL_MS);
        frame.duration_100us = 50 + self.at as u32 % 7;
        let count = samples.len() as u32;
        frame.counts = ScrapeCounts {
            scraped: count,
            post_relabel: count,
            added: 0,
        };
        frame.samples.extend(samples).expect("sized for the capture");
        self.at += 1;
        Ok(Next::Frame)
    }

    fn seek(&mut self, at: FrameNo) {
        self.at = at.0 as usize;
    }

    fn names(&mut self) -> Names<'_> {
        Names::Catalogue(&self.catalogue)
    }
}

struct Report {
    samples: usize,
    requests: usize,
    raw: usize,
    wire: usize,
    batching: Duration,
    compressing: Duration,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let per_sample = |n: usize| n as f64 / self.samples as f64;
        let nanos = |d: Duration| d.as_nanos() as f64 / self.samples as f64;
        write!(
            f,
            "{:>8} {:>8.2} {:>8.2} {:>7.0} {:>7.0}",
            self.samples / self.requests,
            per_sample(self.raw),
            per_sample(self.wire),
            nanos(self.batching),
            nanos(self.compressing)
        )
    }
}

fn measure(capture: &Capture, protocol: Protocol, layout: Layout, frames: usize, limit: usize) -> Report {
    let mut catalogue = Catalogue::new(capture.series.len(), 1 << 20, 1);
    catalogue
        .set_target(TargetRef(0), r#"instance="192.168.10.20:9100",job="node""#)
        .expect("sized for it");
    for (i, text) in capture.series.iter().enumerate() {
        let (name, body) = text.trim_end_matches('}').split_once('{').unwrap_or((text, ""));
        let text = SeriesText { name, body };
        let series = catalogue.define_at(SeriesRef(i as u16), TargetRef(0), text, MetricType::Gauge);
        series.expect("sized for it");
    }
    let mut source = Replay {
        capture_scrapes: capture.scrapes.clone(),
        catalogue,
        at: 0,
    };
    let limits = BatchLimits {
        samples: limit,
        body_bytes: BODY_BYTES,
        max_series: capture.series.len(),
        max_targets: 1,
        frame_samples: 5000,
        extras_bytes: 0,
        sends: Sends {
            histograms: false,
            exemplars: false,
        },
        families: 0,
    };
    let bounds = Bounds {
        samples: limit,
        frames,
        end: None,
        oldest: None,
        unknown_time: UnknownTime::Hold,
        latest: None,
    };
    let mut batch = Batch::new(limits, 1);
    let mut frame = Frame::with_capacity(5000);
    let mut identity = Identity::new(&[("site", "mast-17")], Default::default());
    let mut snappy = Snappy::new();
    let mut out = vec![0; output_bytes(BODY_BYTES)];
    let mut report = Report {
        samples: 0,
        requests: 0,
        raw: 0,
        wire: 0,
        batching: Duration::ZERO,
        compressing: Duration::ZERO,
    };
    let mut place = Place::default();
    loop {
        let start = Instant::now();
        batch.begin(place, protocol);
        while batch.gather(&mut source, &mut frame, &mut identity, &bounds)
            == Ok(tidegate::remote_write::batch::Stop::Yield)
        {}
        if batch.samples() == 0 {
            return report;
        }
        batch.seal(layout);
        report.batching += start.elapsed();
        let start = Instant::now();
        report.wire += snappy.compress(batch.body(), &mut out).expect("large enough");
        report.compressing += start.elapsed();
        report.raw += batch.body().len();
        report.samples += batch.samples();
        report.requests += 1;
        place = batch.end();
    }
}
