//! `tidegate ring format`: makes an empty ring, and says what to write into the configuration.

use super::failed;
use crate::host::cli::EXIT_CONFIGURATION;
use crate::host::cli::args::RingFormat;
use crate::host::config::Size;
use crate::host::medium::mtd::char_device::examine;
use crate::host::medium::mtd::{Chip, Info};
use crate::host::medium::{Kind, Medium, Naming, OpenError, Shape, device_bytes, fill_random};
use crate::host::runtime::unix_now;
use crate::wal::format::{MAX_BLOCKS_PER_SLOT, MAX_SLOTS, SUPERBLOCK_SPACE};
use alloc::format;
use std::path::Path;
use std::process::ExitCode;

/// Size of a ring in a file when none is given.
const FILE_BYTES: u64 = 64 << 20;
/// Bytes of a block when none are given: a page.
const BLOCK_BYTES: u32 = 4096;
/// Bytes of a segment when none are given and the ring is not too large for them.
const SEGMENT_BYTES: u32 = 256 * 1024;

/// The same on NOR, where a page has no meaning: less is padded with every commit.
const NOR_BLOCK_BYTES: u32 = 1024;
/// Up to this size NOR gets smaller segments, or too few of them.
const SMALL_NOR_BYTES: u64 = 4 << 20;
/// Bytes of these.
const SMALL_NOR_SEGMENT_BYTES: u32 = 64 * 1024;

/// Runs the command.
pub fn run(arguments: &RingFormat) -> ExitCode {
    if arguments.label.len() > 32 {
        std::eprintln!("tidegate: --label has {} bytes, limit is 32", arguments.label.len());
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    match format_ring(arguments) {
        Ok((kind, shape)) => {
            report(arguments, kind, &shape);
            ExitCode::SUCCESS
        }
        Err(error) => failed(&format!("{error}")),
    }
}

fn format_ring(arguments: &RingFormat) -> Result<(Kind, Shape), OpenError> {
    let path = Path::new(&arguments.path);
    let kind = Kind::of(path)?;
    let chip = match kind {
        Kind::Mtd => Some(examine(path)?),
        Kind::File | Kind::Block => None,
    };
    let available = match (arguments.size, &chip, kind) {
        (Some(size), ..) => size.bytes,
        (None, Some(chip), _) => chip.bytes,
        (None, None, Kind::Block) => device_bytes(path)?,
        (None, None, _) => FILE_BYTES,
    };
    let shape = shape(available, arguments.segment_size, arguments.block_size, chip.as_ref());
    let mut uuid = [0; 16];
    fill_random(&mut uuid).map_err(|error| OpenError::Io {
        step: "identity for",
        path: path.into(),
        error,
    })?;
    let naming = Naming {
        uuid,
        created_ms: unix_now().0,
        label: &arguments.label,
    };
    Medium::format(path, &shape, &naming, arguments.force)?;
    Ok((kind, shape))
}

/// What was asked for, and for the rest what fits: larger segments where the ring would have more than the format
/// allows; on a chip its page or erase block where they are larger, and small ones on small NOR.
fn shape(available: u64, segment: Option<Size>, block: Option<Size>, chip: Option<&Info>) -> Shape {
    let whole = |size: Size| u32::try_from(size.bytes).unwrap_or(u32::MAX);
    let nor = chip.is_some_and(|chip| chip.chip == Chip::Nor);
    let page = chip.map_or(0, |chip| chip.write_bytes);
    let block_bytes = block.map_or(if nor { NOR_BLOCK_BYTES } else { BLOCK_BYTES }.max(page), whole);
    let most = block_bytes.saturating_mul(MAX_BLOCKS_PER_SLOT);
    let small = nor && available <= SMALL_NOR_BYTES;
    let erase_block = chip.map_or(0, |chip| chip.erase_bytes);
    let mut segment_bytes = if small { SMALL_NOR_SEGMENT_BYTES } else { SEGMENT_BYTES }.max(erase_block);
    while u64::from(segment_bytes) * u64::from(MAX_SLOTS) < available && segment_bytes < most {
        segment_bytes *= 2;
    }
    let segment_bytes = segment.map_or(segment_bytes, whole);
    // The configuration takes whole segments only.
    let unit = u64::from(segment_bytes).max(SUPERBLOCK_SPACE);
    Shape {
        ring_bytes: available - available % unit,
        segment_bytes,
        block_bytes,
    }
}

fn report(arguments: &RingFormat, kind: Kind, shape: &Shape) {
    let size = |bytes: u64| Size::from_bytes(bytes);
    std::println!("{} holds an empty ring now. In the configuration:", arguments.path);
    std::println!("tidegate:\n  ring:\n    path: {}", arguments.path);
    std::println!("    size: {}", size(shape.ring_bytes));
    std::println!("    segment_size: {}", size(shape.segment_bytes.into()));
    std::println!("    block_size: {}", size(shape.block_bytes.into()));
    if kind == Kind::Block {
        std::println!("# A name that stays the same over reboots is below /dev/disk/by-partuuid or by-id.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_rings_get_larger_segments_and_sizes_are_whole_pages() {
        let shape_of = |bytes| shape(bytes, None, None, None);
        assert_eq!(shape_of(64 << 20).segment_bytes, 256 * 1024);
        assert_eq!(shape_of(1 << 30).segment_bytes, 256 * 1024);
        assert_eq!(shape_of((1 << 30) + 1).segment_bytes, 512 * 1024);
        assert_eq!(shape_of(8 << 30).segment_bytes, 2 << 20);
        assert_eq!(shape_of(1 << 40).segment_bytes, 4 << 20);
        assert_eq!(shape_of(100_000_123).ring_bytes, 381 * 256 * 1024);
        let given = shape(
            64 << 20,
            Some(Size::from_bytes(65_536)),
            Some(Size::from_bytes(512)),
            None,
        );
        assert_eq!((given.segment_bytes, given.block_bytes), (65_536, 512));
    }

    #[test]
    fn chips_get_their_pages_and_erase_blocks() {
        let on = |chip, bytes, erase_bytes, write_bytes| {
            let info = Info {
                chip,
                bytes,
                erase_bytes,
                write_bytes,
            };
            let shape = shape(bytes, None, None, Some(&info));
            (shape.segment_bytes, shape.block_bytes)
        };
        assert_eq!(on(Chip::Nor, 4 << 20, 65_536, 1), (64 * 1024, 1024));
        assert_eq!(on(Chip::Nor, 16 << 20, 65_536, 1), (256 * 1024, 1024));
        assert_eq!(on(Chip::Nand, 128 << 20, 128 * 1024, 2048), (256 * 1024, 4096));
        assert_eq!(on(Chip::Nand, 1 << 30, 512 * 1024, 8192), (512 * 1024, 8192));
    }
}
