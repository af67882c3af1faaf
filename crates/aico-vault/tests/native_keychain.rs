//! The Credential Manager of Windows and the login keychain of macOS, the real ones.
#![cfg(any(windows, target_os = "macos"))]
#![expect(clippy::unwrap_used, reason = "tests")]

use aico_vault::{KdfCost, KeptError, KeychainState, Keychains, Password, Vault};

const MASTER: &str = "velvet harbour moss lantern";

#[test]
fn a_vault_opens_with_what_the_systems_keychain_keeps_until_it_is_gone() {
    let password = Password::new(MASTER).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (vault, _) = Vault::create_with(&data, &password, KdfCost::minimum()).unwrap();
    let keychains = Keychains::of_this_machine(None);
    let native = keychains.choose().unwrap();
    let (kept, _) = vault.remember(&password, native, &keychains).unwrap();
    let item = kept.item();
    drop(vault);

    let open = || Vault::unlock_kept(&data, &keychains, KdfCost::minimum());
    open().unwrap();
    // Somebody tidied up.
    native.remove(&item).unwrap();
    native.remove(&item).unwrap();
    match open() {
        Err(KeptError::Keychain { source, .. }) => {
            assert_eq!(source.state(), KeychainState::Changed);
        }
        other => panic!("{:?}", other.map(drop)),
    }
    Vault::unlock_with(&data, &password, KdfCost::minimum()).unwrap();
}
