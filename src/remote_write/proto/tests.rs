use super::*;
use crate::frame::Bounded;
use crate::sample::STALE_NAN_BITS;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use prost::Message;

use crate::remote_write::declared::{Label, Metadata, Request, Sample, TimeSeries, TimeSeriesV2, WriteRequest};

fn buffer() -> Bounded<u8> {
    Bounded::with_capacity(1 << 20)
}

fn write_v1(message: &WriteRequest, order: SampleOrder) -> Bounded<u8> {
    let mut out = buffer();
    for series in &message.timeseries {
        let labels = series
            .labels
            .iter()
            .map(|l| len_label(l.name.len(), l.value.len()))
            .sum();
        let samples = series
            .samples
            .iter()
            .map(|s| len_sample(s.bits, s.timestamp, s.start))
            .sum();
        begin_series_v1(&mut out, labels, samples).expect("fits");
        for label in &series.labels {
            put_label(&mut out, label.name.as_bytes(), label.value.as_bytes()).expect("fits");
        }
        write_samples(&mut out, order, &series.samples);
    }
    out
}

fn write_samples(out: &mut Bounded<u8>, order: SampleOrder, samples: &[Sample]) {
    for sample in samples {
        let before = out.len();
        put_sample(out, order, sample.bits, sample.timestamp, sample.start).expect("fits");
        assert_eq!(
            out.len() - before,
            len_sample(sample.bits, sample.timestamp, sample.start)
        );
    }
}

fn write_v2(message: &Request, order: SampleOrder) -> Bounded<u8> {
    let mut out = buffer();
    for symbol in &message.symbols {
        put_symbol(&mut out, symbol.as_bytes()).expect("fits");
    }
    for series in &message.timeseries {
        let refs: Vec<u16> = series.labels_refs.iter().map(|&r| r as u16).collect();
        let samples: usize = series
            .samples
            .iter()
            .map(|s| len_sample(s.bits, s.timestamp, s.start))
            .sum();
        let kind = series
            .metadata
            .as_ref()
            .map_or(MetricType::Unknown, |m| MetricType::from_byte(m.kind as u8));
        let metadata = SeriesMetadata {
            kind,
            ..SeriesMetadata::default()
        };
        begin_series_v2(&mut out, refs.into_iter(), samples + metadata.len()).expect("fits");
        metadata.put(&mut out).expect("fits");
        write_samples(&mut out, order, &series.samples);
    }
    out
}

type Shown = (Vec<(String, String)>, Vec<Sample>, MetricType);

fn read(body: &[u8], protocol: Protocol) -> Result<Vec<Shown>, ReadError> {
    let mut index = [(0, 0); 300];
    let mut reader = Reader::new(body, protocol, &mut index)?;
    let mut all = Vec::new();
    while let Some(series) = reader.next_series()? {
        let (mut labels, mut samples) = (Vec::new(), Vec::new());
        series.labels(|name, value| labels.push((name.to_string(), value.to_string())))?;
        series.samples(|bits, timestamp, start| samples.push(Sample { bits, timestamp, start }))?;
        all.push((labels, samples, series.kind()?));
    }
    Ok(all)
}

const ORDERS: [SampleOrder; 2] = [SampleOrder::ValueFirst, SampleOrder::ValueLast];

const EDGE_BITS: [u64; 8] = [
    0,
    1 << 63,
    STALE_NAN_BITS,
    0x7ff8_0000_0000_0001,
    0x7ff0_0000_0000_0000,
    1,
    u64::MAX,
    0x3ff0_0000_0000_0000,
];
const EDGE_TIMES: [i64; 8] = [0, 1, -1, 127, 128, 1_700_000_000_000, i64::MAX, i64::MIN];

fn random_samples(rng: &mut fastrand::Rng, protocol: Protocol) -> Vec<Sample> {
    let one = |rng: &mut fastrand::Rng| Sample {
        bits: if rng.bool() {
            rng.u64(..)
        } else {
            EDGE_BITS[rng.usize(..8)]
        },
        timestamp: if rng.bool() {
            rng.i64(..)
        } else {
            EDGE_TIMES[rng.usize(..8)]
        },
        start: match protocol {
            Protocol::V1 => 0,
            Protocol::V2 => EDGE_TIMES[rng.usize(..8)],
        },
    };
    (0..rng.usize(0..20)).map(|_| one(rng)).collect()
}

fn random_text(rng: &mut fastrand::Rng) -> String {
    (0..rng.usize(0..200)).map(|_| rng.char('a'..'ž')).collect()
}

#[test]
fn a_v1_request_byte_for_byte() {
    let mut out = buffer();
    let labels = len_label(8, 2) + len_label(1, 1);
    begin_series_v1(&mut out, labels, len_sample(1.0_f64.to_bits(), 1_700_000_000_000, 0)).expect("fits");
    put_label(&mut out, b"__name__", b"up").expect("fits");
    put_label(&mut out, b"a", b"b").expect("fits");
    put_sample(
        &mut out,
        SampleOrder::ValueFirst,
        1.0_f64.to_bits(),
        1_700_000_000_000,
        0,
    )
    .expect("fits");
    begin_series_v1(&mut out, len_label(1, 1), len_sample(0, 0, 0)).expect("fits");
    put_label(&mut out, b"c", b"d").expect("fits");
    put_sample(&mut out, SampleOrder::ValueFirst, 0, 0, 0).expect("fits");
    let mut expected: Vec<u8> = Vec::new();
    expected.extend(b"\x0a\x2a"); // timeseries, 42 bytes
    expected.extend(b"\x0a\x0e\x0a\x08__name__\x12\x02up");
    expected.extend(b"\x0a\x06\x0a\x01a\x12\x01b");
    expected.extend(b"\x12\x10\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x10\x80\xd0\x95\xff\xbc\x31");
    expected.extend(b"\x0a\x0a\x0a\x06\x0a\x01c\x12\x01d"); // timeseries, 10 bytes
    expected.extend(b"\x12\x00"); // value 0 at time 0: nothing to say
    assert_eq!(out[..], expected[..]);
}

#[test]
fn a_v2_request_byte_for_byte() {
    let mut out = buffer();
    for symbol in ["", "__name__", "up", "a", "b"] {
        put_symbol(&mut out, symbol.as_bytes()).expect("fits");
    }
    let size = len_sample(STALE_NAN_BITS, 1_700_000_000_000, 0) + len_sample(1 << 63, -1, 5);
    let gauge = SeriesMetadata {
        kind: MetricType::Gauge,
        ..SeriesMetadata::default()
    };
    begin_series_v2(&mut out, [1, 2, 3, 4].into_iter(), size + gauge.len()).expect("fits");
    gauge.put(&mut out).expect("fits");
    put_sample(&mut out, SampleOrder::ValueFirst, STALE_NAN_BITS, 1_700_000_000_000, 0).expect("fits");
    put_sample(&mut out, SampleOrder::ValueLast, 1 << 63, -1, 5).expect("fits");
    begin_series_v2(&mut out, [300, 2].into_iter(), 0).expect("fits");
    let mut expected: Vec<u8> = Vec::new();
    expected.extend(b"\x22\x00\x22\x08__name__\x22\x02up\x22\x01a\x22\x01b");
    expected.extend(b"\x2a\x34\x0a\x04\x01\x02\x03\x04"); // timeseries, 52 bytes; packed labels_refs
    expected.extend(b"\x2a\x02\x08\x02"); // metadata: gauge
    expected.extend(b"\x12\x10\x09\x02\x00\x00\x00\x00\x00\xf0\x7f\x10\x80\xd0\x95\xff\xbc\x31");
    expected.extend(b"\x12\x16\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    expected.extend(b"\x18\x05"); // start timestamp
    expected.extend(b"\x09\x00\x00\x00\x00\x00\x00\x00\x80"); // -0 is not the default
    expected.extend(b"\x2a\x05\x0a\x03\xac\x02\x02");
    assert_eq!(out[..], expected[..]);
}

#[test]
fn v1_is_what_the_declared_message_says() {
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..300 {
        let message = WriteRequest {
            timeseries: (0..rng.usize(0..6))
                .map(|_| TimeSeries {
                    labels: (0..rng.usize(0..5))
                        .map(|_| Label {
                            name: random_text(&mut rng),
                            value: random_text(&mut rng),
                        })
                        .collect(),
                    samples: random_samples(&mut rng, Protocol::V1),
                    ..TimeSeries::default()
                })
                .collect(),
            ..WriteRequest::default()
        };
        let out = write_v1(&message, *rng.choice(&ORDERS).expect("two"));
        assert_eq!(WriteRequest::decode(&out[..]), Ok(message.clone()));
        let shown = read(&out, Protocol::V1).expect("well-formed");
        assert_eq!(shown.len(), message.timeseries.len());
        for (series, (labels, samples, _)) in message.timeseries.iter().zip(&shown) {
            let expected: Vec<_> = series
                .labels
                .iter()
                .map(|l| (l.name.clone(), l.value.clone()))
                .collect();
            assert_eq!((labels, samples), (&expected, &series.samples));
        }
    }
}

#[test]
fn v2_is_what_the_declared_message_says() {
    let mut rng = fastrand::Rng::with_seed(12);
    for _ in 0..300 {
        let symbols: Vec<String> = (0..rng.usize(1..250)).map(|_| random_text(&mut rng)).collect();
        let message = Request {
            timeseries: (0..rng.usize(0..6))
                .map(|_| TimeSeriesV2 {
                    labels_refs: (0..rng.usize(0..8) * 2)
                        .map(|_| rng.u32(0..symbols.len() as u32))
                        .collect(),
                    samples: random_samples(&mut rng, Protocol::V2),
                    metadata: rng.bool().then(|| Metadata {
                        kind: rng.i32(1..8),
                        ..Metadata::default()
                    }),
                    ..TimeSeriesV2::default()
                })
                .collect(),
            symbols,
        };
        let out = write_v2(&message, *rng.choice(&ORDERS).expect("two"));
        let decoded = Request::decode(&out[..]).expect("well-formed");
        assert_eq!(decoded, message);
        let shown = read(&out, Protocol::V2).expect("well-formed");
        assert_eq!(shown.len(), message.timeseries.len());
        for (series, (labels, samples, kind)) in message.timeseries.iter().zip(&shown) {
            let text = |&r: &u32| message.symbols[r as usize].clone();
            let expected: Vec<_> = series
                .labels_refs
                .chunks(2)
                .map(|p| (text(&p[0]), text(&p[1])))
                .collect();
            assert_eq!((labels, samples), (&expected, &series.samples));
            assert_eq!(*kind as i32, series.metadata.as_ref().map_or(0, |m| m.kind));
        }
    }
}

#[test]
fn reader_skips_unknown_fields_and_takes_unpacked_references() {
    let body = b"\x22\x00\x22\x01a\x22\x01b\x08\x05\x2a\x0f\x08\x01\x08\x02\x12\x02\x10\x07\x1d1234\x22\x00\x11\x00\x00\x00\x00\x00\x00\x00\x00";
    // The series is 15 bytes: two references, a sample, a 4-byte field, an exemplar; the last 9 are a field of the request.
    let shown = read(body, Protocol::V2).expect("well-formed");
    assert_eq!(
        shown,
        [(
            alloc::vec![("a".to_string(), "b".to_string())],
            alloc::vec![Sample {
                bits: 0,
                timestamp: 7,
                start: 0
            }],
            MetricType::Unknown
        )]
    );
}

#[test]
fn reader_names_what_is_wrong() {
    for (body, error) in [
        (
            &b"\x22\x00\x2a\x03\x0a\x01\x05"[..],
            ReadError::Reference { index: 5, symbols: 1 },
        ),
        (b"\x22\x00\x2a\x03\x0a\x01\x00", ReadError::OddReferences),
        (b"\x22\x00\x2a\x00\x22\x01a", ReadError::LateSymbol),
        (b"\x22\x01\xff\x2a\x04\x0a\x02\x00\x00", ReadError::NotUtf8),
        (b"\x22\x05a", ReadError::Malformed(CursorError::Truncated)),
        (b"\x23\x05a", ReadError::WireType { tag: 0x23 }),
    ] {
        assert_eq!(read(body, Protocol::V2), Err(error), "{body:x?}");
    }
    let mut index = [(0, 0); 1];
    let error = Reader::new(b"\x22\x00\x22\x01a", Protocol::V2, &mut index).err();
    assert_eq!(error, Some(ReadError::TooManySymbols { limit: 1 }));
}

#[test]
fn reader_survives_any_damage() {
    let mut rng = fastrand::Rng::with_seed(13);
    let message = Request {
        symbols: ["", "__name__", "up", "job", "node"].map(String::from).to_vec(),
        timeseries: alloc::vec![
            TimeSeriesV2 {
                labels_refs: alloc::vec![1, 2, 3, 4],
                samples: alloc::vec![Sample { bits: 1 << 62, timestamp: 1_700_000_000_000, start: 1_600_000_000_000 }],
                metadata: Some(Metadata { kind: 1, ..Metadata::default() }),
                ..TimeSeriesV2::default()
            };
            3
        ],
    };
    let out = write_v2(&message, SampleOrder::ValueLast);
    let mut refused = 0;
    for _ in 0..20_000 {
        let mut bytes = out.to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        bytes.truncate(rng.usize(..=bytes.len()));
        refused += usize::from(read(&bytes, Protocol::V2).is_err());
        let _ = read(&bytes, Protocol::V1);
    }
    assert!(refused > 5000, "{refused}");
}
