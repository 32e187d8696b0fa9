//! Writes the ring when it wants to be written: one task, the only one that syncs.

use super::shared::SharedRef;
use super::sleep;
use crate::host::medium::{MediumError, SyncLater};
use crate::host::runtime::{now, yield_turn};
use crate::wal::storage::Storage as _;
use crate::wal::{Commit, CommitError, CommitStep};

/// Commits whatever is due, for as long as the configuration is in force.
pub async fn run(shared: SharedRef) {
    let mut was_degraded = false;
    // With `commit_interval: 0s` the operator wants each scrape safe before the next: then nothing is to be scraped while a sync is
    // under way, since a crash would cost it.
    let every_scrape = shared.live().config.tidegate.ring.commit_interval.ms == 0;
    let later = if every_scrape {
        None
    } else {
        shared.agent.borrow().ring().storage().sync_later()
    };
    loop {
        let (stored, answered) = (shared.stored.count(), shared.answered.count());
        let next = shared.agent.borrow().next_commit(now());
        match next {
            Some((at, what)) if at <= now() => {
                let result = commit(&shared, later.as_deref(), what).await;
                was_degraded = report(&shared, result, was_degraded);
                shared.committed.notify();
                yield_turn().await;
            }
            // Nothing to write now: the time for an erase, which takes up to two seconds.
            _ if shared.agent.borrow().ring().erase_due() => {
                shared.agent.borrow_mut().ring_mut().erase_step();
                yield_turn().await;
            }
            Some((at, _)) => {
                let changed = smol::future::or(shared.stored.after(stored), shared.answered.after(answered));
                smol::future::or(changed, sleep(at)).await;
            }
            None => {
                smol::future::or(shared.stored.after(stored), shared.answered.after(answered)).await;
            }
        }
    }
}

/// One whole commit. Its syncs are waited for while others run, where the kernel can do that; else nothing else runs meanwhile, and
/// a scrape that is due gets its turn first.
async fn commit(shared: &SharedRef, later: Option<&SyncLater>, what: Commit) -> Result<(), CommitError> {
    let start = std::time::Instant::now();
    let result = loop {
        let step = shared.agent.borrow_mut().commit_step(what);
        match step {
            Ok(CommitStep::NeedSync) => {
                let outcome = sync(shared, later).await;
                if let Err(error) = &outcome {
                    log::warn!(error:% = error; "ring sync failed; what is not safe is written elsewhere");
                }
                shared.agent.borrow_mut().synced(outcome);
            }
            Ok(CommitStep::Done) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let stats = &shared.commits;
    stats.total_us.set(stats.total_us.get().saturating_add(took));
    stats.longest_us.set(stats.longest_us.get().max(took));
    result
}

async fn sync(shared: &SharedRef, later: Option<&SyncLater>) -> Result<(), MediumError> {
    if let Some(later) = later
        && let Some(result) = later.sync().await
    {
        return result.map_err(MediumError::from);
    }
    yield_turn().await;
    shared.agent.borrow_mut().ring_mut().storage_mut().sync()
}

/// Logs a change of the medium's health once.
fn report(shared: &SharedRef, result: Result<(), CommitError>, was_degraded: bool) -> bool {
    let degraded = shared.agent.borrow().ring().stats().degraded;
    if let Err(error) = result {
        shared.commits.failed.set(shared.commits.failed.get() + 1);
        log::debug!(error:% = error; "commit came to nothing");
    }
    match (was_degraded, degraded) {
        (false, true) => {
            log::error!("storage takes no writes: samples are kept in memory only until it recovers");
        }
        (true, false) => log::info!("storage takes writes again"),
        _ => {}
    }
    degraded
}
