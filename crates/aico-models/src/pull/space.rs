//! Room on a disk.

use std::path::Path;

/// Bytes that this user may still write where `folder` is; `None` where the system does not
/// tell.
#[cfg(unix)]
#[must_use]
pub(super) fn free(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;

    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut about = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero, and the structure is written when the call succeeds.
    let about = unsafe {
        if libc::statvfs(path.as_ptr(), about.as_mut_ptr()) != 0 {
            return None;
        }
        about.assume_init()
    };
    #[allow(
        clippy::allow_attributes,
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the widths differ between systems"
    )]
    Some((about.f_bavail as u64).saturating_mul(about.f_frsize as u64))
}

/// The same on Windows, where a quota of this user counts too.
#[cfg(windows)]
#[must_use]
pub(super) fn free(folder: &Path) -> Option<u64> {
    use std::os::windows::ffi::OsStrExt as _;

    use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;

    let path: Vec<u16> = folder.as_os_str().encode_wide().chain([0]).collect();
    let (mut free, none) = (0, std::ptr::null_mut());
    // SAFETY: the path ends with a zero, and one number is written.
    let told = unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &raw mut free, none, none) } != 0;
    told.then_some(free)
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_room_somewhere() {
        let folder = tempfile::tempdir().unwrap();
        assert!(super::free(folder.path()).is_some_and(|bytes| bytes > 0));
        assert_eq!(super::free(std::path::Path::new("/nowhere/at/all")), None);
    }
}
