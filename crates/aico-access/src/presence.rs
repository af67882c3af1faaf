//! Which of a person's sessions are connected, and when each was last: noted in their working
//! memory while a connection lasts, and over by itself when nobody says so any more.

use std::collections::HashMap;
use std::time::Duration;

use aico_contracts::ids::{PersonId, SessionId};
use jiff::Timestamp;

use crate::{Home, HomeError};

/// Connected now; noted again and again.
const CONNECTED: &str = "access.connected";
/// When it was connected last.
const SEEN: &str = "access.seen";
/// A connection that is not noted again for so long is over.
const CONNECTED_TTL: Duration = Duration::from_secs(75);
/// As long as a session lasts at most.
const SEEN_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Names the owner on the machine itself, who has no session there.
const LOCAL: &[u8] = b"local";

/// A session, or the owner on the machine itself, as far as it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// `None`: over the local socket.
    pub session: Option<SessionId>,
    /// Since when it is connected, if it is.
    pub since: Option<Timestamp>,
    /// When it was last connected; now, while it is.
    pub seen: Timestamp,
}

impl Home {
    /// How often a connection is noted again.
    pub const PRESENCE: Duration = Duration::from_secs(30);

    /// Notes that a session is connected since then. Whoever holds the connection says so again
    /// every [`Self::PRESENCE`].
    pub async fn note_connected(
        &self,
        person: PersonId,
        session: Option<SessionId>,
        since: Timestamp,
    ) {
        // Locked, or their key is not there: nobody is told of them either.
        let Ok(memory) = self.working_of(person).await else {
            return;
        };
        let since = since.as_millisecond().to_be_bytes().to_vec();
        let name = name(session);
        memory.put(CONNECTED, &name, since, CONNECTED_TTL).await;
    }

    /// Notes that the last connection of a session has ended.
    pub async fn note_gone(&self, person: PersonId, session: Option<SessionId>) {
        let Ok(memory) = self.working_of(person).await else {
            return;
        };
        let (name, now) = (name(session), Timestamp::now());
        memory.forget(CONNECTED, &name).await;
        let now = now.as_millisecond().to_be_bytes().to_vec();
        memory.put(SEEN, &name, now, SEEN_TTL).await;
    }

    /// Who of a person's sessions is there, and who was, those who are there first.
    ///
    /// # Errors
    /// While locked; a sealed person who has not signed in.
    pub async fn presence_of(&self, person: PersonId) -> Result<Vec<Presence>, HomeError> {
        let memory = self.working_of(person).await?;
        let mut all: HashMap<Option<SessionId>, Presence> = HashMap::new();
        for (name, value) in memory.all(SEEN).await {
            if let (Some(session), Some(seen)) = (session(&name), time(&value)) {
                let since = None;
                let one = Presence {
                    session,
                    since,
                    seen,
                };
                all.insert(session, one);
            }
        }
        let now = Timestamp::now();
        for (name, value) in memory.all(CONNECTED).await {
            if let (Some(session), Some(since)) = (session(&name), time(&value)) {
                let one = Presence {
                    session,
                    since: Some(since),
                    seen: now,
                };
                all.insert(session, one);
            }
        }
        let mut all: Vec<Presence> = all.into_values().collect();
        all.sort_by_key(|one| (one.since.is_none(), std::cmp::Reverse(one.seen)));
        Ok(all)
    }
}

fn name(session: Option<SessionId>) -> Vec<u8> {
    session.map_or_else(|| LOCAL.to_vec(), |session| session.to_vec())
}

fn session(name: &[u8]) -> Option<Option<SessionId>> {
    match name {
        LOCAL => Some(None),
        id => SessionId::from_slice(id).ok().map(Some),
    }
}

fn time(value: &[u8]) -> Option<Timestamp> {
    let millisecond = i64::from_be_bytes(value.try_into().ok()?);
    Timestamp::from_millisecond(millisecond).ok()
}
