//! Ring images of this version, kept: every later version reads them to the same samples.
//!
//! `tests/testdata/rings/*.ring` are whole images, `*.txt` what is in them. `TIDEGATE_GOLDEN=write` makes those that are
//! missing; what is there is never written again. With `TIDEGATE_RINGS_TO=DIRECTORY` fresh rings of all captures (`TIDEGATE_CAPTURES=DIRECTORY`: of those)
//! and their dumps are left there, for `scripts/check-format`. Where there is a `python3` the independent reader must say the same.

#[path = "common/capture.rs"]
mod capture;
#[path = "common/capture_ring.rs"]
mod capture_ring;
mod ring_support;

use capture::Capture;
use capture_ring::Player;
use ring_support::dump::{Image, dump};
use ring_support::images;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::catalogue::Catalogue;
use tidegate::frame::Frame;
use tidegate::host::snappy::Dictionaries;
use tidegate::sample::TargetRef;
use tidegate::value::codec::CodecId;
use tidegate::wal::Ring;
use tidegate::wal::dictionary::Compress;
use tidegate::wal::format::Medium;
use tidegate::wal::inspect::Inspector;
use tidegate::wal::values::FrameReader;

fn compressor() -> Option<Box<dyn Compress>> {
    Some(Box::new(Dictionaries::new()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rings() -> PathBuf {
    root().join("tests/testdata/rings")
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(rings()).expect("test data is part of the repository");
    let files = entries.map(|entry| entry.expect("directory can be read").file_name());
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.to_str()?.strip_suffix(".ring")?.to_owned()))
        .collect();
    names.sort();
    names
}

fn dump_of(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let image = Image::open(bytes).unwrap_or_else(|| panic!("{}: no ring", path.display()));
    dump(&image, compressor)
}

/// The first line in which two dumps differ.
fn assert_same(name: &str, whose: &str, found: &str, expected: &str) {
    let mut lines = found.lines().zip(expected.lines()).enumerate();
    if let Some((at, (found, expected))) = lines.find(|(_, (found, expected))| found != expected) {
        panic!("{name}, line {}: {whose} says\n{found}\nexpected\n{expected}", at + 1);
    }
    assert_eq!(
        found.lines().count(),
        expected.lines().count(),
        "{name}: lines of {whose}"
    );
}

#[test]
fn images_of_this_version_read_as_they_always_did() {
    let write = std::env::var("TIDEGATE_GOLDEN").is_ok_and(|value| value == "write");
    if write {
        for (name, image) in images::all(compressor) {
            let path = rings().join(format!("{name}.ring"));
            if !path.exists() {
                std::fs::write(path, &image).expect("the tree can be written");
            }
        }
    }
    let names = names();
    assert!(names.len() >= images::NAMES.len(), "images are missing: {names:?}");
    for name in names {
        let found = dump_of(&rings().join(format!("{name}.ring")));
        let expected = rings().join(format!("{name}.txt"));
        if write && !expected.exists() {
            std::fs::write(&expected, &found).expect("the tree can be written");
        }
        let expected = std::fs::read_to_string(&expected).expect("every image has its text");
        assert_same(&name, "this version", &found, &expected);
    }
}

#[test]
fn images_of_this_version_mount() {
    for name in names() {
        let bytes = std::fs::read(rings().join(format!("{name}.ring"))).expect("just listed");
        let image = Image::open(bytes).expect("a ring");
        let mut catalogue = ring_support::catalogue();
        let config = ring_support::config(&image.geometry, 2);
        let (ring, report) = Ring::mount(image.clone(), config, ring_support::boot(99, 1), &mut catalogue)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(report.segments > 0, "{name}: {report:?}");
        assert_eq!(report.foreign_segments > 0, name == "future", "{name}");
        assert_eq!(report.headless_slots > 0, name == "damaged", "{name}");
        assert!(
            ring.into_storage().bytes == image.bytes,
            "{name}: mounting writes nothing"
        );
    }
}

#[test]
fn the_independent_reader_says_the_same_of_every_image() {
    let reader = root().join("tests/ring_reader/read_ring.py");
    for name in names() {
        let ring = rings().join(format!("{name}.ring"));
        let Ok(output) = Command::new("python3").arg(&reader).arg(&ring).output() else {
            eprintln!("NOT CHECKED: there is no python3; run scripts/check-format where there is one");
            return;
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
        let found = String::from_utf8(output.stdout).expect("text");
        let expected = std::fs::read_to_string(rings().join(format!("{name}.txt"))).expect("every image has its text");
        assert_same(&name, "the independent reader", &found, &expected);
    }
}

/// The capture in a new ring large enough for all of it.
fn ring_of(capture: &Capture, codec: CodecId) -> Image {
    let max_series = capture.series.len();
    let text_bytes = 4096 + capture.series.iter().map(|text| text.len() + 16).sum::<usize>();
    let segments = (capture.samples() * 2 / (64 << 10)) as u32 + 6;
    let geometry = ring_support::geometry(4096, 16, segments, Medium::Rewritable);
    let ram = ring_support::formatted(geometry, 1);
    let mut config = ring_support::config(&geometry, 1);
    config.codec = codec;
    config.max_series = max_series;
    config.max_frame_samples = max_series;
    config.extras_bytes = 0;
    config.text_bytes = text_bytes;
    config.compress = compressor();
    let mut catalogue = Catalogue::new(max_series, text_bytes, 1);
    let boot = ring_support::boot(1, 1_000);
    let (mut ring, _) = Ring::mount(ram, config, boot, &mut catalogue).expect("a new ring");
    let mut player = Player::new(capture, TargetRef(0), &mut catalogue);
    for _ in &capture.scrapes {
        player.scrape(ring.next_frame(), &mut catalogue);
        while ring.append(&player.frame, &mut catalogue).is_err() {
            ring.commit(&mut catalogue).expect("a sound medium");
        }
    }
    ring.close(&mut catalogue).expect("a sound medium");
    images::file(ring.into_storage(), geometry)
}

#[test]
fn captures_go_through_a_ring_bit_for_bit() {
    let to = std::env::var_os("TIDEGATE_RINGS_TO").map(PathBuf::from);
    for path in capture::checked_in() {
        let capture = Capture::read(&path);
        for codec in [CodecId::Tc0, CodecId::Tc1] {
            let image = ring_of(&capture, codec);
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            let inspector = Inspector::open(image.clone(), compressor()).expect("a ring");
            let mut scrapes = capture.scrapes.iter().zip(&capture.explicit);
            let mut names = vec![None; capture.series.len()];
            let unreadable = FrameReader::new(inspector).for_each(|read| {
                let frame: &Frame = read.frame;
                let (samples, explicit) = scrapes.next().expect("no more frames than scrapes");
                assert_eq!(frame.samples.len(), samples.len(), "{name}");
                assert_eq!(&*frame.explicit, &explicit[..], "{name}");
                for (found, sample) in frame.samples.iter().zip(samples) {
                    assert_eq!(found.number.to_bits(), sample.number.to_bits(), "{name} {codec:?}");
                    let (metric, body) = names[usize::from(sample.series.0)]
                        .get_or_insert_with(|| capture::canonical(&capture.series[usize::from(sample.series.0)]));
                    let text = read.catalogue.text(found.series).expect("a name");
                    assert_eq!((text.name, text.body), (metric.as_str(), body.as_str()), "{name}");
                }
            });
            assert_eq!((unreadable, scrapes.count()), (0, 0), "{name}: every scrape is there");
            if let Some(to) = &to {
                let to = |kind: &str| to.join(format!("{name}.{codec:?}.{kind}"));
                std::fs::write(to("ring"), &image.bytes).expect("the directory can be written");
                std::fs::write(to("txt"), dump(&image, compressor)).expect("the directory can be written");
            }
        }
    }
}
