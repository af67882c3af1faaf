//! A key file: for machines with nothing better, and only for those who ask for it. Whoever
//! reads it and the header has the root key.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{KEY_FILE, Keychain, KeychainError, Wish, read, written};
use crate::fs::{self, FileError, Filesystem as _, OsFilesystem};
use crate::key::Key;

/// The first line: what the file is, for whoever finds it.
const HEAD: &str = "AICO key file: whoever can read it can open the vault. Keep its mode at 0600.";
/// More than a key file has.
const MAX_BYTES: usize = 1024;
/// An item is an id of 16 bytes in hex.
const ITEM_DIGITS: usize = 32;

/// Key files in one folder outside of every data folder.
pub struct KeyFiles(PathBuf);

impl KeyFiles {
    /// In this folder, which is made when a file is kept.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where the file of an item is.
    #[must_use]
    pub fn path(&self, item: &str) -> PathBuf {
        self.0.join(format!("{item}.key"))
    }

    /// The same for an item that a header names, and whoever wrote it may not lead elsewhere.
    fn named(&self, item: &str) -> Result<PathBuf, KeychainError> {
        if item.len() != ITEM_DIGITS || !item.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(KeychainError::changed("its name is none"));
        }
        Ok(self.path(item))
    }
}

/// A file that is not as AICO left it is changed; one that can't be reached is absent.
fn state(error: &FileError) -> KeychainError {
    match error {
        FileError::Insecure { .. } => KeychainError::changed(error),
        _ => KeychainError::absent(error),
    }
}

impl Keychain for KeyFiles {
    fn backend(&self) -> &'static str {
        KEY_FILE
    }

    fn name(&self) -> &'static str {
        "key file"
    }

    fn is_default(&self) -> bool {
        false
    }

    fn probe(&self) -> Result<(), KeychainError> {
        fs::ensure_folder(&OsFilesystem, &self.0).map_err(|error| state(&error))
    }

    fn keep(&self, wish: &Wish) -> Result<(String, Key), KeychainError> {
        self.probe()?;
        let (item, key) = (hex::encode(wish.id), Key::random());
        let text = Zeroizing::new(format!("{HEAD}\nid {item}\nkey {}\n", *written(&key)));
        fs::write_atomically(&OsFilesystem, &self.path(&item), text.as_bytes())
            .map_err(|error| state(&error))?;
        Ok((item, key))
    }

    fn load(&self, item: &str) -> Result<Key, KeychainError> {
        let path = self.named(item)?;
        let bytes = fs::read_private(&OsFilesystem, &path, MAX_BYTES)
            .map_err(|error| state(&error))?
            .map(Zeroizing::new)
            .ok_or_else(|| KeychainError::absent(format!("there is no {}", path.display())))?;
        let odd = || KeychainError::changed("the file is not as AICO wrote it");
        let text = std::str::from_utf8(&bytes).map_err(|_| odd())?;
        let mut lines = text.lines();
        let (head, id, key) = (lines.next(), lines.next(), lines.next());
        if head != Some(HEAD) || id.and_then(|id| id.strip_prefix("id ")) != Some(item) {
            return Err(odd());
        }
        read(
            key.and_then(|key| key.strip_prefix("key "))
                .ok_or_else(odd)?
                .as_bytes(),
        )
    }

    fn remove(&self, item: &str) -> Result<(), KeychainError> {
        let path = self.named(item)?;
        match OsFilesystem.remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(KeychainError::absent(error))
            }
            _ => Ok(()),
        }
    }
}
