//! One request and its response on one connection.
//!
//! ureq-proto holds the protocol state; this file moves bytes between it, the stream and the receiver.
//! Nothing here reconnects, redirects or keeps time: dropping the future is the way to stop it.

use alloc::string::String;
use core::cell::Cell;
use std::os::fd::AsFd;

use ureq_proto::BodyMode;
use ureq_proto::client::state::{RecvBody, RecvResponse, Redirect};
use ureq_proto::client::{Call, RecvBodyResult, RecvResponseResult, RedirectAuthHeaders, SendRequestResult};
use ureq_proto::http::{Request, Uri, header};

use super::config::{Buffers, ClientStats};
use super::error::{HttpError, Phase, RedirectError, is_disconnect};
use super::head::{Abort, BodyAction, Receive, ResponseHead};
use super::received::Received;
use super::stream::Stream;
use super::url::resolve;
use crate::host::gunzip::Gunzip;
use crate::host::limits::{HTTP_DISCARD_BYTES, HTTP_RECEIVE_BYTES};
use crate::host::runtime::{Interest, ready, yield_turn};
use crate::host::tls::StreamError;

/// How far a request has come; read by its caller after the future was dropped.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) phase: Cell<Phase>,
    /// Bytes of the response have arrived: the request must not be repeated.
    pub(super) answered: Cell<bool>,
}

/// How an exchange ended without error.
pub(super) struct Outcome {
    pub(super) head: ResponseHead,
    /// The connection may serve the next request.
    pub(super) reusable: bool,
    /// The server wants the request sent there instead; the receiver has seen nothing.
    pub(super) redirect: Option<Uri>,
}

/// Rules for one exchange.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Answer redirects with [`Outcome::redirect`] instead of handing them to the receiver.
    pub(super) follow_redirects: bool,
    /// The request has a body: only redirects that say to send it again (307, 308) are followed, and none from https to http, since a
    /// gateway that wants to be signed in to would get the samples.
    pub(super) with_body: bool,
    /// The response fails when this many decoded bytes have arrived; 0 = no limit.
    pub(super) body_limit: u64,
}

/// A stream with the buffers of one exchange.
pub(super) struct Exchange<'a> {
    stream: &'a mut Stream,
    received: Received<'a>,
    work: &'a mut [u8],
    gunzip: Option<&'a mut Gunzip>,
    progress: &'a Progress,
    stats: &'a Cell<ClientStats>,
    streak: Streak,
    /// Where the server wants a request with a body sent again.
    location: Option<String>,
    /// Scheme and authority, for a proxy that is asked for the whole URL (RFC 9112 §3.2.2).
    absolute: Option<String>,
}

/// Work at a stretch, in bytes received, decoded and inflated, before other tasks have their turn: a fraction of a
/// millisecond. A peer that sends faster than we read, or whose bytes are worth a thousand each, would else keep the only thread,
/// and no deadline would ever be looked at.
const STREAK_BYTES: usize = 32 * 1024;

/// What reading one chunk or one interim response costs beyond its bytes, in bytes' worth of work: with a quarter of this, chunks of one byte held
/// the loop for longer than anything else (`scripts/hostile-targets`).
const CHUNK_WORK: usize = 512;

/// Work since other tasks had their turn.
#[derive(Default)]
struct Streak(usize);

impl Streak {
    /// Adds `bytes` of work; lets others run when it is enough.
    async fn add(&mut self, bytes: usize) {
        self.0 += bytes;
        if self.0 >= STREAK_BYTES {
            self.0 = 0;
            yield_turn().await;
        }
    }
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        stream: &'a mut Stream,
        buffers: &'a mut Buffers,
        progress: &'a Progress,
        stats: &'a Cell<ClientStats>,
    ) -> Self {
        let Buffers { receive, work, gunzip } = buffers;
        let received = Received::new(receive);
        Self {
            stream,
            received,
            work,
            gunzip: gunzip.as_deref_mut(),
            progress,
            stats,
            streak: Streak::default(),
            location: None,
            absolute: None,
        }
    }

    /// The peer is a proxy that is to fetch the URL: `origin` goes in front of the path.
    pub(super) fn absolute(mut self, origin: Option<String>) -> Self {
        self.absolute = origin;
        self
    }

    /// Sends `request` with `body` and hands the response to `receiver`.
    pub(super) async fn run(
        mut self,
        request: Request<()>,
        body: &[u8],
        rules: Rules,
        receiver: &mut dyn Receive,
    ) -> Result<Outcome, HttpError> {
        let base = request.uri().clone();
        let (mut call, early) = self.send(request, body).await?;
        let head = self.receive_head(&mut call).await?;
        let again = self
            .location
            .take()
            .filter(|_| rules.follow_redirects && rules.with_body);
        let again = again.and_then(|location| resolve(&base, &location));
        let without_body = rules.follow_redirects && !rules.with_body;
        let redirect = again.is_some() || (without_body && matches!(head.status, 301 | 302 | 303 | 307 | 308));
        let action = if redirect {
            BodyAction::Discard
        } else {
            receiver.head(&head).map_err(refused)?
        };
        let mut delivery = Delivery::new(action, &head, rules.body_limit, self.gunzip.take(), receiver)?;
        let call = call.proceed().ok_or(HttpError::Eof(Phase::Head))?;
        let (cleanup, next) = match call {
            RecvResponseResult::Cleanup(call) => (call, None),
            RecvResponseResult::Redirect(call) => split_redirect(call, redirect && without_body)?,
            RecvResponseResult::RecvBody(call) => match self.receive_body(call, &mut delivery).await? {
                // Not wanted and too long to read off: the response counts, the connection does not.
                None if !redirect => {
                    return Ok(Outcome {
                        head,
                        reusable: false,
                        redirect: None,
                    });
                }
                None => {
                    return Err(HttpError::BodyTooLarge {
                        limit: HTTP_DISCARD_BYTES,
                    });
                }
                Some(RecvBodyResult::Cleanup(call)) => (call, None),
                Some(RecvBodyResult::Redirect(call)) => split_redirect(call, redirect && without_body)?,
            },
        };
        delivery.finish()?;
        let reusable = !early && !cleanup.must_close_connection() && self.received.bytes().is_empty();
        Ok(Outcome {
            head,
            reusable,
            redirect: again.or(next),
        })
    }

    /// Opens a tunnel: sends a CONNECT request and expects 2xx.
    pub(super) async fn tunnel(mut self, request: Request<()>) -> Result<(), HttpError> {
        let (mut call, _) = self.send(request, &[]).await?;
        self.progress.phase.set(Phase::Proxy);
        let head = self.receive_head(&mut call).await?;
        if !head.is_success() {
            return Err(HttpError::Proxy { status: head.status });
        }
        // HTTP servers speak second: bytes behind the head are not from the far end.
        if self.received.bytes().is_empty() {
            Ok(())
        } else {
            Err(ureq_proto::Error::BodyNotAllowed.into())
        }
    }

    fn count(&self, add: impl FnOnce(&mut ClientStats)) {
        let mut stats = self.stats.get();
        add(&mut stats);
        self.stats.set(stats);
    }

    /// Sends head and body; the second value says that an answer came before the body was sent.
    async fn send(&mut self, request: Request<()>, body: &[u8]) -> Result<(Call<RecvResponse>, bool), HttpError> {
        self.progress.phase.set(Phase::Send);
        let mut call = Call::new(request)?.proceed();
        let mut filled = call.write(self.work)?;
        if let Some(origin) = &self.absolute {
            filled = insert_origin(self.work, filled, origin.as_bytes()).ok_or(HttpError::BadHeader)?;
        }
        while !call.can_proceed() {
            self.count(|stats| stats.head_bytes_sent += filled as u64);
            if self.push(Source::Work(0, filled)).await? < filled {
                return Err(HttpError::Eof(Phase::Send));
            }
            filled = call.write(self.work)?;
        }
        self.count(|stats| stats.head_bytes_sent += filled as u64);
        match call.proceed()?.ok_or(HttpError::Eof(Phase::Send))? {
            SendRequestResult::RecvResponse(call) => {
                let sent = self.push(Source::Work(0, filled)).await?;
                Ok((call, sent < filled))
            }
            SendRequestResult::SendBody(mut call) => {
                // Head and the beginning of the body leave together: one segment, one TLS record.
                let room = self.work.get_mut(filled..).unwrap_or_default();
                let (first, rest) = body.split_at(room.len().min(body.len()));
                room.iter_mut().zip(first).for_each(|(to, from)| *to = *from);
                let sent = self.push(Source::Work(0, filled + first.len())).await?;
                let mut body_sent = sent.saturating_sub(filled);
                if body_sent == first.len() {
                    body_sent += self.push(Source::Body(rest)).await?;
                }
                self.count(|stats| stats.body_bytes_sent += body_sent as u64);
                call.consume_direct_write(body.len())?;
                let call = call.proceed().ok_or(HttpError::Eof(Phase::Send))?;
                Ok((call, body_sent < body.len()))
            }
            // No request of ours says Expect: it would cost a round trip.
            SendRequestResult::Await100(_) => Err(HttpError::BadHeader),
        }
    }

    /// Sends everything and flushes, or stops when the server answers first. Returns the bytes taken.
    async fn push(&mut self, source: Source<'_>) -> Result<usize, HttpError> {
        let mut sent = 0;
        loop {
            let bytes = match source {
                Source::Work(from, to) => self.work.get(from + sent..to).unwrap_or_default(),
                Source::Body(body) => body.get(sent..).unwrap_or_default(),
            };
            let step = match bytes {
                [] => self.stream.try_flush().map(|done| done.then_some(None)),
                bytes => self.stream.try_write(bytes).map(|taken| taken.map(Some)),
            };
            match step {
                Ok(Some(None)) => return Ok(sent),
                Ok(Some(Some(taken))) => sent += taken,
                Ok(None) => {
                    let can = ready(self.stream.as_fd(), Interest::ReadOrWrite).await?;
                    if can.can_read() && self.answer_while_sending()? {
                        return Ok(sent);
                    }
                }
                Err(StreamError::Io(error)) if is_disconnect(&error) => {
                    // A server that refuses a body answers and closes; the answer is worth more than the reset.
                    return match self.fill().await {
                        Ok(read) if read > 0 => Ok(sent),
                        _ => Err(HttpError::from_stream(StreamError::Io(error), Phase::Send)),
                    };
                }
                Err(error) => return Err(HttpError::from_stream(error, Phase::Send)),
            }
        }
    }

    /// Reads what has come while sending; true when it is (the beginning of) a final response.
    fn answer_while_sending(&mut self) -> Result<bool, HttpError> {
        let room = self.received.room();
        if room.is_empty() {
            return Err(HttpError::HeadTooBig {
                limit: HTTP_RECEIVE_BYTES,
            });
        }
        match self.stream.try_read(room) {
            Ok(None) => return Ok(false),
            Ok(Some(0)) => return Err(HttpError::Eof(Phase::Send)),
            Ok(Some(read)) => self.note_received(read),
            Err(error) => return Err(HttpError::from_stream(error, Phase::Send)),
        }
        loop {
            let bytes = self.received.bytes();
            // "HTTP/1.1 1": informational, to be skipped as soon as it is complete.
            match bytes.get(9) {
                None => return Ok(false),
                Some(b'1') => match bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                    None => return Ok(false),
                    Some(at) => self.received.consume(at + 4),
                },
                Some(_) => return Ok(true),
            }
        }
    }

    fn note_received(&mut self, read: usize) {
        self.received.add(read);
        self.progress.answered.set(true);
    }

    /// Waits for more bytes; 0 = orderly end of the stream.
    async fn fill(&mut self) -> Result<usize, HttpError> {
        let phase = self.progress.phase.get();
        let room = self.received.room();
        if room.is_empty() {
            return Err(HttpError::HeadTooBig {
                limit: HTTP_RECEIVE_BYTES,
            });
        }
        let read = self
            .stream
            .read(room)
            .await
            .map_err(|error| HttpError::from_stream(error, phase))?;
        if read > 0 {
            self.note_received(read);
        }
        self.streak.add(read).await;
        Ok(read)
    }

    async fn receive_head(&mut self, call: &mut Call<RecvResponse>) -> Result<ResponseHead, HttpError> {
        if self.progress.phase.get() == Phase::Send {
            self.progress.phase.set(Phase::Head);
        }
        loop {
            if !self.received.bytes().is_empty() {
                let (used, response) = call.try_response(self.received.bytes(), false)?;
                self.received.consume(used);
                self.count(|stats| stats.head_bytes_received += used as u64);
                if let Some(response) = response {
                    if matches!(response.status().as_u16(), 307 | 308) {
                        let location = response.headers().get(header::LOCATION);
                        self.location = location.and_then(|value| value.to_str().ok()).map(Into::into);
                    }
                    return Ok(ResponseHead::from_response(&response, self.gunzip.is_some()));
                }
                if used > 0 {
                    self.streak.add(CHUNK_WORK).await;
                    continue;
                }
            }
            if self.fill().await? == 0 {
                return Err(HttpError::Eof(self.progress.phase.get()));
            }
        }
    }

    /// Reads the body to its end; `None` when the receiver wants no more of it and it is too long to read off.
    async fn receive_body(
        &mut self,
        mut call: Call<RecvBody>,
        delivery: &mut Delivery<'_>,
    ) -> Result<Option<RecvBodyResult>, HttpError> {
        self.progress.phase.set(Phase::Body);
        let until_close = call.body_mode() == BodyMode::CloseDelimited;
        loop {
            let (used, written) = call.read(self.received.bytes(), self.work)?;
            self.received.consume(used);
            self.count(|stats| stats.body_bytes_received += used as u64);
            let mut piece = self.work.get(..written).unwrap_or_default();
            loop {
                let taken = delivery.take(&mut piece)?;
                self.streak.add(CHUNK_WORK + taken.bytes).await;
                match taken.then {
                    Then::More => {}
                    Then::Done => break,
                    Then::Stop => return Ok(None),
                }
            }
            if !until_close && call.can_proceed() {
                break;
            }
            if used == 0 && written == 0 && self.fill().await? == 0 {
                if until_close {
                    break;
                }
                return Err(HttpError::Eof(Phase::Body));
            }
        }
        Ok(call.proceed())
    }
}

/// Bytes for [`Exchange::push`]: a part of the work buffer, or the caller's body.
#[derive(Clone, Copy)]
enum Source<'b> {
    Work(usize, usize),
    Body(&'b [u8]),
}

/// Puts `origin` behind the method of the request that fills the front of `work`; the new length, `None` if there is no room for it.
fn insert_origin(work: &mut [u8], filled: usize, origin: &[u8]) -> Option<usize> {
    let at = work.get(..filled)?.iter().position(|byte| *byte == b' ')? + 1;
    let end = filled + origin.len();
    let moved = work.get_mut(at..end)?;
    moved.copy_within(..filled - at, origin.len());
    moved.get_mut(..origin.len())?.copy_from_slice(origin);
    Some(end)
}

fn refused(_: Abort) -> HttpError {
    HttpError::Aborted
}

type Cleanup = Call<ureq_proto::client::state::Cleanup>;

/// The connection's end of a redirect, and where it leads if it is to be followed.
fn split_redirect(mut call: Call<Redirect>, follow: bool) -> Result<(Cleanup, Option<Uri>), HttpError> {
    if !follow {
        return Ok((call.proceed(), None));
    }
    let next = call
        .as_new_call(RedirectAuthHeaders::Never)
        .map_err(|_| HttpError::Redirect(RedirectError::Location))?
        .map(|next| next.uri().clone());
    Ok((call.proceed(), next))
}

/// What [`Delivery::take`] did: plain bytes handed on or thrown away, and what to do next.
struct Taken {
    bytes: usize,
    then: Then,
}

enum Then {
    /// Call again with the same piece.
    More,
    /// The piece is used up.
    Done,
    /// An unwanted body is too long to read off.
    Stop,
}

/// Takes the transferred body, inflates, counts and hands it on.
struct Delivery<'a> {
    action: BodyAction,
    gunzip: Option<&'a mut Gunzip>,
    limit: u64,
    decoded: u64,
    receiver: &'a mut dyn Receive,
    body_due: bool,
}

impl<'a> Delivery<'a> {
    fn new(
        action: BodyAction,
        head: &ResponseHead,
        limit: u64,
        gunzip: Option<&'a mut Gunzip>,
        receiver: &'a mut dyn Receive,
    ) -> Result<Self, HttpError> {
        let deliver = action == BodyAction::Deliver;
        // A length given in advance spares the transfer of a body that will be refused.
        if deliver && !head.gzip && limit > 0 && head.content_length.is_some_and(|length| length >= limit) {
            return Err(HttpError::BodyTooLarge { limit });
        }
        let mut gunzip = gunzip.filter(|_| head.gzip && deliver);
        if let Some(gunzip) = gunzip.as_deref_mut() {
            gunzip.reset();
        }
        Ok(Self {
            action,
            gunzip,
            limit,
            decoded: 0,
            receiver,
            body_due: head.status != 204 && head.status != 304,
        })
    }

    /// Takes from the front of `piece` what makes at most 32 KiB of plain bytes.
    fn take(&mut self, piece: &mut &[u8]) -> Result<Taken, HttpError> {
        let before = self.decoded;
        let then = if self.action == BodyAction::Discard {
            self.decoded += piece.len() as u64;
            if self.decoded <= HTTP_DISCARD_BYTES {
                Then::Done
            } else {
                Then::Stop
            }
        } else if self.deliver(piece)? {
            Then::More
        } else {
            Then::Done
        };
        let bytes = usize::try_from(self.decoded - before).unwrap_or(usize::MAX);
        Ok(Taken { bytes, then })
    }

    /// Whether there is more to come from `piece`.
    fn deliver(&mut self, piece: &mut &[u8]) -> Result<bool, HttpError> {
        let Self {
            gunzip,
            limit,
            decoded,
            receiver,
            ..
        } = self;
        let mut hand_on = |plain: &[u8]| {
            *decoded += plain.len() as u64;
            if *limit > 0 && *decoded >= *limit {
                return Err(HttpError::BodyTooLarge { limit: *limit });
            }
            receiver.body(plain).map_err(refused)
        };
        match gunzip {
            Some(gunzip) => return gunzip.step(piece, hand_on),
            None if piece.is_empty() => {}
            None => hand_on(piece)?,
        }
        Ok(false)
    }

    fn finish(self) -> Result<(), HttpError> {
        match self.gunzip {
            Some(gunzip) if self.body_due => Ok(gunzip.finish()?),
            _ => Ok(()),
        }
    }
}
