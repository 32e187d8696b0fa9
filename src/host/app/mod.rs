//! `tidegate run`: one configuration after the other, until a signal ends it.
//!
//! ```text
//! load -> plan (everything checked) -> mount -> tasks: scrape workers, one drain per remote, committer,
//!                                                      clock, status port, watchdog
//! SIGHUP: load and plan again; only when that succeeds: if nothing but targets changes, those are exchanged; else commit,
//!         unmount, mount, go on
//! SIGTERM, SIGINT: stop scraping, flush for at most FLUSH_MS, commit what is left, exit 0
//! ```
//!
//! One OS thread. A reload that changes more than targets outlives nothing but the ring, so it cannot leave half of two
//! configurations; one that changes targets leaves ring, remotes and the targets that stay as they are.

pub mod build;
pub mod clients;
pub mod clock;
pub mod committer;
pub mod demand;
pub mod drainer;
pub mod failure_log;
pub mod file_sd;
pub mod pools;
pub mod scraper;
pub mod shared;
pub mod watchdog;

use crate::clock::Instant;
use crate::host::config::{Config, Loaded, TargetFile};
use crate::host::dns::{Resolver, ResolverOptions};
use crate::host::event::Event;
use crate::host::heap::{self, Operation};
use crate::host::net::Listener;
use crate::host::resident;
use crate::host::runtime::{self, Signal, Signals, TaskName, named, now, unix_now};
use crate::host::status::{self, Lifecycle};
use crate::host::systemd::Notify;
use crate::host::tls::{CertClock, TlsContext};
use crate::wal::{ClockSource, MountReport};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use build::{BuildError, Plan, Running};
use clients::Factory;
use core::cell::RefCell;
use core::convert::Infallible;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddr};
use shared::{Shared, SharedRef};
use smol::lock::Mutex;
use smol::{LocalExecutor, Task};
use std::io;

/// Longest time that a stop waits for the receivers, milliseconds.
pub const FLUSH_MS: u64 = 5_000;

/// Longest time that a stop or a reload waits for scrapes in progress, milliseconds: targets at the edge answer in less, and one that
/// hangs must not keep the others waiting.
pub const FINISH_MS: u64 = 1_000;

/// What `tidegate run` was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Path of the configuration file.
    pub config: String,
    /// POST /-/reload is allowed.
    pub lifecycle: bool,
}

/// Why the agent did not start, or had to end.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration, the ring or a client.
    Build(BuildError),
    /// The status port cannot be opened.
    Listen(String, io::Error),
    /// The system does not give what it must.
    System(&'static str, io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Listen(address, error) => write!(f, "listen on {address}: {error}"),
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl core::error::Error for RunError {}

impl<E: Into<BuildError>> From<E> for RunError {
    fn from(error: E) -> Self {
        Self::Build(error.into())
    }
}

/// What comes next.
enum End {
    Stop,
    /// Another configuration.
    Reload(Box<Plan>),
    /// The same with other targets, from files.
    Targets(Box<Plan>),
}

/// Runs the agent until a signal ends it.
///
/// # Errors
/// It could not start. Once it has started, only a system without signals or memory ends it.
// In a frame of its own: that of the command line, with the locals of all commands, would be touched whole and stay for as long as the agent runs.
#[inline(never)]
pub fn run(options: &Options) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(|error| RunError::System("take signals", error))?;
    let executor = LocalExecutor::new();
    runtime::run(&executor, async {
        let notify = Notify::from_env().unwrap_or_else(|error| {
            // Inherited from somewhere else, or gone: no reason not to scrape.
            log::warn!(error:% = error; "service manager not reached");
            Notify::default()
        });
        let factory = factory();
        let lifecycle = Rc::new(Lifecycle::new(options.lifecycle));
        let mut plan = load(&options.config, &factory)?;
        let listener = listen(&plan.config)?;
        loop {
            let generation = Generation {
                options,
                factory: &factory,
                notify: &notify,
                listener: listener.as_ref(),
            };
            match generation.run(&executor, plan, &mut signals, &lifecycle).await? {
                End::Stop => return Ok(()),
                End::Reload(next) | End::Targets(next) => {
                    plan = *next;
                    lifecycle.reloaded(unix_now());
                }
            }
        }
    })
}

/// What all clients share, over reloads too.
#[must_use]
pub fn factory() -> Factory {
    Factory {
        tls: TlsContext::new(CertClock::new()),
        resolver: Rc::new(Resolver::new(ResolverOptions::default())),
    }
}

/// Loads and checks a configuration; its warnings are logged.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn load(path: &str, factory: &Factory) -> Result<Plan, BuildError> {
    load_after(path, &[], factory)
}

/// As [`load`]; a file of targets that cannot be read has the content it had in `previous`.
fn load_after(path: &str, previous: &[TargetFile], factory: &Factory) -> Result<Plan, BuildError> {
    let Loaded { config, warnings } = Config::load(path)?;
    for warning in &warnings {
        log::warn!("{warning}");
    }
    let plan = Plan::after(config, previous, factory)?;
    for file in &plan.targets.broken_files {
        log::warn!("{file}");
    }
    for failed in &plan.targets.failed {
        log::warn!(job = plan.config.scrape_configs[failed.job].job_name.as_str(), error = failed.error.as_str(); "target cannot be scraped");
    }
    Ok(plan)
}

fn listen(config: &Config) -> Result<Option<Listener>, RunError> {
    let address = &config.tidegate.listen_address;
    if address.is_empty() {
        return Ok(None);
    }
    let failed = |error| RunError::Listen(address.clone(), error);
    let listener = Listener::bind(listen_address(address).map_err(failed)?).map_err(failed)?;
    log::info!(address:% = listener.address(); "status port open");
    Ok(Some(listener))
}

/// `host:port`, where the host is an address, `localhost`, or nothing for all interfaces.
fn listen_address(text: &str) -> io::Result<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let malformed = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "expected ADDRESS:PORT, localhost:PORT or :PORT",
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
    let port: u16 = port.parse().map_err(|_| malformed())?;
    match host {
        "" => Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        "localhost" => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        _ => Err(malformed()),
    }
}

/// Changes the targets. More of them are more memory: in the new plan, and so below its cap.
async fn take_over(tasks: &mut Tasks, executor: &LocalExecutor<'_>, plan: Plan) {
    let limit = plan.memory.limit;
    heap::unseal();
    tasks.take_over(executor, plan).await;
    heap::seal(limit);
}

/// One configuration at work.
struct Generation<'a> {
    options: &'a Options,
    factory: &'a Factory,
    notify: &'a Notify,
    listener: Option<&'a Listener>,
}

impl Generation<'_> {
    async fn run(
        &self,
        executor: &LocalExecutor<'_>,
        plan: Plan,
        signals: &mut Signals,
        lifecycle: &Rc<Lifecycle>,
    ) -> Result<End, RunError> {
        let (trust, limit) = (plan.config.tidegate.clock.trust, plan.memory.limit);
        heap::unseal();
        let Running {
            shared,
            workers,
            drains,
            report,
            created,
        } = plan.start(clock::read(trust, self.factory.tls.clock()), lifecycle.clone())?;
        log_mount(&shared, &report, created);
        shared.newest_ms.set(report.last_wall_ms);
        self.factory
            .tls
            .clock()
            .raise_floor(crate::clock::UnixMillis(report.last_wall_ms));
        let mut tasks = Tasks::spawn(executor, shared, workers, drains);
        let clock = executor.spawn(named(
            TaskName::Main,
            clock::run(tasks.shared.clone(), trust, self.factory.tls.clone()),
        ));
        self.notify.send("READY=1\nSTATUS=scraping");
        heap::seal(limit);
        let end = loop {
            match self.attend(&tasks.shared, signals, lifecycle).await? {
                End::Reload(plan) if plan.changes_targets_only(&tasks.shared) => {
                    self.notify.reloading();
                    take_over(&mut tasks, executor, *plan).await;
                    // Credentials are in files of their own: that nothing of a remote has changed does not say much.
                    tasks.shared.agent.borrow_mut().retry_now();
                    tasks.shared.stored.notify();
                    lifecycle.reloaded(unix_now());
                    self.notify.send("READY=1");
                }
                End::Targets(plan) if plan.changes_targets_only(&tasks.shared) => {
                    take_over(&mut tasks, executor, *plan).await;
                    log::info!(targets = tasks.shared.live().targets.active.len(); "targets of file_sd_configs changed");
                }
                end => break end,
            }
        };
        match &end {
            End::Stop => {
                self.notify.send("STOPPING=1");
                tasks.finish_scraping().await;
                tasks.flush().await;
            }
            End::Reload(plan) | End::Targets(plan) => {
                self.notify.reloading();
                tasks.finish_scraping().await;
                let mut agent = tasks.shared.agent.borrow_mut();
                agent.part_with_others(plan.bodies(), now());
            }
        }
        clock.cancel().await;
        close(&*tasks.end().await);
        Ok(end)
    }

    /// Serves the status port and the watchdog until a signal says what comes next.
    async fn attend(&self, shared: &SharedRef, signals: &mut Signals, lifecycle: &Lifecycle) -> Result<End, RunError> {
        let next = RefCell::new(None);
        let reload = || {
            self.prepare(shared, lifecycle)
                .map(|plan| *next.borrow_mut() = Some(End::Reload(plan)))
        };
        let changed = Event::new();
        let files = file_sd::watch(shared, self.factory, |plan| {
            *next.borrow_mut() = Some(End::Targets(plan));
            changed.notify();
        });
        let watchdog = smol::future::or(watchdog::run(shared, self.notify), settle());
        let serve = named(
            TaskName::Status,
            status::serve(shared, self.listener, lifecycle, &reload),
        );
        let background = smol::future::or(files, smol::future::or(watchdog, serve));
        let end = async {
            loop {
                let signal = smol::future::or(async { signals.next().await.map(Some) }, async {
                    smol::future::or(lifecycle.accepted(), changed.after(0)).await;
                    Ok(None)
                });
                match signal.await.map_err(|error| RunError::System("read signals", error))? {
                    Some(Signal::Terminate | Signal::Interrupt) => return Ok(End::Stop),
                    // Why it is refused is in the log by now.
                    Some(Signal::Hangup) => drop(reload()),
                    None => {}
                }
                if let Some(end) = next.take() {
                    return Ok(end);
                }
            }
        };
        smol::future::or(end, async { match background.await {} }).await
    }

    /// Loads and checks the configuration anew; nothing has changed if it is refused.
    fn prepare(&self, shared: &Shared, lifecycle: &Lifecycle) -> Result<Box<Plan>, String> {
        // The text, and the structs made of it: five times as much as the text (deps.md §7).
        let bytes = std::fs::metadata(&self.options.config).map_or(0, |file| file.len());
        let bytes = usize::try_from(bytes.saturating_mul(6)).unwrap_or(usize::MAX / 2);
        let loaded = heap::within(Operation::Reload, bytes, || {
            load_after(&self.options.config, &shared.live().targets.files, self.factory)
        });
        let plan = loaded
            .map_err(|full| full.to_string())
            .and_then(|plan| plan.map_err(|error| error.to_string()))
            .and_then(|plan| self.acceptable(shared, &plan).map(|()| Box::new(plan)));
        match &plan {
            Ok(_) => log::info!("configuration reloaded"),
            Err(problem) => {
                log::error!(error = problem.as_str(); "configuration not reloaded; the one in force stays");
            }
        }
        lifecycle.judged(plan.is_ok());
        plan
    }

    /// What a reload cannot change.
    fn acceptable(&self, shared: &Shared, plan: &Plan) -> Result<(), String> {
        let live = shared.live();
        let (old, new) = (&live.config.tidegate, &plan.config.tidegate);
        let shape =
            |ring: &crate::host::config::Ring| (ring.path.clone(), ring.size, ring.segment_size, ring.block_size);
        if shape(&old.ring) != shape(&new.ring) {
            return Err("tidegate.ring path and sizes change with a restart only".to_string());
        }
        if old.listen_address != new.listen_address {
            return Err("tidegate.listen_address changes with a restart only".to_string());
        }
        Ok(())
    }
}

/// The tasks that scrape, drain and commit.
pub struct Tasks {
    /// What they share.
    pub shared: SharedRef,
    scrapes: Vec<Task<()>>,
    drains: Vec<Task<()>>,
    committer: Task<()>,
}

impl Tasks {
    /// Starts them.
    #[must_use]
    pub fn spawn(
        executor: &LocalExecutor<'_>,
        shared: SharedRef,
        workers: Vec<scraper::Worker>,
        drains: Vec<drainer::Drain>,
    ) -> Self {
        let drain = |drain| executor.spawn(named(TaskName::Send, drainer::run(shared.clone(), drain)));
        Self {
            scrapes: scrape(executor, &shared, workers),
            drains: drains.into_iter().map(drain).collect(),
            committer: executor.spawn(named(TaskName::Commit, committer::run(shared.clone()))),
            shared,
        }
    }

    /// Goes on with the targets of `plan` instead of those there are. If the ring cannot be written, which it must be before, it goes on
    /// with those.
    async fn take_over(&mut self, executor: &LocalExecutor<'_>, plan: Plan) {
        self.finish_scraping().await;
        let shared = &self.shared;
        let workers = plan.take_over(shared).unwrap_or_else(|error| {
            log::error!(error:% = error; "targets not changed: the ring must take what is scraped before it can know others");
            build::workers(&shared.sizes, shared.sizes.concurrent_scrapes)
        });
        shared.stopping.set(false);
        self.scrapes = scrape(executor, shared, workers);
    }

    /// Ends scraping, after the scrapes in progress or after [`FINISH_MS`]; after a reload what is given up then is scraped again at once
    /// by the next configuration.
    pub async fn finish_scraping(&mut self) {
        self.shared.stopping.set(true);
        self.shared.stored.notify();
        let scrapes = &mut self.scrapes;
        let all = async {
            for scrape in scrapes.iter_mut() {
                scrape.await;
            }
        };
        smol::future::or(all, sleep(now() + FINISH_MS)).await;
        for scrape in self.scrapes.drain(..) {
            scrape.cancel().await;
        }
    }

    /// Sends what is in hand: until every remote has everything or has failed once, at most [`FLUSH_MS`].
    pub async fn flush(&mut self) {
        let deadline = now() + FLUSH_MS;
        self.shared.agent.borrow_mut().flush(deadline);
        self.shared.stored.notify();
        let drains = &mut self.drains;
        let all = async {
            for drain in drains.drain(..) {
                drain.await;
            }
        };
        smol::future::or(all, sleep(deadline)).await;
    }

    /// Ends them all; what they shared is left.
    pub async fn end(self) -> SharedRef {
        for task in self.scrapes.into_iter().chain(self.drains) {
            task.cancel().await;
        }
        self.committer.cancel().await;
        self.shared
    }
}

fn scrape(executor: &LocalExecutor<'_>, shared: &SharedRef, workers: Vec<scraper::Worker>) -> Vec<Task<()>> {
    let turn = Rc::new(Mutex::new(()));
    let scrape = |worker| {
        executor.spawn(named(
            TaskName::Scrape,
            scraper::run(shared.clone(), turn.clone(), worker),
        ))
    };
    workers.into_iter().map(scrape).collect()
}

fn close(shared: &Shared) {
    let mut agent = shared.agent.borrow_mut();
    match agent.close() {
        Ok(()) => {
            let stats = agent.ring().stats();
            log::info!(
                frames_kept = stats.backlog_frames, samples_kept = stats.backlog_samples;
                "stopped; what was not delivered is safe on the ring"
            );
        }
        Err(error) => log::error!(error:% = error; "stopped; what was not delivered could NOT be written"),
    }
}

fn log_mount(shared: &Shared, report: &MountReport, created: bool) {
    let live = shared.live();
    let path = live.config.tidegate.ring.path.as_str();
    if created {
        log::info!(path, slots = report.slots; "ring created");
        return;
    }
    log::info!(
        path, segments = report.segments, slots = report.slots, clean = report.clean, frames_waiting = report.backlog_frames,
        acknowledged = report.acknowledged.0, next_frame = report.next_frame.0;
        "ring mounted"
    );
    if report.damaged_blocks > 0 || report.headless_slots > 0 {
        log::warn!(
            damaged_blocks = report.damaged_blocks, headless_slots = report.headless_slots;
            "ring has damage: what could not be read is counted as lost"
        );
    }
    if report.foreign_segments > 0 {
        log::warn!(segments = report.foreign_segments; "segments of a later version are kept and not read");
    }
}

/// Waits until `at`. With no free place in the reactor's table, until every other task had its turn.
pub async fn sleep(at: Instant) {
    if runtime::sleep_until(at).await.is_err() {
        runtime::yield_turn().await;
    }
}

/// When something is over that only a start or a reload needs, milliseconds after it: loading the configuration and mounting the ring; then the
/// first scrapes, handshakes and requests, where intervals are the usual ones.
const SETTLED_MS: [u64; 2] = [5_000, 60_000];

/// Gives back the memory that they took.
async fn settle() -> Infallible {
    let start = now();
    for ms in SETTLED_MS {
        sleep(start + ms).await;
        resident::trim();
    }
    core::future::pending().await
}

/// Sources of wall time, weakest first, in words.
#[must_use]
pub const fn source_name(source: ClockSource) -> &'static str {
    match source {
        ClockSource::None => "none",
        ClockSource::Rtc => "rtc",
        ClockSource::Synchronised => "synchronised",
        ClockSource::Manual => "manual",
    }
}
