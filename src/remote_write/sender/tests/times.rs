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
