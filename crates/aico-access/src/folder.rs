//! The data folder: whose it is, that nobody else reads it, and that one daemon at a time has it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::HomeError;

/// The right to use a data folder, held until dropped (or until the process ends, however).
///
/// It is the operating system's lock on `<data>/lock`; the process id inside only helps to say
/// who has it.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    lock: File,
}

/// Why the folder can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process has it.
    #[error("another AICO (process {pid}) uses this data folder", pid = .pid.map_or_else(|| "unknown".to_owned(), |p| p.to_string()))]
    InUse {
        /// Which one, when it could be read.
        pid: Option<u32>,
    },
    /// The folder itself is wrong.
    #[error(transparent)]
    Folder(#[from] HomeError),
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // Closing the file alone would end the lock later: a program that another thread is just
        // starting has a copy of it for a moment.
        let _ends_later_then = self.lock.unlock();
    }
}

impl DataFolder {
    /// Makes the folder (mode 0700) when it is missing, checks it, and takes its lock.
    ///
    /// # Errors
    /// [`ClaimError::InUse`] while another process has it; [`HomeError::UnsafeFolder`] when it is
    /// a symbolic link, foreign, or open to others.
    pub fn claim(path: &Path) -> Result<Self, ClaimError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Folder { path, source }
        };
        if !path.exists() {
            create_durable(path).map_err(failed(path))?;
        }
        check_private(path)?;
        let lock_path = path.join("lock");
        let mut lock = open_private(&lock_path).map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = lock
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                return Err(ClaimError::InUse { pid });
            }
            Err(fs::TryLockError::Error(source)) => {
                return Err(HomeError::Folder {
                    path: lock_path,
                    source,
                }
                .into());
            }
        }
        // Only for people to read: a full disk must not keep the daemon from starting.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A folder that only its owner may enter.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The same with what is missing above it, and so that a power cut does not take it away again with
/// all that is put into it.
pub(crate) fn create_durable(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let missing = path.ancestors().take_while(|above| !above.exists());
    let missing: Vec<_> = missing.filter_map(Path::parent).collect();
    create_private(&path)?;
    missing.into_iter().try_for_each(sync_folder)
}

fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    }
    options.open(path)
}

#[cfg(unix)]
fn check_private(path: &Path) -> Result<(), HomeError> {
    check_private_of(aico_vault::current_uid(), path)
}

/// The same for a user by their number: only root could make a folder that is another's.
#[cfg(unix)]
fn check_private_of(me: u32, path: &Path) -> Result<(), HomeError> {
    use std::os::unix::fs::MetadataExt as _;
    let shown = path.display();
    let wrong = |why, mend: String| HomeError::UnsafeFolder {
        path: path.to_owned(),
        why,
        mend,
    };
    let about = fs::symlink_metadata(path).map_err(|source| HomeError::Folder {
        path: path.to_owned(),
        source,
    })?;
    if about.is_symlink() {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        return Err(wrong(
            "is a symbolic link, which is not followed",
            format!("Name the folder itself: --data {}", target.display()),
        ));
    }
    if !about.is_dir() {
        return Err(wrong(
            "is not a folder",
            "Choose another one with --data.".to_owned(),
        ));
    }
    if about.uid() != me {
        return Err(wrong(
            "belongs to another user",
            format!("If it is yours: sudo chown -R {me} {shown}"),
        ));
    }
    if about.mode() & 0o077 != 0 {
        return Err(wrong(
            "is open to other users",
            format!("chmod 700 {shown}"),
        ));
    }
    if about.mode() & 0o700 != 0o700 {
        return Err(wrong("can't be written", format!("chmod 700 {shown}")));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(path: &Path) -> Result<(), HomeError> {
    // The profile folder's access list keeps others out; a reparse point could lead elsewhere.
    let about = fs::symlink_metadata(path).map_err(|source| HomeError::Folder {
        path: path.to_owned(),
        source,
    })?;
    if about.is_symlink() || !about.is_dir() {
        return Err(HomeError::UnsafeFolder {
            path: path.to_owned(),
            why: "is not a plain folder",
            mend: "Choose another one with --data.".to_owned(),
        });
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn one_at_a_time_and_the_second_hears_who_is_first() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        let first = DataFolder::claim(&path).unwrap();
        match DataFolder::claim(&path) {
            Err(ClaimError::InUse { pid }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        DataFolder::claim(&path).unwrap();
    }

    #[test]
    fn a_folder_open_to_others_or_a_link_is_refused_with_what_mends_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        drop(DataFolder::claim(&path).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mend = |error| match error {
            ClaimError::Folder(HomeError::UnsafeFolder { mend, .. }) => mend,
            other => panic!("{other:?}"),
        };
        let said = mend(DataFolder::claim(&path).unwrap_err());
        assert_eq!(said, format!("chmod 700 {}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let link = temp.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(mend(DataFolder::claim(&link).unwrap_err()).contains("--data"));
    }

    #[test]
    fn a_folder_of_another_user_is_refused_with_what_mends_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        create_private(&path).unwrap();
        check_private(&path).unwrap();
        let other = aico_vault::current_uid() ^ 1;
        match check_private_of(other, &path) {
            Err(HomeError::UnsafeFolder { why, mend, .. }) => {
                assert_eq!(why, "belongs to another user");
                assert!(
                    mend.contains(&format!("sudo chown -R {other} {}", path.display())),
                    "{mend}"
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_link_in_place_of_the_lock_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        create_private(&path).unwrap();
        symlink(temp.path().join("elsewhere"), path.join("lock")).unwrap();
        assert!(matches!(
            DataFolder::claim(&path),
            Err(ClaimError::Folder(HomeError::Folder { .. }))
        ));
        assert!(!temp.path().join("elsewhere").exists());
    }
}
