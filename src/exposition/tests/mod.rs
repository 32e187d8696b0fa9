//! Places of errors, chunking, small buffers; the tables and the random tests have files of their own.

mod random;
mod tables;

use super::*;
use crate::labels::Labels;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use tables::{OPEN_METRICS_ACCEPTED, OPEN_METRICS_REFUSED, TEXT_ACCEPTED, TEXT_REFUSED};

/// Every event of `body` as one readable line, labels read in full, and the error if there was one.
fn read(format: Format, body: &[u8], mut chunk: impl FnMut() -> usize) -> (Vec<String>, Option<ParseError>) {
    read_with(&mut Parser::new(4096), format, body, &mut chunk)
}

fn read_with(
    parser: &mut Parser,
    format: Format,
    body: &[u8],
    chunk: &mut impl FnMut() -> usize,
) -> (Vec<String>, Option<ParseError>) {
    let mut labels = Labels::new(8192);
    let mut events = Vec::new();
    parser.start(format);
    let mut rest = body;
    loop {
        loop {
            match parser.next() {
                Ok(Some(event)) => match show(format, event, &mut labels) {
                    Ok(line) => events.push(line),
                    Err(error) => return (events, Some(error.on_line(parser.line()))),
                },
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        if rest.is_empty() {
            if parser.finished() {
                return (events, None);
            }
            parser.finish();
            continue;
        }
        let size = chunk().clamp(1, rest.len());
        let taken = parser.feed(&rest[..size]);
        assert!(taken > 0, "no progress");
        rest = &rest[taken..];
    }
}

fn show(format: Format, event: Event<'_>, labels: &mut Labels) -> Result<String, ParseError> {
    let mut line = String::new();
    match event {
        Event::Sample {
            series,
            value,
            timestamp_ms,
            exemplar,
            start_ms: None,
        } => {
            parse_series(format, series, labels)?;
            write!(line, "{} {{", labels.metric_name()).unwrap();
            labels.write_body(&mut line).unwrap();
            write!(line, "}} {}", f64::from_bits(value.to_bits())).unwrap();
            if let Some(timestamp) = timestamp_ms {
                write!(line, " @{timestamp}").unwrap();
            }
            if let Some(exemplar) = exemplar {
                parse_exemplar_labels(exemplar.labels, labels)?;
                line.push_str(" # {");
                labels.write_body(&mut line).unwrap();
                let value = f64::from_bits(exemplar.value.to_bits());
                write!(line, "}} {value} {:?}", exemplar.timestamp_ms).unwrap();
            }
        }
        other => write!(line, "{other:?}").unwrap(),
    }
    Ok(line)
}

fn whole(format: Format, body: &[u8]) -> Result<Vec<String>, ParseError> {
    match read(format, body, || usize::MAX) {
        (events, None) => Ok(events),
        (_, Some(error)) => Err(error),
    }
}

fn text(body: &str) -> Result<Vec<String>, ParseError> {
    whole(Format::Text, body.as_bytes())
}

fn open_metrics(body: &str) -> Result<Vec<String>, ParseError> {
    whole(Format::OpenMetrics, body.as_bytes())
}

fn lines(list: &[&str]) -> Result<Vec<String>, ParseError> {
    Ok(list.iter().map(ToString::to_string).collect())
}

#[test]
fn errors_name_line_and_column() {
    for (body, text_of_error) in [
        (
            "# x\n\na 1\nb true\nc 1",
            "line 4 column 3: value is not a number, found \"true\"",
        ),
        ("a{b=\"\n\"} 1\nc", "line 3 column 2: expected a value after the series"),
        (
            "a 1\nb{c=d} 1\n",
            "line 2 column 5: expected a label value in double quotes, found \"d}\"",
        ),
    ] {
        assert_eq!(text(body).unwrap_err().to_string(), text_of_error, "{body:?}");
    }
    assert_eq!(
        open_metrics("a 1\n").unwrap_err().to_string(),
        "line 2 column 1: data does not end with # EOF"
    );
}

#[test]
fn chunk_size_does_not_matter() {
    let tables = [
        (Format::Text, TEXT_ACCEPTED.iter().map(|row| row.0).collect::<Vec<_>>()),
        (Format::Text, TEXT_REFUSED.iter().map(|row| row.0).collect()),
        (
            Format::OpenMetrics,
            OPEN_METRICS_ACCEPTED.iter().map(|row| row.0).collect(),
        ),
        (
            Format::OpenMetrics,
            OPEN_METRICS_REFUSED.iter().map(|row| row.0).collect(),
        ),
    ];
    for (format, bodies) in tables {
        for body in bodies {
            let place = |error: ParseError| (error.problem, error.line, error.column);
            let (events, error) = read(format, body.as_bytes(), || usize::MAX);
            let expected = (events, error.map(place));
            for size in 1..=body.len() {
                let (events, error) = read(format, body.as_bytes(), || size);
                assert_eq!((events, error.map(place)), expected, "{body:?} in chunks of {size}");
            }
        }
    }
}

#[test]
fn small_buffer_reads_the_same() {
    let body = "# HELP abc 0123456789\nabc{d=\"e\"} 1 2\n# 0123456789012345678901234567890\nf 3\n";
    for line_bytes in [22, 25, 30, 40] {
        for size in [1, 3, 17, 100] {
            let mut parser = Parser::new(line_bytes);
            let (events, error) = read_with(&mut parser, Format::Text, body.as_bytes(), &mut || size);
            assert_eq!(error, None);
            assert_eq!(
                events,
                [
                    "Help { family: \"abc\", text: \"0123456789\" }",
                    "abc {d=\"e\"} 1 @2",
                    "f {} 3"
                ],
                "{line_bytes} {size}"
            );
        }
    }
}

#[test]
fn overlong_lines_are_skipped_or_named() {
    let long = "x".repeat(100);
    let run = |format, body: &str| read_with(&mut Parser::new(32), format, body.as_bytes(), &mut || 7);
    let (events, error) = run(Format::Text, &format!("# HELP a {long}\n# {long}\na 1\n# {long}"));
    assert_eq!((events.join(" "), error), ("a {} 1".to_string(), None));
    let (events, error) = run(Format::OpenMetrics, &format!("# HELP a {long}\na 1\n# EOF"));
    assert_eq!((events.join(" "), error), ("a {} 1 Eof".to_string(), None));
    for (format, body) in [
        (Format::Text, format!("a 1\n{long} 1\n")),
        (Format::Text, format!("a 1\nb{{c=\"{long}\"}} 1\n")),
        (Format::Text, format!("a 1\n# TYPE {long} gauge\n")),
        (Format::OpenMetrics, format!("a 1\n# {long}\n")),
    ] {
        let error = run(format, &body).1.unwrap();
        assert_eq!(error.line, 2, "{body}");
        if format == Format::Text {
            assert_eq!(error.problem, Problem::LineTooLong { limit: 32 }, "{body}");
        }
    }
    let (_, error) = run(Format::OpenMetrics, &format!("a 1\n# HELP a {long}"));
    assert_eq!(error.unwrap().problem, Problem::MissingEof);
}

#[test]
fn series_too_large_for_the_set_is_an_error_not_a_panic() {
    let mut labels = Labels::new(8);
    let error = parse_series(Format::Text, b"abc{defg=\"hijk\"}", &mut labels).unwrap_err();
    assert_eq!(
        error.to_string(),
        "column 1: names and values of a series exceed the limit of 8 bytes, found \"abc{defg=\\\"hijk\\\"}\""
    );
}
