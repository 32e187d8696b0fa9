//! `tidegate:`: what Prometheus has no word for.
//!
//! Every key has a default, so the whole section may be absent.

use super::read::record;
use super::value::{Duration, FromText, Size, read_from_text, words};
use alloc::format;
use alloc::string::String;
use core::fmt;

record! {
    /// The `tidegate` section.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Tidegate {
        /// Status port, `host:port`; empty, as it is without the feature `status-port`: none; port 0: any free one.
        pub listen_address: String,
        /// Start times travel with their samples: those of protobuf, and `_created` lines of OpenMetrics, which are no series then.
        pub start_timestamps: bool,
        /// Where samples wait.
        pub ring: Ring,
        /// How much memory may be used.
        pub memory: Memory,
        /// When samples are sent, for remotes that do not say it themselves.
        pub uplink: Uplink,
        /// When the system's clock is believed.
        pub clock: Clock,
    }
}

impl Default for Tidegate {
    fn default() -> Self {
        Self {
            listen_address: if cfg!(feature = "status-port") {
                "127.0.0.1:9099"
            } else {
                ""
            }
            .into(),
            start_timestamps: false,
            ring: Ring::default(),
            memory: Memory::default(),
            uplink: Uplink::default(),
            clock: Clock::default(),
        }
    }
}

record! {
    /// `tidegate.ring`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Ring {
        /// File, block device or `/dev/mtdN`; a missing file is created and zero-filled.
        pub path: String,
        /// Bytes on the medium, exact.
        pub size: Size,
        /// Bytes of a slot.
        pub segment_size: Size,
        /// Bytes written at once.
        pub block_size: Size,
        /// Age of the oldest unacknowledged sample at which it is written to the medium; 0: every scrape.
        pub commit_interval: Duration,
        /// What gives way when everything is unacknowledged.
        pub when_full: WhenFull,
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            path: "/var/lib/tidegate/ring".into(),
            size: Size::from_mib(64),
            segment_size: Size::from_kib(256),
            block_size: Size::from_kib(4),
            commit_interval: Duration::from_secs(60),
            when_full: WhenFull::DropOldest,
        }
    }
}

words! {
    /// What gives way in a full ring.
    WhenFull,
    /// The oldest segment.
    DropOldest = "drop_oldest",
    /// New scrapes.
    Stop = "stop",
}

record! {
    /// `tidegate.memory`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Memory {
        /// Hard cap of the heap.
        pub limit: MemoryLimit,
        /// Series over all targets.
        pub max_series: u32,
        /// Scrapes in progress at the same time.
        pub max_concurrent_scrapes: u32,
        /// Bytes of what targets say about their metric families.
        pub metadata: MetadataSize,
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            limit: MemoryLimit::Auto,
            max_series: 2_000,
            max_concurrent_scrapes: 2,
            metadata: MetadataSize::Auto,
        }
    }
}

/// `tidegate.memory.metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataSize {
    /// In proportion to `max_series`.
    Auto,
    /// So much; 0: nothing is kept.
    Bytes(Size),
}

impl FromText for MetadataSize {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => Size::from_text(text)
                .map(Self::Bytes)
                .map_err(|_| format!("found {text:?}, expected auto, 0 or a size such as 64KiB")),
        }
    }
}

impl fmt::Display for MetadataSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(size) => size.fmt(f),
        }
    }
}

/// `tidegate.memory.limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// The sum of the memory plan.
    Auto,
    /// So much and no more.
    Bytes(Size),
}

impl FromText for MemoryLimit {
    fn from_text(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match Size::from_text(text) {
            Ok(size) if !size.is_zero() => Ok(Self::Bytes(size)),
            _ => Err(format!("found {text:?}, expected auto or a size such as 2MiB")),
        }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(size) => size.fmt(f),
        }
    }
}

read_from_text!(MemoryLimit, MetadataSize, Share);

record! {
    /// `tidegate.uplink`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Uplink {
        /// Longest time a sample waits for its batch to fill.
        pub flush_interval: Duration,
        /// Age at which samples are given up; 0: never.
        pub max_sample_age: Duration,
        /// Bytes per second that each remote is sent, headers and bodies; 0: no limit.
        pub rate_limit: Size,
        /// Age from which a backlog is sent at a pace that begins low; 0: every backlog goes at once.
        pub slow_start: Duration,
        /// Part of the link that fresh samples may take ahead of a backlog, at remotes that accept samples out of order; 0: none.
        pub live_share: Share,
    }
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            flush_interval: Duration::from_secs(5),
            max_sample_age: Duration::default(),
            rate_limit: Size::from_bytes(0),
            slow_start: Duration::from_secs(60),
            live_share: Share::default(),
        }
    }
}

/// A part of the whole, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// In thousandths.
    pub thousandths: u16,
}

impl FromText for Share {
    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || format!("found {text:?}, expected a number from 0 to 1 with up to three decimals, such as 0.2");
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str, most: usize| {
            let right = (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            right.then(|| part.parse::<u16>().ok()).flatten()
        };
        let scale = [100, 10, 1].get(decimals.len().saturating_sub(1)).copied();
        let parts = digits(whole, 1).zip(digits(decimals, 3)).zip(scale);
        let thousandths = parts.map(|((whole, decimals), scale)| whole * 1000 + decimals * scale);
        match thousandths {
            Some(thousandths @ ..=1000) => Ok(Self { thousandths }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.thousandths / 1000, self.thousandths % 1000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

record! {
    /// `tidegate.clock`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Clock {
        /// When wall time is believed.
        pub trust: Trust,
        /// What becomes of the samples of a boot that never knew the time.
        pub unknown_boot: UnknownBoot,
        /// How far our clock may be from a receiver's before sending stops; 0: any distance.
        pub max_skew: Duration,
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            trust: Trust::Synchronised,
            unknown_boot: UnknownBoot::Hold,
            max_skew: Duration::from_secs(600),
        }
    }
}

words! {
    /// What becomes of the samples of a boot that never knew the time.
    UnknownBoot,
    /// They wait while it runs, and are placed just before the next boot once it has ended.
    Hold = "hold",
    /// Never wait: placed behind the largest time known while it runs, just before the next boot once it has ended.
    Anchor = "anchor",
    /// They wait while it runs, and are counted as lost once it has ended.
    Drop = "drop",
}

words! {
    /// When wall time is believed.
    Trust,
    /// Once the kernel says it is synchronised.
    Synchronised = "synchronised",
    /// From the start.
    Always = "always",
}
