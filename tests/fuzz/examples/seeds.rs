//! Writes the seeds of the ring targets into `tests/fuzz/corpus/`: real records and blocks, and short programs.
//!
//! Usage: cargo run --manifest-path tests/fuzz/Cargo.toml --example seeds
//! The other targets' seeds are pieces of real files and stand in the corpus as they are.

use std::fs;
use std::path::Path;
use tidegate::catalogue::SeriesText;
use tidegate::frame::{Bounded, FrameNo};
use tidegate::host::snappy::Dictionaries;
use tidegate::sample::{MetricType, TargetRef};
use tidegate::value::codec::CodecId;
use tidegate::wal::Ring;
use tidegate::wal::dictionary::{self, Compress as _, DictHead};
use tidegate::wal::format::{BlockHeader, Geometry, Medium, block_seed, payload};
use tidegate::wal::record::Start;
use tidegate::wal::testing::{FrameCoding, Ram};

#[path = "../../ring_support/mod.rs"]
mod ring_support;

use ring_support::{UUID, World, boot, config, formatted, geometry};

fn save(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("the corpus can be written");
    fs::write(folder.join(name), bytes).expect("the corpus can be written");
}

fn piece(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("a piece is short");
    [&len.to_le_bytes(), bytes].concat()
}

fn frames() {
    for (options, codec) in [(0, CodecId::Tc0), (1, CodecId::Tc1)] {
        for seed in 0..3 {
            let mut world = World::new(seed);
            let mut coding = FrameCoding::new(codec, ring_support::MAX_SERIES);
            coding.start(&Start {
                epoch: 1,
                boot_id: [7; 16],
                mono_ms: 1_000,
                wall_ms: 0,
                clock: 0,
                error_ms: 0,
                frame_no: 0,
                prior: 0,
                config_crc: 0,
            });
            let mut bytes = vec![options, ring_support::MAX_SERIES as u8 - 1];
            for number in 0..12 {
                world.scrape(FrameNo(number));
                let mut out = Bounded::with_capacity(4096);
                coding.encode(&world.frame, &mut out).expect("room for a frame");
                bytes.extend(piece(&out));
            }
            save("frame_decode", &format!("frames-tc{options}-{seed}"), &bytes);
        }
    }
}

/// A ring after some scrapes.
fn ring(geometry: Geometry, commits: usize) -> Ram {
    let mut world = World::new(commits as u64);
    let ram = formatted(geometry, 1);
    let mounted = Ring::mount(ram, config(&geometry, 2), boot(1, world.now), &mut world.catalogue);
    let mut ring = mounted.expect("a fresh ring mounts").0;
    for commit in 0..commits {
        for _ in 0..3 {
            world.scrape(ring.next_frame());
            ring.append(&world.frame, &mut world.catalogue)
                .expect("room in staging");
        }
        if commit == 2 {
            ring.acknowledge(0, FrameNo(4));
            ring.acknowledge(1, FrameNo(6));
        }
        ring.commit(&mut world.catalogue).expect("the medium is sound");
    }
    ring.into_storage().crash(&[], 1)
}

fn images() {
    let shapes = [
        (0, geometry(256, 16, 3, Medium::Rewritable)),
        (6, geometry(512, 8, 5, Medium::WriteOnce)),
        (3, geometry(1024, 8, 3, Medium::Rewritable)),
    ];
    for (options, shape) in shapes {
        for commits in [2, 9] {
            let ram = ring(shape, commits);
            let size = shape.block_bytes as usize;
            let (mut image, mut stream) = (Vec::new(), Vec::new());
            for (at, block) in ram.image().chunks(size).enumerate() {
                let slot = at as u32 / shape.blocks_per_slot;
                let Ok(header) = BlockHeader::parse(block, block_seed(&UUID, slot)) else {
                    continue;
                };
                image.push(u8::try_from(at).expect("few blocks"));
                image.extend(piece(&block[..32 + usize::from(header.used)]));
                if slot == 1 {
                    stream.extend_from_slice(payload(block, &header));
                }
            }
            for (name, option) in [("as-is", 0), ("repaired", 8), ("headless", 16)] {
                let bytes = [&[options | option], &image[..]].concat();
                save("mount_image", &format!("{name}-{options}-{commits}"), &bytes);
            }
            let stream = &stream[..stream.len().min(3000)];
            // Without own START; the stream has its own header as well.
            let bytes = [&[options | 16][..], &piece(&[0; 4]), &piece(stream)].concat();
            save("record_walk", &format!("stream-{options}-{commits}"), &bytes);
        }
    }
}

fn dictionaries() {
    let texts = [
        ("http_requests_total", r#"code="200",path="/a""#),
        ("http_requests_total", r#"code="404",path="/a""#),
        ("up", ""),
        ("löwe", r#"größe="groß""#),
    ];
    let (mut entries, mut before) = (Bounded::with_capacity(1000), None);
    for (name, body) in texts {
        let text = SeriesText { name, body };
        dictionary::put_entry(&mut entries, before, text, MetricType::Counter).expect("room");
        before = Some(text);
    }
    let mut packed = vec![0; 1000];
    let len = Dictionaries::new().compress(&entries, &mut packed).expect("room");
    for (options, method, bytes) in [(0, 0, &entries[..]), (1, 1, &packed[..len])] {
        let mut record = Bounded::with_capacity(1000);
        let head = DictHead {
            target: TargetRef(2),
            first: 10,
            count: texts.len() as u16,
            method,
            raw_len: entries.len(),
            packed: bytes,
        };
        head.emit(&mut record).expect("room");
        let twice = [&[options], &piece(&record)[..], &piece(&record)].concat();
        save("dict_decode", &format!("record-{method}"), &twice);
    }
    save(
        "dict_decode",
        "texts",
        &[&[2, 5], &b"metric"[..], &[9], b"a=\"b\",c="].concat(),
    );
}

fn programs() {
    let mut rng = fastrand::Rng::with_seed(7);
    for (target, len) in [("ops", 120), ("mutate_image", 24), ("clock_rebase", 90)] {
        for choice in 0..8u8 {
            let mut bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
            bytes[0] = choice;
            save(target, &format!("program-{choice}"), &bytes);
        }
    }
}

fn main() {
    frames();
    dictionaries();
    images();
    programs();
}
