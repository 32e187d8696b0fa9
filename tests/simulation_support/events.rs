//! What happens by itself: scrapes, requests, commits, each when it is due.

use super::ledger::Told;
use super::target::{Item, Mood};
use super::{BUSY, Scraping, Waiting, World};
use tidegate::agent::Stored;
use tidegate::remote_write::response::{DropReason, Verdict};
use tidegate::remote_write::sender::Action;
use tidegate::sample::STALE_NAN_BITS;
use tidegate::scrape::Outcome;
use tidegate::wal::storage::Storage as _;
use tidegate::wal::{Commit, CommitStep};

impl World {
    /// Lets `ms` milliseconds pass.
    pub fn run(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.settle();
            self.now = self.next_event().clamp(self.now + 1, until);
        }
        self.settle();
    }

    /// Does everything that is due now.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < BUSY, "busy loop at {}", self.now);
            let mut done = self.end_scrapes() | self.end_syncs() | self.take_answers();
            done |= self.begin_scrapes() | self.poll_remotes() | self.commit();
            if !done {
                return;
            }
        }
    }

    pub(super) fn next_event(&mut self) -> u64 {
        let boot_at = self.boot_at;
        let now = self.instant();
        let process = self.process.as_ref().expect("running");
        let mut next = u64::MAX;
        let mut at = |instant: u64| next = next.min(instant.saturating_add(boot_at));
        if !process.idle.is_empty()
            && let Some(due) = process.agent.next_scrape()
        {
            at(due.0);
        }
        if let Some((due, _)) = process.agent.next_commit(now).filter(|_| process.syncing.is_none()) {
            at(due.0);
        }
        for (waiting, &wake) in process.waiting.iter().zip(&process.wake) {
            if waiting.is_none() {
                at(wake);
            }
        }
        let ends = process.scraping.iter().map(|scraping| scraping.ends);
        let ends = ends.chain(process.waiting.iter().flatten().map(|waiting| waiting.ends));
        let ends = ends.chain(process.syncing.map(|(ends, _)| ends));
        ends.fold(next, u64::min)
    }

    fn begin_scrapes(&mut self) -> bool {
        let (now, unix_ms) = (self.instant(), self.unix_ms());
        let process = self.process.as_mut().expect("running");
        if process.idle.is_empty() {
            return false;
        }
        let Some(due) = process.agent.due(now) else {
            return false;
        };
        let mut session = process.idle.pop().expect("just looked");
        let number = usize::from(due.target.0);
        let target = &mut self.targets[number];
        let (text, mut items) = target.expose(&mut self.values, unix_ms, &mut self.random);
        let mut text = text.into_bytes();
        process.agent.begin(&mut session, due);
        let mood = target.mood;
        match mood {
            Mood::Well | Mood::Dripping => process.agent.content_type(&mut session, Some(b"text/plain")),
            Mood::Garbled => {
                process
                    .agent
                    .content_type(&mut session, Some(b"text/plain; version=0.0.4"));
                text.extend(b"this is no sample\n");
            }
            Mood::Empty | Mood::Down | Mood::Broken => text.clear(),
        }
        if mood != Mood::Well {
            items.clear();
        }
        let half = text.len() / 2;
        let rest = text.split_off(half);
        // A body that is refused ends the fetch; the session knows why.
        let _ = process.agent.feed(&mut session, &text);
        process.scraping.push(Scraping {
            session,
            target: number,
            ends: self.now + target.takes_ms,
            rest,
            mood,
            items,
            time: due.time,
            added: 0,
        });
        true
    }

    fn end_scrapes(&mut self) -> bool {
        let now = self.now;
        let process = self.process.as_mut().expect("running");
        let ended = process.scraping.iter().position(|scraping| scraping.ends <= now);
        let Some(scraping) = ended.map(|place| process.scraping.swap_remove(place)) else {
            return false;
        };
        self.end_scrape(scraping);
        true
    }

    pub(super) fn end_scrape(&mut self, mut scraping: Scraping) {
        let now = self.instant();
        let duration = self.ledger.next_duration();
        let process = self.process.as_mut().expect("running");
        let outcome = match scraping.mood {
            Mood::Down => Outcome::Fetch(&"connection refused"),
            Mood::Dripping => Outcome::Fetch(&"connection reset"),
            Mood::Broken => Outcome::Status(500),
            Mood::Well | Mood::Garbled | Mood::Empty => Outcome::Complete,
        };
        if scraping.mood != Mood::Dripping {
            let _ = process.agent.feed(&mut scraping.session, &scraping.rest);
        }
        let stored = process.agent.finish(&mut scraping.session, outcome, duration, now);
        scraping.added = scraping.session.frame().counts.added;
        let scraped = scraping.session.frame().counts.scraped;
        let reported_up = scraping.session.frame().up;
        process.idle.push(scraping.session);
        process.wake.fill(0);
        let mut items = core::mem::take(&mut scraping.items);
        let target = &mut self.targets[scraping.target];
        let up = matches!(scraping.mood, Mood::Well | Mood::Empty);
        let samples = items.len() as u64;
        assert_eq!(reported_up, up, "target {} at {}", target.number, self.now);
        assert!(!up || scraped == samples as u32, "a sample was left out");
        let exposed = items.iter().filter(|item| item.explicit.is_none());
        let exposed = exposed.map(|item| item.series.clone()).collect();
        let before = core::mem::replace(&mut target.tracked, exposed);
        let mark = |series: &String| Item {
            series: series.clone(),
            bits: STALE_NAN_BITS,
            explicit: None,
            unique: false,
        };
        items.extend(before.difference(&target.tracked).map(mark));
        let counts = [
            ("up", if up { 1.0 } else { 0.0 }),
            ("scrape_duration_seconds", f64::from(duration) / 10_000.0),
            ("scrape_samples_scraped", f64::from(scraped)),
            ("scrape_samples_post_metric_relabeling", f64::from(scraped)),
            ("scrape_series_added", f64::from(scraping.added)),
        ];
        items.extend(counts.map(|(name, value)| Item {
            series: target.wire(name, ""),
            bits: value.to_bits(),
            explicit: None,
            unique: name == "scrape_duration_seconds",
        }));
        self.ledger.add(Told {
            target: target.number,
            boot: self.ledger.offsets.len() - 1,
            time_ms: scraping.time.0,
            at: self.now,
            items,
            samples,
            stored: matches!(stored, Some(Stored::As(_))),
        });
    }

    pub(super) fn poll_remotes(&mut self) -> bool {
        let (now, unix_ms) = (self.instant(), self.unix_ms());
        let process = self.process.as_mut().expect("running");
        let mut done = false;
        for (remote, receiver) in self.receivers.iter_mut().enumerate() {
            if process.waiting[remote].is_some() || process.wake[remote] > now.0 {
                continue;
            }
            let action = process.agent.poll_remote(remote, now).expect("the medium is readable");
            done = true;
            match action {
                Action::Send => {
                    let request = process.agent.request(remote).expect("asked for");
                    let reply = receiver.handle(request.body, request.protocol, unix_ms);
                    process.waiting[remote] = Some(Waiting {
                        ends: self.now + reply.after_ms,
                        outcome: reply.outcome,
                        request: receiver.request.clone(),
                    });
                }
                Action::Wait(until) | Action::Hold(_, until) => process.wake[remote] = until.0,
                Action::Done => process.wake[remote] = u64::MAX,
                Action::InFlight => panic!("no request is under way"),
            }
        }
        done
    }

    pub(super) fn take_answers(&mut self) -> bool {
        let (world, now) = (self.now, self.instant());
        let process = self.process.as_mut().expect("running");
        let mut done = false;
        for (remote, waiting) in process.waiting.iter_mut().enumerate() {
            let Some(ended) = waiting.take_if(|waiting| waiting.ends <= world) else {
                continue;
            };
            done = true;
            process.wake[remote] = 0;
            match ended.outcome {
                Ok(head) => {
                    let verdict = process.agent.on_response(remote, now, &head).expect("a sender");
                    if let Verdict::Drop(_) | Verdict::AcceptedPartly { .. } = verdict {
                        self.refused[remote].extend(ended.request);
                    }
                    assert_ne!(verdict, Verdict::Drop(DropReason::RateLimited), "429 is to be retried");
                }
                Err(kind) => process.agent.on_error(remote, now, kind),
            }
        }
        done
    }

    fn commit(&mut self) -> bool {
        let now = self.instant();
        let process = self.process.as_mut().expect("running");
        if process.syncing.is_some() {
            return false;
        }
        match process.agent.next_commit(now) {
            Some((at, what)) if at <= now => self.commit_step(what),
            _ => return false,
        }
        true
    }

    fn commit_step(&mut self, what: Commit) {
        let delay = self.setup.sync_ms;
        let process = self.process.as_mut().expect("running");
        match process.agent.commit_step(what) {
            Ok(CommitStep::NeedSync) => process.syncing = Some((self.now + delay, what)),
            Ok(CommitStep::Done) => {
                let ram = process.agent.ring().storage();
                if what == Commit::All && ram.changes < ram.fail_from {
                    self.storage_trouble = None;
                }
            }
            Err(_) => {
                self.storage_trouble.get_or_insert(self.now);
            }
        }
    }

    pub(super) fn end_syncs(&mut self) -> bool {
        let process = self.process.as_mut().expect("running");
        let Some((_, what)) = process.syncing.take_if(|(ends, _)| *ends <= self.now) else {
            return false;
        };
        let result = process.agent.ring_mut().storage_mut().sync();
        if result.is_err() {
            self.storage_trouble.get_or_insert(self.now);
        }
        process.agent.synced(result);
        self.commit_step(what);
        true
    }
}
