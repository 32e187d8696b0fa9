//! What a ring is told, and what it tells: configuration, reports, errors.

use super::counters::Reason;
use super::dictionary::Compress;
use super::format::{Geometry, Medium};
use super::record::ClockSource;
use crate::clock::{Instant, UnixMillis};
use crate::frame::FrameNo;
use crate::limits::MAX_REMOTES;
use crate::value::codec::CodecId;
use alloc::boxed::Box;

/// A receiver that drains the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// Names it on flash: CRC-32C of its name or URL.
    pub id: u32,
    /// It does not hold the tail: what the others have acknowledged may go, although it has not.
    pub best_effort: bool,
}

/// What a full ring does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest segment makes room.
    #[default]
    DropOldest,
    /// New frames are refused.
    Stop,
}

/// Sizes and habits of a ring, fixed while it is mounted.
pub struct RingConfig {
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// Bytes of the whole ring, superblocks included.
    pub ring_bytes: u64,
    /// Codec of new segments; all are read.
    pub codec: CodecId,
    /// A frame that no remote has acknowledged is written at this age, milliseconds.
    pub commit_interval_ms: u64,
    /// Blocks that wait in memory, at least 4.
    pub staging_blocks: usize,
    /// Series over all targets.
    pub max_series: usize,
    /// Samples of one frame at most.
    pub max_frame_samples: usize,
    /// Bytes of native histograms, exemplars and start times of one frame at most, up to a quarter of a segment.
    pub extras_bytes: usize,
    /// Bytes of names and labels; a reader gets half as much again.
    pub text_bytes: usize,
    /// Who drains it; at least one.
    pub remotes: heapless::Vec<RemoteConfig, MAX_REMOTES>,
    /// What happens when it is full.
    pub when_full: WhenFull,
    /// Checksum of what decides targets and labels: while it stays the same, the definitions on flash are kept over a
    /// restart.
    pub config_crc: u32,
    /// Compressor of dictionaries.
    pub compress: Option<Box<dyn Compress>>,
}

impl core::fmt::Debug for RingConfig {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RingConfig")
            .field("block_bytes", &self.block_bytes)
            .field("segment_bytes", &self.segment_bytes)
            .field("ring_bytes", &self.ring_bytes)
            .field("codec", &self.codec)
            .field("commit_interval_ms", &self.commit_interval_ms)
            .field("staging_blocks", &self.staging_blocks)
            .field("max_series", &self.max_series)
            .field("remotes", &self.remotes)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}

impl RingConfig {
    /// The geometry this asks for on `medium`, if it is within the limits of the format.
    #[must_use]
    pub fn geometry(&self, medium: Medium) -> Option<Geometry> {
        Geometry::new(self.block_bytes, self.segment_bytes, self.ring_bytes, medium)
    }

    /// As [`RingConfig::geometry`], slot 0 at byte `first_offset`.
    #[must_use]
    pub fn geometry_behind(&self, first_offset: u64, medium: Medium) -> Option<Geometry> {
        Geometry::behind(
            first_offset,
            self.block_bytes,
            self.segment_bytes,
            self.ring_bytes,
            medium,
        )
    }
}

/// The boot the ring is mounted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's boot id.
    pub id: [u8; 16],
    /// Boot time.
    pub now: Instant,
    /// Wall time at `now`, if there is a clock.
    pub wall: Option<(UnixMillis, ClockSource)>,
    /// How wrong `wall` may be, milliseconds.
    pub error_ms: u32,
}

/// What a mount found. Nothing has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountReport {
    /// Slots.
    pub slots: u32,
    /// Segments with a readable header.
    pub segments: u32,
    /// Slots whose blocks are there but not their header: their frames are lost.
    pub headless_slots: u32,
    /// Slots the medium calls bad.
    pub bad_slots: u32,
    /// Segments of a later major version: kept, not read.
    pub foreign_segments: u32,
    /// Sequence number of the newest segment, 0 if none.
    pub head_seq: u64,
    /// Blocks of the head segment that are damaged.
    pub damaged_blocks: u32,
    /// Frames in the head segment that can be read.
    pub head_frames: u64,
    /// Slot and block where writing goes on; `None`: the next slot.
    pub resumed_at: Option<(u32, u32)>,
    /// The head segment ends with an orderly stop.
    pub clean: bool,
    /// The definitions on flash are in the catalogue.
    pub catalogue_kept: bool,
    /// First frame not acknowledged by every remote that holds the tail.
    pub acknowledged: FrameNo,
    /// Frame after the last one found.
    pub next_frame: FrameNo,
    /// Frames on flash that wait to be sent.
    pub backlog_frames: u64,
    /// Largest wall time found, milliseconds since the Unix epoch, 0 if none.
    pub last_wall_ms: i64,
    /// Blocks read.
    pub blocks_read: u64,
}

/// Why a ring cannot be mounted. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountError {
    /// No superblock, erase header or segment header: `format` it first.
    NotFormatted,
    /// It says another shape than configured.
    Geometry {
        /// On the medium.
        found: Geometry,
        /// Asked for; `None`: outside the format's limits.
        configured: Option<Geometry>,
    },
    /// Formatted by a later version.
    Version {
        /// Major version found.
        found: u16,
    },
    /// A feature this version does not know.
    Incompatible {
        /// The unknown bits.
        features: u32,
    },
    /// The configuration makes no sense: names the field.
    Config(&'static str),
}

impl core::fmt::Display for MountError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotFormatted => f.write_str("no ring here: format it first"),
            Self::Geometry { found, configured } => write!(
                f,
                "ring has {} slots of {} bytes in blocks of {}, configured are {:?}",
                found.slots,
                found.segment_bytes(),
                found.block_bytes,
                configured.map(|g| (g.slots, g.segment_bytes(), g.block_bytes))
            ),
            Self::Version { found } => write!(f, "ring has format version {found}, this program knows 1"),
            Self::Incompatible { features } => write!(f, "ring uses features {features:08x} unknown to this program"),
            Self::Config(field) => write!(f, "{field} is out of range"),
        }
    }
}

impl core::error::Error for MountError {}

/// Why a ring cannot be formatted.
#[derive(Debug)]
#[non_exhaustive]
pub enum FormatError<E> {
    /// The geometry is outside the format's limits.
    Geometry,
    /// The medium failed.
    Storage(E),
}

impl<E: core::fmt::Display> core::fmt::Display for FormatError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Geometry => f.write_str("geometry is outside the limits of the format"),
            Self::Storage(error) => write!(f, "write superblock: {error}"),
        }
    }
}

impl<E: core::error::Error> core::error::Error for FormatError<E> {}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendError {
    /// Staging is full: commit, then append again. Nothing is lost yet.
    StagingFull,
    /// The ring is full and told to stop: the frame is counted as lost.
    Stopped,
    /// The frame can never be stored: it is counted as lost.
    TooBig,
    /// A series or target index is beyond what the ring was made for, or something is carried by no sample: a fault of the
    /// caller, nothing is counted.
    UnknownSeries,
}

impl core::fmt::Display for AppendError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::StagingFull => "staging is full",
            Self::Stopped => "ring is full and told to stop",
            Self::TooBig => "frame is larger than a record may be",
            Self::UnknownSeries => "series index is out of range",
        })
    }
}

impl core::error::Error for AppendError {}

/// What to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Everything staged.
    All,
    /// Only what the remotes have acknowledged of the frames on flash.
    Acknowledgement,
}

/// What a step of a commit asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStep {
    /// Sync the storage, report to [`super::Ring::synced`], then step again.
    NeedSync,
    /// All is durable.
    Done,
}

/// Why a commit came to nothing. What was staged stays staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitError {
    /// The ring is full and told to stop.
    Full,
    /// Three slots in a row did not take the blocks: the ring works in memory only and tries again in a minute.
    Degraded,
}

impl core::fmt::Display for CommitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Full => "ring is full and told to stop",
            Self::Degraded => "storage does not take writes",
        })
    }
}

impl core::error::Error for CommitError {}

/// State of a ring, for people and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Slots.
    pub slots: u32,
    /// Slots that hold frames not yet acknowledged.
    pub used_slots: u32,
    /// Sequence number of the newest segment, 0 if none.
    pub head_seq: u64,
    /// Sequence number of the oldest segment still needed.
    pub tail_seq: u64,
    /// Frames on flash not acknowledged by every remote that holds the tail; exact but for damage.
    pub backlog_frames: u64,
    /// Samples in them, interpolated within a segment.
    pub backlog_samples: u64,
    /// Frames in staging.
    pub staged_frames: u64,
    /// Samples in them.
    pub staged_samples: u64,
    /// Blocks in staging.
    pub staged_blocks: usize,
    /// Blocks staging has room for.
    pub staging_blocks: usize,
    /// Bytes that can be written before the oldest unacknowledged segment must go.
    pub free_bytes: u64,
    /// Writes of this mount carry this number.
    pub epoch: u32,
    /// The medium does not take writes.
    pub degraded: bool,
    /// The ring is full and told to stop.
    pub stopped: bool,
    /// Wall time of the oldest frame not acknowledged, if known; on flash that of its segment.
    pub oldest_unix_ms: Option<i64>,
    /// Payload bytes written by this mount, dictionary included.
    pub payload_bytes_written: u64,
    /// Samples in them.
    pub samples_written: u64,
    /// Milliseconds from the mount to the latest time heard of.
    pub running_ms: u64,
    /// Erases of the least and the most erased slot of a write-once medium, since they were first formatted.
    pub erase_counts: Option<(u32, u32)>,
}

/// A loss to be counted, see [`super::Ring::record_loss`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossReport {
    /// Why.
    pub reason: Reason,
    /// First frame concerned.
    pub first: FrameNo,
    /// Last frame concerned.
    pub last: FrameNo,
    /// Frames lost.
    pub frames: u64,
    /// Samples lost.
    pub samples: u64,
    /// Wall time of the first and last sample, if known.
    pub unix_ms: Option<(i64, i64)>,
}
