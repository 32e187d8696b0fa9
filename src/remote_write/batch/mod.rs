//! What is sent next: gathers samples from frames, writes the body of one request, or of several.
//!
//! Memory is allocated once and holds one batch at a time. Gathering copies what a frame says: series to a dictionary
//! that is kept from batch to batch, samples to a list of 14 bytes each. Sealing writes the body, for 1.0 or 2.0, in
//! one of two layouts:
//!
//! - [`Layout::Live`]: one sample per series entry, as Prometheus does it;
//! - [`Layout::Grouped`]: all samples of a series in one entry, by time, so that labels are paid once.
//!
//! A batch with more samples than a request may have is not written at once but in slices by series, one after the other ([`Batch::cut`], `slice`).
//!
//! A frame means, in this order: its samples, its staleness markers, and the five (or eight) synthetic series rebuilt from its
//! header. All carry the frame's wall time except samples with a time of their own. In 2.0, samples of counters,
//! histograms and summaries also say when counting began, where the frame carries that or OpenMetrics' `_created` tells
//! (`start`). A sample that is a native histogram goes as one, and exemplars go with their sample, in its series entry, as far as
//! the remote wants them ([`Sends`]). The staleness marker of a native histogram is a histogram (SCR-801).
//!
//! # Invariants
//!
//! - A batch covers the frames from [`Batch::start`] to [`Batch::end`] without a gap (but for frames that no longer
//!   exist). Whole frames, unless a single one is larger than a batch: that one is split, in order.
//! - A batch never reaches over [`Bounds::end`], nor over a [`Next::Boundary`], nor past a frame of unknown time.
//! - The wall times of one target's frames rise strictly, from batch to batch too, and from process to process as far as the
//!   ring knows what was sent: a time at or below the last one sent becomes that one plus 1 ms if it is at most
//!   [`MAX_HELD_BACK_MS`] earlier; frames farther back are counted as lost ([`Tally::backward`]) until the clock has passed what was
//!   sent. Only when the receiver's own clock says that what was sent lay in the future ([`Bounds::latest`]) is a step back followed.
//! - What may be stored is sent again with the times it was sent with, though the clock was set meanwhile (`stamps`).
//! - A batch has floats or native histograms of a series, not both: one series entry must not (2.0), and two would not keep
//!   the order of time. A sample and its exemplars are in the same batch.
//! - In grouped layout a series is one entry, whatever references its frames have (`dictionary/twins`): its samples stay in order.
//! - Sizes are known before bytes are written: sealing cannot fail, nor can that of a slice. Nothing allocates.
//!
//! What a sample is not sent for is counted in [`Tally`]. Hostile or damaged input (unknown series, absurd sizes,
//! labels beyond limits) costs the sample concerned and is counted there.
//!
//! # Limits
//!
//! [`Batch::ram_bytes`] gives the exact sum; 10,000 samples of 1,000 series with a body of 256 KiB take about 530 KiB.
//! When strings, references or the body run out before the samples do, the batch ends early; that costs requests,
//! not data.

mod add;
mod carried;
mod describe;
mod dictionary;
mod late;
mod layout;
mod own_labels;
mod slice;
mod stamps;
mod start;
mod symbols;
mod take;

use super::identity::Identity;
use super::response::Protocol;
use crate::clock::UnixMillis;
use crate::frame::{Bounded, Frame, FrameNo, FrameSource, Next};
use crate::limits::{MAX_LABELS, MAX_SERIES, MAX_TARGETS};
use alloc::boxed::Box;
use alloc::vec;
use carried::Content;
use dictionary::Dictionary;
use late::Late;
use slice::Cut;
use stamps::Stamps;
use take::{Halt, frame_len};

pub use carried::Sends;
pub use describe::Described;
pub use layout::{EMPTY_V2, Layout};
pub use take::synthetic_values;

/// Names of the synthetic series, in the order Prometheus appends them; the last three only where they are asked for.
pub const SYNTHETIC: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

/// As many of them every frame has; the others only one of a job with `extra_scrape_metrics`.
pub const USUAL_SYNTHETIC: usize = 5;

/// Smallest body: the longest series text, its escapes undone, with target and external labels, and its sample.
pub const MIN_BODY_BYTES: usize = 64 * 1024;

/// Most samples of one batch: positions are 16 bits wide.
pub const MAX_BATCH_SAMPLES: usize = 65_535;

/// Longest that a target's times are held back at the last one sent when the clock steps back, milliseconds: beyond, what is
/// sent would be too far from the truth. The same ten minutes receivers allow a time to be in the future.
pub const MAX_HELD_BACK_MS: i64 = 10 * 60 * 1000;

/// Samples read per call of [`Batch::gather`] before it yields, so that one call stays within some milliseconds on
/// the slowest board even when it skips a backlog that is too old to send.
const SAMPLES_PER_CALL: usize = 8192;

/// Sizes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most samples of a batch; reduced to [`MAX_BATCH_SAMPLES`].
    pub samples: usize,
    /// Bytes of the uncompressed body; raised to [`MIN_BODY_BYTES`].
    pub body_bytes: usize,
    /// Series the catalogue may name.
    pub max_series: usize,
    /// Targets the catalogue may name.
    pub max_targets: usize,
    /// Samples of the largest frame.
    pub frame_samples: usize,
    /// Bytes of what its samples carry; 0: nothing.
    pub extras_bytes: usize,
    /// What is sent of it.
    pub sends: Sends,
    /// Metric families whose help texts may be sent; 0: none are.
    pub families: usize,
}

impl BatchLimits {
    /// The same within what a batch can hold.
    const fn clamped(self) -> Self {
        Self {
            samples: clamp(self.samples, 1, MAX_BATCH_SAMPLES),
            body_bytes: clamp(self.body_bytes, MIN_BODY_BYTES, u32::MAX as usize / 2),
            max_series: clamp(self.max_series, 0, MAX_SERIES),
            max_targets: clamp(self.max_targets, 1, MAX_TARGETS),
            frame_samples: self.frame_samples,
            extras_bytes: self.extras_bytes,
            sends: self.sends,
            families: self.families,
        }
    }

    const fn keys(&self) -> usize {
        self.max_series + self.max_targets * (SYNTHETIC.len() + 1)
    }

    const fn slots(&self) -> usize {
        // One per sample, and one per target for the labels that its series share.
        clamp(self.samples + self.max_targets, 1, self.keys())
    }

    /// Frame times, and times that samples carry themselves: most batches need few.
    const fn times(&self) -> usize {
        self.samples / 4 + 64
    }

    /// Start timestamps: at most every second series of a target has a `_created`, and targets rarely restart. A frame that
    /// carries them may have one for each sample.
    const fn starts(&self) -> usize {
        match self.extras_bytes {
            0 => self.slots() / 2 + 64,
            _ => self.slots() + 64,
        }
    }

    /// Samples, and exemplars: as Prometheus has it, a tenth more than there may be samples.
    const fn entries(&self) -> usize {
        match self.sends.exemplars {
            true => self.samples + self.samples / 10 + 1,
            false => self.samples,
        }
    }

    /// Strings of exemplars: names and values, few of each. Help texts, and some units.
    const fn late_strings(&self) -> usize {
        let families = match self.families {
            0 => 0,
            families => families + 32,
        };
        families + self.exemplar_strings()
    }

    const fn exemplar_strings(&self) -> usize {
        match self.sends.exemplars {
            true => (self.samples / 10 + 1) * 4 + 2 * MAX_LABELS,
            false => 0,
        }
    }
}

const fn clamp(value: usize, min: usize, max: usize) -> usize {
    if value < min {
        min
    } else if value > max {
        max
    } else {
        value
    }
}

/// A place between two samples of the stream of frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The frame.
    pub frame: FrameNo,
    /// Samples of it that lie before this place; 0 unless the frame is being split.
    pub part: u32,
    /// Wall time the parts before were sent with, so that all parts carry the same; 0 when `part` is 0.
    time: i64,
}

impl Place {
    /// Before the first sample of `frame`.
    #[must_use]
    pub const fn before(frame: FrameNo) -> Self {
        Self {
            frame,
            part: 0,
            time: 0,
        }
    }

    const fn order(self) -> (FrameNo, u32) {
        (self.frame, self.part)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Place {}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// Samples that are not sent, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Older than `max_sample_age`.
    pub too_old: u64,
    /// No labels are left after the rules of this remote.
    pub dropped_series: u64,
    /// The series has no definition, or none that can still be read.
    pub unknown_series: u64,
    /// The time of the frame is not known and never will be.
    pub clock_unknown: u64,
    /// More labels, or longer ones, than any request can hold.
    pub too_large: u64,
    /// Native histograms with custom buckets, which a 1.0 request cannot say.
    pub custom_buckets: u64,
    /// Native histograms that this remote does not want: `send_native_histograms` is off.
    pub unwanted_histograms: u64,
    /// Native histograms of which the ring has no sound message.
    pub damaged_histograms: u64,
    /// Exemplars with more labels than any request can hold.
    pub large_exemplars: u64,
    /// The clock was set back by more than [`MAX_HELD_BACK_MS`]: their times lie before what was sent.
    pub backward: u64,
    /// Not a loss: samples sent with a later time than the frame's, see [`MAX_HELD_BACK_MS`].
    pub held_back: u64,
    /// Not a loss: samples of boots that never knew the time, sent with one they were given.
    pub rebased: u64,
    /// Times of the samples that are `too_old`.
    pub too_old_span: Span,
    /// Times of the samples that are `backward`, as far as known of `clock_unknown`.
    pub clock_span: Span,
    /// Times of the samples that are `too_large`.
    pub too_large_span: Span,
}

/// The times some samples cover, milliseconds since the Unix epoch; both 0: none are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Of the first.
    pub first_ms: i64,
    /// Of the last.
    pub last_ms: i64,
}

impl Span {
    /// Adds a time.
    pub fn add(&mut self, ms: i64) {
        self.join(Self {
            first_ms: ms,
            last_ms: ms,
        });
    }

    /// Adds the times of other samples.
    pub fn join(&mut self, other: Self) {
        if other == Self::default() {
            return;
        }
        if *self == Self::default() {
            *self = other;
        }
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// How many of each are to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples.
    pub samples: usize,
    /// Native histograms.
    pub histograms: usize,
    /// Exemplars.
    pub exemplars: usize,
}

impl Counts {
    /// Samples and native histograms.
    pub(super) const fn items(self) -> usize {
        self.samples + self.histograms
    }

    fn add(&mut self, entry: &Entry) {
        *match entry.content() {
            Content::Float(_) => &mut self.samples,
            Content::Histogram(_) => &mut self.histograms,
            Content::Exemplar(_) => &mut self.exemplars,
        } += 1;
    }

    /// What is left without `those`, which are among them.
    const fn less(self, those: Self) -> Self {
        Self {
            samples: self.samples - those.samples,
            histograms: self.histograms - those.histograms,
            exemplars: self.exemplars - those.exemplars,
        }
    }
}

/// What to do with a frame whose wall time is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownTime {
    /// Wait until it is.
    #[default]
    Hold,
    /// Skip the frame and count its samples.
    Skip,
}

/// How far a batch may reach.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most samples, at least 1.
    pub samples: usize,
    /// Most frames, at least 1.
    pub frames: usize,
    /// Not beyond this place.
    pub end: Option<Place>,
    /// Samples with an earlier time are too old.
    pub oldest: Option<UnixMillis>,
    /// See [`UnknownTime`].
    pub unknown_time: UnknownTime,
    /// What was sent with a later time than this was sent by a clock that is known to have been wrong: it binds nothing.
    pub latest: Option<UnixMillis>,
}

/// Why gathering stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No more frames for now; the batch may grow later.
    End,
    /// The wall time of the next frame is not known; the batch may grow later.
    TimeUnknown,
    /// A bound is reached: nothing more will be added.
    Full,
    /// Enough for one call: call again.
    Yield,
}

/// One sample, native histogram or exemplar of the batch. 14 bytes. [`Entry::content`] says what.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of its value, or where it waits.
    bits: [u8; 8],
    slot: u16,
    /// Index of its timestamp, and a flag.
    time: u16,
    /// Index of its start timestamp.
    start: u16,
}

impl Entry {
    /// Timestamp and start timestamp.
    fn times(&self, times: &[i64], starts: &[i64]) -> (i64, i64) {
        let time = |of: &[i64], index| of.get(usize::from(index)).copied().unwrap_or_default();
        (time(times, self.time_index()), time(starts, self.start))
    }
}

/// The newest frame that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentFrame {
    /// Key of its boot.
    pub boot: u32,
    /// The time it was sent with.
    pub unix_ms: i64,
    /// When its boot is taken to have begun.
    pub offset_ms: i64,
}

impl SentFrame {
    /// The later one of two, the second of two that are as late.
    fn later(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) if one.unix_ms > other.unix_ms => Some(one),
            (one, other) => other.or(one),
        }
    }
}

/// What was sent of one row of frames: times rise strictly within each.
#[derive(Debug)]
pub(crate) struct SentRow {
    /// Last time per target; none if there never is a second row.
    times: Box<[i64]>,
    stamps: Stamps,
    /// Its newest frame.
    pub newest: Option<SentFrame>,
}

impl SentRow {
    /// Heap bytes for so many targets.
    pub const fn ram_bytes(max_targets: usize) -> usize {
        max_targets * size_of::<i64>() + Stamps::ram_bytes(max_targets)
    }

    /// For up to so many targets.
    pub fn new(max_targets: usize) -> Self {
        Self {
            times: vec![i64::MIN; max_targets].into(),
            stamps: Stamps::new(max_targets),
            newest: None,
        }
    }
}

/// One request in the making, or several: slices.
#[derive(Debug)]
pub struct Batch {
    limits: BatchLimits,
    body: Box<[u8]>,
    dictionary: Dictionary,
    entries: Bounded<Entry>,
    times: Bounded<i64>,
    /// Start timestamps; the first is 0, for unset.
    starts: Bounded<i64>,
    counts: Counts,
    /// Bytes at the end of the body where histograms and exemplars wait.
    carried: usize,
    /// Strings of exemplars, each counted as if no other were the same, and the bytes they may take.
    late_strings: usize,
    late_bytes: usize,
    late: Late,
    start: Place,
    end: Place,
    /// Frames of which something was taken or skipped.
    frames: usize,
    largest_frame: usize,
    /// Bytes of the series in grouped layout: an upper bound for either protocol it was begun for.
    grouped_bytes: usize,
    protocol: Protocol,
    tally: Tally,
    first_frame_time: Option<i64>,
    last_frame_time: i64,
    /// Of the frame that has the earliest.
    least_frame_time: i64,
    min_time: i64,
    max_time: i64,
    /// Last time sent per target; and as it will be once this batch is done.
    sent_times: Box<[i64]>,
    new_times: Box<[i64]>,
    stamps: Stamps,
    /// Boot, time and boot time of the newest frame, sent and in this batch.
    sent: Option<SentFrame>,
    new: Option<SentFrame>,
    /// Bytes of the body that are written.
    sealed: usize,
    /// It goes in slices.
    cut: Option<Cut>,
    seed: u64,
}

impl Batch {
    /// An empty batch. The only call that allocates. `seed`: see [`crate::hash::hash64`].
    #[must_use]
    pub fn new(limits: BatchLimits, seed: u64) -> Self {
        let limits = limits.clamped();
        let mut batch = Self {
            limits,
            body: vec![0; limits.body_bytes].into(),
            dictionary: Dictionary::new(limits.keys(), limits.slots(), limits.max_targets, seed),
            entries: Bounded::with_capacity(limits.entries()),
            times: Bounded::with_capacity(limits.times()),
            starts: Bounded::with_capacity(limits.starts()),
            counts: Counts::default(),
            carried: 0,
            late_strings: 0,
            late_bytes: 0,
            late: Late::new(limits.late_strings(), seed),
            start: Place::default(),
            end: Place::default(),
            frames: 0,
            largest_frame: 0,
            grouped_bytes: 0,
            protocol: Protocol::V2,
            tally: Tally::default(),
            first_frame_time: None,
            last_frame_time: 0,
            least_frame_time: i64::MAX,
            min_time: i64::MAX,
            max_time: i64::MIN,
            sent_times: vec![i64::MIN; limits.max_targets].into(),
            new_times: vec![i64::MIN; limits.max_targets].into(),
            stamps: Stamps::new(limits.max_targets),
            sent: None,
            new: None,
            sealed: 0,
            cut: None,
            seed,
        };
        batch.begin(Place::default(), Protocol::V2);
        batch
    }

    /// Heap bytes of a batch of these sizes.
    #[must_use]
    pub const fn ram_bytes(limits: BatchLimits) -> usize {
        let limits = limits.clamped();
        limits.body_bytes
            + Dictionary::ram_bytes(limits.keys(), limits.slots(), limits.max_targets)
            + limits.entries() * size_of::<Entry>()
            + Late::ram_bytes(limits.late_strings())
            + (limits.times() + limits.starts()) * size_of::<i64>()
            + 2 * limits.max_targets * size_of::<i64>()
            + Stamps::ram_bytes(limits.max_targets)
    }

    /// Empties the batch; the next frame gathered is the one at `start`, or the first that still exists after it.
    pub fn begin(&mut self, start: Place, protocol: Protocol) {
        self.dictionary.begin();
        self.entries.clear();
        self.times.clear();
        self.starts.clear();
        // Its capacity is at least 64.
        let _ = self.starts.push(0);
        self.counts = Counts::default();
        self.carried = 0;
        self.late_strings = 0;
        self.late_bytes = 0;
        self.start = start;
        self.end = start;
        self.frames = 0;
        self.largest_frame = 0;
        self.grouped_bytes = 0;
        self.protocol = protocol;
        self.tally = Tally::default();
        self.first_frame_time = None;
        self.last_frame_time = 0;
        self.least_frame_time = i64::MAX;
        self.min_time = i64::MAX;
        self.max_time = i64::MIN;
        self.stamps.begin(start, &mut self.sent_times, &mut self.sent);
        self.new_times.copy_from_slice(&self.sent_times);
        self.new = self.sent;
        self.sealed = 0;
        self.cut = None;
    }

    /// The samples of this batch are done with: later frames get later times.
    pub fn finish(&mut self) {
        self.sent_times.copy_from_slice(&self.new_times);
        self.sent = self.new;
    }

    /// What this batch covers may be stored: should it be gathered again, all or part of it, it keeps its times.
    pub fn keep_times(&mut self) {
        self.stamps.keep(self.end, &self.new_times, self.new);
    }

    /// The clock was wrong when it was sent: what is gathered again gets the times of now.
    pub fn forget_times(&mut self) {
        self.stamps.forget();
    }

    /// Goes on with the times of another row of frames, and puts aside those of this one. For the time between two batches.
    pub(crate) fn swap_row(&mut self, row: &mut SentRow) {
        // Both are as long as there may be targets.
        core::mem::swap(&mut self.sent_times, &mut row.times);
        core::mem::swap(&mut self.stamps, &mut row.stamps);
        core::mem::swap(&mut self.sent, &mut row.newest);
    }

    /// The row put aside ends and this one goes on behind it: later frames are later than those of both.
    pub(crate) fn join_row(&mut self, row: &mut SentRow) {
        for (time, other) in self.sent_times.iter_mut().zip(&row.times) {
            *time = (*time).max(*other);
        }
        self.sent = SentFrame::later(self.sent, row.newest);
        self.stamps.join(&mut row.stamps, &mut self.sent_times, &mut self.sent);
    }

    /// Later frames are later than `time`.
    pub(crate) fn raise_row(&mut self, time: UnixMillis) {
        for sent in &mut self.sent_times {
            *sent = (*sent).max(time.0);
        }
    }

    /// A row that begins behind this one.
    pub(crate) fn fork_row(&self, row: &mut SentRow) {
        row.times.copy_from_slice(&self.sent_times);
        row.stamps.clear();
        row.newest = self.sent;
    }

    /// Wall times of the first and the last frame: what their samples say of themselves may be any time.
    #[must_use]
    pub fn frame_times(&self) -> Option<(UnixMillis, UnixMillis)> {
        let last = UnixMillis(self.last_frame_time);
        self.first_frame_time.map(|first| (UnixMillis(first), last))
    }

    /// The earliest wall time of its frames: those of several targets are in the order in which their scrapes ended.
    #[must_use]
    pub fn least_frame_time(&self) -> Option<UnixMillis> {
        self.first_frame_time.map(|_| UnixMillis(self.least_frame_time))
    }

    /// The newest frame of all batches that were finished.
    #[must_use]
    pub const fn sent(&self) -> Option<SentFrame> {
        self.sent
    }

    /// Where the batch begins.
    #[must_use]
    pub const fn start(&self) -> Place {
        self.start
    }

    /// Where the next batch begins once this one is done.
    #[must_use]
    pub const fn end(&self) -> Place {
        self.end
    }

    /// Samples and native histograms to be sent, those of slices that are settled no longer among them.
    #[must_use]
    pub const fn samples(&self) -> usize {
        self.counts.items()
    }

    /// How many of each are to be sent, likewise.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Frames touched, sent or not.
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.frames
    }

    /// What is not sent of the frames covered.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Oldest and newest timestamp, if there is a sample.
    #[must_use]
    pub fn time_range(&self) -> Option<(UnixMillis, UnixMillis)> {
        (!self.entries.is_empty()).then_some((UnixMillis(self.min_time), UnixMillis(self.max_time)))
    }

    /// Milliseconds of wall time between the first and the last frame.
    #[must_use]
    pub fn span_ms(&self) -> u64 {
        let span = self
            .last_frame_time
            .saturating_sub(self.first_frame_time.unwrap_or(self.last_frame_time));
        span.unsigned_abs()
    }

    /// Adds frames until `bounds` or the source says stop. The source is left standing at [`Batch::end`].
    ///
    /// `frame` is scratch, large enough for any frame of the source. May be called again after [`Stop::End`],
    /// [`Stop::TimeUnknown`] and [`Stop::Yield`], as long as the source was not moved.
    ///
    /// # Errors
    /// The source's; what was gathered before stays valid and the call may be repeated.
    pub fn gather<S: FrameSource>(
        &mut self,
        source: &mut S,
        frame: &mut Frame,
        identity: &mut Identity,
        bounds: &Bounds,
    ) -> Result<Stop, S::Error> {
        let mut read = 0;
        while read < SAMPLES_PER_CALL {
            if self.is_full(bounds) {
                return Ok(Stop::Full);
            }
            match source.next(frame)? {
                Next::End => return Ok(Stop::End),
                Next::Boundary if self.frames > 0 => {
                    self.dictionary.forget_keys();
                    return Ok(Stop::Full);
                }
                Next::Boundary => self.dictionary.clear(),
                Next::Frame => {
                    read += frame_len(frame);
                    match self.take(frame, source.names(), identity, bounds) {
                        Ok(()) => {}
                        Err(Halt::Stop(stop)) => {
                            source.seek(self.end.frame);
                            return Ok(stop);
                        }
                        Err(Halt::Again) => {
                            self.dictionary.clear();
                            self.begin(self.start, self.protocol);
                            source.seek(self.start.frame);
                        }
                    }
                }
            }
        }
        Ok(Stop::Yield)
    }

    /// A bound is reached, or a frame as large as the largest so far would not fit: do not read one in vain.
    fn is_full(&self, bounds: &Bounds) -> bool {
        self.frames >= bounds.frames.max(1)
            || bounds.end.is_some_and(|end| self.end >= end)
            || (self.frames > 0 && self.samples() + self.largest_frame > self.sample_limit(bounds))
    }

    /// Samples of the largest frame gathered.
    #[must_use]
    pub const fn largest_frame(&self) -> usize {
        self.largest_frame
    }

    fn sample_limit(&self, bounds: &Bounds) -> usize {
        bounds.samples.clamp(1, self.limits.samples)
    }
}

#[cfg(test)]
mod tests;
