//! One rule: its configuration, its compiled form, and what each action does.

use super::matcher::{Compile, Groups, Matcher, PatternError};
use super::template::Template;
use super::{Scratch, Verdict};
use crate::labels::{Labels, LabelsFull, NameScheme, TextBuf};
use alloc::boxed::Box;
use core::fmt::{self, Write};
use md5::{Digest, Md5};

/// What a rule does (`SCR-604`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "documented by `SCR-604` and by the functions that carry them out"
)]
pub enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Action {
    /// Every action with its configuration name.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("replace", Self::Replace),
        ("keep", Self::Keep),
        ("drop", Self::Drop),
        ("keepequal", Self::KeepEqual),
        ("dropequal", Self::DropEqual),
        ("hashmod", Self::HashMod),
        ("labelmap", Self::LabelMap),
        ("labeldrop", Self::LabelDrop),
        ("labelkeep", Self::LabelKeep),
        ("lowercase", Self::Lowercase),
        ("uppercase", Self::Uppercase),
    ];

    /// The action with this name, in any letter case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|&(_, action)| action)
    }

    /// Its configuration name.
    #[must_use]
    pub fn name(self) -> &'static str {
        // Every action is in the list.
        Self::NAMES
            .iter()
            .find(|&&(_, action)| action == self)
            .map_or("", |&(name, _)| name)
    }

    /// True for the actions that look at `regex`.
    const fn uses_regex(self) -> bool {
        matches!(
            self,
            Self::Replace | Self::Keep | Self::Drop | Self::LabelMap | Self::LabelDrop | Self::LabelKeep
        )
    }

    /// True for the actions that cannot do without `target_label`.
    const fn needs_target(self) -> bool {
        matches!(
            self,
            Self::Replace | Self::KeepEqual | Self::DropEqual | Self::HashMod | Self::Lowercase | Self::Uppercase
        )
    }
}

/// A rule as configured; [`RuleSpec::default`] has the defaults of `SCR-601`.
#[derive(Clone, Copy, Debug)]
pub struct RuleSpec<'a> {
    /// What it does.
    pub action: Action,
    /// Labels whose values are joined.
    pub source_labels: &'a [&'a str],
    /// What joins them.
    pub separator: &'a str,
    /// Matched against the whole joined text, or against label names.
    pub regex: &'a str,
    /// For [`Action::HashMod`].
    pub modulus: u64,
    /// The label to set or to compare with; a template for [`Action::Replace`].
    pub target_label: &'a str,
    /// Template of the new value, or of the new name for [`Action::LabelMap`].
    pub replacement: &'a str,
}

impl Default for RuleSpec<'_> {
    fn default() -> Self {
        Self {
            action: Action::Replace,
            source_labels: &[],
            separator: ";",
            regex: "(.*)",
            modulus: 0,
            target_label: "",
            replacement: "$1",
        }
    }
}

/// Why a rule could not be compiled. Whether a key is allowed beside an action (`SCR-607`) is the configuration's to check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleError {
    /// The regular expression.
    Regex(PatternError),
    /// The action needs a `target_label`.
    NoTarget(Action),
    /// `hashmod` needs a `modulus` above 0.
    NoModulus,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Regex(error) => error.fmt(f),
            Self::NoTarget(action) => write!(f, "action {} needs a target_label", action.name()),
            Self::NoModulus => f.write_str("action hashmod needs a modulus above 0"),
        }
    }
}

impl core::error::Error for RuleError {}

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    sources: Box<[Box<str>]>,
    separator: Box<str>,
    work: Work,
}

/// What the rule does with the joined text or the label names.
#[derive(Debug)]
enum Work {
    Replace {
        matcher: Matcher,
        target: Template,
        replacement: Template,
        scheme: NameScheme,
    },
    Filter {
        matcher: Matcher,
        keep: bool,
    },
    Compare {
        target: Box<str>,
        keep: bool,
    },
    HashMod {
        target: Box<str>,
        modulus: u64,
    },
    LabelMap {
        matcher: Matcher,
        name: Template,
    },
    Names {
        matcher: Matcher,
        keep: bool,
    },
    Case {
        target: Box<str>,
        upper: bool,
    },
}

impl Rule {
    /// Compiles a rule; `compile` is asked only for patterns that need an engine.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn new(spec: &RuleSpec<'_>, scheme: NameScheme, compile: &Compile<'_>) -> Result<Self, RuleError> {
        let action = spec.action;
        if action.needs_target() && spec.target_label.is_empty() {
            return Err(RuleError::NoTarget(action));
        }
        if action == Action::HashMod && spec.modulus == 0 {
            return Err(RuleError::NoModulus);
        }
        let regex = if action.uses_regex() { spec.regex } else { "" };
        let matcher = Matcher::new(regex, compile).map_err(RuleError::Regex)?;
        Ok(Self {
            sources: spec.source_labels.iter().map(|&name| name.into()).collect(),
            separator: spec.separator.into(),
            work: Work::new(spec, scheme, matcher),
        })
    }

    /// Applies the rule.
    pub(super) fn apply(&self, labels: &mut Labels, scratch: &mut Scratch) -> Result<Verdict, LabelsFull> {
        let Scratch { joined, target, value } = scratch;
        match &self.work {
            Work::Replace {
                matcher,
                target: target_template,
                replacement,
                scheme,
            } => {
                let text = self.joined(labels, joined)?;
                let mut groups = Groups::default();
                if !matcher.captures(text, &mut groups) {
                    return Ok(Verdict::Keep);
                }
                write_to(target, |out| target_template.expand(text, &groups, out))?;
                if !scheme.allows_label(target) {
                    return Ok(Verdict::Keep);
                }
                write_to(value, |out| replacement.expand(text, &groups, out))?;
                set_or_remove(labels, target, value)?;
            }
            Work::Filter { matcher, keep } => {
                let matched = matcher.is_full_match(self.joined(labels, joined)?);
                return Ok(verdict(matched == *keep));
            }
            Work::Compare { target, keep } => {
                let equal = self.joined(labels, joined)? == labels.get(target).unwrap_or_default();
                return Ok(verdict(equal == *keep));
            }
            Work::HashMod { target, modulus } => {
                let hash = hash(self.joined(labels, joined)?);
                // The modulus is above 0 by construction.
                let bucket = hash.checked_rem(*modulus).unwrap_or(0);
                write_to(value, |out| write!(out, "{bucket}"))?;
                labels.set(target, value)?;
            }
            Work::LabelMap { matcher, name } => label_map(matcher, name, labels, target)?,
            Work::Names { matcher, keep } => labels.retain(|label| matcher.is_full_match(label.name) == *keep),
            Work::Case { target, upper } => {
                let text = self.joined(labels, joined)?;
                write_to(value, |out| {
                    let map = if *upper { to_upper } else { to_lower };
                    text.chars().try_for_each(|c| out.write_char(map(c)))
                })?;
                set_or_remove(labels, target, value)?;
            }
        }
        Ok(Verdict::Keep)
    }

    /// The values of the source labels, joined (`SCR-603`).
    fn joined<'a>(&self, labels: &'a Labels, buffer: &'a mut TextBuf) -> Result<&'a str, LabelsFull> {
        if let [only] = &*self.sources {
            return Ok(labels.get(only).unwrap_or_default());
        }
        write_to(buffer, |out| {
            for (index, name) in self.sources.iter().enumerate() {
                out.write_str(if index == 0 { "" } else { &self.separator })?;
                out.write_str(labels.get(name).unwrap_or_default())?;
            }
            Ok(())
        })?;
        Ok(buffer.as_str())
    }
}

impl Work {
    fn new(spec: &RuleSpec<'_>, scheme: NameScheme, matcher: Matcher) -> Self {
        let target = spec.target_label.into();
        match spec.action {
            Action::Replace => Self::Replace {
                target: Template::new(spec.target_label, &matcher),
                replacement: Template::new(spec.replacement, &matcher),
                matcher,
                scheme,
            },
            Action::Keep => Self::Filter { matcher, keep: true },
            Action::Drop => Self::Filter { matcher, keep: false },
            Action::KeepEqual => Self::Compare { target, keep: true },
            Action::DropEqual => Self::Compare { target, keep: false },
            Action::HashMod => Self::HashMod {
                target,
                modulus: spec.modulus,
            },
            Action::LabelMap => Self::LabelMap {
                name: Template::new(spec.replacement, &matcher),
                matcher,
            },
            Action::LabelDrop => Self::Names { matcher, keep: false },
            Action::LabelKeep => Self::Names { matcher, keep: true },
            Action::Lowercase => Self::Case { target, upper: false },
            Action::Uppercase => Self::Case { target, upper: true },
        }
    }
}

const fn verdict(keep: bool) -> Verdict {
    if keep { Verdict::Keep } else { Verdict::Drop }
}

/// Fills `buffer` anew; too much is an error that names its limit.
fn write_to(buffer: &mut TextBuf, write: impl FnOnce(&mut TextBuf) -> fmt::Result) -> Result<(), LabelsFull> {
    buffer.clear();
    let limit = buffer.limit();
    write(buffer).map_err(|fmt::Error| LabelsFull::Text { limit })
}

fn set_or_remove(labels: &mut Labels, name: &str, value: &str) -> Result<(), LabelsFull> {
    if value.is_empty() {
        labels.remove(name);
        return Ok(());
    }
    labels.set(name, value)
}

/// Copies every label whose name matches to the expanded name; all of them as they were before the rule.
fn label_map(
    matcher: &Matcher,
    template: &Template,
    labels: &mut Labels,
    name: &mut TextBuf,
) -> Result<(), LabelsFull> {
    let mut groups = Groups::default();
    for entry in labels.snapshot() {
        let label = labels.label(entry);
        if !matcher.captures(label.name, &mut groups) {
            continue;
        }
        write_to(name, |out| template.expand(label.name, &groups, out))?;
        if label.value.is_empty() {
            labels.remove(name);
        } else {
            labels.set_pinned(name, entry.value)?;
        }
    }
    Ok(())
}

/// The last 8 bytes of the MD5 digest as a big-endian number.
fn hash(text: &str) -> u64 {
    let digest = Md5::digest(text.as_bytes());
    digest.iter().skip(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

/// One character to one, as Go maps case; Unicode's full mapping would turn some letters into several.
fn to_lower(c: char) -> char {
    match c {
        '\u{130}' => 'i',
        _ => single(c.to_lowercase(), c),
    }
}

/// As [`to_lower`]. The Greek letters with iota subscript have a one-letter upper case that the full mapping does not use.
fn to_upper(c: char) -> char {
    let offset = match c {
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => 8,
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => 9,
        _ => return single(c.to_uppercase(), c),
    };
    char::from_u32(u32::from(c) + offset).unwrap_or(c)
}

/// The one character of `mapped`, or `c` when there are several.
fn single(mut mapped: impl ExactSizeIterator<Item = char>, c: char) -> char {
    match mapped.next() {
        Some(only) if mapped.len() == 0 => only,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn hashes_as_prometheus_does() {
        for (text, modulus, bucket) in [
            ("baz", 1000, 976),
            ("foo\nbar", 1000, 734),
            ("node-1:9100", u64::MAX, 14_715_440_348_818_559_805),
            ("node-1:9100", 2, 1),
            ("node-1:9100", 3, 0),
            ("node-1:9100", 4, 1),
            ("192.168.0.1:9100", u64::MAX, 2_785_055_984_369_128_275),
            ("192.168.0.1:9100", 2, 1),
            ("192.168.0.1:9100", 3, 0),
            ("192.168.0.1:9100", 4, 3),
            ("", u64::MAX, 16_825_458_760_271_544_958),
        ] {
            assert_eq!(hash(text) % modulus, bucket, "{text:?} mod {modulus}");
        }
    }

    #[test]
    fn case_maps_one_character_to_one() {
        for (c, upper, lower) in [
            ('a', 'A', 'a'),
            ('É', 'É', 'é'),
            ('ß', 'ß', 'ß'),
            ('\u{130}', '\u{130}', 'i'),
            ('\u{149}', '\u{149}', '\u{149}'),
            ('1', '1', '1'),
        ] {
            assert_eq!((to_upper(c), to_lower(c)), (upper, lower), "{c}");
        }
        // The one-letter upper cases of the table are those whose lower case leads back.
        let table = ('\u{1f80}'..='\u{1fff}').filter(|&c| to_upper(c) != single(c.to_uppercase(), c));
        assert_eq!(table.clone().count(), 27);
        for c in table {
            assert_eq!(to_lower(to_upper(c)), c);
            assert_ne!(to_upper(c), c);
        }
    }

    #[test]
    fn refuses_rules_that_cannot_work() {
        let refuse = |spec: RuleSpec<'_>| {
            let compile = |pattern: &str| {
                Err(PatternError {
                    column: 2,
                    message: pattern.to_string(),
                })
            };
            Rule::new(&spec, NameScheme::Utf8, &compile)
                .err()
                .map(|error| error.to_string())
        };
        for (_, action) in Action::NAMES {
            let spec = RuleSpec {
                action,
                modulus: 1,
                ..RuleSpec::default()
            };
            assert_eq!(refuse(spec).is_some(), action.needs_target(), "{action:?}");
        }
        assert_eq!(
            refuse(RuleSpec::default()).unwrap(),
            "action replace needs a target_label"
        );
        let spec = RuleSpec {
            action: Action::HashMod,
            target_label: "a",
            ..RuleSpec::default()
        };
        assert_eq!(refuse(spec).unwrap(), "action hashmod needs a modulus above 0");
        let spec = RuleSpec {
            action: Action::Keep,
            regex: "a+",
            ..RuleSpec::default()
        };
        assert_eq!(refuse(spec).unwrap(), "a+ at character 2 of the regex");
    }

    #[test]
    fn action_names_ignore_case() {
        assert_eq!(Action::from_name("LabelMap"), Some(Action::LabelMap));
        assert_eq!(Action::from_name("keepequal"), Some(Action::KeepEqual));
        assert_eq!(Action::from_name(""), None);
    }
}
