//! An agent between expositions and compressed bodies, under a virtual clock.

use crate::bodies::Exposed;
use crate::ring_config;
use std::time::{Duration, Instant as Watch};
use tidegate::agent::{Agent, Parts};
use tidegate::catalogue::Catalogue;
use tidegate::clock::{Instant, UnixMillis};
use tidegate::host::config::{Config, Sizes};
use tidegate::host::snappy::{Dictionaries, Snappy, output_bytes};
use tidegate::labels::Label;
use tidegate::metadata::Metadata;
use tidegate::relabel::Relabel;
use tidegate::remote_write::Compressor;
use tidegate::remote_write::batch::UnknownTime;
use tidegate::remote_write::identity::Identity;
use tidegate::remote_write::response::{Head, Protocol};
use tidegate::remote_write::sender::{Action, ErrorKind, MessageChoice, MetadataConfig, Sender, SenderConfig};
use tidegate::sample::TargetRef;
use tidegate::scrape::{LabelBuilder, Outcome, Reports, Schedule, Session, Target};
use tidegate::series::SeriesTable;
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::testing::Ram;
use tidegate::wal::{Boot, ClockSource, CommitStep, Ring, RingConfig, format};

const INTERVAL_MS: u64 = 15_000;
const START: Instant = Instant(1_000);
const SITE: (&str, &str) = ("site", "mast-17");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    Live,
    Stretched,
    Backlog(usize),
}

impl std::fmt::Display for Situation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Stretched => f.write_str("flush 2m"),
            Self::Backlog(samples) => write!(f, "backlog {samples}"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub samples: u64,
    /// Those with samples.
    pub requests: u64,
    pub raw: u64,
    pub wire: u64,
    /// `wire` where no metadata is sent.
    pub without: u64,
    pub sealing: Duration,
    pub compressing: Duration,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.requests += other.requests;
        self.raw += other.raw;
        self.wire += other.wire;
        self.without += other.without;
        self.sealing += other.sealing;
        self.compressing += other.compressing;
    }
}

pub struct Path {
    agent: Agent<Ram>,
    session: Session,
    snappy: Snappy,
    out: Vec<u8>,
    now: Instant,
    wake: Instant,
    up: bool,
    report: Report,
}

impl Path {
    pub fn new(targets: &[Exposed], protocol: Protocol, situation: Situation, metadata: bool) -> Self {
        let (config, sizes) = configuration(targets.len(), protocol, situation, metadata);
        let remote = &config.remote_write[0];
        let geometry = Geometry {
            block_bytes: 4096,
            blocks_per_slot: 64,
            slots: 64,
            medium: Medium::Rewritable,
        };
        let mut ram = Ram::new(geometry, 1);
        format(&mut ram, *b"wire bytes bench", 1, "bench").expect("a blank medium takes a format");
        let mut catalogue = Catalogue::new(sizes.max_series, sizes.text_bytes, sizes.max_targets);
        let boot = Boot {
            id: [1; 16],
            now: START,
            wall: Some((UnixMillis(targets[0].scrapes[0].0), ClockSource::Synchronised)),
            error_ms: 5,
        };
        let (ring, _) =
            Ring::mount(ram, ring_config(&geometry, &sizes), boot, &mut catalogue).expect("a new ring mounts");
        let core = core_targets(targets);
        for target in &core {
            catalogue
                .set_target(target.reference, target.body())
                .expect("there is room");
        }
        let limits = sizes.batch_limits(remote);
        let queue = &remote.queue_config;
        let sender = SenderConfig {
            limits,
            max_samples_per_send: queue.max_samples_per_send as usize,
            backlog_samples_per_send: sizes.backlog_samples(remote),
            flush_interval_ms: queue.batch_send_deadline.ms,
            min_backoff_ms: queue.min_backoff.ms,
            max_backoff_ms: queue.max_backoff.ms,
            connect_backoff_ms: 1_000,
            rate_limit: 0,
            slow_start_ms: 0,
            live_share: 0,
            max_sample_age_ms: 0,
            retry_on_429: true,
            message: MessageChoice::Fixed(protocol),
            group_live: situation == Situation::Stretched,
            metadata: MetadataConfig {
                send: metadata,
                interval_ms: remote.metadata_config.send_interval.ms,
                max_per_send: remote.metadata_config.max_samples_per_send as usize,
            },
            unknown_time: UnknownTime::Hold,
            seed: 1,
        };
        let identity = Identity::new(&[SITE], Relabel::default());
        let sender = Sender::new(sender, identity, ring.acknowledged(0), ring.replay_until());
        let parts = Parts {
            phase_keys: vec![0; core.len()].into(),
            targets: core,
            schedule: Schedule::new(sizes.max_targets),
            table: SeriesTable::new(sizes.max_series, sizes.max_texts, sizes.max_targets, 1),
            catalogue,
            builder: LabelBuilder::new(),
            reports: Reports::new(sizes.max_targets),
            metadata: Metadata::new(sizes.metadata_bytes, sizes.metadata_families),
            ring,
            senders: vec![sender],
        };
        Self {
            agent: Agent::new(parts, START),
            session: Session::new(sizes.session()),
            snappy: Snappy::new(),
            out: vec![0; output_bytes(limits.body_bytes)],
            now: START,
            wake: START,
            up: !matches!(situation, Situation::Backlog(_)),
            report: Report::default(),
        }
    }

    /// All scrapes, each when it was due, and whatever is sent meanwhile.
    pub fn scrape(&mut self, targets: &[Exposed]) {
        let scrapes = targets.iter().map(|target| target.scrapes.len()).min().unwrap_or(0);
        let mut scraped = vec![0; targets.len()];
        while scraped.iter().any(|&scraped| scraped < scrapes) {
            let due = self.agent.next_scrape().expect("targets are scraped on");
            if self.up && self.wake < due {
                self.now = self.now.max(self.wake);
                self.poll();
                continue;
            }
            self.now = self.now.max(due);
            let Some(due) = self.agent.due(self.now) else { continue };
            let target = usize::from(due.target.0);
            let (_, body) = &targets[target].scrapes[scraped[target] % scrapes];
            self.agent.begin(&mut self.session, due);
            self.agent
                .content_type(&mut self.session, Some(b"text/plain; version=0.0.4"));
            self.agent
                .feed(&mut self.session, body.as_bytes())
                .expect("a real exposition");
            let duration = 50 + scraped[target] as u32 % 7;
            self.agent
                .finish(&mut self.session, Outcome::Complete, duration, self.now)
                .expect("a target");
            scraped[target] += 1;
            self.wake = Instant(0);
            self.commit();
        }
        // The last one goes, too.
        while self.up && self.wake.0 < self.now.0 + INTERVAL_MS / 2 {
            self.now = self.now.max(self.wake);
            self.poll();
        }
    }

    fn commit(&mut self) {
        while let Some((_, what)) = self.agent.next_commit(self.now).filter(|(at, _)| *at <= self.now) {
            if self.agent.commit_step(what).expect("memory takes writes") == CommitStep::NeedSync {
                self.agent.synced(Ok::<(), ()>(()));
            }
        }
    }

    /// Sends all there is, as fast as it goes.
    pub fn drain(&mut self) {
        self.up = true;
        self.wake = Instant(0);
        let end = Instant(self.now.0 + INTERVAL_MS / 2);
        while self.wake < end {
            self.now = self.now.max(self.wake);
            self.poll();
        }
    }

    fn poll(&mut self) {
        let watch = Watch::now();
        let action = self.agent.poll_remote(0, self.now).expect("memory can be read");
        self.report.sealing += watch.elapsed();
        match action {
            Action::Send => self.send(),
            Action::Wait(at) => self.wake = at,
            action => panic!("{action:?} from a receiver that takes everything"),
        }
    }

    fn send(&mut self) {
        if !self.up {
            self.agent.on_error(0, self.now, ErrorKind::Connect);
            return;
        }
        let request = self.agent.request(0).expect("asked for");
        let watch = Watch::now();
        self.report.wire += self.snappy.compress(request.body, &mut self.out).expect("large enough") as u64;
        self.report.compressing += watch.elapsed();
        self.report.raw += request.body.len() as u64;
        self.report.samples += request.samples as u64;
        self.report.requests += u64::from(request.samples > 0);
        let mut head = Head::new(204);
        if request.protocol == Protocol::V2 {
            head.header(
                "X-Prometheus-Remote-Write-Samples-Written",
                request.samples.to_string().as_bytes(),
            );
        }
        self.agent
            .on_response(0, self.now, &head)
            .expect("a request was under way");
    }

    pub fn report(&self) -> Report {
        self.report
    }
}

/// The defaults but for what the situation asks for, and the sizes that follow from them.
fn configuration(targets: usize, protocol: Protocol, situation: Situation, metadata: bool) -> (Config, Sizes) {
    // Who is not told speaks 2.0 first, with memory for either.
    let message = match protocol {
        Protocol::V2 => "",
        Protocol::V1 => "  protobuf_message: prometheus.WriteRequest\n",
    };
    let queue = match situation {
        Situation::Live => String::new(),
        Situation::Stretched => "batch_send_deadline: 2m".to_owned(),
        Situation::Backlog(samples) => format!("max_samples_per_send: {samples}"),
    };
    let hosts: Vec<String> = (0..targets).map(|number| format!("'host-{number}:9100'")).collect();
    let text = format!(
        "global: {{scrape_interval: 15s}}\nscrape_configs:\n- job_name: bench\n  static_configs: [{{targets: [{}]}}]\n\
         remote_write:\n- url: http://receiver/api/v1/write\n{message}  queue_config: {{{queue}}}\n  \
         metadata_config: {{send: {metadata}}}\ntidegate: {{memory: {{max_series: {}}}}}\n",
        hosts.join(", "),
        if targets > 1 { 4_000 } else { 2_000 },
    );
    let config = Config::from_text(&text, "bench.yml")
        .expect("a valid configuration")
        .config;
    let expanded = config.expand().expect("static targets");
    let sizes = Sizes::of(&config, &expanded);
    (config, sizes)
}

fn core_targets(targets: &[Exposed]) -> Box<[Target]> {
    let core = |(number, target): (usize, &Exposed)| {
        let labels = [("instance", &target.instance), ("job", &target.job)].map(|(name, value)| Label { name, value });
        let mut core = Target::new(TargetRef(number as u8), &labels).expect("two short labels");
        core.interval_ms = INTERVAL_MS as u32;
        core
    };
    targets.iter().enumerate().map(core).collect()
}

fn ring_config(geometry: &Geometry, sizes: &Sizes) -> RingConfig {
    RingConfig {
        codec: sizes.codec,
        staging_blocks: sizes.staging_blocks,
        max_frame_samples: sizes.frame_samples,
        extras_bytes: sizes.extras_bytes,
        compress: Some(Box::new(Dictionaries::new())),
        ..ring_config::plain(geometry, sizes.max_series, sizes.text_bytes)
    }
}
