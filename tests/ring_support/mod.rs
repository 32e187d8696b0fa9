//! What the ring tests share: a small world of targets and series, and frames that can be told apart.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod dump;
pub mod images;
pub mod life;

use tidegate::catalogue::{Catalogue, Definition, Names, SeriesText};
use tidegate::clock::{Instant, UnixMillis};
use tidegate::frame::{Frame, FrameNo, FrameSource, Next};
use tidegate::sample::{MetricType, Number, Sample, SeriesRef, TargetRef};
use tidegate::value::codec::CodecId;
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::testing::Ram;
use tidegate::wal::{Boot, ClockSource, RemoteConfig, Ring, RingConfig, WhenFull, format};

pub const MAX_SERIES: usize = 60;
pub const TEXT_BYTES: usize = 1000;
/// Room for what the samples of a frame carry.
pub const EXTRAS_BYTES: usize = 400;
pub const UUID: [u8; 16] = *b"tidegate ring 01";

pub fn geometry(block_bytes: u32, blocks: u32, slots: u32, medium: Medium) -> Geometry {
    Geometry {
        block_bytes,
        blocks_per_slot: blocks,
        slots,
        medium,
    }
}

pub fn config(geometry: &Geometry, remotes: usize) -> RingConfig {
    let overhead = if geometry.medium == Medium::Rewritable { 8192 } else { 0 };
    RingConfig {
        block_bytes: geometry.block_bytes,
        segment_bytes: geometry.segment_bytes(),
        ring_bytes: u64::from(geometry.segment_bytes()) * u64::from(geometry.slots) + overhead,
        codec: CodecId::Tc1,
        commit_interval_ms: 60_000,
        staging_blocks: 12,
        max_series: MAX_SERIES,
        max_frame_samples: 32,
        extras_bytes: EXTRAS_BYTES,
        text_bytes: TEXT_BYTES,
        remotes: (0..remotes as u32)
            .map(|id| RemoteConfig {
                id: id + 100,
                best_effort: false,
            })
            .collect(),
        when_full: WhenFull::DropOldest,
        config_crc: 7,
        compress: None,
    }
}

pub fn boot(number: u8, now: u64) -> Boot {
    Boot {
        id: [number; 16],
        now: Instant(now),
        wall: Some((UnixMillis(1_700_000_000_000 + now as i64), ClockSource::Synchronised)),
        error_ms: 5,
    }
}

pub fn catalogue() -> Catalogue {
    Catalogue::new(MAX_SERIES, TEXT_BYTES, 8)
}

pub fn formatted(geometry: Geometry, seed: u64) -> Ram {
    let mut ram = Ram::new(geometry, seed);
    format(&mut ram, UUID, 1, "test").expect("a blank medium takes a format");
    ram
}

/// A frame as a test remembers it: series by name, because indices are reused.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub number: u64,
    pub target: u8,
    pub up: bool,
    pub time_ms: u64,
    pub unix_ms: Option<i64>,
    pub duration: u32,
    pub counts: [u32; 3],
    pub samples: Vec<(String, u64)>,
    pub times: Vec<(u16, i64)>,
    pub stale: Vec<String>,
    pub extras: Vec<u8>,
}

pub fn name<'a>(names: impl Into<Names<'a>>, series: SeriesRef) -> String {
    named(&mut names.into(), series)
}

fn named(names: &mut Names<'_>, series: SeriesRef) -> String {
    match names.definition(series, TargetRef(0)) {
        Some(Definition { text, target, .. }) => format!("{}:{}{{{}}}", target.0, text.name, text.body),
        None => format!("undefined {}", series.0),
    }
}

pub fn tell<'a>(frame: &Frame, names: impl Into<Names<'a>>) -> Told {
    let mut names = names.into();
    Told {
        number: frame.number.0,
        target: frame.target.0,
        up: frame.up,
        time_ms: frame.time_ms,
        unix_ms: frame.unix_ms,
        duration: frame.duration_100us,
        counts: [frame.counts.scraped, frame.counts.post_relabel, frame.counts.added],
        samples: frame
            .samples
            .iter()
            .map(|sample| (named(&mut names, sample.series), sample.number.to_bits()))
            .collect(),
        times: frame
            .explicit
            .iter()
            .map(|time| (time.position, time.unix_ms))
            .collect(),
        stale: frame.stale.iter().map(|&series| named(&mut names, series)).collect(),
        extras: frame.extras.as_bytes().to_vec(),
    }
}

/// Two targets whose series come and go.
pub struct World {
    pub catalogue: Catalogue,
    pub rng: fastrand::Rng,
    /// Apart, so that what samples carry does not change what is scraped from a seed.
    carried: fastrand::Rng,
    pub frame: Frame,
    /// Series of each target that are scraped now, with their last value.
    pub series: [Vec<(SeriesRef, i64)>; 2],
    pub now: u64,
    pub coined: u32,
    pub churn: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            catalogue: catalogue(),
            rng: fastrand::Rng::with_seed(seed),
            carried: fastrand::Rng::with_seed(!seed),
            frame: Frame::with_extras(32, EXTRAS_BYTES),
            series: [Vec::new(), Vec::new()],
            now: 1_000,
            coined: 0,
            churn: true,
        };
        world.name_targets();
        world
    }

    pub fn name_targets(&mut self) {
        for target in 0..2u8 {
            let body = format!("instance=\"host{target}\",job=\"test\"");
            self.catalogue
                .set_target(TargetRef(target), &body)
                .expect("two targets fit");
        }
    }

    /// After a mount: what the catalogue holds goes on being scraped.
    pub fn adopt(&mut self) {
        self.name_targets();
        self.series = [Vec::new(), Vec::new()];
        for index in 0..MAX_SERIES as u16 {
            let series = SeriesRef(index);
            if let (true, Some(target)) = (self.catalogue.is_live(series), self.catalogue.target_of(series)) {
                let value = self.rng.i64(0..1000);
                // A foreign image may name other targets.
                if let Some(of_target) = self.series.get_mut(usize::from(target.0)) {
                    of_target.push((series, value));
                }
            }
        }
    }

    fn coin(&mut self, target: u8) {
        self.coined += 1;
        let name = format!("metric_{}", self.coined % 7);
        let body = format!("a=\"{}\",le=\"0.{}\"", self.coined, self.coined % 13);
        let text = SeriesText {
            name: &name,
            body: &body,
        };
        if let Ok(series) = self.catalogue.define(TargetRef(target), text, MetricType::Counter) {
            let value = self.rng.i64(-5..100_000);
            self.series[usize::from(target)].push((series, value));
        }
    }

    /// Scrapes a target into `self.frame`. `last` is the number the frame will have: what dies is referred to until then.
    pub fn scrape(&mut self, next: FrameNo) {
        self.now += self.rng.u64(1..3_000);
        let target = self.rng.u8(0..2);
        let place = usize::from(target);
        self.frame.reset(TargetRef(target), self.now);
        self.frame.duration_100us = self.rng.u32(0..50_000);
        let wanted = self.rng.usize(1..12);
        while self.series[place].len() < wanted && (self.churn || self.series[place].is_empty()) {
            let before = self.series[place].len();
            self.coin(target);
            if self.series[place].len() == before {
                break;
            }
        }
        if self.rng.u8(0..12) == 0 {
            // A mount may have found more than a frame takes.
            for &(series, _) in self.series[place].iter().take(24) {
                self.frame.stale.push(series).expect("at most 24");
            }
            return;
        }
        self.frame.up = true;
        if self.churn && self.rng.u8(0..4) == 0 && self.series[place].len() > 2 {
            let gone = self.rng.usize(0..self.series[place].len());
            let (series, _) = self.series[place].remove(gone);
            self.frame.stale.push(series).expect("the first");
            self.catalogue.release(series, next);
        }
        if self.rng.u8(0..16) == 0 {
            self.rng.shuffle(&mut self.series[place]);
        }
        for i in 0..self.series[place].len().min(24) {
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
            self.frame.samples.push(Sample { number, series }).expect("at most 24");
        }
        let n = self.frame.samples.len() as u32;
        self.frame.counts.scraped = n;
        self.frame.counts.post_relabel = n;
        if self.rng.u8(0..5) == 0 {
            self.frame.counts.added = self.rng.u32(0..9);
        }
        if self.rng.u8(0..8) == 0 && n > 1 {
            for position in [0, n as u16 - 1] {
                let unix_ms = self.rng.i64(0..2_000_000_000_000);
                let time = tidegate::frame::ExplicitTime { position, unix_ms };
                self.frame.explicit.push(time).expect("two");
            }
        }
        if self.carried.u8(0..4) == 0 {
            self.carry(n as u16);
        }
    }

    /// Gives samples of `self.frame`, which has `n`, something to carry.
    fn carry(&mut self, n: u16) {
        let (extras, rng) = (&mut self.frame.extras, &mut self.carried);
        for position in 0..n {
            let unix_ms = rng.i64(0..2_000_000_000_000);
            let message = [rng.u8(..); 40];
            let carried = match rng.u8(0..6) {
                0 => extras.push_histogram(position, &message[..rng.usize(1..40)]),
                1 => extras.push_exemplar(position, Some(unix_ms), rng.u64(..), "trace_id=\"a\""),
                2 => extras.push_start_time(position, unix_ms),
                _ => Ok(()),
            };
            if carried.is_err() {
                return;
            }
        }
    }
}

/// Appends one scrape of the world; the frame as it has to be read again.
pub fn append(ring: &mut Ring<Ram>, world: &mut World) -> Told {
    world.scrape(ring.next_frame());
    let number = ring.append(&world.frame, &mut world.catalogue).expect("room");
    let mut told = tell(&world.frame, &mut world.catalogue);
    told.number = number.0;
    told.unix_ms = ring.unix_ms(told.time_ms);
    told
}

/// Everything remote `remote` can read from frame `from` on.
pub fn read_all(ring: &mut Ring<Ram>, catalogue: &mut Catalogue, remote: usize, from: FrameNo) -> Vec<Told> {
    let mut frame = Frame::with_extras(32, EXTRAS_BYTES);
    let mut all = Vec::new();
    let mut source = ring.source(remote, catalogue);
    source.seek(from);
    loop {
        match source.next(&mut frame).expect("the ring counts, it does not fail") {
            Next::Frame => all.push(tell(&frame, source.names())),
            Next::Boundary => {}
            Next::End => break,
        }
    }
    // Nothing is in hand: what the ring gives up now is lost.
    source.seek(from);
    all
}
