//! Results of a run as a table for people, kept in `tests/testdata/simulation/` and compared.
//!
//! `TIDEGATE_GOLDEN=write cargo test --test simulation` writes them anew.

use super::World;
use std::fmt::Write as _;
use std::path::Path;
use tidegate::wal::Reason;

/// Compares the run with what is on record as `name`.
pub fn compare(name: &str, world: &World) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/testdata/simulation/{name}.txt"));
    let table = render(name, world);
    if std::env::var("TIDEGATE_GOLDEN").as_deref() == Ok("write") {
        std::fs::write(&path, table).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    assert_eq!(
        table, kept,
        "{name} went otherwise; TIDEGATE_GOLDEN=write if that is right"
    );
}

fn render(name: &str, world: &World) -> String {
    let mut text = String::new();
    let mut row = |label: &str, value: u64| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{label:<40}{value:>10}");
    };
    let frames = &world.ledger.frames;
    row("scrapes", frames.len() as u64);
    row("samples scraped", frames.iter().map(|frame| frame.samples).sum());
    row(
        "with markers and synthetic series",
        frames.iter().map(|frame| frame.items.len() as u64).sum(),
    );
    row("blocks written", world.blocks_written);
    row("commits", world.commits);
    for reason in Reason::ALL {
        let loss = world.ring_loss(reason);
        if loss.frames + loss.samples > 0 {
            row(&format!("lost by the ring, {}: scrapes", reason.as_str()), loss.frames);
            row(&format!("lost by the ring, {}: samples", reason.as_str()), loss.samples);
        }
    }
    for (remote, receiver) in world.receivers.iter().enumerate() {
        let (verdict, counts) = (world.judge(remote), world.counts(remote));
        row(&format!("remote {remote}: requests"), receiver.requests);
        row(&format!("remote {remote}: delivered"), verdict.delivered);
        let rare = [
            ("repeated", verdict.repeated),
            ("refused", verdict.refused),
            ("refused, as counted", counts.failed),
            ("refused in doubt, as counted", counts.in_doubt),
            ("too old, as counted", counts.too_old),
            ("never arrived", verdict.lost),
            ("never arrived: scrapes", verdict.lost_frames),
            ("not committed when the power went", verdict.cut),
        ];
        for (what, value) in rare.into_iter().filter(|&(_, value)| value > 0) {
            row(&format!("remote {remote}: {what}"), value);
        }
    }
    format!("{name}\n\n{text}")
}
