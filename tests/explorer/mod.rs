//! The crash explorer: cuts the power at every write and erase of many workloads, in every way, and mounts again.
//!
//! A *state* is one image, after one choice of what became of each unsynced call, mounted and judged; an outcome that gives an
//! image already judged at the same cut is passed over. The oracle, after every
//! mount: it succeeds within a fixed number of reads; frames come in rising number, each as appended; every
//! durable frame that is needed is there; every acknowledgement is one that was given, and not older than the last one synced;
//! what is lost is in the ledger, and not more than that; slots are equally worn; the ring takes writes, and keeps them over another
//! mount. The device itself watches the rules of write-once media. Every failure names its seed and state; with `DUMP` set to the
//! state the image is shown.
//!
//! Some media hold what another ring left behind. Between commits senders read ahead and go back, and slots are erased in pieces. At one cut of
//! four another image is judged in which torn blocks have taken earlier ones of their slots with them (paired pages of NAND): no
//! frame of another slot may be missing, none invented.
//!
//! Three things are not held to be exact, all of them counts. Frames that were given up while a sender had them in hand count as lost
//! after a cut although they may have been delivered: only the receiver knows. The ring remembers eight holes; before the lowest of
//! more than that, frames that a later cut takes too are not counted (`shadowed`; no run has had as many). And
//! what was only in memory is an estimate of the ring's, from above.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod device;
pub mod failing;
pub mod faults;
mod judge;
pub mod known;
#[path = "../ring_support/mod.rs"]
pub mod ring_support;
pub mod rot;
mod run;
pub mod sketch;
pub mod world;

use device::Device;
use known::Known;
use sketch::Sketch;
use std::time::Instant;
use tidegate::frame::Frame;
use tidegate::value::codec::CodecId;
use tidegate::wal::WhenFull;
use tidegate::wal::format::{Geometry, Medium};
use world::{LARGE, SMALL, Size, World};

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub workload: Workload,
    pub geometry: Geometry,
    /// Bytes that the medium writes as one.
    pub sector: usize,
    pub codec: CodecId,
    pub remotes: u8,
    pub best_effort: bool,
    pub when_full: WhenFull,
    pub config_crc: u32,
    pub staging_blocks: usize,
    pub size: Size,
    /// Senders are rarely far behind.
    pub brisk: bool,
}

/// What happens in a run, mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Scrapes, commits, acknowledgements; TC1.
    Steady,
    /// The same with TC0.
    Plain,
    /// Series come and go: indices are used again.
    Churn,
    /// Nobody acknowledges: the ring laps.
    Lap,
    /// Two remotes, each with its own acknowledgement.
    Two,
    /// Two, of which one does not hold the tail.
    BestEffort,
    /// Boots that know the time late or never.
    Clock,
    /// A full ring that is told to stop.
    Stop,
    /// Many boots, orderly and not; configuration and codec change between them.
    Boots,
    /// Frames acknowledged before they are written, and losses reported from outside.
    Memory,
}

impl Workload {
    pub const ALL: [Self; 10] = [
        Self::Steady,
        Self::Plain,
        Self::Churn,
        Self::Lap,
        Self::Two,
        Self::BestEffort,
        Self::Clock,
        Self::Stop,
        Self::Boots,
        Self::Memory,
    ];
}

/// Block bytes, blocks of a slot, slots, sector bytes.
pub const SHAPES: [(u32, u32, u32, usize); 12] = [
    (512, 8, 3, 512),
    (256, 16, 3, 512),
    (1024, 8, 3, 512),
    (512, 8, 5, 512),
    (4096, 8, 3, 512),
    (512, 16, 4, 512),
    (4096, 8, 4, 4096),
    (8192, 8, 3, 4096),
    // From here on there is less to scrape, and it is soon acknowledged.
    (512, 8, 3, 512),
    (256, 16, 3, 256),
    (512, 8, 4, 512),
    (1024, 8, 3, 512),
];
const FIRST_SMALL: usize = 8;

impl Setup {
    /// The `n`-th combination of workload, shape and medium; all of them within 640, three of four of them small.
    pub fn of(n: u64) -> Self {
        let workload = Workload::ALL[n as usize % 10];
        let medium = [Medium::Rewritable, Medium::WriteOnce][n as usize / 10 % 2];
        let round = n as usize / 20;
        let shape = match round % 4 {
            0 => round / 4 % FIRST_SMALL,
            small => FIRST_SMALL + (round / 4 + small) % (SHAPES.len() - FIRST_SMALL),
        };
        Self::new(workload, shape, medium)
    }

    pub fn new(workload: Workload, shape: usize, medium: Medium) -> Self {
        let (block_bytes, blocks_per_slot, slots, sector) = SHAPES[shape];
        Self {
            workload,
            geometry: Geometry {
                block_bytes,
                blocks_per_slot,
                slots,
                medium,
            },
            sector,
            codec: if workload == Workload::Plain {
                CodecId::Tc0
            } else {
                CodecId::Tc1
            },
            remotes: match workload {
                Workload::Two | Workload::BestEffort => 2,
                _ => 1,
            },
            best_effort: workload == Workload::BestEffort,
            when_full: match workload {
                Workload::Stop => WhenFull::Stop,
                _ => WhenFull::DropOldest,
            },
            config_crc: 7,
            staging_blocks: 6,
            size: if shape < FIRST_SMALL { LARGE } else { SMALL },
            brisk: shape >= FIRST_SMALL,
        }
    }

    /// Remotes that hold the tail.
    pub fn holding(&self) -> usize {
        if self.best_effort { 1 } else { self.remotes.into() }
    }
}

/// Explores one run after another; see the module documentation.
pub struct Explorer {
    pub setup: Setup,
    pub seed: u64,
    /// Cuts in a row.
    pub depth: u32,
    /// Images mounted and judged so far, and how many to stop at.
    pub states: u64,
    pub limit: u64,
    pub deadline: Option<Instant>,
    pub sketch: Sketch,
    /// The medium did more than lose what was not synced: frames may be missing, never invented.
    pub lax: bool,
    /// Counts of losses are held to be exact.
    counts: bool,
    /// What is written after the medium did that is as durable as ever.
    honest_after: bool,
    /// Outcomes that gave an image already judged at this cut, not counted in `states`; and cuts with paired pages.
    pub repeats: u64,
    pub paired: u64,
    /// Frames that may be gone because the block of a paired page was theirs, and a number that none has; else empty.
    spared: Vec<u64>,
    /// State to show.
    dump: Option<u64>,
    rng: fastrand::Rng,
    devices: Vec<Device>,
    worlds: Vec<World>,
    knowns: Vec<Known>,
    present: Vec<u64>,
    /// Frames that the first mount of the last judgement found.
    first_read: usize,
    frame: Frame,
    identity: u64,
}

impl Explorer {
    pub fn new(setup: Setup, seed: u64, depth: u32) -> Self {
        Self {
            setup,
            seed,
            depth,
            states: 0,
            limit: u64::MAX,
            deadline: None,
            sketch: Sketch::default(),
            lax: false,
            counts: true,
            honest_after: false,
            repeats: 0,
            paired: 0,
            spared: Vec::new(),
            dump: std::env::var("DUMP").ok().and_then(|state| state.parse().ok()),
            rng: fastrand::Rng::with_seed(seed),
            devices: Vec::new(),
            worlds: Vec::new(),
            knowns: Vec::new(),
            present: Vec::new(),
            first_read: 0,
            frame: Frame::with_capacity(LARGE.samples),
            identity: 1,
        }
    }

    /// Goes on with another run.
    pub fn again(&mut self, setup: Setup, seed: u64) {
        (self.setup, self.seed) = (setup, seed);
        self.rng = fastrand::Rng::with_seed(seed);
    }

    /// Enough was seen.
    pub fn over(&self) -> bool {
        self.states >= self.limit
            || (self.states.is_multiple_of(64) && self.deadline.is_some_and(|at| Instant::now() > at))
    }

    /// A medium to copy an image to.
    fn device(&mut self) -> Device {
        self.devices.pop().unwrap_or_else(|| self.fresh())
    }

    /// Another one, blank.
    fn fresh(&mut self) -> Device {
        self.identity += 1;
        Device::new(self.setup.geometry, self.setup.sector, self.identity)
    }

    fn fail(&self, what: std::fmt::Arguments<'_>) -> ! {
        panic!(
            "seed {} depth {} state {} ({:?} on {:?}): {what}",
            self.seed, self.depth, self.states, self.setup.workload, self.setup.geometry
        )
    }
}
