//! Non-blocking sockets on the reactor: connect, accept, read, write.
//!
//! Nothing here resolves names or blocks. A [`Socket`] is a connected stream, TCP or Unix; reading and
//! writing come as `try_` calls, which answer `None` where a blocking socket would wait, and as futures.
//!
//! Limits: [`MAX_ADDRESSES`] addresses are tried per connection, at most two at a time.
//! Hostile input: a peer that accepts and never answers costs nothing but the caller's deadline.
//!
//! Sources: connect(2), RFC 8305 (family fallback, as in Go's dialer).

use alloc::rc::Rc;
use core::cell::Cell;
use core::fmt;
use core::future::{Future, poll_fn};
use core::net::SocketAddr;
use core::pin::{Pin, pin};
use core::task::Poll;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use heapless::Vec;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
    acceptfrom_with, bind, connect, getsockname, listen, recv, send, shutdown, socket_with, sockopt,
};

use super::limits::{FAMILY_HEAD_START_MS, MAX_ADDRESSES, MIN_CONNECT_BUDGET_MS};
use super::runtime::{Interest, TimeoutError, now, ready, sleep_until, timeout_at};
use crate::clock::Instant;

/// Connections the kernel holds for us until they are accepted; beyond it clients retry.
const LISTEN_BACKLOG: i32 = 8;

/// Kernel buffers of a socket, bytes; `None` leaves the kernel's own sizing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// `SO_RCVBUF`.
    pub receive_buffer_bytes: Option<usize>,
    /// `SO_SNDBUF`.
    pub send_buffer_bytes: Option<usize>,
}

/// Bytes that went through sockets, counted where they pass.
#[derive(Debug, Default)]
pub struct WireBytes {
    sent: Cell<u64>,
    received: Cell<u64>,
}

impl WireBytes {
    /// Bytes given to the kernel.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Bytes taken from the kernel.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.get()
    }
}

/// A connected, non-blocking stream socket; closed when dropped.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    meter: Option<Rc<WireBytes>>,
}

const STREAM_FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

impl Socket {
    /// Connects to one address. No deadline of its own.
    ///
    /// # Errors
    ///
    /// What connect(2) reports, or a full reactor table.
    pub async fn connect(address: SocketAddr, options: SocketOptions) -> io::Result<Self> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let fd = socket_with(family, SocketType::STREAM, STREAM_FLAGS, None)?;
        if let Some(bytes) = options.receive_buffer_bytes {
            sockopt::set_socket_recv_buffer_size(&fd, bytes)?;
        }
        if let Some(bytes) = options.send_buffer_bytes {
            sockopt::set_socket_send_buffer_size(&fd, bytes)?;
        }
        // Requests are written whole; waiting for the peer's acknowledgement would only delay them.
        sockopt::set_tcp_nodelay(&fd, true)?;
        finish_connect(&fd, connect(&fd, &address)).await?;
        Ok(Self { fd, meter: None })
    }

    /// Connects to a Unix stream socket.
    ///
    /// # Errors
    ///
    /// What connect(2) reports: no such path, nobody listening, backlog full.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, STREAM_FLAGS, None)?;
        finish_connect(&fd, connect(&fd, &SocketAddrUnix::new(path)?)).await?;
        Ok(Self { fd, meter: None })
    }

    /// Adds this socket's bytes to `meter` from now on.
    pub fn meter(&mut self, meter: Rc<WireBytes>) {
        self.meter = Some(meter);
    }

    /// Reads what is there; 0 = the peer has closed, `None` = nothing yet.
    ///
    /// # Errors
    ///
    /// What recv(2) reports, most often a reset.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let read = not_blocked(|| recv(&self.fd, &mut *buf, RecvFlags::empty()).map(|(read, _)| read))?;
        if let (Some(count), Some(meter)) = (read, &self.meter) {
            meter.received.set(meter.received.get() + count as u64);
        }
        Ok(read)
    }

    /// Writes what fits into the kernel's buffer; `None` = nothing fits now.
    ///
    /// # Errors
    ///
    /// What send(2) reports: reset, broken pipe (never as a signal).
    pub fn try_write(&self, buf: &[u8]) -> io::Result<Option<usize>> {
        let written = not_blocked(|| send(&self.fd, buf, SendFlags::NOSIGNAL))?;
        if let (Some(count), Some(meter)) = (written, &self.meter) {
            meter.sent.set(meter.sent.get() + count as u64);
        }
        Ok(written)
    }

    /// True while the peer has neither sent anything nor closed: an idle connection fit for reuse.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0u8; 1];
        matches!(
            not_blocked(|| recv(&self.fd, &mut byte, RecvFlags::PEEK).map(|(read, _)| read)),
            Ok(None)
        )
    }

    /// Tells the peer that nothing more is sent; reading stays possible.
    ///
    /// # Errors
    ///
    /// The connection is gone already.
    pub fn finish_writing(&self) -> io::Result<()> {
        Ok(shutdown(&self.fd, Shutdown::Write)?)
    }

    /// Reads at least one byte; 0 = the peer has closed.
    ///
    /// # Errors
    ///
    /// As [`Self::try_read`], or a full reactor table.
    pub async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(read) = self.try_read(buf)? {
                return Ok(read);
            }
            ready(self.as_fd(), Interest::Read).await?;
        }
    }

    /// Writes everything.
    ///
    /// # Errors
    ///
    /// As [`Self::try_write`], or a full reactor table.
    pub async fn write_all(&self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.try_write(buf)? {
                Some(written) => buf = buf.get(written..).unwrap_or_default(),
                None => {
                    ready(self.as_fd(), Interest::Write).await?;
                }
            }
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The blocking-style view rustls wants: `WouldBlock` where `try_read` says `None`.
impl io::Read for &Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_read(buf)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl io::Write for &Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.try_write(buf)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Repeats an interrupted call; `None` when it would block.
fn not_blocked<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<Option<T>> {
    loop {
        match call() {
            Ok(value) => return Ok(Some(value)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn finish_connect(fd: &OwnedFd, started: Result<(), Errno>) -> io::Result<()> {
    match started {
        Ok(()) => Ok(()),
        Err(Errno::INPROGRESS | Errno::INTR) => {
            ready(fd.as_fd(), Interest::Write).await?;
            Ok(sockopt::socket_error(fd)??)
        }
        Err(error) => Err(error.into()),
    }
}

/// None of a name's addresses could be connected to.
#[derive(Debug)]
pub struct ConnectError {
    /// The address that failed in the most telling way; `None` when there was no address.
    pub address: Option<SocketAddr>,
    /// Why. `TimedOut` when the address's share of the deadline ran out.
    pub error: io::Error,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "connect {address}: {}", self.error),
            None => write!(f, "connect: {}", self.error),
        }
    }
}

impl core::error::Error for ConnectError {}

impl ConnectError {
    /// "Unreachable" says only that this machine lacks a family; any other failure tells more.
    fn or_more_telling(self, other: Self) -> Self {
        let unreachable = matches!(
            other.error.kind(),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable
        );
        if unreachable || other.address.is_none() {
            self
        } else {
            other
        }
    }
}

/// Connects to the first of `addresses` that answers.
///
/// Addresses of the first one's family are tried one after the other, each with half of the time left;
/// the other family starts beside them after [`FAMILY_HEAD_START_MS`] or as soon as they have failed.
///
/// # Errors
///
/// [`ConnectError`] when none answered before `deadline`.
pub async fn connect_any(
    addresses: &[SocketAddr],
    options: SocketOptions,
    deadline: Instant,
) -> Result<(Socket, SocketAddr), ConnectError> {
    let mut preferred: Vec<SocketAddr, MAX_ADDRESSES> = Vec::new();
    let mut other: Vec<SocketAddr, MAX_ADDRESSES> = Vec::new();
    for address in addresses.iter().take(MAX_ADDRESSES) {
        let same = addresses
            .first()
            .is_some_and(|first| first.is_ipv4() == address.is_ipv4());
        // At most MAX_ADDRESSES are looked at, so each list has room.
        let _ = if same {
            preferred.push(*address)
        } else {
            other.push(*address)
        };
    }
    let mut first = pin!(connect_in_turn(&preferred, options, deadline));
    if other.is_empty() {
        return first.await;
    }
    let second = connect_in_turn(&other, options, deadline);
    match timeout_at(now() + FAMILY_HEAD_START_MS, first.as_mut()).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(failed)) => second.await.map_err(|error| failed.or_more_telling(error)),
        Err(_) => first_success(first, pin!(second)).await,
    }
}

type Connected = Result<(Socket, SocketAddr), ConnectError>;

/// Runs both until one connects; the failure of both is the more telling one.
async fn first_success(
    mut first: Pin<&mut impl Future<Output = Connected>>,
    mut second: Pin<&mut impl Future<Output = Connected>>,
) -> Connected {
    let mut failures: (Option<ConnectError>, Option<ConnectError>) = (None, None);
    poll_fn(|cx| {
        if failures.0.is_none()
            && let Poll::Ready(done) = first.as_mut().poll(cx)
        {
            match done {
                Ok(connected) => return Poll::Ready(Ok(connected)),
                Err(error) => failures.0 = Some(error),
            }
        }
        if failures.1.is_none()
            && let Poll::Ready(done) = second.as_mut().poll(cx)
        {
            match done {
                Ok(connected) => return Poll::Ready(Ok(connected)),
                Err(error) => failures.1 = Some(error),
            }
        }
        match (failures.0.take(), failures.1.take()) {
            (Some(first), Some(second)) => Poll::Ready(Err(first.or_more_telling(second))),
            waiting => {
                failures = waiting;
                Poll::Pending
            }
        }
    })
    .await
}

async fn connect_in_turn(addresses: &[SocketAddr], options: SocketOptions, deadline: Instant) -> Connected {
    let mut failed = ConnectError {
        address: None,
        error: io::ErrorKind::AddrNotAvailable.into(),
    };
    for (index, address) in addresses.iter().enumerate() {
        let last = index + 1 == addresses.len();
        let error = match timeout_at(address_deadline(deadline, last), Socket::connect(*address, options)).await {
            Ok(Ok(socket)) => return Ok((socket, *address)),
            Ok(Err(error)) => error,
            Err(TimeoutError::Elapsed) => io::ErrorKind::TimedOut.into(),
            Err(TimeoutError::TableFull(full)) => full.into(),
        };
        failed = failed.or_more_telling(ConnectError {
            address: Some(*address),
            error,
        });
    }
    Err(failed)
}

/// The last address gets all the time left, an earlier one half of it.
fn address_deadline(deadline: Instant, last: bool) -> Instant {
    let now = now();
    let half = now + (deadline.since(now) / 2).max(MIN_CONNECT_BUDGET_MS);
    if last { deadline } else { half.min(deadline) }
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: SocketAddr,
}

impl Listener {
    /// Binds and listens; port 0 takes any free port.
    ///
    /// # Errors
    ///
    /// What bind(2) reports: address in use, not ours, port not allowed.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let fd = socket_with(family, SocketType::STREAM, STREAM_FLAGS, None)?;
        // A restart must not wait for connections of the previous life to time out.
        sockopt::set_socket_reuseaddr(&fd, true)?;
        bind(&fd, &address)?;
        listen(&fd, LISTEN_BACKLOG)?;
        let address = SocketAddr::try_from(getsockname(&fd)?).map_err(|_| io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { fd, address })
    }

    /// The address bound to, with the port the kernel chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection. Several tasks may wait on one listener.
    ///
    /// # Errors
    ///
    /// No free descriptor or reactor slot; the caller waits and tries again. A connection that was
    /// reset before it was accepted is skipped.
    pub async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        loop {
            match acceptfrom_with(&self.fd, STREAM_FLAGS) {
                Ok((fd, peer)) => {
                    let _ = sockopt::set_tcp_nodelay(&fd, true);
                    return Ok((
                        Socket { fd, meter: None },
                        peer.and_then(|peer: SocketAddrAny| SocketAddr::try_from(peer).ok()),
                    ));
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => {
                    ready(self.fd.as_fd(), Interest::Read).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Connects a datagram socket to the supervisor's notification address (`NOTIFY_SOCKET`): a path, or an
/// abstract name written with a leading `@`. Non-blocking: a supervisor that does not read costs a
/// message, not the loop.
///
/// # Errors
///
/// The address is too long, or nobody listens there.
pub fn notify_socket(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes().split_first() {
        Some((b'@', name)) => {
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        _ => socket.connect(Path::new(address))?,
    }
    Ok(socket)
}

/// Waits out a failure that only time mends, such as no free descriptor.
pub async fn pause(ms: u64) {
    // Without a free timer the caller just tries again sooner.
    let _ = sleep_until(now() + ms).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn run<T>(main: impl Future<Output = T>) -> T {
        super::super::runtime::run(&smol::LocalExecutor::new(), main)
    }

    fn loopback() -> Listener {
        Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback")
    }

    /// A loopback port nobody listens on.
    fn closed_port() -> SocketAddr {
        loopback().address()
    }

    /// TEST-NET-1 (RFC 5737): never answers, or is unreachable at once where there is no route.
    const BLACK_HOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

    #[test]
    fn bytes_travel_both_ways_and_close_is_seen() {
        let listener = loopback();
        run(smol::future::zip(
            async {
                let (server, peer) = listener.accept().await.expect("accept");
                assert!(peer.is_some());
                let mut buf = [0; 8];
                assert_eq!(server.read(&mut buf).await.expect("read"), 4);
                server.write_all(b"pong").await.expect("write");
            },
            async {
                let client = Socket::connect(listener.address(), SocketOptions::default())
                    .await
                    .expect("connect");
                assert!(client.is_quiet());
                client.write_all(b"ping").await.expect("write");
                let mut buf = [0; 8];
                assert_eq!(client.read(&mut buf).await.expect("read"), 4);
                assert_eq!(client.read(&mut buf).await.expect("read"), 0);
                assert!(!client.is_quiet());
            },
        ));
    }

    #[test]
    fn refused_connection_names_the_address() {
        let address = closed_port();
        let error = run(connect_any(&[address], SocketOptions::default(), now() + 2_000)).expect_err("closed");
        assert_eq!(error.error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(
            error.to_string().starts_with(&format!("connect {address}: ")),
            "{error}"
        );
    }

    #[test]
    fn the_next_address_is_tried_and_the_other_family_too() {
        let listener = loopback();
        let options = SocketOptions {
            receive_buffer_bytes: Some(8192),
            send_buffer_bytes: Some(8192),
        };
        let closed = closed_port();
        let v6_closed = SocketAddr::from((Ipv6Addr::LOCALHOST, closed.port()));
        for list in [[closed, listener.address()], [v6_closed, listener.address()]] {
            let (_, reached) = run(connect_any(&list, options, now() + 2_000)).expect("second address answers");
            assert_eq!(reached, listener.address());
        }
    }

    #[test]
    fn the_deadline_bounds_a_silent_address() {
        let start = now();
        let error = run(connect_any(&[BLACK_HOLE], SocketOptions::default(), start + 60)).expect_err("black hole");
        assert!(now().since(start) < 1_000);
        assert_eq!(error.address, Some(BLACK_HOLE));
    }

    #[test]
    fn no_address_is_an_error() {
        let error = run(connect_any(&[], SocketOptions::default(), now() + 10)).expect_err("nothing to try");
        assert_eq!(error.address, None);
    }

    #[test]
    fn notifications_reach_an_abstract_socket() {
        let name = format!("tidegate-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("short name");
        let receiver = UnixDatagram::bind_addr(&address).expect("bind");
        let sender = notify_socket(OsStr::new(&format!("@{name}"))).expect("connect");
        sender.send(b"READY=1").expect("send");
        let mut buf = [0; 16];
        let read = receiver.recv(&mut buf).expect("receive");
        assert_eq!(&buf[..read], b"READY=1");
    }
}
