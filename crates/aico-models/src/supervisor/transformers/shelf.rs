//! The packages on the disk: one folder each, put there whole or not at all.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aico_contracts::v1::Fault;

use crate::disk;
use crate::supervisor::files;
use crate::transformers::package::{
    DESCRIPTION, FILES, FileFacts, Package, PackageError, facts, limit,
};

/// Of a folder that is being filled; a name of a package can't begin so.
const MAKING: &str = ".making-";
/// Before the name of a package that makes way for another one of its name; as above.
const ASIDE: &str = ".old-";

/// Of whoever looks at all packages or moves one: for a moment of a replacement there is none.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a package can't be added or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShelfError {
    /// It is not a package, or not whole.
    #[error("{path} is no package that AICO can use")]
    Package {
        path: PathBuf,
        #[source]
        source: PackageError,
    },
    /// The disk.
    #[error("{path} can't be written")]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl ShelfError {
    pub(crate) fn to_fault(&self) -> Fault {
        match self {
            Self::Disk { source, .. } => disk::fault(source).unwrap_or_else(|| {
                Fault::internal("The package can't be written")
                    .with_what_to_do("Look at the folder of models and at its permissions.")
            }),
            Self::Package { source, path } => match source {
                PackageError::Read { name, source } if disk::is_failure(source) => {
                    files::unreadable(&path.join(name))
                }
                PackageError::Read { name, source } => {
                    Fault::new("model-missing", "A file of the package can't be opened")
                        .with_detail(format!("{}: {source}.", path.join(name).display()))
                        .with_what_to_do(
                            "A package is a folder with aico-model.json, model.onnx and \
                             tokenizer.json; docs/transformers.md shows one.",
                        )
                }
                PackageError::Damaged { name } => Fault::new(
                    "model-damaged",
                    "A file of the package is not what it should be",
                )
                .with_detail(format!("{}: {source}.", path.join(name).display()))
                .with_what_to_do("Get the file again, or correct aico-model.json."),
                PackageError::Description(_) | PackageError::TooLarge { .. } => {
                    Fault::new("not-a-model", "This folder is no package that AICO can use")
                        .with_detail(format!("{source}."))
                        .with_what_to_do("docs/transformers.md shows what a package is made of.")
                }
            },
        }
    }
}

/// The packages in the folder, in the order in which they were added. Blocks.
pub(super) fn look(folder: &Path) -> Vec<Package> {
    let _turn = turn();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let aside = name.to_str().and_then(|name| name.strip_prefix(ASIDE));
        if let Some(Err(error)) = aside.map(|name| settle(folder, name)) {
            tracing::warn!(%error, "What a package replaced can't be cleared away.");
        }
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(MAKING) {
            // A copy that was cut off. One that goes on now is younger than this.
            let old = entry.metadata().and_then(|about| about.modified());
            if old.is_ok_and(|old| old.elapsed().is_ok_and(|age| age.as_secs() > 24 * 3600)) {
                let _tried_again_later = std::fs::remove_dir_all(entry.path());
            }
            continue;
        }
        if name.to_string_lossy().starts_with(ASIDE) {
            continue;
        }
        match Package::read(&entry.path()) {
            Ok(package) if package.name.as_str() == name && is_whole(&package) => {
                found.push(package);
            }
            Ok(_) => tracing::warn!("A folder of a package has another name, and is passed over."),
            Err(error) => tracing::warn!(%error, "A package can't be read, and is passed over."),
        }
    }
    found.sort_by(|one, other| {
        (one.added_unix_ms, &one.name).cmp(&(other.added_unix_ms, &other.name))
    });
    found
}

fn is_whole(package: &Package) -> bool {
    FILES.iter().all(|name| package.files.contains_key(*name))
}

/// Copies the package in `from` below `folder`. Blocks, as long as copying takes.
pub(super) fn add(from: &Path, folder: &Path) -> Result<Package, ShelfError> {
    let wrong = |source| ShelfError::Package {
        path: from.to_owned(),
        source,
    };
    let about = Package::read(from).map_err(wrong)?;
    let put = |name: &str, to: &Path| copy(&from.join(name), to, name);
    let made = place(about, folder, &put, &|| {});
    made.map_err(|error| match error {
        PlaceError::Package(source) => wrong(source),
        PlaceError::Disk(path, source) => ShelfError::Disk { path, source },
    })
}

/// Puts a package that was downloaded in its place: its files get another name there, for which
/// there always is room. After an error they are where they were. Blocks.
///
/// # Errors
/// As it is told.
pub(crate) fn place_package(
    about: Package,
    folder: &Path,
    source: &dyn Fn(&str) -> PathBuf,
) -> Result<(), ShelfError> {
    let path = folder.join(&about.name);
    let moved = RefCell::new(Vec::new());
    let put = |name: &str, to: &Path| {
        let from = source(name);
        let found = read(&from, name)?;
        std::fs::rename(&from, to).map_err(|source| PlaceError::Disk(to.to_owned(), source))?;
        moved.borrow_mut().push((from, to.to_owned()));
        Ok(found)
    };
    let back = || {
        for (from, to) in moved.borrow().iter() {
            let _downloaded_again_then = std::fs::rename(to, from);
        }
    };
    let placed = place(about, folder, &put, &back);
    placed.map(drop).map_err(|error| match error {
        PlaceError::Package(source) => ShelfError::Package { path, source },
        PlaceError::Disk(path, source) => ShelfError::Disk { path, source },
    })
}

pub(super) enum PlaceError {
    Package(PackageError),
    Disk(PathBuf, io::Error),
}

/// Puts a package in its place, each file by `put`, which says what it is; after an error by `back`
/// where it was.
fn place(
    mut about: Package,
    folder: &Path,
    put: &dyn Fn(&str, &Path) -> Result<FileFacts, PlaceError>,
    back: &dyn Fn(),
) -> Result<Package, PlaceError> {
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |source| PlaceError::Disk(path, source)
    };
    crate::starter::private_folder(folder).map_err(disk(folder))?;
    let making = folder.join(format!("{MAKING}{}", uuid::Uuid::new_v4().simple()));
    crate::starter::private_folder(&making).map_err(disk(&making))?;
    let made = (|| {
        for name in FILES {
            let found = put(name, &making.join(name))?;
            let wanted = about.files.insert(name.to_owned(), found.clone());
            if found.size == 0 || wanted.is_some_and(|wanted| !is_same(&wanted, &found)) {
                let name = name.to_owned();
                return Err(PlaceError::Package(PackageError::Damaged { name }));
            }
        }
        about.added_unix_ms = now();
        finish(&about, &making, folder)
    })();
    if made.is_err() {
        back();
        let _best_effort = std::fs::remove_dir_all(&making);
    }
    made.map(|()| about)
}

fn is_same(wanted: &FileFacts, found: &FileFacts) -> bool {
    wanted.size == found.size && wanted.sha256.eq_ignore_ascii_case(&found.sha256)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// Ends a replacement that was cut off: what made way goes where the other one is in its place, and
/// goes back where it is not. Needs [`TURN`].
fn settle(folder: &Path, name: &str) -> io::Result<()> {
    let (target, aside) = (folder.join(name), folder.join(format!("{ASIDE}{name}")));
    let settled = match target.try_exists()? {
        true => std::fs::remove_dir_all(&aside),
        false => std::fs::rename(&aside, &target),
    };
    match settled {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives the folder the name of a package. One that has it is gone only when this one is there.
/// Needs [`TURN`].
fn replace(making: &Path, folder: &Path, name: &str) -> io::Result<()> {
    let (target, aside) = (folder.join(name), folder.join(format!("{ASIDE}{name}")));
    let made_way = match std::fs::rename(&target, &aside) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if let Err(error) = std::fs::rename(making, &target) {
        if made_way {
            let _settled_later = std::fs::rename(&aside, &target);
        }
        return Err(error);
    }
    crate::pull::sync_folder(folder)?;
    if made_way {
        let _settled_later = std::fs::remove_dir_all(&aside);
    }
    Ok(())
}

/// Writes the description and gives the folder its name. One of the same name makes way: as an
/// update of it, it keeps its turn among the others.
fn finish(about: &Package, making: &Path, folder: &Path) -> Result<(), PlaceError> {
    let _turn = turn();
    let target = folder.join(&about.name);
    let at_target = |source| PlaceError::Disk(target.clone(), source);
    settle(folder, &about.name).map_err(at_target)?;
    let mut about = about.clone();
    if let Ok(old) = Package::read(&target) {
        about.added_unix_ms = old.added_unix_ms;
    }
    let text = serde_json::to_vec_pretty(&about).unwrap_or_default();
    let path = making.join(DESCRIPTION);
    let failed = |source| PlaceError::Disk(path.clone(), source);
    let mut file = std::fs::File::create(&path).map_err(failed)?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    replace(making, folder, &about.name).map_err(at_target)
}

fn open(from: &Path, name: &str) -> Result<std::fs::File, PlaceError> {
    let unread = |source| {
        PlaceError::Package(PackageError::Read {
            name: name.to_owned(),
            source,
        })
    };
    let file = std::fs::File::open(from).map_err(unread)?;
    match file.metadata().map_err(unread)?.is_file() {
        true => Ok(file),
        false => Err(unread(io::Error::other("it is no file"))),
    }
}

fn read(from: &Path, name: &str) -> Result<FileFacts, PlaceError> {
    let file = open(from, name)?;
    facts(name, &mut file.take(limit(name) + 1)).map_err(PlaceError::Package)
}

fn copy(from: &Path, to: &Path, name: &str) -> Result<FileFacts, PlaceError> {
    let file = open(from, name)?;
    let failed = |source| PlaceError::Disk(to.to_owned(), source);
    let mut target = std::fs::File::create(to).map_err(failed)?;
    let mut limited = file.take(limit(name) + 1);
    let mut broken = None;
    let mut both = Tee {
        from: &mut limited,
        to: &mut target,
        broken: &mut broken,
    };
    let copied = facts(name, &mut both);
    if let Some(error) = broken {
        return Err(failed(error));
    }
    let copied = copied.map_err(PlaceError::Package)?;
    target.sync_all().map_err(failed)?;
    Ok(copied)
}

/// Writes what is read.
struct Tee<'a, R: Read> {
    from: &'a mut R,
    to: &'a mut std::fs::File,
    /// Why writing failed, which is no failure of reading.
    broken: &'a mut Option<io::Error>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if let Err(error) = self.to.write_all(&buffer[..count]) {
            *self.broken = Some(error);
            return Err(io::Error::other("writing failed"));
        }
        Ok(count)
    }
}

/// Removes a package. Blocks.
pub(super) fn remove(folder: &Path, name: &str) -> Result<(), ShelfError> {
    let path = folder.join(name);
    let _turn = turn();
    // What it replaced must not come back. Then the description: a folder without one is no package
    // any more.
    let description = || std::fs::remove_file(path.join(DESCRIPTION));
    let removed = match settle(folder, name).and_then(|()| description()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => std::fs::remove_dir_all(&path),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ShelfError::Disk { path, source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "tiny-bert";

    /// A shelf with one package.
    fn shelf() -> (tempfile::TempDir, Vec<Package>) {
        let folder = tempfile::tempdir().unwrap();
        add(&fixture(), folder.path()).unwrap();
        let all = look(folder.path());
        assert_eq!(all.len(), 1);
        (folder, all)
    }

    fn fixture() -> PathBuf {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transformers");
        all.join(NAME)
    }

    fn aside(folder: &Path) -> PathBuf {
        folder.join(format!("{ASIDE}{NAME}"))
    }

    /// What is there by its name.
    fn there(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let names = entries.map(|entry| name(entry).into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_package_makes_way_only_for_one_that_comes() {
        let (folder, before) = shelf();
        let folder = folder.path();
        add(&fixture(), folder).unwrap();
        assert_eq!(
            (look(folder), there(folder)),
            (before.clone(), vec![NAME.to_owned()])
        );
        let none = folder.join(format!("{MAKING}none"));
        replace(&none, folder, NAME).unwrap_err();
        assert_eq!(
            (look(folder), there(folder)),
            (before, vec![NAME.to_owned()])
        );
    }

    #[test]
    fn a_replacement_that_was_cut_off_leaves_one_package() {
        let (folder, before) = shelf();
        let folder = folder.path();
        let whole = (before, vec![NAME.to_owned()]);
        // Before the other one came.
        std::fs::rename(folder.join(NAME), aside(folder)).unwrap();
        assert_eq!((look(folder), there(folder)), whole);
        std::fs::rename(folder.join(NAME), aside(folder)).unwrap();
        add(&fixture(), folder).unwrap();
        assert_eq!(
            (there(folder), look(folder)),
            (whole.1.clone(), whole.0.clone())
        );
        // After it came.
        std::fs::create_dir(aside(folder)).unwrap();
        std::fs::write(aside(folder).join(DESCRIPTION), "{}").unwrap();
        assert_eq!((look(folder), there(folder)), whole);
        std::fs::create_dir(aside(folder)).unwrap();
        remove(folder, NAME).unwrap();
        assert_eq!((look(folder), there(folder)), (Vec::new(), Vec::new()));
    }
}
