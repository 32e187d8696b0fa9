//! Native histograms, exemplars and metadata: what a series or a sample carries beside values.
//!
//! A histogram comes as its message without times ([`crate::extras`]) and is copied; its times are appended. Where a receiver
//! finds a field twice the last one counts, so what a message should not hold does no harm.

use super::{LABELS, V2_METADATA, len_field, len_packed, len_time, put_bytes_field, put_field_head};
use crate::frame::Full;
use crate::remote_write::response::Protocol;
use crate::sample::{MetricType, STALE_NAN_BITS};
use crate::value::varint::{Cursor, Sink, len_u64, put_u64};

const V1_METADATA: u8 = 0x1a;
const HISTOGRAM_TIME: u8 = 0x78;
/// Field 17 takes two bytes of tag; 2.0 only.
const HISTOGRAM_START: [u8; 2] = [0x88, 0x01];
const EXEMPLAR_VALUE: u8 = 0x11;
const EXEMPLAR_TIME: u8 = 0x18;
const METADATA_TYPE: u8 = 0x08;
/// `metric_family_name` of 1.0.
const METADATA_FAMILY: u8 = 0x12;
const V1_METADATA_HELP: u8 = 0x22;
const V1_METADATA_UNIT: u8 = 0x2a;
const V2_METADATA_HELP: u8 = 0x18;
const V2_METADATA_UNIT: u8 = 0x20;

/// Field 4, `schema`: a varint.
const SCHEMA: u64 = 4 << 3;
/// Schema of a histogram with custom buckets, which 1.0 cannot say.
const CUSTOM_BUCKETS: u64 = crate::value::varint::zigzag(-53);

/// The staleness marker of a native histogram (SCR-801): no observations, a sum with the marker's bits.
pub const STALE_HISTOGRAM: [u8; 13] = {
    let mut message = [0; 13];
    // Fields 1 (count) and 6 (zero count) as integers: which kind it is must be said.
    (message[0], message[2], message[11]) = (0x08, 0x19, 0x30);
    let bits = STALE_NAN_BITS.to_le_bytes();
    let mut i = 0;
    while i < 8 {
        message[3 + i] = bits[i];
        i += 1;
    }
    message
};

/// The tag of a histogram in a series.
const fn histogram_tag(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::V1 => 0x22,
        Protocol::V2 => 0x1a,
    }
}

/// Whether `message` is one of a histogram with custom buckets; `None`: it is no message.
#[must_use]
pub fn has_custom_buckets(message: &[u8]) -> Option<bool> {
    let mut cursor = Cursor::new(message);
    let mut custom = false;
    while let Some((tag, field)) = super::next_field(&mut cursor).ok()? {
        if let (SCHEMA, super::Field::Number(schema)) = (tag, field) {
            custom = schema == CUSTOM_BUCKETS;
        }
    }
    Some(custom)
}

const fn len_histogram_payload(message: usize, unix_ms: i64, start_ms: i64) -> usize {
    let start = len_time(start_ms);
    message + len_time(unix_ms) + if start == 0 { 0 } else { start + 1 }
}

/// Bytes that [`put_histogram`] appends for a message of so many bytes.
#[must_use]
pub const fn len_histogram(message: usize, unix_ms: i64, start_ms: i64) -> usize {
    len_field(len_histogram_payload(message, unix_ms, start_ms))
}

/// Appends a native histogram to the series begun last. `start_ms`: 0 for unset, as always in 1.0.
///
/// # Errors
/// [`Full`]; part of it may have been written.
pub fn put_histogram(
    out: &mut impl Sink,
    protocol: Protocol,
    message: &[u8],
    unix_ms: i64,
    start_ms: i64,
) -> Result<(), Full> {
    let payload = len_histogram_payload(message.len(), unix_ms, start_ms);
    put_field_head(out, histogram_tag(protocol), payload)?;
    out.put(message)?;
    put_time(out, &[HISTOGRAM_TIME], unix_ms)?;
    put_time(out, &HISTOGRAM_START, start_ms)
}

fn put_time(out: &mut impl Sink, tag: &[u8], unix_ms: i64) -> Result<(), Full> {
    if unix_ms == 0 {
        return Ok(());
    }
    out.put(tag)?;
    put_u64(out, unix_ms as u64)
}

/// Value and time of an exemplar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExemplarPoint {
    /// Bits of the value.
    pub bits: u64,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

impl ExemplarPoint {
    const fn len(self) -> usize {
        let value = if self.bits == 0 { 0 } else { 9 };
        value + len_time(self.unix_ms)
    }

    /// Appends what follows the labels.
    ///
    /// # Errors
    /// [`Full`]; part of it may have been written.
    pub fn put(self, out: &mut impl Sink) -> Result<(), Full> {
        if self.bits != 0 {
            out.put(&[EXEMPLAR_VALUE])?;
            out.put(&self.bits.to_le_bytes())?;
        }
        put_time(out, &[EXEMPLAR_TIME], self.unix_ms)
    }
}

/// Bytes of an exemplar of a 1.0 series whose labels take `labels` bytes.
#[must_use]
pub const fn len_exemplar_v1(labels: usize, point: ExemplarPoint) -> usize {
    len_field(labels + point.len())
}

/// Begins an exemplar of a 1.0 series; [`super::put_label`] for each label and [`ExemplarPoint::put`] follow.
///
/// # Errors
/// [`Full`]; part of it may have been written.
pub fn begin_exemplar_v1(out: &mut impl Sink, labels: usize, point: ExemplarPoint) -> Result<(), Full> {
    put_field_head(out, 0x1a, labels + point.len())
}

/// Bytes of an exemplar of a 2.0 series.
#[must_use]
pub fn len_exemplar_v2(labels_refs: impl Iterator<Item = u32>, point: ExemplarPoint) -> usize {
    len_field(len_labels(len_packed(labels_refs)) + point.len())
}

/// Bytes of the packed references of an exemplar or a series: none at all for none.
const fn len_labels(packed: usize) -> usize {
    if packed == 0 { 0 } else { len_field(packed) }
}

/// Appends an exemplar to the 2.0 series begun last.
///
/// # Errors
/// [`Full`]; part of it may have been written.
pub fn put_exemplar_v2(
    out: &mut impl Sink,
    labels_refs: impl Iterator<Item = u32> + Clone,
    point: ExemplarPoint,
) -> Result<(), Full> {
    let packed = len_packed(labels_refs.clone());
    put_field_head(out, 0x22, len_labels(packed) + point.len())?;
    if packed > 0 {
        put_field_head(out, LABELS, packed)?;
        labels_refs
            .into_iter()
            .try_for_each(|reference| put_u64(out, reference.into()))?;
    }
    point.put(out)
}

/// Metadata of a 2.0 series; references of 0 stand for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeriesMetadata {
    /// Type.
    pub kind: MetricType,
    /// Symbol of the help text.
    pub help: u32,
    /// Symbol of the unit.
    pub unit: u32,
}

impl SeriesMetadata {
    const fn payload(self) -> usize {
        let kind = if matches!(self.kind, MetricType::Unknown) { 0 } else { 2 };
        kind + len_time(self.help as i64) + len_time(self.unit as i64)
    }

    /// Bytes that [`SeriesMetadata::put`] appends.
    #[allow(clippy::len_without_is_empty, reason = "bytes on the wire, not a collection")]
    #[must_use]
    pub const fn len(self) -> usize {
        match self.payload() {
            0 => 0,
            payload => len_field(payload),
        }
    }

    /// Appends it to the 2.0 series begun last; nothing known takes no bytes.
    ///
    /// # Errors
    /// [`Full`]; part of it may have been written.
    pub fn put(self, out: &mut impl Sink) -> Result<(), Full> {
        let payload = self.payload();
        if payload == 0 {
            return Ok(());
        }
        put_field_head(out, V2_METADATA, payload)?;
        if self.kind != MetricType::Unknown {
            out.put(&[METADATA_TYPE, self.kind as u8])?;
        }
        put_time(out, &[V2_METADATA_HELP], self.help.into())?;
        put_time(out, &[V2_METADATA_UNIT], self.unit.into())
    }
}

const fn len_text(text: &str) -> usize {
    if text.is_empty() { 0 } else { len_field(text.len()) }
}

/// One `MetricMetadata` of a 1.0 request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyMetadata<'a> {
    /// Name of the family.
    pub family: &'a str,
    /// Type.
    pub kind: MetricType,
    /// Help text; may be empty.
    pub help: &'a str,
    /// Unit; may be empty.
    pub unit: &'a str,
}

impl FamilyMetadata<'_> {
    const fn payload(&self) -> usize {
        let kind = if matches!(self.kind, MetricType::Unknown) { 0 } else { 2 };
        kind + len_text(self.family) + len_text(self.help) + len_text(self.unit)
    }

    /// Bytes that [`FamilyMetadata::put`] appends.
    #[allow(clippy::len_without_is_empty, reason = "bytes on the wire, not a collection")]
    #[must_use]
    pub const fn len(&self) -> usize {
        len_field(self.payload())
    }

    /// Appends it to a 1.0 request.
    ///
    /// # Errors
    /// [`Full`]; part of it may have been written.
    pub fn put(&self, out: &mut impl Sink) -> Result<(), Full> {
        put_field_head(out, V1_METADATA, self.payload())?;
        if self.kind != MetricType::Unknown {
            out.put(&[METADATA_TYPE, self.kind as u8])?;
        }
        for (tag, text) in [
            (METADATA_FAMILY, self.family),
            (V1_METADATA_HELP, self.help),
            (V1_METADATA_UNIT, self.unit),
        ] {
            if !text.is_empty() {
                put_bytes_field(out, tag, text.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Bytes of a reference of a string that has none yet, at most: a request has fewer than 2^21 strings.
pub const MAX_REFERENCE_BYTES: usize = 3;

/// Bytes of an exemplar of a 2.0 series with so many references, at most.
#[must_use]
pub const fn max_exemplar_v2(references: usize, point: ExemplarPoint) -> usize {
    len_field(len_labels(references * MAX_REFERENCE_BYTES) + point.len())
}

const _: () = assert!(len_u64(1 << 21) == MAX_REFERENCE_BYTES + 1);
