//! Relabelling rules: which keys go with which action (SCR-607), and whether they compile.

use super::super::scrape::{
    Action, DEFAULT_REGEX, DEFAULT_REPLACEMENT, DEFAULT_SEPARATOR, RelabelConfig, ValidationScheme, validation_name,
};
use super::{Check, wrong};
use crate::host::regex::compile_rules;
use alloc::format;
use alloc::string::String;

pub(super) fn is_label_name(name: &str, scheme: ValidationScheme) -> bool {
    scheme.allows_label(name)
}

pub(super) const fn label_rule(scheme: ValidationScheme) -> &'static str {
    match scheme {
        ValidationScheme::Utf8 => "at least one character",
        ValidationScheme::Legacy => {
            "letters, digits and underscores, no digit first (metric_name_validation_scheme: legacy)"
        }
    }
}

/// Checks and compiles a list of rules.
pub(super) fn rules(key: &str, rules: &[RelabelConfig], scheme: ValidationScheme) -> Check {
    for (n, rule) in rules.iter().enumerate() {
        relabel(rule, scheme).or_else(|(k, message)| wrong(format!("{key}[{n}].{k}"), message))?;
    }
    // What is left to go wrong is the regular expression.
    compile_rules(rules, scheme)
        .map(|_| ())
        .or_else(|(n, error)| wrong(format!("{key}[{n}].regex"), format!("{error}")))
}

/// SCR-607.
fn relabel(rule: &RelabelConfig, scheme: ValidationScheme) -> Check {
    let action = rule.action;
    let needs_target = matches!(
        action,
        Action::Replace
            | Action::HashMod
            | Action::Lowercase
            | Action::Uppercase
            | Action::KeepEqual
            | Action::DropEqual
    );
    if needs_target && rule.target_label.is_empty() {
        return wrong(
            "target_label",
            format!(
                "found nothing, expected a label name (action {} needs it)",
                action.name()
            ),
        );
    }
    if action == Action::HashMod && rule.modulus == 0 {
        return wrong(
            "modulus",
            "found 0, expected a number above 0 (action hashmod needs it)",
        );
    }
    let changed = [
        ("source_labels", !rule.source_labels.is_empty()),
        ("target_label", !rule.target_label.is_empty()),
        ("modulus", rule.modulus != 0),
        ("separator", rule.separator != DEFAULT_SEPARATOR),
        ("replacement", rule.replacement != DEFAULT_REPLACEMENT),
        ("regex", rule.regex != DEFAULT_REGEX),
    ];
    let allowed: &[&str] = match action {
        Action::LabelDrop | Action::LabelKeep => &["regex"],
        Action::KeepEqual | Action::DropEqual => &["source_labels", "target_label"],
        Action::Lowercase | Action::Uppercase => &["source_labels", "target_label", "separator", "regex", "modulus"],
        _ => &[
            "source_labels",
            "target_label",
            "modulus",
            "separator",
            "replacement",
            "regex",
        ],
    };
    if let Some((key, _)) = changed.iter().find(|(key, set)| *set && !allowed.contains(key)) {
        return wrong(
            *key,
            format!(
                "found a value, expected none: action {} accepts only {}",
                action.name(),
                allowed.join(", ")
            ),
        );
    }
    let template = match action {
        Action::Replace => ("target_label", rule.target_label.as_str()),
        Action::LabelMap => ("replacement", rule.replacement.as_str()),
        Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual | Action::HashMod => {
            if is_label_name(&rule.target_label, scheme) {
                return Ok(());
            }
            return wrong(
                "target_label",
                format!("found {:?}, expected {}", rule.target_label, label_rule(scheme)),
            );
        }
        _ => return Ok(()),
    };
    if is_label_template(template.1, scheme) {
        return Ok(());
    }
    wrong(
        template.0,
        format!(
            "found {:?}, expected a label name that may contain ${{1}} (metric_name_validation_scheme: {})",
            template.1,
            validation_name(scheme)
        ),
    )
}

/// A label name in which `$n`, `${n}` and `${name}` stand for parts.
fn is_label_template(template: &str, scheme: ValidationScheme) -> bool {
    if scheme == ValidationScheme::Utf8 {
        return !template.is_empty();
    }
    // Each reference is replaced by a letter; what remains must be a name.
    let mut plain = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        plain.push_str(before);
        plain.push('x');
        let (name, next) = match after.strip_prefix('{') {
            Some(inner) => match inner.split_once('}') {
                Some(parts) => parts,
                None => return false,
            },
            None => after.split_at(
                after
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(after.len()),
            ),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return false;
        }
        rest = next;
    }
    plain.push_str(rest);
    is_label_name(&plain, scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_templates_follow_the_validation_scheme() {
        for good in ["label${1}", "_${1}_", "$1", "${name}x", "plain"] {
            assert!(is_label_template(good, ValidationScheme::Legacy), "{good}");
        }
        for bad in ["-label", "${", "bar.foo${1}bar", "", "${}", "$", "1x", "${a-b}"] {
            assert!(!is_label_template(bad, ValidationScheme::Legacy), "{bad}");
        }
        assert!(is_label_template("-${3}", ValidationScheme::Utf8));
    }
}
