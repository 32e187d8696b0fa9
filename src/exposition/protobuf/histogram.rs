//! Native histograms: from the exposition's message to remote write's.
//!
//! Nothing is copied out of the exposition: [`NativeHistogram`] reads the buckets from the message each time it needs them,
//! so resolution is reduced and spans are made anew in one pass over a few integers, whatever the number of buckets.
//!
//! What is written holds no empty bucket, and spans with nothing to say are joined, as Prometheus does before it stores one.
//! Two different expositions of one histogram thus give the same bytes.
//!
//! Sources: `io.prometheus.client.Histogram`, `prometheus.Histogram` (remote write; 2.0 has the same fields);
//! Prometheus' `model/histogram` (`Compact`, `ReduceResolution`, `Validate`) and `scrape` (limits).

use super::wire::{self, Fields, Value};
use crate::frame::Full;
use crate::sample::{NORMAL_NAN_BITS, Number, STALE_NAN_BITS};
use crate::value::varint::{ByteCount, Cursor, Sink, len_u64, put_u64, unzigzag, zigzag};
use core::fmt;

/// Schemas of exponential buckets that remote write carries; others up to `SCHEMA_RESERVED` are reduced to the largest.
pub const SCHEMA_MIN: i8 = -4;
/// See [`SCHEMA_MIN`].
pub const SCHEMA_MAX: i8 = 8;
/// Largest schema that Prometheus takes and reduces.
const SCHEMA_RESERVED: i64 = 52;

/// Fields of `io.prometheus.client.Histogram`.
pub(super) mod field {
    pub const COUNT: u32 = 1;
    pub const SUM: u32 = 2;
    pub const BUCKET: u32 = 3;
    pub const COUNT_FLOAT: u32 = 4;
    pub const SCHEMA: u32 = 5;
    pub const ZERO_THRESHOLD: u32 = 6;
    pub const ZERO_COUNT: u32 = 7;
    pub const ZERO_COUNT_FLOAT: u32 = 8;
    pub const NEGATIVE_SPAN: u32 = 9;
    pub const NEGATIVE_DELTA: u32 = 10;
    pub const NEGATIVE_COUNT: u32 = 11;
    pub const POSITIVE_SPAN: u32 = 12;
    pub const POSITIVE_DELTA: u32 = 13;
    pub const POSITIVE_COUNT: u32 = 14;
    pub const CREATED: u32 = 15;
    pub const EXEMPLARS: u32 = 16;
}

/// Why a native histogram cannot be stored; the scrape fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistogramProblem {
    /// A schema that is not known, or whose bounds the exposition cannot carry (custom buckets).
    Schema(i64),
    /// A span but the first begins before the one before it ends.
    SpanOffset,
    /// Spans and buckets do not agree in number, or a bucket's index is out of range.
    Spans,
    /// A bucket with fewer than no observations.
    NegativeBucket,
    /// The buckets do not add up to the count.
    Count,
}

impl fmt::Display for HistogramProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema(schema) => write!(
                f,
                "native histogram has schema {schema}, expected {SCHEMA_MIN} to {SCHEMA_MAX}"
            ),
            Self::SpanOffset => f.write_str("native histogram has a span with a negative offset"),
            Self::Spans => f.write_str("spans and buckets of a native histogram do not match"),
            Self::NegativeBucket => f.write_str("native histogram has a bucket with a negative count"),
            Self::Count => f.write_str("buckets of a native histogram do not add up to its count"),
        }
    }
}

/// Why a native histogram was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// More buckets than the limit even at the lowest resolution.
    BucketLimit,
    /// `out` is full.
    Full(Full),
}

impl From<Full> for WriteError {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

/// How finely a histogram may be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Largest schema (`native_histogram_min_bucket_factor`); at most [`SCHEMA_MAX`].
    pub max_schema: i8,
    /// Most buckets (`native_histogram_bucket_limit`); 0: no limit.
    pub bucket_limit: u32,
}

impl Default for Resolution {
    fn default() -> Self {
        Self {
            max_schema: SCHEMA_MAX,
            bucket_limit: 0,
        }
    }
}

/// A native histogram as exposed, checked when it is made. Borrowed from the parser until its next call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NativeHistogram<'a> {
    message: &'a [u8],
    gauge: bool,
    is_float: bool,
    count: u64,
    count_float: f64,
    sum: f64,
    schema: i8,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
}

/// Observations of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Count {
    Int(i64),
    Float(f64),
}

impl Count {
    const fn zero(is_float: bool) -> Self {
        if is_float { Self::Float(0.0) } else { Self::Int(0) }
    }

    fn is_zero(self) -> bool {
        self == Self::Int(0) || self == Self::Float(0.0)
    }

    /// Two buckets in one. Whole counts add up to the checked count of the histogram, so they never wrap.
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Self::Int(a.wrapping_add(b)),
            (Self::Float(a), Self::Float(b)) => Self::Float(a + b),
            (this, _) => this,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Sign {
    Negative,
    Positive,
}

impl Sign {
    const fn span(self) -> u32 {
        match self {
            Self::Negative => field::NEGATIVE_SPAN,
            Self::Positive => field::POSITIVE_SPAN,
        }
    }

    const fn values(self, is_float: bool) -> u32 {
        match (self, is_float) {
            (Self::Negative, false) => field::NEGATIVE_DELTA,
            (Self::Negative, true) => field::NEGATIVE_COUNT,
            (Self::Positive, false) => field::POSITIVE_DELTA,
            (Self::Positive, true) => field::POSITIVE_COUNT,
        }
    }
}

/// Whether the message holds a native histogram: any span, or a zero bucket of some width or with observations.
pub(super) fn is_native(message: &[u8]) -> bool {
    Fields::new(message).any(|(number, value)| match number {
        field::NEGATIVE_SPAN | field::POSITIVE_SPAN => true,
        field::ZERO_THRESHOLD => value.double() > 0.0,
        field::ZERO_COUNT => value.varint() > 0,
        _ => false,
    })
}

impl<'a> NativeHistogram<'a> {
    /// Reads and checks a well-formed message of type histogram or, if `gauge`, gauge histogram.
    pub(super) fn new(message: &'a [u8], gauge: bool) -> Result<Self, HistogramProblem> {
        let (mut count, mut count_float, mut sum, mut schema) = (0, 0.0, 0.0, 0);
        let (mut zero_threshold, mut zero_count, mut zero_count_float) = (0.0, 0, 0.0);
        for (number, value) in Fields::new(message) {
            match number {
                field::COUNT => count = value.varint(),
                field::COUNT_FLOAT => count_float = value.double(),
                field::SUM => sum = value.double(),
                field::SCHEMA => schema = unzigzag(value.varint()),
                field::ZERO_THRESHOLD => zero_threshold = value.double(),
                field::ZERO_COUNT => zero_count = value.varint(),
                field::ZERO_COUNT_FLOAT => zero_count_float = value.double(),
                _ => {}
            }
        }
        let known = if schema <= SCHEMA_RESERVED {
            i8::try_from(schema).ok()
        } else {
            None
        };
        let Some(schema) = known.filter(|&schema| schema >= SCHEMA_MIN) else {
            return Err(HistogramProblem::Schema(schema));
        };
        let this = Self {
            message,
            gauge,
            is_float: count_float > 0.0 || zero_count_float > 0.0,
            count,
            count_float,
            sum,
            schema,
            zero_threshold,
            zero_count,
            zero_count_float,
        };
        this.check()?;
        Ok(this)
    }

    /// The number of observations: what the sample of a native histogram holds.
    #[must_use]
    pub fn count(&self) -> Number {
        if self.is_float {
            return crate::value::from_bits(no_marker(self.count_float));
        }
        whole_number(self.count)
    }

    fn check(&self) -> Result<(), HistogramProblem> {
        let mut observations = self.zero_count;
        for sign in [Sign::Negative, Sign::Positive] {
            let mut spans: u64 = 0;
            for (place, (offset, len)) in self.spans(sign).enumerate() {
                if place > 0 && offset < 0 {
                    return Err(HistogramProblem::SpanOffset);
                }
                spans = spans.saturating_add(len.into());
            }
            let mut values: u64 = 0;
            let mut absolute: i64 = 0;
            for value in self.values(sign) {
                values += 1;
                let negative = match value {
                    Count::Int(delta) => {
                        absolute = absolute.checked_add(delta).ok_or(HistogramProblem::Count)?;
                        let (sum, over) = observations.overflowing_add(absolute as u64);
                        if over && absolute >= 0 {
                            return Err(HistogramProblem::Count);
                        }
                        observations = sum;
                        absolute < 0
                    }
                    Count::Float(count) => count < 0.0,
                };
                if negative {
                    return Err(HistogramProblem::NegativeBucket);
                }
            }
            if spans != values || self.buckets(sign).any(|(index, _)| i32::try_from(index).is_err()) {
                return Err(HistogramProblem::Spans);
            }
        }
        // Observations of NaN count, but are in no bucket. Floats need not add up exactly.
        let fits = if self.sum.is_nan() {
            observations <= self.count
        } else {
            observations == self.count
        };
        if self.is_float || fits {
            Ok(())
        } else {
            Err(HistogramProblem::Count)
        }
    }

    fn spans(&self, sign: Sign) -> impl Iterator<Item = (i32, u32)> + use<'a> {
        let wanted = sign.span();
        let spans = Fields::new(self.message).filter(move |(number, _)| *number == wanted);
        spans.map(|(_, span)| {
            let span = span.bytes();
            (unzigzag(wire::varint(span, 1)) as i32, wire::varint(span, 2) as u32)
        })
    }

    /// The bucket values as they stand: differences of whole counts, or counts.
    fn values(&self, sign: Sign) -> Values<'a> {
        Values {
            fields: Fields::new(self.message),
            number: sign.values(self.is_float),
            packed: Cursor::new(&[]),
            is_float: self.is_float,
        }
    }

    /// Index and observations of every bucket.
    fn buckets(&self, sign: Sign) -> impl Iterator<Item = (i64, Count)> + use<'a> {
        let mut spans = self.spans(sign);
        let mut left = 0;
        let mut next_index = 0_i64;
        let mut absolute = 0_i64;
        self.values(sign).map_while(move |value| {
            while left == 0 {
                let (offset, len) = spans.next()?;
                next_index = next_index.saturating_add(offset.into());
                left = len;
            }
            left -= 1;
            let index = next_index;
            next_index = next_index.saturating_add(1);
            let count = match value {
                Count::Int(delta) => {
                    absolute = absolute.wrapping_add(delta);
                    Count::Int(absolute)
                }
                float => float,
            };
            Some((index, count))
        })
    }

    /// The buckets that have observations, `shift` schemas coarser.
    fn merged(&self, sign: Sign, shift: u32) -> impl Iterator<Item = (i64, Count)> + use<'a> {
        let zero = Count::zero(self.is_float);
        let mut buckets = self.buckets(sign).filter(|(_, count)| !count.is_zero());
        let mut held: Option<(i64, Count)> = None;
        let mut ended = false;
        core::iter::from_fn(move || {
            while !ended {
                let next = buckets.next().map(|(index, count)| (((index - 1) >> shift) + 1, count));
                ended = next.is_none();
                match (held, next) {
                    (Some((index, sum)), Some((same, count))) if index == same => held = Some((index, sum.plus(count))),
                    _ => {
                        let done = core::mem::replace(&mut held, next.map(|(index, count)| (index, zero.plus(count))));
                        if done.is_some() {
                            return done;
                        }
                    }
                }
            }
            None
        })
    }

    /// Writes remote write's `Histogram` message, without its times.
    ///
    /// # Errors
    /// [`WriteError`]; `out` may hold a part of it then.
    pub fn write(&self, resolution: Resolution, out: &mut impl Sink) -> Result<(), WriteError> {
        let schema = self.reduced_schema(resolution)?;
        let shift = u32::from((self.schema - schema).unsigned_abs());
        if self.is_float {
            put_double(out, 2, self.count_float)?;
        } else {
            put_tag(out, 1, 0)?;
            put_u64(out, self.count)?;
        }
        put_nonzero_double(out, 3, self.sum)?;
        if schema != 0 {
            put_tag(out, 4, 0)?;
            put_u64(out, zigzag(schema.into()))?;
        }
        put_nonzero_double(out, 5, self.zero_threshold)?;
        if self.is_float {
            put_double(out, 7, self.zero_count_float)?;
        } else {
            put_tag(out, 6, 0)?;
            put_u64(out, self.zero_count)?;
        }
        self.put_buckets(Sign::Negative, shift, 8, out)?;
        self.put_buckets(Sign::Positive, shift, 11, out)?;
        if self.gauge {
            put_tag(out, 14, 0)?;
            put_u64(out, RESET_HINT_GAUGE)?;
        }
        Ok(())
    }

    /// The finest schema that keeps to the limits.
    fn reduced_schema(&self, resolution: Resolution) -> Result<i8, WriteError> {
        let mut schema = self.schema.min(resolution.max_schema).clamp(SCHEMA_MIN, SCHEMA_MAX);
        let buckets = |schema: i8| {
            let shift = u32::from((self.schema - schema).unsigned_abs());
            self.merged(Sign::Negative, shift).count() + self.merged(Sign::Positive, shift).count()
        };
        while resolution.bucket_limit > 0 && buckets(schema) > resolution.bucket_limit as usize {
            if schema <= SCHEMA_MIN {
                return Err(WriteError::BucketLimit);
            }
            schema -= 1;
        }
        Ok(schema)
    }

    /// Spans in field `first`, then differences in the next one, or counts in the one after.
    fn put_buckets(&self, sign: Sign, shift: u32, first: u32, out: &mut impl Sink) -> Result<(), Full> {
        let mut end = 0;
        let mut span: Option<(i64, u64)> = None;
        for (index, _) in self.merged(sign, shift) {
            span = match span {
                Some((offset, len)) if index == end => Some((offset, len + 1)),
                done => {
                    put_span(out, first, done)?;
                    Some((index - end, 1))
                }
            };
            end = index + 1;
        }
        put_span(out, first, span)?;
        let mut bytes = ByteCount::default();
        self.put_values(sign, shift, &mut bytes)?;
        if bytes.0 > 0 {
            put_tag(out, first + if self.is_float { 2 } else { 1 }, 2)?;
            put_u64(out, bytes.0 as u64)?;
            self.put_values(sign, shift, out)?;
        }
        Ok(())
    }

    fn put_values(&self, sign: Sign, shift: u32, out: &mut impl Sink) -> Result<(), Full> {
        let mut before = 0_i64;
        for (_, count) in self.merged(sign, shift) {
            match count {
                Count::Int(count) => {
                    put_u64(out, zigzag(count.wrapping_sub(before)))?;
                    before = count;
                }
                Count::Float(count) => out.put(&count.to_bits().to_le_bytes())?,
            }
        }
        Ok(())
    }
}

/// `ResetHint.GAUGE` of remote write's histogram.
const RESET_HINT_GAUGE: u64 = 3;

/// Bucket values of one sign: in packed fields, one field each, or both.
#[derive(Clone, Debug)]
struct Values<'a> {
    fields: Fields<'a>,
    number: u32,
    packed: Cursor<'a>,
    is_float: bool,
}

impl Iterator for Values<'_> {
    type Item = Count;

    fn next(&mut self) -> Option<Count> {
        while self.packed.is_empty() {
            match self.fields.next()? {
                (number, _) if number != self.number => {}
                (_, Value::Bytes(packed)) => self.packed = Cursor::new(packed),
                (_, value) if self.is_float => return Some(Count::Float(value.double())),
                (_, value) => return Some(Count::Int(unzigzag(value.varint()))),
            }
        }
        // A packed field that ends inside a number: its bytes are not looked at again, and the count will not match.
        let value = if self.is_float {
            self.packed.array().map(|bytes| Count::Float(f64::from_le_bytes(bytes)))
        } else {
            self.packed.i64().map(Count::Int)
        };
        value.ok()
    }
}

/// The bits of a float of the exposition. Unlike text, protobuf could carry the staleness marker: it becomes the normal NaN; other NaNs
/// stay as they are, as in Prometheus (SCR-811).
pub(super) fn no_marker(value: f64) -> u64 {
    match value.to_bits() {
        STALE_NAN_BITS => NORMAL_NAN_BITS,
        bits => bits,
    }
}

/// `count` as a number: exact as a decimal as long as it is a float, too.
pub(in crate::exposition) fn whole_number(count: u64) -> Number {
    crate::value::from_bits((count as f64).to_bits())
}

pub(in crate::exposition) fn put_tag(out: &mut impl Sink, number: u32, wire: u32) -> Result<(), Full> {
    put_u64(out, (number << 3 | wire).into())
}

pub(in crate::exposition) fn put_double(out: &mut impl Sink, number: u32, value: f64) -> Result<(), Full> {
    put_tag(out, number, 1)?;
    out.put(&no_marker(value).to_le_bytes())
}

pub(in crate::exposition) fn put_nonzero_double(out: &mut impl Sink, number: u32, value: f64) -> Result<(), Full> {
    if value.to_bits() == 0 {
        return Ok(());
    }
    put_double(out, number, value)
}

pub(in crate::exposition) fn put_span(out: &mut impl Sink, number: u32, span: Option<(i64, u64)>) -> Result<(), Full> {
    let Some((offset, len)) = span else { return Ok(()) };
    let offset_bytes = if offset == 0 { 0 } else { 1 + len_u64(zigzag(offset)) };
    put_tag(out, number, 2)?;
    put_u64(out, (offset_bytes + 1 + len_u64(len)) as u64)?;
    if offset != 0 {
        put_tag(out, 1, 0)?;
        put_u64(out, zigzag(offset))?;
    }
    put_tag(out, 2, 0)?;
    put_u64(out, len)
}
