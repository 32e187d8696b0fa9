//! `uplink.live_share`, with a whole agent and a receiver that takes samples in any order.

mod common;

use common::agent::{Agent, configure};
use common::receiver::Receiver;
use common::target::Target;
use common::{TempDir, wait_for};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// The scrapes that have arrived, in this order.
fn delivered(receiver: &Receiver) -> Vec<u64> {
    receiver.arrived(|arrived| {
        let counter = arrived
            .samples
            .iter()
            .filter(|sample| sample.label("__name__") == "scrapes_total");
        // What ends with the process is marked.
        let values = counter.map(|sample| f64::from_bits(sample.bits));
        values
            .filter(|value| !value.is_nan())
            .map(|value| value as u64)
            .collect()
    })
}

#[test]
fn what_is_scraped_after_an_outage_arrives_before_the_backlog_and_nothing_arrives_twice() {
    let target = Target::serving(|scrape| format!("# TYPE scrapes_total counter\nscrapes_total {scrape}\n"));
    let receiver = Receiver::accepting(None);
    let directory = TempDir::new();
    let config = configure(
        directory.path(),
        &format!(
            "- job_name: box\n  static_configs:\n  - targets: ['{}']\n",
            target.address()
        ),
        &format!(
            "- url: http://{}/api/v1/write\n  accepts_out_of_order: true\n  queue_config: {{batch_send_deadline: 200ms, max_samples_per_send: 60}}\n",
            receiver.address()
        ),
        "uplink: {live_share: 0.3, rate_limit: 3KiB}\nring: {path: ring, size: 1MiB, segment_size: 64KiB, commit_interval: 1s}\n",
    );
    let mut agent = Agent::start(&config);
    wait_for("the first scrapes", PATIENCE, || delivered(&receiver).len() > 5);
    receiver.cut();
    let dark = Instant::now();
    let missed = target.scrapes();
    // Twice as long as what is no backlog.
    wait_for("a backlog", PATIENCE, || dark.elapsed() > Duration::from_secs(22));
    let back = target.scrapes();
    receiver.restore();
    wait_for("fresh samples", PATIENCE, || {
        delivered(&receiver).last().is_some_and(|&last| last > back + 5)
    });
    let old = delivered(&receiver)
        .iter()
        .filter(|&&scrape| (missed..back).contains(&scrape))
        .count() as u64;
    assert!(old < (back - missed) / 2, "{old} of {} were sent before", back - missed);
    assert!(agent.metric_of("tidegate_remote_write_ahead_samples_total") > 0.0);
    // An orderly restart: what went ahead is not sent again.
    agent.stop();
    let agent = Agent::start(&config);
    let goal = target.scrapes() + 20;
    wait_for("everything", PATIENCE, || {
        let mut all = delivered(&receiver);
        all.sort_unstable();
        all.last().is_some_and(|&last| last >= goal) && all.windows(2).all(|pair| pair[1] <= pair[0] + 1)
    });
    agent.stop();
    let mut all = delivered(&receiver);
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "each once: {all:?}");
}
