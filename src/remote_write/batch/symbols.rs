//! Strings, each kept once, and their numbers in the request at hand.
//!
//! A string stays here from batch to batch under an *id*. A request names only strings it uses: the first
//! use gives an id its *reference*, its place in `symbols`. So the price of hashing and comparing is paid once per string,
//! not once per request, and a request carries no string in vain.
//!
//! The memory is fixed; [`Full`] when it is used up, [`Symbols::clear`] starts anew.

use crate::frame::{Bounded, Full};
use crate::hash::hash64;
use crate::remote_write::proto;
use alloc::boxed::Box;
use alloc::vec;

/// No id, no reference.
const NONE: u16 = u16::MAX;

/// Id and reference of the empty string: the specification wants it first in every request.
const EMPTY: u16 = 0;

/// Strings and their references.
#[derive(Debug)]
pub struct Symbols {
    text: Bounded<u8>,
    /// Where each string begins in `text`; it ends where the next begins.
    starts: Bounded<u32>,
    /// Open addressing, linear probing, at most half full: ids.
    table: Box<[u16]>,
    seed: u64,
    /// By id.
    reference_of: Box<[u16]>,
    /// By reference.
    used: Bounded<u16>,
    /// Bytes of the `symbols` fields of the strings used.
    used_bytes: usize,
}

const fn table_len(strings: usize) -> usize {
    (strings * 2).next_power_of_two()
}

impl Symbols {
    /// For `strings` strings (at most 65,534) of together `text_bytes`. The only call that allocates. `seed` keeps
    /// targets from choosing colliding texts.
    pub fn new(strings: usize, text_bytes: usize, seed: u64) -> Self {
        let strings = strings.min(usize::from(NONE) - 1);
        let mut symbols = Self {
            text: Bounded::with_capacity(text_bytes),
            starts: Bounded::with_capacity(strings),
            table: vec![NONE; table_len(strings)].into(),
            seed,
            reference_of: vec![NONE; strings].into(),
            used: Bounded::with_capacity(strings),
            used_bytes: 0,
        };
        symbols.clear();
        symbols
    }

    /// Heap bytes for these sizes.
    pub const fn ram_bytes(strings: usize, text_bytes: usize) -> usize {
        text_bytes + strings * (size_of::<u32>() + 2 * size_of::<u16>()) + table_len(strings) * size_of::<u16>()
    }

    /// Forgets all strings but the empty one.
    pub fn clear(&mut self) {
        self.text.clear();
        self.starts.clear();
        self.table.fill(NONE);
        self.reference_of.fill(NONE);
        self.used.clear();
        self.used_bytes = 0;
        // There is room for one string of no bytes, and for its use.
        let _ = self.intern("");
        self.refer(EMPTY);
    }

    /// Forgets the references: a new request begins.
    pub fn begin(&mut self) {
        self.undo(0);
        self.refer(EMPTY);
    }

    /// The id of `text`.
    ///
    /// # Errors
    /// [`Full`]; nothing was changed.
    pub fn intern(&mut self, text: &str) -> Result<u16, Full> {
        let mask = self.table.len() - 1;
        let mut cell = hash64(self.seed, text.as_bytes()) as usize & mask;
        while let Some(&id) = self.table.get(cell).filter(|&&id| id != NONE) {
            if self.text(id) == text.as_bytes() {
                return Ok(id);
            }
            cell = (cell + 1) & mask;
        }
        let id = self.starts.len() as u16;
        let start = self.text.len() as u32;
        self.text.extend(text.as_bytes())?;
        if let Err(full) = self.starts.push(start) {
            self.text.truncate(start as usize);
            return Err(full);
        }
        if let Some(entry) = self.table.get_mut(cell) {
            *entry = id;
        }
        Ok(id)
    }

    /// The id of `text`, if it is kept.
    pub fn find(&self, text: &[u8]) -> Option<u16> {
        let mask = self.table.len() - 1;
        let mut cell = hash64(self.seed, text) as usize & mask;
        while let Some(&id) = self.table.get(cell).filter(|&&id| id != NONE) {
            if self.text(id) == text {
                return Some(id);
            }
            cell = (cell + 1) & mask;
        }
        None
    }

    /// The string with this id.
    pub fn text(&self, id: u16) -> &[u8] {
        let id = usize::from(id);
        let Some(&start) = self.starts.get(id) else {
            return &[];
        };
        let end = self.starts.get(id + 1).map_or(self.text.len(), |&next| next as usize);
        self.text.get(start as usize..end).unwrap_or_default()
    }

    /// Makes the string part of the request, if it is not yet.
    pub fn refer(&mut self, id: u16) {
        let reference = self.used.len() as u16;
        match self.reference_of.get_mut(usize::from(id)) {
            Some(entry) if *entry == NONE => *entry = reference,
            _ => return,
        }
        self.used_bytes += proto::len_field(self.text(id).len());
        // One use per id, and as much room as there are ids.
        let _ = self.used.push(id);
    }

    /// The reference of a string that is part of the request.
    pub fn reference(&self, id: u16) -> u16 {
        self.reference_of.get(usize::from(id)).copied().unwrap_or(EMPTY)
    }

    /// The reference of a string, if it is part of the request.
    pub fn reference_of(&self, id: u16) -> Option<u16> {
        let reference = self.reference_of.get(usize::from(id)).copied();
        reference.filter(|&reference| reference != NONE)
    }

    /// The strings of the request, by reference.
    pub fn used(&self) -> impl Iterator<Item = &[u8]> {
        self.used.iter().map(|&id| self.text(id))
    }

    /// Number of strings of the request.
    pub fn used_len(&self) -> usize {
        self.used.len()
    }

    /// Bytes their `symbols` fields take.
    pub const fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Takes strings out of the request until it has `used_len`.
    pub fn undo(&mut self, used_len: usize) {
        while let Some(&id) = self.used.get(used_len..).and_then(<[u16]>::last) {
            self.used_bytes -= proto::len_field(self.text(id).len());
            if let Some(entry) = self.reference_of.get_mut(usize::from(id)) {
                *entry = NONE;
            }
            self.used.truncate(self.used.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    #[test]
    fn a_request_names_what_it_uses_in_the_order_of_use() {
        let mut symbols = Symbols::new(10, 100, 1);
        let [a, b, c] = ["a", "b", "c"].map(|text| symbols.intern(text).expect("fits"));
        assert_eq!(symbols.intern("b"), Ok(b));
        for id in [c, a, c] {
            symbols.refer(id);
        }
        assert_eq!(symbols.used().collect::<Vec<_>>(), [&b""[..], b"c", b"a"]);
        assert_eq!([symbols.reference(c), symbols.reference(a)], [1, 2]);
        assert_eq!(symbols.used_bytes(), 2 + 3 + 3);
        symbols.undo(2);
        symbols.refer(b);
        assert_eq!(symbols.used().collect::<Vec<_>>(), [&b""[..], b"c", b"b"]);
        symbols.begin();
        assert_eq!(symbols.used().collect::<Vec<_>>(), [b""]);
        assert_eq!(symbols.used_bytes(), 2);
        assert_eq!(symbols.intern("a"), Ok(a), "strings outlive the request");
    }

    #[test]
    fn agrees_with_a_map_over_many_strings() {
        let mut rng = fastrand::Rng::with_seed(9);
        let mut symbols = Symbols::new(500, 5000, 3);
        let mut map = alloc::collections::BTreeMap::new();
        for _ in 0..5000 {
            let text = format!("{}", rng.u16(0..480));
            let id = symbols.intern(&text).expect("fits");
            assert_eq!(*map.entry(text.clone()).or_insert(id), id);
            assert_eq!(symbols.text(id), text.as_bytes());
        }
        let distinct: alloc::collections::BTreeSet<_> = map.values().collect();
        assert_eq!(distinct.len(), map.len());
    }

    #[test]
    fn full_changes_nothing() {
        let mut symbols = Symbols::new(3, 10, 1);
        let a = symbols.intern("aaaa");
        assert!(symbols.intern("more than ten bytes").is_err());
        let b = symbols.intern("bbbbbb");
        assert_eq!((a, b), (Ok(1), Ok(2)));
        assert!(symbols.intern("").is_ok());
        assert!(symbols.intern("c").is_err());
        assert_eq!(
            (symbols.text(1), symbols.text(2), symbols.text(3)),
            (&b"aaaa"[..], &b"bbbbbb"[..], &b""[..])
        );
        symbols.clear();
        assert_eq!(symbols.intern("c"), Ok(1));
    }
}
