//! Configuration files, from text on disk to the loaded structs and the messages about them.
#![cfg(feature = "host")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use tidegate::exposition::{DEFAULT_PROTOCOLS, PROTOBUF_FIRST};
use tidegate::host::config::*;

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-config-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    }

    fn load(&self, text: impl AsRef<[u8]>) -> Result<Loaded, ConfigError> {
        Config::load(&self.write("tidegate.yml", text))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/testdata/config")
        .join(name)
}

/// Compares with the golden file, or writes it when `TIDEGATE_GOLDEN=write`.
fn golden(name: &str, actual: &str) {
    let path = testdata(name);
    if std::env::var("TIDEGATE_GOLDEN").as_deref() == Ok("write") {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    for (n, (a, e)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(a, e, "{} line {}", path.display(), n + 1);
    }
    assert_eq!(actual.len(), expected.len(), "{}", path.display());
}

#[test]
fn bad_configurations_are_refused_with_these_messages() {
    let dir = Dir::new("bad");
    let source = fs::read_to_string(testdata("bad.txt")).unwrap();
    let mut out = String::new();
    let mut yaml: Option<String> = None;
    let mut cases = 0;
    for line in source.lines() {
        if line.starts_with("### ") {
            yaml = Some(String::new());
        } else if line.starts_with(">>>") {
            let text = yaml.take().expect("a case ends that did not begin");
            let error = dir.load(&text).expect_err(&format!("accepted:\n{text}"));
            let place = error
                .position
                .map_or(String::new(), |p| format!("{}:{}", p.line, p.column));
            let message = error.to_string();
            let prefix = format!("{}{}{place}: ", error.file, if place.is_empty() { "" } else { ":" });
            let message = message.strip_prefix(&prefix).unwrap_or(&message);
            writeln!(out, ">>> {place} {message}").unwrap();
            cases += 1;
            continue;
        } else if let Some(yaml) = &mut yaml {
            writeln!(yaml, "{line}").unwrap();
        }
        writeln!(out, "{line}").unwrap();
    }
    assert!(cases > 100);
    golden("bad.txt", &out);
}

fn yaml(config: &Config) -> String {
    let mut out = String::new();
    config.write_yaml(&mut out).unwrap();
    out
}

/// `path` relative to the checkout, so that golden files are the same everywhere.
fn portable(text: &str) -> String {
    text.replace(testdata("").to_str().unwrap(), "DIR/")
}

fn warnings(loaded: &Loaded) -> String {
    portable(&loaded.warnings.iter().map(|w| format!("{w}\n")).collect::<String>())
}

/// Follows none of the rules: what targets look like before relabelling.
fn no_rules(_: usize, _: &mut tidegate::labels::Labels) -> Result<bool, String> {
    Ok(true)
}

#[test]
fn every_key_has_the_documented_default() {
    let dir = Dir::new("defaults");
    let minimal = "scrape_configs:\n- job_name: a\nremote_write:\n- url: http://h/\n";
    let loaded = dir.load(minimal).unwrap();
    assert_eq!(loaded.warnings, []);
    golden("defaults.yml", &yaml(&loaded.config));
    for empty in [
        "",
        "\n# nothing\n",
        "---\n",
        "{}",
        "\u{feff}",
        "global:\nscrape_configs:\nremote_write: ~\ntidegate: null\n",
    ] {
        let loaded = dir.load(empty).unwrap_or_else(|e| panic!("{empty:?}: {e}"));
        let expected = Global {
            scrape_timeout: Duration::from_secs(10),
            metric_name_escaping_scheme: Some(EscapingScheme::AllowUtf8),
            ..Global::default()
        };
        assert_eq!(
            loaded.config,
            Config {
                global: expected,
                ..Config::default()
            },
            "{empty:?}"
        );
    }
}

#[test]
fn a_long_real_configuration_loads_as_meant() {
    let loaded = Config::load(testdata("gateway.yml").to_str().unwrap()).unwrap();
    golden("gateway.effective.yml", &portable(&yaml(&loaded.config)));
    golden("gateway.warnings.txt", &warnings(&loaded));
    let text = yaml(&loaded.config);
    for secret in ["s3cr3t", "local-token"] {
        assert!(
            !text.contains(secret) && !format!("{loaded:?}").contains(secret),
            "{secret} is visible"
        );
    }
    let auth = loaded.config.remote_write[0].basic_auth.as_ref().unwrap();
    assert_eq!((auth.username.as_str(), auth.password.reveal()), ("tenant", "s3cr3t"));
}

#[test]
fn the_dump_loads_to_the_same_configuration() {
    let first = Config::load(testdata("gateway.yml").to_str().unwrap()).unwrap().config;
    let dump = yaml(&first);
    let second = Dir::new("again").load(&dump).unwrap().config;
    assert_eq!(yaml(&second), dump);
    // What the dump does not show must be equal too, but for secrets and the place a job was written at.
    let strip = |mut config: Config| {
        config.scrape_config_files.clear();
        for job in &mut config.scrape_configs {
            job.origin = Origin::default();
        }
        for remote in &mut config.remote_write {
            remote.url.userinfo = None;
            remote.authorization = None;
            remote.basic_auth = None;
        }
        config
    };
    assert_eq!(strip(second), strip(first));
}

#[test]
fn configurations_of_the_compliance_suites_load() {
    let dir = Dir::new("compliance");
    let remote_write_1 = "global:\n  scrape_interval: 1s\n\nremote_write:\n  - url: 'http://127.0.0.1:41003/push'\n\n\
        scrape_configs:\n  - job_name: 'test'\n    static_configs:\n    - targets: ['127.0.0.1:41003']\n";
    let loaded = dir.load(remote_write_1).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.scrape_configs[0].scrape_timeout, Duration::from_secs(1));

    let table = "global:\n  scrape_interval: 1s\nremote_write:\n  - url: http://127.0.0.1:41004\n    protobuf_message: io.prometheus.write.v2.Request\n    \
        send_exemplars: true\n    metadata_config:\n      send: true\nscrape_configs:\n  - job_name: test\n    \
        scrape_protocols: [OpenMetricsText1.0.0, PrometheusText0.0.4]\n    static_configs:\n      - targets: ['127.0.0.1:41005']\n";
    let loaded = dir.load(table).unwrap();
    assert_eq!(
        loaded.config.remote_write[0].protobuf_message,
        Some(ProtobufMessage::V2)
    );
    assert_eq!(loaded.config.remote_write[0].url.path_and_query, "/");

    // One case gives a URL that no request can be made of; the sender must start all the same.
    let loaded = dir
        .load(table.replace("http://127.0.0.1:41004", "invalid://localhost:9999"))
        .unwrap();
    assert_eq!(loaded.config.remote_write[0].url.scheme, Scheme::Other);
    assert!(
        warnings(&loaded).contains("nothing can be sent"),
        "{}",
        warnings(&loaded)
    );

    let library = table.replace("[OpenMetrics", "[PrometheusProto, OpenMetrics").replace(
        "    metadata_config:",
        "    queue_config:\n      retry_on_http_429: true\n    metadata_config:",
    );
    let loaded = dir.load(library).unwrap();
    assert!(loaded.config.remote_write[0].queue_config.retry_on_http_429);
    let offered = &loaded.config.scrape_configs[0].scrape_protocols;
    assert_eq!(
        offered[..],
        [
            ScrapeProtocol::PrometheusProto,
            ScrapeProtocol::OpenMetricsText100,
            ScrapeProtocol::PrometheusText004
        ]
    );
}

#[test]
fn native_histograms_are_asked_for_in_protobuf_unless_the_file_says_otherwise() {
    let loaded = Dir::new("native")
        .load(
            "global: {scrape_native_histograms: true, always_scrape_classic_histograms: true}\n\
             scrape_configs:\n- {job_name: a}\n- {job_name: b, scrape_protocols: [PrometheusText0.0.4]}\n\
             - {job_name: c, scrape_native_histograms: false, always_scrape_classic_histograms: false}\n\
             - {job_name: e, scrape_native_histograms: false, convert_classic_histograms_to_nhcb: true}\n\
             - {job_name: d, native_histogram_bucket_limit: 160, native_histogram_min_bucket_factor: 1.1}\n\
             remote_write:\n- {url: 'http://h/'}\n",
        )
        .unwrap();
    let [a, b, c, e, d] = &loaded.config.scrape_configs[..] else {
        panic!("five jobs")
    };
    for (job, expected) in [(a, false), (e, true)] {
        assert_eq!(job.convert_classic_histograms_to_nhcb, Some(expected));
    }
    assert_eq!(
        warnings(&loaded)
            .matches("no remote has send_native_histograms")
            .count(),
        4
    );
    assert_eq!(a.scrape_protocols[..], PROTOBUF_FIRST);
    assert_eq!(b.scrape_protocols[..], [ScrapeProtocol::PrometheusText004]);
    assert_eq!(c.scrape_protocols[..], DEFAULT_PROTOCOLS);
    for (job, expected) in [(a, true), (b, true), (c, false)] {
        assert_eq!(job.scrape_native_histograms, Some(expected));
        assert_eq!(job.always_scrape_classic_histograms, Some(expected));
    }
    assert_eq!(
        (
            d.native_histogram_bucket_limit,
            d.native_histogram_min_bucket_factor.max_schema()
        ),
        (160, 2)
    );
    assert_eq!(a.native_histogram_min_bucket_factor.max_schema(), 8);
    for (factor, schema) in [
        ("0", 8),
        ("1", 8),
        ("1.00271", 8),
        ("1.003", 7),
        ("2", 0),
        ("2.0001", -1),
        ("65536", -4),
        ("1e300", -4),
    ] {
        let text = format!(
            "scrape_configs:\n- {{job_name: a, native_histogram_min_bucket_factor: {factor}}}\nremote_write:\n- {{url: 'http://h/'}}\n"
        );
        let loaded = Dir::new("factor").load(text).unwrap();
        let found = loaded.config.scrape_configs[0]
            .native_histogram_min_bucket_factor
            .max_schema();
        assert_eq!(found, schema, "{factor}");
    }
}

#[test]
fn defaults_pass_from_global_to_jobs_and_from_uplink_to_remotes() {
    let loaded = Dir::new("inherit")
        .load(
            "global: {scrape_interval: 5s, sample_limit: 7, body_size_limit: 1MB, metric_name_validation_scheme: legacy}\n\
             scrape_configs:\n- {job_name: a}\n- {job_name: b, scrape_interval: 1m, sample_limit: 9, metric_name_validation_scheme: utf8}\n\
             remote_write:\n- {url: 'http://h/'}\n- {url: 'http://i/', queue_config: {batch_send_deadline: 1s, sample_age_limit: 1h}}\n\
             tidegate: {uplink: {flush_interval: 2m, max_sample_age: 7d}}\n",
        )
        .unwrap();
    let [a, b] = &loaded.config.scrape_configs[..] else {
        panic!("two jobs")
    };
    assert_eq!(
        (a.scrape_interval, a.scrape_timeout),
        (Duration::from_secs(5), Duration::from_secs(5))
    );
    // The global timeout was itself cut to the global interval.
    assert_eq!(
        (b.scrape_interval, b.scrape_timeout),
        (Duration::from_secs(60), Duration::from_secs(5))
    );
    assert_eq!((a.sample_limit, b.sample_limit), (7, 9));
    assert_eq!(b.body_size_limit, Size::from_mib(1));
    assert_eq!(a.metric_name_escaping_scheme, Some(EscapingScheme::Underscores));
    assert_eq!(b.metric_name_escaping_scheme, Some(EscapingScheme::AllowUtf8));
    let [r, s] = &loaded.config.remote_write[..] else {
        panic!("two remotes")
    };
    assert_eq!(
        (r.queue_config.batch_send_deadline, s.queue_config.batch_send_deadline),
        (Duration::from_secs(120), Duration::from_secs(1))
    );
    assert_eq!(
        (r.queue_config.sample_age_limit, s.queue_config.sample_age_limit),
        (Duration::from_secs(604_800), Duration::from_secs(3_600))
    );
    assert_ne!(r.name, s.name);
    assert_eq!(r.name.len(), 6);
}

#[test]
fn a_live_share_needs_a_remote_that_accepts_out_of_order() {
    let dir = Dir::new("share");
    let load = |remote: &str, share: &str| {
        dir.load(format!(
            "remote_write:\n- {{url: 'http://h/'{remote}}}\ntidegate: {{uplink: {{live_share: {share}}}}}\n"
        ))
    };
    let declared = ", accepts_out_of_order: true";
    for (share, thousandths) in [
        ("0", 0),
        ("0.2", 200),
        ("0.05", 50),
        ("0.333", 333),
        ("1", 1000),
        ("1.0", 1000),
    ] {
        let loaded = load(declared, share).unwrap();
        assert_eq!(
            loaded.config.tidegate.uplink.live_share.thousandths, thousandths,
            "{share}"
        );
    }
    assert!(load("", "0").is_ok());
    for (remote, share) in [
        ("", "0.2"),
        (", accepts_out_of_order: false", "1"),
        (declared, "1.001"),
        (declared, "2"),
        (declared, "-0.1"),
        (declared, "0.1234"),
        (declared, ".5"),
        (declared, "20%"),
    ] {
        let error = load(remote, share).unwrap_err().to_string();
        assert!(error.contains("live_share"), "{share}: {error}");
    }
    let error = load("", "0.2").unwrap_err().to_string();
    assert!(
        error.contains("found 0.2") && error.contains("accepts_out_of_order"),
        "{error}"
    );
}

#[test]
fn an_unnamed_remote_keeps_its_name_when_secrets_and_timeouts_change() {
    let dir = Dir::new("name");
    let name = |text: &str| {
        dir.load(format!("remote_write:\n- {text}\n"))
            .unwrap()
            .config
            .remote_write[0]
            .name
            .clone()
    };
    let plain = name("{url: 'http://me:one@h/push'}");
    assert_eq!(plain, name("{url: 'http://me:two@h/push', remote_timeout: 5s}"));
    assert_ne!(plain, name("{url: 'http://h/other'}"));
    assert_ne!(
        plain,
        name("{url: 'http://me:one@h/push', headers: {X-Scope-OrgID: b}}")
    );
}

#[test]
fn job_files_are_merged_and_blamed_by_their_own_name() {
    let dir = Dir::new("files");
    fs::create_dir_all(dir.0.join("d")).unwrap();
    dir.write(
        "d/1.yml",
        "scrape_configs:\n- job_name: x\n  basic_auth: {username: u, password_file: p}\n",
    );
    dir.write("d/2.yml", "scrape_configs:\n- job_name: y\n- job_name: a\n");
    let error = dir
        .load("scrape_config_files: ['d/*.yml']\nscrape_configs: [{job_name: a}]\n")
        .unwrap_err();
    assert!(
        error.to_string().ends_with(
            "d/2.yml:3:13: scrape_configs[1].job_name: found \"a\" a second time, expected a name that no other job has"
        ),
        "{error}"
    );
    let loaded = dir
        .load("scrape_config_files: ['d/1.yml']\nscrape_configs: [{job_name: a}]\n")
        .unwrap();
    let auth = loaded.config.scrape_configs[1].basic_auth.as_ref().unwrap();
    assert_eq!(auth.password_file, dir.0.join("d/p").to_str().unwrap());
    // A pattern that matches nothing is no error: the directory may be filled later.
    assert!(dir.load("scrape_config_files: ['d/*.json']\n").is_ok());
}

#[test]
fn scalars_keep_their_text() {
    let loaded = Dir::new("text")
        .load("global:\n  external_labels: {a: no, b: 0x1F, c: 1e3, d: '', e: ~, f: \"a\\tb\", g: 'it''s', h: 2026-01-01}\n")
        .unwrap();
    let values: Vec<_> = loaded
        .config
        .global
        .external_labels
        .iter()
        .map(|(_, v)| v.as_str())
        .collect();
    assert_eq!(values, ["no", "0x1F", "1e3", "", "~", "a\tb", "it's", "2026-01-01"]);
}

#[test]
fn unreadable_and_oversized_files_are_refused() {
    let dir = Dir::new("size");
    let error = Config::load(dir.0.join("none.yml").to_str().unwrap()).unwrap_err();
    assert!(error.to_string().contains("open: No such file"), "{error}");
    let comment = |n: usize| format!("#{}\n", "x".repeat(n - 2));
    assert!(dir.load(comment(MAX_CONFIG_BYTES)).is_ok());
    let error = dir.load(comment(MAX_CONFIG_BYTES + 1)).unwrap_err();
    assert!(
        error.to_string().ends_with("the file is larger than 262144 bytes"),
        "{error}"
    );
    let error = dir.load(b"global:\n  external_labels: {a: \xff}\n").unwrap_err();
    assert!(
        error.to_string().ends_with("tidegate.yml:2:24: not UTF-8 text"),
        "{error}"
    );
}

#[test]
fn bombs_are_refused_quickly() {
    let dir = Dir::new("bombs");
    let n = MAX_CONFIG_BYTES - 64;
    let laughs: String = (1..10)
        .map(|i| format!("k{i}: &k{i} [{}]\n", vec![format!("*k{}", i - 1); 9].join(",")))
        .collect();
    let bombs = [
        format!("k0: &k0 [lol]\n{laughs}"),
        "[".repeat(n),
        "{a: ".repeat(n / 4),
        "- ".repeat(n / 2),
        "? ".repeat(n / 2),
        format!(
            "global: {{external_labels: {{{}}}}}",
            (0..n / 10).map(|i| format!("k{i}: v,")).collect::<String>()
        ),
        format!("global:\n  external_labels:\n    {}: a", "k".repeat(n)),
        format!("runtime: \"{}", "\\n".repeat(n / 2)),
        format!("%TAG !a! {}\n--- 1", "t".repeat(n)),
        "---\n".repeat(n / 4),
        format!("rule: |\n{}", " \n".repeat(n / 2)),
        "\t".repeat(n),
        "a:\n".repeat(n / 3),
    ];
    for bomb in bombs {
        let start = std::time::Instant::now();
        let result = dir.load(&bomb);
        let took = start.elapsed();
        assert!(took.as_secs() < 10, "{took:?} for {:?}", bomb.get(..40));
        // Tabs alone are an empty file; all the others are refused, in a few words.
        match result {
            Ok(_) => assert!(bomb.trim().is_empty()),
            Err(error) => assert!(error.to_string().len() < 1_024, "{error:.200}"),
        }
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let seeds = [
        fs::read_to_string(testdata("gateway.yml")).unwrap(),
        fs::read_to_string(testdata("bad.txt")).unwrap(),
    ];
    let mut rng = fastrand::Rng::with_seed(7);
    let mut refused = 0;
    for round in 0..4_000 {
        let mut bytes = if round % 4 == 0 {
            let alphabet = b"a:-? \n\t{}[],&*!|>'\"%@`#\\0\xc3\xa9";
            (0..rng.usize(..200))
                .map(|_| alphabet[rng.usize(..alphabet.len())])
                .collect()
        } else {
            let seed = seeds[round % 2].as_bytes();
            let from = rng.usize(..seed.len());
            seed[from..seed.len().min(from + rng.usize(..2_000))].to_vec()
        };
        for _ in 0..rng.usize(..6) {
            if bytes.is_empty() {
                break;
            }
            let at = rng.usize(..bytes.len());
            match rng.u8(..3) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes.insert(at, b" \n:-[]{}\t\"'"[rng.usize(..11)]),
                _ => drop(bytes.remove(at)),
            }
        }
        // Bytes that are no text end before the parser; they are tested with real files.
        let text = String::from_utf8_lossy(&bytes);
        match Config::from_text(&text, "/nowhere/tidegate.yml") {
            Ok(loaded) => {
                drop(loaded.config.expand());
                let dump = yaml(&loaded.config);
                assert!(Config::from_text(&dump, "/nowhere/tidegate.yml").is_ok(), "{dump}");
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn targets_carry_the_labels_prometheus_would_give_them() {
    let loaded = Config::load(testdata("gateway.yml").to_str().unwrap()).unwrap();
    let targets = loaded.config.expand().unwrap();
    let mut out = String::new();
    for t in &targets.active {
        writeln!(
            out,
            "{} {{{}}} every {} within {}",
            t.url(),
            t.body,
            t.interval,
            t.timeout
        )
        .unwrap();
    }
    for t in &targets.dropped {
        writeln!(out, "dropped {:?}", t.discovered.0).unwrap();
    }
    assert_eq!((targets.failed.len(), targets.broken_files.len()), (0, 0));
    golden("gateway.targets.txt", &portable(&out));
    assert!(targets.active.iter().any(|t| {
        t.discovered
            .get("__meta_filepath")
            .is_some_and(|p| p.ends_with("targets/line.json"))
    }));
}

#[test]
fn targets_that_cannot_be_scraped_say_why() {
    let loaded = Dir::new("failing")
        .load("scrape_configs:\n- job_name: a\n  static_configs: [{targets: ['h:1']}]\n")
        .unwrap();
    for (name, value, error) in [
        ("__address__", "", "no address"),
        ("__address__", "h/x", "\"h/x\" is not a valid hostname"),
        (
            "__address__",
            "h:99999",
            "address \"h:99999\": the port is not in 1..65535",
        ),
        (
            "__scrape_interval__",
            "x",
            "label __scrape_interval__ has value \"x\", expected a duration above 0",
        ),
        (
            "__scrape_timeout__",
            "0",
            "label __scrape_timeout__ has value \"0\", expected a duration above 0",
        ),
        (
            "__scrape_timeout__",
            "2m",
            "scrape timeout 2m is above the scrape interval 1m",
        ),
        (
            "__scrape_native_histograms__",
            "maybe",
            "label __scrape_native_histograms__ has value \"maybe\", expected true or false",
        ),
        (
            "__scheme__",
            "ftp",
            "label __scheme__: found \"ftp\", expected http or https",
        ),
    ] {
        let targets = loaded
            .config
            .targets(&mut |_, labels| labels.set(name, value).map(|()| true).map_err(|e| e.to_string()))
            .unwrap();
        let errors: Vec<_> = targets.failed.iter().map(|f| f.error.as_str()).collect();
        assert_eq!((errors, targets.active.len()), (vec![error], 0));
    }
}

#[test]
fn target_limits_hit_the_whole_job_and_duplicates_count_once() {
    let loaded = Dir::new("limit")
        .load(
            "scrape_configs:\n- job_name: a\n  target_limit: 2\n  static_configs: [{targets: ['h:1', 'h:2', 'h:1', 'h:3']}]\n\
             - {job_name: b, target_limit: 1, static_configs: [{targets: ['h:1', 'h:1']}]}\n",
        )
        .unwrap();
    let targets = loaded.config.targets(&mut no_rules).unwrap();
    assert_eq!(targets.active.len(), 4);
    let errors: Vec<_> = targets.active.iter().filter_map(|t| t.limit_error.as_deref()).collect();
    assert_eq!(errors, ["target_limit exceeded (number of targets: 3, limit: 2)"; 3]);

    let many: Vec<String> = (0..65).map(|i| format!("'h:{}'", 1 + i)).collect();
    let loaded = Dir::new("many")
        .load(format!(
            "scrape_configs: [{{job_name: a, static_configs: [{{targets: [{}]}}]}}]\n",
            many.join(",")
        ))
        .unwrap();
    let error = loaded.config.targets(&mut no_rules).unwrap_err();
    assert_eq!(
        error.to_string(),
        "scrape_configs: found 65 targets, expected at most 64"
    );
}

#[test]
fn self_means_this_program_and_with_a_port_a_host_of_that_name() {
    let dir = Dir::new("self");
    let loaded = dir
        .load(
            "scrape_configs:\n- job_name: own\n  static_configs: [{targets: [self, 'self:9100', 'SELF']}]\n\
             - job_name: far\n  scheme: https\n  static_configs: [{targets: [self]}]\n",
        )
        .unwrap();
    let targets = loaded.config.targets(&mut no_rules).unwrap();
    let built_in: Vec<_> = targets.active.iter().map(|t| (t.url(), t.built_in)).collect();
    let expected = [
        ("http://self/metrics", true),
        ("http://self:9100/metrics", false),
        ("http://SELF/metrics", false),
        ("https://self/metrics", false),
    ];
    assert_eq!(built_in, expected.map(|(url, built_in)| (url.to_owned(), built_in)));
    assert_eq!(targets.active[0].body, "instance=\"self\",job=\"own\"");
}

#[test]
fn keys_that_change_nothing_are_accepted_with_a_warning_each() {
    let loaded = Dir::new("warned")
        .load(
            "global: {evaluation_interval: 15s, rule_query_offset: 1m, query_log_file: q}\n\
             runtime: {gogc: 50}\nstorage: {exemplars: {max_exemplars: 5}, tsdb: {retention: {time: 1d}}}\notlp: {a: b}\ntracing: {endpoint: e}\n\
             scrape_configs:\n- {job_name: a, enable_http2: true}\n\
             remote_write:\n- url: http://h/\n  round_robin_dns: true\n  failed_request_logging: true\n  enable_http2: true\n  \
             queue_config: {capacity: 5000, max_shards: 50, min_shards: 2}\n",
        )
        .unwrap();
    let mut keys: Vec<_> = loaded
        .warnings
        .iter()
        .map(|w| w.key.rsplit('.').next().unwrap().to_owned())
        .collect();
    keys.sort();
    let expected = [
        "capacity",
        "enable_http2",
        "enable_http2",
        "evaluation_interval",
        "exemplars",
        "failed_request_logging",
        "max_shards",
        "min_shards",
        "otlp",
        "query_log_file",
        "retention",
        "round_robin_dns",
        "rule_query_offset",
        "runtime",
        "tracing",
    ];
    assert_eq!(keys, expected);
    assert!(
        loaded
            .warnings
            .iter()
            .all(|w| w.position.is_some() && w.message.starts_with("has no effect: "))
    );
}

#[test]
fn keys_that_cannot_be_honoured_are_refused_by_name() {
    let dir = Dir::new("refused");
    let discovery = [
        "azure",
        "consul",
        "digitalocean",
        "dns",
        "docker",
        "dockerswarm",
        "ec2",
        "eureka",
        "gce",
        "hetzner",
        "http",
        "ionos",
        "kubernetes",
        "kuma",
        "lightsail",
        "linode",
        "marathon",
        "nerve",
        "nomad",
        "openstack",
        "ovhcloud",
        "puppetdb",
        "scaleway",
        "serverset",
        "stackit",
        "triton",
        "uyuni",
        "vultr",
    ];
    let discovery = discovery.map(|name| (format!("{name}_sd_configs"), "job", "static_configs"));
    let others = [
        ("alerting", "top", "remove it"),
        ("rule_files", "top", "remove it"),
        ("remote_read", "top", "remove it"),
        ("scrape_classic_histograms", "job", "always_scrape_classic_histograms"),
        ("role_arn", "sigv4", "read anew for every request"),
        ("external_id", "sigv4", "roles are not assumed"),
        ("azuread", "remote", "credentials_file"),
        ("google_iam", "remote", "not supported"),
        ("max_retries", "queue", "remove it"),
        ("username_ref", "basic_auth", "_file"),
        ("password_ref", "basic_auth", "_file"),
        ("credentials_ref", "authorization", "_file"),
        ("ca_ref", "tls_config", "_file"),
        ("cert_ref", "tls_config", "_file"),
        ("key_ref", "tls_config", "_file"),
        ("client_secret_ref", "oauth2", "_file"),
        ("claims", "oauth2", "client_secret_file"),
        ("signature_algorithm", "oauth2", "client_secret_file"),
    ];
    let others = others.map(|(key, place, advice)| (key.to_owned(), place, advice));
    for (key, place, advice) in discovery.into_iter().chain(others) {
        let text = match place {
            "top" => format!("{key}: [{{a: b}}]\n"),
            "global" => format!("global: {{{key}: true}}\n"),
            "job" => format!("scrape_configs:\n- {{job_name: a, {key}: true}}\n"),
            "remote" => format!("remote_write:\n- {{url: 'http://h/', {key}: {{a: b}}}}\n"),
            "sigv4" => format!("remote_write:\n- {{url: 'http://h/', sigv4: {{{key}: x}}}}\n"),
            "queue" => format!("remote_write:\n- {{url: 'http://h/', queue_config: {{{key}: 3}}}}\n"),
            section => format!("scrape_configs:\n- {{job_name: a, {section}: {{{key}: x}}}}\n"),
        };
        let error = dir.load(&text).expect_err(&text).to_string();
        assert!(error.contains(&key) && error.contains(advice), "{key}: {error}");
    }
}

#[test]
fn a_broken_target_file_costs_only_its_own_targets() {
    let dir = Dir::new("sd");
    dir.write("good.yml", "- targets: ['h:1']\n");
    dir.write("empty.yml", "");
    dir.write("bad.yml", "- targets: h:1\n");
    let loaded = dir
        .load("scrape_configs: [{job_name: a, file_sd_configs: [{files: ['*d.yml', empty.yml, none.json]}]}]\n")
        .unwrap();
    let targets = loaded.config.targets(&mut no_rules).unwrap();
    assert_eq!(targets.active.len(), 1);
    let broken: Vec<String> = targets.broken_files.iter().map(ToString::to_string).collect();
    assert_eq!(broken.len(), 2, "{broken:?}");
    assert!(
        broken[0].ends_with("bad.yml:1:12: [0].targets: found a single value, expected a list"),
        "{broken:?}"
    );
    assert!(broken[1].contains("none.json: open: No such file"), "{broken:?}");
}
