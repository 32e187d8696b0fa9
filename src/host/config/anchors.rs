//! What stands behind the anchors of a YAML document, to be read again where an alias names them.
//!
//! The events of anchored values are kept in one log, those of an anchor within another once; an alias is read as a part of that log.
//! Aliases are expanded before they are kept, so what is read again holds none.
//!
//! Limits: [`MAX_KEPT`] events are kept and [`MAX_REPEATED`] read again, so that a text in which each alias stands for several of the
//! one before costs no more than one that is written out. An event is about 100 bytes, kept until the file is read.

use super::error::Position;
use super::yaml::{Error, Result};
use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;
use saphyr_parser::{Event, Tag};

/// Events of anchored values; a dozen relabel rules are 150.
const MAX_KEPT: usize = 8 * 1024;

/// Events read through aliases. A text of [`super::yaml::MAX_CONFIG_BYTES`] has not many more.
const MAX_REPEATED: usize = 64 * 1024;

/// Where the value of an anchor is in the log.
struct Anchor {
    id: usize,
    events: Range<usize>,
    /// Lists and mappings that were open where it began; `None` once it is complete.
    level: Option<usize>,
}

/// The anchors so far, and what an alias is to repeat.
#[derive(Default)]
pub(super) struct Anchors<'a> {
    log: Vec<(Event<'a>, Position)>,
    known: Vec<Anchor>,
    /// Anchors whose value is not complete, innermost last, as places in `known`.
    open: Vec<usize>,
    /// Lists and mappings that are open, counted from the outermost open anchor.
    level: usize,
    /// What is still to be read again.
    pending: Range<usize>,
    repeated: usize,
}

impl<'a> Anchors<'a> {
    /// The next event that an alias stands for.
    pub(super) fn repeat(&mut self) -> Option<(Event<'a>, Position)> {
        let next = self.pending.next()?;
        self.log.get(next).cloned()
    }

    /// The value of the anchor is read next.
    pub(super) fn alias(&mut self, id: usize) -> Result<()> {
        let Some(anchor) = self.known.iter().rfind(|anchor| anchor.id == id) else {
            return Err(Error::new("found an alias (*name) of nothing".into()));
        };
        if anchor.level.is_some() {
            return Err(Error::new(
                "found an alias (*name) within the value that it names".into(),
            ));
        }
        self.pending = anchor.events.clone();
        self.repeated += self.pending.len();
        if self.repeated > MAX_REPEATED {
            return Err(Error::new(format!(
                "aliases (*name) stand for more than {MAX_REPEATED} values"
            )));
        }
        Ok(())
    }

    /// Notes an event that is about to be handed out; `anchor` is its number, 0: none.
    pub(super) fn note(&mut self, event: &Event<'a>, anchor: usize, at: Position) -> Result<()> {
        if anchor != 0 {
            self.open.push(self.known.len());
            let begin = self.log.len();
            self.known.push(Anchor {
                id: anchor,
                events: begin..begin,
                level: Some(self.level),
            });
        }
        if self.open.is_empty() {
            return Ok(());
        }
        if self.log.len() == MAX_KEPT {
            return Err(Error::new(format!("anchors (&name) hold more than {MAX_KEPT} values")));
        }
        self.log.push((without_anchor(event), at));
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                self.level += 1;
                return Ok(());
            }
            // An anchor within a collection that is open is closed before the collection is.
            Event::MappingEnd | Event::SequenceEnd => self.level = self.level.saturating_sub(1),
            _ => {}
        }
        while let Some(anchor) = self.open.last().and_then(|last| self.known.get_mut(*last)) {
            if anchor.level != Some(self.level) {
                break;
            }
            anchor.level = None;
            anchor.events.end = self.log.len();
            self.open.pop();
        }
        Ok(())
    }
}

/// The event as it is where an alias stands for it.
fn without_anchor<'a>(event: &Event<'a>) -> Event<'a> {
    let tag = |tag: &Option<Cow<'a, Tag>>| tag.clone();
    match event {
        Event::Scalar(text, style, _, tagged) => Event::Scalar(text.clone(), *style, 0, tag(tagged)),
        Event::MappingStart(_, tagged) => Event::MappingStart(0, tag(tagged)),
        Event::SequenceStart(_, tagged) => Event::SequenceStart(0, tag(tagged)),
        other => other.clone(),
    }
}
