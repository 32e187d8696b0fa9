//! A whole scrape: body to frame, with classic histograms converted.
//!
//! Promised: the frame does not depend on how the body is cut into chunks; a histogram in it is a message that can be read,
//! with as many values as its spans say, at most one bucket more than bounds, and bounds that rise.

use super::input::Input;
use tidegate::catalogue::Catalogue;
use tidegate::clock::{Instant, UnixMillis};
use tidegate::exposition::{Histograms, MAX_CLASSIC_BUCKETS};
use tidegate::extras::Extra;
use tidegate::frame::FrameNo;
use tidegate::labels::Label;
use tidegate::metadata::Metadata;
use tidegate::sample::TargetRef;
use tidegate::scrape::{LabelBuilder, Outcome, Reports, Session, SessionSize, Shared, Target};
use tidegate::series::SeriesTable;
use tidegate::value::varint::{Cursor, unzigzag};

const SERIES: usize = 64;

/// What a frame says, to compare.
#[derive(Debug, PartialEq)]
struct Said {
    up: bool,
    counts: (u32, u32, u32),
    samples: Vec<(u16, u64)>,
    extras: Vec<u8>,
    stale: usize,
}

/// Number of values, of buckets that the spans cover, and the bounds, of a histogram with custom buckets; `None`: another.
fn custom(message: &[u8]) -> Option<(u64, u64, Vec<f64>)> {
    let mut cursor = Cursor::new(message);
    let (mut schema, mut values, mut floats, mut covered, mut bounds) = (0, 0, 0, 0, Vec::new());
    while !cursor.is_empty() {
        let tag = cursor.u64().expect("a tag");
        match (tag >> 3, tag & 7) {
            (4, 0) => schema = unzigzag(cursor.u64().expect("a number")),
            (_, 0) => drop(cursor.u64().expect("a number")),
            (_, 1) => drop(cursor.bytes(8).expect("a double")),
            (number, 2) => {
                let len = cursor.u64().expect("a length") as usize;
                let bytes = cursor.bytes(len).expect("what it is long");
                let mut inside = Cursor::new(bytes);
                match number {
                    11 => {
                        while !inside.is_empty() {
                            let tag = inside.u64().expect("a tag");
                            let value = inside.u64().expect("a number");
                            covered += if tag >> 3 == 2 { value } else { 0 };
                        }
                    }
                    12 => {
                        while !inside.is_empty() {
                            inside.u64().expect("a number");
                            values += 1;
                        }
                    }
                    13 => floats += (len / 8) as u64,
                    16 => bounds.extend(
                        bytes
                            .chunks(8)
                            .map(|b| f64::from_le_bytes(b.try_into().expect("whole doubles"))),
                    ),
                    _ => {}
                }
            }
            _ => panic!("field {} of wire type {}", tag >> 3, tag & 7),
        }
    }
    (schema == -53).then_some((values + floats, covered, bounds))
}

fn run(target: &Target, content_type: &[u8], bodies: [&[u8]; 2], chunk: usize) -> Vec<Said> {
    let mut session = Session::new(SessionSize {
        max_samples: SERIES,
        line_bytes: 2_048,
        label_bytes: 1_024,
        extras_bytes: 4_096,
        converts: true,
    });
    let mut table = SeriesTable::new(SERIES, 2 * SERIES, 1, 1).with_exemplars();
    let mut catalogue = Catalogue::new(SERIES, 16_384, 1);
    catalogue
        .set_target(TargetRef(0), target.body())
        .expect("room for one label");
    let (mut builder, mut reports, mut metadata) = (LabelBuilder::new(), Reports::new(1), Metadata::new(2_048, 32));
    let mut said = Vec::new();
    for (number, body) in (1..).zip(bodies) {
        let mut shared = Shared {
            table: &mut table,
            catalogue: &mut catalogue,
            builder: &mut builder,
            reports: &mut reports,
            metadata: &mut metadata,
        };
        let now = UnixMillis(1_700_000_000_000 + 1_000 * number as i64);
        session.begin(target, Instant(1_000 * number), Some(now), &mut shared);
        session.content_type(Some(content_type), target);
        for piece in body.chunks(chunk) {
            if session.feed(piece, target, &mut shared).is_err() {
                break;
            }
        }
        let frame = session.finish(Outcome::Complete, 1, target, &mut shared);
        for extra in frame.extras.iter() {
            if let Extra::Histogram { message, .. } = extra
                && let Some((values, covered, bounds)) = custom(message)
            {
                assert_eq!(values, covered, "values and spans");
                assert!(covered as usize <= bounds.len() + 1 && bounds.len() < MAX_CLASSIC_BUCKETS + 1);
                assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
            }
        }
        said.push(Said {
            up: frame.up,
            counts: (frame.counts.scraped, frame.counts.post_relabel, frame.counts.added),
            samples: frame.samples.iter().map(|s| (s.series.0, s.number.to_bits())).collect(),
            extras: frame.extras.as_bytes().to_vec(),
            stale: frame.stale.len(),
        });
        session.settle(FrameNo(number), &mut shared);
    }
    said
}

/// The input: format and options, how it is cut, then two bodies, scraped one after the other.
pub fn scrape(data: &[u8]) {
    let mut input = Input::new(data);
    let (options, chunk) = (input.u8(), 1 + usize::from(input.u8() & 63));
    let content_type: &[u8] = match options & 3 {
        0 | 3 => b"text/plain; version=0.0.4",
        1 => b"application/openmetrics-text; version=1.0.0",
        _ => b"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
    };
    let label = Label {
        name: "job",
        value: "j",
    };
    let mut target = Target::new(TargetRef(0), &[label]).expect("one label");
    target.convert_classic = options & 4 == 0;
    target.histograms = Histograms {
        native: options & 8 != 0,
        classic_too: options & 16 != 0,
    };
    target.start_times = options & 32 != 0;
    target.out_of_order_ms = if options & 64 != 0 { 5_000 } else { 0 };
    target.track_timestamps_staleness = options & 128 != 0;
    let first = input.piece();
    let bodies = [first, input.take(usize::MAX)];
    let whole = run(&target, content_type, bodies, usize::MAX);
    assert_eq!(
        whole,
        run(&target, content_type, bodies, chunk),
        "chunks of {chunk} bytes"
    );
}
