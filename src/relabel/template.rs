//! Replacement templates: text with `$1`, `${1}`, `$name` (`SCR-605`).

use super::matcher::{Groups, Matcher};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// A template with its references resolved against a pattern.
#[derive(Debug)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Group(usize),
}

impl Template {
    /// Resolves `template` for `matcher`. `$name` takes the longest run of letters, digits and `_`; `$$` is a dollar, and so is a `$` that
    /// begins no reference; references to groups that do not exist are empty.
    #[must_use]
    pub fn new(template: &str, matcher: &Matcher) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                text.push('$');
                rest = after;
            } else if let Some((name, after)) = reference(after) {
                if let Some(group) = group_number(name).or_else(|| matcher.group_named(name)) {
                    push_text(&mut parts, &mut text);
                    parts.push(Part::Group(group));
                }
                rest = after;
            } else {
                text.push('$');
                rest = after;
            }
        }
        text.push_str(rest);
        push_text(&mut parts, &mut text);
        Self {
            parts: parts.into_boxed_slice(),
        }
    }

    /// Writes the template for a match of `groups` in `text`.
    ///
    /// # Errors
    /// `out` refused a write.
    pub fn expand(&self, text: &str, groups: &Groups, out: &mut impl Write) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(literal) => out.write_str(literal),
            Part::Group(index) => out.write_str(groups.get(text, *index)),
        })
    }
}

fn push_text(parts: &mut Vec<Part>, text: &mut String) {
    if !text.is_empty() {
        parts.push(Part::Text(core::mem::take(text).into_boxed_str()));
    }
}

/// The name behind a `$`, with or without braces, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let body = braced.unwrap_or(text);
    let ends = |c: char| !(c.is_alphanumeric() || c == '_');
    let len = body.find(ends).unwrap_or(body.len());
    let (name, rest) = body.split_at_checked(len)?;
    let rest = if braced.is_some() {
        rest.strip_prefix('}')?
    } else {
        rest
    };
    (!name.is_empty()).then_some((name, rest))
}

/// The number of a reference that is one: digits without leading zeros.
fn group_number(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    // Too many digits for a number is no such group either way.
    if plain {
        Some(name.parse().unwrap_or(usize::MAX))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_as_go_does() {
        let matcher = Matcher::new("pre_(.*)", &|_| unreachable!("a wildcard")).unwrap();
        let mut groups = Groups::default();
        assert!(matcher.captures("pre_x", &mut groups));
        for (template, expanded) in [
            ("", ""),
            ("text", "text"),
            ("$1", "x"),
            ("${1}", "x"),
            ("$0", "pre_x"),
            ("a${1}b$1.c", "axbx.c"),
            ("$1_y", ""),
            ("${1}_y", "x_y"),
            ("$2", ""),
            ("$name${name}", ""),
            ("$99999999999999999999999", ""),
            ("$01", ""),
            ("$$", "$"),
            ("$$1", "$1"),
            ("$", "$"),
            ("a$-b", "a$-b"),
            ("${", "${"),
            ("${}", "${}"),
            ("${1", "${1"),
            ("${1 }", "${1 }"),
            ("$é", ""),
            ("€$1€", "€x€"),
        ] {
            let mut out = String::new();
            Template::new(template, &matcher)
                .expand("pre_x", &groups, &mut out)
                .unwrap();
            assert_eq!(out, expanded, "{template}");
        }
    }
}
