//! HTTP client for one URL: connection kept alive, redirects, proxy, deadline.
//!
//! A [`Client`] belongs to one target or remote and keeps at most one idle connection. The buffers of an
//! exchange are separate ([`Buffers`]), so that a worker shares one set between all its targets.
//!
//! Invariants:
//! - one deadline covers resolving, connecting, TLS, sending and the whole response;
//! - a request is repeated at most once, only on a connection that was idle before and only when not a
//!   byte of an answer arrived;
//! - a POST is redirected, with its body, by 307 and 308 and never from https to http; any other 3xx answer goes to the caller;
//! - credentials go to the configured host alone, and never over plain HTTP when the URL is https.
//!
//! Memory: a client is about 0.7 KiB and its connection's (TLS: about 10 KiB, 64 KiB at worst), the future
//! of a running request 4.3 KiB (x86_64); [`Buffers`] says its own. The protocol engine allocates about 2 KiB
//! per request and frees it: 17 allocations over plain HTTP, a server of this crate at the other end included.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::net::SocketAddr;

use ureq_proto::http::{HeaderName, HeaderValue, Method as ProtoMethod, Request as ProtoRequest, Uri, header, request};

use super::Method;
use super::auth::{Authorization, Secret, header_value};
#[cfg(feature = "sigv4")]
use super::aws::SignError;
use super::config::{Buffers, ClientConfig, ClientStats, Header, Proxy, Request};
use super::error::{HttpError, Phase, RedirectError};
use super::exchange::{Exchange, Progress, Rules};
use super::head::{Receive, ResponseHead};
#[cfg(feature = "sigv4")]
use super::sigv4::{Signer, Subject};
use super::stream::Stream;
use super::url::{Scheme, Url};
use crate::clock::Instant;
use crate::host::dns::Resolver;
use crate::host::heap::{Operation, guard};
use crate::host::limits::{HTTP_IDLE_MS, MAX_ADDRESSES, MAX_REDIRECTS};
use crate::host::net::{Socket, WireBytes, connect_any};
use crate::host::runtime::{TimeoutError, now, timeout_at};

struct Idle {
    stream: Stream,
    since: Instant,
}

/// A URL in the two forms a request needs.
#[derive(Clone)]
struct Destination {
    url: Url,
    uri: Uri,
}

impl Destination {
    fn from_url(url: Url) -> Result<Self, HttpError> {
        let uri = alloc::format!("{url}").parse().map_err(|_| HttpError::BadHeader)?;
        Ok(Self { url, uri })
    }

    fn from_redirect(uri: &Uri) -> Result<Self, HttpError> {
        let location = HttpError::Redirect(RedirectError::Location);
        let Ok((url, _)) = Url::from_uri(uri) else {
            return Err(location);
        };
        Self::from_url(url).map_err(|_| location)
    }
}

enum PreparedValue {
    Fixed(HeaderValue),
    File(Secret),
}

struct PreparedHeader {
    name: HeaderName,
    value: PreparedValue,
    sensitive: bool,
}

impl PreparedHeader {
    fn new(header: &Header) -> Result<Self, HttpError> {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| HttpError::BadHeader)?;
        let value = match &header.value {
            Secret::Inline(text) => PreparedValue::Fixed(header_value(text)?),
            file @ Secret::File(_) => PreparedValue::File(file.clone()),
        };
        Ok(Self {
            name,
            value,
            sensitive: header.sensitive,
        })
    }

    fn value(&self) -> Result<HeaderValue, HttpError> {
        match &self.value {
            PreparedValue::Fixed(value) => Ok(value.clone()),
            PreparedValue::File(secret) => header_value(&secret.read()?),
        }
    }
}

/// HTTP client of one target or remote.
pub struct Client {
    config: ClientConfig,
    headers: Vec<PreparedHeader>,
    proxy_headers: Vec<PreparedHeader>,
    origin: Destination,
    resolver: Rc<Resolver>,
    idle: Option<Idle>,
    /// Tried first the next time.
    last_address: Option<SocketAddr>,
    stats: Cell<ClientStats>,
    wire: Rc<WireBytes>,
}

impl Client {
    /// Checks the configuration's headers and prepares what every request has in common.
    ///
    /// # Errors
    ///
    /// [`HttpError::BadHeader`] when a header cannot be sent, [`HttpError::NeedsTls`] when the URL is https
    /// and there are no TLS settings.
    pub fn new(config: ClientConfig, resolver: Rc<Resolver>) -> Result<Self, HttpError> {
        if config.url.scheme() == Scheme::Https && config.tls.is_none() {
            return Err(HttpError::NeedsTls);
        }
        let prepare = |headers: &[Header]| headers.iter().map(PreparedHeader::new).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            headers: prepare(&config.headers)?,
            proxy_headers: config
                .proxy
                .as_ref()
                .map_or(Ok(Vec::new()), |proxy| prepare(&proxy.headers))?,
            origin: Destination::from_url(config.url.clone())?,
            config,
            resolver,
            idle: None,
            last_address: None,
            stats: Cell::default(),
            wire: Rc::default(),
        })
    }

    /// The URL requests go to.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.origin.url
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> ClientStats {
        ClientStats {
            wire_bytes_sent: self.wire.sent(),
            wire_bytes_received: self.wire.received(),
            ..self.stats.get()
        }
    }

    /// Closes the idle connection, if there is one: before a long pause, or after a reload.
    pub fn close_idle(&mut self) {
        if let Some(idle) = self.idle.take() {
            idle.stream.close();
        }
    }

    /// Sends `request` and hands the final response to `receiver`.
    ///
    /// Returns the head when the response is complete, whatever its status. Dropping the future closes
    /// the connection.
    ///
    /// # Errors
    ///
    /// [`HttpError`]; whatever `receiver` was given by then is incomplete.
    pub async fn request(
        &mut self,
        request: &Request<'_>,
        buffers: &mut Buffers,
        receiver: &mut dyn Receive,
    ) -> Result<ResponseHead, HttpError> {
        self.count(|stats| stats.requests += 1);
        let progress = Progress::default();
        let following = guard(Operation::Request, self.follow(request, buffers, receiver, &progress));
        match timeout_at(request.deadline, following).await {
            Ok(Ok(result)) => result,
            Ok(Err(full)) => Err(HttpError::Memory(full)),
            Err(TimeoutError::Elapsed) => Err(HttpError::Timeout(progress.phase.get())),
            Err(TimeoutError::TableFull(full)) => Err(full.into()),
        }
    }

    fn count(&self, add: impl FnOnce(&mut ClientStats)) {
        let mut stats = self.stats.get();
        add(&mut stats);
        self.stats.set(stats);
    }

    async fn follow(
        &mut self,
        request: &Request<'_>,
        buffers: &mut Buffers,
        receiver: &mut dyn Receive,
        progress: &Progress,
    ) -> Result<ResponseHead, HttpError> {
        if let Authorization::Token(source) = self.config.authorization.clone()
            && source.header().is_none()
        {
            progress.phase.set(Phase::Token);
            source.refresh(request.deadline).await?;
        }
        #[cfg(feature = "sigv4")]
        if let (Authorization::Signed(_), None) = (&self.config.authorization, request.wall) {
            return Err(HttpError::Sign(SignError::ClockUnknown));
        }
        let mut destination = self.origin.clone();
        for _ in 0..=MAX_REDIRECTS {
            let (head, redirect) = self.attempt(&destination, request, buffers, receiver, progress).await?;
            match redirect {
                None => {
                    if let (401, Authorization::Token(source)) = (head.status, &self.config.authorization) {
                        source.forget();
                    }
                    return Ok(head);
                }
                Some(uri) => destination = Destination::from_redirect(&uri)?,
            }
        }
        Err(HttpError::Redirect(RedirectError::TooMany))
    }

    /// One exchange with `destination`, repeated once if an idle connection was dead. The second value is
    /// where the server wants the request sent instead.
    async fn attempt(
        &mut self,
        destination: &Destination,
        request: &Request<'_>,
        buffers: &mut Buffers,
        receiver: &mut dyn Receive,
        progress: &Progress,
    ) -> Result<(ResponseHead, Option<Uri>), HttpError> {
        let at_origin = destination.url.same_origin(&self.origin.url);
        let rules = Rules {
            follow_redirects: self.config.follow_redirects,
            with_body: request.method == Method::Post,
            body_limit: request.body_limit,
        };
        let mut idle = if at_origin { self.take_idle() } else { None };
        loop {
            let (mut stream, reused) = match idle.take() {
                Some(stream) => (stream, true),
                None => (
                    self.connect(&destination.url, buffers, request.deadline, progress)
                        .await?,
                    false,
                ),
            };
            progress.answered.set(false);
            let proto = self.proto_request(destination, request)?;
            let body = if request.method == Method::Post {
                request.body
            } else {
                &[]
            };
            let forwarded = self.forwarding_proxy(&destination.url).is_some();
            let origin = forwarded.then(|| alloc::format!("http://{}", destination.url.host_header()));
            let exchange = Exchange::new(&mut stream, buffers, progress, &self.stats).absolute(origin);
            match exchange.run(proto, body, rules, receiver).await {
                Ok(outcome) => {
                    if outcome.reusable && at_origin && self.config.keep_alive {
                        self.idle = Some(Idle { stream, since: now() });
                    } else {
                        stream.close();
                    }
                    return Ok((outcome.head, outcome.redirect));
                }
                Err(error) if reused && error.is_disconnect() && !progress.answered.get() => {
                    self.count(|stats| stats.repeated += 1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The idle connection, unless it is too old or the peer has closed it.
    fn take_idle(&mut self) -> Option<Stream> {
        let mut idle = self.idle.take()?;
        let fit = now().since(idle.since) <= HTTP_IDLE_MS && idle.stream.is_quiet();
        if fit {
            return Some(idle.stream);
        }
        idle.stream.close();
        None
    }

    async fn connect(
        &mut self,
        url: &Url,
        buffers: &mut Buffers,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<Stream, HttpError> {
        let at_origin = url.same_origin(&self.origin.url);
        let tls = match url.scheme() {
            Scheme::Http => None,
            Scheme::Https => Some(self.config.tls.clone().ok_or(HttpError::NeedsTls)?),
        };
        let unix = self.config.unix_socket.clone().filter(|_| at_origin);
        let socket = match (&unix, &self.config.proxy) {
            (Some(path), _) => {
                progress.phase.set(Phase::Connect);
                let connected = Socket::connect_unix(path).await;
                let mut socket = connected.map_err(|error| HttpError::Io {
                    phase: Phase::Connect,
                    error,
                })?;
                self.count(|stats| stats.connections += 1);
                socket.meter(self.wire.clone());
                socket
            }
            (None, Some(proxy)) => {
                let proxy_url = proxy.url.clone();
                let forwarded = self.forwarding_proxy(url).is_some();
                let socket = self.dial(&proxy_url, deadline, progress).await?;
                if forwarded {
                    socket
                } else {
                    self.tunnel(socket, url, buffers, progress).await?
                }
            }
            (None, None) => self.dial(url, deadline, progress).await?,
        };
        match tls {
            None => Ok(Stream::Plain(socket)),
            Some(tls) => {
                progress.phase.set(Phase::Tls);
                let stream = guard(Operation::Handshake, tls.connect(socket, url.host())).await;
                let stream = stream.map_err(HttpError::Memory)?;
                let stream = stream.map_err(|error| HttpError::from_stream(error, Phase::Tls))?;
                let resumed = stream.is_resumed();
                self.count(|stats| {
                    stats.tls_resumed += u64::from(resumed);
                    stats.tls_full += u64::from(!resumed);
                });
                Ok(Stream::Tls(Box::new(stream)))
            }
        }
    }

    async fn dial(&mut self, url: &Url, deadline: Instant, progress: &Progress) -> Result<Socket, HttpError> {
        progress.phase.set(Phase::Resolve);
        let found = self
            .resolver
            .lookup(url.host(), deadline)
            .await
            .map_err(HttpError::Dns)?;
        let mut addresses: heapless::Vec<SocketAddr, MAX_ADDRESSES> = heapless::Vec::new();
        // As many places as the resolver returns at most.
        found
            .iter()
            .for_each(|ip| addresses.push((*ip, url.port()).into()).unwrap_or_default());
        if let Some(at) = self
            .last_address
            .and_then(|last| addresses.iter().position(|address| *address == last))
        {
            addresses.get_mut(..=at).unwrap_or_default().rotate_right(1);
        }
        progress.phase.set(Phase::Connect);
        let connected = connect_any(&addresses, self.config.socket, deadline).await;
        let (mut socket, address) = connected.map_err(HttpError::Connect)?;
        self.last_address = Some(address);
        self.count(|stats| stats.connections += 1);
        socket.meter(self.wire.clone());
        Ok(socket)
    }

    async fn tunnel(
        &self,
        socket: Socket,
        url: &Url,
        buffers: &mut Buffers,
        progress: &Progress,
    ) -> Result<Socket, HttpError> {
        progress.phase.set(Phase::Proxy);
        let mut builder = ProtoRequest::builder()
            .method(ProtoMethod::CONNECT)
            .uri(url.authority());
        if let Some(proxy) = &self.config.proxy
            && let Some(value) = proxy.authorization.header()?
        {
            builder = builder.header(header::PROXY_AUTHORIZATION, value);
        }
        for line in &self.proxy_headers {
            builder = builder.header(&line.name, line.value()?);
        }
        let mut stream = Stream::Plain(socket);
        Exchange::new(&mut stream, buffers, progress, &self.stats)
            .tunnel(finish(builder)?)
            .await?;
        match stream {
            Stream::Plain(socket) => Ok(socket),
            Stream::Tls(_) => unreachable!("made plain above"),
        }
    }

    /// The proxy that is asked for this URL by its whole name, as for http; for https it opens a tunnel. Many proxies
    /// open none but to port 443.
    fn forwarding_proxy(&self, url: &Url) -> Option<&Proxy> {
        let by_socket = self.config.unix_socket.is_some() && url.same_origin(&self.origin.url);
        let proxy = self.config.proxy.as_ref();
        proxy.filter(|_| url.scheme() == Scheme::Http && !by_socket)
    }

    fn proto_request(&self, destination: &Destination, request: &Request<'_>) -> Result<ProtoRequest<()>, HttpError> {
        let method = match request.method {
            Method::Get => ProtoMethod::GET,
            Method::Head => ProtoMethod::HEAD,
            Method::Post => ProtoMethod::POST,
        };
        let mut builder = ProtoRequest::builder().method(method).uri(destination.uri.clone());
        if request.method == Method::Post {
            builder = builder.header(header::CONTENT_LENGTH, request.body.len());
        }
        if let Some(proxy) = self.forwarding_proxy(&destination.url)
            && let Some(value) = proxy.authorization.header()?
        {
            builder = builder.header(header::PROXY_AUTHORIZATION, value);
        }
        let trusted = self.may_have_credentials(&destination.url);
        if trusted && let Some(value) = self.config.authorization.header()? {
            builder = builder.header(header::AUTHORIZATION, value);
        }
        for line in self.headers.iter().filter(|line| trusted || !line.sensitive) {
            builder = builder.header(&line.name, line.value()?);
        }
        for (name, value) in request.headers {
            builder = builder.header(*name, *value);
        }
        let made = finish(builder)?;
        #[cfg(feature = "sigv4")]
        let made = match &self.config.authorization {
            Authorization::Signed(signer) if trusted => signed(signer, made, destination, request)?,
            _ => made,
        };
        Ok(made)
    }

    fn may_have_credentials(&self, url: &Url) -> bool {
        let origin = &self.origin.url;
        let downgraded = origin.scheme() == Scheme::Https && url.scheme() == Scheme::Http;
        url.host() == origin.host() && !downgraded
    }
}

/// Adds what the protocol engine would add, and then the signature of it all.
#[cfg(feature = "sigv4")]
fn signed(
    signer: &Signer,
    mut made: ProtoRequest<()>,
    destination: &Destination,
    request: &Request<'_>,
) -> Result<ProtoRequest<()>, HttpError> {
    let host = HeaderValue::from_str(&destination.url.host_header()).map_err(|_| HttpError::BadHeader)?;
    made.headers_mut().insert(header::HOST, host);
    let method = made.method().clone();
    let subject = Subject {
        method: method.as_str(),
        path_and_query: destination.url.path_and_query(),
        body: if request.method == Method::Post {
            request.body
        } else {
            &[]
        },
    };
    let signed = signer.sign(request.wall, subject, made.headers_mut());
    signed.map_err(HttpError::Sign)?;
    Ok(made)
}

fn finish(builder: request::Builder) -> Result<ProtoRequest<()>, HttpError> {
    builder.body(()).map_err(|_| HttpError::BadHeader)
}
