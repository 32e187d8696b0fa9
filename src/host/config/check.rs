//! Rules that concern more than one key, and ranges.
//!
//! Runs after [`super::resolve`], so that inherited values are seen. The first violation is
//! reported. Source: prometheus.md §4.1-4.5, SCR-409, SCR-607, RW-08; flash.md §2.1 (geometry).

use super::http::{Authorization, BasicAuth, HttpClient, TlsConfig, TlsVersion};
use super::load::Fault;
use super::resolve::job_fault;
use super::scrape::{
    Action, DEFAULT_REGEX, DEFAULT_REPLACEMENT, DEFAULT_SEPARATOR, FileSdConfig, RelabelConfig, ValidationScheme,
};
use super::url::{HostPort, Scheme};
use super::{Config, Memory, RemoteWrite, Ring, ScrapeConfig};
use crate::labels::NameScheme;
use crate::limits::{MAX_LABELS, MAX_REMOTES, MAX_SERIES, MAX_TARGETS};
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;

/// Segments a ring needs: one being written, one being read, one to move to.
pub const MIN_SEGMENTS: u64 = 3;

/// Slots the ring format can number (flash.md §2.1).
pub const MAX_SEGMENTS: u64 = 4_096;

/// Blocks of one segment (flash.md §2.1).
pub const MAX_BLOCKS_PER_SEGMENT: u64 = 1_024;

/// Smallest and largest block (flash.md §2.1).
pub const BLOCK_BYTES: core::ops::RangeInclusive<u64> = 256..=65_536;

/// Largest `max_samples_per_send`: the batch buffers hold it in RAM, about 50 bytes each.
pub const MAX_SAMPLES_PER_SEND: u32 = 20_000;

/// Headers that a sender must set itself (RW-08), in lower case.
const RESERVED_HEADERS: [&str; 17] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// Reserved in `http_headers` of a job besides those.
const SCRAPE_TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// A violation below the entry at hand: key and message.
type Check = Result<(), (String, String)>;

fn wrong(key: impl Into<String>, message: impl Into<String>) -> Check {
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
        check_remote(remote, earlier).map_err(|(key, message)| fault(&key, message))?;
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

fn is_label_name(name: &str, scheme: ValidationScheme) -> bool {
    NameScheme::from(scheme).allows_label(name)
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

const fn label_rule(scheme: ValidationScheme) -> &'static str {
    match scheme {
        ValidationScheme::Utf8 => "at least one character",
        ValidationScheme::Legacy => {
            "letters, digits and underscores, no digit first (metric_name_validation_scheme: legacy)"
        }
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

fn file_sd(sd: &FileSdConfig) -> Check {
    if sd.files.is_empty() {
        return wrong("files", "found no file, expected at least one");
    }
    for (n, file) in sd.files.iter().enumerate() {
        let name = file.rsplit('/').next().unwrap_or(file);
        let ending = [".json", ".yml", ".yaml"].iter().any(|e| name.ends_with(e));
        let stars = file.bytes().filter(|b| *b == b'*').count();
        if !ending || stars > 1 || (stars == 1 && !name.contains('*')) {
            let message = format!(
                "found {file:?}, expected a path ending in .json, .yml or .yaml with at most one * in its last part"
            );
            return wrong(format!("files[{n}]"), message);
        }
    }
    Ok(())
}

fn rules(key: &str, rules: &[RelabelConfig], scheme: ValidationScheme) -> Check {
    for (n, rule) in rules.iter().enumerate() {
        relabel(rule, scheme).or_else(|(k, message)| wrong(format!("{key}[{n}].{k}"), message))?;
    }
    Ok(())
}

/// SCR-607. The regular expression itself is checked where it is compiled.
fn relabel(rule: &RelabelConfig, scheme: ValidationScheme) -> Check {
    let action = rule.action;
    let needs_target = matches!(
        action,
        Action::Replace
            | Action::HashMod
            | Action::Lowercase
            | Action::Uppercase
            | Action::KeepEqual
            | Action::DropEqual
    );
    if needs_target && rule.target_label.is_empty() {
        return wrong(
            "target_label",
            format!("found nothing, expected a label name (action {action} needs it)"),
        );
    }
    if action == Action::HashMod && rule.modulus == 0 {
        return wrong(
            "modulus",
            "found 0, expected a number above 0 (action hashmod needs it)",
        );
    }
    let changed = [
        ("source_labels", !rule.source_labels.is_empty()),
        ("target_label", !rule.target_label.is_empty()),
        ("modulus", rule.modulus != 0),
        ("separator", rule.separator != DEFAULT_SEPARATOR),
        ("replacement", rule.replacement != DEFAULT_REPLACEMENT),
        ("regex", rule.regex != DEFAULT_REGEX),
    ];
    let allowed: &[&str] = match action {
        Action::LabelDrop | Action::LabelKeep => &["regex"],
        Action::KeepEqual | Action::DropEqual => &["source_labels", "target_label"],
        Action::Lowercase | Action::Uppercase => &["source_labels", "target_label", "separator", "regex", "modulus"],
        _ => &[
            "source_labels",
            "target_label",
            "modulus",
            "separator",
            "replacement",
            "regex",
        ],
    };
    if let Some((key, _)) = changed.iter().find(|(key, set)| *set && !allowed.contains(key)) {
        return wrong(
            *key,
            format!(
                "found a value, expected none: action {action} accepts only {}",
                allowed.join(", ")
            ),
        );
    }
    let template = match action {
        Action::Replace => ("target_label", rule.target_label.as_str()),
        Action::LabelMap => ("replacement", rule.replacement.as_str()),
        Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual | Action::HashMod => {
            if is_label_name(&rule.target_label, scheme) {
                return Ok(());
            }
            return wrong(
                "target_label",
                format!("found {:?}, expected {}", rule.target_label, label_rule(scheme)),
            );
        }
        _ => return Ok(()),
    };
    if is_label_template(template.1, scheme) {
        return Ok(());
    }
    wrong(
        template.0,
        format!(
            "found {:?}, expected a label name that may contain ${{1}} (metric_name_validation_scheme: {scheme})",
            template.1
        ),
    )
}

/// A label name in which `$n`, `${n}` and `${name}` stand for parts.
fn is_label_template(template: &str, scheme: ValidationScheme) -> bool {
    if scheme == ValidationScheme::Utf8 {
        return !template.is_empty();
    }
    // Each reference is replaced by a letter; what remains must be a name.
    let mut plain = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        plain.push_str(before);
        plain.push('x');
        let (name, next) = match after.strip_prefix('{') {
            Some(inner) => match inner.split_once('}') {
                Some(parts) => parts,
                None => return false,
            },
            None => after.split_at(
                after
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(after.len()),
            ),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return false;
        }
        rest = next;
    }
    plain.push_str(rest);
    is_label_name(&plain, scheme)
}

/// `key` and `key_file` style pairs of which one at most may be set.
fn either(key: &str, a: (&str, bool), b: (&str, bool)) -> Check {
    if a.1 && b.1 {
        return wrong(
            format!("{key}.{}", a.0),
            format!("found {} and {}, expected at most one of them", a.0, b.0),
        );
    }
    Ok(())
}

fn http(client: &HttpClient<'_>) -> Check {
    if let Some(auth) = client.basic_auth {
        let BasicAuth {
            username,
            username_file,
            password,
            password_file,
        } = auth;
        either(
            "basic_auth",
            ("username", !username.is_empty()),
            ("username_file", !username_file.is_empty()),
        )?;
        either(
            "basic_auth",
            ("password", !password.is_empty()),
            ("password_file", !password_file.is_empty()),
        )?;
    }
    if let Some(auth) = client.authorization {
        let Authorization {
            r#type,
            credentials,
            credentials_file,
        } = auth;
        either(
            "authorization",
            ("credentials", !credentials.is_empty()),
            ("credentials_file", !credentials_file.is_empty()),
        )?;
        if r#type.trim().eq_ignore_ascii_case("basic") {
            return wrong(
                "authorization.type",
                format!("found {type:?}, expected another type: use basic_auth"),
            );
        }
        header("authorization.type", "Authorization", r#type)?;
    }
    tls(client.tls_config)?;
    proxy(client)?;
    for (name, values) in client.http_headers.iter() {
        let key = format!("http_headers.{name}");
        reserved(&key, name)?;
        for value in values
            .values
            .iter()
            .map(String::as_str)
            .chain(values.secrets.iter().map(|s| s.reveal()))
        {
            header(&key, name, value)?;
        }
    }
    Ok(())
}

fn old_tls(tls: &TlsConfig) -> Option<String> {
    let old = matches!(tls.min_version, Some(TlsVersion::Tls10 | TlsVersion::Tls11));
    old.then(|| "TLS 1.0 and 1.1 are never used: the lowest version is TLS12".to_string())
}

fn tls(tls: &TlsConfig) -> Check {
    let cert = !tls.cert.is_empty() || !tls.cert_file.is_empty();
    let key = !tls.key.is_empty() || !tls.key_file.is_empty();
    either(
        "tls_config",
        ("ca", !tls.ca.is_empty()),
        ("ca_file", !tls.ca_file.is_empty()),
    )?;
    either(
        "tls_config",
        ("cert", !tls.cert.is_empty()),
        ("cert_file", !tls.cert_file.is_empty()),
    )?;
    either(
        "tls_config",
        ("key", !tls.key.is_empty()),
        ("key_file", !tls.key_file.is_empty()),
    )?;
    if cert != key {
        let (has, lacks) = if cert {
            ("a certificate", "key or key_file")
        } else {
            ("a key", "cert or cert_file")
        };
        return wrong("tls_config", format!("found {has} alone, expected {lacks} as well"));
    }
    if matches!(tls.max_version, Some(TlsVersion::Tls10 | TlsVersion::Tls11)) {
        return wrong(
            "tls_config.max_version",
            "found a version below TLS12, expected TLS12 or TLS13",
        );
    }
    if tls.min_version == Some(TlsVersion::Tls13) && tls.max_version == Some(TlsVersion::Tls12) {
        return wrong(
            "tls_config.max_version",
            "found TLS12, expected at least min_version (TLS13)",
        );
    }
    Ok(())
}

fn proxy(client: &HttpClient<'_>) -> Check {
    match client.proxy_url {
        Some(url) if url.scheme != Scheme::Http => wrong(
            "proxy_url",
            format!("found scheme {:?}, expected http", url.scheme_text),
        ),
        Some(_) if client.proxy_from_environment => wrong(
            "proxy_url",
            "found proxy_url and proxy_from_environment, expected at most one of them",
        ),
        None if !client.no_proxy.is_empty() => wrong("no_proxy", "found a value, expected proxy_url as well"),
        None if !client.proxy_from_environment && !client.proxy_connect_header.is_empty() => {
            wrong("proxy_connect_header", "found a value, expected proxy_url as well")
        }
        _ => Ok(()),
    }
}

fn reserved(key: &str, name: &str) -> Check {
    if RESERVED_HEADERS.iter().any(|r| r.eq_ignore_ascii_case(name)) {
        return wrong(
            key,
            "this header is set by tidegate; use basic_auth or authorization for credentials",
        );
    }
    Ok(())
}

/// Characters a header may consist of (RFC 9110 §5.5, §5.6.2); the value is not shown, it may be secret.
fn header(key: &str, name: &str, value: &str) -> Check {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return wrong(
            key,
            format!("found header name {name:?}, expected letters, digits and dashes"),
        );
    }
    if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return wrong(
            key,
            "found a line break or control character in a header, expected visible characters",
        );
    }
    Ok(())
}

fn check_remote(remote: &RemoteWrite, earlier: &[RemoteWrite]) -> Check {
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
    rules(
        "write_relabel_configs",
        &remote.write_relabel_configs,
        ValidationScheme::Utf8,
    )?;
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
    memory(&own.memory).or_else(|(key, message)| wrong(format!("memory.{key}"), message))
}

/// `host:port` with an address instead of a name, since nothing is resolved to listen.
fn listen(address: &str) -> Check {
    if address.is_empty() {
        return Ok(());
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
    if segment == 0 || !segment.is_multiple_of(block) || segment / block > MAX_BLOCKS_PER_SEGMENT {
        let expected = format!("1 to {MAX_BLOCKS_PER_SEGMENT} times block_size ({})", ring.block_size);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_templates_follow_the_validation_scheme() {
        for good in ["label${1}", "_${1}_", "$1", "${name}x", "plain"] {
            assert!(is_label_template(good, ValidationScheme::Legacy), "{good}");
        }
        for bad in ["-label", "${", "bar.foo${1}bar", "", "${}", "$", "1x", "${a-b}"] {
            assert!(!is_label_template(bad, ValidationScheme::Legacy), "{bad}");
        }
        assert!(is_label_template("-${3}", ValidationScheme::Utf8));
    }
}
