//! When the next frame of a target is to be expected, so that its head need only say how far off that is.
//!
//! Scrapes come at even intervals and take about as long each time: the head says the difference, one byte where the time itself
//! and the duration would take five. Times wrap at 64 bits.
//!
//! # Invariants
//!
//! - Writer, reader and everything that walks over frames note every frame since START, failed ones too.
//!
//! # Cost
//!
//! 64 targets of 24 bytes.

use super::record::RecordFault;
use crate::limits::MAX_TARGETS;
use crate::sample::TargetRef;

/// Last frames of one target.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    ms: u64,
    before_ms: u64,
    duration_100us: u32,
    /// Frames since START, as far as it matters: 0, 1, 2.
    frames: u8,
}

/// The last frames of all targets of a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    last_ms: u64,
    targets: [Last; MAX_TARGETS],
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            last_ms: 0,
            targets: [Last::default(); MAX_TARGETS],
        }
    }
}

impl Timing {
    /// Begins a chunk whose START says `mono_ms`.
    pub(crate) fn start(&mut self, mono_ms: u64) {
        *self = Self {
            last_ms: mono_ms,
            ..Self::default()
        };
    }

    fn of(&self, target: TargetRef) -> Last {
        self.targets.get(usize::from(target.0)).copied().unwrap_or_default()
    }

    fn expected_ms(&self, target: TargetRef) -> u64 {
        let last = self.of(target);
        if last.frames < 2 {
            return self.last_ms;
        }
        last.ms.wrapping_add(last.ms.wrapping_sub(last.before_ms))
    }

    /// What the head of a frame says of its time and duration.
    pub(crate) fn off(&self, target: TargetRef, time_ms: u64, duration_100us: u32) -> (i64, i64) {
        let duration = i64::from(duration_100us) - i64::from(self.of(target).duration_100us);
        (time_ms.wrapping_sub(self.expected_ms(target)) as i64, duration)
    }

    /// Time and duration of a frame whose head says `off`.
    ///
    /// # Errors
    /// [`RecordFault::Malformed`]: no such duration.
    pub(crate) fn read(&self, target: TargetRef, (time, duration): (i64, i64)) -> Result<(u64, u32), RecordFault> {
        let duration = i64::from(self.of(target).duration_100us)
            .checked_add(duration)
            .and_then(|duration| u32::try_from(duration).ok())
            .ok_or(RecordFault::Malformed)?;
        Ok((self.expected_ms(target).wrapping_add(time as u64), duration))
    }

    /// A frame of `target` was written or read.
    pub(crate) fn note(&mut self, target: TargetRef, time_ms: u64, duration_100us: u32) {
        self.last_ms = time_ms;
        if let Some(last) = self.targets.get_mut(usize::from(target.0)) {
            *last = Last {
                ms: time_ms,
                before_ms: last.ms,
                duration_100us,
                frames: (last.frames + 1).min(2),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_scrapes_are_as_expected() {
        let mut timing = Timing::default();
        timing.start(1_000);
        let (one, other) = (TargetRef(0), TargetRef(63));
        for (target, time_ms, duration, said) in [
            (one, 1_000, 30, (0, 30)),
            (other, 6_000, 70_000, (5_000, 70_000)),
            (one, 16_000, 31, (10_000, 1)),
            (other, 21_000, 70_000, (5_000, 0)),
            (one, 31_000, 29, (0, -2)),
            (other, 36_004, 69_999, (4, -1)),
            (one, 30_500, 29, (-15_500, 0)),
        ] {
            assert_eq!(timing.off(target, time_ms, duration), said);
            assert_eq!(timing.read(target, said), Ok((time_ms, duration)));
            timing.note(target, time_ms, duration);
        }
    }

    #[test]
    fn any_time_comes_back_and_no_duration_is_out_of_range() {
        let mut timing = Timing::default();
        timing.start(u64::MAX);
        let target = TargetRef(5);
        for time_ms in [0, u64::MAX, 3, u64::MAX / 2, 0] {
            let said = timing.off(target, time_ms, u32::MAX);
            assert_eq!(timing.read(target, said), Ok((time_ms, u32::MAX)));
            timing.note(target, time_ms, u32::MAX);
        }
        for duration in [1, i64::MAX, i64::MIN, -0x1_0000_0000] {
            assert_eq!(timing.read(target, (0, duration)), Err(RecordFault::Malformed));
        }
    }
}
