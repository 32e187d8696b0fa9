//! The set against its own promises and against a sorted map.

use super::*;
use alloc::collections::BTreeMap;
use alloc::string::ToString;

fn body(labels: &Labels) -> String {
    let mut out = String::new();
    labels.write_body(&mut out).unwrap();
    out
}

#[test]
fn is_sorted_whatever_the_order_of_insertion() {
    let mut labels = Labels::new(256);
    for name in ["b", "__name__", "a", "é", "B", "c.d"] {
        labels.set(name, name).unwrap();
    }
    let names: alloc::vec::Vec<_> = labels.iter().map(|label| label.name).collect();
    assert_eq!(names, ["B", "__name__", "a", "b", "c.d", "é"]);
    assert_eq!(body(&labels), "B=\"B\",a=\"a\",b=\"b\",\"c.d\"=\"c.d\",\"é\"=\"é\"");
    assert_eq!(labels.metric_name(), "__name__");
}

#[test]
fn set_replaces_and_push_does_not() {
    let mut labels = Labels::new(256);
    labels.push("a", "1").unwrap();
    labels.push("a", "2").unwrap();
    assert_eq!((labels.len(), labels.get("a")), (2, Some("1")));
    assert_eq!(labels.duplicate(), Some("a"));
    labels.set("a", "3").unwrap();
    assert_eq!((labels.len(), labels.get("a")), (1, Some("3")));
    assert!(!labels.has_duplicate());
}

#[test]
fn renames_copies_and_removes() {
    let mut labels = Labels::new(256);
    labels.load_body("a=\"1\",b=\"2\"").unwrap();
    assert_eq!(labels.rename("a", "b"), Ok(true));
    assert_eq!(body(&labels), "b=\"1\"");
    assert_eq!(labels.rename("x", "y"), Ok(false));
    assert_eq!(labels.rename("b", "b"), Ok(true));
    assert_eq!(labels.copy("b", "c"), Ok(true));
    assert_eq!(body(&labels), "b=\"1\",c=\"1\"");
    assert!(labels.remove("b"));
    assert!(!labels.remove("b"));
    labels.set("d", "").unwrap();
    assert_eq!(body(&labels), "c=\"1\",d=\"\"");
    labels.remove_empty();
    assert_eq!(body(&labels), "c=\"1\"");
}

#[test]
fn names_the_limit_that_was_hit() {
    let mut labels = Labels::new(8);
    labels.set("abcd", "efgh").unwrap();
    assert_eq!(labels.set("a", ""), Err(LabelsFull::Text { limit: 8 }));
    assert_eq!(labels.rename("abcd", "abcde"), Err(LabelsFull::Text { limit: 8 }));
    assert_eq!(labels.get("abcd"), Some("efgh"), "unchanged after the refusal");

    let mut labels = Labels::new(1024);
    for index in 0..MAX_LABELS {
        labels.set(&alloc::format!("l{index}"), "").unwrap();
    }
    let full = LabelsFull::Labels { limit: MAX_LABELS };
    assert_eq!(labels.set("x", ""), Err(full));
    assert_eq!(labels.push("l0", ""), Err(full));
    assert_eq!(labels.copy("l0", "x"), Err(full));
    assert_eq!(labels.set("l0", "y"), Ok(()));
    assert_eq!(
        LabelsFull::Labels { limit: 64 }.to_string(),
        "series has more labels than the limit of 64"
    );
}

#[test]
fn reuses_replaced_text_without_growing() {
    let mut labels = Labels::new(32);
    let capacity = labels.text.capacity();
    labels.set("kept", "value").unwrap();
    labels.set("empty", "").unwrap();
    for round in 0..1000 {
        labels.set("a", &round.to_string()).unwrap();
        labels.copy("a", "b").unwrap();
    }
    assert_eq!(body(&labels), "a=\"999\",b=\"999\",empty=\"\",kept=\"value\"");
    assert_eq!(labels.text.capacity(), capacity);
}

#[test]
fn judges_a_finished_set() {
    let check = |text: &str, scheme| {
        let mut labels = Labels::new(256);
        labels.load_body(text).unwrap();
        labels.validate(scheme).map_err(|error| error.to_string())
    };
    use NameScheme::{Legacy, Utf8};
    assert_eq!(check("__name__=\"a.b\"", Utf8), Ok(()));
    assert_eq!(check("__name__=\"a:b\"", Legacy), Ok(()));
    for (text, scheme, error) in [
        ("", Utf8, "series has no metric name"),
        ("__name__=\"\"", Utf8, "series has no metric name"),
        ("__name__=\"a.b\"", Legacy, "invalid metric name \"a.b\""),
        ("__name__=\"a\",\"b.c\"=\"\"", Legacy, "invalid label name \"b.c\""),
        ("__name__=\"a\",\"\"=\"x\"", Utf8, "invalid label name \"\""),
        ("__name__=\"a\",b=\"1\",b=\"2\"", Utf8, "label name \"b\" occurs twice"),
    ] {
        assert_eq!(check(text, scheme), Err(error.to_string()), "{text}");
    }
}

#[test]
fn reports_where_a_body_is_damaged() {
    let mut labels = Labels::new(256);
    assert_eq!(labels.load_body("a=\"b\",c"), Err(BodyError::Malformed { offset: 6 }));
    assert_eq!(body(&labels), "a=\"b\"");
}

#[test]
fn behaves_like_a_sorted_map() {
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..200 {
        let mut labels = Labels::new(200);
        let mut model: BTreeMap<String, String> = BTreeMap::new();
        for _ in 0..100 {
            let word = |rng: &mut fastrand::Rng| -> String {
                let letters = ['a', 'b', '"', '\\', '\n', 'é'];
                (0..rng.usize(..4)).map(|_| letters[rng.usize(..6)]).collect()
            };
            let (name, other) = (word(&mut rng), word(&mut rng));
            match rng.u8(..5) {
                0 | 1 if labels.set(&name, &other).is_ok() => {
                    model.insert(name, other);
                }
                2 => assert_eq!(labels.remove(&name), model.remove(&name).is_some()),
                3 if labels.rename(&name, &other).is_ok() => {
                    if let Some(value) = model.remove(&name) {
                        model.insert(other, value);
                    }
                }
                4 if labels.copy(&name, &other).is_ok() => {
                    if let Some(value) = model.get(&name).cloned() {
                        model.insert(other, value);
                    }
                }
                _ => {}
            }
            let pairs = labels.iter().map(|label| (label.name, label.value));
            assert!(
                pairs.eq(model.iter().map(|(a, b)| (a.as_str(), b.as_str()))),
                "{model:?}"
            );
        }
        let mut copy = Labels::new(400);
        copy.load_body(&body(&labels)).unwrap();
        assert!(copy.iter().eq(labels.iter()), "text form reads back the same");
    }
}
