//! Load of a receiver, second by second, when a region comes back.
//!
//! `cargo bench --bench fleet [-- AGENTS OUTAGE_S CAPACITY]`: 10,000 agents that scrape every 15 s, all cut off for 1,800 s,
//! a receiver that can take 2.5 times the steady load. Prints one line per second for a plot, in multiples of the steady
//! load, and a summary as comment lines. See `tests/fleet_support`.

#[path = "../fleet_support/mod.rs"]
mod fleet;

use fleet::{Plan, loads, run};

fn main() {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<f64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let argument = |place: usize, default: f64| arguments.get(place).copied().unwrap_or(default);
    let plan = Plan {
        agents: argument(0, 10_000.0) as usize,
        interval_ms: 15_000,
        steady_ms: 120_000,
        outage_ms: (argument(1, 1_800.0) * 1000.0) as u64,
        after_ms: 1_200_000,
        capacity: (argument(2, 2.5) * 1000.0) as u64,
        retry_after_s: None,
        slow_start_ms: 60_000,
        live_share: 0,
        restarted: false,
    };
    let unpaced = Plan {
        slow_start_ms: 0,
        ..plan
    };
    let restarted = Plan {
        restarted: true,
        ..plan
    };
    let asking = Plan {
        retry_after_s: Some(10),
        ..plan
    };
    for (name, plan) in [
        ("paced", plan),
        ("power_lost", restarted),
        ("retry_after", asking),
        ("no_slow_start", unpaced),
    ] {
        let result = run(&plan);
        let (steady, worst) = loads(&result, 1);
        println!("# {name}: {plan:?}");
        println!("# steady: {:.0} requests/s, {:.0} samples/s", steady.0, steady.1);
        println!(
            "# worst second after the return, times steady: {:.2} requests, {:.2} samples",
            worst.0 / steady.0,
            worst.1 / steady.1
        );
        let after = &result.seconds[result.back..];
        let refused: u64 = after.iter().map(|second| second.refused).sum();
        let home = |part: u64| {
            after
                .iter()
                .rposition(|second| second.behind > plan.agents as u64 / part)
                .map_or(0, |at| at + 1)
        };
        println!(
            "# refused requests: {refused}; half home after {} s, 99% after {} s; scrapes missing {}, repeated {}",
            home(2),
            home(100),
            result.missing,
            result.duplicates
        );
        println!("# case second requests samples refused behind queue_ms");
        let from = result.back.saturating_sub(30);
        for (second, load) in result.seconds.iter().enumerate().skip(from).take(630) {
            println!(
                "{name} {} {:.2} {:.2} {} {} {}",
                second as i64 - result.back as i64,
                load.requests as f64 / steady.0,
                load.samples as f64 / steady.1,
                load.refused,
                load.behind,
                load.queue_ms
            );
        }
    }
}
