//! What a ring takes of memory per series, and what a mount of a full one reads.
//!
//! `cargo bench --bench ring_figures -- [FILE...]`: capture files as for `ring_bytes`, by default those of the tests. Two tables:
//!
//! - Heap bytes per series of each file's series: the writer's catalogue and the ring with one reader, counted by the allocator; what as
//!   many series again take more. The text arena is as small as holds the texts.
//!   Apart: what a sample of the largest scrape takes.
//! - Full rings of 64 MiB and 1 GiB in a file that was just written (so: from the page cache): time and blocks of a mount. To be quick
//!   the file is thin: of each segment only the blocks that a mount looks at, of the newest all.

#[path = "../common/capture.rs"]
mod capture;
#[path = "../common/capture_ring.rs"]
mod capture_ring;
#[path = "../common/ring_config.rs"]
mod ring_config;
#[path = "ring_figures/thin.rs"]
mod thin;

use capture::Capture;
use capture_ring::Player;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tidegate::catalogue::{Catalogue, SeriesText};
use tidegate::frame::{Frame, FrameNo};
use tidegate::sample::{MetricType, Number, Sample, SeriesRef, TargetRef};
use tidegate::value::codec::SeriesState;
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::testing::Ram;
use tidegate::wal::{Boot, Ring, RingConfig, format};

/// Counts what is allocated and not freed.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const UUID: [u8; 16] = *b"ring_figures ben";

const BOOT: Boot = Boot {
    id: [1; 16],
    now: tidegate::clock::Instant(1_000),
    wall: None,
    error_ms: 0,
};

fn config(geometry: &Geometry, max_series: usize, text_bytes: usize) -> RingConfig {
    RingConfig {
        staging_blocks: 12,
        ..ring_config::plain(geometry, max_series, text_bytes)
    }
}

const fn geometry(slots: u32) -> Geometry {
    Geometry {
        block_bytes: 4096,
        blocks_per_slot: 64,
        slots,
        medium: Medium::Rewritable,
    }
}

fn main() {
    let mut files: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .map(PathBuf::from)
        .collect();
    if files.is_empty() {
        files = capture::checked_in();
    }
    println!(
        "heap bytes per series            series  writer+drain  = catalogue  text   ring (writer 21, reader 24) | per sample of the largest scrape"
    );
    for file in &files {
        memory(file);
    }
    println!();
    for mib in [64, 1024] {
        mount(mib);
    }
}

/// Heap bytes of a catalogue, and of a ring with it.
fn held(max_series: usize, text_bytes: usize, frame_samples: usize) -> (usize, usize) {
    let shape = geometry(4);
    let mut ram = Ram::new(shape, 1);
    format(&mut ram, UUID, 1, "").expect("a blank medium takes a format");
    let before = HELD.load(Relaxed);
    let mut catalogue = Catalogue::new(max_series, text_bytes, 4);
    let with_catalogue = HELD.load(Relaxed);
    let mut config = config(&shape, max_series, text_bytes);
    config.max_frame_samples = frame_samples;
    let (mut ring, _) = Ring::mount(ram, config, BOOT, &mut catalogue).expect("a new ring");
    // A reader is made when it is first asked for.
    ring.source(0, &mut catalogue);
    let with_ring = HELD.load(Relaxed);
    (with_catalogue - before, with_ring - with_catalogue)
}

fn memory(file: &std::path::Path) {
    let capture = Capture::read(file);
    let series = capture.series.len();
    let mut catalogue = Catalogue::new(series, 1 << 20, 1);
    let player = Player::new(&capture, TargetRef(0), &mut catalogue);
    for (place, text) in capture.series.iter().enumerate() {
        let (name, body) = capture::canonical(text);
        let text = SeriesText {
            name: &name,
            body: &body,
        };
        catalogue
            .define(TargetRef(0), text, capture.kinds[place])
            .expect("a mebibyte of texts");
    }
    drop(player);
    let text = catalogue.text_bytes_used();
    // The arena keeps a 64th for moving texts together.
    let arena = text + text / 32;
    // From twice as many on: below 16 KiB of texts the buffers for one record grow with them, and then no more.
    let (catalogue, ring) = held(2 * series, 2 * arena, series);
    let (more_catalogue, more_ring) = held(3 * series, 3 * arena, series);
    let (_, larger_scrape) = held(2 * series, 2 * arena, 2 * series);
    let each = |bytes: usize| bytes as f64 / series as f64;
    let (catalogue, ring_bytes) = (each(more_catalogue - catalogue), each(more_ring - ring));
    println!(
        "{:<30} {series:>8} {:>13.1}  = {:>9.1} {:>5.1} {ring_bytes:>6.1} | {:.1}",
        file.file_name().unwrap_or_default().to_string_lossy(),
        catalogue + ring_bytes,
        catalogue - each(arena),
        each(arena),
        each(larger_scrape - ring),
    );
    breakdown(catalogue - each(arena), each(arena), ring_bytes);
}

/// What costs how much of it: sizes of the parts, and the rest of what was measured.
fn breakdown(catalogue: f64, text: f64, ring: f64) {
    let state = size_of::<SeriesState>() as f64;
    let parts = [
        ("codec states, of the writer and of the reader", 2.0 * state),
        (
            "series lists, of the writer and of the reader",
            2.0 * size_of::<u16>() as f64,
        ),
        ("places of definitions, of the reader; bits", ring - 2.0 * state - 4.0),
        ("catalogue: lookup table, a quarter of it empty", 2.0 * 4.0 / 3.0),
        (
            "catalogue: entries, places of groups, bits",
            catalogue - 2.0 * 4.0 / 3.0,
        ),
        ("texts", text),
    ];
    for (what, bytes) in parts {
        println!("    {what:<48} {bytes:>6.2}");
    }
}

/// Fills a ring with values that do not compress, and mounts it.
fn mount(mib: u32) {
    const SERIES: usize = 2_000;
    let shape = geometry(mib * 4);
    let config = || config(&shape, SERIES, 64 << 10);
    let mut catalogue = Catalogue::new(SERIES, 64 << 10, 1);
    let mut thin = thin::Thin::new(shape);
    format(&mut thin, UUID, 1, "").expect("a new file takes a format");
    let (mut ring, _) = Ring::mount(thin, config(), BOOT, &mut catalogue).expect("a new ring");
    catalogue.set_target(TargetRef(0), "job=\"a\"").expect("one target");
    let mut frame = Frame::with_capacity(SERIES);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut time = 1_000;
    // One lap, and then some.
    while ring.stats().head_seq < u64::from(shape.slots) + 3 {
        time += 1_000;
        frame.reset(TargetRef(0), time);
        frame.up = true;
        for index in 0..SERIES {
            if frame.samples.len() < index + 1 && catalogue.text(SeriesRef(index as u16)).is_none() {
                let name = format!("metric_{index}");
                let text = SeriesText { name: &name, body: "" };
                catalogue
                    .define(TargetRef(0), text, MetricType::Gauge)
                    .expect("room for all");
            }
            let sample = Sample {
                number: Number::from_raw_bits(rng.u64(..)),
                series: SeriesRef(index as u16),
            };
            frame.samples.push(sample).expect("room for all");
        }
        while ring.append(&frame, &mut catalogue).is_err() {
            ring.commit(&mut catalogue).expect("a file takes writes");
        }
    }
    ring.acknowledge(0, FrameNo(0));
    let mut thin = ring.into_storage();
    thin.settle();
    let mut best = f64::INFINITY;
    let mut blocks = (0, 0);
    for _round in 0..5 {
        thin.reads = 0;
        let mut catalogue = Catalogue::new(SERIES, 64 << 10, 1);
        let start = std::time::Instant::now();
        let (ring, report) = Ring::mount(thin, config(), BOOT, &mut catalogue).expect("a ring");
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
        thin = ring.into_storage();
        blocks = (thin.reads, report.segments);
    }
    let (reads, segments) = blocks;
    let head = reads - u64::from(shape.slots);
    println!(
        "mount of a full {mib} MiB ring: {best:.1} ms, {segments} segments, {reads} blocks read: one per slot and {} KiB",
        head * 4
    );
}
