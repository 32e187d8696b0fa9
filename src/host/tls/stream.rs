//! A TLS connection over a non-blocking socket.

use core::ops::DerefMut;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustls::{ClientConnection, ConnectionCommon, SideData};

use super::error::StreamError;
use crate::host::net::Socket;
use crate::host::runtime::{Interest, ready};

/// Bytes that may wait to be sent, per connection. Also the largest record we send: each costs 22 bytes
/// on the wire, so 8 KiB records add 0.3 % and 16 KiB ones would add 0.15 % for twice the memory.
pub const SEND_LIMIT_BYTES: usize = 8 * 1024;

/// One TLS connection. `C` is a client connection, in tests also a server's.
pub struct TlsStream<C = ClientConnection> {
    connection: C,
    socket: Socket,
}

impl<C, S> TlsStream<C>
where
    C: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    /// Puts `connection` over `socket`; nothing is sent yet.
    pub(super) fn new(mut connection: C, socket: Socket) -> Self {
        connection.set_buffer_limit(Some(SEND_LIMIT_BYTES));
        Self { connection, socket }
    }

    /// Completes the handshake. What it leaves to send goes out with the first bytes of data.
    pub(super) async fn handshake(&mut self) -> Result<(), StreamError> {
        while self.connection.is_handshaking() {
            let flushed = self.try_flush()?;
            if self.connection.is_handshaking() && !self.receive()? {
                let interest = if flushed { Interest::Read } else { Interest::ReadOrWrite };
                ready(self.socket.as_fd(), interest).await?;
            }
        }
        Ok(())
    }

    /// Gives the kernel what waits to be sent; true when nothing is left.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn try_flush(&mut self) -> Result<bool, StreamError> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut &self.socket) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Takes TLS bytes from the kernel and decrypts them; false when there were none.
    fn receive(&mut self) -> Result<bool, StreamError> {
        match self.connection.read_tls(&mut &self.socket) {
            Ok(0) if self.connection.is_handshaking() => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(_) => {
                if let Err(error) = self.connection.process_new_packets() {
                    // Tell the peer why, if that is possible at once.
                    let _ = self.connection.write_tls(&mut &self.socket);
                    return Err(error.into());
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what is there; 0 = the peer said goodbye, `None` = nothing yet.
    ///
    /// # Errors
    ///
    /// The connection broke or ended without goodbye (`UnexpectedEof`: somebody may have cut it), or the
    /// peer broke the protocol. In TLS 1.3 this is also where a missing client certificate shows.
    pub fn try_read(&mut self, buf: &mut [u8]) -> Result<Option<usize>, StreamError> {
        loop {
            match self.connection.reader().read(buf) {
                Ok(read) => return Ok(Some(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if !self.receive()? {
                // Key updates and alerts go out when there is room.
                self.try_flush()?;
                return Ok(None);
            }
        }
    }

    /// Encrypts what fits under [`SEND_LIMIT_BYTES`] and sends what the kernel takes; `None` = nothing fits.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn try_write(&mut self, buf: &[u8]) -> Result<Option<usize>, StreamError> {
        loop {
            let taken = self.connection.writer().write(buf)?;
            let flushed = self.try_flush()?;
            if taken > 0 || buf.is_empty() {
                return Ok(Some(taken));
            }
            if !flushed {
                return Ok(None);
            }
        }
    }

    /// Says goodbye as far as that is possible at once.
    pub fn close_notify(&mut self) {
        self.connection.send_close_notify();
        // The connection is over either way.
        let _ = self.try_flush();
    }

    /// The session was resumed: no certificate travelled.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }
}

impl<C> AsFd for TlsStream<C> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
