//! What one damaged block costs: every block of an image in turn.

mod ring_support;

use ring_support::{boot, config, formatted, geometry};
use tidegate::catalogue::{Catalogue, SeriesText};
use tidegate::frame::{Frame, FrameNo, FrameSource, Next};
use tidegate::sample::{MetricType, Number, Sample, TargetRef};
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::inspect::{Event, Inspector};
use tidegate::wal::testing::Ram;
use tidegate::wal::{Reason, Ring, RingConfig, SYNC_SPAN_BYTES};

const SERIES: usize = 150;

fn shape() -> Geometry {
    geometry(4096, 64, 3, Medium::Rewritable)
}

fn settings() -> RingConfig {
    let mut config = config(&shape(), 1);
    config.max_series = SERIES;
    config.max_frame_samples = SERIES;
    config.text_bytes = 8_000;
    config.extras_bytes = 0;
    config
}

fn catalogue() -> Catalogue {
    Catalogue::new(SERIES, 8_000, 1)
}

/// Two full segments and a bit, of frames of noise.
fn filled() -> Ram {
    let mut catalogue = catalogue();
    let ram = formatted(shape(), 1);
    let (mut ring, _) = Ring::mount(ram, settings(), boot(1, 0), &mut catalogue).expect("a new ring");
    catalogue.set_target(TargetRef(0), "job=\"a\"").expect("one target");
    let series: Vec<_> = (0..SERIES)
        .map(|index| {
            let name = format!("metric_{index}");
            let text = SeriesText { name: &name, body: "" };
            let defined = catalogue.define(TargetRef(0), text, MetricType::Gauge);
            defined.expect("room for all")
        })
        .collect();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut frame = Frame::with_capacity(SERIES);
    let mut now = 0;
    while ring.stats().head_seq < 3 {
        now += 1_000;
        frame.reset(TargetRef(0), now);
        frame.up = true;
        for &series in &series {
            let number = Number::from_raw_bits(rng.u64(..));
            frame.samples.push(Sample { number, series }).expect("room for all");
        }
        while ring.append(&frame, &mut catalogue).is_err() {
            ring.commit(&mut catalogue).expect("a sound medium");
        }
    }
    ring.commit(&mut catalogue).expect("a sound medium");
    ring.into_storage()
}

/// Numbers of the frames a drain gives, and frames and samples the ring counts as damaged.
fn drained(ram: Ram) -> (Vec<u64>, (u64, u64)) {
    let mut catalogue = catalogue();
    let (mut ring, _) = Ring::mount(ram, settings(), boot(2, 0), &mut catalogue).expect("a ring");
    let mut frame = Frame::with_capacity(SERIES);
    let mut numbers = Vec::new();
    let mut source = ring.source(0, &mut catalogue);
    source.seek(FrameNo(0));
    loop {
        match source.next(&mut frame).expect("memory can be read") {
            Next::Frame => numbers.push(frame.number.0),
            Next::Boundary => {}
            Next::End => break,
        }
    }
    let loss = ring.counters().loss(Reason::Damaged);
    (numbers, (loss.frames, loss.samples))
}

#[test]
fn one_damaged_block_costs_at_most_one_span_and_a_damaged_dictionary_its_segment_and_both_are_counted() {
    let sound = filled();
    let mut sizes = Vec::new();
    let mut slots = Vec::new();
    Inspector::open(sound.clone(), None)
        .expect("a ring")
        .survey(|slot, event| {
            if let Event::Frame(frame) = event {
                sizes.push((frame.number.0, frame.bytes as usize));
                slots.push(slot);
            }
        });
    let (all, counted) = drained(sound.clone());
    assert_eq!((all.len(), counted), (sizes.len(), (0, 0)));

    let (mut worst, mut blocks, mut dictionaries) = (0, 0, 0);
    // The first two segments; what the newest one lost at its end nobody can know.
    for block in 64..192 {
        let slot = block / 64;
        let mut ram = sound.clone();
        ram.damage(|image| image[block as usize * 4096 + 40] ^= 1);
        let (left, counted) = drained(ram);
        let lost: Vec<usize> = (0..sizes.len()).filter(|&at| !left.contains(&sizes[at].0)).collect();
        assert!(
            lost.iter().all(|&at| slots[at] == slot),
            "block {block}: another segment lost frames"
        );
        let frames = lost.len() as u64;
        assert_eq!(counted, (frames, frames * SERIES as u64), "block {block}: counted");
        let bytes: usize = lost.iter().map(|&at| sizes[at].1).sum();
        let holds_definitions = lost.len() == slots.iter().filter(|&&of| of == slot).count();
        if holds_definitions {
            dictionaries += 1;
        } else {
            blocks += 1;
            worst = worst.max(bytes);
        }
    }
    println!("{blocks} blocks: at most {worst} bytes of frames each; {dictionaries} with definitions: their segment");
    assert!(blocks > 100 && (2..8).contains(&dictionaries));
    // A frame that begins in the span before ends it.
    let frame = sizes.iter().map(|&(_, size)| size).max().expect("frames");
    assert!(worst <= SYNC_SPAN_BYTES + frame, "{worst}");
}

/// Series of the next frame that have a name, by what a fresh look at flash says; and whether its target has labels.
fn named(ring: &mut Ring<Ram>, catalogue: &mut Catalogue, frame: &Frame) -> (usize, bool) {
    let mut source = ring.source(0, catalogue);
    let mut names = source.names();
    let mut count = 0;
    for (place, sample) in frame.samples.iter().enumerate() {
        if let Some(found) = names.definition(sample.series, frame.target) {
            assert_eq!(found.text.name, format!("metric_{place}"));
            assert_eq!((found.kind, found.target), (MetricType::Gauge, frame.target));
            assert_eq!(found.target_body, "job=\"a\"");
            count += 1;
        }
    }
    (count, names.target_body(frame.target) == Some("job=\"a\""))
}

#[test]
fn a_definition_that_cannot_be_read_again_is_missing_and_not_made_up() {
    let sound = filled();
    let (mut all, mut some, mut none) = (0, 0, 0);
    // Each block of the oldest segment in turn, once the reader has gone through the definitions.
    for block in 64..128 {
        let mut catalogue = catalogue();
        let (mut ring, _) = Ring::mount(sound.clone(), settings(), boot(2, 0), &mut catalogue).expect("a ring");
        let mut frame = Frame::with_capacity(SERIES);
        let mut source = ring.source(0, &mut catalogue);
        source.seek(FrameNo(0));
        while source.next(&mut frame).expect("memory can be read") != Next::Frame {}
        ring.storage_mut().damage(|image| image[block * 4096 + 40] ^= 1);
        match named(&mut ring, &mut catalogue, &frame) {
            (SERIES, true) => all += 1,
            (0, _) => none += 1,
            _ => some += 1,
        }
        // Nothing is kept of a failure.
        ring.storage_mut().damage(|image| image[block * 4096 + 40] ^= 1);
        assert_eq!(named(&mut ring, &mut catalogue, &frame), (SERIES, true));
    }
    assert!(all > 55 && none + some > 0, "{all} {some} {none}");
}

#[test]
fn a_mount_reads_one_block_of_each_slot_and_the_newest_segment_once() {
    let (_, report) = Ring::mount(filled(), settings(), boot(2, 0), &mut catalogue()).expect("a ring");
    assert_eq!(report.blocks_read, 3 + 64);
}
