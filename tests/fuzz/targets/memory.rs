//! A limit on live heap memory per input: "never unbounded" as something that fails.
//!
//! Counts per thread, so tests running side by side do not disturb each other.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
}

/// The system's allocator, counting.
pub struct Counting;

fn charge(bytes: usize) {
    let live = LIVE.get().saturating_add_unsigned(bytes);
    LIVE.set(live);
    // A finding may allocate for its message.
    if live > LIMIT.get() && !std::thread::panicking() {
        // So that the report itself may allocate.
        LIMIT.set(isize::MAX);
        let trace = std::backtrace::Backtrace::capture();
        eprintln!("memory: {bytes} bytes more make the input pass its limit\n{trace}");
        // An allocator must not unwind.
        std::process::abort();
    }
}

fn discharge(bytes: usize) {
    LIVE.set(LIVE.get().saturating_sub_unsigned(bytes));
}

// SAFETY: every call goes to the system allocator unchanged; the counters neither allocate nor have a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        discharge(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        charge(size);
        discharge(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Lifts the limit again, also when the input panics.
struct Lift;

impl Drop for Lift {
    fn drop(&mut self) {
        LIMIT.set(isize::MAX);
    }
}

/// Runs `body`; ends the process if it has more than `bytes` live at a time.
pub fn within(bytes: usize, body: impl FnOnce()) {
    LIMIT.set(LIVE.get().saturating_add_unsigned(bytes));
    let _lift = Lift;
    body();
}
