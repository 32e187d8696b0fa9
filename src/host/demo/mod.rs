//! `tidegate demo`: the whole agent against a target and a receiver of its own, the uplink cut and restored.
//!
//! Needs no network beyond loopback and no file to prepare. Three targets with 350 series are scraped twice a second;
//! after some seconds the receiver goes away and the ring fills; then it comes back and the ring drains. The receiver
//! checks every sample it gets against the formula the targets use ([`workload`]). Ends by itself, within a minute.

mod display;
pub mod ledger;
mod stage;
pub mod workload;

use crate::host::app::build::{BuildError, Plan, Running};
use crate::host::app::sleep;
use crate::host::app::{Tasks, clock, factory};
use crate::host::config::{Config, Trust};
use crate::host::logger;
use crate::host::runtime::{now, run as run_loop};
use crate::host::status::Lifecycle;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use display::Display;
use ledger::Tally;
use smol::LocalExecutor;
use stage::Stage;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Scrape interval of the demo, milliseconds.
const INTERVAL_MS: u64 = 500;

/// How long the uplink works at first, milliseconds.
const BEFORE_MS: u64 = 8_000;

/// How long it is away, milliseconds.
const OUTAGE_MS: u64 = 20_000;

/// How long scraping goes on after its return, milliseconds.
const AFTER_MS: u64 = 8_000;

/// How long the rest may take to arrive, milliseconds.
const LAST_MS: u64 = 10_000;

/// Time between two pictures, milliseconds.
const FRAME_MS: u64 = 200;

/// What the demo came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Samples the targets were asked for and gave.
    pub scraped: u64,
    /// Samples of scrapes that were over in time: what went through the ring.
    pub stored: u64,
    /// Bytes written to the ring's file.
    pub ring_bytes: u64,
    /// Samples that were written there.
    pub written: u64,
    /// What the receiver has.
    pub tally: Tally,
}

impl Outcome {
    /// Samples stored and not delivered.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.stored.saturating_sub(self.tally.delivered)
    }

    /// Samples that the targets gave and nobody took: a scrape that is not over in time fails, and is none.
    #[must_use]
    pub const fn untaken(&self) -> u64 {
        self.scraped.saturating_sub(self.stored)
    }

    /// Whether everything that was stored arrived, once, in order, with the right value.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        let tally = &self.tally;
        self.stored > 0
            && self.stored == tally.delivered
            && tally.missing <= self.untaken()
            && tally.repeated == 0
            && tally.out_of_order == 0
            && tally.wrong == 0
    }
}

/// Runs the demo; the ring is kept when `ring` says where.
#[must_use]
pub fn run(ring: Option<&str>) -> ExitCode {
    logger::init(log::LevelFilter::Error);
    let directory = std::env::temp_dir().join(alloc::format!("tidegate-demo-{}", std::process::id()));
    let path = ring.map_or_else(|| directory.join("ring"), PathBuf::from);
    let result = std::fs::create_dir_all(&directory)
        .map_err(|error| error.to_string())
        .and_then(|()| play(&path));
    // A leftover in the temporary folder harms nothing.
    let _ = std::fs::remove_dir_all(&directory);
    match result {
        Ok(outcome) if outcome.is_complete() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            std::eprintln!("tidegate demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(ring: &Path) -> Result<Outcome, String> {
    let executor = LocalExecutor::new();
    run_loop(&executor, async {
        let mut stage = Stage::open(&executor).map_err(|error: io::Error| error.to_string())?;
        let running = start(ring, &stage).map_err(|error| error.to_string())?;
        let Running {
            shared,
            workers,
            drains,
            ..
        } = running;
        let mut tasks = Tasks::spawn(&executor, shared, workers, drains);
        let mut display = Display::new();
        display.intro(ring);
        display
            .watch(
                "uplink up",
                "scraped, sent, nothing written to flash",
                BEFORE_MS,
                &tasks.shared,
                &stage,
            )
            .await;
        stage.cut().await;
        display
            .watch("uplink CUT", "the ring fills", OUTAGE_MS, &tasks.shared, &stage)
            .await;
        stage.restore().map_err(|error| error.to_string())?;
        display
            .watch(
                "uplink back",
                "the ring drains, oldest first",
                AFTER_MS,
                &tasks.shared,
                &stage,
            )
            .await;
        tasks.finish_scraping().await;
        let end = now() + LAST_MS;
        while now() < end {
            let stored = tasks.shared.agent.borrow().ring().counters().samples_appended;
            if stored <= stage.tally().delivered {
                break;
            }
            tasks.shared.agent.borrow_mut().flush(end);
            tasks.shared.stored.notify();
            sleep(now() + FRAME_MS).await;
        }
        let shared = tasks.end().await;
        let agent = shared.agent.borrow();
        let (counters, stats) = (*agent.ring().counters(), agent.ring().stats());
        let outcome = Outcome {
            scraped: stage.scraped(),
            stored: counters.samples_appended,
            ring_bytes: counters.blocks_written * shared.live().config.tidegate.ring.block_size.bytes,
            written: stats.samples_written,
            tally: stage.tally(),
        };
        display.summary(&outcome);
        Ok(outcome)
    })
}

fn start(ring: &Path, stage: &Stage<'_>) -> Result<Running, BuildError> {
    let text = alloc::format!(
        "global: {{scrape_interval: {INTERVAL_MS}ms, scrape_timeout: {INTERVAL_MS}ms}}\n\
         scrape_configs:\n{}\
         remote_write:\n- url: http://{}/api/v1/write\n  queue_config: {{batch_send_deadline: 1s}}\n\
         tidegate:\n  listen_address: ''\n  ring: {{path: '{}', size: 4MiB, segment_size: 64KiB, commit_interval: 2s}}\n  \
         clock: {{trust: always}}\n",
        (0..workload::TARGETS)
            .map(|target| alloc::format!(
                "- job_name: demo{target}\n  metrics_path: /metrics/{target}\n  static_configs: [{{targets: ['{}']}}]\n",
                stage.target_address()
            ))
            .collect::<String>(),
        stage.receiver_address(),
        ring.display(),
    );
    let loaded = Config::from_text(&text, "demo")?;
    let factory = factory();
    Plan::new(loaded.config, &factory)?.start(
        clock::read(Trust::Always, factory.tls.clock()),
        Rc::new(Lifecycle::new(false)),
    )
}
