//! Rows of messages: the tree, its branches, and the turns that lead to an answer.

use aico_contracts::ids::{ConversationId, MessageId};
use aico_contracts::topics::event;
use aico_contracts::v1::{self, MessageStatus, Role, part::Content};
use aico_store::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::answer::By;
use crate::conversations::now_ms;
use crate::fault::{caller, unknown};
use crate::{outbox, search};

type Result<T> = std::result::Result<T, StoreError>;

const COLUMNS: &str = "m.id, m.conversation, m.parent, m.role, m.status, m.created_ms, m.model, \
     m.origin_device, m.fault_code, m.fault_title, m.fault_detail, m.fault_todo, m.instead_of";

fn row(row: &Row<'_>) -> rusqlite::Result<v1::Message> {
    let code: String = row.get(8)?;
    let fault = (!code.is_empty()).then_some(v1::Fault {
        code,
        title: row.get(9)?,
        detail: row.get(10)?,
        what_to_do: row.get(11)?,
    });
    Ok(v1::Message {
        id: row.get(0)?,
        conversation: row.get(1)?,
        parent: row.get::<_, Option<Vec<u8>>>(2)?.unwrap_or_default(),
        role: row.get(3)?,
        status: row.get(4)?,
        created_unix_ms: row.get::<_, i64>(5)?.unsigned_abs(),
        model: row.get(6)?,
        origin_device: row.get(7)?,
        fault,
        instead_of: row.get(12)?,
        ..v1::Message::default()
    })
}

/// A message with its parts and siblings.
pub(crate) fn get(
    db: &Connection,
    conversation: ConversationId,
    id: MessageId,
) -> Result<v1::Message> {
    find(db, id)?
        .filter(|message| message.conversation == conversation.as_bytes())
        .ok_or_else(|| caller(unknown()))
}

/// A message of any of this person's conversations.
pub(crate) fn find(db: &Connection, id: MessageId) -> Result<Option<v1::Message>> {
    let sql = format!("SELECT {COLUMNS} FROM companion_message m WHERE m.id = ?1");
    let found = db.query_row(&sql, [id.as_bytes()], row).optional()?;
    found.map(|message| complete(db, message)).transpose()
}

fn complete(db: &Connection, mut message: v1::Message) -> Result<v1::Message> {
    message.parts = parts(db, &message.id)?;
    message.siblings = siblings(db, &message)?;
    Ok(message)
}

fn parts(db: &Connection, id: &[u8]) -> Result<Vec<v1::Part>> {
    let mut query = db.prepare_cached(
        "SELECT kind, text FROM companion_part WHERE message = ?1 ORDER BY position",
    )?;
    let rows = query.query_map([id], |row| {
        let (kind, text): (String, String) = (row.get(0)?, row.get(1)?);
        let content = if kind == "thinking" {
            Content::Thinking(text)
        } else {
            Content::Text(text)
        };
        Ok(v1::Part {
            content: Some(content),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn siblings(db: &Connection, message: &v1::Message) -> Result<Vec<Vec<u8>>> {
    let parent = (!message.parent.is_empty()).then_some(&message.parent);
    let mut query = db.prepare_cached(
        "SELECT id FROM companion_message WHERE conversation = ?1 AND parent IS ?2
         ORDER BY created_ms, id",
    )?;
    let rows = query.query_map(params![message.conversation, parent], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The first answer that a message got.
pub(crate) fn first_answer(db: &Connection, id: MessageId) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT id FROM companion_message WHERE parent = ?1 ORDER BY created_ms, id LIMIT 1";
    Ok(db
        .query_row(sql, [id.as_bytes()], |row| row.get(0))
        .optional()?)
}

/// From the root to this message.
pub(crate) fn path(db: &Connection, leaf: MessageId) -> Result<Vec<v1::Message>> {
    let sql = format!(
        "WITH RECURSIVE branch (id, depth) AS (
             SELECT ?1, 0
             UNION ALL
             SELECT m.parent, depth + 1 FROM companion_message m JOIN branch ON m.id = branch.id
             WHERE m.parent IS NOT NULL
         )
         SELECT {COLUMNS} FROM branch JOIN companion_message m ON m.id = branch.id
         ORDER BY depth DESC"
    );
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map([leaf.as_bytes()], row)?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    rows.into_iter()
        .map(|message| complete(db, message))
        .collect()
}

/// The newest messages of the path that ends here, at most so many, as [`turns`] needs them. One
/// query, for it stands between a question and its answer.
pub(crate) fn history(db: &Connection, leaf: MessageId, most: u32) -> Result<Vec<v1::Message>> {
    let mut query = db.prepare_cached(
        "WITH RECURSIVE branch (id, depth) AS (
             SELECT ?1, 0
             UNION ALL
             SELECT m.parent, depth + 1 FROM companion_message m JOIN branch ON m.id = branch.id
             WHERE m.parent IS NOT NULL AND depth + 1 < ?2
         )
         SELECT m.id, m.role, m.fault_code, p.text
         FROM branch
         JOIN companion_message m ON m.id = branch.id
         LEFT JOIN companion_part p ON p.message = m.id AND p.kind = 'text'
         ORDER BY depth DESC, p.position",
    )?;
    let mut rows = query.query(params![leaf.as_bytes(), most])?;
    let mut all: Vec<v1::Message> = Vec::new();
    while let Some(row) = rows.next()? {
        let id: Vec<u8> = row.get(0)?;
        if all.last().is_none_or(|last| last.id != id) {
            let code: String = row.get(2)?;
            all.push(v1::Message {
                id,
                role: row.get(1)?,
                fault: (!code.is_empty()).then(|| v1::Fault::new(code, "")),
                ..v1::Message::default()
            });
        }
        if let (Some(text), Some(message)) = (row.get::<_, Option<String>>(3)?, all.last_mut()) {
            message.parts.push(v1::Part {
                content: Some(Content::Text(text)),
            });
        }
    }
    Ok(all)
}

/// The newest message without children below (or at) this one.
pub(crate) fn newest_leaf(
    db: &Connection,
    conversation: ConversationId,
    from: MessageId,
) -> Result<MessageId> {
    get(db, conversation, from)?;
    let id: Vec<u8> = db.query_row(
        "WITH RECURSIVE below (id) AS (
             SELECT ?1
             UNION ALL
             SELECT m.id FROM companion_message m JOIN below ON m.parent = below.id
         )
         SELECT m.id FROM below JOIN companion_message m ON m.id = below.id
         WHERE NOT EXISTS (SELECT 1 FROM companion_message c WHERE c.parent = m.id)
         ORDER BY m.created_ms DESC, m.id DESC LIMIT 1",
        [from.as_bytes()],
        |row| row.get(0),
    )?;
    MessageId::from_slice(&id).map_err(|_| caller(unknown()))
}

pub(crate) struct NewMessage<'a> {
    pub(crate) id: MessageId,
    pub(crate) conversation: ConversationId,
    pub(crate) parent: Option<MessageId>,
    pub(crate) role: Role,
    pub(crate) status: MessageStatus,
    pub(crate) text: &'a str,
    pub(crate) origin_device: &'a str,
}

pub(crate) fn insert(tx: &Transaction<'_>, new: &NewMessage<'_>) -> Result<()> {
    tx.execute(
        "INSERT INTO companion_message
             (id, conversation, parent, role, status, created_ms, origin_device)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            new.id.as_bytes(),
            new.conversation.as_bytes(),
            new.parent.map(|parent| parent.to_vec()),
            new.role as i32,
            new.status as i32,
            now_ms(),
            new.origin_device
        ],
    )?;
    if new.role == Role::User {
        set_text(tx, new.id, &[Content::Text(new.text.to_owned())])?;
        search::index_message(tx, new.conversation, new.id, new.text)?;
    }
    Ok(())
}

/// Replaces the parts of a message.
pub(crate) fn set_text(tx: &Transaction<'_>, id: MessageId, parts: &[Content]) -> Result<()> {
    tx.execute(
        "DELETE FROM companion_part WHERE message = ?1",
        [id.as_bytes()],
    )?;
    for (position, content) in parts.iter().enumerate() {
        let (kind, text) = match content {
            Content::Text(text) => ("text", text),
            Content::Thinking(text) => ("thinking", text),
        };
        tx.execute(
            "INSERT INTO companion_part (message, position, kind, text) VALUES (?1, ?2, ?3, ?4)",
            params![
                id.as_bytes(),
                i64::try_from(position).unwrap_or(i64::MAX),
                kind,
                text
            ],
        )?;
    }
    Ok(())
}

/// Whether an answer still waits for its end; `None`: there is no such message.
pub(crate) fn is_unfinished(db: &Connection, id: MessageId) -> Result<Option<bool>> {
    let mut query = db.prepare_cached("SELECT status FROM companion_message WHERE id = ?1")?;
    let status = query.query_row([id.as_bytes()], |row| row.get::<_, i32>(0));
    let status = status.optional()?;
    Ok(status.map(|status| status == MessageStatus::Streaming as i32))
}

/// Stores how an answer ended, once: its text is searched for from then on.
pub(crate) fn finish(
    tx: &Transaction<'_>,
    conversation: ConversationId,
    id: MessageId,
    status: MessageStatus,
    parts: &[Content],
    by: &By,
    fault: Option<&v1::Fault>,
) -> Result<()> {
    let none = v1::Fault::default();
    let fault = fault.unwrap_or(&none);
    set_text(tx, id, parts)?;
    tx.execute(
        "UPDATE companion_message SET status = ?2, model = ?3, fault_code = ?4, fault_title = ?5,
             fault_detail = ?6, fault_todo = ?7, instead_of = ?8 WHERE id = ?1",
        params![
            id.as_bytes(),
            status as i32,
            by.model,
            fault.code,
            fault.title,
            fault.detail,
            fault.what_to_do,
            by.instead_of
        ],
    )?;
    let said: String = parts.iter().filter_map(spoken).collect();
    if !said.is_empty() {
        search::index_message(tx, conversation, id, &said)?;
    }
    Ok(())
}

/// Answers that have no end in the store.
pub(crate) fn unfinished(db: &Connection) -> Result<Vec<(ConversationId, MessageId)>> {
    // Spelled out, so that the partial index is used.
    const _: () = assert!(MessageStatus::Streaming as i32 == 2);
    let mut query =
        db.prepare_cached("SELECT conversation, id FROM companion_message WHERE status = 2")?;
    let rows = query.query_map([], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    let ids = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(ids
        .iter()
        .filter_map(|(conversation, id)| {
            let conversation = ConversationId::from_slice(conversation).ok()?;
            Some((conversation, MessageId::from_slice(id).ok()?))
        })
        .collect())
}

/// These will not be finished by anybody; their ends are told like any other's.
pub(crate) fn mark_interrupted(
    tx: &Transaction<'_>,
    ids: &[(ConversationId, MessageId)],
) -> Result<()> {
    let mut update = tx
        .prepare_cached("UPDATE companion_message SET status = ?1 WHERE id = ?2 AND status = ?3")?;
    for (conversation, id) in ids {
        update.execute(params![
            MessageStatus::Interrupted as i32,
            id.as_bytes(),
            MessageStatus::Streaming as i32
        ])?;
        let done = v1::AnswerDone {
            message: Some(get(tx, *conversation, *id)?),
            stats: None,
        };
        outbox::put(tx, event::ANSWER_DONE, &done)?;
    }
    Ok(())
}

pub(crate) fn spoken(content: &Content) -> Option<&str> {
    match content {
        Content::Text(text) => Some(text),
        Content::Thinking(_) => None,
    }
}

/// What was said on a branch, for the model: without thinking, without empty answers. An answer
/// that broke off is told as far as it came.
pub(crate) fn turns(path: &[v1::Message]) -> Vec<v1::Turn> {
    let mut turns: Vec<v1::Turn> = Vec::with_capacity(path.len());
    // The last turn without its newest message; `None`: that one is all of it.
    let mut before: Option<usize> = None;
    for message in path {
        let text: String = message
            .parts
            .iter()
            .filter_map(|p| p.content.as_ref().and_then(spoken))
            .collect();
        if text.is_empty() {
            // What no context can hold would keep every later question from being answered.
            if message
                .fault
                .as_ref()
                .is_some_and(|fault| fault.code == "too-long")
            {
                match (before.take(), turns.last_mut()) {
                    (Some(length), Some(last)) => last.text.truncate(length),
                    _ => drop(turns.pop()),
                }
            }
            continue;
        }
        let role = match message.role() {
            Role::Assistant => v1::turn::Role::Assistant,
            Role::User | Role::Unspecified => v1::turn::Role::User,
        };
        match turns.last_mut() {
            // Templates want the roles to alternate: after an answer that never began the
            // person's two messages are one turn.
            // The question to it was cut off: a template wants to begin with one.
            None if role == v1::turn::Role::Assistant => {}
            Some(last) if last.role() == role => {
                before = Some(last.text.len());
                last.text.push_str("\n\n");
                last.text.push_str(&text);
            }
            _ => {
                before = None;
                turns.push(v1::Turn {
                    role: role.into(),
                    text,
                    ..v1::Turn::default()
                });
            }
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: Role, content: Content) -> v1::Message {
        v1::Message {
            role: role.into(),
            parts: vec![v1::Part {
                content: Some(content),
            }],
            ..v1::Message::default()
        }
    }

    #[test]
    fn a_message_that_fits_no_context_is_left_out_of_what_follows() {
        let failed = v1::Message {
            role: Role::Assistant.into(),
            fault: Some(v1::Fault::too_long(
                "The message is too long for this model",
            )),
            ..v1::Message::default()
        };
        let long = said(Role::User, Content::Text("word ".repeat(10_000)));
        let hello = said(Role::User, Content::Text("Hello".into()));
        let told = |path: &[v1::Message]| -> Vec<String> {
            turns(path).into_iter().map(|turn| turn.text).collect()
        };
        let path = [long.clone(), failed.clone(), hello.clone()];
        assert_eq!(told(&path), ["Hello"]);
        // Those that are one turn with it, for their answers never began, stay.
        let cancelled = said(Role::Assistant, Content::Text(String::new()));
        let one = said(Role::User, Content::Text("One".into()));
        let path = [
            one,
            cancelled.clone(),
            hello.clone(),
            cancelled,
            long,
            failed,
            hello,
        ];
        assert_eq!(told(&path), ["One\n\nHello\n\nHello"]);
    }

    #[test]
    fn of_a_long_conversation_the_newest_messages_are_taken() {
        let mut db = Connection::open_in_memory().unwrap();
        for migration in crate::MIGRATIONS.migrations {
            db.execute_batch(migration.sql).unwrap();
        }
        let tx = db.transaction().unwrap();
        let (conversation, _) = crate::conversations::create(&tx, "", "").unwrap();
        let conversation = ConversationId::from_slice(&conversation.id).unwrap();
        let mut parent = None;
        for index in 0..10 {
            let id = MessageId::new();
            let new = NewMessage {
                id,
                conversation,
                parent,
                role: Role::User,
                status: MessageStatus::Complete,
                text: &index.to_string(),
                origin_device: "",
            };
            insert(&tx, &new).unwrap();
            parent = Some(id);
        }
        let said = |messages: Vec<v1::Message>| -> String {
            let contents = messages.iter().filter_map(|m| m.parts[0].content.as_ref());
            contents.filter_map(spoken).collect()
        };
        let leaf = parent.unwrap();
        assert_eq!(said(path(&tx, leaf).unwrap()), "0123456789");
        assert_eq!(said(history(&tx, leaf, 400).unwrap()), "0123456789");
        assert_eq!(said(history(&tx, leaf, 3).unwrap()), "789");
        assert_eq!(said(history(&tx, leaf, 1).unwrap()), "9");
    }

    #[test]
    fn turns_alternate_and_hold_no_thinking() {
        let mut answer = said(Role::Assistant, Content::Thinking("hm".into()));
        answer.parts.push(v1::Part {
            content: Some(Content::Text("Hi!".into())),
        });
        let path = [
            said(Role::Assistant, Content::Text("Cut off.".into())),
            said(Role::User, Content::Text("Hello".into())),
            answer,
            said(Role::User, Content::Text("One".into())),
            said(Role::Assistant, Content::Text(String::new())),
            said(Role::User, Content::Text("Two".into())),
        ];
        let turns = turns(&path);
        let flat: Vec<_> = turns.iter().map(|t| (t.role(), t.text.as_str())).collect();
        use v1::turn::Role::{Assistant, User};
        assert_eq!(
            flat,
            [(User, "Hello"), (Assistant, "Hi!"), (User, "One\n\nTwo")]
        );
    }
}
