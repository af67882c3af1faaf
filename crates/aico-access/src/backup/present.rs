//! Who was erased in a home that is there: restored over, or used otherwise.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use aico_store::{Identity, Store, StoreRegistry};
use aico_vault::archive::Archive;
use aico_vault::{KdfCost, Key, Label, Owner, Purpose, Vault};

use super::manifest::Manifest;
use super::noted::read_tombstones;
use super::restore::RestoreSecret;
use super::set::{self, Erasures};
use crate::home::{HomeConfig, SYSTEM_DB, blocking};
use crate::{DataFolder, HomeError, stores};

/// Who was erased in a home that is not restored to, or stands in the list in its usual folder of
/// backups; and whether that could not be told.
pub(super) async fn erased_in_usual(
    usual: &Path,
    archive: &Archive,
    manifest: &Manifest,
    secret: RestoreSecret,
    config: &HomeConfig,
) -> Result<(Erasures, bool), HomeError> {
    let backups = super::default_folder(usual);
    let mut erased = set::read_erasures_in(&backups, archive, manifest)?;
    let listed = || set::is_kept_up_to_date(&backups, archive.vault());
    let home = usual.join("home");
    match Vault::id_of(&home) {
        Ok(id) if id == archive.vault() => {}
        Ok(_) => return Ok((erased, false)),
        Err(_) => {
            let is_there = fs::symlink_metadata(&home).is_ok();
            return Ok((erased, is_there && !listed()));
        }
    }
    // Unlocking finishes what was cut off, which is not for us where AICO runs: there the store
    // opens with the archive's key, or not at all.
    let claimed = DataFolder::claim(usual).ok();
    let secret = claimed.is_some().then_some(secret);
    let known = erased_at(&home, archive, secret, config).await;
    drop(claimed);
    match known {
        Ok(known) => {
            erased.extend(known);
            Ok((erased, false))
        }
        Err(error) => {
            tracing::warn!(%error, "who was erased in the usual data can't be read");
            Ok((erased, !listed()))
        }
    }
}

/// Versions of the key of a system's store that are tried.
const MOST_VERSIONS: u16 = 16;

/// Who was erased in a home that is there, if its system's store opens with the archive's key, or
/// with what opens the archive: after a change of the root key the password may be the same.
pub(super) async fn erased_at(
    there: &Path,
    archive: &Archive,
    secret: Option<RestoreSecret>,
    config: &HomeConfig,
) -> Result<Erasures, HomeError> {
    let (path, modules) = (there.join(SYSTEM_DB), stores::modules_of_system(config));
    let (there, cost) = (there.to_owned(), config.kdf);
    // Which of them it is, only its registry knows, which need not be whole.
    let label = Label::new(Purpose::SystemDatabase, Owner::System);
    let known: Option<Vec<Key>> = (1..=MOST_VERSIONS)
        .map(|version| archive.derive(label.clone().with_version(version)))
        .collect();
    let known = known.ok_or(HomeError::Crypto)?;
    let store = blocking(move || {
        let registry = Arc::new(NoRegistry);
        let identity = Identity::system();
        let opens = |key: &Key| Store::opens_with(&path, key.expose());
        let key = match known.into_iter().find(opens) {
            Some(key) => key,
            None => match &secret {
                Some(secret) => present_key(&there, secret, cost)?,
                None => return Err(HomeError::Locked),
            },
        };
        Ok(Store::open_read_only(
            &path,
            key.expose(),
            &identity,
            &modules,
            registry,
        )?)
    })
    .await?;
    let erased = store.read(read_tombstones).await;
    store.close().await?;
    Ok(erased?)
}

fn present_key(there: &Path, secret: &RestoreSecret, cost: KdfCost) -> Result<Key, HomeError> {
    let vault = match secret {
        RestoreSecret::Password(password) => Vault::unlock_with(there, password, cost),
        RestoreSecret::Phrase(phrase) => Vault::recover_with(there, phrase, cost),
    };
    let (_, key) = stores::system_key(&vault.map_err(HomeError::Unlock)?)?;
    Ok(key)
}

/// For a store that is only looked at.
struct NoRegistry;

impl StoreRegistry for NoRegistry {
    fn get(&self, _: &str) -> Result<Option<aico_store::StoreRecord>, aico_store::RegistryError> {
        Ok(None)
    }

    fn put(&self, _: &str, _: &aico_store::StoreRecord) -> Result<(), aico_store::RegistryError> {
        Ok(())
    }

    fn note_sequence(&self, _: &str, _: u64) -> Result<(), aico_store::RegistryError> {
        Ok(())
    }

    fn remove(&self, _: &str) -> Result<(), aico_store::RegistryError> {
        Ok(())
    }
}
