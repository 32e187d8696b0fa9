//! Round trips through both codecs: what goes onto flash comes back bit for bit.

#[path = "common/capture.rs"]
mod capture;

use capture::Capture;
use tidegate::frame::{Bounded, Full};
use tidegate::sample::{NORMAL_NAN_BITS, Number, STALE_NAN_BITS, Sample, SeriesRef};
use tidegate::value::codec::{Codec, CodecId, DecodeError, SeriesState};
use tidegate::value::from_decimal;

const BOTH: [CodecId; 2] = [CodecId::Tc0, CodecId::Tc1];

/// Writer and reader side by side, as in the ring.
struct Pair {
    encoder: Codec,
    decoder: Codec,
    written: Vec<SeriesState>,
    read: Vec<SeriesState>,
    buffer: Bounded<u8>,
}

impl Pair {
    fn new(id: CodecId, series: usize) -> Self {
        let encoder = Codec::new(id);
        assert_eq!(encoder.id(), id);
        let buffer = Bounded::with_capacity(encoder.max_encoded_bytes(4096));
        Self {
            encoder,
            decoder: Codec::new(id),
            written: vec![SeriesState::RESET; series],
            read: vec![SeriesState::RESET; series],
            buffer,
        }
    }

    fn reset(&mut self) {
        self.encoder.reset();
        self.decoder.reset();
        self.written.fill(SeriesState::RESET);
        self.read.fill(SeriesState::RESET);
    }

    fn redefine(&mut self, series: usize) {
        self.written[series] = SeriesState::RESET;
        self.read[series] = SeriesState::RESET;
    }

    /// Sends one frame through; returns its size.
    fn pass(&mut self, samples: &[Sample]) -> usize {
        self.buffer.clear();
        self.encoder
            .encode(&mut self.written, samples, &mut self.buffer)
            .unwrap();
        assert!(self.buffer.len() <= self.encoder.max_encoded_bytes(samples.len()));
        let mut back = samples.to_vec();
        back.iter_mut().for_each(|sample| sample.number = Number::STALE);
        self.decoder.decode(&mut self.read, &self.buffer, &mut back).unwrap();
        for (sample, back) in samples.iter().zip(&back) {
            assert_eq!(
                back.number.to_bits(),
                sample.number.to_bits(),
                "{:?} became {:?}",
                sample,
                back
            );
        }
        assert!(self.written == self.read, "encoder and decoder have diverged");
        self.buffer.len()
    }
}

fn sample(series: usize, number: Number) -> Sample {
    Sample {
        number,
        series: SeriesRef(series as u16),
    }
}

/// Numbers of every kind, the awkward ones often.
fn any_number(rng: &mut fastrand::Rng) -> Number {
    let whole = |value: i64| from_decimal(value, 0).unwrap();
    match rng.u8(0..12) {
        0 => Number::from_raw_bits(rng.u64(..)),
        1 => Number::from_raw_bits(*rng.choice(&SPECIAL_BITS).unwrap()),
        // Signalling and quiet NaNs with any payload.
        2 => Number::from_raw_bits(0x7ff0_0000_0000_0000 | rng.u64(..) & 0x800f_ffff_ffff_ffff),
        // Subnormals.
        3 => Number::from_raw_bits(rng.u64(..) & 0x800f_ffff_ffff_ffff),
        4 => whole(rng.i64(-3..4)),
        5 => whole(((1 << 53) - 1 - rng.i64(0..3)) * if rng.bool() { 1 } else { -1 }),
        6 => whole(1 << rng.u32(0..53)),
        7 => from_decimal((1 << 53) - 1 - rng.i64(0..9), -rng.i32(0..23)).unwrap(),
        8 => from_decimal(rng.i64(-9..10), -rng.i32(0..23)).unwrap(),
        // A whole number given as a float's bits.
        9 => Number::from_raw_bits((rng.i64(-9..10) as f64).to_bits()),
        _ => from_decimal(rng.i64(..) >> rng.u32(11..64), -rng.i32(0..12)).unwrap_or(Number::decimal(0, 0)),
    }
}

const SPECIAL_BITS: [u64; 14] = [
    STALE_NAN_BITS,
    NORMAL_NAN_BITS,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x8000_0000_0000_0000,
    0,
    1,
    u64::MAX,
    0x7fef_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x3ff0_0000_0000_0000,
    0x4340_0000_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xfff8_0000_0000_0000,
];

#[test]
fn arbitrary_numbers_come_back_bit_for_bit() {
    for id in BOTH {
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let series = rng.usize(1..40);
            let mut pair = Pair::new(id, series);
            for _ in 0..60 {
                let samples: Vec<_> = (0..rng.usize(0..3 * series))
                    .map(|_| sample(rng.usize(0..series), any_number(&mut rng)))
                    .collect();
                pair.pass(&samples);
            }
        }
    }
}

/// A float that is an everyday sum: decimals added up, with the error that brings.
fn drifted_sum(rng: &mut fastrand::Rng) -> Number {
    let unit = 10f64.powi(rng.i32(1..10));
    let terms = (0..rng.u32(1..200)).map(|_| rng.i32(-100_000..1_000_000) as f64 / unit);
    tidegate::value::from_bits(terms.sum::<f64>().to_bits())
}

/// What a real target does to one series between two scrapes, and what it should not.
fn evolve(rng: &mut fastrand::Rng, value: &mut (i64, i32)) -> Number {
    let (mantissa, exponent) = value;
    match rng.u8(0..20) {
        0..10 => {}
        10 => *mantissa = rng.i64(-1000..1000) * 4096,
        11 => *mantissa = 0,
        12 => *exponent = -rng.i32(0..23),
        // A counter that wraps at 32, 53 or 64 bits.
        13 => *mantissa = (*mantissa + (1 << 31)) & 0xffff_ffff,
        14 => *mantissa = ((1 << 53) - 1) * if rng.bool() { 1 } else { -1 },
        15 => *mantissa = mantissa.wrapping_neg(),
        _ => *mantissa = mantissa.wrapping_add(rng.i64(0..100)),
    }
    match rng.u8(0..200) {
        0 => Number::from_raw_bits(*rng.choice(&SPECIAL_BITS).unwrap()),
        1 => any_number(rng),
        2..30 => drifted_sum(rng),
        _ => from_decimal(*mantissa, *exponent)
            .unwrap_or_else(|| Number::from_raw_bits((*mantissa as f64 * 10f64.powi(*exponent)).to_bits())),
    }
}

#[test]
fn histories_survive_resets_redefinitions_and_reordering_anywhere() {
    for id in BOTH {
        for seed in 0..30 {
            let mut rng = fastrand::Rng::with_seed(1000 + seed);
            let series = rng.usize(1..60);
            let mut pair = Pair::new(id, series);
            let mut values = vec![(0, 0); series];
            let mut present: Vec<usize> = (0..series).collect();
            for _ in 0..200 {
                match rng.u8(0..40) {
                    0 => pair.reset(),
                    1 => pair.redefine(rng.usize(0..series)),
                    2 => rng.shuffle(&mut present),
                    3 => present.truncate(rng.usize(0..=present.len())),
                    4 => present = (0..series).collect(),
                    5 => present.push(rng.usize(0..series)),
                    _ => {}
                }
                let samples: Vec<_> = present
                    .iter()
                    .map(|&series| sample(series, evolve(&mut rng, &mut values[series])))
                    .collect();
                pair.pass(&samples);
            }
        }
    }
}

#[test]
fn mantissas_cross_every_edge_at_every_scale() {
    for id in BOTH {
        let mut pair = Pair::new(id, 1);
        let edges: Vec<i64> = (0..53)
            .flat_map(|bit| [(1 << bit) - 1, 1 << bit, -(1 << bit)])
            .chain([(1 << 53) - 1])
            .collect();
        let mut numbers: Vec<Number> = Vec::new();
        for exponent in 0..=22 {
            numbers.extend(edges.iter().filter_map(|&mantissa| from_decimal(mantissa, -exponent)));
        }
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..4 {
            for &number in &numbers {
                pair.pass(&[sample(0, number)]);
            }
            rng.shuffle(&mut numbers);
        }
    }
}

#[test]
fn decimals_come_back_as_decimals() {
    for id in BOTH {
        let mut pair = Pair::new(id, 3);
        for value in 0..50 {
            let samples = [
                sample(0, from_decimal(value, -3).unwrap()),
                sample(1, from_decimal(value / 10, 0).unwrap()),
                sample(2, from_decimal(-7 * value, -(value % 5) as i32).unwrap()),
            ];
            pair.pass(&samples);
            let mut back = samples;
            let mut codec = Codec::new(id);
            let mut states = [SeriesState::RESET; 3];
            let mut bytes = Bounded::with_capacity(100);
            Codec::new(id)
                .encode(&mut [SeriesState::RESET; 3], &samples, &mut bytes)
                .unwrap();
            codec.decode(&mut states, &bytes, &mut back).unwrap();
            assert_eq!(back, samples);
        }
    }
}

#[test]
fn worst_case_bound_holds_where_every_guess_is_wrong() {
    for id in BOTH {
        let series = 300;
        let mut pair = Pair::new(id, series);
        let quiet: Vec<_> = (0..series)
            .map(|series| sample(series, Number::decimal(5, 0)))
            .collect();
        let mut rng = fastrand::Rng::with_seed(8);
        for round in 0..20 {
            for _ in 0..100 {
                pair.pass(&quiet);
            }
            let noise: Vec<_> = (0..series)
                .map(|series| sample(series, Number::from_raw_bits(rng.u64(..))))
                .collect();
            pair.pass(&noise);
            if round % 4 == 3 {
                pair.reset();
            }
        }
    }
}

#[test]
fn an_empty_frame_costs_nothing() {
    for id in BOTH {
        assert_eq!(Pair::new(id, 1).pass(&[]), 0);
    }
}

#[test]
fn a_steady_scrape_costs_next_to_nothing() {
    for (id, limit) in [(CodecId::Tc0, 2), (CodecId::Tc1, 10)] {
        let mut pair = Pair::new(id, 1000);
        let samples: Vec<_> = (0..1000)
            .map(|series| sample(series, Number::decimal(series as i64, 0)))
            .collect();
        let bytes = (0..50).map(|_| pair.pass(&samples)).last().unwrap();
        assert!(bytes <= limit, "{id:?} takes {bytes} bytes for 1000 unchanged series");
    }
}

#[test]
fn a_full_sink_is_an_error_and_reset_recovers() {
    for id in BOTH {
        let mut rng = fastrand::Rng::with_seed(9);
        let samples: Vec<_> = (0..50).map(|series| sample(series, any_number(&mut rng))).collect();
        let mut pair = Pair::new(id, 50);
        let whole = pair.pass(&samples);
        for capacity in 0..whole {
            pair.reset();
            let mut small = Bounded::with_capacity(capacity);
            let outcome = pair.encoder.encode(&mut pair.written, &samples, &mut small);
            assert_eq!(outcome, Err(Full { limit: capacity }));
            pair.reset();
            assert_eq!(pair.pass(&samples), whole);
        }
    }
}

#[test]
fn a_series_beyond_the_states_is_an_error() {
    for id in BOTH {
        let mut codec = Codec::new(id);
        let mut states = [SeriesState::RESET; 2];
        let mut samples = [sample(2, Number::decimal(1, 0))];
        let mut out = Bounded::with_capacity(64);
        assert_eq!(codec.encode(&mut states, &samples, &mut out), Err(Full { limit: 2 }));
        let mut bytes = Bounded::with_capacity(64);
        Codec::new(id)
            .encode(&mut [SeriesState::RESET; 3], &samples, &mut bytes)
            .unwrap();
        codec.reset();
        let outcome = codec.decode(&mut states, &bytes, &mut samples);
        assert_eq!(outcome, Err(DecodeError::UnknownSeries(SeriesRef(2))));
    }
}

#[test]
fn decoding_is_total_on_arbitrary_bytes() {
    let mut outcomes = [0_u32; 2];
    for id in BOTH {
        let mut rng = fastrand::Rng::with_seed(10);
        let mut pair = Pair::new(id, 20);
        for _ in 0..20_000 {
            let mut samples: Vec<_> = (0..rng.usize(0..40))
                .map(|_| sample(rng.usize(0..20), any_number(&mut rng)))
                .collect();
            if rng.u8(0..4) == 0 {
                pair.reset();
            }
            let mut bytes: Vec<u8> = if rng.bool() {
                (0..rng.usize(0..80)).map(|_| rng.u8(..)).collect()
            } else {
                // A real frame with a flipped bit, cut or lengthened.
                pair.reset();
                pair.buffer.clear();
                pair.encoder
                    .encode(&mut pair.written, &samples, &mut pair.buffer)
                    .unwrap();
                pair.buffer.to_vec()
            };
            match rng.u8(0..3) {
                0 if !bytes.is_empty() => {
                    let at = rng.usize(0..bytes.len());
                    bytes[at] ^= 1 << rng.u8(0..8);
                }
                1 => bytes.truncate(rng.usize(0..=bytes.len())),
                _ => bytes.push(rng.u8(..)),
            }
            let outcome = pair.decoder.decode(&mut pair.read, &bytes, &mut samples);
            outcomes[usize::from(outcome.is_ok())] += 1;
        }
    }
    assert!(outcomes.iter().all(|&count| count > 1000), "{outcomes:?}");
}

#[test]
fn recorded_scrapes_come_back_within_their_budget() {
    // Payload bytes per sample over all frames of the file, the first in full: TC0, TC1. A budget, not a goal: it
    // stands a little above what is reached.
    for (file, budgets) in [
        ("node-15s", [1.37, 0.87]),
        ("prometheus-15s", [1.21, 0.79]),
        ("vmagent-15s", [0.77, 0.43]),
    ] {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/captures");
        let capture = Capture::read(&directory.join(file).with_extension("cap.gz"));
        for (id, budget) in BOTH.into_iter().zip(budgets) {
            let mut pair = Pair::new(id, capture.series.len());
            let bytes: usize = capture.scrapes.iter().map(|samples| pair.pass(samples)).sum();
            let samples: usize = capture.scrapes.iter().map(Vec::len).sum();
            let per_sample = bytes as f64 / samples as f64;
            assert!(
                per_sample <= budget,
                "{file} in {id:?}: {per_sample:.3} bytes per sample, budget is {budget}"
            );
        }
    }
}
