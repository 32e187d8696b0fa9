//! Plain HTTP: connections, bodies, redirects, limits, failures.

use super::*;
use crate::host::gunzip::GunzipError;
use crate::host::limits::{HTTP_DISCARD_BYTES, HTTP_RECEIVE_BYTES};
use std::io::Write;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).expect("to a vector");
    encoder.finish().expect("to a vector")
}

/// Serves the same bytes for every request on every connection, then closes when `close`.
fn serving(response: impl AsRef<[u8]>, close: bool) -> impl AsyncFnMut(usize, Peer) {
    async move |_, mut peer: Peer| {
        while peer.request().await.is_some() {
            peer.send(&response).await;
            if close {
                return;
            }
        }
    }
}

fn fetch_from(response: impl AsRef<[u8]>, close: bool) -> (Result<ResponseHead, HttpError>, Collect) {
    with_server(serving(response, close), async |address| {
        fetch(&mut plain_client(address), &get()).await
    })
}

fn gzip_response(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn request_is_written_as_http_wants_it() {
    let mut seen = String::new();
    with_server(
        async |_, mut peer: Peer| {
            if let Some(request) = peer.request().await {
                seen = request.head;
                peer.send(ok("up 1\n")).await;
            }
        },
        async |address| {
            let mut client = client_with(address, |config| {
                config.headers.push(Header {
                    name: "User-Agent".into(),
                    value: Secret::inline("Prometheus/3.0"),
                    sensitive: false,
                });
                config.authorization = Authorization::bearer(Secret::inline("t0ken"));
            });
            let request = Request {
                headers: &[("Accept", "text/plain")],
                ..get()
            };
            let (result, collect) = fetch(&mut client, &request).await;
            let head = result.expect("a good response");
            assert_eq!((head.status, head.content_type.as_deref()), (200, Some("text/plain")));
            assert_eq!(collect.body, b"up 1\n");
            let stats = client.stats();
            assert_eq!((stats.requests, stats.connections, stats.repeated), (1, 1, 0));
            assert_eq!(stats.wire_bytes_sent, stats.head_bytes_sent);
            assert_eq!(
                stats.wire_bytes_received,
                stats.head_bytes_received + stats.body_bytes_received
            );
            assert_eq!(stats.body_bytes_received, 5);
        },
    );
    assert!(
        seen.starts_with("GET /metrics?a=b HTTP/1.1\r\nhost: 127.0.0.1:"),
        "{seen}"
    );
    for line in [
        "\r\nuser-agent: Prometheus/3.0\r\n",
        "\r\naccept: text/plain\r\n",
        "\r\nauthorization: Bearer t0ken\r\n",
    ] {
        assert!(seen.contains(line), "{seen}");
    }
    assert!(
        !seen.contains("transfer-encoding") && !seen.contains("content-length"),
        "{seen}"
    );
}

#[test]
fn connection_is_kept_and_used_again() {
    with_server(serving(ok("a 1\n"), false), async |address| {
        let mut client = plain_client(address);
        for _ in 0..3 {
            let (result, collect) = fetch(&mut client, &get()).await;
            assert_eq!(
                (result.expect("good").status, collect.body.as_slice()),
                (200, b"a 1\n".as_slice())
            );
        }
        assert_eq!(client.stats().connections, 1);
        client.close_idle();
        assert!(fetch(&mut client, &get()).await.0.is_ok());
        assert_eq!(client.stats().connections, 2);
    });
}

#[test]
fn connection_is_not_kept_when_either_side_says_so() {
    let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    with_server(serving(close, true), async |address| {
        let mut client = plain_client(address);
        for round in 1..3 {
            assert!(fetch(&mut client, &get()).await.0.is_ok());
            assert_eq!(client.stats().connections, round);
        }
    });
    with_server(serving(ok("x"), true), async |address| {
        let mut client = client_with(address, |config| config.keep_alive = false);
        for round in 1..3 {
            assert!(fetch(&mut client, &get()).await.0.is_ok());
            assert_eq!(client.stats().connections, round);
        }
    });
}

#[test]
fn idle_connection_closed_by_the_server_is_replaced_unnoticed() {
    with_server(serving(ok("x"), true), async |address| {
        let mut client = plain_client(address);
        for round in 1..4 {
            assert!(fetch(&mut client, &get()).await.0.is_ok());
            assert_eq!(client.stats().connections, round);
            // The server's close has to arrive.
            crate::host::net::pause(2).await;
        }
    });
}

#[test]
fn request_on_a_dying_connection_is_repeated_once() {
    // The first connection answers once, reads the second request and closes without a word.
    with_server(
        async |connection, mut peer: Peer| {
            let answers = if connection == 0 { 1 } else { 2 };
            for _ in 0..answers {
                if peer.request().await.is_some() {
                    peer.send(ok("x")).await;
                }
            }
            let _ = peer.request().await;
        },
        async |address| {
            let mut client = plain_client(address);
            assert!(fetch(&mut client, &get()).await.0.is_ok());
            let (result, collect) = fetch(&mut client, &post(b"batch")).await;
            assert!(result.is_ok() && collect.heads == 1);
            assert_eq!((client.stats().connections, client.stats().repeated), (2, 1));
        },
    );
}

#[test]
fn fresh_connection_that_closes_is_not_tried_again() {
    let mut connections = 0;
    with_server(
        async |_, mut peer: Peer| {
            connections += 1;
            let _ = peer.request().await;
        },
        async |address| {
            let error = fetch(&mut plain_client(address), &get()).await.0.expect_err("closed");
            assert!(matches!(error, HttpError::Eof(Phase::Head)), "{error:?}");
        },
    );
    assert_eq!(connections, 1);
}

#[test]
fn started_answer_is_never_repeated() {
    with_server(
        async |connection, mut peer: Peer| {
            let _ = peer.request().await;
            peer.send(ok("x")).await;
            if connection == 0 && peer.request().await.is_some() {
                peer.send("HTTP/1.1 20").await;
            }
        },
        async |address| {
            let mut client = plain_client(address);
            assert!(fetch(&mut client, &get()).await.0.is_ok());
            assert!(matches!(
                fetch(&mut client, &get()).await.0,
                Err(HttpError::Eof(Phase::Head))
            ));
            assert_eq!((client.stats().connections, client.stats().repeated), (1, 0));
        },
    );
}

#[test]
fn chunked_and_close_delimited_bodies_are_joined() {
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nup 1\r\n1;x=y\r\n\n\r\n0\r\nTrailer: 1\r\n\r\n";
    assert_eq!(fetch_from(chunked, false).1.body, b"up 1\n");
    let until_close = "HTTP/1.1 200 OK\r\n\r\nup 1\n";
    let (result, collect) = fetch_from(until_close, true);
    assert_eq!(
        (result.expect("good").status, collect.body.as_slice()),
        (200, b"up 1\n".as_slice())
    );
    let http10 = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nup 1\n";
    assert_eq!(fetch_from(http10, true).1.body, b"up 1\n");
}

#[test]
fn body_longer_than_the_buffers_arrives_whole() {
    let body: String = (0..30_000).map(|n| format!("m{{i=\"{n}\"}} {n}\n")).collect();
    let (result, collect) = fetch_from(ok(&body), false);
    assert!(result.is_ok());
    assert_eq!(collect.body, body.as_bytes());
}

#[test]
fn bodyless_answers_end_at_once() {
    for response in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (result, collect) = fetch_from(response, false);
        assert!(result.is_ok() && collect.body.is_empty());
    }
    with_server(
        serving("HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n", false),
        async |address| {
            let mut client = plain_client(address);
            let head = Request {
                method: Method::Head,
                ..get()
            };
            assert_eq!(
                fetch(&mut client, &head).await.0.expect("good").content_length,
                Some(700)
            );
            assert!(fetch(&mut client, &head).await.0.is_ok());
            assert_eq!(client.stats().connections, 1);
        },
    );
}

#[test]
fn informational_answers_are_skipped() {
    let response = format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{}", ok("x"));
    let (result, collect) = fetch_from(response, false);
    assert_eq!((result.expect("good").status, collect.heads), (200, 1));
}

#[test]
fn error_status_is_an_answer_and_its_body_may_be_dropped() {
    let response = "HTTP/1.1 503 Whatever\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy";
    with_server(serving(response, false), async |address| {
        let mut client = plain_client(address);
        let (result, collect) = fetch(&mut client, &get()).await;
        let head = result.expect("an answer");
        assert_eq!(head.status_text(), "503 Service Unavailable");
        assert_eq!(
            (head.retry_after.as_deref(), collect.body.as_slice()),
            (Some("7"), b"busy".as_slice())
        );
        let mut drop_body = Collect {
            discard: true,
            ..Collect::default()
        };
        assert!(
            client
                .request(&get(), &mut Buffers::new(false), &mut drop_body)
                .await
                .is_ok()
        );
        assert!(fetch(&mut client, &get()).await.0.is_ok());
        assert_eq!(client.stats().connections, 1, "a short body is read off");
    });
}

#[test]
fn long_unwanted_body_costs_the_connection_not_the_answer() {
    let response = ok(&"x".repeat(4 * HTTP_DISCARD_BYTES as usize));
    with_server(serving(response, false), async |address| {
        let mut client = plain_client(address);
        let mut collect = Collect {
            discard: true,
            ..Collect::default()
        };
        let head = client
            .request(&get(), &mut Buffers::new(false), &mut collect)
            .await
            .expect("an answer");
        assert_eq!(head.status, 200);
        assert!(client.stats().body_bytes_received < 2 * HTTP_DISCARD_BYTES + HTTP_RECEIVE_BYTES as u64);
    });
}

#[test]
fn redirects_are_followed_with_credentials_for_the_same_host_only() {
    let mut heads = Vec::new();
    with_server(
        async |_, mut peer: Peer| {
            while let Some(request) = peer.request().await {
                let port = request
                    .head
                    .split("host: 127.0.0.1:")
                    .nth(1)
                    .map(|rest| rest[..5].trim().to_owned());
                let answer = match request.head.split(' ').nth(1) {
                    Some("/metrics?a=b") => {
                        "HTTP/1.1 302 Found\r\nLocation: next\r\nContent-Length: 3\r\n\r\nbye".into()
                    }
                    Some("/next") => format!(
                        "HTTP/1.1 301 Moved\r\nLocation: http://localhost:{}/else\r\nContent-Length: 0\r\n\r\n",
                        port.unwrap_or_default()
                    ),
                    _ => ok("there"),
                };
                heads.push(request.head);
                peer.send(&answer).await;
                if answer.contains("localhost") {
                    // One connection at a time is served.
                    return;
                }
            }
        },
        async |address| {
            let mut client = client_with(address, |config| {
                config.authorization = Authorization::basic("joe", "secret");
                config.headers.push(Header {
                    name: "X-Key".into(),
                    value: Secret::inline("k"),
                    sensitive: true,
                });
                config.headers.push(Header {
                    name: "X-Open".into(),
                    value: Secret::inline("o"),
                    sensitive: false,
                });
            });
            let (result, collect) = fetch(&mut client, &get()).await;
            assert_eq!(
                (result.expect("good").status, collect.body.as_slice()),
                (200, b"there".as_slice())
            );
            assert_eq!(collect.heads, 1, "only the last answer is delivered");
        },
    );
    assert_eq!(heads.len(), 3);
    let with_credentials = |head: &str| {
        (
            head.contains("authorization: Basic am9lOnNlY3JldA=="),
            head.contains("x-key"),
            head.contains("x-open"),
        )
    };
    assert_eq!(with_credentials(&heads[1]), (true, true, true));
    assert_eq!(with_credentials(&heads[2]), (false, false, true));
}

#[test]
fn redirect_loop_ends_after_ten() {
    let mut requests = 0;
    with_server(
        async |_, mut peer: Peer| {
            while peer.request().await.is_some() {
                requests += 1;
                peer.send("HTTP/1.1 307 Again\r\nLocation: /metrics?a=b\r\nContent-Length: 0\r\n\r\n")
                    .await;
            }
        },
        async |address| {
            let error = fetch(&mut plain_client(address), &get()).await.0.expect_err("loop");
            assert!(
                matches!(error, HttpError::Redirect(RedirectError::TooMany)),
                "{error:?}"
            );
            assert_eq!(error.to_string(), "stopped after 10 redirects");
        },
    );
    assert_eq!(requests, 11);
}

#[test]
fn redirects_not_followed_are_answers() {
    let found = "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n";
    with_server(serving(found, false), async |address| {
        let mut client = client_with(address, |config| config.follow_redirects = false);
        let head = fetch(&mut client, &get()).await.0.expect("an answer");
        assert_eq!((head.status, head.location.as_deref()), (302, Some("/other")));
        let mut following = plain_client(address);
        client.close_idle();
        assert_eq!(
            fetch(&mut following, &post(b"x")).await.0.expect("an answer").status,
            302,
            "a POST does not become a GET"
        );
    });
    let nowhere = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(
        fetch_from(nowhere, false).0,
        Err(HttpError::Redirect(RedirectError::Location))
    ));
    let secure = "HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(fetch_from(secure, false).0, Err(HttpError::NeedsTls)));
}

#[test]
fn gzip_is_inflated_and_anything_else_is_left_alone() {
    let plain: String = (0..5_000).map(|n| format!("metric{{i=\"{n}\"}} 1\n")).collect();
    let (result, collect) = fetch_from(gzip_response(&gzip(plain.as_bytes())), false);
    assert!(result.expect("good").gzip);
    assert_eq!(collect.body, plain.as_bytes());
    let other = "HTTP/1.1 200 OK\r\nContent-Encoding: GZIP\r\nContent-Length: 2\r\n\r\n\x1f\x1f";
    let (result, collect) = fetch_from(other, false);
    assert!(!result.expect("good").gzip);
    assert_eq!(collect.body, b"\x1f\x1f");
    with_server(serving(gzip_response(&gzip(b"x")), false), async |address| {
        let mut collect = Collect::default();
        let head = plain_client(address)
            .request(&get(), &mut Buffers::new(false), &mut collect)
            .await
            .expect("good");
        assert!(
            !head.gzip && collect.body.starts_with(b"\x1f\x8b"),
            "buffers without inflating deliver as it is"
        );
    });
}

#[test]
fn damaged_gzip_fails_the_request() {
    let whole = gzip(b"a_metric 1\n");
    let truncated = fetch_from(gzip_response(&whole[..whole.len() - 3]), false).0;
    assert!(matches!(truncated, Err(HttpError::Gunzip(GunzipError::Truncated))));
    let empty = fetch_from(gzip_response(b""), false).0;
    assert!(matches!(empty, Err(HttpError::Gunzip(GunzipError::Truncated))));
    let garbage = fetch_from(gzip_response(b"no gzip at all"), false).0;
    assert!(matches!(garbage, Err(HttpError::Gunzip(GunzipError::Header))));
    // 204 has no body to be missing.
    assert!(
        fetch_from("HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n", false)
            .0
            .is_ok()
    );
}

#[test]
fn body_limit_counts_decoded_bytes_and_is_reached_by_its_own_length() {
    let limited = |response: Vec<u8>, body_limit| {
        with_server(serving(response, false), async |address| {
            let mut client = plain_client(address);
            let (result, collect) = fetch(&mut client, &Request { body_limit, ..get() }).await;
            (
                result.map(|head| head.status),
                collect.body.len(),
                client.stats().body_bytes_received,
            )
        })
    };
    let five = ok("12345").into_bytes();
    assert!(matches!(limited(five.clone(), 6), (Ok(200), 5, 5)));
    assert!(matches!(
        limited(five, 5),
        (Err(HttpError::BodyTooLarge { limit: 5 }), 0, 0)
    ));
    let bomb = gzip_response(&gzip(&vec![b'x'; 20 << 20]));
    let (result, delivered, received) = limited(bomb, 100_000);
    assert!(matches!(result, Err(HttpError::BodyTooLarge { .. })));
    assert!(delivered < 100_000 && received < 10_000, "{delivered} {received}");
}

#[test]
fn server_that_never_answers_or_drips_meets_the_deadline() {
    let timed = |script: fn(Peer) -> core::pin::Pin<alloc::boxed::Box<dyn Future<Output = ()>>>, phase| {
        with_server(
            async |_, peer| script(peer).await,
            async |address| {
                let start = now();
                let request = Request {
                    deadline: start + 60,
                    ..get()
                };
                let error = fetch(&mut plain_client(address), &request)
                    .await
                    .0
                    .expect_err("deadline");
                assert!(
                    matches!(error, HttpError::Timeout(found) if found == phase),
                    "{error:?}"
                );
                assert!(error.to_string().starts_with("context deadline exceeded"));
                assert!((60..500).contains(&now().since(start)));
            },
        );
    };
    timed(
        |mut peer| alloc::boxed::Box::pin(async move { while peer.request().await.is_some() {} }),
        Phase::Head,
    );
    let drip = |mut peer: Peer| -> core::pin::Pin<alloc::boxed::Box<dyn Future<Output = ()>>> {
        alloc::boxed::Box::pin(async move {
            let _ = peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\n\r\n").await;
            for _ in 0..100 {
                peer.send("x").await;
                crate::host::net::pause(5).await;
            }
        })
    };
    timed(drip, Phase::Body);
}

#[test]
fn early_answer_stops_the_sending() {
    with_server(
        async |connection, mut peer: Peer| {
            if connection > 0 {
                return serving(ok("next"), false)(connection, peer).await;
            }
            let mut buf = [0; 1024];
            let _ = peer.read(&mut buf).await;
            peer.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            let _ = peer.read(&mut buf).await;
            peer.send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig")
                .await;
            crate::host::net::pause(100).await;
        },
        async |address| {
            let body = vec![7; 16 << 20];
            let mut client = plain_client(address);
            let (result, collect) = fetch(&mut client, &post(&body)).await;
            assert_eq!(
                (result.expect("an answer").status, collect.body.as_slice()),
                (413, b"big".as_slice())
            );
            assert!(client.stats().body_bytes_sent < body.len() as u64);
            // Half a body was sent: whatever follows on that connection would be taken for its rest.
            assert_eq!(fetch(&mut client, &get()).await.1.body, b"next");
            assert_eq!((client.stats().connections, client.stats().repeated), (2, 0));
        },
    );
}

#[test]
fn answer_before_a_reset_is_read() {
    with_server(
        async |_, mut peer: Peer| {
            let mut buf = [0; 1024];
            let _ = peer.read(&mut buf).await;
            peer.send("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                .await;
            // Unread bytes make the kernel reset the connection when it is closed.
        },
        async |address| {
            let body = vec![7; 200_000];
            let result = fetch(&mut plain_client(address), &post(&body)).await.0;
            // The reset may overtake the answer in the kernel; what must not happen is a hang or a success.
            match result {
                Ok(head) => assert_eq!(head.status, 401),
                Err(error) => assert_eq!(error.class(), "connection_lost"),
            }
        },
    );
}

#[test]
fn post_arrives_byte_for_byte() {
    let body: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    let expected = body.clone();
    with_server(
        async |_, mut peer: Peer| {
            while let Some(request) = peer.request().await {
                assert!(request.head.contains("content-length: 100000\r\n"));
                assert!(request.body == expected);
                peer.send("HTTP/1.1 204 No Content\r\nX-Prometheus-Remote-Write-Samples-Written: 5\r\n\r\n")
                    .await;
            }
        },
        async |address| {
            let mut client = plain_client(address);
            for _ in 0..2 {
                let head = fetch(&mut client, &post(&body)).await.0.expect("accepted");
                assert_eq!(
                    (head.status, head.samples_written, head.exemplars_written),
                    (204, Some(5), None)
                );
            }
            assert_eq!(
                (client.stats().connections, client.stats().body_bytes_sent),
                (1, 200_000)
            );
        },
    );
    with_server(serving(ok(""), false), async |address| {
        assert!(
            fetch(&mut plain_client(address), &post(b"")).await.0.is_ok(),
            "an empty POST has a length"
        );
    });
}

#[test]
fn body_cut_short_or_reset_fails() {
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    assert!(matches!(fetch_from(short, true).0, Err(HttpError::Eof(Phase::Body))));
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf";
    assert!(matches!(fetch_from(chunk, true).0, Err(HttpError::Eof(Phase::Body))));
    with_server(
        async |_, mut peer: Peer| {
            let _ = peer.request().await;
            peer.send(short).await;
            crate::host::net::pause(5).await;
            peer.reset();
        },
        async |address| {
            let error = fetch(&mut plain_client(address), &get()).await.0.expect_err("reset");
            assert!(matches!(error, HttpError::Io { phase: Phase::Body, .. }), "{error:?}");
        },
    );
}

#[test]
fn flood_and_nonsense_are_protocol_errors() {
    let big = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(HTTP_RECEIVE_BYTES));
    assert!(matches!(fetch_from(big, false).0, Err(HttpError::HeadTooBig { .. })));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
    assert!(matches!(fetch_from(many, false).0, Err(HttpError::Protocol(_))));
    let trailers = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {}\r\n\r\n",
        "y".repeat(2 * HTTP_RECEIVE_BYTES)
    );
    assert!(matches!(
        fetch_from(trailers, false).0,
        Err(HttpError::HeadTooBig { .. })
    ));
    for nonsense in [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ] {
        let error = fetch_from(nonsense, false).0.expect_err(nonsense);
        assert_eq!(error.class(), "protocol", "{nonsense}: {error:?}");
    }
}

#[test]
fn extra_bytes_after_an_answer_cost_the_connection() {
    let response = format!("{}HTTP/1.1 200 OK", ok("x"));
    with_server(serving(response, true), async |address| {
        let mut client = plain_client(address);
        assert!(fetch(&mut client, &get()).await.0.is_ok());
        assert!(fetch(&mut client, &get()).await.0.is_ok());
        assert_eq!(client.stats().connections, 2);
    });
}

#[test]
fn receiver_that_refuses_ends_the_request() {
    with_server(serving(ok(&"x".repeat(100_000)), true), async |address| {
        let mut client = plain_client(address);
        let mut collect = Collect {
            refuse_at: 1,
            ..Collect::default()
        };
        let error = client
            .request(&get(), &mut Buffers::new(true), &mut collect)
            .await
            .expect_err("refused");
        assert!(matches!(error, HttpError::Aborted));
        assert!(collect.body.len() <= crate::host::limits::HTTP_SEND_BYTES);
    });
}

#[test]
fn refused_connection_and_bad_headers_are_told_apart() {
    let nobody = Listener::bind((Ipv4Addr::LOCALHOST, 0).into())
        .expect("loopback")
        .address();
    let error = on_loop(async { fetch(&mut plain_client(nobody), &get()).await.0 }).expect_err("refused");
    assert_eq!(error.class(), "connect");
    assert_eq!(
        error.to_string(),
        format!("connect {nobody}: Connection refused (os error 111)")
    );
    let mut config = ClientConfig::new(url("http://h/"));
    config.headers.push(Header {
        name: "bad name".into(),
        value: Secret::inline("x"),
        sensitive: false,
    });
    assert!(matches!(Client::new(config, resolver()), Err(HttpError::BadHeader)));
    let error = with_server(serving(ok("x"), false), async |address| {
        let mut reachable = client_with(address, |config| {
            config.authorization = Authorization::bearer(Secret::File("/nonexistent/token".into()));
        });
        fetch(&mut reachable, &get()).await.0.expect_err("no token")
    });
    assert!(
        error.to_string().starts_with("read secret /nonexistent/token: "),
        "{error}"
    );
}

#[test]
fn unix_socket_takes_the_place_of_the_host() {
    let path = std::env::temp_dir().join(format!("tidegate-http-{}.sock", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("temp dir");
    listener.set_nonblocking(true).expect("a socket");
    let head = on_loop(async {
        let mut config = ClientConfig::new(url("http://ignored.invalid/metrics"));
        config.unix_socket = Some(path.clone());
        let mut client = Client::new(config, resolver()).expect("valid");
        let serve = async {
            ready(listener.as_fd(), Interest::Read).await.expect("room");
            let (mut stream, _) = listener.accept().expect("a connection");
            std::io::Write::write_all(&mut stream, ok("x").as_bytes()).expect("room in the socket");
            core::future::pending().await
        };
        smol::future::or(async { fetch(&mut client, &get()).await.0 }, serve).await
    });
    std::fs::remove_file(&path).expect("temp dir");
    assert_eq!(head.expect("good").status, 200);
}
