//! Throughput of other Rust parsers of the text format on captured bodies; lines of `name MB/s samples/s`.

#[path = "../../../common/bodies.rs"]
mod bodies;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const RUNS: usize = 3;
const RUN_BYTES: usize = 8 << 20;

/// `parse` gives the number of samples, `None` when the parser refuses a body.
fn time(name: &str, bodies: &[String], parse: impl Fn(&str) -> Option<usize>) {
    let bytes: usize = bodies.iter().map(String::len).sum();
    let rounds = RUN_BYTES.div_ceil(bytes);
    let Some(samples) = bodies.iter().map(|body| parse(body)).sum::<Option<usize>>() else {
        println!("{name} refused");
        return;
    };
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        for _ in 0..rounds {
            for body in bodies {
                black_box(parse(body));
            }
        }
        best = best.min(start.elapsed());
    }
    let per_second = rounds as f64 / best.as_secs_f64();
    println!("{name} {:.1} {:.0}", bytes as f64 * per_second / 1e6, samples as f64 * per_second);
}

fn main() {
    for file in std::env::args().skip(1) {
        let bodies: Vec<String> = bodies::bodies(Path::new(&file))
            .into_iter()
            .map(|body| String::from_utf8(body).expect("captured bodies are UTF-8"))
            .collect();
        println!("file {file}");
        time("prometheus-parse", &bodies, |body| {
            let lines = body.lines().map(|line| Ok(line.to_owned()));
            prometheus_parse::Scrape::parse(lines).ok().map(|scrape| scrape.samples.len())
        });
        time("openmetrics-parser", &bodies, |body| {
            let families = openmetrics_parser::prometheus::parse_prometheus(body).ok()?.families;
            Some(families.values().map(|family| family.iter_samples().count()).sum())
        });
    }
}
