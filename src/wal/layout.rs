//! Which series the frames of a target have, in order, and how a change of them is written.
//!
//! A frame without LAYOUT has the series of its target's last good frame. Where they changed it lists them, or says what to
//! leave out of the last list and what to put in between: whichever is shorter.
//!
//! # Invariants
//!
//! - Lists are remembered for one chunk: at START encoder and decoder know none.
//! - An edit is only written of a list that is still whole: every reader has the same.
//!
//! # Limits and cost
//!
//! 2 bytes a series and 64 targets of 12 bytes. Writing a change looks at most `AHEAD` series ahead in both lists at each
//! difference; a longer insertion, or a list in another order, is written as a list. Hostile edits cost their length and at most
//! 65,535 series.

use super::record::{self, RecordFault, SeriesList};
use crate::frame::Full;
use crate::limits::MAX_TARGETS;
use crate::sample::{Sample, SeriesRef, TargetRef};
use crate::value::varint::{ByteCount, Cursor, Sink, len_u64, put_i64, put_u64};
use alloc::boxed::Box;
use alloc::vec;

/// How far a series is looked for in the other list. Twice the series of a disk or network interface in node_exporter.
const AHEAD: usize = 64;

/// The series of a frame as its head says them.
#[derive(Clone, Copy, Debug)]
pub enum Layout<'a> {
    /// All of them.
    List(SeriesList<'a>),
    /// How they differ from those of the target's last frame.
    Edit(Edit<'a>),
}

impl<'a> Layout<'a> {
    /// Reads one off the cursor and checks what can be checked without the last one.
    pub(crate) fn take(cursor: &mut Cursor<'a>) -> Result<Self, RecordFault> {
        let mode = cursor.u64()?;
        if mode & 1 == 0 {
            SeriesList::take_counted(cursor, mode >> 1).map(Self::List)
        } else {
            Edit::take(cursor, mode >> 1).map(Self::Edit)
        }
    }

    /// How many series the frame has.
    #[must_use]
    pub const fn count(&self) -> u64 {
        match self {
            Self::List(list) => list.len() as u64,
            Self::Edit(edit) => edit.count,
        }
    }
}

/// Steps from one list of series to the next.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'a> {
    /// Series of the new list.
    count: u64,
    left: u64,
    at: i64,
    cursor: Cursor<'a>,
}

/// `keep` series as they are, then a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    keep: u64,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// So many of the old list are left out.
    Drop(u64),
    /// So many consecutive series come in.
    Insert { first: u16, run: u64 },
}

impl<'a> Edit<'a> {
    fn take(cursor: &mut Cursor<'a>, count: u64) -> Result<Self, RecordFault> {
        let left = cursor.u64()?;
        let mut edit = Self {
            count,
            left,
            at: 0,
            cursor: *cursor,
        };
        let whole = edit;
        let mut inserted = 0;
        while let Some(step) = edit.step()? {
            if let Change::Insert { run, .. } = step.change {
                inserted += run;
            }
            if inserted > count {
                return Err(RecordFault::Malformed);
            }
        }
        *cursor = edit.cursor;
        Ok(whole)
    }

    fn step(&mut self) -> Result<Option<Step>, RecordFault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let keep = self.cursor.u64()?;
        let change = self.cursor.u64()?;
        let count = change >> 1;
        if count == 0 {
            return Err(RecordFault::Malformed);
        }
        let change = if change & 1 == 0 {
            Change::Drop(count)
        } else {
            let jump = self.cursor.i64()?;
            let first = record::run_from(self.at, jump, count)?;
            self.at = i64::from(first) + count as i64;
            Change::Insert { first, run: count }
        };
        Ok(Some(Step { keep, change }))
    }
}

#[derive(Clone, Copy, Debug)]
struct Head {
    first: u16,
    count: u16,
    /// Of the series in order.
    sum: u32,
}

/// The series of each target's last frame: linked lists through one array.
#[derive(Debug)]
pub(crate) struct Layouts {
    next: Box<[u16]>,
    heads: [Option<Head>; MAX_TARGETS],
}

/// A walk along a list.
#[derive(Clone, Debug)]
struct Listed<'a> {
    next: &'a [u16],
    at: u16,
    left: u16,
}

impl Iterator for Listed<'_> {
    type Item = SeriesRef;

    fn next(&mut self) -> Option<SeriesRef> {
        self.left = self.left.checked_sub(1)?;
        let series = SeriesRef(self.at);
        self.at = self.next.get(usize::from(self.at)).copied().unwrap_or(0);
        Some(series)
    }
}

impl Layouts {
    pub(crate) fn new(max_series: usize) -> Self {
        Self {
            next: vec![0; max_series].into_boxed_slice(),
            heads: [None; MAX_TARGETS],
        }
    }

    pub(crate) fn forget(&mut self) {
        // What another chunk left behind would differ between encoder and decoder.
        self.next.fill(0);
        self.heads = [None; MAX_TARGETS];
    }

    fn head(&self, target: TargetRef) -> Option<Head> {
        self.heads.get(usize::from(target.0)).copied().flatten()
    }

    /// The series of the target's last frame. A list that another target's frame has cut across is as long as it was,
    /// and the same for encoder and decoder.
    fn of(&self, target: TargetRef) -> Option<Listed<'_>> {
        let head = self.head(target)?;
        Some(Listed {
            next: &self.next,
            at: head.first,
            left: head.count,
        })
    }

    /// Whether the target's last frame had the series of `samples`.
    pub(crate) fn is(&self, target: TargetRef, samples: &[Sample]) -> bool {
        self.head(target)
            .is_some_and(|head| usize::from(head.count) == samples.len())
            && self
                .of(target)
                .is_some_and(|layout| layout.zip(samples).all(|(series, sample)| series == sample.series))
    }

    /// The target's list, if no other target's frame has cut across it.
    fn whole(&self, target: TargetRef) -> Option<Listed<'_>> {
        let head = self.head(target)?;
        self.of(target).filter(|listed| sum(listed.clone()) == head.sum)
    }

    /// Remembers the series of `samples`, all in range. A frame that has a series twice cannot be remembered: the
    /// target's next frame then carries its layout again.
    pub(crate) fn set(&mut self, target: TargetRef, samples: &[Sample]) {
        for pair in samples.windows(2) {
            self.next[usize::from(pair[0].series.0)] = pair[1].series.0;
        }
        let head = Head {
            first: samples.first().map_or(0, |sample| sample.series.0),
            count: samples.len().min(usize::from(u16::MAX)) as u16,
            sum: sum(samples.iter().map(|sample| sample.series)),
        };
        if let Some(place) = self.heads.get_mut(usize::from(target.0)) {
            *place = Some(head);
            if !self.is(target, samples) {
                self.heads[usize::from(target.0)] = None;
            }
        }
    }

    /// Writes the layout of a frame whose series are those of `samples`.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn put(&self, out: &mut impl Sink, target: TargetRef, samples: &[Sample]) -> Result<(), Full> {
        let series = samples.iter().map(|sample| sample.series);
        let mode = (samples.len() as u64) << 1;
        if let Some(old) = self.whole(target) {
            let (mut list, mut edit, mut steps) = (ByteCount(0), ByteCount(0), 0);
            record::put_runs(&mut list, series.clone())?;
            let mut after = 0;
            each_step(old.clone(), samples, |step| {
                steps += 1;
                put_step(&mut edit, step, &mut after)
            })?;
            if len_u64(steps) + edit.0 < list.0 {
                put_u64(out, mode | 1)?;
                put_u64(out, steps)?;
                let mut after = 0;
                return each_step(old, samples, |step| put_step(out, step, &mut after));
            }
        }
        put_u64(out, mode)?;
        record::put_runs(out, series)
    }

    /// Gives the series of a frame, in order; `None`: as before.
    ///
    /// # Errors
    /// [`RecordFault`], also that of `each`.
    pub(crate) fn read(
        &self,
        target: TargetRef,
        layout: Option<&Layout<'_>>,
        mut each: impl FnMut(SeriesRef) -> Result<(), RecordFault>,
    ) -> Result<(), RecordFault> {
        let old = || self.of(target).ok_or(RecordFault::Malformed);
        let mut edit = match layout {
            None => return old()?.try_for_each(each),
            Some(Layout::List(list)) => return (*list).into_iter().try_for_each(each),
            Some(Layout::Edit(edit)) => *edit,
        };
        let mut old = old()?;
        let mut listed = 0;
        let mut each = |series| {
            listed += 1;
            each(series)
        };
        while let Some(step) = edit.step()? {
            for _ in 0..step.keep {
                each(old.next().ok_or(RecordFault::Malformed)?)?;
            }
            match step.change {
                Change::Drop(count) => {
                    for _ in 0..count {
                        old.next().ok_or(RecordFault::Malformed)?;
                    }
                }
                Change::Insert { first, run } => {
                    // `step` has made sure that they are below 65,535.
                    (0..run).try_for_each(|at| each(SeriesRef(first + at as u16)))?;
                }
            }
        }
        old.try_for_each(&mut each)?;
        if listed == edit.count {
            Ok(())
        } else {
            Err(RecordFault::Malformed)
        }
    }
}

/// FNV-1a over the indices.
fn sum(series: impl Iterator<Item = SeriesRef>) -> u32 {
    series.fold(0x811c_9dc5, |sum, series| {
        (sum ^ u32::from(series.0)).wrapping_mul(0x0100_0193)
    })
}

fn put_step(out: &mut impl Sink, step: Step, after: &mut i64) -> Result<(), Full> {
    put_u64(out, step.keep)?;
    match step.change {
        Change::Drop(count) => put_u64(out, count << 1),
        Change::Insert { first, run } => {
            put_u64(out, run << 1 | 1)?;
            put_i64(out, i64::from(first) - *after)?;
            *after = i64::from(first) + run as i64;
            Ok(())
        }
    }
}

/// The steps from `old` to the series of `new`. They always lead there, if not always the shortest way.
fn each_step(
    mut old: Listed<'_>,
    mut new: &[Sample],
    mut put: impl FnMut(Step) -> Result<(), Full>,
) -> Result<(), Full> {
    let (mut keep, mut dropped) = (0, 0);
    loop {
        let here = (old.clone().next(), new.first().map(|sample| sample.series));
        let (drop, insert) = match here {
            (None, None) => break,
            (Some(_), None) => (usize::from(old.left), 0),
            (None, Some(_)) => (0, new.len()),
            (Some(from), Some(to)) if from == to => (0, 0),
            (Some(from), Some(to)) => {
                let insert = new.iter().take(AHEAD).position(|sample| sample.series == from);
                let drop = old.clone().take(AHEAD).position(|series| series == to);
                match (drop, insert) {
                    (Some(drop), Some(insert)) if insert < drop => (0, insert),
                    (Some(drop), _) => (drop, 0),
                    (None, Some(insert)) => (0, insert),
                    // It is gone, and where it was something else comes in.
                    (None, None) => (1, 0),
                }
            }
        };
        if drop > 0 {
            dropped += drop as u64;
            // `drop` is at least 1 and within the list.
            old.nth(drop - 1);
            continue;
        }
        if dropped > 0 {
            let change = Change::Drop(core::mem::take(&mut dropped));
            put(Step { keep, change })?;
            keep = 0;
        }
        if insert == 0 {
            old.next();
            new = &new[1..];
            keep += 1;
            continue;
        }
        let (mut inserted, rest) = new.split_at(insert);
        new = rest;
        while let Some(first) = inserted.first() {
            let first = first.series.0;
            let runs = |(at, sample): (usize, &Sample)| usize::from(sample.series.0) == usize::from(first) + at;
            let run = inserted.iter().enumerate().take_while(|&of| runs(of)).count();
            inserted = &inserted[run..];
            let change = Change::Insert { first, run: run as u64 };
            put(Step { keep, change })?;
            keep = 0;
        }
    }
    if dropped > 0 {
        let change = Change::Drop(dropped);
        put(Step { keep, change })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Bounded;
    use crate::sample::Number;
    use alloc::vec::Vec;

    const TARGET: TargetRef = TargetRef(3);

    fn samples(of: &[u16]) -> Vec<Sample> {
        let number = Number::decimal(0, 0);
        let sample = |&series| Sample {
            number,
            series: SeriesRef(series),
        };
        of.iter().map(sample).collect()
    }

    fn layouts(of: &[u16]) -> Layouts {
        let mut layouts = Layouts::new(1_000);
        layouts.set(TARGET, &samples(of));
        layouts
    }

    fn read(layouts: &Layouts, bytes: &[u8]) -> Result<Vec<u16>, RecordFault> {
        let mut cursor = Cursor::new(bytes);
        let layout = Layout::take(&mut cursor)?;
        let mut found = Vec::new();
        layouts.read(TARGET, Some(&layout), |series| {
            found.push(series.0);
            Ok(())
        })?;
        assert_eq!(found.len() as u64, layout.count());
        assert!(cursor.is_empty(), "the whole of it is taken");
        Ok(found)
    }

    fn change(from: &[u16], to: &[u16]) -> Vec<u8> {
        let layouts = layouts(from);
        let mut out = Bounded::with_capacity(8_000);
        layouts.put(&mut out, TARGET, &samples(to)).unwrap();
        assert_eq!(read(&layouts, &out).unwrap(), to);
        out.to_vec()
    }

    fn range(of: core::ops::Range<u16>) -> Vec<u16> {
        of.collect()
    }

    #[test]
    fn what_changed_is_all_that_is_written() {
        let from = [range(0..40), range(100..140)].concat();
        let mut to = from.clone();
        to.splice(20..20, [500, 501]);
        // 82 series, an edit of 1 step: keep 20, insert 2, from 500.
        assert_eq!(change(&from, &to), [0xa5, 0x01, 1, 20, 5, 0xe8, 0x07]);
        to.splice(60..63, [502]);
        // Then keep 38, drop 3; keep none, insert 1, the one after the last.
        assert_eq!(change(&from, &to), [0xa1, 0x01, 3, 20, 5, 0xe8, 0x07, 38, 6, 0, 3, 0]);
        let mut to = from.clone();
        to.drain(..2);
        to.drain(77..);
        // What is not named is kept; a list would be shorter here only by luck.
        assert_eq!(change(&from, &to), [0x9a, 0x01, 4, 38, 120, 39]);
    }

    #[test]
    fn any_change_comes_back() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..3_000 {
            let mut from = range(0..random.u16(0..150));
            random.shuffle(&mut from);
            if round % 2 == 0 {
                from.sort_unstable();
            }
            let mut to = from.clone();
            for new in 0..random.u16(..12) {
                match random.u8(..4) {
                    0 if !to.is_empty() => drop(to.remove(random.usize(..to.len()))),
                    1 if to.len() > 1 => {
                        let (one, other) = (random.usize(..to.len()), random.usize(..to.len()));
                        to.swap(one, other);
                    }
                    _ => to.insert(random.usize(..=to.len()), 300 + new),
                }
            }
            change(&from, &to);
        }
        for (from, to) in [
            (range(0..0), range(0..200)),
            (range(0..200), range(0..0)),
            (range(0..200), range(200..400)),
            (range(0..200), (0..200).rev().collect()),
            (range(100..200), range(0..300)),
        ] {
            change(&from, &to);
        }
    }

    #[test]
    fn a_list_that_another_target_has_cut_across_is_not_edited() {
        let from: Vec<u16> = (0..60).map(|at| at * 3).collect();
        let mut to = from.clone();
        to.push(400);
        assert_eq!(change(&from, &to)[0] & 1, 1);
        let mut layouts = layouts(&from);
        layouts.set(TargetRef(4), &samples(&[9, 600]));
        let mut out = Bounded::with_capacity(8_000);
        layouts.put(&mut out, TARGET, &samples(&to)).unwrap();
        assert_eq!(out[0] & 1, 0);
        assert_eq!(read(&layouts, &out).unwrap(), to);
    }

    #[test]
    fn edits_that_do_not_fit_the_list_are_refused() {
        let layouts = layouts(&[1, 2, 3]);
        assert_eq!(read(&layouts, &[7, 0]).unwrap(), [1, 2, 3]);
        assert_eq!(read(&layouts, &[7, 1, 1, 2]), Err(RecordFault::Malformed), "one less");
        assert_eq!(read(&layouts, &[5, 1, 1, 2]).unwrap(), [1, 3]);
        for bytes in [
            &[9, 0][..],
            &[7, 1, 4, 2],
            &[1, 1, 0, 8],
            &[7, 1, 0, 0],
            &[7, 1, 0],
            &[7, 2, 0, 2],
            &[9, 1, 0, 3, 1],
            &[9, 1, 0, 3, 0xfe, 0xff, 7],
            &[1, 1, 0, 5, 2],
            &[7, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2],
        ] {
            assert_eq!(read(&layouts, bytes), Err(RecordFault::Malformed), "{bytes:?}");
        }
        let none = Layouts::new(10);
        assert_eq!(read(&none, &[1, 0]), Err(RecordFault::Malformed), "an edit of nothing");
    }
}
