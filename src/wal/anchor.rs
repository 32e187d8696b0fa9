//! The wall time of a frame as it is handed to a sender.
//!
//! Known is the time of a boot with a START or CLOCK record, also of one that comes later on flash. For a boot without, the
//! segments from the frame's on are searched, [`SEGMENTS_PER_CALL`] a call, for the next boot that knows; until that is done the
//! frame has no time and the sender asks again. What then becomes of it is decided by [`UnknownBoot`].
//!
//! # Invariants
//!
//! - Frames of one boot keep their distances; frames of boots in a row never change places.
//! - What a boot is anchored to is on flash before its first frame is handed out, so that a restart gives it the same place.
//! - A frame says which times it must not repeat: those sent before a restart, unless it is of the same boot and its clock
//!   was not set back since.

use super::boots::UnknownBoot;
use super::frame_coding::{Tally, boot_key};
use super::record::{self, Clock, Start, kind};
use super::segment::Item;
use super::storage::Storage;
use super::{Ring, SentUntil};
use crate::frame::Frame;

/// Segments searched before a call returns: 1 MiB of reading with the usual sizes.
const SEGMENTS_PER_CALL: u32 = 4;

impl<S: Storage> Ring<S> {
    /// What becomes of the samples of boots that do not know the time. To be said before the first frame is read.
    pub fn set_unknown_boot(&mut self, policy: UnknownBoot) {
        self.unknown_boot = policy;
    }

    /// Fills in what `frame`, of `boot` and read from segment `segment` for `remote`, has to do with wall time.
    pub(crate) fn stamp(&mut self, frame: &mut Frame, boot: u32, segment: Option<u64>, remote: usize) {
        frame.boot = boot;
        frame.rebased = false;
        frame.timeless = false;
        frame.unix_ms = self.boots.unix_ms(boot, frame.time_ms);
        if frame.unix_ms.is_none() {
            self.stamp_unknown(frame, segment);
        }
        let floor = self.remotes.get(remote).and_then(|remote| remote.floor);
        frame.floor_ms = floor
            .filter(|floor| !floor.is_kept_by(frame))
            .map(|floor| floor.unix_ms);
    }

    fn stamp_unknown(&mut self, frame: &mut Frame, segment: Option<u64>) {
        let guess = self.unknown_boot == UnknownBoot::Anchor;
        if frame.boot == self.boot_key {
            if guess {
                frame.unix_ms = self.boots.guessed_ms(frame.time_ms);
                frame.rebased = frame.unix_ms.is_some();
            }
            return;
        }
        let Some(segment) = segment else { return };
        if !self.boots.chain.is_for(frame.boot) {
            self.boots.chain.begin(frame.boot, segment);
        }
        for _ in 0..SEGMENTS_PER_CALL {
            if self.boots.chain.is_complete() {
                break;
            }
            self.search_chain();
        }
        frame.unix_ms = self.boots.unix_ms(frame.boot, frame.time_ms);
        if frame.unix_ms.is_some() || !self.boots.chain.is_complete() {
            return;
        }
        if self.unknown_boot == UnknownBoot::Drop {
            frame.timeless = true;
            return;
        }
        let placed = self.boots.anchored_ms(frame.boot, frame.time_ms, guess);
        // On a medium that takes no writes, or a full ring that was told to stop, it cannot be told: no room comes free before these
        // are sent.
        let writable = self.degraded_since.is_none() && !self.stopped;
        if placed.is_some() && self.boots.needs_telling() && !self.told_clock && writable {
            self.tell_clock = true;
            self.clock_pending = true;
            return;
        }
        frame.unix_ms = placed;
        frame.rebased = frame.unix_ms.is_some();
        self.counters.frames_anchored += u64::from(frame.rebased);
    }

    /// Searches the next segment for the boots that follow.
    fn search_chain(&mut self) {
        let from = self.boots.chain.next_seq;
        let Some((slot, info)) = self.slots.segments_from(from).next() else {
            self.boots.chain.end();
            return;
        };
        self.boots.chain.next_seq = info.seq + 1;
        let spare = &mut self.spare;
        spare.index.scan(&mut self.flash, slot, &mut spare.stream.block);
        spare.stream.rewind();
        if spare.index.seq != info.seq as u32 {
            return;
        }
        let mut tally = Tally::default();
        loop {
            let spare = &mut self.spare;
            let item = spare
                .stream
                .next(&mut self.flash, &spare.index, &mut self.scratch.record);
            let (kind, len) = match item {
                Item::Record { kind, len } => (kind, len),
                Item::End => return,
                Item::TooLarge { .. } | Item::Restart { .. } => {
                    tally.forget();
                    continue;
                }
            };
            let bytes = &self.scratch.record[..len];
            match kind {
                kind::START => {
                    if let Ok(start) = record::parse::<Start>(bytes) {
                        let boot = boot_key(&start.boot_id);
                        self.boots.note(boot, start.mono_ms, start.wall_ms, start.clock);
                        let began = self.boots.unix_ms(boot, 0);
                        self.boots.chain.meet(boot, began, self.boot_key);
                        self.boots.chain.frame(boot, start.mono_ms);
                        tally.start(&start);
                    }
                }
                kind::CLOCK => {
                    if let Ok(clock) = record::parse::<Clock>(bytes) {
                        self.boots.note(clock.boot, clock.mono_ms, clock.wall_ms, clock.source);
                        let began = self.boots.unix_ms(clock.boot, 0);
                        self.boots.chain.knows(clock.boot, began);
                    }
                }
                kind::FRAME => {
                    if let Ok(frame) = tally.frame(bytes) {
                        self.boots.chain.frame(frame.boot, frame.time_ms);
                    }
                }
                _ => {}
            }
            if self.boots.chain.is_complete() {
                return;
            }
        }
    }
}

impl SentUntil {
    /// Whether the frame comes after what was sent without being told: it is of the same boot, whose clock was not set back since.
    fn is_kept_by(&self, frame: &Frame) -> bool {
        let offset = frame
            .unix_ms
            .map(|unix_ms| unix_ms.saturating_sub_unsigned(frame.time_ms));
        frame.boot == self.boot && offset.is_some_and(|offset| offset >= self.offset_ms)
    }
}
