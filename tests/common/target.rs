//! A scrape target that answers from a closure.

use super::{read_request, write_response};
use std::io::BufReader;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A target on a port of its own. It serves until the test process ends.
pub struct Target {
    address: SocketAddr,
    scrapes: Arc<AtomicU64>,
}

impl Target {
    /// Serves `body(n)` as text format 0.0.4 to the n-th scrape, counted from 0.
    pub fn serving(body: impl Fn(u64) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback port");
        let address = listener.local_addr().expect("bound");
        let scrapes = Arc::new(AtomicU64::new(0));
        let (count, body) = (scrapes.clone(), Arc::new(body));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (count, body) = (count.clone(), body.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(&stream);
                    // Ends when the agent closes the connection or breaks it.
                    while let Ok(Some(_)) = read_request(&mut reader) {
                        let text = body(count.fetch_add(1, Ordering::SeqCst));
                        let headers = [("content-type", "text/plain; version=0.0.4; charset=utf-8")];
                        if write_response(&mut &stream, "200 OK", &headers, text.as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, scrapes }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Scrapes answered so far.
    pub fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::SeqCst)
    }
}
