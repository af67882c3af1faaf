//! What belongs to persons: sealed under their keys, gone with them, refused while locked.

use aico_vault::Registry;
use aico_vault::append::{BodyKey, LogKey};
use aico_vault::fs::Filesystem;
use aico_vault::fs::faulty::Faulty;
use parking_lot::Mutex;

use super::*;
use crate::journal::disk::Why;
use crate::journal::keys::NoBodyKey;

/// A vault in which a person can be locked. (A keyring without a wrap for the daemon comes with
/// sealed persons.)
struct Locking {
    vault: Vault,
    locked: Mutex<Option<PersonId>>,
}

impl JournalKeys for Locking {
    fn file_key(&self, file: [u8; 16]) -> LogKey {
        JournalKeys::file_key(&self.vault, file)
    }

    fn body_key(&self, person: PersonId, segment: &[u8; 32]) -> Result<BodyKey, NoBodyKey> {
        if *self.locked.lock() == Some(person) {
            return Err(NoBodyKey::Locked);
        }
        self.vault.body_key(person, segment)
    }

    fn registry(&self) -> &Registry {
        self.vault.registry()
    }

    fn filesystem(&self) -> Arc<dyn Filesystem> {
        self.vault.filesystem()
    }
}

#[test]
fn erasing_a_persons_key_reaches_the_journal_and_only_theirs() {
    let fs = Faulty::new();
    let vault = make_vault(&fs);
    let (one, other) = (add_person(&vault), add_person(&vault));
    let mut store = open(&vault);
    for (number, person) in [(1, Some(one)), (2, Some(other)), (3, None), (4, Some(one))] {
        keep(&mut store, message(number, person, 50)).unwrap();
    }
    assert_eq!(read(&store).kept.len(), 4);
    vault.erase_person(*one.as_bytes()).unwrap();
    store.forget(one);
    let gone = keep(&mut store, message(5, Some(one), 50));
    assert_eq!(gone, Err(JournalFault::PersonGone));
    for store in [store, open(&vault)] {
        let seen = read(&store);
        assert_eq!(seen.kept, [(2, 2, 50), (3, 3, 50)]);
        assert_eq!(seen.skipped, []);
    }
    let mut store = open(&vault);
    let gone = keep(&mut store, message(5, Some(one), 50));
    assert_eq!(gone, Err(JournalFault::PersonGone));
}

#[test]
fn a_locked_persons_message_is_refused_and_not_shown() {
    let fs = Faulty::new();
    let vault = make_vault(&fs);
    let person = add_person(&vault);
    let keys = Arc::new(Locking {
        vault,
        locked: Mutex::new(None),
    });
    let mut store = open_with(keys.clone()).unwrap();
    for (number, person) in [(1, None), (2, Some(person)), (3, Some(person)), (4, None)] {
        keep(&mut store, message(number, person, 50)).unwrap();
    }
    store.close().unwrap();
    *keys.locked.lock() = Some(person);
    let mut store = open_with(keys.clone()).unwrap();
    let batch = [message(5, Some(person), 50), message(6, None, 50)];
    let outcomes = store.commit(&batch, false).outcomes;
    assert_eq!(outcomes[0], Err(JournalFault::PersonLocked));
    assert!(outcomes[1].is_ok());
    let seen = read(&store);
    assert_eq!(seen.kept, [(1, 1, 50), (4, 4, 50), (5, 6, 50)]);
    assert_eq!(seen.skipped.len(), 1);
    assert_eq!(
        (seen.skipped[0].why, seen.skipped[0].missed),
        (Why::Locked, 2)
    );
    *keys.locked.lock() = None;
    assert_eq!(read(&store).kept.len(), 5);
}

#[test]
fn neither_a_body_nor_a_topic_stands_in_a_file() {
    let fs = Faulty::new();
    let vault = make_vault(&fs);
    let person = add_person(&vault);
    let mut store = open(&vault);
    let mut told = message(1, Some(person), 0);
    told.body = Bytes::from_static(b"Zanzibar, said in confidence");
    keep(&mut store, told).unwrap();
    let path = store.folder.path_of(&store.current.name);
    let bytes = fs.read(&path).unwrap();
    for word in [
        &b"Zanzibar"[..],
        b"conversation",
        b"companion",
        person.as_bytes(),
    ] {
        assert!(bytes.windows(word.len()).all(|window| window != word));
    }
    // And under the system's key alone the body is still sealed.
    let mut reader = store.folder.reader(&store.current.name).unwrap();
    let record = reader.next_record().unwrap().unwrap();
    assert!(
        record
            .data
            .windows(12)
            .any(|window| window == b"conversation")
    );
    assert!(record.data.windows(8).all(|window| window != b"Zanzibar"));
}
