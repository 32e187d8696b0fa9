//! The URLs a request can go to: `http` or `https`, a host, a port, a path with query.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use ureq_proto::http::Uri;

/// Scheme of a [`Url`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain TCP, port 80 unless given.
    Http,
    /// TLS, port 443 unless given.
    Https,
}

impl Scheme {
    /// The scheme as written in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Port meant when the URL names none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Why a text is not a URL that can be requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// Not an absolute URL by RFC 3986.
    Syntax,
    /// The scheme is neither `http` nor `https`.
    Scheme,
    /// No host.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not a valid absolute URL",
            Self::Scheme => "scheme is not http or https",
            Self::Host => "URL has no host",
            Self::Port => "port is not a number from 1 to 65535",
        })
    }
}

impl core::error::Error for UrlError {}

/// A parsed URL. Displayed without the user name and password it may have carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    /// Lower case, an IPv6 address without its brackets.
    host: Box<str>,
    port: u16,
    path_and_query: Box<str>,
}

/// User name and password, percent-decoded.
pub type UserInfo = (String, String);

impl Url {
    /// Parses `text`. The second part is the user name and password when the URL has them; they are not
    /// part of the [`Url`].
    ///
    /// # Errors
    ///
    /// [`UrlError`] says what is wrong.
    pub fn parse(text: &str) -> Result<(Self, Option<UserInfo>), UrlError> {
        // A fragment never travels; http::Uri drops it too, but only from a valid text.
        Self::from_uri(&text.parse::<Uri>().map_err(|_| UrlError::Syntax)?)
    }

    pub(super) fn from_uri(uri: &Uri) -> Result<(Self, Option<UserInfo>), UrlError> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(_) => return Err(UrlError::Scheme),
            None => return Err(UrlError::Syntax),
        };
        let authority = uri.authority().ok_or(UrlError::Host)?;
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        let after_host = authority
            .as_str()
            .rsplit_once('@')
            .map_or(authority.as_str(), |(_, rest)| rest);
        let has_port = after_host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'));
        let port = match authority.port_u16() {
            Some(0) => return Err(UrlError::Port),
            Some(port) => port,
            None if has_port => return Err(UrlError::Port),
            None => scheme.default_port(),
        };
        let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str()).into();
        Ok((
            Self {
                scheme,
                host: host.into(),
                port,
                path_and_query,
            },
            user_info(authority.as_str()),
        ))
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host name or address, lower case, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port given or meant.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query as sent in the request line; begins with `/`.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// Same scheme, host and port: one connection serves both.
    #[must_use]
    pub fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port == other.port
    }

    /// `host:port`, an IPv6 address in brackets, as in a CONNECT line.
    pub(super) fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        alloc::format!("{open}{}{close}:{}", self.host, self.port)
    }
}

impl Url {
    /// As `Host` has it: with the port unless it is the scheme's own.
    pub(super) fn host_header(&self) -> String {
        let mut authority = self.authority();
        if self.port == self.scheme.default_port() {
            authority.truncate(authority.rfind(':').unwrap_or(authority.len()));
        }
        authority
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}://{open}{}{close}", self.scheme.as_str(), self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path_and_query)
    }
}

/// Where `location` leads from `base` (RFC 3986, section 5.2); `None` when it is no URL, or leads from https to http.
pub(super) fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (base.scheme_str()?, base.authority()?.as_str());
    let location = location.split('#').next().unwrap_or_default();
    let text = if location.contains("://") {
        location.into()
    } else if location.starts_with("//") {
        alloc::format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        alloc::format!("{scheme}://{authority}{location}")
    } else {
        // Beside the last segment of the path.
        let (directory, _) = base.path().rsplit_once('/').unwrap_or_default();
        alloc::format!("{scheme}://{authority}{directory}/{location}")
    };
    let target: Uri = text.parse().ok()?;
    let downgraded = scheme == "https" && target.scheme_str() != Some("https");
    (target.authority().is_some() && !downgraded).then_some(target)
}

fn user_info(authority: &str) -> Option<UserInfo> {
    let (info, _) = authority.rsplit_once('@')?;
    let (user, password) = info.split_once(':').unwrap_or((info, ""));
    Some((percent_decoded(user), percent_decoded(password)))
}

/// Decodes `%41`; a `%` without two digits stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match after.split_first_chunk::<2>() {
            Some((digits, tail)) if *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit) => {
                let value = digits
                    .iter()
                    .filter_map(|digit| char::from(*digit).to_digit(16))
                    .fold(0, |v, d| v * 16 + d);
                // Two hexadecimal digits are at most 255.
                out.push(value as u8);
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Url {
        Url::parse(text).expect(text).0
    }

    #[test]
    fn parts_are_found() {
        let url = parsed("https://Edge.Example:9100/metrics?a=b");
        assert_eq!(
            (url.scheme(), url.host(), url.port(), url.path_and_query()),
            (Scheme::Https, "edge.example", 9100, "/metrics?a=b")
        );
        assert_eq!(parsed("http://h").path_and_query(), "/");
        assert_eq!((parsed("http://h/").port(), parsed("https://h/").port()), (80, 443));
        assert_eq!(parsed("http://[::1]:80/x").host(), "::1");
        assert_eq!(parsed("http://[::1]/x").authority(), "[::1]:80");
        assert_eq!(parsed("http://10.0.0.1:9090/m").to_string(), "http://10.0.0.1:9090/m");
    }

    #[test]
    fn bad_urls_say_why() {
        for (text, error) in [
            ("ftp://h/", UrlError::Scheme),
            ("/metrics", UrlError::Syntax),
            ("http://h:0/", UrlError::Port),
            ("http://h:99999/", UrlError::Port),
            ("http://a b/", UrlError::Syntax),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_not_shown() {
        let (url, user) = Url::parse("https://joe:p%40ss%zz@h/x").expect("valid");
        assert_eq!(user, Some(("joe".into(), "p@ss%zz".into())));
        assert_eq!(url.to_string(), "https://h/x");
        assert_eq!(Url::parse("http://h/").expect("valid").1, None);
    }
}
