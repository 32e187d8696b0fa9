//! The same exporter read as text and as protobuf: the same series with the same values.

#[path = "common/bodies.rs"]
mod bodies;

use bodies::bodies;
use std::collections::BTreeMap;
use std::path::Path;
use tidegate::exposition::{Event, Format, Histograms, Parser, normalise_le_quantile, parse_series};
use tidegate::labels::{Labels, TextBuf};
use tidegate::limits::{MAX_LINE_BYTES, MAX_SERIES_TEXT_BYTES};
use tidegate::sample::MetricType;

/// Everything a body says.
#[derive(Default)]
struct Said {
    /// Canonical series, bits of the value.
    series: BTreeMap<String, u64>,
    types: BTreeMap<String, MetricType>,
    helps: BTreeMap<String, String>,
    native: usize,
}

fn read(body: &[u8], format: Format, histograms: Histograms) -> Said {
    let mut said = Said::default();
    let mut parser = Parser::with_protobuf(MAX_LINE_BYTES, MAX_SERIES_TEXT_BYTES);
    let mut labels = Labels::new(MAX_SERIES_TEXT_BYTES);
    let mut text = TextBuf::new(MAX_SERIES_TEXT_BYTES);
    let mut kind = MetricType::Unknown;
    parser.start_with(format, histograms);
    let mut take = |parser: &mut Parser| {
        while let Some(event) = parser.next().expect("captures are valid") {
            match event {
                Event::Sample { series, value, .. } => {
                    parse_series(format, series, &mut labels).expect("captures are valid");
                    normalise_le_quantile(kind, &mut labels).expect("fits");
                    text.clear();
                    labels.write_body(&mut text).expect("fits");
                    let key = format!("{} {}", labels.metric_name(), text.as_str());
                    assert!(said.series.insert(key, value.to_bits()).is_none(), "twice");
                }
                Event::Type { family, kind: of } => {
                    kind = of;
                    said.types.insert(family.into(), of);
                }
                Event::Help { family, text } => _ = said.helps.insert(family.into(), text.into()),
                Event::Histogram { .. } => said.native += 1,
                other => assert!(matches!(other, Event::Exemplar(_)), "{other:?}"),
            }
        }
    };
    for mut piece in body.chunks(1_400) {
        while !piece.is_empty() {
            let taken = parser.feed(piece);
            piece = &piece[taken..];
            take(&mut parser);
        }
    }
    parser.finish();
    take(&mut parser);
    said
}

/// Compares the protobuf body of a capture with the text bodies before and after it; how many series had to be equal.
fn compare(name: &str) -> (usize, Said) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/testdata/captures")
        .join(name);
    let bodies = bodies(&path);
    let [before, protobuf, after] = &bodies[..] else {
        panic!("{name}: three bodies")
    };
    let before = read(before, Format::Text, Histograms::default());
    let after = read(after, Format::Text, Histograms::default());
    let found = read(protobuf, Format::Protobuf, Histograms::default());
    assert_eq!(found.types, before.types);
    assert_eq!(found.helps, before.helps);
    assert!(found.series.keys().eq(before.series.keys()), "{name}");
    let mut compared = 0;
    for (series, bits) in &before.series {
        // What did not change between the two texts did not change in between.
        if after.series.get(series) == Some(bits) {
            assert_eq!(found.series[series], *bits, "{series}");
            compared += 1;
        }
    }
    let native = Histograms {
        native: true,
        classic_too: true,
    };
    (compared, read(protobuf, Format::Protobuf, native))
}

#[test]
fn node_exporter_says_the_same_in_both_formats() {
    let (compared, native) = compare("node-protobuf.cap.gz");
    assert_eq!((compared, native.native), (17, 0));
    assert!(
        native
            .series
            .contains_key("req_seconds_bucket le=\"1e+06\",path=\"C:\\\\x\"")
    );
}

#[test]
fn prometheus_says_the_same_in_both_formats() {
    let (compared, native) = compare("prometheus-protobuf.cap.gz");
    assert!(compared > 400, "{compared}");
    assert_eq!(native.native, 3);
}
