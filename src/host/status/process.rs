//! What the kernel says of this process.

use crate::clock::UnixMillis;
use std::sync::OnceLock;

/// Resident bytes and CPU microseconds. `None` without /proc or getrusage.
#[must_use]
pub fn usage() -> Option<(u64, u64)> {
    let mut text = [0_u8; 128];
    let file = std::fs::File::open("/proc/self/statm").ok()?;
    let read = std::io::Read::read(&mut &file, &mut text).ok()?;
    let pages: u64 = core::str::from_utf8(text.get(..read)?)
        .ok()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let micros = u64::try_from(cpu.tv_sec).ok()? * 1_000_000 + u64::try_from(cpu.tv_nsec).ok()? / 1_000;
    Some((pages * rustix::param::page_size() as u64, micros))
}

/// When the process started: `now` at the first call, which start makes.
pub fn start(now: UnixMillis) -> UnixMillis {
    static START: OnceLock<UnixMillis> = OnceLock::new();
    *START.get_or_init(|| now)
}
