//! What the system's store says of archives, and of those who were erased.

use aico_contracts::ids::PersonId;
use aico_store::StoreError;
use rusqlite::Transaction;

use super::set::Erasures;
use crate::HomeError;
use crate::home::Open;

/// Notes an archive in the system's store.
pub(crate) fn note_archive(
    tx: &Transaction<'_>,
    id: [u8; 16],
    path: &str,
    created_ms: i64,
    key: &[u8],
    persons: &[PersonId],
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT OR REPLACE INTO backup_archive (id, path, created_ms, key)
         VALUES (?1, ?2, ?3, ?4)",
        rusqlite::params![id, path, created_ms, key],
    )?;
    for person in persons {
        tx.execute(
            "INSERT OR REPLACE INTO backup_archive_person (archive, person) VALUES (?1, ?2)",
            rusqlite::params![id, person.as_bytes()],
        )?;
    }
    Ok(())
}

/// Everybody who was ever erased.
pub(crate) async fn erased_in(open: &Open) -> Result<Erasures, HomeError> {
    Ok(open.system.read(read_tombstones).await?)
}

pub(crate) fn read_tombstones(db: &rusqlite::Connection) -> Result<Erasures, StoreError> {
    let mut query = db.prepare("SELECT person, erased_ms FROM access_tombstone")?;
    let rows = query.query_map([], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
    })?;
    let mut erased = Erasures::new();
    for row in rows {
        let (id, when) = row?;
        let id = PersonId::from_slice(&id).map_err(|_| StoreError::Conversion)?;
        erased.insert(id, when);
    }
    Ok(erased)
}
