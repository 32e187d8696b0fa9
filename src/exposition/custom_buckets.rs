//! A classic histogram, line by line, as a native histogram with custom buckets (schema -53).
//!
//! Takes what `_bucket`, `_count` and `_sum` say of one label set in any order and writes remote write's `Histogram` message, the one
//! that Prometheus makes with `convert_classic_histograms_to_nhcb`:
//! - without a count, that of the largest bound; without a bound of +Inf, a bucket for it with the count;
//! - a bound that is there twice counts once, the first;
//! - whole numbers where all of them are, otherwise floats;
//! - empty buckets at both ends and in runs are left out: of floats each, of whole numbers those in runs of three and more.
//!
//! What does not make a histogram ([`Unconvertible`]) is for the caller to count; Prometheus says nothing of it either.
//!
//! Limits: [`MAX_CLASSIC_BUCKETS`]; 16 bytes each, allocated once.
//!
//! Sources: Prometheus' `util/convertnhcb` and `model/histogram` (`Compact`, `Validate`).

use super::protobuf::{WriteError, put_double, put_nonzero_double, put_span, put_tag, whole_number};
use crate::frame::{Bounded, Full};
use crate::sample::Number;
use crate::value::from_bits;
use crate::value::varint::{ByteCount, Sink, put_u64, zigzag};

/// Buckets of one histogram, +Inf included. The longest known layout, that of Micrometer's percentile histograms, has 276.
pub const MAX_CLASSIC_BUCKETS: usize = 512;

/// Schema of histograms with custom buckets.
const CUSTOM_BUCKETS: i64 = -53;

/// Empty buckets of a run that are worth their bytes: a span more costs as much.
const MAX_EMPTY: usize = 2;

/// Why the lines make no histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unconvertible {
    /// A bucket or the count is negative.
    Negative,
    /// A bucket has fewer observations than one with a smaller bound.
    NotCumulative,
    /// The count is not that of the last bucket.
    Count,
    /// A bound of -Inf.
    Bound,
    /// More buckets than [`MAX_CLASSIC_BUCKETS`].
    TooManyBuckets,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    bound: f64,
    /// Observations up to the bound.
    cumulative: f64,
}

/// The lines of one classic histogram.
#[derive(Debug)]
pub struct ClassicHistogram {
    /// By bound.
    buckets: Bounded<Bucket>,
    count: Option<f64>,
    sum: f64,
    fault: Option<Unconvertible>,
}

impl ClassicHistogram {
    /// Allocates; the only call here that does.
    #[must_use]
    pub fn new() -> Self {
        Self {
            // One more: that of +Inf may have to be added.
            buckets: Bounded::with_capacity(MAX_CLASSIC_BUCKETS + 1),
            count: None,
            sum: 0.0,
            fault: None,
        }
    }

    /// Exact heap bytes.
    #[must_use]
    pub const fn ram_bytes() -> usize {
        (MAX_CLASSIC_BUCKETS + 1) * size_of::<Bucket>()
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.buckets.clear();
        self.count = None;
        self.sum = 0.0;
        self.fault = None;
    }

    /// A `_bucket` line; `bound` is its `le`, not NaN.
    pub fn bucket(&mut self, bound: f64, cumulative: f64) {
        if self.fault.is_none()
            && let Err(fault) = self.try_bucket(Bucket { bound, cumulative })
        {
            self.fault = Some(fault);
        }
    }

    fn try_bucket(&mut self, new: Bucket) -> Result<(), Unconvertible> {
        if new.cumulative < 0.0 {
            return Err(Unconvertible::Negative);
        }
        let at = self.buckets.partition_point(|bucket| bucket.bound < new.bound);
        let (before, next) = (
            at.checked_sub(1).and_then(|n| self.buckets.get(n)),
            self.buckets.get(at),
        );
        if next.is_some_and(|next| next.bound == new.bound) {
            return Ok(());
        }
        if before.is_some_and(|before| new.cumulative < before.cumulative)
            || next.is_some_and(|next| new.cumulative > next.cumulative)
        {
            return Err(Unconvertible::NotCumulative);
        }
        if self.buckets.len() >= MAX_CLASSIC_BUCKETS {
            return Err(Unconvertible::TooManyBuckets);
        }
        self.push(new)?;
        if let Some(moved) = self.buckets.get_mut(at..) {
            moved.rotate_right(1);
        }
        Ok(())
    }

    fn push(&mut self, bucket: Bucket) -> Result<(), Unconvertible> {
        self.buckets.push(bucket).map_err(|_| Unconvertible::TooManyBuckets)
    }

    /// The `_count` line.
    pub fn count(&mut self, count: f64) {
        if count < 0.0 {
            self.fault = self.fault.or(Some(Unconvertible::Negative));
        } else if self.fault.is_none() {
            self.count = Some(count);
        }
    }

    /// The `_sum` line.
    pub fn sum(&mut self, sum: f64) {
        if self.fault.is_none() {
            self.sum = sum;
        }
    }

    /// All lines are there: completes the buckets.
    ///
    /// # Errors
    /// [`Unconvertible`]; only [`ClassicHistogram::clear`] makes sense then.
    pub fn convert(&mut self) -> Result<(), Unconvertible> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let last = self.buckets.last().copied();
        let count = self.count.or(last.map(|last| last.cumulative)).unwrap_or(0.0);
        self.count = Some(count);
        if last.is_none_or(|last| last.bound != f64::INFINITY) {
            self.push(Bucket {
                bound: f64::INFINITY,
                cumulative: count,
            })?;
        }
        if self.buckets.last().is_none_or(|last| last.cumulative != count) {
            return Err(Unconvertible::Count);
        }
        if (0..self.buckets.len()).any(|n| self.observations_of(n) < 0.0) {
            return Err(Unconvertible::NotCumulative);
        }
        if self
            .buckets
            .first()
            .is_some_and(|first| first.bound == f64::NEG_INFINITY)
        {
            return Err(Unconvertible::Bound);
        }
        Ok(())
    }

    /// The number of observations: what the sample of a native histogram holds.
    #[must_use]
    pub fn observations(&self) -> Number {
        let count = self.count.unwrap_or(0.0);
        match self.is_whole() {
            // Not negative, and below 2^63.
            true => whole_number(count as u64),
            false => from_bits(count.to_bits()),
        }
    }

    /// Writes remote write's `Histogram` message without its times, of what was converted.
    ///
    /// # Errors
    /// [`WriteError`]; `out` may hold a part of it then. The limit on buckets (0: none) cannot be met by a lower resolution.
    pub fn write(&self, bucket_limit: u32, out: &mut impl Sink) -> Result<(), WriteError> {
        if bucket_limit > 0 && self.kept().count() > bucket_limit as usize {
            return Err(WriteError::BucketLimit);
        }
        Ok(self.put(out)?)
    }

    fn put(&self, out: &mut impl Sink) -> Result<(), Full> {
        let (count, whole) = (self.count.unwrap_or(0.0), self.is_whole());
        if whole {
            put_tag(out, 1, 0)?;
            put_u64(out, count as u64)?;
        } else {
            put_double(out, 2, count)?;
        }
        put_nonzero_double(out, 3, self.sum)?;
        put_tag(out, 4, 0)?;
        put_u64(out, zigzag(CUSTOM_BUCKETS))?;
        if whole {
            put_tag(out, 6, 0)?;
            put_u64(out, 0)?;
        } else {
            put_double(out, 7, 0.0)?;
        }
        self.put_spans(out)?;
        let mut bytes = ByteCount::default();
        self.put_values(whole, &mut bytes)?;
        if bytes.0 > 0 {
            put_tag(out, if whole { 12 } else { 13 }, 2)?;
            put_u64(out, bytes.0 as u64)?;
            self.put_values(whole, out)?;
        }
        let bounds = self.buckets.len().saturating_sub(1);
        if bounds > 0 {
            put_tag(out, 16, 2)?;
            put_u64(out, 8 * bounds as u64)?;
            for bucket in self.buckets.iter().take(bounds) {
                out.put(&bucket.bound.to_bits().to_le_bytes())?;
            }
        }
        Ok(())
    }

    fn put_spans(&self, out: &mut impl Sink) -> Result<(), Full> {
        let mut end = 0;
        let mut span: Option<(i64, u64)> = None;
        for index in self.kept() {
            // At most `MAX_CLASSIC_BUCKETS`.
            let index = index as i64;
            span = match span {
                Some((offset, len)) if index == end => Some((offset, len + 1)),
                done => {
                    put_span(out, 11, done)?;
                    Some((index - end, 1))
                }
            };
            end = index + 1;
        }
        put_span(out, 11, span)
    }

    fn put_values(&self, whole: bool, out: &mut impl Sink) -> Result<(), Full> {
        let mut before = 0_i64;
        for index in self.kept() {
            let observations = self.observations_of(index);
            if whole {
                // Differences of whole numbers below 2^63, made as such: floats would round those above 2^53.
                let whole = self.whole_observations_of(index);
                put_u64(out, zigzag(whole.wrapping_sub(before)))?;
                before = whole;
            } else {
                out.put(&observations.to_bits().to_le_bytes())?;
            }
        }
        Ok(())
    }

    fn cumulative(&self, index: usize) -> f64 {
        self.buckets.get(index).map_or(0.0, |bucket| bucket.cumulative)
    }

    /// Observations in a bucket alone.
    fn observations_of(&self, index: usize) -> f64 {
        let before = index.checked_sub(1).map_or(0.0, |before| self.cumulative(before));
        self.cumulative(index) - before
    }

    fn whole_observations_of(&self, index: usize) -> i64 {
        let before = index.checked_sub(1).map_or(0.0, |before| self.cumulative(before));
        (self.cumulative(index) as i64).wrapping_sub(before as i64)
    }

    fn is_empty(&self, index: usize) -> bool {
        self.observations_of(index) == 0.0
    }

    /// Buckets that are written, by index.
    fn kept(&self) -> impl Iterator<Item = usize> {
        let most = if self.is_whole() { MAX_EMPTY } else { 0 };
        (0..self.buckets.len()).filter(move |&index| {
            if !self.is_empty(index) {
                return true;
            }
            // The distance to the next bucket with observations to both sides: the run is as long as both together less one.
            let before = (1..=most).find(|&n| index.checked_sub(n).is_some_and(|at| !self.is_empty(at)));
            let after = (1..=most).find(|&n| index + n < self.buckets.len() && !self.is_empty(index + n));
            matches!((before, after), (Some(before), Some(after)) if before + after <= most + 1)
        })
    }

    fn is_whole(&self) -> bool {
        let mut counts = self.buckets.iter().map(|bucket| bucket.cumulative).chain(self.count);
        counts.all(is_whole)
    }
}

impl Default for ClassicHistogram {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a number that is not negative is one of 63 bits.
fn is_whole(number: f64) -> bool {
    const LIMIT: f64 = (1_u64 << 63) as f64;
    number < LIMIT && (number as i64) as f64 == number
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const INF: f64 = f64::INFINITY;

    fn lines(buckets: &[(f64, f64)], count: Option<f64>, sum: f64) -> ClassicHistogram {
        let mut histogram = ClassicHistogram::new();
        for &(bound, cumulative) in buckets {
            histogram.bucket(bound, cumulative);
        }
        if let Some(count) = count {
            histogram.count(count);
        }
        histogram.sum(sum);
        histogram
    }

    fn message(buckets: &[(f64, f64)], count: Option<f64>, sum: f64) -> Result<Vec<u8>, Unconvertible> {
        let mut histogram = lines(buckets, count, sum);
        histogram.convert()?;
        let mut out = Bounded::with_capacity(20_000);
        histogram.write(0, &mut out).unwrap();
        Ok(out.to_vec())
    }

    fn doubles(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn whole_counts_make_a_histogram_of_differences() {
        let found = message(&[(0.5, 2.0), (1.0, 2.0), (10.0, 7.0), (INF, 8.0)], Some(8.0), 1.5).unwrap();
        let mut expected = alloc::vec![8, 8, 25];
        expected.extend(doubles(&[1.5]));
        // Schema, zero count; one span of four with 2, 0, 5, 1.
        expected.extend([0x20, 105, 0x30, 0, 0x5a, 2, 0x10, 4, 0x62, 4, 4, 3, 10, 7]);
        expected.extend([0x82, 1, 24]);
        expected.extend(doubles(&[0.5, 1.0, 10.0]));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_fraction_anywhere_makes_floats_without_empty_buckets() {
        let found = message(&[(0.5, 0.0), (1.0, 2.5), (10.0, 2.5), (INF, 4.0)], Some(4.0), 0.0).unwrap();
        let mut expected = alloc::vec![17];
        expected.extend(doubles(&[4.0]));
        expected.extend([0x20, 105, 57]);
        expected.extend(doubles(&[0.0]));
        expected.extend([0x5a, 4, 8, 2, 0x10, 1, 0x5a, 4, 8, 2, 0x10, 1, 0x6a, 16]);
        expected.extend(doubles(&[2.5, 1.5]));
        expected.extend([0x82, 1, 24]);
        expected.extend(doubles(&[0.5, 1.0, 10.0]));
        assert_eq!(found, expected);
    }

    #[test]
    fn runs_of_three_and_the_ends_are_cut() {
        let counts = [0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0];
        let buckets: Vec<_> = counts
            .iter()
            .zip(1..)
            .map(|(&count, n)| (f64::from(n), count))
            .collect();
        let mut histogram = lines(&buckets, None, 0.0);
        histogram.convert().unwrap();
        assert_eq!(histogram.kept().collect::<Vec<_>>(), [2, 3, 4, 5, 9]);
        let mut out = Bounded::with_capacity(1_000);
        assert_eq!(histogram.write(4, &mut out), Err(WriteError::BucketLimit));
        assert_eq!(histogram.write(5, &mut out), Ok(()));
    }

    #[test]
    fn lines_may_be_missing_twice_or_out_of_order() {
        let whole = message(&[(1.0, 2.0), (2.0, 3.0), (INF, 5.0)], Some(5.0), 9.0);
        assert_eq!(
            message(&[(INF, 5.0), (2.0, 3.0), (1.0, 2.0), (2.0, 4.0)], Some(5.0), 9.0),
            whole
        );
        assert_eq!(
            message(&[(1.0, 2.0), (2.0, 3.0)], Some(5.0), 9.0),
            whole,
            "no bucket of +Inf"
        );
        assert_eq!(
            message(&[(1.0, 2.0), (2.0, 3.0), (INF, 5.0)], None, 9.0),
            whole,
            "no count"
        );
        // Nothing but the sum, and neither buckets nor count.
        let mut expected = alloc::vec![8, 0, 25];
        expected.extend(doubles(&[9.0]));
        expected.extend([0x20, 105, 0x30, 0]);
        assert_eq!(message(&[], None, 9.0), Ok(expected));
    }

    #[test]
    fn what_makes_no_histogram_is_said_to() {
        for (buckets, count, fault) in [
            (&[(1.0, -1.0)][..], None, Unconvertible::Negative),
            (&[(1.0, 1.0)], Some(-1.0), Unconvertible::Negative),
            (&[(1.0, 2.0), (2.0, 1.0)], None, Unconvertible::NotCumulative),
            (
                &[(1.0, 2.0), (3.0, 4.0), (2.0, 1.0)],
                None,
                Unconvertible::NotCumulative,
            ),
            (
                &[(1.0, 2.0), (3.0, 4.0), (2.0, 5.0)],
                None,
                Unconvertible::NotCumulative,
            ),
            (&[(1.0, 2.0), (INF, 4.0)], Some(5.0), Unconvertible::Count),
            (&[(1.0, 2.0), (INF, f64::NAN)], None, Unconvertible::Count),
            (&[(1.0, 2.0)], Some(1.0), Unconvertible::NotCumulative),
            (&[(f64::NEG_INFINITY, 2.0)], None, Unconvertible::Bound),
        ] {
            assert_eq!(message(buckets, count, 0.0), Err(fault), "{buckets:?} {count:?}");
        }
        let many: Vec<_> = (0..MAX_CLASSIC_BUCKETS).map(|n| (n as f64, n as f64)).collect();
        assert!(message(&many, None, 0.0).is_ok(), "and one for +Inf");
        let more: Vec<_> = (0..=MAX_CLASSIC_BUCKETS).map(|n| (n as f64, n as f64)).collect();
        assert_eq!(message(&more, None, 0.0), Err(Unconvertible::TooManyBuckets));
    }

    #[test]
    fn numbers_that_63_bits_do_not_hold_are_floats() {
        assert!(is_whole(0.0) && is_whole(9_007_199_254_740_993.0) && is_whole(9.2e18));
        assert!(!is_whole(0.5) && !is_whole((1_u64 << 63) as f64) && !is_whole(INF) && !is_whole(f64::NAN));
        let mut histogram = lines(&[(1.0, 1e19), (INF, 2e19)], Some(2e19), 1.0);
        histogram.convert().unwrap();
        assert_eq!(histogram.observations().to_bits(), 2e19_f64.to_bits());
        assert_eq!(lines(&[], Some(5.0), 1.0).observations(), whole_number(5));
    }
}
