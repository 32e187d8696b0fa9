//! A ring in a file of which only what a mount looks at is kept.

use std::fs::File;
use std::os::unix::fs::FileExt;
use tidegate::wal::format::{Geometry, SUPERBLOCK_BYTES, SUPERBLOCK_SPACE};
use tidegate::wal::storage::{Storage, StorageFailure, SuperblockCopy};

/// Blocks of every slot that a mount may look at.
const KEPT: u32 = 3;

pub struct Thin {
    file: File,
    geometry: Geometry,
    pub reads: u64,
    /// The slot written last, and its other blocks.
    newest: u32,
    blocks: Vec<(u32, Vec<u8>)>,
}

impl Thin {
    pub fn new(geometry: Geometry) -> Self {
        let name = format!("tidegate-ring-figures-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .expect("a temporary file");
        std::fs::remove_file(&path).expect("a file just made");
        let slots = u64::from(geometry.segment_bytes()) * u64::from(geometry.slots);
        file.set_len(slots + 2 * SUPERBLOCK_SPACE).expect("a thin file");
        Self {
            file,
            geometry,
            reads: 0,
            newest: 0,
            blocks: Vec::new(),
        }
    }

    fn at(&self, block: u32) -> u64 {
        SUPERBLOCK_SPACE + u64::from(block) * u64::from(self.geometry.block_bytes)
    }

    /// Everything into the file.
    pub fn settle(&mut self) {
        for (block, bytes) in self.blocks.drain(..) {
            let at = SUPERBLOCK_SPACE + u64::from(block) * u64::from(self.geometry.block_bytes);
            self.file.write_all_at(&bytes, at).expect("a file takes writes");
        }
    }

    fn superblock_at(&self, copy: SuperblockCopy) -> u64 {
        match copy {
            SuperblockCopy::First => 0,
            SuperblockCopy::Last => self.file.metadata().expect("an open file").len() - SUPERBLOCK_SPACE,
        }
    }
}

impl Storage for Thin {
    type Error = StorageFailure;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &mut [u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, StorageFailure> {
        let at = self.superblock_at(copy);
        self.file.read_exact_at(bytes, at).expect("within the file");
        Ok(true)
    }

    fn write_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &[u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, StorageFailure> {
        let at = self.superblock_at(copy);
        self.file.write_all_at(bytes, at).expect("a file takes writes");
        Ok(true)
    }

    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), StorageFailure> {
        self.reads += 1;
        let at = self.at(block);
        self.file.read_exact_at(bytes, at).expect("within the file");
        Ok(())
    }

    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), StorageFailure> {
        let slot = block / self.geometry.blocks_per_slot;
        if slot != self.newest {
            self.newest = slot;
            self.blocks.clear();
        }
        if block % self.geometry.blocks_per_slot < KEPT {
            let at = self.at(block);
            self.file.write_all_at(bytes, at).expect("a file takes writes");
        } else {
            self.blocks.push((block, bytes.to_vec()));
        }
        Ok(())
    }

    fn erase(&mut self, _slot: u32) -> Result<(), StorageFailure> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageFailure> {
        Ok(())
    }
}
