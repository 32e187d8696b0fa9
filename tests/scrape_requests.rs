//! What a target sees of a scrape, and what of its answer arrives: the agent's requests byte for byte.

mod common;

use common::agent::{Agent, configure};
use common::protobuf::Sample;
use common::receiver::Receiver;
use common::{Request, TempDir, read_request, wait_for, write_response};
use std::io::BufReader;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Always the same body; remembers the requests.
struct Target {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Target {
    fn new(body: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback port");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        #[expect(clippy::disallowed_methods, reason = "the far end runs on threads of the test")]
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, body) = (seen.clone(), body.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(&stream);
                    // Ends when the agent closes the connection or breaks it.
                    while let Ok(Some(request)) = read_request(&mut reader) {
                        seen.lock().expect("not poisoned").push(request);
                        let headers = [("content-type", "text/plain; version=0.0.4")];
                        if write_response(&mut &stream, "200 OK", &headers, body.as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// The newest request, once there is one for which `wanted` holds.
    fn request(&self, what: &str, wanted: impl Fn(&Request) -> bool) -> Vec<(String, String)> {
        let mut found = None;
        wait_for(what, PATIENCE, || {
            let requests = self.requests.lock().expect("not poisoned");
            found = requests.iter().rev().find(|request| wanted(request)).map(|request| {
                let line = (String::from(":line"), format!("{} {}", request.method, request.path));
                [vec![line], request.headers.clone()].concat()
            });
            found.is_some()
        });
        found.expect("waited for")
    }
}

fn value<'a>(request: &'a [(String, String)], name: &str) -> &'a str {
    request
        .iter()
        .find(|(header, _)| header == name)
        .map_or("", |(_, value)| value)
}

#[test]
fn every_job_asks_as_prometheus_would_and_gets_what_it_asked_for() {
    let (directory, receiver) = (TempDir::new(), Receiver::accepting(None));
    let federated = format!("f{{job=\"far\",instance=\"\",a=\"b\"}} 7 {}\n", 1_700_000_000_123_u64);
    let targets: Vec<Target> = [
        "a 1\n",
        "a 1\n",
        "a 1\n",
        "a 1\n",
        "a 1\n",
        &federated,
        "a 1\nb 2\nup 7\n",
    ]
    .map(|body| Target::new(body.to_owned()))
    .into();
    let secret = directory.path().join("password");
    std::fs::write(&secret, "one\n").expect("written");
    let keys = [
        "",
        "  scrape_interval: 2s\n  scrape_timeout: 1500ms\n  enable_compression: false\n  scrape_protocols: [OpenMetricsText1.0.0, PrometheusText0.0.4]\n",
        "  basic_auth: {username: me, password_file: password}\n  http_headers: {X-Own: {values: [v], secrets: [s]}}\n  params: {a: [1, 2], q: ['x y&z']}\n  \
         relabel_configs:\n  - {target_label: __metrics_path__, replacement: /other}\n  - {target_label: __param_a, replacement: '9'}\n  \
         - {target_label: __param_new, replacement: n}\n  - {target_label: __scrape_timeout__, replacement: 50ms}\n",
        "  scrape_native_histograms: true\n",
        "  metric_name_validation_scheme: legacy\n",
        "  honor_labels: true\n  metrics_path: /federate\n  params: {'match[]': ['{job=\"x\"}', up]}\n",
        "  metric_relabel_configs: [{source_labels: [__name__], regex: up|scrape_.*|a, action: drop}]\n",
    ];
    let jobs: String = targets
        .iter()
        .zip(keys)
        .enumerate()
        .map(|(n, (target, keys))| {
            format!(
                "- job_name: j{n}\n  static_configs: [{{targets: ['{}']}}]\n{keys}",
                target.address
            )
        })
        .collect();
    let remotes = format!(
        "- url: http://{}/write\n  queue_config: {{batch_send_deadline: 100ms}}\n",
        receiver.address()
    );
    let config = configure(directory.path(), &jobs, &remotes, "");
    let agent = Agent::start(&config);
    let any = |_: &Request| true;

    let request = targets[0].request("a scrape", any);
    let host = targets[0].address.to_string();
    let mut all: Vec<_> = request
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    all.sort_unstable();
    let expected = [
        (":line", "GET /metrics"),
        (
            "accept",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ),
        ("accept-encoding", "gzip"),
        ("host", host.as_str()),
        ("user-agent", concat!("tidegate/", env!("CARGO_PKG_VERSION"))),
        ("x-prometheus-scrape-timeout-seconds", "0.1"),
    ];
    assert_eq!(all, expected, "these headers and no others");

    let request = targets[1].request("a scrape", any);
    assert_eq!(value(&request, "accept-encoding"), "identity");
    assert_eq!(value(&request, "x-prometheus-scrape-timeout-seconds"), "1.5");
    assert_eq!(
        value(&request, "accept"),
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.4"
    );

    let request = targets[2].request("a scrape", any);
    assert_eq!(value(&request, ":line"), "GET /other?a=9&a=2&new=n&q=x+y%26z");
    assert_eq!(value(&request, "x-prometheus-scrape-timeout-seconds"), "0.05");
    let own: Vec<&str> = request
        .iter()
        .filter(|(name, _)| name == "x-own")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(own, ["v", "s"]);
    // base64 of me:one, then of me:two
    assert_eq!(value(&request, "authorization"), "Basic bWU6b25l");
    std::fs::write(&secret, " two \n").expect("written");
    targets[2].request("the new password", |request| {
        request.header("authorization") == Some("Basic bWU6dHdv")
    });

    let request = targets[3].request("a scrape", any);
    assert_eq!(
        value(&request, "accept"),
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
         application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    );
    let request = targets[4].request("a scrape", any);
    assert!(
        value(&request, "accept").starts_with("application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,")
    );
    let request = targets[5].request("a scrape", any);
    assert_eq!(
        value(&request, ":line"),
        "GET /federate?match%5B%5D=%7Bjob%3D%22x%22%7D&match%5B%5D=up"
    );

    // What federation brings keeps its labels and its time, once, and is not marked.
    let samples = |wanted: &dyn Fn(&Sample) -> bool| -> Vec<Sample> {
        receiver.arrived(|arrived| {
            arrived
                .samples
                .iter()
                .filter(|sample| wanted(sample))
                .cloned()
                .collect()
        })
    };
    let names_of = |job: &str| -> Vec<String> {
        let mut names: Vec<_> = samples(&|s| s.label("job") == job)
            .iter()
            .map(|s| s.label("__name__").to_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    wait_for("federation", PATIENCE, || {
        names_of("j5").contains(&"up".to_owned()) && names_of("j6").len() >= 6
    });
    agent.stop();
    let federated = samples(&|sample| sample.label("__name__") == "f");
    assert_eq!(federated.len(), 1, "{federated:?}");
    let labels: Vec<_> = federated[0]
        .labels
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(labels, [("__name__", "f"), ("a", "b"), ("job", "far")]);
    assert_eq!(
        (f64::from_bits(federated[0].bits), federated[0].unix_ms),
        (7.0, 1_700_000_000_123)
    );
    // Rules over samples do not reach the scrape's own series, and the target's `up` is not taken for it.
    let own = [
        "b",
        "scrape_duration_seconds",
        "scrape_samples_post_metric_relabeling",
        "scrape_samples_scraped",
        "scrape_series_added",
        "up",
    ];
    assert_eq!(names_of("j6"), own);
    assert!(
        samples(&|s| s.label("job") == "j6" && s.label("__name__") == "up")
            .iter()
            .all(|s| f64::from_bits(s.bits) == 1.0)
    );
}
