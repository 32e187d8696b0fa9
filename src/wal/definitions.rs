//! Where a reader finds the definitions of a segment: on flash, one at a time.
//!
//! A reader keeps no texts. Of each series it knows the place of the DICT record that defines it, of each target that of
//! its TARGET record; what a sender asks for is read again from there. A record that was unpacked stays unpacked until
//! another one is wanted, and series are mostly asked for in the order in which they were defined.
//!
//! # Invariants
//!
//! - A place is noted only after the whole record was found sound.
//! - What cannot be read again is not made up: the series has no name, and the sender counts its samples (as damaged).
//!
//! # Limits and cost
//!
//! 3 bytes per series (4 where a segment is larger than 16 MiB) and a bit, 4 per target. The first series asked for of
//! a record costs reading and unpacking it (at most 16 KiB), another one a walk from the last one asked for, or from
//! the record's beginning if it lies before.

use super::dictionary::{self, Compress, DictHead, Entries};
use super::format::Geometry;
use super::record::{self, RecordFault, Target, kind};
use super::segment::Item;
use super::storage::Storage;
use super::{Ring, Scratch};
use crate::catalogue::bits::Bits;
use crate::catalogue::{Definition, SeriesText};
use crate::limits::{MAX_SERIES_TEXT_BYTES, MAX_TARGETS};
use crate::sample::{MetricType, SeriesRef, TargetRef};
use alloc::boxed::Box;
use alloc::vec;

/// Segments up to this long need 3 bytes for a place.
const SHORT_SEGMENT: u32 = 1 << 24;

/// What ends the name of a series that says when others began to count.
const CREATED: &str = "_created";

/// Bytes of a place.
const fn width(geometry: &Geometry) -> usize {
    if geometry.segment_bytes() <= SHORT_SEGMENT {
        3
    } else {
        4
    }
}

/// Where the definitions in force stand, as bytes from the beginning of the slot.
#[derive(Debug)]
pub(crate) struct Places {
    /// [`width`] bytes for each series, little-endian; 0: not defined (a block begins with its header).
    series: Box<[u8]>,
    width: usize,
    targets: [u32; MAX_TARGETS],
    /// Series called `_created`, without a type of their own.
    created: Bits,
    generation: u32,
}

impl Places {
    pub(crate) fn new(max_series: usize, geometry: &Geometry) -> Self {
        let width = width(geometry);
        Self {
            series: vec![0; max_series * width].into_boxed_slice(),
            width,
            targets: [0; MAX_TARGETS],
            created: Bits::new(max_series),
            generation: 0,
        }
    }

    /// Heap bytes for so many series.
    pub(crate) const fn ram_bytes(max_series: usize, geometry: &Geometry) -> usize {
        max_series * width(geometry) + Bits::ram_bytes(max_series)
    }

    /// Forgets every definition.
    pub(crate) fn clear(&mut self) {
        self.series.fill(0);
        self.targets = [0; MAX_TARGETS];
        self.created.clear();
        self.generation = self.generation.wrapping_add(1);
    }

    fn of_series(&self, s: SeriesRef) -> Option<u32> {
        let at = usize::from(s.0) * self.width;
        let bytes = self.series.get(at..at + self.width)?;
        let place = bytes.iter().rev().fold(0, |place, &byte| place << 8 | u32::from(byte));
        (place > 0).then_some(place)
    }

    fn of_target(&self, t: TargetRef) -> Option<u32> {
        self.targets.get(usize::from(t.0)).copied().filter(|&place| place > 0)
    }

    /// Whether a TARGET or DICT record is about a target or series that has a definition.
    pub(crate) fn redefines(&self, kind: u8, payload: &[u8]) -> bool {
        if kind == kind::TARGET {
            return record::parse::<Target<'_>>(payload)
                .is_ok_and(|target| self.of_target(TargetRef(target.index)).is_some());
        }
        DictHead::parse(payload).is_ok_and(|head| {
            // `parse` keeps the sum below 2^16.
            (head.first..head.first + head.count).any(|index| self.of_series(SeriesRef(index)).is_some())
        })
    }

    /// Notes the TARGET or DICT record in the scratch buffer, which stands at `place`.
    ///
    /// # Errors
    /// [`RecordFault`]; every definition is as it was.
    pub(crate) fn define(
        &mut self,
        kind: u8,
        len: usize,
        place: u32,
        scratch: &mut Scratch,
    ) -> Result<(), RecordFault> {
        // Even if the record is refused: the buffers no longer hold what a view found in them.
        self.generation = self.generation.wrapping_add(1);
        let payload = &scratch.record[..len];
        if kind == kind::TARGET {
            let target: Target<'_> = record::parse(payload)?;
            let known = self.targets.get_mut(usize::from(target.index));
            match known {
                Some(known) if target.body.len() <= MAX_SERIES_TEXT_BYTES => *known = place,
                _ => return Err(RecordFault::TooLarge),
            }
        } else {
            let head = DictHead::parse(payload)?;
            let end = usize::from(head.first) + usize::from(head.count);
            if end * self.width > self.series.len() {
                return Err(RecordFault::TooLarge);
            }
            let entries = head.entries(scratch.compress.as_deref_mut(), &mut scratch.raw)?;
            dictionary::verify(&head, entries, &mut scratch.text)?;
            let mut entries = Entries::new(entries, &mut scratch.text);
            for index in usize::from(head.first)..end {
                let (text, kind) = entries.next_entry()?;
                let created = kind == MetricType::Unknown && text.name.ends_with(CREATED);
                self.created.put(index, created);
                self.series[index * self.width..][..self.width].copy_from_slice(&place.to_le_bytes()[..self.width]);
            }
        }
        Ok(())
    }
}

/// A DICT record unpacked in the scratch buffers.
#[derive(Clone, Copy, Debug)]
struct Unpacked {
    place: u32,
    target: TargetRef,
    first: u16,
    count: u16,
    raw_len: usize,
    /// Entries read so far, and their bytes.
    read: u16,
    at: usize,
    /// The last one read, in the text buffer.
    text_len: usize,
    kind: MetricType,
}

/// What the scratch buffers hold of a reader's definitions.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Of the places that the rest is of.
    generation: u32,
    record: Option<Unpacked>,
    /// Target whose labels are in the buffer, and their length.
    target: Option<(TargetRef, usize)>,
}

impl<S: Storage> Ring<S> {
    /// [`crate::catalogue::Definitions::generation`] of what reader `remote` stands in.
    pub(crate) fn definitions_generation(&self, remote: usize) -> u32 {
        let reader = self.readers.get(remote).and_then(Option::as_ref);
        // Apart from those of a catalogue in memory.
        reader.map_or(0, |reader| reader.places.generation | 1 << 31)
    }

    fn refresh(&self, remote: usize, view: &mut View) {
        let generation = self.definitions_generation(remote);
        if view.generation != generation {
            *view = View {
                generation,
                ..View::default()
            };
        }
    }

    /// Reads the record at `place` of the segment that reader `remote` stands in; its kind and length.
    fn read_again(&mut self, remote: usize, place: u32) -> Option<(u8, usize)> {
        let reader = self.readers.get(remote)?.as_ref()?;
        let stream = &mut self.spare.stream;
        if !stream.stand(&mut self.flash, &reader.index, place) {
            return None;
        }
        match stream.next(&mut self.flash, &reader.index, &mut self.scratch.record) {
            Item::Record { kind, len } => Some((kind, len)),
            _ => None,
        }
    }

    fn unpack(&mut self, remote: usize, place: u32, view: &mut View) -> Option<Unpacked> {
        if let Some(unpacked) = view.record.filter(|unpacked| unpacked.place == place) {
            return Some(unpacked);
        }
        view.record = None;
        let (kind, len) = self.read_again(remote, place)?;
        let scratch = &mut self.scratch;
        let head = DictHead::parse(&scratch.record[..len])
            .ok()
            .filter(|_| kind == kind::DICT)?;
        let compress: Option<&mut (dyn Compress + 'static)> = scratch.compress.as_deref_mut();
        let raw_len = head.entries(compress, &mut scratch.raw).ok()?.len();
        Some(Unpacked {
            place,
            target: head.target,
            first: head.first,
            count: head.count,
            raw_len,
            read: 0,
            at: 0,
            text_len: 0,
            kind: MetricType::Unknown,
        })
    }

    /// Puts the text of `s` into the buffer. What it gives is also in `view`.
    fn read_definition(&mut self, remote: usize, s: SeriesRef, view: &mut View) -> Option<Unpacked> {
        self.refresh(remote, view);
        let place = self.readers.get(remote)?.as_ref()?.places.of_series(s)?;
        let mut unpacked = self.unpack(remote, place, view)?;
        let wanted = s.0.checked_sub(unpacked.first).filter(|&nth| nth < unpacked.count)?;
        if wanted + 1 < unpacked.read {
            (unpacked.read, unpacked.at, unpacked.text_len) = (0, 0, 0);
        }
        // Until it is known how far this goes.
        view.record = None;
        let scratch = &mut self.scratch;
        let raw = &scratch.raw[..unpacked.raw_len];
        let mut entries = Entries::resume(&raw[unpacked.at..], &mut scratch.text, unpacked.text_len);
        while unpacked.read <= wanted {
            unpacked.kind = entries.advance().ok()?;
            unpacked.read += 1;
        }
        (unpacked.at, unpacked.text_len) = (unpacked.raw_len - entries.left(), entries.text_len());
        view.record = Some(unpacked);
        Some(unpacked)
    }

    fn read_target(&mut self, remote: usize, t: TargetRef, view: &mut View) -> Option<usize> {
        self.refresh(remote, view);
        if let Some((_, len)) = view.target.filter(|&(target, _)| target == t) {
            return Some(len);
        }
        view.target = None;
        let reader = self.readers.get(remote)?.as_ref()?;
        let len = match reader.places.of_target(t) {
            // Never defined: it has no labels.
            None => 0,
            Some(place) => {
                let (kind, len) = self.read_again(remote, place)?;
                let target: Target<'_> = record::parse(&self.scratch.record[..len]).ok()?;
                if kind != kind::TARGET || target.index != t.0 {
                    return None;
                }
                let to = self.spare.target.get_mut(..target.body.len())?;
                to.copy_from_slice(target.body.as_bytes());
                to.len()
            }
        };
        view.target = Some((t, len));
        Some(len)
    }

    /// [`crate::catalogue::Definitions::definition`] for reader `remote`.
    pub(crate) fn definition(
        &mut self,
        remote: usize,
        s: SeriesRef,
        t: TargetRef,
        view: &mut View,
    ) -> Option<Definition<'_>> {
        let unpacked = self.read_definition(remote, s, view)?;
        let body_len = self.read_target(remote, t, view)?;
        Some(Definition {
            text: dictionary::split(self.scratch.text.get(..unpacked.text_len)?).ok()?,
            kind: unpacked.kind,
            target: unpacked.target,
            target_body: core::str::from_utf8(self.spare.target.get(..body_len)?).ok()?,
        })
    }

    /// [`crate::catalogue::Definitions::text`] for reader `remote`.
    pub(crate) fn stored_text(&mut self, remote: usize, s: SeriesRef, view: &mut View) -> Option<SeriesText<'_>> {
        let unpacked = self.read_definition(remote, s, view)?;
        dictionary::split(self.scratch.text.get(..unpacked.text_len)?).ok()
    }

    /// [`crate::catalogue::Definitions::target_body`] for reader `remote`.
    pub(crate) fn stored_target(&mut self, remote: usize, t: TargetRef, view: &mut View) -> Option<&str> {
        let len = self.read_target(remote, t, view)?;
        core::str::from_utf8(self.spare.target.get(..len)?).ok()
    }

    /// [`crate::catalogue::Definitions::find_created`] for reader `remote`.
    pub(crate) fn find_created(
        &mut self,
        remote: usize,
        t: TargetRef,
        text: SeriesText<'_>,
        near: SeriesRef,
        view: &mut View,
    ) -> Option<SeriesRef> {
        let is_it = |ring: &mut Self, index: usize, view: &mut View| {
            // Bits are kept of series only.
            let s = SeriesRef(index as u16);
            let found = ring.read_definition(remote, s, view)?;
            let own = dictionary::split(ring.scratch.text.get(..found.text_len)?).ok()?;
            (own == text && found.target == t).then_some(s)
        };
        let near = usize::from(near.0);
        for (from, to) in [(near, usize::MAX), (0, near)] {
            let mut at = from;
            while let Some(index) = self.readers.get(remote)?.as_ref()?.places.created.next_set(at)
                && index < to
            {
                if let Some(found) = is_it(self, index, view) {
                    return Some(found);
                }
                at = index + 1;
            }
        }
        None
    }
}
