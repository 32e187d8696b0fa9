//! `tidegate status`: what a running agent says of itself, as plain text.

use alloc::string::String;
use core::time::Duration;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// An agent that answers takes milliseconds; one that does not within this time is stuck.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the agent at `address` and prints its answer. Blocks: it is the whole program.
pub fn run(address: &str) -> ExitCode {
    match ask(address).and_then(|text| {
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| alloc::format!("{error}"))
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            std::eprintln!("tidegate: no status from {address}: {error}");
            std::eprintln!("Is the agent running, and is tidegate.listen_address {address}?");
            ExitCode::FAILURE
        }
    }
}

fn ask(address: &str) -> Result<String, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .build()
        .into();
    let mut response = agent
        .get(alloc::format!("http://{address}/status"))
        .call()
        .map_err(|error| alloc::format!("{error}"))?;
    response
        .body_mut()
        .read_to_string()
        .map_err(|error| alloc::format!("{error}"))
}
