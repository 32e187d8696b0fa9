//! The reading rule: from the blocks of a slot to records in order.
//!
//! Writer, mount, drain and `inspect` share it. Of a slot's blocks those count whose checksum and place hold; the
//! segment is the highest sequence number among them. Ordered by (epoch, stream offset), without copies, a block
//! continues the stream if both are as expected, starts it afresh if it carries FIRST, SYNC or RESUME, and is skipped
//! otherwise. A record is visible when all its bytes were read this way.
//!
//! # Limits and cost
//!
//! An [`Index`] is 12 bytes per block of a slot, a [`Stream`] one block. A scan reads the whole slot once, the stream
//! each block of the segment once more; a [`super::feed::Feed`] reads while the scan goes on.

use super::format::{BLOCK_HEADER_BYTES, BlockHeader, Fault, Geometry, Medium, block_seed, flag};
use super::seeded::{self, Fault as Seeded};
use super::storage::Storage;
use crate::hash::crc32c;
use crate::value::varint::MAX_VARINT_BYTES;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// A medium with what every read of it needs.
#[derive(Debug)]
pub(crate) struct Flash<S> {
    pub(crate) storage: S,
    pub(crate) geometry: Geometry,
    pub(crate) uuid: [u8; 16],
    pub(crate) read_errors: u64,
    pub(crate) blocks_read: u64,
}

/// Why a block is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The medium gave an error, twice.
    Error,
    /// It is not a block of this place and ring.
    Fault(Fault),
}

impl<S: Storage> Flash<S> {
    /// Reads and checks block `index` of `slot`. A failed check is tried once more: serial flash glitches.
    pub(crate) fn load(&mut self, slot: u32, index: u32, bytes: &mut [u8]) -> Result<BlockHeader, Unreadable> {
        let seed = block_seed(&self.uuid, slot);
        let mut last = Unreadable::Error;
        for _ in 0..2 {
            self.blocks_read += 1;
            if self.storage.read(self.geometry.block(slot, index), bytes).is_err() {
                self.read_errors += 1;
                continue;
            }
            last = match BlockHeader::parse(bytes, seed) {
                Ok(header) if u32::from(header.index) == index => return Ok(header),
                Ok(_) => Unreadable::Fault(Fault::Field),
                Err(fault) => Unreadable::Fault(fault),
            };
            let erased = || self.geometry.medium == Medium::Rewritable || bytes.iter().all(|&b| b == 0xff);
            if last == Unreadable::Fault(Fault::Blank) && erased() {
                break;
            }
        }
        Err(last)
    }
}

/// One block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) epoch: u32,
    pub(crate) offset: u32,
    pub(crate) index: u16,
    pub(crate) flags: u8,
}

/// The blocks of one segment in reading order.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) slot: u32,
    /// Low half of the sequence number; 0 while the slot holds no segment.
    pub(crate) seq: u32,
    pub(crate) entries: Vec<Entry>,
    /// Block index behind the last valid block.
    pub(crate) end: u32,
    /// Block index behind the last block that is not blank.
    pub(crate) touched: u32,
    /// Blocks before `end` that are neither valid nor blank.
    pub(crate) damaged: u32,
    /// Newest acknowledgement, low half.
    pub(crate) ack: u32,
    scanned: u32,
    /// Blocks like those `damaged`, behind `end` so far.
    bad: u32,
}

impl Index {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        Self {
            slot: 0,
            seq: 0,
            entries: Vec::with_capacity(geometry.blocks_per_slot as usize),
            end: 0,
            touched: 0,
            damaged: 0,
            ack: 0,
            scanned: 0,
            bad: 0,
        }
    }

    /// Reads the whole slot.
    pub(crate) fn scan<S: Storage>(&mut self, flash: &mut Flash<S>, slot: u32, block: &mut [u8]) {
        self.begin(&flash.geometry, slot);
        self.extend(flash, block);
    }

    /// Begins a scan of `slot`: [`Index::look`] at every block, then [`Index::settle`].
    pub(crate) fn begin(&mut self, geometry: &Geometry, slot: u32) {
        self.slot = slot;
        self.seq = 0;
        self.entries.clear();
        self.end = 0;
        self.touched = 0;
        self.damaged = 0;
        self.ack = 0;
        self.scanned = geometry.first_block();
        self.bad = 0;
    }

    /// Reads the blocks behind those read before: the writer has added some.
    pub(crate) fn extend<S: Storage>(&mut self, flash: &mut Flash<S>, block: &mut [u8]) {
        self.bad = 0;
        for index in self.scanned..flash.geometry.blocks_per_slot {
            self.look(flash, index, block);
        }
        self.settle();
    }

    /// Reads block `index`; its header if it is of the newest segment seen so far.
    pub(crate) fn look<S: Storage>(
        &mut self,
        flash: &mut Flash<S>,
        index: u32,
        block: &mut [u8],
    ) -> Option<BlockHeader> {
        match flash.load(self.slot, index, block) {
            Ok(header) => {
                self.touched = index + 1;
                let newer = header.seq.wrapping_sub(self.seq) as i32 > 0 && !seeded::is(Seeded::SequenceIgnored);
                if self.entries.is_empty() || newer {
                    self.entries.clear();
                    self.seq = header.seq;
                    self.ack = header.ack;
                } else if header.seq != self.seq && !seeded::is(Seeded::SequenceIgnored) {
                    return None;
                }
                self.end = index + 1;
                self.scanned = index + 1;
                self.damaged += core::mem::take(&mut self.bad);
                if header.ack.wrapping_sub(self.ack) as i32 > 0 {
                    self.ack = header.ack;
                }
                // Never more entries than blocks: the capacity holds.
                self.entries.push(Entry {
                    epoch: header.epoch,
                    offset: header.stream_offset,
                    index: header.index,
                    flags: header.flags,
                });
                return Some(header);
            }
            // A cut program may have left the header alone: not erased is not writable.
            Err(Unreadable::Fault(Fault::Blank))
                if flash.geometry.medium == Medium::Rewritable || block.iter().all(|&b| b == 0xff) => {}
            Err(_) => {
                self.touched = index + 1;
                self.bad += 1;
            }
        }
        None
    }

    /// Puts the blocks looked at into reading order.
    pub(crate) fn settle(&mut self) {
        self.entries.sort_unstable();
        // What is older than the segment's own beginning was left by a boot whose beginning is lost; it may be of another codec.
        if let Some(first) = self.entries.iter().rposition(|entry| entry.flags & flag::FIRST != 0) {
            self.entries.drain(..first);
        }
        if seeded::is(Seeded::CopiesKept) {
            return;
        }
        let by_epoch = |epoch| if seeded::is(Seeded::EpochIgnored) { 0 } else { epoch };
        self.entries.dedup_by_key(|entry| (by_epoch(entry.epoch), entry.offset));
    }

    /// First index without a valid block: where writing must not go on.
    pub(crate) fn first_hole(&self, geometry: &Geometry) -> u32 {
        let taken = |at: u32| self.entries.iter().any(|entry| u32::from(entry.index) == at);
        (geometry.first_block()..self.end)
            .find(|&at| !taken(at))
            .unwrap_or(self.end)
    }

    /// Newest acknowledgement, low half, if there is any block.
    pub(crate) fn newest_ack(&self) -> Option<u32> {
        (!self.entries.is_empty()).then_some(self.ack)
    }

    /// Highest epoch.
    pub(crate) fn epoch(&self) -> u32 {
        self.entries.last().map_or(0, |entry| entry.epoch)
    }
}

/// What a [`Stream`] came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A block at which the stream may be entered; `dictionary` as in its header. What came before may be missing.
    Restart { flags: u8, dictionary: u16 },
    /// A record whose payload is the first `len` bytes of the scratch buffer.
    Record { kind: u8, len: usize },
    /// A record longer than the scratch buffer; passed over.
    TooLarge { kind: u8 },
    /// Nothing more for now.
    End,
}

/// A place between two records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    entry: usize,
    offset: usize,
    /// Epoch of the stream and the offset expected of the next block; `None`: look for a restart.
    live: Option<(u32, u32)>,
}

/// Reads the records of one segment in order.
#[derive(Debug)]
pub(crate) struct Stream {
    place: Place,
    /// Slot, segment and entry whose block is in `block`.
    loaded: Option<(u32, u32, Entry)>,
    /// Where the record read last begins: entry and offset.
    began: (usize, usize),
    used: usize,
    pub(crate) block: Box<[u8]>,
    /// Blocks left out because what they continue is missing, or that could not be read again.
    pub(crate) skipped: u32,
}

impl Stream {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        Self {
            place: Place::default(),
            loaded: None,
            began: (0, 0),
            used: 0,
            block: vec![0; geometry.block_bytes as usize].into_boxed_slice(),
            skipped: 0,
        }
    }

    /// Goes to the beginning of the segment.
    pub(crate) fn rewind(&mut self) {
        self.place = Place::default();
        self.loaded = None;
        self.skipped = 0;
    }

    /// Where the next record begins.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Goes back to a place of this segment.
    pub(crate) fn go(&mut self, place: Place) {
        self.place = place;
    }

    /// Where the record read last begins, as bytes from the beginning of the slot; [`Stream::stand`] leads back to it.
    pub(crate) fn record_place(&self, index: &Index) -> Option<u32> {
        let (entry, offset) = self.began;
        let block = u32::from(index.entries.get(entry)?.index) * self.block.len() as u32;
        Some(block + (BLOCK_HEADER_BYTES + offset) as u32)
    }

    /// Goes to the record at `place`; false if its block cannot be read.
    pub(crate) fn stand<S: Storage>(&mut self, flash: &mut Flash<S>, index: &Index, place: u32) -> bool {
        let block_bytes = self.block.len() as u32;
        let (block, offset) = (place / block_bytes, (place % block_bytes) as usize);
        let found = index.entries.iter().position(|entry| u32::from(entry.index) == block);
        let Some((at, entry)) = found.and_then(|at| Some((at, *index.entries.get(at)?))) else {
            return false;
        };
        let (Some(header), Some(offset)) = (self.fetch(flash, index, entry), offset.checked_sub(BLOCK_HEADER_BYTES))
        else {
            return false;
        };
        self.place = Place {
            entry: at,
            offset,
            live: Some((entry.epoch, entry.offset.wrapping_add(header.used.into()))),
        };
        offset < usize::from(header.used)
    }

    /// What the place is known by when the index is sorted anew.
    pub(crate) fn key(&self, index: &Index) -> Option<(u32, u32)> {
        self.place.live?;
        let entry = index.entries.get(self.place.entry)?;
        Some((entry.epoch, entry.offset))
    }

    /// The index has grown: finds the place again, or begins anew.
    pub(crate) fn refresh(&mut self, index: &Index, key: Option<(u32, u32)>) {
        match key {
            Some(key) => {
                self.place.entry = index.entries.partition_point(|entry| (entry.epoch, entry.offset) < key);
            }
            None => self.place = Place::default(),
        }
    }

    fn fetch<S: Storage>(&mut self, flash: &mut Flash<S>, index: &Index, entry: Entry) -> Option<BlockHeader> {
        let here = (index.slot, index.seq, entry);
        if self.loaded == Some(here) {
            // Checked when it was loaded; only the length is needed again.
            return BlockHeader::parse(&self.block, block_seed(&flash.uuid, index.slot)).ok();
        }
        self.loaded = None;
        let header = flash.load(index.slot, entry.index.into(), &mut self.block).ok()?;
        if header.seq != index.seq && !seeded::is(Seeded::SequenceIgnored) {
            return None;
        }
        self.loaded = Some(here);
        self.used = header.used.into();
        Some(header)
    }

    /// Makes the block of the current place the loaded one, when another reader of the place moved it.
    fn reload<S: Storage>(&mut self, flash: &mut Flash<S>, index: &Index) -> bool {
        match index.entries.get(self.place.entry) {
            Some(&entry) => {
                self.loaded == Some((index.slot, index.seq, entry)) || self.fetch(flash, index, entry).is_some()
            }
            None => false,
        }
    }

    /// Steps to the next block if it continues the stream; gives its header.
    fn step<S: Storage>(&mut self, flash: &mut Flash<S>, index: &Index) -> Option<BlockHeader> {
        let (epoch, offset) = self.place.live?;
        let entry = *index.entries.get(self.place.entry + 1)?;
        let same_epoch = entry.epoch == epoch || seeded::is(Seeded::EpochIgnored);
        let continues = entry.offset == offset || seeded::is(Seeded::OffsetIgnored);
        if !(same_epoch && continues) {
            return None;
        }
        let header = self.fetch(flash, index, entry)?;
        self.place = Place {
            entry: self.place.entry + 1,
            offset: 0,
            live: Some((epoch, offset.wrapping_add(header.used.into()))),
        };
        Some(header)
    }

    /// Finds the next block at which the stream may be entered, from entry `from` on.
    fn enter<S: Storage>(&mut self, flash: &mut Flash<S>, index: &Index, from: usize) -> Option<BlockHeader> {
        for (at, &entry) in index.entries.iter().enumerate().skip(from) {
            if (entry.flags & flag::RESTART != 0 || seeded::is(Seeded::GapIgnored))
                && let Some(header) = self.fetch(flash, index, entry)
            {
                self.place = Place {
                    entry: at,
                    offset: 0,
                    live: Some((entry.epoch, entry.offset.wrapping_add(header.used.into()))),
                };
                return Some(header);
            }
            self.skipped += 1;
        }
        None
    }

    /// The next item; the payload of a record is put into `scratch`.
    ///
    /// At the end the place is kept: with more blocks in the index the stream goes on from there.
    pub(crate) fn next<S: Storage>(&mut self, flash: &mut Flash<S>, index: &Index, scratch: &mut [u8]) -> Item {
        loop {
            if self.place.live.is_none() || !self.reload(flash, index) {
                let from = self.place.entry;
                return self.enter(flash, index, from).map_or(Item::End, restart);
            }
            if self.place.offset >= self.used {
                let last = self.place.entry + 1 >= index.entries.len();
                match self.step(flash, index) {
                    Some(header) if header.flags & flag::RESTART != 0 => return restart(header),
                    Some(_) => continue,
                    None if last => return Item::End,
                    None => {
                        self.lose();
                        continue;
                    }
                }
            }
            let before = self.place;
            self.began = (before.entry, before.offset);
            if let Some(item) = self.record(flash, index, scratch) {
                return item;
            }
            // The record's end is missing: not written yet, or lost.
            if self.place.entry + 1 >= index.entries.len() {
                self.place = before;
                return Item::End;
            }
            self.lose();
        }
    }

    fn lose(&mut self) {
        self.place.live = None;
        self.place.entry += 1;
    }

    fn byte<S: Storage>(&mut self, flash: &mut Flash<S>, index: &Index) -> Option<u8> {
        while self.place.offset >= self.used {
            self.step(flash, index)?;
        }
        let byte = *self.block.get(BLOCK_HEADER_BYTES + self.place.offset)?;
        self.place.offset += 1;
        Some(byte)
    }

    fn record<S: Storage>(&mut self, flash: &mut Flash<S>, index: &Index, scratch: &mut [u8]) -> Option<Item> {
        let kind = self.byte(flash, index)?;
        let mut len = 0u64;
        for i in 0..MAX_VARINT_BYTES {
            let byte = self.byte(flash, index)?;
            len |= u64::from(byte & 0x7f).checked_shl(7 * i as u32).unwrap_or(0);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let fits = len <= scratch.len() as u64;
        let (mut left, mut at) = (len, 0usize);
        while left > 0 {
            if self.place.offset >= self.used {
                self.step(flash, index)?;
                continue;
            }
            let here = ((self.used - self.place.offset) as u64).min(left) as usize;
            let from = BLOCK_HEADER_BYTES + self.place.offset;
            if fits {
                scratch[at..at + here].copy_from_slice(self.block.get(from..from + here)?);
            }
            at += here;
            left -= here as u64;
            self.place.offset += here;
        }
        Some(if fits {
            Item::Record {
                kind,
                len: len as usize,
            }
        } else {
            Item::TooLarge { kind }
        })
    }
}

fn restart(header: BlockHeader) -> Item {
    Item::Restart {
        flags: header.flags,
        dictionary: header.dictionary,
    }
}

/// Whether the definitions read so far are all that were written.
///
/// A lost definition must not let an index keep the meaning it had before: every restart says how many definitions
/// precede it, and once the count is wrong nothing is believed until the dictionary begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DictionaryCheck {
    pub(crate) count: u16,
    /// Where the segment's first dictionary began to count.
    base: u16,
    pub(crate) broken: bool,
}

/// What a restart means for the dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dictionary {
    /// Forget every definition.
    Anew,
    /// As before.
    Kept,
}

impl DictionaryCheck {
    /// Where the first dictionary of a segment counts from: another number for each boot and epoch. A boot that was cut before
    /// its first block had landed whole may have left a part of it, and the next boot's torn write may complete it: definitions
    /// of one must not go with frames of the other.
    pub(crate) fn segment_count(boot_key: u32, epoch: u32) -> u16 {
        let key = crc32c(boot_key, &epoch.to_le_bytes());
        (key >> 16) as u16 ^ key as u16
    }

    /// Where a dictionary that `epoch` begins within this segment counts from: away from the counts of those before it, so that
    /// its definitions, if they are lost, are not taken for as many of an older one.
    pub(crate) const fn later_count(&self, epoch: u32) -> u16 {
        // Multiples of the golden section of 2^16 keep their distance from each other.
        self.base.wrapping_add((epoch as u16).wrapping_mul(0x9e37) | 0x80)
    }

    /// Takes note of a restart.
    pub(crate) fn restart(&mut self, flags: u8, count: u16) -> Dictionary {
        if flags & (flag::FIRST | flag::NEW_DICTIONARY) != 0 {
            let base = if flags & flag::FIRST != 0 { count } else { self.base };
            *self = Self {
                count,
                base,
                broken: false,
            };
            return Dictionary::Anew;
        }
        self.broken |= self.count != count;
        Dictionary::Kept
    }

    /// Takes note of a TARGET or DICT record.
    pub(crate) fn record(&mut self) {
        self.count = self.count.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::testing::Ram;

    const UUID: [u8; 16] = [9; 16];
    const SLOT: u32 = 1;

    /// Index, flags, seq, epoch, stream offset, payload.
    type Written<'a> = (u16, u8, u32, u32, u32, &'a [u8]);

    /// A slot with these blocks.
    fn slot(blocks: &[Written<'_>]) -> Flash<Ram> {
        let geometry = Geometry {
            block_bytes: 256,
            blocks_per_slot: 8,
            slots: 3,
            medium: Medium::Rewritable,
        };
        let mut storage = Ram::new(geometry, 1);
        for &(index, flags, seq, epoch, stream_offset, payload) in blocks {
            let mut block = [0; 256];
            block[BLOCK_HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
            let header = BlockHeader {
                flags,
                seq,
                index,
                used: payload.len() as u16,
                first_record: 0,
                dictionary: 0,
                ack: 0,
                stream_offset,
                epoch,
            };
            header.emit(&mut block, block_seed(&UUID, SLOT));
            storage.write(geometry.block(SLOT, index.into()), &block).unwrap();
        }
        Flash {
            storage,
            geometry,
            uuid: UUID,
            read_errors: 0,
            blocks_read: 0,
        }
    }

    /// First byte of each record's payload, in reading order.
    fn read(blocks: &[Written<'_>]) -> Vec<u8> {
        let mut flash = slot(blocks);
        let mut index = Index::new(&flash.geometry);
        let mut stream = Stream::new(&flash.geometry);
        index.scan(&mut flash, SLOT, &mut stream.block);
        let (mut scratch, mut found) = ([0; 64], Vec::new());
        loop {
            match stream.next(&mut flash, &index, &mut scratch) {
                Item::Record { .. } => found.push(scratch[0]),
                Item::End => return found,
                _ => {}
            }
        }
    }

    const SYNC: u8 = flag::SYNC;
    const RESUME: u8 = flag::RESUME;

    #[test]
    fn blocks_are_read_by_epoch_and_offset_wherever_they_stand() {
        assert_eq!(
            read(&[
                (3, SYNC, 7, 1, 0, &[5, 1, 1]),
                (1, 0, 7, 1, 3, &[5, 1, 2]),
                (0, RESUME, 7, 2, 0, &[5, 1, 3]),
            ]),
            [1, 2, 3]
        );
    }

    #[test]
    fn a_matching_offset_of_another_epoch_does_not_continue() {
        assert_eq!(
            read(&[(0, SYNC, 7, 1, 0, &[5, 1, 1]), (1, 0, 7, 2, 3, &[5, 1, 2])]),
            [1]
        );
        // Nor does it complete a record.
        assert_eq!(
            read(&[(0, SYNC, 7, 1, 0, &[5, 1, 1, 5, 2]), (1, 0, 7, 2, 5, &[8, 8])]),
            [1]
        );
    }

    #[test]
    fn a_gap_is_passed_over_to_the_next_restart() {
        assert_eq!(
            read(&[
                (0, SYNC, 7, 1, 0, &[5, 1, 1]),
                (2, 0, 7, 1, 6, &[5, 1, 3]),
                (3, SYNC, 7, 1, 9, &[5, 1, 4]),
                (4, 0, 7, 1, 12, &[5, 1, 5]),
            ]),
            [1, 4, 5]
        );
        assert_eq!(read(&[(0, 0, 7, 1, 0, &[5, 1, 1])]), []);
    }

    #[test]
    fn copies_count_once_and_older_laps_not_at_all() {
        assert_eq!(
            read(&[
                (0, SYNC, 7, 1, 0, &[5, 1, 1]),
                (1, 0, 7, 1, 3, &[5, 1, 2]),
                (2, 0, 7, 1, 3, &[5, 1, 2]),
                (3, 0, 7, 1, 6, &[5, 1, 3]),
                (4, 0, 4, 1, 9, &[5, 1, 9]),
            ]),
            [1, 2, 3]
        );
    }

    #[test]
    fn what_is_older_than_the_beginning_of_the_segment_is_not_read() {
        assert_eq!(
            read(&[
                (0, flag::FIRST, 7, 3, 0, &[5, 1, 1]),
                (1, 0, 7, 3, 3, &[5, 1, 2]),
                (2, RESUME | SYNC, 7, 2, 0, &[5, 1, 9]),
            ]),
            [1, 2]
        );
    }

    #[test]
    fn a_record_spans_blocks_and_is_not_seen_without_its_end() {
        let whole = [
            (0, SYNC, 7, 1, 0, &[5, 0x83][..]),
            (1, 0, 7, 1, 2, &[0, 7][..]),
            (2, 0, 7, 1, 4, &[8, 9, 5, 1, 6][..]),
        ];
        assert_eq!(read(&whole), [7, 6]);
        assert_eq!(read(&whole[..2]), []);
        assert_eq!(read(&[whole[0], whole[2]]), []);
    }

    #[test]
    fn more_blocks_in_the_index_let_the_stream_go_on() {
        let mut flash = slot(&[(0, SYNC, 7, 1, 0, &[5, 1, 1, 5, 2, 2])]);
        let mut index = Index::new(&flash.geometry);
        let mut stream = Stream::new(&flash.geometry);
        index.scan(&mut flash, SLOT, &mut stream.block);
        let mut scratch = [0; 64];
        assert!(matches!(
            stream.next(&mut flash, &index, &mut scratch),
            Item::Restart { .. }
        ));
        assert!(matches!(
            stream.next(&mut flash, &index, &mut scratch),
            Item::Record { .. }
        ));
        assert_eq!(stream.next(&mut flash, &index, &mut scratch), Item::End);
        // The end of the record begun, in a block behind a copy of the first.
        let more = slot(&[
            (0, SYNC, 7, 1, 0, &[5, 1, 1, 5, 2, 2]),
            (1, SYNC, 7, 1, 0, &[5, 1, 1, 5, 2, 2]),
            (2, 0, 7, 1, 6, &[3]),
        ]);
        flash.storage = more.storage;
        let key = stream.key(&index);
        index.extend(&mut flash, &mut [0; 256]);
        stream.refresh(&index, key);
        assert_eq!(
            stream.next(&mut flash, &index, &mut scratch),
            Item::Record { kind: 5, len: 2 }
        );
        assert_eq!(scratch[..2], [2, 3]);
    }

    #[test]
    fn a_missing_definition_spoils_the_dictionary_until_it_begins_anew() {
        let mut check = DictionaryCheck::default();
        assert_eq!(check.restart(flag::FIRST, 0), Dictionary::Anew);
        check.record();
        assert_eq!(check.restart(SYNC, 1), Dictionary::Kept);
        assert!(!check.broken);
        check.restart(SYNC, 2);
        check.record();
        check.restart(SYNC, 2);
        assert!(check.broken);
        assert_eq!(check.restart(RESUME | flag::NEW_DICTIONARY, 0), Dictionary::Anew);
        assert!(!check.broken);
    }

    #[test]
    fn as_many_definitions_of_another_dictionary_do_not_pass_for_those_that_are_lost() {
        for epoch in 2..60 {
            let mut check = DictionaryCheck::default();
            check.restart(flag::FIRST, 40_000);
            (0..3).for_each(|_| check.record());
            for other in 1..epoch {
                let (one, two) = (check.later_count(other), check.later_count(epoch));
                assert!(one.abs_diff(two) > 100, "epochs {other} and {epoch}");
            }
            // The block with NEWDICT and three definitions did not land, the frames behind it did.
            check.restart(SYNC, check.later_count(epoch).wrapping_add(3));
            assert!(check.broken, "epoch {epoch}");
        }
    }

    #[test]
    fn as_many_definitions_of_another_boot_do_not_pass_for_those_of_this_one() {
        // A torn first block of boot 7, completed by the equal tail of the first block of boot 8, in front of frames of boot 8.
        let (old, new) = (
            DictionaryCheck::segment_count(7, 1),
            DictionaryCheck::segment_count(8, 1),
        );
        let mut check = DictionaryCheck::default();
        check.restart(flag::FIRST, old);
        (0..4).for_each(|_| check.record());
        check.restart(SYNC, new.wrapping_add(4));
        assert!(check.broken);
        assert_ne!(old, DictionaryCheck::segment_count(7, 2));
    }
}
