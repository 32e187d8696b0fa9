//! Which exposed texts are which series, and which were there last time.
//!
//! A fixed-capacity map from (target, exposed text of a series, by 64-bit hash) to a verdict: a [`SeriesRef`], or
//! *dropped by relabelling*. A known text costs one hash and one probe, so a steady scrape never parses labels. For
//! every series it also keeps what staleness needs: whether this scrape or the previous one saw it. It does not parse,
//! relabel or define; `scrape::session` does, and tells the outcome.
//!
//! # One scrape
//!
//! ```text
//! begin -> { verdict | learn, learn_dropped; record, track }* -> succeed | fail -> settle
//! ```
//!
//! [`SeriesTable::succeed`] and [`SeriesTable::fail`] list the series to mark as stale; a failed scrape takes back every
//! text and series it brought. [`SeriesTable::settle`], after the frame has its number, forgets the texts that a
//! successful scrape did not have and releases their series. Scrapes of different targets may interleave.
//!
//! # Invariants
//!
//! - Nothing allocates after [`SeriesTable::new`].
//! - A target's texts stay through failed scrapes (no new definitions when it comes back), but as soon as somebody ran
//!   out of room ([`SeriesTable::note_pressure`]) those of targets that failed last time give way.
//! - Scans of the whole table happen only when a series vanished, a scrape failed, or room ran out.
//!
//! # Limits and cost
//!
//! 16 bytes per text (a third of the table stays empty) and 12 per series. Texts dropped by relabelling may use what
//! `max_texts` exceeds `max_series` by; more of them are not remembered and are relabelled each time. A text is
//! known by its hash alone: two of a million texts collide with a chance below 1 in 10^7, and then count as one.
//! The seed comes from the host's random source, so a target cannot choose colliding texts.
//!
//! Sources: SCR-701, SCR-801 to SCR-810, SCR-821 to SCR-826.

use crate::catalogue::{Catalogue, home, remove_at, table_len};
use crate::frame::{Bounded, FrameNo};
use crate::hash::hash64;
use crate::limits::{MAX_SERIES, MAX_TARGETS};
use crate::sample::{SeriesRef, TargetRef};
use alloc::boxed::Box;
use alloc::vec;

/// What an exposed text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is this series.
    Series(SeriesRef),
    /// Relabelling drops it.
    Dropped,
}

/// What is remembered of the last exemplar of a series; made by the scrape, which alone knows what it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastExemplar {
    /// Hash of all of it; 0: there was none.
    pub hash: u32,
    /// Low bits of its own time; 0: it had none.
    pub time: u32,
}

/// Hash of an exposed text of one target; made by [`SeriesTable::key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextKey(u64);

/// There is no room for another text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextsFull {
    /// Texts over all targets.
    pub limit: usize,
}

/// Seven bits of a mark count the rounds of a target; 0 is never a round.
const ROUND: u8 = 0x7F;
/// Top bit of a mark. Of a text: this round brought it. Of a tracked series: the round before tracked it too.
const FLAG: u8 = 0x80;

/// `Item::value` of an unused place; above every series.
const EMPTY: u16 = u16::MAX;
/// `Item::value` of a text dropped by relabelling; above every series.
const DROPPED: u16 = u16::MAX - 1;

/// One text: 12 bytes, hence the hash in halves.
#[derive(Clone, Copy, Debug)]
struct Item {
    hash: [u32; 2],
    value: u16,
    target: TargetRef,
    /// Round of the target in which it was last seen, and [`FLAG`].
    mark: u8,
}

const NO_ITEM: Item = Item {
    hash: [0; 2],
    value: EMPTY,
    target: TargetRef(0),
    mark: 0,
};

impl Item {
    fn hash(&self) -> u64 {
        u64::from(self.hash[0]) << 32 | u64::from(self.hash[1])
    }
}

/// One series: 12 bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Newest timestamp in 48 bits (see [`pack`]); 0 = none.
    last: [u16; 3],
    /// Position in the frame of its newest sample, valid in round `mark`.
    position: u16,
    /// Texts that mean this series.
    texts: u16,
    /// Round of the target in which it last had a sample.
    mark: u8,
    /// Round of the target in which it was last tracked for staleness, and [`FLAG`].
    tracked: u8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Target {
    round: u8,
    /// A scrape is running; its round is `next_round(round)`.
    running: bool,
    /// The last scrape failed.
    parked: bool,
    /// A scrape has succeeded since the table was made, and its vanished texts are gone.
    settled: bool,
    /// The last scrape succeeded and is not settled.
    unsettled: bool,
    /// Texts it has in the table, and those of them seen in this scrape.
    texts: u32,
    seen: u32,
    /// Series tracked by the last successful scrape.
    tracked: u32,
    /// Series tracked by this scrape, and those of them that were tracked before.
    tracking: u32,
    kept: u32,
}

/// Exposed texts to series, for all targets.
#[derive(Debug)]
pub struct SeriesTable {
    items: Box<[Item]>,
    series: Box<[Seen]>,
    targets: Box<[Target]>,
    /// Per series; empty where nobody wants exemplars.
    exemplars: Box<[LastExemplar]>,
    seed: u64,
    texts: usize,
    dropped: usize,
    max_texts: usize,
    pressure: bool,
}

impl SeriesTable {
    /// A table for `max_series` series exposed as up to `max_texts` texts by up to `max_targets` targets. `seed` comes
    /// from the host's random source. The only call that allocates.
    #[must_use]
    pub fn new(max_series: usize, max_texts: usize, max_targets: usize, seed: u64) -> Self {
        let series = max_series.min(MAX_SERIES);
        let max_texts = max_texts.max(series);
        Self {
            items: vec![NO_ITEM; table_len(max_texts)].into_boxed_slice(),
            series: vec![Seen::default(); series].into_boxed_slice(),
            targets: vec![Target::default(); max_targets.min(MAX_TARGETS)].into_boxed_slice(),
            exemplars: Box::default(),
            seed,
            texts: 0,
            dropped: 0,
            max_texts,
            pressure: false,
        }
    }

    /// Exact heap bytes of a table of these sizes.
    #[must_use]
    pub const fn ram_bytes(max_series: usize, max_texts: usize, max_targets: usize) -> usize {
        let series = if max_series > MAX_SERIES {
            MAX_SERIES
        } else {
            max_series
        };
        let texts = if max_texts > series { max_texts } else { series };
        let targets = if max_targets > MAX_TARGETS {
            MAX_TARGETS
        } else {
            max_targets
        };
        table_len(texts) * size_of::<Item>() + series * size_of::<Seen>() + targets * size_of::<Target>()
    }

    /// The same table, with 8 bytes per series for the last exemplar of each. Allocates them.
    #[must_use]
    pub fn with_exemplars(mut self) -> Self {
        self.exemplars = vec![LastExemplar::default(); self.series.len()].into_boxed_slice();
        self
    }

    /// What [`SeriesTable::with_exemplars`] takes.
    #[must_use]
    pub const fn exemplar_ram_bytes(max_series: usize) -> usize {
        let series = if max_series > MAX_SERIES {
            MAX_SERIES
        } else {
            max_series
        };
        series * size_of::<LastExemplar>()
    }

    /// Whether last exemplars are remembered.
    #[must_use]
    pub fn keeps_exemplars(&self) -> bool {
        !self.exemplars.is_empty()
    }

    /// The last exemplar of `s`, if it had one and it is remembered.
    #[must_use]
    pub fn last_exemplar(&self, s: SeriesRef) -> Option<LastExemplar> {
        self.exemplars
            .get(usize::from(s.0))
            .copied()
            .filter(|last| last.hash != 0)
    }

    /// Remembers the last exemplar of `s` until the series is released.
    pub fn set_last_exemplar(&mut self, s: SeriesRef, last: LastExemplar) {
        if let Some(slot) = self.exemplars.get_mut(usize::from(s.0)) {
            *slot = last;
        }
    }

    /// A scrape of `t` starts.
    pub fn begin(&mut self, t: TargetRef) {
        if let Some(target) = self.targets.get_mut(usize::from(t.0)) {
            target.running = true;
            target.unsettled = false;
            target.seen = 0;
            target.tracking = 0;
            target.kept = 0;
        }
    }

    /// The key of an exposed text, labels and all, exactly as the target wrote it.
    #[must_use]
    pub fn key(&self, t: TargetRef, text: &[u8]) -> TextKey {
        TextKey(hash64(self.seed ^ u64::from(t.0), text))
    }

    /// What the text means, if it is known; it then counts as seen in the running scrape of `t`.
    pub fn verdict(&mut self, t: TargetRef, key: TextKey) -> Option<Verdict> {
        let round = self.running_round(t)?;
        let at = self.probe(t, key);
        let item = self.items.get_mut(at)?;
        let verdict = match item.value {
            EMPTY => return None,
            DROPPED => Verdict::Dropped,
            series => Verdict::Series(SeriesRef(series)),
        };
        if item.mark & ROUND != round {
            item.mark = round;
            self.targets[usize::from(t.0)].seen += 1;
        }
        Some(verdict)
    }

    /// From now on this text means series `s`. The text must be unknown.
    ///
    /// # Errors
    /// [`TextsFull`]; the scrape cannot go on.
    pub fn learn(&mut self, t: TargetRef, key: TextKey, s: SeriesRef) -> Result<(), TextsFull> {
        let full = TextsFull { limit: self.max_texts };
        if self.texts >= self.max_texts {
            return Err(full);
        }
        let seen = self.series.get_mut(usize::from(s.0)).ok_or(full)?;
        seen.texts = seen.texts.checked_add(1).ok_or(full)?;
        self.insert(t, key, s.0);
        Ok(())
    }

    /// From now on this text is known to be dropped, if there is room to remember that. The text must be unknown.
    pub fn learn_dropped(&mut self, t: TargetRef, key: TextKey) {
        if self.dropped < self.max_texts - self.series.len() && self.texts < self.max_texts {
            self.dropped += 1;
            self.insert(t, key, DROPPED);
        }
    }

    /// Whether some text means `s`.
    #[must_use]
    pub fn is_owned(&self, s: SeriesRef) -> bool {
        self.series.get(usize::from(s.0)).is_some_and(|seen| seen.texts > 0)
    }

    /// Position in the frame of the newest sample that `s` has in the running scrape of `t`.
    #[must_use]
    pub fn position(&self, t: TargetRef, s: SeriesRef) -> Option<u16> {
        let round = self.running_round(t)?;
        let seen = self.series.get(usize::from(s.0))?;
        (seen.mark == round).then_some(seen.position)
    }

    /// The running scrape of `t` has a sample of `s` at this position of its frame.
    pub fn record(&mut self, t: TargetRef, s: SeriesRef, position: u16) {
        if let Some(round) = self.running_round(t)
            && let Some(seen) = self.series.get_mut(usize::from(s.0))
        {
            seen.mark = round;
            seen.position = position;
        }
    }

    /// The running scrape of `t` exposed `s` and its sample was refused. Without this the mark of a series that is
    /// refused for 127 scrapes would come round again and pass for a sample of that scrape.
    pub fn pass_over(&mut self, t: TargetRef, s: SeriesRef) {
        if let Some(round) = self.running_round(t)
            && let Some(seen) = self.series.get_mut(usize::from(s.0))
            && seen.mark != round
        {
            seen.mark = 0;
        }
    }

    /// Series `s` gets a staleness marker when a later scrape of `t` does not have it.
    pub fn track(&mut self, t: TargetRef, s: SeriesRef) {
        let Some(round) = self.running_round(t) else { return };
        let Some(seen) = self.series.get_mut(usize::from(s.0)) else {
            return;
        };
        if seen.tracked & ROUND == round {
            return;
        }
        let target = &mut self.targets[usize::from(t.0)];
        let kept = target.tracked > 0 && seen.tracked & ROUND == target.round;
        seen.tracked = round | if kept { FLAG } else { 0 };
        target.kept += u32::from(kept);
        target.tracking += 1;
    }

    /// Series tracked so far by the running scrape of `t`.
    #[must_use]
    pub fn tracking(&self, t: TargetRef) -> usize {
        self.targets.get(usize::from(t.0)).map_or(0, |t| t.tracking as usize)
    }

    /// Timestamp of the newest sample of `s`, as told by [`SeriesTable::set_newest`].
    #[must_use]
    pub fn newest(&self, s: SeriesRef) -> Option<Newest> {
        unpack(self.series.get(usize::from(s.0))?.last)
    }

    /// Remembers the timestamp of the newest sample of `s`; kept until the series is released. It must be
    /// [`storable`].
    pub fn set_newest(&mut self, s: SeriesRef, newest: Newest) {
        if let Some(seen) = self.series.get_mut(usize::from(s.0)) {
            seen.last = pack(newest);
        }
    }

    /// The scrape of `t` succeeded: lists the series tracked by the previous scrape and not by this one. Returns how
    /// many did not fit into `stale`.
    pub fn succeed(&mut self, t: TargetRef, catalogue: &Catalogue, stale: &mut Bounded<SeriesRef>) -> usize {
        let Some(round) = self.running_round(t) else { return 0 };
        let target = &mut self.targets[usize::from(t.0)];
        let (before, gone) = (target.round, target.tracked != target.kept);
        *target = Target {
            round,
            running: false,
            parked: false,
            unsettled: true,
            tracked: target.tracking,
            ..*target
        };
        let mut left_out = 0;
        for (index, seen) in self.series.iter_mut().enumerate().filter(|_| gone) {
            let s = SeriesRef(index as u16);
            if seen.tracked & ROUND == before && catalogue.target_of(s) == Some(t) {
                seen.tracked = 0;
                left_out += usize::from(stale.push(s).is_err());
            }
        }
        left_out
    }

    /// The scrape of `t` failed: takes back what it brought and lists every series tracked by the last successful
    /// scrape, unless a failure since has done so. Returns how many did not fit into `stale`.
    pub fn fail(&mut self, t: TargetRef, catalogue: &mut Catalogue, stale: &mut Bounded<SeriesRef>) -> usize {
        let Some(round) = self.running_round(t) else { return 0 };
        let target = &mut self.targets[usize::from(t.0)];
        let (before, touched, tracked) = (target.round, target.seen > 0, target.tracked > 0);
        target.running = false;
        target.parked = true;
        target.tracked = 0;
        let mut left_out = 0;
        for (index, seen) in self.series.iter_mut().enumerate().filter(|_| touched || tracked) {
            let s = SeriesRef(index as u16);
            if catalogue.target_of(s) != Some(t) {
                continue;
            }
            let was_tracked = seen.tracked == round | FLAG || seen.tracked & ROUND == before;
            if tracked && was_tracked {
                left_out += usize::from(stale.push(s).is_err());
            }
            seen.tracked = 0;
            if seen.mark == round {
                seen.mark = 0;
            }
        }
        if touched {
            self.take_back(t, round, catalogue);
        }
        left_out
    }

    /// The running scrape of `t` is given up without a verdict: takes back what it brought. What was tracked before stays tracked.
    pub fn abandon(&mut self, t: TargetRef, catalogue: &mut Catalogue) {
        let Some(round) = self.running_round(t) else { return };
        let target = &mut self.targets[usize::from(t.0)];
        let (before, touched) = (target.round, target.seen > 0);
        target.running = false;
        if !touched {
            return;
        }
        for (index, seen) in self.series.iter_mut().enumerate() {
            if catalogue.target_of(SeriesRef(index as u16)) != Some(t) {
                continue;
            }
            if seen.tracked & ROUND == round {
                seen.tracked = if seen.tracked & FLAG != 0 { before } else { 0 };
            }
            if seen.mark == round {
                seen.mark = 0;
            }
        }
        self.take_back(t, round, catalogue);
    }

    /// The rules over the samples of `t` have changed: its texts mean nothing any more. Its series stay, tracked as they were, until a
    /// scrape that succeeds shows which are left. Not while it is being scraped.
    pub fn forget_texts(&mut self, t: TargetRef, catalogue: &mut Catalogue) {
        let kept: alloc::vec::Vec<(usize, Seen)> = self.seen_of(t, catalogue).collect();
        self.remove_where(|item, _| item.target == t, |_, _| {}, catalogue);
        for (index, seen) in kept {
            self.series[index] = Seen { texts: 0, ..seen };
        }
        if let Some(target) = self.targets.get_mut(usize::from(t.0)) {
            target.settled = false;
        }
    }

    fn seen_of(&self, t: TargetRef, catalogue: &Catalogue) -> impl Iterator<Item = (usize, Seen)> {
        let all = self.series.iter().enumerate();
        all.filter(move |(index, _)| catalogue.target_of(SeriesRef(*index as u16)) == Some(t))
            .map(|(index, seen)| (index, *seen))
    }

    /// The frame of the finished scrape of `t` was appended as `last`, or lost while `last` was the newest: releases
    /// what is no longer needed. Frames up to `last` may refer to it.
    pub fn settle(&mut self, t: TargetRef, last: FrameNo, catalogue: &mut Catalogue) {
        if let Some(&target) = self.targets.get(usize::from(t.0))
            && target.unsettled
        {
            if target.seen != target.texts {
                let vanished = |item: &Item, _: &[Target]| item.target == t && item.mark & ROUND != target.round;
                self.remove_where(vanished, |catalogue, s| catalogue.release(s, last), catalogue);
            }
            if !target.settled {
                self.release_unowned(Some(t), last, catalogue);
            }
            self.targets[usize::from(t.0)].settled = true;
            self.targets[usize::from(t.0)].unsettled = false;
        }
        if self.pressure {
            self.pressure = false;
            let parked = |item: &Item, targets: &[Target]| {
                let target = targets[usize::from(item.target.0)];
                target.parked && !target.running
            };
            self.remove_where(parked, |catalogue, s| catalogue.release(s, last), catalogue);
            self.release_unowned(None, last, catalogue);
        }
    }

    /// A scrape failed for lack of room: the next [`SeriesTable::settle`] lets go of what can be spared, that is
    /// texts of targets whose last scrape failed and series that no text of this run means.
    pub fn note_pressure(&mut self) {
        self.pressure = true;
    }

    /// Target `t` is no more, or another one now: forgets its texts and releases its series. Not while it is being
    /// scraped.
    pub fn forget(&mut self, t: TargetRef, last: FrameNo, catalogue: &mut Catalogue) {
        self.remove_where(
            |item, _| item.target == t,
            |catalogue, s| catalogue.release(s, last),
            catalogue,
        );
        self.release_unowned(Some(t), last, catalogue);
        if let Some(target) = self.targets.get_mut(usize::from(t.0)) {
            *target = Target::default();
        }
    }

    /// Texts known now, those dropped by relabelling included.
    #[must_use]
    pub fn texts(&self) -> usize {
        self.texts
    }

    /// Texts it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.max_texts
    }

    /// Series of the last successful scrape of `t` that will be marked when they vanish.
    #[must_use]
    pub fn tracked(&self, t: TargetRef) -> usize {
        self.targets.get(usize::from(t.0)).map_or(0, |t| t.tracked as usize)
    }

    fn running_round(&self, t: TargetRef) -> Option<u8> {
        let target = self.targets.get(usize::from(t.0))?;
        target.running.then(|| next_round(target.round))
    }

    /// Place of the text, or the empty place where it would go.
    fn probe(&self, t: TargetRef, key: TextKey) -> usize {
        let halves = [(key.0 >> 32) as u32, key.0 as u32];
        let mut at = home(key.0, self.items.len());
        // Ends: a quarter of the table is always empty.
        while self.items[at].value != EMPTY && (self.items[at].hash, self.items[at].target) != (halves, t) {
            at += 1;
            if at == self.items.len() {
                at = 0;
            }
        }
        at
    }

    fn insert(&mut self, t: TargetRef, key: TextKey, value: u16) {
        let Some(round) = self.running_round(t) else { return };
        let at = self.probe(t, key);
        self.items[at] = Item {
            hash: [(key.0 >> 32) as u32, key.0 as u32],
            value,
            target: t,
            mark: round | FLAG,
        };
        self.texts += 1;
        let target = &mut self.targets[usize::from(t.0)];
        target.texts += 1;
        target.seen += 1;
    }

    /// Removes the texts that this round brought, and makes the others unseen, so that the round can be repeated.
    fn take_back(&mut self, t: TargetRef, round: u8, catalogue: &mut Catalogue) {
        self.remove_where(
            |item, _| item.target == t && item.mark == round | FLAG,
            |catalogue, s| catalogue.undefine(s),
            catalogue,
        );
        for item in &mut self.items {
            if item.value != EMPTY && item.target == t && item.mark == round {
                item.mark = 0;
            }
        }
    }

    /// Removes the texts for which `which` holds; `give_up` is called for series that no text means any more.
    fn remove_where(
        &mut self,
        which: impl Fn(&Item, &[Target]) -> bool,
        give_up: impl Fn(&mut Catalogue, SeriesRef),
        catalogue: &mut Catalogue,
    ) {
        let mut at = 0;
        while at < self.items.len() {
            let item = self.items[at];
            if item.value == EMPTY || !which(&item, &self.targets) {
                at += 1;
                continue;
            }
            // Another item may move up to `at`: look at it again.
            let len = self.items.len();
            remove_at(&mut self.items, at, NO_ITEM, |item| {
                (item.value != EMPTY).then(|| home(item.hash(), len))
            });
            self.texts -= 1;
            self.targets[usize::from(item.target.0)].texts -= 1;
            if item.value == DROPPED {
                self.dropped -= 1;
                continue;
            }
            let seen = &mut self.series[usize::from(item.value)];
            seen.texts -= 1;
            if seen.texts == 0 {
                *seen = Seen::default();
                if let Some(last) = self.exemplars.get_mut(usize::from(item.value)) {
                    *last = LastExemplar::default();
                }
                give_up(catalogue, SeriesRef(item.value));
            }
        }
    }

    /// Releases the live series, of one target or all, that no text means: what the ring remembered from an earlier run.
    fn release_unowned(&mut self, of: Option<TargetRef>, last: FrameNo, catalogue: &mut Catalogue) {
        for index in 0..self.series.len() {
            let s = SeriesRef(index as u16);
            if self.series[index].texts == 0 && catalogue.is_live(s) && (of.is_none() || catalogue.target_of(s) == of) {
                self.series[index] = Seen::default();
                catalogue.release(s, last);
            }
        }
    }
}

fn next_round(round: u8) -> u8 {
    if round >= ROUND { 1 } else { round + 1 }
}

/// Timestamp of the newest sample of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// Milliseconds since the Unix epoch; [`storable`].
    pub unix_ms: i64,
    /// The target wrote it; else it is that of the scrape.
    pub explicit: bool,
}

/// Bias that makes every storable timestamp a positive number of 47 bits: year -260 to 4199.
const BIAS: i64 = 1 << 46;

/// Bit of a packed timestamp: the target wrote it.
const EXPLICIT: i64 = 1 << 47;

/// Whether [`SeriesTable::set_newest`] can keep this timestamp.
#[must_use]
pub fn storable(unix_ms: i64) -> bool {
    unix_ms > -BIAS && unix_ms < BIAS
}

fn pack(newest: Newest) -> [u16; 3] {
    // Not negative and below 2^47 for what is storable.
    let word = newest.unix_ms.clamp(1 - BIAS, BIAS - 1) + BIAS;
    let word = if newest.explicit { word | EXPLICIT } else { word };
    [(word >> 32) as u16, (word >> 16) as u16, word as u16]
}

fn unpack(last: [u16; 3]) -> Option<Newest> {
    let word = last.iter().fold(0, |word, &part| word << 16 | i64::from(part));
    (word != 0).then(|| Newest {
        unix_ms: (word & !EXPLICIT) - BIAS,
        explicit: word & EXPLICIT != 0,
    })
}

#[cfg(test)]
mod tests;
