//! Metadata: requests of its own in 1.0, with the series in 2.0, never at the expense of samples.

use super::*;

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
fn help_goes_with_the_series_of_2_0_once_per_ten_intervals() {
    let mut bench = knowing(MessageChoice::Negotiate);
    let mut with_help = Vec::new();
    for _ in 0..130 {
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
    assert_eq!(with_help[1] - with_help[0], 600_000);
    assert_eq!(bench.sender.counters().metadata, Totals::default());
}

#[test]
fn without_metadata_config_send_nothing_is_described() {
    let mut bench = knowing(V1);
    bench.sender.config.metadata.send = false;
    bench.now = Instant(600_000);
    assert_eq!(bench.poll(), Action::Wait(Instant(u64::MAX)));
}
