//! The starter model: small enough to lie in the repository and in the program, so that a
//! fresh machine answers before anything is downloaded.
//!
//! llama.cpp wants a file, so it is written once into the data folder, under a name that holds
//! its hash.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A model that is part of the program.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// The GGUF file.
    pub bytes: &'static [u8],
    /// Its SHA-256 in hexadecimal; what follows the first space is ignored.
    pub sha256: &'static str,
}

/// Why there is no starter.
#[derive(Debug, thiserror::Error)]
pub enum StarterError {
    /// The program file was altered.
    #[error("the starter model in the program is damaged")]
    Damaged,
    /// It can't be written.
    #[error("{path} can't be written")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Embedded {
    /// Writes it into `folder` where it is not there yet, whole or not at all, readable by the
    /// owner only. Tells where it is, and its hash. Older starters are removed. Blocks.
    ///
    /// # Errors
    /// When the program is damaged or the folder can't be written.
    pub fn install(&self, folder: &Path) -> Result<(PathBuf, [u8; 32]), StarterError> {
        let hash: [u8; 32] = Sha256::digest(self.bytes).into();
        let name = hex::encode(hash);
        if self.sha256.split_whitespace().next() != Some(name.as_str()) {
            return Err(StarterError::Damaged);
        }
        let path = folder.join(format!("starter-{}.gguf", &name[..16]));
        let failed = |source| StarterError::Write {
            path: path.clone(),
            source,
        };
        private_folder(folder).map_err(failed)?;
        let folder = folder.canonicalize().map_err(failed)?;
        let path = folder.join(format!("starter-{}.gguf", &name[..16]));
        let whole = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_file())
            && std::fs::read(&path).is_ok_and(|found| found == self.bytes);
        if !whole {
            write_whole(&folder, &path, self.bytes).map_err(|source| StarterError::Write {
                path: path.clone(),
                source,
            })?;
        }
        remove_others(&folder, &path);
        Ok((path, hash))
    }
}

/// Temporary file, sync, rename, sync of the folder: a crash leaves the old file or the new.
fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("starter-{}.tmp", uuid::Uuid::new_v4().as_simple()));
    let written = (|| {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _best_effort = std::fs::remove_file(&temporary);
    }
    written?;
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// Makes a folder for the owner only, unless it is there.
pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Removes what earlier versions, or a crash in the middle of writing, left.
fn remove_others(folder: &Path, keep: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| {
            name.starts_with("starter-") && (name.ends_with(".gguf") || name.ends_with(".tmp"))
        });
        if ours && entry.path() != keep {
            let _in_use = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Embedded = Embedded {
        bytes: b"GGUF",
        sha256: "a5e0bd1c7bdf9e5b3b8c4f2d0f1b0c7a  x",
    };

    fn tiny() -> Embedded {
        let sum = hex::encode(Sha256::digest(TINY.bytes));
        Embedded {
            bytes: TINY.bytes,
            sha256: Box::leak(format!("{sum}  tiny.gguf\n").into_boxed_str()),
        }
    }

    #[test]
    fn wrong_sum_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            TINY.install(folder.path()),
            Err(StarterError::Damaged)
        ));
    }

    #[test]
    fn damaged_and_missing_files_are_written_anew_and_old_ones_removed() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("models");
        let (path, _) = tiny().install(&inner).unwrap();
        std::fs::write(&path, b"GGUX").unwrap();
        std::fs::write(inner.join("starter-0000.gguf"), b"old").unwrap();
        std::fs::write(inner.join("starter-0000.tmp"), b"torn").unwrap();
        std::fs::write(inner.join("mine.gguf"), b"the person's").unwrap();
        assert_eq!(tiny().install(&inner).unwrap().0, path);
        assert_eq!(std::fs::read(&path).unwrap(), b"GGUF");
        let mut left: Vec<_> = std::fs::read_dir(&inner)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["mine.gguf".as_ref(), path.file_name().unwrap()]);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("models");
        let (path, _) = tiny().install(&inner).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&path)), (0o700, 0o600));
    }
}
