//! Rows of conversations: list, create, rename, delete, titles.

use aico_contracts::ids::{ConversationId, MessageId};
use aico_contracts::v1;
use aico_store::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::characters::Kept;
use crate::fault::{caller, unknown};
use crate::{characters, messages, search};

type Result<T> = std::result::Result<T, StoreError>;

const LONGEST_TITLE: usize = 120;
const PAGE: u32 = 50;
const LONGEST_PAGE: u32 = 200;

pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn row(row: &Row<'_>) -> rusqlite::Result<v1::Conversation> {
    Ok(v1::Conversation {
        id: row.get(0)?,
        title: row.get(1)?,
        character: row.get(2)?,
        created_unix_ms: row.get::<_, i64>(3)?.unsigned_abs(),
        updated_unix_ms: row.get::<_, i64>(4)?.unsigned_abs(),
        active_leaf: row.get::<_, Option<Vec<u8>>>(5)?.unwrap_or_default(),
    })
}

const COLUMNS: &str = "id, title, character, created_ms, updated_ms, active_leaf";

pub(crate) fn get(db: &Connection, id: ConversationId) -> Result<v1::Conversation> {
    let sql = format!("SELECT {COLUMNS} FROM companion_conversation WHERE id = ?1");
    let found = db.query_row(&sql, [id.as_bytes()], row).optional()?;
    found.ok_or_else(|| caller(unknown()))
}

/// Latest activity first. The cursor is time and id of the last item, so that a page stays right
/// while new conversations arrive.
pub(crate) fn list(db: &Connection, limit: u32, before: &str) -> Result<v1::ConversationList> {
    let limit = if limit == 0 {
        PAGE
    } else {
        limit.min(LONGEST_PAGE)
    };
    let (before_ms, before_id) = match before.split_once('.') {
        None if before.is_empty() => (i64::MAX, vec![0xff; 16]),
        Some((ms, id)) => {
            let ms = ms.parse::<i64>().ok();
            let id = id.parse::<ConversationId>().ok();
            ms.zip(id.map(|id| id.to_vec()))
                .ok_or_else(|| caller(v1::Fault::invalid("The cursor is malformed")))?
        }
        None => return Err(caller(v1::Fault::invalid("The cursor is malformed"))),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM companion_conversation
         WHERE (updated_ms, id) < (?1, ?2) ORDER BY updated_ms DESC, id DESC LIMIT ?3"
    );
    let mut query = db.prepare_cached(&sql)?;
    let rows = query.query_map(params![before_ms, before_id, limit + 1], row)?;
    let mut items = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).and_then(|last| {
        let id = ConversationId::from_slice(&last.id).ok()?;
        Some(format!("{}.{id}", last.updated_unix_ms))
    });
    Ok(v1::ConversationList {
        items,
        next: next.unwrap_or_default(),
    })
}

pub(crate) fn create(
    tx: &Transaction<'_>,
    title: &str,
    character: &str,
) -> Result<(v1::Conversation, Kept)> {
    let character = match character {
        "" => characters::chosen(tx)?,
        id => id.to_owned(),
    };
    let kept = characters::get(tx, &character)?;
    let title = clean_title(title);
    let (id, now) = (ConversationId::new(), now_ms());
    tx.execute(
        "INSERT INTO companion_conversation (id, title, titled, character, created_ms, updated_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        params![id.as_bytes(), title, !title.is_empty(), character, now],
    )?;
    search::index_title(tx, id, &title)?;
    Ok((get(tx, id)?, kept))
}

/// Changes what is set.
pub(crate) fn update(
    tx: &Transaction<'_>,
    id: ConversationId,
    title: Option<&str>,
    leaf: Option<MessageId>,
    character: Option<&str>,
) -> Result<v1::Conversation> {
    get(tx, id)?;
    if let Some(title) = title {
        let title = clean_title(title);
        if title.is_empty() {
            return Err(caller(v1::Fault::invalid(
                "A title needs at least one character",
            )));
        }
        tx.execute(
            "UPDATE companion_conversation SET title = ?2, titled = 1 WHERE id = ?1",
            params![id.as_bytes(), title],
        )?;
        search::replace_title(tx, id, &title)?;
    }
    if let Some(character) = character {
        characters::get(tx, character)?;
        tx.execute(
            "UPDATE companion_conversation SET character = ?2 WHERE id = ?1",
            params![id.as_bytes(), character],
        )?;
    }
    if let Some(message) = leaf {
        // Any message names its branch: what is shown ends at the newest leaf below it.
        let leaf = messages::newest_leaf(tx, id, message)?;
        set_leaf(tx, id, leaf)?;
    }
    get(tx, id)
}

pub(crate) fn set_leaf(tx: &Transaction<'_>, id: ConversationId, leaf: MessageId) -> Result<()> {
    tx.execute(
        "UPDATE companion_conversation SET active_leaf = ?2 WHERE id = ?1",
        params![id.as_bytes(), leaf.as_bytes()],
    )?;
    Ok(())
}

/// Something was said in it just now.
pub(crate) fn touch(tx: &Transaction<'_>, id: ConversationId) -> Result<()> {
    tx.execute(
        "UPDATE companion_conversation SET updated_ms = ?2 WHERE id = ?1",
        params![id.as_bytes(), now_ms()],
    )?;
    Ok(())
}

pub(crate) fn delete(tx: &Transaction<'_>, id: ConversationId) -> Result<()> {
    get(tx, id)?;
    search::forget(tx, id)?;
    tx.execute(
        "DELETE FROM companion_conversation WHERE id = ?1",
        [id.as_bytes()],
    )?;
    Ok(())
}

/// Until the person chooses a title, their first words are it.
pub(crate) fn title_from(tx: &Transaction<'_>, id: ConversationId, text: &str) -> Result<()> {
    let title = first_words(text);
    let changed = tx.execute(
        "UPDATE companion_conversation SET title = ?2 WHERE id = ?1 AND titled = 0 AND title = ''",
        params![id.as_bytes(), title],
    )?;
    if changed == 1 {
        search::index_title(tx, id, &title)?;
    }
    Ok(())
}

/// One line without control characters, bounded.
fn clean_title(title: &str) -> String {
    let line: String = title
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(LONGEST_TITLE).collect()
}

fn first_words(text: &str) -> String {
    const ENOUGH: usize = 48;
    let clean = clean_title(text);
    if clean.chars().count() <= ENOUGH {
        return clean;
    }
    let mut title = String::new();
    for word in clean.split(' ') {
        if !title.is_empty() && title.chars().count() + word.chars().count() >= ENOUGH {
            break;
        }
        if !title.is_empty() {
            title.push(' ');
        }
        title.push_str(word);
    }
    let mut title: String = title.chars().take(ENOUGH).collect();
    title.push('…');
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_bounded_line() {
        assert_eq!(clean_title("  a\n\tb \u{7} c "), "a b c");
        assert_eq!(clean_title(&"x".repeat(500)).chars().count(), LONGEST_TITLE);
    }

    #[test]
    fn first_words_end_between_words() {
        assert_eq!(first_words("Hello there"), "Hello there");
        let title = first_words("My name is Mia and I have a very small dog called Rex at home");
        assert_eq!(title, "My name is Mia and I have a very small dog…");
        assert_eq!(first_words(&"y".repeat(99)).chars().count(), 49);
    }
}
