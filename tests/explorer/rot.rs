//! Rot: bits flip, blocks are swapped, copied, replaced by what stood there before or stands there in another ring, or blank.
//!
//! Nothing is invented, whatever happened, and what is written afterwards is durable. A block that strayed to another place
//! costs no more than what stood there: one chunk. So does a block that is gone from the middle of a chunk: what follows it is
//! not read from the middle of a record, whose length could reach over the beginning of the next chunk.

use super::device::Device;
use super::judge::boot;
use super::known::{Known, Told};
use super::world::World;
use super::{Explorer, Setup, Workload};
use tidegate::wal::format::{BlockHeader, Medium, block_seed, flag};
use tidegate::wal::storage::Storage;

impl Explorer {
    /// A ring with some history, and how its medium was before.
    fn grown(&mut self, steps: usize) -> (Device, Known, u64, Vec<Device>) {
        let mut live = self.begin();
        let mut before = Vec::new();
        for step in 0..steps {
            live.ring.cut();
            self.step(&mut live, 0);
            if step % 6 == 5 {
                let mut copy = self.fresh();
                live.ring.storage().crash_into(&[], 1, &mut copy);
                before.push(copy);
            }
        }
        (live.ring.into_storage(), live.known, live.world.now, before)
    }

    /// One to three pieces of damage, `images` times.
    pub fn rot(&mut self, images: usize) {
        let (device, known, now, mut before) = self.grown(40);
        let foreign = self.fresh();
        before.push(self.used_elsewhere(foreign));
        (self.lax, self.honest_after) = (true, true);
        for _ in 0..images {
            let mut image = self.fresh();
            device.crash_into(&[], 1, &mut image);
            for _ in 0..=self.rng.usize(0..3) {
                self.spoil(&mut image, &before);
            }
            let image = self.judge(image, &known, 0, now);
            self.devices.push(image);
        }
        (self.lax, self.honest_after) = (false, false);
    }

    fn spoil(&mut self, image: &mut Device, before: &[Device]) {
        let (one, two) = (self.rng.u32(0..image.blocks()), self.rng.u32(0..image.blocks()));
        let (first, second) = (image.block(one).to_vec(), image.block(two).to_vec());
        match self.rng.u8(0..5) {
            0 => {
                for _ in 0..=self.rng.usize(0..8) {
                    let (at, bit) = (self.rng.usize(0..first.len()), self.rng.u8(0..8));
                    image.damage(one, |bytes| bytes[at] ^= 1 << bit);
                }
            }
            1 => {
                image.damage(one, |bytes| bytes.copy_from_slice(&second));
                image.damage(two, |bytes| bytes.copy_from_slice(&first));
            }
            2 => image.damage(one, |bytes| bytes.copy_from_slice(&second)),
            3 if !before.is_empty() => {
                let old = before[self.rng.usize(0..before.len())].block(one).to_vec();
                image.damage(one, |bytes| bytes.copy_from_slice(&old));
            }
            _ => {
                let with = [0, 0xff][self.rng.usize(0..2)];
                image.damage(one, |bytes| bytes.fill(with));
            }
        }
    }
}

/// Blanks one block after another that is neither the first nor the last of its chunk: the frames of all other chunks are read.
pub fn gap(medium: Medium, seeds: u64) {
    let mut blanked = 0;
    for seed in 0..seeds {
        let mut explorer = Explorer::new(Setup::new(Workload::Plain, 1, medium), seed, 1);
        let mut live = explorer.begin();
        live.world.churn = 0;
        // Until there are no more series to define, and on: by chunk, its frames.
        let mut chunks = Vec::new();
        while chunks.len() < 24 {
            let from = live.known.frames.len();
            live.ring.cut();
            for _ in 0..12 {
                explorer.append(&mut live.ring, &mut live.world, &mut live.known);
            }
            explorer.commit(&mut live.ring, &mut live.world, &mut live.known, 0, 0);
            chunks.push(live.known.frames[from..].to_vec());
        }
        let (device, known, now) = (live.ring.into_storage(), live.known, live.world.now);
        for block in 0..device.blocks() {
            let mut image = explorer.fresh();
            device.crash_into(&[], 1, &mut image);
            if !within_a_chunk(&image, block) {
                continue;
            }
            blanked += 1;
            image.damage(block, |bytes| bytes.fill(0xff));
            explorer.lax = true;
            let present = |explorer: &mut Explorer, image: Device| {
                let mut world = World::new(explorer.setup.size, 0);
                explorer.examine(image, &mut world, &known, boot(9, now, true), false);
                explorer.present.clone()
            };
            let mut whole = explorer.fresh();
            device.crash_into(&[], 1, &mut whole);
            let all = present(&mut explorer, whole);
            let left = present(&mut explorer, image);
            let hit = |chunk: &&Vec<Told>| {
                let lost = |told: &Told| all.contains(&told.number) && !left.contains(&told.number);
                chunk.iter().any(lost)
            };
            let hit = chunks.iter().filter(hit).count();
            assert!(
                hit <= 1,
                "seed {seed}: without block {block} frames of {hit} chunks are not read: {left:?}"
            );
        }
    }
    assert!(
        blanked > seeds,
        "{blanked} blocks within chunks: not enough to say anything"
    );
}

/// Whether the block is neither the first nor the last of a chunk, nor one of definitions, as they stand in front of a chunk: it and
/// the next one have no flags, and the chunks around it count as many definitions.
fn within_a_chunk(image: &Device, block: u32) -> bool {
    let geometry = image.geometry();
    let slot = block / geometry.blocks_per_slot;
    let (first, end) = (slot * geometry.blocks_per_slot, (slot + 1) * geometry.blocks_per_slot);
    let header = |at: u32| {
        let bytes = (first..end).contains(&at).then(|| image.block(at))?;
        BlockHeader::parse(bytes, block_seed(b"tidegate ring 01", slot)).ok()
    };
    let continues = |at: u32| header(at).is_some_and(|header| header.flags & flag::RESTART == 0);
    let restart = |header: &BlockHeader| header.flags & flag::RESTART != 0;
    let before = (first..block).rev().map_while(header).find(restart);
    let after = (block..end).map_while(header).find(restart);
    let counts = |header: Option<BlockHeader>| header.map(|header| (header.seq, header.dictionary));
    continues(block) && continues(block + 1) && before.is_some() && counts(before) == counts(after)
}

/// Copies blocks of one slot to the same place of another, where frames stand: only a few of that slot may be gone.
pub fn misplaced(medium: Medium, images: u64) {
    let mut setup = Setup::new(Workload::Lap, 5, medium);
    setup.config_crc = 9;
    for seed in 0..images {
        let mut explorer = Explorer::new(setup, seed, 1);
        let (device, known, now, _) = explorer.grown(60);
        let geometry = device.geometry();
        let count = |explorer: &mut Explorer, image: Device| {
            explorer.lax = true;
            let image = explorer.judge(image, &known, 0, now);
            explorer.devices.push(image);
            explorer.first_read
        };
        let mut whole = explorer.fresh();
        device.crash_into(&[], 1, &mut whole);
        let all = count(&mut explorer, whole);
        for from in 0..geometry.slots {
            let to = (from + 1) % geometry.slots;
            // Behind header and definitions, where each block is a chunk or two.
            let index = geometry.blocks_per_slot - 3;
            let bytes = device.block(geometry.block(from, index)).to_vec();
            let mut image = explorer.fresh();
            device.crash_into(&[], 1, &mut image);
            image.damage(geometry.block(to, index), |block| block.copy_from_slice(&bytes));
            let left = count(&mut explorer, image);
            assert!(
                left + 14 >= all,
                "seed {seed}: a block of slot {from} in slot {to} left {left} frames of {all}"
            );
        }
    }
}
