//! Streaming gunzip: compressed bytes in, plain bytes out, nothing allocated after construction.
//!
//! Reads gzip files as RFC 1952 has them: optional header fields, header checksum, several members one
//! after the other. Every member's CRC-32 and length are checked. What the header says of file name,
//! time or system is skipped.
//!
//! Invariants: output is handed on in pieces of at most 32 KiB as it appears; memory does not depend on
//! the input. The length of the output is not limited here: the receiver of the pieces counts and
//! refuses (a 10 KB bomb inflates to 10 MB).
//!
//! Memory: one [`Gunzip`] is 43 KiB (32 KiB window, 10.5 KiB decoder). Share one between the scrapes of
//! a worker.
//!
//! Hostile input: a member without content yields no output and costs 18 bytes, so an endless row of
//! members is bounded only by the caller's deadline and byte count.
//!
//! Sources: RFC 1952, RFC 1951.

use alloc::boxed::Box;
use core::fmt;

use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// The window a deflate stream may refer back to; the decoder wants exactly this (a power of two).
const WINDOW_BYTES: usize = 32 * 1024;

/// 1 KiB table: checksumming is a tenth of the inflating even so.
static CRC32: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// Why a body is not valid gzip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GunzipError {
    /// The first bytes of a member are not those of gzip, name another method or set reserved flags.
    Header,
    /// The header's own checksum does not match.
    HeaderChecksum,
    /// The deflate stream is malformed.
    Data,
    /// The plain bytes do not have the checksum the trailer gives.
    Checksum,
    /// The plain bytes are not as many as the trailer says.
    Length,
    /// The input ended inside a member, or there was none.
    Truncated,
}

impl fmt::Display for GunzipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "gzip: invalid header",
            Self::HeaderChecksum => "gzip: header checksum does not match",
            Self::Data => "gzip: malformed deflate data",
            Self::Checksum => "gzip: checksum does not match",
            Self::Length => "gzip: length does not match",
            Self::Truncated => "gzip: unexpected end of data",
        })
    }
}

impl core::error::Error for GunzipError {}

/// Where in a member the next byte belongs. `flags` are the header's optional fields still to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Fixed { at: u8 },
    ExtraLength { flags: u8, low: Option<u8> },
    Extra { flags: u8, left: u16 },
    Name { flags: u8 },
    Comment { flags: u8 },
    HeaderCrc { low: Option<u8> },
    Body,
    Trailer { at: u8 },
}

const HEADER_CRC: u8 = 0x02;
const EXTRA: u8 = 0x04;
const NAME: u8 = 0x08;
const COMMENT: u8 = 0x10;
const RESERVED: u8 = 0xe0;

impl Stage {
    const START: Self = Self::Fixed { at: 0 };

    /// The stage of the first optional field in `flags`, or the body.
    fn after_header(flags: u8) -> Self {
        if flags & EXTRA != 0 {
            Self::ExtraLength {
                flags: flags & !EXTRA,
                low: None,
            }
        } else if flags & NAME != 0 {
            Self::Name { flags: flags & !NAME }
        } else if flags & COMMENT != 0 {
            Self::Comment {
                flags: flags & !COMMENT,
            }
        } else if flags & HEADER_CRC != 0 {
            Self::HeaderCrc { low: None }
        } else {
            Self::Body
        }
    }
}

/// The state of one gunzip; reusable after [`Gunzip::reset`].
pub struct Gunzip {
    decoder: DecompressorOxide,
    /// Fresh memory is zero without being written: its pages are not touched until a target compresses.
    window: Box<[u8]>,
    /// Next place in the window.
    at: usize,
    stage: Stage,
    flags: u8,
    /// Over the header, then over the plain bytes, of this member.
    digest: Digest<'static, u32, Table<1>>,
    /// Plain bytes of this member, modulo 2^32 as the trailer has them.
    length: u32,
    trailer: [u8; 8],
    members: u32,
}

impl Gunzip {
    /// Allocates the state: 43 KiB. Nothing is allocated later.
    #[must_use]
    pub fn new() -> Box<Self> {
        Box::new(Self {
            decoder: DecompressorOxide::new(),
            window: alloc::vec![0; WINDOW_BYTES].into(),
            at: 0,
            stage: Stage::START,
            flags: 0,
            digest: CRC32.digest(),
            length: 0,
            trailer: [0; 8],
            members: 0,
        })
    }

    /// Forgets everything; the next byte fed is the first of a new file.
    pub fn reset(&mut self) {
        self.start_member();
        self.members = 0;
    }

    fn start_member(&mut self) {
        self.decoder.init();
        self.at = 0;
        self.stage = Stage::START;
        self.flags = 0;
        self.digest = CRC32.digest();
        self.length = 0;
    }

    /// Inflates from the front of `input` until one piece of at most 32 KiB has gone to `sink`, or `input` is used up.
    /// Returns whether there is more to come from it.
    ///
    /// # Errors
    ///
    /// A [`GunzipError`] other than `Truncated`, or whatever `sink` returns; in both cases the state is
    /// of no further use before [`Self::reset`].
    pub fn step<E: From<GunzipError>>(
        &mut self,
        input: &mut &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        loop {
            if self.stage == Stage::Body {
                let (status, read, written) = decompress(
                    &mut self.decoder,
                    input,
                    &mut self.window,
                    self.at,
                    TINFL_FLAG_HAS_MORE_INPUT,
                );
                *input = input.get(read..).unwrap_or_default();
                let plain = self.window.get(self.at..self.at + written).unwrap_or_default();
                self.digest.update(plain);
                self.length = self.length.wrapping_add(written as u32);
                self.at = (self.at + written) % WINDOW_BYTES;
                let some = !plain.is_empty();
                if some {
                    sink(plain)?;
                }
                match status {
                    TINFLStatus::Done => self.stage = Stage::Trailer { at: 0 },
                    TINFLStatus::HasMoreOutput => {}
                    TINFLStatus::NeedsMoreInput if input.is_empty() => return Ok(false),
                    TINFLStatus::NeedsMoreInput => {}
                    _ => return Err(GunzipError::Data.into()),
                }
                if some {
                    return Ok(true);
                }
            } else {
                let Some((byte, rest)) = input.split_first() else {
                    return Ok(false);
                };
                *input = rest;
                self.take_frame_byte(*byte)?;
            }
        }
    }

    /// Says that no more input comes.
    ///
    /// # Errors
    ///
    /// [`GunzipError::Truncated`] unless the input ended at the end of a member.
    pub fn finish(&self) -> Result<(), GunzipError> {
        let complete = self.members > 0 && self.stage == Stage::START;
        if complete { Ok(()) } else { Err(GunzipError::Truncated) }
    }

    /// One byte of header or trailer.
    fn take_frame_byte(&mut self, byte: u8) -> Result<(), GunzipError> {
        let stage = self.stage;
        let header_crc = self.digest.clone();
        self.digest.update(&[byte]);
        self.stage = match stage {
            Stage::Fixed { at } => self.fixed_header(at, byte)?,
            Stage::ExtraLength { flags, low: None } => Stage::ExtraLength { flags, low: Some(byte) },
            Stage::ExtraLength { flags, low: Some(low) } => match u16::from_le_bytes([low, byte]) {
                0 => Stage::after_header(flags),
                left => Stage::Extra { flags, left },
            },
            Stage::Extra { flags, left: 1 } => Stage::after_header(flags),
            Stage::Extra { flags, left } => Stage::Extra { flags, left: left - 1 },
            Stage::Name { flags } | Stage::Comment { flags } if byte == 0 => Stage::after_header(flags),
            Stage::Name { .. } | Stage::Comment { .. } => stage,
            Stage::HeaderCrc { low: None } => {
                self.digest = header_crc;
                Stage::HeaderCrc { low: Some(byte) }
            }
            Stage::HeaderCrc { low: Some(low) } => {
                // The checksum covers the header without itself; the bytes of it were not added.
                if header_crc.finalize() as u16 != u16::from_le_bytes([low, byte]) {
                    return Err(GunzipError::HeaderChecksum);
                }
                Stage::Body
            }
            Stage::Body => Stage::Body,
            Stage::Trailer { at } => {
                self.digest = header_crc;
                return self.trailer_byte(at, byte);
            }
        };
        if self.stage == Stage::Body {
            self.digest = CRC32.digest();
        }
        Ok(())
    }

    fn fixed_header(&mut self, at: u8, byte: u8) -> Result<Stage, GunzipError> {
        let valid = match at {
            0 => byte == 0x1f,
            1 => byte == 0x8b,
            2 => byte == 8,
            3 => byte & RESERVED == 0,
            _ => true,
        };
        if !valid {
            return Err(GunzipError::Header);
        }
        if at == 3 {
            self.flags = byte;
        }
        // Ten bytes: magic, method, flags, time (4), extra flags, system.
        Ok(if at == 9 {
            Stage::after_header(self.flags)
        } else {
            Stage::Fixed { at: at + 1 }
        })
    }

    fn trailer_byte(&mut self, at: u8, byte: u8) -> Result<(), GunzipError> {
        if let Some(place) = self.trailer.get_mut(usize::from(at)) {
            *place = byte;
        }
        if at < 7 {
            self.stage = Stage::Trailer { at: at + 1 };
            return Ok(());
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3] = self.trailer;
        if self.digest.clone().finalize() != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(GunzipError::Checksum);
        }
        if self.length != u32::from_le_bytes([l0, l1, l2, l3]) {
            return Err(GunzipError::Length);
        }
        self.members = self.members.saturating_add(1);
        self.start_member();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use std::io::Write;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).expect("to a vector");
        encoder.finish().expect("to a vector")
    }

    fn feed<E: From<GunzipError>>(
        state: &mut Gunzip,
        mut input: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while state.step(&mut input, &mut sink)? {}
        Ok(())
    }

    fn gunzip_in_pieces(gz: &[u8], piece: usize) -> Result<Vec<u8>, GunzipError> {
        let mut state = Gunzip::new();
        let mut out = Vec::new();
        for chunk in gz.chunks(piece) {
            feed(&mut state, chunk, |plain| -> Result<(), GunzipError> {
                out.extend_from_slice(plain);
                Ok(())
            })?;
        }
        state.finish().map(|()| out)
    }

    fn sample() -> Vec<u8> {
        (0..20_000u32)
            .flat_map(|n| format!("node_cpu_seconds_total{{cpu=\"{}\"}} {n}\n", n % 7).into_bytes())
            .collect()
    }

    #[test]
    fn any_cut_of_the_input_gives_the_same_output() {
        let (plain, gz) = (sample(), gzip(&sample()));
        for piece in [1, 2, 7, 1000, 4096, gz.len()] {
            assert_eq!(
                gunzip_in_pieces(&gz, piece).as_deref(),
                Ok(plain.as_slice()),
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn optional_header_fields_are_skipped_and_checked() {
        let mut head = alloc::vec![0x1f, 0x8b, 8, EXTRA | NAME | COMMENT | HEADER_CRC, 1, 2, 3, 4, 0, 3];
        head.extend_from_slice(&[3, 0, b'a', b'b', b'c']);
        head.extend_from_slice(b"name\0comment\0");
        let crc = CRC32.checksum(&head) as u16;
        let body = gzip(b"up 1\n")[10..].to_vec();
        let good = [head.as_slice(), &crc.to_le_bytes(), &body].concat();
        assert_eq!(gunzip_in_pieces(&good, 1).as_deref(), Ok(b"up 1\n".as_slice()));
        let bad = [head.as_slice(), &(crc ^ 1).to_le_bytes(), &body].concat();
        assert_eq!(gunzip_in_pieces(&bad, 1), Err(GunzipError::HeaderChecksum));
    }

    #[test]
    fn members_follow_each_other() {
        let both = [gzip(b"a 1\n"), gzip(b""), gzip(b"b 2\n")].concat();
        assert_eq!(gunzip_in_pieces(&both, 5).as_deref(), Ok(b"a 1\nb 2\n".as_slice()));
    }

    #[test]
    fn every_truncation_is_noticed() {
        let gz = gzip(b"a_metric 1\nanother_metric 2\n");
        for end in 0..gz.len() {
            assert_eq!(
                gunzip_in_pieces(&gz[..end], 8),
                Err(GunzipError::Truncated),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn damage_is_noticed() {
        let gz = gzip(b"a_metric 1\nanother_metric 2\n");
        let flip = |at: usize, bit: u8| {
            let mut damaged = gz.clone();
            damaged[at] ^= bit;
            gunzip_in_pieces(&damaged, 64)
        };
        assert_eq!(flip(0, 1), Err(GunzipError::Header));
        assert_eq!(flip(2, 1), Err(GunzipError::Header));
        assert_eq!(flip(3, 0x80), Err(GunzipError::Header));
        assert_eq!(flip(gz.len() - 8, 1), Err(GunzipError::Checksum));
        assert_eq!(flip(gz.len() - 1, 1), Err(GunzipError::Length));
        let garbage = [gz.as_slice(), b"trailing"].concat();
        assert_eq!(gunzip_in_pieces(&garbage, 64), Err(GunzipError::Header));
        assert_eq!(
            gunzip_in_pieces(b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xff\xff\xff", 64),
            Err(GunzipError::Data)
        );
    }

    #[test]
    fn a_refusing_sink_stops_a_bomb_at_once() {
        #[derive(Debug, PartialEq)]
        struct Enough;
        impl From<GunzipError> for Enough {
            fn from(error: GunzipError) -> Self {
                panic!("valid gzip was refused: {error}")
            }
        }
        let bomb = gzip(&alloc::vec![0; 10 << 20]);
        let mut seen = 0;
        let mut state = Gunzip::new();
        let result = feed(&mut state, &bomb, |plain| {
            seen += plain.len();
            if seen > 100_000 { Err(Enough) } else { Ok(()) }
        });
        assert_eq!(result, Err(Enough));
        assert!(seen <= 100_000 + WINDOW_BYTES);
        state.reset();
        let (mut rest, mut pieces) = (bomb.as_slice(), 0);
        while state
            .step(&mut rest, |plain| -> Result<(), Enough> {
                assert!(plain.len() <= WINDOW_BYTES);
                Ok(())
            })
            .expect("it is valid")
        {
            pieces += 1;
        }
        assert!(pieces >= (10 << 20) / WINDOW_BYTES, "a step hands on one piece");
        state.reset();
        let mut out = Vec::new();
        feed(&mut state, &gzip(b"fine"), |plain| -> Result<(), Enough> {
            out.extend_from_slice(plain);
            Ok(())
        })
        .expect("state is usable after reset");
        assert_eq!(out, b"fine");
    }
}
