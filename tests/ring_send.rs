//! `tidegate ring export --to URL` as a program: the ring of an agent that was killed in an outage goes to a receiver.

mod common;

use common::TempDir;
use common::agent::{in_outage, run};
use common::receiver::{Authority, CLOSE, Receiver};
use common::target::Target;
use std::process::Output;

/// A directory with the ring file of a killed agent, in it the values 0, 1, 2, ... of one series.
struct DeadBox {
    directory: TempDir,
    ring: String,
    image: Vec<u8>,
}

impl DeadBox {
    fn new() -> Self {
        let directory = TempDir::new();
        let target = Target::serving(|scrape| format!("# TYPE scrapes_total counter\nscrapes_total {scrape}\n"));
        let (agent, _receiver) = in_outage(directory.path(), &target);
        agent.kill();
        let path = directory.path().join("ring");
        let image = std::fs::read(&path).expect("a ring");
        let ring = path.to_str().expect("text").to_owned();
        Self { directory, ring, image }
    }

    /// Sends it, and makes sure that nothing of the ring has changed.
    fn send(&self, url: &str, options: &[&str]) -> Output {
        let mut arguments = vec!["ring", "export", &self.ring, "--to", url];
        arguments.extend(options);
        let output = run(&arguments);
        assert!(std::fs::read(&self.ring).expect("a ring") == self.image, "only read");
        output
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Times and values of the counter at the receiver.
fn counted(receiver: &Receiver) -> Vec<(i64, f64)> {
    let points = |arrived: &common::receiver::Arrived| {
        let of_counter = arrived
            .samples
            .iter()
            .filter(|s| s.label("__name__") == "scrapes_total");
        of_counter.map(|s| (s.unix_ms, f64::from_bits(s.bits))).collect()
    };
    receiver.arrived(points)
}

#[test]
fn every_sample_arrives_over_tls_with_the_headers_asked_for() {
    let dead = DeadBox::new();
    let authority = Authority::new();
    // The first attempt gets no answer, the second a refusal for now.
    let receiver = Receiver::scripted(Some(&authority), |number, _| match number {
        0 => Some((CLOSE, &[])),
        1 => Some(("503 Service Unavailable", &[("retry-after", "1")])),
        _ => None,
    });
    let ca = dead.directory.path().join("ca.pem");
    let password = dead.directory.path().join("password");
    std::fs::write(&ca, &authority.ca_pem).expect("written");
    std::fs::write(&password, "secret\n").expect("written");
    let url = format!("https://localhost:{}/write", receiver.address().port());
    let options = [
        "--ca-file",
        ca.to_str().expect("text"),
        "--header",
        "X-Scope-OrgID: plant",
        "--user",
        "box",
        "--password-file",
        password.to_str().expect("text"),
        "--max-samples",
        "20",
    ];
    let output = dead.send(&url, &options);
    assert!(output.status.success(), "{}", said(&output));
    let points = counted(&receiver);
    assert!(points.len() >= 10, "{points:?}");
    for (scrape, (_, value)) in points.iter().enumerate() {
        assert_eq!(*value, scrape as f64);
    }
    assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let all = receiver.arrived(|arrived| arrived.samples.len());
    assert!(
        said(&output).contains(&format!("{all} samples sent in")),
        "{}",
        said(&output)
    );
    receiver.arrived(|arrived| {
        assert!(arrived.requests.len() > 4, "batches of 20");
        for (headers, _) in &arrived.requests {
            let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
            assert_eq!(header("x-scope-orgid"), Some("plant"));
            assert_eq!(header("authorization"), Some("Basic Ym94OnNlY3JldA=="));
            assert_eq!(header("x-prometheus-remote-write-version"), Some("2.0.0"));
        }
        let down = arrived
            .samples
            .iter()
            .filter(|s| s.label("job") == "gone" && s.label("__name__") == "up");
        assert!(down.count() >= 10);
    });

    // What it trusts decides.
    let output = dead.send(&url, &["--ca-file", password.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no certificate"), "{}", said(&output));
}

#[test]
fn a_receiver_of_1_0_gets_1_0_and_times_choose() {
    let dead = DeadBox::new();
    let old = |_: usize, request: &common::Request| {
        (request.header("x-prometheus-remote-write-version") == Some("2.0.0"))
            .then_some(("415 Unsupported Media Type", &[][..]))
    };
    let receiver = Receiver::scripted(None, old);
    let url = format!("http://{}/write", receiver.address());
    let output = dead.send(&url, &["--target", "job=box"]);
    assert!(output.status.success(), "{}", said(&output));
    let points = counted(&receiver);
    assert!(points.len() >= 10, "{points:?}");
    assert!(receiver.arrived(|arrived| arrived.samples.iter().all(|s| s.label("job") == "box")));

    let receiver = Receiver::accepting(None);
    let url = format!("http://{}/write", receiver.address());
    let time = |ms: i64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
    let (from, until) = (time(points[3].0), time(points[7].0));
    let output = dead.send(&url, &["--from", &from, "--until", &until]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(counted(&receiver), points[3..7]);
}

#[test]
fn where_it_stopped_is_where_it_goes_on() {
    let dead = DeadBox::new();
    let whole = Receiver::accepting(None);
    assert!(
        dead.send(&format!("http://{}/write", whole.address()), &[])
            .status
            .success()
    );
    // Two requests are taken, then access is revoked.
    let receiver = Receiver::scripted(None, |number, _| (number == 2).then_some(("401 Unauthorized", &[][..])));
    let url = format!("http://{}/write", receiver.address());
    let output = dead.send(&url, &["--max-samples", "20"]);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    let from = text.split("--from ").nth(1).expect("where to go on").trim().to_owned();
    assert!(text.contains("answered 401"), "{text}");
    let output = dead.send(&url, &["--from", &from]);
    assert!(output.status.success(), "{}", said(&output));
    let mut points = counted(&receiver);
    points.sort_by_key(|&(time, _)| time);
    points.dedup();
    assert_eq!(points, counted(&whole));

    // Samples that are refused are counted, and the rest goes on.
    let receiver = Receiver::scripted(None, |number, _| (number == 1).then_some(("400 Bad Request", &[][..])));
    let output = dead.send(
        &format!("http://{}/write", receiver.address()),
        &["--max-samples", "20"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("samples refused by the receiver"),
        "{}",
        said(&output)
    );
    assert!(counted(&receiver).len() + 3 >= counted(&whole).len());

    let output = dead.send("somewhere", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--until"), "{}", said(&output));
}
