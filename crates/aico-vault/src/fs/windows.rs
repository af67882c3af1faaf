//! What Windows has its own way of.
//!
//! Access is what the user's profile folder passes on: by default the user, administrators and
//! the system. Entries of a folder become durable with the file system's journal; there is no
//! call that waits for it.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// `FILE_FLAG_OPEN_REPARSE_POINT`: opens a link itself, not what it points to.
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;

pub(super) fn access(_metadata: &Metadata) -> (bool, bool) {
    (true, false)
}

/// Whether the system's error number says that a disk could not be read or written.
pub(super) fn is_disk_failure(error: i32) -> bool {
    const CRC: i32 = 23;
    const SECTOR_NOT_FOUND: i32 = 27;
    const WRITE_FAULT: i32 = 29;
    const READ_FAULT: i32 = 30;
    const IO_DEVICE: i32 = 1117;
    matches!(
        error,
        CRC | SECTOR_NOT_FOUND | WRITE_FAULT | READ_FAULT | IO_DEVICE
    )
}

pub(super) fn no_follow(options: &mut OpenOptions) {
    options.custom_flags(OPEN_REPARSE_POINT);
}

pub(super) fn private_file(_options: &mut OpenOptions) {}

pub(super) fn make_private_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// Not asked for here: a disk that is full is told when it is.
pub(super) fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

pub(super) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(buffer, offset)
}

pub(super) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives a file a name that nothing has.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    // A link fails when something has that name; for a moment the file has both.
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// The command that takes access from others.
pub(super) fn mend_mode(path: &Path, _folder: bool) -> String {
    format!(
        "icacls \"{}\" /inheritance:r /grant:r \"%USERNAME%:F\"",
        path.display()
    )
}

/// The command that gives the file to this user.
pub(super) fn mend_owner(path: &Path) -> String {
    format!("takeown /f \"{}\"", path.display())
}
