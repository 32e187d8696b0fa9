//! The command line: what is accepted, and its help.
//!
//! argh takes `--option value` only. [`normalise`] lets `--option=value` and Prometheus' dotted names
//! (`--config.file=...`) through as well, so that existing unit files keep working.

#[cfg(feature = "tools")]
mod tools;

// The derive macro writes `vec!` and `format!` without their path.
use crate::host::config::Size;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use argh::FromArgs;
use std::prelude::v1::*;
#[cfg(feature = "tools")]
pub use tools::{Demo, RingExport, RingInfo, RingVerify, Status};

/// Scrape static Prometheus targets, keep the samples in a fixed ring on flash, drain them by remote write.
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(
    name = "tidegate",
    note = "Exit codes: 0 success; 1 could not start or failed; 2 the configuration or the command line is wrong; \
            3 a ring has faults (ring verify).",
    help_triggers("-h", "--help", "help")
)]
pub struct Args {
    /// print the version and exit
    #[argh(switch)]
    pub version: bool,

    /// what to do
    #[argh(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand)]
#[expect(missing_docs, reason = "each is documented at its arguments")]
#[cfg_attr(
    feature = "tools",
    expect(clippy::large_enum_variant, reason = "there is one, parsed once")
)]
pub enum Command {
    Run(Run),
    Check(Check),
    #[cfg(feature = "tools")]
    Status(Status),
    Ring(Ring),
    #[cfg(feature = "tools")]
    Demo(Demo),
}

/// run the agent in the foreground until SIGTERM or SIGINT; SIGHUP reloads the configuration
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "run", help_triggers("-h", "--help", "help"))]
pub struct Run {
    /// configuration file, a prometheus.yml (default: /etc/tidegate/tidegate.yml); also --config.file
    #[argh(option, default = "default_config()")]
    pub config: String,

    /// error, warn, info (default), debug or trace; also --log.level
    #[argh(option, default = "log::LevelFilter::Info")]
    pub log_level: log::LevelFilter,

    /// allow POST and PUT /-/reload; also --web.enable-lifecycle
    #[argh(switch)]
    pub web_enable_lifecycle: bool,
}

/// validate the configuration, print the memory plan and how long the ring lasts; starts nothing
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help", "help"))]
pub struct Check {
    /// configuration file (default: /etc/tidegate/tidegate.yml); also --config.file
    #[argh(option, default = "default_config()")]
    pub config: String,
}

/// look into a ring, also that of a dead box's card, or make one
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "ring", help_triggers("-h", "--help", "help"))]
pub struct Ring {
    /// what to do
    #[argh(subcommand)]
    pub command: RingCommand,
}

/// The subcommands of `ring`.
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand)]
#[expect(missing_docs, reason = "each is documented at its arguments")]
pub enum RingCommand {
    #[cfg(feature = "tools")]
    Info(RingInfo),
    #[cfg(feature = "tools")]
    Verify(RingVerify),
    #[cfg(feature = "tools")]
    Export(RingExport),
    Format(RingFormat),
}

/// make an empty ring in a file, on a block device or partition, or on /dev/mtdN; needs no configuration, prints the lines for it
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "format", help_triggers("-h", "--help", "help"))]
pub struct RingFormat {
    /// file or device
    #[argh(positional)]
    pub path: String,

    /// bytes of the ring, as 64MiB (default: the whole device; 64MiB in a file)
    #[argh(option)]
    pub size: Option<Size>,

    /// bytes of a segment (default: 256KiB, more where the ring is large, 64KiB on small NOR)
    #[argh(option)]
    pub segment_size: Option<Size>,

    /// bytes written at once (default: 4KiB, 1KiB on NOR, a page on NAND with larger ones)
    #[argh(option)]
    pub block_size: Option<Size>,

    /// name for people, at most 32 bytes
    #[argh(option, default = "String::from(\"tidegate-ring\")")]
    pub label: String,

    /// destroy what is there: a ring, a file system, a partition table
    #[argh(switch)]
    pub force: bool,
}

fn default_config() -> String {
    String::from("/etc/tidegate/tidegate.yml")
}

/// Splits `--name=value` in two and turns the dots of a name into dashes; `--config.file` is `--config`.
///
/// Everything after a bare `--` is left alone.
#[must_use]
pub fn normalise(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut normal = Vec::new();
    let mut rest = arguments.into_iter();
    for argument in rest.by_ref() {
        if argument == "--" {
            normal.push(argument);
            break;
        }
        if !argument.starts_with("--") {
            normal.push(argument);
            continue;
        }
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        let name = name.replace('.', "-");
        normal.push(if name == "--config-file" {
            String::from("--config")
        } else {
            name
        });
        normal.extend(value.map(String::from));
    }
    normal.extend(rest);
    normal
}

#[cfg(test)]
mod tests {
    use super::{Args, Command, Run, normalise};
    use alloc::string::String;
    use alloc::vec::Vec;
    use argh::FromArgs as _;

    fn parse(line: &str) -> Result<Args, argh::EarlyExit> {
        let words = normalise(line.split_whitespace().map(String::from));
        Args::from_args(&["tidegate"], &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn prometheus_spelling_of_options_is_understood() {
        let expected = Args {
            version: false,
            command: Some(Command::Run(Run {
                config: String::from("a.yml"),
                log_level: log::LevelFilter::Debug,
                web_enable_lifecycle: true,
            })),
        };
        for line in [
            "run --config.file=a.yml --log.level=debug --web.enable-lifecycle",
            "run --config a.yml --log-level debug --web-enable-lifecycle",
        ] {
            assert_eq!(parse(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn unknown_options_are_refused() {
        let exit = parse("run --no-such-thing").unwrap_err();
        assert!(exit.status.is_err());
        assert!(exit.output.contains("--no-such-thing"), "{}", exit.output);
    }

    #[test]
    fn every_subcommand_has_help() {
        for line in [
            "--help",
            "run --help",
            "check --help",
            "status --help",
            "ring info --help",
            "ring verify --help",
            "ring export --help",
            "ring format --help",
            "demo --help",
        ] {
            let exit = parse(line).unwrap_err();
            assert!(
                exit.status.is_ok() && exit.output.contains("Usage: tidegate"),
                "{line}: {}",
                exit.output
            );
        }
    }
}
