//! A stream of arbitrary records in sound blocks: what a writer of another version, or an adversary, could leave.
//!
//! Promised: walking, mounting and draining end without panic, whatever the records say; skippable unknown records are
//! passed over.

use super::input::Input;
use super::ring_support::{UUID, World, formatted};
use super::rings::{self, config, shape};
use tidegate::frame::Bounded;
use tidegate::wal::counters::Loss;
use tidegate::wal::format::{BLOCK_HEADER_BYTES, BlockHeader, Geometry, MAJOR, NO_RECORD, block_seed, flag};
use tidegate::wal::record::{self, MAX_CONTROL_BYTES, SegmentHeader, Start, kind};

/// Header of segment `seq`: sound unless the input says otherwise.
fn segment(geometry: &Geometry, seq: u64, input: &mut Input<'_>) -> SegmentHeader {
    let odd = input.u8();
    let mut word = |bit: u8, usual: u64| if odd & bit == 0 { usual } else { input.u64() };
    SegmentHeader {
        major: MAJOR,
        minor: 0,
        uuid: UUID,
        seq,
        slots: geometry.slots,
        log2_block: geometry.block_bytes.trailing_zeros() as u8,
        log2_segment: geometry.segment_bytes().trailing_zeros() as u8,
        slot: (seq % u64::from(geometry.slots)) as u32,
        tail_seq: word(1, 1),
        frame_no: word(2, seq.wrapping_mul(10)),
        dropped_samples: 0,
        dropped_segments: 0,
        config_crc: 7,
        codec: word(4, 1) as u8,
        ack: word(8, 0),
        prior: word(2, seq.wrapping_mul(10)),
        tail_frame: word(16, 0),
        counted_frame: word(32, 0),
        frames: word(64, 10),
        samples: word(64, 100),
        wall_ms: word(128, 1_700_000_000_000) as i64,
        max_series: 60,
        losses: [Loss {
            frames: word(64, 0),
            samples: word(64, 0),
            first_ms: word(128, 0) as i64,
            last_ms: word(128, 0) as i64,
        }; Loss::IN_HEADER],
    }
}

fn start(seq: u64, input: &mut Input<'_>) -> Start {
    let odd = input.u8();
    let mut word = |bit: u8, usual: u64| if odd & bit == 0 { usual } else { input.u64() };
    Start {
        epoch: 1,
        boot_id: [word(1, 1) as u8; 16],
        mono_ms: word(2, seq.wrapping_mul(1_000)),
        wall_ms: word(4, 1_700_000_000_000) as i64,
        clock: word(8, 2) as u8,
        error_ms: 0,
        frame_no: word(16, seq.wrapping_mul(10)),
        prior: word(32, seq.wrapping_mul(10)),
        config_crc: 7,
    }
}

/// Cuts a stream into blocks and puts them into the slot; odd headers where the input says so.
fn lay(geometry: &Geometry, image: &mut [u8], seq: u64, stream: &[u8], input: &mut Input<'_>) {
    let slot = (seq % u64::from(geometry.slots)) as u32;
    let size = geometry.block_bytes as usize;
    let (mut rest, mut offset, mut flags) = (stream, 0, flag::FIRST | flag::SYNC);
    for index in geometry.first_block()..geometry.blocks_per_slot {
        if rest.is_empty() {
            break;
        }
        let odd = input.u8();
        let used = if odd & 1 == 0 {
            geometry.payload_bytes()
        } else {
            1 + input.below(geometry.payload_bytes())
        };
        let (payload, after) = rest.split_at(used.min(rest.len()));
        rest = after;
        let header = BlockHeader {
            flags: if odd & 2 == 0 { flags } else { input.u8() },
            seq: if odd & 4 == 0 { seq as u32 } else { input.u32() },
            index: index as u16,
            used: payload.len() as u16,
            first_record: if odd & 8 == 0 { 0 } else { NO_RECORD },
            dictionary: if odd & 16 == 0 { 0 } else { input.u16() },
            ack: if odd & 32 == 0 { 0 } else { input.u32() },
            stream_offset: if odd & 64 == 0 { offset } else { input.u32() },
            epoch: if odd & 128 == 0 { 1 } else { input.u32() },
        };
        offset += payload.len() as u32;
        flags = 0;
        let at = geometry.block(slot, index) as usize * size;
        let block = &mut image[at..at + size];
        block[BLOCK_HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
        header.emit(block, block_seed(&UUID, slot));
    }
}

/// The input: options; a piece that decides on headers; then for each of up to four segments the records of its stream.
pub fn record_walk(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let geometry = shape(options);
    let mut headers = Input::new(input.piece());
    let mut ram = formatted(geometry, 1);
    ram.damage(|image| {
        for seq in 1..=1 + u64::from(options >> 6) {
            let seq = if options & 8 == 0 { seq } else { headers.u64() };
            let mut stream = Bounded::with_capacity(4 * MAX_CONTROL_BYTES + data.len());
            let buffer = &mut [0; MAX_CONTROL_BYTES];
            let segment = segment(&geometry, seq, &mut headers);
            record::emit(kind::SEGMENT, &segment, buffer, &mut stream).expect("room for a header");
            if options & 16 == 0 {
                let start = start(seq, &mut headers);
                record::emit(kind::START, &start, buffer, &mut stream).expect("room for a start");
            }
            stream.extend(input.piece()).expect("room for the input");
            lay(&geometry, image, seq, &stream, &mut headers);
        }
    });
    rings::inspect(&ram);
    let mut world = World::new(1);
    let Ok((mut ring, _)) = rings::mount(ram, config(&geometry, 2, options & 32 != 0), &mut world, 3) else {
        return;
    };
    for remote in 0..2 {
        rings::drain(&mut ring, &mut world.catalogue, remote);
    }
    world.adopt();
    world.scrape(ring.next_frame());
    let _ = ring.append(&world.frame, &mut world.catalogue);
    // Whatever stands there may be full, or of another version.
    let _ = ring.close(&mut world.catalogue);
    rings::drain(&mut ring, &mut world.catalogue, 0);
    rings::inspect(ring.storage());
}
