//! Fixed-layout structures of the ring: superblock, erase header, block header.
//!
//! Each has a representation that cannot hold an illegal state, a `parse` that checks every field and an `emit`
//! that writes it. What the records inside a block mean is the business of [`super::record`].
//!
//! # Invariants
//!
//! - Every structure ends in a CRC-32C; a block's also covers the ring's identity and the slot, so a block read
//!   from the wrong place or the wrong ring never passes.
//! - A block's header is frozen for all major versions: any version finds the head and the tail of any other.
//!
//! Power loss leaves torn blocks; they fail their checksum and are skipped. Read `FORMAT.md` before editing.

use super::seeded::{self, Fault as Seeded};
use crate::hash::crc32c;

/// Major version written; another major is not drained.
pub const MAJOR: u16 = 1;
/// Minor version written; a higher one only adds what may be ignored.
pub const MINOR: u16 = 0;
/// Incompatible features this version knows: none. An unknown bit means: do not mount.
pub const KNOWN_INCOMPAT: u32 = 0;

/// Bytes of a superblock that carry meaning; the medium reserves 4,096.
pub const SUPERBLOCK_BYTES: usize = 512;
/// Bytes reserved for each superblock, a page of every common file system.
pub const SUPERBLOCK_SPACE: u64 = 4096;
/// Bytes of an erase header that carry meaning.
pub const ERASE_HEADER_BYTES: usize = 40;
/// Bytes of a block header.
pub const BLOCK_HEADER_BYTES: usize = 32;

const SUPERBLOCK_MAGIC: [u8; 8] = *b"TGATERNG";
const ERASE_MAGIC: [u8; 4] = *b"TGEH";
const BLOCK_MAGIC: [u8; 2] = *b"TG";
const BLOCK_VERSION: u8 = 1;

/// Smallest block: below it the header takes more than an eighth.
pub const MIN_BLOCK_BYTES: u32 = 256;
/// Largest block: `used` has 16 bits.
pub const MAX_BLOCK_BYTES: u32 = 65_536;
/// Most blocks of a segment: bounds the index of one segment to 12 KiB.
pub const MAX_BLOCKS_PER_SLOT: u32 = 1_024;
/// Fewest slots: one being written, one being lapped, one to keep.
pub const MIN_SLOTS: u32 = 3;
/// Most slots: mount reads one block of each.
pub const MAX_SLOTS: u32 = 4_096;

/// How a medium takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// File or block device: any block may be written at any time; superblocks frame the slots.
    Rewritable,
    /// NOR or NAND: a slot is erased before its blocks are programmed once each, in rising order; block 0 of
    /// every slot holds an erase header, there are no superblocks.
    WriteOnce,
}

/// Shape of a ring. Block `i` of slot `s` is block `s * blocks_per_slot + i` of the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a block, a power of two, 256 to 65,536.
    pub block_bytes: u32,
    /// Blocks of a slot, a power of two, 4 to 1,024.
    pub blocks_per_slot: u32,
    /// Slots, 3 to 4,096.
    pub slots: u32,
    /// How it takes writes.
    pub medium: Medium,
}

impl Geometry {
    /// The geometry of a ring of `ring_bytes` (superblocks included where the medium has them, the rest rounded down
    /// to whole segments); `None` outside the limits stated at the fields.
    #[must_use]
    pub fn new(block_bytes: u32, segment_bytes: u32, ring_bytes: u64, medium: Medium) -> Option<Self> {
        let first_offset = match medium {
            Medium::Rewritable => SUPERBLOCK_SPACE,
            Medium::WriteOnce => 0,
        };
        Self::behind(first_offset, block_bytes, segment_bytes, ring_bytes, medium)
    }

    /// As [`Geometry::new`], slot 0 at byte `first_offset` of the ring.
    #[must_use]
    pub fn behind(
        first_offset: u64,
        block_bytes: u32,
        segment_bytes: u32,
        ring_bytes: u64,
        medium: Medium,
    ) -> Option<Self> {
        let last = match medium {
            Medium::Rewritable => SUPERBLOCK_SPACE,
            Medium::WriteOnce => 0,
        };
        let slots = ring_bytes
            .checked_sub(first_offset)?
            .checked_sub(last)?
            .checked_div(segment_bytes.into())?;
        let geometry = Self {
            block_bytes,
            blocks_per_slot: segment_bytes.checked_div(block_bytes)?,
            slots: u32::try_from(slots).ok()?,
            medium,
        };
        (geometry.is_valid() && geometry.segment_bytes() == segment_bytes).then_some(geometry)
    }

    /// Whether every field is within its limits.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.block_bytes.is_power_of_two()
            && (MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&self.block_bytes)
            && self.blocks_per_slot.is_power_of_two()
            && (4..=MAX_BLOCKS_PER_SLOT).contains(&self.blocks_per_slot)
            && (MIN_SLOTS..=MAX_SLOTS).contains(&self.slots)
    }

    /// Bytes of a segment.
    #[must_use]
    pub const fn segment_bytes(&self) -> u32 {
        self.block_bytes * self.blocks_per_slot
    }

    /// Payload bytes of a block.
    #[must_use]
    pub const fn payload_bytes(&self) -> usize {
        self.block_bytes as usize - BLOCK_HEADER_BYTES
    }

    /// Index of the first block of a slot that holds records.
    #[must_use]
    pub const fn first_block(&self) -> u32 {
        match self.medium {
            Medium::Rewritable => 0,
            Medium::WriteOnce => 1,
        }
    }

    /// Number of a block on the medium.
    #[must_use]
    pub const fn block(&self, slot: u32, index: u32) -> u32 {
        slot * self.blocks_per_slot + index
    }
}

/// Why a fixed structure was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// All ones or all zeros: never written.
    Blank,
    /// Not this kind of structure.
    Magic,
    /// A version of the structure this build does not know.
    Version {
        /// What it says.
        found: u16,
    },
    /// A field is out of its range.
    Field,
    /// Damaged, torn, misplaced or of another ring.
    Checksum {
        /// As stored.
        found: u32,
        /// As computed.
        expected: u32,
    },
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Blank => f.write_str("never written"),
            Self::Magic => f.write_str("no magic number"),
            Self::Version { found } => write!(f, "unknown version {found}"),
            Self::Field => f.write_str("a field is out of range"),
            Self::Checksum { found, expected } => {
                write!(f, "unexpected checksum {found:08x}, expected {expected:08x}")
            }
        }
    }
}

impl core::error::Error for Fault {}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    // Offsets are constants inside buffers whose length the signatures fix.
    bytes[at..at + N].copy_from_slice(&value);
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    if let Some(from) = bytes.get(at..at + N) {
        value.copy_from_slice(from);
    }
    value
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == 0xff) || bytes.iter().all(|&b| b == 0)
}

/// The superblock: written twice by `format`, never again, so it cannot be torn later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Major version of the ring when it was formatted.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
    /// Features without which the ring must not be mounted.
    pub incompat: u32,
    /// Features without which the ring may be drained but not written.
    pub ro_compat: u32,
    /// Features that may be ignored.
    pub compat: u32,
    /// Identity of the ring, seed of every checksum.
    pub uuid: [u8; 16],
    /// Shape.
    pub geometry: Geometry,
    /// Byte offset of slot 0.
    pub first_offset: u64,
    /// When it was formatted, milliseconds since the Unix epoch, 0 if unknown.
    pub created_ms: i64,
    /// Name given by the operator, UTF-8, zero-padded.
    pub label: [u8; 32],
}

impl Superblock {
    /// Reads and checks a superblock.
    ///
    /// # Errors
    /// [`Fault`]. An unknown version or feature is not an error here: `mount` decides.
    pub fn parse(bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<Self, Fault> {
        if is_blank(bytes) {
            return Err(Fault::Blank);
        }
        if take(bytes, 0) != SUPERBLOCK_MAGIC {
            return Err(Fault::Magic);
        }
        let found = u32::from_le_bytes(take(bytes, 508));
        let expected = crc32c(0, &bytes[..508]);
        if found != expected {
            return Err(Fault::Checksum { found, expected });
        }
        let (log2_block, log2_segment) = (u32::from(bytes[41]), u32::from(bytes[42]));
        let geometry = Geometry {
            block_bytes: 1u32.checked_shl(log2_block).ok_or(Fault::Field)?,
            blocks_per_slot: log2_segment
                .checked_sub(log2_block)
                .and_then(|shift| 1u32.checked_shl(shift))
                .ok_or(Fault::Field)?,
            slots: u32::from_le_bytes(take(bytes, 44)),
            medium: match bytes[40] {
                0 => Medium::Rewritable,
                1 => Medium::WriteOnce,
                _ => return Err(Fault::Field),
            },
        };
        if !geometry.is_valid() {
            return Err(Fault::Field);
        }
        Ok(Self {
            major: u16::from_le_bytes(take(bytes, 8)),
            minor: u16::from_le_bytes(take(bytes, 10)),
            incompat: u32::from_le_bytes(take(bytes, 12)),
            ro_compat: u32::from_le_bytes(take(bytes, 16)),
            compat: u32::from_le_bytes(take(bytes, 20)),
            uuid: take(bytes, 24),
            geometry,
            first_offset: u64::from_le_bytes(take(bytes, 48)),
            created_ms: i64::from_le_bytes(take(bytes, 56)),
            label: take(bytes, 64),
        })
    }

    /// Writes the superblock.
    pub fn emit(&self, bytes: &mut [u8; SUPERBLOCK_BYTES]) {
        bytes.fill(0);
        put(bytes, 0, SUPERBLOCK_MAGIC);
        put(bytes, 8, self.major.to_le_bytes());
        put(bytes, 10, self.minor.to_le_bytes());
        put(bytes, 12, self.incompat.to_le_bytes());
        put(bytes, 16, self.ro_compat.to_le_bytes());
        put(bytes, 20, self.compat.to_le_bytes());
        put(bytes, 24, self.uuid);
        bytes[40] = self.geometry.medium as u8;
        // Both are powers of two at most 2^26, by `Geometry::is_valid`.
        bytes[41] = self.geometry.block_bytes.trailing_zeros() as u8;
        bytes[42] = self.geometry.segment_bytes().trailing_zeros() as u8;
        put(bytes, 44, self.geometry.slots.to_le_bytes());
        put(bytes, 48, self.first_offset.to_le_bytes());
        put(bytes, 56, self.created_ms.to_le_bytes());
        put(bytes, 64, self.label);
        let crc = crc32c(0, &bytes[..508]);
        put(bytes, 508, crc.to_le_bytes());
    }

    /// The label as text, without padding.
    #[must_use]
    pub fn label(&self) -> &str {
        let end = self.label.iter().position(|&b| b == 0).unwrap_or(self.label.len());
        core::str::from_utf8(&self.label[..end]).unwrap_or("")
    }
}

/// First block of every slot of a write-once medium; written after the erase has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EraseHeader {
    /// Identity of the ring.
    pub uuid: [u8; 16],
    /// Shape; the medium is write-once.
    pub geometry: Geometry,
    /// The slot it stands in.
    pub slot: u32,
    /// Erases of this slot so far.
    pub erase_count: u32,
}

impl EraseHeader {
    /// Reads and checks an erase header.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let Some(bytes) = bytes.get(..ERASE_HEADER_BYTES) else {
            return Err(Fault::Magic);
        };
        if is_blank(bytes) {
            return Err(Fault::Blank);
        }
        if take(bytes, 0) != ERASE_MAGIC {
            return Err(Fault::Magic);
        }
        if bytes[4] != BLOCK_VERSION {
            return Err(Fault::Version { found: bytes[4].into() });
        }
        let found = u32::from_le_bytes(take(bytes, 36));
        let expected = crc32c(0, &bytes[..36]);
        if found != expected {
            return Err(Fault::Checksum { found, expected });
        }
        let shift = bytes[6].checked_sub(bytes[5]).ok_or(Fault::Field)?;
        let geometry = Geometry {
            block_bytes: 1u32.checked_shl(bytes[5].into()).ok_or(Fault::Field)?,
            blocks_per_slot: 1u32.checked_shl(shift.into()).ok_or(Fault::Field)?,
            slots: u32::from_le_bytes(take(bytes, 12)),
            medium: Medium::WriteOnce,
        };
        let slot = u32::from_le_bytes(take(bytes, 8));
        if !geometry.is_valid() || slot >= geometry.slots {
            return Err(Fault::Field);
        }
        Ok(Self {
            uuid: take(bytes, 16),
            geometry,
            slot,
            erase_count: u32::from_le_bytes(take(bytes, 32)),
        })
    }

    /// Writes the header into a whole block.
    pub fn emit(&self, block: &mut [u8]) {
        block.fill(0xff);
        let bytes = &mut block[..ERASE_HEADER_BYTES];
        put(bytes, 0, ERASE_MAGIC);
        bytes[4] = BLOCK_VERSION;
        bytes[5] = self.geometry.block_bytes.trailing_zeros() as u8;
        bytes[6] = self.geometry.segment_bytes().trailing_zeros() as u8;
        bytes[7] = 0;
        put(bytes, 8, self.slot.to_le_bytes());
        put(bytes, 12, self.geometry.slots.to_le_bytes());
        put(bytes, 16, self.uuid);
        put(bytes, 32, self.erase_count.to_le_bytes());
        let crc = crc32c(0, &bytes[..36]);
        put(bytes, 36, crc.to_le_bytes());
    }
}

/// Flags of a block header.
pub mod flag {
    /// Begins the segment: its first record is SEGHDR.
    pub const FIRST: u8 = 0x01;
    /// Begins a chunk: START, then full values.
    pub const SYNC: u8 = 0x02;
    /// First block an epoch writes into a segment that is not its own: begins with START.
    pub const RESUME: u8 = 0x04;
    /// The dictionary begins anew: forget every definition before this block.
    pub const NEW_DICTIONARY: u8 = 0x08;
    /// Last block of an orderly stop.
    pub const CLEAN: u8 = 0x20;
    /// The stream can be entered here without what stands before.
    pub const RESTART: u8 = FIRST | SYNC | RESUME;
}

/// `first_record` of a block in which no record starts.
pub const NO_RECORD: u16 = 0xffff;

/// Header of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// See [`flag`].
    pub flags: u8,
    /// Low half of the segment's sequence number.
    pub seq: u32,
    /// Index in the slot.
    pub index: u16,
    /// Payload bytes.
    pub used: u16,
    /// Payload offset of the first record that starts here, or [`NO_RECORD`].
    pub first_record: u16,
    /// Dictionary records (TARGET, DICT) of the segment before this payload since the dictionary began, modulo 2^16.
    pub dictionary: u16,
    /// Low half of the number of the first frame not acknowledged when the block was written.
    pub ack: u32,
    /// Offset of this payload in the stream of this segment and epoch.
    pub stream_offset: u32,
    /// Grows by one with every mount that writes.
    pub epoch: u32,
}

/// Checksum state every block of `slot` starts from.
#[must_use]
pub fn block_seed(uuid: &[u8; 16], slot: u32) -> u32 {
    let slot = if seeded::is(Seeded::SlotIgnored) { 0 } else { slot };
    let uuid = if seeded::is(Seeded::UuidIgnored) {
        &[0; 16]
    } else {
        uuid
    };
    crc32c(crc32c(0, uuid), &slot.to_le_bytes())
}

impl BlockHeader {
    /// Reads and checks the block `bytes`, payload included; `seed` from [`block_seed`].
    ///
    /// The caller compares [`BlockHeader::index`] with the place it read.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn parse(bytes: &[u8], seed: u32) -> Result<Self, Fault> {
        let Some(head) = bytes.get(..BLOCK_HEADER_BYTES) else {
            return Err(Fault::Magic);
        };
        if is_blank(head) {
            return Err(Fault::Blank);
        }
        if take(head, 0) != BLOCK_MAGIC {
            return Err(Fault::Magic);
        }
        if head[2] != BLOCK_VERSION {
            return Err(Fault::Version { found: head[2].into() });
        }
        let used = u16::from_le_bytes(take(head, 10));
        let payload = bytes
            .get(BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + usize::from(used))
            .ok_or(Fault::Field)?;
        let found = u32::from_le_bytes(take(head, 28));
        let checked = if seeded::is(Seeded::HeaderOnly) { &[] } else { payload };
        let expected = crc32c(crc32c(seed, &head[..28]), checked);
        if found != expected {
            return Err(Fault::Checksum { found, expected });
        }
        Ok(Self {
            flags: head[3],
            seq: u32::from_le_bytes(take(head, 4)),
            index: u16::from_le_bytes(take(head, 8)),
            used,
            first_record: u16::from_le_bytes(take(head, 12)),
            dictionary: u16::from_le_bytes(take(head, 14)),
            ack: u32::from_le_bytes(take(head, 16)),
            stream_offset: u32::from_le_bytes(take(head, 20)),
            epoch: u32::from_le_bytes(take(head, 24)),
        })
    }

    /// Whether these bytes begin as a block of segment `seq` does, whole or not, or are a whole block of a later one.
    pub(crate) fn is_in_the_way(bytes: &[u8], seed: u32, seq: u32) -> bool {
        let Some(head) = bytes.get(..BLOCK_HEADER_BYTES) else {
            return false;
        };
        let says = u32::from_le_bytes(take(head, 4));
        take(head, 0) == BLOCK_MAGIC
            && head[2] == BLOCK_VERSION
            && (says == seq || (says.wrapping_sub(seq) as i32 > 0 && Self::parse(bytes, seed).is_ok()))
    }

    /// Writes the header in front of the payload that already stands at [`BLOCK_HEADER_BYTES`] of `block`, and fills
    /// what follows the payload with 0xff.
    pub fn emit(&self, block: &mut [u8], seed: u32) {
        let end = BLOCK_HEADER_BYTES + usize::from(self.used);
        put(block, 0, BLOCK_MAGIC);
        block[2] = BLOCK_VERSION;
        block[3] = self.flags;
        put(block, 4, self.seq.to_le_bytes());
        put(block, 8, self.index.to_le_bytes());
        put(block, 10, self.used.to_le_bytes());
        put(block, 12, self.first_record.to_le_bytes());
        put(block, 14, self.dictionary.to_le_bytes());
        put(block, 16, self.ack.to_le_bytes());
        put(block, 20, self.stream_offset.to_le_bytes());
        put(block, 24, self.epoch.to_le_bytes());
        let checked = if seeded::is(Seeded::HeaderOnly) {
            BLOCK_HEADER_BYTES
        } else {
            end
        };
        let crc = crc32c(crc32c(seed, &block[..28]), &block[BLOCK_HEADER_BYTES..checked]);
        put(block, 28, crc.to_le_bytes());
        block[end..].fill(0xff);
    }
}

/// Payload of a block that [`BlockHeader::parse`] accepted.
#[must_use]
pub fn payload<'a>(block: &'a [u8], header: &BlockHeader) -> &'a [u8] {
    block
        .get(BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + usize::from(header.used))
        .unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        let mut label = [0; 32];
        label[..4].copy_from_slice(b"pump");
        Superblock {
            major: 1,
            minor: 0,
            incompat: 0,
            ro_compat: 0,
            compat: 0,
            uuid: *b"0123456789abcdef",
            geometry: Geometry::new(4096, 256 * 1024, 64 << 20, Medium::Rewritable).unwrap(),
            first_offset: 4096,
            created_ms: 1_700_000_000_000,
            label,
        }
    }

    #[test]
    fn a_superblock_comes_back_and_any_flipped_bit_is_caught() {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        superblock().emit(&mut bytes);
        assert_eq!(Superblock::parse(&bytes), Ok(superblock()));
        assert_eq!(superblock().label(), "pump");
        for bit in 0..SUPERBLOCK_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::parse(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn geometry_counts_superblocks_and_refuses_what_is_out_of_range() {
        let geometry = Geometry::new(4096, 256 * 1024, 64 << 20, Medium::Rewritable).unwrap();
        assert_eq!((geometry.blocks_per_slot, geometry.slots), (64, 255));
        let card = Geometry::behind(4 << 20, 4096, 256 * 1024, 64 << 20, Medium::Rewritable).unwrap();
        assert_eq!(card.slots, 239);
        assert_eq!(
            Geometry::behind(64 << 20, 4096, 256 * 1024, 64 << 20, Medium::Rewritable),
            None
        );
        let raw = Geometry::new(1024, 65_536, 4 << 20, Medium::WriteOnce).unwrap();
        assert_eq!((raw.blocks_per_slot, raw.slots, raw.first_block()), (64, 64, 1));
        assert_eq!(Geometry::new(4096, 100_000, 64 << 20, Medium::Rewritable), None);
        assert_eq!(Geometry::new(128, 65_536, 64 << 20, Medium::Rewritable), None);
        assert_eq!(Geometry::new(4096, 256 * 1024, 600_000, Medium::Rewritable), None);
        assert_eq!(Geometry::new(0, 0, 1 << 30, Medium::Rewritable), None);
    }

    #[test]
    fn an_erase_header_comes_back_and_any_flipped_bit_is_caught() {
        let header = EraseHeader {
            uuid: *b"0123456789abcdef",
            geometry: Geometry::new(1024, 65_536, 4 << 20, Medium::WriteOnce).unwrap(),
            slot: 3,
            erase_count: 12,
        };
        let mut block = [0; 256];
        header.emit(&mut block);
        assert_eq!(EraseHeader::parse(&block), Ok(header));
        for bit in 0..ERASE_HEADER_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(EraseHeader::parse(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(EraseHeader::parse(&[0xff; 64]), Err(Fault::Blank));
    }

    #[test]
    fn a_block_is_bound_to_its_ring_and_slot_and_every_byte_is_checked() {
        let header = BlockHeader {
            flags: flag::FIRST,
            seq: 7,
            index: 0,
            used: 20,
            first_record: 0,
            dictionary: 0,
            ack: 5,
            stream_offset: 0,
            epoch: 1,
        };
        let uuid = *b"0123456789abcdef";
        let mut block = [0x55; 256];
        header.emit(&mut block, block_seed(&uuid, 7));
        assert_eq!(BlockHeader::parse(&block, block_seed(&uuid, 7)), Ok(header));
        assert_eq!(payload(&block, &header), &[0x55; 20]);
        assert!(block[52..].iter().all(|&b| b == 0xff));
        assert!(BlockHeader::parse(&block, block_seed(&uuid, 8)).is_err());
        assert!(BlockHeader::parse(&block, block_seed(b"another ring....", 7)).is_err());
        for bit in 0..(BLOCK_HEADER_BYTES + 20) * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockHeader::parse(&block, block_seed(&uuid, 7)).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(BlockHeader::parse(&[0; 256], 0), Err(Fault::Blank));
        assert_eq!(BlockHeader::parse(&[], 0), Err(Fault::Magic));
    }
}
