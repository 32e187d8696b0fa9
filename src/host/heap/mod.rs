//! The process' heap, counted and capped: what is live now, what was live at most, how often it was asked.
//!
//! The scrape, store and batch path asks for nothing after start; what still does (TLS, reload, the status
//! port) shows here, and in `/metrics` as `tidegate_heap_*`. [`seal`] caps what it may take. Counting costs a handful of
//! additions per call.
//!
//! Blocks of [`LARGE_BYTES`] and more are pages mapped for them alone, whatever the C library does: the pools made at
//! start are sized for the worst case, and a page that was never touched costs no memory. The allocator of the released
//! binary's C library clears zeroed blocks by hand, and rounds sizes up to powers of two.

mod sealed;

pub use sealed::{ArenaFull, ArenaUse, Guarded, OPERATIONS, Operation, arena_use, guard, refuse, seal, unseal, within};

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::System;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// A block of this size or more is mapped on its own: eight pages, of which rounding up wastes less than one. Smaller ones
/// would make system calls of what TLS and HTTP allocate while the agent runs.
pub const LARGE_BYTES: usize = 32 * 1024;

/// Mapped blocks begin at a page, and no system has smaller ones.
const PAGE_BYTES: usize = 4096;

/// The system's allocator, counted; large blocks past it.
#[derive(Debug)]
pub struct CountedHeap;

/// Bytes and calls since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapUse {
    /// Bytes allocated and not freed.
    pub live_bytes: usize,
    /// Highest value of `live_bytes`.
    pub peak_bytes: usize,
    /// Allocations and reallocations.
    pub allocations: usize,
}

/// What the heap holds now.
#[must_use]
pub fn heap_use() -> HeapUse {
    HeapUse {
        live_bytes: LIVE.load(Ordering::Relaxed),
        peak_bytes: PEAK.load(Ordering::Relaxed),
        allocations: CALLS.load(Ordering::Relaxed),
    }
}

fn grown(bytes: usize) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
    sealed::grown(live);
}

/// Whether blocks of this layout are mapped. Depends on nothing else, so that freeing finds the same answer.
const fn is_mapped(layout: Layout) -> bool {
    layout.size() >= LARGE_BYTES && layout.align() <= PAGE_BYTES
}

/// Fresh pages, all zero.
fn map(bytes: usize) -> *mut u8 {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let block = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if block == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    block.cast()
}

// SAFETY: a block is either mapped, page-aligned, of at least its size, and unmapped with the same size; or the call is
// passed on unchanged to the system's allocator, which keeps the contract. The layout alone decides which.
unsafe impl GlobalAlloc for CountedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = if is_mapped(layout) {
            map(layout.size())
        } else {
            // SAFETY: the caller's promises are passed on.
            unsafe { System.alloc(layout) }
        };
        if !block.is_null() {
            grown(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        if is_mapped(layout) {
            // It fails only where the kernel cannot split a mapping; then the pages stay, which harms nothing.
            // SAFETY: the block was mapped with this size, and nobody uses it any more.
            let _ = unsafe { libc::munmap(block.cast(), layout.size()) };
        } else {
            // SAFETY: the caller's promises are passed on.
            unsafe { System.dealloc(block, layout) }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let block = if is_mapped(layout) {
            // Zero already, and untouched.
            map(layout.size())
        } else {
            // SAFETY: the caller's promises are passed on.
            unsafe { System.alloc_zeroed(layout) }
        };
        if !block.is_null() {
            grown(layout.size());
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller promises that `bytes`, rounded up to the alignment, does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        let moved = match (is_mapped(layout), is_mapped(wanted)) {
            // SAFETY: the caller's promises are passed on.
            (false, false) => unsafe { System.realloc(block, layout, bytes) },
            (true, true) => {
                // SAFETY: the block was mapped with this size; the kernel may move it, contents and all.
                let moved = unsafe { libc::mremap(block.cast(), layout.size(), bytes, libc::MREMAP_MAYMOVE) };
                if moved == libc::MAP_FAILED {
                    ptr::null_mut()
                } else {
                    moved.cast()
                }
            }
            // SAFETY: both layouts are valid; the copy stays within the smaller of two different blocks; the old one
            // is given back as it was got. Both calls count, so nothing is left to count here.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(block, moved, layout.size().min(bytes));
                    self.dealloc(block, layout);
                }
                return moved;
            },
        };
        if !moved.is_null() {
            LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
            grown(bytes);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 8).expect("a small power of two, and far from the address space's end")
    }

    /// Pages of `bytes` at `block` that take memory.
    fn resident_pages(block: *mut u8, bytes: usize) -> usize {
        let mut pages = vec![0_u8; bytes.div_ceil(PAGE_BYTES)];
        // SAFETY: the block is mapped, page-aligned, and the vector has one byte for each of its pages.
        let result = unsafe { libc::mincore(block.cast(), bytes, pages.as_mut_ptr().cast()) };
        assert_eq!(result, 0);
        pages.iter().filter(|&&page| page & 1 == 1).count()
    }

    #[test]
    fn zeroed_pages_cost_nothing_until_they_are_touched() {
        let layout = layout(64 * PAGE_BYTES);
        // SAFETY: used within its size, freed once with the same layout.
        unsafe {
            let block = CountedHeap.alloc_zeroed(layout);
            assert_eq!(resident_pages(block, layout.size()), 0);
            block.add(5 * PAGE_BYTES).write(1);
            assert_eq!(resident_pages(block, layout.size()), 1);
            CountedHeap.dealloc(block, layout);
        }
    }

    #[test]
    fn contents_survive_growing_and_shrinking_over_the_limit() {
        let sizes = [
            100,
            LARGE_BYTES,
            3 * LARGE_BYTES + 1,
            LARGE_BYTES - 1,
            5 * LARGE_BYTES,
            LARGE_BYTES,
            64,
        ];
        // SAFETY: each block is used within its size and given up for the next with the layout it has.
        unsafe {
            let mut now = layout(sizes[0]);
            let mut block = CountedHeap.alloc(now);
            for at in 0..64 {
                block.add(at).write(at as u8);
            }
            for bytes in sizes {
                block = CountedHeap.realloc(block, now, bytes);
                now = layout(bytes);
                for at in 0..64 {
                    assert_eq!(block.add(at).read(), at as u8, "byte {at} of {bytes}");
                }
                block.add(bytes - 1).write(63);
            }
            CountedHeap.dealloc(block, now);
        }
    }

    #[test]
    fn blocks_of_unusual_alignment_go_past_the_mapping() {
        let layout = Layout::from_size_align(LARGE_BYTES, 4 * PAGE_BYTES).expect("a power of two");
        // SAFETY: freed once with the same layout.
        unsafe {
            let block = CountedHeap.alloc(layout);
            assert_eq!(block as usize % layout.align(), 0);
            CountedHeap.dealloc(block, layout);
        }
    }
}
