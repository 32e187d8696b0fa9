//! Reloading: all or nothing, by SIGHUP or through the status port.

mod common;

use common::agent::{Agent, configure};
use common::http::request;
use common::receiver::Receiver;
use common::target::Target;
use common::{TempDir, wait_for};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

const SUCCESSFUL: &str = "tidegate_config_last_reload_successful";

struct Setup {
    directory: TempDir,
    receiver: Receiver,
    targets: Vec<Target>,
}

impl Setup {
    fn new(targets: usize) -> Self {
        Self {
            directory: TempDir::new(),
            receiver: Receiver::accepting(None),
            targets: (0..targets)
                .map(|_| Target::serving(|scrape| format!("scrapes_total {scrape}\n")))
                .collect(),
        }
    }

    /// Configures the first of the targets named by `which`.
    fn config(&self, which: &[usize], own: &str) -> PathBuf {
        let jobs: String = which
            .iter()
            .map(|n| {
                let address = self.targets[*n].address();
                format!("- job_name: job{n}\n  static_configs: [{{targets: ['{address}']}}]\n")
            })
            .collect();
        let remotes = format!(
            "- url: http://{}/write\n  queue_config: {{batch_send_deadline: 100ms}}\n",
            self.receiver.address()
        );
        configure(self.directory.path(), &jobs, &remotes, own)
    }

    fn delivered(&self, target: usize) -> Vec<u64> {
        let job = format!("job{target}");
        self.receiver.arrived(|arrived| {
            let counters = arrived.samples.iter();
            let counters = counters.filter(|s| s.label("__name__") == "scrapes_total" && s.label("job") == job);
            counters
                .map(|sample| f64::from_bits(sample.bits))
                .filter(|value| !value.is_nan())
                .map(|value| value as u64)
                .collect()
        })
    }

    fn wait_for_scrape(&self, target: usize, scrape: u64) {
        wait_for(&format!("scrape {scrape} of target {target}"), PATIENCE, || {
            self.delivered(target).last().is_some_and(|last| *last >= scrape)
        });
    }

    fn wait_for_more(&self, target: usize, more: u64) {
        self.wait_for_scrape(target, self.targets[target].scrapes() + more);
    }

    /// Every scrape has arrived, in order; what a reload leaves in doubt may have come twice.
    fn assert_complete(&self, target: usize) {
        let mut scrapes = self.delivered(target);
        let arrived = scrapes.clone();
        scrapes.sort_unstable();
        scrapes.dedup();
        let expected: Vec<u64> = (0..scrapes.len() as u64).collect();
        assert_eq!(scrapes, expected, "target {target}, arrived {arrived:?}");
    }
}

fn pools(agent: &mut Agent) -> Vec<String> {
    let targets = agent.json("/api/v1/targets");
    let targets = targets.array("data.activeTargets").iter();
    targets.map(|target| target.text("scrapePool").to_owned()).collect()
}

#[test]
fn sighup_adds_and_removes_targets_and_loses_no_sample() {
    let setup = Setup::new(3);
    let config = setup.config(&[0, 1], "");
    let mut agent = Agent::start(&config);
    setup.wait_for_scrape(0, 2);
    setup.wait_for_scrape(1, 2);
    setup.config(&[0, 2], "");
    agent.signal(libc::SIGHUP);
    setup.wait_for_scrape(2, 2);
    setup.wait_for_more(0, 2);
    assert_eq!(pools(&mut agent), ["job0", "job2"]);
    let removed = setup.targets[1].scrapes();
    // And again and again, with scrapes and requests under way each time.
    for round in 0..10 {
        std::thread::sleep(Duration::from_millis(37 * round));
        agent.signal(libc::SIGHUP);
    }
    setup.wait_for_more(0, 3);
    assert_eq!(agent.metric(SUCCESSFUL), 1.0);
    assert_eq!(setup.targets[1].scrapes(), removed, "a removed target is left alone");
    assert!(agent.log().matches("configuration reloaded").count() >= 3);
    agent.stop();
    for target in 0..3 {
        setup.assert_complete(target);
    }
}

#[test]
fn a_reload_in_an_outage_keeps_the_backlog() {
    let setup = Setup::new(2);
    let config = setup.config(&[0], "");
    let agent = Agent::start(&config);
    setup.wait_for_scrape(0, 1);
    setup.receiver.cut();
    for which in [&[0, 1][..], &[0]] {
        let goal = setup.targets[0].scrapes() + 4;
        wait_for("scrapes", PATIENCE, || setup.targets[0].scrapes() >= goal);
        setup.config(which, "");
        agent.signal(libc::SIGHUP);
    }
    let goal = setup.targets[0].scrapes() + 4;
    wait_for("scrapes", PATIENCE, || setup.targets[0].scrapes() >= goal);
    setup.receiver.restore();
    setup.wait_for_more(0, 2);
    agent.stop();
    setup.assert_complete(0);
    setup.assert_complete(1);
    assert!(setup.delivered(1).len() >= 2);
}

#[test]
fn a_reload_ends_the_hold_of_a_receiver_that_knows_no_such_credentials() {
    let mut setup = Setup::new(1);
    setup.receiver = Receiver::scripted(None, |_, request| {
        let known = request.header("authorization") == Some("Bearer right");
        (!known).then_some(("401 Unauthorized", &[]))
    });
    let token = setup.directory.path().join("token");
    std::fs::write(&token, "wrong").expect("written");
    let remotes = format!(
        "- url: http://{}/write\n  authorization: {{credentials_file: token}}\n  queue_config: {{batch_send_deadline: 100ms}}\n",
        setup.receiver.address()
    );
    let job = format!(
        "- job_name: job0\n  static_configs: [{{targets: ['{}']}}]\n",
        setup.targets[0].address()
    );
    let config = configure(setup.directory.path(), &job, &remotes, "");
    let agent = Agent::start(&config);
    // The first hold takes 10 s, the second 20.
    for requests in 1..=2 {
        wait_for("a refusal", PATIENCE, || {
            setup.receiver.arrived(|arrived| arrived.requests.len() == requests)
        });
    }
    let held = Instant::now();
    std::fs::write(&token, "right").expect("written");
    agent.signal(libc::SIGHUP);
    setup.wait_for_scrape(0, 2);
    assert!(
        held.elapsed() < Duration::from_secs(18),
        "{:?} after the reload",
        held.elapsed()
    );
    agent.stop();
    setup.assert_complete(0);
}

#[test]
fn a_bad_file_changes_nothing_and_says_so() {
    let setup = Setup::new(2);
    let config = setup.config(&[0], "");
    let mut agent = Agent::start(&config);
    setup.wait_for_scrape(0, 2);
    let good = std::fs::read_to_string(&config).expect("there");
    let before = agent.json("/api/v1/status/config");
    let started = agent.metric("tidegate_config_last_reload_success_timestamp_seconds");
    for (bad, words) in [
        ("global: [", "prometheus.yml:"),
        (
            &*good.replace("scrape_interval: 100ms", "scrape_intervall: 1s"),
            "did you mean scrape_interval",
        ),
        (&*good.replace("size: 1MiB", "size: 2MiB"), "tidegate.ring"),
        (
            &*good.replace("segment_size: 64KiB", "segment_size: 128KiB"),
            "tidegate.ring",
        ),
        (&*good.replace("path: ring", "path: other"), "tidegate.ring"),
        (&*good.replace("127.0.0.1:0", "127.0.0.1:1"), "tidegate.listen_address"),
        (&*format!("{good}  memory: {{limit: 20KiB}}\n"), "tidegate.memory.limit"),
        (
            &*good
                .replace("remote_write:\n-", "# -")
                .replace("\n  queue_config", "\n  # queue_config"),
            "remote_write",
        ),
    ] {
        assert_ne!(bad, good, "{words}");
        std::fs::write(&config, bad).expect("written");
        let said = agent.log().matches("configuration not reloaded").count();
        agent.signal(libc::SIGHUP);
        wait_for("the refusal", PATIENCE, || {
            agent.log().matches("configuration not reloaded").count() > said
        });
        let log = agent.log();
        let line = log
            .lines()
            .rfind(|line| line.contains("configuration not reloaded"))
            .expect("found");
        assert!(
            line.contains(words) && line.contains("level=error"),
            "{words} in {line}"
        );
        assert_eq!(agent.metric(SUCCESSFUL), 0.0);
        assert_eq!(
            agent.metric("tidegate_config_last_reload_success_timestamp_seconds"),
            started
        );
        assert_eq!(agent.json("/api/v1/status/config"), before);
    }
    std::fs::remove_file(&config).expect("there");
    agent.signal(libc::SIGHUP);
    wait_for("the refusal", PATIENCE, || agent.log().contains("No such file"));
    setup.wait_for_more(0, 1);
    std::fs::write(&config, &good).expect("written");
    agent.signal(libc::SIGHUP);
    wait_for("success", PATIENCE, || agent.metric(SUCCESSFUL) == 1.0);
    setup.wait_for_more(0, 1);
    agent.stop();
    setup.assert_complete(0);
}

#[test]
fn the_port_reloads_only_where_it_is_enabled() {
    let setup = Setup::new(2);
    let config = setup.config(&[0], "");
    let mut agent = Agent::start(&config);
    let answer = request(agent.address(), "POST", "/-/reload", &[]);
    assert_eq!((answer.status, &*answer.body), (403, "Lifecycle API is not enabled.\n"));
    assert_eq!(request(agent.address(), "PUT", "/-/reload", &[]).status, 403);
    assert_eq!(request(agent.address(), "PUT", "/metrics", &[]).status, 405);
    agent.stop();
    let mut agent = Agent::start_with(&config, |command| {
        command.arg("--web.enable-lifecycle");
    });
    assert_eq!(request(agent.address(), "GET", "/-/reload", &[]).status, 405);
    setup.config(&[0, 1], "");
    let answer = request(agent.address(), "POST", "/-/reload", &[]);
    assert_eq!(answer.status, 200, "{}", answer.body);
    setup.wait_for_scrape(1, 1);
    assert_eq!(pools(&mut agent), ["job0", "job1"]);
    std::fs::write(&config, "global: [").expect("written");
    let answer = request(agent.address(), "PUT", "/-/reload", &[]);
    assert_eq!(answer.status, 500);
    assert!(
        answer.body.starts_with("failed to reload config: ") && answer.body.contains("prometheus.yml:1:"),
        "{}",
        answer.body
    );
    assert_eq!(agent.metric(SUCCESSFUL), 0.0);
    setup.wait_for_more(1, 1);
    agent.stop();
    setup.assert_complete(0);
    setup.assert_complete(1);
}
