//! The daemon's listener: issued keys, the peers that came with them, and what they send.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use omq_tokio::{
    CurveKeypair, CurvePublicKey, CurveServerOptions, IdentitySocket, MonitorEvent,
    MonitorRecvError, PeerInfo, PeerPublicKey, Socket, SocketType,
};
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::live::Live;
use super::outbox::{Outbox, Wire};
use super::peer::Peer;
use super::session::Session;
use super::{Credentials, LinkError, ServerKeys, options};
use crate::Bus;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::port::Port;

pub(super) type Key = [u8; 32];

/// Where children find the bus. Dropping it ends every link.
pub struct Listener {
    shared: Arc<Shared>,
}

struct Shared {
    hub: Arc<Hub>,
    socket: Socket,
    endpoints: Mutex<Vec<String>>,
    public: CurvePublicKey,
    issued: Arc<RwLock<HashMap<Key, Identity>>>,
    peers: Mutex<HashMap<u64, Connected>>,
    /// The door for SUB sockets: the same keys and the same list.
    live: Arc<Live>,
    closed: CancellationToken,
}

struct Connected {
    key: Key,
    peer: Arc<Peer>,
}

/// The address for the daemon's own children: a socket in `folder` (made, and kept to this user)
/// where the system has Unix sockets, a free port of 127.0.0.1 elsewhere.
///
/// # Errors
/// When the folder can't be made private, or the path is too long for a socket.
pub fn endpoint_in(folder: &Path) -> Result<String, LinkError> {
    endpoint_named(folder, "bus.sock")
}

/// As [`endpoint_in`], with a name for the socket.
///
/// # Errors
/// As there.
pub fn endpoint_named(folder: &Path, name: &str) -> Result<String, LinkError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        const LIMIT: usize = 100;
        let private = |source| LinkError::Folder {
            folder: folder.to_owned(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(private)?;
        let found = std::fs::symlink_metadata(folder).map_err(private)?;
        if !found.is_dir() {
            return Err(private(std::io::ErrorKind::NotADirectory.into()));
        }
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .map_err(private)?;
        let path = folder.join(name);
        match path.to_str() {
            Some(text) if text.len() <= LIMIT => Ok(format!("ipc://{text}")),
            _ => Err(LinkError::PathTooLong { path, limit: LIMIT }),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = (folder, name);
        Ok("tcp://127.0.0.1:0".to_owned())
    }
}

impl Listener {
    /// Listens on `endpoint` (`ipc://PATH` or `tcp://127.0.0.1:PORT`) with a key made for this
    /// run. Until [`issue`](Self::issue) is called nobody is let in.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub async fn bind(bus: &Bus, endpoint: &str) -> Result<Self, LinkError> {
        let listener = Self::open(bus, ServerKeys::generate())?;
        listener.bind_to(endpoint).await?;
        Ok(listener)
    }

    /// A listener with keys that outlive this run, for peers that keep them: they are told by
    /// [`admit_only`](Self::admit_only). It listens nowhere yet.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn open(bus: &Bus, keys: ServerKeys) -> Result<Self, LinkError> {
        let issued: Arc<RwLock<HashMap<Key, Identity>>> = Arc::default();
        let keys = keys.0;
        let public = keys.public;
        let known = issued.clone();
        let admit = CurveServerOptions::default().authenticator(move |peer| {
            let listed = known.read().contains_key(&peer.public_key);
            // Who chooses its own routing id could take another's place.
            let plain = peer.identity.as_ref().is_none_or(Bytes::is_empty);
            if !(listed && plain) {
                let key = fingerprint(&peer.public_key);
                tracing::warn!(key, listed, "A stranger was refused at the bus.");
            }
            listed && plain
        });
        let failed = |source| LinkError::Bind {
            endpoint: "a socket".to_owned(),
            source,
        };
        let closed = CancellationToken::new();
        let live = Live::new(
            bus.hub().clone(),
            keys.clone(),
            issued.clone(),
            closed.clone(),
        );
        let socket = Socket::try_new(
            SocketType::Router,
            options().curve_server_with_options(keys, admit),
        )
        .map_err(failed)?;
        let monitor = socket.monitor();
        let shared = Arc::new(Shared {
            hub: bus.hub().clone(),
            socket,
            endpoints: Mutex::default(),
            public,
            issued,
            peers: Mutex::default(),
            live,
            closed,
        });
        let router = shared.socket.identity_routing().map_err(failed)?;
        tokio::spawn(receive(shared.clone(), router));
        tokio::spawn(watch(shared.clone()));
        tokio::spawn(count_refusals(shared.clone(), monitor));
        Ok(Self { shared })
    }

    /// Listens on one more address. Answers with the address as peers use it: with the port that
    /// was chosen.
    ///
    /// # Errors
    /// When it can't be bound.
    pub async fn bind_to(&self, endpoint: &str) -> Result<String, LinkError> {
        let socket = &self.shared.socket;
        let bound = socket
            .bind(endpoint)
            .await
            .map_err(|source| LinkError::Bind {
                endpoint: endpoint.to_owned(),
                source,
            })?
            .to_string();
        self.shared.endpoints.lock().push(bound.clone());
        Ok(bound)
    }

    /// The addresses, in the order in which they were bound.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.shared.endpoints.lock().clone()
    }

    /// Listens on one more address for plain SUB sockets, which subscribe by prefix and hear, at
    /// most once, what their key was granted. Answers with the address as peers use it.
    ///
    /// # Errors
    /// When it can't be bound.
    pub async fn bind_live_to(&self, endpoint: &str) -> Result<String, LinkError> {
        self.shared.live.bind_to(endpoint).await
    }

    /// The addresses for SUB sockets, in the order in which they were bound.
    #[must_use]
    pub fn live_endpoints(&self) -> Vec<String> {
        self.shared.live.endpoints()
    }

    /// The key by which peers know this listener, in Z85.
    #[must_use]
    pub fn public_key(&self) -> String {
        self.shared.public.to_z85()
    }

    /// Lists these public keys, which peers made themselves, and no others: who proves one is that
    /// identity. Whoever is connected with another key is cut off.
    pub async fn admit_only(&self, listed: impl IntoIterator<Item = ([u8; 32], Identity)>) {
        *self.shared.issued.write() = listed.into_iter().collect();
        self.shared.cut_off_unlisted().await;
    }

    /// Makes keys for an identity and lists them. The secret key is in the answer and nowhere
    /// else.
    #[must_use]
    pub fn issue(&self, identity: Identity) -> Credentials {
        let client = CurveKeypair::generate();
        self.shared
            .issued
            .write()
            .insert(*client.public.as_bytes(), identity);
        let endpoint = self.shared.endpoints.lock().first().cloned();
        Credentials::new(endpoint.unwrap_or_default(), &self.shared.public, &client)
    }

    /// Takes every key of an identity off the list and cuts off who came with one.
    pub async fn revoke(&self, identity: &Identity) {
        self.shared
            .issued
            .write()
            .retain(|_, listed| listed != identity);
        self.shared.cut_off_unlisted().await;
    }

    /// Takes one key off the list, as it stands in [`Credentials::client_public`], and cuts off
    /// who came with it.
    pub async fn revoke_key(&self, client_public: &str) {
        if let Ok(key) = CurvePublicKey::from_z85(client_public) {
            self.shared.issued.write().remove(key.as_bytes());
            self.shared.cut_off_unlisted().await;
        }
    }

    /// Ends every link and gives the address back.
    pub async fn close(self) {
        let shared = self.shared.clone();
        drop(self);
        shared.live.released().await;
        let _ = shared.socket.clone().close().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.closed.cancel();
        self.shared.issued.write().clear();
        for (_, connected) in self.shared.peers.lock().drain() {
            connected.peer.close();
        }
    }
}

impl Shared {
    /// The peer of a connection; made when its first message comes. `None` when its key is not
    /// listed (any more) or another connection with this key is open.
    fn peer(
        self: &Arc<Self>,
        route: &omq_tokio::Identity,
        router: &IdentitySocket,
    ) -> Option<Arc<Peer>> {
        let info = route.peer_info();
        let key = key_of(info)?;
        let mut peers = self.peers.lock();
        if let Some(connected) = peers.get(&info.connection_id) {
            return Some(connected.peer.clone());
        }
        if peers.values().any(|other| other.key == key) {
            return None;
        }
        // Under the lock of `peers`, so that a revocation sees either no key or the peer.
        let identity = self.issued.read().get(&key)?.clone();
        if self.closed.is_cancelled() {
            return None;
        }
        let closed = self.closed.child_token();
        let wire = Wire::Router {
            socket: router.clone(),
            route: route.to_bytes(),
        };
        let outbox = Outbox::start(wire, closed.clone());
        let member = self.hub.member(identity);
        let session = Session::new(outbox, Some(member.speaker().clone()), closed.clone());
        let peer = Peer::new(self.hub.clone(), member, session);
        peers.insert(
            info.connection_id,
            Connected {
                key,
                peer: peer.clone(),
            },
        );
        tokio::spawn(
            self.clone()
                .escort(info.connection_id, peer.clone(), closed),
        );
        Some(peer)
    }

    /// Ends the connection when the peer's session ends by itself (it does not read), and the
    /// session when the connection had ended before its first message was read.
    async fn escort(self: Arc<Self>, connection: u64, peer: Arc<Peer>, closed: CancellationToken) {
        if !matches!(self.socket.connection_info(connection).await, Ok(Some(_))) {
            self.peers.lock().remove(&connection);
            return peer.close();
        }
        closed.cancelled().await;
        peer.close();
        let _ = self.socket.disconnect_peer(connection).await;
    }

    async fn cut_off_unlisted(&self) {
        self.live.cut_off_unlisted();
        let gone: Vec<(u64, Connected)> = {
            let mut peers = self.peers.lock();
            let issued = self.issued.read();
            peers
                .extract_if(|_, connected| !issued.contains_key(&connected.key))
                .collect()
        };
        for (connection, connected) in gone {
            connected.peer.close();
            let _ = self.socket.disconnect_peer(connection).await;
        }
        // Connections that have not said anything yet have no peer.
        if let Ok(connections) = self.socket.connections().await {
            for connection in connections {
                let key = connection.peer_info.as_ref().and_then(key_of);
                let listed = key.is_some_and(|key| self.issued.read().contains_key(&key));
                if connection.peer_info.is_some() && !listed {
                    let _ = self.socket.disconnect_peer(connection.connection_id).await;
                }
            }
        }
    }
}

fn key_of(info: &PeerInfo) -> Option<Key> {
    match info.authentication.public_key {
        Some(PeerPublicKey::Curve(key)) => Some(key),
        _ => None,
    }
}

/// The first eight bytes of a public key, for the log.
pub(super) fn fingerprint(key: &Key) -> String {
    key.iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Reads what all peers send. Nothing here waits for a peer or a module.
async fn receive(shared: Arc<Shared>, router: IdentitySocket) {
    let work = async {
        while let Ok((route, message)) = router.recv_from().await {
            match shared.peer(&route, &router) {
                Some(peer) => peer.take(message),
                None => {
                    let connection = route.peer_info().connection_id;
                    let _ = shared.socket.disconnect_peer(connection).await;
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = shared.closed.cancelled() => {}
        () = shared.hub.closed() => {}
    }
    shared.closed.cancel();
    let _ = shared.socket.clone().close().await;
}

/// Notices peers that are gone.
async fn watch(shared: Arc<Shared>) {
    let work = async {
        loop {
            let seen = shared.socket.connections_generation();
            let Ok(connections) = shared.socket.connections().await else {
                return;
            };
            let gone: Vec<Connected> = {
                let mut peers = shared.peers.lock();
                peers
                    .extract_if(|id, _| {
                        !connections
                            .iter()
                            .any(|connection| connection.connection_id == *id)
                    })
                    .map(|(_, connected)| connected)
                    .collect()
            };
            for connected in gone {
                tracing::info!(key = fingerprint(&connected.key), "A peer left the bus.");
                connected.peer.close();
            }
            if shared.socket.connections_changed(seen).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = shared.closed.cancelled() => {}
    }
}

/// Counts and logs who did not get in: unlisted keys, other mechanisms, broken handshakes.
async fn count_refusals(shared: Arc<Shared>, mut monitor: omq_tokio::MonitorStream) {
    loop {
        let event = tokio::select! {
            event = monitor.recv() => event,
            () = shared.closed.cancelled() => return,
        };
        match event {
            Ok(MonitorEvent::HandshakeFailed { reason, .. }) => {
                shared
                    .hub
                    .counters
                    .turned_away
                    .fetch_add(1, Ordering::Relaxed);
                tracing::warn!(reason, "A connection to the bus was turned away.");
            }
            Err(MonitorRecvError::Closed) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_folder_of_the_socket_is_private_and_its_path_short_enough() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(endpoint_in(&run).unwrap().ends_with("/run/bus.sock"));
        let mode = std::fs::metadata(&run).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let long = folder.path().join("x".repeat(100));
        assert!(matches!(
            endpoint_in(&long),
            Err(LinkError::PathTooLong { .. })
        ));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&run, &link).unwrap();
        assert!(matches!(endpoint_in(&link), Err(LinkError::Folder { .. })));
    }
}
