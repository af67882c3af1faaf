//! Process hardening on Windows.

use std::io;

use windows_sys::Win32::System::Diagnostics::Debug::{
    SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode,
};
use windows_sys::Win32::System::ErrorReporting::{WER_FAULT_REPORTING_FLAG_NOHEAP, WerSetFlags};

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
