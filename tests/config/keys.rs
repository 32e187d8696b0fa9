//! What each key means, its default, and what is refused or warned about.

use super::*;
use tidegate::exposition::{DEFAULT_PROTOCOLS, PROTOBUF_FIRST};

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
        "rule_files: []\nremote_read: []\nalerting: {}\n",
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
fn a_name_longer_than_a_simple_key_of_yaml_is_dumped_so_that_it_loads() {
    let name = "a".repeat(5_000);
    let text = format!(
        "global:\n  external_labels:\n    ? {name}\n    : v\nscrape_configs:\n- job_name: j\n  params:\n    ? {name}\n    : [p, q]\n"
    );
    let dir = Dir::new("long-names");
    let first = dir.load(&text).unwrap().config;
    assert_eq!(first.global.external_labels.get(&name).map(String::as_str), Some("v"));
    let again = dir.load(yaml(&first)).unwrap().config;
    assert_eq!(again, first);
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
fn aliases_and_merge_keys_mean_what_they_mean_to_prometheus() {
    let written_out = "\
scrape_configs:
- job_name: a
  scrape_interval: 20s
  params: {module: [x], target: [y]}
  static_configs: [{targets: ['h:1'], labels: {site: s}}]
  metric_relabel_configs:
  - {source_labels: [__name__], regex: go_.*, action: drop}
  - {regex: pod, action: labeldrop}
- job_name: b
  scrape_interval: 30s
  scrape_timeout: 5s
  params: {module: [x], target: [z]}
  static_configs: [{targets: ['h:1'], labels: {site: s}}]
  metric_relabel_configs:
  - {source_labels: [__name__], regex: go_.*, action: drop}
  - {regex: pod, action: labeldrop}
- job_name: c
  scrape_interval: 20s
  scrape_timeout: 5s
";
    let short = "\
scrape_configs:
- &first
  job_name: a
  scrape_interval: &every 20s
  params: {<<: &module {module: [x]}, target: [y]}
  static_configs: [&h {targets: ['h:1'], labels: {site: s}}]
  metric_relabel_configs: &rules
  - &no_go {source_labels: [__name__], regex: go_.*, action: drop}
  - {regex: pod, action: labeldrop}
- <<: *first
  job_name: b
  scrape_interval: 30s
  params: {<<: *module, target: [z]}
  static_configs: [*h]
  metric_relabel_configs: [*no_go, {regex: pod, action: labeldrop}]
  # What is read last counts, merged or not.
  scrape_timeout: 6s
  <<: [{scrape_timeout: 5s}, &late {scrape_timeout: 7s, honor_labels: false}]
- {<<: [{scrape_timeout: 5s}, *late], job_name: c, scrape_interval: *every}
";
    let dir = Dir::new("anchors");
    let (expected, found) = (dir.load(written_out).unwrap(), dir.load(short).unwrap());
    assert_eq!(yaml(&found.config), yaml(&expected.config));
    assert_eq!(found.config, expected.config);
}

#[test]
fn aliases_cost_no_more_than_a_text_that_is_written_out() {
    let dir = Dir::new("aliases");
    let mut text = String::from("runtime:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..=6 {
        let aliases = [format!("*a{}", n - 1), String::new()].join(", ").repeat(9);
        writeln!(text, "  a{n}: &a{n} [{aliases}]").unwrap();
    }
    let error = dir.load(&text).unwrap_err().to_string();
    assert!(error.contains("anchors (&name) hold more than 8192 values"), "{error}");
    let many = "*a, ".repeat(9_000);
    let error = dir
        .load(format!("runtime: [&a [x, x, x, x, x, x, x], {many}]\n"))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("aliases (*name) stand for more than 65536 values"),
        "{error}"
    );
}

#[test]
fn values_that_templates_leave_empty_count_as_absent() {
    let job = "scrape_configs:\n- job_name: a\n";
    let dir = Dir::new("left-empty");
    let plain = dir.load(job).unwrap().config;
    let empty = dir
        .load(format!("{job}  proxy_url: ''\n  file_sd_configs:\n"))
        .unwrap()
        .config;
    assert_eq!(empty, plain);
    let params = dir.load(format!("{job}  params: {{a: , b: [c]}}\n")).unwrap().config;
    let list = dir.load(format!("{job}  params: {{a: [], b: [c]}}\n")).unwrap().config;
    assert_eq!(params, list);
}
