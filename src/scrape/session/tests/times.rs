//! Explicit timestamps and staleness: SCR-304, SCR-505, SCR-801 to SCR-811, SCR-822 to SCR-826.

use super::*;

const NOW: i64 = 1_700_000_000_000;

fn times(shot: &Shot) -> Vec<Option<i64>> {
    shot.samples.iter().map(|(_, _, time)| *time).collect()
}

#[test]
fn scr_304_and_505_timestamps_are_honoured_or_ignored() {
    let mut rig = Rig::new(4);
    let mut target = target();
    assert_eq!(times(&rig.scrape(&target, "a 1 1000\nb 1\n")), [Some(1000), None]);
    target.honor_timestamps = false;
    assert_eq!(times(&rig.scrape(&target, "a 1 1000\nb 1\n")), [None, None]);
    assert_eq!(
        rig.session.frame().time_ms,
        2_000,
        "all of them at the start of the scrape"
    );
}

#[test]
fn scr_802_a_vanished_series_is_marked_in_the_scrape_that_misses_it() {
    let mut rig = Rig::new(4);
    rig.scrape(&target(), "a 1\nb 2\n");
    let shot = rig.scrape(&target(), "b 2\n");
    assert_eq!((shot.stale.len(), shot.samples.len()), (1, 1));
    assert_eq!(shot.stale, ["a{job=\"j\"}"]);
    assert!(rig.scrape(&target(), "b 2\n").stale.is_empty());
    let shot = rig.scrape(&target(), "a 1\nb 2\n");
    assert_eq!(
        (shot.stale.len(), shot.counts),
        (0, [2, 2, 1]),
        "a series that returns is a new one"
    );
}

#[test]
fn scr_804_series_with_timestamps_are_marked_only_if_asked_for() {
    for track in [false, true] {
        let mut rig = Rig::new(4);
        let mut target = target();
        target.track_timestamps_staleness = track;
        rig.scrape(&target, "a 1 1000\nb 1\n");
        assert_eq!(rig.scrape(&target, "b 1\n").stale.len(), usize::from(track));
        assert_eq!(rig.catalogue.len(), 1, "released either way");
    }
}

#[test]
fn scr_805_a_series_that_gets_timestamps_is_marked_once() {
    let mut rig = Rig::new(4);
    rig.scrape(&target(), "a 1\n");
    let shot = rig.scrape(&target(), "a 1 1000\n");
    assert_eq!((shot.stale.len(), times(&shot)), (1, Vec::from([Some(1000)])));
    assert!(rig.scrape(&target(), "a 1 2000\n").stale.is_empty());
    assert!(rig.scrape(&target(), "").stale.is_empty());
}

#[test]
fn scr_809_a_refused_sample_keeps_its_series_tracked() {
    let mut rig = Rig::new(4);
    let mut target = target();
    target.track_timestamps_staleness = true;
    rig.scrape(&target, "a 1 1000\n");
    let shot = rig.scrape(&target, "a 1 1000\n");
    assert_eq!((shot.samples.len(), shot.stale.len()), (0, 0));
    assert_eq!(rig.scrape(&target, "# none\n").stale.len(), 1);
}

#[test]
fn scr_810_a_restart_marks_nothing_that_vanished_before_it() {
    let mut rig = Rig::new(4);
    rig.scrape(&target(), "a 1\nb 2\n");
    // The ring's catalogue survives, the table does not.
    rig.table = SeriesTable::new(4, 8, 4, 9);
    let shot = rig.scrape(&target(), "b 2\n");
    assert_eq!((shot.stale.len(), shot.counts), (0, [1, 1, 1]));
    assert_eq!(rig.catalogue.len(), 1);
    assert_eq!(rig.scrape(&target(), "# none\n").stale, ["b{job=\"j\"}"]);
}

#[test]
fn scr_811_an_exposed_nan_is_not_a_marker() {
    let mut rig = Rig::new(4);
    rig.begin(&target(), TEXT);
    rig.feed(&target(), b"a NaN\n").unwrap();
    rig.finish(&target(), Outcome::Complete);
    let number = rig.session.frame().samples[0].number;
    assert_eq!(number.to_bits(), crate::sample::NORMAL_NAN_BITS);
    assert!(!rig.scrape(&target(), "a StaleNaN\n").up);
}

#[test]
fn scr_822_rising_timestamps_of_a_series_all_count() {
    let mut rig = Rig::new(9);
    let shot = rig.scrape(&target(), "a 1 1000\na 2 1001\nb 9\na 3 1001\na 4 999\na 5 2000\n");
    assert_eq!(times(&shot), [Some(1000), Some(1001), None, Some(2000)]);
    assert_eq!((shot.up, shot.counts), (true, [6, 6, 2]));
    assert_eq!(rig.reports.counters.out_of_order, 2);
}

#[test]
fn scr_824_and_826_a_repeated_timestamp_is_stored_once() {
    let mut rig = Rig::new(4);
    assert_eq!(rig.scrape(&target(), "a 1 1000\n").samples.len(), 1);
    for _ in 0..200 {
        let shot = rig.scrape(&target(), "a 1 1000\n");
        assert_eq!((shot.up, shot.samples.len(), shot.counts), (true, 0, [1, 1, 0]));
    }
    assert_eq!(rig.reports.counters.out_of_order, 200);
    assert_eq!(rig.scrape(&target(), "a 1 1001\n").samples.len(), 1);
}

#[test]
fn scr_824_a_window_lets_older_samples_in() {
    let mut rig = Rig::new(9);
    let mut target = target();
    target.out_of_order_ms = 1_000;
    assert_eq!(times(&rig.scrape(&target, "a 1 5000\n")), [Some(5_000)]);
    // Neither the newest once more, nor what is as old as the window; the newest stays the measure, within a scrape too.
    let shot = rig.scrape(
        &target,
        "a 1 5000\na 2 4000\na 3 4001\na 4 4500\na 5 4400\na 6 5001\na 7 4001\na 8 4002\n",
    );
    assert_eq!(times(&shot), [4_001, 4_500, 4_400, 5_001, 4_002].map(Some));
    assert_eq!(rig.reports.counters.out_of_order, 3);
    assert_eq!(times(&rig.scrape(&target, "a 1 4001\na 2 4002\n")), [Some(4_002)]);
    // A sample without a timestamp that comes after one of the future, and a marker.
    rig.now = Some(UnixMillis(10_000));
    target.track_timestamps_staleness = true;
    assert_eq!(
        times(&rig.scrape(&target, "b 1 10500\nc 1 11000\n")),
        [Some(10_500), Some(11_000)]
    );
    assert_eq!(times(&rig.scrape(&target, "b 1\nc 1\n")), [None]);
    assert_eq!(times(&rig.scrape(&target, "b 1 10500\n")), []);
    assert_eq!(rig.scrape(&target, "# none\n").stale, ["b{job=\"j\"}"]);
}

#[test]
fn scr_824_a_failed_scrape_commits_no_timestamp() {
    let mut rig = Rig::new(4);
    rig.scrape(&target(), "a 1 1000\n");
    assert!(!rig.scrape(&target(), "a 1 2000\nbad\n").up);
    assert_eq!(times(&rig.scrape(&target(), "a 1 2000\n")), [Some(2000)]);
}

#[test]
fn a_sample_with_a_timestamp_does_not_follow_one_without_in_the_same_scrape() {
    let mut rig = Rig::new(4);
    assert_eq!(times(&rig.scrape(&target(), "a 1\na 2 1000\n")), [None]);
    assert_eq!(times(&rig.scrape(&target(), "a 1 1000\na 2\n")), [Some(1000)]);
    let counters = rig.reports.counters;
    assert_eq!((counters.out_of_order, counters.duplicate), (1, 1));
}

#[test]
fn scr_825_samples_from_the_future_are_dropped_if_the_time_is_known() {
    let mut rig = Rig::new(4);
    let body = format!("a 1 {}\nb 1 {}\nc 1 1\n", NOW + 600_000, NOW + 600_001);
    assert_eq!(rig.scrape(&target(), &body).samples.len(), 3, "who knows");
    let mut rig = Rig::new(4);
    rig.now = Some(UnixMillis(NOW));
    let shot = rig.scrape(&target(), &body);
    assert_eq!(shot.series(), ["a{job=\"j\"}", "c{job=\"j\"}"]);
    assert_eq!((shot.up, shot.counts), (true, [3, 3, 2]));
    assert_eq!(rig.reports.counters.out_of_bounds, 1);
    let shot = rig.scrape(&target(), &format!("d 1 {}\n", i64::MAX));
    assert_eq!((shot.up, shot.samples.len()), (true, 0));
}

#[test]
fn scr_824_a_timestamp_is_compared_with_the_scrapes_before_that_had_none() {
    let mut rig = Rig::new(10);
    rig.now = Some(UnixMillis(50_000));
    assert_eq!(rig.scrape(&target(), "a 1\n").samples.len(), 1);
    rig.now = Some(UnixMillis(60_000));
    assert!(rig.scrape(&target(), "a 2 50000\n").samples.is_empty());
    assert_eq!(rig.reports.counters.out_of_order, 1);
    // That scrape has marked the series, and a marker is a sample.
    assert!(rig.scrape(&target(), "a 3 60000\n").samples.is_empty());
    assert_eq!(rig.scrape(&target(), "a 3 60001\n").samples.len(), 1);
}

#[test]
fn scr_824_a_scrape_is_compared_with_timestamps_of_the_future_but_not_with_other_scrapes() {
    let mut rig = Rig::new(10);
    rig.now = Some(UnixMillis(50_000));
    assert_eq!(rig.scrape(&target(), "a 1 55000\nb 1\n").samples.len(), 2);
    rig.now = Some(UnixMillis(55_000));
    assert_eq!(
        rig.scrape(&target(), "a 2\nb 2\n").samples,
        [("b{job=\"j\"}".into(), 2.0, None)]
    );
    assert_eq!(rig.reports.counters.out_of_order, 1);
    rig.now = Some(UnixMillis(40_000));
    assert_eq!(rig.scrape(&target(), "b 3\n").samples.len(), 1, "the clock went back");
    rig.now = Some(UnixMillis(55_001));
    assert_eq!(rig.scrape(&target(), "a 4\n").samples.len(), 1);
}

#[test]
fn a_marker_older_than_the_newest_timestamp_of_its_series_is_not_sent() {
    let mut rig = Rig::new(10);
    let mut target = target();
    target.track_timestamps_staleness = true;
    rig.now = Some(UnixMillis(50_000));
    assert_eq!(rig.scrape(&target, "late 1 55000\nb 1\nold 1 45000\n").samples.len(), 3);
    assert_eq!(rig.scrape(&target, "").stale, ["b{job=\"j\"}", "old{job=\"j\"}"]);
}
