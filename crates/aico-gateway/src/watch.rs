//! For what outlives its request (a WebSocket, a followed log): until when the right lasts.

use std::sync::Arc;
use std::time::Duration;

use aico_access::{Principal, SessionInfo, Stage};
use aico_contracts::ids::{SessionId, TokenId};
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use crate::app::App;
use crate::problem::{Code, Problem};

/// Locking ends the sessions first and is told a moment later.
const TOLD_LATER: Duration = Duration::from_millis(20);
/// Expiry is looked at again at least so often: the machine may have slept meanwhile.
const LOOK: Duration = Duration::from_secs(60);

/// Why the right has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Logout, revocation, removal, or the time of the token is up.
    Session,
    /// The vault was locked.
    Locked,
    /// The daemon ends.
    Stopping,
}

impl Over {
    /// What a program is told that was still waiting.
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::Session => Code::TokenInvalid.into(),
            Self::Locked => Code::Locked.into(),
            Self::Stopping => Code::Stopping.into(),
        }
    }
}

/// Waits for the end of one principal's right.
pub(crate) struct Watch {
    app: Arc<App>,
    principal: Principal,
    ended: broadcast::Receiver<SessionId>,
    revoked: broadcast::Receiver<TokenId>,
    stage: watch::Receiver<Stage>,
}

impl Watch {
    /// Watches from now on.
    pub(crate) fn new(app: &Arc<App>, principal: &Principal) -> Self {
        Self {
            ended: app.home.ended_sessions(),
            revoked: app.home.revoked_tokens(),
            stage: app.home.watch_stage(),
            app: Arc::clone(app),
            principal: principal.clone(),
        }
    }

    /// Returns when the right has ended; also when it had before the watch began.
    pub(crate) async fn over(mut self) -> Over {
        loop {
            // What the modules say last is on its way while the daemon stops: it ends when they
            // have.
            if *self.stage.borrow_and_update() == Stage::Stopping {
                self.app.stop.cancelled().await;
                return Over::Stopping;
            }
            let rest = match &self.principal {
                Principal::Person {
                    person, session, ..
                } => {
                    let (person, session) = (*person, *session);
                    let all = self.app.home.sessions(person).await.unwrap_or_default();
                    match all.iter().find(|info| info.id == session).and_then(left) {
                        Some(rest) => rest.min(LOOK),
                        None => return self.told().await,
                    }
                }
                Principal::Program { token, .. } => {
                    let named = self.app.home.named_token(*token);
                    match named.and_then(|named| until(named.expires_at)) {
                        Some(rest) => rest.min(LOOK),
                        None => return self.told().await,
                    }
                }
                _ => LOOK,
            };
            if self.locked() {
                return Over::Locked;
            }
            let (session, token) = match &self.principal {
                Principal::Person { session, .. } => (Some(*session), None),
                Principal::Program { token, .. } => (None, Some(*token)),
                _ => (None, None),
            };
            let look_again = tokio::time::sleep(rest);
            tokio::pin!(look_again);
            loop {
                tokio::select! {
                    () = self.app.stop.cancelled() => return Over::Stopping,
                    changed = self.stage.changed() => {
                        if changed.is_err() {
                            return Over::Stopping;
                        }
                        break;
                    }
                    ended = self.ended.recv() => match ended {
                        Ok(id) if Some(id) == session => return self.told().await,
                        Ok(_) => {}
                        // Some were missed, ours perhaps.
                        Err(broadcast::error::RecvError::Lagged(_)) => break,
                        Err(broadcast::error::RecvError::Closed) => return Over::Stopping,
                    },
                    revoked = self.revoked.recv() => match revoked {
                        Ok(id) if Some(id) == token => return self.told().await,
                        Ok(_) => {}
                        Err(broadcast::error::RecvError::Lagged(_)) => break,
                        Err(broadcast::error::RecvError::Closed) => return Over::Stopping,
                    },
                    () = &mut look_again => break,
                }
            }
        }
    }

    fn locked(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::New | Stage::Locked)
    }

    /// The session has gone: because everything was locked?
    async fn told(mut self) -> Over {
        let not_ready = self.stage.wait_for(|stage| *stage != Stage::Ready);
        let stage = match tokio::time::timeout(TOLD_LATER, not_ready).await {
            Ok(Ok(stage)) => *stage,
            _ => return Over::Session,
        };
        if stage == Stage::Stopping {
            self.app.stop.cancelled().await;
            Over::Stopping
        } else {
            Over::Locked
        }
    }
}

/// How long a session still lasts.
fn left(session: &SessionInfo) -> Option<Duration> {
    until(session.expires_at)
}

fn until(time: Timestamp) -> Option<Duration> {
    let rest = time.duration_since(Timestamp::now());
    Duration::try_from(rest).ok().filter(|rest| !rest.is_zero())
}
