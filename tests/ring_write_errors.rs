//! A medium that fails: what is staged is written elsewhere, kept for sending, or counted.

mod ring_support;

use ring_support::{EXTRAS_BYTES, Told, World, append, boot, config, formatted, geometry, read_all, tell};
use tidegate::clock::Instant;
use tidegate::frame::{Frame, FrameNo, FrameSource as _};
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::storage::Storage as _;
use tidegate::wal::testing::Ram;
use tidegate::wal::{CommitError, Loss, Reason, Ring};

fn mount(ram: Ram, world: &mut World, number: u8, remotes: usize) -> Ring<Ram> {
    let config = config(&ram.geometry(), remotes);
    let mounted = Ring::mount(ram, config, boot(number, world.now), &mut world.catalogue);
    world.adopt();
    mounted.expect("the image is a ring").0
}

fn shapes() -> impl Iterator<Item = Geometry> {
    [Medium::Rewritable, Medium::WriteOnce]
        .into_iter()
        .map(|medium| geometry(512, 16, 6, medium))
}

/// Calls that change the medium fail from now on, `calls` of them.
fn fail(ring: &mut Ring<Ram>, calls: u64) {
    let ram = ring.storage_mut();
    ram.fail_from = ram.changes;
    ram.fail_to = ram.changes.saturating_add(calls);
}

#[test]
fn a_slot_that_fails_in_the_middle_of_a_chunk_costs_nothing() {
    let mut coded_again = 0;
    for shape in shapes() {
        for seed in 0..300 {
            let mut world = World::new(seed);
            let mut ring = mount(formatted(shape, seed), &mut world, 1, 2);
            let mut spare = Frame::with_extras(32, EXTRAS_BYTES);
            let mut told = Vec::new();
            for _ in 0..world.rng.usize(1..12) {
                told.push(append(&mut ring, &mut world));
                if world.rng.u8(0..4) == 0 {
                    ring.commit(&mut world.catalogue).expect("sound");
                }
            }
            ring.commit(&mut world.catalogue).expect("sound");
            // One reader has been everywhere, the other begins when all is over.
            let _ = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
            for _ in 0..world.rng.usize(1..6) {
                told.push(append(&mut ring, &mut world));
                if world.rng.u8(0..5) == 0 {
                    ring.cut();
                }
            }
            if world.rng.bool() {
                let _ = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
            }
            let calls = world.rng.u64(1..14);
            fail(&mut ring, calls);
            let result = ring.commit_with(&mut world.catalogue, Some(&mut spare));
            let seen = format!("{shape:?}, seed {seed}, {calls} calls fail: {result:?}");
            assert_eq!(ring.counters().loss(Reason::WriteError).frames, 0, "{seen}");
            for remote in 0..2 {
                assert_eq!(
                    read_all(&mut ring, &mut world.catalogue, remote, FrameNo(0)),
                    told,
                    "{seen}"
                );
            }
            told.push(append(&mut ring, &mut world));
            assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told, "{seen}");
            ring.storage_mut().fail_to = 0;
            ring.commit_with(&mut world.catalogue, Some(&mut spare))
                .expect("sound again");
            assert!(!ring.stats().degraded);
            coded_again += ring.counters().frames_coded_again;
            let image = ring.into_storage().crash(&[], 1);
            let mut ring = mount(image, &mut world, 2, 2);
            assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told, "{seen}");
            // What was in memory is estimated from above.
            let mut losses = ring.counters().losses;
            losses[Reason::Crash as usize] = Loss::default();
            assert!(losses.iter().all(|loss| loss.frames == 0), "{seen}");
        }
    }
    assert!(coded_again > 200, "{coded_again} frames came this way");
}

#[test]
fn in_memory_only_the_oldest_are_given_up_and_only_when_staging_is_full() {
    for shape in shapes() {
        let mut world = World::new(3);
        let mut ring = mount(formatted(shape, 3), &mut world, 1, 1);
        let mut spare = Frame::with_extras(32, EXTRAS_BYTES);
        let mut told: Vec<Told> = (0..4).map(|_| append(&mut ring, &mut world)).collect();
        ring.commit(&mut world.catalogue).expect("sound");
        told.extend((0..2).map(|_| append(&mut ring, &mut world)));
        fail(&mut ring, u64::MAX);
        let result = ring.commit_with(&mut world.catalogue, Some(&mut spare));
        assert_eq!(result, Err(CommitError::Degraded));
        let mut filled = false;
        for _ in 0..200 {
            let blocks = ring.stats();
            let lost = ring.counters().loss(Reason::WriteError).frames;
            told.push(append(&mut ring, &mut world));
            let lost = ring.counters().loss(Reason::WriteError).frames - lost;
            if lost > 0 {
                filled = true;
                assert!(blocks.staged_blocks + 2 > blocks.staging_blocks, "{blocks:?}");
            }
            let all = ring.counters().loss(Reason::WriteError).frames as usize;
            // The four on flash can be read all the time.
            let readable: Vec<Told> = told[..4].iter().chain(&told[4 + all..]).cloned().collect();
            assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), readable);
        }
        assert!(filled);
        let all = ring.counters().loss(Reason::WriteError).frames as usize;
        assert!(told.len() - 4 - all > 20, "most of staging is still there");
        ring.storage_mut().fail_to = 0;
        ring.commit_with(&mut world.catalogue, Some(&mut spare))
            .expect("sound again");
        let image = ring.into_storage().crash(&[], 1);
        let mut ring = mount(image, &mut world, 2, 1);
        let readable: Vec<Told> = told[..4].iter().chain(&told[4 + all..]).cloned().collect();
        assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), readable);
        assert_eq!(ring.counters().loss(Reason::WriteError).frames as usize, all);
        assert_eq!(ring.counters().loss(Reason::Damaged).frames, 0, "counted once");
    }
}

/// Appends, with whatever commit it takes.
fn press(ring: &mut Ring<Ram>, world: &mut World, spare: &mut Frame) -> Told {
    world.scrape(ring.next_frame());
    while ring.append(&world.frame, &mut world.catalogue).is_err() {
        let _ = ring.commit_with(&mut world.catalogue, Some(spare));
    }
    let mut told = tell(&world.frame, &mut world.catalogue);
    told.number = ring.next_frame().0 - 1;
    told.unix_ms = ring.unix_ms(told.time_ms);
    told
}

/// What is not there is counted as lost to write errors, and as nothing else. True: to the sample, because nothing of what was given
/// up had reached the medium all the same.
fn account(ring: &mut Ring<Ram>, world: &mut World, told: &[Told], seen: &str) -> bool {
    let there = read_all(ring, &mut world.catalogue, 0, FrameNo(0));
    let mut lost: Vec<&Told> = told.iter().collect();
    for frame in &there {
        let place = lost.iter().position(|told| *told == frame);
        lost.remove(place.unwrap_or_else(|| panic!("{seen}: {frame:?} was never appended")));
    }
    let samples = |told: &&Told| if told.up { told.samples.len() as u64 } else { 0 };
    let expected = (lost.len() as u64, lost.iter().map(samples).sum::<u64>());
    let all = |reason| {
        (
            ring.counters().loss(reason).frames,
            ring.counters().loss(reason).samples,
        )
    };
    for reason in Reason::ALL {
        // What was in memory at a crash is estimated from above.
        if !matches!(reason, Reason::Crash | Reason::WriteError) {
            assert_eq!(all(reason), (0, 0), "{seen}, {reason:?}");
        }
    }
    let counted = all(Reason::WriteError);
    assert!(
        counted.0 >= expected.0 && counted.1 >= expected.1,
        "{seen}: {counted:?} for {expected:?}"
    );
    assert!(
        counted.0 > expected.0 || counted.1 == expected.1,
        "{seen}: {counted:?} for {expected:?}"
    );
    counted == expected
}

#[test]
fn what_is_given_up_is_counted_once_and_to_the_sample() {
    let (mut lost, mut exact) = (0, 0);
    // Large enough that nothing is lapped.
    for shape in shapes().map(|shape| Geometry { slots: 60, ..shape }) {
        for seed in 0..150 {
            let seen = format!("{shape:?}, seed {seed}");
            let mut world = World::new(seed);
            let mut spare = Frame::with_extras(32, EXTRAS_BYTES);
            let mut told = Vec::new();
            let mut image = formatted(shape, seed);
            for boot in 1..4 {
                let mut ring = mount(image, &mut world, boot, 1);
                for _ in 0..world.rng.usize(0..6) {
                    told.push(press(&mut ring, &mut world, &mut spare));
                }
                if world.rng.bool() {
                    ring.commit(&mut world.catalogue).expect("sound");
                }
                let calls = [1, 5, 12, u64::MAX][world.rng.usize(..4)];
                fail(&mut ring, calls);
                for _ in 0..world.rng.usize(1..40) {
                    told.push(press(&mut ring, &mut world, &mut spare));
                    match world.rng.u8(0..8) {
                        0 => drop(ring.commit_with(&mut world.catalogue, Some(&mut spare))),
                        1 => drop(ring.commit(&mut world.catalogue)),
                        2 => ring.cut(),
                        3 => {
                            // A sender has some in hand.
                            let mut source = ring.source(0, &mut world.catalogue);
                            let mut frame = Frame::with_extras(32, EXTRAS_BYTES);
                            for _ in 0..3 {
                                let _ = source.next(&mut frame).expect("memory can be read");
                            }
                        }
                        _ => {}
                    }
                }
                ring.storage_mut().fail_to = 0;
                // Nothing is in hand any more.
                ring.source(0, &mut world.catalogue).seek(FrameNo(0));
                ring.commit_with(&mut world.catalogue, Some(&mut spare))
                    .expect("sound again");
                let to_the_sample = account(&mut ring, &mut world, &told, &seen);
                exact += u32::from(to_the_sample && ring.counters().loss(Reason::WriteError).samples > 0);
                ring.commit(&mut world.catalogue).expect("sound");
                lost += ring.counters().loss(Reason::WriteError).frames;
                image = ring.into_storage().crash(&[], 1);
            }
            let mut ring = mount(image, &mut world, 9, 1);
            account(&mut ring, &mut world, &told, &seen);
        }
    }
    assert!(
        lost > 1_000 && exact > 50,
        "{lost} frames were lost, exactly counted in {exact} rings"
    );
}

#[test]
fn a_degraded_ring_tries_one_block_a_minute_and_recovers_from_it() {
    let mut world = World::new(4);
    let mut ring = mount(formatted(geometry(512, 16, 6, Medium::Rewritable), 4), &mut world, 1, 1);
    let mut told: Vec<Told> = (0..30).map(|_| append(&mut ring, &mut world)).collect();
    let before = ring.storage().writes;
    fail(&mut ring, u64::MAX);
    let result = ring.commit(&mut world.catalogue);
    assert_eq!(result, Err(CommitError::Degraded));
    assert_eq!(ring.storage().writes - before, 9, "three slots, three times each");
    for minute in 1..4 {
        let (at, what) = ring.commit_due(Instant(world.now)).expect("frames wait");
        assert!(at >= Instant(told[29].time_ms) + 60_000);
        while Instant(world.now) < at {
            assert_eq!(ring.commit_due(Instant(world.now)), Some((at, what)));
            told.push(append(&mut ring, &mut world));
        }
        let writes = ring.storage().writes;
        assert!(ring.commit_step(&mut world.catalogue, what).is_err());
        assert_eq!(ring.storage().writes, writes + 1, "minute {minute}");
    }
    ring.storage_mut().fail_to = 0;
    ring.commit(&mut world.catalogue).expect("sound again");
    assert_eq!(ring.stats().staged_frames, 0);
    let lost = ring.counters().loss(Reason::WriteError).frames as usize;
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told[lost..]);
}

#[test]
fn syncs_that_fail_are_never_repeated_alone() {
    let mut world = World::new(5);
    let mut ring = mount(formatted(geometry(512, 16, 6, Medium::Rewritable), 5), &mut world, 1, 1);
    let told: Vec<Told> = (0..3).map(|_| append(&mut ring, &mut world)).collect();
    let before = (ring.storage().writes, ring.storage().syncs);
    ring.storage_mut().fail_syncs = true;
    assert_eq!(ring.commit(&mut world.catalogue), Err(CommitError::Degraded));
    let (writes, syncs) = (ring.storage().writes, ring.storage().syncs);
    assert!(
        syncs - before.1 == 9 && writes - before.0 >= 9,
        "{writes} writes, {syncs} syncs"
    );
    assert_eq!(ring.commit(&mut world.catalogue), Err(CommitError::Degraded));
    assert_eq!((ring.storage().writes, ring.storage().syncs), (writes + 1, syncs + 1));
    ring.storage_mut().fail_syncs = false;
    ring.commit(&mut world.catalogue).expect("sound again");
    let image = ring.into_storage().crash(&[], 1);
    let mut ring = mount(image, &mut world, 2, 1);
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), told);
}
