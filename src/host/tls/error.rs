//! TLS failures in words an operator can act on.

use core::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::config::TlsConfigError;
use crate::host::runtime::TableFull;

/// Why TLS failed.
#[derive(Debug)]
pub struct TlsError(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    /// The protocol or a certificate.
    Rustls(Error),
    /// The settings' files.
    Config(TlsConfigError),
    /// Neither a host name nor an address.
    ServerName,
}

impl TlsError {
    /// A certificate is the reason: the server's is not trusted or not valid, or the server wants another
    /// one from us. Trying again helps only once somebody, or the clock, has been corrected.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        match &self.0 {
            Kind::Rustls(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => true,
            Kind::Rustls(Error::AlertReceived(alert)) => certificate_alert(*alert).is_some(),
            _ => false,
        }
    }

    /// The server's certificate is not valid yet, which on a machine without a clock means the clock.
    #[must_use]
    pub fn is_not_valid_yet(&self) -> bool {
        use CertificateError::{NotValidYet, NotValidYetContext};
        matches!(
            self.0,
            Kind::Rustls(Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }))
        )
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        Self(Kind::Rustls(error))
    }
}

impl From<TlsConfigError> for TlsError {
    fn from(error: TlsConfigError) -> Self {
        Self(Kind::Config(error))
    }
}

/// What a certificate alert of the server says about ours.
fn certificate_alert(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "server requires a client certificate (cert_file and key_file)"
        }
        AlertDescription::BadCertificate => "server refused the client certificate as bad",
        AlertDescription::UnsupportedCertificate => "server does not support the client certificate",
        AlertDescription::CertificateRevoked => "server says the client certificate is revoked",
        AlertDescription::CertificateExpired => "server says the client certificate has expired",
        AlertDescription::CertificateUnknown => "server refused the client certificate",
        AlertDescription::UnknownCA => "server does not know the authority of the client certificate",
        AlertDescription::AccessDenied => "server denies access with this client certificate",
        _ => return None,
    })
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Rustls(Error::InvalidCertificate(error)) => {
                f.write_str("tls: failed to verify certificate: ")?;
                write_certificate_error(f, error)
            }
            Kind::Rustls(Error::AlertReceived(alert)) => match certificate_alert(*alert) {
                Some(text) => write!(f, "tls: {text}"),
                None => write!(f, "tls: server answered with alert {alert:?}"),
            },
            Kind::Rustls(error) => write!(f, "tls: {error}"),
            Kind::Config(error) => write!(f, "tls: {error}"),
            Kind::ServerName => f.write_str("tls: server name is neither a host name nor an address"),
        }
    }
}

impl core::error::Error for TlsError {}

fn write_certificate_error(f: &mut fmt::Formatter<'_>, error: &CertificateError) -> fmt::Result {
    match error {
        CertificateError::UnknownIssuer => f.write_str("signed by unknown authority (set ca_file)"),
        CertificateError::ExpiredContext { time, not_after } => {
            let (end, clock) = (Date(not_after.as_secs()), Date(time.as_secs()));
            write!(f, "certificate has expired: valid until {end}, clock says {clock}")
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let (start, clock) = (Date(not_before.as_secs()), Date(time.as_secs()));
            write!(
                f,
                "certificate is not yet valid: valid from {start}, clock says {clock}"
            )
        }
        other => write!(f, "{other}"),
    }
}

/// Seconds since the epoch, shown as `2026-11-22T09:30:00Z`.
struct Date(u64);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // Years are counted from a 1 March, so that the leap day ends one: 719,468 days lie between
        // 0000-03-01 and 1970-01-01, 146,097 days are 400 years.
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (d, m) = (
            day - (153 * month + 2) / 5 + 1,
            if month < 10 { month + 3 } else { month - 9 },
        );
        let y = era * 400 + year + u64::from(m <= 2);
        write!(
            f,
            "{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// Why a read or write on a TLS connection failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The connection below: reset, broken pipe; `UnexpectedEof` when it ended without goodbye.
    Io(io::Error),
    /// TLS itself.
    Tls(TlsError),
    /// No slot to wait in.
    TableFull(TableFull),
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<TableFull> for StreamError {
    fn from(full: TableFull) -> Self {
        Self::TableFull(full)
    }
}

impl From<Error> for StreamError {
    fn from(error: Error) -> Self {
        Self::Tls(error.into())
    }
}

impl From<TlsError> for StreamError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::TableFull(full) => full.fmt(f),
        }
    }
}

impl core::error::Error for StreamError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_calendar_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_305_600, "2026-11-22T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Date(seconds).to_string(), text);
        }
    }

    #[test]
    fn texts_say_what_to_do() {
        let text = |error: Error| TlsError::from(error).to_string();
        assert_eq!(
            text(CertificateError::UnknownIssuer.into()),
            "tls: failed to verify certificate: signed by unknown authority (set ca_file)"
        );
        assert!(text(Error::AlertReceived(AlertDescription::CertificateRequired)).contains("cert_file"));
        assert!(!TlsError::from(Error::AlertReceived(AlertDescription::ProtocolVersion)).is_certificate());
    }
}
