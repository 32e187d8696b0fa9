//! `tidegate ring info|verify`: what a ring holds, and whether it is whole.

use super::failed;
use crate::host::civil::Timestamp;
use crate::host::cli::EXIT_FAULTS;
use crate::host::medium::mtd::char_device::error_correction;
use crate::host::medium::open_image;
use crate::host::snappy::Dictionaries;
use crate::wal::Reason;
use crate::wal::inspect::{Event, Inspector, Summary};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use std::path::Path;
use std::process::ExitCode;

/// What is told apart per target.
#[derive(Clone, Debug, Default)]
struct Backlog {
    body: String,
    frames: u64,
    samples: u64,
}

pub fn open(path: &str) -> Result<Inspector<crate::host::medium::Medium>, String> {
    let medium = open_image(Path::new(path)).map_err(|error| alloc::format!("{error}"))?;
    Inspector::open(medium, Some(Box::new(Dictionaries::new()))).map_err(|error| alloc::format!("{path}: {error}"))
}

/// Prints what the ring at `path` holds.
pub fn info(path: &str) -> ExitCode {
    let mut inspector = match open(path) {
        Ok(inspector) => inspector,
        Err(error) => return failed(&error),
    };
    let mut targets: BTreeMap<u8, Backlog> = BTreeMap::new();
    let mut frames = alloc::vec::Vec::new();
    let mut erases: Option<(u32, u32)> = None;
    let summary = inspector.survey(|_, event| match event {
        Event::Erased(count) => {
            let (least, most) = erases.unwrap_or((*count, *count));
            erases = Some((least.min(*count), most.max(*count)));
        }
        Event::Target(target) => {
            targets.entry(target.index).or_default().body = target.body.into();
        }
        Event::Frame(frame) => frames.push((frame.number, frame.target.0, frame.samples.unwrap_or(0))),
        _ => {}
    });
    for (_, target, samples) in frames.iter().filter(|(number, ..)| *number >= summary.acknowledged) {
        let backlog = targets.entry(*target).or_default();
        backlog.frames += 1;
        backlog.samples += u64::from(*samples);
    }
    print_info(path, &inspector, &summary, &targets);
    print_wear(path, &inspector, &summary, erases);
    ExitCode::SUCCESS
}

fn print_info(
    path: &str,
    inspector: &Inspector<crate::host::medium::Medium>,
    summary: &Summary,
    targets: &BTreeMap<u8, Backlog>,
) {
    let geometry = inspector.geometry();
    std::println!("ring        {path}");
    if let Some(superblock) = inspector.superblock() {
        std::println!(
            "created     {}  label {:?}",
            Timestamp(superblock.created_ms),
            superblock.label()
        );
    }
    let uuid: String = inspector
        .uuid()
        .iter()
        .map(|byte| alloc::format!("{byte:02x}"))
        .collect();
    std::println!("uuid        {uuid}");
    std::println!(
        "geometry    {} segments of {} bytes in blocks of {}",
        geometry.slots,
        geometry.segment_bytes(),
        geometry.block_bytes
    );
    std::println!(
        "segments    {} in use, {} empty; newest {}, oldest {}; epoch {}",
        summary.segments,
        summary.empty,
        summary.head_seq,
        summary.tail_seq,
        summary.total.epoch
    );
    if let Some((first, last)) = summary.total.frames {
        std::println!(
            "frames      {} readable, {} to {}",
            summary.total.frame_count,
            first.0,
            last.0
        );
    }
    std::println!("samples     {}", summary.total.samples);
    match summary.total.wall_ms {
        (0, _) => std::println!("time        not known"),
        (first, last) => std::println!("time        {} to {}", Timestamp(first), Timestamp(last)),
    }
    std::println!(
        "stopped     {}",
        if summary.total.clean {
            "in order"
        } else {
            "without notice, or running"
        }
    );
    std::println!(
        "backlog     {} frames from frame {} on",
        summary.backlog_frames,
        summary.acknowledged.0
    );
    for backlog in targets.values() {
        std::println!(
            "  {:>8} frames {:>10} samples  {{{}}}",
            backlog.frames,
            backlog.samples,
            backlog.body
        );
    }
    let lost = Reason::ALL
        .iter()
        .filter_map(|&reason| Some((reason, summary.losses.get(reason as usize)?)));
    let mut any = false;
    for (reason, loss) in lost.filter(|(_, loss)| loss.samples > 0 || loss.frames > 0) {
        any = true;
        std::println!(
            "lost        {} samples in {} frames: {} ({} to {})",
            loss.samples,
            loss.frames,
            reason.as_str(),
            Timestamp(loss.first_ms),
            Timestamp(loss.last_ms)
        );
    }
    if !any {
        std::println!("lost        nothing");
    }
    std::println!(
        "health      {}",
        if summary.findings == 0 {
            String::from("no faults")
        } else {
            alloc::format!("{} faults, see 'tidegate ring verify {path}'", summary.findings)
        }
    );
}

/// What the medium has gone through.
fn print_wear(
    path: &str,
    inspector: &Inspector<crate::host::medium::Medium>,
    summary: &Summary,
    erases: Option<(u32, u32)>,
) {
    let slots = u64::from(inspector.geometry().slots).max(1);
    let tenths = summary.head_seq * 10 / slots;
    std::println!(
        "wear        {}.{} laps since it was formatted",
        tenths / 10,
        tenths % 10
    );
    if let Some((least, most)) = erases {
        std::println!("erases      {least} to {most} of each slot");
    }
    if let Some(ecc) = error_correction(Path::new(path)) {
        std::println!(
            "chip        {} bits corrected, {} pages beyond correction since boot",
            ecc.corrected,
            ecc.failed
        );
    }
}

/// Reads the whole ring at `path` and prints a line for each fault.
pub fn verify(path: &str) -> ExitCode {
    let mut inspector = match open(path) {
        Ok(inspector) => inspector,
        Err(error) => return failed(&error),
    };
    let summary = inspector.survey(|_, event| {
        if let Event::Finding(finding) = event {
            std::println!("{finding}");
        }
    });
    std::println!(
        "{path}: {} segments, {} frames, {} samples, {} faults",
        summary.segments,
        summary.total.frame_count,
        summary.total.samples,
        summary.findings
    );
    if summary.findings == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAULTS)
    }
}
