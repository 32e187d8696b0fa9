//! The oracle: mounts an image, holds it against what is known, goes on with it.

use super::Explorer;
use super::device::Device;
use super::known::{Known, Told, lost};
use super::world::{Seen, World, config, print, print_with};
use tidegate::catalogue::Names;
use tidegate::clock::{Instant, UnixMillis};
use tidegate::frame::{FrameNo, FrameSource, Next};
use tidegate::wal::storage::Storage;
use tidegate::wal::{AppendError, Boot, ClockSource, Commit, CommitError, CommitStep, Reason, Ring};

/// Wall time is boot time and this, in every boot that knows it.
pub const EPOCH_MS: i64 = 1_700_000_000_000;

pub fn boot(number: u8, now: u64, knows: bool) -> Boot {
    Boot {
        id: [number; 16],
        now: Instant(now),
        wall: knows.then(|| (UnixMillis(EPOCH_MS + now as i64), ClockSource::Synchronised)),
        error_ms: 5,
    }
}

impl Explorer {
    /// Mounts; the number of reads is bounded by the geometry.
    pub(super) fn mount(&mut self, mut device: Device, world: &mut World, boot: Boot) -> Box<Ring<Device>> {
        let geometry = self.setup.geometry;
        device.reads = 0;
        let mounted = Ring::mount(device, config(&self.setup), boot, &mut world.catalogue);
        let ring = match mounted {
            // A dozen KiB, not to be moved more often than it must.
            Ok((ring, _)) => Box::new(ring),
            Err(error) => self.fail(format_args!("mount: {error}")),
        };
        let reads = ring.storage().reads;
        let most = 8 * u64::from(geometry.slots) + 8 * u64::from(geometry.blocks_per_slot);
        if reads > most {
            self.fail(format_args!("{reads} reads to mount, more than {most}"));
        }
        ring
    }

    /// Mounts an image, judges it, goes on with it over another mount (or `depth` more cuts); gives the medium back.
    pub(super) fn judge(&mut self, device: Device, known: &Known, depth: u32, now: u64) -> Device {
        let kept = self.worlds.pop().filter(|world| world.size == self.setup.size);
        let mut world = kept.unwrap_or_else(|| World::new(self.setup.size, 0));
        world.rng = fastrand::Rng::with_seed(self.rng.u64(..));
        world.now = now + 10_000;
        let level = 100 + 4 * depth as u8;
        let first = boot(level, world.now, true);
        let strict = !self.lax;
        let mut ring = self.examine(device, &mut world, known, first, strict);
        self.first_read = self.present.len();
        let mut after = self.knowns.pop().unwrap_or_default();
        after.copy_from(known);
        self.survive(&mut after, &ring);
        world.adopt();
        let from = ring.next_frame().0;
        for _ in 0..1 + self.rng.usize(0..2) {
            self.append(&mut ring, &mut world, &mut after);
        }
        if self.rng.u8(0..4) == 0 {
            ring.erase_step();
            after.settle(&ring);
        }
        if self.rng.u8(0..4) == 0 {
            let remote = self.rng.usize(0..self.setup.remotes.into());
            let end = after.durable_end();
            self.acknowledge(&mut ring, &mut after, remote, end);
        }
        self.commit(&mut ring, &mut world, &mut after, from, depth);
        let device = ring.into_storage();
        let mut image = self.device();
        device.crash_into(&[], 1, &mut image);
        self.devices.push(device);
        let second = boot(level + 1, world.now + 5_000, true);
        let ring = self.examine(image, &mut world, &after, second, strict || self.honest_after);
        self.worlds.push(world);
        self.knowns.push(after);
        ring.into_storage()
    }

    /// What is left after a cut is what the ring now stands on.
    pub(super) fn survive(&mut self, known: &mut Known, ring: &Ring<Device>) {
        let acked = [ring.acknowledged(0).0, ring.acknowledged(1).0];
        if self.lax {
            known.distrust();
        }
        known.survive(&self.present, acked);
        known.shade(ring);
    }

    /// Mounts an image and holds it against what is known, if `strict` also for what is missing; the numbers found are in
    /// `self.present`.
    pub(super) fn examine(
        &mut self,
        mut device: Device,
        world: &mut World,
        known: &Known,
        boot: Boot,
        strict: bool,
    ) -> Box<Ring<Device>> {
        self.states += 1;
        self.sketch.note(device.identity());
        if strict && !self.lax && device.plan.fault.is_none() {
            self.check_wear(&mut device);
        }
        let mut ring = self.mount(device, world, boot);
        self.check(&mut ring, world, known, strict);
        ring
    }

    /// Slots are erased in turn, and once more after a cut that left an erase, or a first block, undone.
    fn check_wear(&self, device: &mut Device) {
        let mut range = (u32::MAX, 0);
        for slot in 0..device.erases.len() {
            if !device.is_bad(slot as u32) {
                range = (range.0.min(device.erases[slot]), range.1.max(device.erases[slot]));
            }
        }
        let spread = range.1.saturating_sub(range.0);
        if spread > 1 + device.redone {
            let (erases, redone) = (&device.erases, device.redone);
            self.fail(format_args!(
                "slots were erased {erases:?} times, {redone} cuts left work undone"
            ));
        }
    }

    /// The oracle proper.
    pub(super) fn check(&mut self, ring: &mut Ring<Device>, world: &mut World, known: &Known, strict: bool) {
        let holding = self.setup.holding();
        self.present.clear();
        let mut read_from = u64::MAX;
        if self.dump == Some(self.states) {
            dump(ring, known, &self.present);
        }
        for remote in 0..usize::from(self.setup.remotes) {
            let ack = ring.acknowledged(remote).0;
            if remote < holding {
                read_from = read_from.min(ack);
                if ack > known.acked[remote] {
                    let given = known.acked[remote];
                    self.fail(format_args!(
                        "acknowledgement {ack} of remote {remote} was never given ({given})"
                    ));
                }
                let durable = known.acked_durable[remote];
                if ack < durable && strict {
                    self.fail(format_args!(
                        "acknowledgement {ack} of remote {remote} is older than the durable {durable}"
                    ));
                }
            }
            let from = self.present.len();
            self.read(ring, world, known, remote, ack, usize::MAX);
            // Nothing of it is in a sender's hands.
            ring.source(remote, &mut world.catalogue).seek(FrameNo(ack));
            if remote < holding && (strict || !self.spared.is_empty()) {
                self.check_durable(known, remote, from);
            }
        }
        if holding > 1 {
            self.present.sort_unstable();
            self.present.dedup();
        }
        if strict && self.counts && !self.lax {
            self.check_counted(ring, known, read_from);
        }
    }

    /// What is lost is in the ledger, and nothing else.
    fn check_counted(&self, ring: &Ring<Device>, known: &Known, read_from: u64) {
        let (least, most) = known.losses(&self.present, read_from);
        let counted = lost(ring.counters());
        let losses = ring.counters().losses.map(|loss| loss.frames);
        if counted < least {
            self.fail(format_args!(
                "{counted} frames counted as lost, at least {least} are: {losses:?}"
            ));
        }
        if counted > most {
            self.fail(format_args!(
                "{counted} frames counted as lost, at most {most} can be: {losses:?}"
            ));
        }
    }

    /// Reads at most `limit` frames from `from` on as `remote`: known frames in rising order, nothing else. Gives the number
    /// after the last one.
    pub(super) fn read(
        &mut self,
        ring: &mut Ring<Device>,
        world: &mut World,
        known: &Known,
        remote: usize,
        from: u64,
        limit: usize,
    ) -> u64 {
        let mut frame = std::mem::replace(&mut self.frame, tidegate::frame::Frame::with_capacity(0));
        let mut at = known.frames.partition_point(|told| told.number < from);
        let mut last = None;
        let best_effort = remote >= self.setup.holding();
        // Where an erase was cut a slot reads otherwise from time to time.
        let unsteady = ring.storage().reads_unsteadily();
        let loses_blocks = unsteady || ring.storage().plan.may_lose_a_block();
        // Every fourth time every name of every frame is read again.
        let mut seen = (!self.states.is_multiple_of(4) && !loses_blocks).then(Seen::default);
        let mut source = ring.source(remote, &mut world.catalogue);
        source.seek(FrameNo(from));
        for _ in 0..limit {
            match source.next(&mut frame) {
                Ok(Next::Boundary) => continue,
                Ok(Next::End) => break,
                Err(error) => self.fail(format_args!("read: {error}")),
                Ok(Next::Frame) => {}
            }
            let number = frame.number.0;
            if Some(number) <= last {
                self.fail(format_args!("frame {number} after {last:?}"));
            }
            last = Some(number);
            while known.frames.get(at).is_some_and(|told| told.number < number) {
                at += 1;
            }
            let mut print = print_with(&frame, source.names(), seen.as_mut());
            let told = |print: u64| {
                let mut same = known.frames[at..].iter().take_while(|told| told.number == number);
                same.any(|told| told.print == print)
            };
            if unsteady && !told(print) {
                // A name that could not be read the first time: a sender counts the samples.
                print = print_with(&frame, source.names(), None);
            }
            // A definition that was there when the segment was entered can no longer be read: a sender counts the samples.
            if loses_blocks && !is_named(&frame, source.names()) {
                continue;
            }
            let same = known.frames[at..].iter().take_while(|told| told.number == number);
            match same.clone().find(|told| told.print == print).or(known.frames.get(at)) {
                Some(told) if told.number == number && told.print == print => {
                    if told.unix_ms.is_some() && frame.unix_ms.is_some() && told.unix_ms != frame.unix_ms {
                        let (had, has) = (told.unix_ms, frame.unix_ms);
                        self.fail(format_args!("frame {number} was at {had:?}, is at {has:?}"));
                    }
                }
                told => {
                    let told = told.copied();
                    let mut names = source.names();
                    for sample in frame.samples.iter() {
                        eprintln!("named {:?}", names.definition(sample.series, frame.target));
                    }
                    if self.dump.is_some() {
                        let present = std::mem::take(&mut self.present);
                        dump(ring, known, &present);
                    }
                    self.fail(format_args!("frame {number} is invented: {frame:?}, not {told:?}"));
                }
            }
            if !best_effort {
                self.present.push(number);
            }
        }
        self.frame = frame;
        last.map_or(from, |last| last + 1)
    }

    /// Every durable frame that `remote` needs is among those read, which begin at place `from`.
    fn check_durable(&self, known: &Known, remote: usize, from: usize) {
        let read = &self.present[from..];
        let mut at = 0;
        // What was acknowledged may have been overwritten by a block that would have said so and did not land.
        let first = known.frames.partition_point(|told| told.number < known.acked[remote]);
        let there = |told: &&Told| told.durable && !told.owed && !told.lent && !self.spared.contains(&told.number);
        for told in known.frames[first..].iter().filter(there) {
            while read.get(at).is_some_and(|&number| number < told.number) {
                at += 1;
            }
            if read.get(at) != Some(&told.number) {
                let number = told.number;
                self.fail(format_args!(
                    "durable frame {number} is lost to remote {remote}: {read:?}"
                ));
            }
        }
    }

    /// One scrape into the ring.
    pub(super) fn append(&mut self, ring: &mut Ring<Device>, world: &mut World, known: &mut Known) {
        world.scrape(ring.next_frame());
        match ring.append(&world.frame, &mut world.catalogue) {
            Ok(number) => known.append(
                Told {
                    number: number.0,
                    print: print(&world.frame, &mut world.catalogue),
                    unix_ms: ring.unix_ms(world.frame.time_ms),
                    durable: false,
                    owed: false,
                    may: false,
                    lent: false,
                    shadowed: false,
                },
                self.lax,
            ),
            Err(AppendError::StagingFull) => {}
            Err(AppendError::Stopped) => known.refuse(),
            Err(error) => self.fail(format_args!("append: {error}")),
        }
    }

    pub(super) fn acknowledge(&mut self, ring: &mut Ring<Device>, known: &mut Known, remote: usize, end: u64) {
        let from = ring.acknowledged(remote).0;
        let first = known.frames.partition_point(|told| told.number < from);
        let last = known.frames.partition_point(|told| told.number < end).max(first);
        let mut at = self.rng.usize(first..=last);
        if self.setup.brisk {
            at = at.max(self.rng.usize(first..=last));
        }
        // A sender has read what it acknowledges.
        let there = |told: &Told| told.durable || !told.may;
        while at > first && !there(&known.frames[at - 1]) {
            at -= 1;
        }
        let to = match at {
            at if at == first => from,
            // Nothing beyond it was read: the first number that is not acknowledged.
            at => from.max(known.frames[at - 1].number + 1),
        };
        ring.acknowledge(remote, FrameNo(to));
        known.acked[remote] = known.acked[remote].max(ring.acknowledged(remote).0);
    }

    /// A whole commit, the power cut in every way before each sync if `depth` says so. `from`: the first frame that no
    /// commit has covered.
    pub(super) fn commit(
        &mut self,
        ring: &mut Ring<Device>,
        world: &mut World,
        known: &mut Known,
        from: u64,
        depth: u32,
    ) {
        let to = ring.next_frame().0;
        let written_off = |ring: &Ring<Device>| {
            let counters = ring.counters();
            counters.loss(Reason::WriteError).frames + counters.loss(Reason::TooBig).frames
        };
        let (off, writes) = (written_off(ring), ring.storage().writes);
        loop {
            let step = ring.commit_step(&mut world.catalogue, Commit::All);
            known.settle(ring);
            match step {
                Ok(CommitStep::Done) => break,
                Ok(CommitStep::NeedSync) => {
                    if depth > 0 {
                        self.cut(ring.storage(), known, depth - 1, world.now);
                    }
                    let result = ring.storage_mut().sync();
                    ring.synced(result);
                }
                Err(CommitError::Full | CommitError::Degraded) => return,
                Err(error) => self.fail(format_args!("commit: {error}")),
            }
        }
        if written_off(ring) != off {
            return;
        }
        known.synced(from, to);
        if ring.storage().writes > writes {
            for remote in 0..self.setup.holding() {
                known.acked_durable[remote] = ring.acknowledged(remote).0.min(known.acked[remote]);
            }
        }
        if depth > 0 {
            self.cut(ring.storage(), known, depth - 1, world.now);
        }
    }
}

/// Shows an image and what is known of it.
fn dump(ring: &mut Ring<Device>, known: &Known, present: &[u64]) {
    use tidegate::wal::inspect::{Event, Inspector};
    let stats = ring.stats();
    let mut inspector = Inspector::open(ring.storage_mut(), None).expect("it was mounted");
    let summary = inspector.survey(|slot, event| match event {
        Event::Dict(_) | Event::Target(_) => {}
        Event::Frame(frame) => eprintln!("slot {slot}:   frame {}", frame.number.0),
        event => eprintln!("slot {slot}: {event:?}"),
    });
    eprintln!(
        "{summary:?}\n{stats:?}\nread {present:?}\nacked {:?} {:?}",
        known.acked, known.acked_durable
    );
    for told in &known.frames {
        eprintln!(
            "{} durable {} owed {} may {} lent {} shadowed {}",
            told.number, told.durable, told.owed, told.may, told.lent, told.shadowed
        );
    }
}

/// Whether every series of the frame has a name, and its target labels.
fn is_named(frame: &tidegate::frame::Frame, mut names: Names<'_>) -> bool {
    let sampled = frame.samples.iter().map(|sample| sample.series);
    let mut series = sampled.chain(frame.stale.iter().copied());
    series.all(|series| names.definition(series, frame.target).is_some()) && names.target_body(frame.target).is_some()
}
