//! The ring in a file: zero-filled once, of exact size, locked, synced with `fdatasync`.
//!
//! Zero-filling matters: a file that is only `fallocate`d, or one synced with `fsync`, costs 16 KiB of device
//! writes per 4 KiB block on ext4 (unwritten extents, journal); a zero-filled one with `fdatasync` costs 4.2 KiB. On
//! F2FS, which else writes every block to a new place, the file is pinned before it is filled, if the kernel allows it
//! (not tried on a real F2FS). UBIFS, JFFS2 and Btrfs never write in place and may be out of space for a file that is
//! already there: use the raw device there.
//!
//! - A missing file is made beside its final name, filled, formatted, synced and renamed: a power cut while it
//!   is made leaves either nothing or the whole ring.
//! - A file of another size is refused and not touched.
//! - The file is locked; a second instance is refused by name.

use super::OpenError;
use super::error::io_error;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use alloc::borrow::ToOwned as _;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstatfs};

/// Bytes written at once while a new file is filled.
const FILL_BYTES: usize = 64 * 1024;

/// Name of a file that is being made.
const UNFINISHED: &str = ".new";

fn fill_error(path: &Path, bytes: u64, error: io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded => OpenError::NoRoom {
            path: path.to_owned(),
            bytes,
            error,
        },
        _ => io_error("fill", path)(error),
    }
}

/// A ring file, open and locked.
#[derive(Debug)]
pub struct RingFile {
    file: File,
    bytes: u64,
}

/// Takes the file for this process.
pub(super) fn lock(file: &File, path: &Path) -> Result<(), OpenError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(error) => Err(io_error("lock", path)(error.into())),
    }
}

impl AsFd for RingFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl RingFile {
    /// Opens the ring at `path`, a regular file, for writing.
    ///
    /// # Errors
    /// Missing (with [`io::ErrorKind::NotFound`] inside), locked, or of another size than `bytes`.
    pub fn open(path: &Path, bytes: u64) -> Result<Self, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(io_error("open", path))?;
        lock(&file, path)?;
        let found = file.metadata().map_err(io_error("examine", path))?.len();
        if found != bytes {
            return Err(OpenError::Size {
                path: path.to_owned(),
                found,
                expected: bytes,
            });
        }
        Ok(Self { file, bytes })
    }

    /// Opens any image for reading only, without a lock: for the tools.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        let mut file = File::open(path).map_err(io_error("open", path))?;
        // The end of a block device is found by seeking; its metadata says 0.
        let bytes = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(io_error("examine", path))?;
        Ok(Self { file, bytes })
    }

    /// Makes a zero-filled file of `bytes` beside `path`, for [`RingFile::publish`] to give it its name. Unless it is to
    /// `replace` it, nothing may have that name.
    ///
    /// # Errors
    /// The directory is missing or not writable, or the disk has not enough room; nothing is left behind then. Another
    /// instance is at the same work, or has finished it.
    pub fn prepare(path: &Path, bytes: u64, replace: bool) -> Result<Self, OpenError> {
        let fresh = unfinished(path);
        // Until the lock is ours the file may be another instance's, at the same work.
        let file = Self::reserve(&fresh, path, replace)?;
        let made = Self::fill(file, &fresh, bytes);
        if made.is_err() {
            // The first error is the one to report; what is left is overwritten by the next attempt.
            let _ = std::fs::remove_file(&fresh);
        }
        made
    }

    /// Syncs the prepared file and gives it its name.
    ///
    /// # Errors
    /// A step failed: the name is not given, or not durably so.
    pub fn publish(&self, path: &Path) -> Result<(), OpenError> {
        let fresh = unfinished(path);
        self.file.sync_all().map_err(io_error("sync", &fresh))?;
        std::fs::rename(&fresh, path).map_err(io_error("rename", &fresh))?;
        sync_directory(path)
    }

    /// Removes the prepared file: what was to be written into it could not be.
    pub fn discard(self, path: &Path) {
        // Whatever was wrong is being reported; what is left is overwritten by the next attempt.
        let _ = std::fs::remove_file(unfinished(path));
    }

    /// Opens and locks the file that becomes the ring at `path`, without changing it.
    fn reserve(fresh: &Path, path: &Path, replace: bool) -> Result<File, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(fresh)
            .map_err(io_error("create", fresh))?;
        lock(&file, path)?;
        // Another instance that was faster has given its file the final name between our two looks.
        let renamed = path.try_exists().map_err(io_error("examine", path))?;
        if renamed && !replace {
            // What we have just made; not what that instance works with, which is locked.
            let _ = std::fs::remove_file(fresh);
            return Err(OpenError::Locked { path: path.to_owned() });
        }
        Ok(file)
    }

    fn fill(file: File, path: &Path, bytes: u64) -> Result<Self, OpenError> {
        // What an interrupted attempt has left is of no use.
        file.set_len(0).map_err(io_error("empty", path))?;
        pin(&file, bytes);
        let zeros = alloc::vec![0_u8; FILL_BYTES];
        let mut offset = 0;
        while offset < bytes {
            let piece = (bytes - offset).min(FILL_BYTES as u64);
            file.write_all_at(&zeros[..piece as usize], offset)
                .map_err(|error| fill_error(path, bytes, error))?;
            offset += piece;
        }
        Ok(Self { file, bytes })
    }

    /// Size in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    /// As `pread`; a short read is an error.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Writes `buffer` at `offset`.
    ///
    /// # Errors
    /// As `pwrite`. Writing past the end is refused: the ring never grows.
    pub fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        if offset.saturating_add(buffer.len() as u64) > self.bytes {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        self.file.write_all_at(buffer, offset)
    }

    /// Waits until everything written has reached the medium.
    ///
    /// # Errors
    /// As `fdatasync`; the fate of what was written since the last success is then unknown.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

/// `F2FS_SUPER_MAGIC`; the field's type differs between architectures.
const F2FS: u32 = 0xf2f5_2010;
/// `F2FS_IOC_SET_PIN_FILE`: `_IOW(0xf5, 13, u32)`.
const F2FS_SET_PIN: rustix::ioctl::Opcode = rustix::ioctl::opcode::write::<u32>(0xf5, 13);

/// Asks F2FS to keep the blocks of an empty file where they are. Elsewhere, and on failure, nothing changes: the
/// ring works either way, pinning only saves writes.
fn pin(file: &File, bytes: u64) {
    let on_f2fs = fstatfs(file).is_ok_and(|found| found.f_type as u32 == F2FS);
    if !on_f2fs {
        return;
    }
    // SAFETY: the opcode takes a pointer to a u32 that it only reads; the setter keeps it alive over the call.
    let pinned = unsafe {
        let request = rustix::ioctl::Setter::<F2FS_SET_PIN, u32>::new(1);
        rustix::ioctl::ioctl(file, request)
    };
    if pinned.is_ok() {
        // A pinned file gets its places by fallocate; filling it afterwards makes them written.
        let _ = fallocate(file, FallocateFlags::empty(), 0, bytes);
    }
}

/// Makes a rename durable.
fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("sync", parent))
}
