//! Simulated targets: expositions whose every value says which sample it is.

use fastrand::Rng;
use std::collections::BTreeSet;
use tidegate::labels::Label;
use tidegate::sample::{NORMAL_NAN_BITS, TargetRef};
use tidegate::scrape::Target;

/// Values that many samples share: told apart by their time instead.
const COMMON: [(&str, u64); 6] = [
    ("NaN", NORMAL_NAN_BITS),
    ("+Inf", 0x7ff0_0000_0000_0000),
    ("-Inf", 0xfff0_0000_0000_0000),
    ("-0", 0x8000_0000_0000_0000),
    ("1.7976931348623157e308", 0x7fef_ffff_ffff_ffff),
    ("5e-324", 1),
];

/// How a target behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// No connection.
    Down,
    /// Status 500.
    Broken,
    /// The body is cut by a line that is none.
    Garbled,
    /// The body ends within, by a lost connection.
    Dripping,
    /// Status 200 and nothing else.
    Empty,
}

/// One sample as exposed.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Labels as the receiver is to see them, `name=value;` each.
    pub series: String,
    pub bits: u64,
    /// Its own timestamp.
    pub explicit: Option<i64>,
    /// No other sample has this value.
    pub unique: bool,
}

/// A target.
pub struct SimTarget {
    pub number: u8,
    pub interval_ms: u32,
    pub mood: Mood,
    /// Milliseconds a scrape takes.
    pub takes_ms: u64,
    /// Numbers of the series exposed now.
    pub series: Vec<u32>,
    coined: u32,
    /// Series a marker is due for when they vanish.
    pub tracked: BTreeSet<String>,
    last_explicit: i64,
}

impl SimTarget {
    pub fn new(number: u8, interval_ms: u32, series: u32) -> Self {
        Self {
            number,
            interval_ms,
            mood: Mood::Well,
            takes_ms: 20,
            series: (0..series).collect(),
            coined: series,
            tracked: BTreeSet::new(),
            last_explicit: 0,
        }
    }

    /// The core's view of it.
    pub fn core(&self) -> Target {
        let instance = self.instance();
        let label = |name, value| Label { name, value };
        let labels = [label("instance", &*instance), label("job", "sim")];
        let mut target = Target::new(TargetRef(self.number), &labels).expect("two short labels fit");
        target.interval_ms = self.interval_ms;
        target
    }

    pub fn instance(&self) -> String {
        format!("box{}:9100", self.number)
    }

    /// Labels of one of its series on the wire.
    pub fn wire(&self, name: &str, label: &str) -> String {
        let instance = self.instance();
        format!("__name__={name};instance={instance};job=sim;{label}site=edge;")
    }

    /// A series goes, a series comes.
    pub fn churn(&mut self, random: &mut Rng) {
        if let Some(place) = (!self.series.is_empty()).then(|| random.usize(..self.series.len())) {
            self.series.swap_remove(place);
        }
        self.series.push(self.coined);
        self.coined += 1;
    }

    /// The next exposition and what it says. `unix_ms`: wall time, for samples with their own.
    pub fn expose(&mut self, values: &mut u64, unix_ms: i64, random: &mut Rng) -> (String, Vec<Item>) {
        let mut text = String::from("# HELP m Something.\n# TYPE m gauge\n");
        let mut items = Vec::new();
        for &number in &self.series {
            *values += 1;
            let (value, bits) = coin(*values);
            text += &format!("m{{n=\"{number}\"}} {value}\n");
            items.push(Item {
                series: self.wire("m", &format!("n={number};")),
                bits,
                explicit: None,
                unique: true,
            });
        }
        if random.u8(..3) == 0 {
            let (value, bits) = COMMON[random.usize(..COMMON.len())];
            text += &format!("# TYPE odd counter\nodd {value}\n");
            items.push(Item {
                series: self.wire("odd", ""),
                bits,
                explicit: None,
                unique: false,
            });
        }
        if unix_ms > self.last_explicit && random.u8(..3) == 0 {
            *values += 1;
            let (value, bits) = coin(*values);
            let explicit = unix_ms - 17;
            self.last_explicit = unix_ms;
            text += &format!("dated {value} {explicit}\n");
            items.push(Item {
                series: self.wire("dated", ""),
                bits,
                explicit: Some(explicit),
                unique: true,
            });
        }
        (text, items)
    }
}

/// The `n`-th value, in one of several spellings.
fn coin(n: u64) -> (String, u64) {
    let text = match n % 5 {
        0 => format!("{n}"),
        1 => format!("{n}.5"),
        2 => format!("-{n}"),
        3 => format!("0.0000{n:09}"),
        _ => format!("{n}.03125"),
    };
    let value: f64 = text.parse().expect("digits");
    (text, value.to_bits())
}
