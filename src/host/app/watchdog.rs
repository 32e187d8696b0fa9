//! Feeds the service manager's watchdog while the agent makes progress, and only then.
//!
//! Progress means that scrapes end, or are not long overdue, and that this task gets its turn. Dead targets that keep all
//! workers waiting are no reason for a restart: their scrapes end. A loop that hangs in a commit,
//! a scrape or a bug stops feeding, and the manager restarts the agent; the ring loses nothing by that.

use super::shared::SharedRef;
use super::sleep;
use crate::host::runtime::now;
use crate::host::systemd::Notify;
use core::convert::Infallible;
use core::fmt::Write as _;

/// A scrape this much later than due says that nothing moves any more, milliseconds.
const OVERDUE_MS: u64 = 60_000;

/// How often the status line is renewed without a watchdog, milliseconds.
const STATUS_MS: u64 = 30_000;

/// Feeds it for as long as the configuration is in force.
pub async fn run(shared: &SharedRef, notify: &Notify) -> Infallible {
    let interval = notify.watchdog_interval_ms().unwrap_or(STATUS_MS);
    let mut progress = (shared.stored.count(), now());
    loop {
        sleep(now() + interval).await;
        if shared.stored.count() != progress.0 {
            progress = (shared.stored.count(), now());
        }
        let live = shared.live();
        let timeouts = live.scrapers.iter().map(|scraper| scraper.timeout_ms);
        let patience = OVERDUE_MS.max(timeouts.max().unwrap_or(0) + OVERDUE_MS / 2);
        let overdue = shared.agent.borrow().next_scrape().map_or(0, |due| now().since(due));
        if overdue < OVERDUE_MS || now().since(progress.1) < patience {
            let mut state = heapless::String::<200>::new();
            let stats = shared.agent.borrow().ring().stats();
            let failing = shared.remotes.iter().filter(|remote| remote.failing.get()).count();
            // Cut where it is too long: the manager shows what there is.
            let _ = write!(
                state,
                "WATCHDOG=1\nSTATUS={} targets, {} of {} receivers failing, {} samples waiting on the ring",
                live.scrapers.len(),
                failing,
                shared.remotes.len(),
                stats.backlog_samples
            );
            notify.send(&state);
        } else {
            log::error!(overdue_ms = overdue; "scrapes are overdue: the watchdog is not fed");
        }
    }
}
