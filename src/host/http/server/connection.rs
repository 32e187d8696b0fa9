//! One connection of the server: requests in, answers out, refusals.

use alloc::boxed::Box;
use core::fmt;
use core::future::Future;
use std::io;

use heapless::String;
use ureq_proto::http::response::Builder;
use ureq_proto::http::{Method as ProtoMethod, Request, Response as ProtoResponse, StatusCode, Version, header};
use ureq_proto::server::state::{ProvideResponse, RecvBody, RecvRequest, SendBody};
use ureq_proto::server::{RecvRequestResult, Reply, SendResponseResult};

use super::super::Method;
use super::super::received::Received;
use super::{Handler, Response, ServerConfig, ServerRequest};
use crate::clock::Instant;
use crate::host::net::Socket;
use crate::host::runtime::{now, timeout_at};

/// Longest request head, bytes. Browsers send 500 to 1,500.
const HEAD_BYTES: usize = 4 * 1024;

/// Send buffer: response head, and chunks with their framing.
const SEND_BYTES: usize = 2 * 1024;

/// Bytes that a chunk takes besides its content: eight digits at most, and two line ends.
const CHUNK_FRAMING: usize = 12;

/// Time a client has for a whole request, and for taking a whole response, milliseconds. A phone on a slow
/// link takes the longest page in two seconds.
const STEP_MS: u64 = 10_000;

/// Time an idle connection is kept, milliseconds: short, because there are only a few.
const IDLE_MS: u64 = 5_000;

/// Time and bytes spent on reading what a refused client still sends, so that it sees the refusal rather
/// than a reset.
const LINGER_MS: u64 = 500;
const LINGER_BYTES: usize = 256 * 1024;

/// Buffers of one connection at a time.
pub(super) struct ServerBuffers {
    receive: Box<[u8]>,
    send: Box<[u8]>,
    body: Box<[u8]>,
    response: Box<[u8]>,
}

impl ServerBuffers {
    pub(super) fn new(config: ServerConfig) -> Self {
        let zeroed = |bytes: usize| -> Box<[u8]> { alloc::vec![0; bytes].into() };
        Self {
            receive: zeroed(HEAD_BYTES),
            send: zeroed(SEND_BYTES),
            body: zeroed(config.body_limit),
            response: zeroed(config.response_bytes),
        }
    }
}

/// Why a connection is given up.
pub(super) enum Gone {
    /// The client left, was too slow, or the connection broke.
    Lost,
    /// The request is refused with this status.
    Refused(u16),
}

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

impl From<ureq_proto::Error> for Gone {
    fn from(_: ureq_proto::Error) -> Self {
        Self::Refused(400)
    }
}

async fn within<T>(deadline: Instant, future: impl Future<Output = Result<T, Gone>>) -> Result<T, Gone> {
    timeout_at(deadline, future).await.unwrap_or(Err(Gone::Lost))
}

/// Serves the requests of one connection until either side closes it.
pub(super) async fn serve_connection(
    socket: &Socket,
    buffers: &mut ServerBuffers,
    handler: &Handler<'_>,
) -> Result<(), Gone> {
    let ServerBuffers {
        receive,
        send,
        body,
        response,
    } = buffers;
    let mut connection = Connection {
        socket,
        received: Received::new(receive),
        send,
    };
    loop {
        let answered = connection.serve_request(body, response, handler).await;
        match answered {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(Gone::Lost) => return Err(Gone::Lost),
            Err(Gone::Refused(status)) => return connection.refuse(status).await,
        }
    }
}

struct Connection<'a> {
    socket: &'a Socket,
    received: Received<'a>,
    send: &'a mut [u8],
}

type Provide = Reply<ProvideResponse>;

impl Connection<'_> {
    /// One request and its answer; false when the connection is to be closed.
    async fn serve_request(
        &mut self,
        body: &mut [u8],
        response: &mut [u8],
        handler: &Handler<'_>,
    ) -> Result<bool, Gone> {
        if self.received.bytes().is_empty() {
            within(now() + IDLE_MS, self.fill()).await?;
        }
        let (request, reply, body) = within(now() + STEP_MS, self.receive(body)).await?;
        let method = match *request.method() {
            ProtoMethod::HEAD => Method::Head,
            ProtoMethod::POST | ProtoMethod::PUT => Method::Post,
            _ => Method::Get,
        };
        let seen = ServerRequest {
            method,
            path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            accept: request
                .headers()
                .get(header::ACCEPT)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default(),
            body,
            request: &request,
        };
        within(now() + STEP_MS, self.respond(&seen, reply, response, handler)).await
    }

    /// Waits for more bytes.
    async fn fill(&mut self) -> Result<(), Gone> {
        let room = self.received.room();
        if room.is_empty() {
            return Err(Gone::Refused(431));
        }
        match self.socket.read(room).await? {
            0 => Err(Gone::Lost),
            read => {
                self.received.add(read);
                Ok(())
            }
        }
    }

    /// Reads head and body of a request.
    async fn receive<'b>(&mut self, body: &'b mut [u8]) -> Result<(Request<()>, Provide, &'b [u8]), Gone> {
        let mut reply: Reply<RecvRequest> = Reply::new()?;
        let request = loop {
            let (used, request) = reply.try_request(self.received.bytes())?;
            self.received.consume(used);
            match request {
                Some(request) => break request,
                None => self.fill().await?,
            }
        };
        if !matches!(
            *request.method(),
            ProtoMethod::GET | ProtoMethod::HEAD | ProtoMethod::POST | ProtoMethod::PUT
        ) {
            return Err(Gone::Refused(405));
        }
        let headers = request.headers();
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if announced.is_some_and(|length: u64| length > body.len() as u64) {
            return Err(Gone::Refused(413));
        }
        // Without either header there is no body (RFC 9112, 6.3); ureq-proto expects chunks after a POST.
        let bodyless =
            !headers.contains_key(header::CONTENT_LENGTH) && !headers.contains_key(header::TRANSFER_ENCODING);
        let (reply, length) = match reply.proceed().ok_or(Gone::Refused(400))? {
            RecvRequestResult::ProvideResponse(reply) => (reply, 0),
            RecvRequestResult::Send100(reply) => {
                let (used, reply) = reply.accept(self.send)?;
                self.socket.write_all(self.send.get(..used).unwrap_or_default()).await?;
                self.receive_body(reply, body, bodyless).await?
            }
            RecvRequestResult::RecvBody(reply) => self.receive_body(reply, body, bodyless).await?,
        };
        Ok((request, reply, body.get(..length).unwrap_or_default()))
    }

    async fn receive_body(
        &mut self,
        mut reply: Reply<RecvBody>,
        body: &mut [u8],
        bodyless: bool,
    ) -> Result<(Provide, usize), Gone> {
        if bodyless {
            reply.read(b"0\r\n\r\n", &mut [])?;
        }
        let mut length = 0;
        while !reply.is_ended() {
            let room = body.get_mut(length..).unwrap_or_default();
            let full = room.is_empty();
            let (used, written) = reply.read(self.received.bytes(), room)?;
            self.received.consume(used);
            length += written;
            if used == 0 && written == 0 {
                if full && !self.received.bytes().is_empty() {
                    return Err(Gone::Refused(413));
                }
                self.fill().await?;
            }
        }
        Ok((reply.proceed()?, length))
    }

    /// Calls the handler and sends what it writes; false when the connection is to be closed.
    async fn respond(
        &mut self,
        request: &ServerRequest<'_>,
        reply: Provide,
        buffer: &mut [u8],
        handler: &Handler<'_>,
    ) -> Result<bool, Gone> {
        let mut response = Response::new(buffer, 0);
        handler(request, &mut response);
        if response.overflow {
            log::warn!(
                "answer to {} is longer than {} bytes",
                request.path,
                response.body.len()
            );
            return Err(Gone::Refused(500));
        }
        let Some(next) = response.next else {
            return self.send_whole(reply, &response).await;
        };
        if request.request.version() == Version::HTTP_10 {
            return self.send_until_close(request, response, handler).await;
        }
        let head = proto_head(&response)?.header(header::TRANSFER_ENCODING, "chunked");
        let mut reply = match self.send_head(reply, head).await? {
            SendResponseResult::SendBody(reply) => reply,
            SendResponseResult::Cleanup(reply) => return Ok(!reply.must_close_connection()),
        };
        self.send_piece(&mut reply, response.bytes()).await?;
        let mut part = Some(next);
        while let Some(wanted) = part {
            let mut response = Response::new(buffer, wanted);
            handler(request, &mut response);
            if response.overflow {
                log::warn!("part {wanted} of the answer to {} is too long", request.path);
                return Err(Gone::Lost);
            }
            self.send_piece(&mut reply, response.bytes()).await?;
            part = response.next;
        }
        let (_, used) = reply.write(&[], self.send)?;
        self.socket.write_all(self.send.get(..used).unwrap_or_default()).await?;
        Ok(!reply.proceed().must_close_connection())
    }

    async fn send_whole(&mut self, reply: Provide, response: &Response<'_>) -> Result<bool, Gone> {
        let head = proto_head(response)?;
        let bodyless = matches!(response.status, 204 | 304);
        let head = if bodyless {
            head
        } else {
            head.header(header::CONTENT_LENGTH, response.written)
        };
        match self.send_head(reply, head).await? {
            SendResponseResult::Cleanup(reply) => Ok(!reply.must_close_connection()),
            SendResponseResult::SendBody(mut reply) => {
                self.socket.write_all(response.bytes()).await?;
                reply.consume_direct_write(response.written)?;
                Ok(!reply.proceed().must_close_connection())
            }
        }
    }

    async fn send_head(&mut self, reply: Provide, head: Builder) -> Result<SendResponseResult, Gone> {
        let mut reply = reply.provide(head.body(()).map_err(|_| Gone::Refused(500))?)?;
        while !reply.is_finished() {
            let used = reply.write(self.send)?;
            self.socket.write_all(self.send.get(..used).unwrap_or_default()).await?;
        }
        Ok(reply.proceed())
    }

    /// Sends one part as chunks.
    async fn send_piece(&mut self, reply: &mut Reply<SendBody>, mut piece: &[u8]) -> Result<(), Gone> {
        // An empty piece would be the last chunk.
        while !piece.is_empty() {
            // The engine leaves too little room for the length of a chunk that fills the buffer, and then takes nothing.
            let whole = piece.len().min(self.send.len().saturating_sub(CHUNK_FRAMING));
            let (taken, used) = reply.write(piece.get(..whole).unwrap_or_default(), self.send)?;
            if taken == 0 {
                return Err(Gone::Lost);
            }
            piece = piece.get(taken..).unwrap_or_default();
            self.socket.write_all(self.send.get(..used).unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// Sends parts to a client that does not know chunks: the end of the connection ends the body.
    async fn send_until_close(
        &mut self,
        request: &ServerRequest<'_>,
        mut response: Response<'_>,
        handler: &Handler<'_>,
    ) -> Result<bool, Gone> {
        let head = plain_head(response.status, response.content_type, None);
        self.socket.write_all(head.as_bytes()).await?;
        if request.method == Method::Head {
            return Ok(false);
        }
        loop {
            self.socket.write_all(response.bytes()).await?;
            let Some(part) = response.next else { return Ok(false) };
            response = Response::new(response.body, part);
            handler(request, &mut response);
            if response.overflow {
                return Err(Gone::Lost);
            }
        }
    }

    /// Answers with an error that says its own status, and closes.
    async fn refuse(&mut self, status: u16) -> Result<(), Gone> {
        let mut text: String<64> = String::new();
        let reason = StatusCode::from_u16(status)
            .ok()
            .and_then(|code| code.canonical_reason())
            .unwrap_or_default();
        // The longest reason has 31 bytes.
        let _ = fmt::write(&mut text, format_args!("{status} {reason}\n"));
        let head = plain_head(status, "text/plain", Some(text.len()));
        within(now() + LINGER_MS, async {
            self.socket.write_all(head.as_bytes()).await?;
            self.socket.write_all(text.as_bytes()).await?;
            self.socket.finish_writing()?;
            let mut left = LINGER_BYTES;
            while left > 0 {
                match self.socket.read(self.send).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            Ok(())
        })
        .await
    }
}

fn proto_head(response: &Response<'_>) -> Result<Builder, Gone> {
    let status = StatusCode::from_u16(response.status).map_err(|_| Gone::Refused(500))?;
    let mut builder = ProtoResponse::builder().status(status);
    if !matches!(response.status, 204 | 304) {
        builder = builder.header(header::CONTENT_TYPE, response.content_type);
    }
    for (name, value) in &response.extra {
        builder = builder.header(*name, value.as_str());
    }
    Ok(builder)
}

/// A head without ureq-proto, for what its states do not cover: refusals and HTTP/1.0.
fn plain_head(status: u16, content_type: &str, length: Option<usize>) -> String<256> {
    let mut head = String::new();
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|code| code.canonical_reason())
        .unwrap_or_default();
    // Status, reason, a content type of ours (under 80 bytes) and a number fit into 256 bytes.
    let _ = fmt::write(
        &mut head,
        format_args!("HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\n"),
    );
    if let Some(length) = length {
        let _ = fmt::write(&mut head, format_args!("content-length: {length}\r\n"));
    }
    let _ = fmt::write(&mut head, format_args!("connection: close\r\n\r\n"));
    head
}
