//! The series a batch has seen: their labels and types, kept from batch to batch.
//!
//! A *slot* stands for a series: its labels as symbol ids, its type, whether this remote gets it. A *key* is a dense
//! number for a series of the source: real series first, then eight synthetic ones per target, then one per target for
//! the labels that all its series share.
//!
//! A slot remembers a check value of the texts it was made from, and is asked for with that of the texts the key has now:
//! a reference that means another series, or a target that got other labels, gets a new slot. The check has 32 bits,
//! seeded; it stands behind [`Next::Boundary`](crate::frame::Next::Boundary), which is the announced way. A key that was
//! checked is not checked again until series come or go or a target gets other labels ([`Dictionary::follow`]): reading and
//! hashing the texts is what a sample of a steady target would cost most.
//!
//! Most series need no label set built for them: their own labels are merged with the shared ones as both are sorted
//! ([`Dictionary::insert_joined`]). What is unusual goes the long way, with the same result.
//!
//! Everything is sized at construction. [`Full`] ends a batch early, and the next one starts with an empty dictionary.

mod twins;

use super::own_labels::OwnLabels;
use super::start::Origin;
use super::symbols::Symbols;
use crate::catalogue::SeriesText;
use crate::catalogue::bits::Bits;
use crate::frame::{Bounded, Full};
use crate::labels::Labels;
use crate::limits::{MAX_LABELS, MAX_SERIES_TEXT_BYTES};
use crate::remote_write::proto;
use crate::remote_write::response::Protocol;
use crate::sample::{MetricType, TargetRef};
use alloc::boxed::Box;
use alloc::vec;
use core::cmp::Ordering;
use core::ops::Range;

/// No slot.
const NONE: u16 = u16::MAX;

/// Symbol ids per slot the memory plan assumes: name and value of eight labels. Series with more use the room
/// of those with fewer.
const REFS_PER_SLOT: usize = 16;

/// Bytes of strings per slot the memory plan assumes. Recorded scrapes of three common targets need 16 to 25.
const TEXT_PER_SLOT: usize = 32;

/// Room for the labels of one more series than planned for, and for what it shares with others, so that any single
/// series fits an empty dictionary.
const SPARE_REFS: usize = 4 * MAX_LABELS;
const SPARE_TEXT: usize = 2 * MAX_SERIES_TEXT_BYTES;
const SPARE_SYMBOLS: usize = 4 * MAX_LABELS;

/// A series.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    refs_at: u32,
    /// Bytes of the labels in a 1.0 request.
    pub label_bytes_v1: u32,
    check: u32,
    refs: u8,
    /// Type, for the metadata of a 2.0 request.
    pub kind: MetricType,
    /// What the batch at hand has of it: floats or native histograms, never both.
    pub holds: Holds,
    /// Whose it is.
    pub target: TargetRef,
    /// Of its start timestamps.
    pub origin: Origin,
}

impl Slot {
    /// False: not sent to this remote, it has no labels.
    pub const fn is_sent(&self) -> bool {
        self.refs > 0
    }

    /// How many labels it has and of what type it is, as one number: series that have this in common differ in few bytes of a 2.0
    /// request.
    pub fn shape(&self) -> u16 {
        // Types are below 8.
        u16::from(self.refs) << 3 | u16::from(self.kind as u8)
    }

    /// Whether the batch, or the slice of it at hand, has something of it.
    pub fn is_used(&self) -> bool {
        self.holds != Holds::Unused
    }
}

/// What a batch has of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holds {
    /// It is not part of the batch.
    #[default]
    Unused,
    /// Nothing yet.
    Nothing,
    /// Samples.
    Floats,
    /// Native histograms.
    Histograms,
}

/// What the batch uses, to return to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    slots: usize,
    symbols: usize,
}

/// Slots and their labels.
#[derive(Debug)]
pub struct Dictionary {
    slot_of_key: Box<[u16]>,
    /// Keys whose slot is known to be made from the texts they have now.
    checked: Bits,
    /// [`Names::generation`](crate::catalogue::Names::generation) and check values of the targets' labels, of the frame taken last.
    generation: u32,
    target_checks: Box<[u32]>,
    slots: Bounded<Slot>,
    refs: Bounded<u16>,
    symbols: Symbols,
    /// Slots of the batch at hand.
    used: Bounded<u16>,
    /// Slots left by earlier batches.
    kept: usize,
    /// Something did not fit, or the slots have lost their keys: to be emptied before the next batch.
    is_crowded: bool,
}

const fn max_slots(slots: usize) -> usize {
    if slots < NONE as usize {
        slots
    } else {
        NONE as usize - 1
    }
}

const fn max_symbols(slots: usize) -> usize {
    max_slots(slots + SPARE_SYMBOLS)
}

const fn text_bytes(slots: usize) -> usize {
    slots * TEXT_PER_SLOT + SPARE_TEXT
}

impl Dictionary {
    /// For at most `slots` series of `keys` possible ones, of `targets`. The only call that allocates.
    pub fn new(keys: usize, slots: usize, targets: usize, seed: u64) -> Self {
        let slots = max_slots(slots);
        Self {
            slot_of_key: vec![NONE; keys].into(),
            checked: Bits::new(keys),
            generation: 0,
            target_checks: vec![0; targets].into(),
            slots: Bounded::with_capacity(slots),
            refs: Bounded::with_capacity(slots * REFS_PER_SLOT + SPARE_REFS),
            symbols: Symbols::new(max_symbols(slots), text_bytes(slots), seed),
            used: Bounded::with_capacity(slots),
            kept: 0,
            is_crowded: false,
        }
    }

    /// Heap bytes of a dictionary of these sizes.
    pub const fn ram_bytes(keys: usize, slots: usize, targets: usize) -> usize {
        let slots = max_slots(slots);
        keys * size_of::<u16>()
            + Bits::ram_bytes(keys)
            + targets * size_of::<u32>()
            + slots * (size_of::<Slot>() + size_of::<u16>())
            + (slots * REFS_PER_SLOT + SPARE_REFS) * size_of::<u16>()
            + Symbols::ram_bytes(max_symbols(slots), text_bytes(slots))
    }

    /// Begins a batch: nothing is part of it.
    pub fn begin(&mut self) {
        self.begin_slice();
        // As many new series as the last batch had would not fit: rather empty now than in the middle of the batch.
        let added = self.slots.len().saturating_sub(self.kept);
        self.kept = self.slots.len();
        if self.is_crowded || self.kept + added > self.slots.capacity() {
            self.clear();
        }
    }

    /// Begins a slice of the batch: nothing is part of it.
    pub fn begin_slice(&mut self) {
        self.undo(Mark { slots: 0, symbols: 0 });
        self.symbols.begin();
    }

    /// Forgets all series and strings.
    pub fn clear(&mut self) {
        self.slot_of_key.fill(NONE);
        self.checked.clear();
        self.slots.clear();
        self.refs.clear();
        self.symbols.clear();
        self.used.clear();
        self.kept = 0;
        self.is_crowded = false;
    }

    /// Something did not fit because of what earlier batches left: begin again with an empty dictionary.
    pub const fn is_crowded_by_others(&self) -> bool {
        self.is_crowded && self.kept > 0
    }

    /// References of the source mean other series from now on.
    pub fn forget_keys(&mut self) {
        self.slot_of_key.fill(NONE);
        self.checked.clear();
        // The slots stay for the batch at hand, and would only take room after it.
        self.is_crowded = true;
    }

    /// The slot that `key` has in the batch at hand, without a check.
    pub fn find_used(&self, key: usize) -> Option<u16> {
        let &number = self.slot_of_key.get(key)?;
        self.slot(number).filter(|slot| slot.is_used()).map(|_| number)
    }

    /// Notices before a frame of `target` is taken that series have come or gone, or that its labels, which `check` stands for, are others.
    pub fn follow(&mut self, generation: u32, target: TargetRef, check: u32) {
        if self.generation != generation {
            self.generation = generation;
            self.checked.clear();
            // Where start timestamps come from was looked up by text.
            self.slots.iter_mut().for_each(|slot| slot.origin = Origin::default());
        }
        // Of a target beyond the limit nothing is remembered.
        let known = self.target_checks.get_mut(usize::from(target.0));
        if known.map(|known| core::mem::replace(known, check)) != Some(check) {
            self.checked.clear();
        }
    }

    /// The slot of `key`, if it needs no check.
    pub fn find_checked(&self, key: usize) -> Option<u16> {
        let &number = self.slot_of_key.get(key).filter(|_| self.checked.has(key))?;
        self.slot(number).map(|_| number)
    }

    /// The slot of `key`, if it was made from texts with this check value.
    pub fn find(&mut self, key: usize, check: u32) -> Option<u16> {
        let &number = self.slot_of_key.get(key)?;
        let found = self.slot(number).is_some_and(|slot| slot.check == check);
        self.checked.put(key, found);
        found.then_some(number)
    }

    /// The slot numbered `slot`.
    pub fn slot(&self, slot: u16) -> Option<&Slot> {
        self.slots.get(usize::from(slot))
    }

    /// Notes where the start timestamps of `slot` come from.
    pub fn set_origin(&mut self, slot: u16, origin: Origin) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.origin = origin;
        }
    }

    /// The batch has these of `slot`.
    pub fn set_holds(&mut self, slot: u16, holds: Holds) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.holds = holds;
        }
    }

    /// Names and values of the labels of `slot`, in turn, as references of the request at hand.
    pub fn references(&self, slot: &Slot) -> impl Iterator<Item = u16> + Clone {
        self.refs_of(slot).iter().map(|&id| self.symbols.reference(id))
    }

    /// Names and values of the labels of `slot`.
    pub fn labels(&self, slot: &Slot) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (pairs, _) = self.refs_of(slot).as_chunks::<2>();
        pairs
            .iter()
            .map(|&[name, value]| (self.symbols.text(name), self.symbols.text(value)))
    }

    fn refs_of(&self, slot: &Slot) -> &[u16] {
        let at = slot.refs_at as usize;
        self.refs.get(at..at + usize::from(slot.refs)).unwrap_or_default()
    }

    /// Strings of the request at hand, and the bytes their fields take.
    pub const fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The slots of the batch at hand.
    pub fn used(&self) -> impl Iterator<Item = &Slot> {
        self.used.iter().filter_map(|&number| self.slot(number))
    }

    /// The slot that became part of the batch at hand as number `index`.
    pub fn used_slot(&self, index: usize) -> Option<&Slot> {
        self.slot(*self.used.get(index)?)
    }

    /// Makes a string that is kept part of the request.
    pub fn refer(&mut self, text: &[u8]) {
        if let Some(id) = self.symbols.find(text) {
            self.symbols.refer(id);
        }
    }

    /// Makes the slot part of the batch; it is now of this target and type.
    pub fn use_slot(&mut self, number: u16, (target, kind): (TargetRef, MetricType), protocol: Protocol) {
        let Some(slot) = self.slots.get_mut(usize::from(number)) else {
            return;
        };
        slot.kind = kind;
        slot.target = target;
        slot.holds = Holds::Nothing;
        let refs = slot.refs_at as usize..slot.refs_at as usize + usize::from(slot.refs);
        // A slot is used once per batch, and there is room for all.
        let _ = self.used.push(number);
        if protocol == Protocol::V2 {
            for &id in self.refs.get(refs).unwrap_or_default() {
                self.symbols.refer(id);
            }
        }
    }

    /// What the batch uses now.
    pub fn mark(&self) -> Mark {
        Mark {
            slots: self.used.len(),
            symbols: self.symbols.used_len(),
        }
    }

    /// Takes out of the batch what came since `mark`.
    pub fn undo(&mut self, mark: Mark) {
        for &number in self.used.get(mark.slots..).unwrap_or_default() {
            if let Some(slot) = self.slots.get_mut(usize::from(number)) {
                slot.holds = Holds::Unused;
            }
        }
        self.used.truncate(mark.slots);
        self.symbols.undo(mark.symbols);
    }

    /// Makes a slot for `key`; `None` labels: the series is not sent.
    ///
    /// # Errors
    /// [`Full`]; the dictionary will be emptied before the next batch.
    pub fn insert(&mut self, key: usize, check: u32, labels: Option<&Labels>) -> Result<u16, Full> {
        let mut adding = self.begin_slot(check);
        for label in labels.into_iter().flat_map(Labels::iter) {
            let added = self.add_label(&mut adding, label.name, label.value);
            self.crowded_if_full(added)?;
        }
        let pushed = self.push_slot(key, adding);
        self.crowded_if_full(pushed)
    }

    /// Makes a slot for `key` from the series' own labels and those of the slot `shared`, which its own override.
    ///
    /// `None`: the labels need the long way (escapes, empty values, too many, or damage).
    ///
    /// # Errors
    /// As [`Dictionary::insert`].
    pub fn insert_joined(
        &mut self,
        key: usize,
        check: u32,
        series: SeriesText<'_>,
        shared: &Slot,
    ) -> Result<Option<u16>, Full> {
        let refs_at = self.refs.len();
        let joined = self.join(check, series, shared);
        match self.crowded_if_full(joined)? {
            Some(slot) => {
                let pushed = self.push_slot(key, slot);
                self.crowded_if_full(pushed).map(Some)
            }
            None => {
                self.refs.truncate(refs_at);
                Ok(None)
            }
        }
    }

    fn join(&mut self, check: u32, series: SeriesText<'_>, shared: &Slot) -> Result<Option<Slot>, Full> {
        let mut slot = self.begin_slot(check);
        let mut shared = shared.refs_at as usize..shared.refs_at as usize + usize::from(shared.refs);
        let mut own = OwnLabels::new(series);
        let mut labels = 0;
        loop {
            let next = own.next;
            let first = self.first_shared(&shared);
            let order = first.map(|[name, _]| match next {
                Some((next, _)) => self.symbols.text(name).cmp(next.as_bytes()),
                None => Ordering::Less,
            });
            if order.is_some_and(Ordering::is_le) {
                shared.start += 2;
            }
            match (first, order, next) {
                (Some(pair), Some(Ordering::Less), _) => self.add_pair(&mut slot, pair)?,
                (_, _, Some((name, value))) => {
                    self.add_label(&mut slot, name, value)?;
                    own.advance();
                }
                _ => break,
            }
            labels += 1;
            if labels > MAX_LABELS {
                return Ok(None);
            }
        }
        Ok(Some(slot).filter(|slot| !own.is_unusual && slot.refs > 0))
    }

    fn first_shared(&self, shared: &Range<usize>) -> Option<[u16; 2]> {
        self.refs.get(shared.clone())?.first_chunk().copied()
    }

    fn begin_slot(&self, check: u32) -> Slot {
        Slot {
            refs_at: self.refs.len() as u32,
            label_bytes_v1: 0,
            check,
            refs: 0,
            kind: MetricType::Unknown,
            holds: Holds::Unused,
            target: TargetRef(0),
            origin: Origin::default(),
        }
    }

    fn add_label(&mut self, slot: &mut Slot, name: &str, value: &str) -> Result<(), Full> {
        let pair = [self.symbols.intern(name)?, self.symbols.intern(value)?];
        self.add_pair(slot, pair)
    }

    fn add_pair(&mut self, slot: &mut Slot, pair: [u16; 2]) -> Result<(), Full> {
        self.refs.extend(&pair)?;
        slot.refs += 2;
        let [name, value] = pair.map(|id| self.symbols.text(id).len());
        slot.label_bytes_v1 += proto::len_label(name, value) as u32;
        Ok(())
    }

    fn push_slot(&mut self, key: usize, slot: Slot) -> Result<u16, Full> {
        let number = self.slots.len() as u16;
        self.slots.push(slot)?;
        if let Some(entry) = self.slot_of_key.get_mut(key) {
            *entry = number;
            self.checked.put(key, true);
        }
        Ok(number)
    }

    fn crowded_if_full<T>(&mut self, result: Result<T, Full>) -> Result<T, Full> {
        self.is_crowded |= result.is_err();
        result
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

    fn shown(dictionary: &Dictionary, slot: u16) -> String {
        let slot = dictionary.slot(slot).expect("slot");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        dictionary
            .labels(slot)
            .map(|(n, v)| format!("{}={};", text(n), text(v)))
            .collect()
    }

    #[test]
    fn a_slot_outlives_the_batch_but_not_its_check() {
        let mut dictionary = Dictionary::new(100, 10, 1, 1);
        let set = labels(&[("a", "x"), ("b", "x")]);
        assert_eq!(dictionary.insert(7, 1, Some(&set)), Ok(0));
        assert_eq!(dictionary.find_used(7), None);
        dictionary.use_slot(0, (TargetRef(0), MetricType::Gauge), Protocol::V2);
        assert_eq!(
            (dictionary.find_used(7), dictionary.find(7, 1), dictionary.find(7, 2)),
            (Some(0), Some(0), None)
        );
        let slot = *dictionary.slot(0).expect("slot");
        assert_eq!(dictionary.references(&slot).collect::<Vec<_>>(), [1, 2, 3, 2]);
        dictionary.begin();
        assert_eq!((dictionary.find_used(7), dictionary.find(7, 1)), (None, Some(0)));
        assert_eq!(dictionary.insert(7, 2, None), Ok(1));
        assert_eq!((dictionary.find(7, 1), dictionary.find(7, 2)), (None, Some(1)));
        assert_eq!(shown(&dictionary, 0), "a=x;b=x;");
        dictionary.forget_keys();
        assert_eq!(
            (dictionary.find(7, 2), shown(&dictionary, 0).as_str()),
            (None, "a=x;b=x;")
        );
        dictionary.begin();
        assert_eq!(dictionary.insert(7, 2, None), Ok(0));
    }

    #[test]
    fn a_key_needs_a_check_again_once_series_or_labels_have_changed() {
        let mut dictionary = Dictionary::new(100, 10, 2, 1);
        let (one, other) = (TargetRef(0), TargetRef(1));
        let insert = |dictionary: &mut Dictionary| {
            let made = dictionary.insert(7, 1, Some(&labels(&[("a", "x")]))).expect("fits");
            assert_eq!(dictionary.find_checked(7), Some(made));
        };
        dictionary.follow(1, one, 10);
        dictionary.follow(1, other, 20);
        insert(&mut dictionary);
        dictionary.follow(1, one, 10);
        assert_eq!(dictionary.find_checked(7), Some(0));
        for (generation, target, check) in [(2, one, 10), (2, other, 21), (2, TargetRef(2), 0)] {
            dictionary.follow(generation, target, check);
            assert_eq!(dictionary.find_checked(7), None);
            assert_eq!((dictionary.find(7, 2), dictionary.find_checked(7)), (None, None));
            assert_eq!((dictionary.find(7, 1), dictionary.find_checked(7)), (Some(0), Some(0)));
        }
        dictionary.forget_keys();
        assert_eq!(dictionary.find_checked(7), None);
        insert(&mut dictionary);
    }

    #[test]
    fn what_does_not_fit_empties_the_dictionary_before_the_next_batch() {
        let mut dictionary = Dictionary::new(100, 2, 1, 1);
        for key in 0..2 {
            assert!(dictionary.insert(key, 0, Some(&labels(&[("a", "x")]))).is_ok());
        }
        assert!(dictionary.insert(2, 0, Some(&labels(&[("a", "x")]))).is_err());
        assert_eq!(shown(&dictionary, 1), "a=x;");
        dictionary.begin();
        assert_eq!(dictionary.insert(2, 0, Some(&labels(&[("a", "x")]))), Ok(0));
    }

    #[test]
    fn own_labels_override_shared_ones() {
        let mut dictionary = Dictionary::new(100, 10, 1, 1);
        let shared = labels(&[("Zone", "eu"), ("instance", "box"), ("job", "node")]);
        let shared = dictionary.insert(99, 0, Some(&shared)).expect("fits");
        let shared = *dictionary.slot(shared).expect("slot");
        for (name, body, expected) in [
            ("up", "", "Zone=eu;__name__=up;instance=box;job=node;"),
            (
                "up",
                r#"a="1",job="own",z="2""#,
                "Zone=eu;__name__=up;a=1;instance=box;job=own;z=2;",
            ),
            ("", r#"A="1""#, "A=1;Zone=eu;instance=box;job=node;"),
        ] {
            let slot = dictionary.insert_joined(1, 0, SeriesText { name, body }, &shared);
            let slot = slot.expect("fits").expect("usual");
            assert_eq!(shown(&dictionary, slot), expected);
            let bytes: usize = dictionary
                .labels(dictionary.slot(slot).expect("slot"))
                .map(|(n, v)| proto::len_label(n.len(), v.len()))
                .sum();
            assert_eq!(dictionary.slot(slot).map(|s| s.label_bytes_v1 as usize), Some(bytes));
        }
        let unusual = SeriesText {
            name: "up",
            body: r#"a="""#,
        };
        assert_eq!(dictionary.insert_joined(1, 0, unusual, &shared), Ok(None));
    }

    #[test]
    fn any_legal_series_fits_an_empty_dictionary() {
        let mut dictionary = Dictionary::new(2, 2, 1, 1);
        for key in 0..2 {
            let mut many = Labels::new(MAX_SERIES_TEXT_BYTES);
            for i in 0..MAX_LABELS {
                many.push(&format!("name{key}{i}"), &format!("{key}{i}{}", "v".repeat(230)))
                    .expect("fits");
            }
            assert!(dictionary.insert(key, 0, Some(&many)).is_ok());
        }
    }
}
