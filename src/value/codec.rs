//! The codecs that turn the values of a scrape into bytes on flash and back.
//!
//! Both predict each value from the series' own past and from the neighbour in the frame, and write what the prediction
//! missed. [`CodecId::Tc1`] does so with an adaptive range coder, [`CodecId::Tc0`] with whole bytes. Which series
//! are present, and in which order, is not theirs: the caller gives both sides the same list.
//!
//! Invariants:
//! - `decode(encode(x))` has the same float bits as `x`, for every pattern. Decimals come back as decimals, except that TC1 may
//!   return those of 16 digits as patterns, and TC0 every value of a series that had to be a pattern once since the reset.
//! - The same series may occur several times in a frame.
//! - Encoder and decoder must see the same frames and the same resets in the same order. A frame that failed, on either
//!   side, leaves states and model between two frames: reset both before going on (a new chunk, the next SYNC).
//! - Decoding is total: arbitrary bytes give an error or wrong numbers, in time linear in the number of samples. Whether the
//!   bytes are the ones written is for the block's checksum to say.
//! - Nothing allocates after [`Codec::new`].

use super::tc0;
use super::tc1::{self, Model};
use super::varint::{CursorError, Sink};
use crate::frame::Full;
use crate::sample::{Sample, SeriesRef};
use alloc::boxed::Box;

pub use super::state::SeriesState;
/// The codec byte of a segment header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum CodecId {
    /// Runs and varint deltas.
    Tc0 = 0,
    /// Adaptive binary range coder: about half the bytes of TC0.
    #[default]
    Tc1 = 1,
}

impl CodecId {
    /// The codec with this byte, `None` if this version has none.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Tc0),
            1 => Some(Self::Tc1),
            _ => None,
        }
    }

    /// Upper bound for the encoded bytes of a frame of `samples` samples, whatever their values and history.
    ///
    /// TC0 12, TC1 39 bytes per sample. Real frames stay below a tenth of it after the first.
    #[must_use]
    pub const fn max_encoded_bytes(self, samples: usize) -> usize {
        match self {
            Self::Tc0 => tc0::max_encoded_bytes(samples),
            Self::Tc1 => tc1::max_encoded_bytes(samples),
        }
    }
}

/// A codec with what it has learned since the last reset. One for the writer, one for each reader.
///
/// The series' states are the caller's, 19 bytes each ([`SeriesState`]), because they are reset one by one as well.
#[derive(Debug)]
pub struct Codec {
    /// TC0 learns nothing beyond the series.
    model: Option<Box<Model>>,
}

impl Codec {
    /// A codec as after [`Codec::reset`]. Allocates [`Codec::ram_bytes`]; the only call here that does.
    #[must_use]
    pub fn new(id: CodecId) -> Self {
        Self {
            model: match id {
                CodecId::Tc0 => None,
                CodecId::Tc1 => Some(Box::new(Model::new())),
            },
        }
    }

    /// Which codec this is.
    #[must_use]
    pub const fn id(&self) -> CodecId {
        match self.model {
            None => CodecId::Tc0,
            Some(_) => CodecId::Tc1,
        }
    }

    /// Heap bytes of a codec, without the series' states.
    #[must_use]
    pub const fn ram_bytes(id: CodecId) -> usize {
        match id {
            CodecId::Tc0 => 0,
            CodecId::Tc1 => size_of::<Model>(),
        }
    }

    /// [`CodecId::max_encoded_bytes`] of this codec.
    #[must_use]
    pub const fn max_encoded_bytes(&self, samples: usize) -> usize {
        self.id().max_encoded_bytes(samples)
    }

    /// Forgets what was learned, at a SYNC point or after a failed frame. The caller sets every state to
    /// [`SeriesState::RESET`] as well.
    pub fn reset(&mut self) {
        if let Some(model) = &mut self.model {
            **model = Model::new();
        }
    }

    /// Encodes the values of one frame, in the order of `samples`. `states` is indexed by [`SeriesRef`].
    ///
    /// A series that has died and whose index names another gets [`SeriesState::RESET`] first, on both sides.
    ///
    /// # Errors
    /// [`Full`] when `out` is, or when a series lies beyond `states` (the limit then is its length). States and model have
    /// moved on part of the frame: take back what `out` got and reset. To be sure beforehand, keep
    /// [`Codec::max_encoded_bytes`] free.
    pub fn encode(&mut self, states: &mut [SeriesState], samples: &[Sample], out: &mut impl Sink) -> Result<(), Full> {
        match &mut self.model {
            None => tc0::encode(states, samples, out),
            Some(model) => tc1::encode(model, states, samples, out),
        }
    }

    /// Decodes one frame: `samples` names the series as they were given to [`Codec::encode`], the numbers are filled in.
    ///
    /// `bytes` is exactly what was encoded.
    ///
    /// # Errors
    /// [`DecodeError`]; the numbers are then arbitrary, and states and model must be reset.
    pub fn decode(
        &mut self,
        states: &mut [SeriesState],
        bytes: &[u8],
        samples: &mut [Sample],
    ) -> Result<(), DecodeError> {
        match &mut self.model {
            None => tc0::decode(states, bytes, samples),
            Some(model) => tc1::decode(model, states, bytes, samples),
        }
    }
}

/// Why a frame could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the last sample.
    Truncated,
    /// Bytes are left after the last sample.
    TrailingBytes,
    /// No encoder writes this.
    Malformed,
    /// A sample names a series beyond the states given.
    UnknownSeries(SeriesRef),
}

impl From<CursorError> for DecodeError {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::Truncated => Self::Truncated,
            CursorError::Overflow => Self::Malformed,
        }
    }
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated => f.write_str("frame ends before its last sample"),
            Self::TrailingBytes => f.write_str("frame has bytes after its last sample"),
            Self::Malformed => f.write_str("frame holds what no encoder writes"),
            Self::UnknownSeries(series) => write!(f, "frame names series {}, beyond the series table", series.0),
        }
    }
}

impl core::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::{Codec, CodecId};

    #[test]
    fn codec_bytes_on_flash_are_fixed() {
        for (id, byte) in [(CodecId::Tc0, 0), (CodecId::Tc1, 1)] {
            assert_eq!(id as u8, byte);
            assert_eq!(CodecId::from_byte(byte), Some(id));
            assert_eq!(Codec::new(id).id(), id);
        }
        assert_eq!(CodecId::from_byte(2), None);
    }

    #[test]
    fn ram_is_what_the_docs_say() {
        assert_eq!(Codec::ram_bytes(CodecId::Tc0), 0);
        assert_eq!(Codec::ram_bytes(CodecId::Tc1), 3602);
    }
}
