//! Rows of characters: a person's own, and which one their new conversations get.

use std::sync::Arc;

use aico_characters::Character;
use aico_contracts::v1::{self, Fault};
use aico_store::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use uuid::Uuid;

use crate::character::{self, DEFAULT};
use crate::conversations::now_ms;
use crate::fault::caller;

type Result<T> = std::result::Result<T, StoreError>;

/// Most characters of one person.
const MOST: i64 = 500;
/// In the table of settings.
const CHOSEN: &str = "character";

/// One character with all that is stored of it.
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) built_in: bool,
    pub(crate) character: Arc<Character>,
    pub(crate) portrait: bool,
    pub(crate) updated_ms: u64,
}

impl Kept {
    pub(crate) fn to_message(&self, chosen: &str) -> v1::Character {
        let character = &self.character;
        v1::Character {
            id: self.id.clone(),
            name: character.name.clone(),
            description: short(&character.about, &character.description),
            built_in: self.built_in,
            chosen: self.id == chosen,
            models: character.models.clone(),
            portrait: self.portrait,
            tags: character.tags.clone(),
            creator: character.creator.clone(),
            updated_unix_ms: self.updated_ms,
        }
    }
}

/// A line to choose by.
fn short(about: &str, description: &str) -> String {
    const LONGEST: usize = 300;
    let text = match about.trim() {
        "" => description,
        about => about,
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    line.chars().take(LONGEST).chain(['…']).collect()
}

pub(crate) fn unknown() -> Fault {
    Fault::not_found("There is no such character")
        .with_what_to_do("See which there are: aico character list")
}

fn built_in(one: &character::BuiltIn) -> Kept {
    Kept {
        id: one.id.to_owned(),
        built_in: true,
        character: Arc::clone(&one.character),
        portrait: false,
        updated_ms: 0,
    }
}

/// Reads one row's text. What a newer AICO has written beside it is left alone.
fn read(body: &str) -> Result<Arc<Character>> {
    serde_json::from_str(body)
        .map(Arc::new)
        .map_err(|_| StoreError::Conversion)
}

/// Those that come along, then the person's own by name.
pub(crate) fn list(db: &Connection) -> Result<Vec<Kept>> {
    let mut all: Vec<Kept> = character::built_in().iter().map(built_in).collect();
    let mut query = db.prepare_cached(
        "SELECT id, body, portrait IS NOT NULL, updated_ms FROM companion_character
         ORDER BY name COLLATE NOCASE, id",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        all.push(Kept {
            id: row.get(0)?,
            built_in: false,
            character: read(&row.get::<_, String>(1)?)?,
            portrait: row.get(2)?,
            updated_ms: row.get::<_, i64>(3)?.unsigned_abs(),
        });
    }
    Ok(all)
}

pub(crate) fn find(db: &Connection, id: &str) -> Result<Option<Kept>> {
    if let Some(one) = character::find_built_in(id) {
        return Ok(Some(built_in(one)));
    }
    let found = db
        .query_row(
            "SELECT body, portrait IS NOT NULL, updated_ms FROM companion_character WHERE id = ?1",
            [id],
            |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, i64>(2)?)),
        )
        .optional()?;
    let Some((body, portrait, updated)) = found else {
        return Ok(None);
    };
    Ok(Some(Kept {
        id: id.to_owned(),
        built_in: false,
        character: read(&body)?,
        portrait,
        updated_ms: updated.unsigned_abs(),
    }))
}

pub(crate) fn get(db: &Connection, id: &str) -> Result<Kept> {
    find(db, id)?.ok_or_else(|| caller(unknown()))
}

pub(crate) fn portrait(db: &Connection, id: &str) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT portrait FROM companion_character WHERE id = ?1";
    let found = db.query_row(sql, [id], |row| row.get(0)).optional()?;
    Ok(found.flatten())
}

/// The one that new conversations get.
pub(crate) fn chosen(db: &Connection) -> Result<String> {
    let sql = "SELECT value FROM companion_setting WHERE name = ?1";
    let chosen: Option<String> = db.query_row(sql, [CHOSEN], |row| row.get(0)).optional()?;
    match chosen {
        Some(id) if find(db, &id)?.is_some() => Ok(id),
        _ => Ok(DEFAULT.to_owned()),
    }
}

pub(crate) fn choose(tx: &Transaction<'_>, id: &str) -> Result<()> {
    get(tx, id)?;
    tx.execute(
        "INSERT INTO companion_setting (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = ?2",
        [CHOSEN, id],
    )?;
    Ok(())
}

/// Stores a new one under a name that no other has.
pub(crate) fn add(
    tx: &Transaction<'_>,
    mut character: Character,
    portrait: Option<&[u8]>,
) -> Result<Kept> {
    let count: i64 = tx.query_row("SELECT count(*) FROM companion_character", [], |r| r.get(0))?;
    if count >= MOST {
        return Err(caller(
            Fault::conflict("There are too many characters")
                .with_detail(format!("You have {count} of your own; {MOST} is the most."))
                .with_what_to_do("Remove some: aico character remove NAME"),
        ));
    }
    character.name = free_name(tx, &character.name, "")?;
    let id = Uuid::now_v7().to_string();
    let now = now_ms();
    tx.execute(
        "INSERT INTO companion_character (id, name, body, portrait, created_ms, updated_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        params![id, character.name, written(&character)?, portrait, now],
    )?;
    get(tx, &id)
}

/// Changes one of the person's own. `portrait`: `Some(None)` takes it away.
pub(crate) fn change(
    tx: &Transaction<'_>,
    id: &str,
    mut character: Character,
    portrait: Option<Option<&[u8]>>,
) -> Result<Kept> {
    let before = get(tx, id)?;
    if before.built_in {
        return Err(caller(built_in_stays()));
    }
    character.name = free_name(tx, &character.name, id)?;
    tx.execute(
        "UPDATE companion_character SET name = ?2, body = ?3, updated_ms = ?4 WHERE id = ?1",
        params![id, character.name, written(&character)?, now_ms()],
    )?;
    if let Some(portrait) = portrait {
        tx.execute(
            "UPDATE companion_character SET portrait = ?2 WHERE id = ?1",
            params![id, portrait],
        )?;
    }
    get(tx, id)
}

fn built_in_stays() -> Fault {
    Fault::conflict("This character is part of AICO and stays as it is")
        .with_what_to_do("Make a copy of it, and change that.")
}

fn written(character: &Character) -> Result<String> {
    serde_json::to_string(character).map_err(|_| StoreError::Conversion)
}

/// The name, with a number behind it where another has it already.
fn free_name(db: &Connection, name: &str, id: &str) -> Result<String> {
    let mut query = db.prepare_cached("SELECT name FROM companion_character WHERE id <> ?1")?;
    let mut others = query
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    others.extend(
        character::built_in()
            .iter()
            .map(|one| one.character.name.clone()),
    );
    let taken = |name: &str| {
        let name = name.to_lowercase();
        others.iter().any(|other| other.to_lowercase() == name)
    };
    let mut free = name.to_owned();
    for number in 2.. {
        if !taken(&free) {
            break;
        }
        let short: String = name.chars().take(90).collect();
        free = format!("{} ({number})", short.trim_end());
    }
    Ok(free)
}

/// Removes one of the person's own. Its conversations go on with the one that comes along; tells
/// which.
pub(crate) fn remove(tx: &Transaction<'_>, id: &str) -> Result<Vec<Vec<u8>>> {
    if get(tx, id)?.built_in {
        return Err(caller(built_in_stays()));
    }
    let mut query = tx.prepare("SELECT id FROM companion_conversation WHERE character = ?1")?;
    let conversations = query
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<Vec<u8>>>>()?;
    tx.execute(
        "UPDATE companion_conversation SET character = ?2 WHERE character = ?1",
        [id, DEFAULT],
    )?;
    tx.execute("DELETE FROM companion_character WHERE id = ?1", [id])?;
    tx.execute(
        "DELETE FROM companion_setting WHERE name = ?1 AND value = ?2",
        [CHOSEN, id],
    )?;
    Ok(conversations)
}
