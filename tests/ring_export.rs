//! `tidegate ring format` and `ring export` as programs, on the ring of an agent that was killed in an outage.

mod common;

use common::TempDir;
use common::agent::{in_outage, run};
use common::target::Target;
use std::process::Output;

fn exposition(scrape: u64) -> String {
    let half = scrape as f64 / 2.0 + 1e-9;
    format!("# TYPE scrapes_total counter\nscrapes_total {scrape}\nhalf{{say=\"\\\"1\\\"\\n\"}} {half}\nnothing NaN\n")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn failed(output: &Output, code: i32, words: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{words} in {said}");
    assert_eq!(text(&output.stdout), "");
}

/// Value and milliseconds of every line that begins with `series` and a blank.
fn points(export: &str, series: &str) -> Vec<(String, u64)> {
    let of_series = export
        .lines()
        .filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    of_series
        .map(|rest| {
            let (value, seconds) = rest.split_once(' ').expect("a time");
            let seconds: f64 = seconds.parse().expect("seconds");
            (value.to_owned(), (seconds * 1_000.0) as u64)
        })
        .collect()
}

#[test]
fn a_killed_box_gives_up_every_sample_it_had_committed() {
    let directory = TempDir::new();
    let ring = directory.path().join("ring");
    let ring = ring.to_str().expect("text");
    let made = run(&[
        "ring",
        "format",
        ring,
        "--size",
        "1MiB",
        "--segment-size=64KiB",
        "--label",
        "pump",
    ]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stdout).contains("    segment_size: 64KiB\n"));

    let target = Target::serving(exposition);
    let (agent, _receiver) = in_outage(directory.path(), &target);
    failed(
        &run(&["ring", "format", ring, "--force"]),
        1,
        "in use by another process",
    );
    drop(agent);

    let before = std::fs::read(ring).expect("a ring");
    let output = run(&["ring", "export", ring]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let export = text(&output.stdout);
    assert!(export.ends_with("# EOF\n"));
    let labels = format!("instance=\"{}\",job=\"box\"", target.address());
    let counted = points(&export, &format!("scrapes_total{{{labels}}}"));
    assert!(counted.len() >= 10, "{export}");
    for (scrape, (value, _)) in counted.iter().enumerate() {
        assert_eq!(value, &scrape.to_string());
    }
    assert!(counted.windows(2).all(|pair| pair[0].1 < pair[1].1), "times rise");
    let halves = points(&export, &format!("half{{{labels},say=\"\\\"1\\\"\\n\"}}"));
    for (scrape, (value, _)) in halves.iter().enumerate() {
        let value: f64 = value.parse().expect("a float");
        assert_eq!(value.to_bits(), (scrape as f64 / 2.0 + 1e-9).to_bits());
    }
    assert_eq!(halves.len(), counted.len());
    assert!(
        points(&export, &format!("nothing{{{labels}}}"))
            .iter()
            .all(|(value, _)| value == "NaN")
    );
    let down = points(&export, "up{instance=\"127.0.0.1:9\",job=\"gone\"}");
    assert!(!down.is_empty() && down.iter().all(|(value, _)| value == "0"));

    // Nothing was delivered: what is not acknowledged is everything. And reading has changed nothing.
    let rest = run(&[
        "ring",
        "export",
        ring,
        "--remote-unacknowledged-only",
        "--target",
        "job=~b.x",
    ]);
    assert_eq!(
        points(&text(&rest.stdout), &format!("scrapes_total{{{labels}}}")),
        counted
    );
    assert!(!text(&rest.stdout).contains("job=\"gone\""));
    let to = format!("{}.{:03}", counted[3].1 / 1_000, counted[3].1 % 1_000);
    let some = run(&["ring", "export", ring, "--from=2020-01-01T00:00:00Z", "--until", &to]);
    assert_eq!(
        points(&text(&some.stdout), &format!("scrapes_total{{{labels}}}")),
        counted[..3]
    );
    assert!(std::fs::read(ring).expect("a ring") == before);
}

#[test]
fn wrong_options_and_images_are_refused_by_name() {
    let directory = TempDir::new();
    let path = directory.path().join("file");
    let file = path.to_str().expect("text");
    failed(&run(&["ring", "export", file]), 1, file);
    std::fs::write(&path, vec![7; 100_000]).expect("written");
    failed(&run(&["ring", "export", file]), 1, "holds no ring");
    failed(&run(&["ring", "export", file, "--from", "yesterday"]), 2, "--from");
    failed(&run(&["ring", "export", file, "--target", "job"]), 2, "--target");
    failed(&run(&["ring", "format", file]), 1, "add --force");
    failed(
        &run(&["ring", "format", "/dev/null"]),
        1,
        "neither a file nor a block device nor an MTD",
    );
    failed(
        &run(&["ring", "format", file, "--force", "--size", "100KiB"]),
        1,
        "3 to 4,096 segments",
    );
    failed(
        &run(&["ring", "format", file, "--force", "--label", &"x".repeat(33)]),
        2,
        "limit is 32",
    );
    assert_eq!(std::fs::read(&path).expect("there"), vec![7; 100_000]);
}
