//! The time certificates are checked against.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::clock::UnixMillis;
use crate::host::runtime::unix_now;

/// When this binary was built, seconds since the epoch: `SOURCE_DATE_EPOCH` of a reproducible build, else
/// the day this line was written (2026-11-22). No certificate that is to be accepted expired before.
const BUILT_AT_S: u32 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => match u32::from_str_radix(text, 10) {
        Ok(seconds) => seconds,
        Err(_) => SOURCE_DATE_S,
    },
    None => SOURCE_DATE_S,
};
const SOURCE_DATE_S: u32 = 1_795_305_600;

/// Wall time with a lower bound: a machine without a battery-backed clock starts in 1970, where every
/// certificate is "not yet valid".
///
/// 32 bits of seconds last until 2106 and are atomic on every target.
#[derive(Debug)]
pub struct CertClock {
    floor_s: AtomicU32,
}

impl CertClock {
    /// A clock that never reads earlier than the build.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            floor_s: AtomicU32::new(BUILT_AT_S),
        })
    }

    /// Raises the lower bound to `seen`, a time known to have passed (such as the last one stored). It is
    /// never lowered.
    pub fn raise_floor(&self, seen: UnixMillis) {
        let seconds = u32::try_from(seen.0 / 1000).unwrap_or(if seen.0 < 0 { 0 } else { u32::MAX });
        self.floor_s.fetch_max(seconds, Ordering::Relaxed);
    }

    /// Seconds since the epoch, as certificates see it.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        let clock = u64::try_from(unix_now().0 / 1000).unwrap_or(0);
        clock.max(self.floor_s.load(Ordering::Relaxed).into())
    }
}

impl TimeProvider for CertClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now_s())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_only_rises() {
        let clock = CertClock::new();
        assert!(clock.now_s() >= BUILT_AT_S.into());
        let far = UnixMillis(4_000_000_000_000);
        clock.raise_floor(far);
        assert_eq!(clock.now_s(), 4_000_000_000);
        clock.raise_floor(UnixMillis(0));
        clock.raise_floor(UnixMillis(-5));
        assert_eq!(clock.now_s(), 4_000_000_000);
    }
}
