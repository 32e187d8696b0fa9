//! The state machine that drains frames to one remote.
//!
//! Sans I/O: [`Sender::poll`] is given the time and the frames and answers what to do; the host sends
//! [`Sender::request`] and reports with [`Sender::on_response`] or [`Sender::on_error`]. One request is in flight at a
//! time, so order holds: oldest first, per series by time.
//!
//! ```text
//!              frames                 deadline or full              at its time
//! Gathering ------------> Gathering ------------------> Ready ---------------------> InFlight
//!     ^  ^                                              ^  ^                           |  |  |
//!     |  |                                              |  +--- back-off -- Retry -----+  |  |
//!     |  |                                              +--- seconds to minutes -- Hold --+  |
//!     |  +------- the same frames again: Halve, Bisect, FallBackToV1 ----------------------+
//!     +---------- the next slice or the next frames: Accepted, Drop ------------------------+
//! ```
//!
//! # Rules
//!
//! - A batch goes out when it holds `max_samples_per_send` samples (`backlog_samples_per_send` under a stretched interval), when nothing more fits, or when
//!   `flush_interval_ms` has passed; the interval runs on like Prometheus' deadline timer, so a scrape waits for half
//!   of it on average. While a backlog drains, batches hold up to `backlog_samples_per_send` and are grouped.
//! - Where a request may hold less than a batch, and 2.0 is spoken, a backlog's batch goes in slices by series (`batch/slice.rs`), as Prometheus spreads series
//!   over shards, but one after the other. A slice is a request like any other: to verdicts, rate limit, counters, and to the pace unless fresh samples go ahead. One that failed is
//!   sent again before any later one, and none that was settled is: what is refused, too big, limited or in doubt, a hold, and a change of the
//!   message concern the slice in hand, or what is left. The frames are acknowledged, and count as sent in `queue_highest_sent_timestamp_seconds`,
//!   behind the last. After a restart in the middle the whole batch is sent again. That is why 1.0 has no slices: of a frame that is there in part a receiver
//!   of 1.0 may take everything back, and cannot say what it has.
//! - [`Sender::acknowledged`] moves only over whole frames, only forward, and only when every sample before it was
//!   accepted, counted as lost, or not meant for this remote.
//! - Samples *in doubt* (sent before a restart, or in an attempt with an unknown outcome) never share a request with
//!   others: a 1.0 receiver that refuses what it already has takes the whole request back. When a request in doubt is
//!   refused, its frames go one by one, and a single frame refused counts as delivered.
//! - A refused batch of a backlog, or the second of a run of refused batches, is split into two halves once. A lone
//!   refused live batch is dropped as the specification asks.
//! - What an answer shows to be no fault of the samples (wrong credentials, path, message) never costs a sample.
//! - Connection failures are probed at least every `connect_backoff_ms`: an uplink that returns is used within
//!   about a second. In outages of more than a minute the pause grows to a sixtieth of the outage, at most
//!   [`MAX_PROBE_MS`]. A receiver that answers 5xx is left alone for up to `max_backoff_ms`.
//! - What goes out, headers included, keeps to `rate_limit` bytes per second, see `rate.rs`.
//! - A backlog older than `slow_start_ms` is sent at a pace that begins low and rises, see `pace.rs`.
//! - With a `live_share` what is scraped from now on goes ahead of a backlog, see `ahead.rs`.
//! - After every [`REFUSALS`] refusals by 429 in a row the request is halved, as far as a sixteenth of a live one: a receiver that limits samples per
//!   request or second may take less. A frame is not cut in two for that. With a `live_share` fresh samples go first then, but for a batch of which slices were taken.
//! - When the receiver's `Date` says that our clock is more than [`MAX_CLOCK_SKEW_MS`] (or what is configured) ahead or behind,
//!   nothing is sent until one of the two is put right: samples from the future would block the series at receivers that accept
//!   them, samples from the past would land on older ones. Every [`CLOCK_PROBE_MS`] a request without samples asks for the
//!   receiver's time again. So it does once when the ring says that later times were sent than it is now.
//!
//! # Limits
//!
//! All memory is allocated by [`Sender::new`], [`Sender::ram_bytes`] says how much. Nothing is written anywhere: after a
//! loss of power, sending starts at the acknowledgement the ring kept, and what lies between that and the end of the
//! ring is in doubt.
//!
//! Sources: Prometheus `storage/remote/queue_manager.go`; Remote Write 1.0 and 2.0 specifications.

mod ahead;
mod answer;
mod config;
mod counters;
mod describing;
mod pace;
mod rate;
mod shape;

use super::batch::{Batch, Counts, EMPTY_V2, Layout, Place, SentFrame, Stop};
use super::identity::Identity;
use super::response::{HoldReason, Protocol};
use crate::backoff::Backoff;
use crate::clock::{Instant, UnixMillis};
use crate::frame::{Frame, FrameNo, FrameSource};
use crate::metadata::Metadata;
use ahead::Ahead;
use describing::Describing;
use pace::Pace;
use rate::Rate;

pub use ahead::WHOLE_SHARE;
pub use config::{Action, ErrorKind, MessageChoice, MetadataConfig, Request, SenderConfig};
pub use counters::{Counters, Totals};

/// Our clock may be this far from the receiver's, milliseconds, unless [`Sender::set_max_clock_skew`] says otherwise.
/// Prometheus-type receivers refuse samples more than ten minutes in the future.
pub const MAX_CLOCK_SKEW_MS: u64 = 10 * 60 * 1000;

/// How often the receiver is asked for its time while our clock looks wrong, milliseconds.
pub const CLOCK_PROBE_MS: u64 = 60 * 1000;

/// How often to look whether the time of the next frame has become known, milliseconds.
pub const CLOCK_RECHECK_MS: u64 = 1000;

/// First wait of a hold, milliseconds; doubles to [`MAX_HOLD_MS`]. Long enough that compliance suites, which allow two
/// requests in 8 s on a 4xx, do not mistake it for a retry.
pub const MIN_HOLD_MS: u64 = 10 * 1000;

/// Longest wait of a hold, milliseconds. Each look costs one request on a metered link.
pub const MAX_HOLD_MS: u64 = 5 * 60 * 1000;

/// Longest pause between two attempts to connect, milliseconds, reached after ten minutes. A region that was dark for long comes
/// back spread over this time; the backlog of a day, which takes some three seconds, is to be home in 15 s.
pub const MAX_PROBE_MS: u64 = 10 * 1000;

/// Pauses between attempts to connect grow to one part in this many of the outage.
const PROBE_SHARE: u64 = 60;

/// So many answers of 429 in a row make the batch smaller.
pub const REFUSALS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Gathering,
    /// Sealed, to be sent at this instant.
    Ready(Instant),
    /// Sealed, kept; to be tried again at this instant.
    Held(HoldReason, Instant),
    InFlight,
    /// A request without samples is in flight.
    Probing,
    /// A request of metadata is in flight; the batch goes on being gathered after it.
    Describing,
}

/// Parts a refused batch is sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    /// One frame per request up to this place.
    Frames(Place),
    /// A first half of so many samples, then the rest up to this place.
    Halves(Place, Option<usize>),
}

impl Split {
    const fn end(self) -> Place {
        match self {
            Self::Frames(end) | Self::Halves(end, _) => end,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Flush {
    deadline: Instant,
    /// The first attempt of a flush does not wait for back-off or hold.
    first: bool,
    ended: bool,
}

/// Drains frames to one remote.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    batch: Batch,
    frame: Frame,
    identity: Identity,
    state: State,
    layout: Layout,
    /// Where the batch in hand begins.
    place: Place,
    /// The source must be moved to `place` before the next frame is read.
    seek: bool,
    /// Nothing lies behind the batch in hand.
    caught_up: bool,
    /// The batch in hand has been sent before in another shape: it does not wait for the interval again.
    again: bool,
    /// Samples before this place may be stored at the receiver already.
    doubt_until: Place,
    split: Option<Split>,
    /// Most samples the receiver takes, learnt from 413.
    size_limit: usize,
    /// Most samples while it limits rates, learnt from 429; doubles with every request taken.
    eased_limit: usize,
    /// Answers of 429 in a row.
    limited: u32,
    protocol: Protocol,
    /// Written headers have been seen.
    confirmed: bool,
    unconfirmed: u8,
    /// Fell back to 1.0 on a 400: undone when 1.0 is refused as well.
    tentative: bool,
    /// Whole batches refused in a row.
    refused_run: u32,
    backoff: Backoff,
    hold_ms: u64,
    /// Attempts with the present body.
    attempts: u32,
    /// Not before this instant, after an answer that asks for a pause but has another body follow.
    not_before: Instant,
    next_flush: Option<Instant>,
    flush: Option<Flush>,
    /// Receiver's wall time minus boot time, milliseconds, as of its last `Date`.
    receiver_offset_ms: Option<i64>,
    max_skew_ms: u64,
    /// Sending is stopped because of it.
    vetoed: bool,
    /// The newest time sent before a restart.
    sent_before: Option<UnixMillis>,
    next_probe: Instant,
    describing: Describing,
    pace: Pace,
    rate: Rate,
    ahead: Ahead,
    /// First of the attempts that have failed in a row.
    failing_since: Option<Instant>,
    counters: Counters,
}

impl Sender {
    /// A sender that begins at frame `first`; frames before `replay_until` may have been delivered before a
    /// restart. The only call that allocates.
    #[must_use]
    pub fn new(config: SenderConfig, identity: Identity, first: FrameNo, replay_until: FrameNo) -> Self {
        let limits = config.batch_limits();
        let place = Place::before(first);
        // A stretched interval makes no backlog.
        let slow_start = match config.slow_start_ms {
            0 => 0,
            ms => ms.saturating_add(2 * config.flush_interval_ms),
        };
        Self {
            batch: Batch::new(limits, config.seed),
            frame: Frame::with_extras(limits.frame_samples, limits.extras_bytes),
            identity,
            state: State::Gathering,
            layout: Layout::Live,
            place,
            seek: true,
            caught_up: false,
            again: false,
            doubt_until: Place::before(replay_until),
            split: None,
            size_limit: usize::MAX,
            eased_limit: usize::MAX,
            limited: 0,
            protocol: match config.message {
                MessageChoice::Negotiate => Protocol::V2,
                MessageChoice::Fixed(protocol) => protocol,
            },
            confirmed: false,
            unconfirmed: 0,
            tentative: false,
            refused_run: 0,
            backoff: Backoff::new(config.min_backoff_ms, config.max_backoff_ms, config.seed),
            hold_ms: MIN_HOLD_MS,
            attempts: 0,
            not_before: Instant(0),
            next_flush: None,
            flush: None,
            receiver_offset_ms: None,
            max_skew_ms: MAX_CLOCK_SKEW_MS,
            vetoed: false,
            sent_before: None,
            next_probe: Instant(0),
            describing: Describing::default(),
            pace: Pace::new(slow_start, config.seed),
            rate: Rate::new(config.rate_limit),
            ahead: Ahead::new(config.live_share, config.limits.max_targets),
            failing_since: None,
            counters: Counters::default(),
            config,
        }
    }

    /// How far our clock may be from the receiver's, milliseconds; 0: any distance.
    pub const fn set_max_clock_skew(&mut self, ms: u64) {
        self.max_skew_ms = ms;
    }

    /// The newest time that was sent before a restart: should it lie ahead of our clock, the receiver is asked for the time
    /// before anything is taken for too late.
    pub const fn set_sent_before(&mut self, time: Option<UnixMillis>) {
        self.sent_before = time;
    }

    /// The newest frame that the receiver has taken, but for those ahead of a backlog.
    #[must_use]
    pub const fn sent(&self) -> Option<SentFrame> {
        if self.ahead.is_fresh() {
            self.ahead.newest_of_other()
        } else {
            self.batch.sent()
        }
    }

    /// Whether sending is stopped because our clock is far from the receiver's.
    #[must_use]
    pub const fn is_vetoed(&self) -> bool {
        self.vetoed
    }

    /// Heap bytes of a sender, without the copies of its external labels and rules.
    #[must_use]
    pub const fn ram_bytes(config: &SenderConfig) -> usize {
        let limits = config.batch_limits();
        let sample_bytes = size_of::<crate::sample::Sample>()
            + size_of::<crate::frame::ExplicitTime>()
            + size_of::<crate::sample::SeriesRef>();
        let frame = limits.frame_samples * sample_bytes + limits.extras_bytes;
        let ahead = Ahead::ram_bytes(config.live_share, limits.max_targets);
        Batch::ram_bytes(limits) + frame + crate::limits::MAX_SERIES_TEXT_BYTES + ahead
    }

    /// Memory for a frame: what is in it means nothing between two calls of [`Sender::poll`].
    pub const fn spare_frame(&mut self) -> &mut Frame {
        &mut self.frame
    }

    /// Every frame below this number is done with: accepted, counted as lost, or not meant for this remote.
    #[must_use]
    pub const fn acknowledged(&self) -> FrameNo {
        self.old_place().frame
    }

    /// What was sent and lost.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is gathered and not yet acknowledged.
    #[must_use]
    pub const fn pending(&self) -> Counts {
        self.batch.counts()
    }

    /// Message spoken at present; worth remembering while the process lives.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Attempts with the batch in hand that have failed.
    #[must_use]
    pub const fn failed_attempts(&self) -> u32 {
        self.attempts
    }

    /// How fast a paced backlog goes out, in thousandths of the speed it was scraped at; `None`: nothing is paced.
    #[must_use]
    pub const fn speed(&self) -> Option<u64> {
        self.pace.speed()
    }

    /// Milliseconds our clock is ahead of the receiver's, negative when behind; `None` while either is not known.
    #[must_use]
    pub fn clock_ahead_ms(&self, now: Instant, wall: Option<UnixMillis>) -> Option<i64> {
        let receiver = self.receiver_offset_ms?.saturating_add_unsigned(now.0);
        Some(wall?.0.saturating_sub(receiver))
    }

    /// The request to send, after [`Action::Send`] and until its outcome is reported.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        let probe: &[u8] = match self.protocol {
            Protocol::V1 => &[],
            Protocol::V2 => &EMPTY_V2,
        };
        let (body, retry_attempt, samples, families) = match self.state {
            State::Probing => (probe, 0, 0, 0),
            State::Describing => self.describing.request(&self.batch),
            _ => (self.batch.body(), self.attempts, self.batch.request_samples(), 0),
        };
        Request {
            body,
            protocol: self.protocol,
            retry_attempt,
            samples,
            families,
        }
    }

    /// Most samples of a batch.
    #[must_use]
    pub const fn batch_samples(&self) -> usize {
        self.config.batch_limits().samples
    }

    /// Adds to `bytes_total`, or `metadata_bytes_total`, what the compressed body of an attempt took.
    pub const fn count_bytes(&mut self, compressed: u64) {
        match self.state {
            State::Describing => self.counters.metadata_bytes += compressed,
            _ => self.counters.bytes += compressed,
        }
    }

    /// Tells that an attempt has put so many bytes on the wire, headers and body: the rate limit lives of it.
    pub fn charge(&mut self, now: Instant, bytes: u64) {
        self.rate.charge(now, bytes);
        self.ahead.charge(bytes, self.config.rate_limit);
    }

    /// Sends what there is without waiting for the interval, until all is acknowledged, the receiver does not take
    /// it, or `deadline` has passed; then [`Action::Done`].
    pub const fn flush(&mut self, deadline: Instant) {
        self.flush = Some(Flush {
            deadline,
            first: true,
            ended: false,
        });
    }

    /// Ends a back-off or hold: something has changed (configuration reloaded, link up). The pace of a backlog stays.
    pub const fn retry_now(&mut self) {
        match self.state {
            State::Held(..) => self.state = State::Ready(Instant(0)),
            State::Ready(_) if self.attempts > 0 => self.state = State::Ready(Instant(0)),
            _ => {}
        }
        self.not_before = Instant(0);
        self.hold_ms = MIN_HOLD_MS;
        self.backoff.reset();
    }

    /// What to do at `now`. `wall` is the wall time if it is trusted.
    ///
    /// `metadata` is what targets say of their families: in 2.0 messages it goes with the series of a live batch every now and then,
    /// in 1.0 it goes alone, when there is nothing else to send.
    ///
    /// To be called when a frame was added, after an outcome was reported, and at the instant asked for.
    ///
    /// # Errors
    /// The source's, when nothing can be sent without it; nothing is lost, call again later.
    pub fn poll<S: FrameSource>(
        &mut self,
        now: Instant,
        wall: Option<UnixMillis>,
        source: &mut S,
        metadata: &Metadata,
    ) -> Result<Action, S::Error> {
        match self.state {
            State::InFlight | State::Probing | State::Describing => return Ok(Action::InFlight),
            _ if self.flush_is_over(now) => return Ok(Action::Done),
            _ => {}
        }
        if let Some(reason) = self.clock_is_off(now, wall) {
            return Ok(self.ask_for_time(now, reason));
        }
        self.vetoed = false;
        self.choose_row(now, wall, source);
        if self.state == State::Gathering && self.is_in_slices() {
            if !self.seal_slice(now, metadata) {
                // What was left has grown too old.
                self.complete(now);
                return Ok(Action::Wait(now));
            }
            let at = if self.ahead.is_open() {
                Instant(0)
            } else {
                self.pace.next_part()
            };
            self.state = State::Ready(self.not_before.max(at));
        }
        if self.state == State::Gathering {
            match self.gather(now, wall, source, metadata)? {
                Some(action) => {
                    let action = self.wake_for_fresh(now, action, source);
                    return Ok(self.describe_meanwhile(now, action, metadata));
                }
                None if self.eases_too_far() => return Ok(Action::Wait(now)),
                None if self.ahead.is_fresh() => {
                    if self.begin_anew(now, wall, source) {
                        return Ok(Action::Wait(now));
                    }
                    self.state = State::Ready(self.not_before);
                }
                None if self.begins_to_pace(now, wall) => return Ok(Action::Wait(now)),
                None => {
                    self.begin_ahead(now, wall, source);
                    self.state = State::Ready(self.not_before.max(self.pace.next()));
                }
            }
        }
        let action = self.send_when_due(now, wall);
        Ok(self.wake_for_fresh(now, action, source))
    }

    fn flush_is_over(&self, now: Instant) -> bool {
        self.flush.is_some_and(|flush| flush.ended || now >= flush.deadline)
    }

    fn clock_is_off(&mut self, now: Instant, wall: Option<UnixMillis>) -> Option<HoldReason> {
        if self.max_skew_ms == 0 {
            return None;
        }
        let far = |ms: i64| ms.unsigned_abs() > self.max_skew_ms;
        match self.clock_ahead_ms(now, wall) {
            Some(ahead) if far(ahead) && ahead > 0 => Some(HoldReason::ClockAhead),
            Some(ahead) if far(ahead) => Some(HoldReason::ClockBehind),
            Some(_) => None,
            // What was sent lies ahead of us: one of two clocks was wrong.
            None => {
                let before = self.sent_before.zip(wall);
                let ahead = before.is_some_and(|(sent, wall)| sent.0 > wall.0 && far(sent.0.saturating_sub(wall.0)));
                if !ahead {
                    return None;
                }
                Some(HoldReason::ClockBehind)
            }
        }
    }

    fn ask_for_time(&mut self, now: Instant, reason: HoldReason) -> Action {
        if self.flush.is_some() {
            return Action::Done;
        }
        if !core::mem::replace(&mut self.vetoed, true) {
            self.counters.vetoes += 1;
        }
        if now < self.next_probe {
            return Action::Hold(reason, self.next_probe);
        }
        self.next_probe = now + CLOCK_PROBE_MS;
        // What was sent may be stored, with times that were wrong.
        self.batch.forget_times();
        // A sealed batch waits; one that is being gathered goes on being gathered, and one that is there in part keeps its times.
        if let (State::Ready(_) | State::Held(..), false) = (self.state, self.batch.is_begun()) {
            self.rebuild();
        }
        self.state = State::Probing;
        Action::Send
    }

    /// Gathers; `None`: the batch is sealed.
    fn gather<S: FrameSource>(
        &mut self,
        now: Instant,
        wall: Option<UnixMillis>,
        source: &mut S,
        metadata: &Metadata,
    ) -> Result<Option<Action>, S::Error> {
        let next_flush = *self.next_flush.get_or_insert(now + self.config.flush_interval_ms);
        let hurry = self.flush.is_some() || self.split.is_some() || self.again || self.ahead.is_fresh();
        let due = now >= next_flush || hurry;
        if self.seek {
            source.seek(self.place.frame);
            self.batch.begin(self.place, self.protocol);
            self.seek = false;
        }
        let bounds = self.bounds(now, wall);
        let stop = match self.batch.gather(source, &mut self.frame, &mut self.identity, &bounds) {
            Ok(stop) => stop,
            // The medium fails: what is in hand can still go out when it is time.
            Err(_) if due && self.batch.samples() > 0 => Stop::Full,
            Err(error) => return Err(error),
        };
        self.counters.note_gathered(self.batch.time_range());
        if self.batch.samples() == 0 {
            // Frames without a sample for this remote are done with; the source stands behind them.
            self.skip_empty();
            if self.turns(now, stop) {
                return Ok(Some(Action::Wait(now)));
            }
            return Ok(Some(self.idle(now, next_flush, stop)));
        }
        // Several scrapes in one request are what a stretched interval is for: it takes what a backlog takes.
        let full = if self.config.group_live {
            bounds.samples
        } else {
            self.live_limit()
        };
        let enough = self.batch.samples() + self.batch.largest_frame() > full;
        match stop {
            Stop::Yield => Ok(Some(Action::Wait(now))),
            Stop::End | Stop::TimeUnknown if !due && !enough => Ok(Some(Action::Wait(next_flush))),
            Stop::End | Stop::TimeUnknown | Stop::Full => {
                self.seal(now, next_flush, stop, metadata);
                Ok(None)
            }
        }
    }

    /// Asks for the pace of the batch just sealed; true: it is gathered again, smaller.
    fn begins_to_pace(&mut self, now: Instant, wall: Option<UnixMillis>) -> bool {
        let Some(range) = self.batch.frame_times() else {
            return false;
        };
        // What is sent in parts is in a hurry of its own.
        let unpaced = self.caught_up || self.flush.is_some() || self.split.is_some();
        let samples = self.batch.samples();
        self.pace.frame(self.batch.largest_frame());
        let by_pace = samples < self.live_limit() && samples >= self.pace.limit(self.live_limit());
        if self.pace.speed().is_some() && self.batch.end().part > 0 && by_pace {
            // The pace shall not cut a frame in two: a loss of power between the halves would cost one. (The half of a refused
            // frame, or what is in doubt of one, may end there.)
            self.pace.frame((2 * samples).min(self.live_limit()));
            self.rebuild();
            return true;
        }
        let begins = self.pace.sealed(now, wall, (samples, range), unpaced);
        let smaller = begins && self.pace.limit(samples) < samples;
        if smaller {
            self.rebuild();
        }
        smaller
    }

    /// There is no sample to send for now.
    fn idle(&mut self, now: Instant, next_flush: Instant, stop: Stop) -> Action {
        if now >= next_flush {
            // The timer runs on: skip the ticks that found nothing.
            let interval = self.config.flush_interval_ms.max(1);
            let ticks = now.since(next_flush) / interval + 1;
            self.next_flush = Some(next_flush + ticks.saturating_mul(interval));
        }
        if stop == Stop::End {
            self.pace.caught_up();
        }
        match stop {
            Stop::Yield | Stop::Full => Action::Wait(now),
            Stop::End | Stop::TimeUnknown if self.flush.is_some() => Action::Done,
            Stop::End => Action::Wait(Instant(u64::MAX)),
            Stop::TimeUnknown => Action::Hold(HoldReason::ClockUnknown, now + CLOCK_RECHECK_MS),
        }
    }

    /// Goes on behind frames that leave nothing to send.
    fn skip_empty(&mut self) {
        if self.batch.frames() > 0 || self.batch.end() > self.place {
            self.counters.add_tally(self.batch.tally());
            self.advance();
            self.batch.begin(self.place, self.protocol);
        }
    }

    /// The batch in hand is done with.
    fn advance(&mut self) {
        self.again = false;
        self.place = self.batch.end();
        match self.split {
            Some(split) if self.place >= split.end() => self.split = None,
            Some(Split::Halves(end, _)) => self.split = Some(Split::Halves(end, None)),
            _ => {}
        }
    }

    /// Sends what is in hand again in another shape: from what there is if it goes in slices, else gathered again.
    fn reshape(&mut self) {
        if self.is_in_slices() {
            self.attempts = 0;
            self.state = State::Gathering;
        } else {
            self.rebuild();
        }
    }

    /// Gathers the batch in hand again, under other bounds or for another message.
    fn rebuild(&mut self) {
        self.seek = true;
        self.again = true;
        self.attempts = 0;
        self.state = State::Gathering;
    }

    /// Some of what is in hand has grown too old meanwhile: the rest goes, and nothing else with it.
    fn expire(&mut self, oldest: UnixMillis) {
        let attempts = self.attempts;
        if self.is_in_slices() {
            self.batch.expire(oldest);
        } else if self.split.is_none() {
            self.split = Some(Split::Halves(self.batch.end(), None));
        }
        self.reshape();
        self.attempts = attempts;
    }

    fn send_when_due(&mut self, now: Instant, wall: Option<UnixMillis>) -> Action {
        let (at, held) = match self.state {
            State::Ready(at) => (at, None),
            State::Held(reason, at) => (at, Some(reason)),
            State::Gathering | State::InFlight | State::Probing | State::Describing => return Action::InFlight,
        };
        let first_of_flush = self.flush.is_some_and(|flush| flush.first);
        if now < at && !first_of_flush {
            return held.map_or(Action::Wait(at), |reason| Action::Hold(reason, at));
        }
        if let Some(oldest) = self.oldest(wall)
            && self.batch.request_range().is_some_and(|(first, _)| first < oldest)
        {
            self.expire(oldest);
            return Action::Wait(now);
        }
        if let Some((at, first)) = self.rate.wait(now) {
            self.counters.rate_limited += u64::from(first);
            return held.map_or(Action::Wait(at), |reason| Action::Hold(reason, at));
        }
        if let Some(flush) = &mut self.flush {
            flush.first = false;
        }
        self.not_before = Instant(0);
        self.state = State::InFlight;
        if !self.ahead.is_fresh() {
            self.pace.sent(now);
        }
        self.ahead.sent(now);
        self.counters.note_attempt(self.batch.request_counts());
        Action::Send
    }
}

#[cfg(test)]
mod tests;
