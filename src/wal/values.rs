//! Every frame of an image with its values, oldest first: for tools that take a ring apart.
//!
//! Where [`super::inspect`] tells what a ring is made of, [`FrameReader`] gives what it holds, acknowledged or not. It goes through
//! the ring as often as it is asked to, writes nothing and bears any image: what cannot be read is counted and passed over. The
//! frames are decoded by the same code as the drain's.
//!
//! A frame's wall time comes from everything the ring says of its boot, also where the statement stands in a later
//! segment than the frame; of rings with more than 64 boots the offsets of the oldest may be missing on later passes.
//!
//! # Memory
//!
//! A codec, a frame and a catalogue for as many series as the image defines (about 110 bytes each, 7 MiB at most) and for the
//! texts of the largest segment (256 MiB at most), and the inspector's buffers.

use super::boot_key;
use super::boots::Boots;
use super::format::MAJOR;
use super::frame_coding::Decoder;
use super::inspect::{Event, Inspector, Summary};
use super::mount::define_from;
use super::record::{self, Clock, SegmentHeader, Start, kind};
use super::segment::{Dictionary, DictionaryCheck, Item};
use super::storage::Storage;
use crate::catalogue::Catalogue;
use crate::frame::{Frame, FrameNo};
use crate::limits::{MAX_SERIES, MAX_TARGETS};
use crate::value::codec::CodecId;
use alloc::vec::Vec;

/// Most bytes of a segment's texts; beyond it definitions are not understood, and their frames are counted as unreadable.
const MAX_TEXT_BYTES: usize = 256 << 20;

/// Bytes an entry may share with the one before it: they are counted with every entry.
const SHARED_BYTES: usize = 2 * 255;

/// Reads an image frame by frame.
pub struct FrameReader<S: Storage> {
    inspector: Inspector<S>,
    summary: Summary,
    /// Slots with a segment, oldest first.
    slots: Vec<u32>,
    boots: Boots,
    decoder: Decoder,
    catalogue: Catalogue,
    frame: Frame,
}

impl<S: Storage> core::fmt::Debug for FrameReader<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FrameReader")
            .field("inspector", &self.inspector)
            .field("segments", &self.slots.len())
            .finish_non_exhaustive()
    }
}

/// A frame in its place.
#[derive(Debug)]
pub struct Read<'a> {
    /// The frame; its wall time is set if it is known.
    pub frame: &'a Frame,
    /// Names its series.
    pub catalogue: &'a mut Catalogue,
    /// Changes with every change of the catalogue: as long as it stays the same, a reference means the same series.
    pub generation: u64,
}

/// State of one pass.
struct Pass {
    generation: u64,
    /// Frame number that must be reached.
    from: FrameNo,
    unreadable: u64,
    definitions: DictionaryCheck,
}

impl<S: Storage> FrameReader<S> {
    /// Goes through the image once, to learn the order of its segments, its clocks and its sizes.
    #[must_use]
    pub fn new(mut inspector: Inspector<S>) -> Self {
        let mut slots = Vec::new();
        let mut boots = Boots::default();
        let mut text = (0, 0);
        let (mut series, mut samples, mut extras) = (1, 1, 0);
        let summary = inspector.survey(|slot, event| match event {
            Event::Segment(_) => {
                text.0 = 0;
                slots.push(slot);
            }
            Event::Start(start) => boots.note(boot_key(&start.boot_id), start.mono_ms, start.wall_ms, start.clock),
            Event::Clock(clock) => boots.note(clock.boot, clock.mono_ms, clock.wall_ms, clock.source),
            Event::Frame(frame) => {
                samples = samples.max(frame.samples.unwrap_or(0) as usize);
                extras = extras.max(frame.extras_bytes as usize);
            }
            Event::Target(target) => {
                text.0 += target.body.len() + SHARED_BYTES;
                text.1 = text.1.max(text.0);
            }
            Event::Dict(dict) => {
                let bytes = usize::from(dict.count) * SHARED_BYTES;
                text.0 = text.0.saturating_add(bytes).saturating_add(dict.raw_len);
                text.1 = text.1.max(text.0);
                series = series.max(usize::from(dict.first) + usize::from(dict.count));
            }
            _ => {}
        });
        slots.dedup();
        // A frame may hold a series twice, or mark all of them.
        let samples = samples.max(series).min(MAX_SERIES);
        let text_bytes = (text.1 + text.1 / 16 + 4096).min(MAX_TEXT_BYTES);
        Self {
            inspector,
            summary,
            slots,
            boots,
            decoder: Decoder::new(CodecId::default(), series),
            catalogue: Catalogue::new(series, text_bytes, MAX_TARGETS),
            frame: Frame::with_extras(samples, extras),
        }
    }

    /// Samples of the largest frame it can read, and bytes of what they carry.
    #[must_use]
    pub fn frame_capacity(&self) -> (usize, usize) {
        (self.frame.samples.capacity(), self.frame.extras.capacity())
    }

    /// A frame that takes whatever this reads. Allocates.
    #[must_use]
    pub fn frame_like(&self) -> Frame {
        Frame::with_extras(self.frame.samples.capacity(), self.frame.extras.capacity())
    }

    /// What the image holds.
    #[must_use]
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Gives every frame that can be read to `visit`, in rising number, none twice. Returns how many are there but
    /// cannot be read.
    pub fn for_each(&mut self, mut visit: impl FnMut(&mut Read<'_>)) -> u64 {
        let mut pass = Pass {
            generation: 0,
            from: FrameNo(0),
            unreadable: 0,
            definitions: DictionaryCheck::default(),
        };
        for place in 0..self.slots.len() {
            self.segment(self.slots[place], &mut pass, &mut visit);
        }
        pass.unreadable
    }

    fn segment(&mut self, slot: u32, pass: &mut Pass, visit: &mut dyn FnMut(&mut Read<'_>)) {
        let inspector = &mut self.inspector;
        inspector
            .index
            .scan(&mut inspector.flash, slot, &mut inspector.stream.block);
        inspector.stream.rewind();
        self.catalogue.clear();
        self.decoder.forget();
        pass.generation += 1;
        pass.definitions = DictionaryCheck::default();
        loop {
            let inspector = &mut self.inspector;
            let item = inspector
                .stream
                .next(&mut inspector.flash, &inspector.index, &mut inspector.record);
            match item {
                Item::End => return,
                Item::Restart { flags, dictionary } => {
                    if pass.definitions.restart(flags, dictionary) == Dictionary::Anew {
                        self.catalogue.clear();
                        pass.generation += 1;
                    }
                    self.decoder.forget();
                }
                Item::TooLarge { kind } => {
                    pass.unreadable += u64::from(kind == kind::FRAME);
                    pass.definitions.broken |= matches!(kind, kind::DICT | kind::TARGET);
                    self.decoder.forget();
                }
                Item::Record { kind, len } => {
                    if !self.record(kind, len, pass, visit) {
                        return;
                    }
                }
            }
        }
    }

    /// False: what follows in the segment cannot be understood.
    fn record(&mut self, kind: u8, len: usize, pass: &mut Pass, visit: &mut dyn FnMut(&mut Read<'_>)) -> bool {
        let inspector = &mut self.inspector;
        let bytes = &inspector.record[..len];
        match kind {
            kind::SEGMENT => {
                let header = record::parse::<SegmentHeader>(bytes).ok();
                let codec = header.filter(|header| header.major == MAJOR);
                match codec.and_then(|header| CodecId::from_byte(header.codec)) {
                    Some(codec) => self.decoder.use_codec(codec),
                    None => return false,
                }
            }
            kind::START => {
                let Ok(start) = record::parse::<Start>(bytes) else {
                    self.decoder.forget();
                    return true;
                };
                self.boots
                    .note(boot_key(&start.boot_id), start.mono_ms, start.wall_ms, start.clock);
                if pass.definitions.broken {
                    self.decoder.forget();
                } else {
                    self.decoder.start(&start);
                }
            }
            kind::CLOCK => {
                if let Ok(clock) = record::parse::<Clock>(bytes) {
                    self.boots.note(clock.boot, clock.mono_ms, clock.wall_ms, clock.source);
                }
            }
            kind::TARGET | kind::DICT => {
                pass.generation += 1;
                pass.definitions.record();
                let compress = inspector.compress.as_deref_mut();
                let (raw, text) = (&mut inspector.raw, &mut inspector.text);
                if define_from(kind, bytes, compress, raw, text, &mut self.catalogue).is_err() {
                    pass.definitions.broken = true;
                    self.decoder.forget();
                }
            }
            kind::FRAME => {
                // Without a number it cannot be said whether it is one read before: a copy counts as well.
                if self.decoder.next().is_none() || self.decoder.decode(bytes, &mut self.frame).is_err() {
                    pass.unreadable += 1;
                } else if self.frame.number >= pass.from {
                    pass.from = FrameNo(self.frame.number.0.saturating_add(1));
                    self.frame.unix_ms = self.boots.unix_ms(self.decoder.boot(), self.frame.time_ms);
                    visit(&mut Read {
                        frame: &self.frame,
                        catalogue: &mut self.catalogue,
                        generation: pass.generation,
                    });
                }
            }
            kind::DROP | kind::ACK => {}
            other => return other & kind::SKIPPABLE != 0,
        }
        true
    }
}
