//! Making a backup while the home is in use.

mod plan;
mod staging;
mod write;

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use aico_contracts::ids::PersonId;
use aico_store::Store;
use jiff::Timestamp;

pub use aico_vault::archive::Scope;

use self::write::Written;
use super::error::BackupError;
use super::keys;
use super::noted::{erased_in, note_archive};
use super::set::{self, Keep, ListKey, Retained};
use crate::home::{Open, blocking};
use crate::{Home, HomeError, Stage};

/// Begins the name of the folder that copies lie in while an archive is made.
pub(crate) const STAGING: &str = ".backup-";
/// In the audit's table.
const MADE: &str = "backup.create";

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct BackupRequest {
    /// Where to; the folder beside the data folder by default.
    pub folder: Option<PathBuf>,
    /// This person's data only.
    pub person: Option<PersonId>,
    /// Which archives stay: of those of everybody, or of those of this person only.
    pub keep: Keep,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupStep {
    /// Bytes that are done.
    pub done: u64,
    /// Of how many, as far as it is known.
    pub total: u64,
}

/// A person who is not in it, though they belong to the home.
#[derive(Clone)]
pub struct LeftOut {
    /// Whose name goes from the archive when they are erased.
    pub(crate) id: PersonId,
    /// What they are called. Personal, so without Debug.
    pub name: String,
    /// Why, as a sentence without its end.
    pub why: String,
}

/// A backup that was made.
#[derive(Clone)]
pub struct BackupMade {
    /// The archive.
    pub path: PathBuf,
    /// Bytes of it.
    pub length: u64,
    /// When.
    pub created_at: Timestamp,
    /// How many persons are in it.
    pub persons: usize,
    /// Who is not.
    pub left_out: Vec<LeftOut>,
    /// Why the secrets of the configuration are not in it, as a sentence without its end, where
    /// they belong in it.
    pub secrets_left_out: Option<String>,
    /// Older archives that were removed.
    pub removed: Vec<PathBuf>,
    /// Older archives that were to go and could not be removed.
    pub not_removed: Vec<PathBuf>,
    /// Removing older ones was asked for and not done, because somebody or the secrets were left
    /// out, or somebody is in it with an older copy of their data.
    pub nothing_removed: bool,
}

impl Home {
    /// Makes a backup. Others go on as if nothing was; `go_on` hears how far it is, and stops it
    /// with `false`. Until it is whole there is nothing of it in the folder; older archives are
    /// removed after that.
    ///
    /// # Errors
    /// [`BackupError`]; a full disk; while locked. Then the folder is as it was.
    pub async fn create_backup(
        &self,
        request: BackupRequest,
        mut go_on: impl FnMut(BackupStep) -> bool + Send + 'static,
    ) -> Result<BackupMade, HomeError> {
        let open = self.opened()?;
        let Ok(_one) = self.inner.backup.try_lock() else {
            return Err(match self.rotation().running {
                true => BackupError::KeysChange.into(),
                false => BackupError::Running.into(),
            });
        };
        // The stores stay open until this is dropped, which happens soon after a lock.
        let _hold = self.hold();
        let (of, keep) = (request.person, request.keep);
        let list = keys::list_key(&open.system).await?;
        let plan = self.plan(&open, request, list.clone()).await?;
        let (home, folder, now) = (self.clone(), plan.folder.clone(), plan.now);
        let to = folder.clone();
        let unnamed =
            blocking(move || plan.write(&mut |step| home.stage() == Stage::Ready && go_on(step)))
                .await?;
        // Before it has its name: cut off after that, an erasure knows of the folder.
        self.note_unnamed(&open, &unnamed.written, now).await;
        let (made, length) = match blocking(move || unnamed.finish()).await {
            Ok(done) => done,
            Err(error) => {
                self.forget_unnamed(&open, to).await;
                return Err(error);
            }
        };
        self.note_archive(&open, &made, now).await;
        let (left_out, secrets_left_out) = (made.left_out, made.secrets_left_out);
        // An older copy of somebody's data is in it as it is; what it replaced may be in others only.
        let older = |store: &Store| store.health().read_only;
        let complete = left_out.is_empty()
            && secrets_left_out.is_none()
            && !open.persons.all().iter().any(older);
        // What was left out may be in nothing but the archives that would go.
        let retain = if complete { keep } else { Keep::default() };
        // It is made, whatever becomes of the others: the next one tries that again.
        let others = self.look_after(&open, folder, list, of, retain, now).await;
        let Retained {
            removed,
            not_removed,
        } = others.unwrap_or_else(|error| {
            tracing::warn!(%error, "older backups could not be looked after");
            Retained::default()
        });
        self.forget_archives(&open, &removed).await;
        self.forget_unnamed(&open, to).await;
        // A disk with older archives may be there again.
        if let Err(error) = self.drop_pending().await {
            tracing::warn!(%error, "an erasure could not be finished in the backups");
        }
        tracing::info!(
            bytes = length,
            persons = made.persons.len(),
            left_out = left_out.len(),
            removed = removed.len(),
            not_removed = not_removed.len(),
            "a backup was made"
        );
        Ok(BackupMade {
            path: made.path,
            length,
            created_at: now,
            persons: made.persons.len(),
            nothing_removed: !complete && !keep.is_everything(),
            left_out,
            secrets_left_out,
            removed,
            not_removed,
        })
    }

    /// Notes who was erased beside the archives of a folder, and removes those that are not to
    /// stay.
    async fn look_after(
        &self,
        open: &Open,
        folder: PathBuf,
        list: ListKey,
        of: Option<PersonId>,
        keep: Keep,
        now: Timestamp,
    ) -> Result<Retained, HomeError> {
        let erased = erased_in(open).await?;
        let (vault, keys) = (open.vault.clone(), self.archive_keys(open).await?);
        blocking(move || {
            if let Err(error) = set::note_erasures(&folder, &vault, &list, &erased) {
                tracing::warn!(%error, "who was erased could not be noted beside the backups");
            }
            set::retain(&folder, &vault, &keys, of, keep, now, &erased)
        })
        .await
    }

    /// Notes an archive that is about to get its name, and nobody as in it.
    async fn note_unnamed(&self, open: &Open, about: &Written, now: Timestamp) {
        let (id, path) = (about.id, about.path.to_string_lossy().into_owned());
        let key = about.key.clone();
        let noted = open
            .system
            .write(move |tx| note_archive(tx, id, &path, now.as_millisecond(), &key, &[]));
        if let Err(error) = noted.await {
            tracing::warn!(%error, "a backup that is being made could not be noted");
        }
    }

    /// Forgets archives of a folder that never got their names: nobody was noted as in them, and
    /// they are not there, though the folder is. One that somebody was erased after may have been
    /// moved away, and that erasure has told of it: it is known until it can be looked into.
    async fn forget_unnamed(&self, open: &Open, folder: PathBuf) {
        let noted = open.system.read(|db| {
            let sql = "SELECT path FROM backup_archive WHERE NOT EXISTS
                       (SELECT 1 FROM backup_archive_person WHERE archive = id)
                       AND NOT EXISTS
                       (SELECT 1 FROM access_tombstone WHERE erased_ms >= created_ms)";
            let mut query = db.prepare(sql)?;
            let paths = query.query_map([], |row| row.get::<_, String>(0))?;
            Ok(paths.collect::<Result<Vec<_>, _>>()?)
        });
        let Ok(noted) = noted.await else { return };
        let gone = blocking(move || {
            let noted = noted.into_iter().map(PathBuf::from);
            let is_gone = |path: &PathBuf| {
                let about = fs::symlink_metadata(path);
                about.is_err_and(|error| error.kind() == ErrorKind::NotFound)
            };
            let here = noted.filter(|path| path.parent() == Some(&folder) && folder.is_dir());
            Ok(here.filter(is_gone).collect::<Vec<_>>())
        });
        if let Ok(gone) = gone.await
            && !gone.is_empty()
        {
            self.forget_archives(open, &gone).await;
        }
    }

    async fn note_archive(&self, open: &Open, made: &Written, now: Timestamp) {
        let (id, path) = (made.id, made.path.to_string_lossy().into_owned());
        let (key, persons) = (made.key.clone(), made.persons.clone());
        let noted = open.system.write(move |tx| {
            crate::keys::note(tx, MADE)?;
            note_archive(tx, id, &path, now.as_millisecond(), &key, &persons)
        });
        if let Err(error) = noted.await {
            // It is found again by looking into the folder, as long as that is known.
            tracing::warn!(%error, "a backup that was made could not be noted");
        }
    }

    async fn forget_archives(&self, open: &Open, removed: &[PathBuf]) {
        let paths: Vec<_> = removed
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        let forgotten = open.system.write(move |tx| {
            for path in &paths {
                tx.execute("DELETE FROM backup_archive WHERE path = ?1", [path])?;
            }
            Ok(())
        });
        if let Err(error) = forgotten.await {
            tracing::warn!(%error, "archives that were removed are still noted");
        }
    }
}
