//! Memory runs out at every place where it can: one operation fails and says so, the process goes on.
//!
//! Its own binary without the test harness. Its allocator is the agent's, with one addition: a chosen allocation is *refused* as if
//! the arena were full. Requests with a TLS handshake each are run with the 1st, 2nd, 3rd ... allocation refused until none is left to
//! refuse; then the whole agent, as a child process of this same program, has every n-th allocation refused while it scrapes, sends
//! over TLS, answers the status port and reloads. What one step of an operation takes is measured against what
//! [`Operation::step_bytes`] promises.

mod common;

use common::receiver::{Authority, Receiver};
use common::target::Target;
use common::{TempDir, agent, http, wait_for};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidegate::host::app;
use tidegate::host::dns::{Resolver, ResolverOptions};
use tidegate::host::heap::{self, CountedHeap, Operation, arena_use};
use tidegate::host::http::{
    Buffers, CaptureBody, Client, ClientConfig, HttpError, Method, Request, Response, ServerConfig, ServerRequest, Url,
    serve,
};
use tidegate::host::net::Listener;
use tidegate::host::runtime::{now, run};
use tidegate::host::tls::{CertClock, Pem, TlsClient, TlsContext, TlsSettings};

/// The agent's allocator, which refuses what it is told to.
struct Refusing;

thread_local! {
    /// Allocations of this thread until one is refused; 0: none will be.
    static UNTIL: Cell<usize> = const { Cell::new(0) };
    /// Bytes this thread holds, and held at most.
    static LIVE: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// Once the agent has started, each so-manieth allocation is refused; 0: none.
static EVERY: AtomicUsize = AtomicUsize::new(0);
static SEEN: AtomicUsize = AtomicUsize::new(0);

fn note(change: isize) {
    // A thread that is ending has no counters any more, and nobody to read them.
    let _ = LIVE.try_with(|live| {
        let (now, most) = live.get();
        live.set((now + change, most.max(now + change)));
    });
    if change <= 0 {
        return;
    }
    let _ = UNTIL.try_with(|until| {
        if until.get() == 1 {
            heap::refuse();
        }
        until.set(until.get().saturating_sub(1));
    });
    let every = EVERY.load(Ordering::Relaxed);
    if every > 0 && arena_use().size > 0 && SEEN.fetch_add(1, Ordering::Relaxed) % every == every - 1 {
        heap::refuse();
    }
}

// SAFETY: every call goes on to the agent's allocator unchanged, which keeps the contract.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller keeps the contract of this same function.
        unsafe { CountedHeap.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: as above; the block came from there.
        unsafe { CountedHeap.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: as above.
        unsafe { CountedHeap.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { CountedHeap.realloc(block, layout, bytes) }
    }
}

#[global_allocator]
static HEAP: Refusing = Refusing;

/// Bytes this thread holds now, and the most beyond it that `work` held.
async fn peak_of<T>(work: impl Future<Output = T>) -> (isize, T) {
    let (before, _) = LIVE.get();
    LIVE.set((before, before));
    let value = work.await;
    (LIVE.get().1 - before, value)
}

struct Rig {
    client: Client,
    buffers: Buffers,
}

impl Rig {
    fn new(url: &str, tls: Option<&Authority>) -> Self {
        let (url, _) = Url::parse(url).expect("valid");
        let mut config = ClientConfig::new(url);
        config.tls = tls.map(|authority| {
            let settings = TlsSettings {
                ca: Some(Pem::Inline(authority.ca_pem.clone().into())),
                ..TlsSettings::default()
            };
            Rc::new(TlsClient::new(TlsContext::new(CertClock::new()), settings))
        });
        let resolver = Rc::new(Resolver::new(ResolverOptions::default()));
        Self {
            client: Client::new(config, resolver).expect("valid"),
            buffers: Buffers::new(true),
        }
    }

    /// A request on a connection of its own.
    async fn request(&mut self) -> Result<u16, HttpError> {
        self.client.close_idle();
        let request = Request {
            method: Method::Post,
            headers: &[],
            // An empty message, compressed.
            body: &[0],
            body_limit: 0,
            deadline: now() + 20_000,
            wall: None,
        };
        let mut answer = CaptureBody::<64>::new();
        let head = self.client.request(&request, &mut self.buffers, &mut answer).await?;
        Ok(head.status)
    }
}

/// Refuses the 1st, 2nd, ... allocation of a request until a request has no more; returns how many were ended for it.
async fn refuse_each(rig: &mut Rig) -> usize {
    rig.request().await.expect("nothing refused yet");
    let mut ended = 0;
    for allocation in 1.. {
        let held = LIVE.get().0;
        let refused = arena_use().refused;
        UNTIL.set(allocation);
        let result = rig.request().await;
        UNTIL.set(0);
        if arena_use().refused == refused {
            assert!(result.is_ok(), "nothing was refused: {result:?}");
            assert!(allocation > 10, "a request takes a few allocations");
            return ended;
        }
        match result {
            // The request was complete in that very step.
            Ok(_) => {}
            Err(HttpError::Memory(full)) => {
                ended += 1;
                let text = full.to_string();
                assert!(text.starts_with("out of memory for ") && text.contains("tidegate.memory.limit"));
            }
            Err(other) => panic!("allocation {allocation}: {other}"),
        }
        rig.request().await.expect("the next one has memory again");
        let more = LIVE.get().0 - held;
        assert!(more < 8_192, "allocation {allocation} left {more} bytes behind");
    }
    ended
}

fn requests_over_tls() {
    let authority = Authority::new();
    let receiver = Receiver::scripted(Some(&authority), |_, _| None);
    let url = format!("https://{}/x", receiver.address());
    let mut rig = Rig::new(&url, Some(&authority));
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let counted = |operation: Operation| operation.refused();
        let before = counted(Operation::Handshake) + counted(Operation::Request);
        let ended = refuse_each(&mut rig).await;
        let after = counted(Operation::Handshake) + counted(Operation::Request);
        println!("{ended} requests ended over TLS");
        assert!(
            ended > 20 && after - before == ended,
            "{ended} ended, {} counted",
            after - before
        );

        rig.client.close_idle();
        let (peak, result) = peak_of(rig.request()).await;
        assert!(result.expect("accepted") < 300);
        let promised = Operation::Handshake.step_bytes() as isize;
        println!("handshake and request: {peak} bytes, {promised} promised");
        assert!(peak < promised);
    });
}

fn answer(_: &ServerRequest<'_>, response: &mut Response<'_>) {
    response.set_status(202);
}

fn requests_over_plain_http() {
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback");
        let address = listener.address();
        let config = ServerConfig {
            body_limit: 20_000,
            ..ServerConfig::default()
        };
        let server = executor.spawn(async move { match serve(&listener, config, &answer).await {} });
        let mut rig = Rig::new(&format!("http://{address}/x"), None);
        rig.request().await.expect("warm");
        // Client and server of this thread together.
        let (peak, _) = peak_of(rig.request()).await;
        let promised = Operation::Status.step_bytes() as isize;
        println!("plain request, both ends: {peak} bytes, {promised} promised for the server alone");
        assert!(peak < promised);

        // A full arena refuses before anything is begun.
        let refused = Operation::Request.refused();
        heap::seal(heap::heap_use().live_bytes + 1_000);
        let error = rig.request().await.expect_err("no memory");
        heap::unseal();
        assert!(
            matches!(error, HttpError::Memory(full) if full.operation == Operation::Request),
            "{error}"
        );
        assert_eq!(Operation::Request.refused(), refused + 1);

        // Enough for the client, not for the server: it leaves a floor to others.
        let limit = Operation::Status.step_bytes() + Operation::Status.floor_bytes() - 2_000;
        heap::seal(heap::heap_use().live_bytes + limit);
        let status = rig.request().await;
        heap::unseal();
        assert_eq!(status.expect("answered"), 503);
        assert_eq!(rig.request().await.expect("memory again"), 202);
        drop(server);
    });
}

fn loading_a_configuration() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards/x86_64-linux/tidegate.yml");
    let path = path.to_str().expect("UTF-8");
    let bytes = std::fs::metadata(path).expect("there").len() as usize;
    let executor = smol::LocalExecutor::new();
    run(&executor, async {
        let (peak, loaded) = peak_of(async { tidegate::host::config::Config::load(path) }).await;
        loaded.expect("valid");
        let promised = Operation::Reload.step_bytes() + 6 * bytes;
        println!("loading {bytes} bytes: {peak} bytes of heap, {promised} promised");
        assert!(peak < promised as isize);
    });
}

/// The agent as a child process of this program, with its allocator.
struct Starved(Child);

impl Drop for Starved {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn metric(address: SocketAddr, name: &str) -> Option<f64> {
    let headers = [("host", "x")];
    let body = http::try_request(address, "GET", "/metrics", &headers).ok()?.body;
    let line = body.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

/// At least as many has a TLS handshake: where more are refused, none succeeds.
const HANDSHAKE_ALLOCATIONS: usize = 100;

/// The agent with every `every`-th allocation refused: it lives, scrapes and delivers, and says what it had to refuse.
fn agent_with_refusals(every: usize) {
    let directory = TempDir::new();
    let authority = Authority::new();
    std::fs::write(directory.path().join("ca.pem"), &authority.ca_pem).expect("written");
    let target = Target::serving(|scrape| format!("scrapes_total {scrape}\n"));
    let receiver = Receiver::accepting(Some(&authority));
    let config = agent::configure(
        directory.path(),
        &format!(
            "- job_name: a\n  static_configs:\n  - targets: ['{}']\n",
            target.address()
        ),
        &format!(
            "- url: https://{}/w\n  tls_config: {{ca_file: ca.pem}}\n  queue_config: {{batch_send_deadline: 200ms, max_backoff: 300ms}}\n",
            receiver.address()
        ),
        "",
    );
    let log = directory.path().join("log");
    let child = Command::new(std::env::current_exe().expect("this program"))
        .env("STARVED", every.to_string())
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(&log).expect("log file"))
        .spawn()
        .expect("starts");
    let mut starved = Starved(child);
    let said = || std::fs::read_to_string(&log).expect("log file");
    let patience = Duration::from_secs(60);
    wait_for("the status port", patience, || said().contains("status port open"));
    let line = said();
    let (_, address) = line
        .split_once("status port open")
        .and_then(|(_, rest)| rest.split_once("address="))
        .expect("says where");
    let address: SocketAddr = address
        .lines()
        .next()
        .expect("a line")
        .trim()
        .parse()
        .expect("an address");
    let begun = target.scrapes();
    let headers = [("host", "x")];
    let mut reloads = 0;
    wait_for("scrapes, deliveries and refusals", patience, || {
        // Each breaks the connections it has: the next requests begin with a handshake.
        reloads += usize::from(http::try_request(address, "POST", "/-/reload", &headers).is_ok());
        assert!(
            starved.0.try_wait().expect("child").is_none(),
            "the agent ended: {}",
            said()
        );
        let delivered = receiver.arrived(|arrived| arrived.samples.len());
        let refused = metric(address, "tidegate_heap_refused_total").unwrap_or(0.0);
        let delivers = delivered > 60 && reloads > 3;
        target.scrapes() > begun + 20 && refused > 10.0 && (delivers || every < HANDSHAKE_ALLOCATIONS)
    });
    println!(
        "every {every}th allocation: {reloads} reloads, {} log lines of memory",
        said().matches("out of memory").count()
    );
    let pid = i32::try_from(starved.0.id()).expect("positive");
    // SAFETY: kill(2) takes two integers; the child has not been waited for, so the number is still its own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    assert!(starved.0.wait().expect("child").success());
}

fn main() {
    if let Ok(every) = std::env::var("STARVED") {
        EVERY.store(every.parse().expect("a number"), Ordering::Relaxed);
        tidegate::host::logger::init(log::LevelFilter::Info);
        let options = app::Options {
            config: std::env::args().nth(1).expect("a path"),
            lifecycle: true,
        };
        app::run(&options).expect("runs until it is told to end");
        return;
    }
    requests_over_tls();
    requests_over_plain_http();
    loading_a_configuration();
    for every in [7, 211, 997] {
        agent_with_refusals(every);
    }
    println!("ok: memory ran out everywhere");
}
