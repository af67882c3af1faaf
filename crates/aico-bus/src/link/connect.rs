//! Making the link from the member's side.

use std::sync::Arc;
use std::time::Duration;

use aico_contracts::v1::control;
use bytes::Bytes;
use omq_tokio::{DisconnectReason, MonitorEvent, MonitorRecvError, Socket, SocketType};
use tokio_util::sync::CancellationToken;

use super::outbox::{Outbox, Wire};
use super::port::{Alive, UplinkPort};
use super::session::Session;
use super::uplink::Uplink;
use super::wire::{self, Read};
use super::{Credentials, HANDSHAKE, LinkError, options};
use crate::client::Client;
use crate::identity::Identity;
use crate::ids::IdSource;
use crate::port::Speaker;

/// How long it may take to reach a socket of this machine. Where nobody listens the crate below says
/// nothing at all.
const REACH: Duration = Duration::from_secs(1);
/// Between the two events that tell of a refused key. They come together.
const TOGETHER: Duration = Duration::from_millis(200);
/// Most frames that the socket takes before what is published waits in the outbox, where envelopes
/// share a frame. Enough that the socket never runs dry meanwhile.
const IN_SOCKET: u32 = 32;

/// Connects to the daemon that issued `credentials`; returns when the handshake is done and the
/// daemon has said under which name it knows this process. From then on no socket is opened any
/// more: when the link is lost it stays lost. ([`keep`](super::keep()) makes it again.)
///
/// # Errors
/// When nobody listens there, the daemon refuses the key or has another one, or within ten
/// seconds nothing comes of it.
pub async fn connect(credentials: Credentials) -> Result<Client, LinkError> {
    let (socket, welcome) = open(credentials).await?;
    let closed = CancellationToken::new();
    let uplink = Uplink::new(false, closed.clone());
    let session = begin(&socket, closed);
    uplink.begin(session.clone(), welcome.epoch.clone());
    let alive = Arc::new(Alive(uplink.clone()));
    tokio::spawn(async move {
        read(&socket, &uplink, &session).await;
        uplink.close();
        let _ = socket.close().await;
    });
    Ok(client(&welcome, alive))
}

/// A client as the daemon has named it.
pub(super) fn client(welcome: &control::Welcome, alive: Arc<Alive>) -> Client {
    let speaker = Speaker {
        identity: Identity::new(&welcome.identity),
        epoch: welcome.epoch.clone(),
        ids: Arc::new(IdSource::new()),
    };
    Client::new(Arc::new(UplinkPort::new(speaker, alive)))
}

/// The session on a socket whose handshake is done.
pub(super) fn begin(socket: &Socket, closed: CancellationToken) -> Arc<Session> {
    let outbox = Outbox::start(Wire::Dealer(socket.clone()), closed.clone());
    Session::new(outbox, None, closed)
}

/// A socket with a connection, and what the daemon said.
pub(super) async fn open(
    credentials: Credentials,
) -> Result<(Socket, control::Welcome), LinkError> {
    let endpoint = credentials.endpoint.clone();
    let failed = |reason: String| LinkError::Connect {
        endpoint: endpoint.clone(),
        reason,
    };
    let (server, keys) = credentials.keys()?;
    drop(credentials);
    let options = options().send_hwm(IN_SOCKET).curve_client(keys, server);
    let socket =
        Socket::try_new(SocketType::Dealer, options).map_err(|error| failed(error.to_string()))?;
    let made = tokio::time::timeout(HANDSHAKE, handshake(&socket, &endpoint)).await;
    match made.unwrap_or_else(|_| Err(failed("nobody answered in time".into()))) {
        Ok(welcome) => Ok((socket, welcome)),
        Err(error) => {
            let _ = socket.close().await;
            Err(error)
        }
    }
}

async fn handshake(socket: &Socket, endpoint: &str) -> Result<control::Welcome, LinkError> {
    let failed = |reason: String| LinkError::Connect {
        endpoint: endpoint.to_owned(),
        reason,
    };
    let mut monitor = socket.monitor();
    socket
        .connect(endpoint)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let within = if is_near(endpoint) { REACH } else { HANDSHAKE };
    let broken = async {
        let silence = tokio::time::sleep(within);
        tokio::pin!(silence);
        let mut reached = false;
        loop {
            let event = tokio::select! {
                event = monitor.recv() => event,
                () = &mut silence, if !reached => return failed("nobody listens there".to_owned()),
            };
            match event {
                Ok(MonitorEvent::Connected { .. }) => reached = true,
                Ok(MonitorEvent::HandshakeFailed { reason, .. }) => {
                    let next = tokio::time::timeout(TOGETHER, monitor.recv()).await;
                    return match next {
                        Ok(Ok(MonitorEvent::ConnectStopped { reason, .. })) => {
                            stopped(endpoint, reason)
                        }
                        _ => failed(reason),
                    };
                }
                Ok(MonitorEvent::ConnectStopped { reason, .. }) => {
                    return stopped(endpoint, reason);
                }
                Ok(MonitorEvent::Disconnected { reason, .. }) => {
                    return failed(format!("{reason:?}"));
                }
                Err(MonitorRecvError::Closed) => return failed("closed".to_owned()),
                Ok(_) | Err(_) => {}
            }
        }
    };
    let greeted = async {
        socket
            .wait_connected(1, HANDSHAKE + Duration::from_secs(1))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let program = concat!("aico ", env!("CARGO_PKG_VERSION")).to_owned();
        let hello = control::Hello {
            version: aico_contracts::SCHEMA_VERSION,
            program,
        };
        let hello = wire::control(control::Say::Hello(hello));
        socket
            .send(omq_tokio::Message::single(hello))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let answer = receive(socket)
            .await
            .map_err(|error| failed(error.to_string()))?;
        match answer.map(wire::read) {
            Some(Ok(Read::Control(mut said))) => match said.pop() {
                Some(control::Say::Welcome(welcome)) if said.is_empty() => Ok(welcome),
                _ => Err(LinkError::Version {
                    endpoint: endpoint.to_owned(),
                }),
            },
            _ => Err(LinkError::Version {
                endpoint: endpoint.to_owned(),
            }),
        }
    };
    tokio::select! {
        biased;
        welcome = greeted => welcome,
        error = broken => Err(error),
    }
}

/// Whether an address is on this machine, so that who listens there is reached at once.
fn is_near(endpoint: &str) -> bool {
    let host = endpoint.strip_prefix("tcp://");
    host.is_none_or(|host| host.starts_with("127.") || host.starts_with("[::1]"))
}

fn stopped(endpoint: &str, reason: DisconnectReason) -> LinkError {
    let endpoint = endpoint.to_owned();
    match reason {
        DisconnectReason::HandshakeRefused(refusal) => LinkError::Refused {
            endpoint,
            reason: refusal.to_string(),
        },
        other => LinkError::Connect {
            endpoint,
            reason: format!("{other:?}"),
        },
    }
}

/// The next message, when it is one part.
async fn receive(socket: &Socket) -> Result<Option<Bytes>, omq_tokio::Error> {
    Ok(socket.recv().await?.into_bytes().ok())
}

/// Reads until the connection or the session ends.
pub(super) async fn read(socket: &Socket, uplink: &Arc<Uplink>, session: &Arc<Session>) {
    let work = async {
        loop {
            let seen = socket.connections_generation();
            match socket.connections().await {
                Ok(open) if !open.is_empty() => {}
                _ => return,
            }
            let changed = socket.connections_changed(seen);
            tokio::pin!(changed);
            loop {
                tokio::select! {
                    biased;
                    received = receive(socket) => match received {
                        Ok(Some(bytes)) => {
                            if let Err(reason) = uplink.take(session, bytes) {
                                tracing::warn!(reason, "A frame of the daemon was dropped.");
                            }
                        }
                        Ok(None) => tracing::warn!("A message of the daemon is no frame."),
                        Err(_) => return,
                    },
                    _ = &mut changed => break,
                }
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = session.closed.cancelled() => {}
    }
}
