//! The one folder that a model process may write to, each its own. Nothing of ours is written there, and
//! whatever else is does not outlive the process: it is emptied before each start and after each
//! end, so that the next start removes what a crash of both left.

use std::io;
use std::path::Path;

/// Removes the folder of a process that is gone.
pub(super) fn removed(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the folder, empty and private.
pub(super) fn emptied(folder: &Path) -> io::Result<()> {
    crate::starter::private_folder(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A link is removed, not followed.
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
