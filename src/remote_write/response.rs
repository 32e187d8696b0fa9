//! What an answer of the receiver means for the samples of a request.
//!
//! [`verdict`] is a pure function from status, headers and the circumstances of the attempt to what happens next. It
//! keeps no state and reads no clock; error bodies are never looked at (the specification forbids interpreting them).
//!
//! Split by what the caller does next:
//!
//! | answer | verdict |
//! |---|---|
//! | 2xx, 1.0 request | accepted |
//! | 2xx, 2.0 request, Written headers | accepted, or partly: the rest was refused |
//! | 2xx, 2.0 request, no Written header | an old receiver ignored the body: fall back to 1.0, or hold |
//! | 5xx, 408, 425, 429 | retry, honouring Retry-After; 429 is dropped when so configured |
//! | 413 | halve the batch; a single sample is dropped |
//! | 415 | fall back to 1.0, or hold |
//! | 401, 402, 403, 404, 405, 407, 410, 421, 426, 451; 1xx, 3xx | hold: says nothing about the samples |
//! | other 4xx with Written headers (2.0) | accepted partly |
//! | other 4xx, first ever answer to 2.0 chosen by us | fall back to 1.0: pre-2.0 receivers answer 400 |
//! | other 4xx, samples that may be stored already | one frame per request; a single refused frame is delivered |
//! | other 4xx otherwise | split once where allowed, else drop |
//! | anything that is no HTTP status (0-99, 600 and up) | drop, as Prometheus does |
//!
//! Holding instead of dropping on what a mis-provisioned gateway answers deviates from Prometheus, which loses the
//! backlog there. Holding is not retrying in the sense of the specification's "MUST NOT retry": the sender waits
//! seconds to minutes between attempts and shouts.
//!
//! Hostile input: headers are parsed with checked arithmetic; a value that does not parse is no value.
//!
//! Sources: Remote Write 1.0 and 2.0 specifications ("Retries & Backoff", "Required Response Headers"), RFC 9110.

use super::http_date;
use crate::clock::UnixMillis;

/// The two remote write messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `prometheus.WriteRequest`, version header 0.1.0.
    V1,
    /// `io.prometheus.write.v2.Request`, version header 2.0.0.
    V2,
}

impl Protocol {
    /// Value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::V1 => "application/x-protobuf",
            Self::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// Value of `X-Prometheus-Remote-Write-Version`.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::V1 => "0.1.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// Retry-After as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetryAfter {
    Delay { ms: u64 },
    At(UnixMillis),
}

/// Status and the headers that matter; the host shows every header of the answer to [`Head::header`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Status code as received.
    pub status: u16,
    /// The receiver's clock.
    pub date: Option<UnixMillis>,
    retry_after: Option<RetryAfter>,
    samples_written: Option<u64>,
    histograms_written: Option<u64>,
    exemplars_written: Option<u64>,
}

/// What the Written headers say; a missing one of several means 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl Head {
    /// An answer without headers.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// Takes note of one header; names compare without case, unknown ones are ignored, the first of a name counts.
    pub fn header(&mut self, name: &str, value: &[u8]) {
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case("retry-after") {
            self.retry_after = self.retry_after.or_else(|| parse_retry_after(value));
        } else if name.eq_ignore_ascii_case("date") {
            self.date = self.date.or_else(|| http_date::parse(value));
        } else if name.eq_ignore_ascii_case("x-prometheus-remote-write-samples-written") {
            self.samples_written = self.samples_written.or_else(|| parse_count(value));
        } else if name.eq_ignore_ascii_case("x-prometheus-remote-write-histograms-written") {
            self.histograms_written = self.histograms_written.or_else(|| parse_count(value));
        } else if name.eq_ignore_ascii_case("x-prometheus-remote-write-exemplars-written") {
            self.exemplars_written = self.exemplars_written.or_else(|| parse_count(value));
        }
    }

    /// Milliseconds the receiver asks to wait. A date is measured from the answer's own `Date`, else from `wall`;
    /// 0, a date in the past, or one with nothing to measure from, asks nothing. Not capped here (the back-off does).
    #[must_use]
    pub fn retry_after_ms(&self, wall: Option<UnixMillis>) -> Option<u64> {
        let ms = match self.retry_after? {
            RetryAfter::Delay { ms } => ms,
            RetryAfter::At(at) => u64::try_from(at.0.saturating_sub(self.date.or(wall)?.0)).ok()?,
        };
        (ms > 0).then_some(ms)
    }

    /// What was written, when at least one of the Written headers came.
    #[must_use]
    pub fn written(&self) -> Option<Written> {
        let counts = [self.samples_written, self.histograms_written, self.exemplars_written];
        counts.iter().any(Option::is_some).then(|| {
            let [samples, histograms, exemplars] = counts.map(Option::unwrap_or_default);
            Written {
                samples,
                histograms,
                exemplars,
            }
        })
    }
}

fn parse_retry_after(value: &[u8]) -> Option<RetryAfter> {
    if value.first().is_some_and(u8::is_ascii_digit) {
        parse_count(value).map(|seconds| RetryAfter::Delay {
            ms: seconds.saturating_mul(1000),
        })
    } else {
        http_date::parse(value).map(RetryAfter::At)
    }
}

/// Decimal digits only; saturates, so that an absurd number stays "very many".
fn parse_count(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        value
            .iter()
            .fold(0_u64, |n, &b| n.saturating_mul(10).saturating_add(u64::from(b - b'0'))),
    )
}

/// The circumstances of the attempt that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Message that was sent.
    pub protocol: Protocol,
    /// The message was our choice, not the operator's: we may change it.
    pub negotiable: bool,
    /// This receiver has confirmed 2.0 before, by Written headers.
    pub confirmed: bool,
    /// Answers in a row before this one that did not confirm, see [`HoldReason::Unconfirmed`].
    pub unconfirmed: u8,
    /// `queue_config.retry_on_http_429`.
    pub retry_on_429: bool,
    /// Samples in the request.
    pub samples: u32,
    /// Native histograms in it.
    pub histograms: u32,
    /// The request holds samples of one frame only.
    pub single_frame: bool,
    /// The samples may be stored already: sent before a restart, or in an attempt whose outcome is unknown.
    pub in_doubt: bool,
    /// A refused request may be split: it is not already a part of one that was refused.
    pub may_split: bool,
}

/// What happens next with the samples of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Stored: acknowledge all.
    Accepted,
    /// `written` samples and native histograms stored, the rest refused for good: acknowledge all, count the rest.
    AcceptedPartly {
        /// So many the receiver says it wrote, less than were sent.
        written: u32,
    },
    /// Send the same bytes again after the back-off, or after the time the receiver asks for.
    Retry {
        /// Milliseconds, not capped.
        after_ms: Option<u64>,
    },
    /// Too big: send half, and remember the size.
    Halve,
    /// Keep the data, tell the operator, look again later.
    Hold(HoldReason),
    /// Send the same samples as a 1.0 request.
    FallBackToV1,
    /// Send the same samples in parts, to save those the receiver does take: one frame per request when the samples
    /// are in doubt, two halves otherwise.
    Bisect,
    /// Give the samples up, in order, and count them.
    Drop(DropReason),
}

/// Why data is kept although the receiver does not take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldReason {
    /// 401, 402, 403, 404, 405, 407, 410, 421, 426, 451: credentials, path or gateway.
    Configuration {
        /// The status.
        status: u16,
    },
    /// 1xx or 3xx as a final answer: a redirect that was not followed, often a captive portal.
    Redirected {
        /// The status.
        status: u16,
    },
    /// 415 and no other message to offer.
    Unsupported,
    /// 2xx on a 2.0 request without any Written header and falling back is not allowed, or the receiver used to send
    /// them: a proxy or a captive portal may have answered in its place.
    Unconfirmed,
    /// The URL has a scheme that the host does not speak: nothing can be sent at all.
    Scheme,
    /// The next frame's wall time is not known yet.
    ClockUnknown,
    /// Our clock is ahead of the receiver's by more than the veto allows.
    ClockAhead,
    /// Our clock is behind the receiver's, or what was sent before a restart, by more than the veto allows.
    ClockBehind,
}

/// Why samples were given up after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// Refused as invalid, out of order, too old, duplicate; the receiver does not say which in a way one may read.
    Refused {
        /// The status.
        status: u16,
    },
    /// Refused, but the samples had possibly been stored before: counted as delivered.
    AlreadyDelivered,
    /// One sample alone is too large for the receiver.
    TooLarge,
    /// 429, and the configuration says not to retry it.
    RateLimited,
}

/// Unconfirmed answers in a row after which a receiver that used to confirm is taken for a downgraded one.
pub const UNCONFIRMED_LIMIT: u8 = 3;

/// Decides; see the table in the module docs.
#[must_use]
pub fn verdict(head: &Head, attempt: &Attempt, wall: Option<UnixMillis>) -> Verdict {
    let after_ms = head.retry_after_ms(wall);
    match head.status {
        200..=299 => success(head, attempt),
        500..=599 | 408 | 425 => Verdict::Retry { after_ms },
        429 if attempt.retry_on_429 => Verdict::Retry { after_ms },
        429 => Verdict::Drop(DropReason::RateLimited),
        413 if attempt.items() > 1 => Verdict::Halve,
        413 => Verdict::Drop(DropReason::TooLarge),
        415 if attempt.protocol == Protocol::V2 && attempt.negotiable => Verdict::FallBackToV1,
        415 => Verdict::Hold(HoldReason::Unsupported),
        status @ (401 | 402 | 403 | 404 | 405 | 407 | 410 | 421 | 426 | 451) => {
            Verdict::Hold(HoldReason::Configuration { status })
        }
        status @ (100..=199 | 300..=399) => Verdict::Hold(HoldReason::Redirected { status }),
        status @ 400..=499 => refused(status, head, attempt),
        status => Verdict::Drop(DropReason::Refused { status }),
    }
}

fn success(head: &Head, attempt: &Attempt) -> Verdict {
    if attempt.protocol == Protocol::V1 {
        return Verdict::Accepted;
    }
    match head.written() {
        Some(written) => partly(&written, attempt),
        None if !attempt.negotiable => Verdict::Hold(HoldReason::Unconfirmed),
        None if attempt.confirmed && attempt.unconfirmed < UNCONFIRMED_LIMIT => Verdict::Hold(HoldReason::Unconfirmed),
        None => Verdict::FallBackToV1,
    }
}

fn refused(status: u16, head: &Head, attempt: &Attempt) -> Verdict {
    if attempt.protocol == Protocol::V2 {
        if let Some(written) = head.written() {
            return partly(&written, attempt);
        }
        if attempt.negotiable && !attempt.confirmed {
            return Verdict::FallBackToV1;
        }
    }
    if attempt.in_doubt {
        return if attempt.single_frame {
            Verdict::Drop(DropReason::AlreadyDelivered)
        } else {
            Verdict::Bisect
        };
    }
    if attempt.may_split && attempt.items() > 1 {
        Verdict::Bisect
    } else {
        Verdict::Drop(DropReason::Refused { status })
    }
}

/// Exemplars that were not written do not matter here: they are an extra, and there is nothing to be done about them.
fn partly(written: &Written, attempt: &Attempt) -> Verdict {
    let least = |written: u64, sent: u32| u32::try_from(written).map_or(sent, |written| written.min(sent));
    let written = least(written.samples, attempt.samples) + least(written.histograms, attempt.histograms);
    if written < attempt.items() {
        Verdict::AcceptedPartly { written }
    } else {
        Verdict::Accepted
    }
}

impl Attempt {
    const fn items(&self) -> u32 {
        self.samples.saturating_add(self.histograms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    const V1: Attempt = Attempt {
        protocol: Protocol::V1,
        negotiable: false,
        confirmed: false,
        unconfirmed: 0,
        retry_on_429: true,
        samples: 10,
        histograms: 0,
        single_frame: false,
        in_doubt: false,
        may_split: false,
    };
    const V2: Attempt = Attempt {
        protocol: Protocol::V2,
        negotiable: true,
        ..V1
    };
    const V2_CONFIRMED: Attempt = Attempt { confirmed: true, ..V2 };
    const V2_FIXED: Attempt = Attempt {
        negotiable: false,
        ..V2
    };

    fn head(status: u16, headers: &[(&str, &str)]) -> Head {
        let mut head = Head::new(status);
        for (name, value) in headers {
            head.header(name, value.as_bytes());
        }
        head
    }

    fn decide(status: u16, attempt: &Attempt) -> Verdict {
        verdict(&Head::new(status), attempt, None)
    }

    fn decide_written(status: u16, written: u32, attempt: &Attempt) -> Verdict {
        let written = written.to_string();
        let head = head(status, &[("X-Prometheus-Remote-Write-Samples-Written", &written)]);
        verdict(&head, attempt, None)
    }

    #[test]
    fn any_2xx_acknowledges_a_v1_request() {
        for status in 200..300 {
            assert_eq!(decide(status, &V1), Verdict::Accepted);
            assert_eq!(
                decide_written(status, 3, &V1),
                Verdict::Accepted,
                "nothing may be inferred for 1.0"
            );
        }
    }

    #[test]
    fn v2_success_is_measured_by_the_written_headers() {
        assert_eq!(decide_written(204, 10, &V2), Verdict::Accepted);
        assert_eq!(decide_written(204, 11, &V2), Verdict::Accepted);
        assert_eq!(decide_written(200, 9, &V2), Verdict::AcceptedPartly { written: 9 });
        let exemplars_only = head(200, &[("X-Prometheus-Remote-Write-Exemplars-Written", "0")]);
        assert_eq!(
            verdict(&exemplars_only, &V2, None),
            Verdict::AcceptedPartly { written: 0 }
        );
        let garbage = head(200, &[("X-Prometheus-Remote-Write-Samples-Written", "-1")]);
        assert_eq!(verdict(&garbage, &V2, None), Verdict::FallBackToV1);
    }

    #[test]
    fn v2_success_without_written_headers_is_an_old_receiver() {
        for status in [200, 202, 204] {
            assert_eq!(decide(status, &V2), Verdict::FallBackToV1);
            assert_eq!(decide(status, &V2_FIXED), Verdict::Hold(HoldReason::Unconfirmed));
        }
    }

    #[test]
    fn a_receiver_that_used_to_confirm_is_not_given_up_at_once() {
        for unconfirmed in 0..UNCONFIRMED_LIMIT {
            let attempt = Attempt {
                unconfirmed,
                ..V2_CONFIRMED
            };
            assert_eq!(decide(200, &attempt), Verdict::Hold(HoldReason::Unconfirmed));
        }
        let attempt = Attempt {
            unconfirmed: UNCONFIRMED_LIMIT,
            ..V2_CONFIRMED
        };
        assert_eq!(decide(200, &attempt), Verdict::FallBackToV1);
    }

    #[test]
    fn every_5xx_is_retried() {
        for attempt in [V1, V2, V2_CONFIRMED, V2_FIXED] {
            for status in (500..600).chain([408, 425, 429]) {
                assert_eq!(decide(status, &attempt), Verdict::Retry { after_ms: None }, "{status}");
            }
        }
    }

    #[test]
    fn configured_429_is_dropped() {
        let attempt = Attempt {
            retry_on_429: false,
            ..V1
        };
        assert_eq!(decide(429, &attempt), Verdict::Drop(DropReason::RateLimited));
    }

    #[test]
    fn too_big_is_halved_down_to_one_sample() {
        assert_eq!(decide(413, &V1), Verdict::Halve);
        assert_eq!(decide(413, &V2_CONFIRMED), Verdict::Halve);
        let one = Attempt { samples: 1, ..V1 };
        assert_eq!(decide(413, &one), Verdict::Drop(DropReason::TooLarge));
    }

    #[test]
    fn unsupported_message_falls_back_or_holds() {
        assert_eq!(decide(415, &V2), Verdict::FallBackToV1);
        assert_eq!(decide(415, &V2_CONFIRMED), Verdict::FallBackToV1);
        assert_eq!(decide(415, &V2_FIXED), Verdict::Hold(HoldReason::Unsupported));
        assert_eq!(decide(415, &V1), Verdict::Hold(HoldReason::Unsupported));
        let fallen_back = Attempt { negotiable: true, ..V1 };
        assert_eq!(decide(415, &fallen_back), Verdict::Hold(HoldReason::Unsupported));
    }

    #[test]
    fn what_says_nothing_about_the_samples_holds_them() {
        let splittable = Attempt { may_split: true, ..V1 };
        for attempt in [V1, V2, V2_CONFIRMED, splittable] {
            for status in [401, 402, 403, 404, 405, 407, 410, 421, 426, 451] {
                let expected = Verdict::Hold(HoldReason::Configuration { status });
                assert_eq!(decide(status, &attempt), expected);
            }
            for status in [101, 301, 302, 303, 304, 307, 308] {
                assert_eq!(
                    decide(status, &attempt),
                    Verdict::Hold(HoldReason::Redirected { status })
                );
            }
        }
    }

    #[test]
    fn refused_v1_is_split_once_and_then_dropped() {
        for status in [400, 406, 409, 411, 422, 431, 499] {
            let whole = Attempt { may_split: true, ..V1 };
            assert_eq!(decide(status, &whole), Verdict::Bisect, "{status}");
            assert_eq!(decide(status, &V1), Verdict::Drop(DropReason::Refused { status }));
            let one = Attempt { samples: 1, ..whole };
            assert_eq!(decide(status, &one), Verdict::Drop(DropReason::Refused { status }));
        }
    }

    #[test]
    fn refused_v2_says_how_much_was_written() {
        for attempt in [V2, V2_CONFIRMED, V2_FIXED] {
            let attempt = Attempt {
                may_split: true,
                in_doubt: true,
                ..attempt
            };
            assert_eq!(decide_written(400, 4, &attempt), Verdict::AcceptedPartly { written: 4 });
            assert_eq!(decide_written(409, 0, &attempt), Verdict::AcceptedPartly { written: 0 });
            assert_eq!(decide_written(400, 10, &attempt), Verdict::Accepted);
        }
    }

    #[test]
    fn a_receiver_that_never_confirmed_v2_may_be_a_v1_receiver_saying_400() {
        assert_eq!(decide(400, &V2), Verdict::FallBackToV1);
        let whole = Attempt {
            may_split: true,
            ..V2_CONFIRMED
        };
        assert_eq!(decide(400, &whole), Verdict::Bisect);
        let fixed = Attempt {
            may_split: true,
            ..V2_FIXED
        };
        assert_eq!(decide(400, &fixed), Verdict::Bisect);
    }

    #[test]
    fn refused_samples_in_doubt_are_delivered_frame_by_frame() {
        let batch = Attempt { in_doubt: true, ..V1 };
        assert_eq!(decide(400, &batch), Verdict::Bisect);
        let frame = Attempt {
            single_frame: true,
            ..batch
        };
        assert_eq!(decide(409, &frame), Verdict::Drop(DropReason::AlreadyDelivered));
    }

    #[test]
    fn what_is_no_status_is_dropped() {
        for status in [0, 99, 600, 999, u16::MAX] {
            let attempt = Attempt { may_split: true, ..V1 };
            assert_eq!(decide(status, &attempt), Verdict::Drop(DropReason::Refused { status }));
        }
    }

    #[test]
    fn retry_after_has_two_forms() {
        let wall = Some(UnixMillis(784_111_770_000));
        let at = "Sun, 06 Nov 1994 08:49:37 GMT";
        let after = |headers: &[(&str, &str)]| head(503, headers).retry_after_ms(wall);
        assert_eq!(after(&[("Retry-After", "120")]), Some(120_000));
        assert_eq!(after(&[("retry-after", " 2 ")]), Some(2_000));
        assert_eq!(after(&[("Retry-After", "0")]), None, "would be a busy loop");
        assert_eq!(after(&[("Retry-After", at)]), Some(7_000));
        // The receiver's own clock counts, not ours.
        assert_eq!(
            after(&[("Retry-After", at), ("Date", "Sun, 06 Nov 1994 08:49:35 GMT")]),
            Some(2_000)
        );
        assert_eq!(after(&[("Retry-After", at), ("Date", at)]), None);
        assert_eq!(head(503, &[("Retry-After", at)]).retry_after_ms(None), None);
        assert_eq!(after(&[("Retry-After", "99999999999999999999999")]), Some(u64::MAX));
        for garbage in ["-5", "1.5", "soon", "", "5 s"] {
            assert_eq!(after(&[("Retry-After", garbage)]), None, "{garbage}");
        }
        let head = head(503, &[("RETRY-AFTER", "3")]);
        assert_eq!(verdict(&head, &V1, None), Verdict::Retry { after_ms: Some(3000) });
    }

    #[test]
    fn the_messages_have_the_headers_of_the_specifications() {
        let shown: Vec<_> = [Protocol::V1, Protocol::V2]
            .map(|p| (p.content_type(), p.version()))
            .into();
        assert_eq!(
            shown,
            [
                ("application/x-protobuf", "0.1.0"),
                ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
            ]
        );
    }
}
