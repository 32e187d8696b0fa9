//! AWS Signature Version 4: requests signed with the keys of an AWS account, as Amazon Managed Service for Prometheus wants them.
//!
//! By hand on the hashes that TLS brings along: the whole of it is a hash of the request, four keyed hashes for the day's key and
//! one over both, while AWS' own signer (`aws-sigv4` 1) brings 29 crates that nothing else here needs, a second SHA-256 among them. It signs what Prometheus signs: every header but those that
//! change on the way ([`UNSIGNED`]), and the body.
//!
//! Invariants:
//! - the time in a signature is the caller's trusted wall time; without one there is no signature and the request fails
//!   ([`SignError::ClockUnknown`]) before a connection is made, so that a receiver never sees a time of 1970;
//! - keys are read anew for every request, so that rotated ones are used at once; neither they nor what is derived from them
//!   is shown, logged or kept.
//!
//! Memory: nothing between requests; while one is signed about 2 KiB, which grow with the URL and the headers and not with the
//! body. A file of profiles is at most [`PROFILES_BYTES`](super::aws::PROFILES_BYTES).
//!
//! Sources: "AWS Signature Version 4 for API requests" of the IAM user guide and its published test suite; prometheus.md §4.3.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use ring::{digest, hmac};
use ureq_proto::http::{HeaderMap, HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use super::auth::header_value;
use super::aws::{AwsKeys, Environment, SignError};
use crate::clock::UnixMillis;
use crate::host::civil;

/// The service that takes remote write, if the configuration names no other.
pub const DEFAULT_SERVICE: &str = "aps";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Headers that are not part of a signature: proxies and tracing change them.
const UNSIGNED: [&str; 7] = [
    "authorization",
    "connection",
    "expect",
    "transfer-encoding",
    "uber-trace-id",
    "user-agent",
    "x-amzn-trace-id",
];

/// Signs the requests of one remote.
#[derive(Debug)]
pub struct Signer {
    /// `region`; empty: of the environment or the profile.
    pub region: String,
    /// `service_name`.
    pub service: String,
    /// Where the keys are.
    pub keys: AwsKeys,
}

/// What is signed besides headers.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) method: &'a str,
    /// As in the request line.
    pub(super) path_and_query: &'a str,
    pub(super) body: &'a [u8],
}

impl Signer {
    /// Where keys and region come from, or why there are none; for the operator.
    ///
    /// # Errors
    /// Nothing can be signed as things are.
    pub fn look(&self) -> Result<String, SignError> {
        let found = self.keys.read(&self.region, &Environment::of_process())?;
        Ok(format!("keys from {}, region {}", found.origin, found.region))
    }

    /// Adds date, token and signature to `headers`, which hold everything else that is sent, `Host` included.
    ///
    /// # Errors
    /// [`SignError`]: no time, no keys.
    pub(super) fn sign(
        &self,
        at: Option<UnixMillis>,
        subject: Subject<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), SignError> {
        let at = at.ok_or(SignError::ClockUnknown)?;
        let found = self.keys.read(&self.region, &Environment::of_process())?;
        let value = |text: &str| header_value(text).map_err(|_| SignError::Keys(found.origin.clone()));
        let stamp = stamp(at);
        // Eight digits of sixteen characters.
        let day = stamp.get(..8).unwrap_or_default();
        headers.insert(DATE, value(&stamp)?);
        if let Some(token) = &found.token {
            headers.insert(TOKEN, value(token)?);
        }
        let (request, names) = canonical(subject, headers);
        let scope = format!("{day}/{}/{}/aws4_request", found.region, self.service);
        let text = format!("{ALGORITHM}\n{stamp}\n{scope}\n{request}");
        let parts = [day, &found.region, &self.service, "aws4_request"];
        let signature = hex(hmac::sign(&day_key(&found.secret, parts), text.as_bytes()).as_ref());
        let line = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            found.access.as_str()
        );
        headers.insert(header::AUTHORIZATION, value(&line)?);
        Ok(())
    }
}

/// The key of one day, region and service.
fn day_key(secret: &str, parts: [&str; 4]) -> hmac::Key {
    let secret = Zeroizing::new(["AWS4", secret].concat());
    let first = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    parts.iter().fold(first, |key, part| {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
    })
}

/// `20150830T123600Z`.
fn stamp(at: UnixMillis) -> String {
    let seconds = at.0.div_euclid(1_000);
    let (year, month, day) = civil::date(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Hash of the canonical request, and the names of the headers in it.
fn canonical(subject: Subject<'_>, headers: &HeaderMap) -> (String, String) {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.retain(|name| !UNSIGNED.contains(name));
    names.sort_unstable();
    let (path, query) = subject
        .path_and_query
        .split_once('?')
        .unwrap_or((subject.path_and_query, ""));
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut line = |text: &str| {
        hash.update(text.as_bytes());
        hash.update(b"\n");
    };
    line(subject.method);
    line(&canonical_path(path));
    line(&canonical_query(query));
    for name in &names {
        hash.update(name.as_bytes());
        for (place, value) in headers.get_all(*name).iter().enumerate() {
            hash.update(if place == 0 { b":" } else { b"," });
            add_value(value, &mut hash);
        }
        hash.update(b"\n");
    }
    let names = names.join(";");
    for text in [
        "\n",
        &names,
        "\n",
        &hex(digest::digest(&digest::SHA256, subject.body).as_ref()),
    ] {
        hash.update(text.as_bytes());
    }
    (hex(hash.finish().as_ref()), names)
}

/// A header's value without blanks around it, and one blank for many inside.
fn add_value(value: &HeaderValue, hash: &mut digest::Context) {
    let words = value.as_bytes().split(|byte| *byte == b' ');
    for (place, word) in words.filter(|word| !word.is_empty()).enumerate() {
        if place > 0 {
            hash.update(b" ");
        }
        hash.update(word);
    }
}

/// The path without empty and dot segments; each byte that is not unreserved is escaped, those of escapes included.
fn canonical_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut open = true;
    for segment in path.split('/') {
        open = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let mut out = String::new();
    for segment in &kept {
        out.push('/');
        segment.bytes().for_each(|byte| escape(byte, &mut out));
    }
    if open {
        out.push('/');
    }
    out
}

/// The parameters, escaped anew and sorted.
fn canonical_query(query: &str) -> String {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let mut pairs: Vec<(String, String)> = parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (escaped_anew(name), escaped_anew(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The escapes of a query made uniform; a plus is a blank, as Go reads it.
fn escaped_anew(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.split_first_chunk::<2>().filter(|_| *first == b'%');
        let escaped = digits.and_then(|(digits, tail)| {
            let digits = core::str::from_utf8(digits).ok()?;
            let both = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            Some((u8::from_str_radix(digits, 16).ok().filter(|_| both)?, tail))
        });
        let (byte, tail) = escaped.unwrap_or((if *first == b'+' { b' ' } else { *first }, after));
        escape(byte, &mut out);
        rest = tail;
    }
    out
}

/// A byte as RFC 3986 leaves it alone or escapes it.
fn escape(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        out.push(char::from(byte));
    } else {
        out.push_str(&format!("%{byte:02X}"));
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    // Four bits index a table of sixteen.
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::auth::Secret;
    use super::*;

    /// 2015-08-30T12:36:00Z, the time of the published vectors.
    const WHEN: UnixMillis = UnixMillis(1_440_938_160_000);

    fn signer(region: &str, service: &str) -> Signer {
        Signer {
            region: region.into(),
            service: service.into(),
            keys: AwsKeys::Inline {
                access_key: "AKIDEXAMPLE".into(),
                secret_key: Secret::inline("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            },
        }
    }

    fn signed(method: &str, target: &str, lines: &[(&'static str, &str)], body: &str) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in [("host", "example.amazonaws.com")].iter().chain(lines) {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).expect("valid"),
            );
        }
        let subject = Subject {
            method,
            path_and_query: target,
            body: body.as_bytes(),
        };
        signer("us-east-1", "service")
            .sign(Some(WHEN), subject, &mut headers)
            .expect("signed");
        assert_eq!(headers.get("x-amz-date").expect("added"), "20150830T123600Z");
        let line = headers.get(header::AUTHORIZATION).expect("added");
        assert!(line.is_sensitive());
        line.to_str().expect("text").into()
    }

    fn line(names: &str, signature: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, \
             Signature={signature}"
        )
    }

    #[test]
    fn published_vectors_are_reproduced() {
        const PLAIN: &str = "host;x-amz-date";
        let unreserved = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        for (name, target, expected) in [
            ("get-vanilla", "/", vanilla),
            // The suite signs these as the vanilla one: their path is the root once it is normalised.
            ("get-relative", "/example/..", vanilla),
            ("get-relative-relative", "/example1/example2/../..", vanilla),
            ("get-slash", "//", vanilla),
            ("get-slash-dot-slash", "/./", vanilla),
            (
                "get-slashes",
                "//example//",
                "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
            ),
            (
                "get-unreserved",
                unreserved,
                "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            ),
            (
                "get-vanilla-query-order-key-case",
                "/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "get-vanilla-query-order-value",
                "/?Param1=value2&Param1=value1",
                "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
            ),
            (
                "get-vanilla-utf8-query",
                "/?\u{1234}=bar",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
        ] {
            assert_eq!(signed("GET", target, &[], ""), line(PLAIN, expected), "{name}");
        }
    }

    #[test]
    fn published_vectors_with_headers_are_reproduced() {
        let four = ["value4", "value1", "value3", "value2"].map(|value| ("my-header1", value));
        let order = "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01";
        assert_eq!(
            signed("GET", "/", &four, ""),
            line("host;my-header1;x-amz-date", order),
            "get-header-value-order"
        );
        let three = ["value2", "value2", "value1"].map(|value| ("my-header1", value));
        let duplicate = "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea";
        assert_eq!(
            signed("GET", "/", &three, ""),
            line("host;my-header1;x-amz-date", duplicate),
            "get-header-key-duplicate"
        );
        let trimmed = [("my-header1", " value1"), ("my-header2", " \"a   b   c\"")];
        let trim = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736";
        assert_eq!(
            signed("GET", "/", &trimmed, ""),
            line("host;my-header1;my-header2;x-amz-date", trim),
            "get-header-value-trim"
        );
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("user-agent", "not signed"),
            ("authorization", "replaced"),
        ];
        let posted = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a";
        assert_eq!(
            signed("POST", "/", &form, "Param1=value1"),
            line("content-type;host;x-amz-date", posted),
            "post-x-www-form-urlencoded"
        );
        let token = [(
            "x-amz-security-token",
            "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
        )];
        let with_token = "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8";
        assert_eq!(
            signed("GET", "/", &token, ""),
            line("host;x-amz-date;x-amz-security-token", with_token),
            "a session's token is signed"
        );
    }

    #[test]
    fn paths_and_queries_are_canonical() {
        for (path, expected) in [
            ("", "/"),
            (
                "/workspaces/ws-1/api/v1/remote_write",
                "/workspaces/ws-1/api/v1/remote_write",
            ),
            ("/a%2Fb", "/a%252Fb"),
            ("/a/../../b/.", "/b/"),
            ("/\u{1234}", "/%E1%88%B4"),
        ] {
            assert_eq!(canonical_path(path), expected, "{path}");
        }
        for (query, expected) in [
            ("", ""),
            ("&&b&a=1", "a=1&b="),
            ("a=1=2&q=a+b%2b", "a=1%3D2&q=a%20b%2B"),
            ("x=a.b&x=a%2Fb", "x=a%2Fb&x=a.b"),
            ("p=100%&q=%+1&r=%4", "p=100%25&q=%25%201&r=%254"),
        ] {
            assert_eq!(canonical_query(query), expected, "{query}");
        }
    }

    #[test]
    fn nothing_is_signed_without_the_time() {
        let subject = Subject {
            method: "POST",
            path_and_query: "/",
            body: b"x",
        };
        let mut headers = HeaderMap::new();
        let result = signer("r", "s").sign(None, subject, &mut headers);
        assert!(matches!(result, Err(SignError::ClockUnknown)) && headers.is_empty());
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", signer("r", "s"));
        assert!(!shown.contains("wJalr"), "{shown}");
    }
}
