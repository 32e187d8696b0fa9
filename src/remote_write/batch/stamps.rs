//! When boots are taken to have begun, while what is sent may be stored already.
//!
//! The clock may be set between two attempts with the same frames. A batch that is sealed keeps its times; one that is gathered
//! again, because it goes in another shape, would not: its samples would be stored once more with other times, and those that
//! follow could end up behind what is stored. So what may be stored is sent again with the times it was sent with.
//!
//! Frames that may be stored can be gone when they are to be sent again: the ring has given them up. What follows is later than they
//! were all the same.
//!
//! # Limits
//!
//! [`MAX_BOOTS`] boots per batch, 32 bytes each, and 8 bytes per target. The batch ends before a frame of another boot, or of one whose
//! clock was set since the batch began.

use super::{Place, SentFrame};
use crate::frame::Frame;
use crate::sample::TargetRef;
use alloc::boxed::Box;
use alloc::vec;

/// Boots of one batch.
const MAX_BOOTS: usize = 4;

/// What gives the frames of a boot their times.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    boot: u32,
    /// When it began.
    offset_ms: i64,
    /// What its frames must not repeat.
    floor_ms: Option<i64>,
}

/// When a frame was scraped, and the time that it must not repeat, as far as known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamped {
    pub unix_ms: Option<i64>,
    pub floor_ms: Option<i64>,
}

/// The clock has changed since the batch began, or the batch has frames of too many boots.
#[derive(Debug)]
pub(super) struct Moved;

/// The stamps of a batch, and how far they are to be kept.
#[derive(Debug)]
pub(super) struct Stamps {
    boots: heapless::Vec<Stamp, MAX_BOOTS>,
    /// Nothing is kept from here on.
    kept_until: Place,
    /// The last time of each target before that, and the newest frame, as they were sent.
    times: Box<[i64]>,
    newest: Option<SentFrame>,
    /// Not all of it is there any more.
    gone: bool,
}

impl Stamps {
    /// For up to so many targets. The only call that allocates.
    pub fn new(max_targets: usize) -> Self {
        Self {
            boots: heapless::Vec::new(),
            kept_until: Place::default(),
            times: vec![i64::MIN; max_targets].into(),
            newest: None,
            gone: false,
        }
    }

    /// Heap bytes for so many targets.
    pub const fn ram_bytes(max_targets: usize) -> usize {
        max_targets * size_of::<i64>()
    }

    /// A batch begins at `start`, perhaps once more. Behind what was kept its times become those that were `sent`.
    pub fn begin(&mut self, start: Place, sent_times: &mut [i64], sent: &mut Option<SentFrame>) {
        if start >= self.kept_until {
            self.boots.clear();
            self.settle(sent_times, sent);
        }
    }

    fn settle(&mut self, sent_times: &mut [i64], sent: &mut Option<SentFrame>) {
        if self.kept_until > Place::default() {
            for (sent, &kept) in sent_times.iter_mut().zip(&self.times) {
                *sent = (*sent).max(kept);
            }
            *sent = SentFrame::later(*sent, self.newest);
            self.forget();
        }
    }

    /// What lies before `end` may be stored, with times up to these: it keeps them until it is settled.
    pub fn keep(&mut self, end: Place, times: &[i64], newest: Option<SentFrame>) {
        self.kept_until = self.kept_until.max(end);
        for (kept, &sent) in self.times.iter_mut().zip(times) {
            *kept = (*kept).max(sent);
        }
        self.newest = SentFrame::later(self.newest, newest);
    }

    /// What may be stored is sent with the times that it would get now.
    pub fn forget(&mut self) {
        self.kept_until = Place::default();
        self.times.fill(i64::MIN);
        self.newest = None;
        self.gone = false;
    }

    /// Nothing is known any more.
    pub fn clear(&mut self) {
        self.boots.clear();
        self.forget();
    }

    /// Goes on with what `other` keeps, if that lies behind; what is not kept any longer counts as sent.
    pub fn join(&mut self, other: &mut Self, sent_times: &mut [i64], sent: &mut Option<SentFrame>) {
        if other.kept_until > self.kept_until {
            core::mem::swap(self, other);
        }
        other.settle(sent_times, sent);
    }

    /// The source has nothing between `from` and the frame that it gave.
    pub fn skip(&mut self, from: Place) {
        self.gone |= from < self.kept_until;
    }

    /// Frames of `target` that are gone may have been sent with times up to this, held back.
    pub fn gone_ms(&self, target: TargetRef) -> i64 {
        let kept = self.times.get(usize::from(target.0)).filter(|_| self.gone);
        kept.copied().unwrap_or(i64::MIN)
    }

    /// The times of `frame`. What lies behind `latest` was wrong. `first`: the batch has no frame yet.
    ///
    /// # Errors
    /// [`Moved`]: it does not belong into the batch.
    pub fn stamp(&mut self, frame: &Frame, latest: Option<i64>, first: bool) -> Result<Stamped, Moved> {
        let now = Stamped {
            unix_ms: frame.unix_ms,
            floor_ms: frame.floor_ms,
        };
        let Some(unix_ms) = frame.unix_ms else {
            return Ok(now);
        };
        let stamp = Stamp {
            boot: frame.boot,
            offset_ms: unix_ms.saturating_sub_unsigned(frame.time_ms),
            floor_ms: frame.floor_ms,
        };
        let kept = Place::before(frame.number) < self.kept_until;
        let Some(known) = self.boots.iter_mut().find(|known| known.boot == frame.boot) else {
            let full = self.boots.push(stamp).is_err();
            return if full && !first && !kept { Err(Moved) } else { Ok(now) };
        };
        if known.offset_ms == stamp.offset_ms {
            return Ok(now);
        }
        if kept {
            let then = known.offset_ms.saturating_add_unsigned(frame.time_ms);
            let was_right = latest.is_none_or(|latest| then <= latest);
            return Ok(if was_right {
                Stamped {
                    unix_ms: Some(then),
                    floor_ms: known.floor_ms,
                }
            } else {
                now
            });
        }
        if !first {
            return Err(Moved);
        }
        *known = stamp;
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameNo;

    fn frame(number: u64, boot: u32, offset_ms: i64) -> Frame {
        let mut frame = Frame::with_capacity(0);
        frame.number = FrameNo(number);
        (frame.boot, frame.time_ms) = (boot, 100 * number);
        frame.unix_ms = Some(offset_ms + 100 * number as i64);
        frame
    }

    fn time(stamps: &mut Stamps, frame: &Frame, first: bool) -> Option<i64> {
        stamps
            .stamp(frame, Some(90_000), first)
            .expect("it belongs here")
            .unix_ms
    }

    /// Begins a batch at frame `number`; the last time sent.
    fn begin(stamps: &mut Stamps, number: u64) -> i64 {
        let mut times = [50];
        stamps.begin(Place::before(FrameNo(number)), &mut times, &mut None);
        times[0]
    }

    #[test]
    fn what_may_be_stored_keeps_its_times_and_what_follows_does_not() {
        let mut stamps = Stamps::new(1);
        begin(&mut stamps, 1);
        assert_eq!(time(&mut stamps, &frame(1, 7, 5_000), true), Some(5_100));
        assert_eq!(time(&mut stamps, &frame(2, 7, 5_000), false), Some(5_200));
        stamps.keep(Place::before(FrameNo(3)), &[0], None);
        begin(&mut stamps, 1);
        assert_eq!(time(&mut stamps, &frame(1, 7, 4_000), true), Some(5_100));
        begin(&mut stamps, 2);
        assert_eq!(time(&mut stamps, &frame(2, 7, 6_000), true), Some(5_200));
        begin(&mut stamps, 3);
        assert_eq!(time(&mut stamps, &frame(3, 7, 6_000), true), Some(6_300));
    }

    #[test]
    fn times_from_the_future_and_those_of_a_wrong_clock_are_not_kept() {
        let mut stamps = Stamps::new(1);
        assert_eq!(time(&mut stamps, &frame(1, 7, 95_000), true), Some(95_100));
        stamps.keep(Place::before(FrameNo(2)), &[0], None);
        begin(&mut stamps, 1);
        assert_eq!(time(&mut stamps, &frame(1, 7, 5_000), true), Some(5_100));
        begin(&mut stamps, 2);
        assert_eq!(time(&mut stamps, &frame(2, 7, 5_000), true), Some(5_200));
        stamps.keep(Place::before(FrameNo(3)), &[0], None);
        stamps.forget();
        begin(&mut stamps, 2);
        assert_eq!(time(&mut stamps, &frame(2, 7, 6_000), true), Some(6_200));
    }

    #[test]
    fn what_follows_frames_that_are_gone_is_later() {
        let mut stamps = Stamps::new(1);
        begin(&mut stamps, 1);
        stamps.keep(Place::before(FrameNo(4)), &[70], None);
        assert_eq!(begin(&mut stamps, 1), 50);
        stamps.skip(Place::before(FrameNo(1)));
        assert_eq!(begin(&mut stamps, 3), 50);
        assert_eq!(stamps.gone_ms(TargetRef(0)), 70);
        assert_eq!(begin(&mut stamps, 4), 70);
        stamps.skip(Place::before(FrameNo(4)));
        assert_eq!((begin(&mut stamps, 5), stamps.gone_ms(TargetRef(0))), (50, i64::MIN));
    }

    #[test]
    fn a_batch_ends_where_the_clock_was_set_and_before_too_many_boots() {
        let mut stamps = Stamps::new(1);
        assert_eq!(time(&mut stamps, &frame(1, 7, 5_000), true), Some(5_100));
        assert!(stamps.stamp(&frame(2, 7, 5_001), None, false).is_err());
        for boot in 8..11 {
            assert_eq!(time(&mut stamps, &frame(2, boot, 5_000), false), Some(5_200));
        }
        assert!(stamps.stamp(&frame(3, 11, 5_000), None, false).is_err());
        let mut unknown = frame(3, 7, 0);
        unknown.unix_ms = None;
        assert_eq!(time(&mut stamps, &unknown, false), None);
    }
}
