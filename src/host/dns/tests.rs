//! The resolver against a fake name server on loopback.

use super::message::RecordType;
use super::message::tests::{QUESTION_NAME, reply};
use super::*;
use crate::host::net::{Listener, pause};
use crate::host::runtime::{Interest, ready, run, slots_in_use};
use alloc::string::ToString;
use std::net::UdpSocket;
use std::os::fd::AsFd;

/// One query as the server sees it.
struct Query {
    bytes: Vec<u8>,
    name: alloc::string::String,
    kind: u16,
}

impl Query {
    fn parse(bytes: &[u8]) -> Self {
        let (mut at, mut labels) = (12, Vec::new());
        while bytes[at] > 0 {
            let end = at + 1 + usize::from(bytes[at]);
            labels.push(core::str::from_utf8(&bytes[at + 1..end]).expect("text"));
            at = end;
        }
        let kind = u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]);
        Self {
            bytes: bytes.to_vec(),
            name: labels.join("."),
            kind,
        }
    }

    fn is_a(&self) -> bool {
        self.kind == RecordType::A as u16
    }

    fn address(&self, ttl: u32, last: u8) -> Vec<u8> {
        let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let data: &[u8] = if self.is_a() { &[10, 0, 0, last] } else { &v6 };
        reply(&self.bytes, 0, &[(QUESTION_NAME, self.kind, ttl, data)])
    }

    fn code(&self, flags: u16) -> Vec<u8> {
        reply(&self.bytes, flags, &[])
    }
}

fn v4(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

/// A port that is free for both protocols: truncated answers are asked for again over TCP.
fn udp_and_tcp() -> (UdpSocket, Listener) {
    loop {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback");
        // Another test may hold the same number for UDP.
        if let Ok(socket) = UdpSocket::bind(listener.address()) {
            socket.set_nonblocking(true).expect("a socket");
            return (socket, listener);
        }
    }
}

/// Runs `client` with a resolver whose only server answers each query with the messages `answer` gives.
fn with_dns<T>(
    mut answer: impl FnMut(&Query) -> Vec<Vec<u8>>,
    resolv_conf: &str,
    client: impl AsyncFnOnce(&Resolver) -> T,
) -> T {
    let (socket, listener) = udp_and_tcp();
    let server = listener.address();
    let path = std::env::temp_dir().join(format!("tidegate-resolv-{}", server.port()));
    std::fs::write(&path, resolv_conf).expect("temp dir");
    let options = ResolverOptions {
        hosts: "/nonexistent".into(),
        resolv_conf: path.clone(),
        nameservers: alloc::vec![server],
    };
    let resolver = Resolver::new(options);
    let answer = RefCell::new(&mut answer);
    let serve_udp = async {
        let mut buf = [0; 512];
        loop {
            ready(socket.as_fd(), Interest::Read).await.expect("room");
            let Ok((read, peer)) = socket.recv_from(&mut buf) else {
                continue;
            };
            for message in (answer.borrow_mut())(&Query::parse(&buf[..read])) {
                socket.send_to(&message, peer).expect("loopback");
            }
        }
    };
    let serve_tcp = async {
        loop {
            let (stream, _) = listener.accept().await.expect("loopback");
            let mut buf = [0; 512];
            let read = stream.read(&mut buf).await.expect("a query");
            let mut query = Query::parse(&buf[2..read]);
            query.name.insert_str(0, "tcp:");
            let messages = (answer.borrow_mut())(&query);
            for message in messages {
                let framed = [&(message.len() as u16).to_be_bytes(), message.as_slice()].concat();
                stream.write_all(&framed).await.expect("loopback");
            }
        }
    };
    let all = smol::future::or(client(&resolver), smol::future::or(serve_udp, serve_tcp));
    let value = run(&smol::LocalExecutor::new(), all);
    std::fs::remove_file(&path).expect("temp dir");
    assert_eq!(slots_in_use(), (0, 0));
    value
}

async fn look(resolver: &Resolver, name: &str) -> Result<Addresses, DnsError> {
    resolver.lookup(name, now() + 2_000).await
}

fn text(result: Result<Addresses, DnsError>) -> alloc::string::String {
    result.expect_err("a failure").to_string()
}

#[test]
fn both_families_are_asked_at_once_and_ipv6_comes_first() {
    let mut asked = Vec::new();
    with_dns(
        |query| {
            asked.push((query.name.clone(), query.kind));
            alloc::vec![query.address(60, 7)]
        },
        "",
        async |resolver| {
            let found = look(resolver, "Edge.Example").await.expect("known");
            assert_eq!(found, ["2001:db8::7".parse::<IpAddr>().expect("valid"), v4(7)]);
        },
    );
    assert_eq!(
        asked,
        [("edge.example".to_string(), 28), ("edge.example".to_string(), 1)]
    );
}

#[test]
fn literals_and_localhost_are_never_asked_for() {
    with_dns(
        |query| panic!("asked for {}", query.name),
        "",
        async |resolver| {
            for (text, address) in [("10.0.0.1", "10.0.0.1"), ("::1", "::1"), ("[::1]", "::1")] {
                assert_eq!(
                    look(resolver, text).await.expect("literal"),
                    [address.parse::<IpAddr>().expect("valid")]
                );
            }
            assert_eq!(
                look(resolver, "localhost").await.expect("known")[0],
                IpAddr::from([127, 0, 0, 1])
            );
            assert!(look(resolver, "a.localhost.").await.is_ok());
            assert_eq!(
                text(look(resolver, "bad name").await),
                "lookup bad name: not a valid host name"
            );
        },
    );
}

#[test]
fn hosts_file_comes_before_the_server() {
    let path = std::env::temp_dir().join(format!("tidegate-hosts-{}", std::process::id()));
    std::fs::write(&path, "10.1.1.1 edge.example edge\n").expect("temp dir");
    let resolver = Resolver::new(ResolverOptions {
        hosts: path.clone(),
        resolv_conf: "/nonexistent".into(),
        nameservers: alloc::vec![([127, 0, 0, 1], 1).into()],
    });
    let found = run(&smol::LocalExecutor::new(), look(&resolver, "EDGE"));
    std::fs::remove_file(&path).expect("temp dir");
    assert_eq!(found.expect("listed"), [IpAddr::from([10, 1, 1, 1])]);
}

#[test]
fn answers_are_kept_for_their_ttl() {
    let mut queries = 0;
    with_dns(
        |query| {
            queries += 1;
            let ttl = if query.name == "short.example" { 0 } else { 60 };
            alloc::vec![if query.is_a() {
                query.address(ttl, 1)
            } else {
                query.code(0)
            }]
        },
        "",
        async |resolver| {
            for _ in 0..3 {
                assert_eq!(look(resolver, "long.example").await.expect("known"), [v4(1)]);
            }
            for _ in 0..2 {
                assert_eq!(look(resolver, "short.example").await.expect("known"), [v4(1)]);
            }
        },
    );
    assert_eq!(queries, 2 + 4);
}

#[test]
fn truncated_answers_are_asked_for_over_tcp() {
    with_dns(
        |query| match (query.name.starts_with("tcp:"), query.is_a()) {
            (_, false) => alloc::vec![query.code(0)],
            (false, true) => alloc::vec![query.code(0x0200)],
            (true, true) => alloc::vec![query.address(60, 9)],
        },
        "",
        async |resolver| assert_eq!(look(resolver, "big.example").await.expect("known"), [v4(9)]),
    );
}

#[test]
fn forged_replies_are_ignored() {
    with_dns(
        |query| {
            let forged = |at: usize| {
                let mut message = query.address(60, 66);
                message[at] ^= 1;
                message
            };
            // Wrong id, wrong name, not a reply, then the true one.
            let mut no_reply = query.address(60, 66);
            no_reply[2] &= 0x7f;
            alloc::vec![forged(0), forged(14), no_reply, query.address(60, 1)]
        },
        "",
        async |resolver| assert_eq!(look(resolver, "edge.example").await.expect("known")[1], v4(1)),
    );
}

#[test]
fn missing_names_and_missing_addresses_are_told_apart() {
    with_dns(
        |query| alloc::vec![query.code(if query.name.starts_with("no") { 3 } else { 0 })],
        "",
        async |resolver| {
            assert_eq!(
                text(look(resolver, "no.example").await),
                "lookup no.example: no such host"
            );
            assert_eq!(
                text(look(resolver, "mail.example").await),
                "lookup mail.example: no address for this host"
            );
        },
    );
}

#[test]
fn search_domains_are_tried_as_ndots_says() {
    let mut asked = Vec::new();
    with_dns(
        |query| {
            if query.is_a() {
                asked.push(query.name.clone());
            }
            alloc::vec![if query.name == "edge.lan.example" {
                query.address(60, 3)
            } else {
                query.code(3)
            }]
        },
        "search corp.example lan.example\noptions ndots:1\n",
        async |resolver| {
            assert!(look(resolver, "edge").await.is_ok());
            assert!(look(resolver, "edge.").await.is_err());
            assert!(look(resolver, "a.b").await.is_err());
        },
    );
    let expected = [
        "edge.corp.example",
        "edge.lan.example",
        "edge",
        "a.b",
        "a.b.corp.example",
        "a.b.lan.example",
    ];
    assert_eq!(asked, expected);
}

#[test]
fn failure_is_reported_rather_than_no_such_host_from_elsewhere() {
    with_dns(
        |query| alloc::vec![query.code(if query.name.ends_with("corp.example") { 2 } else { 3 })],
        "search corp.example\noptions attempts:1\n",
        async |resolver| assert_eq!(text(look(resolver, "edge").await), "lookup edge: server failure"),
    );
}

#[test]
fn server_that_ignores_aaaa_costs_a_moment_only() {
    with_dns(
        |query| {
            if query.is_a() {
                alloc::vec![query.address(60, 4)]
            } else {
                Vec::new()
            }
        },
        "",
        async |resolver| {
            let start = now();
            assert_eq!(look(resolver, "edge.example").await.expect("known"), [v4(4)]);
            assert!(now().since(start) < 1_000);
        },
    );
    with_dns(
        |query| {
            alloc::vec![if query.is_a() {
                query.address(60, 4)
            } else {
                query.code(3)
            }]
        },
        "",
        async |resolver| assert_eq!(look(resolver, "edge.example").await.expect("known"), [v4(4)]),
    );
}

#[test]
fn silent_server_meets_the_deadline() {
    with_dns(
        |_| Vec::new(),
        "",
        async |resolver| {
            let start = now();
            let error = resolver.lookup("edge.example", start + 80).await.expect_err("silence");
            assert_eq!(error.to_string(), "lookup edge.example: no answer from the name server");
            assert!(now().since(start) < 500);
        },
    );
}

#[test]
fn second_attempt_gets_through() {
    let mut queries = 0;
    with_dns(
        |query| {
            queries += 1;
            if queries <= 2 {
                Vec::new()
            } else {
                alloc::vec![query.address(60, 1)]
            }
        },
        "",
        async |resolver| {
            assert!(resolver.lookup("edge.example", now() + 300).await.is_ok());
        },
    );
}

#[test]
fn last_good_address_serves_while_the_server_fails_until_the_name_is_denied() {
    let code = Cell::new(0);
    with_dns(
        |query| {
            alloc::vec![if code.get() == 0 {
                query.address(0, 1)
            } else {
                query.code(code.get())
            }]
        },
        "",
        async |resolver| {
            assert!(look(resolver, "edge.example").await.is_ok());
            code.set(2);
            assert_eq!(look(resolver, "edge.example").await.expect("stale")[1], v4(1));
            assert!(look(resolver, "other.example").await.is_err());
            // Stale entries are not asked for again at once; a denial has to wait for that.
            resolver.cache.borrow_mut()[0].fresh_until = now();
            code.set(3);
            assert_eq!(
                text(look(resolver, "edge.example").await),
                "lookup edge.example: no such host"
            );
            code.set(2);
            assert!(look(resolver, "edge.example").await.is_err(), "forgotten");
        },
    );
}

#[test]
fn cache_forgets_the_name_used_longest_ago() {
    with_dns(
        |query| alloc::vec![query.address(60, 1)],
        "",
        async |resolver| {
            for number in 0..=DNS_CACHE_NAMES {
                assert!(look(resolver, &std::format!("h{number}.example")).await.is_ok());
                pause(1).await;
                assert!(look(resolver, "h0.example").await.is_ok());
            }
            let cache = resolver.cache.borrow();
            assert_eq!(cache.len(), DNS_CACHE_NAMES);
            assert!(cache.iter().any(|entry| &*entry.name == "h0.example"));
            assert!(!cache.iter().any(|entry| &*entry.name == "h1.example"));
        },
    );
}

#[test]
fn dead_server_is_an_error_at_once() {
    let resolver = Resolver::new(ResolverOptions {
        hosts: "/nonexistent".into(),
        resolv_conf: "/nonexistent".into(),
        nameservers: alloc::vec![([127, 0, 0, 1], 1).into()],
    });
    let start = now();
    let error = run(
        &smol::LocalExecutor::new(),
        resolver.lookup("edge.example", start + 2_000),
    )
    .expect_err("nobody");
    assert!(matches!(error.kind, DnsErrorKind::Network(_)), "{error}");
    assert!(now().since(start) < 1_000);
}
