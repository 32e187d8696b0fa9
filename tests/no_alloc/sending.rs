//! Frames become requests, and those are compressed.

#[path = "../common/sending.rs"]
mod remote;

use super::*;
use tidegate::catalogue::{Catalogue, Names, SeriesText};
use tidegate::clock::Instant;
use tidegate::frame::{Frame, FrameNo, FrameSource, Next};
use tidegate::relabel::Relabel;
use tidegate::remote_write::identity::Identity;
use tidegate::remote_write::response::Head;
use tidegate::remote_write::sender::{Action, Sender, SenderConfig};
use tidegate::sample::{MetricType, Number, Sample, SeriesRef, TargetRef};

pub const SENDER: SenderConfig = {
    let mut config = SenderConfig {
        max_samples_per_send: 2_000,
        backlog_samples_per_send: 5_000,
        ..remote::remote(MAX_SERIES, MAX_TARGETS)
    };
    config.limits.body_bytes = 512 * 1024;
    config
};

/// Frames of one target without end: every series in each, one of them vanishing now and then.
struct Frames {
    catalogue: Catalogue,
    at: u64,
    end: u64,
}

impl FrameSource for Frames {
    type Error = core::convert::Infallible;

    fn next(&mut self, frame: &mut Frame) -> Result<Next, Self::Error> {
        if self.at >= self.end {
            return Ok(Next::End);
        }
        frame.reset(TargetRef(0), self.at * 1_000);
        frame.number = FrameNo(self.at);
        frame.up = true;
        frame.unix_ms = Some(1_700_000_000_000 + self.at as i64 * 1_000);
        let gone = (self.at % 7) as u16;
        for series in 0..MAX_SERIES as u16 {
            if series == gone {
                frame.stale.push(SeriesRef(series)).unwrap();
            } else {
                let number = Number::decimal((self.at + u64::from(series)) as i64, 0);
                let series = SeriesRef(series);
                frame.samples.push(Sample { number, series }).unwrap();
            }
        }
        self.at += 1;
        Ok(Next::Frame)
    }

    fn seek(&mut self, at: FrameNo) {
        self.at = at.0;
    }

    fn names(&mut self) -> Names<'_> {
        Names::Catalogue(&mut self.catalogue)
    }
}

/// Digits of `samples` for a Written header.
fn digits(samples: usize) -> [u8; 5] {
    [10_000, 1_000, 100, 10, 1].map(|place| b'0' + (samples / place % 10) as u8)
}

/// Drains a backlog and what is scraped behind it; `answers` first, then it is all taken. Returns the bytes sent.
fn drain(config: SenderConfig, answers: &[u16]) -> (u64, Sender) {
    let mut catalogue = Catalogue::new(MAX_SERIES, TEXT_BYTES, MAX_TARGETS);
    catalogue
        .set_target(TargetRef(0), r#"instance="host:9100",job="node""#)
        .unwrap();
    for i in 0..MAX_SERIES {
        // Every second one tells when the counter before it began.
        let (suffix, kind) = [("total", MetricType::Counter), ("created", MetricType::Unknown)][i % 2];
        let (name, body) = (format!("metric_{}_{suffix}", i / 6), format!(r#"n="{}""#, i % 6 / 2));
        let text = SeriesText {
            name: &name,
            body: &body,
        };
        catalogue.define(TargetRef(0), text, kind).unwrap();
    }
    let metadata = tidegate::metadata::Metadata::new(0, 0);
    let mut frames = Frames {
        catalogue,
        at: 0,
        end: 40,
    };
    let mut sender = Sender::new(
        config,
        Identity::new(&[("site", "north")], Relabel::default()),
        FrameNo(0),
        FrameNo(3),
    );
    let mut sent = 0;
    let (calls, bytes, ()) = allocations(|| {
        let mut now = Instant(0);
        let mut answers = answers.iter();
        while sender.acknowledged() < FrameNo(60) {
            match sender.poll(now, None, &mut frames, &metadata).unwrap() {
                Action::Send => {
                    let request = sender.request();
                    sent += request.body.len() as u64;
                    let mut head = Head::new(answers.next().copied().unwrap_or(204));
                    if head.status == 204 {
                        let written = digits(request.samples);
                        head.header("X-Prometheus-Remote-Write-Samples-Written", &written);
                    }
                    sender.on_response(now, None, &head);
                }
                Action::Wait(at) | Action::Hold(_, at) if at < Instant(u64::MAX) => now = at,
                _ => {
                    // Caught up: live from here on.
                    frames.end += 1;
                    now = now + 1_000;
                }
            }
        }
    });
    assert_eq!((calls, bytes), (0, 0));
    (sent, sender)
}

#[test]
fn requests_do_not_allocate() {
    let (sent, sender) = drain(SENDER, &[415, 503, 400, 413, 204, 401]);
    assert!(sent > 100_000 && sender.counters().samples_accepted > 50_000, "{sent}");
}

#[test]
fn slices_do_not_allocate() {
    let mut config = SENDER;
    (config.max_samples_per_send, config.backlog_samples_per_send) = (400, 400);
    config.limits.samples = 1_600;
    // Behind what is in doubt, three batches of four slices, every verdict in the middle of a batch; the other message at last.
    let behind = [204, 400, 204, 204, 503, 413, 204, 401, 204, 415, 500];
    let mut answers = [204; 12 + 11];
    answers[12..].copy_from_slice(&behind);
    let (sent, sender) = drain(config, &answers);
    let counters = sender.counters();
    assert!(sent > 100_000 && counters.samples_accepted > 50_000, "{sent}");
    assert_eq!(
        (counters.fallbacks, counters.halved, counters.split, counters.holds),
        (1, 1, 1, 1)
    );
}

#[test]
fn a_sender_takes_what_it_announces() {
    for series in [1, 1_000, 20_000] {
        let mut config = SENDER;
        config.limits.max_series = series;
        config.limits.frame_samples = series;
        let identity = Identity::new(&[], Relabel::default());
        let labels = tidegate::limits::MAX_SERIES_TEXT_BYTES;
        let (_, bytes, sender) = allocations(|| Sender::new(config, identity, FrameNo(0), FrameNo(0)));
        assert_eq!(bytes + labels, Sender::ram_bytes(&config));
        assert_eq!(sender.acknowledged(), FrameNo(0));
    }
}

#[cfg(feature = "host")]
#[test]
fn compression_does_not_allocate() {
    use tidegate::remote_write::Compressor;
    let mut snappy = tidegate::host::snappy::Snappy::new();
    let input: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let mut out = vec![0; tidegate::host::snappy::output_bytes(input.len())];
    let (calls, ..) = allocations(|| {
        for len in [100, 3_000, 70_000, 200_000] {
            assert!(snappy.compress(&input[..len], &mut out).is_ok());
        }
    });
    assert_eq!(calls, 0);
}
