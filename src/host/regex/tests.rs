//! RE2 syntax row by row, and Prometheus' relabelling vectors.

use super::*;
use crate::labels::Labels;
use crate::relabel::{Action, Groups, Scratch, Verdict};
use alloc::string::{String, ToString};
use alloc::vec;
use regex_lite::RegexBuilder;

fn matches(pattern: &str, text: &str) -> bool {
    let compiled = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let matched = compiled.is_full_match(text);
    assert_eq!(compiled.captures(text, &mut Groups::default()), matched, "{pattern}");
    matched
}

#[test]
fn patterns_mean_what_go_takes_them_to_mean() {
    for (pattern, yes, no) in [
        ("f|o", vec!["f", "o"], vec!["foo", "of", ""]),
        ("a.b", vec!["a\nb", "aéb"], vec!["ab"]),
        ("line1.*line2", vec!["line1\nline2"], vec!["line1\nline2\n"]),
        ("a$", vec!["a"], vec!["a\n"]),
        ("", vec![""], vec!["a"]),
        (r"\Qa.b*\E+", vec!["a.b*", "a.b**"], vec!["aXb*"]),
        (r"\Qa{1}", vec!["a{1}"], vec!["a"]),
        (r"a\Q\Eb", vec!["ab"], vec![]),
        ("a{,3}", vec!["a{,3}"], vec!["aaa"]),
        ("a{2,3}", vec!["aa", "aaa"], vec!["a", "aaaa"]),
        ("a{2}", vec!["aa"], vec!["a"]),
        ("a{2,}", vec!["aaaa"], vec!["a"]),
        ("a{01}", vec!["a{01}"], vec!["a"]),
        ("{", vec!["{"], vec![]),
        ("a}b]", vec!["a}b]"], vec![]),
        (r"\b{a}", vec![], vec!["{a}", "a"]),
        (r"a\<b\>", vec!["a<b>"], vec![]),
        (r"\_\ \-\/", vec!["_ -/"], vec![]),
        (r"\07\101\x41\x{263a}\0", vec!["\x07AA☺\0"], vec![]),
        (r"\a\f\n\r\t\v", vec!["\x07\x0c\n\r\t\x0b"], vec![]),
        (r"\s", vec![" ", "\t", "\x0c"], vec!["\x0b", "\u{a0}"]),
        (r"\S", vec!["\x0b", "a", "é"], vec![" "]),
        (r"[\s]", vec!["\n"], vec!["\x0b"]),
        (r"[^\S]", vec!["\n", " "], vec!["\x0b", "a", "é"]),
        (r"[^\s\d]", vec!["\x0b", "a"], vec!["1", " "]),
        (r"\d\w\D\W", vec!["1_é "], vec!["é_a "]),
        ("[]a]", vec!["]", "a"], vec!["b"]),
        ("[^]a]", vec!["b"], vec!["]", "a"]),
        ("[a&&b]", vec!["a", "&", "b"], vec!["c"]),
        ("[a~~b[]", vec!["~", "[", "b"], vec!["c"]),
        ("[a-c-]", vec!["b", "-"], vec!["d"]),
        ("[-a]", vec!["-", "a"], vec!["b"]),
        ("[+--]", vec!["+", ",", "-"], vec!["."]),
        (r"[\]\-<>.*]", vec!["]", "-", "<", ">", ".", "*"], vec!["a"]),
        ("[[:alpha:]_]", vec!["a", "_"], vec!["1"]),
        ("[[:^alpha:]]", vec!["1"], vec!["a"]),
        ("[é-ü]", vec!["í"], vec!["e"]),
        ("[^a]", vec!["\n"], vec!["a"]),
        ("(?i)AbC", vec!["abc", "ABC"], vec!["abd"]),
        ("a(?i:b)c", vec!["aBc"], vec!["ABc"]),
        ("(?-s).", vec!["a"], vec!["\n"]),
        ("(?U)(a+)a*", vec!["aaa"], vec![]),
        ("a+?b*?", vec!["aab"], vec![]),
        ("(?:a|)b", vec!["ab", "b"], vec![]),
        ("(a*)*", vec!["aaa", ""], vec![]),
        ("^a^*$", vec![], vec!["b"]),
        ("x#y z", vec!["x#y z"], vec![]),
    ] {
        for text in yes {
            assert!(matches(pattern, text), "{pattern:?} should match {text:?}");
        }
        for text in no {
            assert!(!matches(pattern, text), "{pattern:?} should not match {text:?}");
        }
    }
}

#[test]
fn refusals_name_the_place() {
    for (pattern, column, message) in [
        ("a**", 3, "invalid nested repetition operator"),
        ("a+?*", 4, "invalid nested repetition operator"),
        ("a{2}{3}", 7, "invalid nested repetition operator"),
        ("*a", 1, "missing argument to repetition operator"),
        ("(|*a)", 3, "missing argument to repetition operator"),
        ("a{1001}", 7, "invalid repeat count, limit is 1000"),
        ("a{3,2}", 6, "invalid repeat count, limit is 1000"),
        (r"é\pL", 3, "Unicode classes are not supported"),
        (r"[\p{Greek}]", 3, "Unicode classes are not supported"),
        (r"\C", 2, "\\C is not supported"),
        (r"(a)\1", 5, "back-references are not supported"),
        (r"\8", 2, "invalid escape sequence"),
        (r"\y", 2, "invalid escape sequence"),
        (r"[\b]", 3, "invalid escape sequence"),
        (r"\x{110000}", 10, "invalid hexadecimal escape"),
        (r"\x+1", 4, "invalid hexadecimal escape"),
        (r"\x{}", 3, "invalid hexadecimal escape"),
        (r"a\", 2, "trailing backslash"),
        ("(a", 2, "missing closing )"),
        ("a)(b", 2, "unexpected )"),
        (
            "(?=a)",
            3,
            "invalid or unsupported group, known flags are i, m, s and U",
        ),
        (
            "(?x)a",
            3,
            "invalid or unsupported group, known flags are i, m, s and U",
        ),
        ("(?P<a", 4, "group name has no closing >"),
        ("(?P<a.b>c)", 4, "invalid group name, expected letters, digits and _"),
        ("[a", 1, "missing closing ]"),
        ("[]", 1, "missing closing ]"),
        ("[b-a]", 4, "invalid character class range"),
        ("[[:foo:]]", 2, "unknown character class [:foo:]"),
        (
            "(?i)é",
            0,
            "(?i) together with the non-ASCII character 'é' is not supported",
        ),
    ] {
        let error = compile(pattern).unwrap_err();
        assert_eq!((error.column, error.message.as_str()), (column, message), "{pattern}");
    }
    let error = compile("(a{1000}){1000}").unwrap_err();
    assert_eq!(error.column, 0);
    assert!(error.message.contains("size"), "{error}");
    let error = compile(&"(a)".repeat(16)).unwrap_err();
    assert_eq!(error.to_string(), "regex has 16 groups, limit is 15");
    assert!(compile(&"(a)".repeat(15)).is_ok());
}

#[test]
fn translating_never_panics() {
    let letters: Vec<char> = r"ab\QEx{}[]()*+?|^$.-:<>,01237dsSpCiP&~é".chars().collect();
    let mut rng = fastrand::Rng::with_seed(29);
    for _ in 0..20_000 {
        let pattern: String = (0..rng.usize(..12))
            .map(|_| letters[rng.usize(..letters.len())])
            .collect();
        if let Ok(translated) = translate(&pattern) {
            // Whatever is let through must be syntax to the engine, too.
            let built = RegexBuilder::new(&format!("^(?s:{translated})$")).build();
            assert!(
                built.is_ok() || pattern.contains("(?"),
                "{pattern:?} -> {translated:?}: {built:?}"
            );
        }
    }
}

#[test]
fn groups_are_numbered_and_named() {
    let pattern = compile("(a)|(?<b>b)(?P<c>c)?").unwrap();
    assert_eq!(pattern.group_count(), 4);
    assert_eq!(
        (
            pattern.group_named("b"),
            pattern.group_named("c"),
            pattern.group_named("x")
        ),
        (Some(2), Some(3), None)
    );
    let mut groups = Groups::default();
    assert!(pattern.captures("b", &mut groups));
    assert_eq!([0, 1, 2, 3].map(|index| groups.get("b", index)), ["b", "", "b", ""]);
}

const BASE: RuleSpec<'_> = RuleSpec {
    action: Action::Replace,
    source_labels: &[],
    separator: ";",
    regex: "(.*)",
    modulus: 0,
    target_label: "",
    replacement: "$1",
};

const fn replace<'a>(
    source_labels: &'a [&'a str],
    regex: &'a str,
    target_label: &'a str,
    replacement: &'a str,
) -> RuleSpec<'a> {
    RuleSpec {
        source_labels,
        regex,
        target_label,
        replacement,
        ..BASE
    }
}

const fn by_name<'a>(action: Action, regex: &'a str, replacement: &'a str) -> RuleSpec<'a> {
    RuleSpec {
        action,
        regex,
        replacement,
        ..BASE
    }
}

const fn filter(action: Action, regex: &str) -> RuleSpec<'_> {
    RuleSpec {
        action,
        source_labels: &["a"],
        regex,
        ..BASE
    }
}

/// Input, rules, result; `None`: dropped. `SCR-608` in its order.
#[test]
fn upstream_vectors() {
    for (body, rules, result) in [
        (
            r#"a="foo",b="bar",c="baz""#,
            vec![replace(&["a"], "f(.*)", "d", "ch${1}-ch${1}")],
            Some(r#"a="foo",b="bar",c="baz",d="choo-choo""#),
        ),
        (
            r#"a="foo",b="bar",c="baz""#,
            vec![
                replace(&["a", "b"], "f(.*);(.*)r", "a", "b${1}${2}m"),
                replace(&["c", "a"], "(b).*b(.*)ba(.*)", "d", "$1$2$2$3"),
            ],
            Some(r#"a="boobam",b="bar",c="baz",d="boooom""#),
        ),
        (
            r#"a="abc""#,
            vec![replace(&["a"], ".*(b).*", "d", "$1")],
            Some(r#"a="abc",d="b""#),
        ),
        (r#"a="foo""#, vec![filter(Action::Drop, "f|o")], Some(r#"a="foo""#)),
        (r#"a="foo""#, vec![filter(Action::Drop, ".*o.*")], None),
        (r#"a="foo""#, vec![filter(Action::Keep, "no-match")], None),
        (r#"a="foo""#, vec![filter(Action::Keep, "f.*")], Some(r#"a="foo""#)),
        (r#"a="boo""#, vec![replace(&["a"], "f", "b", "bar")], Some(r#"a="boo""#)),
        (
            r#"a="foo",f="baz""#,
            vec![replace(&["a"], "(f).*", "$1", "$2")],
            Some(r#"a="foo""#),
        ),
        (
            r#"a="foo",b1="bar",b2="baz""#,
            vec![by_name(Action::LabelMap, "(b.*)", "bar_${1}")],
            Some(r#"a="foo",b1="bar",b2="baz",bar_b1="bar",bar_b2="baz""#),
        ),
        (
            r#"__meta_my_bar="aaa",__meta_my_baz="bbb",__meta_other="ccc",a="foo""#,
            vec![by_name(Action::LabelMap, "__meta_(my.*)", "${1}")],
            Some(r#"__meta_my_bar="aaa",__meta_my_baz="bbb",__meta_other="ccc",a="foo",my_bar="aaa",my_baz="bbb""#),
        ),
        (
            r#"a="some-name-value""#,
            vec![replace(&["a"], "some-([^-]+)-([^,]+)", "${1}", "${2}")],
            Some(r#"a="some-name-value",name="value""#),
        ),
        (
            r#"a="some-name-value""#,
            vec![replace(&["a"], "some-([^-]+)-([^,]+)", "${1}", "${3}")],
            Some(r#"a="some-name-value""#),
        ),
        (
            r#"a="some-name-value""#,
            vec![replace(&["a"], "some-([^-]+)-([^,]+)", "${3}", "${1}")],
            Some(r#"a="some-name-value""#),
        ),
        (
            r#"a="foo",b1="bar",b2="baz""#,
            vec![by_name(Action::LabelDrop, "(b.*)", "$1")],
            Some(r#"a="foo""#),
        ),
        (
            r#"a="foo",b1="bar",b2="baz""#,
            vec![by_name(Action::LabelKeep, "(b.*)", "$1")],
            Some(r#"b1="bar",b2="baz""#),
        ),
        (
            r#"a="line1\nline2""#,
            vec![replace(&["a"], "line1.*line2", "b", "match${1}")],
            Some(r#"a="line1\nline2",b="match""#),
        ),
        (
            r#"a="line1\nline2""#,
            vec![replace(
                &["a"],
                "(line1).*(?<second>line2)",
                "label1_${1}",
                "val_${second}",
            )],
            Some(r#"a="line1\nline2",label1_line1="val_line2""#),
        ),
    ] {
        let mut labels = Labels::new(512);
        labels.load_body(body).unwrap();
        let compiled = rules
            .iter()
            .map(|rule| Rule::new(rule, NameScheme::Utf8, &compile).unwrap());
        let relabel = Relabel::new(compiled.collect());
        let verdict = relabel.apply(&mut labels, &mut Scratch::new(256)).unwrap();
        let mut out = String::new();
        labels.write_body(&mut out).unwrap();
        let got = (verdict == Verdict::Keep).then_some(out);
        assert_eq!(got.as_deref(), result, "{body} {rules:?}");
    }
}

#[test]
fn fast_paths_agree_with_the_engine() {
    let mut rng = fastrand::Rng::with_seed(31);
    let word = |rng: &mut fastrand::Rng, letters: &[char]| -> String {
        (0..rng.usize(..4))
            .map(|_| letters[rng.usize(..letters.len())])
            .collect()
    };
    for _ in 0..3000 {
        let parts = ["a", "b", ".*", "(.*)", ".+", "(.+)", "|", "(", ")", "(?:", r"\.", "é"];
        let pattern: String = (0..rng.usize(1..6)).map(|_| parts[rng.usize(..parts.len())]).collect();
        let Ok(engine) = compile(&pattern) else {
            continue;
        };
        let matcher = crate::relabel::Matcher::new(&pattern, &compile).unwrap();
        for _ in 0..20 {
            let text = word(&mut rng, &['a', 'b', '.', 'é', '\n']);
            let (mut groups, mut expected) = (Groups::default(), Groups::default());
            let matched = matcher.captures(&text, &mut groups);
            assert_eq!(
                matched,
                engine.captures(&text, &mut expected),
                "{pattern:?} on {text:?}"
            );
            for index in 0..engine.group_count() {
                assert_eq!(
                    groups.get(&text, index),
                    expected.get(&text, index),
                    "{pattern:?} on {text:?}"
                );
            }
        }
    }
}

#[test]
fn configured_rules_compile_and_errors_say_which() {
    let mut first = RelabelConfig {
        source_labels: vec!["a".to_string()],
        regex: "(f)(o+)".to_string(),
        target_label: "b".to_string(),
        replacement: "$2$1".to_string(),
        ..RelabelConfig::default()
    };
    let mut labels = Labels::new(64);
    labels.set("a", "foo").unwrap();
    let rules = compile_rules(&[first.clone()], NameScheme::Utf8).unwrap();
    assert_eq!(rules.apply(&mut labels, &mut Scratch::new(64)), Ok(Verdict::Keep));
    assert_eq!(labels.get("b"), Some("oof"));
    first.regex = "(".to_string();
    let (index, error) = compile_rules(
        &[
            RelabelConfig {
                target_label: "x".to_string(),
                ..RelabelConfig::default()
            },
            first,
        ],
        NameScheme::Utf8,
    )
    .unwrap_err();
    assert_eq!(
        (index, error.to_string().as_str()),
        (1, "missing closing ) at character 1 of the regex")
    );
}
