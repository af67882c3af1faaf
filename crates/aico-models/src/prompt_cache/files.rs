//! The folders of kept prompts: how much is there, and what goes first.
//!
//! Looked at from outside, without a key: sizes and times of all persons' files, so that the
//! bounds hold for those too who are sealed and not signed in.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{KeepError, Limits};

/// In a person's folder.
pub(super) const FOLDER: &str = "prompt-cache";
/// What a writer that still runs has not finished is younger than this.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// Bytes of an encrypted file with so many bytes of text.
pub(super) fn sealed_size(plain: u64) -> u64 {
    const HEADER: u64 = 147;
    const CHUNK: u64 = 64 << 10;
    const TAG: u64 = 16;
    plain
        .saturating_add(HEADER)
        .saturating_add(plain.div_ceil(CHUNK).max(1).saturating_mul(TAG))
}

/// Sets when a file was used.
pub(super) fn touch(path: &Path, when: SystemTime) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file: File| file.set_modified(when))
}

struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// All persons' folders of a home.
pub(super) struct Folders<'a> {
    home: &'a Path,
    limits: &'a Limits,
}

impl<'a> Folders<'a> {
    pub(super) fn new(home: &'a Path, limits: &'a Limits) -> Self {
        Self { home, limits }
    }

    /// Whether a file may be written for `path`, beside what is there until it is; makes its folder.
    pub(super) fn admit(&self, path: &Path, bytes: u64) -> Result<(), KeepError> {
        let folder = path.parent().ok_or(KeepError::Malformed)?;
        if bytes > self.limits.person || bytes > self.limits.all {
            return Err(KeepError::NoRoom);
        }
        make_private(folder)?;
        match aico_vault::fs::free_bytes(folder) {
            Some(free) if free < self.limits.free.saturating_add(bytes) => Err(KeepError::NoRoom),
            _ => Ok(()),
        }
    }

    /// Makes room for a file that was [admitted](Self::admit); what lies at `path` is replaced.
    pub(super) fn make_room(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let Some(folder) = path.parent() else {
            return Ok(());
        };
        let others = |folder: &Path| -> io::Result<Vec<Kept>> {
            let mut kept = list(folder)?;
            kept.retain(|kept| kept.path != path);
            Ok(kept)
        };
        shrink(others(folder)?, self.limits.person.saturating_sub(bytes))?;
        let mut all = Vec::new();
        for folder in self.folders()? {
            all.extend(others(&folder)?);
        }
        shrink(all, self.limits.all.saturating_sub(bytes))
    }

    /// Removes what is too old, too much, or was never finished.
    pub(super) fn tidy(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let older = |used: SystemTime, than| now.duration_since(used).is_ok_and(|age| age > than);
        let mut all = Vec::new();
        for folder in self.folders()? {
            let (kept, others) = split(&folder)?;
            for other in others {
                if older(other.used, ABANDONED) {
                    remove(&other.path)?;
                }
            }
            let (old, rest): (Vec<_>, Vec<_>) = kept
                .into_iter()
                .partition(|kept| older(kept.used, self.limits.age));
            for kept in old {
                remove(&kept.path)?;
            }
            shrink(rest, self.limits.person)?;
            all.extend(list(&folder)?);
        }
        shrink(all, self.limits.all)
    }

    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let persons = self.home.join("persons");
        let mut folders = Vec::new();
        for entry in fs::read_dir(persons)? {
            let folder = entry?.path().join(FOLDER);
            if fs::symlink_metadata(&folder).is_ok_and(|about| about.is_dir()) {
                folders.push(folder);
            }
        }
        Ok(folders)
    }
}

/// Removes the least recently used until no more than `most` bytes are left.
fn shrink(mut kept: Vec<Kept>, most: u64) -> io::Result<()> {
    kept.sort_by_key(|kept| kept.used);
    let mut there: u64 = kept.iter().map(|kept| kept.bytes).sum();
    for one in kept {
        if there <= most {
            break;
        }
        remove(&one.path)?;
        there -= one.bytes;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn list(folder: &Path) -> io::Result<Vec<Kept>> {
    Ok(split(folder)?.0)
}

/// Kept prompts, and whatever else is there.
fn split(folder: &Path) -> io::Result<(Vec<Kept>, Vec<Kept>)> {
    let (mut kept, mut others) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // One that is gone meanwhile needs no room.
        let Ok(about) = entry.metadata() else {
            continue;
        };
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| {
            name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let one = Kept {
            path: entry.path(),
            bytes: about.len(),
            used: about.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        };
        match (ours, about.is_file()) {
            (true, true) => kept.push(one),
            (false, true) => others.push(one),
            (_, false) => {}
        }
    }
    Ok((kept, others))
}

/// Only in the folder of a person who is there: one who was erased is not brought back.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
