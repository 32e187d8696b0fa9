//! Regular expressions for relabelling.
//!
//! Words (`a|b`) and one wildcard (`a.*b`) are matched by [`crate::relabel`] itself; what is more than that by the engine, which
//! is the feature `regex`. Without it such a pattern is refused.

#[cfg(feature = "regex")]
mod engine;
#[cfg(feature = "regex")]
mod translate;

#[cfg(feature = "regex")]
pub use engine::{SIZE_LIMIT, compile};
#[cfg(feature = "regex")]
pub use translate::translate;

use crate::host::config::RelabelConfig;
use crate::labels::NameScheme;
#[cfg(not(feature = "regex"))]
use crate::relabel::{Pattern, PatternError};
use crate::relabel::{Relabel, Rule, RuleError, RuleSpec};
#[cfg(not(feature = "regex"))]
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Refuses every pattern.
///
/// # Errors
/// Always: there is no engine.
#[cfg(not(feature = "regex"))]
pub fn compile(_: &str) -> Result<Box<dyn Pattern>, PatternError> {
    Err(PatternError {
        column: 0,
        message: "this build takes words (a|b) and one wildcard (a.*b): it was made without the feature regex".into(),
    })
}

/// Compiles one `*_relabel_configs` list.
///
/// # Errors
/// The position of the first rule that cannot be compiled, counted from 0, and why.
pub fn compile_rules(configs: &[RelabelConfig], scheme: NameScheme) -> Result<Relabel, (usize, RuleError)> {
    let rules = configs.iter().enumerate().map(|(index, config)| {
        let sources: Vec<&str> = config.source_labels.iter().map(|name| &**name).collect();
        let spec = RuleSpec {
            action: config.action,
            source_labels: &sources,
            separator: &config.separator,
            regex: &config.regex,
            modulus: config.modulus,
            target_label: &config.target_label,
            replacement: &config.replacement,
        };
        Rule::new(&spec, scheme, &compile).map_err(|error| (index, error))
    });
    rules.collect::<Result<_, _>>().map(Relabel::new)
}

#[cfg(all(test, feature = "regex"))]
mod tests;
