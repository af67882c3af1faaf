//! The engine's memory. Pages, rows and statements lie in it in clear, and SQLCipher wipes no more of
//! it than its own keys: so it comes from the program's allocator, and is wiped when it is freed.
//! (SQLCipher's `cipher_memory_security` would wipe too, and lock each allocation.)

use std::{
    alloc::{self, Layout},
    ffi::{c_int, c_void},
    hint, ptr,
};

use rusqlite::ffi;

/// Before each block: how long it is. As long as what the engine wants blocks aligned to.
const HEAD: usize = 16;

/// Hands the engine this memory; `false` when it has begun with another already.
pub(crate) fn install() -> bool {
    let mut methods = ffi::sqlite3_mem_methods {
        xMalloc: Some(allocate),
        xFree: Some(free),
        xRealloc: Some(reallocate),
        xSize: Some(size),
        xRoundup: Some(round_up),
        xInit: Some(begin),
        xShutdown: Some(end),
        pAppData: ptr::null_mut(),
    };
    // SAFETY: the option takes a pointer to the methods and copies them; an engine that was started
    // already refuses it and changes nothing.
    let code = unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw mut methods) };
    code == ffi::SQLITE_OK
}

fn layout(length: usize) -> Option<Layout> {
    Layout::from_size_align(length.checked_add(HEAD)?, HEAD).ok()
}

/// The length of a block.
///
/// # Safety
/// It is one that [`allocate`] answered and nobody has freed.
unsafe fn length(block: *mut c_void) -> usize {
    // SAFETY: the head stands before the block, aligned as it is.
    unsafe { block.byte_sub(HEAD).cast::<usize>().read() }
}

unsafe extern "C" fn allocate(wanted: c_int) -> *mut c_void {
    let Ok(wanted) = usize::try_from(wanted) else {
        return ptr::null_mut();
    };
    let Some(layout) = layout(wanted) else {
        return ptr::null_mut();
    };
    // SAFETY: the layout is not empty; the head fits and is aligned.
    unsafe {
        let head = alloc::alloc(layout);
        if head.is_null() {
            return ptr::null_mut();
        }
        head.cast::<usize>().write(wanted);
        head.add(HEAD).cast()
    }
}

unsafe extern "C" fn free(block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: the engine frees what it got from `allocate`, once.
    unsafe {
        let length = length(block);
        block.write_bytes(0, length);
        // The compiler knows what freeing is, and would leave out what nobody reads before it.
        let head = hint::black_box(block).byte_sub(HEAD).cast();
        if let Some(layout) = layout(length) {
            alloc::dealloc(head, layout);
        }
    }
}

unsafe extern "C" fn reallocate(block: *mut c_void, wanted: c_int) -> *mut c_void {
    // SAFETY: as for the others; the old block is freed when the new one has what was in it.
    unsafe {
        let new = allocate(wanted);
        if !new.is_null() && !block.is_null() {
            let kept = length(block).min(length(new));
            ptr::copy_nonoverlapping(block.cast::<u8>(), new.cast(), kept);
            free(block);
        }
        new
    }
}

unsafe extern "C" fn size(block: *mut c_void) -> c_int {
    if block.is_null() {
        return 0;
    }
    // SAFETY: the engine asks of what it got from `allocate`, where the length was an int.
    unsafe { length(block) as c_int }
}

unsafe extern "C" fn round_up(wanted: c_int) -> c_int {
    wanted.checked_add(7).map_or(wanted, |wanted| wanted & !7)
}

unsafe extern "C" fn begin(_: *mut c_void) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn end(_: *mut c_void) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_what_is_in_them_when_they_grow_and_shrink() {
        // SAFETY: used as the engine uses them.
        unsafe {
            let mut block = allocate(5);
            assert_eq!((block as usize % HEAD, size(block)), (0, 5));
            block.cast::<[u8; 5]>().write(*b"quill");
            for wanted in [5000, 5, 4096] {
                block = reallocate(block, wanted);
                assert_eq!(size(block), wanted);
                assert_eq!(block.cast::<[u8; 5]>().read(), *b"quill");
            }
            free(block);
            free(ptr::null_mut());
            assert_eq!(size(ptr::null_mut()), 0);
            assert!(allocate(-1).is_null());
        }
        // SAFETY: no pointers.
        let rounded = [1, 8, c_int::MAX].map(|wanted| unsafe { round_up(wanted) });
        assert_eq!(rounded, [8, 8, c_int::MAX]);
    }
}
