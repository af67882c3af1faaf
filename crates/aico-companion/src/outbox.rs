//! From a person's outbox to the bus: each event once and in order while this process lives.
//!
//! That an event was published is noted by a commit of its own, which nobody waits for: an answer
//! must not begin later because of it. Until it is noted the event still lies there, so what was
//! published is remembered here.

use std::collections::HashSet;
use std::sync::Arc;

use aico_bus::{Client, Meta};
use aico_contracts::ids::PersonId;
use aico_contracts::topics::event;
use aico_contracts::v1;
use aico_store::Store;
use prost::Message as _;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use crate::answer::publish;

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
            let mut ids = Vec::with_capacity(entries.len());
            for entry in entries {
                if published.insert(entry.id) {
                    publish_entry(bus, person, &entry.topic, &entry.payload);
                    ids.push(entry.id);
                }
            }
            drop(published);
            let noted = tasks.spawn(Arc::clone(&self).note(store.clone(), ids));
            // More may lie behind these, and is seen when these are gone.
            if !full || !noted.await.unwrap_or(false) {
                return;
            }
        }
    }

    /// Notes that these were published; tells whether it could.
    async fn note(self: Arc<Self>, store: Store, ids: Vec<[u8; 16]>) -> bool {
        if ids.is_empty() {
            return false;
        }
        let noted = store.mark_published(ids.clone()).await;
        if let Err(error) = &noted {
            tracing::warn!(error = %error, "published events could not be marked");
        }
        // Those that could not be noted are published again, as after a crash: receivers know
        // them by their ids.
        let mut published = self.published.lock().await;
        for id in &ids {
            published.remove(id);
        }
        noted.is_ok()
    }
}

/// The outbox holds kinds, not topics: the person is whose store it is.
fn publish_entry(bus: &Client, person: PersonId, kind: &str, payload: &[u8]) {
    macro_rules! send {
        ($type:ty) => {
            match <$type>::decode(payload) {
                Ok(message) => publish(bus, person, kind, &message, Meta::new()),
                Err(_) => tracing::error!(kind, "a stored event can't be read"),
            }
        };
    }
    match kind {
        event::MESSAGE_CREATED => send!(v1::MessageCreated),
        event::CONVERSATION_CREATED | event::CONVERSATION_UPDATED => {
            send!(v1::ConversationChanged)
        }
        event::CONVERSATION_DELETED => send!(v1::ConversationDeleted),
        _ => tracing::error!(kind, "a stored event is of an unknown kind"),
    }
}
