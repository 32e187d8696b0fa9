//! Bodies made by another implementation of protobuf, from messages declared here from the specification.

mod histograms;
mod messages;
mod random;

use super::{
    EXEMPLAR_BYTES, Event, HistogramProblem, Histograms, MAX_EXEMPLARS, MAX_METRIC_TEXT_BYTES, NativeHistogram, Number,
    Problem, Resolution, SCHEMA_MAX, SCHEMA_MIN, WriteError,
};
use crate::exposition::{self, Format, ParseError, Parser};
use crate::labels::Labels;
use crate::value::from_bits;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use messages::*;

const NATIVE: Histograms = Histograms {
    native: true,
    classic_too: false,
};

fn parser(wanted: Histograms) -> Parser {
    let mut parser = Parser::with_protobuf(4_096, 4_096);
    parser.start_with(Format::Protobuf, wanted);
    parser
}

fn show_exemplar(exemplar: &exposition::Exemplar<'_>) -> String {
    format!(
        "{} {} @{:?}",
        core::str::from_utf8(exemplar.labels).unwrap(),
        f64::from_bits(exemplar.value.to_bits()),
        exemplar.timestamp_ms
    )
}

/// An event as a line of text.
fn show(event: &Event<'_>) -> String {
    let times = |timestamp_ms: &Option<i64>, start_ms: &Option<i64>| {
        let timestamp = timestamp_ms.map_or(String::new(), |ms| format!(" @{ms}"));
        timestamp + &start_ms.map_or(String::new(), |ms| format!(" since {ms}"))
    };
    match event {
        Event::Sample {
            series,
            value,
            timestamp_ms,
            exemplar,
            start_ms,
        } => {
            let exemplar = exemplar.map_or(String::new(), |exemplar| format!(" # {}", show_exemplar(&exemplar)));
            format!(
                "{} {}{}{exemplar}",
                core::str::from_utf8(series).unwrap(),
                f64::from_bits(value.to_bits()),
                times(timestamp_ms, start_ms)
            )
        }
        Event::Histogram {
            series,
            histogram,
            timestamp_ms,
            start_ms,
        } => format!(
            "{} native {:?}{}",
            core::str::from_utf8(series).unwrap(),
            histogram.count(),
            times(timestamp_ms, start_ms)
        ),
        Event::Exemplar(exemplar) => format!("# {}", show_exemplar(exemplar)),
        Event::Type { family, kind } => format!("TYPE {family} {}", kind.as_str()),
        Event::Help { family, text } => format!("HELP {family} {text}"),
        Event::Unit { family, unit } => format!("UNIT {family} {unit}"),
        Event::Eof | Event::Comment => "EOF".to_string(),
    }
}

/// The events of a body that arrives in pieces of these sizes, over and over.
fn events_in(body: &[u8], sizes: &[usize], wanted: Histograms) -> Result<Vec<String>, ParseError> {
    let mut parser = parser(wanted);
    let mut events = Vec::new();
    let mut sizes = sizes.iter().cycle();
    let mut rest = body;
    while !rest.is_empty() {
        let (mut piece, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        while !piece.is_empty() {
            let taken = parser.feed(piece);
            assert!(taken > 0, "a parser that has nothing to say takes bytes");
            piece = &piece[taken..];
            while let Some(event) = parser.next()? {
                events.push(show(&event));
            }
        }
        rest = behind;
    }
    parser.finish();
    while let Some(event) = parser.next()? {
        events.push(show(&event));
    }
    Ok(events)
}

fn events(families: &[MetricFamily], wanted: Histograms) -> Vec<String> {
    events_in(&body(families), &[usize::MAX], wanted).unwrap()
}

fn family(name: &str, kind: i32, metric: Vec<Metric>) -> MetricFamily {
    MetricFamily {
        name: Some(name.into()),
        kind: Some(kind),
        metric,
        ..Default::default()
    }
}

fn exemplar(id: &str, value: f64, timestamp: Option<Timestamp>) -> Exemplar {
    Exemplar {
        label: labels(&[("id", id)]),
        value: Some(value),
        timestamp,
    }
}

fn time(seconds: i64, nanos: i32) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos })
}

#[test]
fn counters_gauges_and_untyped_are_samples() {
    let counter = Counter {
        value: Some(1027.0),
        exemplar: Some(exemplar("a\"b", 0.5, time(1_700_000_000, 123_999_999))),
        created_timestamp: time(1_600_000_000, 500_000_000),
    };
    let families = [
        MetricFamily {
            help: Some("Requests.\nAll of them.".into()),
            unit: Some("requests".into()),
            ..family(
                "http_requests_total",
                0,
                vec![
                    Metric {
                        label: labels(&[("code", "200"), ("method", "post")]),
                        counter: Some(counter),
                        timestamp_ms: Some(1_395_066_363_000),
                        ..Default::default()
                    },
                    Metric {
                        counter: Some(Counter::default()),
                        ..Default::default()
                    },
                ],
            )
        },
        family(
            "temp",
            1,
            vec![Metric {
                label: labels(&[("room", "a\\b\nc"), ("empty", "")]),
                gauge: Some(Gauge { value: Some(-21.5) }),
                ..Default::default()
            }],
        ),
        family("empty_family", 1, vec![]),
        family(
            "any.thing",
            3,
            vec![Metric {
                label: labels(&[("a.b", "c")]),
                untyped: Some(Untyped {
                    value: Some(f64::INFINITY),
                }),
                ..Default::default()
            }],
        ),
    ];
    assert_eq!(
        events(&families, NATIVE),
        [
            "HELP http_requests_total Requests.\nAll of them.",
            "TYPE http_requests_total counter",
            "http_requests_total{code=\"200\",method=\"post\"} 1027 @1395066363000 since 1600000000500 \
             # {id=\"a\\\"b\"} 0.5 @Some(1700000000123)",
            "http_requests_total 0",
            "UNIT http_requests_total requests",
            "TYPE temp gauge",
            "temp{room=\"a\\\\b\\nc\",empty=\"\"} -21.5",
            "TYPE any.thing unknown",
            "{\"any.thing\",\"a.b\"=\"c\"} inf",
        ]
    );
}

#[test]
fn summaries_and_classic_histograms_have_the_series_of_the_text_formats() {
    let summary = Summary {
        sample_count: Some(7),
        sample_sum: Some(1.25),
        quantile: vec![quantile(0.5, 0.25), quantile(0.99, f64::NAN)],
        created_timestamp: time(5, 0),
    };
    let histogram = Histogram {
        sample_count: Some(4),
        sample_sum: Some(1e9),
        bucket: vec![bucket(1, 1.0, None), bucket(3, 1e6, Some(exemplar("x", 5.0, None)))],
        ..Default::default()
    };
    let floats = Histogram {
        sample_count_float: Some(4.5),
        bucket: vec![
            Bucket {
                cumulative_count_float: Some(4.5),
                upper_bound: Some(f64::INFINITY),
                ..Default::default()
            },
            bucket(9, 1.0, None),
        ],
        ..Default::default()
    };
    let label = labels(&[("a", "b")]);
    let families = [
        family(
            "rpc",
            2,
            vec![Metric {
                summary: Some(summary),
                ..Default::default()
            }],
        ),
        family(
            "size",
            4,
            vec![Metric {
                label: label.clone(),
                histogram: Some(histogram),
                ..Default::default()
            }],
        ),
        family(
            "now",
            5,
            vec![Metric {
                histogram: Some(floats),
                ..Default::default()
            }],
        ),
    ];
    for wanted in [NATIVE, Histograms::default()] {
        assert_eq!(
            events(&families, wanted),
            [
                "TYPE rpc summary",
                "rpc_count 7 since 5000",
                "rpc_sum 1.25 since 5000",
                "rpc{quantile=\"0.5\"} 0.25 since 5000",
                "rpc{quantile=\"0.99\"} NaN since 5000",
                "TYPE size histogram",
                "size_count{a=\"b\"} 4",
                "size_sum{a=\"b\"} 1000000000",
                "size_bucket{a=\"b\",le=\"1.0\"} 1",
                "size_bucket{a=\"b\",le=\"1e+06\"} 3 # {id=\"x\"} 5 @None",
                "size_bucket{a=\"b\",le=\"+Inf\"} 4",
                "TYPE now gaugehistogram",
                "now_count 4.5",
                "now_sum 0",
                "now_bucket{le=\"+Inf\"} 4.5",
            ]
        );
    }
}

#[test]
fn a_family_larger_than_the_buffer_arrives_metric_by_metric() {
    let metrics = (0..1_000).map(|n| Metric {
        label: labels(&[("n", &n.to_string())]),
        gauge: Some(Gauge {
            value: Some(f64::from(n)),
        }),
        ..Default::default()
    });
    let large = MetricFamily {
        help: Some("long ".repeat(10_000)),
        ..family("large", 1, metrics.collect())
    };
    let found = events(&[large, family("next", 1, vec![Metric::default()])], NATIVE);
    assert_eq!(found.len(), 1_003);
    assert_eq!(found[0], "TYPE large gauge", "HELP is longer than the buffer");
    assert_eq!(found[1_000], "large{n=\"999\"} 999");
    assert_eq!(found[1_001..], ["TYPE next gauge", "next 0"]);
}

#[test]
fn series_read_as_openmetrics_give_the_labels() {
    let mut parser = parser(NATIVE);
    let metric = Metric {
        label: labels(&[("path", "C:\\x \"y\"\n"), ("a.b", "ü")]),
        ..Default::default()
    };
    parser.feed(&body(&[family("file.size", 3, vec![metric])]));
    parser.next().unwrap();
    let Ok(Some(Event::Sample { series, .. })) = parser.next() else {
        panic!("a sample follows the type");
    };
    let mut set = Labels::new(1_000);
    crate::exposition::parse_series(Format::Protobuf, series, &mut set).unwrap();
    let found: Vec<_> = set.iter().map(|label| (label.name, label.value)).collect();
    assert_eq!(
        found,
        [("__name__", "file.size"), ("a.b", "ü"), ("path", "C:\\x \"y\"\n")]
    );
}

#[test]
fn no_nan_passes_for_a_staleness_marker() {
    let stale = f64::from_bits(crate::sample::STALE_NAN_BITS);
    let metric = Metric {
        gauge: Some(Gauge { value: Some(stale) }),
        ..Default::default()
    };
    let mut parser = parser(NATIVE);
    parser.feed(&body(&[family("a", 1, vec![metric])]));
    parser.next().unwrap();
    let Ok(Some(Event::Sample { value, .. })) = parser.next() else {
        panic!("a sample follows the type");
    };
    assert_eq!(value.to_bits(), crate::sample::NORMAL_NAN_BITS);
    assert_ne!(from_bits(1.0_f64.to_bits()), value);
}

/// A family's message from raw fields.
fn raw_body(family: &[u8]) -> Vec<u8> {
    let mut body = vec![family.len() as u8];
    body.extend_from_slice(family);
    body
}

#[test]
fn what_is_not_a_family_is_refused_with_its_place() {
    const GAUGE: &[u8] = &[0x0A, 1, b'a', 0x18, 1, 0x22, 2, 0x12, 0];
    assert!(events_in(&raw_body(GAUGE), &[1], NATIVE).is_ok());
    let with = |more: &[u8]| raw_body(&[GAUGE, more].concat());
    let long_metric = body(&[family(
        "m",
        1,
        vec![Metric {
            label: labels(&[("x", &"y".repeat(5_000))]),
            ..Default::default()
        }],
    )]);
    let long_name = body(&[family(&"n".repeat(2_000), 1, vec![])]);
    for (body, expected) in [
        (
            with(&[])[..8].to_vec(),
            "metric family 1 (\"a\") byte 7: data ends inside a metric family",
        ),
        (vec![0x80], "metric family 0 byte 1: data ends inside a metric family"),
        (
            vec![5, 0x0A, 9, b'a', 0, 0],
            "metric family 1 byte 2: not a protobuf message of a metric family",
        ),
        (
            vec![2, 0x0B, 0x0C],
            "metric family 1 byte 2: not a protobuf message of a metric family",
        ),
        (
            vec![2, 0x08, 1],
            "metric family 1 byte 2: not a protobuf message of a metric family",
        ),
        (raw_body(&GAUGE[3..]), "metric family 1 byte 4: metric name is not set"),
        (raw_body(&[0x0A, 1, 0xFF]), "metric family 1 byte 2: text is not UTF-8"),
        (
            raw_body(&[0x18, 9]),
            "metric family 1 byte 2: metric type is not known to this format",
        ),
        (
            with(&[0x18, 2]),
            "metric family 1 (\"a\") byte 11: name or type of the metric family after its first metric",
        ),
        (
            with(&[0x0A, 1, b'b']),
            "metric family 1 (\"a\") byte 11: name or type of the metric family after its first metric",
        ),
        (
            with(&[0x2A, 1, b's']),
            "metric family 1 (\"a\") byte 11: unit is not the last word of the metric name",
        ),
        (
            with(&[0x22, 2, 0x0A, 9]),
            "metric family 1 (\"a\") byte 11: not a protobuf message of a metric family",
        ),
        (
            with(&[0x22, 3, 0x12, 1, 9]),
            "metric family 1 (\"a\") byte 11: not a protobuf message of a metric family",
        ),
        (
            with(&[0x22, 5, 0x0A, 3, 0x0A, 1, 0xFF]),
            "metric family 1 (\"a\") byte 11: text is not UTF-8",
        ),
        (
            long_metric,
            "metric family 1 (\"m\") byte 8: metric is longer than the limit of 4096 bytes",
        ),
        (
            long_name,
            "metric family 1 byte 3: metric name is longer than the limit of 1024 bytes",
        ),
    ] {
        for size in [1, 3, usize::MAX] {
            let found = events_in(&body, &[size], NATIVE).map_err(|error| error.to_string());
            assert_eq!(found, Err(expected.to_string()), "{:02x?}", &body[..body.len().min(20)]);
        }
    }
    // Said again, and what is not known.
    for more in [
        &[0x18, 1][..],
        &[0x0A, 1, b'a'],
        &[0x32, 2, 9, 9],
        &[0x3D, 0, 0, 0, 0],
        &[0x2A, 0],
    ] {
        assert_eq!(events_in(&with(more), &[2], NATIVE).unwrap(), ["TYPE a gauge", "a 0"]);
    }
}

#[test]
fn many_buckets_under_long_labels_are_refused() {
    let histogram = Histogram {
        bucket: vec![bucket(1, 1.0, None); 300],
        ..Default::default()
    };
    let mut metric = Metric {
        label: labels(&[("x", &"y".repeat(100))]),
        histogram: Some(histogram),
        ..Default::default()
    };
    assert!(events_in(&body(&[family("m", 4, vec![metric.clone()])]), &[7], NATIVE).is_ok());
    metric.label = labels(&[("x", &"y".repeat(4_000))]);
    let body = body(&[family("m", 4, vec![metric])]);
    let mut parser = Parser::with_protobuf(16_384, 4_096);
    parser.start(Format::Protobuf);
    parser.feed(&body);
    let error = loop {
        match parser.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the series take 1.2 MB"),
            Err(error) => break error,
        }
    };
    assert_eq!(
        error.problem,
        Problem::MetricText {
            limit: MAX_METRIC_TEXT_BYTES
        }
    );
}

#[test]
fn a_parser_not_made_for_protobuf_refuses_it() {
    let mut parser = Parser::new(100);
    assert!(!parser.reads_protobuf());
    parser.start(Format::Protobuf);
    parser.feed(&body(&[family("a", 1, vec![])]));
    assert!(parser.next().is_err());
}
