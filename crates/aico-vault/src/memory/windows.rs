//! Locked pages on Windows: committed memory with `VirtualLock`.
//!
//! Windows has no advice to leave single pages out of a dump that the process asks for itself;
//! [`crate::harden_process`] keeps error reporting from making one.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::{NonNull, null};
use std::sync::Once;

use windows_sys::Win32::System::Memory::{
    MEM_COMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_READWRITE, VirtualAlloc, VirtualFree, VirtualLock,
};

/// Maps `len` zero bytes and locks them as far as the system allows.
pub(super) fn map(len: usize) -> NonNull<u8> {
    // SAFETY: an allocation without a wanted address touches no other memory.
    let start = unsafe { VirtualAlloc(null(), len, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE) };
    let Some(start) = NonNull::new(start.cast::<u8>()) else {
        handle_alloc_error(Layout::new::<[u8; 64]>());
    };
    // SAFETY: `start` is an allocation of `len` bytes that this function made.
    if unsafe { VirtualLock(start.as_ptr().cast(), len) } == 0 {
        static WARNED: Once = Once::new();
        WARNED.call_once(|| {
            tracing::warn!("keys could not be locked into memory and might be written to swap");
        });
    }
    start
}

/// Gives a mapping back.
///
/// # Safety
/// `start` is that of a call of [`map`], and nothing refers to the bytes any more.
pub(super) unsafe fn unmap(start: NonNull<u8>, _len: usize) {
    // SAFETY: promised by the caller. Freeing unlocks.
    unsafe { VirtualFree(start.as_ptr().cast(), 0, MEM_RELEASE) };
}
