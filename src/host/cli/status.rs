//! `tidegate status`: what a running agent says of itself, as plain text.

use crate::host::dns::{Resolver, ResolverOptions};
use crate::host::http::{
    Abort, BodyAction, Buffers, Client, ClientConfig, Method, Receive, Request, ResponseHead, Url,
};
use crate::host::runtime::{self, now};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use smol::LocalExecutor;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// An agent that answers takes milliseconds; one that does not within this time is stuck.
const TIMEOUT_MS: u64 = 5_000;
/// Bytes of an answer. An agent's is some 100 bytes for each target and remote.
const MAX_BYTES: u64 = 1 << 20;

/// Asks the agent at `address` and prints its answer. Blocks: it is the whole program.
pub fn run(address: &str) -> ExitCode {
    match ask(address).and_then(|text| io::stdout().write_all(&text).map_err(|error| format!("{error}"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            std::eprintln!("tidegate: no status from {address}: {error}");
            std::eprintln!("Is the agent running, and is tidegate.listen_address {address}?");
            ExitCode::FAILURE
        }
    }
}

fn ask(address: &str) -> Result<Vec<u8>, String> {
    let (url, _) = Url::parse(&format!("http://{address}/status")).map_err(|error| format!("{error}"))?;
    let resolver = Rc::new(Resolver::new(ResolverOptions::default()));
    let mut client = Client::new(ClientConfig::new(url), resolver).map_err(|error| format!("{error}"))?;
    let request = Request {
        method: Method::Get,
        headers: &[],
        body: &[],
        body_limit: MAX_BYTES,
        deadline: now() + TIMEOUT_MS,
        wall: None,
    };
    let (mut buffers, mut body) = (Buffers::new(false), Body::default());
    let asked = client.request(&request, &mut buffers, &mut body);
    let head = runtime::run(&LocalExecutor::new(), asked).map_err(|error| format!("{error}"))?;
    if head.is_success() {
        Ok(body.0)
    } else {
        Err(format!("HTTP status {}", head.status_text()))
    }
}

/// The answer's body, whole.
#[derive(Default)]
struct Body(Vec<u8>);

impl Receive for Body {
    fn head(&mut self, _: &ResponseHead) -> Result<BodyAction, Abort> {
        self.0.clear();
        Ok(BodyAction::Deliver)
    }

    fn body(&mut self, piece: &[u8]) -> Result<(), Abort> {
        self.0.extend_from_slice(piece);
        Ok(())
    }
}
