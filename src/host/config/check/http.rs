//! HTTP client keys: what excludes what, and what may stand in a header.

use super::super::http::{Authorization, BasicAuth, GrantType, HttpClient, OAuth2, SigV4, TlsConfig, TlsVersion};
use super::super::url::Scheme;
use super::{Check, wrong};
use alloc::format;
use alloc::string::{String, ToString};

/// Headers that a sender must set itself (RW-08), in lower case.
const RESERVED_HEADERS: [&str; 17] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// `key` and `key_file` style pairs of which one at most may be set.
fn either(key: &str, a: (&str, bool), b: (&str, bool)) -> Check {
    if a.1 && b.1 {
        return wrong(
            format!("{key}.{}", a.0),
            format!("found {} and {}, expected at most one of them", a.0, b.0),
        );
    }
    Ok(())
}

pub(super) fn http(client: &HttpClient<'_>) -> Check {
    if let Some(auth) = client.basic_auth {
        let BasicAuth {
            username,
            username_file,
            password,
            password_file,
        } = auth;
        either(
            "basic_auth",
            ("username", !username.is_empty()),
            ("username_file", !username_file.is_empty()),
        )?;
        either(
            "basic_auth",
            ("password", !password.is_empty()),
            ("password_file", !password_file.is_empty()),
        )?;
    }
    if let Some(auth) = client.authorization {
        let Authorization {
            r#type,
            credentials,
            credentials_file,
        } = auth;
        either(
            "authorization",
            ("credentials", !credentials.is_empty()),
            ("credentials_file", !credentials_file.is_empty()),
        )?;
        if r#type.trim().eq_ignore_ascii_case("basic") {
            return wrong(
                "authorization.type",
                format!("found {type:?}, expected another type: use basic_auth"),
            );
        }
        header("authorization.type", "Authorization", r#type)?;
    }
    if let Some(auth) = client.oauth2 {
        oauth2(auth)?;
    }
    if let Some(auth) = client.sigv4 {
        sigv4(auth)?;
    }
    tls(client.tls_config)?;
    proxy(client)?;
    for (name, values) in client.http_headers.iter() {
        let key = format!("http_headers.{name}");
        reserved(&key, name)?;
        for value in values
            .values
            .iter()
            .map(String::as_str)
            .chain(values.secrets.iter().map(|s| s.reveal()))
        {
            header(&key, name, value)?;
        }
    }
    Ok(())
}

fn oauth2(auth: &OAuth2) -> Check {
    if auth.client_id.is_empty() {
        return wrong("oauth2.client_id", "found nothing, expected the client's id");
    }
    if auth.token_url.is_empty() {
        return wrong(
            "oauth2.token_url",
            "found nothing, expected the URL where tokens are fetched",
        );
    }
    if auth.token_url.scheme == Scheme::Other {
        return wrong(
            "oauth2.token_url",
            format!("found scheme {:?}, expected http or https", auth.token_url.scheme_text),
        );
    }
    if auth.grant_type == Some(GrantType::JwtBearer) {
        return wrong(
            "oauth2.grant_type",
            "found a signed assertion, expected client_credentials: assertions are not supported, use client_secret_file",
        );
    }
    either(
        "oauth2",
        ("client_secret", !auth.client_secret.is_empty()),
        ("client_secret_file", !auth.client_secret_file.is_empty()),
    )?;
    http(&auth.http_client()).or_else(|(key, message)| wrong(format!("oauth2.{key}"), message))
}

fn sigv4(auth: &SigV4) -> Check {
    if cfg!(not(feature = "sigv4")) {
        return wrong(
            "sigv4",
            "this build signs no requests: it was made without the feature sigv4",
        );
    }
    either(
        "sigv4",
        ("secret_key", !auth.secret_key.is_empty()),
        ("secret_key_file", !auth.secret_key_file.is_empty()),
    )?;
    let secret = !auth.secret_key.is_empty() || !auth.secret_key_file.is_empty();
    match (auth.access_key.is_empty(), secret) {
        (false, false) => {
            return wrong(
                "sigv4.access_key",
                "found access_key alone, expected secret_key or secret_key_file as well",
            );
        }
        (true, true) => {
            return wrong(
                "sigv4.secret_key",
                "found the secret alone, expected access_key as well",
            );
        }
        _ => {}
    }
    for (key, value) in [
        ("sigv4.region", &auth.region),
        ("sigv4.access_key", &auth.access_key),
        ("sigv4.service_name", &auth.service_name),
    ] {
        // Each is a part of a path in the signature.
        if !value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        {
            return wrong(key, format!("found {value:?}, expected letters, digits, dashes"));
        }
    }
    Ok(())
}

pub(super) fn old_tls(tls: &TlsConfig) -> Option<String> {
    let old = matches!(tls.min_version, Some(TlsVersion::Tls10 | TlsVersion::Tls11));
    old.then(|| "TLS 1.0 and 1.1 are never used: the lowest version is TLS12".to_string())
}

fn tls(tls: &TlsConfig) -> Check {
    let cert = !tls.cert.is_empty() || !tls.cert_file.is_empty();
    let key = !tls.key.is_empty() || !tls.key_file.is_empty();
    either(
        "tls_config",
        ("ca", !tls.ca.is_empty()),
        ("ca_file", !tls.ca_file.is_empty()),
    )?;
    either(
        "tls_config",
        ("cert", !tls.cert.is_empty()),
        ("cert_file", !tls.cert_file.is_empty()),
    )?;
    either(
        "tls_config",
        ("key", !tls.key.is_empty()),
        ("key_file", !tls.key_file.is_empty()),
    )?;
    if cert != key {
        let (has, lacks) = if cert {
            ("a certificate", "key or key_file")
        } else {
            ("a key", "cert or cert_file")
        };
        return wrong("tls_config", format!("found {has} alone, expected {lacks} as well"));
    }
    if matches!(tls.max_version, Some(TlsVersion::Tls10 | TlsVersion::Tls11)) {
        return wrong(
            "tls_config.max_version",
            "found a version below TLS12, expected TLS12 or TLS13",
        );
    }
    if cfg!(not(feature = "tls12")) && tls.max_version == Some(TlsVersion::Tls12) {
        return wrong(
            "tls_config.max_version",
            "this build speaks TLS 1.3 only: it was made without the feature tls12",
        );
    }
    if tls.min_version == Some(TlsVersion::Tls13) && tls.max_version == Some(TlsVersion::Tls12) {
        return wrong(
            "tls_config.max_version",
            "found TLS12, expected at least min_version (TLS13)",
        );
    }
    Ok(())
}

fn proxy(client: &HttpClient<'_>) -> Check {
    match client.proxy_url {
        Some(url) if url.scheme != Scheme::Http => wrong(
            "proxy_url",
            format!("found scheme {:?}, expected http", url.scheme_text),
        ),
        Some(_) if client.proxy_from_environment => wrong(
            "proxy_url",
            "found proxy_url and proxy_from_environment, expected at most one of them",
        ),
        None if !client.no_proxy.is_empty() => wrong("no_proxy", "found a value, expected proxy_url as well"),
        None if !client.proxy_from_environment && !client.proxy_connect_header.is_empty() => {
            wrong("proxy_connect_header", "found a value, expected proxy_url as well")
        }
        _ => Ok(()),
    }
}

pub(super) fn reserved(key: &str, name: &str) -> Check {
    if RESERVED_HEADERS.iter().any(|r| r.eq_ignore_ascii_case(name)) {
        return wrong(
            key,
            "this header is set by tidegate; use basic_auth or authorization for credentials",
        );
    }
    Ok(())
}

/// Characters a header may consist of (RFC 9110 §5.5, §5.6.2); the value is not shown, it may be secret.
pub(super) fn header(key: &str, name: &str, value: &str) -> Check {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return wrong(
            key,
            format!("found header name {name:?}, expected letters, digits and dashes"),
        );
    }
    if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return wrong(
            key,
            "found a line break or control character in a header, expected visible characters",
        );
    }
    Ok(())
}
