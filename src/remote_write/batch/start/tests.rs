use super::*;
use crate::catalogue::Catalogue;
use crate::frame::FrameNo;
use crate::remote_write::batch::{BatchLimits, Layout, Place, Stop};
use crate::remote_write::identity::Identity;
use crate::remote_write::testkit::{Frames, NO_BOUNDS, Scrape, Sent, decode, label, limits};
use crate::value;
use alloc::vec::Vec;

const LIMITS: BatchLimits = BatchLimits {
    samples: 1000,
    max_targets: 2,
    frame_samples: 1000,
    ..limits(20)
};

/// Name, labels, type.
type Series<'a> = (&'a str, &'a str, MetricType);

const FAMILIES: [Series<'_>; 9] = [
    ("c_total", r#"a="1""#, MetricType::Counter),
    ("c_created", r#"a="1""#, MetricType::Unknown),
    ("h_bucket", r#"a="1",le="1.0",z="2""#, MetricType::Histogram),
    ("h_bucket", r#"a="1",le="+Inf",z="2""#, MetricType::Histogram),
    ("h_count", r#"a="1",z="2""#, MetricType::Histogram),
    ("h_created", r#"a="1",z="2""#, MetricType::Unknown),
    ("s", r#"quantile="0.5""#, MetricType::Summary),
    ("s_sum", "", MetricType::Summary),
    ("s_created", "", MetricType::Unknown),
];

fn source(series: &[Series<'_>]) -> Frames {
    let mut source = Frames::new(0);
    source.catalogue = Catalogue::new(series.len() + 10, 10_000, 2);
    let catalogue = &mut source.catalogue;
    catalogue.set_target(TargetRef(0), r#"job="x""#).expect("fits");
    for &(name, body, kind) in series {
        let text = SeriesText { name, body };
        catalogue.define(TargetRef(0), text, kind).expect("fits");
    }
    source
}

struct Bench {
    batch: Batch,
    frame: Frame,
    identity: Identity,
}

impl Bench {
    fn new() -> Self {
        Self {
            batch: Batch::new(LIMITS, 1),
            frame: Frame::with_capacity(LIMITS.frame_samples),
            identity: Identity::new(&[], crate::relabel::Relabel::default()),
        }
    }

    /// The next batch of `source`, to its end.
    fn send(&mut self, source: &mut Frames, protocol: Protocol, layout: Layout) -> Vec<Sent> {
        self.batch.begin(Place::before(FrameNo(source.position)), protocol);
        let stop = self
            .batch
            .gather(source, &mut self.frame, &mut self.identity, &NO_BOUNDS);
        assert_eq!(stop, Ok(Stop::End));
        self.batch.seal(layout);
        decode(self.batch.body(), protocol)
    }
}

fn starts(sent: &[Sent], metric: &str) -> Vec<i64> {
    let named = sent.iter().filter(|s| label(s, "__name__") == Some(metric));
    named.flat_map(|s| s.starts.iter().copied()).collect()
}

/// Values of [`FAMILIES`]; created at 1000, 2000 and 3000 s.
const VALUES: [(u16, i64); 9] = [
    (0, 5),
    (1, 1000),
    (2, 5),
    (3, 6),
    (4, 6),
    (5, 2000),
    (6, 1),
    (7, 1),
    (8, 3000),
];

#[test]
fn every_sample_of_a_metric_starts_when_it_was_created() {
    let mut source = source(&FAMILIES);
    source.scrapes.push(Scrape::new(0, 9_000_000, &VALUES));
    let sent = Bench::new().send(&mut source, Protocol::V2, Layout::Grouped);
    let starts: Vec<_> = sent.iter().flat_map(|s| s.starts.clone()).collect();
    let (c, h, s) = (1_000_000, 2_000_000, 3_000_000);
    assert_eq!(starts, [c, 0, h, h, h, 0, s, s, 0, 0, 0, 0, 0, 0]);
    source.position = 0;
    let v1 = Bench::new().send(&mut source, Protocol::V1, Layout::Live);
    assert!(v1.iter().all(|s| s.starts == [0]));
}

#[test]
fn no_start_for_markers_late_or_missing_or_typed_created() {
    let mut series = FAMILIES;
    series[8].2 = MetricType::Gauge;
    let mut source = source(&series);
    let mut late = Scrape::new(0, 2_500_000, &VALUES);
    late.explicit = alloc::vec![(2, 1_999_999), (3, 2_000_000)];
    source.scrapes.push(late);
    let mut gone = Scrape::new(1, 2_600_000, &[(4, 7)]);
    gone.stale = alloc::vec![0];
    source.scrapes.push(gone);
    let sent = Bench::new().send(&mut source, Protocol::V2, Layout::Grouped);
    for (metric, expected) in [
        ("c_total", &[1_000_000, 0][..]),
        ("h_bucket", &[0, 2_000_000]),
        ("h_count", &[2_000_000, 0]),
        ("s", &[0]),
        ("s_sum", &[0]),
    ] {
        assert_eq!(starts(&sent, metric), expected, "{metric}");
    }
}

#[test]
fn a_restart_shows_from_its_sample_on_and_order_does_not_matter() {
    let mut source = source(&FAMILIES);
    for (n, values) in [
        &[(0, 5), (1, 1000), (2, 1), (5, 2000)][..],
        &[(1, 1000), (0, 6), (5, 2000), (2, 2)],
        &[(1, 1100), (5, 2100), (0, 1), (2, 3)],
    ]
    .into_iter()
    .enumerate()
    {
        source.scrapes.push(Scrape::new(n as u64, 9_000_000 + n as i64, values));
    }
    let sent = Bench::new().send(&mut source, Protocol::V2, Layout::Grouped);
    assert_eq!(starts(&sent, "c_total"), [1_000_000, 1_000_000, 1_100_000]);
    assert_eq!(starts(&sent, "h_bucket"), [2_000_000, 2_000_000, 2_100_000]);
    assert_eq!(starts(&sent, "c_created"), [0, 0, 0]);
}

#[test]
fn what_was_looked_up_follows_the_catalogue() {
    let mut source = source(&FAMILIES[..1]);
    let mut bench = Bench::new();
    let mut send = |source: &mut Frames, values: &[(u16, i64)]| {
        let number = source.scrapes.len() as u64;
        source.scrapes.push(Scrape::new(number, 9_000_000, values));
        starts(&bench.send(source, Protocol::V2, Layout::Live), "c_total")
    };
    assert_eq!(send(&mut source, &[(0, 5)]), [0]);
    let text = |name| SeriesText { name, body: r#"a="1""# };
    let define = |source: &mut Frames, index, name| {
        let catalogue = &mut source.catalogue;
        let defined = catalogue.define_at(SeriesRef(index), TargetRef(0), text(name), MetricType::Unknown);
        assert!(defined.is_ok());
    };
    define(&mut source, 1, "c_created");
    assert_eq!(send(&mut source, &[(0, 5), (1, 1000)]), [1_000_000]);
    // Dead, but in frames from before.
    source.catalogue.release(SeriesRef(1), FrameNo(9));
    assert_eq!(send(&mut source, &[(0, 5), (1, 1000)]), [1_000_000]);
    define(&mut source, 1, "other");
    assert_eq!(send(&mut source, &[(0, 5), (1, 1000)]), [0]);
    define(&mut source, 2, "c_created");
    assert_eq!(send(&mut source, &[(0, 5), (1, 1000), (2, 1200)]), [1_200_000]);
}

#[test]
fn a_start_that_changes_all_the_time_costs_requests_not_samples() {
    let mut source = source(&FAMILIES);
    for n in 0..900 {
        source
            .scrapes
            .push(Scrape::new(n as u64, 9_000_000 + n, &[(0, 5), (1, 1000 + n)]));
    }
    let mut bench = Bench::new();
    let (mut all, mut batches) = (Vec::new(), 0);
    while all.len() < 900 {
        bench
            .batch
            .begin(Place::before(FrameNo(all.len() as u64)), Protocol::V2);
        bench
            .batch
            .gather(&mut source, &mut bench.frame, &mut bench.identity, &NO_BOUNDS)
            .expect("medium works");
        bench.batch.seal(Layout::Grouped);
        all.extend(starts(&decode(bench.batch.body(), Protocol::V2), "c_total"));
        batches += 1;
    }
    let expected: Vec<i64> = (0..900).map(|n| (1000 + n) * 1000).collect();
    assert_eq!(all, expected);
    assert!(batches < 20, "{batches}");
}

#[test]
fn created_text_by_type() {
    use MetricType::{Counter, Gauge, Histogram, Summary};
    for (name, body, kind, expected) in [
        ("a_total", "", Counter, Some(("a_created", ""))),
        ("a", "", Counter, None),
        ("a_total", r#"le="1""#, Counter, Some(("a_created", r#"le="1""#))),
        ("a_total", "damage", Counter, None),
        ("a_total", "", Gauge, None),
        ("a_bucket", r#"le="1""#, Histogram, Some(("a_created", ""))),
        (
            "a_bucket",
            r#"b="x\",y",le="1""#,
            Histogram,
            Some(("a_created", r#"b="x\",y""#)),
        ),
        ("a_bucket", r#"le="1",z="," "#, Histogram, None),
        ("a_sum", r#"b="1""#, Histogram, Some(("a_created", r#"b="1""#))),
        ("a", "", Histogram, None),
        (
            "a",
            r#"b="1",quantile="1",z="2""#,
            Summary,
            Some(("a_created", r#"b="1",z="2""#)),
        ),
        ("a_count", r#"b="1""#, Summary, Some(("a_created", r#"b="1""#))),
    ] {
        let mut scratch = [0; 100];
        let found = created_text(SeriesText { name, body }, kind, &mut scratch);
        assert_eq!(found.map(|t| (t.name, t.body)), expected, "{name}{{{body}}}");
    }
    let text = SeriesText {
        name: "a_total",
        body: "",
    };
    assert_eq!(created_text(text, Counter, &mut [0; 5]), None);
}

#[test]
fn only_the_neighbourhood_is_searched() {
    let samples: Vec<_> = (0..2000)
        .map(|i| Sample {
            number: Number::decimal(i.into(), 0),
            series: SeriesRef(i),
        })
        .collect();
    let near = NEAR;
    for (guess, distance, found) in [
        (0, near, true),
        (5, -near, true),
        (7, 7, true),
        (0, near + 1, false),
        (0, -near - 1, false),
        (i16::MIN, 1, true),
    ] {
        let created = SeriesRef((1000 + distance) as u16);
        let number = Number::decimal(i64::from(created.0), 0);
        let expected = found.then_some((distance, number));
        assert_eq!(find_near(&samples, 1000, created, guess), expected, "{distance}");
    }
}

#[test]
fn seconds_become_milliseconds_cut_off() {
    for (text, expected) in [
        ("1763816571.123", Some(1_763_816_571_123)),
        ("1763816571", Some(1_763_816_571_000)),
        ("1.7638165711239e9", Some(1_763_816_571_123)),
        ("1.7638165711234567e+09", Some(1_763_816_571_123)),
        ("1763816571.9999998", Some(1_763_816_571_999)),
        ("0.001", Some(1)),
        ("0.0009999999999999999", None),
        ("1e-22", None),
        ("0", None),
        ("-0", None),
        ("-5", None),
        ("-5.123456789012345678", None),
        ("NaN", None),
        ("+Inf", None),
        ("-Inf", None),
        ("1e300", None),
        ("5e-324", None),
        ("4503599627370497.5", None),
    ] {
        let number = value::parse(text.as_bytes()).expect("a number");
        // The last is a time, but beyond every sample's.
        let found = millis(number).filter(|&ms| ms < i64::MAX / 4);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn bits_and_decimals_of_binary_fractions_agree() {
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..20_000 {
        // Multiples of 2^-10 below 2^31: no milliseconds lie between one and its shortest decimal.
        let units = rng.u64(..1 << 41) >> rng.u32(..41);
        let seconds = units as f64 / 1024.0;
        let expected = (u128::from(units) * 1000 / 1024) as i64;
        let expected = (expected > 0).then_some(expected);
        assert_eq!(millis(Number::from_raw_bits(seconds.to_bits())), expected, "{seconds}");
        assert_eq!(millis(value::from_bits(seconds.to_bits())), expected, "{seconds}");
    }
}
