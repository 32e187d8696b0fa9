//! Failures that pass: back-off, Retry-After, holds until the operator puts it right, bodies too large.

use super::*;

#[test]
fn retries_with_the_same_bytes_and_counts_attempts() {
    let mut bench = Bench::new(config());
    bench.scrape(2, 10);
    bench.send();
    let body = bench.sender.request().body.to_vec();
    let mut before = 0;
    for attempt in 0..12 {
        assert_eq!(bench.sender.request().retry_attempt, attempt);
        assert_eq!(bench.answer(503), Verdict::Retry { after_ms: None });
        bench.scrape(1, 10);
        let sent_at = bench.now;
        bench.send();
        let gap = bench.now.since(sent_at);
        assert!(gap * 10 >= before * 8 && gap <= 5000, "{before} then {gap}");
        before = gap;
        assert_eq!(bench.sender.request().body, body);
    }
    assert!(before >= 4500);
    bench.accept();
    assert_eq!(bench.acknowledged(), 2);
    assert_eq!(bench.sender.counters().samples_retried, 12 * 30);
    bench.send();
    bench.answer(503);
    let sent_at = bench.now;
    bench.send();
    assert!(
        bench.now.since(sent_at) <= 30,
        "a new batch starts again at the minimum"
    );
}

#[test]
fn retry_after_is_honoured_and_capped() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    for (asked, at_least, at_most) in [("2", 2000, 2200), ("864000", 600_000, 660_000), ("0", 4500, 5000)] {
        bench.send();
        let mut head = Head::new(429);
        head.header("Retry-After", asked.as_bytes());
        bench.answer_with(head);
        let sent_at = bench.now;
        bench.send();
        let gap = bench.now.since(sent_at);
        assert!((at_least..=at_most).contains(&gap), "asked {asked}, waited {gap}");
        bench.answer(503);
    }
}

#[test]
fn an_uplink_that_returns_is_found_within_a_second_or_so() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    for _ in 0..50 {
        bench.send();
        bench.sender.on_error(bench.now, ErrorKind::Connect);
    }
    let failed_at = bench.now;
    bench.send();
    assert!((900..=1000).contains(&bench.now.since(failed_at)));
    bench.accept();
    assert_eq!(bench.acknowledged(), 1);
}

#[test]
fn configuration_errors_hold_and_never_drop() {
    for status in [401, 403, 404] {
        let mut bench = Bench::new(config());
        bench.scrape(1, 10);
        bench.send();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let reason = HoldReason::Configuration { status };
            assert_eq!(bench.answer(status), Verdict::Hold(reason));
            let held_at = bench.now;
            assert!(matches!(bench.poll(), Action::Hold(r, _) if r == reason));
            bench.send();
            waits.push(bench.now.since(held_at) / 1000);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        bench.accept();
        assert_eq!((bench.acknowledged(), bench.sender.counters().samples_failed), (1, 0));
        bench.scrape(1, 10);
        bench.send();
        bench.answer(status);
        bench.sender.retry_now();
        assert_eq!(bench.poll(), Action::Send, "the operator put it right");
    }
}

#[test]
fn too_big_halves_and_remembers() {
    let mut bench = Bench::new(config());
    bench.scrape(4, 15);
    assert_eq!(bench.send(), 80);
    let sent_at = bench.now;
    assert_eq!(bench.answer(413), Verdict::Halve);
    assert_eq!(bench.send(), 40);
    assert_eq!(bench.now.since(sent_at), 5000, "no haste after a 4xx");
    assert_eq!(bench.answer(413), Verdict::Halve);
    assert_eq!(bench.send(), 20);
    bench.accept();
    assert_eq!(bench.acknowledged(), 1);
    assert_eq!(bench.send(), 20);
    bench.accept();
    bench.scrape(10, 15);
    assert_eq!(bench.send(), 20);
    assert_eq!(bench.sender.counters().samples_failed, 0);
}

#[test]
fn one_sample_that_is_too_big_is_dropped() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 0);
    let mut verdict = Verdict::Accepted;
    for _ in 0..20 {
        bench.send();
        if bench.sender.request().samples == 1 {
            verdict = bench.answer(413);
            break;
        }
        bench.answer(413);
    }
    assert_eq!(verdict, Verdict::Drop(DropReason::TooLarge));
    assert_eq!(bench.sender.counters().samples_failed, 1);
    bench.send();
    bench.accept();
    assert_eq!(bench.sender.counters().samples_accepted, 1);
}

#[test]
fn a_body_the_host_cannot_compress_is_halved() {
    let mut bench = Bench::new(config());
    bench.scrape(4, 15);
    bench.send();
    bench.sender.on_error(bench.now, ErrorKind::TooLarge);
    assert_eq!(bench.send(), 40);
}
