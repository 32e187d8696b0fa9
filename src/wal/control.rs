//! Control blocks: what stands in front of the frames of a round.
//!
//! Segment header, START, acknowledgements, and the definitions of series and targets that the staged frames need. Definitions
//! that do not fit the control blocks at once take several rounds; the frames wait for the last of them.
//!
//! The blocks are a small [`Staging`](super::staging::Staging) of their own, sized by mount so that the longest text fits.

use super::commit::{Head, Opening, put};
use super::counters::{Loss, Reason};
use super::dictionary::{self, DictHead, put_entry};
use super::format::{MAJOR, MINOR};
use super::holes::control_room;
use super::record::{Ack, Ahead, Delivered, Drop, MAX_CONTROL_BYTES, SegmentHeader, Sent, SliceSink, Target, kind};
use super::slots::{Slot, State};
use super::storage::Storage;
use super::writer::HEAD_BYTES;
use super::{Remote, Ring};
use crate::catalogue::Catalogue;
use crate::frame::FrameNo;
use crate::sample::{SeriesRef, TargetRef};
use serde::Serialize;

impl<S: Storage> Ring<S> {
    /// Control records of the round: segment header, START, acknowledgements, definitions.
    /// Whether every definition that the staged blocks need is written or among them.
    pub(crate) fn build_control(&mut self, catalogue: &mut Catalogue, staged_left: bool) -> bool {
        self.control.drop_front(usize::MAX);
        let Some(head) = self.head else { return false };
        self.round.dictionary = head.dictionary;
        let defines = staged_left && self.undefined(catalogue, 0).is_some();
        let first = self.staging.first_frame().unwrap_or(self.next);
        let time = self.staging.time_of(first).unwrap_or(self.now.0);
        let told = (head.opening == Opening::First).then(|| self.put_segment_header(&head, first));
        let alone = defines || !staged_left || self.round.control_due;
        if head.opening == Opening::First || (head.opening != Opening::No && alone) {
            let start = self.start(first, time);
            self.put_control(kind::START, &start);
        }
        if let Some(told) = told {
            self.put_carried(&told);
            self.forget_delivered();
        }
        if head.opening == Opening::First || self.round.control_due {
            if self.round.control_due {
                self.put_notes();
            }
            let limit = self.staged_loss();
            for place in 0..self.remotes.len() {
                let remote = &mut self.remotes[place];
                remote.persisted = remote.acknowledged.min(limit);
                let ack = Ack {
                    remote: remote.config.id,
                    frame_no: remote.persisted.0,
                };
                self.put_control(kind::ACK, &ack);
                self.put_sent(place);
                self.put_ahead(place);
            }
            self.keep_sent = false;
        }
        if head.opening == Opening::First {
            self.put_holes();
        }
        self.round.control_due = false;
        // A medium that failed is tried with one block.
        staged_left && self.degraded_since.is_none() && self.put_definitions(catalogue)
    }

    fn put_sent(&mut self, place: usize) {
        let wall_ms = self.unix_ms(self.now.0);
        let Some(remote) = self.remotes.get_mut(place) else {
            return;
        };
        if let Some(sent) = remote.sent_record(wall_ms) {
            remote.sent_persisted = remote.sent;
            self.put_control(kind::SENT, &sent);
        }
    }

    fn put_ahead(&mut self, place: usize) {
        let Some(remote) = self.remotes.get_mut(place) else {
            return;
        };
        remote.ahead_persisted.clone_from(&remote.ahead);
        for at in 0..self.remotes[place].ahead.len() {
            let record = self.remotes[place].ahead_record(at);
            self.put_control(kind::AHEAD, &record);
        }
    }

    /// Holes that losses told before this block are about, as far as there is room that nobody else counts on: one that is not told may
    /// be counted once more after a loss of power.
    fn put_holes(&mut self) {
        let limit = self.staged_from(Reason::Damaged).min(self.staged_from(Reason::TooBig));
        let blocks = control_room(HEAD_BYTES, &self.flash.geometry);
        let mut all = true;
        for at in 0..self.holes.len() {
            let Some(hole) = self.hole_record(at, limit) else {
                continue;
            };
            if self.control.len() >= blocks && self.control.room() < MAX_HOLE_BYTES {
                all = false;
                break;
            }
            self.put_control(kind::DROP, &hole);
        }
        self.holes_news &= !all || limit < u64::MAX;
    }

    /// CLOCK and DROP when no frames are written; and DELIVERED.
    fn put_notes(&mut self) {
        if self.clock_pending {
            let clock = self.clock_record();
            self.put_control(kind::CLOCK, &clock);
            self.clock_pending = false;
            self.clock_in_control = true;
        }
        for place in 0..self.pending_losses.len() {
            if let Some(loss) = self.pending_losses[place].take() {
                if IN_RING.iter().any(|&reason| reason as usize == place) {
                    let before = self.round.tells_from.unwrap_or(FrameNo(u64::MAX));
                    self.round.tells_from = Some(before.min(FrameNo(loss.first_frame)));
                }
                self.put_control(kind::DROP, &loss);
            }
        }
        if self.holes_news {
            self.put_holes();
        }
        // Behind what they take from.
        if self.staged_losses.is_none() {
            for place in 0..self.delivered_losses.len() {
                let Loss { frames, samples, .. } = core::mem::take(&mut self.delivered_losses[place]);
                if frames + samples > 0 {
                    let reason = place as u8;
                    self.put_control(
                        kind::DELIVERED,
                        &Delivered {
                            reason,
                            frames,
                            samples,
                        },
                    );
                }
            }
        }
    }

    /// Gives the losses that the header tells.
    fn put_segment_header(&mut self, head: &Head, first: FrameNo) -> [Loss; Loss::IN_HEADER] {
        let geometry = self.flash.geometry;
        let prior = self.prior(first);
        let wall_ms = self.unix_ms(self.now.0).unwrap_or(0);
        let info = Slot {
            state: State::Segment,
            seq: head.seq,
            first_frame: first,
            prior,
            frames: self.flash_frames,
            samples: self.flash_samples,
            wall_ms,
        };
        self.slots.set(head.slot, info);
        let (tail_seq, _) = self.slots.in_use(self.min_ack(), self.flash_next);
        let ledger = self.ledger();
        let mut header = SegmentHeader {
            major: MAJOR,
            minor: MINOR,
            uuid: self.flash.uuid,
            seq: head.seq,
            slots: geometry.slots,
            log2_block: geometry.block_bytes.trailing_zeros() as u8,
            log2_segment: geometry.segment_bytes().trailing_zeros() as u8,
            slot: head.slot,
            tail_seq,
            frame_no: first.0,
            dropped_samples: ledger.iter().fold(0, |sum, loss| sum.saturating_add(loss.samples)),
            dropped_segments: self.counters.dropped_segments,
            config_crc: self.config.config_crc,
            codec: self.config.codec as u8,
            ack: self.min_ack().min(self.staged_loss()).0,
            prior: prior.0,
            tail_frame: self
                .lapped_to
                .0
                .min(self.staged_from(Reason::Lapped))
                .max(self.min_ack().min(self.staged_loss()).0),
            counted_frame: self.missing_to.0.min(self.staged_from(Reason::Damaged)),
            frames: self.flash_frames,
            samples: self.flash_samples,
            wall_ms,
            max_series: self.config.max_series as u32,
            losses: [Loss::default(); Loss::IN_HEADER],
        };
        header.losses.copy_from_slice(&ledger[..Loss::IN_HEADER]);
        // The header must end within its block: what has no room goes behind it.
        let mut bytes = [0; MAX_CONTROL_BYTES];
        let room = geometry.payload_bytes().saturating_sub(4);
        for place in (0..Loss::IN_HEADER).rev() {
            if postcard::to_slice(&header, &mut bytes).is_ok_and(|bytes| bytes.len() <= room) {
                break;
            }
            header.losses[place] = Loss::default();
        }
        // Header and these records have all of the ledger.
        self.pending_losses = [None; Loss::REASONS];
        self.put_control(kind::SEGMENT, &header);
        header.losses
    }

    /// First frame of losses of frames in the ring that are told by DROP records which are not synced.
    pub(crate) fn told_later(&self) -> FrameNo {
        let control = self.round.tells_from.unwrap_or(FrameNo(u64::MAX));
        let pending = IN_RING
            .iter()
            .filter_map(|&reason| self.pending_losses[reason as usize]);
        let pending = pending.map(|loss| FrameNo(loss.first_frame)).min();
        self.staged_loss()
            .min(control)
            .min(pending.unwrap_or(FrameNo(u64::MAX)))
    }

    fn staged_loss(&self) -> FrameNo {
        let staged = IN_RING.iter().map(|&reason| self.staged_from(reason)).min();
        FrameNo(staged.unwrap_or(u64::MAX))
    }

    /// First frame of losses that the header leaves out: should their DROP record not reach the medium, they are to be found
    /// missing.
    fn staged_from(&self, reason: Reason) -> u64 {
        let staged = self.staged_losses.as_ref();
        let drop = staged.and_then(|(_, losses)| losses[reason as usize]);
        drop.map_or(u64::MAX, |drop| drop.first_frame)
    }

    /// DROP records for the totals that are not `told` by the segment header.
    fn put_carried(&mut self, told: &[Loss; Loss::IN_HEADER]) {
        for (place, loss) in self.ledger().iter().enumerate() {
            if told.get(place) != Some(loss) && *loss != Loss::default() {
                let drop = Drop {
                    first_frame: 0,
                    last_frame: 0,
                    samples: loss.samples,
                    reason: place as u8,
                    frames: loss.frames,
                    first_ms: loss.first_ms,
                    last_ms: loss.last_ms,
                };
                self.put_control(kind::DROP, &drop);
            }
        }
    }

    /// The ledger is told, by header and what stands behind it.
    fn forget_delivered(&mut self) {
        if self.staged_losses.is_none() {
            self.delivered_losses = [Loss::default(); Loss::REASONS];
        }
    }

    /// The losses, with those in hand, and without those in DROP records that will stand behind the header.
    fn ledger(&self) -> [Loss; Loss::REASONS] {
        let mut losses = self.counters.losses;
        for (place, loss) in losses.iter_mut().enumerate() {
            let told = self.told_beside(place);
            loss.add(&told);
            match &self.staged_losses {
                Some((_, staged)) => {
                    if let Some(staged) = staged[place] {
                        loss.take(staged.frames, staged.samples);
                    }
                }
                // A DELIVERED record is not needed: nothing was told but by the header itself.
                None => {
                    let delivered = self.delivered_losses[place];
                    loss.take(delivered.frames, delivered.samples);
                }
            }
        }
        losses
    }

    /// Control records other than definitions are few and small: the pool, sized by mount, always takes them.
    fn put_control<T: Serialize>(&mut self, kind: u8, value: &T) {
        let control = &mut self.control;
        let _ = put(value, |bytes| control.put(kind, bytes, None, FrameNo(0), FrameNo(0)));
    }

    /// The first series from `from` on whose definition this segment needs and has not; or, from 0 on, a target.
    fn undefined(&self, catalogue: &Catalogue, from: usize) -> Option<Undefined> {
        let whole = self.head.is_some_and(|head| !head.dictionary_done);
        let mut at = 0;
        while from == 0
            && let Some(target) = catalogue.next_dirty_target(at)
        {
            at = usize::from(target.0);
            if whole || self.needed_targets.has(at) {
                return Some(Undefined::Target(target));
            }
            at += 1;
        }
        let mut at = from;
        while let Some(series) = catalogue.next_dirty(at) {
            if whole || self.needed.has(usize::from(series.0)) {
                // Its target's definition comes first.
                let target = catalogue.target_of(series).filter(|&t| catalogue.is_target_dirty(t));
                return Some(target.map_or(Undefined::Series(series), Undefined::Target));
            }
            at = usize::from(series.0) + 1;
        }
        None
    }

    /// As many definitions as the control blocks take. They count as written: if the round fails for good, the next segment
    /// begins with all of them.
    fn put_definitions(&mut self, catalogue: &mut Catalogue) -> bool {
        let mut from = 0;
        while let Some(undefined) = self.undefined(catalogue, from) {
            let written = match undefined {
                Undefined::Target(target) => {
                    let body = catalogue.target_body(target);
                    let index = target.0;
                    let (control, raw) = (&mut self.control, &mut self.scratch.raw);
                    let record = postcard::to_slice(&Target { index, body }, raw);
                    let put = record.map(|bytes| control.put(kind::TARGET, bytes, None, FrameNo(0), FrameNo(0)));
                    if matches!(put, Ok(Err(_))) && !self.control.is_empty() {
                        false
                    } else {
                        catalogue.mark_target_clean(target);
                        self.needed_targets.put(usize::from(index), false);
                        self.note_definition();
                        true
                    }
                }
                Undefined::Series(series) => {
                    from = usize::from(series.0);
                    self.put_dict(series, catalogue)
                }
            };
            if !written {
                return false;
            }
        }
        if let Some(head) = &mut self.head {
            head.dictionary_done = true;
        }
        true
    }

    /// A dictionary record was put.
    fn note_definition(&mut self) {
        let Some(head) = &mut self.head else { return };
        head.dictionary = head.dictionary.wrapping_add(1);
    }

    /// One DICT record from `first` on; false when the control blocks are full.
    fn put_dict(&mut self, first: SeriesRef, catalogue: &mut Catalogue) -> bool {
        let Some(target) = catalogue.target_of(first) else {
            // No longer a series: nothing refers to it.
            catalogue.mark_clean(first);
            self.unneed(first, catalogue);
            return true;
        };
        let space = self.control.space().saturating_sub(DICT_OVERHEAD);
        let limit = space.min(self.scratch.raw.len());
        let (count, raw_len) = self.gather(first, target, limit, catalogue);
        if count == 0 {
            if self.control.is_empty() {
                // Cannot be: the pool takes the longest text. Were it otherwise, one series would hold up the ring.
                catalogue.mark_clean(first);
                self.unneed(first, catalogue);
                return true;
            }
            return false;
        }
        let scratch = &mut self.scratch;
        let raw = &scratch.raw[..raw_len];
        let packed = scratch.compress.as_mut().and_then(|codec| {
            let len = codec.compress(raw, &mut scratch.packed)?;
            (len < raw_len).then_some((codec.method(), len))
        });
        let head = DictHead {
            target,
            first: first.0,
            count,
            method: packed.map_or(0, |(method, _)| method),
            raw_len,
            packed: packed.map_or(raw, |(_, len)| &scratch.packed[..len]),
        };
        let mut sink = SliceSink::new(&mut scratch.record);
        if head.emit(&mut sink).is_err() {
            return false;
        }
        let control = &mut self.control;
        if control
            .put(kind::DICT, sink.written(), None, FrameNo(0), FrameNo(0))
            .is_err()
        {
            return false;
        }
        for index in first.0..first.0 + count {
            catalogue.mark_clean(SeriesRef(index));
            self.unneed(SeriesRef(index), catalogue);
        }
        self.note_definition();
        true
    }

    /// Codes consecutive undefined series of `target` from `first` on into the raw buffer, up to `limit` bytes.
    fn gather(&mut self, first: SeriesRef, target: TargetRef, limit: usize, catalogue: &mut Catalogue) -> (u16, usize) {
        let whole = self.head.is_some_and(|head| !head.dictionary_done);
        let mut sink = SliceSink::new(&mut self.scratch.raw[..limit]);
        let (mut before, mut count, mut len) = (None, 0u16, 0);
        // The one before is a copy: the catalogue has one text at a time.
        let copy = &mut self.scratch.text;
        for index in first.0..crate::limits::MAX_SERIES as u16 {
            let series = SeriesRef(index);
            let wanted = catalogue.is_dirty(series) && (whole || self.needed.has(usize::from(index)));
            if !wanted || catalogue.target_of(series) != Some(target) {
                break;
            }
            let kind = catalogue.kind(series);
            let Some(text) = catalogue.text(series) else { break };
            let last = before.and_then(|len: usize| dictionary::split(copy.get(..len)?).ok());
            if put_entry(&mut sink, last, text, kind).is_err() {
                break;
            }
            before = dictionary::join(text, copy);
            (count, len) = (count + 1, sink.len());
        }
        (count, len)
    }
}

impl Remote {
    /// What the next SENT record says.
    /// `wall_ms`: the time now. While what was sent lies ahead of it, frames are sent with times held back, 1 ms apart: room for these
    /// is left, as they come without being told.
    pub(crate) fn sent_record(&self, wall_ms: Option<i64>) -> Option<Sent> {
        let sent = self.sent?;
        let ahead = wall_ms.map_or(0, |wall_ms| sent.unix_ms.saturating_sub(wall_ms)).max(0);
        Some(Sent {
            remote: self.config.id,
            sent_ms: sent
                .unix_ms
                .saturating_add(ahead / HELD_BACK_STEP_MS + i64::from(ahead > 0)),
            boot: sent.boot,
            offset_ms: sent.offset_ms,
        })
    }
}

impl Remote {
    /// The AHEAD record of its span `at`, which it has.
    pub(crate) fn ahead_record(&self, at: usize) -> Ahead {
        let (first, end) = self.ahead[at];
        Ahead {
            remote: self.config.id,
            first_frame: first.0,
            end_frame: end.0,
        }
    }
}

/// Milliseconds between two scrapes of a target, at least, for the room left to held back times.
const HELD_BACK_STEP_MS: i64 = 64;

/// Reasons of losses of frames that were in the ring.
const IN_RING: [Reason; 4] = [Reason::Lapped, Reason::Damaged, Reason::WriteError, Reason::TooBig];

/// Bytes of the DROP record of a hole, at most.
pub(crate) const MAX_HOLE_BYTES: usize = 2 + 9 + 9 + 5;

/// Bytes of a DICT record around its entries, at most.
const DICT_OVERHEAD: usize = 1 + 5 + 1 + 3 + 3 + 1 + 5;

enum Undefined {
    Target(TargetRef),
    Series(SeriesRef),
}
