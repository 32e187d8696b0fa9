//! Relabelling: rules that rewrite, keep or drop a label set (`SCR-601..609`).
//!
//! A [`Relabel`] is a list of compiled rules. It does not know where they come from nor what they are applied to: target
//! labels, samples and series on their way out all pass through [`Relabel::apply`] as [`Labels`].
//!
//! Regular expressions are a seam, [`Pattern`], because an engine does not belong into the core: the host compiles them.
//! Most patterns in real configurations need no engine: literals, alternations of literals and one wildcard
//! between literals are matched here ([`Matcher`]), with the same result and without allocating.
//!
//! Invariants:
//! - Rules run in order; a drop ends the run. Within one rule everything is decided on the labels as they were before it.
//! - An empty result deletes its label: empty and absent mean the same.
//! - Rules are compiled once; [`Relabel::apply`] allocates only where a [`Pattern`] does. Callers keep the verdict of a
//!   series, so this runs once for each series text, not once for each sample.
//!
//! Limits: a joined source, an expanded name and an expanded value may each have the bytes given to [`Scratch::new`]; a pattern
//! has at most [`MAX_GROUPS`] - 1 groups. [`LabelsFull`] leaves the labels in the middle of the rules: discard them.
//!
//! Sources: Prometheus `model/relabel`; Go `regexp.Expand` for templates.

mod matcher;
mod rule;
mod template;
#[cfg(test)]
mod tests;

pub use matcher::{Compile, Groups, MAX_GROUPS, Matcher, Pattern, PatternError};
pub use rule::{Action, Rule, RuleError, RuleSpec};
pub use template::Template;

use crate::labels::{Labels, LabelsFull, TextBuf};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// What the rules say about a label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on with the labels as they are now.
    Keep,
    /// Drop the target or sample; the labels are of no further use.
    Drop,
}

/// Buffers for one [`Relabel::apply`] at a time.
#[derive(Debug)]
pub struct Scratch {
    joined: TextBuf,
    target: TextBuf,
    value: TextBuf,
}

impl Scratch {
    /// Three buffers of `text_bytes` each. Allocates; the only call here that does.
    #[must_use]
    pub fn new(text_bytes: usize) -> Self {
        Self {
            joined: TextBuf::new(text_bytes),
            target: TextBuf::new(text_bytes),
            value: TextBuf::new(text_bytes),
        }
    }
}

/// Compiled rules, in order.
#[derive(Debug, Default)]
pub struct Relabel {
    rules: Box<[Rule]>,
}

impl Relabel {
    /// The rules of one `*_relabel_configs` list.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules: rules.into_boxed_slice(),
        }
    }

    /// True when there is no rule, so that nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Applies the rules to `labels`.
    ///
    /// [`Verdict::Keep`] with no labels left means drop, too (`SCR-506`).
    ///
    /// # Errors
    /// [`LabelsFull`]: a result did not fit into `labels` or `scratch`.
    pub fn apply(&self, labels: &mut Labels, scratch: &mut Scratch) -> Result<Verdict, LabelsFull> {
        for rule in &self.rules {
            if rule.apply(labels, scratch)? == Verdict::Drop {
                return Ok(Verdict::Drop);
            }
        }
        Ok(Verdict::Keep)
    }
}
