//! Nothing on the way into the ring, onto the medium, and out again allocates once the ring is mounted.

mod ring_support;

use ring_support::{World, boot, config, geometry};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tidegate::frame::{Frame, FrameSource, Next};
use tidegate::wal::format::{Geometry, Medium, SUPERBLOCK_BYTES};
use tidegate::wal::storage::{Storage, StorageFailure, SuperblockCopy};
use tidegate::wal::{Reason, Ring, format};

struct Counting;

thread_local! {
    /// Of this thread: the test harness has its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Plain memory.
struct Memory {
    geometry: Geometry,
    superblock: [u8; SUPERBLOCK_BYTES],
    bytes: Vec<u8>,
}

impl Storage for Memory {
    type Error = StorageFailure;
    fn geometry(&self) -> Geometry {
        self.geometry
    }
    fn read_superblock(
        &mut self,
        _: SuperblockCopy,
        bytes: &mut [u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, StorageFailure> {
        *bytes = self.superblock;
        Ok(true)
    }
    fn write_superblock(&mut self, _: SuperblockCopy, bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<bool, StorageFailure> {
        self.superblock = *bytes;
        Ok(true)
    }
    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), StorageFailure> {
        let at = block as usize * bytes.len();
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }
    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), StorageFailure> {
        let at = block as usize * bytes.len();
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn erase(&mut self, _: u32) -> Result<(), StorageFailure> {
        Ok(())
    }
    fn sync(&mut self) -> Result<(), StorageFailure> {
        Ok(())
    }
}

#[test]
fn append_commit_rotate_read_and_acknowledge_do_not_allocate() {
    let shape = geometry(512, 16, 4, Medium::Rewritable);
    let mut memory = Memory {
        geometry: shape,
        superblock: [0; SUPERBLOCK_BYTES],
        bytes: vec![0; 512 * 16 * 4],
    };
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
        let before = ALLOCATIONS.get();
        ring.append(&world.frame, &mut world.catalogue)
            .expect("committed often enough");
        if i % 5 == 4 {
            ring.commit(&mut world.catalogue).expect("memory takes everything");
        }
        if i % 40 == 39 {
            let mut source = ring.source(0, &world.catalogue);
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
        allocated += ALLOCATIONS.get() - before;
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
