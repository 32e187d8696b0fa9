//! Makes the ring images of `tests/ring_golden.rs`: what the format can say, on a few KiB each.
#![allow(dead_code, reason = "each test binary uses its part")]

use super::dump::Image;
use super::{World, boot, config, formatted, geometry};
use tidegate::clock::{Instant, UnixMillis};
use tidegate::frame::{ExtraMetrics, FrameNo, Notes};
use tidegate::value::codec::CodecId;
use tidegate::wal::dictionary::Compress;
use tidegate::wal::format::{
    BLOCK_HEADER_BYTES, BlockHeader, Geometry, Medium, SUPERBLOCK_BYTES, SUPERBLOCK_SPACE, block_seed, flag,
};
use tidegate::wal::storage::{Storage, SuperblockCopy};
use tidegate::wal::testing::Ram;
use tidegate::wal::{AppendError, Boot, ClockSource, Ring};

type Compressor = fn() -> Option<Box<dyn Compress>>;

/// The images there must be.
pub const NAMES: [&str; 8] = ["boots", "damaged", "extras", "future", "nor", "remotes", "tc0", "tc1"];

/// The image of a ring in memory, in the layout of a file or of raw flash.
pub fn file(mut ram: Ram, geometry: Geometry) -> Image {
    let mut image = Image {
        bytes: ram.image().to_vec(),
        geometry,
        first: 0,
    };
    if geometry.medium == Medium::Rewritable {
        let space = SUPERBLOCK_SPACE as usize;
        let mut bytes = vec![0; space];
        bytes.extend_from_slice(ram.image());
        bytes.resize(bytes.len() + space, 0);
        image = Image {
            bytes,
            geometry,
            first: space,
        };
        for copy in [SuperblockCopy::First, SuperblockCopy::Last] {
            let mut superblock = [0; SUPERBLOCK_BYTES];
            assert!(ram.read_superblock(copy, &mut superblock).expect("memory can be read"));
            image
                .write_superblock(copy, &superblock)
                .expect("memory can be written");
        }
    }
    image
}

/// A ring and the world it is told of.
struct Story {
    world: World,
    ram: Option<Ram>,
    codec: CodecId,
    remotes: usize,
    config_crc: u32,
    /// Samples carry histograms, exemplars and start times, frames notes.
    extras: bool,
    compress: Compressor,
}

impl Story {
    fn new(geometry: Geometry, seed: u64, compress: Compressor) -> Self {
        Self {
            world: World::new(seed),
            ram: Some(formatted(geometry, seed)),
            codec: CodecId::Tc1,
            remotes: 1,
            config_crc: 7,
            extras: false,
            compress,
        }
    }

    /// Mounts, appends `frames`, committing every `commit`, and leaves the ring as a loss of power would, or in order.
    fn boot(
        &mut self,
        boot: Boot,
        frames: usize,
        commit: usize,
        in_order: bool,
        mut then: impl FnMut(usize, &mut Ring<Ram>),
    ) {
        let ram = self.ram.take().expect("given back by the last boot");
        let mut config = config(&ram.geometry(), self.remotes);
        config.codec = self.codec;
        config.config_crc = self.config_crc;
        config.compress = (self.compress)();
        self.world.catalogue.clear();
        let (mut ring, _) = Ring::mount(ram, config, boot, &mut self.world.catalogue).expect("a ring");
        self.world.adopt();
        for frame in 0..frames {
            self.world.scrape(ring.next_frame());
            if !self.extras {
                self.world.frame.extras.clear();
                self.world.frame.notes = Notes::default();
            } else if frame % 3 == 0 {
                self.world.frame.notes = Notes {
                    ended: frame % 4 == 0,
                    extra: (frame % 2 == 0).then_some(ExtraMetrics {
                        timeout_ms: 10_000,
                        sample_limit: frame as u32,
                        body_bytes: 65_000 - 10_000 * frame as i64,
                    }),
                };
            }
            while let Err(error) = ring.append(&self.world.frame, &mut self.world.catalogue) {
                assert_eq!(error, AppendError::StagingFull);
                ring.commit(&mut self.world.catalogue).expect("a sound medium");
            }
            then(frame, &mut ring);
            if frame % commit == commit - 1 {
                ring.commit(&mut self.world.catalogue).expect("a sound medium");
            }
        }
        if in_order {
            ring.close(&mut self.world.catalogue).expect("a sound medium");
        }
        self.ram = Some(ring.into_storage());
    }

    fn end(self) -> Image {
        let ram = self.ram.expect("given back by the last boot");
        let geometry = ram.geometry();
        file(ram, geometry)
    }
}

/// A boot that does not know the time.
fn clockless(number: u8, now: u64) -> Boot {
    Boot {
        wall: None,
        error_ms: 0,
        ..boot(number, now)
    }
}

pub fn all(compress: Compressor) -> Vec<(&'static str, Vec<u8>)> {
    let tc1 = plain(CodecId::Tc1, geometry(512, 16, 4, Medium::Rewritable), 11, compress);
    let images = [
        ("boots", boots(compress)),
        ("damaged", damaged(tc1.clone())),
        ("extras", extras(compress)),
        ("future", future(tc1.clone())),
        (
            "nor",
            plain(CodecId::Tc1, geometry(1024, 8, 4, Medium::WriteOnce), 12, compress),
        ),
        ("remotes", remotes(compress)),
        (
            "tc0",
            plain(CodecId::Tc0, geometry(512, 16, 4, Medium::Rewritable), 13, compress),
        ),
        ("tc1", tc1),
    ];
    images.map(|(name, image)| (name, image.bytes)).into()
}

/// Two boots, the ring lapped once; series come and go, scrapes fail, some samples have their own times.
fn plain(codec: CodecId, geometry: Geometry, seed: u64, compress: Compressor) -> Image {
    let mut story = Story::new(geometry, seed, compress);
    story.codec = codec;
    for number in 1..3 {
        let now = story.world.now;
        story.boot(boot(number, now), 160, 5, number == 2, |_, _| {});
    }
    story.end()
}

/// Samples and scrapes carry what they can.
fn extras(compress: Compressor) -> Image {
    let mut story = Story::new(geometry(1024, 8, 3, Medium::Rewritable), 16, compress);
    story.extras = true;
    let now = story.world.now;
    story.boot(boot(1, now), 60, 7, true, |_, _| {});
    story.end()
}

/// Six boots, the configuration another from the fourth on: with a clock, without, one that learns the time late, one whose clock steps.
fn boots(compress: Compressor) -> Image {
    let mut story = Story::new(geometry(512, 32, 3, Medium::Rewritable), 14, compress);
    for number in 1..7 {
        story.world.now = 1_000 * u64::from(number);
        let began = story.world.now;
        let this = if number % 2 == 1 {
            clockless(number, began)
        } else {
            boot(number, began)
        };
        story.config_crc = if number < 4 { 7 } else { 8 };
        story.boot(this, 25, 4, number == 6, |frame, ring| {
            let (at, wall) = (Instant(began + 500), 1_710_000_000_000 + i64::from(number) * 3_600_000);
            match (number, frame) {
                (3, 15) => ring.clock(at, UnixMillis(wall), ClockSource::Synchronised, 20),
                (4, 10 | 20) => ring.clock(
                    at,
                    UnixMillis(wall + frame as i64 * 60_000),
                    ClockSource::Synchronised,
                    1,
                ),
                (5, 24) => ring.clock(at, UnixMillis(wall), ClockSource::Manual, 900),
                _ => {}
            }
        });
    }
    story.end()
}

/// Two receivers at different places, a ring lapped by the slower one.
fn remotes(compress: Compressor) -> Image {
    let mut story = Story::new(geometry(512, 16, 4, Medium::Rewritable), 15, compress);
    story.remotes = 2;
    for number in 1..3 {
        let now = story.world.now;
        story.boot(boot(number, now), 220, 3, false, |frame, ring| {
            let next = ring.next_frame().0;
            if frame % 10 == 9 {
                ring.acknowledge(0, FrameNo(next.saturating_sub(4)));
            }
            if frame == 100 {
                ring.acknowledge(1, FrameNo(next.saturating_sub(60)));
            }
            if frame % 50 == 30 {
                let loss = tidegate::wal::LossReport {
                    reason: tidegate::wal::Reason::Rejected,
                    first: FrameNo(next.saturating_sub(9)),
                    last: FrameNo(next.saturating_sub(7)),
                    frames: 1,
                    samples: 17,
                    unix_ms: Some((1_700_000_000_000, 1_700_000_009_000)),
                };
                ring.record_loss(&loss);
            }
        });
    }
    story.end()
}

/// One bit of a block in the middle of a segment has turned, and the first block of another is gone.
fn damaged(mut image: Image) -> Image {
    let (block, segment) = (
        image.geometry.block_bytes as usize,
        image.geometry.segment_bytes() as usize,
    );
    let slots = oldest_first(&image);
    let middle = image.first + slots[1] as usize * segment + 5 * block;
    image.bytes[middle + BLOCK_HEADER_BYTES + 3] ^= 0x10;
    let head = image.first + slots[0] as usize * segment;
    image.bytes[head..head + block].fill(0);
    image
}

/// Slots with a segment, oldest first.
fn oldest_first(image: &Image) -> Vec<u32> {
    let mut slots: Vec<(u32, u32)> = (0..image.geometry.slots)
        .filter_map(|slot| Some((load(image, slot, 0)?.0.seq, slot)))
        .collect();
    slots.sort_unstable();
    slots.into_iter().map(|(_, slot)| slot).collect()
}

fn uuid(image: &Image) -> [u8; 16] {
    image.bytes[24..40].try_into().expect("sixteen")
}

fn load(image: &Image, slot: u32, index: u32) -> Option<(BlockHeader, Vec<u8>)> {
    let size = image.geometry.block_bytes as usize;
    let at = image.first + image.geometry.block(slot, index) as usize * size;
    let bytes = &image.bytes[at..at + size];
    let header = BlockHeader::parse(bytes, block_seed(&uuid(image), slot)).ok()?;
    Some((header, bytes[BLOCK_HEADER_BYTES..][..usize::from(header.used)].to_vec()))
}

fn store(image: &mut Image, slot: u32, index: u32, header: &BlockHeader, payload: &[u8]) {
    let size = image.geometry.block_bytes as usize;
    let at = image.first + image.geometry.block(slot, index) as usize * size;
    let mut block = vec![0xff; size];
    block[BLOCK_HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
    let header = BlockHeader {
        used: payload.len() as u16,
        ..*header
    };
    header.emit(&mut block, block_seed(&uuid(image), slot));
    image.bytes[at..at + size].copy_from_slice(&block);
}

/// Writes `record` behind the last one of the first block of a slot in which a record ends and there is room, but for those before `from`.
fn insert(image: &mut Image, slot: u32, from: u32, record: &[u8]) {
    let blocks = image.geometry.blocks_per_slot;
    let room = image.geometry.payload_bytes() - record.len();
    let ends = |image: &Image, index: u32| match load(image, slot, index + 1) {
        // The next block begins with a record, so this one ends with one.
        Some((next, _)) => next.first_record == 0,
        None => true,
    };
    let index = (from..blocks)
        .find(|&index| load(image, slot, index).is_some_and(|(_, payload)| payload.len() <= room) && ends(image, index))
        .expect("commits leave room");
    let (header, mut payload) = load(image, slot, index).expect("just found");
    payload.extend_from_slice(record);
    store(image, slot, index, &header, &payload);
    for later in index + 1..blocks {
        if let Some((mut behind, payload)) = load(image, slot, later)
            && (behind.seq, behind.epoch) == (header.seq, header.epoch)
        {
            behind.stream_offset += record.len() as u32;
            store(image, slot, later, &behind, &payload);
        }
    }
}

/// Of a later version: records this one does not know, one of them not to be skipped, and a segment of another major.
fn future(mut image: Image) -> Image {
    let slots = oldest_first(&image);
    let (header, mut payload) = load(&image, slots[0], 0).expect("the oldest segment");
    assert!(
        header.flags & flag::FIRST != 0 && payload[0] == 1 && payload[3] < 0x80,
        "SEGHDR, its length in two bytes or one"
    );
    let major = if payload[1] < 0x80 { 2 } else { 3 };
    payload[major] = 2;
    store(&mut image, slots[0], 0, &header, &payload);
    insert(&mut image, slots[1], 4, &[0xc1, 3, 1, 2, 3]);
    insert(&mut image, slots[2], 6, &[0x41, 2, 9, 9]);
    image
}
