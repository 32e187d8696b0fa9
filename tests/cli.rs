//! The command line: exit codes, messages, and a stop that never takes longer than promised.

mod common;

use common::agent::{Agent, configure, run};
use common::receiver::{CLOSE, Receiver};
use common::target::{RawTarget, Refusing, Target};
use common::{TempDir, wait_for};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

fn job(address: SocketAddr) -> String {
    format!("- job_name: box\n  static_configs: [{{targets: ['{address}']}}]\n")
}

fn remote(address: SocketAddr) -> String {
    format!("- url: http://{address}/write\n  queue_config: {{batch_send_deadline: 100ms}}\n")
}

/// Code, standard output, standard error.
fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (
        output.status.code().expect("no signal"),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn check(path: &Path) -> (i32, String, String) {
    told(&run(&["check", "--config", &path.to_string_lossy()]))
}

/// A good configuration of which one part is replaced.
fn broken(directory: &Path, what: &str, with: &str) -> std::path::PathBuf {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let path = configure(directory, &job(nobody), &remote(nobody), "");
    let good = std::fs::read_to_string(&path).expect("there");
    assert!(good.contains(what), "{what} in {good}");
    std::fs::write(&path, good.replacen(what, with, 1)).expect("written");
    path
}

#[test]
fn check_accepts_what_works_and_starts_nothing() {
    let directory = TempDir::new();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let remotes = format!("{}- url: invalid://nowhere\n", remote(nobody));
    let path = configure(directory.path(), &job(nobody), &remotes, "");
    let (code, out, err) = check(&path);
    assert_eq!((code, &*err), (0, ""), "{out}");
    for words in [
        "is valid",
        "http://127.0.0.1:1/metrics",
        "Memory plan",
        "samples",
        "warning: nothing can be sent to invalid://nowhere",
    ] {
        assert!(out.contains(words), "{words} in {out}");
    }
    assert!(!directory.path().join("ring").exists(), "check makes no ring");
}

#[test]
fn check_and_run_refuse_the_same_files_for_the_same_reason() {
    for (what, with, words) in [
        (
            "scrape_interval: 100ms",
            "scrape_intervall: 1s",
            "prometheus.yml:2:3: global: unknown key",
        ),
        ("scrape_interval: 100ms", "scrape_interval: soon", "prometheus.yml:2:"),
        ("  scrape_timeout: 100ms", "\tscrape_timeout: 100ms", "not valid YAML"),
        ("job_name: box", "job_name: ''", "job_name"),
        (
            "targets: ['127.0.0.1:1']",
            "targets: ['http://x y/']",
            "prometheus.yml:",
        ),
        ("url: http://127.0.0.1:1/write", "url: 'http//nowhere'", "url"),
        (
            "remote_write:\n- url: http://127.0.0.1:1/write\n  queue_config: {batch_send_deadline: 100ms}\n",
            "",
            "remote_write",
        ),
        ("segment_size: 64KiB", "segment_size: 5KiB", "segment_size"),
        ("size: 1MiB", "size: 10KiB", "ring"),
        (
            "listen_address: 127.0.0.1:0",
            "listen_address: somewhere",
            "listen_address",
        ),
        (
            "listen_address: 127.0.0.1:0",
            "memory: {limit: 10KiB}",
            "tidegate.memory.limit",
        ),
        (
            "listen_address: 127.0.0.1:0",
            "memory: {max_series: 9999999}",
            "max_series",
        ),
        (
            "job_name: box",
            "job_name: box\n  metric_relabel_configs: [{regex: '(', action: drop}]",
            "regex",
        ),
        (
            "job_name: box",
            "job_name: box\n  kubernetes_sd_configs: [{role: node}]",
            "static_configs",
        ),
    ] {
        let directory = TempDir::new();
        let path = broken(directory.path(), what, with);
        let (code, _, err) = check(&path);
        assert_eq!(code, 2, "{with}: {err}");
        assert!(err.contains(words), "{words} in {err}");
        let (code, _, err) = told(&run(&["run", "--config", &path.to_string_lossy()]));
        assert_eq!(code, 2, "{with}: {err}");
        assert!(err.contains(words), "{words} in {err}");
        assert!(!directory.path().join("ring").exists(), "{with}: nothing was started");
    }
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let directory = TempDir::new();
    let path = directory.path().join("prometheus.yml");
    let (code, _, err) = check(&path);
    assert!(
        code == 2 && err.contains("prometheus.yml") && err.contains("No such file"),
        "{err}"
    );
    for (content, words) in [
        (&b""[..], "remote_write"),
        (b"\xff\xfe\x00", "UTF-8"),
        (&[b' '; 300 * 1024], "262144"),
        (b"- a\n- b\n", "mapping"),
        (b"{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{", "prometheus.yml:"),
        (b"a: &x [*x, *x]\n", "prometheus.yml:"),
    ] {
        std::fs::write(&path, content).expect("written");
        let (code, out, err) = check(&path);
        assert_eq!(code, 2, "{out}{err}");
        assert!(err.contains(words), "{words} in {err}");
    }
    let (code, _, err) = check(directory.path());
    assert!(code == 2 && err.contains(&*directory.path().to_string_lossy()), "{err}");
}

#[test]
fn the_command_line_explains_itself() {
    for (arguments, code, words) in [
        (&["--help"][..], 0, "Usage:"),
        (&["run", "--help"], 0, "--config"),
        (&["--version"], 0, env!("CARGO_PKG_VERSION")),
        (&[], 2, "which command"),
        (&["fly"], 2, "fly"),
        (&["run", "--no-such-option"], 2, "--no-such-option"),
        (&["run", "--log.level=loud"], 2, "log"),
    ] {
        let (found, out, err) = told(&run(arguments));
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        assert!(format!("{out}{err}").contains(words), "{arguments:?}: {out}{err}");
    }
}

#[test]
fn a_port_that_is_taken_is_refused_by_name() {
    let directory = TempDir::new();
    let taken = Target::serving(|_| String::new());
    let own = format!("listen_address: {}\n", taken.address());
    let config = configure(directory.path(), &job(taken.address()), &remote(taken.address()), &own);
    let (code, _, err) = told(&run(&["run", "--config", &config.to_string_lossy()]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains(&format!("listen on {}", taken.address())), "{err}");
}

/// A receiver or target that takes requests and never answers.
fn silent() -> RawTarget {
    RawTarget::answering(|_, _| {
        std::thread::sleep(Duration::from_secs(60));
        false
    })
}

#[test]
fn a_stop_takes_six_seconds_at_most_whatever_hangs() {
    let good = Target::serving(|scrape| format!("scrapes_total {scrape}\n"));
    let (hanging, refusing) = (silent(), Refusing::new());
    let closing = Receiver::scripted(None, |_, _| Some((CLOSE, &[][..])));
    let busy = Receiver::scripted(None, |_, _| Some(("503 Busy", &[("retry-after", "3600")][..])));
    let accepting = Receiver::accepting(None);
    std::thread::scope(|scope| {
        for (target, receiver) in [
            (good.address(), hanging.address()),
            (good.address(), refusing.address()),
            (good.address(), closing.address()),
            (good.address(), busy.address()),
            (hanging.address(), accepting.address()),
            (hanging.address(), hanging.address()),
        ] {
            scope.spawn(move || {
                let directory = TempDir::new();
                let jobs = job(target).replace(
                    "static_configs",
                    "scrape_interval: 20s\n  scrape_timeout: 20s\n  static_configs",
                );
                let mut agent = Agent::start(&configure(directory.path(), &jobs, &remote(receiver), ""));
                agent.address();
                // The first scrape and the first request are under way by then.
                std::thread::sleep(Duration::from_millis(600));
                agent.stop();
            });
        }
    });
}

#[test]
fn a_stop_at_once_after_the_start_is_orderly() {
    let good = Target::serving(|scrape| format!("scrapes_total {scrape}\n"));
    let receiver = Receiver::accepting(None);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let directory = TempDir::new();
        let config = configure(directory.path(), &job(good.address()), &remote(receiver.address()), "");
        let mut agent = Agent::start(&config);
        agent.address();
        agent.signal(signal);
        assert_eq!(agent.exit_code(), 0);
        // What is left is a ring that works.
        let before = good.scrapes();
        let agent = Agent::start(&config);
        wait_for("a scrape", PATIENCE, || good.scrapes() > before);
        agent.stop();
    }
}
