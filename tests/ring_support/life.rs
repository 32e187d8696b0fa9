//! A ring in memory that is mounted, appended to and committed, boot after boot.

use super::{Told, World, boot, config, geometry, tell};
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::storage::Storage as _;
use tidegate::wal::testing::Ram;
use tidegate::wal::{AppendError, MountReport, Ring, RingConfig};

pub fn small() -> Geometry {
    geometry(512, 16, 4, Medium::Rewritable)
}

pub fn mount_with(ram: Ram, config: RingConfig, world: &mut World, number: u8) -> (Ring<Ram>, MountReport) {
    let mounted = Ring::mount(ram, config, boot(number, world.now), &mut world.catalogue);
    let (ring, report) = mounted.expect("the image is a ring");
    world.adopt();
    (ring, report)
}

pub fn mount(ram: Ram, world: &mut World, number: u8) -> (Ring<Ram>, MountReport) {
    let config = config(&ram.geometry(), 1);
    mount_with(ram, config, world, number)
}

pub fn append(ring: &mut Ring<Ram>, world: &mut World) -> Result<Told, AppendError> {
    world.scrape(ring.next_frame());
    let number = ring.append(&world.frame, &mut world.catalogue)?;
    let mut told = tell(&world.frame, &mut world.catalogue);
    told.number = number.0;
    told.unix_ms = ring.unix_ms(told.time_ms);
    Ok(told)
}

pub fn fill(ring: &mut Ring<Ram>, world: &mut World, frames: usize) -> Vec<Told> {
    (0..frames)
        .map(|i| {
            if i % 5 == 4 {
                ring.commit(&mut world.catalogue).expect("the medium is sound");
            }
            append(ring, world).expect("committed often enough")
        })
        .collect()
}
