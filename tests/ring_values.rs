//! Reading every frame of an image: the same as were written, over laps, restarts and damage.

mod ring_support;

use ring_support::{Told, World, boot, config, formatted, geometry, tell};
use tidegate::frame::{Frame, FrameNo};
use tidegate::wal::format::Medium;
use tidegate::wal::inspect::Inspector;
use tidegate::wal::storage::Storage;
use tidegate::wal::testing::Ram;
use tidegate::wal::values::FrameReader;
use tidegate::wal::{Commit, CommitStep, Ring};

/// Writes frames through several mounts, everything acknowledged now and then; all frames in the order of their numbers.
fn fill(mut ram: Ram, seed: u64, frames: usize) -> (Ram, Vec<Told>) {
    let mut world = World::new(seed);
    let geometry = ram.geometry();
    let mut told = Vec::new();
    for mount in 0..4 {
        world.catalogue.clear();
        let boot = boot(mount, world.now);
        let (mut ring, _) = Ring::mount(ram, config(&geometry, 1), boot, &mut world.catalogue).expect("a ring");
        world.adopt();
        for frame in 0..frames {
            world.scrape(ring.next_frame());
            let number = ring.append(&world.frame, &mut world.catalogue).expect("room");
            let mut copy = tell(&world.frame, &mut world.catalogue);
            copy.number = number.0;
            copy.unix_ms = Some(1_700_000_000_000 + world.now as i64);
            told.push(copy);
            if frame % 7 == 0 {
                while ring
                    .commit_step(&mut world.catalogue, Commit::All)
                    .expect("takes writes")
                    == CommitStep::NeedSync
                {
                    let outcome = ring.storage_mut().sync();
                    ring.synced(outcome);
                }
            }
            if frame % 50 == 0 {
                ring.acknowledge(0, FrameNo(number.0.saturating_sub(5)));
            }
        }
        while ring
            .commit_step(&mut world.catalogue, Commit::All)
            .expect("takes writes")
            == CommitStep::NeedSync
        {
            let outcome = ring.storage_mut().sync();
            ring.synced(outcome);
        }
        ram = ring.into_storage();
    }
    (ram, told)
}

/// Everything a pass gives, and how many frames it could not read.
fn read(reader: &mut FrameReader<Ram>) -> (Vec<Told>, u64) {
    let mut found = Vec::new();
    let unreadable = reader.for_each(|read| {
        let frame: &Frame = read.frame;
        found.push(tell(frame, &mut *read.catalogue));
    });
    (found, unreadable)
}

#[test]
fn what_is_on_the_medium_reads_as_written_and_as_often_as_asked() {
    for medium in [Medium::Rewritable, Medium::WriteOnce] {
        for seed in 1..6 {
            let ram = formatted(geometry(512, 16, 6, medium), seed);
            let (ram, told) = fill(ram, seed, 150);
            let mut reader = FrameReader::new(Inspector::open(ram, None).expect("a ring"));
            let (found, unreadable) = read(&mut reader);
            assert_eq!(unreadable, 0);
            assert_eq!(
                found.len() as u64,
                reader.summary().total.frame_count,
                "{medium:?} {seed}"
            );
            assert!(found.len() > 30, "{medium:?} {seed}: {}", found.len());
            let mut written = told.iter();
            for frame in &found {
                let as_written = written
                    .find(|told| told.number == frame.number)
                    .expect("in order, each once");
                assert_eq!(frame, as_written, "{medium:?} {seed}");
            }
            assert_eq!(found.last(), told.last());
            assert_eq!(read(&mut reader).0, found, "a second pass");
        }
    }
}

#[test]
fn damage_costs_frames_and_invents_none() {
    let shape = geometry(512, 16, 6, Medium::Rewritable);
    let (sound, told) = fill(formatted(shape, 3), 3, 150);
    let mut lost = 0;
    for block in 0..shape.slots * shape.blocks_per_slot {
        let mut ram = sound.clone();
        let mut bytes = vec![0; 512];
        ram.read(block, &mut bytes).expect("readable");
        bytes[40] ^= 4;
        ram.write(block, &bytes).expect("takes writes");
        let mut reader = FrameReader::new(Inspector::open(ram, None).expect("superblocks are sound"));
        let (found, unreadable) = read(&mut reader);
        lost += unreadable;
        for frame in &found {
            assert!(told.contains(frame), "block {block}");
        }
    }
    assert!(lost > 0, "some damage takes definitions of frames that are there");
}
