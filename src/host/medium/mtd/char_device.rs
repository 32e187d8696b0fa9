//! `/dev/mtdN`: the ioctls of the kernel's `mtd/mtd-abi.h`.
//!
//! The only code of the medium that could not be run where it was built; it decides nothing.

use super::super::OpenError;
use super::super::error::io_error;
use super::super::file::lock;
use super::{Chip, EccCounts, Info, Mtd};
use alloc::borrow::ToOwned as _;
use alloc::format;
use core::ffi::c_void;
use core::mem::size_of;
use core::ptr;
use rustix::ioctl::{Getter, Ioctl, IoctlOutput, Opcode, Setter, ioctl, opcode};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// `struct mtd_info_user`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct InfoUser {
    kind: u8,
    flags: u32,
    size: u32,
    erase_size: u32,
    write_size: u32,
    oob_size: u32,
    padding: u64,
}

/// `struct erase_info_user64`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct EraseUser64 {
    start: u64,
    length: u64,
}

/// `struct mtd_ecc_stats`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct EccStats {
    corrected: u32,
    failed: u32,
    bad_blocks: u32,
    bbt_blocks: u32,
}

const GROUP: u8 = b'M';
const MEMGETINFO: Opcode = opcode::read::<InfoUser>(GROUP, 1);
const MEMGETBADBLOCK: Opcode = opcode::write::<u64>(GROUP, 11);
const MEMSETBADBLOCK: Opcode = opcode::write::<u64>(GROUP, 12);
const ECCGETSTATS: Opcode = opcode::read::<EccStats>(GROUP, 18);
const MEMERASE64: Opcode = opcode::write::<EraseUser64>(GROUP, 20);

// The kernel's structures have these sizes on 32-bit and 64-bit machines.
const _: () = assert!(size_of::<InfoUser>() == 32 && size_of::<EraseUser64>() == 16 && size_of::<EccStats>() == 16);

/// `MTD_CHAR_MAJOR`.
pub(in crate::host::medium) const MAJOR: u32 = 90;

/// `MTD_RAM`, `MTD_NORFLASH`, `MTD_NANDFLASH`.
const RAM: u8 = 1;
const NOR: u8 = 3;
const NAND: u8 = 4;

/// The bad-block question: unlike other ioctls it answers in its return value.
struct IsBad(u64);

// SAFETY: the opcode reads a 64-bit offset through the pointer, which stays valid as long as `self`, and answers with
// its return value; `output_from_ptr` does not look at the pointer.
unsafe impl Ioctl for IsBad {
    type Output = bool;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        MEMGETBADBLOCK
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::from_mut(&mut self.0).cast()
    }

    unsafe fn output_from_ptr(returned: IoctlOutput, _: *mut c_void) -> rustix::io::Result<bool> {
        Ok(returned > 0)
    }
}

/// An MTD character device, locked for this process.
#[derive(Debug)]
pub struct CharDevice {
    file: File,
    info: Info,
}

impl CharDevice {
    /// Opens the device for writing.
    ///
    /// # Errors
    /// [`OpenError::Locked`], [`OpenError::Shape`] for chips that cannot hold a ring, or a failed step.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(io_error("open", path))?;
        lock(&file, path)?;
        let info = info(&file, path)?;
        Ok(Self { file, info })
    }
}

/// Shape of the device at `path`.
///
/// # Errors
/// As [`CharDevice::open`], without the lock.
pub fn examine(path: &Path) -> Result<Info, OpenError> {
    info(&File::open(path).map_err(io_error("open", path))?, path)
}

/// What the driver of the device at `path` has corrected since boot; `None` for anything but MTD, or a driver that does not
/// count.
#[must_use]
pub fn error_correction(path: &Path) -> Option<EccCounts> {
    use super::super::Kind;
    if !matches!(Kind::of(path), Ok(Kind::Mtd)) {
        return None;
    }
    ecc_counts(&File::open(path).ok()?)
}

fn ecc_counts(file: &File) -> Option<EccCounts> {
    // SAFETY: the opcode writes a `mtd_ecc_stats` through the pointer, which is what the getter provides.
    let stats = unsafe { ioctl(file, Getter::<ECCGETSTATS, EccStats>::new()) }.ok()?;
    Some(EccCounts {
        corrected: stats.corrected,
        failed: stats.failed,
    })
}

fn info(mut file: &File, path: &Path) -> Result<Info, OpenError> {
    // SAFETY: the opcode writes a `mtd_info_user` through the pointer, which is what the getter provides; any bytes are
    // a valid one.
    let found = unsafe { ioctl(file, Getter::<MEMGETINFO, InfoUser>::new()) };
    let found = found.map_err(|error| io_error("shape of", path)(error.into()))?;
    let chip = match found.kind {
        RAM | NOR => Chip::Nor,
        NAND => Chip::Nand,
        kind => {
            return Err(OpenError::Shape {
                path: path.to_owned(),
                problem: format!(
                    "flash of type {kind} cannot hold a ring, only NOR (3), NAND with one bit per cell (4) and RAM (1)"
                ),
            });
        }
    };
    // The size in the structure has 32 bits; large NAND has more.
    let bytes = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(io_error("size of", path))?;
    Ok(Info {
        chip,
        bytes,
        erase_bytes: found.erase_size,
        write_bytes: found.write_size.max(1),
    })
}

impl Mtd for CharDevice {
    fn info(&self) -> Info {
        self.info
    }

    fn read(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn program(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn erase(&mut self, offset: u64) -> io::Result<()> {
        let range = EraseUser64 {
            start: offset,
            length: self.info.erase_bytes.into(),
        };
        // SAFETY: the opcode reads an `erase_info_user64` through the pointer; the setter keeps it over the call.
        Ok(unsafe { ioctl(&self.file, Setter::<MEMERASE64, EraseUser64>::new(range)) }?)
    }

    fn is_bad(&mut self, offset: u64) -> io::Result<bool> {
        // SAFETY: see the implementation of `Ioctl`.
        match unsafe { ioctl(&self.file, IsBad(offset)) } {
            // NOR has no bad blocks.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
            other => Ok(other?),
        }
    }

    fn mark_bad(&mut self, offset: u64) -> io::Result<()> {
        // SAFETY: the opcode reads a 64-bit offset through the pointer; the setter keeps it over the call.
        Ok(unsafe { ioctl(&self.file, Setter::<MEMSETBADBLOCK, u64>::new(offset)) }?)
    }

    fn ecc(&mut self) -> EccCounts {
        ecc_counts(&self.file).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64"
    ))]
    fn opcodes_are_those_of_the_kernel_header() {
        for (ours, header) in [
            (MEMGETINFO, 0x8020_4d01_u32),
            (MEMERASE64, 0x4010_4d14),
            (MEMGETBADBLOCK, 0x4008_4d0b),
            (MEMSETBADBLOCK, 0x4008_4d0c),
            (ECCGETSTATS, 0x8010_4d12),
        ] {
            assert_eq!(ours, header, "{header:08x}");
        }
    }

    #[test]
    fn what_is_no_mtd_says_so() {
        assert!(examine(Path::new("/dev/null")).is_err());
    }
}
