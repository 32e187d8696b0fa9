//! Going through any ring in every way there is, held to what holds for any image.

use super::ring_support::{self, EXTRAS_BYTES, Told, World, tell};
use tidegate::catalogue::Catalogue;
use tidegate::frame::{Frame, FrameNo, FrameSource, Next};
use tidegate::host::snappy::Dictionaries;
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::inspect::Inspector;
use tidegate::wal::testing::Ram;
use tidegate::wal::values::FrameReader;
use tidegate::wal::{MountError, MountReport, Ring, RingConfig};

/// More steps than any image of these sizes has records.
const MANY: usize = 200_000;

pub fn config(geometry: &Geometry, remotes: usize, snappy: bool) -> RingConfig {
    let mut config = ring_support::config(geometry, remotes);
    if snappy {
        config.compress = Some(Box::new(Dictionaries::new()));
    }
    config
}

/// Small shapes; all have room for the control blocks of [`ring_support::config`].
pub fn shape(choice: u8) -> Geometry {
    let medium = if choice & 4 == 0 {
        Medium::Rewritable
    } else {
        Medium::WriteOnce
    };
    match choice & 3 {
        0 => ring_support::geometry(256, 16, 3, medium),
        1 => ring_support::geometry(256, 32, 4, medium),
        2 => ring_support::geometry(512, 8, 5, medium),
        _ => ring_support::geometry(1024, 8, 3, medium),
    }
}

pub fn mount(
    ram: Ram,
    config: RingConfig,
    world: &mut World,
    number: u8,
) -> Result<(Ring<Ram>, MountReport), MountError> {
    Ring::mount(ram, config, ring_support::boot(number, world.now), &mut world.catalogue)
}

/// Everything a remote can read, from where it stands acknowledged: it ends, and numbers rise.
pub fn drain(ring: &mut Ring<Ram>, catalogue: &mut Catalogue, remote: usize) -> Vec<Told> {
    let from = ring.acknowledged(remote);
    let mut frame = Frame::with_extras(32, EXTRAS_BYTES);
    let mut all: Vec<Told> = Vec::new();
    let mut source = ring.source(remote, catalogue);
    source.seek(FrameNo(from.0));
    for _ in 0..MANY {
        match source.next(&mut frame).expect("the ring counts, it does not fail") {
            Next::Frame => {
                assert!(
                    all.last().is_none_or(|last| last.number < frame.number.0),
                    "frame {} after {:?}",
                    frame.number.0,
                    all.last()
                );
                all.push(tell(&frame, source.names()));
            }
            Next::Boundary => {}
            Next::End => return all,
        }
    }
    panic!("reading does not end");
}

/// The tools' ways through an image; gives the numbers of the frames whose values can be read.
pub fn inspect(ram: &Ram) -> Vec<Told> {
    let Ok(mut inspector) = Inspector::open(ram.clone(), Some(Box::new(Dictionaries::new()))) else {
        return Vec::new();
    };
    let mut events = 0;
    inspector.survey(|_, _| events += 1);
    assert!(events < MANY, "{events} events");
    let mut all: Vec<Told> = Vec::new();
    FrameReader::new(inspector).for_each(|read| {
        let told = tell(read.frame, &mut *read.catalogue);
        assert!(all.last().is_none_or(|last| last.number < told.number), "numbers rise");
        all.push(told);
        assert!(all.len() < MANY, "reading does not end");
    });
    all
}
