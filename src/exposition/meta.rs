//! Lines that begin with `#`: TYPE, HELP, UNIT, EOF and comments.

use super::Format;
use super::error::{Fault, Problem};
use crate::labels::find_byte;
use crate::sample::MetricType;
use core::ops::Range;

/// What such a line says, as offsets into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MetaLine {
    Comment,
    Eof,
    Type(Range<usize>, MetricType),
    Help(Range<usize>, Range<usize>),
    Unit(Range<usize>, Range<usize>),
}

/// Bytes of a keyword with all around it.
const LEN: usize = b"# HELP ".len();

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Type,
    Help,
    Unit,
}

/// Reads `line`, which begins with `#` and has no terminator. Names and texts are still escaped.
pub(super) fn parse(format: Format, line: &[u8]) -> Result<MetaLine, Fault> {
    let (keyword, start) = match format {
        Format::Text => match text_keyword(line) {
            Some(found) => found,
            None => return Ok(MetaLine::Comment),
        },
        Format::OpenMetrics if line == b"# EOF" => return Ok(MetaLine::Eof),
        Format::OpenMetrics | Format::Protobuf => open_metrics_keyword(line)?,
    };
    let name = name(line, start)?;
    let text = text(format, line, behind_quote(line, name.end))?;
    match keyword {
        Keyword::Help => Ok(MetaLine::Help(name, text)),
        Keyword::Type => match metric_type(format, slice(line, &text)) {
            Some(kind) => Ok(MetaLine::Type(name, kind)),
            None => Err(Fault {
                problem: Problem::MetricType,
                at: text.start,
            }),
        },
        Keyword::Unit if is_unit_of(slice(line, &text), slice(line, &name)) => Ok(MetaLine::Unit(name, text)),
        Keyword::Unit => Err(Fault {
            problem: Problem::Unit,
            at: text.start,
        }),
    }
}

/// True when a line that begins like this and is too long to hold may be skipped: what it says is not needed.
pub(super) fn may_be_skipped(format: Format, start: &[u8]) -> bool {
    match format {
        Format::Text => {
            start.first() == Some(&b'#') && text_keyword(start).is_none_or(|(word, _)| word == Keyword::Help)
        }
        Format::OpenMetrics | Format::Protobuf => {
            open_metrics_keyword(start).is_ok_and(|(word, _)| word == Keyword::Help)
        }
    }
}

fn slice<'a>(line: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    line.get(range.clone()).unwrap_or_default()
}

/// Offset of the first byte at or after `at` that is neither space nor tab.
fn blanks(line: &[u8], at: usize) -> usize {
    let rest = line.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count()
}

/// `#`, space, HELP or TYPE, space; anything else is a comment.
fn text_keyword(line: &[u8]) -> Option<(Keyword, usize)> {
    // As nearly all are written.
    if let Some((head, &[next, ..])) = line.split_first_chunk::<LEN>()
        && next != b' '
        && next != b'\t'
    {
        match head {
            b"# HELP " => return Some((Keyword::Help, LEN)),
            b"# TYPE " => return Some((Keyword::Type, LEN)),
            _ => {}
        }
    }
    let word = blanks(line, 1);
    let end = word + 4;
    let start = blanks(line, end);
    let keyword = match line.get(word..end)? {
        b"HELP" => Keyword::Help,
        b"TYPE" => Keyword::Type,
        _ => return None,
    };
    (word > 1 && start > end).then_some((keyword, start))
}

fn open_metrics_keyword(line: &[u8]) -> Result<(Keyword, usize), Fault> {
    match line.get(..LEN) {
        Some(b"# HELP ") => Ok((Keyword::Help, LEN)),
        Some(b"# TYPE ") => Ok((Keyword::Type, LEN)),
        Some(b"# UNIT ") => Ok((Keyword::Unit, LEN)),
        _ if line.starts_with(b"# EOF") => Err(Fault {
            problem: Problem::TextAfterEof,
            at: b"# EOF".len(),
        }),
        _ => Err(Fault {
            problem: Problem::ExpectedKeyword,
            at: 0,
        }),
    }
}

/// The metric name at `start`, without its quotes if it has any.
fn name(line: &[u8], start: usize) -> Result<Range<usize>, Fault> {
    let rest = line.get(start..).unwrap_or_default();
    if rest.first() == Some(&b'"') {
        let mut end = 1;
        loop {
            match rest.get(end) {
                Some(b'"') => return Ok(start + 1..start + end),
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => {
                    return Err(Fault {
                        problem: Problem::OpenQuote,
                        at: start,
                    });
                }
            }
        }
    }
    let len = rest.iter().position(|&byte| !is_in_name(byte)).unwrap_or(rest.len());
    if len == 0 || rest.first().is_some_and(u8::is_ascii_digit) {
        return Err(Fault {
            problem: Problem::ExpectedMetricName,
            at: start,
        });
    }
    Ok(start..start + len)
}

/// Whether a metric name without quotes may have it, not as its first byte: `[a-zA-Z0-9_:]`.
fn is_in_name(byte: u8) -> bool {
    /// A bit for each byte.
    const IN_NAME: [u32; 8] = {
        let mut bits = [0; 8];
        let mut byte = 0_u8;
        while byte < 0x80 {
            if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':' {
                bits[byte as usize / 32] |= 1 << (byte % 32);
            }
            byte += 1;
        }
        bits
    };
    // The index is below 8.
    IN_NAME[usize::from(byte >> 5)] >> (byte & 31) & 1 != 0
}

/// Offset behind a name that ends at `end`: behind its closing quote if it was quoted (a bare name never ends before one).
fn behind_quote(line: &[u8], end: usize) -> usize {
    end + usize::from(line.get(end) == Some(&b'"'))
}

/// The text behind the name, which ends at `end`. One separator belongs to neither.
fn text(format: Format, line: &[u8], end: usize) -> Result<Range<usize>, Fault> {
    match (format, line.get(end)) {
        (Format::Text, None) => Ok(end..end),
        // Whatever byte it is: `# HELP a.b text` names `a`, as it does for Prometheus.
        (Format::Text, Some(_)) | (Format::OpenMetrics, Some(b' ')) => Ok(end + 1..line.len()),
        (Format::OpenMetrics | Format::Protobuf, _) => Err(Fault {
            problem: Problem::ExpectedText,
            at: end,
        }),
    }
}

fn metric_type(format: Format, word: &[u8]) -> Option<MetricType> {
    let open_metrics = format == Format::OpenMetrics;
    Some(match word {
        b"counter" => MetricType::Counter,
        b"gauge" => MetricType::Gauge,
        b"histogram" => MetricType::Histogram,
        b"summary" => MetricType::Summary,
        b"untyped" if !open_metrics => MetricType::Unknown,
        b"unknown" if open_metrics => MetricType::Unknown,
        b"gaugehistogram" if open_metrics => MetricType::GaugeHistogram,
        b"info" if open_metrics => MetricType::Info,
        b"stateset" if open_metrics => MetricType::Stateset,
        _ => return None,
    })
}

/// True when `name` ends in `_` and `unit`, or there is no unit.
fn is_unit_of(unit: &[u8], name: &[u8]) -> bool {
    unit.is_empty() || name.strip_suffix(unit).is_some_and(|before| before.ends_with(b"_"))
}

/// Unescapes `text` where it stands and returns its new length: `\\` and `\n`, and `\"` if `quotes`.
pub(super) fn unescape_in_place(text: &mut [u8], quotes: bool) -> usize {
    let Some(mut read) = find_byte(text, b'\\') else {
        return text.len();
    };
    let mut written = read;
    while let Some(&byte) = text.get(read) {
        let (plain, used) = match (byte, text.get(read + 1)) {
            (b'\\', Some(b'\\')) => (b'\\', 2),
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b'"')) if quotes => (b'"', 2),
            _ => (byte, 1),
        };
        // `written` never overtakes `read`, which is in bounds.
        if let Some(slot) = text.get_mut(written) {
            *slot = plain;
        }
        written += 1;
        read += used;
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescapes_in_place() {
        for (escaped, quotes, plain) in [
            (r"", true, ""),
            (r"abc", true, "abc"),
            (r"a\nb", false, "a\nb"),
            (r"\\n", false, r"\n"),
            (r#"\""#, true, "\""),
            (r#"\""#, false, r#"\""#),
            (r"\x\", true, r"\x\"),
        ] {
            let mut text = escaped.as_bytes().to_vec();
            let len = unescape_in_place(&mut text, quotes);
            assert_eq!(&text[..len], plain.as_bytes(), "{escaped}");
        }
    }

    #[test]
    fn tells_what_may_be_skipped() {
        use Format::{OpenMetrics, Text};
        for (format, start, skipped) in [
            (Text, "# HELP a", true),
            (Text, "# anything", true),
            (Text, "#", true),
            (Text, "# TYPE a", false),
            (Text, "a{b=\"", false),
            (OpenMetrics, "# HELP a", true),
            (OpenMetrics, "# UNIT a", false),
            (OpenMetrics, "# comment", false),
            (OpenMetrics, "a{b=\"", false),
        ] {
            assert_eq!(may_be_skipped(format, start.as_bytes()), skipped, "{format:?} {start}");
        }
    }
}
