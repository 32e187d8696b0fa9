//! With a fault put into the ring on purpose the explorer finds a violation, and none without: `scripts/seeded-faults`.
//!
//! One process, one fault after another, so this binary has a single test.

mod explorer;

use explorer::failing::WAYS;
use explorer::faults::{Call, Kind};
use explorer::{Explorer, SHAPES, Setup, Workload};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tidegate::wal::format::Medium;
use tidegate::wal::seeded::{Fault, seed};

/// States after which the search for a violation is given up.
const PATIENCE: u64 = 400_000;

/// The first violation by cuts, by failing calls, or by misplaced or missing blocks: what found it, and what it says.
fn search() -> Option<(&'static str, String)> {
    let told = |panic: Box<dyn std::any::Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    };
    let shapes = |n: usize| {
        (
            n % SHAPES.len(),
            [Medium::Rewritable, Medium::WriteOnce][n / SHAPES.len() % 2],
        )
    };
    for medium in [Medium::Rewritable, Medium::WriteOnce] {
        if let Err(panic) = catch_unwind(|| explorer::rot::misplaced(medium, 40)) {
            return Some(("rot", told(panic)));
        }
        if let Err(panic) = catch_unwind(|| explorer::rot::gap(medium, 20)) {
            return Some(("gaps", told(panic)));
        }
        for way in WAYS
            .into_iter()
            .filter(|&(call, kind, _)| call == Call::Sync && kind == Kind::Error)
        {
            let failed = catch_unwind(|| {
                for workload in [Workload::Lap, Workload::Steady] {
                    let setup = Setup::new(workload, 0, medium);
                    Explorer::new(setup, 0, 3).fail_each(setup, way, 24, 1);
                }
            });
            if let Err(panic) = failed {
                return Some(("failing calls", told(panic)));
            }
        }
    }
    let mut states = 0;
    for n in 0.. {
        for workload in [Workload::Steady, Workload::Boots, Workload::Lap, Workload::Two] {
            let (shape, medium) = shapes(n);
            let mut explorer = Explorer::new(Setup::new(workload, shape, medium), n as u64, 2);
            let failed = catch_unwind(AssertUnwindSafe(|| explorer.run()));
            states += explorer.states;
            if let Err(panic) = failed {
                return Some(("crash explorer", told(panic)));
            }
            if states > PATIENCE {
                return None;
            }
        }
    }
    None
}

#[test]
fn every_seeded_fault_is_caught() {
    // Panics are the verdicts here.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        seed(Some(fault));
        match search() {
            Some((by, verdict)) => println!(
                "{fault:?}: caught by the {by}: {}",
                verdict.get(..160).unwrap_or(&verdict)
            ),
            None => {
                println!("{fault:?}: NOT CAUGHT");
                missed.push(fault);
            }
        }
    }
    seed(None);
    let clean = search();
    println!("no fault: {clean:?}");
    assert!(missed.is_empty(), "not caught: {missed:?}");
    assert!(clean.is_none(), "a violation without a fault");
}
