//! What samples carry: SCR-841 to SCR-848, and metadata.

use super::*;
use crate::exposition::{Histograms, Resolution};
use crate::extras::Extra;
use crate::metadata::Entry;
use crate::scrape::carried::MAX_EXEMPLAR_CHARS;
use crate::series::Newest;
use alloc::vec;

pub(super) const PROTOBUF: Option<&[u8]> =
    Some(b"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited");

/// A rig for up to `max_series` series whose frames have room for `extras` bytes of what samples carry.
pub(super) fn rig(max_series: usize, extras: usize) -> Rig {
    let mut rig = Rig::new(max_series);
    rig.session = Session::new(SessionSize {
        max_samples: max_series,
        line_bytes: 20_000,
        label_bytes: 4_096,
        extras_bytes: extras,
        converts: true,
    });
    rig.table = SeriesTable::new(max_series, 2 * max_series, 4, 1).with_exemplars();
    rig
}

/// What the last frame's samples carry, as text; histograms as their messages' first bytes.
pub(super) fn extras(rig: &mut Rig) -> Vec<String> {
    let frame = rig.session.frame();
    let line = |extra: Extra<'_>| match extra {
        Extra::Histogram { position, message } => format!("{position} histogram of {} bytes", message.len()),
        Extra::Exemplar {
            position,
            unix_ms,
            value,
            labels,
        } => format!("{position} {{{labels}}} {} {unix_ms:?}", f64::from_bits(value)),
        Extra::StartTime { position, unix_ms } => format!("{position} since {unix_ms}"),
    };
    frame.extras.iter().map(line).collect()
}

/// A scrape of OpenMetrics, and what its samples carry.
fn open_metrics(rig: &mut Rig, target: &Target, body: &str) -> Vec<String> {
    let shot = rig.scrape_as(target, OPEN_METRICS, &format!("{body}# EOF\n"));
    assert!(shot.up, "{}", shot.error);
    extras(rig)
}

#[test]
fn scr_843_exemplars_are_kept_once_each_and_in_order() {
    let mut rig = rig(10, 1_000);
    let target = target();
    let body = |exemplar: &str| format!("a_total 1\nb_total{{x=\"y\"}} 2 # {exemplar}\n");
    for (exemplar, expected) in [
        (
            "{b=\"2\",a=\"1\"} 0.5 10.5",
            vec!["1 {a=\"1\",b=\"2\"} 0.5 Some(10500)"],
        ),
        ("{a=\"1\",b=\"2\"} 0.5 10.5", vec![]),
        ("{a=\"1\",b=\"2\"} 0.5 10.4", vec![]),
        (
            "{a=\"1\",b=\"2\"} 0.7 10.5",
            vec!["1 {a=\"1\",b=\"2\"} 0.7 Some(10500)"],
        ),
        ("{} 0.7", vec!["1 {} 0.7 None"]),
        ("{} 0.7", vec![]),
        ("{} 0.8", vec!["1 {} 0.8 None"]),
    ] {
        assert_eq!(open_metrics(&mut rig, &target, &body(exemplar)), expected, "{exemplar}");
    }
    let counters = rig.reports.counters;
    assert_eq!(
        (
            counters.exemplars,
            counters.exemplars_duplicate,
            counters.exemplars_out_of_order
        ),
        (4, 2, 1)
    );
}

#[test]
fn scr_843_long_and_invalid_exemplars_leave_the_scrape_alone() {
    let mut rig = rig(10, 1_000);
    let target = target();
    let fits = "ü".repeat(MAX_EXEMPLAR_CHARS - 1);
    let body = |label: &str| format!("a_total 1 # {{{label}}} 1\n");
    assert_eq!(
        open_metrics(&mut rig, &target, &body(&format!("a=\"{fits}\""))).len(),
        1
    );
    assert_eq!(
        open_metrics(&mut rig, &target, &body(&format!("ab=\"{fits}\""))).len(),
        0
    );
    assert_eq!(open_metrics(&mut rig, &target, &body("a=\"1\",a=\"2\"")).len(), 0);
    let counters = rig.reports.counters;
    assert_eq!((counters.exemplars_too_long, counters.exemplars_invalid), (1, 1));
}

#[test]
fn a_failed_scrape_does_not_use_up_its_exemplars() {
    let mut rig = rig(10, 1_000);
    let target = target();
    let body = "a_total 1 # {x=\"y\"} 1 5\n";
    assert!(!rig.scrape_as(&target, OPEN_METRICS, body).up, "no EOF");
    assert!(extras(&mut rig).is_empty() && rig.reports.counters.exemplars == 0);
    assert_eq!(open_metrics(&mut rig, &target, body).len(), 1);
    // Nor does a sample that was refused carry one.
    let twice = "a_total 1\na_total 1 # {x=\"z\"} 1 6\n";
    assert!(open_metrics(&mut rig, &target, twice).is_empty());
}

#[test]
fn exemplars_beyond_the_room_are_counted_and_the_samples_stay() {
    let mut rig = rig(10, 25);
    let shot = rig.scrape_as(
        &target(),
        OPEN_METRICS,
        "a_total 1 # {} 1\nb_total 2 # {x=\"much too long\"} 1\nc_total 3\n# EOF\n",
    );
    assert_eq!((shot.samples.len(), extras(&mut rig).len()), (3, 1));
    assert_eq!(rig.reports.counters.exemplars_no_room, 1);
    let mut nobody_asked = Rig::new(10);
    assert!(open_metrics(&mut nobody_asked, &target(), "a_total 1 # {} 1\n").is_empty());
    assert_eq!(nobody_asked.reports.counters.exemplars_no_room, 0);
}

#[test]
fn scr_846_created_lines_are_series_unless_start_times_are_asked_for() {
    let body = "# TYPE a counter\na_total{x=\"1\"} 5\na_created{x=\"1\"} 1.5\na_total{x=\"2\"} 6\na_created{x=\"2\"} 2.5\n\
                # TYPE h histogram\nh_bucket{le=\"+Inf\",x=\"1\"} 1\nh_count{x=\"1\"} 1\nh_sum{x=\"1\"} 1\nh_created{x=\"1\"} 1e9\n\
                # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\ns_created 7\n\
                # TYPE g gauge\ng_created 3\n\
                # TYPE d counter\nd_created 3\nd_total 4\n# TYPE e counter\ne_total{x=\"1\"} 1\ne_created{x=\"2\"} 9\n";
    let mut as_series = rig(40, 1_000);
    assert!(open_metrics(&mut as_series, &target(), body).is_empty());
    assert_eq!(as_series.session.frame().counts.scraped, 17);
    let mut as_times = rig(40, 1_000);
    let mut target = target();
    target.start_times = true;
    let expected = [
        "0 since 1500",
        "1 since 2500",
        "2 since 1000000000000",
        "3 since 1000000000000",
        "4 since 1000000000000",
        "5 since 7000",
        "6 since 7000",
        "7 since 7000",
    ];
    assert_eq!(open_metrics(&mut as_times, &target, body), expected);
    let frame = as_times.session.frame();
    assert_eq!(
        (frame.counts.scraped, frame.samples.len()),
        (11, 11),
        "hidden lines do not count"
    );
}

/// A family: name, type, and its metrics' messages.
fn family(name: &str, kind: u8, metrics: &[Vec<u8>]) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8][..], bytes].concat();
    let mut message = field(0x0A, name.as_bytes());
    message.extend([0x12, 4, b'h', b'e', b'l', b'p', 0x18, kind]);
    for metric in metrics {
        message.extend(field(0x22, metric));
    }
    assert!(message.len() < 128);
    [&[message.len() as u8][..], &message].concat()
}

/// A metric with a histogram of these fields.
fn histogram(fields: &[u8]) -> Vec<u8> {
    [&[0x3A, fields.len() as u8][..], fields].concat()
}

/// Count 3, sum 0, schema 0; a span of three buckets, one observation in each.
const THREE: &[u8] = &[0x08, 3, 0x62, 4, 0x08, 0, 0x10, 3, 0x6A, 3, 2, 0, 0];

fn native() -> Target {
    let mut target = target();
    target.histograms = Histograms {
        native: true,
        classic_too: false,
    };
    target
}

fn protobuf(rig: &mut Rig, target: &Target, body: &[u8]) -> Shot {
    rig.begin(target, PROTOBUF);
    let _ = rig.feed(target, body);
    rig.finish(target, Outcome::Complete)
}

#[test]
fn scr_848_native_histograms_are_samples_that_carry_their_buckets() {
    let mut rig = rig(10, 1_000);
    let body = [family("h", 4, &[histogram(THREE)]), family("g", 1, &[vec![]])].concat();
    for added in [2, 0] {
        let shot = protobuf(&mut rig, &native(), &body);
        assert_eq!(shot.series(), ["h{job=\"j\"}", "g{job=\"j\"}"], "{}", shot.error);
        assert_eq!((shot.samples[0].1, shot.counts), (3.0, [2, 2, added]));
        // Count, zero count, one span, its tag and length, three differences with theirs.
        assert_eq!(extras(&mut rig), ["0 histogram of 13 bytes"]);
    }
    let series = rig.session.frame().samples[0].series;
    assert_eq!(rig.catalogue.kind(series), MetricType::Histogram);
    // As a classic histogram it is three other series, and the native one has ended.
    let shot = protobuf(&mut rig, &target(), &body);
    assert_eq!(
        shot.series()[..3],
        [
            "h_count{job=\"j\"}",
            "h_sum{job=\"j\"}",
            "h_bucket{job=\"j\",le=\"+Inf\"}"
        ]
    );
    assert_eq!(
        (shot.stale, extras(&mut rig).len()),
        (vec!["h{job=\"j\"}".to_string()], 0)
    );
}

#[test]
fn a_series_that_turns_from_float_to_histogram_and_back_goes_on() {
    let mut rig = rig(10, 1_000);
    let float = family("h", 1, &[vec![]]);
    let body = family("h", 4, &[histogram(THREE)]);
    for (body, carried) in [(&float, 0), (&body, 1), (&float, 0)] {
        let shot = protobuf(&mut rig, &native(), body);
        assert_eq!((shot.samples.len(), shot.stale.len()), (1, 0));
        assert_eq!(extras(&mut rig).len(), carried);
    }
    assert_eq!(rig.catalogue.len(), 1);
}

#[test]
fn a_histogram_without_room_is_refused_alone_and_its_series_goes_on() {
    let body = [family("h", 4, &[histogram(THREE)]), family("g", 1, &[vec![]])].concat();
    for room in [0, 5, 15] {
        let mut rig = rig(10, room);
        for _ in 0..2 {
            let shot = protobuf(&mut rig, &native(), &body);
            assert!(shot.up && shot.stale.is_empty(), "{}", shot.error);
            assert_eq!(
                (shot.series(), shot.counts[..2].to_vec()),
                (vec!["g{job=\"j\"}"], vec![2, 2])
            );
        }
        assert_eq!(rig.reports.counters.histograms_no_room, 2);
        assert_eq!(rig.catalogue.len(), 2, "tracked like any refused sample (SCR-809)");
    }
}

#[test]
fn duplicates_order_and_times_are_judged_as_of_floats() {
    let mut rig = rig(10, 1_000);
    let at = |ms: u8| [histogram(THREE), vec![0x30, ms]].concat();
    let target = native();
    let shot = protobuf(&mut rig, &target, &family("h", 4, &[at(0), at(0)]));
    assert_eq!(
        (shot.samples.len(), extras(&mut rig).len()),
        (1, 1),
        "the second is a duplicate"
    );
    rig.table.set_newest(
        rig.session.frame().samples[0].series,
        Newest {
            unix_ms: 4,
            explicit: true,
        },
    );
    let shot = protobuf(&mut rig, &target, &family("h", 4, &[at(5), at(4), at(6)]));
    let times: Vec<_> = shot.samples.iter().map(|(_, _, time)| *time).collect();
    assert_eq!(times, [Some(5), Some(6)]);
    assert_eq!(extras(&mut rig), ["0 histogram of 13 bytes", "1 histogram of 13 bytes"]);
    let counters = rig.reports.counters;
    assert_eq!((counters.duplicate, counters.out_of_order), (1, 1));
}

#[test]
fn a_histogram_that_contradicts_itself_fails_the_scrape_and_counts_as_scraped() {
    let wrong = [&[0x08, 9], &THREE[2..]].concat();
    let body = [family("g", 1, &[vec![]]), family("h", 4, &[histogram(&wrong)])].concat();
    let mut rig = rig(10, 1_000);
    let shot = protobuf(&mut rig, &native(), &body);
    assert_eq!((shot.up, shot.counts), (false, [2, 1, 1]));
    assert!(
        shot.error
            .ends_with("buckets of a native histogram do not add up to its count"),
        "{}",
        shot.error
    );
}

#[test]
fn limits_hold_for_histograms() {
    let body = [family("h", 4, &[histogram(THREE)]), family("g", 1, &[vec![]])].concat();
    let mut target = native();
    target.resolution = Resolution {
        max_schema: 8,
        bucket_limit: 2,
    };
    let mut rig = rig(10, 1_000);
    assert!(protobuf(&mut rig, &target, &body).up, "three buckets become two");
    target.resolution.bucket_limit = 1;
    let shot = protobuf(&mut rig, &target, &body);
    assert_eq!(
        (shot.up, shot.counts, shot.error.as_str()),
        (
            false,
            [2, 2, 0],
            "native histogram has more than native_histogram_bucket_limit (1) buckets at the lowest resolution"
        )
    );
    assert_eq!(rig.reports.counters.exceeded_bucket_limit, 1);
    target.resolution.bucket_limit = 0;
    target.limits.samples = 1;
    let shot = protobuf(&mut rig, &target, &body);
    assert_eq!((shot.up, shot.counts[..2].to_vec()), (false, vec![2, 2]));
    target.limits = Limits {
        labels: 1,
        ..Limits::default()
    };
    let mut rig = self::rig(10, 1_000);
    assert!(
        protobuf(&mut rig, &target, &body)
            .error
            .ends_with("series has 2 labels, label_limit is 1")
    );
}

#[test]
fn protobuf_start_times_are_carried_if_asked_for() {
    // Value 2, created at 5 s.
    let counter = [0x1A, 13, 0x09, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x1A, 2, 0x08, 5];
    let body = family("c_total", 0, &[counter.to_vec()]);
    let mut rig = rig(10, 1_000);
    let mut target = target();
    protobuf(&mut rig, &target, &body);
    assert!(extras(&mut rig).is_empty());
    target.start_times = true;
    let shot = protobuf(&mut rig, &target, &body);
    assert_eq!(
        (shot.samples[0].1, extras(&mut rig)),
        (2.0, vec!["0 since 5000".to_string()])
    );
}

#[test]
fn protobuf_is_refused_by_a_session_that_was_not_made_for_it() {
    let mut rig = Rig::new(4);
    let shot = protobuf(&mut rig, &target(), &family("g", 1, &[vec![]]));
    assert!(!shot.up && shot.error.contains("PrometheusProto"), "{}", shot.error);
}

#[test]
fn scr_845_metadata_is_what_the_target_said_last() {
    let mut rig = rig(10, 0);
    let target = target();
    rig.scrape_as(
        &target,
        OPEN_METRICS,
        "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\n# HELP a_seconds Time.\na_seconds 1\n# EOF\n",
    );
    protobuf(&mut rig, &target, &family("h", 5, &[histogram(THREE)]));
    let entry = |kind, help, unit| Some(Entry { kind, help, unit });
    assert_eq!(
        rig.metadata.find("a_seconds"),
        entry(MetricType::Gauge, "Time.", "seconds")
    );
    assert_eq!(rig.metadata.find("h"), entry(MetricType::GaugeHistogram, "help", ""));
    for _ in 0..10 {
        rig.scrape(&target, "b 1\n");
    }
    assert!(rig.metadata.find("a_seconds").is_none() && rig.metadata.find("h").is_some());
}
