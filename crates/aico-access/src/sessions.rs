//! Sessions: a token counts as long as its row exists.
//!
//! The rows are mirrored in memory, so that a request is checked without touching the disk; a
//! row is written before it is mirrored and removed from the mirror before it is deleted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aico_contracts::ids::{PersonId, SessionId};
use aico_store::{Store, StoreError};
use aico_vault::RecoveryPhrase;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use zeroize::Zeroizing;

use crate::{HomeError, Person};

/// Sessions of one person: more than anybody has devices; the oldest makes room.
const MOST_PER_PERSON: usize = 64;

/// A person's session as given to them once, with its token.
pub struct Session {
    /// The bearer token. A secret: it is kept nowhere.
    pub token: Zeroizing<String>,
    /// Names the session.
    pub id: SessionId,
    /// The token counts until then.
    pub expires_at: Timestamp,
    /// Who signed in.
    pub person: Person,
    /// A sealed person's key was changed with this, and with it their phrase: told this once.
    pub phrase: Option<RecoveryPhrase>,
    /// A change of a sealed person's keys still waits for [`crate::Home::sign_in_taking_phrase`].
    pub keys_wait: bool,
}

/// A session as it is listed.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Names the session.
    pub id: SessionId,
    /// Whose it is.
    pub person: PersonId,
    /// What signed in, as it described itself.
    pub client: String,
    /// When.
    pub created_at: Timestamp,
    /// The token counts until then.
    pub expires_at: Timestamp,
}

/// Where a password was typed.
#[derive(Clone, Debug)]
pub struct Source {
    /// What signs in, as it describes itself; shown in the list of sessions.
    pub client: String,
    /// Over the local socket: never kept waiting.
    pub local: bool,
}

impl From<&str> for Source {
    fn from(client: &str) -> Self {
        Self {
            client: client.to_owned(),
            local: false,
        }
    }
}

impl Source {
    /// The local socket.
    #[must_use]
    pub fn local() -> Self {
        Self {
            client: "this machine".to_owned(),
            local: true,
        }
    }

    /// A user agent is somebody else's text: bounded, and without control characters.
    pub(crate) fn shown(&self) -> String {
        self.client
            .chars()
            .filter(|c| !c.is_control())
            .take(120)
            .collect()
    }
}

pub(crate) struct Sessions {
    rows: RwLock<HashMap<SessionId, SessionInfo>>,
    /// Ended here, while the disk refused to hear of it: their rows go with the next that do.
    unended: Mutex<BTreeSet<SessionId>>,
    /// All have ended, and none is added any more.
    over: Arc<AtomicBool>,
    /// How often each person's password was changed since the unlocking.
    changes: Mutex<HashMap<PersonId, u64>>,
}

impl Sessions {
    /// Reads the rows; those that expired meanwhile are deleted.
    pub(crate) async fn load(system: &Store) -> Result<Self, HomeError> {
        let now = Timestamp::now().as_millisecond();
        let rows = system
            .write(move |tx| {
                tx.execute("DELETE FROM access_session WHERE expires_ms <= ?1", [now])?;
                let mut query = tx.prepare(
                    "SELECT id, person, client, created_ms, expires_ms FROM access_session",
                )?;
                let rows = query.query_map([], |row| {
                    Ok((
                        row.get::<_, Vec<u8>>(0)?,
                        row.get::<_, Vec<u8>>(1)?,
                        row.get::<_, String>(2)?,
                        row.get::<_, i64>(3)?,
                        row.get::<_, i64>(4)?,
                    ))
                })?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?)
            })
            .await?;
        let rows = rows
            .into_iter()
            .filter_map(|(id, person, client, created, expires)| {
                let info = SessionInfo {
                    id: SessionId::from_slice(&id).ok()?,
                    person: PersonId::from_slice(&person).ok()?,
                    client,
                    created_at: Timestamp::from_millisecond(created).ok()?,
                    expires_at: Timestamp::from_millisecond(expires).ok()?,
                };
                Some((info.id, info))
            });
        Ok(Self {
            rows: RwLock::new(rows.collect()),
            unended: Mutex::default(),
            over: Arc::default(),
            changes: Mutex::default(),
        })
    }

    /// How often this person's password was changed since the unlocking. Whoever proves themselves
    /// looks before; a session is kept only when it is the same afterwards.
    pub(crate) fn password_changes(&self, person: PersonId) -> u64 {
        self.changes.lock().get(&person).copied().unwrap_or(0)
    }

    pub(crate) fn password_changed(&self, person: PersonId) {
        *self.changes.lock().entry(person).or_default() += 1;
    }

    pub(crate) fn get(&self, id: SessionId, now: Timestamp) -> Option<SessionInfo> {
        self.rows
            .read()
            .get(&id)
            .filter(|s| s.expires_at > now)
            .cloned()
    }

    pub(crate) fn of(&self, person: PersonId) -> Vec<SessionInfo> {
        let mut all: Vec<_> = self
            .rows
            .read()
            .values()
            .filter(|s| s.person == person)
            .cloned()
            .collect();
        all.sort_by_key(|s| s.created_at);
        all
    }

    pub(crate) fn everyone(&self) -> Vec<SessionId> {
        self.rows.read().keys().copied().collect()
    }

    /// Adds a session; tells which of the person's had to make room.
    pub(crate) async fn add(
        &self,
        system: &Store,
        info: SessionInfo,
    ) -> Result<Vec<SessionId>, HomeError> {
        let row = info.clone();
        let over = Arc::clone(&self.over);
        system
            .write(move |tx| {
                // The rows are deleted by then, or right after this one: none may come behind.
                if over.load(Ordering::Acquire) {
                    return Err(StoreError::caller(HomeError::Locked));
                }
                tx.execute(
                    "INSERT INTO access_session (id, person, client, created_ms, expires_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                    rusqlite::params![
                        row.id.as_bytes(),
                        row.person.as_bytes(),
                        row.client,
                        row.created_at.as_millisecond(),
                        row.expires_at.as_millisecond(),
                    ],
                )?;
                Ok(())
            })
            .await?;
        let person = info.person;
        {
            let mut rows = self.rows.write();
            if self.over.load(Ordering::Acquire) {
                return Err(HomeError::Locked);
            }
            rows.insert(info.id, info);
        }
        let mine = self.of(person);
        let over = mine.len().saturating_sub(MOST_PER_PERSON);
        let ended: Vec<_> = mine.iter().take(over).map(|s| s.id).collect();
        self.end(system, &ended).await?;
        Ok(ended)
    }

    /// Ends sessions: at once in memory, then durably.
    pub(crate) async fn end(&self, system: &Store, ids: &[SessionId]) -> Result<(), HomeError> {
        {
            let mut rows = self.rows.write();
            for id in ids {
                rows.remove(id);
            }
        }
        // Noted before they are tried: it may be given up in the middle.
        let all = {
            let mut unended = self.unended.lock();
            unended.extend(ids);
            unended.clone()
        };
        if all.is_empty() {
            return Ok(());
        }
        let going = all.clone();
        system
            .write(move |tx| {
                let mut delete = tx.prepare("DELETE FROM access_session WHERE id = ?1")?;
                for id in going {
                    delete.execute([id.as_bytes()])?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        self.unended.lock().retain(|id| !all.contains(id));
        Ok(())
    }

    /// Ends all of them at once in memory, and lets none be added any more.
    pub(crate) fn end_for_good(&self) -> Vec<SessionId> {
        let mut rows = self.rows.write();
        self.over.store(true, Ordering::Release);
        rows.drain().map(|(id, _)| id).collect()
    }

    /// Whether all were ended for good.
    pub(crate) fn are_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Deletes all rows, also those of sessions that were being added.
    pub(crate) async fn delete_all(&self, system: &Store) -> Result<(), HomeError> {
        system
            .write(|tx| Ok(tx.execute("DELETE FROM access_session", []).map(drop)?))
            .await?;
        self.unended.lock().clear();
        Ok(())
    }

    /// Whether it was ended here, and the disk does not know it yet.
    pub(crate) fn is_unended(&self, id: SessionId) -> bool {
        self.unended.lock().contains(&id)
    }
}
