//! Where a ring lives: implementations of [`crate::wal::storage::Storage`].
//!
//! | path | medium | made by |
//! |---|---|---|
//! | a file, or nothing yet | [`mod@file`] | `run`, if missing; `ring format` |
//! | a block device or partition | [`block`] | `ring format` only |
//! | `/dev/mtdN` | [`mtd`] | `ring format` only |
//!
//! Every byte that is read back is checksummed by the ring, so nothing here checks content; what is checked here is that
//! the medium is ours, whole, and nobody else's at the same time.

pub mod block;
mod error;
pub mod file;
mod later;
pub mod mtd;
pub mod signature;

pub use error::OpenError;
pub use later::SyncLater;

use crate::wal::format::{EraseHeader, Geometry, Medium as Writing, SUPERBLOCK_BYTES, SUPERBLOCK_SPACE, Superblock};
use crate::wal::storage::{Storage, SuperblockCopy};
use crate::wal::{self, FormatError};
use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::rc::Rc;
use block::BlockDevice;
use core::cell::OnceCell;
use core::fmt;
use error::io_error;
use file::RingFile;
use mtd::char_device::{self, CharDevice};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// An error of the medium, with the kind the ring wants to know.
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

/// The sizes an operator gives a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the whole ring.
    pub ring_bytes: u64,
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Bytes of a block.
    pub block_bytes: u32,
}

/// Who a new ring is.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'a> {
    /// Random.
    pub uuid: [u8; 16],
    /// Milliseconds since the Unix epoch, 0 if unknown.
    pub created_ms: i64,
    /// For people; up to 32 bytes are kept.
    pub label: &'a str,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, or nothing yet.
    File,
    /// A block device or partition.
    Block,
    /// Raw NOR or NAND.
    Mtd,
}

impl Kind {
    /// Looks at `path`. What is missing below `/dev` is a device that is not there yet, never a file to be made.
    ///
    /// # Errors
    /// [`OpenError::NotAMedium`], or it cannot be looked at.
    pub fn of(path: &Path) -> Result<Self, OpenError> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_file() => Ok(Self::File),
            Ok(found) if found.file_type().is_block_device() => Ok(Self::Block),
            Ok(found)
                if found.file_type().is_char_device() && rustix::fs::major(found.rdev()) == char_device::MAJOR =>
            {
                Ok(Self::Mtd)
            }
            Ok(_) => Err(OpenError::NotAMedium { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::of_missing(path)),
            Err(error) => Err(io_error("examine", path)(error)),
        }
    }

    /// By its name alone: a ring file below `/dev` would be RAM that looks like a device.
    fn of_missing(path: &Path) -> Self {
        let Ok(name) = path.strip_prefix("/dev") else {
            return Self::File;
        };
        match name.to_str() {
            Some(name) if name.starts_with("shm/") => Self::File,
            Some(name) if name.starts_with("mtd") => Self::Mtd,
            _ => Self::Block,
        }
    }

    /// Byte offset of slot 0.
    #[must_use]
    pub const fn first_offset(self) -> u64 {
        match self {
            Self::File => SUPERBLOCK_SPACE,
            Self::Block => block::FIRST_OFFSET,
            Self::Mtd => 0,
        }
    }

    /// How it takes writes.
    #[must_use]
    pub const fn writing(self) -> Writing {
        match self {
            Self::File | Self::Block => Writing::Rewritable,
            Self::Mtd => Writing::WriteOnce,
        }
    }
}

#[derive(Debug)]
enum Device {
    File(RingFile),
    Block(BlockDevice),
    Mtd(mtd::Flash<CharDevice>),
}

impl Device {
    fn read(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_at(buffer, offset),
            Self::Block(device) => device.read_at(buffer, offset),
            Self::Mtd(flash) => flash.read_at(buffer, offset),
        }
    }

    fn write(&mut self, buffer: &[u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_at(buffer, offset),
            Self::Block(device) => device.write_at(buffer, offset),
            Self::Mtd(flash) => flash.program_at(buffer, offset),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync(),
            Self::Block(device) => device.sync(),
            // Programs are done when they return.
            Self::Mtd(_) => Ok(()),
        }
    }
}

/// A file or device with the shape of a ring.
#[derive(Debug)]
pub struct Medium {
    device: Device,
    geometry: Geometry,
    first_offset: u64,
    /// Offset of the last superblock.
    last_offset: u64,
    /// Made when it is first asked for; `None`: the kernel has none.
    later: OnceCell<Option<Rc<SyncLater>>>,
}

impl Medium {
    /// Syncs in the background, where that makes sense and the kernel can do it.
    #[must_use]
    pub fn sync_later(&self) -> Option<Rc<SyncLater>> {
        self.later.get_or_init(|| self.make_later().map(Rc::new)).clone()
    }

    fn make_later(&self) -> Option<SyncLater> {
        let file = match &self.device {
            Device::File(file) => file.as_fd(),
            Device::Block(device) => device.as_fd(),
            Device::Mtd(_) => return None,
        };
        match SyncLater::new(file) {
            Ok(later) => Some(later),
            Err(error) => {
                log::debug!(error:% = error; "syncs hold the loop: the kernel has none in the background");
                None
            }
        }
    }

    /// Opens the ring at `path` for writing.
    ///
    /// # Errors
    /// [`OpenError`]. A missing file is an [`OpenError::Io`] of kind [`io::ErrorKind::NotFound`].
    pub fn open(path: &Path, shape: &Shape) -> Result<Self, OpenError> {
        let kind = Kind::of(path)?;
        if kind != Kind::File && !path.exists() {
            return Err(OpenError::NoDevice { path: path.to_owned() });
        }
        let geometry = geometry(path, kind, shape)?;
        let device = match kind {
            Kind::File => Device::File(RingFile::open(path, shape.ring_bytes)?),
            Kind::Block => Device::Block(open_block(path, shape, false)?),
            Kind::Mtd => Device::Mtd(mtd::Flash::new(CharDevice::open(path)?, geometry, shape, path)?),
        };
        Ok(Self::new(device, kind, geometry, shape))
    }

    /// Makes a ring file at `path`, where nothing is. A power cut leaves nothing, or all of it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn create(path: &Path, shape: &Shape, naming: &Naming<'_>) -> Result<Self, OpenError> {
        Self::make_file(path, shape, naming, false)
    }

    fn make_file(path: &Path, shape: &Shape, naming: &Naming<'_>, replace: bool) -> Result<Self, OpenError> {
        let geometry = geometry(path, Kind::File, shape)?;
        let file = RingFile::prepare(path, shape.ring_bytes, replace)?;
        let mut medium = Self::new(Device::File(file), Kind::File, geometry, shape);
        let made = medium.write_ring(path, naming).and_then(|()| match &medium.device {
            Device::File(file) => file.publish(path),
            Device::Block(_) | Device::Mtd(_) => Ok(()),
        });
        match (made, medium.device) {
            (Ok(()), device) => Ok(Self { device, ..medium }),
            (Err(error), Device::File(file)) => {
                file.discard(path);
                Err(error)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Makes a ring at `path`, whatever it is. Without `force` only where nothing is that is known.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn format(path: &Path, shape: &Shape, naming: &Naming<'_>, force: bool) -> Result<Self, OpenError> {
        let kind = Kind::of(path)?;
        let geometry = geometry(path, kind, shape)?;
        match kind {
            Kind::File => {
                // Refused while an instance runs on it. It keeps its old content until the new ring has its name.
                let _held = match std::fs::metadata(path) {
                    Ok(_) if !force => {
                        let what = if holds_ring(path) { "a ring" } else { "something" };
                        let path = path.to_owned();
                        return Err(OpenError::Exists { path, what });
                    }
                    Ok(found) => Some(RingFile::open(path, found.len())?),
                    Err(_) => None,
                };
                Self::make_file(path, shape, naming, force)
            }
            Kind::Block => {
                let mut device = open_block(path, shape, force)?;
                if !force && holds_ring(path) {
                    let (path, what) = (path.to_owned(), "a ring");
                    return Err(OpenError::Exists { path, what });
                }
                device.wipe(shape.ring_bytes).map_err(io_error("wipe", path))?;
                let mut medium = Self::new(Device::Block(device), kind, geometry, shape);
                medium.write_ring(path, naming)?;
                Ok(medium)
            }
            Kind::Mtd => {
                let mut flash = mtd::Flash::new(CharDevice::open(path)?, geometry, shape, path)?;
                if !force && !flash.is_blank().map_err(io_error("examine", path))? {
                    let what = if holds_ring(path) { "a ring" } else { "something" };
                    let path = path.to_owned();
                    return Err(OpenError::Exists { path, what });
                }
                let mut medium = Self::new(Device::Mtd(flash), kind, geometry, shape);
                medium.write_ring(path, naming)?;
                Ok(medium)
            }
        }
    }

    const fn new(device: Device, kind: Kind, geometry: Geometry, shape: &Shape) -> Self {
        Self {
            device,
            geometry,
            first_offset: kind.first_offset(),
            last_offset: shape.ring_bytes.saturating_sub(SUPERBLOCK_SPACE),
            later: OnceCell::new(),
        }
    }

    fn write_ring(&mut self, path: &Path, naming: &Naming<'_>) -> Result<(), OpenError> {
        match wal::format(self, naming.uuid, naming.created_ms, naming.label) {
            Ok(()) => Ok(()),
            Err(FormatError::Storage(error)) => Err(io_error("format", path)(error.0)),
            Err(other) => Err(OpenError::Shape {
                path: path.to_owned(),
                problem: format!("{other}"),
            }),
        }
    }

    /// What wear and error correction did to a raw chip; `None` on other media, which keep it to themselves.
    pub fn chip_health(&mut self) -> Option<mtd::Health> {
        match &mut self.device {
            Device::Mtd(flash) => Some(flash.health()),
            Device::File(_) | Device::Block(_) => None,
        }
    }

    fn offset(&self, block: u32) -> u64 {
        self.first_offset + u64::from(block) * u64::from(self.geometry.block_bytes)
    }

    const fn superblock_offset(&self, copy: SuperblockCopy) -> Option<u64> {
        match (self.geometry.medium, copy) {
            (Writing::WriteOnce, _) => None,
            (Writing::Rewritable, SuperblockCopy::First) => Some(0),
            (Writing::Rewritable, SuperblockCopy::Last) => Some(self.last_offset),
        }
    }
}

impl Storage for Medium {
    type Error = MediumError;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn first_offset(&self) -> u64 {
        self.first_offset
    }

    fn read_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &mut [u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, MediumError> {
        let Some(offset) = self.superblock_offset(copy) else {
            return Ok(false);
        };
        // A whole page: a device reads no less than a sector.
        let mut page = [0; SUPERBLOCK_SPACE as usize];
        self.device.read(&mut page, offset)?;
        bytes.copy_from_slice(&page[..SUPERBLOCK_BYTES]);
        Ok(true)
    }

    fn write_superblock(&mut self, copy: SuperblockCopy, bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<bool, MediumError> {
        let Some(offset) = self.superblock_offset(copy) else {
            return Ok(false);
        };
        let mut page = [0; SUPERBLOCK_SPACE as usize];
        page[..SUPERBLOCK_BYTES].copy_from_slice(bytes);
        self.device.write(&page, offset)?;
        Ok(true)
    }

    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), MediumError> {
        let offset = self.offset(block);
        Ok(self.device.read(bytes, offset)?)
    }

    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), MediumError> {
        let offset = self.offset(block);
        Ok(self.device.write(bytes, offset)?)
    }

    fn erase(&mut self, slot: u32) -> Result<(), MediumError> {
        match &mut self.device {
            Device::Mtd(flash) => flash.erase(slot),
            // Rewritten in place; old blocks are told apart by their sequence number.
            Device::File(_) | Device::Block(_) => Ok(()),
        }
    }

    fn erase_step(&mut self, slot: u32, part: u32) -> Result<bool, MediumError> {
        match &mut self.device {
            Device::Mtd(flash) => flash.erase_step(slot, part),
            Device::File(_) | Device::Block(_) => Ok(true),
        }
    }

    fn is_bad(&mut self, slot: u32) -> bool {
        match &mut self.device {
            Device::Mtd(flash) => flash.is_bad(slot),
            Device::File(_) | Device::Block(_) => false,
        }
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        // One that nobody waits for any more: what it has to say of an error is said only there.
        if let Some(Some(later)) = self.later.get() {
            later.settle()?;
        }
        Ok(self.device.sync()?)
    }
}

fn geometry(path: &Path, kind: Kind, shape: &Shape) -> Result<Geometry, OpenError> {
    let Shape {
        ring_bytes,
        segment_bytes,
        block_bytes,
    } = *shape;
    let found = Geometry::behind(
        kind.first_offset(),
        block_bytes,
        segment_bytes,
        ring_bytes,
        kind.writing(),
    );
    let aligned = kind != Kind::Block || ring_bytes.is_multiple_of(SUPERBLOCK_SPACE);
    found.filter(|_| aligned).ok_or_else(|| OpenError::Shape {
        path: path.to_owned(),
        problem: format!(
            "no ring of {ring_bytes} bytes can be made of segments of {segment_bytes} and blocks of {block_bytes} bytes here: \
             3 to 4,096 segments behind the first {} bytes, 4 to 1,024 blocks in each, sizes of segment and block powers of two{}",
            kind.first_offset(),
            if aligned { "" } else { ", ring size a multiple of 4,096" }
        ),
    })
}

/// Opens a device that is large enough, and ours or `force`d.
fn open_block(path: &Path, shape: &Shape, force: bool) -> Result<BlockDevice, OpenError> {
    let mut device = BlockDevice::open(path, shape.block_bytes)?;
    if device.bytes() < shape.ring_bytes {
        return Err(OpenError::TooSmall {
            path: path.to_owned(),
            found: device.bytes(),
            expected: shape.ring_bytes,
        });
    }
    match device.signature().map_err(io_error("examine", path))? {
        Some(found) if !force => Err(OpenError::Foreign {
            path: path.to_owned(),
            found,
        }),
        _ => Ok(device),
    }
}

/// Size of the block device at `path`.
///
/// # Errors
/// It cannot be opened for reading.
pub fn device_bytes(path: &Path) -> Result<u64, OpenError> {
    Ok(RingFile::open_read_only(path)?.bytes())
}

/// Fills `bytes` from the kernel's random source, for a ring's identity.
///
/// # Errors
/// As `getrandom`.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    match rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())? {
        count if count == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn holds_ring(path: &Path) -> bool {
    open_image(path).is_ok()
}

fn superblock_at(file: &RingFile, offset: u64) -> Option<Superblock> {
    let mut bytes = [0; SUPERBLOCK_BYTES];
    file.read_at(&mut bytes, offset).ok()?;
    let superblock = Superblock::parse(&bytes).ok()?;
    (superblock.geometry.medium == Writing::Rewritable).then_some(superblock)
}

/// Opens an image of unknown shape for the tools: read-only, the geometry taken from its superblocks or erase headers. Takes
/// files, devices, and dumps of either.
///
/// # Errors
/// It cannot be opened, or has none.
pub fn open_image(path: &Path) -> Result<Medium, OpenError> {
    let file = RingFile::open_read_only(path)?;
    let end = file.bytes().saturating_sub(SUPERBLOCK_SPACE);
    if let Some(found) = superblock_at(&file, 0).or_else(|| superblock_at(&file, end)) {
        let last_offset = last_superblock(&file, &found).unwrap_or(end);
        return Ok(Medium {
            geometry: found.geometry,
            first_offset: found.first_offset,
            last_offset,
            device: Device::File(file),
            later: OnceCell::new(),
        });
    }
    let geometry = erase_header(&file).ok_or_else(|| OpenError::NotARing { path: path.to_owned() })?;
    Ok(Medium {
        device: Device::File(file),
        geometry,
        first_offset: 0,
        last_offset: end,
        later: OnceCell::new(),
    })
}

/// The ring may end before its device does: behind the last slot, within one segment.
fn last_superblock(file: &RingFile, first: &Superblock) -> Option<u64> {
    let segment = u64::from(first.geometry.segment_bytes());
    let behind = first.first_offset + segment * u64::from(first.geometry.slots);
    let mut candidates = (0..segment / SUPERBLOCK_SPACE + 1).map(|page| behind + page * SUPERBLOCK_SPACE);
    candidates.find(|&offset| superblock_at(file, offset).is_some_and(|found| found.uuid == first.uuid))
}

/// Bytes searched for the first erase header: any slot lies in it, unless all in it are bad.
const SEARCHED_BYTES: u64 = 128 << 20;

/// The shape of a dump of NOR or NAND, from the first erase header that stands where it says.
fn erase_header(file: &RingFile) -> Option<Geometry> {
    let mut head = [0; crate::wal::format::ERASE_HEADER_BYTES];
    // No segment is smaller.
    let offsets = (0..file.bytes().min(SEARCHED_BYTES)).step_by(1024);
    offsets
        .filter_map(|offset| {
            file.read_at(&mut head, offset).ok()?;
            let header = EraseHeader::parse(&head).ok()?;
            let stands = u64::from(header.slot) * u64::from(header.geometry.segment_bytes()) == offset;
            stands.then_some(header.geometry)
        })
        .next()
}

#[cfg(test)]
mod tests;
