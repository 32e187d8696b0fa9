//! Making a ring, and telling which ring a medium holds.

use super::config::FormatError;
use super::format::{
    BLOCK_HEADER_BYTES, BlockHeader, EraseHeader, Geometry, MAJOR, MINOR, Medium, SUPERBLOCK_BYTES, Superblock,
    block_seed,
};
use super::record::{self, SegmentHeader, kind};
use super::storage::{Storage, SuperblockCopy};
use crate::value::varint::Cursor;
use alloc::vec;

/// Makes a ring of everything the medium has: whatever was there is gone.
///
/// A file or block device gets two superblocks, and the first block of each slot blanked; a write-once medium has every slot
/// erased. Syncs.
///
/// # Errors
/// [`FormatError`].
pub fn format<S: Storage>(
    storage: &mut S,
    uuid: [u8; 16],
    created_ms: i64,
    label: &str,
) -> Result<(), FormatError<S::Error>> {
    let geometry = storage.geometry();
    if !geometry.is_valid() {
        return Err(FormatError::Geometry);
    }
    let mut block = vec![0xff; geometry.block_bytes as usize];
    for slot in 0..geometry.slots {
        if storage.is_bad(slot) {
            continue;
        }
        match geometry.medium {
            Medium::Rewritable => {
                // Old blocks carry another identity and fail their checksum; blanking says "never written".
                block.fill(0);
                storage
                    .write(geometry.block(slot, 0), &block)
                    .map_err(FormatError::Storage)?;
            }
            Medium::WriteOnce => {
                let at = geometry.block(slot, 0);
                let worn = match storage.read(at, &mut block) {
                    Ok(()) => EraseHeader::parse(&block).map_or(0, |header| header.erase_count),
                    Err(_) => 0,
                };
                let header = EraseHeader {
                    uuid,
                    geometry,
                    slot,
                    erase_count: worn.saturating_add(1),
                };
                if let Err(error) = storage.erase(slot) {
                    if storage.is_bad(slot) {
                        continue;
                    }
                    return Err(FormatError::Storage(error));
                }
                header.emit(&mut block);
                storage.write(at, &block).map_err(FormatError::Storage)?;
            }
        }
    }
    storage.sync().map_err(FormatError::Storage)?;
    let mut name = [0; 32];
    for (to, from) in name.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    let superblock = Superblock {
        major: MAJOR,
        minor: MINOR,
        incompat: 0,
        ro_compat: 0,
        compat: 0,
        uuid,
        geometry,
        first_offset: storage.first_offset(),
        created_ms,
        label: name,
    };
    let mut bytes = [0; SUPERBLOCK_BYTES];
    superblock.emit(&mut bytes);
    for copy in [SuperblockCopy::First, SuperblockCopy::Last] {
        storage.write_superblock(copy, &bytes).map_err(FormatError::Storage)?;
    }
    storage.sync().map_err(FormatError::Storage)
}

/// Who a medium says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uuid: [u8; 16],
    pub(crate) geometry: Geometry,
    pub(crate) major: u16,
    pub(crate) incompat: u32,
}

/// Finds the identity: superblock A, B, any erase header, any segment header.
pub(crate) fn identify<S: Storage>(storage: &mut S) -> Option<Identity> {
    let mut bytes = [0; SUPERBLOCK_BYTES];
    for copy in [SuperblockCopy::First, SuperblockCopy::Last] {
        if let Ok(true) = storage.read_superblock(copy, &mut bytes)
            && let Ok(superblock) = Superblock::parse(&bytes)
        {
            return Some(Identity {
                uuid: superblock.uuid,
                geometry: superblock.geometry,
                major: superblock.major,
                incompat: superblock.incompat,
            });
        }
    }
    let geometry = storage.geometry();
    let mut block = vec![0; geometry.block_bytes as usize];
    for slot in 0..geometry.slots {
        for index in 0..2 {
            if storage.read(geometry.block(slot, index), &mut block).is_err() {
                continue;
            }
            if let Ok(header) = EraseHeader::parse(&block) {
                return Some(Identity {
                    uuid: header.uuid,
                    geometry: header.geometry,
                    major: MAJOR,
                    incompat: 0,
                });
            }
            if let Some(header) = unproven_header(&block, slot) {
                return Some(Identity {
                    uuid: header.uuid,
                    geometry,
                    major: MAJOR,
                    incompat: 0,
                });
            }
        }
    }
    None
}

/// A segment header that names the identity its own checksum needs.
fn unproven_header(block: &[u8], slot: u32) -> Option<SegmentHeader> {
    let mut cursor = Cursor::new(block.get(BLOCK_HEADER_BYTES..)?);
    if cursor.u8().ok()? != kind::SEGMENT {
        return None;
    }
    let len = usize::try_from(cursor.u64().ok()?).ok()?;
    let header: SegmentHeader = record::parse(cursor.bytes(len).ok()?).ok()?;
    BlockHeader::parse(block, block_seed(&header.uuid, slot)).ok()?;
    Some(header)
}
