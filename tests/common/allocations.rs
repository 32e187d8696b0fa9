//! Counts what this thread asks of the allocator; other threads, the test harness among them, do not disturb.
//!
//! A binary that counts says `#[global_allocator] static ALLOCATOR: Counting = Counting;`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is ending has no counters any more, and nobody to read them.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    let _ = BYTES.try_with(|sum| sum.set(sum.get() + bytes));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract; counting neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of this same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size.saturating_sub(layout.size()));
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of this same function.
        unsafe { System.alloc_zeroed(layout) }
    }
}

/// Calls to the allocator, and bytes asked of it, while `work` ran.
pub fn allocations<T>(work: impl FnOnce() -> T) -> (usize, usize, T) {
    let (calls, bytes) = (CALLS.get(), BYTES.get());
    let result = work();
    (CALLS.get() - calls, BYTES.get() - bytes, result)
}

#[test]
fn the_counter_counts() {
    // Kept from being optimised away.
    let (calls, bytes, boxed) = allocations(|| std::hint::black_box(Box::new([0u64; 4])));
    assert_eq!((calls, bytes, boxed.len()), (1, 32, 4));
}
