//! Staleness markers, every case of the rules SCR-801 to SCR-811, through the whole core: scrape, ring, request.
//!
//! Each case is a script of steps with the markers that each step must bring. It runs twice: with an uplink that takes
//! everything at once, and in an outage that lasts until the end and a restart, so that every marker has been on the medium.

#[path = "common/protobuf.rs"]
#[allow(dead_code, reason = "one of two versions is read here")]
mod protobuf;
#[path = "common/ring_config.rs"]
mod ring_config;
#[path = "common/sending.rs"]
mod sending;

use protobuf::Sample;
use tidegate::agent::{Agent, Parts};
use tidegate::catalogue::Catalogue;
use tidegate::clock::{Instant, UnixMillis};
use tidegate::labels::{Label, NameScheme};
use tidegate::metadata::Metadata;
use tidegate::relabel::{Action as RuleAction, Relabel, Rule, RuleSpec};
use tidegate::remote_write::identity::Identity;
use tidegate::remote_write::response::{Head, Protocol};
use tidegate::remote_write::sender::{Action, MessageChoice, Sender, SenderConfig};
use tidegate::sample::TargetRef;
use tidegate::scrape::{LabelBuilder, Outcome, Reports, Schedule, Session, SessionSize, Target};
use tidegate::series::SeriesTable;
use tidegate::wal::format::{Geometry, Medium};
use tidegate::wal::testing::Ram;
use tidegate::wal::{Boot, ClockSource, Ring, format};

/// Bits of a staleness marker (SCR-801).
const MARKER: u64 = 0x7ff0_0000_0000_0002;
const EPOCH_MS: i64 = 1_700_000_000_000;
const INTERVAL_MS: u64 = 10_000;
const MAX_SERIES: usize = 60;
const MAX_TARGETS: usize = 4;
const GEOMETRY: Geometry = Geometry {
    block_bytes: 1024,
    blocks_per_slot: 32,
    slots: 16,
    medium: Medium::Rewritable,
};
const SYNTHETIC: [&str; 5] = [
    "scrape_duration_seconds",
    "scrape_samples_post_metric_relabeling",
    "scrape_samples_scraped",
    "scrape_series_added",
    "up",
];

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The next scrape of target `x` is answered with this.
    Body(&'static str),
    /// The next scrape of target `x` fails.
    Fails,
    /// The next scrape of target `x` gets an empty answer.
    Empty,
    /// A reload leaves these targets, `x` as it was; nobody is scraped.
    Targets(&'static [&'static str]),
    /// A reload: `x` has a rule that drops this metric.
    Drops(&'static str),
    /// A reload: `x` has another interval and URL, but the same labels.
    Moves,
    /// Somebody's slot comes: `x` if it is there, else the one that leaves.
    Slot,
    /// The process ends in good order and starts again.
    Restart,
    /// The process is killed and starts again, nothing committed.
    Kill,
}

use Step::*;

struct Case {
    name: &'static str,
    /// Series with timestamps are tracked.
    track: bool,
    steps: &'static [(Step, &'static [&'static str])],
}

const CASES: &[Case] = &[
    Case {
        name: "SCR-802: vanished, and back",
        track: false,
        steps: &[
            (Body("a 1\nb 2\n"), &[]),
            (Body("a 1\n"), &["b"]),
            (Body("a 1\n"), &[]),
            (Body("a 1\nb 2\n"), &[]),
            (Body("b 2\n"), &["a"]),
        ],
    },
    Case {
        name: "SCR-803: a failure marks all, once",
        track: false,
        steps: &[
            (Body("a 1\nb 2\n"), &[]),
            (Fails, &["a", "b"]),
            (Fails, &[]),
            (Body("a 1\n"), &[]),
            (Fails, &["a"]),
        ],
    },
    Case {
        name: "SCR-803: every other failure too",
        track: false,
        steps: &[
            (Body("a 1\n"), &[]),
            (Body("a 1\nb\n"), &["a"]),
            (Body("a 1\n"), &[]),
            (Body("a{x=\"1\",x=\"2\"} 1\n"), &["a"]),
            (Body("c 1\n"), &[]),
            (Empty, &["c"]),
        ],
    },
    Case {
        name: "SCR-804: own timestamps are not tracked",
        track: false,
        steps: &[
            (Body("a 1 1700000000000\nb 1\n"), &[]),
            (Body("b 1\n"), &[]),
            (Fails, &["b"]),
        ],
    },
    Case {
        name: "SCR-804: unless asked for",
        track: true,
        steps: &[
            (Body("a 1 1700000000000\nb 1\n"), &[]),
            (Body("b 1\n"), &["a"]),
            (Fails, &["b"]),
        ],
    },
    Case {
        name: "SCR-805: from no timestamp to one",
        track: false,
        steps: &[
            (Body("a 1\n"), &[]),
            (Body("a 1 1700000001000\n"), &["a"]),
            (Body("a 1 1700000002000\n"), &[]),
            (Body("a 1 1700000020000\n"), &[]),
            (Fails, &[]),
        ],
    },
    Case {
        name: "SCR-806: a removed target, its own series included, at its next slot",
        track: false,
        steps: &[
            (Body("a 1\nb 2\n"), &[]),
            (Targets(&[]), &[]),
            (
                Slot,
                &[
                    "a",
                    "b",
                    SYNTHETIC[0],
                    SYNTHETIC[1],
                    SYNTHETIC[2],
                    SYNTHETIC[3],
                    SYNTHETIC[4],
                ],
            ),
            (Targets(&["x"]), &[]),
            (Body("a 1\n"), &[]),
            (Body("b 1\n"), &["a"]),
        ],
    },
    Case {
        name: "SCR-806: a removed target that was down has only its own series left",
        track: false,
        steps: &[
            (Body("a 1\n"), &[]),
            (Fails, &["a"]),
            (Targets(&[]), &[]),
            (Slot, &SYNTHETIC),
        ],
    },
    Case {
        name: "SCR-806: one that was never scraped says nothing",
        track: false,
        steps: &[
            (Targets(&["y"]), &[]),
            (Targets(&["x", "y"]), &[]),
            (Body("a 1\n"), &[]),
        ],
    },
    Case {
        name: "SCR-806: back before its slot, as if nothing had been",
        track: false,
        steps: &[
            (Body("a 1\nb 2\n"), &[]),
            (Targets(&[]), &[]),
            (Targets(&["x"]), &[]),
            (Body("a 1\n"), &["b"]),
        ],
    },
    Case {
        name: "SCR-806: the place of a removed target is taken by another",
        track: false,
        steps: &[
            (Body("a 1\n"), &[]),
            (
                Targets(&["p", "q", "r", "s"]),
                &[
                    "a",
                    SYNTHETIC[0],
                    SYNTHETIC[1],
                    SYNTHETIC[2],
                    SYNTHETIC[3],
                    SYNTHETIC[4],
                ],
            ),
        ],
    },
    Case {
        name: "SCR-807: other rules mark what they no longer yield, and only that",
        track: false,
        steps: &[
            (Body("a 1\nb 2\n"), &[]),
            (Drops("b"), &[]),
            (Body("a 1\nb 2\n"), &["b"]),
            (Body("a 1\nb 2\n"), &[]),
            (Drops("a"), &[]),
            (Fails, &["a"]),
            (Body("a 1\nb 2\n"), &[]),
        ],
    },
    Case {
        name: "SCR-807, SCR-953: a job that changes otherwise keeps what it knows",
        track: false,
        steps: &[
            (Body("a 1\nb 2\n"), &[]),
            (Moves, &[]),
            (Body("a 1\nb 2\n"), &[]),
            (Moves, &[]),
            (Body("b 2\n"), &["a"]),
        ],
    },
    Case {
        name: "SCR-808, SCR-810: a stop marks nothing, nor does what vanished meanwhile",
        track: false,
        steps: &[
            (Body("a 1\nb 2\n"), &[]),
            (Restart, &[]),
            (Body("a 1\n"), &[]),
            (Body("c 1\n"), &["a"]),
            (Kill, &[]),
            (Body("d 1\n"), &[]),
        ],
    },
    Case {
        name: "SCR-808: a target that leaves while the process stops is not marked",
        track: false,
        steps: &[(Body("a 1\n"), &[]), (Targets(&[]), &[]), (Restart, &[]), (Slot, &[])],
    },
    Case {
        name: "SCR-809: a refused sample keeps its series tracked",
        track: true,
        steps: &[
            (Body("a 1 1700000001000\n"), &[]),
            (Body("a 1 1700000000500\n"), &[]),
            (Body("b 1\n"), &["a"]),
        ],
    },
    Case {
        name: "SCR-811: NaN is not a marker",
        track: false,
        steps: &[
            (Body("a NaN\n"), &[]),
            (Body("a nan\nb +Inf\n"), &[]),
            (Body("a 1\n"), &["b"]),
        ],
    },
];

struct Rig {
    agent: Option<Agent<Ram>>,
    session: Session,
    now: u64,
    boot: u8,
    track: bool,
    /// Labels of the targets that are configured, in their order.
    targets: Vec<&'static str>,
    drops: Option<&'static str>,
    moved: u32,
    uplink: bool,
    arrived: Vec<Sample>,
}

const SIZE: SessionSize = SessionSize {
    max_samples: MAX_SERIES,
    line_bytes: 1_000,
    label_bytes: 0,
    extras_bytes: 0,
    converts: false,
};

impl Rig {
    fn new(track: bool, uplink: bool) -> Self {
        let mut ram = Ram::new(GEOMETRY, 3);
        format(&mut ram, [7; 16], 1, "staleness").expect("formatted");
        let mut rig = Self {
            agent: None,
            session: Session::new(SIZE),
            now: 0,
            boot: 0,
            track,
            targets: vec!["x"],
            drops: None,
            moved: 0,
            uplink,
            arrived: Vec::new(),
        };
        rig.start(ram);
        rig
    }

    fn target(&self, instance: &str) -> Target {
        let label = |name, value| Label { name, value };
        let labels = [label("instance", instance), label("job", "j")];
        let mut target = Target::new(TargetRef(0), &labels).expect("small");
        target.interval_ms = INTERVAL_MS as u32 + 10 * self.moved;
        target.track_timestamps_staleness = self.track;
        if let Some(metric) = self.drops {
            let spec = RuleSpec {
                action: RuleAction::Drop,
                source_labels: &["__name__"],
                regex: metric,
                ..RuleSpec::default()
            };
            let rule = Rule::new(&spec, NameScheme::Utf8, &|pattern| panic!("{pattern} needs an engine"));
            target.metric_relabel = Relabel::new([rule.expect("valid")].into());
            target.meaning = u32::from(metric.as_bytes()[0]);
        }
        target
    }

    fn wanted(&self) -> Vec<(Target, u64)> {
        let key = |instance: &str| u64::from(instance.as_bytes()[0]) * 31 + u64::from(self.moved);
        self.targets
            .iter()
            .map(|instance| (self.target(instance), key(instance)))
            .collect()
    }

    fn start(&mut self, ram: Ram) {
        self.boot += 1;
        let wall = Some((UnixMillis(EPOCH_MS + self.now as i64), ClockSource::Synchronised));
        let boot = Boot {
            id: [self.boot; 16],
            now: Instant(self.now),
            wall,
            error_ms: 5,
        };
        let mut catalogue = Catalogue::new(MAX_SERIES, 4_000, MAX_TARGETS);
        let (ring, _) = Ring::mount(
            ram,
            ring_config::plain(&GEOMETRY, MAX_SERIES, 4_000),
            boot,
            &mut catalogue,
        )
        .expect("mounts");
        let identity = Identity::new(&[], Relabel::default());
        let senders = vec![Sender::new(SENDER, identity, ring.acknowledged(0), ring.replay_until())];
        let (targets, phase_keys): (Vec<_>, Vec<_>) = self.wanted().into_iter().unzip();
        let targets = targets.into_iter().enumerate().map(|(place, mut target)| {
            target.reference = TargetRef(place as u8);
            catalogue.set_target(target.reference, target.body()).expect("fits");
            target
        });
        let parts = Parts {
            targets: targets.collect(),
            phase_keys: phase_keys.into(),
            schedule: Schedule::new(MAX_TARGETS),
            table: SeriesTable::new(MAX_SERIES, 2 * MAX_SERIES, MAX_TARGETS, 1),
            catalogue,
            builder: LabelBuilder::new(),
            reports: Reports::new(MAX_TARGETS),
            metadata: Metadata::new(2_000, 20),
            ring,
            senders,
        };
        self.agent = Some(Agent::new(parts, Instant(self.now)));
    }

    fn agent(&mut self) -> &mut Agent<Ram> {
        self.agent.as_mut().expect("running")
    }

    fn restart(&mut self, in_good_order: bool) {
        let mut agent = self.agent.take().expect("running");
        if in_good_order {
            agent.close().expect("committed");
        }
        self.now += 1_000;
        let ram = agent.into_ring().into_storage();
        self.start(ram);
    }

    fn retarget(&mut self) {
        let (wanted, now) = (self.wanted(), Instant(self.now));
        let references = self.agent().retarget(wanted, now).expect("the medium works");
        assert_eq!(references.len(), self.targets.len());
    }

    /// Goes to the next slot of anybody; target `x` gets the answer, others an empty one.
    fn slot(&mut self, answer: Option<Step>) -> bool {
        let Some(at) = self.agent().next_scrape() else {
            return false;
        };
        self.now = self.now.max(at.0);
        let now = Instant(self.now);
        let mut session = core::mem::replace(&mut self.session, Session::new(SIZE));
        let agent = self.agent();
        let due = agent.due(now).expect("its time has come");
        let is_x = agent
            .target(due.target)
            .is_some_and(|target| target.body().contains("\"x\""));
        let leaving = agent.is_leaving(due.target);
        agent.begin(&mut session, due);
        agent.content_type(&mut session, Some(b"text/plain"));
        let reset: &dyn core::fmt::Display = &"connection reset";
        let outcome = match answer {
            _ if leaving => Outcome::Removed,
            Some(Body(body)) if is_x => {
                // What is refused fails the scrape, which is the point of some cases.
                let _ = agent.feed(&mut session, body.as_bytes());
                Outcome::Complete
            }
            Some(Fails) if is_x => Outcome::Fetch(reset),
            _ => Outcome::Complete,
        };
        agent.finish(&mut session, outcome, 20, now).expect("a target");
        self.session = session;
        is_x || leaving
    }

    fn run(&mut self, step: Step) {
        match step {
            Body(_) | Fails | Empty | Slot => while !self.slot(Some(step)) && self.agent().next_scrape().is_some() {},
            Targets(targets) => {
                self.targets = targets.to_vec();
                self.retarget();
            }
            Drops(metric) => {
                self.drops = Some(metric);
                self.retarget();
            }
            Moves => {
                self.moved += 1;
                self.retarget();
            }
            Restart => self.restart(true),
            Kill => self.restart(false),
        }
        if self.uplink {
            self.drain();
        }
    }

    /// Takes everything there is to send, as slowly as it comes: what has waited for long is paced.
    fn drain(&mut self) {
        let mut at = Instant(self.now);
        loop {
            let agent = self.agent.as_mut().expect("running");
            match agent.poll_remote(0, at).expect("the medium works") {
                Action::Send => {
                    let request = agent.request(0).expect("one remote");
                    assert_eq!(request.protocol, Protocol::V2);
                    let samples = protobuf::version_2(request.body);
                    let mut head = Head::new(204);
                    let written = samples.len().to_string();
                    head.header("X-Prometheus-Remote-Write-Samples-Written", written.as_bytes());
                    self.arrived.extend(samples);
                    agent.on_response(0, at, &head);
                }
                Action::Wait(until) if until < Instant(u64::MAX) => at = until,
                _ => break,
            }
        }
        self.now = at.0;
    }

    /// Names of the series of `x` marked since `from`, and nothing of other targets.
    fn markers(&self, from: usize) -> Vec<&str> {
        let marked = self.arrived[from..].iter().filter(|sample| sample.bits == MARKER);
        let mut names: Vec<_> = marked
            .map(|sample| {
                assert_eq!(
                    (sample.label("instance"), sample.label("job")),
                    ("x", "j"),
                    "{sample:?}"
                );
                sample.label("__name__")
            })
            .collect();
        names.sort_unstable();
        names
    }

    /// Every series is strictly rising in time, and no synthetic series is marked but at the end of its target.
    fn check(&self, name: &str) {
        let mut newest = std::collections::BTreeMap::new();
        for sample in &self.arrived {
            let last = newest.insert(sample.key(), sample.unix_ms);
            assert!(
                last.is_none_or(|last| last < sample.unix_ms),
                "{name}: {sample:?} after {last:?}"
            );
        }
    }
}

const SENDER: SenderConfig = SenderConfig {
    backlog_samples_per_send: 200,
    flush_interval_ms: 1,
    message: MessageChoice::Fixed(Protocol::V2),
    ..sending::remote(MAX_SERIES, MAX_TARGETS)
};

#[test]
fn every_case_marks_what_prometheus_marks_as_soon_as_it_is_known() {
    for case in CASES {
        let mut rig = Rig::new(case.track, true);
        for (number, (step, markers)) in case.steps.iter().enumerate() {
            let from = rig.arrived.len();
            rig.run(*step);
            let mut expected = markers.to_vec();
            expected.sort_unstable();
            assert_eq!(rig.markers(from), expected, "{}, step {number}: {step:?}", case.name);
        }
        rig.check(case.name);
    }
}

#[test]
fn an_outage_and_a_restart_change_no_marker() {
    for case in CASES {
        // What a kill costs is what was not committed, which is another matter.
        if case.steps.iter().any(|(step, _)| matches!(step, Kill)) {
            continue;
        }
        let mut rig = Rig::new(case.track, false);
        for (step, _) in case.steps {
            rig.run(*step);
        }
        rig.restart(true);
        rig.drain();
        let mut expected: Vec<&str> = case
            .steps
            .iter()
            .flat_map(|(_, markers)| markers.iter().copied())
            .collect();
        expected.sort_unstable();
        assert_eq!(rig.markers(0), expected, "{}", case.name);
        rig.check(case.name);
    }
}

#[test]
fn scr_806_the_last_frame_has_the_time_of_the_slot_that_was_to_come() {
    let mut rig = Rig::new(false, true);
    rig.run(Body("a 1\n"));
    let slot = rig.agent().next_scrape().expect("settled").0;
    rig.now += 100;
    rig.run(Targets(&[]));
    rig.run(Slot);
    let marked: Vec<i64> = rig
        .arrived
        .iter()
        .filter(|s| s.bits == MARKER)
        .map(|s| s.unix_ms)
        .collect();
    assert_eq!(marked, [EPOCH_MS + slot as i64; 6]);
    assert_eq!(rig.agent().next_scrape(), None, "then it is gone");
    assert_eq!(rig.agent().catalogue().len(), 0);
}

#[test]
fn scr_953_targets_that_stay_keep_slot_series_and_place() {
    let mut rig = Rig::new(false, true);
    rig.run(Body("a 1\nb 2\n"));
    let slot = rig.agent().next_scrape();
    rig.run(Targets(&["y", "x"]));
    let waiting: Vec<_> = rig.agent().targets().map(|target| target.reference).collect();
    assert_eq!(waiting, [TargetRef(0), TargetRef(1)], "x where it was, y beside it");
    // Its own slot still comes, and brings no new series.
    rig.run(Body("a 1\nb 2\n"));
    assert_eq!(Some(Instant(rig.now)), slot);
    let added = rig
        .arrived
        .iter()
        .rev()
        .find(|s| s.label("__name__") == "scrape_series_added" && s.label("instance") == "x");
    assert_eq!(added.map(|sample| sample.bits), Some(0));
}

#[test]
fn places_are_used_again_without_mixing_labels() {
    let mut rig = Rig::new(false, false);
    let names = [
        ["a", "b", "c", "d"],
        ["e", "f", "g", "h"],
        ["x", "b", "g", "k"],
        ["m", "n", "o", "x"],
    ];
    for round in 0..12 {
        rig.targets = names[round % 4].to_vec();
        rig.retarget();
        for _ in 0..7 {
            rig.slot(Some(Body("v 1\n")));
        }
    }
    rig.drain();
    rig.check("places");
    let instances: std::collections::BTreeSet<_> = rig.arrived.iter().map(|s| s.label("instance").to_owned()).collect();
    assert_eq!(instances.len(), 13);
    // The series `v` is exposed by x alone.
    assert!(
        rig.arrived
            .iter()
            .all(|s| s.label("__name__") != "v" || s.label("instance") == "x")
    );
    assert!(rig.arrived.iter().any(|s| s.label("__name__") == "v"));
}

#[test]
fn an_abandoned_scrape_leaves_no_trace_and_is_repeated() {
    let mut rig = Rig::new(false, true);
    rig.run(Body("a 1\nb 2\n"));
    for _ in 0..3 {
        let at = rig.agent().next_scrape().expect("waits");
        rig.now = rig.now.max(at.0);
        let now = Instant(rig.now);
        let mut session = Session::new(SIZE);
        let agent = rig.agent();
        let due = agent.due(now).expect("due");
        agent.begin(&mut session, due);
        agent.content_type(&mut session, Some(b"text/plain"));
        agent.feed(&mut session, b"a 2\nnew 1\n").expect("sound");
        agent.abandon(due.target, now + 50);
        assert_eq!(agent.next_scrape(), Some(now + 50), "repeated soon");
        assert_eq!(agent.catalogue().len(), 2);
    }
    let from = rig.arrived.len();
    rig.run(Body("a 3\n"));
    assert_eq!(rig.markers(from), ["b"], "tracked as before");
    rig.check("abandoned");
}
