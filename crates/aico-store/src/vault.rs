//! The vault's sealed registry, as the stores see it.

use aico_vault::{Refusal, Registry, RegistryError as VaultError, Vault};

use crate::registry::{RegistryError, StoreRecord, StoreRegistry};

impl StoreRegistry for Registry {
    fn get(&self, store_id: &str) -> Result<Option<StoreRecord>, RegistryError> {
        Ok(Registry::get(self, store_id).map(|record| StoreRecord {
            salt: record.salt,
            generation: record.generation,
            last_sequence: record.last_sequence,
            closed_hash: record.closed_hash,
            key: record.key,
        }))
    }

    fn put(&self, store_id: &str, record: &StoreRecord) -> Result<(), RegistryError> {
        let record = aico_vault::StoreRecord {
            salt: record.salt,
            generation: record.generation,
            last_sequence: record.last_sequence,
            closed_hash: record.closed_hash,
            key: record.key,
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

/// The vault is a handle that can be shared; its registry lives inside.
impl StoreRegistry for Vault {
    fn get(&self, store_id: &str) -> Result<Option<StoreRecord>, RegistryError> {
        StoreRegistry::get(self.registry(), store_id)
    }

    fn put(&self, store_id: &str, record: &StoreRecord) -> Result<(), RegistryError> {
        StoreRegistry::put(self.registry(), store_id, record)
    }

    fn note_sequence(&self, store_id: &str, sequence: u64) -> Result<(), RegistryError> {
        StoreRegistry::note_sequence(self.registry(), store_id, sequence)
    }

    fn remove(&self, store_id: &str) -> Result<(), RegistryError> {
        StoreRegistry::remove(self.registry(), store_id)
    }
}

fn translate(error: VaultError) -> RegistryError {
    match error.refusal() {
        Refusal::StorageFull => RegistryError::StorageFull,
        Refusal::ReadOnly => RegistryError::StorageReadOnly,
        Refusal::DiskFailed => RegistryError::StorageFailing,
        _ => RegistryError::failed(error),
    }
}
