//! One task per remote: sends what its sender has gathered and reports the answers.
//!
//! The body is compressed into the task's own buffer before the first `.await`, so that the agent is free while
//! the request is under way. A remote that hangs, refuses or floods delays nobody else.

use super::demand::Totals;
use super::shared::{RemoteClient, SharedRef};
use super::sleep;
use crate::agent::Agent;
use crate::clock::{Instant, UnixMillis};
use crate::host::http::{Buffers, CaptureBody, Client, HttpError, Method, Phase, Request, ResponseHead};
use crate::host::medium::Medium;
use crate::host::runtime::{now, yield_turn};
use crate::host::snappy::Snappy;
use crate::remote_write::Compressor as _;
use crate::remote_write::response::{Head, HoldReason, Protocol, Verdict};
use crate::remote_write::sender::{Action, ErrorKind};
use alloc::boxed::Box;
use core::fmt::Write as _;
use smol::lock::Mutex;

/// Bytes of a receiver's error text that are kept and logged.
const REASON_BYTES: usize = 512;

/// How long to leave a medium alone that could not be read, milliseconds.
const READ_ERROR_PAUSE_MS: u64 = 1_000;

/// How long a remote whose requests are signed waits before it looks at the clock again, milliseconds.
const CLOCK_PAUSE_MS: u64 = 1_000;

/// A remote's memory.
pub struct Drain {
    /// Its place in the configuration.
    pub remote: usize,
    /// HTTP buffers.
    pub buffers: Buffers,
    /// Compressor.
    pub snappy: Snappy,
    /// The compressed body.
    pub packed: Box<[u8]>,
}

/// A request ready to go out.
struct Outgoing {
    bytes: usize,
    protocol: Protocol,
    retry_attempt: u32,
    samples: usize,
    families: usize,
}

/// Drains until the sender says that its flush has ended.
pub async fn run(shared: SharedRef, mut drain: Drain) {
    let Some(remote) = shared.remotes.get(drain.remote) else {
        return;
    };
    let Some(client) = &remote.client else {
        hold_for_ever(remote);
        return;
    };
    loop {
        let seen = shared.stored.count();
        look_at_demand(&shared, remote, drain.remote);
        if remote.signs && shared.agent.borrow().wall(now()).is_none() {
            hold(remote, HoldReason::ClockUnknown);
            wait(&shared, now() + CLOCK_PAUSE_MS, seen).await;
            continue;
        }
        let action = shared.agent.borrow_mut().poll_remote(drain.remote, now());
        // Acknowledgements move on polling, too: frames without a sample for this remote.
        shared.answered.notify();
        match action {
            Ok(Action::Send) => send(&shared, remote, client, &mut drain).await,
            Ok(Action::Wait(until)) => {
                remote.hold.set(None);
                wait(&shared, until, seen).await;
            }
            Ok(Action::Hold(reason, until)) => {
                hold(remote, reason);
                wait(&shared, until, seen).await;
            }
            Ok(Action::InFlight) => sleep(now() + READ_ERROR_PAUSE_MS).await,
            Ok(Action::Done) => return,
            Err(error) => {
                log::warn!(remote = remote.name.as_str(), error:% = error; "ring cannot be read; trying again");
                sleep(now() + READ_ERROR_PAUSE_MS).await;
            }
        }
    }
}

fn look_at_demand(shared: &SharedRef, remote: &RemoteClient, number: usize) {
    let agent = shared.agent.borrow();
    if let Some(sender) = agent.senders().get(number) {
        let totals = Totals {
            stored: agent.ring().counters().samples_appended,
            unwanted: sender.counters().dropped.dropped_series,
        };
        remote.demand.borrow_mut().look(now(), totals);
    }
}

fn hold(remote: &RemoteClient, reason: HoldReason) {
    if remote.hold.replace(Some(reason)) == Some(reason) {
        return;
    }
    let name = remote.name.as_str();
    if remote.signs && reason == HoldReason::ClockUnknown {
        log::warn!(remote = name; "requests cannot be signed before the clock is set; samples are kept");
    } else {
        log::error!(remote = name, reason:? = reason; "receiver does not take samples; they are kept");
    }
}

/// There is no way to this receiver: what is meant for it stays on the ring, as far as the ring goes.
fn hold_for_ever(remote: &RemoteClient) {
    log::error!(
        remote = remote.name.as_str(), url = remote.url.as_str();
        "receiver cannot be spoken to: expected an http or https URL; samples are kept until the configuration says one"
    );
    note_error(remote, format_args!("expected an http or https URL"));
    remote.failing.set(true);
    remote.hold.set(Some(HoldReason::Scheme));
}

/// Until the instant, or until a frame is stored.
async fn wait(shared: &SharedRef, until: Instant, seen: u64) {
    if until <= now() {
        // Other tasks get their turn between two pieces of long work.
        yield_turn().await;
        return;
    }
    let stored = shared.stored.after(seen);
    if until == Instant(u64::MAX) {
        stored.await;
    } else {
        smol::future::or(stored, sleep(until)).await;
    }
}

async fn send(shared: &SharedRef, remote: &RemoteClient, client: &Mutex<Client>, drain: &mut Drain) {
    // Gathering and encoding have held the loop long enough for one step: 8,000 samples and their compression together took 3.6 ms.
    yield_turn().await;
    let outgoing = pack(&mut shared.agent.borrow_mut(), drain);
    let Some(outgoing) = outgoing else {
        shared
            .agent
            .borrow_mut()
            .on_error(drain.remote, now(), ErrorKind::TooLarge);
        return;
    };
    if let Some(sender) = shared.agent.borrow().senders().get(drain.remote) {
        let pending = sender.pending();
        shared
            .pools
            .batch(pending.samples + pending.histograms, sender.batch_samples());
    }
    let mut reason = CaptureBody::<REASON_BYTES>::new();
    let body = drain.packed.get(..outgoing.bytes).unwrap_or_default();
    let deadline = now() + remote.timeout_ms;
    if outgoing.families == 0 {
        remote.demand.borrow_mut().sending(now());
    }
    let wall = shared.agent.borrow().wall(now());
    let (result, sent) = post(
        (client, deadline, wall),
        &outgoing,
        body,
        &mut drain.buffers,
        &mut reason,
    )
    .await;
    if let Some(sender) = shared.agent.borrow_mut().sender_mut(drain.remote) {
        sender.charge(now(), sent);
    }
    match result {
        Ok(head) if outgoing.families > 0 => described(shared, remote, drain.remote, &head, reason.first_line()),
        Ok(head) => answered(
            shared,
            remote,
            drain.remote,
            &head,
            reason.first_line(),
            outgoing.samples,
        ),
        Err(error) => failed(shared, remote, drain.remote, &error),
    }
    shared.answered.notify();
}

/// Compresses the request into the task's buffer; `None`: it does not fit.
fn pack(agent: &mut Agent<Medium>, drain: &mut Drain) -> Option<Outgoing> {
    let request = agent.request(drain.remote)?;
    let bytes = drain.snappy.compress(request.body, &mut drain.packed).ok()?;
    let outgoing = Outgoing {
        bytes,
        protocol: request.protocol,
        retry_attempt: request.retry_attempt,
        samples: request.samples,
        families: request.families,
    };
    agent.sender_mut(drain.remote)?.count_bytes(bytes as u64);
    Some(outgoing)
}

async fn post(
    (client, deadline, wall): (&Mutex<Client>, Instant, Option<UnixMillis>),
    outgoing: &Outgoing,
    body: &[u8],
    buffers: &mut Buffers,
    reason: &mut CaptureBody<REASON_BYTES>,
) -> (Result<ResponseHead, HttpError>, u64) {
    let mut attempt = heapless::String::<12>::new();
    // Ten digits at most.
    let _ = write!(attempt, "{}", outgoing.retry_attempt);
    let headers = [
        ("content-encoding", "snappy"),
        ("content-type", outgoing.protocol.content_type()),
        ("x-prometheus-remote-write-version", outgoing.protocol.version()),
        ("retry-attempt", attempt.as_str()),
    ];
    // A first attempt does not carry the last header.
    let headers = if outgoing.retry_attempt == 0 {
        &headers[..3]
    } else {
        &headers[..]
    };
    let request = Request {
        method: Method::Post,
        headers,
        body,
        body_limit: 0,
        deadline,
        wall,
    };
    let mut client = client.lock().await;
    let sent = |client: &Client| client.stats().head_bytes_sent + client.stats().body_bytes_sent;
    let before = sent(&client);
    let result = client.request(&request, buffers, reason).await;
    (result, sent(&client) - before)
}

fn note_error(remote: &RemoteClient, text: core::fmt::Arguments<'_>) {
    let mut kept = remote.last_error.borrow_mut();
    kept.clear();
    // Cut where it is too long.
    let _ = kept.write_fmt(text);
    remote.failures.set(remote.failures.get() + 1);
}

/// The answer to a request of metadata. It says nothing about samples: they go on as before.
fn described(shared: &SharedRef, remote: &RemoteClient, number: usize, head: &ResponseHead, text: &str) {
    shared
        .agent
        .borrow_mut()
        .on_response(number, now(), &Head::new(head.status));
    let (name, status) = (remote.name.as_str(), head.status);
    if (200..300).contains(&status) {
        log::debug!(remote = name, status; "metadata sent");
    } else {
        log::warn!(remote = name, status, answer = text; "metadata not taken");
    }
}

/// What of an answer's head says something of its samples.
#[must_use]
pub fn seen(head: &ResponseHead) -> Head {
    let mut seen = Head::new(head.status);
    let counts = [
        ("x-prometheus-remote-write-samples-written", head.samples_written),
        ("x-prometheus-remote-write-histograms-written", head.histograms_written),
        ("x-prometheus-remote-write-exemplars-written", head.exemplars_written),
    ];
    for (name, count) in counts {
        if let Some(count) = count {
            let mut digits = heapless::String::<24>::new();
            // Twenty digits at most.
            let _ = write!(digits, "{count}");
            seen.header(name, digits.as_bytes());
        }
    }
    for (name, value) in [("retry-after", &head.retry_after), ("date", &head.date)] {
        if let Some(value) = value {
            seen.header(name, value.as_bytes());
        }
    }
    seen
}

fn answered(shared: &SharedRef, remote: &RemoteClient, number: usize, head: &ResponseHead, text: &str, samples: usize) {
    let verdict = shared.agent.borrow_mut().on_response(number, now(), &seen(head));
    let was_failing = remote.failing.replace(!matches!(
        verdict,
        Some(Verdict::Accepted | Verdict::AcceptedPartly { .. })
    ));
    if matches!(
        verdict,
        Some(Verdict::Accepted | Verdict::AcceptedPartly { .. } | Verdict::Drop(_))
    ) {
        remote.demand.borrow_mut().settled(now(), samples);
    }
    let name = remote.name.as_str();
    let status = head.status;
    match verdict {
        Some(Verdict::Accepted) => {
            if was_failing {
                log::info!(remote = name, attempts = remote.failures.get(); "receiver takes samples again");
            }
            remote.last_error.borrow_mut().clear();
            remote.failures.set(0);
            remote.last_success.set(Some(now()));
            log::debug!(remote = name, status, samples; "sent");
        }
        Some(Verdict::AcceptedPartly { written }) => {
            remote.last_success.set(Some(now()));
            note_error(remote, format_args!("{written} of {samples} samples written: {text}"));
            log::warn!(remote = name, status, samples, written, answer = text; "receiver took only a part");
        }
        Some(Verdict::Drop(why)) => {
            note_error(remote, format_args!("HTTP status {status}: {text}"));
            log::warn!(remote = name, status, samples, why:? = why, answer = text; "samples refused for good");
        }
        Some(verdict) => {
            note_error(remote, format_args!("HTTP status {status}: {text}"));
            if was_failing {
                log::debug!(remote = name, status, samples, verdict:? = verdict, answer = text; "not taken");
            } else {
                log::warn!(remote = name, status, samples, verdict:? = verdict, answer = text; "not taken; samples are kept");
            }
        }
        None => {}
    }
}

fn failed(shared: &SharedRef, remote: &RemoteClient, number: usize, error: &HttpError) {
    let kind = kind_of(error);
    shared.agent.borrow_mut().on_error(number, now(), kind);
    note_error(remote, format_args!("{error}"));
    // Once per outage: the next line about this remote says that it is over.
    if remote.failing.replace(true) {
        log::debug!(remote = remote.name.as_str(), error:% = error; "receiver not reached");
    } else {
        log::warn!(remote = remote.name.as_str(), url = remote.url.as_str(), error:% = error; "receiver not reached; samples are kept");
    }
}

fn kind_of(error: &HttpError) -> ErrorKind {
    match error {
        #[cfg(feature = "sigv4")]
        HttpError::Sign(_) => ErrorKind::Connect,
        HttpError::Dns(_)
        | HttpError::Connect(_)
        | HttpError::Proxy { .. }
        | HttpError::Timeout(Phase::Resolve | Phase::Connect | Phase::Tls)
        | HttpError::Eof(Phase::Connect)
        | HttpError::Io {
            phase: Phase::Connect, ..
        }
        | HttpError::Secret { .. }
        | HttpError::BadHeader
        | HttpError::Token(_)
        | HttpError::TableFull(_)
        | HttpError::Memory(_) => ErrorKind::Connect,
        HttpError::Tls(_) | HttpError::Eof(Phase::Tls) | HttpError::Io { phase: Phase::Tls, .. } => ErrorKind::Tls,
        HttpError::Timeout(_) => ErrorKind::Timeout,
        HttpError::Eof(_) | HttpError::Io { .. } => ErrorKind::Closed,
        _ => ErrorKind::BadResponse,
    }
}
