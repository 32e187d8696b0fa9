//! A ring in memory is filled, and every byte of full segments shared out.

use crate::capture::Capture;
use crate::capture_ring::Player;
use crate::ring_config;
use std::time::{Duration, Instant};
use tidegate::catalogue::Catalogue;
use tidegate::frame::{Frame, FrameNo, FrameSource, Next};
use tidegate::sample::TargetRef;
use tidegate::value::codec::CodecId;
use tidegate::value::varint::Cursor;
use tidegate::wal::dictionary::Compress;
use tidegate::wal::format::{BLOCK_HEADER_BYTES, Geometry, Medium};
use tidegate::wal::record::FrameHead;
use tidegate::wal::testing::Ram;
use tidegate::wal::{AppendError, Boot, ClockSource, Ring, RingConfig, format};

/// Full segments that are counted.
const SEGMENTS: u32 = 3;

/// And two more: the one being written, and one so that nothing is lapped.
const SLOTS: u32 = SEGMENTS + 2;

pub struct Shape {
    pub block_bytes: u32,
    pub segment_bytes: u32,
    pub staging_blocks: usize,
    pub commit_interval_ms: Option<u64>,
    pub codec: CodecId,
}

/// Where the bytes of full segments are.
#[derive(Default)]
struct Shares {
    samples: u64,
    frames: u64,
    codec: u64,
    heads: u64,
    dictionary: u64,
    control: u64,
    headers: u64,
    padding: u64,
    unused: u64,
}

pub const HEADING: &str = "ring  segment  B/sample = codec + heads + dictionary + control + headers + padding + unused blocks | write ns  read ns | filled by";

pub fn compressor() -> Option<Box<dyn Compress>> {
    #[cfg(feature = "host")]
    return Some(Box::new(tidegate::host::snappy::Dictionaries::new()));
    #[cfg(not(feature = "host"))]
    None
}

/// A ring on a medium in memory that takes the captures.
struct Bench<'a> {
    ring: Ring<Ram>,
    catalogue: Catalogue,
    players: Vec<Player<'a>>,
    geometry: Geometry,
    samples: u64,
    spent: Duration,
}

impl<'a> Bench<'a> {
    fn new(captures: &[&'a Capture], shape: &Shape) -> Self {
        let max_series: usize = captures.iter().map(|capture| capture.series.len()).sum();
        // Texts are shared between players only in the catalogue; a rough upper bound will do.
        let text_bytes = 4096
            + captures
                .iter()
                .flat_map(|capture| &capture.series)
                .map(|text| text.len() + 16)
                .sum::<usize>();
        let geometry = Geometry {
            block_bytes: shape.block_bytes,
            blocks_per_slot: shape.segment_bytes / shape.block_bytes,
            slots: SLOTS,
            medium: Medium::Rewritable,
        };
        let mut ram = Ram::new(geometry, 1);
        format(&mut ram, *b"ring_bytes bench", 1, "bench").expect("a blank medium takes a format");
        let config = RingConfig {
            codec: shape.codec,
            commit_interval_ms: shape.commit_interval_ms.unwrap_or(u64::MAX / 4),
            staging_blocks: shape.staging_blocks,
            compress: compressor(),
            ..ring_config::plain(&geometry, max_series, text_bytes)
        };
        let boot = Boot {
            id: *b"the boot of this",
            now: tidegate::clock::Instant(1000),
            wall: Some((
                tidegate::clock::UnixMillis(1_700_000_000_000),
                ClockSource::Synchronised,
            )),
            error_ms: 5,
        };
        let mut catalogue = Catalogue::new(max_series, text_bytes, captures.len());
        let (ring, _) = Ring::mount(ram, config, boot, &mut catalogue).unwrap_or_else(|error| {
            panic!(
                "{}-byte segments of {}-byte blocks: {error}",
                shape.segment_bytes, shape.block_bytes
            )
        });
        let players = captures
            .iter()
            .enumerate()
            .map(|(target, capture)| Player::new(capture, TargetRef(target as u8), &mut catalogue))
            .collect();
        Self {
            ring,
            catalogue,
            players,
            geometry,
            samples: 0,
            spent: Duration::ZERO,
        }
    }

    /// Appends until `SEGMENTS` segments are full.
    fn fill(&mut self) {
        while self.ring.stats().head_seq <= u64::from(SEGMENTS) {
            // One clock for all: the targets are scraped one after the other.
            let next = self
                .players
                .iter()
                .enumerate()
                .min_by_key(|(_, player)| (player.played, player.now.0));
            let place = next.expect("at least one capture").0;
            let player = &mut self.players[place];
            player.scrape(self.ring.next_frame(), &mut self.catalogue);
            self.samples += player.frame.samples.len() as u64;
            let start = Instant::now();
            self.append(place);
            self.spent += start.elapsed();
        }
    }

    fn append(&mut self, place: usize) {
        let player = &self.players[place];
        while let Err(error) = self.ring.append(&player.frame, &mut self.catalogue) {
            assert_eq!(
                error,
                AppendError::StagingFull,
                "{} samples",
                player.frame.samples.len()
            );
            self.ring.commit(&mut self.catalogue).expect("the medium is sound");
        }
        if self.ring.commit_due(player.now).is_some_and(|(at, _)| at <= player.now) {
            self.ring.commit(&mut self.catalogue).expect("the medium is sound");
        }
    }

    /// Reads everything back through the ring. Nanoseconds per sample.
    fn read(&mut self) -> f64 {
        let mut frame = Frame::with_capacity(self.catalogue.capacity());
        let (mut samples, mut frames) = (0, 0);
        let start = Instant::now();
        let mut source = self.ring.source(0, &mut self.catalogue);
        source.seek(FrameNo(0));
        loop {
            match source.next(&mut frame).expect("memory can be read") {
                Next::Frame => {
                    samples += frame.samples.len() as u64;
                    frames += 1;
                }
                Next::Boundary => {}
                Next::End => break,
            }
        }
        let spent = start.elapsed();
        let played: u64 = self.players.iter().map(|player| player.played).sum();
        assert_eq!((frames, samples), (played, self.samples), "everything is read back");
        spent.as_secs_f64() * 1e9 / samples as f64
    }

    fn shares(&self) -> Shares {
        let mut shares = Shares::default();
        // Numbers begin at 1, and so do the slots that are used.
        for seq in 1..=SEGMENTS {
            let segment = self.geometry.segment_bytes() as usize;
            let slot = seq as usize % SLOTS as usize;
            shares.segment(
                &self.ring.storage().image()[slot * segment..][..segment],
                self.geometry.block_bytes as usize,
            );
        }
        shares
    }
}

impl Shares {
    /// Adds up one segment. A sound ring has its blocks in the order of the stream.
    fn segment(&mut self, bytes: &[u8], block_bytes: usize) {
        let mut stream = Vec::new();
        for block in bytes.chunks(block_bytes) {
            if !block.starts_with(b"TG\x01") {
                self.unused += block_bytes as u64;
                continue;
            }
            let used = usize::from(u16::from_le_bytes([block[10], block[11]]));
            let payload = &block[BLOCK_HEADER_BYTES..];
            stream.extend_from_slice(&payload[..used]);
            self.headers += BLOCK_HEADER_BYTES as u64;
            self.padding += (payload.len() - used) as u64;
        }
        let mut layouts = [0; 64];
        let mut cursor = Cursor::new(&stream);
        while !cursor.is_empty() {
            let before = cursor.remaining();
            let kind = cursor.u8().expect("whole records");
            let len = cursor.u64().expect("whole records") as usize;
            let payload = cursor.bytes(len).expect("whole records");
            let whole = (before - cursor.remaining()) as u64;
            match kind {
                3 | 4 => self.dictionary += whole,
                5 => {
                    let (samples, values) = frame(payload, &mut layouts).expect("frames of our own making");
                    self.frames += 1;
                    self.samples += samples;
                    self.codec += values;
                    self.heads += whole - values;
                }
                _ => self.control += whole,
            }
        }
    }
}

/// Samples of a frame and bytes of their values. `layouts`: how many samples a frame of each target has.
fn frame(payload: &[u8], layouts: &mut [u64; 64]) -> Option<(u64, u64)> {
    let head = FrameHead::parse(payload).ok()?;
    let samples = &mut layouts[usize::from(head.target.0)];
    if let Some(layout) = &head.layout {
        *samples = layout.count();
    }
    let samples = if head.failed() { 0 } else { *samples };
    Some((samples, head.values.len() as u64))
}

/// One line: fills a ring, takes it apart, reads it back.
pub fn measure(captures: &[&Capture], shape: &Shape) -> String {
    let mut bench = Bench::new(captures, shape);
    bench.fill();
    let write_ns = bench.spent.as_secs_f64() * 1e9 / bench.samples as f64;
    let shares = bench.shares();
    let read_ns = bench.read();
    let total = u64::from(shape.segment_bytes) * u64::from(SEGMENTS);
    let parts = [
        shares.codec,
        shares.heads,
        shares.dictionary,
        shares.control,
        shares.headers,
        shares.padding,
        shares.unused,
    ];
    assert_eq!(parts.iter().sum::<u64>(), total, "every byte has its place");
    let each = |bytes: u64| bytes as f64 / shares.samples as f64;
    let parts: Vec<String> = parts.iter().map(|&part| format!("{:.4}", each(part))).collect();
    let passes = bench.players.iter().map(Player::passes).max().unwrap_or(0);
    format!(
        "{:<5} {:>4} KiB  {:.4} = {} | {write_ns:>6.1} {read_ns:>6.1} | capture played {passes} times",
        format!("{:?}", shape.codec),
        shape.segment_bytes >> 10,
        each(total),
        parts.join(" + "),
    )
}
