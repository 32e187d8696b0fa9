//! From a protobuf exposition to a receiver of remote write 2.0: native histograms, exemplars, start times, metadata.

extern crate alloc;

mod common;
#[path = "../src/exposition/protobuf/tests/messages.rs"]
#[allow(dead_code, reason = "not every message is exposed here")]
mod messages;

use common::agent::{Agent, configure};
use common::receiver::Receiver;
use common::{Request, TempDir, read_request, wait_for, write_response};
use messages::*;
use prost::Message;
use std::io::BufReader;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

#[derive(Clone, PartialEq, Message)]
struct Written {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<TimedHistogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<WrittenExemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

/// The times of a histogram; its other fields are read as [`WrittenHistogram`].
#[derive(Clone, PartialEq, Message)]
struct TimedHistogram {
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(int64, tag = "17")]
    start_timestamp: i64,
    #[prost(uint64, optional, tag = "1")]
    count_int: Option<u64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct WrittenExemplar {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

/// A series with its labels as text, and its exemplars: labels, value, time.
type Found = (String, Series, Vec<(String, f64, i64)>);

/// Everything that arrived.
#[derive(Default)]
struct Arrived(Vec<Found>);

impl Arrived {
    fn take(&mut self, request: &Request) {
        let body = snap::raw::Decoder::new().decompress_vec(&request.body).expect("snappy");
        let Written { symbols, timeseries } = Written::decode(&*body).expect("a request of 2.0");
        let text = |refs: &[u32]| {
            let words: Vec<_> = refs.iter().map(|&index| symbols[index as usize].as_str()).collect();
            words.chunks(2).map(|pair| pair.join("=")).collect::<Vec<_>>().join(",")
        };
        for series in timeseries {
            let exemplars = series
                .exemplars
                .iter()
                .map(|exemplar| (text(&exemplar.labels_refs), exemplar.value, exemplar.timestamp))
                .collect();
            self.0.push((text(&series.labels_refs), series, exemplars));
        }
    }

    fn find(&self, name: &str) -> Option<&Found> {
        let name = format!("__name__={name},");
        self.0.iter().find(|(labels, _, _)| labels.starts_with(&name))
    }
}

/// A target that exposes `body` and remembers what it was asked for.
#[expect(clippy::disallowed_methods, reason = "the far end runs on threads of the test")]
fn target(body: Vec<u8>) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback port");
    let address = listener.local_addr().expect("bound");
    let accept = Arc::new(Mutex::new(String::new()));
    let asked = accept.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (asked, body) = (asked.clone(), body.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                while let Ok(Some(request)) = read_request(&mut reader) {
                    *asked.lock().expect("lock") = request.header("accept").unwrap_or_default().to_owned();
                    if write_response(&mut &stream, "200 OK", &[("content-type", CONTENT_TYPE)], &body).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, accept)
}

fn exposition() -> Vec<u8> {
    let at = |seconds: i64| Some(Timestamp { seconds, nanos: 0 });
    let exemplar = Exemplar {
        label: labels(&[("trace_id", "abc")]),
        value: Some(0.5),
        timestamp: at(1_700_000_000),
    };
    let counter = Counter {
        value: Some(7.0),
        exemplar: Some(exemplar.clone()),
        created_timestamp: at(1_600_000_000),
    };
    let histogram = Histogram {
        sample_count: Some(9),
        sample_sum: Some(2.5),
        schema: Some(2),
        positive_span: vec![span(1, 2), span(2, 1)],
        positive_delta: vec![1, 2, 2],
        bucket: vec![bucket(4, 1.0, None)],
        exemplars: vec![exemplar],
        created_timestamp: at(1_600_000_001),
        ..Default::default()
    };
    let family = |name: &str, help: &str, kind, metric| MetricFamily {
        name: Some(name.into()),
        help: Some(help.into()),
        kind: Some(kind),
        metric: vec![metric],
        unit: None,
    };
    body(&[
        family(
            "requests_total",
            "Requests.",
            0,
            Metric {
                counter: Some(counter),
                ..Default::default()
            },
        ),
        family(
            "latency_seconds",
            "Latency.",
            4,
            Metric {
                histogram: Some(histogram),
                ..Default::default()
            },
        ),
    ])
}

#[test]
fn what_a_target_exposes_in_protobuf_reaches_the_receiver() {
    let (address, accept) = target(exposition());
    let arrived: Arc<Mutex<Arrived>> = Arc::default();
    let sink = arrived.clone();
    let receiver = Receiver::scripted(None, move |_, request| {
        sink.lock().expect("lock").take(request);
        None
    });
    let directory = TempDir::new();
    let jobs = format!(
        "- job_name: native\n  scrape_native_histograms: true\n  always_scrape_classic_histograms: true\n  \
         static_configs: [{{targets: ['{address}']}}]\n"
    );
    let remotes = format!(
        "- url: http://{}/write\n  send_exemplars: true\n  send_native_histograms: true\n  protobuf_message: io.prometheus.write.v2.Request\n  \
         queue_config: {{batch_send_deadline: 200ms}}\n",
        receiver.address()
    );
    let config = configure(directory.path(), &jobs, &remotes, "start_timestamps: true");
    let mut agent = Agent::start(&config);
    wait_for("the histogram", PATIENCE, || {
        arrived.lock().expect("lock").find("latency_seconds").is_some()
    });
    {
        let arrived = arrived.lock().expect("lock");
        let (labels, series, exemplars) = arrived.find("latency_seconds").expect("it has");
        assert_eq!(
            *labels,
            format!("__name__=latency_seconds,instance={address},job=native")
        );
        assert!(series.samples.is_empty());
        let histogram = &series.histograms[0];
        assert!(histogram.timestamp > 1_700_000_000_000);
        let expected = TimedHistogram {
            timestamp: histogram.timestamp,
            start_timestamp: 1_600_000_001_000,
            count_int: Some(9),
            sum: 2.5,
            schema: 2,
            positive_spans: vec![span(1, 2), span(2, 1)],
            positive_deltas: vec![1, 2, 2],
        };
        assert_eq!(*histogram, expected);
        let exemplar = ("trace_id=abc".to_owned(), 0.5, 1_700_000_000_000);
        assert_eq!(*exemplars, std::slice::from_ref(&exemplar));
        let (_, series, exemplars) = arrived.find("requests_total").expect("in the same scrape");
        assert_eq!(
            (series.samples[0].value, series.samples[0].start_timestamp),
            (7.0, 1_600_000_000_000)
        );
        assert_eq!(*exemplars, [exemplar]);
        assert!(arrived.find("latency_seconds_bucket").is_some(), "classic series, too");
        let once = arrived
            .0
            .iter()
            .filter(|(_, _, exemplars)| !exemplars.is_empty())
            .count();
        assert_eq!(once, 2, "each exemplar travels once");
    }
    let asked = accept.lock().expect("lock").clone();
    assert!(
        asked.starts_with(
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
        ) && asked.ends_with("text/plain;version=0.0.4;q=0.2,*/*;q=0.1"),
        "{asked}"
    );
    let metadata = agent.json("/api/v1/targets/metadata");
    let entries = metadata.array("data");
    let entry = |name: &str| entries.iter().find(|entry| entry.text("metric") == name).expect(name);
    assert_eq!(entries.len(), 2);
    assert_eq!(
        entry("latency_seconds").names(),
        ["target", "metric", "type", "help", "unit"]
    );
    assert_eq!(entry("latency_seconds").text("type"), "histogram");
    assert_eq!(entry("requests_total").text("help"), "Requests.");
    assert_eq!(entry("requests_total").text("target.job"), "native");
    let one = agent.json("/api/v1/targets/metadata?metric=requests_total&limit=1");
    assert_eq!(one.array("data")[0].names(), ["target", "type", "help", "unit"]);
    for (query, status) in [("metric=none", 404), ("limit=x", 400), ("match_target=%7B%7D", 400)] {
        let answer = agent.get(&format!("/api/v1/targets/metadata?{query}"));
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    assert!(agent.metric("tidegate_scraped_exemplars_total") >= 2.0);
    assert_eq!(agent.metric("tidegate_metadata_families"), 2.0);
    agent.stop();
}
