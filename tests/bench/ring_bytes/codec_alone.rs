//! The codec without a ring around it.

use crate::capture::Capture;
use crate::instructions::Counter;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;
use tidegate::frame::Bounded;
use tidegate::sample::{Number, Sample};
use tidegate::value::codec::{Codec, CodecId, SeriesState};

/// Passes over a capture per timing; the fastest counts.
const ROUNDS: usize = 7;

/// A codec at work on one capture.
pub struct Bench<'a> {
    capture: &'a Capture,
    codec: Codec,
    states: Vec<SeriesState>,
    out: Bounded<u8>,
    frames: Vec<Vec<u8>>,
    back: Vec<Sample>,
}

impl<'a> Bench<'a> {
    fn new(capture: &'a Capture, id: CodecId) -> Self {
        let largest = capture.scrapes.iter().map(Vec::len).max().unwrap_or(0);
        let codec = Codec::new(id);
        Self {
            out: Bounded::with_capacity(codec.max_encoded_bytes(largest)),
            states: vec![SeriesState::RESET; capture.series.len()],
            frames: vec![Vec::new(); capture.scrapes.len()],
            back: Vec::with_capacity(largest),
            codec,
            capture,
        }
    }

    #[inline(never)]
    fn encode(&mut self) {
        self.codec.reset();
        self.states.fill(SeriesState::RESET);
        for (scrape, frame) in self.capture.scrapes.iter().zip(&mut self.frames) {
            self.out.clear();
            self.codec
                .encode(&mut self.states, scrape, &mut self.out)
                .expect("the buffer holds the worst case");
            frame.clear();
            frame.extend_from_slice(&self.out);
        }
    }

    #[inline(never)]
    fn decode(&mut self) {
        self.codec.reset();
        self.states.fill(SeriesState::RESET);
        for (scrape, bytes) in self.capture.scrapes.iter().zip(&self.frames) {
            self.back.clear();
            self.back.extend_from_slice(scrape);
            self.codec
                .decode(&mut self.states, bytes, &mut self.back)
                .expect("these bytes were just encoded");
            black_box(&self.back);
        }
    }

    /// A figure for bytes that do not decode would be worthless.
    fn check(&mut self) {
        self.codec.reset();
        self.states.fill(SeriesState::RESET);
        for (scrape, bytes) in self.capture.scrapes.iter().zip(&self.frames) {
            self.back.clear();
            self.back.extend(scrape.iter().map(|sample| Sample {
                number: Number::STALE,
                ..*sample
            }));
            self.codec
                .decode(&mut self.states, bytes, &mut self.back)
                .expect("these bytes were just encoded");
            let same = |(a, b): (&Sample, &Sample)| a.number.to_bits() == b.number.to_bits();
            assert!(scrape.iter().zip(&self.back).all(same), "not the same bits");
        }
    }
}

pub fn report(file: &Path, capture: &Capture, mut counter: Option<&mut Counter>) {
    println!(
        "  {:<5} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "codec", "first B", "later B", "enc ns", "dec ns", "enc instr", "dec instr"
    );
    for id in [CodecId::Tc0, CodecId::Tc1] {
        let mut bench = Bench::new(capture, id);
        let samples = capture.samples() as f64;
        let encode_ns = best_ns(|| bench.encode()) / samples;
        let decode_ns = best_ns(|| bench.decode()) / samples;
        bench.check();
        let mut counted = |task: &str, run: &mut dyn FnMut()| {
            let (codec, file) = (format!("{id:?}"), file.to_string_lossy());
            let work = [task, &codec, &file];
            let counted = counter.as_mut().and_then(|counter| counter.count(&work, run));
            counted.map_or_else(|| "-".to_owned(), |count| format!("{:.1}", count / samples))
        };
        let encode = counted("encode", &mut || bench.encode());
        let decode = counted("decode", &mut || bench.decode());
        let (first, later) = capture.scrapes.split_first().expect("a capture has scrapes");
        let bytes: usize = bench.frames[1..].iter().map(Vec::len).sum();
        let later = later.iter().map(Vec::len).sum::<usize>().max(1);
        println!(
            "  {:<5} {:>8.4} {:>8.4} {encode_ns:>8.1} {decode_ns:>8.1} {encode:>9} {decode:>9}",
            format!("{id:?}"),
            bench.frames[0].len() as f64 / first.len().max(1) as f64,
            bytes as f64 / later as f64,
        );
    }
}

fn best_ns(mut pass: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        pass();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min) * 1e9
}

/// Runs as a process of its own, for whoever counts from outside: passes, what, codec, file.
pub fn work(arguments: &[String]) {
    let [passes, what, codec, file] = arguments else {
        panic!("{} PASSES TASK CODEC FILE", crate::instructions::WORK);
    };
    let id = if codec == "Tc0" { CodecId::Tc0 } else { CodecId::Tc1 };
    let passes: usize = passes.parse().expect("a number of passes");
    let capture = Capture::read(Path::new(file));
    let mut bench = Bench::new(&capture, id);
    bench.encode();
    for _ in 0..passes {
        if what == "encode" {
            bench.encode();
        } else {
            bench.decode();
        }
    }
}
