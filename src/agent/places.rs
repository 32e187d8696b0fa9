//! Which targets there are: each has a place, whose number is its reference in the ring's frames.
//!
//! Targets come and go while the agent runs ([`Agent::retarget`]). One that goes keeps its place until its next slot, where a
//! last frame marks its series and those of the scrape itself (SCR-806); then the place is free. A place gets other labels only
//! after every staged frame with the old ones is on the medium, because staged frames say references, not labels.
//!
//! # Invariants
//!
//! - A target that stays keeps its place, series, phase and what is tracked for staleness (SCR-953). If the rules over its
//!   samples changed, only the meaning of exposed texts is forgotten: what the new rules no longer yield is marked by the
//!   next scrape (SCR-807 and the case it does not cover).
//! - A target that comes back before its last frame is as if it had never gone.
//!
//! Source: prometheus.md §1.10, SCR-953.

use super::Agent;
use crate::clock::Instant;
use crate::frame::FrameNo;
use crate::limits::MAX_TARGETS;
use crate::sample::TargetRef;
use crate::scrape::{Due, HealthState, Outcome, Reports, Session, SessionSize, Target};
use crate::wal::CommitError;
use crate::wal::storage::Storage;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// So many times in a row a scrape that has no answer yet gives way to others; then it runs to its timeout.
const GIVES_WAY: u8 = 3;

/// A place for a target.
#[derive(Debug, Default)]
struct Place {
    target: Option<Box<Target>>,
    /// It is no more, and its series are marked at its next slot.
    leaving: bool,
    /// Scrapes in a row that gave way to others.
    gave_way: u8,
}

/// The places of all targets.
#[derive(Debug)]
pub(super) struct Places(Box<[Place]>);

impl Places {
    /// So many places, each target in the one its reference says.
    pub(super) fn new(targets: Box<[Target]>, places: usize) -> Self {
        let mut places: Vec<Place> = (0..places.min(MAX_TARGETS)).map(|_| Place::default()).collect();
        for target in targets {
            if let Some(place) = places.get_mut(usize::from(target.reference.0)) {
                place.target = Some(Box::new(target));
            }
        }
        Self(places.into_boxed_slice())
    }

    pub(super) fn get(&self, t: TargetRef) -> Option<&Target> {
        self.0.get(usize::from(t.0))?.target.as_deref()
    }

    fn at(&mut self, t: TargetRef) -> Option<&mut Place> {
        self.0.get_mut(usize::from(t.0))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Target> {
        let staying = self.0.iter().filter(|place| !place.leaving);
        staying.filter_map(|place| place.target.as_deref())
    }

    pub(super) fn is_leaving(&self, t: TargetRef) -> bool {
        self.0.get(usize::from(t.0)).is_some_and(|place| place.leaving)
    }

    pub(super) fn answered(&mut self, t: TargetRef) {
        if let Some(place) = self.at(t) {
            place.gave_way = 0;
        }
    }

    /// It hung the last time, or has just given way: it will probably hang again.
    pub(super) fn is_stuck(&self, reports: &Reports, t: TargetRef) -> bool {
        let gave_way = self.0.get(usize::from(t.0)).is_some_and(|place| place.gave_way > 0);
        let (Some(target), Some(health)) = (self.get(t), reports.health(t)) else {
            return false;
        };
        // Tenths of a millisecond against milliseconds.
        let hung =
            health.state == HealthState::Down && u64::from(health.duration_100us) >= u64::from(target.timeout_ms) * 5;
        gave_way || hung
    }

    fn numbers(&self) -> impl Iterator<Item = TargetRef> + use<> {
        // At most `MAX_TARGETS` places.
        (0..self.0.len() as u8).map(TargetRef)
    }
}

impl<S: Storage> Agent<S> {
    /// Replaces the targets by `wanted`, each with its phase key. Returns the reference of each. Scrapes in progress are
    /// [abandoned](Agent::abandon): their sessions must not be finished. Allocates for what is new.
    ///
    /// # Errors
    /// [`CommitError`]: the medium does not take what must be on it before a place may get other labels. Nothing has changed.
    pub fn retarget(&mut self, wanted: Vec<(Target, u64)>, now: Instant) -> Result<Vec<TargetRef>, CommitError> {
        for t in self.places.numbers() {
            self.abandon(t, now);
        }
        let mut references: Vec<Option<TargetRef>> = wanted.iter().map(|_| None).collect();
        let mut gone: Vec<TargetRef> = Vec::new();
        for t in self.places.numbers() {
            let Some(target) = self.places.get(t) else { continue };
            let mut pairs = wanted.iter().zip(&mut references);
            match pairs.find(|((new, _), found)| found.is_none() && new.body() == target.body()) {
                Some((_, found)) => *found = Some(t),
                None => gone.push(t),
            }
        }
        let new = wanted.iter().zip(&references).filter(|(_, found)| found.is_none());
        if self.must_relabel(new.map(|((target, _), _)| target.body())) {
            // Fails before anything has changed, if it fails.
            self.ring.commit(&mut self.catalogue)?;
        }
        for t in gone {
            self.remove(t);
        }
        let mut all = Vec::new();
        for ((target, key), found) in wanted.into_iter().zip(references) {
            let t = match found {
                Some(t) => t,
                None => self.free_place(target.body(), now)?,
            };
            self.put(t, target, key, now);
            all.push(t);
        }
        Ok(all)
    }

    /// Ends every target whose labels are not among `bodies`, at once: the agent is about to close, but the process goes on without
    /// them.
    pub fn part_with_others<'a>(&mut self, bodies: impl Iterator<Item = &'a str> + Clone, now: Instant) {
        for t in self.places.numbers() {
            let stays = |target: &Target| bodies.clone().any(|body| body == target.body());
            if self.places.get(t).is_some_and(|target| !stays(target)) {
                self.remove(t);
                self.farewell(t, now);
            }
        }
    }

    /// The scrape of `t` in progress is given up without a verdict: what it brought is taken back, and it is due again at `again`.
    pub fn abandon(&mut self, t: TargetRef, again: Instant) {
        if self.schedule.again(t, again) {
            self.table.abandon(t, &mut self.catalogue);
        }
    }

    /// Whether a scrape of `t` that has no answer yet should give way when others are due: nothing good is known of the target.
    #[must_use]
    pub fn may_give_way(&self, t: TargetRef) -> bool {
        let unknown = |health: &crate::scrape::Health| health.state == HealthState::Unknown;
        let suspicious = self.reports.health(t).is_some_and(unknown) || self.is_stuck(t);
        suspicious
            && self
                .places
                .0
                .get(usize::from(t.0))
                .is_some_and(|place| place.gave_way < GIVES_WAY)
    }

    /// As [`Agent::abandon`]; until it answers the target counts as [stuck](Agent::is_stuck).
    pub fn give_way(&mut self, t: TargetRef, again: Instant) {
        self.abandon(t, again);
        if let Some(place) = self.places.at(t) {
            place.gave_way = place.gave_way.saturating_add(1);
        }
    }

    /// Whether `t` is no more and waits for its last frame: finish its next scrape with [`Outcome::Removed`].
    #[must_use]
    pub fn is_leaving(&self, t: TargetRef) -> bool {
        self.places.is_leaving(t)
    }

    /// The target leaves at its next slot; at once if it was never scraped, since then there is nothing to mark.
    fn remove(&mut self, t: TargetRef) {
        let scraped = self
            .reports
            .health(t)
            .is_some_and(|health| health.last_scrape.is_some());
        if !scraped {
            let last = FrameNo(self.ring.next_frame().0.saturating_sub(1));
            self.vacate(t, last);
        } else if let Some(place) = self.places.at(t) {
            place.leaving = true;
        }
    }

    /// Nothing is left of the target but the frames up to `last`.
    pub(super) fn vacate(&mut self, t: TargetRef, last: FrameNo) {
        self.table.forget(t, last, &mut self.catalogue);
        self.reports.forget(t);
        self.metadata.forget(t);
        self.schedule.remove(t);
        if let Some(place) = self.places.at(t) {
            *place = Place::default();
        }
    }

    /// The last frame of a target, now.
    fn farewell(&mut self, t: TargetRef, now: Instant) {
        if !self.places.is_leaving(t) {
            return;
        }
        let time = self.reports.health(t).and_then(|health| health.last_scrape);
        let time = time.map_or(now, |last| now.max(last + 1));
        let mut session = Session::new(SessionSize {
            line_bytes: 1,
            label_bytes: 0,
            extras_bytes: 0,
            converts: false,
            max_samples: self.table.tracked(t).max(1),
        });
        self.begin(&mut session, Due { target: t, time });
        self.finish(&mut session, Outcome::Removed, 0, now);
    }

    /// Whether targets with these labels, which have no place yet, need places that had others.
    fn must_relabel<'a>(&self, bodies: impl Iterator<Item = &'a str>) -> bool {
        let free = || self.places.numbers().filter(|&t| self.places.get(t).is_none());
        let had = |body: &str| free().any(|t| self.catalogue.target_body(t) == body);
        let fresh = free().filter(|&t| self.catalogue.target_body(t).is_empty()).count();
        bodies.filter(|body| !had(body)).count() > fresh
    }

    /// A place for a target with these labels: one that had them, or was never used, or is the first that can be had.
    fn free_place(&mut self, body: &str, now: Instant) -> Result<TargetRef, CommitError> {
        let free = |this: &Self, wanted: &dyn Fn(&str) -> bool| {
            let mut all = this.places.numbers();
            all.find(|&t| this.places.get(t).is_none() && wanted(this.catalogue.target_body(t)))
        };
        let found = free(self, &|had| had == body).or_else(|| free(self, &str::is_empty));
        let found = found.or_else(|| free(self, &|_| true)).or_else(|| {
            let leaving = self.places.numbers().find(|&t| self.places.is_leaving(t))?;
            self.farewell(leaving, now);
            Some(leaving)
        });
        // There are as many places as targets at most.
        let t = found.unwrap_or(TargetRef(0));
        let had = self.catalogue.target_body(t);
        if !had.is_empty() && had != body {
            self.ring.commit(&mut self.catalogue)?;
        }
        Ok(t)
    }

    /// Puts a target into a place: its own, or a free one.
    fn put(&mut self, t: TargetRef, mut target: Target, key: u64, now: Instant) {
        target.reference = t;
        if self.places.get(t).is_some_and(|old| old.meaning != target.meaning) {
            self.table.forget_texts(t, &mut self.catalogue);
        }
        // The catalogue was made for as many targets, and their labels have room for each.
        let _ = self.catalogue.set_target(t, target.body());
        self.schedule.set(t, target.interval_ms, key, now);
        if let Some(place) = self.places.at(t) {
            place.target = Some(Box::new(target));
            place.leaving = false;
        }
    }
}
