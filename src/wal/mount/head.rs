//! The head segment: what it says is read once, and the ring goes on from it.
//!
//! Every record is noted: definitions into the catalogue, clocks, acknowledgements, losses, the number of the next frame. What was
//! noted is taken back where the blocks turn out not to lie in the order of the stream, and is read again block by block.

use super::epoch_step;
use crate::catalogue::Catalogue;
use crate::frame::FrameNo;
use crate::value::codec::CodecId;
use crate::wal::boots::Boots;
use crate::wal::commit::{Head, Opening};
use crate::wal::config::MountReport;
use crate::wal::counters::{Loss, Reason};
use crate::wal::dictionary::{self, DictHead};
use crate::wal::feed::Feed;
use crate::wal::format::{Medium, flag, payload};
use crate::wal::frame_coding::Tally;
use crate::wal::holes::uncounted;
use crate::wal::record::{self, Ack, Clock, RecordFault, SegmentHeader, Start, Target, kind};
use crate::wal::seeded::{self, Fault as Seeded};
use crate::wal::segment::{Dictionary, DictionaryCheck, Item};
use crate::wal::slots::State;
use crate::wal::storage::Storage;
use crate::wal::{Ring, Scratch, boot_key, without_left_out};

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
    /// Nothing was read of the segment but what it begins with: header, START, totals. A DROP record of frames 0 to 0 is a total there,
    /// behind it frame 0.
    totals: bool,
}

/// State that a walk through the head segment changes, as it was before.
struct Noted {
    boots: Boots,
    losses: [Loss; Loss::REASONS],
    missing_to: FrameNo,
    holes: crate::wal::holes::Holes,
    sent: heapless::Vec<Option<crate::wal::SentUntil>, { crate::limits::MAX_REMOTES }>,
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
    /// Reads the head slot: definitions, clocks, acknowledgements, the number of the next frame, where to go on. If the head's
    /// header is gone, the segment before it says the rest.
    pub(super) fn scan_head(
        &mut self,
        newest: Option<&SegmentHeader>,
        catalogue: &mut Catalogue,
        report: &mut MountReport,
    ) {
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
        self.settle_holes();
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
            holes: self.holes.clone(),
            sent: self.remotes.iter().map(|remote| remote.sent).collect(),
        }
    }

    /// As if no record had been noted.
    fn take_back(&mut self, before: Noted, catalogue: &mut Catalogue) {
        catalogue.clear();
        self.boots = before.boots;
        self.counters.losses = before.losses;
        self.missing_to = before.missing_to;
        self.holes = before.holes;
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
            // What is missing of them and was counted as damaged is not among them.
            let others = uncounted(&Default::default(), &self.holes, self.missing_to, first, end);
            if ![others, without_left_out(end - first)].contains(&frames) {
                continue;
            }
            if first <= self.lapped_to.max(self.min_ack()).0 {
                self.lapped_to = self.lapped_to.max(FrameNo(end));
            }
            self.write_off(FrameNo(first), FrameNo(end));
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
                scan.totals = flags & flag::FIRST != 0;
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
        scan.totals &= matches!(kind, kind::SEGMENT | kind::START | kind::DROP);
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
                // Those of remotes that are configured no longer would take the room of those that are.
                if let Ok(ack) = record::parse::<Ack>(bytes)
                    && self.remotes.iter().any(|remote| remote.config.id == ack.remote)
                {
                    let frame = FrameNo(ack.frame_no);
                    match scan.acks.iter_mut().find(|(id, _)| *id == ack.remote) {
                        Some((_, known)) => *known = frame.max(*known),
                        None => {
                            // There is room for as many as are configured.
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
                    remote.sent = Some(crate::wal::SentUntil {
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
                    let (first, end) = (drop.first_frame, drop.last_frame.saturating_add(1));
                    // One that carries a total is about no frame.
                    let of_frames = first < end && !(scan.totals && end == 1);
                    if of_frames && [Reason::Lapped as u8, Reason::WriteError as u8].contains(&drop.reason) {
                        if scan.counted.is_full() {
                            scan.counted.pop_front();
                        }
                        let _ = scan.counted.push_back((first, end, drop.frames));
                    }
                    if of_frames && drop.reason == Reason::Damaged as u8 {
                        // One of several holes does not say which: they stand behind it.
                        if drop.frames == 0 || end - first == drop.frames {
                            self.note_hole(first, end);
                        }
                    }
                }
            }
            kind::DELIVERED => {
                if let Ok(back) = record::parse::<record::Delivered>(bytes)
                    && let Some(total) = self.counters.losses.get_mut(usize::from(back.reason))
                {
                    total.take(back.frames, back.samples);
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
