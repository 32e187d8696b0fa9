//! `tidegate ring info|verify|export|format`: needs no configuration. All but `format` read any image and write nothing.
//!
//! `format` is for the box itself and in every build; the others are among what the feature `tools` is.

#[cfg(feature = "tools")]
pub mod export;
pub mod format;
#[cfg(feature = "tools")]
pub mod inspect;
#[cfg(feature = "tools")]
mod openmetrics;
#[cfg(feature = "tools")]
mod selection;
#[cfg(feature = "tools")]
mod send;

use std::process::ExitCode;

fn failed(error: &str) -> ExitCode {
    std::eprintln!("tidegate: {error}");
    ExitCode::FAILURE
}
