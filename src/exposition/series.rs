//! The series text: a name and labels in braces, validated in full.

use super::Format;
use super::error::{Fault, ParseError, Problem};
use crate::labels::{Escaped, Labels, METRIC_NAME, find_any3};

/// Reads the labels of a series text from [`super::Event::Sample`] into `labels`, the metric name as `__name__`.
///
/// `labels` is cleared first. Labels with an empty value stay in it (with `honor_labels` they
/// count as carried, `SCR-504`), and so does a name that occurs twice, because relabelling may still drop it: call
/// [`Labels::remove_empty`] and [`Labels::validate`] after relabelling.
///
/// # Errors
/// [`ParseError`] without a line number: the text is outside the grammar, or does not fit into `labels`.
pub fn parse_series(format: Format, raw: &[u8], labels: &mut Labels) -> Result<(), ParseError> {
    labels.clear();
    let result = text_of(raw).and_then(|text| {
        Walker::new(format, text).series(|name, value| {
            labels
                .push_unescaped(name.unwrap_or(Escaped(METRIC_NAME)), value)
                .map_err(Problem::Labels)
        })
    });
    result.map_err(|fault| ParseError::new(fault, 0, raw))
}

/// Reads the labels of [`super::Exemplar::labels`] into `labels`, which is cleared first.
///
/// # Errors
/// [`ParseError`] without a line number: outside the grammar, or does not fit into `labels`.
pub fn parse_exemplar_labels(raw: &[u8], labels: &mut Labels) -> Result<(), ParseError> {
    labels.clear();
    let result = text_of(raw).and_then(|text| {
        Walker::new(Format::OpenMetrics, text).exemplar(|name, value| {
            labels
                .push_unescaped(name.unwrap_or(Escaped("")), value)
                .map_err(Problem::Labels)
        })
    });
    result.map_err(|fault| ParseError::new(fault, 0, raw))
}

/// Checks the syntax of exemplar labels that stand at `offset` of their line.
pub(super) fn check_exemplar_labels(raw: &[u8], offset: usize) -> Result<(), Fault> {
    text_of(raw)
        .and_then(|text| Walker::new(Format::OpenMetrics, text).exemplar(|_, _| Ok(())))
        .map_err(|fault| Fault {
            at: fault.at + offset,
            ..fault
        })
}

fn text_of(raw: &[u8]) -> Result<&str, Fault> {
    core::str::from_utf8(raw).map_err(|error| Fault {
        problem: Problem::NotUtf8,
        at: error.valid_up_to(),
    })
}

/// Walks a series text and hands every name and value to a sink; no name means the metric's.
struct Walker<'a> {
    format: Format,
    text: &'a str,
    at: usize,
}

impl<'a> Walker<'a> {
    const fn new(format: Format, text: &'a str) -> Self {
        Self { format, text, at: 0 }
    }

    fn series(
        mut self,
        mut sink: impl FnMut(Option<Escaped<'a>>, Escaped<'a>) -> Result<(), Problem>,
    ) -> Result<(), Fault> {
        let name = self.name(true);
        if let Some(name) = name {
            sink(None, name).map_err(|problem| Fault { problem, at: 0 })?;
        }
        self.blanks();
        let mut named = name.is_some();
        if self.take(b'{') {
            self.labels(|name, value| {
                match name {
                    None if named => return Err(Problem::MetricNameTwice),
                    None => named = true,
                    Some(_) => {}
                }
                sink(name, value)
            })?;
        } else if !named {
            return Err(self.fault(Problem::ExpectedMetricName));
        }
        if self.at < self.text.len() {
            return Err(self.fault(Problem::ExpectedValue));
        }
        if !named {
            return Err(Fault {
                problem: Problem::NoMetricName,
                at: 0,
            });
        }
        Ok(())
    }

    fn exemplar(
        mut self,
        mut sink: impl FnMut(Option<Escaped<'a>>, Escaped<'a>) -> Result<(), Problem>,
    ) -> Result<(), Fault> {
        if !self.take(b'{') {
            return Err(self.fault(Problem::ExpectedExemplar));
        }
        self.labels(|name, value| match name {
            Some(_) => sink(name, value),
            None => Err(Problem::ExpectedEqual),
        })?;
        if self.at < self.text.len() {
            return Err(self.fault(Problem::ExpectedExemplar));
        }
        Ok(())
    }

    /// Everything behind the opening brace, the closing one included.
    fn labels(
        &mut self,
        mut sink: impl FnMut(Option<Escaped<'a>>, Escaped<'a>) -> Result<(), Problem>,
    ) -> Result<(), Fault> {
        loop {
            self.blanks();
            if self.take(b'}') {
                return Ok(());
            }
            let start = self.at;
            let quoted = self.peek() == Some(b'"');
            let name = if quoted { Some(self.quoted()?) } else { self.name(false) };
            let name = name.ok_or(self.fault(Problem::ExpectedLabelName))?;
            self.blanks();
            let on_sink = |problem| Fault { problem, at: start };
            if quoted && matches!(self.peek(), Some(b',' | b'}')) {
                sink(None, name).map_err(on_sink)?;
                self.take(b',');
                continue;
            }
            if !self.take(b'=') {
                return Err(self.fault(Problem::ExpectedEqual));
            }
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.fault(Problem::ExpectedLabelValue));
            }
            let value = self.quoted()?;
            sink(Some(name), value).map_err(on_sink)?;
            self.blanks();
            // The text format does without the comma, too.
            if !self.take(b',') && self.format == Format::OpenMetrics && self.peek() != Some(b'}') {
                return Err(self.fault(Problem::ExpectedCommaOrBrace));
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    const fn fault(&self, problem: Problem) -> Fault {
        Fault { problem, at: self.at }
    }

    /// Spaces and tabs, which only the text format has between tokens.
    fn blanks(&mut self) {
        while self.format == Format::Text && matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// A name that needs no quotes; metric names may have colons.
    fn name(&mut self, colon: bool) -> Option<Escaped<'a>> {
        let start = self.at;
        while let Some(byte) = self.peek() {
            let letter = byte.is_ascii_alphabetic() || byte == b'_' || (colon && byte == b':');
            let digit = byte.is_ascii_digit() && self.at > start;
            if !(letter || digit) {
                break;
            }
            self.at += 1;
        }
        self.text
            .get(start..self.at)
            .filter(|name| !name.is_empty())
            .map(Escaped)
    }

    /// Quoted text without its quotes; `at` is the opening one.
    fn quoted(&mut self) -> Result<Escaped<'a>, Fault> {
        let open = Fault {
            problem: Problem::OpenQuote,
            at: self.at,
        };
        let start = self.at + 1;
        let mut at = start;
        loop {
            at = find_any3(self.text.as_bytes(), at, b'"', b'\\', b'\n').ok_or(open)?;
            match self.text.as_bytes().get(at) {
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                _ if self.format == Format::OpenMetrics => return Err(open),
                _ => at += 1,
            }
        }
        self.at = at + 1;
        self.text.get(start..at).map(Escaped).ok_or(open)
    }
}
