use super::*;
use crate::catalogue::{Catalogue, SeriesText};
use crate::frame::FrameNo;
use crate::remote_write::testkit::{Frames, NO_BOUNDS, Scrape, Sent, decode, limits};
use crate::sample::STALE_NAN_BITS;
use crate::sample::{MetricType, SeriesRef, TargetRef};
use alloc::string::String;
use alloc::vec::Vec;

const LIMITS: BatchLimits = limits(1000);

struct Bench {
    batch: Batch,
    frame: Frame,
    identity: Identity,
}

impl Bench {
    fn new(limits: BatchLimits) -> Self {
        Self {
            batch: Batch::new(limits, 1),
            frame: Frame::with_extras(limits.frame_samples, limits.extras_bytes),
            identity: Identity::new(&[], crate::relabel::Relabel::default()),
        }
    }

    fn gather(&mut self, source: &mut Frames, bounds: &Bounds) -> Stop {
        self.batch
            .gather(source, &mut self.frame, &mut self.identity, bounds)
            .expect("medium works")
    }

    fn sealed(&mut self, layout: Layout, protocol: Protocol) -> Vec<Sent> {
        self.batch.seal(layout);
        decode(self.batch.body(), protocol)
    }
}

fn value(v: f64) -> u64 {
    v.to_bits()
}

fn names(sent: &[Sent]) -> Vec<&str> {
    let name = |s| crate::remote_write::testkit::label(s, "__name__").unwrap_or_default();
    sent.iter().map(name).collect()
}

#[test]
fn a_frame_is_samples_then_markers_then_synthetic_series() {
    let mut source = Frames::new(3);
    let mut scrape = Scrape::new(7, 1000, &[(1, 11), (0, 10)]);
    scrape.stale = alloc::vec![2];
    source.scrapes.push(scrape);
    let mut bench = Bench::new(LIMITS);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::End);
    assert_eq!((bench.batch.samples(), bench.batch.frames()), (8, 1));
    assert_eq!(bench.batch.end(), Place::before(FrameNo(8)));
    let sent = bench.sealed(Layout::Grouped, Protocol::V2);
    let mut expected = alloc::vec!["metric_1", "metric_0", "metric_2"];
    expected.extend(&SYNTHETIC[..USUAL_SYNTHETIC]);
    assert_eq!(names(&sent), expected);
    assert_eq!(sent[0].labels, "__name__=metric_1;instance=box;job=node;n=1;");
    assert_eq!(sent[3].labels, "__name__=up;instance=box;job=node;");
    let samples: Vec<_> = sent.iter().flat_map(|s| s.samples.clone()).collect();
    let values = [11.0, 10.0, f64::NAN, 1.0, 0.0125, 2.0, 2.0, 0.0];
    for (i, (&(bits, time), expected)) in samples.iter().zip(values).enumerate() {
        assert_eq!(time, 1000);
        let expected = if i == 2 { STALE_NAN_BITS } else { value(expected) };
        assert_eq!(bits, expected, "sample {i}");
    }
    assert!(sent.iter().all(|s| s.kind == MetricType::Gauge));
}

#[test]
fn live_series_of_2_0_stand_beside_their_like_where_they_have_one_time() {
    let mut source = Frames::new(0);
    source.catalogue = Catalogue::new(10, 1000, 1);
    source
        .catalogue
        .set_target(TargetRef(0), r#"instance="box""#)
        .expect("fits");
    for (name, body, kind) in [
        ("labelled", r#"n="1""#, MetricType::Gauge),
        ("counter", "", MetricType::Counter),
        ("odd", "", MetricType::Gauge),
        ("round", "", MetricType::Gauge),
        ("zero", "", MetricType::Gauge),
        ("dated", "", MetricType::Gauge),
    ] {
        let text = SeriesText { name, body };
        source.catalogue.define(TargetRef(0), text, kind).expect("fits");
    }
    // A value of few significant bits begins with zeros in the body.
    let samples = [(0, 0), (1, 1), (2, 12_345_679), (3, 1024), (4, 0), (5, 7)];
    let mut scrape = Scrape::new(0, 2000, &samples);
    scrape.explicit = alloc::vec![(5, 1000)];
    source.scrapes.push(scrape);
    let mut bench = Bench::new(LIMITS);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::End);
    let sent = bench.sealed(Layout::Live, Protocol::V2);
    let names: Vec<_> = names(&sent)
        .into_iter()
        .filter(|name| !name.starts_with("scrape_"))
        .collect();
    assert_eq!(names, ["counter", "zero", "round", "odd", "labelled", "dated", "up"]);
    let times: Vec<_> = sent.iter().map(|s| s.samples[0].1).collect();
    assert_eq!(times, [&[2000; 5][..], &[1000], &[2000; 5]].concat());
}

#[test]
fn both_messages_and_layouts_say_the_same() {
    let mut source = Frames::new(50);
    for n in 0..4 {
        let samples: Vec<_> = (0..10).map(|i| ((i * 3 + n as u16) % 50, i64::from(i) - 4)).collect();
        source
            .scrapes
            .push(Scrape::new(n, 1_700_000_000_000 + n as i64 * 15_000, &samples));
    }
    let mut flat = Vec::new();
    for protocol in [Protocol::V1, Protocol::V2] {
        for layout in [Layout::Live, Layout::Grouped] {
            let mut bench = Bench::new(LIMITS);
            bench.batch.begin(Place::default(), protocol);
            source.position = 0;
            assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::End);
            let sent = bench.sealed(layout, protocol);
            let distinct: alloc::collections::BTreeSet<_> = sent.iter().map(|s| s.labels.clone()).collect();
            match layout {
                Layout::Live => assert!(sent.iter().all(|s| s.samples.len() == 1)),
                Layout::Grouped => assert_eq!(distinct.len(), sent.len(), "one entry per series"),
            }
            let each = |s: &Sent| {
                let labels = s.labels.clone();
                s.samples
                    .clone()
                    .into_iter()
                    .map(move |(bits, time)| (labels.clone(), time, bits))
            };
            let mut all: Vec<(String, i64, u64)> = sent.iter().flat_map(each).collect();
            all.sort();
            flat.push(all);
        }
    }
    assert_eq!(flat[0].len(), 60);
    assert!(flat.windows(2).all(|w| w[0] == w[1]));
}

#[test]
fn whole_frames_only_and_the_source_stands_at_the_next() {
    let mut source = Frames::new(60);
    for n in 0..4 {
        let samples: Vec<_> = (0..35).map(|i| (i, 1)).collect();
        source.scrapes.push(Scrape::new(n, 1000 + n as i64, &samples));
    }
    let mut bench = Bench::new(LIMITS);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::Full);
    assert_eq!((bench.batch.samples(), bench.batch.frames()), (80, 2));
    assert_eq!(source.seeks, 0, "a third frame of that size is not even read");
    bench.batch.begin(bench.batch.end(), Protocol::V2);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::Full);
    assert_eq!(bench.batch.end(), Place::before(FrameNo(4)));
}

#[test]
fn a_frame_read_in_vain_is_read_again() {
    let mut source = Frames::new(60);
    source.scrapes.push(Scrape::new(0, 1000, &[(0, 1)]));
    let samples: Vec<_> = (0..94).map(|i| (i % 60, 1)).take(60).collect();
    source.scrapes.push(Scrape::new(1, 2000, &samples));
    let mut small = Scrape::new(2, 3000, &samples[..35]);
    small.target = 0;
    source.scrapes.push(small);
    let mut bench = Bench::new(LIMITS);
    // 6 + 65 fit, 40 more do not; but 65 more would not either, so the last is not read.
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::Full);
    assert_eq!((bench.batch.samples(), source.seeks), (71, 0));
    let mut source = Frames::new(120);
    source.scrapes.push(Scrape::new(0, 1000, &[(0, 1)]));
    let samples: Vec<_> = (0..120).map(|i| (i, 1)).collect();
    source.scrapes.push(Scrape::new(1, 2000, &samples));
    bench.batch.begin(Place::default(), Protocol::V2);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::Full);
    assert_eq!((bench.batch.samples(), source.seeks, source.position), (6, 1, 1));
    assert_eq!(bench.sealed(Layout::Grouped, Protocol::V2).len(), 6);
}

#[test]
fn a_frame_larger_than_the_batch_is_split_in_order_with_one_time() {
    let mut source = Frames::new(230);
    let samples: Vec<_> = (0..230).map(|i| (i, i64::from(i))).collect();
    source.scrapes.push(Scrape::new(5, 1000, &samples));
    let mut bench = Bench::new(LIMITS);
    let mut seen = Vec::new();
    let mut ends = Vec::new();
    for _ in 0..3 {
        let stop = bench.gather(&mut source, &NO_BOUNDS);
        ends.push((bench.batch.end().frame.0, bench.batch.end().part, stop));
        seen.extend(bench.sealed(Layout::Grouped, Protocol::V2));
        let end = bench.batch.end();
        bench.batch.finish();
        bench.batch.begin(end, Protocol::V2);
    }
    assert_eq!(ends, [(5, 100, Stop::Full), (5, 200, Stop::Full), (6, 0, Stop::End)]);
    assert_eq!(seen.len(), 235);
    assert_eq!(names(&seen[230..]), SYNTHETIC[..USUAL_SYNTHETIC]);
    assert!(seen.iter().all(|s| s.samples[0].1 == 1000));
}

#[test]
fn extra_scrape_metrics_are_three_more_series_and_the_end_of_a_target_marks_them_all() {
    let mut source = Frames::new(1);
    let extra = Some(crate::frame::ExtraMetrics {
        timeout_ms: 10_500,
        sample_limit: 0,
        body_bytes: -1,
    });
    for (number, ended) in [(1, false), (2, true)] {
        let mut scrape = Scrape::new(number, 1000 * number as i64, &[]);
        scrape.notes = crate::frame::Notes { ended, extra };
        source.scrapes.push(scrape);
    }
    source.scrapes.push(Scrape::new(3, 3000, &[(0, 1)]));
    let mut bench = Bench::new(LIMITS);
    bench.batch.begin(Place::default(), Protocol::V1);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::End);
    let sent = bench.sealed(Layout::Live, Protocol::V1);
    assert_eq!(names(&sent[..8]), SYNTHETIC);
    let bits: Vec<u64> = sent.iter().map(|series| series.samples[0].0).collect();
    assert_eq!(bits[5..8], [10.5f64, 0.0, -1.0].map(f64::to_bits));
    assert_eq!(names(&sent[8..16]), SYNTHETIC);
    assert!(
        bits[8..16]
            .iter()
            .all(|&bits| bits == crate::sample::Number::STALE.to_bits())
    );
    assert_eq!(sent.len(), 8 + 8 + 1 + USUAL_SYNTHETIC);
}

#[test]
fn strings_running_out_end_the_batch_before_the_frame() {
    let limits = BatchLimits {
        samples: 2000,
        ..LIMITS
    };
    let mut bench = Bench::new(limits);
    let mut source = Frames::new(0);
    source.catalogue = Catalogue::new(1000, 1 << 20, 4);
    let long = "x".repeat(1000);
    for i in 0..200_u16 {
        let (name, body) = (alloc::format!("metric_{i}"), alloc::format!(r#"n="{i}{long}""#));
        let text = SeriesText {
            name: &name,
            body: &body,
        };
        source
            .catalogue
            .define(TargetRef(0), text, MetricType::Counter)
            .expect("fits");
    }
    for n in 0..10_u16 {
        let samples: Vec<_> = (0..20).map(|i| (n * 20 + i, 1)).collect();
        source
            .scrapes
            .push(Scrape::new(n.into(), 1000 + i64::from(n), &samples));
    }
    let mut total = 0;
    for _ in 0..4 {
        bench.gather(&mut source, &NO_BOUNDS);
        assert!(bench.batch.frames() <= 3);
        total += bench.batch.samples();
        assert!(bench.sealed(Layout::Live, Protocol::V2).len() >= 25);
        assert!(bench.batch.body().len() <= MIN_BODY_BYTES);
        let end = bench.batch.end();
        bench.batch.begin(end, Protocol::V2);
    }
    assert_eq!(total, 250);
    assert_eq!(*bench.batch.tally(), Tally::default());
}

#[test]
fn live_layout_gives_way_when_it_does_not_fit() {
    let limits = BatchLimits {
        samples: 4000,
        ..LIMITS
    };
    let mut source = Frames::new(20);
    for n in 0..160 {
        let samples: Vec<_> = (0..20).map(|i| (i, n * 7 + i64::from(i))).collect();
        source
            .scrapes
            .push(Scrape::new(n as u64, 1_700_000_000_000 + n * 1000, &samples));
    }
    let mut bench = Bench::new(limits);
    bench.batch.begin(Place::default(), Protocol::V1);
    bench.gather(&mut source, &NO_BOUNDS);
    assert!(bench.batch.samples() > 2000);
    assert_eq!(bench.batch.seal(Layout::Live), Layout::Grouped);
    let sent = decode(bench.batch.body(), Protocol::V1);
    assert_eq!(sent.len(), 25);
    assert!(bench.batch.body().len() <= MIN_BODY_BYTES);
}

#[test]
fn explicit_times_are_kept_and_sorted_within_a_series() {
    let mut source = Frames::new(3);
    let mut scrape = Scrape::new(0, 5000, &[(0, 1), (1, 2), (2, 3)]);
    scrape.explicit = alloc::vec![(1, 9000)];
    source.scrapes.push(scrape);
    let mut scrape = Scrape::new(1, 6000, &[(0, 4), (1, 5), (2, 6)]);
    scrape.explicit = alloc::vec![(1, 8000), (2, 0)];
    source.scrapes.push(scrape);
    let mut bench = Bench::new(LIMITS);
    bench.batch.begin(Place::default(), Protocol::V1);
    bench.gather(&mut source, &NO_BOUNDS);
    assert_eq!(bench.batch.time_range(), Some((UnixMillis(0), UnixMillis(9000))));
    let sent = bench.sealed(Layout::Grouped, Protocol::V1);
    assert_eq!(sent[1].samples, [(value(5.0), 8000), (value(2.0), 9000)]);
    assert_eq!(sent[2].samples, [(value(6.0), 0), (value(3.0), 5000)]);
}

#[test]
fn a_boundary_ends_the_batch_and_renames_the_series() {
    let mut source = Frames::new(2);
    source.scrapes.push(Scrape::new(0, 1000, &[(0, 1)]));
    source.scrapes.push(Scrape::new(1, 2000, &[(0, 2)]));
    source.boundaries = alloc::vec![0, 1];
    let mut bench = Bench::new(LIMITS);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::Full);
    assert_eq!(bench.batch.frames(), 1);
    let text = SeriesText {
        name: "other",
        body: "",
    };
    source
        .catalogue
        .define_at(SeriesRef(0), TargetRef(0), text, MetricType::Counter)
        .expect("fits");
    let end = bench.batch.end();
    bench.batch.begin(end, Protocol::V2);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::End);
    let sent = bench.sealed(Layout::Grouped, Protocol::V2);
    assert_eq!((names(&sent)[0], sent[0].kind), ("other", MetricType::Counter));
}

#[test]
fn unknown_time_holds_or_skips() {
    let mut source = Frames::new(2);
    source.scrapes.push(Scrape::new(0, 1000, &[(0, 1)]));
    source.scrapes.push(Scrape {
        unix_ms: None,
        ..Scrape::new(1, 0, &[(0, 2)])
    });
    source.scrapes.push(Scrape::new(2, 3000, &[(0, 3)]));
    let mut bench = Bench::new(LIMITS);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::TimeUnknown);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::TimeUnknown);
    assert_eq!((bench.batch.samples(), bench.batch.end().frame.0), (6, 1));
    source.scrapes[1].unix_ms = Some(2000);
    assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::End);
    assert_eq!(bench.batch.samples(), 18);
    source.scrapes[1].unix_ms = None;
    source.position = 0;
    bench.batch.begin(Place::default(), Protocol::V2);
    let skip = Bounds {
        unknown_time: UnknownTime::Skip,
        ..NO_BOUNDS
    };
    assert_eq!(bench.gather(&mut source, &skip), Stop::End);
    assert_eq!((bench.batch.samples(), bench.batch.tally().clock_unknown), (12, 6));
}

#[test]
fn a_clock_that_steps_back_does_not_take_times_back() {
    let mut source = Frames::new(2);
    for (n, time) in [100_000, 40_000, 41_000, 101_000, 102_000].into_iter().enumerate() {
        source.scrapes.push(Scrape::new(n as u64, time, &[(0, 1)]));
    }
    let mut other = Scrape::new(5, 50_000, &[]);
    other.target = 1;
    source.scrapes.push(other);
    let mut bench = Bench::new(LIMITS);
    bench.gather(&mut source, &NO_BOUNDS);
    assert_eq!(bench.batch.tally().held_back, 12);
    let sent = bench.sealed(Layout::Grouped, Protocol::V2);
    let times: Vec<i64> = sent[0].samples.iter().map(|s| s.1).collect();
    assert_eq!(times, [100_000, 100_001, 100_002, 101_000, 102_000]);
    assert_eq!(
        sent.last().map(|s| s.samples[0].1),
        Some(50_000),
        "each target has its own"
    );

    // Not accepted: nothing is held back next time. Accepted: it is, if the step is not too large.
    bench.batch.begin(Place::before(FrameNo(6)), Protocol::V2);
    source.scrapes.push(Scrape::new(6, 99_000, &[]));
    bench.gather(&mut source, &NO_BOUNDS);
    assert_eq!(bench.batch.time_range(), Some((UnixMillis(99_000), UnixMillis(99_000))));
    source.position = 0;
    bench.batch.begin(Place::default(), Protocol::V2);
    let five = Bounds {
        end: Some(Place::before(FrameNo(5))),
        ..NO_BOUNDS
    };
    bench.gather(&mut source, &five);
    bench.batch.finish();
    bench.batch.begin(Place::before(FrameNo(6)), Protocol::V2);
    source.position = 6;
    bench.gather(&mut source, &NO_BOUNDS);
    assert_eq!(
        bench.batch.time_range(),
        Some((UnixMillis(102_001), UnixMillis(102_001)))
    );
    source.scrapes.push(Scrape {
        boot_ms: -MAX_HELD_BACK_MS,
        ..Scrape::new(7, -MAX_HELD_BACK_MS, &[])
    });
    bench.batch.finish();
    bench.batch.begin(Place::before(FrameNo(7)), Protocol::V2);
    bench.gather(&mut source, &NO_BOUNDS);
    let time = UnixMillis(-MAX_HELD_BACK_MS);
    let tally = *bench.batch.tally();
    assert_eq!(
        (bench.batch.time_range(), tally.backward),
        (None, 5),
        "counted, not sent"
    );
    assert_eq!((tally.clock_span.first_ms, tally.clock_span.last_ms), (time.0, time.0));

    // The receiver's own clock says that what was sent lay in the future: a wrong clock was put right.
    bench.batch.begin(Place::before(FrameNo(7)), Protocol::V2);
    source.position = 7;
    let latest = Bounds {
        latest: Some(UnixMillis(100_000)),
        ..NO_BOUNDS
    };
    bench.gather(&mut source, &latest);
    assert_eq!(bench.batch.time_range(), Some((time, time)));
}

#[test]
fn too_old_samples_are_counted_not_sent() {
    let mut source = Frames::new(2);
    source.scrapes.push(Scrape::new(0, 1000, &[(0, 1)]));
    let mut scrape = Scrape::new(1, 2000, &[(0, 1), (1, 2)]);
    scrape.explicit = alloc::vec![(1, 1999)];
    source.scrapes.push(scrape);
    let mut bench = Bench::new(LIMITS);
    let bounds = Bounds {
        oldest: Some(UnixMillis(2000)),
        ..NO_BOUNDS
    };
    assert_eq!(bench.gather(&mut source, &bounds), Stop::End);
    assert_eq!((bench.batch.samples(), bench.batch.tally().too_old), (6, 7));
    assert_eq!(bench.batch.frames(), 2);
}

#[test]
fn what_the_catalogue_does_not_know_is_counted() {
    let mut source = Frames::new(2);
    source
        .scrapes
        .push(Scrape::new(0, 1000, &[(0, 1), (777, 1), (1, 2), (u16::MAX - 1, 3)]));
    let mut beyond = Scrape::new(1, 1000, &[]);
    beyond.target = 9;
    source.scrapes.push(beyond);
    let mut bench = Bench::new(LIMITS);
    bench.gather(&mut source, &NO_BOUNDS);
    assert_eq!((bench.batch.samples(), bench.batch.tally().unknown_series), (7, 7));
}

#[test]
fn series_without_labels_for_this_remote_are_counted() {
    let mut source = Frames::new(0);
    source.catalogue = Catalogue::new(2, 1000, 1);
    let text = SeriesText { name: "", body: "" };
    source
        .catalogue
        .define(TargetRef(0), text, MetricType::Gauge)
        .expect("fits");
    source.scrapes.push(Scrape::new(0, 1000, &[(0, 1)]));
    source.scrapes.push(Scrape::new(1, 2000, &[(0, 1)]));
    let mut bench = Bench::new(LIMITS);
    bench.gather(&mut source, &NO_BOUNDS);
    assert_eq!((bench.batch.samples(), bench.batch.tally().dropped_series), (10, 2));
}

#[test]
fn an_end_bound_is_kept_even_when_its_frames_are_gone() {
    let mut source = Frames::new(2);
    for n in [3, 4, 9] {
        source.scrapes.push(Scrape::new(n, n as i64, &[(0, 1)]));
    }
    let mut bench = Bench::new(LIMITS);
    let bounds = |frame| Bounds {
        end: Some(Place::before(FrameNo(frame))),
        ..NO_BOUNDS
    };
    assert_eq!(bench.gather(&mut source, &bounds(4)), Stop::Full);
    assert_eq!(
        (bench.batch.samples(), bench.batch.end().frame.0, source.position),
        (6, 4, 4)
    );
    bench.batch.begin(Place::before(FrameNo(4)), Protocol::V2);
    assert_eq!(bench.gather(&mut source, &bounds(7)), Stop::Full);
    assert_eq!(
        (bench.batch.samples(), bench.batch.end().frame.0, source.position),
        (6, 7, 7)
    );
    bench.batch.begin(Place::before(FrameNo(7)), Protocol::V2);
    assert_eq!(bench.gather(&mut source, &bounds(8)), Stop::Full);
    assert_eq!((bench.batch.samples(), bench.batch.end().frame.0), (0, 8));
}

#[test]
fn the_memory_plan_is_what_is_allocated_at_most() {
    let reference = BatchLimits {
        samples: 2000,
        body_bytes: 192 * 1024,
        max_series: 1050,
        max_targets: 4,
        frame_samples: 1050,
        extras_bytes: 0,
        sends: Sends {
            histograms: false,
            exemplars: false,
        },
        families: 0,
    };
    let bytes = Batch::ram_bytes(reference);
    assert!((250_000..390_000).contains(&bytes), "{bytes}");
    let twice = Batch::ram_bytes(BatchLimits {
        samples: 4000,
        ..reference
    });
    assert_eq!(twice - bytes, 2000 * size_of::<Entry>() + 500 * 8);
    assert_eq!(size_of::<Entry>(), 14);
}

#[test]
fn the_short_way_to_labels_agrees_with_the_long_way() {
    use crate::labels::{body_labels, write_escaped};
    use crate::relabel::{Action, PatternError, Relabel, Rule, RuleSpec};
    let mut rng = fastrand::Rng::with_seed(17);
    let text = |rng: &mut fastrand::Rng, names: &[&str]| {
        let mut body = String::new();
        for name in names {
            if rng.u8(..) > 100 {
                continue;
            }
            let value = ["", "v", "long value", "quo\"ted", "w", "x", "y"][rng.usize(..7)];
            let comma = if body.is_empty() { "" } else { "," };
            body += &alloc::format!("{comma}{name}=\"");
            write_escaped(value, &mut body).expect("a string takes it");
            body.push('"');
        }
        if rng.u8(..) < 10 {
            body += ",damage";
        }
        body
    };
    let no_engine = |_: &str| -> Result<_, PatternError> { panic!("literal patterns need no engine") };
    let idle = RuleSpec {
        action: Action::LabelDrop,
        regex: "no_such_label",
        ..RuleSpec::default()
    };
    let names = ["A", "Z", "__x", "a", "instance", "job", "site", "z"];
    let mut short_ways = 0;
    for round in 0..2000 {
        let mut source = Frames::new(0);
        source.catalogue = Catalogue::new(4, 4000, 1);
        let target = text(&mut rng, &names[2..]);
        source.catalogue.set_target(TargetRef(0), &target).expect("fits");
        for i in 0..4 {
            let body = text(&mut rng, &names);
            let name = ["", "metric", "metric", "other"][rng.usize(..4)];
            let series = SeriesText { name, body: &body };
            source
                .catalogue
                .define_at(SeriesRef(i), TargetRef(0), series, MetricType::Info)
                .expect("fits");
            short_ways += usize::from(body_labels(&body).all(|l| l.value.plain().is_some_and(|v| !v.is_empty())));
        }
        // A scrape each: two of them may be the same series, which one scrape has once.
        let scrape = |i: u16| Scrape::new(i.into(), 1000 + i64::from(i), &[(i, 1)]);
        source.scrapes.extend((0..4).map(scrape));
        let external = [("Z", "external"), ("site", "north")];
        let external = &external[..rng.usize(..=2)];
        let sent: Vec<_> = [Protocol::V1, Protocol::V2]
            .into_iter()
            .flat_map(|protocol| [false, true].map(|long| (protocol, long)))
            .map(|(protocol, long)| {
                let rules = long.then(|| Rule::new(&idle, Default::default(), &no_engine).expect("compiles"));
                let mut bench = Bench::new(LIMITS);
                bench.identity = Identity::new(external, Relabel::new(rules.into_iter().collect()));
                bench.batch.begin(Place::default(), protocol);
                source.position = 0;
                bench.gather(&mut source, &NO_BOUNDS);
                let mut sent = bench.sealed(Layout::Grouped, protocol);
                sent.iter_mut().for_each(|s| s.kind = MetricType::Unknown);
                (sent, *bench.batch.tally())
            })
            .collect();
        assert!(sent.windows(2).all(|w| w[0] == w[1]), "round {round}: {sent:?}");
    }
    assert!(short_ways > 1000, "{short_ways}");
}

#[test]
fn what_earlier_batches_left_never_shows() {
    let mut source = Frames::new(6);
    for n in 0..6 {
        source.scrapes.push(Scrape::new(n, 1000 + n as i64, &[(n as u16, 1)]));
    }
    let mut kept = Bench::new(LIMITS);
    let one = Bounds { frames: 1, ..NO_BOUNDS };
    for n in 0..6 {
        match n {
            // Neither change is announced by a boundary.
            2 => source
                .catalogue
                .set_target(TargetRef(0), r#"instance="moved""#)
                .expect("fits"),
            4 => {
                let text = SeriesText {
                    name: "other",
                    body: "",
                };
                let redefined = source
                    .catalogue
                    .define_at(SeriesRef(4), TargetRef(0), text, MetricType::Counter);
                assert_eq!(redefined, Ok(true));
            }
            _ => {}
        }
        let place = Place::before(FrameNo(n));
        let protocol = [Protocol::V1, Protocol::V2][n as usize % 2];
        kept.batch.begin(place, protocol);
        kept.gather(&mut source, &one);
        kept.batch.seal(Layout::Live);
        let mut fresh = Bench::new(LIMITS);
        fresh.batch.begin(place, protocol);
        source.position = n;
        fresh.gather(&mut source, &one);
        fresh.batch.seal(Layout::Live);
        assert_eq!(kept.batch.body(), fresh.batch.body(), "batch {n}");
    }
}

#[test]
fn a_dictionary_smaller_than_the_series_costs_no_small_batches() {
    let limits = BatchLimits { samples: 60, ..LIMITS };
    let mut source = Frames::new(500);
    for n in 0..100_u16 {
        let samples: Vec<_> = (0..25).map(|i| ((n * 25 + i) % 500, 1)).collect();
        source
            .scrapes
            .push(Scrape::new(n.into(), 1000 + i64::from(n), &samples));
    }
    let mut bench = Bench::new(limits);
    for batch in 0..50 {
        assert_eq!(bench.gather(&mut source, &NO_BOUNDS), Stop::Full);
        assert_eq!((bench.batch.samples(), bench.batch.frames()), (60, 2), "batch {batch}");
        assert_eq!(bench.sealed(Layout::Live, Protocol::V2).len(), 60);
        let end = bench.batch.end();
        bench.batch.begin(end, Protocol::V2);
    }
}
