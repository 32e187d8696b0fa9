//! The whole network half runs on one OS thread and does not grow.
//!
//! Its own binary without the test harness, which would add threads. It counts the entries of
//! `/proc/self/task` and the live heap while a client scrapes and posts to a server of this process a
//! thousand times, resolves names, waits for timers and signals and fails a TLS handshake.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::host::dns::{Resolver, ResolverOptions};
use tidegate::host::http::{
    Buffers, CaptureBody, Client, ClientConfig, Method, Request, Response, ServerConfig, ServerRequest, Url, serve,
};
use tidegate::host::net::Listener;
use tidegate::host::runtime::{Signals, now, run, sleep_until};
use tidegate::host::tls::{CertClock, TlsClient, TlsContext, TlsSettings};

/// Counts what the process allocates.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("/proc is mounted").count()
}

fn answer(request: &ServerRequest<'_>, response: &mut Response<'_>) {
    match request.method {
        Method::Post => response.set_status(204),
        _ => (0..100).for_each(|line| writeln!(response, "metric_{line} {line}").expect("1,400 bytes fit into 8 KiB")),
    }
}

async fn requests(address: SocketAddr) {
    let resolver = Rc::new(Resolver::new(ResolverOptions::default()));
    let (url, _) = Url::parse(&format!("http://{address}/metrics")).expect("valid");
    let mut client = Client::new(ClientConfig::new(url), resolver.clone()).expect("valid");
    let mut buffers = Buffers::new(true);
    let mut capture = CaptureBody::<64>::new();
    let body = vec![7; 20_000];
    let mut settled = 0;
    for round in 0..1_000 {
        for method in [Method::Get, Method::Post] {
            let request = Request {
                method,
                headers: &[],
                body: &body,
                body_limit: 0,
                deadline: now() + 5_000,
                wall: None,
            };
            let head = client
                .request(&request, &mut buffers, &mut capture)
                .await
                .expect("loopback");
            assert!(head.is_success());
        }
        match round {
            99 => {
                settled = LIVE_BYTES.load(Ordering::Relaxed);
                ALLOCATIONS.store(0, Ordering::Relaxed);
            }
            999 => {
                let per_round = ALLOCATIONS.load(Ordering::Relaxed) / 900;
                let live = LIVE_BYTES.load(Ordering::Relaxed);
                println!("{per_round} allocations per GET and POST, client and server together; {live} bytes live");
                // The executor keeps a block of about 500 bytes, and buffers of strings may differ a little.
                assert!(live <= settled + 1_024, "{settled} bytes grew to {live}");
                assert!(per_round <= 60, "{per_round} allocations per round");
            }
            _ => {}
        }
    }
    assert_eq!(client.stats().connections, 1);
    assert_eq!(threads(), 1);

    let tls = TlsClient::new(TlsContext::new(CertClock::new()), TlsSettings::default());
    let (url, _) = Url::parse(&format!("https://{address}/metrics")).expect("valid");
    let mut config = ClientConfig::new(url);
    config.tls = Some(Rc::new(tls));
    let mut secure = Client::new(config, resolver.clone()).expect("valid");
    let request = Request {
        method: Method::Get,
        headers: &[],
        body: &[],
        body_limit: 0,
        deadline: now() + 5_000,
        wall: None,
    };
    let error = secure
        .request(&request, &mut buffers, &mut capture)
        .await
        .expect_err("the server speaks no TLS");
    println!("TLS to a plain port: {error}");
    let missing = resolver
        .lookup("name.invalid", now() + 200)
        .await
        .expect_err("RFC 6761");
    println!("{missing}");
    assert_eq!(threads(), 1);
}

fn main() {
    let executor = smol::LocalExecutor::new();
    let mut signals = Signals::new().expect("signalfd");
    run(&executor, async {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback");
        let address = listener.address();
        let config = ServerConfig {
            body_limit: 20_000,
            ..ServerConfig::default()
        };
        let server = executor.spawn(async move { match serve(&listener, config, &answer).await {} });
        let signal_task = executor.spawn(async move { signals.next().await });
        requests(address).await;
        sleep_until(now() + 5).await.expect("room");
        assert_eq!(threads(), 1);
        drop((server, signal_task));
    });
    println!("ok: one thread");
}
