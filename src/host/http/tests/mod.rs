//! The client against scripted servers on loopback, on the same thread and executor.

mod client;
mod secure;
mod server;
mod transport;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::Future;
use core::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use super::*;
use crate::host::dns::{Resolver, ResolverOptions};
use crate::host::net::{Listener, Socket};
use crate::host::runtime::{Interest, now, ready, run};
use crate::host::tls::testing::ServerStream;

/// The server's end of a connection.
#[expect(clippy::large_enum_variant, reason = "one at a time")]
pub(super) enum Peer {
    Plain(Socket),
    Tls(ServerStream),
}

/// What a scripted server read.
pub(super) struct Received {
    /// Request line and headers, in lower case from the header names on as the client sends them.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Peer {
    pub(super) async fn read(&mut self, buf: &mut [u8]) -> Option<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf).await.ok().filter(|read| *read > 0),
            Self::Tls(stream) => loop {
                match stream.try_read(buf) {
                    Ok(Some(0)) | Err(_) => return None,
                    Ok(Some(read)) => return Some(read),
                    Ok(None) => ready(stream.as_fd(), Interest::Read).await.ok()?,
                };
            },
        }
    }

    /// Sends everything; a client that has gone is the client's business.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let mut bytes = bytes.as_ref();
        match self {
            Self::Plain(socket) => socket.write_all(bytes).await.unwrap_or_default(),
            Self::Tls(stream) => loop {
                match stream.try_write(bytes) {
                    Ok(Some(taken)) => bytes = &bytes[taken..],
                    Ok(None) => {}
                    Err(_) => return,
                }
                if bytes.is_empty() && stream.try_flush().unwrap_or(true) {
                    return;
                }
                if ready(stream.as_fd(), Interest::Write).await.is_err() {
                    return;
                }
            },
        }
    }

    /// Reads head and body (by Content-Length) of one request; `None` when the client has closed.
    pub(super) async fn request(&mut self) -> Option<Received> {
        let mut bytes = Vec::new();
        let mut buf = [0; 4096];
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let read = self.read(&mut buf).await?;
            bytes.extend_from_slice(&buf[..read]);
        };
        let head = String::from_utf8(bytes[..end].to_vec()).expect("the client sends text");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse::<usize>().expect("the client sends a number"));
        let mut body = bytes.split_off(end);
        while body.len() < length {
            let read = self.read(&mut buf).await?;
            body.extend_from_slice(&buf[..read]);
        }
        Some(Received { head, body })
    }

    /// Closes with a reset instead of an orderly end.
    pub(super) fn reset(self) {
        let fd = match &self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Tls(stream) => stream.as_fd(),
        };
        rustix::net::sockopt::set_socket_linger(fd, Some(core::time::Duration::ZERO)).expect("a TCP socket");
    }
}

/// `200 OK` with a length and a body.
pub(super) fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Runs `client` while `script` serves the connections that come in, one after the other.
pub(super) fn with_server<T>(mut script: impl AsyncFnMut(usize, Peer), client: impl AsyncFnOnce(SocketAddr) -> T) -> T {
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback");
    let address = listener.address();
    on_loop(smol::future::or(client(address), async {
        for connection in 0.. {
            let (socket, _) = listener.accept().await.expect("loopback");
            script(connection, Peer::Plain(socket)).await;
        }
        unreachable!("the range has no end")
    }))
}

/// Runs a future and checks that it leaves nothing waiting.
pub(super) fn on_loop<T>(main: impl Future<Output = T>) -> T {
    let value = run(&smol::LocalExecutor::new(), main);
    assert_eq!(crate::host::runtime::slots_in_use(), (0, 0), "something still waits");
    value
}

/// Keeps all it is given.
#[derive(Default)]
pub(super) struct Collect {
    pub(super) heads: usize,
    pub(super) body: Vec<u8>,
    pub(super) discard: bool,
    /// Refuse once this many bytes came; 0 = never.
    pub(super) refuse_at: usize,
}

impl Receive for Collect {
    fn head(&mut self, _head: &ResponseHead) -> Result<BodyAction, Abort> {
        self.heads += 1;
        self.body.clear();
        Ok(if self.discard {
            BodyAction::Discard
        } else {
            BodyAction::Deliver
        })
    }

    fn body(&mut self, piece: &[u8]) -> Result<(), Abort> {
        assert!(!piece.is_empty() && !self.discard);
        self.body.extend_from_slice(piece);
        if self.refuse_at > 0 && self.body.len() >= self.refuse_at {
            Err(Abort)
        } else {
            Ok(())
        }
    }
}

pub(super) fn resolver() -> Rc<Resolver> {
    Rc::new(Resolver::new(ResolverOptions {
        hosts: "/nonexistent".into(),
        ..ResolverOptions::default()
    }))
}

pub(super) fn url(text: &str) -> Url {
    Url::parse(text).expect("valid URL").0
}

pub(super) fn plain_client(address: SocketAddr) -> Client {
    client_with(address, |_| {})
}

pub(super) fn client_with(address: SocketAddr, change: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = ClientConfig::new(url(&format!("http://{address}/metrics?a=b")));
    change(&mut config);
    Client::new(config, resolver()).expect("valid headers")
}

pub(super) fn get() -> Request<'static> {
    Request {
        method: Method::Get,
        headers: &[],
        body: &[],
        body_limit: 0,
        deadline: now() + 5_000,
        wall: None,
    }
}

pub(super) fn post(body: &[u8]) -> Request<'_> {
    Request {
        method: Method::Post,
        body,
        ..get()
    }
}

/// One request with inflating buffers: the result and the body delivered.
pub(super) async fn fetch(client: &mut Client, request: &Request<'_>) -> (Result<ResponseHead, HttpError>, Collect) {
    let mut collect = Collect::default();
    let result = client.request(request, &mut Buffers::new(true), &mut collect).await;
    (result, collect)
}
