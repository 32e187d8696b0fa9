//! Recognises what else may live on a device: nothing of it is ever overwritten unasked.
//!
//! Looks at the fixed places where file systems, partition tables, volume managers and swap keep their magic numbers.
//! A device without a known magic may still hold data that has none (an encrypted volume without header, a raw dump):
//! only a person can know.
//!
//! Reads at most 15 places of up to 512 bytes. Errors while reading are errors: what cannot be looked at is not taken.
//!
//! Sources: the on-disk format documents of each; util-linux' `libblkid` recognises the same places.

use alloc::vec;
use std::io;

/// Something that is not a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What it is, with an article.
    pub name: &'static str,
    /// Where its magic number stands.
    pub offset: u64,
    /// How long the magic number is.
    pub len: usize,
}

/// A magic number at a fixed place.
struct Magic {
    name: &'static str,
    offset: u64,
    bytes: &'static [u8],
}

const fn magic(name: &'static str, offset: u64, bytes: &'static [u8]) -> Magic {
    Magic { name, offset, bytes }
}

/// Little-endian magic number of Linux' software RAID.
const MD: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];

/// Places counted from the start. Specific ones first: a partition table's two bytes also end a FAT boot sector.
const FROM_START: &[Magic] = &[
    magic("a GPT partition table", 512, b"EFI PART"),
    magic("a GPT partition table", 4096, b"EFI PART"),
    magic("an ext2, ext3 or ext4 file system", 1080, &[0x53, 0xef]),
    magic("an XFS file system", 0, b"XFSB"),
    magic("a Btrfs file system", 0x1_0040, b"_BHRfS_M"),
    magic("an F2FS file system", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    magic("an exFAT file system", 3, b"EXFAT   "),
    magic("an NTFS file system", 3, b"NTFS    "),
    magic("a FAT file system", 82, b"FAT32   "),
    magic("a FAT file system", 54, b"FAT1"),
    magic("a FAT file system", 54, b"FAT     "),
    magic("a squashfs file system", 0, b"hsqs"),
    magic("an EROFS file system", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    magic("an ISO 9660 file system", 0x8001, b"CD001"),
    magic("a UBI volume", 0, b"UBI#"),
    magic("a UBIFS file system", 0, &[0x31, 0x18, 0x10, 0x06]),
    magic("a JFFS2 file system", 0, &[0x85, 0x19]),
    magic("a LUKS container", 0, b"LUKS\xba\xbe"),
    magic("a LUKS container", 0x4000, b"SKUL\xba\xbe"),
    magic("an LVM2 volume", 0, b"LABELONE"),
    magic("an LVM2 volume", 512, b"LABELONE"),
    magic("an LVM2 volume", 1024, b"LABELONE"),
    magic("an LVM2 volume", 1536, b"LABELONE"),
    magic("a RAID member", 0, MD),
    magic("a RAID member", 4096, MD),
    magic("swap space", 4086, b"SWAPSPACE2"),
    magic("swap space", 16_374, b"SWAPSPACE2"),
    magic("swap space", 65_526, b"SWAPSPACE2"),
    magic("swap space", 4086, b"SWAP-SPACE"),
];

/// A partition table or boot sector, unless the sector is our superblock, whose checksum may end in anything.
const MBR: Magic = magic("an MBR partition table", 510, &[0x55, 0xaa]);

/// Finds the first foreign signature on a device of `bytes` bytes, read through `read`. `sector` is the alignment `read`
/// asks for, a power of two.
///
/// # Errors
/// As `read`.
pub fn find(
    bytes: u64,
    sector: usize,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<Option<Signature>> {
    let mut probe = Probe {
        bytes,
        sector: sector as u64,
        buffer: vec![0; sector.max(16)],
        at: None,
    };
    for magic in FROM_START {
        if probe.has(magic, &mut read)? {
            return Ok(Some(probe.found(magic)));
        }
    }
    let ours = magic("a ring", 0, b"TGATERNG");
    if !probe.has(&ours, &mut read)? && probe.has(&MBR, &mut read)? {
        return Ok(Some(probe.found(&MBR)));
    }
    for offset in raid_at_end(bytes).into_iter().flatten() {
        let magic = magic("a RAID member", offset, MD);
        if probe.has(&magic, &mut read)? {
            return Ok(Some(probe.found(&magic)));
        }
    }
    Ok(None)
}

/// Where RAID superblocks of versions 0.90 and 1.0 stand.
fn raid_at_end(bytes: u64) -> [Option<u64>; 2] {
    [
        (bytes & !0xffff).checked_sub(0x1_0000),
        bytes.checked_sub(8192).map(|at| at & !4095),
    ]
}

struct Probe {
    bytes: u64,
    sector: u64,
    buffer: alloc::vec::Vec<u8>,
    /// Offset of what `buffer` holds.
    at: Option<u64>,
}

impl Probe {
    /// Magic numbers never cross a sector.
    fn has(&mut self, magic: &Magic, read: &mut impl FnMut(&mut [u8], u64) -> io::Result<()>) -> io::Result<bool> {
        let base = magic.offset & !(self.sector - 1);
        let end = base.saturating_add(self.buffer.len() as u64);
        if end > self.bytes {
            return Ok(false);
        }
        if self.at != Some(base) {
            self.at = None;
            read(&mut self.buffer, base)?;
            self.at = Some(base);
        }
        // Within one sector, by the remark above.
        let start = (magic.offset - base) as usize;
        Ok(self.buffer.get(start..start + magic.bytes.len()) == Some(magic.bytes))
    }

    fn found(&self, magic: &Magic) -> Signature {
        Signature {
            name: magic.name,
            offset: magic.offset,
            len: magic.bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 200_000;

    fn look(image: &[u8], sector: usize) -> Option<Signature> {
        find(image.len() as u64, sector, |buffer, offset| {
            let start = offset as usize;
            assert!(start.is_multiple_of(sector), "aligned");
            buffer.copy_from_slice(&image[start..start + buffer.len()]);
            Ok(())
        })
        .expect("reads")
    }

    #[test]
    fn every_known_magic_is_found_at_its_place_and_nowhere_else() {
        let blank = vec![0; BYTES];
        assert_eq!(look(&blank, 512), None);
        for magic in FROM_START.iter().chain([&MBR]) {
            for sector in [512, 4096] {
                let mut image = blank.clone();
                let at = magic.offset as usize;
                image[at..at + magic.bytes.len()].copy_from_slice(magic.bytes);
                let found = look(&image, sector).expect(magic.name);
                assert_eq!((found.name, found.offset), (magic.name, magic.offset));
                image[at..at + magic.bytes.len()].fill(0);
                image[at + 3..at + 3 + magic.bytes.len()].copy_from_slice(magic.bytes);
                assert_eq!(look(&image, sector), None, "{} three bytes off", magic.name);
            }
        }
    }

    #[test]
    fn raid_superblocks_at_the_end_are_found() {
        for offset in raid_at_end(BYTES as u64).into_iter().flatten() {
            let mut image = vec![0; BYTES];
            image[offset as usize..][..4].copy_from_slice(MD);
            assert_eq!(
                look(&image, 512).map(|found| found.name),
                Some("a RAID member"),
                "{offset}"
            );
        }
    }

    #[test]
    fn a_superblock_whose_checksum_looks_like_a_boot_sector_is_ours() {
        let mut image = vec![0; BYTES];
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        image[..8].copy_from_slice(b"TGATERNG");
        assert_eq!(look(&image, 512), None);
    }

    #[test]
    fn a_device_too_small_for_a_place_is_not_read_there_and_an_unreadable_one_is_an_error() {
        assert_eq!(look(&[0; 512], 512), None);
        let error = find(1 << 20, 512, |_, _| Err(io::ErrorKind::Other.into()));
        assert!(error.is_err());
    }
}
