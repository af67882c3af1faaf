//! One log file: a sealed append file, known to the vault's registry as `log:<id>`.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use aico_vault::append::{AppendError, HighWater, LogKey, SealedLogReader, SealedLogWriter};
use aico_vault::{Owner, Purpose, Vault};

/// What the registry calls the file.
pub(crate) fn mark_name(id: Uuid) -> String {
    format!("{MARK}{id}")
}

/// Beginning of the names that the registry has for log files.
pub(crate) const MARK: &str = "log:";

/// Ending of the files' names.
const ENDING: &str = "log";

/// Where the file of an id lies.
pub(crate) fn path_of(folder: &Path, id: Uuid) -> PathBuf {
    folder.join(format!("{id}.{ENDING}"))
}

/// The id of a file, when it is one of ours by its name.
pub(crate) fn id_of(path: &Path) -> Option<Uuid> {
    let ours = path
        .extension()
        .is_some_and(|extension| extension == ENDING);
    ours.then(|| path.file_stem()?.to_str()?.parse().ok())
        .flatten()
}

pub(crate) fn key_of(vault: &Vault, id: Uuid) -> LogKey {
    vault.log_key(Purpose::Log, Owner::System, id.into_bytes())
}

/// Makes a new file.
pub(crate) fn create(vault: &Vault, path: &Path, id: Uuid) -> Result<SealedLogWriter, AppendError> {
    Ok(SealedLogWriter::open(&key_of(vault, id), path, HighWater::default())?.0)
}

/// Calls `each` with the records of a file until it says no. The end is compared with what the
/// registry knows, so that a cut is noticed.
pub(crate) fn read(
    vault: &Vault,
    path: &Path,
    id: Uuid,
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), AppendError> {
    let mark = vault.registry().mark(&mark_name(id));
    let mut reader = SealedLogReader::open(&key_of(vault, id), path, mark)?;
    while let Some(record) = reader.next_record()? {
        if !each(&record.data) {
            break;
        }
    }
    Ok(())
}
