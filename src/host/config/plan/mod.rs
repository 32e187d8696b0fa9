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

mod duration;
mod sizes;

pub use duration::RingDuration;
pub(super) use sizes::DEFAULT_SAMPLES_PER_SEND;
pub use sizes::Sizes;

use super::{Config, MemoryLimit, RemoteWrite, Scheme, SigV4, Targets, TlsConfig};
use crate::catalogue::Catalogue;
use crate::frame::ExplicitTime;
use crate::host::limits::{HTTP_RECEIVE_BYTES, HTTP_SEND_BYTES};
use crate::host::snappy::output_bytes;
use crate::host::status::{RESPONSE_BYTES, STATUS_CONNECTIONS};
use crate::limits::MAX_SERIES_TEXT_BYTES;
use crate::metadata::Metadata;
use crate::remote_write::batch::Batch;
use crate::sample::{Sample, SeriesRef};
use crate::scrape::{LabelBuilder, Reports, Schedule, Session};
use crate::series::SeriesTable;
use crate::value::codec::Codec;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt;

/// Codec state of one series in one coder.
const CODER_BYTES_PER_SERIES: usize = 24;

/// Where a reader finds the definition of one series.
const PLACE_BYTES_PER_SERIES: usize = 4;

/// A sample of a sender's frame: value and series, explicit time, staleness mark.
const FRAME_BYTES_PER_SAMPLE: usize = size_of::<Sample>() + size_of::<ExplicitTime>() + size_of::<SeriesRef>();

/// What the ring remembers of a segment.
const SLOT_BYTES: usize = 40;

/// An encoder's tables (deps.md §10).
const SNAPPY_BYTES: usize = 34 * 1024;

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

/// While a request is signed for AWS: its headers and URL once more, and keys.
const SIGNATURE_BYTES: usize = 4 * 1024;

/// The two files of profiles, read one after the other into a text that doubles as it grows.
const PROFILES_BYTES: usize = 32 * 1024;

/// Labels, URL, schedule and connection state of a target.
const TARGET_BYTES: usize = 2 * 1024;

/// Structs of one job or remote with a few rules; twice this while a new file is loaded.
const SECTION_BYTES: usize = 4 * 1024;

/// Loading a file: its text, the scanner, and the structs made of it before the old ones go.
const RELOAD_BYTES: usize = 64 * 1024;

/// Answers of the status port.
const STATUS_BYTES: usize = RESPONSE_BYTES + 6 * 1024;

/// The share of the heap that fragmentation may keep from use: one part in this many. Pools are allocated once, so little
/// is ever freed; the arena measured in deps.md §5 lost 39 % under random load.
const SLACK_SHARE: usize = 8;

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
            let key: &[&str] = if line.key.is_empty() {
                &[]
            } else {
                &[" [", line.key, "]"]
            };
            writeln!(f, "{:>9}  {:<22} {}{}", line.bytes, line.name, line.what, key.concat())?;
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
        let mut draft = Draft {
            config: self,
            targets,
            sizes: Sizes::of(self, targets),
            lines: vec![],
        };
        draft.series();
        draft.ring();
        draft.scrapes();
        draft.uplink();
        draft.tls();
        draft.process();
        let mut lines = draft.lines;
        let pools: usize = lines.iter().map(|l| l.bytes).sum();
        let slack = pools / SLACK_SHARE;
        lines.push(PlanLine {
            name: "slack",
            bytes: slack,
            what: "fragmentation".into(),
            key: "",
        });
        let total = pools + slack;
        let limit = match self.tidegate.memory.limit {
            MemoryLimit::Auto => total,
            MemoryLimit::Bytes(size) => usize::try_from(size.bytes).unwrap_or(usize::MAX),
        };
        Plan { lines, total, limit }
    }
}

/// A plan in the making.
struct Draft<'a> {
    config: &'a Config,
    targets: &'a Targets,
    sizes: Sizes,
    lines: Vec<PlanLine>,
}

impl Draft<'_> {
    /// Adds a pool, unless it is empty.
    fn add(&mut self, name: &'static str, bytes: usize, key: &'static str, what: impl Into<String>) {
        if bytes > 0 {
            self.lines.push(PlanLine {
                name,
                bytes,
                what: what.into(),
                key,
            });
        }
    }

    fn series(&mut self) {
        let Sizes {
            max_series,
            max_texts,
            text_bytes,
            max_targets,
            ..
        } = self.sizes;
        let exemplars = match self.sizes.exemplars {
            true => SeriesTable::exemplar_ram_bytes(max_series),
            false => 0,
        };
        let table = SeriesTable::ram_bytes(max_series, max_texts, max_targets) + exemplars;
        self.add(
            "series table",
            table,
            SERIES_KEY,
            format!("{max_series} series, {max_texts} exposed texts"),
        );
        let catalogue = Catalogue::ram_bytes(max_series, text_bytes, max_targets);
        self.add(
            "catalogue",
            catalogue,
            SERIES_KEY,
            format!("{text_bytes} bytes of names and labels"),
        );
        let (bytes, families) = (self.sizes.metadata_bytes, self.sizes.metadata_families);
        self.add(
            "metadata",
            if bytes == 0 {
                0
            } else {
                Metadata::ram_bytes(bytes, families)
            },
            "tidegate.memory.metadata",
            format!("{bytes} bytes of types, helps and units"),
        );
    }

    fn ring(&mut self) {
        let Sizes {
            max_series,
            staging_blocks,
            ..
        } = self.sizes;
        let ring = &self.config.tidegate.ring;
        let block = usize::try_from(ring.block_size.bytes).unwrap_or(usize::MAX);
        let coder = Codec::ram_bytes(self.sizes.codec) + max_series * CODER_BYTES_PER_SERIES;
        let writer = coder + block + MAX_SERIES_TEXT_BYTES;
        self.add("ring writer", writer, SERIES_KEY, "codec state, one block, one text");
        let staging = staging_blocks.saturating_mul(block);
        self.add(
            "staging",
            staging,
            "tidegate.ring.commit_interval",
            format!("{staging_blocks} blocks"),
        );
        let slots = ring.size.bytes.checked_div(ring.segment_size.bytes).unwrap_or(0);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        let index = slots.saturating_mul(SLOT_BYTES);
        self.add("ring index", index, "tidegate.ring.size", format!("{slots} segments"));
        let reader = coder + 2 * block + max_series * PLACE_BYTES_PER_SERIES;
        let n = self.config.remote_write.len();
        self.add(
            "ring readers",
            n * reader,
            SERIES_KEY,
            format!("{n} x codec state, block, places of definitions"),
        );
    }

    fn scrapes(&mut self) {
        let n = self.sizes.concurrent_scrapes;
        let session = self.sizes.session();
        let protobuf = if session.label_bytes > 0 {
            ", protobuf's texts"
        } else {
            ""
        };
        let histogram = if session.converts { ", a histogram" } else { "" };
        let what = format!(
            "{n} x one line and a frame of {} samples{protobuf}{histogram}",
            session.max_samples
        );
        self.add("scrapes", n * Session::ram_bytes(session), SCRAPES_KEY, what);
        self.add("scrape connections", n * HTTP_BYTES, SCRAPES_KEY, format!("{n} x HTTP"));
        if self.config.scrape_configs.iter().any(|job| job.enable_compression) {
            let key = "scrape_configs.enable_compression";
            self.add("gunzip", n * GUNZIP_BYTES, key, format!("{n} x window and decoder"));
        }
        self.add(
            "label sets",
            LabelBuilder::ram_bytes(),
            "",
            "labels of one sample, relabelling",
        );
        let count = self.targets.active.len();
        let max = self.sizes.max_targets;
        let bytes = count * TARGET_BYTES + Schedule::ram_bytes(max) + Reports::ram_bytes(max);
        self.add(
            "targets",
            bytes,
            "scrape_configs",
            format!("{count} targets of at most {max}"),
        );
    }

    fn uplink(&mut self) {
        let remotes = &self.config.remote_write;
        let n = remotes.len();
        let limits: Vec<_> = remotes.iter().map(|remote| self.sizes.batch_limits(remote)).collect();
        let identity = |remote: &RemoteWrite| match remote.write_relabel_configs.len() {
            0 => MAX_SERIES_TEXT_BYTES,
            _ => 4 * MAX_SERIES_TEXT_BYTES,
        };
        let labels: usize = remotes.iter().map(identity).sum();
        let frame = self.sizes.frame_samples * FRAME_BYTES_PER_SAMPLE + self.sizes.extras_bytes;
        let batches: usize = limits.iter().map(|l| Batch::ram_bytes(*l)).sum();
        let samples: usize = limits.iter().map(|l| l.samples).sum();
        let packed: usize = limits.iter().map(|l| output_bytes(l.body_bytes)).sum();
        self.add(
            "senders",
            n * frame + labels,
            SERIES_KEY,
            format!("{n} x a frame and the labels of one series"),
        );
        self.add("batches", batches, SAMPLES_KEY, format!("{samples} samples"));
        self.add(
            "compressed requests",
            packed + n * SNAPPY_BYTES,
            SAMPLES_KEY,
            format!("{n} x encoder and output"),
        );
        self.add(
            "uplink connections",
            n * HTTP_BYTES,
            "remote_write",
            format!("{n} x HTTP"),
        );
        let signed = remotes.iter().filter_map(|remote| remote.sigv4.as_ref());
        let shared = |sigv4: &SigV4| if sigv4.access_key.is_empty() { PROFILES_BYTES } else { 0 };
        let bytes: usize = signed.clone().map(|sigv4| SIGNATURE_BYTES + shared(sigv4)).sum();
        if bytes > 0 {
            let what = format!("{} x what is signed, files of profiles", signed.count());
            self.add("signatures", bytes, "remote_write.sigv4", what);
        }
    }

    fn tls(&mut self) {
        let https = |scheme: Scheme| scheme == Scheme::Https;
        let needs_roots = |tls: &TlsConfig| tls.ca_file.is_empty() && tls.ca.is_empty() && !tls.insecure_skip_verify;
        let config = self.config;
        let scrapes = self.targets.active.iter().filter(|t| https(t.scheme));
        let remotes = config.remote_write.iter().filter(|r| https(r.url.scheme));
        let roots = remotes.clone().any(|r| needs_roots(&r.tls_config))
            || scrapes.clone().any(|t| {
                config
                    .scrape_configs
                    .get(t.job)
                    .is_some_and(|job| needs_roots(&job.tls_config))
            });
        let (scrapes, remotes) = (scrapes.count(), remotes.count());
        let open = scrapes + remotes;
        let handshakes = scrapes.min(self.sizes.concurrent_scrapes) + remotes;
        let bytes = open * TLS_OPEN_BYTES + handshakes * TLS_HANDSHAKE_BYTES;
        self.add(
            "TLS connections",
            bytes,
            SCRAPES_KEY,
            format!("{open} open, {handshakes} handshakes at once"),
        );
        let bytes = if roots { TLS_ROOTS_BYTES } else { 0 };
        self.add("TLS roots", bytes, "tls_config.ca_file", "the system's certificates");
    }

    fn process(&mut self) {
        let sections = self.config.scrape_configs.len() + self.config.remote_write.len();
        let bytes = 2 * sections * SECTION_BYTES + RELOAD_BYTES;
        self.add(
            "configuration",
            bytes,
            "",
            format!("{sections} jobs and remotes, one reload"),
        );
        self.add("runtime", RUNTIME_BYTES + DNS_BYTES, "", "executor, reactor, resolver");
        if !self.config.tidegate.listen_address.is_empty() {
            let key = "tidegate.listen_address";
            self.add(
                "status port",
                STATUS_CONNECTIONS * STATUS_BYTES,
                key,
                "two requests at a time",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Duration, HostPort, Named, ProtobufMessage, RemoteWrite, ScrapeConfig, Size, TargetSpec};
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
            built_in: false,
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            native_histograms: false,
            classic_too: false,
            convert_classic: false,
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
    fn the_plan_of_a_small_box_stays_small() {
        let (mut config, targets) = config(1_050);
        config.remote_write[0].tls_config.ca_file = "ca.pem".into();
        let plan = config.plan(&targets);
        assert_eq!(plan.lines.iter().map(|line| line.bytes).sum::<usize>(), plan.total);
        // The worst case of every pool at once; half of it is resident (scripts/soak).
        assert!(plan.total < 2_300_000, "{plan}");
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
        for name in [
            "series table",
            "catalogue",
            "ring writer",
            "ring readers",
            "scrapes",
            "senders",
        ] {
            assert!(bytes(&more, name) > bytes(&plan, name), "{name}");
        }
        let more = with(&|c| c.remote_write[0].queue_config.max_samples_per_send = 10_000);
        assert!(bytes(&more, "batches") > bytes(&plan, "batches"));
        let more = with(&|c| c.tidegate.ring.commit_interval = Duration::from_secs(300));
        assert!(bytes(&more, "staging") > bytes(&plan, "staging"));
        let less = with(&|c| c.scrape_configs[0].sample_limit = 100);
        assert!(bytes(&less, "scrapes") < bytes(&plan, "scrapes"));
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
    fn a_batch_is_several_requests_where_2_0_may_be_spoken() {
        let (mut config, targets) = config(1_050);
        let mut samples = |message, limit| {
            config.remote_write[0].protobuf_message = message;
            config.remote_write[0].queue_config.max_samples_per_send = limit;
            let sizes = Sizes::of(&config, &targets);
            let remote = &config.remote_write[0];
            (sizes.batch_limits(remote).samples, sizes.backlog_samples(remote))
        };
        let v2 = Some(ProtobufMessage::V2);
        assert_eq!(samples(None, 1), (4, 1));
        assert_eq!(samples(None, 500), (2_000, 500));
        assert_eq!(samples(v2, 1_999), (7_996, 1_999));
        assert_eq!(samples(Some(ProtobufMessage::V1), 1_999), (1_999, 1_999));
        for message in [None, v2, Some(ProtobufMessage::V1)] {
            assert_eq!(samples(message, 2_000), (8_000, 8_000), "the default");
            assert_eq!(samples(message, 10_000), (10_000, 10_000));
        }
        assert_eq!(samples(None, 5_000), (8_000, 5_000));
    }

    #[test]
    fn a_receiver_that_may_ask_for_1_0_gets_the_body_of_1_0() {
        let (mut config, targets) = config(1_050);
        let mut body = |message| {
            config.remote_write[0].protobuf_message = message;
            Sizes::of(&config, &targets)
                .batch_limits(&config.remote_write[0])
                .body_bytes
        };
        let (open, first, second) = (
            body(None),
            body(Some(ProtobufMessage::V1)),
            body(Some(ProtobufMessage::V2)),
        );
        assert_eq!(open, first);
        // 1,050 series with labels as long as scripts/soak has them go in one request of a scrape each.
        assert!(open > 1_050 * 200 && second < open, "{open} {second}");
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
        assert_eq!(config.ring_duration(&targets, 1_136).wear.bytes_per_day, 5_760 * 4_096);
        assert_eq!(config.ring_duration(&Targets::default(), 1_000).ms, u64::MAX);
    }
}
