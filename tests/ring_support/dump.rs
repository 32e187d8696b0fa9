//! What an image holds, as text: the same lines as `tests/ring_reader/read_ring.py` prints.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fmt::Write;
use tidegate::catalogue::Catalogue;
use tidegate::extras::Extra;
use tidegate::sample::SeriesRef;
use tidegate::wal::boot_key;
use tidegate::wal::dictionary::Compress;
use tidegate::wal::format::{
    ERASE_HEADER_BYTES, EraseHeader, Geometry, Medium, SUPERBLOCK_BYTES, SUPERBLOCK_SPACE, Superblock,
};
use tidegate::wal::inspect::{Event, Finding, Inspector};
use tidegate::wal::record::UNKNOWN_MS;
use tidegate::wal::storage::{Storage, StorageFailure, SuperblockCopy};
use tidegate::wal::values::{FrameReader, Read};

/// An image in memory, in the layout of a file or of raw flash.
#[derive(Clone)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub geometry: Geometry,
    pub first: usize,
}

impl Image {
    /// Finds the geometry as the format says: in a superblock, else in an erase header.
    pub fn open(bytes: Vec<u8>) -> Option<Self> {
        let end = bytes.len().checked_sub(SUPERBLOCK_SPACE as usize)?;
        let superblock = [0, end].into_iter().find_map(|at| {
            let bytes = bytes.get(at..at + SUPERBLOCK_BYTES)?;
            Superblock::parse(bytes.try_into().ok()?).ok()
        });
        if let Some(superblock) = superblock {
            let first = superblock.first_offset as usize;
            let geometry = superblock.geometry;
            return Some(Self { bytes, geometry, first });
        }
        let geometry = bytes
            .chunks(256)
            .find_map(|chunk| EraseHeader::parse(chunk.get(..ERASE_HEADER_BYTES)?).ok())?
            .geometry;
        Some(Self {
            bytes,
            geometry,
            first: 0,
        })
    }

    fn superblock_at(&self, copy: SuperblockCopy) -> Option<usize> {
        match copy {
            _ if self.geometry.medium == Medium::WriteOnce => None,
            SuperblockCopy::First => Some(0),
            SuperblockCopy::Last => Some(self.bytes.len() - SUPERBLOCK_SPACE as usize),
        }
    }
}

impl Storage for Image {
    type Error = StorageFailure;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn first_offset(&self) -> u64 {
        self.first as u64
    }

    fn read_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &mut [u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, StorageFailure> {
        let Some(at) = self.superblock_at(copy) else {
            return Ok(false);
        };
        bytes.copy_from_slice(&self.bytes[at..at + SUPERBLOCK_BYTES]);
        Ok(true)
    }

    fn write_superblock(
        &mut self,
        copy: SuperblockCopy,
        bytes: &[u8; SUPERBLOCK_BYTES],
    ) -> Result<bool, StorageFailure> {
        let Some(at) = self.superblock_at(copy) else {
            return Ok(false);
        };
        self.bytes[at..at + SUPERBLOCK_SPACE as usize].fill(0);
        self.bytes[at..at + SUPERBLOCK_BYTES].copy_from_slice(bytes);
        Ok(true)
    }

    fn read(&mut self, block: u32, bytes: &mut [u8]) -> Result<(), StorageFailure> {
        let at = self.first + block as usize * bytes.len();
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }

    fn write(&mut self, block: u32, bytes: &[u8]) -> Result<(), StorageFailure> {
        let at = self.first + block as usize * bytes.len();
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, slot: u32) -> Result<(), StorageFailure> {
        if self.geometry.medium == Medium::WriteOnce {
            let segment = self.geometry.segment_bytes() as usize;
            self.bytes[slot as usize * segment..][..segment].fill(0xff);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageFailure> {
        Ok(())
    }
}

/// The dump of an image, by tidegate's own code.
pub fn dump(image: &Image, compress: fn() -> Option<Box<dyn Compress>>) -> String {
    let mut out = String::new();
    let (mut headless, mut headed) = (String::new(), Vec::new());
    let mut inspector = Inspector::open(image.clone(), compress()).expect("the image is a ring");
    ring(&mut out, &inspector);
    inspector.survey(|slot, event| {
        if matches!(event, Event::Segment(_)) {
            headed.push(slot);
        }
    });
    let summary = inspector.survey(|slot, event| {
        // Nothing is read from a slot without a header.
        let mut nowhere = String::new();
        let out = if headed.contains(&slot) { &mut out } else { &mut nowhere };
        event_lines(out, &mut headless, slot, event);
    });
    out.push_str(&headless);

    let inspector = Inspector::open(image.clone(), compress()).expect("the image is a ring");
    let unreadable = FrameReader::new(inspector).for_each(|read| frame_lines(&mut out, read));
    let reasons = [
        "lapped",
        "damaged",
        "rejected",
        "write_error",
        "too_big",
        "stopped",
        "6",
        "7",
    ];
    for (reason, loss) in reasons.iter().zip(&summary.losses) {
        let (frames, samples, from, to) = (loss.frames, loss.samples, loss.first_ms, loss.last_ms);
        line(
            &mut out,
            format_args!("loss {reason} frames={frames} samples={samples} from={from} to={to}"),
        );
    }
    line(&mut out, format_args!("acknowledged {}", summary.acknowledged.0));
    line(&mut out, format_args!("unreadable {unreadable}"));
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes everything");
}

fn ring(out: &mut String, inspector: &Inspector<Image>) {
    let geometry = inspector.geometry();
    let uuid: String = inspector.uuid().iter().map(|byte| format!("{byte:02x}")).collect();
    let medium = match geometry.medium {
        Medium::Rewritable => "rewritable",
        Medium::WriteOnce => "write-once",
    };
    let (block, segment, slots) = (geometry.block_bytes, geometry.segment_bytes(), geometry.slots);
    line(
        out,
        format_args!("ring uuid={uuid} medium={medium} block={block} segment={segment} slots={slots}"),
    );
}

fn event_lines(out: &mut String, headless: &mut String, slot: u32, event: &Event<'_>) {
    match event {
        Event::Segment(h) => {
            let codec = ["tc0", "tc1"][usize::from(h.codec)];
            line(
                out,
                format_args!(
                    "segment {} slot={slot} codec={codec} frame={} prior={}",
                    h.seq, h.frame_no, h.prior
                ),
            );
            line(
                out,
                format_args!(
                    "  tail={} tail_frame={} counted={}",
                    h.tail_seq, h.tail_frame, h.counted_frame
                ),
            );
            line(
                out,
                format_args!(
                    "  ack={} frames={} samples={} wall={}",
                    h.ack, h.frames, h.samples, h.wall_ms
                ),
            );
            line(
                out,
                format_args!("  config={:08x} max_series={}", h.config_crc, h.max_series),
            );
        }
        Event::Restart { flags } => line(out, format_args!("restart flags={flags:02x}")),
        Event::Start(s) => {
            let (epoch, boot, mono) = (s.epoch, boot_key(&s.boot_id), s.mono_ms);
            let wall = if s.wall_ms == UNKNOWN_MS {
                "-".to_owned()
            } else {
                s.wall_ms.to_string()
            };
            let (clock, error) = (s.clock, s.error_ms);
            line(
                out,
                format_args!("start epoch={epoch} boot={boot:08x} mono={mono} wall={wall} clock={clock} error={error}"),
            );
            line(
                out,
                format_args!("  frame={} prior={} config={:08x}", s.frame_no, s.prior, s.config_crc),
            );
        }
        Event::Target(target) => line(out, format_args!("target {} {}", target.index, target.body)),
        Event::Dict(dict) => {
            line(
                out,
                format_args!(
                    "dict target={} first={} count={}",
                    dict.target.0, dict.first, dict.count
                ),
            );
        }
        Event::Clock(c) => {
            let (boot, mono, wall, error, source) = (c.boot, c.mono_ms, c.wall_ms, c.error_ms, c.source);
            line(
                out,
                format_args!("clock boot={boot:08x} mono={mono} wall={wall} error={error} source={source}"),
            );
        }
        Event::Drop(d) => {
            let (first, last, samples, reason, frames) = (d.first_frame, d.last_frame, d.samples, d.reason, d.frames);
            let (from, to) = (d.first_ms, d.last_ms);
            line(
                out,
                format_args!(
                    "drop {first}..{last} samples={samples} reason={reason} frames={frames} from={from} to={to}"
                ),
            );
        }
        Event::Delivered(back) => {
            let (samples, reason, frames) = (back.samples, back.reason, back.frames);
            line(
                out,
                format_args!("delivered samples={samples} reason={reason} frames={frames}"),
            );
        }
        Event::Ack(ack) => line(
            out,
            format_args!("ack remote={:08x} frame={}", ack.remote, ack.frame_no),
        ),
        Event::Unknown { kind } => line(out, format_args!("unknown {kind:02x}")),
        Event::Finding(Finding::Missing { first, end, .. }) => {
            line(out, format_args!("missing {}..{}", first.0, end.0))
        }
        Event::Finding(Finding::Record { kind, .. }) => line(out, format_args!("malformed {kind:02x}")),
        Event::Finding(Finding::Headless { slot }) => line(headless, format_args!("headless slot={slot}")),
        Event::Finding(Finding::Version { slot, major }) => {
            line(headless, format_args!("version slot={slot} major={major}"))
        }
        _ => {}
    }
}

fn frame_lines(out: &mut String, read: &mut Read<'_>) {
    let frame = read.frame;
    let (number, up) = (frame.number.0, if frame.up { "up" } else { "down" });
    let wall = frame.unix_ms.map_or_else(|| "-".to_owned(), |wall| wall.to_string());
    let counts = frame.counts;
    line(
        out,
        format_args!(
            "frame {number} {up} at={} wall={wall} took={} counts={},{},{} {{{}}}",
            frame.time_ms,
            frame.duration_100us,
            counts.scraped,
            counts.post_relabel,
            counts.added,
            read.catalogue.target_body(frame.target)
        ),
    );
    for (position, sample) in frame.samples.iter().enumerate() {
        let time = frame
            .explicit
            .iter()
            .find(|time| usize::from(time.position) == position);
        let time = time.map_or_else(String::new, |time| format!(" @{}", time.unix_ms));
        let (bits, text) = (sample.number.to_bits(), text(read.catalogue, sample.series));
        line(out, format_args!("  {bits:016x} {text}{time}"));
    }
    for &series in &*frame.stale {
        line(out, format_args!("  stale {}", text(read.catalogue, series)));
    }
    for extra in frame.extras.iter() {
        extra_line(out, &extra);
    }
    if frame.notes.ended {
        line(out, format_args!("  ended"));
    }
    if let Some(extra) = frame.notes.extra {
        let (timeout, limit, body) = (extra.timeout_ms, extra.sample_limit, extra.body_bytes);
        line(out, format_args!("  timeout={timeout} limit={limit} body={body}"));
    }
}

fn extra_line(out: &mut String, extra: &Extra<'_>) {
    match extra {
        Extra::Histogram { position, message } => {
            let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
            line(out, format_args!("  histogram {position} {hex}"));
        }
        Extra::Exemplar {
            position,
            unix_ms,
            value,
            labels,
        } => {
            let time = unix_ms.map_or_else(|| "-".to_owned(), |time| time.to_string());
            line(
                out,
                format_args!("  exemplar {position} {value:016x} at={time} {{{labels}}}"),
            );
        }
        Extra::StartTime { position, unix_ms } => line(out, format_args!("  start {position} at={unix_ms}")),
    }
}

fn text(catalogue: &mut Catalogue, series: SeriesRef) -> String {
    let text = catalogue.text(series).expect("frames that are read have names");
    format!("{}{{{}}}", text.name, text.body)
}
