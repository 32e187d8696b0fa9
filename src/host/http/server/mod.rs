//! HTTP server for the status port and for `tidegate demo`: small, bounded, on the same thread.
//!
//! [`serve`] answers GET, HEAD and POST. The handler is an ordinary function: it looks at a
//! [`ServerRequest`] and writes into a [`Response`], whose buffer has a fixed size. An answer longer than
//! the buffer is written in parts: the handler asks to be called again ([`Response::call_again`]), and the
//! parts leave as chunks.
//!
//! Invariants:
//! - at most [`ServerConfig::max_connections`] connections are served; more wait in the kernel's backlog;
//! - every step has a deadline, so a slow or silent client costs one of them for seconds;
//! - a request that is malformed, too long or of another method gets its 4xx and the connection is closed.
//!
//! Memory per connection: 4 KiB for the request head, 2 KiB to send, the response buffer and the body limit.
//!
//! Not supported: TLS, authentication, request trailers, upgrades. It belongs on the loopback interface.
//!
//! Sources: RFC 9110, RFC 9112.

mod connection;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use std::io::Write as _;

use heapless::String;
use ureq_proto::http::Request;

use self::connection::{ServerBuffers, serve_connection};
use super::Method;
use crate::host::heap::{Operation, guard};
use crate::host::net::{Listener, pause};

/// Pause after accept(2) failed, milliseconds: usually no descriptor is free.
const ACCEPT_PAUSE_MS: u64 = 200;

/// The answer where there is no memory for another.
const NO_MEMORY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 14\r\nconnection: close\r\n\r\nout of memory\n";

/// Additional header lines of one response.
const MAX_EXTRA_HEADERS: usize = 4;

/// Sizes of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Connections served at once.
    pub max_connections: usize,
    /// Longest request body, bytes; allocated per connection.
    pub body_limit: usize,
    /// Longest response, or part of one, bytes; allocated per connection.
    pub response_bytes: usize,
}

impl Default for ServerConfig {
    /// The status port: 2 connections, no bodies, parts of 8 KiB; 28 KiB of memory.
    fn default() -> Self {
        Self {
            max_connections: 2,
            body_limit: 0,
            response_bytes: 8 * 1024,
        }
    }
}

/// A request as the handler sees it.
pub struct ServerRequest<'a> {
    /// GET, HEAD or POST, which PUT counts as too. HEAD is to be answered as GET; the body is not sent.
    pub method: Method,
    /// The path, as sent.
    pub path: &'a str,
    /// What follows the `?`, or nothing.
    pub query: &'a str,
    /// `Accept`, or nothing.
    pub accept: &'a str,
    /// The body of a POST.
    pub body: &'a [u8],
    request: &'a Request<()>,
}

impl ServerRequest<'_> {
    /// The value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name)?.to_str().ok()
    }
}

/// The answer a handler writes: status, headers and a body of bounded size.
///
/// Writing more than fits is remembered: the client then gets a 500, or a broken connection when parts
/// have already left.
pub struct Response<'a> {
    part: u32,
    next: Option<u32>,
    status: u16,
    content_type: &'static str,
    extra: heapless::Vec<(&'static str, String<128>), MAX_EXTRA_HEADERS>,
    body: &'a mut [u8],
    written: usize,
    overflow: bool,
}

impl<'a> Response<'a> {
    fn new(body: &'a mut [u8], part: u32) -> Self {
        let extra = heapless::Vec::new();
        Self {
            part,
            next: None,
            status: 200,
            content_type: "text/plain",
            extra,
            body,
            written: 0,
            overflow: false,
        }
    }

    /// Which part is wanted: 0 at the first call, then what [`Self::call_again`] was given.
    #[must_use]
    pub fn part(&self) -> u32 {
        self.part
    }

    /// Asks for another call with this part number after what is written now has been sent.
    pub fn call_again(&mut self, part: u32) {
        self.next = Some(part);
    }

    /// Sets the status; 200 unless set. Counts in part 0 only, like every header.
    pub fn set_status(&mut self, status: u16) {
        self.status = status;
    }

    /// Sets the content type; `text/plain` unless set.
    pub fn set_content_type(&mut self, content_type: &'static str) {
        self.content_type = content_type;
    }

    /// Adds a header line (at most four, values up to 128 bytes; more count as overflow).
    pub fn add_header(&mut self, name: &'static str, value: &str) {
        let added = String::try_from(value)
            .ok()
            .and_then(|value| self.extra.push((name, value)).ok());
        self.overflow |= added.is_none();
    }

    /// Appends to the body.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        match self.body.get_mut(self.written..self.written + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.written += bytes.len();
            }
            None => self.overflow = true,
        }
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.body.len() - self.written
    }

    fn bytes(&self) -> &[u8] {
        self.body.get(..self.written).unwrap_or_default()
    }
}

impl fmt::Write for Response<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_bytes(text.as_bytes());
        if self.overflow { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Answers requests with what the handler writes.
pub type Handler<'h> = dyn Fn(&ServerRequest<'_>, &mut Response<'_>) + 'h;

/// Serves connections of `listener` for ever. Its buffers are the only allocation besides what the
/// protocol engine needs per request (about 2 KiB, freed after it).
pub async fn serve(listener: &Listener, config: ServerConfig, handler: &Handler<'_>) -> Infallible {
    let worker = || Box::pin(serve_one_by_one(listener, config, handler));
    let mut workers: Vec<Pin<Box<_>>> = (0..config.max_connections.max(1)).map(|_| worker()).collect();
    poll_fn(|cx| {
        for worker in &mut workers {
            if let Poll::Ready(never) = worker.as_mut().poll(cx) {
                return Poll::Ready(never);
            }
        }
        Poll::Pending
    })
    .await
}

async fn serve_one_by_one(listener: &Listener, config: ServerConfig, handler: &Handler<'_>) -> Infallible {
    let mut buffers = ServerBuffers::new(config);
    loop {
        match listener.accept().await {
            // A client that misbehaves or leaves is no event of ours.
            Ok((socket, _)) => {
                let served = guard(Operation::Status, serve_connection(&socket, &mut buffers, handler)).await;
                if let Err(full) = served {
                    log::warn!("connection refused: {full}");
                    // As far as that is possible at once, and only words where an answer had begun.
                    let _ = (&socket).write(NO_MEMORY);
                }
            }
            Err(error) => {
                log::warn!("accept: {error}");
                pause(ACCEPT_PAUSE_MS).await;
            }
        }
    }
}
