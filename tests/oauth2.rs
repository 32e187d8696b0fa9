//! OAuth 2.0 client credentials, for scrapes and for remote write, against endpoints that behave and that do not.

mod common;

use common::agent::{Agent, configure};
use common::receiver::Receiver;
use common::{Request, TempDir, read_request, wait_for, write_response};
use std::io::BufReader;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Status line and body of an answer.
type Answer = (&'static str, String);

/// Answers the n-th request as told and remembers all.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn new(content_type: &'static str, answer: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback port");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer, count) = (requests.clone(), Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        #[expect(clippy::disallowed_methods, reason = "the far end runs on threads of the test")]
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer, count) = (seen.clone(), answer.clone(), count.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(&stream);
                    // Ends when the agent closes the connection or breaks it.
                    while let Ok(Some(request)) = read_request(&mut reader) {
                        let (status, body) = answer(count.fetch_add(1, Ordering::SeqCst), &request);
                        seen.lock().expect("not poisoned").push(request);
                        let headers = [("content-type", content_type)];
                        if write_response(&mut &stream, status, &headers, body.as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn count(&self) -> usize {
        self.requests.lock().expect("not poisoned").len()
    }

    fn form(&self, request: usize) -> String {
        String::from_utf8_lossy(&self.requests.lock().expect("not poisoned")[request].body).into_owned()
    }

    fn header(&self, request: usize, name: &str) -> String {
        header(&self.requests.lock().expect("not poisoned")[request], name)
    }
}

fn header(request: &Request, name: &str) -> String {
    let mut all = request.headers.iter();
    let found = all.find(|(header, _)| header.eq_ignore_ascii_case(name));
    found.map_or(String::new(), |(_, value)| value.clone())
}

fn token(n: usize) -> Answer {
    (
        "200 OK",
        format!("{{\"access_token\": \"t{n}\", \"token_type\": \"bearer\", \"expires_in\": 3600, \"scope\": \"x\"}}"),
    )
}

/// A target that takes one token only; which one may change.
fn target(accepted: Arc<Mutex<String>>) -> Server {
    Server::new("text/plain", move |n, request| {
        if header(request, "authorization") == format!("Bearer {}", accepted.lock().expect("not poisoned")) {
            ("200 OK", format!("n {n}\n"))
        } else {
            ("401 Unauthorized", String::new())
        }
    })
}

fn health(agent: &mut Agent, pool: &str) -> (String, String) {
    let targets = agent.json("/api/v1/targets");
    let all = targets.array("data.activeTargets").iter();
    let mut of_pool = all.filter(|target| target.text("scrapePool") == pool);
    let target = of_pool.next().expect("a target");
    (target.text("health").to_owned(), target.text("lastError").to_owned())
}

#[test]
fn a_token_serves_all_targets_of_a_job_until_it_is_refused() {
    let directory = TempDir::new();
    std::fs::write(directory.path().join("secret"), " s/e c \n").expect("written");
    let endpoint = Server::new("application/json", |n, _| token(n));
    let accepted = Arc::new(Mutex::new("t0".to_owned()));
    let targets = [target(accepted.clone()), target(accepted.clone())];
    let uplink = Server::new("application/json", |n, _| token(n + 50));
    let receiver = Receiver::accepting(None);
    let jobs = format!(
        "- job_name: a\n  static_configs: [{{targets: ['{}', '{}']}}]\n  oauth2: {{client_id: 'me:1', client_secret_file: secret, \
         token_url: 'http://{}/token', scopes: [read, write], endpoint_params: {{audience: 'a&b'}}}}\n",
        targets[0].address, targets[1].address, endpoint.address
    );
    let remotes = format!(
        "- url: http://{}/write\n  queue_config: {{batch_send_deadline: 100ms}}\n  oauth2: {{client_id: r, client_secret: z, token_url: 'http://{}/'}}\n",
        receiver.address(),
        uplink.address
    );
    let config = configure(directory.path(), &jobs, &remotes, "");
    let mut agent = Agent::start(&config);
    wait_for("scrapes", PATIENCE, || targets.iter().all(|target| target.count() >= 4));
    assert_eq!(endpoint.count(), 1, "one token for all");
    assert_eq!(
        endpoint.form(0),
        "grant_type=client_credentials&scope=read+write&audience=a%26b"
    );
    // base64 of `me%3A1:s%2Fe+c`
    assert_eq!(endpoint.header(0, "authorization"), "Basic bWUlM0ExOnMlMkZlK2M=");
    assert_eq!(endpoint.header(0, "content-type"), "application/x-www-form-urlencoded");
    assert_eq!(health(&mut agent, "a").0, "up");
    // The receiver gets one of its own.
    wait_for("delivery", PATIENCE, || {
        receiver.arrived(|arrived| arrived.requests.len() >= 2)
    });
    receiver.arrived(|arrived| {
        for (headers, _) in &arrived.requests {
            let sent = headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
            assert_eq!(sent.map(|(_, value)| value.as_str()), Some("Bearer t50"));
        }
    });
    // Refused, fetched again, taken.
    "t1".clone_into(&mut accepted.lock().expect("not poisoned"));
    wait_for("a second token", PATIENCE, || endpoint.count() >= 2);
    let from = targets[1].count();
    wait_for("more scrapes", PATIENCE, || {
        targets[1].count() >= from + 3 && health(&mut agent, "a").0 == "up"
    });
    assert!(endpoint.count() <= 3, "{} tokens", endpoint.count());
    let yaml = agent.get("/api/v1/status/config").body;
    assert!(yaml.contains("oauth2") && !yaml.contains("s/e c") && !yaml.contains("secret: z"));
    assert!(!agent.log().contains("Bearer") && !agent.log().contains("t50"));
    agent.stop();
}

#[test]
fn endpoints_that_misbehave_harm_only_their_job_and_say_how() {
    let form_only = Server::new("application/json", |n, request| {
        if header(request, "authorization").is_empty() {
            token(n)
        } else {
            ("400 Bad Request", "{\"error\": \"invalid_client\"}".into())
        }
    });
    let forbidding = Server::new("application/json", |_, _| {
        (
            "403 Forbidden",
            "{\"error\": \"access_denied\", \"error_description\": \"not \\\"you\\\"\"}".into(),
        )
    });
    let flooding = Server::new("application/json", |_, _| {
        ("200 OK", format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20)))
    });
    let html = Server::new("text/html", |_, _| ("200 OK", "<html>".into()));
    let silent = Server::new("text/html", |_, _| {
        std::thread::sleep(Duration::from_secs(3_600));
        ("200 OK", String::new())
    });
    let accepted = Arc::new(Mutex::new("t1".to_owned()));
    let target = target(accepted);
    let plain = Server::new("text/plain", |n, _| ("200 OK", format!("n {n}\n")));
    let (directory, receiver) = (TempDir::new(), Receiver::accepting(None));
    let mut jobs = format!(
        "- job_name: plain\n  static_configs: [{{targets: ['{}']}}]\n",
        plain.address
    );
    for (name, endpoint) in [
        ("form_only", &form_only),
        ("forbidding", &forbidding),
        ("flooding", &flooding),
        ("html", &html),
        ("silent", &silent),
    ] {
        jobs += &format!(
            "- job_name: {name}\n  static_configs: [{{targets: ['{}']}}]\n  oauth2: {{client_id: me, client_secret: s, token_url: 'http://{}/'}}\n",
            target.address, endpoint.address
        );
    }
    let remotes = format!("- url: http://{}/write\n", receiver.address());
    let config = configure(directory.path(), &jobs, &remotes, "memory: {max_concurrent_scrapes: 4}");
    let mut agent = Agent::start(&config);
    for (pool, state, words) in [
        ("form_only", "up", ""),
        ("forbidding", "down", "fetch oauth2 token: HTTP status 403: not \"you\""),
        (
            "flooding",
            "down",
            "fetch oauth2 token: expected JSON with an access_token, at most 8192 bytes",
        ),
        ("html", "down", "fetch oauth2 token: expected JSON with an access_token"),
        ("silent", "down", "oauth2 token: context deadline exceeded while"),
        ("plain", "up", ""),
    ] {
        wait_for(pool, PATIENCE, || {
            let (health, error) = health(&mut agent, pool);
            health == state && error.contains(words)
        });
    }
    assert_eq!(
        form_only.form(1),
        "grant_type=client_credentials&client_id=me&client_secret=s"
    );
    let from = plain.count();
    wait_for("others go on", PATIENCE, || plain.count() >= from + 5);
    agent.stop();
}
