//! What hash tables with linear probing share.
//!
//! A table of [`table_len`] places holds at most the number of entries it was made for, so a quarter of it is always
//! empty, every probe ends, and removal needs no tombstones.

/// Places of a table for `entries`: a quarter stays empty, so that probes stay short.
pub(crate) const fn table_len(entries: usize) -> usize {
    entries + entries / 3 + 1
}

/// Maps a hash to a place in a table of `len`.
pub(crate) const fn home(hash: u64, len: usize) -> usize {
    (((hash >> 32) * len as u64) >> 32) as usize
}

/// Puts `empty` at place `at` and moves later entries up, so that no probe is broken.
///
/// `home_of` says where an entry would best stand, `None` for an empty place.
pub(crate) fn remove_at<T: Copy>(table: &mut [T], at: usize, empty: T, home_of: impl Fn(&T) -> Option<usize>) {
    let len = table.len();
    let mut gap = at;
    let mut next = (at + 1) % len;
    // Ends: the table is never full.
    while let Some(home) = home_of(&table[next]) {
        // Entries between their home and here may move up to the gap, but not past their home.
        if (next + len - home) % len >= (next + len - gap) % len {
            table[gap] = table[next];
            gap = next;
        }
        next = (next + 1) % len;
    }
    table[gap] = empty;
}
