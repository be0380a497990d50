//! Does a piece of code allocate? A global allocator for tests that counts.
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: shunt_ffi::alloc::Counting = shunt_ffi::alloc::Counting;
//! let before = shunt_ffi::alloc::of_this_thread();
//! drop(Box::new(1));
//! assert_eq!(shunt_ffi::alloc::of_this_thread() - before, 2);
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // const and without Drop: the allocator may touch it at any moment of a thread's life.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count of each thread's calls.
pub struct Counting;

/// How often the calling thread has allocated, reallocated or freed. Stays 0 unless [`Counting`] is the global allocator.
pub fn of_this_thread() -> u64 {
    CALLS.get()
}

fn count() {
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: all calls go to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the same as ours to make.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
