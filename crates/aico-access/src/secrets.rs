//! Secrets of the configuration: what a service asks for to let AICO in, under a name. The
//! configuration file holds `secret:NAME`, the secret itself lies sealed in the home
//! (`docs/formats/configuration-secrets.md`), and can be used only while that is open.
//!
//! They are set, listed by name, used and removed. Nothing tells one again.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use aico_vault::file::{Claim, Form};
use aico_vault::fs::{self, Context as _};
use aico_vault::{EncryptedFile, EncryptedFileError, Owner, Purpose, Vault, VaultError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::home::{Open, blocking};
use crate::{Home, HomeError, keys};

/// Most secrets.
pub const SECRETS_MOST: usize = 100;
/// Longest secret, in bytes.
pub const SECRET_LONGEST: usize = 4096;
/// Longest name.
const NAME_LONGEST: usize = 64;
/// Most bytes of the file's text: all of them in JSON, with every byte escaped.
const FILE_LONGEST: u64 = (SECRETS_MOST * (SECRET_LONGEST + 256) * 6) as u64;

/// In the home.
const FILE: &str = "secrets";
/// What a change of keys makes of a damaged one.
const DAMAGED: &str = "secrets.damaged";
/// The file's id begins with this; there is one. Then comes how often its key was changed alone.
const ID: &[u8; 12] = b"aico-secrets";
/// Where the registry has that number: a file with a lower one is under a key from before.
const MARK: &str = "configuration";
const VERSION: u32 = 1;
/// In the audit's table.
const SET: &str = "config.secret.set";
const REMOVED: &str = "config.secret.remove";

/// Held while the file is read, changed and written.
static WRITING: parking_lot::Mutex<()> = parking_lot::const_mutex(());

/// Why something can't be kept as a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not a name.
    #[error(
        "the name of a secret has 1 to 64 small letters, digits, dots, dashes and underscores, \
         and begins with a letter"
    )]
    Name,
    /// Nothing, or too much.
    #[error("a secret has 1 to 4096 bytes")]
    Length,
    /// Line breaks and the like: it would be cut off where it is used.
    #[error("a secret is one line of text without control characters")]
    Control,
    /// More than anybody needs.
    #[error("there are 100 secrets already, which is the most")]
    TooMany,
}

/// A secret in a list: its name, and nothing of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    /// As it stands in the configuration, after `secret:`.
    pub name: String,
    /// When it was set.
    pub set_at: Timestamp,
}

/// The file's text. Wiped when it is dropped; no Debug.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Secrets {
    version: u32,
    secrets: BTreeMap<String, Kept>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    value: String,
    set_ms: i64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl Home {
    /// The names of the secrets, in order.
    ///
    /// # Errors
    /// While locked; when the file is damaged.
    pub async fn secrets(&self) -> Result<Vec<SecretInfo>, HomeError> {
        let all = self.with_secrets(read).await?;
        let infos = all.secrets.iter().map(|(name, kept)| SecretInfo {
            name: name.clone(),
            set_at: Timestamp::from_millisecond(kept.set_ms).unwrap_or(Timestamp::UNIX_EPOCH),
        });
        Ok(infos.collect())
    }

    /// Sets one, in the place of another of that name. Durable when it returns.
    ///
    /// # Errors
    /// [`SecretError`]; while locked; a full disk.
    pub async fn set_secret(&self, name: &str, value: &str) -> Result<(), HomeError> {
        check_name(name)?;
        check_value(value)?;
        let (name, value) = (name.to_owned(), Zeroizing::new(value.to_owned()));
        self.with_secrets(move |vault| {
            let mut all = read(vault)?;
            if all.secrets.len() >= SECRETS_MOST && !all.secrets.contains_key(&name) {
                return Err(SecretError::TooMany.into());
            }
            let kept = Kept {
                value: value.as_str().to_owned(),
                set_ms: Timestamp::now().as_millisecond(),
            };
            all.secrets.insert(name, kept);
            write(vault, &all)
        })
        .await?;
        self.note_secret(SET).await;
        Ok(())
    }

    /// Removes one.
    ///
    /// # Errors
    /// [`HomeError::NotFound`]; while locked; a full disk.
    pub async fn remove_secret(&self, name: &str) -> Result<(), HomeError> {
        let name = name.to_owned();
        self.with_secrets(move |vault| {
            let mut all = read(vault)?;
            if all.secrets.remove(&name).is_none() {
                return Err(HomeError::NotFound);
            }
            write(vault, &all)
        })
        .await?;
        self.note_secret(REMOVED).await;
        Ok(())
    }

    /// The secret itself, for the part of AICO whose configuration names it.
    ///
    /// # Errors
    /// [`HomeError::NotFound`]; while locked; when the file is damaged.
    pub async fn secret(&self, name: &str) -> Result<Zeroizing<String>, HomeError> {
        let name = name.to_owned();
        self.with_secrets(move |vault| {
            let all = read(vault)?;
            let kept = all.secrets.get(&name).ok_or(HomeError::NotFound)?;
            Ok(Zeroizing::new(kept.value.clone()))
        })
        .await
    }

    /// Puts the file under the present root key; one that is there already stays as it is. A
    /// damaged one is set aside: it would keep the root key from being changed for good, and what
    /// is in it can be set again.
    pub(crate) async fn seal_secrets_anew(&self, open: &Open) -> Result<(), HomeError> {
        let vault = open.vault.clone();
        self.held(move || {
            let _one = WRITING.lock();
            match under_another_key(&vault).or_else(|error| without_damaged(&vault, error))? {
                Some(all) => write(&vault, &all),
                None => Ok(()),
            }
        })
        .await
    }

    /// Whether the file can be given another id, asked before anything is begun.
    pub(crate) async fn check_secrets(&self, open: &Open) -> Result<(), HomeError> {
        let vault = open.vault.clone();
        self.held(move || check(&vault).map(drop)).await
    }

    /// Gives the file another id, which is another key. Nothing else needs that: one that was damaged
    /// since stays as it is, and a whole one that is put back opens.
    pub(crate) async fn secrets_under_next_id(&self, open: &Open) -> Result<(), HomeError> {
        let vault = open.vault.clone();
        self.held(move || {
            let _one = WRITING.lock();
            let next = changes(&vault).saturating_add(1);
            match read_there(&vault) {
                Ok(Some(all)) => write_as(&vault, &all, next)?,
                Ok(None) => {}
                // A disk that can't be read now is another thing: then it is gone on with later.
                Err(HomeError::Secrets(error)) if !matches!(error, EncryptedFileError::File(_)) => {
                    tracing::error!(
                        %error,
                        advice = advice(&error),
                        "The secrets of the configuration can't be read, and their key was not \
                         changed. Ask for it again when they can: aico vault rotate --purpose \
                         configuration"
                    );
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            // Afterwards: until then the file from before is read.
            let noted = vault.registry().note_sequence(MARK, next.into());
            Ok(noted.map_err(VaultError::from)?)
        })
        .await
    }

    async fn with_secrets<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Vault) -> Result<T, HomeError> + Send + 'static,
    ) -> Result<T, HomeError> {
        let open = self.opened()?;
        self.used();
        let hold = self.hold();
        let vault = open.vault.clone();
        blocking(move || {
            let _one = WRITING.lock();
            let done = work(&vault);
            drop(hold);
            done
        })
        .await
    }

    /// Who may set a secret is the owner alone: their audit has it, without the name.
    async fn note_secret(&self, what: &'static str) {
        let Ok(open) = self.opened() else { return };
        let noted = open.system.write(move |tx| Ok(keys::note(tx, what)?)).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "a change of a secret could not be noted");
        }
    }
}

/// The file's text for a backup, whose index is sealed; `None`: there is none.
pub(crate) fn to_archive(vault: &Vault) -> Result<Option<Zeroizing<String>>, HomeError> {
    let _one = WRITING.lock();
    let all = read(vault)?;
    if all.secrets.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string(&all).map_err(|_| HomeError::Crypto)?;
    Ok(Some(Zeroizing::new(text)))
}

/// The same back from one, into a home that is being made. `no_sense`: what the backup has of them
/// is nothing of the kind.
pub(crate) fn put_back(
    vault: &Vault,
    text: &str,
    no_sense: impl FnOnce() -> HomeError,
) -> Result<(), HomeError> {
    let Ok(all) = serde_json::from_str::<Secrets>(text) else {
        return Err(no_sense());
    };
    let _one = WRITING.lock();
    write(vault, &all)
}

/// Where they are.
pub(crate) fn path(vault: &Vault) -> PathBuf {
    vault.data().join(FILE)
}

/// Where those are that a change of keys has set aside, if it did.
pub(crate) fn set_aside_at(vault: &Vault) -> Option<PathBuf> {
    let path = vault.data().join(DAMAGED);
    path.exists().then_some(path)
}

/// Opens them and authenticates all of them; `false`: there are none.
pub(crate) fn check(vault: &Vault) -> Result<bool, HomeError> {
    let _one = WRITING.lock();
    Ok(read_there(vault)?.is_some())
}

/// What can be done about it, where the file is damaged.
pub(crate) fn advice(error: &EncryptedFileError) -> Option<String> {
    let path = damaged(error)?.display();
    Some(format!(
        "Move the file away, then set each secret again with `aico config secret set NAME`: \
         mv '{path}' '{path}.aside'"
    ))
}

/// The file, if it is at fault. A disk that can't be read now says nothing about the file, and one
/// of a newer program is not ours to set aside.
fn damaged(error: &EncryptedFileError) -> Option<&Path> {
    match error {
        EncryptedFileError::NotEncrypted { path }
        | EncryptedFileError::Foreign { path, .. }
        | EncryptedFileError::WrongKey { path }
        | EncryptedFileError::DamagedHeader { path, .. }
        | EncryptedFileError::Damaged { path, .. }
        | EncryptedFileError::Cut { path, .. } => Some(path),
        _ => None,
    }
}

/// Gives a damaged file a name under which nothing reads it any more. One that has the name goes:
/// the root key that it was under is forgotten since.
fn set_aside(vault: &Vault) -> Result<(), HomeError> {
    let (fs, path) = (vault.filesystem(), path(vault));
    fs.rename(&path, &vault.data().join(DAMAGED))
        .on("rename", &path)
        .and_then(|()| fs::sync_parent(&*fs, &path))?;
    Ok(())
}

/// Sets a file aside that is at fault; another error is answered.
fn without_damaged(vault: &Vault, error: HomeError) -> Result<Option<Secrets>, HomeError> {
    match error {
        HomeError::Secrets(error) if damaged(&error).is_some() => {
            set_aside(vault)?;
            tracing::error!(
                %error,
                "The secrets of the configuration are damaged and were set aside. Set each of them \
                 again: aico config secret set NAME"
            );
            Ok(None)
        }
        other => Err(other),
    }
}

/// How often the key was changed alone.
fn changes(vault: &Vault) -> u32 {
    u32::try_from(vault.registry().mark(MARK).sequence).unwrap_or(u32::MAX)
}

/// The file's id after so many changes.
fn id_after(changes: u32) -> [u8; 16] {
    let mut id = [0; 16];
    id[..12].copy_from_slice(ID);
    id[12..].copy_from_slice(&changes.to_be_bytes());
    id
}

/// The id that a file is to have. The registry may lag behind, where a change was cut off.
fn expected_id(vault: &Vault, claim: &Claim) -> [u8; 16] {
    let least = id_after(changes(vault));
    match claim.id[..12] == ID[..] && claim.id >= least {
        true => claim.id,
        false => least,
    }
}

/// What is there under a root key from before.
fn under_another_key(vault: &Vault) -> Result<Option<Secrets>, HomeError> {
    match Claim::read(&path(vault)) {
        Ok(claim) if claim.epoch == vault.key_epoch() => Ok(None),
        Ok(_) => read_there(vault),
        Err(EncryptedFileError::Absent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read(vault: &Vault) -> Result<Secrets, HomeError> {
    let none = || Secrets {
        version: VERSION,
        ..Secrets::default()
    };
    Ok(read_there(vault)?.unwrap_or_else(none))
}

/// All of it, authenticated before any of it is used; `None`: there is no file.
fn read_there(vault: &Vault) -> Result<Option<Secrets>, HomeError> {
    let path = path(vault);
    let text = match text_of(vault, &path) {
        Err(HomeError::Secrets(EncryptedFileError::Absent { .. })) => return Ok(None),
        text => text?,
    };
    let damaged = || {
        HomeError::Secrets(EncryptedFileError::DamagedHeader {
            path: path.clone(),
            reason: "what is in it makes no sense",
        })
    };
    let all: Secrets = serde_json::from_slice(&text).map_err(|_| damaged())?;
    if all.version != VERSION {
        return Err(HomeError::Secrets(EncryptedFileError::Unsupported {
            path,
            found: u16::try_from(all.version).unwrap_or(u16::MAX),
            known: VERSION as u16,
        }));
    }
    Ok(Some(all))
}

fn text_of(vault: &Vault, path: &Path) -> Result<Zeroizing<Vec<u8>>, HomeError> {
    let claim = Claim::read(path)?;
    if claim.form != Form::Finished {
        return Err(EncryptedFileError::Foreign {
            path: path.to_owned(),
            what: "form",
        }
        .into());
    }
    // Under the key before, as long as a rotation has not come to it.
    let id = expected_id(vault, &claim);
    let key = vault
        .file_key_of(claim.epoch, Purpose::Configuration, Owner::System, id)
        .ok_or_else(|| EncryptedFileError::WrongKey {
            path: path.to_owned(),
        })?;
    let mut file = EncryptedFile::open(&key, path)?;
    file.verify()?;
    let length = file.plain_len()?;
    if length > FILE_LONGEST {
        return Err(EncryptedFileError::DamagedHeader {
            path: path.to_owned(),
            reason: "it is longer than it can be",
        }
        .into());
    }
    let mut text = Zeroizing::new(vec![0; usize::try_from(length).unwrap_or(0)]);
    file.read_exact(&mut text)
        .map_err(|source| HomeError::Folder {
            path: path.to_owned(),
            source,
        })?;
    Ok(text)
}

/// In place of what was there, at once and durably.
fn write(vault: &Vault, all: &Secrets) -> Result<(), HomeError> {
    write_as(vault, all, changes(vault))
}

fn write_as(vault: &Vault, all: &Secrets, changes: u32) -> Result<(), HomeError> {
    let path = path(vault);
    let key = vault.file_key(Purpose::Configuration, Owner::System, id_after(changes));
    let text = Zeroizing::new(serde_json::to_vec(all).map_err(|_| HomeError::Crypto)?);
    let mut options = EncryptedFile::options();
    options.write(true).create(true).truncate(true);
    options.on(vault.filesystem());
    let mut file = options.open(&key, &path)?;
    file.write_all(&text).map_err(|source| HomeError::Folder {
        path: path.clone(),
        source,
    })?;
    file.finish()?;
    Ok(())
}

fn check_name(name: &str) -> Result<(), SecretError> {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
    };
    let right = name.len() <= NAME_LONGEST
        && name.bytes().all(allowed)
        && name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase());
    right.then_some(()).ok_or(SecretError::Name)
}

fn check_value(value: &str) -> Result<(), SecretError> {
    if value.is_empty() || value.len() > SECRET_LONGEST {
        return Err(SecretError::Length);
    }
    if value.chars().any(char::is_control) {
        return Err(SecretError::Control);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(value: &str) -> Secrets {
        let kept = Kept {
            value: value.to_owned(),
            set_ms: 1,
        };
        Secrets {
            version: VERSION,
            secrets: [("openai".to_owned(), kept)].into(),
        }
    }

    fn value(vault: &Vault) -> Option<String> {
        let all = read_there(vault).ok()??;
        Some(all.secrets["openai"].value.clone())
    }

    #[test]
    fn a_file_of_an_id_from_before_is_not_taken_and_one_that_is_ahead_is() {
        let folder = tempfile::tempdir().unwrap();
        let password = aico_vault::Password::new("velvet harbour moss lantern").unwrap();
        let (vault, _) = Vault::create_with(
            &folder.path().join("data"),
            &password,
            aico_vault::KdfCost::minimum(),
        )
        .unwrap();
        write(&vault, &kept("one")).unwrap();
        let first = std::fs::read(path(&vault)).unwrap();
        // As it was before any change: the id of every file that there is.
        assert_eq!(
            Claim::read(&path(&vault)).unwrap().id,
            *b"aico-secrets\0\0\0\0"
        );
        // Cut off before the registry knew of it.
        write_as(&vault, &kept("two"), 1).unwrap();
        assert_eq!(value(&vault).as_deref(), Some("two"));
        write(&vault, &kept("three")).unwrap();
        assert_eq!(value(&vault).as_deref(), Some("three"));
        write_as(&vault, &kept("four"), 1).unwrap();
        vault.registry().note_sequence(MARK, 1).unwrap();
        assert_eq!(value(&vault).as_deref(), Some("four"));
        write(&vault, &kept("five")).unwrap();
        assert_eq!(value(&vault).as_deref(), Some("five"));
        // With a key from before.
        std::fs::write(path(&vault), first).unwrap();
        assert!(matches!(
            read_there(&vault),
            Err(HomeError::Secrets(EncryptedFileError::Foreign { .. }))
        ));
    }

    #[test]
    fn names_and_values_that_are_refused() {
        for name in ["openai", "a", "gpu-server.key_2"] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", "Openai", "9a", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert_eq!(check_name(name), Err(SecretError::Name), "{name}");
        }
        assert_eq!(check_value("sk-1 und mehr"), Ok(()));
        assert_eq!(check_value(""), Err(SecretError::Length));
        assert_eq!(check_value(&"x".repeat(4097)), Err(SecretError::Length));
        assert_eq!(check_value("a\nb"), Err(SecretError::Control));
    }
}
