//! Watches the files of `file_sd_configs` and brings their targets in without a reload.
//!
//! Names, sizes and times of change are looked at every few seconds, which costs one `stat` per file; the files are read again
//! when something moved, and every `refresh_interval` in any case. Targets that stay are not disturbed. A file that cannot be
//! read keeps its last targets and is counted; more targets than there is room for change nothing.
//!
//! Limits: [`crate::host::config::MAX_MATCHES`] files per pattern, each as large as a configuration at most. Reading allocates
//! as loading a configuration does, and frees it.

use super::build::Plan;
use super::clients::Factory;
use super::shared::Shared;
use super::sleep;
use crate::host::config::Config;
use crate::host::heap::{self, Operation};
use crate::host::runtime::now;
use alloc::boxed::Box;
use core::cell::Cell;
use core::convert::Infallible;

/// How often files are looked at, milliseconds, where no `refresh_interval` is shorter. Prometheus hears of changes from the
/// kernel; a few seconds more are soon enough for a list of targets, and need no descriptor per directory.
const LOOK_MS: u64 = 5_000;

/// What became of the files.
#[derive(Debug, Default)]
pub struct FileSdStats {
    /// Files that could not be read.
    pub read_errors: Cell<u64>,
}

/// Calls `changed` with a plan each time the files say other targets.
pub async fn watch(shared: &Shared, factory: &Factory, changed: impl Fn(Box<Plan>)) -> Infallible {
    let live = shared.live();
    let intervals = || live.config.scrape_configs.iter().flat_map(|job| &job.file_sd_configs);
    let Some(refresh_ms) = intervals().map(|sd| sd.refresh_interval.ms).min() else {
        return core::future::pending().await;
    };
    let mut seen = live.targets.files_stamp;
    let mut read_at = now();
    loop {
        sleep(now() + refresh_ms.min(LOOK_MS)).await;
        let stamp = live.config.file_stamp();
        if stamp == seen && now().since(read_at) < refresh_ms {
            continue;
        }
        (seen, read_at) = (stamp, now());
        match heap::within(Operation::Reload, 0, || read(shared, &live.config, factory)) {
            Ok(plan) => plan.into_iter().for_each(&changed),
            Err(full) => log::error!(error:% = full; "targets of file_sd_configs not taken; those in force stay"),
        }
    }
}

/// Reads the files; a plan, if their targets are others than those in force.
fn read(shared: &Shared, config: &Config, factory: &Factory) -> Option<Box<Plan>> {
    let live = shared.live();
    let refused = |error: &dyn core::fmt::Display| {
        log::error!(error:% = error; "targets of file_sd_configs not taken; those in force stay");
    };
    let targets = match config.expand_after(&live.targets.files) {
        Ok(targets) => targets,
        Err(error) => {
            refused(&error);
            return None;
        }
    };
    for file in &targets.broken_files {
        log::warn!("{file}; its last targets stay");
    }
    let errors = targets.broken_files.len() as u64;
    shared
        .file_sd
        .read_errors
        .set(shared.file_sd.read_errors.get() + errors);
    if (&targets.active, &targets.dropped) == (&live.targets.active, &live.targets.dropped) {
        return None;
    }
    match Plan::with_targets(config.clone(), targets, factory) {
        Ok(plan) => Some(Box::new(plan)),
        Err(error) => {
            refused(&error);
            None
        }
    }
}
