//! Coding of series definitions: shared prefix and suffix, optional compression.
//!
//! A DICT record defines consecutive series of one target. Each entry is the metric type, the bytes it shares with
//! the entry before it at either end, and what is between. Texts are `name 0xFF body`: 0xFF is no byte of UTF-8, so
//! names may hold any character.
//!
//! Costs 9 to 11 bytes per series with snappy, 16 to 24 without (three exporters' captures). Decoding checks every
//! length; what does not parse is refused as a whole and nothing is defined.

use super::record::{RecordFault, SliceSink};
use crate::catalogue::{Catalogue, SeriesText};
use crate::frame::Full;
use crate::limits::{MAX_SERIES, MAX_SERIES_TEXT_BYTES, MAX_TARGETS};
use crate::sample::{MetricType, SeriesRef, TargetRef};
use crate::value::varint::{Cursor, Sink, put_u64};

/// Between name and body.
const SEPARATOR: u8 = 0xff;

/// Bytes of name, separator and body at most.
pub const MAX_TEXT: usize = MAX_SERIES_TEXT_BYTES + 1;

/// A block compressor for dictionaries; `Plain` needs none.
///
/// `method` numbers are part of the format: 0 plain, 1 snappy's block format.
pub trait Compress {
    /// The method byte written with what [`Compress::compress`] gives; not 0.
    fn method(&self) -> u8;

    /// Compresses `raw` into `out`; the length used, or `None` if it does not fit. Must not allocate when `raw` is no
    /// longer than 20 KiB.
    fn compress(&mut self, raw: &[u8], out: &mut [u8]) -> Option<usize>;

    /// Decompresses what `method` made into `out`; `None` if it is damaged, unknown or does not fit. Must bear any
    /// input.
    fn decompress(&mut self, method: u8, packed: &[u8], out: &mut [u8]) -> Option<usize>;
}

/// Head of a DICT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DictHead<'a> {
    /// Whose series.
    pub target: TargetRef,
    /// Index of the first.
    pub first: u16,
    /// How many.
    pub count: u16,
    /// 0 plain, 1 snappy.
    pub method: u8,
    /// Bytes after decompression.
    pub raw_len: usize,
    /// The entries, packed by `method`.
    pub packed: &'a [u8],
}

impl<'a> DictHead<'a> {
    /// Reads a DICT payload.
    ///
    /// # Errors
    /// [`RecordFault::Malformed`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, RecordFault> {
        let mut cursor = Cursor::new(payload);
        let target = TargetRef(cursor.u8()?);
        let first = cursor.u64()?;
        let count = cursor.u64()?;
        let method = cursor.u8()?;
        let raw_len = cursor.u64()?;
        if usize::from(target.0) >= MAX_TARGETS || first >= MAX_SERIES as u64 || count > MAX_SERIES as u64 - first {
            return Err(RecordFault::Malformed);
        }
        Ok(Self {
            target,
            first: first as u16,
            count: count as u16,
            method,
            raw_len: usize::try_from(raw_len).map_err(|_| RecordFault::Malformed)?,
            packed: cursor.rest(),
        })
    }

    /// Writes the head, `packed` included.
    ///
    /// # Errors
    /// [`Full`].
    pub fn emit(&self, out: &mut impl Sink) -> Result<(), Full> {
        out.put(&[self.target.0])?;
        put_u64(out, self.first.into())?;
        put_u64(out, self.count.into())?;
        out.put(&[self.method])?;
        put_u64(out, self.raw_len as u64)?;
        out.put(self.packed)
    }

    /// The entries as written by [`put_entry`]: borrowed if plain, else decompressed into `scratch`.
    ///
    /// # Errors
    /// [`RecordFault`].
    pub fn entries<'s>(
        &self,
        compress: Option<&mut (dyn Compress + 'static)>,
        scratch: &'s mut [u8],
    ) -> Result<&'s [u8], RecordFault> {
        let out = scratch.get_mut(..self.raw_len).ok_or(RecordFault::TooLarge)?;
        let len = if self.method == 0 {
            out.get_mut(..self.packed.len())
                .ok_or(RecordFault::Malformed)?
                .copy_from_slice(self.packed);
            self.packed.len()
        } else {
            let codec = compress.ok_or(RecordFault::TooLarge)?;
            codec
                .decompress(self.method, self.packed, out)
                .ok_or(RecordFault::Malformed)?
        };
        if len != self.raw_len {
            return Err(RecordFault::Malformed);
        }
        Ok(out)
    }
}

fn bytes_of<'a>(text: SeriesText<'a>) -> impl DoubleEndedIterator<Item = u8> + 'a {
    text.name.bytes().chain([SEPARATOR]).chain(text.body.bytes())
}

const fn len_of(text: SeriesText<'_>) -> usize {
    text.name.len() + 1 + text.body.len()
}

/// Writes one entry; `before` is the entry before it in the same record.
///
/// # Errors
/// [`Full`]; part of the entry may have been written.
pub fn put_entry(
    out: &mut impl Sink,
    before: Option<SeriesText<'_>>,
    text: SeriesText<'_>,
    kind: MetricType,
) -> Result<(), Full> {
    let len = len_of(text);
    let (prefix, suffix) = before.map_or((0, 0), |before| {
        let room = len.min(len_of(before));
        let same = |a: (u8, u8)| a.0 == a.1;
        let prefix = bytes_of(before)
            .zip(bytes_of(text))
            .take(room.min(255))
            .take_while(|&a| same(a))
            .count();
        let suffix = bytes_of(before)
            .rev()
            .zip(bytes_of(text).rev())
            .take((room - prefix).min(255))
            .take_while(|&a| same(a))
            .count();
        (prefix, suffix)
    });
    // Both at most 255.
    out.put(&[kind as u8, prefix as u8, suffix as u8])?;
    let middle = len - prefix - suffix;
    put_u64(out, middle as u64)?;
    let (mut skip, mut left) = (prefix, middle);
    for part in [text.name.as_bytes(), &[SEPARATOR], text.body.as_bytes()] {
        let from = part.len().min(skip);
        skip -= from;
        let take = (part.len() - from).min(left);
        left -= take;
        // `from + take <= part.len()` by the two minima.
        out.put(&part[from..from + take])?;
    }
    Ok(())
}

/// Reads entries one after another; the text of the current one lives in a buffer of the caller.
#[derive(Debug)]
pub struct Entries<'a, 't> {
    cursor: Cursor<'a>,
    text: &'t mut [u8],
    len: usize,
}

impl<'a, 't> Entries<'a, 't> {
    /// Reads `entries`; `text` must have [`MAX_TEXT`] bytes for any text to fit.
    pub fn new(entries: &'a [u8], text: &'t mut [u8]) -> Self {
        Self {
            cursor: Cursor::new(entries),
            text,
            len: 0,
        }
    }

    /// Goes on behind an entry whose text, of `len` bytes, is still in `text`.
    pub(crate) fn resume(entries: &'a [u8], text: &'t mut [u8], len: usize) -> Self {
        Self {
            cursor: Cursor::new(entries),
            text,
            len,
        }
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.cursor.rest().len()
    }

    /// Bytes of the text of the entry read last.
    pub(crate) const fn text_len(&self) -> usize {
        self.len
    }

    /// The next entry.
    ///
    /// # Errors
    /// [`RecordFault`].
    pub fn next_entry(&mut self) -> Result<(SeriesText<'_>, MetricType), RecordFault> {
        let kind = self.advance()?;
        Ok((split(&self.text[..self.len])?, kind))
    }

    /// Puts the text of the next entry into the buffer; gives its type.
    ///
    /// # Errors
    /// [`RecordFault`].
    pub(crate) fn advance(&mut self) -> Result<MetricType, RecordFault> {
        let kind = MetricType::from_byte(self.cursor.u8()?);
        let prefix = usize::from(self.cursor.u8()?);
        let suffix = usize::from(self.cursor.u8()?);
        let middle = usize::try_from(self.cursor.u64()?).map_err(|_| RecordFault::Malformed)?;
        let middle = self.cursor.bytes(middle)?;
        if prefix + suffix > self.len {
            return Err(RecordFault::Malformed);
        }
        let len = prefix + middle.len() + suffix;
        if len > self.text.len() {
            return Err(RecordFault::TooLarge);
        }
        self.text.copy_within(self.len - suffix..self.len, len - suffix);
        self.text[prefix..len - suffix].copy_from_slice(middle);
        self.len = len;
        Ok(kind)
    }

    /// Whether every byte has been read.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.cursor.is_empty()
    }
}

/// Name and labels from the text of an entry.
///
/// # Errors
/// [`RecordFault::Malformed`].
pub(crate) fn split(text: &[u8]) -> Result<SeriesText<'_>, RecordFault> {
    let split = text
        .iter()
        .position(|&b| b == SEPARATOR)
        .ok_or(RecordFault::Malformed)?;
    let utf8 = |bytes| core::str::from_utf8(bytes).map_err(|_| RecordFault::Malformed);
    Ok(SeriesText {
        name: utf8(&text[..split])?,
        body: utf8(&text[split + 1..])?,
    })
}

/// The text of an entry, as [`split`] takes it, in `out`; its length. `None`: it does not fit.
pub(crate) fn join(text: SeriesText<'_>, out: &mut [u8]) -> Option<usize> {
    let mut sink = SliceSink::new(out);
    for part in [text.name.as_bytes(), &[SEPARATOR], text.body.as_bytes()] {
        sink.put(part).ok()?;
    }
    Some(sink.len())
}

/// Checks that a whole DICT record parses.
///
/// # Errors
/// [`RecordFault`].
pub fn verify(head: &DictHead<'_>, entries: &[u8], text: &mut [u8]) -> Result<(), RecordFault> {
    let mut entries = Entries::new(entries, text);
    for _ in 0..head.count {
        entries.next_entry()?;
    }
    if entries.is_done() {
        Ok(())
    } else {
        Err(RecordFault::Malformed)
    }
}

/// Defines the series of a DICT record that [`verify`] accepted.
///
/// # Errors
/// [`RecordFault::TooLarge`] when the catalogue is full: some entries may have been defined.
pub fn apply(
    head: &DictHead<'_>,
    entries: &[u8],
    text: &mut [u8],
    catalogue: &mut Catalogue,
) -> Result<(), RecordFault> {
    let mut entries = Entries::new(entries, text);
    for index in head.first..head.first + head.count {
        let (text, kind) = entries.next_entry()?;
        catalogue
            .define_at(SeriesRef(index), head.target, text, kind)
            .map_err(|_| RecordFault::TooLarge)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Bounded;
    use alloc::vec;
    use alloc::vec::Vec;

    const TEXTS: [(&str, &str); 5] = [
        ("http_requests_total", r#"code="200",path="/a""#),
        ("http_requests_total", r#"code="404",path="/a""#),
        ("http_requests_total", ""),
        ("up", ""),
        ("löwe", r#"größe="groß""#),
    ];

    fn encode() -> Vec<u8> {
        let mut out = Bounded::with_capacity(1000);
        let mut before = None;
        for (name, body) in TEXTS {
            let text = SeriesText { name, body };
            put_entry(&mut out, before, text, MetricType::Counter).unwrap();
            before = Some(text);
        }
        out.to_vec()
    }

    #[test]
    fn entries_share_both_ends_and_come_back() {
        let bytes = encode();
        // FORMAT.md shows the second entry.
        let second = &bytes[4 + 40..][..7];
        assert_eq!(second, [1, 26, 11, 3, b'4', b'0', b'4']);
        let mut text = vec![0; MAX_TEXT];
        let mut entries = Entries::new(&bytes, &mut text);
        for (name, body) in TEXTS {
            assert_eq!(
                entries.next_entry().unwrap(),
                (SeriesText { name, body }, MetricType::Counter)
            );
        }
        assert!(entries.is_done());
    }

    #[test]
    fn cut_or_flipped_entries_are_refused_or_read_without_panic() {
        let bytes = encode();
        let mut text = vec![0; 100];
        for cut in 0..bytes.len() {
            let mut entries = Entries::new(&bytes[..cut], &mut text);
            while entries.next_entry().is_ok() {}
        }
        let mut flipped = bytes.clone();
        for bit in 0..bytes.len() * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut entries = Entries::new(&flipped, &mut text);
            while entries.next_entry().is_ok() {}
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_record_is_checked_before_it_defines_anything() {
        let bytes = encode();
        let head = DictHead {
            target: TargetRef(2),
            first: 10,
            count: 5,
            method: 0,
            raw_len: bytes.len(),
            packed: &bytes,
        };
        let mut out = Bounded::with_capacity(1000);
        head.emit(&mut out).unwrap();
        assert_eq!(DictHead::parse(&out), Ok(head));
        let mut catalogue = Catalogue::new(100, 4096, 4);
        let (mut scratch, mut text) = (vec![0; 1000], vec![0; MAX_TEXT]);
        let raw = head.entries(None, &mut scratch).unwrap();
        assert_eq!(verify(&head, raw, &mut text), Ok(()));
        apply(&head, raw, &mut text, &mut catalogue).unwrap();
        assert_eq!(catalogue.text(SeriesRef(13)).unwrap().name, "up");
        assert_eq!(catalogue.target_of(SeriesRef(13)), Some(TargetRef(2)));
        let long = DictHead { count: 4, ..head };
        assert_eq!(verify(&long, raw, &mut text), Err(RecordFault::Malformed));
    }
}
