//! An allocator that knows how much was taken at once, to hold readers to their bounds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a frame may cost in memory while it is read: this much whatever it is, for 4,096 envelopes
/// or the longest control message, …
pub const FRAME_FIXED: usize = 16 << 20;
/// … and this much for each of its bytes.
pub const FRAME_EACH: usize = 4;

/// The system's allocator, counting.
pub struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the promises that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// The most bytes that `work` held at once, beyond what was held before it. Only meaningful while
/// no other thread allocates.
pub fn most_held(work: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    work();
    MOST.load(Ordering::Relaxed).saturating_sub(before)
}

/// Runs a reader and holds it to a bound in the size of what it reads.
///
/// # Panics
/// When it held more than `fixed` and `each` for every byte of `data`.
pub fn bounded(data: &[u8], fixed: usize, each: usize, reader: fn(&[u8])) {
    let held = most_held(|| reader(data));
    let bound = fixed + each * data.len();
    assert!(held <= bound, "{held} bytes were held for {}", data.len());
}
