//! The short way through lines: samples of series that the caller knows by their text.
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
use crate::labels::find_byte;
use crate::sample::Number;
use crate::value;

/// Lines looked at ahead, at most.
pub const AHEAD: usize = 8;

/// A line that is a sample without exemplar, if its text is a known one. [`Parser::pass`] goes behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate<K> {
    /// Key of the text.
    pub key: K,
    /// The value.
    pub value: Number,
    /// The sample's own timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// Bytes of the line, newline included.
    len: usize,
}

impl Parser {
    /// Looks at the next lines, up to the first that cannot be a sample of a known series, and makes a key of the text of each:
    /// `candidates`, which is emptied first. Nothing is consumed.
    ///
    /// The first, if its key is that of the text of an [`Event::Sample`](super::super::Event) of a body in the same format, is what
    /// [`Parser::next`] would say next, and may be passed ([`Parser::pass`]), then the second, and so on. From the first unknown one
    /// on they mean nothing, and [`Parser::next`] is the one to ask.
    pub fn look_ahead<K>(&self, candidates: &mut heapless::Vec<Candidate<K>, AHEAD>, key: impl Fn(&[u8]) -> K) {
        candidates.clear();
        // A line that was found incomplete is left alone: `next` looks at each of its bytes only once.
        if self.state != State::Lines || self.tried > 0 || self.format == Format::Protobuf {
            return;
        }
        let mut rest = self.unread();
        while !candidates.is_full()
            && let Some(found) = candidate(self.format, rest, &key)
        {
            rest = rest.get(found.len..).unwrap_or_default();
            // Not full, see above.
            let _ = candidates.push(found);
        }
    }

    /// Goes behind the next line, which is `candidate` and is known.
    pub fn pass<K>(&mut self, candidate: &Candidate<K>) {
        self.line = self.next_line;
        self.advance(candidate.len, 1);
    }
}

fn candidate<K>(format: Format, unread: &[u8], key: impl Fn(&[u8]) -> K) -> Option<Candidate<K>> {
    if unread.first() == Some(&b'#') {
        return None;
    }
    let line = unread.get(..find_byte(unread, b'\n')?)?;
    let (text, last) = split_last(line)?;
    // Labels end in a brace, and a name alone has no space in it.
    let (text, number, timestamp_ms) = if text.last() == Some(&b'}') || find_byte(text, b' ').is_none() {
        (text, last, None)
    } else {
        let timestamp_ms = sample::timestamp(format, last.token)?;
        let (text, number) = split_last(text)?;
        (text, number, Some(timestamp_ms))
    };
    Some(Candidate {
        value: number.value()?,
        key: key(text),
        timestamp_ms,
        len: line.len() + 1,
    })
}

/// What stands behind a space.
struct Last<'a> {
    token: &'a [u8],
    /// Its number, if it has only digits and no more of them than are surely exact.
    whole: Option<u64>,
}

impl Last<'_> {
    fn value(&self) -> Option<Number> {
        match self.whole {
            // Such a number is a decimal as it stands.
            Some(whole) => Some(Number::decimal(whole as i64, 0)),
            None => value::parse(self.token),
        }
    }
}

/// What stands before the last space, and behind it. Digits are added up on the way.
fn split_last(line: &[u8]) -> Option<(&[u8], Last<'_>)> {
    // All numbers of 15 digits are below 2^53.
    const LIMIT: u64 = 1_000_000_000_000_000;
    let (mut at, mut whole, mut place) = (line.len(), 0, 1);
    loop {
        at = at.checked_sub(1)?;
        let byte = *line.get(at)?;
        let digit = u64::from(byte.wrapping_sub(b'0'));
        if digit > 9 || place == LIMIT {
            let blank = line.get(..=at)?.iter().rposition(|&byte| byte == b' ')?;
            let (text, rest) = line.split_at_checked(blank)?;
            let token = rest.get(1..)?;
            let whole = (blank == at && !token.is_empty()).then_some(whole);
            return Some((text, Last { token, whole }));
        }
        whole += digit * place;
        place *= 10;
    }
}
