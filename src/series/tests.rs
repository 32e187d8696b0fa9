use super::*;
use crate::catalogue::SeriesText;
use crate::sample::MetricType;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const T: TargetRef = TargetRef(0);

/// A table with a catalogue, driven the way a session does. Text `a.x` means series `a`; `-x` is dropped.
struct Rig {
    table: SeriesTable,
    catalogue: Catalogue,
    stale: Bounded<SeriesRef>,
    frame: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    New,
    Known,
    NoRoom,
}

impl Rig {
    fn new(max_series: usize, max_texts: usize) -> Self {
        Self {
            table: SeriesTable::new(max_series, max_texts, 4, 11),
            catalogue: Catalogue::new(max_series, 100 * max_series, 4),
            stale: Bounded::with_capacity(max_series),
            frame: 0,
        }
    }

    fn name(text: &str) -> &str {
        text.split('.').next().unwrap_or_default()
    }

    fn sight(&mut self, t: TargetRef, text: &str, tracked: bool) -> Sight {
        let key = self.table.key(t, text.as_bytes());
        let (verdict, sight) = match self.table.verdict(t, key) {
            Some(verdict) => (verdict, Sight::Known),
            None if text.starts_with('-') => {
                self.table.learn_dropped(t, key);
                (Verdict::Dropped, Sight::New)
            }
            None => {
                let name = Self::name(text);
                let Ok(s) = self
                    .catalogue
                    .define(t, SeriesText { name, body: "" }, MetricType::Gauge)
                else {
                    self.table.note_pressure();
                    return Sight::NoRoom;
                };
                if self.table.learn(t, key, s).is_err() {
                    self.table.note_pressure();
                    return Sight::NoRoom;
                }
                (Verdict::Series(s), Sight::New)
            }
        };
        if let Verdict::Series(s) = verdict {
            assert_eq!(self.catalogue.text(s).unwrap().name, Self::name(text));
            self.table.record(t, s, 7);
            assert_eq!(self.table.position(t, s), Some(7));
            if tracked {
                self.table.track(t, s);
            }
        }
        sight
    }

    /// Ends a scrape and returns the names of the series to mark.
    fn end(&mut self, t: TargetRef, success: bool) -> BTreeSet<String> {
        self.stale.clear();
        let left_out = if success {
            self.table.succeed(t, &self.catalogue, &mut self.stale)
        } else {
            self.table.fail(t, &mut self.catalogue, &mut self.stale)
        };
        assert_eq!(left_out, 0);
        let names = self
            .stale
            .iter()
            .map(|&s| self.catalogue.text(s).unwrap().name.into())
            .collect();
        self.frame += 1;
        self.table.settle(t, FrameNo(self.frame), &mut self.catalogue);
        names
    }

    fn scrape(&mut self, t: TargetRef, texts: &[&str], success: bool) -> BTreeSet<String> {
        self.table.begin(t);
        for text in texts {
            self.sight(t, text, true);
        }
        self.end(t, success)
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.into()).collect()
}

#[test]
fn scr_802_a_series_that_is_gone_is_marked_once() {
    let mut rig = Rig::new(8, 8);
    assert_eq!(rig.scrape(T, &["a", "b"], true), set(&[]));
    assert_eq!(rig.scrape(T, &["b"], true), set(&["a"]));
    assert_eq!(rig.scrape(T, &["b"], true), set(&[]));
    assert_eq!(rig.catalogue.len(), 1);
    assert_eq!(rig.catalogue.waiting(), 1, "frames up to the marker's still need it");
    rig.catalogue.reclaim(FrameNo(rig.frame + 1));
    assert_eq!(rig.catalogue.waiting(), 0);
}

#[test]
fn scr_803_a_failed_scrape_marks_everything_once_and_forgets_nothing() {
    let mut rig = Rig::new(8, 8);
    rig.scrape(T, &["a", "b"], true);
    assert_eq!(rig.scrape(T, &["b"], false), set(&["a", "b"]));
    assert_eq!(rig.scrape(T, &[], false), set(&[]));
    assert_eq!(rig.catalogue.len(), 2);
    rig.table.begin(T);
    assert_eq!(rig.sight(T, "a", true), Sight::Known);
    assert_eq!(rig.end(T, true), set(&[]), "b was marked when the scrape failed");
    assert_eq!(rig.catalogue.len(), 1);
}

#[test]
fn a_failed_scrape_takes_back_what_it_brought() {
    let mut rig = Rig::new(8, 16);
    rig.scrape(T, &["a", "-d"], true);
    rig.scrape(T, &["a", "b", "a.2", "-e"], false);
    assert_eq!((rig.table.texts(), rig.catalogue.len()), (2, 1));
    rig.table.begin(T);
    assert_eq!(rig.sight(T, "b", true), Sight::New);
    assert_eq!(rig.sight(T, "a.2", true), Sight::New);
    assert_eq!(rig.sight(T, "a", true), Sight::Known);
    assert_eq!(rig.sight(T, "-d", true), Sight::Known);
    assert_eq!(rig.sight(T, "-e", true), Sight::New);
    assert_eq!(rig.end(T, true), set(&[]));
}

#[test]
fn scr_804_and_805_what_is_not_tracked_is_not_marked_and_ceasing_to_be_tracked_marks() {
    let mut rig = Rig::new(8, 8);
    for (tracked, marked) in [(false, &[][..]), (true, &[]), (false, &["a"]), (false, &[])] {
        rig.table.begin(T);
        rig.sight(T, "a", tracked);
        assert_eq!(rig.end(T, true), set(marked));
    }
    assert_eq!(rig.scrape(T, &[], true), set(&[]));
    assert!(rig.catalogue.is_empty());
}

#[test]
fn a_series_with_two_texts_lives_as_long_as_one_of_them() {
    let mut rig = Rig::new(8, 8);
    rig.scrape(T, &["a.1", "a.2"], true);
    assert_eq!(rig.scrape(T, &["a.2"], true), set(&[]));
    assert_eq!((rig.table.texts(), rig.catalogue.len()), (1, 1));
    assert_eq!(
        rig.scrape(T, &["a.3"], true),
        set(&[]),
        "the series is there, the text is new"
    );
    assert_eq!(rig.catalogue.len(), 1);
}

#[test]
fn dropped_texts_never_take_the_room_of_series() {
    let mut rig = Rig::new(4, 6);
    let texts: Vec<_> = (0..50).map(|i| format!("-{i}")).collect();
    rig.scrape(T, &texts.iter().map(String::as_str).collect::<Vec<_>>(), true);
    assert_eq!(rig.table.texts(), 2);
    rig.table.begin(T);
    for text in ["a", "b", "c", "d"] {
        assert_eq!(rig.sight(T, text, true), Sight::New);
    }
    assert_eq!(rig.sight(T, "e", true), Sight::NoRoom);
}

#[test]
fn a_flood_fails_alone_and_frees_what_it_took() {
    let mut rig = Rig::new(8, 8);
    rig.scrape(T, &["a", "b"], true);
    let flood = TargetRef(1);
    for round in 0..20 {
        rig.table.begin(flood);
        let mut texts = (0..).map(|i| format!("f{round}x{i}"));
        let taken = texts
            .by_ref()
            .take_while(|text| rig.sight(flood, text, true) == Sight::New);
        assert_eq!(taken.count(), 6);
        rig.end(flood, false);
        assert_eq!(
            (rig.table.texts(), rig.catalogue.len(), rig.catalogue.waiting()),
            (2, 2, 0)
        );
        assert_eq!(rig.scrape(T, &["a", "b"], true), set(&[]));
    }
}

#[test]
fn want_of_room_frees_failed_targets_and_what_the_ring_remembered() {
    let mut rig = Rig::new(4, 4);
    let old = SeriesText { name: "old", body: "" };
    rig.catalogue
        .define_at(SeriesRef(3), TargetRef(2), old, MetricType::Gauge)
        .unwrap();
    rig.scrape(T, &["a", "b"], true);
    rig.scrape(T, &[], false);
    let other = TargetRef(1);
    rig.scrape(other, &["c", "d"], false);
    assert_eq!(rig.catalogue.len(), 0, "all were of failed targets or of nobody");
    rig.catalogue.reclaim(FrameNo(rig.frame + 1));
    rig.table.begin(other);
    assert_eq!(rig.sight(other, "c", true), Sight::New);
    assert_eq!(rig.sight(other, "d", true), Sight::New);
    assert_eq!(rig.end(other, true), set(&[]));
}

#[test]
fn want_of_room_leaves_a_running_scrape_alone() {
    let mut rig = Rig::new(3, 3);
    let (other, third) = (TargetRef(1), TargetRef(2));
    rig.scrape(T, &["a", "b"], true);
    rig.scrape(T, &[], false);
    rig.table.begin(T);
    rig.sight(T, "a", true);
    rig.scrape(other, &["c", "d"], false);
    assert_eq!(rig.sight(T, "b", true), Sight::Known);
    assert_eq!(rig.end(T, true), set(&[]));
    assert_eq!(rig.catalogue.len(), 2);
    assert_eq!(rig.scrape(third, &["c"], true), set(&[]));
    assert_eq!(rig.scrape(T, &["a"], true), set(&["b"]));
}

#[test]
fn scr_810_what_vanished_before_the_start_is_released_unmarked() {
    let mut rig = Rig::new(4, 4);
    for (index, name) in ["a", "b"].into_iter().enumerate() {
        let s = SeriesRef(index as u16);
        rig.catalogue
            .define_at(s, T, SeriesText { name, body: "" }, MetricType::Gauge)
            .unwrap();
    }
    assert_eq!(rig.scrape(T, &["b"], true), set(&[]));
    assert!(!rig.catalogue.is_live(SeriesRef(0)));
    assert!(rig.catalogue.is_live(SeriesRef(1)));
    assert_eq!(rig.catalogue.next_dirty(0), None, "the segment has the definition of b");
}

#[test]
fn forget_releases_everything_of_a_target() {
    let mut rig = Rig::new(8, 8);
    rig.scrape(T, &["a", "-b"], true);
    rig.scrape(TargetRef(1), &["a"], true);
    rig.table.forget(T, FrameNo(2), &mut rig.catalogue);
    assert_eq!((rig.table.texts(), rig.catalogue.len()), (1, 1));
    assert_eq!(rig.scrape(T, &["a"], true), set(&[]));
}

#[test]
fn newest_timestamps_survive_packing_and_go_with_their_series() {
    for ms in [0, 1, -1, 1_700_000_000_000, BIAS - 1, 1 - BIAS] {
        assert!(storable(ms));
        for explicit in [false, true] {
            let newest = Newest { unix_ms: ms, explicit };
            assert_eq!(unpack(pack(newest)), Some(newest));
        }
    }
    assert!(!storable(BIAS) && !storable(-BIAS) && !storable(i64::MIN) && !storable(i64::MAX));
    let mut rig = Rig::new(1, 1);
    rig.scrape(T, &["a"], true);
    assert_eq!(rig.table.newest(SeriesRef(0)), None);
    let newest = Newest {
        unix_ms: -5,
        explicit: true,
    };
    rig.table.set_newest(SeriesRef(0), newest);
    rig.scrape(T, &["a"], false);
    assert_eq!(rig.table.newest(SeriesRef(0)), Some(newest));
    rig.scrape(T, &[], true);
    assert_eq!(rig.table.newest(SeriesRef(0)), None);
}

#[test]
fn a_mark_does_not_come_round_again() {
    let mut rig = Rig::new(2, 2);
    rig.scrape(T, &["a"], true);
    for _ in 0..300 {
        rig.table.begin(T);
        let key = rig.table.key(T, b"a");
        assert_eq!(rig.table.verdict(T, key), Some(Verdict::Series(SeriesRef(0))));
        assert_eq!(rig.table.position(T, SeriesRef(0)), None);
        rig.table.pass_over(T, SeriesRef(0));
        rig.end(T, true);
    }
}

#[test]
fn an_unknown_target_is_refused_quietly() {
    let mut rig = Rig::new(2, 2);
    let beyond = TargetRef(9);
    rig.table.begin(beyond);
    let key = rig.table.key(beyond, b"a");
    assert_eq!(rig.table.verdict(beyond, key), None);
    rig.table.track(beyond, SeriesRef(0));
    assert_eq!(rig.end(beyond, true), set(&[]));
    assert_eq!(rig.end(beyond, false), set(&[]));
}

/// What a naive implementation remembers of one target.
#[derive(Default)]
struct Model {
    texts: BTreeSet<String>,
    tracked: BTreeSet<String>,
    running: Option<Running>,
}

#[derive(Default)]
struct Running {
    texts: BTreeSet<String>,
    tracked: BTreeSet<String>,
    wanted: Vec<(String, bool)>,
}

fn wish_list(random: &mut fastrand::Rng, churn: bool) -> Vec<(String, bool)> {
    let count = if churn { random.usize(0..40) } else { 15 };
    (0..count)
        .map(|i| {
            let k = if churn { random.usize(0..60) } else { i };
            let text = if k % 7 == 0 {
                format!("-{k}")
            } else {
                format!("s{k}.{}", random.usize(0..2))
            };
            (text, random.u8(0..10) > 0)
        })
        .collect()
}

#[test]
fn agrees_with_a_naive_model_over_10_000_interleaved_scrapes() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut rig = Rig::new(400, 1_000);
    let mut models: Vec<Model> = (0..4).map(|_| Model::default()).collect();
    let mut ended = 0;
    while ended < 10_000 {
        let index = random.usize(0..4);
        let (t, model) = (TargetRef(index as u8), &mut models[index]);
        let Some(running) = &mut model.running else {
            rig.table.begin(t);
            let churn = index != 0 || random.u8(0..50) == 0;
            let wanted = wish_list(&mut random, churn);
            model.running = Some(Running {
                wanted,
                ..Running::default()
            });
            continue;
        };
        for _ in 0..random.usize(1..20) {
            let Some((text, tracked)) = running.wanted.pop() else {
                break;
            };
            let known = model.texts.contains(&text) || running.texts.contains(&text);
            let wanted = if known { Sight::Known } else { Sight::New };
            assert_eq!(rig.sight(t, &text, tracked), wanted, "{text} of {index}");
            if tracked && !text.starts_with('-') {
                running.tracked.insert(Rig::name(&text).into());
            }
            running.texts.insert(text);
        }
        let failed = random.u8(0..20) == 0;
        if failed || running.wanted.is_empty() {
            finish(&mut rig, t, model, !failed);
            ended += 1;
            compare(&mut rig, &models);
        }
    }
}

fn finish(rig: &mut Rig, t: TargetRef, model: &mut Model, success: bool) {
    let running = model.running.take().unwrap();
    let stale = rig.end(t, success);
    if success {
        let wanted: BTreeSet<_> = model.tracked.difference(&running.tracked).cloned().collect();
        assert_eq!(stale, wanted);
        model.texts = running.texts;
        model.tracked = running.tracked;
    } else {
        assert_eq!(stale, core::mem::take(&mut model.tracked));
    }
    // Leave some dead, so that indices stay taken for a while.
    rig.catalogue.reclaim(FrameNo(rig.frame.saturating_sub(2)));
}

fn compare(rig: &mut Rig, models: &[Model]) {
    let mut live = BTreeMap::new();
    let mut texts = 0;
    for (t, model) in models.iter().enumerate() {
        let all = model
            .texts
            .iter()
            .chain(model.running.iter().flat_map(|running| &running.texts));
        let all: BTreeSet<_> = all.collect();
        texts += all.len();
        for text in all.iter().filter(|text| !text.starts_with('-')) {
            *live.entry((t, Rig::name(text))).or_insert(0) += 1;
        }
    }
    assert_eq!(rig.table.texts(), texts);
    assert_eq!(rig.catalogue.len(), live.len());
    for (t, name) in live.into_keys() {
        let text = SeriesText { name, body: "" };
        assert!(rig.catalogue.find(TargetRef(t as u8), text).is_some(), "{name}");
    }
}
