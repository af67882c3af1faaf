//! What opens an archive, and what is in it.

use std::path::Path;
use std::sync::Arc;

use aico_vault::archive::{ArchiveError, ArchiveKey, PartKind, Preface, Scope};
use aico_vault::fs::Filesystem as _;
use aico_vault::fs::faulty::Faulty;
use aico_vault::{KdfCost, Owner, Password, RecoveryPhrase, Vault, WrapKind};

use super::support::*;

fn preface(world: &World) -> Preface {
    Preface::read(&world.disk, Path::new(PLACE)).unwrap()
}

#[test]
fn password_phrase_vault_and_its_own_key_open_it_and_nothing_else_does() {
    let world = World::new();
    let id = world.write(true).unwrap();
    let told = preface(&world);
    assert_eq!((told.id, told.created_ms), (id, 1_700_000));
    assert_eq!((told.vault(), told.scope), (world.vault.id(), Scope::Whole));

    let by_password = preface(&world).open_with_password(&password()).unwrap();
    let by_phrase = preface(&world).open_with_phrase(&world.phrase).unwrap();
    let by_vault = world.open().unwrap();
    for archive in [by_password, by_phrase, by_vault] {
        let found = read_all(&archive);
        assert!(found.error.is_none());
        assert_eq!(found.texts, texts(true));
        assert_eq!(archive.manifest(), MANIFEST);
    }

    let wrong = Password::new("another password entirely").unwrap();
    let error = preface(&world).open_with_password(&wrong).err();
    assert!(matches!(error, Some(ArchiveError::WrongPassword)));
    let error = preface(&world)
        .open_with_phrase(&RecoveryPhrase::random())
        .err();
    assert!(matches!(error, Some(ArchiveError::WrongPhrase)));
    let other = World::new();
    let error = preface(&world).open_in(&other.vault).err();
    assert!(matches!(error, Some(ArchiveError::OtherKey { .. })));
}

#[test]
fn a_kept_key_opens_this_archive_and_no_other() {
    let world = World::new();
    let fs = Arc::new(world.disk.clone());
    let place = Path::new(PLACE);
    let writer = world
        .vault
        .begin_archive(fs, place, Scope::Whole, 1)
        .unwrap();
    let (id, sealed) = (writer.id(), writer.key().seal(&world.vault, writer.id()));
    writer.finish(b"").unwrap();
    let key = ArchiveKey::open(&world.vault, id, &sealed).unwrap();
    preface(&world).open_with_key(key).unwrap();
    assert!(ArchiveKey::open(&world.vault, [9; 16], &sealed).is_err());

    let second = Path::new("/set/two.aicobackup");
    world.write_to(&world.disk, second, false).unwrap();
    let key = ArchiveKey::open(&world.vault, id, &sealed).unwrap();
    let told = Preface::read(&world.disk, second).unwrap();
    assert!(matches!(
        told.open_with_key(key).err(),
        Some(ArchiveError::Damaged { .. })
    ));
}

#[test]
fn a_vault_comes_back_with_the_wraps_of_then_and_no_keychain() {
    let world = World::new();
    world.vault.create_person(MIA, &password()).unwrap();
    let keyring = world.vault.keyring_of(MIA).unwrap();
    world.write(false).unwrap();
    // The password changes afterwards: the archive keeps the one of then.
    let new = Password::new("quite another password").unwrap();
    let now = world.vault.change_master_password(&password(), &new);
    now.unwrap();
    let error = preface(&world).open_with_password(&new).err();
    assert!(matches!(error, Some(ArchiveError::WrongPassword)));

    let disk = Faulty::new();
    disk.make_folder(Path::new("/new")).unwrap();
    let archive = preface(&world).open_with_password(&password()).unwrap();
    let back = Path::new("/new/home");
    let fs = Arc::new(disk.clone());
    disk.make_folder(back).unwrap();
    let vault = archive
        .restore_vault(fs.clone(), back, KdfCost::minimum())
        .unwrap();
    assert_eq!(vault.id(), world.vault.id());
    assert!(vault.verify_master(&password()).unwrap());
    assert!(!vault.verify_master(&new).unwrap());
    let put = vault.put_keyring(MIA, &keyring.bytes).unwrap();
    assert!(put.opens_unattended);
    vault.open_person_with_password(MIA, &password()).unwrap();
    // Another person's place does not take it, nor does the same place twice.
    assert!(vault.put_keyring(BEN, &keyring.bytes).is_err());
    assert!(vault.put_keyring(MIA, &keyring.bytes).is_err());
    drop(vault);
    let again = Vault::unlock_password_on(fs, back, &password(), KdfCost::minimum());
    again.unwrap();
    // Never over something that is there.
    let fs = Arc::new(disk.clone());
    let error = archive.restore_vault(fs, back, KdfCost::minimum()).err();
    assert!(matches!(error, Some(ArchiveError::Exists { .. })));
}

#[test]
fn what_a_keychain_holds_opens_no_archive() {
    // The header in the archive has two wraps, whatever the one on the disk has.
    let world = World::new();
    world.write(false).unwrap();
    let bytes = world.bytes();
    let header = {
        let count = u32::from_be_bytes(bytes[35..39].try_into().unwrap()) as usize;
        bytes[39..39 + count].to_vec()
    };
    // Where the header's format has the number of wraps, and the kind of the first.
    assert_eq!(&header[46..48], &2_u16.to_be_bytes());
    let kind = WrapKind::MasterPassword.number().to_be_bytes();
    assert_eq!(&header[48..50], &kind);
}

#[test]
fn a_part_is_dropped_alone_and_the_others_stay_as_they_are() {
    let world = World::new();
    world.write(true).unwrap();
    let before = world.bytes();
    let archive = world.open().unwrap();
    let mia = archive
        .find(PartKind::Person, Owner::Person(MIA))
        .unwrap()
        .clone();
    let fs = Arc::new(world.disk.clone());
    let of_mia = |part: &aico_vault::archive::Part| part.owner == Owner::Person(MIA);
    let length = archive
        .rewrite_without(fs, of_mia, b"{}", &mut |_| true)
        .unwrap();
    let after = world.bytes();
    assert_eq!(after.len() as u64, length);
    assert!(before.len() - after.len() > 200_000);
    let archive = world.open().unwrap();
    let found = read_all(&archive);
    assert!(found.error.is_none());
    let mut expected = texts(true);
    expected.remove(1);
    assert_eq!(found.texts, expected);
    assert_eq!(archive.manifest(), b"{}");
    assert!(archive.read(&mia).is_err());
    // It opens with the password as before, and one more can be dropped.
    let archive = preface(&world).open_with_password(&password()).unwrap();
    let fs = Arc::new(world.disk.clone());
    archive
        .rewrite_without(
            fs,
            |part| part.owner == Owner::Person(BEN),
            b"",
            &mut |_| true,
        )
        .unwrap();
    assert_eq!(world.open().unwrap().parts().len(), 2);
    assert_eq!(archives(&world.disk), [Path::new(PLACE)]);
}
