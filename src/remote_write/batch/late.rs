//! Strings that only one request has: those of exemplars, help texts, units.
//!
//! They would only crowd the symbols that are kept from batch to batch, so they are written straight into the body when it is
//! sealed, behind the others, and found again there. Each is written once.

use crate::frame::{Bounded, Full};
use crate::hash::hash64;
use alloc::boxed::Box;
use alloc::vec;

const NONE: u16 = u16::MAX;

/// Finds strings that were written to a body.
#[derive(Debug)]
pub struct Late {
    /// Open addressing, linear probing, at most half full: indices of `places`.
    table: Box<[u16]>,
    /// Offset and length in the body.
    places: Bounded<(u32, u32)>,
    seed: u64,
}

const fn table_len(strings: usize) -> usize {
    if strings == 0 {
        0
    } else {
        (strings * 2).next_power_of_two()
    }
}

const fn clamp(strings: usize) -> usize {
    if strings < NONE as usize {
        strings
    } else {
        NONE as usize - 1
    }
}

impl Late {
    /// For `strings` strings, at most 65,534. The only call that allocates.
    pub fn new(strings: usize, seed: u64) -> Self {
        let strings = clamp(strings);
        Self {
            table: vec![NONE; table_len(strings)].into(),
            places: Bounded::with_capacity(strings),
            seed,
        }
    }

    /// Heap bytes for so many strings.
    pub const fn ram_bytes(strings: usize) -> usize {
        let strings = clamp(strings);
        strings * size_of::<(u32, u32)>() + table_len(strings) * size_of::<u16>()
    }

    pub fn is_full(&self) -> bool {
        self.places.len() == self.places.capacity()
    }

    pub fn clear(&mut self) {
        if !self.places.is_empty() {
            self.table.fill(NONE);
            self.places.clear();
        }
    }

    /// The number of `text` if it was added; `body` is what it was written to.
    pub fn find(&self, body: &[u8], text: &[u8]) -> Option<u16> {
        let cell = self.cell(body, text)?;
        self.table.get(cell).copied().filter(|&index| index != NONE)
    }

    /// Takes note of a string that was not found and now begins at `at` of the body.
    ///
    /// # Errors
    /// [`Full`]; nothing was changed.
    pub fn add(&mut self, body: &[u8], at: usize, text: &[u8]) -> Result<(), Full> {
        let index = self.places.len() as u16;
        let cell = self.cell(body, text);
        self.places.push((at as u32, text.len() as u32))?;
        if let Some(cell) = cell.and_then(|cell| self.table.get_mut(cell)) {
            *cell = index;
        }
        Ok(())
    }

    /// Where the index of `text` is, or would be.
    fn cell(&self, body: &[u8], text: &[u8]) -> Option<usize> {
        let mask = self.table.len().checked_sub(1)?;
        let mut cell = hash64(self.seed, text) as usize & mask;
        while let Some(&(at, len)) = self.places.get(usize::from(*self.table.get(cell)?)) {
            if body.get(at as usize..at as usize + len as usize) == Some(text) {
                break;
            }
            cell = (cell + 1) & mask;
        }
        Some(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_found_where_it_was_written() {
        let body = b"..trace_id..abc..";
        let mut late = Late::new(2, 7);
        assert_eq!(late.find(body, b"abc"), None);
        assert_eq!(late.add(body, 2, b"trace_id"), Ok(()));
        assert_eq!(late.add(body, 12, b"abc"), Ok(()));
        assert_eq!(late.add(body, 0, b"x"), Err(Full { limit: 2 }));
        assert_eq!(
            [late.find(body, b"trace_id"), late.find(body, b"abc")],
            [Some(0), Some(1)]
        );
        assert_eq!(late.find(body, b"x"), None);
        late.clear();
        assert_eq!(late.find(body, b"abc"), None);
    }

    #[test]
    fn without_room_nothing_is_found() {
        let mut late = Late::new(0, 7);
        assert_eq!((late.find(b"", b""), Late::ram_bytes(0)), (None, 0));
        assert_eq!(late.add(b"", 0, b""), Err(Full { limit: 0 }));
    }
}
