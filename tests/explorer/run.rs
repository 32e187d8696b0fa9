//! Runs: what happens to a ring before, between and after the cuts.

use super::device::{Device, Outcome};
use super::faults::Plan;
use super::judge::{EPOCH_MS, boot};
use super::known::Known;
use super::world::World;
use super::{Explorer, Workload};
use tidegate::clock::{Instant, UnixMillis};
use tidegate::value::codec::CodecId;
use tidegate::wal::format::Medium;
use tidegate::wal::inspect::{Event, Inspector};
use tidegate::wal::{ClockSource, Commit, LossReport, Reason, Ring, format};

/// Calls of which every choice of outcomes is tried.
const EXHAUSTIVE: usize = 4;
/// Choices tried of more.
const SAMPLES: u32 = 96;
/// Commits of a run.
const COMMITS: usize = 36;

/// A run under way.
pub(super) struct Live {
    pub ring: Box<Ring<Device>>,
    pub world: World,
    pub known: Known,
    /// First frame that no commit has covered.
    pub from: u64,
    boots: u8,
    knows_time: bool,
}

impl Explorer {
    /// A medium, formatted and mounted: a blank one, or one with what another ring left behind.
    pub(super) fn begin(&mut self) -> Live {
        let mut device = self.fresh();
        if self.seed.is_multiple_of(4) {
            device = self.used_elsewhere(device);
        }
        format(&mut device, *b"tidegate ring 01", 1, "test").expect("a medium that works takes a format");
        self.begin_on(device)
    }

    /// Lets another ring write on a medium: its segments have the same numbers, and its epochs and offsets.
    pub(super) fn used_elsewhere(&mut self, mut device: Device) -> Device {
        format(&mut device, *b"another ring  02", 1, "other").expect("a blank medium takes a format");
        let mut live = self.begin_on(device);
        for _ in 0..self.rng.usize(3..24) {
            self.step(&mut live, 0);
        }
        self.knowns.push(live.known);
        let mut image = self.fresh();
        live.ring.storage().crash_into(&[], 1, &mut image);
        image.erases.fill(0);
        image.redone = 0;
        image
    }

    /// As [`Explorer::begin`], on a blank medium that goes wrong as `plan` says.
    pub(super) fn begin_with(&mut self, plan: Plan) -> Live {
        let mut device = self.fresh();
        format(&mut device, *b"tidegate ring 01", 1, "test").expect("a blank medium takes a format");
        device.plan = plan;
        self.begin_on(device)
    }

    pub(super) fn begin_on(&mut self, device: Device) -> Live {
        self.devices.clear();
        let mut world = World::new(self.setup.size, self.seed);
        world.churn = if self.setup.workload == Workload::Churn {
            128
        } else {
            24
        };
        let knows_time = self.setup.workload != Workload::Clock;
        let first = boot(1, world.now, knows_time);
        let ring = self.mount(device, &mut world, first);
        world.adopt();
        let mut known = Known::default();
        known.holding = self.setup.holding();
        Live {
            ring,
            world,
            known,
            from: 0,
            boots: 1,
            knows_time,
        }
    }

    /// One run, cut everywhere.
    pub fn run(&mut self) {
        let mut live = self.begin();
        for _ in 0..COMMITS {
            self.step(&mut live, self.depth);
            if self.over() {
                break;
            }
        }
        self.knowns.push(live.known);
    }

    /// Some scrapes and a commit, and what else the workload has.
    pub(super) fn step(&mut self, live: &mut Live, depth: u32) {
        let workload = self.setup.workload;
        let most = if self.setup.brisk { 3 } else { 5 };
        for _ in 0..self.rng.usize(1..most) {
            self.append(&mut live.ring, &mut live.world, &mut live.known);
        }
        let acknowledges = match workload {
            Workload::Lap => 40,
            Workload::Stop => 8,
            Workload::Two | Workload::BestEffort | Workload::Memory => 2,
            _ if self.setup.brisk => 1,
            _ => 4,
        };
        if self.rng.u8(0..acknowledges) == 0 {
            let remote = self.rng.usize(0..self.setup.remotes.into());
            let end = if workload == Workload::Memory {
                live.ring.next_frame().0
            } else {
                live.known.durable_end()
            };
            self.acknowledge(&mut live.ring, &mut live.known, remote, end);
        }
        let cuts = if workload == Workload::Memory { 2 } else { 5 };
        if self.rng.u8(0..cuts) == 0 {
            live.ring.cut();
        }
        if self.rng.u8(0..3) == 0 {
            self.lend(live);
        }
        if self.setup.geometry.medium == Medium::WriteOnce && self.rng.u8(0..3) == 0 {
            self.erase_ahead(live, depth);
        }
        match workload {
            Workload::Memory if self.rng.u8(0..3) == 0 => self.report_loss(live),
            Workload::Clock if self.rng.u8(0..4) == 0 => Self::learn_time(live),
            _ => {}
        }
        let reboots = match workload {
            Workload::Boots | Workload::Clock => 3,
            _ => 12,
        };
        if self.rng.u8(0..reboots) == 0 {
            self.reboot(live);
        }
        let from = live.from;
        self.commit(&mut live.ring, &mut live.world, &mut live.known, from, depth);
        live.from = live.ring.next_frame().0;
    }

    /// A sender reads on, and now and then goes back: until it does, or acknowledges, it has frames in hand.
    fn lend(&mut self, live: &mut Live) {
        let remote = self.rng.usize(0..self.setup.remotes.into());
        let acknowledged = live.ring.acknowledged(remote).0;
        let from = match self.rng.u8(0..4) {
            0 => acknowledged,
            _ => live.known.read_to[remote].max(acknowledged),
        };
        let limit = self.rng.usize(0..8);
        self.present.clear();
        let to = self.read(&mut live.ring, &mut live.world, &live.known, remote, from, limit);
        live.known.shade(&live.ring);
        live.known.read_to[remote] = to;
    }

    /// A pause between commits: a piece of the next slot is erased.
    fn erase_ahead(&mut self, live: &mut Live, depth: u32) {
        live.ring.erase_step();
        live.known.settle(&live.ring);
        if depth > 0 {
            self.cut(live.ring.storage(), &live.known, depth - 1, live.world.now);
        }
    }

    fn report_loss(&mut self, live: &mut Live) {
        let number = tidegate::frame::FrameNo(live.known.durable_end());
        live.ring.record_loss(&LossReport {
            reason: Reason::Rejected,
            first: number,
            last: number,
            frames: 1,
            samples: 3,
            unix_ms: None,
        });
        live.known.refuse();
    }

    fn learn_time(live: &mut Live) {
        let now = live.world.now;
        let wall = UnixMillis(EPOCH_MS + now as i64);
        live.ring.clock(Instant(now), wall, ClockSource::Synchronised, 20);
        live.knows_time = true;
    }

    /// The power fails in the middle of a commit, or the process stops in order; the same run goes on.
    fn reboot(&mut self, live: &mut Live) {
        if self.rng.bool() {
            let from = live.from;
            let to = live.ring.next_frame().0;
            let writes = live.ring.storage().writes;
            let closed = live.ring.close(&mut live.world.catalogue);
            live.known.settle(&live.ring);
            if closed.is_ok() {
                live.known.synced(from, to);
                if live.ring.storage().writes > writes {
                    for remote in 0..self.setup.holding() {
                        live.known.acked_durable[remote] =
                            live.ring.acknowledged(remote).0.min(live.known.acked[remote]);
                    }
                }
            }
        } else {
            let _ = live.ring.commit_step(&mut live.world.catalogue, Commit::All);
            live.known.settle(&live.ring);
        }
        let choice = self.choose(live.ring.storage());
        let seed = self.rng.u64(..);
        let mut image = self.device();
        live.ring.storage().crash_into(&choice, seed, &mut image);
        if self.setup.workload == Workload::Boots {
            self.setup.config_crc = self.rng.u32(7..9);
            self.setup.codec = [CodecId::Tc0, CodecId::Tc1][self.rng.usize(0..2)];
        }
        live.boots += 1;
        live.world.now += 20_000;
        live.knows_time = self.setup.workload != Workload::Clock || self.rng.u8(0..3) == 0;
        let boot = boot(live.boots, live.world.now, live.knows_time);
        let strict = !self.lax;
        let ring = self.examine(image, &mut live.world, &live.known, boot, strict);
        self.survive(&mut live.known, &ring);
        live.world.adopt();
        live.from = ring.next_frame().0;
        self.devices
            .push(std::mem::replace(&mut live.ring, ring).into_storage());
    }

    /// One outcome for each pending call.
    fn choose(&mut self, device: &Device) -> Vec<Outcome> {
        (0..device.pending())
            .map(|at| {
                let all = device.outcomes(at);
                all[self.rng.usize(0..all.len())]
            })
            .collect()
    }

    /// The power fails now: every choice of outcomes, or a sample of them; `depth` more cuts follow.
    pub(super) fn cut(&mut self, device: &Device, known: &Known, depth: u32, now: u64) {
        let pending = device.pending();
        if self.over() {
            return;
        }
        // Deeper cuts are sampled: the choices multiply.
        if depth + 1 < self.depth {
            let choice = self.choose(device);
            return self.strike(device, &choice, known, depth, now, &mut Vec::new());
        }
        let mut seen = Vec::new();
        if device_is_write_once(device) {
            self.cut_in_order(device, known, depth, now, &mut seen);
        } else if pending > EXHAUSTIVE {
            for _ in 0..SAMPLES {
                let choice = self.choose(device);
                self.strike(device, &choice, known, depth, now, &mut seen);
            }
        } else {
            let mut choice = vec![Outcome::Lost; pending];
            for n in 0..5usize.pow(pending as u32) {
                for (i, outcome) in choice.iter_mut().enumerate() {
                    *outcome = Outcome::OF_WRITE[n / 5usize.pow(i as u32) % 5];
                }
                self.strike(device, &choice, known, depth, now, &mut seen);
            }
        }
        if self.rng.u8(0..4) == 0 {
            self.cut_paired(device, known, depth, now);
        }
    }

    /// Calls complete in order: the power fails in each of them in turn.
    fn cut_in_order(&mut self, device: &Device, known: &Known, depth: u32, now: u64, seen: &mut Vec<u64>) {
        let pending = device.pending();
        for at in 0..pending {
            for &outcome in device.outcomes(at).iter().filter(|&&outcome| outcome != Outcome::Whole) {
                let mut choice = vec![Outcome::Whole; at];
                choice.push(outcome);
                // No two torn bit patterns are alike.
                let times = if outcome == Outcome::Garbage { 4 } else { 1 };
                for _ in 0..times {
                    self.strike(device, &choice, known, depth, now, seen);
                }
            }
        }
        self.strike(device, &vec![Outcome::Whole; pending], known, depth, now, seen);
    }

    /// The block that is torn takes an earlier one of its slot with it: no frame of another slot is lost, none is invented, and
    /// what is written afterwards stays.
    fn cut_paired(&mut self, device: &Device, known: &Known, depth: u32, now: u64) {
        if self.lax || self.over() {
            return;
        }
        let mut choice = self.choose(device);
        let Some(at) = choice.len().checked_sub(1) else { return };
        let at = self.rng.usize(0..=at);
        choice[at] = [Outcome::FirstHalf, Outcome::LastHalf, Outcome::Garbage][self.rng.usize(0..3)];
        if device_is_write_once(device) {
            choice[..at].fill(Outcome::Whole);
        }
        let seed = self.rng.u64(..);
        let mut image = self.device();
        device.crash_paired(&choice, seed, &mut image);
        if !image.hit.is_empty() {
            let mut before = self.device();
            device.crash_into(&[], 1, &mut before);
            self.spared.clear();
            let hit = &image.hit;
            Inspector::open(&mut before, None)
                .expect("it is a ring")
                .survey(|slot, event| match event {
                    Event::Frame(frame) if hit.contains(&slot) => self.spared.push(frame.number.0),
                    _ => {}
                });
            self.devices.push(before);
            self.spared.push(u64::MAX);
            (self.lax, self.honest_after) = (true, true);
            image = self.judge(image, known, depth, now);
            (self.lax, self.honest_after) = (false, false);
            self.spared.clear();
            self.paired += 1;
        }
        self.devices.push(image);
    }

    fn strike(
        &mut self,
        device: &Device,
        choice: &[Outcome],
        known: &Known,
        depth: u32,
        now: u64,
        seen: &mut Vec<u64>,
    ) {
        if self.over() {
            return;
        }
        let seed = self.rng.u64(..);
        let mut image = self.device();
        device.crash_into(choice, seed, &mut image);
        let identity = image.identity();
        if seen.contains(&identity) {
            self.repeats += 1;
        } else {
            seen.push(identity);
            image = self.judge(image, known, depth, now);
        }
        self.devices.push(image);
    }
}

fn device_is_write_once(device: &Device) -> bool {
    tidegate::wal::storage::Storage::geometry(device).medium == Medium::WriteOnce
}
