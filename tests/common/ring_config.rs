//! What a ring is made from where a test has no wish of its own.

use tidegate::value::codec::CodecId;
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::{RemoteConfig, RingConfig, WhenFull};

/// A ring over all of the medium, for values only, drained by one remote.
pub fn plain(geometry: &Geometry, max_series: usize, text_bytes: usize) -> RingConfig {
    let superblocks = if geometry.medium == Medium::Rewritable {
        8_192
    } else {
        0
    };
    RingConfig {
        block_bytes: geometry.block_bytes,
        segment_bytes: geometry.segment_bytes(),
        ring_bytes: u64::from(geometry.segment_bytes()) * u64::from(geometry.slots) + superblocks,
        codec: CodecId::Tc1,
        commit_interval_ms: 60_000,
        staging_blocks: 16,
        max_series,
        max_frame_samples: max_series,
        extras_bytes: 0,
        text_bytes,
        remotes: [RemoteConfig {
            id: 1,
            best_effort: false,
        }]
        .into_iter()
        .collect(),
        when_full: WhenFull::DropOldest,
        config_crc: 7,
        compress: None,
    }
}
