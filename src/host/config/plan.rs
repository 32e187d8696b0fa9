//! What the configuration costs: memory before anything runs, and how long the ring lasts.
//!
//! [`Sizes`] derives the size of every pool from the configuration; whoever builds a pool takes it from there, so that the
//! plan and the process agree. [`Config::plan`] adds up what the pools cost, line by line, each with the
//! key that changes it.
//!
//! Figures come from the modules' own `ram_bytes` where there is one; the others are named constants here with their
//! source. Planned for the worst case of what the configuration allows, not for the usual one.
//!
//! Sources: deps.md §2 (TLS), §5 (heap budget), §10 (inflate, snappy); flash.md §3.2, §4.3 (bytes per sample).

use super::{Config, MemoryLimit, Scheme, Targets};
use crate::catalogue::Catalogue;
use crate::host::limits::{HTTP_RECEIVE_BYTES, HTTP_SEND_BYTES};
use crate::limits::{MAX_LINE_BYTES, MAX_SERIES, MAX_SERIES_TEXT_BYTES, MAX_TARGETS};
use crate::series::SeriesTable;
use crate::value::codec::{Codec, CodecId};
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt;

/// Bytes of names and label bodies per series, each text once. The exporters of flash.md §4.3 need 48 (node_exporter) to
/// 63 (vmagent) for whole texts; names are shared between series.
const TEXT_BYTES_PER_SERIES: usize = 64;

/// Samples of a frame: value and series, explicit time, staleness mark.
const FRAME_BYTES_PER_SAMPLE: usize = 12 + 16 + 2;

/// Codec state of one series in one coder.
const CODER_BYTES_PER_SERIES: usize = 24;

/// Bytes a sample needs in staging until it is committed: twice the usual bytes on the ring, for full values at the start of a chunk.
const STAGED_BYTES_PER_SAMPLE: usize = 2;

/// Blocks of staging: at least one each for full values, differences, the dictionary and the frame being written.
const STAGING_BLOCKS: core::ops::RangeInclusive<usize> = 4..=64;

/// Uncompressed request body per sample of a batch (flash.md §4.4: 42 before compression, 66 KB for 2,000 at most) with index.
const BATCH_BYTES_PER_SAMPLE: usize = 64;

/// Smallest request body: one series of the longest text.
const MIN_BODY_BYTES: usize = 32 * 1024;

/// snappy's table and block buffer (deps.md §10).
const SNAPPY_BYTES: usize = 34 * 1024 + 32 * 1024;

/// Receive and send buffer of one exchange.
const HTTP_BYTES: usize = HTTP_RECEIVE_BYTES + HTTP_SEND_BYTES;

/// Window and decoder of one inflater (deps.md §10).
const GUNZIP_BYTES: usize = 43_296;

/// A TLS connection that is open (deps.md §2: 8.4 to 9.7 KB, resumption 4.5 to 7 KB more).
const TLS_OPEN_BYTES: usize = 16 * 1024;

/// What a handshake with the largest certificate chain takes more: 64 KB in all.
const TLS_HANDSHAKE_BYTES: usize = 48 * 1024;

/// The system's certificate bundle, parsed (deps.md §2: 98 KB at the peak).
const TLS_ROOTS_BYTES: usize = 98 * 1024;

/// Addresses of names, one query in progress over TCP.
const DNS_BYTES: usize = 12 * 1024;

/// Executor, reactor tables, log line, signal handling.
const RUNTIME_BYTES: usize = 24 * 1024;

/// Labels, URL, schedule and connection state of a target.
const TARGET_BYTES: usize = 2 * 1024;

/// Structs of one job or remote with a few rules; twice this while a new file is loaded.
const SECTION_BYTES: usize = 4 * 1024;

/// Loading a file: its text, the scanner, and the structs made of it before the old ones go.
const RELOAD_BYTES: usize = 64 * 1024;

/// Answers of the status port.
const STATUS_BYTES: usize = 32 * 1024;

/// The share of the heap that fragmentation may keep from use: one part in this many. Pools are allocated once, so little
/// is ever freed; the arena measured in deps.md §5 lost 39 % under random load.
const SLACK_SHARE: usize = 8;

/// Sizes of the pools, derived from the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Series over all targets.
    pub max_series: usize,
    /// Exposed texts over all targets, those dropped by relabelling included.
    pub max_texts: usize,
    /// Bytes of names and label bodies in the catalogue.
    pub text_bytes: usize,
    /// Targets; all that the format allows, so that a reload may add some.
    pub max_targets: usize,
    /// Samples of the largest frame.
    pub frame_samples: usize,
    /// Scrapes in progress at the same time.
    pub concurrent_scrapes: usize,
    /// Blocks of staging.
    pub staging_blocks: usize,
}

impl Sizes {
    /// The sizes for `config` with these targets.
    #[must_use]
    pub fn of(config: &Config, targets: &Targets) -> Self {
        let max_series = (config.tidegate.memory.max_series as usize).min(MAX_SERIES);
        let limit = |job: &super::ScrapeConfig| match job.sample_limit {
            0 => max_series,
            limit => max_series.min(limit as usize),
        };
        let drops = config
            .scrape_configs
            .iter()
            .any(|job| !job.metric_relabel_configs.is_empty());
        Self {
            max_series,
            // What relabelling drops is remembered as well, or it would be relabelled at every scrape.
            max_texts: if drops {
                2 * max_series
            } else {
                max_series + max_series / 8
            },
            text_bytes: max_series * TEXT_BYTES_PER_SERIES + MAX_SERIES_TEXT_BYTES,
            max_targets: MAX_TARGETS,
            frame_samples: config.scrape_configs.iter().map(limit).max().unwrap_or(max_series),
            concurrent_scrapes: (config.tidegate.memory.max_concurrent_scrapes as usize)
                .min(targets.active.len().max(1)),
            staging_blocks: staging_blocks(config, targets, max_series),
        }
    }
}

/// Enough for two flush intervals and one commit interval of scrapes at the fastest rate, within [`STAGING_BLOCKS`].
fn staging_blocks(config: &Config, targets: &Targets, max_series: usize) -> usize {
    let own = &config.tidegate;
    let flush = config
        .remote_write
        .iter()
        .map(|r| r.queue_config.batch_send_deadline.ms)
        .max();
    let hold_ms = own
        .ring
        .commit_interval
        .ms
        .max(2 * flush.unwrap_or(own.uplink.flush_interval.ms));
    let interval_ms = targets
        .active
        .iter()
        .map(|t| t.interval.ms)
        .min()
        .unwrap_or(config.global.scrape_interval.ms);
    let scrapes = hold_ms.div_ceil(interval_ms.max(1)).saturating_add(1);
    let samples = (max_series as u64).saturating_mul(scrapes);
    let blocks = samples
        .saturating_mul(STAGED_BYTES_PER_SAMPLE as u64)
        .div_ceil(own.ring.block_size.bytes.max(1));
    usize::try_from(blocks)
        .unwrap_or(usize::MAX)
        .clamp(*STAGING_BLOCKS.start(), *STAGING_BLOCKS.end())
}

/// One pool of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanLine {
    /// Name of the pool.
    pub name: &'static str,
    /// Bytes.
    pub bytes: usize,
    /// What it holds and how the bytes come about.
    pub what: String,
    /// The key that changes it; empty: none.
    pub key: &'static str,
}

/// All pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The pools, slack last.
    pub lines: Vec<PlanLine>,
    /// Their sum.
    pub total: usize,
    /// Cap of the heap: the sum, or what the operator set.
    pub limit: usize,
}

impl Plan {
    /// True when the pools fit under the cap.
    #[must_use]
    pub const fn fits(&self) -> bool {
        self.total <= self.limit
    }
}

impl fmt::Display for Plan {
    /// A table: bytes, name, key, explanation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{:>9}  {:<22} {} [{}]", line.bytes, line.name, line.what, line.key)?;
        }
        let verdict = if self.fits() { "fits" } else { "does not fit" };
        writeln!(
            f,
            "{:>9}  total, {verdict} into memory.limit ({} bytes)",
            self.total, self.limit
        )
    }
}

const SERIES_KEY: &str = "tidegate.memory.max_series";
const SCRAPES_KEY: &str = "tidegate.memory.max_concurrent_scrapes";
const SAMPLES_KEY: &str = "remote_write.queue_config.max_samples_per_send";

impl Config {
    /// The memory plan.
    #[must_use]
    pub fn plan(&self, targets: &Targets) -> Plan {
        let sizes = Sizes::of(self, targets);
        let mut lines = vec![];
        let mut line = |name, bytes: usize, key, what: String| {
            if bytes > 0 {
                lines.push(PlanLine { name, bytes, what, key });
            }
        };
        self.plan_series(&sizes, &mut line);
        self.plan_scrapes(&sizes, targets, &mut line);
        self.plan_uplink(&sizes, &mut line);
        self.plan_tls(&sizes, targets, &mut line);
        let sections = self.scrape_configs.len() + self.remote_write.len();
        line(
            "configuration",
            2 * sections * SECTION_BYTES + RELOAD_BYTES,
            "",
            format!("{sections} jobs and remotes, one reload"),
        );
        line(
            "runtime",
            RUNTIME_BYTES + DNS_BYTES,
            "",
            "executor, reactor, resolver".into(),
        );
        if !self.tidegate.listen_address.is_empty() {
            line(
                "status port",
                HTTP_BYTES + STATUS_BYTES,
                "tidegate.listen_address",
                "one request at a time".into(),
            );
        }
        let pools: usize = lines.iter().map(|l| l.bytes).sum();
        lines.push(PlanLine {
            name: "slack",
            bytes: pools / SLACK_SHARE,
            what: "fragmentation".into(),
            key: "",
        });
        let total = pools + pools / SLACK_SHARE;
        let limit = match self.tidegate.memory.limit {
            MemoryLimit::Auto => total,
            MemoryLimit::Bytes(size) => usize::try_from(size.bytes).unwrap_or(usize::MAX),
        };
        Plan { lines, total, limit }
    }

    fn plan_series(&self, sizes: &Sizes, line: &mut impl FnMut(&'static str, usize, &'static str, String)) {
        let &Sizes {
            max_series,
            max_texts,
            text_bytes,
            max_targets,
            ..
        } = sizes;
        line(
            "series table",
            SeriesTable::ram_bytes(max_series, max_texts, max_targets),
            SERIES_KEY,
            format!("{max_series} series, {max_texts} exposed texts"),
        );
        line(
            "catalogue",
            Catalogue::ram_bytes(max_series, text_bytes, max_targets),
            SERIES_KEY,
            format!("{text_bytes} bytes of names and labels"),
        );
        line(
            "ring writer",
            self.coder(sizes) + self.block(),
            SERIES_KEY,
            "codec state and one block".into(),
        );
        let blocks = sizes.staging_blocks;
        line(
            "staging",
            blocks * self.block(),
            "tidegate.ring.commit_interval",
            format!("{blocks} blocks"),
        );
        let slots = self.tidegate.ring.size.bytes / self.tidegate.ring.segment_size.bytes.max(1);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        line(
            "ring index",
            slots.saturating_mul(40),
            "tidegate.ring.size",
            format!("{slots} segments"),
        );
    }

    fn block(&self) -> usize {
        usize::try_from(self.tidegate.ring.block_size.bytes).unwrap_or(usize::MAX)
    }

    fn coder(&self, sizes: &Sizes) -> usize {
        Codec::ram_bytes(CodecId::Tc1) + sizes.max_series * CODER_BYTES_PER_SERIES
    }

    fn plan_scrapes(
        &self,
        sizes: &Sizes,
        targets: &Targets,
        line: &mut impl FnMut(&'static str, usize, &'static str, String),
    ) {
        let n = sizes.concurrent_scrapes;
        let frame = sizes.frame_samples * FRAME_BYTES_PER_SAMPLE;
        line(
            "frames",
            n * frame,
            SCRAPES_KEY,
            format!("{n} scrapes of up to {} samples", sizes.frame_samples),
        );
        line(
            "scrape buffers",
            n * (HTTP_BYTES + MAX_LINE_BYTES),
            SCRAPES_KEY,
            format!("{n} x HTTP and one line of text"),
        );
        // One label set and three scratch texts serve all scrapes in turn.
        line(
            "relabelling",
            4 * MAX_SERIES_TEXT_BYTES,
            "",
            "label set and scratch".into(),
        );
        if self.scrape_configs.iter().any(|job| job.enable_compression) {
            line(
                "gunzip",
                n * GUNZIP_BYTES,
                "scrape_configs.enable_compression",
                format!("{n} x window and decoder"),
            );
        }
        let count = targets.active.len();
        line(
            "targets",
            count * TARGET_BYTES,
            "scrape_configs",
            format!("{count} targets"),
        );
    }

    fn plan_uplink(&self, sizes: &Sizes, line: &mut impl FnMut(&'static str, usize, &'static str, String)) {
        let n = self.remote_write.len();
        let reader = self.coder(sizes)
            + 2 * self.block()
            + Catalogue::ram_bytes(sizes.max_series, sizes.text_bytes * 3 / 2, sizes.max_targets);
        line(
            "ring readers",
            n * reader,
            SERIES_KEY,
            format!("{n} x codec state, block, names of a segment"),
        );
        line(
            "frames of readers",
            n * sizes.frame_samples * FRAME_BYTES_PER_SAMPLE,
            SERIES_KEY,
            format!("{n} remotes"),
        );
        let body = |samples: usize| (samples * BATCH_BYTES_PER_SAMPLE).max(MIN_BODY_BYTES);
        let samples = self
            .remote_write
            .iter()
            .map(|r| r.queue_config.max_samples_per_send as usize);
        let bodies: usize = samples.clone().map(body).sum();
        line(
            "batches",
            bodies,
            SAMPLES_KEY,
            format!("{} samples", samples.clone().sum::<usize>()),
        );
        // snap needs 32 + n + n / 6.
        let packed: usize = samples.map(|s| 32 + body(s) + body(s) / 6).sum();
        if n > 0 {
            line(
                "compressed requests",
                packed + SNAPPY_BYTES,
                SAMPLES_KEY,
                format!("{n} requests and one encoder"),
            );
        }
        line("connections", n * HTTP_BYTES, "remote_write", format!("{n} x HTTP"));
    }

    fn plan_tls(
        &self,
        sizes: &Sizes,
        targets: &Targets,
        line: &mut impl FnMut(&'static str, usize, &'static str, String),
    ) {
        let scrapes = targets.active.iter().filter(|t| t.scheme == Scheme::Https).count();
        let remotes = self
            .remote_write
            .iter()
            .filter(|r| r.url.scheme == Scheme::Https)
            .count();
        let open = scrapes + remotes;
        let handshakes = scrapes.min(sizes.concurrent_scrapes) + remotes;
        line(
            "TLS connections",
            open * TLS_OPEN_BYTES + handshakes * TLS_HANDSHAKE_BYTES,
            SCRAPES_KEY,
            format!("{open} open, {handshakes} handshakes at once"),
        );
        let needs_roots =
            |tls: &super::TlsConfig| tls.ca_file.is_empty() && tls.ca.is_empty() && !tls.insecure_skip_verify;
        let by_remote = self
            .remote_write
            .iter()
            .any(|r| r.url.scheme == Scheme::Https && needs_roots(&r.tls_config));
        let by_target = targets.active.iter().filter(|t| t.scheme == Scheme::Https).any(|t| {
            self.scrape_configs
                .get(t.job)
                .is_some_and(|job| needs_roots(&job.tls_config))
        });
        if by_remote || by_target {
            line(
                "TLS roots",
                TLS_ROOTS_BYTES,
                "tls_config.ca_file",
                "the system's certificates".into(),
            );
        }
    }
}

/// Bytes a sample takes on the ring before padding, thousandths: between 0.47 (several targets in a segment) and 0.62
/// (node_exporter alone), 15 s, 256 KiB segments (flash.md §4.3). Noisy analogue sensors take 1.5 to 3.
const RING_MILLIBYTES_PER_SAMPLE: u64 = 550;

/// How long an outage the ring covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingDuration {
    /// Milliseconds of scraping that fit.
    pub ms: u64,
    /// Samples a day.
    pub samples_per_day: u64,
    /// Bytes written a day during an outage, padding included.
    pub bytes_per_day: u64,
}

impl Config {
    /// How long the ring lasts without an uplink when `series` series are spread evenly over the targets.
    ///
    /// Commits write whole blocks, so a short `commit_interval` pads: 1,000 series at 15 s fill 55 % of a 4 KiB block a minute.
    #[must_use]
    pub fn ring_duration(&self, targets: &Targets, series: u64) -> RingDuration {
        const DAY_MS: u64 = 86_400_000;
        let count = targets.active.len().max(1) as u64;
        let each = series.div_ceil(count);
        let scrapes_per_day: u64 = targets.active.iter().map(|t| DAY_MS / t.interval.ms.max(1)).sum();
        let samples_per_day = each.saturating_mul(scrapes_per_day);
        let ring = &self.tidegate.ring;
        // A commit interval of 0 writes each scrape by itself.
        let commits = match ring.commit_interval.ms {
            0 => scrapes_per_day,
            ms => scrapes_per_day.min(DAY_MS / ms.min(DAY_MS)),
        };
        let per_commit = samples_per_day.saturating_mul(RING_MILLIBYTES_PER_SAMPLE) / 1_000 / commits.max(1);
        let block = ring.block_size.bytes.max(1);
        let bytes_per_day = per_commit.div_ceil(block).saturating_mul(block).saturating_mul(commits);
        // The segment that is being made room for holds nothing.
        let capacity = ring.size.bytes.saturating_sub(ring.segment_size.bytes);
        let ms = (u128::from(capacity) * u128::from(DAY_MS)).checked_div(u128::from(bytes_per_day));
        RingDuration {
            ms: ms.map_or(u64::MAX, |ms| u64::try_from(ms).unwrap_or(u64::MAX)),
            samples_per_day,
            bytes_per_day,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Duration, HostPort, Named, RemoteWrite, ScrapeConfig, Size, TargetSpec};
    use super::*;

    fn config(series: u32) -> (Config, Targets) {
        let mut config = Config::default();
        config.tidegate.memory.max_series = series;
        config.scrape_configs.push(ScrapeConfig::default());
        let mut remote = RemoteWrite::default();
        remote.url.scheme = Scheme::Https;
        config.remote_write.push(remote);
        let target = TargetSpec {
            job: 0,
            discovered: Named::default(),
            labels: Named::default(),
            body: String::new(),
            scheme: Scheme::Http,
            address: HostPort::default(),
            path_and_query: String::new(),
            unix_socket: None,
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            limit_error: None,
        };
        (
            config,
            Targets {
                active: vec![target],
                ..Targets::default()
            },
        )
    }

    fn bytes(plan: &Plan, name: &str) -> usize {
        plan.lines
            .iter()
            .find(|line| line.name == name)
            .map_or(0, |line| line.bytes)
    }

    #[test]
    fn the_plan_of_a_small_box_stays_below_one_and_a_half_mebibytes() {
        let (mut config, targets) = config(1_050);
        config.remote_write[0].tls_config.ca_file = "ca.pem".into();
        let plan = config.plan(&targets);
        assert_eq!(plan.lines.iter().map(|line| line.bytes).sum::<usize>(), plan.total);
        assert!(plan.total < 3 << 19, "{plan}");
        assert!(plan.fits());
        config.tidegate.memory.limit = MemoryLimit::Bytes(Size::from_kib(100));
        let plan = config.plan(&targets);
        assert!(
            !plan.fits() && plan.limit == 102_400 && plan.to_string().contains("does not fit"),
            "{plan}"
        );
    }

    #[test]
    fn every_line_follows_its_key() {
        let (base, targets) = config(2_000);
        let plan = base.plan(&targets);
        let with = |change: &dyn Fn(&mut Config)| {
            let mut other = base.clone();
            change(&mut other);
            other.plan(&targets)
        };
        let more = with(&|c| c.tidegate.memory.max_series = 4_000);
        for name in ["series table", "catalogue", "ring writer", "ring readers", "frames"] {
            assert!(bytes(&more, name) > bytes(&plan, name), "{name}");
        }
        let more = with(&|c| c.remote_write[0].queue_config.max_samples_per_send = 10_000);
        assert!(bytes(&more, "batches") > bytes(&plan, "batches"));
        let more = with(&|c| c.tidegate.ring.commit_interval = Duration::from_secs(300));
        assert!(bytes(&more, "staging") > bytes(&plan, "staging"));
        let less = with(&|c| c.scrape_configs[0].sample_limit = 100);
        assert!(bytes(&less, "frames") < bytes(&plan, "frames"));
        let less = with(&|c| c.scrape_configs[0].enable_compression = false);
        assert_eq!((bytes(&less, "gunzip"), bytes(&plan, "gunzip")), (0, GUNZIP_BYTES));
        let less = with(&|c| c.remote_write[0].tls_config.ca_file = "ca.pem".into());
        assert_eq!(
            (bytes(&less, "TLS roots"), bytes(&plan, "TLS roots")),
            (0, TLS_ROOTS_BYTES)
        );
        let less = with(&|c| c.remote_write.clear());
        assert_eq!((bytes(&less, "batches"), bytes(&less, "TLS connections")), (0, 0));
        let less = with(&|c| c.tidegate.listen_address.clear());
        assert_eq!(bytes(&less, "status port"), 0);
    }

    #[test]
    fn staging_holds_two_flush_intervals_and_a_commit_interval() {
        let (mut config, targets) = config(1_000);
        // 4 scrapes a minute and one in progress, 2,000 bytes each.
        assert_eq!(Sizes::of(&config, &targets).staging_blocks, 4);
        config.tidegate.ring.commit_interval = Duration::from_secs(300);
        assert_eq!(Sizes::of(&config, &targets).staging_blocks, 11);
        config.remote_write[0].queue_config.batch_send_deadline = Duration::from_secs(600);
        assert_eq!(Sizes::of(&config, &targets).staging_blocks, 40);
        config.remote_write[0].queue_config.batch_send_deadline = Duration::from_ms(u64::MAX / 4);
        assert_eq!(Sizes::of(&config, &targets).staging_blocks, 64);
    }

    #[test]
    fn the_ring_lasts_as_long_as_measured() {
        let (mut config, targets) = config(1_000);
        let days = |config: &Config, series| config.ring_duration(&targets, series).ms / 86_400_000;
        assert_eq!(days(&config, 1_000), 11);
        config.tidegate.ring.commit_interval = Duration::from_secs(300);
        assert_eq!(days(&config, 1_000), 18);
        // Every scrape: a block each, as measured in flash.md §3.2 (3.65 bytes a sample at 1,136 series).
        config.tidegate.ring.commit_interval = Duration::default();
        assert_eq!(config.ring_duration(&targets, 1_136).bytes_per_day, 5_760 * 4_096);
        assert_eq!(config.ring_duration(&Targets::default(), 1_000).ms, u64::MAX);
    }
}
