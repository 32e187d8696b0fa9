//! The end of a run: what is there goes out once, within its deadline and without hammering.

use super::*;

#[test]
fn flush_sends_what_there_is_and_ends() {
    let mut bench = Bench::new(config());
    bench.scrape(7, 10);
    bench.sender.flush(bench.now + 5000);
    assert_eq!(bench.send(), 90);
    bench.accept();
    assert_eq!(bench.send(), 15);
    bench.accept();
    assert_eq!(bench.poll(), Action::Done);
    assert_eq!((bench.acknowledged(), bench.now), (7, Instant(0)));
}

#[test]
fn flush_gives_up_when_the_receiver_does_not_take_it() {
    for status in [401, 404, 413, 400] {
        let mut bench = Bench::new(config());
        bench.scrape(2, 10);
        bench.sender.flush(bench.now + 5000);
        bench.send();
        bench.answer(status);
        assert_eq!(bench.poll(), Action::Done, "{status}");
        assert_eq!(bench.acknowledged(), 0);
    }
    let mut bench = Bench::new(config());
    bench.scrape(2, 10);
    bench.sender.flush(bench.now + 5000);
    let mut attempts = 0;
    loop {
        match bench.poll() {
            Action::Send => {
                attempts += 1;
                bench.answer(503);
            }
            Action::Wait(at) => bench.now = at,
            action => break assert_eq!(action, Action::Done),
        }
    }
    assert!(
        attempts > 5 && bench.now >= Instant(5000) && bench.now < Instant(9000),
        "{attempts} {:?}",
        bench.now
    );
    // In an outage it tries once.
    let mut bench = Bench::new(config());
    bench.scrape(2, 10);
    bench.send();
    bench.sender.on_error(bench.now, ErrorKind::Connect);
    bench.sender.flush(bench.now + 5000);
    assert_eq!(bench.poll(), Action::Send);
    bench.sender.on_error(bench.now, ErrorKind::Connect);
    assert_eq!(bench.poll(), Action::Done);
}

#[test]
fn at_most_two_requests_in_eight_seconds_of_4xx() {
    for status in [400, 401, 404, 413] {
        let mut bench = Bench::new(config());
        let mut requests = 0;
        let mut second = 0;
        while bench.now < Instant(9000) {
            if bench.now.0 >= second * 1000 {
                bench.scrape(1, 20);
                second += 1;
            }
            if bench.now >= Instant(8000) && bench.sender.flush.is_none() {
                bench.sender.flush(bench.now + 5000);
            }
            if bench.poll() == Action::Send {
                requests += 1;
                bench.answer(status);
            }
            bench.now = bench.now + 100;
        }
        assert!((1..=2).contains(&requests), "{status}: {requests}");
    }
}
