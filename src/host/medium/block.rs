//! The ring on a raw block device or partition: no file system, no journal, one device write per block.
//!
//! - Opened with `O_EXCL`: the kernel refuses a device that is mounted, swapped on, part of a RAID or volume group, or
//!   opened so by another instance.
//! - A device that holds something else (see [`super::signature`]) is refused; only `tidegate ring format --force` takes it.
//! - The ring takes exactly the bytes it was given, at the start; the device may be larger. Slots begin at 4 MiB, the allocation
//!   unit of most cards, so that a segment never shares one with the superblock.
//! - Opened with `O_DIRECT` where the kernel has it: blocks smaller than a page then cost no more than themselves, and never
//!   rewrite their neighbours. All transfers go through one aligned buffer and are aligned to sectors. Without it blocks must be
//!   whole pages.
//!
//! Measured on a loop device (ext4 below it, 25 commits): blocks of 512 and of 4,096 bytes cost exactly that many bytes of device
//! writes each, and a commit one flush.
//!
//! Costs one buffer of a block, at least 4 KiB, allocated when it is opened.
//!
//! Power loss leaves any mix of 512-byte sectors of the blocks not yet synced; the ring's checksums find them.

use super::OpenError;
use super::error::io_error;
use super::file::lock;
use super::signature::{self, Signature};
use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use rustix::fs::{OFlags, ioctl_blksszget};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Byte offset of slot 0: an allocation unit of common cards.
pub const FIRST_OFFSET: u64 = 4 << 20;

/// Alignment of memory and lengths that every sector size divides, and a page.
const ALIGNMENT: usize = 4096;

/// Bytes written at once by [`BlockDevice::wipe`].
const WIPE_BYTES: usize = 1 << 20;

/// `BLKGETSIZE64`. The size argument of the macro is `size_t` although the answer has 64 bits.
const BLKGETSIZE64: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<usize>(0x12, 114);

/// A device, open for this process alone.
#[derive(Debug)]
pub struct BlockDevice {
    file: File,
    bytes: u64,
    sector: usize,
    /// `ALIGNMENT` more than its use, so that an aligned part can be taken.
    bounce: Vec<u8>,
}

/// Bytes of a block device.
fn size_of(file: &File) -> io::Result<u64> {
    // SAFETY: the opcode writes a u64 through the pointer, which is what the getter provides.
    let size = unsafe {
        let request = rustix::ioctl::Getter::<BLKGETSIZE64, u64>::new();
        rustix::ioctl::ioctl(file, request)
    };
    Ok(size?)
}

impl AsFd for BlockDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl BlockDevice {
    /// Opens the device for writing.
    ///
    /// # Errors
    /// [`OpenError::Busy`], [`OpenError::Locked`], or a failed step.
    pub fn open(path: &Path, block_bytes: u32) -> Result<Self, OpenError> {
        let (file, direct) = open_exclusive(path)?;
        lock(&file, path)?;
        let bytes = size_of(&file).map_err(io_error("size", path))?;
        let sector = ioctl_blksszget(&file).map_err(|error| io_error("sector size of", path)(error.into()))?;
        let sector = if direct { sector as usize } else { ALIGNMENT };
        if !sector.is_power_of_two() || sector > ALIGNMENT || !(block_bytes as usize).is_multiple_of(sector) {
            return Err(OpenError::Shape {
                path: path.to_owned(),
                problem: format!(
                    "block size {block_bytes} is not a multiple of what the device can write, {sector} bytes"
                ),
            });
        }
        Ok(Self::new(file, bytes, sector, block_bytes))
    }

    fn new(file: File, bytes: u64, sector: usize, block_bytes: u32) -> Self {
        Self {
            file,
            bytes,
            sector,
            bounce: vec![0; ALIGNMENT + (block_bytes as usize).max(ALIGNMENT)],
        }
    }

    /// Size of the device in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What else is on the device.
    ///
    /// # Errors
    /// A place could not be read.
    pub fn signature(&mut self) -> io::Result<Option<Signature>> {
        let (bytes, sector) = (self.bytes, self.sector);
        signature::find(bytes, sector, |buffer, offset| self.read_at(buffer, offset))
    }

    /// Zeros the first `ring_bytes`, a multiple of 4,096, and every foreign signature behind them.
    ///
    /// All of it: blocks of an earlier ring would look like damage to the tools. Takes as long as the device takes to write that
    /// much.
    ///
    /// # Errors
    /// As `pwrite`; or a signature that stays.
    pub fn wipe(&mut self, ring_bytes: u64) -> io::Result<()> {
        let mut memory = vec![0; WIPE_BYTES + ALIGNMENT];
        let zeros = aligned(&mut memory, WIPE_BYTES)?;
        let mut offset = 0;
        while offset < ring_bytes {
            let piece = (ring_bytes - offset).min(WIPE_BYTES as u64);
            self.file.write_all_at(&zeros[..piece as usize], offset)?;
            offset += piece;
        }
        // RAID superblocks stand at the end: at most two.
        for _ in 0..2 {
            if let Some(found) = self.signature()? {
                let sector = vec![0; self.sector];
                self.write_at(&sector, found.offset & !(self.sector as u64 - 1))?;
            }
        }
        match self.signature()? {
            Some(_) => Err(io::Error::other("a foreign signature does not go away")),
            None => Ok(()),
        }
    }

    /// Reads `buffer.len()` bytes at `offset`, both multiples of the sector.
    ///
    /// # Errors
    /// As `pread`; a short read is an error.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let aligned = aligned(&mut self.bounce, buffer.len())?;
        self.file.read_exact_at(aligned, offset)?;
        buffer.copy_from_slice(aligned);
        Ok(())
    }

    /// Writes `buffer` at `offset`, both multiples of the sector.
    ///
    /// # Errors
    /// As `pwrite`.
    pub fn write_at(&mut self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let aligned = aligned(&mut self.bounce, buffer.len())?;
        aligned.copy_from_slice(buffer);
        self.file.write_all_at(aligned, offset)
    }

    /// Waits until everything written has reached the medium, through the device's own cache.
    ///
    /// # Errors
    /// As `fdatasync`; the fate of what was written since the last success is then unknown.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The part of `bounce` that begins at a page and is `len` long.
fn aligned(bounce: &mut [u8], len: usize) -> io::Result<&mut [u8]> {
    let skip = bounce.as_ptr().align_offset(ALIGNMENT);
    skip.checked_add(len)
        .and_then(|end| bounce.get_mut(skip..end))
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Opens with `O_DIRECT` if the device can; says whether it can.
fn open_exclusive(path: &Path) -> Result<(File, bool), OpenError> {
    let attempt = |flags: OFlags| {
        OpenOptions::new()
            .read(true)
            .write(true)
            // Bit patterns of flags: the types differ only in sign.
            .custom_flags((flags | OFlags::EXCL).bits() as i32)
            .open(path)
    };
    let opened = match attempt(OFlags::DIRECT) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => attempt(OFlags::empty()).map(|file| (file, false)),
        other => other.map(|file| (file, true)),
    };
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => OpenError::Busy { path: path.to_owned() },
        _ => io_error("open", path)(error),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file in a device's place: everything but the ioctls.
    pub(in crate::host::medium) fn in_file(path: &Path, bytes: u64, block_bytes: u32) -> BlockDevice {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .expect("a writable directory");
        file.set_len(bytes).expect("sparse files");
        BlockDevice::new(file, bytes, 512, block_bytes)
    }

    #[test]
    fn transfers_are_page_aligned_whatever_the_buffer() {
        let mut bounce = vec![0; 2 * ALIGNMENT];
        let part = aligned(&mut bounce, ALIGNMENT).expect("room");
        assert_eq!(part.as_ptr().align_offset(ALIGNMENT), 0);
        assert!(aligned(&mut bounce, 2 * ALIGNMENT + 1).is_err());
    }

    #[test]
    fn wiping_clears_the_ring_and_foreign_signatures_behind_it_but_nothing_else() {
        let directory = tempdir();
        let mut device = in_file(&directory.join("disk"), 8 << 20, 4096);
        let raid = [0xfc, 0x4e, 0x2b, 0xa9];
        let mut sector = [0; 512];
        sector[..4].copy_from_slice(&raid);
        device.write_at(&sector, (8 << 20) - 8192).expect("writes");
        device.write_at(&sector, (8 << 20) - 65_536).expect("writes");
        sector[..4].copy_from_slice(b"XFSB");
        device.write_at(&sector, 0).expect("writes");
        assert_eq!(
            device.signature().expect("reads").map(|found| found.name),
            Some("an XFS file system")
        );
        device.write_at(&[7; 512], 5 << 20).expect("writes");
        device.write_at(&[7; 512], 6 << 20).expect("writes");
        device.wipe((5 << 20) + 8192).expect("writes");
        assert_eq!(device.signature().expect("reads"), None);
        let mut read = |offset| {
            device.read_at(&mut sector, offset).expect("reads");
            sector[0]
        };
        assert_eq!((read(5 << 20), read(6 << 20)), (0, 7));
        std::fs::remove_dir_all(&directory).expect("ours");
    }

    #[test]
    fn what_is_no_block_device_has_no_block_device_size() {
        let file = File::open("/dev/null").expect("there");
        assert!(size_of(&file).is_err());
    }

    pub(in crate::host::medium) fn tempdir() -> std::path::PathBuf {
        use core::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tidegate-medium-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a writable temporary directory");
        path
    }
}
