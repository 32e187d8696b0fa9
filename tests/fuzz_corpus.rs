//! The fuzz targets without a fuzzer: the corpus as it is, then mutations of it from fixed seeds.
//!
//! What a real fuzzer (scripts/fuzz) finds is fixed with a test beside the fix; here every target stays alive with
//! nothing but the Rust toolchain. A failure names the input as a file that scripts/fuzz takes.

#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use targets::Target;

#[global_allocator]
static ALLOCATOR: targets::memory::Counting = targets::memory::Counting;

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target.name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = files
        .map(|file| file.expect("a folder lists its files").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has seeds", folder.display());
    paths
        .iter()
        .map(|path| fs::read(path).expect("a seed is readable"))
        .collect()
}

/// One to four edits of the kinds fuzzers make.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], max_len: usize, rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(0..=bytes.len());
        let to = bytes.len().min(at + rng.usize(1..17));
        match rng.u8(0..7) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
            2 if at < bytes.len() => {
                bytes[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'\n']).expect("not empty")
            }
            3 => drop(bytes.drain(at..to)),
            4 => {
                let copy = bytes[at..to].to_vec();
                let place = rng.usize(0..=bytes.len());
                drop(bytes.splice(place..place, copy));
            }
            5 => {
                let from = rng.usize(0..=other.len());
                let piece = &other[from..other.len().min(from + rng.usize(1..65))];
                drop(bytes.splice(at..to, piece.iter().copied()));
            }
            _ => bytes.insert(at, rng.u8(..)),
        }
    }
    bytes.truncate(max_len);
}

fn run(target: &Target, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target.run(input))) {
        let path = std::env::temp_dir().join(format!("tidegate-fuzz-{}-{}", target.name, std::process::id()));
        if fs::write(&path, input).is_ok() {
            eprintln!(
                "the input is in {}: scripts/fuzz {} --input FILE",
                path.display(),
                target.name
            );
        }
        resume_unwind(panic);
    }
}

/// Replays the corpus of a target and `mutations` inputs made from it.
fn replay(name: &str, mutations: usize) {
    let target = targets::ALL
        .iter()
        .find(|target| target.name == name)
        .expect("it is listed");
    let seeds = seeds(target);
    for seed in &seeds {
        run(target, seed);
    }
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..mutations {
        let mut input = seeds[rng.usize(0..seeds.len())].clone();
        let other = &seeds[rng.usize(0..seeds.len())];
        mutate(&mut input, other, target.max_len, &mut rng);
        run(target, &input);
    }
}

macro_rules! replays {
    ($($name:ident: $mutations:expr,)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name), $mutations);
            }
        )*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($name)),*];
            let listed: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
            assert_eq!(replayed[..], listed[..]);
        }
    };
}

// As many as take the test profile a fraction of a second.
replays! {
    mount_image: 500,
    mutate_image: 1000,
    frame_decode: 3000,
    dict_decode: 3000,
    record_walk: 500,
    ops: 300,
    clock_rebase: 500,
    text: 2000,
    openmetrics: 2000,
    protobuf: 2000,
    scrape: 1000,
    relabel: 2000,
    config: 300,
    http_response: 300,
}
