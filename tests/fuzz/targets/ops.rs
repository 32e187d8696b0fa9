//! Append, acknowledge by several remotes, cut, commit, fail, crash, mount, against a model in memory.
//!
//! Promised: frames come in rising number, each as appended; what a commit made durable is there after any cut until it
//! is acknowledged by every remote that holds the tail or counted as lapped; nothing is acknowledged that was not.

use super::input::Input;
use super::ring_support::{EXTRAS_BYTES, Told, World, boot, config, formatted, tell};
use super::rings::{drain, shape};
use std::collections::{BTreeMap, BTreeSet};
use tidegate::frame::{Frame, FrameNo};
use tidegate::wal::format::Geometry;
use tidegate::wal::storage::Storage;
use tidegate::wal::testing::{Outcome, Ram};
use tidegate::wal::{AppendError, Commit, CommitStep, Reason, Ring, RingConfig, WhenFull};

const MAX_OPS: usize = 200;

struct Model {
    world: World,
    geometry: Geometry,
    ring: Option<Ring<Ram>>,
    remotes: usize,
    best_effort: u8,
    stop: bool,
    boots: u8,
    /// Every frame ever appended, by number. One that was hidden by a torn block may come to light again.
    frames: BTreeMap<u64, Told>,
    /// Those that a commit has made durable.
    durable: BTreeSet<u64>,
    /// Those appended by this mount and not yet synced.
    fresh: BTreeSet<u64>,
    /// Those that a reader missed in this mount: the medium failed, and they are counted. Another reader may pass by what landed of them.
    gone: BTreeSet<u64>,
    /// What each remote has acknowledged.
    acked: Vec<u64>,
    /// Minimum of those that hold the tail, as covered by a sync.
    acked_durable: u64,
    /// Frames below this may have been lapped.
    lapped_to: u64,
    /// The medium has failed in this mount: frames may be lost, if they are counted.
    faults: bool,
    /// Commits get memory for a frame, as the agent lends it.
    lends: bool,
    spare: Frame,
    /// A commit under way: the frame it goes to, and what was acknowledged when it began.
    round: Option<(u64, u64)>,
}

impl Model {
    fn new(input: &mut Input<'_>) -> Self {
        let options = input.u8();
        let geometry = shape(options);
        let remotes = 1 + usize::from(options >> 3) % 3;
        let mut model = Self {
            world: World::new(input.u16().into()),
            geometry,
            ring: None,
            remotes,
            best_effort: input.u8(),
            stop: options & 128 != 0,
            boots: 0,
            frames: BTreeMap::new(),
            durable: BTreeSet::new(),
            fresh: BTreeSet::new(),
            gone: BTreeSet::new(),
            acked: vec![0; remotes],
            acked_durable: 0,
            lapped_to: 0,
            faults: false,
            round: None,
            lends: options & 64 == 0,
            spare: Frame::with_extras(32, EXTRAS_BYTES),
        };
        model.mount(formatted(geometry, 1));
        model
    }

    fn config(&self) -> RingConfig {
        let mut config = config(&self.geometry, self.remotes);
        for (place, remote) in config.remotes.iter_mut().enumerate() {
            remote.best_effort = !self.holds(place);
        }
        if self.stop {
            config.when_full = WhenFull::Stop;
        }
        config
    }

    /// The first remote always holds the tail.
    fn holds(&self, remote: usize) -> bool {
        remote == 0 || self.best_effort & (1 << remote) == 0
    }

    fn ring(&mut self) -> &mut Ring<Ram> {
        self.ring.as_mut().expect("mounted")
    }

    fn mount(&mut self, ram: Ram) {
        self.boots = self.boots.wrapping_add(1);
        let config = self.config();
        let boot = boot(self.boots, self.world.now);
        let mounted = Ring::mount(ram, config, boot, &mut self.world.catalogue);
        self.ring = Some(mounted.expect("any image of ours mounts").0);
        self.world.adopt();
    }

    fn lost(&self, reason: Reason) -> u64 {
        self.ring.as_ref().expect("mounted").counters().loss(reason).frames
    }

    /// Frames that the medium did not take; a chunk to which every attempt added a block may in the end be longer than a segment.
    fn given_up(&self) -> u64 {
        self.lost(Reason::WriteError) + self.lost(Reason::TooBig)
    }

    /// Frames given up for room by this mount, counted as lost or still in a sender's hands.
    fn lapped(&self) -> u64 {
        self.ring.as_ref().expect("mounted").counters().frames_lapped
    }

    fn append(&mut self) {
        let next = self.ring().next_frame();
        self.world.scrape(next);
        let World { catalogue, frame, .. } = &mut self.world;
        let ring = self.ring.as_mut().expect("mounted");
        let number = match ring.append(frame, catalogue) {
            Ok(number) => number,
            Err(AppendError::StagingFull) => return,
            Err(AppendError::Stopped) if self.stop => return,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(number, next);
        let mut told = tell(frame, catalogue);
        told.number = number.0;
        told.unix_ms = ring.unix_ms(told.time_ms);
        self.frames.insert(number.0, told);
        self.fresh.insert(number.0);
    }

    /// Steps a commit; `steps` of 0 goes to its end.
    fn commit(&mut self, steps: usize) {
        let now = (self.ring().next_frame().0, self.ring().min_ack().0);
        let (to, ack) = *self.round.get_or_insert(now);
        for step in 1.. {
            let lapped = self.lapped();
            let ring = self.ring.as_mut().expect("mounted");
            let spare = self.lends.then_some(&mut self.spare);
            let result = ring.commit_step_with(&mut self.world.catalogue, Commit::All, spare);
            if self.lapped() > lapped {
                self.note_lapped(to);
            }
            match result {
                Ok(CommitStep::Done) => {
                    self.note_durable(to, ack);
                    return;
                }
                Ok(CommitStep::NeedSync) if step == steps => return,
                Ok(CommitStep::NeedSync) => {
                    let ring = self.ring();
                    let result = ring.storage_mut().sync();
                    ring.synced(result);
                }
                Err(error) => {
                    assert!(self.faults || self.stop, "{error}");
                    self.round = None;
                    return;
                }
            }
        }
    }

    /// A commit of the frames below `to` is over. Those acknowledged before it began need not have been written.
    fn note_durable(&mut self, to: u64, ack: u64) {
        if self.ring().stats().degraded {
            // Nothing was written: what can be read behind failed writes need not outlast a cut.
            self.round = None;
            return;
        }
        let after = self.fresh.split_off(&to);
        let done = std::mem::replace(&mut self.fresh, after);
        self.durable.extend(done.range(ack..));
        self.acked_durable = self.acked_durable.max(ack);
        self.round = None;
        if self.given_up() > 0 {
            // What the medium did not take is counted, and gone: `check` holds the one against the other.
            for remote in 0..self.remotes {
                self.check(remote);
            }
        }
    }

    /// What the slowest holding remote still has is what is left.
    fn note_lapped(&mut self, to: u64) {
        let slowest = (0..self.remotes).filter(|&remote| self.holds(remote));
        let slowest = slowest.min_by_key(|&remote| self.ring.as_ref().expect("mounted").acknowledged(remote));
        let left = drain(
            self.ring.as_mut().expect("mounted"),
            &mut self.world.catalogue,
            slowest.unwrap_or(0),
        );
        self.lapped_to = self.lapped_to.max(left.first().map_or(to, |told| told.number));
    }

    /// Everything `remote` can read is as appended, and nothing is missing that is neither acknowledged nor counted.
    fn check(&mut self, remote: usize) -> BTreeSet<u64> {
        let read = drain(self.ring.as_mut().expect("mounted"), &mut self.world.catalogue, remote);
        for told in &read {
            assert_eq!(Some(told), self.frames.get(&told.number), "invented");
        }
        let read: BTreeSet<u64> = read.iter().map(|told| told.number).collect();
        if !self.holds(remote) {
            return read;
        }
        // Below the least acknowledgement ever given blocks may have been overwritten by ones that then did not land.
        let given = (0..self.remotes).filter(|&remote| self.holds(remote));
        let given = given.map(|remote| self.acked[remote]).min().unwrap_or(0);
        let own = self.ring.as_ref().expect("mounted").acknowledged(remote).0;
        let from = self.lapped_to.max(given).max(own);
        let wanted = self.durable.range(from..).chain(self.fresh.range(from..));
        let missing: Vec<u64> = wanted.filter(|number| !read.contains(number)).copied().collect();
        assert!(
            missing.is_empty() || self.faults,
            "frames {missing:?} are missing from {from} on"
        );
        self.gone.extend(missing);
        let counted = self.given_up() + self.lost(Reason::Damaged);
        let gone = &self.gone;
        assert!(
            gone.len() as u64 <= counted,
            "frames {gone:?} are missing, {counted} counted"
        );
        for held in [&mut self.durable, &mut self.fresh] {
            held.retain(|number| !gone.contains(number));
        }
        read
    }

    fn acknowledge(&mut self, remote: usize, choice: usize) {
        let from = self.ring().acknowledged(remote).0;
        let numbers: Vec<u64> = self.frames.range(from..).map(|(&number, _)| number + 1).collect();
        let to = match numbers.get(choice % (numbers.len() + 1)) {
            Some(&to) => to,
            None => self.ring().next_frame().0,
        };
        self.ring().acknowledge(remote, FrameNo(to));
        let now = self.ring().acknowledged(remote).0;
        self.acked[remote] = self.acked[remote].max(now);
    }

    fn fail(&mut self, after: u64, times: u64) {
        self.faults = true;
        let storage = self.ring().storage_mut();
        storage.fail_from = storage.changes + after;
        storage.fail_to = storage.fail_from + times;
    }

    fn restart(&mut self, orderly: bool, input: &mut Input<'_>) {
        if orderly {
            let ack = self.ring().min_ack().0;
            let lapped = self.lapped();
            let to = self.ring().next_frame().0;
            let ring = self.ring.as_mut().expect("mounted");
            let spare = self.lends.then_some(&mut self.spare);
            let closed = ring.close_with(&mut self.world.catalogue, spare);
            if self.lapped() > lapped {
                self.note_lapped(to);
            }
            match closed {
                Ok(()) => self.note_durable(to, ack),
                Err(error) => assert!(self.faults || self.stop, "{error}"),
            }
        }
        let mut ram = self.ring.take().expect("mounted").into_storage();
        let outcomes: Vec<Outcome> = (0..ram.pending()).map(|_| Outcome::ALL[input.below(5)]).collect();
        ram = ram.crash(&outcomes, input.u8().into());
        (ram.fail_from, ram.fail_to) = (u64::MAX, u64::MAX);
        self.world.now += 50_000;
        self.mount(ram);
        self.fresh.clear();
        // Of what was never durable the count may be gone as well.
        self.gone.clear();
        self.round = None;
        self.after_cut();
    }

    fn after_cut(&mut self) {
        let most = self.acked.iter().copied().max().unwrap_or(0);
        for remote in 0..self.remotes {
            let acked = self.ring().acknowledged(remote).0;
            // One that does not hold the tail may be taken to be where the others are: what it lacks may be gone.
            let given = if self.holds(remote) { self.acked[remote] } else { most };
            assert!(acked <= given, "an acknowledgement is invented");
        }
        // What was given up to write errors and counted may have landed behind them, and a reader may come by; it is not in the ring.
        let end = self.ring().replay_until().0;
        let given_up = self.durable.split_off(&end);
        assert!(
            given_up.is_empty() || self.faults && given_up.len() as u64 <= self.given_up(),
            "frames {given_up:?} are behind the end {end}"
        );
        let mut found = BTreeSet::new();
        for remote in 0..self.remotes {
            let read = self.check(remote);
            if self.holds(remote) {
                // Where none of the frames it covers is on flash, an acknowledgement need not be either; one may have landed by a
                // write that failed.
                let again = read
                    .range(..self.acked_durable)
                    .find(|number| self.durable.contains(number));
                assert_eq!(again, None, "a durable acknowledgement is lost");
            }
            found.extend(read);
        }
        // What no commit made durable may be there for one reader and not for another.
        self.durable.retain(|number| found.contains(number));
        self.faults = false;
        // Of a ring on which nothing was ever written the numbers begin anew.
        let next = self.ring().next_frame().0;
        for acked in self.acked.iter_mut().chain([&mut self.acked_durable]) {
            *acked = next.min(*acked);
        }
        self.frames.retain(|&number, _| number < next);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let op = input.u8();
        let remote = usize::from(op >> 5) % self.remotes;
        match op & 31 {
            0..=11 => self.append(),
            12..=15 => self.commit(0),
            16 => self.commit(1),
            17 => self.commit(2),
            18..=19 => drop(self.check(remote)),
            20..=23 => self.acknowledge(remote, input.u8().into()),
            24 => self.ring().cut(),
            25 => self.fail(u64::from(op >> 6), u64::from(op >> 5 & 1) + 1),
            26 => self.fail(input.below(8) as u64, input.below(40) as u64),
            27 => self.world.now += 61_000,
            28 => (0..8).for_each(|_| self.append()),
            29 => self.restart(true, input),
            _ => self.restart(false, input),
        }
    }
}

/// The input: shape and habits of the ring, then one byte and what belongs to it for each step.
pub fn ops(data: &[u8]) {
    let mut input = Input::new(data);
    let mut model = Model::new(&mut input);
    for _ in 0..MAX_OPS {
        if input.is_empty() {
            break;
        }
        model.step(&mut input);
    }
    for remote in 0..model.remotes {
        model.check(remote);
    }
}
