//! A reader of remote-write requests, independent of the product's encoder.

use std::collections::BTreeMap;

/// A sample with the labels of its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Labels as sent, in order.
    pub labels: Vec<(String, String)>,
    /// Bits of the value.
    pub bits: u64,
    /// Timestamp, milliseconds.
    pub unix_ms: i64,
}

impl Sample {
    /// The value of label `name`, empty when absent.
    pub fn label(&self, name: &str) -> &str {
        self.labels
            .iter()
            .find(|(label, _)| label == name)
            .map_or("", |(_, value)| value)
    }

    /// All labels as one key.
    pub fn key(&self) -> String {
        format!("{:?}", self.labels)
    }
}

enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

/// Splits a message into its fields.
///
/// # Panics
/// The message is malformed: the product has sent garbage.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first().expect("truncated varint");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return value;
            }
        }
        panic!("varint of more than ten bytes");
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            1 => {
                let (word, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Fixed64(u64::from_le_bytes(word.try_into().expect("eight bytes")))
            }
            2 => {
                let length = varint(&mut bytes) as usize;
                let (data, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(data)
            }
            wire => panic!("wire type {wire}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn sample(bytes: &[u8], labels: &[(String, String)]) -> Sample {
    let mut sample = Sample {
        labels: labels.to_vec(),
        bits: 0,
        unix_ms: 0,
    };
    for field in fields(bytes) {
        match field {
            (1, Field::Fixed64(bits)) => sample.bits = bits,
            (2, Field::Varint(ms)) => sample.unix_ms = ms as i64,
            (3, Field::Varint(_)) => {}
            (number, _) => panic!("field {number} in a sample"),
        }
    }
    sample
}

/// The samples of a remote write 1.0 request.
pub fn version_1(body: &[u8]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for field in fields(body) {
        let (1, Field::Bytes(series)) = field else { continue };
        let mut labels = Vec::new();
        for field in fields(series) {
            match field {
                (1, Field::Bytes(label)) => {
                    let parts: BTreeMap<u64, String> = fields(label)
                        .into_iter()
                        .map(|(number, field)| match field {
                            Field::Bytes(bytes) => (number, text(bytes)),
                            _ => panic!("field {number} in a label"),
                        })
                        .collect();
                    labels.push((parts[&1].clone(), parts[&2].clone()));
                }
                (2, Field::Bytes(bytes)) => samples.push(sample(bytes, &labels)),
                (number, _) => panic!("field {number} in a series"),
            }
        }
    }
    samples
}

/// The samples of a remote write 2.0 request.
pub fn version_2(body: &[u8]) -> Vec<Sample> {
    let mut symbols = Vec::new();
    let mut samples = Vec::new();
    for field in fields(body) {
        match field {
            (4, Field::Bytes(bytes)) => symbols.push(text(bytes)),
            (5, Field::Bytes(series)) => {
                let mut labels = Vec::new();
                for field in fields(series) {
                    match field {
                        (1, Field::Bytes(packed)) => {
                            let mut references = Vec::new();
                            let mut value = 0_usize;
                            let mut shift = 0;
                            for byte in packed {
                                value |= usize::from(byte & 0x7f) << shift;
                                shift += 7;
                                if byte & 0x80 == 0 {
                                    references.push(value);
                                    (value, shift) = (0, 0);
                                }
                            }
                            labels = references
                                .chunks_exact(2)
                                .map(|pair| (symbols[pair[0]].clone(), symbols[pair[1]].clone()))
                                .collect();
                        }
                        (2, Field::Bytes(bytes)) => samples.push(sample(bytes, &labels)),
                        (5, _) => {}
                        (number, _) => panic!("field {number} in a series"),
                    }
                }
            }
            (number, _) => panic!("field {number} in a request"),
        }
    }
    assert_eq!(
        symbols.first().map(String::as_str),
        Some(""),
        "the first symbol is empty"
    );
    samples
}
