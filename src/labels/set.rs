//! A bounded, reusable, always sorted set of labels.

use super::error::{BodyError, LabelsFull, LabelsInvalid};
use super::text::write_label;
use super::{Escaped, Excerpt, Label, METRIC_NAME, NameScheme, body_labels};
use crate::limits::MAX_LABELS;
use alloc::string::String;
use core::fmt::{self, Write};

/// A piece of the set's text; stays valid until the next [`Labels::compact`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// `start..start + len`; both are below the set's limit, which fits `u32` (see [`Labels::new`]).
    const fn new(start: usize, len: usize) -> Self {
        Self {
            start: start as u32,
            len: len as u32,
        }
    }

    const fn start(self) -> usize {
        self.start as usize
    }

    const fn end(self) -> usize {
        self.start as usize + self.len as usize
    }
}

/// Name and value of one label.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) name: Span,
    pub(crate) value: Span,
}

/// All labels of a set at one moment; see [`Labels::snapshot`].
pub(crate) type Snapshot = heapless::Vec<Entry, MAX_LABELS>;

/// A set of labels sorted by name, in memory allocated once: [`MAX_LABELS`] x 16 bytes in the struct plus its text.
///
/// Changing a label appends its new text; the text that nothing refers to any more is squeezed out when space runs short.
/// Only [`Labels::push`] can make a name occur twice.
#[derive(Debug)]
pub struct Labels {
    /// Sorted by name; equal names in the order they were pushed.
    entries: Snapshot,
    text: String,
    limit: usize,
}

impl Labels {
    /// An empty set whose names and values may take `text_bytes` together (at most `u32::MAX`). Allocates; the only call here that does.
    #[must_use]
    pub fn new(text_bytes: usize) -> Self {
        let limit = text_bytes.min(u32::MAX as usize);
        Self {
            entries: heapless::Vec::new(),
            text: String::with_capacity(limit),
            limit,
        }
    }

    /// Forgets all labels, keeps the memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
    }

    /// Number of labels, the metric name included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there is no label at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The labels in the byte order of their names; `__name__` has no special place.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Label<'_>> + Clone {
        self.entries.iter().map(|&entry| self.label(entry))
    }

    /// The value of `name`, the first one if it occurs twice.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let entry = self.entries.get(self.position(name))?;
        (self.str(entry.name) == name).then(|| self.str(entry.value))
    }

    /// The value of `__name__`, empty when there is none.
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or_default()
    }

    /// True when there is a label `name`, even with an empty value.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Makes `value` the one value of `name`.
    ///
    /// # Errors
    /// [`LabelsFull`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), LabelsFull> {
        self.reserve(name, name.len() + value.len())?;
        let value = self.append(value);
        self.insert(name, value);
        Ok(())
    }

    /// Adds a label even if its name is there already; what an exposition wrote is kept as written
    /// until [`Labels::validate`] judges it.
    ///
    /// # Errors
    /// [`LabelsFull`].
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), LabelsFull> {
        self.push_escaped(Escaped(name), Escaped(value), |text, out| out.push_str(text.0))
    }

    /// As [`Labels::push`], from escaped text.
    ///
    /// # Errors
    /// [`LabelsFull`].
    pub fn push_unescaped(&mut self, name: Escaped<'_>, value: Escaped<'_>) -> Result<(), LabelsFull> {
        self.push_escaped(name, value, |text, out| out.extend(text.pieces()))
    }

    fn push_escaped(
        &mut self,
        name: Escaped<'_>,
        value: Escaped<'_>,
        write: impl Fn(Escaped<'_>, &mut String),
    ) -> Result<(), LabelsFull> {
        // Unescaping never lengthens, so the escaped length is an upper bound.
        self.reserve_label(name.0.len() + value.0.len())?;
        let start = self.text.len();
        write(name, &mut self.text);
        let middle = self.text.len();
        write(value, &mut self.text);
        let entry = Entry {
            name: Span::new(start, middle - start),
            value: Span::new(middle, self.text.len() - middle),
        };
        let at = self
            .entries
            .partition_point(|&other| self.str(other.name) <= self.str(entry.name));
        // Room for one more was made sure of by `reserve_label`.
        let _ = self.entries.insert(at, entry);
        Ok(())
    }

    /// Removes `name`; true when it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.len();
        self.retain(|label| label.name != name);
        self.len() < before
    }

    /// Gives the label `from` the name `to`, replacing what was there; true when there was a `from`.
    ///
    /// # Errors
    /// [`LabelsFull`].
    pub fn rename(&mut self, from: &str, to: &str) -> Result<bool, LabelsFull> {
        if from == to {
            return Ok(self.contains(from));
        }
        let copied = self.copy(from, to)?;
        self.remove(from);
        Ok(copied)
    }

    /// Makes the value of `from` the one value of `to`; true when there was a `from`.
    ///
    /// # Errors
    /// [`LabelsFull`].
    pub fn copy(&mut self, from: &str, to: &str) -> Result<bool, LabelsFull> {
        if !self.contains(from) {
            return Ok(false);
        }
        self.reserve(to, to.len())?;
        let Some(&Entry { value, .. }) = self.entries.get(self.position(from)) else {
            return Ok(false);
        };
        self.insert(to, value);
        Ok(true)
    }

    /// Keeps the labels for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(Label<'_>) -> bool) {
        let text = &self.text;
        self.entries.retain(|entry| {
            keep(Label {
                name: slice(text, entry.name),
                value: slice(text, entry.value),
            })
        });
    }

    /// Removes labels with an empty value, which mean the same as absent ones.
    pub fn remove_empty(&mut self) {
        self.retain(|label| !label.value.is_empty());
    }

    /// The first name that occurs twice.
    #[must_use]
    pub fn duplicate(&self) -> Option<&str> {
        let names = self.iter().map(|label| label.name);
        names
            .clone()
            .zip(names.skip(1))
            .find(|(a, b)| a == b)
            .map(|(name, _)| name)
    }

    /// True when a name occurs twice.
    #[must_use]
    pub fn has_duplicate(&self) -> bool {
        self.duplicate().is_some()
    }

    /// Whether the set may become a series; asked after relabelling, because a rule may mend or drop it.
    ///
    /// # Errors
    /// [`LabelsInvalid`], for which Prometheus fails the whole scrape (`SCR-507`).
    pub fn validate(&self, scheme: NameScheme) -> Result<(), LabelsInvalid> {
        let excerpt = |text: &str| Excerpt::new(text.as_bytes());
        if let Some(name) = self.duplicate() {
            return Err(LabelsInvalid::Duplicate(excerpt(name)));
        }
        match self.metric_name() {
            "" => return Err(LabelsInvalid::NoMetricName),
            name if !scheme.allows_metric(name) => return Err(LabelsInvalid::MetricName(excerpt(name))),
            _ => {}
        }
        match self.iter().find(|label| !scheme.allows_label(label.name)) {
            Some(label) => Err(LabelsInvalid::LabelName(excerpt(label.name))),
            None => Ok(()),
        }
    }

    /// Adds the labels of a canonical body.
    ///
    /// # Errors
    /// [`BodyError`]; the labels before the damage have then been added.
    pub fn load_body(&mut self, body: &str) -> Result<(), BodyError> {
        let mut labels = body_labels(body);
        for label in labels.by_ref() {
            self.push_unescaped(label.name, label.value).map_err(BodyError::Full)?;
        }
        match labels.rest() {
            "" => Ok(()),
            rest => Err(BodyError::Malformed {
                offset: body.len() - rest.len(),
            }),
        }
    }

    /// Writes the canonical body: every label but `__name__`, those with an empty value included.
    ///
    /// # Errors
    /// `out` refused a write.
    pub fn write_body(&self, out: &mut impl Write) -> fmt::Result {
        let mut labels = self.iter().filter(|label| label.name != METRIC_NAME);
        if let Some(first) = labels.next() {
            write_label(first, out)?;
        }
        labels.try_for_each(|label| {
            out.write_char(',')?;
            write_label(label, out)
        })
    }

    /// The labels as they are now, for a change that must not see itself.
    ///
    /// Good until a call that may [compact](Labels::compact); [`Labels::set_pinned`] never does.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        self.compact();
        self.entries.clone()
    }

    /// The label of an entry of a [`Labels::snapshot`].
    pub(crate) fn label(&self, entry: Entry) -> Label<'_> {
        Label {
            name: self.str(entry.name),
            value: self.str(entry.value),
        }
    }

    /// As [`Labels::set`], with a value from a snapshot, which stays good.
    pub(crate) fn set_pinned(&mut self, name: &str, value: Span) -> Result<(), LabelsFull> {
        if self.limit - self.text.len() < name.len() {
            return Err(LabelsFull::Text { limit: self.limit });
        }
        self.check_count(name)?;
        self.insert(name, value);
        Ok(())
    }

    /// Position of the first label whose name is not below `name`.
    fn position(&self, name: &str) -> usize {
        self.entries.partition_point(|&other| self.str(other.name) < name)
    }

    fn str(&self, span: Span) -> &str {
        slice(&self.text, span)
    }

    /// Appends text for which room was reserved.
    fn append(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span::new(start, text.len())
    }

    /// Makes `value` the one value of `name`; room was reserved by the caller.
    fn insert(&mut self, name: &str, value: Span) {
        let at = self.position(name);
        if let Some(entry) = self.entries.get_mut(at)
            && slice(&self.text, entry.name) == name
        {
            entry.value = value;
            while self
                .entries
                .get(at + 1)
                .is_some_and(|&next| self.str(next.name) == name)
            {
                self.entries.remove(at + 1);
            }
            return;
        }
        let entry = Entry {
            name: self.append(name),
            value,
        };
        // Room for one more was made sure of by the caller.
        let _ = self.entries.insert(at, entry);
    }

    /// Makes room for `bytes` of text and, unless `name` is there already, for one more label.
    fn reserve(&mut self, name: &str, bytes: usize) -> Result<(), LabelsFull> {
        self.check_count(name)?;
        self.reserve_text(bytes)
    }

    fn reserve_label(&mut self, bytes: usize) -> Result<(), LabelsFull> {
        if self.entries.is_full() {
            return Err(LabelsFull::Labels { limit: MAX_LABELS });
        }
        self.reserve_text(bytes)
    }

    fn check_count(&self, name: &str) -> Result<(), LabelsFull> {
        if self.entries.is_full() && !self.contains(name) {
            return Err(LabelsFull::Labels { limit: MAX_LABELS });
        }
        Ok(())
    }

    fn reserve_text(&mut self, bytes: usize) -> Result<(), LabelsFull> {
        if self.limit - self.text.len() < bytes {
            self.compact();
        }
        if self.limit - self.text.len() < bytes {
            return Err(LabelsFull::Text { limit: self.limit });
        }
        Ok(())
    }

    /// Squeezes out text that no label refers to.
    ///
    /// Spans never overlap in part: each is its own piece or shared whole (a copied value). At most
    /// 2 x [`MAX_LABELS`] rounds over as many spans; runs once per series, and only when text was replaced.
    pub(crate) fn compact(&mut self) {
        let mut kept = 0;
        while let Some(next) = self
            .entries
            .iter()
            .flat_map(|entry| [entry.name, entry.value])
            .filter(|span| span.len > 0 && span.start() >= kept)
            .min_by_key(|span| span.start)
        {
            let gap = next.start() - kept;
            if gap > 0 {
                // Both ends are ends of pieces, hence character boundaries.
                self.text.drain(kept..next.start());
                let spans = self
                    .entries
                    .iter_mut()
                    .flat_map(|entry| [&mut entry.name, &mut entry.value]);
                for span in spans.filter(|span| span.start() > kept) {
                    // Empty spans may lie inside the gap; where they point to does not matter.
                    span.start = span.start.saturating_sub(gap as u32);
                }
            }
            kept = next.end() - gap;
        }
        self.text.truncate(kept);
    }
}

/// The text of `span`; empty ones may point behind the text.
fn slice(text: &str, span: Span) -> &str {
    text.get(span.start()..span.end()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
