//! Where neither Landlock nor seccomp are: crashes are isolated, and that is all.

use super::{ConfineError, Kind, Places};

#[cfg(unix)]
pub(super) fn first() -> Result<(), ConfineError> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: passes a valid structure that the call only reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) } != 0 {
        let source = std::io::Error::last_os_error();
        return Err(ConfineError::Process {
            what: "the limit of core dumps",
            source,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn first() -> Result<(), ConfineError> {
    Ok(())
}

pub(super) fn files(_places: Places<'_>) -> Result<bool, ConfineError> {
    Ok(false)
}

pub(super) fn calls(_gpu: Option<Kind>) -> Result<bool, ConfineError> {
    Ok(false)
}

pub(super) fn memory(_most: u64) -> Result<(), ConfineError> {
    Ok(())
}

#[cfg(unix)]
pub(super) fn leave(code: u8) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(i32::from(code)) }
}

#[cfg(not(unix))]
pub(super) fn leave(code: u8) -> ! {
    std::process::exit(i32::from(code))
}
