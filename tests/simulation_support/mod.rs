//! A machine with an agent in it, under a virtual clock: targets, receivers, a medium, and everything that goes wrong.
//!
//! World time counts milliseconds from the start of a run; every boot of the machine has its own boot time. Nothing
//! here reads a clock or draws a number that the seed does not give.
#![allow(dead_code, reason = "scenarios use their part")]

mod events;
pub mod ledger;
mod life;
pub mod receiver;
#[path = "../common/ring_config.rs"]
mod ring_config;
pub mod script;
#[path = "../common/sending.rs"]
mod sending;
pub mod table;
pub mod target;

use fastrand::Rng;
use ledger::Ledger;
use receiver::{Kind, Receiver, Sent};
use target::{Item, Mood, SimTarget};
use tidegate::agent::{Agent, Parts};
use tidegate::catalogue::Catalogue;
use tidegate::clock::{Instant, UnixMillis};
use tidegate::metadata::Metadata;
use tidegate::relabel::Relabel;
use tidegate::remote_write::identity::Identity;
use tidegate::remote_write::response::Head;
use tidegate::remote_write::sender::{ErrorKind, Sender, SenderConfig};
use tidegate::scrape::{LabelBuilder, Reports, Schedule, Session, SessionSize};
use tidegate::series::SeriesTable;
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::testing::Ram;
use tidegate::wal::{
    Boot, ClockSource, Commit, Loss, Reason, RemoteConfig, Ring, RingConfig, UnknownBoot, WhenFull, format,
};

/// Wall time at world time 0.
pub const EPOCH_MS: i64 = 1_750_000_000_000;
pub const MINUTE: u64 = 60_000;
const MAX_SERIES: usize = 200;
const TEXT_BYTES: usize = 2_560;
const MAX_TARGETS: usize = 4;
const FRAME_SAMPLES: usize = 40;
/// Things that may happen in one millisecond before it counts as a loop.
const BUSY: usize = 2_000;

/// A remote as configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remote {
    pub kind: Kind,
    pub best_effort: bool,
    /// Thousandths of the link for fresh samples; it takes samples in any order then.
    pub live_share: u16,
}

/// A machine as configured.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub targets: u8,
    pub series: u32,
    pub interval_ms: u32,
    pub commit_interval_ms: u64,
    pub staging_blocks: usize,
    pub geometry: Geometry,
    pub when_full: WhenFull,
    pub remotes: Vec<Remote>,
    /// Milliseconds a sync takes.
    pub sync_ms: u64,
    /// The clock is known when a machine starts.
    pub clock_at_boot: bool,
    pub max_sample_age_ms: u64,
    pub unknown_boot: UnknownBoot,
    pub slow_start_ms: u64,
    /// Batches of a backlog go in several requests, where 2.0 is spoken.
    pub slices: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            targets: 2,
            series: 8,
            interval_ms: 10_000,
            commit_interval_ms: 60_000,
            staging_blocks: 24,
            geometry: shape(1024, 32, 48, Medium::Rewritable),
            when_full: WhenFull::DropOldest,
            remotes: vec![Remote::default()],
            sync_ms: 0,
            clock_at_boot: true,
            max_sample_age_ms: 0,
            unknown_boot: UnknownBoot::Hold,
            slow_start_ms: 0,
            slices: false,
        }
    }
}

pub fn shape(block_bytes: u32, blocks_per_slot: u32, slots: u32, medium: Medium) -> Geometry {
    Geometry {
        block_bytes,
        blocks_per_slot,
        slots,
        medium,
    }
}

/// A scrape under way.
struct Scraping {
    session: Session,
    target: usize,
    ends: u64,
    rest: Vec<u8>,
    mood: Mood,
    items: Vec<Item>,
    time: Instant,
    added: u32,
}

struct Waiting {
    ends: u64,
    outcome: Result<Head, ErrorKind>,
    request: Vec<Sent>,
}

/// The agent and what its process holds.
struct Process {
    agent: Agent<Ram>,
    idle: Vec<Session>,
    scraping: Vec<Scraping>,
    /// Per remote: the request under way, and when to ask again.
    waiting: Vec<Option<Waiting>>,
    wake: Vec<u64>,
    /// A commit waits for its sync until then.
    syncing: Option<(u64, Commit)>,
    /// Losses when it started.
    losses: [Loss; Loss::REASONS],
}

/// The world.
pub struct World {
    pub setup: Setup,
    pub random: Rng,
    /// World time, milliseconds.
    pub now: u64,
    pub targets: Vec<SimTarget>,
    pub receivers: Vec<Receiver>,
    pub ledger: Ledger,
    /// What a remote's sender has given up.
    pub refused: Vec<Vec<Sent>>,
    /// Samples counted as lost by the senders of processes that are no more.
    sender_counts: Vec<SenderCounts>,
    /// Losses counted by rings, over all processes.
    ring_losses: [Loss; Loss::REASONS],
    /// What the ring of the last process had counted when it ended.
    ended_with: [Loss; Loss::REASONS],
    process: Option<Process>,
    boot: u8,
    /// World time at which this boot began.
    boot_at: u64,
    /// Error of the machine's clock; `None`: it does not know the time.
    pub clock_error_ms: Option<i64>,
    values: u64,
    /// World time since which storage may not have taken everything.
    storage_trouble: Option<u64>,
    pub blocks_written: u64,
    pub commits: u64,
    /// A receiver may see time run backwards: the clock is behind what it was when the power went or the process was killed, and
    /// nothing of that need be on flash.
    pub may_regress: bool,
    untold_error_ms: Option<i64>,
}

/// What senders have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounts {
    pub failed: u64,
    pub in_doubt: u64,
    pub too_old: u64,
    /// Without a time, or with one before what was sent.
    pub clock: u64,
    pub too_large: u64,
    pub unknown_series: u64,
    pub requests: u64,
}

impl SenderCounts {
    fn add(&mut self, sender: &Sender) {
        let counters = sender.counters();
        self.failed += counters.samples_failed;
        self.in_doubt += counters.samples_in_doubt;
        self.too_old += counters.dropped.too_old;
        self.clock += counters.dropped.clock_unknown + counters.dropped.backward;
        self.too_large += counters.dropped.too_large;
        self.unknown_series += counters.dropped.unknown_series;
        self.requests += counters.requests;
    }
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let mut ram = Ram::new(setup.geometry, setup.seed);
        format(&mut ram, *b"tidegate sim 001", 1, "simulation").expect("a blank medium takes a format");
        ram.writes = 0;
        let remotes = setup.remotes.len();
        let mut world = Self {
            random: Rng::with_seed(setup.seed),
            now: 1_000,
            targets: (0..setup.targets)
                .map(|number| SimTarget::new(number, setup.interval_ms, setup.series))
                .collect(),
            receivers: setup
                .remotes
                .iter()
                .zip(setup.seed + 1..)
                .map(|(remote, seed)| Receiver::new(remote.kind, seed))
                .collect(),
            ledger: Ledger::default(),
            refused: vec![Vec::new(); remotes],
            sender_counts: vec![SenderCounts::default(); remotes],
            ring_losses: [Loss::default(); Loss::REASONS],
            ended_with: [Loss::default(); Loss::REASONS],
            process: None,
            boot: 0,
            boot_at: 0,
            clock_error_ms: setup.clock_at_boot.then_some(0),
            values: 0,
            storage_trouble: None,
            blocks_written: 0,
            commits: 0,
            may_regress: false,
            untold_error_ms: None,
            setup,
        };
        world.ledger.late_clock = !world.setup.clock_at_boot;
        world.ledger.stops = world.setup.when_full == WhenFull::Stop;
        world.boot();
        world.start(ram);
        world
    }

    fn boot(&mut self) {
        self.boot += 1;
        self.boot_at = self.now - self.random.u64(..1_000);
        self.ledger.offsets.push(Vec::new());
        self.ledger.begun.push(EPOCH_MS + self.boot_at as i64);
    }

    /// Boot time now.
    fn instant(&self) -> Instant {
        Instant(self.now - self.boot_at)
    }

    /// True wall time.
    pub fn unix_ms(&self) -> i64 {
        EPOCH_MS + self.now as i64
    }

    /// Wall time as the machine's clock has it.
    fn clock_says(&mut self) -> Option<UnixMillis> {
        let wall = self.unix_ms() + self.clock_error_ms?;
        let offset = wall - self.instant().0 as i64;
        let told = self.ledger.offsets.last_mut().expect("booted");
        if told.last() != Some(&offset) {
            told.push(offset);
        }
        Some(UnixMillis(wall))
    }

    fn start(&mut self, ram: Ram) {
        let wall = self.clock_says().map(|wall| (wall, ClockSource::Synchronised));
        let boot = Boot {
            id: [self.boot; 16],
            now: self.instant(),
            wall,
            error_ms: 5,
        };
        let mut catalogue = Catalogue::new(MAX_SERIES, TEXT_BYTES, MAX_TARGETS);
        let (mut ring, _) =
            Ring::mount(ram, self.ring_config(), boot, &mut catalogue).expect("a formatted ring mounts");
        ring.set_unknown_boot(self.setup.unknown_boot);
        let targets: Box<[_]> = self.targets.iter().map(SimTarget::core).collect();
        for target in &targets {
            catalogue.set_target(target.reference, target.body()).expect("fits");
        }
        let remotes = self.setup.remotes.len();
        let senders = (0..remotes)
            .map(|remote| {
                let identity = Identity::new(&[("site", "edge")], Relabel::default());
                let config = self.sender_config(remote);
                Sender::new(config, identity, ring.acknowledged(remote), ring.replay_until())
            })
            .collect();
        let losses = ring.counters().losses;
        // What the last process had told flash of and did not count itself: it was in a sender's hands when it ended.
        let ended = self.ended_with;
        for reason in Reason::ALL.into_iter().filter(|&reason| reason != Reason::Crash) {
            let (found, before) = (losses[reason as usize], ended[reason as usize]);
            let total = &mut self.ring_losses[reason as usize];
            total.frames += found.frames.saturating_sub(before.frames);
            total.samples += found.samples.saturating_sub(before.samples);
        }
        let parts = Parts {
            phase_keys: (0..targets.len() as u64).map(|key| key * 3_331 + 17).collect(),
            targets,
            schedule: Schedule::new(MAX_TARGETS),
            table: SeriesTable::new(MAX_SERIES, 2 * MAX_SERIES, MAX_TARGETS, self.setup.seed),
            catalogue,
            builder: LabelBuilder::new(),
            reports: Reports::new(MAX_TARGETS),
            metadata: Metadata::new(4_096, 64),
            ring,
            senders,
        };
        let size = SessionSize {
            max_samples: FRAME_SAMPLES,
            line_bytes: 1_024,
            label_bytes: 0,
            extras_bytes: 0,
            converts: false,
        };
        self.process = Some(Process {
            agent: Agent::new(parts, self.instant()),
            idle: (0..2).map(|_| Session::new(size)).collect(),
            scraping: Vec::new(),
            waiting: (0..remotes).map(|_| None).collect(),
            wake: vec![0; remotes],
            syncing: None,
            losses,
        });
        for target in &mut self.targets {
            target.tracked.clear();
        }
    }

    fn ring_config(&self) -> RingConfig {
        let remotes = self.setup.remotes.iter().enumerate();
        RingConfig {
            commit_interval_ms: self.setup.commit_interval_ms,
            staging_blocks: self.setup.staging_blocks,
            max_frame_samples: FRAME_SAMPLES,
            remotes: remotes
                .map(|(place, remote)| RemoteConfig {
                    id: 100 + place as u32,
                    best_effort: remote.best_effort,
                })
                .collect(),
            when_full: self.setup.when_full,
            ..ring_config::plain(&self.setup.geometry, MAX_SERIES, TEXT_BYTES)
        }
    }

    fn sender_config(&self, remote: usize) -> SenderConfig {
        let mut config = SenderConfig {
            backlog_samples_per_send: if self.setup.slices { 100 } else { 400 },
            slow_start_ms: self.setup.slow_start_ms,
            live_share: self.setup.remotes[remote].live_share,
            max_sample_age_ms: self.setup.max_sample_age_ms,
            seed: self.setup.seed + remote as u64,
            ..sending::remote(MAX_SERIES, MAX_TARGETS)
        };
        config.limits.frame_samples = FRAME_SAMPLES;
        config.limits.samples = 400;
        config
    }

    pub fn agent(&mut self) -> &mut Agent<Ram> {
        &mut self.process.as_mut().expect("running").agent
    }

    /// Calls of `write` so far.
    pub fn writes(&mut self) -> u64 {
        self.agent().ring().storage().writes
    }
}
