//! Finding head, tail and state again after anything.
//!
//! Mount reads one block of every slot (up to three where the first is damaged) and the head slot once, its valid blocks again only
//! where they do not lie in the order of the stream: after write errors and torn beginnings. It writes
//! nothing, and never fails for content: at worst it starts an empty ring with everything counted as damaged. It
//! refuses a medium that was not formatted, has another shape or needs what this version does not know.

use super::boots::Boots;
use super::commit::{Head, Opening, Round};
use super::config::{Boot, MountError, MountReport, RingConfig};
use super::counters::{Counters, Loss, Reason};
use super::dictionary::{self, DictHead};
use super::erase::Erases;
use super::feed::Feed;
use super::format::{Geometry, KNOWN_INCOMPAT, MAJOR, MINOR, Medium, flag, payload};
use super::frame_coding::{Encoder, Tally, max_frame_bytes};
use super::identity::{Identity, identify};
use super::reader::Reader;
use super::record::{self, Ack, Clock, RecordFault, SegmentHeader, Start, Target, kind};
use super::seeded::{self, Fault as Seeded};
use super::segment::{Dictionary, DictionaryCheck, Flash, Index, Item, Stream};
use super::slots::{Slot, Slots, State};
use super::staging::Staging;
use super::storage::Storage;
use super::writer::Chunk;
use super::{FRAME_NO_SKIP, Remote, Ring, Scratch, Spare, WrittenOff, boot_key, without_left_out};
use crate::catalogue::Catalogue;
use crate::catalogue::bits::Bits;
use crate::clock::Instant;
use crate::frame::FrameNo;
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

/// What the head segment said.
#[derive(Default)]
struct HeadScan {
    next: FrameNo,
    /// Highest number that a chunk began with: those before it may have been given up, but were used.
    begun: FrameNo,
    frames: u64,
    samples: u64,
    dictionary: DictionaryCheck,
    /// Of the last START.
    config_crc: Option<u32>,
    acks: heapless::Vec<(u32, FrameNo), { crate::limits::MAX_REMOTES }>,
    unknown: bool,
    /// Frames of the last boot.
    pace: Pace,
    /// Losses in a crash are counted for ends of the ring before this frame.
    crash_to: FrameNo,
    /// Of DROP records about frames that were in the ring: first frame, end, frames.
    counted: heapless::Deque<(u64, u64, u64), 8>,
}

/// State that a walk through the head segment changes, as it was before.
struct Noted {
    boots: Boots,
    losses: [Loss; Loss::REASONS],
    missing_to: FrameNo,
    sent: heapless::Vec<Option<super::SentUntil>, { crate::limits::MAX_REMOTES }>,
}

/// How fast a boot scraped.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    boot: u32,
    frames: u64,
    samples: u64,
    first_ms: u64,
    last_ms: u64,
}

impl Pace {
    fn note(&mut self, boot: u32, time_ms: u64, samples: u64) {
        if self.boot != boot || self.frames == 0 {
            *self = Self {
                boot,
                first_ms: time_ms,
                last_ms: time_ms,
                ..Self::default()
            };
        }
        self.frames += 1;
        self.samples += samples;
        self.first_ms = self.first_ms.min(time_ms);
        self.last_ms = self.last_ms.max(time_ms);
    }

    /// Scrapes and samples of `ms` milliseconds, rounded up; `None`: it cannot be told.
    fn within(&self, ms: u64) -> Option<(u64, u64)> {
        let gaps = self.frames.checked_sub(1)?;
        let span = u128::from(self.last_ms - self.first_ms);
        let frames = (u128::from(ms) * u128::from(gaps)).checked_div(span)?;
        let frames = u64::try_from(frames).ok()?.saturating_add(u64::from(ms > 0));
        Some((frames, frames.saturating_mul(self.samples) / self.frames))
    }
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
            lap_after: Instant(0),
            written_off: WrittenOff::new(),
            held: heapless::Vec::new(),
            needed: Bits::new(config.max_series),
            needed_bytes: 0,
            dictionary_bytes: (0, 0),
            mounted: boot.now,
            now: boot.now,
            degraded_since: None,
            stopped: false,
            counters: Counters::default(),
            payload_bytes_written: 0,
            samples_written: 0,
            pending_losses: [None; Loss::REASONS],
            staged_losses: None,
            flash_version: 0,
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
        // A headless slot knows half of its sequence number.
        for slot in 0..self.flash.geometry.slots {
            let mut info = self.slots.get(slot);
            if info.state == State::Headless {
                let ahead = (info.seq as u32).wrapping_sub(newest.seq as u32) as i32;
                info.seq = newest.seq.saturating_add_signed(ahead.into());
                if self.slots.slot_of(info.seq) != slot {
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

    /// Reads the head slot: definitions, clocks, acknowledgements, the number of the next frame, where to go on. If the head's
    /// header is gone, the segment before it says the rest.
    fn scan_head(&mut self, newest: Option<&SegmentHeader>, catalogue: &mut Catalogue, report: &mut MountReport) {
        let slot = self.slots.slot_of(self.slots.last_seq);
        let info = self.slots.get(slot);
        let before = self.noted();
        let read = self.read_head(slot, newest.is_some(), catalogue);
        let spare = &mut self.spare;
        let usable = info.state == State::Segment && spare.index.seq == info.seq as u32;
        let last = spare.index.entries.last().copied();
        report.damaged_blocks = spare.index.damaged;
        report.clean = usable && last.is_some_and(|last| last.flags & flag::CLEAN != 0);
        let index = match self.flash.geometry.medium {
            Medium::Rewritable => spare.index.end,
            Medium::WriteOnce => spare.index.touched.max(spare.index.end),
        };
        let index = if seeded::is(Seeded::FirstHole) {
            spare.index.first_hole(&self.flash.geometry)
        } else {
            index
        };
        let (mut epoch, mut ack) = (spare.index.epoch(), spare.index.newest_ack());
        if !usable && let Some(newest) = newest {
            spare.index.scan(&mut self.flash, newest.slot, &mut spare.stream.block);
            epoch = epoch.max(spare.index.epoch());
            // What is left of a head without header may be older than the segment before it.
            ack = match (ack, spare.index.newest_ack()) {
                (Some(one), Some(other)) if other.wrapping_sub(one) as i32 > 0 => Some(other),
                (one, other) => one.or(other),
            };
        }
        spare.stream.rewind();
        self.epoch = epoch.wrapping_add(epoch_step(self.boot_key));
        let scan = match read {
            Some(scan) if usable => scan,
            _ => {
                self.take_back(before, catalogue);
                self.walk_head(catalogue, newest.is_some())
            }
        };
        self.next = self.next.max(scan.next);
        self.first_number = scan.begun;
        self.flash_frames += scan.frames;
        self.flash_samples += scan.samples;
        report.head_frames = scan.frames;
        self.take_acks(&scan, ack);
        self.pass_counted(&scan);
        self.missing_to = self.missing_to.min(self.next);
        if !report.clean {
            self.count_crash(&scan);
        }
        let kept = usable && !scan.dictionary.broken && scan.config_crc == Some(self.config.config_crc);
        if !kept {
            catalogue.clear();
        }
        report.catalogue_kept = kept;
        // At least a block for definitions and one for frames.
        let room = self.flash.geometry.blocks_per_slot.saturating_sub(index) >= 2;
        let same_codec = newest.and_then(|header| CodecId::from_byte(header.codec)) == Some(self.config.codec);
        if usable && room && same_codec && !scan.unknown {
            report.resumed_at = Some((slot, index));
            self.head = Some(Head {
                seq: info.seq,
                slot,
                index,
                offset: 0,
                dictionary: if kept {
                    scan.dictionary.count
                } else {
                    scan.dictionary.later_count(self.epoch)
                },
                opening: Opening::Resume { anew: !kept },
                dictionary_done: true,
                has_frames: true,
            });
        }
    }

    /// The process that wrote last did not close the ring, and left frames that are not acknowledged: what it scraped after its last
    /// commit was in memory, and is gone. How much is not known, but at most what its pace makes of the commit interval, or of the
    /// time since if this is the same boot. While the uplink worked nothing tells: what was lost then was scraped since the last
    /// answer.
    fn count_crash(&mut self, scan: &HeadScan) {
        if self.min_ack() >= self.next || self.next < scan.crash_to {
            return;
        }
        let (pace, boot) = (&scan.pace, self.boot);
        let since = boot.now.0.saturating_sub(pace.last_ms);
        let window = if pace.boot == self.boot_key {
            self.config.commit_interval_ms.min(since)
        } else {
            self.config.commit_interval_ms
        };
        let Some((frames, samples)) = pace.within(window) else {
            return;
        };
        if frames == 0 {
            return;
        }
        let first_ms = self.boots.unix_ms(pace.boot, pace.last_ms).unwrap_or(0);
        let last_ms = match first_ms {
            0 => 0,
            first => first.saturating_add_unsigned(window),
        };
        let loss = Loss {
            frames,
            samples,
            first_ms,
            last_ms,
        };
        self.lose(Reason::Crash, self.next.0, self.next.0, &loss);
    }

    fn take_acks(&mut self, scan: &HeadScan, ack: Option<u32>) {
        // Headers carry the low half; the newest segment header had all of it.
        let base = self.remotes.first().map_or(0, |remote| remote.acknowledged.0);
        let ahead = ack.map_or(0, |ack| ack.wrapping_sub(base as u32) as i32);
        let minimum = base + u64::from(ahead.max(0).unsigned_abs());
        for remote in &mut self.remotes {
            let own = scan.acks.iter().find(|(id, _)| *id == remote.config.id);
            remote.acknowledged = match own {
                Some(&(_, own)) if remote.config.best_effort => own,
                Some(&(_, own)) => own.max(FrameNo(minimum)),
                None => FrameNo(minimum),
            };
        }
    }

    /// What [`Ring::note_record`] changes beside the scan and the catalogue.
    fn noted(&self) -> Noted {
        Noted {
            boots: self.boots.clone(),
            losses: self.counters.losses,
            missing_to: self.missing_to,
            sent: self.remotes.iter().map(|remote| remote.sent).collect(),
        }
    }

    /// As if no record had been noted.
    fn take_back(&mut self, before: Noted, catalogue: &mut Catalogue) {
        catalogue.clear();
        self.boots = before.boots;
        self.counters.losses = before.losses;
        self.missing_to = before.missing_to;
        for (remote, sent) in self.remotes.iter_mut().zip(before.sent) {
            remote.sent = sent;
        }
    }

    /// Indexes the slot, and notes the records of its segment while it is at it. `None`: they were not in order, or not wanted; what
    /// was noted does not hold.
    fn read_head(&mut self, slot: u32, readable: bool, catalogue: &mut Catalogue) -> Option<HeadScan> {
        let geometry = self.flash.geometry;
        let (mut scan, mut tally, mut feed) = (HeadScan::default(), Tally::default(), Feed::new());
        self.spare.index.begin(&geometry, slot);
        for block in geometry.first_block()..geometry.blocks_per_slot {
            let spare = &mut self.spare;
            let Some(header) = spare.index.look(&mut self.flash, block, &mut spare.stream.block) else {
                continue;
            };
            if !readable || scan.unknown || !feed.is_in_order() {
                continue;
            }
            feed.begin(&header, &spare.index.entries);
            while let Some(item) = feed.next(payload(&self.spare.stream.block, &header), &mut self.scratch.record) {
                if !self.note_item(item, &mut scan, &mut tally, catalogue) {
                    break;
                }
            }
        }
        self.spare.index.settle();
        (readable && feed.is_in_order()).then_some(scan)
    }

    /// Frames that DROP records tell of are not to be counted again where they are missing; where they are the oldest there were,
    /// the tail has passed them. A record that is about several ranges does not say which.
    fn pass_counted(&mut self, scan: &HeadScan) {
        for &(first, end, frames) in &scan.counted {
            // What is missing before that was counted as damaged, and is not among them.
            let rest = first.max(self.missing_to.0).min(end);
            let Some(from) = [first, rest]
                .into_iter()
                .find(|from| without_left_out(end - from) == frames)
            else {
                continue;
            };
            if first <= self.lapped_to.max(self.min_ack()).0 {
                self.lapped_to = self.lapped_to.max(FrameNo(end));
            }
            self.write_off(FrameNo(from), FrameNo(end));
        }
    }

    fn walk_head(&mut self, catalogue: &mut Catalogue, readable: bool) -> HeadScan {
        let (mut scan, mut tally) = (HeadScan::default(), Tally::default());
        if !readable {
            return scan;
        }
        loop {
            let item = {
                let spare = &mut self.spare;
                spare
                    .stream
                    .next(&mut self.flash, &spare.index, &mut self.scratch.record)
            };
            if !self.note_item(item, &mut scan, &mut tally, catalogue) {
                return scan;
            }
        }
    }

    /// False: nothing more is to be read.
    fn note_item(&mut self, item: Item, scan: &mut HeadScan, tally: &mut Tally, catalogue: &mut Catalogue) -> bool {
        match item {
            Item::Restart { flags, dictionary } => {
                if scan.dictionary.restart(flags, dictionary) == Dictionary::Anew {
                    catalogue.clear();
                }
                tally.forget();
            }
            Item::Record { kind, len } => scan.unknown |= !self.note_record(kind, len, scan, tally, catalogue),
            Item::TooLarge { kind } => {
                scan.dictionary.broken |= matches!(kind, kind::DICT | kind::TARGET);
                tally.forget();
            }
            Item::End => return false,
        }
        !scan.unknown
    }

    /// False: a record that must be known and is not.
    fn note_record(
        &mut self,
        kind: u8,
        len: usize,
        scan: &mut HeadScan,
        tally: &mut Tally,
        catalogue: &mut Catalogue,
    ) -> bool {
        let bytes = &self.scratch.record[..len];
        match kind {
            kind::START => {
                if let Ok(start) = record::parse::<Start>(bytes) {
                    self.boots
                        .note(boot_key(&start.boot_id), start.mono_ms, start.wall_ms, start.clock);
                    scan.next = scan.next.max(FrameNo(start.prior));
                    scan.begun = scan.begun.max(FrameNo(start.frame_no));
                    scan.config_crc = Some(start.config_crc);
                    tally.start(&start);
                }
            }
            kind::FRAME => {
                if let Ok(frame) = tally.frame(bytes) {
                    scan.pace
                        .note(frame.boot, frame.time_ms, frame.samples.unwrap_or(0).into());
                    if frame.number >= scan.next {
                        scan.frames += 1;
                        scan.samples += u64::from(frame.samples.unwrap_or(0));
                    }
                    scan.next = scan.next.max(FrameNo(frame.number.0 + 1));
                }
            }
            kind::CLOCK => {
                if let Ok(clock) = record::parse::<Clock>(bytes) {
                    self.boots.note(clock.boot, clock.mono_ms, clock.wall_ms, clock.source);
                }
            }
            kind::ACK => {
                if let Ok(ack) = record::parse::<Ack>(bytes) {
                    let frame = FrameNo(ack.frame_no);
                    match scan.acks.iter_mut().find(|(id, _)| *id == ack.remote) {
                        Some((_, known)) => *known = frame.max(*known),
                        None => {
                            let _ = scan.acks.push((ack.remote, frame));
                        }
                    }
                }
            }
            kind::AHEAD => {
                if let Ok(ahead) = record::parse::<record::Ahead>(bytes) {
                    self.note_ahead(&ahead);
                }
            }
            kind::SENT => {
                if let Ok(sent) = record::parse::<record::Sent>(bytes)
                    && let Some(remote) = self.remotes.iter_mut().find(|remote| remote.config.id == sent.remote)
                {
                    remote.sent = Some(super::SentUntil {
                        unix_ms: sent.sent_ms,
                        boot: sent.boot,
                        offset_ms: sent.offset_ms,
                    });
                }
            }
            kind::DROP => {
                if let Ok(drop) = record::parse::<record::Drop>(bytes) {
                    let loss = Loss {
                        frames: drop.frames,
                        samples: drop.samples,
                        first_ms: drop.first_ms,
                        last_ms: drop.last_ms,
                    };
                    if let Some(total) = self.counters.losses.get_mut(usize::from(drop.reason)) {
                        total.add(&loss);
                    }
                    if drop.reason == Reason::Crash as u8 {
                        scan.crash_to = scan.crash_to.max(FrameNo(drop.last_frame.saturating_add(1)));
                    }
                    if [Reason::Lapped as u8, Reason::WriteError as u8].contains(&drop.reason) {
                        let end = drop.last_frame.saturating_add(1);
                        // One that carries a total is about no frame.
                        if drop.last_frame > 0 && drop.first_frame < end {
                            if scan.counted.is_full() {
                                scan.counted.pop_front();
                            }
                            let _ = scan.counted.push_back((drop.first_frame, end, drop.frames));
                        }
                    }
                    if drop.reason == Reason::Damaged as u8 {
                        self.missing_to = self.missing_to.max(FrameNo(drop.last_frame.saturating_add(1)));
                    }
                }
            }
            kind::TARGET | kind::DICT => {
                scan.dictionary.record();
                let scratch = &mut self.scratch;
                let defined = define(kind, len, scratch, catalogue);
                scan.dictionary.broken |= defined.is_err();
            }
            kind::SEGMENT => {}
            other => return other & kind::SKIPPABLE != 0,
        }
        true
    }
}

/// Applies the TARGET or DICT record in the scratch buffer to `catalogue`.
pub(crate) fn define(
    kind: u8,
    len: usize,
    scratch: &mut Scratch,
    catalogue: &mut Catalogue,
) -> Result<(), RecordFault> {
    let (raw, text) = (&mut scratch.raw, &mut scratch.text);
    define_from(
        kind,
        &scratch.record[..len],
        scratch.compress.as_deref_mut(),
        raw,
        text,
        catalogue,
    )
}

/// As [`define`], the record and the buffers apart.
pub(crate) fn define_from(
    kind: u8,
    bytes: &[u8],
    compress: Option<&mut (dyn dictionary::Compress + 'static)>,
    raw: &mut [u8],
    text: &mut [u8],
    catalogue: &mut Catalogue,
) -> Result<(), RecordFault> {
    if kind == kind::TARGET {
        let target: Target<'_> = record::parse(bytes)?;
        let index = crate::sample::TargetRef(target.index);
        catalogue
            .set_target(index, target.body)
            .map_err(|_| RecordFault::TooLarge)?;
        catalogue.mark_target_clean(index);
        return Ok(());
    }
    let head = DictHead::parse(bytes)?;
    let entries = head.entries(compress, raw)?;
    dictionary::verify(&head, entries, text)?;
    dictionary::apply(&head, entries, text, catalogue)
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
