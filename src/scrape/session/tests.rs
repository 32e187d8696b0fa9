use super::*;
use crate::labels::{Label, Labels, TextBuf, join_series};
use crate::metadata::Metadata;
use crate::relabel::{Action, Relabel, Rule, RuleSpec};
use crate::scrape::report::Health;
use crate::scrape::target::Limits;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

mod carried;
mod churn;
mod convert;
mod failures;
mod known;
mod merging;
mod times;

const TEXT: Option<&[u8]> = Some(b"text/plain; version=0.0.4");
const OPEN_METRICS: Option<&[u8]> = Some(b"application/openmetrics-text; version=1.0.0");

/// A target `job="j"` without further labels.
fn target() -> Target {
    labelled(&[("job", "j")])
}

fn labelled(labels: &[(&str, &str)]) -> Target {
    let labels: Vec<_> = labels.iter().map(|&(name, value)| Label { name, value }).collect();
    Target::new(TargetRef(0), &labels).unwrap()
}

/// Rules as action, source labels, regular expression.
fn rules(list: &[(Action, &[&str], &str)]) -> Relabel {
    let rules = list.iter().map(|&(action, source_labels, regex)| {
        let spec = RuleSpec {
            action,
            source_labels,
            regex,
            ..RuleSpec::default()
        };
        Rule::new(&spec, crate::labels::NameScheme::Utf8, &|pattern| {
            panic!("{pattern} needs an engine")
        })
        .unwrap()
    });
    Relabel::new(rules.collect())
}

/// What a frame says, readable.
#[derive(Debug, Default, PartialEq)]
struct Shot {
    up: bool,
    /// Series with all labels, value, explicit timestamp.
    samples: Vec<(String, f64, Option<i64>)>,
    stale: Vec<String>,
    /// Scraped, post relabelling, added.
    counts: [u32; 3],
    error: String,
}

impl Shot {
    fn series(&self) -> Vec<&str> {
        self.samples.iter().map(|(series, ..)| series.as_str()).collect()
    }
}

struct Rig {
    session: Session,
    table: SeriesTable,
    catalogue: Catalogue,
    builder: LabelBuilder,
    reports: Reports,
    metadata: Metadata,
    frame: u64,
    now: Option<UnixMillis>,
}

impl Rig {
    fn new(max_series: usize) -> Self {
        Self {
            session: session(max_series),
            table: SeriesTable::new(max_series, 2 * max_series, 4, 1),
            catalogue: Catalogue::new(max_series, 200 * max_series, 4),
            builder: LabelBuilder::new(),
            reports: Reports::new(4),
            metadata: Metadata::new(4_096, 64),
            frame: 0,
            now: None,
        }
    }

    /// The session and what it works on.
    fn parts(&mut self) -> (&mut Session, Shared<'_>) {
        let shared = Shared {
            table: &mut self.table,
            catalogue: &mut self.catalogue,
            builder: &mut self.builder,
            reports: &mut self.reports,
            metadata: &mut self.metadata,
        };
        (&mut self.session, shared)
    }

    fn begin(&mut self, target: &Target, content_type: Option<&[u8]>) {
        self.catalogue.set_target(target.reference, target.body()).unwrap();
        let (time, now) = (Instant(1_000 * (self.frame + 1)), self.now);
        let (session, mut shared) = self.parts();
        session.begin(target, time, now, &mut shared);
        session.content_type(content_type, target);
    }

    fn feed(&mut self, target: &Target, bytes: &[u8]) -> Result<(), ScrapeError> {
        let (session, mut shared) = self.parts();
        session.feed(bytes, target, &mut shared)
    }

    fn finish(&mut self, target: &Target, outcome: Outcome<'_>) -> Shot {
        let (session, mut shared) = self.parts();
        let frame = session.finish(outcome, 123, target, &mut shared);
        assert_eq!((frame.target, frame.duration_100us), (target.reference, 123));
        let health = shared.reports.health(target.reference).unwrap();
        let shot = shot(frame, shared.catalogue, health);
        self.frame += 1;
        let last = FrameNo(self.frame);
        let (session, mut shared) = self.parts();
        session.settle(last, &mut shared);
        shot
    }

    fn scrape_as(&mut self, target: &Target, content_type: Option<&[u8]>, body: &str) -> Shot {
        self.begin(target, content_type);
        // The host stops reading when it is told so.
        let _ = self.feed(target, body.as_bytes());
        self.finish(target, Outcome::Complete)
    }

    fn scrape(&mut self, target: &Target, body: &str) -> Shot {
        self.scrape_as(target, TEXT, body)
    }
}

fn session(max_samples: usize) -> Session {
    Session::new(SessionSize {
        max_samples,
        line_bytes: 20_000,
        label_bytes: 0,
        extras_bytes: 0,
        converts: false,
    })
}

fn shot(frame: &Frame, catalogue: &mut Catalogue, health: &Health) -> Shot {
    let explicit: BTreeMap<_, _> = frame
        .explicit
        .iter()
        .map(|time| (time.position, time.unix_ms))
        .collect();
    assert_eq!(explicit.len(), frame.explicit.len());
    let mut stale: Vec<_> = frame.stale.iter().map(|&s| full_text(catalogue, s)).collect();
    stale.sort();
    let samples = frame.samples.iter().enumerate().map(|(position, sample)| {
        let value = f64::from_bits(sample.number.to_bits());
        let time = explicit.get(&(position as u16)).copied();
        (full_text(catalogue, sample.series), value, time)
    });
    assert_eq!(health.state == HealthState::Up, frame.up);
    assert_eq!(health.last_scrape, Some(Instant(frame.time_ms)));
    Shot {
        up: frame.up,
        samples: samples.collect(),
        stale,
        counts: [frame.counts.scraped, frame.counts.post_relabel, frame.counts.added],
        error: health.error().to_string(),
    }
}

/// The series as a receiver sees it: the entry's labels, the target's where the entry has none of the name, no empty ones.
fn full_text(catalogue: &mut Catalogue, s: SeriesRef) -> String {
    let target = catalogue.target_of(s).unwrap();
    let found = catalogue.definition(s, target).unwrap();
    let text = found.text;
    let mut labels = Labels::new(65_536);
    labels.load_body(text.body).unwrap();
    let mut own = Labels::new(65_536);
    own.load_body(found.target_body).unwrap();
    for label in own.iter() {
        if !labels.contains(label.name) {
            labels.set(label.name, label.value).unwrap();
        }
    }
    labels.remove_empty();
    let mut body = TextBuf::new(65_536);
    labels.write_body(&mut body).unwrap();
    let mut joined = TextBuf::new(65_536);
    let text = crate::catalogue::SeriesText {
        name: text.name,
        body: &body,
    };
    join_series(text, &mut joined).unwrap();
    joined.as_str().to_string()
}

#[test]
fn a_scrape_becomes_a_frame() {
    let mut rig = Rig::new(10);
    let shot = rig.scrape(&target(), "a 1\nb{x=\"1\"} 2.5\n");
    let samples = [("a{job=\"j\"}", 1.0, None), ("b{job=\"j\",x=\"1\"}", 2.5, None)];
    assert_eq!(
        shot,
        Shot {
            up: true,
            samples: samples.map(|(series, value, time)| (series.into(), value, time)).into(),
            counts: [2, 2, 2],
            ..Shot::default()
        }
    );
    assert_eq!(
        rig.catalogue.text(SeriesRef(1)).unwrap().body,
        "x=\"1\"",
        "the target's labels are not stored"
    );
    assert_eq!(rig.scrape(&target(), "a 1\nb{x=\"1\"} 2.5\n").counts, [2, 2, 0]);
    assert_eq!(rig.reports.counters.samples, 4);
    assert_eq!(rig.reports.counters.scrapes, 2);
}

#[test]
fn cutting_the_body_into_pieces_changes_nothing() {
    let body =
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1 1000\n\na{b=\"\\n\\\"\"} 2\n# HELP x y\na{b=\"\\n\\\"\"} 3\nz 4";
    let mut whole = Rig::new(10);
    let wanted = whole.scrape(&target(), body);
    assert_eq!(wanted.samples.len(), 3);
    for cut in 0..body.len() {
        let mut rig = Rig::new(10);
        rig.begin(&target(), TEXT);
        let (head, tail) = body.as_bytes().split_at(cut);
        rig.feed(&target(), head).unwrap();
        rig.feed(&target(), tail).unwrap();
        assert_eq!(rig.finish(&target(), Outcome::Complete), wanted, "cut at {cut}");
    }
}

#[test]
fn scr_211_and_215_the_response_chooses_the_parser() {
    let mut rig = Rig::new(10);
    assert!(rig.scrape_as(&target(), OPEN_METRICS, "a 1 1.5\n# EOF\n").up);
    assert_eq!(
        rig.scrape_as(&target(), OPEN_METRICS, "a 1\n").error,
        "line 2 column 1: data does not end with # EOF"
    );
    assert!(rig.scrape_as(&target(), Some(b"text/plain"), "a 1\n").up);
}

#[test]
fn scr_212_an_unknown_content_type_fails_without_fallback() {
    let mut rig = Rig::new(10);
    for header in [None, Some(&b"application/json"[..]), Some(b"text/plain;;")] {
        let shot = rig.scrape_as(&target(), header, "a 1\n");
        assert!(!shot.up && !shot.error.is_empty(), "{shot:?}");
        assert_eq!(shot.counts, [0; 3]);
        let mut target = target();
        target.fallback = Some(Format::Text);
        assert!(rig.scrape_as(&target, header, "a 1\n").up);
    }
}

#[test]
fn scr_213_an_empty_body_succeeds_whatever_its_type_and_marks_everything() {
    let mut rig = Rig::new(10);
    rig.scrape(&target(), "a 1\nb 2\n");
    let shot = rig.scrape_as(&target(), Some(b"application/json"), "");
    assert!(shot.up && shot.samples.is_empty(), "{shot:?}");
    assert_eq!(shot.stale, ["a{job=\"j\"}", "b{job=\"j\"}"]);
    assert_eq!(shot.counts, [0; 3]);
    assert_eq!(rig.scrape(&target(), "a 1\n").counts, [1, 1, 0], "a was not forgotten");
}

#[test]
fn scr_214_comments_alone_are_a_success() {
    let mut rig = Rig::new(10);
    rig.scrape(&target(), "a 1\n");
    let shot = rig.scrape(&target(), "# nothing\n\n");
    assert!(shot.up);
    assert_eq!(
        (shot.counts, shot.stale),
        ([0; 3], Vec::from(["a{job=\"j\"}".to_string()]))
    );
}

#[test]
fn scr_509_a_target_cannot_counterfeit_the_series_of_the_scrape_itself() {
    let mut rig = Rig::new(10);
    for _ in 0..2 {
        let shot = rig.scrape(&target(), "up 1\nup{x=\"1\"} 1\nscrape_series_added 7\nb 1\n");
        assert_eq!(shot.series(), ["up{job=\"j\",x=\"1\"}", "b{job=\"j\"}"]);
        assert_eq!(shot.counts[..2], [4, 4]);
    }
    assert_eq!(rig.reports.counters.synthetic_name, 4);
    let mut honest = target();
    honest.honor_labels = true;
    let shot = rig.scrape(&honest, "up{job=\"other\"} 1\n");
    assert_eq!(shot.series(), ["up{job=\"other\"}"]);
}

#[test]
fn scr_821_the_first_of_several_equal_lines_counts() {
    let mut rig = Rig::new(10);
    let shot = rig.scrape(&target(), "a 1\na 2\na 3\n");
    assert_eq!(shot.samples, [("a{job=\"j\"}".into(), 1.0, None)]);
    assert_eq!((shot.up, shot.counts), (true, [3, 3, 1]));
    assert_eq!(rig.reports.counters.duplicate, 2);
}

#[test]
fn scr_823_other_spellings_of_a_series_are_duplicates_too() {
    let mut rig = Rig::new(10);
    for _ in 0..2 {
        let shot = rig.scrape(
            &target(),
            "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\na{x=\"1\",y=\"2\",z=\"\"} 3\n",
        );
        assert_eq!(shot.samples.len(), 1);
        assert_eq!(shot.counts[..2], [3, 3]);
    }
    assert_eq!(rig.reports.counters.duplicate, 4);
    assert_eq!(rig.catalogue.len(), 1);
    assert_eq!(rig.scrape(&target(), "a{y=\"2\",x=\"1\"} 2\n").stale, [""; 0]);
}

#[test]
fn the_type_of_a_series_is_that_of_its_family() {
    let body =
        "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_other 1\n# TYPE c_total counter\nc_total 1\nd 1\n";
    let mut rig = Rig::new(10);
    rig.scrape(&target(), body);
    let kinds: Vec<_> = (0..5).map(|i| rig.catalogue.kind(SeriesRef(i))).collect();
    use MetricType::{Counter, Histogram, Unknown};
    use work::kind_in_family;
    assert_eq!(kinds, [Histogram, Histogram, Unknown, Counter, Unknown]);
    assert_eq!(kind_in_family("c_total", "c", Counter), Counter);
    assert_eq!(kind_in_family("x", "", MetricType::Gauge), Unknown);
    assert_eq!(kind_in_family("i_info", "i", MetricType::Info), MetricType::Info);
}
