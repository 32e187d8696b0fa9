use super::*;
use crate::catalogue::{Catalogue, SeriesText};
use crate::extras::Extras;
use crate::frame::Frame;
use crate::remote_write::batch::{BatchLimits, Place, Sends, Stop};
use crate::remote_write::identity::Identity;
use crate::remote_write::testkit::{Frames, NO_BOUNDS, Scrape, Sent, decode, label, limits};
use crate::sample::{MetricType, TargetRef};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Ten scrapes, a second apart, of 15 series and the five synthetic ones; cut.
fn ten_scrapes() -> Batch {
    let mut source = Frames::new(15);
    for n in 0..10 {
        let samples: Vec<(u16, i64)> = (0..15).map(|series| (series, n as i64)).collect();
        source.scrapes.push(Scrape::new(n, 1_000 * (n as i64 + 1), &samples));
    }
    let limits = BatchLimits {
        samples: 1_000,
        ..limits(100)
    };
    let mut batch = gathered(limits, &mut source);
    batch.cut(Layout::Grouped);
    batch
}

fn gathered(limits: BatchLimits, source: &mut Frames) -> Batch {
    let mut batch = Batch::new(limits, 1);
    batch.begin(Place::default(), Protocol::V2);
    let mut frame = Frame::with_extras(limits.frame_samples, limits.extras_bytes);
    let mut identity = Identity::new(&[], crate::relabel::Relabel::default());
    let stop = batch.gather(source, &mut frame, &mut identity, &NO_BOUNDS);
    assert_eq!(stop, Ok(Stop::End));
    batch
}

/// Seals and decodes the next slice.
fn slice(batch: &mut Batch, samples: usize) -> Option<Vec<Sent>> {
    batch.seal_slice(samples, None)?;
    Some(decode(batch.body(), batch.protocol))
}

fn times(sent: &[Sent]) -> BTreeSet<i64> {
    sent.iter().flat_map(|s| s.samples.iter().map(|s| s.1)).collect()
}

#[test]
fn a_slice_has_all_samples_of_some_series_and_no_more_than_allowed() {
    let mut batch = ten_scrapes();
    let mut requests_of = BTreeMap::<String, Vec<usize>>::new();
    let mut samples_of = BTreeMap::<String, usize>::new();
    let mut sizes = Vec::new();
    while let Some(sent) = slice(&mut batch, 60) {
        sizes.push(batch.request_samples());
        assert_eq!(
            sent.iter().map(|s| s.samples.len()).sum::<usize>(),
            batch.request_samples()
        );
        for series in sent {
            *samples_of.entry(series.labels.clone()).or_default() += series.samples.len();
            requests_of.entry(series.labels).or_default().push(sizes.len());
        }
        batch.settle();
    }
    assert_eq!(sizes, [60, 60, 60, 20]);
    assert_eq!((samples_of.len(), samples_of.values().all(|&n| n == 10)), (20, true));
    assert!(
        requests_of.values().all(|requests| requests.len() == 1),
        "{requests_of:?}"
    );
    // Where series do not come out even, the one at the border is in two.
    let mut batch = ten_scrapes();
    let mut entries = 0;
    while let Some(sent) = slice(&mut batch, 67) {
        entries += sent.len();
        batch.settle();
    }
    assert_eq!(entries, 20 + 2);
}

#[test]
fn what_is_settled_is_no_longer_to_be_sent() {
    let mut batch = ten_scrapes();
    assert!(!batch.is_begun());
    for left in [200, 140, 80, 20] {
        assert_eq!(batch.samples(), left);
        slice(&mut batch, 60).expect("more");
        assert_eq!(batch.is_last_slice(), left == 20);
        assert_eq!(batch.settle(), left > 20);
        assert!(batch.is_begun());
    }
    assert_eq!((batch.samples(), slice(&mut batch, 60)), (0, None));
}

#[test]
fn a_slice_may_be_made_smaller_and_starts_where_it_did() {
    let mut batch = ten_scrapes();
    slice(&mut batch, 60).expect("more");
    batch.settle();
    let before = slice(&mut batch, 60).expect("more");
    let smaller = slice(&mut batch, 30).expect("more");
    assert_eq!(smaller, before[..3]);
    assert_eq!(slice(&mut batch, 60), Some(before));
}

#[test]
fn what_is_in_doubt_is_sent_apart() {
    let mut batch = ten_scrapes();
    slice(&mut batch, 60).expect("more");
    batch.doubt();
    assert!(batch.is_begun());
    let mut doubtful = Vec::new();
    while slice(&mut batch, 40).is_some() {
        doubtful.push((batch.request_samples(), batch.is_doubtful()));
        batch.settle();
    }
    assert_eq!(
        doubtful,
        [
            (40, true),
            (20, true),
            (40, false),
            (40, false),
            (40, false),
            (20, false)
        ]
    );
}

#[test]
fn a_refused_slice_goes_in_halves_and_one_in_doubt_by_the_frame() {
    let mut batch = ten_scrapes();
    slice(&mut batch, 60).expect("more");
    batch.split(false);
    let mut sizes = Vec::new();
    while slice(&mut batch, 60).is_some() {
        sizes.push((batch.request_samples(), batch.is_part()));
        batch.settle();
    }
    assert_eq!(sizes, [(30, true), (30, true), (60, false), (60, false), (20, false)]);
    let mut batch = ten_scrapes();
    let whole = slice(&mut batch, 60).expect("more");
    batch.doubt();
    batch.split(true);
    for n in 1..=10 {
        let sent = slice(&mut batch, 60).expect("more");
        assert!(batch.is_part() && batch.is_doubtful() && batch.is_of_one_frame());
        assert_eq!((sent.len(), times(&sent)), (whole.len(), BTreeSet::from([n * 1_000])));
        batch.settle();
    }
    slice(&mut batch, 60).expect("more");
    assert_eq!(
        (batch.is_part(), batch.is_of_one_frame(), batch.request_samples()),
        (false, false, 60)
    );
}

#[test]
fn what_grows_too_old_is_taken_out_of_what_is_left_and_counted() {
    let mut batch = ten_scrapes();
    slice(&mut batch, 60).expect("more");
    batch.settle();
    slice(&mut batch, 60).expect("more");
    batch.doubt();
    batch.expire(UnixMillis(5_000));
    // 14 series are left, each of them with six of ten samples.
    assert_eq!((batch.tally().too_old, batch.samples()), (14 * 4, 14 * 6));
    let span = batch.tally().too_old_span;
    assert_eq!((span.first_ms, span.last_ms), (1_000, 4_000));
    let sent = slice(&mut batch, 60).expect("more");
    assert_eq!((batch.request_samples(), times(&sent).first()), (36, Some(&5_000)));
    assert!(batch.is_doubtful(), "the same series as before");
    let range = batch.request_range().map(|(first, last)| (first.0, last.0));
    assert_eq!(range, Some((5_000, 10_000)));
    batch.split(true);
    batch.expire(UnixMillis(60_000));
    assert_eq!((batch.tally().too_old, batch.samples()), (140, 0));
    assert_eq!(slice(&mut batch, 60), None);
}

#[test]
fn custom_buckets_are_left_out_of_1_0_with_what_they_carry() {
    let mut source = Frames::new(3);
    let mut extras = Extras::with_capacity(1_000);
    // A schema of -53, and one of 1.
    for (position, schema) in [(0, 105), (1, 2)] {
        extras.push_histogram(position, &[8, 1, 32, schema]).unwrap();
        extras.push_exemplar(position, None, 7, "").unwrap();
    }
    let mut scrape = Scrape::new(0, 1_000, &[(0, 1), (1, 1), (2, 1)]);
    scrape.extras = extras.as_bytes().to_vec();
    source.scrapes.push(scrape);
    let limits = BatchLimits {
        extras_bytes: 1_000,
        sends: Sends {
            histograms: true,
            exemplars: true,
        },
        ..limits(100)
    };
    let mut batch = gathered(limits, &mut source);
    assert_eq!((batch.counts().histograms, batch.counts().exemplars), (2, 2));
    batch.cut(Layout::Grouped);
    batch.speak(Protocol::V1);
    let left = Counts {
        samples: 6,
        histograms: 1,
        exemplars: 1,
    };
    assert_eq!((batch.counts(), batch.tally().custom_buckets), (left, 1));
    slice(&mut batch, 100).expect("more");
    assert_eq!((batch.request_counts(), batch.settle()), (left, false));
}

#[test]
fn a_sample_that_fits_no_request_of_1_0_is_counted() {
    // One long value in all labels: written once in 2.0, in each label in 1.0.
    let value = "v".repeat(400);
    let labels: Vec<String> = (10..45).map(|n| format!(r#"l{n}="{value}""#)).collect();
    let mut source = Frames::new(0);
    source.catalogue = Catalogue::new(2, 40_000, 1);
    source.catalogue.set_target(TargetRef(0), "").unwrap();
    for name in ["short", "long"] {
        let body = if name == "long" {
            labels.join(",")
        } else {
            String::new()
        };
        let text = SeriesText { name, body: &body };
        source
            .catalogue
            .define(TargetRef(0), text, MetricType::Histogram)
            .unwrap();
    }
    let mut message = alloc::vec![8, 1, 0xfa, 0x01];
    // Bytes of a field that nobody knows.
    message.extend([0xb8, 0xea, 0x01]);
    message.resize(message.len() + 30_008, 0);
    let mut extras = Extras::with_capacity(40_000);
    extras.push_histogram(1, &message).unwrap();
    let mut scrape = Scrape::new(0, 1_000, &[(0, 1), (1, 1)]);
    scrape.extras = extras.as_bytes().to_vec();
    source.scrapes.push(scrape);
    let limits = BatchLimits {
        extras_bytes: 40_000,
        sends: Sends {
            histograms: true,
            exemplars: false,
        },
        ..limits(2)
    };
    let mut batch = gathered(limits, &mut source);
    assert_eq!(batch.counts().histograms, 1);
    batch.cut(Layout::Grouped);
    let first = slice(&mut batch, 1).expect("more");
    assert_eq!(label(&first[0], "__name__"), Some("short"));
    batch.settle();
    batch.speak(Protocol::V1);
    let mut sent = 0;
    while let Some(series) = slice(&mut batch, 1) {
        sent += series.len();
        batch.settle();
    }
    assert_eq!((sent, batch.tally().too_large, batch.samples()), (5, 1, 0));
}
