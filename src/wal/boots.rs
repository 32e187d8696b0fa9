//! Wall-clock offsets of the boots whose frames are on the ring.
//!
//! Frames carry boot time. What is latest known of a boot's offset, from START and CLOCK records or from the host,
//! turns it into wall time. [`MAX_BOOTS`] are remembered; beyond that the one noted first is forgotten, and its frames read
//! without wall time until its records are read again. The boot that runs is never forgotten.
//!
//! A boot that ended without ever knowing the time is *anchored*: its last frame is placed just before the next boot
//! began, and so on backwards. That is the latest it can have been; how long the box was off nobody can know. [`Chain`] holds the
//! boots between such a boot and the next one whose time is known; the ring is searched for them when it is needed
//! (`anchor`), so any number of power cuts in a row keeps its samples apart.

use super::record::{ClockSource, UNKNOWN_MS};

/// What becomes of the samples of a boot that does not know the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownBoot {
    /// While it runs they wait for the time; once it has ended they are anchored.
    #[default]
    Hold,
    /// They never wait: while it runs they are placed at the earliest time that is possible, behind the largest wall time known
    /// from the ring; once it has ended they are anchored. A ring that knows no time at all waits for one.
    Anchor,
    /// While it runs they wait; once it has ended they are counted as lost.
    Drop,
}

/// Boots whose offset is remembered, 24 bytes each. A ring of weeks on a box that restarts twice a day.
const MAX_BOOTS: usize = 64;

/// Boots of a chain that are told apart at once, 16 bytes each; later ones when their turn comes.
const MAX_LINKS: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Known {
    boot: u32,
    offset_ms: i64,
    at_ms: u64,
}

/// The table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Boots {
    known: heapless::Deque<Known, MAX_BOOTS>,
    /// The boot that runs.
    current: u32,
    /// Largest wall time seen, 0 if none.
    pub(crate) latest_ms: i64,
    pub(crate) chain: Chain,
    /// Largest wall time known when the ring was mounted, 0 if none.
    pub(crate) bound_ms: i64,
    /// Where the boot that runs is taken to have begun while it does not know.
    guess_ms: Option<i64>,
}

impl Boots {
    pub(crate) fn new(current: u32) -> Self {
        Self {
            current,
            ..Self::default()
        }
    }

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
        if self.known.is_full()
            && let Some(first) = self.known.pop_front()
            && first.boot == self.current
        {
            self.known.pop_front();
            let _ = self.known.push_back(first);
        }
        // Room was made, for that one and for this.
        let _ = self.known.push_back(Known {
            boot,
            offset_ms,
            at_ms: mono_ms,
        });
    }

    /// Wall time of `time_ms` of `boot`.
    pub(crate) fn unix_ms(&self, boot: u32, time_ms: u64) -> Option<i64> {
        let known = self.known.iter().find(|known| known.boot == boot)?;
        Some(known.offset_ms.wrapping_add(time_ms as i64))
    }

    /// Wall time of `time_ms` of `boot`, which is in the chain, if the time of the boot behind the chain is known: then of every
    /// boot in it, too. `guess`: else count from the largest time known at mount.
    pub(crate) fn anchored_ms(&self, boot: u32, time_ms: u64, guess: bool) -> Option<i64> {
        let Some(place) = self.chain.place(boot) else {
            // The ring no longer holds what the search went by: all that is certain is that it was before this boot.
            let began = self.unix_ms(self.current, 0)?;
            return Some(began.saturating_sub(1));
        };
        let length = |links: &[(u32, u64)]| links.iter().fold(0, |sum: u64, link| sum.saturating_add(link.1 + 1));
        let began = match self.chain.anchor? {
            Anchor::At(unix_ms) => Some(unix_ms),
            Anchor::Current => self.unix_ms(self.current, 0),
        };
        let began = match began {
            Some(next) => {
                let before = length(&self.chain.links[place..]).saturating_add(self.chain.rest_ms);
                next.saturating_sub_unsigned(before)
            }
            None if guess && self.bound_ms > 0 => {
                let behind = length(&self.chain.links[..place]);
                self.bound_ms.saturating_add(1).saturating_add_unsigned(behind)
            }
            None => return None,
        };
        Some(began.saturating_add_unsigned(time_ms))
    }

    /// Whether the chain hangs on the time of the boot that runs.
    pub(crate) fn needs_telling(&self) -> bool {
        self.chain.anchor == Some(Anchor::Current) && self.unix_ms(self.current, 0).is_some()
    }

    /// The earliest wall time possible of `time_ms` of the boot that runs and does not know it.
    pub(crate) fn guessed_ms(&mut self, time_ms: u64) -> Option<i64> {
        if self.guess_ms.is_none() && self.bound_ms > 0 {
            let chain = &self.chain;
            let length = match chain.anchor {
                Some(Anchor::Current) => chain
                    .links
                    .iter()
                    .fold(chain.rest_ms, |sum, link| sum.saturating_add(link.1 + 1)),
                _ => 0,
            };
            let began = self.bound_ms.saturating_add(1).saturating_add_unsigned(length);
            self.guess_ms = Some(began);
        }
        Some(self.guess_ms?.saturating_add_unsigned(time_ms))
    }

    /// What was sent of the boot that runs was sent with this beginning.
    pub(crate) fn guess(&mut self, began_ms: i64) {
        self.guess_ms = Some(began_ms);
    }
}

/// What bounds a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// A boot that began at this time.
    At(i64),
    /// The boot that runs.
    Current,
}

/// Boots, one after the other, that ended without knowing the time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    /// The boot it begins with.
    target: Option<u32>,
    /// Segment to be searched next.
    pub(crate) next_seq: u64,
    /// The boot met last and the boot time of its last frame.
    running: Option<(u32, u64)>,
    /// Boots and boot times of their last frames.
    links: heapless::Vec<(u32, u64), MAX_LINKS>,
    /// How long the boots behind the links were, together.
    rest_ms: u64,
    /// What is behind them; `None`: not found yet.
    anchor: Option<Anchor>,
}

impl Chain {
    /// Whether the search for the chain of `boot` is under way or done.
    pub(crate) fn is_for(&self, boot: u32) -> bool {
        (self.target == Some(boot) && self.anchor.is_none()) || self.place(boot).is_some()
    }

    /// Whether the chain is known to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.anchor.is_some()
    }

    /// Begins to look for the chain of `boot`, of which segment `seq` holds frames.
    pub(crate) fn begin(&mut self, boot: u32, seq: u64) {
        *self = Self {
            target: Some(boot),
            next_seq: seq,
            ..Self::default()
        };
    }

    fn place(&self, boot: u32) -> Option<usize> {
        self.links.iter().position(|link| link.0 == boot)
    }

    /// A chunk of `boot` begins. `began`: when that boot began, if known.
    pub(crate) fn meet(&mut self, boot: u32, began: Option<i64>, current: u32) {
        if self.anchor.is_some() {
            return;
        }
        match self.running {
            None if self.target != Some(boot) => return,
            Some((running, _)) if running != boot => self.end_running(),
            _ => {}
        }
        if self.running.is_none() {
            self.running = Some((boot, 0));
        }
        if boot == current {
            self.finish(Anchor::Current);
        } else {
            self.knows(boot, began);
        }
    }

    /// When `boot` began has become known, or not.
    pub(crate) fn knows(&mut self, boot: u32, began: Option<i64>) {
        if self.anchor.is_none()
            && self.running.is_some_and(|(running, _)| running == boot)
            && let Some(began) = began
        {
            self.finish(Anchor::At(began));
        }
    }

    /// A frame of the boot met last.
    pub(crate) fn frame(&mut self, boot: u32, time_ms: u64) {
        if let Some(running) = self.running.as_mut().filter(|running| running.0 == boot) {
            running.1 = running.1.max(time_ms);
        }
    }

    fn finish(&mut self, anchor: Anchor) {
        self.running = None;
        self.anchor = Some(anchor);
    }

    /// Everything on flash was searched: what comes next is the boot that runs.
    pub(crate) fn end(&mut self) {
        self.end_running();
        self.anchor.get_or_insert(Anchor::Current);
    }

    fn end_running(&mut self) {
        let Some(link) = self.running.take() else { return };
        if self.rest_ms > 0 || self.links.push(link).is_err() {
            self.rest_ms = self.rest_ms.saturating_add(link.1).saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: u32 = 999;

    #[test]
    fn the_latest_statement_of_a_boot_holds_and_old_boots_make_room() {
        let mut boots = Boots::new(CURRENT);
        boots.note(1, 100, UNKNOWN_MS, 2);
        boots.note(1, 100, 5_000, 0);
        assert_eq!(boots.unix_ms(1, 0), None);
        boots.note(1, 100, 5_100, 2);
        boots.note(1, 50, 9_999, 2);
        assert_eq!(boots.unix_ms(1, 200), Some(5_200));
        boots.note(1, 300, 6_300, 2);
        assert_eq!(boots.unix_ms(1, 0), Some(6_000));
        boots.note(CURRENT, 0, 7, 1);
        for boot in 2..200 {
            boots.note(boot, 0, 1, 1);
        }
        assert_eq!(boots.unix_ms(1, 0), None);
        assert_eq!(boots.unix_ms(199, 1), Some(2));
        assert_eq!(
            boots.unix_ms(CURRENT, 1),
            Some(8),
            "the boot that runs is never forgotten"
        );
        assert_eq!(boots.latest_ms, 9_999);
    }

    /// A chain of boots 0.. with their last frame at 100 each, then the boot that runs.
    fn chained(count: u32) -> Boots {
        let mut boots = Boots::new(CURRENT);
        boots.chain.begin(0, 1);
        boots.chain.meet(77, Some(5), CURRENT);
        for boot in 0..count {
            boots.chain.meet(boot, None, CURRENT);
            boots.chain.frame(boot, 100);
            boots.chain.meet(boot, None, CURRENT);
            boots.chain.frame(boot, 50);
        }
        boots
    }

    #[test]
    fn boots_without_a_clock_are_chained_backwards_from_the_one_that_has_it() {
        let mut boots = chained(3);
        assert!(!boots.chain.is_complete());
        boots.chain.meet(CURRENT, None, CURRENT);
        assert!(boots.chain.is_complete());
        assert_eq!(boots.anchored_ms(2, 100, false), None);
        assert_eq!(boots.anchored_ms(2, 100, true), None, "no time is known at all");
        boots.note(CURRENT, 500, 1_000_500, 2);
        assert_eq!(boots.anchored_ms(2, 100, false), Some(999_999));
        assert_eq!(boots.anchored_ms(1, 100, false), Some(999_999 - 101));
        assert_eq!(boots.anchored_ms(0, 90, false), Some(999_999 - 202 - 10));
        assert_eq!(boots.anchored_ms(77, 0, false), Some(999_999), "it is not in the chain");
    }

    #[test]
    fn a_chain_of_any_length_keeps_its_boots_apart() {
        let count = 3 * MAX_LINKS as u32;
        let mut boots = chained(count);
        boots.chain.end();
        boots.note(CURRENT, 0, 1_000_000, 2);
        let last = boots.anchored_ms(0, 100, false).expect("the first is in the chain");
        assert_eq!(last, 1_000_000 - i64::from(count) * 101 + 100);
        assert!(
            !boots.chain.is_for(count - 1),
            "the later ones are looked for in their turn"
        );
    }

    #[test]
    fn a_boot_that_learns_the_time_late_ends_the_chain() {
        let mut boots = chained(2);
        boots.chain.meet(50, None, CURRENT);
        boots.chain.frame(50, 9_000);
        boots.chain.knows(50, Some(700_000));
        assert_eq!(boots.anchored_ms(1, 100, false), Some(699_999));
        // The one looked for, too.
        boots.chain.begin(3, 1);
        boots.chain.meet(3, None, CURRENT);
        boots.chain.knows(3, Some(1));
        assert!(boots.chain.is_complete());
    }

    #[test]
    fn without_a_time_ahead_boots_are_lined_up_behind_the_largest_time_known() {
        let mut boots = chained(2);
        boots.chain.end();
        boots.bound_ms = 5_000;
        assert_eq!(boots.anchored_ms(0, 0, true), Some(5_001));
        assert_eq!(boots.anchored_ms(1, 7, true), Some(5_001 + 101 + 7));
        assert_eq!(boots.guessed_ms(3), Some(5_001 + 202 + 3));
        boots.guess(9_000);
        assert_eq!(boots.guessed_ms(3), Some(9_003));
    }
}
