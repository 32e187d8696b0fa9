//! What stands on the medium that should not, or no longer: damaged beginnings, blocks that come back, what a cut boot left in a slot.

mod ring_support;

use ring_support::life::{append, fill, mount, small};
use ring_support::{World, formatted, read_all};
use tidegate::frame::FrameNo;
use tidegate::wal::Reason;
use tidegate::wal::format::flag;
use tidegate::wal::storage::Storage;
use tidegate::wal::testing::Ram;

#[test]
fn blocks_hidden_at_a_mount_and_back_later_cost_no_frame_written_since() {
    let mut world = World::new(18);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    let mut told = Vec::new();
    let mut blocks = Vec::new();
    for _ in 0..3 {
        world.churn = told.is_empty();
        told.push(append(&mut ring, &mut world).expect("room"));
        ring.cut();
        ring.commit(&mut world.catalogue).expect("the medium is sound");
        blocks.push(ring.counters().blocks_written as u32 - 1);
    }
    let mut ram = ring.into_storage().crash(&[], 1);
    // The first segment is in slot 1; its last two blocks cannot be read for a while.
    ram.unreadable = blocks[1..].iter().map(|index| 16 + index).collect();
    let (mut ring, _) = mount(ram, &mut world, 2);
    let new = append(&mut ring, &mut world).expect("room");
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    let mut ram = ring.into_storage().crash(&[], 1);
    ram.unreadable.clear();
    let (mut ring, _) = mount(ram, &mut world, 3);
    // The second was overwritten; the third is back, and the new one is not taken for a copy of an old one.
    let read = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
    assert_eq!(read, [told[0].clone(), told[2].clone(), new]);
}

#[test]
fn what_is_left_of_a_ring_whose_beginnings_are_damaged_hides_no_frame_written_since() {
    let mut world = World::new(23);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    for _ in 0..8 {
        append(&mut ring, &mut world).expect("room");
        ring.cut();
        ring.commit(&mut world.catalogue).expect("the medium is sound");
        ring.acknowledge(0, ring.next_frame());
    }
    let blocks = ring.counters().blocks_written;
    assert!(blocks > 6, "{blocks} blocks are in the first segment");
    let mut ram = ring.into_storage().crash(&[], 1);
    // Mount looks at the first blocks of a slot only: to it the ring is empty, and numbers begin anew.
    ram.damage(|image| image[16 * 512..19 * 512].fill(0x5a));
    let (mut ring, report) = mount(ram, &mut world, 2);
    assert_eq!((report.segments, report.headless_slots), (0, 0));
    let new = append(&mut ring, &mut world).expect("room");
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    let ram = ring.into_storage().crash(&[], 1);
    let (mut ring, _) = mount(ram, &mut world, 3);
    assert_eq!(
        ring.acknowledged(0),
        FrameNo(0),
        "of the numbers given out now none is acknowledged"
    );
    assert_eq!(read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0)), [new]);
}

#[test]
fn the_very_first_frame_is_counted_once_however_often_it_is_found_missing() {
    let mut world = World::new(31);
    let (mut ring, _) = mount(formatted(small(), 1), &mut world, 1);
    for _ in 0..3 {
        append(&mut ring, &mut world).expect("room");
        ring.cut();
    }
    // In one commit: no definition stands behind the first frame.
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    let mut ram = ring.into_storage().crash(&[], 1);
    ram.damage(|image| {
        // The first segment is in slot 1, the first frame in the first block that begins a chunk.
        let mut blocks = image[16 * 512..32 * 512].chunks_mut(512);
        let block = blocks.find(|block| block[3] & flag::SYNC != 0).expect("a chunk");
        block[40] ^= 1;
    });
    for number in 2..8 {
        let (mut ring, _) = mount(ram, &mut world, number);
        let read = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
        assert_eq!(read.first().map(|told| told.number), Some(1));
        let head = ring.stats().head_seq;
        loop {
            append(&mut ring, &mut world).expect("room");
            ring.cut();
            ring.commit(&mut world.catalogue).expect("the medium is sound");
            // What the records of one segment say is said again in the next.
            if number != 4 || ring.stats().head_seq > head {
                break;
            }
        }
        let counted = ring.counters().loss(Reason::Damaged).frames;
        assert_eq!(counted, 1, "boot {number}");
        ram = ring.into_storage().crash(&[], 1);
    }
}

/// The second segment, about to be opened, and what is written to its slot before.
fn with_remains(world: &mut World, remains: &[(u32, &[u8])]) -> Ram {
    let (mut ring, _) = mount(formatted(small(), 1), world, 1);
    fill(&mut ring, world, 5);
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    let mut ram = ring.into_storage().crash(&[], 1);
    for (index, block) in remains {
        ram.write(2 * 16 + index, block).expect("the medium is sound");
    }
    ram
}

/// A block of segment 2 in its slot.
fn left_by_a_cut_boot(index: u16, used: u16, seq: u32) -> [u8; 512] {
    use tidegate::wal::format::{BlockHeader, block_seed};
    let mut block = [7; 512];
    let left = BlockHeader {
        flags: 0,
        seq,
        index,
        used,
        first_record: 0,
        dictionary: 0,
        ack: 1 << 20,
        stream_offset: 1_000,
        epoch: 5_000,
    };
    left.emit(&mut block, block_seed(&ring_support::UUID, 2));
    block
}

#[test]
fn what_a_cut_boot_left_of_a_segment_is_blanked_before_the_next_boot_begins_it() {
    let mut world = World::new(19);
    // One whole, one of which the first half landed, one of the lap before and one of another ring.
    let whole = left_by_a_cut_boot(9, 3, 2);
    let mut torn = left_by_a_cut_boot(10, 480, 2);
    torn[256..].fill(0xff);
    let older = left_by_a_cut_boot(11, 3, 2u32.wrapping_sub(8));
    let foreign = {
        let mut block = left_by_a_cut_boot(12, 3, 10);
        block[31] ^= 1;
        block
    };
    let remains: [(u32, &[u8]); 4] = [(9, &whole), (10, &torn), (11, &older), (12, &foreign)];
    let ram = with_remains(&mut world, &remains);
    let (mut ring, _) = mount(ram, &mut world, 2);
    while ring.stats().head_seq < 2 {
        fill(&mut ring, &mut world, 5);
    }
    let mut ram = ring.into_storage().crash(&[], 1);
    let mut block = [1; 512];
    for (index, before) in remains {
        ram.read(2 * 16 + index, &mut block).expect("the medium is sound");
        match index {
            9 | 10 => assert_eq!(block, [0; 512], "block {index}"),
            _ => assert_eq!(block, before, "block {index}"),
        }
    }
}

#[test]
fn a_slot_that_keeps_what_a_cut_boot_left_in_it_is_not_written() {
    let mut world = World::new(19);
    let torn = left_by_a_cut_boot(9, 480, 2);
    let mut ram = with_remains(&mut world, &[(9, &torn[..])]);
    ram.unwritable = vec![2 * 16 + 9];
    let (mut ring, _) = mount(ram, &mut world, 2);
    while ring.stats().head_seq < 2 {
        fill(&mut ring, &mut world, 5);
    }
    assert_eq!(ring.stats().head_seq, 3, "the next slot is taken");
    let counters = ring.counters();
    assert_eq!((counters.slots_failed, counters.write_errors), (1, 1));
}
