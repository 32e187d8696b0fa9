//! AWS signatures end to end: a receiver that computes every signature itself and refuses what does not match.

mod common;

use common::agent::{Agent, configure, run};
use common::receiver::{Answer, Receiver};
use common::target::Target;
use common::{Request, TempDir, wait_for};
use ring::{digest, hmac};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

const REFUSED: Answer = ("403 Forbidden", &[("x-amzn-errortype", "InvalidSignatureException")]);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
        .as_ref()
        .to_vec()
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// What a signature names: access key, date, region, service.
fn scope(request: &Request) -> Vec<String> {
    let line = request.header("authorization").expect("signed");
    let rest = line
        .strip_prefix("AWS4-HMAC-SHA256 Credential=")
        .expect("the algorithm");
    let (credential, _) = rest.split_once(", SignedHeaders=").expect("a list of headers");
    credential.split('/').map(String::from).collect()
}

/// Whether the signature is that of this very request. Written after the published steps for what this test sends: a path
/// without dots, a query in order, one value a header.
fn is_genuine(request: &Request, secret: &str) -> bool {
    let line = request.header("authorization").expect("signed");
    let (_, rest) = line.split_once("SignedHeaders=").expect("a list of headers");
    let (names, signature) = rest.split_once(", Signature=").expect("a signature");
    let listed: BTreeSet<&str> = names.split(';').collect();
    let needed = [
        "host",
        "x-amz-date",
        "content-type",
        "content-encoding",
        "content-length",
    ];
    assert!(needed.iter().all(|name| listed.contains(name)), "{names}");
    // Whatever AWS calls its own must be signed.
    let own = request.headers.iter().filter(|(name, _)| name.starts_with("x-amz-"));
    assert!(
        own.into_iter().all(|(name, _)| listed.contains(name.as_str())),
        "{names}"
    );
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let lines: String = names
        .split(';')
        .map(|name| format!("{name}:{}\n", request.header(name).expect("a listed header is there")))
        .collect();
    let canonical = format!(
        "{}\n{path}\n{query}\n{lines}\n{names}\n{}",
        request.method,
        hash(&request.body)
    );
    let date = request.header("x-amz-date").expect("dated");
    let scope = scope(request);
    assert_eq!(scope[1], date[..8]);
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{}\n{}",
        scope[1..].join("/"),
        hash(canonical.as_bytes())
    );
    let day = keyed(format!("AWS4{secret}").as_bytes(), &scope[1]);
    let key = scope[2..].iter().fold(day, |key, part| keyed(&key, part));
    hex(&keyed(&key, &text)) == signature
}

/// A receiver that knows these secrets by their access keys, and what it saw of each request: access key, region, service,
/// token, date.
type Seen = Arc<Mutex<Vec<[String; 5]>>>;

fn verifying(secrets: &'static [(&'static str, &'static str)]) -> (Receiver, Seen) {
    let seen = Seen::default();
    let list = seen.clone();
    let receiver = Receiver::scripted(None, move |_, request| {
        let scope = scope(request);
        let of_key = |(key, _): &&(&str, &str)| *key == scope[0];
        let known = secrets
            .iter()
            .find(of_key)
            .filter(|(_, secret)| is_genuine(request, secret));
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        let row = [
            &scope[0],
            &scope[2],
            &scope[3],
            &header("x-amz-security-token"),
            &header("x-amz-date"),
        ];
        known.map_or(Some(REFUSED), |_| {
            list.lock().expect("not poisoned").push(row.map(Clone::clone));
            None
        })
    });
    (receiver, seen)
}

/// The environment of a box where nobody has set up anything of AWS.
fn bare<'a>(command: &'a mut Command, home: &Path) -> &'a mut Command {
    let set = std::env::vars_os().map(|(name, _)| name);
    for name in set.filter(|name| name.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name);
    }
    command.env("HOME", home)
}

fn job(target: &Target) -> String {
    format!(
        "- job_name: a\n  static_configs: [{{targets: ['{}']}}]\n",
        target.address()
    )
}

/// `20150830T123600Z` of the machine's clock, by date(1).
fn now_stamp() -> String {
    let output = Command::new("date")
        .args(["-u", "+%Y%m%dT%H%M%SZ"])
        .output()
        .expect("date(1)");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn a_receiver_that_checks_every_signature_takes_all_samples() {
    let directory = TempDir::new();
    let (receiver, seen) = verifying(&[("AKFIRST", "s3cret/+="), ("AKSECOND", "other")]);
    let target = Target::serving(|n| format!("n {n}\n"));
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "s3cret/+=\n").expect("written");
    let remotes = format!(
        "- url: http://{}/workspaces/ws-1/api/v1/remote_write?a=1&b=%2F\n  headers: {{X-Scope-OrgID: tenant}}\n  queue_config: \
         {{batch_send_deadline: 100ms}}\n  sigv4: {{region: eu-central-1, access_key: AKFIRST, secret_key_file: secret}}\n",
        receiver.address()
    );
    let config = configure(directory.path(), &job(&target), &remotes, "");
    let before = now_stamp();
    let mut agent = Agent::start(&config);
    wait_for("signed requests", PATIENCE, || {
        seen.lock().expect("not poisoned").len() >= 5
    });
    let after = now_stamp();
    let rows = seen.lock().expect("not poisoned").clone();
    for [key, region, service, token, date] in &rows[..5] {
        assert_eq!(
            [key.as_str(), region, service, token],
            ["AKFIRST", "eu-central-1", "aps", ""]
        );
        assert!(before <= *date && *date <= after, "{before} {date} {after}");
    }
    receiver.arrived(|arrived| {
        assert!(
            arrived.requests.iter().all(|(_, status)| *status == 204),
            "one was refused"
        );
        assert!(arrived.samples.len() >= 5);
    });
    let shown = agent.get("/api/v1/status/config").body;
    assert!(
        shown.contains("sigv4") && shown.contains("AKFIRST") && !shown.contains("s3cret"),
        "{shown}"
    );
    assert!(!agent.log().contains("s3cret"));

    // A secret that is not the key's: refused, kept, and said.
    std::fs::write(&secret, "wrong").expect("written");
    wait_for("a refusal", PATIENCE, || {
        receiver.arrived(|arrived| arrived.requests.iter().any(|(_, status)| *status == 403))
    });
    agent.wait_for_log("does not take samples");
    agent.stop();
}

#[test]
fn keys_come_from_profiles_and_the_environment_and_are_read_anew() {
    let directory = TempDir::new();
    let (receiver, seen) = verifying(&[("AKPROFILE", "one"), ("AKROTATED", "two"), ("AKENV", "three")]);
    let target = Target::serving(|n| format!("n {n}\n"));
    let shared = directory.path().join(".aws");
    std::fs::create_dir(&shared).expect("made");
    let write = |name: &str, text: &str| {
        // As programs that renew keys do it: whole or not at all.
        std::fs::write(shared.join("new"), text).expect("written");
        std::fs::rename(shared.join("new"), shared.join(name)).expect("renamed");
    };
    write("config", "[profile site]\nregion = us-east-2\n");
    write(
        "credentials",
        "[site]\naws_access_key_id = AKPROFILE\naws_secret_access_key = one\naws_session_token = tok+en\n",
    );
    let remotes = |sigv4: &str| {
        format!(
            "- url: http://{}/write\n  queue_config: {{batch_send_deadline: 100ms}}\n  sigv4: {sigv4}\n",
            receiver.address()
        )
    };
    let config = configure(
        directory.path(),
        &job(&target),
        &remotes("{profile: site, service_name: execute-api}"),
        "",
    );
    let home = directory.path().to_owned();
    let agent = Agent::start_with(&config, |command| {
        bare(command, &home)
            .env("AWS_ACCESS_KEY_ID", "AKENV")
            .env("AWS_SECRET_ACCESS_KEY", "three");
    });
    let last = || seen.lock().expect("not poisoned").last().cloned();
    let is = |expected: [&str; 4]| last().is_some_and(|row| row[..4] == expected);
    wait_for("the profile's keys", PATIENCE, || {
        is(["AKPROFILE", "us-east-2", "execute-api", "tok+en"])
    });
    write(
        "credentials",
        "[site]\naws_access_key_id = AKROTATED\naws_secret_access_key = two\n",
    );
    wait_for("the rotated keys", PATIENCE, || {
        is(["AKROTATED", "us-east-2", "execute-api", ""])
    });
    agent.stop();
    let config = configure(directory.path(), &job(&target), &remotes("{}"), "");
    let agent = Agent::start_with(&config, |command| {
        bare(command, &home)
            .env("AWS_ACCESS_KEY_ID", "AKENV")
            .env("AWS_SECRET_ACCESS_KEY", "three")
            .env("AWS_REGION", "ap-south-1");
    });
    wait_for("the environment's keys", PATIENCE, || {
        is(["AKENV", "ap-south-1", "aps", ""])
    });
    agent.stop();
    receiver.arrived(|arrived| {
        let refused = arrived.requests.iter().filter(|(_, status)| *status != 204);
        assert_eq!(refused.count(), 0);
    });
}

#[test]
fn a_remote_without_keys_says_so_and_keeps_its_samples() {
    let directory = TempDir::new();
    let receiver = Receiver::accepting(None);
    let target = Target::serving(|n| format!("n {n}\n"));
    let remotes = format!("- url: http://{}/write\n  sigv4: {{region: r}}\n", receiver.address());
    let config = configure(directory.path(), &job(&target), &remotes, "");
    let home = directory.path().to_owned();
    let mut agent = Agent::start_with(&config, |command| {
        bare(command, &home);
    });
    agent.wait_for_log("requests cannot be signed yet");
    agent.wait_for_log("receiver not reached; samples are kept");
    let page = agent.get("/status").body;
    assert!(page.contains("no keys in AWS_ACCESS_KEY_ID"), "{page}");
    receiver.arrived(|arrived| assert!(arrived.requests.is_empty(), "nothing goes out unsigned"));
    agent.stop();
}

#[test]
fn check_tells_what_would_sign_and_what_cannot() {
    let directory = TempDir::new();
    let target = Target::serving(|n| format!("n {n}\n"));
    let check = |sigv4: &str| {
        let remotes = format!("- url: https://aps.example/write\n  sigv4: {sigv4}\n");
        let config = configure(directory.path(), &job(&target), &remotes, "");
        let output = run(&["check", "--config", config.to_str().expect("text")]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, text) = check("{region: r-1, access_key: AK, secret_key: x}");
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("requests are signed: keys from the configuration, region r-1"),
        "{text}"
    );
    for (sigv4, expected) in [
        (
            "{region: r, access_key: AK}",
            "found access_key alone, expected secret_key or secret_key_file as well",
        ),
        (
            "{region: r, secret_key: x}",
            "found the secret alone, expected access_key as well",
        ),
        (
            "{region: r, access_key: a, secret_key: x, secret_key_file: f}",
            "found secret_key and secret_key_file",
        ),
        ("{region: 'r/x'}", "found \"r/x\", expected letters, digits, dashes"),
        ("{role_arn: 'arn:aws:iam::1:role/x'}", "roles are not assumed"),
        ("{regoin: r}", "did you mean region?"),
        (
            "{region: r}\n  authorization: {credentials: x}",
            "found several of basic_auth, authorization, oauth2, sigv4",
        ),
    ] {
        let (code, text) = check(sigv4);
        assert_ne!(code, Some(0), "{sigv4}");
        assert!(text.contains(expected), "{sigv4}: {text}");
    }
}
