//! What a caller learns of a response, and how it takes the body.

use core::str;

use heapless::String;
use ureq_proto::http::{HeaderMap, Response, header};

/// Bytes of `Content-Type` that are kept; Prometheus' longest has 100.
const CONTENT_TYPE_BYTES: usize = 192;
/// Bytes of `Location` that are kept, for messages only.
const LOCATION_BYTES: usize = 192;
/// Bytes of `Date` and `Retry-After`: an IMF-fixdate has 29.
const DATE_BYTES: usize = 40;

/// Status and the few headers callers act on. About 560 bytes, no heap; longer values are cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status code, 200..=999, or 101 (other 1xx are skipped).
    pub status: u16,
    /// The body is inflated before it is delivered: `Content-Encoding` was exactly `gzip`.
    pub gzip: bool,
    /// `Content-Length` when given and valid.
    pub content_length: Option<u64>,
    /// `Content-Type`.
    pub content_type: Option<String<CONTENT_TYPE_BYTES>>,
    /// `Retry-After`: seconds or an HTTP date.
    pub retry_after: Option<String<DATE_BYTES>>,
    /// `Date`.
    pub date: Option<String<DATE_BYTES>>,
    /// `Location`.
    pub location: Option<String<LOCATION_BYTES>>,
    /// `X-Prometheus-Remote-Write-Samples-Written`.
    pub samples_written: Option<i64>,
    /// `X-Prometheus-Remote-Write-Histograms-Written`.
    pub histograms_written: Option<i64>,
    /// `X-Prometheus-Remote-Write-Exemplars-Written`.
    pub exemplars_written: Option<i64>,
}

impl ResponseHead {
    pub(super) fn from_response(response: &Response<()>, can_inflate: bool) -> Self {
        let headers = response.headers();
        Self {
            status: response.status().as_u16(),
            gzip: can_inflate
                && headers
                    .get(header::CONTENT_ENCODING)
                    .is_some_and(|value| value.as_bytes() == b"gzip"),
            content_length: number(headers, "content-length"),
            content_type: text(headers, "content-type"),
            retry_after: text(headers, "retry-after"),
            date: text(headers, "date"),
            location: text(headers, "location"),
            samples_written: number(headers, "x-prometheus-remote-write-samples-written"),
            histograms_written: number(headers, "x-prometheus-remote-write-histograms-written"),
            exemplars_written: number(headers, "x-prometheus-remote-write-exemplars-written"),
        }
    }

    /// True for 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The status as Go prints it, `500 Internal Server Error`: the reason is the registered one, not
    /// what the server sent.
    #[must_use]
    pub fn status_text(&self) -> String<48> {
        let mut text = String::new();
        let reason = ureq_proto::http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|code| code.canonical_reason());
        // The longest registered reason has 31 bytes.
        let _ = core::fmt::write(
            &mut text,
            format_args!("{} {}", self.status, reason.unwrap_or_default()),
        );
        text
    }
}

fn text<const N: usize>(headers: &HeaderMap, name: &str) -> Option<String<N>> {
    let bytes = headers.get(name)?.as_bytes();
    let bytes = bytes.get(..bytes.len().min(N))?;
    let valid = match str::from_utf8(bytes) {
        Ok(text) => text,
        // The part before the byte that is not text, or before the character that was cut.
        Err(error) => str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?,
    };
    String::try_from(valid).ok()
}

fn number<T: str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The receiver refuses the response; it keeps the reason itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort;

/// What to do with a response's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyAction {
    /// Hand it to [`Receive::body`], inflated if need be.
    Deliver,
    /// Read it off, up to a limit, so that the connection can be used again; deliver nothing.
    Discard,
}

/// Takes a response: first the head, then the body in pieces.
///
/// The pieces are as they come from the network or the inflater, from 1 byte to 32 KiB. When the
/// request fails half-way, whatever was delivered is to be thrown away.
pub trait Receive {
    /// Called once, for the final response (not for redirects that are followed).
    ///
    /// # Errors
    ///
    /// [`Abort`] ends the request and closes the connection.
    fn head(&mut self, head: &ResponseHead) -> Result<BodyAction, Abort>;

    /// Called for each piece of the body; `piece` is valid for the call only.
    ///
    /// # Errors
    ///
    /// [`Abort`] ends the request and closes the connection.
    fn body(&mut self, piece: &[u8]) -> Result<(), Abort>;
}

/// Keeps the first `N` bytes of a body, for error messages, and discards the rest.
#[derive(Debug, Default)]
pub struct CaptureBody<const N: usize> {
    kept: heapless::Vec<u8, N>,
}

impl<const N: usize> CaptureBody<N> {
    /// An empty receiver.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            kept: heapless::Vec::new(),
        }
    }

    /// The bytes kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.kept
    }

    /// The first line of the body as far as it is text, trimmed: what a receiver says about an error.
    #[must_use]
    pub fn first_line(&self) -> &str {
        let line = self.kept.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let valid = match str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => line
                .get(..error.valid_up_to())
                .and_then(|part| str::from_utf8(part).ok())
                .unwrap_or_default(),
        };
        valid.trim()
    }
}

impl<const N: usize> Receive for CaptureBody<N> {
    fn head(&mut self, _head: &ResponseHead) -> Result<BodyAction, Abort> {
        self.kept.clear();
        Ok(BodyAction::Deliver)
    }

    fn body(&mut self, piece: &[u8]) -> Result<(), Abort> {
        let room = N - self.kept.len();
        // What does not fit is what this receiver does not want.
        let _ = self
            .kept
            .extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&str, &[u8])]) -> Response<()> {
        let mut builder = Response::builder().status(503);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("valid headers")
    }

    #[test]
    fn headers_are_read_and_bounded() {
        let long = alloc::vec![b'a'; 500];
        let head = ResponseHead::from_response(
            &response(&[
                ("content-type", &long),
                ("retry-after", b"120"),
                ("x-prometheus-remote-write-samples-written", b"17"),
                ("x-prometheus-remote-write-exemplars-written", b"many"),
                ("content-encoding", b"gzip"),
                ("location", b"/caf\xff"),
            ]),
            true,
        );
        assert_eq!(head.status, 503);
        assert!(head.gzip && !head.is_success());
        assert_eq!(
            head.content_type.as_ref().map(|text| text.len()),
            Some(CONTENT_TYPE_BYTES)
        );
        assert_eq!(head.retry_after.as_deref(), Some("120"));
        assert_eq!((head.samples_written, head.exemplars_written), (Some(17), None));
        assert_eq!(head.location.as_deref(), Some("/caf"));
        assert_eq!(head.status_text(), "503 Service Unavailable");
    }

    #[test]
    fn only_exactly_gzip_is_inflated() {
        for value in ["GZIP", "x-gzip", "gzip, identity", "identity", "deflate"] {
            assert!(
                !ResponseHead::from_response(&response(&[("content-encoding", value.as_bytes())]), true).gzip,
                "{value}"
            );
        }
    }

    #[test]
    fn captured_body_is_cut_and_its_first_line_is_text() {
        let mut body = CaptureBody::<16>::new();
        body.head(&ResponseHead::default()).expect("accepts");
        body.body(b" out of order\n").expect("accepts");
        body.body(b"second line that does not fit").expect("accepts");
        assert_eq!(body.first_line(), "out of order");
        assert_eq!(body.bytes().len(), 16);
    }
}
