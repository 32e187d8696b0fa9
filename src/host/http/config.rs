//! What a client is made from, what it is asked for, and what it counts.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use std::path::PathBuf;

use super::Method;
use super::auth::{Authorization, Secret};
use super::url::Url;
use crate::clock::{Instant, UnixMillis};
use crate::host::gunzip::Gunzip;
use crate::host::limits::{HTTP_RECEIVE_BYTES, HTTP_SEND_BYTES};
use crate::host::net::SocketOptions;
use crate::host::tls::TlsClient;

/// One header line of every request.
#[derive(Clone, Debug)]
pub struct Header {
    /// Name, in any case; sent in lower case.
    pub name: String,
    /// Value; one in a file is read anew for every request.
    pub value: Secret,
    /// Not to be sent to another host after a redirect.
    pub sensitive: bool,
}

/// A proxy: it is asked for http URLs by their whole name, and for a tunnel (CONNECT) to the hosts of https ones.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Where it listens; `http` only.
    pub url: Url,
    /// `Proxy-Authorization`.
    pub authorization: Authorization,
    /// Further headers of the CONNECT request.
    pub headers: Vec<Header>,
}

/// What a [`Client`](super::Client) is made from.
#[derive(Clone)]
pub struct ClientConfig {
    /// Where requests go.
    pub url: Url,
    /// Headers of every request, besides `Host` and `Content-Length`.
    pub headers: Vec<Header>,
    /// `Authorization`.
    pub authorization: Authorization,
    /// TLS settings; needed for https, also when only a redirect leads there.
    pub tls: Option<Rc<TlsClient>>,
    /// Connect through this proxy.
    pub proxy: Option<Proxy>,
    /// Connect to this Unix socket instead of the URL's host (`__unix_socket__`).
    pub unix_socket: Option<PathBuf>,
    /// Follow redirects: all of GET and HEAD, 307 and 308 of POST.
    pub follow_redirects: bool,
    /// Keep the connection for the next request.
    pub keep_alive: bool,
    /// Kernel buffers.
    pub socket: SocketOptions,
}

impl ClientConfig {
    /// Prometheus' defaults for `url`: redirects followed, connection kept, no credentials.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self {
            url,
            headers: Vec::new(),
            authorization: Authorization::None,
            tls: None,
            proxy: None,
            unix_socket: None,
            follow_redirects: true,
            keep_alive: true,
            socket: SocketOptions::default(),
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// GET, HEAD or POST.
    pub method: Method,
    /// Headers besides the client's own.
    pub headers: &'a [(&'a str, &'a str)],
    /// Body of a POST; ignored otherwise.
    pub body: &'a [u8],
    /// The response fails once this many decoded body bytes have arrived, so a body of exactly the limit
    /// fails (SCR-204); 0 = no limit.
    pub body_limit: u64,
    /// When the request fails, wherever it stands.
    pub deadline: Instant,
    /// Wall time if it is to be believed, for a signature.
    pub wall: Option<UnixMillis>,
}

/// What a client has done; all counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Requests begun, redirects and repetitions not counted.
    pub requests: u64,
    /// Connections opened.
    pub connections: u64,
    /// TLS handshakes in full.
    pub tls_full: u64,
    /// TLS handshakes that resumed a session.
    pub tls_resumed: u64,
    /// Requests repeated because an idle connection turned out dead.
    pub repeated: u64,
    /// Bytes of request heads.
    pub head_bytes_sent: u64,
    /// Bytes of request bodies.
    pub body_bytes_sent: u64,
    /// Bytes of response heads.
    pub head_bytes_received: u64,
    /// Bytes of response bodies as transferred: chunk framing included, before inflating.
    pub body_bytes_received: u64,
    /// Bytes given to sockets: the above and TLS, CONNECT and handshakes.
    pub wire_bytes_sent: u64,
    /// Bytes taken from sockets.
    pub wire_bytes_received: u64,
}

/// Buffers of one exchange at a time: 16 KiB, 59 KiB with inflating.
pub struct Buffers {
    pub(super) receive: Box<[u8]>,
    pub(super) work: Box<[u8]>,
    pub(super) gunzip: Option<Box<Gunzip>>,
}

impl Buffers {
    /// Allocates them. Without `inflate` a gzip body is delivered as it is.
    #[must_use]
    pub fn new(inflate: bool) -> Self {
        Self {
            receive: alloc::vec![0; HTTP_RECEIVE_BYTES].into(),
            work: alloc::vec![0; HTTP_SEND_BYTES].into(),
            gunzip: inflate.then(Gunzip::new),
        }
    }
}
