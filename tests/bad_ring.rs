//! Ring files that are missing, foreign, damaged or in use, and media that fail.

mod common;

use common::agent::{Agent, configure};
use common::receiver::Receiver;
use common::target::Target;
use common::{TempDir, wait_for};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

const RING: &str = "ring: {path: ring, size: 1MiB, segment_size: 64KiB, commit_interval: 0s}\n";

struct Setup {
    directory: TempDir,
    target: Target,
    receiver: Receiver,
}

impl Setup {
    fn new() -> Self {
        Self {
            directory: TempDir::new(),
            target: Target::serving(|scrape| format!("scrapes_total {scrape}\n")),
            receiver: Receiver::accepting(None),
        }
    }

    fn config(&self, own: &str) -> std::path::PathBuf {
        let jobs = format!(
            "- job_name: box\n  static_configs: [{{targets: ['{}']}}]\n",
            self.target.address()
        );
        let remotes = format!(
            "- url: http://{}/write\n  queue_config: {{batch_send_deadline: 200ms}}\n",
            self.receiver.address()
        );
        configure(self.directory.path(), &jobs, &remotes, own)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn delivered(&self) -> Vec<u64> {
        self.receiver.arrived(|arrived| {
            let counters = arrived
                .samples
                .iter()
                .filter(|s| s.label("__name__") == "scrapes_total");
            counters.map(|sample| f64::from_bits(sample.bits) as u64).collect()
        })
    }

    fn wait_for_scrapes(&self, more: u64) {
        let goal = self.target.scrapes() + more;
        wait_for("scrapes", PATIENCE, || self.target.scrapes() >= goal);
    }
}

/// Starts an agent that must refuse; the log of that start.
fn refused(config: &Path, code: i32) -> String {
    let agent = Agent::start(config);
    let log = config.with_extension("log");
    assert_eq!(agent.exit_code(), code);
    std::fs::read_to_string(log).expect("log file")
}

fn listing(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_of_another_size_or_with_something_else_in_it_is_refused_and_left_alone() {
    for (content, words) in [
        (vec![7; 4096], ["4096 bytes", "tidegate.ring.size"]),
        (vec![], ["0 bytes", "tidegate.ring.size"]),
        (vec![7; 1 << 20], ["holds no ring", "move it away"]),
        (vec![0; 1 << 20], ["holds no ring", "move it away"]),
    ] {
        let setup = Setup::new();
        std::fs::write(setup.path("ring"), &content).expect("written");
        let log = refused(&setup.config(RING), 1);
        for word in words {
            assert!(log.contains(word), "{word} in {log}");
        }
        assert!(log.contains("nothing was changed"), "{log}");
        assert!(std::fs::read(setup.path("ring")).expect("there") == content, "changed");
        assert_eq!(
            listing(setup.directory.path()),
            ["prometheus.log", "prometheus.yml", "ring"]
        );
    }
}

#[test]
fn a_ring_of_another_shape_is_refused_and_still_works_with_its_own() {
    let setup = Setup::new();
    setup.receiver.cut();
    let agent = Agent::start(&setup.config(RING));
    setup.wait_for_scrapes(5);
    agent.stop();
    let before = std::fs::read(setup.path("ring")).expect("there");
    let log = refused(&setup.config(&RING.replace("64KiB", "128KiB")), 1);
    assert!(
        log.contains("segments of 65536 bytes in blocks of 4096") && log.contains("tidegate.ring.segment_size"),
        "{log}"
    );
    assert!(std::fs::read(setup.path("ring")).expect("there") == before, "changed");
    setup.receiver.restore();
    let agent = Agent::start(&setup.config(RING));
    wait_for("the first scrape", PATIENCE, || setup.delivered().contains(&0));
    agent.stop();
}

#[test]
fn a_directory_or_a_missing_directory_in_place_of_the_ring_is_refused_by_name() {
    let setup = Setup::new();
    std::fs::create_dir(setup.path("ring")).expect("made");
    let log = refused(&setup.config(RING), 1);
    assert!(log.contains(&*setup.path("ring").to_string_lossy()), "{log}");
    let log = refused(&setup.config(&RING.replace("path: ring", "path: nowhere/ring")), 1);
    assert!(log.contains("nowhere/ring"), "{log}");
}

#[test]
fn a_second_instance_on_the_same_ring_is_refused_by_name() {
    let setup = Setup::new();
    let config = setup.config(RING);
    let mut first = Agent::start(&config);
    first.wait_for_log("ring created");
    let log = refused(&config, 1);
    let said = format!("ring {} is in use by another process", setup.path("ring").display());
    assert!(log.contains(&said), "{log}");
    setup.wait_for_scrapes(3);
    first.stop();
    // And again with a ring that was there before.
    let first = Agent::start(&config);
    setup.wait_for_scrapes(1);
    assert!(refused(&config, 1).matches(&said).count() == 2);
    first.stop();
}

#[test]
fn of_two_instances_that_make_the_same_ring_one_goes_on() {
    for _ in 0..5 {
        let setup = Setup::new();
        let config = setup.config(&RING.replace("1MiB", "8MiB"));
        let mut agents: Vec<std::process::Child> = (0..2)
            .map(|_| {
                std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
                    .args(["run", "--config"])
                    .arg(&config)
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("started")
            })
            .collect();
        wait_for("one of them to give up", PATIENCE, || {
            agents.iter_mut().any(|agent| agent.try_wait().expect("wait").is_some())
        });
        setup.wait_for_scrapes(2);
        let mut ended: Vec<Option<i32>> = Vec::new();
        for agent in &mut agents {
            ended.push(agent.try_wait().expect("wait").and_then(|status| status.code()));
            // The one that works is not needed any more; the other has been waited for.
            let _ = agent.kill();
            let _ = agent.wait();
        }
        ended.sort_unstable();
        assert_eq!(ended, [None, Some(1)]);
        assert_eq!(std::fs::metadata(setup.path("ring")).expect("there").len(), 8 << 20);
        assert!(!setup.path("ring.new").exists());
        let mut agent = Agent::start(&config);
        agent.wait_for_log("ring mounted");
        agent.stop();
    }
}

#[test]
fn damaged_blocks_are_skipped_and_counted() {
    let setup = Setup::new();
    let config = setup.config(RING);
    setup.receiver.cut();
    let agent = Agent::start(&config);
    setup.wait_for_scrapes(20);
    agent.stop();
    let kept = setup.target.scrapes();
    let mut image = std::fs::read(setup.path("ring")).expect("there");
    let last = image.len() - 4096;
    let blocks = image[4096..last].chunks_exact_mut(4096);
    let written = blocks.filter(|block| block.iter().any(|byte| *byte != 0));
    for byte in written.skip(5).take(3).flat_map(|block| &mut block[16..]) {
        *byte ^= 0x55;
    }
    std::fs::write(setup.path("ring"), &image).expect("written");
    setup.receiver.restore();
    let mut agent = Agent::start(&config);
    wait_for("what is left", PATIENCE, || {
        setup.delivered().iter().any(|scrape| *scrape >= kept)
    });
    let damaged = agent.metric("tidegate_ring_damaged_blocks_total");
    let lost = agent.metric("tidegate_samples_lost_total{reason=\"damaged\"}");
    agent.stop();
    let delivered = setup.delivered();
    assert!(delivered.is_sorted() && delivered.contains(&0), "{delivered:?}");
    let missing = (0..kept - 1).filter(|scrape| !delivered.contains(scrape)).count();
    assert!(
        missing > 0 && lost > 0.0 && damaged > 0.0,
        "{missing} missing, {lost} counted, {damaged} blocks"
    );
}

/// In a child, before it starts: writing beyond the limit is an error and not a signal.
fn limit_file_size(command: &mut std::process::Command, bytes: u64) {
    // SAFETY: signal and setrlimit are async-signal-safe and touch no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit {
                rlim_cur: bytes,
                rlim_max: libc::RLIM_INFINITY,
            };
            if libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

#[test]
fn a_medium_without_room_for_the_ring_is_refused_and_nothing_stays_behind() {
    let setup = Setup::new();
    let config = setup.config(RING);
    let agent = Agent::start_with(&config, |command| limit_file_size(command, 512 << 10));
    assert_eq!(agent.exit_code(), 1);
    let log = std::fs::read_to_string(config.with_extension("log")).expect("log file");
    assert!(
        log.contains("of 1048576 bytes") && log.contains("tidegate.ring.size"),
        "{log}"
    );
    assert_eq!(listing(setup.directory.path()), ["prometheus.log", "prometheus.yml"]);
}

/// Allows a running process `bytes` per file.
fn set_file_size_limit(pid: u32, bytes: u64) {
    let pid = i32::try_from(pid).expect("process numbers are positive");
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the new limit is a valid structure, the old one is not asked for; the child has not been waited for.
    let result = unsafe { libc::prlimit(pid, libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_medium_that_takes_no_writes_leaves_an_agent_that_works_in_memory() {
    let setup = Setup::new();
    let config = setup.config(RING);
    // The limit counts for the log file, too: so the log goes to a pipe.
    let (mut reader, writer) = std::io::pipe().expect("pipe");
    let log = Arc::new(Mutex::new(String::new()));
    let copy = log.clone();
    #[expect(clippy::disallowed_methods, reason = "a thread of the test, not of the agent")]
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // Ends with the agent.
        while let Ok(read @ 1..) = reader.read(&mut buffer) {
            copy.lock()
                .expect("lock")
                .push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
    let mut agent = Agent::start_with(&config, |command| {
        limit_file_size(command, libc::RLIM_INFINITY);
        command.stderr(writer);
    });
    let logged = || log.lock().expect("lock").clone();
    wait_for("a port", PATIENCE, || logged().contains("status port open"));
    agent.address_is(logged().as_str());
    setup.wait_for_scrapes(3);
    setup.receiver.cut();
    set_file_size_limit(agent.pid(), 0);
    wait_for("degradation", PATIENCE, || {
        agent.metric("tidegate_storage_degraded") == 1.0
    });
    assert!(logged().contains("storage takes no writes"), "{}", logged());
    assert!(agent.get("/status").body.contains("DEGRADED"));
    assert!(agent.metric("tidegate_ring_write_errors_total") >= 1.0);
    setup.wait_for_scrapes(10);
    setup.receiver.restore();
    let now = setup.target.scrapes();
    wait_for("delivery from memory", PATIENCE, || {
        setup.delivered().last().is_some_and(|last| *last > now)
    });
    let lost = agent.metric("tidegate_samples_lost_total{reason=\"write_error\"}");
    let delivered = setup.delivered();
    let missing: Vec<u64> = (0..now).filter(|scrape| !delivered.contains(scrape)).collect();
    assert!(missing.is_empty() || lost > 0.0, "missing {missing:?}, none counted");
    assert!(missing.len() <= 3, "missing {missing:?}, {lost} counted");
    assert!(delivered.is_sorted());
    agent.stop();
    // The log is read by a thread of its own.
    wait_for("the last line of the log", PATIENCE, || logged().contains("stopped"));
}

#[test]
fn what_a_failing_medium_could_not_take_is_written_once_it_can() {
    let setup = Setup::new();
    let config = setup.config(RING);
    setup.receiver.cut();
    let mut agent = Agent::start_with(&config, |command| limit_file_size(command, libc::RLIM_INFINITY));
    agent.address();
    setup.wait_for_scrapes(2);
    set_file_size_limit(agent.pid(), 0);
    setup.wait_for_scrapes(10);
    set_file_size_limit(agent.pid(), libc::RLIM_INFINITY);
    agent.stop();
    let kept = setup.target.scrapes();
    setup.receiver.restore();
    let mut agent = Agent::start(&config);
    wait_for("what was kept", PATIENCE, || {
        setup.delivered().iter().any(|scrape| *scrape >= kept)
    });
    let lost = agent.metric("tidegate_samples_lost_total{reason=\"write_error\"}");
    agent.stop();
    let delivered = setup.delivered();
    let missing: Vec<u64> = (0..kept - 1).filter(|scrape| !delivered.contains(scrape)).collect();
    assert!(
        missing.len() <= 3 && (missing.is_empty() || lost > 0.0),
        "missing {missing:?}, {lost} counted"
    );
}
