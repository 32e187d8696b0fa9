//! What was scraped, and the judgement over what became of it.

use super::receiver::Sent;
use super::target::Item;
use std::collections::{BTreeSet, HashMap};

/// One finished scrape.
#[derive(Clone, Debug)]
pub struct Told {
    pub target: u8,
    /// Which of the machine's boots.
    pub boot: usize,
    /// Boot time of the scrape.
    pub time_ms: u64,
    /// World time at which its frame was handed over.
    pub at: u64,
    /// Samples, staleness markers, synthetic series.
    pub items: Vec<Item>,
    /// Samples alone: what the ring counts.
    pub samples: u64,
    /// The ring took it.
    pub stored: bool,
}

/// A loss of power, or the end of a process without its last commit.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// World time.
    pub at: u64,
    /// Frames handed over since may be gone.
    pub safe_until: u64,
}

/// What a remote was given, for the judgement.
#[derive(Debug, Default)]
pub struct Account {
    pub stored: Vec<Sent>,
    /// Given up by the sender after an answer.
    pub refused: Vec<Sent>,
    /// Fresh samples may go ahead of others.
    pub live_share: bool,
    /// What it has not taken leaves the ring all the same.
    pub best_effort: bool,
}

/// What became of everything, for one remote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Items (samples, markers, synthetic) there is proof of.
    pub delivered: u64,
    /// Arrived more than once.
    pub repeated: u64,
    /// Given up by the sender and not there.
    pub refused: u64,
    /// In frames of which nothing arrived, not counting those below.
    pub lost: u64,
    pub lost_frames: u64,
    /// Samples of `lost`, as the ring counts them.
    pub lost_samples: u64,
    /// Not yet committed at a loss of power.
    pub cut: u64,
    pub cut_frames: u64,
    /// Of frames that arrived in part, without a reason seen.
    pub partial: u64,
}

/// Everything scraped.
#[derive(Default)]
pub struct Ledger {
    pub frames: Vec<Told>,
    pub cuts: Vec<Cut>,
    /// Per boot: offsets that the agent was told.
    pub offsets: Vec<Vec<i64>>,
    /// Per boot: true wall time at which it began.
    pub begun: Vec<i64>,
    /// A process may have ended between two slices of a batch: a frame that is lost then, or not yet on flash, has arrived in part.
    pub in_parts: bool,
    /// Nobody may know with which times it was sent: a process has ended, or the ring has given up part of what may be stored.
    pub times_forgotten: bool,
    /// Boots may learn the time late.
    pub late_clock: bool,
    /// World times at which a boot learnt it.
    pub learnt: Vec<(usize, u64)>,
    /// A full ring waits for room, and can note nothing meanwhile.
    pub stops: bool,
    /// Boots without a time get one before they know (`anchor`): earlier than the truth.
    pub guessed: bool,
    values: HashMap<u64, (usize, usize)>,
}

impl Ledger {
    /// The number that the next scrape carries as its duration.
    pub fn next_duration(&self) -> u32 {
        self.frames.len() as u32 + 1
    }

    pub fn add(&mut self, told: Told) {
        let frame = self.frames.len();
        for (place, item) in told.items.iter().enumerate().filter(|(_, item)| item.unique) {
            let before = self.values.insert(item.bits, (frame, place));
            assert!(before.is_none(), "a value was given out twice");
        }
        self.frames.push(told);
    }

    /// Finds out what every arrived sample is; panics at what was invented or bent.
    pub fn judge(&self, account: &Account, may_regress: bool) -> Verdict {
        let times = self.times(account);
        let mut arrived: Vec<Vec<u32>> = self.frames.iter().map(|frame| vec![0; frame.items.len()]).collect();
        let mut newest: HashMap<&str, i64> = HashMap::new();
        // Of samples behind the newest: with a live share two rows are sent, each in order.
        let mut newest_of_old: HashMap<&str, i64> = HashMap::new();
        let mut first_time: HashMap<(usize, usize), i64> = HashMap::new();
        let mut verdict = Verdict::default();
        for sent in &account.stored {
            let (frame, place) = self.identify(sent, &times);
            self.check_time(frame, sent, may_regress);
            let count = &mut arrived[frame][place];
            *count += 1;
            let newest = newest.entry(&sent.series).or_insert(i64::MIN);
            let first = first_time.entry((frame, place)).or_insert(sent.unix_ms);
            if *count > 1 {
                assert!(
                    *first == sent.unix_ms || may_regress || self.moved(frame) || self.is_untold(frame),
                    "twice, at {first} and {sent:?}"
                );
                verdict.repeated += 1;
            } else {
                verdict.delivered += 1;
                let old = newest_of_old.entry(&sent.series).or_insert(i64::MIN);
                let in_order = sent.unix_ms > *newest;
                assert!(
                    in_order
                        || may_regress
                        || (account.live_share && sent.unix_ms > *old)
                        || (account.best_effort && self.times_forgotten),
                    "out of order: {sent:?} after {newest} and {old}"
                );
                if !in_order {
                    *old = (*old).max(sent.unix_ms);
                }
            }
            *newest = (*newest).max(sent.unix_ms);
        }
        let mut refused: BTreeSet<(usize, usize)> = BTreeSet::new();
        for sent in &account.refused {
            refused.extend(self.try_identify(sent, &times));
        }
        for (number, told) in self.frames.iter().enumerate() {
            self.settle(told, number, &arrived[number], &refused, &mut verdict);
        }
        verdict
    }

    /// Whether a frame may be sent again with another time: its clock was corrected in between, and nobody knows with which it was sent.
    fn moved(&self, frame: usize) -> bool {
        if !self.times_forgotten {
            return false;
        }
        let offsets = &self.offsets[self.frames[frame].boot];
        offsets.len() > 1 || (0..self.offsets.len()).any(|boot| self.offsets[boot].len() > 1)
    }

    /// Whether the time of the frame's boot, or of one that it hangs on, may not be on flash: it was learnt in the last commit interval before
    /// the power went, or the ring could not be written. Then it is sent once more, with the time that the next boot gives it.
    fn is_untold(&self, frame: usize) -> bool {
        let boot = self.frames[frame].boot;
        let forgotten = (boot..self.offsets.len()).any(|boot| self.is_forgotten(boot));
        self.late_clock && boot + 1 < self.offsets.len() && (self.stops || forgotten)
    }

    /// Whether `boot` learnt the time when it could not be kept any more before the power went.
    fn is_forgotten(&self, boot: usize) -> bool {
        let lost = |at: u64| self.cuts.iter().any(|cut| at <= cut.at && at > cut.safe_until);
        self.learnt.iter().any(|&(of, at)| of == boot && lost(at))
    }

    fn settle(
        &self,
        told: &Told,
        number: usize,
        arrived: &[u32],
        refused: &BTreeSet<(usize, usize)>,
        to: &mut Verdict,
    ) {
        let is_refused = |place: usize| refused.contains(&(number, place));
        let missing = (0..arrived.len()).filter(|&place| arrived[place] == 0 && !is_refused(place));
        let missing = missing.count() as u64;
        to.refused += (0..arrived.len())
            .filter(|&place| arrived[place] == 0 && is_refused(place))
            .count() as u64;
        if missing == 0 {
            return;
        }
        if missing < arrived.len() as u64 && !self.in_parts {
            to.partial += missing;
            return;
        }
        let cut = |cut: &Cut| told.at <= cut.at && told.at > cut.safe_until;
        if told.stored && self.cuts.iter().any(cut) {
            to.cut += missing;
            to.cut_frames += 1;
        } else {
            to.lost += missing;
            to.lost_frames += 1;
            to.lost_samples += told.samples;
        }
    }

    /// Which frame each target's samples of one time belong to: its scrape duration says so.
    fn times(&self, account: &Account) -> HashMap<(String, i64), usize> {
        let mut times = HashMap::new();
        for sent in account.stored.iter().chain(&account.refused) {
            if !sent.series.starts_with("__name__=scrape_duration_seconds;") {
                continue;
            }
            let found = self.values.get(&sent.bits);
            let &(frame, _) = found.unwrap_or_else(|| panic!("invented: {sent:?}"));
            let before = times.insert((instance(&sent.series), sent.unix_ms), frame);
            assert!(
                before.is_none_or(|before| before == frame),
                "two scrapes of one target at one time: {sent:?}"
            );
        }
        times
    }

    fn identify(&self, sent: &Sent, times: &HashMap<(String, i64), usize>) -> (usize, usize) {
        self.try_identify(sent, times)
            .unwrap_or_else(|| panic!("invented: {sent:?}"))
    }

    fn try_identify(&self, sent: &Sent, times: &HashMap<(String, i64), usize>) -> Option<(usize, usize)> {
        if let Some(&(frame, place)) = self.values.get(&sent.bits) {
            let item = &self.frames[frame].items[place];
            if item.series == *sent.series {
                if let Some(explicit) = item.explicit {
                    assert_eq!(sent.unix_ms, explicit, "{sent:?}");
                }
                return Some((frame, place));
            }
        }
        let place = |frame: usize| {
            let mut items = self.frames[frame].items.iter();
            let place = items.position(|item| item.series == *sent.series && item.bits == sent.bits)?;
            Some((frame, place))
        };
        if let Some(&frame) = times.get(&(instance(&sent.series), sent.unix_ms)) {
            return place(frame);
        }
        // Its scrape's duration was in a slice that never went: only the clock says which scrape it was.
        let is_of = |told: &Told| {
            let mut offsets = self.offsets[told.boot].iter();
            offsets.any(|offset| told.time_ms as i64 + offset == sent.unix_ms)
        };
        let mut frames = (0..self.frames.len()).filter(|&frame| self.in_parts && is_of(&self.frames[frame]));
        frames.find_map(place)
    }

    fn check_time(&self, frame: usize, sent: &Sent, may_regress: bool) {
        let told = &self.frames[frame];
        let dated = told
            .items
            .iter()
            .any(|item| item.explicit == Some(sent.unix_ms) && item.series == *sent.series);
        let offsets = &self.offsets[told.boot];
        // A clock that was ahead before has times held back.
        let ahead = |boot: usize| self.offsets[boot].iter().any(|offset| *offset > self.begun[boot]);
        let stepped = (0..=told.boot).any(ahead) || offsets.windows(2).any(|pair| pair[1] < pair[0]);
        let exact = offsets
            .iter()
            .any(|offset| told.time_ms as i64 + offset == sent.unix_ms);
        // What was learnt in the last commit interval before the power went may not be on flash.
        let untold = self.late_clock && !exact && told.boot + 1 < self.offsets.len();
        if (offsets.is_empty() || untold) && !dated {
            return self.check_anchored(told, sent);
        }
        assert!(
            dated || exact || stepped || may_regress || self.guessed,
            "{sent:?} of a scrape at {} of boot {}, offsets {offsets:?}",
            told.time_ms,
            told.boot
        );
    }
}

impl Ledger {
    /// The scrapes that arrived, by their durations, with the times they arrived with.
    pub fn arrived(&self, stored: &[Sent]) -> Vec<(&Told, i64)> {
        let durations = stored
            .iter()
            .filter(|sent| sent.series.starts_with("__name__=scrape_duration_seconds;"));
        durations
            .filter_map(|sent| Some((&self.frames[self.values.get(&sent.bits)?.0], sent.unix_ms)))
            .collect()
    }

    /// Not before its time, and before the next boot that knew the time, and could tell those after it, began.
    fn check_anchored(&self, told: &Told, sent: &Sent) {
        let wrong = |boot: usize| self.offsets[boot].iter().any(|offset| *offset != self.begun[boot]);
        if (0..self.offsets.len()).any(wrong) || self.guessed {
            return;
        }
        let earliest = self.begun[told.boot] + told.time_ms as i64 - 1;
        let later = told.boot + 1..self.offsets.len();
        let next = later
            .clone()
            .find(|&boot| !self.offsets[boot].is_empty() && !self.is_forgotten(boot));
        let latest = next.map_or(i64::MAX, |boot| self.begun[boot]);
        assert!(
            (earliest..latest).contains(&sent.unix_ms),
            "{sent:?} of boot {} at {}: true time {earliest}, next known boot began {latest}",
            told.boot,
            told.time_ms
        );
    }
}

fn instance(series: &str) -> String {
    let part = series.split(';').find(|part| part.starts_with("instance="));
    part.unwrap_or_default().to_owned()
}
