//! What a sender asks about the series of a frame, wherever the answer is kept.

use super::{Catalogue, SeriesText};
use crate::sample::{MetricType, SeriesRef, TargetRef};

/// What a series is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition<'a> {
    /// Its name and its own labels.
    pub text: SeriesText<'a>,
    /// Its metric type.
    pub kind: MetricType,
    /// Whose series it is.
    pub target: TargetRef,
    /// Labels of the target asked for.
    pub target_body: &'a str,
}

/// Definitions that are read from where they are stored, one at a time.
pub trait Definitions {
    /// The definition of `s`, with the labels of target `t`; `None`: there is none, or it can no longer be read.
    fn definition(&mut self, s: SeriesRef, t: TargetRef) -> Option<Definition<'_>>;

    /// Name and labels of `s`; `None`: as above.
    fn text(&mut self, s: SeriesRef) -> Option<SeriesText<'_>>;

    /// Labels of target `t`, empty if it has none; `None`: they can no longer be read.
    fn target_body(&mut self, t: TargetRef) -> Option<&str>;

    /// The series of target `t` with the text of an OpenMetrics `_created`, without a type of its own. Searched from index `near` on.
    fn find_created(&mut self, t: TargetRef, text: SeriesText<'_>, near: SeriesRef) -> Option<SeriesRef>;

    /// Changes whenever a definition comes or goes.
    fn generation(&self) -> u32;
}

/// Names of series and labels of targets: a catalogue's, or definitions that are read on demand.
pub enum Names<'a> {
    /// In memory.
    Catalogue(&'a mut Catalogue),
    /// Elsewhere.
    Stored(&'a mut dyn Definitions),
}

impl core::fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Catalogue(_) => "Names::Catalogue",
            Self::Stored(_) => "Names::Stored",
        })
    }
}

impl<'a> From<&'a mut Catalogue> for Names<'a> {
    fn from(catalogue: &'a mut Catalogue) -> Self {
        Self::Catalogue(catalogue)
    }
}

impl Names<'_> {
    /// The definition of `s`, with the labels of target `t`; `None`: there is none, or it can no longer be read.
    pub fn definition(&mut self, s: SeriesRef, t: TargetRef) -> Option<Definition<'_>> {
        match self {
            Self::Catalogue(catalogue) => catalogue.definition(s, t),
            Self::Stored(stored) => stored.definition(s, t),
        }
    }

    /// Name and labels of `s`.
    pub fn text(&mut self, s: SeriesRef) -> Option<SeriesText<'_>> {
        match self {
            Self::Catalogue(catalogue) => catalogue.text(s),
            Self::Stored(stored) => stored.text(s),
        }
    }

    /// Labels of target `t`, empty if it has none; `None`: they can no longer be read.
    pub fn target_body(&mut self, t: TargetRef) -> Option<&str> {
        match self {
            Self::Catalogue(catalogue) => Some(catalogue.target_body(t)),
            Self::Stored(stored) => stored.target_body(t),
        }
    }

    /// The series of target `t` with the text of an OpenMetrics `_created`, without a type of its own. Searched from index `near` on.
    pub fn find_created(&mut self, t: TargetRef, text: SeriesText<'_>, near: SeriesRef) -> Option<SeriesRef> {
        match self {
            Self::Catalogue(catalogue) => {
                let created = catalogue.find_used(t, text)?;
                // As OpenMetrics has it: in the family of its metric, whose type is not its own.
                (catalogue.kind(created) == MetricType::Unknown).then_some(created)
            }
            Self::Stored(stored) => stored.find_created(t, text, near),
        }
    }

    /// Changes whenever a series comes, goes or gets another type.
    #[must_use]
    pub fn generation(&self) -> u32 {
        match self {
            Self::Catalogue(catalogue) => catalogue.generation(),
            Self::Stored(stored) => stored.generation(),
        }
    }
}
