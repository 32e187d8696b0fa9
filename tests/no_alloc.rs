//! Nothing on the way of a sample allocates after construction, and what construction takes is what is announced.
//!
//! A counting allocator, per thread, so that the test harness does not disturb. Each stage of the way adds its part to
//! [`Rig::round`] and its sizes to the second test.

extern crate alloc;

#[path = "../src/exposition/protobuf/tests/messages.rs"]
mod messages;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;

use tidegate::agent::{Agent, Parts, Stored};
use tidegate::catalogue::{Catalogue, Names, SeriesText};
use tidegate::clock::{Instant, UnixMillis};
use tidegate::exposition::Histograms;
use tidegate::frame::{Frame, FrameNo, FrameSource, Next};
use tidegate::labels::Label;
use tidegate::metadata::Metadata;
use tidegate::relabel::Relabel;
use tidegate::remote_write::batch::{BatchLimits, Sends, UnknownTime};
use tidegate::remote_write::identity::Identity;
use tidegate::remote_write::response::{Head, Protocol};
use tidegate::remote_write::sender::{Action, ErrorKind, MessageChoice, MetadataConfig, Sender, SenderConfig};
use tidegate::sample::{MetricType, Number, Sample, SeriesRef, TargetRef};
use tidegate::scrape::{LabelBuilder, Outcome, Reports, Schedule, Session, SessionSize, Shared, Target};
use tidegate::series::SeriesTable;
use tidegate::value::codec::CodecId;
use tidegate::wal::format::{Geometry, Medium, SUPERBLOCK_BYTES};
use tidegate::wal::storage::{Storage, StorageFailure, SuperblockCopy};
use tidegate::wal::{Boot, ClockSource, CommitStep, Reason, RemoteConfig, Ring, RingConfig, WhenFull, format};

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is ending has no counters any more, and nobody to read them.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    let _ = BYTES.try_with(|sum| sum.set(sum.get() + bytes));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract; counting neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of this same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size.saturating_sub(layout.size()));
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of this same function.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls to the allocator, and bytes asked of it, while `work` ran.
fn allocations<T>(work: impl FnOnce() -> T) -> (usize, usize, T) {
    let (calls, bytes) = (CALLS.get(), BYTES.get());
    let result = work();
    (CALLS.get() - calls, BYTES.get() - bytes, result)
}

const MAX_SERIES: usize = 1_500;
const TEXT_BYTES: usize = 100_000;
const MAX_TARGETS: usize = 4;
const SIZE: SessionSize = SessionSize {
    max_samples: MAX_SERIES,
    line_bytes: 20_480,
    label_bytes: 0,
    extras_bytes: 0,
    converts: false,
};

const PROTOBUF: &[u8] = b"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

const PROTOBUF_SIZE: SessionSize = SessionSize {
    label_bytes: 8_192,
    extras_bytes: 20_000,
    converts: true,
    ..SIZE
};

struct Rig {
    target: Target,
    schedule: Schedule,
    session: Session,
    table: SeriesTable,
    catalogue: Catalogue,
    builder: LabelBuilder,
    reports: Reports,
    metadata: Metadata,
    frame: u64,
    content_type: &'static [u8],
}

impl Rig {
    fn new() -> Self {
        let label = |name, value| Label { name, value };
        let labels = [label("instance", "host:9100"), label("job", "node")];
        let target = Target::new(TargetRef(0), &labels).unwrap();
        let mut rig = Self {
            schedule: Schedule::new(MAX_TARGETS),
            session: Session::new(SIZE),
            table: SeriesTable::new(MAX_SERIES, 2 * MAX_SERIES, MAX_TARGETS, 1),
            catalogue: Catalogue::new(MAX_SERIES, TEXT_BYTES, MAX_TARGETS),
            builder: LabelBuilder::new(),
            reports: Reports::new(MAX_TARGETS),
            metadata: Metadata::new(4_096, 64),
            frame: 0,
            content_type: b"text/plain",
            target,
        };
        rig.schedule.set(rig.target.reference, 1_000, 7, Instant(0));
        rig.catalogue
            .set_target(rig.target.reference, rig.target.body())
            .unwrap();
        rig
    }

    /// One sample's whole way: due, scraped, settled. Returns whether the scrape succeeded, and its samples.
    fn round(&mut self, body: &[u8], outcome: Outcome<'_>) -> (bool, usize) {
        let mut shared = Shared {
            table: &mut self.table,
            catalogue: &mut self.catalogue,
            builder: &mut self.builder,
            reports: &mut self.reports,
            metadata: &mut self.metadata,
        };
        self.frame += 1;
        let now = Instant(self.frame * 1_500);
        self.schedule.clock(1_700_000_000_000, now);
        let due = self.schedule.due(now).expect("more than an interval has passed");
        let unix = UnixMillis(1_700_000_000_000 + now.0 as i64);
        self.session.begin(&self.target, due.time, Some(unix), &mut shared);
        self.session.content_type(Some(self.content_type), &self.target);
        for piece in body.chunks(1_400) {
            if self.session.feed(piece, &self.target, &mut shared).is_err() {
                break;
            }
        }
        let frame = self.session.finish(outcome, 20, &self.target, &mut shared);
        let result = (frame.up, frame.samples.len());
        self.session.settle(FrameNo(self.frame), &mut shared);
        self.schedule.done(self.target.reference, now + 20);
        self.catalogue.reclaim(FrameNo(self.frame));
        result
    }
}

/// A protobuf exposition of many label sets: counters with exemplars, a native and a classic histogram, a summary.
fn protobuf_body(round: u32) -> Vec<u8> {
    use messages::{Bucket, Counter, Exemplar, Histogram, Metric, MetricFamily, Summary, Timestamp};
    use messages::{bucket, labels, quantile, span};
    let time = |seconds: u32| {
        Some(Timestamp {
            seconds: 1_700_000_000 + i64::from(seconds),
            nanos: 500_000_000,
        })
    };
    let exemplar = |n: u32| Exemplar {
        label: labels(&[("trace_id", &format!("t{n}-{round}"))]),
        value: Some(f64::from(n) / 8.0),
        timestamp: time(round),
    };
    let native = |n: u32| Histogram {
        sample_count: Some(6),
        sample_sum: Some(f64::from(round)),
        schema: Some(3),
        zero_threshold: Some(1e-128),
        positive_span: vec![span(1, 3)],
        positive_delta: vec![1, 1, 1],
        bucket: vec![bucket(1, 0.5, None), bucket(6, f64::from(n), None)],
        exemplars: vec![exemplar(n)],
        created_timestamp: time(0),
        ..Default::default()
    };
    let classic = Histogram {
        sample_count: Some(3),
        bucket: (0..20)
            .map(|n| Bucket {
                exemplar: Some(exemplar(n)),
                ..bucket(1, f64::from(n), None)
            })
            .collect(),
        ..Default::default()
    };
    let summary = Summary {
        sample_count: Some(u64::from(round)),
        quantile: vec![quantile(0.5, 0.1), quantile(0.9, f64::NAN)],
        ..Default::default()
    };
    let of = |kind: i32, n: u32| {
        let mut metric = Metric {
            label: labels(&[("pod", &format!("p{n}")), ("path", "C:\\\"x\"")]),
            ..Default::default()
        };
        match kind {
            0 => {
                metric.counter = Some(Counter {
                    value: Some(f64::from(n + round)),
                    exemplar: Some(exemplar(n)),
                    created_timestamp: time(n),
                });
            }
            2 => metric.summary = Some(summary.clone()),
            _ if n == 0 => metric.histogram = Some(classic.clone()),
            _ => metric.histogram = Some(native(n)),
        }
        metric
    };
    let families =
        [("requests_total", 0), ("latency_seconds", 2), ("size_bytes", 4)].map(|(name, kind)| MetricFamily {
            name: Some(name.into()),
            help: Some("Some help.".into()),
            kind: Some(kind),
            metric: (0..20).map(|n| of(kind, n)).collect(),
            unit: None,
        });
    messages::body(&families)
}

/// A scrape of `series` series; `churn` makes the names of a tenth of them differ from those of other scrapes.
fn body(series: usize, churn: usize) -> Vec<u8> {
    let mut text = String::from("# HELP m Some \\n help.\n# TYPE m histogram\n");
    for i in 0..series {
        let generation = if i % 10 == 0 { churn } else { 0 };
        let time = if i % 50 == 1 {
            format!(" {}", 1_000 + churn)
        } else {
            String::new()
        };
        writeln!(
            text,
            "m_bucket{{le=\"{i}\",job=\"x\\\"y\",pod=\"p{generation}\"}} {i}.5{time}"
        )
        .unwrap();
    }
    text.into_bytes()
}

#[test]
fn scrapes_do_not_allocate() {
    let mut rig = Rig::new();
    let bodies: Vec<_> = (0..30).map(|churn| body(1_000, churn)).collect();
    let flood = body(5_000, 99);
    let mut broken = body(1_000, 7);
    broken.extend(b"bad\n");
    let (calls, bytes, ()) = allocations(|| {
        // Definitions, then the steady state.
        assert_eq!(rig.round(&bodies[0], Outcome::Complete), (true, 1_000));
        assert_eq!(rig.round(&bodies[0], Outcome::Complete), (true, 980), "same timestamps");
        for body in &bodies {
            assert!(rig.round(body, Outcome::Complete).0);
        }
        assert!(!rig.round(&flood, Outcome::Complete).0);
        assert!(!rig.round(&broken, Outcome::Complete).0);
        assert!(!rig.round(&bodies[3], Outcome::Fetch(&"connection reset")).0);
        assert!(!rig.round(&[], Outcome::Status(500)).0);
        assert!(rig.round(&[], Outcome::Complete).0);
        assert!(rig.round(&bodies[4], Outcome::Complete).0);
    });
    assert_eq!((calls, bytes), (0, 0));
    assert!(rig.catalogue.len() >= 1_000 && rig.reports.counters.failed == 4);
}

#[test]
fn scrapes_of_protobuf_do_not_allocate() {
    let mut rig = Rig::new();
    rig.session = Session::new(PROTOBUF_SIZE);
    rig.table = SeriesTable::new(MAX_SERIES, 2 * MAX_SERIES, MAX_TARGETS, 1).with_exemplars();
    rig.content_type = PROTOBUF;
    rig.target.start_times = true;
    rig.target.histograms = Histograms {
        native: true,
        classic_too: true,
    };
    rig.target.convert_classic = true;
    rig.target.resolution.bucket_limit = 2;
    let bodies: Vec<_> = (0..10).map(protobuf_body).collect();
    let damaged = &bodies[1][..bodies[1].len() / 2];
    let (calls, bytes, ()) = allocations(|| {
        for body in &bodies {
            // 20 counters, 20 summaries of 4 series, a histogram of 22 and what it converts to, 19 native ones with 4 more each.
            assert_eq!(
                rig.round(body, Outcome::Complete),
                (true, 20 + 20 * 4 + 23 + 1 + 19 * (1 + 5))
            );
            assert!(!rig.session.frame().extras.is_empty());
        }
        assert!(!rig.round(damaged, Outcome::Complete).0);
        assert!(rig.round(&bodies[0], Outcome::Complete).0);
    });
    assert_eq!((calls, bytes), (0, 0));
    let counters = rig.reports.counters;
    assert!(
        counters.exemplars > 500 && counters.histograms_no_room == 0,
        "{counters:?}"
    );
    assert!(rig.metadata.find("size_bytes").is_some());
}

#[test]
fn announced_sizes_are_exact() {
    let sizes = [
        (MAX_SERIES, TEXT_BYTES, MAX_TARGETS),
        (1, 0, 1),
        (usize::MAX, 7, usize::MAX),
    ];
    for (series, text, targets) in sizes {
        let (_, bytes, catalogue) = allocations(|| Catalogue::new(series, text, targets));
        assert_eq!(bytes, Catalogue::ram_bytes(series, text, targets));
        assert!(catalogue.is_empty());
        let texts = series.min(10_000);
        let (_, bytes, table) = allocations(|| SeriesTable::new(series, texts, targets, 0));
        assert_eq!(bytes, SeriesTable::ram_bytes(series, texts, targets));
        assert_eq!(table.texts(), 0);
        assert_eq!(allocations(|| Reports::new(targets)).1, Reports::ram_bytes(targets));
        assert_eq!(allocations(|| Schedule::new(targets)).1, Schedule::ram_bytes(targets));
    }
    assert_eq!(allocations(|| Session::new(SIZE)).1, Session::ram_bytes(SIZE));
    let (_, bytes, _) = allocations(|| Session::new(PROTOBUF_SIZE));
    assert_eq!(bytes, Session::ram_bytes(PROTOBUF_SIZE));
    let (_, bytes, _) = allocations(|| Metadata::new(1_000, 30));
    assert_eq!(bytes, Metadata::ram_bytes(1_000, 30));
    let table = SeriesTable::new(MAX_SERIES, 0, 1, 0);
    let (_, bytes, table) = allocations(|| table.with_exemplars());
    assert_eq!(bytes, SeriesTable::exemplar_ram_bytes(MAX_SERIES));
    assert!(table.keeps_exemplars());
    assert_eq!(allocations(LabelBuilder::new).1, LabelBuilder::ram_bytes());
}

#[test]
fn the_counter_counts() {
    let (calls, bytes, boxed) = allocations(|| Box::new([0u64; 4]));
    assert_eq!((calls, bytes, boxed.len()), (1, 32, 4));
}

/// Frames of one target without end: every series in each, one of them vanishing now and then.
struct Frames {
    catalogue: Catalogue,
    at: u64,
    end: u64,
}

impl FrameSource for Frames {
    type Error = core::convert::Infallible;

    fn next(&mut self, frame: &mut Frame) -> Result<Next, Self::Error> {
        if self.at >= self.end {
            return Ok(Next::End);
        }
        frame.reset(TargetRef(0), self.at * 1_000);
        frame.number = FrameNo(self.at);
        frame.up = true;
        frame.unix_ms = Some(1_700_000_000_000 + self.at as i64 * 1_000);
        let gone = (self.at % 7) as u16;
        for series in 0..MAX_SERIES as u16 {
            if series == gone {
                frame.stale.push(SeriesRef(series)).unwrap();
            } else {
                let number = Number::decimal((self.at + u64::from(series)) as i64, 0);
                let series = SeriesRef(series);
                frame.samples.push(Sample { number, series }).unwrap();
            }
        }
        self.at += 1;
        Ok(Next::Frame)
    }

    fn seek(&mut self, at: FrameNo) {
        self.at = at.0;
    }

    fn names(&mut self) -> Names<'_> {
        Names::Catalogue(&self.catalogue)
    }
}

const SENDER: SenderConfig = SenderConfig {
    limits: BatchLimits {
        samples: 5_000,
        body_bytes: 512 * 1024,
        max_series: MAX_SERIES,
        max_targets: MAX_TARGETS,
        frame_samples: MAX_SERIES,
        extras_bytes: 0,
        sends: Sends {
            histograms: false,
            exemplars: false,
        },
        families: 0,
    },
    max_samples_per_send: 2_000,
    backlog_samples_per_send: 5_000,
    flush_interval_ms: 5_000,
    min_backoff_ms: 30,
    max_backoff_ms: 5_000,
    connect_backoff_ms: 1_000,
    rate_limit: 0,
    slow_start_ms: 60_000,
    live_share: 0,
    max_sample_age_ms: 0,
    retry_on_429: true,
    message: MessageChoice::Negotiate,
    group_live: false,
    metadata: MetadataConfig::OFF,
    unknown_time: UnknownTime::Hold,
    seed: 1,
};

#[test]
fn requests_do_not_allocate() {
    let mut catalogue = Catalogue::new(MAX_SERIES, TEXT_BYTES, MAX_TARGETS);
    catalogue
        .set_target(TargetRef(0), r#"instance="host:9100",job="node""#)
        .unwrap();
    for i in 0..MAX_SERIES {
        // Every second one tells when the counter before it began.
        let (suffix, kind) = [("total", MetricType::Counter), ("created", MetricType::Unknown)][i % 2];
        let (name, body) = (format!("metric_{}_{suffix}", i / 6), format!(r#"n="{}""#, i % 6 / 2));
        let text = SeriesText {
            name: &name,
            body: &body,
        };
        catalogue.define(TargetRef(0), text, kind).unwrap();
    }
    let metadata = tidegate::metadata::Metadata::new(0, 0);
    let mut frames = Frames {
        catalogue,
        at: 0,
        end: 40,
    };
    let mut sender = Sender::new(
        SENDER,
        Identity::new(&[("site", "north")], Relabel::default()),
        FrameNo(0),
        FrameNo(3),
    );
    let mut sent = 0;
    let (calls, bytes, ()) = allocations(|| {
        let mut now = Instant(0);
        let mut answers = [415, 503, 400, 413, 204, 401].into_iter();
        while sender.acknowledged() < FrameNo(60) {
            match sender.poll(now, None, &mut frames, &metadata).unwrap() {
                Action::Send => {
                    sent += sender.request().body.len();
                    match answers.next() {
                        Some(status) => drop(sender.on_response(now, None, &Head::new(status))),
                        None => drop(sender.on_response(now, None, &Head::new(204))),
                    }
                }
                Action::Wait(at) | Action::Hold(_, at) if at < Instant(u64::MAX) => now = at,
                _ => {
                    // Caught up: live from here on.
                    frames.end += 1;
                    now = now + 1_000;
                }
            }
        }
    });
    assert_eq!((calls, bytes), (0, 0));
    assert!(sent > 100_000 && sender.counters().samples_accepted > 50_000, "{sent}");
}

#[test]
fn a_sender_takes_what_it_announces() {
    for series in [1, 1_000, 20_000] {
        let mut config = SENDER;
        config.limits.max_series = series;
        config.limits.frame_samples = series;
        let identity = Identity::new(&[], Relabel::default());
        let labels = tidegate::limits::MAX_SERIES_TEXT_BYTES;
        let (_, bytes, sender) = allocations(|| Sender::new(config, identity, FrameNo(0), FrameNo(0)));
        assert_eq!(bytes + labels, Sender::ram_bytes(&config));
        assert_eq!(sender.acknowledged(), FrameNo(0));
    }
}

#[cfg(feature = "host")]
#[test]
fn compression_does_not_allocate() {
    use tidegate::remote_write::Compressor;
    let mut snappy = tidegate::host::snappy::Snappy::new();
    let input: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let mut out = vec![0; tidegate::host::snappy::output_bytes(input.len())];
    let (calls, ..) = allocations(|| {
        for len in [100, 3_000, 70_000, 200_000] {
            assert!(snappy.compress(&input[..len], &mut out).is_ok());
        }
    });
    assert_eq!(calls, 0);
}

/// Plain memory.
struct Memory {
    superblock: [u8; SUPERBLOCK_BYTES],
    bytes: Vec<u8>,
}

const GEOMETRY: Geometry = Geometry {
    block_bytes: 4_096,
    blocks_per_slot: 64,
    slots: 4,
    medium: Medium::Rewritable,
};

impl Memory {
    fn block(&mut self, block: u32, len: usize) -> &mut [u8] {
        let at = block as usize * GEOMETRY.block_bytes as usize;
        &mut self.bytes[at..at + len]
    }
}

impl Storage for Memory {
    type Error = StorageFailure;

    fn geometry(&self) -> Geometry {
        GEOMETRY
    }

    fn read_superblock(&mut self, _: SuperblockCopy, to: &mut [u8; SUPERBLOCK_BYTES]) -> Result<bool, StorageFailure> {
        *to = self.superblock;
        Ok(true)
    }

    fn write_superblock(&mut self, _: SuperblockCopy, from: &[u8; SUPERBLOCK_BYTES]) -> Result<bool, StorageFailure> {
        self.superblock = *from;
        Ok(true)
    }

    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), StorageFailure> {
        bytes.copy_from_slice(self.block(block, bytes.len()));
        Ok(())
    }

    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), StorageFailure> {
        self.block(block, bytes.len()).copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, _: u32) -> Result<(), StorageFailure> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageFailure> {
        Ok(())
    }
}

/// A whole agent of one target and one remote, with a session.
struct Whole {
    agent: Agent<Memory>,
    session: Session,
    content_type: &'static [u8],
    now: Instant,
    wake: Instant,
    commits: usize,
}

impl Whole {
    /// Values only.
    fn new() -> Self {
        Self::with(SIZE, SENDER, b"text/plain")
    }

    /// Protobuf with all that samples may carry, and a remote that wants all of it.
    fn carrying(protocol: Protocol) -> Self {
        let mut sender = SENDER;
        sender.message = MessageChoice::Fixed(protocol);
        sender.limits.extras_bytes = PROTOBUF_SIZE.extras_bytes;
        sender.limits.sends = Sends {
            histograms: true,
            exemplars: true,
        };
        sender.limits.families = 30;
        sender.metadata.send = true;
        Self::with(PROTOBUF_SIZE, sender, PROTOBUF)
    }

    fn with(size: SessionSize, sender: SenderConfig, content_type: &'static [u8]) -> Self {
        let mut memory = Memory {
            superblock: [0; SUPERBLOCK_BYTES],
            bytes: vec![0; (GEOMETRY.segment_bytes() * GEOMETRY.slots) as usize],
        };
        format(&mut memory, [7; 16], 1, "no alloc").unwrap();
        let wall = Some((UnixMillis(1_700_000_000_000), ClockSource::Synchronised));
        let boot = Boot {
            id: [1; 16],
            now: Instant(0),
            wall,
            error_ms: 5,
        };
        let mut catalogue = Catalogue::new(MAX_SERIES, TEXT_BYTES, MAX_TARGETS);
        let (ring, _) = Ring::mount(memory, ring_config(size.extras_bytes), boot, &mut catalogue).unwrap();
        let label = |name, value| Label { name, value };
        let labels = [label("instance", "host:9100"), label("job", "node")];
        let mut target = Target::new(TargetRef(0), &labels).unwrap();
        target.interval_ms = 15_000;
        target.start_times = size.extras_bytes > 0;
        target.histograms = Histograms {
            native: size.extras_bytes > 0,
            classic_too: true,
        };
        let mut table = SeriesTable::new(MAX_SERIES, 2 * MAX_SERIES, MAX_TARGETS, 1);
        if size.extras_bytes > 0 {
            table = table.with_exemplars();
        }
        catalogue.set_target(target.reference, target.body()).unwrap();
        let identity = Identity::new(&[("site", "north")], Relabel::default());
        let parts = Parts {
            targets: [target].into(),
            phase_keys: [7].into(),
            schedule: Schedule::new(MAX_TARGETS),
            table,
            catalogue,
            builder: LabelBuilder::new(),
            reports: Reports::new(MAX_TARGETS),
            metadata: Metadata::new(4_096, 64),
            ring,
            senders: vec![Sender::new(sender, identity, FrameNo(0), FrameNo(0))],
        };
        Self {
            agent: Agent::new(parts, Instant(0)),
            session: Session::new(size),
            content_type,
            now: Instant(0),
            wake: Instant(0),
            commits: 0,
        }
    }

    /// Scrapes once; then everything that is due before the next scrape, with an uplink that answers `status` or, if that
    /// is `None`, is down.
    fn round(&mut self, body: &[u8], status: Option<u16>) {
        let due = self.agent.next_scrape().expect("one target waits");
        self.now = self.now.max(due);
        let due = self.agent.due(self.now).expect("its time has come");
        self.agent.begin(&mut self.session, due);
        self.agent.content_type(&mut self.session, Some(self.content_type));
        for piece in body.chunks(1_400) {
            let _ = self.agent.feed(&mut self.session, piece);
        }
        let stored = self.agent.finish(&mut self.session, Outcome::Complete, 20, self.now);
        assert!(matches!(stored, Some(Stored::As(_))), "{stored:?}");
        let end = self.agent.next_scrape().expect("one target waits");
        self.wake = self.now;
        while self.now < end {
            self.commit();
            while self.wake <= self.now {
                self.drain(status);
            }
            self.now = (self.now + 500).min(end);
        }
    }

    fn commit(&mut self) {
        let Some((_, what)) = self.agent.next_commit(self.now).filter(|&(at, _)| at <= self.now) else {
            return;
        };
        self.commits += 1;
        while self.agent.commit_step(what).unwrap() == CommitStep::NeedSync {
            let result = self.agent.ring_mut().storage_mut().sync();
            self.agent.synced(result);
        }
    }

    fn drain(&mut self, status: Option<u16>) {
        match self.agent.poll_remote(0, self.now).unwrap() {
            Action::Send => {
                assert!(!self.agent.request(0).expect("one remote").body.is_empty());
                match status {
                    None => self.agent.on_error(0, self.now, ErrorKind::Timeout),
                    Some(status) => {
                        let mut head = Head::new(status);
                        for name in WRITTEN {
                            head.header(name, b"1000000");
                        }
                        self.agent.on_response(0, self.now, &head);
                    }
                }
            }
            Action::Wait(at) | Action::Hold(_, at) => self.wake = at,
            Action::InFlight | Action::Done => unreachable!("every request is answered at once, none is flushed"),
        }
    }

    fn caught_up(&self) -> bool {
        self.agent.ring().acknowledged(0) == self.agent.ring().next_frame()
    }
}

/// A receiver of 2.0 says that it wrote everything.
const WRITTEN: [&str; 3] = [
    "X-Prometheus-Remote-Write-Samples-Written",
    "X-Prometheus-Remote-Write-Histograms-Written",
    "X-Prometheus-Remote-Write-Exemplars-Written",
];

fn ring_config(extras_bytes: usize) -> RingConfig {
    let ring_bytes = u64::from(GEOMETRY.segment_bytes()) * u64::from(GEOMETRY.slots) + 8_192;
    let remote = RemoteConfig {
        id: 1,
        best_effort: false,
    };
    RingConfig {
        block_bytes: GEOMETRY.block_bytes,
        segment_bytes: GEOMETRY.segment_bytes(),
        ring_bytes,
        codec: CodecId::Tc1,
        commit_interval_ms: 60_000,
        staging_blocks: 16,
        max_series: MAX_SERIES,
        max_frame_samples: MAX_SERIES,
        extras_bytes,
        text_bytes: TEXT_BYTES,
        remotes: [remote].into_iter().collect(),
        when_full: WhenFull::DropOldest,
        config_crc: 7,
        #[cfg(feature = "host")]
        compress: Some(Box::new(tidegate::host::snappy::Dictionaries::new())),
        #[cfg(not(feature = "host"))]
        compress: None,
    }
}

#[test]
fn the_whole_way_from_scrape_to_acknowledgement_does_not_allocate() {
    let mut whole = Whole::new();
    let bodies: Vec<_> = (0..40).map(|churn| body(1_000, churn)).collect();
    let steady = |whole: &mut Whole, rounds: usize, status| {
        for _ in 0..rounds {
            whole.round(&bodies[0], status);
        }
    };
    let (calls, bytes, ()) = allocations(|| {
        // Live: staging only.
        steady(&mut whole, 10, Some(204));
        assert!(whole.caught_up() && whole.commits == 0);
        // New series in every scrape.
        for body in &bodies[..10] {
            whole.round(body, Some(204));
        }
        assert!(whole.caught_up() && whole.commits == 0);
        // An outage: commits, segments, definitions.
        for body in &bodies {
            whole.round(body, None);
        }
        assert!(!whole.caught_up() && whole.commits > 5);
        // Answers of all kinds, then the backlog from flash.
        for status in [503, 429, 401, 413] {
            steady(&mut whole, 1, Some(status));
        }
        steady(&mut whole, 30, Some(204));
        assert!(whole.caught_up());
        // So long an outage that the ring laps, and what is left of it.
        let mut rounds = 0;
        while whole.agent.ring().counters().loss(Reason::Lapped).frames == 0 {
            whole.round(&bodies[rounds % 40], None);
            rounds += 1;
        }
        steady(&mut whole, 60, Some(204));
        assert!(whole.caught_up());
        whole.agent.close().unwrap();
    });
    assert_eq!((calls, bytes), (0, 0));
    let counters = whole.agent.senders()[0].counters();
    assert!(
        counters.samples_accepted > 100_000 && counters.samples_failed == 0,
        "{counters:?}"
    );
}

#[test]
fn what_samples_carry_goes_the_whole_way_without_an_allocation() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut whole = Whole::carrying(protocol);
        // Exemplars that were there before are not taken again.
        let bodies: Vec<_> = (0..123).map(protobuf_body).collect();
        let (calls, bytes, ()) = allocations(|| {
            for body in &bodies[..41] {
                whole.round(body, Some(204));
            }
            assert!(whole.caught_up() && whole.commits == 0);
            for body in &bodies[41..81] {
                whole.round(body, None);
            }
            assert!(whole.commits > 5);
            whole.round(&bodies[81], Some(503));
            whole.round(&bodies[82], Some(413));
            for body in &bodies[83..] {
                whole.round(body, Some(204));
            }
            assert!(whole.caught_up());
            whole.agent.close().unwrap();
        });
        assert_eq!((calls, bytes), (0, 0));
        let counters = whole.agent.senders()[0].counters();
        let (histograms, exemplars) = (counters.histograms.sent, counters.exemplars.sent);
        assert!(histograms > 19 * 120, "{counters:?}");
        assert!(exemplars > 59 * 120, "{counters:?}");
        assert_eq!(counters.metadata.sent > 0, protocol == Protocol::V1, "{counters:?}");
        assert_eq!(counters.samples_lost(), 0, "{counters:?}");
        assert_eq!(whole.agent.ring().counters().frames_without_extras, 0);
    }
}
