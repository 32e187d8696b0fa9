//! Rules that concern more than one key, and ranges.
//!
//! Runs after [`super::resolve`], so that inherited values are seen. The first violation is
//! reported. Source: prometheus.md §4.1-4.5, SCR-409, SCR-607, RW-08; flash.md §2.1 (geometry).

mod http;
mod rules;

use super::load::Fault;
use super::resolve::job_fault;
use super::scrape::{FileSdConfig, ScrapeProtocol, ValidationScheme};
use super::url::{HostPort, Scheme};
use super::{Config, Memory, ProtobufMessage, RemoteWrite, Ring, ScrapeConfig};
use crate::limits::{MAX_LABELS, MAX_REMOTES, MAX_SERIES, MAX_TARGETS};
use alloc::format;
use alloc::string::String;
use core::fmt::Display;
use http::{header, http, old_tls, reserved};
use rules::{is_label_name, label_rule, rules};

/// Segments a ring needs: one being written, one being read, one to move to, and in a file the space of one for the
/// superblocks.
pub const MIN_SEGMENTS: u64 = 4;

/// Slots the ring format can number (flash.md §2.1).
pub const MAX_SEGMENTS: u64 = 4_096;

/// Blocks of one segment, a power of two (flash.md §2.1).
pub const BLOCKS_PER_SEGMENT: core::ops::RangeInclusive<u64> = 4..=1_024;

/// Smallest and largest block (flash.md §2.1).
pub const BLOCK_BYTES: core::ops::RangeInclusive<u64> = 256..=65_536;

/// Largest `max_samples_per_send`: the batch buffers hold it in RAM, about 50 bytes each.
pub const MAX_SAMPLES_PER_SEND: u32 = 20_000;

/// Reserved in `http_headers` of a job besides those.
const SCRAPE_TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// A violation below the entry at hand: key and message.
pub(super) type Check = Result<(), (String, String)>;

pub(super) fn wrong(key: impl Into<String>, message: impl Into<String>) -> Check {
    Err((key.into(), message.into()))
}

fn found<T: Display>(value: T, expected: impl Display) -> String {
    format!("found {value}, expected {expected}")
}

/// Checks a configuration whose defaults are filled in; likely mistakes go to `notes`.
pub(super) fn check(config: &Config, notes: &mut alloc::vec::Vec<Fault>) -> Result<(), Fault> {
    global(config).map_err(|(key, message)| Fault::new(format!("global.{key}"), message))?;
    for (n, job) in config.scrape_configs.iter().enumerate() {
        let earlier = config.scrape_configs.get(..n).unwrap_or_default();
        check_job(job, earlier).map_err(|(key, message)| job_fault(job, &key, message))?;
        if let Some(message) = old_tls(&job.tls_config) {
            notes.push(job_fault(job, "tls_config.min_version", message));
        }
        native_histograms_unsent(job, &config.remote_write, notes);
    }
    if config.remote_write.len() > MAX_REMOTES {
        let message = format!(
            "found {} remotes, expected at most {MAX_REMOTES}",
            config.remote_write.len()
        );
        return Err(Fault::new("remote_write", message));
    }
    for (n, remote) in config.remote_write.iter().enumerate() {
        let earlier = config.remote_write.get(..n).unwrap_or_default();
        let fault = |key: &str, message: String| Fault::new(format!("remote_write[{n}].{key}"), message);
        check_remote(remote, earlier, config.global.metric_name_validation_scheme)
            .map_err(|(key, message)| fault(&key, message))?;
        if remote.url.scheme == Scheme::Other {
            let message = found(
                &remote.url.scheme_text,
                "http or https: nothing can be sent, samples stay in the ring",
            );
            notes.push(fault("url", message));
        }
        if let Some(message) = old_tls(&remote.tls_config) {
            notes.push(fault("tls_config.min_version", message));
        }
    }
    own(config).map_err(|(key, message)| Fault::new(format!("tidegate.{key}"), message))
}

/// Native histograms that no remote is sent.
fn native_histograms_unsent(job: &ScrapeConfig, remotes: &[RemoteWrite], notes: &mut alloc::vec::Vec<Fault>) {
    let converts = job.convert_classic_histograms_to_nhcb == Some(true);
    let mut sent = remotes.iter().filter(|remote| remote.send_native_histograms).peekable();
    if sent.peek().is_none() {
        let message = "no remote has send_native_histograms: native histograms are counted and left out";
        if job.scrape_native_histograms == Some(true) {
            notes.push(job_fault(job, "scrape_native_histograms", message));
        }
        if converts {
            notes.push(job_fault(job, "convert_classic_histograms_to_nhcb", message));
        }
    } else if converts && sent.all(|remote| remote.protobuf_message == Some(ProtobufMessage::V1)) {
        let message = "no remote takes custom buckets: remote write 1.0 cannot carry them, set protobuf_message to io.prometheus.write.v2.Request";
        notes.push(job_fault(job, "convert_classic_histograms_to_nhcb", message));
    }
}

fn global(config: &Config) -> Check {
    let global = &config.global;
    if global.scrape_timeout > global.scrape_interval {
        return wrong(
            "scrape_timeout",
            found(
                global.scrape_timeout,
                format!("at most scrape_interval ({})", global.scrape_interval),
            ),
        );
    }
    labels(
        "external_labels",
        &global.external_labels,
        global.metric_name_validation_scheme,
    )
}

fn labels(key: &str, labels: &[(String, String)], scheme: ValidationScheme) -> Check {
    if labels.len() > MAX_LABELS {
        return wrong(
            key,
            format!("found {} labels, expected at most {MAX_LABELS}", labels.len()),
        );
    }
    match labels.iter().find(|(name, _)| !is_label_name(name, scheme)) {
        Some((name, _)) => wrong(
            format!("{key}.{name}"),
            format!("found label name {name:?}, expected {}", label_rule(scheme)),
        ),
        None => Ok(()),
    }
}

fn check_job(job: &ScrapeConfig, earlier: &[ScrapeConfig]) -> Check {
    if job.job_name.is_empty() {
        return wrong("job_name", "found nothing, expected a name that no other job has");
    }
    if earlier.iter().any(|other| other.job_name == job.job_name) {
        return wrong(
            "job_name",
            format!(
                "found {:?} a second time, expected a name that no other job has",
                job.job_name
            ),
        );
    }
    if job.scrape_timeout > job.scrape_interval {
        return wrong(
            "scrape_timeout",
            found(
                job.scrape_timeout,
                format!("at most scrape_interval ({})", job.scrape_interval),
            ),
        );
    }
    protobuf(job)?;
    let scheme = job.metric_name_validation_scheme.unwrap_or(ValidationScheme::Utf8);
    for (n, group) in job.static_configs.iter().enumerate() {
        labels(&format!("static_configs[{n}].labels"), &group.labels, scheme)?;
        // Rules may turn a URL into a parameter (probing), so it is only wrong without them.
        let url = group.targets.iter().enumerate().find(|(_, t)| t.contains('/'));
        if let (Some((m, target)), true) = (url, job.relabel_configs.is_empty()) {
            let message =
                format!("found {target:?}, expected host:port (scheme and metrics_path are keys of their own)");
            return wrong(format!("static_configs[{n}].targets[{m}]"), message);
        }
    }
    for (n, sd) in job.file_sd_configs.iter().enumerate() {
        file_sd(sd).or_else(|(key, message)| wrong(format!("file_sd_configs[{n}].{key}"), message))?;
    }
    rules("relabel_configs", &job.relabel_configs, scheme)?;
    rules("metric_relabel_configs", &job.metric_relabel_configs, scheme)?;
    http(&job.http_client())?;
    match job
        .http_headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(SCRAPE_TIMEOUT_HEADER))
    {
        Some((name, _)) => wrong(format!("http_headers.{name}"), "this header is set by tidegate"),
        None => Ok(()),
    }
}

/// What only protobuf brings, in a build that does not read it.
fn protobuf(job: &ScrapeConfig) -> Check {
    if cfg!(feature = "protobuf") {
        return Ok(());
    }
    let message = "this build does not scrape protobuf: it was made without the feature protobuf";
    if job.scrape_protocols.contains(&ScrapeProtocol::PrometheusProto) {
        return wrong("scrape_protocols", message);
    }
    if job.scrape_native_histograms == Some(true) {
        return wrong("scrape_native_histograms", message);
    }
    match job.fallback_scrape_protocol {
        Some(ScrapeProtocol::PrometheusProto) => wrong("fallback_scrape_protocol", message),
        _ => Ok(()),
    }
}

fn file_sd(sd: &FileSdConfig) -> Check {
    if sd.files.is_empty() {
        return wrong("files", "found no file, expected at least one");
    }
    if sd.refresh_interval.is_zero() {
        return wrong("refresh_interval", found(sd.refresh_interval, "more than 0s"));
    }
    for (n, file) in sd.files.iter().enumerate() {
        let (directory, name) = file.rsplit_once('/').unwrap_or(("", file));
        let ending = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"]
            .iter()
            .any(|e| name.ends_with(e));
        if !ending || directory.contains('*') {
            let message =
                format!("found {file:?}, expected a path ending in .json, .yml or .yaml with * in its last part only");
            return wrong(format!("files[{n}]"), message);
        }
    }
    Ok(())
}

fn check_remote(remote: &RemoteWrite, earlier: &[RemoteWrite], scheme: ValidationScheme) -> Check {
    if remote.url.is_empty() {
        return wrong(
            "url",
            "found nothing, expected the receiver's URL such as https://host/api/v1/push",
        );
    }
    if earlier.iter().any(|other| other.name == remote.name) {
        let message = format!(
            "found {:?} a second time, expected a name that no other remote has (set name where url and headers are the same)",
            remote.name
        );
        return wrong("name", message);
    }
    if remote.remote_timeout.is_zero() {
        return wrong("remote_timeout", found(remote.remote_timeout, "more than 0s"));
    }
    for (name, value) in remote.headers.iter() {
        let key = format!("headers.{name}");
        reserved(&key, name)?;
        header(&key, name, value)?;
    }
    rules("write_relabel_configs", &remote.write_relabel_configs, scheme)?;
    let queue = &remote.queue_config;
    if !(1..=MAX_SAMPLES_PER_SEND).contains(&queue.max_samples_per_send) {
        let message = found(queue.max_samples_per_send, format!("1 to {MAX_SAMPLES_PER_SEND}"));
        return wrong("queue_config.max_samples_per_send", message);
    }
    if queue.min_backoff.is_zero() {
        return wrong("queue_config.min_backoff", found(queue.min_backoff, "more than 0s"));
    }
    if queue.max_backoff < queue.min_backoff {
        let message = found(
            queue.max_backoff,
            format!("at least min_backoff ({})", queue.min_backoff),
        );
        return wrong("queue_config.max_backoff", message);
    }
    if remote.metadata_config.send && remote.metadata_config.send_interval.is_zero() {
        return wrong(
            "metadata_config.send_interval",
            found(remote.metadata_config.send_interval, "more than 0s"),
        );
    }
    http(&remote.http_client())
}

fn own(config: &Config) -> Check {
    let own = &config.tidegate;
    listen(&own.listen_address)?;
    ring(&own.ring).or_else(|(key, message)| wrong(format!("ring.{key}"), message))?;
    memory(&own.memory).or_else(|(key, message)| wrong(format!("memory.{key}"), message))?;
    let share = own.uplink.live_share;
    if share.thousandths > 0 && !config.remote_write.iter().any(|remote| remote.accepts_out_of_order) {
        let expected = "0: no remote has accepts_out_of_order: true, which says that its receiver takes samples older than what it has \
                        (Prometheus and Mimir with out_of_order_time_window, VictoriaMetrics)";
        return wrong("uplink.live_share", found(share, expected));
    }
    Ok(())
}

/// `host:port` with an address instead of a name, since nothing is resolved to listen.
fn listen(address: &str) -> Check {
    if address.is_empty() {
        return Ok(());
    }
    if cfg!(not(feature = "status-port")) {
        return wrong(
            "listen_address",
            "this build has no status port: it was made without the feature status-port",
        );
    }
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host_is_address = host.is_empty()
        || host == "localhost"
        || HostPort::parse(host).is_ok_and(|a| a.host.parse::<core::net::IpAddr>().is_ok());
    if host_is_address && port.parse::<u16>().is_ok() {
        return Ok(());
    }
    wrong(
        "listen_address",
        format!("found {address:?}, expected ADDRESS:PORT such as 127.0.0.1:9099 or [::1]:0, or \"\" for no listener"),
    )
}

fn ring(ring: &Ring) -> Check {
    let (size, segment, block) = (ring.size.bytes, ring.segment_size.bytes, ring.block_size.bytes);
    if ring.path.is_empty() {
        return wrong("path", "found nothing, expected a file, block device or /dev/mtdN");
    }
    if !block.is_power_of_two() || !BLOCK_BYTES.contains(&block) {
        return wrong(
            "block_size",
            found(ring.block_size, "a power of two from 256B to 64KiB"),
        );
    }
    let blocks = segment / block;
    if !segment.is_multiple_of(block) || !blocks.is_power_of_two() || !BLOCKS_PER_SEGMENT.contains(&blocks) {
        let expected = format!("4, 8, 16, ... or 1024 times block_size ({})", ring.block_size);
        return wrong("segment_size", found(ring.segment_size, expected));
    }
    if !size.is_multiple_of(segment) || !(MIN_SEGMENTS..=MAX_SEGMENTS).contains(&(size / segment)) {
        let expected = format!(
            "{MIN_SEGMENTS} to {MAX_SEGMENTS} times segment_size ({})",
            ring.segment_size
        );
        return wrong("size", found(ring.size, expected));
    }
    Ok(())
}

fn memory(memory: &Memory) -> Check {
    if memory.max_series == 0 || memory.max_series as usize > MAX_SERIES {
        return wrong("max_series", found(memory.max_series, format!("1 to {MAX_SERIES}")));
    }
    if memory.max_concurrent_scrapes == 0 || memory.max_concurrent_scrapes as usize > MAX_TARGETS {
        return wrong(
            "max_concurrent_scrapes",
            found(memory.max_concurrent_scrapes, format!("1 to {MAX_TARGETS}")),
        );
    }
    Ok(())
}
