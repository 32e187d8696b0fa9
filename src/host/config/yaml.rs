//! The events of one YAML document, with limits, places and paths.
//!
//! saphyr-parser's events go straight into the configuration structs ([`super::read`]); no tree is built. It knows
//! no key by itself: unknown keys are judged by [`super::keys`].
//!
//! - Every error carries line, column and the path of the key (`scrape_configs[0].scrape_timeout`).
//! - Scalars are handed to the field's type as text: `region: no` stays the string `no`.
//! - A key of a struct without a value (`labels:`) counts as absent; defaults stay.
//! - An alias is read as what stands behind its anchor ([`super::anchors`]); a merge key as if the keys were written in its place.
//! - Refused: custom tags, a second document, the same key twice, keys that are not scalars.
//!
//! Limits: [`MAX_CONFIG_BYTES`] of text, [`MAX_DEPTH`] levels, [`MAX_KEYS`] keys in a mapping, so time
//! is linear and memory a small multiple of the text whatever the input.
//!
//! Sources: YAML 1.2.2; deps.md §7 (choice of parser, measured costs).

use super::anchors::Anchors;
use super::error::{ConfigError, Position, Warning};
use super::read::Read;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

/// Bytes of one configuration file. A file with the 64 targets tidegate can hold, each with its own job and a dozen relabel rules,
/// is under 64 KiB; the text and the structs made of it are in memory together while loading.
pub const MAX_CONFIG_BYTES: usize = 256 * 1024;

/// Levels of nesting. The deepest legal key (`scrape_configs[].http_headers.NAME.values[]`) needs 7.
pub const MAX_DEPTH: usize = 16;

/// Keys of one mapping. Label sets end at 64 labels; keys are compared one by one.
pub const MAX_KEYS: usize = 256;

pub(super) type Result<T> = core::result::Result<T, Error>;

/// What stopped the reading; becomes a [`ConfigError`] once the file is known. In a box, since every value that is read could be
/// one instead.
#[derive(Debug)]
pub(super) struct Error(Box<Fault>);

#[derive(Debug)]
struct Fault {
    message: String,
    /// Position and path, filled in by the innermost value that sees the error.
    place: Option<(Position, String)>,
}

impl Error {
    /// An error whose place is told later.
    pub(super) fn new(message: String) -> Self {
        Self(Box::new(Fault { message, place: None }))
    }
}

/// One step from the top of the file to a value.
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// `scrape_configs[0].params.module[1]`.
pub(super) fn render(path: &[Step]) -> String {
    let mut out = String::new();
    for step in path {
        match step {
            Step::Key(key) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(key);
            }
            Step::Index(i) => out.push_str(&format!("[{i}]")),
        }
    }
    out
}

/// The events of a document with one event of look-ahead, limits applied.
pub(super) struct Yaml<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: Anchors<'a>,
    peeked: Option<(Event<'a>, Position)>,
    /// Start of the event looked at last.
    pub(super) at: Position,
    pub(super) path: Vec<Step>,
    pub(super) depth: usize,
    pub(super) warnings: Vec<Warning>,
}

/// Reads the text of one configuration file.
///
/// # Errors
/// What is wrong, with line, column and key; the file's name is the caller's to add.
pub(super) fn from_str<T: Read>(text: &str) -> core::result::Result<(T, Vec<Warning>), ConfigError> {
    if text.len() > MAX_CONFIG_BYTES {
        return Err(ConfigError::new(format!(
            "the file is larger than {MAX_CONFIG_BYTES} bytes"
        )));
    }
    let mut yaml = Yaml::new(text);
    let result = T::read(&mut yaml).and_then(|value| yaml.end().map(|()| value));
    match yaml.located(yaml.at, result) {
        Ok(value) => Ok((value, yaml.warnings)),
        Err(Error(fault)) => {
            let Fault { message, place } = *fault;
            let (position, key) = place.unwrap_or_default();
            Err(ConfigError::new(message).at(position).key(key))
        }
    }
}

/// Where the value of `path` stands in `text`, or the innermost part of the path that is written there.
pub(super) fn locate(text: &str, path: &str) -> Option<Position> {
    let mut best = None;
    // An error ends the search: the text was read without one before, or `best` is good enough.
    let _ = Yaml::new(text).seek(&mut String::new(), path, &mut best);
    best
}

pub(super) fn is_null(text: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Whether a key says that the keys of its value belong to the mapping it stands in.
pub(super) fn is_merge(key: &str, style: ScalarStyle) -> bool {
    style == ScalarStyle::Plain && key == "<<"
}

fn refuse_tag(tag: Option<&Tag>) -> Result<()> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => Err(Error::new(format!(
            "tag {tag} is not supported: write the value without it"
        ))),
        _ => Ok(()),
    }
}

impl<'a> Yaml<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            parser: Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)),
            anchors: Anchors::default(),
            peeked: None,
            at: Position { line: 1, column: 1 },
            path: vec![],
            depth: 0,
            warnings: vec![],
        }
    }

    /// Gives an error of `result` the place of the value that caused it, unless it has one.
    pub(super) fn located<T>(&self, at: Position, result: Result<T>) -> Result<T> {
        result.map_err(|mut e| {
            e.0.place.get_or_insert_with(|| (at, render(&self.path)));
            e
        })
    }

    pub(super) fn error<T>(&self, at: Position, message: impl fmt::Display) -> Result<T> {
        self.located(at, Err(Error::new(message.to_string())))
    }

    fn read(&mut self) -> Result<(Event<'a>, Position)> {
        loop {
            let (event, at) = match self.anchors.repeat() {
                Some(again) => again,
                None => self.parse()?,
            };
            let checked = match &event {
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
                Event::Alias(anchor) => {
                    let found = self.anchors.alias(*anchor);
                    self.located(at, found)?;
                    continue;
                }
                Event::Scalar(_, _, anchor, tag)
                | Event::MappingStart(anchor, tag)
                | Event::SequenceStart(anchor, tag) => {
                    refuse_tag(tag.as_deref()).and_then(|()| self.anchors.note(&event, *anchor, at))
                }
                _ => self.anchors.note(&event, 0, at),
            };
            self.located(at, checked)?;
            return Ok((event, at));
        }
    }

    /// The next event of the text.
    fn parse(&mut self) -> Result<(Event<'a>, Position)> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, self.at)),
            Some(Ok((event, span))) => Ok((event, Position::of(span.start.line(), span.start.col()))),
            Some(Err(e)) => {
                let at = Position::of(e.marker().line(), e.marker().col());
                self.error(at, format_args!("not valid YAML: {}", e.info()))
            }
        }
    }

    pub(super) fn peek(&mut self) -> Result<&Event<'a>> {
        if self.peeked.is_none() {
            let next = self.read()?;
            self.peeked = Some(next);
        }
        // Filled just above.
        let (event, at) = self.peeked.as_ref().expect("an event was just read");
        self.at = *at;
        Ok(event)
    }

    pub(super) fn next(&mut self) -> Result<Event<'a>> {
        let (event, at) = match self.peeked.take() {
            Some(next) => next,
            None => self.read()?,
        };
        self.at = at;
        Ok(event)
    }

    pub(super) fn scalar(&mut self, expected: &str) -> Result<(Cow<'a, str>, ScalarStyle)> {
        match self.next()? {
            Event::Scalar(text, style, ..) => Ok((text, style)),
            other => self.error(self.at, format_args!("found {}, expected {expected}", describe(&other))),
        }
    }

    pub(super) fn peek_null(&mut self) -> Result<bool> {
        Ok(match self.peek()? {
            Event::Scalar(text, style, ..) => is_null(text, *style),
            _ => false,
        })
    }

    pub(super) fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error(self.at, format_args!("nested deeper than {MAX_DEPTH} levels"));
        }
        Ok(())
    }

    /// Reads past one value of any shape; limits apply. Whether it held anything: `[]` and `{}` do not.
    pub(super) fn skip_value(&mut self) -> Result<bool> {
        let mut open = 0_usize;
        let mut holds = false;
        loop {
            match self.next()? {
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    self.enter()?;
                    open += 1;
                }
                Event::MappingEnd | Event::SequenceEnd if open > 0 => {
                    self.depth -= 1;
                    open -= 1;
                }
                Event::Scalar(..) => holds = true,
                other => return self.error(self.at, format_args!("found {}, expected a value", describe(&other))),
            }
            if open == 0 {
                return Ok(holds);
            }
        }
    }

    /// Follows `wanted` from `here` downwards, noting in `best` how far it got.
    fn seek(&mut self, here: &mut String, wanted: &str, best: &mut Option<Position>) -> Result<()> {
        let is_map = match self.next()? {
            Event::MappingStart(..) => true,
            Event::SequenceStart(..) => false,
            _ => return Ok(()),
        };
        self.enter()?;
        for index in 0.. {
            if matches!(self.peek()?, Event::MappingEnd | Event::SequenceEnd) {
                break;
            }
            let length = here.len();
            if is_map {
                let (key, style) = self.scalar("a key")?;
                if is_merge(&key, style) {
                    self.seek_merged(here, wanted, best)?;
                    continue;
                }
                let dot = if here.is_empty() { "" } else { "." };
                here.push_str(&format!("{dot}{key}"));
            } else {
                here.push_str(&format!("[{index}]"));
            }
            let rest = wanted.strip_prefix(here.as_str());
            if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])) {
                self.peek()?;
                *best = Some(self.at);
                self.seek(here, wanted, best)?;
            } else {
                self.skip_value()?;
            }
            here.truncate(length);
        }
        self.depth -= 1;
        self.next().map(|_| ())
    }

    /// [`Self::seek`] in the value of a merge key: its keys are those of `here`.
    fn seek_merged(&mut self, here: &mut String, wanted: &str, best: &mut Option<Position>) -> Result<()> {
        if !matches!(self.peek()?, Event::SequenceStart(..)) {
            return self.seek(here, wanted, best);
        }
        self.next()?;
        while !matches!(self.peek()?, Event::SequenceEnd) {
            self.seek(here, wanted, best)?;
        }
        self.next().map(|_| ())
    }

    /// After the document: nothing may follow.
    fn end(&mut self) -> Result<()> {
        match self.next()? {
            Event::DocumentEnd => {}
            Event::StreamEnd => return Ok(()),
            other => {
                return self.error(
                    self.at,
                    format_args!("found {}, expected the end of the file", describe(&other)),
                );
            }
        }
        match self.next()? {
            Event::StreamEnd => Ok(()),
            _ => self.error(self.at, "found a second YAML document, expected one"),
        }
    }
}

pub(super) fn describe(event: &Event<'_>) -> &'static str {
    match event {
        Event::Scalar(..) => "a single value",
        Event::MappingStart(..) => "a mapping",
        Event::SequenceStart(..) => "a list",
        _ => "the end of the file",
    }
}
