//! Ways to a receiver that change or fail: addresses, families, TLS versions, redirects, credentials that are replaced.

use super::*;
use crate::host::tls::testing::{TestCa, TestCert, accept, client as tls_client};
use crate::host::tls::{CertClock, Pem, TlsClient, TlsContext, TlsSettings, TlsVersion};
use alloc::sync::Arc;
use core::cell::RefCell;
use core::net::Ipv6Addr;
use rustls::server::ServerConfig;
use rustls::version;
use std::path::PathBuf;

/// A file of the test's own, gone with the value.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("tidegate-transport-{name}-{}", std::process::id())));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("temp file");
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // One file more in the system's temporary folder harms nothing.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A client of `receiver.test`, whose addresses are those of the file.
fn client_of(hosts: &TempFile, port: u16) -> Client {
    let resolver = Resolver::new(ResolverOptions {
        hosts: hosts.0.clone(),
        ..ResolverOptions::default()
    });
    let config = ClientConfig::new(url(&format!("http://receiver.test:{port}/write")));
    Client::new(config, Rc::new(resolver)).expect("valid headers")
}

/// Serves `listener` while `client` runs.
fn serving_on<T>(listener: &Listener, client: impl Future<Output = T>) -> T {
    on_loop(smol::future::or(client, async {
        loop {
            let (socket, _) = listener.accept().await.expect("loopback");
            let mut peer = Peer::Plain(socket);
            while peer.request().await.is_some() {
                peer.send(ok("x")).await;
            }
        }
    }))
}

#[test]
fn the_next_of_several_addresses_is_used_when_the_first_is_dead() {
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback");
    // Nobody listens on the first two: a receiver that has lost nodes behind its name.
    let text = "127.0.0.2 receiver.test\n127.0.0.3 receiver.test\n127.0.0.1 receiver.test\n";
    let hosts = TempFile::new("addresses", text);
    let mut client = client_of(&hosts, listener.address().port());
    serving_on(&listener, async {
        for _ in 0..2 {
            let result = fetch(&mut client, &post(b"samples")).await.0;
            assert_eq!(result.expect("the third address answers").status, 200);
            client.close_idle();
        }
        assert_eq!(client.stats().connections, 2);
        // All dead: the error says which.
        drop(std::fs::write(&hosts.0, "127.0.0.2 receiver.test\n"));
        let error = fetch(&mut client, &post(b"samples")).await.0.expect_err("nobody there");
        assert!(error.to_string().starts_with("connect 127.0.0.2:"), "{error}");
        assert_eq!(error.class(), "connect");
    });
}

#[test]
fn the_other_family_serves_when_the_first_does_not_whichever_it_is() {
    let hosts = TempFile::new("families", "::1 receiver.test\n127.0.0.1 receiver.test\n");
    for address in [
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    ] {
        let listener = Listener::bind(address).expect("loopback has both families");
        let mut client = client_of(&hosts, listener.address().port());
        serving_on(&listener, async {
            let head = fetch(&mut client, &post(b"samples")).await.0;
            assert_eq!(head.expect("one family answers").status, 200, "{address}");
        });
    }
    // The order of the file does not matter either.
    hosts.write("127.0.0.1 receiver.test\n::1 receiver.test\n");
    let listener = Listener::bind((Ipv6Addr::LOCALHOST, 0).into()).expect("loopback");
    let mut client = client_of(&hosts, listener.address().port());
    serving_on(&listener, async {
        assert!(fetch(&mut client, &post(b"samples")).await.0.is_ok());
    });
}

/// Serves connections with TLS, each until the client closes it, and notes which were resumed.
async fn serve_tls(config: &Arc<ServerConfig>, socket: Socket, resumed: &RefCell<Vec<bool>>, answer: &str) {
    if let Ok(stream) = accept(config, socket).await {
        resumed.borrow_mut().push(stream.is_resumed());
        let mut peer = Peer::Tls(stream);
        while peer.request().await.is_some() {
            peer.send(answer).await;
        }
    }
}

/// Runs `requests` against a TLS server; what the server saw of resumption.
fn against_tls<T>(
    config: &Arc<ServerConfig>,
    answer: &str,
    requests: impl AsyncFnOnce(SocketAddr) -> T,
) -> (T, Vec<bool>) {
    let resumed = RefCell::default();
    let value = with_server(
        async |_, peer: Peer| {
            if let Peer::Plain(socket) = peer {
                serve_tls(config, socket, &resumed, answer).await;
            }
        },
        requests,
    );
    (value, resumed.into_inner())
}

fn secure(address: SocketAddr, tls: &Rc<TlsClient>) -> Client {
    let mut config = ClientConfig::new(url(&format!("https://localhost:{}/write", address.port())));
    config.tls = Some(tls.clone());
    Client::new(config, resolver()).expect("valid headers")
}

#[test]
fn receivers_of_one_tls_version_are_spoken_to() {
    let ca = TestCa::new();
    let certificate = ca.sign(&["localhost"], |_| {});
    for (only, excluding) in [
        (&version::TLS12, TlsVersion::Tls13),
        (&version::TLS13, TlsVersion::Tls12),
    ] {
        let server = ca.server_of(&certificate, &[only]);
        let any = tls_client(&ca, |_| {});
        let (status, _) = against_tls(&server, &ok("x"), async |address| {
            fetch(&mut secure(address, &any), &post(b"samples"))
                .await
                .0
                .map(|head| head.status)
        });
        assert_eq!(status.expect("answered"), 200, "{only:?}");
        let other = tls_client(&ca, |settings| {
            settings.min_version = Some(excluding);
            settings.max_version = Some(excluding);
        });
        let (error, _) = against_tls(&server, &ok("x"), async |address| {
            fetch(&mut secure(address, &other), &post(b"samples"))
                .await
                .0
                .expect_err("no version in common")
        });
        assert_eq!(error.class(), "tls", "{only:?}: {error}");
    }
}

#[test]
fn no_reconnect_takes_a_full_handshake() {
    let ca = TestCa::new();
    let certificate = ca.sign(&["localhost"], |_| {});
    for only in [&version::TLS12, &version::TLS13] {
        let tls = tls_client(&ca, |_| {});
        let (stats, resumed) = against_tls(&ca.server_of(&certificate, &[only]), &ok("x"), async |address| {
            let mut client = secure(address, &tls);
            for _ in 0..25 {
                assert!(fetch(&mut client, &post(b"samples")).await.0.is_ok());
                // The uplink went down and came back.
                client.close_idle();
            }
            client.stats()
        });
        assert_eq!((stats.tls_full, stats.tls_resumed), (1, 24), "{only:?}");
        assert_eq!(resumed.iter().filter(|resumed| !**resumed).count(), 1, "{only:?}");
    }
}

#[test]
fn sessions_outlive_requests_that_were_given_up() {
    let ca = TestCa::new();
    let certificate = ca.sign(&["localhost"], |_| {});
    let tls = tls_client(&ca, |_| {});
    let config = ca.server(&certificate, false);
    let stats = with_server(
        async |connection, peer: Peer| {
            let Peer::Plain(socket) = peer else { return };
            if let Ok(stream) = accept(&config, socket).await {
                let mut peer = Peer::Tls(stream);
                while peer.request().await.is_some() {
                    // Every second connection swallows its request.
                    if connection % 2 == 0 {
                        peer.send(ok("x")).await;
                    }
                }
            }
        },
        async |address| {
            let mut client = secure(address, &tls);
            for round in 0..12 {
                let request = Request {
                    deadline: now() + 400,
                    ..post(b"samples")
                };
                let answered = fetch(&mut client, &request).await.0.is_ok();
                assert_eq!(answered, round % 2 == 0);
                client.close_idle();
            }
            client.stats()
        },
    );
    assert_eq!((stats.tls_full, stats.tls_resumed), (1, 11));
}

#[test]
fn posts_are_sent_again_where_307_and_308_say() {
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let mut seen = Vec::new();
        with_server(
            async |_, mut peer: Peer| {
                while let Some(request) = peer.request().await {
                    let target = request.head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let answer = match target.as_str() {
                        "/metrics?a=b" => {
                            format!("HTTP/1.1 {status}\r\nLocation: /v2/write\r\nContent-Length: 4\r\n\r\nmove")
                        }
                        "/v2/write" => format!("HTTP/1.1 {status}\r\nLocation: push?x=1\r\nContent-Length: 0\r\n\r\n"),
                        _ => ok("there"),
                    };
                    let credentials = request.head.contains("authorization: Bearer t");
                    seen.push((target, request.body, credentials));
                    peer.send(answer).await;
                }
            },
            async |address| {
                let mut client = client_with(address, |config| {
                    config.authorization = Authorization::bearer(Secret::inline("t"));
                });
                let (result, collect) = fetch(&mut client, &post(b"samples")).await;
                assert_eq!(result.expect("followed").status, 200);
                assert_eq!((collect.heads, collect.body.as_slice()), (1, b"there".as_slice()));
                assert_eq!(client.stats().connections, 1, "the connection is kept");
            },
        );
        let expected =
            ["/metrics?a=b", "/v2/write", "/v2/push?x=1"].map(|target| (target.to_owned(), b"samples".to_vec(), true));
        assert_eq!(seen, expected, "{status}");
    }
}

#[test]
fn posts_are_not_sent_elsewhere_without_being_told_or_in_the_clear() {
    let answer = |location: &str| {
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
    };
    let status = |location: &str, follow: bool| {
        let text = answer(location);
        with_server(
            async |_, mut peer: Peer| {
                while peer.request().await.is_some() {
                    peer.send(&text).await;
                }
            },
            async |address| {
                let mut client = client_with(address, |config| config.follow_redirects = follow);
                fetch(&mut client, &post(b"samples")).await.0.map(|head| head.status)
            },
        )
    };
    assert_eq!(status("/other", false).expect("an answer"), 307);
    assert_eq!(
        status("", true).expect_err("for ever").to_string(),
        "stopped after 10 redirects"
    );
    assert_eq!(status("http://", true).expect("an answer"), 307, "not a URL");
    let ca = TestCa::new();
    let tls = tls_client(&ca, |_| {});
    let server = ca.server(&ca.sign(&["localhost"], |_| {}), false);
    let (status, _) = against_tls(&server, &answer("http://localhost:1/portal"), async |address| {
        fetch(&mut secure(address, &tls), &post(b"samples"))
            .await
            .0
            .map(|head| head.status)
    });
    assert_eq!(status.expect("an answer"), 307, "a portal must not get the samples");
}

#[test]
fn tokens_in_files_are_read_for_every_request() {
    let file = TempFile::new("token", "first\n");
    let mut seen = Vec::new();
    with_server(
        async |_, mut peer: Peer| {
            while let Some(request) = peer.request().await {
                seen.extend(
                    request
                        .head
                        .lines()
                        .filter(|line| line.starts_with("authorization"))
                        .map(String::from),
                );
                peer.send(ok("x")).await;
            }
        },
        async |address| {
            let mut client = client_with(address, |config| {
                config.authorization = Authorization::bearer(Secret::File(file.0.clone()));
            });
            for token in ["first", " second ", "third"] {
                file.write(token);
                assert!(fetch(&mut client, &post(b"samples")).await.0.is_ok());
            }
            assert_eq!(client.stats().connections, 1, "on one connection");
        },
    );
    assert_eq!(
        seen,
        ["first", "second", "third"].map(|token| format!("authorization: Bearer {token}"))
    );
}

#[test]
fn client_certificates_are_exchanged_without_a_restart() {
    let text = |pem: Pem| match pem {
        Pem::Inline(text) => text,
        Pem::File(_) => unreachable!("made inline"),
    };
    let (old, new) = (TestCa::new(), TestCa::new());
    let both = [text(old.pem()).as_str(), text(new.pem()).as_str()].concat();
    let files = ["cert", "key"].map(|name| TempFile::new(name, ""));
    let show = |certificate: &TestCert| {
        // The pair does not match in between: what was loaded goes on serving.
        files[0].write(&text(certificate.pem()));
        files[1].write(&text(certificate.key_pem()));
    };
    let settings = TlsSettings {
        ca: Some(Pem::Inline(both.into())),
        certificate: Some(Pem::File(files[0].0.clone())),
        key: Some(Pem::File(files[1].0.clone())),
        ..TlsSettings::default()
    };
    let tls = Rc::new(TlsClient::new(TlsContext::new(CertClock::new()), settings));
    // Each receiver takes certificates of its own authority only.
    let reaches = |ca: &TestCa| {
        let server = ca.server(&ca.sign(&["localhost"], |_| {}), true);
        against_tls(&server, &ok("x"), async |address| {
            fetch(&mut secure(address, &tls), &post(b"samples"))
                .await
                .0
                .map(|head| head.status)
        })
        .0
    };
    // Both authorities bear the same name, so the alert is one about a signature.
    let refused = |ca: &TestCa| {
        reaches(ca)
            .expect_err("another's certificate")
            .class()
            .starts_with("tls")
    };
    show(&old.sign(&["box"], |_| {}));
    assert_eq!(reaches(&old).expect("its certificate"), 200);
    assert!(refused(&new));
    // Longer than the old one, so that the change shows even within the clock's resolution.
    show(&new.sign(&["box", "box.longer.example"], |_| {}));
    assert_eq!(reaches(&new).expect("the new certificate"), 200);
    assert!(refused(&old));
}

#[cfg(feature = "sigv4")]
#[test]
fn nothing_is_signed_or_sent_before_the_time_is_known() {
    let mut seen = Vec::new();
    with_server(
        async |_, mut peer: Peer| {
            while let Some(request) = peer.request().await {
                seen.push(request.head);
                peer.send(ok("x")).await;
            }
        },
        async |address| {
            let mut client = client_with(address, |config| {
                config.authorization = Authorization::Signed(Rc::new(Signer {
                    region: "eu-west-1".into(),
                    service: DEFAULT_SERVICE.into(),
                    keys: AwsKeys::Inline {
                        access_key: "AK".into(),
                        secret_key: Secret::inline("s"),
                    },
                }));
            });
            let error = fetch(&mut client, &post(b"samples")).await.0.expect_err("no time");
            assert!(matches!(error, HttpError::Sign(SignError::ClockUnknown)), "{error}");
            assert_eq!((error.class(), client.stats().connections), ("credentials", 0));
            let request = Request {
                wall: Some(crate::clock::UnixMillis(1_440_938_160_000)),
                ..post(b"samples")
            };
            assert_eq!(fetch(&mut client, &request).await.0.expect("signed").status, 200);
        },
    );
    assert_eq!(seen.len(), 1);
    assert!(seen[0].contains("x-amz-date: 20150830T123600Z\r\n"), "{}", seen[0]);
    assert!(
        seen[0].contains(
            "Credential=AK/20150830/eu-west-1/aps/aws4_request, SignedHeaders=content-length;host;x-amz-date, "
        )
    );
    assert_eq!(seen[0].matches("\r\nhost: ").count(), 1);
}
