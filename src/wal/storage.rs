//! The medium under the ring: what it must promise and what may go wrong.
//!
//! One trait for file, block device, MTD and the test devices. The ring addresses whole blocks and slots; byte
//! offsets, page sizes, bad-block tables and caches are the implementer's.

use super::format::{Geometry, Medium, SUPERBLOCK_BYTES, SUPERBLOCK_SPACE};
use embedded_io::ErrorKind;

/// Which of the two superblocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuperblockCopy {
    /// At the start of the medium.
    First,
    /// In its last 4,096 bytes.
    Last,
}

/// A medium that holds a ring.
///
/// # What an implementer guarantees
///
/// - [`Storage::read`] gives what was last written, or an error, or (after damage) anything: every byte is
///   checksummed above.
/// - After [`Storage::sync`] has returned `Ok`, everything written before is kept over a loss of power.
///
/// # What is allowed
///
/// - Between syncs, writes may reach the medium in any order, in part, or not at all; a write cut by a loss of power
///   may leave its own block as anything, and no other block changed.
/// - A failed `write` or `sync` leaves the blocks concerned as anything. The ring never retries a sync alone: it
///   writes the blocks again elsewhere.
/// - On [`Medium::WriteOnce`](super::format::Medium), a block is written once between two erases of its slot, in
///   rising order. A cut erase may leave the slot as anything; the ring erases it again before use.
///
/// Calls may block. `write` without `sync` should be cheap: the ring calls `sync` when it needs it.
pub trait Storage {
    /// What went wrong in the medium.
    type Error: embedded_io::Error;

    /// The shape of the ring; constant.
    fn geometry(&self) -> Geometry;

    /// Byte offset of slot 0; constant. What is before it belongs to the ring as well.
    fn first_offset(&self) -> u64 {
        match self.geometry().medium {
            Medium::Rewritable => SUPERBLOCK_SPACE,
            Medium::WriteOnce => 0,
        }
    }

    /// Reads a superblock; `Ok(false)`: this medium has none.
    ///
    /// # Errors
    /// The medium's.
    fn read_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &mut [u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, Self::Error>;

    /// Writes a superblock, the rest of its 4,096 bytes zero; `Ok(false)`: this medium has none. Only `format` calls
    /// it.
    ///
    /// # Errors
    /// The medium's.
    fn write_superblock(&mut self, copy: SuperblockCopy, bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<bool, Self::Error>;

    /// Fills `bytes`, one block long, with block `block`.
    ///
    /// # Errors
    /// The medium's; the ring then treats the block as damaged.
    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes `bytes`, one block long, as block `block`.
    ///
    /// # Errors
    /// The medium's; the ring then writes the same payload elsewhere.
    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes slot `slot` writable: erases it on a write-once medium, may do nothing elsewhere.
    ///
    /// # Errors
    /// The medium's; the ring then passes over the slot.
    fn erase(&mut self, slot: u32) -> Result<(), Self::Error>;

    /// Erases a part of slot `slot`, short enough for a pause between other work: part `part`, counted from 0. `Ok(true)`: it
    /// was the last. The parts of a slot together are as [`Storage::erase`].
    ///
    /// # Errors
    /// As [`Storage::erase`].
    fn erase_step(&mut self, slot: u32, part: u32) -> Result<bool, Self::Error> {
        let _ = part;
        self.erase(slot).map(|()| true)
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// The medium's; the ring then writes everything since the last sync elsewhere.
    fn sync(&mut self) -> Result<(), Self::Error>;

    /// Whether the slot must not be used at all.
    fn is_bad(&mut self, slot: u32) -> bool {
        let _ = slot;
        false
    }
}

impl<S: Storage + ?Sized> Storage for &mut S {
    type Error = S::Error;

    fn geometry(&self) -> Geometry {
        (**self).geometry()
    }
    fn first_offset(&self) -> u64 {
        (**self).first_offset()
    }
    fn read_superblock(&mut self, copy: SuperblockCopy, bytes: &mut [u8; SUPERBLOCK_BYTES]) -> Result<bool, S::Error> {
        (**self).read_superblock(copy, bytes)
    }
    fn write_superblock(&mut self, copy: SuperblockCopy, bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<bool, S::Error> {
        (**self).write_superblock(copy, bytes)
    }
    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), S::Error> {
        (**self).read(block, bytes)
    }
    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), S::Error> {
        (**self).write(block, bytes)
    }
    fn erase(&mut self, slot: u32) -> Result<(), S::Error> {
        (**self).erase(slot)
    }
    fn erase_step(&mut self, slot: u32, part: u32) -> Result<bool, S::Error> {
        (**self).erase_step(slot, part)
    }
    fn sync(&mut self) -> Result<(), S::Error> {
        (**self).sync()
    }
    fn is_bad(&mut self, slot: u32) -> bool {
        (**self).is_bad(slot)
    }
}

/// An error of the medium with its kind, for those who do not know its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageFailure(pub ErrorKind);

impl core::fmt::Display for StorageFailure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "storage: {:?}", self.0)
    }
}

impl core::error::Error for StorageFailure {}
