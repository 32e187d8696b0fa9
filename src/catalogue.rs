//! Names of the series and labels of the targets.
//!
//! One index space for all targets: a [`SeriesRef`] is an entry here, which says whose series it is, its name, its
//! labels and its type. Texts are kept as what they do not share with the series before (`texts`). The scrape side defines and releases entries; the ring writes those that are *dirty* (not yet defined in
//! the open segment) before the frames that use them; the sender reads texts.
//!
//! It does not know which series a scrape saw (`series`), nor the label rules (`scrape`): texts arrive canonical.
//!
//! # Life of an entry
//!
//! ```text
//! free --define--> live --release(last)--> dead --reclaim(before > last)--> free
//!                   |  ^------- define of the same text -------|
//!                   +--undefine--> free, or back to dead if frames may still refer to it
//! ```
//!
//! A dead entry keeps its text, because frames up to `last` still need it; only after [`Catalogue::reclaim`] may its
//! index mean another series. The same text defined again revives it.
//!
//! # Invariants
//!
//! - Nothing allocates after [`Catalogue::new`].
//! - A failed call changes nothing.
//! - An index is in use if and only if its text is in its group: from the order of those in use follows where.
//! - A free entry is never dirty; a dead one may be.
//!
//! # Limits and cost
//!
//! About 10 bytes per series plus the text arena, see [`Catalogue::ram_bytes`], and a buffer for one text; a text costs 3 bytes and what it
//! does not share with the one before (17 to 21 bytes in all in three exporters' captures). [`Catalogue::define`] and
//! [`Catalogue::find`] cost a few hash probes and a walk through a group of 32 texts; a definition may compact the arena
//! (every text is moved, amortised to 64 bytes per byte freed). [`Catalogue::reclaim`] reads every entry, but only
//! when it can free one. When full, calls fail with [`CatalogueFull`] and nothing is evicted. A series that is taken out while the arena
//! is full may have to stay until there is room for what the next one shared with it; its index waits as that of a dead one.
//!
//! Power loss leaves nothing here: the ring rebuilds a catalogue from its dictionary records with
//! [`Catalogue::define_at`].

pub(crate) mod bits;
mod names;
mod probe;
mod texts;

use crate::frame::FrameNo;
use crate::hash::hash64;
use crate::limits::{MAX_SERIES, MAX_SERIES_TEXT_BYTES, MAX_TARGETS};
use crate::sample::{MetricType, SeriesRef, TargetRef};
use alloc::boxed::Box;
use alloc::vec;
use bits::Bits;
pub use names::{Definition, Definitions, Names};
pub(crate) use probe::{home, remove_at, table_len};
use texts::{GROUP, NoRoom, Texts, len_of};

/// A series' name and labels as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesText<'a> {
    /// Metric name, unescaped.
    pub name: &'a str,
    /// Labels without the metric name and without braces: `a="b",c="d"`, sorted, values escaped.
    pub body: &'a str,
}

/// A definition does not fit; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogueFull {
    /// Every index is in use, or waits for the ring to let go of frames that refer to it.
    Series {
        /// Series over all targets.
        limit: usize,
    },
    /// The arena of names and labels is full.
    Text {
        /// Bytes of the arena.
        limit: usize,
    },
    /// One name or label body is too long.
    TextTooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// The target's index is not below the number of targets.
    Targets {
        /// Targets.
        limit: usize,
    },
}

impl core::fmt::Display for CatalogueFull {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Series { limit } => write!(f, "all {limit} series are in use (tidegate.memory.max_series)"),
            Self::Text { limit } => write!(
                f,
                "names and labels need more than {limit} bytes (grows with tidegate.memory.max_series)"
            ),
            Self::TextTooLong { bytes } => write!(
                f,
                "series name or labels are {bytes} bytes, limit is {MAX_SERIES_TEXT_BYTES}"
            ),
            Self::Targets { limit } => write!(f, "target is beyond the {limit} there is room for"),
        }
    }
}

impl core::error::Error for CatalogueFull {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free = 0,
    Live = 1,
    Dead = 2,
}

/// No series; also the empty place of the lookup table.
const NONE: u16 = u16::MAX;

/// 7 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Upper 16 bits of the hash of target, name and body, little-endian.
    tag: [u8; 2],
    /// Low 24 bits of the last frame that may refer to it; compared in sequence arithmetic.
    last: [u8; 3],
    target: TargetRef,
    /// From the lowest bit: type (3 bits), state (2), flags.
    packed: u8,
}

/// The entry was dead once and frames up to `last` may refer to it.
const REFERRED: u8 = 0x20;
/// The index has a new meaning since [`Catalogue::take_fresh`].
const FRESH: u8 = 0x40;
/// Dead, and no frame refers to it: its text could not be taken out when it was to be.
const STUCK: u8 = 0x80;

const KIND_BITS: u8 = 0x07;
const STATE_BITS: u8 = 0x18;
const STATE_SHIFT: u32 = 3;

const FREE: Entry = Entry {
    tag: [0; 2],
    last: [0; 3],
    target: TargetRef(0),
    packed: (State::Free as u8) << STATE_SHIFT | MetricType::Unknown as u8,
};

impl Entry {
    const fn state(&self) -> State {
        match (self.packed & STATE_BITS) >> STATE_SHIFT {
            1 => State::Live,
            2 => State::Dead,
            _ => State::Free,
        }
    }

    const fn set_state(&mut self, state: State) {
        self.packed = self.packed & !STATE_BITS | (state as u8) << STATE_SHIFT;
    }

    const fn kind(&self) -> MetricType {
        MetricType::from_byte(self.packed & KIND_BITS)
    }

    const fn set_kind(&mut self, kind: MetricType) {
        self.packed = self.packed & !KIND_BITS | kind as u8 & KIND_BITS;
    }

    const fn set_last(&mut self, last: FrameNo) {
        let [a, b, c, ..] = last.0.to_le_bytes();
        self.last = [a, b, c];
    }

    /// Whether the last frame is before `frame`. Sequence arithmetic: right as long as that is less than 2^23 frames ahead, and
    /// staging holds far fewer.
    const fn is_before(&self, frame: FrameNo) -> bool {
        let [a, b, c] = self.last;
        // In the upper 24 bits, so that the sign shows.
        let last = u32::from_le_bytes([0, a, b, c]);
        ((frame.0 as u32) << 8).wrapping_sub(last) as i32 > 0
    }
}

/// Names of series and labels of targets.
#[derive(Debug)]
pub struct Catalogue {
    texts: Texts,
    entries: Box<[Entry]>,
    /// Series by the tag of (target, name, body): open addressing over [`SeriesRef`] numbers.
    lookup: Box<[u16]>,
    targets: usize,
    seed: u64,
    /// Entries that are not free.
    used: Bits,
    dirty: Bits,
    dirty_targets: Bits,
    live: usize,
    dead: usize,
    generation: u32,
}

impl Catalogue {
    /// A catalogue for `max_series` series with `text_bytes` of names and labels, of `max_targets` targets.
    ///
    /// The only call that allocates: [`Catalogue::ram_bytes`] says how much. `max_series` beyond
    /// [`MAX_SERIES`] and `max_targets` beyond [`MAX_TARGETS`] are reduced to these.
    #[must_use]
    pub fn new(max_series: usize, text_bytes: usize, max_targets: usize) -> Self {
        Self::seeded(max_series, text_bytes, max_targets, 0)
    }

    /// [`Catalogue::new`] with a seed for its hashes, from the host's random source: targets choose the texts, and
    /// with a seed they do not know they cannot choose texts that collide.
    #[must_use]
    pub fn seeded(max_series: usize, text_bytes: usize, max_targets: usize, seed: u64) -> Self {
        let series = max_series.min(MAX_SERIES);
        let targets = max_targets.min(MAX_TARGETS);
        Self {
            texts: Texts::new(text_bytes, series, targets),
            entries: vec![FREE; series].into_boxed_slice(),
            lookup: vec![NONE; table_len(series)].into_boxed_slice(),
            targets,
            seed,
            used: Bits::new(series),
            dirty: Bits::new(series),
            dirty_targets: Bits::new(targets),
            live: 0,
            dead: 0,
            generation: 0,
        }
    }

    /// Exact heap bytes of a catalogue of these sizes.
    #[must_use]
    pub const fn ram_bytes(max_series: usize, text_bytes: usize, max_targets: usize) -> usize {
        let series = if max_series > MAX_SERIES {
            MAX_SERIES
        } else {
            max_series
        };
        let targets = if max_targets > MAX_TARGETS {
            MAX_TARGETS
        } else {
            max_targets
        };
        Texts::ram_bytes(text_bytes, series, targets)
            + series * size_of::<Entry>()
            + table_len(series) * size_of::<u16>()
            + 2 * Bits::ram_bytes(series)
            + Bits::ram_bytes(targets)
    }

    /// Gives target `t` its labels: canonical body text, `instance="..",job=".."`. Marks the target dirty if that
    /// is news.
    ///
    /// The series of `t` stay: their bodies hold only what differs. Changing the body of a target changes the labels
    /// of its frames that are not yet sent, so the caller lets those leave first.
    ///
    /// # Errors
    /// [`CatalogueFull::Targets`], [`CatalogueFull::Text`], [`CatalogueFull::TextTooLong`].
    pub fn set_target(&mut self, t: TargetRef, body: &str) -> Result<(), CatalogueFull> {
        let index = usize::from(t.0);
        if index >= self.targets {
            return Err(CatalogueFull::Targets { limit: self.targets });
        }
        if body.len() > MAX_SERIES_TEXT_BYTES {
            return Err(CatalogueFull::TextTooLong { bytes: body.len() });
        }
        if self.texts.target(index) != Some(body) {
            self.texts.set_target(index, body).map_err(|_| self.text_full())?;
            self.dirty_targets.put(index, true);
        }
        Ok(())
    }

    /// Labels of target `t` as given to [`Catalogue::set_target`]; empty if it was not.
    #[must_use]
    pub fn target_body(&self, t: TargetRef) -> &str {
        self.texts.target(usize::from(t.0)).unwrap_or_default()
    }

    /// The live series of target `t` with this text.
    #[must_use]
    pub fn find(&mut self, t: TargetRef, text: SeriesText<'_>) -> Option<SeriesRef> {
        let s = self.find_used(t, text)?;
        (self.entry(s)?.state() == State::Live).then_some(s)
    }

    /// The series of target `t` with this text: the one that is there, or a new one at the lowest free index.
    ///
    /// Marks the entry dirty if it is new or its type is.
    ///
    /// # Errors
    /// [`CatalogueFull`]; nothing is changed.
    pub fn define(&mut self, t: TargetRef, text: SeriesText<'_>, kind: MetricType) -> Result<SeriesRef, CatalogueFull> {
        if let Some(s) = self.find_used(t, text) {
            self.revive(s);
            self.set_kind(s, kind);
            return Ok(s);
        }
        let Some(index) = self.used.next_clear(0) else {
            return Err(CatalogueFull::Series {
                limit: self.entries.len(),
            });
        };
        // Below `MAX_SERIES`, which is below 2^16.
        let s = SeriesRef(index as u16);
        self.put_text(s, false, text)?;
        self.occupy(s, t, self.tag(t, text), kind);
        self.dirty.put(index, true);
        Ok(s)
    }

    /// Makes index `s` mean this series, whatever it meant before; leaves it clean. For rebuilding a catalogue from
    /// dictionary records. Returns whether a different series was replaced.
    ///
    /// # Errors
    /// [`CatalogueFull`], `Series` also when `s` is beyond the capacity; nothing is changed.
    pub fn define_at(
        &mut self,
        s: SeriesRef,
        t: TargetRef,
        text: SeriesText<'_>,
        kind: MetricType,
    ) -> Result<bool, CatalogueFull> {
        let index = usize::from(s.0);
        let Some(entry) = self.entry(s).copied() else {
            return Err(CatalogueFull::Series {
                limit: self.entries.len(),
            });
        };
        let in_use = entry.state() != State::Free;
        if in_use && entry.target == t && self.text(s) == Some(text) {
            self.revive(s);
            self.set_kind(s, kind);
            self.dirty.put(index, false);
            return Ok(false);
        }
        self.put_text(s, in_use, text)?;
        if in_use {
            self.vacate(s);
        }
        self.occupy(s, t, self.tag(t, text), kind);
        Ok(in_use)
    }

    /// Series `s` has ended; `last` is the last frame that may refer to it. Its index can be used again once
    /// [`Catalogue::reclaim`] was called with a later frame.
    pub fn release(&mut self, s: SeriesRef, last: FrameNo) {
        if let Some(entry) = self.entries.get_mut(usize::from(s.0))
            && entry.state() == State::Live
        {
            entry.set_state(State::Dead);
            entry.packed |= REFERRED;
            entry.set_last(last);
            self.live -= 1;
            self.dead += 1;
        }
    }

    /// Takes back a [`Catalogue::define`] of a scrape that came to nothing: no frame since refers to `s`.
    pub fn undefine(&mut self, s: SeriesRef) {
        match self.entry(s).copied() {
            Some(entry) if entry.state() == State::Live && entry.packed & REFERRED != 0 => {
                self.entries[usize::from(s.0)].set_state(State::Dead);
                self.live -= 1;
                self.dead += 1;
            }
            Some(entry) if entry.state() == State::Live && !self.free(s) => {
                let entry = &mut self.entries[usize::from(s.0)];
                entry.set_state(State::Dead);
                entry.packed |= STUCK;
                self.live -= 1;
                self.dead += 1;
            }
            _ => {}
        }
    }

    /// Frees the dead entries whose last frame is before `before`: every frame below it has left staging, whether
    /// acknowledged or committed.
    pub fn reclaim(&mut self, before: FrameNo) {
        let mut from = 0;
        while self.dead > 0
            && let Some(index) = self.used.next_set(from)
        {
            from = index + 1;
            let entry = self.entries[index];
            if entry.state() == State::Dead && (entry.packed & STUCK != 0 || entry.is_before(before)) {
                // If there is no room to take its text out, it waits for more.
                self.free(SeriesRef(index as u16));
            }
        }
    }

    /// Name and labels of `s`, also while it is dead; `None` once it is free.
    #[must_use]
    pub fn text(&mut self, s: SeriesRef) -> Option<SeriesText<'_>> {
        self.in_use(s)?;
        let (group, nth) = self.place(s);
        self.texts.text(group, nth)
    }

    /// Bytes of name and labels of `s`; 0 once it is free.
    #[must_use]
    pub fn text_len(&self, s: SeriesRef) -> usize {
        let (group, nth) = self.place(s);
        match self.in_use(s) {
            Some(_) => self.texts.text_len(group, nth).saturating_sub(1),
            None => 0,
        }
    }

    /// All that is known of `s`, with the labels of target `t`; `None` once it is free.
    #[must_use]
    pub fn definition(&mut self, s: SeriesRef, t: TargetRef) -> Option<Definition<'_>> {
        let entry = *self.in_use(s)?;
        let (group, nth) = self.place(s);
        let (text, target_body) = self.texts.text_and_target(group, nth, t.0.into())?;
        Some(Definition {
            text,
            kind: entry.kind(),
            target: entry.target,
            target_body,
        })
    }

    /// Metric type of `s` as of its definition.
    #[must_use]
    pub fn kind(&self, s: SeriesRef) -> MetricType {
        self.in_use(s).map_or(MetricType::Unknown, Entry::kind)
    }

    /// Whose series `s` is; `None` if it is free.
    #[must_use]
    pub fn target_of(&self, s: SeriesRef) -> Option<TargetRef> {
        self.in_use(s).map(|entry| entry.target)
    }

    /// Whether `s` is live: defined, and not released since.
    #[must_use]
    pub fn is_live(&self, s: SeriesRef) -> bool {
        self.entry(s).is_some_and(|entry| entry.state() == State::Live)
    }

    /// Changes whenever a series comes, goes or gets another type: what was looked up by text may be out of date.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// True once after index `s` got a new meaning by [`Catalogue::define`] or [`Catalogue::define_at`]: what an
    /// encoder or decoder knows about the index is about another series. A revived series keeps its meaning.
    pub fn take_fresh(&mut self, s: SeriesRef) -> bool {
        self.entries.get_mut(usize::from(s.0)).is_some_and(|entry| {
            let fresh = entry.packed & FRESH != 0;
            entry.packed &= !FRESH;
            fresh
        })
    }

    /// The first series at or above `from` whose definition is not in the open segment.
    #[must_use]
    pub fn next_dirty(&self, from: usize) -> Option<SeriesRef> {
        self.dirty.next_set(from).map(|index| SeriesRef(index as u16))
    }

    /// Whether the definition of `s` is not in the open segment.
    #[must_use]
    pub fn is_dirty(&self, s: SeriesRef) -> bool {
        self.dirty.has(usize::from(s.0))
    }

    /// The definition of `s` is in the open segment.
    pub fn mark_clean(&mut self, s: SeriesRef) {
        self.dirty.put(usize::from(s.0), false);
    }

    /// The first target at or above `from` whose labels are not in the open segment.
    #[must_use]
    pub fn next_dirty_target(&self, from: usize) -> Option<TargetRef> {
        // Targets are at most `MAX_TARGETS`, which fits a byte.
        self.dirty_targets.next_set(from).map(|index| TargetRef(index as u8))
    }

    /// Whether the labels of `t` are not in the open segment.
    #[must_use]
    pub fn is_target_dirty(&self, t: TargetRef) -> bool {
        self.dirty_targets.has(usize::from(t.0))
    }

    /// The labels of `t` are in the open segment.
    pub fn mark_target_clean(&mut self, t: TargetRef) {
        self.dirty_targets.put(usize::from(t.0), false);
    }

    /// A segment begins: nothing is defined in it yet. Dead entries count, staged frames may refer to them.
    pub fn mark_all_dirty(&mut self) {
        for index in 0..self.entries.len() {
            self.dirty.put(index, self.used.has(index));
        }
        for index in 0..self.targets {
            self.dirty_targets.put(index, self.texts.target(index).is_some());
        }
    }

    /// Forgets every series and target.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.entries.fill(FREE);
        self.lookup.fill(NONE);
        self.used.clear();
        self.dirty.clear();
        self.dirty_targets.clear();
        self.live = 0;
        self.dead = 0;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Live series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is no live series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Dead series whose index waits for [`Catalogue::reclaim`].
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.dead
    }

    /// Series it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of names and labels in use, what they take beside themselves included.
    ///
    /// All definitions written one after the other, each as its difference from the one before, take no more with one byte each
    /// for the type.
    #[must_use]
    pub const fn text_bytes_used(&self) -> usize {
        self.texts.used()
    }

    fn entry(&self, s: SeriesRef) -> Option<&Entry> {
        self.entries.get(usize::from(s.0))
    }

    fn in_use(&self, s: SeriesRef) -> Option<&Entry> {
        self.entry(s).filter(|entry| entry.state() != State::Free)
    }

    /// [`Catalogue::find`], dead series too: frames may still refer to them.
    pub(crate) fn find_used(&mut self, t: TargetRef, text: SeriesText<'_>) -> Option<SeriesRef> {
        let tag = self.tag(t, text);
        let mut at = self.home(tag);
        // Ends: a quarter of the table is always empty.
        while self.lookup[at] != NONE {
            let s = SeriesRef(self.lookup[at]);
            let entry = self.entries[usize::from(s.0)];
            if entry.tag == tag && entry.target == t {
                let (group, nth) = self.place(s);
                if self.texts.is(group, nth, text) {
                    return Some(s);
                }
            }
            at = (at + 1) % self.lookup.len();
        }
        None
    }

    fn tag(&self, t: TargetRef, text: SeriesText<'_>) -> [u8; 2] {
        let name = hash64(self.seed ^ u64::from(t.0), text.name.as_bytes());
        ((hash64(name, text.body.as_bytes()) >> 48) as u16).to_le_bytes()
    }

    fn home(&self, tag: [u8; 2]) -> usize {
        lookup_home(tag, self.lookup.len())
    }

    /// Where the text of `s` is, or would be: group, and place in it.
    fn place(&self, s: SeriesRef) -> (usize, usize) {
        let index = usize::from(s.0);
        (index / GROUP, self.used.count(index - index % GROUP, index))
    }

    fn text_full(&self) -> CatalogueFull {
        CatalogueFull::Text {
            limit: self.texts.capacity(),
        }
    }

    fn revive(&mut self, s: SeriesRef) {
        let entry = &mut self.entries[usize::from(s.0)];
        if entry.state() == State::Dead {
            entry.set_state(State::Live);
            entry.packed &= !STUCK;
            self.dead -= 1;
            self.live += 1;
        }
    }

    fn set_kind(&mut self, s: SeriesRef, kind: MetricType) {
        let entry = &mut self.entries[usize::from(s.0)];
        if entry.kind() != kind {
            entry.set_kind(kind);
            self.generation = self.generation.wrapping_add(1);
            self.dirty.put(usize::from(s.0), true);
        }
    }

    /// Makes `text` that of `s`, which has one if it `replaces` one.
    fn put_text(&mut self, s: SeriesRef, replaces: bool, text: SeriesText<'_>) -> Result<(), CatalogueFull> {
        let longer = text.name.len().max(text.body.len());
        let bytes = if longer > MAX_SERIES_TEXT_BYTES {
            longer
        } else {
            len_of(text) - 1
        };
        if bytes > MAX_SERIES_TEXT_BYTES {
            return Err(CatalogueFull::TextTooLong { bytes });
        }
        let (group, nth) = self.place(s);
        let put = self.texts.put(group, nth, replaces, text);
        put.map_err(|NoRoom| self.text_full())
    }

    /// Puts `s`, whose entry is filled, into the lookup table.
    fn look_up_as(&mut self, s: SeriesRef) {
        let mut at = self.home(self.entries[usize::from(s.0)].tag);
        while self.lookup[at] != NONE {
            at = (at + 1) % self.lookup.len();
        }
        self.lookup[at] = s.0;
    }

    /// Fills the free entry `s`, whose text is there.
    fn occupy(&mut self, s: SeriesRef, target: TargetRef, tag: [u8; 2], kind: MetricType) {
        let index = usize::from(s.0);
        let mut entry = Entry { tag, target, ..FREE };
        entry.set_kind(kind);
        entry.set_state(State::Live);
        entry.packed |= FRESH;
        self.entries[index] = entry;
        self.look_up_as(s);
        self.used.put(index, true);
        self.live += 1;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Frees entry `s`, which is live or dead. False: there is no room for its neighbour's text without it; nothing was changed.
    fn free(&mut self, s: SeriesRef) -> bool {
        let (group, nth) = self.place(s);
        if self.texts.remove(group, nth).is_err() {
            return false;
        }
        self.vacate(s);
        true
    }

    /// Empties entry `s`, which is live or dead and has lost its text.
    fn vacate(&mut self, s: SeriesRef) {
        let index = usize::from(s.0);
        let entry = self.entries[index];
        let mut at = self.home(entry.tag);
        // Two indices may have the same text in a catalogue rebuilt from records: look for this one.
        while self.lookup[at] != s.0 && self.lookup[at] != NONE {
            at = (at + 1) % self.lookup.len();
        }
        let (entries, len) = (&self.entries, self.lookup.len());
        remove_at(&mut self.lookup, at, NONE, |&other| {
            Some(lookup_home(entries.get(usize::from(other))?.tag, len))
        });
        match entry.state() {
            State::Live => self.live -= 1,
            State::Dead => self.dead -= 1,
            State::Free => {}
        }
        self.entries[index] = FREE;
        self.generation = self.generation.wrapping_add(1);
        self.used.put(index, false);
        self.dirty.put(index, false);
    }
}

/// Tags are evenly spread over 16 bits.
const fn lookup_home(tag: [u8; 2], len: usize) -> usize {
    (u16::from_le_bytes(tag) as usize * len) >> 16
}

#[cfg(test)]
mod tests;
