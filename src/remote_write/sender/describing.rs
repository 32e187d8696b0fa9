//! When metadata goes out.
//!
//! 1.0: a round over all families every `send_interval`, in requests of their own, as Prometheus sends them. One leaves only while
//! there is nothing else to send, so none delays a sample that is due when it leaves. A request that fails for now is repeated after
//! `max_backoff_ms`; one that is refused is counted, and the round goes on. Nothing that becomes of them touches samples.
//! The first round begins one interval after the start.
//!
//! 2.0: help texts and units travel with the series of a live batch, at the start and then once per [`SERIES_INTERVALS`] intervals: with every one
//! they would take more bytes than the samples, once per interval still a seventh of all bytes. Types are with every series always.

use super::{Batch, Instant, MetadataConfig, Protocol, Sender, State};
use crate::metadata::Metadata;
use crate::remote_write::batch::Described;
use crate::remote_write::sender::Action;

/// Texts with series go once per so many intervals: receivers keep them, and they hardly ever change.
const SERIES_INTERVALS: u64 = 10;

/// Where metadata stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Describing {
    /// Not before this instant; `None`: nothing was sent yet, nor waited for.
    next: Option<Instant>,
    /// Place where a round goes on; 0: it begins.
    from: usize,
    /// The request in hand.
    described: Described,
    attempts: u32,
}

impl Describing {
    /// Whether a batch sealed now shall carry help texts and units.
    pub fn in_series(&self, now: Instant, config: &MetadataConfig) -> bool {
        config.send && self.next.is_none_or(|next| now >= next)
    }

    /// All of it is sent for this interval.
    pub fn done(&mut self, now: Instant, config: &MetadataConfig) {
        self.from = 0;
        self.attempts = 0;
        self.next = Some(now + config.interval_ms);
    }

    /// A batch with help texts and units was sealed.
    pub fn done_in_series(&mut self, now: Instant, config: &MetadataConfig) {
        self.done(now, config);
        self.next = Some(now + config.interval_ms.saturating_mul(SERIES_INTERVALS));
    }

    /// Body, attempts before, samples and families of the request in hand.
    pub fn request<'a>(&self, batch: &'a Batch) -> (&'a [u8], u32, usize, usize) {
        (
            batch.description(&self.described),
            self.attempts,
            0,
            self.described.families,
        )
    }
}

impl Sender {
    /// Samples have nothing for the receiver at `now` and ask for `action`: metadata may go, or asks to be called in time.
    pub(super) fn describe_meanwhile(&mut self, now: Instant, action: Action, metadata: &Metadata) -> Action {
        let config = self.config.metadata;
        let (Action::Wait(until), Protocol::V1, true) = (action, self.protocol, config.send) else {
            return action;
        };
        let in_parts = self.flush.is_some() || self.split.is_some() || self.again;
        if until <= now || in_parts || now < self.not_before || metadata.is_empty() {
            return action;
        }
        let next = *self.describing.next.get_or_insert(now + config.interval_ms);
        if now < next {
            return Action::Wait(until.min(next));
        }
        let described = self.batch.describe(metadata, self.describing.from, config.max_per_send);
        self.describing.described = described;
        if described.families == 0 {
            self.describing.done(now, &config);
            return Action::Wait(until.min(now + config.interval_ms));
        }
        self.counters.metadata.sent += described.families as u64;
        self.state = State::Describing;
        Action::Send
    }

    /// The request of metadata in flight came to its end; `None`: it is to be repeated.
    pub(super) fn described(&mut self, now: Instant, taken: Option<bool>) {
        let families = self.describing.described.families as u64;
        self.state = State::Gathering;
        let Some(taken) = taken else {
            self.counters.metadata.retried += families;
            self.describing.attempts = self.describing.attempts.saturating_add(1);
            self.describing.next = Some(now + self.config.max_backoff_ms);
            return;
        };
        if !taken {
            self.counters.metadata.failed += families;
        }
        self.describing.attempts = 0;
        match self.describing.described.next {
            Some(next) => self.describing.from = next,
            None => self.describing.done(now, &self.config.metadata),
        }
    }
}
