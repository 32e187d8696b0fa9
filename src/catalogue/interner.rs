//! Texts kept once each, counted by reference, in one block of memory.
//!
//! A text is known by its place in the arena. Places change when the arena is compacted, so that is the owner's to
//! begin: [`Interner::plan`], then [`Interner::moved`] for every place it keeps, then [`Interner::slide`].
//!
//! # Layout of the arena
//!
//! ```text
//! | word u32 | next u24 | text ... | word u32 | next u24 | text ... |      tail -> | unused
//!   word: bytes of the text (15 bits), references (17 bits): none = hole
//!   next: place of the next text in the same bucket
//! ```
//!
//! New texts go to the tail. A text whose last reference goes becomes a hole, or moves the tail back if it stands
//! last. Compaction is worth it only if the holes are at least 1/64 of the arena: that bounds the copying to 64 bytes
//! per byte freed, and the price is that the last 1/64 may stay unused.
//!
//! # Invariants
//!
//! - Blocks are gapless from 0 to `tail`; `live` is the sum of the sizes of those that are not holes.
//! - A text with references is in the chain of exactly one bucket, that of its hash; a hole is in none.
//! - Nothing allocates after [`Interner::new`].
//!
//! # Cost
//!
//! 7 bytes per text beside its own, 3 per bucket.

use super::probe::home;
use crate::hash::hash64;
use crate::limits::MAX_SERIES_TEXT_BYTES;
use alloc::boxed::Box;
use alloc::vec;

/// Place of a text in the arena: 3 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text([u8; 3]);

impl Text {
    /// No text.
    pub(super) const NONE: Self = Self([0xff; 3]);

    /// `at` is below [`MAX_ARENA`].
    const fn new(at: usize) -> Self {
        let [a, b, c, _] = (at as u32).to_le_bytes();
        Self([a, b, c])
    }

    /// Its place, for hashing.
    pub(super) const fn number(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_le_bytes([a, b, c, 0])
    }

    const fn at(self) -> usize {
        self.number() as usize
    }
}

/// Bytes in front of every text.
pub(super) const HEADER: usize = 7;

/// Largest arena: [`Text::NONE`] lies beyond.
const MAX_ARENA: usize = (1 << 24) - 1;

/// Bits of a header's word that are the length.
const LEN_BITS: u32 = 15;

/// One reference.
const REFERENCE: u32 = 1 << LEN_BITS;

/// More references than every series and target can hold: a text that is referred to more often stays for good.
const MANY: u32 = u32::MAX >> LEN_BITS;

/// Holes must be at least one part in this many of the arena before it is compacted.
const COMPACT_PARTS: usize = 64;

/// The text does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// The texts.
#[derive(Debug)]
pub(super) struct Interner {
    arena: Box<[u8]>,
    tail: usize,
    live: usize,
    /// First text of each chain.
    buckets: Box<[Text]>,
    seed: u64,
}

const fn arena_len(bytes: usize) -> usize {
    if bytes < MAX_ARENA { bytes } else { MAX_ARENA }
}

impl Interner {
    /// For texts of `bytes` with their headers, in so many buckets (at least 1). The only allocation.
    pub(super) fn new(bytes: usize, buckets: usize, seed: u64) -> Self {
        Self {
            arena: vec![0; arena_len(bytes)].into_boxed_slice(),
            tail: 0,
            live: 0,
            buckets: vec![Text::NONE; buckets.max(1)].into_boxed_slice(),
            seed,
        }
    }

    /// Heap bytes of such an interner.
    pub(super) const fn ram_bytes(bytes: usize, buckets: usize) -> usize {
        let buckets = if buckets > 1 { buckets } else { 1 };
        arena_len(bytes) + buckets * size_of::<Text>()
    }

    /// Bytes of the texts in use, headers included.
    pub(super) fn used(&self) -> usize {
        self.live
    }

    /// Bytes of the arena.
    pub(super) fn capacity(&self) -> usize {
        self.arena.len()
    }

    /// Forgets every text.
    pub(super) fn clear(&mut self) {
        self.tail = 0;
        self.live = 0;
        self.buckets.fill(Text::NONE);
    }

    /// The text at this place; empty if there is none.
    pub(super) fn text(&self, text: Text) -> &str {
        // Only whole `str`s are stored, so the check never fails; it costs less than unsafe code would to prove.
        core::str::from_utf8(self.bytes(text)).unwrap_or_default()
    }

    /// The place of `text`, if it is there.
    pub(super) fn find(&self, text: &str) -> Option<Text> {
        let mut at = self.buckets[self.bucket(text.as_bytes())];
        while at != Text::NONE {
            if self.bytes(at) == text.as_bytes() {
                return Some(at);
            }
            at = self.next(at);
        }
        None
    }

    /// Bytes that `text` would add.
    pub(super) fn growth(&self, text: &str) -> usize {
        match self.find(text) {
            Some(_) => 0,
            None => HEADER + text.len(),
        }
    }

    /// Whether compacting would help to find room for `bytes` more, and is worth it.
    pub(super) fn wants_compaction(&self, bytes: usize) -> bool {
        let holes = self.tail - self.live;
        self.tail + bytes > self.arena.len() && holes >= (self.arena.len() / COMPACT_PARTS).max(1)
    }

    /// The place of `text`, with one more reference to it. Moves nothing.
    pub(super) fn intern(&mut self, text: &str) -> Result<Text, NoRoom> {
        if let Some(known) = self.find(text) {
            let word = self.word(known);
            if word >> LEN_BITS < MANY {
                self.put_word(known, word + REFERENCE);
            }
            return Ok(known);
        }
        let end = self.tail + HEADER + text.len();
        if end > self.arena.len() || text.len() > MAX_SERIES_TEXT_BYTES {
            return Err(NoRoom);
        }
        let new = Text::new(self.tail);
        // Lossless: MAX_SERIES_TEXT_BYTES takes 15 bits.
        self.put_word(new, REFERENCE | text.len() as u32);
        self.arena[self.tail + HEADER..end].copy_from_slice(text.as_bytes());
        self.tail = end;
        self.live += HEADER + text.len();
        self.link(new);
        Ok(new)
    }

    /// Drops one reference; with the last the text goes.
    pub(super) fn release(&mut self, text: Text) {
        if text == Text::NONE {
            return;
        }
        let word = self.word(text);
        match word >> LEN_BITS {
            0 | MANY => {}
            1 => self.remove(text),
            _ => self.put_word(text, word - REFERENCE),
        }
    }

    fn remove(&mut self, text: Text) {
        let bucket = self.bucket(self.bytes(text));
        let next = self.next(text);
        let mut before = self.buckets[bucket];
        if before == text {
            self.buckets[bucket] = next;
        } else {
            // A text with references is in its chain.
            while before != Text::NONE && self.next(before) != text {
                before = self.next(before);
            }
            if before != Text::NONE {
                self.put_next(before, next);
            }
        }
        let len = self.len(text);
        self.live -= HEADER + len;
        self.put_word(text, len as u32);
        if text.at() + HEADER + len == self.tail {
            self.tail = text.at();
        }
    }

    /// Compaction, first: works out where every text goes.
    pub(super) fn plan(&mut self) {
        let (mut from, mut to) = (0, 0);
        while from < self.tail {
            let text = Text::new(from);
            let size = HEADER + self.len(text);
            if self.word(text) >= REFERENCE {
                // The chains are made anew.
                self.put_next(text, Text::new(to));
                to += size;
            }
            from += size;
        }
    }

    /// Compaction, second: where `text` goes.
    pub(super) fn moved(&self, text: Text) -> Text {
        if text == Text::NONE { text } else { self.next(text) }
    }

    /// Compaction, third: moves the texts.
    pub(super) fn slide(&mut self) {
        self.buckets.fill(Text::NONE);
        let (mut from, mut to) = (0, 0);
        while from < self.tail {
            let text = Text::new(from);
            let size = HEADER + self.len(text);
            if self.word(text) >= REFERENCE {
                self.arena.copy_within(from..from + size, to);
                self.link(Text::new(to));
                to += size;
            }
            from += size;
        }
        self.tail = to;
    }

    fn bucket(&self, text: &[u8]) -> usize {
        home(hash64(self.seed, text), self.buckets.len())
    }

    fn link(&mut self, text: Text) {
        let bucket = self.bucket(self.bytes(text));
        self.put_next(text, self.buckets[bucket]);
        self.buckets[bucket] = text;
    }

    fn header(&self, text: Text) -> [u8; HEADER] {
        let at = text.at();
        let header = self.arena.get(at..at + HEADER);
        // Places come from here and lie before the tail; what does not has no text and no references.
        header.and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; HEADER])
    }

    fn word(&self, text: Text) -> u32 {
        let [a, b, c, d, ..] = self.header(text);
        u32::from_le_bytes([a, b, c, d])
    }

    fn put_word(&mut self, text: Text, word: u32) {
        self.arena[text.at()..][..4].copy_from_slice(&word.to_le_bytes());
    }

    fn next(&self, text: Text) -> Text {
        let [.., a, b, c] = self.header(text);
        Text([a, b, c])
    }

    fn put_next(&mut self, text: Text, next: Text) {
        self.arena[text.at() + 4..][..3].copy_from_slice(&next.0);
    }

    fn len(&self, text: Text) -> usize {
        (self.word(text) & (REFERENCE - 1)) as usize
    }

    fn bytes(&self, text: Text) -> &[u8] {
        if text == Text::NONE {
            return &[];
        }
        let at = text.at() + HEADER;
        self.arena.get(at..at + self.len(text)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    #[test]
    fn equal_texts_share_a_place() {
        let mut interner = Interner::new(100, 4, 0);
        let a = interner.intern("up").unwrap();
        assert_eq!(interner.intern("up"), Ok(a));
        assert_eq!(interner.used(), HEADER + 2);
        interner.intern("down").unwrap();
        assert_eq!((interner.growth("up"), interner.growth("left")), (0, HEADER + 4));
        interner.release(a);
        assert_eq!(interner.text(a), "up");
        interner.release(a);
        assert_eq!(interner.find("up"), None);
        assert!(interner.find("down").is_some());
        assert_eq!(interner.used(), HEADER + 4);
    }

    #[test]
    fn a_failed_intern_changes_nothing() {
        let mut interner = Interner::new(24, 1, 0);
        interner.intern("abcdefgh").unwrap();
        assert_eq!(interner.intern("012"), Err(NoRoom));
        assert_eq!(interner.used(), 15);
        assert_eq!(interner.find("012"), None);
        interner.intern("").unwrap();
    }

    #[test]
    fn a_text_that_too_many_refer_to_stays() {
        let mut interner = Interner::new(24, 1, 0);
        let a = interner.intern("a").unwrap();
        for _ in 0..MANY + 5 {
            assert_eq!(interner.intern("a"), Ok(a));
        }
        for _ in 0..2 * MANY {
            interner.release(a);
        }
        assert_eq!((interner.text(a), interner.used()), ("a", HEADER + 1));
    }

    #[test]
    fn agrees_with_a_list_of_texts_through_compactions() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut interner = Interner::new(1_600, 20, 99);
        let mut model: Vec<(Text, String)> = Vec::new();
        let (mut compactions, mut refused) = (0, 0);
        for _ in 0..20_000 {
            if random.bool() || model.is_empty() {
                let text = format!("{:x}", random.u32(0..60)).repeat(random.usize(0..40));
                if interner.wants_compaction(interner.growth(&text)) {
                    interner.plan();
                    for (place, _) in &mut model {
                        *place = interner.moved(*place);
                    }
                    interner.slide();
                    compactions += 1;
                }
                match interner.intern(&text) {
                    Ok(place) => model.push((place, text)),
                    Err(NoRoom) => refused += 1,
                }
            } else {
                let (place, _) = model.swap_remove(random.usize(0..model.len()));
                interner.release(place);
            }
            for (place, text) in &model {
                assert_eq!(interner.text(*place), text);
                assert_eq!(interner.find(text), Some(*place));
            }
        }
        assert!(compactions > 100 && refused > 100, "{compactions} {refused}");
        for (place, _) in model {
            interner.release(place);
        }
        assert_eq!(interner.used(), 0);
    }
}
