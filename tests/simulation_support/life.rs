//! What is done to a machine from outside, and the judgement at the end.

use super::ledger::{Account, Cut, Verdict};
use super::{SenderCounts, World};
use tidegate::wal::storage::Storage as _;
use tidegate::wal::testing::{Outcome as Fate, Ram};
use tidegate::wal::{ClockSource, Loss, Reason};

impl World {
    /// The power goes, and comes back after `off_ms`. What was written and not synced is lost, whole, or torn.
    pub fn cut_power(&mut self, off_ms: u64) {
        self.interrupt();
        let ram = self.end_process();
        let fates: Vec<Fate> = (0..ram.pending())
            .map(|_| Fate::ALL[self.random.usize(..Fate::ALL.len())])
            .collect();
        let mut ram = ram.crash(&fates, self.random.u64(..));
        mend(&mut ram);
        self.now += off_ms.max(1);
        self.leave_untold();
        self.clock_error_ms = self.setup.clock_at_boot.then_some(0);
        self.may_regress |= self.clock_error_ms.is_some() && self.clock_error_ms < self.untold_error_ms;
        self.boot();
        self.restart(ram);
    }

    /// What was sent up to now may be nowhere on flash: a clock that is farther behind later may repeat it.
    fn leave_untold(&mut self) {
        self.untold_error_ms = self.untold_error_ms.max(self.clock_error_ms);
    }

    /// The process is killed and started again; the machine stays up.
    pub fn kill(&mut self, off_ms: u64) {
        self.interrupt();
        let ram = self.end_process();
        self.leave_untold();
        // The system writes what the process gave it.
        let mut ram = ram.crash(&vec![Fate::Whole; ram.pending()], 1);
        mend(&mut ram);
        self.now += off_ms;
        self.restart(ram);
    }

    /// Frames not committed are gone; none of them may be older than the commit interval.
    pub(super) fn interrupt(&mut self) {
        let slack = self.setup.commit_interval_ms + u64::from(self.setup.interval_ms) + self.setup.sync_ms * 4;
        // A medium in trouble takes nothing until a commit succeeds.
        let since = self.storage_trouble.take().unwrap_or(self.now);
        self.ledger.cuts.push(Cut {
            at: self.now,
            safe_until: since.saturating_sub(slack),
        });
    }

    /// An orderly stop, by signal or for a new configuration, and a start. Requests under way come to their end or not.
    pub fn reload(&mut self, off_ms: u64) {
        while let Some(scraping) = self.process.as_mut().expect("running").scraping.pop() {
            self.end_scrape(scraping);
        }
        let deadline = self.instant() + 5_000;
        self.agent().flush(deadline);
        self.process.as_mut().expect("running").wake.fill(0);
        let until = self.now + 5_000;
        while self.now < until {
            while self.end_syncs() | self.take_answers() | self.poll_remotes() {}
            let process = self.process.as_ref().expect("running");
            if process.waiting.iter().all(Option::is_none) && process.wake.iter().all(|&wake| wake == u64::MAX) {
                break;
            }
            self.now = self.next_event().clamp(self.now + 1, until);
        }
        if self.process.as_mut().expect("running").syncing.take().is_some() {
            let process = self.process.as_mut().expect("running");
            let result = process.agent.ring_mut().storage_mut().sync();
            process.agent.synced(result);
        }
        if self.agent().close().is_err() {
            self.interrupt();
        }
        let ram = self.end_process();
        let ram = ram.crash(&[], 1);
        self.now += off_ms;
        self.restart(ram);
    }

    pub(super) fn restart(&mut self, ram: Ram) {
        self.ledger.in_parts = self.setup.slices;
        self.ledger.times_forgotten = true;
        self.start(ram);
    }

    /// Sums up what the process has counted, and takes its medium.
    pub(super) fn end_process(&mut self) -> Ram {
        self.settle_counts();
        let process = self.process.take().expect("running");
        process.agent.into_ring().into_storage()
    }

    pub(super) fn settle_counts(&mut self) {
        let process = self.process.as_mut().expect("running");
        for (counts, sender) in self.sender_counts.iter_mut().zip(process.agent.senders()) {
            counts.add(sender);
        }
        let counters = *process.agent.ring().counters();
        for (place, total) in self.ring_losses.iter_mut().enumerate() {
            total.frames += counters.losses[place].frames - process.losses[place].frames;
            total.samples += counters.losses[place].samples - process.losses[place].samples;
        }
        process.losses = counters.losses;
        self.ledger.times_forgotten |= self.ring_losses.iter().any(|loss| loss.frames > 0);
        self.ended_with = counters.losses;
        self.blocks_written += counters.blocks_written;
        self.commits += counters.commits;
    }

    /// The machine's clock is off by `error_ms` from now on, and the agent hears of it.
    pub fn set_clock(&mut self, error_ms: i64) {
        self.may_regress |= self.untold_error_ms.is_some_and(|untold| error_ms < untold);
        if self.clock_error_ms.is_none() {
            let boot = self.ledger.offsets.len() - 1;
            self.ledger.learnt.push((boot, self.now));
        }
        self.clock_error_ms = Some(error_ms);
        let now = self.instant();
        let wall = self.clock_says().expect("just set");
        self.agent().clock(now, wall, ClockSource::Synchronised, 5);
        self.process.as_mut().expect("running").wake.fill(0);
    }

    /// The next `calls` changes of the medium fail.
    pub fn break_storage(&mut self, calls: u64) {
        let ram = self.agent().ring_mut().storage_mut();
        ram.fail_from = ram.changes;
        ram.fail_to = ram.changes.saturating_add(calls);
        self.storage_trouble.get_or_insert(self.now);
    }

    pub fn mend_storage(&mut self) {
        mend(self.agent().ring_mut().storage_mut());
    }

    /// Everything is well again: runs until nothing is left to send, at most `limit_ms`.
    pub fn drain(&mut self, limit_ms: u64) {
        let until = self.now + limit_ms;
        loop {
            self.run(20_000);
            let next = self.agent().ring().next_frame();
            let remotes = self.setup.remotes.len();
            // All but what was scraped just now.
            let left = |remote: usize, world: &mut Self| next.0 - world.agent().ring().acknowledged(remote).0;
            let paced = self.agent().senders().iter().any(|sender| sender.speed().is_some());
            if !paced && (0..remotes).all(|remote| left(remote, self) <= 6) {
                return;
            }
            let ends: Vec<_> = (0..remotes)
                .map(|remote| self.agent().ring().acknowledged(remote))
                .collect();
            let offsets = &self.ledger.offsets;
            assert!(
                self.now < until,
                "not drained: at {ends:?} of {next:?}, clocks {offsets:?}"
            );
        }
    }

    /// Stops scraping and sends the rest.
    pub fn finish(&mut self) {
        while let Some(scraping) = self.process.as_mut().expect("running").scraping.pop() {
            self.end_scrape(scraping);
        }
        self.process.as_mut().expect("running").idle.clear();
        self.run(40_000);
        let next = self.agent().ring().next_frame();
        for remote in 0..self.setup.remotes.len() {
            let acknowledged = self.agent().ring().acknowledged(remote);
            // What others have had does not wait for a best-effort remote; its acknowledgement goes over it with the next frame.
            let may_lag = self.setup.remotes[remote].best_effort;
            assert!(
                acknowledged == next || may_lag,
                "remote {remote}: {acknowledged:?} of {next:?}"
            );
        }
        self.settle_counts();
    }

    pub fn counts(&self, remote: usize) -> &SenderCounts {
        &self.sender_counts[remote]
    }

    pub fn ring_loss(&self, reason: Reason) -> &Loss {
        &self.ring_losses[reason as usize]
    }

    /// Losses by reason, as the rings counted them.
    fn loss_words(&self) -> Vec<(&'static str, u64, u64)> {
        let words = Reason::ALL.map(|reason| (reason.as_str(), self.ring_loss(reason)));
        let lost = words.iter().filter(|(_, loss)| loss.frames + loss.samples > 0);
        lost.map(|(word, loss)| (*word, loss.frames, loss.samples)).collect()
    }

    /// Every scraped sample is at every remote that holds the tail, or counted as lost, or was not committed when the
    /// power went.
    pub fn check(&self) {
        let frames: u64 = self.ring_losses.iter().map(|loss| loss.frames).sum();
        let samples: u64 = self.ring_losses.iter().map(|loss| loss.samples).sum();
        for (remote, config) in self.setup.remotes.iter().enumerate() {
            let verdict = self.judge(remote);
            let counts = self.counts(remote);
            let context = format!(
                "remote {remote} {config:?}: {verdict:?} {counts:?} {:?}",
                self.loss_words()
            );
            // A best-effort remote may have had the first part of a frame when the others had all of it.
            assert!(
                verdict.partial == 0 || config.best_effort,
                "part of a frame is gone: {context}"
            );
            assert_eq!(counts.unknown_series, 0, "{context}");
            assert!(verdict.refused <= counts.failed + counts.in_doubt, "{context}");
            if self.receivers[remote].poison.is_none() && !self.may_regress {
                assert_eq!(verdict.refused, 0, "a receiver's doubts cost samples: {context}");
            }
            let dropped = counts.too_old + counts.clock + counts.too_large;
            if dropped == 0 && !config.best_effort {
                assert!(verdict.lost_frames <= frames, "lost and not counted: {context}");
                let slack = if config.live_share > 0 {
                    samples / 50 + self.proportion_error(verdict.lost_frames)
                } else {
                    0
                };
                assert!(
                    verdict.lost_samples <= samples + slack,
                    "lost and not counted: {context}"
                );
            }
        }
    }

    /// Of a group of frames that were given up after a write error, and of which some went ahead, the ring knows how many are lost, and of
    /// their samples the share that falls to as many: that is wrong as far as frames differ.
    fn proportion_error(&self, frames: u64) -> u64 {
        if self.ring_loss(Reason::WriteError).frames == 0 {
            return 0;
        }
        let samples = self.ledger.frames.iter().map(|told| told.samples);
        let (least, most) = (samples.clone().min().unwrap_or(0), samples.max().unwrap_or(0));
        frames * (most - least)
    }

    /// What became of everything, as remote `remote` has it.
    pub fn judge(&self, remote: usize) -> Verdict {
        let account = Account {
            stored: self.receivers[remote].stored.clone(),
            refused: self.refused[remote].clone(),
            live_share: self.setup.remotes[remote].live_share > 0,
            best_effort: self.setup.remotes[remote].best_effort,
        };
        self.ledger.judge(&account, self.may_regress)
    }
}

fn mend(ram: &mut Ram) {
    ram.fail_from = u64::MAX;
    ram.fail_to = u64::MAX;
}

impl World {
    /// Every sample of boot `boot` that arrived has its true time.
    pub fn exact(&self, remote: usize, boot: usize) {
        let mut seen = 0;
        for (frame, sent) in self.ledger.arrived(&self.receivers[remote].stored) {
            if frame.boot == boot {
                assert_eq!(sent, self.ledger.begun[boot] + frame.time_ms as i64);
                seen += 1;
            }
        }
        assert!(seen > 100, "{seen} frames of boot {boot}");
    }

    /// The scrapes of boot `boot` that arrived keep their distances: one offset holds for all.
    pub fn evenly(&self, remote: usize, boot: usize, interval_ms: i64) {
        let arrived = self.ledger.arrived(&self.receivers[remote].stored);
        let offsets = arrived.iter().filter(|(frame, _)| frame.boot == boot);
        let offsets: Vec<i64> = offsets.map(|(frame, sent)| sent - frame.time_ms as i64).collect();
        assert!(offsets.len() > 100);
        assert!(offsets.iter().all(|offset| *offset == offsets[0]), "{offsets:?}");
        let late = offsets[0] - self.ledger.begun[boot];
        assert!(late >= -1, "placed {late} ms before its time");
        let next = self.ledger.begun[boot + 1];
        let last = arrived
            .iter()
            .filter(|(frame, _)| frame.boot == boot)
            .map(|(_, sent)| *sent)
            .max();
        let gap = next - last.expect("some");
        assert!(gap > 0 || late > interval_ms, "boots overlap: {gap}");
    }
}
