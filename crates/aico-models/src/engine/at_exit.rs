//! The end of the process while a model computes.
//!
//! At an end the library's tables are taken down, under whichever thread still computes with them,
//! and the process would die of it after its work was done. So an end waits for the step that is
//! running, and no other begins.

use std::mem::ManuallyDrop;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

/// Shared by those who compute; at an end of the process nobody gets it any more.
static COMPUTES: RwLock<()> = RwLock::new(());

/// How long an end waits. A step takes less.
const MOST: Duration = Duration::from_secs(10);

/// Computes, as long as the process does not end.
pub(super) fn compute<T>(work: impl FnOnce() -> T) -> T {
    static BEFORE: Once = Once::new();
    static AFTER: Once = Once::new();
    BEFORE.call_once(wait_at_exit);
    let computes = COMPUTES.read();
    let done = work();
    drop(computes);
    // Some tables are made by the first step. Who is told last of an end is called first.
    AFTER.call_once(wait_at_exit);
    done
}

fn wait_at_exit() {
    extern "C" fn wait() {
        static ENDS: AtomicBool = AtomicBool::new(false);
        if !ENDS.swap(true, Ordering::SeqCst)
            && let Some(alone) = COMPUTES.try_write_for(MOST)
        {
            // For good.
            let _held = ManuallyDrop::new(alone);
        }
    }
    // SAFETY: the function has no arguments and does not unwind.
    if unsafe { libc::atexit(wait) } != 0 {
        tracing::warn!("a process that ends will not wait for its model");
    }
}
