//! Refused batches: split, given up, or in doubt after a restart or a lost answer; every sample counted.

use super::*;

#[test]
fn a_lone_refused_live_batch_is_dropped_without_a_second_request() {
    let mut bench = Bench::new(SenderConfig {
        message: V1,
        ..config()
    });
    bench.scrape(3, 10);
    bench.send();
    assert_eq!(bench.answer(400), Verdict::Drop(DropReason::Refused { status: 400 }));
    assert_eq!(bench.poll(), Action::Wait(Instant(u64::MAX)));
    assert_eq!((bench.acknowledged(), bench.sender.counters().samples_failed), (3, 45));
}

#[test]
fn a_run_of_refused_batches_is_split_once_each() {
    let mut bench = Bench::new(SenderConfig {
        message: V1,
        ..config()
    });
    bench.scrape(1, 10);
    bench.send();
    bench.answer(400);
    bench.now = bench.now + 1000;
    bench.scrape(4, 10);
    assert_eq!(bench.send(), 60);
    assert_eq!(bench.answer(400), Verdict::Bisect);
    assert_eq!(bench.send(), 30);
    assert_eq!(bench.answer(400), Verdict::Drop(DropReason::Refused { status: 400 }));
    assert_eq!(bench.acknowledged(), 3);
    assert_eq!(bench.send(), 30);
    assert_eq!(bench.answer(204), Verdict::Accepted);
    assert_eq!(bench.acknowledged(), 5);
    let counters = bench.sender.counters();
    assert_eq!(
        (counters.samples_failed, counters.samples_accepted, counters.split),
        (45, 30, 1)
    );
}

#[test]
fn a_single_refused_frame_of_a_backlog_is_split_by_samples() {
    let mut bench = Bench::new(SenderConfig {
        message: V1,
        group_live: true,
        metadata: MetadataConfig::OFF,
        ..config()
    });
    bench.scrape(1, 10);
    assert_eq!(bench.send(), 15);
    assert_eq!(bench.answer(409), Verdict::Bisect);
    assert_eq!(bench.send(), 8);
    bench.answer(409);
    assert_eq!(bench.acknowledged(), 0);
    assert_eq!(bench.send(), 7);
    bench.answer(200);
    assert_eq!(bench.acknowledged(), 1);
    let counters = bench.sender.counters();
    assert_eq!((counters.samples_failed, counters.samples_accepted), (8, 7));
}

#[test]
fn partly_written_is_acknowledged_and_the_rest_counted() {
    let mut bench = Bench::new(config());
    bench.scrape(2, 10);
    bench.send();
    assert_eq!(bench.answer_written(400, 12), Verdict::AcceptedPartly { written: 12 });
    let counters = bench.sender.counters();
    assert_eq!(
        (bench.acknowledged(), counters.samples_accepted, counters.samples_failed),
        (2, 12, 18)
    );
}

#[test]
fn refused_replay_goes_frame_by_frame_and_counts_as_delivered() {
    let mut bench = Bench::replaying(
        SenderConfig {
            message: V1,
            ..config()
        },
        4,
    );
    bench.scrape(6, 10);
    assert_eq!(bench.send(), 60);
    assert_eq!(bench.answer(400), Verdict::Bisect);
    for (status, acknowledged) in [(400, 1), (400, 2), (204, 3), (204, 4)] {
        assert_eq!(bench.send(), 15);
        assert_eq!(bench.sent_times(), [EPOCH + (acknowledged - 1) * 1000]);
        bench.answer(status);
        assert_eq!(bench.acknowledged(), acknowledged as u64);
    }
    assert_eq!(bench.send(), 30);
    bench.answer(204);
    let counters = bench.sender.counters();
    assert_eq!((counters.samples_in_doubt, counters.samples_failed), (30, 0));
    assert_eq!(counters.samples_accepted, 60);
}

#[test]
fn an_attempt_with_unknown_outcome_is_settled_frame_by_frame() {
    for kind in [ErrorKind::Timeout, ErrorKind::Closed, ErrorKind::BadResponse] {
        let mut bench = Bench::new(SenderConfig {
            message: V1,
            ..config()
        });
        bench.scrape(2, 10);
        assert_eq!(bench.send(), 30);
        bench.sender.on_error(bench.now, kind);
        bench.scrape(2, 10);
        assert_eq!(bench.send(), 30, "nothing new joins it");
        assert_eq!(bench.answer(400), Verdict::Bisect);
        for _ in 0..2 {
            assert_eq!(bench.send(), 15);
            assert_eq!(bench.answer(400), Verdict::Drop(DropReason::AlreadyDelivered));
        }
        let counters = bench.sender.counters();
        assert_eq!(
            (bench.acknowledged(), counters.samples_in_doubt, counters.samples_failed),
            (2, 30, 0)
        );
        assert_eq!(bench.send(), 30);
        assert!(
            matches!(bench.answer(400), Verdict::Drop(DropReason::Refused { .. })),
            "the doubt is over"
        );
    }
}

#[test]
fn what_was_written_is_counted_by_kind() {
    let mut bench = Bench::new(SenderConfig {
        limits: BatchLimits {
            extras_bytes: 1000,
            sends: Sends {
                histograms: true,
                exemplars: true,
            },
            ..config().limits
        },
        ..config()
    });
    bench.scrape(1, 3);
    let mut extras = crate::extras::Extras::with_capacity(1000);
    extras.push_histogram(0, &[8, 1]).unwrap();
    extras.push_exemplar(1, None, 7, "").unwrap();
    extras.push_exemplar(2, None, 8, "").unwrap();
    bench.source.scrapes[0].extras = extras.as_bytes().to_vec();
    bench.now = bench.now + 5_000;
    bench.poll();
    bench.now = bench.now + 5_000;
    assert_eq!(bench.poll(), Action::Send);
    let pending = bench.sender.pending();
    assert_eq!((pending.samples, pending.histograms, pending.exemplars), (7, 1, 2));
    bench.sender.on_response(bench.now, None, &Head::new(503));
    bench.now = bench.now + 60_000;
    assert_eq!(bench.poll(), Action::Send);
    let mut head = Head::new(400);
    head.header("X-Prometheus-Remote-Write-Samples-Written", b"6");
    head.header("X-Prometheus-Remote-Write-Exemplars-Written", b"1");
    let verdict = bench.sender.on_response(bench.now, None, &head);
    assert_eq!(verdict, Verdict::AcceptedPartly { written: 6 });
    let counters = bench.sender.counters();
    assert_eq!((counters.samples, counters.samples_retried), (14, 7));
    let of = |t: Totals| (t.sent, t.failed, t.retried);
    assert_eq!(of(counters.histograms), (2, 0, 1), "in doubt: it may have been there");
    assert_eq!(of(counters.exemplars), (4, 0, 2));
    assert_eq!((counters.samples_accepted, counters.samples_in_doubt), (6, 2));
    assert_eq!(counters.samples_lost(), 0);
}

#[test]
fn a_refused_scrape_of_a_paced_backlog_goes_in_halves() {
    let mut bench = Bench::new(SenderConfig {
        message: V1,
        ..config()
    });
    bench.scrape(10, 95);
    bench.now = Instant(1_000_000);
    assert_eq!(bench.send(), 100);
    assert!(bench.sender.speed().is_some());
    bench.answer(400);
    // The second of a run is split.
    assert_eq!(bench.send(), 100);
    assert_eq!(bench.answer(400), Verdict::Bisect);
    for (status, acknowledged) in [(400, 1), (204, 2)] {
        assert_eq!(bench.send(), 50);
        bench.answer(status);
        assert_eq!(bench.acknowledged(), acknowledged);
    }
    assert_eq!(bench.send(), 100);
}

#[test]
fn a_limit_learnt_from_429_cuts_no_frame_in_two() {
    let mut bench = Bench::new(SenderConfig {
        message: V1,
        ..config()
    });
    bench.scrape(4, 0);
    for _ in 0..REFUSALS {
        assert_eq!(bench.send(), 20);
        bench.answer(429);
    }
    // The ring has lapped these: what comes next is larger.
    bench.source.scrapes.clear();
    let values: Vec<_> = (0..40).map(|s| (s, i64::from(s) + 1)).collect();
    bench.source.scrapes.push(Scrape::new(4, EPOCH + 4_000, &values));
    assert_eq!(bench.send(), 45);
    bench.answer(204);
    assert_eq!(bench.acknowledged(), 5);
}
