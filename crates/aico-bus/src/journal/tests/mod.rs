//! The journal held against what it promises: kills, power cuts, full disks, damage.

mod damage;
mod model;
mod persons;
mod rekeyed;
mod tails;

use std::path::Path;
use std::sync::Arc;

use aico_contracts::ids::PersonId;
use aico_vault::fs::Filesystem;
use aico_vault::fs::faulty::Faulty;
use aico_vault::{KdfCost, Password, Vault};
use bytes::Bytes;
use prost::Message as _;

use super::disk::{DiskReader, Item, Skipped};
use super::error::{JournalError, JournalFault};
use super::files::Folder;
use super::keys::JournalKeys;
use super::message::{Message, Place, Receipt};
use super::shared::Shared;
use super::store::Store;
use super::tail::Wanted;

pub(super) const TOPIC: &str = "system.session.ended";
pub(super) const NOW: u64 = 1_800_000_000;

pub(super) fn data() -> &'static Path {
    Path::new("/home")
}

pub(super) fn password() -> Password {
    Password::new("velvet harbour moss lantern").unwrap()
}

pub(super) fn make_vault(fs: &Faulty) -> Vault {
    let fs: Arc<dyn Filesystem> = Arc::new(fs.clone());
    Vault::create_on(fs, data(), &password(), KdfCost::minimum())
        .unwrap()
        .0
}

pub(super) fn open_vault(fs: &Faulty) -> Vault {
    let fs: Arc<dyn Filesystem> = Arc::new(fs.clone());
    Vault::unlock_password_on(fs, data(), &password(), KdfCost::minimum()).unwrap()
}

pub(super) fn add_person(vault: &Vault) -> PersonId {
    let person = PersonId::new();
    let own = Password::new("their own long password").unwrap();
    vault.create_person(*person.as_bytes(), &own).unwrap();
    person
}

pub(super) fn open_with(keys: Arc<dyn JournalKeys>) -> Result<Store, JournalError> {
    Store::open(Folder::open(keys, &data().join("journal"))?, NOW)
}

pub(super) fn open(vault: &Vault) -> Store {
    open_with(Arc::new(vault.clone())).unwrap()
}

/// A message with this number as its id and text, `len` bytes long or somewhat more.
pub(super) fn message(number: u64, person: Option<PersonId>, len: usize) -> Message {
    let envelope = aico_contracts::v1::Envelope {
        id: Bytes::copy_from_slice(&id(number)),
        topic: match person {
            Some(person) => format!("conversation.{person}.event.answer-done").into(),
            None => TOPIC.into(),
        },
        person: person.map_or_else(Bytes::new, |person| {
            Bytes::copy_from_slice(person.as_bytes())
        }),
        payload_type: "aico.v1.Empty".into(),
        payload: Bytes::from(vec![number as u8; len]),
        ..Default::default()
    };
    Message::new(&"companion".into(), person, &envelope, None).unwrap()
}

pub(super) fn id(number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

pub(super) fn number(id: &[u8]) -> u64 {
    u64::from_be_bytes(id[8..].try_into().unwrap())
}

/// Commits one and gives its sequence.
pub(super) fn keep(store: &mut Store, message: Message) -> Result<u64, JournalFault> {
    let outcome = store.commit(&[message], false).outcomes.remove(0);
    outcome.map(|receipt: Receipt| receipt.place.sequence)
}

/// What can be read: sequence, number and length of the payload.
pub(super) struct Seen {
    pub(super) kept: Vec<(u64, u64, usize)>,
    pub(super) skipped: Vec<Skipped>,
}

pub(super) fn all() -> Wanted {
    Wanted {
        pattern: "#".parse().unwrap(),
        sees: Box::new(|_| true),
    }
}

/// Everything from the first message on, off the disk.
pub(super) fn read(store: &Store) -> Seen {
    read_from(store, 1)
}

pub(super) fn read_from(store: &Store, from: u64) -> Seen {
    let shared = Arc::new(Shared::new(store));
    let mut reader = DiskReader::new(shared);
    let mut seen = Seen {
        kept: Vec::new(),
        skipped: Vec::new(),
    };
    let mut next = from;
    while next <= store.last {
        let stretch = reader.read(next, store.last, &all()).unwrap();
        assert!(stretch.next > next, "it goes on");
        next = stretch.next;
        for item in stretch.items {
            match item {
                Item::Skipped(skipped) => seen.skipped.push(skipped),
                Item::Kept(kept) => {
                    let envelope = &kept.parcel.envelope;
                    assert_eq!(envelope.sequence, kept.place.sequence);
                    assert_eq!(envelope.epoch.as_ref(), kept.place.epoch);
                    assert_eq!(envelope.sender, "companion");
                    let decoded = aico_contracts::v1::Envelope::decode(kept.parcel.encoded());
                    assert!(decoded.unwrap() == **envelope);
                    seen.kept.push((
                        kept.place.sequence,
                        number(&envelope.id),
                        envelope.payload.len(),
                    ));
                }
            }
        }
    }
    seen
}

pub(super) fn place(epoch: [u8; 16], sequence: u64) -> Place {
    Place { epoch, sequence }
}
