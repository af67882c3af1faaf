//! The program's allocator: the system's, which is given back nothing that can still be read.
//!
//! Keys and passwords wipe themselves. What is said, and the copies that libraries make of a
//! request's body, do not: without this they would lie in freed memory until somebody is given that
//! piece. So everything that Rust code allocates is wiped when it is freed.
//! (`tests/daemon/memory.rs` looks into a running daemon.)

use std::alloc::{GlobalAlloc, Layout, System};

pub(crate) struct Wiping;

// SAFETY: every call goes on to the system's allocator with the same layout. `realloc` is the
// trait's own: a new block, a copy, and the old one through `dealloc`.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one that the system's asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back a whole block of this layout that nobody uses any more.
        unsafe {
            block.write_bytes(0, layout.size());
            // The compiler knows what freeing is, and would leave out what nobody reads before it.
            System.dealloc(std::hint::black_box(block), layout);
        }
    }
}
