//! The canonical text of names and labels: writing it, splitting it, reading it back.

use super::scan::find_any2;
use super::{is_legacy_label_name, is_legacy_metric_name};
use crate::catalogue::SeriesText;
use alloc::string::String;
use core::cmp::Ordering;
use core::fmt::{self, Write};

/// Text of a bounded length in memory that is allocated once.
///
/// Writing beyond the limit is [`fmt::Error`] and leaves what was there before the write.
#[derive(Debug)]
pub struct TextBuf {
    text: String,
    limit: usize,
}

impl TextBuf {
    /// Empty text of at most `limit` bytes. Allocates; the only call here that does.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            text: String::with_capacity(limit),
            limit,
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Forgets the text, keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
    }

    /// Bytes it was made for.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }
}

impl Write for TextBuf {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.limit - self.text.len() < text.len() {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        Ok(())
    }
}

impl core::ops::Deref for TextBuf {
    type Target = str;
    fn deref(&self) -> &str {
        &self.text
    }
}

/// The first bytes of something that was refused, for an error text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    bytes: heapless::Vec<u8, { Self::BYTES }>,
    cut: bool,
}

impl Excerpt {
    /// Bytes kept: enough to find the line in a page of metrics, small enough to travel in a `Result`.
    pub const BYTES: usize = 64;

    /// Copies the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let kept = bytes.get(..Self::BYTES).unwrap_or(bytes);
        Self {
            // At most BYTES by the line above, so it always fits.
            bytes: heapless::Vec::from_slice(kept).unwrap_or_default(),
            cut: kept.len() < bytes.len(),
        }
    }

    /// True when there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl fmt::Display for Excerpt {
    /// In double quotes, control and non-ASCII bytes escaped, `...` when cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dots = if self.cut { "..." } else { "" };
        write!(f, "\"{}{dots}\"", self.bytes.escape_ascii())
    }
}

/// A name or value still in its escaped form.
///
/// Only `\\`, `\"` and `\n` are escapes; any other backslash stands for itself.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl<'a> Escaped<'a> {
    /// The unescaped text when nothing in it is escaped: the usual case, at no cost.
    #[must_use]
    pub fn plain(self) -> Option<&'a str> {
        match find_any2(self.0.as_bytes(), 0, b'\\', b'\\') {
            Some(_) => None,
            None => Some(self.0),
        }
    }

    /// The unescaped text, piece by piece.
    #[must_use]
    pub const fn pieces(self) -> Pieces<'a> {
        Pieces { rest: self.0 }
    }

    /// Bytes of the unescaped text.
    #[must_use]
    pub fn unescaped_len(self) -> usize {
        self.pieces().map(str::len).sum()
    }

    /// Writes the unescaped text.
    ///
    /// # Errors
    /// `out` refused a write.
    pub fn unescape_into(self, out: &mut impl Write) -> fmt::Result {
        self.pieces().try_for_each(|piece| out.write_str(piece))
    }

    /// Compares the unescaped bytes with those of `plain`.
    #[must_use]
    pub fn cmp_plain(self, plain: &str) -> Ordering {
        self.pieces().flat_map(str::bytes).cmp(plain.bytes())
    }

    /// Compares the unescaped bytes of both.
    #[must_use]
    pub fn cmp_unescaped(self, other: Escaped<'_>) -> Ordering {
        if let Some(plain) = other.plain() {
            return self.cmp_plain(plain);
        }
        self.pieces()
            .flat_map(str::bytes)
            .cmp(other.pieces().flat_map(str::bytes))
    }
}

/// Pieces of an unescaped text; see [`Escaped::pieces`].
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let escape = match self.rest.as_bytes() {
            [b'\\', b'\\', ..] => Some("\\"),
            [b'\\', b'"', ..] => Some("\""),
            [b'\\', b'n', ..] => Some("\n"),
            _ => None,
        };
        if let Some(piece) = escape {
            self.rest = self.rest.get(2..).unwrap_or_default();
            return Some(piece);
        }
        // A lone backslash belongs to the piece, so the search begins behind the first byte.
        let end = find_any2(self.rest.as_bytes(), 1, b'\\', b'\\').unwrap_or(self.rest.len());
        // A backslash is ASCII, hence `end` is a character boundary.
        let (piece, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(piece)
    }
}

/// Writes `text` with `\`, `"` and newline escaped.
///
/// # Errors
/// `out` refused a write.
pub fn write_escaped(text: &str, out: &mut impl Write) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = super::find_any3(rest.as_bytes(), 0, b'\\', b'"', b'\n') {
        let Some((before, from)) = rest.split_at_checked(at) else {
            break; // not reached: the byte found is ASCII
        };
        out.write_str(before)?;
        out.write_str(match from.as_bytes().first() {
            Some(b'\n') => "\\n",
            Some(b'"') => "\\\"",
            _ => "\\\\",
        })?;
        rest = from.get(1..).unwrap_or_default();
    }
    out.write_str(rest)
}

/// Writes one label of a body: `name="value"`, the name quoted if it must be.
pub(crate) fn write_label(label: super::Label<'_>, out: &mut impl Write) -> fmt::Result {
    if is_legacy_label_name(label.name.as_bytes()) {
        out.write_str(label.name)?;
    } else {
        write_quoted(label.name, out)?;
    }
    out.write_char('=')?;
    write_quoted(label.value, out)
}

fn write_quoted(text: &str, out: &mut impl Write) -> fmt::Result {
    out.write_char('"')?;
    write_escaped(text, out)?;
    out.write_char('"')
}

/// Writes the joined form of `series`; see the module documentation for its grammar.
///
/// # Errors
/// `out` refused a write.
pub fn join_series(series: SeriesText<'_>, out: &mut impl Write) -> fmt::Result {
    let SeriesText { name, body } = series;
    if is_legacy_metric_name(name.as_bytes()) {
        out.write_str(name)?;
        if body.is_empty() {
            return Ok(());
        }
        out.write_char('{')?;
    } else {
        out.write_char('{')?;
        if !name.is_empty() {
            write_quoted(name, out)?;
            out.write_str(if body.is_empty() { "" } else { "," })?;
        }
    }
    out.write_str(body)?;
    out.write_char('}')
}

/// Splits the joined form into name and body; the body is not looked into.
///
/// `scratch` is used only when the name has escapes in it, and is cleared first.
/// `None`: not in canonical form, or the unescaped name does not fit into `scratch`.
#[must_use]
pub fn split_series<'a>(joined: &'a str, scratch: &'a mut TextBuf) -> Option<SeriesText<'a>> {
    let Some(inside) = joined.strip_prefix('{') else {
        let (name, body) = match joined.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}')?),
            None => (joined, ""),
        };
        return is_legacy_metric_name(name.as_bytes()).then_some(SeriesText { name, body });
    };
    let inside = inside.strip_suffix('}')?;
    let Some(quoted) = inside.strip_prefix('"') else {
        return Some(SeriesText { name: "", body: inside });
    };
    let end = closing_quote(quoted)?;
    let (name, rest) = (Escaped(quoted.get(..end)?), quoted.get(end + 1..)?);
    if rest.starts_with('=') {
        // A quoted label name: there is no metric name.
        return Some(SeriesText { name: "", body: inside });
    }
    let body = if rest.is_empty() { rest } else { rest.strip_prefix(',')? };
    if let Some(name) = name.plain() {
        return Some(SeriesText { name, body });
    }
    scratch.clear();
    name.unescape_into(scratch).ok()?;
    Some(SeriesText {
        name: scratch.as_str(),
        body,
    })
}

/// Position of the quote that ends `text`, which begins behind the opening one.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        at = find_any2(bytes, at, b'"', b'\\')?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// One label of a body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLabel<'a> {
    /// The name; has escapes only if it was quoted.
    pub name: Escaped<'a>,
    /// The value.
    pub value: Escaped<'a>,
}

/// Labels of a canonical body, in order; see [`body_labels`].
#[derive(Clone, Debug)]
pub struct BodyLabels<'a> {
    rest: &'a str,
}

/// The labels of `body`, borrowed from it.
///
/// Iteration ends at the first thing that is not a label; [`BodyLabels::rest`] is empty unless that happened.
#[must_use]
pub const fn body_labels(body: &str) -> BodyLabels<'_> {
    BodyLabels { rest: body }
}

impl<'a> BodyLabels<'a> {
    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a str {
        self.rest
    }

    /// Reads the label at the front and what follows it.
    fn split_first(&self) -> Option<(BodyLabel<'a>, &'a str)> {
        let (name, rest) = if let Some(quoted) = self.rest.strip_prefix('"') {
            let end = closing_quote(quoted)?;
            (quoted.get(..end)?, quoted.get(end + 1..)?.strip_prefix('=')?)
        } else {
            self.rest.split_once('=')?
        };
        let value = rest.strip_prefix('"')?;
        let end = closing_quote(value)?;
        let label = BodyLabel {
            name: Escaped(name),
            value: Escaped(value.get(..end)?),
        };
        let rest = value.get(end + 1..)?;
        match rest.strip_prefix(',') {
            Some(rest) if !rest.is_empty() => Some((label, rest)),
            None if rest.is_empty() => Some((label, rest)),
            _ => None,
        }
    }
}

impl<'a> Iterator for BodyLabels<'a> {
    type Item = BodyLabel<'a>;

    fn next(&mut self) -> Option<BodyLabel<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (label, rest) = self.split_first()?;
        self.rest = rest;
        Some(label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    #[test]
    fn escapes_what_must_be_and_nothing_else() {
        for (plain, escaped) in [
            ("", ""),
            ("a", "a"),
            ("a\\b", "a\\\\b"),
            ("\"", "\\\""),
            ("line\nbreak", "line\\nbreak"),
            ("\\n", "\\\\n"),
            ("é\"ü", "é\\\"ü"),
        ] {
            let mut out = String::new();
            write_escaped(plain, &mut out).unwrap();
            assert_eq!(out, escaped);
            let mut back = String::new();
            Escaped(escaped).unescape_into(&mut back).unwrap();
            assert_eq!(back, plain);
            assert_eq!(Escaped(escaped).unescaped_len(), plain.len());
            assert_eq!(Escaped(escaped).cmp_plain(plain), Ordering::Equal);
        }
    }

    #[test]
    fn keeps_other_backslashes_verbatim() {
        for (escaped, plain) in [(r"\a", r"\a"), (r"a\", r"a\"), (r"\\\x", r"\\x"), (r"\\\\", r"\\")] {
            let back: String = Escaped(escaped).pieces().collect();
            assert_eq!(back, plain, "{escaped}");
        }
    }

    #[test]
    fn compares_unescaped_bytes() {
        // Escaped, `\n` (newline, 0x0a) would sort behind `a`.
        assert_eq!(Escaped("\\n").cmp_plain("a"), Ordering::Less);
        assert_eq!(Escaped("\\n").cmp_unescaped(Escaped("\\\\")), Ordering::Less);
        assert_eq!(Escaped("b").cmp_unescaped(Escaped("a\\\\")), Ordering::Greater);
    }

    #[test]
    fn splits_and_joins_series() {
        let mut scratch = TextBuf::new(64);
        for (joined, name, body) in [
            ("up", "up", ""),
            ("up{a=\"b\"}", "up", "a=\"b\""),
            ("{\"odd.name\"}", "odd.name", ""),
            ("{\"odd.name\",a=\"b\"}", "odd.name", "a=\"b\""),
            ("{\"a\\\"\\\\\\nb\",c=\"}\"}", "a\"\\\nb", "c=\"}\""),
            ("{a=\"b\"}", "", "a=\"b\""),
            ("{\"odd.label\"=\"b\"}", "", "\"odd.label\"=\"b\""),
            ("{}", "", ""),
        ] {
            let split = split_series(joined, &mut scratch).unwrap();
            assert_eq!((split.name, split.body), (name, body), "{joined}");
            let mut out = String::new();
            join_series(SeriesText { name, body }, &mut out).unwrap();
            assert_eq!(out, joined);
        }
    }

    #[test]
    fn refuses_to_split_what_is_not_canonical() {
        let mut scratch = TextBuf::new(4);
        for joined in [
            "",
            "a b",
            "up{",
            "up{a=\"b\"",
            "{\"a}",
            "{\"a\"b}",
            "{",
            "1a",
            "{\"a\\\\bcdefgh\"}",
        ] {
            assert_eq!(split_series(joined, &mut scratch), None, "{joined}");
        }
    }

    #[test]
    fn reads_bodies() {
        let read = |body| {
            let mut labels = body_labels(body);
            let list: Vec<(String, String)> = labels
                .by_ref()
                .map(|label| (label.name.pieces().collect(), label.value.pieces().collect()))
                .collect();
            (list, labels.rest().to_string())
        };
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(read(""), (Vec::new(), String::new()));
        assert_eq!(
            read("\"a.\\\"b\"=\"1\",c=\"x=\\\"y\\\",\\n\""),
            (alloc::vec![pair("a.\"b", "1"), pair("c", "x=\"y\",\n")], String::new())
        );
        assert_eq!(
            read("a=\"b\",c=d"),
            (alloc::vec![pair("a", "b")], "c=d".to_string()),
            "stops before the damage"
        );
        for damaged in [
            "a",
            "a=",
            "a=\"",
            "a=\"b",
            "a=\"b\"c=\"d\"",
            "a=\"b\",",
            "\"a\"",
            "\"a",
            "a=\"b\\\"",
        ] {
            assert_eq!(read(damaged).0, Vec::new(), "{damaged}");
        }
    }

    #[test]
    fn text_buffer_never_grows() {
        let mut text = TextBuf::new(4);
        let before = text.text.capacity();
        assert!(text.write_str("abc").is_ok());
        assert!(text.write_str("de").is_err());
        assert_eq!(&*text, "abc");
        assert!(text.write_str("d").is_ok());
        assert_eq!(text.text.capacity(), before);
        text.clear();
        assert_eq!((text.as_str(), text.limit()), ("", 4));
    }

    #[test]
    fn excerpt_is_bounded_and_printable() {
        assert_eq!(Excerpt::new(b"a\n\xff\"").to_string(), r#""a\n\xff\"""#);
        let long = Excerpt::new(&[b'x'; 100]).to_string();
        assert_eq!(long.len(), Excerpt::BYTES + 5);
        assert!(long.ends_with("x...\""));
    }
}
