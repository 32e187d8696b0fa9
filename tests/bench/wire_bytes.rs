//! Bytes on the wire, nanoseconds and instructions per sample of recorded scrapes, all the way from exposition to compressed body.
//!
//! `cargo bench --bench wire_bytes -- [OPTIONS] [FILE...]`; files as `tests/testdata/captures/README.md` describes them, gzipped or not; without
//! files the small captures of the tests. `--no-instructions` does not count instructions.
//!
//! The agent is the real one without its sockets, with the sizes of a default configuration and a ring in memory: expositions with their HELP
//! and TYPE lines are scraped 15 s apart, stored, read back, sealed into requests and compressed. Every file alone, then the sum of all, then all
//! as targets of one agent; each over remote write 2.0 and 1.0, in four situations:
//!
//! | | |
//! |---|---|
//! | live | defaults: one scrape per request |
//! | flush 2m | `batch_send_deadline: 2m` |
//! | backlog N | all scrapes wait in the ring, then the uplink is there; `max_samples_per_send: N`, `slow_start: 0s`; 2,000 is the default and lets a backlog go in requests of 8,000, 1,999 is a limit that is kept: slices of a batch over 2.0, whole scrapes over 1.0 |
//!
//! Bytes are those of the bodies, requests of metadata included (1.0; in 2.0 help texts are in the series); `without` leaves metadata out
//! (`metadata_config: {send: false}`). HTTP headers and TLS come on top, some 300 bytes a request. The drain's nanoseconds: reading frames back and sealing, then
//! compressing, the fastest of some rounds.

#[path = "wire_bytes/bodies.rs"]
mod bodies;
#[path = "ring_bytes/instructions.rs"]
mod instructions;
#[path = "wire_bytes/path.rs"]
mod path;
#[path = "../common/ring_config.rs"]
mod ring_config;

use bodies::Exposed;
use instructions::Counter;
use path::{Path, Report, Situation};
use std::path::PathBuf;
use tidegate::remote_write::response::Protocol;

/// Drains per figure of time; the fastest counts.
const ROUNDS: usize = 5;

/// Goals, bytes per sample: of one capture, and over all where that differs.
const SITUATIONS: [(Situation, &str); 5] = [
    (Situation::Live, "17.0"),
    (Situation::Stretched, "8"),
    (Situation::Backlog(1_999), "8"),
    (Situation::Backlog(2_000), "8"),
    (Situation::Backlog(10_000), "4.5 node, 5 all"),
];

fn main() {
    // `cargo bench` adds `--bench`.
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if arguments.first().is_some_and(|first| first == instructions::WORK) {
        return work(&arguments[1..]);
    }
    let counts = !arguments.iter().any(|argument| argument == "--no-instructions");
    arguments.retain(|argument| argument != "--no-instructions");
    let mut files: Vec<PathBuf> = arguments.into_iter().map(PathBuf::from).collect();
    if files.is_empty() {
        files = small_captures();
    }
    let mut counter = counts.then(Counter::new);
    if let Some(counter) = &counter {
        println!("instructions: {}", counter.source());
    }
    println!(
        "{:<12} {:<3} {:<24} {:>8} {:>8} {:>8} {:>8} {:>8} | {:>6} {:>6} {:>6} {:>7}",
        "", "", "", "samples", "a body", "raw B", "wire B", "without", "ns", "snappy", "M/s", "instr"
    );
    for protocol in [Protocol::V2, Protocol::V1] {
        for (situation, goal) in SITUATIONS {
            let mut sum = Report::default();
            for file in &files {
                let report = best(&[file], protocol, situation);
                let instructions = counter
                    .as_mut()
                    .and_then(|counter| count(counter, file, protocol, situation));
                line(&name(file), protocol, situation, goal, &report, instructions);
                sum.add(&report);
            }
            if files.len() > 1 {
                line("all", protocol, situation, goal, &sum, None);
                let files: Vec<&PathBuf> = files.iter().collect();
                line(
                    "one agent",
                    protocol,
                    situation,
                    goal,
                    &best(&files, protocol, situation),
                    None,
                );
            }
        }
    }
}

fn small_captures() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata/captures");
    let entries = std::fs::read_dir(directory).expect("test data is part of the repository");
    let files = entries.map(|entry| entry.expect("directory can be read").path());
    let mut files: Vec<PathBuf> = files
        .filter(|file| {
            let name = file.to_string_lossy();
            // Those of protobuf have no text.
            !name.contains("-protobuf.") && (name.ends_with(".cap") || name.ends_with(".cap.gz"))
        })
        .collect();
    files.sort();
    files
}

fn name(file: &std::path::Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

fn best(files: &[&PathBuf], protocol: Protocol, situation: Situation) -> Report {
    let targets: Vec<Exposed> = files.iter().map(|file| Exposed::read(file)).collect();
    let rounds = if matches!(situation, Situation::Backlog(_)) {
        ROUNDS
    } else {
        1
    };
    let mut report = (0..rounds)
        .map(|_| {
            let mut path = Path::new(&targets, protocol, situation, true);
            path.scrape(&targets);
            path.drain();
            path.report()
        })
        .min_by_key(|report| report.sealing + report.compressing)
        .expect("at least one round");
    let mut bare = Path::new(&targets, protocol, situation, false);
    bare.scrape(&targets);
    bare.drain();
    report.without = bare.report().wire;
    report
}

/// Instructions of the drain per sample.
fn count(counter: &mut Counter, file: &std::path::Path, protocol: Protocol, situation: Situation) -> Option<f64> {
    let Situation::Backlog(limit) = situation else {
        return None;
    };
    let targets = [Exposed::read(file)];
    let mut path = Path::new(&targets, protocol, situation, true);
    path.scrape(&targets);
    let (protocol, limit, file) = (format!("{protocol:?}"), limit.to_string(), file.to_string_lossy());
    let counted = counter.count(&[&protocol, &limit, &file], &mut || path.drain())?;
    path.drain();
    Some(counted / path.report().samples as f64)
}

/// Runs as a process of its own, for whoever counts from outside: drains (0 or 1), message, batch size, file.
fn work(arguments: &[String]) {
    let [drains, protocol, limit, file] = arguments else {
        panic!("{} DRAINS MESSAGE LIMIT FILE", instructions::WORK);
    };
    let protocol = if protocol == "V1" { Protocol::V1 } else { Protocol::V2 };
    let limit = limit.parse().expect("a number of samples");
    let targets = [Exposed::read(std::path::Path::new(file))];
    let mut path = Path::new(&targets, protocol, Situation::Backlog(limit), true);
    path.scrape(&targets);
    if drains != "0" {
        path.drain();
    }
}

fn line(name: &str, protocol: Protocol, situation: Situation, goal: &str, report: &Report, instructions: Option<f64>) {
    let per_sample = |n: u64| n as f64 / report.samples as f64;
    let nanos = |d: std::time::Duration| d.as_nanos() as f64 / report.samples as f64;
    let message = if protocol == Protocol::V2 { "2.0" } else { "1.0" };
    let situation_and_goal = format!("{situation} (<= {goal})");
    print!(
        "{name:<12} {message} {situation_and_goal:<24} {:>8} {:>8} {:>8.2} {:>8.2} {:>8.2} |",
        report.samples,
        report.samples / report.requests.max(1),
        per_sample(report.raw),
        per_sample(report.wire),
        per_sample(report.without),
    );
    if matches!(situation, Situation::Backlog(_)) {
        let (sealing, compressing) = (nanos(report.sealing), nanos(report.compressing));
        let instructions = instructions.map_or_else(|| "-".to_owned(), |count| format!("{count:.0}"));
        print!(
            " {sealing:>6.0} {compressing:>6.0} {:>6.2} {instructions:>7}",
            1000.0 / (sealing + compressing)
        );
    }
    println!();
}
