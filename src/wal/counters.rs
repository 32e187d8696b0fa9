//! What the ring has done and what it has lost, by reason.
//!
//! Losses are totals since the ring was formatted: they ride in every segment header, and DROP records carry what
//! came after it (or found no place in it), so they survive a restart. A loss whose commit was cut by a loss of power is found again where the
//! frames are missing. Frames given up while a sender had them in hand count as lost then, delivered or not. Not counted are, at worst, frames
//! before the lowest of more than eight holes; the crash explorer holds the ring to the rest. Everything else counts since the mount.

use serde::{Deserialize, Serialize};

/// Why samples will never be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The ring was full; the oldest segment made room (`drop_oldest`).
    Lapped = 0,
    /// Blocks could not be read any more. Samples are estimated.
    Damaged = 1,
    /// A receiver refused them for good; counted by the sender through [`super::Ring::record_loss`].
    Rejected = 2,
    /// The medium did not take them.
    WriteError = 3,
    /// A scrape larger than a record may be, or than this configuration can read.
    TooBig = 4,
    /// The ring was full and is told to stop (`stop`).
    Stopped = 5,
    /// Older than `max_sample_age` when their turn came; counted by the sender.
    TooOld = 6,
    /// They have no time they could be sent with: that of their boot was never known and the policy is to drop them, or the clock
    /// was set back beyond what was sent. Counted by the sender.
    Clock = 7,
    /// In memory when the process or the power went. Estimated from above by the next mount.
    Crash = 8,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Lapped,
        Self::Damaged,
        Self::Rejected,
        Self::WriteError,
        Self::TooBig,
        Self::Stopped,
        Self::TooOld,
        Self::Clock,
        Self::Crash,
    ];

    /// The word used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lapped => "lapped",
            Self::Damaged => "damaged",
            Self::Rejected => "rejected",
            Self::WriteError => "write_error",
            Self::TooBig => "too_big",
            Self::Stopped => "stopped",
            Self::TooOld => "too_old",
            Self::Clock => "clock",
            Self::Crash => "crash",
        }
    }
}

/// Samples lost for one reason, with the wall time they cover as far as it is known (both 0: unknown).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Scrapes.
    pub frames: u64,
    /// Samples in them.
    pub samples: u64,
    /// Milliseconds since the Unix epoch of the first.
    pub first_ms: i64,
    /// And of the last.
    pub last_ms: i64,
}

impl Loss {
    /// Reasons that a segment header has room for; the totals of the others stand in DROP records right behind it.
    pub const IN_HEADER: usize = 8;

    /// Reasons that are counted; [`Reason`] uses the first nine.
    pub const REASONS: usize = 10;

    /// Adds another loss.
    pub fn add(&mut self, other: &Self) {
        self.frames = self.frames.saturating_add(other.frames);
        self.samples = self.samples.saturating_add(other.samples);
        if other.first_ms != 0 && (self.first_ms == 0 || other.first_ms < self.first_ms) {
            self.first_ms = other.first_ms;
        }
        if other.last_ms != 0 && (self.last_ms == 0 || other.last_ms > self.last_ms) {
            self.last_ms = other.last_ms;
        }
    }

    /// Takes away what is not lost after all; the times stay.
    pub(crate) fn take(&mut self, frames: u64, samples: u64) {
        self.frames = self.frames.saturating_sub(frames);
        self.samples = self.samples.saturating_sub(samples);
    }

    /// Adds one frame.
    pub fn add_frame(&mut self, samples: u64, unix_ms: Option<i64>) {
        let ms = unix_ms.unwrap_or(0);
        self.add(&Self {
            frames: 1,
            samples,
            first_ms: ms,
            last_ms: ms,
        });
    }
}

/// Counters of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Totals since format, by [`Reason`].
    pub losses: [Loss; Loss::REASONS],
    /// Segments lapped with unacknowledged frames in them, since format.
    pub dropped_segments: u32,
    /// Frames that the ring gave up to go on, whether or not a sender had them in hand, since the mount.
    pub frames_lapped: u64,
    /// Frames appended.
    pub frames_appended: u64,
    /// Samples in them.
    pub samples_appended: u64,
    /// Frames acknowledged before they were written.
    pub frames_acknowledged_in_memory: u64,
    /// Commits that reached the medium.
    pub commits: u64,
    /// Blocks written, copies included.
    pub blocks_written: u64,
    /// Slots erased.
    pub slots_erased: u64,
    /// Those of them that a commit had to wait for.
    pub erases_in_commits: u64,
    /// Syncs the medium confirmed.
    pub syncs: u64,
    /// Writes, erases and syncs that failed.
    pub write_errors: u64,
    /// Slots given up after such failures, passed over or tried again.
    pub slots_failed: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Frames read of boots that ended without knowing the time: they were given the latest time possible.
    pub frames_anchored: u64,
    /// Frames read without what their samples carried, and without those that were native histograms: written under a
    /// configuration with more room for it.
    pub frames_without_extras: u64,
    /// Blocks found damaged while reading.
    pub damaged_blocks: u64,
    /// Segments opened.
    pub segments_opened: u64,
    /// Frames coded again because the slot their chunk began on failed.
    pub frames_coded_again: u64,
}

impl Counters {
    /// Samples and frames lost for `reason`.
    #[must_use]
    pub fn loss(&self, reason: Reason) -> &Loss {
        // There are nine reasons and ten places.
        &self.losses[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_covers_the_times_it_knows() {
        let mut loss = Loss::default();
        loss.add_frame(10, None);
        assert_eq!((loss.first_ms, loss.last_ms), (0, 0));
        loss.add_frame(5, Some(2_000));
        loss.add_frame(5, Some(1_000));
        assert_eq!(
            loss,
            Loss {
                frames: 3,
                samples: 20,
                first_ms: 1_000,
                last_ms: 2_000
            }
        );
    }

    #[test]
    fn reasons_have_their_number_as_place() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
        assert!(Reason::ALL.len() <= Loss::REASONS);
    }
}
