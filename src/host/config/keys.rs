//! Keys that Prometheus knows and tidegate does not act upon, and the help for unknown keys.
//!
//! A key of a struct falls into one of three groups: it is a field (implemented); it is listed here
//! as *ignored* (accepted with a warning) or *refused* (an error with the reason and what to do);
//! or it is unknown. A field may be listed as well, when only some of its values are implemented.
//!
//! Source: prometheus.md §4, column "Edge".

use core::fmt;

/// What to do with a key although, or because, the struct does not act upon it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    /// Error instead of warning.
    pub refused: bool,
    /// Scalar values that ask for what tidegate does anyway: neither error nor warning.
    pub unless: &'static [&'static str],
    /// The reason, and what to do instead.
    pub why: &'static str,
}

const HTTP: &[&str] = &["ScrapeConfig", "RemoteWrite"];
const OFF: &[&str] = &[
    "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N", "0", "0s", "[]", "",
];

const fn ignored(why: &'static str) -> Verdict {
    Verdict {
        refused: false,
        unless: OFF,
        why,
    }
}

const fn refused(why: &'static str) -> Verdict {
    Verdict {
        refused: true,
        unless: OFF,
        why,
    }
}

/// Struct names, key, verdict.
type Entry = (&'static [&'static str], &'static str, Verdict);

const AGENT: &str = "not allowed in agent mode: tidegate only scrapes and forwards; remove it";
const JWT: &str = "signed assertions are not supported: use grant_type client_credentials with client_secret_file";
const ROLE: &str = "roles are not assumed, keys are never fetched from STS: use the keys of a user that may remote-write, or a profile whose keys another program renews (read anew for every request)";
const REF: &str = "secret providers are not supported: use the key ending in _file";

#[rustfmt::skip]
const ENTRIES: &[Entry] = &[
    (&["Config"], "alerting", refused(AGENT)),
    (&["Config"], "rule_files", refused(AGENT)),
    (&["Config"], "remote_read", refused(AGENT)),
    (&["Config"], "otlp", ignored("has no effect: there is no OTLP receiver")),
    (&["Config"], "tracing", ignored("has no effect: tidegate emits no traces")),
    (&["Config"], "runtime", ignored("has no effect: it tunes the Go runtime; see tidegate.memory")),
    (&["Storage"], "exemplars", ignored("has no effect: exemplars are kept on the ring until they are sent")),
    (&["Tsdb"], "retention", ignored("has no effect: see tidegate.ring for what is kept")),
    (&["Global"], "evaluation_interval", ignored("has no effect: rules are not evaluated in agent mode")),
    (&["Global"], "rule_query_offset", ignored("has no effect: rules are not evaluated in agent mode")),
    (&["Global"], "query_log_file", ignored("has no effect: there are no queries in agent mode")),
    (&["ScrapeConfig"], "scrape_classic_histograms", refused("renamed to always_scrape_classic_histograms in Prometheus 3.0")),
    (&["OAuth2"], "client_secret_ref", refused(REF)),
    (&["OAuth2"], "client_certificate_key", refused(JWT)),
    (&["OAuth2"], "client_certificate_key_file", refused(JWT)),
    (&["OAuth2"], "client_certificate_key_ref", refused(JWT)),
    (&["OAuth2"], "client_certificate_key_id", refused(JWT)),
    (&["OAuth2"], "signature_algorithm", refused(JWT)),
    (&["OAuth2"], "iss", refused(JWT)),
    (&["OAuth2"], "audience", refused(JWT)),
    (&["OAuth2"], "claims", refused(JWT)),
    (HTTP, "enable_http2", ignored("has no effect: HTTP/1.1 is always used")),
    (&["SigV4"], "role_arn", refused(ROLE)),
    (&["SigV4"], "external_id", refused(ROLE)),
    (&["SigV4"], "use_fips_sts_endpoint", ignored("has no effect: STS is not asked for anything")),
    (&["RemoteWrite"], "azuread", refused("not supported yet: use authorization with credentials_file")),
    (&["RemoteWrite"], "google_iam", refused("not supported: Google Cloud does not accept remote write with it either")),
    (&["RemoteWrite"], "round_robin_dns", ignored("has no effect: one connection is kept open")),
    (&["RemoteWrite"], "failed_request_logging", ignored("has no effect: the receiver's answer is logged, the request is not")),
    (&["QueueConfig"], "max_retries", refused("removed in Prometheus 2.x: temporary errors are retried for as long as the ring holds the samples; remove it")),
    (&["QueueConfig"], "capacity", ignored("has no effect: the ring is the queue, see tidegate.ring.size")),
    (&["QueueConfig"], "max_shards", Verdict { refused: false, unless: &["1"], why: "has no effect: there is one shard" }),
    (&["QueueConfig"], "min_shards", Verdict { refused: false, unless: &["1"], why: "has no effect: there is one shard" }),
    (&["BasicAuth"], "username_ref", refused(REF)),
    (&["BasicAuth"], "password_ref", refused(REF)),
    (&["Authorization"], "credentials_ref", refused(REF)),
    (&["TlsConfig"], "ca_ref", refused(REF)),
    (&["TlsConfig"], "cert_ref", refused(REF)),
    (&["TlsConfig"], "key_ref", refused(REF)),
];

/// Prometheus' discovery mechanisms, without `_sd_configs`.
const DISCOVERY: Verdict =
    refused("service discovery is not supported: list the targets in static_configs, or in files with file_sd_configs");

/// What is known of `key` in struct `shape` besides its field.
pub(super) fn verdict(shape: &str, key: &str) -> Option<Verdict> {
    if let Some((_, _, verdict)) = ENTRIES
        .iter()
        .find(|(shapes, k, _)| *k == key && shapes.contains(&shape))
    {
        return Some(*verdict);
    }
    let discovery = shape == "ScrapeConfig" && key.ends_with("_sd_configs") && key != "file_sd_configs";
    discovery.then_some(DISCOVERY)
}

/// Message for a key nobody knows: the closest key first, then all of them.
pub(super) struct Unknown<'a> {
    /// As found.
    pub key: &'a str,
    /// Fields of the struct.
    pub fields: &'static [&'static str],
    /// Name of the struct.
    pub shape: &'a str,
}

impl fmt::Display for Unknown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown key {:?}", self.key)?;
        let listed = ENTRIES.iter().filter(|e| e.0.contains(&self.shape)).map(|e| e.1);
        match closest(self.key, self.fields.iter().copied().chain(listed)) {
            Some(close) => write!(f, ", did you mean {close}? accepted: ")?,
            None => f.write_str(", accepted: ")?,
        }
        joined(f, self.fields)
    }
}

/// `one of a, b, c`, or just `a`.
pub(super) struct List<'a>(pub &'a [&'a str]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 1 {
            f.write_str("one of ")?;
        }
        joined(f, self.0)
    }
}

fn joined(f: &mut fmt::Formatter<'_>, names: &[&str]) -> fmt::Result {
    for (i, name) in names.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { ", " })?;
        f.write_str(name)?;
    }
    Ok(())
}

/// The candidate with the fewest edits, if these are few for its length.
fn closest<'a>(key: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|c| (edits(key.as_bytes(), c.as_bytes()), c))
        .filter(|(n, c)| *n <= 2.min(c.len() / 3).max(1))
        .min_by_key(|(n, _)| *n)
        .map(|(_, c)| c)
}

/// Longest key compared; every known key is shorter.
const LONGEST_KEY: usize = 48;

/// Insertions, deletions, replacements between `a` and `b`; `usize::MAX` when one is longer than any key.
fn edits(a: &[u8], b: &[u8]) -> usize {
    if a.len() >= LONGEST_KEY || b.len() >= LONGEST_KEY {
        return usize::MAX;
    }
    let mut row: [usize; LONGEST_KEY] = core::array::from_fn(|i| i);
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_single_edits() {
        assert_eq!(edits(b"scrape_intervall", b"scrape_interval"), 1);
        assert_eq!(edits(b"", b"abc"), 3);
        assert_eq!(edits(b"same", b"same"), 0);
        assert_eq!(edits(&[b'a'; LONGEST_KEY], b"a"), usize::MAX);
    }

    #[test]
    fn close_matches_are_suggested_and_far_ones_are_not() {
        let keys = ["scrape_interval", "scrape_timeout", "url"];
        assert_eq!(closest("scrape_intervall", keys.into_iter()), Some("scrape_interval"));
        assert_eq!(closest("urls", keys.into_iter()), Some("url"));
        assert_eq!(closest("colour", keys.into_iter()), None);
    }

    #[test]
    fn every_listed_key_is_short_enough_to_be_suggested() {
        assert!(ENTRIES.iter().all(|e| e.1.len() < LONGEST_KEY));
    }
}
