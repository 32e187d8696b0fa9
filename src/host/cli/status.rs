//! `tidegate status`: what a running agent says of itself, as plain text.
//!
//! ureq as it comes resolves names with the C library's resolver in a thread of its own and asks the environment for a proxy:
//! 38 KB of code. Here names are resolved as the agent resolves them, and the connection is a plain one.

use crate::host::dns::{self, ResolverOptions};
use crate::host::runtime;
use alloc::string::String;
use core::time::Duration;
use smol::LocalExecutor;
use std::io::{self, Write as _};
use std::process::ExitCode;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{NextTimeout, TcpConnector};

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
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .proxy(None)
        .build();
    let agent = ureq::Agent::with_parts(config, TcpConnector::default(), Names);
    let mut response = agent
        .get(alloc::format!("http://{address}/status"))
        .call()
        .map_err(|error| alloc::format!("{error}"))?;
    response
        .body_mut()
        .read_to_string()
        .map_err(|error| alloc::format!("{error}"))
}

/// Host names, as the agent resolves them.
#[derive(Debug)]
struct Names;

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(80);
        let resolver = dns::Resolver::new(ResolverOptions::default());
        let patience = Duration::min(*timeout.after, TIMEOUT).as_millis();
        let deadline = runtime::now() + u64::try_from(patience).unwrap_or(u64::MAX);
        let found = runtime::run(&LocalExecutor::new(), resolver.lookup(host, deadline));
        let found = found.map_err(|error| ureq::Error::Io(io::Error::other(alloc::format!("{error}"))))?;
        let mut addresses = self.empty();
        // Half of the places it has.
        found.iter().for_each(|address| addresses.push((*address, port).into()));
        Ok(addresses)
    }
}
