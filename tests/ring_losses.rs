//! What is given up is counted once: wherever its numbers lie, whatever a sender has of it, however often the ring is mounted.

mod ring_support;

use ring_support::life::{append, fill, mount, mount_with};
use ring_support::{EXTRAS_BYTES, World, config, formatted, geometry, read_all};
use tidegate::frame::{Frame, FrameNo, FrameSource as _, Next};
use tidegate::value::codec::CodecId;
use tidegate::wal::format::Medium;
use tidegate::wal::testing::{Outcome, Ram};
use tidegate::wal::{Reason, Ring};

/// One scrape, in a chunk of its own, on flash.
fn keep(ring: &mut Ring<Ram>, world: &mut World) {
    append(ring, world).expect("committed often enough");
    ring.cut();
    ring.commit(&mut world.catalogue).expect("the medium is sound");
}

/// Frames counted as lost, but for those that were in memory at a crash: they are an estimate.
fn lost(ring: &Ring<Ram>) -> u64 {
    let counted = Reason::ALL.iter().filter(|&&reason| reason != Reason::Crash);
    counted.map(|&reason| ring.counters().loss(reason).frames).sum()
}

/// Calls that change the medium fail from now on, `calls` of them.
fn fail(ring: &mut Ring<Ram>, calls: u64) {
    let ram = ring.storage_mut();
    ram.fail_from = ram.changes;
    ram.fail_to = ram.changes.saturating_add(calls);
}

/// A ring whose sender has read all `frames` of the first boot, and has come to the numbers that the mount behind them left out, when
/// they are lapped.
fn lapped_in_hand(world: &mut World, frames: u64) -> Ring<Ram> {
    let shape = geometry(512, 256, 4, Medium::Rewritable);
    let (mut ring, _) = mount(formatted(shape, 1), world, 1);
    fill(&mut ring, world, frames as usize);
    ring.commit(&mut world.catalogue).expect("the medium is sound");
    assert_eq!(ring.stats().head_seq, 1);
    let ram = ring.into_storage().crash(&[], 1);
    // Another codec begins another segment.
    let mut config = config(&shape, 1);
    config.codec = CodecId::Tc0;
    let (mut ring, _) = mount_with(ram, config, world, 2);
    // In memory: the sender comes to it, but does not read it.
    append(&mut ring, world).expect("room");
    ring.cut();
    let mut frame = Frame::with_extras(32, EXTRAS_BYTES);
    let mut source = ring.source(0, &mut world.catalogue);
    let mut read = 0;
    loop {
        match source.next(&mut frame).expect("the medium is sound") {
            Next::Frame => read = frame.number.0 + 1,
            // Names change on the way, too.
            Next::Boundary if read < frames => {}
            Next::Boundary => break,
            Next::End => panic!("there is one in memory"),
        }
    }
    assert_eq!(read, frames);
    while ring.stats().head_seq < 5 {
        keep(&mut ring, world);
    }
    assert_eq!(ring.counters().frames_lapped, frames);
    assert_eq!(lost(&ring), 0, "they are in a sender's hands");
    // Behind the last of them there is nothing that was read.
    ring.source(0, &mut world.catalogue).seek(FrameNo(frames));
    assert_eq!(lost(&ring), 0, "they still are");
    ring
}

/// Few, and more than a reader remembers the sums of.
const IN_HAND: [u64; 2] = [3, 300];

#[test]
fn a_sender_that_goes_back_behind_what_was_lapped_in_its_hands_loses_nothing() {
    for frames in IN_HAND {
        let mut world = World::new(41);
        let mut ring = lapped_in_hand(&mut world, frames);
        keep(&mut ring, &mut world);
        let (after, _) = mount(ring.storage().crash(&[], 1), &mut World::new(41), 3);
        assert_eq!(
            lost(&after),
            frames,
            "only the receiver knows whether they were delivered"
        );
        ring.acknowledge(0, FrameNo(frames));
        ring.source(0, &mut world.catalogue).seek(FrameNo(0));
        assert_eq!(lost(&ring), 0);
        keep(&mut ring, &mut world);
        let (after, _) = mount(ring.storage().crash(&[], 1), &mut World::new(41), 3);
        assert_eq!(lost(&after), 0);
    }
}

#[test]
fn the_last_frame_lapped_in_a_senders_hands_is_counted_if_it_goes_back_before_it() {
    for frames in IN_HAND {
        let mut world = World::new(42);
        let mut ring = lapped_in_hand(&mut world, frames);
        let last = FrameNo(frames - 1);
        ring.source(0, &mut world.catalogue).seek(last);
        assert_eq!(lost(&ring), 1);
        ring.acknowledge(0, last);
        keep(&mut ring, &mut world);
        let (after, _) = mount(ring.storage().crash(&[], 1), &mut World::new(42), 3);
        assert_eq!(lost(&after), 1);
    }
}

/// Frame 0 is alone in its segment: every attempt to write the next one behind it fails, and that goes to another slot.
fn first_frame_alone(world: &mut World, medium: Medium) -> Ring<Ram> {
    let shape = geometry(512, 16, 4, medium);
    let (mut ring, _) = mount(formatted(shape, 1), world, 1);
    keep(&mut ring, world);
    fail(&mut ring, 3);
    keep(&mut ring, world);
    ring.storage_mut().fail_to = 0;
    assert_eq!((ring.stats().head_seq, lost(&ring)), (2, 0));
    ring
}

/// Whatever becomes of the ring now, frame 0 is all it has lost: through boots that are cut before or behind a sync, in the segment that
/// is open, and in the next.
fn loses_the_first_frame_alone(image: &Ram, world: &mut World) {
    let mut ram = image.clone();
    for number in 2..7 {
        let (mut ring, _) = mount(ram, world, number);
        let read = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
        assert_eq!(read.first().map(|told| told.number), Some(1), "boot {number}");
        assert_eq!(lost(&ring), 1, "boot {number}");
        let head = ring.stats().head_seq;
        while number == 4 && ring.stats().head_seq == head {
            keep(&mut ring, world);
        }
        keep(&mut ring, world);
        if ring.counters().dropped_segments > 1 {
            return;
        }
        assert_eq!(lost(&ring), 1, "boot {number}");
        ram = ring.into_storage().crash(&[], 1);
    }
}

#[test]
fn the_first_frame_lapped_alone_is_counted_once() {
    // By the commit that needs the slot: a segment header tells of it.
    let mut world = World::new(43);
    let mut ring = first_frame_alone(&mut world, Medium::Rewritable);
    while lost(&ring) == 0 {
        keep(&mut ring, &mut world);
    }
    assert_eq!(ring.counters().loss(Reason::Lapped).frames, 1);
    loses_the_first_frame_alone(&ring.into_storage().crash(&[], 1), &mut world);

    // By an erase ahead of it: a DROP record of frames 0 to 0 does.
    let mut world = World::new(44);
    let mut ring = first_frame_alone(&mut world, Medium::WriteOnce);
    while lost(&ring) == 0 {
        keep(&mut ring, &mut world);
        if ring.erase_due() && ring.stats().head_seq == 4 {
            ring.erase_step();
        }
    }
    assert_eq!(ring.counters().loss(Reason::Lapped).frames, 1);
    // Not told yet: it is there, or found missing.
    for erased in Outcome::ALL {
        let mut world = World::new(44);
        let (mut ring, _) = mount(ring.storage().crash(&[erased], 1), &mut world, 2);
        let read = read_all(&mut ring, &mut world.catalogue, 0, FrameNo(0));
        let missing = read.first().map(|told| told.number);
        assert_eq!(missing, Some(lost(&ring)), "{erased:?}");
    }
    keep(&mut ring, &mut world);
    assert_eq!(ring.stats().head_seq, 4, "where the record stands");
    loses_the_first_frame_alone(&ring.into_storage().crash(&[], 1), &mut world);
}

#[test]
fn the_first_frame_lost_alone_to_a_write_error_is_counted_once() {
    for medium in [Medium::Rewritable, Medium::WriteOnce] {
        let mut world = World::new(45);
        let (mut ring, _) = mount(formatted(geometry(512, 16, 4, medium), 1), &mut world, 1);
        fail(&mut ring, u64::MAX);
        while lost(&ring) == 0 {
            append(&mut ring, &mut world).expect("the oldest makes room");
            ring.cut();
            assert!(ring.commit(&mut world.catalogue).is_err());
        }
        assert_eq!(ring.counters().loss(Reason::WriteError).frames, 1, "{medium:?}");
        ring.storage_mut().fail_to = 0;
        ring.commit(&mut world.catalogue).expect("sound again");
        loses_the_first_frame_alone(&ring.into_storage().crash(&[], 1), &mut world);
    }
}
