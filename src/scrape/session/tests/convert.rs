//! `convert_classic_histograms_to_nhcb`, line by line as Prometheus' parser of that name does it.

use super::carried::{PROTOBUF, extras, rig};
use super::*;
use crate::exposition::{Histograms, Resolution};
use crate::extras::Extra;
use crate::scrape::convert::MAX_EXEMPLARS;
use prost::Message;

/// What of remote write's message there is in a histogram with custom buckets.
#[derive(Clone, PartialEq, Message)]
struct Buckets {
    #[prost(uint64, optional, tag = "1")]
    count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(message, repeated, tag = "11")]
    spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    counts: Vec<f64>,
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

fn converting() -> Target {
    let mut target = target();
    target.convert_classic = true;
    target
}

fn keeping() -> Target {
    let mut target = converting();
    target.histograms.classic_too = true;
    target
}

/// The samples of the last frame, histograms as `count|sum|bounds|deltas or counts`.
fn lines(rig: &mut Rig, shot: &Shot) -> Vec<String> {
    assert!(shot.up, "{}", shot.error);
    let histogram = |message: &[u8]| {
        let found = Buckets::decode(message).unwrap();
        assert_eq!(found.schema, -53);
        let spans: Vec<_> = found.spans.iter().map(|span| (span.offset, span.len)).collect();
        let total: u32 = found.spans.iter().map(|span| span.len).sum();
        assert_eq!(total as usize, found.deltas.len() + found.counts.len());
        let count = found
            .count_int
            .map_or(found.count_float.unwrap_or(-1.0), |count| count as f64);
        let values = if found.count_int.is_some() {
            format!("{:?}", found.deltas)
        } else {
            format!("{:?}", found.counts)
        };
        format!("{count}|{}|{:?}|{spans:?}|{values}", found.sum, found.bounds)
    };
    let frame = rig.session.frame();
    let mut found: Vec<_> = shot
        .samples
        .iter()
        .map(|(series, value, time)| {
            let time = time.map_or(String::new(), |time| format!(" @{time}"));
            (
                series
                    .replace("{job=\"j\"}", "")
                    .replace(",job=\"j\"", "")
                    .replace("job=\"j\",", ""),
                format!("{value}"),
                time,
            )
        })
        .collect();
    for extra in frame.extras.iter() {
        if let Extra::Histogram { position, message } = extra {
            found[usize::from(position)].1 = histogram(message);
        }
    }
    found
        .into_iter()
        .map(|(series, value, time)| format!("{series} {value}{time}"))
        .collect()
}

fn text(target: &Target, body: &str) -> Vec<String> {
    let mut rig = rig(50, 4_000);
    let shot = rig.scrape(target, body);
    lines(&mut rig, &shot)
}

const ONE: &str = "# TYPE h histogram\nh_bucket{a=\"b\",le=\"1\"} 2\nh_bucket{a=\"b\",le=\"+Inf\"} 3\nh_sum{a=\"b\"} 4.5\nh_count{a=\"b\"} 3\n";
const ONE_CONVERTED: &str = "h{a=\"b\"} 3|4.5|[1.0]|[(0, 2)]|[2, -1]";

#[test]
fn the_lines_of_a_label_set_become_one_sample() {
    assert_eq!(text(&converting(), ONE), [ONE_CONVERTED]);
    // In any order, also of the labels, with spaces and bounds written otherwise.
    let same = "# TYPE h histogram\nh_count{a=\"b\"} 3\nh_bucket{le=\"Inf\" , a=\"b\"} 3\nh_bucket{le=\"1.0\",a=\"b\",} 2\nh_sum{a=\"b\"} 4.5\n";
    assert_eq!(text(&converting(), same), [ONE_CONVERTED]);
    let two = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"+Inf\"} 3\nh_bucket{a=\"2\",le=\"+Inf\"} 4\nh_bucket{le=\"+Inf\"} 5\n# TYPE g gauge\ng 1\n";
    let expected = [
        "h{a=\"1\"} 3|0|[]|[(0, 1)]|[3]",
        "h{a=\"2\"} 4|0|[]|[(0, 1)]|[4]",
        "h 5|0|[]|[(0, 1)]|[5]",
        "g 1",
    ];
    assert_eq!(text(&converting(), two), expected);
    let quoted = "# TYPE \"h.x\" histogram\n{\"h.x_bucket\",\"a.b\"=\"q\\\"\",le=\"+Inf\"} 3\n";
    assert_eq!(
        text(&converting(), quoted),
        ["{\"h.x\",\"a.b\"=\"q\\\"\"} 3|0|[]|[(0, 1)]|[3]"]
    );
}

#[test]
fn the_lines_stay_if_classic_histograms_are_wanted_too() {
    let mut found = text(&keeping(), ONE);
    assert_eq!(found.pop().as_deref(), Some(ONE_CONVERTED));
    assert_eq!(
        found,
        [
            "h_bucket{a=\"b\",le=\"1.0\"} 2",
            "h_bucket{a=\"b\",le=\"+Inf\"} 3",
            "h_sum{a=\"b\"} 4.5",
            "h_count{a=\"b\"} 3"
        ]
    );
}

#[test]
fn only_lines_under_their_own_type_line_count() {
    for (body, expected) in [
        ("h_bucket{le=\"+Inf\"} 3\n", "h_bucket{le=\"+Inf\"} 3"),
        ("# TYPE h counter\nh_bucket{le=\"+Inf\"} 3\n", "h_bucket{le=\"+Inf\"} 3"),
        (
            "# TYPE g histogram\nh_bucket{le=\"+Inf\"} 3\n",
            "h_bucket{le=\"+Inf\"} 3",
        ),
        ("# TYPE h histogram\nh_bucket 3\n", "h_bucket 3"),
        ("# TYPE h histogram\nh_bucket{le=\"x\"} 3\n", "h_bucket{le=\"x\"} 3"),
        ("# TYPE h histogram\nh_bucket{le=\"NaN\"} 3\n", "h_bucket{le=\"NaN\"} 3"),
        ("# TYPE h histogram\nh 3\n", "h 3"),
        ("# TYPE h histogram\nh_created 3\n", "h_created 3"),
    ] {
        assert_eq!(text(&converting(), body), [expected], "{body}");
    }
}

#[test]
fn anything_between_its_lines_ends_a_histogram() {
    for between in [
        "# a comment\n",
        "# HELP h Help.\n",
        "# TYPE h histogram\n",
        "h_created 1\n",
        "h_bucket{x=\"y\",le=\"1\"} 0\n",
    ] {
        let body = format!("# TYPE h histogram\nh_bucket{{le=\"1\"}} 2\n{between}h_bucket{{le=\"2\"}} 3\n");
        let mut rig = rig(50, 4_000);
        let shot = rig.scrape(&converting(), &body);
        let first = &lines(&mut rig, &shot)[0];
        assert_eq!(first, "h 2|0|[1.0]|[(0, 1)]|[2]", "{between}");
        assert_eq!(
            rig.reports.counters.duplicate, 1,
            "{between}: the rest is a second sample of the series"
        );
    }
    // What passes as a sample with the same labels does not.
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 2\n\nh_bucket{le=\"x\"} 9\nh_count 5\n";
    assert_eq!(
        text(&converting(), body),
        ["h_bucket{le=\"x\"} 9", "h 5|0|[1.0]|[(0, 2)]|[2, 1]"]
    );
}

#[test]
fn what_is_no_histogram_is_counted_and_harms_no_other() {
    let body = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 2\nh_bucket{a=\"1\",le=\"2\"} 1\nh_bucket{a=\"2\",le=\"1\"} 1\n";
    let mut rig = rig(50, 4_000);
    let shot = rig.scrape(&converting(), body);
    assert_eq!(lines(&mut rig, &shot), ["h{a=\"2\"} 1|0|[1.0]|[(0, 1)]|[1]"]);
    assert_eq!(
        (shot.counts, rig.reports.counters.histograms_unconvertible),
        ([1, 1, 1], 1)
    );
}

#[test]
fn counts_and_limits_are_those_of_what_is_left() {
    let mut rig = rig(50, 4_000);
    let mut target = converting();
    target.limits.samples = 1;
    let shot = rig.scrape(&target, ONE);
    assert_eq!((shot.up, shot.counts), (true, [1, 1, 1]));
    target.limits.samples = 4;
    target.histograms = Histograms {
        native: false,
        classic_too: true,
    };
    let shot = rig.scrape(&target, ONE);
    assert_eq!((shot.up, shot.counts), (false, [5, 5, 4]), "{}", shot.error);
    target.limits.samples = 0;
    target.resolution = Resolution {
        bucket_limit: 1,
        ..Resolution::default()
    };
    let shot = rig.scrape(&target, ONE);
    assert_eq!(
        (shot.up, shot.error.as_str()),
        (
            false,
            "native histogram has more than native_histogram_bucket_limit (1) buckets at the lowest resolution"
        )
    );
}

#[test]
fn rules_see_the_series_that_is_left() {
    let mut target = converting();
    target.metric_relabel = rules(&[(Action::Drop, &["__name__"], "h_bucket")]);
    assert_eq!(text(&target, ONE), [ONE_CONVERTED]);
    target.metric_relabel = rules(&[(Action::Drop, &["__name__"], "h")]);
    assert!(text(&target, ONE).is_empty());
}

#[test]
fn the_timestamp_is_that_of_the_line_read_last() {
    let body = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 2 1000\nh_count{a=\"1\"} 2 2000\nh_bucket{a=\"2\",le=\"1\"} 1 3000\nh_count{a=\"2\"} 1 4000\n";
    assert_eq!(
        text(&converting(), body),
        [
            "h{a=\"1\"} 2|0|[1.0]|[(0, 1)]|[2] @3000",
            "h{a=\"2\"} 1|0|[1.0]|[(0, 1)]|[1] @4000"
        ]
    );
}

#[test]
fn a_series_that_goes_is_marked() {
    let mut rig = rig(50, 4_000);
    rig.scrape(&converting(), ONE);
    let shot = rig.scrape(&converting(), "a 1\n");
    assert_eq!(shot.stale, ["h{a=\"b\",job=\"j\"}"]);
    let shot = rig.scrape(&target(), ONE);
    assert_eq!(
        (shot.samples.len(), shot.stale.len()),
        (4, 1),
        "without conversion they are what they were"
    );
}

#[test]
fn exemplars_go_to_the_histogram_oldest_first() {
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 2 # {t=\"b\"} 0.5 20\nh_bucket{le=\"2\"} 2 # {t=\"c\"} 0.4\nh_bucket{le=\"+Inf\"} 3 # {t=\"a\"} 7 10\nh_count 3\n# EOF\n";
    for target in [converting(), keeping()] {
        let mut rig = rig(50, 4_000);
        let shot = rig.scrape_as(&target, OPEN_METRICS, body);
        assert!(shot.up, "{}", shot.error);
        let last = shot.samples.len() - 1;
        let found: Vec<_> = extras(&mut rig)
            .into_iter()
            .filter(|line| !line.contains("bytes"))
            .collect();
        assert_eq!(
            found,
            [
                format!("{last} {{t=\"a\"}} 7 Some(10000)"),
                format!("{last} {{t=\"b\"}} 0.5 Some(20000)")
            ]
        );
    }
}

#[test]
fn exemplars_beyond_the_room_are_counted() {
    let line = |n: usize| format!("h_bucket{{le=\"{n}\"}} {n} # {{}} 1 {n}\n");
    let body: String = (1..=MAX_EXEMPLARS + 2).map(line).collect();
    let mut rig = rig(50, 8_000);
    let shot = rig.scrape_as(
        &converting(),
        OPEN_METRICS,
        &format!("# TYPE h histogram\n{body}# EOF\n"),
    );
    assert!(shot.up, "{}", shot.error);
    assert_eq!(
        (rig.reports.counters.exemplars, rig.reports.counters.exemplars_no_room),
        (64, 2)
    );
}

#[test]
fn a_created_line_tells_when_the_histogram_began() {
    let mut target = converting();
    target.start_times = true;
    let body = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 2\nh_created{a=\"1\"} 1.5\nh_bucket{a=\"2\",le=\"1\"} 2\nh_count{a=\"2\"} 2\n# EOF\n";
    let mut rig = rig(50, 4_000);
    let shot = rig.scrape_as(&target, OPEN_METRICS, body);
    assert_eq!(lines(&mut rig, &shot).len(), 2);
    let starts: Vec<_> = extras(&mut rig)
        .into_iter()
        .filter(|line| line.contains("since"))
        .collect();
    assert_eq!(starts, ["0 since 1500"]);
}

/// As much of `io.prometheus.client` as a histogram needs.
mod exposed {
    use super::Span;
    use alloc::string::String;
    use alloc::vec::Vec;
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub struct Family {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(int32, tag = "3")]
        pub kind: i32,
        #[prost(message, repeated, tag = "4")]
        pub metrics: Vec<Metric>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Metric {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Pair>,
        #[prost(int64, tag = "6")]
        pub timestamp_ms: i64,
        #[prost(message, optional, tag = "7")]
        pub histogram: Option<Histogram>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Pair {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Histogram {
        #[prost(uint64, tag = "1")]
        pub count: u64,
        #[prost(double, tag = "2")]
        pub sum: f64,
        #[prost(message, repeated, tag = "3")]
        pub buckets: Vec<Bucket>,
        #[prost(message, repeated, tag = "12")]
        pub spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "13")]
        pub deltas: Vec<i64>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Bucket {
        #[prost(uint64, tag = "1")]
        pub cumulative: u64,
        #[prost(double, tag = "2")]
        pub bound: f64,
    }
}

/// Two histograms of one family: one classic, one native with classic buckets.
fn family(kind: i32) -> Vec<u8> {
    use exposed::{Bucket, Family, Histogram, Metric, Pair};
    let metric = |label: &str, spans: Vec<Span>, deltas| Metric {
        labels: alloc::vec![Pair {
            name: "a".to_string(),
            value: label.to_string(),
        }],
        timestamp_ms: if label == "1" { 5_000 } else { 0 },
        histogram: Some(Histogram {
            count: 3,
            sum: 4.5,
            buckets: alloc::vec![Bucket {
                cumulative: 2,
                bound: 1.0
            }],
            spans,
            deltas,
        }),
    };
    let native = metric("2", alloc::vec![Span { offset: 0, len: 1 }], alloc::vec![3]);
    let family = Family {
        name: "h".to_string(),
        kind,
        metrics: alloc::vec![metric("1", Vec::new(), Vec::new()), native],
    };
    family.encode_length_delimited_to_vec()
}

fn protobuf(target: &Target, body: &[u8]) -> (Rig, Shot) {
    let mut rig = rig(50, 4_000);
    rig.begin(target, PROTOBUF);
    rig.feed(target, body).unwrap();
    let shot = rig.finish(target, Outcome::Complete);
    (rig, shot)
}

#[test]
fn histograms_of_protobuf_are_converted_too() {
    let (mut rig, shot) = protobuf(&converting(), &family(4));
    let first = "h{a=\"1\"} 3|4.5|[1.0]|[(0, 2)]|[2, -1]";
    let expected = [format!("{first} @5000"), first.replace("\"1\"", "\"2\"")];
    assert_eq!(lines(&mut rig, &shot), expected);
    let (mut rig, shot) = protobuf(&converting(), &family(5));
    assert_eq!(
        (shot.samples.len(), extras(&mut rig).len()),
        (8, 0),
        "gauge histograms stay what they are"
    );
}

#[test]
fn a_native_histogram_stays_and_so_do_its_classic_lines() {
    let mut target = converting();
    target.histograms.native = true;
    let (mut rig, shot) = protobuf(&target, &family(4));
    assert_eq!(
        shot.series(),
        ["h{a=\"1\",job=\"j\"}", "h{a=\"2\",job=\"j\"}"],
        "{}",
        shot.error
    );
    assert_eq!(extras(&mut rig).len(), 2);
    target.histograms.classic_too = true;
    let (mut rig, shot) = protobuf(&target, &family(4));
    // Four lines and the histogram they make, the native one, four lines.
    assert_eq!((shot.samples.len(), extras(&mut rig).len()), (10, 2), "{}", shot.error);
}
