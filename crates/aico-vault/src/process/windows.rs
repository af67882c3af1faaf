//! Process hardening on Windows.

use std::io;

use windows_sys::Win32::System::Diagnostics::Debug::{
    SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode,
};
use windows_sys::Win32::System::ErrorReporting::{WER_FAULT_REPORTING_FLAG_NOHEAP, WerSetFlags};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};

use super::HardenError;

pub(super) fn harden() -> Result<(), HardenError> {
    // SAFETY: sets flags of this process; no pointers are passed.
    let result = unsafe {
        SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX);
        WerSetFlags(WER_FAULT_REPORTING_FLAG_NOHEAP)
    };
    if result >= 0 {
        Ok(())
    } else {
        let source = io::Error::from_raw_os_error(result);
        Err(HardenError {
            doing: "keep the heap out of error reports",
            source,
        })
    }
}

pub(super) fn end(code: u8) -> ! {
    // SAFETY: ends this process; the handle is a constant that needs no closing.
    unsafe { TerminateProcess(GetCurrentProcess(), code.into()) };
    // It does not come to this: one's own process can always be ended.
    std::process::abort()
}
