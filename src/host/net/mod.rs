//! Non-blocking sockets on the reactor: connect, accept, read, write.
//!
//! Nothing here resolves names or blocks. A [`Socket`] is a connected stream, TCP or Unix; reading and
//! writing come as `try_` calls, which answer `None` where a blocking socket would wait, and as futures.
//!
//! Limits: [`MAX_ADDRESSES`](super::limits::MAX_ADDRESSES) addresses are tried per connection, at most two at a time.
//! Hostile input: a peer that accepts and never answers costs nothing but the caller's deadline.
//!
//! Sources: connect(2), RFC 8305 (family fallback, as in Go's dialer).

mod dial;

pub use dial::{ConnectError, connect_any};

use alloc::rc::Rc;
use core::cell::Cell;
use core::net::SocketAddr;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
    acceptfrom_with, bind, connect, getsockname, listen, recv, send, shutdown, socket_with, sockopt,
};

use super::runtime::{Interest, now, ready, sleep_until};

/// Connections the kernel holds for us until they are accepted; beyond it clients retry.
const LISTEN_BACKLOG: i32 = 8;

/// Kernel buffers of a socket, bytes; `None` leaves the kernel's own sizing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// `SO_RCVBUF`.
    pub receive_buffer_bytes: Option<usize>,
    /// `SO_SNDBUF`.
    pub send_buffer_bytes: Option<usize>,
    /// `TCP_USER_TIMEOUT`, milliseconds: the connection ends when nothing that was sent has been acknowledged for so long.
    pub user_timeout_ms: Option<u32>,
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
        if let Some(ms) = options.user_timeout_ms {
            sockopt::set_tcp_user_timeout(&fd, ms)?;
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
                    // Without it an answer is later, and no less right.
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
mod tests;
