//! Arbitrary bytes as a medium: mount, read, write on, mount again.
//!
//! Promised of any image: nothing panics, reading ends, numbers rise, and a ring that mounted takes frames that are
//! there after the next mount. With the repair option the checksums are made to fit, so that what stands behind them
//! is reached: the image of somebody who knows the format. Of such a one only the first half is promised.

use super::input::Input;
use super::ring_support::{UUID, World, formatted};
use super::rings::{self, config, shape};
use tidegate::wal::format::{BlockHeader, EraseHeader, Geometry, Medium, block_seed};
use tidegate::wal::testing::Ram;
use tidegate::wal::{AppendError, Ring};

/// Makes whatever stands in each block that was touched a valid block of this place.
fn repair(geometry: &Geometry, image: &mut [u8], touched: &[bool]) {
    let size = geometry.block_bytes as usize;
    for (at, block) in image.chunks_mut(size).enumerate().filter(|(at, _)| touched[*at]) {
        let slot = at as u32 / geometry.blocks_per_slot;
        let index = at as u32 % geometry.blocks_per_slot;
        if index < geometry.first_block() {
            let header = EraseHeader {
                uuid: UUID,
                geometry: *geometry,
                slot,
                erase_count: u32::from_le_bytes([block[32], block[33], block[34], block[35]]),
            };
            header.emit(block);
            continue;
        }
        let half = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let word = |at: usize| u32::from(half(at)) | u32::from(half(at + 2)) << 16;
        let header = BlockHeader {
            flags: block[3],
            seq: word(4),
            index: index as u16,
            used: half(10).min(geometry.payload_bytes() as u16),
            first_record: half(12),
            dictionary: half(14),
            ack: word(16),
            stream_offset: word(20),
            epoch: word(24),
        };
        header.emit(block, block_seed(&UUID, slot));
    }
}

/// The input: options, then pieces of the image: place of a block, length, bytes. The rest is as a format leaves it.
fn image(input: &mut Input<'_>, options: u8) -> Ram {
    let geometry = shape(options);
    let mut ram = formatted(geometry, 1);
    let blocks = (geometry.slots * geometry.blocks_per_slot) as usize;
    let size = geometry.block_bytes as usize;
    let mut touched = vec![false; blocks];
    ram.damage(|image| {
        while !input.is_empty() {
            let at = input.below(blocks);
            let bytes = input.piece();
            let room = &mut image[at * size..];
            let len = bytes.len().min(room.len());
            room[..len].copy_from_slice(&bytes[..len]);
            touched[at..][..len.div_ceil(size)].fill(true);
        }
        if options & 8 != 0 {
            repair(&geometry, image, &touched);
        }
    });
    if options & 16 != 0 {
        ram.forget_superblocks();
    }
    ram
}

/// Appends some frames; their numbers, as far as they were taken.
fn write(ring: &mut Ring<Ram>, world: &mut World) -> Vec<u64> {
    let mut numbers = Vec::new();
    for _ in 0..6 {
        world.scrape(ring.next_frame());
        match ring.append(&world.frame, &mut world.catalogue) {
            Ok(number) => numbers.push(number.0),
            Err(AppendError::StagingFull) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(numbers.is_sorted_by(|a, b| a < b), "numbers rise");
    }
    numbers
}

pub fn mount_image(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let snappy = options & 32 != 0;
    let ram = image(&mut input, options);
    let geometry = shape(options);
    rings::inspect(&ram);
    let mut world = World::new(u64::from(options));
    let Ok((mut ring, _)) = rings::mount(ram, config(&geometry, 2, snappy), &mut world, 1) else {
        return;
    };
    rings::drain(&mut ring, &mut world.catalogue, 0);
    world.adopt();
    let numbers = write(&mut ring, &mut world);
    rings::drain(&mut ring, &mut world.catalogue, 1);
    let lapped = ring.counters().frames_lapped;
    let committed = ring.commit(&mut world.catalogue);
    // Segments that hold one frame each may fill the ring at once.
    let room = ring.counters().frames_lapped == lapped;
    let acknowledged = ring.min_ack();
    rings::inspect(ring.storage());
    let ram = ring.into_storage().crash(&[], 1);
    let mounted = rings::mount(ram, config(&geometry, 2, snappy), &mut world, 2);
    let (mut ring, _) = mounted.expect("what mounted once mounts again");
    let read = rings::drain(&mut ring, &mut world.catalogue, 0);
    if options & 8 == 0 {
        committed.expect("the medium takes writes");
        for number in numbers {
            assert!(
                !room || number < acknowledged.0 || read.iter().any(|told| told.number == number),
                "frame {number} was written and is not there"
            );
        }
    }
    if geometry.medium == Medium::Rewritable {
        world.adopt();
        ring.acknowledge(0, ring.next_frame());
        write(&mut ring, &mut world);
        // It may be full of segments it must not touch; it must not panic.
        let _ = ring.close(&mut world.catalogue);
    }
}
