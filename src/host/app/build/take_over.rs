//! Other targets for an agent that is running: what a reload that changes nothing else comes down to.

use super::{Plan, stuck_limit, workers};
use crate::host::app::scraper::Worker;
use crate::host::app::shared::{Live, Shared};
use crate::host::config::{Config, Origin, ScrapeConfig};
use crate::host::runtime::now;
use crate::scrape::Target;
use crate::wal::CommitError;
use alloc::rc::Rc;
use alloc::vec::Vec;

impl Plan {
    /// Whether nothing but targets, and how they are scraped, differs from what is running: then [`Plan::take_over`] will do.
    #[must_use]
    pub fn changes_targets_only(&self, shared: &Shared) -> bool {
        let live = shared.live();
        let (old, new) = (&live.config, &self.config);
        let mut own = new.tidegate.clone();
        own.memory.max_concurrent_scrapes = old.tidegate.memory.max_concurrent_scrapes;
        own == old.tidegate
            && new.remote_write == old.remote_write
            && new.global.external_labels == old.global.external_labels
            && new.global.metric_name_validation_scheme == old.global.metric_name_validation_scheme
            && shared.sizes.hold(&self.sizes)
    }

    /// Puts the plan's targets in the place of those that are running, none of which may be in the hands of a worker. Returns new
    /// workers. Targets that stay keep everything, and their connection if their job is the same.
    ///
    /// # Errors
    /// The ring cannot be written; everything is as it was.
    pub fn take_over(self, shared: &Shared) -> Result<Vec<Worker>, CommitError> {
        let old = shared.live();
        let wanted = self.core_targets.into_vec().into_iter().zip(self.phase_keys).collect();
        let references = shared.agent.borrow_mut().retarget(wanted, now())?;
        let mut scrapers = self.scrapers;
        for ((scraper, spec), reference) in scrapers.iter_mut().zip(&self.targets.active).zip(&references) {
            let before = old.position(*reference).filter(|&at| {
                let was = &old.targets.active[at];
                let job = |config: &Config, job: usize| config.scrape_configs.get(job).map(without_origin);
                was.url() == spec.url()
                    && (&was.unix_socket, was.timeout, &was.limit_error)
                        == (&spec.unix_socket, spec.timeout, &spec.limit_error)
                    && job(&old.config, was.job) == job(&self.config, spec.job)
            });
            if let Some(kept) = before.and_then(|at| old.scrapers.get(at)) {
                *scraper = kept.clone();
            }
        }
        let live = Live {
            config: self.config,
            targets: self.targets,
            scrapers,
            references,
        };
        *shared.live.borrow_mut() = Rc::new(live);
        shared.stuck_limit.set(stuck_limit(self.sizes.concurrent_scrapes));
        shared.stuck.set(0);
        Ok(workers(&shared.sizes, self.sizes.concurrent_scrapes))
    }

    /// Labels of its targets, as the agent knows them.
    pub fn bodies(&self) -> impl Iterator<Item = &str> + Clone {
        self.core_targets.iter().map(Target::body)
    }
}

/// A job without the place it was written in.
fn without_origin(job: &ScrapeConfig) -> ScrapeConfig {
    ScrapeConfig {
        origin: Origin::default(),
        ..job.clone()
    }
}
