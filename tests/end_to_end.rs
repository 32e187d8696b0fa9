//! The whole agent as a process: real sockets, real TLS, a real ring file, real signals.

mod common;

use common::agent::Agent;
use common::protobuf::Sample;
use common::receiver::{Authority, Receiver};
use common::target::Target;
use common::{TempDir, wait_for};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Series of the test target beside the scrape counter.
const SERIES: u64 = 60;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The n-th exposition: a counter of scrapes and values of every shape, all functions of `n`.
fn exposition(scrape: u64) -> String {
    use std::fmt::Write as _;
    let mut text = format!("# TYPE scrapes_total counter\nscrapes_total {scrape}\n");
    for series in 1..SERIES {
        let value = value(series, scrape);
        writeln!(text, "value{{series=\"{series}\"}} {value}").expect("strings grow");
    }
    text
}

fn value(series: u64, scrape: u64) -> String {
    match series % 6 {
        0 => format!("{}", series * 1_000 + scrape),
        1 => format!("{}.{:03}", scrape, series),
        2 => format!("{}", (series as f64 + scrape as f64).sqrt()),
        3 => format!("{:e}", 1.0 / (scrape as f64 + series as f64)),
        4 if scrape.is_multiple_of(3) => "NaN".to_owned(),
        4 => "+Inf".to_owned(),
        _ => "-0".to_owned(),
    }
}

fn bits(text: &str) -> u64 {
    let value: f64 = text.parse().expect("a float");
    if value.is_nan() {
        0x7ff8_0000_0000_0001
    } else {
        value.to_bits()
    }
}

struct Setup {
    directory: TempDir,
    target: Target,
    receiver: Receiver,
}

impl Setup {
    fn new(authority: Option<&Authority>) -> Self {
        Self {
            directory: TempDir::new(),
            target: Target::serving(exposition),
            receiver: Receiver::accepting(authority),
        }
    }

    fn ring(&self) -> PathBuf {
        self.directory.path().join("ring")
    }

    /// Writes the configuration: 100 ms scrapes, flushed every 200 ms.
    fn config(&self, commit_interval: &str, authority: Option<&Authority>) -> PathBuf {
        let path = self.directory.path().join("prometheus.yml");
        let (scheme, tls) = match authority {
            None => ("http", String::new()),
            Some(authority) => {
                std::fs::write(self.directory.path().join("ca.pem"), &authority.ca_pem).expect("written");
                ("https", "    tls_config: {ca_file: ca.pem}\n".to_owned())
            }
        };
        let text = format!(
            "global:\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\n  external_labels: {{site: test}}\n\
             scrape_configs:\n- job_name: box\n  static_configs:\n  - targets: ['{}']\n\
             remote_write:\n  - url: {scheme}://{}/api/v1/write\n{tls}    queue_config: {{batch_send_deadline: 200ms}}\n\
             tidegate:\n  listen_address: ''\n  ring: {{path: ring, size: 1MiB, segment_size: 64KiB, commit_interval: {commit_interval}}}\n",
            self.target.address(),
            self.receiver.address(),
        );
        std::fs::write(&path, text).expect("written");
        path
    }

    fn delivered_scrapes(&self) -> Vec<u64> {
        self.receiver.arrived(|arrived| {
            let of_counter = arrived
                .samples
                .iter()
                .filter(|sample| sample.label("__name__") == "scrapes_total");
            of_counter.map(|sample| f64::from_bits(sample.bits) as u64).collect()
        })
    }

    fn wait_for_scrape(&self, scrape: u64) {
        wait_for(&format!("scrape {scrape} at the receiver"), PATIENCE, || {
            self.delivered_scrapes().last().is_some_and(|last| *last >= scrape)
        });
    }

    fn wait_for_more_scrapes(&self, more: u64) -> u64 {
        let goal = self.target.scrapes() + more;
        wait_for("the target to be scraped", PATIENCE, || self.target.scrapes() >= goal);
        goal
    }

    /// Every series has every delivered scrape once, in order, with the exposed bits; markers aside.
    fn check_values(&self) {
        self.receiver.arrived(|arrived| check_samples(&arrived.samples));
    }
}

fn check_samples(samples: &[Sample]) {
    let mut scrape_at: BTreeMap<i64, u64> = BTreeMap::new();
    for sample in samples
        .iter()
        .filter(|sample| sample.label("__name__") == "scrapes_total")
    {
        scrape_at.insert(sample.unix_ms, f64::from_bits(sample.bits) as u64);
    }
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for sample in samples {
        assert!(sample.labels.is_sorted(), "labels out of order: {:?}", sample.labels);
        assert_eq!(
            (sample.label("job"), sample.label("site")),
            ("box", "test"),
            "{:?}",
            sample.labels
        );
        if let Some(earlier) = last.insert(sample.key(), sample.unix_ms) {
            assert!(
                earlier < sample.unix_ms,
                "{:?} repeats or goes back at {}",
                sample.labels,
                sample.unix_ms
            );
        }
        if sample.label("__name__") == "value" {
            let series: u64 = sample.label("series").parse().expect("a number");
            let scrape = scrape_at[&sample.unix_ms];
            assert_eq!(
                sample.bits,
                bits(&value(series, scrape)),
                "series {series} in scrape {scrape}"
            );
        }
    }
    for (key, count) in samples
        .iter()
        .fold(BTreeMap::new(), |mut counts: BTreeMap<String, usize>, sample| {
            *counts.entry(sample.key()).or_default() += 1;
            counts
        })
    {
        assert_eq!(count, scrape_at.len(), "{key} in {} scrapes", scrape_at.len());
    }
}

fn assert_no_gap(scrapes: &[u64]) {
    let expected: Vec<u64> = (scrapes[0]..=scrapes[scrapes.len() - 1]).collect();
    assert_eq!(scrapes, expected, "scrapes in order, each once");
}

#[test]
fn a_healthy_uplink_gets_everything_and_the_flash_nothing() {
    let authority = Authority::new();
    let setup = Setup::new(Some(&authority));
    let agent = Agent::start(&setup.config("60s", Some(&authority)));
    setup.wait_for_scrape(3);
    let before = std::fs::read(setup.ring()).expect("the ring exists");
    for _ in 0..20 {
        assert_eq!(agent.threads(), 1, "one OS thread");
        std::thread::sleep(Duration::from_millis(50));
    }
    let goal = setup.wait_for_more_scrapes(5);
    setup.wait_for_scrape(goal - 1);
    let after = std::fs::read(setup.ring()).expect("the ring exists");
    assert!(before == after, "the ring file changed while the uplink worked");
    assert!(agent.terminate().success());
    assert_no_gap(&setup.delivered_scrapes());
    assert_eq!(setup.delivered_scrapes()[0], 0);
    setup.check_values();
}

#[test]
fn an_outage_is_drained_complete_and_in_order() {
    let authority = Authority::new();
    let setup = Setup::new(Some(&authority));
    let agent = Agent::start(&setup.config("300ms", Some(&authority)));
    setup.wait_for_scrape(3);
    setup.receiver.cut();
    let during = setup.wait_for_more_scrapes(20);
    setup.receiver.restore();
    let back = Instant::now();
    setup.wait_for_scrape(during);
    assert!(
        back.elapsed() < Duration::from_secs(10),
        "drained {:?} after the uplink's return",
        back.elapsed()
    );
    assert_eq!(agent.threads(), 1);
    assert!(agent.terminate().success());
    assert_no_gap(&setup.delivered_scrapes());
    setup.check_values();
}

#[test]
fn sigterm_in_an_outage_keeps_everything_for_the_next_start() {
    let setup = Setup::new(None);
    let config = setup.config("60s", None);
    let agent = Agent::start(&config);
    setup.wait_for_scrape(3);
    setup.receiver.cut();
    setup.wait_for_more_scrapes(10);
    assert!(agent.terminate().success());
    let stopped = setup.target.scrapes();
    setup.receiver.restore();
    let agent = Agent::start(&config);
    setup.wait_for_scrape(stopped + 3);
    assert!(agent.terminate().success());
    assert_no_gap(&setup.delivered_scrapes());
    setup.check_values();
}

#[test]
fn kill_9_in_an_outage_loses_at_most_the_scrape_in_hand() {
    let setup = Setup::new(None);
    let config = setup.config("0s", None);
    let agent = Agent::start(&config);
    setup.wait_for_scrape(3);
    setup.receiver.cut();
    setup.wait_for_more_scrapes(15);
    agent.kill();
    let killed = setup.target.scrapes();
    setup.receiver.restore();
    let agent = Agent::start(&config);
    setup.wait_for_scrape(killed + 3);
    assert!(agent.log().contains("ring mounted"), "the start says what it found");
    assert!(agent.terminate().success());
    // The scrape in hand when the process died may be missing, the target may even tell of it late; all before it were committed
    // before it was asked for. What the receiver had may come again.
    let mut seen: Vec<u64> = setup.delivered_scrapes();
    seen.sort_unstable();
    seen.dedup();
    let missing: Vec<u64> = (0..*seen.last().expect("delivered"))
        .filter(|scrape| !seen.contains(scrape))
        .collect();
    assert!(
        missing.len() <= 1 && missing.iter().all(|scrape| *scrape + 1 >= killed),
        "missing {missing:?} of {killed}"
    );
}

#[test]
fn a_receiver_of_the_old_protocol_is_served_after_415() {
    let directory = TempDir::new();
    let receiver = Receiver::scripted(None, |_, request| {
        (request.header("x-prometheus-remote-write-version") == Some("2.0.0"))
            .then_some(("415 Unsupported Media Type", &[][..]))
    });
    let setup = Setup {
        directory,
        target: Target::serving(exposition),
        receiver,
    };
    let agent = Agent::start(&setup.config("60s", None));
    setup.wait_for_scrape(8);
    assert!(agent.terminate().success());
    assert_no_gap(&setup.delivered_scrapes());
    setup.check_values();
    let refused = setup
        .receiver
        .arrived(|arrived| arrived.requests.iter().filter(|(_, status)| *status == 415).count());
    assert_eq!(refused, 1, "the choice is remembered");
}

#[test]
fn a_receiver_that_struggles_loses_nothing() {
    let directory = TempDir::new();
    let receiver = Receiver::scripted(None, |number, _| match number % 5 {
        1 => Some(("503 Service Unavailable", &[][..])),
        2 => Some(("429 Too Many Requests", &[("retry-after", "0")][..])),
        3 => Some(("500 Internal Server Error", &[][..])),
        _ => None,
    });
    let setup = Setup {
        directory,
        target: Target::serving(exposition),
        receiver,
    };
    let agent = Agent::start(&setup.config("60s", None));
    setup.wait_for_scrape(30);
    assert!(agent.terminate().success());
    assert_no_gap(&setup.delivered_scrapes());
    setup.check_values();
}

#[test]
fn a_wrong_certificate_stops_delivery_and_loses_nothing() {
    let setup = Setup::new(Some(&Authority::new()));
    let config = setup.config("60s", Some(&Authority::new()));
    let agent = Agent::start(&config);
    setup.wait_for_more_scrapes(10);
    wait_for("the reason in the log", PATIENCE, || {
        agent.log().contains("certificate")
    });
    assert!(setup.delivered_scrapes().is_empty());
    assert!(agent.terminate().success());
}

#[test]
fn a_slow_schedule_does_not_hold_up_a_fast_one() {
    let setup = Setup::new(None);
    let slow = Target::serving(exposition);
    let config = setup.config("60s", None);
    let text = std::fs::read_to_string(&config).expect("written");
    let job = format!(
        "- job_name: slow\n  scrape_interval: 1h\n  scrape_timeout: 1s\n  static_configs: [{{targets: ['{}']}}]\nremote_write:",
        slow.address()
    );
    std::fs::write(&config, text.replacen("remote_write:", &job, 1)).expect("written");
    let agent = Agent::start(&config);
    setup.wait_for_more_scrapes(20);
    assert_eq!(slow.scrapes(), 1);
    assert!(agent.terminate().success());
}
