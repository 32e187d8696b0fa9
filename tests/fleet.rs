//! A region that comes back does not bury its receiver, and one box that comes back is home at once.

mod fleet_support;

use fleet_support::{Plan, loads, run};

const PLAN: Plan = Plan {
    agents: 300,
    interval_ms: 15_000,
    steady_ms: 120_000,
    outage_ms: 600_000,
    after_ms: 1_200_000,
    capacity: 2_500,
    retry_after_s: None,
    slow_start_ms: 60_000,
    live_share: 0,
    restarted: false,
};

/// Seconds over which the load of 300 agents is averaged: twenty requests a second are as many as chance wants.
const WINDOW: usize = 10;

#[test]
fn a_region_that_comes_back_asks_for_no_more_than_three_times_the_steady_load() {
    for (name, plan) in [
        ("the link was down", PLAN),
        (
            "the power was off",
            Plan {
                restarted: true,
                ..PLAN
            },
        ),
        (
            "the receiver says when to come again",
            Plan {
                retry_after_s: Some(10),
                ..PLAN
            },
        ),
        (
            "the receiver has little reserve",
            Plan {
                capacity: 1_600,
                after_ms: 2_400_000,
                ..PLAN
            },
        ),
    ] {
        let result = run(&plan);
        let (steady, worst) = loads(&result, WINDOW);
        let (requests, samples) = (worst.0 / steady.0, worst.1 / steady.1);
        assert!((requests < 3.0) && (samples < 3.0), "{name}: {requests} {samples}");
        assert!((steady.1 - 200.0).abs() < 4.0, "{steady:?}");
        assert_eq!((result.missing, result.duplicates), (0, 0), "{name}");
        let last = result.seconds[result.seconds.len() - 5];
        assert_eq!(last.behind, 0, "{name}: all are home");
    }
}

#[test]
fn without_slow_start_the_same_region_does() {
    let result = run(&Plan {
        slow_start_ms: 0,
        ..PLAN
    });
    let (steady, worst) = loads(&result, WINDOW);
    assert!(worst.1 / steady.1 > 6.0, "{worst:?}");
}

#[test]
fn one_box_is_home_within_three_seconds_of_a_short_outage() {
    for outage_ms in [20_000, 45_000] {
        let plan = Plan {
            agents: 1,
            interval_ms: 1_000,
            outage_ms,
            after_ms: 60_000,
            capacity: 1_000_000,
            ..PLAN
        };
        let result = run(&plan);
        let home = result.seconds[result.back..]
            .iter()
            .position(|second| second.behind == 0);
        // `behind` is counted as of a second's end; live samples wait five seconds for their batch.
        let sent: u64 = result.seconds[result.back..result.back + 3]
            .iter()
            .map(|second| second.samples)
            .sum();
        assert!(sent >= outage_ms / 1_000 * 10, "{outage_ms}: {sent} samples, {home:?}");
    }
}

#[test]
fn one_box_is_home_soon_after_a_long_outage() {
    // The last probe is up to ten seconds away, the first request after a start up to eleven and a half.
    for restarted in [false, true] {
        let plan = Plan {
            agents: 1,
            outage_ms: 2 * 3_600_000,
            capacity: 1_000_000,
            restarted,
            ..PLAN
        };
        let result = run(&plan);
        let home = result.seconds[result.back..]
            .iter()
            .position(|second| second.behind == 0);
        assert!(home.is_some_and(|home| home < 30), "{home:?} s, restarted: {restarted}");
        assert_eq!((result.missing, result.duplicates), (0, 0));
    }
}

#[test]
fn where_the_receiver_has_reserves_a_region_is_home_within_minutes_and_makes_no_queue() {
    let plan = Plan {
        capacity: 20_000,
        after_ms: 300_000,
        ..PLAN
    };
    let result = run(&plan);
    let after = &result.seconds[result.back..];
    let home = after.iter().position(|second| second.behind == 0);
    assert!(home.is_some_and(|home| home < 120), "{home:?} s");
    let queue = after.iter().map(|second| second.queue_ms).max();
    assert!(queue < Some(500), "{queue:?} ms");
    assert!(after.iter().all(|second| second.refused == 0));
}
