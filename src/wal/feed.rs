//! Records from blocks in the order in which they lie: a segment is read once.
//!
//! The order of the stream is by epoch and offset ([`super::segment`]), and is known only when every block was seen. It is the order
//! in which the blocks lie unless writes failed, or the segment was begun anew over blocks of a boot that was cut. A [`Feed`] reads as
//! [`super::segment::Stream`] does as long as that holds; when a block turns up that belongs before one that was read, it says so, and
//! what it gave is not to be believed.

use super::format::{BlockHeader, flag};
use super::seeded::{self, Fault};
use super::segment::{Entry, Item};
use crate::value::varint::MAX_VARINT_BYTES;

/// How far the record at hand was read.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// It has not begun.
    Kind,
    /// Bytes of the length so far, and what they say.
    Len { kind: u8, bytes: usize, len: u64 },
    /// Payload bytes so far.
    Payload { kind: u8, got: u64, len: u64 },
}

/// Reads records from one block after another.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Epoch of the stream and the offset expected of the next block; `None`: look for a restart.
    live: Option<(u32, u32)>,
    part: Part,
    /// Of the block at hand: payload bytes read, and whether any are to be.
    at: usize,
    taken: bool,
    restart: Option<Item>,
    blocks: usize,
    in_order: bool,
}

impl Feed {
    pub(crate) fn new() -> Self {
        let faults = [
            Fault::OffsetIgnored,
            Fault::EpochIgnored,
            Fault::SequenceIgnored,
            Fault::CopiesKept,
            Fault::GapIgnored,
        ];
        Self {
            live: None,
            part: Part::Kind,
            at: 0,
            taken: false,
            restart: None,
            blocks: 0,
            // Faults are put into the other way of reading.
            in_order: !faults.into_iter().any(seeded::is),
        }
    }

    /// Whether what it gave is what the stream gives.
    pub(crate) fn is_in_order(&self) -> bool {
        self.in_order
    }

    /// Begins with the next block; `entries` are those of the segment so far, this one last.
    pub(crate) fn begin(&mut self, header: &BlockHeader, entries: &[Entry]) {
        self.taken = false;
        self.blocks += 1;
        let key = (header.epoch, header.stream_offset);
        let before = entries.split_last().map_or(entries, |(_, before)| before);
        // Fewer than were given: a newer segment has taken the place of the one they were of.
        self.in_order &= entries.len() == self.blocks;
        if before.iter().any(|entry| (entry.epoch, entry.offset) == key) {
            // A copy.
            return;
        }
        let begins = header.flags & flag::FIRST == 0 || before.is_empty();
        let behind = before.iter().all(|entry| (entry.epoch, entry.offset) < key);
        self.in_order &= behind && begins;
        if !self.in_order {
            return;
        }
        let restarts = header.flags & flag::RESTART != 0;
        if self.live != Some(key) {
            self.live = None;
            self.part = Part::Kind;
            if !restarts {
                return;
            }
        }
        self.taken = true;
        self.at = 0;
        self.live = Some((header.epoch, header.stream_offset.wrapping_add(header.used.into())));
        // Within a record a block is what continues it.
        let between = matches!(self.part, Part::Kind);
        self.restart = (restarts && between).then_some(Item::Restart {
            flags: header.flags,
            dictionary: header.dictionary,
        });
    }

    /// The next item that ends in the block at hand, whose payload is `payload`. That of a record is put into `scratch`, which belongs
    /// to the feed until the block is read.
    pub(crate) fn next(&mut self, payload: &[u8], scratch: &mut [u8]) -> Option<Item> {
        if !self.taken {
            return None;
        }
        if let Some(restart) = self.restart.take() {
            return Some(restart);
        }
        loop {
            if let Part::Payload { kind, got, len } = self.part {
                let fits = len <= scratch.len() as u64;
                let rest = payload.get(self.at..).unwrap_or_default();
                // Not more than there is in the block.
                let here = (len - got).min(rest.len() as u64) as usize;
                if fits {
                    // `got + here` is at most `len`, which fits.
                    scratch[got as usize..][..here].copy_from_slice(&rest[..here]);
                }
                self.at += here;
                let got = got + here as u64;
                if got < len {
                    self.part = Part::Payload { kind, got, len };
                    return None;
                }
                self.part = Part::Kind;
                let len = len as usize;
                return Some(if fits {
                    Item::Record { kind, len }
                } else {
                    Item::TooLarge { kind }
                });
            }
            let &byte = payload.get(self.at)?;
            self.at += 1;
            self.part = match self.part {
                Part::Len { kind, bytes, len } => {
                    let len = len | u64::from(byte & 0x7f).checked_shl(7 * bytes as u32).unwrap_or(0);
                    let bytes = bytes + 1;
                    if byte & 0x80 == 0 || bytes == MAX_VARINT_BYTES {
                        Part::Payload { kind, got: 0, len }
                    } else {
                        Part::Len { kind, bytes, len }
                    }
                }
                _ => Part::Len {
                    kind: byte,
                    bytes: 0,
                    len: 0,
                },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::format::{BLOCK_HEADER_BYTES, Geometry, Medium, block_seed, payload};
    use crate::wal::segment::{Flash, Index, Stream};
    use crate::wal::storage::Storage;
    use crate::wal::testing::Ram;
    use alloc::vec::Vec;

    const UUID: [u8; 16] = [9; 16];
    const SLOT: u32 = 1;
    const GEOMETRY: Geometry = Geometry {
        block_bytes: 256,
        blocks_per_slot: 16,
        slots: 3,
        medium: Medium::Rewritable,
    };

    fn write(storage: &mut Ram, header: BlockHeader, payload: &[u8]) {
        let mut block = [0; 256];
        block[BLOCK_HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
        let header = BlockHeader {
            used: payload.len() as u16,
            ..header
        };
        header.emit(&mut block, block_seed(&UUID, SLOT));
        storage
            .write(GEOMETRY.block(SLOT, header.index.into()), &block)
            .unwrap();
    }

    /// A slot of blocks as a writer leaves them, with gaps, copies and old blocks; sometimes out of order.
    fn slot(random: &mut fastrand::Rng) -> Flash<Ram> {
        let mut storage = Ram::new(GEOMETRY, 1);
        let (mut epoch, mut offset) = (3, 0);
        for index in 0..16u16 {
            let mut bytes = Vec::new();
            while bytes.len() < random.usize(1..200) {
                let len = random.usize(0..60);
                bytes.extend([5, len as u8]);
                bytes.extend((0..len).map(|_| random.u8(..)));
            }
            // Records run over the end of a block.
            bytes.truncate(224 - random.usize(0..20));
            let mut header = BlockHeader {
                flags: if index == 0 { flag::FIRST } else { 0 },
                seq: 7,
                index,
                used: 0,
                first_record: 0,
                dictionary: 0,
                ack: 0,
                stream_offset: offset,
                epoch,
            };
            match random.u8(0..40) {
                // A hole, or a block of an earlier lap.
                0 | 1 if index > 0 => continue,
                2 => header.seq = 4,
                // A boot, a chunk.
                3 | 4 => (epoch, offset, header.flags) = (epoch + 1, 0, header.flags | flag::RESUME),
                5..=9 => header.flags |= flag::SYNC,
                // Out of place.
                10 => header.epoch = 1,
                11 => header.stream_offset += 7,
                _ => {}
            }
            if header.flags & flag::RESUME != 0 {
                (header.epoch, header.stream_offset) = (epoch, 0);
            }
            write(&mut storage, header, &bytes);
            // A write that failed is done again behind.
            if random.u8(0..10) > 0 {
                offset += bytes.len() as u32;
            }
        }
        Flash {
            storage,
            geometry: GEOMETRY,
            uuid: UUID,
            read_errors: 0,
            blocks_read: 0,
        }
    }

    /// What was found: the item, and the payload of a record.
    type Found = Vec<(Item, Vec<u8>)>;

    fn keep(found: &mut Found, item: Item, scratch: &[u8]) {
        let len = match item {
            Item::Record { len, .. } => len,
            _ => 0,
        };
        found.push((item, scratch[..len].to_vec()));
    }

    #[test]
    fn what_lies_in_order_is_read_as_the_stream_reads_it() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut in_order, mut records) = (0, 0);
        for round in 0..3_000 {
            let mut flash = slot(&mut random);
            let (mut index, mut stream) = (Index::new(&GEOMETRY), Stream::new(&GEOMETRY));
            let (mut feed, mut fed, mut scratch) = (Feed::new(), Found::new(), [0; 50]);
            index.begin(&GEOMETRY, SLOT);
            for block in 0..16 {
                let Some(header) = index.look(&mut flash, block, &mut stream.block) else {
                    continue;
                };
                feed.begin(&header, &index.entries);
                while let Some(item) = feed.next(payload(&stream.block, &header), &mut scratch) {
                    keep(&mut fed, item, &scratch);
                }
            }
            index.settle();
            stream.rewind();
            if !feed.is_in_order() {
                continue;
            }
            let mut streamed = Found::new();
            loop {
                match stream.next(&mut flash, &index, &mut scratch) {
                    Item::End => break,
                    item => keep(&mut streamed, item, &scratch),
                }
            }
            assert_eq!(fed, streamed, "round {round}");
            in_order += 1;
            records += fed.len();
        }
        assert!(in_order > 500 && records > 5_000, "{in_order} {records}");
    }
}
