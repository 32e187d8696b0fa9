//! Fresh samples ahead of a backlog, `tidegate.uplink.live_share`.
//!
//! While a backlog drains, frames are sent in two *rows*: the old row goes on from the acknowledgement, the fresh row begins at the
//! end of the stream as of when the backlog was noticed. One request is in flight at a time, of one row or the other, so each row
//! keeps the order of frames, and of times per target. The fresh row gets up to `share` of the time that requests take (with a rate limit: of
//! the bytes), and whatever the old row leaves unused because it is paced. When the old row comes to a *span* that the
//! fresh row has delivered it passes over it; at the last one the rows join, and everything is as it was.
//!
//! Should the fresh row fall behind itself (another outage, a share too small), its span is closed and a new one begins at the end of the stream;
//! after [`MAX_SPANS_AHEAD`] of them it waits for the old row to come by.
//!
//! # Invariants
//!
//! - [`Sender::acknowledged`] is the old row's place: it never covers a frame of the backlog that was not delivered.
//! - A frame is in one row only: without a loss of power none is sent twice. What spans cover is for the ring to keep
//!   ([`Sender::delivered_ahead`]); what it could not write is sent again after a loss of power.
//! - Nothing goes ahead whose time is not later than what the clock said before it was set back ([`Sender::clock_was`]): waiting frames may
//!   have its time. A scrape has that of its beginning, so the first to end after the clock has caught up may still have to wait.
//! - Rows change between two batches, never between slices of one nor within what is repeated, halved, split or in doubt.
//!
//! Memory: 16 bytes per target, where a share is configured. Changing rows costs the source a seek.

use super::{Action, Sender, Split, State};
use crate::clock::{Instant, UnixMillis};
use crate::frame::{FrameNo, FrameSource};
use crate::limits::MAX_SPANS_AHEAD;
use crate::remote_write::batch::{Place, SentFrame, SentRow, Stop};

/// Of a whole link.
pub const WHOLE_SHARE: u16 = 1000;

/// A batch whose first frame is older than this, and two flush intervals, belongs to a backlog, milliseconds.
const BEHIND_MS: u64 = 10_000;

/// Frames that wait when the clock is set back are held back, a millisecond apart, behind what was sent: so much later the times of
/// the fresh row begin. Ten minutes of scrapes every 0.6 s.
const HELD_BACK_MS: i64 = 1_000;

/// What either row may save up or owe, milliseconds of the link.
const CREDIT_MS: i64 = 5_000;

/// Frames that were delivered ahead, from the first to before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeliveredSpan {
    first: FrameNo,
    end: Place,
    /// The newest time it was sent with, if known.
    newest: Option<UnixMillis>,
    /// The clock was set back since it began: what comes behind it is to be later than that.
    set_back: bool,
}

impl DeliveredSpan {
    const fn new(first: FrameNo, end: FrameNo) -> Self {
        Self {
            first,
            end: Place::before(end),
            newest: None,
            set_back: false,
        }
    }
}

/// The row that is not in hand, and what both are about.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Thousandths of the link that fresh samples may take; 0: there is one row.
    share: u16,
    /// The row in hand is the fresh one.
    fresh: bool,
    /// Place, doubt, split, attempts and times of the other row.
    place: Place,
    doubt_until: Place,
    split: Option<Split>,
    attempts: u32,
    row: SentRow,
    /// In rising order, none touching another; the last one is the fresh row's, if it is `open`.
    spans: heapless::Vec<DeliveredSpan, MAX_SPANS_AHEAD>,
    open: bool,
    /// When the fresh row is next due.
    due: Instant,
    /// Of the fresh row: thousandths of milliseconds of the link.
    credit: i64,
    sent: Instant,
    /// Milliseconds that the rate limit makes of the request in flight.
    charged_ms: u64,
    /// Nothing goes ahead before the clock says more than this.
    clock_was: Option<UnixMillis>,
    /// The clock was set back since the present span began.
    set_back: bool,
}

impl Ahead {
    pub fn new(share: u16, max_targets: usize) -> Self {
        Self {
            share: share.min(WHOLE_SHARE),
            fresh: false,
            place: Place::default(),
            doubt_until: Place::default(),
            split: None,
            attempts: 0,
            row: SentRow::new(if share > 0 { max_targets } else { 0 }),
            spans: heapless::Vec::new(),
            open: false,
            due: Instant(0),
            credit: 0,
            sent: Instant(0),
            charged_ms: 0,
            clock_was: None,
            set_back: false,
        }
    }

    pub const fn ram_bytes(share: u16, max_targets: usize) -> usize {
        if share > 0 { SentRow::ram_bytes(max_targets) } else { 0 }
    }

    pub const fn newest_of_other(&self) -> Option<SentFrame> {
        self.row.newest
    }

    /// Where the old row has to stop.
    pub fn end_of_old_row(&self) -> Option<Place> {
        let first = self.spans.first().filter(|_| !self.fresh)?;
        Some(Place::before(first.first))
    }

    /// Whether the request in hand is one of fresh samples ahead of others.
    pub const fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether fresh samples go ahead at present.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Closes the fresh row's span at `place`, with the `newest` frame it has sent, and begins another at `end`, unless there are too
    /// many. Returns where.
    fn renew(&mut self, due: Instant, place: Place, newest: Option<SentFrame>, end: FrameNo) -> Option<Place> {
        let set_back = self.set_back;
        let span = self.spans.last_mut()?;
        let used = Place::before(span.first) < place;
        let fresh = DeliveredSpan::new(end, end);
        if used {
            span.end = place;
            span.newest = newest.map(|newest| UnixMillis(newest.unix_ms));
            span.set_back = set_back;
            self.spans.push(fresh).ok()?;
        } else {
            *span = fresh;
        }
        self.set_back = false;
        self.due = due;
        Some(fresh.end)
    }

    pub const fn sent(&mut self, now: Instant) {
        self.sent = now;
        self.charged_ms = 0;
    }

    /// The rate limit takes so long for what was just sent.
    pub fn charge(&mut self, bytes: u64, limit: u64) {
        self.charged_ms += bytes.saturating_mul(1000).checked_div(limit).unwrap_or(0);
    }

    /// The request in flight has come to its end.
    pub fn ended(&mut self, now: Instant) {
        if !self.open {
            return;
        }
        let took = now.since(self.sent).max(self.charged_ms).clamp(1, 600_000) as i64;
        let share = i64::from(self.share);
        let credit = match self.fresh {
            true => -took * (i64::from(WHOLE_SHARE) - share),
            false => took * share,
        };
        let most = CREDIT_MS * i64::from(WHOLE_SHARE);
        self.credit = (self.credit + credit).clamp(-600 * most, most);
    }
}

impl Sender {
    /// Tells what the clock said before it was set: frames with times up to that may wait.
    pub fn clock_was(&mut self, wall: Option<UnixMillis>) {
        self.ahead.clock_was = self.ahead.clock_was.max(wall);
        if wall.is_some() {
            self.ahead.set_back = true;
            // All that waits behind them has earlier times from now on.
            let closed = self.ahead.spans.len() - usize::from(self.ahead.open);
            for span in self.ahead.spans.iter_mut().take(closed) {
                span.set_back = true;
            }
        }
    }

    /// Tells what was delivered ahead of the acknowledgement before a restart. For a sender that has sent nothing yet.
    pub fn set_delivered_ahead(&mut self, spans: impl Iterator<Item = (FrameNo, FrameNo)>) {
        for (first, end) in spans.filter(|&(first, end)| first < end && end > self.place.frame) {
            // There are as many as were told.
            let _ = self.ahead.spans.push(DeliveredSpan::new(first, end));
        }
        self.ahead.spans.sort_unstable_by_key(|span| span.first);
    }

    /// Whole frames beyond [`Sender::acknowledged`] that are done with, from the first to before the second.
    pub fn delivered_ahead(&self) -> impl Iterator<Item = (FrameNo, FrameNo)> + '_ {
        let last = self.ahead.spans.len().saturating_sub(1);
        let fresh = if self.ahead.fresh { self.place } else { self.ahead.place };
        self.ahead.spans.iter().enumerate().map(move |(n, span)| {
            let end = if self.ahead.open && n == last { fresh } else { span.end };
            (span.first, end.frame)
        })
    }

    /// The batch in hand has no frame before this one.
    #[must_use]
    pub const fn in_hand(&self) -> FrameNo {
        self.place.frame
    }

    /// Whether fresh samples go ahead of a backlog at present.
    #[must_use]
    pub const fn is_ahead(&self) -> bool {
        self.ahead.is_open()
    }

    /// Whether the request in hand is of samples ahead of others.
    #[must_use]
    pub const fn sends_ahead(&self) -> bool {
        self.ahead.is_fresh()
    }

    /// The old row's place and newest frame.
    pub(super) const fn old_place(&self) -> Place {
        if self.ahead.fresh { self.ahead.place } else { self.place }
    }

    /// Nothing of the row in hand is under way.
    fn may_change_rows(&self, now: Instant) -> bool {
        // A batch that was sealed and not sent yet can be gathered again.
        let sealed = match self.state {
            State::Gathering => self.has_begun(),
            State::Ready(_) => self.batch.is_begun() || self.attempts > 0 && !self.is_limited(),
            _ => true,
        };
        let again = self.again && !self.is_limited();
        !sealed && self.split.is_none() && !again && now >= self.not_before && self.flush.is_none()
    }

    /// The batch in hand holds samples that are to be sent as they are.
    fn has_begun(&self) -> bool {
        !self.seek && (self.batch.samples() > 0 || self.batch.is_cut())
    }

    /// Before a batch of the old row is gathered or sent: whether it is the fresh row's turn.
    pub(super) fn choose_row<S: FrameSource>(&mut self, now: Instant, wall: Option<UnixMillis>, source: &S) {
        if self.ahead.fresh {
            let settled = self.state == State::Gathering && !self.has_begun() && self.place >= self.doubt_until;
            if !(self.ahead.set_back && settled) {
                return;
            }
            // What was refused, or too much, has earlier times now: it waits with the rest.
            (self.split, self.attempts) = (None, 0);
            self.change_rows();
        }
        if self.state == State::Gathering && !self.has_begun() {
            self.pass_over_spans();
        }
        let (true, true, Some(end)) = (self.ahead.open, self.is_new(wall), source.end()) else {
            return;
        };
        if self.ahead.set_back {
            // What was scraped since repeats times, or may: that is for the old row, which knows what to do with it.
            let (place, newest) = (self.ahead.place, self.ahead.newest_of_other());
            if let Some(place) = self.ahead.renew(now, place, newest, end) {
                self.ahead.place = place;
            }
            return;
        }
        // A pause that the receiver asked for holds for both rows; one of our own leaves the link to the fresh row.
        let idle = matches!(self.state, State::Ready(at) if at > now);
        let asked = idle && self.attempts > 0;
        let in_turn = now >= self.ahead.due && (idle || self.ahead.credit >= 0);
        if in_turn && !asked && end > self.ahead.place.frame && self.may_change_rows(now) {
            self.change_rows();
        }
    }

    /// Whether no frame that waits for the old row has such a time, or will get it.
    fn is_new(&self, time: Option<UnixMillis>) -> bool {
        let taken_until = |was: UnixMillis| was.0.saturating_add(HELD_BACK_MS);
        time.is_some_and(|time| self.ahead.clock_was.is_none_or(|was| time.0 > taken_until(was)))
    }

    /// The batch of the old row in hand is sealed: should it be old, what comes from now on goes ahead.
    pub(super) fn begin_ahead<S: FrameSource>(&mut self, now: Instant, wall: Option<UnixMillis>, source: &S) {
        let allowed = self.ahead.share > 0 && !self.ahead.open && !self.caught_up && self.flush.is_none();
        let (true, Some(end)) = (allowed && self.is_behind(wall) && self.is_new(wall), source.end()) else {
            return;
        };
        if end <= self.batch.end().frame || self.ahead.spans.is_full() {
            return;
        }
        let ahead = &mut self.ahead;
        ahead.place = Place::before(end);
        ahead.doubt_until = Place::default();
        ahead.attempts = 0;
        self.batch.fork_row(&mut ahead.row);
        // It is not full.
        let _ = ahead.spans.push(DeliveredSpan::new(end, end));
        ahead.open = true;
        ahead.set_back = false;
        self.pace.set_fresh_ahead(true);
        ahead.credit = 0;
        ahead.due = now + self.config.flush_interval_ms;
    }

    /// Whether the batch in hand is of a backlog.
    fn is_behind(&self, wall: Option<UnixMillis>) -> bool {
        let first = self.batch.frame_times().map(|(first, _)| first);
        let lag = wall
            .zip(first)
            .map_or(0, |(wall, first)| wall.0.saturating_sub(first.0));
        let limit = BEHIND_MS.saturating_add(self.config.flush_interval_ms.saturating_mul(2));
        u64::try_from(lag).is_ok_and(|lag| lag > limit)
    }

    /// A batch of the fresh row is sealed: if that has fallen behind, or is not all new, it begins anew at the end of the stream.
    pub(super) fn begin_anew<S: FrameSource>(&mut self, now: Instant, wall: Option<UnixMillis>, source: &S) -> bool {
        if self.place >= self.doubt_until && !self.is_new(self.batch.least_frame_time()) {
            self.ahead.set_back = true;
            self.rebuild();
            return true;
        }
        let doubtful = self.place < self.doubt_until || self.again || self.split.is_some();
        let (false, true, Some(end)) = (doubtful, self.is_behind(wall), source.end()) else {
            return false;
        };
        let (due, newest) = (now + self.config.flush_interval_ms, self.batch.sent());
        let Some(place) = self.ahead.renew(due, self.place, newest, end) else {
            return false;
        };
        self.place = place;
        self.change_rows();
        true
    }

    /// The fresh row has nothing, or is done with a batch: back to the old one.
    pub(super) fn end_turn(&mut self, now: Instant, caught_up: bool) {
        if !self.ahead.fresh || self.split.is_some() || self.again {
            return;
        }
        if caught_up {
            self.ahead.due = now + self.config.flush_interval_ms;
        }
        self.change_rows();
    }

    /// A look at the row in hand found no sample; true: it is the other's turn, or the rows have joined.
    pub(super) fn turns(&mut self, now: Instant, stop: Stop) -> bool {
        let at_end = matches!(stop, Stop::End | Stop::TimeUnknown);
        if self.ahead.fresh {
            if at_end {
                // What was to be repeated, or sent in parts, is no more.
                (self.again, self.split) = (false, None);
                self.end_turn(now, true);
            }
            return at_end;
        }
        if stop != Stop::End || self.ahead.spans.is_empty() {
            return false;
        }
        // All that waits for the old row was delivered, or is no more.
        while let Some(&span) = self.ahead.spans.first() {
            self.place = self.place.max(Place::before(span.first));
            self.pass_over_spans();
        }
        true
    }

    /// While the old row waits, the fresh one may become due.
    pub(super) fn wake_for_fresh<S: FrameSource>(&mut self, now: Instant, action: Action, source: &S) -> Action {
        let waits = self.ahead.open && !self.ahead.fresh && now < self.ahead.due;
        let due = self.ahead.due;
        match action {
            Action::Wait(at) if waits && at > due && source.end().is_some_and(|end| end > self.ahead.place.frame) => {
                Action::Wait(due)
            }
            action => action,
        }
    }

    fn change_rows(&mut self) {
        let ahead = &mut self.ahead;
        core::mem::swap(&mut self.place, &mut ahead.place);
        core::mem::swap(&mut self.doubt_until, &mut ahead.doubt_until);
        core::mem::swap(&mut self.split, &mut ahead.split);
        core::mem::swap(&mut self.attempts, &mut ahead.attempts);
        self.batch.swap_row(&mut ahead.row);
        ahead.fresh = !ahead.fresh;
        self.again = false;
        self.seek = true;
        self.state = State::Gathering;
    }

    /// Steps over what was delivered ahead; at the last of it the rows join.
    pub(super) fn pass_over_spans(&mut self) {
        while let Some(&span) = self.ahead.spans.first() {
            if self.place < Place::before(span.first) {
                return;
            }
            self.ahead.spans.remove(0);
            let mut end = span.end;
            if let Some(newest) = span.newest.filter(|_| span.set_back) {
                self.batch.raise_row(newest);
            }
            if self.ahead.open && self.ahead.spans.is_empty() {
                self.ahead.open = false;
                self.pace.set_fresh_ahead(false);
                end = self.ahead.place;
                self.doubt_until = self.doubt_until.max(self.ahead.doubt_until);
                self.batch.join_row(&mut self.ahead.row);
            }
            self.place = self.place.max(end);
            self.seek = true;
        }
    }
}
