//! The ring on flash: frames in, frames out, nothing durable lost.
//!
//! A ring is a fixed number of slots of one segment each, written strictly forward in blocks that are never written
//! twice until the ring laps. Frames are encoded into staging at once and written only when they have waited
//! `commit_interval_ms` for an acknowledgement, or staging fills up: with the uplink up nothing is ever written.
//! `FORMAT.md` describes every byte; [`inspect`] reads any image without configuration.
//!
//! ```text
//! append -> staging (chunks of blocks) --commit_step/synced--> slots of the medium
//!               |  acknowledged: dropped                           |
//!               +----------------> RingSource (one per remote) <---+
//! ```
//!
//! It does no I/O of its own ([`storage::Storage`] does), reads no clock, and does not know what a target, a rule or a request is.
//!
//! # Invariants
//!
//! - A frame whose commit returned `Done` is readable after any number of losses of power, as long as the medium keeps what
//!   it reported as synced. A frame that was not committed may or may not be there. Nothing else is ever read.
//! - Frames are read in rising number, each exactly as appended.
//! - Staged blocks are forgotten only after the sync that covers them; a failed write or sync writes them again
//!   elsewhere.
//! - A segment is opened only when everything before it is synced.
//! - Samples that will never be sent are counted by reason, and the totals survive a restart.
//!
//! # Limits and memory
//!
//! [`format::Geometry`] has the limits. Everything is allocated by [`Ring::mount`]: [`Ring::ram_bytes`] adds it up. Per
//! series the writer takes 21 bytes (codec state 19, layout 2) and a bit, each reader 24 and a bit (another 3 for the place of
//! the definition, which is read again from flash when it is asked for); each side 3.6 KB of codec tables with TC1 and 1.5 KB
//! of what it knows of targets. Each reader also takes one block, 12 bytes per block of a slot, and 2 KB of what it gave out.
//!
//! # When things go wrong
//!
//! Power loss costs what was not committed. A full ring drops the oldest segment or stops, as configured. A damaged block
//! costs at most the stream to the next chunk (64 KiB), a damaged dictionary at most its segment. A medium that takes no writes
//! leaves a ring in memory that keeps scraping and sending. Any image mounts, if only as an empty ring.
//!
//! Read `FORMAT.md` before editing anything here.

mod ahead;
mod anchor;
mod boots;
mod commit;
mod config;
mod control;
pub mod counters;
mod definitions;
pub mod dictionary;
mod erase;
mod feed;
pub mod format;
mod frame_coding;
#[cfg(test)]
mod golden;
mod held;
mod holes;
mod identity;
pub mod inspect;
pub mod layout;
mod mount;
mod reader;
pub mod record;
mod rescue;
mod rotate;
#[cfg_attr(feature = "seeded-faults", doc(hidden))]
#[cfg(feature = "seeded-faults")]
pub mod seeded;
#[cfg(not(feature = "seeded-faults"))]
mod seeded;
mod segment;
mod slots;
mod staging;
pub mod storage;
#[doc(hidden)]
pub mod testing;
mod timing;
pub mod values;
pub mod wear;
mod writer;

pub use boots::UnknownBoot;
pub use config::{
    AppendError, Boot, Commit, CommitError, CommitStep, FormatError, LossReport, MountError, MountReport, RemoteConfig,
    RingConfig, RingStats, WhenFull,
};
pub use counters::{Counters, Loss, Reason};
pub use frame_coding::{FrameInfo, boot_key};
pub use held::Skipped;
pub use identity::format;
pub use mount::check_config;
pub use reader::RingSource;
pub use record::ClockSource;

use crate::catalogue::bits::Bits;
use crate::clock::{Instant, UnixMillis};
use crate::frame::FrameNo;
use crate::limits::{MAX_REMOTES, MAX_SERIES_TEXT_BYTES};
use crate::value::codec::{Codec, SeriesState};
use alloc::boxed::Box;
use alloc::vec::Vec;
use boots::Boots;
use commit::{Head, Round};
use definitions::Places;
use dictionary::Compress;
use erase::Erases;
use format::Geometry;
use frame_coding::Encoder;
use reader::Reader;
use segment::{Flash, Index, Stream};
use slots::Slots;
use staging::Staging;
use storage::Storage;

/// Stream bytes after which a chunk ends: what one damaged block may cost. Measured to add 3 to 6% of full values.
pub const SYNC_SPAN_BYTES: usize = 64 * 1024;

/// Samples acknowledged since the acknowledgement was last written that are worth a commit of their own: what a loss of
/// power makes the sender send again.
pub const ACKNOWLEDGED_SAMPLES: u64 = 50_000;

/// Frame numbers left out by every mount, so that a frame on a block that could not be read then, and can later, never
/// shares its number with a new one. More frames than fit any common segment.
pub const FRAME_NO_SKIP: u64 = 65_536;

/// How long a medium that takes no writes is left alone, milliseconds.
const DEGRADED_PAUSE_MS: u64 = 60_000;

/// A medium that takes no writes is often still readable: its oldest segment is given up for another attempt this often,
/// milliseconds.
const DEGRADED_LAP_MS: u64 = 3_600_000;

/// Buffers shared by everything that reads or writes records; nothing in them survives a call.
struct Scratch {
    /// One record's payload.
    record: Box<[u8]>,
    /// Dictionary entries before compression.
    raw: Box<[u8]>,
    /// And after.
    packed: Box<[u8]>,
    /// One series' text.
    text: Box<[u8]>,
    compress: Option<Box<dyn Compress>>,
}

/// Index and stream for mount and for counting what is lapped.
struct Spare {
    index: Index,
    stream: Stream,
    /// Labels of a target that a reader was asked for.
    target: Box<[u8]>,
}

#[derive(Clone, Debug)]
struct Remote {
    config: RemoteConfig,
    acknowledged: FrameNo,
    /// As last written.
    persisted: FrameNo,
    /// The newest time sent to it.
    sent: Option<SentUntil>,
    /// As last written.
    sent_persisted: Option<SentUntil>,
    /// As found at mount: later frames must not repeat it.
    floor: Option<SentUntil>,
    skipped: Skipped,
    /// Frames it has beyond its acknowledgement.
    ahead: ahead::Spans,
    /// What its sender has in hand begins here, or at the acknowledgement, whichever is later.
    hand: FrameNo,
    /// As last written.
    ahead_persisted: ahead::Spans,
}

/// The newest time that a remote was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SentUntil {
    unix_ms: i64,
    /// The boot of that frame, and when it was taken to have begun.
    boot: u32,
    offset_ms: i64,
}

/// Range of frames already counted as lost by the writer.
type WrittenOff = heapless::Deque<(u64, u64), 8>;

/// A mounted ring. See the module documentation.
pub struct Ring<S: Storage> {
    flash: Flash<S>,
    config: RingConfig,
    slots: Slots,
    erases: Erases,
    head: Option<Head>,
    round: Round,
    /// Dictionary and other records written before the staged blocks.
    control: Staging,
    staging: Staging,
    encoder: Encoder,
    chunk: writer::Chunk,
    scratch: Scratch,
    spare: Spare,
    readers: Vec<Option<Reader>>,
    remotes: heapless::Vec<Remote, MAX_REMOTES>,
    boots: Boots,
    unknown_boot: UnknownBoot,
    boot: Boot,
    /// Key of this boot.
    boot_key: u32,
    /// A CLOCK record is due.
    clock_pending: bool,
    /// A CLOCK record is on its way to the medium: in the staged block with this serial, or in a control block.
    clock_staged: Option<u64>,
    clock_in_control: bool,
    /// The time of this boot is to be on flash before boots are anchored to it, or a restart would give them another.
    tell_clock: bool,
    told_clock: bool,
    /// The clock was set back: what was sent before must be kept, or a restart would forget it.
    keep_sent: bool,
    epoch: u32,
    /// Number of the next frame.
    next: FrameNo,
    /// Frame after the last one found at mount.
    found_next: FrameNo,
    /// First number given out by this mount.
    first_number: FrameNo,
    /// Frame after the last one on flash.
    flash_next: FrameNo,
    /// Frames and samples ever written to flash, for the backlog.
    flash_frames: u64,
    flash_samples: u64,
    /// The last block written says that the ring was closed, or nothing was written.
    clean: bool,
    /// Minimum acknowledgement as last written.
    persisted_ack: FrameNo,
    /// Frames before it are sent, or counted as lapped.
    lapped_to: FrameNo,
    /// Frames missing before it are counted, and those in the holes.
    missing_to: FrameNo,
    holes: holes::Holes,
    /// The holes are to be told with the next losses.
    holes_news: bool,
    /// While the medium fails, no segment is given up before this.
    lap_after: Instant,
    written_off: WrittenOff,
    held: heapless::Vec<held::Held, { held::MAX_HELD }>,
    /// Series used by staged frames that go to the open segment, which does not define them yet.
    needed: Bits,
    /// Such targets.
    needed_targets: Bits,
    /// Bytes their definitions may take.
    needed_bytes: usize,
    /// Bytes of the definitions that the frame being appended needs beside those.
    frame_needs: usize,
    /// Boot time of the mount.
    mounted: Instant,
    /// Latest boot time heard of.
    now: Instant,
    degraded_since: Option<Instant>,
    stopped: bool,
    counters: Counters,
    payload_bytes_written: u64,
    samples_written: u64,
    /// Losses not yet in a DROP record or segment header.
    pending_losses: [Option<record::Drop>; Loss::REASONS],
    /// Losses told, or to be told, on flash of frames that were delivered after all.
    delivered_losses: [Loss; Loss::REASONS],
    /// DROP records that are staged, and in which block: a segment header in front of them leaves them out.
    staged_losses: Option<(u64, [Option<record::Drop>; Loss::REASONS])>,
    /// Grows when blocks are added to the open segment.
    flash_version: u64,
    /// Frames given out to readers.
    readings: u64,
}

impl<S: Storage> core::fmt::Debug for Ring<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ring")
            .field("config", &self.config)
            .field("head", &self.head)
            .field("epoch", &self.epoch)
            .field("next", &self.next)
            .field("acknowledged", &self.min_ack())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> Ring<S> {
    /// Number the next frame will have.
    #[must_use]
    pub fn next_frame(&self) -> FrameNo {
        self.next
    }

    /// First frame that remote `remote` (its place in the configuration) has not acknowledged.
    #[must_use]
    pub fn acknowledged(&self, remote: usize) -> FrameNo {
        self.remotes
            .get(remote)
            .map_or(self.min_ack(), |remote| remote.acknowledged)
    }

    /// Remote `remote` has everything before `next`. Never goes back. Frames that no remote needs any more leave
    /// staging; the tail moves.
    pub fn acknowledge(&mut self, remote: usize, next: FrameNo) {
        let limit = self.next;
        if let Some(remote) = self.remotes.get_mut(remote) {
            remote.acknowledged = remote.acknowledged.max(next.min(limit));
        }
        self.release_held();
        self.release_acknowledged();
    }

    /// Whether remote `remote` does not hold the tail while others do.
    #[must_use]
    pub fn is_best_effort(&self, remote: usize) -> bool {
        self.remotes.get(remote).is_some_and(|remote| remote.config.best_effort)
            && self.remotes.iter().any(|remote| !remote.config.best_effort)
    }

    /// Remote `remote` was sent `boot`'s frame of time `unix_ms`, and everything before it.
    pub fn sent(&mut self, remote: usize, boot: u32, unix_ms: i64, offset_ms: i64) {
        if let Some(remote) = self.remotes.get_mut(remote)
            && remote.sent.is_none_or(|sent| sent.unix_ms < unix_ms)
        {
            remote.sent = Some(SentUntil {
                unix_ms,
                boot,
                offset_ms,
            });
        }
    }

    /// The newest time that was sent to remote `remote` before this mount, as far as the ring knows.
    #[must_use]
    pub fn sent_until(&self, remote: usize) -> Option<UnixMillis> {
        let floor = self.remotes.get(remote)?.floor?;
        Some(UnixMillis(floor.unix_ms))
    }

    /// Frames below this were there at mount and may be at the receiver already.
    #[must_use]
    pub fn replay_until(&self) -> FrameNo {
        self.found_next
    }

    /// First frame that some remote which holds the tail has not acknowledged.
    #[must_use]
    pub fn min_ack(&self) -> FrameNo {
        let holding = self.remotes.iter().filter(|remote| !remote.config.best_effort);
        // If all are best effort, the fastest decides.
        let all = self.remotes.iter().map(|remote| remote.acknowledged);
        holding
            .map(|remote| remote.acknowledged)
            .min()
            .or_else(|| all.max())
            .unwrap_or(self.next)
    }

    /// The clock says: at `boot_time` it was `wall`. A CLOCK record goes with the next commit if that is news: the clock
    /// became trusted, or moved by more than 250 ms.
    pub fn clock(&mut self, boot_time: Instant, wall: UnixMillis, source: ClockSource, error_ms: u32) {
        let known = self.boots.unix_ms(self.boot_key, boot_time.0);
        let better = self.boot.wall.is_none_or(|(_, before)| source > before);
        let moved = known.is_none_or(|known| known.abs_diff(wall.0) > 250);
        if source == ClockSource::None || !(better || moved) {
            return;
        }
        if known.is_some_and(|known| wall.0 < known.saturating_sub(250)) {
            let sent = self.remotes.iter().filter_map(|remote| remote.sent);
            self.keep_sent |= sent
                .max_by_key(|sent| sent.unix_ms)
                .is_some_and(|sent| sent.unix_ms >= wall.0);
        }
        self.boot.now = boot_time;
        self.boot.wall = Some((wall, source));
        self.boot.error_ms = error_ms;
        self.boots.note(self.boot_key, boot_time.0, wall.0, source as u8);
        self.clock_pending = true;
    }

    /// Frames before it are acknowledged, or were given up for others.
    #[must_use]
    pub fn given_up_to(&self) -> FrameNo {
        self.lapped_to
    }

    /// Frames that are missing before it were counted: of what is lost there later, nothing is.
    #[must_use]
    pub fn missing_to(&self) -> FrameNo {
        self.missing_to
    }

    /// Wall time of `boot_time_ms` of this boot, if its clock is known.
    #[must_use]
    pub fn unix_ms(&self, boot_time_ms: u64) -> Option<i64> {
        self.boots.unix_ms(self.boot_key, boot_time_ms)
    }

    /// Counts samples that will never be sent for a reason outside the ring.
    pub fn record_loss(&mut self, loss: &LossReport) {
        let (first_ms, last_ms) = loss.unix_ms.unwrap_or((0, 0));
        self.lose(
            loss.reason,
            loss.first.0,
            loss.last.0,
            &Loss {
                frames: loss.frames,
                samples: loss.samples,
                first_ms,
                last_ms,
            },
        );
    }

    /// Adds to the ledger and to what the next commit writes of it.
    fn lose(&mut self, reason: Reason, first: u64, last: u64, loss: &Loss) {
        self.counters.losses[reason as usize].add(loss);
        self.tell_lost(reason, first, last, loss);
    }

    /// Adds to what the next commit writes of the ledger.
    fn tell_lost(&mut self, reason: Reason, first: u64, last: u64, loss: &Loss) {
        let drop = record::Drop {
            first_frame: first,
            last_frame: last,
            samples: loss.samples,
            reason: reason as u8,
            frames: loss.frames,
            first_ms: loss.first_ms,
            last_ms: loss.last_ms,
        };
        drop.add_to(&mut self.pending_losses[reason as usize]);
    }

    /// Frames `from..to` are missing on flash, the reader of remote `remote` says: counts those that nobody has or has counted. Of
    /// several remotes that hold the tail the one that is furthest behind counts: the others do not see what it needs.
    fn missing(&mut self, remote: usize, from: FrameNo, to: FrameNo) {
        if self.acknowledged(remote) > self.min_ack() {
            return;
        }
        let from = from.max(self.min_ack()).max(self.lapped_to);
        if to <= from {
            return;
        }
        let frames = self.uncounted(from.0, to.0);
        if frames > 0 {
            self.note_hole(from.0, to.0);
            let samples = self.samples_of(frames);
            let loss = Loss {
                frames,
                samples,
                ..Loss::default()
            };
            self.lose(Reason::Damaged, from.0, to.0 - 1, &loss);
        }
    }

    /// Samples of so many frames of which nothing else is known: by the average, rounded up.
    fn samples_of(&self, frames: u64) -> u64 {
        let all_frames = (self.flash_frames + self.counters.frames_appended).max(1);
        let all_samples = self.flash_samples + self.counters.samples_appended;
        let samples = (u128::from(frames) * u128::from(all_samples)).div_ceil(all_frames.into());
        u64::try_from(samples).unwrap_or(u64::MAX)
    }

    /// What happened since the mount, and what was lost since format.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The medium.
    #[must_use]
    pub fn storage(&self) -> &S {
        &self.flash.storage
    }

    /// The medium, for instance to sync it.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.flash.storage
    }

    /// Gives the medium back; what was not committed is gone.
    #[must_use]
    pub fn into_storage(self) -> S {
        self.flash.storage
    }

    /// Identity of the ring.
    #[must_use]
    pub fn uuid(&self) -> &[u8; 16] {
        &self.flash.uuid
    }

    /// Blocks of staging in use, and how many there are.
    #[must_use]
    pub fn staging_use(&self) -> (usize, usize) {
        (self.staging.len(), self.staging.capacity())
    }

    /// State in numbers.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        let ack = self.min_ack();
        let (backlog_frames, backlog_samples) = self.backlog(ack);
        let (staged_frames, staged_samples) = self.staging.sum(self.staging.first(), self.staging.end());
        let geometry = self.flash.geometry;
        let (tail_seq, used_slots) = self.slots.in_use(ack, self.flash_next);
        let free_slots = self.slots.usable().saturating_sub(used_slots.max(1));
        let in_head = self
            .head
            .as_ref()
            .map_or(0, |head| geometry.blocks_per_slot.saturating_sub(head.index));
        let oldest = if ack < self.flash_next && backlog_frames > 0 {
            self.slots.wall_of(ack)
        } else {
            self.staging.time_of(ack).and_then(|time| self.unix_ms(time))
        };
        RingStats {
            slots: geometry.slots,
            used_slots,
            head_seq: self.slots.last_seq,
            tail_seq,
            backlog_frames,
            backlog_samples,
            staged_frames,
            staged_samples,
            staged_blocks: self.staging.len(),
            staging_blocks: self.staging.capacity(),
            free_bytes: u64::from(free_slots) * u64::from(geometry.segment_bytes())
                + u64::from(in_head) * u64::from(geometry.block_bytes),
            epoch: self.epoch,
            degraded: self.degraded_since.is_some(),
            stopped: self.stopped,
            oldest_unix_ms: oldest,
            payload_bytes_written: self.payload_bytes_written,
            samples_written: self.samples_written,
            running_ms: self.now.0.saturating_sub(self.mounted.0),
            erase_counts: self.erases.range(),
        }
    }

    /// Frames and samples on flash from `ack` on.
    fn backlog(&self, ack: FrameNo) -> (u64, u64) {
        if ack >= self.flash_next {
            return (0, 0);
        }
        let (frames, samples) = self
            .slots
            .before(ack, self.flash_next, self.flash_frames, self.flash_samples);
        (
            self.flash_frames.saturating_sub(frames),
            self.flash_samples.saturating_sub(samples),
        )
    }

    /// Heap bytes of a ring, without the writer's catalogue, which is the caller's.
    #[must_use]
    pub fn ram_bytes(config: &RingConfig, geometry: &Geometry) -> usize {
        let block = geometry.block_bytes as usize;
        let index = geometry.blocks_per_slot as usize * size_of::<segment::Entry>();
        let timing = size_of::<timing::Timing>();
        let coder = Codec::ram_bytes(config.codec) + config.max_series * (size_of::<SeriesState>() + 2) + timing;
        let given = size_of::<held::Given>();
        let reader = coder + given + block + index + Places::ram_bytes(config.max_series, geometry);
        let scratch = mount::record_bytes(config, geometry) + 2 * mount::raw_bytes(config) + dictionary::MAX_TEXT;
        coder
            + Bits::ram_bytes(config.max_series)
            + Bits::ram_bytes(crate::limits::MAX_TARGETS)
            + config.remotes.len() * reader
            + (config.staging_blocks + mount::control_blocks(config, geometry)) * (block + size_of::<staging::Staged>())
            + block
            + index
            + MAX_SERIES_TEXT_BYTES
            + scratch
            + geometry.slots as usize * size_of::<slots::Slot>()
            + Erases::ram_bytes(geometry)
    }
}

/// Of `numbers` missing in a row, those that were frames: a gap this long holds the numbers that a mount left out, and the START
/// that would have told them apart is lost with the frames.
const fn without_left_out(numbers: u64) -> u64 {
    numbers % FRAME_NO_SKIP
}
