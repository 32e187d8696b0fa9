//! Scrape bodies: text, OpenMetrics and protobuf.
//!
//! Promised: the events, and the error if there is one, do not depend on how the body is cut into chunks; what is accepted
//! as a series survives being written as labels and read back; memory is the parser's own.

use super::input::Input;
use std::fmt::Write as _;
use tidegate::exposition::{
    Event, Format, Histograms, ParseError, Parser, Problem, Resolution, normalise_le_quantile, parse_exemplar_labels,
    parse_series,
};
use tidegate::frame::Bounded;
use tidegate::labels::Labels;
use tidegate::sample::MetricType;

const LINE_BYTES: usize = 2048;
const LABEL_BYTES: usize = 1024;

/// What one way of cutting a body gives.
#[derive(Debug, PartialEq)]
struct Outcome {
    events: usize,
    /// Every event, as a hash of its text.
    told: u64,
    /// What is wrong and where; the excerpt is of what had arrived.
    error: Option<(Problem, u32, u32)>,
}

struct Session {
    parser: Parser,
    labels: Labels,
    copy: Labels,
    body: String,
    kind: MetricType,
    out: Bounded<u8>,
}

/// A running hash that takes formatted text.
struct Hash(u64);

impl std::fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Session {
    fn new() -> Self {
        Self {
            parser: Parser::with_protobuf(LINE_BYTES, LABEL_BYTES),
            labels: Labels::new(LABEL_BYTES),
            copy: Labels::new(LABEL_BYTES),
            body: String::with_capacity(4 * LABEL_BYTES),
            kind: MetricType::Unknown,
            out: Bounded::with_capacity(LINE_BYTES),
        }
    }

    /// Takes events until more bytes are needed; what each says goes into the hash.
    fn drain(&mut self, format: Format, events: &mut usize, hash: &mut Hash) -> Result<(), ParseError> {
        loop {
            let event = self.parser.next()?;
            let Some(event) = event else { return Ok(()) };
            *events += 1;
            write!(hash, "{event:?}").expect("a hash takes anything");
            match event {
                Event::Sample { series, exemplar, .. } => {
                    check_series(
                        format,
                        series,
                        self.kind,
                        &mut self.labels,
                        &mut self.copy,
                        &mut self.body,
                    );
                    if let Some(exemplar) = exemplar {
                        let _ = parse_exemplar_labels(exemplar.labels, &mut self.labels);
                    }
                }
                Event::Histogram { series, histogram, .. } => {
                    check_series(
                        format,
                        series,
                        self.kind,
                        &mut self.labels,
                        &mut self.copy,
                        &mut self.body,
                    );
                    self.out.clear();
                    let resolution = Resolution {
                        max_schema: 4,
                        bucket_limit: 20,
                    };
                    let _ = histogram.write(resolution, &mut self.out);
                    self.out.clear();
                    let _ = histogram.write(Resolution::default(), &mut self.out);
                }
                Event::Exemplar(exemplar) => drop(parse_exemplar_labels(exemplar.labels, &mut self.labels)),
                Event::Type { kind, .. } => self.kind = kind,
                _ => {}
            }
        }
    }

    fn run(&mut self, format: Format, histograms: Histograms, body: &[u8], chunk: usize) -> Outcome {
        self.parser.start_with(format, histograms);
        self.kind = MetricType::Unknown;
        let (mut events, mut hash) = (0, Hash(0));
        let mut error = None;
        'body: for chunk in body.chunks(chunk) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let taken = self.parser.feed(rest);
                rest = &rest[taken..];
                error = self.drain(format, &mut events, &mut hash).err();
                if error.is_some() {
                    break 'body;
                }
                assert!(taken > 0, "a drained parser takes bytes");
            }
        }
        if error.is_none() {
            self.parser.finish();
            error = self.drain(format, &mut events, &mut hash).err();
        }
        Outcome {
            events,
            told: hash.0,
            error: error.map(|error| (error.problem, error.line, error.column)),
        }
    }
}

/// Labels, if they are labels, come back from their own text.
fn check_series(
    format: Format,
    series: &[u8],
    kind: MetricType,
    labels: &mut Labels,
    copy: &mut Labels,
    body: &mut String,
) {
    if parse_series(format, series, labels).is_err() || normalise_le_quantile(kind, labels).is_err() {
        return;
    }
    body.clear();
    copy.clear();
    labels.write_body(body).expect("a string takes anything");
    // Name and text are kept apart everywhere: the text is of the other labels.
    if copy.load_body(body).is_ok() {
        let pairs = |labels: &Labels| -> Vec<(String, String)> {
            let others = labels.iter().filter(|label| label.name != "__name__");
            others
                .map(|label| (label.name.to_owned(), label.value.to_owned()))
                .collect()
        };
        assert_eq!(pairs(labels), pairs(copy), "{body}");
    }
}

fn parse(format: Format, data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let histograms = Histograms {
        native: options & 128 != 0,
        classic_too: options & 64 != 0,
    };
    let body = input.take(usize::MAX);
    let mut session = Session::new();
    let whole = session.run(format, histograms, body, usize::MAX);
    let pieces = session.run(format, histograms, body, 1 + usize::from(options & 63));
    assert_eq!(whole, pieces, "chunks of {} bytes", 1 + (options & 63));
}

/// The input: how it is cut, then the body.
pub fn text(data: &[u8]) {
    parse(Format::Text, data);
}

/// As [`text`].
pub fn openmetrics(data: &[u8]) {
    parse(Format::OpenMetrics, data);
}

/// As [`text`].
pub fn protobuf(data: &[u8]) {
    parse(Format::Protobuf, data);
}
