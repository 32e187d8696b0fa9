//! Which parser a response asks for: its Content-Type, read as Go's `mime` package reads it.

use super::Format;
use crate::labels::Excerpt;
use core::fmt;

/// Why no parser could be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentTypeError {
    /// The response has no Content-Type.
    Missing,
    /// It is not a media type.
    Malformed(Excerpt),
    /// It is a media type that is not read here.
    Unsupported(Excerpt),
}

impl fmt::Display for ContentTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("response has no Content-Type and no fallback_scrape_protocol is set"),
            Self::Malformed(found) => {
                write!(
                    f,
                    "Content-Type {found} is malformed and no fallback_scrape_protocol is set"
                )
            }
            Self::Unsupported(found) => write!(
                f,
                "Content-Type {found} is none of text/plain, application/openmetrics-text, application/vnd.google.protobuf (only if \
                 scrape_protocols has PrometheusProto) and no fallback_scrape_protocol is set"
            ),
        }
    }
}

impl core::error::Error for ContentTypeError {}

/// The format of a response with this Content-Type, else the fallback (`SCR-211`, `SCR-212`, `SCR-215`).
///
/// Parameters such as `version` must be well-formed but do not matter. A zero-length body needs no format (`SCR-213`).
///
/// # Errors
/// [`ContentTypeError`] when neither names a format; the scrape fails.
pub fn select(content_type: Option<&[u8]>, fallback: Option<Format>) -> Result<Format, ContentTypeError> {
    let found = match content_type {
        None | Some([]) => Err(ContentTypeError::Missing),
        Some(text) => match media_type(text) {
            None => Err(ContentTypeError::Malformed(Excerpt::new(text))),
            Some(name) if name.eq_ignore_ascii_case(b"text/plain") => Ok(Format::Text),
            Some(name) if name.eq_ignore_ascii_case(b"application/openmetrics-text") => Ok(Format::OpenMetrics),
            Some(name) if name.eq_ignore_ascii_case(b"application/vnd.google.protobuf") => Ok(Format::Protobuf),
            Some(_) => Err(ContentTypeError::Unsupported(Excerpt::new(text))),
        },
    };
    found.or_else(|error| fallback.ok_or(error))
}

/// `type/subtype` of a well-formed media type with its parameters.
fn media_type(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|&byte| byte == b';').unwrap_or(text.len());
    let (name, parameters) = text.split_at_checked(end)?;
    let name = name.trim_ascii();
    let slash = name.iter().position(|&byte| byte == b'/').unwrap_or(name.len());
    let (kind, subtype) = name.split_at_checked(slash)?;
    let subtype = subtype.strip_prefix(b"/").unwrap_or(b"x");
    (is_token(kind) && is_token(subtype) && parameters_are_valid(parameters)).then_some(name)
}

/// Any number of `; name=value`, then at most one lone `;`. A name may occur once.
fn parameters_are_valid(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((name, behind)) = parameter(rest) {
        let mut before = text;
        while before.len() > rest.len()
            && let Some((other, next)) = parameter(before)
        {
            if other.eq_ignore_ascii_case(name) {
                return false;
            }
            before = next;
        }
        rest = behind;
    }
    matches!(rest.trim_ascii(), b"" | b";")
}

/// Splits `; name=value` off the front; the name, and what follows the value.
fn parameter(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = text.trim_ascii_start().strip_prefix(b";")?.trim_ascii_start();
    let (name, rest) = token(rest)?;
    let rest = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let rest = match rest.strip_prefix(b"\"") {
        Some(quoted) => behind_quoted(quoted)?,
        None => token(rest)?.1,
    };
    Some((name, rest))
}

/// What follows the closing quote.
fn behind_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return text.get(at + 1..),
            b'\r' | b'\n' => return None,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// A token at the front, and what follows it.
fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = text.iter().take_while(|&&byte| is_token_byte(byte)).count();
    if len == 0 {
        return None;
    }
    text.split_at_checked(len)
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

/// RFC 7230 `tchar`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn media_type_chooses_the_parser() {
        for (text, format) in [
            ("text/plain", Format::Text),
            ("text/plain; version=0.0.4; charset=utf-8", Format::Text),
            ("text/plain;version=1.0.0;escaping=allow-utf-8", Format::Text),
            ("Text/PLAIN ; charset=\"utf-8\"", Format::Text),
            ("text/plain;", Format::Text),
            (" text/plain ; a=\"\\\"\" ;", Format::Text),
            ("application/openmetrics-text; version=9", Format::OpenMetrics),
            ("application/vnd.google.protobuf", Format::Protobuf),
            (
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
                Format::Protobuf,
            ),
            (
                "application/openmetrics-text;version=1.0.0;charset=utf-8",
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(select(Some(text.as_bytes()), None), Ok(format), "{text}");
        }
    }

    #[test]
    fn anything_else_needs_a_fallback() {
        let malformed = |text: &str| ContentTypeError::Malformed(Excerpt::new(text.as_bytes()));
        let unsupported = |text: &str| ContentTypeError::Unsupported(Excerpt::new(text.as_bytes()));
        for (text, error) in [
            ("application/json", unsupported("application/json")),
            ("text/html; charset=utf-8", unsupported("text/html; charset=utf-8")),
            ("text", unsupported("text")),
            ("text/plain;;", malformed("text/plain;;")),
            ("text/plain; version", malformed("text/plain; version")),
            ("text/plain; a=1; A=2", malformed("text/plain; a=1; A=2")),
            ("text/plain; a=\"1", malformed("text/plain; a=\"1")),
            ("text/plain, text/html", malformed("text/plain, text/html")),
            ("/", malformed("/")),
            (";", malformed(";")),
            (" ", malformed(" ")),
        ] {
            assert_eq!(select(Some(text.as_bytes()), None), Err(error), "{text}");
            assert_eq!(select(Some(text.as_bytes()), Some(Format::Text)), Ok(Format::Text));
        }
        assert_eq!(select(None, None), Err(ContentTypeError::Missing));
        assert_eq!(select(Some(b""), None), Err(ContentTypeError::Missing));
        assert_eq!(select(None, Some(Format::OpenMetrics)), Ok(Format::OpenMetrics));
        assert_eq!(
            malformed("a\n").to_string(),
            "Content-Type \"a\\n\" is malformed and no fallback_scrape_protocol is set"
        );
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let letters = b"text/plain; a=\"\\\x00\xff";
            let text: alloc::vec::Vec<u8> = (0..rng.usize(..24))
                .map(|_| letters[rng.usize(..letters.len())])
                .collect();
            if let Ok(format) = select(Some(&text), None) {
                assert_eq!(format, Format::Text);
            }
        }
    }
}
