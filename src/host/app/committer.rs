//! Writes the ring when it wants to be written: one task, the only one that syncs.

use super::shared::SharedRef;
use super::sleep;
use crate::host::runtime::now;
use crate::wal::storage::Storage as _;
use crate::wal::{Commit, CommitError, CommitStep};

/// Commits whatever is due, for as long as the configuration is in force.
pub async fn run(shared: SharedRef) {
    let mut was_degraded = false;
    loop {
        let (stored, answered) = (shared.stored.count(), shared.answered.count());
        let next = shared.agent.borrow().next_commit(now());
        match next {
            Some((at, what)) if at <= now() => {
                let result = commit(&shared, what);
                was_degraded = report(&shared, result, was_degraded);
                shared.committed.notify();
                smol::future::yield_now().await;
            }
            // Nothing to write now: the time for an erase, which takes up to two seconds.
            _ if shared.agent.borrow().ring().erase_due() => {
                shared.agent.borrow_mut().ring_mut().erase_step();
                smol::future::yield_now().await;
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

/// One whole commit; its time is a metric, because nothing else runs meanwhile.
fn commit(shared: &SharedRef, what: Commit) -> Result<(), CommitError> {
    let start = std::time::Instant::now();
    let mut agent = shared.agent.borrow_mut();
    let result = loop {
        match agent.commit_step(what) {
            Ok(CommitStep::NeedSync) => {
                let outcome = agent.ring_mut().storage_mut().sync();
                if let Err(error) = &outcome {
                    log::warn!(error:% = error; "ring sync failed; what is not safe is written elsewhere");
                }
                agent.synced(outcome);
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
