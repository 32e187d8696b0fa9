use super::*;
use crate::catalogue::{Catalogue, SeriesText};
use crate::frame::Frame;
use crate::remote_write::batch::{BatchLimits, Layout, MIN_BODY_BYTES, Place, Stop, USUAL_SYNTHETIC};
use crate::remote_write::declared::{MetricMetadata, Request, WriteRequest};
use crate::remote_write::identity::Identity;
use crate::remote_write::response::Protocol;
use crate::remote_write::testkit::{Frames, NO_BOUNDS, Scrape, limits};
use crate::sample::MetricType;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use prost::Message;

const LIMITS: BatchLimits = BatchLimits {
    families: 10,
    ..limits(100)
};

fn source(series: &[(&str, MetricType)]) -> Frames {
    let mut source = Frames::new(1);
    source.catalogue = Catalogue::new(200, 10_000, 4);
    source
        .catalogue
        .set_target(TargetRef(0), r#"instance="box",job="node""#)
        .unwrap();
    for (name, kind) in series {
        let text = SeriesText { name, body: "" };
        source.catalogue.define(TargetRef(0), text, *kind).unwrap();
    }
    let samples: Vec<_> = (0..series.len() as u16).map(|i| (i, 1)).collect();
    source.scrapes.push(Scrape::new(1, 1_000, &samples));
    source
}

fn batch(source: &mut Frames, limits: BatchLimits, protocol: Protocol) -> Batch {
    let mut batch = Batch::new(limits, 1);
    batch.begin(Place::default(), protocol);
    let mut frame = Frame::with_capacity(limits.frame_samples);
    let mut identity = Identity::new(&[], crate::relabel::Relabel::default());
    let stop = batch.gather(source, &mut frame, &mut identity, &NO_BOUNDS);
    assert_eq!(stop, Ok(Stop::End));
    batch
}

/// Name, type, help and unit of each series.
fn described(batch: &Batch) -> Vec<(String, i32, String, String)> {
    let request = Request::decode(batch.body()).expect("a message");
    let mut distinct = request.symbols.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), request.symbols.len(), "symbols are not repeated");
    let text = |reference: u32| request.symbols[reference as usize].clone();
    let series = request.timeseries.iter().map(|series| {
        let name = series.labels_refs.chunks(2).find(|pair| text(pair[0]) == METRIC_NAME);
        let metadata = series.metadata.clone().unwrap_or_default();
        let name = name.map_or(String::new(), |pair| text(pair[1]));
        (name, metadata.kind, text(metadata.help_ref), text(metadata.unit_ref))
    });
    series.collect()
}

const SERIES: [(&str, MetricType); 4] = [
    ("http_requests_total", MetricType::Counter),
    ("latency_seconds_bucket", MetricType::Histogram),
    ("latency_seconds_count", MetricType::Histogram),
    ("depth", MetricType::Gauge),
];

fn known() -> Metadata {
    let mut metadata = Metadata::new(10_000, 100);
    let t = TargetRef(0);
    metadata.note_help(t, "http_requests", "Requests.");
    metadata.note_help(t, "latency_seconds", "Time taken.");
    metadata.note_unit(t, "latency_seconds", "seconds");
    // A text that is a label value as well, and one that another family has.
    metadata.note_help(t, "depth", "node");
    metadata.note_unit(t, "depth", "Requests.");
    metadata.note_help(TargetRef(1), "depth", "Of another target.");
    metadata
}

fn rows(rows: &[(&str, i32, &str, &str)]) -> Vec<(String, i32, String, String)> {
    let owned = rows
        .iter()
        .map(|r| (r.0.to_string(), r.1, r.2.to_string(), r.3.to_string()));
    owned.collect()
}

#[test]
fn series_of_a_live_batch_say_what_their_target_says() {
    let mut source = source(&SERIES);
    let mut batch = batch(&mut source, LIMITS, Protocol::V2);
    assert_eq!(batch.seal_with(Layout::Live, Some(&known())), Layout::Live);
    let expected = rows(&[
        ("http_requests_total", 1, "Requests.", ""),
        ("latency_seconds_bucket", 3, "Time taken.", "seconds"),
        ("latency_seconds_count", 3, "Time taken.", "seconds"),
        ("depth", 2, "node", "Requests."),
        ("up", 2, "", ""),
    ]);
    let described = described(&batch);
    assert!(expected.iter().all(|row| described.contains(row)), "{described:?}");
    assert_eq!(described.len(), SERIES.len() + USUAL_SYNTHETIC);
}

#[test]
fn grouped_batches_and_1_0_say_no_more_than_before() {
    for (protocol, layout) in [(Protocol::V2, Layout::Grouped), (Protocol::V1, Layout::Live)] {
        let mut source = source(&SERIES);
        let mut with = batch(&mut source, LIMITS, protocol);
        with.seal_with(layout, Some(&known()));
        source.position = 0;
        let mut without = batch(&mut source, LIMITS, protocol);
        without.seal(layout);
        assert_eq!(with.body(), without.body());
    }
}

#[test]
fn help_that_finds_no_room_is_left_out_and_nothing_else() {
    let names: Vec<String> = (0..50).map(|i| format!("m{i}")).collect();
    let series: Vec<_> = names.iter().map(|name| (&**name, MetricType::Gauge)).collect();
    let mut metadata = Metadata::new(100_000, 100);
    for (i, name) in names.iter().enumerate() {
        let help = format!("{i}: {}", "long ".repeat(180));
        metadata.note_help(TargetRef(0), name, &help);
    }
    // Too many strings for the table; too many bytes for the body.
    for (families, body_bytes) in [(10, 4 * MIN_BODY_BYTES), (100, MIN_BODY_BYTES)] {
        let limits = BatchLimits {
            families,
            body_bytes,
            ..LIMITS
        };
        let mut source = source(&series);
        // Many scrapes: less room is left.
        for n in 2..40 {
            source
                .scrapes
                .push(Scrape::new(n, 1_000 * n as i64, &[(n as u16, 1), (n as u16 + 1, 2)]));
        }
        let limits = BatchLimits {
            samples: 1000,
            ..limits
        };
        let mut batch = batch(&mut source, limits, Protocol::V2);
        assert_eq!(batch.seal_with(Layout::Live, Some(&metadata)), Layout::Live);
        let rows = described(&batch);
        assert_eq!(rows.len(), batch.samples());
        let with = rows.iter().filter(|row| !row.2.is_empty()).count();
        assert!((10..rows.len() - 60).contains(&with), "{with}");
        for (name, _, help, _) in rows.iter().filter(|row| !row.2.is_empty()) {
            assert!(help.starts_with(&format!("{}: long", &name[1..])), "{name}: {help}");
        }
    }
}

#[test]
fn a_round_of_metadata_requests_says_each_thing_once() {
    let mut metadata = Metadata::new(100_000, 1000);
    for t in 0..3 {
        for i in 0..100 {
            let family = format!("family_{i}");
            metadata.note_type(TargetRef(t), &family, MetricType::Counter);
            metadata.note_help(TargetRef(t), &family, &format!("Help {i}."));
        }
    }
    metadata.note_unit(TargetRef(2), "family_7", "bytes");
    metadata.note_type(TargetRef(1), "untold", MetricType::Unknown);
    let mut source = source(&SERIES);
    let mut batch = batch(&mut source, LIMITS, Protocol::V1);
    let (mut all, mut from, mut requests) = (Vec::new(), 0, 0);
    loop {
        let described = batch.describe(&metadata, from, 40);
        let request = WriteRequest::decode(batch.description(&described)).expect("a message");
        assert_eq!(request.metadata.len(), described.families);
        assert!(request.timeseries.is_empty() && described.families <= 40);
        all.extend(request.metadata);
        requests += 1;
        match described.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!((requests, all.len()), (3, 102));
    let find = |family: &str| -> Vec<MetricMetadata> { all.iter().filter(|m| m.family == family).cloned().collect() };
    let usual = MetricMetadata {
        kind: 1,
        family: "family_7".into(),
        help: "Help 7.".into(),
        unit: String::new(),
    };
    let with_unit = MetricMetadata {
        unit: "bytes".into(),
        ..usual.clone()
    };
    assert_eq!(find("family_7"), [usual, with_unit]);
    assert_eq!(find("untold").len(), 1);
    // The batch is as it was.
    batch.seal(Layout::Live);
    let sent = WriteRequest::decode(batch.body()).expect("a message");
    assert_eq!(sent.timeseries.len(), 4 + 5);
}

#[test]
fn a_metadata_request_is_this_byte_for_byte() {
    let mut metadata = Metadata::new(1_000, 10);
    metadata.note_type(TargetRef(0), "up", MetricType::Gauge);
    metadata.note_help(TargetRef(0), "up", "h");
    metadata.note_unit(TargetRef(0), "up", "u");
    let mut batch = Batch::new(LIMITS, 1);
    let described = batch.describe(&metadata, 0, 10);
    let expected = [0x1a, 12, 0x08, 2, 0x12, 2, b'u', b'p', 0x22, 1, b'h', 0x2a, 1, b'u'];
    assert_eq!(batch.description(&described), expected);
}
