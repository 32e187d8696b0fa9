//! TLS: trust, names, versions, client certificates, resumption; tunnels through a proxy.

use super::*;
use crate::host::net::pause;
use crate::host::tls::testing::{TestCa, TestCert, accept, client as tls_client};
use crate::host::tls::{CertClock, Pem, TlsClient, TlsContext, TlsSettings, TlsVersion};
use alloc::sync::Arc;
use rustls::server::ServerConfig;

/// As [`with_server`], with TLS; a handshake that fails ends the connection.
fn with_tls_server<T>(
    config: Arc<ServerConfig>,
    mut script: impl AsyncFnMut(usize, Peer),
    client: impl AsyncFnOnce(SocketAddr) -> T,
) -> T {
    with_server(
        async |connection, peer: Peer| {
            let Peer::Plain(socket) = peer else { return };
            if let Ok(stream) = accept(&config, socket).await {
                script(connection, Peer::Tls(stream)).await;
            }
        },
        client,
    )
}

async fn answering(_: usize, mut peer: Peer) {
    while peer.request().await.is_some() {
        peer.send(ok("up 1\n")).await;
    }
}

fn secure_client(address: SocketAddr, tls: &Rc<TlsClient>) -> Client {
    let mut config = ClientConfig::new(url(&format!("https://localhost:{}/metrics", address.port())));
    config.tls = Some(tls.clone());
    Client::new(config, resolver()).expect("valid headers")
}

/// One request to a server with `certificate`: the client's result.
fn try_once(ca: &TestCa, certificate: &TestCert, mutual: bool, tls: &Rc<TlsClient>) -> Result<ResponseHead, HttpError> {
    with_tls_server(ca.server(certificate, mutual), answering, async |address| {
        fetch(&mut secure_client(address, tls), &get()).await.0
    })
}

#[test]
fn both_versions_work_and_connections_are_kept() {
    let ca = TestCa::new();
    let certificate = ca.sign(&["localhost"], |_| {});
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let tls = tls_client(&ca, |settings| {
            settings.min_version = Some(version);
            settings.max_version = Some(version);
        });
        with_tls_server(ca.server(&certificate, false), answering, async |address| {
            let mut client = secure_client(address, &tls);
            for _ in 0..3 {
                let (result, collect) = fetch(&mut client, &get()).await;
                assert_eq!(
                    (result.expect("good").status, collect.body.as_slice()),
                    (200, b"up 1\n".as_slice())
                );
            }
            let stats = client.stats();
            assert_eq!(stats.connections, 1);
            assert!(
                stats.wire_bytes_sent > stats.head_bytes_sent,
                "the handshake is counted"
            );
        });
    }
}

#[test]
fn untrusted_authority_is_a_certificate_error() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let error = try_once(
        &ca,
        &ca.sign(&["localhost"], |_| {}),
        false,
        &tls_client(&other, |_| {}),
    )
    .expect_err("untrusted");
    assert_eq!(error.class(), "tls_certificate");
    let text = error.to_string();
    assert!(text.starts_with("tls: failed to verify certificate: "), "{text}");
}

#[test]
fn wrong_name_is_refused_unless_server_name_says_otherwise() {
    let ca = TestCa::new();
    let certificate = ca.sign(&["edge.example"], |_| {});
    let error = try_once(&ca, &certificate, false, &tls_client(&ca, |_| {})).expect_err("another name");
    assert_eq!(error.class(), "tls_certificate");
    assert!(error.to_string().contains("edge.example"), "{error}");
    let named = tls_client(&ca, |settings| settings.server_name = Some("edge.example".into()));
    assert!(try_once(&ca, &certificate, false, &named).is_ok());
    let careless = tls_client(&ca, |settings| settings.insecure_skip_verify = true);
    assert!(try_once(&ca, &certificate, false, &careless).is_ok());
}

#[test]
fn expired_and_not_yet_valid_are_told_apart() {
    let ca = TestCa::new();
    let expired = ca.sign(&["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let error = try_once(&ca, &expired, false, &tls_client(&ca, |_| {})).expect_err("expired");
    assert!(
        error
            .to_string()
            .contains("valid until 2021-01-01T00:00:00Z, clock says 20"),
        "{error}"
    );
    let future = ca.sign(&["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1)
    });
    let error = try_once(&ca, &future, false, &tls_client(&ca, |_| {})).expect_err("not yet valid");
    assert!(
        matches!(&error, HttpError::Tls(tls) if tls.is_not_valid_yet() && tls.is_certificate()),
        "{error:?}"
    );
}

#[test]
fn client_certificate_is_shown_and_its_absence_is_a_certificate_error() {
    let ca = TestCa::new();
    let certificate = ca.sign(&["localhost"], |_| {});
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let without = tls_client(&ca, |settings| settings.max_version = Some(version));
        let error = try_once(&ca, &certificate, true, &without).expect_err("no certificate");
        assert_eq!(error.class(), "tls_certificate", "{version:?}: {error:?}");
        assert_eq!(
            error.to_string(),
            "tls: server requires a client certificate (cert_file and key_file)"
        );
        let ours = ca.sign(&["edge-7"], |_| {});
        let with = tls_client(&ca, |settings| {
            settings.max_version = Some(version);
            settings.certificate = Some(ours.pem());
            settings.key = Some(ours.key_pem());
        });
        assert!(try_once(&ca, &certificate, true, &with).is_ok());
    }
}

#[test]
fn second_connection_resumes_the_session() {
    let ca = TestCa::new();
    let tls = tls_client(&ca, |_| {});
    let mut resumed = Vec::new();
    let (full, second) = with_tls_server(
        ca.server(&ca.sign(&["localhost"], |_| {}), false),
        async |_, mut peer: Peer| {
            if let Peer::Tls(stream) = &peer {
                resumed.push(stream.is_resumed());
            }
            if peer.request().await.is_some() {
                peer.send(ok("x")).await;
            }
        },
        async |address| {
            let mut client = secure_client(address, &tls);
            assert!(fetch(&mut client, &get()).await.0.is_ok());
            let full = client.stats().wire_bytes_received;
            client.close_idle();
            assert!(fetch(&mut client, &get()).await.0.is_ok());
            (full, client.stats().wire_bytes_received - full)
        },
    );
    assert_eq!(resumed, [false, true]);
    assert!(second < full, "{second} bytes resumed, {full} in full");
}

#[test]
fn end_without_goodbye_does_not_complete_a_body() {
    let ca = TestCa::new();
    let config = ca.server(&ca.sign(&["localhost"], |_| {}), false);
    let ending = |goodbye: bool| {
        with_tls_server(
            config.clone(),
            async |_, mut peer: Peer| {
                let _ = peer.request().await;
                peer.send("HTTP/1.1 200 OK\r\n\r\nup 1\n").await;
                if let (Peer::Tls(stream), true) = (&mut peer, goodbye) {
                    stream.close_notify();
                }
            },
            async |address| fetch(&mut secure_client(address, &tls_client(&ca, |_| {})), &get()).await,
        )
    };
    let (result, collect) = ending(true);
    assert_eq!(
        (result.expect("complete").status, collect.body.as_slice()),
        (200, b"up 1\n".as_slice())
    );
    assert!(matches!(ending(false).0, Err(HttpError::Eof(Phase::Body))));
}

#[test]
fn large_post_and_early_answer_go_through_tls() {
    let ca = TestCa::new();
    let tls = tls_client(&ca, |_| {});
    let config = ca.server(&ca.sign(&["localhost"], |_| {}), false);
    let body: Vec<u8> = (0..300_000u32).map(|n| (n % 241) as u8).collect();
    let expected = body.clone();
    with_tls_server(
        config.clone(),
        async |_, mut peer: Peer| {
            while let Some(request) = peer.request().await {
                assert!(request.body == expected);
                peer.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        },
        async |address| {
            let mut client = secure_client(address, &tls);
            assert!(fetch(&mut client, &post(&body)).await.0.is_ok());
            assert!(fetch(&mut client, &post(&body)).await.0.is_ok());
            let stats = client.stats();
            assert_eq!(stats.connections, 1);
            // 22 bytes for each record of 8 KiB, and the handshake.
            assert!(
                stats.wire_bytes_sent < stats.body_bytes_sent + stats.head_bytes_sent + 6_000,
                "{stats:?}"
            );
        },
    );
    with_tls_server(
        config,
        async |_, mut peer: Peer| {
            let _ = peer.read(&mut [0; 1024]).await;
            peer.send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n")
                .await;
            pause(500).await;
        },
        async |address| {
            let big = vec![0; 16 << 20];
            let head = fetch(&mut secure_client(address, &tls), &post(&big))
                .await
                .0
                .expect("an answer");
            assert_eq!(head.status, 413);
        },
    );
}

#[test]
fn silence_in_the_handshake_meets_the_deadline_and_plain_text_is_a_tls_error() {
    let ca = TestCa::new();
    let tls = tls_client(&ca, |_| {});
    with_server(
        async |_, mut peer: Peer| while peer.read(&mut [0; 512]).await.is_some() {},
        async |address| {
            let request = Request {
                deadline: now() + 50,
                ..get()
            };
            let error = fetch(&mut secure_client(address, &tls), &request)
                .await
                .0
                .expect_err("deadline");
            assert!(matches!(error, HttpError::Timeout(Phase::Tls)), "{error:?}");
        },
    );
    with_server(
        async |_, mut peer: Peer| {
            let _ = peer.read(&mut [0; 512]).await;
            peer.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        },
        async |address| {
            let error = fetch(&mut secure_client(address, &tls), &get())
                .await
                .0
                .expect_err("no TLS there");
            assert_eq!(error.class(), "tls", "{error:?}");
        },
    );
    with_server(
        async |_, peer: Peer| drop(peer),
        async |address| {
            let error = fetch(&mut secure_client(address, &tls), &get())
                .await
                .0
                .expect_err("closed");
            assert_eq!(error.class(), "connection_lost", "{error:?}");
        },
    );
}

#[test]
fn idle_tls_connection_closed_by_the_server_is_replaced() {
    let ca = TestCa::new();
    let tls = tls_client(&ca, |_| {});
    let config = ca.server(&ca.sign(&["localhost"], |_| {}), false);
    with_tls_server(
        config,
        async |_, mut peer: Peer| {
            if peer.request().await.is_some() {
                peer.send(ok("x")).await;
            }
            if let Peer::Tls(stream) = &mut peer {
                stream.close_notify();
            }
        },
        async |address| {
            let mut client = secure_client(address, &tls);
            for round in 1..4 {
                assert!(fetch(&mut client, &get()).await.0.is_ok());
                assert_eq!((client.stats().connections, client.stats().repeated), (round, 0));
                pause(2).await;
            }
        },
    );
}

#[test]
fn certificate_files_are_read_again_when_they_change() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let path = std::env::temp_dir().join(format!("tidegate-ca-{}.pem", std::process::id()));
    let write = |text: &str| std::fs::write(&path, text).expect("temp dir");
    let text = |ca: &TestCa| match ca.pem() {
        Pem::Inline(text) => text,
        Pem::File(_) => unreachable!("made inline"),
    };
    let settings = TlsSettings {
        ca: Some(Pem::File(path.clone())),
        ..TlsSettings::default()
    };
    let tls = Rc::new(TlsClient::new(TlsContext::new(CertClock::new()), settings));
    let missing = tls.load().expect_err("not written yet").to_string();
    assert!(missing.contains("tidegate-ca-"), "{missing}");
    let certificate = ca.sign(&["localhost"], |_| {});
    write(&text(&ca));
    tls.load().expect("a certificate");
    assert!(try_once(&ca, &certificate, false, &tls).is_ok());
    write(&format!("{}\n\n", text(&other).as_str()));
    assert_eq!(
        try_once(&ca, &certificate, false, &tls)
            .expect_err("other authority")
            .class(),
        "tls_certificate"
    );
    write(&format!("{}\n", text(&ca).as_str()));
    assert!(try_once(&ca, &certificate, false, &tls).is_ok());
    write("no certificate here");
    assert!(try_once(&ca, &certificate, false, &tls).is_ok(), "the old one stays");
    std::fs::remove_file(&path).expect("temp dir");
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_reason() {
    let ca = TestCa::new();
    let (ours, other) = (ca.sign(&["edge"], |_| {}), ca.sign(&["edge"], |_| {}));
    let reason = |change: &dyn Fn(&mut TlsSettings)| tls_client(&ca, change).load().expect_err("unusable").to_string();
    let inline = |text: &str| Some(Pem::Inline(zeroize::Zeroizing::new(text.into())));
    assert_eq!(
        reason(&|s| s.certificate = Some(ours.pem())),
        "cert_file and key_file must be given together"
    );
    assert!(
        reason(&|s| {
            s.certificate = Some(ours.pem());
            s.key = Some(other.key_pem());
        })
        .starts_with("client certificate and key: ")
    );
    assert_eq!(reason(&|s| s.ca = inline("")), "no certificate in inline PEM");
    assert_eq!(
        reason(&|s| {
            s.min_version = Some(TlsVersion::Tls13);
            s.max_version = Some(TlsVersion::Tls12);
        }),
        "min_version is above max_version"
    );
    assert_eq!(
        reason(&|s| s.server_name = Some("a b".into())),
        "server_name is neither a host name nor an address"
    );
}

/// A proxy for one tunnel: answers the CONNECT with `answer`, then passes bytes on to `target`.
async fn proxy(mut client: Peer, target: SocketAddr, answer: &str, heads: &mut Vec<String>) {
    let Some(request) = client.request().await else { return };
    heads.push(request.head);
    client.send(answer).await;
    let Peer::Plain(near) = client else { return };
    if !answer.contains(" 200 ") {
        return;
    }
    let far = Socket::connect(target, crate::host::net::SocketOptions::default())
        .await
        .expect("loopback");
    let pipe = async |from: &Socket, to: &Socket| {
        let mut buf = [0; 2048];
        while let Ok(read @ 1..) = from.read(&mut buf).await {
            if to.write_all(&buf[..read]).await.is_err() {
                return;
            }
        }
    };
    smol::future::or(pipe(&near, &far), pipe(&far, &near)).await;
}

#[test]
fn tunnels_carry_tls() {
    let ca = TestCa::new();
    let tls = tls_client(&ca, |_| {});
    let config = ca.server(&ca.sign(&["localhost"], |_| {}), false);
    let mut heads = Vec::new();
    let proxy_listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback");
    with_server(
        async |connection, peer: Peer| {
            if let Peer::Plain(socket) = peer
                && let Ok(stream) = accept(&config, socket).await
            {
                answering(connection, Peer::Tls(stream)).await;
            }
        },
        async |address| {
            let mut settings = ClientConfig::new(url(&format!("https://localhost:{}/m", address.port())));
            settings.tls = Some(tls.clone());
            settings.proxy = Some(proxy_at(proxy_listener.address()));
            let mut client = Client::new(settings, resolver()).expect("valid");
            let serve = async {
                let (socket, _) = proxy_listener.accept().await.expect("loopback");
                let established = "HTTP/1.1 200 Connection established\r\n\r\n";
                proxy(Peer::Plain(socket), address, established, &mut heads).await;
                core::future::pending().await
            };
            let twice = async {
                for _ in 0..2 {
                    let (result, collect) = fetch(&mut client, &get()).await;
                    assert_eq!(
                        (result.expect("good").status, collect.body.as_slice()),
                        (200, b"up 1\n".as_slice())
                    );
                }
            };
            smol::future::or(twice, serve).await;
            assert_eq!(client.stats().connections, 1);
            assert!(
                heads[0].starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", address.port())),
                "{heads:?}"
            );
        },
    );
    assert!(heads[0].contains("proxy-authorization: Basic cDpx\r\n") && heads[0].contains("x-plan: iot\r\n"));
    assert_eq!(heads.len(), 1);
}

/// The proxy there, which wants to know user and plan.
fn proxy_at(address: SocketAddr) -> Proxy {
    Proxy {
        url: url(&format!("http://{address}")),
        authorization: Authorization::basic("p", "q"),
        headers: vec![Header {
            name: "X-Plan".into(),
            value: Secret::inline("iot"),
            sensitive: false,
        }],
    }
}

#[test]
fn a_proxy_is_asked_for_http_by_the_whole_url() {
    let heads = core::cell::RefCell::new(Vec::new());
    with_server(
        async |_, mut peer: Peer| {
            while let Some(request) = peer.request().await {
                heads.borrow_mut().push((request.head, request.body));
                peer.send(ok("up 1\n")).await;
            }
        },
        async |address| {
            // A host that only the proxy could find.
            let mut settings = ClientConfig::new(url("http://far.invalid:9100/m?a=b"));
            settings.proxy = Some(proxy_at(address));
            settings.authorization = Authorization::basic("me", "one");
            let mut client = Client::new(settings, resolver()).expect("valid");
            for request in [get(), post(b"abc"), get()] {
                let (result, collect) = fetch(&mut client, &request).await;
                assert_eq!(
                    (result.expect("good").status, collect.body.as_slice()),
                    (200, b"up 1\n".as_slice())
                );
            }
            assert_eq!(client.stats().connections, 1);
        },
    );
    let heads = heads.into_inner();
    let lines: Vec<&str> = heads.iter().filter_map(|(head, _)| head.lines().next()).collect();
    assert_eq!(
        lines,
        ["GET", "POST", "GET"].map(|method| format!("{method} http://far.invalid:9100/m?a=b HTTP/1.1"))
    );
    for (head, _) in &heads {
        assert!(head.contains("host: far.invalid:9100\r\n"), "{head}");
        assert!(head.contains("proxy-authorization: Basic cDpx\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: Basic "), "{head}");
        assert!(!head.contains("x-plan"), "for CONNECT only: {head}");
    }
    assert_eq!(heads[1].1, b"abc");
}

#[test]
fn proxy_that_refuses_is_named() {
    with_server(
        async |_, peer: Peer| {
            let refused = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
            proxy(peer, ([127, 0, 0, 1], 1).into(), refused, &mut Vec::new()).await;
        },
        async |address| {
            let mut settings = ClientConfig::new(url("https://localhost/m"));
            settings.tls = Some(tls_client(&TestCa::new(), |_| {}));
            settings.proxy = Some(proxy_at(address));
            let mut client = Client::new(settings, resolver()).expect("valid");
            let error = fetch(&mut client, &get()).await.0.expect_err("refused");
            assert_eq!(error.to_string(), "proxy answered CONNECT with HTTP status 407");
        },
    );
}
