//! Files on Unix: who may read them, whether they can be written, and syncing folders.

use std::{
    ffi::CString,
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::{ffi::OsStrExt, fs::FileExt, fs::MetadataExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Makes a new file that only its owner reads and writes; fails when the name is taken.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// The command that makes the file private, or `None` when it is.
pub(crate) fn privacy_fault(path: &Path, metadata: &Metadata) -> Option<String> {
    // SAFETY: geteuid has no arguments, no failure and no effect.
    privacy_fault_of(unsafe { libc::geteuid() }, path, metadata)
}

/// The same for a user by their number: only root could make a file that is another's.
fn privacy_fault_of(user: u32, path: &Path, metadata: &Metadata) -> Option<String> {
    if metadata.uid() != user {
        return Some(format!("chown {user} '{}'", path.display()));
    }
    (metadata.mode() & 0o077 != 0).then(|| format!("chmod 600 '{}'", path.display()))
}

/// Whether this process may write here, told without writing.
pub(crate) fn writable(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a NUL-terminated string that lives for the whole call.
    match unsafe { libc::access(path.as_ptr(), libc::W_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// An absolute path without symbolic links in its folders; the last name is left as it is.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Ok(folder.canonicalize()?.join(name))
}

/// The bytes of a path for a `file:` address.
pub(crate) fn address_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// Whether the operating system's error number says that a disk or quota is full.
pub(crate) fn is_full(errno: i32) -> bool {
    errno == libc::ENOSPC || errno == libc::EDQUOT
}

/// Whether it says that a disk can only be read.
pub(crate) fn is_read_only(errno: i32) -> bool {
    errno == libc::EROFS
}

/// Opens a file for reading and writing, and nothing that a link leads to.
pub(crate) fn open_no_follow(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Reads as much as fits; fails when there is less.
pub(crate) fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(out, offset)
}

/// Writes all of it.
pub(crate) fn write_all_at(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(data, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_another_user_is_refused_with_what_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("person.db");
        let about = create_private(&path).unwrap().metadata().unwrap();
        let owner = about.uid();
        assert_eq!(privacy_fault(&path, &about), None);
        assert_eq!(privacy_fault_of(owner, &path, &about), None);
        let other = owner ^ 1;
        assert_eq!(
            privacy_fault_of(other, &path, &about),
            Some(format!("chown {other} '{}'", path.display()))
        );
    }
}
