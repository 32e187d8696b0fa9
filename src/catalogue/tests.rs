use super::*;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const T0: TargetRef = TargetRef(0);
const T1: TargetRef = TargetRef(1);

fn text<'a>(name: &'a str, body: &'a str) -> SeriesText<'a> {
    SeriesText { name, body }
}

fn define(catalogue: &mut Catalogue, t: TargetRef, name: &str, body: &str) -> Result<SeriesRef, CatalogueFull> {
    catalogue.define(t, text(name, body), MetricType::Gauge)
}

#[test]
fn defines_at_the_lowest_free_index_and_finds_it_again() {
    let mut catalogue = Catalogue::new(4, 200, 2);
    let a = define(&mut catalogue, T0, "a", "").unwrap();
    let b = define(&mut catalogue, T0, "a", "x=\"1\"").unwrap();
    assert_eq!((a, b), (SeriesRef(0), SeriesRef(1)));
    assert_eq!(define(&mut catalogue, T0, "a", ""), Ok(a));
    assert_eq!(catalogue.find(T0, text("a", "x=\"1\"")), Some(b));
    assert_eq!(catalogue.find(T1, text("a", "")), None, "another target's series");
    assert_eq!(catalogue.text(b), Some(text("a", "x=\"1\"")));
    assert_eq!(catalogue.target_of(b), Some(T0));
    assert_eq!(catalogue.kind(b), MetricType::Gauge);
    assert_eq!((catalogue.len(), catalogue.capacity()), (2, 4));
}

#[test]
fn an_index_is_reused_only_after_its_last_frame_has_left() {
    let mut catalogue = Catalogue::new(1, 200, 1);
    let a = define(&mut catalogue, T0, "a", "").unwrap();
    catalogue.release(a, FrameNo(7));
    assert_eq!(catalogue.find(T0, text("a", "")), None);
    assert_eq!(catalogue.text(a), Some(text("a", "")), "frames up to 7 still need it");
    catalogue.reclaim(FrameNo(7));
    assert_eq!(
        define(&mut catalogue, T0, "b", ""),
        Err(CatalogueFull::Series { limit: 1 })
    );
    catalogue.reclaim(FrameNo(8));
    assert_eq!(catalogue.text(a), None);
    assert_eq!(define(&mut catalogue, T0, "b", ""), Ok(a));
    assert_eq!(catalogue.text(a), Some(text("b", "")));
}

#[test]
fn reclaiming_counts_across_the_wrap_of_32_bits() {
    let mut catalogue = Catalogue::new(1, 200, 1);
    let a = define(&mut catalogue, T0, "a", "").unwrap();
    catalogue.release(a, FrameNo(0xFFFF_FFFF));
    catalogue.reclaim(FrameNo(0xFFFF_FFFF));
    assert!(catalogue.text(a).is_some());
    catalogue.reclaim(FrameNo(0x1_0000_0000));
    assert!(catalogue.text(a).is_none());
}

#[test]
fn a_series_that_returns_before_reclaim_keeps_its_index_and_meaning() {
    let mut catalogue = Catalogue::new(4, 200, 1);
    let a = define(&mut catalogue, T0, "a", "").unwrap();
    assert!(catalogue.take_fresh(a));
    assert!(!catalogue.take_fresh(a));
    catalogue.mark_clean(a);
    catalogue.release(a, FrameNo(7));
    assert_eq!(define(&mut catalogue, T0, "a", ""), Ok(a));
    catalogue.reclaim(FrameNo(100));
    assert!(catalogue.is_live(a));
    assert!(!catalogue.take_fresh(a));
    assert_eq!(catalogue.next_dirty(0), None);
    assert_eq!((catalogue.len(), catalogue.waiting()), (1, 0));
}

#[test]
fn undefine_frees_a_new_series_and_buries_a_revived_one() {
    let mut catalogue = Catalogue::new(4, 200, 1);
    let a = define(&mut catalogue, T0, "a", "").unwrap();
    catalogue.undefine(a);
    assert_eq!((catalogue.len(), catalogue.text_bytes_used()), (0, 0));
    assert_eq!(catalogue.next_dirty(0), None);
    let a = define(&mut catalogue, T0, "a", "").unwrap();
    catalogue.release(a, FrameNo(7));
    define(&mut catalogue, T0, "a", "").unwrap();
    catalogue.undefine(a);
    assert_eq!(catalogue.text(a), Some(text("a", "")), "frame 7 needs it");
    catalogue.reclaim(FrameNo(8));
    assert_eq!(catalogue.text(a), None);
}

#[test]
fn dirty_follows_definitions_and_segments() {
    let mut catalogue = Catalogue::new(40, 2_000, 2);
    for i in 0..35 {
        define(&mut catalogue, T0, &format!("n{i}"), "").unwrap();
    }
    catalogue.set_target(T1, "job=\"x\"").unwrap();
    let mut seen = 0;
    while let Some(s) = catalogue.next_dirty(0) {
        catalogue.mark_clean(s);
        seen += 1;
    }
    assert_eq!(seen, 35);
    assert_eq!(catalogue.next_dirty_target(0), Some(T1));
    catalogue.mark_target_clean(T1);
    catalogue.set_target(T1, "job=\"x\"").unwrap();
    assert_eq!(catalogue.next_dirty_target(0), None, "the same labels are no news");
    catalogue.define(T0, text("n3", ""), MetricType::Counter).unwrap();
    assert_eq!(catalogue.next_dirty(0), Some(SeriesRef(3)), "its type changed");
    catalogue.release(SeriesRef(34), FrameNo(1));
    catalogue.mark_all_dirty();
    assert_eq!(
        catalogue.next_dirty(34),
        Some(SeriesRef(34)),
        "dead, yet staged frames name it"
    );
    assert_eq!(catalogue.next_dirty(35), None);
    assert_eq!(catalogue.next_dirty_target(0), Some(T1));
}

#[test]
fn targets_keep_their_labels_in_the_same_arena() {
    let mut catalogue = Catalogue::new(1, 40, 2);
    catalogue.set_target(T0, "job=\"first\"").unwrap();
    catalogue.set_target(T0, "job=\"other\"").unwrap();
    assert_eq!(catalogue.target_body(T0), "job=\"other\"");
    assert_eq!(catalogue.target_body(T1), "");
    assert_eq!(
        catalogue.set_target(TargetRef(2), ""),
        Err(CatalogueFull::Targets { limit: 2 })
    );
    assert_eq!(
        catalogue.set_target(T1, &"x".repeat(30)),
        Err(CatalogueFull::Text { limit: 40 })
    );
    assert_eq!(catalogue.target_body(T0), "job=\"other\"");
}

#[test]
fn define_at_replaces_and_says_so() {
    let mut catalogue = Catalogue::new(4, 200, 2);
    let s = SeriesRef(3);
    assert_eq!(catalogue.define_at(s, T0, text("a", ""), MetricType::Gauge), Ok(false));
    assert!(catalogue.take_fresh(s));
    assert_eq!(
        catalogue.define_at(s, T0, text("a", ""), MetricType::Counter),
        Ok(false)
    );
    assert!(!catalogue.take_fresh(s));
    assert_eq!(catalogue.kind(s), MetricType::Counter);
    assert_eq!(catalogue.define_at(s, T1, text("a", ""), MetricType::Counter), Ok(true));
    assert!(catalogue.take_fresh(s));
    assert_eq!(catalogue.find(T0, text("a", "")), None);
    assert_eq!(catalogue.next_dirty(0), None);
    assert_eq!(
        catalogue.define_at(SeriesRef(4), T0, text("a", ""), MetricType::Gauge),
        Err(CatalogueFull::Series { limit: 4 })
    );
    // The same series at a second index, as records of a segment may have it.
    assert_eq!(
        catalogue.define_at(SeriesRef(0), T1, text("a", ""), MetricType::Gauge),
        Ok(false)
    );
    assert_eq!(
        catalogue.define_at(SeriesRef(0), T1, text("b", ""), MetricType::Gauge),
        Ok(true)
    );
    assert_eq!(catalogue.find(T1, text("a", "")), Some(s));
}

#[test]
fn errors_name_the_limit_and_the_key() {
    let mut catalogue = Catalogue::new(2, 30, 1);
    define(&mut catalogue, T0, "a", "").unwrap();
    let error = define(&mut catalogue, T0, &"n".repeat(30), "").unwrap_err();
    assert_eq!(
        error.to_string(),
        "names and labels need more than 30 bytes (grows with tidegate.memory.max_series)"
    );
    assert_eq!(catalogue.text_bytes_used(), 11, "a failed definition leaves nothing");
    let error = define(&mut catalogue, T0, "a", &"b".repeat(16_385)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "series name or labels are 16385 bytes, limit is 16384"
    );
    define(&mut catalogue, T0, "b", "").unwrap();
    assert_eq!(
        define(&mut catalogue, T0, "c", "").unwrap_err().to_string(),
        "all 2 series are in use (tidegate.memory.max_series)"
    );
}

#[test]
fn the_largest_catalogue_holds_what_it_says() {
    let mut catalogue = Catalogue::new(usize::MAX, 2_000_000, usize::MAX);
    assert_eq!(catalogue.capacity(), MAX_SERIES);
    for i in 0..MAX_SERIES {
        let s = define(&mut catalogue, T0, &format!("{i}"), &format!("x=\"{i}\"")).unwrap();
        assert_eq!(usize::from(s.0), i);
    }
    assert_eq!(
        define(&mut catalogue, T0, "x", ""),
        Err(CatalogueFull::Series { limit: MAX_SERIES })
    );
    assert_eq!(
        catalogue.find(T0, text("65533", "x=\"65533\"")),
        Some(SeriesRef(65_533))
    );
    catalogue.clear();
    assert!(catalogue.is_empty());
    assert_eq!(define(&mut catalogue, T0, "x", ""), Ok(SeriesRef(0)));
}

/// What the model knows of an index: whose, which text, and when it died.
type Known = (TargetRef, String, String, Option<u64>);

#[test]
fn agrees_with_a_naive_model_over_random_operations() {
    let mut random = fastrand::Rng::with_seed(42);
    let mut catalogue = Catalogue::new(60, 3_000, 3);
    let mut model: BTreeMap<u16, Known> = BTreeMap::new();
    let (mut frame, mut full) = (0, 0);
    for _ in 0..30_000 {
        let t = TargetRef(random.u8(0..3));
        let (name, body) = (format!("n{}", random.u8(0..10)), "v".repeat(random.usize(0..8)));
        let s = random.u16(0..60);
        match random.u8(0..8) {
            0..4 => {
                let known = model
                    .iter()
                    .find(|(_, k)| (k.0, &k.1, &k.2) == (t, &name, &body))
                    .map(|(&s, _)| s);
                let lowest = (0..60).find(|s| !model.contains_key(s));
                match define(&mut catalogue, t, &name, &body) {
                    Ok(s) => {
                        assert_eq!(Some(s.0), known.or(lowest));
                        model.insert(s.0, (t, name, body, None));
                    }
                    Err(CatalogueFull::Series { .. }) => {
                        assert_eq!(known.or(lowest), None);
                        full += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            4..6 => {
                frame += 1;
                catalogue.release(SeriesRef(s), FrameNo(frame));
                if let Some(known) = model.get_mut(&s) {
                    known.3.get_or_insert(frame);
                }
            }
            6 => {
                let before = frame.saturating_sub(random.u64(0..6));
                catalogue.reclaim(FrameNo(before));
                model.retain(|_, known| known.3.is_none_or(|last| last >= before));
            }
            _ => {
                let known = model.get(&s).cloned();
                let same = known.as_ref().is_some_and(|k| (k.0, &k.1, &k.2) == (t, &name, &body));
                let elsewhere = model
                    .iter()
                    .any(|(&i, k)| i != s && (k.0, &k.1, &k.2) == (t, &name, &body));
                if !elsewhere {
                    let replaced = catalogue.define_at(SeriesRef(s), t, text(&name, &body), MetricType::Gauge);
                    assert_eq!(replaced, Ok(known.is_some() && !same));
                    model.insert(s, (t, name, body, None));
                }
            }
        }
        check(&mut catalogue, &model);
    }
    assert!(full > 10, "the model never filled the catalogue: {full}");
}

fn check(catalogue: &mut Catalogue, model: &BTreeMap<u16, Known>) {
    let live: Vec<_> = model.iter().filter(|(_, known)| known.3.is_none()).collect();
    assert_eq!(catalogue.len(), live.len());
    assert_eq!(catalogue.waiting(), model.len() - live.len());
    for (&s, (t, name, body, died)) in model {
        assert_eq!(catalogue.text(SeriesRef(s)), Some(text(name, body)));
        assert_eq!(catalogue.target_of(SeriesRef(s)), Some(*t));
        let found = catalogue.find(*t, text(name, body));
        assert_eq!(found, died.is_none().then_some(SeriesRef(s)));
    }
}
