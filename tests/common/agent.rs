//! The agent as a child process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// A running `tidegate run`. Killed with the value if it still runs.
pub struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts the agent with the configuration in `config`, logging to a file beside it.
    pub fn start(config: &Path) -> Self {
        let log = config.with_extension("log");
        let file = File::options().create(true).append(true).open(&log).expect("log file");
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["run", "--log-level", "debug", "--config"])
            .arg(config)
            .stderr(file)
            .spawn()
            .expect("the agent starts");
        Self { child, log }
    }

    /// Process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged, over all starts with this configuration.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("log file")
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

    /// Sends SIGTERM and waits for the exit status, at most ten seconds.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        let mut status = None;
        super::wait_for("the agent to end", Duration::from_secs(10), || {
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
