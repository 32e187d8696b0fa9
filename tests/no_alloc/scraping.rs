//! Bodies of targets become frames.

use super::*;
use tidegate::catalogue::Catalogue;
use tidegate::clock::{Instant, UnixMillis};
use tidegate::exposition::Histograms;
use tidegate::frame::FrameNo;
use tidegate::labels::Label;
use tidegate::metadata::Metadata;
use tidegate::sample::TargetRef;
use tidegate::scrape::{LabelBuilder, Outcome, Reports, Schedule, Session, Shared, Target};
use tidegate::series::SeriesTable;

struct Rig {
    target: Target,
    schedule: Schedule,
    session: Session,
    table: SeriesTable,
    catalogue: Catalogue,
    builder: LabelBuilder,
    reports: Reports,
    metadata: Metadata,
    frame: u64,
    content_type: &'static [u8],
}

impl Rig {
    fn new() -> Self {
        let label = |name, value| Label { name, value };
        let labels = [label("instance", "host:9100"), label("job", "node")];
        let target = Target::new(TargetRef(0), &labels).unwrap();
        let mut rig = Self {
            schedule: Schedule::new(MAX_TARGETS),
            session: Session::new(SIZE),
            table: SeriesTable::new(MAX_SERIES, 2 * MAX_SERIES, MAX_TARGETS, 1),
            catalogue: Catalogue::new(MAX_SERIES, TEXT_BYTES, MAX_TARGETS),
            builder: LabelBuilder::new(),
            reports: Reports::new(MAX_TARGETS),
            metadata: Metadata::new(4_096, 64),
            frame: 0,
            content_type: b"text/plain",
            target,
        };
        rig.schedule.set(rig.target.reference, 1_000, 7, Instant(0));
        rig.catalogue
            .set_target(rig.target.reference, rig.target.body())
            .unwrap();
        rig
    }

    /// One sample's whole way: due, scraped, settled. Returns whether the scrape succeeded, and its samples.
    fn round(&mut self, body: &[u8], outcome: Outcome<'_>) -> (bool, usize) {
        let mut shared = Shared {
            table: &mut self.table,
            catalogue: &mut self.catalogue,
            builder: &mut self.builder,
            reports: &mut self.reports,
            metadata: &mut self.metadata,
        };
        self.frame += 1;
        let now = Instant(self.frame * 1_500);
        self.schedule.clock(1_700_000_000_000, now);
        let due = self.schedule.due(now).expect("more than an interval has passed");
        let unix = UnixMillis(1_700_000_000_000 + now.0 as i64);
        self.session.begin(&self.target, due.time, Some(unix), &mut shared);
        self.session.content_type(Some(self.content_type), &self.target);
        for piece in body.chunks(1_400) {
            if self.session.feed(piece, &self.target, &mut shared).is_err() {
                break;
            }
        }
        let frame = self.session.finish(outcome, 20, &self.target, &mut shared);
        let result = (frame.up, frame.samples.len());
        self.session.settle(FrameNo(self.frame), &mut shared);
        self.schedule.done(self.target.reference, now + 20);
        self.catalogue.reclaim(FrameNo(self.frame));
        result
    }
}

#[test]
fn scrapes_do_not_allocate() {
    let mut rig = Rig::new();
    let bodies: Vec<_> = (0..30).map(|churn| body(1_000, churn)).collect();
    let flood = body(5_000, 99);
    let mut broken = body(1_000, 7);
    broken.extend(b"bad\n");
    let (calls, bytes, ()) = allocations(|| {
        // Definitions, then the steady state.
        assert_eq!(rig.round(&bodies[0], Outcome::Complete), (true, 1_000));
        assert_eq!(rig.round(&bodies[0], Outcome::Complete), (true, 980), "same timestamps");
        for body in &bodies {
            assert!(rig.round(body, Outcome::Complete).0);
        }
        assert!(!rig.round(&flood, Outcome::Complete).0);
        assert!(!rig.round(&broken, Outcome::Complete).0);
        assert!(!rig.round(&bodies[3], Outcome::Fetch(&"connection reset")).0);
        assert!(!rig.round(&[], Outcome::Status(500)).0);
        assert!(rig.round(&[], Outcome::Complete).0);
        assert!(rig.round(&bodies[4], Outcome::Complete).0);
    });
    assert_eq!((calls, bytes), (0, 0));
    assert!(rig.catalogue.len() >= 1_000 && rig.reports.counters.failed == 4);
}

#[test]
fn scrapes_of_protobuf_do_not_allocate() {
    let mut rig = Rig::new();
    rig.session = Session::new(PROTOBUF_SIZE);
    rig.table = SeriesTable::new(MAX_SERIES, 2 * MAX_SERIES, MAX_TARGETS, 1).with_exemplars();
    rig.content_type = PROTOBUF;
    rig.target.start_times = true;
    rig.target.histograms = Histograms {
        native: true,
        classic_too: true,
    };
    rig.target.convert_classic = true;
    rig.target.resolution.bucket_limit = 2;
    let bodies: Vec<_> = (0..10).map(protobuf_body).collect();
    let damaged = &bodies[1][..bodies[1].len() / 2];
    let (calls, bytes, ()) = allocations(|| {
        for body in &bodies {
            // 20 counters, 20 summaries of 4 series, a histogram of 22 and what it converts to, 19 native ones with 4 more each.
            assert_eq!(
                rig.round(body, Outcome::Complete),
                (true, 20 + 20 * 4 + 23 + 1 + 19 * (1 + 5))
            );
            assert!(!rig.session.frame().extras.is_empty());
        }
        assert!(!rig.round(damaged, Outcome::Complete).0);
        assert!(rig.round(&bodies[0], Outcome::Complete).0);
    });
    assert_eq!((calls, bytes), (0, 0));
    let counters = rig.reports.counters;
    assert!(
        counters.exemplars > 500 && counters.histograms_no_room == 0,
        "{counters:?}"
    );
    assert!(rig.metadata.find("size_bytes").is_some());
}

#[test]
fn announced_sizes_are_exact() {
    let sizes = [
        (MAX_SERIES, TEXT_BYTES, MAX_TARGETS),
        (1, 0, 1),
        (usize::MAX, 7, usize::MAX),
    ];
    for (series, text, targets) in sizes {
        let (_, bytes, catalogue) = allocations(|| Catalogue::new(series, text, targets));
        assert_eq!(bytes, Catalogue::ram_bytes(series, text, targets));
        assert!(catalogue.is_empty());
        let texts = series.min(10_000);
        let (_, bytes, table) = allocations(|| SeriesTable::new(series, texts, targets, 0));
        assert_eq!(bytes, SeriesTable::ram_bytes(series, texts, targets));
        assert_eq!(table.texts(), 0);
        assert_eq!(allocations(|| Reports::new(targets)).1, Reports::ram_bytes(targets));
        assert_eq!(allocations(|| Schedule::new(targets)).1, Schedule::ram_bytes(targets));
    }
    assert_eq!(allocations(|| Session::new(SIZE)).1, Session::ram_bytes(SIZE));
    let (_, bytes, _) = allocations(|| Session::new(PROTOBUF_SIZE));
    assert_eq!(bytes, Session::ram_bytes(PROTOBUF_SIZE));
    let (_, bytes, _) = allocations(|| Metadata::new(1_000, 30));
    assert_eq!(bytes, Metadata::ram_bytes(1_000, 30));
    let table = SeriesTable::new(MAX_SERIES, 0, 1, 0);
    let (_, bytes, table) = allocations(|| table.with_exemplars());
    assert_eq!(bytes, SeriesTable::exemplar_ram_bytes(MAX_SERIES));
    assert!(table.keeps_exemplars());
    assert_eq!(allocations(LabelBuilder::new).1, LabelBuilder::ram_bytes());
}
