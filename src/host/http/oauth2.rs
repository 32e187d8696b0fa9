//! OAuth 2.0 client credentials: fetches access tokens, keeps them until they expire.
//!
//! One [`TokenSource`] serves all targets of a job, or one remote. A request that needs a token first waits for one, within
//! its own deadline; the others of the job wait for the same one. A token is fetched again [`EARLY_MS`] before it expires, and after a 401.
//! As Go's client does, the first attempt shows id and secret as basic authentication; where that is refused they go into the form.
//!
//! Limits: an answer of [`ANSWER_BYTES`]; longer ones are refused. While a token is fetched: buffers of one exchange, 16 KiB. Hostile
//! answers give an error, never a panic.
//!
//! Sources: RFC 6749 §2.3.1, §4.4, §5; RFC 6750 §2.1; prometheus.md §4.5.

use super::auth::{Authorization, Secret, header_value};
use super::client::Client;
use super::config::{Buffers, Request};
use super::error::HttpError;
use super::head::CaptureBody;
use super::{Method, ResponseHead};
use crate::clock::Instant;
use crate::host::runtime::now;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use smol::lock::Mutex;
use ureq_proto::http::HeaderValue;
use zeroize::Zeroizing;

/// Longest answer of a token endpoint: tokens of the large providers take 1 to 3 KiB.
pub const ANSWER_BYTES: usize = 8 * 1024;

/// So long before it expires a token is not used any more, milliseconds: as Go does.
const EARLY_MS: u64 = 10_000;

/// What a token is asked for with.
pub struct TokenRequest {
    /// `client_id`.
    pub client_id: String,
    /// `client_secret`, read anew for every fetch if it is in a file.
    pub client_secret: Secret,
    /// `scopes`.
    pub scopes: Vec<String>,
    /// `endpoint_params`.
    pub params: Vec<(String, String)>,
}

struct Token {
    header: HeaderValue,
    good_until: Instant,
}

/// Where a job's or a remote's tokens come from.
pub struct TokenSource {
    client: Mutex<Client>,
    asked: TokenRequest,
    token: RefCell<Option<Token>>,
    /// Id and secret go into the form: the endpoint has refused them as basic authentication.
    in_form: Cell<bool>,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("client_id", &self.asked.client_id)
            .finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Debug)]
#[non_exhaustive]
pub enum TokenError {
    /// The endpoint could not be asked.
    Http(Box<HttpError>),
    /// It refused; what it says of why.
    Refused(u16, String),
    /// Its answer is longer than [`ANSWER_BYTES`], is not JSON, or holds no token.
    Answer,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => write!(f, "fetch oauth2 token: {error}"),
            Self::Refused(status, text) => write!(f, "fetch oauth2 token: HTTP status {status}: {text}"),
            Self::Answer => write!(
                f,
                "fetch oauth2 token: expected JSON with an access_token, at most {ANSWER_BYTES} bytes"
            ),
        }
    }
}

impl TokenSource {
    /// Tokens from the endpoint that `client` speaks to. Nothing is fetched before one is needed.
    #[must_use]
    pub fn new(client: Client, asked: TokenRequest) -> Self {
        Self {
            client: Mutex::new(client),
            asked,
            token: RefCell::default(),
            in_form: Cell::new(false),
        }
    }

    /// The header of the token at hand, if it is still good.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let token = self.token.borrow();
        let good = token.as_ref().filter(|token| now() < token.good_until);
        good.map(|token| token.header.clone())
    }

    /// The token was refused.
    pub(super) fn forget(&self) {
        *self.token.borrow_mut() = None;
    }

    /// Sees to it that there is a token until `deadline`. Boxed, since it is a request within a request.
    pub(super) fn refresh(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = Result<(), HttpError>> + '_>> {
        Box::pin(async move {
            let mut client = self.client.lock().await;
            // Another request of the job may have fetched it meanwhile.
            if self.header().is_some() {
                return Ok(());
            }
            let token = match self.fetch(&mut client, deadline).await {
                Err(TokenError::Refused(400 | 401, _)) if !self.in_form.get() => {
                    self.in_form.set(true);
                    let second = self.fetch(&mut client, deadline).await;
                    self.in_form.set(second.is_ok());
                    second
                }
                first => first,
            };
            *self.token.borrow_mut() = Some(token.map_err(HttpError::Token)?);
            Ok(())
        })
    }

    async fn fetch(&self, client: &mut Client, deadline: Instant) -> Result<Token, TokenError> {
        let failed = |error| TokenError::Http(Box::new(error));
        let secret = self.asked.client_secret.read().map_err(failed)?;
        let form = self.form(&secret);
        let basic = Authorization::basic(&form_encoded(&self.asked.client_id), &form_encoded(&secret));
        let basic = basic.header().map_err(failed)?;
        let mut headers = Vec::from([
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
        ]);
        if let Some(basic) = basic.as_ref().filter(|_| !self.in_form.get()) {
            // Base64 is text.
            headers.push(("authorization", basic.to_str().unwrap_or_default()));
        }
        let request = Request {
            method: Method::Post,
            headers: &headers,
            body: form.as_bytes(),
            body_limit: ANSWER_BYTES as u64,
            deadline,
            wall: None,
        };
        let mut answer: Box<CaptureBody<ANSWER_BYTES>> = Box::default();
        let mut buffers = Buffers::new(false);
        let asked = now();
        let head = client.request(&request, &mut buffers, &mut *answer).await;
        let head = match head {
            Err(HttpError::BodyTooLarge { .. }) => return Err(TokenError::Answer),
            head => head.map_err(failed)?,
        };
        if !head.is_success() {
            return Err(refusal(&head, answer.bytes()));
        }
        token(answer.bytes(), asked).ok_or(TokenError::Answer)
    }

    fn form(&self, secret: &str) -> Zeroizing<String> {
        let mut form = Zeroizing::new(String::from("grant_type=client_credentials"));
        let scopes = self.asked.scopes.join(" ");
        let scope = [("scope", scopes.as_str())];
        let mut pairs: Vec<(&str, &str)> = scope.into_iter().filter(|(_, scopes)| !scopes.is_empty()).collect();
        if self.in_form.get() {
            pairs.extend([("client_id", self.asked.client_id.as_str()), ("client_secret", secret)]);
        }
        pairs.extend(
            self.asked
                .params
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        for (name, value) in pairs {
            form.push('&');
            form.push_str(&form_encoded(name));
            form.push('=');
            form.push_str(&form_encoded(value));
        }
        form
    }
}

fn refusal(head: &ResponseHead, body: &[u8]) -> TokenError {
    let field = |name| json_field(body, name).map(|text| text.chars().take(100).collect::<String>());
    let text = field("error_description").or_else(|| field("error"));
    TokenError::Refused(head.status, text.unwrap_or_default())
}

fn token(body: &[u8], asked: Instant) -> Option<Token> {
    let token = Zeroizing::new(json_field(body, "access_token").filter(|token| !token.is_empty())?);
    let kind = json_field(body, "token_type").unwrap_or_default();
    // Most endpoints write it in lower case, and some receivers want it as the RFC has it.
    let kind = if kind.is_empty() || kind.eq_ignore_ascii_case("bearer") {
        "Bearer"
    } else {
        &kind
    };
    let header = Zeroizing::new([kind, " ", token.as_str()].concat());
    let seconds: Option<u64> = json_field(body, "expires_in")
        .and_then(|text| text.parse().ok())
        .filter(|s| *s > 0);
    let good_until = seconds.map_or(Instant(u64::MAX), |seconds| {
        asked + seconds.saturating_mul(1_000).saturating_sub(EARLY_MS)
    });
    Some(Token {
        header: header_value(&header).ok()?,
        good_until,
    })
}

/// As a form has it (`application/x-www-form-urlencoded`).
fn form_encoded(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::new());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' | b'*' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            _ => out.push_str(&alloc::format!("%{byte:02X}")),
        }
    }
    out
}

/// A string or number of a JSON object, by its name; what is nested is passed over. `None` as well for what is not JSON up to there.
fn json_field(bytes: &[u8], name: &str) -> Option<String> {
    let mut json = Json(core::str::from_utf8(bytes).ok()?.trim_start());
    json.token('{')?;
    loop {
        let key = json.string()?;
        json.token(':')?;
        if key == name {
            return if json.0.starts_with('"') {
                json.string()
            } else {
                json.word()
            };
        }
        json.skip(0)?;
        json.token(',')?;
    }
}

/// Deepest nesting that is passed over.
const MAX_DEPTH: usize = 16;

/// The rest of a JSON text.
struct Json<'a>(&'a str);

impl Json<'_> {
    fn token(&mut self, wanted: char) -> Option<()> {
        self.0 = self.0.strip_prefix(wanted)?.trim_start();
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.0.strip_prefix('"')?.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => match chars.next()? {
                    'u' => {
                        let digits = chars.as_str().get(..4)?;
                        out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?).unwrap_or('\u{fffd}'));
                        chars = chars.as_str().get(4..)?.chars();
                    }
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    other => out.push(other),
                },
                other => out.push(other),
            }
        }
        self.0 = chars.as_str().trim_start();
        Some(out)
    }

    fn word(&mut self) -> Option<String> {
        let end = self.0.find([',', '}', ']', ' ', '\n', '\r', '\t'])?;
        let (word, rest) = self.0.split_at(end);
        self.0 = rest.trim_start();
        (!word.is_empty()).then(|| word.into())
    }

    fn skip(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        let close = match self.0.chars().next()? {
            '"' => return self.string().map(|_| ()),
            '{' => '}',
            '[' => ']',
            _ => return self.word().map(|_| ()),
        };
        self.0 = self.0.get(1..)?.trim_start();
        while !self.0.starts_with(close) {
            if close == '}' {
                self.string()?;
                self.token(':')?;
            }
            self.skip(depth + 1)?;
            if !self.0.starts_with(close) {
                self.token(',')?;
            }
        }
        self.token(close)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_stands_around_them() {
        let text = br#" { "a": [1, {"access_token": "no"}, "x"], "b":{}, "n" : 3600 ,"s":"q\"\u0041\n", "access_token":"yes", "t": true}"#;
        let field = |name| json_field(text, name);
        assert_eq!(field("access_token").as_deref(), Some("yes"));
        assert_eq!(field("n").as_deref(), Some("3600"));
        assert_eq!(field("s").as_deref(), Some("q\"A\n"));
        assert_eq!(field("t").as_deref(), Some("true"));
        assert_eq!(field("none"), None);
        for end in 0..text.len() {
            // Cut anywhere: nothing, or what was complete.
            let cut = json_field(&text[..end], "access_token");
            assert!(cut.is_none() || cut.as_deref() == Some("yes"));
        }
        let deep = alloc::format!(
            "{{\"a\":{}1{},\"access_token\":\"x\"}}",
            "[".repeat(5_000),
            "]".repeat(5_000)
        );
        assert_eq!(json_field(deep.as_bytes(), "access_token"), None);
        for bytes in [
            &b""[..],
            b"{}",
            b"[]",
            b"\xff",
            b"{\"access_token\"",
            b"{\"access_token\":",
            b"{\"\\u12",
        ] {
            assert_eq!(json_field(bytes, "access_token"), None, "{bytes:?}");
        }
    }

    #[test]
    fn tokens_end_before_they_expire() {
        let at = |text: &str| token(text.as_bytes(), Instant(1_000)).map(|token| token.good_until.0);
        assert_eq!(at(r#"{"access_token":"a","expires_in":3600}"#), Some(3_591_000));
        assert_eq!(at(r#"{"access_token":"a","expires_in":"60"}"#), Some(51_000));
        assert_eq!(
            at(r#"{"access_token":"a","expires_in":5}"#),
            Some(1_000),
            "used once at most"
        );
        assert_eq!(at(r#"{"access_token":"a"}"#), Some(u64::MAX));
        assert_eq!(at(r#"{"access_token":""}"#), None);
        assert_eq!(at(r#"{"access_token":"a\nb"}"#), None, "no header can hold it");
        let header = |text: &str| token(text.as_bytes(), Instant(0)).map(|token| token.header);
        for (text, expected) in [
            (r#"{"access_token":"a","token_type":"bearer"}"#, "Bearer a"),
            (r#"{"access_token":"a","token_type":"DPoP"}"#, "DPoP a"),
        ] {
            let header = header(text).expect("a token");
            assert_eq!((header.as_bytes(), header.is_sensitive()), (expected.as_bytes(), true));
        }
    }

    #[test]
    fn forms_are_encoded() {
        assert_eq!(form_encoded("a b&c=d/ü~*").as_str(), "a+b%26c%3Dd%2F%C3%BC%7E*");
    }
}
