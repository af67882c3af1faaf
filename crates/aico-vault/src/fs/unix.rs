//! What Unix has its own way of: modes, owners, links, syncing of folders.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::quoted;

/// Whether it is this user's, and whether others may do anything with it.
pub(super) fn access(metadata: &Metadata) -> (bool, bool) {
    // SAFETY: takes nothing, can't fail.
    access_of(unsafe { libc::geteuid() }, metadata)
}

/// The same of a user by their number: only root could make a file that is another's.
fn access_of(user: u32, metadata: &Metadata) -> (bool, bool) {
    (metadata.uid() == user, metadata.mode() & 0o077 != 0)
}

/// Whether the system's error number says that a disk could not be read or written.
pub(super) fn is_disk_failure(errno: i32) -> bool {
    errno == libc::EIO
}

pub(super) fn no_follow(options: &mut OpenOptions) {
    options.custom_flags(libc::O_NOFOLLOW);
}

pub(super) fn private_file(options: &mut OpenOptions) {
    options.mode(0o600);
}

pub(super) fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Bytes that this user may still write where `path` lies.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let path = c_path(path).ok()?;
    // SAFETY: all zeros is a value of this plain structure.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a text that ends with a zero byte, and a structure to be filled, both of which live
    // through the call.
    let done = unsafe { libc::statvfs(path.as_ptr(), &raw mut about) };
    // The widths of these fields differ between systems.
    (done == 0).then(|| (about.f_bavail as u64).saturating_mul(about.f_frsize as u64))
}

pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Gives a file a name that nothing has.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        let (old, new) = (c_path(from)?, c_path(to)?);
        // SAFETY: two texts that end with a zero byte and live through the call, and constants.
        #[cfg(target_os = "linux")]
        let done = unsafe {
            libc::renameat2(
                libc::AT_FDCWD,
                old.as_ptr(),
                libc::AT_FDCWD,
                new.as_ptr(),
                libc::RENAME_NOREPLACE,
            )
        };
        // SAFETY: as above.
        #[cfg(target_vendor = "apple")]
        let done = unsafe { libc::renamex_np(old.as_ptr(), new.as_ptr(), libc::RENAME_EXCL) };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        // Not every file system can.
        let unable = [libc::EINVAL, libc::ENOSYS, libc::ENOTSUP];
        if error
            .raw_os_error()
            .is_none_or(|code| !unable.contains(&code))
        {
            return Err(error);
        }
    }
    // For a moment it has both names, which are one file: nobody sees a part of it.
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

fn c_path(path: &Path) -> io::Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt as _;
    Ok(std::ffi::CString::new(path.as_os_str().as_bytes())?)
}

/// The command that takes access from others.
pub(super) fn mend_mode(path: &Path, folder: bool) -> String {
    format!(
        "chmod {} {}",
        if folder { "u+rwx,go=" } else { "u+rw,go=" },
        quoted(path)
    )
}

/// The command that gives the file to this user.
pub(super) fn mend_owner(path: &Path) -> String {
    // SAFETY: takes nothing, can't fail.
    let me = unsafe { libc::geteuid() };
    format!("sudo chown -R {me} {}", quoted(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_owners_and_nobody_elses() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let about = file.as_file().metadata().unwrap();
        let me = crate::current_uid();
        assert_eq!(access(&about), (true, false));
        assert_eq!(access_of(me, &about), (true, false));
        assert_eq!(access_of(me ^ 1, &about), (false, false));
    }
}
