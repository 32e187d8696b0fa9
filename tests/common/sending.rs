//! What a sender is made from where a test has no wish of its own: the defaults of a configuration, a small batch.

use tidegate::remote_write::batch::{BatchLimits, MIN_BODY_BYTES, Sends, UnknownTime};
use tidegate::remote_write::sender::{MessageChoice, MetadataConfig, SenderConfig};

/// Values only, no extras, no metadata; every frame may have every series.
pub const fn remote(max_series: usize, max_targets: usize) -> SenderConfig {
    SenderConfig {
        limits: BatchLimits {
            samples: 0,
            body_bytes: MIN_BODY_BYTES,
            max_series,
            max_targets,
            frame_samples: max_series,
            extras_bytes: 0,
            sends: Sends {
                histograms: false,
                exemplars: false,
            },
            families: 0,
        },
        max_samples_per_send: 100,
        backlog_samples_per_send: 100,
        flush_interval_ms: 5_000,
        min_backoff_ms: 30,
        max_backoff_ms: 5_000,
        connect_backoff_ms: 1_000,
        rate_limit: 0,
        slow_start_ms: 60_000,
        live_share: 0,
        max_sample_age_ms: 0,
        retry_on_429: true,
        message: MessageChoice::Negotiate,
        group_live: false,
        metadata: MetadataConfig::OFF,
        unknown_time: UnknownTime::Hold,
        seed: 1,
    }
}
