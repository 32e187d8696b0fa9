//! Writes the series of a batch behind its strings.

use super::carried::{Content, Waiting};
use super::describe;
use super::dictionary::{Dictionary, Slot};
use super::late::Late;
use super::{Batch, Entry};
use crate::frame::Full;
use crate::limits::MAX_LABELS;
use crate::metadata::Metadata;
use crate::remote_write::proto::{self, SampleOrder, SeriesMetadata};
use crate::remote_write::response::Protocol;
use crate::value::varint::{Sink, len_u64};
use core::ops::Range;

/// How samples are spread over series entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One sample per entry: in 1.0 in scrape order, in 2.0 by time, see [`Batch::sort`].
    Live,
    /// One entry per series, samples by time.
    Grouped,
}

/// Bytes of one entry without its samples; an upper bound, exact up to the length prefix. `body_bytes` bounds that.
pub(super) fn series_bytes(dictionary: &Dictionary, slot: &Slot, protocol: Protocol, body_bytes: usize) -> usize {
    let head = 1 + len_u64(body_bytes as u64);
    head + match protocol {
        Protocol::V1 => slot.label_bytes_v1 as usize,
        Protocol::V2 => proto::len_label_refs(dictionary.references(slot)) + of_type(slot).len(),
    }
}

fn of_type(slot: &Slot) -> SeriesMetadata {
    SeriesMetadata {
        kind: slot.kind,
        ..SeriesMetadata::default()
    }
}

impl Batch {
    /// Writes the body; [`Layout::Live`] becomes [`Layout::Grouped`] when it would not fit. Returns the layout used.
    ///
    /// Gathering after this needs a [`Batch::begin`] first.
    pub fn seal(&mut self, wanted: Layout) -> Layout {
        self.seal_with(wanted, None)
    }

    /// As [`Batch::seal`]; in live layout and a 2.0 message the series also say what `metadata` knows of them, as far as there
    /// is room for it.
    pub fn seal_with(&mut self, wanted: Layout, metadata: Option<&Metadata>) -> Layout {
        let layout = match wanted {
            Layout::Live if self.live_bytes(0..self.entries.len()) <= self.body.len() => Layout::Live,
            _ => Layout::Grouped,
        };
        self.sort(layout);
        self.write(layout, 0..self.entries.len(), metadata);
        layout
    }

    /// Writes entries that are in the order of `layout`. Their strings, and no others, are part of the request.
    pub(super) fn write(&mut self, layout: Layout, range: Range<usize>, metadata: Option<&Metadata>) {
        let mut described = metadata
            .filter(|_| layout == Layout::Live && self.protocol == Protocol::V2)
            .and_then(|metadata| {
                // Two references more per entry than `live_bytes` counts.
                let needed = self.live_bytes(range.clone()) + range.len() * 2 * (1 + proto::MAX_REFERENCE_BYTES);
                let room = self.body.len().checked_sub(needed)?;
                Some(Describing { metadata, room })
            });
        let carried_at = self.carried_at();
        let (front, carried) = self.body.split_at_mut(carried_at);
        let carried = Carried {
            bytes: carried,
            at: carried_at,
        };
        let mut entries: &[Entry] = self.entries.get(range).unwrap_or_default();
        self.late.clear();
        if self.protocol == Protocol::V2 {
            let exemplars = entries.iter().filter_map(|e| carried.exemplar(e));
            for text in exemplars.flat_map(Waiting::strings) {
                self.dictionary.refer(text);
            }
        }
        if let Some(describing) = &mut described {
            describing.refer(&mut self.dictionary);
        }
        let mut writer = Writer {
            dictionary: &self.dictionary,
            times: &self.times,
            starts: starts_of(self.protocol, &self.starts),
            protocol: self.protocol,
            carried,
            late: &mut self.late,
            described,
            order: match (layout, self.protocol) {
                (Layout::Live, Protocol::V2) => SampleOrder::ValueLast,
                _ => SampleOrder::ValueFirst,
            },
            sink: SliceSink { out: front, len: 0 },
        };
        // The sizes were summed up while gathering: all of it fits.
        let symbols = writer.symbols(entries);
        debug_assert!(symbols.is_ok(), "{symbols:?}");
        while let Some(first) = entries.first() {
            let behind = entries.iter().skip(1);
            let run = match layout {
                Layout::Live => behind.take_while(|e| e.is_exemplar()).count(),
                Layout::Grouped => behind.take_while(|e| e.slot == first.slot).count(),
            };
            let (group, rest) = entries.split_at(run + 1);
            let written = writer.series(group);
            debug_assert!(written.is_ok(), "{written:?}");
            entries = rest;
        }
        self.sealed = writer.sink.len;
    }

    /// Brings entries into the order of `layout`.
    ///
    /// A live 2.0 body is for snappy, which copies what stood in the series before up to the first byte that differs. Labels are numbers
    /// there: series of one [shape](Slot::shape) have their fields in the same places, and values that end in the same bytes, zeros above all, do best
    /// side by side. Live bodies of recorded scrapes are 5 % smaller for it. In 1.0 labels are written out, and the order of the scrape is better.
    ///
    /// What has another time stays where it is, and with it the samples of a series in the order of time. Exemplars must stay behind their sample: a batch
    /// with any is left as it is.
    pub(super) fn sort(&mut self, layout: Layout) {
        if layout == Layout::Grouped {
            self.join_twins();
        }
        let (dictionary, times) = (&self.dictionary, &self.times);
        let time = |e: &Entry| times.get(usize::from(e.time_index())).copied();
        match (layout, self.protocol) {
            (Layout::Grouped, _) => self
                .entries
                .sort_unstable_by_key(|e| (e.slot, time(e), e.time_index(), e.is_exemplar())),
            (Layout::Live, Protocol::V2) if self.counts.exemplars == 0 => self
                .entries
                .chunk_by_mut(|a, b| a.time == b.time)
                .for_each(|of_one_time| sort_by_likeness(of_one_time, dictionary)),
            (Layout::Live, _) => {}
        }
    }

    /// The bytes to compress and send; valid after [`Batch::seal`] until the next [`Batch::begin`].
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.get(..self.sealed).unwrap_or_default()
    }

    /// Bytes of the strings in front of the series.
    pub(super) const fn symbol_bytes(&self) -> usize {
        match self.protocol {
            Protocol::V1 => 0,
            Protocol::V2 => self.dictionary.symbols().used_bytes(),
        }
    }

    /// Bytes that the strings of exemplars may take.
    pub(super) const fn late_bytes(&self) -> usize {
        match self.protocol {
            Protocol::V1 => 0,
            Protocol::V2 => self.late_bytes,
        }
    }

    /// Bytes of a body of these entries in live layout, with what waits at its end, at most.
    fn live_bytes(&self, range: Range<usize>) -> usize {
        let samples = self.entries.get(range.clone()).unwrap_or_default();
        let samples = samples.iter().filter(|entry| !entry.is_exemplar());
        let series: usize = samples.map(|entry| self.series_bytes(entry)).sum();
        series + self.content_bytes(range) + self.symbol_bytes() + self.late_bytes() + self.carried
    }

    /// Bytes of a series entry for `entry`, without its samples.
    pub(super) fn series_bytes(&self, entry: &Entry) -> usize {
        let slot = self.dictionary.slot(entry.slot);
        slot.map_or(0, |slot| {
            series_bytes(&self.dictionary, slot, self.protocol, self.body.len())
        })
    }

    /// Bytes of the samples, histograms and exemplars of these entries, at most.
    pub(super) fn content_bytes(&self, range: Range<usize>) -> usize {
        let starts = starts_of(self.protocol, &self.starts);
        let content = |entry: &Entry| {
            let (time, start) = entry.times(&self.times, starts);
            match entry.content() {
                Content::Float(bits) => proto::len_sample(bits, time, start),
                Content::Histogram(message) => proto::len_histogram(message.len(), time, start),
                Content::Exemplar(range) => self.body.get(range).and_then(Waiting::read).map_or(0, |exemplar| {
                    let point = exemplar.point;
                    match self.protocol {
                        Protocol::V1 => proto::len_exemplar_v1(exemplar.label_bytes_v1(), point),
                        Protocol::V2 => proto::max_exemplar_v2(exemplar.strings().count(), point),
                    }
                }),
            }
        };
        self.entries.get(range).unwrap_or_default().iter().map(content).sum()
    }
}

/// Start timestamps are for 2.0 alone.
const fn starts_of(protocol: Protocol, starts: &[i64]) -> &[i64] {
    match protocol {
        Protocol::V1 => &[],
        Protocol::V2 => starts,
    }
}

/// `entries` have one time: while they are sorted its index gives its place to the shape, so that a comparison looks nothing up.
fn sort_by_likeness(entries: &mut [Entry], dictionary: &Dictionary) {
    let Some(time) = entries.first().map(|entry| entry.time) else {
        return;
    };
    for entry in &mut *entries {
        entry.time = dictionary.slot(entry.slot).map_or(0, Slot::shape);
    }
    entries.sort_unstable_by_key(|e| (e.time, u64::from_be_bytes(e.bits), e.slot));
    for entry in entries {
        entry.time = time;
    }
}

/// Writes into a fixed slice from the front.
pub(super) struct SliceSink<'a> {
    pub out: &'a mut [u8],
    pub len: usize,
}

impl Sink for SliceSink<'_> {
    // In line, heads of a few bytes are a store each and not a call.
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let limit = self.out.len();
        let end = self.len + bytes.len();
        let place = self.out.get_mut(self.len..end).ok_or(Full { limit })?;
        place.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}

/// The end of the body, where histograms and exemplars wait.
#[derive(Clone, Copy)]
struct Carried<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Carried<'a> {
    fn get(self, range: &Range<usize>) -> &'a [u8] {
        let place = range.start.checked_sub(self.at).zip(range.end.checked_sub(self.at));
        place
            .and_then(|(from, to)| self.bytes.get(from..to))
            .unwrap_or_default()
    }

    fn exemplar(self, entry: &Entry) -> Option<Waiting<'a>> {
        match entry.content() {
            Content::Exemplar(range) => Waiting::read(self.get(&range)),
            _ => None,
        }
    }
}

struct Writer<'a> {
    dictionary: &'a Dictionary,
    times: &'a [i64],
    starts: &'a [i64],
    protocol: Protocol,
    carried: Carried<'a>,
    late: &'a mut Late,
    described: Option<Describing<'a>>,
    order: SampleOrder,
    sink: SliceSink<'a>,
}

/// Help texts and units that may go into the body.
struct Describing<'a> {
    metadata: &'a Metadata,
    /// Bytes left for them.
    room: usize,
}

impl Describing<'_> {
    /// Makes those part of the request that are kept as symbols anyway.
    fn refer(&mut self, dictionary: &mut Dictionary) {
        let mut index = 0;
        while let Some(slot) = dictionary.used_slot(index) {
            index += 1;
            let Some(entry) = describe::find(self.metadata, dictionary, slot) else {
                continue;
            };
            for text in [entry.help, entry.unit] {
                if self.takes(text) {
                    let before = dictionary.symbols().used_bytes();
                    dictionary.refer(text.as_bytes());
                    self.room -= dictionary.symbols().used_bytes() - before;
                }
            }
        }
    }

    fn takes(&self, text: &str) -> bool {
        !text.is_empty() && proto::len_field(text.len()) <= self.room
    }
}

impl Writer<'_> {
    fn symbols(&mut self, entries: &[Entry]) -> Result<(), Full> {
        if self.protocol == Protocol::V1 {
            return Ok(());
        }
        let sink = &mut self.sink;
        self.dictionary
            .symbols()
            .used()
            .try_for_each(|text| proto::put_symbol(sink, text))?;
        let carried = self.carried;
        entries
            .iter()
            .filter_map(|entry| carried.exemplar(entry))
            .flat_map(Waiting::strings)
            .try_for_each(|text| self.late_symbol(text))?;
        self.descriptions()
    }

    /// The help texts and units, as far as there is room.
    fn descriptions(&mut self) -> Result<(), Full> {
        let Some(mut describing) = self.described.take() else {
            return Ok(());
        };
        let dictionary = self.dictionary;
        for slot in dictionary.used() {
            let Some(entry) = describe::find(describing.metadata, dictionary, slot) else {
                continue;
            };
            for text in [entry.help, entry.unit] {
                if describing.takes(text) && !self.late.is_full() {
                    let before = self.sink.len;
                    self.late_symbol(text.as_bytes())?;
                    describing.room -= self.sink.len - before;
                }
            }
        }
        self.described = Some(describing);
        Ok(())
    }

    fn metadata(&self, slot: &Slot) -> SeriesMetadata {
        let known = self.described.as_ref();
        let entry = known.and_then(|describing| describe::find(describing.metadata, self.dictionary, slot));
        let reference = |text: &str| {
            if text.is_empty() {
                0
            } else {
                self.reference(text.as_bytes())
            }
        };
        SeriesMetadata {
            help: entry.map_or(0, |entry| reference(entry.help)),
            unit: entry.map_or(0, |entry| reference(entry.unit)),
            ..of_type(slot)
        }
    }

    /// Makes `text` a string of the request if it is not yet.
    fn late_symbol(&mut self, text: &[u8]) -> Result<(), Full> {
        if self.dictionary.symbols().find(text).is_some() || self.late.find(self.sink.out, text).is_some() {
            return Ok(());
        }
        proto::put_symbol(&mut self.sink, text)?;
        let at = self.sink.len - text.len();
        self.late.add(self.sink.out, at, text)
    }

    /// The reference of a string that is part of the request; 0, the empty one, for one that is not.
    fn reference(&self, text: &[u8]) -> u32 {
        let symbols = self.dictionary.symbols();
        match symbols.find(text) {
            Some(id) => symbols.reference_of(id).unwrap_or_default().into(),
            None => self
                .late
                .find(self.sink.out, text)
                .map_or(0, |index| symbols.used_len() as u32 + u32::from(index)),
        }
    }

    fn references(&self, exemplar: Waiting<'_>) -> impl Iterator<Item = u32> + Clone {
        exemplar.strings().map(|text| self.reference(text))
    }

    fn len(&self, entry: &Entry) -> usize {
        let (time, start) = entry.times(self.times, self.starts);
        match entry.content() {
            Content::Float(bits) => proto::len_sample(bits, time, start),
            Content::Histogram(message) => proto::len_histogram(message.len(), time, start),
            Content::Exemplar(_) => self.carried.exemplar(entry).map_or(0, |exemplar| {
                let point = exemplar.point;
                match self.protocol {
                    Protocol::V1 => proto::len_exemplar_v1(exemplar.label_bytes_v1(), point),
                    Protocol::V2 => proto::len_exemplar_v2(self.references(exemplar), point),
                }
            }),
        }
    }

    /// One entry: all of `group` is of the same series.
    fn series(&mut self, group: &[Entry]) -> Result<(), Full> {
        let Some(slot) = group.first().and_then(|e| self.dictionary.slot(e.slot)) else {
            return Ok(());
        };
        let contents: usize = group.iter().map(|entry| self.len(entry)).sum();
        match self.protocol {
            Protocol::V1 => {
                proto::begin_series_v1(&mut self.sink, slot.label_bytes_v1 as usize, contents)?;
                for (name, value) in self.dictionary.labels(slot) {
                    proto::put_label(&mut self.sink, name, value)?;
                }
                self.contents(group)
            }
            Protocol::V2 => {
                let references = self.dictionary.references(slot);
                let metadata = self.metadata(slot);
                proto::begin_series_v2(&mut self.sink, references, contents + metadata.len())?;
                if self.order == SampleOrder::ValueLast {
                    metadata.put(&mut self.sink)?;
                    return self.contents(group);
                }
                self.contents(group)?;
                metadata.put(&mut self.sink)
            }
        }
    }

    /// Samples or histograms, then exemplars.
    fn contents(&mut self, group: &[Entry]) -> Result<(), Full> {
        for entry in group {
            let (time, start) = entry.times(self.times, self.starts);
            match entry.content() {
                Content::Float(bits) => proto::put_sample(&mut self.sink, self.order, bits, time, start)?,
                Content::Histogram(message) => {
                    let message = self.carried.get(&message);
                    proto::put_histogram(&mut self.sink, self.protocol, message, time, start)?;
                }
                Content::Exemplar(_) => {}
            }
        }
        let carried = self.carried;
        group
            .iter()
            .filter_map(|entry| carried.exemplar(entry))
            .try_for_each(|exemplar| self.exemplar(exemplar))
    }

    fn exemplar(&mut self, exemplar: Waiting<'_>) -> Result<(), Full> {
        let point = exemplar.point;
        if self.protocol == Protocol::V2 {
            let mut references = heapless::Vec::<u32, { 2 * MAX_LABELS }>::new();
            // A label set has no more.
            references.extend(self.references(exemplar));
            return proto::put_exemplar_v2(&mut self.sink, references.iter().copied(), point);
        }
        proto::begin_exemplar_v1(&mut self.sink, exemplar.label_bytes_v1(), point)?;
        let mut strings = exemplar.strings();
        while let (Some(name), Some(value)) = (strings.next(), strings.next()) {
            proto::put_label(&mut self.sink, name, value)?;
        }
        point.put(&mut self.sink)
    }
}

/// Body of a 2.0 request without samples: the empty symbol alone. A 1.0 one has no bytes at all.
pub const EMPTY_V2: [u8; 2] = [0x22, 0x00];
