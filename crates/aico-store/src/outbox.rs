//! Events that must not be lost: written in the same transaction as the fact they tell of,
//! published after the commit, removed when the bus has taken them.
//!
//! Delivery is at least once: a crash between publishing and [`Store::mark_published`] publishes
//! again, under the same id.

use rusqlite::{Transaction, params};

use crate::{error::StoreError, schema, store::Store};

/// An event that waits to be published. It carries what people wrote, hence no `Debug`.
pub struct OutboxEvent {
    /// The event's id, by which receivers drop a repetition.
    pub id: [u8; 16],
    /// The topic.
    pub topic: String,
    /// The name of the payload's message type.
    pub payload_type: String,
    /// The encoded payload.
    pub payload: Vec<u8>,
    /// When it was written, in milliseconds since 1970.
    pub created_at_ms: i64,
}

/// Adds an event to the outbox, inside the transaction that writes the fact.
///
/// # Errors
/// [`StoreError::Constraint`] when the id is already waiting.
pub fn enqueue(
    tx: &Transaction<'_>,
    topic: &str,
    payload_type: &str,
    payload: &[u8],
    id: [u8; 16],
) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT INTO outbox (id, topic, payload_type, payload, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![id, topic, payload_type, payload, schema::now_ms()])?;
    Ok(())
}

impl Store {
    /// The events that wait, oldest first, at most `limit`. They stay until
    /// [`Self::mark_published`]. [`Self::commits`] tells when to look.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub async fn drain_outbox(&self, limit: usize) -> Result<Vec<OutboxEvent>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(move |db| {
            let mut statement = db.prepare_cached(
                "SELECT id, topic, payload_type, payload, created_at
                 FROM outbox ORDER BY position LIMIT ?1",
            )?;
            let events = statement.query_map([limit], |row| {
                Ok(OutboxEvent {
                    id: row.get(0)?,
                    topic: row.get(1)?,
                    payload_type: row.get(2)?,
                    payload: row.get(3)?,
                    created_at_ms: row.get(4)?,
                })
            })?;
            Ok(events.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Removes events that were published. Ids that are not there are no error.
    ///
    /// # Errors
    /// Those of [`Self::write`].
    pub async fn mark_published(&self, ids: Vec<[u8; 16]>) -> Result<(), StoreError> {
        self.write(move |tx| {
            let mut statement = tx.prepare_cached("DELETE FROM outbox WHERE id = ?1")?;
            for id in &ids {
                statement.execute([id])?;
            }
            Ok(())
        })
        .await
    }
}
