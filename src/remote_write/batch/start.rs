//! Start timestamps, from the `_created` series of OpenMetrics.
//!
//! A counter `x_total`, a histogram's `x_bucket`, `x_count` and `x_sum` and a summary's samples began to count at the
//! value of `x_created` (seconds) in the same frame, with the same labels but for `le` and `quantile`. The `_created`
//! series itself is sent like any other; nothing of this is stored.
//!
//! What a series' `_created` is called is worked out and looked up once, and again when definitions change; where
//! it stands in the frame is remembered as the distance from the sample. A frame of the same shape as the last costs
//! one comparison per sample; another shape, or a frame without it, at most 2 x [`NEAR`].
//!
//! A sample gets no start timestamp when it is a staleness marker, when `_created` is missing, farther away, not a
//! positive number or later than the sample, or when it is a series of its own with a TYPE line (a gauge or
//! counter that happens to have the name, as the classic text format allows).
//!
//! Sources: OpenMetrics 1.0, "Counter", "Histogram", "Summary"; remote write 2.0, `Sample.start_timestamp`.

use super::Batch;
use crate::catalogue::{Names, SeriesText};
use crate::frame::{Frame, Full};
use crate::labels::body_labels;
use crate::remote_write::response::Protocol;
use crate::sample::{Form, MetricType, Number, Sample, SeriesRef, TargetRef};

/// Farthest a `_created` may be from a sample of its metric, in samples either way: OpenMetrics keeps the samples of a
/// metric together, so this bounds the buckets of a histogram.
const NEAR: i16 = 256;

/// Where the start timestamps of a series come from. 8 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    created: Created,
    /// From its own sample to that of `_created` in the frame seen last.
    distance: i16,
    /// Index of the start timestamp it had last, valid if that is still the one there.
    start: u16,
}

#[derive(Clone, Copy, Debug, Default)]
enum Created {
    #[default]
    Unknown,
    None,
    Series(SeriesRef),
}

impl Batch {
    /// The start timestamp of the sample at `position`, sent at `time` as one of `slot`; 0: none.
    pub(super) fn start_ms(
        &mut self,
        frame: &Frame,
        names: &mut Names<'_>,
        position: usize,
        slot: u16,
        time: i64,
    ) -> i64 {
        let Some(sample) = frame.samples.get(position).filter(|s| !s.number.is_stale()) else {
            return 0;
        };
        let Some((mut origin, kind)) = self.dictionary.slot(slot).map(|s| (s.origin, s.kind)) else {
            return 0;
        };
        if self.protocol == Protocol::V1 || !has_start(kind) {
            return 0;
        }
        if matches!(origin.created, Created::Unknown) {
            // Until it is sealed nothing is in the body but what is carried, at its end.
            let free = self.carried_at();
            let scratch = self.body.get_mut(..free).unwrap_or_default();
            let found = look_up(names, frame.target, sample.series, kind, scratch);
            origin.created = found.map_or(Created::None, Created::Series);
            self.dictionary.set_origin(slot, origin);
        }
        let Created::Series(created) = origin.created else {
            return 0;
        };
        let Some((distance, number)) = find_near(&frame.samples, position, created, origin.distance) else {
            return 0;
        };
        if distance != origin.distance {
            origin.distance = distance;
            self.dictionary.set_origin(slot, origin);
        }
        millis(number).filter(|&start| start <= time).unwrap_or(0)
    }

    /// The index of `start`; samples of a series, and neighbours, mostly share theirs.
    pub(super) fn start_index(&mut self, start: i64, slot: u16) -> Result<u16, Full> {
        if start == 0 {
            return Ok(0);
        }
        let Some(mut origin) = self.dictionary.slot(slot).map(|s| s.origin) else {
            return Ok(0);
        };
        if self.starts.get(usize::from(origin.start)) == Some(&start) {
            return Ok(origin.start);
        }
        if self.starts.last() != Some(&start) {
            self.starts.push(start)?;
        }
        // The capacity is below 2^16, and there is at least the one just pushed.
        origin.start = self.starts.len() as u16 - 1;
        self.dictionary.set_origin(slot, origin);
        Ok(origin.start)
    }
}

/// The types whose series count from a start.
const fn has_start(kind: MetricType) -> bool {
    matches!(kind, MetricType::Counter | MetricType::Histogram | MetricType::Summary)
}

/// The `_created` series that belongs to `series`. `scratch` is overwritten; 32 KiB are enough for any.
fn look_up(
    names: &mut Names<'_>,
    target: TargetRef,
    series: SeriesRef,
    kind: MetricType,
    scratch: &mut [u8],
) -> Option<SeriesRef> {
    let text = created_text(names.text(series)?, kind, scratch)?;
    names.find_created(target, text, series)
}

/// Name and labels of the `_created` series of a series of type `kind`.
fn created_text<'a>(text: SeriesText<'_>, kind: MetricType, scratch: &'a mut [u8]) -> Option<SeriesText<'a>> {
    let count_or_sum = || text.name.strip_suffix("_count").or(text.name.strip_suffix("_sum"));
    let (base, left_out) = match kind {
        MetricType::Counter => (text.name.strip_suffix("_total")?, ""),
        MetricType::Histogram => match text.name.strip_suffix("_bucket") {
            Some(base) => (base, "le"),
            None => (count_or_sum()?, ""),
        },
        MetricType::Summary => count_or_sum().map_or((text.name, "quantile"), |base| (base, "")),
        _ => return None,
    };
    let mut out = Scratch { bytes: scratch, len: 0 };
    out.put(base)?;
    out.put("_created")?;
    let name_len = out.len;
    let mut labels = body_labels(text.body);
    let mut rest = labels.rest();
    while let Some(label) = labels.next() {
        // With the comma that follows, if one does.
        let whole = rest.get(..rest.len() - labels.rest().len())?;
        rest = labels.rest();
        if left_out.is_empty() || label.name.plain() != Some(left_out) {
            out.put(whole)?;
        }
    }
    if !rest.is_empty() {
        return None;
    }
    let (name, body) = out.bytes.get(..out.len)?.split_at_checked(name_len)?;
    let body = core::str::from_utf8(body).ok()?;
    Some(SeriesText {
        name: core::str::from_utf8(name).ok()?,
        body: body.strip_suffix(',').unwrap_or(body),
    })
}

struct Scratch<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Scratch<'_> {
    fn put(&mut self, text: &str) -> Option<()> {
        let end = self.len.checked_add(text.len())?;
        self.bytes.get_mut(self.len..end)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Some(())
    }
}

/// Distance and value of the sample of `created` nearest behind `position`, else nearest before it; at `guess` first.
fn find_near(samples: &[Sample], position: usize, created: SeriesRef, guess: i16) -> Option<(i16, Number)> {
    let at = |distance: i16| {
        let sample = samples.get(position.checked_add_signed(distance.into())?)?;
        (sample.series == created).then_some((distance, sample.number))
    };
    at(guess)
        .or_else(|| (1..=NEAR).find_map(at))
        .or_else(|| (1..=NEAR).find_map(|distance| at(-distance)))
}

/// Milliseconds, the rest cut off, of a positive number of seconds; `None`: it is none, or there is no such time.
///
/// Exact: a decimal is scaled as the decimal it was written as, a float by its bits.
fn millis(seconds: Number) -> Option<i64> {
    let millis = match seconds.form() {
        Form::Decimal { mantissa, exponent } => {
            let scale = i32::from(exponent) + 3;
            // A mantissa is below 10^16: a power that an i64 does not hold leaves nothing of it.
            let power = 10_i64.checked_pow(scale.unsigned_abs());
            match power {
                Some(power) if scale < 0 => mantissa / power,
                None if scale < 0 => 0,
                power => mantissa.checked_mul(power?)?,
            }
        }
        Form::Bits(bits) => {
            // Sign and exponent: 2^-11 to 2^53 is where milliseconds are.
            let shift = 1075_u64.checked_sub(bits >> 52)?;
            let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
            // Below 2^63, as 1000 is below 2^10.
            (mantissa * 1000).checked_shr(u32::try_from(shift).ok()?).unwrap_or(0) as i64
        }
    };
    (millis > 0).then_some(millis)
}

#[cfg(test)]
mod tests;
