//! One sample with all it carries becomes entries of a batch, or none of it does.

use super::carried::{Content, Exemplar};
use super::take::Adding;
use super::{Batch, Counts, Entry};
use crate::frame::Full;
use crate::remote_write::proto::{self, ExemplarPoint};
use crate::remote_write::response::Protocol;
use crate::sample::Number;

/// What has been gathered of one sample and its exemplars, to return to when not all of it fits.
#[derive(Clone, Copy)]
pub(super) struct Reserved {
    counts: Counts,
    carried: usize,
    late_strings: usize,
    late_bytes: usize,
}

/// What one sample carries.
pub(super) struct Carries<'a, 'b> {
    pub histogram: Option<&'b [u8]>,
    pub start: Option<i64>,
    pub exemplars: &'a mut dyn Iterator<Item = Exemplar<'b>>,
}

impl Batch {
    /// Whether this remote gets the histogram; counted if not.
    pub(super) fn takes_histogram(&mut self, message: &[u8]) -> bool {
        let reason = match proto::has_custom_buckets(message) {
            _ if !self.limits.sends.histograms => &mut self.tally.unwanted_histograms,
            Some(true) if self.protocol == Protocol::V1 => &mut self.tally.custom_buckets,
            None => &mut self.tally.damaged_histograms,
            Some(_) => return true,
        };
        *reason += 1;
        false
    }

    pub(super) fn add_sample(
        &mut self,
        message: Option<&[u8]>,
        number: Number,
        slot: u16,
        (time, start): (i64, i64),
    ) -> Result<(), Full> {
        let (content, bytes) = match message {
            Some(message) => {
                let bytes = proto::len_histogram(message.len(), time, start);
                (Content::Histogram(self.keep_histogram(message)?), bytes)
            }
            None => {
                let bits = number.to_bits();
                (Content::Float(bits), proto::len_sample(bits, time, start))
            }
        };
        self.fits(self.grouped_bytes + bytes)?;
        let time = self.time_index(time)?;
        let start = self.start_index(start, slot)?;
        self.entries.push(Entry::new(&content, slot, time, start))?;
        self.grouped_bytes += bytes;
        match message {
            Some(_) => self.counts.histograms += 1,
            None => self.counts.samples += 1,
        }
        Ok(())
    }

    /// Adds the exemplars of the sample added last.
    pub(super) fn add_exemplars(
        &mut self,
        adding: &mut Adding<'_, '_>,
        slot: u16,
        time: i64,
        exemplars: &mut dyn Iterator<Item = Exemplar<'_>>,
    ) -> Result<(), Full> {
        if !self.limits.sends.exemplars {
            return Ok(());
        }
        for exemplar in exemplars {
            // An empty batch takes what it can: there will be no roomier one.
            let alone = self.counts.samples + self.counts.histograms == 1;
            match self.add_exemplar(adding, slot, time, exemplar) {
                Err(_) if alone => self.tally.large_exemplars += 1,
                added => added?,
            }
        }
        Ok(())
    }

    fn add_exemplar(
        &mut self,
        adding: &mut Adding<'_, '_>,
        slot: u16,
        time: i64,
        exemplar: Exemplar<'_>,
    ) -> Result<(), Full> {
        let Ok(labels) = adding.identity.exemplar(exemplar.labels) else {
            self.tally.large_exemplars += 1;
            return Ok(());
        };
        let point = ExemplarPoint {
            bits: exemplar.value,
            unix_ms: exemplar.unix_ms.unwrap_or(time),
        };
        let reserved = self.reserved();
        let added = self.keep_exemplar(point, labels).and_then(|(range, bytes)| {
            self.fits(self.grouped_bytes + bytes)?;
            let time = self.entries.last().map_or(0, Entry::time_index);
            self.entries
                .push(Entry::new(&Content::Exemplar(range), slot, time, 0))?;
            self.grouped_bytes += bytes;
            self.counts.exemplars += 1;
            Ok(())
        });
        if added.is_err() {
            self.release(reserved);
        }
        added
    }

    pub(super) const fn reserved(&self) -> Reserved {
        Reserved {
            counts: self.counts,
            carried: self.carried,
            late_strings: self.late_strings,
            late_bytes: self.late_bytes,
        }
    }

    pub(super) const fn release(&mut self, to: Reserved) {
        self.counts = to.counts;
        self.carried = to.carried;
        self.late_strings = to.late_strings;
        self.late_bytes = to.late_bytes;
    }
}
