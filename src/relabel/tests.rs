//! What the actions do, with patterns that need no engine; `host::regex` has the vectors that do.

use super::*;
use crate::labels::NameScheme;
use alloc::string::String;
use alloc::vec;

fn rule(spec: &RuleSpec<'_>, scheme: NameScheme) -> Rule {
    Rule::new(spec, scheme, &|pattern| panic!("{pattern} needs an engine")).unwrap()
}

fn run(body: &str, specs: &[RuleSpec<'_>]) -> Option<String> {
    run_with(body, specs, NameScheme::Utf8)
}

/// The body after the rules; `None` when they drop it.
fn run_with(body: &str, specs: &[RuleSpec<'_>], scheme: NameScheme) -> Option<String> {
    let mut labels = Labels::new(512);
    labels.load_body(body).unwrap();
    let relabel = Relabel::new(specs.iter().map(|spec| rule(spec, scheme)).collect());
    let verdict = relabel.apply(&mut labels, &mut Scratch::new(256)).unwrap();
    let mut out = String::new();
    labels.write_body(&mut out).unwrap();
    (verdict == Verdict::Keep).then_some(out)
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

#[test]
fn defaults_are_those_of_prometheus() {
    let default = RuleSpec::default();
    assert_eq!(default.action, BASE.action);
    assert_eq!(
        (
            default.separator,
            default.regex,
            default.replacement,
            default.target_label
        ),
        (BASE.separator, BASE.regex, BASE.replacement, BASE.target_label)
    );
}

#[test]
fn replace_sets_deletes_or_leaves_alone() {
    let spec = |source_labels, regex, target_label, replacement| RuleSpec {
        source_labels,
        regex,
        target_label,
        replacement,
        ..BASE
    };
    for (body, spec, result) in [
        // Joined with the separator; a missing label is empty.
        (
            "a=\"1\",b=\"2\"",
            spec(&["b", "x", "a"], "(.*)", "c", "$1"),
            "a=\"1\",b=\"2\",c=\"2;;1\"",
        ),
        // No source labels: the empty text, which `(.*)` matches.
        ("a=\"1\"", spec(&[], "(.*)", "b", "static"), "a=\"1\",b=\"static\""),
        ("a=\"1\"", spec(&[], ".+", "b", "static"), "a=\"1\""),
        ("a=\"boo\"", spec(&["a"], "f", "b", "bar"), "a=\"boo\""),
        ("a=\"1\"", spec(&["x"], "(.*)", "a", "$1"), ""),
        ("a=\"1\"", spec(&["x"], "(.*)", "b", "$1"), "a=\"1\""),
        // An expanded target that is no name changes nothing.
        ("a=\"1\"", spec(&["a"], "(.*)", "$2", "x"), "a=\"1\""),
        ("a=\"1\"", spec(&["a"], "(.*)", "x.$1", "y"), "a=\"1\",\"x.1\"=\"y\""),
        ("a=\"1\"", spec(&["a"], "(.*)", "a", "$1$1$$1"), "a=\"11$1\""),
    ] {
        assert_eq!(run(body, &[spec]).as_deref(), Some(result), "{body} {spec:?}");
    }
    let dotted = spec(&["a"], "(.*)", "x.$1", "y");
    assert_eq!(
        run_with("a=\"1\"", &[dotted], NameScheme::Legacy).as_deref(),
        Some("a=\"1\"")
    );
}

#[test]
fn keep_and_drop_decide_on_the_whole_text() {
    let spec = |action, regex| RuleSpec {
        action,
        source_labels: &["a"],
        regex,
        ..BASE
    };
    for (action, regex, kept) in [
        (Action::Drop, "f|o", true),
        (Action::Drop, "f.*", false),
        (Action::Keep, "no-match", false),
        (Action::Keep, "f.*", true),
        (Action::Keep, "(f|foo)", true),
    ] {
        assert_eq!(
            run("a=\"foo\"", &[spec(action, regex)]).is_some(),
            kept,
            "{action:?} {regex}"
        );
    }
}

#[test]
fn a_drop_ends_the_run() {
    let drop = RuleSpec {
        action: Action::Drop,
        ..BASE
    };
    let set = RuleSpec {
        target_label: "b",
        replacement: "x",
        ..BASE
    };
    let relabel = Relabel::new(vec![rule(&drop, NameScheme::Utf8), rule(&set, NameScheme::Utf8)]);
    let mut labels = Labels::new(64);
    let verdict = relabel.apply(&mut labels, &mut Scratch::new(64));
    assert_eq!((verdict, labels.len()), (Ok(Verdict::Drop), 0));
    assert!(Relabel::default().is_empty() && !relabel.is_empty());
}

#[test]
fn equality_compares_joined_text_with_a_label() {
    let body = "__port1=\"1234\",__port2=\"5678\",__tmp_port=\"1234\"";
    let spec = |action, target_label| RuleSpec {
        action,
        source_labels: &["__tmp_port"],
        target_label,
        ..BASE
    };
    for (action, target, kept) in [
        (Action::KeepEqual, "__port1", true),
        (Action::KeepEqual, "__port2", false),
        (Action::DropEqual, "__port1", false),
        (Action::DropEqual, "__port2", true),
    ] {
        assert_eq!(
            run(body, &[spec(action, target)]).is_some(),
            kept,
            "{action:?} {target}"
        );
    }
    // Two missing labels are equal.
    let missing = RuleSpec {
        source_labels: &["x"],
        ..spec(Action::DropEqual, "y")
    };
    assert_eq!(run(body, &[missing]), None);
}

#[test]
fn hashmod_writes_a_decimal() {
    let spec = RuleSpec {
        action: Action::HashMod,
        source_labels: &["c"],
        target_label: "d",
        modulus: 1000,
        ..BASE
    };
    assert_eq!(run("c=\"baz\"", &[spec]).as_deref(), Some("c=\"baz\",d=\"976\""));
    assert_eq!(
        run("c=\"foo\\nbar\"", &[spec]).as_deref(),
        Some("c=\"foo\\nbar\",d=\"734\"")
    );
}

#[test]
fn labelmap_sees_the_labels_as_they_were() {
    let spec = |regex, replacement| RuleSpec {
        action: Action::LabelMap,
        regex,
        replacement,
        ..BASE
    };
    for (body, spec, result) in [
        (
            "b1=\"1\",b2=\"2\",c=\"3\"",
            spec("b(.*)", "bar_b${1}"),
            "b1=\"1\",b2=\"2\",bar_b1=\"1\",bar_b2=\"2\",c=\"3\"",
        ),
        (
            "__meta_my_bar=\"1\",a=\"2\"",
            spec("__meta_(.*)", "$1"),
            "__meta_my_bar=\"1\",a=\"2\",my_bar=\"1\"",
        ),
        // A chain is one step, not two.
        ("a=\"1\",aa=\"2\"", spec("(.+)", "${1}a"), "a=\"1\",aa=\"1\",aaa=\"2\""),
        // An empty value deletes its target, and does not disturb what others copy from it.
        ("a=\"\",ax=\"1\"", spec("(.+)", "${1}x"), "a=\"\",axx=\"1\""),
        ("a=\"\"", spec("(.*)", "$1"), ""),
    ] {
        assert_eq!(run(body, &[spec]).as_deref(), Some(result), "{body} {spec:?}");
    }
}

#[test]
fn labeldrop_and_labelkeep_go_by_name() {
    let spec = |action| RuleSpec {
        action,
        regex: "b.*",
        ..BASE
    };
    let body = "a=\"1\",b1=\"2\",b2=\"3\"";
    assert_eq!(run(body, &[spec(Action::LabelDrop)]).as_deref(), Some("a=\"1\""));
    assert_eq!(
        run(body, &[spec(Action::LabelKeep)]).as_deref(),
        Some("b1=\"2\",b2=\"3\"")
    );
}

#[test]
fn case_actions_write_the_joined_text() {
    let spec = |action, source_labels, target_label| RuleSpec {
        action,
        source_labels,
        target_label,
        ..BASE
    };
    let body = "foo=\"bAr123Foo\"";
    for (spec, result) in [
        (spec(Action::Uppercase, &["foo"], "foo"), "foo=\"BAR123FOO\""),
        (spec(Action::Lowercase, &["foo"], "foo"), "foo=\"bar123foo\""),
        (
            spec(Action::Lowercase, &["foo", "foo"], "x"),
            "foo=\"bAr123Foo\",x=\"bar123foo;bar123foo\"",
        ),
        (spec(Action::Uppercase, &["none"], "foo"), ""),
    ] {
        assert_eq!(run(body, &[spec]).as_deref(), Some(result), "{spec:?}");
    }
}

#[test]
fn results_that_do_not_fit_name_the_limit() {
    let double = RuleSpec {
        source_labels: &["a"],
        target_label: "a",
        replacement: "$1$1",
        ..BASE
    };
    let relabel = Relabel::new(vec![rule(&double, NameScheme::Utf8)]);
    let mut labels = Labels::new(16);
    let mut scratch = Scratch::new(10);
    labels.set("a", "xxx").unwrap();
    assert_eq!(relabel.apply(&mut labels, &mut scratch), Ok(Verdict::Keep));
    assert_eq!(labels.get("a"), Some("xxxxxx"));
    assert_eq!(
        relabel.apply(&mut labels, &mut scratch),
        Err(LabelsFull::Text { limit: 10 })
    );
    let mut scratch = Scratch::new(100);
    assert_eq!(
        relabel.apply(&mut labels, &mut scratch),
        Err(LabelsFull::Text { limit: 16 })
    );
}
