//! The server, asked by the client of this module and by hand.

use super::*;
use crate::host::net::{SocketOptions, pause};
use core::cell::RefCell;
use core::fmt::Write;

/// Runs `client` against a server with `handler`.
fn with_handler<T>(
    config: ServerConfig,
    handler: impl Fn(&ServerRequest<'_>, &mut super::super::Response<'_>),
    client: impl AsyncFnOnce(SocketAddr) -> T,
) -> T {
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback");
    on_loop(smol::future::or(client(listener.address()), async {
        match serve(&listener, config, &handler).await {}
    }))
}

fn hello(request: &ServerRequest<'_>, response: &mut super::super::Response<'_>) {
    match request.path {
        "/metrics" => {
            writeln!(response, "{:?} {} {}", request.method, request.query, request.accept).expect("fits");
        }
        "/gone" => {
            response.set_status(404);
            response.set_content_type("application/json");
            response.add_header("x-reason", "none here");
            response.write_bytes(b"{}");
        }
        "/empty" => response.set_status(204),
        "/long" => {
            // Each part is longer than the send buffer.
            let part = response.part();
            for line in 0..100 {
                writeln!(response, "metric{{part=\"{part}\",line=\"{line}\"}} 1").expect("fits");
            }
            if part < 99 {
                response.call_again(part + 1);
            }
        }
        "/huge" => response.write_bytes(&[b'x'; 100_000]),
        _ => response.write_bytes(request.body),
    }
}

/// Sends `bytes` and reads until the server closes.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let socket = Socket::connect(address, SocketOptions::default())
        .await
        .expect("loopback");
    socket.write_all(bytes).await.expect("loopback");
    let (mut all, mut buf) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = socket.read(&mut buf).await {
        all.extend_from_slice(&buf[..read]);
    }
    String::from_utf8(all).expect("text")
}

#[test]
fn requests_are_answered_and_connections_kept() {
    with_handler(ServerConfig::default(), hello, async |address| {
        let mut client = plain_client(address);
        let request = Request {
            headers: &[("accept", "text/plain")],
            ..get()
        };
        for _ in 0..3 {
            let (result, collect) = fetch(&mut client, &request).await;
            let head = result.expect("good");
            let expected = b"Get a=b text/plain\n";
            assert_eq!((head.status, head.content_type.as_deref()), (200, Some("text/plain")));
            assert_eq!(head.content_length, Some(expected.len() as u64));
            assert_eq!(collect.body, expected);
        }
        assert_eq!(client.stats().connections, 1);
    });
}

#[test]
fn status_headers_and_empty_answers_are_sent() {
    with_handler(ServerConfig::default(), hello, async |address| {
        let gone = raw(address, b"GET /gone HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(gone.starts_with("HTTP/1.1 404 Not Found\r\n"), "{gone}");
        assert!(
            gone.contains("content-type: application/json\r\n") && gone.contains("x-reason: none here\r\n"),
            "{gone}"
        );
        assert!(gone.ends_with("\r\n\r\n{}"), "{gone}");
        let empty = raw(address, b"GET /empty HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert_eq!(empty, "HTTP/1.1 204 No Content\r\n\r\n");
        let head = raw(
            address,
            b"HEAD /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(
            head.contains("content-length: ") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    });
}

#[test]
fn long_answers_leave_in_parts() {
    with_handler(
        ServerConfig {
            response_bytes: 4096,
            ..ServerConfig::default()
        },
        hello,
        async |address| {
            let mut client = client_with(address, |config| config.url = url(&format!("http://{address}/long")));
            for _ in 0..2 {
                let (result, collect) = fetch(&mut client, &get()).await;
                assert_eq!(result.expect("good").content_length, None);
                let text = String::from_utf8(collect.body).expect("text");
                assert_eq!(text.lines().count(), 10_000);
                assert!(text.ends_with("metric{part=\"99\",line=\"99\"} 1\n"));
            }
            let head = Request {
                method: Method::Head,
                ..get()
            };
            assert!(fetch(&mut client, &head).await.0.is_ok());
            assert_eq!(client.stats().connections, 1);
            let old = raw(address, b"GET /long HTTP/1.0\r\n\r\n").await;
            let (head, body) = old.split_once("\r\n\r\n").expect("a head");
            assert!(
                !head.contains("chunked") && head.contains("connection: close"),
                "{head}"
            );
            assert_eq!(body.lines().count(), 10_000);
            let old_head = raw(address, b"HEAD /long HTTP/1.0\r\n\r\n").await;
            assert!(old_head.ends_with("\r\n\r\n"), "{old_head}");
        },
    );
}

#[test]
fn answer_too_long_for_the_buffer_is_an_error_of_ours() {
    with_handler(ServerConfig::default(), hello, async |address| {
        let mut client = client_with(address, |config| config.url = url(&format!("http://{address}/huge")));
        assert_eq!(fetch(&mut client, &get()).await.0.expect("an answer").status, 500);
    });
}

#[test]
fn bodies_are_read_up_to_the_limit() {
    let config = ServerConfig {
        body_limit: 100_000,
        response_bytes: 100_000,
        ..ServerConfig::default()
    };
    with_handler(config, hello, async |address| {
        let mut client = client_with(address, |config| config.url = url(&format!("http://{address}/echo")));
        let body: Vec<u8> = (0..100_000u32).map(|n| (n % 239) as u8).collect();
        for length in [100_000, 1, 0, 5_000] {
            let (result, collect) = fetch(&mut client, &post(&body[..length])).await;
            assert_eq!(result.expect("good").status, 200);
            assert!(collect.body == body[..length]);
        }
        assert_eq!(client.stats().connections, 1);
        let big = alloc::vec![0; 4 << 20];
        assert_eq!(fetch(&mut client, &post(&big)).await.0.expect("an answer").status, 413);
        let chunked = b"POST /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert!(raw(address, chunked).await.ends_with("\r\n\r\nabc"));
        let expect =
            b"POST /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi";
        let answer = raw(address, expect).await;
        assert!(
            answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") && answer.ends_with("hi"),
            "{answer}"
        );
    });
}

#[test]
fn post_without_any_length_has_no_body() {
    with_handler(ServerConfig::default(), hello, async |address| {
        let answer = raw(
            address,
            b"POST /-/reload HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
    with_handler(ServerConfig::default(), hello, async |address| {
        let chunk = b"POST /e HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let answer = raw(address, chunk).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    });
}

#[test]
fn requests_that_cannot_be_served_are_refused_and_closed() {
    with_handler(ServerConfig::default(), hello, async |address| {
        for (request, status) in [
            (b"nonsense\r\n\r\n".to_vec(), "400 Bad Request"),
            (b"GET / HTTP/1.1\r\nbad header\r\n\r\n".to_vec(), "400 Bad Request"),
            (
                b"DELETE / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
                "405 Method Not Allowed",
            ),
            (
                b"PATCH / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx".to_vec(),
                "405 Method Not Allowed",
            ),
            (
                [b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'y'; 9000]].concat(),
                "431 Request Header Fields Too Large",
            ),
        ] {
            let answer = raw(address, &request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
            assert!(
                answer.ends_with(&format!("connection: close\r\n\r\n{status}\n")),
                "{answer}"
            );
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    with_handler(ServerConfig::default(), hello, async |address| {
        let two = b"GET /gone HTTP/1.1\r\nhost: x\r\n\r\nGET /empty HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = raw(address, two).await;
        let (first, second) = (answer.find("404 Not Found"), answer.find("204 No Content"));
        assert!(first.is_some() && first < second, "{answer}");
    });
}

#[test]
fn third_connection_waits_for_one_of_two() {
    let served = RefCell::new(0);
    let handler = |_: &ServerRequest<'_>, response: &mut super::super::Response<'_>| {
        *served.borrow_mut() += 1;
        response.write_bytes(b"x");
    };
    with_handler(ServerConfig::default(), handler, async |address| {
        let first = Socket::connect(address, SocketOptions::default())
            .await
            .expect("loopback");
        let second = Socket::connect(address, SocketOptions::default())
            .await
            .expect("loopback");
        pause(5).await;
        let mut third = plain_client(address);
        let request = Request {
            deadline: now() + 100,
            ..get()
        };
        assert!(matches!(
            fetch(&mut third, &request).await.0,
            Err(HttpError::Timeout(Phase::Head))
        ));
        drop(first);
        assert!(fetch(&mut third, &get()).await.0.is_ok());
        drop(second);
    });
    assert!(*served.borrow() >= 1);
}
