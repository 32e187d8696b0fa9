//! Classic buckets, quantiles and exemplars within a value's message.

use super::histogram::{field, whole_number};
use super::metric::{exemplar_time, number};
use super::wire::{self, Fields, Malformed};
use crate::sample::Number;

/// A bucket or quantile.
pub(super) struct Item<'a> {
    /// Upper bound of a bucket; infinity behind the last one.
    pub(super) bound: f64,
    /// Its message; `None` behind the last one.
    pub(super) message: Option<&'a [u8]>,
    /// Bytes of the value's message up to its end.
    pub(super) read: usize,
}

/// The first bucket or quantile (both are field 3) of `value` from byte `read` on.
pub(super) fn next_item(value: &[u8], read: usize) -> Result<Item<'_>, Malformed> {
    let mut fields = Fields::new(value.get(read..).unwrap_or_default());
    while let Some((number, item)) = fields.read()? {
        if number == field::BUCKET {
            let message = item.bytes();
            Fields::check(message)?;
            return Ok(Item {
                bound: wire::double(message, 2),
                message: Some(message),
                read: value.len() - fields.remaining(),
            });
        }
    }
    Ok(Item {
        bound: f64::INFINITY,
        message: None,
        read: value.len(),
    })
}

/// A count: the float if there is one, else the whole number.
pub(super) fn count(message: &[u8], float: u32, whole: u32) -> Number {
    match wire::double(message, float) {
        0.0 => whole_number(wire::varint(message, whole)),
        count => number(count),
    }
}

/// Time and place of an exemplar, and its message.
type Placed<'a> = ((i64, usize), &'a [u8]);

/// The exemplar of a native histogram with the least (time, place) from `after` on; those without a time do not count.
///
/// They are in the histogram itself, or if there are none, in its classic buckets.
pub(super) fn next_exemplar(value: &[u8], after: (i64, usize)) -> Result<Option<Placed<'_>>, Malformed> {
    let own = wire::last(value, field::EXEMPLARS).is_some();
    let mut best: Option<Placed<'_>> = None;
    for (place, (number, item)) in Fields::new(value).enumerate() {
        let message = match number {
            field::EXEMPLARS => item.bytes(),
            field::BUCKET if !own => {
                Fields::check(item.bytes())?;
                match wire::last(item.bytes(), 3) {
                    Some(exemplar) => exemplar.bytes(),
                    None => continue,
                }
            }
            _ => continue,
        };
        Fields::check(message)?;
        let Some(time) = exemplar_time(message)? else { continue };
        let at = (time, place);
        if at >= after && best.is_none_or(|(least, _)| at < least) {
            best = Some((at, message));
        }
    }
    Ok(best)
}
