//! DICT records from anywhere: all or nothing is defined, and what is defined comes back from our own coding of it.

use super::input::Input;
use tidegate::catalogue::{Catalogue, SeriesText};
use tidegate::frame::Bounded;
use tidegate::host::snappy::Dictionaries;
use tidegate::sample::{MetricType, SeriesRef, TargetRef};
use tidegate::wal::dictionary::{self, Compress, DictHead, Entries, MAX_TEXT};

const MAX_SERIES: usize = 100;
const RAW: usize = MAX_TEXT + 64;

struct Buffers {
    raw: Vec<u8>,
    text: Vec<u8>,
    compress: Dictionaries,
}

/// Defines a record as a mount does.
fn define(payload: &[u8], buffers: &mut Buffers, catalogue: &mut Catalogue) -> Option<(TargetRef, u16, u16)> {
    let Buffers { raw, text, compress } = buffers;
    let head = DictHead::parse(payload).ok()?;
    let entries = head.entries(Some(compress), raw).ok()?;
    dictionary::verify(&head, entries, text).ok()?;
    dictionary::apply(&head, entries, text, catalogue).ok()?;
    Some((head.target, head.first, head.count))
}

/// Writes what the catalogue says of the range, packed or not; reading it must change nothing.
fn write_back(
    (target, first, count): (TargetRef, u16, u16),
    packed: bool,
    buffers: &mut Buffers,
    catalogue: &mut Catalogue,
) {
    let mut entries = Bounded::with_capacity(RAW);
    let mut before: Option<(String, String)> = None;
    for index in first..first + count {
        let series = SeriesRef(index);
        let found = catalogue.definition(series, target).expect("it was defined");
        assert_eq!(found.target, target);
        let text = found.text;
        let last = before.as_ref().map(|(name, body)| SeriesText { name, body });
        if dictionary::put_entry(&mut entries, last, text, found.kind).is_err() {
            return;
        }
        before = Some((text.name.to_owned(), text.body.to_owned()));
    }
    let mut bytes = vec![0; 2 * RAW];
    let (method, stored) = if packed {
        let len = buffers.compress.compress(&entries, &mut bytes);
        (
            buffers.compress.method(),
            &bytes[..len.expect("room for twice as much")],
        )
    } else {
        (0, &*entries)
    };
    let head = DictHead {
        target,
        first,
        count,
        method,
        raw_len: entries.len(),
        packed: stored,
    };
    let mut record = Bounded::with_capacity(3 * RAW);
    head.emit(&mut record)
        .expect("a record is little longer than its entries");
    let head = DictHead::parse(&record).expect("own head parses");
    let Buffers { raw, text, compress } = buffers;
    let entries = head.entries(Some(compress), raw).expect("own entries unpack");
    let mut entries = Entries::new(entries, text);
    for index in first..first + count {
        let (text, kind) = entries.next_entry().expect("own entries parse");
        let series = SeriesRef(index);
        assert_eq!(catalogue.kind(series), kind);
        assert_eq!(catalogue.text(series), Some(text));
    }
    assert!(entries.is_done());
}

/// Texts made of the input's own bytes, through our coding and back.
fn texts(mut input: Input<'_>) {
    let mut before: Option<(String, String)> = None;
    let mut out = Bounded::with_capacity(RAW);
    let mut expected = Vec::new();
    while !input.is_empty() {
        let cut = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let len = input.below(40);
        let name = cut(input.take(len));
        let len = input.below(80);
        let body = cut(input.take(len));
        let kind = MetricType::from_byte(input.u8());
        let text = SeriesText {
            name: &name,
            body: &body,
        };
        let previous = before.as_ref().map(|(name, body)| SeriesText { name, body });
        if dictionary::put_entry(&mut out, previous, text, kind).is_err() {
            break;
        }
        expected.push((name.clone(), body.clone(), kind));
        before = Some((name, body));
    }
    let mut text = vec![0; MAX_TEXT];
    let mut entries = Entries::new(&out, &mut text);
    for (name, body, kind) in &expected {
        let read = entries.next_entry().expect("own entries parse");
        assert_eq!(read, (SeriesText { name, body }, *kind));
    }
}

/// The input: an option byte, then records, each behind its length.
pub fn dict_decode(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    if options & 2 != 0 {
        return texts(input);
    }
    let mut catalogue = Catalogue::new(MAX_SERIES, 8 * 1024, 8);
    let mut buffers = Buffers {
        raw: vec![0; RAW],
        text: vec![0; MAX_TEXT],
        compress: Dictionaries::new(),
    };
    while !input.is_empty() {
        if let Some(range) = define(input.piece(), &mut buffers, &mut catalogue) {
            write_back(range, options & 1 != 0, &mut buffers, &mut catalogue);
        }
    }
}
