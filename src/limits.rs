//! Every compile-time bound: what it bounds, its unit, why this value, what it costs.
//!
//! Bounds that the operator sizes (series, staging, batches) come from the configuration; the memory
//! plan (`tidegate check`) lists them. A bound that shapes stored bytes is written into the ring and
//! checked at mount.

/// Targets over all jobs. The ring's frame header has one byte for the target; each costs about 1 KiB
/// of configuration and schedule.
pub const MAX_TARGETS: usize = 64;

/// Series over all targets: references are 16 bits wide, 0xFFFF means none.
pub const MAX_SERIES: usize = 65_535 - 1;

/// Labels of one series, `__name__` and target labels included. 16 bytes each on the stack while a
/// label set is built; Prometheus has no default limit, 64 is twice what cloud exporters attach.
pub const MAX_LABELS: usize = 64;

/// Bytes of one series in text form (`name{a="b"}`), after escaping. One such buffer per scrape and per
/// remote. Large enough for the 10,000-byte label value of the remote write 2.0 compliance suite.
pub const MAX_SERIES_TEXT_BYTES: usize = 16 * 1024;

/// Bytes of one line of an exposition, terminator included. One buffer per concurrent scrape.
/// HELP lines longer than this are skipped, sample lines fail the scrape.
pub const MAX_LINE_BYTES: usize = 20 * 1024;

/// Remotes (`remote_write` entries). Each costs a batch, a reader and a TLS connection.
pub const MAX_REMOTES: usize = 8;

/// Spans of frames that a remote may have beyond its acknowledgement. 40 bytes each.
pub const MAX_SPANS_AHEAD: usize = 8;
