//! What servers answer: heads, chunked and gzip bodies, over a real socket.
//!
//! Promised: a request ends with a response or an error, also when the server sends anything at all and closes; memory
//! is the client's buffers whatever the body inflates to; what a receiver's headers say is read without panic.

use super::input::Input;
use smol::LocalExecutor;
use std::net::Ipv4Addr;
use std::rc::Rc;
use tidegate::clock::UnixMillis;
use tidegate::host::dns::{Resolver, ResolverOptions};
use tidegate::host::http::{
    Abort, BodyAction, Buffers, Client, ClientConfig, Method, Receive, Request, ResponseHead, Url,
};
use tidegate::host::net::Listener;
use tidegate::host::runtime::{now, run};
use tidegate::remote_write::http_date;
use tidegate::remote_write::response::Head;

/// Bytes a body may inflate to.
const BODY_LIMIT: u64 = 1024 * 1024;

/// Counts and looks at what arrives.
#[derive(Default)]
struct Watch {
    bytes: u64,
    heads: usize,
    discard: bool,
}

impl Receive for Watch {
    fn head(&mut self, head: &ResponseHead) -> Result<BodyAction, Abort> {
        self.heads += 1;
        assert!(
            (200..=999).contains(&head.status) || head.status == 101,
            "status {}",
            head.status
        );
        assert!(!head.status_text().is_empty());
        receiver(head);
        Ok(if self.discard {
            BodyAction::Discard
        } else {
            BodyAction::Deliver
        })
    }

    fn body(&mut self, piece: &[u8]) -> Result<(), Abort> {
        assert!(!piece.is_empty() && !self.discard);
        self.bytes += piece.len() as u64;
        Ok(())
    }
}

/// As a remote write sender reads it.
fn receiver(response: &ResponseHead) {
    let mut head = Head::new(response.status);
    let wall = UnixMillis(1_700_000_000_000);
    for (name, value) in [("date", &response.date), ("retry-after", &response.retry_after)] {
        if let Some(value) = value {
            head.header(name, value.as_bytes());
            let _ = http_date::parse(value.as_bytes());
        }
    }
    let _ = head.retry_after_ms(Some(wall));
    let _ = head.retry_after_ms(None);
}

/// The input: options, size of the pieces it is sent in, then everything the server sends.
pub fn http_response(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.u8();
    let piece = 1 + usize::from(input.u8()) * 8;
    let answer = input.take(usize::MAX);
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback");
    let url = format!("http://{}/metrics", listener.address());
    let mut config = ClientConfig::new(Url::parse(&url).expect("a valid address").0);
    config.follow_redirects = options & 1 != 0;
    config.keep_alive = false;
    let resolver = Rc::new(Resolver::new(ResolverOptions {
        hosts: "/nonexistent".into(),
        ..ResolverOptions::default()
    }));
    let mut client = Client::new(config, resolver).expect("no headers to refuse");
    let mut watch = Watch {
        discard: options & 2 != 0,
        ..Watch::default()
    };
    let request = Request {
        method: match options >> 2 & 3 {
            0 | 1 => Method::Get,
            2 => Method::Head,
            _ => Method::Post,
        },
        headers: &[],
        body: b"body",
        body_limit: BODY_LIMIT,
        deadline: now() + 2_000,
        wall: None,
    };
    let ask = async {
        let mut buffers = Buffers::new(options & 16 == 0);
        let _ = client.request(&request, &mut buffers, &mut watch).await;
    };
    let serve = async {
        loop {
            let (socket, _) = listener.accept().await.expect("loopback");
            for piece in answer.chunks(piece) {
                if socket.write_all(piece).await.is_err() {
                    break;
                }
            }
            let _ = socket.finish_writing();
            // Read the request, or what is unread resets the connection before the answer is there.
            let mut request = [0; 1024];
            while let Ok(1..) = socket.read(&mut request).await {}
        }
    };
    run(&LocalExecutor::new(), smol::future::or(ask, serve));
    assert!(watch.heads <= 1, "one response for one request");
    assert!(watch.bytes < BODY_LIMIT, "the limit holds");
}
