//! What targets say about their metric families: type, help, unit.
//!
//! A bounded map from (target, family) to the last TYPE, HELP and UNIT seen. The scrape fills it, the status port and the
//! sender's metadata read it. It is never on flash: the next scrape brings it again.
//!
//! Entries outlive their family by [`KEPT_SCRAPES`] successful scrapes of their target (SCR-845). What a scrape says counts even
//! if the scrape fails later on, as in Prometheus.
//!
//! # Layout of the arena
//!
//! ```text
//! | slot u16 | bytes u16 | family unit help | slot u16 | ...      tail -> | unused
//!   slot 0xFFFF: hole
//! ```
//!
//! # Invariants
//!
//! - Nothing allocates after [`Metadata::new`].
//! - Blocks are gapless from 0 to `tail`; `live` is the sum of the sizes of those that are not holes.
//! - A used slot points at exactly one block, and that block names the slot.
//!
//! # Limits and cost
//!
//! [`Metadata::ram_bytes`]: the texts and about 16 bytes per family. When full, a family (or the new text of one) is not kept
//! and [`Metadata::refused`] counts it; nothing is evicted. Long texts are cut to [`MAX_TEXT_BYTES`]. A line that says what is known costs one hash, or none if it
//! follows another one of its family. Compacting copies at most 64 bytes per new byte. Families come from targets: the seed of
//! the hash comes from the host's random source.
//!
//! Source: SCR-845.

use crate::catalogue::{home, remove_at, table_len};
use crate::hash::hash64;
use crate::sample::{MetricType, TargetRef};
use alloc::boxed::Box;
use alloc::vec;

/// Successful scrapes without the family after which its entry goes is one more than this (SCR-845).
pub const KEPT_SCRAPES: u8 = 10;

/// Bytes of a family's name at most; families with longer ones are not kept.
pub const MAX_FAMILY_BYTES: usize = 1024;

/// Bytes of a help text or unit that are kept; the rest is cut off. A page of the status port and a metadata request hold a
/// few of the longest.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Bytes in front of every block.
const HEADER: usize = 4;

/// No slot: an empty place of the table, the end of the free list, a hole.
const NONE: u16 = u16::MAX;

/// Holes must be at least one part in this many of the arena before it is compacted.
const COMPACT_PARTS: usize = 64;

/// What is known of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its type.
    pub kind: MetricType,
    /// Its help text, unescaped; may be empty.
    pub help: &'a str,
    /// Its unit; may be empty.
    pub unit: &'a str,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Of the block; the next free slot's number while `family` is 0.
    offset: u32,
    /// Bytes of the texts. No family is 0 bytes long: that is a free slot.
    family: u16,
    unit: u16,
    help: u16,
    target: TargetRef,
    kind: MetricType,
    /// Scrapes since the family was seen, plus one; 0 while the scrape that sees it runs.
    age: u8,
}

const FREE: Slot = Slot {
    offset: 0,
    family: 0,
    unit: 0,
    help: 0,
    target: TargetRef(0),
    kind: MetricType::Unknown,
    age: 0,
};

impl Slot {
    /// Bytes of the block.
    fn size(&self) -> usize {
        HEADER + usize::from(self.family) + usize::from(self.unit) + usize::from(self.help)
    }
}

/// One of the three texts of a block, or none that changes.
#[derive(Clone, Copy)]
enum Change<'a> {
    Kind(MetricType),
    Help(&'a str),
    Unit(&'a str),
}

/// Types, helps and units of families, per target.
#[derive(Debug)]
pub struct Metadata {
    arena: Box<[u8]>,
    tail: usize,
    live: usize,
    slots: Box<[Slot]>,
    /// Open addressing, linear probing, a quarter always empty.
    table: Box<[u16]>,
    free: u16,
    len: usize,
    /// The entry noted last: HELP and TYPE of a family follow each other.
    last: u16,
    refused: u64,
    seed: u64,
}

impl Metadata {
    /// Room for `max_families` families (at most 65,534) whose texts take `text_bytes`; either 0: none are kept. The only call
    /// that allocates.
    #[must_use]
    pub fn new(text_bytes: usize, max_families: usize) -> Self {
        Self::seeded(text_bytes, max_families, 0)
    }

    /// As [`Metadata::new`], with a seed from the host's random source.
    #[must_use]
    pub fn seeded(text_bytes: usize, max_families: usize, seed: u64) -> Self {
        let families = bounded(text_bytes, max_families);
        let mut this = Self {
            arena: vec![0; if families == 0 { 0 } else { text_bytes }].into_boxed_slice(),
            tail: 0,
            live: 0,
            slots: vec![FREE; families].into_boxed_slice(),
            table: vec![NONE; table_len(families)].into_boxed_slice(),
            free: NONE,
            len: 0,
            last: NONE,
            refused: 0,
            seed,
        };
        for (index, slot) in this.slots.iter_mut().enumerate().rev() {
            slot.offset = this.free.into();
            // Below `NONE` by `bounded`.
            this.free = index as u16;
        }
        this
    }

    /// Exact heap bytes of such a map.
    #[must_use]
    pub const fn ram_bytes(text_bytes: usize, max_families: usize) -> usize {
        match bounded(text_bytes, max_families) {
            0 => table_len(0) * size_of::<u16>(),
            families => text_bytes + families * size_of::<Slot>() + table_len(families) * size_of::<u16>(),
        }
    }

    /// Target `t` says that `family` has this type.
    pub fn note_type(&mut self, t: TargetRef, family: &str, kind: MetricType) {
        self.note(t, family, Change::Kind(kind));
    }

    /// Target `t` says this about `family`.
    pub fn note_help(&mut self, t: TargetRef, family: &str, help: &str) {
        self.note(t, family, Change::Help(cut(help)));
    }

    /// Target `t` says that `family` has this unit.
    pub fn note_unit(&mut self, t: TargetRef, family: &str, unit: &str) {
        self.note(t, family, Change::Unit(cut(unit)));
    }

    /// A scrape of `t` with a body has ended; only one that succeeded makes families older.
    pub fn end_scrape(&mut self, t: TargetRef, succeeded: bool) {
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { return };
            if slot.family == 0 || slot.target != t {
                continue;
            }
            match slot.age {
                // A failed scrape saw the family, too.
                0 => slot.age = 1,
                age if !succeeded => slot.age = age,
                age if age > KEPT_SCRAPES => self.remove(index as u16),
                age => slot.age = age + 1,
            }
        }
    }

    /// Target `t` is no more.
    pub fn forget(&mut self, t: TargetRef) {
        for index in 0..self.slots.len() {
            if self
                .slots
                .get(index)
                .is_some_and(|slot| slot.family > 0 && slot.target == t)
            {
                self.remove(index as u16);
            }
        }
    }

    /// What some target says of `family`: the first one that says anything.
    #[must_use]
    pub fn find(&self, family: &str) -> Option<Entry<'_>> {
        let targets = self
            .slots
            .iter()
            .filter(|slot| slot.family > 0)
            .map(|slot| slot.target.0);
        let highest = targets.max()?;
        (0..=highest).find_map(|t| self.find_of(TargetRef(t), family))
    }

    /// What target `t` says of `family`.
    #[must_use]
    pub fn find_of(&self, t: TargetRef, family: &str) -> Option<Entry<'_>> {
        let id = *self.table.get(self.probe(t, family.as_bytes()))?;
        Some(self.entry(self.slots.get(usize::from(id))?))
    }

    /// Everything: target, family, and what it says. In no order that means anything, but the same until something is noted.
    pub fn iter(&self) -> impl Iterator<Item = (TargetRef, &str, Entry<'_>)> {
        self.slots.iter().filter(|slot| slot.family > 0).map(|slot| {
            let (family, _) = self
                .texts(slot)
                .split_at_checked(slot.family.into())
                .unwrap_or_default();
            (slot.target, family, self.entry(slot))
        })
    }

    /// Families known, each counted for every target.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Nothing is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Families it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of texts in use, 4 per family included.
    #[must_use]
    pub const fn text_bytes_used(&self) -> usize {
        self.live
    }

    /// Bytes of texts it has room for.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.arena.len()
    }

    /// Lines that could not be kept for want of room.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn note(&mut self, t: TargetRef, family: &str, change: Change<'_>) {
        if self.slots.is_empty() || family.is_empty() {
            return;
        }
        let name = family.as_bytes();
        let known = if self.is(self.last, t, name) {
            self.last
        } else {
            self.table.get(self.probe(t, name)).copied().unwrap_or(NONE)
        };
        let kept = match self.slots.get_mut(usize::from(known)) {
            Some(slot) => {
                slot.age = 0;
                self.last = known;
                self.change(known, change)
            }
            None => self.insert(t, name, change),
        };
        self.refused += u64::from(!kept);
    }

    /// Makes a new entry; false: there is no room for it.
    fn insert(&mut self, t: TargetRef, name: &[u8], change: Change<'_>) -> bool {
        let id = self.free;
        let Some(&next) = self.slots.get(usize::from(id)) else {
            return false;
        };
        let (kind, help, unit) = match change {
            Change::Kind(kind) => (kind, "", ""),
            Change::Help(help) => (MetricType::Unknown, help, ""),
            Change::Unit(unit) => (MetricType::Unknown, "", unit),
        };
        if name.len() > MAX_FAMILY_BYTES {
            return false;
        }
        let mut slot = Slot {
            offset: 0,
            // The bounds above all fit.
            family: name.len() as u16,
            unit: unit.len() as u16,
            help: help.len() as u16,
            target: t,
            kind,
            age: 0,
        };
        let at = self.probe(t, name);
        let Some(offset) = self.append(id, &slot, [name, unit.as_bytes(), help.as_bytes()]) else {
            return false;
        };
        slot.offset = offset;
        self.free = next.offset as u16;
        self.slots[usize::from(id)] = slot;
        self.table[at] = id;
        self.len += 1;
        self.last = id;
        true
    }

    /// Changes the entry `id`; false: the new text does not fit, and the old one stays.
    fn change(&mut self, id: u16, change: Change<'_>) -> bool {
        let old = self.slots[usize::from(id)];
        let (family, unit, help) = (usize::from(old.family), usize::from(old.unit), usize::from(old.help));
        // The new text, what of the block stays, and where the old text is in it.
        let (text, stays, was) = match change {
            Change::Kind(kind) => {
                self.slots[usize::from(id)].kind = kind;
                return true;
            }
            Change::Help(text) => (text, unit, family + unit..family + unit + help),
            Change::Unit(text) => (text, help, family..family + unit),
        };
        let start = old.offset as usize + HEADER;
        if self.arena.get(start + was.start..start + was.end) == Some(text.as_bytes()) {
            return true;
        }
        // At most `MAX_TEXT_BYTES`.
        let len = text.len() as u16;
        let is_help = matches!(change, Change::Help(_));
        let new = if is_help {
            Slot { help: len, ..old }
        } else {
            Slot { unit: len, ..old }
        };
        // What stays is copied out of the old block, which therefore must still be there: make room first.
        if !self.make_room(new.size()) {
            return false;
        }
        let start = self.slots[usize::from(id)].offset as usize + HEADER;
        let family = usize::from(old.family);
        let unit_end = start + family + usize::from(old.unit);
        let offset = self.tail;
        self.write_header(offset, id, new.size());
        let mut to = offset + HEADER;
        self.arena.copy_within(start..start + family, to);
        to += family;
        if is_help {
            self.arena.copy_within(start + family..unit_end, to);
            self.arena[to + stays..to + stays + text.len()].copy_from_slice(text.as_bytes());
        } else {
            self.arena[to..to + text.len()].copy_from_slice(text.as_bytes());
            self.arena.copy_within(unit_end..unit_end + stays, to + text.len());
        }
        self.tail = offset + new.size();
        self.live += new.size();
        // The new block stands behind it, so it becomes a hole.
        self.drop_block(start - HEADER, old.size());
        // `make_room` keeps the arena below 2^32.
        self.slots[usize::from(id)] = Slot {
            offset: offset as u32,
            ..new
        };
        true
    }

    fn remove(&mut self, id: u16) {
        let slot = self.slots[usize::from(id)];
        let texts = self.texts(&slot);
        let name = texts.get(..usize::from(slot.family)).unwrap_or_default().as_bytes();
        let at = self.probe(slot.target, name);
        let (seed, arena, slots, len) = (self.seed, &self.arena, &self.slots, self.table.len());
        remove_at(&mut self.table, at, NONE, |&other| {
            let other = slots.get(usize::from(other))?;
            let start = other.offset as usize + HEADER;
            let name = arena.get(start..start + usize::from(other.family))?;
            Some(home(key(seed, other.target, name), len))
        });
        self.drop_block(slot.offset as usize, slot.size());
        self.slots[usize::from(id)] = Slot {
            offset: self.free.into(),
            ..FREE
        };
        self.free = id;
        self.len -= 1;
    }

    /// Makes the block at `start` a hole, or moves the tail back if it stands last.
    fn drop_block(&mut self, start: usize, size: usize) {
        self.live -= size;
        if start + size == self.tail {
            self.tail = start;
        } else {
            self.write_header(start, NONE, size);
        }
    }

    /// Writes a block at the tail; `None`: no room.
    fn append(&mut self, id: u16, slot: &Slot, texts: [&[u8]; 3]) -> Option<u32> {
        if !self.make_room(slot.size()) {
            return None;
        }
        let offset = self.tail;
        self.write_header(offset, id, slot.size());
        let mut to = offset + HEADER;
        for text in texts {
            self.arena[to..to + text.len()].copy_from_slice(text);
            to += text.len();
        }
        self.tail = to;
        self.live += slot.size();
        u32::try_from(offset).ok()
    }

    /// Whether a block of `size` bytes fits at the tail, if need be after compacting.
    fn make_room(&mut self, size: usize) -> bool {
        if self.tail + size > self.arena.len() && self.tail - self.live >= (self.arena.len() / COMPACT_PARTS).max(1) {
            self.compact();
        }
        let end = self.tail + size;
        end <= self.arena.len() && u32::try_from(end).is_ok()
    }

    fn compact(&mut self) {
        let (mut from, mut to) = (0, 0);
        while from < self.tail {
            let word = |at: usize| u16::from_le_bytes([self.arena[at], self.arena[at + 1]]);
            let (id, size) = (word(from), usize::from(word(from + 2)));
            if let Some(slot) = self.slots.get_mut(usize::from(id)) {
                slot.offset = to as u32;
                self.arena.copy_within(from..from + size, to);
                to += size;
            }
            from += size;
        }
        self.tail = to;
    }

    fn write_header(&mut self, at: usize, id: u16, size: usize) {
        let [a, b] = id.to_le_bytes();
        // The bounds on texts keep it far below 2^16.
        let [c, d] = (size as u16).to_le_bytes();
        self.arena[at..at + HEADER].copy_from_slice(&[a, b, c, d]);
    }

    /// Family, unit and help of a used slot, joined.
    fn texts(&self, slot: &Slot) -> &str {
        let start = slot.offset as usize;
        let bytes = self.arena.get(start + HEADER..start + slot.size()).unwrap_or_default();
        // Only whole `str`s are stored, so the check never fails; it costs less than unsafe code would to prove.
        core::str::from_utf8(bytes).unwrap_or_default()
    }

    fn entry(&self, slot: &Slot) -> Entry<'_> {
        let texts = self.texts(slot);
        let family = usize::from(slot.family);
        let unit_end = family + usize::from(slot.unit);
        Entry {
            kind: slot.kind,
            help: texts.get(unit_end..).unwrap_or_default(),
            unit: texts.get(family..unit_end).unwrap_or_default(),
        }
    }

    /// Whether `id` is the entry of this family.
    fn is(&self, id: u16, t: TargetRef, name: &[u8]) -> bool {
        let Some(slot) = self.slots.get(usize::from(id)) else {
            return false;
        };
        let start = slot.offset as usize + HEADER;
        slot.target == t
            && usize::from(slot.family) == name.len()
            && self.arena.get(start..start + name.len()) == Some(name)
    }

    /// Place of the family in the table, or the empty place where it would go.
    fn probe(&self, t: TargetRef, name: &[u8]) -> usize {
        let mut at = home(key(self.seed, t, name), self.table.len());
        // Ends: a quarter of the table is always empty.
        while self.table[at] != NONE && !self.is(self.table[at], t, name) {
            at = (at + 1) % self.table.len();
        }
        at
    }
}

/// As much of `text` as is kept.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or(text)
}

fn key(seed: u64, t: TargetRef, name: &[u8]) -> u64 {
    hash64(seed ^ u64::from(t.0), name)
}

/// Families that can be kept: none without text.
const fn bounded(text_bytes: usize, max_families: usize) -> usize {
    match (text_bytes, max_families) {
        (0, _) => 0,
        (_, families) if families >= NONE as usize => NONE as usize - 1,
        (_, families) => families,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    const A: TargetRef = TargetRef(0);
    const B: TargetRef = TargetRef(3);

    #[test]
    fn the_last_word_on_a_family_counts() {
        let mut metadata = Metadata::new(1_000, 10);
        metadata.note_help(A, "up_seconds", "Old.");
        metadata.note_type(A, "up_seconds", MetricType::Gauge);
        metadata.note_unit(A, "up_seconds", "seconds");
        metadata.note_help(A, "up_seconds", "New and longer.");
        metadata.note_type(B, "other", MetricType::Counter);
        let entry = Entry {
            kind: MetricType::Gauge,
            help: "New and longer.",
            unit: "seconds",
        };
        assert_eq!(metadata.find("up_seconds"), Some(entry));
        assert_eq!(metadata.find_of(A, "up_seconds"), Some(entry));
        assert_eq!(metadata.find_of(B, "up_seconds"), None);
        assert_eq!(
            metadata.find("other").map(|entry| entry.kind),
            Some(MetricType::Counter)
        );
        assert_eq!(metadata.find("nothing"), None);
        assert_eq!(metadata.iter().next(), Some((A, "up_seconds", entry)));
        assert_eq!((metadata.len(), metadata.iter().count()), (2, 2));
    }

    #[test]
    fn scr_845_entries_stay_for_ten_scrapes_after_their_family() {
        let mut metadata = Metadata::new(1_000, 10);
        metadata.note_type(A, "gone", MetricType::Gauge);
        metadata.note_type(B, "gone", MetricType::Counter);
        metadata.end_scrape(A, true);
        for scrape in 1..=10 {
            metadata.end_scrape(A, false);
            metadata.end_scrape(A, true);
            assert!(metadata.find_of(A, "gone").is_some(), "{scrape}");
        }
        metadata.end_scrape(A, true);
        assert_eq!(metadata.find_of(A, "gone"), None);
        assert!(metadata.find_of(B, "gone").is_some());
        metadata.forget(B);
        assert!(metadata.is_empty() && metadata.text_bytes_used() == 0);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_changes_nothing() {
        let mut metadata = Metadata::new(20, 10);
        metadata.note_help(A, "abc", "123456789");
        metadata.note_help(A, "abcd", "");
        metadata.note_help(A, "abc", "0123456789");
        assert_eq!(metadata.refused(), 2);
        assert_eq!(metadata.find("abc").map(|entry| entry.help), Some("123456789"));
        let mut few = Metadata::new(100, 1);
        few.note_help(A, "a", "x");
        few.note_help(A, "b", "x");
        assert_eq!((few.len(), few.refused()), (1, 1));
        let mut long = Metadata::new(5_000, 2);
        long.note_help(A, &"f".repeat(MAX_FAMILY_BYTES + 1), "x");
        long.note_help(A, "a", &"é".repeat(MAX_TEXT_BYTES));
        assert_eq!((long.len(), long.refused()), (1, 1));
        assert_eq!(long.find("a").map(|entry| entry.help.len()), Some(MAX_TEXT_BYTES));
        for mut off in [Metadata::new(0, 10), Metadata::new(100, 0)] {
            off.note_help(A, "a", "x");
            off.end_scrape(A, true);
            assert_eq!((off.find("a"), off.refused(), off.capacity()), (None, 0, 0));
        }
    }

    #[test]
    fn agrees_with_a_map_through_compactions() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut metadata = Metadata::seeded(2_000, 40, 9);
        let mut model: BTreeMap<(u8, String), (MetricType, String, String, u8)> = BTreeMap::new();
        let mut refused = 0;
        for _ in 0..30_000 {
            let t = TargetRef(random.u8(0..3));
            if random.u8(0..20) == 0 {
                let ok = random.bool();
                metadata.end_scrape(t, ok);
                model.retain(|(target, _), entry| {
                    if *target != t.0 {
                        return true;
                    }
                    let (before, seen) = (entry.3, entry.3 == 0);
                    entry.3 += u8::from(seen || ok);
                    seen || !ok || before <= KEPT_SCRAPES
                });
            } else {
                let family = format!("f{}", random.u8(0..15)).repeat(random.usize(1..4));
                let text = format!("{}", random.u8(0..4)).repeat(random.usize(0..60));
                let kind = MetricType::from_byte(random.u8(0..8));
                let before = metadata.refused();
                let what = random.u8(0..3);
                match what {
                    0 => metadata.note_type(t, &family, kind),
                    1 => metadata.note_help(t, &family, &text),
                    _ => metadata.note_unit(t, &family, &text),
                }
                let full = metadata.refused() > before;
                refused += u32::from(full);
                let key = (t.0, family);
                if full && !model.contains_key(&key) {
                    continue;
                }
                let entry = model.entry(key).or_default();
                entry.3 = 0;
                match what {
                    _ if full => {}
                    0 => entry.0 = kind,
                    1 => entry.1 = text,
                    _ => entry.2 = text,
                }
            }
            let found: BTreeMap<_, _> = metadata
                .iter()
                .map(|(t, family, entry)| {
                    (
                        (t.0, String::from(family)),
                        (entry.kind, entry.help.into(), entry.unit.into()),
                    )
                })
                .collect::<BTreeMap<_, (MetricType, String, String)>>();
            assert!(
                found.iter().eq(model
                    .iter()
                    .map(|(key, (kind, help, unit, _))| (key, (*kind, help.clone(), unit.clone())))
                    .collect::<Vec<_>>()
                    .iter()
                    .map(|(key, value)| (*key, value)))
            );
            for ((t, family), (kind, help, unit)) in &found {
                let entry = Entry {
                    kind: *kind,
                    help,
                    unit,
                };
                assert_eq!(metadata.find_of(TargetRef(*t), family), Some(entry));
            }
        }
        assert!(refused > 100, "{refused}");
        for t in 0..3 {
            metadata.forget(TargetRef(t));
        }
        metadata.compact();
        assert_eq!((metadata.len(), metadata.live, metadata.tail), (0, 0, 0));
    }

    #[test]
    fn plans_what_it_takes() {
        for (text, families) in [(0, 5), (1_000, 0), (1_000, 20), (10, 100_000)] {
            let metadata = Metadata::new(text, families);
            let bytes = metadata.arena.len() + size_of_val(&*metadata.slots) + size_of_val(&*metadata.table);
            assert_eq!(bytes, Metadata::ram_bytes(text, families));
        }
    }
}
