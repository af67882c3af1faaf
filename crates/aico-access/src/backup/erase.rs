//! What an erasure does beyond the stores: archives, and copies that were kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use aico_contracts::ids::PersonId;
use aico_store::StoreError;
use aico_vault::archive::{Archive, ArchiveError, ArchiveKey, Part, PartKind, Preface};
use aico_vault::{Owner, Vault};
use jiff::Timestamp;
use rusqlite::Transaction;

use super::keys;
use super::manifest::Manifest;
use super::noted::erased_in;
use super::set::{self, Erasures, ListKey};
use crate::home::{Open, blocking, person_folder};
use crate::{Home, HomeError, swap};

/// Where an erased person's data was, beside the stores.
#[derive(Clone, Debug, Default)]
pub struct Erased {
    /// Archives that their pieces were dropped from.
    pub dropped: Vec<Dropped>,
    /// Archives that they are still in, or may be.
    pub out_of_reach: Vec<OutOfReach>,
}

/// An archive that was written anew without somebody.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// Which.
    pub path: PathBuf,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}

/// An archive that somebody who was erased is still in, or may be.
#[derive(Clone, Debug)]
pub struct OutOfReach {
    /// Where it was when it was last seen.
    pub path: PathBuf,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// What kept them from being dropped, as a sentence without its end.
    pub why: String,
}

/// An archive as the system's store knows it.
struct Known {
    id: [u8; 16],
    path: PathBuf,
    created_ms: i64,
    key: Vec<u8>,
    /// Persons in it who were erased.
    erased: Vec<PersonId>,
    /// Who is in it was never noted: its maker ended before that.
    untold: bool,
    /// It is left to the home that this one was restored beside.
    of_another: bool,
}

/// Stands among the persons of an archive that is of the home which this one was restored beside.
const OF_ANOTHER: [u8; 16] = [0; 16];

/// Notes of all archives that they are another home's. A drill is no reason to take anybody out of
/// them; a folder that this home makes a backup in becomes its own with what lies in there.
pub(crate) fn leave_to_the_other(tx: &Transaction<'_>) -> Result<(), StoreError> {
    tx.execute(
        "INSERT OR IGNORE INTO backup_archive_person (archive, person)
         SELECT id, ?1 FROM backup_archive",
        [OF_ANOTHER],
    )?;
    Ok(())
}

/// Stands alone of an archive that nobody is left in: it need not be looked into again.
const NOBODY: [u8; 16] = [0xff; 16];

impl Home {
    /// Drops everybody who was erased out of the archives that can be reached: those that are
    /// known as this home's, and whatever lies in the folders of those. What could not be done is
    /// tried again with the next backup, and at the next start.
    pub(crate) async fn drop_erased(&self, open: &Open) -> Result<Erased, HomeError> {
        let erased = erased_in(open).await?;
        if erased.is_empty() {
            return Ok(Erased::default());
        }
        let known = known_archives(open, &erased).await?;
        let mut folders: BTreeSet<PathBuf> = known
            .iter()
            .filter(|archive| !archive.of_another)
            .filter_map(|archive| archive.path.parent().map(Path::to_owned))
            .collect();
        folders.insert(self.inner.config.backups.clone());
        let (vault, list) = (open.vault.clone(), keys::list_key(&open.system).await?);
        let (done, cleaned) =
            blocking(move || Ok(reach(&vault, &list, &known, &folders, &erased))).await?;
        let forget = open.system.write(move |tx| {
            for (archive, persons) in &cleaned {
                let mut gone = 0;
                for person in persons {
                    gone += tx.execute(
                        "DELETE FROM backup_archive_person WHERE archive = ?1 AND person = ?2",
                        rusqlite::params![archive, person.as_bytes()],
                    )?;
                }
                if gone == 0 {
                    continue;
                }
                tx.execute(
                    "INSERT INTO backup_archive_person (archive, person)
                     SELECT id, ?2 FROM backup_archive WHERE id = ?1 AND NOT EXISTS
                     (SELECT 1 FROM backup_archive_person WHERE archive = id)",
                    rusqlite::params![archive, NOBODY],
                )?;
            }
            Ok(())
        });
        forget.await?;
        Ok(done)
    }

    /// Tries again what an earlier erasure could not reach, if there is anything.
    pub(crate) async fn drop_pending(&self) -> Result<(), HomeError> {
        let open = self.opened()?;
        if let Err(error) = self.note_who_is_in(&open).await {
            tracing::warn!(%error, "who is in some of the archives could not be noted");
        }
        let pending = open.system.read(|db| {
            let sql =
                "SELECT count(*) FROM backup_archive_person JOIN access_tombstone USING (person)";
            Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))?)
        });
        if pending.await? == 0 {
            return Ok(());
        }
        let done = self.drop_erased(&open).await?;
        if !done.dropped.is_empty() {
            let archives = done.dropped.len();
            tracing::info!(
                archives,
                "an erasure was finished in backups that had been out of reach"
            );
        }
        Ok(())
    }

    /// Notes who is in the archives that are there and that nobody is noted as in: their maker ended
    /// between their name and that note, and an erasure may not have reached them since.
    async fn note_who_is_in(&self, open: &Open) -> Result<(), HomeError> {
        let untold = open.system.read(|db| {
            let sql = "SELECT id, path, key FROM backup_archive WHERE NOT EXISTS
                       (SELECT 1 FROM backup_archive_person WHERE archive = id)";
            let mut query = db.prepare(sql)?;
            let rows = query.query_map([], |row| {
                let id: [u8; 16] = row.get(0)?;
                Ok((id, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?))
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        });
        let untold = untold.await?;
        if untold.is_empty() {
            return Ok(());
        }
        let vault = open.vault.clone();
        let found = blocking(move || {
            let found = untold.into_iter().filter_map(|(id, path, key)| {
                let keys = ArchiveKeys::from([(id, key)]);
                // One that does not open now is looked at again.
                let archive = open_ours(&vault, Path::new(&path), &keys).ok()??;
                let persons = set::persons_in(&archive);
                let mut persons: Vec<_> = persons.iter().map(|one| *one.as_bytes()).collect();
                if persons.is_empty() {
                    persons.push(NOBODY);
                }
                (archive.id() == id).then_some((id, persons))
            });
            Ok(found.collect::<Vec<_>>())
        })
        .await?;
        if found.is_empty() {
            return Ok(());
        }
        let noted = open.system.write(move |tx| {
            for (archive, persons) in &found {
                for person in persons {
                    tx.execute(
                        "INSERT OR IGNORE INTO backup_archive_person (archive, person)
                         SELECT id, ?2 FROM backup_archive WHERE id = ?1",
                        rusqlite::params![archive, person],
                    )?;
                }
            }
            Ok(())
        });
        Ok(noted.await?)
    }

    /// Where the archives are that were made of this home, oldest first, within reach or not. They
    /// open with the password and the phrase of then.
    pub(crate) async fn known_archives(&self, open: &Open) -> Result<Vec<PathBuf>, HomeError> {
        let known = known_archives(open, &Erasures::new()).await?;
        Ok(known.into_iter().map(|archive| archive.path).collect())
    }

    /// The keys of the archives that are known.
    pub(crate) async fn archive_keys(&self, open: &Open) -> Result<ArchiveKeys, HomeError> {
        let known = known_archives(open, &Erasures::new()).await?;
        Ok(known
            .into_iter()
            .map(|archive| (archive.id, archive.key))
            .collect())
    }

    /// Removes what was kept of a person from before a restore, or what one that was cut off left.
    pub(crate) async fn erase_kept(&self, person: PersonId) -> Result<(), HomeError> {
        let data = self.inner.config.data.clone();
        blocking(move || {
            for kept in swap::kept_folders(&data)? {
                let folder = person_folder(&kept.join("home"), person);
                destroy(&folder).map_err(|source| HomeError::Folder {
                    path: folder.clone(),
                    source,
                })?;
            }
            Ok(())
        })
        .await
    }
}

/// Removes a person's folder. The keyrings first, overwritten, those that a restore has kept as
/// well: without them the rest is noise, whatever the disk keeps.
pub(crate) fn destroy(folder: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let keyring = entry.file_name().to_string_lossy().starts_with("keyring");
        if keyring && entry.file_type()?.is_file() {
            overwrite(&entry.path())?;
        }
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn overwrite(keyring: &Path) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(keyring)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut noise = vec![0; length.min(256 * 1024)];
    // Zeros would do as well; this can't be told from what was there.
    let _ = aws_lc_rs::rand::fill(&mut noise);
    file.write_all(&noise)?;
    file.sync_all()?;
    fs::remove_file(keyring)
}

async fn known_archives(open: &Open, erased: &Erasures) -> Result<Vec<Known>, HomeError> {
    type Row = (Vec<u8>, String, i64, Vec<u8>);
    let (archives, persons) = open
        .system
        .read(|db| {
            let mut query = db.prepare(
                "SELECT id, path, created_ms, key FROM backup_archive ORDER BY created_ms",
            )?;
            let archives = query
                .query_map([], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?
                .collect::<Result<Vec<Row>, _>>()?;
            let mut query = db.prepare("SELECT archive, person FROM backup_archive_person")?;
            let persons = query
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<Vec<(Vec<u8>, Vec<u8>)>, _>>()?;
            Ok((archives, persons))
        })
        .await?;
    let mut of: BTreeMap<Vec<u8>, Vec<PersonId>> = BTreeMap::new();
    let (mut told, mut of_another) = (BTreeSet::new(), BTreeSet::new());
    for (archive, person) in persons {
        told.insert(archive.clone());
        if person == OF_ANOTHER {
            of_another.insert(archive);
            continue;
        }
        let person = PersonId::from_slice(&person).ok();
        if let Some(person) = person.filter(|person| erased.contains_key(person)) {
            of.entry(archive).or_default().push(person);
        }
    }
    let known = archives.into_iter().map(|(id, path, created_ms, key)| {
        Ok(Known {
            erased: of.remove(&id).unwrap_or_default(),
            untold: !told.contains(&id),
            of_another: of_another.contains(&id),
            id: id.try_into().map_err(|_| StoreError::Conversion)?,
            path: path.into(),
            created_ms,
            key,
        })
    });
    known.collect()
}

/// Archives of which nothing is left to do for these persons.
type Clean = Vec<([u8; 16], Vec<PersonId>)>;

/// Goes through the folders. Answers what was done, and of which archives nothing is left to do.
fn reach(
    vault: &Vault,
    list: &ListKey,
    known: &[Known],
    folders: &BTreeSet<PathBuf>,
    erased: &Erasures,
) -> (Erased, Clean) {
    let mut done = Erased::default();
    let mut clean: BTreeMap<[u8; 16], Vec<PersonId>> = BTreeMap::new();
    let mut failed: BTreeMap<PathBuf, String> = BTreeMap::new();
    let keys: ArchiveKeys = known
        .iter()
        .map(|archive| (archive.id, archive.key.clone()))
        .collect();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        // Though none of them is there now: they may come back.
        let mut ours = known
            .iter()
            .any(|archive| archive.path.parent() == Some(folder.as_path()));
        for path in set::archives(folder).unwrap_or_default() {
            match one_archive(vault, &path, &keys, erased) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    ours = true;
                    clean.entry(found.id).or_default().extend(erased.keys());
                    if found.dropped {
                        done.dropped.push(Dropped {
                            path,
                            created_at: set::time(found.created_ms),
                        });
                    }
                }
                Err(error) => {
                    ours = true;
                    failed.insert(path, sentence(&error));
                }
            }
        }
        if ours && let Err(error) = set::note_erasures(folder, vault, list, erased) {
            tracing::warn!(%error, "who was erased could not be noted beside the backups");
        }
    }
    for archive in known {
        let may_be_in_it = archive.untold || !archive.erased.is_empty();
        if may_be_in_it && !clean.contains_key(&archive.id) {
            let why = failed.remove(&archive.path);
            let otherwise = if archive.of_another {
                "it is left to the AICO that this one was restored from. The next backup of this \
                 one that goes to its folder takes them out"
            } else if archive.untold {
                "it is not there now. AICO ended before it noted who is in it: they may be in it"
            } else {
                "it is not there now"
            };
            done.out_of_reach.push(OutOfReach {
                path: archive.path.clone(),
                created_at: Timestamp::from_millisecond(archive.created_ms).ok(),
                why: why.unwrap_or_else(|| otherwise.to_owned()),
            });
        }
    }
    // Not known, and not to be opened: somebody may be in it.
    for (path, why) in failed {
        if !known.iter().any(|archive| archive.path == path) {
            done.out_of_reach.push(OutOfReach {
                created_at: None,
                path,
                why,
            });
        }
    }
    (done, clean.into_iter().collect())
}

struct Found {
    id: [u8; 16],
    created_ms: u64,
    dropped: bool,
}

/// The keys of archives that are known, sealed.
pub(crate) type ArchiveKeys = BTreeMap<[u8; 16], Vec<u8>>;

/// Opens an archive of this vault's, with the key that was kept of it or with the root key; `None`
/// when it is another vault's.
pub(crate) fn open_ours(
    vault: &Vault,
    path: &Path,
    keys: &ArchiveKeys,
) -> Result<Option<Archive>, HomeError> {
    let fs = vault.filesystem();
    let preface = match Preface::read(&*fs, path) {
        Ok(preface) => preface,
        // It says of itself whose it is, or nothing that could be believed.
        Err(ArchiveError::NotAnArchive { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if preface.vault() != vault.id() {
        return Ok(None);
    }
    let key = keys
        .get(&preface.id)
        .and_then(|sealed| ArchiveKey::open(vault, preface.id, sealed).ok());
    Ok(Some(match key {
        Some(key) => preface.open_with_key(key)?,
        None => preface.open_in(vault)?,
    }))
}

/// Looks into one archive; `None` when it is another vault's.
fn one_archive(
    vault: &Vault,
    path: &Path,
    keys: &ArchiveKeys,
    erased: &Erasures,
) -> Result<Option<Found>, HomeError> {
    let Some(archive) = open_ours(vault, path, keys)? else {
        return Ok(None);
    };
    let dropped = drop_persons(vault, &archive, erased)?;
    Ok(Some(Found {
        id: archive.id(),
        created_ms: archive.created_ms(),
        dropped,
    }))
}

fn drop_persons(vault: &Vault, archive: &Archive, erased: &Erasures) -> Result<bool, HomeError> {
    let is_erased = |part: &Part| match part.owner {
        Owner::Person(id) => {
            part.kind == PartKind::Person
                && PersonId::from_slice(&id).is_ok_and(|id| erased.contains_key(&id))
        }
        Owner::System => false,
    };
    let gone: Vec<_> = erased.keys().copied().collect();
    let manifest = Manifest::of(archive)?;
    // Of one who was left out there is a name, and no part.
    if !archive.parts().iter().any(is_erased) && !manifest.tells_of(&gone) {
        return Ok(false);
    }
    let manifest = manifest.without(&gone);
    archive.rewrite_without(
        vault.filesystem(),
        is_erased,
        &manifest.encode(),
        &mut |_| true,
    )?;
    Ok(true)
}

fn sentence(error: &HomeError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}
