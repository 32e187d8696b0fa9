//! Sockets on loopback.

use super::*;
use core::future::Future;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn run<T>(main: impl Future<Output = T>) -> T {
    super::super::runtime::run(&smol::LocalExecutor::new(), main)
}

fn loopback() -> Listener {
    Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback")
}

/// A loopback port nobody listens on.
fn closed_port() -> SocketAddr {
    loopback().address()
}

/// TEST-NET-1 (RFC 5737): never answers, or is unreachable at once where there is no route.
const BLACK_HOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

#[test]
fn bytes_travel_both_ways_and_close_is_seen() {
    let listener = loopback();
    run(smol::future::zip(
        async {
            let (server, peer) = listener.accept().await.expect("accept");
            assert!(peer.is_some());
            let mut buf = [0; 8];
            assert_eq!(server.read(&mut buf).await.expect("read"), 4);
            server.write_all(b"pong").await.expect("write");
        },
        async {
            let client = Socket::connect(listener.address(), SocketOptions::default())
                .await
                .expect("connect");
            assert!(client.is_quiet());
            client.write_all(b"ping").await.expect("write");
            let mut buf = [0; 8];
            assert_eq!(client.read(&mut buf).await.expect("read"), 4);
            assert_eq!(client.read(&mut buf).await.expect("read"), 0);
            assert!(!client.is_quiet());
        },
    ));
}

#[test]
fn refused_connection_names_the_address() {
    let address = closed_port();
    let error = run(connect_any(&[address], SocketOptions::default(), now() + 2_000)).expect_err("closed");
    assert_eq!(error.error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(
        error.to_string().starts_with(&format!("connect {address}: ")),
        "{error}"
    );
}

#[test]
fn the_next_address_is_tried_and_the_other_family_too() {
    let listener = loopback();
    let options = SocketOptions {
        receive_buffer_bytes: Some(8192),
        send_buffer_bytes: Some(8192),
        user_timeout_ms: Some(15_000),
    };
    let closed = closed_port();
    let v6_closed = SocketAddr::from((Ipv6Addr::LOCALHOST, closed.port()));
    for list in [[closed, listener.address()], [v6_closed, listener.address()]] {
        let (socket, reached) = run(connect_any(&list, options, now() + 2_000)).expect("second address answers");
        assert_eq!(reached, listener.address());
        assert_eq!(sockopt::tcp_user_timeout(&socket).expect("a TCP socket"), 15_000);
    }
}

#[test]
fn the_deadline_bounds_a_silent_address() {
    let start = now();
    let error = run(connect_any(&[BLACK_HOLE], SocketOptions::default(), start + 60)).expect_err("black hole");
    assert!(now().since(start) < 1_000);
    assert_eq!(error.address, Some(BLACK_HOLE));
}

#[test]
fn no_address_is_an_error() {
    let error = run(connect_any(&[], SocketOptions::default(), now() + 10)).expect_err("nothing to try");
    assert_eq!(error.address, None);
}

#[test]
fn notifications_reach_an_abstract_socket() {
    let name = format!("tidegate-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("short name");
    let receiver = UnixDatagram::bind_addr(&address).expect("bind");
    let sender = notify_socket(OsStr::new(&format!("@{name}"))).expect("connect");
    sender.send(b"READY=1").expect("send");
    let mut buf = [0; 16];
    let read = receiver.recv(&mut buf).expect("receive");
    assert_eq!(&buf[..read], b"READY=1");
}
