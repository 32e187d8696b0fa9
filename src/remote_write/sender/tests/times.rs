//! Sample times: too old, not known yet, and a clock that the receiver contradicts.

use super::*;

fn dated(status: u16, date: &str) -> Head {
    let mut head = Head::new(status);
    head.header("Date", date.as_bytes());
    head
}

#[test]
fn samples_that_grow_too_old_while_waiting_are_left_out() {
    let mut bench = Bench::new(SenderConfig {
        max_sample_age_ms: 10_000,
        ..config()
    });
    bench.scrape(4, 10);
    assert_eq!(bench.send(), 60);
    bench.sender.on_error(bench.now, ErrorKind::Timeout);
    bench.now = Instant(12_500);
    bench.scrape(1, 10);
    assert_eq!(
        bench.send(),
        15,
        "three scrapes are too old; the new one does not join what is in doubt"
    );
    bench.accept();
    assert_eq!((bench.acknowledged(), bench.sender.counters().dropped.too_old), (4, 45));
    assert_eq!(bench.send(), 15);
    bench.accept();
    bench.now = Instant(100_000);
    bench.source.scrapes.push(Scrape::new(5, EPOCH, &[(0, 1)]));
    bench.poll();
    assert_eq!((bench.acknowledged(), bench.sender.counters().dropped.too_old), (6, 51));
}

#[test]
fn a_frame_of_unknown_time_holds_what_follows() {
    let mut bench = Bench::new(config());
    bench.scrape(3, 10);
    bench.source.scrapes[1].unix_ms = None;
    assert_eq!(bench.send(), 15);
    bench.accept();
    assert!(matches!(bench.poll(), Action::Hold(HoldReason::ClockUnknown, at) if at == bench.now + 1000));
    assert_eq!(bench.acknowledged(), 1);
    bench.source.scrapes[1].unix_ms = Some(EPOCH + 1000);
    assert_eq!(bench.send(), 30);
}

#[test]
fn a_clock_far_ahead_of_the_receiver_stops_sending() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    // EPOCH is Tue, 14 Nov 2023 22:13:20 GMT; it is 5 s later now.
    bench.answer_with(dated(503, "Tue, 14 Nov 2023 22:03:24 GMT"));
    assert_eq!(bench.sender.clock_ahead_ms(bench.now, bench.wall()), Some(601_000));
    assert_eq!(bench.send(), 0, "asks for the time without samples");
    assert_eq!(bench.sender.request().body, EMPTY_V2);
    bench.answer_with(dated(400, "Tue, 14 Nov 2023 22:03:24 GMT"));
    assert!(matches!(bench.poll(), Action::Hold(HoldReason::ClockAhead, at) if at == bench.now + CLOCK_PROBE_MS));
    assert_eq!(bench.send(), 0);
    bench.answer_with(dated(204, "Tue, 14 Nov 2023 22:14:25 GMT"));
    assert_eq!(bench.send(), 15);
    assert_eq!((bench.acknowledged(), bench.sender.counters().samples_failed), (0, 0));
    // Our clock put right is enough, too.
    bench.answer_with(dated(503, "Tue, 14 Nov 2023 22:03:24 GMT"));
    let right = Some(UnixMillis(EPOCH + bench.now.0 as i64 - 650_000));
    let action = bench
        .sender
        .poll(bench.now + 5000, right, &mut bench.source, &bench.metadata);
    assert_eq!(action, Ok(Action::Send));
    assert_eq!(bench.sender.request().samples, 15);
}

/// A receiver of 1.0 may have four scrapes: it is asked about them once more, and refuses what it has.
fn four_scrapes_in_doubt(bench: &mut Bench) -> Vec<i64> {
    bench.scrape(4, 10);
    assert_eq!(bench.send(), 60);
    let times = bench.sent_times();
    bench.sender.on_error(bench.now, ErrorKind::Timeout);
    assert_eq!(bench.send(), 60);
    assert_eq!(bench.sent_times(), times, "repeated as it was");
    times
}

fn strict() -> Bench {
    Bench::new(SenderConfig {
        message: V1,
        ..config()
    })
}

#[test]
fn what_may_be_stored_keeps_its_times_when_the_clock_is_set() {
    for error_ms in [-60_000, 60_000] {
        let mut bench = strict();
        let times = four_scrapes_in_doubt(&mut bench);
        bench.set_clock(error_ms);
        assert_eq!(bench.answer(400), Verdict::Bisect);
        for (n, &time) in times.iter().enumerate() {
            assert_eq!(bench.send(), 15);
            assert_eq!(bench.sent_times(), [time], "{error_ms}");
            // It has the first two.
            bench.answer(if n < 2 { 400 } else { 204 });
        }
        bench.scrape(1, 10);
        bench.send();
        let next = bench.sent_times()[0];
        assert!(next > times[3], "{error_ms}: {next} behind {times:?}");
        assert_eq!(bench.sender.counters().samples_failed, 0);
    }
}

#[test]
fn what_was_held_back_and_is_stored_is_not_repeated_by_what_follows() {
    let mut bench = strict();
    bench.scrape(1, 10);
    bench.send();
    let last = bench.sent_times()[0];
    bench.answer(204);
    bench.set_clock(-60_000);
    let times = four_scrapes_in_doubt(&mut bench);
    assert_eq!(times, [last + 1, last + 2, last + 3, last + 4]);
    assert_eq!(bench.answer(400), Verdict::Bisect);
    for time in times {
        bench.send();
        assert_eq!(bench.sent_times(), [time]);
        assert_eq!(bench.answer(400), Verdict::Drop(DropReason::AlreadyDelivered));
    }
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.sent_times(), [last + 5]);
}

#[test]
fn what_follows_samples_that_may_be_stored_and_are_gone_is_later() {
    for left in [0, 1] {
        let mut bench = strict();
        let times = four_scrapes_in_doubt(&mut bench);
        bench.set_clock(-60_000);
        assert_eq!(bench.answer(400), Verdict::Bisect);
        bench.scrape(1, 10);
        // The ring was full.
        bench.source.scrapes.drain(..4 - left);
        for _ in 0..left {
            bench.send();
            assert_eq!(bench.sent_times(), [times[3]]);
            assert_eq!(bench.answer(400), Verdict::Drop(DropReason::AlreadyDelivered));
        }
        bench.send();
        assert_eq!(bench.sent_times(), [times[3] + 1]);
    }
}

#[test]
fn a_batch_ends_where_the_clock_was_set() {
    let mut bench = strict();
    bench.scrape(2, 10);
    assert!(matches!(bench.poll(), Action::Wait(_)), "it waits for more");
    bench.set_clock(60_000);
    bench.scrape(2, 10);
    assert_eq!(bench.send(), 30);
    assert_eq!(bench.sent_times(), [EPOCH, EPOCH + 1_000]);
}

#[test]
fn a_clock_that_the_receiver_contradicts_gives_no_time_twice() {
    let mut bench = strict();
    bench.set_clock(3_600_000);
    bench.scrape(1, 10);
    bench.send();
    bench.answer_with(dated(503, "Tue, 14 Nov 2023 22:13:25 GMT"));
    assert_eq!(bench.send(), 0, "asks for the time without samples");
    bench.answer_with(dated(400, "Tue, 14 Nov 2023 22:13:25 GMT"));
    bench.set_clock(0);
    bench.send();
    assert_eq!(bench.sent_times(), [EPOCH], "stamped right");
}
