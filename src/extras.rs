//! What a sample may carry beside its value: a native histogram, exemplars, a start time.
//!
//! A frame keeps them as one run of bytes, in memory exactly as on flash (`src/wal/FORMAT.md`, "EXTRAS"): the ring copies
//! them, only the scrape that writes and the sender that reads look inside.
//!
//! ```text
//! kind u8 | length varint | payload           bit 7 of kind: safe to skip if unknown
//! 01 HISTOGRAM   position varint | message
//! 82 EXEMPLAR    position varint | value f64 | time zz, least i64 if none | labels
//! 83 START TIME  positions since the last start time varint | milliseconds since it zz (the first against 0)
//! ```
//!
//! - `position` is an index into the frame's samples. Positions of one kind do not fall; those of histograms rise.
//! - A sample with a HISTOGRAM is that native histogram; its number is the count of observations and is not sent.
//! - `message` is remote write's `Histogram` message (1.0 and 2.0 have the same field numbers), without fields 15 (timestamp)
//!   and 17 (start timestamp), which the sender adds.
//! - `labels` is text of the form `a="b",c="d"`, sorted by name, values escaped as in an exposition.
//!
//! Nothing allocates after [`Extras::with_capacity`]. Reading checks every length: arbitrary bytes give a
//! [`CursorError`], never a panic.

use crate::frame::{Bounded, Full};
use crate::value::varint::{Cursor, CursorError, Sink, len_u64, put_i64, put_u64, zigzag};

mod kind {
    pub const HISTOGRAM: u8 = 0x01;
    pub const EXEMPLAR: u8 = 0x82;
    pub const START_TIME: u8 = 0x83;
    /// Bit that marks a kind which may be passed over.
    pub const SKIPPABLE: u8 = 0x80;
}

/// An exemplar has no timestamp of its own.
const NO_TIME: i64 = i64::MIN;

/// Something a sample carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra<'a> {
    /// The sample is a native histogram.
    Histogram {
        /// Index into the frame's samples.
        position: u16,
        /// Remote write's `Histogram` message without its times.
        message: &'a [u8],
    },
    /// An exemplar of the sample.
    Exemplar {
        /// Index into the frame's samples.
        position: u16,
        /// Its time, milliseconds since the Unix epoch; `None`: that of the sample.
        unix_ms: Option<i64>,
        /// Its value, as the bits of a binary64.
        value: u64,
        /// Its labels, `a="b",c="d"`; may be empty.
        labels: &'a str,
    },
    /// When the sample's counter or histogram began.
    StartTime {
        /// Index into the frame's samples.
        position: u16,
        /// Milliseconds since the Unix epoch.
        unix_ms: i64,
    },
}

impl Extra<'_> {
    /// Index into the frame's samples.
    #[must_use]
    pub const fn position(&self) -> u16 {
        match *self {
            Self::Histogram { position, .. } | Self::Exemplar { position, .. } | Self::StartTime { position, .. } => {
                position
            }
        }
    }
}

/// Why extras could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExtrasError {
    /// An item ends inside a field.
    Bytes(CursorError),
    /// A position beyond 65,535.
    Position,
    /// Labels that are not UTF-8.
    Labels,
    /// A kind this version does not know and must not pass over.
    Unknown(u8),
}

impl core::fmt::Display for ExtrasError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Bytes(error) => error.fmt(f),
            Self::Position => f.write_str("position of an extra is above 65535"),
            Self::Labels => f.write_str("labels of an exemplar are not UTF-8"),
            Self::Unknown(kind) => write!(f, "unknown kind of extra {kind:#04x}"),
        }
    }
}

impl core::error::Error for ExtrasError {}

impl From<CursorError> for ExtrasError {
    fn from(error: CursorError) -> Self {
        Self::Bytes(error)
    }
}

/// The extras of one frame, in the order in which they were pushed.
#[derive(Debug)]
pub struct Extras {
    bytes: Bounded<u8>,
    start: StartTimes,
}

/// Where [`Extras`] stood, to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    bytes: usize,
    start: StartTimes,
}

/// The last start time: the next one is written against it.
#[derive(Clone, Copy, Debug, Default)]
struct StartTimes {
    position: u16,
    unix_ms: i64,
}

impl Extras {
    /// Room for `bytes` bytes. Allocates; the only call here that does.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Bounded::with_capacity(bytes),
            start: StartTimes::default(),
        }
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = StartTimes::default();
    }

    /// No sample carries anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes it was made for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The present end, for [`Extras::rewind`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            bytes: self.bytes.len(),
            start: self.start,
        }
    }

    /// Forgets what was pushed since `mark`.
    pub fn rewind(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.start = mark.start;
    }

    /// The sample at `position` is the native histogram `message`.
    ///
    /// # Errors
    /// [`Full`]; nothing was pushed then.
    pub fn push_histogram(&mut self, position: u16, message: &[u8]) -> Result<(), Full> {
        let len = len_u64(position.into()) + message.len();
        self.push(kind::HISTOGRAM, len, |out| {
            put_u64(out, position.into())?;
            out.put(message)
        })
    }

    /// An exemplar of the sample at `position`; see [`Extra::Exemplar`].
    ///
    /// # Errors
    /// [`Full`]; nothing was pushed then.
    pub fn push_exemplar(&mut self, position: u16, unix_ms: Option<i64>, value: u64, labels: &str) -> Result<(), Full> {
        let time = unix_ms.unwrap_or(NO_TIME);
        let len = len_u64(position.into()) + 8 + len_u64(zigzag(time)) + labels.len();
        self.push(kind::EXEMPLAR, len, |out| {
            put_u64(out, position.into())?;
            out.put(&value.to_le_bytes())?;
            put_i64(out, time)?;
            out.put(labels.as_bytes())
        })
    }

    /// The counter or histogram at `position` began at `unix_ms`. Positions must not fall within a frame: one that does is
    /// left out.
    ///
    /// # Errors
    /// [`Full`]; nothing was pushed then.
    pub fn push_start_time(&mut self, position: u16, unix_ms: i64) -> Result<(), Full> {
        let Some(skip) = position.checked_sub(self.start.position) else {
            return Ok(());
        };
        let since = unix_ms.wrapping_sub(self.start.unix_ms);
        let len = len_u64(skip.into()) + len_u64(zigzag(since));
        self.push(kind::START_TIME, len, |out| {
            put_u64(out, skip.into())?;
            put_i64(out, since)
        })?;
        self.start = StartTimes { position, unix_ms };
        Ok(())
    }

    fn push(
        &mut self,
        kind: u8,
        len: usize,
        payload: impl FnOnce(&mut Bounded<u8>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let mark = self.bytes.len();
        let out = &mut self.bytes;
        let pushed = out
            .push(kind)
            .and_then(|()| put_u64(out, len as u64))
            .and_then(|()| payload(out));
        if pushed.is_err() {
            self.bytes.truncate(mark);
        }
        pushed
    }

    /// The bytes as they go to flash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes bytes from flash in place of what there was. They are checked: what [`Extras::iter`] gives afterwards has no errors.
    ///
    /// # Errors
    /// `Ok(Err(..))`: not extras; nothing is held then. `Err`: more bytes than it was made for; likewise.
    pub fn set_bytes(&mut self, bytes: &[u8]) -> Result<Result<(), ExtrasError>, Full> {
        self.clear();
        if let Err(error) = read(bytes).try_for_each(|extra| extra.map(|_| ())) {
            return Ok(Err(error));
        }
        self.bytes.extend(bytes).map(Ok)
    }

    /// Everything, in the order in which it was pushed.
    pub fn iter(&self) -> impl Iterator<Item = Extra<'_>> {
        // What is held was pushed here or has been checked.
        read(&self.bytes).map_while(Result::ok)
    }
}

/// Reads extras from bytes; stops after the first error. Kinds that are unknown and may be passed over are.
pub fn read(bytes: &[u8]) -> impl Iterator<Item = Result<Extra<'_>, ExtrasError>> {
    let mut cursor = Cursor::new(bytes);
    let mut start = StartTimes::default();
    let mut failed = false;
    core::iter::from_fn(move || {
        while !failed && cursor.remaining() > 0 {
            match item(&mut cursor, &mut start).transpose() {
                Some(extra) => {
                    failed = extra.is_err();
                    return Some(extra);
                }
                None => continue,
            }
        }
        None
    })
}

fn item<'a>(cursor: &mut Cursor<'a>, start: &mut StartTimes) -> Result<Option<Extra<'a>>, ExtrasError> {
    let kind = cursor.u8()?;
    let len = usize::try_from(cursor.u64()?).map_err(|_| CursorError::Truncated)?;
    let mut payload = Cursor::new(cursor.bytes(len)?);
    Ok(match kind {
        kind::HISTOGRAM => Some(Extra::Histogram {
            position: position(payload.u64()?)?,
            message: payload.rest(),
        }),
        kind::EXEMPLAR => {
            let position = position(payload.u64()?)?;
            let value = u64::from_le_bytes(payload.array()?);
            let time = payload.i64()?;
            Some(Extra::Exemplar {
                position,
                unix_ms: (time != NO_TIME).then_some(time),
                value,
                labels: core::str::from_utf8(payload.rest()).map_err(|_| ExtrasError::Labels)?,
            })
        }
        kind::START_TIME => {
            let skip = position(payload.u64()?)?;
            start.position = start.position.checked_add(skip).ok_or(ExtrasError::Position)?;
            start.unix_ms = start.unix_ms.wrapping_add(payload.i64()?);
            Some(Extra::StartTime {
                position: start.position,
                unix_ms: start.unix_ms,
            })
        }
        other if other & kind::SKIPPABLE != 0 => None,
        other => return Err(ExtrasError::Unknown(other)),
    })
}

fn position(value: u64) -> Result<u16, ExtrasError> {
    u16::try_from(value).map_err(|_| ExtrasError::Position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Extras {
        let mut extras = Extras::with_capacity(200);
        extras.push_histogram(0, &[8, 3]).unwrap();
        extras.push_start_time(0, 1_700_000_000_000).unwrap();
        extras.push_exemplar(0, None, 1.5f64.to_bits(), "").unwrap();
        extras
            .push_exemplar(300, Some(1_700_000_000_001), u64::MAX, "trace_id=\"a\"")
            .unwrap();
        extras.push_start_time(300, 1_600_000_000_000).unwrap();
        extras
    }

    #[test]
    fn reads_what_was_pushed() {
        let extras = full();
        let expected = [
            Extra::Histogram {
                position: 0,
                message: &[8, 3],
            },
            Extra::StartTime {
                position: 0,
                unix_ms: 1_700_000_000_000,
            },
            Extra::Exemplar {
                position: 0,
                unix_ms: None,
                value: 1.5f64.to_bits(),
                labels: "",
            },
            Extra::Exemplar {
                position: 300,
                unix_ms: Some(1_700_000_000_001),
                value: u64::MAX,
                labels: "trace_id=\"a\"",
            },
            Extra::StartTime {
                position: 300,
                unix_ms: 1_600_000_000_000,
            },
        ];
        assert!(extras.iter().eq(expected));
        let mut copy = Extras::with_capacity(200);
        assert_eq!(copy.set_bytes(extras.as_bytes()), Ok(Ok(())));
        assert!(copy.iter().eq(expected));
    }

    #[test]
    fn a_full_buffer_takes_nothing_of_an_item() {
        for capacity in 0..13 {
            let mut extras = Extras::with_capacity(capacity);
            let pushed = extras.push_histogram(7, &[0; 10]);
            assert_eq!(pushed, Err(Full { limit: capacity }));
            assert!(extras.is_empty());
        }
        let mut extras = Extras::with_capacity(13);
        assert_eq!(extras.push_histogram(7, &[0; 10]), Ok(()));
    }

    #[test]
    fn going_back_forgets_what_came_since() {
        let mut extras = full();
        let mark = extras.mark();
        extras.push_start_time(301, 5).unwrap();
        extras.rewind(mark);
        extras.push_start_time(302, 6).unwrap();
        assert_eq!(
            extras.iter().last(),
            Some(Extra::StartTime {
                position: 302,
                unix_ms: 6
            })
        );
    }

    #[test]
    fn every_cut_is_an_error_or_a_shorter_list() {
        let extras = full();
        let whole: alloc::vec::Vec<_> = extras.iter().collect();
        for cut in 0..extras.as_bytes().len() {
            let read: Result<alloc::vec::Vec<_>, _> = read(&extras.as_bytes()[..cut]).collect();
            if let Ok(read) = read {
                assert!(read.len() < whole.len() && whole.starts_with(&read), "cut at {cut}");
            }
        }
    }

    #[test]
    fn an_unknown_kind_is_passed_over_only_if_it_says_so() {
        let mut bytes = alloc::vec![0xc0, 2, 1, 2];
        bytes.extend_from_slice(full().as_bytes());
        assert_eq!(read(&bytes).filter_map(Result::ok).count(), 5);
        bytes[0] = 0x40;
        assert_eq!(read(&bytes).next(), Some(Err(ExtrasError::Unknown(0x40))));
        let mut extras = Extras::with_capacity(200);
        assert_eq!(extras.set_bytes(&bytes), Ok(Err(ExtrasError::Unknown(0x40))));
        assert!(extras.is_empty());
    }
}
