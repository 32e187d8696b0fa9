//! Gives back memory that only the start needed: pages of the program's file, of the stack, and of the heap where they hold zeroes only.
//!
//! The kernel counts every page of the file that was ever touched, and maps sixteen at a time; what loads a configuration, mounts
//! a ring and shakes hands is half of them and is not needed again for hours. Giving pages up costs nothing but a minor fault
//! each when they are: they stay in the page cache as long as memory allows. The stack never shrinks by itself, and is deepest at start.
//!
//! Pools are made of zeroes at start, in memory that other things were in before and that is cleared for it; a page of one that
//! is never used holds zeroes as long as the agent runs. Given back, it reads as zeroes again, so nothing that owns it can tell.
//!
//! Measured (x86-64, 3 x 350 series each second, TLS): file pages 2,188 -> 1,572 KiB, pages of zeroes 192 KiB.
//!
//! Sources: madvise(2), mincore(2), dl_iterate_phdr(3), proc_pid_maps(5).

use core::ffi::{c_int, c_void};
use core::hint::black_box;
use std::os::unix::fs::MetadataExt;

/// Stack below the caller that is left alone: more than the calls made here and the red zone take.
const STACK_MARGIN_BYTES: usize = 16 * 1024;

/// As far below that it is given back. Far less than the 128 MiB that the kernel keeps free below a stack, so that nothing else can
/// be there.
const STACK_DEPTH_BYTES: usize = 1024 * 1024;

/// Pages asked about at once: as many bytes of the stack.
const PAGES_AT_ONCE: usize = 512;

/// Gives back what is not in use. To be called when something is over that only a start needs.
///
/// Reads each page of the heap that is in memory, up to the first word that is not zero.
pub fn trim() {
    // SAFETY: the callback has the signature asked for, and returns 1, so it is called once: for the program itself.
    unsafe { libc::dl_iterate_phdr(Some(release_file), core::ptr::null_mut()) };
    release_stack();
    release_zeroes();
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

/// Gives back the pages of the heap that hold zeroes only; none where the kernel does not say what there is.
fn release_zeroes() {
    // Nobody may write to a page between the look at it and its return: a thread directory with one entry, `.` and `..`. (The kernel
    // syncs the ring in the background; that writes no memory of ours.)
    if !std::fs::metadata("/proc/self/task").is_ok_and(|tasks| tasks.nlink() == 3) {
        return;
    }
    let Ok(maps) = std::fs::read("/proc/self/maps") else {
        return;
    };
    for line in maps.split(|&byte| byte == b'\n') {
        if let Some((start, end)) = str::from_utf8(line).ok().and_then(heap) {
            release_zeroes_of(start, end);
        }
    }
}

/// Bounds of a mapping that is of no file, private and writable, from its line; not those of the stack.
fn heap(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (mode, _offset, _device, inode) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if mode != "rw-p" || inode != "0" || fields.next().is_some_and(|name| name != "[heap]") {
        return None;
    }
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some((address(start)?, address(end)?))
}

fn release_zeroes_of(start: usize, end: usize) {
    let (page, mut in_memory) = (page_bytes(), [0_u8; PAGES_AT_ONCE]);
    for from in (start..end).step_by(page * PAGES_AT_ONCE) {
        let bytes = (page * PAGES_AT_ONCE).min(end - from);
        // SAFETY: there is a byte for each page; of memory that is not mapped it says so.
        let told = unsafe { libc::mincore(core::ptr::without_provenance_mut(from), bytes, in_memory.as_mut_ptr()) };
        if told != 0 {
            return;
        }
        let pages = (from..from + bytes).step_by(page).zip(&in_memory);
        // Together where they lie together: a call each would be one for every page.
        let mut run = (from, from);
        for (at, _) in pages.filter(|&(at, state)| state & 1 == 1 && is_zero(at, page)) {
            if at != run.1 {
                release(run.0, run.1);
                run.0 = at;
            }
            run.1 = at + page;
        }
        release(run.0, run.1);
    }
}

/// Whether the page at `at` holds zeroes only.
fn is_zero(at: usize, page: usize) -> bool {
    let words = core::ptr::with_exposed_provenance::<u64>(at);
    // SAFETY: the page is mapped and can be read, as the kernel has just said, and begins aligned; whatever it holds is read as numbers.
    (0..page / size_of::<u64>()).all(|word| unsafe { words.add(word).read_volatile() } == 0)
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
    // below every live frame, and come back as zeroes, which nobody reads before writing; or they hold zeroes, and come back as such.
    // Parts that are not mapped are passed over.
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

    #[test]
    fn of_the_heap_only_what_is_zero_is_given_back_and_reads_the_same() {
        let page = page_bytes();
        // More than is asked about at once.
        let bytes = (PAGES_AT_ONCE + 9) * page;
        // SAFETY: a new mapping, unmapped below.
        let memory = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(memory, libc::MAP_FAILED);
        let start = memory.expose_provenance();
        // SAFETY: all of the mapping, which nothing else uses.
        let content = unsafe { core::slice::from_raw_parts_mut(memory.cast::<u8>(), bytes) };
        let used = [0, 3, PAGES_AT_ONCE - 1, PAGES_AT_ONCE + 1, PAGES_AT_ONCE + 2];
        content.fill(7);
        content.fill(0);
        for at in used {
            content[at * page + page - 1] = 9;
        }
        let in_memory = || {
            let mut state = alloc::vec![0_u8; bytes / page];
            // SAFETY: a byte for each page.
            assert_eq!(unsafe { libc::mincore(memory, bytes, state.as_mut_ptr()) }, 0);
            let pages = state.iter().enumerate().filter(|(_, state)| **state & 1 == 1);
            pages.map(|(at, _)| at).collect::<alloc::vec::Vec<_>>()
        };
        assert_eq!(in_memory().len(), bytes / page);
        release_zeroes_of(start, start + bytes);
        assert_eq!(in_memory(), used);
        for (at, page) in content.chunks(page).enumerate() {
            assert_eq!(
                page.iter().map(|&byte| u64::from(byte)).sum::<u64>(),
                if used.contains(&at) { 9 } else { 0 }
            );
        }
        // SAFETY: as it was mapped; `content` is not used any more.
        unsafe { libc::munmap(memory, bytes) };
    }

    #[test]
    fn the_heap_is_told_from_files_stack_and_what_cannot_be_written() {
        assert_eq!(heap("7f07-7f09 rw-p 00000000 00:00 0 "), Some((0x7f07, 0x7f09)));
        assert_eq!(
            heap("55de-55df rw-p 00000000 00:00 0    [heap]"),
            Some((0x55de, 0x55df))
        );
        for line in [
            "",
            "7ffd-7ffe rw-p 00000000 00:00 0   [stack]",
            "7ffd-7ffe rw-p 00001000 fe:00 517 /usr/bin/tidegate",
            "7ffd-7ffe rw-s 00000000 00:00 0",
            "7ffd-7ffe r--p 00000000 00:00 0",
            "7ffd-7ffe ---p 00000000 00:00 0",
            "7ffd-7ffe rw-p 00000000 00:00 0   [anon:guard]",
            "rubbish rw-p 00000000 00:00 0",
        ] {
            assert_eq!(heap(line), None, "{line}");
        }
    }
}
