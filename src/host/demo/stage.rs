//! The demo's far ends: a server with the three targets, and a receiver whose uplink can be cut.

use super::ledger::{Ledger, Tally};
use super::workload::{self, SERIES_PER_TARGET};
use crate::host::http::Method;
use crate::host::http::{Response, ServerConfig, ServerRequest, serve};
use crate::host::net::Listener;
use crate::remote_write::proto::Reader;
use crate::remote_write::response::Protocol;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt::Write as _;
use core::net::{Ipv4Addr, SocketAddr};
use smol::{LocalExecutor, Task};
use std::io;

/// Largest exposition of a target, bytes.
const EXPOSITION_BYTES: usize = 32 * 1024;

/// Largest request the receiver takes, bytes.
const REQUEST_BYTES: usize = 1024 * 1024;

/// Both far ends.
pub struct Stage<'e> {
    executor: &'e LocalExecutor<'static>,
    targets: SocketAddr,
    receiver: SocketAddr,
    scrapes: Rc<[Cell<u64>; workload::TARGETS]>,
    ledger: Rc<RefCell<Ledger>>,
    uplink: Option<Task<()>>,
    _serving: Task<()>,
}

impl<'e> Stage<'e> {
    /// Opens both on free ports of the loopback interface, the uplink up.
    ///
    /// # Errors
    /// No port can be had.
    pub fn open(executor: &'e LocalExecutor<'static>) -> io::Result<Self> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (targets, receiver) = (Listener::bind(loopback)?, Listener::bind(loopback)?);
        let scrapes = Rc::new([const { Cell::new(0) }; workload::TARGETS]);
        let mut stage = Self {
            executor,
            targets: targets.address(),
            receiver: receiver.address(),
            ledger: Rc::new(RefCell::new(Ledger::new())),
            uplink: None,
            _serving: executor.spawn(serve_targets(targets, scrapes.clone())),
            scrapes,
        };
        stage.uplink = Some(stage.executor.spawn(serve_receiver(receiver, stage.ledger.clone())));
        Ok(stage)
    }

    /// Where the targets are.
    pub const fn target_address(&self) -> SocketAddr {
        self.targets
    }

    /// Where the receiver is.
    pub const fn receiver_address(&self) -> SocketAddr {
        self.receiver
    }

    /// Samples the targets have given so far.
    pub fn scraped(&self) -> u64 {
        self.scrapes
            .iter()
            .map(|scrapes| scrapes.get() * SERIES_PER_TARGET as u64)
            .sum()
    }

    /// What the receiver has.
    pub fn tally(&self) -> Tally {
        self.ledger.borrow().tally()
    }

    /// The uplink goes away: connections break, new ones are refused.
    pub async fn cut(&mut self) {
        if let Some(uplink) = self.uplink.take() {
            uplink.cancel().await;
        }
    }

    /// The uplink is back, at the same address.
    ///
    /// # Errors
    /// Somebody else has taken the port meanwhile.
    pub fn restore(&mut self) -> io::Result<()> {
        let listener = Listener::bind(self.receiver)?;
        self.uplink = Some(self.executor.spawn(serve_receiver(listener, self.ledger.clone())));
        Ok(())
    }
}

async fn serve_targets(listener: Listener, scrapes: Rc<[Cell<u64>; workload::TARGETS]>) {
    let config = ServerConfig {
        max_connections: workload::TARGETS,
        body_limit: 0,
        response_bytes: EXPOSITION_BYTES,
    };
    let answer = |request: &ServerRequest<'_>, reply: &mut Response<'_>| {
        let target = request
            .path
            .strip_prefix("/metrics/")
            .and_then(|number| number.parse::<usize>().ok());
        let Some((target, count)) = target.and_then(|target| Some((target, scrapes.get(target)?))) else {
            reply.set_status(404);
            return;
        };
        reply.set_content_type("text/plain; version=0.0.4; charset=utf-8");
        let scrape = count.get();
        count.set(scrape + 1);
        // The buffer is larger than any exposition of the workload.
        let _ = workload::exposition(reply, target, scrape);
    };
    match serve(&listener, config, &answer).await {}
}

async fn serve_receiver(listener: Listener, ledger: Rc<RefCell<Ledger>>) {
    let config = ServerConfig {
        max_connections: 1,
        body_limit: REQUEST_BYTES,
        response_bytes: 256,
    };
    let decoder = RefCell::new(Decoder {
        plain: Vec::new(),
        index: alloc::vec![(0, 0); 8_192],
    });
    let answer = |request: &ServerRequest<'_>, reply: &mut Response<'_>| {
        let protocol = match request.header("x-prometheus-remote-write-version") {
            Some("2.0.0") => Protocol::V2,
            _ => Protocol::V1,
        };
        match decoder
            .borrow_mut()
            .enter(request.body, protocol, &mut ledger.borrow_mut())
        {
            Ok(samples) if request.method == Method::Post => {
                reply.set_status(204);
                let mut count = heapless::String::<20>::new();
                // Twenty digits are enough for any count.
                let _ = write!(count, "{samples}");
                reply.add_header("x-prometheus-remote-write-samples-written", &count);
            }
            _ => reply.set_status(400),
        }
    };
    match serve(&listener, config, &answer).await {}
}

/// Unpacks requests.
struct Decoder {
    plain: Vec<u8>,
    index: Vec<(u32, u32)>,
}

impl Decoder {
    /// Enters a request's samples; how many there were.
    fn enter(&mut self, packed: &[u8], protocol: Protocol, ledger: &mut Ledger) -> Result<u64, String> {
        let text = |error: &dyn core::fmt::Display| alloc::format!("{error}");
        self.plain = snap::raw::Decoder::new()
            .decompress_vec(packed)
            .map_err(|error| text(&error))?;
        let mut reader = Reader::new(&self.plain, protocol, &mut self.index).map_err(|error| text(&error))?;
        let mut count = 0;
        while let Some(series) = reader.next_series().map_err(|error| text(&error))? {
            let (mut name, mut item, mut job) = ("", None, "");
            series
                .labels(|label, value| match label {
                    "__name__" => name = value,
                    "item" => item = Some(value),
                    "job" => job = value,
                    _ => {}
                })
                .map_err(|error| text(&error))?;
            let target = job.strip_prefix("demo").and_then(|number| number.parse::<usize>().ok());
            let number = workload::series_number(name, item);
            series
                .samples(|bits, unix_ms, _| {
                    count += 1;
                    match (target, number) {
                        (Some(target), Some(number)) if target < workload::TARGETS => {
                            ledger.sample(target, number, unix_ms, bits);
                        }
                        _ => ledger.synthetic(),
                    }
                })
                .map_err(|error| text(&error))?;
        }
        Ok(count)
    }
}
