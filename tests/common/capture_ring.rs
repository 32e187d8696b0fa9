//! Plays recorded scrapes into a ring, over and over if need be, as the agent would append them.
#![allow(dead_code, reason = "each test binary uses its part")]

use crate::capture::{Capture, canonical};
use tidegate::catalogue::{Catalogue, SeriesText};
use tidegate::clock::Instant;
use tidegate::frame::{Frame, FrameNo};
use tidegate::sample::{Form, Number, Sample, SeriesRef, TargetRef};

/// Boot time of the first scrape, milliseconds.
const FIRST_MS: u64 = 60_000;

/// What a scrape takes.
const DURATION_100US: u32 = 128;

/// A capture without end: behind its last scrape it begins again, every series moved on by what it changed from its first to its
/// last scrape, so that counters go on counting and gauges stay about where they were.
pub struct Player<'a> {
    capture: &'a Capture,
    target: TargetRef,
    texts: Vec<(String, String)>,
    first: Vec<Option<Number>>,
    last: Vec<Option<Number>>,
    /// Where each series is in the catalogue while it is scraped.
    defined: Vec<Option<SeriesRef>>,
    seen: Vec<u64>,
    /// Scrapes played.
    pub played: u64,
    at: usize,
    pass: i64,
    /// Boot time of the last scrape.
    pub now: Instant,
    pub frame: Frame,
}

impl<'a> Player<'a> {
    /// `target` is told to the catalogue with labels `instance` and `job`.
    pub fn new(capture: &'a Capture, target: TargetRef, catalogue: &mut Catalogue) -> Self {
        let body = format!("instance=\"127.0.0.1:91{:02}\",job=\"capture{}\"", target.0, target.0);
        catalogue.set_target(target, &body).expect("room for the target");
        let mut first = vec![None; capture.series.len()];
        let mut last = first.clone();
        for sample in capture.scrapes.iter().flatten() {
            let place = usize::from(sample.series.0);
            first[place].get_or_insert(sample.number);
            last[place] = Some(sample.number);
        }
        let largest = capture.scrapes.iter().map(Vec::len).max().unwrap_or(0);
        Self {
            texts: capture.series.iter().map(|text| canonical(text)).collect(),
            defined: vec![None; first.len()],
            seen: vec![0; first.len()],
            played: 0,
            at: 0,
            pass: 0,
            now: Instant(FIRST_MS),
            frame: Frame::with_capacity(largest.max(first.len())),
            capture,
            target,
            first,
            last,
        }
    }

    /// Bytes of all names and labels, with what the catalogue needs around them.
    pub fn text_bytes(&self) -> usize {
        self.texts.iter().map(|(name, body)| name.len() + body.len() + 16).sum()
    }

    /// Passes over the capture that were begun.
    pub fn passes(&self) -> i64 {
        self.pass + 1
    }

    fn number(&self, sample: &Sample) -> Number {
        let place = usize::from(sample.series.0);
        match (self.first[place], self.last[place]) {
            (Some(first), Some(last)) if self.pass > 0 => moved(sample.number, first, last, self.pass),
            _ => sample.number,
        }
    }

    /// Puts the next scrape into `self.frame`. `next`: the number it will have.
    pub fn scrape(&mut self, next: FrameNo, catalogue: &mut Catalogue) {
        if self.at == self.capture.scrapes.len() {
            // Its first scrape, moved on, is the last one again.
            self.at = usize::from(self.at > 1);
            self.pass += 1;
        }
        let since = |at: usize| (self.capture.times[at] - self.capture.times[0]) as u64;
        let span = since(self.capture.times.len() - 1).max(1);
        self.now = Instant(FIRST_MS + span * self.pass as u64 + since(self.at));
        self.played += 1;
        self.frame.reset(self.target, self.now.0);
        self.frame.up = true;
        self.frame.duration_100us = DURATION_100US;
        let scrape = &self.capture.scrapes[self.at];
        let mut added = 0;
        for sample in scrape {
            let place = usize::from(sample.series.0);
            let number = self.number(sample);
            let series = self.defined[place].unwrap_or_else(|| {
                added += 1;
                let (name, body) = &self.texts[place];
                let text = SeriesText { name, body };
                let kind = self.capture.kinds[place];
                catalogue
                    .define(self.target, text, kind)
                    .expect("room for every series of the capture")
            });
            self.defined[place] = Some(series);
            self.seen[place] = self.played;
            self.frame
                .samples
                .push(Sample { number, series })
                .expect("room for the largest scrape");
        }
        if self.pass == 0 {
            let explicit = &self.capture.explicit[self.at];
            self.frame.explicit.extend(explicit).expect("as many as samples");
        }
        for place in 0..self.defined.len() {
            if let Some(series) = self.defined[place].filter(|_| self.seen[place] != self.played) {
                self.frame.stale.push(series).expect("room for every series");
                catalogue.release(series, next);
                self.defined[place] = None;
            }
        }
        let samples = scrape.len() as u32;
        self.frame.counts.scraped = samples;
        self.frame.counts.post_relabel = samples;
        self.frame.counts.added = added;
        self.at += 1;
    }
}

/// `number` after `passes` times the way from `first` to `last`; as it is where that is no decimal.
fn moved(number: Number, first: Number, last: Number, passes: i64) -> Number {
    let forms = (number.form(), first.form(), last.form());
    let (
        Form::Decimal { mantissa, exponent },
        Form::Decimal {
            mantissa: from,
            exponent: e,
        },
        Form::Decimal {
            mantissa: to,
            exponent: f,
        },
    ) = forms
    else {
        return number;
    };
    let scale = exponent.min(e).min(f);
    let digits = |mantissa: i64, exponent: i8| {
        let power = 10_i128.checked_pow(exponent.abs_diff(scale).into())?;
        power.checked_mul(mantissa.into())
    };
    let sum = || {
        let way = digits(to, f)?
            .checked_sub(digits(from, e)?)?
            .checked_mul(passes.into())?;
        digits(mantissa, exponent)?.checked_add(way)
    };
    let text = sum().map(|sum| format!("{sum}e{scale}"));
    text.and_then(|text| tidegate::value::parse(text.as_bytes()))
        .unwrap_or(number)
}
