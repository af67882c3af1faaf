//! The figures of Windows.

use std::mem::size_of;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::time::Duration;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};
use windows_sys::Win32::System::Threading::{
    GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
};

use super::Usage;

pub(super) fn available() -> Option<u64> {
    machine().map(|told| told.ullAvailPhys)
}

pub(super) fn total() -> Option<u64> {
    machine().map(|told| told.ullTotalPhys)
}

fn machine() -> Option<MEMORYSTATUSEX> {
    let mut told = MEMORYSTATUSEX {
        dwLength: u32::try_from(size_of::<MEMORYSTATUSEX>()).ok()?,
        ..Default::default()
    };
    // SAFETY: the structure tells its size.
    (unsafe { GlobalMemoryStatusEx(&raw mut told) } != 0).then_some(told)
}

pub(super) fn process(process_id: u32) -> Option<Usage> {
    // SAFETY: no pointers are passed.
    let process = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, process_id) };
    if process.is_null() {
        return None;
    }
    // SAFETY: a handle that is open and nobody else's.
    let process = unsafe { OwnedHandle::from_raw_handle(process) };
    let process = process.as_raw_handle();
    let mut memory = PROCESS_MEMORY_COUNTERS::default();
    let size = u32::try_from(size_of::<PROCESS_MEMORY_COUNTERS>()).ok()?;
    let [mut created, mut ended, mut system, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle is open, and the structures are of the sizes that are told.
    let told = unsafe {
        K32GetProcessMemoryInfo(process, &raw mut memory, size) != 0
            && GetProcessTimes(
                process,
                &raw mut created,
                &raw mut ended,
                &raw mut system,
                &raw mut user,
            ) != 0
    };
    let resident = u64::try_from(memory.WorkingSetSize).ok()?;
    told.then(|| Usage {
        resident,
        // Pages of a file count as free only when no process has them in memory any more.
        anonymous: resident,
        cpu: time(system).saturating_add(time(user)),
    })
}

/// Told in tenths of a microsecond.
fn time(told: FILETIME) -> Duration {
    let tenths = u64::from(told.dwHighDateTime) << 32 | u64::from(told.dwLowDateTime);
    Duration::from_nanos(tenths.saturating_mul(100))
}
