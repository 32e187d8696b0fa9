//! Bytes and nanoseconds per sample of recorded scrapes in each codec.
//!
//! `cargo bench --bench ring_bytes -- FILE.cap.gz...` (without files: the small captures of the tests). One line per file and
//! codec: payload bytes per sample of a first frame after a reset ("full") and of the later ones ("delta"), alone and
//! with 12 bytes for what surrounds a frame on flash; nanoseconds per sample, encoding and decoding.

#[path = "../common/capture.rs"]
mod capture;

use capture::Capture;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;
use tidegate::frame::Bounded;
use tidegate::sample::{Number, Sample};
use tidegate::value::codec::{Codec, CodecId, SeriesState};

/// Record header, frame header and share of the block header, as assumed in the format's design.
const FRAME_OVERHEAD_BYTES: usize = 12;

/// Passes over a capture per timing; the fastest counts.
const ROUNDS: usize = 7;

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
        "{:<28} {:<4} {:>7} {:>12} {:>13} {:>7} {:>7}",
        "capture", "", "samples", "full", "delta", "enc ns", "dec ns"
    );
    for file in files {
        let capture = Capture::read(&file);
        for id in [CodecId::Tc0, CodecId::Tc1] {
            let report = measure(&capture, id);
            println!(
                "{:<28} {:<4} {report}",
                file.file_name().unwrap_or_default().to_string_lossy(),
                format!("{id:?}")
            );
        }
    }
}

struct Report {
    samples: usize,
    /// Payload bytes and samples of first and of later frames, and how many later ones.
    full: (usize, usize),
    delta: (usize, usize, usize),
    encode_ns: f64,
    decode_ns: f64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let full = self.full.0 as f64 / self.full.1 as f64;
        let framed_full = (self.full.0 + FRAME_OVERHEAD_BYTES) as f64 / self.full.1 as f64;
        let delta = self.delta.0 as f64 / self.delta.1 as f64;
        let framed_delta = (self.delta.0 + FRAME_OVERHEAD_BYTES * self.delta.2) as f64 / self.delta.1 as f64;
        write!(
            f,
            "{:>7} {full:>5.2}->{framed_full:.2} {delta:>6.4}->{framed_delta:.4} {:>7.1} {:>7.1}",
            self.samples, self.encode_ns, self.decode_ns
        )
    }
}

fn measure(capture: &Capture, id: CodecId) -> Report {
    let samples = capture.scrapes.iter().map(Vec::len).sum::<usize>();
    let largest = capture.scrapes.iter().map(Vec::len).max().unwrap_or(0);
    let mut states = vec![SeriesState::RESET; capture.series.len()];
    let mut codec = Codec::new(id);
    let mut out = Bounded::with_capacity(codec.max_encoded_bytes(largest));
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let encode_ns = best_ns(samples, || {
        codec.reset();
        states.fill(SeriesState::RESET);
        frames.clear();
        for scrape in &capture.scrapes {
            out.clear();
            codec
                .encode(&mut states, scrape, &mut out)
                .expect("the buffer holds the worst case");
            frames.push(out.to_vec());
        }
    });

    let mut back: Vec<Sample> = Vec::with_capacity(largest);
    let decode_ns = best_ns(samples, || {
        codec.reset();
        states.fill(SeriesState::RESET);
        for (scrape, bytes) in capture.scrapes.iter().zip(&frames) {
            back.clear();
            back.extend_from_slice(scrape);
            codec
                .decode(&mut states, bytes, &mut back)
                .expect("these bytes were just encoded");
            black_box(&back);
        }
    });
    check(capture, id, &frames);

    let (first, later) = capture.scrapes.split_first().expect("a capture has scrapes");
    let first_bytes = frames[0].len();
    Report {
        samples,
        full: (first_bytes, first.len()),
        delta: (
            frames.iter().map(Vec::len).sum::<usize>() - first_bytes,
            later.iter().map(Vec::len).sum(),
            later.len(),
        ),
        encode_ns,
        decode_ns,
    }
}

fn best_ns(samples: usize, mut pass: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        pass();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min) * 1e9 / samples as f64
}

/// A figure for bytes that do not decode would be worthless.
fn check(capture: &Capture, id: CodecId, frames: &[Vec<u8>]) {
    let mut codec = Codec::new(id);
    let mut states = vec![SeriesState::RESET; capture.series.len()];
    for (scrape, bytes) in capture.scrapes.iter().zip(frames) {
        let mut back = scrape.clone();
        back.iter_mut().for_each(|sample| sample.number = Number::STALE);
        codec
            .decode(&mut states, bytes, &mut back)
            .expect("these bytes were just encoded");
        assert!(
            scrape
                .iter()
                .zip(&back)
                .all(|(a, b)| a.number.to_bits() == b.number.to_bits())
        );
    }
}
