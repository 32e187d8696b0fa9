//! The table of rules (`tests/scr_rules.md`) names every rule and key, and tests that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const TABLE: &str = include_str!("scr_rules.md");

/// Numbers that there are, first to last.
const RULES: &[(&str, usize, u32, u32)] = &[
    ("SCR", 3, 101, 118),
    ("SCR", 3, 201, 206),
    ("SCR", 3, 211, 215),
    ("SCR", 3, 301, 308),
    ("SCR", 3, 401, 409),
    ("SCR", 3, 501, 509),
    ("SCR", 3, 601, 609),
    ("SCR", 3, 651, 654),
    ("SCR", 3, 701, 704),
    ("SCR", 3, 801, 811),
    ("SCR", 3, 821, 826),
    ("SCR", 3, 841, 848),
    ("SCR", 3, 901, 903),
    ("SCR", 3, 951, 953),
    ("TXT", 2, 1, 13),
    ("OM", 2, 1, 10),
];

/// Keys of the reference's tables (§4.1 to §4.7) that an operator may write.
const KEYS: &[&str] = &[
    "scrape_interval",
    "scrape_timeout",
    "scrape_protocols",
    "evaluation_interval",
    "rule_query_offset",
    "external_labels",
    "query_log_file",
    "scrape_failure_log_file",
    "body_size_limit",
    "sample_limit",
    "target_limit",
    "label_limit",
    "label_name_length_limit",
    "label_value_length_limit",
    "keep_dropped_targets",
    "metric_name_validation_scheme",
    "metric_name_escaping_scheme",
    "scrape_native_histograms",
    "convert_classic_histograms_to_nhcb",
    "always_scrape_classic_histograms",
    "extra_scrape_metrics",
    "runtime",
    "scrape_config_files",
    "scrape_configs",
    "remote_write",
    "storage",
    "otlp",
    "tracing",
    "alerting",
    "rule_files",
    "remote_read",
    "job_name",
    "fallback_scrape_protocol",
    "metrics_path",
    "scheme",
    "params",
    "honor_labels",
    "honor_timestamps",
    "track_timestamps_staleness",
    "enable_compression",
    "native_histogram_bucket_limit",
    "native_histogram_min_bucket_factor",
    "static_configs",
    "file_sd_configs",
    "refresh_interval",
    "*_sd_configs",
    "relabel_configs",
    "metric_relabel_configs",
    "url",
    "protobuf_message",
    "remote_timeout",
    "headers",
    "write_relabel_configs",
    "name",
    "send_exemplars",
    "send_native_histograms",
    "round_robin_dns",
    "failed_request_logging",
    "capacity",
    "max_shards",
    "min_shards",
    "max_samples_per_send",
    "batch_send_deadline",
    "min_backoff",
    "max_backoff",
    "retry_on_http_429",
    "sample_age_limit",
    "metadata_config",
    "sigv4",
    "azuread",
    "google_iam",
    "oauth2",
    "basic_auth",
    "authorization",
    "bearer_token",
    "bearer_token_file",
    "max_retries",
    "scrape_classic_histograms",
    "tls_config",
    "follow_redirects",
    "enable_http2",
    "proxy_url",
    "no_proxy",
    "proxy_from_environment",
    "proxy_connect_header",
    "http_headers",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/metrics",
    "/api/v1/targets",
    "/api/v1/status",
];

/// Words that stand where a rule has no test.
const REASON: &str = "not implemented: ";

/// Cells of the table's rows, without its heads.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    let lines = TABLE
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| rule ") && !line.starts_with("| keys "));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn no_rule_is_missing_and_none_is_there_twice() {
    let mut expected = BTreeSet::new();
    for &(prefix, digits, first, last) in RULES {
        expected.extend((first..=last).map(|number| format!("{prefix}-{number:0digits$}")));
    }
    let mut found = BTreeSet::new();
    for row in rows() {
        let rule = row[0].to_owned();
        if rule.contains('-') && !rule.starts_with('`') {
            assert!(found.insert(rule), "{} stands there twice", row[0]);
        }
    }
    let missing: Vec<_> = expected.difference(&found).collect();
    let unknown: Vec<_> = found.difference(&expected).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing {missing:?}, unknown {unknown:?}"
    );
}

#[test]
fn every_key_has_its_row() {
    let mut found = BTreeMap::new();
    for row in rows().filter(|row| row[0].starts_with('`')) {
        for key in quoted(row[0]) {
            assert!(found.insert(key, row[1]).is_none(), "{key} stands there twice");
        }
    }
    let missing: Vec<_> = KEYS.iter().filter(|key| !found.contains_key(*key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let unknown: Vec<_> = found.keys().filter(|key| !KEYS.contains(key)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_row_names_tests_that_exist_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts: BTreeMap<&str, String> = BTreeMap::new();
    let (mut proved, mut reasons) = (0, 0);
    for row in rows() {
        let [rule, _, proof] = row[..] else {
            panic!("three cells: {row:?}")
        };
        if let Some(reason) = proof.strip_prefix(REASON) {
            assert!(reason.len() > 20, "{rule}: {reason:?}");
            reasons += 1;
            continue;
        }
        let mut tests = 0;
        for test in quoted(proof) {
            let (file, name) = test
                .split_once("::")
                .unwrap_or_else(|| panic!("{rule}: {test:?} is no file::test"));
            let text = texts.entry(file).or_insert_with(|| {
                std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{rule}: {file}: {error}"))
            });
            let definition = text
                .split(&format!("fn {name}()"))
                .next()
                .filter(|before| before.len() < text.len());
            let before = definition.unwrap_or_else(|| panic!("{rule}: no {name} in {file}"));
            let attributes = before.rsplit("#[test]").next().unwrap_or_default();
            assert!(attributes.lines().count() <= 4, "{rule}: {name} in {file} is no test");
            tests += 1;
        }
        assert!(tests > 0, "{rule} has neither a test nor a reason");
        proved += 1;
    }
    assert!(
        proved > 150 && reasons < 6,
        "{proved} rows with tests, {reasons} with reasons"
    );
}
