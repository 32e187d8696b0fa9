//! A whole agent of one target and one remote, from the scrape to the acknowledgement.

#[path = "../common/ring_config.rs"]
mod ring_config;

use super::*;
use memory::Memory;
use sending::SENDER;
use tidegate::agent::{Agent, Parts, Stored};
use tidegate::catalogue::Catalogue;
use tidegate::clock::{Instant, UnixMillis};
use tidegate::exposition::Histograms;
use tidegate::frame::FrameNo;
use tidegate::labels::Label;
use tidegate::metadata::Metadata;
use tidegate::relabel::Relabel;
use tidegate::remote_write::batch::Sends;
use tidegate::remote_write::identity::Identity;
use tidegate::remote_write::response::{Head, Protocol};
use tidegate::remote_write::sender::{Action, ErrorKind, MessageChoice, Sender, SenderConfig};
use tidegate::sample::TargetRef;
use tidegate::scrape::{LabelBuilder, Outcome, Reports, Schedule, Session, Target};
use tidegate::series::SeriesTable;
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::storage::Storage;
use tidegate::wal::{Boot, ClockSource, CommitStep, Reason, Ring, RingConfig, format};

const GEOMETRY: Geometry = Geometry {
    block_bytes: 4_096,
    blocks_per_slot: 64,
    slots: 4,
    medium: Medium::Rewritable,
};

/// A whole agent of one target and one remote, with a session.
struct Whole {
    agent: Agent<Memory>,
    session: Session,
    content_type: &'static [u8],
    now: Instant,
    wake: Instant,
    commits: usize,
}

impl Whole {
    /// Values only.
    fn new() -> Self {
        Self::with(SIZE, SENDER, b"text/plain")
    }

    /// Protobuf with all that samples may carry, and a remote that wants all of it.
    fn carrying(protocol: Protocol) -> Self {
        let mut sender = SENDER;
        sender.message = MessageChoice::Fixed(protocol);
        sender.limits.extras_bytes = PROTOBUF_SIZE.extras_bytes;
        sender.limits.sends = Sends {
            histograms: true,
            exemplars: true,
        };
        sender.limits.families = 30;
        sender.metadata.send = true;
        Self::with(PROTOBUF_SIZE, sender, PROTOBUF)
    }

    fn with(size: SessionSize, sender: SenderConfig, content_type: &'static [u8]) -> Self {
        let mut memory = Memory::new(GEOMETRY);
        format(&mut memory, [7; 16], 1, "no alloc").unwrap();
        let wall = Some((UnixMillis(1_700_000_000_000), ClockSource::Synchronised));
        let boot = Boot {
            id: [1; 16],
            now: Instant(0),
            wall,
            error_ms: 5,
        };
        let mut catalogue = Catalogue::new(MAX_SERIES, TEXT_BYTES, MAX_TARGETS);
        let (ring, _) = Ring::mount(memory, config_of(size.extras_bytes), boot, &mut catalogue).unwrap();
        let label = |name, value| Label { name, value };
        let labels = [label("instance", "host:9100"), label("job", "node")];
        let mut target = Target::new(TargetRef(0), &labels).unwrap();
        target.interval_ms = 15_000;
        target.start_times = size.extras_bytes > 0;
        target.histograms = Histograms {
            native: size.extras_bytes > 0,
            classic_too: true,
        };
        let mut table = SeriesTable::new(MAX_SERIES, 2 * MAX_SERIES, MAX_TARGETS, 1);
        if size.extras_bytes > 0 {
            table = table.with_exemplars();
        }
        catalogue.set_target(target.reference, target.body()).unwrap();
        let identity = Identity::new(&[("site", "north")], Relabel::default());
        let parts = Parts {
            targets: [target].into(),
            phase_keys: [7].into(),
            schedule: Schedule::new(MAX_TARGETS),
            table,
            catalogue,
            builder: LabelBuilder::new(),
            reports: Reports::new(MAX_TARGETS),
            metadata: Metadata::new(4_096, 64),
            ring,
            senders: vec![Sender::new(sender, identity, FrameNo(0), FrameNo(0))],
        };
        Self {
            agent: Agent::new(parts, Instant(0)),
            session: Session::new(size),
            content_type,
            now: Instant(0),
            wake: Instant(0),
            commits: 0,
        }
    }

    /// Scrapes once; then everything that is due before the next scrape, with an uplink that answers `status` or, if that
    /// is `None`, is down.
    fn round(&mut self, body: &[u8], status: Option<u16>) {
        let due = self.agent.next_scrape().expect("one target waits");
        self.now = self.now.max(due);
        let due = self.agent.due(self.now).expect("its time has come");
        self.agent.begin(&mut self.session, due);
        self.agent.content_type(&mut self.session, Some(self.content_type));
        for piece in body.chunks(1_400) {
            let _ = self.agent.feed(&mut self.session, piece);
        }
        let stored = self.agent.finish(&mut self.session, Outcome::Complete, 20, self.now);
        assert!(matches!(stored, Some(Stored::As(_))), "{stored:?}");
        let end = self.agent.next_scrape().expect("one target waits");
        self.wake = self.now;
        while self.now < end {
            self.commit();
            while self.wake <= self.now {
                self.drain(status);
            }
            self.now = (self.now + 500).min(end);
        }
    }

    fn commit(&mut self) {
        let Some((_, what)) = self.agent.next_commit(self.now).filter(|&(at, _)| at <= self.now) else {
            return;
        };
        self.commits += 1;
        while self.agent.commit_step(what).unwrap() == CommitStep::NeedSync {
            let result = self.agent.ring_mut().storage_mut().sync();
            self.agent.synced(result);
        }
    }

    fn drain(&mut self, status: Option<u16>) {
        match self.agent.poll_remote(0, self.now).unwrap() {
            Action::Send => {
                assert!(!self.agent.request(0).expect("one remote").body.is_empty());
                match status {
                    None => self.agent.on_error(0, self.now, ErrorKind::Timeout),
                    Some(status) => {
                        let mut head = Head::new(status);
                        for name in WRITTEN {
                            head.header(name, b"1000000");
                        }
                        self.agent.on_response(0, self.now, &head);
                    }
                }
            }
            Action::Wait(at) | Action::Hold(_, at) => self.wake = at,
            Action::InFlight | Action::Done => unreachable!("every request is answered at once, none is flushed"),
        }
    }

    fn caught_up(&self) -> bool {
        self.agent.ring().acknowledged(0) == self.agent.ring().next_frame()
    }
}

/// A receiver of 2.0 says that it wrote everything.
const WRITTEN: [&str; 3] = [
    "X-Prometheus-Remote-Write-Samples-Written",
    "X-Prometheus-Remote-Write-Histograms-Written",
    "X-Prometheus-Remote-Write-Exemplars-Written",
];

fn config_of(extras_bytes: usize) -> RingConfig {
    RingConfig {
        extras_bytes,
        #[cfg(feature = "host")]
        compress: Some(Box::new(tidegate::host::snappy::Dictionaries::new())),
        ..ring_config::plain(&GEOMETRY, MAX_SERIES, TEXT_BYTES)
    }
}

#[test]
fn the_whole_way_from_scrape_to_acknowledgement_does_not_allocate() {
    let mut whole = Whole::new();
    let bodies: Vec<_> = (0..40).map(|churn| body(1_000, churn)).collect();
    let steady = |whole: &mut Whole, rounds: usize, status| {
        for _ in 0..rounds {
            whole.round(&bodies[0], status);
        }
    };
    let (calls, bytes, ()) = allocations(|| {
        // Live: staging only.
        steady(&mut whole, 10, Some(204));
        assert!(whole.caught_up() && whole.commits == 0);
        // New series in every scrape.
        for body in &bodies[..10] {
            whole.round(body, Some(204));
        }
        assert!(whole.caught_up() && whole.commits == 0);
        // An outage: commits, segments, definitions.
        for body in &bodies {
            whole.round(body, None);
        }
        assert!(!whole.caught_up() && whole.commits > 5);
        // Answers of all kinds, then the backlog from flash.
        for status in [503, 429, 401, 413] {
            steady(&mut whole, 1, Some(status));
        }
        steady(&mut whole, 30, Some(204));
        assert!(whole.caught_up());
        // So long an outage that the ring laps, and what is left of it.
        let mut rounds = 0;
        while whole.agent.ring().counters().loss(Reason::Lapped).frames == 0 {
            whole.round(&bodies[rounds % 40], None);
            rounds += 1;
        }
        steady(&mut whole, 60, Some(204));
        assert!(whole.caught_up());
        whole.agent.close().unwrap();
    });
    assert_eq!((calls, bytes), (0, 0));
    let counters = whole.agent.senders()[0].counters();
    assert!(
        counters.samples_accepted > 100_000 && counters.samples_failed == 0,
        "{counters:?}"
    );
}

#[test]
fn what_samples_carry_goes_the_whole_way_without_an_allocation() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let mut whole = Whole::carrying(protocol);
        // Exemplars that were there before are not taken again.
        let bodies: Vec<_> = (0..123).map(protobuf_body).collect();
        let (calls, bytes, ()) = allocations(|| {
            for body in &bodies[..41] {
                whole.round(body, Some(204));
            }
            assert!(whole.caught_up() && whole.commits == 0);
            for body in &bodies[41..81] {
                whole.round(body, None);
            }
            assert!(whole.commits > 5);
            whole.round(&bodies[81], Some(503));
            whole.round(&bodies[82], Some(413));
            for body in &bodies[83..] {
                whole.round(body, Some(204));
            }
            assert!(whole.caught_up());
            whole.agent.close().unwrap();
        });
        assert_eq!((calls, bytes), (0, 0));
        let counters = whole.agent.senders()[0].counters();
        let (histograms, exemplars) = (counters.histograms.sent, counters.exemplars.sent);
        assert!(histograms > 19 * 120, "{counters:?}");
        assert!(exemplars > 59 * 120, "{counters:?}");
        assert_eq!(counters.metadata.sent > 0, protocol == Protocol::V1, "{counters:?}");
        assert_eq!(counters.samples_lost(), 0, "{counters:?}");
        assert_eq!(whole.agent.ring().counters().frames_without_extras, 0);
    }
}
