//! Gives back memory that only the start needed: pages of the program's file, and of the stack.
//!
//! The kernel counts every page of the file that was ever touched, and maps sixteen at a time; what loads a configuration, mounts
//! a ring and shakes hands is half of them and is not needed again for hours. Giving pages up costs nothing but a minor fault
//! each when they are: they stay in the page cache as long as memory allows. The stack never shrinks by itself, and is deepest at start.
//!
//! Measured (x86-64, 3 x 350 series each second, TLS): file pages 2,188 -> 1,572 KiB.
//!
//! Sources: madvise(2), dl_iterate_phdr(3).

use core::ffi::{c_int, c_void};
use core::hint::black_box;

/// Stack below the caller that is left alone: more than the calls made here and the red zone take.
const STACK_MARGIN_BYTES: usize = 16 * 1024;

/// As far below that it is given back. Far less than the 128 MiB that the kernel keeps free below a stack, so that nothing else can
/// be there.
const STACK_DEPTH_BYTES: usize = 1024 * 1024;

/// Gives back what is not in use. To be called when something is over that only a start needs.
pub fn trim() {
    // SAFETY: the callback has the signature asked for, and returns 1, so it is called once: for the program itself.
    unsafe { libc::dl_iterate_phdr(Some(release_file), core::ptr::null_mut()) };
    release_stack();
}

unsafe extern "C" fn release_file(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the pointer is to a description of the program, valid during the call.
    let Some(info) = (unsafe { info.as_ref() }) else {
        return 1;
    };
    // SAFETY: the program headers of an image that runs are in memory, as many as it says.
    let headers = unsafe { core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
        let end = start.wrapping_add(header.p_memsz as usize);
        // Only whole pages of the segment: a page at its ends may have data of another.
        release(start.next_multiple_of(page_bytes()), end);
    }
    1
}

fn release_stack() {
    // By number: std asks for the function only if there is one, and a static binary then has none.
    // SAFETY: both take nothing and cannot fail.
    let main_thread = unsafe { libc::syscall(libc::SYS_gettid) == libc::c_long::from(libc::getpid()) };
    if !main_thread {
        return;
    }
    let here = 0_u8;
    let end = (&raw const *black_box(&here) as usize).saturating_sub(STACK_MARGIN_BYTES);
    release(
        end.saturating_sub(STACK_DEPTH_BYTES).next_multiple_of(page_bytes()),
        end,
    );
}

fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// Gives up the whole pages from `start`, which begins one, to `end`.
fn release(start: usize, end: usize) {
    let bytes = end.saturating_sub(start) / page_bytes() * page_bytes();
    if bytes == 0 {
        return;
    }
    // SAFETY: the pages are either mapped from the program's file, not writable, and come back from it unchanged; or they are stack
    // below every live frame, and come back as zeroes, which nobody reads before writing. Parts that are not mapped are passed over.
    unsafe { libc::madvise(core::ptr::without_provenance_mut(start), bytes, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(key: &str) -> usize {
        let text = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
        let line = text.lines().find_map(|line| line.strip_prefix(key)).expect(key);
        let number = line
            .trim_start_matches(':')
            .split_whitespace()
            .next()
            .expect("a number");
        number.parse().expect("a number")
    }

    #[test]
    fn the_program_goes_on_with_less_of_its_file_in_memory() {
        let before = status("RssFile");
        trim();
        let after = status("RssFile");
        assert!(after < before, "{before} KiB, then {after}");
        // What was given up is there again when it is called.
        assert_eq!(alloc::format!("{:?}", [1.5, f64::NAN]), "[1.5, NaN]");
    }
}
