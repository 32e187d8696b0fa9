//! Label sets: SCR-501 to SCR-507, SCR-901, limits.

use super::*;
use crate::labels::NameScheme;
use Action::{Drop, LabelDrop};

/// The one series that `target` makes of `body`.
fn one(target: &Target, body: &str) -> String {
    let shot = Rig::new(10).scrape(target, body);
    assert!(shot.up, "{}", shot.error);
    let [series] = shot.series()[..] else {
        panic!("{shot:?}")
    };
    series.into()
}

#[test]
fn scr_503_displaced_labels_move_aside() {
    for (own, exposed, wanted) in [
        (&[("foo", "2")][..], "foo=\"1\"", "exported_foo=\"1\",foo=\"2\""),
        (
            &[("foo", "2"), ("exported_foo", "3")],
            "foo=\"1\"",
            "exported_exported_foo=\"1\",exported_foo=\"3\",foo=\"2\"",
        ),
        (
            &[("foo", "3")],
            "foo=\"1\",exported_foo=\"2\"",
            "exported_exported_foo=\"1\",exported_foo=\"2\",foo=\"3\"",
        ),
        (
            &[("exported_foo", "2")],
            "exported_foo=\"1\"",
            "exported_exported_foo=\"1\",exported_foo=\"2\"",
        ),
        (
            &[("foo", "3"), ("exported_foo", "4")],
            "foo=\"1\",exported_foo=\"2\"",
            "exported_exported_exported_foo=\"2\",exported_exported_foo=\"1\",exported_foo=\"4\",foo=\"3\"",
        ),
        (
            &[
                ("foo", "0"),
                ("exported_exported_foo", "1"),
                ("exported_exported_exported_foo", "2"),
            ],
            "foo=\"3\",exported_foo=\"4\",exported_exported_exported_foo=\"5\"",
            "exported_exported_exported_exported_exported_foo=\"5\",exported_exported_exported_exported_foo=\"3\",\
             exported_exported_exported_foo=\"2\",exported_exported_foo=\"1\",exported_foo=\"4\",foo=\"0\"",
        ),
    ] {
        assert_eq!(
            one(&labelled(own), &format!("m{{{exposed}}} 1\n")),
            format!("m{{{wanted}}}")
        );
    }
}

#[test]
fn scr_502_an_exposed_empty_value_is_not_moved() {
    assert_eq!(one(&target(), "m{job=\"\"} 1\n"), "m{job=\"j\"}");
}

#[test]
fn scr_504_honored_labels_win_and_an_empty_one_suppresses() {
    let mut target = labelled(&[("instance", "i"), ("job", "j")]);
    target.honor_labels = true;
    assert_eq!(one(&target, "m{job=\"x\"} 1\n"), "m{instance=\"i\",job=\"x\"}");
    assert_eq!(one(&target, "m{job=\"\"} 1\n"), "m{instance=\"i\"}");
    let mut rig = Rig::new(4);
    rig.scrape(&target, "m{job=\"\",a=\"b\"} 1\n");
    assert_eq!(rig.catalogue.text(SeriesRef(0)).unwrap().body, "a=\"b\",job=\"\"");
}

#[test]
fn scr_506_relabelling_sees_merged_labels_and_drops_do_not_count_as_left() {
    let mut rig = Rig::new(10);
    let mut target = target();
    target.metric_relabel = rules(&[(Drop, &["__name__", "job"], "go_.*;j")]);
    for added in [1, 0] {
        let shot = rig.scrape(&target, "go_a 1\ngo_b 1\nm 1\n");
        assert_eq!(
            (shot.series(), shot.counts),
            (Vec::from(["m{job=\"j\"}"]), [3, 1, added])
        );
    }
    assert_eq!(rig.catalogue.len(), 1, "what is dropped takes no index");
    // Without any label left there is nothing to keep.
    target.metric_relabel = rules(&[(LabelDrop, &[], ".*")]);
    rig.table.forget(target.reference, FrameNo(2), &mut rig.catalogue);
    let shot = rig.scrape(&target, "m 1\n");
    assert_eq!((shot.up, shot.counts), (true, [1, 0, 0]));
}

#[test]
fn a_target_label_removed_by_relabelling_is_not_sent() {
    let mut target = labelled(&[("instance", "i"), ("job", "j")]);
    target.metric_relabel = rules(&[(LabelDrop, &[], "instance")]);
    assert_eq!(
        one(&target, "m{instance=\"x\"} 1\n"),
        "m{exported_instance=\"x\",job=\"j\"}"
    );
    // So a name of the scrape itself is free.
    assert_eq!(one(&target, "up 1\n"), "up{job=\"j\"}");
}

#[test]
fn scr_507_an_invalid_label_set_fails_the_scrape() {
    let mut legacy = target();
    legacy.names = crate::labels::NameScheme::Legacy;
    let mut nameless = target();
    nameless.metric_relabel = rules(&[(LabelDrop, &[], "__name__")]);
    for (target, body, scraped, error) in [
        (&nameless, "a 1\nm 1\n", 1, "line 1: series has no metric name"),
        (
            &legacy,
            "a 1\n{\"a.b\"} 1\nc 1\n",
            2,
            "line 2: invalid metric name \"a.b\"",
        ),
        (
            &legacy,
            "a 1\nm{\"x.y\"=\"1\"} 1\n",
            2,
            "line 2: invalid label name \"x.y\"",
        ),
        (
            &legacy,
            "a 1\nb 1\nm{x=\"1\",x=\"2\"} 1\n",
            3,
            "line 3: label name \"x\" occurs twice",
        ),
    ] {
        let mut rig = Rig::new(10);
        let shot = rig.scrape(target, body);
        assert_eq!((shot.up, shot.error.as_str()), (false, error));
        assert!(shot.samples.is_empty() && rig.catalogue.is_empty() && rig.table.texts() == 0);
        assert_eq!(shot.counts, [scraped, scraped - 1, scraped - 1], "{error}");
    }
    assert_eq!(
        one(&target(), "{\"a.b\",\"x.y\"=\"1\"} 1\n"),
        "{\"a.b\",job=\"j\",\"x.y\"=\"1\"}"
    );
}

#[test]
fn scr_501_limits_apply_to_the_final_labels() {
    let with = |limits| {
        let mut target = target();
        target.limits = limits;
        target
    };
    let body = "a 1\nm{x=\"12345\"} 1\n";
    let none = Limits::default();
    for (limits, error) in [
        (
            Limits { labels: 2, ..none },
            "line 2: series has 3 labels, label_limit is 2",
        ),
        (
            Limits { name_bytes: 7, ..none },
            "line 1: label name \"__name__\" is 8 bytes, label_name_length_limit is 7",
        ),
        (
            Limits { value_bytes: 4, ..none },
            "line 2: value of label \"x\" is 5 bytes, label_value_length_limit is 4",
        ),
    ] {
        let mut rig = Rig::new(10);
        let shot = rig.scrape(&with(limits), body);
        assert_eq!((shot.up, shot.error.as_str()), (false, error));
        assert_eq!(rig.reports.counters.exceeded_label_limits, 1);
        assert!(rig.scrape(&with(limits), "").stale.is_empty());
    }
    let limits = Limits {
        labels: 3,
        name_bytes: 8,
        value_bytes: 5,
        ..none
    };
    assert!(Rig::new(10).scrape(&with(limits), body).up);
}

#[test]
fn scr_901_le_and_quantile_are_normalised_under_their_type() {
    let body =
        "m_bucket{le=\"1\"} 1\n# TYPE m histogram\nm_bucket{le=\"2\"} 1\n# TYPE s summary\ns{quantile=\"0.50\"} 1\n";
    let mut rig = Rig::new(10);
    let series = [
        "m_bucket{job=\"j\",le=\"1\"}",
        "m_bucket{job=\"j\",le=\"2.0\"}",
        "s{job=\"j\",quantile=\"0.5\"}",
    ];
    assert_eq!(rig.scrape(&target(), body).series(), series);
    assert_eq!(
        rig.scrape(&target(), body).series(),
        series,
        "a known text means the same"
    );
}

#[test]
fn scr_113_names_that_a_target_escaped_stay_escaped() {
    // What a target makes of `http.status:sum` under values, dots and underscores; and of a label `a.b`.
    let body = "U__http_2e_status:sum{U__a_2e_b=\"1\"} 1\nhttp_dot_status:sum{a_dot_b=\"1\"} 2\nhttp_status:sum{a_b=\"1\"} 3\n";
    for names in [NameScheme::Utf8, NameScheme::Legacy] {
        let mut target = target();
        target.names = names;
        let shot = Rig::new(9).scrape(&target, body);
        let expected = [
            "U__http_2e_status:sum{U__a_2e_b=\"1\",job=\"j\"}",
            "http_dot_status:sum{a_dot_b=\"1\",job=\"j\"}",
            "http_status:sum{a_b=\"1\",job=\"j\"}",
        ];
        assert_eq!(shot.series(), expected, "{names:?}");
        // Only a target that does not escape can send a name that legacy validation refuses.
        let plain = Rig::new(9).scrape(&target, "{\"http.status:sum\",\"a.b\"=\"1\"} 1\n");
        assert_eq!(plain.up, names == NameScheme::Utf8, "{}", plain.error);
    }
}
