//! What receivers in the field answer, and what becomes of the samples.
//!
//! One row per answer: the rules of remote write first (RW-20 to RW-30), then the receivers as their documentation and sources
//! describe them. Every row is played against a real sender with a backlog of two scrapes: the verdict, the wait before the
//! next attempt, whether the samples are still held, and what was counted as lost.

#[path = "common/sending.rs"]
mod sending;

use tidegate::catalogue::{Catalogue, Names, SeriesText};
use tidegate::clock::{Instant, UnixMillis};
use tidegate::frame::{Frame, FrameNo, FrameSource, Next, ScrapeCounts};
use tidegate::metadata::Metadata;
use tidegate::relabel::Relabel;
use tidegate::remote_write::identity::Identity;
use tidegate::remote_write::response::{Head, Protocol};
use tidegate::remote_write::sender::{Action, MessageChoice, Sender, SenderConfig};
use tidegate::sample::{MetricType, Number, Sample, SeriesRef, TargetRef};

const EPOCH_MS: i64 = 1_784_000_000_000;
/// Samples of the request that is answered: two scrapes of one sample and five synthetic ones.
const SENT: u64 = 12;
const V1: MessageChoice = MessageChoice::Fixed(Protocol::V1);
const V2: MessageChoice = MessageChoice::Fixed(Protocol::V2);
const ANY: MessageChoice = MessageChoice::Negotiate;
const WRITTEN: &str = "X-Prometheus-Remote-Write-Samples-Written";

struct Two {
    catalogue: Catalogue,
    position: u64,
}

impl FrameSource for Two {
    type Error = std::convert::Infallible;

    fn next(&mut self, frame: &mut Frame) -> Result<Next, Self::Error> {
        if self.position >= 2 {
            return Ok(Next::End);
        }
        frame.reset(TargetRef(0), self.position * 15_000);
        frame.number = FrameNo(self.position);
        frame.up = true;
        frame.unix_ms = Some(EPOCH_MS - 30_000 + self.position as i64 * 15_000);
        frame.counts = ScrapeCounts {
            scraped: 1,
            post_relabel: 1,
            added: 0,
        };
        let sample = Sample {
            number: Number::decimal(1, 0),
            series: SeriesRef(0),
        };
        frame.samples.push(sample).expect("frames are made for it");
        self.position += 1;
        Ok(Next::Frame)
    }

    fn seek(&mut self, at: FrameNo) {
        self.position = at.0;
    }

    fn names(&mut self) -> Names<'_> {
        Names::Catalogue(&mut self.catalogue)
    }
}

/// What became of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Acknowledged, and so many counted as lost.
    Done { lost: u64 },
    /// Sent again as they are, after a wait between these milliseconds.
    Again { least: u64, most: u64 },
    /// Sent again in smaller requests.
    Smaller,
    /// Sent again in the other message.
    Other,
    /// Kept without sending for ten seconds and more, with an alarm.
    Held,
}
use Fate::{Again, Done, Held, Other, Smaller};

const BACKED_OFF: Fate = Again { least: 0, most: 30 };
const TAKEN: Fate = Done { lost: 0 };

type Row = (
    &'static str,
    MessageChoice,
    u16,
    &'static [(&'static str, &'static str)],
    Fate,
);

const DATE: (&str, &str) = ("Date", "Tue, 14 Jul 2026 03:33:20 GMT");

const RULES: &[Row] = &[
    ("RW-20", V1, 200, &[], TAKEN),
    ("RW-20", V1, 202, &[], TAKEN),
    ("RW-20", V1, 204, &[], TAKEN),
    ("RW-20", V1, 299, &[], TAKEN),
    ("RW-21", V1, 500, &[], BACKED_OFF),
    ("RW-21", V1, 501, &[], BACKED_OFF),
    ("RW-21", V1, 503, &[], BACKED_OFF),
    ("RW-21", V1, 505, &[], BACKED_OFF),
    ("RW-21", V1, 599, &[], BACKED_OFF),
    ("RW-22", V1, 429, &[], BACKED_OFF),
    ("RW-23, a backlog is split once", V1, 400, &[], Smaller),
    ("RW-23, a backlog is split once", V1, 409, &[], Smaller),
    ("RW-23, a backlog is split once", V1, 411, &[], Smaller),
    ("RW-23, a backlog is split once", V1, 422, &[], Smaller),
    ("RW-23, a backlog is split once", V1, 431, &[], Smaller),
    ("RW-23, 408 is no fault of the samples", V1, 408, &[], BACKED_OFF),
    ("RW-23, 425 is no fault of the samples", V1, 425, &[], BACKED_OFF),
    ("RW-23, 401 is held", V1, 401, &[], Held),
    ("RW-23, 403 is held", V1, 403, &[], Held),
    ("RW-23, 404 is held", V1, 404, &[], Held),
    ("RW-23, 405 is held", V1, 405, &[], Held),
    ("RW-23, 413 is halved", V1, 413, &[], Smaller),
    ("RW-24, 1xx", V1, 102, &[], Held),
    ("RW-24, 3xx", V1, 302, &[("Location", "https://login.example/")], Held),
    ("RW-24, odd", V1, 999, &[], Done { lost: SENT }),
    (
        "RW-26, seconds",
        V1,
        503,
        &[("Retry-After", "7")],
        Again {
            least: 7_000,
            most: 7_700,
        },
    ),
    (
        "RW-26, date",
        V1,
        503,
        &[DATE, ("Retry-After", "Tue, 14 Jul 2026 03:33:50 GMT")],
        Again {
            least: 30_000,
            most: 33_000,
        },
    ),
    (
        "RW-26, date on 429",
        V1,
        429,
        &[DATE, ("Retry-After", "Tue, 14 Jul 2026 03:33:25 GMT")],
        Again {
            least: 5_000,
            most: 5_500,
        },
    ),
    (
        "RW-26, past",
        V1,
        503,
        &[DATE, ("Retry-After", "Tue, 14 Jul 2026 03:00:00 GMT")],
        BACKED_OFF,
    ),
    ("RW-26, invalid", V1, 503, &[("Retry-After", "soon")], BACKED_OFF),
    (
        "RW-26, seconds capped",
        V1,
        503,
        &[("Retry-After", "86400")],
        Again {
            least: 600_000,
            most: 660_000,
        },
    ),
    (
        "RW-26, date capped",
        V1,
        503,
        &[DATE, ("Retry-After", "Fri, 14 Aug 2026 03:33:20 GMT")],
        Again {
            least: 600_000,
            most: 660_000,
        },
    ),
    ("RW-28", V2, 400, &[(WRITTEN, "9")], Done { lost: 3 }),
    ("RW-29", V2, 204, &[(WRITTEN, "12")], TAKEN),
    (
        "RW-29, 2xx that says less",
        V2,
        204,
        &[(WRITTEN, "10")],
        Done { lost: 2 },
    ),
    ("RW-29, means nothing in 1.0", V1, 204, &[(WRITTEN, "3")], TAKEN),
    ("RW-30, not said to be 2.0", ANY, 204, &[], Other),
    ("RW-30, 415", ANY, 415, &[], Other),
    ("RW-30, 415 and no choice", V2, 415, &[], Held),
];

const RECEIVERS: &[Row] = &[
    ("Prometheus, 1.0: out of order, rolled back", V1, 400, &[], Smaller),
    (
        "Prometheus, 2.0: out of order, the rest is kept",
        V2,
        400,
        &[(WRITTEN, "11")],
        Done { lost: 1 },
    ),
    ("Prometheus, storage failure", V1, 500, &[], BACKED_OFF),
    ("Prometheus, message not among the accepted", ANY, 415, &[], Other),
    (
        "Mimir: the valid part is kept",
        V2,
        400,
        &[(WRITTEN, "6")],
        Done { lost: 6 },
    ),
    (
        "Mimir, overloaded",
        V1,
        503,
        &[("Retry-After", "6")],
        Again {
            least: 6_000,
            most: 6_600,
        },
    ),
    (
        "Mimir, sixth attempt",
        V1,
        503,
        &[("Retry-After", "96")],
        Again {
            least: 96_000,
            most: 105_600,
        },
    ),
    (
        "Grafana Cloud, rate limit",
        V1,
        429,
        &[("Retry-After", "10")],
        Again {
            least: 10_000,
            most: 11_000,
        },
    ),
    ("Cortex, rate limit", V1, 429, &[], BACKED_OFF),
    ("Thanos, out of order or conflict", V1, 409, &[], Smaller),
    ("Thanos, too large", V1, 413, &[], Smaller),
    ("Thanos, series limit", V1, 429, &[], BACKED_OFF),
    ("Thanos, no quorum", V1, 503, &[], BACKED_OFF),
    ("VictoriaMetrics, no 2.0", ANY, 415, &[], Other),
    ("vmauth, waited too long", V1, 408, &[], BACKED_OFF),
    ("vmauth, too many at once", V1, 429, &[], BACKED_OFF),
    ("OpenTelemetry Collector, no 1.0", V1, 415, &[], Held),
    ("Amazon AMP, rate or burst", V1, 429, &[], BACKED_OFF),
    ("Amazon AMP, signature or clock", V1, 403, &[], Held),
    ("Azure Monitor, role not active yet", V1, 403, &[], Held),
];

fn sender(message: MessageChoice) -> Sender {
    let config = SenderConfig {
        message,
        seed: 5,
        ..sending::remote(1, 1)
    };
    let identity = Identity::new(&[], Relabel::default());
    Sender::new(config, identity, FrameNo(0), FrameNo(0))
}

struct Play {
    sender: Sender,
    source: Two,
    now: Instant,
    held: bool,
}

impl Play {
    fn new(message: MessageChoice) -> Self {
        let mut catalogue = Catalogue::new(1, 1_000, 1);
        catalogue
            .set_target(TargetRef(0), r#"instance="box",job="node""#)
            .expect("fits");
        let text = SeriesText { name: "m", body: "" };
        catalogue.define(TargetRef(0), text, MetricType::Gauge).expect("fits");
        Self {
            sender: sender(message),
            source: Two { catalogue, position: 0 },
            now: Instant(0),
            held: false,
        }
    }

    fn wall(&self) -> Option<UnixMillis> {
        Some(UnixMillis(EPOCH_MS + self.now.0 as i64))
    }

    /// Lets time pass until there is a request; false: there is nothing to send.
    fn next_request(&mut self) -> bool {
        let metadata = Metadata::new(0, 0);
        for _ in 0..1_000 {
            let (now, wall) = (self.now, self.wall());
            match self
                .sender
                .poll(now, wall, &mut self.source, &metadata)
                .expect("it cannot fail")
            {
                Action::Send => return true,
                Action::Wait(at) if at == Instant(u64::MAX) => return false,
                Action::Wait(at) => self.now = self.now.max(at),
                Action::Hold(_, at) => {
                    self.held = true;
                    self.now = self.now.max(at);
                }
                action => unreachable!("{action:?}"),
            }
        }
        unreachable!("it neither sends nor waits");
    }
}

/// Plays a row on; what became of the samples.
fn fate(row: &Row) -> Fate {
    let (name, message, status, headers, _) = *row;
    let mut play = Play::new(message);
    assert!(play.next_request(), "{name}");
    let first = (play.sender.request().samples, play.sender.request().protocol);
    assert_eq!(first.0 as u64, SENT, "{name}");
    let mut head = Head::new(status);
    for (key, value) in headers {
        head.header(key, value.as_bytes());
    }
    let (answered_at, wall) = (play.now, play.wall());
    play.sender.on_response(answered_at, wall, &head);
    let lost = play.sender.counters().samples_lost();
    if play.sender.acknowledged() == FrameNo(2) {
        assert!(!play.next_request(), "{name}: what is done with is not sent again");
        return Done { lost };
    }
    assert_eq!(
        (lost, play.sender.acknowledged()),
        (0, FrameNo(0)),
        "{name}: all of it is kept"
    );
    assert!(play.next_request(), "{name}: what is kept is sent again");
    let (samples, protocol) = (play.sender.request().samples, play.sender.request().protocol);
    let waited = play.now.since(answered_at);
    if play.held {
        assert!(waited >= 10_000, "{name}: {waited}");
        return Held;
    }
    match () {
        () if protocol != first.1 => Other,
        () if samples < first.0 => Smaller,
        () => {
            assert_eq!(play.sender.request().retry_attempt, 1, "{name}, RW-37");
            Again {
                least: waited,
                most: waited,
            }
        }
    }
}

fn check(rows: &[Row]) {
    let mut wrong = Vec::new();
    for row in rows {
        let (came, expected) = (fate(row), row.4);
        let right = match (came, expected) {
            (Again { least: waited, .. }, Again { least, most }) => (least..=most).contains(&waited),
            _ => came == expected,
        };
        if !right {
            wrong.push(format!("{} ({}): {came:?}, expected {expected:?}", row.0, row.2));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_answer_the_rules_name_is_treated_as_they_say() {
    check(RULES);
}

#[test]
fn every_documented_answer_of_a_receiver_keeps_what_can_be_kept() {
    check(RECEIVERS);
}

/// Sends `status` to every request; how many there were.
fn refuse_all(status: u16) -> (Play, u64) {
    let mut play = Play::new(V1);
    let mut requests = 0;
    while play.next_request() {
        requests += 1;
        let (now, wall) = (play.now, play.wall());
        play.sender.on_response(now, wall, &Head::new(status));
        assert!(requests <= 20, "{status} is asked for ever");
    }
    (play, requests)
}

#[test]
fn what_is_refused_in_halves_is_lost_counted_and_blocks_nothing() {
    for status in [400, 409, 422] {
        let (play, requests) = refuse_all(status);
        assert_eq!((play.sender.acknowledged(), requests), (FrameNo(2), 3), "{status}");
        assert_eq!(play.sender.counters().samples_lost(), SENT, "{status}");
    }
}

#[test]
fn what_is_too_large_alone_is_lost_alone() {
    let (play, requests) = refuse_all(413);
    assert_eq!(play.sender.acknowledged(), FrameNo(2));
    assert_eq!(play.sender.counters().samples_lost(), SENT);
    assert!(requests > SENT, "{requests}: each sample had its chance");
}
