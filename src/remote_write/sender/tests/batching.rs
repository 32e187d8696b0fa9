//! When a batch goes and what is in it: deadline, backlog, frames larger than a batch, what the medium yields.

use super::*;

#[test]
fn waits_for_the_deadline_and_sends_all_there_is() {
    let mut bench = Bench::new(config());
    assert_eq!(
        bench.poll(),
        Action::Wait(Instant(u64::MAX)),
        "no frames: nothing to wake up for"
    );
    bench.scrape(1, 10);
    assert_eq!(bench.poll(), Action::Wait(Instant(5000)));
    bench.now = Instant(3000);
    bench.scrape(1, 10);
    assert_eq!(bench.poll(), Action::Wait(Instant(5000)));
    assert_eq!(bench.send(), 30);
    assert_eq!(bench.now, Instant(5000));
    assert_eq!(bench.poll(), Action::InFlight);
    assert_eq!(bench.acknowledged(), 0);
    assert_eq!(bench.accept(), Verdict::Accepted);
    assert_eq!(bench.acknowledged(), 2);
    let counters = bench.sender.counters();
    assert_eq!(
        (counters.samples, counters.samples_accepted, counters.requests),
        (30, 30, 1)
    );
    assert_eq!(counters.highest_sent_timestamp_ms, EPOCH + 3000);
}

#[test]
fn live_batches_have_one_sample_per_series_entry() {
    let mut bench = Bench::new(config());
    bench.scrape(4, 10);
    bench.send();
    let sent = decode(bench.sender.request().body, Protocol::V2);
    assert_eq!(sent.len(), 60);
    assert!(sent.iter().all(|s| s.samples.len() == 1));
}

#[test]
fn a_stretched_interval_fills_requests_as_a_backlog_does() {
    let mut bench = Bench::new(SenderConfig {
        backlog_samples_per_send: 200,
        flush_interval_ms: 120_000,
        group_live: true,
        ..config()
    });
    bench.poll();
    bench.scrape(8, 10);
    assert_eq!(
        bench.poll(),
        Action::Wait(Instant(120_000)),
        "120 samples, and time for more"
    );
    assert_eq!(bench.send(), 120);
    let sent = decode(bench.sender.request().body, Protocol::V2);
    assert_eq!(sent.len(), 15, "each series once");
    bench.accept();
    bench.scrape(13, 10);
    let start = bench.now;
    assert_eq!(bench.send(), 195);
    assert_eq!(bench.now, start, "no room for another scrape");
}

#[test]
fn a_backlog_is_grouped_and_does_not_wait() {
    let mut bench = Bench::new(SenderConfig {
        backlog_samples_per_send: 1000,
        ..config()
    });
    bench.scrape(100, 10);
    let start = bench.now;
    assert_eq!(bench.send(), 990);
    assert_eq!(bench.now, start);
    let sent = decode(bench.sender.request().body, Protocol::V2);
    assert_eq!(sent.len(), 15, "each series once");
    bench.accept();
    assert_eq!(bench.acknowledged(), 66);
    assert_eq!(bench.send(), 510);
    assert_eq!(bench.now, start, "more than a live batch holds is not kept back");
}

#[test]
fn a_full_batch_does_not_wait() {
    let mut bench = Bench::new(config());
    bench.scrape(5, 10);
    assert_eq!(bench.poll(), Action::Wait(Instant(5000)));
    bench.scrape(1, 10);
    assert_eq!(bench.send(), 90);
    assert_eq!(bench.now, Instant(0));
    bench.accept();
    assert_eq!(bench.acknowledged(), 6);
}

#[test]
fn a_frame_larger_than_a_batch_is_acknowledged_after_its_last_part() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 200);
    for (samples, acknowledged) in [(100, 0), (100, 0), (5, 1)] {
        assert_eq!(bench.send(), samples);
        assert_eq!(bench.sent_times(), [EPOCH]);
        bench.accept();
        assert_eq!(bench.acknowledged(), acknowledged);
    }
}

#[test]
fn frames_from_before_a_restart_do_not_share_a_request_with_new_ones() {
    let mut bench = Bench::replaying(
        SenderConfig {
            message: V1,
            ..config()
        },
        3,
    );
    bench.scrape(5, 10);
    assert_eq!(bench.send(), 45);
    assert_eq!(bench.answer(204), Verdict::Accepted);
    assert_eq!(bench.acknowledged(), 3);
    assert_eq!(bench.send(), 30);
}

#[test]
fn a_failing_medium_is_reported_and_nothing_is_skipped() {
    let mut bench = Bench::new(config());
    bench.scrape(2, 10);
    bench.source.failures = 2;
    let wall = bench.wall();
    for _ in 0..2 {
        assert_eq!(
            bench.sender.poll(bench.now, wall, &mut bench.source, &bench.metadata),
            Err("medium")
        );
    }
    assert_eq!(bench.send(), 30);
    bench.accept();
    assert_eq!(bench.acknowledged(), 2);
    // With something in hand, that goes out when it is time.
    bench.scrape(1, 10);
    bench.poll();
    bench.source.failures = 1;
    bench.now = bench.now + 5000;
    assert_eq!(bench.poll(), Action::Send);
}

#[test]
fn frames_the_ring_has_lost_are_passed_over() {
    let mut bench = Bench::new(config());
    bench.scrape(9, 10);
    bench.source.scrapes.drain(..4);
    assert_eq!(bench.send(), 75);
    bench.accept();
    assert_eq!(bench.acknowledged(), 9);
}

#[test]
fn late_reports_without_a_request_change_nothing() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.poll();
    bench.answer(204);
    bench.sender.on_error(bench.now, ErrorKind::Timeout);
    let expected = Counters {
        highest_timestamp_ms: EPOCH,
        ..Counters::default()
    };
    assert_eq!((bench.acknowledged(), *bench.sender.counters()), (0, expected));
    assert_eq!(bench.send(), 15);
}

#[test]
fn headers_of_the_request_name_its_message() {
    let bench = Bench::new(config());
    let shown: [String; 2] = [
        bench.sender.request().protocol.content_type().into(),
        bench.sender.request().protocol.version().into(),
    ];
    assert!(shown[0].contains("io.prometheus.write.v2.Request") && shown[1].starts_with("2.0"));
}
