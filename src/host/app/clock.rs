//! When the wall clock is believed, and telling the agent.
//!
//! With `clock.trust: synchronised` (default) wall time counts once the kernel says that it is synchronised (adjtimex). Many
//! boxes run no time service that tells the kernel, though their clock is right; so a clock that is not
//! synchronised is believed as well if it is *plausible*: not before this program was built, nor before the newest
//! time known from the ring. A board that boots in 1970 fails that test, its samples wait until it passes.
//! The receiver's `Date` has a veto on top (see the sender). `clock.trust: always` believes whatever the clock says.

use super::shared::SharedRef;
use super::sleep;
use crate::clock::UnixMillis;
use crate::host::config::Trust;
use crate::host::runtime::{clock_state, now, unix_now};
use crate::host::tls::CertClock;
use crate::wal::ClockSource;

/// How often the clock is looked at, milliseconds: a step shows in the timestamps after at most this long.
const LOOK_MS: u64 = 5_000;

/// Error assumed of a clock that nobody vouches for, milliseconds.
const UNKNOWN_ERROR_MS: u32 = 60_000;

/// Wall time if it is to be believed, where it comes from, and how wrong it may be.
#[must_use]
pub fn read(trust: Trust, floor: &CertClock) -> Option<(UnixMillis, ClockSource, u32)> {
    let (wall, state) = (unix_now(), clock_state());
    if state.synchronised {
        return Some((wall, ClockSource::Synchronised, state.error_ms));
    }
    // The certificates' clock never goes below build time and the newest time on the ring: one that is ahead of ours
    // says that ours is wrong.
    let plausible = u64::try_from(wall.0 / 1_000).is_ok_and(|seconds| seconds + 1 >= floor.now_s());
    match trust {
        Trust::Always => Some((wall, ClockSource::Manual, UNKNOWN_ERROR_MS)),
        Trust::Synchronised if plausible => Some((wall, ClockSource::Rtc, UNKNOWN_ERROR_MS)),
        Trust::Synchronised => None,
    }
}

/// Looks at the clock again and again.
pub async fn run(shared: SharedRef, trust: Trust, floor: alloc::rc::Rc<crate::host::tls::TlsContext>) {
    let mut known = shared.agent.borrow().wall(now()).is_some();
    if !known {
        log::warn!("the clock is not set: samples are kept, and sent once it is");
    }
    loop {
        if let Some((wall, source, error_ms)) = read(trust, floor.clock()) {
            let mut agent = shared.agent.borrow_mut();
            agent.clock(now(), wall, source, error_ms);
            if !known {
                known = true;
                log::info!(source = super::source_name(source); "the clock is set: waiting samples get their time");
                drop(agent);
                shared.stored.notify();
            }
        }
        sleep(now() + LOOK_MS).await;
    }
}
