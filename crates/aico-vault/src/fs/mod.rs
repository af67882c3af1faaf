//! The file system as the vault sees it: few operations, durable in known steps, links never
//! followed, nothing readable by others.
//!
//! [`Filesystem`] exists so that a test can put one in its place that drops, reorders and tears
//! whatever has not been synced (`faulty`, with the feature `test-util`). Formats of other crates
//! that are built on [`crate::append`] use it for the same reason.

#[cfg(any(test, feature = "test-util"))]
pub mod faulty;
mod os;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub use os::OsFilesystem;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// What stands at a path, without following links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; never followed.
    Link,
    /// A device, a socket, a pipe.
    Other,
}

/// An entry of a folder.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Length in bytes.
    pub len: u64,
    /// Whether it belongs to the user of this process.
    pub mine: bool,
    /// Whether others than its owner may do anything with it.
    pub open_to_others: bool,
}

/// An open file. Errors are the system's.
#[expect(
    clippy::missing_errors_doc,
    clippy::len_without_is_empty,
    reason = "the system's own calls and errors, one for one"
)]
pub trait FsFile: Send {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads into `buffer` from `offset` on; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at `offset`. When it fails, some of them may have been written.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or lengthens.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Another handle of the same open file.
    fn try_clone(&self) -> io::Result<Box<dyn FsFile>>;
    /// Locks it against others who ask, until it is closed; `false` when one of them has it.
    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// The operations that the vault needs. Errors are the system's.
#[expect(
    clippy::missing_errors_doc,
    reason = "the system's own calls and errors, one for one"
)]
pub trait Filesystem: Send + Sync {
    /// What stands at a path, if anything.
    fn probe(&self, path: &Path) -> io::Result<Option<Entry>>;
    /// The names in a folder, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// Opens an existing regular file, for writing too when `write`.
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn FsFile>>;
    /// Makes a new file, 0600; it must not be there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Makes a folder, 0700; its parent must be there.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name, in place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// As `rename`, and `AlreadyExists` when something has that name.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a folder durable: what was made in it, renamed, removed.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// A file that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is a link, belongs to somebody else, or is open to others.
    #[error("{} {problem}; mend it with: {mend}", path.display())]
    Insecure {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// The command that mends it.
        mend: String,
    },
    /// The file system can only be read: mounted so, or by the system after errors of the disk.
    #[error("the disk of {} can only be read; mend it with: {mend}", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
        /// The command that mends it, where nothing else is wrong with the disk.
        mend: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It may not be written.
    #[error("{} can't be written; mend it with: {mend}", path.display())]
    NotWritable {
        /// Which.
        path: PathBuf,
        /// The command that mends it.
        mend: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk or the quota is full.
    #[error("there is no room left for {}", path.display())]
    StorageFull {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl FileError {
    /// What the system said when `doing` was tried on `path`.
    #[must_use]
    pub fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::StorageFull { path, source }
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                let folder = path.parent().unwrap_or(&path);
                let mend = format!("mount -o remount,rw {}", quoted(folder));
                Self::ReadOnly { path, mend, source }
            }
            io::ErrorKind::PermissionDenied if doing != "read" => {
                let mend = sys::mend_mode(path.parent().unwrap_or(&path), true);
                Self::NotWritable { path, mend, source }
            }
            _ => Self::Io {
                doing,
                path,
                source,
            },
        }
    }
}

/// Whether an error, or what it comes from, is that the disk could not be read or written.
#[must_use]
pub fn disk_failed(error: &(dyn std::error::Error + 'static)) -> bool {
    let here = error.downcast_ref::<io::Error>().is_some_and(|error| {
        error.raw_os_error().is_some_and(sys::is_disk_failure)
            || error.get_ref().is_some_and(|inner| disk_failed(inner))
    });
    here || error.source().is_some_and(disk_failed)
}

/// Adds the path and what was tried to an error of the system.
pub trait Context<T> {
    /// The same, as a [`FileError`].
    ///
    /// # Errors
    /// When `self` is one.
    fn on(self, doing: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T> Context<T> for io::Result<T> {
    fn on(self, doing: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError::new(doing, path, source))
    }
}

/// Bytes that may still be written where `path` lies, where the system tells.
#[must_use]
pub fn free_bytes(path: &Path) -> Option<u64> {
    sys::free_bytes(path)
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Looks at a path and refuses what is not a private `kind` of this user's.
///
/// # Errors
/// [`FileError::Insecure`] for a link, another user's, or one that is open to others.
pub fn probe_private(
    fs: &dyn Filesystem,
    path: &Path,
    kind: Kind,
) -> Result<Option<Entry>, FileError> {
    let Some(entry) = fs.probe(path).on("read", path)? else {
        return Ok(None);
    };
    let insecure = |problem, mend| FileError::Insecure {
        path: path.to_path_buf(),
        problem,
        mend,
    };
    if entry.kind != kind {
        let problem = match (entry.kind, kind) {
            (Kind::Link, _) => "is a link, and links are not followed",
            (_, Kind::Folder) => "is not a folder",
            _ => "is not a regular file",
        };
        return Err(insecure(problem, format!("mv {0} {0}.aside", quoted(path))));
    }
    if !entry.mine {
        return Err(insecure("belongs to another user", sys::mend_owner(path)));
    }
    if entry.open_to_others {
        let mend = sys::mend_mode(path, kind == Kind::Folder);
        return Err(insecure("is open to other users", mend));
    }
    Ok(Some(entry))
}

/// Reads a whole private file of at most `limit` bytes. `None` when it is not there; a longer
/// file is cut at one byte above the limit, which no parser takes.
pub(crate) fn read_private(
    fs: &dyn Filesystem,
    path: &Path,
    limit: usize,
) -> Result<Option<Vec<u8>>, FileError> {
    if probe_private(fs, path, Kind::File)?.is_none() {
        return Ok(None);
    }
    let file = fs.open(path, false).on("read", path)?;
    let len = file.len().on("read", path)?.min(limit as u64 + 1);
    let mut bytes = vec![0; len as usize];
    let got = read_full_at(&*file, &mut bytes, 0).on("read", path)?;
    bytes.truncate(got);
    Ok(Some(bytes))
}

/// Fills `buffer` from `offset` on as far as the file goes.
pub(crate) fn read_full_at(file: &dyn FsFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The name under which a file is written before it takes its place.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Removes what an interrupted write left.
pub(crate) fn remove_leftover(fs: &dyn Filesystem, path: &Path) -> Result<(), FileError> {
    let leftover = temporary(path);
    match fs.probe(&leftover).on("read", &leftover)? {
        Some(_) => fs.remove_file(&leftover).on("remove", &leftover),
        None => Ok(()),
    }
}

/// Puts a file in place as a whole: written beside, synced, renamed, folder synced. At every
/// moment the path holds the old bytes or the new ones. After an error it may be either.
pub(crate) fn write_atomically(
    fs: &dyn Filesystem,
    path: &Path,
    bytes: &[u8],
) -> Result<(), FileError> {
    replace_with(fs, path, |file| file.write_at(bytes, 0)).map(drop)
}

/// As [`write_atomically`], with the new content written by `fill`; the open file is returned.
pub(crate) fn replace_with(
    fs: &dyn Filesystem,
    path: &Path,
    fill: impl FnOnce(&mut dyn FsFile) -> io::Result<()>,
) -> Result<Box<dyn FsFile>, FileError> {
    remove_leftover(fs, path)?;
    let beside = temporary(path);
    let mut file = fs.create(&beside).on("create", &beside)?;
    let written = fill(&mut *file)
        .and_then(|()| file.sync())
        .on("write", &beside);
    if let Err(error) = written.and_then(|()| fs.rename(&beside, path).on("replace", path)) {
        // The error of the write is the one that matters; the leftover goes with the next try.
        let _ = fs.remove_file(&beside);
        return Err(error);
    }
    sync_parent(fs, path)?;
    Ok(file)
}

/// Makes the entry of `path` in its folder durable.
///
/// # Errors
/// What the system says.
pub fn sync_parent(fs: &dyn Filesystem, path: &Path) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs.sync_folder(folder).on("sync", folder)
}

/// Makes a private folder and what is missing above it, durably; it may be there already.
///
/// # Errors
/// What the system says; [`FileError::Insecure`] when something else is there.
pub fn ensure_folder(fs: &dyn Filesystem, path: &Path) -> Result<(), FileError> {
    if probe_private(fs, path, Kind::Folder)?.is_some() {
        return Ok(());
    }
    match fs.make_folder(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                ensure_parent(fs, parent)?;
            }
            fs.make_folder(path).on("create", path)?;
        }
        other => other.on("create", path)?,
    }
    sync_parent(fs, path)
}

/// Makes missing folders on the way to ours. Those that are there are not ours to judge.
fn ensure_parent(fs: &dyn Filesystem, path: &Path) -> Result<(), FileError> {
    if path.as_os_str().is_empty() || fs.probe(path).on("read", path)?.is_some() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        ensure_parent(fs, parent)?;
    }
    fs.make_folder(path).on("create", path)?;
    sync_parent(fs, path)
}
