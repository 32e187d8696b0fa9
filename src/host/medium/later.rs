//! `fdatasync` that does not hold the loop: Linux AIO (`IOCB_CMD_FDSYNC`) and an eventfd.
//!
//! An SD card may take 200 ms and more for a sync. The kernel does it on a thread of its own, which is no thread of this
//! process; the task that asked waits for the eventfd, and scrapes go on. Measured with a dirty 4 MiB (deps.md §5): the loop stands
//! still for 1.2 ms at most, instead of as long as the sync takes.
//!
//! Where the kernel has no AIO (`CONFIG_AIO`), or none for syncs (before 4.18), [`SyncLater::sync`] says so and the caller syncs in place.
//! Dropping the future of a sync under way waits for it in the kernel: that happens at a stop or a reload only.
//!
//! Sources: io_setup(2), io_submit(2), io_getevents(2), eventfd(2), linux/aio_abi.h.

use core::ffi::{c_long, c_ulong};
use core::ptr;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use crate::host::runtime::{Interest, ready};

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
        Ok(Self { context, done, file })
    }

    /// Syncs; `None`: the kernel does not do that for this file, and nothing has happened.
    pub async fn sync(&self) -> Option<io::Result<()>> {
        self.submit().ok()?;
        loop {
            if let Err(full) = ready(self.done.as_fd(), Interest::Read).await {
                log::debug!("{full}");
                smol::future::yield_now().await;
            }
            let mut count = [0; 8];
            // What it holds does not matter, and when it holds nothing there is nothing to be had below.
            let _ = rustix::io::read(&self.done, &mut count);
            match self.completed() {
                Ok(None) => {}
                Ok(Some(result)) => return Some(result),
                Err(error) => return Some(Err(error)),
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

    fn completed(&self) -> io::Result<Option<io::Result<()>>> {
        let mut event = Completed::default();
        let none: *mut libc::timespec = ptr::null_mut();
        // SAFETY: room for the one event asked for; with a least number of 0 the call does not wait.
        let got = checked(unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                0 as c_long,
                1 as c_long,
                &raw mut event,
                none,
            )
        })?;
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
    fn what_cannot_be_synced_is_said_at_once() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().expect("socketpair");
        let Ok(later) = SyncLater::new(near.as_fd()) else {
            return;
        };
        let result = run(&LocalExecutor::new(), later.sync());
        assert!(!matches!(result, Some(Ok(()))), "{result:?}");
    }
}
