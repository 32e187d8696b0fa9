//! Cuts the power at every write and erase of many workloads, with every outcome for what was not synced, and mounts again.
//!
//! `explorer/mod.rs` says what is judged. Two million states here, on a machine with nothing else to do; `scripts/explore` goes on from there.

mod explorer;

use explorer::{Explorer, Setup, Workload};
use std::time::{Duration, Instant};
use tidegate::wal::format::Medium;

/// States of one workload, over all shapes and media; ten workloads.
const STATES: u64 = 200_000;
/// A loaded machine gets no further than this.
const PATIENCE: Duration = Duration::from_secs(25);

fn explore(workload: Workload) {
    let deadline = Instant::now() + PATIENCE;
    let mut explorer = Explorer::new(Setup::new(workload, 0, Medium::Rewritable), 0, 1);
    explorer.deadline = Some(deadline);
    explorer.limit = STATES;
    for seed in 0.. {
        explorer.again(Setup::of(seed * Workload::ALL.len() as u64 + workload as u64), seed);
        explorer.run();
        if explorer.over() || Instant::now() > deadline {
            break;
        }
    }
    println!(
        "{workload:?}: {} crash states, about {} different images, no violation; {} outcomes more gave an image already judged; \
         {} cuts with paired pages",
        explorer.states,
        explorer.sketch.count(),
        explorer.repeats,
        explorer.paired,
    );
    assert!(explorer.states > 1_000, "the machine is too slow to say anything");
}

#[test]
fn no_cut_loses_or_invents_a_frame() {
    explore(Workload::Steady);
}

#[test]
fn no_cut_loses_a_frame_coded_with_tc0() {
    explore(Workload::Plain);
}

#[test]
fn no_cut_misnames_a_series_while_series_come_and_go() {
    explore(Workload::Churn);
}

#[test]
fn no_cut_loses_a_frame_that_a_full_ring_has_not_lapped() {
    explore(Workload::Lap);
}

#[test]
fn no_cut_loses_an_acknowledgement_or_a_frame_of_two_remotes() {
    explore(Workload::Two);
}

#[test]
fn no_cut_loses_a_frame_beside_a_remote_that_does_not_hold_the_tail() {
    explore(Workload::BestEffort);
}

#[test]
fn no_cut_moves_a_frame_in_time() {
    explore(Workload::Clock);
}

#[test]
fn no_cut_loses_the_backlog_of_a_ring_that_is_told_to_stop() {
    explore(Workload::Stop);
}

#[test]
fn no_series_of_boots_with_changing_configuration_loses_or_invents_a_frame() {
    explore(Workload::Boots);
}

#[test]
fn no_cut_loses_a_frame_while_others_are_acknowledged_in_memory() {
    explore(Workload::Memory);
}

/// Runs in which a second cut, within the recovery from a first, once lost a durable frame or a count: a block of which the first cut had left a
/// half was made whole by the second, what the first had left of a segment took slots or the acknowledgement from the next boot, or a sender that went
/// back made the ring forget what another had in hand, or count twice what was lapped in its own.
#[test]
fn no_second_cut_completes_what_the_first_began() {
    for seed in [3584, 3964, 4166, 4368, 501_206, 2_000_483, 4_000_274, 9_001_813] {
        let mut explorer = Explorer::new(Setup::of(seed), seed, 2);
        explorer.run();
        assert!(explorer.states > 1_000, "seed {seed}: {} states", explorer.states);
    }
}

#[test]
fn rot_invents_nothing_and_what_is_written_afterwards_stays() {
    let mut images = 0;
    for seed in 0..64 {
        let medium = [Medium::Rewritable, Medium::WriteOnce][seed as usize % 2];
        let workload = [Workload::Steady, Workload::Boots, Workload::Two, Workload::Clock][seed as usize / 2 % 4];
        let mut explorer = Explorer::new(Setup::new(workload, seed as usize / 8 % 8, medium), 5_000 + seed, 1);
        explorer.rot(150);
        images += explorer.states;
    }
    println!("{images} rotten images mounted");
}

#[test]
fn a_block_that_strayed_to_another_slot_costs_no_more_than_what_stood_there() {
    explorer::rot::misplaced(Medium::Rewritable, 20);
    explorer::rot::misplaced(Medium::WriteOnce, 20);
}

#[test]
fn a_block_gone_from_the_middle_of_a_chunk_costs_no_other_chunk() {
    explorer::rot::gap(Medium::Rewritable, 20);
    explorer::rot::gap(Medium::WriteOnce, 20);
}
