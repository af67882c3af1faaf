//! A link that is made again whenever it is lost, for a module that outlives its daemon's runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aico_contracts::v1::control;
use omq_tokio::Socket;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connect::{begin, client, open, read};
use super::port::Alive;
use super::uplink::Uplink;
use super::{Connection, LinkError};
use crate::client::Client;

/// How a lost link stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// There is none yet, or it was lost: it is being made.
    Connecting {
        /// Since when there is none.
        since: SystemTime,
        /// What came of the last attempt; empty before the first.
        why: String,
    },
    /// It stands.
    Connected {
        /// The address over which.
        endpoint: String,
    },
    /// The daemon refuses the key: it was revoked or rotated, or the daemon speaks another version
    /// of the link. It is tried again ever more rarely, should the owner admit the key again.
    Refused {
        /// Since when there is no link.
        since: SystemTime,
        /// The address over which.
        endpoint: String,
        /// What the daemon said.
        why: String,
    },
    /// It was closed here, or nothing uses it any more.
    Closed,
}

/// How long to wait before a link is tried again. Each wait is doubled from the one before, up to
/// the longest, and shortened by chance to no less than half, so that many modules of one daemon
/// do not come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// After a link that stood, or the first attempt that failed: 100 ms.
    pub first: Duration,
    /// While nobody answers: 10 s.
    pub longest: Duration,
    /// After the first refusal of the key: 1 s. The door of a daemon that is starting may refuse
    /// for a moment.
    pub refused: Duration,
    /// While the key is refused: 5 minutes.
    pub longest_refused: Duration,
    /// A link that ends sooner counts as one that failed: 1 s.
    pub stable: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(10),
            refused: Duration::from_secs(1),
            longest_refused: Duration::from_secs(300),
            stable: Duration::from_secs(1),
        }
    }
}

impl Retry {
    /// The wait after this many attempts in a row (from 1) that failed; `chance` is from 0 to 1.
    fn wait(&self, failed: u32, refused: bool, chance: f64) -> Duration {
        let (first, longest) = if refused {
            (self.refused, self.longest_refused)
        } else {
            (self.first, self.longest)
        };
        first
            .saturating_mul(1_u32 << failed.saturating_sub(1).min(16))
            .min(longest)
            .mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

/// A number from 0 to 1 that nobody can foretell.
fn chance() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

/// A link that is kept. It ends when this, and every client, subscription, service and answer that
/// came of it, is dropped, or by [`close`](Self::close).
pub struct Link {
    alive: Arc<Alive>,
    state: watch::Receiver<LinkState>,
    welcome: Arc<Mutex<Option<control::Welcome>>>,
}

/// Keeps a link to the daemon of `connection`: makes it, and makes it again whenever it is lost,
/// over the first of the addresses that answers.
///
/// What the [`Client`] of it has standing outlives the link. Subscriptions and services are said
/// again to the daemon; a subscriber hears [`Interrupted`](crate::Delivery::Interrupted) in the
/// place of what it missed. Durable messages without an answer go again under their ids, in their
/// order, and are kept once; what is published durably meanwhile waits for the link (up to 8,192
/// messages and 16 MiB, past that it is [`Busy`](crate::BusError::Busy)). Followers go on after
/// what they handed out last. Requests in flight fail at once with
/// [`RequestError::LinkLost`](crate::RequestError::LinkLost), and so do those made while there is no link; a live
/// message then is [`BusError::LinkLost`](crate::BusError::LinkLost).
///
/// # Errors
/// When the connection holds something that is no key, or no address.
pub fn keep(connection: Connection, retry: Retry) -> Result<Link, LinkError> {
    let Some(first) = connection.endpoints.first() else {
        return Err(LinkError::Credentials);
    };
    connection.credentials(first).keys()?;
    let uplink = Uplink::new(true, CancellationToken::new());
    let (told, state) = watch::channel(LinkState::Connecting {
        since: SystemTime::now(),
        why: String::new(),
    });
    let welcome = Arc::default();
    let keeper = Keeper {
        uplink: uplink.clone(),
        connection,
        retry,
        told,
        welcome: Arc::clone(&welcome),
    };
    tokio::spawn(keeper.run());
    Ok(Link {
        alive: Arc::new(Alive(uplink)),
        state,
        welcome,
    })
}

impl Link {
    /// How it stands, now and whenever that changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// A client, once the link has stood for the first time: then its name is known. It goes on
    /// trying whatever comes of this.
    ///
    /// # Errors
    /// When the daemon refuses the key, or the link is closed.
    pub async fn client(&self) -> Result<Client, LinkError> {
        let mut state = self.state.clone();
        loop {
            let now = state.borrow_and_update().clone();
            if let Some(welcome) = &*self.welcome.lock() {
                return Ok(client(welcome, self.alive.clone()));
            }
            match now {
                LinkState::Refused { endpoint, why, .. } => {
                    let reason = why;
                    return Err(LinkError::Refused { endpoint, reason });
                }
                LinkState::Closed => return Err(LinkError::Closed),
                LinkState::Connecting { .. } | LinkState::Connected { .. } => {}
            }
            if state.changed().await.is_err() {
                return Err(LinkError::Closed);
            }
        }
    }

    /// Ends it for good: clients are closed, subscriptions and services end.
    pub fn close(self) {
        self.alive.0.close();
    }
}

/// The task that keeps a link.
struct Keeper {
    uplink: Arc<Uplink>,
    connection: Connection,
    retry: Retry,
    told: watch::Sender<LinkState>,
    welcome: Arc<Mutex<Option<control::Welcome>>>,
}

impl Keeper {
    async fn run(self) {
        let ended = self.uplink.ended.clone();
        let (mut failed, mut was_refused) = (0_u32, false);
        loop {
            let attempt = tokio::select! {
                attempt = self.attempt() => attempt,
                () = ended.cancelled() => break,
            };
            match attempt {
                Ok((socket, welcome, endpoint)) => {
                    let began = Instant::now();
                    self.stand(socket, welcome, endpoint).await;
                    if ended.is_cancelled() {
                        break;
                    }
                    if was_refused || began.elapsed() >= self.retry.stable {
                        failed = 0;
                    }
                    was_refused = false;
                    self.tell(None, "the link was lost".to_owned());
                }
                Err(error) => {
                    let (refused, why) = match error {
                        LinkError::Refused { endpoint, reason } => (Some(endpoint), reason),
                        LinkError::Version { ref endpoint } => {
                            (Some(endpoint.clone()), error.to_string())
                        }
                        other => (None, other.to_string()),
                    };
                    if refused.is_some() != was_refused {
                        failed = 0;
                    }
                    was_refused = refused.is_some();
                    self.tell(refused, why);
                }
            }
            failed = failed.saturating_add(1);
            tokio::select! {
                () = tokio::time::sleep(self.retry.wait(failed, was_refused, chance())) => {}
                () = ended.cancelled() => break,
            }
        }
        self.uplink.close();
        self.told.send_replace(LinkState::Closed);
    }

    /// Tries the addresses in their order. Of several failures the first refusal counts, or else
    /// the first of all.
    async fn attempt(&self) -> Result<(Socket, control::Welcome, String), LinkError> {
        let mut worst = None;
        for endpoint in &self.connection.endpoints {
            match open(self.connection.credentials(endpoint)).await {
                Ok((socket, welcome)) => return Ok((socket, welcome, endpoint.clone())),
                Err(error) => {
                    let says_more = matches!(error, LinkError::Refused { .. })
                        && !matches!(worst, Some(LinkError::Refused { .. }));
                    if worst.is_none() || says_more {
                        worst = Some(error);
                    }
                }
            }
        }
        Err(worst.unwrap_or(LinkError::Credentials))
    }

    /// A link stands, until it is lost.
    async fn stand(&self, socket: Socket, welcome: control::Welcome, endpoint: String) {
        let session = begin(&socket, self.uplink.ended.child_token());
        self.uplink.begin(session.clone(), welcome.epoch.clone());
        *self.welcome.lock() = Some(welcome);
        tracing::debug!(endpoint, "The link to the daemon stands.");
        self.told.send_replace(LinkState::Connected { endpoint });
        read(&socket, &self.uplink, &session).await;
        self.uplink.lost();
        let _ = socket.close().await;
    }

    /// There is no link, because nobody answers or the key is refused at an address; since when is
    /// told once.
    fn tell(&self, refused: Option<String>, why: String) {
        self.told.send_if_modified(|state| {
            let since = match state {
                LinkState::Connecting { since, .. } | LinkState::Refused { since, .. } => *since,
                LinkState::Connected { .. } | LinkState::Closed => SystemTime::now(),
            };
            let next = match refused {
                Some(endpoint) => LinkState::Refused {
                    since,
                    endpoint,
                    why,
                },
                None => LinkState::Connecting { since, why },
            };
            if *state == next {
                return false;
            }
            if std::mem::discriminant(state) != std::mem::discriminant(&next) {
                match &next {
                    LinkState::Refused { why, .. } => {
                        tracing::warn!(why, "The daemon refuses this module.");
                    }
                    _ => tracing::info!("There is no link to the daemon; it is made again."),
                }
            }
            *state = next;
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_longest_and_those_of_a_refused_key_are_longer() {
        let retry = Retry::default();
        let wait = |failed, refused| retry.wait(failed, refused, 1.0).as_millis();
        let waits: Vec<_> = (1..=9).map(|failed| wait(failed, false)).collect();
        assert_eq!(
            waits,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        let waits: Vec<_> = (1..=4).map(|failed| wait(failed, true)).collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000]);
        assert_eq!(wait(u32::MAX, true), 300_000);
        assert_eq!(retry.wait(1, false, 0.0), Duration::from_millis(50));
    }
}
