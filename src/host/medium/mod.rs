//! Where a ring lives: implementations of [`crate::wal::storage::Storage`].
//!
//! A file today. Every byte that is read back is checksummed by the ring, so nothing here checks content; what is
//! checked here is that the file is ours, whole, and nobody else's at the same time.

pub mod file;

use crate::wal::format::{Geometry, Medium as Writing, SUPERBLOCK_BYTES, SUPERBLOCK_SPACE, Superblock};
use crate::wal::storage::{Storage, SuperblockCopy};
use alloc::borrow::ToOwned as _;
use core::borrow::Borrow;
use core::fmt;
use file::{OpenError, RingFile};
use std::io;
use std::path::Path;

/// An error of the file, with the kind the ring wants to know.
#[derive(Debug)]
pub struct MediumError(pub io::Error);

impl fmt::Display for MediumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::error::Error for MediumError {}

impl embedded_io::Error for MediumError {
    fn kind(&self) -> embedded_io::ErrorKind {
        self.0.kind().into()
    }
}

impl From<io::Error> for MediumError {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

/// A file with the shape of a ring.
#[derive(Debug)]
pub struct Medium<F = RingFile> {
    file: F,
    geometry: Geometry,
}

impl<F: Borrow<RingFile>> Medium<F> {
    /// A ring of `geometry` in `file`, which has been checked to be large enough.
    #[must_use]
    pub const fn new(file: F, geometry: Geometry) -> Self {
        Self { file, geometry }
    }

    fn offset(&self, block: u32) -> u64 {
        SUPERBLOCK_SPACE + u64::from(block) * u64::from(self.geometry.block_bytes)
    }

    fn superblock_offset(&self, copy: SuperblockCopy) -> u64 {
        match copy {
            SuperblockCopy::First => 0,
            SuperblockCopy::Last => self.file.borrow().bytes().saturating_sub(SUPERBLOCK_SPACE),
        }
    }
}

impl<F: Borrow<RingFile>> Storage for Medium<F> {
    type Error = MediumError;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &mut [u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, MediumError> {
        self.file.borrow().read_at(bytes, self.superblock_offset(copy))?;
        Ok(true)
    }

    fn write_superblock(&mut self, copy: SuperblockCopy, bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<bool, MediumError> {
        self.file.borrow().write_at(bytes, self.superblock_offset(copy))?;
        Ok(true)
    }

    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), MediumError> {
        Ok(self.file.borrow().read_at(bytes, self.offset(block))?)
    }

    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), MediumError> {
        Ok(self.file.borrow().write_at(bytes, self.offset(block))?)
    }

    fn erase(&mut self, _slot: u32) -> Result<(), MediumError> {
        // A file is rewritten in place; old blocks are told apart by their sequence number.
        Ok(())
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        Ok(self.file.borrow().sync()?)
    }
}

/// Opens an image of unknown shape for the tools: read-only, the geometry taken from its superblocks.
///
/// # Errors
/// It cannot be opened, or has no superblock.
pub fn open_image(path: &Path) -> Result<Medium, OpenError> {
    let file = RingFile::open_read_only(path)?;
    let mut bytes = [0; SUPERBLOCK_BYTES];
    let last = file.bytes().saturating_sub(SUPERBLOCK_SPACE);
    for offset in [0, last] {
        if file.read_at(&mut bytes, offset).is_ok()
            && let Ok(superblock) = Superblock::parse(&bytes)
            && superblock.geometry.medium == Writing::Rewritable
        {
            return Ok(Medium::new(file, superblock.geometry));
        }
    }
    Err(OpenError::NotARing { path: path.to_owned() })
}
