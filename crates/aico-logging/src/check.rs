//! Looking whether the log's files are sound: every record of them is authenticated.

use std::path::{Path, PathBuf};

use aico_vault::Vault;
use uuid::Uuid;

use crate::error::LogError;
use crate::files::{self, FileToRead};
use crate::sealed;

/// What was found of one file.
#[derive(Clone, Debug)]
pub struct CheckedLog {
    /// Which.
    pub path: PathBuf,
    /// Records that are authentic.
    pub records: u64,
    /// What is wrong with it, and with a file that is not there.
    pub wrong: Option<String>,
}

/// Reads the files that nobody writes, every record of them. Changes nothing; `each` stops it with
/// `false`.
///
/// # Errors
/// When the folder can't be listed.
pub fn check(
    folder: &Path,
    vault: &Vault,
    each: &mut dyn FnMut(CheckedLog) -> bool,
) -> Result<(), LogError> {
    let files = files::all(folder, vault)?;
    if files.iter().all(|file| each(one(vault, file))) {
        missing(vault, folder, &files, each);
    }
    Ok(())
}

/// One file, as far as it was written when that was asked.
pub(crate) fn one(vault: &Vault, (path, id, limit): &FileToRead) -> CheckedLog {
    let mut records = 0;
    let read = sealed::read(vault, path, *id, &mut |_| {
        records += 1;
        limit.is_none_or(|limit| records < limit)
    });
    // Its time may have come meanwhile, and the registry knows no more of it then.
    let gone = !path.exists() && vault.registry().mark(&sealed::mark_name(*id)).sequence == 0;
    CheckedLog {
        path: path.clone(),
        records,
        wrong: read.err().filter(|_| !gone).map(|error| error.to_string()),
    }
}

/// Those that the registry knows and that are not there.
pub(crate) fn missing(
    vault: &Vault,
    folder: &Path,
    files: &[FileToRead],
    each: &mut dyn FnMut(CheckedLog) -> bool,
) {
    for name in vault.registry().marks().into_keys() {
        let id: Option<Uuid> = name
            .strip_prefix(sealed::MARK)
            .and_then(|id| id.parse().ok());
        let Some(id) = id.filter(|id| files.iter().all(|(_, known, _)| known != id)) else {
            continue;
        };
        let path = sealed::path_of(folder, id);
        // One that was begun, or whose time has come, since the files were asked for.
        let known = vault.registry().marks().contains_key(&name);
        if path.exists() || !known {
            continue;
        }
        let told = CheckedLog {
            path,
            records: 0,
            wrong: Some("it is missing".to_owned()),
        };
        if !each(told) {
            return;
        }
    }
}
