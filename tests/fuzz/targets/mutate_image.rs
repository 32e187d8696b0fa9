//! A valid ring, damaged: nothing is invented, and what the damage did not touch is still there.
//!
//! Damage is what media do: flipped bits, noise, blank, misplaced, swapped and outdated blocks, blocks and slots that cannot
//! be read, no superblocks. Noise depends on the whole input, so that the fuzzer cannot learn to write a fitting checksum:
//! who can do that can invent frames, and no ring without a key prevents it.
//!
//! Promised after any of it: the ring mounts; frames come in rising number and exactly as appended; every frame of a slot
//! that was not touched is there; frames written afterwards are there after another mount.

use super::input::Input;
use super::ring_support::{Told, World, config, formatted, tell};
use super::rings::{self, drain, shape};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use tidegate::frame::FrameNo;
use tidegate::wal::AppendError;
use tidegate::wal::format::Geometry;
use tidegate::wal::inspect::{Event, Inspector};
use tidegate::wal::storage::Storage;
use tidegate::wal::testing::Ram;

const MAX_EDITS: usize = 24;
/// Boots of a prepared ring; each lasts [`COMMITS`] commits.
const BOOTS: u8 = 4;
const COMMITS: usize = 14;

/// A ring with a history.
struct Prepared {
    geometry: Geometry,
    ram: Ram,
    /// As it was at the end of every boot, for outdated blocks.
    older: Vec<Vec<u8>>,
    frames: BTreeMap<u64, Told>,
    /// In which slot each frame is.
    places: Vec<(u64, u32)>,
    acknowledged: u64,
    now: u64,
}

fn prepare(choice: u8) -> Prepared {
    let geometry = shape(choice);
    let mut world = World::new(u64::from(choice) + 1);
    let mut ram = formatted(geometry, 1);
    let mut older = Vec::new();
    let mut frames = BTreeMap::new();
    let mut acknowledged = 0;
    for number in 1..=BOOTS {
        let mounted = rings::mount(ram, config(&geometry, 1), &mut world, number);
        let (mut ring, _) = mounted.expect("a sound ring mounts");
        world.adopt();
        for commit in 0..COMMITS {
            for _ in 0..1 + commit % 4 {
                world.scrape(ring.next_frame());
                match ring.append(&world.frame, &mut world.catalogue) {
                    Ok(number) => {
                        let mut told = tell(&world.frame, &mut world.catalogue);
                        told.number = number.0;
                        told.unix_ms = ring.unix_ms(told.time_ms);
                        frames.insert(number.0, told);
                    }
                    Err(AppendError::StagingFull) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if commit == 4 {
                acknowledged = ring.acknowledged(0).0.max(ring.next_frame().0.saturating_sub(20));
                ring.acknowledge(0, FrameNo(acknowledged));
            }
            ring.commit(&mut world.catalogue).expect("the medium is sound");
        }
        acknowledged = ring.acknowledged(0).0;
        ram = ring.into_storage().crash(&[], 1);
        older.push(ram.image().to_vec());
        world.now += 50_000;
    }
    let mut places = Vec::new();
    let mut inspector = Inspector::open(ram.clone(), None).expect("a sound ring opens");
    inspector.survey(|slot, event| {
        if let Event::Frame(frame) = event {
            places.push((frame.number.0, slot));
        }
    });
    Prepared {
        geometry,
        ram,
        older,
        frames,
        places,
        acknowledged,
        now: world.now,
    }
}

fn prepared(choice: u8) -> &'static Prepared {
    static RINGS: [OnceLock<Prepared>; 8] = [const { OnceLock::new() }; 8];
    RINGS[usize::from(choice & 7)].get_or_init(|| prepare(choice & 7))
}

/// Numbers that depend on every byte of the input.
struct Noise(u64);

impl Noise {
    fn new(data: &[u8]) -> Self {
        let mix = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        Self(data.iter().fold(0xcbf2_9ce4_8422_2325, mix) | 1)
    }

    fn next(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u8
    }
}

/// One edit; notes the blocks it touches.
fn edit(ring: &Prepared, ram: &mut Ram, input: &mut Input<'_>, noise: &mut Noise, touched: &mut [bool]) {
    let size = ring.geometry.block_bytes as usize;
    let kind = input.u8();
    let at = input.below(touched.len());
    let bytes = at * size..(at + 1) * size;
    if kind % 12 == 11 && kind & 128 == 0 {
        return ram.forget_superblocks();
    }
    touched[at] = true;
    match kind % 12 {
        0 | 1 => {
            let bit = input.below(size * 8);
            ram.damage(|image| image[bytes.start + bit / 8] ^= 1 << (bit % 8));
        }
        2 | 3 => {
            let from = input.below(size);
            let len = 1 + input.below(size - from);
            ram.damage(|image| image[bytes][from..from + len].fill_with(|| noise.next()));
        }
        4 => ram.damage(|image| image[bytes].fill(if kind & 128 == 0 { 0xff } else { 0 })),
        5 | 6 => {
            let other = input.below(touched.len());
            touched[other] = true;
            ram.damage(|image| {
                let block = image[bytes.clone()].to_vec();
                if kind & 128 == 0 {
                    image.copy_within(other * size..(other + 1) * size, bytes.start);
                }
                image[other * size..(other + 1) * size].copy_from_slice(&block);
            });
        }
        7 | 8 => {
            let older = &ring.older[input.below(ring.older.len())];
            ram.damage(|image| image[bytes.clone()].copy_from_slice(&older[bytes]));
        }
        9 => ram.unreadable.push(at as u32),
        10 => {
            // The rest of the slot was never written, or is as it was a boot ago.
            let end = (at / ring.geometry.blocks_per_slot as usize + 1) * ring.geometry.blocks_per_slot as usize;
            touched[at..end].fill(true);
            let older = &ring.older[input.below(ring.older.len())];
            let range = bytes.start..end * size;
            ram.damage(|image| match kind & 128 {
                0 => image[range].fill(0xff),
                _ => image[range.clone()].copy_from_slice(&older[range]),
            });
        }
        _ => ram.bad.push(at as u32 / ring.geometry.blocks_per_slot),
    }
}

/// Everything read is as appended; gives the numbers.
fn nothing_invented(ring: &Prepared, read: &[Told]) -> Vec<u64> {
    for told in read {
        assert_eq!(Some(told), ring.frames.get(&told.number), "invented");
    }
    read.iter().map(|told| told.number).collect()
}

/// The input: which ring, then edits.
pub fn mutate_image(data: &[u8]) {
    let mut input = Input::new(data);
    let mut noise = Noise::new(data);
    let ring = prepared(input.u8());
    let mut ram = ring.ram.clone();
    let blocks = (ring.geometry.slots * ring.geometry.blocks_per_slot) as usize;
    let mut touched = vec![false; blocks];
    for _ in 0..MAX_EDITS {
        if input.is_empty() {
            break;
        }
        edit(ring, &mut ram, &mut input, &mut noise, &mut touched);
    }
    let slots: Vec<bool> = touched
        .chunks(ring.geometry.blocks_per_slot as usize)
        .map(|blocks| blocks.contains(&true))
        .collect();
    for told in rings::inspect(&ram) {
        let appended = ring.frames.get(&told.number);
        assert_eq!(Some(&told), appended, "invented for tools");
    }
    let mut world = World::new(1);
    world.now = ring.now;
    let config = |ram: &Ram| config(&ram.geometry(), 1);
    let (mut mounted, _) = match rings::mount(ram.clone(), config(&ram), &mut world, 100) {
        Ok(mounted) => mounted,
        // No superblock and not one header that says who it is.
        Err(error) => {
            assert_eq!(error, tidegate::wal::MountError::NotFormatted);
            return;
        }
    };
    let acknowledged = mounted.acknowledged(0).0;
    assert!(acknowledged <= ring.acknowledged, "an acknowledgement is invented");
    let numbers = nothing_invented(ring, &drain(&mut mounted, &mut world.catalogue, 0));
    for &(number, slot) in &ring.places {
        let wanted = number >= ring.acknowledged && !slots[slot as usize];
        assert!(
            !wanted || numbers.binary_search(&number).is_ok(),
            "frame {number} of slot {slot} is lost, which nothing touched"
        );
    }
    world.adopt();
    let mut written = Vec::new();
    for _ in 0..4 {
        world.scrape(mounted.next_frame());
        if let Ok(number) = mounted.append(&world.frame, &mut world.catalogue) {
            let mut told = tell(&world.frame, &mut world.catalogue);
            (told.number, told.unix_ms) = (number.0, mounted.unix_ms(told.time_ms));
            written.push(told);
        }
    }
    let lapped = mounted.counters().frames_lapped;
    if mounted.commit(&mut world.catalogue).is_err() {
        assert!(
            !mounted.storage().bad.is_empty(),
            "a medium that takes writes is refused"
        );
        return;
    }
    // Where slots are bad, what is left may be lapped at once.
    let room = mounted.counters().frames_lapped == lapped;
    let ram = mounted.into_storage().crash(&[], 1);
    let (mut mounted, _) = match rings::mount(ram.clone(), config(&ram), &mut world, 101) {
        Ok(mounted) => mounted,
        Err(error) => {
            // A header that said who it is may have stood where a block that cannot be read takes its place.
            let unreadable = |block: u32| ram.unreadable.contains(&block);
            let mut headers = (0..blocks as u32).step_by(ring.geometry.blocks_per_slot as usize);
            assert!(headers.any(unreadable), "it mounted before: {error}");
            return;
        }
    };
    let read = drain(&mut mounted, &mut world.catalogue, 0);
    for told in &read {
        // Where every trace of a boot is gone, its numbers are given out again.
        let appended = ring.frames.get(&told.number);
        assert!(
            written.contains(told) || Some(told) == appended,
            "invented: {told:?}, not {appended:?}"
        );
    }
    // A block that cannot be read takes writes all the same: what is written there cannot be promised.
    if ram.unreadable.is_empty() && room {
        for told in written {
            assert!(
                read.contains(&told),
                "frame {} was written after the damage and is lost",
                told.number
            );
        }
    }
}
