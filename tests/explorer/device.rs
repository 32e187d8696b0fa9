//! The medium of the explorer: tears, loses, refuses and forges on command, and is cheap to copy.
//!
//! Deterministic: no time, no threads, randomness from a seed. On a rewritable medium any subset of the writes since the
//! last sync may have landed; on a write-once medium calls complete in order, so at most one is torn. It panics when the ring
//! breaks the rules of write-once media: a block programmed twice, out of order, or after an erase that was cut.

use super::faults::{Call, Kind, Plan};
use tidegate::hash::hash64;
use tidegate::wal::format::{Geometry, Medium, SUPERBLOCK_BYTES};
use tidegate::wal::storage::{Storage, StorageFailure, SuperblockCopy};

/// What became of a call that no sync covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Lost,
    Whole,
    FirstHalf,
    LastHalf,
    Garbage,
    /// Of an erase: reads as all ones, but each time with other bits wrong.
    Unstable,
    /// Of an erase: zeros programmed from the end on before the erase proper.
    Zeroed,
}

impl Outcome {
    /// What can become of a write.
    pub const OF_WRITE: [Self; 5] = [Self::Lost, Self::Whole, Self::FirstHalf, Self::LastHalf, Self::Garbage];
    /// What can become of an erase.
    pub const OF_ERASE: [Self; 7] = [
        Self::Lost,
        Self::Whole,
        Self::FirstHalf,
        Self::LastHalf,
        Self::Garbage,
        Self::Unstable,
        Self::Zeroed,
    ];
}

#[derive(Clone, Debug)]
enum Change {
    Program(Vec<u8>),
    /// So many blocks: a slot, or the half of one.
    Erase(u32),
}

/// A call since the last sync; `block` is the first one concerned.
#[derive(Clone, Debug)]
struct Pending {
    block: u32,
    change: Change,
}

/// The medium.
#[derive(Debug)]
pub struct Device {
    geometry: Geometry,
    /// Bytes that land or stay away as one.
    sector: usize,
    superblocks: [Option<[u8; SUPERBLOCK_BYTES]>; 2],
    image: Vec<u8>,
    pending: Vec<Pending>,
    /// Blocks programmed since their erase.
    programmed: Vec<bool>,
    /// Slots whose erase was cut: all ones, today.
    unstable: Vec<bool>,
    /// State of the image: changes with it, equal only for copies.
    version: u64,
    /// The version this is a copy of, and the blocks changed since.
    origin: u64,
    touched: Vec<u32>,
    /// A hash of each block, and their sum: tells images apart.
    hashes: Vec<u64>,
    content: u64,
    versions: u64,
    random: u64,
    /// Erases of each slot, and cuts that left something undone: it is erased again.
    pub erases: Vec<u32>,
    pub redone: u32,
    /// Slots in which a torn write took an earlier block with it.
    pub hit: Vec<u32>,
    /// Calls of `read`, `write`.
    pub reads: u64,
    pub writes: u64,
    /// What is to go wrong.
    pub plan: Plan,
}

const FAILED: StorageFailure = StorageFailure(embedded_io::ErrorKind::Other);

impl Device {
    /// Whether a slot was left by an erase that was cut.
    pub fn reads_unsteadily(&self) -> bool {
        self.unstable.contains(&true)
    }

    /// A blank medium. `identity` keeps copies of different originals apart.
    pub fn new(geometry: Geometry, sector: usize, identity: u64) -> Self {
        let blocks = (geometry.slots * geometry.blocks_per_slot) as usize;
        let mut device = Self {
            geometry,
            sector,
            superblocks: [None; 2],
            image: vec![0xff; blocks * geometry.block_bytes as usize],
            pending: Vec::new(),
            programmed: vec![false; blocks],
            unstable: vec![false; geometry.slots as usize],
            version: identity << 32,
            origin: u64::MAX,
            touched: Vec::new(),
            hashes: Vec::new(),
            content: 0,
            versions: identity << 32,
            random: identity | 1,
            erases: vec![0; geometry.slots as usize],
            redone: 0,
            hit: Vec::new(),
            reads: 0,
            writes: 0,
            plan: Plan::default(),
        };
        for block in 0..blocks as u32 {
            let hash = device.hash(block);
            device.hashes.push(hash);
            device.content = device.content.wrapping_add(hash);
        }
        device
    }

    /// The next random number (xorshift).
    pub fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn hash(&self, block: u32) -> u64 {
        hash64(block.into(), &self.image[self.range(block)])
    }

    fn range(&self, block: u32) -> std::ops::Range<usize> {
        let size = self.geometry.block_bytes as usize;
        block as usize * size..(block as usize + 1) * size
    }

    /// Calls since the last sync.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What can become of each call since the last sync.
    pub fn outcomes(&self, at: usize) -> &'static [Outcome] {
        match self.pending.get(at) {
            Some(Pending {
                change: Change::Erase(_),
                ..
            }) => &Outcome::OF_ERASE,
            _ => &Outcome::OF_WRITE,
        }
    }

    /// Stands for the content of the image.
    pub fn content(&self) -> u64 {
        self.content
    }

    /// Stands for all that a mount can find here: the content, and which slots do not keep theirs.
    pub fn identity(&self) -> u64 {
        let unstable = |(slot, _): (usize, &bool)| (slot as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slots = self.unstable.iter().enumerate().filter(|&(_, &unstable)| unstable);
        slots.map(unstable).fold(self.content, u64::wrapping_add)
    }

    /// Makes `to` this medium as the power comes back: `outcomes[i]` for the i-th pending call, lost beyond.
    pub fn crash_into(&self, outcomes: &[Outcome], seed: u64, to: &mut Self) {
        self.crash(outcomes, seed, to, false);
    }

    /// As [`Device::crash_into`]; each torn program takes an earlier block of its slot with it, however long that was synced.
    pub fn crash_paired(&self, outcomes: &[Outcome], seed: u64, to: &mut Self) {
        self.crash(outcomes, seed, to, true);
    }

    fn crash(&self, outcomes: &[Outcome], seed: u64, to: &mut Self, paired: bool) {
        to.copy_from(self);
        to.random = seed | 1;
        for (i, pending) in self.pending.iter().enumerate() {
            let outcome = outcomes.get(i).copied().unwrap_or(Outcome::Lost);
            to.land(pending, outcome);
            let torn = !matches!(outcome, Outcome::Lost | Outcome::Whole);
            if paired && torn && matches!(pending.change, Change::Program(_)) {
                to.collateral(pending.block);
            }
            if outcome != Outcome::Whole {
                to.redone = self.redone + 1;
                if self.geometry.medium == Medium::WriteOnce {
                    // One call after the other: what came later was never begun.
                    break;
                }
            }
        }
        to.restart();
    }

    /// Makes `to` a copy whose unsynced calls are lost.
    fn copy_from(&mut self, from: &Self) {
        let child = self.origin == from.version;
        let sibling = self.origin == from.origin && self.origin != u64::MAX;
        if self.geometry == from.geometry && (child || sibling) {
            let theirs: &[u32] = if sibling { &from.touched } else { &[] };
            for &block in self.touched.iter().chain(theirs) {
                let range = from.range(block);
                self.image[range.clone()].copy_from_slice(&from.image[range]);
            }
        } else {
            self.image.clone_from(&from.image);
        }
        self.touched.clear();
        self.origin = from.version;
        if sibling {
            // Still a copy of the same original.
            self.touched.extend_from_slice(&from.touched);
            self.origin = from.origin;
        }
        self.geometry = from.geometry;
        self.sector = from.sector;
        self.superblocks = from.superblocks;
        self.pending.clear();
        self.programmed.clone_from(&from.programmed);
        self.unstable.clone_from(&from.unstable);
        self.erases.clone_from(&from.erases);
        self.redone = from.redone;
        self.hit.clear();
        self.forget_pending(from);
        self.hashes.clone_from(&from.hashes);
        self.content = from.content;
        self.versions = self.versions.wrapping_add(1);
        self.version = self.versions;
        self.plan = from.plan.clone();
        (self.reads, self.writes) = (0, 0);
    }

    /// Of blocks that unsynced calls were about, the image decides.
    fn forget_pending(&mut self, from: &Self) {
        if self.geometry.medium == Medium::Rewritable {
            return;
        }
        if from.plan.met {
            // A program that failed may have left nothing behind.
            for block in 0..self.blocks() {
                self.programmed[block as usize] = self.image[self.range(block)].iter().any(|&b| b != 0xff);
            }
        }
        for pending in &from.pending {
            let blocks = match pending.change {
                Change::Program(_) => 1,
                Change::Erase(blocks) => blocks,
            };
            for block in pending.block..pending.block + blocks {
                self.programmed[block as usize] = self.image[self.range(block)].iter().any(|&b| b != 0xff);
            }
        }
    }

    /// Power is back: what is not blank counts as programmed.
    fn restart(&mut self) {
        self.plan.power_on();
        if self.geometry.medium == Medium::Rewritable {
            return;
        }
        for i in 0..self.touched.len() {
            let block = self.touched[i];
            self.programmed[block as usize] = self.image[self.range(block)].iter().any(|&b| b != 0xff);
        }
    }

    /// Changes the raw image, as rot does.
    pub fn damage(&mut self, block: u32, change: impl FnOnce(&mut [u8])) {
        self.edit(block, change);
        self.restart();
    }

    /// One block as it is now.
    pub fn block(&self, block: u32) -> &[u8] {
        &self.image[self.range(block)]
    }

    /// Blocks of the whole medium.
    pub fn blocks(&self) -> u32 {
        self.geometry.slots * self.geometry.blocks_per_slot
    }

    fn edit(&mut self, block: u32, change: impl FnOnce(&mut [u8])) {
        let range = self.range(block);
        change(&mut self.image[range]);
        let after = self.hash(block);
        let before = std::mem::replace(&mut self.hashes[block as usize], after);
        self.content = self.content.wrapping_sub(before).wrapping_add(after);
        if !self.touched.contains(&block) {
            self.touched.push(block);
        }
        self.versions = self.versions.wrapping_add(1);
        self.version = self.versions;
    }

    fn land(&mut self, pending: &Pending, outcome: Outcome) {
        match &pending.change {
            Change::Program(bytes) => self.land_program(pending.block, bytes, outcome),
            &Change::Erase(blocks) => self.land_erase(pending.block, blocks, outcome),
        }
    }

    /// The part of a block that a torn write reaches: whole sectors, or bytes of the only one.
    fn torn(&self, outcome: Outcome) -> std::ops::Range<usize> {
        let len = self.geometry.block_bytes as usize;
        let half = if len > self.sector {
            (len / self.sector / 2) * self.sector
        } else {
            len / 2
        };
        match outcome {
            Outcome::Lost => 0..0,
            Outcome::FirstHalf => 0..half,
            Outcome::LastHalf => half..len,
            _ => 0..len,
        }
    }

    fn land_program(&mut self, block: u32, bytes: &[u8], outcome: Outcome) {
        let range = self.torn(outcome);
        if range.is_empty() {
            return;
        }
        let (medium, mut random) = (self.geometry.medium, self.random | 1);
        let garbage = outcome == Outcome::Garbage;
        self.edit(block, |image| {
            let (cells, bytes) = (&mut image[range.clone()], &bytes[range]);
            let pairs = cells.iter_mut().zip(bytes);
            match (medium, garbage) {
                (Medium::Rewritable, false) => cells.copy_from_slice(bytes),
                (Medium::Rewritable, true) => cells.iter_mut().for_each(|cell| *cell = noise(&mut random)),
                // Bits are only cleared; a torn program has not cleared all.
                (Medium::WriteOnce, false) => pairs.for_each(|(cell, &byte)| *cell &= byte),
                (Medium::WriteOnce, true) => pairs.for_each(|(cell, &byte)| *cell &= byte | noise(&mut random)),
            }
        });
        self.random = random;
    }

    fn land_erase(&mut self, first: u32, blocks: u32, outcome: Outcome) {
        let slot = (first / self.geometry.blocks_per_slot) as usize;
        if outcome != Outcome::Lost {
            // Of two halves the second counts.
            let last = (first + blocks).is_multiple_of(self.geometry.blocks_per_slot);
            self.erases[slot] += u32::from(last);
            self.unstable[slot] = outcome == Outcome::Unstable;
        }
        for block in 0..blocks {
            let reached = match outcome {
                Outcome::Lost => false,
                Outcome::FirstHalf => block < blocks / 2,
                Outcome::LastHalf | Outcome::Zeroed => block >= blocks / 2,
                _ => true,
            };
            if !reached {
                continue;
            }
            let mut random = self.random | 1;
            self.edit(first + block, |image| match outcome {
                Outcome::Garbage => image.iter_mut().for_each(|cell| *cell |= noise(&mut random)),
                Outcome::Zeroed => image.fill(0),
                _ => image.fill(0xff),
            });
            self.random = random;
        }
        // Half erased: what is blank now may be programmed, all else not.
        for block in first..first + blocks {
            self.programmed[block as usize] = self.image[self.range(block)].iter().any(|&b| b != 0xff);
        }
    }

    /// The page paired with that of `block` is gone too.
    fn collateral(&mut self, block: u32) {
        let back = [1, 2, 4][(self.random() % 3) as usize];
        let first = block - block % self.geometry.blocks_per_slot;
        if block >= first + back {
            self.hit.push(block / self.geometry.blocks_per_slot);
            let mut random = self.random | 1;
            self.edit(block - back, |image| {
                image.iter_mut().for_each(|cell| *cell &= noise(&mut random))
            });
            self.random = random;
        }
    }

    fn erase_blocks(&mut self, slot: u32, from: u32, blocks: u32) -> Result<(), StorageFailure> {
        if self.geometry.medium == Medium::Rewritable {
            return Ok(());
        }
        let first = slot * self.geometry.blocks_per_slot + from;
        let pending = Pending {
            block: first,
            change: Change::Erase(blocks),
        };
        match self.plan.meets(Call::Erase, first) {
            Some(Kind::Silent) => {
                self.plan.forge(slot);
                return Ok(());
            }
            Some(Kind::ReadOnly) => return Err(FAILED),
            Some(Kind::Bad) => {
                self.fail(&pending);
                self.plan.spoil(slot);
                return Err(FAILED);
            }
            Some(_) => {
                self.fail(&pending);
                return Err(FAILED);
            }
            None => {}
        }
        self.unstable[slot as usize] = false;
        for block in first..first + blocks {
            self.programmed[block as usize] = false;
        }
        self.pending.push(pending);
        Ok(())
    }

    /// A call that failed: its blocks are anything now.
    fn fail(&mut self, pending: &Pending) {
        let all: &[Outcome] = match pending.change {
            Change::Erase(_) => &Outcome::OF_ERASE[..5],
            Change::Program(_) => &Outcome::OF_WRITE,
        };
        let outcome = all[self.random() as usize % all.len()];
        self.land(pending, outcome);
    }
}

fn noise(random: &mut u64) -> u8 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    (*random >> 24) as u8
}

impl Storage for Device {
    type Error = StorageFailure;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &mut [u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, StorageFailure> {
        if let Some(stored) = self.superblocks[copy as usize] {
            *bytes = stored;
        }
        Ok(self.superblocks[copy as usize].is_some())
    }

    fn write_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &[u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, StorageFailure> {
        if self.geometry.medium == Medium::WriteOnce {
            return Ok(false);
        }
        self.superblocks[copy as usize] = Some(*bytes);
        Ok(true)
    }

    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), StorageFailure> {
        self.reads += 1;
        let fault = self.plan.meets(Call::Read, block);
        if matches!(fault, Some(Kind::Error | Kind::ErrorForEver)) {
            return Err(FAILED);
        }
        let blocks = self.geometry.blocks_per_slot;
        let waiting = self.pending.iter().rev().find(|pending| match pending.change {
            Change::Program(_) => pending.block == block,
            Change::Erase(blocks) => (pending.block..pending.block + blocks).contains(&block),
        });
        match waiting.map(|pending| &pending.change) {
            Some(Change::Program(data)) => bytes.copy_from_slice(data),
            Some(Change::Erase(_)) => bytes.fill(0xff),
            None => bytes.copy_from_slice(&self.image[self.range(block)][..bytes.len()]),
        }
        if self.unstable[(block / blocks) as usize] {
            let at = self.random() as usize % bytes.len();
            bytes[at] &= self.random() as u8;
        }
        if fault == Some(Kind::Short) {
            // Of nothing at all it would be said.
            let at = 1 + self.random() as usize % (bytes.len() - 1);
            bytes[at..].fill(0);
        }
        Ok(())
    }

    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), StorageFailure> {
        assert_eq!(bytes.len(), self.geometry.block_bytes as usize);
        self.writes += 1;
        let fault = self.plan.meets(Call::Write, block);
        if fault == Some(Kind::ReadOnly) {
            return Err(FAILED);
        }
        if self.geometry.medium == Medium::WriteOnce {
            let slot = block / self.geometry.blocks_per_slot;
            let end = (slot + 1) * self.geometry.blocks_per_slot;
            assert!(
                self.plan.forged(slot) || !self.unstable[slot as usize],
                "block {block} programmed on a cut erase"
            );
            assert!(
                self.plan.forged(slot) || (block..end).all(|later| !self.programmed[later as usize]),
                "block {block} programmed twice, or after a later one"
            );
            self.programmed[block as usize] = !matches!(fault, Some(Kind::Silent | Kind::Full));
        }
        let pending = Pending {
            block,
            change: Change::Program(bytes.to_vec()),
        };
        match fault {
            Some(Kind::Silent) => {}
            Some(Kind::Full) => return Err(FAILED),
            Some(_) => {
                self.fail(&pending);
                return Err(FAILED);
            }
            None => self.pending.push(pending),
        }
        Ok(())
    }

    fn erase(&mut self, slot: u32) -> Result<(), StorageFailure> {
        self.erase_blocks(slot, 0, self.geometry.blocks_per_slot)
    }

    /// Two erase blocks a slot.
    fn erase_step(&mut self, slot: u32, part: u32) -> Result<bool, StorageFailure> {
        let half = self.geometry.blocks_per_slot / 2;
        self.erase_blocks(slot, part * half, half)?;
        Ok(part > 0 || self.geometry.medium == Medium::Rewritable)
    }

    fn sync(&mut self) -> Result<(), StorageFailure> {
        let fault = self.plan.meets(Call::Sync, 0);
        if fault == Some(Kind::ReadOnly) {
            return Err(FAILED);
        }
        for pending in std::mem::take(&mut self.pending) {
            if fault.is_some() && self.geometry.medium == Medium::Rewritable {
                self.fail(&pending);
            } else {
                self.land(&pending, Outcome::Whole);
            }
        }
        match fault {
            Some(_) => Err(FAILED),
            None => Ok(()),
        }
    }

    fn is_bad(&mut self, slot: u32) -> bool {
        self.plan.is_bad(slot)
    }
}
