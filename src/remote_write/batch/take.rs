//! From a frame to the entries of a batch.

use super::add::{Carries, Reserved};
use super::carried;
use super::dictionary::{Holds, Mark, Slot};
use super::stamps::Stamped;
use super::{
    Batch, Bounds, Identity, MAX_HELD_BACK_MS, Place, SYNTHETIC, SentFrame, Stop, Tally, USUAL_SYNTHETIC, UnknownTime,
    layout,
};
use crate::catalogue::{Definition, Names, SeriesText};
use crate::frame::{Frame, FrameNo, Full};
use crate::hash::hash64;
use crate::remote_write::proto::STALE_HISTOGRAM;
use crate::remote_write::response::Protocol;
use crate::sample::{MetricType, Number, SeriesRef, TargetRef};

/// State to return to when a frame does not fit.
#[derive(Clone, Copy)]
struct Snapshot {
    dictionary: Mark,
    entries: usize,
    times: usize,
    starts: usize,
    grouped_bytes: usize,
    reserved: Reserved,
    tally: Tally,
    min_time: i64,
    max_time: i64,
}

/// Why a frame, or the rest of it, was not taken.
pub(super) enum Halt {
    /// The source goes back to the end of the batch.
    Stop(Stop),
    /// The batch begins again, and so does the source.
    Again,
}

impl Batch {
    /// Takes the frame just read, all or part of it. On error the source must go back to where the error says.
    pub(super) fn take(
        &mut self,
        frame: &Frame,
        mut names: Names<'_>,
        identity: &mut Identity,
        bounds: &Bounds,
    ) -> Result<(), Halt> {
        let here = Place::before(frame.number);
        if here > self.end {
            self.stamps.skip(self.end);
        }
        if let Some(end) = bounds.end
            && end <= here
        {
            // What lay between no longer exists.
            self.end = end;
            return Err(Halt::Stop(Stop::Full));
        }
        let (from, to) = self.extent(frame, bounds.end);
        let after = Place::before(FrameNo(frame.number.0.saturating_add(1)));
        let latest = bounds.latest.map(|latest| latest.0);
        let Ok(stamp) = self.stamps.stamp(frame, latest, self.frames == 0) else {
            self.end = self.end.max(here);
            return Err(Halt::Stop(Stop::Full));
        };
        let time = match self.frame_time(frame, from, stamp, latest) {
            FrameTime::At(time) => time,
            FrameTime::Unknown if bounds.unknown_time == UnknownTime::Hold && !frame.timeless => {
                self.end = self.end.max(here);
                return Err(Halt::Stop(Stop::TimeUnknown));
            }
            lost => {
                let samples = to.saturating_sub(from) as u64;
                if let FrameTime::Backward(time) = lost {
                    self.tally.backward += samples;
                    self.tally.clock_span.add(time);
                } else {
                    self.tally.clock_unknown += samples;
                }
                self.frames += 1;
                self.end = after;
                return Ok(());
            }
        };
        let target = names.target_body(frame.target);
        let Some(target_check) = target.map(|body| self.check(SeriesText { name: "", body })) else {
            // Without the labels of its target nothing of it may be sent.
            self.tally.unknown_series += to.saturating_sub(from) as u64;
            self.frames += 1;
            self.end = after;
            return Ok(());
        };
        self.dictionary.follow(names.generation(), frame.target, target_check);
        let mut adding = Adding {
            frame,
            names: &mut names,
            identity,
            target_check,
            time,
            oldest: bounds.oldest.map_or(i64::MIN, |oldest| oldest.0),
            limit: self.sample_limit(bounds),
        };
        let snapshot = self.snapshot();
        let reached = self.add(&mut adding, from, to);
        if reached < to && self.dictionary.is_crowded_by_others() {
            return Err(Halt::Again);
        }
        if reached < to && self.frames > 0 {
            // It does not fit as a whole and need not: it opens the next batch.
            self.restore(&snapshot);
            self.end = self.end.max(here);
            return Err(Halt::Stop(Stop::Full));
        }
        self.note_frame(frame, (time, stamp.unix_ms), reached.saturating_sub(from));
        if reached >= frame_len(frame) {
            self.end = after;
            return Ok(());
        }
        self.end = Place {
            frame: frame.number,
            part: reached as u32,
            time,
        };
        Err(Halt::Stop(Stop::Full))
    }

    /// Positions of `frame` that belong to this batch.
    fn extent(&self, frame: &Frame, end: Option<Place>) -> (usize, usize) {
        let len = frame_len(frame);
        let from = match self.end {
            place if place.frame == frame.number => (place.part as usize).min(len),
            _ => 0,
        };
        let to = match end {
            Some(end) if end.frame == frame.number => (end.part as usize).min(len),
            _ => len,
        };
        (from, to)
    }

    /// The wall time `frame` is sent with.
    fn frame_time(&self, frame: &Frame, from: usize, stamp: Stamped, latest: Option<i64>) -> FrameTime {
        if from > 0 {
            return FrameTime::At(self.end.time);
        }
        let Some(time) = stamp.unix_ms else {
            return FrameTime::Unknown;
        };
        let sent = self.new_times.get(usize::from(frame.target.0)).copied();
        let last = sent.max(stamp.floor_ms).unwrap_or(i64::MIN);
        if time > last {
            FrameTime::At(time)
        } else if last.saturating_sub(time) <= MAX_HELD_BACK_MS {
            FrameTime::At(last.max(self.stamps.gone_ms(frame.target)).saturating_add(1))
        } else if latest.is_some_and(|latest| last > latest) {
            FrameTime::At(time)
        } else {
            FrameTime::Backward(time)
        }
    }

    /// `time`: it is sent with, and was stamped with.
    fn note_frame(&mut self, frame: &Frame, (time, stamped): (i64, Option<i64>), taken: usize) {
        self.frames += 1;
        self.largest_frame = self.largest_frame.max(taken);
        if stamped != Some(time) {
            self.tally.held_back += taken as u64;
        } else if frame.rebased {
            self.tally.rebased += taken as u64;
        }
        self.new = Some(SentFrame {
            boot: frame.boot,
            unix_ms: self.new.map_or(time, |new| new.unix_ms.max(time)),
            offset_ms: time.saturating_sub_unsigned(frame.time_ms),
        });
        if let Some(last) = self.new_times.get_mut(usize::from(frame.target.0)) {
            *last = time;
        }
        self.first_frame_time.get_or_insert(time);
        self.last_frame_time = time;
        self.least_frame_time = self.least_frame_time.min(time);
    }

    /// Adds positions `from..to`; returns the first that was not added.
    fn add(&mut self, adding: &mut Adding<'_, '_>, from: usize, to: usize) -> usize {
        let frame = adding.frame;
        let mut explicit = frame.explicit.iter().peekable();
        let mut histograms = carried::histograms(&frame.extras);
        let mut exemplars = carried::exemplars(&frame.extras);
        let mut starts = carried::starts(&frame.extras);
        let is_plain = frame.explicit.is_empty() && frame.extras.is_empty();
        for position in from..to {
            let (mut time, mut histogram, mut start) = (adding.time, None, None);
            if !is_plain {
                while explicit.next_if(|e| usize::from(e.position) < position).is_some() {}
                let own_time = explicit.next_if(|e| usize::from(e.position) == position);
                time = own_time.map_or(time, |e| e.unix_ms);
                histogram = carried::at(&mut histograms, position);
                start = carried::at(&mut starts, position);
            }
            if time < adding.oldest {
                self.tally.too_old += 1;
                self.tally.too_old_span.add(time);
                continue;
            }
            let mut its_exemplars = core::iter::from_fn(|| carried::at(&mut exemplars, position));
            let carries = Carries {
                histogram,
                start,
                exemplars: &mut its_exemplars,
            };
            if self.add_one(adding, position, time, carries).is_err() {
                if self.dictionary.is_crowded_by_others() {
                    return position;
                }
                if self.entries.is_empty() {
                    // Not even an empty batch holds it, so none ever will.
                    self.tally.too_large += 1;
                    self.tally.too_large_span.add(time);
                    continue;
                }
                return position;
            }
        }
        to
    }

    /// Adds one sample with its exemplars, or counts why it is not sent. On error nothing was added, at most its series was.
    fn add_one(
        &mut self,
        adding: &mut Adding<'_, '_>,
        position: usize,
        time: i64,
        carries: Carries<'_, '_>,
    ) -> Result<(), Full> {
        if self.samples() >= adding.limit {
            return Err(Full { limit: adding.limit });
        }
        let (series, number) = item(adding.frame, position);
        let message = match (carries.histogram, series) {
            (Some(message), _) => Some(message),
            (None, Series::Real(series)) if number.is_stale() && adding.is_native(series) => Some(&STALE_HISTOGRAM[..]),
            _ => None,
        };
        if message.is_some_and(|message| !self.takes_histogram(message)) {
            return Ok(());
        }
        let Some(key) = self.key(series) else {
            self.tally.unknown_series += 1;
            return Ok(());
        };
        let slot_number = match self.dictionary.find_used(key) {
            Some(slot) => slot,
            None => match self.open_series(adding, series, key)? {
                Some(slot) => slot,
                None => return Ok(()),
            },
        };
        let Some(holds) = self
            .dictionary
            .slot(slot_number)
            .filter(|slot| slot.is_sent())
            .map(|s| s.holds)
        else {
            self.tally.dropped_series += 1;
            return Ok(());
        };
        let wanted = message.map_or(Holds::Floats, |_| Holds::Histograms);
        if holds != wanted && holds != Holds::Nothing {
            return Err(Full { limit: self.samples() });
        }
        let start = match carries.start.filter(|&start| start <= time && !number.is_stale()) {
            // 0 says that there is none.
            Some(0) if self.protocol == Protocol::V2 => 1,
            Some(start) if self.protocol == Protocol::V2 => start,
            _ => self.start_ms(adding.frame, adding.names, position, slot_number, time),
        };
        let (entries, grouped_bytes, reserved) = (self.entries.len(), self.grouped_bytes, self.reserved());
        let added = self
            .add_sample(message, number, slot_number, (time, start))
            .and_then(|()| self.add_exemplars(adding, slot_number, time, carries.exemplars));
        if added.is_err() {
            self.entries.truncate(entries);
            self.grouped_bytes = grouped_bytes;
            self.release(reserved);
            return added;
        }
        self.dictionary.set_holds(slot_number, wanted);
        self.min_time = self.min_time.min(time);
        self.max_time = self.max_time.max(time);
        Ok(())
    }

    pub(super) fn fits(&self, grouped_bytes: usize) -> Result<(), Full> {
        let limit = self.body.len();
        if self.symbol_bytes() + self.late_bytes() + grouped_bytes + self.carried > limit {
            return Err(Full { limit });
        }
        Ok(())
    }

    /// Makes a series part of the batch; `None`: the sample was counted instead.
    fn open_series(&mut self, adding: &mut Adding<'_, '_>, series: Series, key: usize) -> Result<Option<u16>, Full> {
        let target = adding.frame.target;
        if let Some(number) = self.dictionary.find_checked(key) {
            let kind = self
                .dictionary
                .slot(number)
                .map_or(MetricType::Unknown, |slot| slot.kind);
            return self.use_slot(number, (target, kind)).map(Some);
        }
        let definition = match series {
            Series::Synthetic(_, index) => adding.names.target_body(target).map(|target_body| Definition {
                text: SeriesText {
                    name: SYNTHETIC.get(index).copied().unwrap_or_default(),
                    body: "",
                },
                kind: MetricType::Gauge,
                target,
                target_body,
            }),
            Series::Real(series) => adding.names.definition(series, target),
        };
        let Some(definition) = definition else {
            self.tally.unknown_series += 1;
            return Ok(None);
        };
        let kind = definition.kind;
        let check = self.check(definition.text) ^ adding.target_check;
        let shared = (target, adding.target_check);
        let number = match self.dictionary.find(key, check) {
            Some(number) => number,
            None => match self.make_slot(adding.identity, &definition, shared, (key, check))? {
                Some(number) => number,
                None => {
                    self.tally.too_large += 1;
                    self.tally.too_large_span.add(adding.time);
                    return Ok(None);
                }
            },
        };
        self.use_slot(number, (target, kind)).map(Some)
    }

    fn use_slot(&mut self, number: u16, of: (TargetRef, MetricType)) -> Result<u16, Full> {
        let mark = self.dictionary.mark();
        self.dictionary.use_slot(number, of, self.protocol);
        if let Some(slot) = self.dictionary.slot(number).filter(|slot| slot.is_sent()) {
            let bytes = layout::series_bytes(&self.dictionary, slot, self.protocol, self.body.len());
            if let Err(full) = self.fits(self.grouped_bytes + bytes) {
                self.dictionary.undo(mark);
                return Err(full);
            }
            self.grouped_bytes += bytes;
        }
        Ok(number)
    }

    /// Makes a slot for texts seen for the first time; `None`: no request can hold the labels. `shared`: the target and the check
    /// value of its labels.
    fn make_slot(
        &mut self,
        identity: &mut Identity,
        definition: &Definition<'_>,
        shared: (TargetRef, u32),
        (key, check): (usize, u32),
    ) -> Result<Option<u16>, Full> {
        let &Definition { text, target_body, .. } = definition;
        if identity.only_joins()
            && let Some(shared) = self.shared_slot(identity, target_body, shared)?
            && let Some(number) = self.dictionary.insert_joined(key, check, text, &shared)?
        {
            return Ok(Some(number));
        }
        match identity.resolve(text, target_body) {
            Ok(labels) => self.dictionary.insert(key, check, labels).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The labels that all series of the frame's target share; `None`: no request can hold them.
    fn shared_slot(
        &mut self,
        identity: &mut Identity,
        target_body: &str,
        (target, check): (TargetRef, u32),
    ) -> Result<Option<Slot>, Full> {
        let targets_at = self.limits.max_series + self.limits.max_targets * SYNTHETIC.len();
        let key = targets_at + usize::from(target.0);
        let number = match self.dictionary.find(key, check) {
            Some(number) => number,
            None => match identity.resolve(SeriesText { name: "", body: "" }, target_body) {
                Ok(labels) => self.dictionary.insert(key, check, labels)?,
                Err(_) => return Ok(None),
            },
        };
        Ok(self.dictionary.slot(number).copied())
    }

    /// Differs, as good as surely, for different texts.
    fn check(&self, text: SeriesText<'_>) -> u32 {
        let name = hash64(self.seed, text.name.as_bytes());
        // Chained, so that a text moving from name to body shows.
        (hash64(name, text.body.as_bytes()) >> 32) as u32
    }

    fn key(&self, series: Series) -> Option<usize> {
        match series {
            Series::Real(series) => Some(usize::from(series.0)).filter(|&key| key < self.limits.max_series),
            Series::Synthetic(target, index) => {
                let target = usize::from(target.0);
                let key = self.limits.max_series + target * SYNTHETIC.len() + index;
                (target < self.limits.max_targets).then_some(key)
            }
        }
    }

    /// The index of `time`; neighbours mostly share theirs.
    pub(super) fn time_index(&mut self, time: i64) -> Result<u16, Full> {
        if self.times.last() != Some(&time) {
            self.times.push(time)?;
        }
        // The capacity is below 2^16 and there is at least the one just pushed.
        Ok(self.times.len() as u16 - 1)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            dictionary: self.dictionary.mark(),
            entries: self.entries.len(),
            times: self.times.len(),
            starts: self.starts.len(),
            grouped_bytes: self.grouped_bytes,
            reserved: self.reserved(),
            tally: self.tally,
            min_time: self.min_time,
            max_time: self.max_time,
        }
    }

    fn restore(&mut self, to: &Snapshot) {
        self.dictionary.undo(to.dictionary);
        self.entries.truncate(to.entries);
        self.times.truncate(to.times);
        self.starts.truncate(to.starts);
        self.grouped_bytes = to.grouped_bytes;
        self.release(to.reserved);
        self.tally = to.tally;
        self.min_time = to.min_time;
        self.max_time = to.max_time;
    }
}

/// What a frame's time comes to.
enum FrameTime {
    /// Sent with this time.
    At(i64),
    /// It has none.
    Unknown,
    /// It has this one, which lies too far before what was sent.
    Backward(i64),
}

/// What adding the samples of one frame needs to know.
pub(super) struct Adding<'a, 'n> {
    frame: &'a Frame,
    names: &'a mut Names<'n>,
    pub identity: &'a mut Identity,
    /// Check value of the labels all its series share.
    target_check: u32,
    time: i64,
    oldest: i64,
    limit: usize,
}

impl Adding<'_, '_> {
    /// Whether `series` is that of a native histogram: one without the suffixes that the series of a classic one have. (Where
    /// relabelling has hidden that, receivers take either marker for either.)
    fn is_native(&mut self, series: SeriesRef) -> bool {
        let suffixes = ["_bucket", "_count", "_sum", "_created", "_gcount", "_gsum"];
        self.names.definition(series, self.frame.target).is_some_and(|found| {
            matches!(found.kind, MetricType::Histogram | MetricType::GaugeHistogram)
                && !suffixes.iter().any(|suffix| found.text.name.ends_with(suffix))
        })
    }
}

#[derive(Clone, Copy)]
enum Series {
    Real(SeriesRef),
    Synthetic(TargetRef, usize),
}

/// Samples a frame stands for: its own, its staleness markers, the synthetic ones.
pub(super) fn frame_len(frame: &Frame) -> usize {
    frame.samples.len() + frame.stale.len() + synthetic_len(frame)
}

/// Series and value at `position`, which is below [`frame_len`].
fn item(frame: &Frame, position: usize) -> (Series, Number) {
    if let Some(sample) = frame.samples.get(position) {
        return (Series::Real(sample.series), sample.number);
    }
    let position = position - frame.samples.len();
    if let Some(&series) = frame.stale.get(position) {
        return (Series::Real(series), Number::STALE);
    }
    let index = position - frame.stale.len();
    let number = synthetic_values(frame).get(index).copied();
    (Series::Synthetic(frame.target, index), number.unwrap_or(Number::STALE))
}

/// How many of the [`SYNTHETIC`] series a frame has.
const fn synthetic_len(frame: &Frame) -> usize {
    if frame.notes.extra.is_some() {
        SYNTHETIC.len()
    } else {
        USUAL_SYNTHETIC
    }
}

/// Values of the [`SYNTHETIC`] series of a frame, in their order: staleness markers when the target is no more.
#[must_use]
pub fn synthetic_values(frame: &Frame) -> heapless::Vec<Number, { SYNTHETIC.len() }> {
    let extra = frame.notes.extra.unwrap_or_default();
    let mut values = heapless::Vec::from_array([
        Number::decimal(frame.up.into(), 0),
        Number::decimal(frame.duration_100us.into(), -4),
        Number::decimal(frame.counts.scraped.into(), 0),
        Number::decimal(frame.counts.post_relabel.into(), 0),
        Number::decimal(frame.counts.added.into(), 0),
        Number::decimal(extra.timeout_ms.into(), -3),
        Number::decimal(extra.sample_limit.into(), 0),
        Number::decimal(extra.body_bytes, 0),
    ]);
    values.truncate(synthetic_len(frame));
    if frame.notes.ended {
        values.fill(Number::STALE);
    }
    values
}
