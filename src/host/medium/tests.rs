use super::block::tests::{in_file, tempdir};
use super::*;
use crate::wal::inspect::Inspector;
use alloc::string::ToString as _;
use alloc::vec;
use std::path::PathBuf;

const SHAPE: Shape = Shape {
    ring_bytes: 8192 + 4 * 16_384,
    segment_bytes: 16_384,
    block_bytes: 1024,
};

fn naming() -> Naming<'static> {
    Naming {
        uuid: *b"0123456789abcdef",
        created_ms: 1_700_000_000_000,
        label: "pump",
    }
}

struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        Self(tempdir())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_second_instance_is_refused_by_name_and_so_is_formatting_under_it() {
    let directory = Temporary::new();
    let path = directory.path("ring");
    let first = Medium::create(&path, &SHAPE, &naming()).expect("a new file");
    for error in [
        Medium::open(&path, &SHAPE).expect_err("locked"),
        Medium::format(&path, &SHAPE, &naming(), true).expect_err("locked"),
    ] {
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
        assert!(error.to_string().contains(&*path.to_string_lossy()));
    }
    drop(first);
    assert!(Medium::open(&path, &SHAPE).is_ok());
}

#[test]
fn another_size_is_refused_and_nothing_changed() {
    let directory = Temporary::new();
    let path = directory.path("ring");
    drop(Medium::create(&path, &SHAPE, &naming()).expect("a new file"));
    let before = std::fs::read(&path).expect("there");
    let larger = Shape {
        ring_bytes: SHAPE.ring_bytes + 16_384,
        ..SHAPE
    };
    let error = Medium::open(&path, &larger).expect_err("another size");
    assert!(matches!(error, OpenError::Size { found, expected, .. }
        if found == SHAPE.ring_bytes && expected == larger.ring_bytes));
    assert_eq!(std::fs::read(&path).expect("there"), before);
}

#[test]
fn formatting_a_file_needs_force_when_something_is_there() {
    let directory = Temporary::new();
    let path = directory.path("ring");
    drop(Medium::format(&path, &SHAPE, &naming(), false).expect("nothing is there"));
    let error = Medium::format(&path, &SHAPE, &naming(), false).expect_err("a ring is there");
    assert!(matches!(error, OpenError::Exists { what: "a ring", .. }), "{error}");
    std::fs::write(&path, b"diary").expect("ours");
    let error = Medium::format(&path, &SHAPE, &naming(), false).expect_err("a diary is there");
    assert!(matches!(error, OpenError::Exists { what: "something", .. }), "{error}");
    assert_eq!(std::fs::read(&path).expect("there"), b"diary");
    drop(Medium::format(&path, &SHAPE, &naming(), true).expect("forced"));
    assert!(open_image(&path).is_ok());
    assert!(!directory.path("ring.new").exists());
}

#[test]
fn a_file_that_cannot_be_filled_leaves_nothing_behind() {
    let directory = Temporary::new();
    let path = directory.path("missing/ring");
    assert!(Medium::create(&path, &SHAPE, &naming()).is_err());
    assert!(std::fs::read_dir(&directory.0).expect("there").next().is_none());
}

#[test]
fn what_is_no_medium_is_refused() {
    for path in ["/dev/null", "/tmp"] {
        let error = Medium::open(Path::new(path), &SHAPE).expect_err("no medium");
        assert!(matches!(error, OpenError::NotAMedium { .. }), "{error}");
    }
}

#[test]
fn a_missing_device_is_never_made_as_a_file() {
    for (path, kind) in [
        ("/dev/disk/by-partlabel/tidegate-ring-missing", Kind::Block),
        ("/dev/mtd-tidegate-ring-missing", Kind::Mtd),
    ] {
        let path = Path::new(path);
        assert_eq!(Kind::of(path).expect("by its name"), kind);
        let error = Medium::open(path, &SHAPE).expect_err("missing");
        assert!(matches!(error, OpenError::NoDevice { .. }), "{error}");
        assert!(error.to_string().contains("there is no device"), "{error}");
        assert!(!path.exists());
    }
    assert_eq!(
        Kind::of(Path::new("/dev/shm/tidegate-ring-missing")).expect("RAM"),
        Kind::File
    );
    assert_eq!(Kind::of(Path::new("/devices/ring")).expect("no /dev"), Kind::File);
}

#[test]
fn sizes_outside_the_format_are_refused_with_the_limits() {
    for shape in [
        Shape {
            ring_bytes: 20_000,
            ..SHAPE
        },
        Shape {
            block_bytes: 100,
            ..SHAPE
        },
        Shape {
            segment_bytes: 20_000,
            ..SHAPE
        },
    ] {
        let error = Medium::create(Path::new("/nowhere/ring"), &shape, &naming()).expect_err("no such ring");
        assert!(matches!(error, OpenError::Shape { .. }), "{error}");
    }
}

/// A ring on something like a block device, smaller than the device.
fn ring_on_device(path: &Path, device_bytes: u64, shape: &Shape) -> Medium {
    let device = in_file(path, device_bytes, shape.block_bytes);
    let geometry = geometry(path, Kind::Block, shape).expect("a shape");
    let mut medium = Medium::new(Device::Block(device), Kind::Block, geometry, shape);
    medium.write_ring(path, &naming()).expect("a writable device");
    medium
}

#[test]
fn slots_of_a_block_device_begin_at_4_mib_and_the_ring_may_end_before_the_device() {
    let directory = Temporary::new();
    let path = directory.path("disk");
    let shape = Shape {
        ring_bytes: (4 << 20) + 4096 + 4 * 16_384 + 8192,
        ..SHAPE
    };
    let mut medium = ring_on_device(&path, 6 << 20, &shape);
    assert_eq!(medium.geometry().slots, 4);
    medium.write(17, &[0x42; 1024]).expect("within");
    medium.sync().expect("a file");
    let image = std::fs::read(&path).expect("there");
    assert_eq!(&image[(4 << 20) + 17 * 1024..][..1024], &[0x42; 1024]);
    assert_eq!(&image[..8], b"TGATERNG");
    assert_eq!(&image[shape.ring_bytes as usize - 4096..][..8], b"TGATERNG");
    // Either superblock is enough; the second is found although the ring ends before the device.
    let found = open_image(&path).expect("an image");
    assert_eq!(
        (found.geometry, found.first_offset, found.last_offset),
        (medium.geometry(), 4 << 20, shape.ring_bytes - 4096)
    );
    let inspector = Inspector::open(found, None).expect("a ring");
    assert_eq!(inspector.uuid(), b"0123456789abcdef");
}

#[test]
fn a_file_image_opens_with_either_superblock_gone() {
    let directory = Temporary::new();
    let path = directory.path("ring");
    drop(Medium::create(&path, &SHAPE, &naming()).expect("a new file"));
    let whole = std::fs::read(&path).expect("there");
    for at in [0, whole.len() - 4096] {
        let mut image = whole.clone();
        image[at..at + 512].fill(0xee);
        std::fs::write(&path, &image).expect("ours");
        let found = open_image(&path).expect("the other superblock");
        assert_eq!(found.first_offset, 4096);
    }
    std::fs::write(&path, vec![0; 70_000]).expect("ours");
    assert!(matches!(open_image(&path), Err(OpenError::NotARing { .. })));
}
