//! From a person's outbox to the bus: each event once and in order while this process lives.
//!
//! An event leaves the outbox when the bus's journal has it: whoever follows the journal gets it,
//! whatever happens to this process. That is noted by a commit of its own, which nobody waits for:
//! an answer must not begin later because of it. Until it is noted the event still lies there, so
//! what was published is remembered here.

use std::collections::HashSet;
use std::sync::Arc;

use aico_bus::{BusError, Client, JournalFault, Pending};
use aico_contracts::Payload;
use aico_contracts::ids::{MessageId, PersonId};
use aico_contracts::topics::event;
use aico_contracts::v1;
use aico_store::{OutboxEvent, Store, StoreError};
use prost::Message as _;
use rusqlite::Transaction;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::answer::publish_durably;

/// Events that are taken at once.
const MOST: usize = 256;

/// One person's.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Published, and not yet noted as such. Held while publishing, which keeps the order.
    published: Mutex<HashSet<[u8; 16]>>,
}

impl Outbox {
    /// Publishes everything that lies there and was not published. Returns before that is noted.
    pub(crate) async fn publish(
        self: Arc<Self>,
        bus: &Client,
        tasks: &TaskTracker,
        store: &Store,
        person: PersonId,
    ) {
        loop {
            let mut published = self.published.lock().await;
            let entries = match store.drain_outbox(MOST).await {
                Ok(entries) => entries,
                Err(error) => {
                    tracing::warn!(error = %error, "events could not be read for publishing");
                    return;
                }
            };
            let full = entries.len() == MOST;
            let mut sent = Vec::with_capacity(entries.len());
            for entry in entries {
                if published.insert(entry.id) {
                    sent.push((entry.id, publish_entry(bus, person, &entry)));
                }
            }
            drop(published);
            let noted = tasks.spawn(Arc::clone(&self).note(store.clone(), sent));
            // More may lie behind these, and is seen when these are gone.
            if !full || !noted.await.unwrap_or(false) {
                return;
            }
        }
    }

    /// Notes that these were published, once they are in the journal; tells whether it could.
    async fn note(self: Arc<Self>, store: Store, sent: Vec<([u8; 16], Option<Pending>)>) -> bool {
        let (mut kept, mut ids) = (Vec::with_capacity(sent.len()), Vec::new());
        for (id, pending) in sent {
            ids.push(id);
            match pending {
                None => kept.push(id),
                Some(pending) => match pending.await {
                    Ok(_) | Err(BusError::Journal(JournalFault::PersonGone)) => kept.push(id),
                    Err(error) => {
                        tracing::warn!(error = %error, "an event is not in the journal yet");
                    }
                },
            }
        }
        if ids.is_empty() {
            return false;
        }
        let all = kept.len() == ids.len();
        let noted = store.mark_published(kept).await;
        if let Err(error) = &noted {
            tracing::warn!(error = %error, "published events could not be marked");
        }
        // Those that are not in the journal or could not be noted are published again, as after a
        // crash: receivers know them by their ids.
        let mut published = self.published.lock().await;
        for id in &ids {
            published.remove(id);
        }
        all && noted.is_ok()
    }
}

/// Puts an event there, in the transaction that writes what it tells of.
pub(crate) fn put<M: Payload>(
    tx: &Transaction<'_>,
    kind: &str,
    message: &M,
) -> Result<(), StoreError> {
    let id = *MessageId::new().as_bytes();
    aico_store::enqueue(tx, kind, M::TYPE, &message.encode_to_vec(), id)
}

/// The outbox holds kinds, not topics: the person is whose store it is. Gives back what has to be
/// waited for before the event may leave the outbox.
fn publish_entry(bus: &Client, person: PersonId, entry: &OutboxEvent) -> Option<Pending> {
    let (kind, id) = (entry.topic.as_str(), Uuid::from_bytes(entry.id));
    macro_rules! send {
        ($type:ty) => {
            match <$type>::decode(entry.payload.as_slice()) {
                Ok(message) => publish_durably(bus, person, kind, &message, id),
                Err(_) => {
                    tracing::error!(kind, "a stored event can't be read");
                    None
                }
            }
        };
    }
    match kind {
        event::MESSAGE_CREATED => send!(v1::MessageCreated),
        event::ANSWER_DONE => send!(v1::AnswerDone),
        event::CONVERSATION_CREATED | event::CONVERSATION_UPDATED => {
            send!(v1::ConversationChanged)
        }
        event::CONVERSATION_DELETED => send!(v1::ConversationDeleted),
        _ => {
            tracing::error!(kind, "a stored event is of an unknown kind");
            None
        }
    }
}
