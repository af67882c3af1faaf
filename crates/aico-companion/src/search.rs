//! Full-text search over titles and messages (FTS5, in the person's encrypted store).

use aico_contracts::ids::{ConversationId, MessageId};
use aico_contracts::v1;
use aico_store::StoreError;
use rusqlite::{Connection, Transaction, params};

type Result<T> = std::result::Result<T, StoreError>;

const PAGE: u32 = 20;
const LONGEST_PAGE: u32 = 100;
/// Marks around hits in FTS5's snippet: characters that no text keeps (see [`plain`]).
const BEGIN: char = '\u{1}';
const END: char = '\u{2}';

/// The first title of a conversation; none is no words to be found.
pub(crate) fn index_title(tx: &Transaction<'_>, id: ConversationId, title: &str) -> Result<()> {
    if title.is_empty() {
        return Ok(());
    }
    tx.execute(
        "INSERT INTO companion_text (text, conversation, message) VALUES (?1, ?2, NULL)",
        params![plain(title), id.as_bytes()],
    )?;
    Ok(())
}

/// Another title. Looks through everything, for nothing but the text is indexed: only for what a
/// person does now and then.
pub(crate) fn replace_title(tx: &Transaction<'_>, id: ConversationId, title: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM companion_text WHERE conversation = ?1 AND message IS NULL",
        [id.as_bytes()],
    )?;
    index_title(tx, id, title)
}

/// The text of a message that is not indexed yet: whether it is would take a look through
/// everything, while others wait to write.
pub(crate) fn index_message(
    tx: &Transaction<'_>,
    conversation: ConversationId,
    message: MessageId,
    text: &str,
) -> Result<()> {
    tx.execute(
        "INSERT INTO companion_text (text, conversation, message) VALUES (?1, ?2, ?3)",
        params![plain(text), conversation.as_bytes(), message.as_bytes()],
    )?;
    Ok(())
}

pub(crate) fn forget(tx: &Transaction<'_>, id: ConversationId) -> Result<()> {
    tx.execute(
        "DELETE FROM companion_text WHERE conversation = ?1",
        [id.as_bytes()],
    )?;
    Ok(())
}

pub(crate) fn find(db: &Connection, query: &str, limit: u32) -> Result<v1::SearchResult> {
    let Some(matching) = expression(query) else {
        return Ok(v1::SearchResult::default());
    };
    let limit = if limit == 0 {
        PAGE
    } else {
        limit.min(LONGEST_PAGE)
    };
    let mut search = db.prepare_cached(
        "SELECT t.conversation, c.title, t.message,
                snippet(companion_text, 0, ?3, ?4, '…', 16),
                coalesce(m.created_ms, c.updated_ms)
         FROM companion_text t
         JOIN companion_conversation c ON c.id = t.conversation
         LEFT JOIN companion_message m ON m.id = t.message
         WHERE companion_text MATCH ?1
         ORDER BY rank LIMIT ?2",
    )?;
    let (begin, end) = (BEGIN.to_string(), END.to_string());
    let rows = search.query_map(params![matching, limit, begin, end], |row| {
        Ok(v1::SearchHit {
            conversation: row.get(0)?,
            title: row.get(1)?,
            message: row.get::<_, Option<Vec<u8>>>(2)?.unwrap_or_default(),
            snippet: pieces(&row.get::<_, String>(3)?),
            at_unix_ms: row.get::<_, i64>(4)?.unsigned_abs(),
        })
    })?;
    Ok(v1::SearchResult {
        items: rows.collect::<rusqlite::Result<_>>()?,
    })
}

/// Every word must occur; the last one may be the beginning of a word. Whatever a person types is
/// a word here: the query language of FTS5 is not offered.
fn expression(query: &str) -> Option<String> {
    let words: Vec<String> = query
        .split_whitespace()
        .take(16)
        .map(|word| plain(word).replace('"', ""))
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .map(|word| format!("\"{word}\""))
        .collect();
    (!words.is_empty()).then(|| format!("{}*", words.join(" ")))
}

/// Without NUL, which would end a text for SQLite, and without the marks.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c < '\u{9}' { ' ' } else { c })
        .collect()
}

fn pieces(marked: &str) -> Vec<v1::search_hit::Piece> {
    let mut pieces = Vec::new();
    for (hit, chunk) in marked
        .split([BEGIN, END])
        .enumerate()
        .map(|(i, c)| (i % 2 == 1, c))
    {
        if !chunk.is_empty() {
            pieces.push(v1::search_hit::Piece {
                text: chunk.to_owned(),
                hit,
            });
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aico_contracts::v1::{MessageStatus, Role};

    use super::*;
    use crate::conversations;
    use crate::messages::{self, NewMessage};

    fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        for migration in crate::MIGRATIONS.migrations {
            db.execute_batch(migration.sql).unwrap();
        }
        db
    }

    fn say(tx: &Transaction<'_>, conversation: ConversationId, text: &str) {
        let new = NewMessage {
            id: MessageId::new(),
            conversation,
            parent: None,
            role: Role::User,
            status: MessageStatus::Complete,
            text,
            origin_device: "",
        };
        messages::insert(tx, &new).unwrap();
        conversations::title_from(tx, conversation, text).unwrap();
    }

    #[test]
    fn the_present_title_is_found_and_no_other_one() {
        let mut db = database();
        let tx = db.transaction().unwrap();
        let (made, _) = conversations::create(&tx, "", "").unwrap();
        let id = ConversationId::from_slice(&made.id).unwrap();
        let found = |word: &str| find(&tx, word, 0).unwrap().items.len();
        say(&tx, id, "quince");
        say(&tx, id, "medlar");
        assert_eq!(found("quince"), 2, "the title and the message");
        assert_eq!(found("medlar"), 1);
        conversations::update(&tx, id, Some("Sorbus"), None, None).unwrap();
        assert_eq!(found("quince"), 1, "the message");
        assert_eq!(found("sorbus"), 1);
        conversations::update(&tx, id, Some("Cydonia"), None, None).unwrap();
        assert_eq!((found("sorbus"), found("cydonia")), (0, 1));
        conversations::delete(&tx, id).unwrap();
        assert_eq!(found("quince") + found("medlar") + found("cydonia"), 0);
    }

    #[test]
    fn what_is_said_costs_the_same_however_much_was_said_before() {
        let mut db = database();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let step = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        };
        db.progress_handler(1, Some(step)).unwrap();
        let tx = db.transaction().unwrap();
        // Steps of SQLite for a new conversation and its first words.
        let steps = || {
            let before = count.load(Ordering::Relaxed);
            let (made, _) = conversations::create(&tx, "", "").unwrap();
            let id = ConversationId::from_slice(&made.id).unwrap();
            say(&tx, id, "quince");
            (id, count.load(Ordering::Relaxed) - before)
        };
        let (id, few) = steps();
        for _ in 0..2000 {
            say(&tx, id, "medlar");
        }
        let (_, many) = steps();
        assert!(few > 0 && many < few + 1000, "{few} steps, then {many}");
    }

    #[test]
    fn what_is_typed_is_words() {
        assert_eq!(expression("red car").as_deref(), Some("\"red\" \"car\"*"));
        assert_eq!(
            expression("a\" OR b*").as_deref(),
            Some("\"a\" \"OR\" \"b*\"*")
        );
        assert_eq!(expression(" \" ( ").as_deref(), None);
        assert_eq!(expression(""), None);
    }

    #[test]
    fn snippets_come_in_pieces() {
        let found = pieces("a \u{1}b\u{2} c");
        let flat: Vec<_> = found.iter().map(|p| (p.text.as_str(), p.hit)).collect();
        assert_eq!(flat, [("a ", false), ("b", true), (" c", false)]);
    }
}
