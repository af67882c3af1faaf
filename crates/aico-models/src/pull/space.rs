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

/// Bytes that can be written; this system is not asked.
#[cfg(not(unix))]
#[must_use]
pub(super) fn free(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    #[test]
    fn there_is_room_somewhere() {
        let folder = tempfile::tempdir().unwrap();
        assert!(super::free(folder.path()).is_some_and(|bytes| bytes > 0));
        assert_eq!(super::free(std::path::Path::new("/nowhere/at/all")), None);
    }
}
