//! The configuration file: a `prometheus.yml` with one additional key, `tidegate:`.
//!
//! [`Config::load`] reads, fills in defaults and checks; what it returns needs no further
//! validation. Every error names file, line, column and key, says what was found and what is
//! accepted. Keys that are accepted and do nothing are reported as [`Warning`]s, never silently.
//!
//! Does not: keep compiled rules, open sockets, read password or certificate files.
//!
//! Invariants of a loaded configuration:
//! - every rule compiles ([`crate::host::regex::compile_rules`]);
//! - every inherited value is filled in; relative paths are relative to the file's directory;
//! - job names and remote names are unique; every timeout is at most its interval;
//! - the ring's geometry is one that the format can hold.
//!
//! Limits: [`MAX_CONFIG_BYTES`], [`MAX_DEPTH`], [`MAX_KEYS`]; [`crate::limits`] for targets and
//! remotes. Memory: the text plus about twice its size while loading, the structs afterwards.
//!
//! Sources: prometheus.md §4.1-4.5 (keys, defaults), §1.5, §1.7, §1.8 (meaning).

mod anchors;
mod check;
mod connect;
mod dump;
mod error;
mod glob;
mod global;
mod http;
mod keys;
mod load;
mod own;
mod plan;
mod read;
mod remote;
mod resolve;
mod scrape;
mod targets;
mod url;
mod value;
mod yaml;

pub use check::{BLOCK_BYTES, BLOCKS_PER_SEGMENT, MAX_SAMPLES_PER_SEND, MAX_SEGMENTS, MIN_SEGMENTS};
pub use error::{ConfigError, Position, Warning};
pub use glob::MAX_MATCHES;
pub use global::{Global, Storage, Tsdb};
pub use http::{Authorization, BasicAuth, GrantType, HttpClient, HttpHeader, OAuth2, SigV4, TlsConfig, TlsVersion};
pub use own::{Clock, Memory, MemoryLimit, MetadataSize, Ring, Tidegate, Trust, UnknownBoot, Uplink, WhenFull};
pub use plan::{Plan as MemoryPlan, PlanLine, RingDuration, Sizes};
pub use remote::{MetadataConfig, ProtobufMessage, QueueConfig, RemoteWrite};
pub use scrape::{
    Action, DEFAULT_REGEX, DEFAULT_REPLACEMENT, DEFAULT_SEPARATOR, EscapingScheme, FileSdConfig, Origin, RelabelConfig,
    ScrapeConfig, ScrapeProtocol, StaticConfig, ValidationScheme,
};
pub use targets::{BUILT_IN, DroppedTarget, FailedTarget, Relabel, TargetFile, TargetSpec, Targets};
pub use url::{HostPort, MAX_URL_BYTES, Scheme, Url};
pub use value::{Duration, Labels, Named, SECRET_MASK, Secret, Size};
pub use yaml::{MAX_CONFIG_BYTES, MAX_DEPTH, MAX_KEYS};

use alloc::string::String;
use alloc::vec::Vec;
use read::record;

record! {
    /// The whole configuration; field names are the keys of the file.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Config {
        /// What every job inherits.
        pub global: Global,
        /// Files with further jobs; merged into `scrape_configs` by the loader.
        pub scrape_config_files: Vec<String>,
        /// Jobs.
        pub scrape_configs: Vec<ScrapeConfig>,
        /// Receivers.
        pub remote_write: Vec<RemoteWrite>,
        /// What the agent keeps of samples that are late.
        pub storage: Storage,
        /// What Prometheus has no word for.
        pub tidegate: Tidegate,
    }
}

/// A configuration that was read and checked.
#[derive(Debug)]
pub struct Loaded {
    /// With every default filled in.
    pub config: Config,
    /// Keys without effect, then likely mistakes; each in the order of the file.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Reads, completes and checks the configuration file at `path` and the files it includes.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line, column and key where there is one.
    pub fn load(path: &str) -> Result<Loaded, ConfigError> {
        load::load(path, &|name| std::env::var(name).ok())
    }

    /// As [`Config::load`] for a text in memory; `path` stands for it in messages, and its directory
    /// for relative paths.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_text(text: &str, path: &str) -> Result<Loaded, ConfigError> {
        load::from_text(text, path, &|name| std::env::var(name).ok())
    }
}
