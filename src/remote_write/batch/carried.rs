//! Native histograms and exemplars on their way from a frame to a body.
//!
//! Until the batch is sealed they wait at the end of the body's own memory, where nothing else is yet: sizes are kept so
//! that what is written from the front never reaches them. A histogram waits as its message, an exemplar as
//!
//! ```text
//! value 8 | time 8 | name length u16 | name | value length u16 | value | ...      little-endian, labels unescaped
//! ```

use super::{Batch, Entry};
use crate::extras::{Extra, Extras};
use crate::frame::Full;
use crate::labels::Labels;
use crate::remote_write::proto::{self, ExemplarPoint};
use crate::remote_write::response::Protocol;
use core::iter::Peekable;
use core::ops::Range;

/// What a remote gets of what samples carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sends {
    /// Native histograms: `send_native_histograms`.
    pub histograms: bool,
    /// Exemplars: `send_exemplars`.
    pub exemplars: bool,
}

/// Body that stays free for the look-up of `_created` series while a batch is gathered: its longest text.
const FREE_BYTES: usize = 32 * 1024;

/// In [`Entry::time`]: the entry is no float sample, its `bits` say where it waits. There are never so many times.
const CARRIED: u16 = 0x8000;

/// In the length of what waits.
const EXEMPLAR: u32 = 1 << 31;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A sample, by its bits.
    Float(u64),
    /// A native histogram: where its message is.
    Histogram(Range<usize>),
    /// An exemplar of the entry before it.
    Exemplar(Range<usize>),
}

impl Entry {
    pub(super) fn new(content: &Content, slot: u16, time: u16, start: u16) -> Self {
        let place = |range: &Range<usize>, flag: u32| {
            // A body is below 2^31 bytes.
            u64::from(range.start as u32) | u64::from((range.end - range.start) as u32 | flag) << 32
        };
        let (bits, carried) = match content {
            Content::Float(bits) => (*bits, 0),
            Content::Histogram(range) => (place(range, 0), CARRIED),
            Content::Exemplar(range) => (place(range, EXEMPLAR), CARRIED),
        };
        Self {
            bits: bits.to_le_bytes(),
            slot,
            time: time | carried,
            start,
        }
    }

    pub(super) fn content(&self) -> Content {
        let bits = u64::from_le_bytes(self.bits);
        if self.time & CARRIED == 0 {
            return Content::Float(bits);
        }
        let (at, len) = (bits as u32 as usize, (bits >> 32) as u32);
        let range = at..at + (len & !EXEMPLAR) as usize;
        match len & EXEMPLAR {
            0 => Content::Histogram(range),
            _ => Content::Exemplar(range),
        }
    }

    pub(super) fn is_exemplar(&self) -> bool {
        self.time & CARRIED != 0 && self.bits[7] & 0x80 != 0
    }

    /// Index of the timestamp; of an exemplar that of its sample.
    pub(super) const fn time_index(&self) -> u16 {
        self.time & !CARRIED
    }
}

/// An exemplar that waits, or was written down.
#[derive(Clone, Copy)]
pub(super) struct Waiting<'a> {
    pub point: ExemplarPoint,
    labels: &'a [u8],
}

impl<'a> Waiting<'a> {
    /// Of bytes that [`Batch::keep_exemplar`] wrote.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&bits, rest) = bytes.split_first_chunk()?;
        let (&unix_ms, labels) = rest.split_first_chunk()?;
        let (bits, unix_ms) = (u64::from_le_bytes(bits), i64::from_le_bytes(unix_ms));
        Some(Self {
            point: ExemplarPoint { bits, unix_ms },
            labels,
        })
    }

    /// Names and values in turn.
    pub fn strings(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut rest = self.labels;
        core::iter::from_fn(move || {
            let (&len, after) = rest.split_first_chunk()?;
            let (text, after) = after.split_at_checked(u16::from_le_bytes(len).into())?;
            rest = after;
            Some(text)
        })
    }

    /// Bytes of the labels in a 1.0 request.
    pub fn label_bytes_v1(self) -> usize {
        let mut strings = self.strings();
        let mut bytes = 0;
        while let (Some(name), Some(value)) = (strings.next(), strings.next()) {
            bytes += proto::len_label(name.len(), value.len());
        }
        bytes
    }
}

/// An exemplar as the frame has it.
#[derive(Clone, Copy)]
pub(super) struct Exemplar<'a> {
    pub unix_ms: Option<i64>,
    pub value: u64,
    pub labels: &'a str,
}

/// Native histograms by position, for [`at`].
pub(super) fn histograms(extras: &Extras) -> Peekable<impl Iterator<Item = (u16, &[u8])>> {
    let histogram = |extra| match extra {
        Extra::Histogram { position, message } => Some((position, message)),
        _ => None,
    };
    extras.iter().filter_map(histogram).peekable()
}

/// Exemplars by position, for [`at`].
pub(super) fn exemplars(extras: &Extras) -> Peekable<impl Iterator<Item = (u16, Exemplar<'_>)>> {
    let exemplar = |extra| match extra {
        Extra::Exemplar {
            position,
            unix_ms,
            value,
            labels,
        } => Some((position, Exemplar { unix_ms, value, labels })),
        _ => None,
    };
    extras.iter().filter_map(exemplar).peekable()
}

/// Start times by position, for [`at`].
pub(super) fn starts(extras: &Extras) -> Peekable<impl Iterator<Item = (u16, i64)>> {
    let start = |extra| match extra {
        Extra::StartTime { position, unix_ms } => Some((position, unix_ms)),
        _ => None,
    };
    extras.iter().filter_map(start).peekable()
}

/// The next item at `position`; those before it are passed over.
pub(super) fn at<T>(items: &mut Peekable<impl Iterator<Item = (u16, T)>>, position: usize) -> Option<T> {
    while items.next_if(|item| usize::from(item.0) < position).is_some() {}
    items
        .next_if(|item| usize::from(item.0) == position)
        .map(|(_, item)| item)
}

impl Batch {
    /// Where what is carried begins; the body is free up to there until it is sealed.
    pub(super) const fn carried_at(&self) -> usize {
        self.body.len() - self.carried
    }

    /// Makes room in front of what waits.
    fn reserve(&mut self, len: usize) -> Result<Range<usize>, Full> {
        let limit = self.body.len() - FREE_BYTES;
        if self.carried + len > limit {
            return Err(Full { limit });
        }
        self.carried += len;
        let at = self.carried_at();
        Ok(at..at + len)
    }

    /// Keeps a histogram's message until the batch is sealed.
    pub(super) fn keep_histogram(&mut self, message: &[u8]) -> Result<Range<usize>, Full> {
        let range = self.reserve(message.len())?;
        if let Some(place) = self.body.get_mut(range.clone()) {
            place.copy_from_slice(message);
        }
        Ok(range)
    }

    /// Keeps an exemplar until the batch is sealed; returns its place and the bytes it may take in a request.
    pub(super) fn keep_exemplar(
        &mut self,
        point: ExemplarPoint,
        labels: &Labels,
    ) -> Result<(Range<usize>, usize), Full> {
        let text: usize = labels
            .iter()
            .map(|label| 4 + label.name.len() + label.value.len())
            .sum();
        let range = self.reserve(16 + text)?;
        let strings = labels.iter().flat_map(|label| [label.name, label.value]);
        let mut bytes = 0;
        let mut at = range.start;
        let mut put = |part: &[u8]| {
            if let Some(place) = self.body.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
            }
            at += part.len();
        };
        put(&point.bits.to_le_bytes());
        put(&point.unix_ms.to_le_bytes());
        for text in strings.clone() {
            // The texts of a label set take less than 64 KiB.
            put(&(text.len() as u16).to_le_bytes());
            put(text.as_bytes());
        }
        match self.protocol {
            Protocol::V1 => {
                let labels = labels
                    .iter()
                    .map(|label| proto::len_label(label.name.len(), label.value.len()))
                    .sum();
                bytes += proto::len_exemplar_v1(labels, point);
            }
            Protocol::V2 => {
                // Each string may turn out to be new to the request.
                let count = strings.clone().count();
                let limit = self.limits.exemplar_strings();
                if self.late_strings + count > limit {
                    self.carried -= range.len();
                    return Err(Full { limit });
                }
                self.late_strings += count;
                self.late_bytes += strings.map(|text| proto::len_field(text.len())).sum::<usize>();
                bytes += proto::max_exemplar_v2(count, point);
            }
        }
        Ok((range, bytes))
    }
}

#[cfg(test)]
mod tests;
