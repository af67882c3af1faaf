//! A journal of version 1 stays here and opens.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_bus::{Followed, Journal, Meta, Queue, Retention, Start};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::SessionEnded;
use aico_vault::{KdfCost, Vault};

use crate::common::{bus, id, soon};
use crate::durable::{TOPIC, password};

const PERSON: &str = "0190a000-0000-7000-8000-000000000001";

fn stored() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-v1")
}

/// A private copy: what is checked out is readable by others.
fn copy(from: &Path, to: &Path) {
    let private = |path: &Path, mode| {
        #[cfg(unix)]
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        #[cfg(not(unix))]
        let _ = (path, mode);
    };
    fs::create_dir(to).unwrap();
    private(to, 0o700);
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
            private(&target, 0o600);
        }
    }
}

fn said(word: &str) -> SessionEnded {
    SessionEnded {
        sessions: vec![word.as_bytes().to_vec()],
    }
}

fn person_topic() -> String {
    topics::conversation_event(PERSON.parse::<PersonId>().unwrap(), "answer-done")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_of_version_1_still_opens_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("home");
    copy(&stored(), &data);
    let vault = Vault::unlock_with(&data, &password(), KdfCost::minimum()).unwrap();
    let retention = Retention::new(3650, 1000);
    let journal = Journal::open(Arc::new(vault), &data.join("journal"), retention).unwrap();
    let bus = bus();
    bus.attach_journal(&journal);
    let client = bus.join(id("companion"));
    let fourth = client.publish_durably(TOPIC, &said("four"), Meta::new());
    assert_eq!(soon(fourth.unwrap()).await.unwrap().place.sequence, 4);
    let mut follower = client
        .follow("#", Start::First, Queue::default())
        .await
        .unwrap();
    for (sequence, topic, word) in [
        (1, TOPIC, "one"),
        (2, person_topic().as_str(), "two"),
        (3, TOPIC, "three"),
        (4, TOPIC, "four"),
    ] {
        let Some(Followed::Message(envelope)) = soon(follower.recv()).await.unwrap() else {
            panic!("message {sequence} is missing");
        };
        assert_eq!((envelope.sequence, &*envelope.topic), (sequence, topic));
        assert_eq!(envelope.sender, "companion");
        assert!(aico_bus::decode::<SessionEnded>(&envelope).unwrap() == said(word));
    }
    bus.detach_journal();
    tokio::task::spawn_blocking(|| journal.close().unwrap())
        .await
        .unwrap();
}

#[tokio::test]
#[ignore = "writes a new fixture into AICO_JOURNAL_FIXTURE when a version is added"]
async fn write_fixture() {
    let Some(data) = std::env::var_os("AICO_JOURNAL_FIXTURE").map(PathBuf::from) else {
        return;
    };
    let (vault, _) = Vault::create_with(&data, &password(), KdfCost::minimum()).unwrap();
    let person: PersonId = PERSON.parse().unwrap();
    vault
        .create_person(*person.as_bytes(), &password())
        .unwrap();
    // Two openings, so that there are two segments.
    for words in [&["one", "two"][..], &["three"]] {
        let folder = data.join("journal");
        let retention = Retention::new(3650, 1000);
        let journal = Journal::open(Arc::new(vault.clone()), &folder, retention).unwrap();
        let bus = bus();
        bus.attach_journal(&journal);
        for word in words {
            let topic = match *word {
                "two" => person_topic(),
                _ => TOPIC.to_owned(),
            };
            let client = bus.join(id("companion"));
            let pending = client.publish_durably(&topic, &said(word), Meta::new());
            pending.unwrap().await.unwrap();
        }
        journal.close().unwrap();
    }
}
