//! Finding head, tail and state again after anything.
//!
//! Mount reads one block of every slot (up to three where the first is damaged) and the head slot once, its valid blocks again only
//! where they do not lie in the order of the stream: after write errors and torn beginnings. It writes
//! nothing, and never fails for content: at worst it starts an empty ring with everything counted as damaged. It
//! refuses a medium that was not formatted, has another shape or needs what this version does not know.
//! What the head segment says is in [`head`].

mod head;

pub(crate) use head::define_from;

use super::boots::Boots;
use super::commit::Round;
use super::config::{Boot, MountError, MountReport, RingConfig};
use super::counters::{Counters, Loss};
use super::dictionary;
use super::erase::Erases;
use super::format::{Geometry, KNOWN_INCOMPAT, MAJOR, MINOR, flag, payload};
use super::frame_coding::{Encoder, max_frame_bytes};
use super::identity::{Identity, identify};
use super::reader::Reader;
use super::record::{self, SegmentHeader, kind};
use super::segment::{Flash, Index, Stream};
use super::slots::{Slot, Slots, State};
use super::staging::Staging;
use super::storage::Storage;
use super::writer::Chunk;
use super::{FRAME_NO_SKIP, Remote, Ring, Scratch, Spare, WrittenOff, boot_key};
use crate::catalogue::Catalogue;
use crate::catalogue::bits::Bits;
use crate::clock::Instant;
use crate::frame::FrameNo;
use crate::limits::MAX_TARGETS;
use crate::value::codec::CodecId;
use crate::value::varint::Cursor;
use alloc::vec;
use alloc::vec::Vec;

/// Blocks tried: the segment header is in the first, the others tell a slot without header from an empty one.
const HEADER_BLOCKS: u32 = 3;

/// How far a mount's epoch is from the largest it finds: 1 to 256, another number from boot to boot. A boot that was cut before any of
/// its blocks landed whole leaves no epoch to be found, only parts that a later torn write may complete: the block must then not be
/// of the later boot's epoch, whose stream it would continue.
const fn epoch_step(boot_key: u32) -> u32 {
    1 + boot_key % 256
}

/// Payload bytes of the longest record that is written or read.
pub(crate) fn record_bytes(config: &RingConfig, geometry: &Geometry) -> usize {
    max_frame_bytes(config.codec, config.max_frame_samples, config.extras_bytes)
        .min(geometry.segment_bytes() as usize / 2)
        .max(raw_bytes(config) + record::MAX_CONTROL_BYTES)
}

/// Bytes of a DICT record's entries: any one text fits.
pub(crate) const fn raw_bytes(config: &RingConfig) -> usize {
    let text = if config.text_bytes < dictionary::MAX_TEXT {
        config.text_bytes
    } else {
        dictionary::MAX_TEXT
    };
    // Labels of a target are text as well; type, prefix, suffix and length go in front.
    text + 64
}

/// Blocks for control records: one full DICT record behind a segment header and eight acknowledgements.
pub(crate) fn control_blocks(config: &RingConfig, geometry: &Geometry) -> usize {
    (raw_bytes(config) + 2 * record::MAX_CONTROL_BYTES)
        .div_ceil(geometry.payload_bytes())
        .max(2)
}

impl<S: Storage> Ring<S> {
    /// Mounts a ring. Reads only; allocates everything the ring will ever need.
    ///
    /// `catalogue` is filled with the definitions of the head segment if they can go on being used, else cleared. The caller
    /// then sets the labels of its targets and releases the series that no longer exist.
    ///
    /// # Errors
    /// [`MountError`]; nothing was changed.
    pub fn mount(
        mut storage: S,
        config: RingConfig,
        boot: Boot,
        catalogue: &mut Catalogue,
    ) -> Result<(Self, MountReport), MountError> {
        let identity = identify(&mut storage).ok_or(MountError::NotFormatted)?;
        check(&identity, &storage, &config)?;
        let mut ring = Self::empty(storage, identity, config, boot);
        let mut report = MountReport {
            slots: identity.geometry.slots,
            ..MountReport::default()
        };
        let newest = ring.scan_slots(&mut report);
        ring.take_over(newest.as_ref());
        catalogue.clear();
        if ring.slots.last_seq > 0 {
            ring.scan_head(newest.as_ref(), catalogue, &mut report);
        } else {
            ring.next = FrameNo(newest.map_or(0, |header| header.frame_no));
        }
        ring.found_next = ring.next;
        ring.flash_next = ring.next;
        // Frames may have been acknowledged that never reached flash: their numbers are used up as well.
        ring.next = ring
            .remotes
            .iter()
            .flat_map(|remote| remote.ahead.iter().map(|span| span.1).chain([remote.acknowledged]))
            .fold(ring.next, FrameNo::max);
        // So are those of frames in segments given up after write errors: they were written in part, and the head does not
        // tell of them.
        let given_up = ring.slots.segments_from(0).map(|(_, slot)| slot.first_frame).max();
        ring.next = ring.next.max(given_up.unwrap_or_default()).max(ring.first_number);
        if report.segments + report.headless_slots + report.foreign_segments > 0 {
            ring.next = FrameNo(ring.next.0 + FRAME_NO_SKIP);
        }
        ring.first_number = ring.next;
        for remote in &mut ring.remotes {
            remote.persisted = remote.acknowledged;
            remote.floor = remote.sent;
            remote.sent_persisted = remote.sent;
        }
        ring.settle_ahead();
        ring.take_bound();
        ring.clean = report.clean;
        ring.persisted_ack = ring.min_ack();
        report.last_wall_ms = ring.boots.latest_ms;
        if let Some((wall, source)) = boot.wall {
            ring.boots.note(ring.boot_key, boot.now.0, wall.0, source as u8);
        }
        report.acknowledged = ring.min_ack();
        report.next_frame = ring.found_next;
        report.backlog_frames = ring.backlog(ring.min_ack()).0;
        report.head_seq = ring.slots.last_seq;
        report.blocks_read = ring.flash.blocks_read;
        Ok((ring, report))
    }

    fn empty(storage: S, identity: Identity, mut config: RingConfig, boot: Boot) -> Self {
        let geometry = identity.geometry;
        let config_compress = config.compress.take();
        let remotes: heapless::Vec<Remote, { crate::limits::MAX_REMOTES }> = config
            .remotes
            .iter()
            .map(|&config| Remote {
                config,
                acknowledged: FrameNo(0),
                persisted: FrameNo(0),
                sent: None,
                sent_persisted: None,
                floor: None,
                skipped: super::Skipped::default(),
                ahead: super::ahead::Spans::new(),
                hand: FrameNo(0),
                ahead_persisted: super::ahead::Spans::new(),
            })
            .collect();
        let readers: Vec<Option<Reader>> = remotes.iter().map(|_| Some(Reader::new(&config, &geometry))).collect();
        Self {
            slots: Slots::new(&geometry),
            erases: Erases::new(&geometry),
            head: None,
            round: Round::default(),
            control: Staging::new(&geometry, control_blocks(&config, &geometry), 0),
            staging: Staging::new(&geometry, config.staging_blocks, config.commit_interval_ms),
            encoder: Encoder::new(config.codec, config.max_series),
            chunk: Chunk::default(),
            scratch: Scratch {
                record: vec![0; record_bytes(&config, &geometry)].into_boxed_slice(),
                raw: vec![0; raw_bytes(&config)].into_boxed_slice(),
                packed: vec![0; raw_bytes(&config)].into_boxed_slice(),
                text: vec![0; dictionary::MAX_TEXT].into_boxed_slice(),
                compress: config_compress,
            },
            spare: Spare {
                index: Index::new(&geometry),
                stream: Stream::new(&geometry),
                target: vec![0; crate::limits::MAX_SERIES_TEXT_BYTES].into_boxed_slice(),
            },
            readers,
            remotes,
            boots: Boots::new(boot_key(&boot.id)),
            unknown_boot: super::UnknownBoot::Hold,
            boot,
            boot_key: boot_key(&boot.id),
            clock_pending: false,
            clock_staged: None,
            clock_in_control: false,
            tell_clock: false,
            told_clock: false,
            keep_sent: false,
            epoch: epoch_step(boot_key(&boot.id)),
            next: FrameNo(0),
            found_next: FrameNo(0),
            first_number: FrameNo(0),
            flash_next: FrameNo(0),
            flash_frames: 0,
            flash_samples: 0,
            clean: true,
            persisted_ack: FrameNo(0),
            lapped_to: FrameNo(0),
            missing_to: FrameNo(0),
            holes: super::holes::Holes::new(),
            holes_news: false,
            lap_after: Instant(0),
            written_off: WrittenOff::new(),
            held: heapless::Vec::new(),
            needed: Bits::new(config.max_series),
            needed_targets: Bits::new(MAX_TARGETS),
            needed_bytes: 0,
            frame_needs: 0,
            mounted: boot.now,
            now: boot.now,
            degraded_since: None,
            stopped: false,
            counters: Counters::default(),
            payload_bytes_written: 0,
            samples_written: 0,
            pending_losses: [None; Loss::REASONS],
            delivered_losses: [Loss::default(); Loss::REASONS],
            staged_losses: None,
            flash_version: 0,
            readings: 0,
            flash: Flash {
                storage,
                geometry,
                uuid: identity.uuid,
                read_errors: 0,
                blocks_read: 0,
            },
            config,
        }
    }

    /// Reads the header of every slot; gives the newest segment header.
    fn scan_slots(&mut self, report: &mut MountReport) -> Option<SegmentHeader> {
        let mut newest: Option<SegmentHeader> = None;
        for slot in 0..self.flash.geometry.slots {
            let (state, header) = if self.flash.storage.is_bad(slot) {
                (State::Bad, None)
            } else {
                self.read_erase_count(slot);
                self.probe(slot)
            };
            let info = header.map_or(
                Slot {
                    state,
                    ..Slot::default()
                },
                |header| Slot {
                    state,
                    seq: header.seq,
                    first_frame: FrameNo(header.frame_no),
                    prior: FrameNo(header.prior),
                    frames: header.frames,
                    samples: header.samples,
                    wall_ms: header.wall_ms,
                },
            );
            match state {
                State::Bad => report.bad_slots += 1,
                State::Headless => report.headless_slots += 1,
                State::Foreign => report.foreign_segments += 1,
                State::Segment => report.segments += 1,
                State::Empty => {}
            }
            self.slots.set(slot, info);
            self.slots.last_seq = self.slots.last_seq.max(info.seq);
            if state == State::Segment
                && let Some(header) = header
                && newest.is_none_or(|newest| newest.seq < header.seq)
            {
                newest = Some(header);
            }
        }
        newest
    }

    /// No boot began before the largest wall time there is word of.
    fn take_bound(&mut self) {
        let sent = self.remotes.iter().filter_map(|remote| remote.sent);
        self.boots.bound_ms = sent.map(|sent| sent.unix_ms).fold(self.boots.latest_ms, i64::max);
        let own = self
            .remotes
            .iter()
            .filter_map(|remote| remote.sent)
            .find(|sent| sent.boot == self.boot_key);
        if let Some(own) = own {
            self.boots.guess(own.offset_ms);
        }
    }

    /// What the first blocks of a slot say. Of a headless slot only the sequence number is known.
    fn probe(&mut self, slot: u32) -> (State, Option<SegmentHeader>) {
        let first = self.flash.geometry.first_block();
        let mut state = State::Empty;
        let mut headless: Option<SegmentHeader> = None;
        for index in first..first + HEADER_BLOCKS {
            let block = &mut self.spare.stream.block;
            let Ok(header) = self.flash.load(slot, index, block) else {
                continue;
            };
            if index == first && header.flags & flag::FIRST != 0 {
                let mut cursor = Cursor::new(payload(block, &header));
                let found = cursor
                    .u8()
                    .ok()
                    .filter(|&found| found == kind::SEGMENT)
                    .and_then(|_| cursor.u64().ok())
                    .and_then(|len| cursor.bytes(usize::try_from(len).ok()?).ok())
                    .and_then(|bytes| record::parse::<SegmentHeader>(bytes).ok())
                    .filter(|found| {
                        found.seq as u32 == header.seq && found.slot == slot && self.slots.slot_of(found.seq) == slot
                    });
                if let Some(found) = found {
                    let known = found.major == MAJOR && CodecId::from_byte(found.codec).is_some();
                    return (if known { State::Segment } else { State::Foreign }, Some(found));
                }
            }
            if headless.is_none_or(|other| header.seq.wrapping_sub(other.seq as u32) as i32 > 0) {
                state = State::Headless;
                headless = Some(SegmentHeader {
                    seq: header.seq.into(),
                    ..BLANK
                });
            }
        }
        (state, headless)
    }

    /// Takes the ledger and the acknowledgement from the newest segment header.
    fn take_over(&mut self, newest: Option<&SegmentHeader>) {
        let Some(newest) = newest else { return };
        let headed = |slot: &Slot| matches!(slot.state, State::Segment | State::Foreign);
        let slots = (0..self.flash.geometry.slots).map(|slot| self.slots.get(slot));
        let head_seq = slots.filter(headed).map(|slot| slot.seq).max().unwrap_or(0);
        // A headless slot knows half of its sequence number.
        for slot in 0..self.flash.geometry.slots {
            let mut info = self.slots.get(slot);
            if info.state == State::Headless {
                let ahead = (info.seq as u32).wrapping_sub(newest.seq as u32) as i32;
                info.seq = newest.seq.saturating_add_signed(ahead.into());
                // Beyond the head it is a segment that was never begun: the boot that was to begin it was cut, or its header is
                // damaged. The number is used again, so that no cut while a segment is opened costs more than that segment.
                if self.slots.slot_of(info.seq) != slot || info.seq > head_seq {
                    info = Slot::default();
                }
            }
            // Older than anything still needed: its frames were sent, or counted when it was given up.
            if info.seq < newest.tail_seq && info.state != State::Bad {
                info = Slot::default();
            }
            self.slots.set(slot, info);
        }
        self.slots.last_seq = (0..self.flash.geometry.slots)
            .map(|slot| self.slots.get(slot).seq)
            .max()
            .unwrap_or(0);
        // The rest stands in DROP records behind the header.
        self.counters.losses[..Loss::IN_HEADER].copy_from_slice(&newest.losses);
        self.counters.dropped_segments = newest.dropped_segments;
        self.lapped_to = FrameNo(newest.tail_frame);
        self.missing_to = FrameNo(newest.counted_frame);
        self.flash_frames = newest.frames;
        self.flash_samples = newest.samples;
        self.next = FrameNo(newest.prior);
        for remote in &mut self.remotes {
            remote.acknowledged = FrameNo(newest.ack);
        }
        for slot in 0..self.flash.geometry.slots {
            let wall_ms = self.slots.get(slot).wall_ms;
            self.boots.latest_ms = self.boots.latest_ms.max(wall_ms);
        }
    }
}

/// A segment header of which nothing is known.
const BLANK: SegmentHeader = SegmentHeader {
    major: MAJOR,
    minor: MINOR,
    uuid: [0; 16],
    seq: 0,
    slots: 0,
    log2_block: 0,
    log2_segment: 0,
    slot: 0,
    tail_seq: 0,
    frame_no: 0,
    dropped_samples: 0,
    dropped_segments: 0,
    config_crc: 0,
    codec: 0,
    ack: 0,
    prior: 0,
    tail_frame: 0,
    counted_frame: 0,
    frames: 0,
    samples: 0,
    wall_ms: 0,
    max_series: 0,
    losses: [Loss {
        frames: 0,
        samples: 0,
        first_ms: 0,
        last_ms: 0,
    }; Loss::IN_HEADER],
};

fn check<S: Storage>(identity: &Identity, storage: &S, config: &RingConfig) -> Result<(), MountError> {
    let geometry = &storage.geometry();
    let configured = config.geometry_behind(storage.first_offset(), geometry.medium);
    if identity.major != MAJOR {
        return Err(MountError::Version { found: identity.major });
    }
    let features = identity.incompat & !KNOWN_INCOMPAT;
    if features != 0 {
        return Err(MountError::Incompatible { features });
    }
    if identity.geometry != *geometry || configured != Some(identity.geometry) {
        return Err(MountError::Geometry {
            found: identity.geometry,
            configured,
        });
    }
    check_config(config, geometry)
}

/// Whether a ring of this geometry can work as `config` says: what a mount would refuse whatever is on the medium.
///
/// # Errors
/// [`MountError::Config`].
pub fn check_config(config: &RingConfig, geometry: &Geometry) -> Result<(), MountError> {
    if config.remotes.is_empty() {
        return Err(MountError::Config("remotes"));
    }
    if config.staging_blocks < 4 {
        return Err(MountError::Config("staging_blocks"));
    }
    if config.max_series == 0 || config.max_series > crate::limits::MAX_SERIES {
        return Err(MountError::Config("max_series"));
    }
    if config.max_frame_samples == 0 || config.max_frame_samples > crate::limits::MAX_SERIES {
        return Err(MountError::Config("max_frame_samples"));
    }
    if config.extras_bytes > geometry.segment_bytes() as usize / 4 {
        return Err(MountError::Config("extras_bytes"));
    }
    let control = control_blocks(config, geometry) as u32;
    if control + 2 > geometry.blocks_per_slot - geometry.first_block() {
        return Err(MountError::Config("segment_bytes"));
    }
    Ok(())
}
