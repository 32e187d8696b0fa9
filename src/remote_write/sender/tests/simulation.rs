//! The sender against a simulated receiver, over random scripts of loss, refusal and restart.

use super::*;
use crate::remote_write::testkit::NO_BOUNDS;
use crate::sample::STALE_NAN_BITS;
use alloc::collections::{BTreeMap, BTreeSet};

const SERIES: u16 = 130;

/// What a receiver does with a body.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Takes the whole request back when one sample is out of order; identical newest samples are no error.
    PrometheusV1,
    /// Skips bad samples, reports those written.
    PrometheusV2,
    /// Takes anything, 1.0 only, ignores a 2.0 body with a 204.
    Lenient,
}

struct Receiver {
    kind: Kind,
    /// Per series: time to bits.
    stored: BTreeMap<String, BTreeMap<i64, u64>>,
    max_samples: usize,
    /// Samples that arrived in accepted requests and were stored already.
    duplicates: usize,
}

impl Receiver {
    /// Stores what it accepts; returns the answer.
    fn receive(&mut self, body: &[u8], protocol: Protocol) -> Head {
        if self.kind == Kind::Lenient && protocol == Protocol::V2 {
            return Head::new(204);
        }
        if self.kind == Kind::PrometheusV1 && protocol == Protocol::V2 {
            return Head::new(415);
        }
        let series = decode(body, protocol);
        let flat: Vec<(String, i64, u64)> = series
            .iter()
            .flat_map(|s| s.samples.iter().map(|&(bits, time)| (s.labels.clone(), time, bits)))
            .collect();
        if flat.len() > self.max_samples {
            return Head::new(413);
        }
        let before = self.stored.clone();
        let mut written = 0;
        for (labels, time, bits) in &flat {
            let stored = self.stored.entry(labels.clone()).or_default();
            let newest = stored.last_key_value().map(|(&t, &b)| (t, b));
            match newest {
                Some((t, b)) if self.kind != Kind::Lenient && *time <= t && (*time, *bits) != (t, b) => {}
                _ => {
                    self.duplicates += usize::from(stored.insert(*time, *bits).is_some());
                    written += 1;
                }
            }
        }
        let complete = written == flat.len();
        if !complete && self.kind == Kind::PrometheusV1 {
            self.stored = before;
            return Head::new(400);
        }
        let mut head = Head::new(if complete { 204 } else { 400 });
        if protocol == Protocol::V2 {
            head.header(
                "X-Prometheus-Remote-Write-Samples-Written",
                alloc::format!("{written}").as_bytes(),
            );
        }
        head
    }
}

struct World {
    rng: fastrand::Rng,
    bench: Bench,
    receiver: Receiver,
    config: SenderConfig,
    /// Totals of senders that ended with a restart.
    accepted: u64,
    in_doubt: u64,
    failed: u64,
    ambiguous: bool,
    /// Requests behind the first slice of a batch.
    slices: u64,
    /// Wait before the latest attempt, while connections fail in a row.
    last_gap: Option<u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let kind = [Kind::PrometheusV1, Kind::PrometheusV2, Kind::Lenient][rng.usize(..3)];
        let fixed = match kind {
            Kind::PrometheusV2 => Protocol::V2,
            _ => Protocol::V1,
        };
        let config = SenderConfig {
            message: if rng.bool() {
                MessageChoice::Negotiate
            } else {
                MessageChoice::Fixed(fixed)
            },
            backlog_samples_per_send: rng.usize(20..200),
            max_samples_per_send: rng.usize(10..100),
            // Of some, batches are larger than requests.
            limits: BatchLimits {
                samples: rng.usize(0..800),
                ..config().limits
            },
            flush_interval_ms: rng.u64(0..6000),
            group_live: rng.bool(),
            seed,
            ..config()
        };
        let mut bench = Bench::new(config);
        bench.source = Frames::over_targets(SERIES, 3);
        bench.source.boundaries = (0..20).map(|_| rng.u64(..200)).collect();
        Self {
            receiver: Receiver {
                kind,
                stored: BTreeMap::new(),
                max_samples: rng.usize(5..300),
                duplicates: 0,
            },
            rng,
            bench,
            config,
            accepted: 0,
            in_doubt: 0,
            failed: 0,
            ambiguous: false,
            slices: 0,
            last_gap: None,
        }
    }

    fn scrape(&mut self) {
        let number = self.bench.source.scrapes.len() as u64;
        let target = self.rng.u16(0..3);
        let series = |i: u16| i * 3 + target;
        let samples: Vec<_> = (0..self.rng.u16(0..40))
            .map(|i| (series(i), self.rng.i64(-3..3)))
            .collect();
        let mut scrape = Scrape::new(number, EPOCH + self.bench.now.0 as i64, &samples);
        scrape.target = target as u8;
        if self.rng.u8(..) < 30 {
            scrape.samples.clear();
            scrape.up = false;
            scrape.stale = (0..self.rng.u16(0..20)).map(series).collect();
        }
        self.bench.source.scrapes.push(scrape);
    }

    fn step(&mut self, faulty: bool) {
        let request = match self.bench.poll() {
            Action::Send => self.bench.sender.request(),
            Action::Wait(at) | Action::Hold(_, at) => {
                let at = at.0.min(self.bench.now.0 + 1000);
                self.bench.now = Instant(at.max(self.bench.now.0 + 1));
                return;
            }
            other => panic!("{other:?}"),
        };
        assert!(request.samples > 0, "an empty request");
        let most = self
            .config
            .max_samples_per_send
            .max(self.config.backlog_samples_per_send);
        assert!(request.samples <= most, "{} of {most}", request.samples);
        self.slices += u64::from(self.bench.sender.batch.is_begun());
        assert_eq!(request.retry_attempt, self.bench.sender.failed_attempts());
        let (body, protocol) = (request.body.to_vec(), request.protocol);
        let fault = if faulty { self.rng.u8(..) } else { 255 };
        self.bench.now = self.bench.now + self.rng.u64(1..50);
        match fault {
            0..40 => self.fail(ErrorKind::Connect),
            40..60 => self.fail(ErrorKind::Timeout),
            // Stored, but the answer is lost.
            60..90 => {
                self.ambiguous = true;
                self.receiver.receive(&body, protocol);
                self.fail(ErrorKind::Closed);
            }
            90..110 => drop(self.bench.answer(503)),
            110..120 => {
                self.ambiguous = true;
                self.receiver.receive(&body, protocol);
                self.bench.answer(500);
            }
            120..125 => drop(self.bench.answer(404)),
            125..130 => drop(self.bench.answer(429)),
            // Another receiver in its place, with what it had: 1.0 is all it knows.
            140..142 if self.receiver.kind == Kind::PrometheusV2 && self.config.message == MessageChoice::Negotiate => {
                self.receiver.kind = Kind::Lenient;
                let head = self.receiver.receive(&body, protocol);
                self.bench.answer_with(head);
            }
            // Power lost: the answer is never seen.
            130..140 => {
                self.ambiguous = true;
                self.receiver.receive(&body, protocol);
                self.restart();
            }
            _ => {
                let head = self.receiver.receive(&body, protocol);
                self.bench.answer_with(head);
            }
        }
        if fault >= 90 {
            self.last_gap = None;
        }
    }

    /// Waits between attempts on one outage never shrink by more than a fifth.
    fn fail(&mut self, kind: ErrorKind) {
        self.bench.sender.on_error(self.bench.now, kind);
        let action = self.bench.poll();
        let Action::Wait(at) = action else {
            panic!("{action:?} after a failure");
        };
        let (gap, before) = (at.since(self.bench.now), self.last_gap.unwrap_or(0));
        // Several answers in a row that ask for a pause may make more than a minute of it.
        let since = self.bench.sender.failing_since;
        let outage = since.map_or(0, |since| self.bench.now.since(since));
        let most = (outage / PROBE_SHARE).max(1000);
        assert!(gap * 10 >= before * 8 && gap <= most, "{before} then {gap}, {outage}");
        self.last_gap = Some(gap);
    }

    fn restart(&mut self) {
        self.settle_counters();
        // The ring kept an acknowledgement that may be older.
        let kept = self.bench.acknowledged().saturating_sub(self.rng.u64(0..5));
        let until = FrameNo(self.bench.source.scrapes.len() as u64);
        self.bench.sender = Sender::new(
            self.config,
            Identity::new(&[], crate::relabel::Relabel::default()),
            FrameNo(kept),
            until,
        );
    }

    fn settle_counters(&mut self) {
        let counters = self.bench.sender.counters();
        self.accepted += counters.samples_accepted;
        self.in_doubt += counters.samples_in_doubt;
        self.failed += counters.samples_failed;
    }

    /// Everything scraped, by series.
    fn expected(&self) -> BTreeMap<String, BTreeMap<i64, u64>> {
        let mut identity = Identity::new(&[], crate::relabel::Relabel::default());
        let mut frames = Frames::over_targets(SERIES, 3);
        frames.scrapes = self.bench.source.scrapes.clone();
        let mut batch = Batch::new(
            BatchLimits {
                samples: 65_535,
                body_bytes: 8 << 20,
                ..self.config.limits
            },
            0,
        );
        let mut frame = Frame::with_capacity(300);
        while batch.gather(&mut frames, &mut frame, &mut identity, &NO_BOUNDS) != Ok(Stop::End) {}
        batch.seal(Layout::Grouped);
        let mut all: BTreeMap<String, BTreeMap<i64, u64>> = BTreeMap::new();
        for sent in decode(batch.body(), Protocol::V2) {
            let times = sent.samples.iter().map(|&(bits, time)| (time, bits));
            all.entry(sent.labels).or_default().extend(times);
        }
        all
    }
}

#[test]
fn nothing_is_lost_over_random_outages_refusals_and_restarts() {
    let mut stats = BTreeMap::<&str, u64>::new();
    for seed in 0..120 {
        let mut world = World::new(seed);
        for _ in 0..world.rng.usize(20..120) {
            let burst = if world.rng.u8(..) < 20 { 10 } else { 1 };
            for _ in 0..burst {
                world.bench.now = world.bench.now + world.rng.u64(1..2000);
                world.scrape();
            }
            for _ in 0..world.rng.usize(0..6) {
                world.step(true);
            }
        }
        let frames = world.bench.source.scrapes.len() as u64;
        for _ in 0..20_000 {
            if world.bench.acknowledged() == frames {
                break;
            }
            world.step(false);
        }
        let kind = world.receiver.kind;
        assert_eq!(world.bench.acknowledged(), frames, "seed {seed}, {kind:?}");
        world.settle_counters();
        let expected = world.expected();
        assert_eq!(world.receiver.stored.len(), expected.len(), "seed {seed}, {kind:?}");
        for (labels, samples) in &expected {
            assert_eq!(
                world.receiver.stored.get(labels),
                Some(samples),
                "seed {seed}, {kind:?}, {labels}"
            );
        }
        assert_eq!(world.failed, 0, "seed {seed}, {kind:?}");
        let distinct: usize = expected.values().map(BTreeMap::len).sum();
        assert!(
            world.accepted + world.in_doubt >= distinct as u64,
            "seed {seed}: every sample is accounted for"
        );
        if !world.ambiguous {
            assert_eq!(world.receiver.duplicates, 0, "seed {seed}: sent twice without need");
            assert_eq!((world.accepted, world.in_doubt), (distinct as u64, 0), "seed {seed}");
        }
        *stats.entry("ambiguous").or_default() += u64::from(world.ambiguous);
        *stats.entry("in doubt").or_default() += world.in_doubt;
        *stats.entry("duplicates").or_default() += world.receiver.duplicates as u64;
        *stats.entry("slices").or_default() += world.slices;
        *stats.entry("samples").or_default() += distinct as u64;
    }
    // The script reaches what it is there for.
    assert!(stats.values().all(|&n| n > 100), "{stats:?}");
}

#[test]
fn what_a_receiver_refuses_is_lost_alone_and_counted() {
    let mut lost_in_all = 0;
    for seed in 0..60 {
        let mut world = World::new(seed);
        world.receiver.max_samples = 1000;
        let mut poison = BTreeSet::new();
        // Some series were stored with a time far ahead: whatever comes for them is out of order.
        for _ in 0..3 {
            let n = world.rng.u16(..60);
            let instance = ["box", "box1", "box2"][usize::from(n % 3)];
            let labels = alloc::format!("__name__=metric_{n};instance={instance};job=node;n={n};");
            world
                .receiver
                .stored
                .insert(labels.clone(), BTreeMap::from([(i64::MAX, STALE_NAN_BITS)]));
            poison.insert(labels);
        }
        for _ in 0..60 {
            world.bench.now = world.bench.now + 1000;
            world.scrape();
            world.step(false);
        }
        let frames = world.bench.source.scrapes.len() as u64;
        while world.bench.acknowledged() < frames && world.bench.now < Instant(10_000_000) {
            world.step(false);
        }
        assert_eq!(world.bench.acknowledged(), frames, "seed {seed}: the queue goes on");
        world.settle_counters();
        let expected = world.expected();
        let total: usize = expected.values().map(BTreeMap::len).sum();
        let kept = |labels: &String| world.receiver.stored.get(labels).map_or(0, BTreeMap::len);
        let arrived: usize = expected.keys().filter(|l| !poison.contains(*l)).map(kept).sum();
        assert_eq!(
            world.accepted + world.failed,
            total as u64,
            "seed {seed}: all are counted"
        );
        match world.receiver.kind {
            Kind::Lenient => assert_eq!(world.failed, 0),
            Kind::PrometheusV2 => assert_eq!(world.accepted, arrived as u64, "only the poisoned series lose"),
            Kind::PrometheusV1 => assert_eq!(world.accepted, arrived as u64, "what is accepted is stored"),
        }
        lost_in_all += world.failed;
    }
    assert!(lost_in_all > 1000, "{lost_in_all}");
}
