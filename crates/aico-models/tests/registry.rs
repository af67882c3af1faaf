//! The registry in a real encrypted store.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aico_contracts::ids::ModelId;
use aico_models::supervisor::{MIGRATIONS, ModelRecord, ModelRegistryStore, SystemRegistry};
use aico_store::{Identity, RegistryError, Store, StoreRecord, StoreRegistry};

#[derive(Default)]
struct Records(Mutex<HashMap<String, StoreRecord>>);

impl StoreRegistry for Records {
    fn get(&self, store_id: &str) -> Result<Option<StoreRecord>, RegistryError> {
        Ok(self.0.lock().unwrap().get(store_id).cloned())
    }
    fn put(&self, store_id: &str, record: &StoreRecord) -> Result<(), RegistryError> {
        self.0
            .lock()
            .unwrap()
            .insert(store_id.to_owned(), record.clone());
        Ok(())
    }
    fn note_sequence(&self, store_id: &str, sequence: u64) -> Result<(), RegistryError> {
        if let Some(record) = self.0.lock().unwrap().get_mut(store_id) {
            record.last_sequence = sequence;
        }
        Ok(())
    }
    fn remove(&self, store_id: &str) -> Result<(), RegistryError> {
        self.0.lock().unwrap().remove(store_id);
        Ok(())
    }
}

fn record(name: &str) -> ModelRecord {
    ModelRecord {
        id: ModelId::new(),
        name: name.into(),
        path: PathBuf::from(format!("/models/{name}.gguf")),
        size: 4_000_000_000,
        modified_ns: 1_700_000_000_000_000_000,
        sha256: None,
        architecture: "llama".into(),
        parameters: 8_000_000_000,
        quantization: "Q4_K_M".into(),
        context_length: 8192,
        bytes_per_token: 131_072,
        license: "MIT".into(),
        starter: false,
        active: false,
        pinned: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_kept_changed_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let records = Arc::new(Records::default());
    let path = folder.path().join("system.db");
    let store =
        Store::create(&path, &[7; 32], &Identity::system(), &[MIGRATIONS], records).unwrap();
    let registry = SystemRegistry::new(store.clone());
    let (mut a, b) = (record("a"), record("b"));
    registry.put(a.clone()).await.unwrap();
    registry.put(b.clone()).await.unwrap();
    assert_eq!(registry.list().await.unwrap(), [a.clone(), b.clone()]);

    a.name = "renamed".into();
    registry.put(a.clone()).await.unwrap();
    registry.set_hash(a.id, [3; 32]).await.unwrap();
    a.sha256 = Some([3; 32]);
    assert_eq!(
        registry.list().await.unwrap(),
        [a.clone(), b.clone()],
        "in the old order"
    );

    let active = async || {
        let models = registry.list().await.unwrap();
        models
            .into_iter()
            .filter(|model| model.active)
            .map(|model| model.id)
            .collect::<Vec<_>>()
    };
    assert!(registry.activate(a.id).await.unwrap());
    assert!(registry.activate(b.id).await.unwrap());
    assert!(!registry.activate(ModelId::new()).await.unwrap());
    assert_eq!(active().await, [b.id]);
    assert!(registry.remove(b.id).await.unwrap());
    assert!(!registry.remove(b.id).await.unwrap());
    assert!(active().await.is_empty());
    store.close().await.unwrap();
}
