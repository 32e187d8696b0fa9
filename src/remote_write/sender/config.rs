//! What a sender is made from, and the words it speaks with its host.

use crate::clock::Instant;
use crate::remote_write::batch::{BatchLimits, UnknownTime};
use crate::remote_write::response::{HoldReason, Protocol};

/// Which message a remote is spoken to with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageChoice {
    /// 2.0 first, 1.0 when the receiver does not take that: `protobuf_message` not given.
    #[default]
    Negotiate,
    /// As configured, whatever the receiver says.
    Fixed(Protocol),
}

/// `metadata_config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataConfig {
    /// Whether help texts and units are sent, and in 1.0 types.
    pub send: bool,
    /// How often, milliseconds.
    pub interval_ms: u64,
    /// Most families of one request, in 1.0.
    pub max_per_send: usize,
}

impl MetadataConfig {
    /// Nothing is sent.
    pub const OFF: Self = Self {
        send: false,
        interval_ms: 60_000,
        max_per_send: 2_000,
    };
}

/// What a sender is made from.
#[derive(Clone, Copy, Debug)]
pub struct SenderConfig {
    /// Sizes; `samples` is raised to the larger of the two below. Where it is more than that, a backlog of 2.0 is gathered in batches of
    /// so many samples, which go in several requests.
    pub limits: BatchLimits,
    /// `queue_config.max_samples_per_send`.
    pub max_samples_per_send: usize,
    /// Most samples of a request while a backlog drains; not below `max_samples_per_send`.
    pub backlog_samples_per_send: usize,
    /// `queue_config.batch_send_deadline`, or `tidegate.uplink.flush_interval`.
    pub flush_interval_ms: u64,
    /// `queue_config.min_backoff`.
    pub min_backoff_ms: u64,
    /// `queue_config.max_backoff`.
    pub max_backoff_ms: u64,
    /// Most milliseconds between two attempts to connect in an outage of up to a minute; 1,000 unless there is reason.
    pub connect_backoff_ms: u64,
    /// `tidegate.uplink.rate_limit`: bytes per second, headers and bodies; 0 = no limit.
    pub rate_limit: u64,
    /// `tidegate.uplink.slow_start`: backlogs older than this are paced; 0 = none.
    pub slow_start_ms: u64,
    /// `tidegate.uplink.live_share` in thousandths, for a receiver that `accepts_out_of_order`: what samples scraped from now on may take of the
    /// link while a backlog drains; 0 = all in order.
    pub live_share: u16,
    /// `queue_config.sample_age_limit` or `tidegate.uplink.max_sample_age`; 0 = none.
    pub max_sample_age_ms: u64,
    /// `queue_config.retry_on_http_429`.
    pub retry_on_429: bool,
    /// Message.
    pub message: MessageChoice,
    /// Group live batches, too: for a stretched `flush_interval`.
    pub group_live: bool,
    /// What targets say of their families.
    pub metadata: MetadataConfig,
    /// Frames whose time is not known.
    pub unknown_time: UnknownTime,
    /// For jitter and hash tables: from the host's random source.
    pub seed: u64,
}

impl SenderConfig {
    pub(super) const fn batch_limits(&self) -> BatchLimits {
        let (live, backlog) = (self.max_samples_per_send, self.backlog_samples_per_send);
        let mut limits = self.limits;
        let request = if backlog > live { backlog } else { live };
        if limits.samples < request {
            limits.samples = request;
        }
        limits
    }
}

/// What the host does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until this instant, or until a frame arrives.
    Wait(Instant),
    /// Send [`Sender::request`](super::Sender::request) and report the outcome.
    Send,
    /// A request is on its way; report its outcome.
    InFlight,
    /// As [`Action::Wait`], and tell the operator that data is kept for this reason.
    Hold(HoldReason, Instant),
    /// [`Sender::flush`](super::Sender::flush) has come to its end; what is not acknowledged stays in the ring.
    Done,
}

/// How an attempt failed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No connection: name resolution, refused, unreachable, timed out while connecting. Nothing was sent.
    Connect,
    /// TLS handshake failed, certificate not accepted. Nothing was sent.
    Tls,
    /// The connection ended before the answer; the receiver may have got the samples.
    Closed,
    /// No answer in time; the receiver may have got the samples.
    Timeout,
    /// The answer was not HTTP; the receiver may have got the samples.
    BadResponse,
    /// The body could not be compressed into the memory there is. Nothing was sent.
    TooLarge,
}

/// A request to send.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Protobuf, to be compressed as one snappy block.
    pub body: &'a [u8],
    /// For `Content-Type` and the version header.
    pub protocol: Protocol,
    /// Attempts before this one with the same body: value of `Retry-Attempt`, which is left out when 0.
    pub retry_attempt: u32,
    /// Samples in the body.
    pub samples: usize,
    /// Metric families in the body: a request of 1.0 with these and nothing else.
    pub families: usize,
}
