//! The registry in a real encrypted store.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "../../aico-store/tests/support/every_version.rs"]
mod every_version;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aico_contracts::ids::ModelId;
use aico_models::supervisor::{
    Adapter, MIGRATIONS, ModelRecord, ModelRegistryStore, SystemRegistry,
};
use aico_store::{
    Identity, ModuleMigrations, RegistryError, Store, StoreError, StoreRecord, StoreRegistry,
};

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
        adapter: None,
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

#[tokio::test]
async fn every_schema_version_becomes_the_present_one_and_keeps_its_rows() {
    let case = every_version::Case {
        identity: Identity::system(),
        present: vec![MIGRATIONS],
        versions: &[&[1], &[2], &[3]],
        rows: &["aico-models"],
        expected: "",
        whole: false,
    };
    every_version::becomes_the_present_one_and_keeps_its_rows(&case).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_is_there_with_several_adapters_and_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let records = Arc::new(Records::default());
    let path = folder.path().join("system.db");
    // As it was before there were adapters.
    let before = ModuleMigrations {
        migrations: &MIGRATIONS.migrations[..2],
        ..MIGRATIONS
    };
    let store = Store::create(
        &path,
        &[7; 32],
        &Identity::system(),
        &[before],
        records.clone(),
    )
    .unwrap();
    let plain = record("a");
    let (id, place) = (plain.id, plain.path.to_string_lossy().into_owned());
    store
        .write(move |tx| {
            tx.execute(
                "INSERT INTO models_model VALUES (?1, 'a', ?2, 4000000000, 1700000000000000000, \
                 NULL, 'llama', 8000000000, 'Q4_K_M', 8192, 131072, 'MIT', 0, 0, 5, 0)",
                (id.as_bytes(), place),
            )?;
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    store.close().await.unwrap();

    let store = Store::open(&path, &[7; 32], &Identity::system(), &[MIGRATIONS], records).unwrap();
    let registry = SystemRegistry::new(store.clone());
    assert_eq!(registry.list().await.unwrap(), std::slice::from_ref(&plain));
    let with = |name: &str| ModelRecord {
        id: ModelId::new(),
        name: name.into(),
        adapter: Some(Adapter {
            path: PathBuf::from(format!("/adapters/{name}.gguf")),
            size: 1000,
            modified_ns: 5,
            sha256: [9; 32],
        }),
        ..plain.clone()
    };
    let (one, other) = (with("one"), with("other"));
    for model in [&one, &other, &one] {
        registry.put(model.clone()).await.unwrap();
    }
    let all = registry.list().await.unwrap();
    assert_eq!(all.len(), 3);
    for model in [&plain, &one, &other] {
        assert!(all.contains(model), "{model:?}");
    }
    assert!(registry.remove(one.id).await.unwrap());
    assert!(!registry.list().await.unwrap().contains(&one));
    // What was of it is gone with it.
    let again = ModelRecord {
        adapter: None,
        path: PathBuf::from("/models/b.gguf"),
        ..one
    };
    registry.put(again.clone()).await.unwrap();
    assert!(registry.list().await.unwrap().contains(&again));
    store.close().await.unwrap();
}
