//! Reading the journal's files again, every record of them, while it may be written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::JournalError;
use super::files::Folder;
use super::format::FileName;
use super::keys::JournalKeys;
use super::store::is_damage;
use aico_vault::append::AppendError;

/// A file of the journal that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedJournal {
    /// Which.
    pub path: PathBuf,
    /// Records in it that are authentic.
    pub records: u64,
    /// What is wrong with it, if anything.
    pub wrong: Option<String>,
}

/// Authenticates every record in the folder; `go_on` hears each file, and stops it with `false`.
/// Changes nothing, and nobody waits for it. Waits for the disk.
///
/// # Errors
/// When the folder or a file can't be read now, which says nothing about damage.
pub fn check(
    keys: Arc<dyn JournalKeys>,
    folder: &Path,
    go_on: &mut dyn FnMut(CheckedJournal) -> bool,
) -> Result<(), JournalError> {
    let fs = keys.filesystem();
    if fs.probe(folder).is_ok_and(|found| found.is_none()) {
        return Ok(());
    }
    let folder = Folder::open(keys, folder)?;
    for file in folder.list()? {
        let mut records = 0;
        let read = read(&folder, &file, &mut records);
        // Past its time, and removed while it was read.
        if read.is_err() && !folder.list()?.contains(&file) {
            continue;
        }
        let wrong = match read {
            Ok(()) => None,
            Err(error) if is_damage(&error) => Some(error.to_string()),
            Err(error) => return Err(JournalError::File(error)),
        };
        let checked = CheckedJournal {
            path: folder.path_of(&file),
            records,
            wrong,
        };
        if !go_on(checked) {
            break;
        }
    }
    Ok(())
}

fn read(folder: &Folder, file: &FileName, records: &mut u64) -> Result<(), AppendError> {
    let mut reader = folder.reader(file)?;
    while reader.next_record()?.is_some() {
        *records += 1;
    }
    Ok(())
}
