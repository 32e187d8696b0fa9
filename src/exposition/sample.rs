//! The sample line: where the series text ends, value, timestamp, exemplar.

use super::Format;
use super::error::{Problem, Stop};
use super::series::check_exemplar_labels;
use crate::labels::find_any3;
use crate::sample::Number;
use crate::value;
use core::ops::Range;

/// A sample line as offsets into the bytes it was read from.
#[derive(Clone, Debug)]
pub(super) struct SampleLine {
    pub(super) series: Range<usize>,
    pub(super) value: Number,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) exemplar: Option<ExemplarText>,
    /// Bytes of the line, terminator included.
    pub(super) len: usize,
    /// Line ends in it, the terminator included.
    pub(super) lines: u32,
}

/// An exemplar as offsets.
#[derive(Clone, Debug)]
pub(super) struct ExemplarText {
    pub(super) labels: Range<usize>,
    pub(super) value: Number,
    pub(super) timestamp_ms: Option<i64>,
}

/// Reads the sample line at the start of `bytes`, which begins with neither space nor `#`.
pub(super) fn parse(format: Format, bytes: &[u8]) -> Result<SampleLine, Stop> {
    let mut line = Line {
        format,
        bytes,
        at: 0,
        lines: 1,
    };
    let series = line.series()?;
    line.gap(Problem::ExpectedValue)?;
    let value = line.number(Problem::ExpectedValue)?;
    let (timestamp_ms, exemplar) = match format {
        Format::Text => (line.text_timestamp()?, None),
        Format::OpenMetrics | Format::Protobuf => line.open_metrics_suffix()?,
    };
    Ok(SampleLine {
        series,
        value,
        timestamp_ms,
        exemplar,
        len: line.at,
        lines: line.lines,
    })
}

struct Line<'a> {
    format: Format,
    bytes: &'a [u8],
    at: usize,
    lines: u32,
}

impl<'a> Line<'a> {
    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Incomplete)
    }

    const fn fault(&self, problem: Problem) -> Stop {
        Stop::fault(problem, self.at)
    }

    /// Skips the name and, if there are any, the labels.
    fn series(&mut self) -> Result<Range<usize>, Stop> {
        let ends_name = |&byte: &u8| matches!(byte, b' ' | b'\t' | b'{' | b'\n');
        let name = self.bytes.iter().position(ends_name).ok_or(Stop::Incomplete)?;
        self.at = name;
        if self.format == Format::Text {
            self.blanks();
        }
        if self.peek()? == b'{' {
            self.at += 1;
            self.braces()?;
        } else if name == 0 {
            return Err(self.fault(Problem::ExpectedMetricName));
        } else {
            self.at = name;
        }
        Ok(0..self.at)
    }

    /// Skips to behind the closing brace.
    fn braces(&mut self) -> Result<(), Stop> {
        loop {
            self.at = find_any3(self.bytes, self.at, b'"', b'}', b'\n').ok_or(Stop::Incomplete)?;
            match self.peek()? {
                b'"' => self.quoted()?,
                b'}' => break,
                _ => return Err(self.fault(Problem::OpenBrace)),
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Skips quoted text; `at` is its opening quote.
    fn quoted(&mut self) -> Result<(), Stop> {
        self.at += 1;
        loop {
            self.at = find_any3(self.bytes, self.at, b'"', b'\\', b'\n').ok_or(Stop::Incomplete)?;
            match self.peek()? {
                b'"' => break,
                b'\n' if self.format == Format::Text => self.lines += 1,
                b'\n' => return Err(self.fault(Problem::OpenQuote)),
                _ => {
                    self.at += 1;
                    // A backslash before a raw newline escapes nothing: the grammar has no such pair.
                    if self.peek()? == b'\n' {
                        return Err(self.fault(Problem::OpenQuote));
                    }
                }
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(())
    }

    /// Text: any number of spaces and tabs. OpenMetrics: exactly one space.
    fn gap(&mut self, missing: Problem) -> Result<(), Stop> {
        match self.format {
            Format::Text => self.blanks(),
            Format::OpenMetrics if self.peek()? == b' ' => self.at += 1,
            Format::OpenMetrics | Format::Protobuf => return Err(self.fault(missing)),
        }
        Ok(())
    }

    fn blanks(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// The bytes up to the next space, tab or line end; not empty.
    fn token(&mut self, missing: Problem) -> Result<&'a [u8], Stop> {
        let end = find_any3(self.bytes, self.at, b' ', b'\t', b'\n').ok_or(Stop::Incomplete)?;
        match self.bytes.get(self.at..end) {
            Some(token) if !token.is_empty() => {
                self.at = end;
                Ok(token)
            }
            _ => Err(self.fault(missing)),
        }
    }

    fn number(&mut self, missing: Problem) -> Result<Number, Stop> {
        let start = self.at;
        let token = self.token(missing)?;
        value::parse(token).ok_or(Stop::fault(Problem::Value, start))
    }

    fn line_end(&mut self) -> Result<(), Stop> {
        if self.peek()? != b'\n' {
            return Err(self.fault(Problem::ExpectedLineEnd));
        }
        self.at += 1;
        Ok(())
    }

    /// What follows the value in the text format: nothing, or digits.
    fn text_timestamp(&mut self) -> Result<Option<i64>, Stop> {
        self.blanks();
        let mut timestamp = None;
        if self.peek()? != b'\n' {
            let start = self.at;
            let token = self.token(Problem::ExpectedLineEnd)?;
            timestamp = Some(whole_millis(token).ok_or(Stop::fault(Problem::TimestampMillis, start))?);
            self.blanks();
        }
        self.line_end()?;
        Ok(timestamp)
    }

    /// What follows the value in OpenMetrics: timestamp, exemplar, both or neither.
    fn open_metrics_suffix(&mut self) -> Result<(Option<i64>, Option<ExemplarText>), Stop> {
        let mut timestamp = None;
        if self.peek()? == b' ' && self.bytes.get(self.at + 1).copied().ok_or(Stop::Incomplete)? != b'#' {
            timestamp = self.seconds()?;
        }
        let mut exemplar = None;
        if self.peek()? == b' ' {
            exemplar = Some(self.exemplar()?);
        }
        self.line_end()?;
        Ok((timestamp, exemplar))
    }

    /// ` 1.5`, or nothing before the line end.
    fn seconds(&mut self) -> Result<Option<i64>, Stop> {
        if self.peek()? != b' ' {
            return Ok(None);
        }
        self.at += 1;
        let start = self.at;
        let token = self.token(Problem::TimestampSeconds)?;
        let millis = millis_of_seconds(token).ok_or(Stop::fault(Problem::TimestampSeconds, start))?;
        Ok(Some(millis))
    }

    /// ` # {labels} value [timestamp]`.
    fn exemplar(&mut self) -> Result<ExemplarText, Stop> {
        const OPENING: &[u8] = b" # {";
        for &expected in OPENING {
            if self.peek()? != expected {
                return Err(self.fault(Problem::ExpectedExemplar));
            }
            self.at += 1;
        }
        let start = self.at - 1;
        self.braces()?;
        let labels = start..self.at;
        check_exemplar_labels(self.bytes.get(labels.clone()).unwrap_or_default(), start)?;
        self.gap(Problem::ExpectedExemplar)?;
        Ok(ExemplarText {
            labels,
            value: self.number(Problem::ExpectedExemplar)?,
            timestamp_ms: self.seconds()?,
        })
    }
}

/// A timestamp, alone. `None`: it is none.
pub(super) fn timestamp(format: Format, token: &[u8]) -> Option<i64> {
    match format {
        Format::Text if token.is_empty() => None,
        Format::Text => whole_millis(token),
        Format::OpenMetrics | Format::Protobuf => millis_of_seconds(token),
    }
}

/// Digits only: no sign, no fraction, no exponent.
fn whole_millis(token: &[u8]) -> Option<i64> {
    token.iter().try_fold(0_i64, |sum, &byte| {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Seconds as a float, times 1,000, truncated: the same two roundings as Prometheus makes.
fn millis_of_seconds(token: &[u8]) -> Option<i64> {
    let seconds = f64::from_bits(value::parse(token)?.to_bits());
    // Out of range saturates.
    seconds.is_finite().then_some((seconds * 1000.0) as i64)
}
