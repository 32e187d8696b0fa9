//! Random scrapes against a naive model of the whole session.

use super::*;

/// What a naive implementation remembers of a target.
#[derive(Default)]
struct Model {
    /// Exposed texts of the last successful scrape.
    texts: BTreeSet<String>,
    /// Series to mark when they vanish.
    tracked: BTreeSet<String>,
    /// Newest explicit timestamp of each series that is known.
    newest: BTreeMap<String, i64>,
}

/// One exposed line.
struct Exposed {
    text: String,
    series: String,
    timestamp: Option<i64>,
    value: u32,
}

fn line(random: &mut fastrand::Rng) -> Exposed {
    let k = random.u8(0..40);
    let comma = if random.u8(0..8) == 0 { "," } else { "" };
    let name = if k.is_multiple_of(9) { "go_x" } else { "m" };
    Exposed {
        text: format!("{name}{{k=\"{k}\"{comma}}}"),
        series: series_of(name, k),
        timestamp: k.is_multiple_of(5).then(|| random.i64(0..50)),
        value: random.u32(0..1000),
    }
}

fn series_of(name: &str, k: u8) -> String {
    format!("{name}{{job=\"j\",k=\"{k}\"}}")
}

#[test]
fn agrees_with_a_naive_model_over_10_000_scrapes() {
    let mut random = fastrand::Rng::with_seed(77);
    let mut rig = Rig::new(200);
    let mut targets = Vec::new();
    for index in 0..3 {
        let mut target = target();
        target.reference = TargetRef(index);
        target.metric_relabel = rules(&[(Action::Drop, &["__name__"], "go_.*")]);
        targets.push((target, Model::default()));
    }
    for _ in 0..10_000 {
        let (target, model) = &mut targets[random.usize(0..3)];
        let lines: Vec<_> = (0..random.usize(0..30)).map(|_| line(&mut random)).collect();
        let fails = random.u8(0..10) == 0;
        let shot = rig.scrape(target, &body(&lines, fails));
        let wanted = expected(model, &lines, fails);
        assert_eq!((shot.up, shot.samples), (wanted.up, wanted.samples));
        assert_eq!((shot.stale, shot.counts), (wanted.stale, wanted.counts));
        rig.catalogue.reclaim(FrameNo(rig.frame.saturating_sub(3)));
        let live: usize = targets.iter().map(|(_, model)| known_series(&model.texts).len()).sum();
        assert_eq!(rig.catalogue.len(), live);
    }
}

fn body(lines: &[Exposed], fails: bool) -> String {
    let mut body = String::new();
    for line in lines {
        let time = line.timestamp.map(|ms| format!(" {ms}")).unwrap_or_default();
        body += &format!("{} {}{time}\n", line.text, line.value);
    }
    if fails { body + "bad\n" } else { body }
}

fn known_series(texts: &BTreeSet<String>) -> BTreeSet<String> {
    let kept = texts.iter().filter(|text| !text.starts_with("go_"));
    kept.map(|text| text.replace(',', "").replace('{', "{job=\"j\","))
        .collect()
}

/// The frame that the model expects, and the model after it.
fn expected(model: &mut Model, lines: &[Exposed], fails: bool) -> Shot {
    let mut shot = Shot {
        up: !fails,
        ..Shot::default()
    };
    let (mut texts, mut tracked) = (BTreeSet::new(), BTreeSet::new());
    let mut newest: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for line in lines {
        shot.counts[0] += 1;
        let new_text = texts.insert(line.text.clone()) && !model.texts.contains(&line.text);
        if line.series.starts_with("go_") {
            continue;
        }
        shot.counts[1] += 1;
        if line.timestamp.is_none() {
            tracked.insert(line.series.clone());
        }
        let fits = match (line.timestamp, newest.get(line.series.as_str())) {
            (None, before) => before.is_none(),
            (Some(_), Some(None)) => false,
            (Some(ms), Some(Some(last))) => ms > *last,
            (Some(ms), None) => model.newest.get(&line.series).is_none_or(|&last| ms > last),
        };
        if fits {
            newest.insert(&line.series, line.timestamp);
            shot.counts[2] += u32::from(new_text);
            shot.samples
                .push((line.series.clone(), f64::from(line.value), line.timestamp));
        }
    }
    if fails || lines.is_empty() {
        shot.samples.clear();
        shot.stale = core::mem::take(&mut model.tracked).into_iter().collect();
        return shot;
    }
    shot.stale = model.tracked.difference(&tracked).cloned().collect();
    for (series, ms) in newest {
        if let Some(ms) = ms {
            model.newest.insert(series.into(), ms);
        }
    }
    let known = known_series(&texts);
    model.newest.retain(|series, _| known.contains(series));
    (model.texts, model.tracked) = (texts, tracked);
    shot
}
