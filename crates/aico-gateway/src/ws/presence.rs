//! Says that a session is connected as long as one of its connections lasts.

use std::sync::Arc;

use aico_access::{Home, Principal};
use aico_contracts::ids::{PersonId, SessionId};
use jiff::Timestamp;

use super::quota::Holder;
use crate::app::App;

/// One connection's part in it.
pub(super) struct Present {
    app: Arc<App>,
    person: PersonId,
    session: Option<SessionId>,
    since: Timestamp,
}

impl Present {
    pub(super) fn new(app: &Arc<App>, principal: &Principal, person: PersonId) -> Self {
        let session = match principal {
            Principal::Person { session, .. } => Some(*session),
            _ => None,
        };
        Self {
            app: Arc::clone(app),
            person,
            session,
            since: Timestamp::now(),
        }
    }

    /// Says so again and again; never returns.
    pub(super) async fn note(&self) {
        loop {
            let home = &self.app.home;
            home.note_connected(self.person, self.session, self.since)
                .await;
            tokio::time::sleep(Home::PRESENCE).await;
        }
    }

    /// This connection has ended and is no longer counted. Another of the same session goes on
    /// saying that it is there.
    pub(super) async fn over(self) {
        let holder = match self.session {
            Some(session) => Holder::Session(session),
            None => Holder::Local(self.person),
        };
        if self.app.sockets.held_by(holder) == 0 {
            self.app.home.note_gone(self.person, self.session).await;
        }
    }
}
