//! The crash explorer for as long as wanted: `scripts/explore` runs it.
//!
//! Prints states, rate and failures; of every failure the seed and a command that shows it again. Exit 1 if there is one.

#[path = "../explorer/mod.rs"]
mod explorer;

use explorer::sketch::Sketch;
use explorer::{Explorer, Setup};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const USAGE: &str = "usage: explore [--states N] [--seconds S] [--depth 1|2|3] [--seed X] [--runs N] [--threads N]

  --states N   stop after N states (default 100000000)
  --seconds S  stop after S seconds (default: when the states are reached)
  --depth D    power cuts in a row, 1 to 3 (default 2)
  --seed X     first seed (default 1); a seed is a run of its own: workload, shape, medium, choices
  --runs N     seeds to try, whatever the states
  --threads N  default: as many as the machine has";

struct Options {
    states: u64,
    seconds: u64,
    depth: u32,
    seed: u64,
    runs: u64,
    threads: u64,
}

fn options() -> Result<Options, String> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut options = Options {
        states: 100_000_000,
        seconds: u64::MAX >> 32,
        depth: 2,
        seed: 1,
        runs: u64::MAX,
        threads,
    };
    // `cargo bench` adds an argument of its own.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a number"))?;
        let value: u64 = value
            .parse()
            .map_err(|_| format!("{word} wants a number, not {value}"))?;
        match word.as_str() {
            "--states" => options.states = value,
            "--seconds" => options.seconds = value,
            "--depth" if (1..=3).contains(&value) => options.depth = value as u32,
            "--seed" => options.seed = value,
            "--runs" => options.runs = value,
            "--threads" => options.threads = value.max(1),
            _ => return Err(format!("unknown: {word} {value}")),
        }
    }
    Ok(options)
}

#[derive(Default)]
struct Totals {
    states: AtomicU64,
    repeats: AtomicU64,
    paired: AtomicU64,
    runs: AtomicU64,
    failures: AtomicU64,
    sketch: Mutex<Sketch>,
}

fn work(options: &Options, totals: &Totals, deadline: Instant) {
    loop {
        let run = totals.runs.fetch_add(1, Relaxed);
        if run >= options.runs || totals.states.load(Relaxed) >= options.states || Instant::now() > deadline {
            totals.runs.fetch_sub(1, Relaxed);
            return;
        }
        let seed = options.seed + run;
        let mut explorer = Explorer::new(Setup::of(seed), seed, options.depth);
        explorer.deadline = Some(deadline);
        let ended = catch_unwind(AssertUnwindSafe(|| explorer.run()));
        totals.states.fetch_add(explorer.states, Relaxed);
        totals.repeats.fetch_add(explorer.repeats, Relaxed);
        totals.paired.fetch_add(explorer.paired, Relaxed);
        if let Ok(mut all) = totals.sketch.lock() {
            all.merge(&explorer.sketch);
        }
        if ended.is_err() {
            totals.failures.fetch_add(1, Relaxed);
            println!(
                "FAILED: seed {seed}; again: scripts/explore --seed {seed} --runs 1 --depth {} --threads 1",
                options.depth
            );
        }
    }
}

fn main() {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("explore: {error}\n{USAGE}");
            std::process::exit(2);
        }
    };
    let (start, totals) = (Instant::now(), Totals::default());
    let deadline = start + Duration::from_secs(options.seconds);
    let tell = |totals: &Totals| {
        let (states, seconds) = (totals.states.load(Relaxed), start.elapsed().as_secs_f64());
        println!(
            "{states} states in {} runs, {seconds:.0} s, {:.0} states/s, {} failures",
            totals.runs.load(Relaxed),
            states as f64 / seconds,
            totals.failures.load(Relaxed)
        );
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads)
            .map(|_| scope.spawn(|| work(&options, &totals, deadline)))
            .collect();
        let mut told = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                tell(&totals);
            }
        }
    });
    tell(&totals);
    let images = totals.sketch.lock().map_or(0, |sketch| sketch.count());
    println!(
        "depth {}, seeds {} to {}: about {images} different images, {} cuts with paired pages; {} outcomes more gave an image \
         already judged at the same cut and are not among the states",
        options.depth,
        options.seed,
        options.seed + totals.runs.load(Relaxed).saturating_sub(1),
        totals.paired.load(Relaxed),
        totals.repeats.load(Relaxed)
    );
    if totals.failures.load(Relaxed) > 0 {
        std::process::exit(1);
    }
    println!("0 durable frames lost, 0 invented, 0 lost and not counted, 0 mount failures");
}
