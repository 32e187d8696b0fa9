//! From HTTP client keys to what [`crate::host::http`] and [`crate::host::tls`] take.
//!
//! Reads no file: paths are handed on, and read when a connection needs them.
//!
//! Sources: prometheus.md §4.5; Go's `httpproxy` for `no_proxy` (names, addresses, networks, ports, `*`).

use super::http::{BasicAuth, HttpClient, TlsConfig, TlsVersion};
use super::value::Secret;
use super::{TargetSpec, Url};
use crate::host::http::{self, Authorization, ClientConfig, Header, Proxy, TokenRequest};
#[cfg(feature = "sigv4")]
use crate::host::http::{AwsKeys, DEFAULT_SERVICE, Signer};
use crate::host::tls::{self, Pem, TlsClient, TlsContext, TlsSettings};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use zeroize::Zeroizing;

impl Url {
    /// As the HTTP client takes it; `None` for a scheme that it cannot speak.
    #[must_use]
    pub fn to_http(&self) -> Option<http::Url> {
        let text = format!("{}://{}{}", self.scheme, self.address, self.path_and_query);
        http::Url::parse(&text).ok().map(|(url, _)| url)
    }
}

impl TargetSpec {
    /// As the HTTP client takes it; `None` when the target's host is no host name after all.
    #[must_use]
    pub fn to_http(&self) -> Option<http::Url> {
        http::Url::parse(&self.url()).ok().map(|(url, _)| url)
    }
}

impl HttpClient<'_> {
    /// The TLS side; one for all targets of a job, so that they share certificates and sessions.
    #[must_use]
    pub fn tls_client(&self, context: Rc<TlsContext>) -> Rc<TlsClient> {
        Rc::new(TlsClient::new(context, settings(self.tls_config)))
    }

    /// What tokens are asked for with, and the client that asks; `None` without `oauth2`, or for a URL that cannot be spoken to.
    #[must_use]
    pub fn token_request(&self, context: Rc<TlsContext>) -> Option<(ClientConfig, TokenRequest)> {
        let oauth2 = self.oauth2?;
        let client = oauth2.http_client();
        let tls = client.tls_client(context);
        let mut config = client.client_config(oauth2.token_url.to_http()?, tls);
        // One request in an hour or so.
        config.keep_alive = false;
        let secret = secret(&oauth2.client_secret, &oauth2.client_secret_file);
        let params = oauth2.endpoint_params.iter();
        let asked = TokenRequest {
            client_id: oauth2.client_id.clone(),
            client_secret: secret.unwrap_or_else(|| http::Secret::inline("")),
            scopes: oauth2.scopes.clone(),
            params: params.map(|(name, value)| (name.clone(), value.clone())).collect(),
        };
        Some((config, asked))
    }

    /// What a client of `url` is made from; the token of `oauth2` is added by who has it.
    #[must_use]
    pub fn client_config(&self, url: http::Url, tls: Rc<TlsClient>) -> ClientConfig {
        let proxy = self.proxy(&url, &|name| std::env::var(name).ok());
        let mut config = ClientConfig::new(url);
        config.headers = self.headers();
        config.authorization = self.authorization();
        config.tls = Some(tls);
        config.proxy = proxy;
        config.follow_redirects = self.follow_redirects;
        config
    }

    fn authorization(&self) -> Authorization {
        #[cfg(feature = "sigv4")]
        if let Some(signer) = self.signer() {
            return Authorization::Signed(Rc::new(signer));
        }
        if let Some(auth) = self.basic_auth {
            let BasicAuth {
                username,
                username_file,
                password,
                password_file,
            } = auth;
            return Authorization::Basic {
                user: secret(&Secret::new(username.clone()), username_file).unwrap_or_else(|| http::Secret::inline("")),
                password: secret(password, password_file),
            };
        }
        let Some(auth) = self.authorization else {
            return Authorization::None;
        };
        match secret(&auth.credentials, &auth.credentials_file) {
            Some(credentials) => Authorization::Scheme {
                name: auth.r#type.trim().into(),
                credentials,
            },
            None => Authorization::None,
        }
    }

    /// Signs the requests of a remote with `sigv4`.
    #[cfg(feature = "sigv4")]
    #[must_use]
    pub fn signer(&self) -> Option<Signer> {
        let sigv4 = self.sigv4?;
        let keys = match secret(&sigv4.secret_key, &sigv4.secret_key_file) {
            Some(secret_key) => AwsKeys::Inline {
                access_key: sigv4.access_key.clone(),
                secret_key,
            },
            None => AwsKeys::Shared {
                profile: (!sigv4.profile.is_empty()).then(|| sigv4.profile.clone()),
            },
        };
        let service = if sigv4.service_name.is_empty() {
            DEFAULT_SERVICE
        } else {
            &sigv4.service_name
        };
        Some(Signer {
            region: sigv4.region.clone(),
            service: service.into(),
            keys,
        })
    }

    fn headers(&self) -> Vec<Header> {
        let mut all = Vec::new();
        for (name, header) in self.http_headers.iter() {
            let mut add = |value, sensitive| {
                all.push(Header {
                    name: name.clone(),
                    value,
                    sensitive,
                })
            };
            header
                .values
                .iter()
                .for_each(|value| add(http::Secret::inline(value), false));
            header
                .secrets
                .iter()
                .for_each(|value| add(http::Secret::inline(value.reveal()), true));
            header
                .files
                .iter()
                .for_each(|path| add(http::Secret::File(path.into()), true));
        }
        all
    }

    /// The proxy for `url`, if there is one and `no_proxy` does not except it.
    fn proxy(&self, url: &http::Url, env: &dyn Fn(&str) -> Option<String>) -> Option<Proxy> {
        let (text, exceptions) = if self.proxy_from_environment {
            let either = |upper: &str, lower: &str| env(upper).or_else(|| env(lower)).unwrap_or_default();
            let address = match url.scheme() {
                http::Scheme::Http => either("HTTP_PROXY", "http_proxy"),
                http::Scheme::Https => either("HTTPS_PROXY", "https_proxy"),
            };
            // As Go does: a proxy without scheme is an http one.
            let address = if address.is_empty() || address.contains("://") {
                address
            } else {
                format!("http://{address}")
            };
            (Zeroizing::new(address), either("NO_PROXY", "no_proxy"))
        } else {
            let proxy = self.proxy_url?;
            (Zeroizing::new(with_user(proxy)), self.no_proxy.into())
        };
        let restricted = self.proxy_from_environment || !exceptions.is_empty();
        if restricted && is_excepted(&exceptions, url.host(), url.port()) {
            return None;
        }
        let (url, user) = http::Url::parse(&text).ok()?;
        let headers = self.proxy_connect_header.iter().flat_map(|(name, values)| {
            values.iter().map(|value| Header {
                name: name.clone(),
                value: http::Secret::inline(value.reveal()),
                sensitive: true,
            })
        });
        Some(Proxy {
            url,
            authorization: user.map_or(Authorization::None, |(user, password)| {
                Authorization::basic(&user, &password)
            }),
            headers: headers.collect(),
        })
    }
}

/// The URL with its user and password escaped, as it may be parsed again.
fn with_user(url: &Url) -> String {
    let mut user = String::new();
    if let Some((name, password)) = &url.userinfo {
        super::targets::escape(name, b"", &mut user);
        user.push(':');
        super::targets::escape(password.reveal(), b"", &mut user);
        user.push('@');
    }
    format!("{}://{user}{}{}", url.scheme, url.address, url.path_and_query)
}

/// An inline value or a file; `None` when neither is given.
fn secret(inline: &Secret, file: &str) -> Option<http::Secret> {
    match (inline.is_empty(), file.is_empty()) {
        (false, _) => Some(http::Secret::inline(inline.reveal())),
        (true, false) => Some(http::Secret::File(file.into())),
        (true, true) => None,
    }
}

fn settings(tls: &TlsConfig) -> TlsSettings {
    let pem = |inline: &str, file: &str| match (inline.is_empty(), file.is_empty()) {
        (false, _) => Some(Pem::Inline(Zeroizing::new(inline.into()))),
        (true, false) => Some(Pem::File(file.into())),
        (true, true) => None,
    };
    // Versions below 1.2 are never offered, whatever is allowed.
    let version = |version| match version {
        Some(TlsVersion::Tls13) => Some(tls::TlsVersion::Tls13),
        Some(TlsVersion::Tls12) => Some(tls::TlsVersion::Tls12),
        Some(TlsVersion::Tls10 | TlsVersion::Tls11) | None => None,
    };
    TlsSettings {
        ca: pem(&tls.ca, &tls.ca_file),
        certificate: pem(&tls.cert, &tls.cert_file),
        key: pem(tls.key.reveal(), &tls.key_file),
        server_name: (!tls.server_name.is_empty()).then(|| tls.server_name.clone()),
        insecure_skip_verify: tls.insecure_skip_verify,
        min_version: version(tls.min_version),
        max_version: version(tls.max_version),
    }
}

/// True when `host:port` is reached without the proxy: loopback always, and what the list names.
fn is_excepted(list: &str, host: &str, port: u16) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
        return true;
    }
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            if entry == "*" {
                return true;
            }
            if let Some((network, bits)) = entry.split_once('/') {
                return address.is_some_and(|a| is_within(a, network, bits));
            }
            let (name, wanted_port) = split_port(entry);
            if wanted_port.is_some_and(|p| p != port) {
                return false;
            }
            match (name.parse::<IpAddr>().ok(), address) {
                (Some(named), Some(address)) => named == address,
                (None, None) => is_domain(name.trim_start_matches('*'), host),
                _ => false,
            }
        })
}

/// `name`, `name:port`, `[::1]:port`.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if let Some((name, rest)) = entry.strip_prefix('[').and_then(|e| e.split_once(']')) {
        return (name, rest.strip_prefix(':').and_then(|p| p.parse().ok()));
    }
    match entry.split_once(':') {
        Some((name, port)) if !port.contains(':') => (name, port.parse().ok()),
        _ => (entry, None),
    }
}

/// `example.com` means itself and everything below it, `.example.com` only what is below.
fn is_domain(domain: &str, host: &str) -> bool {
    let below = domain.strip_prefix('.').unwrap_or(domain);
    let Some(start) = host.len().checked_sub(below.len()) else {
        return false;
    };
    let (Some(before), Some(end)) = (host.get(..start), host.get(start..)) else {
        return false;
    };
    end.eq_ignore_ascii_case(below) && (before.ends_with('.') || (before.is_empty() && !domain.starts_with('.')))
}

fn is_within(address: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) if bits <= 32 => {
            (a.to_bits() ^ n.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) if bits <= 128 => {
            (a.to_bits() ^ n.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, RemoteWrite};
    use super::*;

    fn remote(yaml: &str) -> RemoteWrite {
        let text = format!("remote_write:\n- url: https://me:p%40ss@metrics.example/push\n  {yaml}\n");
        let mut loaded = Config::from_text(&text, "/etc/tg/t.yml").expect("valid");
        loaded.config.remote_write.remove(0)
    }

    fn target(text: &str) -> http::Url {
        http::Url::parse(text).expect("valid").0
    }

    #[test]
    fn credentials_come_from_keys_files_and_the_url() {
        let auth = |yaml: &str| format!("{:?}", remote(yaml).http_client().authorization());
        let inline = remote("name: a").http_client().authorization();
        assert!(
            matches!(inline, Authorization::Basic { password: Some(_), .. }),
            "{inline:?}"
        );
        assert_eq!(
            auth("authorization: {type: ' Token ', credentials_file: t}"),
            "Scheme { name: \"Token\", credentials: <secret file /etc/tg/t> }"
        );
        assert_eq!(
            auth("basic_auth: {username_file: u, password_file: /p}"),
            "Basic { user: <secret file /etc/tg/u>, password: Some(<secret file /p>) }"
        );
        assert_eq!(
            remote("name: a").url.to_http().map(|u| format!("{u}")),
            Some("https://metrics.example/push".into())
        );
    }

    #[test]
    fn headers_keep_their_secrets() {
        let headers = remote("http_headers: {X-A: {values: [1], secrets: [2], files: [f]}}")
            .http_client()
            .headers();
        let shape: Vec<_> = headers
            .iter()
            .map(|h| (h.name.as_str(), format!("{:?}", h.value), h.sensitive))
            .collect();
        let expected = [
            ("<secret>", false),
            ("<secret>", true),
            ("<secret file /etc/tg/f>", true),
        ];
        assert_eq!(
            shape,
            expected.map(|(value, sensitive)| ("X-A", value.into(), sensitive))
        );
    }

    #[test]
    fn proxies_are_used_unless_excepted() {
        let remote = remote("proxy_url: http://u:p%2Fw@proxy:3128\n  no_proxy: .internal.example, 10.0.0.0/8");
        let none = |_: &str| None;
        let proxy = remote
            .http_client()
            .proxy(&target("https://metrics.example/"), &none)
            .expect("a proxy");
        assert_eq!(format!("{}", proxy.url), "http://proxy:3128/");
        assert!(matches!(proxy.authorization, Authorization::Basic { .. }));
        for direct in [
            "http://a.internal.example/",
            "http://10.1.2.3/",
            "http://localhost/",
            "http://[::1]/",
        ] {
            assert!(remote.http_client().proxy(&target(direct), &none).is_none(), "{direct}");
        }
    }

    #[test]
    fn proxies_of_the_environment_depend_on_the_scheme() {
        let remote = remote("proxy_from_environment: true");
        let env = |name: &str| match name {
            "http_proxy" => Some(String::from("plain:1")),
            "HTTPS_PROXY" => Some(String::from("http://secure:2")),
            "NO_PROXY" => Some(String::from("skipped.example")),
            _ => None,
        };
        let proxy = |url: &str| {
            remote
                .http_client()
                .proxy(&target(url), &env)
                .map(|p| format!("{}", p.url))
        };
        assert_eq!(proxy("http://a.example/"), Some("http://plain:1/".into()));
        assert_eq!(proxy("https://a.example/"), Some("http://secure:2/".into()));
        assert_eq!(proxy("https://skipped.example/"), None);
    }

    #[test]
    fn exceptions_match_as_in_go() {
        for (list, host, port, expected) in [
            ("", "a.example", 80, false),
            ("*", "a.example", 80, true),
            ("example", "a.example", 80, true),
            ("a.example", "a.example", 80, true),
            (".a.example", "a.example", 80, false),
            ("*.a.example", "b.a.example", 80, true),
            ("ample", "a.example", 80, false),
            ("x, a.example:8080", "a.example", 80, false),
            ("a.example:80", "a.example", 80, true),
            ("10.0.0.0/8", "10.9.9.9", 80, true),
            ("10.0.0.0/8", "11.0.0.1", 80, false),
            ("0.0.0.0/0", "11.0.0.1", 80, true),
            ("fd00::/8", "fd12::1", 80, true),
            ("[fd12::1]:443", "fd12::1", 443, true),
            ("10.0.0.1", "10.0.0.1", 80, true),
            ("10.0.0.0/33", "10.0.0.1", 80, false),
            ("", "127.1.2.3", 80, true),
        ] {
            assert_eq!(is_excepted(list, host, port), expected, "{list:?} {host}:{port}");
        }
    }

    #[test]
    fn tls_versions_below_1_2_mean_1_2() {
        let remote = remote("tls_config: {min_version: TLS10, max_version: TLS13, server_name: s, ca_file: c}");
        let settings = settings(&remote.tls_config);
        assert_eq!(
            (settings.min_version, settings.max_version),
            (None, Some(tls::TlsVersion::Tls13))
        );
        assert_eq!(settings.server_name.as_deref(), Some("s"));
        assert!(matches!(settings.ca, Some(Pem::File(path)) if path.ends_with("tg/c")));
        assert!(settings.key.is_none() && settings.certificate.is_none());
    }
}
