//! Two rows, one link.

use super::*;

const V2: MessageChoice = MessageChoice::Fixed(Protocol::V2);

/// A backlog of 100 scrapes of ten samples, a second apart, all in the past; batches of ten scrapes.
fn behind(live_share: u16) -> Bench {
    let mut bench = Bench::new(SenderConfig {
        live_share,
        slow_start_ms: 0,
        message: V2,
        ..config()
    });
    bench.scrape(100, 5);
    bench.now = Instant(200_000);
    bench
}

/// What the request in hand is of: a fresh scrape or an old one.
fn is_fresh(bench: &Bench) -> bool {
    let times = bench.sent_times();
    let fresh = times.iter().all(|&time| time >= EPOCH + 200_000);
    assert!(
        fresh || times.iter().all(|&time| time < EPOCH + 200_000),
        "rows share a request"
    );
    fresh
}

/// Answers after `ms`.
fn accept_after(bench: &mut Bench, ms: u64) {
    bench.now = bench.now + ms;
    bench.accept();
}

#[test]
fn fresh_samples_overtake_a_backlog_and_are_not_sent_again() {
    let mut bench = behind(500);
    let (mut rows, mut times) = (String::new(), Vec::new());
    while bench.acknowledged() < bench.source.scrapes.len() as u64 {
        // A scrape every six seconds while a request takes two.
        bench.send();
        rows.push(if is_fresh(&bench) { 'f' } else { 'o' });
        times.extend(bench.sent_times());
        accept_after(&mut bench, 2_000);
        if bench.source.scrapes.len() < 110 && rows.len() % 3 == 0 {
            bench.scrape(1, 5);
        }
    }
    assert!(rows.starts_with("ooof"), "{rows}");
    let sent = times.len();
    times.sort_unstable();
    times.dedup();
    let scrapes = bench.source.scrapes.len();
    assert_eq!((times.len(), sent), (scrapes, scrapes), "each once");
    let counters = bench.sender.counters();
    assert_eq!(
        (counters.samples_accepted, counters.samples_lost()),
        (scrapes as u64 * 10, 0)
    );
    assert!(counters.samples_ahead >= 20, "{counters:?}");
    assert!(!bench.sender.is_ahead());
    assert_eq!(bench.sender.delivered_ahead().count(), 0);
}

#[test]
fn the_acknowledgement_never_passes_what_was_not_delivered() {
    let mut bench = behind(1_000);
    bench.send();
    accept_after(&mut bench, 100);
    for round in 0..5 {
        bench.now = bench.now + 6_000;
        bench.scrape(1, 5);
        assert_eq!(bench.send(), 10, "a fresh scrape");
        assert!(is_fresh(&bench));
        let before = bench.acknowledged();
        accept_after(&mut bench, 100);
        assert_eq!(bench.acknowledged(), before);
        let spans: Vec<_> = bench.sender.delivered_ahead().collect();
        assert_eq!(spans, [(FrameNo(100), FrameNo(101 + round))]);
        bench.send();
        accept_after(&mut bench, 100);
        assert_eq!(bench.acknowledged(), before + 10);
    }
}

#[test]
fn a_share_is_kept_to_while_both_rows_want_the_link() {
    for (share, expected) in [(100, 0.1), (300, 0.3), (700, 0.7)] {
        let mut bench = behind(share);
        bench.source.scrapes.clear();
        bench.now = Instant(0);
        bench.scrape(20_000, 5);
        bench.now = Instant(40_000_000);
        let (mut fresh, mut requests) = (0, 0);
        for _ in 0..400 {
            // More than the link takes.
            bench.scrape(10, 5);
            bench.send();
            let times = bench.sent_times();
            fresh += u32::from(times[0] >= EPOCH + 40_000_000);
            requests += 1;
            accept_after(&mut bench, 6_000);
        }
        let part = f64::from(fresh) / f64::from(requests);
        assert!((part - expected).abs() < 0.05, "{share}: {part}");
    }
}

#[test]
fn nothing_goes_ahead_where_it_is_not_wanted_or_not_old() {
    let mut bench = behind(0);
    let mut last = i64::MIN;
    while bench.acknowledged() < bench.source.scrapes.len() as u64 {
        bench.send();
        let times = bench.sent_times();
        assert!(times[0] > last);
        last = times[times.len() - 1];
        accept_after(&mut bench, 2_000);
        if bench.source.scrapes.len() < 110 {
            bench.scrape(1, 5);
        }
    }
    let mut bench = behind(500);
    bench.now = Instant(100_000);
    while bench.acknowledged() < 100 {
        bench.send();
        accept_after(&mut bench, 10);
    }
    assert_eq!(bench.sender.counters().samples_ahead, 0, "there was nothing fresh");
}

#[test]
fn a_clock_set_back_stops_what_goes_ahead_until_it_has_caught_up() {
    let mut bench = behind(500);
    bench.send();
    accept_after(&mut bench, 1_000);
    assert!(bench.sender.is_ahead());
    let wall = bench.wall().map(|wall| UnixMillis(wall.0 + 30_000));
    bench.sender.clock_was(wall);
    let until = bench.now + 30_000;
    while bench.now <= until {
        bench.scrape(1, 5);
        bench.send();
        assert!(!is_fresh(&bench));
        accept_after(&mut bench, 4_000);
    }
    let mut fresh = false;
    for _ in 0..6 {
        bench.scrape(1, 5);
        bench.send();
        fresh |= bench.sender.sends_ahead();
        accept_after(&mut bench, 1_000);
    }
    while bench.acknowledged() < bench.source.scrapes.len() as u64 {
        bench.send();
        fresh |= bench.sender.sends_ahead();
        accept_after(&mut bench, 1_000);
    }
    assert!(fresh, "it goes on");
    assert_eq!(
        bench.sender.counters().samples_accepted,
        bench.source.scrapes.len() as u64 * 10
    );
}

/// Sends until all is acknowledged; every time that goes out is a new one.
fn drains_without_repeating_a_time(bench: &mut Bench, mut times: Vec<i64>) {
    let mut in_old_row = Vec::new();
    while bench.acknowledged() < bench.source.scrapes.len() as u64 {
        bench.send();
        times.extend(bench.sent_times());
        if !bench.sender.sends_ahead() {
            in_old_row.extend(bench.sent_times());
        }
        accept_after(bench, 1_000);
    }
    assert!(in_old_row.is_sorted(), "{in_old_row:?}");
    let sent = times.len();
    times.sort_unstable();
    times.dedup();
    assert_eq!((times.len(), sent), (bench.source.scrapes.len(), sent));
}

#[test]
fn what_lies_behind_a_closed_span_does_not_repeat_it_after_the_clock_was_set_back() {
    let mut bench = behind(300);
    let mut times = Vec::new();
    // Five scrapes go ahead; the next sixty are old when it is their turn: the fresh row begins anew.
    for (scrapes, fresh) in [(5, false), (1, true), (60, false), (0, false)] {
        bench.send();
        assert_eq!(bench.sender.sends_ahead(), fresh);
        times.extend(bench.sent_times());
        bench.scrape(scrapes, 5);
        accept_after(&mut bench, scrapes * 1_000 + 1_000);
    }
    let spans: Vec<_> = bench.sender.delivered_ahead().collect();
    assert!(spans.len() > 1 && spans[1].0 == spans[1].1, "{spans:?}");
    bench.set_clock(-20_000);
    drains_without_repeating_a_time(&mut bench, times);
}

/// What was scraped of another target before a scrape that took long.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Other {
    Nothing,
    Waiting,
    Sent,
}

#[test]
fn a_scrape_that_began_before_the_clock_had_caught_up_waits_with_the_rest() {
    for other in [Other::Nothing, Other::Waiting, Other::Sent] {
        let mut bench = behind(500);
        let mut times = Vec::new();
        for (scrapes, ms, fresh) in [(1, 6_000, false), (0, 1_000, true)] {
            bench.send();
            assert_eq!(bench.sender.sends_ahead(), fresh);
            times.extend(bench.sent_times());
            bench.scrape(scrapes, 5);
            accept_after(&mut bench, ms);
        }
        let newest = times[times.len() - 1];
        bench.set_clock(-20_000);
        bench.scrape(1, 5);
        bench.now = bench.now + 25_000;
        bench.send();
        assert!(!bench.sender.sends_ahead());
        times.extend(bench.sent_times());
        if other != Other::Nothing {
            bench.scrape(1, 5);
            bench.source.scrapes.last_mut().expect("just scraped").target = 1;
        }
        if other == Other::Sent {
            accept_after(&mut bench, 1_000);
            bench.send();
            assert!(bench.sender.sends_ahead());
            times.extend(bench.sent_times());
        }
        bench.scrape(1, 5);
        bench.source.scrapes.last_mut().expect("just scraped").unix_ms = Some(newest);
        accept_after(&mut bench, 1_000);
        drains_without_repeating_a_time(&mut bench, times);
    }
}

#[test]
fn a_fresh_batch_that_was_too_much_waits_with_the_rest_once_the_clock_is_set_back() {
    let mut bench = behind(500);
    let mut times = Vec::new();
    bench.send();
    times.extend(bench.sent_times());
    bench.scrape(4, 5);
    accept_after(&mut bench, 6_000);
    bench.send();
    assert!(bench.sender.sends_ahead());
    bench.answer(413);
    bench.set_clock(-30_000);
    bench.send();
    assert!(!bench.sender.sends_ahead());
    times.extend(bench.sent_times());
    accept_after(&mut bench, 1_000);
    drains_without_repeating_a_time(&mut bench, times);
}

#[test]
fn what_was_delivered_ahead_before_a_restart_is_passed_over() {
    let mut bench = behind(0);
    let spans = [(FrameNo(40), FrameNo(50)), (FrameNo(20), FrameNo(30))];
    bench.sender.set_delivered_ahead(spans.into_iter());
    let mut times = Vec::new();
    while bench.acknowledged() < 100 {
        bench.send();
        times.extend(bench.sent_times());
        accept_after(&mut bench, 10);
    }
    let expected: Vec<i64> = (0..20)
        .chain(30..40)
        .chain(50..100)
        .map(|n| EPOCH + n * 1_000)
        .collect();
    assert_eq!(times, expected);
}

#[test]
fn too_many_requests_make_batches_smaller_until_they_are_taken_again() {
    let mut bench = behind(0);
    assert_eq!(bench.send(), 100);
    let mut sizes = Vec::new();
    for _ in 0..12 {
        assert!(matches!(bench.answer(429), Verdict::Retry { .. }));
        sizes.push(bench.send());
    }
    assert_eq!(
        sizes,
        [100, 100, 50, 50, 50, 20, 20, 20, 20, 20, 20, 20],
        "whole scrapes"
    );
    assert_eq!(bench.sender.request().retry_attempt, 12);
    for expected in [50, 100, 100] {
        bench.accept();
        assert_eq!(bench.send(), expected);
    }
    assert_eq!(bench.sender.counters().samples_lost(), 0);
}

#[test]
fn after_three_refusals_by_429_fresh_samples_go_first() {
    let mut bench = behind(200);
    bench.send();
    accept_after(&mut bench, 1_000);
    bench.now = bench.now + 6_000;
    for _ in 0..3 {
        bench.send();
        assert!(!is_fresh(&bench));
        bench.answer(429);
    }
    bench.now = bench.now + 1_000;
    bench.scrape(1, 5);
    bench.send();
    assert!(is_fresh(&bench), "fresh samples first");
    bench.accept();
    bench.send();
    assert!(!is_fresh(&bench));
    assert_eq!(bench.sender.request().retry_attempt, 3);
}
