//! Names of the series and labels of the targets.
//!
//! One index space for all targets: a [`SeriesRef`] is an entry here, which says whose series it is, its name, its
//! labels and its type. Names and label bodies are interned with reference counts, so a histogram's name is kept
//! once. The scrape side defines and releases entries; the ring writes those that are *dirty* (not yet defined in
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
//! - A free entry is never dirty; a dead one may be.
//!
//! # Limits and cost
//!
//! About 15.5 bytes per series plus the text arena, see [`Catalogue::ram_bytes`]; a text costs its length plus 7 bytes
//! once. [`Catalogue::define`] and [`Catalogue::find`] cost a few hash probes; a definition may compact the arena
//! (every text is moved and hashed again, amortised to 64 bytes per byte freed). [`Catalogue::reclaim`] reads every entry, but only
//! when it can free one. When full, calls fail with [`CatalogueFull`] and nothing is evicted.
//!
//! Power loss leaves nothing here: the ring rebuilds a catalogue from its dictionary records with
//! [`Catalogue::define_at`].

pub(crate) mod bits;
mod interner;
mod names;
mod probe;

use crate::frame::FrameNo;
use crate::limits::{MAX_SERIES, MAX_SERIES_TEXT_BYTES, MAX_TARGETS};
use crate::sample::{MetricType, SeriesRef, TargetRef};
use alloc::boxed::Box;
use alloc::vec;
use bits::Bits;
use interner::{Interner, Text};
pub use names::{Definition, Definitions, Names};
pub(crate) use probe::{home, remove_at, table_len};

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

/// 11 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Text,
    body: Text,
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

const KIND_BITS: u8 = 0x07;
const STATE_BITS: u8 = 0x18;
const STATE_SHIFT: u32 = 3;

const FREE: Entry = Entry {
    name: Text::NONE,
    body: Text::NONE,
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
    texts: Interner,
    entries: Box<[Entry]>,
    /// Series by (target, name, body): open addressing over [`SeriesRef`] numbers.
    lookup: Box<[u16]>,
    /// Text of each target, [`Text::NONE`] if unset.
    targets: Box<[Text]>,
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
            texts: Interner::new(text_bytes, buckets(series), seed),
            entries: vec![FREE; series].into_boxed_slice(),
            lookup: vec![NONE; table_len(series)].into_boxed_slice(),
            targets: vec![Text::NONE; targets].into_boxed_slice(),
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
        Interner::ram_bytes(text_bytes, buckets(series))
            + series * size_of::<Entry>()
            + table_len(series) * size_of::<u16>()
            + targets * size_of::<Text>()
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
        if index >= self.targets.len() {
            return Err(CatalogueFull::Targets {
                limit: self.targets.len(),
            });
        }
        self.make_room(self.texts.growth(body));
        let new = self.intern(body)?;
        let old = core::mem::replace(&mut self.targets[index], new);
        if new != old {
            self.dirty_targets.put(index, true);
        }
        self.texts.release(old);
        Ok(())
    }

    /// Labels of target `t` as given to [`Catalogue::set_target`]; empty if it was not.
    #[must_use]
    pub fn target_body(&self, t: TargetRef) -> &str {
        self.targets
            .get(usize::from(t.0))
            .map_or("", |&body| self.texts.text(body))
    }

    /// The live series of target `t` with this text.
    #[must_use]
    pub fn find(&self, t: TargetRef, text: SeriesText<'_>) -> Option<SeriesRef> {
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
        let (name, body) = self.intern_text(text)?;
        self.occupy(s, t, (name, body), kind);
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
        let ids = self.intern_text(text)?;
        if in_use {
            self.free(s);
        }
        self.occupy(s, t, ids, kind);
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
            Some(entry) if entry.state() == State::Live => self.free(s),
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
            if entry.state() == State::Dead && entry.is_before(before) {
                self.free(SeriesRef(index as u16));
            }
        }
    }

    /// Name and labels of `s`, also while it is dead; `None` once it is free.
    #[must_use]
    pub fn text(&self, s: SeriesRef) -> Option<SeriesText<'_>> {
        let entry = self.in_use(s)?;
        Some(SeriesText {
            name: self.texts.text(entry.name),
            body: self.texts.text(entry.body),
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

    /// The labels of `t` are in the open segment.
    pub fn mark_target_clean(&mut self, t: TargetRef) {
        self.dirty_targets.put(usize::from(t.0), false);
    }

    /// A segment begins: nothing is defined in it yet. Dead entries count, staged frames may refer to them.
    pub fn mark_all_dirty(&mut self) {
        for index in 0..self.entries.len() {
            self.dirty.put(index, self.used.has(index));
        }
        for (index, &body) in self.targets.iter().enumerate() {
            self.dirty_targets.put(index, body != Text::NONE);
        }
    }

    /// Forgets every series and target.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.entries.fill(FREE);
        self.lookup.fill(NONE);
        self.targets.fill(Text::NONE);
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

    /// Bytes of names and labels in use, 7 per text included.
    #[must_use]
    pub fn text_bytes_used(&self) -> usize {
        self.texts.used()
    }

    fn entry(&self, s: SeriesRef) -> Option<&Entry> {
        self.entries.get(usize::from(s.0))
    }

    fn in_use(&self, s: SeriesRef) -> Option<&Entry> {
        self.entry(s).filter(|entry| entry.state() != State::Free)
    }

    /// [`Catalogue::find`], dead series too: frames may still refer to them.
    pub(crate) fn find_used(&self, t: TargetRef, text: SeriesText<'_>) -> Option<SeriesRef> {
        let name = self.texts.find(text.name)?;
        let body = self.texts.find(text.body)?;
        let mut at = self.home(t, name, body);
        // Ends: a quarter of the table is always empty.
        while self.lookup[at] != NONE {
            let s = SeriesRef(self.lookup[at]);
            let entry = self.entries[usize::from(s.0)];
            if (entry.target, entry.name, entry.body) == (t, name, body) {
                return Some(s);
            }
            at = (at + 1) % self.lookup.len();
        }
        None
    }

    fn home(&self, t: TargetRef, name: Text, body: Text) -> usize {
        lookup_home(t, name, body, self.lookup.len())
    }

    fn revive(&mut self, s: SeriesRef) {
        let entry = &mut self.entries[usize::from(s.0)];
        if entry.state() == State::Dead {
            entry.set_state(State::Live);
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

    fn intern(&mut self, text: &str) -> Result<Text, CatalogueFull> {
        if text.len() > MAX_SERIES_TEXT_BYTES {
            return Err(CatalogueFull::TextTooLong { bytes: text.len() });
        }
        self.texts.intern(text).map_err(|_| CatalogueFull::Text {
            limit: self.texts.capacity(),
        })
    }

    fn intern_text(&mut self, text: SeriesText<'_>) -> Result<(Text, Text), CatalogueFull> {
        self.make_room(self.texts.growth(text.name) + self.texts.growth(text.body));
        let name = self.intern(text.name)?;
        match self.intern(text.body) {
            Ok(body) => Ok((name, body)),
            Err(error) => {
                self.texts.release(name);
                Err(error)
            }
        }
    }

    /// Moves the texts together if that makes room for `bytes` more. Every place of a text is another afterwards.
    fn make_room(&mut self, bytes: usize) {
        if !self.texts.wants_compaction(bytes) {
            return;
        }
        self.texts.plan();
        self.lookup.fill(NONE);
        for index in 0..self.entries.len() {
            let entry = &mut self.entries[index];
            if entry.state() != State::Free {
                entry.name = self.texts.moved(entry.name);
                entry.body = self.texts.moved(entry.body);
                self.look_up_as(SeriesRef(index as u16));
            }
        }
        for body in &mut self.targets {
            *body = self.texts.moved(*body);
        }
        self.texts.slide();
    }

    /// Puts `s`, whose entry is filled, into the lookup table.
    fn look_up_as(&mut self, s: SeriesRef) {
        let Entry { target, name, body, .. } = self.entries[usize::from(s.0)];
        let mut at = self.home(target, name, body);
        while self.lookup[at] != NONE {
            at = (at + 1) % self.lookup.len();
        }
        self.lookup[at] = s.0;
    }

    /// Fills the free entry `s`, taking over the references to its texts.
    fn occupy(&mut self, s: SeriesRef, target: TargetRef, (name, body): (Text, Text), kind: MetricType) {
        let index = usize::from(s.0);
        let mut entry = Entry {
            name,
            body,
            target,
            ..FREE
        };
        entry.set_kind(kind);
        entry.set_state(State::Live);
        entry.packed |= FRESH;
        self.entries[index] = entry;
        self.look_up_as(s);
        self.used.put(index, true);
        self.live += 1;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Frees entry `s`, which is live or dead.
    fn free(&mut self, s: SeriesRef) {
        let index = usize::from(s.0);
        let entry = self.entries[index];
        let mut at = self.home(entry.target, entry.name, entry.body);
        // Two indices may have the same text in a catalogue rebuilt from records: look for this one.
        while self.lookup[at] != s.0 && self.lookup[at] != NONE {
            at = (at + 1) % self.lookup.len();
        }
        let (entries, len) = (&self.entries, self.lookup.len());
        remove_at(&mut self.lookup, at, NONE, |&other| {
            let entry = entries.get(usize::from(other))?;
            Some(lookup_home(entry.target, entry.name, entry.body, len))
        });
        self.texts.release(entry.name);
        self.texts.release(entry.body);
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

fn lookup_home(t: TargetRef, name: Text, body: Text, len: usize) -> usize {
    let key = u64::from(t.0) << 48 | u64::from(name.number()) << 24 | u64::from(body.number());
    let mixed = key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    home((mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15), len)
}

/// Buckets of the texts: there are about as many texts as series, and the walk through a chain of two is short.
const fn buckets(series: usize) -> usize {
    series / 2 + 1
}

#[cfg(test)]
mod tests;
