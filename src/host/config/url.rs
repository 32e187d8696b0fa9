//! Addresses: the URL of a receiver or proxy, and the `host:port` of a target.
//!
//! Accepts what an operator writes for HTTP: scheme, optional user and password, host name, IPv4 or
//! bracketed IPv6 address, port, path and query. A fragment is dropped, since it is never sent. Nothing
//! is normalised apart from the scheme's case.
//!
//! A scheme other than http and https is kept as [`Scheme::Other`]: Prometheus loads such a file and
//! fails each send, and the compliance suite relies on it (prometheus.md CMP-03). The loader warns.
//!
//! Sources: RFC 3986 §3; RFC 9110 §4.2.

use super::read::Read;
use super::targets::escape;
use super::value::{FromText, SECRET_MASK, Secret, read_from_text, read_text};
use super::yaml::{self, Yaml};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// Longest URL or address, in bytes: what fits one line buffer of common proxies.
pub const MAX_URL_BYTES: usize = 2_048;

/// How to reach a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Plain TCP.
    #[default]
    Http,
    /// TLS.
    Https,
    /// Loads, but nothing can be sent to it.
    Other,
}

impl Scheme {
    /// The port meant when none is written.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http | Self::Other => 80,
        }
    }

    /// As written in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Other => "unsupported",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromText for Scheme {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => Err(format!("found {text:?}, expected http or https")),
        }
    }
}

/// `host:port`; an IPv6 address is held without brackets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPort {
    /// Host name or address.
    pub host: String,
    /// Port, if one is written.
    pub port: Option<u16>,
}

impl HostPort {
    /// Splits `text`; user, path and scheme are not part of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest
                .split_once(']')
                .ok_or("an IPv6 address lacks its closing bracket")?;
            if host.parse::<core::net::Ipv6Addr>().is_err() {
                return Err("no IPv6 address between the brackets");
            }
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err("something other than a port follows the IPv6 address"),
            };
            (host, port)
        } else {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            if port.is_some_and(|p| p.contains(':')) {
                return Err("an IPv6 address must stand in brackets: [::1]:9100");
            }
            if !host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
            {
                return Err("a host name consists of letters, digits, '-', '.' and '_'");
            }
            (host, port)
        };
        if host.is_empty() {
            return Err("the host is missing");
        }
        let port = match port {
            None => None,
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => Some(
                text.parse()
                    .ok()
                    .filter(|p| *p != 0)
                    .ok_or("the port is not in 1..65535")?,
            ),
            Some(_) => return Err("the port is not a number"),
        };
        Ok(Self {
            host: host.to_string(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    /// As it stands in a URL and in a `Host` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A parsed URL. Prints with its password masked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    /// http or https.
    pub scheme: Scheme,
    /// As written; differs from `scheme` only for [`Scheme::Other`].
    pub scheme_text: String,
    /// User and password in front of `@`, percent-decoded; the password may be empty.
    pub userinfo: Option<(String, Secret)>,
    /// Host and port.
    pub address: HostPort,
    /// Path and query as they go into the request line; at least `/`.
    pub path_and_query: String,
}

impl Url {
    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port.unwrap_or(self.scheme.default_port())
    }

    /// True for a URL that was never set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.address.host.is_empty()
    }
}

/// The bytes `%41` style escapes stand for.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            // Two hexadecimal digits are at most 255.
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

fn parse(text: &str) -> Result<Url, &'static str> {
    if text.len() > MAX_URL_BYTES {
        return Err("it is longer than 2048 bytes");
    }
    if text.bytes().any(|b| b <= b' ' || b == 0x7f || !b.is_ascii()) {
        return Err("it contains a blank, a control character or a letter outside ASCII");
    }
    let (scheme_text, rest) = text.split_once("://").ok_or("the scheme is missing")?;
    let scheme = match scheme_text.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other if !other.is_empty() && other.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => {
            Scheme::Other
        }
        _ => return Err("the scheme is not a word"),
    };
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (userinfo, address) = match authority.rsplit_once('@') {
        None => (None, authority),
        Some((userinfo, address)) => {
            let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
            let decode = |part| percent_decode(part).ok_or("user or password has a malformed %-escape");
            (Some((decode(user)?, Secret::new(decode(password)?))), address)
        }
    };
    Ok(Url {
        scheme,
        scheme_text: scheme_text.to_string(),
        userinfo,
        address: HostPort::parse(address)?,
        path_and_query: if path.starts_with('/') {
            path.to_string()
        } else {
            format!("/{path}")
        },
    })
}

impl FromText for Url {
    fn from_text(text: &str) -> Result<Self, String> {
        // The text itself may hold a password: without its user part it says enough.
        parse(text).map_err(|why| {
            let shown = match (text.find("://"), text.rfind('@')) {
                (_, None) => text.to_string(),
                (Some(scheme), Some(at)) if scheme < at => {
                    format!(
                        "{}://{SECRET_MASK}{}",
                        text.get(..scheme).unwrap_or(""),
                        text.get(at..).unwrap_or("")
                    )
                }
                _ => SECRET_MASK.to_string(),
            };
            format!("found {shown:?}, expected a URL such as https://host:port/path: {why}")
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme_text)?;
        if let Some((user, password)) = &self.userinfo {
            let mask = if password.is_empty() { "" } else { ":<secret>" };
            let mut escaped = String::new();
            // RFC 3986 §3.2.1 would let more stand here; these are what Go leaves alone.
            escape(user, b"$&+,;=", &mut escaped);
            write!(f, "{escaped}{mask}@")?;
        }
        write!(f, "{}{}", self.address, self.path_and_query)
    }
}

read_from_text!(Scheme);

impl Read for Url {
    fn read(yaml: &mut Yaml<'_>) -> yaml::Result<Self> {
        read_text(yaml)
    }

    /// Empty text is none, too: `proxy_url: ""`.
    fn read_option(yaml: &mut Yaml<'_>) -> yaml::Result<Option<Self>> {
        match yaml.text()? {
            text if text.is_empty() => Ok(None),
            text => Self::from_text(&text).map(Some).map_err(yaml::Error::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let url = Url::from_text("HTTPS://me:p%40ss@[fe80::1]:8443/api/push?x=1#frag").unwrap();
        assert_eq!(url.scheme, Scheme::Https);
        assert_eq!(
            url.address,
            HostPort {
                host: "fe80::1".into(),
                port: Some(8443)
            }
        );
        assert_eq!(url.path_and_query, "/api/push?x=1");
        assert_eq!(url.userinfo, Some(("me".into(), Secret::new("p@ss".into()))));
        assert_eq!(url.to_string(), "HTTPS://me:<secret>@[fe80::1]:8443/api/push?x=1");
    }

    #[test]
    fn a_user_is_printed_so_that_it_is_read_again() {
        let url = Url::from_text("https://a@b%3A%2F%25%C3%A9@host/").unwrap();
        assert_eq!(
            url.userinfo.as_ref().map(|(user, _)| user.as_str()),
            Some("a@b:/%\u{e9}")
        );
        assert_eq!(url.to_string(), "https://a%40b%3A%2F%25%C3%A9@host/");
        assert_eq!(Url::from_text(&url.to_string()), Ok(url));
    }

    #[test]
    fn missing_parts_have_defaults() {
        let url = Url::from_text("http://host?q").unwrap();
        assert_eq!((url.path_and_query.as_str(), url.port()), ("/?q", 80));
        assert_eq!(Url::from_text("https://host").unwrap().port(), 443);
        assert_eq!(
            Url::from_text("invalid://localhost:9999").unwrap().scheme,
            Scheme::Other
        );
    }

    #[test]
    fn malformed_urls_say_why_without_showing_the_password() {
        for text in [
            "",
            "host:80",
            "http://",
            "http://:80/",
            "http://ho st/",
            "http://host:0",
            "http://host:65536",
            "http://host:x",
            "http://::1/",
            "http://[::1",
            "http://[::1]x",
            "http://[zz]/",
            "://x",
            "http://a%zz@b/",
            "http://h\u{f6}st/",
        ] {
            assert!(Url::from_text(text).is_err(), "{text:?} must be refused");
        }
        let error = Url::from_text("http://me:hunter2@:80/").unwrap_err();
        assert!(!error.contains("hunter2") && error.contains("<secret>"), "{error}");
    }

    #[test]
    fn addresses_print_as_they_were_written() {
        for text in ["localhost:9100", "host", "[::1]:9100", "10.0.0.1:80"] {
            assert_eq!(HostPort::parse(text).unwrap().to_string(), text);
        }
    }
}
