//! The demo's picture: one line that is redrawn on a terminal, one line a second elsewhere.

use super::stage::Stage;
use super::{FRAME_MS, Outcome};
use crate::host::app::shared::SharedRef;
use crate::host::app::sleep;
use crate::host::runtime::now;
use alloc::string::String;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

/// Characters of the ring's gauge.
const GAUGE: usize = 24;

/// Draws.
pub struct Display {
    terminal: bool,
    /// Most samples that have waited so far: the full gauge.
    most: u64,
}

impl Display {
    /// For standard output, whatever that is.
    pub fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            most: 1,
        }
    }

    /// What is going to happen.
    pub fn intro(&self, ring: &Path) {
        std::println!("tidegate demo: 3 targets with 350 series, scraped every 0.5 s, drained by remote write.");
        std::println!("The uplink is cut for 20 s and restored. Ring: {}\n", ring.display());
    }

    /// Draws for `ms` milliseconds.
    pub async fn watch(&mut self, phase: &str, meaning: &str, ms: u64, shared: &SharedRef, stage: &Stage<'_>) {
        std::println!("{phase}: {meaning}");
        let end = now() + ms;
        let every = if self.terminal { FRAME_MS } else { 1_000 };
        while now() < end {
            sleep((now() + every).min(end)).await;
            self.draw(shared, stage);
        }
        if self.terminal {
            std::println!();
        }
    }

    fn draw(&mut self, shared: &SharedRef, stage: &Stage<'_>) {
        let stats = shared.agent.borrow().ring().stats();
        let waiting = stats.backlog_samples + stats.staged_samples;
        self.most = self.most.max(waiting);
        let filled = usize::try_from(waiting * GAUGE as u64 / self.most.max(20_000))
            .unwrap_or(GAUGE)
            .min(GAUGE);
        let mut gauge = String::new();
        for place in 0..GAUGE {
            gauge.push(if place < filled { '#' } else { '.' });
        }
        let (start, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        std::print!(
            "{start}  waiting [{gauge}] {waiting:>6} samples ({:>6} on flash)   scraped {:>6}   delivered {:>6}{end}",
            stats.backlog_samples,
            stage.scraped(),
            stage.tally().delivered
        );
        // A terminal that is gone does not end the demo.
        let _ = std::io::stdout().flush();
    }

    /// What came of it.
    pub fn summary(&self, outcome: &Outcome) {
        let tally = &outcome.tally;
        std::println!("\nscraped    {:>7} samples", outcome.scraped);
        std::println!("stored     {:>7} samples in the ring", outcome.stored);
        std::println!(
            "delivered  {:>7} samples, and {} of up and its kind",
            tally.delivered,
            tally.synthetic
        );
        std::println!(
            "lost       {:>7}   repeated {}   out of order {}   wrong {}",
            outcome.lost(),
            tally.repeated,
            tally.out_of_order,
            tally.wrong
        );
        if outcome.untaken() > 0 {
            std::println!(
                "too late   {:>7} samples of scrapes that this busy machine did not finish in time ({} staleness markers sent)",
                outcome.untaken(),
                tally.markers
            );
        }
        if let Some(hundredths) = (outcome.ring_bytes * 100).checked_div(outcome.written) {
            std::println!(
                "flash      {:>7} bytes for {} samples written in the outage: {}.{:02} bytes per sample, all overhead included",
                outcome.ring_bytes,
                outcome.written,
                hundredths / 100,
                hundredths % 100
            );
        }
        std::println!(
            "{}",
            if outcome.is_complete() {
                "Everything arrived."
            } else {
                "NOT everything arrived."
            }
        );
    }
}
