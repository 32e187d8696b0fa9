//! The status port: `/metrics`, health, Prometheus' API shapes, and a page for people.
//!
//! Answers are written into one buffer of [`RESPONSE_BYTES`], allocated at start; targets and configuration, which have no
//! bound that is known, in parts. One that does not fit is answered with 500. Nothing is ever changed through the port, except by `POST` or `PUT /-/reload` where `--web.enable-lifecycle` allows it.

use super::api::{self, MetadataFilter, TargetFilter};
use super::exposition::TextFormat;
use super::{Lifecycle, RESPONSE_BYTES, Reload, STATUS_CONNECTIONS, metrics};
use crate::host::app::shared::SharedRef;
use crate::host::http::{self, Method, Response, ServerConfig, ServerRequest};
use crate::host::net::Listener;
use alloc::string::String;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt::{self, Write as _};

/// Serves the port for as long as the configuration is in force; without a listener it waits for ever.
pub async fn serve(
    shared: &SharedRef,
    listener: Option<&Listener>,
    lifecycle: &Lifecycle,
    reload: &Reload<'_>,
) -> Infallible {
    let Some(listener) = listener else {
        return core::future::pending().await;
    };
    let config = ServerConfig {
        max_connections: STATUS_CONNECTIONS,
        body_limit: 0,
        response_bytes: RESPONSE_BYTES,
    };
    match http::serve(listener, config, &|request, reply| {
        answer(shared, (lifecycle, reload), request, reply)
    })
    .await {}
}

fn answer(
    shared: &SharedRef,
    (lifecycle, reload): (&Lifecycle, &Reload<'_>),
    request: &ServerRequest<'_>,
    reply: &mut Response<'_>,
) {
    let written = match (request.method, request.path) {
        (Method::Post, "/-/reload") => reload_now(lifecycle, reload, reply),
        (_, "/-/reload") => method_not_allowed(reply),
        (_, path) if is_query(path) => unavailable(reply),
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

fn reload_now(lifecycle: &Lifecycle, reload: &Reload<'_>, reply: &mut Response<'_>) -> fmt::Result {
    const PLAIN: &str = "text/plain; charset=utf-8";
    if !lifecycle.enabled() {
        begin(reply, 403, PLAIN);
        return reply.write_str("Lifecycle API is not enabled.\n");
    }
    match reload() {
        Ok(()) => {
            begin(reply, 200, PLAIN);
            lifecycle.accepted.notify();
            Ok(())
        }
        Err(problem) => {
            begin(reply, 500, PLAIN);
            writeln!(reply, "failed to reload config: {problem}")
        }
    }
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
            metrics::write(reply, format, shared)?;
            metrics::written();
            Ok(())
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
                state: &query(request.query, "state"),
                pool: &query(request.query, "scrapePool"),
            };
            let part = reply.part();
            let more = api::targets(reply, shared, filter, part)?;
            continued(reply, more)
        }
        "/api/v1/targets/metadata" => targets_metadata(shared, request, reply),
        "/api/v1/status/config" => {
            begin(reply, 200, JSON);
            let part = reply.part();
            let more = api::config(reply, shared, part)?;
            continued(reply, more)
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
        _ => {
            begin(reply, 404, PLAIN);
            reply.write_str("404 page not found\n")
        }
    }
}

fn targets_metadata(shared: &SharedRef, request: &ServerRequest<'_>, reply: &mut Response<'_>) -> fmt::Result {
    begin(reply, 200, "application/json");
    let limit = query(request.query, "limit");
    if !query(request.query, "match_target").is_empty() || !(limit.is_empty() || limit.parse::<usize>().is_ok()) {
        reply.set_status(400);
        return reply.write_str(
            "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"expected metric and limit (a number); match_target is \
             not supported\"}\n",
        );
    }
    let filter = MetadataFilter {
        family: &query(request.query, "metric"),
        limit: limit.parse().unwrap_or(0),
    };
    let part = reply.part();
    match api::targets_metadata(reply, shared, filter, part)? {
        Some(more) => continued(reply, more),
        None => {
            reply.set_status(404);
            reply.write_str(
                "{\"status\":\"error\",\"errorType\":\"not_found\",\"error\":\"specified metadata not found\"}\n",
            )
        }
    }
}

fn continued(reply: &mut Response<'_>, more: bool) -> fmt::Result {
    if more {
        reply.call_again(reply.part() + 1);
    }
    Ok(())
}

/// Paths of Prometheus that need its database.
fn is_query(path: &str) -> bool {
    const PATHS: [&str; 13] = [
        "query",
        "query_range",
        "query_exemplars",
        "format_query",
        "parse_query",
        "series",
        "labels",
        "rules",
        "alerts",
        "alertmanagers",
        "status/tsdb",
        "status/tsdb/blocks",
        "read",
    ];
    path.strip_prefix("/api/v1/").is_some_and(|path| {
        PATHS.contains(&path)
            || path.starts_with("admin/tsdb/")
            || (path.starts_with("label/") && path.ends_with("/values"))
    })
}

fn unavailable(reply: &mut Response<'_>) -> fmt::Result {
    begin(reply, 422, "application/json");
    reply.write_str(
        "{\"status\":\"error\",\"errorType\":\"execution\",\"error\":\"unavailable with Prometheus Agent\"}\n",
    )
}

/// The value of `name` in a query string, decoded; empty when there is none.
fn query(query: &str, name: &str) -> String {
    let value = query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    });
    let mut bytes = Vec::new();
    let mut rest = value.unwrap_or_default().as_bytes().iter();
    while let Some(&byte) = rest.next() {
        let hex = |digits: &str| u8::from_str_radix(digits, 16).ok();
        let escaped = match (byte, rest.as_slice()) {
            (b'%', [high, low, ..]) => core::str::from_utf8(&[*high, *low]).ok().and_then(hex),
            (b'+', _) => Some(b' '),
            _ => None,
        };
        if byte == b'%' && escaped.is_some() {
            rest.nth(1);
        }
        bytes.push(escaped.unwrap_or(byte));
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
