//! Raw flash: slots are erased ahead, worn evenly, passed over when they fail.

mod ring_support;

use ring_support::{Told, UUID, World, append, boot, config, formatted, geometry, read_all};
use tidegate::frame::FrameNo;
use tidegate::wal::format::{EraseHeader, Geometry, Medium};
use tidegate::wal::storage::Storage as _;
use tidegate::wal::testing::{Outcome, Ram};
use tidegate::wal::{Reason, Ring, WhenFull, format};

fn shape() -> Geometry {
    geometry(512, 16, 6, Medium::WriteOnce)
}

fn mount(ram: Ram, world: &mut World, number: u8, when_full: WhenFull) -> Ring<Ram> {
    let mut config = config(&ram.geometry(), 1);
    config.when_full = when_full;
    let mounted = Ring::mount(ram, config, boot(number, world.now), &mut world.catalogue);
    world.adopt();
    mounted.expect("the image is a ring").0
}

/// What a host does between commits.
fn pause(ring: &mut Ring<Ram>) {
    let mut steps = 0;
    while ring.erase_due() {
        ring.erase_step();
        steps += 1;
        assert!(steps < 10, "an end");
    }
}

fn erase_counts(ram: &Ram) -> Vec<u32> {
    let shape = ram.geometry();
    let slots = ram.image().chunks(shape.segment_bytes() as usize);
    let headers = slots.filter_map(|slot| EraseHeader::parse(&slot[..shape.block_bytes as usize]).ok());
    headers.map(|header| header.erase_count).collect()
}

#[test]
fn no_commit_waits_for_an_erase_and_slots_wear_evenly() {
    let mut world = World::new(1);
    let mut ram = Ram::new(shape(), 1);
    ram.bad = vec![3];
    format(&mut ram, UUID, 1, "test").expect("five slots are sound");
    let mut ring = mount(ram, &mut world, 1, WhenFull::DropOldest);
    let mut told = Vec::new();
    for _ in 0..2_000 {
        told.push(append(&mut ring, &mut world));
        ring.commit(&mut world.catalogue).expect("sound");
        pause(&mut ring);
        let range = ring.stats().erase_counts.expect("raw flash");
        assert!(range.1 - range.0 <= 1, "{range:?}");
    }
    let counters = ring.counters();
    assert!(counters.segments_opened > 60, "{counters:?}");
    assert_eq!(counters.erases_in_commits, 0);
    // The first lap finds slots as formatting left them.
    assert_eq!(counters.slots_erased, counters.segments_opened + 1 - 5);
    let lost = counters.loss(Reason::Lapped).frames as usize;
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told[lost..]);
    let counts = erase_counts(&ring.into_storage().crash(&[], 1));
    assert_eq!(counts.len(), 5);
    assert!(
        counts.iter().max().expect("5") - counts.iter().min().expect("5") <= 1,
        "{counts:?}"
    );
}

#[test]
fn restarts_wear_nothing() {
    let mut world = World::new(2);
    let mut ram = formatted(shape(), 2);
    let mut opened = 0;
    for boot in 0..120 {
        let mut ring = mount(ram, &mut world, boot, WhenFull::DropOldest);
        append(&mut ring, &mut world);
        ring.commit(&mut world.catalogue).expect("sound");
        pause(&mut ring);
        opened += ring.counters().segments_opened;
        ring.acknowledge(0, ring.next_frame());
        ram = ring.into_storage().crash(&[], u64::from(boot));
    }
    let counts = erase_counts(&ram);
    let erases: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    assert!(opened > 6, "{opened} segments are laps");
    assert!(erases <= opened + 6 + 1, "{erases} erases for {opened} segments");
    assert!(
        counts.iter().max().expect("6") - counts.iter().min().expect("6") <= 1,
        "{counts:?}"
    );
}

#[test]
fn a_slot_that_does_not_erase_is_passed_over_before_a_commit_needs_it() {
    let mut world = World::new(3);
    let mut ring = mount(formatted(shape(), 3), &mut world, 1, WhenFull::DropOldest);
    let mut told = Vec::new();
    let mut failures = 0;
    for round in 0..900 {
        told.push(append(&mut ring, &mut world));
        ring.commit(&mut world.catalogue).expect("sound");
        if round % 3 == 0 && ring.erase_due() && failures < 20 {
            let ram = ring.storage_mut();
            (ram.fail_from, ram.fail_to) = (ram.changes, ram.changes + 1);
            let errors = ring.counters().slots_failed;
            ring.erase_step();
            failures += ring.counters().slots_failed - errors;
        }
        ring.storage_mut().fail_to = 0;
        pause(&mut ring);
    }
    let counters = ring.counters();
    assert!(failures > 5, "{failures}");
    assert_eq!((counters.slots_failed, counters.erases_in_commits), (failures, 0));
    let lost = counters.loss(Reason::Lapped).frames as usize;
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told[lost..]);
}

#[test]
fn a_full_ring_that_is_to_stop_is_not_erased_ahead() {
    let mut world = World::new(4);
    let mut ring = mount(formatted(shape(), 4), &mut world, 1, WhenFull::Stop);
    let mut told = Vec::new();
    loop {
        told.push(append(&mut ring, &mut world));
        if ring.commit(&mut world.catalogue).is_err() {
            break;
        }
        pause(&mut ring);
    }
    assert!(ring.stats().stopped);
    assert_eq!(ring.counters().loss(Reason::Lapped).frames, 0);
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told);
}

#[test]
fn power_cuts_while_erasing_ahead_cost_nothing_that_was_kept() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        let mut ram = formatted(shape(), seed);
        let mut told: Vec<Told> = Vec::new();
        for boot in 1..12 {
            let mut ring = mount(ram, &mut world, boot, WhenFull::DropOldest);
            for _ in 0..world.rng.usize(1..20) {
                let sent = world.rng.u8(0..6) == 0;
                told.push(append(&mut ring, &mut world));
                ring.commit(&mut world.catalogue).expect("sound");
                if sent {
                    ring.acknowledge(0, ring.next_frame());
                    told.clear();
                }
                if world.rng.u8(0..3) > 0 {
                    pause(&mut ring);
                }
            }
            let lapped = ring.counters().loss(Reason::Lapped).frames > 0;
            pause(&mut ring);
            let outcomes: Vec<Outcome> = (0..ring.storage().pending())
                .map(|_| Outcome::ALL[world.rng.usize(0..5)])
                .collect();
            ram = ring.into_storage().crash(&outcomes, seed);
            let mut after = mount(ram.clone(), &mut world, 100 + boot, WhenFull::DropOldest);
            let read = read_all(&mut after, &mut world.catalogue, 0, FrameNo(0));
            // An acknowledgement that was not written makes some frames come again; a lapped ring has fewer.
            let new = read.len().min(told.len());
            assert_eq!(
                read[read.len() - new..],
                told[told.len() - new..],
                "seed {seed}, boot {boot}"
            );
            assert!(new == told.len() || lapped || after.counters().loss(Reason::Lapped).frames > 0);
            told.drain(..told.len() - new);
        }
    }
}

/// Erases go on working, programs do not: tried once a minute, slot after slot loses the header that says whose it is.
#[test]
fn a_medium_that_erases_and_does_not_write_is_still_a_ring_afterwards() {
    let mut world = World::new(8);
    let shape = geometry(512, 16, 3, Medium::WriteOnce);
    let mut ring = mount(formatted(shape, 8), &mut world, 1, WhenFull::DropOldest);
    for _ in 0..200 {
        append(&mut ring, &mut world);
        ring.commit(&mut world.catalogue).expect("sound");
        pause(&mut ring);
        ring.acknowledge(0, ring.next_frame());
    }
    ring.storage_mut().unwritable = (0..3 * 16).collect();
    for _ in 0..30 {
        append(&mut ring, &mut world);
        world.now += 61_000;
        ring.commit(&mut world.catalogue).expect_err("nothing is written");
        ring.acknowledge(0, ring.next_frame());
    }
    let mut ram = ring.into_storage().crash(&[Outcome::Whole; 200], 1);
    let left = erase_counts(&ram).len();
    assert!((1..3).contains(&left), "{left} of 3 headers, some were tried and lost");
    ram.unwritable.clear();
    let mut ring = mount(ram, &mut world, 2, WhenFull::DropOldest);
    for _ in 0..200 {
        append(&mut ring, &mut world);
        ring.commit(&mut world.catalogue).expect("sound again");
        pause(&mut ring);
    }
    assert_eq!(erase_counts(&ring.into_storage()).len(), 3);
}

/// Whichever slot was the last: one that stands for the ring until there is a segment keeps none from being written.
#[test]
fn a_ring_that_lost_the_beginning_of_every_segment_takes_writes() {
    for segments in 1..7 {
        let mut world = World::new(9);
        let shape = geometry(512, 16, 3, Medium::WriteOnce);
        let mut ring = mount(formatted(shape, 9), &mut world, 1, WhenFull::DropOldest);
        while ring.counters().segments_opened < segments {
            append(&mut ring, &mut world);
            ring.commit(&mut world.catalogue).expect("sound");
            pause(&mut ring);
        }
        let mut ram = ring.into_storage().crash(&[Outcome::Whole; 200], 1);
        ram.damage(|image| {
            for slot in image.chunks_mut(shape.segment_bytes() as usize) {
                let first = (shape.first_block() * shape.block_bytes) as usize;
                slot[first..][..shape.block_bytes as usize].fill(0);
            }
        });
        let mut ring = mount(ram, &mut world, 2, WhenFull::DropOldest);
        for _ in 0..200 {
            append(&mut ring, &mut world);
            ring.commit(&mut world.catalogue).expect("takes writes");
            pause(&mut ring);
        }
        assert_eq!(erase_counts(&ring.into_storage()).len(), 3);
    }
}
