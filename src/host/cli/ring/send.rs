//! `tidegate ring export --to URL`: the samples of any image to a receiver, by remote write.
//!
//! A box that is dead, or has lost its uplink for good, still delivers. Reads only: the ring's own acknowledgement does not
//! move, so a second run sends everything again. It blocks; it is the whole program.
//!
//! Begins with remote write 2.0 and starts over with 1.0 when the receiver answers the first request with 415, or takes it without
//! saying how much of it was written (as receivers do that know only 1.0). What is sent is what the agent would have sent without
//! external labels and `write_relabel_configs`, staleness markers included. Options of time choose whole scrapes.
//!
//! | answer | what follows |
//! |---|---|
//! | 2xx | the next request |
//! | 5xx, 429, 408, none | the same again after 1 s, doubling to 30 s, or after Retry-After; given up after [`ATTEMPTS`] in a row |
//! | 401, 403, 404, 407, redirects | given up at once |
//! | other 4xx | that request's samples are counted as refused, and the next is sent |
//!
//! When given up it says from which time on to go on, and exits with 1; also when samples were refused.
//!
//! Memory: a batch (about 1 MB) and what [`crate::wal::values`] takes.

use super::selection::Selection;
use crate::catalogue::{Catalogue, Names};
use crate::frame::{Frame, FrameNo, FrameSource, Next};
use crate::host::app::drainer::seen;
use crate::host::civil::Timestamp;
use crate::host::cli::args::RingExport;
use crate::host::dns::{Resolver, ResolverOptions};
use crate::host::http::{
    Authorization, Buffers, CaptureBody, Client, ClientConfig, Header, Method, Request, Secret, Url,
};
use crate::host::runtime::{now, run};
use crate::host::snappy::{Snappy, output_bytes};
use crate::host::tls::{CertClock, Pem, TlsClient, TlsContext, TlsSettings};
use crate::limits::{MAX_SERIES, MAX_TARGETS};
use crate::relabel::Relabel;
use crate::remote_write::Compressor as _;
use crate::remote_write::batch::{Batch, BatchLimits, Bounds, Layout, Place, Sends, Stop, UnknownTime};
use crate::remote_write::identity::Identity;
use crate::remote_write::response::{Head, Protocol};
use crate::wal::storage::Storage;
use crate::wal::values::{FrameReader, Read};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::time::Duration;
use smol::LocalExecutor;
use std::time::Instant;

/// Attempts of one request.
const ATTEMPTS: u32 = 8;
/// Wait after the first failure; doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A request without an answer for so long has failed.
const TIMEOUT_MS: u64 = 60_000;
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Bytes of a body per sample.
const BODY_BYTES_PER_SAMPLE: usize = 128;

/// Where to, and how.
struct Receiver {
    client: Client,
    buffers: Buffers,
    url: String,
}

impl Receiver {
    fn new(url: &str, options: &RingExport) -> Result<Self, String> {
        let (parsed, _) = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        let mut config = ClientConfig::new(parsed);
        config.headers = headers(options)?;
        config.authorization = match (&options.user, &options.password_file, &options.bearer_token_file) {
            (None, None, None) => Authorization::None,
            (Some(user), Some(file), None) => Authorization::Basic {
                user: Secret::inline(user),
                password: Some(Secret::File(file.into())),
            },
            (None, None, Some(file)) => Authorization::bearer(Secret::File(file.into())),
            _ => return Err("--user goes with --password-file; neither with --bearer-token-file".to_string()),
        };
        if url.starts_with("https://") {
            let settings = TlsSettings {
                ca: options.ca_file.as_ref().map(|file| Pem::File(file.into())),
                ..TlsSettings::default()
            };
            let tls = TlsClient::new(TlsContext::new(CertClock::new()), settings);
            tls.load().map_err(|error| match &options.ca_file {
                Some(file) => format!("--ca-file {file}: {error}"),
                None => error.to_string(),
            })?;
            config.tls = Some(Rc::new(tls));
        }
        let resolver = Rc::new(Resolver::new(ResolverOptions::default()));
        Ok(Self {
            client: Client::new(config, resolver).map_err(|error| error.to_string())?,
            buffers: Buffers::new(false),
            url: url.into(),
        })
    }

    /// One attempt: status and headers.
    fn post(&mut self, protocol: Protocol, body: &[u8]) -> Result<Head, String> {
        let headers = [
            ("content-encoding", "snappy"),
            ("content-type", protocol.content_type()),
            ("x-prometheus-remote-write-version", protocol.version()),
        ];
        let request = Request {
            method: Method::Post,
            headers: &headers,
            body,
            body_limit: 0,
            deadline: now() + TIMEOUT_MS,
            wall: None,
        };
        let mut answer = CaptureBody::<0>::new();
        let posted = self.client.request(&request, &mut self.buffers, &mut answer);
        let head = run(&LocalExecutor::new(), posted).map_err(|error| error.to_string())?;
        Ok(seen(&head))
    }
}

/// The program's name, and what the options say.
fn headers(options: &RingExport) -> Result<Vec<Header>, String> {
    let mut headers = vec![Header {
        name: "user-agent".into(),
        value: Secret::inline(concat!("tidegate/", env!("CARGO_PKG_VERSION"))),
        sensitive: false,
    }];
    for header in &options.header {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| format!("--header: found {header:?}, expected 'Name: value'"))?;
        headers.push(Header {
            name: name.trim().into(),
            value: Secret::inline(value.trim()),
            sensitive: true,
        });
    }
    Ok(headers)
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    requests: u64,
    samples: u64,
    refused: u64,
    timeless: u64,
    unreadable: u64,
}

impl Sent {
    /// Everything that was to be sent was taken.
    pub const fn is_whole(&self) -> bool {
        self.refused == 0
    }
}

impl core::fmt::Display for Sent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} samples sent in {} requests", self.samples, self.requests)?;
        for (count, what) in [
            (self.refused, "samples refused by the receiver"),
            (self.timeless, "samples of unknown time not sent"),
            (self.unreadable, "frames that cannot be read"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// Why it ended early.
enum Halt {
    /// The receiver does not speak 2.0.
    OnlyV1,
    Failed(String),
}

/// Sends everything selected.
///
/// # Errors
/// What went wrong, and from when on to go on.
pub fn send<S: Storage>(
    reader: &mut FrameReader<S>,
    selection: &Selection,
    url: &str,
    options: &RingExport,
) -> Result<Sent, String> {
    let mut receiver = Receiver::new(url, options)?;
    let limits = BatchLimits {
        samples: options.max_samples,
        body_bytes: options.max_samples.saturating_mul(BODY_BYTES_PER_SAMPLE),
        max_series: MAX_SERIES,
        max_targets: MAX_TARGETS,
        frame_samples: reader.frame_capacity().0,
        extras_bytes: reader.frame_capacity().1,
        sends: Sends {
            histograms: true,
            exemplars: true,
        },
        families: 0,
    };
    for protocol in [Protocol::V2, Protocol::V1] {
        let mut sending = Sending {
            receiver: &mut receiver,
            protocol,
            batch: Batch::new(limits, 0),
            frame: reader.frame_like(),
            identity: Identity::new(&[], Relabel::default()),
            snappy: Snappy::new(),
            packed: vec![0; output_bytes(limits.body_bytes)],
            generation: 0,
            halt: None,
            sent: Sent::default(),
            told: Instant::now(),
        };
        sending.batch.begin(Place::before(FrameNo(0)), protocol);
        let unreadable = super::export::each_selected(reader, selection, |read| sending.take(read, selection));
        if sending.halt.is_none()
            && let Err(halt) = sending.deliver()
        {
            sending.halt = Some(halt);
        }
        sending.sent.unreadable = unreadable;
        match sending.halt {
            None => return Ok(sending.sent),
            Some(Halt::OnlyV1) => std::eprintln!("{url}: no remote write 2.0, starting over with 1.0"),
            Some(Halt::Failed(error)) => return Err(format!("{}\n{}", sending.sent, error)),
        }
    }
    Err(format!("{url}: accepts neither remote write 2.0 nor 1.0 (415)"))
}

struct Sending<'a> {
    receiver: &'a mut Receiver,
    protocol: Protocol,
    batch: Batch,
    frame: Frame,
    identity: Identity,
    snappy: Snappy,
    packed: Vec<u8>,
    generation: u64,
    halt: Option<Halt>,
    sent: Sent,
    told: Instant,
}

/// One frame as a source.
struct One<'a> {
    from: &'a Frame,
    catalogue: &'a mut Catalogue,
    boundary: bool,
    given: bool,
}

impl FrameSource for One<'_> {
    type Error = Infallible;

    fn next(&mut self, frame: &mut Frame) -> Result<Next, Infallible> {
        if core::mem::take(&mut self.boundary) {
            return Ok(Next::Boundary);
        }
        if self.given {
            return Ok(Next::End);
        }
        self.given = true;
        // A frame as large as the reader's own takes it.
        match frame.copy_from(self.from) {
            Ok(()) => Ok(Next::Frame),
            Err(_) => Ok(Next::End),
        }
    }

    fn seek(&mut self, at: FrameNo) {
        self.given = at > self.from.number;
    }

    fn names(&mut self) -> Names<'_> {
        Names::Catalogue(self.catalogue)
    }
}

impl Sending<'_> {
    fn take(&mut self, read: &mut Read<'_>, selection: &Selection) {
        if self.halt.is_some() {
            return;
        }
        match read.frame.unix_ms {
            None => self.sent.timeless += read.frame.samples.len() as u64,
            Some(time) if selection.has_time(time) => self.halt = self.add(read).err(),
            Some(_) => {}
        }
    }

    fn add(&mut self, read: &mut Read<'_>) -> Result<(), Halt> {
        let boundary = core::mem::replace(&mut self.generation, read.generation) != read.generation;
        let mut source = One {
            from: read.frame,
            catalogue: read.catalogue,
            boundary,
            given: false,
        };
        let bounds = Bounds {
            samples: usize::MAX,
            frames: usize::MAX,
            end: None,
            oldest: None,
            unknown_time: UnknownTime::Skip,
            latest: None,
        };
        loop {
            let gathered = self
                .batch
                .gather(&mut source, &mut self.frame, &mut self.identity, &bounds);
            match gathered {
                Ok(Stop::End | Stop::TimeUnknown) => return Ok(()),
                Ok(Stop::Yield) => {}
                Ok(Stop::Full) => self.deliver()?,
            }
        }
    }

    /// Sends what was gathered, and begins anew behind it.
    fn deliver(&mut self) -> Result<(), Halt> {
        let samples = self.batch.samples() as u64;
        if samples > 0 {
            let oldest = self.batch.time_range().map_or(0, |(oldest, _)| oldest.0);
            self.batch.seal(Layout::Grouped);
            let len = match self.snappy.compress(self.batch.body(), &mut self.packed) {
                Ok(len) => len,
                Err(error) => return Err(Halt::Failed(format!("{error:?}"))),
            };
            if self.post(len, oldest)? {
                self.batch.finish();
                self.sent.samples += samples;
            } else {
                self.sent.refused += samples;
            }
            self.sent.requests += 1;
            if self.told.elapsed() >= PROGRESS {
                self.told = Instant::now();
                std::eprintln!("{}, up to {}", self.sent, Timestamp(oldest));
            }
        }
        self.batch.begin(self.batch.end(), self.protocol);
        Ok(())
    }

    /// Whether the receiver took it.
    fn post(&mut self, len: usize, oldest: i64) -> Result<bool, Halt> {
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let body = self.packed.get(..len).unwrap_or_default();
            let (asked, problem) = match self.receiver.post(self.protocol, body) {
                Ok(head) if (200..300).contains(&head.status) => {
                    let silent = self.protocol == Protocol::V2 && head.written().is_none();
                    return if silent && self.sent.samples == 0 {
                        Err(Halt::OnlyV1)
                    } else {
                        Ok(true)
                    };
                }
                Ok(head) => match head.status {
                    415 if self.protocol == Protocol::V2 && self.sent.samples == 0 => return Err(Halt::OnlyV1),
                    408 | 429 | 500.. => (head.retry_after_ms(None), format!("answered {}", head.status)),
                    300..=399 | 401 | 403 | 404 | 407 | 415 => {
                        return Err(self.failed(oldest, &format!("answered {}", head.status)));
                    }
                    status => {
                        std::eprintln!(
                            "{}: refused samples from {}: {status}",
                            self.receiver.url,
                            Timestamp(oldest)
                        );
                        return Ok(false);
                    }
                },
                Err(error) => (None, error),
            };
            if attempt == ATTEMPTS {
                return Err(self.failed(oldest, &problem));
            }
            let pause = asked.map_or(wait, |ms| Duration::from_millis(ms.min(TIMEOUT_MS)));
            std::eprintln!("{}: {problem}; again in {pause:?}", self.receiver.url);
            std::thread::sleep(pause);
            wait = (2 * wait).min(LONGEST_WAIT);
            attempt += 1;
        }
    }

    fn failed(&self, oldest: i64, problem: &str) -> Halt {
        let (seconds, ms) = (oldest.div_euclid(1_000), oldest.rem_euclid(1_000));
        Halt::Failed(format!(
            "{}: {problem}; to go on where it stopped: --from {seconds}.{ms:03}",
            self.receiver.url
        ))
    }
}
