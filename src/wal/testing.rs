//! A medium in memory that tears, loses and refuses writes on command, for tests.
//!
//! Deterministic: no time, no threads, randomness from a seed. A rewritable medium keeps the writes since the last sync
//! apart; [`Ram::crash`] decides what became of each. On a write-once medium calls complete in order, so at most one is torn and
//! those after it never began; it panics when the ring breaks its rules (a block programmed twice between erases, or out
//! of order), because that is what such a test is for.

use super::format::{Geometry, Medium, SUPERBLOCK_BYTES};
use super::frame_coding::{Decoder, Encoder};
use super::record::{RecordFault, Start};
use super::storage::{Storage, StorageFailure, SuperblockCopy};
use crate::frame::{Frame, Full};
use crate::value::codec::CodecId;
use crate::value::varint::Sink;
use alloc::vec;
use alloc::vec::Vec;
use embedded_io::ErrorKind;

/// What became of a write that no sync covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the whole meaning")]
pub enum Outcome {
    Lost,
    Whole,
    FirstHalf,
    LastHalf,
    Garbage,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [Self::Lost, Self::Whole, Self::FirstHalf, Self::LastHalf, Self::Garbage];
}

#[derive(Clone, Debug)]
enum Pending {
    Write { at: usize, bytes: Vec<u8> },
    Erase { at: usize, len: usize },
}

/// The medium.
#[derive(Clone, Debug)]
pub struct Ram {
    geometry: Geometry,
    superblocks: [Option<[u8; SUPERBLOCK_BYTES]>; 2],
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Pending>,
    /// Blocks not programmed since their erase.
    erased: Vec<bool>,
    random: u64,
    /// Calls of `write` so far.
    pub writes: u64,
    /// Calls of `sync` so far.
    pub syncs: u64,
    /// Calls of `read` so far.
    pub reads: u64,
    /// `write`, `erase` and `sync` calls from this one on fail...
    pub fail_from: u64,
    /// ...to before this one.
    pub fail_to: u64,
    /// `write`, `erase` and `sync` calls so far.
    pub changes: u64,
    /// Every `sync` fails.
    pub fail_syncs: bool,
    /// Slots that are bad.
    pub bad: Vec<u32>,
    /// Blocks that cannot be read.
    pub unreadable: Vec<u32>,
    /// Blocks that refuse to be written, and keep what they have.
    pub unwritable: Vec<u32>,
}

impl Ram {
    /// A blank medium.
    #[must_use]
    pub fn new(geometry: Geometry, seed: u64) -> Self {
        let blocks = (geometry.slots * geometry.blocks_per_slot) as usize;
        let image = vec![0xff; blocks * geometry.block_bytes as usize];
        Self {
            geometry,
            superblocks: [None; 2],
            durable: image.clone(),
            current: image,
            pending: Vec::new(),
            erased: vec![true; blocks],
            random: seed | 1,
            writes: 0,
            syncs: 0,
            reads: 0,
            fail_from: u64::MAX,
            fail_to: u64::MAX,
            changes: 0,
            fail_syncs: false,
            bad: Vec::new(),
            unreadable: Vec::new(),
            unwritable: Vec::new(),
        }
    }

    /// The next random number (xorshift).
    pub fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Writes that no sync covered.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The medium as the power comes back: `outcomes[i]` for the i-th pending write, [`Outcome::Lost`] beyond.
    #[must_use]
    pub fn crash(&self, outcomes: &[Outcome], seed: u64) -> Self {
        let mut after = self.clone();
        after.random = seed | 1;
        for (i, pending) in self.pending.iter().enumerate() {
            let outcome = outcomes.get(i).copied().unwrap_or(Outcome::Lost);
            after.land(pending, outcome);
            if self.geometry.medium == Medium::WriteOnce && outcome != Outcome::Whole {
                // One call after the other: what came later was never begun.
                break;
            }
        }
        after.pending.clear();
        after.current.copy_from_slice(&after.durable);
        after.note_erased();
        after
    }

    /// The raw image, for damaging it: durable and current alike.
    pub fn damage(&mut self, change: impl FnOnce(&mut [u8])) {
        self.pending.clear();
        change(&mut self.current);
        self.durable.copy_from_slice(&self.current);
        self.note_erased();
    }

    /// Both superblocks are gone.
    pub fn forget_superblocks(&mut self) {
        self.superblocks = [None; 2];
    }

    /// The raw image as a reader sees it.
    #[must_use]
    pub fn image(&self) -> &[u8] {
        &self.current
    }

    fn note_erased(&mut self) {
        let size = self.geometry.block_bytes as usize;
        for (block, erased) in self.current.chunks(size).zip(&mut self.erased) {
            *erased = block.iter().all(|&b| b == 0xff);
        }
    }

    fn land(&mut self, pending: &Pending, outcome: Outcome) {
        let (at, len) = match pending {
            Pending::Write { at, bytes } => (*at, bytes.len()),
            Pending::Erase { at, len } => (*at, *len),
        };
        let range = match outcome {
            Outcome::Lost => return,
            Outcome::Whole | Outcome::Garbage => 0..len,
            Outcome::FirstHalf => 0..len / 2,
            Outcome::LastHalf => len / 2..len,
        };
        for i in range {
            let noise = if outcome == Outcome::Garbage {
                self.random() as u8
            } else {
                0
            };
            let old = self.durable[at + i];
            let new = match (pending, self.geometry.medium) {
                (Pending::Write { .. }, Medium::Rewritable) if outcome == Outcome::Garbage => noise,
                (Pending::Write { bytes, .. }, Medium::Rewritable) => bytes[i],
                // Bits are only cleared; a torn program has not cleared all.
                (Pending::Write { bytes, .. }, Medium::WriteOnce) => old & (bytes[i] | noise),
                (Pending::Erase { .. }, _) if outcome == Outcome::Garbage => old | noise,
                (Pending::Erase { .. }, _) => 0xff,
            };
            self.durable[at + i] = new;
        }
    }

    fn refuses(&mut self) -> bool {
        let call = self.changes;
        self.changes += 1;
        (self.fail_from..self.fail_to).contains(&call)
    }
}

const FAILED: StorageFailure = StorageFailure(ErrorKind::Other);

impl embedded_io::Error for StorageFailure {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

impl Storage for Ram {
    type Error = StorageFailure;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &mut [u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, StorageFailure> {
        match self.superblocks[copy as usize] {
            Some(stored) => {
                *bytes = stored;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn write_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &[u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, StorageFailure> {
        if self.geometry.medium == Medium::WriteOnce {
            return Ok(false);
        }
        self.superblocks[copy as usize] = Some(*bytes);
        Ok(true)
    }

    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), StorageFailure> {
        self.reads += 1;
        if self.unreadable.contains(&block) {
            return Err(FAILED);
        }
        let at = block as usize * self.geometry.block_bytes as usize;
        bytes.copy_from_slice(&self.current[at..at + bytes.len()]);
        Ok(())
    }

    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), StorageFailure> {
        assert_eq!(bytes.len(), self.geometry.block_bytes as usize);
        self.writes += 1;
        if self.unwritable.contains(&block) {
            return Err(FAILED);
        }
        let at = block as usize * bytes.len();
        if self.geometry.medium == Medium::WriteOnce {
            assert!(self.erased[block as usize], "block {block} programmed twice");
            let slot = block / self.geometry.blocks_per_slot;
            let end = (slot + 1) * self.geometry.blocks_per_slot;
            assert!(
                (block..end).all(|later| self.erased[later as usize]),
                "block {block} programmed after a later one"
            );
            self.erased[block as usize] = false;
        }
        let pending = Pending::Write {
            at,
            bytes: bytes.to_vec(),
        };
        let failed = self.refuses();
        if failed {
            let outcome = Outcome::ALL[self.random() as usize % 5];
            self.land(&pending, outcome);
            let end = at + bytes.len();
            self.current[at..end].copy_from_slice(&self.durable[at..end]);
            return Err(FAILED);
        }
        for (i, &byte) in bytes.iter().enumerate() {
            let cell = &mut self.current[at + i];
            *cell = match self.geometry.medium {
                Medium::Rewritable => byte,
                Medium::WriteOnce => *cell & byte,
            };
        }
        self.pending.push(pending);
        Ok(())
    }

    fn erase(&mut self, slot: u32) -> Result<(), StorageFailure> {
        if self.geometry.medium == Medium::Rewritable {
            return Ok(());
        }
        let len = self.geometry.segment_bytes() as usize;
        let at = slot as usize * len;
        if self.refuses() {
            return Err(FAILED);
        }
        self.current[at..at + len].fill(0xff);
        let first = (slot * self.geometry.blocks_per_slot) as usize;
        self.erased[first..first + self.geometry.blocks_per_slot as usize].fill(true);
        self.pending.push(Pending::Erase { at, len });
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageFailure> {
        self.syncs += 1;
        let failed = self.refuses() || self.fail_syncs;
        for pending in core::mem::take(&mut self.pending) {
            let outcome = if failed && self.geometry.medium == Medium::Rewritable {
                Outcome::ALL[self.random() as usize % 5]
            } else {
                Outcome::Whole
            };
            self.land(&pending, outcome);
        }
        self.current.copy_from_slice(&self.durable);
        if failed { Err(FAILED) } else { Ok(()) }
    }

    fn is_bad(&mut self, slot: u32) -> bool {
        self.bad.contains(&slot)
    }
}

/// Encoder and decoder of frame records without a ring around them, for tests.
#[derive(Debug)]
pub struct FrameCoding {
    encoder: Encoder,
    decoder: Decoder,
}

impl FrameCoding {
    /// For up to `max_series` series.
    #[must_use]
    pub fn new(codec: CodecId, max_series: usize) -> Self {
        Self {
            encoder: Encoder::new(codec, max_series),
            decoder: Decoder::new(codec, max_series),
        }
    }

    /// Both begin a chunk.
    pub fn start(&mut self, start: &Start) {
        self.encoder.reset(start.mono_ms);
        self.decoder.start(start);
    }

    /// Decodes the payload of the next FRAME record.
    ///
    /// # Errors
    /// [`RecordFault`]: nothing can be decoded until the next [`FrameCoding::start`].
    pub fn decode(&mut self, payload: &[u8], frame: &mut Frame) -> Result<(), RecordFault> {
        self.decoder.decode(payload, frame)
    }

    /// Writes the payload of a FRAME record.
    ///
    /// # Errors
    /// [`Full`]: as with a decoding error.
    pub fn encode(&mut self, frame: &Frame, out: &mut impl Sink) -> Result<(), Full> {
        self.encoder.encode(frame, true, out)
    }
}
