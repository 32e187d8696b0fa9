//! Scrape workers: each carries one scrape at a time from its due instant into the ring.
//!
//! There are `tidegate.memory.max_concurrent_scrapes` of them, each with its own session and buffers. They take turns
//! waiting for the next due target, so an idle agent wakes once per scrape.
//!
//! A target of which nothing good is known (never scraped, or hung the last time) gives way while it has not answered and another
//! is due, so that even a single worker gets to the living at once. Targets that hung the last time get at most half of the workers: any number of dead boxes costs the others nothing but
//! the first timeout. What hangs is then scraped as often as there is a worker for it.

use super::shared::{ScrapeClient, SharedRef};
use super::{failure_log, pools, sleep};
use crate::agent::Stored;
use crate::clock::Instant;
use crate::host::http::{Abort, BodyAction, HttpError, Method, Receive, ResponseHead};
use crate::host::http::{Buffers, Request};
use crate::host::runtime::now;
use crate::host::status::own::{self, LineTooLong};
use crate::scrape::{Due, HealthState, Outcome, Session};
use core::cell::Cell;
use core::fmt;
use smol::lock::Mutex;
use std::path::Path;

/// How long a target of which nothing good is known may keep a worker that others wait for, milliseconds: enough for an answer on a
/// local network. It is tried again as soon, three times, and then to its timeout.
const PATIENCE_MS: u64 = 100;

/// How long a worker waits for the commit of what it has scraped, milliseconds. A commit holds up everything else while it lasts, so this
/// only bounds the wait for one that does not begin.
const COMMIT_PATIENCE_MS: u64 = 1_000;

/// A scrape this late says that no worker is free, milliseconds.
const GRACE_MS: u64 = 20;

/// A worker's memory.
pub struct Worker {
    /// The scrape in progress.
    pub session: Session,
    /// Its HTTP buffers, inflater included.
    pub buffers: Buffers,
}

/// Scrapes what is due, until the agent stops.
pub async fn run(shared: SharedRef, turn: alloc::rc::Rc<Mutex<()>>, mut worker: Worker) {
    while !shared.stopping.get() {
        let due = {
            let _turn = turn.lock().await;
            next_due(&shared).await
        };
        let Some(due) = due else { return };
        let stuck = usize::from(shared.agent.borrow().is_stuck(due.target));
        shared.stuck.set(shared.stuck.get() + stuck);
        shared.pools.scraping(1, shared.sizes.concurrent_scrapes);
        scrape(&shared, due, &mut worker).await;
        shared.pools.scraping(-1, shared.sizes.concurrent_scrapes);
        shared.stuck.set(shared.stuck.get() - stuck);
    }
}

/// Waits for the next target; `None`: there will be none.
async fn next_due(shared: &SharedRef) -> Option<Due> {
    loop {
        if shared.stopping.get() {
            return None;
        }
        let stuck_too = shared.stuck.get() < shared.stuck_limit.get();
        let due = |stuck_too| shared.agent.borrow_mut().due_of(now(), stuck_too);
        if let Some(due) = due(false).or_else(|| if stuck_too { due(true) } else { None }) {
            return Some(due);
        }
        let next = shared.agent.borrow().next_scrape_of(stuck_too);
        // A scrape that ends meanwhile may make its target due before all others.
        let ended = shared.stored.after(shared.stored.count());
        match next {
            Some(at) => smol::future::or(ended, sleep(at)).await,
            None => ended.await,
        }
    }
}

/// The response on its way into the session.
struct Body<'a> {
    shared: &'a SharedRef,
    session: &'a mut Session,
    /// Set with the first part of the answer.
    answered: &'a Cell<bool>,
}

impl Receive for Body<'_> {
    fn head(&mut self, head: &ResponseHead) -> Result<BodyAction, Abort> {
        self.answered.set(true);
        if head.status != 200 {
            return Ok(BodyAction::Discard);
        }
        let content_type = head.content_type.as_ref().map(|text| text.as_bytes());
        self.shared.agent.borrow().content_type(self.session, content_type);
        Ok(BodyAction::Deliver)
    }

    fn body(&mut self, piece: &[u8]) -> Result<(), Abort> {
        // The session keeps the reason; the rest of the body is of no use.
        self.shared
            .agent
            .borrow_mut()
            .feed(self.session, piece)
            .map_err(|_| Abort)
    }
}

async fn scrape(shared: &SharedRef, due: Due, worker: &mut Worker) {
    let start = std::time::Instant::now();
    shared.agent.borrow_mut().begin(&mut worker.session, due);
    if shared.agent.borrow().is_leaving(due.target) {
        let mut agent = shared.agent.borrow_mut();
        agent.finish(&mut worker.session, Outcome::Removed, 0, now());
        return;
    }
    let Some(scraper) = shared.live().scraper(due.target).cloned() else {
        // There is one for every target in the timetable.
        shared.agent.borrow_mut().abandon(due.target, Instant(u64::MAX));
        return;
    };
    let answer = if scraper.built_in && scraper.target_limit.is_none() {
        own_metrics(shared, worker)
    } else {
        let answered = Cell::new(false);
        let fetched = async { Some(fetch(shared, &scraper, worker, &answered).await) };
        let hurried = shared.agent.borrow().may_give_way(due.target);
        let others = async {
            if hurried {
                others_wait(shared, &answered).await;
                None
            } else {
                core::future::pending().await
            }
        };
        let Some(answer) = smol::future::or(fetched, others).await else {
            shared.agent.borrow_mut().give_way(due.target, now() + PATIENCE_MS);
            shared.stored.notify();
            return;
        };
        answer.map_err(Failure::Http)
    };
    let limit = scraper.target_limit;
    let outcome = match (&answer, limit) {
        (_, Some((targets, limit))) => Outcome::TargetLimit { targets, limit },
        (Ok(200), None) => Outcome::Complete,
        (Ok(status), None) => Outcome::Status(*status),
        // The session refused the body, or it had reached its limit: the session says why.
        (Err(Failure::Http(HttpError::Aborted | HttpError::BodyTooLarge { .. })), None) => Outcome::Complete,
        (Err(error), None) => Outcome::Fetch(error),
    };
    let duration = u32::try_from(start.elapsed().as_micros() / 100).unwrap_or(u32::MAX);
    let stored = shared
        .agent
        .borrow_mut()
        .finish(&mut worker.session, outcome, duration, now());
    if let Some(Stored::Lost(error)) = stored {
        log::debug!(target_number = due.target.0, error:% = error; "scrape not stored");
    } else if let Some(wall) = shared.agent.borrow().wall(due.time) {
        shared.newest_ms.set(wall.0);
    }
    if let Some(path) = &scraper.failure_log {
        note_failure(shared, due, path);
    }
    pools::stored(shared);
    let committed = shared.committed.count();
    shared.stored.notify();
    log_outcome(shared, due);
    // What is to be on the medium at once is there before more is asked for: with `commit_interval: 0s` a process that is killed
    // loses what was being scraped and nothing else.
    if shared
        .agent
        .borrow()
        .next_commit(now())
        .is_some_and(|(at, _)| at <= now())
    {
        let patience = sleep(now() + COMMIT_PATIENCE_MS);
        smol::future::or(shared.committed.after(committed), patience).await;
    }
}

/// Why there is no body, or only a part.
enum Failure {
    Http(HttpError),
    Own(LineTooLong),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => error.fmt(f),
            Self::Own(error) => error.fmt(f),
        }
    }
}

/// The built-in target: what `/metrics` would answer, into the same session as every other target's body.
fn own_metrics(shared: &SharedRef, worker: &mut Worker) -> Result<u16, Failure> {
    let answered = Cell::new(true);
    let mut body = Body {
        shared,
        session: &mut worker.session,
        answered: &answered,
    };
    let header = Some(own::CONTENT_TYPE.as_bytes());
    shared.agent.borrow().content_type(body.session, header);
    own::exposition(shared, |piece| body.body(piece).is_ok()).map_err(Failure::Own)?;
    Ok(200)
}

/// Until a target that is not known to hang should have been scraped by now and there was no worker for it, unless the present one
/// answers.
async fn others_wait(shared: &SharedRef, answered: &Cell<bool>) {
    sleep(now() + PATIENCE_MS).await;
    loop {
        if answered.get() {
            return core::future::pending().await;
        }
        let next = shared.agent.borrow().next_scrape_of(false);
        match next.map(|at| at + GRACE_MS) {
            Some(late) if late <= now() => return,
            Some(late) => sleep(late).await,
            None => sleep(now() + PATIENCE_MS).await,
        }
    }
}

async fn fetch(
    shared: &SharedRef,
    scraper: &ScrapeClient,
    worker: &mut Worker,
    answered: &Cell<bool>,
) -> Result<u16, HttpError> {
    if scraper.target_limit.is_some() {
        return Ok(0);
    }
    let request = Request {
        method: Method::Get,
        headers: &[],
        body: &[],
        // The session counts the bytes itself and reports the limit as Prometheus does.
        body_limit: 0,
        deadline: now() + scraper.timeout_ms,
        wall: None,
    };
    // Only this worker scrapes this target now: the schedule does not give it out twice.
    let mut client = scraper.client.lock().await;
    let mut body = Body {
        shared,
        session: &mut worker.session,
        answered,
    };
    client
        .request(&request, &mut worker.buffers, &mut body)
        .await
        .map(|head| head.status)
}

fn note_failure(shared: &SharedRef, due: Due, path: &Path) {
    let (agent, live) = (shared.agent.borrow(), shared.live());
    if let (Some(health), Some(target)) = (agent.reports().health(due.target), live.target(due.target))
        && health.state == HealthState::Down
    {
        failure_log::note(path, live.job_name(target.job), &target.url(), health.error());
    }
}

fn log_outcome(shared: &SharedRef, due: Due) {
    if log::max_level() < log::LevelFilter::Debug {
        return;
    }
    let agent = shared.agent.borrow();
    let Some(health) = agent.reports().health(due.target) else {
        return;
    };
    let live = shared.live();
    let url = live.target(due.target).map(|target| target.url()).unwrap_or_default();
    log::debug!(
        url = url.as_str(), health = health.state.as_str(), samples = health.samples, duration_ms = health.duration_100us / 10,
        error = health.error();
        "scraped"
    );
}
