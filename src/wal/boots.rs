//! Wall-clock offsets of the boots whose frames are on the ring.
//!
//! A boot that ended without ever knowing the time is *anchored*: its last frame is placed just before the next boot
//! began, and so on backwards. That is the latest it can have been; how long the box was off nobody can know.
//!
//! Frames carry boot time. What is latest known of a boot's offset, from START and CLOCK records or from the host,
//! turns it into wall time. [`MAX_BOOTS`] are remembered; beyond that the one noted first is forgotten, and its frames read
//! without wall time until its records are read again.

use super::record::{ClockSource, UNKNOWN_MS};

/// Boots whose offset is remembered, 24 bytes each. A ring of weeks on a box that restarts twice a day.
const MAX_BOOTS: usize = 64;

/// Boots of the head segment whose end is remembered, 16 bytes each: as many power cuts in a row without a clock keep their
/// samples apart. Samples of older ones come out at one instant, in order.
const MAX_ENDED: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Known {
    boot: u32,
    offset_ms: i64,
    at_ms: u64,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Boots {
    known: heapless::Deque<Known, MAX_BOOTS>,
    /// Boots found at mount that have ended, oldest first, with the boot time of the last frame of each.
    ended: heapless::Vec<(u32, u64), MAX_ENDED>,
    /// Largest wall time seen, 0 if none.
    pub(crate) latest_ms: i64,
}

impl Boots {
    /// Notes that at `mono_ms` of `boot` it was `wall_ms`. The statement latest in the boot holds.
    pub(crate) fn note(&mut self, boot: u32, mono_ms: u64, wall_ms: i64, source: u8) {
        if wall_ms == UNKNOWN_MS || ClockSource::from_byte(source) == ClockSource::None {
            return;
        }
        self.latest_ms = self.latest_ms.max(wall_ms);
        let offset_ms = wall_ms.wrapping_sub(mono_ms as i64);
        if let Some(known) = self.known.iter_mut().find(|known| known.boot == boot) {
            if mono_ms >= known.at_ms {
                (known.offset_ms, known.at_ms) = (offset_ms, mono_ms);
            }
            return;
        }
        if self.known.is_full() {
            self.known.pop_front();
        }
        let _ = self.known.push_back(Known {
            boot,
            offset_ms,
            at_ms: mono_ms,
        });
    }

    /// Notes that `boot`, which has ended, had a frame at `time_ms`. Of more than [`MAX_ENDED`] boots the newest are remembered.
    pub(crate) fn note_ended(&mut self, boot: u32, time_ms: u64) {
        if let Some((_, end)) = self.ended.iter_mut().find(|(ended, _)| *ended == boot) {
            *end = time_ms.max(*end);
            return;
        }
        if self.ended.is_full() {
            self.ended.remove(0);
        }
        let _ = self.ended.push((boot, time_ms));
    }

    /// Wall time of `time_ms` of `boot`, which has ended without knowing the time, if the time of boot `current` is known:
    /// then of every boot before it, too. Of a boot too old to be remembered every frame is placed at its end.
    pub(crate) fn anchored_ms(&self, boot: u32, time_ms: u64, current: u32) -> Option<i64> {
        let mut next_began = self.unix_ms(current, 0)?;
        for &(ended, end_ms) in self.ended.iter().rev().filter(|(ended, _)| *ended != current) {
            let anchored = next_began.saturating_sub_unsigned(end_ms).saturating_sub(1);
            let began = self.unix_ms(ended, 0).unwrap_or(anchored);
            if ended == boot {
                return Some(began.saturating_add_unsigned(time_ms));
            }
            next_began = began;
        }
        Some(next_began.saturating_sub(1))
    }

    /// Wall time of `time_ms` of `boot`.
    pub(crate) fn unix_ms(&self, boot: u32, time_ms: u64) -> Option<i64> {
        let known = self.known.iter().find(|known| known.boot == boot)?;
        Some(known.offset_ms.wrapping_add(time_ms as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_statement_of_a_boot_holds_and_old_boots_make_room() {
        let mut boots = Boots::default();
        boots.note(1, 100, UNKNOWN_MS, 2);
        boots.note(1, 100, 5_000, 0);
        assert_eq!(boots.unix_ms(1, 0), None);
        boots.note(1, 100, 5_100, 2);
        boots.note(1, 50, 9_999, 2);
        assert_eq!(boots.unix_ms(1, 200), Some(5_200));
        boots.note(1, 300, 6_300, 2);
        assert_eq!(boots.unix_ms(1, 0), Some(6_000));
        for boot in 2..66 {
            boots.note(boot, 0, 1, 1);
        }
        assert_eq!(boots.unix_ms(1, 0), None);
        assert_eq!(boots.unix_ms(65, 1), Some(2));
        assert_eq!(boots.latest_ms, 9_999);
    }

    #[test]
    fn boots_without_a_clock_are_chained_backwards_from_the_one_that_has_it() {
        let mut boots = Boots::default();
        for boot in 0..=MAX_ENDED as u32 {
            boots.note_ended(boot, 100);
            boots.note_ended(boot, 50);
        }
        let current = 99;
        let last = MAX_ENDED as u32;
        assert_eq!(boots.anchored_ms(last, 100, current), None);
        boots.note(current, 500, 1_000_500, 2);
        assert_eq!(boots.anchored_ms(last, 100, current), Some(999_999));
        assert_eq!(boots.anchored_ms(last - 1, 100, current), Some(999_999 - 101));
        // Boot 0 made room: its samples end where the oldest remembered one begins.
        let oldest = boots.anchored_ms(1, 0, current).expect("remembered");
        assert_eq!(boots.anchored_ms(0, 7, current), Some(oldest - 1));
        assert_eq!(boots.anchored_ms(0, 90, current), Some(oldest - 1));
        // What one of them knew after all holds for it and for those before.
        boots.note(last, 0, 500_000, 2);
        assert_eq!(boots.anchored_ms(last - 1, 100, current), Some(499_999));
    }
}
