//! The ring in a file: zero-filled once, of exact size, locked, synced with `fdatasync`.
//!
//! Zero-filling matters: a file that is only `fallocate`d, or one synced with `fsync`, costs 16 KiB of device
//! writes per 4 KiB block on ext4 (unwritten extents, journal); a zero-filled one with `fdatasync` costs 4.2 KiB.
//!
//! - A missing file is made beside its final name, filled, formatted, synced and renamed: a power cut while it
//!   is made leaves either nothing or the whole ring.
//! - A file of another size, or with other content, is refused and not touched.
//! - The file is locked; a second instance is refused by name.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use alloc::borrow::ToOwned as _;
use rustix::fs::{FlockOperation, flock};

/// Bytes written at once while a new file is filled.
const FILL_BYTES: usize = 64 * 1024;

/// Why a ring file could not be opened or made.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A step failed.
    Io {
        /// What was being done, as in `open`.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file has another size than the configuration asks for.
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// Another process has it open.
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// There is no ring in it.
    NotARing {
        /// The file.
        path: PathBuf,
    },
    /// A new file does not fit where it should be.
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Bytes it should have.
        bytes: u64,
        /// What the system said.
        error: io::Error,
    },
    /// Neither a regular file nor missing.
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Io { step, path, error } => write!(f, "{step} {}: {error}", path.display()),
            Self::Size { path, found, expected } => write!(
                f,
                "ring {} has {found} bytes, the configuration says {expected}: restore tidegate.ring.size, or move the file \
                 away after its backlog has been delivered; nothing was changed",
                path.display()
            ),
            Self::Locked { path } => write!(
                f,
                "ring {} is in use by another process: stop that instance, or give this one its own tidegate.ring.path",
                path.display()
            ),
            Self::NoRoom { path, bytes, error } => write!(
                f,
                "make ring {} of {bytes} bytes: {error}: free that much, or lower tidegate.ring.size; nothing was left behind",
                path.display()
            ),
            Self::NotARing { path } => {
                write!(
                    f,
                    "{} holds no ring: neither its first nor its last superblock can be read",
                    path.display()
                )
            }
            Self::NotAFile { path } => {
                write!(
                    f,
                    "ring {} is not a regular file: this release keeps the ring in a file",
                    path.display()
                )
            }
        }
    }
}

impl core::error::Error for OpenError {}

/// Whether the file was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It was there.
    Existing,
    /// It was made, and awaits formatting.
    Created,
}

/// A ring file, open and locked.
#[derive(Debug)]
pub struct RingFile {
    file: File,
    bytes: u64,
}

fn io_error<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |error| OpenError::Io {
        step,
        path: path.to_owned(),
        error,
    }
}

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

fn lock(file: &File, path: &Path) -> Result<(), OpenError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(error) => Err(io_error("lock", path)(error.into())),
    }
}

impl RingFile {
    /// Opens the ring at `path` for writing.
    ///
    /// # Errors
    /// Missing (with [`io::ErrorKind::NotFound`] inside), of another size than `bytes`, locked, or not a file.
    pub fn open(path: &Path, bytes: u64) -> Result<Self, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(io_error("open", path))?;
        let metadata = file.metadata().map_err(io_error("examine", path))?;
        if !metadata.is_file() {
            return Err(OpenError::NotAFile { path: path.to_owned() });
        }
        if metadata.len() != bytes {
            return Err(OpenError::Size {
                path: path.to_owned(),
                found: metadata.len(),
                expected: bytes,
            });
        }
        lock(&file, path)?;
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

    /// Makes a zero-filled file of `bytes` beside `path`, lets `format` write what belongs at its start, syncs
    /// it and gives it its name.
    ///
    /// # Errors
    /// The directory is missing or not writable, or the disk has not enough room; nothing is left behind then.
    pub fn create<E: From<OpenError>>(
        path: &Path,
        bytes: u64,
        format: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let fresh = PathBuf::from(name);
        // Until the lock is ours the file may be another instance's, at the same work.
        let file = Self::reserve(&fresh, path)?;
        let made = Self::fill(file, &fresh, bytes).map_err(E::from).and_then(|mut ring| {
            format(&mut ring)?;
            ring.file.sync_all().map_err(io_error("sync", &fresh))?;
            std::fs::rename(&fresh, path).map_err(io_error("rename", &fresh))?;
            sync_directory(path)?;
            Ok(ring)
        });
        if made.is_err() {
            // The first error is the one to report; what is left is overwritten by the next attempt.
            let _ = std::fs::remove_file(&fresh);
        }
        made
    }

    /// Opens and locks the file that becomes the ring at `path`, without changing it.
    fn reserve(fresh: &Path, path: &Path) -> Result<File, OpenError> {
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
        if renamed {
            // What we have just made; not what that instance works with, which is locked.
            let _ = std::fs::remove_file(fresh);
            return Err(OpenError::Locked { path: path.to_owned() });
        }
        Ok(file)
    }

    fn fill(file: File, path: &Path, bytes: u64) -> Result<Self, OpenError> {
        // What an interrupted attempt has left is of no use.
        file.set_len(0).map_err(io_error("empty", path))?;
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
        if offset + buffer.len() as u64 > self.bytes {
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
