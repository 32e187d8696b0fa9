//! Relabel rules and the texts they meet.
//!
//! Promised: a pattern compiles within its memory limit or is refused; what the core matches without an engine matches as
//! the engine would; rules never panic, and leave labels sorted and, if they were, without duplicates.

use super::input::Input;
use tidegate::host::regex;
use tidegate::labels::{Labels, NameScheme};
use tidegate::relabel::{Action, Groups, MAX_GROUPS, Matcher, Relabel, Rule, RuleSpec, Scratch};

const TEXT_BYTES: usize = 1024;

/// With and without the shortcuts.
fn compare(pattern: &str, text: &str) {
    let short = Matcher::new(pattern, &regex::compile);
    let Ok(engine) = regex::compile(pattern) else {
        // Shortcuts take nothing the engine would refuse for its syntax; size and groups are the engine's limits only.
        return;
    };
    let short = short.expect("the engine takes it");
    let (mut ours, mut theirs) = (Groups::default(), Groups::default());
    assert_eq!(
        short.is_full_match(text),
        engine.is_full_match(text),
        "{pattern:?} on {text:?}"
    );
    let matched = short.captures(text, &mut ours);
    theirs.clear();
    assert_eq!(matched, engine.captures(text, &mut theirs), "{pattern:?} on {text:?}");
    for index in 0..MAX_GROUPS {
        assert_eq!(
            ours.get(text, index),
            theirs.get(text, index),
            "group {index} of {pattern:?} on {text:?}"
        );
    }
}

/// The input: pieces behind their lengths, read as UTF-8 as far as they are: labels, then rules.
pub fn relabel(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let mut word = |most: usize| -> &str {
        let len = input.below(most);
        let bytes = input.take(len);
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    };
    let mut labels = Labels::new(TEXT_BYTES);
    let mut names = Vec::new();
    for _ in 0..options % 5 {
        let (name, value) = (word(24), word(64));
        if !name.is_empty() && labels.set(name, value).is_err() {
            break;
        }
        names.push(name);
    }
    let mut rules = Vec::new();
    for place in 0..1 + options / 64 {
        let pattern = word(256);
        compare(pattern, word(64));
        let choice = word(8).len() + usize::from(options) / 5 + usize::from(place);
        let (_, action) = Action::NAMES[choice % Action::NAMES.len()];
        let sources = &names[..names.len().min(choice % 4)];
        let spec = RuleSpec {
            action,
            source_labels: sources,
            separator: word(8),
            regex: pattern,
            modulus: pattern.len() as u64,
            target_label: word(24),
            replacement: word(64),
        };
        if let Ok(rule) = Rule::new(&spec, NameScheme::Utf8, &regex::compile) {
            rules.push(rule);
        }
    }
    let relabel = Relabel::new(rules);
    let mut scratch = Scratch::new(TEXT_BYTES);
    if relabel.apply(&mut labels, &mut scratch).is_ok() {
        assert!(labels.iter().map(|label| label.name).is_sorted(), "{labels:?}");
        assert!(!labels.has_duplicate(), "{labels:?}");
    }
}
