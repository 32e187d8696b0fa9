//! What the sender makes of an outcome.

use super::{
    ErrorKind, MAX_HOLD_MS, MAX_PROBE_MS, MIN_HOLD_MS, MessageChoice, PROBE_SHARE, REFUSALS, Sender, Split, State,
};
use crate::clock::{Instant, UnixMillis};
use crate::remote_write::batch::{Counts, Layout};
use crate::remote_write::response::{Attempt, DropReason, Head, HoldReason, Protocol, Verdict, Written, verdict};

impl Sender {
    /// Takes the answer to the request in flight; returns what it meant, for the log.
    ///
    /// Without a request in flight nothing happens.
    pub fn on_response(&mut self, now: Instant, wall: Option<UnixMillis>, head: &Head) -> Verdict {
        if let (Some(date), Ok(boot)) = (head.date, i64::try_from(now.0)) {
            self.receiver_offset_ms = Some(date.0.saturating_sub(boot));
        }
        if self.state == State::Describing {
            // 1.0: the status says it all. What Prometheus repeats is repeated.
            let again = head.status >= 500 || (head.status == 429 && self.config.retry_on_429);
            let taken = (200..300).contains(&head.status);
            self.described(now, (!again || head.status >= 600).then_some(taken));
            return Verdict::Accepted;
        }
        if self.state != State::InFlight {
            if self.receiver_offset_ms.is_none() {
                // It does not say what time it is: ours must do.
                self.sent_before = None;
            }
            self.state = match self.state {
                State::Probing => State::Gathering,
                other => other,
            };
            return Verdict::Accepted;
        }
        self.ahead.ended(now);
        let verdict = verdict(head, &self.attempt(), wall);
        let written = head.written().filter(|_| self.protocol == Protocol::V2);
        match verdict {
            Verdict::Accepted | Verdict::AcceptedPartly { .. } => {
                if !self.ahead.is_fresh() {
                    self.pace.taken(now, self.batch.request_samples());
                }
                self.accepted(now, written);
            }
            Verdict::Retry { after_ms } => {
                if head.status >= 500 {
                    self.doubt();
                }
                let delay = match after_ms {
                    Some(ms) => self.backoff.retry_after(ms),
                    None => self.backoff.delay(),
                };
                let least = self.pace.refused(now);
                self.retry_at(now, delay.max(least));
                if head.status == 429 {
                    self.ease(now + delay.max(least));
                }
            }
            Verdict::Halve => self.halve(now),
            Verdict::Hold(reason) => self.hold(now, reason),
            Verdict::FallBackToV1 => self.fall_back(now, head.status),
            Verdict::Bisect => self.split(),
            Verdict::Drop(reason) => self.dropped(now, reason),
        }
        verdict
    }

    /// Takes the failure of the request in flight.
    ///
    /// Without a request in flight nothing happens.
    pub fn on_error(&mut self, now: Instant, kind: ErrorKind) {
        match self.state {
            State::Probing => self.state = State::Gathering,
            State::Describing => {
                self.counters.errors += 1;
                self.described(now, (kind == ErrorKind::TooLarge).then_some(false));
            }
            _ => {}
        }
        if self.state != State::InFlight {
            return;
        }
        self.counters.errors += 1;
        self.ahead.ended(now);
        let delay = match kind {
            ErrorKind::TooLarge if self.batch.request_samples() > 1 => return self.halve(now),
            ErrorKind::TooLarge => return self.dropped(now, DropReason::TooLarge),
            // A bad certificate or a server that talks nonsense is no outage: it gets the full back-off.
            ErrorKind::Tls => self.backoff.delay(),
            ErrorKind::BadResponse => {
                self.doubt();
                self.backoff.delay()
            }
            ErrorKind::Closed | ErrorKind::Timeout => {
                self.doubt();
                self.pace.refused(now);
                self.probe_delay(now)
            }
            ErrorKind::Connect => self.probe_delay(now),
        };
        if self.attempts > 0 && matches!(kind, ErrorKind::Connect | ErrorKind::Tls) {
            // The link was down before the flush began: leave the rest to the ring.
            self.end_flush();
        }
        self.retry_at(now, delay);
    }

    /// Wait before the next look whether the uplink is back.
    fn probe_delay(&mut self, now: Instant) -> u64 {
        let outage = self.failing_since.map_or(0, |since| now.since(since));
        let step = (outage / PROBE_SHARE).min(MAX_PROBE_MS);
        if step > self.config.connect_backoff_ms {
            self.backoff.delay_of(step)
        } else {
            self.backoff.delay_up_to(self.config.connect_backoff_ms)
        }
    }

    fn attempt(&self) -> Attempt {
        let counts = self.batch.request_counts();
        Attempt {
            protocol: self.protocol,
            negotiable: self.config.message == MessageChoice::Negotiate,
            confirmed: self.confirmed,
            unconfirmed: self.unconfirmed,
            retry_on_429: self.config.retry_on_429,
            samples: u32::try_from(counts.samples).unwrap_or(u32::MAX),
            histograms: u32::try_from(counts.histograms).unwrap_or(u32::MAX),
            single_frame: self.batch.is_of_one_frame(),
            in_doubt: self.is_in_doubt(),
            may_split: !self.is_part() && (self.layout == Layout::Grouped || self.refused_run > 0),
        }
    }

    /// The receiver may have the samples of this request: whatever is sent until they are settled keeps to them.
    fn doubt(&mut self) {
        if self.batch.is_cut() {
            self.batch.doubt();
        } else {
            self.doubt_batch();
        }
    }

    /// The receiver may have samples of this batch.
    fn doubt_batch(&mut self) {
        self.doubt_until = self.doubt_until.max(self.batch.end());
        self.batch.keep_times();
    }

    fn is_in_doubt(&self) -> bool {
        self.place < self.doubt_until || self.batch.is_doubtful()
    }

    /// The request in hand is a part of one that was refused.
    fn is_part(&self) -> bool {
        self.split.is_some() || self.batch.is_part()
    }

    fn retry_at(&mut self, now: Instant, delay_ms: u64) {
        self.failing_since.get_or_insert(now);
        self.counters.note_retry(self.batch.request_counts());
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Ready(now + delay_ms);
    }

    /// `written`: what a 2.0 receiver says it has.
    fn accepted(&mut self, now: Instant, written: Option<Written>) {
        self.confirmed |= written.is_some();
        self.tentative = false;
        self.unconfirmed = 0;
        self.hold_ms = MIN_HOLD_MS;
        let sent = self.batch.request_counts();
        let refused = written.map_or_else(Counts::default, |written| Counts {
            samples: missing(sent.samples, written.samples),
            histograms: missing(sent.histograms, written.histograms),
            exemplars: missing(sent.exemplars, written.exemplars),
        });
        if refused.samples + refused.histograms == 0 && !self.is_part() {
            self.refused_run = 0;
        }
        let accepted = sent.items() - refused.samples - refused.histograms;
        self.counters.samples_accepted += accepted as u64;
        if self.ahead.is_fresh() {
            self.counters.samples_ahead += accepted as u64;
        }
        self.limited = 0;
        self.eased_limit = self.eased_limit.saturating_mul(2);
        self.batch.finish();
        self.count_refused(refused, self.is_in_doubt());
        self.settle(now);
    }

    fn count_refused(&mut self, refused: Counts, in_doubt: bool) {
        let counters = &mut self.counters;
        counters.exemplars.failed += if in_doubt { 0 } else { refused.exemplars as u64 };
        if in_doubt {
            counters.samples_in_doubt += (refused.samples + refused.histograms) as u64;
        } else if refused.samples + refused.histograms > 0 {
            counters.samples_failed += refused.samples as u64;
            counters.histograms.failed += refused.histograms as u64;
            if let Some((first, last)) = self.batch.request_range() {
                counters.failed_span.add(first.0);
                counters.failed_span.add(last.0);
            }
        }
    }

    fn dropped(&mut self, now: Instant, reason: DropReason) {
        let in_doubt = reason == DropReason::AlreadyDelivered;
        self.count_refused(self.batch.request_counts(), in_doubt);
        if in_doubt {
            // The receiver has them with these times: what follows is later.
            self.batch.finish();
        } else {
            self.refused_run = self.refused_run.saturating_add(1);
            self.end_flush();
        }
        if self.tentative {
            // 1.0 is refused as well: the message was not the reason.
            self.tentative = false;
            self.protocol = Protocol::V2;
        }
        self.settle(now);
    }

    /// The samples of the request are settled, one way or the other.
    fn settle(&mut self, now: Instant) {
        self.failing_since = None;
        self.backoff.reset();
        self.attempts = 0;
        if self.batch.settle() {
            self.state = State::Gathering;
        } else {
            self.complete(now);
        }
    }

    /// The samples of the batch are.
    pub(super) fn complete(&mut self, now: Instant) {
        self.counters.add_tally(self.batch.tally());
        self.counters.note_sent(self.batch.time_range());
        if !self.ahead.is_fresh() {
            self.pace.settled(self.batch.frame_times().map(|(_, newest)| newest));
        }
        self.advance();
        self.state = State::Gathering;
        self.batch.begin(self.place, self.protocol);
        self.end_turn(now, self.caught_up);
    }

    /// The receiver has answered 429 once more; the next attempt is due at `at`. The limit it keeps to may be one of samples.
    fn ease(&mut self, at: Instant) {
        self.limited = self.limited.saturating_add(1);
        let half = self.batch.request_samples() / 2;
        // A slice need not hold a whole frame.
        let frame = if self.batch.is_cut() {
            0
        } else {
            self.batch.largest_frame()
        };
        let least = (self.config.max_samples_per_send / 16).max(frame);
        if self.limited.is_multiple_of(REFUSALS) && half > least {
            self.counters.eased += 1;
            self.eased_limit = half;
            let attempts = self.attempts;
            self.reshape();
            self.attempts = attempts;
            self.not_before = self.not_before.max(at);
        }
    }

    /// Whether the batch in hand waits because of refusals by 429.
    pub(super) const fn is_limited(&self) -> bool {
        self.limited >= REFUSALS
    }

    fn halve(&mut self, now: Instant) {
        self.counters.halved += 1;
        self.size_limit = (self.batch.request_samples() / 2).max(1);
        self.pause(now);
        self.end_flush();
        self.reshape();
    }

    fn hold(&mut self, now: Instant, reason: HoldReason) {
        self.counters.holds += 1;
        self.counters.note_retry(self.batch.request_counts());
        self.attempts = self.attempts.saturating_add(1);
        self.end_flush();
        if reason == HoldReason::Unconfirmed {
            self.unconfirmed = self.unconfirmed.saturating_add(1);
        }
        let until = now + self.hold_ms;
        self.hold_ms = (self.hold_ms * 2).min(MAX_HOLD_MS);
        self.state = State::Held(reason, until);
        if reason == HoldReason::Unsupported && self.config.message == MessageChoice::Negotiate {
            // 1.0 is not supported either way round: offer 2.0 again next time.
            self.not_before = until;
            self.speak(Protocol::V2);
        }
    }

    fn fall_back(&mut self, now: Instant, status: u16) {
        self.counters.fallbacks += 1;
        self.confirmed = false;
        self.unconfirmed = 0;
        if status >= 400 && status != 415 {
            // The receiver did not ask for another message, it may be a lone refusal: not in haste.
            self.tentative = true;
            self.pause(now);
            self.end_flush();
        }
        self.speak(Protocol::V1);
    }

    /// What is in hand, and what follows, goes as another message.
    fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        if self.batch.has_settled() {
            self.batch.speak(protocol);
            self.reshape();
            return;
        }
        if self.batch.is_doubtful() {
            // In whole frames from here on.
            self.doubt_batch();
        }
        self.rebuild();
    }

    fn split(&mut self) {
        self.counters.split += 1;
        let in_doubt = self.is_in_doubt();
        if !in_doubt {
            self.refused_run = self.refused_run.saturating_add(1);
        }
        let end = self.batch.end();
        if self.batch.is_cut() {
            self.batch.split(in_doubt);
        } else if in_doubt {
            self.split = Some(Split::Frames(end));
        } else {
            self.split = Some(Split::Halves(end, Some(self.batch.samples().div_ceil(2))));
        }
        self.end_flush();
        self.reshape();
    }

    /// The specification forbids retrying these answers: what follows is another request, and it takes its time.
    fn pause(&mut self, now: Instant) {
        self.not_before = now + self.config.max_backoff_ms;
    }

    fn end_flush(&mut self) {
        if let Some(flush) = &mut self.flush {
            flush.ended = true;
        }
    }
}

/// What of `sent` items is not among the `written`.
fn missing(sent: usize, written: u64) -> usize {
    usize::try_from(written).map_or(0, |written| sent.saturating_sub(written))
}
