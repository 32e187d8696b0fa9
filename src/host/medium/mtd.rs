//! The ring on raw NOR or NAND, through Linux' MTD character devices (`/dev/mtdN`).
//!
//! - A slot is one or more erase blocks; one that is bad makes the whole slot bad. On NAND an erase block whose erase fails is
//!   marked bad; NOR has no such mark, there the ring passes over the slot until the next lap.
//! - A block is programmed once between two erases: one that does not read as erased is not touched. Every block is read back
//!   and compared; a difference is a write error, and the ring writes its payload elsewhere.
//! - A program has reached the chip when the call returns: there is nothing to sync.
//! - Bits that error correction had to put right are counted from the driver's own counters (`ECCGETSTATS`): reading the
//!   character device succeeds for them, and even for pages beyond correction, whose content the ring's checksums then refuse.
//! - NAND with more than one bit per cell (MLC) is refused: a cut program may destroy pages written long before.
//! - MTD has no exclusive open. The device is locked against a second instance, not against `flash_erase` or a mounted JFFS2.
//!   Parts that are locked at power-up must be unlocked first (`flash_unlock`).
//!
//! **What was run where**: the rules above are tested with a model of NOR and NAND that fails as flash does. The ioctls themselves
//! ([`char_device`]) have the numbers and layouts of the kernel's header, and were not run on a real chip: the machines that build
//! this have no MTD.
//!
//! Costs one buffer of a block and a byte per slot. Power loss leaves the block being programmed as anything, or the
//! slot being erased; the ring's checksums and erase headers find both.

pub mod char_device;

use super::OpenError;
use crate::wal::format::{Geometry, SUPERBLOCK_BYTES};
use crate::wal::storage::{Storage, SuperblockCopy};
use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use std::io;
use std::path::Path;

use super::{MediumError, Shape};

/// Kind of chip, as far as the ring cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// Bits can be cleared one by one.
    Nor,
    /// Pages, bad blocks.
    Nand,
}

/// Shape of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// What it is.
    pub chip: Chip,
    /// Bytes of the device or partition.
    pub bytes: u64,
    /// Bytes erased at once.
    pub erase_bytes: u32,
    /// Bytes programmed at once, at least.
    pub write_bytes: u32,
}

/// The driver's counters since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EccCounts {
    /// Bits put right.
    pub corrected: u32,
    /// Pages that could not be.
    pub failed: u32,
}

/// What the ring needs of the kernel. Offsets are bytes; programs and erases are aligned.
pub trait Mtd {
    /// Shape; constant.
    fn info(&self) -> Info;

    /// Fills `bytes`. Content beyond error correction may be given as it is.
    ///
    /// # Errors
    /// The device's.
    fn read(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Programs whole pages.
    ///
    /// # Errors
    /// The device's.
    fn program(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Erases one erase block.
    ///
    /// # Errors
    /// The device's: the block is worn out.
    fn erase(&mut self, offset: u64) -> io::Result<()>;

    /// Whether the erase block is marked bad.
    ///
    /// # Errors
    /// The device's.
    fn is_bad(&mut self, offset: u64) -> io::Result<bool>;

    /// Marks it.
    ///
    /// # Errors
    /// The device's.
    fn mark_bad(&mut self, offset: u64) -> io::Result<()>;

    /// Counters of error correction; none on a device without.
    fn ecc(&mut self) -> EccCounts;
}

/// What wear and error correction did since the ring was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Bits put right by error correction.
    pub corrected_bits: u64,
    /// Pages it could not put right.
    pub uncorrectable_pages: u64,
    /// Slots that cannot be used.
    pub bad_slots: u32,
    /// Blocks that did not read back as programmed.
    pub mismatches: u64,
}

/// A chip with the shape of a ring.
#[derive(Debug)]
pub struct Flash<D> {
    device: D,
    geometry: Geometry,
    bad: Vec<bool>,
    check: Vec<u8>,
    before: EccCounts,
    mismatches: u64,
}

/// `EUCLEAN`: bits were put right, the data is good.
const CORRECTED: i32 = libc::EUCLEAN;

impl<D: Mtd> Flash<D> {
    /// A ring of `shape` at the start of `device`; `path` is for messages. Asks for bad blocks.
    ///
    /// # Errors
    /// [`OpenError::TooSmall`], [`OpenError::Shape`], or bad blocks cannot be asked for.
    pub fn new(mut device: D, geometry: Geometry, shape: &Shape, path: &Path) -> Result<Self, OpenError> {
        let info = device.info();
        if info.bytes < shape.ring_bytes {
            return Err(OpenError::TooSmall {
                path: path.to_owned(),
                found: info.bytes,
                expected: shape.ring_bytes,
            });
        }
        for (what, size, unit, of) in [
            ("segment", shape.segment_bytes, info.erase_bytes, "erase block"),
            ("block", shape.block_bytes, info.write_bytes, "page"),
        ] {
            if unit == 0 || !size.is_multiple_of(unit) {
                return Err(OpenError::Shape {
                    path: path.to_owned(),
                    problem: format!("{what} size {size} is not a multiple of the chip's {of}, {unit} bytes"),
                });
            }
        }
        let before = device.ecc();
        let mut flash = Self {
            device,
            geometry,
            bad: vec![false; geometry.slots as usize],
            check: vec![0; geometry.block_bytes as usize],
            before,
            mismatches: 0,
        };
        for slot in 0..geometry.slots {
            flash.bad[slot as usize] = flash.ask(slot).map_err(super::error::io_error("bad blocks of", path))?;
        }
        Ok(flash)
    }

    fn erase_blocks(&self, slot: u32) -> impl Iterator<Item = u64> + use<D> {
        let segment = self.geometry.segment_bytes();
        let first = u64::from(slot) * u64::from(segment);
        let erase_bytes = self.device.info().erase_bytes;
        // The step is not 0: checked when it was opened.
        (0..segment)
            .step_by(erase_bytes as usize)
            .map(move |offset| first + u64::from(offset))
    }

    fn ask(&mut self, slot: u32) -> io::Result<bool> {
        for offset in self.erase_blocks(slot) {
            if self.device.is_bad(offset)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether nothing has been programmed at the start of any erase block of the ring.
    ///
    /// # Errors
    /// As reading.
    pub fn is_blank(&mut self) -> io::Result<bool> {
        for slot in 0..self.geometry.slots {
            if self.bad[slot as usize] {
                continue;
            }
            for offset in self.erase_blocks(slot) {
                if !self.reads_erased(offset)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// What happened to the chip.
    pub fn health(&mut self) -> Health {
        let now = self.device.ecc();
        Health {
            corrected_bits: now.corrected.wrapping_sub(self.before.corrected).into(),
            uncorrectable_pages: now.failed.wrapping_sub(self.before.failed).into(),
            bad_slots: self.bad.iter().map(|&bad| u32::from(bad)).sum(),
            mismatches: self.mismatches,
        }
    }

    fn offset(&self, block: u32) -> u64 {
        u64::from(block) * u64::from(self.geometry.block_bytes)
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    /// The device's.
    pub fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        read(&mut self.device, bytes, offset)
    }

    /// Programs a block that reads as erased, and reads it back.
    ///
    /// # Errors
    /// The device's; [`io::ErrorKind::AlreadyExists`] if it is not erased; [`io::ErrorKind::InvalidData`] if it does not read
    /// back.
    pub fn program_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.reads_erased(offset)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.device.program(bytes, offset)?;
        read(&mut self.device, &mut self.check, offset)?;
        if self.check != bytes {
            self.mismatches += 1;
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    fn reads_erased(&mut self, offset: u64) -> io::Result<bool> {
        read(&mut self.device, &mut self.check, offset)?;
        Ok(self.check.iter().all(|&byte| byte == 0xff))
    }
}

fn read(device: &mut impl Mtd, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    match device.read(bytes, offset) {
        Err(error) if error.raw_os_error() == Some(CORRECTED) => Ok(()),
        other => other,
    }
}

impl<D: Mtd> Storage for Flash<D> {
    type Error = MediumError;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_superblock(&mut self, _: SuperblockCopy, _: &mut [u8; SUPERBLOCK_BYTES]) -> Result<bool, MediumError> {
        Ok(false)
    }

    fn write_superblock(&mut self, _: SuperblockCopy, _: &[u8; SUPERBLOCK_BYTES]) -> Result<bool, MediumError> {
        Ok(false)
    }

    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), MediumError> {
        let offset = self.offset(block);
        Ok(self.read_at(bytes, offset)?)
    }

    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), MediumError> {
        let offset = self.offset(block);
        Ok(self.program_at(bytes, offset)?)
    }

    fn erase(&mut self, slot: u32) -> Result<(), MediumError> {
        let mut part = 0;
        while !self.erase_step(slot, part)? {
            part += 1;
        }
        Ok(())
    }

    fn erase_step(&mut self, slot: u32, part: u32) -> Result<bool, MediumError> {
        let mut blocks = self.erase_blocks(slot).skip(part as usize);
        let Some(offset) = blocks.next() else { return Ok(true) };
        if let Err(error) = self.device.erase(offset) {
            // A mark that cannot be set leaves the slot to be tried again next lap.
            if self.device.info().chip == Chip::Nand
                && self.device.mark_bad(offset).is_ok()
                && let Some(bad) = self.bad.get_mut(slot as usize)
            {
                *bad = true;
            }
            return Err(error.into());
        }
        Ok(blocks.next().is_none())
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        Ok(())
    }

    fn is_bad(&mut self, slot: u32) -> bool {
        self.bad.get(slot as usize).copied().unwrap_or(true)
    }
}

#[cfg(test)]
mod tests;
