//! Files on Windows. Privacy comes from the profile folder's access list, which new files inherit.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::windows::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Makes a new file; fails when the name is taken.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
}

/// Nothing to check here: see the head of this file.
pub(crate) fn privacy_fault(_path: &Path, _metadata: &Metadata) -> Option<String> {
    None
}

/// Whether this process may write here. A folder is taken to be writable: its read-only
/// attribute says nothing on Windows, and the engine answers for itself.
pub(crate) fn writable(path: &Path) -> io::Result<()> {
    let metadata = path.metadata()?;
    match !metadata.is_dir() && metadata.permissions().readonly() {
        true => Err(io::ErrorKind::PermissionDenied.into()),
        false => Ok(()),
    }
}

/// NTFS journals its names; there is nothing to sync.
pub(crate) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// An absolute path.
pub(crate) fn resolve(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

/// The bytes of a path for a `file:` address: forward slashes, one before the drive letter.
pub(crate) fn address_bytes(path: &Path) -> Vec<u8> {
    let mut address = b"/".to_vec();
    address.extend(path.to_string_lossy().replace('\\', "/").bytes());
    address
}

/// Whether the operating system's error number says that a disk or quota is full.
pub(crate) fn is_full(error: i32) -> bool {
    const ERROR_HANDLE_DISK_FULL: i32 = 39;
    const ERROR_DISK_FULL: i32 = 112;
    const ERROR_DISK_QUOTA_EXCEEDED: i32 = 1295;
    matches!(
        error,
        ERROR_HANDLE_DISK_FULL | ERROR_DISK_FULL | ERROR_DISK_QUOTA_EXCEEDED
    )
}

/// Whether it says that a disk can only be read.
pub(crate) fn is_read_only(error: i32) -> bool {
    const ERROR_WRITE_PROTECT: i32 = 19;
    error == ERROR_WRITE_PROTECT
}

/// Opens a file for reading and writing; a reparse point is opened as itself, so that it is no
/// plain file.
pub(crate) fn open_no_follow(path: &Path) -> io::Result<File> {
    const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)
}

/// Reads as much as fits; fails when there is less.
pub(crate) fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !out.is_empty() {
        match file.seek_read(out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                out = &mut out[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of it.
pub(crate) fn write_all_at(file: &File, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match file.seek_write(data, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                data = &data[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
