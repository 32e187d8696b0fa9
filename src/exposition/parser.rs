//! The chunk-fed parser: line buffer, dispatch, end of input.

mod known;

use super::error::{Fault, ParseError, Problem, Stop};
use super::meta::{self, MetaLine, unescape_in_place};
use super::protobuf::{Histograms, Protobuf};
use super::sample::{self, SampleLine};
use super::{Event, Exemplar, Format};
use crate::labels::find_byte;
use alloc::boxed::Box;
use alloc::vec;
use core::ops::Range;

pub use known::{AHEAD, Candidate};

/// Without it every protobuf body fails, and the code that reads them is not in the program.
const READS_PROTOBUF: bool = cfg!(feature = "protobuf");

/// A parser that is fed the body of a scrape in chunks and asked for events in between.
///
/// Memory: the one line buffer of the size given to [`Parser::new`].
///
/// ```
/// use tidegate::exposition::{Event, Format, Parser};
///
/// let mut parser = Parser::new(1024);
/// parser.start(Format::Text);
/// let mut series = 0;
/// for mut chunk in [&b"up 1\nde"[..], b"grees{room=\"a\"} 21.5"] {
///     while !chunk.is_empty() {
///         let taken = parser.feed(chunk);
///         chunk = &chunk[taken..];
///         while let Some(event) = parser.next()? {
///             series += usize::from(matches!(event, Event::Sample { .. }));
///         }
///     }
/// }
/// parser.finish();
/// while let Some(event) = parser.next()? {
///     series += usize::from(matches!(event, Event::Sample { .. }));
/// }
/// assert_eq!(series, 2);
/// # Ok::<(), tidegate::exposition::ParseError>(())
/// ```
#[derive(Debug)]
pub struct Parser {
    /// One byte longer than a line may be: room for the line end that [`Parser::finish`] adds.
    buffer: Box<[u8]>,
    /// Unread bytes are `head..tail`; `head` is the beginning of a line.
    head: usize,
    tail: usize,
    /// The line at `head` was found incomplete when the buffer ended here; 0: not tried yet.
    tried: usize,
    format: Format,
    protobuf: Option<Protobuf>,
    state: State,
    finished: bool,
    /// Line at `head`, and line of the last event.
    next_line: u32,
    line: u32,
    tells_comments: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of a line.
    Lines,
    /// Within a line that is too long and not needed.
    Skipping,
    /// Behind `# EOF`.
    AfterEof,
    /// A byte zero at the beginning of a line has ended the text (`TXT-13`); what follows is ignored.
    Ended,
}

/// One line, as offsets from `head`.
enum Line {
    Sample(SampleLine),
    Meta { line: MetaLine, len: usize },
    Nul,
}

impl Parser {
    /// A parser for lines of up to `line_bytes`, terminator included. Allocates; the only call here that does.
    #[must_use]
    pub fn new(line_bytes: usize) -> Self {
        Self::with_protobuf(line_bytes, 0)
    }

    /// A parser that reads protobuf as well, with labels of up to `label_bytes` and metrics of up to `line_bytes`; 0: it does
    /// not. Allocates that and [`super::protobuf_ram_bytes`].
    #[must_use]
    pub fn with_protobuf(line_bytes: usize, label_bytes: usize) -> Self {
        Self {
            buffer: vec![0; line_bytes.max(1) + 1].into_boxed_slice(),
            head: 0,
            tail: 0,
            tried: 0,
            format: Format::Text,
            protobuf: (READS_PROTOBUF && label_bytes > 0).then(|| Protobuf::new(label_bytes)),
            state: State::Lines,
            finished: false,
            next_line: 1,
            line: 0,
            tells_comments: false,
        }
    }

    /// Begins a new body; whatever was left of the last one is forgotten.
    ///
    /// [`Format::Protobuf`] only if the parser was made for it: every body fails otherwise.
    pub fn start(&mut self, format: Format) {
        self.start_with(format, Histograms::default());
    }

    /// As [`Parser::start`], with native histograms if wanted.
    pub fn start_with(&mut self, format: Format, histograms: Histograms) {
        if let Some(protobuf) = self.protobuf.as_mut().filter(|_| READS_PROTOBUF) {
            protobuf.start(histograms);
        }
        (self.head, self.tail, self.tried) = (0, 0, 0);
        (self.next_line, self.line) = (1, 0);
        self.tells_comments = false;
        self.format = format;
        self.state = State::Lines;
        self.finished = false;
    }

    /// Takes bytes from the front of `chunk` and returns how many: at least one, if [`Parser::next`] has been called until
    /// it returned `Ok(None)` and the chunk is not empty. Nothing is taken after [`Parser::finish`].
    pub fn feed(&mut self, chunk: &[u8]) -> usize {
        if self.finished {
            return 0;
        }
        if self.head > 0 {
            self.buffer.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.tried = self.tried.saturating_sub(self.head);
            self.head = 0;
        }
        let taken = chunk.len().min(self.limit() - self.tail);
        if let (Some(room), Some(bytes)) = (self.buffer.get_mut(self.tail..self.tail + taken), chunk.get(..taken)) {
            room.copy_from_slice(bytes);
            self.tail += taken;
        }
        taken
    }

    /// Says that the body is complete. Call [`Parser::next`] until it returns `Ok(None)`: a last line without a terminator and
    /// what is missing at the end come from there.
    ///
    /// An empty body is not for a parser: it is a successful scrape in every format (`SCR-213`), but not valid OpenMetrics.
    pub fn finish(&mut self) {
        let ended = self.unread().last().is_none_or(|&last| last == b'\n');
        if !self.finished && !ended && self.format != Format::Protobuf {
            // `feed` leaves the last byte of the buffer free.
            if let Some(slot) = self.buffer.get_mut(self.tail) {
                *slot = b'\n';
                self.tail += 1;
            }
        }
        self.finished = true;
    }

    /// True after [`Parser::finish`].
    #[must_use]
    pub const fn finished(&self) -> bool {
        self.finished
    }

    /// The line of the body that the last event began on, counted from 1; 0 before the first. Of a protobuf body, the number of
    /// the metric family.
    #[must_use]
    pub const fn line(&self) -> u32 {
        match &self.protobuf {
            Some(protobuf) if matches!(self.format, Format::Protobuf) => protobuf.family(),
            _ => self.line,
        }
    }

    /// Makes [`Event::Comment`] of each comment of this body, and of a line that is too long and not needed; otherwise they are passed over.
    pub const fn tell_comments(&mut self) {
        self.tells_comments = true;
    }

    /// Whether it was made to read protobuf.
    #[must_use]
    pub const fn reads_protobuf(&self) -> bool {
        self.protobuf.is_some()
    }

    /// The next event; `Ok(None)` when more bytes are needed, or after [`Parser::finish`] when there is no more.
    ///
    /// # Errors
    /// [`ParseError`]: the body is outside the grammar and all of it must be discarded (`SCR-507`, `TXT`, `OM-01`).
    /// Calling again repeats the error.
    #[allow(
        clippy::should_implement_trait,
        reason = "the event borrows from the parser, which an Iterator cannot say"
    )]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, ParseError> {
        if self.format == Format::Protobuf {
            return self.next_of_protobuf();
        }
        loop {
            match self.state {
                State::Lines => {}
                State::Skipping => self.skip_line(),
                State::AfterEof if self.head < self.tail => return Err(self.error(Problem::TextAfterEof, 0)),
                State::AfterEof => return Ok(None),
                State::Ended => self.head = self.tail,
            }
            if self.format == Format::Text {
                self.skip_space();
            }
            if self.head == self.tail {
                return self.at_end();
            }
            let line = match self.read_line() {
                Ok(line) => line,
                Err(Stop::Fault(fault)) => return Err(self.error(fault.problem, fault.at)),
                Err(Stop::Incomplete) if self.finished => return Err(self.error(Problem::OpenQuote, 0)),
                Err(Stop::Incomplete) if self.tail - self.head < self.limit() => {
                    self.tried = self.tail;
                    return Ok(None);
                }
                Err(Stop::Incomplete) if meta::may_be_skipped(self.format, self.unread()) => {
                    self.state = State::Skipping;
                    if self.tells_comments {
                        return Ok(Some(Event::Comment));
                    }
                    continue;
                }
                Err(Stop::Incomplete) => {
                    let limit = self.limit();
                    return Err(self.error(Problem::LineTooLong { limit }, 0));
                }
            };
            let start = self.head;
            self.line = self.next_line;
            match line {
                Line::Sample(sample) => {
                    self.advance(sample.len, sample.lines);
                    return Ok(Some(self.sample(start, sample)));
                }
                Line::Nul => self.state = State::Ended,
                Line::Meta { line, len } => {
                    self.advance(len, 1);
                    if line != MetaLine::Comment {
                        return self.meta(start, len, line).map(Some);
                    }
                    if self.tells_comments {
                        return Ok(Some(Event::Comment));
                    }
                }
            }
        }
    }

    fn next_of_protobuf(&mut self) -> Result<Option<Event<'_>>, ParseError> {
        let limit = self.limit();
        let unread = self.buffer.get(self.head..self.tail).unwrap_or_default();
        let Some(protobuf) = self.protobuf.as_mut().filter(|_| READS_PROTOBUF) else {
            return Err(ParseError::in_family(Problem::Wire, 0, ("", 0)));
        };
        let mut taken = 0;
        let found = protobuf.next(unread, (limit, self.finished), &mut taken);
        self.head += taken;
        // Borrowed anew, and not exclusively, for the event.
        let protobuf: &Protobuf = protobuf;
        found
            .and_then(|found| protobuf.event(found, unread))
            .map_err(|fault| ParseError::in_family(fault.problem, protobuf.family(), protobuf.place()))
    }

    /// Bytes of a line.
    const fn limit(&self) -> usize {
        self.buffer.len() - 1
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.head..self.tail).unwrap_or_default()
    }

    fn error(&self, problem: Problem, at: usize) -> ParseError {
        ParseError::new(Fault { problem, at }, self.next_line, self.unread())
    }

    fn advance(&mut self, bytes: usize, lines: u32) {
        self.head += bytes;
        self.next_line = self.next_line.saturating_add(lines);
        self.tried = 0;
    }

    /// Nothing left to read: fine, unless OpenMetrics was to end with `# EOF`.
    fn at_end(&self) -> Result<Option<Event<'_>>, ParseError> {
        if self.finished && self.format == Format::OpenMetrics {
            return Err(self.error(Problem::MissingEof, 0));
        }
        Ok(None)
    }

    /// Skips blank lines and leading blanks.
    fn skip_space(&mut self) {
        while let Some(&byte) = self.unread().first() {
            match byte {
                b'\n' => self.advance(1, 1),
                b' ' | b'\t' => self.advance(1, 0),
                _ => return,
            }
        }
    }

    /// Skips to behind the line end, or as far as there are bytes.
    fn skip_line(&mut self) {
        match find_byte(self.unread(), b'\n') {
            Some(end) => {
                self.advance(end + 1, 1);
                self.state = State::Lines;
            }
            None => self.advance(self.tail - self.head, 0),
        }
    }

    fn read_line(&self) -> Result<Line, Stop> {
        if self.tried > self.head && !self.finished && self.tail - self.head < self.limit() {
            // Only a line end can complete what was incomplete before, so a dripping target costs one look at each byte.
            let new = self.buffer.get(self.tried..self.tail).unwrap_or_default();
            if find_byte(new, b'\n').is_none() {
                return Err(Stop::Incomplete);
            }
        }
        let bytes = self.unread();
        match bytes.first() {
            Some(b'#') => {
                let end = find_byte(bytes, b'\n').ok_or(Stop::Incomplete)?;
                let line = meta::parse(self.format, bytes.get(..end).unwrap_or_default())?;
                Ok(Line::Meta { line, len: end + 1 })
            }
            Some(0) if self.format == Format::Text => Ok(Line::Nul),
            _ => sample::parse(self.format, bytes).map(Line::Sample),
        }
    }

    /// The event for a sample line that began at `start`.
    fn sample(&self, start: usize, line: SampleLine) -> Event<'_> {
        let bytes = |range: Range<usize>| {
            self.buffer
                .get(start + range.start..start + range.end)
                .unwrap_or_default()
        };
        Event::Sample {
            series: bytes(line.series),
            value: line.value,
            timestamp_ms: line.timestamp_ms,
            start_ms: None,
            exemplar: line.exemplar.map(|exemplar| Exemplar {
                labels: bytes(exemplar.labels),
                value: exemplar.value,
                timestamp_ms: exemplar.timestamp_ms,
            }),
        }
    }

    /// The event for a metadata line of `len` bytes that began at `start`.
    fn meta(&mut self, start: usize, len: usize, line: MetaLine) -> Result<Event<'_>, ParseError> {
        let line_number = self.line;
        if line == MetaLine::Eof {
            self.state = State::AfterEof;
        }
        let quotes_in_help = self.format == Format::OpenMetrics;
        // The line has been read for good, so its texts may be unescaped where they stand.
        let bytes = self.buffer.get_mut(start..start + len).unwrap_or_default();
        let event = match line {
            MetaLine::Comment => Ok(Event::Comment),
            MetaLine::Eof => Ok(Event::Eof),
            MetaLine::Type(family, kind) => {
                let end = unescape(bytes, &family, true);
                text(bytes, family.start..end).map(|family| Event::Type { family, kind })
            }
            MetaLine::Help(family, help) => {
                let help_end = unescape(bytes, &help, quotes_in_help);
                let family_end = unescape(bytes, &family, true);
                text(bytes, family.start..family_end)
                    .and_then(|family| text(bytes, help.start..help_end).map(|text| Event::Help { family, text }))
            }
            MetaLine::Unit(family, unit) => {
                let end = unescape(bytes, &family, true);
                text(bytes, family.start..end)
                    .and_then(|family| text(bytes, unit).map(|unit| Event::Unit { family, unit }))
            }
        };
        event.map_err(|fault| ParseError::new(fault, line_number, bytes))
    }
}

/// Unescapes `range` of `line` where it stands; returns its new end.
fn unescape(line: &mut [u8], range: &Range<usize>, quotes: bool) -> usize {
    let text = line.get_mut(range.clone()).unwrap_or_default();
    range.start + unescape_in_place(text, quotes)
}

fn text(line: &[u8], range: Range<usize>) -> Result<&str, Fault> {
    let bytes = line.get(range.clone()).unwrap_or_default();
    core::str::from_utf8(bytes).map_err(|error| Fault {
        problem: Problem::NotUtf8,
        at: range.start + error.valid_up_to(),
    })
}
