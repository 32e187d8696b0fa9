use super::*;
use crate::catalogue::Catalogue;
use crate::clock::{Instant, UnixMillis};
use crate::frame::ExplicitTime;
use crate::frame::FrameNo;
use crate::sample::{MetricType, Sample, TargetRef};
use crate::value::codec::CodecId;
use crate::wal::format::{Geometry, Medium};
use crate::wal::inspect::Inspector;
use crate::wal::testing::Ram;
use crate::wal::{Boot, ClockSource, Commit, CommitStep, RemoteConfig, Ring, RingConfig, WhenFull};
use alloc::string::ToString as _;

const GEOMETRY: Geometry = Geometry {
    block_bytes: 1024,
    blocks_per_slot: 16,
    slots: 6,
    medium: Medium::Rewritable,
};

fn config() -> RingConfig {
    RingConfig {
        block_bytes: 1024,
        segment_bytes: 16 * 1024,
        ring_bytes: 6 * 16 * 1024 + 8192,
        codec: CodecId::Tc1,
        commit_interval_ms: 0,
        staging_blocks: 8,
        max_series: 40,
        max_frame_samples: 40,
        extras_bytes: 0,
        text_bytes: 4_000,
        remotes: [RemoteConfig {
            id: 1,
            best_effort: false,
        }]
        .into_iter()
        .collect(),
        when_full: WhenFull::DropOldest,
        config_crc: 1,
        compress: None,
    }
}

/// A ring being filled by two targets with two series each, and a clock that may be missing.
struct Filled {
    ring: Ring<Ram>,
    catalogue: Catalogue,
    series: [[SeriesRef; 2]; 2],
    frame: Frame,
}

impl Filled {
    fn new(wall: Option<i64>) -> Self {
        let mut ram = Ram::new(GEOMETRY, 1);
        crate::wal::format(&mut ram, [7; 16], 1, "export").expect("blank");
        let mut catalogue = Catalogue::new(40, 4_000, 8);
        let boot = Boot {
            id: [1; 16],
            now: Instant(0),
            wall: wall.map(|wall| (UnixMillis(wall), ClockSource::Synchronised)),
            error_ms: 0,
        };
        let (ring, _) = Ring::mount(ram, config(), boot, &mut catalogue).expect("formatted");
        let mut series = [[SeriesRef(0); 2]; 2];
        for (target, of_target) in series.iter_mut().enumerate() {
            let reference = TargetRef(target as u8);
            let body = alloc::format!("instance=\"host{target}\",job=\"node\"");
            catalogue.set_target(reference, &body).expect("room");
            for (name, to) in ["b_total", "a"].into_iter().zip(of_target) {
                let text = SeriesText { name, body: "x=\"1\"" };
                *to = catalogue.define(reference, text, MetricType::Counter).expect("room");
            }
        }
        Self {
            ring,
            catalogue,
            series,
            frame: Frame::with_capacity(40),
        }
    }

    fn scrape(&mut self, target: usize, time_ms: u64, values: [Number; 2]) {
        self.frame.reset(TargetRef(target as u8), time_ms);
        self.frame.up = true;
        for (series, number) in self.series[target].into_iter().zip(values) {
            self.frame.samples.push(Sample { number, series }).expect("room");
        }
        self.append();
    }

    fn append(&mut self) {
        self.ring.append(&self.frame, &mut self.catalogue).expect("room");
        while self.step() == CommitStep::NeedSync {
            let outcome = self.ring.storage_mut().sync();
            self.ring.synced(outcome);
        }
    }

    fn step(&mut self) -> CommitStep {
        let step = self.ring.commit_step(&mut self.catalogue, Commit::All);
        step.expect("takes writes")
    }

    fn export(self, selection: &Selection, pass_samples: u64) -> (String, Tally) {
        let inspector = Inspector::open(self.ring.into_storage(), None).expect("a ring");
        let mut reader = FrameReader::new(inspector);
        let mut out = Vec::new();
        let tally = export(&mut reader, selection, pass_samples, &mut out).expect("memory");
        (String::from_utf8(out).expect("text"), tally)
    }
}

fn number(value: i64) -> Number {
    Number::decimal(value, 0)
}

fn everything() -> Selection {
    Selection::parse(None, None, &[], false).expect("nothing is wrong")
}

fn some_scrapes() -> Filled {
    let mut filled = Filled::new(Some(1_700_000_000_000));
    for scrape in 0..3 {
        filled.scrape(0, scrape * 1_500, [number(scrape as i64), Number::decimal(5, -1)]);
        filled.scrape(1, scrape * 1_500 + 10, [number(10), number(-1)]);
    }
    filled
}

#[test]
fn families_and_series_stand_together_in_time() {
    let (text, tally) = some_scrapes().export(&everything(), 1_000);
    let families: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(
        families,
        [
            "# TYPE a unknown",
            "# TYPE b_total unknown",
            "# TYPE scrape_duration_seconds unknown",
            "# TYPE scrape_samples_post_metric_relabeling unknown",
            "# TYPE scrape_samples_scraped unknown",
            "# TYPE scrape_series_added unknown",
            "# TYPE up unknown",
            "# EOF"
        ]
    );
    let of_b: Vec<&str> = text.lines().filter(|line| line.starts_with("b_total{")).collect();
    assert_eq!(
        of_b,
        [
            "b_total{instance=\"host0\",job=\"node\",x=\"1\"} 0 1700000000",
            "b_total{instance=\"host0\",job=\"node\",x=\"1\"} 1 1700000001.500",
            "b_total{instance=\"host0\",job=\"node\",x=\"1\"} 2 1700000003",
            "b_total{instance=\"host1\",job=\"node\",x=\"1\"} 10 1700000000.010",
            "b_total{instance=\"host1\",job=\"node\",x=\"1\"} 10 1700000001.510",
            "b_total{instance=\"host1\",job=\"node\",x=\"1\"} 10 1700000003.010",
        ]
    );
    assert!(text.contains("up{instance=\"host1\",job=\"node\"} 1 1700000003.010\n"));
    assert_eq!(
        tally,
        Tally {
            samples: 42,
            series: 14,
            ..Tally::default()
        }
    );
}

#[test]
fn many_small_passes_write_what_one_large_pass_writes() {
    let (expected, tally) = some_scrapes().export(&everything(), 1_000);
    for pass_samples in [0, 1, 4, 7] {
        assert_eq!(
            some_scrapes().export(&everything(), pass_samples),
            (expected.clone(), tally)
        );
    }
}

#[test]
fn times_and_targets_select() {
    let targets = ["instance=host0".to_string()];
    let selection = Selection::parse(Some("1700000001"), Some("1700000003"), &targets, false).expect("fine");
    let (text, tally) = some_scrapes().export(&selection, 1_000);
    assert_eq!((tally.samples, tally.series), (7, 7));
    assert!(text.contains("a{instance=\"host0\",job=\"node\",x=\"1\"} 0.5 1700000001.500\n"));
    assert!(!text.contains("host1"));
}

#[test]
fn only_what_is_not_acknowledged_can_be_asked_for() {
    let mut filled = some_scrapes();
    filled.ring.acknowledge(0, FrameNo(filled.ring.next_frame().0 - 2));
    // The acknowledgement travels in the next block.
    filled.scrape(0, 9_000, [number(7), number(7)]);
    let selection = Selection::parse(None, None, &[], true).expect("fine");
    let (text, _) = filled.export(&selection, 1_000);
    let up: Vec<&str> = text.lines().filter(|line| line.starts_with("up{")).collect();
    assert_eq!(up.len(), 3, "{up:?}");
    assert!(up[0].ends_with(" 1700000003") && up[1].ends_with(" 1700000009"));
}

#[test]
fn markers_duplicates_and_unknown_times_are_left_out_and_counted() {
    let mut filled = some_scrapes();
    filled.scrape(0, 3_000, [number(100), Number::STALE]);
    filled.frame.reset(TargetRef(0), 6_000);
    filled.frame.stale.extend(&filled.series[0]).expect("room");
    filled.append();
    let (text, tally) = filled.export(&everything(), 1_000);
    // The first of two samples at one time stays; of the failed scrape the five series of its own are there.
    assert!(!text.contains(" 100 "));
    assert!(text.contains("up{instance=\"host0\",job=\"node\"} 0 1700000006\n"));
    assert_eq!((tally.markers, tally.duplicates, tally.samples), (3, 6, 47));
    assert!(
        tally.to_string().contains("3 staleness markers, 6 samples at a time"),
        "{tally}"
    );

    let mut filled = Filled::new(None);
    filled.frame.reset(TargetRef(0), 6_000);
    filled.frame.up = true;
    for series in filled.series[0] {
        let sample = Sample {
            number: number(1),
            series,
        };
        filled.frame.samples.push(sample).expect("room");
    }
    let own = ExplicitTime {
        position: 1,
        unix_ms: 1_600_000_000_250,
    };
    filled.frame.explicit.push(own).expect("room");
    filled.append();
    let (text, tally) = filled.export(&everything(), 1_000);
    assert_eq!((tally.timeless, tally.samples), (6, 1));
    assert!(
        text.contains("a{instance=\"host0\",job=\"node\",x=\"1\"} 1 1600000000.250\n"),
        "{text}"
    );
}

#[test]
fn a_clock_that_came_later_gives_earlier_frames_their_time() {
    let mut filled = Filled::new(None);
    for scrape in 0..600 {
        filled.scrape(0, scrape * 1_000, [number(scrape as i64 * 7), number(1)]);
    }
    filled.ring.clock(
        Instant(600_000),
        UnixMillis(1_700_000_600_000),
        ClockSource::Synchronised,
        5,
    );
    filled.scrape(0, 600_000, [number(1), number(1)]);
    assert!(
        filled.ring.stats().head_seq > 2,
        "the statement stands in a later segment"
    );
    let (text, tally) = filled.export(&everything(), 1_000);
    assert_eq!(tally.timeless, 0);
    assert!(text.contains("up{instance=\"host0\",job=\"node\"} 1 1700000599\n"));
}

#[test]
fn a_reader_that_goes_away_ends_the_export() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let inspector = Inspector::open(some_scrapes().ring.into_storage(), None).expect("a ring");
    let result = export(&mut FrameReader::new(inspector), &everything(), 1_000, &mut Closed);
    assert_eq!(result.expect_err("closed").kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn exemplars_end_the_line_of_their_sample_and_native_histograms_are_counted() {
    let mut filled = Filled::new(Some(1_700_000_000_000));
    filled.frame = Frame::with_extras(40, 400);
    for scrape in 0..2u64 {
        filled.frame.reset(TargetRef(0), scrape * 1_000);
        filled.frame.up = true;
        for series in filled.series[0] {
            let number = number(7);
            filled.frame.samples.push(Sample { number, series }).expect("room");
        }
        let extras = &mut filled.frame.extras;
        extras
            .push_exemplar(0, Some(1_700_000_000_500), 0.5f64.to_bits(), r#"id="a\"b""#)
            .expect("room");
        extras.push_exemplar(0, None, 1f64.to_bits(), "").expect("room");
        if scrape == 1 {
            extras.push_histogram(1, &[8, 7]).expect("room");
            extras.push_exemplar(1, None, 0, "").expect("room");
        }
        filled.append();
    }
    let (text, tally) = filled.export(&everything(), 1_000);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("a{") || line.starts_with("b_total{"))
        .collect();
    let exemplar = r#" # {id="a\"b"} 0.5 1700000000.500"#;
    let b = r#"b_total{instance="host0",job="node",x="1"} 7 170000000"#;
    let expected = [
        r#"a{instance="host0",job="node",x="1"} 7 1700000000"#.into(),
        alloc::format!("{b}0{exemplar}"),
        alloc::format!("{b}1{exemplar}"),
    ];
    assert_eq!(lines, expected);
    assert_eq!((tally.histograms, tally.exemplars, tally.exemplars_left), (1, 2, 3));
    let said = alloc::format!("{tally}");
    assert!(
        said.contains("2 exemplars; left out: 1 native histograms, 3 exemplars"),
        "{said}"
    );
}
