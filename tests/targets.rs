//! Targets that come and go while the agent runs, and targets that keep the others waiting.

mod common;

use common::agent::{Agent, configure};
use common::protobuf::Sample;
use common::receiver::Receiver;
use common::target::{RawTarget, Target};
use common::{TempDir, wait_for};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bits of a staleness marker.
const MARKER: u64 = 0x7ff0_0000_0000_0002;

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
                .map(|n| Target::serving(move |scrape| format!("scrapes_total {scrape}\nof{{target=\"{n}\"}} 1\n")))
                .collect(),
        }
    }

    fn config(&self, jobs: &str, own: &str) -> PathBuf {
        let remotes = format!(
            "- url: http://{}/write\n  queue_config: {{batch_send_deadline: 100ms}}\n",
            self.receiver.address()
        );
        configure(self.directory.path(), jobs, &remotes, own)
    }

    fn jobs(&self, which: &[usize]) -> String {
        let job = |n: &usize| {
            let address = self.targets[*n].address();
            format!("- job_name: job{n}\n  static_configs: [{{targets: ['{address}']}}]\n")
        };
        which.iter().map(job).collect()
    }

    /// Exchanges a file as a careful writer does: what is read is the old or the new one.
    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        let new = path.with_extension("new");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, path).expect("renamed");
    }

    fn address(&self, n: usize) -> String {
        self.targets[n].address().to_string()
    }

    fn samples(&self, n: usize) -> Vec<Sample> {
        let instance = self.address(n);
        self.receiver.arrived(|arrived| {
            let own = arrived
                .samples
                .iter()
                .filter(|sample| sample.label("instance") == instance);
            own.cloned().collect()
        })
    }

    /// Names of the series of target `n` that have been marked, sorted.
    fn marked(&self, n: usize) -> Vec<String> {
        let marked = self.samples(n).into_iter().filter(|sample| sample.bits == MARKER);
        let mut names: Vec<String> = marked.map(|sample| sample.label("__name__").to_owned()).collect();
        names.sort_unstable();
        names
    }

    fn wait_for_more(&self, n: usize) {
        let goal = self.targets[n].scrapes() + 2;
        wait_for(&format!("scrape {goal} of target {n}"), PATIENCE, || {
            self.targets[n].scrapes() >= goal
        });
    }
}

fn active(agent: &mut Agent) -> usize {
    agent.json("/api/v1/targets").array("data.activeTargets").len()
}

const ALL: [&str; 7] = [
    "of",
    "scrape_duration_seconds",
    "scrape_samples_post_metric_relabeling",
    "scrape_samples_scraped",
    "scrape_series_added",
    "scrapes_total",
    "up",
];

#[test]
fn scr_806_a_reload_marks_what_it_removes_and_disturbs_nobody_else() {
    let setup = Setup::new(3);
    let config = setup.config(&setup.jobs(&[0, 1]), "");
    let mut agent = Agent::start(&config);
    setup.wait_for_more(0);
    setup.wait_for_more(1);
    setup.config(&setup.jobs(&[2, 0]), "");
    agent.signal(libc::SIGHUP);
    wait_for("the markers", PATIENCE, || setup.marked(1).len() >= ALL.len());
    assert_eq!(setup.marked(1), ALL);
    setup.wait_for_more(0);
    setup.wait_for_more(2);
    assert_eq!(active(&mut agent), 2);
    // With other receivers everything begins anew; what goes is marked all the same.
    let text = std::fs::read_to_string(&config).expect("there");
    let (jobs, rest) = text.split_once("scrape_configs:\n").expect("jobs");
    let (_, remotes) = rest.split_once("remote_write:\n").expect("remotes");
    let other = format!(
        "{jobs}scrape_configs:\n{}remote_write:\n{}",
        setup.jobs(&[0]),
        remotes.replace("100ms", "150ms")
    );
    std::fs::write(&config, other).expect("written");
    agent.signal(libc::SIGHUP);
    wait_for("the markers", PATIENCE, || setup.marked(2).len() >= ALL.len());
    assert_eq!(setup.marked(2), ALL);
    setup.wait_for_more(0);
    assert!(setup.marked(0).is_empty(), "{:?}", setup.marked(0));
    agent.stop();
    assert!(setup.marked(0).is_empty(), "a stop marks nothing");
    // The first reload left target 0 alone: nothing new, no scrape missing, every one once.
    let added = setup
        .samples(0)
        .into_iter()
        .filter(|s| s.label("__name__") == "scrape_series_added" && s.bits != 0);
    assert_eq!(added.count(), 2, "at the start and after the last reload");
}

#[test]
fn scr_807_other_rules_mark_what_they_no_longer_yield() {
    let setup = Setup::new(1);
    let config = setup.config(&setup.jobs(&[0]), "");
    let agent = Agent::start(&config);
    setup.wait_for_more(0);
    let rule = "  metric_relabel_configs: [{source_labels: [__name__], regex: of, action: drop}]\n";
    setup.config(&(setup.jobs(&[0]) + rule), "");
    agent.signal(libc::SIGHUP);
    wait_for("the marker", PATIENCE, || !setup.marked(0).is_empty());
    setup.wait_for_more(0);
    agent.stop();
    assert_eq!(setup.marked(0), ["of"]);
}

#[test]
fn files_of_targets_are_read_again_when_they_change() {
    let setup = Setup::new(4);
    let jobs = "- job_name: files\n  file_sd_configs:\n  - {files: ['sd*.json', more.yml], refresh_interval: 100ms}\n  \
                relabel_configs:\n  - {source_labels: [__meta_filepath], regex: '.*/([^/]*)', target_label: file}\n";
    let list = |which: &[usize]| {
        let targets: Vec<String> = which.iter().map(|n| format!("\"{}\"", setup.address(*n))).collect();
        format!(
            "[\n\t{{\"targets\": [{}], \"labels\": {{\"from\": \"json\"}}}}\n]\n",
            targets.join(", ")
        )
    };
    setup.write("sd1.json", &list(&[0]));
    setup.write("more.yml", &format!("- targets: ['{}']\n", setup.address(1)));
    let config = setup.config(jobs, "");
    let mut agent = Agent::start(&config);
    setup.wait_for_more(0);
    setup.wait_for_more(1);
    // A new file, and one more target in an old one.
    setup.write("sd2.json", &list(&[2]));
    setup.wait_for_more(2);
    setup.write("sd1.json", &list(&[0, 3]));
    setup.wait_for_more(3);
    wait_for("labels", PATIENCE, || !setup.samples(3).is_empty());
    let sample = &setup.samples(3)[0];
    assert_eq!((sample.label("file"), sample.label("from")), ("sd1.json", "json"));
    // A file that is broken keeps its targets.
    let errors = "prometheus_sd_file_read_errors_total";
    assert_eq!(agent.metric(errors), 0.0);
    setup.write("sd1.json", "[{\"targets\": ");
    wait_for("the error", PATIENCE, || agent.metric(errors) >= 1.0);
    setup.wait_for_more(0);
    setup.wait_for_more(3);
    assert_eq!(active(&mut agent), 4);
    // More targets than there is room for change nothing.
    let many: Vec<String> = (0..65).map(|n| format!("\"10.0.0.{n}:1\"")).collect();
    setup.write("sd1.json", &format!("[{{\"targets\": [{}]}}]", many.join(",")));
    agent.wait_for_log("expected at most 64");
    assert_eq!(active(&mut agent), 4);
    // One that is gone has none; its targets are marked.
    std::fs::remove_file(setup.directory.path().join("sd2.json")).expect("there");
    setup.write("sd1.json", &list(&[0]));
    wait_for("the markers", PATIENCE, || {
        setup.marked(2).len() >= ALL.len() && setup.marked(3).len() >= ALL.len()
    });
    assert_eq!(
        (setup.marked(2), setup.marked(3)),
        (ALL.map(String::from).into(), ALL.map(String::from).into())
    );
    setup.wait_for_more(1);
    assert_eq!(active(&mut agent), 2);
    let log = agent.log();
    assert!(!log.contains("configuration reloaded") && log.matches("ring created").count() == 1);
    agent.stop();
    for n in [0, 1] {
        assert!(setup.marked(n).is_empty());
        let values: Vec<f64> = setup
            .samples(n)
            .iter()
            .filter(|sample| sample.label("__name__") == "scrapes_total")
            .map(|sample| f64::from_bits(sample.bits))
            .collect();
        let expected: Vec<f64> = (0..values.len()).map(|n| n as f64).collect();
        assert_eq!(values, expected, "target {n}: every scrape once, none lost");
    }
}

/// A target that accepts and never answers.
fn silent() -> RawTarget {
    RawTarget::answering(|_, _| {
        std::thread::sleep(Duration::from_secs(3_600));
        false
    })
}

fn first_scrape(config: &Path, target: &Target) -> (Agent, Duration) {
    let start = Instant::now();
    let agent = Agent::start(config);
    wait_for("the first scrape", PATIENCE, || target.scrapes() > 0);
    (agent, start.elapsed())
}

#[test]
fn dead_targets_do_not_delay_the_living_at_the_start_even_with_one_worker() {
    let setup = Setup::new(1);
    let dead: Vec<RawTarget> = (0..8).map(|_| silent()).collect();
    let addresses: Vec<String> = dead.iter().map(|target| format!("'{}'", target.address())).collect();
    let jobs = format!(
        "- job_name: dead\n  scrape_interval: 20s\n  scrape_timeout: 20s\n  static_configs: [{{targets: [{}]}}]\n\
         - job_name: alive\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  static_configs: [{{targets: ['{}']}}]\n",
        addresses.join(", "),
        setup.address(0)
    );
    let config = setup.config(&jobs, "memory: {max_concurrent_scrapes: 1}\n");
    let (agent, took) = first_scrape(&config, &setup.targets[0]);
    // Eight times a tenth of a second, and as much again for a busy machine; their timeouts would be 160 s.
    assert!(took < Duration::from_secs(4), "{took:?}");
    let from = setup.targets[0].scrapes();
    std::thread::sleep(Duration::from_secs(4));
    let scrapes = setup.targets[0].scrapes() - from;
    assert!(
        scrapes >= 1,
        "and then it is scraped again, while the dead wait for their timeouts"
    );
    assert!(dead.iter().all(|target| target.requests() > 0) || scrapes >= 3);
    agent.stop();
}
