//! The sender, driven by a virtual clock over a list of frames; each file is one concern of it.

use super::*;
use crate::remote_write::batch::{BatchLimits, Sends, UnknownTime};
use crate::remote_write::response::{DropReason, Head, Verdict};
use crate::remote_write::testkit::{Frames, Scrape, decode, limits};
use alloc::string::String;
use alloc::vec::Vec;

mod ahead;
mod batching;
mod flush;
mod message;
mod metadata;
mod refusals;
mod retries;
mod simulation;
mod slices;
mod times;

/// Wall time of boot time 0.
const EPOCH: i64 = 1_700_000_000_000;

const CONFIG: SenderConfig = SenderConfig {
    limits: BatchLimits {
        samples: 0,
        frame_samples: 300,
        ..limits(200)
    },
    max_samples_per_send: 100,
    backlog_samples_per_send: 100,
    flush_interval_ms: 5000,
    min_backoff_ms: 30,
    max_backoff_ms: 5000,
    connect_backoff_ms: 1000,
    rate_limit: 0,
    slow_start_ms: 60_000,
    live_share: 0,
    max_sample_age_ms: 0,
    retry_on_429: true,
    message: MessageChoice::Negotiate,
    group_live: false,
    metadata: MetadataConfig::OFF,
    unknown_time: UnknownTime::Hold,
    seed: 1,
};

const fn config() -> SenderConfig {
    CONFIG
}

const V1: MessageChoice = MessageChoice::Fixed(Protocol::V1);

struct Bench {
    sender: Sender,
    source: Frames,
    metadata: Metadata,
    now: Instant,
    /// Error of the clock.
    clock_ms: i64,
}

impl Bench {
    fn new(config: SenderConfig) -> Self {
        Self::replaying(config, 0)
    }

    fn replaying(config: SenderConfig, replay_until: u64) -> Self {
        Self {
            sender: Sender::new(
                config,
                Identity::new(&[], crate::relabel::Relabel::default()),
                FrameNo(0),
                FrameNo(replay_until),
            ),
            source: Frames::new(200),
            metadata: Metadata::new(0, 0),
            now: Instant(0),
            clock_ms: 0,
        }
    }

    /// Adds frames of `samples` + 5 samples each, one second apart from the present on.
    fn scrape(&mut self, frames: u64, samples: u16) {
        for i in 0..frames {
            let number = self.source.scrapes.len() as u64;
            let values: Vec<_> = (0..samples).map(|s| (s, i64::from(s) + 1)).collect();
            let time = EPOCH + self.clock_ms + (self.now.0 + i * 1000) as i64;
            self.source.scrapes.push(Scrape {
                boot_ms: self.clock_ms,
                ..Scrape::new(number, time, &values)
            });
        }
    }

    /// The clock is off by `error_ms` from now on: frames that wait get their times by it.
    fn set_clock(&mut self, error_ms: i64) {
        let was = self.wall();
        let by_ms = error_ms - core::mem::replace(&mut self.clock_ms, error_ms);
        for scrape in &mut self.source.scrapes {
            scrape.unix_ms = scrape.unix_ms.map(|unix_ms| unix_ms + by_ms);
            scrape.boot_ms += by_ms;
        }
        self.sender.clock_was(was.filter(|&was| Some(was) > self.wall()));
    }

    fn wall(&self) -> Option<UnixMillis> {
        Some(UnixMillis(EPOCH + self.clock_ms + self.now.0 as i64))
    }

    fn poll(&mut self) -> Action {
        let mut action = Action::Wait(self.now);
        while action == Action::Wait(self.now) {
            action = self
                .sender
                .poll(self.now, self.wall(), &mut self.source, &self.metadata)
                .expect("medium works");
        }
        action
    }

    /// Lets time pass until something is sent; returns the number of samples.
    fn send(&mut self) -> usize {
        loop {
            match self.poll() {
                Action::Send => return self.sender.request().samples,
                Action::Wait(at) | Action::Hold(_, at) if at.0 < u64::MAX => self.now = at,
                other => panic!("nothing to send: {other:?}"),
            }
        }
    }

    fn answer(&mut self, status: u16) -> Verdict {
        self.answer_with(Head::new(status))
    }

    fn answer_with(&mut self, head: Head) -> Verdict {
        let wall = self.wall();
        self.sender.on_response(self.now, wall, &head)
    }

    /// 2.0 success.
    fn accept(&mut self) -> Verdict {
        let samples = self.sender.request().samples as u32;
        self.answer_written(204, samples)
    }

    fn answer_written(&mut self, status: u16, written: u32) -> Verdict {
        let mut head = Head::new(status);
        let count = alloc::format!("{written}");
        head.header("X-Prometheus-Remote-Write-Samples-Written", count.as_bytes());
        self.answer_with(head)
    }

    fn acknowledged(&self) -> u64 {
        self.sender.acknowledged().0
    }

    fn sent_times(&self) -> Vec<i64> {
        let request = self.sender.request();
        let mut times: Vec<i64> = decode(request.body, request.protocol)
            .iter()
            .flat_map(|s| s.samples.iter().map(|&(_, t)| t))
            .collect();
        times.sort_unstable();
        times.dedup();
        times
    }
}
