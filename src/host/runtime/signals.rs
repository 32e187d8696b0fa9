//! Signals as events: signalfd(2) on the loop, no handler.
//!
//! SIGTERM, SIGINT and SIGHUP are blocked and read from a descriptor; SIGPIPE is ignored, so that a
//! closed connection is an error of the write.

use core::mem::MaybeUninit;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use super::{Interest, ready};

/// A signal the agent acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: stop, flush, exit 0.
    Terminate,
    /// SIGINT: the same, from a terminal.
    Interrupt,
    /// SIGHUP: reload the configuration.
    Hangup,
}

impl Signal {
    fn from_number(number: u32) -> Option<Self> {
        match i32::try_from(number).ok()? {
            libc::SIGTERM => Some(Self::Terminate),
            libc::SIGINT => Some(Self::Interrupt),
            libc::SIGHUP => Some(Self::Hangup),
            _ => None,
        }
    }
}

/// Bytes of one `signalfd_siginfo`; its first four are the signal number.
const SIGINFO_BYTES: usize = size_of::<libc::signalfd_siginfo>();

/// The descriptor on which signals arrive. Make one, before anything else runs.
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks the signals for this thread and opens the descriptor.
    ///
    /// # Errors
    ///
    /// The kernel has no signalfd, or the process no free descriptor.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the set is initialised by sigemptyset before it is read; the calls have no other
        // memory effects. The descriptor returned is new and ours alone.
        unsafe {
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            let set = set.assume_init();
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, core::ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self {
                fd: OwnedFd::from_raw_fd(fd),
            })
        }
    }

    /// Waits for the next signal.
    ///
    /// # Errors
    ///
    /// Reading the descriptor failed, or the reactor has no slot to wait in.
    pub async fn next(&mut self) -> io::Result<Signal> {
        loop {
            let mut info = [0u8; SIGINFO_BYTES];
            match rustix::io::read(&self.fd, &mut info) {
                Ok(_) => {
                    let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                    if let Some(signal) = Signal::from_number(number) {
                        return Ok(signal);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => {
                    ready(self.fd.as_fd(), Interest::Read).await?;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raise(signal: i32) {
        // SAFETY: the signal is blocked for this thread by `Signals::new`, so it only becomes pending.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }

    #[test]
    fn signals_become_events() {
        let executor = smol::LocalExecutor::new();
        super::super::run(&executor, async {
            let mut signals = Signals::new().expect("signalfd");
            raise(libc::SIGHUP);
            assert_eq!(signals.next().await.expect("read"), Signal::Hangup);
            raise(libc::SIGTERM);
            assert_eq!(signals.next().await.expect("read"), Signal::Terminate);
        });
    }
}
