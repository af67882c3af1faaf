//! The figures of macOS.

use std::mem::{MaybeUninit, size_of};
use std::sync::OnceLock;
use std::time::Duration;

use super::Usage;

/// What is neither taken by programs nor by the system itself: the activity monitor reckons the
/// same way. The pages of files count as free.
pub(super) fn available() -> Option<u64> {
    let pages = pages()?;
    let taken = u64::from(pages.internal_page_count)
        .saturating_sub(pages.purgeable_count.into())
        .saturating_add(pages.wire_count.into())
        .saturating_add(pages.compressor_page_count.into());
    // SAFETY: asks for a number.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some(total()?.saturating_sub(taken.saturating_mul(page)))
}

pub(super) fn total() -> Option<u64> {
    let mut bytes = 0_u64;
    let mut size = size_of::<u64>();
    // SAFETY: the name ends with a zero, and at most `size` bytes are written to `bytes`.
    let result = unsafe {
        libc::sysctlbyname(
            c"hw.memsize".as_ptr(),
            (&raw mut bytes).cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    (result == 0 && size == size_of::<u64>()).then_some(bytes)
}

pub(super) fn process(process_id: u32) -> Option<Usage> {
    let id = libc::pid_t::try_from(process_id).ok()?;
    let mut about = MaybeUninit::<libc::rusage_info_v0>::uninit();
    // SAFETY: the structure is that of the flavour, and is written when the call succeeds.
    let about = unsafe {
        if libc::proc_pid_rusage(id, libc::RUSAGE_INFO_V0, about.as_mut_ptr().cast()) != 0 {
            return None;
        }
        about.assume_init()
    };
    Some(Usage {
        resident: about.ri_resident_size,
        // What is compressed is part of the footprint, and takes less than that.
        anonymous: about.ri_phys_footprint.min(about.ri_resident_size),
        cpu: time(about.ri_user_time.saturating_add(about.ri_system_time)),
    })
}

#[expect(deprecated, reason = "another crate for one call is not worth it")]
fn pages() -> Option<libc::vm_statistics64> {
    /// Each call of `mach_host_self` counts one more use of the same port.
    static HOST: OnceLock<libc::mach_port_t> = OnceLock::new();
    // SAFETY: asks for the number of a port.
    let host = *HOST.get_or_init(|| unsafe { libc::mach_host_self() });
    // Older systems write fewer figures.
    let mut pages = MaybeUninit::<libc::vm_statistics64>::zeroed();
    let mut count = libc::HOST_VM_INFO64_COUNT;
    // SAFETY: at most `count` words are written, which is the structure's size; it is all numbers.
    unsafe {
        let into = pages.as_mut_ptr().cast();
        let result = libc::host_statistics64(host, libc::HOST_VM_INFO64, into, &raw mut count);
        (result == libc::KERN_SUCCESS).then(|| pages.assume_init())
    }
}

/// From the ticks of the processor's clock.
#[expect(deprecated, reason = "another crate for one call is not worth it")]
fn time(ticks: u64) -> Duration {
    let mut base = libc::mach_timebase_info { numer: 0, denom: 0 };
    // SAFETY: writes the structure.
    let result = unsafe { libc::mach_timebase_info(&raw mut base) };
    if result != libc::KERN_SUCCESS || base.denom == 0 {
        return Duration::ZERO;
    }
    let nanos = u128::from(ticks) * u128::from(base.numer) / u128::from(base.denom);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
