//! `/api/v1/...` in Prometheus' shapes, and the same for people as plain text.

use super::json::{Escaped, Text};
use super::{Lifecycle, process};
use crate::host::app::shared::{Live, Shared};
use crate::host::civil::Timestamp;
use crate::host::config::Named;
use crate::host::runtime::{now, unix_now};
use crate::scrape::HealthState;
use core::fmt::{self, Write};

/// Time that Prometheus shows for "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

fn object(out: &mut impl Write, labels: &Named<alloc::string::String>) -> fmt::Result {
    out.write_char('{')?;
    for (index, (name, value)) in labels.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}{}:{}", Text(name), Text(value))?;
    }
    out.write_char('}')
}

/// Which targets were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetFilter<'a> {
    /// `state`: active, dropped or any.
    pub state: &'a str,
    /// `scrapePool`, empty for all.
    pub pool: &'a str,
}

/// Targets in one part of an answer: each has at most some 700 bytes of labels and as much of errors.
const TARGETS_PER_PART: usize = 16;

/// Part `part` of `/api/v1/targets`; whether there are more.
///
/// # Errors
/// `out` is full.
pub fn targets(out: &mut impl Write, shared: &Shared, filter: TargetFilter<'_>, part: u32) -> Result<bool, fmt::Error> {
    let live = shared.live();
    let (active, dropped) = (&live.targets.active, &live.targets.dropped);
    let wanted = |state: &str, job: usize| {
        filter.state != state && (filter.pool.is_empty() || filter.pool == live.job_name(job))
    };
    let active_wanted = |job| wanted("dropped", job);
    let dropped_wanted = |job| wanted("active", job);
    let from = part as usize * TARGETS_PER_PART;
    let mut first = if from <= active.len() {
        !active[..from].iter().any(|target| active_wanted(target.job))
    } else {
        let earlier = dropped.iter().take(from - active.len());
        !earlier.into_iter().any(|target| dropped_wanted(target.job))
    };
    if part == 0 {
        out.write_str("{\"status\":\"success\",\"data\":{\"activeTargets\":[")?;
    }
    for item in from..from + TARGETS_PER_PART {
        if item == active.len() {
            out.write_str("],\"droppedTargets\":[")?;
            first = true;
        }
        if let Some(target) = active.get(item) {
            if active_wanted(target.job) {
                comma(out, &mut first)?;
                active_target(out, shared, &live, item)?;
            }
        } else if let Some(target) = dropped.get(item - active.len()) {
            if dropped_wanted(target.job) {
                comma(out, &mut first)?;
                out.write_str("{\"discoveredLabels\":")?;
                object(out, &target.discovered)?;
                write!(out, ",\"scrapePool\":{}}}", Text(live.job_name(target.job)))?;
            }
        } else {
            dropped_counts(out, &live)?;
            return Ok(false);
        }
    }
    Ok(true)
}

fn dropped_counts(out: &mut impl Write, live: &Live) -> fmt::Result {
    out.write_str("],\"droppedTargetCounts\":{")?;
    let mut first = true;
    for (job, count) in live.targets.dropped_counts.iter().enumerate() {
        comma(out, &mut first)?;
        write!(out, "{}:{count}", Text(live.job_name(job)))?;
    }
    out.write_str("}}}\n")
}

fn comma(out: &mut impl Write, first: &mut bool) -> fmt::Result {
    if core::mem::take(first) {
        Ok(())
    } else {
        out.write_char(',')
    }
}

fn active_target(out: &mut impl Write, shared: &Shared, live: &Live, number: usize) -> fmt::Result {
    let (Some(target), Some(&reference)) = (live.targets.active.get(number), live.references.get(number)) else {
        return Ok(());
    };
    out.write_str("{\"discoveredLabels\":")?;
    object(out, &target.discovered)?;
    out.write_str(",\"labels\":")?;
    object(out, &target.labels)?;
    let url = target.url();
    write!(
        out,
        ",\"scrapePool\":{},\"scrapeUrl\":{},\"globalUrl\":{}",
        Text(live.job_name(target.job)),
        Text(&url),
        Text(&url)
    )?;
    let agent = shared.agent.borrow();
    let health = agent.reports().health(reference);
    write!(
        out,
        ",\"lastError\":{}",
        Text(health.map_or("", |health| health.error()))
    )?;
    let wall = health
        .and_then(|health| health.last_scrape)
        .and_then(|at| agent.wall(at));
    match wall {
        Some(wall) => write!(out, ",\"lastScrape\":{}", Text(Timestamp(wall.0)))?,
        None => write!(out, ",\"lastScrape\":{}", Text(NEVER))?,
    }
    let duration = health.map_or(0, |health| health.duration_100us);
    write!(
        out,
        ",\"lastScrapeDuration\":{}.{:04}",
        duration / 10_000,
        duration % 10_000
    )?;
    let state = health.map_or(HealthState::Unknown, |health| health.state);
    write!(
        out,
        ",\"health\":{},\"scrapeInterval\":{},\"scrapeTimeout\":{}}}",
        Text(state.as_str()),
        Text(target.interval),
        Text(target.timeout)
    )
}

/// Families in one part of an answer: a name, a help and a unit of a KiB each may take six times that when escaped.
const FAMILIES_PER_PART: usize = 3;

/// Which families' metadata was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataFilter<'a> {
    /// `metric`, empty for all.
    pub family: &'a str,
    /// `limit`: families at most, 0 for all.
    pub limit: usize,
}

/// Part `part` of `/api/v1/targets/metadata`; whether there are more. `None`: nothing is known, and nothing was written.
///
/// # Errors
/// `out` is full.
pub fn targets_metadata(
    out: &mut impl Write,
    shared: &Shared,
    filter: MetadataFilter<'_>,
    part: u32,
) -> Result<Option<bool>, fmt::Error> {
    let (agent, live) = (shared.agent.borrow(), shared.live());
    let limit = if filter.limit == 0 { usize::MAX } else { filter.limit };
    let mut wanted = agent
        .metadata()
        .iter()
        .filter(|(_, family, _)| filter.family.is_empty() || filter.family == *family)
        .take(limit)
        .skip(part as usize * FAMILIES_PER_PART)
        .peekable();
    if part == 0 {
        if wanted.peek().is_none() {
            return Ok(None);
        }
        out.write_str("{\"status\":\"success\",\"data\":[")?;
    }
    let mut first = part == 0;
    for (t, family, entry) in wanted.by_ref().take(FAMILIES_PER_PART) {
        comma(out, &mut first)?;
        out.write_str("{\"target\":")?;
        match live.target(t) {
            Some(target) => object(out, &target.labels)?,
            None => out.write_str("{}")?,
        }
        if filter.family.is_empty() {
            write!(out, ",\"metric\":{}", Text(family))?;
        }
        let (kind, help, unit) = (entry.kind.as_str(), Text(entry.help), Text(entry.unit));
        write!(out, ",\"type\":\"{kind}\",\"help\":{help},\"unit\":{unit}}}")?;
    }
    let more = wanted.peek().is_some();
    if !more {
        out.write_str("]}\n")?;
    }
    Ok(Some(more))
}

/// Bytes of the configuration in one part of an answer; each may take six when escaped.
const CONFIG_PER_PART: usize = 8 * 1024;

/// Part `part` of `/api/v1/status/config`; whether there are more.
///
/// # Errors
/// `out` is full.
pub fn config(out: &mut impl Write, shared: &Shared, part: u32) -> Result<bool, fmt::Error> {
    let mut yaml = alloc::string::String::new();
    shared.live().config.write_yaml(&mut yaml)?;
    let from = part as usize * CONFIG_PER_PART;
    let piece = yaml.get(yaml.ceil_char_boundary(from)..yaml.ceil_char_boundary(from + CONFIG_PER_PART));
    if part == 0 {
        out.write_str("{\"status\":\"success\",\"data\":{\"yaml\":\"")?;
    }
    write!(out, "{}", Escaped(piece.unwrap_or_default()))?;
    let more = from + CONFIG_PER_PART < yaml.len();
    if !more {
        out.write_str("\"}}\n")?;
    }
    Ok(more)
}

/// `/api/v1/status/buildinfo`.
///
/// # Errors
/// `out` is full.
pub fn buildinfo(out: &mut impl Write) -> fmt::Result {
    writeln!(
        out,
        "{{\"status\":\"success\",\"data\":{{\"version\":{},\"revision\":\"\",\"branch\":\"\",\"buildUser\":\"\",\
         \"buildDate\":\"\",\"goVersion\":\"\"}}}}",
        Text(env!("CARGO_PKG_VERSION"))
    )
}

/// `/api/v1/status/flags`.
///
/// # Errors
/// `out` is full.
pub fn flags(out: &mut impl Write, lifecycle: &Lifecycle) -> fmt::Result {
    writeln!(
        out,
        "{{\"status\":\"success\",\"data\":{{\"log.level\":{},\"web.enable-lifecycle\":\"{}\"}}}}",
        Text(log::max_level().as_str().to_ascii_lowercase()),
        lifecycle.enabled()
    )
}

/// `/api/v1/status/runtimeinfo`.
///
/// # Errors
/// `out` is full.
pub fn runtimeinfo(out: &mut impl Write, shared: &Shared, lifecycle: &Lifecycle) -> fmt::Result {
    let cwd = std::env::current_dir()
        .map(|path| alloc::format!("{}", path.display()))
        .unwrap_or_default();
    let node = rustix::system::uname();
    let corrupt = shared.agent.borrow().ring().counters().damaged_blocks;
    writeln!(
        out,
        "{{\"status\":\"success\",\"data\":{{\"startTime\":{},\"CWD\":{},\"hostname\":{},\"serverTime\":{},\
         \"reloadConfigSuccess\":{},\"lastConfigTime\":{},\"corruptionCount\":{corrupt},\"goroutineCount\":0,\
         \"GOMAXPROCS\":1,\"GOMEMLIMIT\":0,\"GOGC\":\"\",\"GODEBUG\":\"\",\"storageRetention\":{}}}}}",
        Text(Timestamp(process::start(unix_now()).0)),
        Text(cwd),
        Text(node.nodename().to_string_lossy()),
        Text(Timestamp(unix_now().0)),
        lifecycle.last_reload_successful(),
        Text(Timestamp(lifecycle.loaded().0)),
        Text(shared.live().config.tidegate.ring.size)
    )
}

/// What `tidegate status` prints.
///
/// # Errors
/// `out` is full.
pub fn text(out: &mut impl Write, shared: &Shared) -> fmt::Result {
    let agent = shared.agent.borrow();
    let stats = agent.ring().stats();
    writeln!(out, "tidegate {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "\nTARGETS")?;
    let live = shared.live();
    for (target, reference) in live.targets.active.iter().zip(&live.references) {
        let health = agent.reports().health(*reference);
        let (state, samples, error) = health.map_or(("unknown", 0, ""), |health| {
            (health.state.as_str(), health.samples, health.error())
        });
        writeln!(
            out,
            "  {state:<8}{samples:>7} samples  every {:<5} {}  {error}",
            target.interval,
            target.url()
        )?;
    }
    writeln!(out, "\nRING {}", live.config.tidegate.ring.path)?;
    let state = match (stats.degraded, stats.stopped) {
        (true, _) => "DEGRADED: takes no writes, samples are kept in memory only",
        (_, true) => "FULL: new samples are not kept",
        _ => "healthy",
    };
    writeln!(
        out,
        "  {state}; {} of {} slots in use, {} bytes free",
        stats.used_slots, stats.slots, stats.free_bytes
    )?;
    writeln!(
        out,
        "  {} scrapes ({} samples) wait on the ring, {} scrapes ({} samples) in memory",
        stats.backlog_frames, stats.backlog_samples, stats.staged_frames, stats.staged_samples
    )?;
    if let Some(oldest) = stats.oldest_unix_ms {
        writeln!(out, "  oldest waiting: {}", Timestamp(oldest))?;
    }
    for reason in crate::wal::Reason::ALL {
        let loss = agent.ring().counters().loss(reason);
        if loss.samples > 0 {
            writeln!(out, "  LOST {} samples ({})", loss.samples, reason.as_str())?;
        }
    }
    writeln!(out, "\nREMOTES")?;
    for (remote, sender) in shared.remotes.iter().zip(agent.senders()) {
        let counters = sender.counters();
        let state = match (remote.hold.get(), remote.failing.get()) {
            (Some(_), _) => "held",
            (None, true) => "failing",
            (None, false) => "ok",
        };
        writeln!(
            out,
            "  {state:<8}{} {}  {} samples accepted, {} lost  {}",
            remote.name,
            remote.url,
            counters.samples_accepted,
            counters.samples_failed + counters.histograms.failed,
            remote.last_error.borrow()
        )?;
    }
    if agent.wall(now()).is_none() {
        writeln!(out, "\nCLOCK not set: samples wait until it is")?;
    }
    Ok(())
}
