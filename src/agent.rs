//! The agent without its surroundings: joins scraping, the ring and the senders.
//!
//! Sans I/O: the host asks when the next scrape, commit or request is due, does the I/O, and reports. All
//! methods return at once; none allocates after [`Agent::new`] (relabelling a series seen for the first time may,
//! inside the regular expression engine).
//!
//! ```text
//! due -> begin -> content_type -> feed* -> finish      one scrape; several may interleave, each with its session
//! poll_remote -> (request) -> on_response / on_error   one remote; each on its own
//! next_commit -> commit_step -> synced                 the ring's writes
//! ```
//!
//! Targets come and go by [`Agent::retarget`].
//!
//! # Invariants
//!
//! - A finished scrape is in the ring before its session is used again, or is counted as lost with a reason.
//! - A remote's acknowledgement in the ring is what its sender has said, never more.
//! - A series' index is given to another series only after no staged frame refers to it.
//!
//! # When things go wrong
//!
//! A medium that fails leaves an agent that scrapes and sends from memory (`degraded`). A full ring drops the
//! oldest or stops, as configured. A remote that does not answer costs nothing but ring.

mod places;

use crate::catalogue::Catalogue;
use crate::clock::{Instant, UnixMillis};
use crate::frame::FrameNo;
use crate::metadata::Metadata;
use crate::remote_write::batch::Span;
use crate::remote_write::response::{Head, Verdict};
use crate::remote_write::sender::{Action, Counters, ErrorKind, Request, Sender};
use crate::sample::TargetRef;
use crate::scrape::{Due, LabelBuilder, Outcome, Reports, Schedule, ScrapeError, Session, Shared, Target};
use crate::series::SeriesTable;
use crate::wal::storage::{Storage, StorageFailure};
use crate::wal::{AppendError, ClockSource, Commit, CommitError, CommitStep, LossReport, Reason, Ring};
use alloc::boxed::Box;
use alloc::vec::Vec;
use places::Places;

/// What an agent is made of; every part is allocated already.
pub struct Parts<S: Storage> {
    /// Targets; each one's place is its reference.
    pub targets: Box<[Target]>,
    /// Phase key of each target, see [`phase_key`](crate::scrape::schedule::phase_key).
    pub phase_keys: Box<[u64]>,
    /// When to scrape.
    pub schedule: Schedule,
    /// Exposed texts.
    pub table: SeriesTable,
    /// Names, with what the ring's mount has put in.
    pub catalogue: Catalogue,
    /// Buffers for one label set.
    pub builder: LabelBuilder,
    /// How scrapes went.
    pub reports: Reports,
    /// What targets say about their metric families.
    pub metadata: Metadata,
    /// Where samples wait, mounted.
    pub ring: Ring<S>,
    /// One for each of the ring's remotes, in the same order.
    pub senders: Vec<Sender>,
}

/// What became of a finished scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the ring.
    As(FrameNo),
    /// It is lost, and counted.
    Lost(AppendError),
}

/// Scrapes, keeps, drains.
pub struct Agent<S: Storage> {
    places: Places,
    schedule: Schedule,
    table: SeriesTable,
    catalogue: Catalogue,
    builder: LabelBuilder,
    reports: Reports,
    metadata: Metadata,
    ring: Ring<S>,
    senders: Vec<Sender>,
    /// Per remote: samples lost for good that the ring's ledger knows of.
    lost: Vec<[u64; LOST.len()]>,
}

/// Why a sender gives samples up, how many, and of which times.
type Lost = (Reason, fn(&Counters) -> (u64, Span));

const LOST: [Lost; 5] = [
    (Reason::Rejected, |c| {
        let samples = c.samples_failed + c.histograms.failed + c.dropped.custom_buckets;
        (samples, c.failed_span)
    }),
    (Reason::TooOld, |c| (c.dropped.too_old, c.dropped.too_old_span)),
    (Reason::Clock, |c| {
        (c.dropped.clock_unknown + c.dropped.backward, c.dropped.clock_span)
    }),
    (Reason::TooBig, |c| (c.dropped.too_large, c.dropped.too_large_span)),
    (Reason::Damaged, |c| {
        // Names are unknown where the definition on flash cannot be read again.
        let samples = c.dropped.damaged_histograms + c.dropped.unknown_series;
        (samples, Span::default())
    }),
];

/// What sessions work on, borrowed field by field so that the targets stay readable.
macro_rules! shared {
    ($agent:ident) => {
        Shared {
            table: &mut $agent.table,
            catalogue: &mut $agent.catalogue,
            builder: &mut $agent.builder,
            reports: &mut $agent.reports,
            metadata: &mut $agent.metadata,
        }
    };
}

impl<S: Storage> Agent<S> {
    /// Joins the parts; scraping begins at once.
    #[must_use]
    pub fn new(parts: Parts<S>, now: Instant) -> Self {
        let Parts {
            targets,
            phase_keys,
            mut schedule,
            table,
            catalogue,
            builder,
            reports,
            metadata,
            ring,
            mut senders,
        } = parts;
        for (remote, sender) in senders.iter_mut().enumerate() {
            sender.set_sent_before(ring.sent_until(remote));
            sender.set_delivered_ahead(ring.ahead(remote));
        }
        if let Some(offset) = offset_ms(&ring, now) {
            schedule.clock(offset, now);
        }
        for (target, key) in targets.iter().zip(phase_keys) {
            schedule.set(target.reference, target.interval_ms, key, now);
        }
        let lost = senders.iter().map(lost_samples).collect();
        Self {
            places: Places::new(targets, schedule.capacity()),
            schedule,
            table,
            catalogue,
            builder,
            reports,
            metadata,
            ring,
            senders,
            lost,
        }
    }

    /// Gives the ring back; what was not committed is gone.
    #[must_use]
    pub fn into_ring(self) -> Ring<S> {
        self.ring
    }

    /// Tells the time: wall time is `wall` now, known from `source`, wrong by at most `error_ms`.
    pub fn clock(&mut self, now: Instant, wall: UnixMillis, source: ClockSource, error_ms: u32) {
        let before = self.wall(now).filter(|&before| before > wall);
        for sender in &mut self.senders {
            sender.clock_was(before);
        }
        self.ring.clock(now, wall, source, error_ms);
        if let Some(offset) = offset_ms(&self.ring, now) {
            self.schedule.clock(offset, now);
        }
    }

    /// Wall time now, if it is known.
    #[must_use]
    pub fn wall(&self, now: Instant) -> Option<UnixMillis> {
        self.ring.unix_ms(now.0).map(UnixMillis)
    }

    /// When the next scrape is due, if there are targets that wait.
    #[must_use]
    pub fn next_scrape(&self) -> Option<Instant> {
        self.schedule.next_due()
    }

    /// A scrape to start now. Its target is not due again before [`Agent::finish`].
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        self.schedule.due(now)
    }

    /// As [`Agent::next_scrape`], without the targets that [are stuck](Agent::is_stuck) unless `stuck_too`.
    #[must_use]
    pub fn next_scrape_of(&self, stuck_too: bool) -> Option<Instant> {
        self.schedule.next_due_of(|t| stuck_too || !self.is_stuck(t))
    }

    /// As [`Agent::due`], without the targets that [are stuck](Agent::is_stuck) unless `stuck_too`.
    pub fn due_of(&mut self, now: Instant, stuck_too: bool) -> Option<Due> {
        let (places, reports) = (&self.places, &self.reports);
        self.schedule.due_of(now, |t| stuck_too || !places.is_stuck(reports, t))
    }

    /// Whether the target's last scrape failed after half its timeout or more, or has given way to others: it hung, and probably will
    /// again.
    #[must_use]
    pub fn is_stuck(&self, target: TargetRef) -> bool {
        self.places.is_stuck(&self.reports, target)
    }

    /// Starts the scrape in `session`.
    pub fn begin(&mut self, session: &mut Session, due: Due) {
        let wall = self.ring.unix_ms(due.time.0).map(UnixMillis);
        if let Some(target) = self.places.get(due.target) {
            session.begin(target, due.time, wall, &mut shared!(self));
        }
    }

    /// The response has begun, with this Content-Type.
    pub fn content_type(&self, session: &mut Session, header: Option<&[u8]>) {
        if let Some(target) = self.places.get(session.target()) {
            session.content_type(header, target);
        }
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// The scrape has failed; the rest of the body is not needed.
    pub fn feed(&mut self, session: &mut Session, bytes: &[u8]) -> Result<(), ScrapeError> {
        match self.places.get(session.target()) {
            Some(target) => session.feed(bytes, target, &mut shared!(self)),
            None => Ok(()),
        }
    }

    /// Ends the scrape and stores its frame. After [`Outcome::Removed`] the target is no more.
    pub fn finish(
        &mut self,
        session: &mut Session,
        outcome: Outcome<'_>,
        duration_100us: u32,
        now: Instant,
    ) -> Option<Stored> {
        let reference = session.target();
        let target = self.places.get(reference)?;
        session.finish(outcome, duration_100us, target, &mut shared!(self));
        let stored = self.store(session);
        let last = match stored {
            Stored::As(number) => number,
            Stored::Lost(_) => FrameNo(self.ring.next_frame().0.saturating_sub(1)),
        };
        session.settle(last, &mut shared!(self));
        if matches!(outcome, Outcome::Removed) {
            self.vacate(reference, last);
        } else {
            self.places.answered(reference);
            self.schedule.done(reference, now);
        }
        Some(stored)
    }

    fn store(&mut self, session: &mut Session) -> Stored {
        match self.ring.append(session.frame(), &mut self.catalogue) {
            Ok(number) => return Stored::As(number),
            Err(AppendError::StagingFull) => {}
            Err(error) => return Stored::Lost(error),
        }
        // Staging holds more than the uplink takes: make room on the medium now, whatever the interval. A commit that is under way may be
        // one of acknowledgements: then the next takes the frames. If that fails the last attempt says so, and the ring counts the loss.
        for _ in 0..2 {
            let spare = self.senders.first_mut().map(Sender::spare_frame);
            let _ = self.ring.commit_with(&mut self.catalogue, spare);
            match self.ring.append(session.frame(), &mut self.catalogue) {
                Ok(number) => return Stored::As(number),
                Err(AppendError::StagingFull) => {}
                Err(error) => return Stored::Lost(error),
            }
        }
        let number = self.ring.next_frame();
        self.ring.record_loss(&LossReport {
            reason: Reason::WriteError,
            first: number,
            last: number,
            frames: 1,
            samples: session.frame().samples.len() as u64,
            unix_ms: session.frame().unix_ms.map(|ms| (ms, ms)),
        });
        Stored::Lost(AppendError::StagingFull)
    }

    /// What remote `remote` wants done. After [`Action::Send`], send [`Agent::request`].
    ///
    /// # Errors
    /// The medium could not be read; nothing is lost, call again later.
    pub fn poll_remote(&mut self, remote: usize, now: Instant) -> Result<Action, StorageFailure> {
        let wall = self.wall(now);
        let Some(sender) = self.senders.get_mut(remote) else {
            return Ok(Action::Done);
        };
        let mut source = self.ring.source(remote, &mut self.catalogue);
        let action = sender.poll(now, wall, &mut source, &self.metadata)?;
        let first = action == Action::Send && sender.request().samples > 0 && sender.request().retry_attempt == 0;
        if first && !sender.sends_ahead() {
            // What is scraped from now on is not part of this request: the staged blocks up to here can go as soon
            // as it is acknowledged. Repeating a request begins nothing new, and a new chunk costs full values.
            self.ring.cut();
        }
        self.acknowledge(remote);
        Ok(action)
    }

    /// The request that remote `remote` wants sent.
    #[must_use]
    pub fn request(&self, remote: usize) -> Option<Request<'_>> {
        self.senders.get(remote).map(Sender::request)
    }

    /// The receiver has answered.
    pub fn on_response(&mut self, remote: usize, now: Instant, head: &Head) -> Option<Verdict> {
        let wall = self.wall(now);
        let verdict = self.senders.get_mut(remote)?.on_response(now, wall, head);
        self.acknowledge(remote);
        Some(verdict)
    }

    /// The attempt ended without an answer.
    pub fn on_error(&mut self, remote: usize, now: Instant, kind: ErrorKind) {
        if let Some(sender) = self.senders.get_mut(remote) {
            sender.on_error(now, kind);
        }
        self.acknowledge(remote);
    }

    /// Ends every back-off and hold: what receivers refuse for may have been put right.
    pub fn retry_now(&mut self) {
        for sender in &mut self.senders {
            sender.retry_now();
        }
    }

    /// Tells every sender to send what there is without waiting, until `deadline`.
    pub fn flush(&mut self, deadline: Instant) {
        for sender in &mut self.senders {
            sender.flush(deadline);
        }
    }

    fn acknowledge(&mut self, remote: usize) {
        let Some(sender) = self.senders.get(remote) else { return };
        let (before, acknowledged) = (self.ring.acknowledged(remote), sender.acknowledged());
        let last = FrameNo(acknowledged.0.saturating_sub(1).max(before.0));
        let lost = lost_samples(sender);
        let known = core::mem::replace(&mut self.lost[remote], lost);
        // What the remotes that hold the tail get is not lost.
        let counts = !self.ring.is_best_effort(remote);
        for (place, (reason, of)) in LOST.iter().enumerate().filter(|_| counts) {
            let samples = lost[place] - known[place];
            if samples == 0 {
                continue;
            }
            let (_, span) = of(sender.counters());
            self.ring.record_loss(&LossReport {
                reason: *reason,
                first: before,
                last,
                frames: 0,
                samples,
                unix_ms: (span != Span::default()).then_some((span.first_ms, span.last_ms)),
            });
        }
        if acknowledged > before {
            if let Some(sent) = sender.sent() {
                self.ring.sent(remote, sent.boot, sent.unix_ms, sent.offset_ms);
            }
            self.ring.acknowledge(remote, acknowledged);
        }
        let hand = sender.in_hand();
        self.ring.delivered_ahead(remote, sender.delivered_ahead(), hand);
    }

    /// When the ring next wants a commit, and of what.
    #[must_use]
    pub fn next_commit(&self, now: Instant) -> Option<(Instant, Commit)> {
        self.ring.commit_due(now)
    }

    /// One step of a commit; after [`CommitStep::NeedSync`] sync the storage and report to [`Agent::synced`].
    ///
    /// # Errors
    /// Nothing was committed; what was staged stays staged.
    pub fn commit_step(&mut self, what: Commit) -> Result<CommitStep, CommitError> {
        let spare = self.senders.first_mut().map(Sender::spare_frame);
        self.ring.commit_step_with(&mut self.catalogue, what, spare)
    }

    /// How the sync asked for went.
    pub fn synced<E>(&mut self, result: Result<(), E>) {
        self.ring.synced(result);
    }

    /// Commits everything that must survive the process, marked as an orderly stop.
    ///
    /// # Errors
    /// What was staged is lost with the process.
    pub fn close(&mut self) -> Result<(), CommitError> {
        let spare = self.senders.first_mut().map(Sender::spare_frame);
        self.ring.close_with(&mut self.catalogue, spare)
    }

    /// The targets, in the order of their references, without those that leave.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.places.iter()
    }

    /// The target with this reference.
    #[must_use]
    pub fn target(&self, reference: TargetRef) -> Option<&Target> {
        self.places.get(reference)
    }

    /// How scrapes went.
    #[must_use]
    pub const fn reports(&self) -> &Reports {
        &self.reports
    }

    /// What targets say about their metric families.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The ring.
    #[must_use]
    pub const fn ring(&self) -> &Ring<S> {
        &self.ring
    }

    /// The ring, for instance to sync its storage.
    pub const fn ring_mut(&mut self) -> &mut Ring<S> {
        &mut self.ring
    }

    /// The senders, in the order of the remotes.
    #[must_use]
    pub fn senders(&self) -> &[Sender] {
        &self.senders
    }

    /// Sender of remote `remote`.
    pub fn sender_mut(&mut self, remote: usize) -> Option<&mut Sender> {
        self.senders.get_mut(remote)
    }

    /// What is known of exposed texts.
    #[must_use]
    pub const fn table(&self) -> &SeriesTable {
        &self.table
    }

    /// Names of the series.
    #[must_use]
    pub const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }
}

/// Samples that a sender has given up for good, as far as they were meant for its receiver.
fn lost_samples(sender: &Sender) -> [u64; LOST.len()] {
    LOST.map(|(_, of)| of(sender.counters()).0)
}

/// Wall time minus boot time.
fn offset_ms<S: Storage>(ring: &Ring<S>, now: Instant) -> Option<i64> {
    ring.unix_ms(now.0)
        .map(|unix_ms| unix_ms.saturating_sub_unsigned(now.0))
}
