//! Nothing on the way into the ring, onto the medium, and out again allocates once the ring is mounted.

#[path = "common/allocations.rs"]
mod allocations;
#[path = "common/memory.rs"]
mod memory;
mod ring_support;

use allocations::{Counting, allocations};
use memory::Memory;
use ring_support::{World, boot, config, geometry};
use tidegate::frame::{Frame, FrameSource, Next};
use tidegate::wal::format::Medium;
use tidegate::wal::{Reason, Ring, format};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn append_commit_rotate_read_and_acknowledge_do_not_allocate() {
    let shape = geometry(512, 16, 4, Medium::Rewritable);
    let mut memory = Memory::new(shape);
    format(&mut memory, [7; 16], 0, "").expect("memory takes everything");
    let mut world = World::new(1);
    let mounted = Ring::mount(memory, config(&shape, 1), boot(1, 0), &mut world.catalogue);
    let (mut ring, _) = mounted.expect("it was formatted");
    let mut frame = Frame::with_extras(32, ring_support::EXTRAS_BYTES);
    let mut allocated = 0;
    let mut read = 0;
    let (mut named, mut asked) = (0_u64, 0_u64);
    for i in 0..1_500u64 {
        world.scrape(ring.next_frame());
        let (calls, ..) = allocations(|| {
            ring.append(&world.frame, &mut world.catalogue)
                .expect("committed often enough");
            if i % 5 == 4 {
                ring.commit(&mut world.catalogue).expect("memory takes everything");
            }
            if i % 40 == 39 {
                let mut source = ring.source(0, &mut world.catalogue);
                loop {
                    match source.next(&mut frame).expect("memory gives everything") {
                        Next::Frame => {
                            read += 1;
                            let mut names = source.names();
                            let all = frame.samples.iter().map(|sample| sample.series);
                            for series in all.chain(frame.stale.iter().copied()) {
                                named += u64::from(names.definition(series, frame.target).is_some());
                                asked += 1;
                            }
                        }
                        Next::Boundary => {}
                        Next::End => break,
                    }
                }
                if i % 80 == 79 {
                    ring.acknowledge(0, ring.next_frame());
                }
            }
        });
        allocated += calls;
    }
    assert_eq!(allocated, 0);
    assert!(asked > 1_000 && named == asked, "{named} of {asked} series had a name");
    let lost = ring.counters().loss(Reason::Lapped).frames;
    assert!(
        read + lost >= 1_480 && ring.counters().segments_opened > 4,
        "{read} {lost} {:?}",
        ring.counters()
    );
}
