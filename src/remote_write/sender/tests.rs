use super::*;
use crate::remote_write::batch::{BatchLimits, MIN_BODY_BYTES, Sends, UnknownTime};
use crate::remote_write::response::{DropReason, Head, Verdict};
use crate::remote_write::testkit::{Frames, Scrape, decode};
use alloc::string::String;
use alloc::vec::Vec;

mod ahead;
mod simulation;

/// Wall time of boot time 0.
const EPOCH: i64 = 1_700_000_000_000;

fn config() -> SenderConfig {
    SenderConfig {
        limits: BatchLimits {
            samples: 0,
            body_bytes: MIN_BODY_BYTES,
            max_series: 200,
            max_targets: 4,
            frame_samples: 300,
            extras_bytes: 0,
            sends: Sends {
                histograms: false,
                exemplars: false,
            },
            families: 0,
        },
        max_samples_per_send: 100,
        backlog_samples_per_send: 100,
        flush_interval_ms: 5000,
        min_backoff_ms: 30,
        max_backoff_ms: 5000,
        connect_backoff_ms: 1000,
        rate_limit: 0,
        slow_start_ms: 60_000,
        live_share: 0,
        max_sample_age_ms: 0,
        retry_on_429: true,
        message: MessageChoice::Negotiate,
        group_live: false,
        metadata: MetadataConfig::OFF,
        unknown_time: UnknownTime::Hold,
        seed: 1,
    }
}

const V1: MessageChoice = MessageChoice::Fixed(Protocol::V1);

struct Bench {
    sender: Sender,
    source: Frames,
    metadata: Metadata,
    now: Instant,
}

impl Bench {
    fn new(config: SenderConfig) -> Self {
        Self::replaying(config, 0)
    }

    fn replaying(config: SenderConfig, replay_until: u64) -> Self {
        Self {
            sender: Sender::new(
                config,
                Identity::new(&[], crate::relabel::Relabel::default()),
                FrameNo(0),
                FrameNo(replay_until),
            ),
            source: Frames::new(200),
            metadata: Metadata::new(0, 0),
            now: Instant(0),
        }
    }

    /// Adds frames of `samples` + 5 samples each, one second apart from the present on.
    fn scrape(&mut self, frames: u64, samples: u16) {
        for i in 0..frames {
            let number = self.source.scrapes.len() as u64;
            let values: Vec<_> = (0..samples).map(|s| (s, i64::from(s) + 1)).collect();
            let time = EPOCH + (self.now.0 + i * 1000) as i64;
            self.source.scrapes.push(Scrape::new(number, time, &values));
        }
    }

    fn wall(&self) -> Option<UnixMillis> {
        Some(UnixMillis(EPOCH + self.now.0 as i64))
    }

    fn poll(&mut self) -> Action {
        let mut action = Action::Wait(self.now);
        while action == Action::Wait(self.now) {
            action = self
                .sender
                .poll(self.now, self.wall(), &mut self.source, &self.metadata)
                .expect("medium works");
        }
        action
    }

    /// Lets time pass until something is sent; returns the number of samples.
    fn send(&mut self) -> usize {
        loop {
            match self.poll() {
                Action::Send => return self.sender.request().samples,
                Action::Wait(at) | Action::Hold(_, at) if at.0 < u64::MAX => self.now = at,
                other => panic!("nothing to send: {other:?}"),
            }
        }
    }

    fn answer(&mut self, status: u16) -> Verdict {
        self.answer_with(Head::new(status))
    }

    fn answer_with(&mut self, head: Head) -> Verdict {
        let wall = self.wall();
        self.sender.on_response(self.now, wall, &head)
    }

    /// 2.0 success.
    fn accept(&mut self) -> Verdict {
        let samples = self.sender.request().samples as u32;
        self.answer_written(204, samples)
    }

    fn answer_written(&mut self, status: u16, written: u32) -> Verdict {
        let mut head = Head::new(status);
        let count = alloc::format!("{written}");
        head.header("X-Prometheus-Remote-Write-Samples-Written", count.as_bytes());
        self.answer_with(head)
    }

    fn acknowledged(&self) -> u64 {
        self.sender.acknowledged().0
    }

    fn sent_times(&self) -> Vec<i64> {
        let request = self.sender.request();
        let mut times: Vec<i64> = decode(request.body, request.protocol)
            .iter()
            .flat_map(|s| s.samples.iter().map(|&(_, t)| t))
            .collect();
        times.sort_unstable();
        times.dedup();
        times
    }
}

fn dated(status: u16, date: &str) -> Head {
    let mut head = Head::new(status);
    head.header("Date", date.as_bytes());
    head
}

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

#[test]
fn falls_back_on_415_and_stays() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.sender.request().protocol, Protocol::V2);
    let sent_at = bench.now;
    assert_eq!(bench.answer(415), Verdict::FallBackToV1);
    bench.send();
    assert_eq!(bench.now, sent_at, "at once");
    assert_eq!(bench.sender.request().protocol, Protocol::V1);
    let sent = decode(bench.sender.request().body, Protocol::V1);
    assert_eq!(sent.len(), 15);
    assert_eq!(bench.answer(204), Verdict::Accepted);
    assert_eq!(bench.acknowledged(), 1);
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.sender.request().protocol, Protocol::V1);
}

#[test]
fn success_without_written_headers_is_sent_again_as_v1() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.answer(200), Verdict::FallBackToV1);
    assert_eq!(bench.acknowledged(), 0);
    bench.send();
    assert_eq!(bench.answer(200), Verdict::Accepted);
    assert_eq!((bench.acknowledged(), bench.sender.protocol()), (1, Protocol::V1));
}

#[test]
fn a_captive_portal_does_not_swallow_data_of_a_confirmed_receiver() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    bench.accept();
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.answer(200), Verdict::Hold(HoldReason::Unconfirmed));
    assert_eq!(bench.acknowledged(), 1);
    bench.send();
    bench.accept();
    assert_eq!((bench.acknowledged(), bench.sender.protocol()), (2, Protocol::V2));
}

#[test]
fn a_v1_receiver_that_answers_400_gets_v1() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    let sent_at = bench.now;
    assert_eq!(bench.answer(400), Verdict::FallBackToV1);
    bench.send();
    assert_eq!(bench.now.since(sent_at), 5000);
    assert_eq!(bench.answer(204), Verdict::Accepted);
    assert_eq!(bench.sender.counters().samples_failed, 0);
    assert_eq!(bench.sender.protocol(), Protocol::V1);
}

#[test]
fn a_lone_400_does_not_change_the_message() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    bench.answer(400);
    bench.send();
    assert_eq!(bench.answer(400), Verdict::Drop(DropReason::Refused { status: 400 }));
    assert_eq!((bench.acknowledged(), bench.sender.counters().samples_failed), (1, 15));
    bench.scrape(1, 10);
    bench.send();
    assert_eq!(bench.sender.request().protocol, Protocol::V2);
}

#[test]
fn an_unsupported_v1_offers_v2_again() {
    let mut bench = Bench::new(config());
    bench.scrape(1, 10);
    bench.send();
    bench.answer(415);
    bench.send();
    assert_eq!(bench.answer(415), Verdict::Hold(HoldReason::Unsupported));
    bench.send();
    assert_eq!(bench.sender.request().protocol, Protocol::V2);
    bench.accept();
    assert_eq!(bench.acknowledged(), 1);
}

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

fn knowing(protocol: MessageChoice) -> Bench {
    let mut bench = Bench::new(SenderConfig {
        message: protocol,
        metadata: MetadataConfig {
            send: true,
            interval_ms: 60_000,
            max_per_send: 2,
        },
        limits: BatchLimits {
            families: 10,
            ..config().limits
        },
        ..config()
    });
    bench.metadata = Metadata::new(1_000, 10);
    for family in ["a", "b", "c"] {
        bench.metadata.note_help(crate::sample::TargetRef(0), family, "help");
    }
    bench
        .metadata
        .note_help(crate::sample::TargetRef(0), "metric_1", "first");
    bench
}

#[test]
fn metadata_of_1_0_goes_alone_once_per_interval_when_there_is_nothing_else() {
    let mut bench = knowing(V1);
    assert_eq!(bench.poll(), Action::Wait(Instant(60_000)));
    bench.scrape(1, 3);
    bench.now = Instant(60_000);
    assert_eq!(bench.poll(), Action::Send, "samples that are due go first");
    assert_eq!(
        (bench.sender.request().samples, bench.sender.request().families),
        (8, 0)
    );
    bench.sender.on_response(bench.now, None, &Head::new(204));
    for families in [2, 2] {
        assert_eq!(bench.poll(), Action::Send);
        assert_eq!(bench.poll(), Action::InFlight);
        let request = bench.sender.request();
        assert_eq!(
            (request.samples, request.families, request.retry_attempt),
            (0, families, 0)
        );
        assert!(!request.body.is_empty());
        bench.sender.count_bytes(100);
        bench.sender.on_response(bench.now, None, &Head::new(204));
    }
    assert_eq!(bench.poll(), Action::Wait(Instant(120_000)));
    let counters = bench.sender.counters();
    let metadata = counters.metadata;
    assert_eq!((metadata.sent, metadata.failed, metadata.retried), (4, 0, 0));
    assert_eq!(
        (counters.metadata_bytes, counters.bytes, counters.requests),
        (200, 0, 1)
    );
    assert_eq!(bench.sender.acknowledged(), FrameNo(1));
}

#[test]
fn metadata_that_fails_is_repeated_or_counted_and_touches_no_sample() {
    let mut bench = knowing(V1);
    bench.poll();
    bench.now = Instant(60_000);
    assert_eq!(bench.poll(), Action::Send);
    bench.sender.on_error(bench.now, ErrorKind::Timeout);
    let again = Instant(60_000 + config().max_backoff_ms);
    assert_eq!(bench.poll(), Action::Wait(again));
    bench.now = again;
    bench.scrape(1, 3);
    assert!(matches!(bench.poll(), Action::Send));
    let first = bench.sender.request();
    assert_eq!(
        (first.samples, first.families),
        (8, 0),
        "samples do not wait for metadata"
    );
    bench.sender.on_response(bench.now, None, &Head::new(204));
    assert_eq!(bench.poll(), Action::Send);
    let request = bench.sender.request();
    assert_eq!((request.families, request.retry_attempt), (2, 1));
    bench.sender.on_response(bench.now, None, &Head::new(503));
    bench.now = bench.now + config().max_backoff_ms;
    assert_eq!(bench.poll(), Action::Send);
    bench.sender.on_response(bench.now, None, &Head::new(400));
    assert_eq!(bench.poll(), Action::Send, "the round goes on");
    bench.sender.on_response(bench.now, None, &Head::new(204));
    let counters = bench.sender.counters();
    let metadata = counters.metadata;
    assert_eq!((metadata.sent, metadata.failed, metadata.retried), (8, 2, 4));
    assert_eq!((counters.samples_failed, counters.samples_retried), (0, 0));
    assert_eq!((counters.holds, bench.sender.acknowledged()), (0, FrameNo(1)));
}

#[test]
fn help_goes_with_the_series_of_2_0_once_per_interval() {
    let mut bench = knowing(MessageChoice::Negotiate);
    let mut with_help = Vec::new();
    for _ in 0..20 {
        bench.scrape(1, 3);
        bench.now = bench.now + 5_000;
        assert!(matches!(bench.poll(), Action::Send | Action::Wait(_)));
        if bench.poll() == Action::InFlight {
            let body = bench.sender.request().body;
            let has = body.windows(5).any(|bytes| bytes == b"first");
            if has {
                with_help.push(bench.now.0);
            }
            let mut head = Head::new(204);
            head.header("X-Prometheus-Remote-Write-Samples-Written", b"8");
            bench.sender.on_response(bench.now, None, &head);
        }
    }
    assert_eq!(with_help.len(), 2, "{with_help:?}");
    assert_eq!(with_help[1] - with_help[0], 60_000);
    assert_eq!(bench.sender.counters().metadata, Totals::default());
}

#[test]
fn without_metadata_config_send_nothing_is_described() {
    let mut bench = knowing(V1);
    bench.sender.config.metadata.send = false;
    bench.now = Instant(600_000);
    assert_eq!(bench.poll(), Action::Wait(Instant(u64::MAX)));
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
