//! How fast a scrape body becomes a frame: parse, match against the known series, no relabelling; steady state.
//!
//! `cargo bench --bench scrape_speed [-- FILES...]`: bodies one after the other from captures of the layout of
//! `tests/testdata/captures` (default: those). Two columns: the parser alone, and the whole session as the agent runs it (parse,
//! series lookup, staleness, frame). `scripts/bench-parsers` puts other parsers beside it.

#[path = "../common/bodies.rs"]
mod bodies;

use bodies::bodies;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate::catalogue::Catalogue;
use tidegate::clock;
use tidegate::exposition::{Event, Format, Parser};
use tidegate::frame::FrameNo;
use tidegate::labels::Label;
use tidegate::limits::{MAX_LINE_BYTES, MAX_SERIES_TEXT_BYTES};
use tidegate::metadata::Metadata;
use tidegate::sample::TargetRef;
use tidegate::scrape::{LabelBuilder, Outcome, Reports, Session, SessionSize, Shared, Target};
use tidegate::series::SeriesTable;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TEXT: &[u8] = b"text/plain; version=0.0.4";
const PROTOBUF: &[u8] = b"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// As the transport hands them over.
const PIECE_BYTES: usize = 8 * 1024;

/// Each figure is the best of this many runs: what else the machine does only makes one slower.
const RUNS: usize = 7;

/// Bytes through the parser in one run.
const RUN_BYTES: usize = 48 << 20;

fn files() -> Vec<PathBuf> {
    let named: Vec<PathBuf> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--") && argument.parse::<usize>().is_err())
        .map(PathBuf::from)
        .collect();
    if !named.is_empty() {
        return named;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/captures");
    ["node-15s", "prometheus-15s", "vmagent-15s"]
        .map(|name| folder.join(format!("{name}.cap.gz")))
        .to_vec()
}

/// Every sample of `body` by the parser alone; how many there were.
fn parse(parser: &mut Parser, format: Format, body: &[u8]) -> u64 {
    parser.start(format);
    let mut samples = 0;
    let mut take = |parser: &mut Parser| {
        while let Some(event) = parser.next().expect("captured bodies are valid") {
            samples += u64::from(matches!(black_box(event), Event::Sample { .. }));
        }
    };
    for mut piece in body.chunks(PIECE_BYTES) {
        while !piece.is_empty() {
            let taken = parser.feed(piece);
            piece = &piece[taken..];
            take(parser);
        }
    }
    parser.finish();
    take(parser);
    samples
}

/// The session with its tables, as the agent has them.
struct Scraper {
    session: Session,
    target: Target,
    table: SeriesTable,
    catalogue: Catalogue,
    builder: LabelBuilder,
    reports: Reports,
    metadata: Metadata,
    frames: u64,
    content_type: &'static [u8],
}

impl Scraper {
    fn new(content_type: &'static [u8]) -> Self {
        const SERIES: usize = 4000;
        let size = SessionSize {
            max_samples: SERIES,
            line_bytes: MAX_LINE_BYTES,
            label_bytes: MAX_SERIES_TEXT_BYTES,
            extras_bytes: 0,
            converts: false,
        };
        let labels = [("instance", "127.0.0.1:9100"), ("job", "node")].map(|(name, value)| Label { name, value });
        Self {
            session: Session::new(size),
            target: Target::new(TargetRef(0), &labels).expect("two labels"),
            table: SeriesTable::new(SERIES, 2 * SERIES, 1, 1),
            catalogue: Catalogue::new(SERIES, 100 * SERIES, 1),
            builder: LabelBuilder::new(),
            reports: Reports::new(1),
            metadata: Metadata::new(32 * 1024, 600),
            frames: 0,
            content_type,
        }
    }

    /// One scrape that succeeds; how many samples it brought.
    fn scrape(&mut self, body: &[u8]) -> u64 {
        let mut shared = Shared {
            table: &mut self.table,
            catalogue: &mut self.catalogue,
            builder: &mut self.builder,
            reports: &mut self.reports,
            metadata: &mut self.metadata,
        };
        let time = clock::Instant(15_000 * self.frames);
        self.session.begin(&self.target, time, None, &mut shared);
        self.session.content_type(Some(self.content_type), &self.target);
        for piece in body.chunks(PIECE_BYTES) {
            self.session
                .feed(piece, &self.target, &mut shared)
                .expect("captured bodies are valid");
        }
        let frame = self.session.finish(Outcome::Complete, 30, &self.target, &mut shared);
        let samples = black_box(frame).samples.len() as u64;
        self.frames += 1;
        self.session.settle(FrameNo(self.frames), &mut shared);
        self.catalogue.reclaim(FrameNo(self.frames));
        samples
    }
}

/// What the bodies of one file took.
struct Took {
    samples: u64,
    best: Duration,
    allocations: u64,
}

/// Best time for `rounds` rounds over all bodies; the first round does not count.
fn time(rounds: usize, bodies: &[Vec<u8>], mut work: impl FnMut(&[u8]) -> u64) -> Took {
    let mut samples = bodies.iter().map(|body| work(body)).sum();
    samples *= rounds as u64;
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        for _ in 0..rounds {
            for body in bodies {
                black_box(work(body));
            }
        }
        best = best.min(start.elapsed());
    }
    Took {
        samples,
        best,
        allocations: ALLOCATIONS.load(Ordering::Relaxed) - before,
    }
}

fn line(name: &str, bytes: u64, took: &Took) {
    let seconds = took.best.as_secs_f64();
    println!(
        "  {name:<22}{:>8.0} MB/s{:>8.2} M samples/s{:>8.0} ns/sample{:>6} allocations",
        bytes as f64 / seconds / 1e6,
        took.samples as f64 / seconds / 1e6,
        seconds * 1e9 / took.samples as f64,
        took.allocations,
    );
}

/// `--rounds N`: nothing but N rounds of the session over the bodies, to be counted from outside.
fn rounds_wanted() -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--rounds");
    arguments.nth(1)?.parse().ok()
}

fn main() {
    for path in files() {
        let bodies = bodies(&path);
        if let Some(rounds) = rounds_wanted() {
            let mut scraper = Scraper::new(TEXT);
            let samples: u64 = bodies.iter().map(|body| scraper.scrape(body)).sum();
            for _ in 0..rounds {
                bodies.iter().for_each(|body| _ = scraper.scrape(body));
            }
            println!("{} samples", samples * rounds as u64);
            continue;
        }
        measure(&path.display().to_string(), Format::Text, TEXT, &bodies);
    }
    if std::env::args().skip(1).all(|argument| argument.starts_with("--")) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/captures");
        let bodies = bodies(&folder.join("prometheus-protobuf.cap.gz"));
        // The same target at the same time.
        measure("Prometheus as text", Format::Text, TEXT, &bodies[..1]);
        measure("Prometheus as protobuf", Format::Protobuf, PROTOBUF, &bodies[1..2]);
    }
}

fn measure(name: &str, format: Format, content_type: &'static [u8], bodies: &[Vec<u8>]) {
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    let rounds = RUN_BYTES.div_ceil(bytes);
    let mut parser = Parser::with_protobuf(MAX_LINE_BYTES, MAX_SERIES_TEXT_BYTES);
    let mut scraper = Scraper::new(content_type);
    println!("{name}: {} bodies of {} bytes", bodies.len(), bytes / bodies.len());
    let total = (bytes * rounds) as u64;
    line(
        "parser",
        total,
        &time(rounds, bodies, |body| parse(&mut parser, format, body)),
    );
    line(
        "parse, match, frame",
        total,
        &time(rounds, bodies, |body| scraper.scrape(body)),
    );
}
