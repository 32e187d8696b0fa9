//! Bad input of every kind: targets, receivers and ring files that break every rule.
//!
//! What is expected each time: the reason in words where an operator looks, a counter, nobody else disturbed, and no
//! sample lost without a reason.

mod common;

use common::agent::{Agent, configure};
use common::receiver::{CLOSE, HALF, Receiver};
use common::target::{RawTarget, Refusing, Target};
use common::{TempDir, wait_for};
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two scrapes or more while the machine is busy: a hanging target gives up after this long, milliseconds.
const TIMEOUT_MS: u64 = 300;

/// A response with a body of known length.
fn response(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A response in the text format.
fn text(body: impl AsRef<[u8]>) -> Vec<u8> {
    response("content-type: text/plain; version=0.0.4\r\n", body.as_ref())
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

fn gzipped(packed: &[u8]) -> Vec<u8> {
    response(
        "content-type: text/plain; version=0.0.4\r\ncontent-encoding: gzip\r\n",
        packed,
    )
}

/// A target that misbehaves, and what must be said about it.
struct Case {
    kind: &'static str,
    address: SocketAddr,
    /// More keys of the job.
    keys: &'static str,
    up: bool,
    /// In `lastError`.
    error: &'static str,
}

fn down(kind: &'static str, target: RawTarget, error: &'static str) -> Case {
    Case {
        kind,
        address: target.address(),
        keys: "",
        up: false,
        error,
    }
}

fn up(kind: &'static str, body: impl AsRef<[u8]>) -> Case {
    Case {
        up: true,
        ..down(kind, RawTarget::saying(text(body)), "")
    }
}

fn limited(kind: &'static str, keys: &'static str, body: &str, error: &'static str) -> Case {
    Case {
        keys,
        ..down(kind, RawTarget::saying(text(body)), error)
    }
}

/// Targets that do not speak HTTP as they should.
fn broken_exchanges() -> Vec<Case> {
    let hanging = RawTarget::answering(|_, _| {
        std::thread::sleep(Duration::from_secs(2));
        true
    });
    let dripping = RawTarget::answering(|_, stream| {
        for byte in text("slow 1\n") {
            std::thread::sleep(Duration::from_millis(20));
            if stream.write_all(&[byte]).is_err() {
                return false;
            }
        }
        true
    });
    let endless = RawTarget::answering(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut alive = stream.write_all(head.as_bytes()).is_ok();
        while alive {
            std::thread::sleep(Duration::from_millis(5));
            alive = stream.write_all(b"8\r\nflood 1\n\r\n").is_ok();
        }
        false
    });
    let reset = RawTarget::answering(|_, stream| {
        // Closing with an undelivered answer and no time to linger sends a reset.
        rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO)).expect("option");
        false
    });
    let mut short = text("short 1\nshort 2\n");
    short.truncate(short.len() - 9);
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut case = down("refusing", RawTarget::saying(""), "refused");
    // Kept until the process ends.
    case.address = Box::leak(Box::new(Refusing::new())).address();
    vec![
        case,
        down("hanging", hanging, "context deadline exceeded"),
        down("dripping", dripping, "context deadline exceeded"),
        down("endless", endless, "context deadline exceeded"),
        down("reset", reset, "reset"),
        down("closing", RawTarget::saying(""), "unexpected EOF"),
        down("garbage", RawTarget::saying([0xfe; 300]), "HTTP"),
        down("cut-body", RawTarget::saying(short), "unexpected EOF"),
        down(
            "cut-chunk",
            RawTarget::saying(format!("{chunked}20\r\ncut 1\n")),
            "unexpected EOF",
        ),
        down(
            "bad-chunk",
            RawTarget::saying(format!("{chunked}zz\r\ncut 1\n\r\n0\r\n\r\n")),
            "chunk",
        ),
        down(
            "big-head",
            RawTarget::saying(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(100_000))),
            "head",
        ),
        down(
            "status-500",
            RawTarget::saying("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops"),
            "server returned HTTP status 500",
        ),
        down(
            "status-204",
            RawTarget::saying("HTTP/1.1 204 No Content\r\n\r\n"),
            "server returned HTTP status 204",
        ),
        down(
            "redirect-loop",
            RawTarget::saying("HTTP/1.1 302 Found\r\nlocation: /metrics\r\ncontent-length: 0\r\n\r\n"),
            "redirect",
        ),
        down(
            "no-gzip",
            RawTarget::saying(gzipped(b"this is no gzip member at all")),
            "gzip",
        ),
        down(
            "cut-gzip",
            RawTarget::saying(gzipped(&gzip(b"packed 1\n")[..20])),
            "gzip",
        ),
        // An encoding that was not asked for is taken as it comes, as Prometheus does.
        down(
            "brotli",
            RawTarget::saying(response("content-type: text/plain\r\ncontent-encoding: br\r\n", b"abc")),
            "line 1",
        ),
    ]
}

/// Targets whose bodies break the rules.
fn broken_bodies() -> Vec<Case> {
    let many_labels: String = (0..100).map(|n| format!("l{n}=\"v\",")).collect();
    let many_series: String = (0..3_000).map(|n| format!("many{{n=\"{n}\"}} 1\n")).collect();
    let bomb = gzip(&vec![b'0'; 8 << 20]);
    vec![
        down(
            "html",
            RawTarget::saying(response("content-type: text/html\r\n", b"<html>")),
            "text/html",
        ),
        down("no-type", RawTarget::saying(response("", b"a 1\n")), "Content-Type"),
        down("binary", RawTarget::saying(text([0x80, 0x00, 0xff, b'\n'])), "line 1"),
        down("no-value", RawTarget::saying(text("fine 1\nbad\n")), "line 2"),
        down("not-utf8", RawTarget::saying(text(b"a{b=\"\xff\"} 1\n")), "UTF-8"),
        down(
            "long-line",
            RawTarget::saying(text(format!("a{{b=\"{}\"}} 1\n", "x".repeat(30_000)))),
            "line 1",
        ),
        down("bomb", RawTarget::saying(gzipped(&bomb)), "line 1"),
        down(
            "labels",
            RawTarget::saying(text(format!("a{{{many_labels}}} 1\n"))),
            "labels",
        ),
        down("many", RawTarget::saying(text(many_series)), "series limit"),
        limited(
            "body-limit",
            "  body_size_limit: 20B\n",
            "aaaaaaaaaaaa 1\nbbbbbbbbbbbbbbb 2\n",
            "body size limit",
        ),
        limited("sample-limit", "  sample_limit: 1\n", "a 1\nb 2\n", "sample_limit is 1"),
        limited(
            "label-limit",
            "  label_limit: 3\n",
            "a{b=\"1\",c=\"2\"} 1\n",
            "label_limit is 3",
        ),
        limited(
            "name-limit",
            "  label_name_length_limit: 9\n",
            "a{long_label_name=\"1\"} 1\n",
            "label_name_length_limit is 9",
        ),
        limited(
            "value-limit",
            "  label_value_length_limit: 20\n",
            "a{b=\"ccccccccccccccccccccccccc\"} 1\n",
            "label_value_length_limit is 20",
        ),
        up("empty", ""),
        up("duplicate", "twice 1\ntwice 2\n"),
        up("special", "nan NaN\nplus +Inf\nminus -Inf\n"),
        up("future", "future 1 99999999999999\nfine 1\n"),
    ]
}

fn job(name: &str, address: SocketAddr, keys: &str) -> String {
    format!("- job_name: {name}\n{keys}  static_configs: [{{targets: ['{address}']}}]\n")
}

fn remote(receiver: &Receiver) -> String {
    format!(
        "- url: http://{}/write\n  queue_config: {{batch_send_deadline: 200ms, min_backoff: 30ms, max_backoff: 200ms}}\n",
        receiver.address()
    )
}

fn counting(scrape: u64) -> String {
    format!("# TYPE scrapes_total counter\nscrapes_total {scrape}\n")
}

/// Values of `scrapes_total` at the receiver, in order of arrival.
fn delivered(receiver: &Receiver) -> Vec<u64> {
    receiver.arrived(|arrived| {
        let counters = arrived
            .samples
            .iter()
            .filter(|sample| sample.label("__name__") == "scrapes_total");
        counters
            .map(|sample| f64::from_bits(sample.bits))
            .filter(|value| !value.is_nan())
            .map(|value| value as u64)
            .collect()
    })
}

fn wait_for_scrape(receiver: &Receiver, scrape: u64) {
    wait_for(&format!("scrape {scrape} at the receiver"), PATIENCE, || {
        delivered(receiver).last().is_some_and(|last| *last >= scrape)
    });
}

fn assert_complete(scrapes: &[u64]) {
    let expected: Vec<u64> = (0..scrapes.len() as u64).collect();
    assert_eq!(scrapes, expected, "scrapes in order, each once");
}

#[test]
fn a_bad_target_is_down_with_a_reason_and_harms_only_itself() {
    let directory = TempDir::new();
    let receiver = Receiver::accepting(None);
    let good = Target::serving(counting);
    let cases: Vec<Case> = broken_exchanges().into_iter().chain(broken_bodies()).collect();
    let slow = format!("  scrape_interval: 600ms\n  scrape_timeout: {TIMEOUT_MS}ms\n");
    let mut jobs = job(
        "good",
        good.address(),
        &format!("  scrape_interval: 300ms\n  scrape_timeout: {TIMEOUT_MS}ms\n"),
    );
    for case in &cases {
        jobs.push_str(&job(case.kind, case.address, &format!("{slow}{}", case.keys)));
    }
    let own = "memory: {max_series: 1000, max_concurrent_scrapes: 8}\n";
    let mut agent = Agent::start(&configure(directory.path(), &jobs, &remote(&receiver), own));
    wait_for_scrape(&receiver, 8);
    let targets = agent.json("/api/v1/targets");
    let reported = targets.array("data.activeTargets");
    for case in &cases {
        let target = reported
            .iter()
            .find(|target| target.text("scrapePool") == case.kind)
            .expect("reported");
        let (health, error) = (target.text("health"), target.text("lastError"));
        assert_eq!(health, if case.up { "up" } else { "down" }, "{}: {error}", case.kind);
        assert!(
            error.contains(case.error),
            "{}: {error:?} says nothing of {:?}",
            case.kind,
            case.error
        );
        assert_eq!(error.is_empty(), case.up, "{}: {error}", case.kind);
        let ups: Vec<f64> = receiver.arrived(|arrived| {
            let of_case = arrived
                .samples
                .iter()
                .filter(|s| s.label("__name__") == "up" && s.label("job") == case.kind);
            of_case.map(|sample| f64::from_bits(sample.bits)).collect()
        });
        assert!(
            !ups.is_empty() && ups.iter().all(|up| *up == f64::from(u8::from(case.up))),
            "{}: up {ups:?}",
            case.kind
        );
    }
    for counter in [
        "tidegate_scrapes_failed_total",
        "tidegate_scrapes_exceeded_series_limit_total",
        "prometheus_target_scrapes_sample_duplicate_timestamp_total",
        "prometheus_target_scrapes_sample_out_of_bounds_total",
        "prometheus_target_scrapes_exceeded_body_size_limit_total",
        "prometheus_target_scrapes_exceeded_sample_limit_total",
        "prometheus_target_scrape_pool_exceeded_label_limits_total",
    ] {
        assert!(agent.metric(counter) > 0.0, "{counter}");
    }
    agent.stop();
    assert_complete(&delivered(&receiver));
    receiver.arrived(|arrived| {
        let values = |name: &str| -> Vec<u64> {
            arrived
                .samples
                .iter()
                .filter(|s| s.label("__name__") == name)
                .map(|s| s.bits)
                .collect()
        };
        assert!(
            values("twice").iter().all(|bits| *bits == 1_f64.to_bits()),
            "the first of a series counts"
        );
        assert!(values("nan").iter().all(|bits| *bits == 0x7ff8_0000_0000_0001) && !values("nan").is_empty());
        assert!(values("plus").contains(&f64::INFINITY.to_bits()));
        assert!(values("minus").contains(&f64::NEG_INFINITY.to_bits()));
        assert!(values("future").is_empty() && !values("fine").is_empty());
        for name in ["short", "cut", "slow", "flood", "packed", "a"] {
            assert!(values(name).is_empty(), "a failed scrape leaves nothing of {name}");
        }
    });
}

#[test]
fn more_dead_targets_than_workers_do_not_hold_up_the_living() {
    let directory = TempDir::new();
    let receiver = Receiver::accepting(None);
    let good = Target::serving(counting);
    let hanging = RawTarget::answering(|_, _| {
        std::thread::sleep(Duration::from_secs(5));
        false
    });
    let mut jobs = job(
        "good",
        good.address(),
        "  scrape_interval: 250ms\n  scrape_timeout: 250ms\n",
    );
    for n in 0..6 {
        let keys = "  scrape_interval: 600ms\n  scrape_timeout: 600ms\n";
        jobs.push_str(&job(&format!("dead{n}"), hanging.address(), keys));
    }
    let mut agent = Agent::start(&configure(directory.path(), &jobs, &remote(&receiver), ""));
    wait_for("every target", PATIENCE, || {
        let targets = agent.json("/api/v1/targets");
        let targets = targets.array("data.activeTargets");
        targets.iter().filter(|target| target.text("health") == "down").count() == 6
    });
    let (before, start) = (good.scrapes(), std::time::Instant::now());
    std::thread::sleep(Duration::from_millis(2_500));
    let scrapes = good.scrapes() - before;
    // 10 when the machine is idle; a fifth of that when the dead had their way.
    let expected = start.elapsed().as_millis() as u64 / 250;
    assert!(scrapes * 4 >= expected * 3, "{scrapes} of {expected} scrapes");
    assert!(hanging.requests() >= 6 + 3, "the dead are not forgotten");
    agent.stop();
}

#[test]
fn a_target_that_floods_does_not_hold_up_the_others() {
    let directory = TempDir::new();
    let receiver = Receiver::accepting(None);
    let good = Target::serving(counting);
    let flood = RawTarget::answering(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
        let lines = "flood 1\n".repeat(2_000);
        let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
        let mut alive = stream.write_all(head.as_bytes()).is_ok();
        while alive {
            alive = stream.write_all(chunk.as_bytes()).is_ok();
        }
        false
    });
    let rate = "  scrape_interval: 300ms\n  scrape_timeout: 300ms\n";
    let jobs = job("good", good.address(), rate) + &job("flood", flood.address(), rate);
    let mut agent = Agent::start(&configure(directory.path(), &jobs, &remote(&receiver), ""));
    wait_for("the flood's end", PATIENCE, || {
        let targets = agent.json("/api/v1/targets");
        let targets = targets.array("data.activeTargets");
        targets
            .iter()
            .any(|target| target.text("health") == "down" && target.text("lastError").contains("deadline"))
    });
    let (before, start) = (good.scrapes(), std::time::Instant::now());
    std::thread::sleep(Duration::from_millis(2_500));
    let scrapes = good.scrapes() - before;
    let expected = start.elapsed().as_millis() as u64 / 300;
    assert!(scrapes * 4 >= expected * 3, "{scrapes} of {expected} scrapes");
    agent.stop();
    receiver.arrived(|arrived| {
        let of_good = |s: &&common::protobuf::Sample| s.label("__name__") == "up" && s.label("job") == "good";
        let ups = arrived.samples.iter().filter(of_good);
        assert!(ups.clone().count() > 4 && ups.clone().all(|sample| sample.bits == 1_f64.to_bits()));
        assert!(!arrived.samples.iter().any(|sample| sample.label("__name__") == "flood"));
    });
}

#[test]
fn a_target_that_comes_and_goes_leaves_staleness_markers() {
    let directory = TempDir::new();
    let receiver = Receiver::accepting(None);
    let target = RawTarget::answering(|n, stream| {
        let answer = if n == 3 {
            b"HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n".to_vec()
        } else {
            text(counting(n))
        };
        stream.write_all(&answer).is_ok()
    });
    let jobs = job("fickle", target.address(), "");
    let agent = Agent::start(&configure(directory.path(), &jobs, &remote(&receiver), ""));
    wait_for_scrape(&receiver, 6);
    agent.stop();
    receiver.arrived(|arrived| {
        let markers = arrived
            .samples
            .iter()
            .filter(|s| s.label("__name__") == "scrapes_total" && s.bits == 0x7ff0_0000_0000_0002);
        assert_eq!(markers.count(), 1, "one marker for the failed scrape");
    });
}

#[test]
fn a_receiver_that_breaks_answers_gets_everything_in_the_end() {
    let directory = TempDir::new();
    let receiver = Receiver::scripted(None, |number, _| match number % 4 {
        1 => Some((CLOSE, &[][..])),
        2 => Some((HALF, &[][..])),
        3 => Some(("500 Internal Server Error", &[("retry-after", "0")][..])),
        _ => None,
    });
    let target = Target::serving(counting);
    let jobs = job("box", target.address(), "");
    let agent = Agent::start(&configure(directory.path(), &jobs, &remote(&receiver), ""));
    wait_for_scrape(&receiver, 20);
    agent.stop();
    // The receiver of this test counts a request as arrived only when it has answered with 2xx.
    assert_complete(&delivered(&receiver));
}

#[test]
fn answers_that_blame_the_configuration_hold_the_samples() {
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found", "302 Found"] {
        let directory = TempDir::new();
        let refuse = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let script = refuse.clone();
        let receiver = Receiver::scripted(None, move |_, _| {
            script
                .load(std::sync::atomic::Ordering::SeqCst)
                .then_some((status, &[][..]))
        });
        let target = Target::serving(counting);
        let jobs = job("box", target.address(), "");
        let config = configure(directory.path(), &jobs, &remote(&receiver), "");
        let mut agent = Agent::start(&config);
        let code = &status[..3];
        wait_for("the hold", PATIENCE, || agent.get("/status").body.contains("held"));
        let body = agent.get("/status").body;
        assert!(body.contains(code), "{body}");
        let url = format!(
            "{{remote_name=\"{}\",url=\"http://{}/write\"}}",
            name_of(&body),
            receiver.address()
        );
        assert_eq!(agent.metric(&format!("tidegate_remote_write_held{url}")), 1.0);
        assert_eq!(
            agent.metric(&format!("prometheus_remote_storage_samples_failed_total{url}")),
            0.0
        );
        agent.stop();
        assert!(delivered(&receiver).is_empty());
        refuse.store(false, std::sync::atomic::Ordering::SeqCst);
        let agent = Agent::start(&config);
        wait_for("what was held", PATIENCE, || !delivered(&receiver).is_empty());
        let before = target.scrapes();
        wait_for_scrape(&receiver, before);
        agent.stop();
        let scrapes = delivered(&receiver);
        // The scrape in hand at the stop is nobody's failure and leaves no frame: at most one number is missing.
        let missing = scrapes[scrapes.len() - 1] + 1 - scrapes.len() as u64;
        assert!(
            scrapes[0] == 0 && scrapes.is_sorted() && missing <= 1,
            "{status}: {scrapes:?}"
        );
    }
}

/// The generated name of the only remote, from the status page.
fn name_of(status: &str) -> String {
    let (_, remotes) = status.split_once("REMOTES\n").expect("a section");
    remotes.split_whitespace().nth(1).expect("state and name").to_owned()
}

#[test]
fn a_batch_too_large_is_halved_and_a_refused_one_is_counted() {
    let directory = TempDir::new();
    // 13 samples a scrape; what is not "too large" of the poisoned scrape is refused for good.
    let receiver = Receiver::scripted(None, |_, request| {
        let raw = snap::raw::Decoder::new().decompress_vec(&request.body).expect("snappy");
        let samples = common::protobuf::version_1(&raw);
        if samples.len() > 7 {
            Some(("413 Payload Too Large", &[][..]))
        } else if samples
            .iter()
            .any(|sample| sample.label("__name__") == "poison" && sample.bits == 4_f64.to_bits())
        {
            Some(("400 Bad Request", &[][..]))
        } else {
            None
        }
    });
    let target = Target::serving(|n| {
        let mut body = counting(n);
        body.push_str(&format!("poison {n}\n"));
        for series in 0..6 {
            body.push_str(&format!("filler{{n=\"{series}\"}} {n}\n"));
        }
        body
    });
    let jobs = job("box", target.address(), "");
    let remotes = format!("{}  protobuf_message: prometheus.WriteRequest\n", remote(&receiver));
    let mut agent = Agent::start(&configure(directory.path(), &jobs, &remotes, ""));
    wait_for_scrape(&receiver, 12);
    let body = agent.get("/metrics").body;
    let total = |name: &str| -> f64 {
        let of_name = body.lines().filter(|line| line.starts_with(name));
        of_name
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .and_then(|value| value.parse::<f64>().ok())
                    .expect("a number")
            })
            .sum()
    };
    assert!(total("tidegate_remote_write_halved_total") >= 1.0, "{body}");
    let failed = total("prometheus_remote_storage_samples_failed_total");
    assert!((1.0..=7.0).contains(&failed), "{failed} failed");
    assert_eq!(
        total("tidegate_samples_lost_total{reason=\"rejected\"}"),
        failed,
        "{body}"
    );
    agent.wait_for_log("samples refused for good");
    agent.stop();
    let poison = receiver.arrived(|arrived| {
        let of_name = arrived
            .samples
            .iter()
            .filter(|sample| sample.label("__name__") == "poison");
        of_name
            .map(|sample| f64::from_bits(sample.bits) as u64)
            .collect::<Vec<_>>()
    });
    assert!(
        !poison.contains(&4) && poison.contains(&3) && poison.contains(&5),
        "{poison:?}"
    );
}

#[test]
fn a_remote_of_an_unknown_scheme_holds_and_the_others_are_served() {
    let directory = TempDir::new();
    let receiver = Receiver::accepting(None);
    let target = Target::serving(counting);
    let jobs = job("box", target.address(), "");
    let remotes = format!("{}- url: invalid://localhost:9999\n", remote(&receiver));
    let mut agent = Agent::start(&configure(directory.path(), &jobs, &remotes, ""));
    wait_for_scrape(&receiver, 10);
    agent.wait_for_log("invalid://localhost:9999");
    let body = agent.get("/status").body;
    assert!(body.contains("invalid://localhost:9999"), "{body}");
    agent.get("/-/healthy");
    let errors = agent.log().lines().filter(|line| line.contains("level=error")).count();
    assert_eq!(errors, 1, "said once: {}", agent.log());
    agent.stop();
    assert_complete(&delivered(&receiver));
}
