//! Native histograms: what is one, what is written of it, what is refused.

use super::*;
use crate::frame::Bounded;
use crate::value::varint::Sink;
use alloc::collections::BTreeMap;
use prost::Message;

fn native(histogram: Histogram) -> Metric {
    Metric {
        histogram: Some(histogram),
        ..Default::default()
    }
}

/// A histogram with buckets on both sides.
fn whole() -> Histogram {
    Histogram {
        sample_count: Some(20),
        sample_sum: Some(-3.5),
        schema: Some(3),
        zero_threshold: Some(1e-128),
        zero_count: Some(2),
        negative_span: vec![span(-4, 2)],
        negative_delta: vec![1, 2],
        positive_span: vec![span(0, 2), span(1, 3)],
        positive_delta: vec![3, -1, 2, -4, 5],
        ..Default::default()
    }
}

fn written(histogram: &Histogram, gauge: bool, resolution: Resolution) -> Result<WrittenHistogram, WriteError> {
    let message = histogram.encode_to_vec();
    let mut out = Bounded::with_capacity(4_096);
    NativeHistogram::new(&message, gauge)
        .expect("a valid histogram")
        .write(resolution, &mut out)?;
    Ok(WrittenHistogram::decode(&*out).expect("a message"))
}

#[test]
fn a_whole_histogram_becomes_remote_writes() {
    let found = written(&whole(), false, Resolution::default()).unwrap();
    let expected = WrittenHistogram {
        count_int: Some(20),
        sum: -3.5,
        schema: 3,
        zero_threshold: 1e-128,
        zero_count_int: Some(2),
        negative_spans: vec![span(-4, 2)],
        negative_deltas: vec![1, 2],
        // 3, 2, gap, 4, (0), 5: the empty bucket is left out.
        positive_spans: vec![span(0, 2), span(1, 1), span(1, 1)],
        positive_deltas: vec![3, -1, 2, 1],
        ..Default::default()
    };
    assert_eq!(found, expected);
    let gauge = written(&whole(), true, Resolution::default()).unwrap();
    assert_eq!(
        gauge,
        WrittenHistogram {
            reset_hint: 3,
            ..expected
        }
    );
}

#[test]
fn a_float_histogram_keeps_its_counts() {
    let histogram = Histogram {
        sample_count_float: Some(7.5),
        sample_sum: Some(f64::from_bits(crate::sample::STALE_NAN_BITS)),
        zero_count_float: Some(0.5),
        zero_threshold: Some(0.25),
        positive_span: vec![span(2, 3)],
        positive_count: vec![1.5, 0.0, 5.0],
        negative_span: vec![span(1, 1)],
        negative_count: vec![0.5],
        ..Default::default()
    };
    let found = written(&histogram, false, Resolution::default()).unwrap();
    assert_eq!(found.sum.to_bits(), crate::sample::NORMAL_NAN_BITS);
    assert_eq!(
        WrittenHistogram { sum: 0.0, ..found },
        WrittenHistogram {
            count_float: Some(7.5),
            zero_count_float: Some(0.5),
            zero_threshold: 0.25,
            negative_spans: vec![span(1, 1)],
            negative_counts: vec![0.5],
            positive_spans: vec![span(2, 1), span(1, 1)],
            positive_counts: vec![1.5, 5.0],
            ..Default::default()
        }
    );
}

#[test]
fn an_empty_histogram_has_a_count_of_none() {
    let histogram = Histogram {
        positive_span: vec![span(0, 0)],
        ..Default::default()
    };
    let message = histogram.encode_to_vec();
    let mut out = Bounded::with_capacity(10);
    let found = NativeHistogram::new(&message, false).unwrap();
    assert_eq!(found.count(), Number::decimal(0, 0));
    found.write(Resolution::default(), &mut out).unwrap();
    // Both members of the message's choices are there, though zero.
    assert_eq!(&*out, [0x08, 0, 0x30, 0]);
}

#[test]
fn what_makes_a_histogram_native() {
    let classic = Histogram {
        sample_count: Some(1),
        bucket: vec![bucket(1, 1.0, None)],
        schema: Some(3),
        ..Default::default()
    };
    let both = Histogram {
        positive_span: vec![span(0, 1)],
        positive_delta: vec![1],
        ..classic.clone()
    };
    let classic_events = [
        "h_count 1",
        "h_sum 0",
        "h_bucket{le=\"1.0\"} 1",
        "h_bucket{le=\"+Inf\"} 1",
    ];
    let count = "h native 1e0";
    let classic_too = Histograms {
        native: true,
        classic_too: true,
    };
    let zero_width = Histogram {
        zero_threshold: Some(1e-9),
        ..Default::default()
    };
    for (histogram, wanted, native_too, classic_too) in [
        (&classic, NATIVE, None, true),
        (&both, NATIVE, Some(count), false),
        (&both, classic_too, Some(count), true),
        (&both, Histograms::default(), None, true),
        (&zero_width, classic_too, Some("h native 0e0"), false),
    ] {
        let mut expected = vec!["TYPE h histogram"];
        expected.extend(native_too);
        expected.extend(classic_events.iter().filter(|_| classic_too));
        assert_eq!(
            events(&[family("h", 4, vec![native(histogram.clone())])], wanted),
            expected
        );
    }
}

#[test]
fn exemplars_of_a_native_histogram_come_in_the_order_of_their_times() {
    let own = Histogram {
        exemplars: vec![
            exemplar("c", 3.0, time(30, 0)),
            exemplar("timeless", 9.0, None),
            exemplar("a", 1.0, time(10, 0)),
            exemplar("b", 2.0, time(10, 0)),
        ],
        bucket: vec![bucket(1, 1.0, Some(exemplar("ignored", 1.0, time(1, 0))))],
        zero_threshold: Some(1.0),
        ..Default::default()
    };
    let of_buckets = Histogram {
        bucket: vec![
            bucket(1, 1.0, Some(exemplar("late", 1.0, time(9, 0)))),
            bucket(1, 2.0, Some(exemplar("timeless", 1.0, None))),
            bucket(1, 3.0, Some(exemplar("early", 2.5, time(8, 0)))),
        ],
        zero_threshold: Some(1.0),
        created_timestamp: time(7, 0),
        ..Default::default()
    };
    let many = Histogram {
        zero_threshold: Some(1.0),
        exemplars: (0..20)
            .map(|n| exemplar("n", f64::from(n), time(20 - i64::from(n), 0)))
            .collect(),
        ..Default::default()
    };
    let found = events(
        &[family("h", 4, vec![native(own), native(of_buckets), native(many)])],
        NATIVE,
    );
    assert_eq!(
        found[..8],
        [
            "TYPE h histogram",
            "h native 0e0",
            "# {id=\"a\"} 1 @Some(10000)",
            "# {id=\"b\"} 2 @Some(10000)",
            "# {id=\"c\"} 3 @Some(30000)",
            "h native 0e0 since 7000",
            "# {id=\"early\"} 2.5 @Some(8000)",
            "# {id=\"late\"} 1 @Some(9000)",
        ]
    );
    assert_eq!(found.len(), 9 + MAX_EXEMPLARS);
}

#[test]
fn long_exemplars_are_handed_on_as_what_will_be_refused() {
    let histogram = Histogram {
        exemplars: vec![exemplar(&"x".repeat(EXEMPLAR_BYTES), 1.0, time(1, 0))],
        zero_threshold: Some(1.0),
        ..Default::default()
    };
    assert_eq!(
        events(&[family("h", 4, vec![native(histogram)])], NATIVE)[2..],
        ["#  1 @Some(1000)"]
    );
}

#[test]
fn histograms_that_contradict_themselves_are_refused() {
    use HistogramProblem::*;
    let huge = Histogram {
        positive_span: vec![span(i32::MAX, 1), span(i32::MAX, 1)],
        positive_delta: vec![10, 0],
        negative_span: vec![],
        negative_delta: vec![],
        zero_count: Some(0),
        ..whole()
    };
    for (histogram, problem) in [
        (
            Histogram {
                schema: Some(-5),
                ..whole()
            },
            Schema(-5),
        ),
        (
            Histogram {
                schema: Some(53),
                ..whole()
            },
            Schema(53),
        ),
        (
            Histogram {
                schema: Some(-53),
                ..whole()
            },
            Schema(-53),
        ),
        (
            Histogram {
                positive_span: vec![span(5, 2), span(-1, 3)],
                ..whole()
            },
            SpanOffset,
        ),
        (
            Histogram {
                positive_span: vec![span(5, 6)],
                ..whole()
            },
            Spans,
        ),
        (
            Histogram {
                positive_span: vec![],
                ..whole()
            },
            Spans,
        ),
        (
            Histogram {
                positive_span: vec![span(0, u32::MAX), span(0, u32::MAX)],
                ..whole()
            },
            Spans,
        ),
        (huge, Spans),
        (
            Histogram {
                positive_delta: vec![3, -4, 2, 4, 5],
                ..whole()
            },
            NegativeBucket,
        ),
        (
            Histogram {
                positive_delta: vec![i64::MAX, 1, 0, 0, 0],
                ..whole()
            },
            Count,
        ),
        (
            Histogram {
                sample_count: Some(19),
                ..whole()
            },
            Count,
        ),
        (
            Histogram {
                sample_count: Some(21),
                ..whole()
            },
            Count,
        ),
        (
            Histogram {
                sample_count: Some(19),
                sample_sum: Some(f64::NAN),
                ..whole()
            },
            Count,
        ),
        (
            Histogram {
                zero_count: Some(u64::MAX),
                ..whole()
            },
            Count,
        ),
        (
            Histogram {
                sample_count_float: Some(1.0),
                positive_count: vec![1.0, -1.0, 0.0, 0.0, 0.0],
                negative_count: vec![0.0, 0.0],
                ..whole()
            },
            NegativeBucket,
        ),
    ] {
        let message = histogram.encode_to_vec();
        assert_eq!(
            NativeHistogram::new(&message, false).map(|_| ()),
            Err(problem),
            "{histogram:?}"
        );
        let body = body(&[family("h", 4, vec![native(histogram)])]);
        let error = events_in(&body, &[7], NATIVE).unwrap_err();
        assert_eq!(error.problem, Problem::Histogram(problem));
        assert!(error.to_string().ends_with(&problem.to_string()), "{error}");
    }
    // NaN observations are counted and in no bucket; floats need not add up.
    let nan = Histogram {
        sample_count: Some(25),
        sample_sum: Some(f64::NAN),
        ..whole()
    };
    assert!(written(&nan, false, Resolution::default()).is_ok());
}

/// Absolute counts of the buckets of one sign.
fn absolute(spans: &[BucketSpan], values: &[i64], counts: &[f64]) -> BTreeMap<i64, f64> {
    let mut index = 0;
    let mut places = Vec::new();
    for span in spans {
        index += i64::from(span.offset);
        for _ in 0..span.length {
            places.push(index);
            index += 1;
        }
    }
    let mut sum = 0;
    let whole = values.iter().map(|delta| {
        sum += delta;
        sum as f64
    });
    places.into_iter().zip(whole.chain(counts.iter().copied())).collect()
}

/// The same, each pair of buckets joined `shift` times.
fn coarser(buckets: &BTreeMap<i64, f64>, shift: i32) -> BTreeMap<i64, f64> {
    let mut merged = buckets.clone();
    for _ in 0..shift {
        let finer = core::mem::take(&mut merged);
        for (index, count) in finer {
            // Bucket i holds what is above base^(i-1) and at most base^i.
            let index = index.div_euclid(2) + index.rem_euclid(2);
            *merged.entry(index).or_default() += count;
        }
    }
    merged.retain(|_, count| *count != 0.0);
    merged
}

#[test]
fn resolution_is_reduced_until_the_limits_hold_and_no_observation_is_lost() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut refused = 0;
    for round in 0..2_000 {
        let is_float = random.bool();
        let mut side = |first: i32| {
            let spans: Vec<_> = (0..random.usize(0..4))
                .map(|n| {
                    let offset = if n == 0 {
                        random.i32(first..30)
                    } else {
                        random.i32(0..4)
                    };
                    span(offset, random.u32(0..6))
                })
                .collect();
            let buckets: u32 = spans.iter().map(|span| span.length).sum();
            let counts: Vec<i64> = (0..buckets).map(|_| random.i64(0..5)).collect();
            (spans, counts)
        };
        let ((negative_span, negative), (positive_span, positive)) = (side(-30), side(-30));
        let deltas = |counts: &[i64]| {
            let before = [0].into_iter().chain(counts.iter().copied());
            counts
                .iter()
                .zip(before)
                .map(|(count, before)| count - before)
                .collect::<Vec<_>>()
        };
        let floats = |counts: &[i64]| counts.iter().map(|&count| count as f64).collect::<Vec<_>>();
        let total: i64 = negative.iter().chain(&positive).sum();
        let schema = random.i32(-4..12);
        let mut histogram = Histogram {
            schema: Some(schema),
            negative_span,
            positive_span,
            sample_count: Some(total as u64),
            zero_threshold: Some(0.5),
            ..Default::default()
        };
        if is_float {
            histogram.sample_count_float = Some(total as f64 + 0.25);
            (histogram.negative_count, histogram.positive_count) = (floats(&negative), floats(&positive));
        } else {
            (histogram.negative_delta, histogram.positive_delta) = (deltas(&negative), deltas(&positive));
        }
        let resolution = Resolution {
            max_schema: random.i8(SCHEMA_MIN..=SCHEMA_MAX),
            bucket_limit: random.u32(0..6),
        };
        let before = [
            absolute(
                &histogram.negative_span,
                &histogram.negative_delta,
                &histogram.negative_count,
            ),
            absolute(
                &histogram.positive_span,
                &histogram.positive_delta,
                &histogram.positive_count,
            ),
        ];
        let highest = schema.min(i32::from(resolution.max_schema)).min(8);
        let fits = |target: i32| {
            let buckets: usize = before.iter().map(|side| coarser(side, schema - target).len()).sum();
            resolution.bucket_limit == 0 || buckets <= resolution.bucket_limit as usize
        };
        let expected = (-4..=highest).rev().find(|&target| fits(target));
        let found = written(&histogram, false, resolution);
        let Some(target) = expected else {
            assert_eq!(found, Err(WriteError::BucketLimit), "{round}");
            refused += 1;
            continue;
        };
        let found = found.unwrap();
        assert_eq!(found.schema, target, "{round}");
        let after = [
            absolute(&found.negative_spans, &found.negative_deltas, &found.negative_counts),
            absolute(&found.positive_spans, &found.positive_deltas, &found.positive_counts),
        ];
        assert_eq!(after, before.map(|side| coarser(&side, schema - target)), "{round}");
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn writing_stops_where_there_is_no_room() {
    let message = whole().encode_to_vec();
    let histogram = NativeHistogram::new(&message, true).unwrap();
    let mut all = Bounded::with_capacity(1_000);
    histogram.write(Resolution::default(), &mut all).unwrap();
    for capacity in 0..all.len() {
        let mut out = Bounded::with_capacity(capacity);
        let found = histogram.write(Resolution::default(), &mut out);
        assert!(matches!(found, Err(WriteError::Full(_))), "{capacity}");
        assert!(all.starts_with(&out));
    }
    let mut out: Bounded<u8> = Bounded::with_capacity(1);
    assert!(out.put(&[1]).is_ok());
}
