//! Which keys the databases in an archive are under: the manifest numbers them as the registry does.
//! And what a change of the root key does to what is known of archives.

use aico_store::{NumberedKey, Store, StoreError};
use aico_vault::archive::ArchiveKey;
use aico_vault::{KeyId, PersonKeyError, PersonKeys, Vault};
use rusqlite::{Connection, OptionalExtension as _, Transaction};

use super::set::ListKey;
use crate::HomeError;

/// 0 is the first there was.
fn named(number: u64) -> KeyId {
    KeyId::from_number(number).unwrap_or(KeyId::first_of(1))
}

/// A key of the system's database, by a vault that has it.
pub(crate) fn system_key(vault: &Vault, number: u64) -> Result<NumberedKey, HomeError> {
    let id = named(number);
    let key = vault.store_key(id).ok_or(HomeError::Crypto)?;
    Ok(NumberedKey::new(key.expose(), id.number()))
}

/// A key of a person's database.
pub(crate) fn person_key(keys: &PersonKeys, number: u64) -> Result<NumberedKey, HomeError> {
    let id = named(number);
    let key = keys.store_key(id).ok_or(HomeError::Crypto)?;
    Ok(NumberedKey::new(key.expose(), id.number()))
}

/// A person's key, where it opens without them.
pub(crate) fn person_keys(vault: &Vault, person: [u8; 16]) -> Result<PersonKeys, HomeError> {
    vault.open_person(person).map_err(|error| match error {
        PersonKeyError::Sealed { .. } => HomeError::PersonLocked,
        other => HomeError::Keyring(other),
    })
}

/// The key of this home's lists of the erased, made when it is first needed. Once there is one
/// nothing is written: a disk that takes no writes is when a backup is wanted most.
pub(crate) async fn list_key(system: &Store) -> Result<ListKey, HomeError> {
    if let Some(key) = system.read(read_list_key).await? {
        return Ok(ListKey::new(&key));
    }
    let mut fresh = [0; 32];
    aws_lc_rs::rand::fill(&mut fresh).map_err(|_| HomeError::Crypto)?;
    let key = system
        .write(move |tx| {
            tx.execute(
                "INSERT OR IGNORE INTO backup_list (one, key) VALUES (1, ?1)",
                [fresh],
            )?;
            read_list_key(tx)?.ok_or(StoreError::NoRow)
        })
        .await?;
    Ok(ListKey::new(&key))
}

fn read_list_key(db: &Connection) -> Result<Option<[u8; 32]>, StoreError> {
    let sql = "SELECT key FROM backup_list WHERE one = 1";
    Ok(db.query_row(sql, [], |row| row.get(0)).optional()?)
}

/// Seals the archives' own keys under the present root key: with them an erasure takes somebody
/// out of archives that the root key no longer opens.
pub(crate) fn seal_archive_keys_anew(
    tx: &Transaction<'_>,
    vault: &Vault,
) -> Result<(), StoreError> {
    let sealed = {
        let mut query = tx.prepare("SELECT id, key FROM backup_archive")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<Result<Vec<(Vec<u8>, Vec<u8>)>, _>>()?
    };
    for (row, key) in sealed {
        let id: [u8; 16] = row[..].try_into().map_err(|_| StoreError::Conversion)?;
        let key = ArchiveKey::open(vault, id, &key)
            .map_err(|error| StoreError::Caller(Box::new(HomeError::from(error))))?;
        tx.execute(
            "UPDATE backup_archive SET key = ?2 WHERE id = ?1",
            (row, key.seal(vault, id)),
        )?;
    }
    Ok(())
}
