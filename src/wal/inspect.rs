//! Reads any ring image without configuration: for people, tools and tests.
//!
//! [`Inspector::open`] finds the identity; [`Inspector::walk`] goes through one slot and tells every block, record and frame as an
//! [`Event`]; [`Inspector::survey`] adds them up over the whole ring. Nothing is ever written. Values are not decoded; every
//! damaged, missing or unreadable thing is one [`Finding`].
//!
//! Allocates one block, one index and half a segment for records. Bears any image.

use super::config::MountError;
use super::counters::Loss;
use super::dictionary::{self, Compress, DictHead};
use super::format::{
    BlockHeader, EraseHeader, Fault, Geometry, KNOWN_INCOMPAT, MAJOR, Medium, SUPERBLOCK_BYTES, Superblock,
};
use super::frame_coding::{FrameInfo, Tally};
use super::identity::identify;
use super::record::{self, Ack, Clock, Delivered, Drop, RecordFault, SegmentHeader, Start, Target, kind};
use super::segment::{Dictionary, DictionaryCheck, Flash, Index, Item, Stream, Unreadable};
use super::storage::{Storage, SuperblockCopy};
use crate::frame::FrameNo;
use alloc::boxed::Box;
use alloc::vec;

/// Something that is not as a sound ring has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A superblock cannot be used.
    Superblock {
        /// Which; false: the one at the start.
        last: bool,
        /// Why.
        fault: Fault,
    },
    /// The medium calls the slot bad.
    BadSlot {
        /// The slot.
        slot: u32,
    },
    /// The erase header of a slot is missing: it is erased again before use.
    EraseHeader {
        /// The slot.
        slot: u32,
    },
    /// Blocks without a segment header: their frames cannot be read.
    Headless {
        /// The slot.
        slot: u32,
    },
    /// A segment of another major version.
    Version {
        /// The slot.
        slot: u32,
        /// Its major version.
        major: u16,
    },
    /// The medium gave an error for a block.
    Unreadable {
        /// The slot.
        slot: u32,
        /// Index of the block.
        index: u32,
    },
    /// A block is damaged or torn. Behind the last good block of the newest segment that is the trace of a power cut.
    Block {
        /// The slot.
        slot: u32,
        /// Index of the block.
        index: u32,
        /// Why.
        fault: Fault,
    },
    /// Sound blocks that cannot be read because what they continue is missing.
    Skipped {
        /// The slot.
        slot: u32,
        /// How many.
        blocks: u32,
    },
    /// Definitions are missing: frames after it cannot be named.
    Dictionary {
        /// The slot.
        slot: u32,
    },
    /// A record is malformed.
    Record {
        /// The slot.
        slot: u32,
        /// Its type.
        kind: u8,
        /// Why.
        fault: RecordFault,
    },
    /// Frame numbers are missing.
    Missing {
        /// The slot in which the gap ends.
        slot: u32,
        /// First missing frame.
        first: FrameNo,
        /// Frame after the last missing one.
        end: FrameNo,
    },
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Superblock { last, fault } => {
                let which = if *last { "last" } else { "first" };
                write!(f, "{which} superblock: {fault}")
            }
            Self::BadSlot { slot } => write!(f, "slot {slot}: bad"),
            Self::EraseHeader { slot } => write!(f, "slot {slot}: no erase header"),
            Self::Headless { slot } => write!(f, "slot {slot}: blocks without a segment header"),
            Self::Version { slot, major } => write!(f, "slot {slot}: segment of format version {major}"),
            Self::Unreadable { slot, index } => write!(f, "slot {slot} block {index}: read error"),
            Self::Block { slot, index, fault } => write!(f, "slot {slot} block {index}: {fault}"),
            Self::Skipped { slot, blocks } => write!(f, "slot {slot}: {blocks} blocks continue what is missing"),
            Self::Dictionary { slot } => write!(f, "slot {slot}: definitions are missing"),
            Self::Record { slot, kind, fault } => write!(f, "slot {slot}: record of type {kind:02x}: {fault}"),
            Self::Missing { slot, first, end } => {
                write!(f, "slot {slot}: frames {} to {} are missing", first.0, end.0 - 1)
            }
        }
    }
}

/// One step of a walk.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A sound block, in the order of the slot. `stale`: of an earlier lap.
    Block {
        /// Its header.
        header: BlockHeader,
        /// It belongs to a segment older than the slot's.
        stale: bool,
    },
    /// The slot of a write-once medium has its erase header; erases so far.
    Erased(u32),
    /// Header of the segment.
    Segment(&'a SegmentHeader),
    /// The stream is entered here.
    Restart {
        /// Flags of the block.
        flags: u8,
    },
    /// A chunk or an epoch begins.
    Start(&'a Start),
    /// Labels of a target.
    Target(&'a Target<'a>),
    /// Series are defined.
    Dict(&'a DictHead<'a>),
    /// A scrape.
    Frame(&'a FrameInfo),
    /// A clock statement.
    Clock(&'a Clock),
    /// A loss.
    Drop(&'a Drop),
    /// Of losses told before, what was delivered after all.
    Delivered(&'a Delivered),
    /// An acknowledgement.
    Ack(&'a Ack),
    /// A record this version does not know.
    Unknown {
        /// Its type.
        kind: u8,
    },
    /// Something is wrong.
    Finding(&'a Finding),
}

/// What a slot holds, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotSummary {
    /// Sequence number, 0: no segment.
    pub seq: u64,
    /// Erases so far, on write-once media.
    pub erase_count: u32,
    /// Sound blocks of the segment, copies included.
    pub blocks: u32,
    /// Blocks that cannot be used.
    pub faults: u32,
    /// Payload bytes of the sound blocks.
    pub payload_bytes: u64,
    /// First and last frame.
    pub frames: Option<(FrameNo, FrameNo)>,
    /// How many.
    pub frame_count: u64,
    /// Samples in them, where the layout is known.
    pub samples: u64,
    /// Bytes of what samples carry: native histograms, exemplars, start times.
    pub extras_bytes: u64,
    /// Definitions of series.
    pub series: u64,
    /// Bytes of definitions.
    pub dictionary_bytes: u64,
    /// Highest epoch.
    pub epoch: u32,
    /// Ends with an orderly stop.
    pub clean: bool,
    /// First and last wall time stated, Unix milliseconds, 0 unknown.
    pub wall_ms: (i64, i64),
}

/// What a ring holds, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Slots with a segment that can be read.
    pub segments: u32,
    /// Slots never used, or of an earlier format.
    pub empty: u32,
    /// Newest and oldest sequence number, 0: none.
    pub head_seq: u64,
    /// Oldest sequence number.
    pub tail_seq: u64,
    /// First frame not acknowledged, as far as headers tell (low half extended).
    pub acknowledged: FrameNo,
    /// Frames readable and not acknowledged.
    pub backlog_frames: u64,
    /// All over the slots.
    pub total: SlotSummary,
    /// Losses by reason as of the newest segment header and the DROP records after it.
    pub losses: [Loss; Loss::REASONS],
    /// Findings.
    pub findings: u64,
}

/// Reads an image.
pub struct Inspector<S> {
    pub(super) flash: Flash<S>,
    superblock: Option<Superblock>,
    pub(super) index: Index,
    pub(super) stream: Stream,
    pub(super) record: Box<[u8]>,
    pub(super) raw: Box<[u8]>,
    pub(super) text: Box<[u8]>,
    pub(super) compress: Option<Box<dyn Compress>>,
    /// Frame after the last one walked, for gaps between slots.
    expected: Option<FrameNo>,
}

impl<S> core::fmt::Debug for Inspector<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inspector")
            .field("geometry", &self.flash.geometry)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> Inspector<S> {
    /// Opens an image. With `compress`, compressed definitions are checked too.
    ///
    /// # Errors
    /// [`MountError::NotFormatted`], [`MountError::Version`], [`MountError::Incompatible`], or
    /// [`MountError::Geometry`] when the storage was opened with another shape than the ring says.
    pub fn open(mut storage: S, compress: Option<Box<dyn Compress>>) -> Result<Self, MountError> {
        let identity = identify(&mut storage).ok_or(MountError::NotFormatted)?;
        if identity.major != MAJOR {
            return Err(MountError::Version { found: identity.major });
        }
        let features = identity.incompat & !KNOWN_INCOMPAT;
        if features != 0 {
            return Err(MountError::Incompatible { features });
        }
        let geometry = storage.geometry();
        if geometry != identity.geometry {
            return Err(MountError::Geometry {
                found: identity.geometry,
                configured: Some(geometry),
            });
        }
        let mut inspector = Self {
            superblock: None,
            index: Index::new(&geometry),
            stream: Stream::new(&geometry),
            record: vec![0; geometry.segment_bytes() as usize / 2].into_boxed_slice(),
            raw: vec![0; dictionary::MAX_TEXT + 64].into_boxed_slice(),
            text: vec![0; dictionary::MAX_TEXT].into_boxed_slice(),
            compress,
            expected: None,
            flash: Flash {
                storage,
                geometry,
                uuid: identity.uuid,
                read_errors: 0,
                blocks_read: 0,
            },
        };
        inspector.superblock = inspector.superblocks().into_iter().flatten().find_map(Result::ok);
        Ok(inspector)
    }

    fn superblocks(&mut self) -> [Option<Result<Superblock, Fault>>; 2] {
        [SuperblockCopy::First, SuperblockCopy::Last].map(|copy| {
            let mut bytes = [0; SUPERBLOCK_BYTES];
            match self.flash.storage.read_superblock(copy, &mut bytes) {
                Ok(true) => Some(Superblock::parse(&bytes)),
                Ok(false) => (self.flash.geometry.medium == Medium::Rewritable).then_some(Err(Fault::Blank)),
                Err(_) => Some(Err(Fault::Blank)),
            }
        })
    }

    /// Shape of the ring.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.flash.geometry
    }

    /// Identity of the ring.
    #[must_use]
    pub fn uuid(&self) -> &[u8; 16] {
        &self.flash.uuid
    }

    /// The superblock, if the medium has a sound one.
    #[must_use]
    pub fn superblock(&self) -> Option<&Superblock> {
        self.superblock.as_ref()
    }

    /// Slots in the order of their segments, oldest first, those without one last.
    pub fn order(&mut self) -> alloc::vec::Vec<(u32, u64)> {
        let mut slots: alloc::vec::Vec<(u32, u64)> = (0..self.flash.geometry.slots)
            .map(|slot| (slot, self.summarise(slot, &mut |_| {}).seq))
            .collect();
        self.expected = None;
        slots.sort_by_key(|&(slot, seq)| (seq == 0, seq, slot));
        slots
    }

    /// Walks the whole ring, oldest segment first, and adds up.
    pub fn survey(&mut self, mut visit: impl FnMut(u32, &Event<'_>)) -> Summary {
        let mut summary = Summary::default();
        for (last, superblock) in self.superblocks().into_iter().enumerate() {
            if let Some(Err(fault)) = superblock {
                summary.findings += 1;
                visit(0, &Event::Finding(&Finding::Superblock { last: last == 1, fault }));
            }
        }
        let mut frames = alloc::vec::Vec::new();
        for (slot, _) in self.order() {
            let losses = &mut summary.losses;
            let findings = &mut summary.findings;
            let mut ack = None;
            let mut base = 0;
            // What stands in a slot without a header is not part of the ring.
            let mut headed = false;
            let found = self.summarise(slot, &mut |event| {
                match event {
                    Event::Finding(_) => *findings += 1,
                    Event::Segment(header) => {
                        headed = true;
                        *losses = [Loss::default(); Loss::REASONS];
                        losses[..Loss::IN_HEADER].copy_from_slice(&header.losses);
                        base = header.ack;
                    }
                    Event::Drop(drop) if headed => {
                        if let Some(loss) = losses.get_mut(usize::from(drop.reason)) {
                            loss.add(&Loss {
                                frames: drop.frames,
                                samples: drop.samples,
                                first_ms: drop.first_ms,
                                last_ms: drop.last_ms,
                            });
                        }
                    }
                    Event::Delivered(back) if headed => {
                        if let Some(loss) = losses.get_mut(usize::from(back.reason)) {
                            loss.take(back.frames, back.samples);
                        }
                    }
                    Event::Block { header, stale: false } => {
                        let newer = ack.is_none_or(|ack: u32| header.ack.wrapping_sub(ack) as i32 > 0);
                        ack = if newer { Some(header.ack) } else { ack };
                    }
                    Event::Frame(frame) if headed => frames.push(frame.number),
                    _ => {}
                }
                visit(slot, event);
            });
            if found.seq == 0 {
                summary.empty += 1;
                continue;
            }
            summary.segments += 1;
            summary.head_seq = summary.head_seq.max(found.seq);
            if summary.tail_seq == 0 {
                summary.tail_seq = found.seq;
            }
            let ahead = ack.map_or(0, |ack| ack.wrapping_sub(base as u32) as i32).max(0);
            let ack = FrameNo(base + u64::from(ahead.unsigned_abs()));
            summary.acknowledged = summary.acknowledged.max(ack);
            add(&mut summary.total, &found);
        }
        frames.sort_unstable();
        frames.dedup();
        summary.backlog_frames = frames.iter().filter(|&&frame| frame >= summary.acknowledged).count() as u64;
        summary
    }

    /// Walks one slot.
    pub fn walk(&mut self, slot: u32, mut visit: impl FnMut(&Event<'_>)) -> SlotSummary {
        self.summarise(slot, &mut visit)
    }

    fn summarise(&mut self, slot: u32, visit: &mut dyn FnMut(&Event<'_>)) -> SlotSummary {
        let mut summary = SlotSummary::default();
        if self.flash.storage.is_bad(slot) {
            visit(&Event::Finding(&Finding::BadSlot { slot }));
            return summary;
        }
        self.erase_header(slot, &mut summary, visit);
        self.index.scan(&mut self.flash, slot, &mut self.stream.block);
        self.blocks(slot, &mut summary, visit);
        self.stream.rewind();
        if self.index.entries.is_empty() {
            return summary;
        }
        summary.epoch = self.index.epoch();
        let last = self.index.entries.last();
        summary.clean = last.is_some_and(|last| last.flags & super::format::flag::CLEAN != 0);
        let mut foreign = false;
        self.records(slot, &mut summary, &mut |event| {
            foreign |= matches!(event, Event::Finding(Finding::Version { .. }));
            visit(event);
        });
        if self.stream.skipped > 0 {
            let blocks = self.stream.skipped;
            visit(&Event::Finding(&Finding::Skipped { slot, blocks }));
        }
        if summary.seq == 0 && !foreign {
            visit(&Event::Finding(&Finding::Headless { slot }));
        }
        summary
    }

    fn erase_header(&mut self, slot: u32, summary: &mut SlotSummary, visit: &mut dyn FnMut(&Event<'_>)) {
        if self.flash.geometry.medium == Medium::Rewritable {
            return;
        }
        let at = self.flash.geometry.block(slot, 0);
        let block = &mut self.stream.block;
        let header = match self.flash.storage.read(at, block) {
            Ok(()) => EraseHeader::parse(block).ok(),
            Err(_) => None,
        };
        match header.filter(|header| header.slot == slot && header.uuid == self.flash.uuid) {
            Some(header) => {
                summary.erase_count = header.erase_count;
                visit(&Event::Erased(header.erase_count));
            }
            None => visit(&Event::Finding(&Finding::EraseHeader { slot })),
        }
    }

    fn blocks(&mut self, slot: u32, summary: &mut SlotSummary, visit: &mut dyn FnMut(&Event<'_>)) {
        let geometry = self.flash.geometry;
        for index in geometry.first_block()..geometry.blocks_per_slot {
            let finding = match self.flash.load(slot, index, &mut self.stream.block) {
                Ok(header) => {
                    let stale = header.seq != self.index.seq;
                    if !stale {
                        summary.blocks += 1;
                        summary.payload_bytes += u64::from(header.used);
                    }
                    visit(&Event::Block { header, stale });
                    continue;
                }
                Err(Unreadable::Fault(Fault::Blank)) => continue,
                Err(Unreadable::Error) => Finding::Unreadable { slot, index },
                Err(Unreadable::Fault(fault)) => Finding::Block { slot, index, fault },
            };
            summary.faults += 1;
            visit(&Event::Finding(&finding));
        }
    }

    fn records(&mut self, slot: u32, summary: &mut SlotSummary, visit: &mut dyn FnMut(&Event<'_>)) {
        let mut tally = Tally::default();
        let mut definitions = DictionaryCheck::default();
        loop {
            let item = self.stream.next(&mut self.flash, &self.index, &mut self.record);
            match item {
                Item::End => return,
                Item::Restart { flags, dictionary } => {
                    let before = definitions.broken;
                    if definitions.restart(flags, dictionary) == Dictionary::Kept && definitions.broken && !before {
                        visit(&Event::Finding(&Finding::Dictionary { slot }));
                    }
                    tally.forget();
                    visit(&Event::Restart { flags });
                }
                Item::TooLarge { kind } => {
                    tally.forget();
                    let fault = RecordFault::TooLarge;
                    visit(&Event::Finding(&Finding::Record { slot, kind, fault }));
                }
                Item::Record { kind, len } => match self.one(slot, kind, len, &mut tally, summary, visit) {
                    Ok(true) => {
                        if matches!(kind, kind::TARGET | kind::DICT) {
                            definitions.record();
                        }
                    }
                    Ok(false) => return,
                    Err(fault) => visit(&Event::Finding(&Finding::Record { slot, kind, fault })),
                },
            }
        }
    }

    /// False: what follows cannot be understood.
    fn one(
        &mut self,
        slot: u32,
        kind: u8,
        len: usize,
        tally: &mut Tally,
        summary: &mut SlotSummary,
        visit: &mut dyn FnMut(&Event<'_>),
    ) -> Result<bool, RecordFault> {
        let bytes = &self.record[..len];
        match kind {
            kind::SEGMENT => {
                let header: SegmentHeader = record::parse(bytes)?;
                if header.major != MAJOR {
                    let major = header.major;
                    visit(&Event::Finding(&Finding::Version { slot, major }));
                    return Ok(false);
                }
                summary.seq = header.seq;
                visit(&Event::Segment(&header));
            }
            kind::START => {
                let start: Start = record::parse(bytes)?;
                if let Some(first) = self.expected.filter(|&expected| start.prior > expected.0) {
                    let end = FrameNo(start.prior);
                    visit(&Event::Finding(&Finding::Missing { slot, first, end }));
                }
                self.expected = Some(FrameNo(start.frame_no).max(self.expected.unwrap_or_default()));
                if start.wall_ms != record::UNKNOWN_MS && start.clock != 0 {
                    let (first, _) = summary.wall_ms;
                    summary.wall_ms = (if first == 0 { start.wall_ms } else { first }, start.wall_ms);
                }
                tally.start(&start);
                visit(&Event::Start(&start));
            }
            kind::FRAME => {
                let frame = tally.frame(bytes)?;
                let next = FrameNo(frame.number.0.saturating_add(1));
                self.expected = Some(next.max(self.expected.unwrap_or_default()));
                let (first, _) = summary.frames.unwrap_or((frame.number, frame.number));
                summary.frames = Some((first, frame.number));
                summary.frame_count += 1;
                summary.samples += u64::from(frame.samples.unwrap_or(0));
                summary.extras_bytes += u64::from(frame.extras_bytes);
                visit(&Event::Frame(&frame));
            }
            kind::TARGET => visit(&Event::Target(&record::parse(bytes)?)),
            kind::DICT => {
                let head = DictHead::parse(bytes)?;
                if head.method == 0 || self.compress.is_some() {
                    let entries = head.entries(self.compress.as_deref_mut(), &mut self.raw)?;
                    dictionary::verify(&head, entries, &mut self.text)?;
                }
                summary.series += u64::from(head.count);
                summary.dictionary_bytes += len as u64;
                visit(&Event::Dict(&head));
            }
            kind::CLOCK => visit(&Event::Clock(&record::parse(bytes)?)),
            kind::DROP => visit(&Event::Drop(&record::parse(bytes)?)),
            kind::DELIVERED => visit(&Event::Delivered(&record::parse(bytes)?)),
            kind::ACK => visit(&Event::Ack(&record::parse(bytes)?)),
            kind::AHEAD => drop(record::parse::<record::Ahead>(bytes)?),
            _ => {
                visit(&Event::Unknown { kind });
                return Ok(kind & kind::SKIPPABLE != 0);
            }
        }
        Ok(true)
    }
}

fn add(total: &mut SlotSummary, slot: &SlotSummary) {
    total.blocks += slot.blocks;
    total.faults += slot.faults;
    total.payload_bytes += slot.payload_bytes;
    total.frame_count += slot.frame_count;
    total.samples += slot.samples;
    total.extras_bytes += slot.extras_bytes;
    total.series += slot.series;
    total.dictionary_bytes += slot.dictionary_bytes;
    total.epoch = total.epoch.max(slot.epoch);
    total.erase_count = total.erase_count.max(slot.erase_count);
    total.clean = slot.clean;
    total.frames = match (total.frames, slot.frames) {
        (Some((first, _)), Some((_, last))) => Some((first, last)),
        (known, new) => known.or(new),
    };
    let (first, last) = total.wall_ms;
    total.wall_ms = (
        if first == 0 { slot.wall_ms.0 } else { first },
        if slot.wall_ms.1 == 0 { last } else { slot.wall_ms.1 },
    );
}
