//! What is given up is counted once: wherever its numbers lie, whatever a sender has of it, however often the ring is mounted.

mod ring_support;

use ring_support::life::{append, fill, mount, mount_with};
use ring_support::{EXTRAS_BYTES, World, config, formatted, geometry};
use tidegate::frame::{Frame, FrameNo, FrameSource as _, Next};
use tidegate::value::codec::CodecId;
use tidegate::wal::format::Medium;
use tidegate::wal::testing::Ram;
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
