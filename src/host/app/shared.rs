//! What the tasks of one running configuration share.
//!
//! One thread, so plain cells: every borrow ends before the next `.await`.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use super::demand::Demand;
use super::file_sd::FileSdStats;
use super::pools::Pools;
use crate::agent::Agent;
use crate::clock::Instant;
use crate::host::config::{Config, Sizes, TargetSpec, Targets};
use crate::host::event::Event;
use crate::host::http::Client;
use crate::host::medium::Medium;
use crate::host::status::Lifecycle;
use crate::remote_write::response::HoldReason;
use crate::sample::TargetRef;
use smol::lock::Mutex;

/// Bytes kept of a remote's last error, for the status port.
pub const ERROR_BYTES: usize = 200;

/// A target's HTTP side.
pub struct ScrapeClient {
    /// Keeps the connection between scrapes; locked by the one worker that scrapes the target.
    pub client: Mutex<Client>,
    /// Deadline of one scrape, milliseconds.
    pub timeout_ms: u64,
    /// The job has too many targets: not scraped (targets found, limit).
    pub target_limit: Option<(usize, usize)>,
    /// Where its failures are noted, one JSON line each.
    pub failure_log: Option<std::path::PathBuf>,
    /// The target is this program itself: its metrics are taken without HTTP.
    pub built_in: bool,
}

/// What a reload of the targets replaces as a whole.
pub struct Live {
    /// The configuration in force.
    pub config: Config,
    /// Its targets.
    pub targets: Targets,
    /// HTTP side of each active target, in their order.
    pub scrapers: Vec<Rc<ScrapeClient>>,
    /// Reference of each active target, in their order.
    pub references: Vec<TargetRef>,
}

impl Live {
    /// Position of target `t` among the active ones.
    #[must_use]
    pub fn position(&self, t: TargetRef) -> Option<usize> {
        self.references.iter().position(|reference| *reference == t)
    }

    /// What the configuration says of target `t`.
    #[must_use]
    pub fn target(&self, t: TargetRef) -> Option<&TargetSpec> {
        self.targets.active.get(self.position(t)?)
    }

    /// HTTP side of target `t`.
    #[must_use]
    pub fn scraper(&self, t: TargetRef) -> Option<&Rc<ScrapeClient>> {
        self.scrapers.get(self.position(t)?)
    }

    /// Name of the job with this index.
    #[must_use]
    pub fn job_name(&self, job: usize) -> &str {
        self.config.scrape_configs.get(job).map_or("", |job| &job.job_name)
    }
}

/// A remote's HTTP side.
pub struct RemoteClient {
    /// `name` of the configuration.
    pub name: String,
    /// URL as shown: without credentials.
    pub url: String,
    /// Keeps the connection between requests; `None`: the URL's scheme is one that is not spoken.
    pub client: Option<Mutex<Client>>,
    /// Whether one sender is enough.
    pub demand: RefCell<Demand>,
    /// Requests are signed, which takes the time of day.
    pub signs: bool,
    /// Deadline of one attempt, milliseconds.
    pub timeout_ms: u64,
    /// What went wrong last; empty after a success.
    pub last_error: RefCell<heapless::String<ERROR_BYTES>>,
    /// Why data is held back, if it is.
    pub hold: Cell<Option<HoldReason>>,
    /// When a request was last accepted.
    pub last_success: Cell<Option<Instant>>,
    /// Attempts that failed since then.
    pub failures: Cell<u64>,
    /// The last attempt failed, or was refused for now: the uplink is considered down.
    pub failing: Cell<bool>,
}

/// What became of the storage's commits.
#[derive(Default)]
pub struct CommitStats {
    /// Longest commit so far, microseconds.
    pub longest_us: Cell<u64>,
    /// All commits together, microseconds.
    pub total_us: Cell<u64>,
    /// Commits that failed.
    pub failed: Cell<u64>,
}

/// Everything the tasks of one configuration share.
pub struct Shared {
    /// The agent.
    pub agent: RefCell<Agent<Medium>>,
    /// The configuration in force and its targets; see [`Shared::live`].
    pub live: RefCell<Rc<Live>>,
    /// Of the pools, which a change of targets does not change.
    pub sizes: Sizes,
    /// The memory plan and its use.
    pub pools: Pools,
    /// Files with targets.
    pub file_sd: FileSdStats,
    /// Reloads, as the agent's own metrics tell of them.
    pub lifecycle: Rc<Lifecycle>,
    /// HTTP side of each remote.
    pub remotes: Vec<RemoteClient>,
    /// Wall time of the newest frame, that of the newest one found on the ring before any; 0: there is none.
    pub newest_ms: Cell<i64>,
    /// A frame was stored.
    pub stored: Event,
    /// A commit has ended, well or not.
    pub committed: Event,
    /// A remote has answered or failed: acknowledgements may have moved.
    pub answered: Event,
    /// Commits.
    pub commits: CommitStats,
    /// Scrape workers that are busy with targets that hung the last time.
    pub stuck: Cell<usize>,
    /// As many may be, so that others are free for the rest.
    pub stuck_limit: Cell<usize>,
    /// Set once to end the scrape workers.
    pub stopping: Cell<bool>,
}

impl Shared {
    /// The configuration in force and its targets, as of now.
    #[must_use]
    pub fn live(&self) -> Rc<Live> {
        self.live.borrow().clone()
    }
}

/// As the tasks hold it.
pub type SharedRef = Rc<Shared>;
