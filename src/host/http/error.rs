//! Why a request failed, split by what its caller does next.

use core::fmt;
use std::io;
use std::path::PathBuf;

#[cfg(feature = "sigv4")]
use super::aws::SignError;
use super::oauth2::TokenError;
use crate::host::dns::DnsError;
use crate::host::gunzip::GunzipError;
use crate::host::heap::ArenaFull;
use crate::host::net::ConnectError;
use crate::host::runtime::TableFull;
use crate::host::tls::{StreamError, TlsError};

/// What a request was doing when its time ran out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for an OAuth 2.0 token.
    Token,
    /// Resolving the host name.
    #[default]
    Resolve,
    /// Connecting.
    Connect,
    /// Asking the proxy for a tunnel.
    Proxy,
    /// In the TLS handshake.
    Tls,
    /// Sending the request.
    Send,
    /// Waiting for the response head.
    Head,
    /// Reading the response body.
    Body,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Token => "fetching the oauth2 token",
            Self::Resolve => "resolving the host name",
            Self::Connect => "connecting",
            Self::Proxy => "waiting for the proxy",
            Self::Tls => "in the TLS handshake",
            Self::Send => "sending the request",
            Self::Head => "waiting for the response",
            Self::Body => "reading the response body",
        }
    }
}

/// Why a redirect was not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectError {
    /// More than [`MAX_REDIRECTS`](crate::host::limits::MAX_REDIRECTS).
    TooMany,
    /// The location is missing or is not a URL.
    Location,
}

/// Why a request failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum HttpError {
    /// The host name could not be resolved.
    Dns(DnsError),
    /// No address of the host could be connected to.
    Connect(ConnectError),
    /// The proxy answered the CONNECT with this status.
    Proxy {
        /// Status code of the proxy's answer.
        status: u16,
    },
    /// TLS failed; [`TlsError::is_certificate`] tells certificates from the rest.
    Tls(TlsError),
    /// The deadline passed.
    Timeout(Phase),
    /// The peer closed the connection before the response was complete.
    Eof(Phase),
    /// The connection broke.
    Io {
        /// What was being done.
        phase: Phase,
        /// What the kernel reported.
        error: io::Error,
    },
    /// The peer does not speak HTTP/1.1 as it should.
    Protocol(ureq_proto::Error),
    /// The response head (or a trailer) is longer than this many bytes.
    HeadTooBig {
        /// The limit.
        limit: usize,
    },
    /// The decoded body reached the limit.
    BodyTooLarge {
        /// The limit, bytes.
        limit: u64,
    },
    /// The body is not valid gzip.
    Gunzip(GunzipError),
    /// The receiver refused the response.
    Aborted,
    /// A redirect could not be followed.
    Redirect(RedirectError),
    /// The URL, or a redirect, is https and there are no TLS settings.
    NeedsTls,
    /// A file with a secret cannot be read.
    Secret {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no OAuth 2.0 token.
    Token(TokenError),
    /// The request cannot be signed.
    #[cfg(feature = "sigv4")]
    Sign(SignError),
    /// A header name or value from the configuration or a secret has a byte that HTTP does not allow.
    BadHeader,
    /// More tasks wait than the reactor has slots.
    TableFull(TableFull),
    /// The heap is at its limit.
    Memory(ArenaFull),
}

impl HttpError {
    /// One word for a metric label.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Connect(_) => "connect",
            Self::Proxy { .. } => "proxy",
            Self::Tls(error) if error.is_certificate() => "tls_certificate",
            Self::Tls(_) | Self::NeedsTls => "tls",
            Self::Timeout(_) => "timeout",
            Self::Eof(_) | Self::Io { .. } => "connection_lost",
            Self::Protocol(_) => "protocol",
            Self::HeadTooBig { .. } => "head_too_big",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Gunzip(_) => "gzip",
            Self::Aborted => "aborted",
            Self::Redirect(_) => "redirect",
            Self::Secret { .. } | Self::Token(_) | Self::BadHeader => "credentials",
            #[cfg(feature = "sigv4")]
            Self::Sign(_) => "credentials",
            Self::TableFull(_) => "table_full",
            Self::Memory(_) => "memory",
        }
    }

    /// The connection went away under the request: worth one more try if it was an old one.
    pub(super) fn is_disconnect(&self) -> bool {
        match self {
            Self::Eof(_) => true,
            Self::Io { error, .. } => is_disconnect(error),
            _ => false,
        }
    }

    pub(super) fn from_stream(error: StreamError, phase: Phase) -> Self {
        match error {
            StreamError::Tls(error) => Self::Tls(error),
            StreamError::TableFull(full) => Self::TableFull(full),
            StreamError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Eof(phase),
            StreamError::Io(error) => Self::Io { phase, error },
        }
    }
}

/// A write or read failed because the peer is gone.
pub(super) fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof
    )
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::Proxy { status } => write!(f, "proxy answered CONNECT with HTTP status {status}"),
            Self::Tls(error) => error.fmt(f),
            // The first three words are what Prometheus says and operators search for.
            Self::Timeout(phase) => write!(f, "context deadline exceeded while {}", phase.as_str()),
            Self::Eof(phase) => write!(f, "unexpected EOF while {}", phase.as_str()),
            Self::Io { phase, error } => write!(f, "{error} while {}", phase.as_str()),
            Self::Protocol(error) => write!(f, "malformed HTTP: {error}"),
            Self::HeadTooBig { limit } => write!(f, "response head is longer than {limit} bytes"),
            Self::BodyTooLarge { limit } => write!(f, "body size limit exceeded, limit is {limit} bytes"),
            Self::Gunzip(error) => error.fmt(f),
            Self::Aborted => f.write_str("response refused"),
            Self::Redirect(RedirectError::TooMany) => f.write_str("stopped after 10 redirects"),
            Self::Redirect(RedirectError::Location) => f.write_str("redirect without a valid location"),
            Self::NeedsTls => f.write_str("https without TLS settings"),
            Self::Secret { path, error } => write!(f, "read secret {}: {error}", path.display()),
            Self::Token(error) => error.fmt(f),
            #[cfg(feature = "sigv4")]
            Self::Sign(error) => error.fmt(f),
            Self::BadHeader => f.write_str("header name or value has a byte that HTTP does not allow"),
            Self::TableFull(full) => full.fmt(f),
            Self::Memory(full) => full.fmt(f),
        }
    }
}

impl core::error::Error for HttpError {}

impl From<ureq_proto::Error> for HttpError {
    fn from(error: ureq_proto::Error) -> Self {
        Self::Protocol(error)
    }
}

impl From<GunzipError> for HttpError {
    fn from(error: GunzipError) -> Self {
        Self::Gunzip(error)
    }
}

impl From<TableFull> for HttpError {
    fn from(full: TableFull) -> Self {
        Self::TableFull(full)
    }
}
