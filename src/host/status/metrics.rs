//! `/metrics`: our own counters, under Prometheus' names where it has one, so that dashboards and alerts fit.

use super::exposition::{Escaped, Kind, TextFormat, Writer};
use crate::host::app::shared::Shared;
use crate::host::heap::heap_use;
use crate::host::runtime::{loop_stats, now, take_longest_step, unix_now};
use crate::remote_write::sender::Counters as Sent;
use crate::wal::Reason;
use core::fmt::{self, Display, Write};

/// Milliseconds shown as seconds.
struct Seconds(i64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let ms = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:03}", ms / 1_000, ms % 1_000)
    }
}

/// Microseconds shown as seconds.
struct MicroSeconds(u64);

impl Display for MicroSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Writes the whole exposition.
///
/// # Errors
/// `out` is full.
pub fn write(out: &mut impl Write, format: TextFormat, shared: &Shared, lifecycle: &super::Lifecycle) -> fmt::Result {
    let mut writer = Writer::new(out, format);
    build(&mut writer, lifecycle)?;
    scrapes(&mut writer, shared)?;
    ring(&mut writer, shared)?;
    losses(&mut writer, shared)?;
    remotes(&mut writer, shared)?;
    process(&mut writer, shared)?;
    writer.finish()
}

fn build<W: Write>(out: &mut Writer<'_, W>, lifecycle: &super::Lifecycle) -> fmt::Result {
    out.family("tidegate_build_info", Kind::Gauge, "Version of the program; always 1.")?;
    out.sample(&[("version", &env!("CARGO_PKG_VERSION"))], 1)?;
    out.single(
        "tidegate_config_last_reload_successful",
        Kind::Gauge,
        "Whether the last reload of the configuration was successful.",
        u8::from(lifecycle.last_reload_successful()),
    )?;
    out.single(
        "tidegate_config_last_reload_success_timestamp_seconds",
        Kind::Gauge,
        "When the configuration in force was loaded.",
        Seconds(lifecycle.loaded().0),
    )
}

fn scrapes<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    let agent = shared.agent.borrow();
    let mut previous = "";
    let mut result = Ok(());
    agent.reports().counters.for_each(|name, labels, help, value| {
        if result.is_err() {
            return;
        }
        if name != previous {
            result = out.family(name, Kind::Counter, help);
            previous = name;
        }
        let pair = labels.split_once('=');
        result = result.and_then(|()| match pair {
            Some((label, text)) => out.sample(&[(label, &text.trim_matches('"'))], value),
            None => out.sample(&[], value),
        });
    });
    result?;
    out.single(
        "tidegate_targets",
        Kind::Gauge,
        "Targets being scraped.",
        agent.targets().len(),
    )?;
    out.single("tidegate_series", Kind::Gauge, "Series known.", agent.catalogue().len())?;
    out.single(
        "tidegate_series_limit",
        Kind::Gauge,
        "Series there is room for (tidegate.memory.max_series).",
        agent.catalogue().capacity(),
    )?;
    out.single(
        "tidegate_catalogue_text_bytes",
        Kind::Gauge,
        "Bytes of series names and labels kept.",
        agent.catalogue().text_bytes_used(),
    )
}

fn ring<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    let agent = shared.agent.borrow();
    let (stats, counters) = (agent.ring().stats(), *agent.ring().counters());
    let block = shared.config.tidegate.ring.block_size.bytes;
    for (name, help, value) in [
        ("tidegate_ring_slots", "Slots of the ring.", u64::from(stats.slots)),
        (
            "tidegate_ring_slots_used",
            "Slots that hold samples not yet acknowledged.",
            u64::from(stats.used_slots),
        ),
        (
            "tidegate_ring_size_bytes",
            "Bytes of the ring on its medium.",
            shared.config.tidegate.ring.size.bytes,
        ),
        (
            "tidegate_ring_free_bytes",
            "Bytes that can be written before unacknowledged samples must go.",
            stats.free_bytes,
        ),
        (
            "tidegate_ring_backlog_frames",
            "Scrapes on the ring that are not acknowledged.",
            stats.backlog_frames,
        ),
        (
            "tidegate_ring_backlog_samples",
            "Samples in them, estimated within a segment.",
            stats.backlog_samples,
        ),
        (
            "tidegate_ring_staged_frames",
            "Scrapes that wait in memory.",
            stats.staged_frames,
        ),
        (
            "tidegate_ring_staged_samples",
            "Samples that wait in memory.",
            stats.staged_samples,
        ),
        (
            "tidegate_ring_staged_blocks",
            "Blocks of memory in use for them.",
            stats.staged_blocks as u64,
        ),
        (
            "tidegate_ring_staging_blocks",
            "Blocks of memory there are for them.",
            stats.staging_blocks as u64,
        ),
        (
            "tidegate_storage_degraded",
            "1 while the medium takes no writes and samples are kept in memory only.",
            u64::from(stats.degraded),
        ),
        (
            "tidegate_ring_stopped",
            "1 while the ring is full and told to stop.",
            u64::from(stats.stopped),
        ),
    ] {
        out.single(name, Kind::Gauge, help, value)?;
    }
    if let Some(oldest) = stats.oldest_unix_ms {
        out.single(
            "tidegate_ring_oldest_timestamp_seconds",
            Kind::Gauge,
            "Time of the oldest sample not acknowledged.",
            Seconds(oldest),
        )?;
    }
    for (name, help, value) in [
        (
            "tidegate_ring_frames_appended_total",
            "Scrapes stored.",
            counters.frames_appended,
        ),
        (
            "tidegate_ring_samples_appended_total",
            "Samples stored.",
            counters.samples_appended,
        ),
        (
            "tidegate_ring_frames_acknowledged_in_memory_total",
            "Scrapes delivered before they were written.",
            counters.frames_acknowledged_in_memory,
        ),
        (
            "tidegate_ring_commits_total",
            "Commits that reached the medium.",
            counters.commits,
        ),
        (
            "tidegate_ring_commits_failed_total",
            "Commits that came to nothing.",
            shared.commits.failed.get(),
        ),
        (
            "tidegate_ring_blocks_written_total",
            "Blocks written, copies included.",
            counters.blocks_written,
        ),
        (
            "tidegate_ring_bytes_written_total",
            "Bytes written to the medium.",
            counters.blocks_written * block,
        ),
        (
            "tidegate_ring_slots_erased_total",
            "Slots erased.",
            counters.slots_erased,
        ),
        (
            "tidegate_ring_syncs_total",
            "Syncs that the medium confirmed.",
            counters.syncs,
        ),
        (
            "tidegate_ring_write_errors_total",
            "Writes, erases and syncs that failed.",
            counters.write_errors,
        ),
        (
            "tidegate_ring_read_errors_total",
            "Reads that failed.",
            counters.read_errors,
        ),
        (
            "tidegate_ring_damaged_blocks_total",
            "Blocks found damaged.",
            counters.damaged_blocks,
        ),
        (
            "tidegate_ring_segments_opened_total",
            "Segments opened.",
            counters.segments_opened,
        ),
    ] {
        out.single(name, Kind::Counter, help, value)?;
    }
    out.single(
        "tidegate_ring_commit_seconds_total",
        Kind::Counter,
        "Time spent in commits; the agent does nothing else meanwhile.",
        MicroSeconds(shared.commits.total_us.get()),
    )?;
    out.single(
        "tidegate_ring_commit_seconds_max",
        Kind::Gauge,
        "Longest commit.",
        MicroSeconds(shared.commits.longest_us.get()),
    )
}

fn losses<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    let agent = shared.agent.borrow();
    let counters = agent.ring().counters();
    out.family(
        "tidegate_samples_lost_total",
        Kind::Counter,
        "Samples that will never be sent, since the ring was formatted, by reason.",
    )?;
    for reason in Reason::ALL {
        out.sample(&[("reason", &reason.as_str())], counters.loss(reason).samples)?;
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

/// A family with a value per remote.
type PerRemote = (&'static str, Kind, &'static str, fn(&Sent) -> i64);

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

const PER_REMOTE: [PerRemote; 13] = [
    (
        "prometheus_remote_storage_samples_total",
        Kind::Counter,
        "Samples put on the wire, every attempt counted.",
        |c| count(c.samples),
    ),
    (
        "prometheus_remote_storage_samples_failed_total",
        Kind::Counter,
        "Samples refused for good: lost.",
        |c| count(c.samples_failed),
    ),
    (
        "prometheus_remote_storage_samples_retried_total",
        Kind::Counter,
        "Samples in attempts that are repeated.",
        |c| count(c.samples_retried),
    ),
    (
        "prometheus_remote_storage_bytes_total",
        Kind::Counter,
        "Compressed bodies put on the wire, bytes.",
        |c| count(c.bytes),
    ),
    (
        "tidegate_remote_write_samples_accepted_total",
        Kind::Counter,
        "Samples the receiver has.",
        |c| count(c.samples_accepted),
    ),
    (
        "tidegate_remote_write_samples_in_doubt_refused_total",
        Kind::Counter,
        "Samples refused after a restart because the receiver had them.",
        |c| count(c.samples_in_doubt),
    ),
    (
        "tidegate_remote_write_requests_total",
        Kind::Counter,
        "Requests with samples.",
        |c| count(c.requests),
    ),
    (
        "tidegate_remote_write_errors_total",
        Kind::Counter,
        "Requests without an answer.",
        |c| count(c.errors),
    ),
    (
        "tidegate_remote_write_halved_total",
        Kind::Counter,
        "Batches halved because the receiver said too large.",
        |c| count(c.halved),
    ),
    (
        "tidegate_remote_write_split_total",
        Kind::Counter,
        "Refused batches sent again in parts.",
        |c| count(c.split),
    ),
    (
        "tidegate_remote_write_holds_total",
        Kind::Counter,
        "Answers that led to holding samples back.",
        |c| count(c.holds),
    ),
    (
        "tidegate_remote_write_fallbacks_total",
        Kind::Counter,
        "Changes from remote write 2.0 to 1.0.",
        |c| count(c.fallbacks),
    ),
    (
        "prometheus_remote_storage_max_samples_per_send",
        Kind::Gauge,
        "Not used: see the configuration.",
        |_| 0,
    ),
];

fn remotes<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    let agent = shared.agent.borrow();
    let pairs = || shared.remotes.iter().zip(agent.senders());
    for (name, kind, help, value) in &PER_REMOTE[..PER_REMOTE.len() - 1] {
        out.family(name, *kind, help)?;
        for (remote, sender) in pairs() {
            let labels: [(&str, &dyn Display); 2] =
                [("remote_name", &Escaped(&remote.name)), ("url", &Escaped(&remote.url))];
            out.sample(&labels, value(sender.counters()))?;
        }
    }
    out.family(
        "prometheus_remote_storage_samples_dropped_total",
        Kind::Counter,
        "Samples not sent, by reason.",
    )?;
    for (remote, sender) in pairs() {
        let dropped = &sender.counters().dropped;
        for (reason, value) in [
            ("too_old", dropped.too_old),
            ("dropped_series", dropped.dropped_series),
            ("unintentionally_dropped_series", dropped.unknown_series),
            ("clock_unknown", dropped.clock_unknown),
            ("too_large", dropped.too_large),
        ] {
            let labels: [(&str, &dyn Display); 3] = [
                ("remote_name", &Escaped(&remote.name)),
                ("url", &Escaped(&remote.url)),
                ("reason", &reason),
            ];
            out.sample(&labels, value)?;
        }
    }
    out.family(
        "prometheus_remote_storage_samples_pending",
        Kind::Gauge,
        "Samples gathered and not acknowledged.",
    )?;
    for (remote, sender) in pairs() {
        let labels: [(&str, &dyn Display); 2] =
            [("remote_name", &Escaped(&remote.name)), ("url", &Escaped(&remote.url))];
        out.sample(&labels, sender.samples_pending())?;
    }
    for (name, help, value) in [
        (
            "prometheus_remote_storage_queue_highest_timestamp_seconds",
            "Newest timestamp gathered.",
            (|c| c.highest_timestamp_ms) as fn(&Sent) -> i64,
        ),
        (
            "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
            "Newest timestamp accepted or refused.",
            |c| c.highest_sent_timestamp_ms,
        ),
    ] {
        out.family(name, Kind::Gauge, help)?;
        for (remote, sender) in pairs() {
            let labels: [(&str, &dyn Display); 2] =
                [("remote_name", &Escaped(&remote.name)), ("url", &Escaped(&remote.url))];
            out.sample(&labels, Seconds(value(sender.counters())))?;
        }
    }
    let newest = agent
        .senders()
        .iter()
        .map(|sender| sender.counters().highest_timestamp_ms)
        .max()
        .unwrap_or(0);
    out.single(
        "prometheus_remote_storage_highest_timestamp_in_seconds",
        Kind::Gauge,
        "Newest timestamp gathered for any remote.",
        Seconds(newest),
    )?;
    for (name, kind, help, value) in [
        (
            "tidegate_remote_write_failing",
            Kind::Gauge,
            "1 while the last attempt failed.",
            (|r| u64::from(r.failing.get())) as fn(&crate::host::app::shared::RemoteClient) -> u64,
        ),
        (
            "tidegate_remote_write_held",
            Kind::Gauge,
            "1 while samples are held back for the operator to act.",
            |r| u64::from(r.hold.get().is_some()),
        ),
    ] {
        out.family(name, kind, help)?;
        for remote in &shared.remotes {
            out.sample(
                &[("remote_name", &Escaped(&remote.name)), ("url", &Escaped(&remote.url))],
                value(remote),
            )?;
        }
    }
    wire(out, shared)
}

fn wire<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    out.family(
        "tidegate_remote_write_wire_bytes_total",
        Kind::Counter,
        "Bytes on the wire, TLS and headers included; connections with a request under way count once it has ended.",
    )?;
    for remote in &shared.remotes {
        let Some(client) = remote.client.try_lock() else {
            continue;
        };
        let stats = client.stats();
        for (direction, bytes) in [("sent", stats.wire_bytes_sent), ("received", stats.wire_bytes_received)] {
            let labels: [(&str, &dyn Display); 2] =
                [("remote_name", &Escaped(&remote.name)), ("direction", &direction)];
            out.sample(&labels, bytes)?;
        }
    }
    Ok(())
}

fn process<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    let heap = heap_use();
    out.single("tidegate_heap_bytes", Kind::Gauge, "Heap in use.", heap.live_bytes)?;
    out.single(
        "tidegate_heap_peak_bytes",
        Kind::Gauge,
        "Most heap ever in use.",
        heap.peak_bytes,
    )?;
    out.single(
        "tidegate_heap_allocations_total",
        Kind::Counter,
        "Allocations.",
        heap.allocations,
    )?;
    let clock_known = shared.agent.borrow().wall(now()).is_some();
    out.single(
        "tidegate_clock_trusted",
        Kind::Gauge,
        "1 once wall time is believed.",
        u8::from(clock_known),
    )?;
    let steps = loop_stats();
    out.single(
        "tidegate_loop_wakeups_total",
        Kind::Counter,
        "Times the loop has waited and gone on.",
        steps.steps,
    )?;
    let longest = u64::try_from(take_longest_step().as_micros()).unwrap_or(u64::MAX);
    out.single(
        "tidegate_loop_longest_step_seconds",
        Kind::Gauge,
        "Longest time between two waits since the last scrape of this page.",
        MicroSeconds(longest),
    )?;
    if let Some((resident, cpu)) = super::process::usage() {
        out.single(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory.",
            resident,
        )?;
        out.single(
            "process_cpu_seconds_total",
            Kind::Counter,
            "CPU time, user and system.",
            MicroSeconds(cpu),
        )?;
    }
    out.single(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started.",
        Seconds(super::process::start(unix_now()).0),
    )
}
