//! Instants and wall time as the core sees them.
//!
//! The core never reads a clock: the host hands in [`Instant`] (boot time, monotonic,
//! counts suspend) and, where wall time matters, [`UnixMillis`].

use core::ops::{Add, Sub};

/// Milliseconds of `CLOCK_BOOTTIME`: monotonic within one boot of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Milliseconds from `earlier` to `self`, 0 when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Instant {
    type Output = Self;
    /// Adds milliseconds, saturating.
    fn add(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sub<u64> for Instant {
    type Output = Self;
    /// Subtracts milliseconds, saturating at the boot.
    fn sub(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

/// Milliseconds since the Unix epoch, as remote write and the expositions use them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);
