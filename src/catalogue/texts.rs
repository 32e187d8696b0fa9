//! Names and labels of the series, each as its difference from the one before, in one block of memory.
//!
//! Series get their indices in the order of the exposition, where neighbours differ little. [`GROUP`] consecutive indices are a
//! *group*; the texts of a group stand in one block, in the order of their indices, and each is written as what it shares at
//! either end with the one before. Labels of a target stand in a block of their own, as they are.
//!
//! # Layout of the arena
//!
//! ```text
//! | owner u16 | size u24 | count u8 | entry ... | unused | next block ...        tail -> | unused
//!   owner: group, or number of groups + target; NOBODY = hole. size: of the whole block. count: entries, 0 for a target
//!   entry: | prefix u8 | suffix u8 | middle's length u8, or 0x80 + high bits and low bits | middle ... |
//! ```
//!
//! A block that must grow grows where it is if it stands last, else it moves to the tail and leaves a hole. Compaction is worth it
//! only if the holes are at least 1/64 of the arena: that bounds the copying to 64 bytes per byte freed, and the price is
//! that the last 1/64, and as much as one block, may stay unused.
//!
//! # Invariants
//!
//! - Blocks are gapless from 0 to `tail`; `live` is the sum of what the blocks of owners use.
//! - The first entry of a group shares nothing.
//! - Nothing allocates after [`Texts::new`]. A call that fails has at most moved texts.
//!
//! # Cost
//!
//! 3 bytes per text beside what it does not share, 9 per group. The captures of three exporters take 17, 17 and 21 bytes per series, of
//! 43, 48 and 63 as whole texts. Reading a text walks its group: at most [`GROUP`] entries, one where the text read before was
//! the one before it. One buffer for the longest text.

use super::SeriesText;
use crate::limits::MAX_SERIES_TEXT_BYTES;
use alloc::boxed::Box;
use alloc::vec;

/// Consecutive series whose texts are written as differences.
pub(super) const GROUP: usize = 32;

/// Between name and labels; no byte of UTF-8.
const SEPARATOR: u8 = 0xff;

/// Bytes of the longest text, separator included.
const MAX_TEXT: usize = MAX_SERIES_TEXT_BYTES + 1;

/// Bytes in front of every block.
pub(super) const HEADER: usize = 6;

/// Largest arena: [`Place::NONE`] lies beyond.
const MAX_ARENA: usize = (1 << 24) - 1;

/// Holes must be at least one part in this many of the arena before it is compacted.
const COMPACT_PARTS: usize = 64;

/// Owner of a hole.
const NOBODY: u16 = u16::MAX;

/// Place of a block in the arena: 3 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place([u8; 3]);

impl Place {
    const NONE: Self = Self([0xff; 3]);

    /// `at` is below [`MAX_ARENA`].
    const fn new(at: usize) -> Self {
        let [a, b, c, _] = (at as u32).to_le_bytes();
        Self([a, b, c])
    }

    const fn at(self) -> usize {
        let [a, b, c] = self.0;
        u32::from_le_bytes([a, b, c, 0]) as usize
    }
}

/// The text does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// An entry as it stands in the arena.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    prefix: usize,
    suffix: usize,
    /// Where the middle begins, and its length.
    middle: usize,
    len: usize,
}

impl Entry {
    /// Bytes of an entry with a middle of `len` bytes.
    const fn bytes(len: usize) -> usize {
        if len < 0x80 { 3 + len } else { 4 + len }
    }

    const fn end(&self) -> usize {
        self.middle + self.len
    }

    const fn text_len(&self) -> usize {
        self.prefix + self.len + self.suffix
    }
}

/// What the buffer holds: entry `nth` of `owner`, and where the next one begins.
#[derive(Clone, Copy, Debug)]
struct Held {
    owner: u16,
    nth: usize,
    next: usize,
}

/// The texts.
#[derive(Debug)]
pub(super) struct Texts {
    arena: Box<[u8]>,
    /// Of the groups, then of the targets.
    places: Box<[Place]>,
    groups: usize,
    tail: usize,
    live: usize,
    buffer: Box<[u8]>,
    /// Bytes of the text in the buffer.
    len: usize,
    held: Option<Held>,
}

const fn arena_len(bytes: usize) -> usize {
    if bytes < MAX_ARENA { bytes } else { MAX_ARENA }
}

const fn buffer_len(bytes: usize) -> usize {
    if bytes < MAX_TEXT { bytes } else { MAX_TEXT }
}

impl Texts {
    /// For `bytes` of the texts of `series` series and `targets` targets. The only allocation.
    pub(super) fn new(bytes: usize, series: usize, targets: usize) -> Self {
        let groups = series.div_ceil(GROUP);
        Self {
            arena: vec![0; arena_len(bytes)].into_boxed_slice(),
            places: vec![Place::NONE; groups + targets].into_boxed_slice(),
            groups,
            tail: 0,
            live: 0,
            buffer: vec![0; buffer_len(bytes)].into_boxed_slice(),
            len: 0,
            held: None,
        }
    }

    /// Heap bytes of such texts.
    pub(super) const fn ram_bytes(bytes: usize, series: usize, targets: usize) -> usize {
        arena_len(bytes) + buffer_len(bytes) + (series.div_ceil(GROUP) + targets) * size_of::<Place>()
    }

    /// Bytes in use, headers included.
    pub(super) const fn used(&self) -> usize {
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
        self.places.fill(Place::NONE);
        self.held = None;
    }

    /// Labels of `target`; `None`: it has not been given any.
    pub(super) fn target(&self, target: usize) -> Option<&str> {
        let at = self.place(self.groups + target)?;
        let bytes = self.arena.get(at + HEADER..at + self.size(at)).unwrap_or_default();
        // Only whole `str`s are stored, so the check never fails; it costs less than unsafe code would to prove.
        Some(core::str::from_utf8(bytes).unwrap_or_default())
    }

    /// Gives `target`, which there is a place for, its labels.
    pub(super) fn set_target(&mut self, target: usize, body: &str) -> Result<(), NoRoom> {
        // Below 2^16: groups are at most 2,048, targets 64.
        let owner = (self.groups + target) as u16;
        // Room for the new one beside the old one, so that a failure changes nothing.
        let at = self.room(NOBODY, 0, HEADER + body.len())?;
        self.release_block(owner);
        self.put_header(at, owner, HEADER + body.len(), 0);
        self.arena[at + HEADER..][..body.len()].copy_from_slice(body.as_bytes());
        self.places[usize::from(owner)] = Place::new(at);
        self.live += HEADER + body.len();
        Ok(())
    }

    /// Name and labels of entry `nth` of a group; `None` if there is none.
    pub(super) fn text(&mut self, group: usize, nth: usize) -> Option<SeriesText<'_>> {
        self.read(group as u16, nth)?;
        split(self.buffer.get(..self.len)?)
    }

    /// As [`Texts::text`], and the labels of `target`.
    pub(super) fn text_and_target(
        &mut self,
        group: usize,
        nth: usize,
        target: usize,
    ) -> Option<(SeriesText<'_>, &str)> {
        self.read(group as u16, nth)?;
        let this = &*self;
        Some((
            split(this.buffer.get(..this.len)?)?,
            this.target(target).unwrap_or_default(),
        ))
    }

    /// Bytes of name and labels of entry `nth` of a group, the separator counted.
    pub(super) fn text_len(&self, group: usize, nth: usize) -> usize {
        let Some(at) = self.place(group).filter(|&at| nth < self.count(at)) else {
            return 0;
        };
        let mut entry = self.entry(at + HEADER);
        for _ in 0..nth {
            entry = self.entry(entry.end());
        }
        entry.text_len()
    }

    /// Whether entry `nth` of a group is `text`.
    pub(super) fn is(&mut self, group: usize, nth: usize, text: SeriesText<'_>) -> bool {
        self.text_len(group, nth) == len_of(text)
            && self.read(group as u16, nth).is_some()
            && self.buffer.get(..self.len).is_some_and(|held| is(held, text))
    }

    /// Makes `text` entry `nth` of a group: in the place of the one that is there, or those from there on move up by one.
    pub(super) fn put(&mut self, group: usize, nth: usize, replaces: bool, text: SeriesText<'_>) -> Result<(), NoRoom> {
        let owner = group as u16;
        let len = len_of(text);
        if len > self.buffer.len() {
            return Err(NoRoom);
        }
        let block = self.place(group);
        let (count, used) = block.map_or((0, HEADER), |at| (self.count(at), self.used_by(at)));
        debug_assert!(nth <= count, "entries are put in without gaps");
        // From here on relative to the block, which may move.
        let mut at = HEADER;
        let mut shared = (0, 0);
        if nth > 0
            && let Some(block) = block
        {
            let held = self.read(owner, nth - 1).ok_or(NoRoom)?;
            at = held.next - block;
            shared = share(&self.buffer[..self.len], text);
        }
        let middle = len - shared.0 - shared.1;
        let own = Entry::bytes(middle);
        // The next one now follows this one.
        let (mut old, mut next, mut next_shared) = (0, 0, (0, 0));
        let follows = nth + usize::from(replaces) < count;
        if nth == 0 {
            self.len = 0;
        }
        if let Some(block) = block {
            for _ in 0..usize::from(replaces) + usize::from(follows) {
                let entry = self.entry(block + at + old);
                old = entry.end() - (block + at);
                self.take(entry);
            }
        }
        if follows {
            next_shared = share(&self.buffer[..self.len], text);
            next = Entry::bytes(self.len - next_shared.0 - next_shared.1);
        }
        // Until the block is what it is to be.
        self.held = None;
        let needed = used - old + own + next;
        let block = self.room(if block.is_some() { owner } else { NOBODY }, used, needed)?;
        let (from, to) = (block + at + old, block + at + own + next);
        self.arena.copy_within(from..block + used, to);
        let at = block + at;
        self.put_entry(at, shared, middle);
        copy_part(&mut self.arena[at + own - middle..at + own], text, shared.0);
        if follows {
            let middle = next_shared.0..self.len - next_shared.1;
            self.put_entry(at + own, next_shared, middle.len());
            self.arena[to - middle.len()..to].copy_from_slice(&self.buffer[middle]);
        } else {
            copy_part(&mut self.buffer[..len], text, 0);
            self.len = len;
        }
        self.held = Some(Held {
            owner,
            nth: nth + usize::from(follows),
            next: to,
        });
        self.live = self.live + needed - if count > 0 { used } else { 0 };
        self.places[group] = Place::new(block);
        self.put_header(block, owner, self.size(block), count + usize::from(!replaces));
        Ok(())
    }

    /// Takes entry `nth` of a group out; those behind it move down by one. It may fail, where the next one shared much with it that it
    /// does not share with the one before it, and the arena is full.
    pub(super) fn remove(&mut self, group: usize, nth: usize) -> Result<(), NoRoom> {
        let owner = group as u16;
        let Some(block) = self.place(group).filter(|&at| nth < self.count(at)) else {
            return Ok(());
        };
        let (count, used) = (self.count(block), self.used_by(block));
        if count == 1 {
            self.release_block(owner);
            return Ok(());
        }
        let mut at = block + HEADER;
        for _ in 0..nth {
            at = self.entry(at).end();
        }
        let gone = self.entry(at);
        if nth + 1 == count {
            self.held = None;
            self.live -= gone.end() - at;
            self.put_header(block, owner, self.size(block), count - 1);
            return Ok(());
        }
        let next = self.entry(gone.end());
        self.read(owner, nth + 1);
        // What the next one shares with both. It may share more with the one before by chance.
        let shared = (gone.prefix.min(next.prefix), gone.suffix.min(next.suffix));
        let middle = shared.0..self.len - shared.1;
        let new = Entry::bytes(middle.len());
        let old = next.end() - at;
        let needed = used - old + new;
        self.held = None;
        let at = at - block;
        let block = self.room(owner, used, needed)?;
        let at = block + at;
        self.arena.copy_within(at + old..block + used, at + new);
        self.put_entry(at, shared, middle.len());
        self.arena[at + new - middle.len()..at + new].copy_from_slice(&self.buffer[middle]);
        self.live = self.live + new - old;
        self.put_header(block, owner, self.size(block), count - 1);
        self.held = Some(Held {
            owner,
            nth,
            next: at + new,
        });
        Ok(())
    }

    /// The block of `owner`, of which `used` bytes are used, with room for `needed`; a new one for [`NOBODY`], whose header is the caller's
    /// to write. What stands in the block may have moved.
    fn room(&mut self, owner: u16, used: usize, needed: usize) -> Result<usize, NoRoom> {
        let old = self.place(owner.into());
        if let Some(at) = old
            && needed <= self.size(at)
        {
            return Ok(at);
        }
        if let Some(at) = self.extend(old, needed) {
            return Ok(at);
        }
        let new = self.tail;
        if let Some(at) = old
            && new + needed <= self.arena.len()
        {
            self.arena.copy_within(at..at + used, new);
            self.put_owner(at, NOBODY);
            self.put_size(new, needed);
            self.places[usize::from(owner)] = Place::new(new);
            self.tail += needed;
            return Ok(new);
        }
        let holes = self.tail - self.live;
        if holes < (self.arena.len() / COMPACT_PARTS).max(1) {
            return Err(NoRoom);
        }
        if let Some(at) = old {
            // So that it stands last, where it can grow.
            let size = self.size(at);
            self.arena[at..self.tail].rotate_left(size);
        }
        self.slide();
        self.extend(self.place(owner.into()), needed).ok_or(NoRoom)
    }

    /// Makes the block at `at` larger if it stands last; `None`: puts one there.
    fn extend(&mut self, at: Option<usize>, needed: usize) -> Option<usize> {
        let at = at.map_or(self.tail, |at| at);
        let end = at + if at == self.tail { 0 } else { self.size(at) };
        if end != self.tail || at + needed > self.arena.len() {
            return None;
        }
        self.put_size(at, needed);
        self.tail = at + needed;
        Some(at)
    }

    /// Moves all blocks together, without what they do not use.
    fn slide(&mut self) {
        self.held = None;
        let (mut from, mut to) = (0, 0);
        while from < self.tail {
            let (owner, size) = (self.owner(from), self.size(from));
            if owner != NOBODY {
                let used = self.used_by(from);
                self.arena.copy_within(from..from + used, to);
                self.put_size(to, used);
                self.places[usize::from(owner)] = Place::new(to);
                to += used;
            }
            from += size;
        }
        self.tail = to;
    }

    /// Makes the block of `owner` a hole, if it has one.
    fn release_block(&mut self, owner: u16) {
        let Some(at) = self.place(owner.into()) else { return };
        self.held = None;
        self.live -= self.used_by(at);
        self.places[usize::from(owner)] = Place::NONE;
        if at + self.size(at) == self.tail {
            self.tail = at;
        } else {
            self.put_owner(at, NOBODY);
        }
    }

    /// Puts entry `nth` of `owner` into the buffer.
    fn read(&mut self, owner: u16, nth: usize) -> Option<Held> {
        let block = self.place(owner.into()).filter(|&at| nth < self.count(at))?;
        let (mut at, mut left) = (block + HEADER, nth + 1);
        match self.held {
            Some(held) if held.owner == owner && held.nth <= nth => {
                at = held.next;
                left = nth - held.nth;
            }
            _ => self.len = 0,
        }
        for _ in 0..left {
            let entry = self.entry(at);
            self.take(entry);
            at = entry.end();
        }
        let held = Held { owner, nth, next: at };
        self.held = Some(held);
        Some(held)
    }

    /// Turns the text in the buffer into that of `entry`, which follows it.
    fn take(&mut self, entry: Entry) {
        let len = entry.text_len();
        let behind = entry.prefix + entry.len;
        // What was written was checked against the text before it, and is no longer than the buffer.
        if entry.suffix > 0 {
            self.buffer.copy_within(self.len - entry.suffix..self.len, behind);
        }
        self.buffer[entry.prefix..behind].copy_from_slice(&self.arena[entry.middle..entry.end()]);
        self.len = len;
    }

    fn place(&self, owner: usize) -> Option<usize> {
        let place = self.places.get(owner).copied().filter(|&place| place != Place::NONE)?;
        Some(place.at())
    }

    /// The entry at `at`, which is one.
    fn entry(&self, at: usize) -> Entry {
        let bytes = &self.arena[at..];
        let (prefix, suffix, len) = (bytes[0], bytes[1], bytes[2]);
        let (middle, len) = match len {
            0x80.. => (at + 4, usize::from(len & 0x7f) << 8 | usize::from(bytes[3])),
            _ => (at + 3, len.into()),
        };
        Entry {
            prefix: prefix.into(),
            suffix: suffix.into(),
            middle,
            len,
        }
    }

    /// The head of an entry; its middle is the caller's to write.
    fn put_entry(&mut self, at: usize, (prefix, suffix): (usize, usize), middle: usize) {
        let bytes = &mut self.arena[at..];
        // Both at most 255, and the length takes 15 bits: it is at most that of a text.
        (bytes[0], bytes[1]) = (prefix as u8, suffix as u8);
        if middle < 0x80 {
            bytes[2] = middle as u8;
        } else {
            bytes[2] = 0x80 | (middle >> 8) as u8;
            bytes[3] = middle as u8;
        }
    }

    fn owner(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.arena[at], self.arena[at + 1]])
    }

    fn size(&self, at: usize) -> usize {
        let bytes = &self.arena[at..];
        u32::from_le_bytes([bytes[2], bytes[3], bytes[4], 0]) as usize
    }

    fn count(&self, at: usize) -> usize {
        self.arena[at + 5].into()
    }

    /// Bytes of a block in use.
    fn used_by(&self, at: usize) -> usize {
        match self.count(at) {
            0 => self.size(at),
            count => (0..count).fold(at + HEADER, |at, _| self.entry(at).end()) - at,
        }
    }

    fn put_owner(&mut self, at: usize, owner: u16) {
        self.arena[at..][..2].copy_from_slice(&owner.to_le_bytes());
    }

    fn put_size(&mut self, at: usize, size: usize) {
        let [a, b, c, _] = (size as u32).to_le_bytes();
        self.arena[at + 2..][..3].copy_from_slice(&[a, b, c]);
    }

    fn put_header(&mut self, at: usize, owner: u16, size: usize, count: usize) {
        self.put_owner(at, owner);
        self.put_size(at, size);
        // At most GROUP.
        self.arena[at + 5] = count as u8;
    }
}

/// Bytes of a text, separator included.
pub(super) const fn len_of(text: SeriesText<'_>) -> usize {
    text.name.len() + 1 + text.body.len()
}

fn split(text: &[u8]) -> Option<SeriesText<'_>> {
    let at = text.iter().position(|&byte| byte == SEPARATOR)?;
    // Whole `str`s went in.
    Some(SeriesText {
        name: core::str::from_utf8(&text[..at]).ok()?,
        body: core::str::from_utf8(&text[at + 1..]).ok()?,
    })
}

fn is(held: &[u8], text: SeriesText<'_>) -> bool {
    held.split_at_checked(text.name.len()).is_some_and(|(name, rest)| {
        name == text.name.as_bytes()
            && rest
                .split_first()
                .is_some_and(|(&separator, body)| separator == SEPARATOR && body == text.body.as_bytes())
    })
}

/// Bytes that `text` shares with `before` at either end, at most 255 each, never the same twice.
fn share(before: &[u8], text: SeriesText<'_>) -> (usize, usize) {
    let bytes = || text.name.bytes().chain([SEPARATOR]).chain(text.body.bytes());
    let room = before.len().min(len_of(text));
    let prefix = before.iter().zip(bytes()).take(room.min(255));
    let prefix = prefix.take_while(|&(a, b)| *a == b).count();
    let suffix = before.iter().rev().zip(bytes().rev()).take((room - prefix).min(255));
    (prefix, suffix.take_while(|&(a, b)| *a == b).count())
}

/// Fills `out` with the bytes of `text` from `from` on.
fn copy_part(out: &mut [u8], text: SeriesText<'_>, from: usize) {
    let (mut skip, mut out) = (from, out);
    for part in [text.name.as_bytes(), &[SEPARATOR], text.body.as_bytes()] {
        let over = part.len().min(skip);
        skip -= over;
        let part = &part[over..];
        let here = part.len().min(out.len());
        let (filled, rest) = out.split_at_mut(here);
        filled.copy_from_slice(&part[..here]);
        out = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    fn of(text: &str) -> SeriesText<'_> {
        let (name, body) = text.split_once('|').unwrap_or((text, ""));
        SeriesText { name, body }
    }

    fn put(texts: &mut Texts, nth: usize, text: &str) -> Result<(), NoRoom> {
        texts.put(0, nth, false, of(text))
    }

    fn all(texts: &mut Texts, group: usize, count: usize) -> Vec<String> {
        let one = |nth| {
            let text = texts.text(group, nth)?;
            Some(format!("{}|{}", text.name, text.body))
        };
        (0..count).map_while(one).collect()
    }

    #[test]
    fn neighbours_share_both_ends() {
        let mut texts = Texts::new(400, 20, 2);
        put(&mut texts, 0, r#"http_requests_total|code="200",path="/a""#).unwrap();
        assert_eq!(texts.used(), HEADER + 3 + 40);
        put(&mut texts, 1, r#"http_requests_total|code="404",path="/a""#).unwrap();
        assert_eq!(texts.used(), HEADER + 3 + 40 + 3 + 3);
        put(&mut texts, 1, r#"http_requests_total|code="204",path="/a""#).unwrap();
        // One byte that its neighbours have not, and of the last one two more are shared.
        assert_eq!(texts.used(), HEADER + 3 + 40 + 3 + 1 + 3 + 1);
        assert_eq!(texts.text(0, 2).unwrap().body, r#"code="404",path="/a""#);
        texts.set_target(1, "job=\"a\"").unwrap();
        let (text, target) = texts.text_and_target(0, 1, 1).unwrap();
        assert_eq!((text.body, target), (r#"code="204",path="/a""#, "job=\"a\""));
        assert_eq!(texts.target(0), None);
        assert_eq!(texts.text(1, 0), None);
        assert!(texts.is(0, 0, of(r#"http_requests_total|code="200",path="/a""#)));
        assert!(!texts.is(0, 0, of(r#"http_requests_total|code="404",path="/a""#)));
    }

    #[test]
    fn a_text_that_does_not_fit_changes_nothing() {
        let mut texts = Texts::new(24, 4, 1);
        put(&mut texts, 0, "abcdefgh").unwrap();
        assert_eq!(put(&mut texts, 1, "012345"), Err(NoRoom));
        assert_eq!(
            (texts.used(), all(&mut texts, 0, 2)),
            (18, ["abcdefgh|".into()].to_vec())
        );
        assert_eq!(texts.put(0, 0, true, of(&"x".repeat(15))), Err(NoRoom));
        assert_eq!(texts.set_target(0, "j"), Err(NoRoom));
        put(&mut texts, 1, "ab").unwrap();
        assert_eq!(all(&mut texts, 0, 2), ["abcdefgh|", "ab|"]);
    }

    #[test]
    fn what_cannot_be_taken_out_stays() {
        let (long, tail) = ("l".repeat(200), "t".repeat(50));
        // The third shares with the second what the second shares with the first, but elsewhere.
        let wanted = [
            format!("{long}X{tail}|"),
            format!("{long}Y{tail}|"),
            format!("Z{}Y{tail}|", &long[50..]),
        ];
        let mut texts = Texts::new(290, 3, 0);
        for (nth, text) in wanted.iter().enumerate() {
            put(&mut texts, nth, text).unwrap();
        }
        assert_eq!(texts.remove(0, 1), Err(NoRoom));
        assert_eq!(all(&mut texts, 0, 3), wanted);
        texts.remove(0, 0).unwrap();
        assert_eq!(all(&mut texts, 0, 3), wanted[1..]);
    }

    #[test]
    fn agrees_with_lists_of_texts_through_compactions() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut texts = Texts::new(2_000, 3 * GROUP, 2);
        let mut model: [Vec<String>; 3] = Default::default();
        let mut targets = [None, None];
        let (mut refused, mut kept) = (0, 0);
        for round in 0..30_000 {
            let group = random.usize(0..3);
            let known = &mut model[group];
            let nth = random.usize(0..=known.len());
            let part = |random: &mut fastrand::Rng| format!("{:x}", random.u32(0..6)).repeat(random.usize(0..30));
            let text = format!("{}|{}{}", part(&mut random), part(&mut random), part(&mut random));
            match random.u8(0..10) {
                0..5 if known.len() < GROUP => match texts.put(group, nth, false, of(&text)) {
                    Ok(()) => known.insert(nth, text),
                    Err(NoRoom) => refused += 1,
                },
                5..7 if nth < known.len() => match texts.put(group, nth, true, of(&text)) {
                    Ok(()) => known[nth] = text,
                    Err(NoRoom) => refused += 1,
                },
                7..9 if nth < known.len() => match texts.remove(group, nth) {
                    Ok(()) => drop(known.remove(nth)),
                    Err(NoRoom) => kept += 1,
                },
                9 => {
                    let target = random.usize(0..2);
                    match texts.set_target(target, &text) {
                        Ok(()) => targets[target] = Some(text),
                        Err(NoRoom) => refused += 1,
                    }
                }
                _ => {}
            }
            if round % 7 == 0 {
                let group = random.usize(0..3);
                let nth = random.usize(0..GROUP);
                let text = model[group].get(nth).map(|text| of(text));
                assert_eq!(texts.text(group, nth), text, "round {round}");
                assert_eq!(texts.text_len(group, nth), text.map_or(0, len_of));
            }
            for (group, known) in model.iter().enumerate() {
                assert_eq!(all(&mut texts, group, GROUP + 1), *known, "round {round}");
            }
            let known = targets.iter().map(Option::as_deref);
            assert!(known.eq([texts.target(0), texts.target(1)]), "round {round}");
            let blocks = texts.places.iter().enumerate();
            let live: usize = blocks
                .filter_map(|(owner, _)| Some(texts.used_by(texts.place(owner)?)))
                .sum();
            assert_eq!(texts.used(), live, "round {round}");
        }
        assert!(refused > 100, "{refused} refused, {kept} could not be taken out");
        for (group, known) in model.iter().enumerate() {
            for nth in (0..known.len()).rev() {
                texts.remove(group, nth).unwrap();
            }
        }
        let targets: usize = targets.iter().flatten().map(|body| HEADER + body.len()).sum();
        assert_eq!(texts.used(), targets);
    }
}
