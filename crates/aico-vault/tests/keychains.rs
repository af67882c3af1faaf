//! The places for wrapping keys that every Linux machine has: the kernel's keyring, a folder as
//! systemd fills it, key files. The desktop's keychain is met in the program's tests.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aico_vault::keychain::{KernelKeyring, KeyFiles, SystemdCredential};
use aico_vault::{KdfCost, Kept, KeptError, Keychain, KeychainState, Keychains, Password, Vault};

const MASTER: &str = "velvet harbour moss lantern";

fn password() -> Password {
    Password::new(MASTER).unwrap()
}

struct Made {
    folder: tempfile::TempDir,
    vault: Vault,
}

fn made() -> Made {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (vault, _) = Vault::create_with(&data, &password(), KdfCost::minimum()).unwrap();
    Made { folder, vault }
}

fn opens(made: &Made, keychains: &Keychains) -> Result<(), KeychainState> {
    match Vault::unlock_kept(made.vault.data(), keychains, KdfCost::minimum()) {
        Ok(_) => Ok(()),
        Err(KeptError::Keychain { source, .. }) => Err(source.state()),
        Err(other) => panic!("{other}"),
    }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_key_file_is_private_and_whatever_is_done_to_it_is_told() {
    let made = made();
    let folder = made.folder.path().join("keys");
    let keychains = Keychains::new(vec![Box::new(KeyFiles::new(folder.clone()))]);
    assert!(keychains.choose().is_err(), "never unasked");
    let files = KeyFiles::new(folder.clone());
    let (kept, _) = made
        .vault
        .remember(&password(), &files, &keychains)
        .unwrap();
    let Kept::KeyFile { .. } = kept else {
        panic!("{kept:?}")
    };
    let path = files.path(&kept.item());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
    assert_eq!(opens(&made, &keychains), Ok(()));
    let text = fs::read_to_string(&path).unwrap();

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(opens(&made, &keychains), Err(KeychainState::Changed));
    for (altered, state) in [
        ("something else", KeychainState::Changed),
        (&text.replace("\nid ", "\nid 0"), KeychainState::Changed),
        (&text.replace("\nkey ", "\nkey x"), KeychainState::Wrong),
        (
            &format!(
                "{}\nkey {}\n",
                text.rsplit_once("\nkey ").unwrap().0,
                "7".repeat(64)
            ),
            KeychainState::Wrong,
        ),
    ] {
        write_private(&path, altered);
        assert_eq!(opens(&made, &keychains), Err(state), "{altered}");
    }
    let target = made.folder.path().join("target");
    write_private(&target, &text);
    fs::remove_file(&path).unwrap();
    assert_eq!(opens(&made, &keychains), Err(KeychainState::Absent));
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert_eq!(opens(&made, &keychains), Err(KeychainState::Changed));
    fs::remove_file(&path).unwrap();
    write_private(&path, &text);
    assert_eq!(opens(&made, &keychains), Ok(()));

    let gone = made.vault.forget(&password(), &keychains).unwrap();
    assert!(gone.left.is_empty() && !path.exists());
}

#[test]
fn a_key_file_lies_in_its_folder_whatever_a_header_names() {
    let folder = tempfile::tempdir().unwrap();
    let files = KeyFiles::new(folder.path().join("keys"));
    files.probe().unwrap();
    let absolute = folder.path().join("other");
    for item in ["../other", absolute.to_str().unwrap()] {
        let outside = files.path(item);
        let head = "AICO key file: whoever can read it can open the vault. Keep its mode at 0600.";
        let text = format!("{head}\nid {item}\nkey {}\n", "7".repeat(64));
        write_private(&outside, &text);
        let refused = files.load(item).err().map(|error| error.state());
        assert_eq!(refused, Some(KeychainState::Changed), "{item}");
        assert!(files.remove(item).is_err() && outside.exists(), "{item}");
    }
}

#[test]
fn a_credential_of_systemd_opens_the_vault_and_is_never_written() {
    let made = made();
    let folder = made.folder.path().join("credentials");
    fs::create_dir(&folder).unwrap();
    let systemd = || SystemdCredential::in_folder(folder.clone());
    let keychains = Keychains::new(vec![Box::new(systemd())]);
    assert!(systemd().probe().is_err());
    assert!(
        made.vault
            .remember(&password(), &systemd(), &keychains)
            .is_err()
    );
    let path = folder.join("aico-wrapping-key");
    fs::write(&path, [9_u8; 32]).unwrap();
    made.vault
        .remember(&password(), &systemd(), &keychains)
        .unwrap();
    assert_eq!(opens(&made, &keychains), Ok(()));
    // Hex, as `systemd-creds` users like it, is the same key; twice is no second wrap.
    fs::write(&path, format!("{}\n", "09".repeat(32))).unwrap();
    assert_eq!(opens(&made, &keychains), Ok(()));
    made.vault
        .remember(&password(), &systemd(), &keychains)
        .unwrap();
    assert_eq!(Vault::status(made.vault.data()).unwrap().wraps.len(), 3);

    fs::write(&path, [8_u8; 32]).unwrap();
    assert_eq!(opens(&made, &keychains), Err(KeychainState::Wrong));
    fs::write(&path, "too short").unwrap();
    assert_eq!(opens(&made, &keychains), Err(KeychainState::Wrong));
    fs::remove_file(&path).unwrap();
    assert_eq!(opens(&made, &keychains), Err(KeychainState::Changed));
    // No longer started by systemd.
    let nothing = Keychains::new(Vec::new());
    assert_eq!(opens(&made, &nothing), Err(KeychainState::Absent));
    fs::write(&path, [9_u8; 32]).unwrap();
    let gone = made.vault.forget(&password(), &keychains).unwrap();
    assert_eq!(gone.left.len(), 1, "the administrator's to remove");
    assert!(path.exists());
}

#[test]
fn the_kernels_keyring_holds_the_key_until_it_is_forgotten() {
    let test = "the_kernels_keyring_holds_the_key_until_it_is_forgotten";
    if let Err(error) = KernelKeyring.probe() {
        eprintln!("skipped {test}: {error}");
        return;
    }
    let made = made();
    let keychains = Keychains::new(vec![Box::new(KernelKeyring)]);
    let (kept, _) = made
        .vault
        .remember(&password(), &KernelKeyring, &keychains)
        .unwrap();
    assert_eq!(opens(&made, &keychains), Ok(()));
    assert!(kept.made_ms().is_some());
    KernelKeyring.remove(&kept.item()).unwrap();
    // The kernel takes a moment to let go of it.
    let begun = std::time::Instant::now();
    while opens(&made, &keychains) == Ok(()) {
        assert!(begun.elapsed().as_secs() < 60, "it is still there");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(opens(&made, &keychains), Err(KeychainState::Changed));
    // Gone already is gone.
    KernelKeyring.remove(&kept.item()).unwrap();
    let gone = made.vault.forget(&password(), &keychains).unwrap();
    assert!(gone.left.is_empty());
}
