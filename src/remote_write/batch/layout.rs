//! Writes the series of a batch behind its strings.

use super::dictionary::{Dictionary, Slot};
use super::{Batch, Entry};
use crate::frame::Full;
use crate::remote_write::proto;
use crate::remote_write::response::Protocol;
use crate::value::varint::{Sink, len_u64};

/// How samples are spread over series entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One sample per entry, in scrape order.
    Live,
    /// One entry per series, samples by time.
    Grouped,
}

/// Bytes of one entry without its samples; an upper bound, exact up to the length prefix. `body_bytes` bounds that.
pub(super) fn series_bytes(dictionary: &Dictionary, slot: &Slot, protocol: Protocol, body_bytes: usize) -> usize {
    let head = 1 + len_u64(body_bytes as u64);
    head + match protocol {
        Protocol::V1 => slot.label_bytes_v1 as usize,
        Protocol::V2 => proto::len_label_refs(dictionary.references(slot)) + proto::len_metadata(slot.kind),
    }
}

impl Batch {
    /// Writes the body; [`Layout::Live`] becomes [`Layout::Grouped`] when it would not fit. Returns the layout used.
    ///
    /// Gathering after this needs a [`Batch::begin`] first.
    pub fn seal(&mut self, wanted: Layout) -> Layout {
        let layout = match wanted {
            Layout::Live if self.live_bytes() + self.symbol_bytes() <= self.body.len() => Layout::Live,
            _ => Layout::Grouped,
        };
        if layout == Layout::Grouped {
            let times = &self.times;
            let time = |e: &Entry| times.get(usize::from(e.time)).copied();
            self.entries.sort_unstable_by_key(|e| (e.slot, time(e), e.time));
        }
        let mut writer = Writer {
            dictionary: &self.dictionary,
            times: &self.times,
            starts: &self.starts,
            protocol: self.protocol,
            sink: SliceSink {
                out: &mut self.body,
                len: 0,
            },
        };
        // The sizes were summed up while gathering: all of it fits.
        let symbols = writer.symbols();
        debug_assert!(symbols.is_ok(), "{symbols:?}");
        let per_entry = match layout {
            Layout::Live => 1,
            Layout::Grouped => usize::MAX,
        };
        let mut entries: &[Entry] = &self.entries;
        while let Some(first) = entries.first() {
            let run = entries
                .iter()
                .take(per_entry)
                .take_while(|e| e.slot == first.slot)
                .count();
            let (group, rest) = entries.split_at(run);
            let written = writer.series(group);
            debug_assert!(written.is_ok(), "{written:?}");
            entries = rest;
        }
        self.sealed = writer.sink.len;
        layout
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

    /// Bytes of the series in live layout, at most.
    fn live_bytes(&self) -> usize {
        let bytes = |entry: &Entry| {
            let (bits, time, start) = entry.values(&self.times, &self.starts);
            let slot = self.dictionary.slot(entry.slot);
            slot.map_or(0, |slot| {
                series_bytes(&self.dictionary, slot, self.protocol, self.body.len())
            }) + proto::len_sample(bits, time, start)
        };
        self.entries.iter().map(bytes).sum()
    }
}

/// Writes into a fixed slice from the front.
struct SliceSink<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Sink for SliceSink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let limit = self.out.len();
        let end = self.len + bytes.len();
        let place = self.out.get_mut(self.len..end).ok_or(Full { limit })?;
        place.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}

struct Writer<'a> {
    dictionary: &'a Dictionary,
    times: &'a [i64],
    starts: &'a [i64],
    protocol: Protocol,
    sink: SliceSink<'a>,
}

impl Writer<'_> {
    fn symbols(&mut self) -> Result<(), Full> {
        if self.protocol == Protocol::V1 {
            return Ok(());
        }
        let sink = &mut self.sink;
        self.dictionary
            .symbols()
            .used()
            .try_for_each(|text| proto::put_symbol(sink, text))
    }

    /// One entry: all of `group` is of the same series.
    fn series(&mut self, group: &[Entry]) -> Result<(), Full> {
        let Some(slot) = group.first().and_then(|e| self.dictionary.slot(e.slot)) else {
            return Ok(());
        };
        let samples = group.iter().map(|e| {
            let (bits, time, start) = e.values(self.times, self.starts);
            proto::len_sample(bits, time, start)
        });
        let samples = samples.sum();
        match self.protocol {
            Protocol::V1 => {
                proto::begin_series_v1(&mut self.sink, slot.label_bytes_v1 as usize, samples)?;
                for (name, value) in self.dictionary.labels(slot) {
                    proto::put_label(&mut self.sink, name, value)?;
                }
                self.samples(group)
            }
            Protocol::V2 => {
                let references = self.dictionary.references(slot);
                proto::begin_series_v2(&mut self.sink, references, samples, slot.kind)?;
                self.samples(group)?;
                proto::put_metadata(&mut self.sink, slot.kind)
            }
        }
    }

    fn samples(&mut self, group: &[Entry]) -> Result<(), Full> {
        group.iter().try_for_each(|e| {
            let (bits, time, start) = e.values(self.times, self.starts);
            proto::put_sample(&mut self.sink, bits, time, start)
        })
    }
}

/// Body of a 2.0 request without samples: the empty symbol alone. A 1.0 one has no bytes at all.
pub const EMPTY_V2: [u8; 2] = [0x22, 0x00];
