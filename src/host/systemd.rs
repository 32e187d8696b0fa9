//! The service manager's notification socket (sd_notify(3)), without its library.
//!
//! One kept `AF_UNIX` datagram socket; a missing `NOTIFY_SOCKET` makes every call a no-op. The watchdog is
//! fed by the caller, and only while scrapes and commits make progress, so that a stuck loop is restarted.

use core::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    watchdog_ms: Option<u64>,
}

impl Notify {
    /// Connects to what `NOTIFY_SOCKET` names; `WATCHDOG_USEC` sets the watchdog period.
    ///
    /// # Errors
    /// The variable is set but its socket cannot be reached.
    pub fn from_env() -> io::Result<Self> {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
            return Ok(Self::default());
        };
        let bytes = path.as_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        let for_us = std::env::var("WATCHDOG_PID")
            .ok()
            .is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let watchdog_ms = std::env::var("WATCHDOG_USEC")
            .ok()
            .filter(|_| for_us)
            .and_then(|usec| usec.parse::<u64>().ok())
            .map(|usec| usec / 1_000)
            .filter(|&ms| ms > 0);
        Ok(Self {
            socket: Some(socket),
            watchdog_ms,
        })
    }

    /// How often the watchdog wants to be fed, halved as sd_watchdog_enabled(3) advises.
    #[must_use]
    pub fn watchdog_interval_ms(&self) -> Option<u64> {
        self.watchdog_ms.map(|ms| (ms / 2).max(1))
    }

    /// Says that a reload has begun; `READY=1` ends it. `Type=notify-reload` wants the time with it.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let mut state = heapless::String::<64>::new();
        // 32 bytes and 20 digits at most.
        let _ = write!(
            state,
            "RELOADING=1\nMONOTONIC_USEC={}",
            now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
        );
        self.send(&state);
    }

    /// Sends `state`, for example `READY=1` or `STATUS=...`.
    ///
    /// A full socket is the manager's business: the message is dropped, the agent goes on.
    pub fn send(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(state.as_bytes())
            && error.kind() != io::ErrorKind::WouldBlock
        {
            log::debug!(error:% = error; "service manager not reached");
        }
    }
}
