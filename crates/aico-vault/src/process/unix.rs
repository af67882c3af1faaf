//! Process hardening on Unix.

use std::io;

use super::HardenError;

pub(super) fn harden() -> Result<(), HardenError> {
    let core = no_core();
    no_attach()?;
    core
}

pub(super) fn end(code: u8) -> ! {
    // SAFETY: it does not return, and nothing of this process is used after it.
    unsafe { libc::_exit(code.into()) }
}

fn no_core() -> Result<(), HardenError> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: passes a pointer to a whole `rlimit` that outlives the call.
    check(
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) },
        "forbid core files",
    )
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn no_attach() -> Result<(), HardenError> {
    // SAFETY: sets a flag of this process; no pointers are passed.
    check(
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) },
        "forbid dumps and tracing",
    )
}

#[cfg(target_os = "macos")]
fn no_attach() -> Result<(), HardenError> {
    // SAFETY: this request ignores pid, address and data.
    let result = unsafe { libc::ptrace(libc::PT_DENY_ATTACH, 0, std::ptr::null_mut(), 0) };
    check(result, "forbid debuggers")
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
fn no_attach() -> Result<(), HardenError> {
    Ok(())
}

fn check(result: libc::c_int, doing: &'static str) -> Result<(), HardenError> {
    if result == 0 {
        Ok(())
    } else {
        Err(HardenError {
            doing,
            source: io::Error::last_os_error(),
        })
    }
}

/// The user that this process acts as, as the kernel compares it with the owners of files.
#[must_use]
pub fn current_uid() -> u32 {
    // SAFETY: geteuid has no arguments, no failure and no effect.
    unsafe { libc::geteuid() }
}
