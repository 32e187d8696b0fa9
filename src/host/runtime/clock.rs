//! The clocks: boot time, wall time, and whether the kernel trusts the latter.
//!
//! The core is handed these values; nothing outside `host` reads a clock.

use std::io;

use rustix::time::{ClockId, DynamicClockId, Timespec, clock_gettime, clock_gettime_dynamic};

use crate::clock::{Instant, UnixMillis};

/// Identity of one boot: the kernel's random UUID, as 16 bytes.
pub type BootId = [u8; 16];

const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Nanoseconds of `CLOCK_BOOTTIME`.
pub(super) fn now_ns() -> u64 {
    // Boot time exists since Linux 2.6.39; should a kernel refuse it, monotonic time is the same clock
    // without suspend.
    let time = clock_gettime_dynamic(DynamicClockId::Boottime).unwrap_or_else(|_| clock_gettime(ClockId::Monotonic));
    nanos(time).max(0) as u64
}

#[allow(
    clippy::unnecessary_cast,
    reason = "tv_nsec is 32 bits wide where rustix goes through libc"
)]
fn nanos(time: Timespec) -> i64 {
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as i64)
}

/// Milliseconds since boot, suspend included, rounded down.
#[must_use]
pub fn now() -> Instant {
    Instant(now_ns() / 1_000_000)
}

/// Wall time as the kernel has it, trusted or not: see [`clock_state`].
#[must_use]
pub fn unix_now() -> UnixMillis {
    UnixMillis(nanos(clock_gettime(ClockId::Realtime)).div_euclid(1_000_000))
}

/// What the kernel says of its wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockState {
    /// A time daemon keeps the clock (`STA_UNSYNC` is clear and the state is not `TIME_ERROR`).
    pub synchronised: bool,
    /// Largest error the kernel claims, milliseconds; grows while nobody disciplines the clock.
    pub error_ms: u32,
}

/// Asks the kernel whether the wall clock is synchronised (adjtimex(2), read only).
#[must_use]
pub fn clock_state() -> ClockState {
    // SAFETY: `timex` is plain integers, for which zero is a valid value; modes 0 makes the call a pure
    // read into the struct we own.
    let (state, time) = unsafe {
        let mut time: libc::timex = core::mem::zeroed();
        (libc::adjtimex(&raw mut time), time)
    };
    let synchronised = state >= 0 && state != libc::TIME_ERROR && time.status & libc::STA_UNSYNC == 0;
    let error_ms = u32::try_from(time.maxerror.max(0) / 1000).unwrap_or(u32::MAX);
    ClockState { synchronised, error_ms }
}

/// Identity of this boot.
///
/// # Errors
///
/// The file cannot be read (no `/proc`) or holds no UUID.
pub fn boot_id() -> io::Result<BootId> {
    let mut text = [0u8; 64];
    let read = io::Read::read(&mut std::fs::File::open(BOOT_ID_FILE)?, &mut text)?;
    parse_uuid(&text[..read]).ok_or_else(|| io::Error::other("boot_id holds no UUID"))
}

fn parse_uuid(text: &[u8]) -> Option<BootId> {
    let mut id = [0; 16];
    let mut digits = text
        .trim_ascii()
        .iter()
        .filter(|b| **b != b'-')
        .map(|b| char::from(*b).to_digit(16));
    for byte in &mut id {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = (high * 16 + low) as u8;
    }
    digits.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_parsed_and_others_refused() {
        let id = parse_uuid(b"00112233-4455-6677-8899-aabbccddeeff\n").expect("valid");
        assert_eq!(id[..3], [0, 0x11, 0x22]);
        assert_eq!(id[15], 0xff);
        assert_eq!(parse_uuid(b"00112233-4455-6677-8899-aabbccddee"), None);
        assert_eq!(parse_uuid(b"00112233-4455-6677-8899-aabbccddeeff00"), None);
        assert_eq!(parse_uuid(b"zz112233-4455-6677-8899-aabbccddeeff"), None);
    }

    #[test]
    fn this_boot_has_a_stable_identity() {
        let id = boot_id().expect("/proc is mounted");
        assert_eq!(boot_id().expect("/proc is mounted"), id);
        assert_ne!(id, [0; 16]);
    }

    #[test]
    fn boot_time_advances_and_wall_time_is_after_2020() {
        let before = now_ns();
        assert!(now_ns() >= before);
        assert!(unix_now().0 > 1_577_836_800_000);
    }

    #[test]
    fn kernel_clock_state_is_readable() {
        let state = clock_state();
        // A synchronised clock claims a small error; an unsynchronised one claims up to 16 s or more.
        assert!(!state.synchronised || state.error_ms <= 16_000);
    }
}
