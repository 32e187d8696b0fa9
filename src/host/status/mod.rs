//! What the agent says of itself: through the status port (the feature of that name), and as a target of its own ([`own`]).

pub mod api;
pub mod exposition;
pub mod json;
pub mod metrics;
pub mod own;
#[cfg(feature = "status-port")]
mod port;
mod process;

use crate::clock::UnixMillis;
use crate::host::event::Event;
use crate::host::runtime::unix_now;
use alloc::string::String;
use core::cell::Cell;
#[cfg(feature = "status-port")]
pub use port::serve;

/// Largest answer, or part of one: `/metrics` with 8 remotes and `/status` with 64 failing targets fit.
pub const RESPONSE_BYTES: usize = 96 * 1024;

/// Connections served at once.
pub const STATUS_CONNECTIONS: usize = 2;

/// Reloading, as the status port sees it.
#[derive(Debug)]
pub struct Lifecycle {
    enabled: bool,
    loaded: Cell<UnixMillis>,
    successful: Cell<bool>,
    accepted: Event,
}

/// Loads the configuration anew; the error is for people.
pub type Reload<'a> = dyn Fn() -> Result<(), String> + 'a;

impl Lifecycle {
    /// `enabled`: `POST /-/reload` is allowed.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        process::start(unix_now());
        Self {
            enabled,
            loaded: Cell::new(unix_now()),
            successful: Cell::new(true),
            accepted: Event::new(),
        }
    }

    /// Whether `POST /-/reload` is allowed.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.enabled
    }

    /// When the configuration in force was loaded.
    #[must_use]
    pub fn loaded(&self) -> UnixMillis {
        self.loaded.get()
    }

    /// Whether the last attempt to reload succeeded.
    #[must_use]
    pub fn last_reload_successful(&self) -> bool {
        self.successful.get()
    }

    /// A new configuration is in force.
    pub fn reloaded(&self, now: UnixMillis) {
        self.loaded.set(now);
    }

    /// Waits until a reload asked for through the port is accepted.
    pub async fn accepted(&self) {
        self.accepted.after(self.accepted.count()).await;
    }

    /// Whether the new configuration was accepted.
    pub fn judged(&self, accepted: bool) {
        self.successful.set(accepted);
    }
}

/// Without the port there is nothing to serve: waits for ever.
#[cfg(not(feature = "status-port"))]
pub async fn serve(
    _: &crate::host::app::shared::SharedRef,
    _: Option<&crate::host::net::Listener>,
    _: &Lifecycle,
    _: &Reload<'_>,
) -> core::convert::Infallible {
    core::future::pending().await
}
