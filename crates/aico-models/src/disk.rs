//! What a disk says no with, as a person is told it, and small files that are whole or not there.

use std::io::{self, Write as _};
use std::path::Path;

use aico_contracts::v1::Fault;

use crate::pull::sync_folder;

/// A fault for what is the disk's: full, only to be read, failing. `None`: it is another thing,
/// such as a permission.
pub(crate) fn fault(error: &io::Error) -> Option<Fault> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Fault::storage_full()),
        io::ErrorKind::ReadOnlyFilesystem => Some(Fault::storage_read_only()),
        _ if is_failure(error) => Some(Fault::storage_failing()),
        _ => None,
    }
}

/// Whether it could not be read or written, and not for want of room.
pub(crate) fn is_failure(error: &io::Error) -> bool {
    aico_vault::fs::disk_failed(error)
}

/// Writes a file of our user's, whole or not at all. Blocks.
pub(crate) fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    crate::starter::private_folder(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("-tmp");
    let temporary = path.with_file_name(name);
    let _none_left = std::fs::remove_file(&temporary);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    let written = file
        .write_all(text)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _best_effort = std::fs::remove_file(&temporary);
    }
    written?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_says_has_its_code() {
        let code = |error: io::Error| fault(&error).map(|fault| fault.code);
        let kind = |kind: io::ErrorKind| code(io::Error::from(kind));
        assert_eq!(kind(io::ErrorKind::StorageFull).unwrap(), "storage-full");
        assert_eq!(kind(io::ErrorKind::QuotaExceeded).unwrap(), "storage-full");
        assert_eq!(
            kind(io::ErrorKind::ReadOnlyFilesystem).unwrap(),
            "storage-read-only"
        );
        assert_eq!(kind(io::ErrorKind::PermissionDenied), None);
        #[cfg(unix)]
        assert_eq!(
            code(io::Error::from_raw_os_error(libc::EIO)).unwrap(),
            "storage-failing"
        );
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("a.json");
        for text in ["first", "second"] {
            write_whole(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let there = std::fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(there.count(), 1);
    }
}
