//! What leaves this machine.

use std::sync::{Arc, Mutex};

use aico_contracts::ids::PersonId;
use aico_models::backend::openai::{Server, ServerConfig};
use aico_models::backend::{Asker, Backend, BackendError, Guarded, Ledger, Outgoing, What};
use async_trait::async_trait;

use crate::double::{Act, Double, Key, STOP, text};
use crate::{Fixed, ask};

#[derive(Default)]
struct Book {
    agreed: Mutex<Vec<(PersonId, String)>>,
    full: Mutex<bool>,
    notes: Mutex<Vec<(PersonId, Outgoing, u32)>>,
}

#[async_trait]
impl Ledger for Book {
    async fn allows(
        &self,
        person: PersonId,
        engine: &str,
        address: &str,
    ) -> Result<bool, BackendError> {
        assert_eq!(engine, "lab");
        let agreed = self.agreed.lock().unwrap();
        Ok(agreed.contains(&(person, address.to_owned())))
    }

    async fn begin(&self, person: PersonId, out: &Outgoing) -> Result<i64, BackendError> {
        if !self.allows(person, &out.engine, &out.address).await? {
            return Err(BackendError::NotAllowed);
        }
        if *self.full.lock().unwrap() {
            return Err(BackendError::NotNoted);
        }
        let mut notes = self.notes.lock().unwrap();
        notes.push((person, out.clone(), 0));
        Ok(notes.len() as i64 - 1)
    }

    async fn end(&self, person: PersonId, note: i64, tokens: u32) {
        let mut notes = self.notes.lock().unwrap();
        let note = &mut notes[usize::try_from(note).unwrap()];
        assert_eq!(note.0, person);
        note.2 = tokens;
    }
}

#[tokio::test]
async fn nothing_leaves_without_the_persons_consent_and_a_note() {
    let double = Double::new().await;
    // Reached by a name, so it counts as another machine.
    let port = double.at.port();
    let config = ServerConfig {
        url: format!("http://nas.local:{port}"),
        unencrypted: true,
        resolver: Arc::new(Fixed(&["127.0.0.1"])),
        ..double.config()
    };
    let book = Arc::new(Book::default());
    let server = Arc::new(Server::new(config, Arc::new(Key(None))).unwrap());
    let guarded = Guarded::new(server, Arc::clone(&book) as Arc<dyn Ledger>);
    let (ann, ben) = (PersonId::new(), PersonId::new());
    let address = format!("nas.local:{port}");

    // Nobody agreed; nobody's words; another one agreed; it was agreed to another address.
    let elsewhere = "nas.local:1".to_owned();
    book.agreed.lock().unwrap().push((ann, elsewhere));
    book.agreed.lock().unwrap().push((ben, address.clone()));
    for asker in [Asker::of(ann), Asker::default()] {
        let (items, end) = ask(&guarded, asker).await;
        assert_eq!((items, end), (vec![], Err(BackendError::NotAllowed)));
        assert_eq!(guarded.permits(&asker).await, Err(BackendError::NotAllowed));
        let text = ["zebra".to_owned()];
        let embedded = guarded.embed(&asker, "e", &text).await;
        assert_eq!(embedded, Err(BackendError::NotAllowed));
    }
    assert!(double.asked().is_empty(), "something was sent");
    let fault = BackendError::NotAllowed.to_fault("lab");
    assert_eq!(fault.code, "engine-not-allowed");
    assert!(fault.what_to_do.contains("aico engine allow lab"));

    // With consent it goes, and is noted without a word of it.
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":1}}"#;
    double.says(&[&text("a"), STOP, usage, "[DONE]"]);
    let (items, end) = ask(&guarded, Asker::of(ben)).await;
    assert_eq!((items.len(), end.is_ok()), (1, true));
    {
        let notes = book.notes.lock().unwrap();
        let expected = Outgoing {
            engine: "lab".into(),
            address: address.clone(),
            model: "m".into(),
            what: What::Chat,
            bytes: "Hello, zebra".len() as u64,
        };
        assert_eq!(*notes, [(ben, expected, 4)]);
    }
    // A failure is noted too: the words went out.
    double.then(Act::Close);
    let (_, end) = ask(&guarded, Asker::of(ben)).await;
    assert_eq!(end, Err(BackendError::CutOff));
    assert_eq!(book.notes.lock().unwrap().len(), 2);
    assert_eq!(guarded.seen().unwrap().outcome, Err(BackendError::CutOff));

    // What can't be noted is not sent.
    *book.full.lock().unwrap() = true;
    let before = double.asked().len();
    let (_, end) = ask(&guarded, Asker::of(ben)).await;
    assert_eq!(end, Err(BackendError::NotNoted));
    *book.full.lock().unwrap() = false;

    // Withdrawn: the next question does not go.
    book.agreed.lock().unwrap().clear();
    let (_, end) = ask(&guarded, Asker::of(ben)).await;
    assert_eq!(end, Err(BackendError::NotAllowed));
    assert_eq!(double.asked().len(), before);
}

#[tokio::test]
async fn what_stays_on_this_machine_needs_no_consent_and_leaves_no_note() {
    let double = Double::new().await;
    double.says(&[&text("a"), STOP, "[DONE]"]);
    let book = Arc::new(Book::default());
    let server = Arc::new(double.server());
    let guarded = Guarded::new(server, Arc::clone(&book) as Arc<dyn Ledger>);
    assert_eq!(guarded.permits(&Asker::default()).await, Ok(()));
    let (items, end) = ask(&guarded, Asker::of(PersonId::new())).await;
    assert_eq!((items.len(), end.is_ok()), (1, true));
    assert!(book.notes.lock().unwrap().is_empty());
}
