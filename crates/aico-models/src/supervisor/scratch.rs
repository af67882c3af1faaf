//! The one folder that the model process may write to. Nothing of ours is written there, and
//! whatever else is does not outlive the process: it is emptied before each start and after each
//! end, so that the next start removes what a crash of both left.

use std::io;
use std::path::Path;

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
