//! The labels a series has on the wire.
//!
//! Joins what the catalogue keeps apart: the labels of the series, those of its target, and the external labels of
//! the sender. Order of rules (remote write, Prometheus):
//!
//! 1. labels of the series, plus every target label whose name the series does not carry;
//! 2. a series label with an empty value has done its work (it suppressed the target's) and goes;
//! 3. external labels whose name is not there yet;
//! 4. `write_relabel_configs`; a series without labels, or dropped by a rule, is not sent to this remote.
//!
//! The result is sorted by name and free of empty values. It applies to synthetic series and staleness markers too.
//!
//! One [`Identity`] per remote; nothing is allocated after [`Identity::new`], except by a rule whose regular expression
//! needs the host's engine. A batch asks once for each series it holds, not once for each sample. Label text that does not parse (a
//! damaged ring) yields the labels before the damage.

use crate::catalogue::SeriesText;
use crate::labels::{BodyError, Labels, LabelsFull, METRIC_NAME};
use crate::limits::MAX_SERIES_TEXT_BYTES;
use crate::relabel::{Relabel, Scratch, Verdict};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// Computes the final label sets for one remote.
#[derive(Debug)]
pub struct Identity {
    labels: Labels,
    external: Box<[(String, String)]>,
    rules: Option<(Relabel, Scratch)>,
}

impl Identity {
    /// For a remote with these `external_labels`, values already expanded, and `write_relabel_configs`. Allocates
    /// [`MAX_SERIES_TEXT_BYTES`], three times that more if there are rules, and the copies of the external labels.
    #[must_use]
    pub fn new(external: &[(&str, &str)], rules: Relabel) -> Self {
        let owned = |&(name, value): &(&str, &str)| (String::from(name), String::from(value));
        Self {
            labels: Labels::new(MAX_SERIES_TEXT_BYTES),
            external: external.iter().map(owned).collect::<Vec<_>>().into(),
            rules: (!rules.is_empty()).then(|| (rules, Scratch::new(MAX_SERIES_TEXT_BYTES))),
        }
    }

    /// True when nothing but joining and sorting happens to labels: no rule rewrites them.
    #[must_use]
    pub const fn only_joins(&self) -> bool {
        self.rules.is_none()
    }

    /// The labels of an exemplar: as they are, but for empty ones.
    ///
    /// # Errors
    /// [`LabelsFull`]: too many or too long.
    pub fn exemplar(&mut self, body: &str) -> Result<&Labels, LabelsFull> {
        self.labels.clear();
        load(&mut self.labels, body)?;
        self.labels.remove_empty();
        Ok(&self.labels)
    }

    /// The labels to send for `series` of a target with the labels `target_body`; `None`: not sent to this remote.
    ///
    /// # Errors
    /// [`LabelsFull`]: too many or too long once joined.
    pub fn resolve(&mut self, series: SeriesText<'_>, target_body: &str) -> Result<Option<&Labels>, LabelsFull> {
        let labels = &mut self.labels;
        labels.clear();
        if !series.name.is_empty() {
            labels.set(METRIC_NAME, series.name)?;
        }
        load(labels, series.body)?;
        add_target_labels(labels, target_body)?;
        labels.remove_empty();
        for (name, value) in &self.external {
            if !labels.contains(name) {
                labels.set(name, value)?;
            }
        }
        if let Some((rules, scratch)) = &mut self.rules
            && rules.apply(labels, scratch)? == Verdict::Drop
        {
            return Ok(None);
        }
        labels.remove_empty();
        Ok((!labels.is_empty()).then_some(&*labels))
    }
}

fn load(labels: &mut Labels, body: &str) -> Result<(), LabelsFull> {
    match labels.load_body(body) {
        Ok(()) | Err(BodyError::Malformed { .. }) => Ok(()),
        Err(BodyError::Full(full)) => Err(full),
    }
}

fn add_target_labels(labels: &mut Labels, body: &str) -> Result<(), LabelsFull> {
    for label in crate::labels::body_labels(body) {
        // Target labels come from the configuration; a name that needs unescaping compares piece by piece.
        let taken = labels.iter().any(|have| label.name.cmp_plain(have.name).is_eq());
        if !taken {
            labels.push_unescaped(label.name, label.value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relabel::{Action, PatternError, Rule, RuleSpec};
    use alloc::format;
    use alloc::string::String;

    fn identity(external: &[(&str, &str)]) -> Identity {
        Identity::new(external, Relabel::default())
    }

    fn resolve(identity: &mut Identity, name: &str, body: &str, target: &str) -> Option<String> {
        let labels = identity.resolve(SeriesText { name, body }, target).expect("fits")?;
        Some(labels.iter().map(|l| format!("{}={};", l.name, l.value)).collect())
    }

    #[test]
    fn series_labels_win_over_target_labels_and_those_over_external_ones() {
        let mut identity = identity(&[("job", "external"), ("site", "north"), ("a", "external")]);
        let target = r#"instance="box:9100",job="node""#;
        assert_eq!(
            resolve(&mut identity, "up", r#"a="1",instance="other""#, target).as_deref(),
            Some("__name__=up;a=1;instance=other;job=node;site=north;")
        );
    }

    #[test]
    fn an_empty_series_label_suppresses_the_target_label_and_lets_an_external_one_in() {
        let mut identity = identity(&[("job", "external")]);
        let target = r#"instance="box:9100",job="node""#;
        assert_eq!(
            resolve(&mut identity, "x", r#"instance="",job="""#, target).as_deref(),
            Some("__name__=x;job=external;")
        );
    }

    #[test]
    fn labels_are_sorted_by_bytes_with_upper_case_before_the_metric_name() {
        let mut identity = identity(&[("Zone", "eu"), ("0", "zero")]);
        assert_eq!(
            resolve(&mut identity, "x", r#"b="2","é"="3""#, r#"a="1""#).as_deref(),
            Some("0=zero;Zone=eu;__name__=x;a=1;b=2;é=3;")
        );
    }

    #[test]
    fn escapes_are_undone() {
        let mut identity = identity(&[]);
        assert_eq!(
            resolve(&mut identity, "x", r#"a="q\"b\\n\n","odd.name"="v""#, r#"c="\"""#).as_deref(),
            Some("__name__=x;a=q\"b\\n\n;c=\";odd.name=v;")
        );
    }

    #[test]
    fn rules_see_external_labels_and_may_drop_the_series() {
        let no_engine = |_: &str| -> Result<_, PatternError> { panic!("literal patterns need no engine") };
        let spec = |action, source_labels, regex| RuleSpec {
            action,
            source_labels,
            regex,
            ..RuleSpec::default()
        };
        let rules = [
            spec(Action::Drop, &["site", "__name__"][..], "north;secret"),
            spec(Action::LabelDrop, &[], "site|instance|__name__"),
        ];
        let rules = rules
            .iter()
            .map(|spec| Rule::new(spec, Default::default(), &no_engine).expect("compiles"));
        let mut identity = Identity::new(&[("site", "north")], Relabel::new(rules.collect()));
        let target = r#"instance="box""#;
        assert_eq!(resolve(&mut identity, "secret", "", target), None);
        assert_eq!(
            resolve(&mut identity, "open", r#"a="1""#, target).as_deref(),
            Some("a=1;")
        );
        assert_eq!(resolve(&mut identity, "open", "", target), None, "no label is left");
    }

    #[test]
    fn damaged_label_text_yields_the_labels_before_the_damage() {
        let mut identity = identity(&[]);
        assert_eq!(
            resolve(&mut identity, "x", r#"a="1",b=2"#, r#"c="3",d"#).as_deref(),
            Some("__name__=x;a=1;c=3;")
        );
    }

    #[test]
    fn a_series_without_labels_is_not_sent() {
        let mut identity = identity(&[]);
        assert_eq!(resolve(&mut identity, "", "", ""), None);
    }

    #[test]
    fn joined_labels_beyond_the_limit_are_an_error() {
        let mut identity = identity(&[("site", "north")]);
        let long = format!(r#"a="{}""#, "x".repeat(MAX_SERIES_TEXT_BYTES - 6));
        let text = SeriesText { name: "x", body: &long };
        assert!(identity.resolve(text, "").is_err());
    }
}
