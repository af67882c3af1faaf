//! A file that is written beside its place and appears there as a whole, or not at all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::EncryptedFileError;
use crate::fs::{self, Context, FileError, Filesystem, FsFile, Kind};
use crate::key::random_array;

/// How often another name is tried when somebody who cleans up was faster.
const TRIES: usize = 8;

/// A file in the making, under a name of its own in the folder of its place. Dropped, it is
/// removed; after a kill, the next one for the same place removes it.
pub(crate) struct Beside {
    fs: Arc<dyn Filesystem>,
    pub(crate) path: PathBuf,
    making: PathBuf,
    pub(crate) file: Box<dyn FsFile>,
    /// Takes the place of what is there; otherwise there must be nothing.
    replace: bool,
    in_place: bool,
}

impl Beside {
    pub(crate) fn create(
        fs: Arc<dyn Filesystem>,
        path: &Path,
        replace: bool,
    ) -> Result<Self, EncryptedFileError> {
        match fs.probe(path).on("read", path)? {
            None => {}
            Some(_) if !replace => {
                return Err(EncryptedFileError::Exists {
                    path: path.to_path_buf(),
                });
            }
            Some(entry) if entry.kind == Kind::File => {}
            // Says that it is a link, or a folder, and how to go on.
            Some(_) => {
                fs::probe_private(&*fs, path, Kind::File)?;
            }
        }
        let (making, file) = create_beside(&*fs, path)?;
        Ok(Self {
            fs,
            path: path.to_path_buf(),
            making,
            file,
            replace,
            in_place: false,
        })
    }

    /// Makes it durable and puts it in its place, durably.
    pub(crate) fn publish(mut self) -> Result<(), EncryptedFileError> {
        self.file.sync().on("sync", &self.making)?;
        let moved = if self.replace {
            self.fs.rename(&self.making, &self.path)
        } else {
            self.fs.rename_new(&self.making, &self.path)
        };
        match moved {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(EncryptedFileError::Exists {
                    path: self.path.clone(),
                });
            }
            other => other.on("replace", &self.path)?,
        }
        self.in_place = true;
        Ok(fs::sync_parent(&*self.fs, &self.path)?)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.in_place {
            let _ = self.fs.remove_file(&self.making);
        }
    }
}

/// Makes a new file for what becomes `path`: beside it, under a name of its own, 0600, locked for as
/// long as it is open. What others left for the same place that were killed is removed.
///
/// # Errors
/// When `path` has no name, or the file can't be made.
pub fn create_beside(
    fs: &dyn Filesystem,
    path: &Path,
) -> Result<(PathBuf, Box<dyn FsFile>), EncryptedFileError> {
    remove_abandoned(fs, path);
    for _ in 0..TRIES {
        let making = making(path, &hex::encode(random_array::<8>()))?;
        let file = fs.create(&making).on("create", &making)?;
        // Whoever cleans up takes an unlocked one for abandoned: between these two calls it
        // may have been removed.
        let locked = file.try_lock().unwrap_or(true);
        if locked && fs.probe(&making).on("read", &making)?.is_some() {
            return Ok((making, file));
        }
    }
    let busy = std::io::ErrorKind::ResourceBusy.into();
    Err(FileError::new("create", path, busy).into())
}

/// `.NAME.<16 hex digits>.tmp` in the folder of `path`.
fn making(path: &Path, mark: &str) -> Result<PathBuf, EncryptedFileError> {
    let Some(name) = path.file_name() else {
        return Err(EncryptedFileError::Options {
            path: path.to_path_buf(),
            reason: "it has no name",
        });
    };
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{mark}.tmp"));
    Ok(path.with_file_name(beside))
}

/// Removes what writers left that were killed. Those that still write hold a lock. All of this
/// is tidying: what fails is left for the next time.
fn remove_abandoned(fs: &dyn Filesystem, path: &Path) {
    let Some(name) = path.file_name() else {
        return;
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let is_ours = |entry: &OsString| {
        let rest = entry.as_encoded_bytes().strip_prefix(b".")?;
        let rest = rest.strip_prefix(name.as_encoded_bytes())?;
        let mark = rest.strip_prefix(b".")?.strip_suffix(b".tmp")?;
        Some(mark.len() == 16 && mark.iter().all(u8::is_ascii_hexdigit))
    };
    for entry in fs.list(folder).unwrap_or_default() {
        let left = path.with_file_name(&entry);
        let is_file = |fs: &dyn Filesystem| matches!(fs.probe(&left), Ok(Some(found)) if found.kind == Kind::File && found.mine);
        if is_ours(&entry) == Some(true)
            && is_file(fs)
            && let Ok(file) = fs.open(&left, true)
            && matches!(file.try_lock(), Ok(true))
        {
            let _ = fs.remove_file(&left);
        }
    }
}
