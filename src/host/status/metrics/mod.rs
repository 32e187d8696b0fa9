//! `/metrics`: our own counters, under Prometheus' names where it has one, so that dashboards and alerts fit.

mod memory;
mod remotes;
mod ring;
mod steps;

use super::exposition::{Kind, TextFormat, Writer};
use crate::host::app::shared::Shared;
use crate::host::runtime::{now, take_longest_steps, unix_now};
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

/// Somebody has got the whole exposition: what is measured from one to the next begins anew.
pub fn written() {
    take_longest_steps();
}

/// Writes the whole exposition.
///
/// # Errors
/// `out` is full.
pub fn write(out: &mut impl Write, format: TextFormat, shared: &Shared) -> fmt::Result {
    let mut writer = Writer::new(out, format);
    build(&mut writer, &shared.lifecycle)?;
    scrapes(&mut writer, shared)?;
    ring::write(&mut writer, shared)?;
    remotes::write(&mut writer, shared)?;
    memory::write(&mut writer, shared)?;
    steps::write(&mut writer)?;
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
        "prometheus_sd_file_read_errors_total",
        Kind::Counter,
        "Files of file_sd_configs that could not be read.",
        shared.file_sd.read_errors.get(),
    )?;
    let catalogue = agent.catalogue();
    for (name, help, value) in [
        ("tidegate_targets", "Targets being scraped.", agent.targets().count()),
        ("tidegate_series", "Series known.", catalogue.len()),
        (
            "tidegate_series_limit",
            "Series there is room for (tidegate.memory.max_series).",
            catalogue.capacity(),
        ),
        (
            "tidegate_catalogue_text_bytes",
            "Bytes of series names and labels kept.",
            catalogue.text_bytes_used(),
        ),
        (
            "tidegate_metadata_families",
            "Metric families whose type, help and unit are kept, each counted for every target.",
            agent.metadata().len(),
        ),
    ] {
        out.single(name, Kind::Gauge, help, value)?;
    }
    out.single(
        "tidegate_metadata_refused_total",
        Kind::Counter,
        "TYPE, HELP and UNIT lines not kept for want of room (tidegate.memory.metadata).",
        agent.metadata().refused(),
    )
}

fn process<W: Write>(out: &mut Writer<'_, W>, shared: &Shared) -> fmt::Result {
    let trusted = shared.agent.borrow().wall(now()).is_some();
    out.single(
        "tidegate_clock_trusted",
        Kind::Gauge,
        "1 once wall time is believed.",
        u8::from(trusted),
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
    let start = super::process::start(unix_now());
    out.single(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process started.",
        Seconds(start.0),
    )
}
