//! What is known of each slot: 48 bytes apiece, filled by mount, kept by the writer.

use super::format::Geometry;
use crate::frame::FrameNo;
use alloc::boxed::Box;
use alloc::vec;

/// What a slot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// No segment.
    #[default]
    Empty,
    /// Not to be used.
    Bad,
    /// Blocks of a segment whose header is gone.
    Headless,
    /// A segment of a later major version.
    Foreign,
    /// A segment.
    Segment,
}

/// One slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) state: State,
    pub(crate) seq: u64,
    /// First frame that may be in it.
    pub(crate) first_frame: FrameNo,
    /// Number after the last frame before it; differs from `first_frame` where a mount left numbers out.
    pub(crate) prior: FrameNo,
    /// Frames and samples written to flash before it.
    pub(crate) frames: u64,
    pub(crate) samples: u64,
    /// Wall time when it was opened, 0 unknown.
    pub(crate) wall_ms: i64,
}

/// All slots.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Box<[Slot]>,
    /// Highest sequence number used or passed over.
    pub(crate) last_seq: u64,
}

impl Slots {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        Self {
            slots: vec![Slot::default(); geometry.slots as usize].into_boxed_slice(),
            last_seq: 0,
        }
    }

    pub(crate) fn slot_of(&self, seq: u64) -> u32 {
        // At most 4,096 slots.
        (seq % self.slots.len() as u64) as u32
    }

    pub(crate) fn get(&self, slot: u32) -> Slot {
        self.slots.get(slot as usize).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, slot: u32, to: Slot) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = to;
        }
    }

    /// The slot of segment `seq`, if it is there.
    pub(crate) fn of_seq(&self, seq: u64) -> Option<(u32, Slot)> {
        let slot = self.slot_of(seq);
        let info = self.get(slot);
        (info.seq == seq && matches!(info.state, State::Segment | State::Headless | State::Foreign))
            .then_some((slot, info))
    }

    /// Segments with a header from `seq` on, in order.
    pub(crate) fn segments_from(&self, seq: u64) -> impl Iterator<Item = (u32, Slot)> + '_ {
        let oldest = (self.last_seq + 1).saturating_sub(self.slots.len() as u64);
        (seq.max(oldest)..=self.last_seq)
            .filter_map(|seq| self.of_seq(seq))
            .filter(|(_, slot)| slot.state == State::Segment)
    }

    /// Oldest sequence number that may be in the ring.
    pub(crate) fn oldest(&self) -> u64 {
        (self.last_seq + 1).saturating_sub(self.slots.len() as u64)
    }

    /// First frame of the segment after `seq`; `end` if there is none.
    pub(crate) fn end_of(&self, seq: u64, end: FrameNo) -> FrameNo {
        self.segments_from(seq + 1)
            .next()
            .map_or(end, |(_, slot)| slot.first_frame)
    }

    /// The segment to begin reading at for frame `at`: the last that begins at or before it, else the first after it.
    pub(crate) fn locate(&self, at: FrameNo) -> Option<(u32, Slot)> {
        let mut found = None;
        for (slot, info) in self.segments_from(0) {
            if info.first_frame > at && found.is_some() {
                break;
            }
            found = Some((slot, info));
            if info.first_frame > at {
                break;
            }
        }
        found
    }

    /// Sequence number of the oldest segment with frames from `ack` on, and how many there are from it on.
    pub(crate) fn in_use(&self, ack: FrameNo, end: FrameNo) -> (u64, u32) {
        if ack >= end {
            return (self.last_seq, 0);
        }
        let (mut tail, mut count) = (self.last_seq, 0);
        for seq in (self.oldest()..=self.last_seq).rev() {
            if self.of_seq(seq).is_none() {
                continue;
            }
            if self.end_of(seq, end) <= ack {
                break;
            }
            tail = seq;
            count += 1;
        }
        (tail, count)
    }

    /// Slots that are not bad.
    pub(crate) fn usable(&self) -> u32 {
        self.slots.iter().filter(|slot| slot.state != State::Bad).count() as u32
    }

    /// Wall time of the segment that holds `ack`.
    pub(crate) fn wall_of(&self, ack: FrameNo) -> Option<i64> {
        let (_, slot) = self.locate(ack)?;
        (slot.wall_ms != 0).then_some(slot.wall_ms)
    }

    /// Frames and samples written before frame `at`, interpolated within its segment; `end`, `frames` and `samples` are those
    /// of the whole flash.
    pub(crate) fn before(&self, at: FrameNo, end: FrameNo, frames: u64, samples: u64) -> (u64, u64) {
        let Some((_, slot)) = self.locate(at) else {
            return (0, 0);
        };
        let next = self.segments_from(slot.seq + 1).next().map(|(_, next)| next);
        let (end, frames, samples) = next.map_or((end, frames, samples), |next| {
            (next.first_frame, next.frames, next.samples)
        });
        let (all, all_samples) = (frames.saturating_sub(slot.frames), samples.saturating_sub(slot.samples));
        // Without gaps in the numbers, position and count agree; with gaps the rest of the segment counts.
        let done = if at <= slot.first_frame {
            0
        } else {
            all.saturating_sub(end.0.saturating_sub(at.0)).min(all)
        };
        let part = if all == 0 {
            0
        } else {
            (u128::from(all_samples) * u128::from(done) / u128::from(all)) as u64
        };
        (slot.frames + done, slot.samples + part)
    }
}
