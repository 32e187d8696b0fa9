//! Rot: bits flip, blocks are swapped, copied, replaced by what stood there before or stands there in another ring, or blank.
//!
//! Nothing is invented, whatever happened, and what is written afterwards is durable. A block that strayed to another place
//! costs no more than what stood there: one chunk.

use super::device::Device;
use super::known::Known;
use super::{Explorer, Setup, Workload};
use tidegate::wal::format::Medium;
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
