//! The failure matrix, limits, rollback, floods, sessions side by side.

use super::*;

const BOTH: [&str; 2] = ["a{job=\"j\"}", "b{job=\"j\"}"];

/// A rig whose target has exposed `a` and `b`.
fn known() -> Rig {
    let mut rig = Rig::new(10);
    assert!(rig.scrape(&target(), "a 1\nb 2\n").up);
    rig
}

fn limited(limits: Limits) -> Target {
    let mut target = target();
    target.limits = limits;
    target
}

const NONE: Limits = Limits {
    body_bytes: 0,
    samples: 0,
    labels: 0,
    name_bytes: 0,
    value_bytes: 0,
};

#[test]
fn scr_803_every_way_to_fail_marks_all_and_keeps_none() {
    let plain = target();
    let body_limit = limited(Limits { body_bytes: 8, ..NONE });
    let sample_limit = limited(Limits { samples: 1, ..NONE });
    let text: &dyn Display = &"connection reset";
    let targets = Outcome::TargetLimit { targets: 3, limit: 2 };
    for (target, content_type, body, outcome, counts, body_bytes) in [
        (&plain, TEXT, "a 1\nc 1\n", Outcome::Fetch(text), [0; 3], 0),
        (&plain, TEXT, "", Outcome::Status(500), [0; 3], 0),
        (&plain, TEXT, "", targets, [0; 3], 0),
        (&body_limit, TEXT, "a 1\nc 1\n", Outcome::Complete, [0; 3], -1),
        (&plain, None, "a 1\nc 1\n", Outcome::Complete, [0; 3], 8),
        (&plain, TEXT, "a 1\nc 1\nbad\n", Outcome::Complete, [2, 2, 1], 12),
        // Labels that cannot be read are a broken line like any other.
        (&plain, TEXT, "a 1\nc 1\nd{x='1'} 1\n", Outcome::Complete, [2, 2, 1], 19),
        (
            &plain,
            TEXT,
            "a 1\nc 1\n{x=\"1\"} 1\n",
            Outcome::Complete,
            [2, 2, 1],
            18,
        ),
        (
            &plain,
            TEXT,
            "c 1\nd{x=\"1\",x=\"2\"} 1\n",
            Outcome::Complete,
            [2, 1, 1],
            21,
        ),
        (&sample_limit, TEXT, "c 1\nd 1\na 1\n", Outcome::Complete, [3, 3, 1], 12),
    ] {
        let mut rig = known();
        rig.begin(target, content_type);
        let _ = rig.feed(target, body.as_bytes());
        let shot = rig.finish(target, outcome);
        assert_eq!((shot.up, shot.samples.len()), (false, 0), "{outcome:?}");
        assert_eq!(shot.stale, BOTH, "{outcome:?}");
        assert_eq!(shot.counts, counts, "{outcome:?}: {}", shot.error);
        assert!(!shot.error.is_empty());
        assert_eq!(rig.reports.health(target.reference).unwrap().body_bytes, body_bytes);
        assert_eq!(
            (rig.catalogue.len(), rig.table.texts()),
            (2, 2),
            "what was new was taken back"
        );
        let after = rig.scrape(&plain, "a 1\nb 2\nc 3\n");
        assert_eq!((after.up, after.counts, after.stale.len()), (true, [3, 3, 1], 0));
    }
}

#[test]
fn extra_scrape_metrics_follow_the_failure_matrix() {
    let text: &dyn Display = &"connection reset";
    for (content_type, body, outcome, limit, body_bytes) in [
        (TEXT, "a 1\n", Outcome::Complete, 0, 4),
        (TEXT, "", Outcome::Complete, 0, 0),
        (TEXT, "a 1\n", Outcome::Fetch(text), 0, 0),
        (TEXT, "", Outcome::Status(404), 0, 0),
        (TEXT, "a 1\n", Outcome::Complete, 4, -1),
        (None, "a 1\n", Outcome::Complete, 0, 4),
        (TEXT, "a 1\nbad\n", Outcome::Complete, 0, 8),
    ] {
        let mut target = limited(Limits {
            body_bytes: limit,
            samples: 9,
            ..NONE
        });
        for asked_for in [false, true] {
            target.extra_metrics = asked_for;
            let mut rig = Rig::new(10);
            rig.begin(&target, content_type);
            let _ = rig.feed(&target, body.as_bytes());
            rig.finish(&target, outcome);
            let extra = crate::frame::ExtraMetrics {
                timeout_ms: 10_000,
                sample_limit: 9,
                body_bytes,
            };
            let notes = rig.session.frame().notes;
            assert_eq!(notes.extra, asked_for.then_some(extra), "{outcome:?} {body:?}");
            assert!(!notes.ended);
        }
    }
    // Only then are their names taken.
    for (asked_for, kept) in [(false, 1), (true, 0)] {
        let mut target = target();
        target.extra_metrics = asked_for;
        let shot = Rig::new(10).scrape(&target, "scrape_sample_limit 5\n");
        assert_eq!((shot.up, shot.samples.len()), (true, kept));
    }
}

#[test]
fn scr_204_a_body_of_exactly_the_limit_is_too_large() {
    for (limit, up) in [(4, false), (5, true), (0, true)] {
        let target = limited(Limits {
            body_bytes: limit,
            ..NONE
        });
        let mut rig = Rig::new(4);
        assert_eq!(rig.scrape(&target, "a 1\n").up, up);
        assert_eq!(rig.reports.counters.exceeded_body_size, u64::from(!up));
    }
}

#[test]
fn scr_653_sample_limit_counts_to_the_end_and_keeps_nothing() {
    let target = limited(Limits { samples: 1, ..NONE });
    let mut rig = Rig::new(10);
    let shot = rig.scrape(&target, "a 1\nb 1\nc 1\n");
    assert_eq!((shot.up, shot.counts, shot.samples.len()), (false, [3, 3, 1], 0));
    assert_eq!(shot.error, "3 samples after relabelling, sample_limit is 1");
    assert_eq!(rig.reports.counters.exceeded_sample_limit, 1);
    assert!(rig.catalogue.is_empty());
    assert!(rig.scrape(&target, "a 1\n").up);
}

#[test]
fn scr_652_markers_do_not_count_against_sample_limit() {
    let target = limited(Limits { samples: 2, ..NONE });
    let mut rig = Rig::new(10);
    rig.scrape(&target, "a 1\nb 1\n");
    let shot = rig.scrape(&target, "c 1\nd 1\n");
    assert_eq!((shot.up, shot.stale.len()), (true, 2));
}

#[test]
fn scr_702_and_704_a_target_that_never_answered_is_reported() {
    let mut rig = Rig::new(4);
    let t = target().reference;
    assert_eq!(rig.reports.health(t).unwrap().state.as_str(), "unknown");
    rig.begin(&target(), TEXT);
    let shot = rig.finish(&target(), Outcome::Fetch(&"connection refused"));
    assert_eq!(
        (shot.up, shot.stale.len(), shot.error.as_str()),
        (false, 0, "connection refused")
    );
    let health = rig.reports.health(t).unwrap();
    assert_eq!((health.state.as_str(), health.duration_100us), ("down", 123));
    assert!(rig.scrape(&target(), "a 1\n").error.is_empty());
    assert_eq!(rig.reports.health(t).unwrap().state.as_str(), "up");
    assert_eq!(rig.reports.counters.failed, 1);
}

#[test]
fn scr_206_more_of_a_refused_body_is_not_read() {
    let mut rig = known();
    rig.begin(&target(), TEXT);
    let error = rig.feed(&target(), b"a 1\nbad\n").unwrap_err();
    assert_eq!(rig.feed(&target(), b"b 1\nc 1\n"), Err(error));
    assert_eq!(rig.finish(&target(), Outcome::Complete).counts, [1, 1, 0]);
}

#[test]
fn scr_952_an_error_behind_the_last_line_takes_everything_back() {
    let mut rig = known();
    let shot = rig.scrape_as(&target(), OPEN_METRICS, "a 3\nc 1\n");
    assert_eq!((shot.up, shot.samples.len(), shot.counts), (false, 0, [2, 2, 1]));
    assert_eq!(shot.stale, BOTH);
    assert_eq!(rig.catalogue.len(), 2);
}

#[test]
fn scr_806_a_removed_target_says_goodbye() {
    let mut rig = known();
    rig.begin(&target(), TEXT);
    let shot = rig.finish(&target(), Outcome::Removed);
    assert_eq!((shot.up, shot.stale.len()), (false, 2));
    assert!(
        rig.session.frame().notes.ended,
        "the scrape's own series are marked too"
    );
    rig.table
        .forget(target().reference, FrameNo(rig.frame), &mut rig.catalogue);
    rig.reports.forget(target().reference);
    assert!(rig.catalogue.is_empty() && rig.table.texts() == 0);
}

#[test]
fn a_flooding_target_harms_only_itself() {
    let mut rig = Rig::new(20);
    let good = target();
    let mut flood = target();
    flood.reference = TargetRef(1);
    let body = "a 1\nb 2\n";
    rig.scrape(&good, body);
    for round in 0..50 {
        let lines: String = (0..100)
            .map(|i| format!("f{{round=\"{round}\",i=\"{i}\"}} 1\n"))
            .collect();
        let shot = rig.scrape(&flood, &lines);
        assert!(!shot.up);
        assert_eq!(
            shot.error,
            "series limit: all 20 series are in use (tidegate.memory.max_series)"
        );
        assert_eq!(shot.counts, [19, 19, 18]);
        let shot = rig.scrape(&good, body);
        assert_eq!((shot.up, shot.counts[2], shot.stale.len()), (true, 0, 0));
        assert_eq!((rig.catalogue.len(), rig.catalogue.waiting()), (2, 0));
    }
    assert_eq!(rig.reports.counters.exceeded_series_limit, 50);
}

#[test]
fn a_flood_of_long_names_ends_at_the_text_limit() {
    let mut rig = Rig::new(20);
    let lines: String = (0..19)
        .map(|i| format!("m{{i=\"{i}{}\"}} 1\n", "x".repeat(500)))
        .collect();
    let shot = rig.scrape(&target(), &lines);
    assert!(!shot.up && shot.error.contains("4000 bytes"), "{}", shot.error);
    assert!(rig.catalogue.is_empty());
    assert!(rig.scrape(&target(), "a 1\n").up);
}

#[test]
fn a_frame_never_holds_more_than_it_was_made_for() {
    let mut rig = Rig::new(4);
    rig.session = session(3);
    let shot = rig.scrape(&target(), "a 1\nb 1\nc 1\nd 1\n");
    assert_eq!(
        shot.error,
        "series limit: more than 3 samples in one scrape (tidegate.memory.max_series)"
    );
    assert!(rig.catalogue.is_empty());
}

#[test]
fn too_many_spellings_of_a_series_fail_the_scrape_and_spare_the_series() {
    let mut rig = Rig::new(2);
    rig.table = SeriesTable::new(2, 2, 4, 1);
    let first = "a{x=\"1\",y=\"2\"} 1\nb 1\n";
    rig.scrape(&target(), first);
    let shot = rig.scrape(&target(), "a{y=\"2\",x=\"1\"} 1\n");
    assert!(!shot.up && shot.error.contains("all 2 exposed texts"), "{}", shot.error);
    assert_eq!(shot.stale.len(), 2, "a is still there to be marked");
    rig.catalogue.reclaim(FrameNo(rig.frame + 1));
    let shot = rig.scrape(&target(), first);
    assert_eq!(shot.series(), ["a{job=\"j\",x=\"1\",y=\"2\"}", "b{job=\"j\"}"]);
}

#[test]
fn no_more_series_are_tracked_than_markers_fit() {
    let mut rig = Rig::new(4);
    rig.session = session(1);
    let mut target = target();
    target.track_timestamps_staleness = true;
    // The sample of b is refused, so the frame has room; both series would be tracked.
    for (body, stale) in [
        ("b 1 1000\n", 0),
        ("b 1 1000\na 1 1000\n", 0),
        ("# none\n", 1),
        ("# none\n", 0),
    ] {
        assert_eq!(rig.scrape(&target, body).stale.len(), stale, "{body}");
    }
    assert_eq!(rig.reports.counters.markers_lost, 0);
}

#[test]
fn a_series_longer_than_a_text_buffer_fails_the_scrape() {
    let mut rig = Rig::new(200);
    let shot = rig.scrape(&target(), &format!("m{{x=\"{}\"}} 1\n", "y".repeat(17_000)));
    assert!(!shot.up && shot.error.contains("16384"), "{}", shot.error);
    // 10,000 bytes are what the remote write 2.0 compliance suite sends.
    let shot = rig.scrape(&target(), &format!("m{{x=\"{}\"}} 1\n", "y".repeat(10_000)));
    assert!(shot.up, "{}", shot.error);
}

#[test]
fn sessions_of_different_targets_interleave() {
    let mut rig = Rig::new(20);
    let first = target();
    let mut second = labelled(&[("job", "k")]);
    second.reference = TargetRef(1);
    let mut other = session(20);
    rig.catalogue.set_target(second.reference, second.body()).unwrap();
    for round in 0..3 {
        rig.begin(&first, TEXT);
        other.begin(&second, Instant(5), None, &mut rig.parts().1);
        other.content_type(TEXT, &second);
        for bytes in [&b"a 1\nsha"[..], b"red 2\nz", b" 3\n"] {
            rig.feed(&first, bytes).unwrap();
            other.feed(bytes, &second, &mut rig.parts().1).unwrap();
        }
        // The second always fails at its end, the first never.
        other.feed(b"bad\n", &second, &mut rig.parts().1).unwrap_err();
        let frame = other.finish(Outcome::Complete, 1, &second, &mut rig.parts().1);
        assert_eq!((frame.up, frame.samples.len(), frame.stale.len()), (false, 0, 0));
        assert_eq!(frame.counts.added, 3);
        let shot = rig.finish(&first, Outcome::Complete);
        assert_eq!(shot.series(), ["a{job=\"j\"}", "shared{job=\"j\"}", "z{job=\"j\"}"]);
        assert_eq!(shot.counts, [3, 3, if round == 0 { 3 } else { 0 }]);
        other.settle(FrameNo(rig.frame), &mut rig.parts().1);
        assert_eq!(rig.catalogue.len(), 3);
    }
}

#[test]
fn arbitrary_bytes_never_panic_and_leave_no_trace() {
    let mut random = fastrand::Rng::with_seed(8);
    let mut rig = known();
    let seed = b"# TYPE a counter\na{x=\"1\"} 1 2\nb{le=\"0.1\"} NaN\n{\"q\"} 1e3\n# EOF\n";
    let mut succeeded = 0;
    for _ in 0..3_000 {
        let mut body = Vec::from(seed);
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..body.len());
            body[at] = random.u8(..);
        }
        let content_type = if random.bool() { TEXT } else { OPEN_METRICS };
        let before = rig.catalogue.len();
        rig.begin(&target(), content_type);
        for piece in body.chunks(random.usize(1..40)) {
            if rig.feed(&target(), piece).is_err() {
                break;
            }
        }
        let shot = rig.finish(&target(), Outcome::Complete);
        assert!(shot.up || rig.catalogue.len() == before);
        succeeded += usize::from(shot.up);
        rig.catalogue.reclaim(FrameNo(rig.frame + 1));
    }
    assert!(succeeded > 100, "{succeeded}");
    let shot = rig.scrape(&target(), "a 1\n");
    assert_eq!((shot.up, rig.catalogue.len(), rig.table.texts()), (true, 1, 1));
}
