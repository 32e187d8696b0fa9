//! The commands: from parsed arguments to an exit code.
//!
//! | code | meaning |
//! |---:|---|
//! | 0 | success; `run` was ended by SIGTERM or SIGINT and kept everything |
//! | 1 | it could not start, or failed |
//! | 2 | the command line or the configuration is wrong; nothing was started |
//! | 3 | `ring verify`: the ring has faults |

pub mod args;
mod check;
mod ring;
#[cfg(feature = "tools")]
mod status;

use crate::host::app::{self, RunError};
use crate::host::logger;
use alloc::string::String;
use alloc::vec::Vec;
use argh::FromArgs as _;
use args::{Args, Command, RingCommand};
use std::process::ExitCode;

/// The configuration or the command line is wrong.
pub const EXIT_CONFIGURATION: u8 = 2;

/// A ring has faults.
pub const EXIT_FAULTS: u8 = 3;

/// Runs the command given by the process' arguments.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_else(|| String::from("tidegate"));
    let words: Vec<String> = args::normalise(words);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some(command) = left_out(&words) {
        std::eprintln!("tidegate: this build leaves out '{command}': it was made without the feature tools");
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    let args = match Args::from_args(&[program.as_str()], &words) {
        Ok(args) => args,
        Err(exit) if exit.status.is_ok() => {
            std::println!("{}", exit.output);
            return ExitCode::SUCCESS;
        }
        Err(exit) => {
            std::eprintln!("{}\nSee '{program} --help'.", exit.output.trim_end());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    if args.version {
        std::println!("tidegate {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match args.command {
        None => {
            let commands = if cfg!(feature = "tools") {
                "run, check, status, ring, demo"
            } else {
                "run, check, ring"
            };
            std::eprintln!("tidegate: which command? One of {commands}; see '{program} --help'.");
            ExitCode::from(EXIT_CONFIGURATION)
        }
        Some(Command::Run(run)) => run_agent(run),
        Some(Command::Check(check)) => {
            end_with_the_reader();
            check::run(&check.config)
        }
        Some(Command::Ring(ring)) => {
            end_with_the_reader();
            match ring.command {
                #[cfg(feature = "tools")]
                RingCommand::Info(info) => ring::inspect::info(&info.path),
                #[cfg(feature = "tools")]
                RingCommand::Verify(verify) => ring::inspect::verify(&verify.path),
                #[cfg(feature = "tools")]
                RingCommand::Export(export) => ring::export::run(&export),
                RingCommand::Format(format) => ring::format::run(&format),
            }
        }
        #[cfg(feature = "tools")]
        Some(Command::Status(status)) => {
            end_with_the_reader();
            status::run(&status.address)
        }
        #[cfg(feature = "tools")]
        Some(Command::Demo(demo)) => crate::host::demo::run(demo.ring.as_deref()),
    }
}

/// The command that `words` ask for, where this build is without it.
fn left_out(words: &[&str]) -> Option<String> {
    if cfg!(feature = "tools") {
        return None;
    }
    match *words {
        [command @ ("status" | "demo"), ..] => Some(String::from(command)),
        ["ring", command @ ("info" | "verify" | "export"), ..] => Some(alloc::format!("ring {command}")),
        _ => None,
    }
}

/// Lets `tidegate check | head` end quietly: a closed pipe ends the process, as it does with every Unix filter. The agent
/// itself keeps the signal ignored, so that a broken connection is an error and not the end.
fn end_with_the_reader() {
    // SAFETY: no handler runs; the default action of one signal is restored before anything else has started.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

fn run_agent(run: args::Run) -> ExitCode {
    logger::init(run.log_level);
    let options = app::Options {
        config: run.config,
        lifecycle: run.web_enable_lifecycle,
    };
    match app::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!(error:% = error; "not started");
            match error {
                RunError::Build(error) if error.is_configuration() => ExitCode::from(EXIT_CONFIGURATION),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
