//! The failure matrix (prometheus.md §1.9): every way in which a scrape goes wrong, with real sockets, and exactly the values that
//! the scrape's own series then have at the receiver.
//!
//! One agent, one job per case. Most targets answer well once, so that there is something to mark, and badly from then on.

mod common;

use common::agent::{Agent, configure};
use common::json::Json;
use common::protobuf::Sample;
use common::receiver::Receiver;
use common::target::{RawTarget, Refusing};
use common::{TempDir, wait_for};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(60);
const MARKER: u64 = 0x7ff0_0000_0000_0002;
const GOOD: &str = "a 1\nb 2\n";
const TEXT: &str = "content-type: text/plain; version=0.0.4\r\n";

/// Who answers the second and every later scrape, and the first unless it is said to be good.
enum Peer {
    /// These bytes, then the connection closes; the first scrape is answered well.
    Then(Vec<u8>),
    /// These bytes, then silence; the first scrape is answered well.
    Hangs(Vec<u8>),
    /// Always these bytes.
    Always(Vec<u8>),
    /// Nobody listens.
    Refuses,
    /// No target of ours: this address.
    Address(&'static str),
}

struct Case {
    name: &'static str,
    /// Further keys of the job.
    keys: &'static str,
    peer: Peer,
    /// up, scraped, post_metric_relabeling, series_added, body size.
    values: [f64; 5],
}

/// The scrape failed before there was anything to count.
const NOTHING: [f64; 5] = [0.0; 5];

fn ok(headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\ncontent-length: 4\r\n{TEXT}\r\na 1\n").into_bytes()
}

fn case(name: &'static str, keys: &'static str, peer: Peer, values: [f64; 5]) -> Case {
    Case {
        name,
        keys,
        peer,
        values,
    }
}

fn cases() -> Vec<Case> {
    use Peer::{Address, Always, Hangs, Refuses, Then};
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"a 1\nb 2\nc 3\n").expect("memory");
    let gzip = gzip.finish().expect("memory");
    let gzipped = |bytes: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\n{TEXT}content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        );
        [head.as_bytes(), bytes].concat()
    };
    let mut damaged = gzip.clone();
    let end = damaged.len() - 6;
    damaged[end] ^= 0x55;
    let head = |more: &str| format!("HTTP/1.1 200 OK\r\n{TEXT}{more}\r\n").into_bytes();
    let with = |head: Vec<u8>, body: &str| [&head[..], body.as_bytes()].concat();
    let open_metrics = "content-type: application/openmetrics-text; version=1.0.0\r\n";
    vec![
        case("good", "", Then(ok(TEXT, GOOD)), [1.0, 2.0, 2.0, 0.0, 8.0]),
        case("gzip", "", Then(gzipped(&gzip)), [1.0, 3.0, 3.0, 0.0, 12.0]),
        case("empty_body", "", Then(ok("", "")), [1.0, 0.0, 0.0, 0.0, 0.0]),
        case("comments_only", "", Then(ok(TEXT, "# x\n")), [1.0, 0.0, 0.0, 0.0, 4.0]),
        case("refused", "", Refuses, NOTHING),
        case("dns", "", Address("no-such-host.invalid:9100"), NOTHING),
        case("tls", "  scheme: https\n", Always(ok(TEXT, GOOD)), NOTHING),
        case("closed_without_answer", "", Then(Vec::new()), NOTHING),
        case("timeout_before_head", "", Hangs(Vec::new()), NOTHING),
        case(
            "timeout_in_body",
            "",
            Hangs(with(head("content-length: 99\r\n"), GOOD)),
            NOTHING,
        ),
        case(
            "short_content_length",
            "",
            Then(with(head("content-length: 99\r\n"), GOOD)),
            NOTHING,
        ),
        case(
            "cut_chunk",
            "",
            Then(with(head("transfer-encoding: chunked\r\n"), "9\r\na 1\nb")),
            NOTHING,
        ),
        case(
            "no_last_chunk",
            "",
            Then(with(head("transfer-encoding: chunked\r\n"), "8\r\na 1\nb 2\n\r\n")),
            NOTHING,
        ),
        case("cut_gzip", "", Then(gzipped(&gzip[..gzip.len() - 9])), NOTHING),
        case("damaged_gzip", "", Then(gzipped(&damaged)), NOTHING),
        case("not_http", "", Then(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()), NOTHING),
        case(
            "status_204",
            "",
            Then(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
            NOTHING,
        ),
        case("status_206", "", Then(status("206 Partial Content")), NOTHING),
        case("status_404", "", Then(status("404 Not Found")), NOTHING),
        case("status_503", "", Then(status("503 Service Unavailable")), NOTHING),
        case(
            "redirect_not_followed",
            "  follow_redirects: false\n",
            Then(status("302 Found\r\nlocation: /x")),
            NOTHING,
        ),
        case("redirect_loop", "", Then(status("302 Found\r\nlocation: /x")), NOTHING),
        case("redirect_to_nowhere", "", Then(status("302 Found")), NOTHING),
        case(
            "proxy_refuses",
            "  proxy_url: http://PEER\n",
            Always(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_vec()),
            NOTHING,
        ),
        case("no_content_type", "", Then(ok("", GOOD)), [0.0, 0.0, 0.0, 0.0, 8.0]),
        case(
            "unknown_content_type",
            "",
            Then(ok("content-type: text/html\r\n", GOOD)),
            [0.0, 0.0, 0.0, 0.0, 8.0],
        ),
        case(
            "fallback",
            "  fallback_scrape_protocol: PrometheusText0.0.4\n",
            Then(ok("content-type: text/html\r\n", GOOD)),
            [1.0, 2.0, 2.0, 0.0, 8.0],
        ),
        case(
            "body_size_limit",
            "  body_size_limit: 9B\n",
            Then(ok(TEXT, "a 1\nb 22\n")),
            [0.0, 0.0, 0.0, 0.0, -1.0],
        ),
        case(
            "sample_limit",
            "  sample_limit: 2\n",
            Then(ok(TEXT, "a 1\nb 2\nc 3\n")),
            [0.0, 3.0, 3.0, 0.0, 12.0],
        ),
        case(
            "label_limit",
            "  label_limit: 3\n",
            Then(ok(TEXT, "a 1\nc{x=\"1\"} 1\nb 2\n")),
            [0.0, 2.0, 1.0, 0.0, 19.0],
        ),
        case(
            "name_limit",
            "  label_name_length_limit: 8\n",
            Then(ok(TEXT, "a 1\nc{xxxxxxxxx=\"1\"} 1\n")),
            [0.0, 2.0, 1.0, 0.0, 23.0],
        ),
        case(
            "value_limit",
            "  label_value_length_limit: 20\n",
            Then(ok(TEXT, "c{x=\"123456789012345678901\"} 1\n")),
            [0.0, 1.0, 0.0, 0.0, 31.0],
        ),
        case(
            "parse_error",
            "",
            Then(ok(TEXT, "a 1\nc 1\nb bad\nd 1\n")),
            [0.0, 2.0, 2.0, 1.0, 18.0],
        ),
        case(
            "duplicate_label",
            "",
            Then(ok(TEXT, "a 1\nb{x=\"1\",x=\"2\"} 1\n")),
            [0.0, 2.0, 1.0, 0.0, 21.0],
        ),
        case("no_eof", "", Then(ok(open_metrics, "a 1\n")), [0.0, 1.0, 1.0, 0.0, 4.0]),
        case(
            "duplicate_sample",
            "",
            Then(ok(TEXT, "a 1\na 2\nb 1\n")),
            [1.0, 3.0, 3.0, 0.0, 12.0],
        ),
        case(
            "future_sample",
            "",
            Then(ok(TEXT, "a 1 9999999999999\nb 1\n")),
            [1.0, 2.0, 2.0, 0.0, 22.0],
        ),
        case("target_limit", "  target_limit: 1\n", Always(ok(TEXT, GOOD)), NOTHING),
    ]
}

fn serve(peer: &Peer) -> Option<RawTarget> {
    let (first, bytes, hangs) = match peer {
        Peer::Then(bytes) => (true, bytes.clone(), false),
        Peer::Hangs(bytes) => (true, bytes.clone(), true),
        Peer::Always(bytes) => (false, bytes.clone(), false),
        Peer::Refuses | Peer::Address(_) => return None,
    };
    Some(RawTarget::answering(move |n, stream| {
        if first && n == 0 {
            return stream.write_all(&ok(TEXT, GOOD)).is_ok();
        }
        // The agent may have gone already.
        let _ = stream.write_all(&bytes);
        if hangs {
            std::thread::sleep(Duration::from_secs(5));
        }
        false
    }))
}

fn job(case: &Case, address: &str) -> String {
    let second = if case.name == "target_limit" {
        ", '127.0.0.1:1'"
    } else {
        ""
    };
    let target = if case.name == "proxy_refuses" {
        "10.0.0.1:9"
    } else {
        address
    };
    format!(
        "- job_name: {}\n  static_configs: [{{targets: ['{target}'{second}]}}]\n{}",
        case.name,
        case.keys.replace("PEER", address)
    )
}

/// The samples of one scrape by name; those with a time of their own are not in it.
type Scrape<'a> = BTreeMap<&'a str, u64>;

/// Scrapes of a job in their order, recognised by `up`.
fn scrapes<'a>(samples: &'a [Sample], job: &str) -> Vec<Scrape<'a>> {
    let mut by_time: BTreeMap<i64, Scrape<'a>> = BTreeMap::new();
    for sample in samples
        .iter()
        .filter(|sample| sample.label("job") == job && sample.label("instance") != "127.0.0.1:1")
    {
        by_time
            .entry(sample.unix_ms)
            .or_default()
            .insert(sample.label("__name__"), sample.bits);
    }
    by_time
        .into_values()
        .filter(|scrape| scrape.contains_key("up"))
        .collect()
}

const COLUMNS: [&str; 5] = [
    "up",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_body_size_bytes",
];

fn check(case: &Case, scrapes: &[Scrape<'_>]) {
    let name = case.name;
    let first_is_good = matches!(case.peer, Peer::Then(_) | Peer::Hangs(_));
    let column = |scrape: &Scrape<'_>, column: &str| f64::from_bits(scrape[column]);
    if first_is_good {
        assert_eq!(
            COLUMNS.map(|c| column(&scrapes[0], c)),
            [1.0, 2.0, 2.0, 2.0, 8.0],
            "{name}: the first"
        );
        assert_eq!(
            (column(&scrapes[0], "a"), column(&scrapes[0], "b")),
            (1.0, 2.0),
            "{name}"
        );
    }
    for (number, scrape) in scrapes.iter().enumerate().skip(usize::from(first_is_good)) {
        let mut expected = case.values;
        if name == "gzip" && number == 1 {
            expected[3] = 1.0;
        }
        assert_eq!(
            COLUMNS.map(|c| column(scrape, c)),
            expected,
            "{name}, scrape {number}: {scrape:?}"
        );
        assert_eq!(column(scrape, "scrape_timeout_seconds"), 1.0, "{name}");
        let limit = if name == "sample_limit" { 2.0 } else { 0.0 };
        assert_eq!(column(scrape, "scrape_sample_limit"), limit, "{name}");
        let took = column(scrape, "scrape_duration_seconds");
        // Clocks count milliseconds here and there.
        let least = if matches!(case.peer, Peer::Hangs(_)) { 0.99 } else { 0.0 };
        assert!((least..5.0).contains(&took), "{name}: {took} s");
        // What was known is marked by the first scrape that does not bring it, and by no other.
        let keeps =
            |series: &str| case.values[0] == 1.0 && case.values[1] > 0.0 && !(name == "future_sample" && series == "a");
        for series in ["a", "b"] {
            let marked = scrape.get(series) == Some(&MARKER);
            let expected = first_is_good && number == 1 && !keeps(series);
            assert_eq!(marked, expected, "{name}, scrape {number}: {series} in {scrape:?}");
            assert_eq!(
                scrape.contains_key(series) && !marked,
                keeps(series),
                "{name}, scrape {number}: {series}"
            );
        }
        let others = scrape
            .keys()
            .filter(|n| !n.starts_with("scrape_") && !["up", "a", "b"].contains(n));
        assert_eq!(
            others.count(),
            usize::from(name == "gzip"),
            "{name}: nothing else is kept: {scrape:?}"
        );
    }
}

#[test]
fn every_failure_has_exactly_the_values_of_the_matrix() {
    let (directory, receiver) = (TempDir::new(), Receiver::accepting(None));
    let cases = cases();
    let targets: Vec<Option<RawTarget>> = cases.iter().map(|case| serve(&case.peer)).collect();
    let refusing = Refusing::new();
    let mut jobs = String::new();
    for (case, target) in cases.iter().zip(&targets) {
        let own = target
            .as_ref()
            .map(|target: &RawTarget| -> SocketAddr { target.address() });
        let address = match case.peer {
            Peer::Address(address) => address.to_owned(),
            _ => own.unwrap_or(refusing.address()).to_string(),
        };
        jobs += &job(case, &address);
    }
    let remotes = format!(
        "- url: http://{}/write\n  queue_config: {{batch_send_deadline: 100ms}}\n",
        receiver.address()
    );
    let config = configure(
        directory.path(),
        &jobs,
        &remotes,
        "memory: {max_concurrent_scrapes: 40}\nclock: {trust: always}",
    );
    let text = std::fs::read_to_string(&config).expect("written").replace(
        "scrape_interval: 100ms\n  scrape_timeout: 100ms\n",
        "scrape_interval: 1500ms\n  scrape_timeout: 1s\n  extra_scrape_metrics: true\n  scrape_failure_log_file: failures.json\n",
    );
    std::fs::write(&config, text).expect("written");
    let agent = Agent::start(&config);
    let seen = |name: &str| receiver.arrived(|arrived| scrapes(&arrived.samples, name).len());
    for case in &cases {
        wait_for(case.name, PATIENCE, || seen(case.name) >= 4);
    }
    agent.stop();
    let samples = receiver.arrived(|arrived| arrived.samples.clone());
    for case in &cases {
        check(case, &scrapes(&samples, case.name));
    }
    // Every failure is a line of JSON that names job, target and reason.
    let log = std::fs::read_to_string(directory.path().join("failures.json")).expect("written");
    let lines: Vec<Json> = log.lines().map(Json::parse).collect();
    for case in &cases {
        let found = lines.iter().find(|line| line.text("job_name") == case.name);
        assert_eq!(found.is_some(), case.values[0] == 0.0, "{}", case.name);
        if let Some(line) = found {
            assert!(
                !line.text("msg").is_empty() && line.text("target").starts_with("http"),
                "{log}"
            );
            assert!(line.text("time").ends_with('Z') && line.text("level") == "ERROR");
        }
    }
    let limited = samples
        .iter()
        .find(|sample| sample.label("instance") == "127.0.0.1:1" && sample.label("__name__") == "up");
    assert_eq!(
        limited.map(|sample| sample.bits),
        Some(0),
        "target_limit hits every target of the job"
    );
}
