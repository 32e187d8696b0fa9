//! A very small world to scrape, and the prints by which its frames are known again.

use super::{Setup, ring_support};
use tidegate::catalogue::{Catalogue, Names, SeriesText};
use tidegate::frame::{ExplicitTime, Frame, FrameNo};
use tidegate::hash::hash64;
use tidegate::sample::{MetricType, Number, Sample, SeriesRef, TargetRef};

/// How much there is to scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub series: usize,
    pub text_bytes: usize,
    /// Samples of a frame.
    pub samples: usize,
}

pub const SMALL: Size = Size {
    series: 5,
    text_bytes: 110,
    samples: 3,
};
pub const LARGE: Size = Size {
    series: 14,
    text_bytes: 320,
    samples: 8,
};
const TARGETS: u8 = 2;
const BODIES: [&str; 2] = ["instance=\"a\",job=\"x\"", "instance=\"b\",job=\"x\""];
const NAMES: [&str; 5] = ["up_time", "http_requests_total", "q", "load", "node_cpu_seconds_total"];

/// Two targets whose series come and go.
pub struct World {
    pub size: Size,
    pub catalogue: Catalogue,
    pub frame: Frame,
    pub rng: fastrand::Rng,
    series: [Vec<(SeriesRef, i64)>; TARGETS as usize],
    pub now: u64,
    coined: u32,
    /// Of 256 scrapes, how many lose a series.
    pub churn: u8,
}

impl World {
    pub fn new(size: Size, seed: u64) -> Self {
        Self {
            size,
            catalogue: Catalogue::new(size.series, size.text_bytes, 4),
            frame: Frame::with_capacity(size.samples),
            rng: fastrand::Rng::with_seed(seed),
            series: [Vec::new(), Vec::new()],
            now: 1_000,
            coined: seed as u32 % 1000,
            churn: 24,
        }
    }

    /// After a mount: what the catalogue holds goes on being scraped.
    pub fn adopt(&mut self) {
        for (target, body) in BODIES.iter().enumerate() {
            self.catalogue
                .set_target(TargetRef(target as u8), body)
                .expect("two short bodies fit");
        }
        self.series.iter_mut().for_each(Vec::clear);
        for index in 0..self.size.series as u16 {
            let series = SeriesRef(index);
            if let (true, Some(target)) = (self.catalogue.is_live(series), self.catalogue.target_of(series)) {
                self.series[usize::from(target.0)].push((series, i64::from(index) * 10));
            }
        }
    }

    fn coin(&mut self, target: u8) {
        self.coined += 1;
        let at = self.coined as usize;
        let mut body = *b"le=\"000\"";
        for (place, digit) in [100, 10, 1].into_iter().enumerate() {
            body[4 + place] = b'0' + (self.coined / digit % 10) as u8;
        }
        let text = SeriesText {
            name: NAMES[at % NAMES.len()],
            body: std::str::from_utf8(&body).expect("digits"),
        };
        let kind = [MetricType::Counter, MetricType::Gauge][at % 2];
        if let Ok(series) = self.catalogue.define(TargetRef(target), text, kind)
            && !self.series[usize::from(target)]
                .iter()
                .any(|&(known, _)| known == series)
        {
            let value = self.rng.i64(-5..100_000);
            self.series[usize::from(target)].push((series, value));
        }
    }

    /// Scrapes a target into `self.frame`; `next` is the number the frame will have.
    pub fn scrape(&mut self, next: FrameNo) {
        self.now += self.rng.u64(1..3_000);
        let target = self.rng.u8(0..TARGETS);
        let place = usize::from(target);
        self.frame.reset(TargetRef(target), self.now);
        self.frame.duration_100us = self.rng.u32(0..50_000);
        if self.series[place].len() < 1 + self.rng.usize(0..self.size.samples.min(6)) {
            self.coin(target);
        }
        if self.rng.u8(0..14) == 0 {
            for &(series, _) in self.series[place].iter().take(self.size.samples) {
                self.frame.stale.push(series).expect("room for as many");
            }
            return;
        }
        self.frame.up = true;
        if self.rng.u8(..) < self.churn && self.series[place].len() > 1 {
            let gone = self.rng.usize(0..self.series[place].len());
            let (series, _) = self.series[place].remove(gone);
            self.frame.stale.push(series).expect("the first");
            self.catalogue.release(series, next);
        }
        for i in 0..self.series[place].len().min(self.size.samples) {
            let (series, value) = &mut self.series[place][i];
            if self.rng.bool() {
                *value += self.rng.i64(-3..50);
            }
            let number = match self.rng.u8(0..20) {
                0 => Number::STALE,
                1 => Number::from_raw_bits(self.rng.u64(..)),
                2 => Number::decimal(*value * 10 + 1, -1),
                _ => Number::decimal(*value, 0),
            };
            let series = *series;
            self.frame
                .samples
                .push(Sample { number, series })
                .expect("room for as many");
        }
        self.decorate();
    }

    /// Counts, and now and then timestamps.
    fn decorate(&mut self) {
        let n = self.frame.samples.len() as u32;
        self.frame.counts.scraped = n;
        self.frame.counts.post_relabel = n;
        if self.rng.u8(0..5) == 0 {
            self.frame.counts.added = self.rng.u32(0..9);
        }
        if self.rng.u8(0..8) == 0 && n > 0 {
            let unix_ms = self.rng.i64(0..2_000_000_000_000);
            self.frame
                .explicit
                .push(ExplicitTime { position: 0, unix_ms })
                .expect("one");
        }
    }
}

/// Stands for everything a frame says, with series by name, but for its number and wall time.
pub fn print<'a>(frame: &Frame, names: impl Into<Names<'a>>) -> u64 {
    print_with(frame, names, None)
}

/// As [`print`], with names that were looked up before and, as the reader says, are still those.
pub fn print_with<'a>(frame: &Frame, names: impl Into<Names<'a>>, mut seen: Option<&mut Seen>) -> u64 {
    let mut names = names.into();
    if let Some(seen) = &mut seen {
        seen.hold(names.generation());
    }
    let target = frame.target;
    let body = |names: &mut Names<'_>| {
        let body = names.target_body(target).unwrap_or("cannot be read");
        hash64(1, body.as_bytes())
    };
    let mut print = match &mut seen {
        Some(seen) => *seen.targets[usize::from(target.0)].get_or_insert_with(|| body(&mut names)),
        None => body(&mut names),
    };
    let mut mix = |value: u64| print = (print.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mix(u64::from(target.0) << 1 | u64::from(frame.up));
    mix(frame.time_ms);
    mix(frame.duration_100us.into());
    mix(u64::from(frame.counts.scraped) << 40
        | u64::from(frame.counts.post_relabel) << 20
        | u64::from(frame.counts.added));
    let mut look = |series: SeriesRef| {
        names.definition(series, target).map_or(0, |found| {
            let name = hash64(found.kind as u64, found.text.name.as_bytes());
            hash64(name, found.text.body.as_bytes())
        })
    };
    let mut named = |series: SeriesRef| match seen
        .as_mut()
        .and_then(|seen| seen.series.get_mut(usize::from(series.0)))
    {
        Some(known) => *known.get_or_insert_with(|| look(series)),
        None => look(series),
    };
    for sample in frame.samples.iter() {
        mix(named(sample.series));
        mix(sample.number.to_bits());
    }
    for time in frame.explicit.iter() {
        mix(u64::from(time.position) ^ time.unix_ms as u64);
    }
    for &series in frame.stale.iter() {
        mix(named(series) ^ 1);
    }
    print
}

/// What names and labels were, by hash, since the reader last said that they may have changed.
#[derive(Debug, Default)]
pub struct Seen {
    generation: Option<u32>,
    series: [Option<u64>; LARGE.series],
    targets: [Option<u64>; 4],
}

impl Seen {
    fn hold(&mut self, generation: u32) {
        if self.generation != Some(generation) {
            *self = Self {
                generation: Some(generation),
                ..Self::default()
            };
        }
    }
}

/// The configuration that goes with [`World`].
pub fn config(setup: &Setup) -> tidegate::wal::RingConfig {
    let mut config = ring_support::config(&setup.geometry, setup.remotes.into());
    config.codec = setup.codec;
    config.staging_blocks = setup.staging_blocks;
    config.max_series = setup.size.series;
    config.max_frame_samples = setup.size.samples;
    config.text_bytes = setup.size.text_bytes;
    config.when_full = setup.when_full;
    config.config_crc = setup.config_crc;
    for remote in config.remotes.iter_mut().skip(1) {
        remote.best_effort = setup.best_effort;
    }
    config
}
