//! What the ring holds, has written and has lost.

use super::super::exposition::{Kind, Writer};
use super::{MicroSeconds, Seconds};
use crate::host::app::shared::Shared;
use crate::host::config::Config;
use crate::host::medium::mtd::Health;
use crate::wal::wear;
use crate::wal::{Counters, Reason, RingStats};
use core::fmt::{self, Write};

type Gauge = (&'static str, &'static str, fn(&RingStats) -> u64);

const GAUGES: [Gauge; 11] = [
    ("tidegate_ring_slots", "Slots of the ring.", |s| s.slots.into()),
    (
        "tidegate_ring_slots_used",
        "Slots that hold samples not yet acknowledged.",
        |s| s.used_slots.into(),
    ),
    (
        "tidegate_ring_free_bytes",
        "Bytes that can be written before unacknowledged samples must go.",
        |s| s.free_bytes,
    ),
    (
        "tidegate_ring_backlog_frames",
        "Scrapes on the ring that are not acknowledged.",
        |s| s.backlog_frames,
    ),
    (
        "tidegate_ring_backlog_samples",
        "Samples in them, estimated within a segment.",
        |s| s.backlog_samples,
    ),
    ("tidegate_ring_staged_frames", "Scrapes that wait in memory.", |s| {
        s.staged_frames
    }),
    ("tidegate_ring_staged_samples", "Samples that wait in memory.", |s| {
        s.staged_samples
    }),
    (
        "tidegate_ring_staged_blocks",
        "Blocks of memory in use for them.",
        |s| s.staged_blocks as u64,
    ),
    (
        "tidegate_ring_staging_blocks",
        "Blocks of memory there are for them.",
        |s| s.staging_blocks as u64,
    ),
    (
        "tidegate_storage_degraded",
        "1 while the medium takes no writes and samples are kept in memory only.",
        |s| s.degraded.into(),
    ),
    (
        "tidegate_ring_stopped",
        "1 while the ring is full and told to stop.",
        |s| s.stopped.into(),
    ),
];

type Count = (&'static str, &'static str, fn(&Counters) -> u64);

const COUNTERS: [Count; 15] = [
    ("tidegate_ring_frames_appended_total", "Scrapes stored.", |c| {
        c.frames_appended
    }),
    ("tidegate_ring_samples_appended_total", "Samples stored.", |c| {
        c.samples_appended
    }),
    (
        "tidegate_ring_frames_acknowledged_in_memory_total",
        "Scrapes delivered before they were written.",
        |c| c.frames_acknowledged_in_memory,
    ),
    ("tidegate_ring_commits_total", "Commits that reached the medium.", |c| {
        c.commits
    }),
    (
        "tidegate_ring_blocks_written_total",
        "Blocks written, copies included.",
        |c| c.blocks_written,
    ),
    ("tidegate_ring_slots_erased_total", "Slots erased.", |c| c.slots_erased),
    (
        "tidegate_ring_erases_in_commits_total",
        "Slots erased while a commit waited: 0 where the next one is erased in time.",
        |c| c.erases_in_commits,
    ),
    (
        "tidegate_ring_slots_failed_total",
        "Slots that took nothing and were passed over or tried again.",
        |c| c.slots_failed,
    ),
    (
        "tidegate_ring_frames_coded_again_total",
        "Scrapes coded again for another slot after the one they were meant for failed.",
        |c| c.frames_coded_again,
    ),
    ("tidegate_ring_syncs_total", "Syncs that the medium confirmed.", |c| {
        c.syncs
    }),
    (
        "tidegate_ring_write_errors_total",
        "Writes, erases and syncs that failed.",
        |c| c.write_errors,
    ),
    (
        "tidegate_ring_frames_without_extras_total",
        "Frames read without what their samples carried, and without native histograms: they were written under a configuration with more room for it.",
        |c| c.frames_without_extras,
    ),
    (
        "tidegate_ring_frames_anchored_total",
        "Scrapes read of boots that never knew the time: placed just before the next boot.",
        |c| c.frames_anchored,
    ),
    ("tidegate_ring_read_errors_total", "Reads that failed.", |c| {
        c.read_errors
    }),
    ("tidegate_ring_damaged_blocks_total", "Blocks found damaged.", |c| {
        c.damaged_blocks
    }),
];

/// Writes the ring's families.
pub(super) fn write<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    let chip = shared.agent.borrow_mut().ring_mut().storage_mut().chip_health();
    let agent = shared.agent.borrow();
    let (stats, counters) = (agent.ring().stats(), agent.ring().counters());
    let live = shared.live();
    let ring = &live.config.tidegate.ring;
    for (name, help, value) in GAUGES {
        out.single(name, Kind::Gauge, help, value(&stats))?;
    }
    out.single(
        "tidegate_ring_size_bytes",
        Kind::Gauge,
        "Bytes of the ring on its medium.",
        ring.size.bytes,
    )?;
    if let Some(oldest) = stats.oldest_unix_ms {
        out.single(
            "tidegate_ring_oldest_timestamp_seconds",
            Kind::Gauge,
            "Time of the oldest sample not acknowledged.",
            Seconds(oldest),
        )?;
    }
    for (name, help, value) in COUNTERS {
        out.single(name, Kind::Counter, help, value(counters))?;
    }
    out.single(
        "tidegate_ring_bytes_written_total",
        Kind::Counter,
        "Bytes written to the medium.",
        counters.blocks_written * ring.block_size.bytes,
    )?;
    commits(out, shared)?;
    wear(out, &live.config, &stats, counters)?;
    if let Some(chip) = chip {
        write_chip(out, &chip)?;
    }
    losses(out, counters)
}

/// What the medium goes through, projected.
fn wear<W: Write>(out: &mut Writer<'_, W>, config: &Config, stats: &RingStats, counters: &Counters) -> fmt::Result {
    let block = config.tidegate.ring.block_size.bytes;
    let daily = |count: u64| wear::per_day(count, stats.running_ms);
    let written = daily(counters.blocks_written.saturating_mul(block));
    let load = config.ring_load(daily(counters.samples_appended), daily(counters.frames_appended));
    let outage = load.wear().bytes_per_day;
    out.single(
        "tidegate_ring_written_bytes_per_day",
        Kind::Gauge,
        "Bytes written since the start, as so much a day.",
        written,
    )?;
    out.single(
        "tidegate_ring_outage_bytes_per_day",
        Kind::Gauge,
        "Bytes a day that what is scraped would cost while the uplink is away, estimated.",
        outage,
    )?;
    if let Some(geometry) = config.ring_geometry() {
        let laps = |bytes| Seconds(i64::try_from(wear::millilaps_per_year(&geometry, bytes)).unwrap_or(i64::MAX));
        let help = "Laps of the ring in a year: as since the start, and if the uplink were away.";
        out.family("tidegate_ring_laps_per_year", Kind::Gauge, help)?;
        out.sample(&[("rate", &"running")], laps(written))?;
        out.sample(&[("rate", &"outage")], laps(outage))?;
    }
    if let Some(left) = wear::lasts_ms(stats.free_bytes, outage) {
        out.single(
            "tidegate_ring_seconds_left",
            Kind::Gauge,
            "Time until unacknowledged samples must go if the uplink is away, at the rate scraped since the start.",
            left / 1_000,
        )?;
    }
    if let Some((least, most)) = stats.erase_counts {
        out.family(
            "tidegate_ring_slot_erases",
            Kind::Gauge,
            "Erases of the least and the most erased slot.",
        )?;
        out.sample(&[("slot", &"least")], least)?;
        out.sample(&[("slot", &"most")], most)?;
    }
    Ok(())
}

type ChipCount = (&'static str, &'static str, fn(&Health) -> u64);

const CHIP_COUNTS: [ChipCount; 4] = [
    (
        "tidegate_flash_corrected_bits",
        "Bits that error correction put right since the ring was opened.",
        |chip| chip.corrected_bits,
    ),
    (
        "tidegate_flash_uncorrectable_pages",
        "Pages beyond correction since the ring was opened.",
        |chip| chip.uncorrectable_pages,
    ),
    ("tidegate_flash_bad_slots", "Slots that cannot be used.", |chip| {
        chip.bad_slots.into()
    }),
    (
        "tidegate_flash_mismatches",
        "Blocks that did not read back as programmed since the ring was opened.",
        |chip| chip.mismatches,
    ),
];

/// What the driver of a raw chip says.
fn write_chip<W: Write>(out: &mut Writer<'_, W>, chip: &Health) -> fmt::Result {
    for (name, help, value) in CHIP_COUNTS {
        out.single(name, Kind::Gauge, help, value(chip))?;
    }
    Ok(())
}

fn commits<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    let commits = &shared.commits;
    out.single(
        "tidegate_ring_commits_failed_total",
        Kind::Counter,
        "Commits that came to nothing.",
        commits.failed.get(),
    )?;
    out.single(
        "tidegate_ring_commit_seconds_total",
        Kind::Counter,
        "Time spent in commits; the agent does nothing else meanwhile.",
        MicroSeconds(commits.total_us.get()),
    )?;
    out.single(
        "tidegate_ring_commit_seconds_max",
        Kind::Gauge,
        "Longest commit.",
        MicroSeconds(commits.longest_us.get()),
    )
}

fn losses<W: Write>(out: &mut Writer<'_, W>, counters: &Counters) -> fmt::Result {
    out.family(
        "tidegate_samples_lost_total",
        Kind::Counter,
        "Samples that will never be sent, since the ring was formatted, by reason.",
    )?;
    for reason in Reason::ALL {
        out.sample(&[("reason", &reason.as_str())], counters.loss(reason).samples)?;
    }
    out.family(
        "tidegate_frames_lost_total",
        Kind::Counter,
        "Scrapes that will never be sent; those that a receiver or the clock cost are counted as samples only.",
    )?;
    for reason in Reason::ALL {
        out.sample(&[("reason", &reason.as_str())], counters.loss(reason).frames)?;
    }
    out.family(
        "tidegate_samples_lost_first_timestamp_seconds",
        Kind::Gauge,
        "Time of the oldest lost sample, 0 if none is known.",
    )?;
    for reason in Reason::ALL {
        out.sample(&[("reason", &reason.as_str())], Seconds(counters.loss(reason).first_ms))?;
    }
    out.family(
        "tidegate_samples_lost_last_timestamp_seconds",
        Kind::Gauge,
        "Time of the newest lost sample, 0 if none.",
    )?;
    for reason in Reason::ALL {
        out.sample(&[("reason", &reason.as_str())], Seconds(counters.loss(reason).last_ms))?;
    }
    Ok(())
}
