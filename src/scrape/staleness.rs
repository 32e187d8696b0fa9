//! Whether a sample counts: duplicates, order, bounds; and whether its series is tracked for staleness.
//!
//! # Rules, and where they are stricter than Prometheus
//!
//! - Without a timestamp of its own: the first sample of a series in a scrape counts, later ones are duplicates,
//!   even if their text differs (Prometheus' agent compares texts only and ships both, SCR-823).
//! - With one: it must be newer than the newest sample of its series, in this scrape and in the
//!   scrapes that succeeded before (SCR-822, SCR-824, SCR-826), not after a sample without one in the same scrape, and at
//!   most [`FUTURE_MS`] ahead of the wall clock if that is known (SCR-825). The newest timestamp is 6 bytes per
//!   series; it is forgotten when the series is.
//! - `storage.tsdb.out_of_order_time_window` lets samples in that are older than the newest by less than that, as Prometheus' agent does; only
//!   the newest timestamp itself is still recognised when it comes again.
//! - A sample without one is refused as well if the target wrote one that is not older than this scrape before, and so is a
//!   staleness marker (silently, as by Prometheus). Times of scrapes are never compared with each other: a step of the wall clock must not refuse them (SCR-306).
//! - A refused sample does not refuse its series: it is tracked all the same (SCR-809). Prometheus' agent marks it in the very scrape that
//!   exposes it.

use super::session::Tally;
use super::target::Target;
use crate::frame::{ExplicitTime, Frame, Full};
use crate::sample::{Number, Sample, SeriesRef};
use crate::series::{Newest, SeriesTable, storable};

/// A sample may be this far ahead of the wall clock (SCR-825).
pub(super) const FUTURE_MS: i64 = 10 * 60 * 1000;

/// The frame is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameFull;

/// One sample of a known series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<'a> {
    pub(super) series: SeriesRef,
    pub(super) value: Number,
    /// As exposed; ignored unless the target's timestamps are honoured.
    pub(super) timestamp_ms: Option<i64>,
    /// It is the native histogram with this message, or with one that is too long. Without room for that in the frame the sample
    /// is not put in.
    pub(super) histogram: Option<Result<&'a [u8], Full>>,
}

/// Puts the sample into the frame, or counts why not. Returns whether it is in.
pub(super) fn take(
    offer: Offer<'_>,
    target: &Target,
    now_unix_ms: Option<i64>,
    frame: &mut Frame,
    table: &mut SeriesTable,
    tally: &mut Tally,
) -> Result<bool, FrameFull> {
    let t = target.reference;
    let explicit = offer.timestamp_ms.filter(|_| target.honor_timestamps);
    // The list of markers is as long as the frame, so no more series may ever need one.
    if (explicit.is_none() || target.track_timestamps_staleness) && table.tracking(t) < frame.stale.capacity() {
        table.track(t, offer.series);
    }
    let before = table.position(t, offer.series);
    let refused = match explicit {
        None if before.is_some() => Some(&mut tally.duplicate),
        None => {
            let ahead = |newest: Newest| {
                newest.explicit
                    && now_unix_ms.is_some_and(|now| is_refused(now, newest.unix_ms, target.out_of_order_ms))
            };
            table
                .newest(offer.series)
                .is_some_and(ahead)
                .then_some(&mut tally.out_of_order)
        }
        Some(ms) if !storable(ms) || now_unix_ms.is_some_and(|now| ms > now.saturating_add(FUTURE_MS)) => {
            Some(&mut tally.out_of_bounds)
        }
        Some(ms) => {
            let newest = table.newest(offer.series).map_or(i64::MIN, |newest| newest.unix_ms);
            let here = before.map_or(i64::MIN, |position| time_at(frame, position).unwrap_or(i64::MAX));
            // In the scrape of a sample without a timestamp there is no other, however far back.
            let refused = here == i64::MAX || is_refused(ms, newest.max(here), target.out_of_order_ms);
            refused.then_some(&mut tally.out_of_order)
        }
    };
    if let Some(counter) = refused {
        *counter += 1;
        table.pass_over(t, offer.series);
        return Ok(false);
    }
    let position = u16::try_from(frame.samples.len()).map_err(|_| FrameFull)?;
    if let Some(message) = offer.histogram
        && message
            .and_then(|message| frame.extras.push_histogram(position, message))
            .is_err()
    {
        tally.histograms_lost += 1;
        table.pass_over(t, offer.series);
        return Ok(false);
    }
    let sample = Sample {
        number: offer.value,
        series: offer.series,
    };
    frame.samples.push(sample).map_err(|_| FrameFull)?;
    if let Some(unix_ms) = explicit {
        let time = ExplicitTime { position, unix_ms };
        frame.explicit.push(time).map_err(|_| FrameFull)?;
    }
    // Where the newest one is, is what the next is compared with.
    let newest_here = before.and_then(|position| time_at(frame, position));
    if newest_here.is_none_or(|newest| explicit.is_some_and(|ms| ms > newest)) {
        table.record(t, offer.series, position);
    }
    Ok(true)
}

/// Whether a sample is too old to follow one at `newest`, or as old.
const fn is_refused(unix_ms: i64, newest: i64, window_ms: i64) -> bool {
    unix_ms == newest || unix_ms <= newest.saturating_sub(window_ms)
}

/// Remembers the newest timestamp, unless one that is still newer was written by the target before. Times of scrapes may go back.
fn note(series: SeriesRef, newest: Newest, table: &mut SeriesTable) {
    let ahead = |before: Newest| before.explicit && before.unix_ms > newest.unix_ms;
    if !table.newest(series).is_some_and(ahead) {
        table.set_newest(series, newest);
    }
}

/// The explicit timestamp of the sample at `position`, if it has one.
fn time_at(frame: &Frame, position: u16) -> Option<i64> {
    let index = frame
        .explicit
        .binary_search_by_key(&position, |time| time.position)
        .ok()?;
    frame.explicit.get(index).map(|time| time.unix_ms)
}

/// The frame is going to be kept: remembers its timestamps. `now_unix_ms` is that of the scrape, if known.
pub(super) fn remember_newest(frame: &Frame, now_unix_ms: Option<i64>, table: &mut SeriesTable) {
    if frame.explicit.is_empty() {
        let Some(unix_ms) = now_unix_ms else { return };
        let newest = Newest {
            unix_ms,
            explicit: false,
        };
        return frame
            .samples
            .iter()
            .for_each(|sample| note(sample.series, newest, table));
    }
    let mut times = frame.explicit.iter().peekable();
    for (position, sample) in frame.samples.iter().enumerate() {
        let time = times.next_if(|time| usize::from(time.position) == position);
        let newest = match (time, now_unix_ms) {
            (Some(time), _) => Newest {
                unix_ms: time.unix_ms,
                explicit: true,
            },
            (None, Some(unix_ms)) => Newest {
                unix_ms,
                explicit: false,
            },
            (None, None) => continue,
        };
        note(sample.series, newest, table);
    }
}

/// Takes back the markers of series whose target wrote a timestamp that is not older than this scrape. The others are the newest
/// samples of their series.
pub(super) fn drop_late_markers(frame: &mut Frame, now_unix_ms: Option<i64>, window_ms: i64, table: &mut SeriesTable) {
    let Some(now) = now_unix_ms else { return };
    let late = |newest: Newest| newest.explicit && is_refused(now, newest.unix_ms, window_ms);
    let mut kept = 0;
    for index in 0..frame.stale.len() {
        let series = frame.stale[index];
        if !table.newest(series).is_some_and(late) {
            frame.stale[kept] = series;
            kept += 1;
            let newest = Newest {
                unix_ms: now,
                explicit: false,
            };
            note(series, newest, table);
        }
    }
    frame.stale.truncate(kept);
}
