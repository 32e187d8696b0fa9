//! `tidegate ring format`: makes an empty ring, and says what to write into the configuration.

use super::failed;
use crate::host::cli::EXIT_CONFIGURATION;
use crate::host::cli::args::RingFormat;
use crate::host::config::Size;
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
    let available = match (kind, arguments.size) {
        (_, Some(size)) => size.bytes,
        (Kind::File, None) => FILE_BYTES,
        (Kind::Block, None) => device_bytes(path)?,
    };
    let shape = shape(available, arguments.segment_size, arguments.block_size);
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
/// allows, larger blocks where a segment would.
fn shape(available: u64, segment: Option<Size>, block: Option<Size>) -> Shape {
    let whole = |size: Size| u32::try_from(size.bytes).unwrap_or(u32::MAX);
    let block_bytes = block.map_or(BLOCK_BYTES, whole);
    let most = BLOCK_BYTES.max(block_bytes).saturating_mul(MAX_BLOCKS_PER_SLOT);
    let mut segment_bytes = SEGMENT_BYTES;
    while u64::from(segment_bytes) * u64::from(MAX_SLOTS) < available && segment_bytes < most {
        segment_bytes *= 2;
    }
    Shape {
        ring_bytes: available & !(SUPERBLOCK_SPACE - 1),
        segment_bytes: segment.map_or(segment_bytes, whole),
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
        let shape_of = |bytes| shape(bytes, None, None);
        assert_eq!(shape_of(64 << 20).segment_bytes, 256 * 1024);
        assert_eq!(shape_of(1 << 30).segment_bytes, 256 * 1024);
        assert_eq!(shape_of((1 << 30) + 1).segment_bytes, 512 * 1024);
        assert_eq!(shape_of(8 << 30).segment_bytes, 2 << 20);
        assert_eq!(shape_of(1 << 40).segment_bytes, 4 << 20);
        assert_eq!(shape_of(100_000_123).ring_bytes, 99_999_744);
        let given = shape(64 << 20, Some(Size::from_bytes(65_536)), Some(Size::from_bytes(512)));
        assert_eq!((given.segment_bytes, given.block_bytes), (65_536, 512));
    }
}
