//! Bytes, nanoseconds and instructions per sample of recorded scrapes, in the codecs and in a whole ring.
//!
//! `cargo bench --bench ring_bytes -- [OPTIONS] [FILE...]`; files as `tests/testdata/captures/README.md` describes them, gzipped or not; without files
//! the small captures of the tests.
//!
//! ```text
//! --block BYTES            of a block, 4096
//! --segments BYTES,...     of a segment, 65536,262144,1048576
//! --staging BLOCKS         that wait in memory, 12
//! --commit-interval SECS   write a frame at this age; without it only when staging is full, as in a long outage
//! --together               all files as targets of one ring
//! --no-instructions        do not count instructions
//! ```
//!
//! For each file: the codec alone (bytes of a first frame after a reset and of later ones; nanoseconds and instructions per sample,
//! encoding and decoding), then one line per segment size and codec: a ring on a medium in memory takes the capture, over and
//! over with every series moved on by what it changed, until three segments are full; these are taken apart again, and every byte
//! of them is shared out. Bytes per sample is segment size over samples in it: nothing is left out. The frames are then read back
//! through the ring and compared.
//!
//! Instructions are counted by the kernel (`perf_event_open`) or, where that is not permitted, by running this program
//! under valgrind's callgrind; where there is neither, it says so.

#[path = "../common/capture.rs"]
mod capture;
#[path = "../common/capture_ring.rs"]
mod capture_ring;
#[path = "ring_bytes/codec_alone.rs"]
mod codec_alone;
#[path = "ring_bytes/instructions.rs"]
mod instructions;
#[path = "ring_bytes/on_flash.rs"]
mod on_flash;
#[path = "../common/ring_config.rs"]
mod ring_config;

use capture::Capture;
use on_flash::Shape;
use std::path::PathBuf;
use tidegate::value::codec::CodecId;

const USAGE: &str = "ring_bytes [--block BYTES] [--segments BYTES,...] [--staging BLOCKS] [--commit-interval SECS] [--together] [--no-instructions] [FILE...]";

struct Options {
    block_bytes: u32,
    segments: Vec<u32>,
    staging_blocks: usize,
    commit_interval_ms: Option<u64>,
    together: bool,
    instructions: bool,
    files: Vec<PathBuf>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == instructions::WORK) {
        return codec_alone::work(&arguments[1..]);
    }
    let options = match options(&arguments) {
        Ok(options) => options,
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            std::process::exit(2);
        }
    };
    let captures: Vec<Capture> = options.files.iter().map(|file| Capture::read(file)).collect();
    let mut counter = options.instructions.then(instructions::Counter::new);
    if let Some(counter) = &counter {
        println!("instructions: {}", counter.source());
    }
    for (file, capture) in options.files.iter().zip(&captures) {
        println!("\n{}: {}", name(file), size(&[capture]));
        codec_alone::report(file, capture, counter.as_mut());
        if !options.together {
            on_flash(&options, &[capture]);
        }
    }
    if options.together {
        let all: Vec<&Capture> = captures.iter().collect();
        println!("\nall of them as targets of one ring: {}", size(&all));
        on_flash(&options, &all);
    }
}

fn on_flash(options: &Options, captures: &[&Capture]) {
    println!("  {}", on_flash::HEADING);
    for &segment_bytes in &options.segments {
        for codec in [CodecId::Tc0, CodecId::Tc1] {
            let shape = Shape {
                block_bytes: options.block_bytes,
                segment_bytes,
                staging_blocks: options.staging_blocks,
                commit_interval_ms: options.commit_interval_ms,
                codec,
            };
            println!("  {}", on_flash::measure(captures, &shape));
        }
    }
}

fn name(file: &std::path::Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn size(captures: &[&Capture]) -> String {
    let scrapes: usize = captures.iter().map(|capture| capture.scrapes.len()).sum();
    let samples: usize = captures.iter().map(|capture| capture.samples()).sum();
    let series: usize = captures.iter().map(|capture| capture.series.len()).sum();
    format!("{scrapes} scrapes, {series} series, {samples} samples")
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        block_bytes: 4096,
        segments: vec![64 << 10, 256 << 10, 1 << 20],
        staging_blocks: 12,
        commit_interval_ms: None,
        together: false,
        instructions: true,
        files: Vec::new(),
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || {
            let text = rest.next().ok_or_else(|| format!("{argument} needs a value"))?;
            text.split(',')
                .map(|part| {
                    part.parse::<u32>()
                        .map_err(|_| format!("{argument} {text}: not a number"))
                })
                .collect::<Result<Vec<u32>, String>>()
        };
        match argument.as_str() {
            // `cargo bench` adds it.
            "--bench" => {}
            "--block" => options.block_bytes = number()?[0],
            "--segments" => options.segments = number()?,
            "--staging" => options.staging_blocks = number()?[0] as usize,
            "--commit-interval" => options.commit_interval_ms = Some(u64::from(number()?[0]) * 1000),
            "--together" => options.together = true,
            "--no-instructions" => options.instructions = false,
            unknown if unknown.starts_with("--") => return Err(format!("{unknown}: no such option")),
            file => options.files.push(PathBuf::from(file)),
        }
    }
    if options.files.is_empty() {
        options.files = capture::checked_in();
    }
    Ok(options)
}
