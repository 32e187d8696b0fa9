//! The byte examples of `FORMAT.md`, made by the code.

use super::format::{BLOCK_HEADER_BYTES, BlockHeader, block_seed, flag};
use super::frame_coding::Encoder;
use super::layout::Layouts;
use super::record::{self, Ack, Clock, Delivered, Drop, Start, Target, kind};
use crate::frame::{Bounded, Frame};
use crate::sample::{Number, Sample, SeriesRef, TargetRef};
use crate::value::codec::CodecId;
use alloc::format;
use alloc::string::String;
use serde::Serialize;

const FORMAT: &str = include_str!("FORMAT.md");

/// `FORMAT.md` without line breaks and runs of blanks.
fn text() -> String {
    FORMAT.split_whitespace().collect::<alloc::vec::Vec<_>>().join(" ")
}

fn shown(bytes: &[u8]) {
    let hex: alloc::vec::Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let hex = hex.join(" ");
    assert!(text().contains(&hex), "FORMAT.md does not show {hex}");
}

fn control<T: Serialize>(kind: u8, value: &T) -> Bounded<u8> {
    let mut out = Bounded::with_capacity(record::MAX_CONTROL_BYTES);
    record::emit(kind, value, &mut [0; record::MAX_CONTROL_BYTES], &mut out).unwrap();
    out
}

fn frame_record(codec: CodecId, frames: &[&Frame]) -> Bounded<u8> {
    let mut encoder = Encoder::new(codec, 700);
    encoder.reset(1_000);
    let mut out = Bounded::with_capacity(4_096);
    for frame in frames {
        let mut payload = Bounded::with_capacity(4_096);
        encoder.encode(frame, true, &mut payload).unwrap();
        out.clear();
        record::put_head(&mut out, kind::FRAME, payload.len()).unwrap();
        out.extend(&payload).unwrap();
    }
    out
}

#[test]
fn the_block_example_is_what_is_written() {
    let mut block = [0; 256];
    let payload = control(kind::ACK, &Ack { remote: 7, frame_no: 5 });
    block[BLOCK_HEADER_BYTES..][..payload.len()].copy_from_slice(&payload);
    let header = BlockHeader {
        flags: flag::FIRST,
        seq: 7,
        index: 0,
        used: payload.len() as u16,
        first_record: 0,
        dictionary: 0,
        ack: 5,
        stream_offset: 0,
        epoch: 1,
    };
    header.emit(&mut block, block_seed(b"0123456789abcdef", 7));
    shown(&block[..BLOCK_HEADER_BYTES + payload.len() + 2]);
}

#[test]
fn the_record_examples_are_what_is_written() {
    shown(&control(
        kind::ACK,
        &Ack {
            remote: 7,
            frame_no: 300,
        },
    ));
    shown(&control(
        kind::TARGET,
        &Target {
            index: 1,
            body: r#"job="x""#,
        },
    ));
    shown(&control(
        kind::START,
        &Start {
            epoch: 3,
            boot_id: *b"0123456789abcdef",
            mono_ms: 1_000,
            wall_ms: record::UNKNOWN_MS,
            clock: 0,
            error_ms: 0,
            frame_no: 300,
            prior: 299,
            config_crc: 1,
        },
    ));
    shown(&control(
        kind::CLOCK,
        &Clock {
            boot: 1,
            mono_ms: 1_000,
            wall_ms: 1_700_000_000_000,
            error_ms: 20,
            source: 2,
        },
    ));
    shown(&control(
        kind::DROP,
        &Drop {
            first_frame: 5,
            last_frame: 9,
            samples: 500,
            reason: 0,
            frames: 5,
            first_ms: 1_700_000_000_000,
            last_ms: 1_700_000_060_000,
        },
    ));
    shown(&control(
        kind::DELIVERED,
        &Delivered {
            reason: 0,
            frames: 2,
            samples: 200,
        },
    ));
}

#[test]
fn the_frame_examples_are_what_is_written() {
    let mut failed = Frame::with_capacity(8);
    failed.reset(TargetRef(1), 2_500);
    failed.duration_100us = 100_000;
    failed.stale.push(SeriesRef(3)).unwrap();
    shown(&frame_record(CodecId::Tc0, &[&failed]));

    let mut first = Frame::with_capacity(8);
    first.reset(TargetRef(0), 1_000);
    first.up = true;
    first.duration_100us = 30;
    for (series, mantissa, exponent) in [(0, 1, 0), (1, 125, -1)] {
        let number = Number::decimal(mantissa, exponent);
        let series = SeriesRef(series);
        first.samples.push(Sample { number, series }).unwrap();
    }
    (first.counts.scraped, first.counts.post_relabel, first.counts.added) = (2, 2, 2);
    shown(&frame_record(CodecId::Tc0, &[&first]));

    let mut second = Frame::with_capacity(8);
    second.reset(TargetRef(0), 16_000);
    second.up = true;
    second.duration_100us = 30;
    for (series, mantissa, exponent) in [(0, 1, 0), (1, 127, -1)] {
        let number = Number::decimal(mantissa, exponent);
        let series = SeriesRef(series);
        second.samples.push(Sample { number, series }).unwrap();
    }
    (second.counts.scraped, second.counts.post_relabel) = (2, 2);
    shown(&frame_record(CodecId::Tc0, &[&first, &second]));

    let mut third = Frame::with_capacity(8);
    third.reset(TargetRef(0), 31_002);
    third.up = true;
    third.duration_100us = 29;
    third.samples.extend(&second.samples).unwrap();
    third.counts = second.counts;
    shown(&frame_record(CodecId::Tc0, &[&first, &second, &third]));
}

#[test]
fn the_examples_of_layouts_are_what_is_written() {
    let target = TargetRef(0);
    let of = |series: alloc::vec::Vec<u16>| -> alloc::vec::Vec<Sample> {
        let number = Number::decimal(0, 0);
        let sample = |series| Sample {
            number,
            series: SeriesRef(series),
        };
        series.into_iter().map(sample).collect()
    };
    let first: alloc::vec::Vec<u16> = (100..622).collect();
    let mut list = Bounded::with_capacity(100);
    record::put_series(&mut list, first.iter().map(|&series| SeriesRef(series))).unwrap();
    shown(&list);
    let mut second = first.clone();
    second.splice(10..10, [700, 701]);
    second.pop();

    let mut layouts = Layouts::new(800);
    for series in [first, second] {
        let samples = of(series);
        let mut out = Bounded::with_capacity(100);
        layouts.put(&mut out, target, &samples).unwrap();
        shown(&out);
        layouts.set(target, &samples);
    }
}

#[test]
fn the_example_of_a_frame_with_extras_is_what_is_written() {
    let mut frame = Frame::with_extras(8, 100);
    frame.reset(TargetRef(2), 1_000);
    frame.up = true;
    frame.duration_100us = 30;
    let (number, series) = (Number::decimal(3, 0), SeriesRef(7));
    frame.samples.push(Sample { number, series }).unwrap();
    (frame.counts.scraped, frame.counts.post_relabel) = (1, 1);
    frame.extras.push_histogram(0, &[8, 3]).unwrap();
    frame.extras.push_start_time(0, 1_700_000_000_000).unwrap();
    frame
        .extras
        .push_exemplar(0, Some(1_700_000_000_000), 0.5f64.to_bits(), r#"a="b""#)
        .unwrap();
    shown(&frame_record(CodecId::Tc0, &[&frame]));
}
