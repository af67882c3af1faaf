//! The plain door: SUB sockets of listed keys, which hear topics by prefix, at most once.
//!
//! To its peers it is an XPUB socket. The XPUB socket of `omq-tokio` gives every message to every
//! peer that subscribed to a prefix of it and drops without a word; here each peer has its own
//! decision for each message and its own queue. So the sockets here are ours, and what is spoken on
//! them (ZMTP, CURVE) is that crate's state machine, as on the other door.

use std::collections::HashMap;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use omq_tokio::proto::{ConnectionConfig, Role};
use omq_tokio::{CurveKeypair, CurveServerOptions, MechanismSetup, SocketType};
use parking_lot::{Mutex, RwLock};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listener::{Key, fingerprint};
use super::{LinkError, subscriber};
use crate::hub::Hub;
use crate::identity::Identity;

/// Most SUB sockets that are connected with one key at a time.
const MAX_SOCKETS: usize = 8;
/// Most handshakes under way.
const MAX_HANDSHAKES: usize = 32;
/// Largest message that a SUB socket may send: a subscription, with room for what is no use.
const MAX_INPUT: usize = 1024;
/// After an accept that failed (no file descriptors): this long until the next.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Live {
    pub(super) hub: Arc<Hub>,
    issued: Arc<RwLock<HashMap<Key, Identity>>>,
    config: ConnectionConfig,
    sockets: Mutex<HashMap<u64, Opened>>,
    next: AtomicU64,
    endpoints: Mutex<Vec<String>>,
    handshakes: Arc<Semaphore>,
    listening: Mutex<Vec<JoinHandle<()>>>,
    pub(super) closed: CancellationToken,
}

struct Opened {
    key: Key,
    ended: CancellationToken,
}

/// A SUB socket that was let in. Dropping it gives its place back.
pub(super) struct Admitted {
    live: Arc<Live>,
    id: u64,
    pub(super) identity: Identity,
    pub(super) ended: CancellationToken,
}

impl Live {
    pub(super) fn new(
        hub: Arc<Hub>,
        keys: CurveKeypair,
        issued: Arc<RwLock<HashMap<Key, Identity>>>,
        closed: CancellationToken,
    ) -> Arc<Self> {
        let known = issued.clone();
        let options = CurveServerOptions::default().authenticator(move |peer| {
            let listed = known.read().contains_key(&peer.public_key);
            if !listed {
                let key = fingerprint(&peer.public_key);
                tracing::warn!(key, listed, "A stranger was refused at the bus.");
            }
            listed
        });
        let config = ConnectionConfig::new(Role::Server, SocketType::XPub)
            .max_message_size(MAX_INPUT)
            .mechanism(MechanismSetup::CurveServer {
                our_keypair: keys,
                options,
            });
        Arc::new(Self {
            hub,
            issued,
            config,
            sockets: Mutex::default(),
            next: AtomicU64::new(1),
            endpoints: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            listening: Mutex::default(),
            closed,
        })
    }

    pub(super) fn config(&self) -> ConnectionConfig {
        self.config.clone()
    }

    pub(super) fn endpoints(&self) -> Vec<String> {
        self.endpoints.lock().clone()
    }

    /// Listens on `endpoint` until the door is closed; answers with the address as peers use it.
    pub(super) async fn bind_to(self: &Arc<Self>, endpoint: &str) -> Result<String, LinkError> {
        let bound = Bound::new(endpoint).await;
        let bound = bound.map_err(|source| LinkError::Bind {
            endpoint: endpoint.to_owned(),
            source: source.into(),
        })?;
        let endpoint = bound.endpoint.clone();
        self.endpoints.lock().push(endpoint.clone());
        let listening = tokio::spawn(self.clone().accept(bound));
        self.listening.lock().push(listening);
        Ok(endpoint)
    }

    async fn accept(self: Arc<Self>, bound: Bound) {
        let work = async {
            loop {
                // Who does not speak holds one of these places until its time is over.
                let Ok(place) = self.handshakes.clone().acquire_owned().await else {
                    return;
                };
                let accepted = match &bound.socket {
                    Socket::Tcp(socket) => socket.accept().await.map(|(stream, from)| {
                        notice_death(&stream);
                        let from = from.to_string();
                        tokio::spawn(subscriber::serve(self.clone(), stream, from, place));
                    }),
                    #[cfg(unix)]
                    Socket::Unix(socket, _) => socket.accept().await.map(|(stream, _)| {
                        let from = "the local socket".to_owned();
                        tokio::spawn(subscriber::serve(self.clone(), stream, from, place));
                    }),
                };
                if let Err(error) = accepted {
                    tracing::warn!(%error, "A SUB socket could not be taken.");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = self.closed.cancelled() => {}
            () = self.hub.closed() => {}
        }
    }

    /// Returns when the addresses are free again; for after the door was closed.
    pub(super) async fn released(&self) {
        let listening = std::mem::take(&mut *self.listening.lock());
        for one in listening {
            let _ = one.await;
        }
    }

    /// Lets a verified key in. `None` when it is not listed (any more) or has too many sockets.
    pub(super) fn admit(self: &Arc<Self>, key: Key) -> Option<Admitted> {
        let mut sockets = self.sockets.lock();
        if sockets.values().filter(|other| other.key == key).count() >= MAX_SOCKETS {
            let key = fingerprint(&key);
            tracing::warn!(
                key,
                "A module has too many SUB sockets; one more is refused."
            );
            return None;
        }
        // Under the lock of `sockets`, so that a revocation sees either no key or this one.
        let identity = self.issued.read().get(&key)?.clone();
        let ended = self.closed.child_token();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let opened = Opened {
            key,
            ended: ended.clone(),
        };
        sockets.insert(id, opened);
        self.hub.counters.peers.fetch_add(1, Ordering::Relaxed);
        Some(Admitted {
            live: self.clone(),
            id,
            identity,
            ended,
        })
    }

    pub(super) fn cut_off_unlisted(&self) {
        let sockets = self.sockets.lock();
        let issued = self.issued.read();
        for opened in sockets.values() {
            if !issued.contains_key(&opened.key) {
                opened.ended.cancel();
            }
        }
    }

    /// Counts and logs who did not get in.
    pub(super) fn turned_away(&self, from: &str, reason: &str) {
        let counter = &self.hub.counters.turned_away;
        counter.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(from, reason, "A connection to the bus was turned away.");
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.live.sockets.lock().remove(&self.id);
        let counter = &self.live.hub.counters.peers;
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One address.
struct Bound {
    socket: Socket,
    endpoint: String,
}

enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "its drop counts")] Path,
    ),
}

/// Removes the socket's file with the socket.
#[cfg(unix)]
struct Path(PathBuf);

#[cfg(unix)]
impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bound {
    async fn new(endpoint: &str) -> std::io::Result<Self> {
        #[cfg(unix)]
        if let Some(path) = endpoint.strip_prefix("ipc://") {
            use std::os::unix::fs::FileTypeExt as _;
            let path = PathBuf::from(path);
            // Left by a daemon that was killed; there is one daemon for a folder.
            if std::fs::symlink_metadata(&path).is_ok_and(|found| found.file_type().is_socket()) {
                std::fs::remove_file(&path)?;
            }
            let socket = UnixListener::bind(&path)?;
            return Ok(Self {
                socket: Socket::Unix(socket, Path(path)),
                endpoint: endpoint.to_owned(),
            });
        }
        let address = endpoint
            .strip_prefix("tcp://")
            .and_then(|address| address.parse::<SocketAddr>().ok())
            .ok_or(std::io::ErrorKind::InvalidInput)?;
        let socket = TcpListener::bind(address).await?;
        let endpoint = format!("tcp://{}", socket.local_addr()?);
        Ok(Self {
            socket: Socket::Tcp(socket),
            endpoint,
        })
    }
}

/// A peer whose machine is gone does not say so. ZeroMQ's own heartbeats would also end one that
/// only does not read; what that costs is bounded, and it is told what it missed.
fn notice_death(stream: &tokio::net::TcpStream) {
    let probes = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    let set = socket2::SockRef::from(stream).set_tcp_keepalive(&probes);
    if let Err(error) = set.and_then(|()| stream.set_nodelay(true)) {
        tracing::debug!(%error, "options of a TCP connection could not be set");
    }
}
