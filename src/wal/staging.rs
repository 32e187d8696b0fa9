//! Blocks that are not on the medium yet, in order.
//!
//! Frames are encoded straight into payloads of blocks. Blocks leave at the front: written and synced, or, a whole
//! chunk at a time, because every remote has acknowledged its frames. A *chunk* is a run of blocks that begins with
//! START and full values.
//!
//! # Invariants
//!
//! - Every record in staging is complete: after each call a commit may take all blocks.
//! - A record of a chunk never lies in blocks of two chunks.
//!
//! Memory: blocks times block size, 48 bytes each of bookkeeping, 2 KiB of time marks. When full, `put` refuses and
//! nothing changes. Power loss loses what is here.

use super::format::{BLOCK_HEADER_BYTES, Geometry, NO_RECORD};
use super::record;
use crate::frame::{FrameNo, Full};
use crate::value::varint::{Cursor, MAX_VARINT_BYTES};
use alloc::boxed::Box;
use alloc::vec;

/// One staged block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged {
    pub(crate) used: u16,
    pub(crate) first_record: u16,
    /// First frame of its chunk.
    pub(crate) chunk: FrameNo,
    /// Number of the first frame that starts here (or would).
    pub(crate) first_frame: FrameNo,
    /// Frames that start here.
    pub(crate) frames: u32,
    /// Samples in them.
    pub(crate) samples: u32,
    /// Begins a chunk.
    pub(crate) sync: bool,
    /// Its chunk begins a segment.
    pub(crate) new_segment: bool,
    /// Assigned when it is written, for the copy after an error.
    pub(crate) flags: u8,
    pub(crate) stream_offset: u32,
    pub(crate) dictionary: u16,
}

const EMPTY: Staged = Staged {
    used: 0,
    first_record: NO_RECORD,
    chunk: FrameNo(0),
    first_frame: FrameNo(0),
    frames: 0,
    samples: 0,
    sync: false,
    new_segment: false,
    flags: 0,
    stream_offset: 0,
    dictionary: 0,
};

/// A record found in staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: u8,
    pub(crate) len: usize,
    pub(crate) next: (u64, usize),
}

/// The blocks.
#[derive(Debug)]
pub(crate) struct Staging {
    bytes: Box<[u8]>,
    blocks: Box<[Staged]>,
    block_bytes: usize,
    /// Serial number of the front block; serials are never reused.
    first: u64,
    len: usize,
    /// The last block takes more records.
    open: bool,
    marks: Marks,
}

impl Staging {
    pub(crate) fn new(geometry: &Geometry, blocks: usize, interval_ms: u64) -> Self {
        let block_bytes = geometry.block_bytes as usize;
        Self {
            bytes: vec![0xff; blocks * block_bytes].into_boxed_slice(),
            blocks: vec![EMPTY; blocks].into_boxed_slice(),
            block_bytes,
            first: 0,
            len: 0,
            open: false,
            marks: Marks::new(interval_ms),
        }
    }

    fn place(&self, serial: u64) -> usize {
        // There is at least one block: `Ring::mount` sees to it.
        (serial % self.blocks.len() as u64) as usize
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Serial behind the last block.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.len as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn free(&self) -> usize {
        self.blocks.len() - self.len
    }

    pub(crate) fn capacity(&self) -> usize {
        self.blocks.len()
    }

    const fn payload_bytes(&self) -> usize {
        self.block_bytes - BLOCK_HEADER_BYTES
    }

    pub(crate) fn get(&self, serial: u64) -> Option<&Staged> {
        (self.first..self.end())
            .contains(&serial)
            .then(|| &self.blocks[self.place(serial)])
    }

    pub(crate) fn get_mut(&mut self, serial: u64) -> Option<&mut Staged> {
        let place = self.place(serial);
        (self.first..self.end())
            .contains(&serial)
            .then(|| &mut self.blocks[place])
    }

    /// The whole block, header space included.
    pub(crate) fn block_mut(&mut self, serial: u64) -> &mut [u8] {
        let at = self.place(serial) * self.block_bytes;
        &mut self.bytes[at..at + self.block_bytes]
    }

    fn payload(&self, serial: u64) -> &[u8] {
        let place = self.place(serial);
        let at = place * self.block_bytes + BLOCK_HEADER_BYTES;
        &self.bytes[at..at + usize::from(self.blocks[place].used)]
    }

    /// Blocks that a record of `len` payload bytes adds, `None` if there is no room.
    pub(crate) fn growth(&self, len: usize, new_chunk: bool) -> Option<usize> {
        let bytes = record::head_len(len) + len;
        let here = if self.open && !new_chunk { self.room() } else { 0 };
        let more = bytes.saturating_sub(here).div_ceil(self.payload_bytes());
        (more <= self.free()).then_some(more)
    }

    /// Bytes that records can still take, heads included.
    pub(crate) fn space(&self) -> usize {
        self.room() + self.free() * self.payload_bytes()
    }

    /// Bytes that the last block can still take.
    pub(crate) fn room(&self) -> usize {
        match self.get(self.end().wrapping_sub(1)) {
            Some(last) if self.open => self.payload_bytes() - usize::from(last.used),
            _ => 0,
        }
    }

    /// No more records into the last block.
    pub(crate) fn close(&mut self) {
        self.open = false;
    }

    fn push(&mut self, block: Staged) {
        let place = self.place(self.end());
        self.blocks[place] = block;
        self.len += 1;
        self.open = true;
    }

    /// Begins a chunk with the record `start` (head and payload).
    ///
    /// # Errors
    /// [`Full`]; nothing has changed.
    pub(crate) fn begin_chunk(&mut self, chunk: FrameNo, new_segment: bool, start: &[u8]) -> Result<(), Full> {
        let limit = self.blocks.len();
        if self.free() == 0 || start.len() > self.payload_bytes() {
            return Err(Full { limit });
        }
        self.push(Staged {
            chunk,
            first_frame: chunk,
            sync: true,
            new_segment,
            ..EMPTY
        });
        self.write(start);
        Ok(())
    }

    /// Appends a record to the chunk that was begun last. `frame`: its number and samples if it is a frame.
    ///
    /// # Errors
    /// [`Full`]; nothing has changed.
    pub(crate) fn put(
        &mut self,
        kind: u8,
        payload: &[u8],
        frame: Option<(FrameNo, u32)>,
        chunk: FrameNo,
        next: FrameNo,
    ) -> Result<(), Full> {
        let limit = self.blocks.len();
        self.growth(payload.len(), false).ok_or(Full { limit })?;
        if !self.open || self.room() == 0 {
            self.push(Staged {
                chunk,
                first_frame: next,
                ..EMPTY
            });
        }
        let serial = self.end() - 1;
        let place = self.place(serial);
        let block = &mut self.blocks[place];
        if block.first_record == NO_RECORD {
            block.first_record = block.used;
        }
        if let Some((number, samples)) = frame {
            if block.frames == 0 {
                block.first_frame = number;
            }
            block.frames += 1;
            block.samples += samples;
        }
        let mut head = [0; 1 + MAX_VARINT_BYTES];
        let mut sink = record::SliceSink::new(&mut head);
        record::put_head(&mut sink, kind, payload.len())?;
        self.spill(sink.written(), chunk, next);
        self.spill(payload, chunk, next);
        Ok(())
    }

    /// Writes bytes over as many blocks as they take; `growth` has made sure of the room.
    fn spill(&mut self, mut bytes: &[u8], chunk: FrameNo, next: FrameNo) {
        while !bytes.is_empty() {
            let room = self.room();
            if room == 0 {
                self.push(Staged {
                    chunk,
                    first_frame: next,
                    ..EMPTY
                });
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.write(now);
            bytes = later;
        }
    }

    /// Writes into the last block; the caller has checked the room.
    fn write(&mut self, bytes: &[u8]) {
        let serial = self.end() - 1;
        let place = self.place(serial);
        let block = &mut self.blocks[place];
        if block.first_record == NO_RECORD && block.used == 0 && block.sync {
            block.first_record = 0;
        }
        let at = place * self.block_bytes + BLOCK_HEADER_BYTES + usize::from(block.used);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        block.used += bytes.len() as u16;
    }

    /// Forgets the first `count` blocks.
    pub(crate) fn drop_front(&mut self, count: usize) {
        let count = count.min(self.len);
        self.first += count as u64;
        self.len -= count;
        if self.len == 0 {
            self.open = false;
        }
        self.forget_marks();
    }

    /// As [`Staging::drop_front`], for blocks whose frames stay in staging.
    pub(crate) fn release_front(&mut self, count: usize) {
        let count = count.min(self.len);
        self.first += count as u64;
        self.len -= count;
    }

    /// Forgets the blocks from `serial` on.
    pub(crate) fn cut_back(&mut self, serial: u64) {
        self.len = serial.clamp(self.first, self.end()).abs_diff(self.first) as usize;
        self.open = false;
    }

    /// Changes the payload of the record that block `serial` begins with, which lies in this block.
    pub(crate) fn edit_front_record(&mut self, serial: u64, edit: impl FnOnce(&mut [u8])) {
        let Some(used) = self.get(serial).map(|block| usize::from(block.used)) else {
            return;
        };
        let payload = &mut self.block_mut(serial)[BLOCK_HEADER_BYTES..][..used];
        let mut cursor = Cursor::new(payload);
        let len = cursor.u8().and_then(|_kind| cursor.u64());
        let at = used - cursor.remaining();
        if let Some(record) = len.ok().and_then(|len| payload[at..].get_mut(..len as usize)) {
            edit(record);
        }
    }

    /// Moves the first `count` blocks behind the others.
    pub(crate) fn rotate_front(&mut self, count: usize) {
        let (first, end) = (self.first, self.end());
        let middle = first + count.min(self.len) as u64;
        for (from, to) in [(first, middle), (middle, end), (first, end)] {
            for step in 0..(to - from) / 2 {
                self.swap(from + step, to - 1 - step);
            }
        }
    }

    fn swap(&mut self, one: u64, other: u64) {
        let (one, other) = (self.place(one), self.place(other));
        let (low, high) = (one.min(other), one.max(other));
        if low == high {
            return;
        }
        self.blocks.swap(low, high);
        let (front, back) = self.bytes.split_at_mut(high * self.block_bytes);
        front[low * self.block_bytes..][..self.block_bytes].swap_with_slice(&mut back[..self.block_bytes]);
    }

    /// Number of the first frame in the blocks `of`.
    pub(crate) fn first_frame_of(&self, of: core::ops::Range<u64>) -> Option<FrameNo> {
        let mut blocks = of.filter_map(|serial| self.get(serial));
        blocks.find(|block| block.frames > 0).map(|block| block.first_frame)
    }

    /// Forgets the times of frames that are gone.
    pub(crate) fn forget_marks(&mut self) {
        let from = self.get(self.first).map(|front| front.first_frame);
        self.marks.forget_before(from);
    }

    /// Notes the boot time of a frame.
    pub(crate) fn mark(&mut self, number: FrameNo, time_ms: u64) {
        self.marks.push(number, time_ms);
    }

    /// Boot time of frame `from` or the first later one, at most 1/64 of the commit interval too early; `None` when
    /// there is no such frame.
    pub(crate) fn time_of(&self, from: FrameNo) -> Option<u64> {
        let last = self.last_frame()?;
        if self.is_empty() || last < from {
            return None;
        }
        self.marks.before(from.max(self.first_frame()?))
    }

    /// Number of the first frame here.
    pub(crate) fn first_frame(&self) -> Option<FrameNo> {
        (self.first..self.end())
            .filter_map(|serial| self.get(serial))
            .find(|block| block.frames > 0)
            .map(|block| block.first_frame)
    }

    /// Number of the last frame here.
    pub(crate) fn last_frame(&self) -> Option<FrameNo> {
        (self.first..self.end())
            .rev()
            .filter_map(|serial| self.get(serial))
            .find(|block| block.frames > 0)
            .map(|block| FrameNo(block.first_frame.0 + u64::from(block.frames) - 1))
    }

    /// Frames and samples in the blocks from `from` to before `to`.
    pub(crate) fn sum(&self, from: u64, to: u64) -> (u64, u64) {
        (from..to)
            .filter_map(|serial| self.get(serial))
            .fold((0, 0), |(frames, samples), block| {
                (frames + u64::from(block.frames), samples + u64::from(block.samples))
            })
    }

    /// Serial behind the last block of the chunk that block `serial` belongs to.
    pub(crate) fn chunk_end(&self, serial: u64) -> u64 {
        (serial + 1..self.end())
            .find(|&at| self.get(at).is_some_and(|block| block.sync))
            .unwrap_or(self.end())
    }

    /// The block in which frame `number`, or the first later one, starts.
    pub(crate) fn block_of(&self, number: FrameNo) -> Option<u64> {
        (self.first..self.end()).find(|&serial| {
            self.get(serial)
                .is_some_and(|block| block.frames > 0 && block.first_frame.0 + u64::from(block.frames) > number.0)
        })
    }

    /// First block of the chunk of block `serial`, if it is still here.
    pub(crate) fn chunk_start(&self, serial: u64) -> Option<u64> {
        (self.first..=serial)
            .rev()
            .find(|&at| self.get(at).is_some_and(|block| block.sync))
    }

    /// Reads the record at `at`, a record boundary, into `scratch`.
    pub(crate) fn record(&self, at: (u64, usize), scratch: &mut [u8]) -> Option<Found> {
        let mut reader = Reader { staging: self, at };
        let kind = reader.byte()?;
        let mut head = [0; MAX_VARINT_BYTES];
        let mut used = 0;
        for byte in &mut head {
            *byte = reader.byte()?;
            used += 1;
            if *byte & 0x80 == 0 {
                break;
            }
        }
        let len = usize::try_from(Cursor::new(&head[..used]).u64().ok()?).ok()?;
        reader.copy(scratch.get_mut(..len)?)?;
        Some(Found {
            kind,
            len,
            next: reader.at,
        })
    }
}

struct Reader<'a> {
    staging: &'a Staging,
    at: (u64, usize),
}

impl<'a> Reader<'a> {
    /// What is left of the block, the next block's if nothing is.
    fn rest(&mut self) -> Option<&'a [u8]> {
        loop {
            self.staging.get(self.at.0)?;
            let payload = self.staging.payload(self.at.0);
            match payload.get(self.at.1..) {
                Some(rest) if !rest.is_empty() => return Some(rest),
                _ => self.at = (self.at.0 + 1, 0),
            }
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.rest()?.first()?;
        self.at.1 += 1;
        Some(byte)
    }

    fn copy(&mut self, mut to: &mut [u8]) -> Option<()> {
        while !to.is_empty() {
            let rest = self.rest()?;
            let here = rest.len().min(to.len());
            let (now, later) = to.split_at_mut(here);
            now.copy_from_slice(&rest[..here]);
            self.at.1 += here;
            to = later;
        }
        Some(())
    }
}

/// Boot times of some of the staged frames, at least 1/64 of the commit interval apart.
#[derive(Debug)]
struct Marks {
    step_ms: u64,
    marks: heapless::Deque<(FrameNo, u64), 128>,
}

impl Marks {
    fn new(interval_ms: u64) -> Self {
        Self {
            step_ms: interval_ms / 64,
            marks: heapless::Deque::new(),
        }
    }

    fn push(&mut self, number: FrameNo, time_ms: u64) {
        // Frames that are coded again have their marks.
        if self.marks.back().is_some_and(|&(newest, _)| number <= newest) {
            return;
        }
        let due = self
            .marks
            .back()
            .is_none_or(|&(_, last)| time_ms < last || time_ms - last >= self.step_ms);
        // When full, later frames pass for as old as the newest mark: the commit comes early.
        if due && !self.marks.is_full() {
            let _ = self.marks.push_back((number, time_ms));
        }
    }

    /// The newest mark at or before `number`.
    fn before(&self, number: FrameNo) -> Option<u64> {
        let mut found = self.marks.front().map(|&(_, time)| time);
        for &(at, time) in &self.marks {
            if at > number {
                break;
            }
            found = Some(time);
        }
        found
    }

    fn forget_before(&mut self, from: Option<FrameNo>) {
        let Some(from) = from else {
            self.marks.clear();
            return;
        };
        // Keep one at or before `from`.
        while self.marks.len() > 1 && self.marks.iter().nth(1).is_some_and(|&(at, _)| at <= from) {
            self.marks.pop_front();
        }
    }
}
