//! The store with the vault's own registry, sealed and on the disk.

use std::{fs, sync::Arc};

use aico_store::{OpenError, Store};
use aico_vault::{KdfCost, Password, Vault};

use crate::support::{KEY, NOTES, PERSON, add_note, add_notes, count};

#[tokio::test]
async fn the_vaults_registry_vouches_for_a_store_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let password = || Password::new("a long and odd passphrase for a test").unwrap();
    let (vault, _phrase) = Vault::create_with(&data, &password(), KdfCost::minimum()).unwrap();
    let path = data.join("person.db");
    let store = Store::create(&path, &KEY, &PERSON, &[NOTES], Arc::new(vault)).unwrap();
    add_notes(&store, 0, 10).await;
    store.close().await.unwrap();
    let older = fs::read(&path).unwrap();

    let unlock = || Arc::new(Vault::unlock(&data, &password()).unwrap());
    let store = Store::open(&path, &KEY, &PERSON, &[NOTES], unlock()).unwrap();
    for n in 10..30 {
        add_note(&store, n).await.unwrap();
    }
    let sequence = store.sequence();
    store.close().await.unwrap();
    let newer = fs::read(&path).unwrap();

    fs::write(&path, &older).unwrap();
    match Store::open(&path, &KEY, &PERSON, &[NOTES], unlock()) {
        Err(OpenError::Older { expected, .. }) => assert_eq!(expected, sequence),
        opened => panic!("{opened:?}"),
    }
    fs::write(&path, &newer).unwrap();
    let store = Store::open(&path, &KEY, &PERSON, &[NOTES], unlock()).unwrap();
    assert_eq!(count(&store).await, 30);
    store.close().await.unwrap();
}
