//! The vault: keys, passwords, and the sealed formats that everything at rest hangs on.
//!
//! | part | what it is | its format |
//! |---|---|---|
//! | [`Vault`] | the root key, unlocked from the header by password or phrase | `docs/formats/vault-header.md` |
//! | [`keychain`] | where a key is kept so that a daemon starts without a password | the same |
//! | [`PersonKeys`] | one person's key, from their keyring | `docs/formats/keyring.md` |
//! | [`Label`] | how every other key comes from those two | `docs/formats/key-derivation.md` |
//! | [`append`] | sealed files that grow: logs, journals | `docs/formats/sealed-append.md` |
//! | [`EncryptedFile`] | files in the manner of `std::fs` | `docs/formats/encrypted-file.md` |
//! | [`archive`] | a whole home in one file, for backups | `docs/formats/backup-archive.md` |
//! | [`Registry`] | what the stores were like last, outside of them | `docs/formats/registry.md` |
//!
//! Functions are synchronous; hashing a password takes about a tenth of a second and 64 MiB, and
//! writes wait for the disk. One process at a time works on a data folder: the caller holds its
//! lock.
//!
//! ```
//! use aico_vault::{KdfCost, Label, Owner, Password, Purpose, Vault};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let data = folder.path().join("data");
//! let master = Password::new("velvet harbour moss lantern")?;
//! let (vault, phrase) = Vault::create_with(&data, &master, KdfCost::minimum())?;
//! assert_eq!(phrase.words().len(), 12);
//! let key = vault.derive(Label::new(Purpose::SystemDatabase, Owner::System));
//! drop(vault);
//!
//! let vault = Vault::unlock(&data, &master)?;
//! assert!(key == vault.derive(Label::new(Purpose::SystemDatabase, Owner::System)));
//! # Ok(())
//! # }
//! ```

mod aead;
pub mod append;
pub mod archive;
mod codec;
mod container;
mod derive;
mod error;
pub mod file;
pub mod fs;
mod kdf;
mod kept;
#[cfg(test)]
mod kept_tests;
mod key;
pub mod keychain;
mod memory;
mod password;
mod person;
mod phrase;
mod process;
mod registry;
mod rewrap;
mod rotate;
#[cfg(test)]
mod rotate_tests;
mod seal;
mod sealed;
#[cfg(test)]
mod tests;
mod vault;
mod wrap;

pub use derive::{Label, Owner, Purpose};
pub use error::{PersonKeyError, UnlockError, VaultError};
pub use file::{AsyncEncryptedFile, EncryptedFile, EncryptedFileError, FileKey};
pub use fs::FileError;
pub use kdf::{KdfCost, KdfOutOfBounds};
pub use kept::{Checked, Forgotten, KeptError, RememberError};
pub use key::Key;
pub use keychain::{Kept, Keychain, KeychainError, KeychainState, Keychains};
pub use password::{Password, PasswordError, WeakPassword};
pub use person::PersonKeys;
pub use phrase::{PhraseError, RecoveryPhrase, suggest_passphrase};
#[cfg(unix)]
pub use process::current_uid;
pub use process::{HardenError, end_process, harden_process};
pub use registry::{Refusal, Registry, RegistryError, StoreRecord};
pub use rewrap::OwnerPasswordError;
pub use rotate::{KeyId, RotateError, Rotated};
pub use vault::{Vault, VaultStatus, WrapInfo};
pub use wrap::WrapKind;
