//! A scrape target that answers from a closure.

use super::{read_request, write_response};
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
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

/// A target that writes whatever it likes to the connection.
pub struct RawTarget {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl RawTarget {
    /// Answers each request by `answer(n, stream)`; false closes the connection.
    pub fn answering(answer: impl Fn(u64, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback port");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(AtomicU64::new(0));
        let (count, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (count, answer) = (count.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().expect("clone"));
                    let mut stream = stream;
                    while let Ok(Some(_)) = read_request(&mut reader) {
                        if !answer(count.fetch_add(1, Ordering::SeqCst), &mut stream) {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// Always the same bytes, then the connection closes.
    pub fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::answering(move |_, stream| {
            // The agent may have gone already.
            let _ = stream.write_all(&bytes);
            false
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

/// An address where nobody listens, for as long as the value lives: the port is taken, but not open.
pub struct Refusing(OwnedFd);

impl Refusing {
    /// Takes a port.
    pub fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("socket");
        bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback port");
        Self(socket)
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        let address = rustix::net::getsockname(&self.0).expect("bound");
        address.try_into().expect("an IPv4 address")
    }
}
