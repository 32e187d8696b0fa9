//! The payload of a FRAME record: flags, head, and the lists in it (`FORMAT.md`, "FRAME").
//!
//! Nothing here allocates or panics on any input; what does not parse is a [`RecordFault`].

use super::RecordFault;
use crate::extras::{self, Extra};
use crate::frame::{ExtraMetrics, Full, Notes};
use crate::sample::{SeriesRef, TargetRef};
use crate::value::varint::{Cursor, Sink, len_u64, put_i64, put_u64, zigzag};
use crate::wal::layout::Layout;

/// Flags of a frame.
pub mod frame_flag {
    /// The scrape failed; no samples.
    pub const FAILED: u8 = 0x01;
    /// The series of the frame follow, or what changed in them; else they are those of the target's previous frame.
    pub const LAYOUT: u8 = 0x02;
    /// Explicit timestamps follow.
    pub const TIMES: u8 = 0x04;
    /// Wall time was not known at the scrape.
    pub const NO_CLOCK: u8 = 0x08;
    /// A list of series that get a staleness marker follows.
    pub const STALE: u8 = 0x10;
    /// Three counts follow.
    pub const COUNTS: u8 = 0x20;
    /// What samples carry beside their values follows: [`crate::extras`].
    pub const EXTRAS: u8 = 0x40;
    /// What is said of the scrape beside the counts follows: [`crate::frame::Notes`].
    pub const NOTES: u8 = 0x80;
}

/// Bits of the first byte of [`Notes`] on the medium.
mod note {
    /// The target is no more.
    pub const ENDED: u8 = 0x01;
    /// Timeout, sample limit and body size follow.
    pub const EXTRA_METRICS: u8 = 0x02;
}

/// Most bytes of [`put_notes`].
pub(crate) const MAX_NOTES_BYTES: usize = 1 + 1 + 5 + 5 + 10;

/// Writes what is said of the scrape, its length first.
///
/// # Errors
/// [`Full`].
pub(crate) fn put_notes(out: &mut impl Sink, notes: &Notes) -> Result<(), Full> {
    let ended = if notes.ended { note::ENDED } else { 0 };
    let Some(extra) = notes.extra else {
        return out.put(&[1, ended]);
    };
    let (timeout, limit) = (u64::from(extra.timeout_ms), u64::from(extra.sample_limit));
    let len = 1 + len_u64(timeout) + len_u64(limit) + len_u64(zigzag(extra.body_bytes));
    put_u64(out, len as u64)?;
    out.put(&[ended | note::EXTRA_METRICS])?;
    put_u64(out, timeout)?;
    put_u64(out, limit)?;
    put_i64(out, extra.body_bytes)
}

/// Reads what [`put_notes`] wrote; bits and bytes of later versions are passed over.
fn take_notes(bytes: &[u8]) -> Result<Notes, RecordFault> {
    let mut cursor = Cursor::new(bytes);
    let bits = cursor.u8()?;
    let extra = if bits & note::EXTRA_METRICS != 0 {
        Some(ExtraMetrics {
            timeout_ms: narrow(cursor.u64()?)?,
            sample_limit: narrow(cursor.u64()?)?,
            body_bytes: cursor.i64()?,
        })
    } else {
        None
    };
    Ok(Notes {
        ended: bits & note::ENDED != 0,
        extra,
    })
}

/// Head of a frame record, lists not yet read.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead<'a> {
    /// The scraped target.
    pub target: TargetRef,
    /// See [`frame_flag`].
    pub flags: u8,
    /// Milliseconds behind the time expected, and units of 100 microseconds that it took longer than expected: see
    /// `FORMAT.md`.
    pub off: (i64, i64),
    /// Scraped, after relabelling, added; `None`: (n, n, 0).
    pub counts: Option<[u32; 3]>,
    /// Series to be marked stale.
    pub stale: SeriesList<'a>,
    /// Series in the frame, `None`: as before.
    pub layout: Option<Layout<'a>>,
    /// Explicit timestamps: how many, then the pairs.
    pub times: Times<'a>,
    /// What samples carry, not checked: see [`check_extras`].
    pub extras: &'a [u8],
    /// What is said of the scrape beside the counts.
    pub notes: Notes,
    /// What the codec wrote.
    pub values: &'a [u8],
}

impl<'a> FrameHead<'a> {
    /// Reads the head; lists are checked to be well formed.
    ///
    /// # Errors
    /// [`RecordFault`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, RecordFault> {
        let mut cursor = Cursor::new(payload);
        let target = TargetRef(cursor.u8()?);
        let flags = cursor.u8()?;
        if usize::from(target.0) >= crate::limits::MAX_TARGETS {
            return Err(RecordFault::Malformed);
        }
        let off = (cursor.i64()?, cursor.i64()?);
        let counts = if flags & frame_flag::COUNTS != 0 {
            Some([narrow(cursor.u64()?)?, narrow(cursor.u64()?)?, narrow(cursor.u64()?)?])
        } else {
            None
        };
        let stale = if flags & frame_flag::STALE != 0 {
            SeriesList::take(&mut cursor)?
        } else {
            SeriesList::EMPTY
        };
        let layout = if flags & frame_flag::LAYOUT != 0 {
            Some(Layout::take(&mut cursor)?)
        } else {
            None
        };
        let times = if flags & frame_flag::TIMES != 0 {
            Times::take(&mut cursor)?
        } else {
            Times::EMPTY
        };
        let extras = if flags & frame_flag::EXTRAS != 0 {
            let len = usize::try_from(cursor.u64()?).map_err(|_| RecordFault::Malformed)?;
            cursor.bytes(len)?
        } else {
            &[]
        };
        let notes = if flags & frame_flag::NOTES != 0 {
            let len = usize::try_from(cursor.u64()?).map_err(|_| RecordFault::Malformed)?;
            take_notes(cursor.bytes(len)?)?
        } else {
            Notes::default()
        };
        Ok(Self {
            target,
            flags,
            off,
            counts,
            stale,
            layout,
            times,
            extras,
            notes,
            values: cursor.rest(),
        })
    }

    /// Whether the scrape failed.
    #[must_use]
    pub const fn failed(&self) -> bool {
        self.flags & frame_flag::FAILED != 0
    }
}

/// Checks that `bytes` are extras of a frame of `samples` samples, in order; `None`: their number is not known.
///
/// # Errors
/// [`RecordFault::Malformed`].
pub fn check_extras(bytes: &[u8], samples: Option<usize>) -> Result<(), RecordFault> {
    let within = |position: u16| samples.is_none_or(|samples| usize::from(position) < samples);
    // Lowest position that comes next.
    let (mut histogram, mut exemplar) = (0, 0);
    let mut rises = |extra: &Extra<'_>| match *extra {
        Extra::Histogram { position, .. } => {
            let before = core::mem::replace(&mut histogram, u32::from(position) + 1);
            before <= u32::from(position)
        }
        Extra::Exemplar { position, .. } => core::mem::replace(&mut exemplar, position) <= position,
        Extra::StartTime { .. } => true,
    };
    for extra in extras::read(bytes) {
        let extra = extra.map_err(|_| RecordFault::Malformed)?;
        if !within(extra.position()) || !rises(&extra) {
            return Err(RecordFault::Malformed);
        }
    }
    Ok(())
}

fn narrow(value: u64) -> Result<u32, RecordFault> {
    u32::try_from(value).map_err(|_| RecordFault::Malformed)
}

/// A list of series: their number, then pairs of a jump from the index after the last one and a run length.
#[derive(Clone, Copy, Debug)]
pub struct SeriesList<'a> {
    left: usize,
    run: u64,
    at: i64,
    cursor: Cursor<'a>,
}

impl<'a> SeriesList<'a> {
    const EMPTY: Self = Self {
        left: 0,
        run: 0,
        at: 0,
        cursor: Cursor::new(&[]),
    };

    /// Reads a list off the cursor and checks that every index is in range.
    fn take(cursor: &mut Cursor<'a>) -> Result<Self, RecordFault> {
        let count = cursor.u64()?;
        Self::take_counted(cursor, count)
    }

    /// As [`SeriesList::take`], when the number of series has been read.
    pub(crate) fn take_counted(cursor: &mut Cursor<'a>, count: u64) -> Result<Self, RecordFault> {
        let left = usize::try_from(count).map_err(|_| RecordFault::Malformed)?;
        let list = Self {
            left,
            run: 0,
            at: 0,
            cursor: *cursor,
        };
        let (mut at, mut seen) = (0i64, 0u64);
        while seen < count {
            let jump = cursor.i64()?;
            let run = cursor.u64()?;
            if run > count - seen {
                return Err(RecordFault::Malformed);
            }
            at = i64::from(run_from(at, jump, run)?) + run as i64;
            seen += run;
        }
        Ok(list)
    }

    /// Series not yet given out.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.left
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl Iterator for SeriesList<'_> {
    type Item = SeriesRef;

    fn next(&mut self) -> Option<SeriesRef> {
        if self.left == 0 {
            return None;
        }
        if self.run == 0 {
            // `take` has walked the same bytes.
            self.at += self.cursor.i64().ok()?;
            self.run = self.cursor.u64().ok()?;
        }
        let series = SeriesRef(self.at as u16);
        self.left -= 1;
        self.run -= 1;
        self.at += 1;
        Some(series)
    }
}

/// The first series of a run that begins `jump` behind `at`; all of it is below 65,535.
pub(crate) fn run_from(at: i64, jump: i64, run: u64) -> Result<u16, RecordFault> {
    at.checked_add(jump)
        .and_then(|first| u16::try_from(first).ok())
        .filter(|&first| run > 0 && run <= 0xffff - u64::from(first))
        .ok_or(RecordFault::Malformed)
}

/// Writes a list of series.
///
/// # Errors
/// [`Full`].
pub fn put_series(out: &mut impl Sink, series: impl ExactSizeIterator<Item = SeriesRef>) -> Result<(), Full> {
    put_u64(out, series.len() as u64)?;
    put_runs(out, series)
}

/// Writes a list of series without their number.
///
/// # Errors
/// [`Full`].
pub(crate) fn put_runs(out: &mut impl Sink, series: impl Iterator<Item = SeriesRef>) -> Result<(), Full> {
    let mut rest = series.peekable();
    let mut after = 0i64;
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if(|next| u32::from(next.0) == u32::from(last.0) + 1) {
            last = next;
        }
        put_i64(out, i64::from(first.0) - after)?;
        put_u64(out, u64::from(last.0 - first.0) + 1)?;
        after = i64::from(last.0) + 1;
    }
    Ok(())
}

/// Explicit timestamps: pairs of positions skipped since the last one and milliseconds since the last one.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    left: usize,
    position: u64,
    unix_ms: i64,
    cursor: Cursor<'a>,
}

impl<'a> Times<'a> {
    const EMPTY: Self = Self {
        left: 0,
        position: 0,
        unix_ms: 0,
        cursor: Cursor::new(&[]),
    };

    fn take(cursor: &mut Cursor<'a>) -> Result<Self, RecordFault> {
        let count = usize::try_from(cursor.u64()?).map_err(|_| RecordFault::Malformed)?;
        let times = Self {
            left: count,
            cursor: *cursor,
            ..Self::EMPTY
        };
        let mut position = 0u64;
        for _ in 0..count {
            position = position.saturating_add(cursor.u64()?).saturating_add(1);
            cursor.i64()?;
            if position > 0x1_0000 {
                return Err(RecordFault::Malformed);
            }
        }
        Ok(times)
    }
}

impl Iterator for Times<'_> {
    type Item = crate::frame::ExplicitTime;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        // `take` has walked the same bytes.
        let position = self.position + self.cursor.u64().ok()?;
        self.unix_ms = self.unix_ms.wrapping_add(self.cursor.i64().ok()?);
        self.position = position + 1;
        self.left -= 1;
        Some(crate::frame::ExplicitTime {
            position: position as u16,
            unix_ms: self.unix_ms,
        })
    }
}

/// Writes explicit timestamps.
///
/// # Errors
/// [`Full`].
pub fn put_times(out: &mut impl Sink, times: &[crate::frame::ExplicitTime]) -> Result<(), Full> {
    put_u64(out, times.len() as u64)?;
    let (mut after, mut last) = (0u64, 0i64);
    for time in times {
        put_u64(out, u64::from(time.position).saturating_sub(after))?;
        put_i64(out, time.unix_ms.wrapping_sub(last))?;
        after = u64::from(time.position) + 1;
        last = time.unix_ms;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Bounded, ExplicitTime};
    use alloc::vec::Vec;

    fn list(of: &[u16]) -> (Vec<u8>, Vec<u16>) {
        let mut out = Bounded::with_capacity(1000);
        put_series(&mut out, of.iter().map(|&s| SeriesRef(s))).unwrap();
        let mut cursor = Cursor::new(&out);
        let read = SeriesList::take(&mut cursor).unwrap();
        assert!(cursor.is_empty());
        assert_eq!(read.len(), of.len());
        (out.to_vec(), read.map(|s| s.0).collect())
    }

    #[test]
    fn notes_are_as_documented_and_what_is_unknown_is_passed_over() {
        let extra = ExtraMetrics {
            timeout_ms: 10_000,
            sample_limit: 0,
            body_bytes: 65_000,
        };
        let with = |ended, extra| Notes { ended, extra };
        for (notes, bytes) in [
            (with(false, Some(extra)), &[7, 2, 0x90, 0x4e, 0, 0xd0, 0xf7, 7][..]),
            (with(true, None), &[1, 1]),
        ] {
            let mut out = Bounded::with_capacity(MAX_NOTES_BYTES);
            put_notes(&mut out, &notes).unwrap();
            assert_eq!(&out[..], bytes);
            assert_eq!(take_notes(&bytes[1..]).unwrap(), notes);
            let later = [&bytes[1..], &[9, 9]].concat();
            assert_eq!(take_notes(&later).unwrap(), notes);
        }
        let most = ExtraMetrics {
            timeout_ms: u32::MAX,
            sample_limit: u32::MAX,
            body_bytes: i64::MIN,
        };
        let mut out = Bounded::with_capacity(MAX_NOTES_BYTES);
        put_notes(&mut out, &with(true, Some(most))).unwrap();
        assert_eq!(take_notes(&out[1..]).unwrap(), with(true, Some(most)));
        for cut in 0..out.len() - 1 {
            assert!(take_notes(&out[1..1 + cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn series_lists_come_back_and_runs_are_short() {
        for of in [
            &[][..],
            &[0],
            &[0, 1, 2, 3],
            &[7, 8, 9, 3, 2, 1, 0, 65_534],
            &[5, 5, 5],
            &[100, 101, 50, 51, 52],
        ] {
            assert_eq!(list(of).1, of);
        }
        // FORMAT.md: 522 consecutive series from 100 take 5 bytes.
        let run: Vec<u16> = (100..622).collect();
        assert_eq!(list(&run).0, [0x8a, 0x04, 0xc8, 0x01, 0x8a, 0x04]);
    }

    #[test]
    fn series_lists_out_of_range_are_refused() {
        for bytes in [
            &[1u8][..],
            &[1, 0],
            &[1, 1, 1],
            &[1, 0, 0],
            &[1, 0, 2],
            &[2, 0xfc, 0xff, 0x07, 2],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0, 1],
        ] {
            assert!(SeriesList::take(&mut Cursor::new(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn explicit_times_come_back() {
        let times: Vec<ExplicitTime> = [
            (0, 1_700_000_000_000),
            (1, 1_700_000_000_000),
            (9, -5),
            (65_535, i64::MAX),
        ]
        .map(|(position, unix_ms)| ExplicitTime { position, unix_ms })
        .to_vec();
        let mut out = Bounded::with_capacity(1000);
        put_times(&mut out, &times).unwrap();
        let read = Times::take(&mut Cursor::new(&out)).unwrap();
        assert_eq!(read.collect::<Vec<_>>(), times);
        assert!(Times::take(&mut Cursor::new(&[2, 0, 0, 0xff, 0xff, 0xff, 1, 0])).is_err());
    }
}
