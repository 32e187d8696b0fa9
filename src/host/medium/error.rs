//! Why a medium cannot hold, or does not hold, this ring.

use super::signature::Signature;
use alloc::borrow::ToOwned as _;
use alloc::string::String;
use std::io;
use std::path::{Path, PathBuf};

/// Why a ring's medium could not be opened, made or formatted. Nothing was changed, except where a step of
/// formatting failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A step failed.
    Io {
        /// What was being done, as in `open`.
        step: &'static str,
        /// The file or device.
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
    /// The device is smaller than the ring.
    TooSmall {
        /// The device.
        path: PathBuf,
        /// Bytes it has.
        found: u64,
        /// Bytes asked for.
        expected: u64,
    },
    /// Another process has it open.
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The kernel uses the device, or another process has it for itself.
    Busy {
        /// The device.
        path: PathBuf,
    },
    /// Something else lives there.
    Foreign {
        /// The device.
        path: PathBuf,
        /// What, and where.
        found: Signature,
    },
    /// There is something already, and formatting was not forced.
    Exists {
        /// Where.
        path: PathBuf,
        /// What, as in `a ring`.
        what: &'static str,
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
    /// There is no ring in it.
    NotARing {
        /// The file.
        path: PathBuf,
    },
    /// A device that is not there.
    NoDevice {
        /// Its name.
        path: PathBuf,
    },
    /// Neither a file, nor a block device, nor MTD, nor missing.
    NotAMedium {
        /// What is there.
        path: PathBuf,
    },
    /// A size does not fit the medium or the format.
    Shape {
        /// The medium.
        path: PathBuf,
        /// Which, and what it must be, as in `block size 512 is not a multiple of the device's sector, 4096`.
        problem: String,
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
            Self::TooSmall { path, found, expected } => write!(
                f,
                "{} has {found} bytes, the ring is to have {expected}",
                path.display()
            ),
            Self::Locked { path } => write!(
                f,
                "ring {} is in use by another process: stop that instance, or give this one its own tidegate.ring.path",
                path.display()
            ),
            Self::Busy { path } => write!(
                f,
                "{} is in use: mounted, swapped on, part of a RAID or volume group, or the ring of another instance",
                path.display()
            ),
            Self::Foreign { path, found } => write!(
                f,
                "{} holds {} (at byte {}), not a ring: choose another device, or destroy what is there with \
                 'tidegate ring format --force {0}'",
                path.display(),
                found.name,
                found.offset
            ),
            Self::Exists { path, what } => write!(
                f,
                "{} holds {what}: formatting would destroy it; add --force if that is what you want",
                path.display()
            ),
            Self::NoRoom { path, bytes, error } => write!(
                f,
                "make ring {} of {bytes} bytes: {error}: free that much, or lower tidegate.ring.size; nothing was left behind",
                path.display()
            ),
            Self::NotARing { path } => write!(
                f,
                "{} holds no ring: no superblock and no erase header can be read",
                path.display()
            ),
            Self::NoDevice { path } => write!(
                f,
                "there is no device {}: its partition or label is missing, or the kernel has not found it yet",
                path.display()
            ),
            Self::NotAMedium { path } => write!(
                f,
                "ring {} is neither a file nor a block device nor an MTD character device (/dev/mtdN)",
                path.display()
            ),
            Self::Shape { path, problem } => write!(f, "{}: {problem}", path.display()),
        }
    }
}

impl core::error::Error for OpenError {}

pub(super) fn io_error<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |error| OpenError::Io {
        step,
        path: path.to_owned(),
        error,
    }
}
