//! Texts kept once each, counted by reference, in one block of memory.
//!
//! Three pools (names, bodies, target bodies) share one arena. A pool gives each distinct text a 16-bit id.
//!
//! # Layout of the arena
//!
//! ```text
//! | tag u8 | id u16 | text ... | tag u8 | id u16 | text ... |      tail -> | unused
//!   tag: pool number, or 0xFF = hole; then the u16 is the length of the dead text
//! ```
//!
//! New texts go to the tail. A text whose last reference goes becomes a hole, or moves the tail back if it stands
//! last. When the tail reaches the end the arena is compacted in place, but only if the holes are at least 1/64 of
//! the arena: that bounds the copying to 64 bytes per new byte, and the price is that the last 1/64 may stay unused.
//!
//! # Invariants
//!
//! - Blocks are gapless from 0 to `tail`; `live` is the sum of the sizes of those that are not holes.
//! - A slot with references points at exactly one block, and that block names the slot.
//! - Nothing allocates after [`Interner::new`].

use super::probe::{home, remove_at, table_len};
use crate::hash::hash64;
use crate::limits::MAX_SERIES_TEXT_BYTES;
use alloc::boxed::Box;
use alloc::vec;

/// No id; also the empty place of a hash table.
pub(super) const NONE: u16 = u16::MAX;

/// Bytes in front of every text.
pub(super) const HEADER: usize = 3;

/// Marks a block whose text is gone.
const HOLE: u8 = 0xFF;

/// Holes must be at least one part in this many of the arena before it is compacted.
const COMPACT_PARTS: usize = 64;

/// Which kind of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Names = 0,
    Bodies = 1,
    Targets = 2,
}

/// The text does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Of the text; the next free slot's number when `refs` is 0.
    offset: u32,
    len: u16,
    refs: u16,
}

#[derive(Debug)]
struct Ids {
    slots: Box<[Slot]>,
    /// Open addressing, linear probing, at most three quarters full.
    table: Box<[u16]>,
    free: u16,
}

impl Ids {
    fn new(ids: usize) -> Self {
        let mut this = Self {
            slots: vec![
                Slot {
                    offset: 0,
                    len: 0,
                    refs: 0
                };
                ids
            ]
            .into_boxed_slice(),
            table: vec![NONE; table_len(ids)].into_boxed_slice(),
            free: NONE,
        };
        this.clear();
        this
    }

    fn clear(&mut self) {
        self.table.fill(NONE);
        self.free = NONE;
        for (i, slot) in self.slots.iter_mut().enumerate().rev() {
            *slot = Slot {
                offset: u32::from(self.free),
                len: 0,
                refs: 0,
            };
            // Below `NONE`: `new` is given at most 65,535 ids.
            self.free = i as u16;
        }
    }
}

/// The three pools and their arena.
#[derive(Debug)]
pub(super) struct Interner {
    arena: Box<[u8]>,
    tail: usize,
    live: usize,
    pools: [Ids; 3],
    seed: u64,
}

impl Interner {
    /// Pools of the given sizes (at most 65,535 each) over an arena of `bytes`. The only allocation.
    pub(super) fn new(names: usize, bodies: usize, targets: usize, bytes: usize, seed: u64) -> Self {
        Self {
            arena: vec![0; bytes].into_boxed_slice(),
            tail: 0,
            live: 0,
            pools: [Ids::new(names), Ids::new(bodies), Ids::new(targets)],
            seed,
        }
    }

    /// Heap bytes of such an interner.
    pub(super) const fn ram_bytes(names: usize, bodies: usize, targets: usize, bytes: usize) -> usize {
        let slots = (names + bodies + targets) * size_of::<Slot>();
        let tables = (table_len(names) + table_len(bodies) + table_len(targets)) * size_of::<u16>();
        slots + tables + bytes
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
        for pool in &mut self.pools {
            pool.clear();
        }
    }

    /// The text with this id; empty if there is none.
    pub(super) fn text(&self, pool: Pool, id: u16) -> &str {
        // Only whole `str`s are stored, so the check never fails; it costs less than unsafe code would to prove.
        core::str::from_utf8(self.bytes(pool, id)).unwrap_or_default()
    }

    /// The id of `text`, if it is there.
    pub(super) fn find(&self, pool: Pool, text: &str) -> Option<u16> {
        let at = self.probe(pool, text);
        let id = *self.pools[pool as usize].table.get(at)?;
        (id != NONE).then_some(id)
    }

    /// The id of `text`, with one more reference to it.
    pub(super) fn intern(&mut self, pool: Pool, text: &str) -> Result<u16, NoRoom> {
        let at = self.probe(pool, text);
        let ids = &mut self.pools[pool as usize];
        let known = ids.table[at];
        if known != NONE {
            ids.slots[usize::from(known)].refs += 1;
            return Ok(known);
        }
        let id = ids.free;
        if id == NONE || text.len() > MAX_SERIES_TEXT_BYTES {
            return Err(NoRoom);
        }
        let offset = self.append(pool, id, text)?;
        let ids = &mut self.pools[pool as usize];
        let slot = &mut ids.slots[usize::from(id)];
        ids.free = slot.offset as u16;
        // Lossless: MAX_SERIES_TEXT_BYTES is below 2^16 and `append` keeps the arena below 2^32.
        *slot = Slot {
            offset: offset as u32,
            len: text.len() as u16,
            refs: 1,
        };
        ids.table[at] = id;
        Ok(id)
    }

    /// Drops one reference; with the last the text goes.
    pub(super) fn release(&mut self, pool: Pool, id: u16) {
        let index = usize::from(id);
        let Some(slot) = self.pools[pool as usize].slots.get(index).copied() else {
            return;
        };
        match slot.refs {
            0 => {}
            1 => self.remove(pool, id, slot),
            _ => self.pools[pool as usize].slots[index].refs -= 1,
        }
    }

    fn remove(&mut self, pool: Pool, id: u16, slot: Slot) {
        let at = self.probe(pool, self.text(pool, id));
        let (seed, arena) = (self.seed, &self.arena);
        let Ids { slots, table, free } = &mut self.pools[pool as usize];
        let len = table.len();
        remove_at(table, at, NONE, |&other| {
            let other = slots.get(usize::from(other))?;
            let start = other.offset as usize;
            Some(home(hash64(seed, &arena[start..start + usize::from(other.len)]), len))
        });
        slots[usize::from(id)] = Slot {
            offset: u32::from(*free),
            len: 0,
            refs: 0,
        };
        *free = id;
        let start = slot.offset as usize - HEADER;
        let size = HEADER + usize::from(slot.len);
        self.live -= size;
        if start + size == self.tail {
            self.tail = start;
        } else {
            self.write_header(start, HOLE, slot.len);
        }
    }

    /// Place of `text` in the table of `pool`, or the empty place where it would go.
    fn probe(&self, pool: Pool, text: &str) -> usize {
        let table = &self.pools[pool as usize].table;
        let mut at = home(hash64(self.seed, text.as_bytes()), table.len());
        // Ends: a quarter of the table is always empty.
        while table[at] != NONE && self.bytes(pool, table[at]) != text.as_bytes() {
            at = (at + 1) % table.len();
        }
        at
    }

    fn bytes(&self, pool: Pool, id: u16) -> &[u8] {
        match self.pools[pool as usize].slots.get(usize::from(id)) {
            Some(slot) if slot.refs > 0 => {
                let start = slot.offset as usize;
                &self.arena[start..start + usize::from(slot.len)]
            }
            _ => &[],
        }
    }

    /// Writes a block at the tail, compacting first if that helps. Returns the offset of the text.
    fn append(&mut self, pool: Pool, id: u16, text: &str) -> Result<usize, NoRoom> {
        let size = HEADER + text.len();
        if self.tail + size > self.arena.len() {
            if self.tail - self.live < (self.arena.len() / COMPACT_PARTS).max(1) {
                return Err(NoRoom);
            }
            self.compact();
        }
        let end = self.tail + size;
        if end > self.arena.len() || u32::try_from(end).is_err() {
            return Err(NoRoom);
        }
        let offset = self.tail + HEADER;
        self.write_header(self.tail, pool as u8, id);
        self.arena[offset..end].copy_from_slice(text.as_bytes());
        self.tail = end;
        self.live += size;
        Ok(offset)
    }

    fn compact(&mut self) {
        let (mut from, mut to) = (0, 0);
        while from < self.tail {
            let word = u16::from_le_bytes([self.arena[from + 1], self.arena[from + 2]]);
            let pool = usize::from(self.arena[from]);
            let Some(ids) = self.pools.get_mut(pool) else {
                from += HEADER + usize::from(word);
                continue;
            };
            let slot = &mut ids.slots[usize::from(word)];
            let size = HEADER + usize::from(slot.len);
            slot.offset = (to + HEADER) as u32;
            self.arena.copy_within(from..from + size, to);
            from += size;
            to += size;
        }
        self.tail = to;
    }

    fn write_header(&mut self, at: usize, tag: u8, word: u16) {
        let [low, high] = word.to_le_bytes();
        self.arena[at..at + HEADER].copy_from_slice(&[tag, low, high]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    #[test]
    fn equal_texts_share_an_id_within_a_pool_only() {
        let mut interner = Interner::new(4, 4, 1, 100, 0);
        let a = interner.intern(Pool::Names, "up").unwrap();
        assert_eq!(interner.intern(Pool::Names, "up"), Ok(a));
        assert_eq!(interner.used(), HEADER + 2);
        interner.intern(Pool::Bodies, "up").unwrap();
        assert_eq!(interner.used(), 2 * (HEADER + 2));
        interner.release(Pool::Names, a);
        assert_eq!(interner.text(Pool::Names, a), "up");
        interner.release(Pool::Names, a);
        assert_eq!(interner.find(Pool::Names, "up"), None);
        assert!(interner.find(Pool::Bodies, "up").is_some());
    }

    #[test]
    fn a_failed_intern_changes_nothing() {
        let mut interner = Interner::new(2, 1, 1, 20, 0);
        interner.intern(Pool::Names, "abcdefgh").unwrap();
        assert_eq!(interner.intern(Pool::Names, "0123456789"), Err(NoRoom));
        assert_eq!(interner.used(), 11);
        assert_eq!(interner.find(Pool::Names, "0123456789"), None);
        interner.intern(Pool::Names, "b").unwrap();
        assert_eq!(interner.intern(Pool::Names, "c"), Err(NoRoom), "no id left");
    }

    #[test]
    fn agrees_with_a_list_of_texts_through_compactions() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut interner = Interner::new(40, 40, 3, 1_600, 99);
        let mut model: Vec<(Pool, u16, String)> = Vec::new();
        let (mut compactions, mut refused) = (0, 0);
        for _ in 0..20_000 {
            if random.bool() || model.is_empty() {
                let pool = [Pool::Names, Pool::Bodies, Pool::Targets][random.usize(0..3)];
                let text = format!("{:x}", random.u32(0..60)).repeat(random.usize(0..40));
                let before = interner.tail;
                match interner.intern(pool, &text) {
                    Ok(id) => model.push((pool, id, text)),
                    Err(NoRoom) => refused += 1,
                }
                compactions += usize::from(interner.tail < before);
            } else {
                let (pool, id, _) = model.swap_remove(random.usize(0..model.len()));
                interner.release(pool, id);
            }
            for (pool, id, text) in &model {
                assert_eq!(interner.text(*pool, *id), text);
                assert_eq!(interner.find(*pool, text), Some(*id));
            }
        }
        assert!(compactions > 100 && refused > 100, "{compactions} {refused}");
        for (pool, id, _) in model {
            interner.release(pool, id);
        }
        assert_eq!(interner.used(), 0);
    }
}
