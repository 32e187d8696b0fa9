//! Protobuf's wire format, read in place.

use crate::value::varint::Cursor;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// The bytes of a message or text; empty for other types, which a well-formed message does not have there.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// A `double`; 0 for other types.
    pub(super) fn double(self) -> f64 {
        match self {
            Self::Fixed64(bits) => f64::from_bits(bits),
            _ => 0.0,
        }
    }

    /// An `int64`, `uint64` or `uint32`; 0 for other types.
    pub(super) fn varint(self) -> u64 {
        match self {
            Self::Varint(value) => value,
            _ => 0,
        }
    }
}

/// The bytes are not a message: they end inside a field, hold a group, or a number that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The fields of a complete message, in the order in which they stand. Ends after the first error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(message: &'a [u8]) -> Self {
        Self {
            cursor: Cursor::new(message),
        }
    }

    /// Bytes not read yet.
    pub(super) const fn remaining(&self) -> usize {
        self.cursor.remaining()
    }

    /// The next field; `None` at the end.
    pub(super) fn read(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.cursor.is_empty() {
            return Ok(None);
        }
        let (number, wire) = split_tag(self.cursor.u64().map_err(|_| Malformed)?)?;
        let value = match wire {
            0 => self.cursor.u64().map(Value::Varint),
            1 => self
                .cursor
                .array()
                .map(|bytes| Value::Fixed64(u64::from_le_bytes(bytes))),
            2 => {
                let len = self.cursor.u64().map_err(|_| Malformed)?;
                self.cursor
                    .bytes(usize::try_from(len).map_err(|_| Malformed)?)
                    .map(Value::Bytes)
            }
            5 => self
                .cursor
                .array()
                .map(|bytes| Value::Fixed32(u32::from_le_bytes(bytes))),
            _ => return Err(Malformed),
        };
        value.map(|value| Some((number, value))).map_err(|_| Malformed)
    }

    /// Checks that the whole message is well-formed on this level.
    pub(super) fn check(message: &'a [u8]) -> Result<(), Malformed> {
        let mut fields = Self::new(message);
        while fields.read()?.is_some() {}
        Ok(())
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    /// For messages that have been checked: an error ends them.
    fn next(&mut self) -> Option<Self::Item> {
        self.read().ok().flatten()
    }
}

/// Field number and wire type of a tag.
pub(super) fn split_tag(tag: u64) -> Result<(u32, u8), Malformed> {
    let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
    if number == 0 || number > 0x1FFF_FFFF {
        return Err(Malformed);
    }
    Ok((number, tag as u8 & 7))
}

/// The last field `number` of a checked message.
pub(super) fn last(message: &[u8], number: u32) -> Option<Value<'_>> {
    Fields::new(message)
        .filter(|(found, _)| *found == number)
        .last()
        .map(|(_, value)| value)
}

/// A `double` field; 0 when absent.
pub(super) fn double(message: &[u8], number: u32) -> f64 {
    last(message, number).map_or(0.0, Value::double)
}

/// An integer field; 0 when absent.
pub(super) fn varint(message: &[u8], number: u32) -> u64 {
    last(message, number).map_or(0, Value::varint)
}

/// A `google.protobuf.Timestamp` field in milliseconds, rounded towards zero as Prometheus does.
pub(super) fn timestamp_ms(message: &[u8], number: u32) -> Option<i64> {
    let timestamp = last(message, number)?.bytes();
    let (seconds, nanos) = (varint(timestamp, 1) as i64, varint(timestamp, 2) as i32);
    Some(
        seconds
            .saturating_mul(1_000)
            .saturating_add(i64::from(nanos / 1_000_000)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back() {
        let message = [
            0x08, 0x96, 0x01, // 1: 150
            0x12, 0x02, b'h', b'i', // 2: "hi"
            0x19, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F, // 3: 1.0
            0x25, 1, 0, 0, 0, // 4: fixed32 1
        ];
        let mut fields = Fields::new(&message);
        assert_eq!(fields.read(), Ok(Some((1, Value::Varint(150)))));
        assert_eq!(fields.read(), Ok(Some((2, Value::Bytes(b"hi")))));
        assert_eq!(fields.read(), Ok(Some((3, Value::Fixed64(1.0_f64.to_bits())))));
        assert_eq!(fields.read(), Ok(Some((4, Value::Fixed32(1)))));
        assert_eq!(fields.read(), Ok(None));
        assert_eq!(
            (double(&message, 3), varint(&message, 1), varint(&message, 9)),
            (1.0, 150, 0)
        );
        for end in 1..message.len() {
            let cut = &message[..end];
            assert_eq!(Fields::check(cut).is_ok(), [3, 7, 16].contains(&end), "{end}");
        }
        // Groups, field 0, and a length beyond the end.
        for bad in [
            &[0x0B][..],
            &[0x00, 0x00],
            &[0x0A, 0x05, 1],
            &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        ] {
            assert_eq!(Fields::check(bad), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn timestamps_are_cut_to_milliseconds() {
        let message = [0x1A, 7, 0x08, 5, 0x10, 0x80, 0x88, 0xDE, 0x02]; // 5 s, 5,735,424 ns
        assert_eq!(timestamp_ms(&message, 3), Some(5_005));
        assert_eq!(timestamp_ms(&message, 4), None);
    }
}
