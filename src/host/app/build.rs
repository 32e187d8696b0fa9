//! From configuration to a running agent: the only place that allocates what the plan lists.
//!
//! Everything that can be wrong with a configuration is found here, before anything is started or changed: the
//! targets, their relabelling, every HTTP client. The ring is opened last.

mod take_over;

use super::clients::{ClientError, Factory};
use super::drainer::Drain;
use super::file_sd::FileSdStats;
use super::pools::Pools;
use super::scraper::Worker;
use super::shared::{CommitStats, Live, RemoteClient, ScrapeClient, Shared, SharedRef};
use crate::agent::{Agent, Parts};
use crate::catalogue::Catalogue;
use crate::clock::UnixMillis;
use crate::exposition::{DEFAULT_PROTOCOLS, EscapingScheme, Histograms, Protocol, Resolution};
use crate::hash::crc32c;
use crate::host::config::{
    self, Config, ConfigError, MemoryPlan, ScrapeConfig, Sizes, TargetFile, TargetSpec, Targets,
};
use crate::host::event::Event;
use crate::host::http::{Buffers, TokenSource};
use crate::host::medium::{Kind, Medium, Naming, OpenError, Shape};
use crate::host::regex::compile_rules;
use crate::host::runtime::{boot_id, now, unix_now};
use crate::host::snappy::{Dictionaries, Snappy, output_bytes};
use crate::host::status::Lifecycle;
use crate::host::tls::TlsClient;
use crate::labels::{Label, NameScheme};
use crate::metadata::Metadata;
use crate::relabel::Relabel;
use crate::remote_write::batch::UnknownTime;
use crate::remote_write::identity::Identity;
use crate::remote_write::response::Protocol as WriteProtocol;
use crate::remote_write::sender::{MessageChoice, MetadataConfig, Sender, SenderConfig};
use crate::sample::TargetRef;
use crate::scrape::schedule::{host_seed, phase_key};
use crate::scrape::{LabelBuilder, Limits, Reports, Schedule, ScrapeError, Session, Target};
use crate::series::SeriesTable;
use crate::wal::{self, Boot, MountError, MountReport, RemoteConfig, Ring, RingConfig};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use std::io;
use std::path::Path;

/// Why an agent cannot be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration file is wrong.
    Config(ConfigError),
    /// A target or remote of the configuration cannot be used.
    Client {
        /// Which one.
        what: String,
        /// Why.
        error: ClientError,
    },
    /// A target's labels cannot be kept.
    Target {
        /// Its URL.
        url: String,
        /// Why.
        error: Box<ScrapeError>,
    },
    /// A relabelling rule cannot be compiled.
    Rule {
        /// Job or remote.
        owner: String,
        /// Which rule, and why.
        problem: String,
    },
    /// The plan does not fit the limit.
    Memory {
        /// Bytes planned.
        planned: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The ring cannot work as configured, whatever is on the medium: the field of the ring's settings.
    Ring(&'static str),
    /// The ring's file cannot be opened or made.
    Open(OpenError),
    /// There is something else in it, or another ring.
    Mount {
        /// `tidegate.ring.path`.
        path: String,
        /// Why.
        error: MountError,
    },
    /// The system does not give what it must.
    System(&'static str, io::Error),
}

impl BuildError {
    /// Whether the operator's file is to blame rather than the machine.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Client { .. }
                | Self::Target { .. }
                | Self::Rule { .. }
                | Self::Memory { .. }
                | Self::Ring(_)
        )
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Client { what, error } => write!(f, "{what}: {error}"),
            Self::Target { url, error } => write!(f, "target {url}: {error}"),
            Self::Rule { owner, problem } => write!(f, "{owner}: {problem}"),
            Self::Memory { planned, limit } => write!(
                f,
                "tidegate.memory.limit is {limit} bytes, the plan needs {planned}: raise it, or lower what \
                 'tidegate check' lists"
            ),
            Self::Ring("remotes") => f.write_str("remote_write: no receiver, at least one is needed"),
            Self::Ring("segment_bytes") => f.write_str(
                "tidegate.ring.segment_size: a segment must hold the names of all series: raise it, or lower \
                 tidegate.memory.max_series",
            ),
            Self::Ring(field) => write!(f, "tidegate.ring: {field} is out of range"),
            Self::Open(error) => error.fmt(f),
            Self::Mount { path, error } => mount_text(f, path, error),
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

/// What is wrong with the ring at `path`, and what to do about it.
fn mount_text(f: &mut fmt::Formatter<'_>, path: &str, error: &MountError) -> fmt::Result {
    match error {
        MountError::NotFormatted => write!(
            f,
            "{path} holds no ring: if it is a file, move it away and a new one is made; if it is a device, run 'tidegate ring \
             format {path}'"
        )?,
        MountError::Geometry { found, .. } => write!(
            f,
            "ring {path} has segments of {} bytes in blocks of {}: restore tidegate.ring.segment_size and block_size, or \
             move the file away after its backlog has been delivered",
            found.segment_bytes(),
            found.block_bytes
        )?,
        error => write!(f, "ring {path}: {error}")?,
    }
    f.write_str("; nothing was changed")
}

impl core::error::Error for BuildError {}

impl From<ConfigError> for BuildError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<OpenError> for BuildError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

/// A configuration, checked and turned into everything but the ring.
pub struct Plan {
    /// The configuration.
    pub config: Config,
    /// Its targets.
    pub targets: Targets,
    /// Bytes and counts of every pool.
    pub sizes: Sizes,
    /// The memory plan, line by line.
    pub memory: MemoryPlan,
    core_targets: Box<[Target]>,
    phase_keys: Box<[u64]>,
    scrapers: Vec<Rc<ScrapeClient>>,
    remotes: Vec<RemoteClient>,
}

/// What targets of a job share: TLS and tokens.
type Access = (Rc<TlsClient>, Option<Rc<TokenSource>>);

/// What a started agent consists of.
pub struct Running {
    /// What the tasks share.
    pub shared: SharedRef,
    /// One for each scrape worker.
    pub workers: Vec<Worker>,
    /// One for each remote.
    pub drains: Vec<Drain>,
    /// What the mount found.
    pub report: MountReport,
    /// The ring's file was made just now.
    pub created: bool,
}

fn protocols_of(job: &ScrapeConfig) -> Box<[Protocol]> {
    if job.scrape_protocols.is_empty() {
        return DEFAULT_PROTOCOLS.into();
    }
    job.scrape_protocols.clone().into()
}

fn escaping_of(job: &ScrapeConfig) -> EscapingScheme {
    job.metric_name_escaping_scheme.unwrap_or_default()
}

/// The core's view of a target.
fn core_target(number: usize, job: &ScrapeConfig, spec: &TargetSpec, config: &Config) -> Result<Target, BuildError> {
    let labels: Vec<Label<'_>> = spec.labels.iter().map(|(name, value)| Label { name, value }).collect();
    // At most `MAX_TARGETS` targets: the number fits a byte.
    let reference = TargetRef(number as u8);
    let mut target = Target::new(reference, &labels).map_err(|error| BuildError::Target {
        url: spec.url(),
        error: Box::new(error),
    })?;
    let clamp = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
    target.job = spec.job as u16;
    target.interval_ms = clamp(spec.interval.ms);
    target.timeout_ms = clamp(spec.timeout.ms);
    target.honor_labels = job.honor_labels;
    target.honor_timestamps = job.honor_timestamps;
    target.track_timestamps_staleness = job.track_timestamps_staleness;
    target.limits = Limits {
        body_bytes: job.body_size_limit.bytes,
        samples: job.sample_limit,
        labels: job.label_limit,
        name_bytes: job.label_name_length_limit,
        value_bytes: job.label_value_length_limit,
    };
    target.meaning = meaning(job);
    target.extra_metrics = job.extra_scrape_metrics.unwrap_or_default();
    target.names = job.metric_name_validation_scheme.unwrap_or_default();
    target.protocols = protocols_of(job);
    target.escaping = escaping_of(job);
    target.fallback = job.fallback_scrape_protocol.map(Protocol::format);
    target.histograms = Histograms {
        native: spec.native_histograms,
        classic_too: spec.classic_too,
    };
    target.convert_classic = spec.convert_classic;
    target.start_times = config.tidegate.start_timestamps;
    target.out_of_order_ms = i64::try_from(config.storage.tsdb.out_of_order_time_window.ms).unwrap_or(i64::MAX);
    target.resolution = Resolution {
        max_schema: job.native_histogram_min_bucket_factor.max_schema(),
        bucket_limit: job.native_histogram_bucket_limit,
    };
    target.metric_relabel = rules(&job.metric_relabel_configs, target.names, &job.job_name)?;
    Ok(target)
}

/// Compiles rules that the loader has compiled before, without a fault.
fn rules(configs: &[config::RelabelConfig], names: NameScheme, owner: &str) -> Result<Relabel, BuildError> {
    compile_rules(configs, names).map_err(|(number, error)| BuildError::Rule {
        owner: owner.into(),
        problem: format!("rule {number}: {error}"),
    })
}

/// What makes the same host scrape at the same phases after a restart, and other hosts at others.
fn seed_of_host(config: &Config) -> u64 {
    let name = rustix::system::uname();
    let mut labels = String::new();
    for (name, value) in config.global.external_labels.iter() {
        labels.push_str(name);
        labels.push('=');
        labels.push_str(value);
        labels.push(',');
    }
    host_seed(&name.nodename().to_string_lossy(), &labels)
}

impl Plan {
    /// Checks `config` and prepares everything that can be prepared without touching the ring.
    ///
    /// # Errors
    /// Whatever is wrong with the configuration.
    pub fn new(config: Config, factory: &Factory) -> Result<Self, BuildError> {
        Self::after(config, &[], factory)
    }

    /// As [`Plan::new`]; a file of targets that cannot be read has the content it had in `previous`.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn after(config: Config, previous: &[TargetFile], factory: &Factory) -> Result<Self, BuildError> {
        let targets = config.expand_after(previous)?;
        Self::with_targets(config, targets, factory)
    }

    /// As [`Plan::new`], for targets that `config` has been expanded to.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with_targets(config: Config, targets: Targets, factory: &Factory) -> Result<Self, BuildError> {
        let seed = seed_of_host(&config);
        let mut core_targets = Vec::new();
        let mut phase_keys = Vec::new();
        let mut scrapers = Vec::new();
        // One for all targets of a job: they share certificates, sessions and tokens.
        let mut of_last_job: Option<(usize, Access)> = None;
        for (number, spec) in targets.active.iter().enumerate() {
            let Some(job) = config.scrape_configs.get(spec.job) else {
                continue;
            };
            let of_job = targets.active.iter().filter(|other| other.job == spec.job).count();
            core_targets.push(core_target(number, job, spec, &config)?);
            phase_keys.push(phase_key(&spec.body, &spec.url(), seed));
            let access = match &of_last_job {
                Some((owner, access)) if *owner == spec.job => access.clone(),
                _ => {
                    let tls = factory.tls(&job.http_client(), &job.job_name, spec.scheme == config::Scheme::Https);
                    let tokens = factory.tokens(&job.http_client()).map_err(|error| BuildError::Client {
                        what: format!("oauth2 of job {}", job.job_name),
                        error,
                    })?;
                    (tls, tokens)
                }
            };
            of_last_job = Some((spec.job, access.clone()));
            let client = factory.scraper(job, spec, access, (&protocols_of(job), escaping_of(job)), of_job);
            let client = client.map_err(|error| BuildError::Client {
                what: format!("target {}", spec.url()),
                error,
            })?;
            scrapers.push(Rc::new(client));
        }
        let mut remotes = Vec::new();
        for remote in &config.remote_write {
            let client = factory.remote(remote);
            let what = || format!("remote_write {}", remote.name);
            remotes.push(client.map_err(|error| BuildError::Client { what: what(), error })?);
        }
        let sizes = Sizes::of(&config, &targets);
        let memory = config.plan(&targets);
        if !memory.fits() {
            return Err(BuildError::Memory {
                planned: memory.total,
                limit: memory.limit,
            });
        }
        let plan = Self {
            config,
            targets,
            sizes,
            memory,
            core_targets: core_targets.into(),
            phase_keys: phase_keys.into(),
            scrapers,
            remotes,
        };
        plan.check_ring()?;
        Ok(plan)
    }

    /// What would keep the ring from being mounted is found before the old one is given up.
    fn check_ring(&self) -> Result<(), BuildError> {
        let settings = self.ring_config();
        // What is there decides where slots begin (4 MiB into a block device) and how many blocks a segment has; what cannot be
        // looked at is said when it is opened.
        let kind = Kind::of(Path::new(&self.config.tidegate.ring.path)).unwrap_or(Kind::File);
        let Some(geometry) = settings.geometry_behind(kind.first_offset(), kind.writing()) else {
            return Err(BuildError::Ring("size"));
        };
        match wal::check_config(&settings, &geometry) {
            Err(MountError::Config(field)) => Err(BuildError::Ring(field)),
            _ => Ok(()),
        }
    }

    /// Opens the ring, makes it if there is none, and joins everything.
    ///
    /// `clock` is wall time as far as it is to be believed, its source, and how wrong it may be; `lifecycle` what is known of reloads.
    ///
    /// # Errors
    /// The ring cannot be used. Nothing was changed then, unless the file was missing.
    // In a frame of its own: the parts are moved about in it, and the loop's frame would have to have room for them at every turn.
    #[inline(never)]
    pub fn start(
        self,
        clock: Option<(UnixMillis, wal::ClockSource, u32)>,
        lifecycle: Rc<Lifecycle>,
    ) -> Result<Running, BuildError> {
        let (medium, created) = self.open_medium()?;
        let seed = u64::from_le_bytes(random()?);
        let sizes = &self.sizes;
        let mut catalogue = Catalogue::seeded(sizes.max_series, sizes.text_bytes, sizes.max_targets, seed);
        let boot = boot(clock)?;
        let (mut ring, report) =
            Ring::mount(medium, self.ring_config(), boot, &mut catalogue).map_err(|error| self.mount_error(error))?;
        let clock_rules = &self.config.tidegate.clock;
        ring.set_unknown_boot(match clock_rules.unknown_boot {
            config::UnknownBoot::Hold => wal::UnknownBoot::Hold,
            config::UnknownBoot::Anchor => wal::UnknownBoot::Anchor,
            config::UnknownBoot::Drop => wal::UnknownBoot::Drop,
        });
        let max_skew_ms = clock_rules.max_skew.ms;
        for target in &self.core_targets {
            // The catalogue was made for these very targets.
            let _ = catalogue.set_target(target.reference, target.body());
        }
        let external: Vec<(&str, &str)> = self
            .config
            .global
            .external_labels
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let mut senders = Vec::new();
        let mut drains = Vec::new();
        for (number, remote) in self.config.remote_write.iter().enumerate() {
            let settings = self.sender_config(remote, seed.wrapping_add(number as u64));
            let identity = Identity::new(
                &external,
                rules(
                    &remote.write_relabel_configs,
                    self.config.global.metric_name_validation_scheme,
                    &remote.name,
                )?,
            );
            let (first, replay) = (ring.acknowledged(number), ring.replay_until());
            let mut sender = Sender::new(settings, identity, first, replay);
            sender.set_max_clock_skew(max_skew_ms);
            senders.push(sender);
            drains.push(Drain {
                remote: number,
                buffers: Buffers::new(false),
                snappy: Snappy::new(),
                packed: alloc::vec![0; output_bytes(settings.limits.body_bytes)].into(),
            });
        }
        let workers = workers(sizes, sizes.concurrent_scrapes);
        let references = self.core_targets.iter().map(|target| target.reference).collect();
        let table = SeriesTable::new(sizes.max_series, sizes.max_texts, sizes.max_targets, seed);
        let parts = Parts {
            targets: self.core_targets,
            phase_keys: self.phase_keys,
            schedule: Schedule::new(sizes.max_targets),
            table: if sizes.exemplars { table.with_exemplars() } else { table },
            catalogue,
            builder: LabelBuilder::new(),
            reports: Reports::new(sizes.max_targets),
            metadata: Metadata::seeded(sizes.metadata_bytes, sizes.metadata_families, seed),
            ring,
            senders,
        };
        let shared = Rc::new(Shared {
            agent: RefCell::new(Agent::new(parts, now())),
            live: RefCell::new(Rc::new(Live {
                config: self.config,
                targets: self.targets,
                scrapers: self.scrapers,
                references,
            })),
            sizes: self.sizes,
            pools: Pools::new(&self.memory),
            file_sd: FileSdStats::default(),
            lifecycle,
            remotes: self.remotes,
            newest_ms: Cell::new(0),
            stored: Event::new(),
            committed: Event::new(),
            answered: Event::new(),
            commits: CommitStats::default(),
            stuck: Cell::new(0),
            stuck_limit: Cell::new(stuck_limit(sizes.concurrent_scrapes)),
            stopping: Cell::new(false),
        });
        Ok(Running {
            shared,
            workers,
            drains,
            report,
            created,
        })
    }

    fn mount_error(&self, error: MountError) -> BuildError {
        BuildError::Mount {
            path: self.config.tidegate.ring.path.clone(),
            error,
        }
    }

    fn ring_config(&self) -> RingConfig {
        let ring = &self.config.tidegate.ring;
        let remotes = self.config.remote_write.iter().map(|remote| RemoteConfig {
            id: crc32c(0, remote.name.as_bytes()),
            best_effort: remote.best_effort,
        });
        // Everything that decides what a series index means: targets and the rules over their samples.
        let mut meaning = String::new();
        for spec in &self.targets.active {
            meaning.push_str(&spec.body);
            meaning.push('\n');
        }
        RingConfig {
            block_bytes: ring.block_size.bytes as u32,
            segment_bytes: ring.segment_size.bytes as u32,
            ring_bytes: ring.size.bytes,
            codec: self.sizes.codec,
            commit_interval_ms: ring.commit_interval.ms,
            staging_blocks: self.sizes.staging_blocks,
            max_series: self.sizes.max_series,
            max_frame_samples: self.sizes.frame_samples,
            extras_bytes: self.sizes.extras_bytes,
            text_bytes: self.sizes.text_bytes,
            // The configuration holds at most `MAX_REMOTES` remotes.
            remotes: remotes.collect(),
            when_full: match ring.when_full {
                config::WhenFull::DropOldest => wal::WhenFull::DropOldest,
                config::WhenFull::Stop => wal::WhenFull::Stop,
            },
            config_crc: crc32c(0, meaning.as_bytes()),
            compress: Some(Box::new(Dictionaries::new())),
        }
    }

    fn sender_config(&self, remote: &config::RemoteWrite, seed: u64) -> SenderConfig {
        let queue = &remote.queue_config;
        let uplink = &self.config.tidegate.uplink;
        SenderConfig {
            limits: self.sizes.batch_limits(remote),
            max_samples_per_send: queue.max_samples_per_send as usize,
            backlog_samples_per_send: self.sizes.backlog_samples(remote),
            flush_interval_ms: queue.batch_send_deadline.ms,
            min_backoff_ms: queue.min_backoff.ms,
            max_backoff_ms: queue.max_backoff.ms,
            connect_backoff_ms: 1_000,
            rate_limit: uplink.rate_limit.bytes,
            slow_start_ms: uplink.slow_start.ms,
            live_share: match remote.accepts_out_of_order {
                true => uplink.live_share.thousandths,
                false => 0,
            },
            max_sample_age_ms: queue.sample_age_limit.ms,
            retry_on_429: queue.retry_on_http_429,
            message: match remote.protobuf_message {
                None => MessageChoice::Negotiate,
                Some(config::ProtobufMessage::V1) => MessageChoice::Fixed(WriteProtocol::V1),
                Some(config::ProtobufMessage::V2) => MessageChoice::Fixed(WriteProtocol::V2),
            },
            // A stretched interval gathers several scrapes per series: their labels are paid once.
            group_live: queue.batch_send_deadline.ms > GROUP_FROM_MS || uplink.flush_interval.ms > GROUP_FROM_MS,
            metadata: MetadataConfig {
                send: remote.metadata_config.send,
                interval_ms: remote.metadata_config.send_interval.ms,
                max_per_send: remote.metadata_config.max_samples_per_send as usize,
            },
            unknown_time: UnknownTime::Hold,
            seed,
        }
    }

    fn open_medium(&self) -> Result<(Medium, bool), BuildError> {
        let ring = &self.config.tidegate.ring;
        let shape = Shape {
            ring_bytes: ring.size.bytes,
            segment_bytes: ring.segment_size.bytes as u32,
            block_bytes: ring.block_size.bytes as u32,
        };
        let path = Path::new(&ring.path);
        match Medium::open(path, &shape) {
            Ok(medium) => Ok((medium, false)),
            Err(OpenError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                let naming = Naming {
                    uuid: random()?,
                    created_ms: unix_now().0,
                    label: "tidegate-ring",
                };
                Ok((Medium::create(path, &shape, &naming)?, true))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// As many scrape workers, their sessions large enough for every target.
#[must_use]
pub fn workers(sizes: &Sizes, count: usize) -> Vec<Worker> {
    let worker = |_| Worker {
        session: Session::new(sizes.session()),
        buffers: Buffers::new(true),
    };
    (0..count).map(worker).collect()
}

/// As many workers may be busy with targets that hang.
fn stuck_limit(workers: usize) -> usize {
    (workers / 2).max(1)
}

/// Changes with whatever decides which series an exposed text of `job` becomes.
fn meaning(job: &ScrapeConfig) -> u32 {
    let text = format!(
        "{:?} {} {:?} {:?} {:?}",
        job.metric_relabel_configs,
        job.honor_labels,
        job.metric_name_validation_scheme,
        (
            job.label_limit,
            job.label_name_length_limit,
            job.label_value_length_limit
        ),
        (job.fallback_scrape_protocol, job.extra_scrape_metrics)
    );
    crc32c(0, text.as_bytes())
}

/// Flush intervals above this group live batches by series: shorter ones rarely hold two scrapes of one.
const GROUP_FROM_MS: u64 = 15_000;

fn boot(clock: Option<(UnixMillis, wal::ClockSource, u32)>) -> Result<Boot, BuildError> {
    let id = boot_id().map_err(|error| BuildError::System("read the kernel's boot id", error))?;
    Ok(Boot {
        id,
        now: now(),
        wall: clock.map(|(wall, source, _)| (wall, source)),
        error_ms: clock.map_or(u32::MAX, |(_, _, error_ms)| error_ms),
    })
}

fn random<const N: usize>() -> Result<[u8; N], BuildError> {
    let mut bytes = [0; N];
    crate::host::medium::fill_random(&mut bytes).map_err(|error| BuildError::System("read random bytes", error))?;
    Ok(bytes)
}
