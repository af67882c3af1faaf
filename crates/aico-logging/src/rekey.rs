//! Writing the log's files anew after the root key was changed.

use std::fs;
use std::path::Path;

use aico_vault::Vault;
use aico_vault::append::{AppendError, rewrite_as_is};

use crate::error::LogError;
use crate::sealed;

/// Puts each file that is still under the root key from before under the present one. A file that
/// is being written was begun under the present one and is left alone: attach anew first. Answers
/// how many could not be read; they stay as they are, and nobody reads them any more.
///
/// # Errors
/// When the folder or the disk does not let it; then go on by calling it again.
pub fn rekey(folder: &Path, vault: &Vault) -> Result<usize, LogError> {
    let fail = |source| LogError::Folder {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(fail)?,
    };
    let mut unreadable = 0;
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let Some(id) = sealed::id_of(&path) else {
            continue;
        };
        let (key, name) = (sealed::key_of(vault, id), sealed::mark_name(id));
        let mark = vault.registry().mark(&name);
        match rewrite_as_is(&vault.filesystem(), &key, &path, mark) {
            Ok(None) => {}
            Ok(Some(last)) => {
                if let Err(error) = vault.registry().note_closed(&name, last) {
                    tracing::warn!(%error, "The registry could not be told of a log file");
                }
            }
            // Deleted meanwhile, for its age.
            Err(AppendError::Absent { .. }) => {}
            Err(error @ AppendError::File(_)) => {
                return Err(LogError::Write {
                    path,
                    source: error,
                });
            }
            Err(error) => {
                tracing::warn!(%error, "A log file can't be read and stays under the old key");
                unreadable += 1;
            }
        }
    }
    Ok(unreadable)
}
