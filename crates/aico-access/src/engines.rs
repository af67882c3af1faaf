//! What of a person's words may go to which server that runs models, and what went.
//!
//! A consent stands in the system's store, beside those to modules, and names the address it was
//! given for: a server that moved is another one. No archive holds it, so that a restore brings
//! back none that was withdrawn. What went out stands in the person's own store, where nobody
//! else reads it, goes with their export and is gone with them; it tells how much, and no word.

use aico_contracts::ids::PersonId;
use aico_store::{Migration, ModuleMigrations, StoreError};
use jiff::Timestamp;
use rusqlite::OptionalExtension as _;

use crate::home::Open;
use crate::{Home, HomeError};

/// Most notes of one person; the oldest go.
pub const EGRESS_MOST: u32 = 10_000;
/// Most notes of one page.
pub const EGRESS_PAGE: u32 = 200;

/// Consents, in the system's store.
pub(crate) const MIGRATIONS: ModuleMigrations = ModuleMigrations {
    module: "engines",
    migrations: &[Migration {
        version: 1,
        name: "consents to servers that run models",
        sql: "
            CREATE TABLE engine_consent (
                person      BLOB NOT NULL REFERENCES access_person (id) ON DELETE CASCADE,
                engine      TEXT NOT NULL,
                -- Host and port at the time; elsewhere it does not count.
                address     TEXT NOT NULL,
                agreed_ms   INTEGER NOT NULL,
                PRIMARY KEY (person, engine)
            ) STRICT;
        ",
    }],
};

/// What left this machine, in a person's own store.
pub const EGRESS_MIGRATIONS: ModuleMigrations = ModuleMigrations {
    module: "egress",
    migrations: &[Migration {
        version: 1,
        name: "what left this machine",
        sql: "
            CREATE TABLE egress_event (
                id          INTEGER PRIMARY KEY AUTOINCREMENT,
                at_ms       INTEGER NOT NULL,
                engine      TEXT NOT NULL,
                address     TEXT NOT NULL,
                model       TEXT NOT NULL,
                what        TEXT NOT NULL CHECK (what IN ('chat', 'embeddings')),
                bytes       INTEGER NOT NULL,
                -- As the other side counted them, once it did.
                tokens      INTEGER
            ) STRICT;
        ",
    }],
};

/// That a person's words may go to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConsent {
    /// The server, as the configuration names it.
    pub engine: String,
    /// Host and port for which it was given.
    pub address: String,
    /// When.
    pub agreed_at: Timestamp,
}

/// What is about to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEgress {
    /// The server, as the configuration names it.
    pub engine: String,
    /// Host and port.
    pub address: String,
    /// By the server's name for it.
    pub model: String,
    /// `chat` or `embeddings`.
    pub what: &'static str,
    /// Bytes of text and pictures.
    pub bytes: u64,
}

/// What left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Rises with time.
    pub id: i64,
    /// When it was about to be sent.
    pub at: Timestamp,
    /// The server, as the configuration named it.
    pub engine: String,
    /// Host and port.
    pub address: String,
    /// By the server's name for it.
    pub model: String,
    /// `chat` or `embeddings`.
    pub what: String,
    /// Bytes of text and pictures.
    pub bytes: u64,
    /// As the server counted them; `None`: it did not tell, or did not answer to the end.
    pub tokens: Option<u32>,
}

impl Home {
    /// What this person agreed to, by the servers' names.
    ///
    /// # Errors
    /// While locked.
    pub async fn engine_consents(&self, person: PersonId) -> Result<Vec<EngineConsent>, HomeError> {
        let open = self.opened()?;
        let rows = open
            .system
            .read(move |db| {
                let mut query = db.prepare(
                    "SELECT engine, address, agreed_ms FROM engine_consent WHERE person = ?1
                     ORDER BY engine",
                )?;
                let rows = query.query_map([person.as_bytes()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?;
                Ok(rows.collect::<Result<Vec<(String, String, i64)>, _>>()?)
            })
            .await?;
        let consent = |(engine, address, agreed)| EngineConsent {
            engine,
            address,
            agreed_at: Timestamp::from_millisecond(agreed).unwrap_or(Timestamp::UNIX_EPOCH),
        };
        Ok(rows.into_iter().map(consent).collect())
    }

    /// Lets a person's words go to a server at this address.
    ///
    /// # Errors
    /// While locked; an unknown person; a full disk.
    pub async fn allow_engine(
        &self,
        person: PersonId,
        engine: &str,
        address: &str,
    ) -> Result<(), HomeError> {
        let open = self.opened()?;
        self.known(&open, person).await?;
        let (engine, address) = (engine.to_owned(), address.to_owned());
        let now = Timestamp::now().as_millisecond();
        open.system
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO engine_consent (person, engine, address, agreed_ms)
                     VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (person, engine) DO UPDATE
                     SET address = excluded.address, agreed_ms = excluded.agreed_ms",
                    rusqlite::params![person.as_bytes(), engine, address, now],
                )
                .map_err(StoreError::from)
            })
            .await?;
        Ok(())
    }

    /// Lets them go there no longer, from the next question on. A server that is not configured
    /// any more can be named too.
    ///
    /// # Errors
    /// [`HomeError::NotFound`] when there was no consent; while locked; a full disk.
    pub async fn forbid_engine(&self, person: PersonId, engine: &str) -> Result<(), HomeError> {
        let open = self.opened()?;
        let engine = engine.to_owned();
        let removed = open
            .system
            .write(move |tx| {
                tx.execute(
                    "DELETE FROM engine_consent WHERE person = ?1 AND engine = ?2",
                    rusqlite::params![person.as_bytes(), engine],
                )
                .map_err(StoreError::from)
            })
            .await?;
        match removed {
            0 => Err(HomeError::NotFound),
            _ => Ok(()),
        }
    }

    /// Whether this person's words may go to this server at this address.
    ///
    /// # Errors
    /// While locked.
    pub async fn allows_engine(
        &self,
        person: PersonId,
        engine: &str,
        address: &str,
    ) -> Result<bool, HomeError> {
        let open = self.opened()?;
        allows(&open, person, engine, address).await
    }

    /// Notes what is about to leave, for a person who agreed; durable when it returns.
    ///
    /// # Errors
    /// [`HomeError::NotFound`] without consent; when the person's store can't be opened or
    /// written: then nothing may be sent.
    pub async fn note_egress(&self, person: PersonId, out: NewEgress) -> Result<i64, HomeError> {
        let open = self.opened()?;
        let store = self.store_of(person).await?;
        if !allows(&open, person, &out.engine, &out.address).await? {
            return Err(HomeError::NotFound);
        }
        let now = Timestamp::now().as_millisecond();
        let bytes = i64::try_from(out.bytes).unwrap_or(i64::MAX);
        let id = store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO egress_event (at_ms, engine, address, model, what, bytes)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    rusqlite::params![now, out.engine, out.address, out.model, out.what, bytes],
                )?;
                let id = tx.last_insert_rowid();
                tx.execute(
                    "DELETE FROM egress_event WHERE id <= ?1",
                    [id - i64::from(EGRESS_MOST)],
                )?;
                Ok(id)
            })
            .await?;
        Ok(id)
    }

    /// Adds what the server counted of it.
    ///
    /// # Errors
    /// When the person's store can't be written; the note itself stands.
    pub async fn settle_egress(
        &self,
        person: PersonId,
        id: i64,
        tokens: u32,
    ) -> Result<(), HomeError> {
        let store = self.store_of(person).await?;
        store
            .write(move |tx| {
                tx.execute(
                    "UPDATE egress_event SET tokens = ?2 WHERE id = ?1",
                    [id, i64::from(tokens)],
                )
                .map_err(StoreError::from)
            })
            .await?;
        Ok(())
    }

    /// What left for this person, the newest first: up to [`EGRESS_PAGE`], those before `before`.
    ///
    /// # Errors
    /// While locked; a sealed person who is not signed in.
    pub async fn egress(
        &self,
        person: PersonId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Egress>, HomeError> {
        let store = self.store_of(person).await?;
        let before = before.unwrap_or(i64::MAX);
        let limit = limit.clamp(1, EGRESS_PAGE);
        let rows = store
            .read(move |db| {
                let mut query = db.prepare(
                    "SELECT id, at_ms, engine, address, model, what, bytes, tokens
                     FROM egress_event WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
                )?;
                let rows = query.query_map([before, i64::from(limit)], |row| {
                    let at = Timestamp::from_millisecond(row.get(1)?);
                    Ok(Egress {
                        id: row.get(0)?,
                        at: at.unwrap_or(Timestamp::UNIX_EPOCH),
                        engine: row.get(2)?,
                        address: row.get(3)?,
                        model: row.get(4)?,
                        what: row.get(5)?,
                        bytes: row.get::<_, i64>(6)?.unsigned_abs(),
                        tokens: row.get(7)?,
                    })
                })?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?)
            })
            .await?;
        Ok(rows)
    }
}

async fn allows(
    open: &Open,
    person: PersonId,
    engine: &str,
    address: &str,
) -> Result<bool, HomeError> {
    let (engine, address) = (engine.to_owned(), address.to_owned());
    let found = open
        .system
        .read(move |db| {
            let sql = "SELECT 1 FROM engine_consent
                       WHERE person = ?1 AND engine = ?2 AND address = ?3";
            let named = rusqlite::params![person.as_bytes(), engine, address];
            Ok(db.query_row(sql, named, |_| Ok(())).optional()?)
        })
        .await?;
    Ok(found.is_some())
}
