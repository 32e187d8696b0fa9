//! The protobuf bytes of remote write 1.0 and 2.0: a writer and a checked reader.
//!
//! The writer appends one message part at a time to a [`Sink`]; lengths are computed beforehand, so nothing is moved
//! or patched. The reader ([`Reader`]) walks a body that is already un-snappied; it serves the demo's receiver and
//! the tests, not the agent, and passes over exemplars, native histograms, HELP and UNIT.
//!
//! # Invariants
//!
//! - proto3 defaults are left out: a value whose bits are all zero, a timestamp or start timestamp of 0, metadata of
//!   unknown type.
//! - Values travel as their bits. No float is touched, so the staleness marker (a signalling NaN) survives, and -0
//!   is not mistaken for the default.
//! - `symbols` (field 4) precede `timeseries` (field 5), and the labels of a series everything else in it: some receivers resolve
//!   references while they decode.
//!
//! The reader accepts fields in any order except that one, skips unknown fields, and answers hostile bytes with
//! [`ReadError`]. Neither side allocates; the reader's symbol index is lent by the caller.
//!
//! Sources: `prometheus/prompb/types.proto`, `io/prometheus/write/v2/types.proto`; protobuf encoding guide.

use super::response::Protocol;
use crate::frame::Full;
use crate::sample::MetricType;
use crate::value::varint::{Cursor, CursorError, MAX_VARINT_BYTES, Sink, len_u64, put_u64};

mod carried;

pub use carried::{
    ExemplarPoint, FamilyMetadata, MAX_REFERENCE_BYTES, STALE_HISTOGRAM, SeriesMetadata, begin_exemplar_v1,
    has_custom_buckets, len_exemplar_v1, len_exemplar_v2, len_histogram, max_exemplar_v2, put_exemplar_v2,
    put_histogram,
};

// Tags: field number << 3 | wire type (0 varint, 1 eight bytes, 2 length-delimited).
const V1_SERIES: u8 = 0x0a;
const V2_SYMBOLS: u8 = 0x22;
const V2_SERIES: u8 = 0x2a;
const V2_METADATA: u8 = 0x2a;
/// `labels` of 1.0 and `labels_refs` of 2.0.
const LABELS: u8 = 0x0a;
const SAMPLES: u8 = 0x12;
const LABEL_NAME: u8 = 0x0a;
const LABEL_VALUE: u8 = 0x12;
const SAMPLE_VALUE: u8 = 0x09;
const SAMPLE_TIME: u8 = 0x10;
/// 2.0 only.
const SAMPLE_START: u8 = 0x18;
const METADATA_TYPE: u8 = 0x08;

/// Bytes of a length-delimited field with a one-byte tag.
#[must_use]
pub const fn len_field(payload: usize) -> usize {
    1 + len_u64(payload as u64) + payload
}

fn put_field_head(out: &mut impl Sink, tag: u8, payload: usize) -> Result<(), Full> {
    out.put(&[tag])?;
    put_u64(out, payload as u64)
}

fn put_bytes_field(out: &mut impl Sink, tag: u8, bytes: &[u8]) -> Result<(), Full> {
    put_field_head(out, tag, bytes.len())?;
    out.put(bytes)
}

/// Appends one entry of `symbols`.
///
/// # Errors
/// [`Full`]; part of it may have been written.
pub fn put_symbol(out: &mut impl Sink, text: &[u8]) -> Result<(), Full> {
    put_bytes_field(out, V2_SYMBOLS, text)
}

const fn len_sample_payload(bits: u64, unix_ms: i64, start_ms: i64) -> usize {
    let value = if bits == 0 { 0 } else { 9 };
    value + len_time(unix_ms) + len_time(start_ms)
}

const fn len_time(unix_ms: i64) -> usize {
    if unix_ms == 0 { 0 } else { 1 + len_u64(unix_ms as u64) }
}

/// Bytes that [`put_sample`] appends.
#[must_use]
pub const fn len_sample(bits: u64, unix_ms: i64, start_ms: i64) -> usize {
    // The payload is below 128: its length takes one byte.
    2 + len_sample_payload(bits, unix_ms, start_ms)
}

/// What of a sample is written first; receivers take either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleOrder {
    /// As declared: value, timestamp, start timestamp.
    ValueFirst,
    /// The value last. A body of one sample per series is smaller for it once compressed: what comes before the value is the
    /// same in every series, and so are the zeros most values begin with.
    ValueLast,
}

/// Appends one sample to the series begun last. `start_ms`: when counting began, 0 for unset, as always in 1.0.
///
/// # Errors
/// [`Full`]; part of it may have been written.
pub fn put_sample(out: &mut impl Sink, order: SampleOrder, bits: u64, unix_ms: i64, start_ms: i64) -> Result<(), Full> {
    let mut sample = SmallMessage::default();
    if order == SampleOrder::ValueFirst {
        sample.put_value(bits);
    }
    sample.put_time(SAMPLE_TIME, unix_ms);
    sample.put_time(SAMPLE_START, start_ms);
    if order == SampleOrder::ValueLast {
        sample.put_value(bits);
    }
    sample.finish(out, SAMPLES)
}

/// Bytes of a sample, at most: tag, length, a value with its tag, and two times with theirs.
const MAX_SAMPLE_BYTES: usize = 2 + 9 + 2 * (1 + MAX_VARINT_BYTES);

/// A sample on its way: one piece for the sink, not one for each part.
struct SmallMessage {
    bytes: [u8; MAX_SAMPLE_BYTES],
    len: usize,
}

impl Default for SmallMessage {
    fn default() -> Self {
        // Behind tag and length.
        Self {
            bytes: [0; MAX_SAMPLE_BYTES],
            len: 2,
        }
    }
}

impl SmallMessage {
    #[inline(always)]
    fn push(&mut self, byte: u8) {
        // There is room for all of a sample.
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    fn put_value(&mut self, bits: u64) {
        if bits == 0 {
            return;
        }
        self.push(SAMPLE_VALUE);
        if let Some(place) = self.bytes.get_mut(self.len..self.len + 8) {
            place.copy_from_slice(&bits.to_le_bytes());
            self.len += 8;
        }
    }

    fn put_time(&mut self, tag: u8, unix_ms: i64) {
        if unix_ms == 0 {
            return;
        }
        self.push(tag);
        let mut rest = unix_ms as u64;
        while rest >= 0x80 {
            self.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.push(rest as u8);
    }

    fn finish(&mut self, out: &mut impl Sink, tag: u8) -> Result<(), Full> {
        // The payload is below 128: its length takes one byte.
        let payload = (self.len - 2) as u8;
        if let Some(head) = self.bytes.first_chunk_mut() {
            *head = [tag, payload];
        }
        out.put(self.bytes.get(..self.len).unwrap_or_default())
    }
}

/// Bytes of the labels field of a 2.0 series.
#[must_use]
pub fn len_label_refs(refs: impl Iterator<Item = u16>) -> usize {
    len_field(len_packed(refs.map(u32::from)))
}

fn len_packed(refs: impl Iterator<Item = u32>) -> usize {
    refs.map(|reference| len_u64(reference.into())).sum()
}

/// Bytes of one label of a 1.0 series.
#[must_use]
pub const fn len_label(name: usize, value: usize) -> usize {
    len_field(len_field(name) + len_field(value))
}

/// Begins a 2.0 series: `labels_refs` are the references of the sorted labels, name and value in turn; what follows, samples,
/// histograms, exemplars and metadata, takes `rest` bytes.
///
/// # Errors
/// [`Full`]; part of it may have been written.
pub fn begin_series_v2(
    out: &mut impl Sink,
    labels_refs: impl Iterator<Item = u16> + Clone,
    rest: usize,
) -> Result<(), Full> {
    let packed = len_packed(labels_refs.clone().map(u32::from));
    put_field_head(out, V2_SERIES, len_field(packed) + rest)?;
    put_field_head(out, LABELS, packed)?;
    labels_refs
        .into_iter()
        .try_for_each(|reference| put_u64(out, reference.into()))
}

/// Begins a 1.0 series whose labels take `labels` bytes and what follows them takes `rest`: [`put_label`] for
/// each label in sorted order, samples, exemplars, histograms.
///
/// # Errors
/// [`Full`]; part of it may have been written.
pub fn begin_series_v1(out: &mut impl Sink, labels: usize, rest: usize) -> Result<(), Full> {
    put_field_head(out, V1_SERIES, labels + rest)
}

/// Appends one label of a 1.0 series.
///
/// # Errors
/// [`Full`]; part of it may have been written.
pub fn put_label(out: &mut impl Sink, name: &[u8], value: &[u8]) -> Result<(), Full> {
    // Two tags and two lengths of a byte each.
    let fields = name.len() + value.len() + 4;
    if fields < 0x80 {
        // All lengths take one byte: most labels, and a 1.0 request is little else.
        out.put(&[LABELS, fields as u8, LABEL_NAME, name.len() as u8])?;
        out.put(name)?;
        out.put(&[LABEL_VALUE, value.len() as u8])?;
        return out.put(value);
    }
    let fields = len_field(name.len()) + len_field(value.len());
    put_field_head(out, LABELS, fields)?;
    put_bytes_field(out, LABEL_NAME, name)?;
    put_bytes_field(out, LABEL_VALUE, value)
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// Ends too early, or a varint is too long.
    Malformed(CursorError),
    /// A field has a wire type that this field, or protobuf, does not have.
    WireType {
        /// The tag as read.
        tag: u64,
    },
    /// A symbol or label is not UTF-8.
    NotUtf8,
    /// A label refers to a symbol that is not there.
    Reference {
        /// The reference.
        index: u64,
        /// Symbols of the request.
        symbols: usize,
    },
    /// A series has a name reference without a value reference.
    OddReferences,
    /// More symbols than the index lent to the reader can hold.
    TooManySymbols {
        /// Entries of the index.
        limit: usize,
    },
    /// A symbol after the first series.
    LateSymbol,
}

impl core::fmt::Display for ReadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::WireType { tag } => write!(f, "unexpected tag {tag:#x}"),
            Self::NotUtf8 => f.write_str("text is not valid UTF-8"),
            Self::Reference { index, symbols } => write!(f, "reference {index} to one of {symbols} symbols"),
            Self::OddReferences => f.write_str("label references are not in pairs"),
            Self::TooManySymbols { limit } => write!(f, "request has more symbols than the limit of {limit}"),
            Self::LateSymbol => f.write_str("symbol after the first series"),
        }
    }
}

impl core::error::Error for ReadError {}

impl From<CursorError> for ReadError {
    fn from(error: CursorError) -> Self {
        Self::Malformed(error)
    }
}

/// One field of a message.
#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
}

/// Reads the next tag and its payload; 4-byte fields come as [`Field::Bytes`], nothing read here has one.
fn next_field<'a>(cursor: &mut Cursor<'a>) -> Result<Option<(u64, Field<'a>)>, ReadError> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let tag = cursor.u64()?;
    let field = match tag & 7 {
        0 => Field::Number(cursor.u64()?),
        1 => Field::Eight(cursor.array()?),
        2 => {
            let len = usize::try_from(cursor.u64()?).map_err(|_| CursorError::Truncated)?;
            Field::Bytes(cursor.bytes(len)?)
        }
        5 => Field::Bytes(cursor.bytes(4)?),
        _ => return Err(ReadError::WireType { tag }),
    };
    Ok(Some((tag, field)))
}

fn utf8(bytes: &[u8]) -> Result<&str, ReadError> {
    core::str::from_utf8(bytes).map_err(|_| ReadError::NotUtf8)
}

/// Reads a request body that is already decompressed.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    body: Cursor<'a>,
    symbols: Symbols<'a>,
    protocol: Protocol,
}

#[derive(Clone, Copy, Debug)]
struct Symbols<'a> {
    body: &'a [u8],
    /// Offset and length of each in `body`.
    index: &'a [(u32, u32)],
}

impl<'a> Symbols<'a> {
    fn text(&self, reference: u64) -> Result<&'a str, ReadError> {
        let range = usize::try_from(reference).ok().and_then(|r| self.index.get(r));
        let bytes = range.and_then(|&(at, len)| self.body.get(at as usize..)?.get(..len as usize));
        utf8(bytes.ok_or(ReadError::Reference {
            index: reference,
            symbols: self.index.len(),
        })?)
    }
}

impl<'a> Reader<'a> {
    /// A reader over `body`; `index` holds one entry per symbol of a 2.0 request and is not used for 1.0.
    ///
    /// # Errors
    /// [`ReadError`] for damage in the symbol table, or when it does not fit `index`.
    pub fn new(body: &'a [u8], protocol: Protocol, index: &'a mut [(u32, u32)]) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(body);
        let mut series_at = cursor;
        let mut seen_series = false;
        let mut count = 0;
        if protocol == Protocol::V2 {
            while let Some((tag, field)) = next_field(&mut cursor)? {
                match field {
                    Field::Bytes(_) if tag == u64::from(V2_SYMBOLS) && seen_series => {
                        return Err(ReadError::LateSymbol);
                    }
                    Field::Bytes(text) if tag == u64::from(V2_SYMBOLS) => {
                        let limit = index.len();
                        let entry = index.get_mut(count).ok_or(ReadError::TooManySymbols { limit })?;
                        let end = body.len() - cursor.remaining();
                        let place = (u32::try_from(end - text.len()), u32::try_from(text.len()));
                        let (Ok(at), Ok(len)) = place else {
                            return Err(ReadError::TooManySymbols { limit });
                        };
                        *entry = (at, len);
                        count += 1;
                        series_at = cursor;
                    }
                    _ => seen_series |= tag == u64::from(V2_SERIES),
                }
            }
        }
        let index = index.get(..count).unwrap_or_default();
        Ok(Self {
            body: series_at,
            symbols: Symbols { body, index },
            protocol,
        })
    }

    /// Symbols of a 2.0 request, in order.
    pub fn symbols(&self) -> impl Iterator<Item = Result<&'a str, ReadError>> + use<'a> {
        let symbols = self.symbols;
        (0..symbols.index.len() as u64).map(move |reference| symbols.text(reference))
    }

    /// The next series, `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`]; reading cannot go on after it.
    pub fn next_series(&mut self) -> Result<Option<SeriesReader<'a>>, ReadError> {
        let wanted = match self.protocol {
            Protocol::V1 => V1_SERIES,
            Protocol::V2 => V2_SERIES,
        };
        while let Some((tag, field)) = next_field(&mut self.body)? {
            if let (true, Field::Bytes(bytes)) = (tag == u64::from(wanted), field) {
                return Ok(Some(SeriesReader {
                    bytes,
                    symbols: self.symbols,
                    protocol: self.protocol,
                }));
            }
        }
        Ok(None)
    }
}

/// One series of a request.
#[derive(Clone, Copy, Debug)]
pub struct SeriesReader<'a> {
    bytes: &'a [u8],
    symbols: Symbols<'a>,
    protocol: Protocol,
}

impl<'a> SeriesReader<'a> {
    /// Calls `each` with name and value of every label, in the order sent.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn labels(&self, mut each: impl FnMut(&'a str, &'a str)) -> Result<(), ReadError> {
        let mut cursor = Cursor::new(self.bytes);
        let mut pending = None;
        while let Some((tag, field)) = next_field(&mut cursor)? {
            match (self.protocol, tag, field) {
                (Protocol::V1, 0x0a, Field::Bytes(label)) => {
                    let (name, value) = read_label(label)?;
                    each(name, value);
                }
                (Protocol::V2, 0x0a, Field::Bytes(packed)) => {
                    let mut refs = Cursor::new(packed);
                    while !refs.is_empty() {
                        self.reference(refs.u64()?, &mut pending, &mut each)?;
                    }
                }
                // Receivers accept repeated numbers unpacked, too.
                (Protocol::V2, 0x08, Field::Number(reference)) => self.reference(reference, &mut pending, &mut each)?,
                _ => {}
            }
        }
        if pending.is_some() {
            return Err(ReadError::OddReferences);
        }
        Ok(())
    }

    fn reference(
        &self,
        reference: u64,
        pending: &mut Option<&'a str>,
        each: &mut impl FnMut(&'a str, &'a str),
    ) -> Result<(), ReadError> {
        let text = self.symbols.text(reference)?;
        match pending.take() {
            Some(name) => each(name, text),
            None => *pending = Some(text),
        }
        Ok(())
    }

    /// Calls `each` with value bits, timestamp and start timestamp (0: unset) of every sample, in the order sent.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn samples(&self, mut each: impl FnMut(u64, i64, i64)) -> Result<(), ReadError> {
        let mut cursor = Cursor::new(self.bytes);
        while let Some((tag, field)) = next_field(&mut cursor)? {
            if let (true, Field::Bytes(sample)) = (tag == u64::from(SAMPLES), field) {
                let (bits, unix_ms, start_ms) = read_sample(sample)?;
                each(bits, unix_ms, start_ms);
            }
        }
        Ok(())
    }

    /// Metric type from the series' metadata (2.0).
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn kind(&self) -> Result<MetricType, ReadError> {
        let mut cursor = Cursor::new(self.bytes);
        let mut kind = MetricType::Unknown;
        while let Some((tag, field)) = next_field(&mut cursor)? {
            if let (Protocol::V2, true, Field::Bytes(metadata)) = (self.protocol, tag == u64::from(V2_METADATA), field)
            {
                let mut cursor = Cursor::new(metadata);
                while let Some((tag, field)) = next_field(&mut cursor)? {
                    if let (true, Field::Number(number)) = (tag == u64::from(METADATA_TYPE), field) {
                        kind = u8::try_from(number).map_or(MetricType::Unknown, MetricType::from_byte);
                    }
                }
            }
        }
        Ok(kind)
    }
}

fn read_label(bytes: &[u8]) -> Result<(&str, &str), ReadError> {
    let mut cursor = Cursor::new(bytes);
    let mut label = ("", "");
    while let Some((tag, field)) = next_field(&mut cursor)? {
        match (tag as u8, field) {
            (LABEL_NAME, Field::Bytes(text)) if tag < 0x80 => label.0 = utf8(text)?,
            (LABEL_VALUE, Field::Bytes(text)) if tag < 0x80 => label.1 = utf8(text)?,
            _ => {}
        }
    }
    Ok(label)
}

fn read_sample(bytes: &[u8]) -> Result<(u64, i64, i64), ReadError> {
    let mut cursor = Cursor::new(bytes);
    let mut sample = (0, 0, 0);
    while let Some((tag, field)) = next_field(&mut cursor)? {
        match (tag, field) {
            (0x09, Field::Eight(bytes)) => sample.0 = u64::from_le_bytes(bytes),
            (0x10, Field::Number(time)) => sample.1 = time as i64,
            (0x18, Field::Number(time)) => sample.2 = time as i64,
            _ => {}
        }
    }
    Ok(sample)
}

#[cfg(test)]
mod tests;
