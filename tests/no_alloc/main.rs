//! Nothing on the way of a sample allocates after construction, and what construction takes is what is announced.
//!
//! - `scraping`: bodies become frames
//! - `sending`: frames become requests, and those are compressed
//! - `whole`: an agent, from the scrape to the acknowledgement
//!
//! Each part of the way adds its own here; the sizes and bodies they share are in this file.

extern crate alloc;

#[path = "../common/allocations.rs"]
mod allocations;
#[path = "../common/memory.rs"]
mod memory;
#[path = "../../src/exposition/protobuf/tests/messages.rs"]
mod messages;
mod scraping;
mod sending;
mod whole;

use allocations::{Counting, allocations};
use std::fmt::Write;
use tidegate::scrape::SessionSize;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MAX_SERIES: usize = 1_500;
const TEXT_BYTES: usize = 100_000;
const MAX_TARGETS: usize = 4;
const SIZE: SessionSize = SessionSize {
    max_samples: MAX_SERIES,
    line_bytes: 20_480,
    label_bytes: 0,
    extras_bytes: 0,
    converts: false,
};

const PROTOBUF: &[u8] = b"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

const PROTOBUF_SIZE: SessionSize = SessionSize {
    label_bytes: 8_192,
    extras_bytes: 20_000,
    converts: true,
    ..SIZE
};

/// A protobuf exposition of many label sets: counters with exemplars, a native and a classic histogram, a summary.
fn protobuf_body(round: u32) -> Vec<u8> {
    use messages::{Bucket, Counter, Exemplar, Histogram, Metric, MetricFamily, Summary, Timestamp};
    use messages::{bucket, labels, quantile, span};
    let time = |seconds: u32| {
        Some(Timestamp {
            seconds: 1_700_000_000 + i64::from(seconds),
            nanos: 500_000_000,
        })
    };
    let exemplar = |n: u32| Exemplar {
        label: labels(&[("trace_id", &format!("t{n}-{round}"))]),
        value: Some(f64::from(n) / 8.0),
        timestamp: time(round),
    };
    let native = |n: u32| Histogram {
        sample_count: Some(6),
        sample_sum: Some(f64::from(round)),
        schema: Some(3),
        zero_threshold: Some(1e-128),
        positive_span: vec![span(1, 3)],
        positive_delta: vec![1, 1, 1],
        bucket: vec![bucket(1, 0.5, None), bucket(6, f64::from(n), None)],
        exemplars: vec![exemplar(n)],
        created_timestamp: time(0),
        ..Default::default()
    };
    let classic = Histogram {
        sample_count: Some(3),
        bucket: (0..20)
            .map(|n| Bucket {
                exemplar: Some(exemplar(n)),
                ..bucket(1, f64::from(n), None)
            })
            .collect(),
        ..Default::default()
    };
    let summary = Summary {
        sample_count: Some(u64::from(round)),
        quantile: vec![quantile(0.5, 0.1), quantile(0.9, f64::NAN)],
        ..Default::default()
    };
    let of = |kind: i32, n: u32| {
        let mut metric = Metric {
            label: labels(&[("pod", &format!("p{n}")), ("path", "C:\\\"x\"")]),
            ..Default::default()
        };
        match kind {
            0 => {
                metric.counter = Some(Counter {
                    value: Some(f64::from(n + round)),
                    exemplar: Some(exemplar(n)),
                    created_timestamp: time(n),
                });
            }
            2 => metric.summary = Some(summary.clone()),
            _ if n == 0 => metric.histogram = Some(classic.clone()),
            _ => metric.histogram = Some(native(n)),
        }
        metric
    };
    let families =
        [("requests_total", 0), ("latency_seconds", 2), ("size_bytes", 4)].map(|(name, kind)| MetricFamily {
            name: Some(name.into()),
            help: Some("Some help.".into()),
            kind: Some(kind),
            metric: (0..20).map(|n| of(kind, n)).collect(),
            unit: None,
        });
    messages::body(&families)
}

/// A scrape of `series` series; `churn` makes the names of a tenth of them differ from those of other scrapes.
fn body(series: usize, churn: usize) -> Vec<u8> {
    let mut text = String::from("# HELP m Some \\n help.\n# TYPE m histogram\n");
    for i in 0..series {
        let generation = if i % 10 == 0 { churn } else { 0 };
        let time = if i % 50 == 1 {
            format!(" {}", 1_000 + churn)
        } else {
            String::new()
        };
        writeln!(
            text,
            "m_bucket{{le=\"{i}\",job=\"x\\\"y\",pod=\"p{generation}\"}} {i}.5{time}"
        )
        .unwrap();
    }
    text.into_bytes()
}
