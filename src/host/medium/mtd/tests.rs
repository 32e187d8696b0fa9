use super::*;
use crate::catalogue::{Catalogue, SeriesText};
use crate::clock::{Instant, UnixMillis};
use crate::frame::Frame;
use crate::sample::{MetricType, Number, Sample, SeriesRef, TargetRef};
use crate::value::codec::CodecId;
use crate::wal::format::{EraseHeader, Medium as Writing};
use crate::wal::inspect::Inspector;
use crate::wal::values::FrameReader;
use crate::wal::{Boot, ClockSource, Commit, CommitStep, RemoteConfig, Ring, RingConfig, WhenFull};
use alloc::collections::BTreeSet;

const ERASE_BYTES: u32 = 8 * 1024;
const SHAPE: Shape = Shape {
    ring_bytes: 12 * 16 * 1024,
    segment_bytes: 16 * 1024,
    block_bytes: 1024,
};

/// A chip that keeps the rules, and fails as told.
#[derive(Debug)]
struct Model {
    info: Info,
    bytes: Vec<u8>,
    /// Pages programmed since their erase.
    programmed: Vec<bool>,
    bad: BTreeSet<u64>,
    /// Erase blocks that do not erase any more.
    worn: BTreeSet<u64>,
    /// Programs until one leaves a bit as it was.
    weak_program: Option<u32>,
    /// Offsets of reads that error correction gives up on.
    uncorrectable: BTreeSet<u64>,
    /// Every read has a bit put right and says so.
    unclean: bool,
    ecc: EccCounts,
    erases: u32,
}

impl Model {
    fn new(chip: Chip) -> Self {
        let bytes = SHAPE.ring_bytes as usize + 5_000;
        let write_bytes = if chip == Chip::Nand { 512 } else { 1 };
        Self {
            info: Info {
                chip,
                bytes: bytes as u64,
                erase_bytes: ERASE_BYTES,
                write_bytes,
            },
            // As delivered: nobody has erased it.
            bytes: vec![0x5a; bytes],
            programmed: vec![true; bytes / 512],
            bad: BTreeSet::new(),
            worn: BTreeSet::new(),
            weak_program: None,
            uncorrectable: BTreeSet::new(),
            unclean: false,
            ecc: EccCounts::default(),
            erases: 0,
        }
    }
}

impl Mtd for Model {
    fn info(&self) -> Info {
        self.info
    }

    fn read(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let start = offset as usize;
        bytes.copy_from_slice(&self.bytes[start..start + bytes.len()]);
        if self.uncorrectable.contains(&offset) {
            self.ecc.failed += 1;
            return Err(io::Error::from_raw_os_error(libc::EBADMSG));
        }
        if self.unclean {
            self.ecc.corrected += 1;
            return Err(io::Error::from_raw_os_error(libc::EUCLEAN));
        }
        Ok(())
    }

    fn program(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = offset as usize;
        assert!(
            start.is_multiple_of(512) && bytes.len().is_multiple_of(512),
            "whole pages"
        );
        assert!(
            !self
                .bad
                .contains(&(offset / u64::from(ERASE_BYTES) * u64::from(ERASE_BYTES))),
            "a bad block"
        );
        let erase_block = start / ERASE_BYTES as usize * ERASE_BYTES as usize / 512;
        for page in start / 512..(start + bytes.len()) / 512 {
            assert!(!self.programmed[page], "page {page} programmed twice");
            let later = page..erase_block + ERASE_BYTES as usize / 512;
            assert!(
                !self.programmed[later].iter().any(|&taken| taken),
                "pages of an erase block rise"
            );
            self.programmed[page] = true;
        }
        for (to, from) in self.bytes[start..].iter_mut().zip(bytes) {
            *to &= from;
        }
        if let Some(left) = &mut self.weak_program {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.weak_program = None;
                self.bytes[start + 40] ^= 1;
            }
        }
        Ok(())
    }

    fn erase(&mut self, offset: u64) -> io::Result<()> {
        let start = offset as usize;
        assert!(offset.is_multiple_of(ERASE_BYTES.into()) && !self.bad.contains(&offset));
        self.erases += 1;
        if self.worn.contains(&offset) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.bytes[start..start + ERASE_BYTES as usize].fill(0xff);
        self.programmed[start / 512..(start + ERASE_BYTES as usize) / 512].fill(false);
        Ok(())
    }

    fn is_bad(&mut self, offset: u64) -> io::Result<bool> {
        Ok(self.bad.contains(&offset))
    }

    fn mark_bad(&mut self, offset: u64) -> io::Result<()> {
        assert_eq!(self.info.chip, Chip::Nand, "NOR has no marks");
        self.bad.insert(offset);
        Ok(())
    }

    fn ecc(&mut self) -> EccCounts {
        self.ecc
    }
}

fn flash(model: Model) -> Flash<Model> {
    let geometry = Geometry::new(
        SHAPE.block_bytes,
        SHAPE.segment_bytes,
        SHAPE.ring_bytes,
        Writing::WriteOnce,
    );
    Flash::new(model, geometry.expect("a shape"), &SHAPE, Path::new("mtd0")).expect("fits")
}

fn formatted(model: Model) -> Flash<Model> {
    let mut flash = flash(model);
    crate::wal::format(&mut flash, [9; 16], 1, "mtd").expect("erases");
    flash
}

fn config() -> RingConfig {
    RingConfig {
        block_bytes: SHAPE.block_bytes,
        segment_bytes: SHAPE.segment_bytes,
        ring_bytes: SHAPE.ring_bytes,
        codec: CodecId::Tc1,
        commit_interval_ms: 0,
        staging_blocks: 8,
        max_series: 8,
        max_frame_samples: 8,
        extras_bytes: 0,
        text_bytes: 1_000,
        remotes: [RemoteConfig {
            id: 1,
            best_effort: false,
        }]
        .into_iter()
        .collect(),
        when_full: WhenFull::DropOldest,
        config_crc: 1,
        compress: None,
    }
}

/// Mounts, writes a frame with each of `values`, one commit each, and gives the chip back.
fn write_frames(flash: Flash<Model>, epoch: u8, values: core::ops::Range<i64>) -> Flash<Model> {
    let mut catalogue = Catalogue::new(8, 1_000, 4);
    let boot = Boot {
        id: [epoch; 16],
        now: Instant(0),
        wall: Some((UnixMillis(1_700_000_000_000), ClockSource::Synchronised)),
        error_ms: 0,
    };
    let (mut ring, _) = Ring::mount(flash, config(), boot, &mut catalogue).expect("formatted");
    let target = TargetRef(0);
    catalogue.set_target(target, "job=\"a\"").expect("room");
    let text = SeriesText { name: "v", body: "" };
    let series: SeriesRef = catalogue.define(target, text, MetricType::Gauge).expect("room");
    let mut frame = Frame::with_capacity(8);
    for value in values {
        frame.reset(target, value as u64 * 10);
        frame.up = true;
        let number = Number::decimal(value, 0);
        frame.samples.push(Sample { number, series }).expect("room");
        ring.append(&frame, &mut catalogue).expect("room");
        while ring
            .commit_step(&mut catalogue, Commit::All)
            .expect("some slot takes it")
            == CommitStep::NeedSync
        {
            ring.synced(Ok::<(), MediumError>(()));
        }
        while ring.erase_due() {
            ring.erase_step();
        }
    }
    assert_eq!(ring.counters().erases_in_commits, 0);
    ring.into_storage()
}

fn values_of_readable(flash: Flash<Model>) -> Vec<i64> {
    let mut reader = FrameReader::new(Inspector::open(flash, None).expect("a ring"));
    let mut found = Vec::new();
    reader.for_each(|read| {
        let value = read.frame.samples.first().expect("one sample").number;
        found.push(f64::from_bits(value.to_bits()) as i64);
    });
    found
}

/// The values that can be read, in order.
fn values(flash: Flash<Model>) -> Vec<i64> {
    let mut reader = FrameReader::new(Inspector::open(flash, None).expect("a ring"));
    let mut found = Vec::new();
    let unreadable = reader.for_each(|read| {
        let value = read.frame.samples.first().expect("one sample").number;
        found.push(f64::from_bits(value.to_bits()) as i64);
    });
    assert_eq!(unreadable, 0);
    found
}

#[test]
fn several_laps_with_restarts_keep_the_rules_of_both_chips_and_the_newest_frames() {
    for chip in [Chip::Nor, Chip::Nand] {
        let mut flash = formatted(Model::new(chip));
        for (epoch, from) in (0..6).map(|part| (part as u8 + 1, part * 60)) {
            flash = write_frames(flash, epoch, from..from + 60);
        }
        assert!(
            flash.device.erases > 2 * 24,
            "{chip:?}: {} erases are laps",
            flash.device.erases
        );
        let found = values(flash);
        // A frame per block, 15 blocks a slot: all but the slots being lapped are there.
        assert!(found.len() > 100, "{chip:?}: {}", found.len());
        assert!(
            found.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{chip:?}: {found:?}"
        );
        assert_eq!(found.last(), Some(&359));
    }
}

#[test]
fn bad_blocks_are_passed_over_from_the_start_and_when_an_erase_fails() {
    let mut model = Model::new(Chip::Nand);
    // Slots 2 and 5, the latter by its second half.
    model.bad.extend([2 * 16 * 1024, 5 * 16 * 1024 + 8 * 1024]);
    let mut flash = formatted(model);
    assert_eq!(flash.health().bad_slots, 2);
    flash = write_frames(flash, 1, 0..40);
    flash.device.worn.insert(7 * 16 * 1024 + 8 * 1024);
    flash = write_frames(flash, 2, 40..200);
    assert!(flash.is_bad(7), "marked when its erase failed");
    assert_eq!(flash.health().bad_slots, 3);
    assert!(flash.device.bad.contains(&(7 * 16 * 1024 + 8 * 1024)));
    let found = values(flash);
    assert!(found.windows(2).all(|pair| pair[1] == pair[0] + 1), "{found:?}");
    assert_eq!(found.last(), Some(&199));
}

#[test]
fn a_block_worn_out_before_formatting_does_not_stop_it_on_nand() {
    let mut model = Model::new(Chip::Nand);
    model.worn.insert(0);
    let mut flash = formatted(model);
    assert_eq!(flash.health().bad_slots, 1);
    let mut nor = Model::new(Chip::Nor);
    nor.worn.insert(0);
    assert!(crate::wal::format(&mut super::tests::flash(nor), [9; 16], 1, "mtd").is_err());
}

#[test]
fn a_program_that_did_not_take_is_found_by_reading_back_and_nothing_is_lost() {
    let mut model = Model::new(Chip::Nor);
    model.weak_program = Some(40);
    let mut flash = write_frames(formatted(model), 1, 0..60);
    assert_eq!(flash.health().mismatches, 1);
    assert_eq!(values(flash), (0..60).collect::<Vec<_>>());
}

#[test]
fn corrected_bits_are_counted_and_the_data_used() {
    let mut model = Model::new(Chip::Nand);
    model.unclean = true;
    let mut flash = write_frames(formatted(model), 1, 0..30);
    assert!(flash.health().corrected_bits > 30);
    assert_eq!(values(flash), (0..30).collect::<Vec<_>>());
}

#[test]
fn a_page_beyond_correction_is_skipped_and_counted() {
    let mut flash = write_frames(formatted(Model::new(Chip::Nand)), 1, 0..12);
    // The fifth block of slot 1: each frame has a block of its own.
    flash.device.uncorrectable.insert(16 * 1024 + 5 * 1024);
    let mut buffer = [0; 1024];
    assert!(flash.read(16 + 5, &mut buffer).is_err() && flash.read(16 + 6, &mut buffer).is_ok());
    assert_eq!(flash.health().uncorrectable_pages, 1);
    let mut reader = FrameReader::new(Inspector::open(&mut flash, None).expect("a ring"));
    let (mut read, mut last) = (0, 0);
    reader.for_each(|frame| {
        read += 1;
        last = frame.frame.number.0;
    });
    assert!(read >= 3, "{read} of 12");
    assert!(last >= 2, "{last}");
    // And the ring goes on behind it.
    let flash = write_frames(flash, 2, 12..20);
    assert!(values_of_readable(flash).ends_with(&[18, 19]));
}

#[test]
fn an_agent_on_a_chip_erases_between_commits() {
    for chip in [Chip::Nor, Chip::Nand] {
        let flash = write_frames(formatted(Model::new(chip)), 1, 0..400);
        let image = &flash.device.bytes;
        let counts: Vec<u32> = (0..12)
            .map(|slot| {
                EraseHeader::parse(&image[slot * 16 * 1024..][..1024])
                    .expect("erased")
                    .erase_count
            })
            .collect();
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(most.expect("12") - least.expect("12") <= 1, "{counts:?}");
    }
}

#[test]
fn a_block_is_programmed_once_between_erases() {
    let mut flash = formatted(Model::new(Chip::Nor));
    flash.write(1, &[0; 1024]).expect("erased");
    let error = flash.write(1, &[0; 1024]).expect_err("programmed");
    assert_eq!(error.0.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn sizes_that_do_not_fit_the_chip_are_refused() {
    let geometry = Geometry::new(512, 16 * 1024, SHAPE.ring_bytes, Writing::WriteOnce).expect("a shape");
    let open = |shape: Shape, change: fn(&mut Info)| {
        let mut model = Model::new(Chip::Nand);
        change(&mut model.info);
        Flash::new(model, geometry, &shape, Path::new("mtd0")).expect_err("does not fit")
    };
    assert!(matches!(
        open(SHAPE, |info| info.erase_bytes = 128 * 1024),
        OpenError::Shape { .. }
    ));
    assert!(matches!(
        open(SHAPE, |info| info.write_bytes = 2_048),
        OpenError::Shape { .. }
    ));
    assert!(matches!(
        open(SHAPE, |info| info.bytes = 1_000),
        OpenError::TooSmall { .. }
    ));
}

#[test]
fn only_an_erased_chip_is_blank() {
    let mut flash = flash(Model::new(Chip::Nor));
    assert!(!flash.is_blank().expect("reads"));
    for slot in 0..12 {
        flash.erase(slot).expect("erases");
    }
    assert!(flash.is_blank().expect("reads"));
    flash.write(16 * 3 + 8, &[0; 1024]).expect("erased");
    assert!(
        !flash.is_blank().expect("reads"),
        "the second erase block of a slot counts"
    );
}
