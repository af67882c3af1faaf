//! The program's allocator: mimalloc, which is given back nothing that can still be read.
//!
//! Keys and passwords wipe themselves. What is said, and the copies that libraries make of a
//! request's body, do not: without this they would lie in freed memory until somebody is given that
//! piece. So everything is wiped when it is freed. (`tests/daemon/memory.rs` looks into a running daemon.)
//!
//! Why mimalloc: a message of the bus is made on one thread and freed on another, for which the
//! systems' allocators take a lock (docs/benchmarks.md).

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;

pub(crate) struct Wiping;

// SAFETY: blocks come from mimalloc and go back to it with the layout they came with. `realloc` is
// the trait's own: a new block, a copy, and the old one through `dealloc`.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one that mimalloc asks for.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back a whole block of this layout that nobody uses any more. It
        // is handed to a function that the compiler can't look into, so the writing stays.
        unsafe {
            block.write_bytes(0, layout.size());
            MiMalloc.dealloc(block, layout);
        }
    }
}
