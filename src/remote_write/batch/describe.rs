//! Types, help texts and units: as metadata-only requests of 1.0, and per series in 2.0.
//!
//! What targets say of their families is kept by family as exposed; a series finds its own by its name on the wire, without the
//! suffix its type gives it. A name that relabelling has changed finds nothing, and goes without.

use super::Batch;
use super::dictionary::{Dictionary, Slot};
use crate::labels::METRIC_NAME;
use crate::metadata::{Entry, Metadata};
use crate::remote_write::proto::FamilyMetadata;
use crate::sample::TargetRef;

/// What exposition formats add to the name of a family.
const SUFFIXES: [&str; 8] = [
    "_total", "_bucket", "_count", "_sum", "_created", "_info", "_gcount", "_gsum",
];

/// What is known of the family of `slot`.
pub(super) fn find<'m>(metadata: &'m Metadata, dictionary: &Dictionary, slot: &Slot) -> Option<Entry<'m>> {
    let name = dictionary
        .labels(slot)
        .find(|(name, _)| *name == METRIC_NAME.as_bytes())?
        .1;
    let name = core::str::from_utf8(name).ok()?;
    metadata.find_of(slot.target, name).or_else(|| {
        let family = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix))?;
        metadata.find_of(slot.target, family)
    })
}

/// A piece of a round over all families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Entries of the request.
    pub families: usize,
    /// Bytes of the body.
    pub bytes: usize,
    /// Place of [`Metadata::iter`] where the next piece begins; `None`: this was the last one.
    pub next: Option<usize>,
}

impl Batch {
    /// Writes a metadata-only request of 1.0 into the part of the body that is not in use while a batch is being gathered: at
    /// most `limit` families from place `from` on, none twice. What is written counts until the next call of any other method.
    pub fn describe(&mut self, metadata: &Metadata, from: usize, limit: usize) -> Described {
        let free = self.carried_at();
        let mut sink = super::layout::SliceSink {
            out: self.body.get_mut(..free).unwrap_or_default(),
            len: 0,
        };
        let mut described = Described::default();
        for (place, (target, family, entry)) in metadata.iter().enumerate().skip(from) {
            if said_before(metadata, target, family, entry) {
                continue;
            }
            let message = FamilyMetadata {
                family,
                kind: entry.kind,
                help: entry.help,
                unit: entry.unit,
            };
            let fits = sink.len + message.len() <= sink.out.len();
            // A family is far smaller than the smallest body: the first one always fits.
            if described.families == limit.max(1) || !fits || message.put(&mut sink).is_err() {
                described.next = Some(place);
                break;
            }
            described.families += 1;
        }
        described.bytes = sink.len;
        described
    }

    /// What [`Batch::describe`] wrote.
    #[must_use]
    pub fn description(&self, described: &Described) -> &[u8] {
        self.body.get(..described.bytes).unwrap_or_default()
    }
}

/// Whether another target says the very same: it is said once.
fn said_before(metadata: &Metadata, target: TargetRef, family: &str, entry: Entry<'_>) -> bool {
    (0..target.0).any(|other| metadata.find_of(TargetRef(other), family) == Some(entry))
}

#[cfg(test)]
mod tests;
