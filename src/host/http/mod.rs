//! HTTP/1.1 over the one-thread runtime: client for scrapes and remote write, server for the status port.
//!
//! The protocol itself is ureq-proto's, in both directions; this module moves its bytes over plain and
//! TLS sockets, bounds everything and tells failures apart. No type of ureq-proto appears in a public
//! signature, so another protocol engine could take its place.
//!
//! Sources: RFC 9110, RFC 9112, the Prometheus scrape rules SCR-101..118 and SCR-201..206.

mod auth;
#[cfg(feature = "sigv4")]
mod aws;
mod client;
mod config;
mod error;
mod exchange;
mod head;
mod oauth2;
mod received;
mod server;
#[cfg(feature = "sigv4")]
mod sigv4;
mod stream;
mod url;

pub use auth::{Authorization, Secret};
#[cfg(feature = "sigv4")]
pub use aws::{AwsKeys, SignError};
pub use client::Client;
pub use config::{Buffers, ClientConfig, ClientStats, Header, Proxy, Request};
pub use error::{HttpError, Phase, RedirectError};
pub use head::{Abort, BodyAction, CaptureBody, Receive, ResponseHead};
pub use oauth2::{ANSWER_BYTES, TokenError, TokenRequest, TokenSource};
pub use server::{Response, ServerConfig, ServerRequest, serve};
#[cfg(feature = "sigv4")]
pub use sigv4::{DEFAULT_SERVICE, Signer};
pub use url::{Scheme, Url, UrlError};

/// Request methods the agent uses or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: as GET without the body.
    Head,
    /// POST.
    Post,
}

#[cfg(test)]
mod tests;
