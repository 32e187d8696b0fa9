//! A fleet under a virtual clock: many senders, one receiver, one outage of the whole region.
//!
//! Every agent is a real [`Sender`] with its own seed; only its ring is made up (a scrape of [`SAMPLES`] samples and five
//! synthetic ones per interval, computed from its number). The receiver is one queue: it works off [`Plan::capacity`] times
//! the steady load, an answer waits for the work before it, and what would wait more than two seconds is refused with
//! 503. In the outage every attempt to connect fails.
//!
//! What arrives in a second is counted whether it is taken or refused.

#[path = "../common/sending.rs"]
mod sending;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tidegate::catalogue::{Catalogue, Names, SeriesText};
use tidegate::clock::{Instant, UnixMillis};
use tidegate::frame::{Frame, FrameNo, FrameSource, Next, ScrapeCounts};
use tidegate::metadata::Metadata;
use tidegate::relabel::Relabel;
use tidegate::remote_write::identity::Identity;
use tidegate::remote_write::response::{Head, Protocol};
use tidegate::remote_write::sender::{Action, ErrorKind, MessageChoice, Sender, SenderConfig};
use tidegate::sample::{MetricType, Number, Sample, SeriesRef, TargetRef};

/// Samples of a scrape besides the synthetic ones.
const SAMPLES: u16 = 5;
/// What a scrape puts on the wire.
const PER_SCRAPE: u64 = SAMPLES as u64 + 5;
const EPOCH_MS: i64 = 1_750_000_000_000;
/// Time a request takes when the receiver has nothing else to do.
const ROUND_TRIP_MS: u64 = 40;
/// Work that may wait at the receiver.
const QUEUE_MS: u64 = 2_000;

/// What happens.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub agents: usize,
    pub interval_ms: u64,
    /// Steady load before the outage.
    pub steady_ms: u64,
    pub outage_ms: u64,
    /// Watched after the return.
    pub after_ms: u64,
    /// What the receiver can take, in thousandths of the steady load.
    pub capacity: u64,
    /// `Retry-After` of its refusals, if any.
    pub retry_after_s: Option<u64>,
    pub slow_start_ms: u64,
    /// Thousandths of the link for fresh samples.
    pub live_share: u16,
    /// All agents have lost power, too, and start together when it returns.
    pub restarted: bool,
}

/// One second of the receiver's life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    pub requests: u64,
    /// Samples that arrived, taken or refused.
    pub samples: u64,
    pub refused: u64,
    /// Agents that have more than two scrapes to send, as of its end.
    pub behind: u64,
    /// Work waiting, milliseconds, at its end.
    pub queue_ms: u64,
}

/// What came of it.
pub struct Run {
    pub seconds: Vec<Second>,
    /// Second of the return.
    pub back: usize,
    pub duplicates: u64,
    pub missing: u64,
}

struct Scrapes<'a> {
    catalogue: &'a mut Catalogue,
    position: u64,
    /// Scrapes up to now.
    end: u64,
    phase_ms: u64,
    interval_ms: u64,
}

impl FrameSource for Scrapes<'_> {
    type Error = std::convert::Infallible;

    fn next(&mut self, frame: &mut Frame) -> Result<Next, Self::Error> {
        if self.position >= self.end {
            return Ok(Next::End);
        }
        let time_ms = self.phase_ms + self.position * self.interval_ms;
        frame.reset(TargetRef(0), time_ms);
        frame.number = FrameNo(self.position);
        frame.up = true;
        frame.unix_ms = Some(EPOCH_MS + time_ms as i64);
        frame.counts = ScrapeCounts {
            scraped: u32::from(SAMPLES),
            post_relabel: u32::from(SAMPLES),
            added: 0,
        };
        for series in 0..SAMPLES {
            let sample = Sample {
                number: Number::decimal(self.position as i64, 0),
                series: SeriesRef(series),
            };
            frame.samples.push(sample).expect("frames are made for it");
        }
        self.position += 1;
        Ok(Next::Frame)
    }

    fn seek(&mut self, at: FrameNo) {
        self.position = at.0;
    }

    fn names(&mut self) -> Names<'_> {
        Names::Catalogue(self.catalogue)
    }
}

struct Agent {
    sender: Sender,
    phase_ms: u64,
    position: u64,
    /// Outcome of the request under way: refused, or taken.
    answer: Option<Result<Head, ErrorKind>>,
    /// Frames the receiver has.
    stored: u64,
}

/// The receiver's queue.
struct Receiver {
    /// Microseconds of work per sample.
    work_us: u64,
    busy_until_us: u64,
    retry_after: Option<String>,
}

impl Receiver {
    /// When it answers, and what.
    fn receive(&mut self, now_ms: u64, samples: u64) -> (u64, Head) {
        let now_us = now_ms * 1000;
        let begins = self.busy_until_us.max(now_us);
        if begins - now_us > QUEUE_MS * 1000 {
            let mut head = Head::new(503);
            if let Some(seconds) = &self.retry_after {
                head.header("Retry-After", seconds.as_bytes());
            }
            return (now_ms + ROUND_TRIP_MS, head);
        }
        self.busy_until_us = begins + samples * self.work_us;
        (self.busy_until_us / 1000 + ROUND_TRIP_MS, Head::new(204))
    }
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::new(usize::from(SAMPLES), 2_000, 4);
    catalogue
        .set_target(TargetRef(0), r#"instance="box",job="node""#)
        .expect("fits");
    for series in 0..SAMPLES {
        let name = format!("metric_{series}");
        let text = SeriesText { name: &name, body: "" };
        catalogue.define(TargetRef(0), text, MetricType::Gauge).expect("fits");
    }
    catalogue
}

fn sender(plan: &Plan, number: usize, first: u64, replay: u64) -> Sender {
    let config = SenderConfig {
        max_samples_per_send: 20,
        slow_start_ms: plan.slow_start_ms,
        live_share: plan.live_share,
        message: MessageChoice::Fixed(Protocol::V1),
        seed: number as u64 * 7_919 + 1,
        ..sending::remote(usize::from(SAMPLES), 1)
    };
    let identity = Identity::new(&[], Relabel::default());
    Sender::new(config, identity, FrameNo(first), FrameNo(replay))
}

/// Lets it happen.
pub fn run(plan: &Plan) -> Run {
    let mut catalogue = catalogue();
    let metadata = Metadata::new(0, 0);
    let (down, up) = (plan.steady_ms, plan.steady_ms + plan.outage_ms);
    let until = up + plan.after_ms;
    let steady = plan.agents as u64 * PER_SCRAPE * 1_000_000 / plan.interval_ms;
    let mut receiver = Receiver {
        work_us: 1_000_000 * 1_000_000 / (steady * plan.capacity),
        busy_until_us: 0,
        retry_after: plan.retry_after_s.map(|seconds| seconds.to_string()),
    };
    let mut agents: Vec<Agent> = (0..plan.agents)
        .map(|number| Agent {
            sender: sender(plan, number, 0, 0),
            phase_ms: number as u64 * plan.interval_ms / plan.agents as u64,
            position: 0,
            answer: None,
            stored: 0,
        })
        .collect();
    let mut seconds = vec![Second::default(); (until / 1000) as usize + 1];
    let mut events: BinaryHeap<Reverse<(u64, usize)>> = agents
        .iter()
        .enumerate()
        .map(|(number, agent)| Reverse((agent.phase_ms, number)))
        .collect();
    let (mut clock, mut duplicates, mut restarted) = (0, 0, false);
    while let Some(Reverse((now, number))) = events.pop() {
        if now / 1000 > clock {
            for second in clock..now / 1000 {
                let behind = |agent: &&Agent| scraped(agent.phase_ms, plan, now) > agent.sender.acknowledged().0 + 2;
                if let Some(second) = seconds.get_mut(second as usize) {
                    second.behind = agents.iter().filter(behind).count() as u64;
                    second.queue_ms = (receiver.busy_until_us / 1000).saturating_sub(now);
                }
            }
            clock = now / 1000;
        }
        if now >= until {
            break;
        }
        if plan.restarted && now >= up && !restarted {
            restarted = true;
            events.clear();
            for (number, agent) in agents.iter_mut().enumerate() {
                let (first, scraped) = (agent.sender.acknowledged().0, scraped(agent.phase_ms, plan, now));
                agent.sender = sender(plan, number + plan.agents, first, scraped);
                agent.answer = None;
                events.push(Reverse((up, number)));
            }
            continue;
        }
        let agent = &mut agents[number];
        let (instant, wall) = (Instant(now), Some(UnixMillis(EPOCH_MS + now as i64)));
        match agent.answer.take() {
            Some(Ok(head)) => drop(agent.sender.on_response(instant, wall, &head)),
            Some(Err(kind)) => agent.sender.on_error(instant, kind),
            None => {}
        }
        let mut source = Scrapes {
            catalogue: &mut catalogue,
            position: agent.position,
            end: scraped(agent.phase_ms, plan, now),
            phase_ms: agent.phase_ms,
            interval_ms: plan.interval_ms,
        };
        let next_scrape = agent.phase_ms + source.end * plan.interval_ms;
        let action = loop {
            let action = agent.sender.poll(instant, wall, &mut source, &metadata);
            match action.expect("it cannot fail") {
                Action::Wait(at) if at <= instant => {}
                action => break action,
            }
        };
        agent.position = source.position;
        let wake = match action {
            Action::Send if (down..up).contains(&now) => {
                agent.answer = Some(Err(ErrorKind::Connect));
                now + 1
            }
            Action::Send => {
                let samples = agent.sender.request().samples as u64;
                let (at, head) = receiver.receive(now, samples);
                let second = &mut seconds[(now / 1000) as usize];
                second.requests += 1;
                second.samples += samples;
                if head.status == 204 {
                    let end = agent.sender.acknowledged().0 + samples / PER_SCRAPE;
                    duplicates += agent.stored.saturating_sub(agent.sender.acknowledged().0);
                    agent.stored = agent.stored.max(end);
                } else {
                    second.refused += 1;
                }
                agent.answer = Some(Ok(head));
                at
            }
            Action::Wait(at) | Action::Hold(_, at) => at.0.min(next_scrape),
            Action::InFlight | Action::Done => unreachable!("{action:?}"),
        };
        events.push(Reverse((wake.max(now + 1), number)));
    }
    Run {
        back: (up / 1000) as usize,
        duplicates,
        missing: agents
            .iter()
            .map(|agent| scraped(agent.phase_ms, plan, until - 30_000).saturating_sub(agent.stored))
            .sum(),
        seconds,
    }
}

/// Scrapes of an agent with this phase by `now`.
fn scraped(phase_ms: u64, plan: &Plan, now: u64) -> u64 {
    now.checked_sub(phase_ms)
        .map_or(0, |since| since / plan.interval_ms + 1)
}

/// Mean of the steady load, and the largest mean over `window` seconds after the return: requests, samples.
pub fn loads(run: &Run, window: usize) -> ((f64, f64), (f64, f64)) {
    let mean = |seconds: &[Second]| {
        let sum = |of: fn(&Second) -> u64| seconds.iter().map(of).sum::<u64>() as f64 / seconds.len() as f64;
        (sum(|second| second.requests), sum(|second| second.samples))
    };
    let last = run.seconds.len() - 1;
    let worst = run.seconds[run.back..last]
        .windows(window)
        .map(mean)
        .fold((0.0_f64, 0.0_f64), |a, b| (a.0.max(b.0), a.1.max(b.1)));
    // The first half minute is not steady yet; the outage begins at the end.
    let steady = &run.seconds[30..];
    let quiet = steady
        .iter()
        .position(|second| second.requests == 0)
        .unwrap_or(steady.len());
    (mean(&steady[..quiet.saturating_sub(1)]), worst)
}
