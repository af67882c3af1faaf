//! Where a wrapping key is kept outside the data folder, so that a daemon starts without a
//! password: the desktop's keychain, a credential of systemd, the kernel's keyring, a key file.
//!
//! What is kept is a random key that opens one wrap of one header; never the root key. Each
//! place sits behind [`Keychain`], since the crates that reach them are young. None of them ever
//! opens a dialogue: a locked keychain is told as locked, and whoever can unlock it does so.

mod key_file;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(target_os = "macos", windows))]
mod native;

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::key::{Key, random_array};

pub use key_file::KeyFiles;
#[cfg(target_os = "linux")]
pub use linux::{KernelKeyring, SecretService, SystemdCredential};
#[cfg(any(target_os = "macos", windows))]
pub use native::NativeKeychain;

/// Where a wrapping key is kept, as the header records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// An item of a keychain.
    Keychain {
        /// The stable name of the kind of keychain.
        backend: String,
        /// The item in it.
        item: String,
    },
    /// A key file, which has this id.
    KeyFile {
        /// The id that stands in the file and names it.
        id: [u8; 16],
    },
}

/// The backend of key files.
pub(crate) const KEY_FILE: &str = "key-file";

impl Kept {
    /// The stable name of the kind of place.
    #[must_use]
    pub fn backend(&self) -> &str {
        match self {
            Self::Keychain { backend, .. } => backend,
            Self::KeyFile { .. } => KEY_FILE,
        }
    }

    /// The item, as the place names it.
    #[must_use]
    pub fn item(&self) -> String {
        match self {
            Self::Keychain { item, .. } => item.clone(),
            Self::KeyFile { id } => hex::encode(id),
        }
    }

    /// When it was made, in milliseconds since 1970, where the item's name tells.
    #[must_use]
    pub fn made_ms(&self) -> Option<u64> {
        let id: [u8; 16] = match self {
            Self::KeyFile { id } => *id,
            Self::Keychain { item, .. } => {
                let (_, id) = item.rsplit_once('-')?;
                hex::decode(id).ok()?.try_into().ok()?
            }
        };
        let mut ms = [0; 8];
        ms[2..].copy_from_slice(id.first_chunk::<6>()?);
        Some(u64::from_be_bytes(ms))
    }
}

/// A new id: six bytes of time, then random ones, so that a status can say when it was made.
pub(crate) fn new_id() -> [u8; 16] {
    let mut id: [u8; 16] = random_array();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = now.map_or(0, |now| now.as_millis() as u64);
    id[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
    id
}

/// Why a place does not give the key. Four states that a person acts upon differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeychainError {
    /// It is there and locked. Whether it holds the key can't be known now.
    #[error("it is locked")]
    Locked,
    /// Nobody answers: there is no such keychain here and now.
    #[error("it does not answer: {why}")]
    Absent {
        /// What was met.
        why: String,
    },
    /// It answers and no longer holds what AICO left in it.
    #[error("it no longer holds AICO's key: {why}")]
    Changed {
        /// What was met.
        why: String,
    },
    /// There is a key, and it is not the one that opens this vault.
    #[error("the key in it does not open this vault: {why}")]
    Wrong {
        /// What was met.
        why: String,
    },
}

/// The four states, without what was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeychainState {
    /// There and locked.
    Locked,
    /// Nobody answers.
    Absent,
    /// No longer holds what AICO left.
    Changed,
    /// Holds another key.
    Wrong,
}

impl KeychainState {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Absent => "absent",
            Self::Changed => "changed",
            Self::Wrong => "wrong",
        }
    }
}

impl KeychainError {
    /// Which of the states it is.
    #[must_use]
    pub const fn state(&self) -> KeychainState {
        match self {
            Self::Locked => KeychainState::Locked,
            Self::Absent { .. } => KeychainState::Absent,
            Self::Changed { .. } => KeychainState::Changed,
            Self::Wrong { .. } => KeychainState::Wrong,
        }
    }

    pub(crate) fn absent(why: impl ToString) -> Self {
        Self::Absent {
            why: why.to_string(),
        }
    }

    pub(crate) fn changed(why: impl ToString) -> Self {
        Self::Changed {
            why: why.to_string(),
        }
    }

    pub(crate) fn wrong(why: impl ToString) -> Self {
        Self::Wrong {
            why: why.to_string(),
        }
    }
}

/// A place for wrapping keys.
///
/// Calls may take seconds, and end by themselves: a service that does not answer is absent.
pub trait Keychain: Send + Sync {
    /// The stable name, as the header records it.
    fn backend(&self) -> &'static str;

    /// How people call it.
    fn name(&self) -> &'static str;

    /// Whether it is chosen when nobody names a place.
    fn is_default(&self) -> bool {
        true
    }

    /// Whether a key could be kept in it here and now.
    ///
    /// # Errors
    /// Why not.
    fn probe(&self) -> Result<(), KeychainError>;

    /// A key to wrap with, kept from now on, and the item that holds it. `wish` is the name that
    /// the item should get; a place where others make the items names its own.
    ///
    /// # Errors
    /// Why none can be kept.
    fn keep(&self, wish: &Wish) -> Result<(String, Key), KeychainError>;

    /// The key in an item.
    ///
    /// # Errors
    /// In which of the four states it is.
    fn load(&self, item: &str) -> Result<Key, KeychainError>;

    /// Removes an item; it is no error when it is gone.
    ///
    /// # Errors
    /// Why it may still be there.
    fn remove(&self, item: &str) -> Result<(), KeychainError>;
}

/// The item that a vault asks for.
pub struct Wish {
    /// The vault's id in hex.
    pub(crate) vault: String,
    /// The item's own id.
    pub(crate) id: [u8; 16],
}

impl Wish {
    pub(crate) fn new(vault: [u8; 16]) -> Self {
        Self {
            vault: hex::encode(vault),
            id: new_id(),
        }
    }

    /// `aico-<vault>-<id>`.
    #[must_use]
    pub fn item(&self) -> String {
        format!("aico-{}-{}", self.vault, hex::encode(self.id))
    }

    /// How the item is called where people look at it.
    #[must_use]
    pub fn label(&self) -> String {
        format!(
            "AICO, vault {}: starts without a password",
            &self.vault[..8]
        )
    }
}

/// The places of this machine, in the order in which they are chosen.
#[derive(Default)]
pub struct Keychains(Vec<Box<dyn Keychain>>);

impl Keychains {
    /// These places.
    #[must_use]
    pub fn new(all: Vec<Box<dyn Keychain>>) -> Self {
        Self(all)
    }

    /// Those of this platform. `key_files` is the folder for key files, outside of every data
    /// folder.
    #[must_use]
    pub fn of_this_machine(key_files: Option<PathBuf>) -> Self {
        let mut all: Vec<Box<dyn Keychain>> = Vec::new();
        #[cfg(target_os = "linux")]
        {
            all.push(Box::new(SecretService));
            all.push(Box::new(SystemdCredential::of_this_process()));
            all.push(Box::new(KernelKeyring));
        }
        #[cfg(any(target_os = "macos", windows))]
        all.push(Box::new(NativeKeychain));
        if let Some(folder) = key_files {
            all.push(Box::new(KeyFiles::new(folder)));
        }
        Self(all)
    }

    /// The one of this stable name.
    #[must_use]
    pub fn named(&self, backend: &str) -> Option<&dyn Keychain> {
        let mut all = self.0.iter().map(AsRef::as_ref);
        all.find(|keychain| keychain.backend() == backend)
    }

    /// The stable names of all.
    #[must_use]
    pub fn backends(&self) -> Vec<&'static str> {
        self.0.iter().map(|keychain| keychain.backend()).collect()
    }

    /// The first that can keep a key now, of those that are chosen unasked. One that is there
    /// and locked is not passed over for a weaker one.
    ///
    /// # Errors
    /// Why there is none: the first that is locked, else the first at all.
    pub fn choose(&self) -> Result<&dyn Keychain, KeychainError> {
        let mut first = None;
        for keychain in self.0.iter().filter(|keychain| keychain.is_default()) {
            match keychain.probe() {
                Ok(()) => return Ok(keychain.as_ref()),
                Err(KeychainError::Locked) => return Err(KeychainError::Locked),
                Err(error) => _ = first.get_or_insert(error),
            }
        }
        Err(first.unwrap_or_else(|| KeychainError::absent("this system has none")))
    }

    /// How people call the place of this stable name.
    #[must_use]
    pub fn name_of(&self, backend: &str) -> String {
        self.named(backend)
            .map_or_else(|| backend.to_owned(), |keychain| keychain.name().to_owned())
    }
}

/// A key as it is kept: 64 hex digits, which every keychain takes as text.
pub(crate) fn written(key: &Key) -> Zeroizing<String> {
    let mut text = Zeroizing::new(vec![0; Key::LEN * 2]);
    // The length fits by construction; an unwritten key would not be read back.
    let _ = hex::encode_to_slice(key.expose(), &mut text);
    Zeroizing::new(String::from_utf8_lossy(&text).into_owned())
}

/// Reads it back: 64 hex digits, white space after them, or 32 bytes as they are.
pub(crate) fn read(bytes: &[u8]) -> Result<Key, KeychainError> {
    let text = bytes.trim_ascii_end();
    if text.len() == Key::LEN * 2 && text.iter().all(u8::is_ascii_hexdigit) {
        return Ok(Key::fill_with(|out| {
            // Checked above.
            let _ = hex::decode_to_slice(text, out);
        }));
    }
    match bytes.try_into() {
        Ok(bytes) => Ok(Key::from_bytes(bytes)),
        Err(_) => Err(KeychainError::wrong("what is there is no key")),
    }
}

/// Runs a call that may hang in a thread of its own, and calls the keychain absent when it does.
#[cfg(any(target_os = "linux", target_os = "macos", windows))]
pub(crate) fn bounded<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, KeychainError> + Send + 'static,
) -> Result<T, KeychainError> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);
    let (told, hear) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("keychain".to_owned());
    let started = thread.spawn(move || _ = told.send(call()));
    started.map_err(|error| KeychainError::absent(format!("no thread for it: {error}")))?;
    hear.recv_timeout(PATIENCE)
        .unwrap_or_else(|_| Err(KeychainError::absent("it took too long")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_nothing_else_is() {
        let key = Key::random();
        let text = written(&key);
        assert_eq!(text.len(), 64);
        assert!(read(text.as_bytes()).is_ok_and(|read| read == key));
        assert!(read(format!("{}\n", *text).as_bytes()).is_ok_and(|read| read == key));
        assert!(read(key.expose()).is_ok_and(|read| read == key));
        for other in [&b""[..], b"password", &[b'z'; 64], &[b'a'; 63], &[7; 33]] {
            let refused = read(other).err().map(|error| error.state());
            assert_eq!(refused, Some(KeychainState::Wrong), "{other:?}");
        }
    }

    #[test]
    fn an_item_tells_when_it_was_made() {
        let wish = Wish::new([3; 16]);
        let kept = Kept::Keychain {
            backend: "secret-service".to_owned(),
            item: wish.item(),
        };
        let made = kept.made_ms().unwrap();
        assert!(made > 1_700_000_000_000, "{made}");
        assert_eq!(Kept::KeyFile { id: wish.id }.made_ms(), Some(made));
        let foreign = Kept::Keychain {
            backend: "systemd-credential".to_owned(),
            item: "aico-wrapping-key".to_owned(),
        };
        assert_eq!(foreign.made_ms(), None);
    }

    #[test]
    fn a_call_that_hangs_is_an_absent_keychain() {
        let quick = bounded(|| Ok(7));
        assert_eq!(quick, Ok(7));
        let died: Result<(), _> = bounded(|| panic!("on purpose"));
        assert_eq!(died.unwrap_err().state(), KeychainState::Absent);
    }
}
