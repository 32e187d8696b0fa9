//! A batch that is larger than a request: every verdict for one slice of it, and what the others make of that.

use super::*;
use alloc::collections::BTreeMap;

/// Of a backlog: 20 scrapes of 20 samples are a batch, 100 samples, five series, a request.
const SLICED: SenderConfig = {
    let mut config = CONFIG;
    config.limits.samples = 400;
    config.slow_start_ms = 0;
    config.message = MessageChoice::Fixed(Protocol::V2);
    config
};

/// A bench with `scrapes` scrapes waiting.
fn behind(config: SenderConfig, scrapes: u64) -> Bench {
    let mut bench = Bench::new(config);
    bench.scrape(scrapes, 15);
    bench
}

/// Every sample the receiver was given with a 2xx: how often.
#[derive(Default)]
struct Stored(BTreeMap<(String, i64), usize>);

impl Stored {
    fn add(&mut self, bench: &Bench) {
        let request = bench.sender.request();
        for series in decode(request.body, request.protocol) {
            for &(_, time) in &series.samples {
                *self.0.entry((series.labels.clone(), time)).or_default() += 1;
            }
        }
    }

    /// Sends the next request, which is taken; its samples.
    fn take(&mut self, bench: &mut Bench) -> usize {
        let samples = bench.send();
        self.add(bench);
        match bench.sender.request().protocol {
            Protocol::V1 => bench.answer(204),
            Protocol::V2 => bench.accept(),
        };
        samples
    }

    /// Takes everything there is.
    fn take_all(&mut self, bench: &mut Bench) {
        while bench.acknowledged() < bench.source.scrapes.len() as u64 {
            self.take(bench);
        }
    }

    fn assert_each_once(&self, samples: usize) {
        assert_eq!(self.0.len(), samples);
        assert!(self.0.values().all(|&times| times == 1));
    }
}

#[test]
fn a_backlog_goes_in_slices_by_series_and_is_acknowledged_behind_the_last() {
    let mut bench = behind(SLICED, 40);
    let mut stored = Stored::default();
    for n in 1..=8 {
        assert_eq!(bench.sender.counters().requests, n - 1);
        assert_eq!(bench.send(), 100);
        let sent = decode(bench.sender.request().body, Protocol::V2);
        assert_eq!((sent.len(), sent[0].samples.len()), (5, 20), "five series, all of each");
        let left = 400 - 100 * ((n - 1) % 4) as usize;
        assert_eq!(bench.sender.pending().samples, left);
        let newest = if n <= 4 { 0 } else { EPOCH + 19_000 };
        assert_eq!(
            bench.sender.counters().highest_sent_timestamp_ms,
            newest,
            "not before every series is there"
        );
        stored.add(&bench);
        assert_eq!(bench.accept(), Verdict::Accepted);
        assert_eq!(bench.acknowledged(), n / 4 * 20);
    }
    stored.assert_each_once(800);
    let counters = bench.sender.counters();
    assert_eq!(
        (
            counters.samples,
            counters.samples_accepted,
            counters.highest_sent_timestamp_ms
        ),
        (800, 800, EPOCH + 39_000)
    );
}

#[test]
fn live_batches_are_no_slices_and_1_0_has_none() {
    let mut bench = behind(SLICED, 4);
    assert_eq!(bench.send(), 80);
    assert!(
        decode(bench.sender.request().body, Protocol::V2)
            .iter()
            .all(|s| s.samples.len() == 1)
    );
    bench.accept();
    assert_eq!(bench.acknowledged(), 4);
    let mut bench = behind(SenderConfig { message: V1, ..SLICED }, 40);
    assert_eq!(bench.send(), 100);
    assert_eq!(bench.sent_times().len(), 5, "whole scrapes");
    bench.answer(204);
    assert_eq!(bench.acknowledged(), 5);
}

#[test]
fn a_scrape_larger_than_a_request_is_acknowledged_as_a_whole_and_stays_live() {
    let mut bench = Bench::new(SLICED);
    bench.scrape(1, 200);
    let mut stored = Stored::default();
    for (samples, acknowledged) in [(100, 0), (100, 0), (5, 1)] {
        assert_eq!(bench.send(), samples);
        let sent = decode(bench.sender.request().body, Protocol::V2);
        assert!(sent.iter().all(|s| s.samples.len() == 1));
        stored.add(&bench);
        bench.accept();
        assert_eq!(bench.acknowledged(), acknowledged);
    }
    stored.assert_each_once(205);
}

#[test]
fn a_slice_that_fails_is_sent_again_and_no_other() {
    for status in [503, 429, 500, 408] {
        let mut bench = behind(SLICED, 20);
        let mut stored = Stored::default();
        stored.take(&mut bench);
        bench.send();
        let body = bench.sender.request().body.to_vec();
        assert_eq!(bench.answer(status), Verdict::Retry { after_ms: None });
        for attempt in 1..4 {
            let sent_at = bench.now;
            assert_eq!(bench.send(), 100);
            assert!(attempt == 1 || bench.now > sent_at, "it backs off");
            let request = bench.sender.request();
            assert_eq!((request.body, request.retry_attempt), (&body[..], attempt));
            bench.sender.on_error(bench.now, ErrorKind::Connect);
        }
        stored.take_all(&mut bench);
        stored.assert_each_once(400);
        let counters = bench.sender.counters();
        assert_eq!((counters.samples_retried, counters.samples_accepted), (400, 400));
        assert_eq!((counters.samples, counters.requests), (800, 8));
    }
}

#[test]
fn a_slice_too_big_becomes_more_slices_of_what_is_left() {
    for host in [false, true] {
        let mut bench = behind(SLICED, 40);
        let mut stored = Stored::default();
        stored.take(&mut bench);
        let mut sizes = Vec::new();
        for _ in 0..2 {
            bench.send();
            if host {
                bench.sender.on_error(bench.now, ErrorKind::TooLarge);
            } else {
                assert_eq!(bench.answer(413), Verdict::Halve);
            }
        }
        let sent_at = bench.now;
        while bench.acknowledged() < 40 {
            sizes.push(stored.take(&mut bench));
        }
        assert_eq!(sizes[..12], [25; 12], "the rest of the batch");
        assert_eq!(sizes.len(), 12 + 16, "and what comes behind it");
        assert_eq!(bench.now.since(sent_at), 5_000, "no haste after a 4xx, once");
        stored.assert_each_once(800);
        assert_eq!(
            (bench.sender.counters().halved, bench.sender.counters().samples_lost()),
            (2, 0)
        );
    }
}

#[test]
fn a_refused_slice_is_split_once_and_costs_its_own_samples_only() {
    let mut bench = behind(SLICED, 20);
    let mut stored = Stored::default();
    stored.take(&mut bench);
    assert_eq!(bench.send(), 100);
    assert_eq!(bench.answer(400), Verdict::Bisect);
    assert_eq!(bench.send(), 50);
    assert_eq!(bench.answer(400), Verdict::Drop(DropReason::Refused { status: 400 }));
    assert_eq!((bench.acknowledged(), bench.sender.counters().samples_failed), (0, 50));
    assert_eq!(stored.take(&mut bench), 50);
    assert_eq!(bench.send(), 100, "the next slice is whole");
    assert_eq!(bench.answer(400), Verdict::Bisect, "and may be split once, too");
    bench.send();
    stored.add(&bench);
    bench.accept();
    stored.take_all(&mut bench);
    stored.assert_each_once(350);
    let counters = bench.sender.counters();
    assert_eq!(
        (bench.acknowledged(), counters.samples_failed, counters.samples_accepted),
        (20, 50, 350)
    );
    assert_eq!((counters.split, counters.samples_in_doubt), (2, 0));
    let span = counters.failed_span;
    assert_eq!((span.first_ms, span.last_ms), (EPOCH, EPOCH + 19_000));
}

#[test]
fn partly_written_slices_are_counted_one_by_one() {
    let mut bench = behind(SLICED, 20);
    for written in [100, 60, 0, 99] {
        assert_eq!(bench.send(), 100);
        bench.answer_written(if written == 100 { 204 } else { 400 }, written);
    }
    let counters = bench.sender.counters();
    assert_eq!(
        (
            bench.acknowledged(),
            counters.samples_accepted,
            counters.samples_failed,
            counters.samples_in_doubt
        ),
        (20, 259, 141, 0)
    );
}

#[test]
fn only_the_slice_with_an_unknown_outcome_is_in_doubt() {
    for kind in [ErrorKind::Timeout, ErrorKind::Closed, ErrorKind::BadResponse] {
        let mut bench = behind(SLICED, 20);
        let mut stored = Stored::default();
        stored.take(&mut bench);
        assert_eq!(bench.send(), 100);
        let body = bench.sender.request().body.to_vec();
        // It was stored, and the answer is lost.
        stored.add(&bench);
        bench.sender.on_error(bench.now, kind);
        assert_eq!(bench.send(), 100);
        assert_eq!(bench.sender.request().body, body, "nothing joins it");
        // A part of it is written, says the receiver: the rest it had.
        bench.answer_written(400, 0);
        assert_eq!(
            (
                bench.sender.counters().samples_in_doubt,
                bench.sender.counters().samples_failed
            ),
            (100, 0)
        );
        // The next one is in nobody's hands yet: what is refused of it is lost.
        assert_eq!(bench.send(), 100);
        bench.answer_written(400, 40);
        assert_eq!(
            (
                bench.sender.counters().samples_in_doubt,
                bench.sender.counters().samples_failed
            ),
            (100, 60)
        );
        stored.take_all(&mut bench);
        stored.assert_each_once(300);
        assert_eq!(bench.sender.counters().samples_accepted, 100 + 40 + 100);
    }
}

#[test]
fn a_slice_in_doubt_that_is_refused_without_a_count_goes_by_the_frame() {
    let mut bench = behind(SLICED, 20);
    let mut stored = Stored::default();
    stored.take(&mut bench);
    bench.send();
    bench.sender.on_error(bench.now, ErrorKind::Timeout);
    bench.send();
    assert_eq!(bench.answer(400), Verdict::Bisect);
    for n in 0..20 {
        assert_eq!(bench.send(), 5);
        assert_eq!(bench.sent_times(), [EPOCH + n * 1_000]);
        if n < 12 {
            assert_eq!(bench.answer(400), Verdict::Drop(DropReason::AlreadyDelivered));
        } else {
            bench.accept();
        }
    }
    assert_eq!(
        (bench.acknowledged(), bench.sender.counters().samples_in_doubt),
        (0, 60)
    );
    assert_eq!(bench.send(), 100);
    assert_eq!(bench.answer(400), Verdict::Bisect, "the doubt is over");
    assert_eq!(bench.send(), 50);
    assert_eq!(bench.answer(400), Verdict::Drop(DropReason::Refused { status: 400 }));
    assert_eq!(bench.sender.counters().samples_failed, 50);
}

#[test]
fn another_message_in_the_middle_repeats_nothing() {
    for (status, haste) in [(415, true), (204, false)] {
        let mut bench = behind(
            SenderConfig {
                message: MessageChoice::Negotiate,
                ..SLICED
            },
            40,
        );
        let mut stored = Stored::default();
        stored.take(&mut bench);
        if !haste {
            // A receiver that used to say what it has written and no longer does.
            for _ in 0..3 {
                bench.send();
                assert_eq!(bench.answer(status), Verdict::Hold(HoldReason::Unconfirmed));
            }
        }
        assert_eq!(bench.send(), 100);
        assert_eq!(bench.answer(status), Verdict::FallBackToV1);
        for _ in 0..3 {
            assert_eq!(bench.send(), 100);
            assert_eq!(bench.sender.request().protocol, Protocol::V1);
            stored.add(&bench);
            bench.answer(204);
        }
        assert_eq!(bench.acknowledged(), 20);
        assert_eq!(stored.take(&mut bench), 100);
        assert_eq!(bench.acknowledged(), 25, "from here on whole scrapes");
        stored.take_all(&mut bench);
        stored.assert_each_once(800);
        assert_eq!(bench.sender.counters().samples_lost(), 0);
    }
}

#[test]
fn neither_message_taken_in_the_middle_is_a_hold_that_repeats_nothing() {
    let mut bench = behind(
        SenderConfig {
            message: MessageChoice::Negotiate,
            ..SLICED
        },
        20,
    );
    let mut stored = Stored::default();
    stored.take(&mut bench);
    for _ in 0..3 {
        bench.send();
        assert_eq!(bench.answer(415), Verdict::FallBackToV1);
        bench.send();
        assert_eq!(bench.answer(415), Verdict::Hold(HoldReason::Unsupported));
    }
    bench.send();
    assert_eq!(bench.sender.request().protocol, Protocol::V2);
    stored.add(&bench);
    bench.accept();
    stored.take_all(&mut bench);
    stored.assert_each_once(400);
}

#[test]
fn a_message_that_was_never_taken_begins_the_batch_again() {
    let mut bench = behind(
        SenderConfig {
            message: MessageChoice::Negotiate,
            ..SLICED
        },
        20,
    );
    assert_eq!(bench.send(), 100);
    assert_eq!(bench.answer(415), Verdict::FallBackToV1);
    let mut stored = Stored::default();
    stored.take_all(&mut bench);
    stored.assert_each_once(400);
    assert_eq!(bench.sender.counters().samples_lost(), 0);
}

#[test]
fn a_first_slice_in_doubt_leaves_its_doubt_to_the_whole_scrapes_of_1_0() {
    let mut bench = behind(
        SenderConfig {
            message: MessageChoice::Negotiate,
            ..SLICED
        },
        22,
    );
    bench.send();
    bench.sender.on_error(bench.now, ErrorKind::Timeout);
    bench.send();
    assert_eq!(bench.answer(415), Verdict::FallBackToV1);
    for n in 1..=4 {
        assert_eq!(bench.send(), 100);
        assert_eq!(bench.sent_times().len(), 5);
        bench.answer(204);
        assert_eq!(bench.acknowledged(), n * 5);
    }
    // What comes behind the batch is not in doubt.
    assert_eq!(bench.send(), 40);
    assert_eq!(bench.answer(400), Verdict::Drop(DropReason::Refused { status: 400 }));
}

#[test]
fn configuration_errors_hold_the_slice_and_never_drop() {
    for status in [401, 403, 404] {
        let mut bench = behind(SLICED, 20);
        let mut stored = Stored::default();
        stored.take(&mut bench);
        bench.send();
        let body = bench.sender.request().body.to_vec();
        let reason = HoldReason::Configuration { status };
        assert_eq!(bench.answer(status), Verdict::Hold(reason));
        assert!(matches!(bench.poll(), Action::Hold(r, _) if r == reason));
        bench.sender.retry_now();
        assert_eq!(bench.poll(), Action::Send, "the operator put it right");
        assert_eq!(bench.sender.request().body, body);
        bench.answer(status);
        stored.take_all(&mut bench);
        stored.assert_each_once(400);
        assert_eq!(bench.sender.counters().samples_lost(), 0);
    }
}

#[test]
fn what_grows_too_old_between_slices_is_counted_once() {
    let mut bench = behind(
        SenderConfig {
            max_sample_age_ms: 60_000,
            ..SLICED
        },
        20,
    );
    let mut stored = Stored::default();
    stored.take(&mut bench);
    bench.send();
    bench.sender.on_error(bench.now, ErrorKind::Connect);
    // The first ten scrapes are older than a minute by then.
    bench.now = Instant(70_000);
    assert_eq!(bench.send(), 100, "ten series of ten samples");
    stored.add(&bench);
    bench.accept();
    assert_eq!(bench.acknowledged(), 0);
    bench.send();
    bench.sender.on_error(bench.now, ErrorKind::Timeout);
    bench.now = Instant(200_000);
    assert_eq!(bench.poll(), Action::Wait(Instant(u64::MAX)), "nothing is left");
    assert_eq!(bench.acknowledged(), 20);
    let counters = bench.sender.counters();
    // 15 series were left at first, five at last.
    assert_eq!((counters.dropped.too_old, counters.samples_accepted), (150 + 50, 200));
    stored.assert_each_once(200);
    assert_eq!(bench.sender.pending().samples, 0);
}

#[test]
fn refusals_by_429_make_slices_smaller() {
    let mut bench = behind(SLICED, 20);
    let mut stored = Stored::default();
    stored.take(&mut bench);
    let mut sizes = Vec::new();
    for _ in 0..10 {
        sizes.push(bench.send());
        assert!(matches!(bench.answer(429), Verdict::Retry { .. }));
    }
    assert_eq!(sizes, [100, 100, 100, 50, 50, 50, 25, 25, 25, 12]);
    assert_eq!(bench.sender.request().retry_attempt, 10);
    let sizes: Vec<usize> = (0..4).map(|_| stored.take(&mut bench)).collect();
    assert_eq!(sizes, [12, 24, 48, 96], "and larger again");
    stored.take_all(&mut bench);
    stored.assert_each_once(400);
}

#[test]
fn a_clock_in_doubt_between_slices_does_not_begin_the_batch_again() {
    let mut bench = behind(SLICED, 20);
    let mut stored = Stored::default();
    stored.take(&mut bench);
    bench.send();
    let body = bench.sender.request().body.to_vec();
    // EPOCH is Tue, 14 Nov 2023 22:13:20 GMT.
    let mut head = Head::new(503);
    head.header("Date", b"Tue, 14 Nov 2023 22:03:10 GMT");
    bench.answer_with(head);
    assert_eq!(bench.send(), 0, "asks for the time");
    let mut head = Head::new(204);
    head.header("Date", b"Tue, 14 Nov 2023 22:13:20 GMT");
    bench.answer_with(head);
    bench.send();
    assert_eq!(bench.sender.request().body, body);
    bench.sender.on_error(bench.now, ErrorKind::Connect);
    stored.take_all(&mut bench);
    stored.assert_each_once(400);
    assert_eq!(bench.source.seeks, 1, "nothing is read twice");
}

#[test]
fn frames_that_the_ring_gives_up_meanwhile_are_in_hand_and_delivered() {
    let mut bench = behind(SLICED, 40);
    let mut stored = Stored::default();
    stored.take(&mut bench);
    bench.source.scrapes.drain(..30);
    for _ in 0..3 {
        assert_eq!((bench.acknowledged(), bench.sender.in_hand()), (0, FrameNo(0)));
        bench.send();
        bench.answer(503);
        stored.take(&mut bench);
    }
    assert_eq!((bench.acknowledged(), bench.sender.in_hand()), (20, FrameNo(20)));
    while bench.acknowledged() < 40 {
        stored.take(&mut bench);
    }
    stored.assert_each_once(400 + 200);
}

#[test]
fn a_flush_that_ends_between_slices_leaves_the_batch_to_the_ring() {
    let mut bench = behind(SLICED, 20);
    bench.sender.flush(Instant(1_000));
    bench.send();
    bench.accept();
    bench.send();
    bench.now = Instant(1_000);
    bench.answer(503);
    assert_eq!(bench.poll(), Action::Done);
    assert_eq!(bench.acknowledged(), 0);
}

#[test]
fn slices_keep_to_the_rate_limit_one_by_one() {
    let mut bench = behind(
        SenderConfig {
            rate_limit: 1_000,
            ..SLICED
        },
        20,
    );
    let mut at = Vec::new();
    for _ in 0..4 {
        bench.send();
        at.push(bench.now.0);
        bench.sender.charge(bench.now, 2_000);
        bench.accept();
    }
    assert_eq!(at, [0, 2_000, 4_000, 6_000]);
    assert_eq!(bench.sender.counters().rate_limited, 3);
}

#[test]
fn a_late_answer_holds_back_the_next_slice_of_a_run() {
    let mut bench = Bench::new(SenderConfig {
        slow_start_ms: 60_000,
        ..SLICED
    });
    // A receiver known to answer at once, then an outage.
    bench.scrape(1, 15);
    bench.send();
    bench.now = bench.now + 10;
    bench.accept();
    bench.scrape(400, 15);
    bench.now = Instant(1_000_000);
    let mut late = None;
    for _ in 0..40 {
        let samples = bench.send();
        bench.now = bench.now + 10;
        // Requests have grown to the limit, and this is not the last slice of its batch.
        if samples == 100 && bench.sender.pending().samples > 200 {
            late = Some(bench.sender.pending().samples - 100);
            bench.now = bench.now + 400;
            bench.accept();
            break;
        }
        bench.accept();
    }
    let (left, answered) = (late.expect("a run of slices"), bench.now);
    assert_eq!(bench.send(), 20, "one scrape's worth");
    assert_eq!(bench.sender.pending().samples, left, "of the same batch");
    assert!(
        (25..=200).contains(&bench.now.since(answered)),
        "{}",
        bench.now.since(answered)
    );
}

#[test]
fn fresh_samples_wait_for_the_slices_of_a_batch_in_hand() {
    let mut bench = Bench::new(SenderConfig {
        live_share: 500,
        ..SLICED
    });
    bench.scrape(80, 15);
    bench.now = Instant(200_000);
    let mut stored = Stored::default();
    let mut rows = String::new();
    while bench.acknowledged() < bench.source.scrapes.len() as u64 {
        bench.send();
        rows.push(if bench.sender.sends_ahead() { 'f' } else { 'o' });
        if bench.sender.sends_ahead() {
            assert!(bench.sent_times()[0] >= EPOCH + 200_000);
        }
        stored.add(&bench);
        bench.now = bench.now + 2_000;
        bench.accept();
        if bench.source.scrapes.len() < 90 && rows.len().is_multiple_of(3) {
            bench.scrape(1, 15);
        }
    }
    // Whole batches of the backlog, and at the end what both rows have left.
    let (between, _) = rows.rsplit_once('f').expect("some go ahead");
    assert!(between.split('f').all(|run| run.len() % 4 == 0), "{rows}");
    assert!(between.contains("oofo"), "{rows}");
    stored.assert_each_once(bench.source.scrapes.len() * 20);
    assert!(bench.sender.counters().samples_ahead > 0);
}

#[test]
fn a_restart_between_slices_sends_the_batch_again_and_loses_nothing() {
    let mut bench = behind(SLICED, 20);
    let mut stored = Stored::default();
    stored.take(&mut bench);
    stored.take(&mut bench);
    let acknowledged = bench.acknowledged();
    let source = core::mem::replace(&mut bench.source, Frames::new(0));
    bench = Bench::replaying(SLICED, 20);
    (bench.source, bench.now) = (source, Instant(30_000));
    assert_eq!(acknowledged, 0);
    // The receiver writes what it has not and says so.
    while bench.acknowledged() < 20 {
        let sent = bench.send();
        let before = stored.0.len();
        stored.add(&bench);
        let new = stored.0.len() - before;
        bench.answer_written(if new == sent { 204 } else { 400 }, new as u32);
    }
    assert_eq!(stored.0.len(), 400);
    let counters = bench.sender.counters();
    assert_eq!(
        (
            counters.samples_accepted,
            counters.samples_in_doubt,
            counters.samples_lost()
        ),
        (200, 200, 0)
    );
}

#[test]
fn help_goes_with_each_slice_of_a_live_scrape() {
    let mut config = SenderConfig {
        max_samples_per_send: 4,
        backlog_samples_per_send: 4,
        metadata: MetadataConfig {
            send: true,
            ..MetadataConfig::OFF
        },
        ..SLICED
    };
    config.limits.samples = 16;
    config.limits.families = 10;
    let mut bench = Bench::new(config);
    bench.metadata = Metadata::new(1_000, 10);
    for (family, help) in [("metric_1", "of a series"), ("up", "of the target")] {
        bench.metadata.note_help(crate::sample::TargetRef(0), family, help);
    }
    let mut told = Vec::new();
    for _ in 0..2 {
        bench.scrape(1, 3);
        for _ in 0..2 {
            assert_eq!(bench.send(), 4);
            let body = String::from_utf8_lossy(bench.sender.request().body).into_owned();
            told.push(["of a series", "of the target"].map(|help| body.contains(help)));
            bench.accept();
        }
    }
    // The five series of the target stand first: they have fewer labels.
    assert_eq!(told, [[false, true], [true, false], [false, false], [false, false]]);
    assert_eq!(bench.acknowledged(), 2);
}
