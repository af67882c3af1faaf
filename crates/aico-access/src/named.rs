//! Named tokens: by which a person's other programs act for them.
//!
//! A token is 32 random bytes, told once and kept nowhere; its SHA-256 is stored, which for a
//! random token of that length can't be reversed and needs no slow hash. It is not signed: there
//! is nothing in it that could be believed without the row. The rows are mirrored in memory, as
//! those of sessions are: written before they are mirrored, removed from the mirror before they
//! are deleted.
//!
//! Locking keeps them: they are worth nothing while locked and go on afterwards. A new password
//! keeps them too. Erasing a person takes theirs with them, and a restore empties the table.

use std::collections::HashMap;

use aico_contracts::ids::{PersonId, TokenId};
use aico_store::{Store, StoreError};
use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;
use tokio::sync::broadcast;
use zeroize::Zeroizing;

use crate::home::Open;
use crate::{Home, HomeError, PersonName, Principal};

/// How every named token begins: whoever finds one in a file knows what it is.
pub const NAMED_TOKEN_PREFIX: &str = "aico_";
/// Days until a token expires when nobody said how many.
pub const TOKEN_DAYS: u32 = 90;
/// The most days.
pub const TOKEN_DAYS_MOST: u32 = 365;
/// Named tokens of one person, expired ones included.
pub const TOKENS_MOST: usize = 64;
/// An expired token stays in the list for so long, so that one sees why a program stopped.
const SHOWN_EXPIRED: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Bytes of a token before they are written.
const SECRET: usize = 32;
const HOUR_MS: i64 = 3_600_000;

type Hash = [u8; 32];

/// A named token as it is listed.
#[derive(Clone)]
pub struct NamedToken {
    /// Names it.
    pub id: TokenId,
    /// For whom it acts.
    pub person: PersonId,
    /// What it was called, 1 to 64 characters. Personal, so there is no Debug.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// It counts until then.
    pub expires_at: Timestamp,
    /// The hour in which it was used last.
    pub used_at: Option<Timestamp>,
}

/// A new token.
pub struct NewToken {
    /// The bearer token. A secret: it is kept nowhere.
    pub token: Zeroizing<String>,
    /// As it is listed from now on.
    pub about: NamedToken,
}

/// The mirror of the rows.
pub(crate) struct NamedTokens {
    rows: RwLock<HashMap<Hash, NamedToken>>,
}

impl NamedTokens {
    /// Reads the rows; those that expired long ago are deleted.
    pub(crate) async fn load(system: &Store) -> Result<Self, HomeError> {
        let old = (Timestamp::now() - SHOWN_EXPIRED).as_millisecond();
        let rows = system
            .write(move |tx| {
                tx.execute("DELETE FROM access_token WHERE expires_ms <= ?1", [old])?;
                let mut query = tx.prepare(
                    "SELECT hash, id, person, name, created_ms, expires_ms, used_ms
                     FROM access_token",
                )?;
                let rows = query.query_map([], |row| {
                    Ok((
                        row.get::<_, Vec<u8>>(0)?,
                        row.get::<_, Vec<u8>>(1)?,
                        row.get::<_, Vec<u8>>(2)?,
                        row.get::<_, String>(3)?,
                        (row.get::<_, i64>(4)?, row.get::<_, i64>(5)?),
                        row.get::<_, Option<i64>>(6)?,
                    ))
                })?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?)
            })
            .await?;
        let rows =
            rows.into_iter()
                .filter_map(|(hash, id, person, name, (created, expires), used)| {
                    let token = NamedToken {
                        id: TokenId::from_slice(&id).ok()?,
                        person: PersonId::from_slice(&person).ok()?,
                        name,
                        created_at: Timestamp::from_millisecond(created).ok()?,
                        expires_at: Timestamp::from_millisecond(expires).ok()?,
                        used_at: used.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
                    };
                    Some((hash.try_into().ok()?, token))
                });
        Ok(Self {
            rows: RwLock::new(rows.collect()),
        })
    }

    fn of(&self, person: PersonId) -> Vec<NamedToken> {
        let rows = self.rows.read();
        let mut all: Vec<_> = rows
            .values()
            .filter(|t| t.person == person)
            .cloned()
            .collect();
        all.sort_by_key(|token| token.id);
        all
    }

    /// Notes a use; tells the hour when it is another than the one that is stored.
    fn touch(&self, hash: &Hash, now: Timestamp) -> Option<i64> {
        let hour = now.as_millisecond().div_euclid(HOUR_MS) * HOUR_MS;
        let hour_at = Timestamp::from_millisecond(hour).ok()?;
        if self.rows.read().get(hash)?.used_at == Some(hour_at) {
            return None;
        }
        self.rows.write().get_mut(hash)?.used_at = Some(hour_at);
        Some(hour)
    }
}

fn hash(token: &str) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"aico named token v1\0");
    context.update(token.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

impl Home {
    /// Makes a named token for a person, for 1 to [`TOKEN_DAYS_MOST`] days (whatever is asked
    /// for is brought within).
    ///
    /// # Errors
    /// Unfit or taken name, or too many tokens.
    pub async fn create_token(
        &self,
        person: PersonId,
        name: &str,
        days: u32,
    ) -> Result<NewToken, HomeError> {
        let open = self.opened()?;
        let name = PersonName::new(name)?;
        if open.named.of(person).len() >= TOKENS_MOST {
            return Err(HomeError::TooManyTokens);
        }
        let mut secret = Zeroizing::new([0; SECRET]);
        SystemRandom::new()
            .fill(secret.as_mut_slice())
            .map_err(|_| HomeError::Crypto)?;
        let written = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret.as_slice()));
        let token = Zeroizing::new(format!("{NAMED_TOKEN_PREFIX}{}", written.as_str()));
        let hash = hash(&token);
        let now = Timestamp::now();
        let hours = i64::from(days.clamp(1, TOKEN_DAYS_MOST)) * 24;
        let about = NamedToken {
            id: TokenId::new(),
            person,
            name: name.as_str().to_owned(),
            created_at: now,
            expires_at: now + SignedDuration::from_hours(hours),
            used_at: None,
        };
        let (row, name_key) = (about.clone(), name.key());
        let added = open
            .system
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO access_token
                         (id, person, name, name_key, hash, created_ms, expires_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                     ON CONFLICT (person, name_key) DO NOTHING",
                    rusqlite::params![
                        row.id.as_bytes(),
                        row.person.as_bytes(),
                        row.name,
                        name_key,
                        hash,
                        row.created_at.as_millisecond(),
                        row.expires_at.as_millisecond(),
                    ],
                )
                .map_err(StoreError::from)
            })
            .await?;
        if added == 0 {
            return Err(HomeError::TokenExists);
        }
        open.named.rows.write().insert(hash, about.clone());
        // Erased meanwhile: the row went with the person, and this must too.
        if let Err(error) = self.known(&open, person).await {
            open.named.rows.write().remove(&hash);
            return Err(error);
        }
        Ok(NewToken { token, about })
    }

    /// A person's named tokens, oldest first; for a while also those that have expired.
    ///
    /// # Errors
    /// While locked.
    pub async fn tokens(&self, person: PersonId) -> Result<Vec<NamedToken>, HomeError> {
        Ok(self.opened()?.named.of(person))
    }

    /// A named token that counts now.
    #[must_use]
    pub fn named_token(&self, id: TokenId) -> Option<NamedToken> {
        let open = self.opened().ok()?;
        let now = Timestamp::now();
        let rows = open.named.rows.read();
        let mut all = rows.values();
        all.find(|token| token.id == id && token.expires_at > now)
            .cloned()
    }

    /// Revokes one of a person's tokens, everywhere and at once.
    ///
    /// # Errors
    /// [`HomeError::NotFound`] when it is not theirs.
    pub async fn revoke_token(&self, person: PersonId, id: TokenId) -> Result<(), HomeError> {
        let open = self.opened()?;
        let known = {
            let mut rows = open.named.rows.write();
            let theirs = |token: &NamedToken| token.id == id && token.person == person;
            let found = rows.iter().find(|(_, token)| theirs(token));
            let hash = found.map(|(hash, _)| *hash);
            hash.and_then(|hash| rows.remove(&hash)).is_some()
        };
        if known {
            // Nobody listening is fine: no request of it is under way.
            let _ = self.inner.revoked.send(id);
        }
        // Also where it is not known any more: the disk may have refused this the last time.
        let removed = open
            .system
            .write(move |tx| {
                let sql = "DELETE FROM access_token WHERE id = ?1 AND person = ?2";
                tx.execute(sql, [id.as_bytes(), person.as_bytes()])
                    .map_err(StoreError::from)
            })
            .await?;
        match known || removed > 0 {
            true => Ok(()),
            false => Err(HomeError::NotFound),
        }
    }

    /// For whom a program acts that shows this token. Its use is noted, to the hour.
    ///
    /// # Errors
    /// [`HomeError::TokenInvalid`] unless it is a named token of ours in its time.
    pub async fn authenticate_program(&self, token: &str) -> Result<Principal, HomeError> {
        let open = self.opened()?;
        let whole = NAMED_TOKEN_PREFIX.len() + SECRET.div_ceil(3) * 4 - 1;
        if token.len() != whole || !token.starts_with(NAMED_TOKEN_PREFIX) {
            return Err(HomeError::TokenInvalid);
        }
        let hash = hash(token);
        let now = Timestamp::now();
        let found = open.named.rows.read().get(&hash).cloned();
        let named = found
            .filter(|named| named.expires_at > now)
            .ok_or(HomeError::TokenInvalid)?;
        if let Some(hour) = open.named.touch(&hash, now) {
            note_use(&open, named.id, hour);
        }
        Ok(Principal::Program {
            person: named.person,
            role: open.role(named.person),
            token: named.id,
        })
    }

    /// Tells each named token that is revoked, or erased with its person.
    #[must_use]
    pub fn revoked_tokens(&self) -> broadcast::Receiver<TokenId> {
        self.inner.revoked.subscribe()
    }

    /// A person's tokens are worth nothing from now on; the rows are the caller's.
    pub(crate) fn forget_tokens(&self, open: &Open, person: PersonId) {
        let gone: Vec<_> = open.named.of(person).iter().map(|token| token.id).collect();
        open.named
            .rows
            .write()
            .retain(|_, token| token.person != person);
        for id in gone {
            let _ = self.inner.revoked.send(id);
        }
    }
}

/// Stores the hour of a use, beside the request: a full disk must not keep a program from
/// reading, and an hour that is lost is told again with the next.
fn note_use(open: &Open, id: TokenId, hour: i64) {
    let system = open.system.clone();
    tokio::spawn(async move {
        let noted = system
            .write(move |tx| {
                tx.execute(
                    "UPDATE access_token SET used_ms = ?2 WHERE id = ?1",
                    rusqlite::params![id.as_bytes(), hour],
                )
                .map_err(StoreError::from)
            })
            .await;
        if let Err(error) = noted {
            tracing::debug!(%error, "the use of a named token was not noted");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_an_hour() {
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        let row = NamedToken {
            id: TokenId::new(),
            person: PersonId::new(),
            name: "editor".into(),
            created_at: at(0),
            expires_at: at(i64::from(u32::MAX)),
            used_at: None,
        };
        let tokens = NamedTokens {
            rows: RwLock::new(HashMap::from([([1; 32], row)])),
        };
        let (hash, other) = ([1; 32], [2; 32]);
        assert_eq!(tokens.touch(&other, at(5)), None);
        assert_eq!(tokens.touch(&hash, at(HOUR_MS + 5)), Some(HOUR_MS));
        assert_eq!(tokens.touch(&hash, at(2 * HOUR_MS - 1)), None);
        assert_eq!(tokens.touch(&hash, at(2 * HOUR_MS)), Some(2 * HOUR_MS));
    }
}
