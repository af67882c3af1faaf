//! What was said last on a branch, kept in the person's working memory: it stands between a
//! question and its answer.
//!
//! An entry says what the store said at one moment, and is stamped with the conversation's revision
//! of then. Triggers raise the revision with every change to its messages, whoever makes it
//! (`schema.rs`). The stamp is compared inside the transaction that stores the question, before
//! anything is changed there: an entry of another moment is not looked at, and the store is read.

use std::time::Duration;

use aico_contracts::ids::{ConversationId, MessageId};
use aico_contracts::v1;
use aico_store::{StoreError, WorkingMemory};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::messages;

/// The space in the working memory.
const SPACE: &str = "companion.recent";
/// A conversation that nobody goes on with for so long is read from the store.
const TTL: Duration = Duration::from_secs(12 * 60 * 60);

/// A moment of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stamp {
    /// The database's: a copy that took its place (a restore, another key) has another.
    pub(crate) generation: i64,
    /// Of the conversation's messages.
    pub(crate) revision: i64,
}

/// The moment a conversation is at.
pub(crate) fn stamp(
    db: &Connection,
    conversation: ConversationId,
) -> Result<Option<Stamp>, StoreError> {
    let mut query = db.prepare_cached(
        "SELECT i.generation, c.revision FROM companion_conversation c, store_identity i
         WHERE c.id = ?1",
    )?;
    let found = query.query_row(params![conversation.as_bytes()], |row| {
        Ok(Stamp {
            generation: row.get(0)?,
            revision: row.get(1)?,
        })
    });
    Ok(found.optional()?)
}

/// The newest messages of a branch, as [`messages::history`] tells them.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Recent {
    #[prost(int64, tag = "1")]
    generation: i64,
    #[prost(int64, tag = "2")]
    revision: i64,
    /// At most so many were asked for.
    #[prost(uint32, tag = "3")]
    most: u32,
    /// From the older to the newer; each is the parent of the next.
    #[prost(message, repeated, tag = "4")]
    messages: Vec<v1::Message>,
}

impl Recent {
    /// What the store says now of the branch that ends here.
    pub(crate) fn read(
        db: &Connection,
        conversation: ConversationId,
        leaf: MessageId,
        most: u32,
    ) -> Result<Option<Self>, StoreError> {
        let Some(now) = stamp(db, conversation)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            generation: now.generation,
            revision: now.revision,
            most,
            messages: messages::history(db, leaf, most)?,
        }))
    }

    /// The newest messages that lead to `leaf`, at most `most`, when this moment is `now` and they
    /// are all here.
    pub(crate) fn up_to(
        &self,
        now: Option<Stamp>,
        leaf: Option<MessageId>,
        most: u32,
    ) -> Option<&[v1::Message]> {
        let then = Stamp {
            generation: self.generation,
            revision: self.revision,
        };
        if now != Some(then) {
            return None;
        }
        let Some(leaf) = leaf else {
            // Before the first message of a branch nothing was said.
            return Some(&[]);
        };
        let end = self
            .messages
            .iter()
            .position(|message| message.id == leaf.as_bytes())?
            + 1;
        // Without its beginning, a part of the branch is not the newest messages that lead there.
        let whole = self.messages.len() < usize::try_from(self.most).unwrap_or(usize::MAX);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if !whole && end < most {
            return None;
        }
        Some(&self.messages[end.saturating_sub(most)..end])
    }
}

/// What is remembered of a conversation.
pub(crate) async fn load(memory: &WorkingMemory, conversation: ConversationId) -> Option<Recent> {
    let bytes = memory.get(SPACE, conversation.as_bytes()).await?;
    Recent::decode(bytes.as_slice()).ok()
}

/// Remembers it in the place of what was remembered before.
pub(crate) async fn keep(memory: &WorkingMemory, conversation: ConversationId, recent: &Recent) {
    let bytes = recent.encode_to_vec();
    memory.put(SPACE, conversation.as_bytes(), bytes, TTL).await;
}

/// Forgets a conversation that was deleted.
pub(crate) async fn forget(memory: &WorkingMemory, conversation: ConversationId) {
    memory.forget(SPACE, conversation.as_bytes()).await;
}

#[cfg(test)]
mod tests {
    use aico_contracts::v1::{MessageStatus, Role, part::Content};
    use rusqlite::Transaction;

    use super::*;
    use crate::answer::By;
    use crate::conversations;
    use crate::messages::NewMessage;

    fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE store_identity (generation INTEGER NOT NULL);
             INSERT INTO store_identity VALUES (3);",
        )
        .unwrap();
        for migration in crate::MIGRATIONS.migrations {
            db.execute_batch(migration.sql).unwrap();
        }
        db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        db
    }

    fn begin(tx: &Transaction<'_>) -> ConversationId {
        let (conversation, _) = conversations::create(tx, "", "").unwrap();
        ConversationId::from_slice(&conversation.id).unwrap()
    }

    fn say(
        tx: &Transaction<'_>,
        conversation: ConversationId,
        parent: Option<MessageId>,
        role: Role,
        text: &str,
    ) -> MessageId {
        let id = MessageId::new();
        let new = NewMessage {
            id,
            conversation,
            parent,
            role,
            status: MessageStatus::Complete,
            text,
            origin_device: "",
        };
        messages::insert(tx, &new).unwrap();
        if role == Role::Assistant {
            messages::set_text(tx, id, &[Content::Text(text.into())]).unwrap();
        }
        id
    }

    fn revision(tx: &Transaction<'_>, conversation: ConversationId) -> i64 {
        stamp(tx, conversation).unwrap().unwrap().revision
    }

    #[test]
    fn every_change_to_a_message_is_another_revision() {
        let mut db = database();
        let tx = db.transaction().unwrap();
        let (one, other) = (begin(&tx), begin(&tx));
        let mut last = (revision(&tx, one), revision(&tx, other));
        let mut changed = |what: &str, tx: &Transaction<'_>| {
            let now = (revision(tx, one), revision(tx, other));
            assert!(now.0 > last.0, "{what}");
            assert_eq!(now.1, last.1, "another conversation's: {what}");
            last = now;
        };
        let first = say(&tx, one, None, Role::User, "a");
        changed("a message", &tx);
        let answer = say(&tx, one, Some(first), Role::Assistant, "b");
        changed("an answer", &tx);
        messages::set_text(&tx, answer, &[Content::Text("c".into())]).unwrap();
        changed("its text, by the way that a checkpoint takes", &tx);
        messages::finish(
            &tx,
            one,
            answer,
            MessageStatus::Failed,
            &[],
            &By::default(),
            None,
        )
        .unwrap();
        changed("its end", &tx);
        for (what, sql) in [
            (
                "any column",
                "UPDATE companion_message SET fault_code = 'too-long' WHERE id = ?1",
            ),
            (
                "a part",
                "INSERT INTO companion_part VALUES (?1, 7, 'text', 'x')",
            ),
            (
                "a part's text",
                "UPDATE companion_part SET text = 'y' WHERE message = ?1",
            ),
            ("no part", "DELETE FROM companion_part WHERE message = ?1"),
            ("no message", "DELETE FROM companion_message WHERE id = ?1"),
        ] {
            tx.execute(sql, [answer.as_bytes()]).unwrap();
            changed(what, &tx);
        }
    }

    #[test]
    fn what_does_not_touch_messages_is_no_other_revision() {
        let mut db = database();
        let tx = db.transaction().unwrap();
        let one = begin(&tx);
        let first = say(&tx, one, None, Role::User, "a");
        let before = revision(&tx, one);
        conversations::update(&tx, one, Some("A title"), None, None).unwrap();
        conversations::set_leaf(&tx, one, first).unwrap();
        conversations::touch(&tx, one).unwrap();
        assert_eq!(revision(&tx, one), before);
    }

    #[test]
    fn a_conversation_that_is_gone_has_no_moment() {
        let mut db = database();
        let tx = db.transaction().unwrap();
        let one = begin(&tx);
        let leaf = say(&tx, one, None, Role::User, "a");
        let recent = Recent::read(&tx, one, leaf, 10).unwrap().unwrap();
        conversations::delete(&tx, one).unwrap();
        let now = stamp(&tx, one).unwrap();
        assert_eq!(now, None);
        assert!(recent.up_to(now, Some(leaf), 10).is_none());
        assert!(Recent::read(&tx, one, leaf, 10).unwrap().is_none());
    }

    /// Whatever is asked of it, it answers what the store answers, or nothing.
    #[test]
    fn it_says_what_the_store_says_or_nothing() {
        let mut db = database();
        let tx = db.transaction().unwrap();
        let one = begin(&tx);
        let (mut parent, mut all) = (None, Vec::new());
        for index in 0..12 {
            let role = if index % 2 == 0 {
                Role::User
            } else {
                Role::Assistant
            };
            let id = say(&tx, one, parent, role, &index.to_string());
            // Another branch beside each.
            say(&tx, one, parent, role, "beside");
            all.push(id);
            parent = Some(id);
        }
        let mut answered = 0;
        for kept in 1..15 {
            let recent = Recent::read(&tx, one, all[11], kept).unwrap().unwrap();
            let recent = Recent::decode(recent.encode_to_vec().as_slice()).unwrap();
            let now = stamp(&tx, one).unwrap();
            for leaf in &all {
                for most in 1..15 {
                    let Some(said) = recent.up_to(now, Some(*leaf), most) else {
                        continue;
                    };
                    answered += 1;
                    assert_eq!(said, messages::history(&tx, *leaf, most).unwrap());
                }
            }
            assert!(
                recent.up_to(now, Some(all[11]), kept).is_some(),
                "what it was made for"
            );
            assert!(recent.up_to(now, Some(MessageId::new()), 5).is_none());
            assert_eq!(recent.up_to(now, None, 5), Some(&[][..]));
        }
        assert!(answered > 100, "{answered}");
    }

    #[test]
    fn an_entry_of_another_moment_is_not_looked_at() {
        let mut db = database();
        let tx = db.transaction().unwrap();
        let one = begin(&tx);
        let first = say(&tx, one, None, Role::User, "a");
        let recent = Recent::read(&tx, one, first, 10).unwrap().unwrap();
        let now = stamp(&tx, one).unwrap();
        assert!(recent.up_to(now, Some(first), 10).is_some());
        messages::set_text(&tx, first, &[Content::Text("worded anew".into())]).unwrap();
        let later = stamp(&tx, one).unwrap();
        assert!(recent.up_to(later, Some(first), 10).is_none());
        assert!(recent.up_to(None, Some(first), 10).is_none());
        tx.execute("UPDATE store_identity SET generation = 4", [])
            .unwrap();
        let elsewhere = Stamp {
            generation: 4,
            ..now.unwrap()
        };
        assert!(recent.up_to(Some(elsewhere), Some(first), 10).is_none());
    }
}
