//! The status port: `/metrics`, health, Prometheus' API shapes, and a page for people.
//!
//! Answers are written into one buffer of [`RESPONSE_BYTES`], allocated at start; one that does not fit is answered
//! with 500. Nothing is ever changed through the port, except by `POST /-/reload` where `--web.enable-lifecycle` allows it.

pub mod api;
pub mod exposition;
pub mod json;
pub mod metrics;
mod process;

use crate::clock::UnixMillis;
use crate::host::app::shared::SharedRef;
use crate::host::event::Event;
use crate::host::http::Method;
use crate::host::http::{self, Response, ServerConfig, ServerRequest};
use crate::host::net::Listener;
use crate::host::runtime::unix_now;
use alloc::string::String;
use api::TargetFilter;
use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::fmt::{self, Write as _};
use exposition::TextFormat;

/// Largest answer: `/metrics` and `/api/v1/targets` with 64 targets fit.
pub const RESPONSE_BYTES: usize = 64 * 1024;

/// Connections served at once.
pub const STATUS_CONNECTIONS: usize = 2;

/// Reloading, as the status port sees it.
#[derive(Debug)]
pub struct Lifecycle {
    enabled: bool,
    loaded: Cell<UnixMillis>,
    successful: Cell<bool>,
    requested: Event,
    answered: Event,
    problem: RefCell<Option<String>>,
}

impl Lifecycle {
    /// `enabled`: `POST /-/reload` is allowed.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        process::start(unix_now());
        Self {
            enabled,
            loaded: Cell::new(unix_now()),
            successful: Cell::new(true),
            requested: Event::new(),
            answered: Event::new(),
            problem: RefCell::new(None),
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
    pub fn reloaded(&mut self, now: UnixMillis) {
        self.loaded.set(now);
    }

    /// Waits for a request to reload.
    pub async fn reload_requested(&self) {
        self.requested.after(self.requested.count()).await;
    }

    /// The reload has come to this.
    pub fn answer(&self, result: Result<(), &str>) {
        self.successful.set(result.is_ok());
        *self.problem.borrow_mut() = result.err().map(String::from);
        self.answered.notify();
    }
}

/// Serves the port for as long as the configuration is in force; without a listener it waits for ever.
pub async fn serve(shared: &SharedRef, listener: Option<&Listener>, lifecycle: &Lifecycle) -> Infallible {
    let Some(listener) = listener else {
        return core::future::pending().await;
    };
    let config = ServerConfig {
        max_connections: STATUS_CONNECTIONS,
        body_limit: 0,
        response_bytes: RESPONSE_BYTES,
    };
    match http::serve(listener, config, &|request, reply| {
        answer(shared, lifecycle, request, reply)
    })
    .await {}
}

fn answer(shared: &SharedRef, lifecycle: &Lifecycle, request: &ServerRequest<'_>, reply: &mut Response<'_>) {
    let written = match (request.method, request.path) {
        (Method::Post, "/-/reload") => reload(lifecycle, reply),
        (_, "/-/reload") => method_not_allowed(reply),
        (Method::Post, _) => method_not_allowed(reply),
        (_, path) => page(shared, lifecycle, request, path, reply),
    };
    // An answer that does not fit is the server's business: it says 500.
    let _ = written;
}

fn begin(reply: &mut Response<'_>, status: u16, content_type: &'static str) {
    reply.set_status(status);
    reply.set_content_type(content_type);
}

fn method_not_allowed(reply: &mut Response<'_>) -> fmt::Result {
    begin(reply, 405, "text/plain; charset=utf-8");
    reply.write_str("Method Not Allowed\n")
}

fn reload(lifecycle: &Lifecycle, reply: &mut Response<'_>) -> fmt::Result {
    if !lifecycle.enabled {
        begin(reply, 403, "text/plain; charset=utf-8");
        return reply.write_str("Lifecycle API is not enabled.\n");
    }
    // The file is read by the main task in its next turn; how that went shows in /metrics and in the log.
    lifecycle.requested.notify();
    begin(reply, 200, "text/plain; charset=utf-8");
    Ok(())
}

fn page(
    shared: &SharedRef,
    lifecycle: &Lifecycle,
    request: &ServerRequest<'_>,
    path: &str,
    reply: &mut Response<'_>,
) -> fmt::Result {
    const PLAIN: &str = "text/plain; charset=utf-8";
    const JSON: &str = "application/json";
    match path {
        "/metrics" => {
            let format = TextFormat::negotiate(request.accept.as_bytes());
            begin(reply, 200, format.content_type());
            metrics::write(reply, format, shared, lifecycle)
        }
        "/-/healthy" => {
            begin(reply, 200, PLAIN);
            reply.write_str("tidegate is Healthy.\n")
        }
        "/-/ready" => {
            begin(reply, 200, PLAIN);
            reply.write_str("tidegate is Ready.\n")
        }
        "/status" => {
            begin(reply, 200, PLAIN);
            api::text(reply, shared)
        }
        "/" => {
            begin(reply, 200, "text/html; charset=utf-8");
            home(shared, reply)
        }
        "/api/v1/targets" => {
            begin(reply, 200, JSON);
            let filter = TargetFilter {
                state: query(request.query, "state").unwrap_or("any"),
                pool: query(request.query, "scrapePool").unwrap_or(""),
            };
            api::targets(reply, shared, filter)
        }
        "/api/v1/status/config" => {
            begin(reply, 200, JSON);
            api::config(reply, shared)
        }
        "/api/v1/status/buildinfo" => {
            begin(reply, 200, JSON);
            api::buildinfo(reply)
        }
        "/api/v1/status/runtimeinfo" => {
            begin(reply, 200, JSON);
            api::runtimeinfo(reply, shared, lifecycle)
        }
        "/api/v1/status/flags" => {
            begin(reply, 200, JSON);
            api::flags(reply, lifecycle)
        }
        "/api/v1/query"
        | "/api/v1/query_range"
        | "/api/v1/series"
        | "/api/v1/labels"
        | "/api/v1/rules"
        | "/api/v1/alerts" => {
            begin(reply, 422, JSON);
            reply.write_str(
                "{\"status\":\"error\",\"errorType\":\"execution\",\"error\":\"unavailable with Prometheus Agent\"}\n",
            )
        }
        _ => {
            begin(reply, 404, PLAIN);
            reply.write_str("404 page not found\n")
        }
    }
}

/// The value of `name` in a query string, as it stands.
fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        pair.split_once('=')
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
    })
}

/// The page for people: what `tidegate status` says, renewed every five seconds.
fn home(shared: &SharedRef, reply: &mut Response<'_>) -> fmt::Result {
    reply.write_str(
        "<!doctype html><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\"><title>tidegate</title>\
         <style>body{font:14px/1.5 monospace;margin:2em;max-width:110ch}</style><pre>",
    )?;
    let mut escaped = HtmlText(reply);
    api::text(&mut escaped, shared)?;
    reply.write_str(
        "</pre><p><a href=\"metrics\">metrics</a> <a href=\"api/v1/targets\">targets</a> \
         <a href=\"api/v1/status/config\">config</a>",
    )
}

/// Escapes what a page must not take for markup.
struct HtmlText<'a, 'b>(&'a mut Response<'b>);

impl fmt::Write for HtmlText<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(['<', '>', '&']) {
            let (head, entity) = match piece.as_bytes().last() {
                Some(b'<') => (&piece[..piece.len() - 1], "&lt;"),
                Some(b'>') => (&piece[..piece.len() - 1], "&gt;"),
                Some(b'&') => (&piece[..piece.len() - 1], "&amp;"),
                _ => (piece, ""),
            };
            self.0.write_str(head)?;
            self.0.write_str(entity)?;
        }
        Ok(())
    }
}
