//! The archives of one home in one folder, and the list of the erased that lies beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_contracts::ids::PersonId;
use aico_vault::archive::{Archive, ArchiveError, ENDING, PartKind, Preface, Scope};
use aico_vault::fs::OsFilesystem;
use aico_vault::{EncryptedFile, EncryptedFileError, FileKey, Key, Owner, Purpose, Vault};
use jiff::Timestamp;

use super::create::STAGING;
use super::erase::{ArchiveKeys, open_ours};
use super::error::BackupError;
use super::manifest::Manifest;
use crate::HomeError;
use crate::folder::{create_private, sync_folder};

/// Persons who were erased, and when, in milliseconds since 1970.
pub(crate) type Erasures = BTreeMap<PersonId, i64>;

/// How many archives stay. None of them: all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The newest of each of the last so many days that have one.
    pub daily: Option<u32>,
    /// The newest of each of the last so many weeks that have one.
    pub weekly: Option<u32>,
}

/// An archive in a folder, as it says of itself without being opened.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it, when it can't be read.
    pub wrong: Option<String>,
    /// When it says that it was made.
    pub created_at: Option<Timestamp>,
    /// Bytes of the file.
    pub length: u64,
    /// Whether it is of one person.
    pub one_person: bool,
    /// The id of the vault that it says it is of.
    pub vault: Option<[u8; 16]>,
}

/// The archives in a folder, the newest first. Opens none of them.
///
/// # Errors
/// When the folder can't be read.
pub fn list(folder: &Path) -> Result<Vec<Listed>, HomeError> {
    let mut all = Vec::new();
    for path in archives(folder)? {
        let length = fs::symlink_metadata(&path).map_or(0, |about| about.len());
        all.push(match Preface::read(&OsFilesystem, &path) {
            Ok(preface) => Listed {
                wrong: None,
                created_at: time(preface.created_ms),
                length,
                one_person: preface.scope == Scope::OnePerson,
                vault: Some(preface.vault()),
                path,
            },
            Err(error) => Listed {
                wrong: Some(error.to_string()),
                created_at: None,
                length,
                one_person: false,
                vault: None,
                path,
            },
        });
    }
    all.sort_by(|one, other| {
        let by = |listed: &Listed| (listed.created_at, listed.path.clone());
        by(other).cmp(&by(one))
    });
    Ok(all)
}

pub(crate) fn time(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// Everything in a folder that has the name of an archive.
pub(crate) fn archives(folder: &Path) -> Result<Vec<PathBuf>, HomeError> {
    let refused = |source| BackupError::TargetRefused {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(ENDING) && !name.starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The name of a new archive: when it was made, so that names sort by it, and a part of an id.
pub(crate) fn new_path(folder: &Path, now: Timestamp) -> PathBuf {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let when = now.strftime("%Y%m%d-%H%M%S");
    folder.join(format!("aico-{when}-{}{ENDING}", &random[..8]))
}

/// Makes the folder when it is missing, and sees that it can take archives: outside of the data
/// folder, whose loss they are for.
pub(crate) fn prepare(folder: &Path, data: &Path) -> Result<PathBuf, HomeError> {
    let refused = |source| BackupError::TargetRefused {
        path: folder.to_owned(),
        source,
    };
    let wrong = |why, mend: &str| BackupError::Target {
        path: folder.to_owned(),
        why,
        mend: mend.to_owned(),
    };
    if !folder.is_absolute() {
        let mend = "Name it with all of its path: --to /FOLDER";
        return Err(wrong("is no absolute path", mend).into());
    }
    let inside = || {
        let mend = "Choose a folder outside of it, on another disk if you can: --to FOLDER";
        wrong(
            "is inside of the data folder, and would be lost with it",
            mend,
        )
    };
    // Before anything is made there.
    if real(folder).starts_with(real(data)) {
        return Err(inside().into());
    }
    match fs::metadata(folder) {
        Ok(about) if about.is_dir() => {}
        Ok(_) => {
            let mend = "Choose another one: --to FOLDER";
            return Err(wrong("is not a folder", mend).into());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Only the last name of the path: a disk that is not mounted is not made up.
            let parent = folder.parent().unwrap_or(folder);
            if !parent.is_dir() {
                let mend = "Make it, or mount the disk that it is on.";
                return Err(wrong("is missing, and so is the folder above it", mend).into());
            }
            create_private(folder)
                .and_then(|()| sync_folder(parent))
                .map_err(refused)?;
        }
        Err(error) => return Err(refused(error).into()),
    }
    let folder = fs::canonicalize(folder).map_err(refused)?;
    if folder.starts_with(real(data)) {
        return Err(inside().into());
    }
    Ok(folder)
}

/// The path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|above| {
        let rest = path.strip_prefix(above).ok()?;
        Some(fs::canonicalize(above).ok()?.join(rest))
    });
    known.unwrap_or_else(|| path.to_owned())
}

/// In a folder that copies are made in: held as long as they are.
pub(crate) const STAGING_LOCK: &str = "lock";

fn tidy_staging(folder: &Path) {
    let lock = fs::OpenOptions::new()
        .write(true)
        .open(folder.join(STAGING_LOCK));
    let _ = match lock {
        Ok(lock) if lock.try_lock().is_ok() => {
            drop(lock);
            fs::remove_dir_all(folder)
        }
        Ok(_) => Ok(()),
        // It was killed before there was one: it is empty.
        Err(_) => fs::remove_dir(folder),
    };
}

/// Removes the abandoned beginnings of archives that were killed, and copies for them. Those that
/// are being written hold a lock.
pub(crate) fn tidy(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.starts_with(".aico-")
            && name.ends_with(".tmp")
            && name.contains(&format!("{ENDING}."));
        let plain = entry.file_type().is_ok_and(|kind| kind.is_file());
        let random = name.strip_prefix(STAGING).unwrap_or_default();
        if random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            tidy_staging(&entry.path());
        }
        if ours
            && plain
            && let Ok(file) = fs::OpenOptions::new().write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

// ---- retention ------------------------------------------------------------------------------

impl Keep {
    /// Whether anything is ever removed.
    #[must_use]
    pub fn is_everything(self) -> bool {
        self.daily.is_none() && self.weekly.is_none()
    }

    /// Which of these moments stay: of each of the last days, and weeks, that have one, the
    /// newest. The newest of all always does. What is later than now was made with a wrong clock:
    /// it stays, and takes nobody's place.
    fn stay(
        self,
        moments: &[Timestamp],
        now: Timestamp,
        zone: &jiff::tz::TimeZone,
    ) -> BTreeSet<Timestamp> {
        let (mut newest_first, later): (Vec<_>, Vec<_>) =
            moments.iter().copied().partition(|moment| *moment <= now);
        newest_first.sort_unstable_by(|one, other| other.cmp(one));
        let mut stay: BTreeSet<_> = later.into_iter().collect();
        stay.extend(newest_first.first());
        let mut newest_of_each = |count: Option<u32>, period: &dyn Fn(Timestamp) -> (i16, i16)| {
            let mut periods = BTreeSet::new();
            for moment in &newest_first {
                if periods.len() >= count.unwrap_or(0) as usize {
                    break;
                }
                if periods.insert(period(*moment)) {
                    stay.insert(*moment);
                }
            }
        };
        newest_of_each(self.daily, &|moment| {
            let date = moment.to_zoned(zone.clone()).date();
            (date.year(), date.day_of_year())
        });
        newest_of_each(self.weekly, &|moment| {
            let week = moment.to_zoned(zone.clone()).date().iso_week_date();
            (week.year(), i16::from(week.week()))
        });
        stay
    }
}

/// An archive of this vault that opens.
struct Ours {
    made: Timestamp,
    path: PathBuf,
    persons: Vec<PersonId>,
}

/// What became of the archives that were not to stay.
#[derive(Default)]
pub(crate) struct Retained {
    pub(crate) removed: Vec<PathBuf>,
    /// They were to go, and could not be removed.
    pub(crate) not_removed: Vec<PathBuf>,
}

/// Removes the archives that are not to stay: of this vault, of everybody or of this one person
/// only, and only those that open: one that does not is no reason for another to go. `now` is the
/// moment of the one that was just made.
pub(crate) fn retain(
    folder: &Path,
    vault: &Vault,
    keys: &ArchiveKeys,
    of: Option<PersonId>,
    keep: Keep,
    now: Timestamp,
    erased: &Erasures,
) -> Result<Retained, HomeError> {
    if keep.is_everything() {
        return Ok(Retained::default());
    }
    let listed = list(folder)?.into_iter();
    let ours: Vec<_> = listed
        .filter(|one| one.vault == Some(vault.id()) && one.one_person == of.is_some())
        .filter_map(|one| {
            let archive = open_ours(vault, &one.path, keys).ok()??;
            Some(Ours {
                made: one.created_at?,
                persons: persons_in(&archive),
                path: one.path,
            })
        })
        .filter(|one| of.is_none_or(|person| one.persons == [person]))
        .collect();
    let moments: Vec<_> = ours.iter().map(|one| one.made).collect();
    let stay = keep.stay(&moments, now, &jiff::tz::TimeZone::system());
    let retained = remove_others(ours, &stay, erased, &|path| fs::remove_file(path));
    if !retained.removed.is_empty() {
        let _ = sync_folder(folder);
    }
    Ok(retained)
}

/// Whose pieces are in an archive.
pub(crate) fn persons_in(archive: &Archive) -> Vec<PersonId> {
    let owners = archive
        .parts()
        .iter()
        .filter(|part| part.kind == PartKind::Person)
        .map(|part| part.owner);
    owners
        .filter_map(|owner| match owner {
            Owner::Person(id) => PersonId::from_slice(&id).ok(),
            Owner::System => None,
        })
        .collect()
}

/// Removes those that do not stay. `ours` has the newest first: of somebody who is in none that
/// stays, and was not erased, the newest that holds them stays too. After a restore of an archive
/// without them the home knows nothing of them any more, and that one is all there is.
fn remove_others(
    ours: Vec<Ours>,
    stay: &BTreeSet<Timestamp>,
    erased: &Erasures,
    remove: &dyn Fn(&Path) -> std::io::Result<()>,
) -> Retained {
    let (staying, going): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|one| stay.contains(&one.made));
    let mut safe: BTreeSet<PersonId> = erased.keys().copied().collect();
    safe.extend(staying.into_iter().flat_map(|one| one.persons));
    let mut retained = Retained::default();
    for one in going {
        if one.persons.iter().any(|person| !safe.contains(person)) {
            tracing::info!("an older backup stays: no other one that stays holds somebody in it");
            safe.extend(one.persons);
            continue;
        }
        match remove(&one.path) {
            Ok(()) => retained.removed.push(one.path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                retained.removed.push(one.path);
            }
            Err(error) => {
                tracing::warn!(%error, "an older backup could not be removed");
                retained.not_removed.push(one.path);
            }
        }
    }
    retained
}

// ---- the erased -----------------------------------------------------------------------------

const ERASURES_VERSION: u8 = 1;

/// The list of the erased of one vault in a folder of archives.
pub(crate) fn erasures_path(folder: &Path, vault: [u8; 16]) -> PathBuf {
    folder.join(format!("erasures-{}", &hex::encode(vault)[..8]))
}

/// The key of a home's lists of the erased. It does not hang on the root key: an archive from before
/// a change of that opens the list from after it, and the other way round.
#[derive(Clone)]
pub(crate) struct ListKey(Arc<Key>);

impl ListKey {
    pub(crate) fn new(bytes: &[u8; 32]) -> Self {
        Self(Arc::new(Key::from_bytes(bytes)))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        self.0.expose()
    }

    fn of(&self, vault: [u8; 16]) -> FileKey {
        let key = Key::from_bytes(self.0.expose());
        FileKey::from_derived(key, 1, Purpose::Archive, Owner::System, vault)
    }
}

/// Reads the list beside an archive; empty where there is none.
pub(crate) fn read_erasures(archive: &Archive, manifest: &Manifest) -> Result<Erasures, HomeError> {
    let folder = archive.path().parent().unwrap_or(Path::new("."));
    read_erasures_in(folder, archive, manifest)
}

/// The same from another folder with archives of that home.
pub(crate) fn read_erasures_in(
    folder: &Path,
    archive: &Archive,
    manifest: &Manifest,
) -> Result<Erasures, HomeError> {
    let path = erasures_path(folder, archive.vault());
    let key = ListKey::new(&manifest.list_key);
    read_list(&path, &key.of(archive.vault()))
}

/// Whether an erasure would have noted itself in this folder: there are archives of the vault, or
/// a list.
pub(crate) fn is_kept_up_to_date(folder: &Path, vault: [u8; 16]) -> bool {
    let ours = |one: &Listed| one.vault == Some(vault);
    erasures_path(folder, vault).exists() || list(folder).is_ok_and(|all| all.iter().any(ours))
}

fn read_list(path: &Path, key: &FileKey) -> Result<Erasures, HomeError> {
    let mut options = EncryptedFile::options();
    options.read(true).from_elsewhere(true);
    let mut text = Vec::new();
    let read = options.open(key, path).and_then(|mut file| {
        // Before a line of it is believed.
        file.verify()?;
        file.read_to_end(&mut text).map_err(|error| {
            error.downcast().unwrap_or(EncryptedFileError::Absent {
                path: path.to_owned(),
            })
        })
    });
    match read {
        Ok(_) => decode(&text).ok_or_else(|| {
            BackupError::Erasures {
                path: path.to_owned(),
            }
            .into()
        }),
        Err(EncryptedFileError::Absent { .. }) if fs::symlink_metadata(path).is_err() => {
            Ok(Erasures::new())
        }
        Err(error) => {
            tracing::error!(error = %error, "the list of the erased can't be read");
            Err(BackupError::Erasures {
                path: path.to_owned(),
            }
            .into())
        }
    }
}

/// Writes into the list of a folder who was erased, beside those who stand in it.
pub(crate) fn note_erasures(
    folder: &Path,
    vault: &Vault,
    key: &ListKey,
    erased: &Erasures,
) -> Result<(), HomeError> {
    if erased.is_empty() {
        return Ok(());
    }
    let path = erasures_path(folder, vault.id());
    let key = key.of(vault.id());
    let mut all = match read_list(&path, &key) {
        Ok(known) => known,
        Err(_) => {
            // It is damaged, and all that it can have said stands in the system's store as well.
            let mut aside = path.clone().into_os_string();
            aside.push(format!(".{}", Timestamp::now().strftime("%Y%m%d-%H%M%S")));
            let moved = fs::rename(&path, PathBuf::from(aside));
            moved.map_err(|source| BackupError::TargetRefused {
                path: path.clone(),
                source,
            })?;
            Erasures::new()
        }
    };
    let known = all.len();
    for (person, when) in erased {
        all.entry(*person).or_insert(*when);
    }
    if all.len() == known {
        return Ok(());
    }
    let written = EncryptedFile::create(&key, &path).and_then(|mut file| {
        let write = file.write_all(&encode(&all));
        write.map_err(|error| {
            let kind = error.kind();
            error.downcast().unwrap_or_else(|_| {
                EncryptedFileError::File(aico_vault::FileError::new("write", &path, kind.into()))
            })
        })?;
        file.finish()
    });
    written
        .map(drop)
        .map_err(|error| HomeError::Archive(ArchiveError::from(error)))
}

fn encode(all: &Erasures) -> Vec<u8> {
    let mut out = vec![ERASURES_VERSION];
    for (person, when) in all {
        out.extend_from_slice(person.as_bytes());
        out.extend_from_slice(&when.to_be_bytes());
    }
    out
}

fn decode(text: &[u8]) -> Option<Erasures> {
    let (version, rest) = text.split_first()?;
    if *version != ERASURES_VERSION || rest.len() % 24 != 0 {
        return None;
    }
    let mut all = Erasures::new();
    for entry in rest.chunks_exact(24) {
        let (id, when) = entry.split_at(16);
        let when = i64::from_be_bytes(when.try_into().ok()?);
        all.insert(PersonId::from_slice(id).ok()?, when);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn stay(keep: Keep, moments: &[&str]) -> Vec<String> {
        let moments: Vec<_> = moments.iter().map(|text| at(text)).collect();
        let now = at("2026-11-26T18:00:00Z");
        let stay = keep.stay(&moments, now, &jiff::tz::TimeZone::UTC);
        stay.iter().rev().map(ToString::to_string).collect()
    }

    #[test]
    fn of_each_day_and_week_the_newest_stays() {
        let moments = [
            "2026-11-26T18:00:00Z",
            "2026-11-26T09:00:00Z",
            "2026-11-25T18:00:00Z",
            "2026-11-22T23:00:00Z",
            "2026-11-22T01:00:00Z",
            "2026-11-10T01:00:00Z",
            "2026-11-09T01:00:00Z",
            "2026-01-01T01:00:00Z",
        ];
        let daily = Keep {
            daily: Some(3),
            weekly: None,
        };
        assert_eq!(stay(daily, &moments), [moments[0], moments[2], moments[3]]);
        let weekly = Keep {
            daily: None,
            weekly: Some(3),
        };
        assert_eq!(stay(weekly, &moments), [moments[0], moments[3], moments[5]]);
        let both = Keep {
            daily: Some(2),
            weekly: Some(9),
        };
        let kept = [moments[0], moments[2], moments[3], moments[5], moments[7]];
        assert_eq!(stay(both, &moments), kept);
        // The clock was ahead for a while.
        let ahead = ["2027-03-01T09:00:00Z", "2027-03-02T09:00:00Z"];
        let all = [&ahead[..], &moments].concat();
        let kept = [ahead[1], ahead[0], moments[0], moments[2], moments[3]];
        assert_eq!(stay(daily, &all), kept);
        // Whatever is asked for, the newest stays.
        let none = Keep {
            daily: Some(0),
            weekly: Some(0),
        };
        assert_eq!(stay(none, &moments), [moments[0]]);
        assert!(stay(none, &[]).is_empty());
    }

    /// Names of the archives that were removed, and of those that could not be, of four from four
    /// days, of which the newest is to stay.
    fn removed(
        persons: [&[PersonId]; 4],
        erased: &Erasures,
        stuck: &str,
    ) -> (Vec<String>, Vec<String>) {
        let days = ["24", "23", "22", "21"];
        let ours = days.iter().zip(persons).map(|(day, persons)| Ours {
            made: at(&format!("2026-11-{day}T09:00:00Z")),
            path: (*day).into(),
            persons: persons.to_vec(),
        });
        let stay = [at("2026-11-24T09:00:00Z")].into();
        let done = remove_others(ours.collect(), &stay, erased, &|path| {
            if path == Path::new(stuck) {
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
            Ok(())
        });
        let names = |paths: Vec<PathBuf>| {
            let names = paths.iter().map(|path| path.display().to_string());
            names.collect()
        };
        (names(done.removed), names(done.not_removed))
    }

    #[test]
    fn the_last_archive_that_holds_somebody_stays() {
        let (mia, ben) = (PersonId::new(), PersonId::new());
        let (both, one): (&[_], &[_]) = (&[mia, ben], &[mia]);
        let none = Erasures::new();
        let all = [both, both, both, both];
        assert_eq!(removed(all, &none, "").0, ["23", "22", "21"]);
        // Ben was left out of the one that was restored, and of every one since.
        let without = [one, one, both, both];
        assert_eq!(removed(without, &none, "").0, ["23", "21"]);
        // Of one who was erased nothing has to stay.
        let erased = Erasures::from([(ben, 7)]);
        assert_eq!(removed(without, &erased, "").0, ["23", "22", "21"]);
    }

    #[test]
    fn one_that_can_not_be_removed_keeps_no_other() {
        let mia: &[_] = &[PersonId::new()];
        let (gone, stuck) = removed([mia; 4], &Erasures::new(), "23");
        assert_eq!(gone, ["22", "21"]);
        assert_eq!(stuck, ["23"]);
    }

    #[test]
    fn the_list_of_the_erased_reads_as_it_was_written() {
        let mut all = Erasures::new();
        assert_eq!(decode(&encode(&all)), Some(all.clone()));
        all.insert(PersonId::new(), 17);
        all.insert(PersonId::new(), -4);
        let text = encode(&all);
        assert_eq!(decode(&text), Some(all));
        for wrong in [&text[..text.len() - 1], &[], &[2]] {
            assert_eq!(decode(wrong), None);
        }
    }
}
