//! One scrape of one target, on its way from the parser through the ring to a request.
//!
//! A scrape fills a [`Frame`], the ring encodes and decodes it, the sender turns it into
//! batches. The buffers are allocated once, from the configuration, and reused.

use crate::extras::Extras;
use crate::sample::{Sample, SeriesRef, TargetRef};
use alloc::vec::Vec;

/// Number of a frame: counts scrapes since the ring was formatted, never reused, orders everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameNo(pub u64);

/// What the synthetic series `scrape_samples_*` and `scrape_series_added` report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// `scrape_samples_scraped`.
    pub scraped: u32,
    /// `scrape_samples_post_metric_relabeling`.
    pub post_relabel: u32,
    /// `scrape_series_added`.
    pub added: u32,
}

/// A sample that carries its own timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplicitTime {
    /// Position in [`Frame::samples`]; strictly rising within a frame.
    pub position: u16,
    /// Milliseconds since the Unix epoch, as the target wrote it.
    pub unix_ms: i64,
}

/// What a frame says of its scrape beyond what every frame says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The target is no more: the series of the scrape itself get staleness markers as well (SCR-806).
    pub ended: bool,
    /// The further series of `extra_scrape_metrics`, if the job asks for them.
    pub extra: Option<ExtraMetrics>,
}

/// What the series of `extra_scrape_metrics` report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtraMetrics {
    /// `scrape_timeout_seconds`, milliseconds.
    pub timeout_ms: u32,
    /// `scrape_sample_limit`; 0: none.
    pub sample_limit: u32,
    /// `scrape_body_size_bytes`; -1: the limit was reached.
    pub body_bytes: i64,
}

/// A buffer with a capacity fixed when it is made; a push beyond it is an error, not an allocation.
#[derive(Debug)]
pub struct Bounded<T>(Vec<T>);

/// A bounded buffer is full; the value names the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Capacity in elements.
    pub limit: usize,
}

impl<T: Copy> Bounded<T> {
    /// A buffer for `capacity` elements. Allocates; the only call here that does.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Appends `value`.
    ///
    /// # Errors
    /// [`Full`] when the buffer holds as many elements as it was made for.
    pub fn push(&mut self, value: T) -> Result<(), Full> {
        if self.0.len() == self.0.capacity() {
            return Err(Full {
                limit: self.0.capacity(),
            });
        }
        self.0.push(value);
        Ok(())
    }

    /// Appends a copy of `values`, all or nothing.
    ///
    /// # Errors
    /// [`Full`] when they do not all fit.
    pub fn extend(&mut self, values: &[T]) -> Result<(), Full> {
        if self.0.capacity() - self.0.len() < values.len() {
            return Err(Full {
                limit: self.0.capacity(),
            });
        }
        self.0.extend_from_slice(values);
        Ok(())
    }

    /// Forgets the elements, keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Forgets the elements from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Elements it was made for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<T> core::ops::Deref for Bounded<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> core::ops::DerefMut for Bounded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// One scrape of one target.
///
/// `time_ms` is boot time, already aligned to the scrape interval where alignment applies, so that
/// boot time plus the boot's offset is exactly the timestamp Prometheus would send.
#[derive(Debug)]
pub struct Frame {
    /// Set by the ring; meaningless before.
    pub number: FrameNo,
    /// The scraped target.
    pub target: TargetRef,
    /// False: the scrape failed. `samples` is then empty and `stale` lists every series known from before.
    pub up: bool,
    /// Boot time of the scrape, milliseconds.
    pub time_ms: u64,
    /// Wall time of the scrape. `None`: not known (yet). Set by the ring on reading, ignored on writing.
    pub unix_ms: Option<i64>,
    /// Key of the boot that `time_ms` counts from. This and what follows up to `floor_ms` are set by the ring on reading.
    pub boot: u32,
    /// `unix_ms` is not what a clock said: the boot never knew the time and was given one.
    pub rebased: bool,
    /// The wall time will never be known: its samples are to be counted as lost.
    pub timeless: bool,
    /// Not to be sent with a time at or below this one: it was sent before a restart.
    pub floor_ms: Option<i64>,
    /// `scrape_duration_seconds` in units of 100 microseconds.
    pub duration_100us: u32,
    /// The counts behind the synthetic series.
    pub counts: ScrapeCounts,
    /// The samples, in exposition order.
    pub samples: Bounded<Sample>,
    /// Timestamps of those samples that carry their own.
    pub explicit: Bounded<ExplicitTime>,
    /// Series that get a staleness marker at the time of this scrape.
    pub stale: Bounded<SeriesRef>,
    /// Native histograms, exemplars and start times of the samples.
    pub extras: Extras,
    /// What is said of the scrape beside the counts.
    pub notes: Notes,
    /// Which of all readings from its ring it is, as it stands; 0: none. Asked again for what it read last, a source need not
    /// decode it again.
    pub(crate) reading: u64,
}

impl Frame {
    /// An empty frame for up to `max_samples` samples, 12 + 16 + 2 bytes each, that carry nothing but values.
    #[must_use]
    pub fn with_capacity(max_samples: usize) -> Self {
        Self::with_extras(max_samples, 0)
    }

    /// Likewise, with room for `extras_bytes` bytes of what samples carry.
    #[must_use]
    pub fn with_extras(max_samples: usize, extras_bytes: usize) -> Self {
        Self {
            number: FrameNo(0),
            target: TargetRef(0),
            up: false,
            time_ms: 0,
            unix_ms: None,
            boot: 0,
            rebased: false,
            timeless: false,
            floor_ms: None,
            duration_100us: 0,
            counts: ScrapeCounts::default(),
            samples: Bounded::with_capacity(max_samples),
            explicit: Bounded::with_capacity(max_samples),
            stale: Bounded::with_capacity(max_samples),
            extras: Extras::with_capacity(extras_bytes),
            notes: Notes::default(),
            reading: 0,
        }
    }

    /// Empties the frame for the next scrape of `target` at boot time `time_ms`.
    pub fn reset(&mut self, target: TargetRef, time_ms: u64) {
        self.number = FrameNo(0);
        self.target = target;
        self.up = false;
        self.time_ms = time_ms;
        self.unix_ms = None;
        self.boot = 0;
        self.rebased = false;
        self.timeless = false;
        self.floor_ms = None;
        self.duration_100us = 0;
        self.counts = ScrapeCounts::default();
        self.samples.clear();
        self.explicit.clear();
        self.stale.clear();
        self.extras.clear();
        self.notes = Notes::default();
        self.reading = 0;
    }

    /// Makes this frame equal to `other`.
    ///
    /// # Errors
    /// [`Full`] when it was made for less; what it holds then means nothing.
    pub fn copy_from(&mut self, other: &Self) -> Result<(), Full> {
        self.reset(other.target, other.time_ms);
        self.number = other.number;
        self.up = other.up;
        self.unix_ms = other.unix_ms;
        self.duration_100us = other.duration_100us;
        self.counts = other.counts;
        self.notes = other.notes;
        self.samples.extend(&other.samples)?;
        self.explicit.extend(&other.explicit)?;
        self.stale.extend(&other.stale)?;
        // They come out of a frame: they are in order.
        self.extras.set_bytes(other.extras.as_bytes()).map(drop)
    }
}

/// What reading the next frame found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame was read; its number is in the frame.
    Frame,
    /// From the next call on, series references mean other series: send what was gathered first.
    Boundary,
    /// Caught up with the writer.
    End,
}

/// Frames in rising order with the names of their series: what a sender drains.
///
/// Implemented by the ring for each remote. After [`Next::Frame`], [`FrameSource::names`] names the
/// series of that frame and of all frames read since the last [`Next::Boundary`].
pub trait FrameSource {
    /// What can go wrong in the medium; losses inside the ring are counted there and are not errors.
    type Error;

    /// Reads the next frame that still exists into `frame`. After a [`FrameSource::seek`] back to the frame read last, the same
    /// `frame`, left as it was, costs nothing.
    ///
    /// # Errors
    /// The medium failed; the position is unchanged and the call may be repeated.
    fn next(&mut self, frame: &mut Frame) -> Result<Next, Self::Error>;

    /// Makes `at`, or the first later frame that still exists, the next one to be read.
    fn seek(&mut self, at: FrameNo);

    /// The number that the next frame to come will have; `None`: not known. A source that knows can be read from there on while
    /// older frames still wait.
    fn end(&self) -> Option<FrameNo> {
        None
    }

    /// Names of the series and labels of the targets of the frames read since the last boundary.
    fn names(&mut self) -> crate::catalogue::Names<'_>;
}
