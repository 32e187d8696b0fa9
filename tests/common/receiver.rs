//! A remote-write receiver: TLS or plain, can be cut off and restored, answers as told.

use super::protobuf::{self, Sample};
use super::{Request, read_request, write_response};
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tidegate::remote_write::proto::Reader;
use tidegate::remote_write::response::Protocol;

/// A certificate authority made for one test, and the receiver's certificate.
pub struct Authority {
    /// The authority's certificate, PEM.
    pub ca_pem: String,
    config: Arc<rustls::ServerConfig>,
}

impl Authority {
    /// An authority whose receiver certificate is for `localhost` and 127.0.0.1.
    pub fn new() -> Self {
        let ca_key = rcgen::KeyPair::generate().expect("key");
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).expect("no names");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = parameters.self_signed(&ca_key).expect("self-signed");
        let ca_pem = ca.pem();
        let issuer = rcgen::Issuer::new(parameters, ca_key);
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("names")
            .signed_by(&key, &issuer)
            .expect("signed");
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS#8");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("default versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("own certificate");
        Self {
            ca_pem,
            config: Arc::new(config),
        }
    }
}

/// What has arrived, in order of arrival.
#[derive(Default)]
pub struct Arrived {
    /// Every accepted sample.
    pub samples: Vec<Sample>,
    /// Every request's headers, accepted or not, with the status it was answered with.
    pub requests: Vec<(Vec<(String, String)>, u16)>,
    /// When each accepted request was answered, and its samples.
    pub taken: Vec<(Instant, usize)>,
}

/// How to answer one request: status line and headers; by default 204 with the Written headers. [`CLOSE`] and [`HALF`]
/// in place of a status line break the connection.
pub type Answer = (&'static str, &'static [(&'static str, &'static str)]);

/// No answer: the connection closes after the request.
pub const CLOSE: &str = "0 close";

/// Half an answer, then the connection closes.
pub const HALF: &str = "0 half";

/// How to answer: called with the number of the request and the request.
pub type Script = dyn Fn(usize, &Request) -> Option<Answer> + Send + Sync;

struct State {
    arrived: Mutex<Arrived>,
    script: Box<Script>,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// Samples are kept, not only counted.
    keeps: bool,
    requests: AtomicUsize,
    connected: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

/// A receiver on a port of its own.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
}

impl Receiver {
    /// A receiver that accepts everything.
    pub fn accepting(authority: Option<&Authority>) -> Self {
        Self::scripted(authority, |_, _| None)
    }

    /// A receiver that accepts everything and only counts: quick enough to show how fast a sender is.
    pub fn counting(authority: Option<&Authority>) -> Self {
        Self::with(authority, false, Box::new(|_, _| None))
    }

    /// A receiver that answers as `script` says.
    pub fn scripted(
        authority: Option<&Authority>,
        script: impl Fn(usize, &Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::with(authority, true, Box::new(script))
    }

    fn with(authority: Option<&Authority>, keeps: bool, script: Box<Script>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            arrived: Mutex::default(),
            script,
            keeps,
            tls: authority.map(|authority| authority.config.clone()),
            requests: AtomicUsize::new(0),
            connected: AtomicBool::new(true),
            streams: Mutex::default(),
        });
        let receiver = Self { address, state };
        receiver.listen(listener);
        receiver
    }

    fn listen(&self, listener: TcpListener) {
        listener.set_nonblocking(true).expect("non-blocking");
        let state = self.state.clone();
        std::thread::spawn(move || {
            while state.connected.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).expect("blocking");
                        let copy = stream.try_clone().expect("clone");
                        state.streams.lock().expect("lock").push(copy);
                        let state = state.clone();
                        std::thread::spawn(move || serve(&state, stream));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
    }

    /// The uplink goes down: open connections break, new ones are refused.
    pub fn cut(&self) {
        self.state.connected.store(false, Ordering::SeqCst);
        for stream in self.state.streams.lock().expect("lock").drain(..) {
            // Already closed by the other side is as good.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        super::wait_for("the port to close", Duration::from_secs(5), || {
            TcpStream::connect(self.address).is_err()
        });
    }

    /// The uplink is back, on the same port.
    pub fn restore(&self) {
        self.state.connected.store(true, Ordering::SeqCst);
        self.listen(TcpListener::bind(self.address).expect("the port is still ours"));
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Looks at what has arrived.
    pub fn arrived<T>(&self, look: impl FnOnce(&Arrived) -> T) -> T {
        look(&self.state.arrived.lock().expect("lock"))
    }
}

fn serve(state: &State, stream: TcpStream) {
    let copy = stream.try_clone().expect("clone");
    match &state.tls {
        None => converse(state, &mut BufReader::new(&stream), &mut &stream),
        Some(config) => {
            let session = rustls::ServerConnection::new(config.clone()).expect("server session");
            let stream = std::cell::RefCell::new(rustls::StreamOwned::new(session, stream));
            converse(state, &mut BufReader::new(Shared(&stream)), &mut Shared(&stream));
        }
    }
    // The list of streams to cut keeps the descriptor: dropping ours would not close the connection.
    let _ = copy.shutdown(std::net::Shutdown::Both);
}

/// Both halves of a TLS stream, used in turn.
struct Shared<'a>(&'a std::cell::RefCell<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>);

impl Read for Shared<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl Write for Shared<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(buffer)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

/// Samples of a request, by the product's own reader.
fn count(body: &[u8], second: bool) -> usize {
    let protocol = if second { Protocol::V2 } else { Protocol::V1 };
    let mut index = vec![(0, 0); 16_384];
    let mut reader = Reader::new(body, protocol, &mut index).expect("well-formed");
    let mut count = 0;
    while let Some(series) = reader.next_series().expect("well-formed") {
        series.samples(|_, _, _| count += 1).expect("well-formed");
    }
    count
}

fn converse(state: &State, reader: &mut impl std::io::BufRead, writer: &mut impl Write) {
    // A broken connection ends the conversation: that is what an uplink outage looks like.
    while let Ok(Some(request)) = read_request(reader) {
        if !state.connected.load(Ordering::SeqCst) {
            return;
        }
        let number = state.requests.fetch_add(1, Ordering::SeqCst);
        let answer = (state.script)(number, &request);
        let second = request.header("x-prometheus-remote-write-version") == Some("2.0.0");
        let body = snap::raw::Decoder::new()
            .decompress_vec(&request.body)
            .expect("snappy block format");
        let samples = match (state.keeps, second) {
            (false, _) => Vec::new(),
            (true, true) => protobuf::version_2(&body),
            (true, false) => protobuf::version_1(&body),
        };
        let count = if state.keeps {
            samples.len()
        } else {
            count(&body, second)
        };
        let written = count.to_string();
        let (status, headers) = match answer {
            Some((status, headers)) => (status, headers.to_vec()),
            None => (
                "204 No Content",
                vec![("x-prometheus-remote-write-samples-written", written.as_str())],
            ),
        };
        let code = status
            .split(' ')
            .next()
            .and_then(|code| code.parse().ok())
            .expect("status code");
        {
            let mut arrived = state.arrived.lock().expect("lock");
            arrived.requests.push((request.headers, code));
            if (200..300).contains(&code) {
                arrived.samples.extend(samples);
                arrived.taken.push((Instant::now(), count));
            }
        }
        if status == CLOSE {
            return;
        }
        if status == HALF {
            // Whether it still arrives is the agent's business.
            let _ = writer.write_all(b"HTTP/1.1 204 No Con").and_then(|()| writer.flush());
            return;
        }
        if write_response(writer, status, &headers, b"").is_err() {
            return;
        }
    }
}
