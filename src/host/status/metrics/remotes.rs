//! What was sent to each remote, under the names of Prometheus' queue manager.

use super::super::exposition::{Escaped, Kind, Writer};
use super::Seconds;
use crate::agent::Agent;
use crate::host::app::shared::{RemoteClient, Shared};
use crate::host::config::RemoteWrite;
use crate::host::http::ClientStats;
use crate::host::medium::Medium;
use crate::remote_write::sender::Sender;
use core::fmt::{self, Display, Write};
use smol::lock::Mutex;

/// One remote from all sides.
struct Remote<'a> {
    client: &'a RemoteClient,
    sender: &'a Sender,
    config: &'a RemoteWrite,
}

type Family = (&'static str, Kind, &'static str, fn(&Remote<'_>) -> u64);

const FAMILIES: [Family; 38] = [
    (
        "prometheus_remote_storage_samples_total",
        Kind::Counter,
        "Samples put on the wire, every attempt counted.",
        |r| r.sender.counters().samples,
    ),
    (
        "prometheus_remote_storage_samples_failed_total",
        Kind::Counter,
        "Samples refused for good: lost.",
        |r| r.sender.counters().samples_failed,
    ),
    (
        "prometheus_remote_storage_samples_retried_total",
        Kind::Counter,
        "Samples in attempts that are repeated.",
        |r| r.sender.counters().samples_retried,
    ),
    (
        "prometheus_remote_storage_bytes_total",
        Kind::Counter,
        "Compressed bodies put on the wire, bytes.",
        |r| r.sender.counters().bytes,
    ),
    (
        "prometheus_remote_storage_samples_pending",
        Kind::Gauge,
        "Samples gathered and not acknowledged.",
        |r| r.sender.pending().samples as u64,
    ),
    (
        "prometheus_remote_storage_histograms_total",
        Kind::Counter,
        "Native histograms put on the wire, every attempt counted.",
        |r| r.sender.counters().histograms.sent,
    ),
    (
        "prometheus_remote_storage_histograms_failed_total",
        Kind::Counter,
        "Native histograms refused for good: lost.",
        |r| r.sender.counters().histograms.failed,
    ),
    (
        "prometheus_remote_storage_histograms_retried_total",
        Kind::Counter,
        "Native histograms in attempts that are repeated.",
        |r| r.sender.counters().histograms.retried,
    ),
    (
        "prometheus_remote_storage_histograms_pending",
        Kind::Gauge,
        "Native histograms gathered and not acknowledged.",
        |r| r.sender.pending().histograms as u64,
    ),
    (
        "prometheus_remote_storage_exemplars_total",
        Kind::Counter,
        "Exemplars put on the wire, every attempt counted.",
        |r| r.sender.counters().exemplars.sent,
    ),
    (
        "prometheus_remote_storage_exemplars_failed_total",
        Kind::Counter,
        "Exemplars refused for good: lost.",
        |r| r.sender.counters().exemplars.failed,
    ),
    (
        "prometheus_remote_storage_exemplars_retried_total",
        Kind::Counter,
        "Exemplars in attempts that are repeated.",
        |r| r.sender.counters().exemplars.retried,
    ),
    (
        "prometheus_remote_storage_exemplars_pending",
        Kind::Gauge,
        "Exemplars gathered and not acknowledged.",
        |r| r.sender.pending().exemplars as u64,
    ),
    (
        "prometheus_remote_storage_metadata_total",
        Kind::Counter,
        "Metric families put on the wire in requests of their own (1.0), every attempt counted.",
        |r| r.sender.counters().metadata.sent,
    ),
    (
        "prometheus_remote_storage_metadata_failed_total",
        Kind::Counter,
        "Metric families refused for good.",
        |r| r.sender.counters().metadata.failed,
    ),
    (
        "prometheus_remote_storage_metadata_retried_total",
        Kind::Counter,
        "Metric families in attempts that are repeated.",
        |r| r.sender.counters().metadata.retried,
    ),
    (
        "prometheus_remote_storage_metadata_bytes_total",
        Kind::Counter,
        "Compressed bodies of metadata requests, bytes.",
        |r| r.sender.counters().metadata_bytes,
    ),
    (
        "prometheus_remote_storage_max_samples_per_send",
        Kind::Gauge,
        "Samples of a live request at most.",
        |r| r.config.queue_config.max_samples_per_send.into(),
    ),
    ("prometheus_remote_storage_shards", Kind::Gauge, "One, always.", |_| 1),
    (
        "prometheus_remote_storage_shards_min",
        Kind::Gauge,
        "One, always.",
        |_| 1,
    ),
    (
        "prometheus_remote_storage_shards_max",
        Kind::Gauge,
        "One, always.",
        |_| 1,
    ),
    (
        "tidegate_remote_write_samples_accepted_total",
        Kind::Counter,
        "Samples the receiver has.",
        |r| r.sender.counters().samples_accepted,
    ),
    (
        "tidegate_remote_write_ahead_samples_total",
        Kind::Counter,
        "Of the samples the receiver has, those sent ahead of a backlog (uplink.live_share).",
        |r| r.sender.counters().samples_ahead,
    ),
    (
        "tidegate_remote_write_ahead_frames",
        Kind::Gauge,
        "Scrapes delivered ahead of those that still wait.",
        |r| r.sender.delivered_ahead().map(|(first, end)| end.0 - first.0).sum(),
    ),
    (
        "tidegate_remote_write_samples_in_doubt_refused_total",
        Kind::Counter,
        "Samples refused after a restart because the receiver had them.",
        |r| r.sender.counters().samples_in_doubt,
    ),
    (
        "tidegate_remote_write_requests_total",
        Kind::Counter,
        "Requests with samples.",
        |r| r.sender.counters().requests,
    ),
    (
        "tidegate_remote_write_rate_limited_total",
        Kind::Counter,
        "Requests that have waited for uplink.rate_limit.",
        |r| r.sender.counters().rate_limited,
    ),
    (
        "tidegate_remote_write_errors_total",
        Kind::Counter,
        "Requests without an answer.",
        |r| r.sender.counters().errors,
    ),
    (
        "tidegate_remote_write_halved_total",
        Kind::Counter,
        "Batches halved because the receiver said too large.",
        |r| r.sender.counters().halved,
    ),
    (
        "tidegate_remote_write_eased_total",
        Kind::Counter,
        "Batches made smaller because the receiver said too many requests.",
        |r| r.sender.counters().eased,
    ),
    (
        "tidegate_remote_write_split_total",
        Kind::Counter,
        "Refused batches sent again in parts.",
        |r| r.sender.counters().split,
    ),
    (
        "tidegate_remote_write_holds_total",
        Kind::Counter,
        "Answers that led to holding samples back.",
        |r| r.sender.counters().holds,
    ),
    (
        "tidegate_remote_write_fallbacks_total",
        Kind::Counter,
        "Changes from remote write 2.0 to 1.0.",
        |r| r.sender.counters().fallbacks,
    ),
    (
        "tidegate_samples_rebased_total",
        Kind::Counter,
        "Samples sent with another time than the clock's: of boots that never knew the time, or held back after it was set back.",
        |r| r.sender.counters().dropped.rebased + r.sender.counters().dropped.held_back,
    ),
    (
        "tidegate_remote_write_clock_vetoes_total",
        Kind::Counter,
        "Times that sending stopped because the receiver's clock is far from ours.",
        |r| r.sender.counters().vetoes,
    ),
    (
        "tidegate_remote_write_clock_vetoed",
        Kind::Gauge,
        "1 while nothing is sent because the receiver's clock is far from ours.",
        |r| r.sender.is_vetoed().into(),
    ),
    (
        "tidegate_remote_write_failing",
        Kind::Gauge,
        "1 while the last attempt failed.",
        |r| r.client.failing.get().into(),
    ),
    (
        "tidegate_remote_write_held",
        Kind::Gauge,
        "1 while samples are held back for the operator to act.",
        |r| r.client.hold.get().is_some().into(),
    ),
];

/// Writes the families of the remotes.
pub(super) fn write<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    let agent = shared.agent.borrow();
    let live = shared.live();
    let all = || {
        let parts = shared
            .remotes
            .iter()
            .zip(agent.senders())
            .zip(&live.config.remote_write);
        parts.map(|((client, sender), config)| Remote { client, sender, config })
    };
    for (name, kind, help, value) in FAMILIES {
        out.family(name, kind, help)?;
        for remote in all() {
            sample(out, &remote, value(&remote))?;
        }
    }
    out.family(
        "prometheus_remote_storage_queue_highest_timestamp_seconds",
        Kind::Gauge,
        "Newest timestamp stored that this remote is to get.",
    )?;
    for (place, remote) in all().enumerate() {
        sample(out, &remote, Seconds(highest(&agent, shared, place, remote.sender)))?;
    }
    out.family(
        "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
        Kind::Gauge,
        "Newest timestamp accepted or refused.",
    )?;
    for (place, remote) in all().enumerate() {
        sample(out, &remote, Seconds(highest_sent(&agent, place, remote.sender)))?;
    }
    out.family(
        "prometheus_remote_storage_shards_desired",
        Kind::Gauge,
        "Senders side by side that would keep up; there is one.",
    )?;
    for (place, remote) in all().enumerate() {
        let behind = highest(&agent, shared, place, remote.sender) - highest_sent(&agent, place, remote.sender);
        sample(
            out,
            &remote,
            Seconds(remote.client.demand.borrow().desired_milli(behind)),
        )?;
    }
    let newest = all()
        .enumerate()
        .map(|(place, remote)| highest(&agent, shared, place, remote.sender))
        .max();
    out.single(
        "prometheus_remote_storage_highest_timestamp_in_seconds",
        Kind::Gauge,
        "Newest timestamp stored.",
        Seconds(newest.unwrap_or(0)),
    )?;
    out.family(
        "prometheus_remote_storage_samples_dropped_total",
        Kind::Counter,
        "Samples not sent, by reason.",
    )?;
    for remote in all() {
        let dropped = &remote.sender.counters().dropped;
        for (reason, value) in [
            ("too_old", dropped.too_old),
            ("dropped_series", dropped.dropped_series),
            ("unintentionally_dropped_series", dropped.unknown_series),
            ("clock_unknown", dropped.clock_unknown),
            ("clock_set_back", dropped.backward),
            ("too_large", dropped.too_large),
        ] {
            with(out, &remote, ("reason", &reason), value)?;
        }
    }
    out.family(
        "prometheus_remote_storage_histograms_dropped_total",
        Kind::Counter,
        "Native histograms not sent, by reason.",
    )?;
    for remote in all() {
        let dropped = &remote.sender.counters().dropped;
        for (reason, value) in [
            ("nhcb_in_rw1_not_supported", dropped.custom_buckets),
            ("send_native_histograms_off", dropped.unwanted_histograms),
            ("damaged", dropped.damaged_histograms),
        ] {
            with(out, &remote, ("reason", &reason), value)?;
        }
    }
    out.family(
        "prometheus_remote_storage_exemplars_dropped_total",
        Kind::Counter,
        "Exemplars not sent, by reason.",
    )?;
    for remote in all() {
        let dropped = &remote.sender.counters().dropped;
        with(out, &remote, ("reason", &"too_large"), dropped.large_exemplars)?;
    }
    out.family(
        "tidegate_remote_write_skipped_samples_total",
        Kind::Counter,
        "Samples that left the ring before this best-effort remote had them, estimated by the average scrape.",
    )?;
    for (place, remote) in all().enumerate() {
        let skipped = agent.ring().skipped(place);
        with(out, &remote, ("reason", &"released"), skipped.samples)?;
    }
    out.family(
        "tidegate_remote_write_skipped_frames_total",
        Kind::Counter,
        "Scrapes that left the ring before this best-effort remote had them.",
    )?;
    for (place, remote) in all().enumerate() {
        let skipped = agent.ring().skipped(place);
        with(out, &remote, ("reason", &"released"), skipped.frames)?;
    }
    out.family(
        "tidegate_remote_write_clock_ahead_seconds",
        Kind::Gauge,
        "Our clock less the receiver's, as its last answer said; absent while either is not known.",
    )?;
    let now = crate::host::runtime::now();
    for remote in all() {
        if let Some(ahead) = remote.sender.clock_ahead_ms(now, agent.wall(now)) {
            sample(out, &remote, Seconds(ahead))?;
        }
    }
    out.family(
        "tidegate_remote_write_wire_bytes_total",
        Kind::Counter,
        "Bytes on the wire, TLS and headers included; absent while a request is under way.",
    )?;
    for (remote, stats) in all().filter_map(with_stats) {
        with(out, &remote, ("direction", &"sent"), stats.wire_bytes_sent)?;
        with(out, &remote, ("direction", &"received"), stats.wire_bytes_received)?;
    }
    out.family(
        "tidegate_remote_write_connections_total",
        Kind::Counter,
        "Connections opened; absent while a request is under way.",
    )?;
    for (remote, stats) in all().filter_map(with_stats) {
        sample(out, &remote, stats.connections)?;
    }
    out.family(
        "tidegate_remote_write_tls_handshakes_total",
        Kind::Counter,
        "TLS handshakes, in full or resuming a session; absent while a request is under way.",
    )?;
    for (remote, stats) in all().filter_map(with_stats) {
        with(out, &remote, ("kind", &"full"), stats.tls_full)?;
        with(out, &remote, ("kind", &"resumed"), stats.tls_resumed)?;
    }
    Ok(())
}

/// A remote with what its HTTP client has counted, unless a request is under way.
fn with_stats(remote: Remote<'_>) -> Option<(Remote<'_>, ClientStats)> {
    let client = remote.client.client.as_ref().and_then(Mutex::try_lock)?;
    Some((remote, client.stats()))
}

/// Newest time that is stored and meant for a remote, milliseconds: while it has not got to the ring's end that of the newest frame, for
/// what it gathers stands still during an outage.
fn highest(agent: &Agent<Medium>, shared: &Shared, place: usize, sender: &Sender) -> i64 {
    let gathered = sender.counters().highest_timestamp_ms;
    if agent.ring().acknowledged(place) < agent.ring().next_frame() {
        gathered.max(shared.newest_ms.get())
    } else {
        gathered
    }
}

/// Newest time that is settled, milliseconds; before the first answer after a restart that of the run before.
fn highest_sent(agent: &Agent<Medium>, place: usize, sender: &Sender) -> i64 {
    let before = agent.ring().sent_until(place).map_or(0, |until| until.0);
    sender.counters().highest_sent_timestamp_ms.max(before)
}

fn sample<W: Write>(out: &mut Writer<'_, W>, remote: &Remote<'_>, value: impl Display) -> fmt::Result {
    let (name, url) = (Escaped(&remote.client.name), Escaped(&remote.client.url));
    out.sample(&[("remote_name", &name), ("url", &url)], value)
}

fn with<W: Write>(
    out: &mut Writer<'_, W>,
    remote: &Remote<'_>,
    label: (&str, &dyn Display),
    value: u64,
) -> fmt::Result {
    let (name, url) = (Escaped(&remote.client.name), Escaped(&remote.client.url));
    out.sample(&[("remote_name", &name), ("url", &url), label], value)
}
