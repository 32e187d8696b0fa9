use super::*;
use crate::catalogue::SeriesText;
use crate::frame::{Frame, FrameNo};
use crate::labels::METRIC_NAME;
use crate::remote_write::batch::{BatchLimits, Layout, MIN_BODY_BYTES, Place, Stop};
use crate::remote_write::declared::{Count, ExemplarV2, Histogram, Request, WriteRequest, ZeroCount};
use crate::remote_write::identity::Identity;
use crate::remote_write::testkit::{Frames, NO_BOUNDS, Scrape, limits};
use crate::sample::{MetricType, STALE_NAN_BITS, SeriesRef, TargetRef};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use prost::Message;

const ALL: Sends = Sends {
    histograms: true,
    exemplars: true,
};

const LIMITS: BatchLimits = BatchLimits {
    extras_bytes: 20_000,
    sends: ALL,
    ..limits(100)
};

struct Bench {
    batch: Batch,
    frame: Frame,
    identity: Identity,
}

impl Bench {
    fn new(limits: BatchLimits, protocol: Protocol) -> Self {
        let mut batch = Batch::new(limits, 1);
        batch.begin(Place::default(), protocol);
        Self {
            batch,
            frame: Frame::with_extras(limits.frame_samples, limits.extras_bytes),
            identity: Identity::new(&[("zone", "eu")], crate::relabel::Relabel::default()),
        }
    }

    fn gather(&mut self, source: &mut Frames) -> Stop {
        self.batch
            .gather(source, &mut self.frame, &mut self.identity, &NO_BOUNDS)
            .expect("medium works")
    }

    fn sealed(&mut self, layout: Layout) -> Vec<Series> {
        self.batch.seal(layout);
        match self.batch.protocol {
            Protocol::V1 => decode_v1(self.batch.body()),
            Protocol::V2 => decode_v2(self.batch.body()),
        }
    }
}

impl Bench {
    /// As [`Bench::sealed`], slice by slice of random sizes; some are split, some begin in one message and end in the other.
    fn in_slices(&mut self, layout: Layout, rng: &mut fastrand::Rng) -> Vec<Series> {
        let mut all = Vec::new();
        let whole = self.batch.counts();
        self.batch.cut(layout);
        loop {
            let limit = rng.usize(1..60);
            let Some(used) = self.batch.seal_slice(limit, None) else {
                break;
            };
            assert_eq!(used, layout);
            let counts = self.batch.request_counts();
            assert!((1..=limit).contains(&counts.items()), "{counts:?} of {limit}");
            match rng.u8(..12) {
                0 => self.batch.split(false),
                1 => {
                    self.batch.doubt();
                    self.batch.split(true);
                }
                // Nothing here has custom buckets: the other message says the same.
                2 if self.batch.is_begun() => self.batch.speak(Protocol::V1),
                _ => {
                    let sent = match self.batch.protocol {
                        Protocol::V1 => decode_v1(self.batch.body()),
                        Protocol::V2 => decode_v2(self.batch.body()),
                    };
                    for series in &sent {
                        let times: Vec<i64> = series.samples.iter().map(|s| s.1).collect();
                        let of_histograms = series.histograms.iter().map(|h| h.timestamp);
                        let times: Vec<i64> = times.into_iter().chain(of_histograms).collect();
                        let together = series.exemplars.iter().all(|e| times.contains(&e.2));
                        assert!(together, "a sample and its exemplars are in one request");
                    }
                    all.extend(sent);
                    self.batch.settle();
                }
            }
        }
        assert_eq!(
            (self.batch.samples(), self.batch.counts().exemplars),
            (0, 0),
            "{whole:?}"
        );
        all
    }
}

/// A series entry without regard to the version.
#[derive(Clone, Debug, Default, PartialEq)]
struct Series {
    name: String,
    samples: Vec<(u64, i64, i64)>,
    histograms: Vec<Histogram>,
    /// Labels, bits, time.
    exemplars: Vec<(String, u64, i64)>,
}

fn decode_v1(body: &[u8]) -> Vec<Series> {
    let request = WriteRequest::decode(body).expect("a message");
    let series = request.timeseries.into_iter().map(|series| Series {
        name: series
            .labels
            .iter()
            .find(|l| l.name == METRIC_NAME)
            .map_or(String::new(), |l| l.value.clone()),
        samples: series.samples.iter().map(|s| (s.bits, s.timestamp, s.start)).collect(),
        histograms: series.histograms,
        exemplars: series
            .exemplars
            .iter()
            .map(|e| {
                let labels: String = e.labels.iter().map(|l| format!("{}={};", l.name, l.value)).collect();
                (labels, e.bits, e.timestamp)
            })
            .collect(),
    });
    series.collect()
}

fn decode_v2(body: &[u8]) -> Vec<Series> {
    let request = Request::decode(body).expect("a message");
    let mut distinct = request.symbols.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), request.symbols.len(), "symbols are not repeated");
    let text = |reference: &u32| request.symbols[*reference as usize].clone();
    let labels = |refs: &[u32]| -> String {
        let pairs = refs.chunks(2);
        pairs
            .map(|pair| format!("{}={};", text(&pair[0]), text(&pair[1])))
            .collect()
    };
    let exemplar = |e: &ExemplarV2| (labels(&e.labels_refs), e.bits, e.timestamp);
    let series = request.timeseries.iter().map(|series| {
        let name = series.labels_refs.chunks(2).find(|pair| text(&pair[0]) == METRIC_NAME);
        assert!(
            series.samples.is_empty() != series.histograms.is_empty(),
            "samples or histograms, and one of them"
        );
        Series {
            name: name.map_or(String::new(), |pair| text(&pair[1])),
            samples: series.samples.iter().map(|s| (s.bits, s.timestamp, s.start)).collect(),
            histograms: series.histograms.clone(),
            exemplars: series.exemplars.iter().map(exemplar).collect(),
        }
    });
    series.collect()
}

fn histogram(count: u64, schema: i32) -> Histogram {
    Histogram {
        count: Some(Count::Int(count)),
        sum: 2.5f64.to_bits(),
        schema,
        zero_threshold: 0.001,
        zero_count: Some(ZeroCount::Int(1)),
        positive_deltas: alloc::vec![1, -1, 3],
        ..Histogram::default()
    }
}

/// A frame at 1,000,000 ms: series 0 a float with an exemplar and a start, 1 a histogram with two exemplars and a start, 2 a float
/// with a time of its own.
fn mixed(source: &mut Frames) {
    let mut scrape = Scrape::new(1, 1_000_000, &[(0, 7), (1, 3), (2, 9)]);
    scrape.explicit = alloc::vec![(2, 900_000)];
    let mut extras = Extras::with_capacity(1000);
    extras.push_start_time(0, 500_000).unwrap();
    extras
        .push_exemplar(0, None, 0.5f64.to_bits(), r#"trace_id="a\"b""#)
        .unwrap();
    extras.push_histogram(1, &histogram(3, 2).encode_to_vec()).unwrap();
    extras.push_start_time(1, 0).unwrap();
    extras.push_exemplar(1, Some(999_000), 0, "").unwrap();
    extras
        .push_exemplar(1, Some(999_500), 1.5f64.to_bits(), r#"span_id="eu",trace_id="node""#)
        .unwrap();
    extras.push_start_time(2, 2_000_000).unwrap();
    scrape.extras = extras.as_bytes().to_vec();
    source.scrapes.push(scrape);
}

#[test]
fn what_samples_carry_goes_with_them_in_both_messages_and_layouts() {
    for protocol in [Protocol::V1, Protocol::V2] {
        for layout in [Layout::Live, Layout::Grouped] {
            let mut source = Frames::new(3);
            mixed(&mut source);
            let mut bench = Bench::new(LIMITS, protocol);
            assert_eq!(bench.gather(&mut source), Stop::End);
            let counts = bench.batch.counts();
            assert_eq!((counts.samples, counts.histograms, counts.exemplars), (2 + 5, 1, 3));
            assert_eq!(bench.batch.samples(), 8);
            let sent = bench.sealed(layout);
            let v2 = protocol == Protocol::V2;
            let start = |start| if v2 { start } else { 0 };
            assert_eq!(sent[0].samples, [(7f64.to_bits(), 1_000_000, start(500_000))]);
            let exemplar = ("trace_id=a\"b;".to_string(), 0.5f64.to_bits(), 1_000_000);
            assert_eq!(sent[0].exemplars, [exemplar]);
            let expected = Histogram {
                timestamp: 1_000_000,
                // At 0 it would be none.
                start: start(1),
                ..histogram(3, 2)
            };
            assert_eq!(sent[1].histograms, [expected]);
            let second = ("span_id=eu;trace_id=node;".to_string(), 1.5f64.to_bits(), 999_500);
            assert_eq!(sent[1].exemplars, [(String::new(), 0, 999_000), second]);
            // A start behind the sample is none.
            assert_eq!(sent[2].samples, [(9f64.to_bits(), 900_000, 0)]);
            assert_eq!(sent.iter().filter(|series| !series.exemplars.is_empty()).count(), 2);
        }
    }
}

#[test]
fn a_request_with_carried_things_is_this_byte_for_byte() {
    let mut source = Frames::new(1);
    let mut scrape = Scrape::new(1, 1, &[(0, 3)]);
    let mut extras = Extras::with_capacity(100);
    extras.push_histogram(0, &[8, 3]).unwrap();
    extras.push_exemplar(0, None, 0, r#"t="x""#).unwrap();
    scrape.extras = extras.as_bytes().to_vec();
    source.scrapes.push(scrape);
    // Labels: 22 bytes each way, checked elsewhere.
    let histogram = [0x08, 0x03, 0x78, 0x01];
    let mut bench = Bench::new(LIMITS, Protocol::V1);
    bench.gather(&mut source);
    bench.batch.seal(Layout::Live);
    let mut expected = alloc::vec![0x22, 4];
    expected.extend(histogram);
    expected.extend([0x1a, 10, 0x0a, 6, 0x0a, 1, b't', 0x12, 1, b'x', 0x18, 1]);
    assert!(
        bench
            .batch
            .body()
            .windows(expected.len())
            .any(|bytes| bytes == expected)
    );

    source.position = 0;
    let mut bench = Bench::new(LIMITS, Protocol::V2);
    bench.gather(&mut source);
    bench.batch.seal(Layout::Live);
    // The exemplar's strings come last: references follow those of six labels and five synthetic names.
    let request = Request::decode(bench.batch.body()).unwrap();
    let [t, x] = [1, 2].map(|from_end| request.symbols.len() as u8 - 3 + from_end);
    assert_eq!(
        [&*request.symbols[usize::from(t)], &*request.symbols[usize::from(x)]],
        ["t", "x"]
    );
    let mut expected = alloc::vec![0x1a, 4];
    expected.extend(histogram);
    expected.extend([0x22, 6, 0x0a, 2, t, x, 0x18, 1]);
    // Type, then histogram, then exemplar.
    expected.splice(..0, [0x2a, 2, 0x08, MetricType::Gauge as u8]);
    assert!(
        bench
            .batch
            .body()
            .windows(expected.len())
            .any(|bytes| bytes == expected)
    );
}

#[test]
fn a_remote_gets_only_what_it_asks_for() {
    for (sends, histograms, exemplars) in [
        (Sends::default(), 0, 0),
        (
            Sends {
                histograms: true,
                exemplars: false,
            },
            1,
            0,
        ),
        (
            Sends {
                histograms: false,
                exemplars: true,
            },
            0,
            1,
        ),
    ] {
        let mut source = Frames::new(3);
        mixed(&mut source);
        let mut bench = Bench::new(BatchLimits { sends, ..LIMITS }, Protocol::V2);
        assert_eq!(bench.gather(&mut source), Stop::End);
        let counts = bench.batch.counts();
        assert_eq!((counts.samples, counts.histograms), (7, histograms));
        assert_eq!(counts.exemplars, exemplars);
        assert_eq!(bench.batch.tally().unwanted_histograms, 1 - histograms as u64);
        bench.sealed(Layout::Live);
    }
}

#[test]
fn custom_buckets_go_in_2_0_only_and_damage_in_neither() {
    for (protocol, sent) in [(Protocol::V1, 0), (Protocol::V2, 1)] {
        let mut source = Frames::new(2);
        let mut scrape = Scrape::new(1, 1000, &[(0, 3), (1, 3)]);
        let mut extras = Extras::with_capacity(1000);
        extras.push_histogram(0, &histogram(3, -53).encode_to_vec()).unwrap();
        extras.push_histogram(1, &[0x0a, 0x05]).unwrap();
        scrape.extras = extras.as_bytes().to_vec();
        source.scrapes.push(scrape);
        let mut bench = Bench::new(LIMITS, protocol);
        bench.gather(&mut source);
        assert_eq!(bench.batch.counts().histograms, sent);
        let tally = bench.batch.tally();
        assert_eq!((tally.custom_buckets, tally.damaged_histograms), (1 - sent as u64, 1));
    }
}

#[test]
fn the_marker_of_a_native_histogram_is_a_histogram() {
    let mut source = Frames::new(1);
    source.catalogue = crate::catalogue::Catalogue::new(10, 1000, 4);
    let mut define = |name: &str, kind| {
        let text = SeriesText { name, body: "" };
        source.catalogue.define(TargetRef(0), text, kind).expect("fits").0
    };
    let stale = [
        define("latency", MetricType::Histogram),
        define("latency_count", MetricType::Histogram),
        define("depth", MetricType::Gauge),
    ];
    let mut scrape = Scrape::new(1, 1000, &[]);
    scrape.stale = stale.to_vec();
    source.scrapes.push(scrape);
    for protocol in [Protocol::V1, Protocol::V2] {
        source.position = 0;
        let mut bench = Bench::new(LIMITS, protocol);
        bench.gather(&mut source);
        let sent = bench.sealed(Layout::Grouped);
        let marker = Histogram {
            count: Some(Count::Int(0)),
            sum: STALE_NAN_BITS,
            zero_count: Some(ZeroCount::Int(0)),
            timestamp: 1000,
            ..Histogram::default()
        };
        assert_eq!((&*sent[0].name, &sent[0].histograms), ("latency", &alloc::vec![marker]));
        for series in &sent[1..3] {
            assert_eq!(series.samples, [(STALE_NAN_BITS, 1000, 0)], "{}", series.name);
        }
    }
}

#[test]
fn a_series_that_changes_kind_begins_another_batch() {
    let mut source = Frames::new(1);
    for n in 0..4 {
        let mut scrape = Scrape::new(n, 1000 * n as i64 + 1000, &[(0, 3)]);
        if n < 2 {
            let mut extras = Extras::with_capacity(1000);
            extras.push_histogram(0, &histogram(n, 1).encode_to_vec()).unwrap();
            scrape.extras = extras.as_bytes().to_vec();
        }
        source.scrapes.push(scrape);
    }
    let mut bench = Bench::new(LIMITS, Protocol::V2);
    assert_eq!(bench.gather(&mut source), Stop::Full);
    assert_eq!(bench.batch.end(), Place::before(FrameNo(2)));
    let sent = bench.sealed(Layout::Grouped);
    assert_eq!((sent[0].histograms.len(), sent[0].samples.len()), (2, 0));
    bench.batch.begin(bench.batch.end(), Protocol::V2);
    assert_eq!(bench.gather(&mut source), Stop::End);
    assert_eq!(bench.sealed(Layout::Grouped)[0].samples.len(), 2);
}

#[test]
fn a_sample_alone_goes_without_the_exemplars_that_fit_no_request() {
    let mut source = Frames::new(1);
    let mut scrape = Scrape::new(1, 1000, &[(0, 3)]);
    let mut extras = Extras::with_capacity(LIMITS.extras_bytes);
    let long = "v".repeat(9_000);
    for i in 0..2 {
        extras.push_exemplar(0, None, i, &format!(r#"a{i}="{long}""#)).unwrap();
    }
    scrape.extras = extras.as_bytes().to_vec();
    source.scrapes.push(scrape);
    // Both fit twice over only in a larger body.
    for (body_bytes, sent) in [(MIN_BODY_BYTES, 2), (MIN_BODY_BYTES * 4, 2)] {
        let mut bench = Bench::new(BatchLimits { body_bytes, ..LIMITS }, Protocol::V1);
        assert_eq!(bench.gather(&mut source), Stop::End);
        source.position = 0;
        let (exemplars, lost) = (bench.batch.counts().exemplars, bench.batch.tally().large_exemplars);
        assert_eq!((exemplars, lost), (sent, 2 - sent as u64));
        assert_eq!(bench.sealed(Layout::Live)[0].exemplars.len(), sent);
    }
}

/// Everything sent, by series name: time, and the exemplars' values.
type Told = Vec<(String, i64, Option<u64>, Vec<u64>)>;

fn tell(sent: &[Series]) -> Told {
    let mut told = Told::new();
    for series in sent {
        let exemplars: Vec<u64> = series.exemplars.iter().map(|e| e.1).collect();
        let times = series.samples.iter().map(|s| (s.1, None));
        let histograms = series.histograms.iter().map(|h| match h.count {
            Some(Count::Int(count)) => (h.timestamp, Some(count)),
            other => panic!("{other:?}"),
        });
        let all: Vec<_> = times.chain(histograms).collect();
        assert!(all.is_sorted_by(|a, b| a.0 < b.0), "times of {} rise", series.name);
        for (i, (time, count)) in all.into_iter().enumerate() {
            let exemplars = if i == 0 { exemplars.clone() } else { Vec::new() };
            told.push((series.name.clone(), time, count, exemplars));
        }
    }
    told
}

/// Series, time, count of observations.
type Samples = Vec<(String, i64, Option<u64>)>;

/// What must arrive: samples and histograms by series and time; exemplar values in order of sending per series.
fn sums(told: &Told) -> (Samples, Vec<(String, u64)>) {
    let mut samples: Vec<_> = told.iter().map(|t| (t.0.clone(), t.1, t.2)).collect();
    samples.sort();
    let exemplars = |t: &(String, i64, Option<u64>, Vec<u64>)| {
        let name = t.0.clone();
        t.3.clone().into_iter().map(move |value| (name.clone(), value))
    };
    let mut exemplars: Vec<_> = told.iter().flat_map(exemplars).collect();
    exemplars.sort();
    (samples, exemplars)
}

#[test]
fn whatever_the_sizes_everything_arrives_once_and_in_order() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut batches = 0;
    for round in 0..60 {
        let mut source = Frames::new(30);
        let (mut expected_samples, mut expected_exemplars) = (Vec::new(), Vec::new());
        let native: Vec<bool> = (0..30).map(|_| rng.bool()).collect();
        for n in 0..rng.u64(1..12) {
            let time = 1_000_000 + n as i64 * 1000;
            let mut extras = Extras::with_capacity(LIMITS.extras_bytes);
            let samples: Vec<(u16, i64)> = (0..30).map(|i| (i, i64::from(i))).collect();
            for i in 0..30u16 {
                let name = format!("metric_{i}");
                let mut count = None;
                if native[usize::from(i)] {
                    let mut message = histogram(n * 100 + u64::from(i), 1);
                    message.positive_deltas = (0..rng.i64(0..200)).collect();
                    extras.push_histogram(i, &message.encode_to_vec()).unwrap();
                    count = Some(n * 100 + u64::from(i));
                }
                for _ in 0..rng.u8(0..3) {
                    let value = rng.u64(1..u64::MAX);
                    let labels = match rng.u8(0..3) {
                        0 => String::new(),
                        1 => format!(r#"trace_id="{}""#, rng.u32(..)),
                        _ => r#"job="node",n="3""#.to_string(),
                    };
                    extras.push_exemplar(i, Some(time), value, &labels).unwrap();
                    expected_exemplars.push((name.clone(), value));
                }
                expected_samples.push((name, time, count));
            }
            let mut scrape = Scrape::new(n, time, &samples);
            scrape.extras = extras.as_bytes().to_vec();
            source.scrapes.push(scrape);
        }
        expected_samples.sort();
        expected_exemplars.sort();
        let samples = rng.usize(1..400);
        let limits = BatchLimits { samples, ..LIMITS };
        let protocol = if round % 2 == 0 { Protocol::V1 } else { Protocol::V2 };
        let mut bench = Bench::new(limits, protocol);
        let mut told = Told::new();
        loop {
            let stop = bench.gather(&mut source);
            assert!(bench.batch.samples() > 0 || stop == Stop::End);
            let layout = if rng.bool() { Layout::Live } else { Layout::Grouped };
            let counts = bench.batch.counts();
            let sent = match rng.u8(..3) {
                0 => bench.sealed(layout),
                _ => bench.in_slices(layout, &mut rng),
            };
            let len = |of: fn(&Series) -> usize| sent.iter().map(of).sum::<usize>();
            assert_eq!(len(|s| s.samples.len()), counts.samples);
            assert_eq!(len(|s| s.histograms.len()), counts.histograms);
            assert_eq!(len(|s| s.exemplars.len()), counts.exemplars);
            told.extend(tell(&sent).into_iter().filter(|t| t.0.starts_with("metric")));
            batches += 1;
            if stop == Stop::End {
                break;
            }
            bench.batch.finish();
            bench.batch.begin(bench.batch.end(), protocol);
        }
        assert_eq!(bench.batch.tally().large_exemplars, 0);
        let (samples, exemplars) = sums(&told);
        assert_eq!(samples, expected_samples, "round {round}");
        assert_eq!(exemplars, expected_exemplars, "round {round}");
    }
    assert!(batches > 200, "{batches}");
}

#[test]
fn series_refs_beyond_the_catalogue_cost_only_their_sample() {
    let mut source = Frames::new(2);
    let mut scrape = Scrape::new(1, 1000, &[(0, 3), (1, 4)]);
    let mut extras = Extras::with_capacity(1000);
    extras.push_histogram(0, &histogram(1, 1).encode_to_vec()).unwrap();
    extras.push_exemplar(1, None, 1, "").unwrap();
    scrape.extras = extras.as_bytes().to_vec();
    source.scrapes.push(scrape);
    source.catalogue.release(SeriesRef(0), FrameNo(0));
    let mut bench = Bench::new(
        BatchLimits {
            max_series: 1,
            ..LIMITS
        },
        Protocol::V2,
    );
    bench.gather(&mut source);
    assert_eq!(bench.batch.counts().exemplars, 0);
    assert!(bench.batch.tally().unknown_series >= 1);
}
