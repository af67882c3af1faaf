//! A database's place in the file system: its file, what may lie beside it, and who has it open.
//!
//! On Unix, closing *any* descriptor of a file drops the process's locks on it, SQLite's too.
//! So the bytes of a database are read here only while no connection has it open, and a [`Place`]
//! is held by one store at a time.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::{error::OpenError, platform};

/// SQLCipher's page size here, in bytes.
pub(crate) const PAGE: u64 = 4096;

/// Begins the suffix of what a restore has kept.
const BEFORE_RESTORE: &str = ".before-restore";

static OPEN: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// A database's path, claimed for this process until dropped.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
}

impl Place {
    /// Claims the path. Folders must exist; the file need not.
    pub(crate) fn claim(path: &Path) -> Result<Self, OpenError> {
        let path = platform::resolve(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => OpenError::Missing {
                path: path.to_path_buf(),
            },
            _ => OpenError::Io {
                step: "resolve",
                path: path.to_path_buf(),
                source,
            },
        })?;
        if OPEN.lock().get_or_insert_default().insert(path.clone()) {
            Ok(Self { path })
        } else {
            Err(OpenError::AlreadyOpen { path })
        }
    }

    /// The database.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its path, for an error.
    pub(crate) fn to_path(&self) -> PathBuf {
        self.path.clone()
    }

    /// A database in the making.
    pub(crate) fn unborn(&self) -> PathBuf {
        beside(&self.path, ".new")
    }

    /// The snapshot that lies beside it while migrations run.
    pub(crate) fn snapshot(&self) -> PathBuf {
        beside(&self.path, ".before-migration")
    }

    /// A snapshot in the making.
    pub(crate) fn copying(&self) -> PathBuf {
        beside(&self.path, ".copying")
    }

    /// The copy under another key, in the making or to be put in place.
    pub(crate) fn rekeyed(&self) -> PathBuf {
        beside(&self.path, ".rekeyed")
    }

    /// A name that nothing has yet for what a restore replaces: what an earlier one kept stays.
    pub(crate) fn to_keep(&self) -> PathBuf {
        let first = beside(&self.path, BEFORE_RESTORE);
        let mut name = first.clone();
        let mut count = 1;
        while exists(&name) || exists(&beside(&name, "-wal")) {
            count += 1;
            name = beside(&first, &format!("-{count}"));
        }
        name
    }

    /// What restores have kept beside it.
    pub(crate) fn kept(&self) -> Result<Vec<PathBuf>, OpenError> {
        let failed = || io_error("list", self.folder());
        let first = beside(&self.path, BEFORE_RESTORE);
        let first = first.file_name().unwrap_or_default().as_encoded_bytes();
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder()).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if entry.file_name().as_encoded_bytes().starts_with(first) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// The write-ahead log.
    pub(crate) fn log(&self) -> PathBuf {
        beside(&self.path, "-wal")
    }

    /// Checks that a plain, private, non-empty file is there; answers its length in bytes.
    pub(crate) fn check_file(&self) -> Result<u64, OpenError> {
        let path = || self.path.clone();
        let metadata = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Missing { path: path() });
            }
            Err(source) => {
                return Err(OpenError::Io {
                    step: "look at",
                    path: path(),
                    source,
                });
            }
        };
        if !metadata.file_type().is_file() {
            return Err(OpenError::NotAPlainFile { path: path() });
        }
        if let Some(mend) = platform::privacy_fault(&self.path, &metadata) {
            return Err(OpenError::NotPrivate { path: path(), mend });
        }
        if metadata.len() == 0 {
            return Err(OpenError::Empty { path: path() });
        }
        Ok(metadata.len())
    }

    /// Checks that the file and its folder can be written.
    pub(crate) fn check_writable(&self) -> Result<(), OpenError> {
        for path in [&*self.path, self.folder()] {
            match platform::writable(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                    return Err(OpenError::read_only(self.path.clone()));
                }
                Err(_) => {
                    return Err(OpenError::NotWritable {
                        path: self.path.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Removes what SQLite keeps beside the database. Only where its content is known to be in
    /// the database, or to be of no account.
    pub(crate) fn remove_companions(&self) -> Result<(), OpenError> {
        for suffix in ["-wal", "-shm", "-journal"] {
            remove_if_there(&beside(&self.path, suffix))?;
        }
        Ok(())
    }

    /// Removes a rollback journal. Ours has none (it lives in WAL mode from before it gets its
    /// name), so one that is there was put there, and SQLite would play it into the database.
    pub(crate) fn remove_journal(&self) -> Result<(), OpenError> {
        let journal = beside(&self.path, "-journal");
        if exists(&journal) {
            tracing::warn!(path = %journal.display(), "a foreign rollback journal was removed");
            remove_if_there(&journal)?;
        }
        Ok(())
    }

    /// The folder it lies in.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Renames one of the files beside it to the database's own name, durably.
    pub(crate) fn take_place(&self, from: &Path) -> Result<(), OpenError> {
        self.rename(from, &self.path)
    }

    /// Renames one file in the folder, durably.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), OpenError> {
        fs::rename(from, to)
            .and_then(|()| platform::sync_folder(self.folder()))
            .map_err(io_error("rename", from))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(open) = OPEN.lock().as_mut() {
            open.remove(&self.path);
        }
    }
}

/// All the files that may belong to the database at `path`, present or not, without what restores
/// have kept: [`Place::kept`].
pub(crate) fn all_files(path: &Path) -> Vec<PathBuf> {
    let suffixes = [
        "",
        "-wal",
        "-shm",
        "-journal",
        ".before-migration",
        ".copying",
        ".new",
        ".new-wal",
        ".new-shm",
    ];
    let more = [
        ".room",
        ".new-journal",
        ".rekeyed",
        ".rekeyed-wal",
        ".rekeyed-shm",
        ".rekeyed-journal",
    ];
    suffixes
        .iter()
        .chain(&more)
        .map(|suffix| beside(path, suffix))
        .collect()
}

/// The path with a suffix after its last name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether no file can be made beside this one for want of space.
pub(crate) fn is_full_beside(path: &Path) -> bool {
    let probe = beside(path, ".room");
    let made = platform::create_private(&probe);
    // One that is left is empty, and goes with the next.
    drop(remove_if_there(&probe));
    made.is_err_and(|error| {
        use io::ErrorKind as Kind;
        matches!(error.kind(), Kind::StorageFull | Kind::QuotaExceeded)
    })
}

/// Whether anything has that name, a dangling link included.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The length of a file, 0 when it is not there.
pub(crate) fn length(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.len())
}

/// Removes a database file and what the engine has beside it.
pub(crate) fn remove_with_companions(path: &Path) -> Result<(), OpenError> {
    ["", "-wal", "-shm", "-journal"]
        .iter()
        .try_for_each(|suffix| remove_if_there(&beside(path, suffix)))
}

/// Removes a file that may not be there.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), OpenError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// The salt: the first 16 bytes, `None` when the file is shorter.
pub(crate) fn salt(path: &Path) -> Result<Option<[u8; 16]>, OpenError> {
    let mut salt = [0; 16];
    match File::open(path).and_then(|mut file| file.read_exact(&mut salt)) {
        Ok(()) => Ok(Some(salt)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// SHA-256 of a file.
pub(crate) fn hash(path: &Path) -> Result<[u8; 32], OpenError> {
    let mut file = File::open(path).map_err(io_error("read", path))?;
    copy_hashing(&mut file, &mut io::sink(), &mut |_| {}).map_err(io_error("read", path))
}

/// Copies a file to a new, private, synced one; answers the hash of what was copied. `so_far` hears
/// how many bytes are.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    so_far: &mut dyn FnMut(u64),
) -> Result<[u8; 32], OpenError> {
    remove_if_there(to)?;
    let mut source = File::open(from).map_err(io_error("read", from))?;
    let mut target = platform::create_private(to).map_err(io_error("create", to))?;
    let copied = copy_hashing(&mut source, &mut target, so_far)
        .and_then(|hash| target.sync_all().map(|()| hash))
        .map_err(io_error("write", to));
    if copied.is_err() {
        remove_if_there(to)?;
    }
    copied
}

fn copy_hashing(
    from: &mut impl Read,
    to: &mut impl io::Write,
    so_far: &mut dyn FnMut(u64),
) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut done = 0;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
                done += count as u64;
                so_far(done);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Maps an I/O error, a full disk to its own variant.
pub(crate) fn io_error(
    step: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            OpenError::StorageFull { path }
        }
        io::ErrorKind::ReadOnlyFilesystem => OpenError::read_only(path),
        _ => OpenError::Io { step, path, source },
    }
}
