//! Locked pages on Unix: an anonymous mapping with `mlock` and, where there is such a thing,
//! advice to leave it out of dumps and of forked children.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::{NonNull, null_mut};
use std::sync::Once;

/// Maps `len` zero bytes and locks them as far as the system allows.
pub(super) fn map(len: usize) -> NonNull<u8> {
    // SAFETY: an anonymous private mapping without a wanted address touches no other memory.
    let start = unsafe {
        libc::mmap(
            null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANON,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        handle_alloc_error(Layout::new::<[u8; 64]>());
    }
    // SAFETY: `start` is a mapping of `len` bytes that this function made.
    let locked = unsafe { libc::mlock(start, len) } == 0;
    if !locked {
        static WARNED: Once = Once::new();
        WARNED.call_once(|| {
            tracing::warn!(
                "keys could not be locked into memory and might be written to swap; \
                 raise the limit with `ulimit -l`"
            );
        });
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    for advice in [libc::MADV_DONTDUMP, libc::MADV_DONTFORK] {
        // SAFETY: as above; the advice changes dumps and forks, not what this process reads.
        unsafe { libc::madvise(start, len, advice) };
    }
    #[cfg(any(target_os = "freebsd", target_os = "dragonfly"))]
    // SAFETY: as above.
    unsafe {
        libc::madvise(start, len, libc::MADV_NOCORE);
    }
    match NonNull::new(start.cast()) {
        Some(start) => start,
        None => handle_alloc_error(Layout::new::<[u8; 64]>()),
    }
}

/// Gives a mapping back.
///
/// # Safety
/// `start` and `len` are those of a call of [`map`], and nothing refers to the bytes any more.
pub(super) unsafe fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: promised by the caller. Unmapping unlocks.
    unsafe { libc::munmap(start.as_ptr().cast(), len) };
}
