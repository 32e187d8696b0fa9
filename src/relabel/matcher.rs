//! Matching a whole text: own fast paths for common patterns, a compiled expression for the rest.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Groups of a pattern, the whole match (number 0) included. 16 bytes each on the stack while a rule runs; patterns with more are
/// refused when they are compiled.
pub const MAX_GROUPS: usize = 16;

/// A compiled regular expression that is matched against whole texts; `.` matches newline (`SCR-602`).
pub trait Pattern: fmt::Debug {
    /// True when all of `text` matches.
    fn is_full_match(&self, text: &str) -> bool;

    /// As [`Pattern::is_full_match`], and on a match sets `groups`: number 0 is the whole, then the groups in the order
    /// of their opening parentheses.
    fn captures(&self, text: &str, groups: &mut Groups) -> bool;

    /// Number of the group with this name.
    fn group_named(&self, name: &str) -> Option<usize>;

    /// Number of groups, the whole included; at most [`MAX_GROUPS`].
    fn group_count(&self) -> usize;
}

/// Why a pattern could not be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// Character of the pattern, counted from 1; 0: the pattern as a whole.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.column {
            0 => Ok(()),
            column => write!(f, " at character {column} of the regex"),
        }
    }
}

impl core::error::Error for PatternError {}

/// Compiles a regular expression: the engine that the host plugs in.
pub type Compile<'a> = dyn Fn(&str) -> Result<Box<dyn Pattern>, PatternError> + 'a;

/// Byte ranges of the groups of a match.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    spans: [(usize, usize); MAX_GROUPS],
}

impl Groups {
    /// Forgets all groups.
    pub fn clear(&mut self) {
        self.spans = Default::default();
    }

    /// Sets group `index` to the bytes `start..end`; an index out of range is ignored.
    pub fn set(&mut self, index: usize, start: usize, end: usize) {
        if let Some(span) = self.spans.get_mut(index) {
            *span = (start, end);
        }
    }

    /// What group `index` matched in `text`; empty when it took no part or does not exist.
    #[must_use]
    pub fn get<'t>(&self, text: &'t str, index: usize) -> &'t str {
        self.spans
            .get(index)
            .and_then(|&(start, end)| text.get(start..end))
            .unwrap_or_default()
    }
}

/// A pattern ready to match.
#[derive(Debug)]
pub struct Matcher(Shape);

#[derive(Debug)]
enum Shape {
    /// `a|b|c`: one of these words; `grouped` when in parentheses that capture.
    Words { words: Box<[Box<str>]>, grouped: bool },
    /// `prefix.*suffix`: at least `least` bytes between the two; `grouped` when the wildcard captures.
    Wildcard {
        prefix: Box<str>,
        suffix: Box<str>,
        least: usize,
        grouped: bool,
    },
    /// Anything else.
    Compiled(Box<dyn Pattern>),
}

impl Matcher {
    /// Prepares `pattern`, with `compile` if it needs a regular expression engine.
    ///
    /// # Errors
    /// What `compile` returned.
    pub fn new(pattern: &str, compile: &Compile<'_>) -> Result<Self, PatternError> {
        match words(pattern).or_else(|| wildcard(pattern)) {
            Some(shape) => Ok(Self(shape)),
            None => compile(pattern).map(|pattern| Self(Shape::Compiled(pattern))),
        }
    }

    /// True when all of `text` matches.
    #[must_use]
    pub fn is_full_match(&self, text: &str) -> bool {
        match &self.0 {
            Shape::Words { words, .. } => words.iter().any(|word| &**word == text),
            Shape::Wildcard {
                prefix, suffix, least, ..
            } => {
                text.len() >= prefix.len() + suffix.len() + least
                    && text.starts_with(&**prefix)
                    && text.ends_with(&**suffix)
            }
            Shape::Compiled(pattern) => pattern.is_full_match(text),
        }
    }

    /// As [`Matcher::is_full_match`], and on a match sets `groups`.
    pub fn captures(&self, text: &str, groups: &mut Groups) -> bool {
        groups.clear();
        if let Shape::Compiled(pattern) = &self.0 {
            return pattern.captures(text, groups);
        }
        if !self.is_full_match(text) {
            return false;
        }
        groups.set(0, 0, text.len());
        match &self.0 {
            Shape::Words { grouped: true, .. } => groups.set(1, 0, text.len()),
            Shape::Wildcard {
                prefix,
                suffix,
                grouped: true,
                ..
            } => groups.set(1, prefix.len(), text.len() - suffix.len()),
            _ => {}
        }
        true
    }

    /// Number of the group with this name.
    #[must_use]
    pub fn group_named(&self, name: &str) -> Option<usize> {
        match &self.0 {
            Shape::Compiled(pattern) => pattern.group_named(name),
            _ => None,
        }
    }

    /// True when the pattern needed the engine; the others cost no memory beyond their text.
    #[must_use]
    pub const fn is_compiled(&self) -> bool {
        matches!(self.0, Shape::Compiled(_))
    }
}

/// `a|b`, `(a|b)` or `(?:a|b)` of literals; a single one and none at all included.
fn words(pattern: &str) -> Option<Shape> {
    let inside = pattern.strip_suffix(')');
    let (list, grouped) = if let Some(list) = inside.and_then(|inside| inside.strip_prefix("(?:")) {
        (list, false)
    } else if let Some(list) = inside.and_then(|inside| inside.strip_prefix('(')) {
        (list, true)
    } else {
        (pattern, false)
    };
    let mut words = Vec::new();
    let mut rest = list;
    loop {
        let (word, after) = literal(rest);
        words.push(word.into_boxed_str());
        if after.is_empty() {
            let words = words.into_boxed_slice();
            return Some(Shape::Words { words, grouped });
        }
        rest = after.strip_prefix('|')?;
    }
}

/// One `.*`, `.+`, `(.*)` or `(.+)` between two literals, either of which may be empty.
fn wildcard(pattern: &str) -> Option<Shape> {
    const WILDCARDS: [(&str, usize, bool); 4] =
        [("(.*)", 0, true), ("(.+)", 1, true), (".*", 0, false), (".+", 1, false)];
    let (prefix, rest) = literal(pattern);
    let (rest, least, grouped) = WILDCARDS
        .iter()
        .find_map(|&(text, least, grouped)| Some((rest.strip_prefix(text)?, least, grouped)))?;
    let (suffix, rest) = literal(rest);
    rest.is_empty().then(|| Shape::Wildcard {
        prefix: prefix.into_boxed_str(),
        suffix: suffix.into_boxed_str(),
        least,
        grouped,
    })
}

/// The literal text at the front of `pattern`, unescaped, and the rest.
///
/// A character that a quantifier follows is part of the literal here; the quantifier then begins the rest, which no shape accepts.
fn literal(pattern: &str) -> (String, &str) {
    let mut text = String::new();
    let mut rest = pattern;
    loop {
        let mut chars = rest.chars();
        match chars.next() {
            Some('\\') => match chars.next() {
                Some(escaped) if escaped.is_ascii_punctuation() => text.push(escaped),
                _ => return (text, rest),
            },
            Some('.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$') | None => {
                return (text, rest);
            }
            Some(plain) => text.push(plain),
        }
        rest = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn refuse(pattern: &str) -> Result<Box<dyn Pattern>, PatternError> {
        Err(PatternError {
            column: 0,
            message: pattern.to_string(),
        })
    }

    #[test]
    fn common_shapes_need_no_engine() {
        for (pattern, text, group_1) in [
            ("", "", Some("")),
            ("", "a", None),
            ("foo", "foo", Some("")),
            ("foo", "foobar", None),
            ("f|o", "foo", None),
            ("f|o|", "o", Some("")),
            ("f|o|", "", Some("")),
            ("(f|o)", "o", Some("o")),
            ("(?:f|o)", "o", Some("")),
            ("a\\.b\\|c", "a.b|c", Some("")),
            ("(.*)", "any\nthing", Some("any\nthing")),
            (".*", "", Some("")),
            (".+", "", None),
            (".+", "x", Some("")),
            ("node_(.*)", "node_cpu", Some("cpu")),
            ("node_(.*)", "node_", Some("")),
            ("node_(.+)", "node_", None),
            ("node_.*", "xnode_", None),
            ("(.*)_total", "a_total", Some("a")),
            (".+:9100", "host:9100", Some("")),
            ("a(.*)a", "a", None),
            ("a(.*)a", "aéa", Some("é")),
            ("a(.*)a", "aa", Some("")),
        ] {
            let matcher = Matcher::new(pattern, &refuse).unwrap();
            let mut groups = Groups::default();
            let matched = matcher.captures(text, &mut groups);
            assert_eq!(matched.then(|| groups.get(text, 1)), group_1, "{pattern:?} on {text:?}");
            assert_eq!(matcher.is_full_match(text), matched);
            assert!(!matcher.is_compiled());
            assert_eq!(matcher.group_named("1"), None);
            if matched {
                assert_eq!(groups.get(text, 0), text);
            }
        }
    }

    #[test]
    fn everything_else_goes_to_the_engine() {
        for pattern in [
            "a*",
            "a+",
            "a?",
            "a{2}",
            "[ab]",
            "a.b",
            "^a",
            "a$",
            "\\d",
            "(a)b",
            "(a",
            "a)",
            ".*?",
            "(.*)*",
            ".*a.*",
            "(?i)a",
            "(a)|(b)",
            "(?:a",
            "a\\",
            "(?P<x>.*)",
            "(.*)(.*)",
            "\\Qa\\E",
            "a|.*",
        ] {
            assert_eq!(
                Matcher::new(pattern, &refuse).err().map(|error| error.message),
                Some(pattern.to_string())
            );
        }
    }
}
