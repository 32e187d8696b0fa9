//! What becomes of the targets that a file names.

use super::*;

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
fn a_label_without_a_value_is_no_label_and_no_parameter() {
    let loaded = Dir::new("no-value")
        .load("scrape_configs:\n- job_name: a\n  static_configs: [{targets: ['h:1'], labels: {__param_x: '', __param_y: z, job: '', b: ''}}]\n")
        .unwrap();
    let targets = loaded.config.expand().unwrap();
    assert_eq!(targets.active[0].url(), "http://h:1/metrics?y=z");
    assert_eq!(targets.active[0].body, "instance=\"h:1\",job=\"a\"");
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
