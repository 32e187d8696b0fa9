//! Instructions per sample, stage by stage, from the body of a scrape to the compressed request.
//!
//! `cargo bench --bench stages [-- FILE.cap.gz...]`: optimised for speed; `cargo bench --profile release --bench stages`: as the
//! released binary is. Default: the captures of the tests. The stages are those of the agent in steady state with the uplink up:
//!
//! - parse: the exposition parser alone, with every series known;
//! - match: text to known series, staleness, frame;
//! - encode: the codec alone; store: the rest of what appending to the ring takes;
//! - decode: the codec alone; read: the rest of what the ring's reader takes;
//! - batch: labels and samples gathered; seal: the message written; compress: snappy.
//!
//! Counted by valgrind's callgrind, which is exact and the same on a busy machine: each stage is the difference of two
//! runs of this program that go one stage further. Not in it: HTTP, TLS, system calls. Needs: valgrind.

#[path = "../common/bodies.rs"]
mod bodies;
#[path = "../common/capture.rs"]
mod capture;
#[path = "../common/ring_config.rs"]
mod ring_config;

use bodies::bodies;
use capture::Capture;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::catalogue::Catalogue;
use tidegate::clock;
use tidegate::exposition::{AHEAD, Format, Parser};
use tidegate::frame::{Bounded, Frame, FrameNo, FrameSource, Next};
use tidegate::host::snappy::{Dictionaries, Snappy, output_bytes};
use tidegate::labels::Label;
use tidegate::limits::{MAX_LINE_BYTES, MAX_SERIES_TEXT_BYTES};
use tidegate::metadata::Metadata;
use tidegate::remote_write::Compressor;
use tidegate::remote_write::batch::{Batch, BatchLimits, Bounds, Layout, Place, Sends, Stop, UnknownTime};
use tidegate::remote_write::identity::Identity;
use tidegate::remote_write::response::Protocol;
use tidegate::sample::{Sample, TargetRef};
use tidegate::scrape::{LabelBuilder, Outcome, Reports, Session, SessionSize, Shared, Target};
use tidegate::series::SeriesTable;
use tidegate::value::codec::{Codec, CodecId, SeriesState};
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::testing::Ram;
use tidegate::wal::{Boot, ClockSource, Ring, RingConfig, format};

/// First argument of the process that is counted from outside.
const WORK: &str = "--work";

/// As the transport hands bodies over.
const PIECE_BYTES: usize = 8 * 1024;

/// Series, and samples of a frame, there is room for.
const SERIES: usize = 4000;

const BODY_BYTES: usize = 1 << 20;

/// How far a run goes; each goes on from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Parse,
    Match,
    Store,
    Read,
    Batch,
    Seal,
    Compress,
}

const REACHES: [Reach; 7] = [
    Reach::Parse,
    Reach::Match,
    Reach::Store,
    Reach::Read,
    Reach::Batch,
    Reach::Seal,
    Reach::Compress,
];

/// What a process of its own does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Pipeline(Reach),
    Encode,
    Decode,
}

impl Task {
    const fn all() -> [Self; 9] {
        let mut all = [Self::Encode; 9];
        let mut at = 0;
        while at < REACHES.len() {
            all[at] = Self::Pipeline(REACHES[at]);
            at += 1;
        }
        all[8] = Self::Decode;
        all
    }
}

/// All that stands between a body and a request.
struct Pipeline {
    parser: Parser,
    session: Session,
    target: Target,
    table: SeriesTable,
    catalogue: Catalogue,
    builder: LabelBuilder,
    reports: Reports,
    metadata: Metadata,
    ring: Ring<Ram>,
    batch: Batch,
    identity: Identity,
    frame: Frame,
    snappy: Snappy,
    out: Vec<u8>,
    scrapes: u64,
}

fn ring(catalogue: &mut Catalogue) -> Ring<Ram> {
    let geometry = Geometry {
        block_bytes: 4096,
        blocks_per_slot: 64,
        slots: 4,
        medium: Medium::Rewritable,
    };
    let mut ram = Ram::new(geometry, 1);
    format(&mut ram, *b"bench of stages.", 1, "bench").expect("a blank medium takes a format");
    let config = RingConfig {
        commit_interval_ms: u64::MAX / 4,
        staging_blocks: 24,
        compress: Some(Box::new(Dictionaries::new())),
        ..ring_config::plain(&geometry, SERIES, 100 * SERIES)
    };
    let boot = Boot {
        id: *b"the boot of this",
        now: clock::Instant(1000),
        wall: Some((clock::UnixMillis(1_700_000_000_000), ClockSource::Synchronised)),
        error_ms: 5,
    };
    Ring::mount(ram, config, boot, catalogue).expect("just formatted").0
}

impl Pipeline {
    fn new() -> Self {
        let size = SessionSize {
            max_samples: SERIES,
            line_bytes: MAX_LINE_BYTES,
            label_bytes: MAX_SERIES_TEXT_BYTES,
            extras_bytes: 0,
            converts: false,
        };
        let limits = BatchLimits {
            samples: SERIES,
            body_bytes: BODY_BYTES,
            max_series: SERIES,
            max_targets: 1,
            frame_samples: SERIES,
            extras_bytes: 0,
            sends: Sends {
                histograms: false,
                exemplars: false,
            },
            families: 0,
        };
        let labels = [("instance", "127.0.0.1:9100"), ("job", "node")].map(|(name, value)| Label { name, value });
        let mut catalogue = Catalogue::new(SERIES, 100 * SERIES, 1);
        catalogue
            .set_target(TargetRef(0), r#"instance="127.0.0.1:9100",job="node""#)
            .expect("room for the target");
        Self {
            parser: Parser::new(MAX_LINE_BYTES),
            session: Session::new(size),
            target: Target::new(TargetRef(0), &labels).expect("two labels"),
            table: SeriesTable::new(SERIES, 2 * SERIES, 1, 1),
            builder: LabelBuilder::new(),
            reports: Reports::new(1),
            metadata: Metadata::new(32 * 1024, 600),
            ring: ring(&mut catalogue),
            catalogue,
            batch: Batch::new(limits, 1),
            identity: Identity::new(&[], Default::default()),
            frame: Frame::with_capacity(SERIES),
            snappy: Snappy::new(),
            out: vec![0; output_bytes(BODY_BYTES)],
            scrapes: 0,
        }
    }

    fn parse(&mut self, body: &[u8]) {
        self.parser.start(Format::Text);
        for mut piece in body.chunks(PIECE_BYTES) {
            while !piece.is_empty() {
                let taken = self.parser.feed(piece);
                piece = &piece[taken..];
                self.events();
            }
        }
        self.parser.finish();
        self.events();
    }

    fn events(&mut self) {
        let mut ahead = heapless::Vec::<_, AHEAD>::new();
        loop {
            self.parser.look_ahead(&mut ahead, |text| black_box(text).len());
            for known in &ahead {
                self.parser.pass(black_box(known));
            }
            if !ahead.is_empty() {
                continue;
            }
            match self.parser.next().expect("captured bodies are valid") {
                Some(event) => drop(black_box(event)),
                None => return,
            }
        }
    }

    /// One scrape as far as `reach`.
    fn run(&mut self, body: &[u8], reach: Reach) {
        if reach == Reach::Parse {
            return self.parse(body);
        }
        self.scrapes += 1;
        let time = clock::Instant(1000 + 15_000 * self.scrapes);
        let mut shared = Shared {
            table: &mut self.table,
            catalogue: &mut self.catalogue,
            builder: &mut self.builder,
            reports: &mut self.reports,
            metadata: &mut self.metadata,
        };
        self.session.begin(&self.target, time, None, &mut shared);
        self.session
            .content_type(Some(b"text/plain; version=0.0.4"), &self.target);
        for piece in body.chunks(PIECE_BYTES) {
            self.session
                .feed(piece, &self.target, &mut shared)
                .expect("captured bodies are valid");
        }
        let frame = self.session.finish(Outcome::Complete, 30, &self.target, &mut shared);
        let number = if reach >= Reach::Store {
            let appended = self.ring.append(frame, shared.catalogue);
            appended.expect("everything before it was acknowledged")
        } else {
            FrameNo(self.scrapes)
        };
        self.session.settle(number, &mut shared);
        if reach >= Reach::Store {
            self.drain(reach);
            self.ring.cut();
            self.ring.acknowledge(0, FrameNo(number.0 + 1));
        }
        self.catalogue.reclaim(FrameNo(number.0 + 1));
    }

    fn drain(&mut self, reach: Reach) {
        let mut source = self.ring.source(0, &mut self.catalogue);
        if reach == Reach::Read {
            while source.next(&mut self.frame).expect("memory can be read") != Next::End {
                black_box(&self.frame);
            }
        }
        if reach < Reach::Batch {
            return;
        }
        let bounds = Bounds {
            samples: SERIES,
            frames: usize::MAX,
            end: None,
            oldest: None,
            unknown_time: UnknownTime::Hold,
            latest: None,
        };
        self.batch.begin(self.batch.end(), Protocol::V1);
        loop {
            let stop = self
                .batch
                .gather(&mut source, &mut self.frame, &mut self.identity, &bounds);
            match stop.expect("memory can be read") {
                Stop::Yield => {}
                Stop::Full if self.batch.samples() == 0 => self.batch.begin(Place::default(), Protocol::V1),
                _ => break,
            }
        }
        assert!(self.batch.samples() > 0, "the scrape is sent");
        if reach >= Reach::Seal {
            self.batch.seal(Layout::Live);
        }
        if reach >= Reach::Compress {
            let compressed = self.snappy.compress(self.batch.body(), &mut self.out);
            black_box(compressed.expect("large enough"));
        }
        self.batch.finish();
    }
}

fn codec(task: Task, capture: &Capture, passes: u32) {
    let largest = capture.scrapes.iter().map(Vec::len).max().unwrap_or(0);
    let mut codec = Codec::new(CodecId::Tc1);
    let mut states = vec![SeriesState::RESET; capture.series.len()];
    let mut out = Bounded::with_capacity(codec.max_encoded_bytes(largest));
    let mut frames = Vec::new();
    for pass in 0..=passes {
        codec.reset();
        states.fill(SeriesState::RESET);
        for (at, scrape) in capture.scrapes.iter().enumerate() {
            // The first pass makes the bytes, the others are what is counted.
            if pass > 0 && task == Task::Decode {
                let mut back: Vec<Sample> = scrape.clone();
                let bytes: &Vec<u8> = &frames[at];
                let decoded = codec.decode(&mut states, bytes, &mut back);
                decoded.expect("these bytes were just encoded");
                black_box(back);
                continue;
            }
            out.clear();
            let encoded = codec.encode(&mut states, scrape, &mut out);
            encoded.expect("the buffer holds the worst case");
            if pass == 0 {
                frames.push(out.to_vec());
            }
        }
    }
}

/// Runs as a process of its own, for who counts from outside: task, passes, file.
fn work(arguments: &[String]) {
    let [task, passes, file] = arguments else {
        panic!("{WORK} TASK PASSES FILE");
    };
    let passes: u32 = passes.parse().expect("a number of passes");
    let task = Task::all().into_iter().find(|known| format!("{known:?}") == *task);
    match task.expect("a task") {
        Task::Pipeline(reach) => {
            let bodies = bodies(Path::new(file));
            let mut pipeline = Pipeline::new();
            for _ in 0..=passes {
                bodies.iter().for_each(|body| pipeline.run(body, reach));
            }
        }
        task => codec(task, &Capture::read(Path::new(file)), passes),
    }
}

fn callgrind(task: Task, file: &Path, passes: u32) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([WORK, &format!("{task:?}"), &passes.to_string()])
        .arg(file)
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| count.trim().parse().ok());
    count
        .filter(|_| output.status.success())
        .ok_or_else(|| said.into_owned())
}

/// Instructions per sample: the difference of two runs leaves out start-up and the first, cold pass.
fn count(task: Task, file: &Path, samples: usize) -> Result<f64, String> {
    let (few, many) = (1, 3);
    let more = callgrind(task, file, many)? - callgrind(task, file, few)?;
    Ok(more as f64 / f64::from(many - few) / samples as f64)
}

fn report(file: &Path) -> Result<(), String> {
    let samples = Capture::read(file).samples();
    let mut reached = Vec::new();
    for reach in REACHES {
        reached.push(count(Task::Pipeline(reach), file, samples)?);
    }
    let [parse, matched, store, read, batch, seal, compress] = reached[..] else {
        return Err("as many figures as stages".to_owned());
    };
    let encode = count(Task::Encode, file, samples)?;
    let decode = count(Task::Decode, file, samples)?;
    let stages = [
        parse,
        matched - parse,
        encode,
        store - matched - encode,
        decode,
        read - store - decode,
        batch - read,
        seal - batch,
        compress - seal,
        compress,
    ];
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let figures: Vec<String> = stages.iter().map(|figure| format!("{figure:.0}")).collect();
    println!(
        "| {} | {} |",
        name.trim_end_matches(".gz").trim_end_matches(".cap"),
        figures.join(" | ")
    );
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    if arguments.first().is_some_and(|first| first == WORK) {
        return work(&arguments[1..]);
    }
    let mut files: Vec<PathBuf> = arguments.iter().map(PathBuf::from).collect();
    if files.is_empty() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/captures");
        files = ["node-15s", "prometheus-15s", "vmagent-15s"]
            .map(|name| folder.join(format!("{name}.cap.gz")))
            .to_vec();
    }
    println!("| capture | parse | match | encode | store | decode | read | batch | seal | compress | all |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for file in files {
        if let Err(why) = report(&file) {
            eprintln!("{}: NOT COUNTED: {why}", file.display());
            std::process::exit(1);
        }
    }
}
