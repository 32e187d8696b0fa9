//! The ring on a block device: a loop device, where the machine lets us make one. Elsewhere says so and checks nothing.

mod common;

use common::TempDir;
use common::agent::{Agent, configure, run};
use common::receiver::Receiver;
use common::target::Target;
use common::wait_for;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A loop device that goes away with the value.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Option<Self> {
        let output = Command::new("losetup")
            .arg("-f")
            .arg("--show")
            .arg(file)
            .output()
            .ok()?;
        let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        if !output.status.success() || name.is_empty() {
            eprintln!(
                "SKIPPED: no loop device: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            return None;
        }
        Some(Self(name))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // A device left behind shows in losetup; the test's verdict stands.
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

fn refused(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(words), "{words} in {said}");
}

#[test]
fn a_device_is_taken_only_when_asked_and_by_one_instance() {
    let directory = TempDir::new();
    let file = directory.path().join("disk");
    let disk = std::fs::File::create(&file).expect("writable");
    disk.set_len(8 << 20).expect("sparse files");
    disk.write_all_at(b"XFSB", 0).expect("writable");
    let Some(device) = Loop::new(&file) else { return };
    let path = device.0.as_str();

    refused(&run(&["ring", "format", path]), "an XFS file system");
    let mut magic = [0; 4];
    std::fs::File::open(&file)
        .and_then(|disk| disk.read_exact_at(&mut magic, 0))
        .expect("there");
    assert_eq!(&magic, b"XFSB", "nothing was changed");
    let made = run(&["ring", "format", path, "--force", "--segment-size=64KiB"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(
        String::from_utf8_lossy(&made.stdout).contains("size: 8MiB"),
        "of the device"
    );
    refused(&run(&["ring", "format", path]), "holds a ring");

    let target = Target::serving(|scrape| format!("scrapes_total {scrape}\n"));
    let receiver = Receiver::accepting(None);
    receiver.cut();
    let jobs = format!(
        "- job_name: box\n  static_configs: [{{targets: ['{}']}}]\n",
        target.address()
    );
    let remotes = format!("- url: http://{}/write\n", receiver.address());
    let own = format!("ring: {{path: {path}, size: 8MiB, segment_size: 64KiB, commit_interval: 0s}}\n");
    let config = configure(directory.path(), &jobs, &remotes, &own);
    let check = run(&["check", "--config", config.to_str().expect("text")]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("slots behind the first 4 MiB"), "{said}");

    let agent = Agent::start(&config);
    let goal = target.scrapes() + 8;
    wait_for("scrapes", PATIENCE, || target.scrapes() >= goal);
    refused(&run(&["ring", "format", path, "--force"]), "is in use");
    refused(&run(&["run", "--config", config.to_str().expect("text")]), "is in use");
    agent.kill();
    for (command, words) in [("verify", "0 faults"), ("info", "geometry    63 segments")] {
        let output = run(&["ring", command, path]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(words), "{said}");
    }
    // What was kept goes out after a restart.
    receiver.restore();
    let agent = Agent::start(&config);
    let delivered = |arrived: &common::receiver::Arrived| {
        arrived
            .samples
            .iter()
            .filter(|s| s.label("__name__") == "scrapes_total")
            .count() as u64
    };
    wait_for("delivery", PATIENCE, || receiver.arrived(delivered) >= goal);
    agent.stop();
}
