//! TLS 1.2 and 1.3 client over non-blocking sockets (rustls with ring).
//!
//! This module alone names rustls. A [`TlsClient`] holds the settings of one job or remote and opens
//! [`TlsStream`]s; a [`TlsContext`] holds what all of them share: the crypto provider, the certificate
//! clock and the system's root certificates, read at first need.
//!
//! Invariants:
//! - certificates are checked against [`CertClock`], which never reads earlier than the build of this
//!   binary nor than the latest time the agent has stored;
//! - certificate files that change are read again before the next connection; if the new ones are bad,
//!   the old ones stay and a warning is logged;
//! - a certificate problem is told apart from a broken connection ([`TlsError::is_certificate`]).
//!
//! Memory: a connection costs 8 to 10 KiB of heap in use, 11 to 17 KiB during the handshake, and 64 KiB
//! at worst (rustls' bound on an incomplete handshake message). [`SEND_LIMIT_BYTES`] bounds what waits to
//! be sent. The system's roots cost about 84 KiB once loaded; a `ca_file` of one certificate 1.5 KiB.
//! Eight sessions per client are kept for resumption (about 1 KiB each), which saves 2 KB on the wire per
//! connection.
//!
//! Not supported: TLS 1.0 and 1.1, encrypted private keys, CRLs, OCSP.
//!
//! Sources: RFC 8446, RFC 5246, the rustls manual.

mod clock;
mod config;
mod error;
mod stream;
mod verify;

pub use clock::CertClock;
pub use config::{Pem, TlsClient, TlsConfigError, TlsContext, TlsSettings, TlsVersion, system_roots};
pub use error::{StreamError, TlsError};
pub use stream::{SEND_LIMIT_BYTES, TlsStream};

#[cfg(test)]
pub(crate) mod testing;
