//! Codec TC0: runs of unchanged series and byte-wise deltas.
//!
//! For targets too small for TC1, and easy to decode by hand. A frame is a sequence of tokens, each a varint
//! `run << 2 | op`: skip `run` unchanged series, then change one.
//!
//! | op | what follows | meaning |
//! |---|---|---|
//! | 0 | zz | delta of the mantissa, less the series' expected delta |
//! | 1 | scale u8, zz | the mantissa now counts in 10^-scale; delta at the new scale |
//! | 2 | nothing | same delta as the series that changed before this one in the frame |
//! | 3 | zz | delta of the float's pattern; the series stays in patterns until it is reset |
//!
//! Series left over after the last change are one token with op 0 and nothing behind it. Op 0 and 1 do not occur for a
//! series in bits mode.

use super::codec::DecodeError;
use super::state::{BITS, Place, SeriesState};
use super::varint::{Cursor, Sink, put_i64, put_u64};
use crate::frame::Full;
use crate::sample::{Number, Sample};

const DELTA: u64 = 0;
const RESCALED: u64 = 1;
const NEIGHBOUR: u64 = 2;
const PATTERN: u64 = 3;

/// Upper bound for a frame of `samples`: the dearest change is one byte of token, the scale and ten of varint; a token
/// only grows where it stands for 32 unchanged series or more.
pub(super) const fn max_encoded_bytes(samples: usize) -> usize {
    samples * 12 + 4
}

pub(super) fn encode(states: &mut [SeriesState], samples: &[Sample], out: &mut impl Sink) -> Result<(), Full> {
    let limit = states.len();
    let mut run = 0;
    let mut neighbour = None;
    for sample in samples {
        let state = states.get_mut(usize::from(sample.series.0)).ok_or(Full { limit })?;
        if state.holds(sample.number) {
            state.rest();
            run += 1;
        } else {
            let delta = encode_change(state, sample.number, run, neighbour, out)?;
            neighbour = Some(delta);
            state.advance(delta);
            run = 0;
        }
    }
    if run > 0 { put_u64(out, run << 2) } else { Ok(()) }
}

/// Writes one token and returns the delta it stands for.
fn encode_change(
    state: &mut SeriesState,
    number: Number,
    run: u64,
    neighbour: Option<i64>,
    out: &mut impl Sink,
) -> Result<i64, Full> {
    let token = run << 2;
    let place = if state.has(BITS) { None } else { state.place(number) };
    let Some(Place { scale, mantissa, .. }) = place else {
        let entering = !state.has(BITS);
        if entering {
            state.enter_bits();
        }
        let delta = number.to_bits().wrapping_sub(state.word()) as i64;
        if !entering && neighbour == Some(delta) {
            put_u64(out, token | NEIGHBOUR)?;
        } else {
            put_u64(out, token | PATTERN)?;
            put_i64(out, delta)?;
        }
        return Ok(delta);
    };
    let rescaled = scale != state.scale();
    if rescaled {
        state.set_scale(scale);
    }
    let delta = mantissa.wrapping_sub(state.word() as i64);
    if rescaled {
        put_u64(out, token | RESCALED)?;
        out.put(&[scale.unsigned_abs()])?;
        put_i64(out, delta)?;
    } else if neighbour == Some(delta) {
        put_u64(out, token | NEIGHBOUR)?;
    } else {
        put_u64(out, token | DELTA)?;
        put_i64(out, delta.wrapping_sub(state.expected_delta()))?;
    }
    Ok(delta)
}

pub(super) fn decode(states: &mut [SeriesState], bytes: &[u8], samples: &mut [Sample]) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let mut samples = samples.iter_mut();
    let mut neighbour = None;
    while samples.len() > 0 {
        let token = cursor.u64()?;
        let run = usize::try_from(token >> 2).map_err(|_| DecodeError::Malformed)?;
        if run > samples.len() {
            return Err(DecodeError::Malformed);
        }
        for sample in samples.by_ref().take(run) {
            let state = state_of(states, sample)?;
            state.rest();
            sample.number = state.number().ok_or(DecodeError::Malformed)?;
        }
        if let Some(sample) = samples.next() {
            let state = state_of(states, sample)?;
            let delta = decode_change(state, token & 3, neighbour, &mut cursor)?;
            neighbour = Some(delta);
            state.advance(delta);
            sample.number = state.number().ok_or(DecodeError::Malformed)?;
        }
    }
    if cursor.is_empty() {
        Ok(())
    } else {
        Err(DecodeError::TrailingBytes)
    }
}

fn state_of<'a>(states: &'a mut [SeriesState], sample: &Sample) -> Result<&'a mut SeriesState, DecodeError> {
    states
        .get_mut(usize::from(sample.series.0))
        .ok_or(DecodeError::UnknownSeries(sample.series))
}

fn decode_change(
    state: &mut SeriesState,
    op: u64,
    neighbour: Option<i64>,
    cursor: &mut Cursor<'_>,
) -> Result<i64, DecodeError> {
    match op {
        NEIGHBOUR => neighbour.ok_or(DecodeError::Malformed),
        PATTERN => {
            if !state.has(BITS) {
                state.enter_bits();
            }
            Ok(cursor.i64()?)
        }
        _ if state.has(BITS) => Err(DecodeError::Malformed),
        RESCALED => {
            let scale = i8::try_from(cursor.u8()?).map_err(|_| DecodeError::Malformed)?;
            if !state.set_scale(-scale) {
                return Err(DecodeError::Malformed);
            }
            Ok(cursor.i64()?)
        }
        _ => Ok(cursor.i64()?.wrapping_add(state.expected_delta())),
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use crate::frame::Bounded;
    use crate::sample::{Number, Sample, SeriesRef};
    use crate::value::codec::{DecodeError, SeriesState};
    use alloc::vec::Vec;

    fn frame(numbers: &[Number]) -> Vec<Sample> {
        let series = (0..).map(SeriesRef);
        numbers
            .iter()
            .zip(series)
            .map(|(&number, series)| Sample { number, series })
            .collect()
    }

    #[test]
    fn frames_have_the_documented_bytes() {
        let mut states = [SeriesState::RESET; 4];
        let mut bytes_of = |numbers: &[Number]| {
            let mut out = Bounded::with_capacity(100);
            encode(&mut states, &frame(numbers), &mut out).unwrap();
            out.to_vec()
        };
        let whole = |value| Number::decimal(value, 0);
        // First values: 0 counts as unchanged; 2.5 brings scale 1 and mantissa 25.
        assert_eq!(
            bytes_of(&[whole(0), whole(3), Number::decimal(25, -1), Number::from_raw_bits(1)]),
            [1 << 2, 6, 1, 1, 50, 3, 2]
        );
        // A run to the end of the frame is one token.
        assert_eq!(
            bytes_of(&[whole(0), whole(3), Number::decimal(25, -1), Number::from_raw_bits(1)]),
            [4 << 2]
        );
        // +10 three times: once in full, then as the neighbour's delta, mantissas and patterns alike.
        assert_eq!(
            bytes_of(&[whole(10), whole(13), Number::decimal(35, -1), Number::from_raw_bits(11)]),
            [0, 20, 2, 2, 2]
        );
    }

    #[test]
    fn damaged_frames_are_refused() {
        let attempt = |bytes: &[u8]| {
            let mut states = [SeriesState::RESET; 3];
            decode(&mut states, bytes, &mut frame(&[Number::STALE; 3]))
        };
        assert_eq!(attempt(&[3 << 2]), Ok(()));
        assert_eq!(attempt(&[]), Err(DecodeError::Truncated));
        assert_eq!(attempt(&[4 << 2]), Err(DecodeError::Malformed));
        assert_eq!(attempt(&[3 << 2, 0]), Err(DecodeError::TrailingBytes));
        // No neighbour yet; a scale that does not exist; a mantissa beyond 2^53; a decimal in bits mode.
        assert_eq!(attempt(&[2]), Err(DecodeError::Malformed));
        assert_eq!(attempt(&[1, 23, 2]), Err(DecodeError::Malformed));
        assert_eq!(
            attempt(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
            Err(DecodeError::Malformed)
        );
        let mut states = [SeriesState::RESET];
        let mut twice = [frame(&[Number::STALE])[0]; 2];
        assert_eq!(
            decode(&mut states, &[3, 2, 0, 2], &mut twice),
            Err(DecodeError::Malformed)
        );
    }
}
