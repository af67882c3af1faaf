//! The vault's sealed registry, as the stores see it.

use aico_vault::{FileError, Registry, RegistryError as VaultError, append::AppendError};

use crate::registry::{RegistryError, StoreRecord, StoreRegistry};

impl StoreRegistry for Registry {
    fn get(&self, store_id: &str) -> Result<Option<StoreRecord>, RegistryError> {
        Ok(Registry::get(self, store_id).map(|record| StoreRecord {
            salt: record.salt,
            generation: record.generation,
            last_sequence: record.last_sequence,
            closed_hash: record.closed_hash,
        }))
    }

    fn put(&self, store_id: &str, record: &StoreRecord) -> Result<(), RegistryError> {
        let record = aico_vault::StoreRecord {
            salt: record.salt,
            generation: record.generation,
            last_sequence: record.last_sequence,
            closed_hash: record.closed_hash,
        };
        Registry::put(self, store_id, record).map_err(translate)
    }

    fn note_sequence(&self, store_id: &str, sequence: u64) -> Result<(), RegistryError> {
        Registry::note_sequence(self, store_id, sequence).map_err(translate)
    }

    fn remove(&self, store_id: &str) -> Result<(), RegistryError> {
        Registry::remove(self, store_id).map_err(translate)
    }
}

fn translate(error: VaultError) -> RegistryError {
    match error {
        VaultError::Append(AppendError::File(FileError::StorageFull { .. })) => {
            RegistryError::StorageFull
        }
        error => RegistryError::failed(error),
    }
}
