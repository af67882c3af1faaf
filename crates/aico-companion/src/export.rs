//! Conversations as Markdown, for whoever exports their data.

use aico_access::{PersonExport, TakeFile};
use aico_characters::{Format, export};
use aico_contracts::ids::{ConversationId, MessageId};
use aico_contracts::v1::{MessageStatus, Role, part::Content};
use aico_store::StoreError;
use jiff::Timestamp;
use rusqlite::Connection;

use crate::{character, characters, conversations, messages};

/// One file for each conversation, and one for each character of the person's own.
pub const EXPORT: PersonExport = PersonExport {
    module: "companion",
    write: write_all,
};

fn write_all(db: &Connection, write: TakeFile<'_>) -> Result<(), StoreError> {
    let mut query = db.prepare("SELECT id FROM companion_conversation ORDER BY created_ms, id")?;
    let ids = query
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<Vec<u8>>, _>>()?;
    for id in ids {
        let id = ConversationId::from_slice(&id).map_err(|_| StoreError::Conversion)?;
        let (name, text) = one(db, id)?;
        if !write(&name, &text) {
            return Ok(());
        }
    }
    for kept in characters::list(db)?.iter().filter(|kept| !kept.built_in) {
        let original = character::original();
        let card = export(&kept.character, None, Format::CardV3, original).bytes;
        let id = kept.id.get(24..).unwrap_or_default();
        let name = format!("characters/{}-{id}.json", words(&kept.character.name));
        if !write(&name, &String::from_utf8_lossy(&card)) {
            return Ok(());
        }
    }
    Ok(())
}

fn one(db: &Connection, id: ConversationId) -> Result<(String, String), StoreError> {
    let about = conversations::get(db, id)?;
    let begun = time(about.created_unix_ms);
    let title = if about.title.is_empty() {
        "Without a title"
    } else {
        &about.title
    };
    let character = characters::find(db, &about.character)?;
    let with = character.map_or(about.character, |kept| kept.character.name.clone());
    let mut text = format!("# {title}\n\n*Begun on {begun}, with {with}.*\n");
    let shown = match MessageId::from_slice(&about.active_leaf) {
        Ok(leaf) => messages::path(db, leaf)?,
        Err(_) => Vec::new(),
    };
    for message in &shown {
        let who = if message.role == Role::User as i32 {
            "You"
        } else {
            "AICO"
        };
        let ended = match MessageStatus::try_from(message.status) {
            Ok(MessageStatus::Complete) | Err(_) => "",
            Ok(_) => " (not finished)",
        };
        text.push_str(&format!(
            "\n**{who}**, {}{ended}\n",
            time(message.created_unix_ms)
        ));
        for part in &message.parts {
            match &part.content {
                Some(Content::Text(said)) => text.push_str(&format!("\n{said}\n")),
                Some(Content::Thinking(thought)) => {
                    for line in thought.lines() {
                        text.push_str(&format!("\n> {line}"));
                    }
                    text.push('\n');
                }
                None => {}
            }
        }
    }
    let sql = "SELECT count(*) FROM companion_message WHERE conversation = ?1";
    let all: i64 = db.query_row(sql, [id.as_bytes()], |row| row.get(0))?;
    let others = all.unsigned_abs().saturating_sub(shown.len() as u64);
    if others > 0 {
        text.push_str(&format!(
            "\n*{others} more in other branches: see `companion_message.jsonl` and \
             `companion_part.jsonl`.*\n"
        ));
    }
    Ok((file_name(about.created_unix_ms, title, id), text))
}

fn time(ms: u64) -> String {
    let at = i64::try_from(ms).map(Timestamp::from_millisecond);
    match at {
        Ok(Ok(at)) => at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        _ => "an unknown day".to_owned(),
    }
}

/// The day, some of the title, and the end of the id: no two are alike, and every system takes it.
fn file_name(created_ms: u64, title: &str, id: ConversationId) -> String {
    let day: String = time(created_ms).chars().take(10).collect();
    let id = id.uuid().simple().to_string();
    format!("conversations/{day}-{}-{}.md", words(title), &id[24..])
}

/// Some of a text, with nothing in it that means something in a path.
fn words(text: &str) -> String {
    let mut words = String::new();
    for letter in text.chars().take(60) {
        if letter.is_alphanumeric() {
            words.extend(letter.to_lowercase());
        } else if !words.is_empty() && !words.ends_with('-') {
            words.push('-');
        }
    }
    words.truncate(words.trim_end_matches('-').len());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_lead_nowhere_else() {
        let id = ConversationId::new();
        for title in ["../../etc/passwd", "a/b\\c:d", "", "…", "Tee um 5, Ärger?"] {
            let name = file_name(0, title, id);
            let rest = name.strip_prefix("conversations/").unwrap();
            assert!(
                !rest.contains(['/', '\\', ':']) && !rest.contains(".."),
                "{name}"
            );
            assert!(
                rest.starts_with("1970-01-01-") && rest.ends_with(".md"),
                "{name}"
            );
        }
    }
}
