//! Every call of the medium fails once: the first, the second, and so on until a run ends without meeting the fault.
//!
//! After SQLite's I/O error tests. The oracle is that of the crash explorer: what a commit has confirmed is there after
//! a loss of power, whatever failed before; where the medium itself lies, nothing is invented.

mod explorer;

use explorer::failing::WAYS;
use explorer::faults::Call;
use explorer::{Explorer, Setup, Workload};
use tidegate::wal::format::Medium;

fn fail_every_call(medium: Medium, wanted: Call) {
    let ways = WAYS.into_iter().filter(|&(call, ..)| call == wanted);
    for way in ways {
        let mut met = 0;
        for (shape, workload) in [(0, Workload::Lap), (3, Workload::Steady), (1, Workload::Two)] {
            let setup = Setup::new(workload, shape, medium);
            let mut explorer = Explorer::new(setup, 0, 3);
            // Reads are many: mount, lapping, reading.
            let every = if wanted == Call::Read { 7 } else { 1 };
            let runs = explorer.fail_each(setup, way, 24, every);
            println!(
                "{way:?} {workload:?} on {medium:?}: {runs} runs, {} mounts",
                explorer.states
            );
            met += runs;
        }
        assert!(met >= 9, "the fault was hardly met");
    }
}

#[test]
fn no_failed_or_silent_write_costs_a_durable_frame_on_rewritable_media() {
    fail_every_call(Medium::Rewritable, Call::Write);
}

#[test]
fn no_failed_or_silent_write_costs_a_durable_frame_on_write_once_media() {
    fail_every_call(Medium::WriteOnce, Call::Write);
}

#[test]
fn no_failed_erase_costs_a_durable_frame() {
    fail_every_call(Medium::WriteOnce, Call::Erase);
}

#[test]
fn no_failed_sync_costs_a_durable_frame_whatever_landed() {
    fail_every_call(Medium::Rewritable, Call::Sync);
    fail_every_call(Medium::WriteOnce, Call::Sync);
}

#[test]
fn no_failed_or_short_read_invents_a_frame() {
    fail_every_call(Medium::Rewritable, Call::Read);
    fail_every_call(Medium::WriteOnce, Call::Read);
}

#[test]
fn slots_that_are_bad_at_mount_are_passed_over() {
    for (bad, medium) in [
        (&[0u32][..], Medium::WriteOnce),
        (&[1, 4], Medium::WriteOnce),
        (&[2], Medium::Rewritable),
    ] {
        let setup = Setup::new(Workload::Lap, 3, medium);
        let mut explorer = Explorer::new(setup, 7, 3);
        explorer.run_bad(bad, 60);
        assert!(explorer.states > 60);
    }
}
