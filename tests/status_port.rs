//! The status port: valid in every format, in Prometheus' shapes, and told to the service manager.

mod common;

use common::agent::{Agent, configure, run};
use common::http::{open, request};
use common::json::Json;
use common::receiver::Receiver;
use common::target::{Refusing, Target};
use common::{TempDir, wait_for};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tidegate::exposition::{Event, Format, Parser, parse_series};
use tidegate::labels::Labels;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0;q=0.6,*/*;q=0.2";

/// An agent with two targets, one of them down, two receivers, one of them down, and secrets of every kind.
struct Setup {
    directory: TempDir,
    target: Target,
    receiver: Receiver,
    refusing: Refusing,
}

impl Setup {
    fn new() -> Self {
        Self {
            directory: TempDir::new(),
            target: Target::serving(|scrape| format!("scrapes_total {scrape}\n")),
            receiver: Receiver::accepting(None),
            refusing: Refusing::new(),
        }
    }

    fn start(&self) -> Agent {
        Agent::start(&self.written())
    }

    /// The configuration, on disk.
    fn written(&self) -> PathBuf {
        let (up, down) = (self.target.address(), self.refusing.address());
        let jobs = format!(
            "- job_name: \"quo\\\"te\\\\<b>\"\n  basic_auth: {{username: u, password: hunter-1}}\n  \
             static_configs: [{{targets: ['{up}'], labels: {{site: \"a\\nb\"}}}}]\n\
             - job_name: down\n  authorization: {{credentials: hunter-2}}\n  static_configs: [{{targets: ['{down}']}}]\n\
             - job_name: dropped\n  static_configs: [{{targets: ['{down}']}}]\n  \
             relabel_configs: [{{source_labels: [job], regex: dropped, action: drop}}]\n"
        );
        let remotes = format!(
            "- name: good\n  url: http://me:hunter-3@{}/write\n  http_headers: {{x-token: {{secrets: [hunter-4]}}}}\n  \
             queue_config: {{batch_send_deadline: 100ms}}\n\
             - name: bad\n  url: http://{down}/write\n  basic_auth: {{username: u, password: hunter-5}}\n",
            self.receiver.address()
        );
        configure(self.directory.path(), &jobs, &remotes, "")
    }
}

/// Reads an exposition with the product's parser; the texts of its series.
fn samples(body: &str, format: Format) -> Vec<String> {
    let mut parser = Parser::new(4096);
    let mut labels = Labels::new(4096);
    let mut found = Vec::new();
    let mut rest = body.as_bytes();
    parser.start(format);
    loop {
        let event = parser.next().unwrap_or_else(|error| panic!("{error} in {body}"));
        let series = match event {
            Some(Event::Sample { series, .. }) => series.to_vec(),
            Some(_) => continue,
            None => {
                if parser.finished() {
                    return found;
                }
                if rest.is_empty() {
                    parser.finish();
                } else {
                    rest = &rest[parser.feed(rest)..];
                }
                continue;
            }
        };
        let text = String::from_utf8(series).expect("UTF-8");
        parse_series(format, text.as_bytes(), &mut labels).unwrap_or_else(|error| panic!("{error}: {text}"));
        found.push(text);
    }
}

#[test]
fn metrics_are_valid_in_both_formats_and_tell_no_secret() {
    let setup = Setup::new();
    let mut agent = setup.start();
    wait_for("samples at the receiver", PATIENCE, || {
        setup.receiver.arrived(|arrived| arrived.samples.len() > 20)
    });
    let address = agent.address();
    let plain = request(address, "GET", "/metrics", &[]);
    let open = request(address, "GET", "/metrics", &[("accept", OPEN_METRICS)]);
    assert_eq!((plain.status, open.status), (200, 200));
    assert_eq!(plain.content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(
        open.content_type,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let (old, new) = (
        samples(&plain.body, Format::Text),
        samples(&open.body, Format::OpenMetrics),
    );
    assert!(old.len() > 60, "{}", plain.body);
    assert_eq!(old, new, "the same samples in both");
    let unique: BTreeSet<&String> = old.iter().collect();
    assert_eq!(unique.len(), old.len(), "a series twice");
    check_families(&open.body, true);
    check_families(&plain.body, false);
    for name in [
        "process_resident_memory_bytes",
        "tidegate_ring_free_bytes",
        "prometheus_remote_storage_samples_pending",
        "tidegate_pool_bytes{pool=\"catalogue\"}",
        "tidegate_pool_peak_ratio{pool=\"staging\"}",
        "tidegate_arena_peak_bytes",
        "tidegate_heap_refused_total",
        "tidegate_out_of_memory_total{operation=\"tls_handshake\"}",
        "tidegate_loop_step_seconds_bucket{le=\"0.002\"}",
    ] {
        assert!(old.iter().any(|text| text.starts_with(name)), "{name} in {old:?}");
    }
    // At a cap that is the sum of the plan.
    assert_eq!(agent.metric("tidegate_heap_refused_total"), 0.0);
    assert!(agent.metric("tidegate_heap_bytes") < agent.metric("tidegate_heap_limit_bytes"));
    agent.stop();
    for text in [plain.body, open.body, agent_log(&setup)] {
        assert!(!text.contains("hunter"), "{text}");
    }
}

fn agent_log(setup: &Setup) -> String {
    std::fs::read_to_string(setup.directory.path().join("prometheus.log")).expect("log file")
}

/// Families once each, HELP and TYPE before their samples, counters named `_total`.
fn check_families(body: &str, open: bool) {
    let mut seen = BTreeSet::new();
    let (mut family, mut counter, mut histogram) = (String::new(), false, false);
    for line in body.lines().filter(|line| *line != "# EOF") {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().expect("a name").to_owned();
            assert!(help.len() > family.len() + 1, "help of {family}");
            assert!(seen.insert(family.clone()), "{family} twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            counter = kind == format!("{family} counter");
            histogram = kind == format!("{family} histogram");
            let gauge = kind == format!("{family} gauge");
            assert!(counter || histogram || gauge, "{line} behind {family}");
        } else {
            let name = line.split(['{', ' ']).next().expect("a name");
            if histogram {
                let part = name.strip_prefix(family.as_str()).expect(line);
                assert!(["_bucket", "_sum", "_count"].contains(&part), "{line}");
                continue;
            }
            let suffix = if open && counter { "_total" } else { "" };
            assert_eq!(name, format!("{family}{suffix}"), "{line}");
            assert_eq!(counter, name.ends_with("_total"), "{line}");
        }
    }
}

#[test]
fn answers_have_the_shapes_of_prometheus() {
    let setup = Setup::new();
    let mut agent = setup.start();
    wait_for("both targets", PATIENCE, || {
        let targets = agent.json("/api/v1/targets");
        targets
            .array("data.activeTargets")
            .iter()
            .all(|target| target.text("health") != "unknown")
    });
    targets_have_their_shape(&mut agent, &setup);
    let config = agent.json("/api/v1/status/config");
    let yaml = config.text("data.yaml");
    assert!(yaml.contains("scrape_configs:") && yaml.contains("<secret>"), "{yaml}");
    assert!(!yaml.contains("hunter"), "{yaml}");
    let build = agent.json("/api/v1/status/buildinfo");
    assert_eq!(
        build.at("data").names(),
        ["version", "revision", "branch", "buildUser", "buildDate", "goVersion"]
    );
    assert_eq!(build.text("data.version"), env!("CARGO_PKG_VERSION"));
    let runtime = agent.json("/api/v1/status/runtimeinfo");
    assert_eq!(
        runtime.at("data").names(),
        [
            "startTime",
            "CWD",
            "hostname",
            "serverTime",
            "reloadConfigSuccess",
            "lastConfigTime",
            "corruptionCount",
            "goroutineCount",
            "GOMAXPROCS",
            "GOMEMLIMIT",
            "GOGC",
            "GODEBUG",
            "storageRetention"
        ]
    );
    assert_eq!(runtime.at("data.reloadConfigSuccess"), &Json::Bool(true));
    for time in ["startTime", "serverTime", "lastConfigTime"] {
        let text = runtime.text(&format!("data.{time}"));
        assert!(text.starts_with("20") && text.ends_with('Z'), "{time} {text}");
    }
    let flags = agent.json("/api/v1/status/flags");
    let expected = [("log.level", "debug"), ("web.enable-lifecycle", "false")];
    let expected = expected.map(|(name, value)| (name.to_owned(), Json::Text(value.to_owned())));
    assert_eq!(flags.at("data"), &Json::Object(expected.into()));
    agent.stop();
}

fn targets_have_their_shape(agent: &mut Agent, setup: &Setup) {
    let all = agent.json("/api/v1/targets");
    assert_eq!(all.text("status"), "success");
    assert_eq!(
        all.at("data").names(),
        ["activeTargets", "droppedTargets", "droppedTargetCounts"]
    );
    let targets = all.array("data.activeTargets");
    for target in targets {
        assert_eq!(
            target.names(),
            [
                "discoveredLabels",
                "labels",
                "scrapePool",
                "scrapeUrl",
                "globalUrl",
                "lastError",
                "lastScrape",
                "lastScrapeDuration",
                "health",
                "scrapeInterval",
                "scrapeTimeout"
            ]
        );
        assert_eq!(
            (target.text("scrapeInterval"), target.text("scrapeTimeout")),
            ("100ms", "100ms")
        );
        assert!(target.text("lastScrape").starts_with("20"), "{target:?}");
    }
    let [up, down] = targets else { panic!("{targets:?}") };
    assert_eq!(
        (up.text("health"), up.text("lastError"), up.text("scrapePool")),
        ("up", "", "quo\"te\\<b>")
    );
    assert_eq!(up.text("labels.site"), "a\nb");
    assert_eq!(
        up.text("discoveredLabels.__address__"),
        setup.target.address().to_string()
    );
    assert_eq!(
        up.text("scrapeUrl"),
        format!("http://{}/metrics", setup.target.address())
    );
    assert_eq!(down.text("health"), "down");
    assert!(down.text("lastError").contains("refused"), "{down:?}");
    let [dropped] = all.array("data.droppedTargets") else {
        panic!("{all:?}")
    };
    assert_eq!(dropped.names(), ["discoveredLabels", "scrapePool"]);
    assert_eq!(all.at("data.droppedTargetCounts.dropped"), &Json::Number(1.0));
    let count = |answer: &Json, list: &str| answer.array(&format!("data.{list}")).len();
    for (query, active, dropped) in [
        ("?state=active", 2, 0),
        ("?state=dropped", 0, 1),
        ("?state=any&scrapePool=down", 1, 0),
        ("?scrapePool=quo%22te%5C%3Cb%3E", 1, 0),
    ] {
        let answer = agent.json(&format!("/api/v1/targets{query}"));
        assert_eq!(
            (count(&answer, "activeTargets"), count(&answer, "droppedTargets")),
            (active, dropped),
            "{query}"
        );
    }
}

#[test]
fn other_paths_and_methods_are_answered_as_by_an_agent() {
    let setup = Setup::new();
    let mut agent = setup.start();
    let address = agent.address();
    for (path, body) in [
        ("/-/healthy", "Healthy"),
        ("/-/ready", "Ready"),
        ("/status", "TARGETS"),
        ("/", "<pre>tidegate"),
    ] {
        let answer = agent.get(path);
        assert!(answer.status == 200 && answer.body.contains(body), "{path}: {answer:?}");
    }
    for path in [
        "/api/v1/query?query=up",
        "/api/v1/query_range",
        "/api/v1/series",
        "/api/v1/labels",
        "/api/v1/label/job/values",
        "/api/v1/rules",
        "/api/v1/alerts",
        "/api/v1/status/tsdb",
        "/api/v1/query_exemplars",
        "/api/v1/alertmanagers",
    ] {
        let answer = agent.get(path);
        assert_eq!(answer.status, 422, "{path}");
        let error = Json::parse(&answer.body);
        assert_eq!(
            (error.text("status"), error.text("errorType"), error.text("error")),
            ("error", "execution", "unavailable with Prometheus Agent")
        );
    }
    assert_eq!(agent.get("/nowhere").status, 404);
    assert_eq!(agent.get("/api/v1/nowhere").status, 404);
    assert_eq!(request(address, "POST", "/metrics", &[]).status, 405);
    assert_eq!(request(address, "DELETE", "/metrics", &[]).status, 405);
    agent.stop();
}

#[test]
fn clients_that_misbehave_block_neither_the_port_nor_the_agent() {
    let setup = Setup::new();
    let mut agent = setup.start();
    let address = agent.address();
    let bytes = [
        &b""[..],
        b"GET /metr",
        b"\x16\x03\x01\x02\x00garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: ",
    ];
    let silent = bytes.map(|bytes| open(address, bytes));
    let flood = open(
        address,
        format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)).as_bytes(),
    );
    let scrapes = setup.target.scrapes();
    wait_for("scrapes meanwhile", PATIENCE, || setup.target.scrapes() > scrapes + 5);
    drop(silent);
    drop(flood);
    assert_eq!(agent.get("/-/healthy").status, 200);
    // Half a connection still gets its answer.
    let mut half = open(
        address,
        b"GET /-/healthy HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    );
    half.shutdown(Shutdown::Write).expect("shut down");
    let mut answer = String::new();
    half.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    agent.stop();
}

#[test]
fn sixty_four_failing_targets_fit_into_every_answer() {
    let directory = TempDir::new();
    let receiver = Receiver::accepting(None);
    let refusing = Refusing::new();
    let jobs: String = (0..64)
        .map(|n| {
            let label = "v".repeat(60);
            format!("- job_name: a_job_with_a_name_of_some_length_{n}\n  static_configs: [{{targets: ['{}'], labels: {{n: '{n}', a: {label}, b: {label}}}}}]\n", refusing.address())
        })
        .collect();
    let remotes: String = (0..8)
        .map(|n| format!("- name: remote_{n}\n  url: http://{}/write\n", receiver.address()))
        .collect();
    let own = "memory: {max_series: 1000}\n";
    let config = configure(
        directory.path(),
        &jobs.replace("static_configs", "scrape_interval: 1s\n  static_configs"),
        &remotes,
        own,
    );
    let mut agent = Agent::start(&config);
    wait_for("every target", PATIENCE, || {
        let targets = agent.json("/api/v1/targets");
        targets
            .array("data.activeTargets")
            .iter()
            .filter(|target| target.text("health") == "down")
            .count()
            == 64
    });
    for path in ["/metrics", "/status", "/", "/api/v1/status/config"] {
        let answer = agent.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    agent.stop();
}

#[test]
fn the_status_command_prints_what_an_operator_asks() {
    let setup = Setup::new();
    let mut agent = setup.start();
    wait_for("samples at the receiver", PATIENCE, || {
        setup.receiver.arrived(|arrived| arrived.samples.len() > 20)
    });
    agent.wait_for_log("receiver not reached");
    let output = run(&["status", "--address", &agent.address().to_string()]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{text}");
    for words in [
        "TARGETS", "RING", "REMOTES", "refused", "healthy", "failing", "good", "up  ",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(!text.contains("hunter"), "{text}");
    let address = agent.address();
    agent.stop();
    let output = run(&["status", "--address", &address.to_string()]);
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("Is the agent running"), "{text}");
}

#[test]
fn the_service_manager_hears_of_every_change() {
    let setup = Setup::new();
    let path = setup.directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("option");
    let config = setup.written();
    let mut agent = Agent::start_with(&config, |command| {
        command
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "200000")
            .env_remove("WATCHDOG_PID");
    });
    let receive = |wanted: &str| {
        for _ in 0..100 {
            let mut buffer = [0; 1024];
            let length = socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("waiting for {wanted}: {error}"));
            let message = String::from_utf8(buffer[..length].to_vec()).expect("text");
            if message.lines().any(|line| line.starts_with(wanted)) {
                return message;
            }
        }
        panic!("no {wanted}");
    };
    receive("READY=1");
    let fed = receive("WATCHDOG=1");
    assert!(fed.contains("STATUS=2 targets"), "{fed}");
    receive("WATCHDOG=1");
    agent.signal(libc::SIGHUP);
    let message = receive("RELOADING=1");
    assert!(message.contains("\nMONOTONIC_USEC="), "{message}");
    receive("READY=1");
    agent.wait_for_log("configuration reloaded");
    agent.signal(libc::SIGTERM);
    receive("STOPPING=1");
    assert_eq!(agent.exit_code(), 0);
}

#[test]
fn a_stuck_loop_is_no_longer_fed_and_its_successor_takes_the_ring_up() {
    let setup = Setup::new();
    let config = setup.written();
    let path = setup.directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    let start = || {
        Agent::start_with(&config, |command| {
            command
                .env("NOTIFY_SOCKET", &path)
                .env("WATCHDOG_USEC", "400000")
                .env_remove("WATCHDOG_PID");
        })
    };
    // The service manager's part: what the agent says within `patience`, or nothing.
    let hears = |wanted: &str, patience: Duration| {
        let end = Instant::now() + patience;
        while let Some(left) = end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            socket.set_read_timeout(Some(left)).expect("option");
            let mut buffer = [0; 1024];
            let Ok(length) = socket.recv(&mut buffer) else {
                return false;
            };
            if String::from_utf8_lossy(&buffer[..length])
                .lines()
                .any(|line| line == wanted)
            {
                return true;
            }
        }
        false
    };
    let agent = start();
    assert!(hears("READY=1", PATIENCE) && hears("WATCHDOG=1", PATIENCE));
    // The fault: the one thread does not come back, as from a medium that hangs.
    agent.signal(libc::SIGSTOP);
    // What was said before the fault.
    while hears("WATCHDOG=1", Duration::from_millis(200)) {}
    assert!(
        !hears("WATCHDOG=1", Duration::from_secs(2)),
        "fed by a loop that stands"
    );
    // Five periods without a word: killed, as systemd does, and started again.
    agent.kill();
    let agent = start();
    assert!(
        hears("READY=1", PATIENCE),
        "the ring of the killed one is free and mounts"
    );
    assert!(hears("WATCHDOG=1", PATIENCE));
    agent.stop();
}

#[test]
fn a_service_manager_that_is_gone_is_no_reason_not_to_scrape() {
    let setup = Setup::new();
    let config = setup.written();
    let missing = setup.directory.path().join("missing");
    let mut agent = Agent::start_with(&config, |command| {
        command.env("NOTIFY_SOCKET", &missing);
    });
    agent.wait_for_log("service manager not reached");
    let scrapes = setup.target.scrapes();
    wait_for("scrapes", PATIENCE, || setup.target.scrapes() > scrapes);
    agent.stop();
}
