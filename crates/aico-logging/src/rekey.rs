//! Writing the log's files anew: after the root key was changed, or under other keys while that
//! stays.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aico_vault::Vault;
use aico_vault::append::{AppendError, next_id, rewrite_as_is, rewrite_to_as_is};
use aico_vault::fs::{Context as _, sync_parent};
use uuid::Uuid;

use crate::error::LogError;
use crate::sealed;

/// Puts each file that is still under the root key from before under the present one. A file that
/// is being written was begun under the present one and is left alone: attach anew first. Answers
/// how many could not be read; they stay as they are, and nobody reads them any more. Before each file
/// `go_on` is asked.
///
/// # Errors
/// When the folder or the disk does not let it, and [`LogError::Locked`] when it is not to go on; then
/// go on by calling it again.
pub fn rekey(folder: &Path, vault: &Vault, go_on: &dyn Fn() -> bool) -> Result<usize, LogError> {
    let mut unreadable = 0;
    for (path, id) in list(folder)? {
        if !go_on() {
            return Err(LogError::Locked);
        }
        let (key, name) = (sealed::key_of(vault, id), sealed::mark_name(id));
        let mark = vault.registry().mark(&name);
        let ended = ended(&path);
        match rewrite_as_is(&vault.filesystem(), &key, &path, mark) {
            Ok(None) => {}
            Ok(Some(last)) => {
                set_ended(&path, ended);
                closed(vault, &name, last);
            }
            Err(error) => unreadable += passed_over(path, error)?,
        }
    }
    Ok(unreadable)
}

/// Gives each file another id, which is another key: it is written anew under that, and goes.
/// Nobody writes the files meanwhile. Answers how many could not be read; they stay as they are.
///
/// Cut off between two files, some have their new id. Cut off in the midst of one, it may be there
/// twice, with the same records; called again, the copy is the one that stays.
///
/// # Errors
/// As [`rekey`].
pub fn rekey_all(
    folder: &Path,
    vault: &Vault,
    go_on: &dyn Fn() -> bool,
) -> Result<usize, LogError> {
    anew(folder, vault, list(folder)?, go_on)
}

pub(crate) fn anew(
    folder: &Path,
    vault: &Vault,
    files: Vec<(PathBuf, Uuid)>,
    go_on: &dyn Fn() -> bool,
) -> Result<usize, LogError> {
    let copies: HashSet<_> = files.iter().map(|(_, id)| next(*id)).collect();
    let mut unreadable = 0;
    for (path, id) in files {
        if !go_on() {
            return Err(LogError::Locked);
        }
        if copies.contains(&id) {
            continue;
        }
        match one_anew(folder, vault, &path, id) {
            Ok(()) => {}
            Err(error) => unreadable += passed_over(path, error)?,
        }
    }
    Ok(unreadable)
}

fn one_anew(folder: &Path, vault: &Vault, path: &Path, id: Uuid) -> Result<(), AppendError> {
    let (disk, to) = (vault.filesystem(), next(id));
    let (name, new) = (sealed::mark_name(id), sealed::mark_name(to));
    let copy = sealed::path_of(folder, to);
    // Where it is whole already the file before it was not removed, or somebody put it back: then
    // the copy may have more.
    let whole = vault.registry().mark(&new).closed > 0
        && sealed::read(vault, &copy, to, &mut |_| true).is_ok();
    if !whole {
        let mark = vault.registry().mark(&name);
        let last = rewrite_to_as_is(
            &disk,
            (&sealed::key_of(vault, id), path, mark),
            (&sealed::key_of(vault, to), &copy),
        )?;
        set_ended(&copy, ended(path));
        closed(vault, &new, last);
    }
    // The registry first: a file that it does not know is no riddle, the reverse is.
    if let Err(error) = vault.registry().remove(&name) {
        tracing::warn!(%error, "The registry could not be told of a log file");
    }
    match disk.remove_file(path) {
        // Deleted meanwhile, for its age.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        done => done.on("remove", path)?,
    }
    Ok(sync_parent(&*disk, path)?)
}

/// When a file was written last, which says when it is to be deleted.
fn ended(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|about| about.modified()).ok()
}

/// Written anew it is as old as it was. Where that can't be said, it is kept for longer.
fn set_ended(path: &Path, ended: Option<SystemTime>) {
    if let Some(ended) = ended
        && let Ok(file) = fs::File::options().write(true).open(path)
    {
        let _as_good_as_it_gets = file.set_modified(ended);
    }
}

/// The id that a file has after this one.
fn next(id: Uuid) -> Uuid {
    uuid::Builder::from_random_bytes(next_id(id.into_bytes())).into_uuid()
}

/// The files that are there.
pub(crate) fn list(folder: &Path) -> Result<Vec<(PathBuf, Uuid)>, LogError> {
    let fail = |source| LogError::Folder {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        files.extend(sealed::id_of(&path).map(|id| (path, id)));
    }
    Ok(files)
}

fn closed(vault: &Vault, name: &str, last: u64) {
    if let Err(error) = vault.registry().note_closed(name, last) {
        tracing::warn!(%error, "The registry could not be told of a log file");
    }
}

/// How many files could not be read, if that is all there is to it.
fn passed_over(path: PathBuf, error: AppendError) -> Result<usize, LogError> {
    match error {
        // Deleted meanwhile, for its age.
        AppendError::Absent { .. } => Ok(0),
        source @ AppendError::File(_) => Err(LogError::Write { path, source }),
        error => {
            tracing::warn!(%error, "A log file can't be read and stays under the old key");
            Ok(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Console, Logging, Query};
    use aico_vault::{KdfCost, Password};
    use tracing::dispatcher::with_default;

    struct Logged {
        _folder: tempfile::TempDir,
        logs: PathBuf,
        vault: Vault,
        logging: Logging,
    }

    /// One file that is closed, and one that is written.
    fn logged() -> Logged {
        let folder = tempfile::tempdir().unwrap();
        let password = Password::new("velvet harbour moss lantern").unwrap();
        let data = folder.path().join("data");
        let (vault, _) = Vault::create_with(&data, &password, KdfCost::minimum()).unwrap();
        let settings = aico_config::Config::default().logging;
        let (logging, dispatch) = Logging::prepare(&settings, Console::Off);
        let logs = data.join("logs");
        for message in ["one", "two"] {
            logging.attach(&logs, vault.clone(), &settings).unwrap();
            with_default(&dispatch, || tracing::info!("{message}"));
        }
        logging.flush();
        Logged {
            _folder: folder,
            logs,
            vault,
            logging,
        }
    }

    impl Logged {
        fn anew(&self) -> usize {
            let settings = aico_config::Config::default().logging;
            let done = self
                .logging
                .rekey_all(&self.logs, &self.vault, &settings, &|| true);
            done.unwrap()
        }

        fn ids(&self) -> HashSet<Uuid> {
            let files = list(&self.logs).unwrap();
            files.into_iter().map(|(_, id)| id).collect()
        }

        /// Without what each file begins with.
        fn said(&self) -> Vec<String> {
            let reader = self.logging.reader().unwrap();
            let all = reader.collect(&Query::default()).unwrap();
            let messages = all.into_iter().map(|record| record.message);
            messages.filter(|it| it != "A log file begins").collect()
        }
    }

    #[test]
    fn under_other_ids_everything_is_read_while_it_is_written_on() {
        let logged = logged();
        let before = logged.ids();
        let settings = aico_config::Config::default().logging;
        let asked = (logged.logging).rekey_all(&logged.logs, &logged.vault, &settings, &|| false);
        assert!(matches!(asked, Err(LogError::Locked)));
        assert!(logged.ids().is_superset(&before));
        assert_eq!(logged.anew(), 0);
        assert!(logged.ids().is_disjoint(&before));
        assert_eq!(logged.said(), ["one", "two"]);
        // Nobody misses the files before: the registry has forgotten them.
        let again = logged.ids();
        assert_eq!(logged.anew(), 0);
        assert!(logged.ids().is_disjoint(&again));
        assert_eq!(logged.said(), ["one", "two"]);
        for id in logged.ids() {
            let key = sealed::key_of(&logged.vault, id);
            let path = sealed::path_of(&logged.logs, id);
            let mark = logged.vault.registry().mark(&sealed::mark_name(id));
            let reader = aico_vault::append::SealedLogReader::open(&key, &path, mark).unwrap();
            assert!(reader.map(Result::unwrap).count() > 0);
        }
    }

    #[test]
    fn a_file_that_was_written_anew_and_not_removed_is_not_there_twice_in_the_end() {
        let logged = logged();
        logged.logging.detach();
        let copies: Vec<_> = list(&logged.logs)
            .unwrap()
            .into_iter()
            .map(|(path, id)| (fs::read(&path).unwrap(), path, id))
            .collect();
        let hour = std::time::Duration::from_secs(60 * 60);
        let then = SystemTime::now() - hour;
        for (_, path, _) in &copies {
            set_ended(path, Some(then));
        }
        assert_eq!(rekey_all(&logged.logs, &logged.vault, &|| true).unwrap(), 0);
        for (_, _, id) in &copies {
            // Its time to be deleted comes as if it had not been touched.
            let age = ended(&sealed::path_of(&logged.logs, next(*id))).unwrap();
            assert!(age <= then + hour / 2, "{age:?}");
        }
        // Cut off: one of them is there as well, and the registry may know it or not.
        let (bytes, path, id) = &copies[0];
        fs::write(path, bytes).unwrap();
        assert!(logged.ids().contains(id) && logged.ids().contains(&next(*id)));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        assert_eq!(rekey_all(&logged.logs, &logged.vault, &|| true).unwrap(), 0);
        assert!(!logged.ids().contains(id) && logged.ids().contains(&next(*id)));
        assert_eq!(logged.ids().len(), copies.len());
        let settings = aico_config::Config::default().logging;
        let attached = logged
            .logging
            .attach(&logged.logs, logged.vault.clone(), &settings);
        attached.unwrap();
        assert_eq!(logged.said(), ["one", "two"]);
    }

    #[test]
    fn a_damaged_file_stays_and_keeps_no_other_from_another_id() {
        let logged = logged();
        logged.logging.detach();
        let (path, id) = list(&logged.logs).unwrap().remove(0);
        let mut bytes = fs::read(&path).unwrap();
        // In the commitment of its first segment.
        bytes[160] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(rekey_all(&logged.logs, &logged.vault, &|| true).unwrap(), 1);
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let others: Vec<_> = logged.ids().into_iter().filter(|it| *it != id).collect();
        assert_eq!(others.len(), 1);
        assert!(!logged.ids().contains(&next(id)));
    }
}
