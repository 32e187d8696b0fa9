//! Recorded scrapes through the parser: the samples a plain line split finds, and not one allocation on the way.

#[path = "common/allocations.rs"]
mod allocations;
#[path = "common/bodies.rs"]
mod bodies;
#[path = "common/capture.rs"]
mod capture;

use allocations::{Counting, allocations};
use bodies::bodies;
use capture::Capture;
use std::path::{Path, PathBuf};
use tidegate::exposition::{Event, Format, Parser, normalise_le_quantile, parse_series};
use tidegate::labels::{Labels, NameScheme, TextBuf};
use tidegate::limits::{MAX_LINE_BYTES, MAX_SERIES_TEXT_BYTES};
use tidegate::relabel::{Action, Relabel, Rule, RuleSpec, Scratch, Verdict};
use tidegate::sample::{MetricType, Number};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn captures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/captures");
    let names = ["node-15s.cap.gz", "prometheus-15s.cap.gz", "vmagent-15s.cap.gz"];
    names.iter().map(|name| folder.join(name)).collect()
}

/// What one scrape keeps between bodies: all of it allocated here.
struct Pipeline {
    parser: Parser,
    labels: Labels,
    copy: Labels,
    body: TextBuf,
    relabel: Relabel,
    scratch: Scratch,
    kind: MetricType,
}

impl Pipeline {
    fn new() -> Self {
        let drop_go = RuleSpec {
            action: Action::Drop,
            source_labels: &["__name__"],
            regex: "go_.*",
            ..RuleSpec::default()
        };
        let add_shard = RuleSpec {
            action: Action::HashMod,
            source_labels: &["__name__", "device"],
            target_label: "shard",
            modulus: 4,
            ..RuleSpec::default()
        };
        let rules = [drop_go, add_shard].map(|spec| {
            Rule::new(&spec, NameScheme::Utf8, &|pattern| panic!("{pattern} needs no engine")).expect("rule compiles")
        });
        Self {
            parser: Parser::new(MAX_LINE_BYTES),
            labels: Labels::new(MAX_SERIES_TEXT_BYTES),
            copy: Labels::new(MAX_SERIES_TEXT_BYTES),
            body: TextBuf::new(MAX_SERIES_TEXT_BYTES),
            relabel: Relabel::new(rules.into()),
            scratch: Scratch::new(MAX_SERIES_TEXT_BYTES),
            kind: MetricType::Unknown,
        }
    }

    /// Parses `body`, handing every sample to `sink`.
    fn run(&mut self, body: &[u8], chunk_bytes: usize, sink: &mut impl FnMut(&[u8], Number)) {
        self.parser.start(Format::Text);
        for chunk in body.chunks(chunk_bytes) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let taken = self.parser.feed(rest);
                rest = &rest[taken..];
                self.events(sink);
            }
        }
        self.parser.finish();
        self.events(sink);
    }

    fn events(&mut self, sink: &mut impl FnMut(&[u8], Number)) {
        while let Some(event) = self.parser.next().expect("captures are valid") {
            match event {
                Event::Type { kind, .. } => self.kind = kind,
                Event::Sample { series, value, .. } => {
                    sink(series, value);
                    parse_series(Format::Text, series, &mut self.labels).expect("captures are valid");
                    normalise_le_quantile(self.kind, &mut self.labels).expect("fits");
                    let named = self.labels.metric_name().starts_with("go_");
                    let verdict = self.relabel.apply(&mut self.labels, &mut self.scratch);
                    assert_eq!(verdict == Ok(Verdict::Drop), named);
                    self.labels.validate(NameScheme::Legacy).expect("captures are valid");
                    self.body.clear();
                    self.labels.write_body(&mut self.body).expect("fits");
                    self.copy.clear();
                    self.copy.load_body(&self.body).expect("own text reads back");
                    let name = |labels: &Labels| labels.metric_name().len();
                    assert_eq!(self.copy.len() + usize::from(name(&self.labels) > 0), self.labels.len());
                }
                _ => {}
            }
        }
    }
}

#[test]
fn finds_the_samples_of_recorded_scrapes() {
    for path in captures() {
        let expected = Capture::read(&path);
        let bodies = bodies(&path);
        assert_eq!(bodies.len(), expected.scrapes.len());
        let mut pipeline = Pipeline::new();
        for (index, (body, samples)) in bodies.iter().zip(&expected.scrapes).enumerate() {
            let mut expected_samples = samples.iter();
            pipeline.run(body, 1 + index * 97, &mut |series, value| {
                let sample = expected_samples.next().expect("no more samples than lines");
                assert_eq!(series, expected.series[usize::from(sample.series.0)].as_bytes());
                assert_eq!(value, sample.number);
            });
            assert_eq!(expected_samples.next(), None, "scrape {index}");
        }
    }
}

#[test]
fn parsing_and_relabelling_never_allocate() {
    for path in captures() {
        let bodies = bodies(&path);
        let mut pipeline = Pipeline::new();
        let mut samples = 0_usize;
        let (calls, ..) = allocations(|| {
            for body in &bodies {
                pipeline.run(body, 1460, &mut |_, _| samples += 1);
            }
        });
        assert_eq!(calls, 0, "{}", path.display());
        assert!(samples > 1000);
    }
}
