//! Where copies lie while an archive is made of them.

use std::fs;
use std::path::PathBuf;

use crate::backup::files::{at, new_private};
use crate::backup::set;
use crate::{HomeError, folder};

/// Copies in the making; removed when dropped, and after a kill by the next start or, beside the
/// archives, by the next backup.
pub(super) struct Staging {
    pub(super) path: PathBuf,
    /// Held as long as it is in use.
    lock: Option<fs::File>,
}

impl Staging {
    pub(super) fn begin(path: PathBuf) -> Result<Self, HomeError> {
        folder::create_private(&path).map_err(at(&path))?;
        // From here on it is removed.
        let mut staging = Self { path, lock: None };
        let lock = staging.path.join(set::STAGING_LOCK);
        let file = new_private(&lock).map_err(at(&lock))?;
        // Where there are no locks, what a kill leaves stays.
        let _ = file.try_lock();
        staging.lock = Some(file);
        Ok(staging)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Some systems remove no file that is open.
        self.lock = None;
        let _ = fs::remove_dir_all(&self.path);
    }
}
