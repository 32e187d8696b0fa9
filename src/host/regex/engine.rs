//! The engine: RE2 syntax on top of regex-lite.
//!
//! [`compile`] is the engine behind [`crate::relabel::Pattern`]. Configurations are written for Prometheus, so
//! patterns mean here what Go's RE2 takes them to mean: `translate` rewrites what regex-lite spells differently, refuses with
//! a place what it cannot say, and the result is anchored as Prometheus anchors, `^(?s:...)$`.
//!
//! Refused although Go takes it: Unicode classes (`\pL`, `\p{Greek}`), `\C`, non-ASCII characters together with `(?i)` (regex-lite
//! folds ASCII only), more than 15 groups, unbalanced parentheses that only the anchoring would balance, nesting deeper than 50.
//!
//! Memory: a compiled pattern may take [`SIZE_LIMIT`] bytes, typically 2 KiB. **Matching allocates**: regex-lite makes a cache
//! at the first match and keeps it (about 3 KiB for typical patterns), and each match borrows it through a mutex. Verdicts are
//! kept per series by the caller, so matching happens only for series texts not seen before.
//!
//! Time is linear in the text times the pattern's size: 2-4 microseconds for typical labels.
//!
//! Sources: Go `regexp/syntax` documentation; regex-lite's documentation; `SCR-602`.

use super::translate;
use crate::relabel::{Groups, MAX_GROUPS, Pattern, PatternError};
use alloc::boxed::Box;
use alloc::format;
use core::cell::RefCell;
use regex_lite::{CaptureLocations, Regex, RegexBuilder};

/// Bytes a compiled pattern may take. The engine's default would let `(a{1000}){1000}` reach 16 MB; with this it stops at 66 KB.
/// Typical relabelling patterns take about 2 KiB; lower limits begin to refuse long alternations and counted repetitions.
pub const SIZE_LIMIT: usize = 64 * 1024;

/// Compiles an RE2 pattern for matching whole texts.
///
/// # Errors
/// [`PatternError`] with the place, where one can be named.
pub fn compile(pattern: &str) -> Result<Box<dyn Pattern>, PatternError> {
    let whole = |message| PatternError { column: 0, message };
    let anchored = format!("^(?s:{})$", translate(pattern)?);
    let regex = RegexBuilder::new(&anchored)
        .size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| whole(format!("{error} in regex {pattern:?}")))?;
    if regex.captures_len() > MAX_GROUPS {
        let count = regex.captures_len() - 1;
        return Err(whole(format!("regex has {count} groups, limit is {}", MAX_GROUPS - 1)));
    }
    let locations = RefCell::new(regex.capture_locations());
    Ok(Box::new(Compiled { regex, locations }))
}

#[derive(Debug)]
struct Compiled {
    regex: Regex,
    /// Reused by every match; never borrowed across a call.
    locations: RefCell<CaptureLocations>,
}

impl Pattern for Compiled {
    fn is_full_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    fn captures(&self, text: &str, groups: &mut Groups) -> bool {
        let mut locations = self.locations.borrow_mut();
        if self.regex.captures_read(&mut locations, text).is_none() {
            return false;
        }
        for index in 0..self.group_count() {
            if let Some((start, end)) = locations.get(index) {
                groups.set(index, start, end);
            }
        }
        true
    }

    fn group_named(&self, name: &str) -> Option<usize> {
        self.regex.capture_names().position(|known| known == Some(name))
    }

    fn group_count(&self) -> usize {
        self.regex.captures_len()
    }
}
