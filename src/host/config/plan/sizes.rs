//! Sizes of all pools, from the configuration: who builds a pool takes its size from here.

use crate::exposition::Format;
use crate::host::config::{Config, MetadataSize, ProtobufMessage, RemoteWrite, ScrapeConfig, Targets};
use crate::limits::{MAX_LINE_BYTES, MAX_SERIES, MAX_SERIES_TEXT_BYTES, MAX_TARGETS};
use crate::remote_write::batch::{BatchLimits, MIN_BODY_BYTES, Sends};
use crate::scrape::SessionSize;
use crate::value::codec::CodecId;

/// Bytes of names and label bodies per series, each as its difference from the one before. The exporters of flash.md §4.3 need 17
/// (node_exporter, Prometheus) to 21 (vmagent).
const TEXT_BYTES_PER_SERIES: usize = 32;

/// Bytes a sample needs in staging until it is committed: twice the usual bytes on the ring, for full values at the start of a chunk.
const STAGED_BYTES_PER_SAMPLE: usize = 2;

/// Texts of a family: name, help, unit and 4 bytes. Short for most, so that the texts give out before the families do.
const METADATA_BYTES_PER_FAMILY: usize = 48;

/// What `tidegate.memory.metadata: auto` gives the families of one series. node_exporter and Prometheus need 43 and 49 (names and helps
/// of the captures), and `max_series` is mostly set to more than there are.
const METADATA_BYTES_PER_SERIES: usize = 32;

/// Series of a family at least, over all of a target: recorded scrapes have 3.3 and more. Families beyond go without help text.
const SERIES_PER_FAMILY: usize = 3;

/// Blocks of staging: at least one each for full values, differences, the dictionary and the frame being written.
const STAGING_BLOCKS: core::ops::RangeInclusive<usize> = 4..=64;

/// Uncompressed body per sample of a live batch, one sample per TimeSeries (flash.md §4.4: 46 bytes in 2.0 messages, 116 in 1.0,
/// with shorter labels than some have). A body that is full ends the batch early: more requests, no loss.
const BODY_BYTES_PER_SAMPLE_V2: usize = 64;
/// See [`BODY_BYTES_PER_SAMPLE_V2`]. Also where the receiver decides: with the body of 2.0, one that asked for 1.0 got a single
/// scrape of 350 series per request, and a backlog took five times as long. What 2.0 leaves of it is never touched, and
/// costs no memory.
const BODY_BYTES_PER_SAMPLE_V1: usize = 112;

/// `max_samples_per_send` unless set.
pub(in crate::host::config) const DEFAULT_SAMPLES_PER_SEND: u32 = 2_000;

/// Most samples of a backlog request where `max_samples_per_send` is the default: grouped samples take 16 to 20 bytes
/// before compression, so that many fill the same body.
const BACKLOG_SAMPLES_PER_SEND: usize = 8_000;

/// A backlog is gathered in batches of so many requests, [`BACKLOG_SAMPLES_PER_SEND`] samples at most, where 2.0 is spoken: a request
/// holds all samples of some series then, in place of a few of each. As many as the default makes of 2,000.
const REQUESTS_OF_BATCH: usize = 4;

/// Bytes of exemplars and native histograms of one frame beside [`EXTRAS_BYTES_PER_SAMPLE`]: a handful of the largest histograms
/// (160 buckets take about 500 bytes), or 50 exemplars of 80 bytes.
const MIN_EXTRAS_BYTES: usize = 4_096;

/// Likewise, per sample of the frame: one exemplar for every fifth, or a start time for each and some of them histograms.
const EXTRAS_BYTES_PER_SAMPLE: usize = 16;

/// Largest share of a segment that one frame's extras may take: see `RingConfig::extras_bytes`.
const EXTRAS_SHARE_OF_SEGMENT: u64 = 4;

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
    /// Bytes of exemplars and the like in the largest frame; 0 where nobody wants any.
    pub extras_bytes: usize,
    /// Scrapes in progress at the same time.
    pub concurrent_scrapes: usize,
    /// The last exemplar of each series is remembered.
    pub exemplars: bool,
    /// Some job asks for protobuf.
    pub protobuf: bool,
    /// Classic histograms of some target become native ones.
    pub converts: bool,
    /// Bytes of types, helps and units.
    pub metadata_bytes: usize,
    /// Metric families they are kept of, each counted for every target.
    pub metadata_families: usize,
    /// Blocks of staging.
    pub staging_blocks: usize,
    /// Codec of new segments: TC1 halves what TC0 writes (flash.md §4.2) for 3.6 KB of tables.
    pub codec: CodecId,
}

impl Sizes {
    /// The sizes for `config` with these targets.
    #[must_use]
    pub fn of(config: &Config, targets: &Targets) -> Self {
        let max_series = (config.tidegate.memory.max_series as usize).min(MAX_SERIES);
        let limit = |job: &ScrapeConfig| match job.sample_limit {
            0 => max_series,
            limit => max_series.min(limit as usize),
        };
        let frame_samples = config.scrape_configs.iter().map(limit).max().unwrap_or(max_series);
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
            frame_samples,
            extras_bytes: extras_bytes(config, targets, frame_samples),
            concurrent_scrapes: (config.tidegate.memory.max_concurrent_scrapes as usize)
                .min(targets.active.len().max(1)),
            exemplars: config.remote_write.iter().any(|remote| remote.send_exemplars),
            protobuf: config.scrape_configs.iter().any(|job| {
                let fallback = job.fallback_scrape_protocol.iter();
                job.scrape_protocols
                    .iter()
                    .chain(fallback)
                    .any(|protocol| protocol.format() == Format::Protobuf)
            }),
            converts: converts(config, targets),
            metadata_bytes: metadata_bytes(config, max_series),
            metadata_families: metadata_bytes(config, max_series) / METADATA_BYTES_PER_FAMILY,
            staging_blocks: staging_blocks(config, targets, max_series),
            codec: CodecId::Tc1,
        }
    }

    /// Whether pools of this size can be used for `other`. Workers are made anew whenever targets change, so that their number may
    /// differ.
    #[must_use]
    pub fn hold(&self, other: &Self) -> bool {
        let most = Self {
            frame_samples: self.frame_samples.max(other.frame_samples),
            extras_bytes: self.extras_bytes.max(other.extras_bytes),
            protobuf: self.protobuf || other.protobuf,
            converts: self.converts || other.converts,
            staging_blocks: self.staging_blocks.max(other.staging_blocks),
            ..*self
        };
        let same = Self {
            // With fewer, texts that rules drop are looked at in every scrape: slower, not wrong.
            max_texts: self.max_texts,
            frame_samples: self.frame_samples,
            extras_bytes: self.extras_bytes,
            protobuf: self.protobuf,
            converts: self.converts,
            staging_blocks: self.staging_blocks,
            concurrent_scrapes: self.concurrent_scrapes,
            ..*other
        };
        most == *self && same == *self
    }

    /// Of a scrape in progress.
    #[must_use]
    pub const fn session(&self) -> SessionSize {
        SessionSize {
            line_bytes: MAX_LINE_BYTES,
            label_bytes: if self.protobuf { MAX_SERIES_TEXT_BYTES } else { 0 },
            extras_bytes: self.extras_bytes,
            max_samples: self.frame_samples,
            converts: self.converts,
        }
    }

    /// Most samples of a request to `remote` while a backlog drains.
    ///
    /// Grouping pays from several scrapes of a series on (flash.md §4.4: 7.5 bytes a sample at 2,000, 4.3 at 10,000), so where the
    /// operator keeps the default the backlog goes in larger requests. Another value is taken as the receiver's limit.
    #[must_use]
    pub const fn backlog_samples(&self, remote: &RemoteWrite) -> usize {
        match remote.queue_config.max_samples_per_send {
            DEFAULT_SAMPLES_PER_SEND => BACKLOG_SAMPLES_PER_SEND,
            samples => samples as usize,
        }
    }

    /// Most samples of a batch for `remote`: more than a request takes go in several, where the receiver says what it has written.
    const fn batch_samples(&self, remote: &RemoteWrite) -> usize {
        let request = self.backlog_samples(remote);
        if matches!(remote.protobuf_message, Some(ProtobufMessage::V1)) {
            return request;
        }
        let several = match request.saturating_mul(REQUESTS_OF_BATCH) {
            several if several < BACKLOG_SAMPLES_PER_SEND => several,
            _ => BACKLOG_SAMPLES_PER_SEND,
        };
        if several > request { several } else { request }
    }

    /// Families whose help texts go to `remote` with their series: in 1.0 they go alone, written straight from the table.
    fn described_families(&self, remote: &RemoteWrite) -> usize {
        let in_series = remote.metadata_config.send && remote.protobuf_message != Some(ProtobufMessage::V1);
        match in_series {
            true => self.metadata_families.min(self.max_series / SERIES_PER_FAMILY),
            false => 0,
        }
    }

    /// Of a batch for `remote`.
    #[must_use]
    pub fn batch_limits(&self, remote: &RemoteWrite) -> BatchLimits {
        let live = remote.queue_config.max_samples_per_send as usize;
        let bytes = match remote.protobuf_message {
            Some(ProtobufMessage::V1) | None => BODY_BYTES_PER_SAMPLE_V1,
            Some(ProtobufMessage::V2) => BODY_BYTES_PER_SAMPLE_V2,
        };
        BatchLimits {
            samples: self.batch_samples(remote),
            body_bytes: (live * bytes).max(MIN_BODY_BYTES),
            max_series: self.max_series,
            max_targets: self.max_targets,
            frame_samples: self.frame_samples,
            extras_bytes: self.extras_bytes,
            sends: Sends {
                histograms: remote.send_native_histograms,
                exemplars: remote.send_exemplars,
            },
            families: self.described_families(remote),
        }
    }
}

/// Some target's classic histograms become native ones.
fn converts(config: &Config, targets: &Targets) -> bool {
    let mut jobs = config.scrape_configs.iter();
    jobs.any(|job| job.convert_classic_histograms_to_nhcb == Some(true))
        || targets.active.iter().any(|target| target.convert_classic)
}

/// What the samples of one frame may carry: something only where some target can have it and some remote asks for it.
fn extras_bytes(config: &Config, targets: &Targets, frame_samples: usize) -> usize {
    let sent = |wants: fn(&RemoteWrite) -> bool| config.remote_write.iter().any(wants);
    let native = config
        .scrape_configs
        .iter()
        .any(|job| job.scrape_native_histograms == Some(true))
        || targets.active.iter().any(|target| target.native_histograms)
        || converts(config, targets);
    let wanted = sent(|remote| remote.send_exemplars)
        || (native && sent(|remote| remote.send_native_histograms))
        || config.tidegate.start_timestamps;
    let limit =
        usize::try_from(config.tidegate.ring.segment_size.bytes / EXTRAS_SHARE_OF_SEGMENT).unwrap_or(usize::MAX);
    match wanted {
        true => (MIN_EXTRAS_BYTES + frame_samples * EXTRAS_BYTES_PER_SAMPLE).min(limit),
        false => 0,
    }
}

/// Bytes of types, helps and units: what the operator says, else what the exporters of the captures need.
fn metadata_bytes(config: &Config, max_series: usize) -> usize {
    match config.tidegate.memory.metadata {
        MetadataSize::Auto => max_series * METADATA_BYTES_PER_SERIES,
        MetadataSize::Bytes(size) => usize::try_from(size.bytes).unwrap_or(usize::MAX),
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
