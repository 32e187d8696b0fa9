//! The agent as a child process.

use super::http::{self, Answer};
use super::json::Json;
use super::receiver::Receiver;
use super::target::Target;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes a configuration: 100 ms scrapes, a small ring, a status port on any free port. `jobs` and `remotes` are the
/// entries of `scrape_configs` and `remote_write`, `own` more keys of `tidegate`, each without indentation.
pub fn configure(directory: &Path, jobs: &str, remotes: &str, own: &str) -> PathBuf {
    let path = directory.join("prometheus.yml");
    let own: String = own.lines().map(|line| format!("  {line}\n")).collect();
    let ring = if own.contains("ring:") {
        ""
    } else {
        "  ring: {path: ring, size: 1MiB, segment_size: 64KiB, commit_interval: 60s}\n"
    };
    let listen = if own.contains("listen_address:") {
        ""
    } else {
        "  listen_address: 127.0.0.1:0\n"
    };
    let text = format!(
        "global:\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\nscrape_configs:\n{jobs}remote_write:\n{remotes}tidegate:\n{listen}{ring}{own}"
    );
    std::fs::write(&path, text).expect("written");
    path
}

/// An agent without an uplink that has scraped `target` twelve times and more; each scrape is on the ring, the file `ring` of `directory`.
/// A second target, job `gone`, is not there. The receiver it does not reach is kept, so that nobody else gets its port.
pub fn in_outage(directory: &Path, target: &Target) -> (Agent, Receiver) {
    let receiver = Receiver::accepting(None);
    receiver.cut();
    let jobs = format!(
        "- job_name: box\n  static_configs: [{{targets: ['{}']}}]\n- job_name: gone\n  static_configs: [{{targets: ['127.0.0.1:9']}}]\n",
        target.address()
    );
    let remotes = format!("- url: http://{}/write\n", receiver.address());
    let own = "ring: {path: ring, size: 1MiB, segment_size: 64KiB, commit_interval: 0s}\n";
    let agent = Agent::start(&configure(directory, &jobs, &remotes, own));
    let goal = target.scrapes() + 12;
    super::wait_for("scrapes", PATIENCE, || target.scrapes() >= goal);
    (agent, receiver)
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

/// A running `tidegate run`. Killed with the value if it still runs.
pub struct Agent {
    child: Child,
    log: PathBuf,
    /// Bytes of the log that earlier starts have written.
    earlier: usize,
    /// Known without looking at the log.
    address: Option<SocketAddr>,
}

fn address_in(log: &str) -> SocketAddr {
    let line = log.lines().rfind(|line| line.contains("status port open"));
    let (_, address) = line
        .and_then(|line| line.split_once("address="))
        .expect("the line says where");
    address.trim().parse().expect("an address")
}

impl Agent {
    /// Starts the agent with the configuration in `config`, logging to a file beside it.
    pub fn start(config: &Path) -> Self {
        Self::start_with(config, |_| {})
    }

    /// As [`Agent::start`], with more arguments or another environment.
    pub fn start_with(config: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let log = config.with_extension("log");
        let file = File::options().create(true).append(true).open(&log).expect("log file");
        let earlier = file.metadata().expect("log file").len() as usize;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(["run", "--log-level", "debug", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stderr(file);
        prepare(&mut command);
        let child = command.spawn().expect("the agent starts");
        Self {
            child,
            log,
            earlier,
            address: None,
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Address of the status port, once it is open.
    pub fn address(&mut self) -> SocketAddr {
        if let Some(address) = self.address {
            return address;
        }
        self.wait_for_log("status port open");
        let address = address_in(&self.log_since_start());
        self.address = Some(address);
        address
    }

    /// Takes the address from a log that does not go to the file.
    pub fn address_is(&mut self, log: &str) {
        self.address = Some(address_in(log));
    }

    /// GETs `path` of the status port.
    pub fn get(&mut self, path: &str) -> Answer {
        http::get(self.address(), path)
    }

    /// GETs `path`, which must be answered with 200 and JSON.
    pub fn json(&mut self, path: &str) -> Json {
        let answer = self.get(path);
        assert_eq!(
            (answer.status, answer.content_type.as_str()),
            (200, "application/json"),
            "{path}: {}",
            answer.body
        );
        Json::parse(&answer.body)
    }

    /// The value of a metric, by its name and labels as exposed.
    pub fn metric(&mut self, series: &str) -> f64 {
        let body = self.get("/metrics").body;
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {body}"))
            .parse()
            .expect("a number")
    }

    /// The value of the first series of a metric.
    pub fn metric_of(&mut self, name: &str) -> f64 {
        let body = self.get("/metrics").body;
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        let (_, value) = line.unwrap_or_else(|| panic!("no {name} in {body}"));
        value.parse().expect("a number")
    }

    /// Waits until a line of the log holds `text`.
    pub fn wait_for_log(&mut self, text: &str) {
        super::wait_for(text, PATIENCE, || {
            let found = self.log_since_start().contains(text);
            let ended = self.child.try_wait().expect("wait");
            assert!(found || ended.is_none(), "ended with {ended:?} before {text:?}");
            found
        });
    }

    /// Waits until it ends by itself; the exit code.
    pub fn exit_code(mut self) -> i32 {
        let mut status = None;
        super::wait_for("the agent to end", PATIENCE, || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.and_then(|status| status.code()).expect("an exit code")
    }

    /// Sends SIGTERM; it must end with code 0 within six seconds.
    pub fn stop(self) {
        let start = Instant::now();
        let status = self.terminate();
        assert!(status.success(), "{status}");
        // Half a second for a busy machine.
        assert!(
            start.elapsed() < Duration::from_millis(6_500),
            "took {:?}",
            start.elapsed()
        );
    }

    /// Process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged, over all starts with this configuration.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("log file")
    }

    /// What it has logged since this start.
    pub fn log_since_start(&self) -> String {
        self.log().split_off(self.earlier)
    }

    /// Threads it has now.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid()))
            .expect("running")
            .count()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("process numbers are positive");
        // SAFETY: kill(2) takes two integers; the child has not been waited for, so the number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal}");
    }

    /// `kill -9`, and waits.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Sends SIGTERM and waits for the exit status: five seconds of flushing, a commit, and what a busy machine adds.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        let mut status = None;
        super::wait_for("the agent to end", Duration::from_secs(30), || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("waited for")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the agent ---\n{}", self.log());
        }
        // Both fail when it has ended already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
