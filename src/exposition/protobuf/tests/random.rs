//! Families at random: what was printed is parsed, however it is cut; what was damaged harms nothing.

use super::*;
use fastrand::Rng;

fn text(random: &mut Rng) -> String {
    let letters = ['a', 'Z', '_', '0', '"', '\\', '\n', ' ', 'ü', '{', '.'];
    (0..random.usize(0..8))
        .map(|_| random.choice(letters).unwrap())
        .collect()
}

fn value(random: &mut Rng) -> f64 {
    match random.u8(0..6) {
        0 => f64::INFINITY,
        1 => 0.0,
        2 => f64::from_bits(random.u64(..)),
        3 => f64::from(random.i32(..)),
        _ => f64::from(random.i32(-1_000_000..1_000_000)) / 1_000.0,
    }
}

fn times(random: &mut Rng) -> Option<Timestamp> {
    random.bool().then(|| Timestamp {
        seconds: random.i64(1..2_000_000_000),
        nanos: random.i32(0..1_000_000_000),
    })
}

fn exemplars(random: &mut Rng) -> Option<Exemplar> {
    random.bool().then(|| Exemplar {
        label: labels(&[("trace", &text(random))]),
        value: Some(value(random)),
        timestamp: times(random),
    })
}

/// A metric of this kind and the lines it stands for.
fn metric(random: &mut Rng, name: &str, kind: i32, expected: &mut Vec<String>) -> Metric {
    let mut metric = Metric {
        label: (0..random.usize(0..4))
            .map(|n| LabelPair {
                name: Some(format!("l{n}")),
                value: Some(text(random)),
            })
            .collect(),
        timestamp_ms: random.bool().then(|| random.i64(1..2_000_000_000_000)),
        ..Default::default()
    };
    let mut body: Vec<String> = Vec::new();
    for pair in &metric.label {
        let mut escaped = String::new();
        crate::labels::write_escaped(pair.value.as_deref().unwrap(), &mut escaped).unwrap();
        body.push(format!("{}=\"{escaped}\"", pair.name.as_deref().unwrap()));
    }
    let created = if kind == 1 || kind == 3 { None } else { times(random) };
    let at = metric.timestamp_ms.map_or(String::new(), |ms| format!(" @{ms}"));
    let ms = |time: &Timestamp| time.seconds * 1_000 + i64::from(time.nanos / 1_000_000);
    let since = created
        .as_ref()
        .map_or(String::new(), |time| format!(" since {}", ms(time)));
    let mut line = |suffix: &str, more: Option<String>, value: f64, exemplar: &Option<Exemplar>| {
        let all: Vec<_> = body.iter().cloned().chain(more).collect();
        let braces = if all.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", all.join(","))
        };
        let exemplar = exemplar.as_ref().map_or(String::new(), |exemplar| {
            let mut escaped = String::new();
            crate::labels::write_escaped(exemplar.label[0].value.as_deref().unwrap(), &mut escaped).unwrap();
            let time = exemplar.timestamp.as_ref().map(ms);
            format!(" # {{trace=\"{escaped}\"}} {} @{time:?}", exemplar.value.unwrap())
        });
        expected.push(format!("{name}{suffix}{braces} {value}{at}{since}{exemplar}"));
    };
    match kind {
        0 => {
            let (value, exemplar) = (value(random), exemplars(random));
            line("", None, value, &exemplar);
            metric.counter = Some(Counter {
                value: Some(value),
                exemplar,
                created_timestamp: created,
            });
        }
        1 => {
            let value = value(random);
            line("", None, value, &None);
            metric.gauge = Some(Gauge { value: Some(value) });
        }
        2 => {
            let (count, sum) = (random.u64(0..1 << 50), value(random));
            line("_count", None, count as f64, &None);
            line("_sum", None, sum, &None);
            let quantiles: Vec<_> = (0..random.usize(0..4))
                .map(|n| quantile(n as f64 / 8.0, value(random)))
                .collect();
            for (n, quantile) in quantiles.iter().enumerate() {
                let bound = ["0.0", "0.125", "0.25", "0.375"][n];
                line(
                    "",
                    Some(format!("quantile=\"{bound}\"")),
                    quantile.value.unwrap(),
                    &None,
                );
            }
            metric.summary = Some(Summary {
                sample_count: Some(count),
                sample_sum: Some(sum),
                quantile: quantiles,
                created_timestamp: created,
            });
        }
        3 => {
            let value = value(random);
            line("", None, value, &None);
            metric.untyped = Some(Untyped { value: Some(value) });
        }
        _ => {
            let (count, sum) = (random.u64(0..1 << 50), value(random));
            line("_count", None, count as f64, &None);
            line("_sum", None, sum, &None);
            let bounds = [
                (0.5, "0.5"),
                (1.0, "1.0"),
                (250_000.0, "250000.0"),
                (1e7, "1e+07"),
                (f64::INFINITY, "+Inf"),
            ];
            let mut buckets = Vec::new();
            for (bound, text) in &bounds[..random.usize(0..=5)] {
                let (count, exemplar) = (random.u64(0..1 << 50), exemplars(random));
                line("_bucket", Some(format!("le=\"{text}\"")), count as f64, &exemplar);
                buckets.push(bucket(count, *bound, exemplar));
            }
            if buckets.len() < 5 {
                line("_bucket", Some("le=\"+Inf\"".into()), count as f64, &None);
            }
            metric.histogram = Some(Histogram {
                sample_count: Some(count),
                sample_sum: Some(sum),
                bucket: buckets,
                created_timestamp: created,
                ..Default::default()
            });
        }
    }
    metric
}

fn families(random: &mut Rng) -> (Vec<MetricFamily>, Vec<String>) {
    let mut expected = Vec::new();
    let families = (0..random.usize(0..5)).map(|n| {
        let (name, kind) = (format!("m{n}"), random.i32(0..6));
        let help = random.bool().then(|| text(random));
        expected.extend(help.as_ref().map(|help| format!("HELP {name} {help}")));
        let before = expected.len();
        let metrics: Vec<_> = (0..random.usize(0..4))
            .map(|_| metric(random, &name, kind, &mut expected))
            .collect();
        if !metrics.is_empty() {
            let kind = ["counter", "gauge", "summary", "unknown", "histogram", "gaugehistogram"][kind as usize];
            expected.insert(before, format!("TYPE {name} {kind}"));
        }
        MetricFamily {
            help,
            ..family(&name, kind, metrics)
        }
    });
    (families.collect(), expected)
}

#[test]
fn what_is_printed_is_parsed_wherever_it_is_cut() {
    let mut random = Rng::with_seed(21);
    for _ in 0..300 {
        let (families, expected) = families(&mut random);
        let body = body(&families);
        assert_eq!(events_in(&body, &[usize::MAX], NATIVE).unwrap(), expected);
        assert_eq!(events_in(&body, &[1], NATIVE).unwrap(), expected);
        let sizes: Vec<_> = (0..20).map(|_| random.usize(1..60)).collect();
        assert_eq!(events_in(&body, &sizes, NATIVE).unwrap(), expected);
    }
}

#[test]
fn a_body_cut_short_fails_unless_it_ends_with_a_family() {
    let mut random = Rng::with_seed(22);
    let mut whole = 0;
    for _ in 0..50 {
        let (families, _) = families(&mut random);
        let ends: Vec<usize> = (0..=families.len()).map(|n| body(&families[..n]).len()).collect();
        let body = body(&families);
        for end in 0..body.len() {
            let ok = events_in(&body[..end], &[97], NATIVE).is_ok();
            assert_eq!(ok, ends.contains(&end));
            whole += usize::from(ok);
        }
    }
    assert!(whole > 50);
}

#[test]
fn damaged_and_arbitrary_bytes_never_panic() {
    let mut random = Rng::with_seed(23);
    let classic_too = Histograms {
        native: true,
        classic_too: true,
    };
    let (mut good, mut bad) = (0, 0);
    for round in 0..6_000 {
        let mut bytes = if round % 3 == 0 {
            (0..random.usize(0..200)).map(|_| random.u8(..)).collect()
        } else {
            body(&families(&mut random).0)
        };
        for _ in 0..random.usize(0..4) {
            if let Some(byte) = random.choice(bytes.iter_mut()) {
                *byte = random.u8(..);
            }
        }
        let sizes = [random.usize(1..50), random.usize(1..500)];
        match events_in(&bytes, &sizes, classic_too) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    assert!(good > 500 && bad > 500, "{good} {bad}");
}
