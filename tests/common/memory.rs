//! A medium that is plain memory: takes and gives everything, allocates nothing once made.

use tidegate::wal::format::{Geometry, SUPERBLOCK_BYTES};
use tidegate::wal::storage::{Storage, StorageFailure, SuperblockCopy};

pub struct Memory {
    geometry: Geometry,
    superblock: [u8; SUPERBLOCK_BYTES],
    bytes: Vec<u8>,
}

impl Memory {
    /// All zero.
    pub fn new(geometry: Geometry) -> Self {
        let bytes = geometry.segment_bytes() as usize * geometry.slots as usize;
        Self {
            geometry,
            superblock: [0; SUPERBLOCK_BYTES],
            bytes: vec![0; bytes],
        }
    }

    fn block(&mut self, block: u32, len: usize) -> &mut [u8] {
        let at = block as usize * self.geometry.block_bytes as usize;
        &mut self.bytes[at..at + len]
    }
}

impl Storage for Memory {
    type Error = StorageFailure;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_superblock(&mut self, _: SuperblockCopy, to: &mut [u8; SUPERBLOCK_BYTES]) -> Result<bool, StorageFailure> {
        *to = self.superblock;
        Ok(true)
    }

    fn write_superblock(&mut self, _: SuperblockCopy, from: &[u8; SUPERBLOCK_BYTES]) -> Result<bool, StorageFailure> {
        self.superblock = *from;
        Ok(true)
    }

    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), StorageFailure> {
        bytes.copy_from_slice(self.block(block, bytes.len()));
        Ok(())
    }

    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), StorageFailure> {
        self.block(block, bytes.len()).copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, _: u32) -> Result<(), StorageFailure> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageFailure> {
        Ok(())
    }
}
