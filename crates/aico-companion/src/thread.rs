//! Where a program goes on that keeps the conversation itself and tells all of it each time.
//!
//! What was said up to the end of an answer has a key: a hash chained over its turns. The key of
//! each answer that such a program got is kept beside the answer, so that the same words find it
//! again. Programs trim and pad what they were given, so white space at the ends does not count.
//! Two conversations that were word for word the same have one key; the newer one has it.

use aico_contracts::ids::{ConversationId, MessageId};
use aico_contracts::v1::{self, Role};
use aico_store::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use sha2::{Digest as _, Sha256};

/// The key of all that was said so far.
pub(crate) type Key = [u8; 32];

/// Before anything was said.
pub(crate) const BEGINNING: Key = [0; 32];

/// The key after one more turn.
pub(crate) fn after(before: &Key, role: Role, text: &str) -> Key {
    let mut hasher = Sha256::new();
    hasher.update(before);
    hasher.update([u8::from(role == Role::Assistant)]);
    hasher.update(text.trim());
    hasher.finalize().into()
}

/// The key after each of the turns.
pub(crate) fn keys(turns: &[v1::Said]) -> Vec<Key> {
    let mut key = BEGINNING;
    let next = |turn: &v1::Said| {
        key = after(&key, turn.role(), &turn.text);
        key
    };
    turns.iter().map(next).collect()
}

/// The answer that has this key.
pub(crate) fn find(
    db: &Connection,
    key: &Key,
) -> Result<Option<(ConversationId, MessageId)>, StoreError> {
    let found = db
        .query_row(
            "SELECT m.conversation, m.id FROM companion_thread t
             JOIN companion_message m ON m.id = t.message WHERE t.key = ?1",
            [key],
            |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)),
        )
        .optional()?;
    Ok(found.and_then(|(conversation, message)| {
        let conversation = ConversationId::from_slice(&conversation).ok()?;
        Some((conversation, MessageId::from_slice(&message).ok()?))
    }))
}

/// Notes the key of an answer.
pub(crate) fn note(tx: &Transaction<'_>, key: &Key, message: MessageId) -> Result<(), StoreError> {
    tx.execute(
        "INSERT OR REPLACE INTO companion_thread (key, message) VALUES (?1, ?2)",
        params![key, message.as_bytes()],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: Role, text: &str) -> v1::Said {
        v1::Said {
            role: role.into(),
            text: text.into(),
        }
    }

    #[test]
    fn the_same_words_have_the_same_key_and_others_another() {
        let all = |turns: &[(Role, &str)]| {
            let turns: Vec<_> = turns.iter().map(|(role, text)| said(*role, text)).collect();
            keys(&turns).pop().unwrap_or(BEGINNING)
        };
        use Role::{Assistant, User};
        let known = all(&[(User, "Hello"), (Assistant, "Hi! ")]);
        assert_eq!(known, all(&[(User, " Hello"), (Assistant, "Hi!")]));
        for other in [
            &[(User, "Hello")][..],
            &[(User, "Hello"), (User, "Hi!")],
            &[(Assistant, "Hello"), (Assistant, "Hi!")],
            &[(User, "Hell"), (Assistant, "oHi!")],
            &[(User, "Hello"), (Assistant, "Hi"), (Assistant, "!")],
            &[],
        ] {
            assert_ne!(known, all(other));
        }
    }
}
