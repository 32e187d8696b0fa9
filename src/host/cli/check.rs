//! `tidegate check`: is the configuration right, what memory does it take, how long does the ring last.

use super::EXIT_CONFIGURATION;
use crate::host::app::build::Plan;
use crate::host::app::factory;
use crate::host::config::{Config, Loaded, Scheme, TargetSpec};
use crate::host::logger;
use crate::host::medium::Kind;
use crate::wal::wear::MILLIBYTES_PER_SAMPLE;
use alloc::string::String;
use std::process::ExitCode;

/// Checks the configuration at `path`; opens no ring and no connection.
pub fn run(path: &str) -> ExitCode {
    logger::init(log::LevelFilter::Warn);
    match check(path) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_CONFIGURATION),
        Err(error) => {
            std::eprintln!("{error}");
            ExitCode::from(EXIT_CONFIGURATION)
        }
    }
}

fn check(path: &str) -> Result<bool, String> {
    let text = |error: &dyn core::fmt::Display| alloc::format!("{error}");
    let Loaded { config, warnings } = Config::load(path).map_err(|error| text(&error))?;
    for warning in &warnings {
        std::println!("warning: {warning}");
    }
    let plan = Plan::new(config, &factory()).map_err(|error| text(&error))?;
    let (config, targets) = (&plan.config, &plan.targets);
    for problem in &targets.broken_files {
        std::println!("warning: {problem}");
    }
    for failed in &targets.failed {
        let job = config
            .scrape_configs
            .get(failed.job)
            .map_or("", |job| job.job_name.as_str());
        std::println!("warning: a target of job {job} cannot be scraped: {}", failed.error);
    }
    for remote in &config.remote_write {
        if remote.url.scheme == Scheme::Other {
            std::println!(
                "warning: nothing can be sent to {}: expected an http or https URL",
                remote.url
            );
        }
    }
    std::println!("{path} is valid.");
    std::println!("\nTargets ({}):", targets.active.len());
    for target in &targets.active {
        print_target(target);
    }
    std::println!("\nReceivers ({}):", config.remote_write.len());
    for remote in &config.remote_write {
        std::println!("  {}  {}", remote.name, remote.url);
        #[cfg(feature = "sigv4")]
        match remote.http_client().signer().map(|signer| signer.look()) {
            Some(Ok(found)) => std::println!("    requests are signed: {found}"),
            Some(Err(error)) => std::println!("    warning: requests cannot be signed as things are: {error}"),
            None => {}
        }
    }
    let memory = config.plan(targets);
    std::println!("\nMemory plan, bytes of heap:\n{memory}");
    print_ring(config, targets);
    Ok(memory.fits())
}

fn print_target(target: &TargetSpec) {
    std::println!(
        "  {}  every {}, timeout {}  {{{}}}",
        target.url(),
        target.interval,
        target.timeout,
        target.body
    );
}

fn print_ring(config: &Config, targets: &crate::host::config::Targets) {
    let ring = &config.tidegate.ring;
    std::println!(
        "Ring {}: {}, segments of {}, blocks of {}, committed every {}",
        ring.path,
        ring.size,
        ring.segment_size,
        ring.block_size,
        ring.commit_interval
    );
    let series = u64::from(config.tidegate.memory.max_series);
    for share in [1, 4] {
        let duration = config.ring_duration(targets, series / share);
        std::println!(
            "  with {:>6} series: {} samples a day; an outage of {} fits",
            series / share,
            duration.samples_per_day,
            Days(duration.ms)
        );
        let laps = duration.millilaps_per_year;
        std::println!(
            "    wear while it lasts, a day: {} commits, {} bytes on the ring, {} bytes at the block layer; {}.{} laps a year",
            duration.wear.commits_per_day,
            duration.wear.bytes_per_day,
            duration.wear.device_bytes_per_day,
            laps / 1_000,
            laps % 1_000 / 100
        );
    }
    let limit = config.tidegate.uplink.rate_limit;
    if !limit.is_zero() {
        std::println!("  uplink: each remote is sent at most {limit} a second");
    }
    let share = config.tidegate.uplink.live_share;
    if share.thousandths > 0 {
        for remote in config.remote_write.iter().filter(|remote| remote.accepts_out_of_order) {
            std::println!(
                "  uplink: {} gets fresh samples ahead of a backlog, for up to {share} of the link",
                remote.name
            );
        }
    }
    std::println!(
        "  Assumed: {}.{:02} bytes a sample before padding to blocks (noisy analogue values take 1.5 to 3), series spread evenly \
         over the targets within their sample_limit{}. While the uplink works nothing is written at all.",
        MILLIBYTES_PER_SAMPLE / 1_000,
        MILLIBYTES_PER_SAMPLE % 1_000 / 10,
        match config.ring_kind() {
            Kind::File => ", a file system that adds 130 bytes a commit",
            Kind::Block => ", slots behind the first 4 MiB",
            Kind::Mtd => ", a lap is one erase of every slot",
        }
    );
}

/// Milliseconds as days or hours, whichever says more.
struct Days(u64);

impl core::fmt::Display for Days {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let tenths = self.0 / 360_000;
        if tenths < 480 {
            return write!(f, "{}.{} hours", tenths / 10, tenths % 10);
        }
        let tenths = self.0 / 8_640_000;
        write!(f, "{}.{} days", tenths / 10, tenths % 10)
    }
}
