//! The ring against a queue in memory: random appends, acknowledgements, commits, restarts.
//!
//! Every failure names its seed.

mod ring_support;

use ring_support::{Told, World, boot, config, formatted, geometry, read_all, tell};
use std::collections::BTreeMap;
use tidegate::frame::{Frame, FrameNo, FrameSource, Next};
use tidegate::wal::format::Medium;
use tidegate::wal::storage::Storage;
use tidegate::wal::testing::Ram;
use tidegate::wal::{AppendError, Commit, CommitStep, Reason, Ring};

struct Model {
    world: World,
    ring: Option<Ring<Ram>>,
    /// Appended and not yet acknowledged by every remote, in order.
    frames: BTreeMap<u64, Told>,
    acked: Vec<u64>,
    /// Where each remote goes on reading.
    cursors: Vec<u64>,
    committed_to: u64,
    boots: u8,
    seed: u64,
    dropped: u64,
}

impl Model {
    fn new(seed: u64, medium: Medium, remotes: usize) -> Self {
        let shape = if seed.is_multiple_of(2) {
            geometry(512, 16, 6, medium)
        } else {
            geometry(256, 32, 5, medium)
        };
        let mut model = Self {
            world: World::new(seed),
            ring: None,
            frames: BTreeMap::new(),
            acked: vec![0; remotes],
            cursors: vec![0; remotes],
            committed_to: 0,
            boots: 0,
            seed,
            dropped: 0,
        };
        model.mount(formatted(shape, seed));
        model
    }

    fn ring(&mut self) -> &mut Ring<Ram> {
        self.ring.as_mut().expect("mounted")
    }

    fn mount(&mut self, ram: Ram) {
        self.boots += 1;
        let config = config(&ram.geometry(), self.acked.len());
        let (ring, report) = Ring::mount(ram, config, boot(self.boots, self.world.now), &mut self.world.catalogue)
            .unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        assert_eq!(report.damaged_blocks, 0, "seed {}", self.seed);
        self.ring = Some(ring);
        self.world.adopt();
    }

    fn append(&mut self) {
        let next = self.ring().next_frame();
        self.world.scrape(next);
        let World { catalogue, frame, .. } = &mut self.world;
        let ring = self.ring.as_mut().expect("mounted");
        let number = match ring.append(frame, catalogue) {
            Ok(number) => number,
            Err(AppendError::StagingFull) => {
                self.commit();
                let World { catalogue, frame, .. } = &mut self.world;
                self.ring
                    .as_mut()
                    .expect("mounted")
                    .append(frame, catalogue)
                    .unwrap_or_else(|error| panic!("seed {}: after a commit: {error}", self.seed))
            }
            Err(error) => panic!("seed {}: {error}", self.seed),
        };
        assert_eq!(number, next);
        let mut told = tell(&self.world.frame, &mut self.world.catalogue);
        told.number = number.0;
        told.unix_ms = self.ring().unix_ms(told.time_ms);
        self.frames.insert(number.0, told);
    }

    fn commit(&mut self) {
        let seed = self.seed;
        let World { catalogue, .. } = &mut self.world;
        let ring = self.ring.as_mut().expect("mounted");
        ring.commit(catalogue)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        self.committed_to = self.ring().next_frame().0;
    }

    /// Frames the ring says it has lapped, against those missing in the model: exact.
    fn settle_losses(&mut self) {
        let lapped = self.ring().counters().frames_lapped;
        let fresh = lapped - self.dropped;
        for _ in 0..fresh {
            self.frames.pop_first();
        }
        self.dropped = lapped;
    }

    fn check(&mut self, remote: usize) {
        self.settle_losses();
        let from = self.acked[remote];
        let World { catalogue, .. } = &mut self.world;
        let ring = self.ring.as_mut().expect("mounted");
        let read = read_all(ring, catalogue, remote, FrameNo(from));
        let expected: Vec<&Told> = self.frames.range(from..).map(|(_, told)| told).collect();
        let numbers = |told: &[&Told]| told.iter().map(|told| told.number).collect::<Vec<_>>();
        let read: Vec<&Told> = read.iter().collect();
        assert_eq!(numbers(&read), numbers(&expected), "seed {} remote {remote}", self.seed);
        for (read, expected) in read.iter().zip(&expected) {
            assert_eq!(read, expected, "seed {} remote {remote}", self.seed);
        }
        // The reader stands at the beginning again.
        self.cursors[remote] = from;
        for reason in [Reason::Damaged, Reason::TooBig, Reason::WriteError] {
            let lost = self.ring().counters().loss(reason).frames;
            assert_eq!(lost, 0, "seed {} {reason:?}", self.seed);
        }
    }

    /// Goes on reading where the remote stands, a few frames or to the end.
    fn drain(&mut self, remote: usize) {
        self.settle_losses();
        let mut wanted = self.world.rng.usize(1..60);
        let mut at = self.cursors[remote].max(self.acked[remote]);
        let World { catalogue, .. } = &mut self.world;
        let ring = self.ring.as_mut().expect("mounted");
        let mut frame = Frame::with_extras(32, ring_support::EXTRAS_BYTES);
        let mut source = ring.source(remote, catalogue);
        while wanted > 0 {
            let expected = self.frames.range(at..).next().map(|(_, told)| told);
            match source.next(&mut frame).expect("the ring counts, it does not fail") {
                Next::Frame => {
                    let read = tell(&frame, source.names());
                    assert_eq!(Some(&read), expected, "seed {} remote {remote}", self.seed);
                    at = read.number + 1;
                    wanted -= 1;
                }
                Next::Boundary => {}
                Next::End => {
                    assert_eq!(
                        expected.map(|told| told.number),
                        None,
                        "seed {} remote {remote}",
                        self.seed
                    );
                    break;
                }
            }
        }
        self.cursors[remote] = at;
    }

    fn acknowledge(&mut self, remote: usize) {
        self.settle_losses();
        let next = self.ring().next_frame().0;
        let numbers: Vec<u64> = self
            .frames
            .range(self.acked[remote]..)
            .map(|(&number, _)| number + 1)
            .collect();
        let to = if numbers.is_empty() || self.world.rng.u8(0..4) == 0 {
            next
        } else {
            numbers[self.world.rng.usize(0..numbers.len())]
        };
        self.acked[remote] = to.max(self.acked[remote]);
        self.ring().acknowledge(remote, FrameNo(to));
        let done = *self.acked.iter().min().expect("at least one remote");
        self.frames = self.frames.split_off(&done);
    }

    fn restart(&mut self, orderly: bool) {
        if orderly {
            let World { catalogue, .. } = &mut self.world;
            let ring = self.ring.as_mut().expect("mounted");
            ring.close(catalogue).expect("the medium is sound");
            self.committed_to = self.ring().next_frame().0;
        }
        self.settle_losses();
        let ram = self.ring.take().expect("mounted").into_storage().crash(&[], 1);
        self.world.now += 50_000;
        self.mount(ram);
        // What was not committed is gone; what was acknowledged may have to be sent again.
        let committed_to = self.committed_to;
        self.frames.retain(|&number, _| number < committed_to);
        // Numbers that reached flash neither in a frame nor in an acknowledgement are given out again.
        self.committed_to = self.ring().replay_until().0;
        self.dropped = self.ring().counters().frames_lapped;
        for remote in 0..self.acked.len() {
            let acked = self.ring().acknowledged(remote).0;
            assert!(
                acked <= self.acked[remote],
                "seed {}: acknowledgement invented",
                self.seed
            );
            if orderly {
                let to = self.acked[remote].min(self.committed_to);
                let lost = self.frames.range(acked.min(to)..to).count();
                assert_eq!(lost, 0, "seed {}: acknowledgement lost by an orderly stop", self.seed);
            }
            // The model has forgotten what all had acknowledged: so do the remotes again.
            let again = self.acked[remote];
            self.ring().acknowledge(remote, FrameNo(again));
            // Lower only if what was acknowledged never reached flash: its numbers are given out again.
            self.acked[remote] = self.ring().acknowledged(remote).0;
            self.cursors[remote] = self.acked[remote];
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let remote = self.world.rng.usize(0..self.acked.len());
            match self.world.rng.u8(0..100) {
                0..55 => self.append(),
                55..67 => self.commit(),
                67..70 => self.check(remote),
                70..77 => self.drain(remote),
                77..87 => self.acknowledge(remote),
                87..93 => self.ring().cut(),
                93..97 => self.restart(true),
                _ => self.restart(false),
            }
        }
        for remote in 0..self.acked.len() {
            self.check(remote);
        }
    }
}

/// Longer runs, and other seeds, than every change gets: `TIDEGATE_MODEL_SEEDS=1000..5000`.
fn seeds() -> std::ops::Range<u64> {
    let Ok(range) = std::env::var("TIDEGATE_MODEL_SEEDS") else {
        return 0..60;
    };
    let (from, to) = range.split_once("..").expect("from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn ring_is_a_queue_on_rewritable_media() {
    for seed in seeds() {
        Model::new(seed, Medium::Rewritable, 1).run(400);
    }
}

#[test]
fn ring_is_a_queue_on_write_once_media() {
    for seed in seeds() {
        Model::new(seed, Medium::WriteOnce, 1).run(400);
    }
}

#[test]
fn two_remotes_each_see_the_queue_and_the_slower_one_holds_the_tail() {
    for seed in seeds() {
        Model::new(seed, Medium::Rewritable, 2).run(400);
    }
}

/// Frames are promised room when they are staged, with the definitions they need: a sound medium loses none of them, however small its
/// segments, whatever is staged while a commit is under way, and if nobody lends memory to mend one.
#[test]
fn a_sound_medium_takes_all_that_was_staged() {
    for seed in seeds() {
        let blocks = [16, 32][seed as usize % 2];
        let medium = [Medium::Rewritable, Medium::WriteOnce][seed as usize / 2 % 2];
        let ram = formatted(geometry(256, blocks, 400, medium), seed);
        let mut world = World::new(seed);
        let config = config(&ram.geometry(), 1);
        let (mut ring, _) = Ring::mount(ram, config, boot(1, world.now), &mut world.catalogue).expect("just formatted");
        world.adopt();
        let mut spare = Frame::with_extras(32, ring_support::EXTRAS_BYTES);
        let (mut appended, mut under_way, mut acknowledged) = (0, false, 0);
        while appended < 300 {
            if !under_way && world.rng.u8(0..25) == 0 {
                acknowledged = appended;
                ring.acknowledge(0, ring.next_frame());
            }
            let full = if world.rng.u8(0..12) == 0 {
                world.rng.bool()
            } else {
                world.scrape(ring.next_frame());
                if world.rng.u8(0..20) == 0 {
                    let body = format!("instance=\"{appended}\",job=\"renamed\"");
                    let renamed = world.catalogue.set_target(world.frame.target, &body);
                    assert!(
                        renamed.is_ok() || world.catalogue.text_bytes_used() > 900,
                        "seed {seed}"
                    );
                }
                match ring.append(&world.frame, &mut world.catalogue) {
                    Ok(_) => {
                        appended += 1;
                        under_way && world.rng.u8(0..3) == 0
                    }
                    Err(AppendError::StagingFull) => true,
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            };
            if full {
                let lent = world.rng.bool().then_some(&mut spare);
                let step = ring
                    .commit_step_with(&mut world.catalogue, Commit::All, lent)
                    .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                under_way = step == CommitStep::NeedSync;
                if under_way {
                    let synced = ring.storage_mut().sync();
                    ring.synced(synced);
                }
            }
        }
        for reason in [Reason::WriteError, Reason::TooBig, Reason::Damaged, Reason::Lapped] {
            let lost = ring.counters().loss(reason).frames;
            assert_eq!(lost, 0, "seed {seed}: {reason:?}");
        }
        let from = ring.acknowledged(0);
        let read = read_all(&mut ring, &mut world.catalogue, 0, from);
        assert_eq!(read.len(), appended - acknowledged, "seed {seed}");
    }
}
