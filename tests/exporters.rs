//! Bodies of exporters as Debian packages them, cut to what is instructive: what a scrape makes of them, sample by sample.
//!
//! `scripts/exporters` compares the whole bodies with what Prometheus' agent makes of them; the goldens here keep that. The ending
//! of a file says its format. `TIDEGATE_GOLDEN=write` writes the goldens.

use prost::Message;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use tidegate::catalogue::Catalogue;
use tidegate::clock::{Instant, UnixMillis};
use tidegate::exposition::Histograms;
use tidegate::extras::Extra;
use tidegate::frame::FrameNo;
use tidegate::labels::{Label, join_series};
use tidegate::metadata::Metadata;
use tidegate::sample::TargetRef;
use tidegate::scrape::{LabelBuilder, Outcome, Reports, Session, SessionSize, Shared, Target};
use tidegate::series::SeriesTable;

const SERIES: usize = 500;

/// Remote write's histogram, less its times.
#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, tag = "6")]
    zero_count: u64,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    negative: Vec<i64>,
    #[prost(message, repeated, tag = "11")]
    spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    deltas: Vec<i64>,
    #[prost(double, repeated, tag = "16")]
    bounds: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    len: u32,
}

fn show(message: &[u8]) -> String {
    let found = Histogram::decode(message).expect("remote write's message");
    let spans: Vec<_> = found.spans.iter().map(|span| (span.offset, span.len)).collect();
    assert!(
        found.count_float.is_none() && found.negative.is_empty(),
        "no exporter has such"
    );
    format!(
        "schema {} count {} sum {} zero {}/{} spans {spans:?} deltas {:?} bounds {:?}",
        found.schema,
        found.count.unwrap_or_default(),
        found.sum,
        found.zero_count,
        found.zero_threshold,
        found.deltas,
        found.bounds
    )
}

/// What one scrape of the body puts into its frame.
fn samples(body: &[u8], content_type: &[u8], converted: bool) -> String {
    let mut target = Target::new(
        TargetRef(0),
        &[Label {
            name: "job",
            value: "box",
        }],
    )
    .expect("one label");
    target.convert_classic = converted;
    target.histograms = Histograms {
        native: true,
        classic_too: false,
    };
    target.start_times = !converted;
    let mut session = Session::new(SessionSize {
        max_samples: SERIES,
        line_bytes: 20_000,
        label_bytes: 16_384,
        extras_bytes: 16_384,
        converts: true,
    });
    let mut table = SeriesTable::new(SERIES, SERIES, 1, 1).with_exemplars();
    let mut catalogue = Catalogue::new(SERIES, 100_000, 1);
    catalogue.set_target(TargetRef(0), target.body()).expect("room");
    let (mut builder, mut reports, mut metadata) = (LabelBuilder::new(), Reports::new(1), Metadata::new(20_000, 100));
    let mut shared = Shared {
        table: &mut table,
        catalogue: &mut catalogue,
        builder: &mut builder,
        reports: &mut reports,
        metadata: &mut metadata,
    };
    session.begin(
        &target,
        Instant(1_000),
        Some(UnixMillis(1_800_000_000_000)),
        &mut shared,
    );
    session.content_type(Some(content_type), &target);
    for piece in body.chunks(1_000) {
        session
            .feed(piece, &target, &mut shared)
            .expect("real bodies are valid");
    }
    let frame = session.finish(Outcome::Complete, 1, &target, &mut shared);
    assert!(frame.up);
    let mut carried: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut histograms: BTreeMap<usize, String> = BTreeMap::new();
    for extra in frame.extras.iter() {
        let position = usize::from(extra.position());
        let text = match extra {
            Extra::Histogram { message, .. } => {
                histograms.insert(position, show(message));
                continue;
            }
            Extra::Exemplar {
                unix_ms, value, labels, ..
            } => {
                format!("# {{{labels}}} {} {unix_ms:?}", f64::from_bits(value))
            }
            Extra::StartTime { unix_ms, .. } => format!("since {unix_ms}"),
        };
        carried.entry(position).or_default().push(text);
    }
    let mut out = String::new();
    for (position, sample) in frame.samples.iter().enumerate() {
        let text = shared.catalogue.text(sample.series).expect("of this frame");
        join_series(text, &mut out).expect("a string has room");
        let value = f64::from_bits(sample.number.to_bits());
        let value = histograms.remove(&position).unwrap_or_else(|| format!("{value:?}"));
        write!(out, " {value}").expect("a string has room");
        if let Some(time) = frame
            .explicit
            .iter()
            .find(|time| usize::from(time.position) == position)
        {
            write!(out, " @{}", time.unix_ms).expect("a string has room");
        }
        for more in carried.remove(&position).unwrap_or_default() {
            write!(out, " {more}").expect("a string has room");
        }
        out.push('\n');
    }
    session.settle(FrameNo(1), &mut shared);
    out
}

fn golden(path: &Path, actual: &str) {
    if std::env::var("TIDEGATE_GOLDEN").as_deref() == Ok("write") {
        fs::write(path, actual).expect("written");
    }
    let expected = fs::read_to_string(path).expect("a golden beside each body");
    for (n, (a, e)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(a, e, "{} line {}", path.display(), n + 1);
    }
    assert_eq!(actual.len(), expected.len(), "{}", path.display());
}

fn bodies() -> Vec<(PathBuf, &'static [u8])> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/exporters");
    let files = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> = files
        .filter_map(|path| {
            let format: &'static [u8] = match path.extension()?.to_str()? {
                "text" => b"text/plain; version=0.0.4; charset=utf-8",
                "om" => b"application/openmetrics-text; version=1.0.0; charset=utf-8",
                "proto" => {
                    b"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
                }
                _ => return None,
            };
            Some((path, format))
        })
        .collect();
    found.sort();
    found
}

#[test]
fn bodies_of_real_exporters_are_read_as_they_were() {
    let bodies = bodies();
    assert!(bodies.len() >= 13);
    for (path, format) in bodies {
        let body = fs::read(&path).expect("readable");
        let mut out = samples(&body, format, false);
        let converted = samples(&body, format, true);
        if converted.contains("schema -53") {
            out.push_str("\nconverted:\n");
            for line in converted.lines().filter(|line| line.contains("schema")) {
                writeln!(out, "{line}").expect("a string has room");
            }
        }
        golden(
            &path.with_extension(format!("{}.out", path.extension().expect("one").display())),
            &out,
        );
    }
}
