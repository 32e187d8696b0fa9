//! The built-in target `self`: the agent's own metrics travel home without HTTP.

mod common;

use common::agent::{Agent, configure};
use common::receiver::Receiver;
use common::{TempDir, wait_for};
use std::collections::BTreeSet;
use std::time::Duration;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_own_metrics_arrive_like_those_of_any_target() {
    let (directory, receiver) = (TempDir::new(), Receiver::accepting(None));
    let jobs = "- job_name: tidegate\n  static_configs: [{targets: [self], labels: {box: b7}}]\n  metric_relabel_configs:\n  \
                - {source_labels: [__name__], regex: process_.*, action: drop}\n";
    let remotes = format!(
        "- url: http://{}/write\n  queue_config: {{batch_send_deadline: 100ms}}\n",
        receiver.address()
    );
    let config = configure(directory.path(), jobs, &remotes, "");
    let mut agent = Agent::start(&config);
    let page = agent.get("/metrics").body;
    let exposed: BTreeSet<String> = page
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("process_"))
        .map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned())
        .collect();
    assert!(exposed.len() > 60, "{exposed:?}");
    let names = || -> BTreeSet<String> {
        receiver.arrived(|arrived| {
            let of_self = arrived.samples.iter().filter(|sample| {
                sample.label("job") == "tidegate" && sample.label("instance") == "self" && sample.label("box") == "b7"
            });
            of_self.map(|sample| sample.label("__name__").to_owned()).collect()
        })
    };
    wait_for("all own metrics", PATIENCE, || exposed.is_subset(&names()));
    let arrived = names();
    assert!(
        !arrived.iter().any(|name| name.starts_with("process_")),
        "relabelling applies"
    );
    for synthetic in [
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_series_added",
    ] {
        assert!(arrived.contains(synthetic), "{synthetic}");
    }
    // What travels is what the page says: a counter that rises with every scrape.
    let scrapes = || {
        receiver.arrived(|arrived| {
            let all = arrived.samples.iter();
            let all = all.filter(|sample| sample.label("__name__") == "tidegate_scrapes_total");
            all.map(|sample| f64::from_bits(sample.bits)).collect::<Vec<_>>()
        })
    };
    wait_for("several scrapes", PATIENCE, || scrapes().len() >= 5);
    let scrapes = scrapes();
    assert!(scrapes.is_sorted_by(|a, b| a < b), "{scrapes:?}");
    let up = receiver.arrived(|arrived| {
        let all = arrived.samples.iter();
        all.filter(|sample| sample.label("__name__") == "up")
            .all(|sample| f64::from_bits(sample.bits) == 1.0)
    });
    assert!(up);
    let target = agent.json("/api/v1/targets");
    assert_eq!(target.array("data.activeTargets")[0].text("health"), "up");
    assert!(agent.metric("tidegate_series") >= exposed.len() as f64);
    agent.stop();
}

#[test]
fn a_limit_fails_the_own_metrics_as_it_fails_others() {
    let (directory, receiver) = (TempDir::new(), Receiver::accepting(None));
    let jobs = "- job_name: tidegate\n  sample_limit: 3\n  static_configs: [{targets: [self]}]\n";
    let remotes = format!(
        "- url: http://{}/write\n  queue_config: {{batch_send_deadline: 100ms}}\n",
        receiver.address()
    );
    let config = configure(directory.path(), jobs, &remotes, "");
    let mut agent = Agent::start(&config);
    wait_for("a failed scrape", PATIENCE, || {
        receiver.arrived(|arrived| {
            let up = arrived.samples.iter().find(|sample| sample.label("__name__") == "up");
            up.is_some_and(|sample| sample.bits == 0)
        })
    });
    let targets = agent.json("/api/v1/targets");
    let error = targets.array("data.activeTargets")[0].text("lastError").to_owned();
    assert!(error.contains("sample_limit is 3"), "{error}");
    agent.stop();
}
