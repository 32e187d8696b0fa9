//! The short way for known texts: the same as the long one, and only where it may be.

use super::*;
use crate::exposition::Histograms;
use fastrand::Rng;

/// All that can be told of a rig from outside.
fn state(rig: &Rig) -> (String, Vec<String>, usize, usize) {
    let metadata = rig.metadata.iter().map(|entry| format!("{entry:?}")).collect();
    let counters = format!("{:?}", rig.reports.counters);
    (counters, metadata, rig.table.texts(), rig.catalogue.len())
}

fn asks(rig: &Rig) -> bool {
    rig.session.asks_known
}

/// A rig whose session has room for what samples carry.
fn roomy() -> Rig {
    let mut rig = Rig::new(40);
    rig.session = Session::new(SessionSize {
        max_samples: 40,
        line_bytes: 200,
        label_bytes: 0,
        extras_bytes: 2_048,
        converts: true,
    });
    rig
}

#[test]
fn a_body_in_the_format_of_the_one_before_takes_it() {
    let mut rig = Rig::new(10);
    let mut scrape = |content_type, body: &str| {
        let up = rig.scrape_as(&target(), content_type, body).up;
        (up, asks(&rig))
    };
    assert_eq!(scrape(TEXT, "a 1\n"), (true, false));
    assert_eq!(scrape(TEXT, "a 1\n"), (true, true));
    assert_eq!(scrape(TEXT, "a x\n"), (false, true));
    assert_eq!(
        scrape(TEXT, "a 1\n"),
        (true, true),
        "a failure leaves the texts as they were"
    );
    assert_eq!(scrape(OPEN_METRICS, "a x\n"), (false, false));
    assert_eq!(scrape(TEXT, "a 1\n"), (true, true));
    assert_eq!(scrape(OPEN_METRICS, "a 1\n# EOF\n"), (true, false));
    assert_eq!(scrape(TEXT, "a 1\n"), (true, false));
    assert_eq!(scrape(TEXT, ""), (true, false), "an empty body is none");
    assert_eq!(scrape(TEXT, "a 1\n"), (true, true));
}

#[test]
fn texts_of_another_format_are_not_cut_as_in_this_one() {
    let mut rig = Rig::new(10);
    for _ in 0..2 {
        assert!(rig.scrape(&target(), "a {x=\"1\"} 1\n").up);
    }
    let refused = rig.scrape_as(&target(), OPEN_METRICS, "a {x=\"1\"} 1\n# EOF\n");
    assert_eq!(
        refused.error,
        "line 1 column 3: value is not a number, found \"{x=\\\"1\\\"} 1\""
    );
}

#[test]
fn texts_of_the_converter_were_not_cut() {
    let mut rig = roomy();
    let body = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1\na 1\n";
    let mut converting = target();
    converting.convert_classic = true;
    for _ in 0..3 {
        assert!(rig.scrape(&converting, body).up);
        assert!(!asks(&rig));
    }
    let asked = [(); 3].map(|()| {
        assert!(rig.scrape(&target(), body).up);
        asks(&rig)
    });
    assert_eq!(asked, [false, true, true]);
}

/// A line of a body: mostly one that was there before, with another value.
fn line(rng: &mut Rng) -> String {
    const TEXTS: &[&str] = &[
        "a",
        "b",
        "c_total",
        "h_bucket{le=\"1\"}",
        "h_bucket{le=\"+Inf\"}",
        "h_count",
        "h_sum",
        "up",
        "gone",
        "a{x=\"1\"}",
        "a {x=\"1\"}",
        "a{x=\"1 2\"}",
        "a{x=\"}\"}",
        "a{x=\"\\\"\"}",
        "{\"a.b\",x=\"1\"}",
        "a{x=\"\n\"}",
        "a{x=\"1\",}",
        "a{job=\"other\"}",
        "a{x=\"toolong\"}",
        "c_created",
        "a{x=",
        "a b",
        "",
    ];
    const VALUES: &[&str] = &["1", "2.50", "1e9", "NaN", "-7", "123456789012345678901", "x", ""];
    const ENDS: &[&str] = &[
        "\n",
        " 1700000000000\n",
        " 1700000005000\n",
        " 1700000005.5\n",
        " 9\n",
        " # {t=\"1\"} 1\n",
        " # {t=\"1\"} 1 1700000005\n",
        " \n",
        "\r\n",
        "\t1\n",
    ];
    const META: &[&str] = &[
        "# TYPE c counter\n",
        "# TYPE h histogram\n",
        "# TYPE a gauge\n",
        "# HELP a text\n",
        "# HELP a other 1\n",
        "\n",
        "# EOF\n",
        "# a 1\n",
        " a 1\n",
    ];
    if rng.u8(..12) == 0 {
        return META[rng.usize(..META.len())].to_string();
    }
    // How far into the list: to the end of it once in `odd` times.
    let mut pick = |list: &[&'static str], usual: usize, odd: u8| {
        let len = if rng.u8(..odd) == 0 { list.len() } else { usual };
        list[rng.usize(..len)]
    };
    let text = pick(TEXTS, 14, 20);
    let value = pick(VALUES, 6, 30);
    let end = pick(ENDS, 1, 10);
    let gap = pick(&[" ", "  "], 1, 30);
    format!("{text}{gap}{value}{end}")
}

/// A target with some of what decides over samples.
fn random_target(rng: &mut Rng) -> Target {
    let mut target = target();
    target.honor_labels = rng.bool();
    target.honor_timestamps = rng.u8(..4) > 0;
    target.track_timestamps_staleness = rng.bool();
    target.out_of_order_ms = if rng.bool() { 10_000 } else { 0 };
    target.convert_classic = rng.u8(..6) == 0;
    target.histograms = Histograms {
        native: false,
        classic_too: rng.bool(),
    };
    target.start_times = rng.bool();
    target.limits = Limits {
        samples: if rng.u8(..6) == 0 { 5 } else { 0 },
        value_bytes: if rng.bool() { 6 } else { 0 },
        body_bytes: if rng.u8(..20) == 0 { 100 } else { 0 },
        ..Limits::default()
    };
    if rng.bool() {
        target.metric_relabel = rules(&[(Action::Drop, &["__name__"], "b|c_total")]);
    }
    target
}

#[test]
fn it_changes_nothing() {
    let mut rng = Rng::with_seed(31);
    let (mut asked, mut failed, mut samples) = (0, 0, 0);
    for round in 0..400 {
        let (mut short, mut long) = (roomy(), roomy());
        let target = random_target(&mut rng);
        let usual = if round % 2 == 0 { TEXT } else { OPEN_METRICS };
        let mut body = alloc::vec!["a 1\n".to_string(); 12];
        for scrape in 0..10 {
            let before = body.clone();
            for _ in 0..rng.usize(..4) {
                let at = rng.usize(..body.len());
                body[at] = line(&mut rng);
            }
            let format = if rng.u8(..12) > 0 {
                usual
            } else {
                [TEXT, OPEN_METRICS][rng.usize(..2)]
            };
            let end = if format == OPEN_METRICS { "# EOF\n" } else { "" };
            let whole = body.concat() + end;
            let chunk = rng.usize(1..60);
            let now = Some(UnixMillis(1_700_000_000_000 + scrape * 1_000));
            let shots = [&mut short, &mut long].map(|rig| {
                rig.now = now;
                rig.begin(&target, format);
                for piece in whole.as_bytes().chunks(chunk) {
                    if rig.feed(&target, piece).is_err() {
                        break;
                    }
                }
                rig.finish(&target, Outcome::Complete)
            });
            asked += usize::from(asks(&short));
            // The other one never asks.
            long.reports.health_mut(target.reference).unwrap().cut = None;
            let [found, wanted] = shots;
            failed += usize::from(!wanted.up);
            if !wanted.up {
                body = before;
            }
            samples += wanted.samples.len();
            assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "{}", whole.escape_debug());
            assert_eq!(
                short.session.frame().extras.as_bytes(),
                long.session.frame().extras.as_bytes()
            );
            assert_eq!(state(&short), state(&long), "{}", whole.escape_debug());
        }
    }
    assert!(
        asked > 1_000 && failed > 400 && samples > 5_000,
        "{asked} {failed} {samples}"
    );
}
