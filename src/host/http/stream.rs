//! One connection, plain or TLS, behind the same calls.

use alloc::boxed::Box;
use std::os::fd::{AsFd, BorrowedFd};

use crate::host::net::Socket;
use crate::host::runtime::{Interest, ready};
use crate::host::tls::{StreamError, TlsStream};

/// A connection ready for HTTP.
pub(super) enum Stream {
    /// Bytes as they are.
    Plain(Socket),
    /// Through TLS; boxed, because a TLS connection is about 1 KiB.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Reads what is there; 0 = orderly end, `None` = nothing yet.
    pub(super) fn try_read(&mut self, buf: &mut [u8]) -> Result<Option<usize>, StreamError> {
        match self {
            Self::Plain(socket) => Ok(socket.try_read(buf)?),
            Self::Tls(tls) => tls.try_read(buf),
        }
    }

    /// Takes what fits; `None` = nothing now. With TLS the bytes may wait for [`Self::try_flush`].
    pub(super) fn try_write(&mut self, buf: &[u8]) -> Result<Option<usize>, StreamError> {
        match self {
            Self::Plain(socket) => Ok(socket.try_write(buf)?),
            Self::Tls(tls) => tls.try_write(buf),
        }
    }

    /// True when everything taken has been given to the kernel.
    pub(super) fn try_flush(&mut self) -> Result<bool, StreamError> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    /// Reads at least one byte; 0 = orderly end.
    pub(super) async fn read(&mut self, buf: &mut [u8]) -> Result<usize, StreamError> {
        loop {
            if let Some(read) = self.try_read(buf)? {
                return Ok(read);
            }
            ready(self.as_fd(), Interest::Read).await?;
        }
    }

    /// True while the peer has neither sent anything nor closed.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            // Tickets and key updates may have come in; plain bytes or an end make it unfit.
            Self::Tls(tls) => matches!(tls.try_read(&mut [0; 1]), Ok(None)),
        }
    }

    /// Says goodbye as far as that is possible at once, and closes.
    pub(super) fn close(self) {
        if let Self::Tls(mut tls) = self {
            tls.close_notify();
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Tls(tls) => tls.as_fd(),
        }
    }
}
