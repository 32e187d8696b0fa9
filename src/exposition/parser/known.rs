//! The short way through a line: samples of series that the caller knows by their text.
//!
//! In a steady scrape nearly every line is one. It is taken apart from its end: what stands before the last one or two
//! spaces is a candidate for the series text, and if the caller knows that text, nobody has to walk its name, braces and quotes
//! to find where it ends.
//!
//! Why this is what [`Parser::next`] would have said: a known text was once cut out of a line by [`Parser::next`], in the same
//! format. How it cuts depends on the bytes up to the end of the text, and for a text without braces on what
//! follows: a space, then neither space nor brace, which holds here as a number follows. So the same bytes are cut at the
//! same place. A text with a raw newline in it is never a candidate. All else about the line (tabs, more spaces, exemplars,
//! anything wrong with it) is left to [`Parser::next`], which then begins from the same place.

use super::{Parser, State};
use crate::exposition::{Format, sample};
use crate::sample::Number;
use crate::value;

/// A sample line whose series is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known<T> {
    /// What it is known as.
    pub found: T,
    /// The value.
    pub value: Number,
    /// The sample's own timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

impl Parser {
    /// The next line, if it is a sample without exemplar whose series text `find` knows; otherwise `None`, nothing has happened, and
    /// [`Parser::next`] is the one to ask.
    ///
    /// `find` may know only texts of [`super::super::Event::Sample`] of bodies in the same format. It is asked once for the text of a
    /// line, and perhaps for bytes that are none. What it finds must not depend on whether it was asked before.
    pub fn next_known<T>(&mut self, mut find: impl FnMut(&[u8]) -> Option<T>) -> Option<Known<T>> {
        // A line that was found incomplete is left alone: `next` looks at each of its bytes only once.
        if self.state != State::Lines || self.tried > 0 || self.format == Format::Protobuf {
            return None;
        }
        let unread = self.unread();
        let line = unread.get(..line_end(unread)?)?;
        let known = read(self.format, line, &mut find)?;
        let len = line.len() + 1;
        self.line = self.next_line;
        self.advance(len, 1);
        Some(known)
    }
}

fn read<T>(format: Format, line: &[u8], find: &mut impl FnMut(&[u8]) -> Option<T>) -> Option<Known<T>> {
    let (text, last) = split_last(line)?;
    if let Some(value) = value::parse(last)
        && let Some(found) = find(text)
    {
        return Some(Known {
            found,
            value,
            timestamp_ms: None,
        });
    }
    let (text, number) = split_last(text)?;
    let timestamp_ms = Some(sample::timestamp(format, last)?);
    let value = value::parse(number)?;
    find(text).map(|found| Known {
        found,
        value,
        timestamp_ms,
    })
}

/// What stands before the last space, and behind it.
fn split_last(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().rposition(|&byte| byte == b' ')?;
    Some((line.get(..at)?, line.get(at + 1..)?))
}

/// Position of the first newline.
fn line_end(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = LOW << 7;
    // High bit set in the lowest byte that is a newline, perhaps in bytes above it.
    let newlines = |word: &[u8; 8]| {
        let zeroed = u64::from_le_bytes(*word) ^ (LOW * b'\n' as u64);
        zeroed.wrapping_sub(LOW) & !zeroed & HIGH
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = newlines(word);
        if found != 0 {
            return Some(index * 8 + (found.trailing_zeros() / 8) as usize);
        }
    }
    let at = rest.iter().position(|&byte| byte == b'\n')?;
    Some(words.len() * 8 + at)
}
