//! The series of one batch and their strings, each kept once.
//!
//! A *slot* stands for a series of the batch: its label references and type. Strings are written as `symbols` entries
//! to the front of the batch's body, where a 2.0 request needs them; a 1.0 request takes the text from there.
//!
//! A *key* is a dense number for a series of the source: real series first, then five synthetic ones per target, then one
//! per target for the labels that all its series share. Keys are forgotten when the source changes the meaning of its
//! references; slots stay valid until the batch is cleared.
//!
//! Most series need no label set built for them: their own labels are merged with the shared ones as both are sorted
//! ([`Dictionary::insert_joined`]). What is unusual goes the long way, with the same result.
//!
//! Everything is sized at construction. What does not fit is [`Full`] and may be undone with [`Mark`]: the batch then
//! ends before the frame that did not fit.

use crate::catalogue::SeriesText;
use crate::frame::{Bounded, Full};
use crate::hash::hash64;
use crate::labels::{BodyLabels, Labels, METRIC_NAME, body_labels};
use crate::limits::MAX_LABELS;
use crate::remote_write::proto;
use crate::sample::MetricType;
use crate::value::varint::Sink;
use alloc::boxed::Box;
use alloc::vec;
use core::cmp::Ordering;
use core::ops::Range;

/// No slot, no symbol.
const NONE: u16 = u16::MAX;

/// Label references per slot the memory plan assumes: name and value of ten labels. Series with more use the room
/// of those with fewer; when all is used up the batch ends early.
const REFS_PER_SLOT: usize = 20;

/// Room for the labels of one more series than planned for, and for what it shares with others, so that any single
/// series fits an empty batch.
const SPARE_REFS: usize = 4 * MAX_LABELS;

/// Symbols beyond one per slot: label names, and values shared by many series. One series may need [`SPARE_REFS`].
const SPARE_SYMBOLS: usize = 512;

/// Writes into a fixed slice from the front.
#[derive(Debug)]
pub struct SliceSink<'a> {
    /// The memory.
    pub out: &'a mut [u8],
    /// Bytes written.
    pub len: usize,
}

impl Sink for SliceSink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let limit = self.out.len();
        let end = self.len + bytes.len();
        let place = self.out.get_mut(self.len..end).ok_or(Full { limit })?;
        place.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}

/// A series of the batch.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    refs_at: u32,
    /// Bytes of the labels in a 1.0 request.
    pub label_bytes_v1: u32,
    key: u32,
    refs: u8,
    /// Type, for the metadata of a 2.0 request.
    pub kind: MetricType,
    /// False: not sent to this remote.
    pub sent: bool,
}

/// A state to return to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    slots: usize,
    refs: usize,
    symbols: usize,
    text_len: usize,
}

/// Slots, label references and symbols of one batch.
#[derive(Debug)]
pub struct Dictionary {
    slot_of_key: Box<[u16]>,
    slots: Bounded<Slot>,
    refs: Bounded<u16>,
    /// Offset of each symbol in the body.
    symbols: Bounded<u32>,
    /// Open addressing, linear probing, at most half full: symbol numbers.
    table: Box<[u16]>,
    /// Bytes of symbols at the front of the body.
    text_len: usize,
    seed: u64,
}

const fn max_symbols(slots: usize) -> usize {
    let wanted = slots + SPARE_SYMBOLS;
    if wanted < NONE as usize {
        wanted
    } else {
        NONE as usize - 1
    }
}

const fn table_len(slots: usize) -> usize {
    (max_symbols(slots) * 2).next_power_of_two()
}

impl Dictionary {
    /// For at most `slots` series of `keys` possible ones. `seed` keeps targets from choosing colliding texts.
    /// The only call that allocates.
    #[must_use]
    pub fn new(keys: usize, slots: usize, seed: u64) -> Self {
        let slots = slots.min(NONE as usize - 1);
        Self {
            slot_of_key: vec![NONE; keys].into(),
            slots: Bounded::with_capacity(slots),
            refs: Bounded::with_capacity(slots * REFS_PER_SLOT + SPARE_REFS),
            symbols: Bounded::with_capacity(max_symbols(slots)),
            table: vec![NONE; table_len(slots)].into(),
            text_len: 0,
            seed,
        }
    }

    /// Heap bytes of a dictionary of these sizes.
    #[must_use]
    pub const fn ram_bytes(keys: usize, slots: usize) -> usize {
        keys * 2
            + slots * size_of::<Slot>()
            + (slots * REFS_PER_SLOT + SPARE_REFS) * 2
            + max_symbols(slots) * 4
            + table_len(slots) * 2
    }

    /// Forgets everything and writes the empty string as symbol 0 to `body`.
    pub fn clear(&mut self, body: &mut [u8]) {
        self.forget_keys();
        self.slots.clear();
        self.refs.clear();
        self.symbols.clear();
        self.table.fill(NONE);
        self.text_len = 0;
        // The first of many, and the smallest body holds far more.
        let _ = self.symbol(body, "");
    }

    /// References of the source mean other series from now on.
    pub fn forget_keys(&mut self) {
        for slot in self.slots.iter() {
            if let Some(entry) = self.slot_of_key.get_mut(slot.key as usize) {
                *entry = NONE;
            }
        }
    }

    /// Bytes of symbols at the front of the body.
    #[must_use]
    pub const fn text_len(&self) -> usize {
        self.text_len
    }

    /// The slot of `key`, if it has one.
    #[must_use]
    pub fn find(&self, key: usize) -> Option<u16> {
        self.slot_of_key.get(key).copied().filter(|&slot| slot != NONE)
    }

    /// The slot numbered `slot`.
    #[must_use]
    pub fn slot(&self, slot: u16) -> Option<&Slot> {
        self.slots.get(usize::from(slot))
    }

    /// The label references of `slot`.
    #[must_use]
    pub fn refs(&self, slot: &Slot) -> &[u16] {
        let at = slot.refs_at as usize;
        self.refs.get(at..at + usize::from(slot.refs)).unwrap_or_default()
    }

    /// The text of symbol `reference`; `symbols` is the front of the body.
    #[must_use]
    pub fn text<'a>(&self, symbols: &'a [u8], reference: u16) -> &'a [u8] {
        self.symbols
            .get(usize::from(reference))
            .and_then(|&at| proto::symbol_at(symbols, at as usize))
            .unwrap_or_default()
    }

    /// Makes a slot for `key`; `None` labels: the series is not sent.
    ///
    /// # Errors
    /// [`Full`]; parts may have been added, the caller returns to a [`Mark`].
    pub fn insert(
        &mut self,
        body: &mut [u8],
        key: usize,
        labels: Option<&Labels>,
        kind: MetricType,
    ) -> Result<u16, Full> {
        let mut slot = Slot {
            refs_at: self.refs.len() as u32,
            label_bytes_v1: 0,
            key: key as u32,
            refs: 0,
            kind,
            sent: labels.is_some(),
        };
        for label in labels.into_iter().flat_map(Labels::iter) {
            let name = self.symbol(body, label.name)?;
            let value = self.symbol(body, label.value)?;
            self.refs.extend(&[name, value])?;
            slot.refs += 2;
            slot.label_bytes_v1 += proto::len_label(label.name.len(), label.value.len()) as u32;
        }
        self.push_slot(slot)
    }

    fn push_slot(&mut self, slot: Slot) -> Result<u16, Full> {
        let number = self.slots.len() as u16;
        self.slots.push(slot)?;
        if let Some(entry) = self.slot_of_key.get_mut(slot.key as usize) {
            *entry = number;
        }
        Ok(number)
    }

    /// Makes a slot for `key` from the series' own labels and those of the slot `shared`, which its own override.
    ///
    /// `None`: the labels need the long way (escapes, empty values, too many, or damage); the caller returns to a
    /// [`Mark`].
    ///
    /// # Errors
    /// As [`Dictionary::insert`].
    pub fn insert_joined(
        &mut self,
        body: &mut [u8],
        key: usize,
        series: SeriesText<'_>,
        shared: &Slot,
        kind: MetricType,
    ) -> Result<Option<u16>, Full> {
        let refs_at = self.refs.len();
        let mut label_bytes = 0;
        let mut shared = shared.refs_at as usize..shared.refs_at as usize + usize::from(shared.refs);
        let mut own = OwnLabels::new(series);
        loop {
            let next = own.next;
            let order = self.first_shared(&shared).map(|[name, _]| match next {
                Some((next, _)) => self.text(body, name).cmp(next.as_bytes()),
                None => Ordering::Less,
            });
            if order == Some(Ordering::Less) {
                label_bytes += self.copy_shared(body, &shared)?;
                shared.start += 2;
                continue;
            }
            if order == Some(Ordering::Equal) {
                shared.start += 2;
            }
            let Some((name, value)) = next else {
                break;
            };
            label_bytes += proto::len_label(name.len(), value.len());
            let pair = [self.symbol(body, name)?, self.symbol(body, value)?];
            self.refs.extend(&pair)?;
            own.advance();
        }
        let refs = self.refs.len() - refs_at;
        if own.is_unusual || refs == 0 || refs > 2 * MAX_LABELS {
            return Ok(None);
        }
        let slot = Slot {
            refs_at: refs_at as u32,
            label_bytes_v1: label_bytes as u32,
            key: key as u32,
            refs: refs as u8,
            kind,
            sent: true,
        };
        self.push_slot(slot).map(Some)
    }

    fn first_shared(&self, shared: &Range<usize>) -> Option<[u16; 2]> {
        self.refs.get(shared.clone())?.first_chunk().copied()
    }

    /// Copies the first label of `shared`; returns its bytes in a 1.0 request.
    fn copy_shared(&mut self, body: &[u8], shared: &Range<usize>) -> Result<usize, Full> {
        let Some(pair) = self.first_shared(shared) else {
            return Ok(0);
        };
        self.refs.extend(&pair)?;
        let [name, value] = pair.map(|reference| self.text(body, reference).len());
        Ok(proto::len_label(name, value))
    }

    /// The number of the symbol `text`, which is written to `body` if it is new.
    fn symbol(&mut self, body: &mut [u8], text: &str) -> Result<u16, Full> {
        let mut cell = self.home(text.as_bytes());
        while let Some(&number) = self.table.get(cell).filter(|&&number| number != NONE) {
            if self.text(body, number) == text.as_bytes() {
                return Ok(number);
            }
            cell = (cell + 1) & (self.table.len() - 1);
        }
        let mut sink = SliceSink {
            out: body,
            len: self.text_len,
        };
        let number = self.symbols.len() as u16;
        self.symbols.push(self.text_len as u32)?;
        if let Err(full) = proto::put_symbol(&mut sink, text) {
            self.symbols.truncate(usize::from(number));
            return Err(full);
        }
        self.text_len = sink.len;
        if let Some(entry) = self.table.get_mut(cell) {
            *entry = number;
        }
        Ok(number)
    }

    fn home(&self, text: &[u8]) -> usize {
        hash64(self.seed, text) as usize & (self.table.len() - 1)
    }

    /// The present state.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            slots: self.slots.len(),
            refs: self.refs.len(),
            symbols: self.symbols.len(),
            text_len: self.text_len,
        }
    }

    /// Undoes everything since `mark`.
    pub fn undo(&mut self, body: &[u8], mark: Mark) {
        for slot in self.slots.iter().skip(mark.slots) {
            if let Some(entry) = self.slot_of_key.get_mut(slot.key as usize) {
                *entry = NONE;
            }
        }
        // Last in, first out: so no cell emptied here interrupts a probe for a symbol that stays.
        while self.symbols.len() > mark.symbols {
            let number = self.symbols.len() as u16 - 1;
            let mut cell = self.home(self.text(body, number));
            while self.table.get(cell).is_some_and(|&n| n != number && n != NONE) {
                cell = (cell + 1) & (self.table.len() - 1);
            }
            if let Some(entry) = self.table.get_mut(cell) {
                *entry = NONE;
            }
            self.symbols.truncate(usize::from(number));
        }
        self.slots.truncate(mark.slots);
        self.refs.truncate(mark.refs);
        self.text_len = mark.text_len;
    }
}

/// The labels of a series, metric name included, one after the other in the order of their names.
struct OwnLabels<'a> {
    /// The label that is next.
    next: Option<(&'a str, &'a str)>,
    /// The metric name while it is to come.
    metric: Option<&'a str>,
    /// The label behind `next`, when the metric name has its turn before it.
    behind: Option<(&'a str, &'a str)>,
    labels: BodyLabels<'a>,
    /// Something here cannot be taken as it stands; `next` is `None` from then on.
    is_unusual: bool,
}

impl<'a> OwnLabels<'a> {
    fn new(series: SeriesText<'a>) -> Self {
        let mut own = Self {
            next: None,
            metric: Some(series.name).filter(|name| !name.is_empty()),
            behind: None,
            labels: body_labels(series.body),
            is_unusual: false,
        };
        own.behind = own.read("");
        own.take_turn();
        own
    }

    /// The next label of the body, whose name must come after `last`.
    fn read(&mut self, last: &str) -> Option<(&'a str, &'a str)> {
        let Some(label) = self.labels.next() else {
            self.is_unusual |= !self.labels.rest().is_empty();
            return None;
        };
        let plain = label.name.plain().zip(label.value.plain());
        let usual = plain.filter(|&(name, value)| name > last && name != METRIC_NAME && !value.is_empty());
        self.is_unusual |= usual.is_none();
        usual
    }

    fn advance(&mut self) {
        if let (Some((last, _)), None) = (self.next, self.behind) {
            // The metric name says nothing about where the body stands, and only it leaves a label behind.
            if last != METRIC_NAME {
                self.behind = self.read(last);
            }
        }
        self.take_turn();
    }

    /// Moves the metric name or the label behind to `next`.
    fn take_turn(&mut self) {
        let metric_first = self.behind.is_none_or(|(name, _)| METRIC_NAME < name);
        self.next = match self.metric {
            Some(metric) if metric_first => {
                self.metric = None;
                Some((METRIC_NAME, metric))
            }
            _ => self.behind.take(),
        };
        if self.is_unusual {
            self.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let mut labels = Labels::new(1000);
        for (name, value) in pairs {
            labels.set(name, value).expect("fits");
        }
        labels
    }

    fn shown(dictionary: &Dictionary, body: &[u8], slot: u16) -> Vec<String> {
        let slot = dictionary.slot(slot).expect("slot");
        let text = |&r: &u16| String::from_utf8(dictionary.text(body, r).to_vec()).expect("UTF-8");
        dictionary.refs(slot).iter().map(text).collect()
    }

    #[test]
    fn strings_are_kept_once_and_the_empty_one_is_first() {
        let mut body = [0; 1000];
        let mut dictionary = Dictionary::new(100, 10, 1);
        dictionary.clear(&mut body);
        let a = dictionary.insert(
            &mut body,
            7,
            Some(&labels(&[("a", "x"), ("b", "x")])),
            MetricType::Gauge,
        );
        let b = dictionary.insert(&mut body, 9, Some(&labels(&[("a", "b")])), MetricType::Counter);
        assert_eq!((a, b), (Ok(0), Ok(1)));
        assert_eq!(shown(&dictionary, &body, 0), ["a", "x", "b", "x"]);
        assert_eq!(shown(&dictionary, &body, 1), ["a", "b"]);
        let symbols = b"\x22\x00\x22\x01a\x22\x01x\x22\x01b";
        assert_eq!(&body[..dictionary.text_len()], symbols);
        assert_eq!(
            (dictionary.find(7), dictionary.find(9), dictionary.find(8)),
            (Some(0), Some(1), None)
        );
        dictionary.forget_keys();
        assert_eq!(dictionary.find(7), None);
        assert_eq!(shown(&dictionary, &body, 0), ["a", "x", "b", "x"]);
    }

    #[test]
    fn undoing_is_as_if_it_had_not_happened() {
        let mut rng = fastrand::Rng::with_seed(5);
        for round in 0..200 {
            let mut body = alloc::vec![0; 4000];
            let mut dictionary = Dictionary::new(1000, 60, round);
            dictionary.clear(&mut body);
            let mut expected: Vec<(usize, Vec<String>)> = Vec::new();
            for key in 0..40 {
                let pairs: Vec<(String, String)> = (0..rng.usize(0..4))
                    .map(|i| (format!("n{i}"), format!("v{}", rng.u8(0..60))))
                    .collect();
                let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let mark = dictionary.mark();
                let before = body[..dictionary.text_len()].to_vec();
                let slot = dictionary
                    .insert(&mut body, key, Some(&labels(&pairs)), MetricType::Gauge)
                    .expect("fits");
                if rng.bool() {
                    dictionary.undo(&body, mark);
                    assert_eq!(dictionary.find(key), None);
                    assert_eq!(body[..dictionary.text_len()], before);
                } else {
                    let texts = pairs
                        .iter()
                        .flat_map(|(n, v)| [String::from(*n), String::from(*v)])
                        .collect();
                    assert_eq!(usize::from(slot), expected.len());
                    expected.push((key, texts));
                }
            }
            for (slot, (key, texts)) in expected.iter().enumerate() {
                assert_eq!(dictionary.find(*key), Some(slot as u16));
                assert_eq!(shown(&dictionary, &body, slot as u16), *texts);
            }
            let distinct: alloc::collections::BTreeSet<_> = expected.iter().flat_map(|(_, t)| t.clone()).collect();
            assert_eq!(dictionary.mark().symbols, distinct.len() + 1);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_can_be_undone() {
        let mut body = [0; 40];
        let mut dictionary = Dictionary::new(100, 10, 1);
        dictionary.clear(&mut body);
        let fits = labels(&[("a", "x")]);
        assert!(dictionary.insert(&mut body, 1, Some(&fits), MetricType::Gauge).is_ok());
        let mark = dictionary.mark();
        let long = labels(&[("b", "a text that is longer than what is left")]);
        assert!(dictionary.insert(&mut body, 2, Some(&long), MetricType::Gauge).is_err());
        dictionary.undo(&body, mark);
        assert!(
            dictionary
                .insert(&mut body, 2, Some(&labels(&[("b", "x")])), MetricType::Gauge)
                .is_ok()
        );
        assert_eq!(shown(&dictionary, &body, 1), ["b", "x"]);
    }

    #[test]
    fn any_legal_series_fits_an_empty_dictionary() {
        let mut body = alloc::vec![0; 64 * 1024];
        let mut dictionary = Dictionary::new(1, 1, 1);
        let mut many = Labels::new(16 * 1024);
        for i in 0..crate::limits::MAX_LABELS {
            many.push(&format!("name{i}"), &format!("{i}{}", "v".repeat(200)))
                .expect("fits");
        }
        dictionary.clear(&mut body);
        assert_eq!(dictionary.insert(&mut body, 0, Some(&many), MetricType::Gauge), Ok(0));
    }
}
