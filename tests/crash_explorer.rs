//! Cuts the power at every write of many workloads, with every outcome for what was not synced, and mounts again.
//!
//! The oracle, after every mount: nothing durable is lost, nothing is invented, frames come in order and as appended,
//! the acknowledgement is one that was given and not older than the last one synced, and the ring takes writes again and
//! keeps them over another cut. Every failure names its seed.

mod ring_support;

use ring_support::{Told, World, boot, config, formatted, geometry, read_all, tell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tidegate::frame::FrameNo;
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::inspect::{Event, Inspector};
use tidegate::wal::storage::Storage;
use tidegate::wal::testing::{Outcome, Ram};
use tidegate::wal::{AppendError, Commit, CommitStep, Reason, Ring};

/// What a run knows of itself, for judging an image cut from it.
#[derive(Clone)]
struct Known {
    /// Every frame ever appended, by number. One that was hidden by a torn block may come to light again.
    frames: BTreeMap<u64, Told>,
    /// Those that were synced, or read after a cut.
    durable: BTreeSet<u64>,
    /// Those appended since the last commit.
    fresh: Vec<u64>,
    /// Frames below this may have been lapped.
    lapped_to: u64,
    /// Acknowledgement given, and the one that a sync has covered.
    acked: u64,
    acked_durable: u64,
}

struct Explorer {
    seed: u64,
    geometry: Geometry,
    states: u64,
    until: Instant,
    rng: fastrand::Rng,
}

impl Explorer {
    fn mount(&self, ram: Ram, world: &mut World, number: u8) -> Ring<Ram> {
        let (ring, _) = Ring::mount(
            ram,
            config(&self.geometry, 1),
            boot(number, world.now),
            &mut world.catalogue,
        )
        .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        ring
    }

    /// Mounts an image and holds it against what is known; `depth` more cuts follow.
    fn judge(&mut self, image: Ram, known: &Known, depth: u32) {
        self.states += 1;
        let seed = self.seed;
        let mut world = World::new(self.rng.u64(..));
        world.now = known.frames.last_key_value().map_or(0, |(_, told)| told.time_ms) + 10_000;
        let copy = image.clone();
        let mut ring = self.mount(image, &mut world, 2 + depth as u8);
        let ack = ring.acknowledged(0).0;
        assert!(
            ack <= known.acked,
            "seed {seed}: acknowledgement {ack} was never given ({})",
            known.acked
        );
        assert!(
            ack >= known.acked_durable,
            "seed {seed}: acknowledgement {ack} is older than the durable {}",
            known.acked_durable
        );
        let read = read_all(&mut ring, &world.catalogue, 0, FrameNo(ack));
        let mut last = None;
        for told in &read {
            assert!(
                last < Some(told.number),
                "seed {seed}: frame {} after {last:?}",
                told.number
            );
            last = Some(told.number);
            let appended = known.frames.get(&told.number);
            if Some(told) != appended {
                dump(&copy);
            }
            assert_eq!(Some(told), appended, "seed {seed}: frame {} is invented", told.number);
        }
        let numbers: Vec<u64> = read.iter().map(|told| told.number).collect();
        // What was acknowledged may have been overwritten by a block that would have said so and did not land.
        let from = ack.max(known.lapped_to).max(known.acked);
        for &number in known.durable.range(from..) {
            assert!(
                numbers.binary_search(&number).is_ok() || dump(&copy),
                "seed {seed}: durable frame {number} is lost; lapped to {}, ack {ack}, read {numbers:?}",
                known.lapped_to
            );
        }
        // It goes on: what is written now survives the next cut.
        let mut after = Known {
            frames: known.frames.clone(),
            durable: numbers.iter().copied().collect(),
            fresh: Vec::new(),
            lapped_to: 0,
            // An acknowledgement that was given may come to light later, with the block that carries it.
            acked: known.acked,
            acked_durable: ack,
        };
        world.adopt();
        for _ in 0..1 + self.rng.usize(0..2) {
            self.append(&mut ring, &mut world, &mut after);
        }
        let lapped = ring.counters().loss(Reason::Lapped).frames;
        if depth > 0 {
            self.commit(&mut ring, &mut world, &mut after, depth - 1, true);
        } else {
            ring.commit(&mut world.catalogue)
                .unwrap_or_else(|error| panic!("seed {seed}: after a cut: {error}"));
            after.durable.extend(after.fresh.drain(..));
            if ring.counters().loss(Reason::Lapped).frames > lapped {
                after.lapped_to = self.first_left(&mut ring, &world, ack);
            }
            let number = 200;
            let ram = ring.into_storage().crash(&[], 1);
            let second = ram.clone();
            let mut ring = self.mount(ram, &mut world, number);
            let read = read_all(&mut ring, &world.catalogue, 0, FrameNo(ack));
            for number in after.durable.range(after.lapped_to.max(known.acked)..) {
                let told = &after.frames[number];
                let found = read.iter().find(|read| read.number == *number);
                if found.is_none() {
                    dump(&copy);
                    dump(&second);
                }
                assert_eq!(
                    found,
                    Some(told),
                    "seed {seed}: frame {number} written after the cut is lost"
                );
            }
        }
    }

    fn first_left(&self, ring: &mut Ring<Ram>, world: &World, from: u64) -> u64 {
        let read = read_all(ring, &world.catalogue, 0, FrameNo(from));
        read.first().map_or(u64::MAX, |told| told.number)
    }

    fn append(&mut self, ring: &mut Ring<Ram>, world: &mut World, known: &mut Known) {
        world.scrape(ring.next_frame());
        match ring.append(&world.frame, &mut world.catalogue) {
            Ok(number) => {
                let mut told = tell(&world.frame, &world.catalogue);
                told.number = number.0;
                told.unix_ms = ring.unix_ms(told.time_ms);
                known.frames.insert(number.0, told);
                known.fresh.push(number.0);
            }
            Err(AppendError::StagingFull) => {}
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }

    /// One commit, the power cut in every possible way before each sync.
    fn commit(&mut self, ring: &mut Ring<Ram>, world: &mut World, known: &mut Known, depth: u32, sampled: bool) {
        let to = ring.next_frame().0;
        loop {
            let lapped = ring.counters().loss(Reason::Lapped).frames;
            let step = ring.commit_step(&mut world.catalogue, Commit::All);
            let step = step.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
            if ring.counters().loss(Reason::Lapped).frames > lapped {
                known.lapped_to = self.first_left(ring, world, ring.acknowledged(0).0).min(to);
            }
            self.cut(ring.storage().clone(), known, depth, sampled);
            if step == CommitStep::Done {
                break;
            }
            let result = ring.storage_mut().sync();
            ring.synced(result);
        }
        known.durable.extend(known.fresh.drain(..));
        known.acked_durable = ring.acknowledged(0).0;
        self.cut(ring.storage().clone(), known, 0, true);
    }

    fn cut(&mut self, ram: Ram, known: &Known, depth: u32, sampled: bool) {
        let pending = ram.pending();
        let judge = |explorer: &mut Self, outcomes: &[Outcome]| {
            let seed = explorer.rng.u64(..);
            explorer.judge(ram.crash(outcomes, seed), known, depth);
        };
        if pending == 0 {
            judge(self, &[]);
        } else if pending <= 3 && !sampled {
            for choice in 0..5usize.pow(pending as u32) {
                let outcomes: Vec<Outcome> = (0..pending)
                    .map(|i| Outcome::ALL[choice / 5usize.pow(i as u32) % 5])
                    .collect();
                judge(self, &outcomes);
            }
        } else {
            let samples = if sampled { 1 } else { 24 };
            for _ in 0..samples {
                let outcomes: Vec<Outcome> = (0..pending).map(|_| Outcome::ALL[self.rng.usize(0..5)]).collect();
                judge(self, &outcomes);
            }
        }
    }

    fn run(&mut self, commits: usize, faults: bool) {
        let mut world = World::new(self.seed);
        let ram = formatted(self.geometry, self.seed);
        let mut ring = self.mount(ram, &mut world, 1);
        let mut known = Known {
            frames: BTreeMap::new(),
            durable: BTreeSet::new(),
            fresh: Vec::new(),
            lapped_to: 0,
            acked: 0,
            acked_durable: 0,
        };
        for _ in 0..commits {
            for _ in 0..self.rng.usize(1..5) {
                self.append(&mut ring, &mut world, &mut known);
            }
            if self.rng.u8(0..4) == 0 {
                let durable = known.durable.last().map_or(0, |last| last + 1);
                known.acked = self.rng.u64(known.acked..=durable.max(known.acked));
                ring.acknowledge(0, FrameNo(known.acked));
            }
            if self.rng.u8(0..4) == 0 {
                ring.cut();
            }
            let storage = ring.storage_mut();
            let over = storage.fail_to == u64::MAX || storage.changes >= storage.fail_to;
            if faults && over && self.rng.u8(0..3) == 0 {
                storage.fail_from = storage.changes + self.rng.u64(0..3);
                storage.fail_to = storage.fail_from + self.rng.u64(1..3);
            }
            let lost = ring.counters().loss(Reason::WriteError).frames;
            self.commit(&mut ring, &mut world, &mut known, 1, false);
            if faults {
                assert_eq!(
                    ring.counters().loss(Reason::WriteError).frames,
                    lost,
                    "seed {}: two failures in a row cost frames",
                    self.seed
                );
            }
            if Instant::now() > self.until {
                return;
            }
        }
    }
}

/// Shows an image that failed; false.
fn dump(ram: &Ram) -> bool {
    let mut inspector = Inspector::open(ram.clone(), None).expect("it was mounted");
    let summary = inspector.survey(|slot, event| match event {
        Event::Dict(_) | Event::Target(_) => {}
        Event::Frame(frame) => eprintln!("slot {slot}:   frame {}", frame.number.0),
        event => eprintln!("slot {slot}: {event:?}"),
    });
    eprintln!("{summary:?}");
    false
}

/// A number from the environment: longer runs, and other seeds, than every change gets.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn explore(medium: Medium, faults: bool, first_seed: u64) -> u64 {
    let until = Instant::now() + Duration::from_secs(number("TIDEGATE_EXPLORE_SECONDS", 9));
    let first_seed = first_seed + number("TIDEGATE_EXPLORE_SEED", 0);
    let mut states = 0;
    for seed in first_seed.. {
        let geometry = match seed % 3 {
            0 => geometry(256, 16, 4, medium),
            1 => geometry(512, 8, 5, medium),
            _ => geometry(1024, 8, 3, medium),
        };
        let mut explorer = Explorer {
            seed,
            geometry,
            states: 0,
            until,
            rng: fastrand::Rng::with_seed(seed),
        };
        explorer.run(30, faults);
        states += explorer.states;
        if Instant::now() > until {
            break;
        }
    }
    println!("{states} crash states, no violation");
    states
}

#[test]
fn no_cut_loses_or_invents_a_frame_on_rewritable_media() {
    assert!(explore(Medium::Rewritable, false, 1) > 100);
}

#[test]
fn no_cut_loses_or_invents_a_frame_on_write_once_media() {
    assert!(explore(Medium::WriteOnce, false, 100_001) > 100);
}

#[test]
fn no_cut_loses_a_frame_between_failed_writes_and_syncs() {
    assert!(explore(Medium::Rewritable, true, 200_001) > 100);
}
