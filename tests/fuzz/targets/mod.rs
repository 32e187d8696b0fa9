//! What is fuzzed: one plain function per target, bytes in, nothing out; a finding is a panic.
//!
//! Used twice: by the fuzzer (`tests/fuzz/src/main.rs`) and by `tests/fuzz_corpus.rs`, which replays the corpus. A target
//! panics when the code under test does, or when one of the promises written at its head is broken. Memory is
//! bounded by [`memory`], time by the fuzzer.

pub mod memory;

mod clock_rebase;
mod config;
mod dict_decode;
mod exposition;
mod frame_decode;
mod http;
mod input;
mod mount_image;
mod mutate_image;
mod ops;
mod record_walk;
mod relabel;
#[path = "../../ring_support/mod.rs"]
mod ring_support;
mod rings;
mod scrape;

/// A function to be fuzzed.
pub struct Target {
    /// As on the command line and in `tests/fuzz/corpus/`.
    pub name: &'static str,
    body: fn(&[u8]),
    /// Heap bytes one input may have live at a time; more is a finding.
    pub memory_bytes: usize,
    /// Longest input worth trying.
    #[allow(dead_code, reason = "only the replay of the corpus asks")]
    pub max_len: usize,
}

impl Target {
    const fn new(name: &'static str, body: fn(&[u8]), memory_bytes: usize, max_len: usize) -> Self {
        Self {
            name,
            body,
            memory_bytes,
            max_len,
        }
    }

    /// Runs one input.
    pub fn run(&self, data: &[u8]) {
        memory::within(self.memory_bytes, || (self.body)(data));
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// All targets; scripts/fuzz reads names and lengths from these lines.
pub const ALL: &[Target] = &[
    Target::new("mount_image", mount_image::mount_image, 8 * MIB, 16 * KIB),
    Target::new("mutate_image", mutate_image::mutate_image, 8 * MIB, 256),
    Target::new("frame_decode", frame_decode::frame_decode, 4 * MIB, 4 * KIB),
    Target::new("dict_decode", dict_decode::dict_decode, 4 * MIB, 4 * KIB),
    Target::new("record_walk", record_walk::record_walk, 8 * MIB, 8 * KIB),
    Target::new("ops", ops::ops, 16 * MIB, 512),
    Target::new("clock_rebase", clock_rebase::clock_rebase, 16 * MIB, 256),
    Target::new("text", exposition::text, 256 * KIB, 4 * KIB),
    Target::new("openmetrics", exposition::openmetrics, 256 * KIB, 4 * KIB),
    Target::new("protobuf", exposition::protobuf, 256 * KIB, 4 * KIB),
    Target::new("scrape", scrape::scrape, MIB, 4 * KIB),
    Target::new("relabel", relabel::relabel, 4 * MIB, KIB),
    Target::new("config", config::config, 4 * MIB, 4 * KIB),
    Target::new("http_response", http::http_response, 2 * MIB, 8 * KIB),
];
