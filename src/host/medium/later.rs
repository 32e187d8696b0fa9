//! `fdatasync` that does not hold the loop: Linux AIO (`IOCB_CMD_FDSYNC`) and an eventfd.
//!
//! An SD card may take 200 ms and more for a sync. The kernel does it on a thread of its own, which is no thread of this
//! process; the task that asked waits for the eventfd, and scrapes go on. Measured with a dirty 4 MiB (deps.md §5): the loop stands
//! still for 1.2 ms at most, instead of as long as the sync takes.
//!
//! Where the kernel has no AIO (`CONFIG_AIO`), or none for syncs (before 4.18), [`SyncLater::sync`] says so and the caller syncs in place.
//! A stop or a reload may drop the future of a sync that is under way. Its result is not lost, nor mistaken for that of a later one: an
//! error is told once by the kernel, and the next sync in place would not hear of it. [`SyncLater::settle`] waits for it, and the
//! next sync of either kind asks first.
//!
//! Sources: io_setup(2), io_submit(2), io_getevents(2), eventfd(2), linux/aio_abi.h.

use core::cell::Cell;
use core::ffi::{c_long, c_ulong};
use core::ptr;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use crate::host::runtime::{Interest, ready, yield_turn};

const COMMAND_FDSYNC: u16 = 3;
const FLAG_RESULT_FD: u32 = 1;

/// `struct iocb`. Two fields that are always 0 here change places on big-endian machines.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    key_and_flags: [u32; 2],
    command: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    result_fd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Default)]
struct Completed {
    data: u64,
    request: u64,
    result: i64,
    result2: i64,
}

/// Syncs one file or device in the background.
#[derive(Debug)]
pub struct SyncLater {
    context: c_ulong,
    done: OwnedFd,
    file: OwnedFd,
    /// One was begun, and its result not taken yet.
    under_way: Cell<bool>,
}

fn checked(result: c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

impl SyncLater {
    /// For what `file` is open on.
    ///
    /// # Errors
    /// The kernel cannot do it.
    pub fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        let file = file.try_clone_to_owned()?;
        let done = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut context: c_ulong = 0;
        // SAFETY: the kernel writes one context, which is zero as it must be.
        checked(unsafe { libc::syscall(libc::SYS_io_setup, 1_u32, &raw mut context) })?;
        Ok(Self {
            context,
            done,
            file,
            under_way: Cell::new(false),
        })
    }

    /// Syncs; `None`: the kernel does not do that for this file, and nothing has happened.
    pub async fn sync(&self) -> Option<io::Result<()>> {
        if self.under_way.get()
            && let Err(error) = self.result().await
        {
            return Some(Err(error));
        }
        self.submit().ok()?;
        self.under_way.set(true);
        Some(self.result().await)
    }

    /// How the sync went whose future was dropped before it had ended, if there is one; waits for its end.
    ///
    /// # Errors
    /// What the sync would have given.
    pub fn settle(&self) -> io::Result<()> {
        while self.under_way.get() {
            match self.completed(1) {
                Ok(Some(result)) => return result,
                Ok(None) => {}
                // A signal: at a stop it may be the second.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The result of the one under way.
    async fn result(&self) -> io::Result<()> {
        loop {
            if let Err(full) = ready(self.done.as_fd(), Interest::Read).await {
                log::debug!("{full}");
                yield_turn().await;
            }
            let mut count = [0; 8];
            // What it holds does not matter, and when it holds nothing there is nothing to be had below.
            let _ = rustix::io::read(&self.done, &mut count);
            if let Some(result) = self.completed(0)? {
                return result;
            }
        }
    }

    fn submit(&self) -> io::Result<()> {
        // Descriptors are not negative.
        let number = |fd: &OwnedFd| fd.as_raw_fd().unsigned_abs();
        let mut request = Request {
            command: COMMAND_FDSYNC,
            fd: number(&self.file),
            flags: FLAG_RESULT_FD,
            result_fd: number(&self.done),
            ..Request::default()
        };
        let mut requests = [&raw mut request];
        // SAFETY: one request of the kernel's layout, which the kernel copies before it returns.
        let taken =
            checked(unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1 as c_long, requests.as_mut_ptr()) })?;
        match taken {
            1 => Ok(()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Takes the result; waits for it if `least` is 1, else there may be none.
    fn completed(&self, least: c_long) -> io::Result<Option<io::Result<()>>> {
        let mut event = Completed::default();
        let none: *mut libc::timespec = ptr::null_mut();
        // SAFETY: room for the one event asked for.
        let got = checked(unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                least,
                1 as c_long,
                &raw mut event,
                none,
            )
        })?;
        self.under_way.set(self.under_way.get() && got == 0);
        Ok((got > 0).then(|| match i32::try_from(event.result) {
            Ok(code) if code < 0 => Err(io::Error::from_raw_os_error(-code)),
            _ => Ok(()),
        }))
    }
}

impl Drop for SyncLater {
    fn drop(&mut self) {
        // Waits for what is under way.
        // SAFETY: the context was made by io_setup(2) and is given up here, once.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::runtime::{now, run, sleep_until};
    use smol::LocalExecutor;
    use std::io::Write as _;

    #[test]
    fn the_layouts_are_the_kernels() {
        assert_eq!((size_of::<Request>(), size_of::<Completed>()), (64, 32));
        assert_eq!(core::mem::offset_of!(Request, fd), 20);
        assert_eq!(core::mem::offset_of!(Request, result_fd), 60);
    }

    #[test]
    fn a_file_is_synced_again_and_again_while_timers_run() {
        let path = std::env::temp_dir().join(alloc::format!("tidegate-later-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).expect("temporary file");
        let Ok(later) = SyncLater::new(file.as_fd()) else {
            // Where the kernel has no AIO there is nothing to test, and the agent syncs in place.
            return;
        };
        let executor = LocalExecutor::new();
        run(&executor, async {
            for _ in 0..3 {
                file.write_all(&[7; 100_000]).expect("room");
                let both = smol::future::zip(later.sync(), sleep_until(now() + 1)).await;
                assert!(matches!(both.0, None | Some(Ok(()))), "{:?}", both.0);
            }
        });
        std::fs::remove_file(&path).expect("there");
    }

    #[test]
    fn the_result_of_a_sync_that_was_dropped_is_asked_for_by_the_next() {
        let path = std::env::temp_dir().join(alloc::format!("tidegate-dropped-{}", std::process::id()));
        let mut file = std::fs::File::create(&path).expect("temporary file");
        let Ok(later) = SyncLater::new(file.as_fd()) else {
            return;
        };
        let begin = |file: &mut std::fs::File| {
            file.write_all(&[7; 100_000]).expect("room");
            // Begun, and dropped at once.
            let begun = smol::future::poll_once(later.sync());
            run(&LocalExecutor::new(), begun)
        };
        if begin(&mut file).is_some() {
            // It has ended already, or cannot be begun here.
            std::fs::remove_file(&path).expect("there");
            return;
        }
        assert!(later.under_way.get());
        assert!(later.settle().is_ok(), "waited for");
        assert!(!later.under_way.get());
        assert!(later.settle().is_ok(), "nothing to wait for");
        if begin(&mut file).is_none() {
            let next = run(&LocalExecutor::new(), later.sync());
            assert!(matches!(next, Some(Ok(()))), "{next:?}");
        }
        assert!(!later.under_way.get(), "both results are taken");
        std::fs::remove_file(&path).expect("there");
    }

    #[test]
    fn what_cannot_be_synced_is_said_at_once() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().expect("socketpair");
        let Ok(later) = SyncLater::new(near.as_fd()) else {
            return;
        };
        let result = run(&LocalExecutor::new(), later.sync());
        assert!(!matches!(result, Some(Ok(()))), "{result:?}");
    }
}
