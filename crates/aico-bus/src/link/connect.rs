//! Making the link from the child's side.

use std::time::Duration;

use aico_contracts::v1::control;
use bytes::Bytes;
use omq_tokio::{MonitorEvent, Socket, SocketType};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use super::outbox::{Outbox, Wire};
use super::session::Session;
use super::uplink::{Uplink, UplinkPort};
use super::wire::{self, Read};
use super::{Credentials, HANDSHAKE, LinkError, options};
use crate::client::Client;
use crate::identity::Identity;
use crate::ids::IdSource;
use crate::port::Speaker;

/// Connects to the daemon that issued `credentials`; returns when the handshake is done and the
/// daemon has said under which name it knows this process. From then on no socket is opened any
/// more: when the link is lost it stays lost.
///
/// # Errors
/// When nobody listens there, the daemon refuses the key or has another one, or within ten
/// seconds nothing comes of it.
pub async fn connect(credentials: Credentials) -> Result<Client, LinkError> {
    let endpoint = credentials.endpoint.clone();
    let failed = |reason: String| LinkError::Connect {
        endpoint: endpoint.clone(),
        reason,
    };
    let (server, keys) = credentials.keys()?;
    drop(credentials);
    let socket = Socket::try_new(SocketType::Dealer, options().curve_client(keys, server))
        .map_err(|error| failed(error.to_string()))?;
    let made = tokio::time::timeout(HANDSHAKE, handshake(&socket, &endpoint)).await;
    let welcome = match made {
        Ok(Ok(welcome)) => welcome,
        Ok(Err(error)) => {
            let _ = socket.close().await;
            return Err(error);
        }
        Err(_) => {
            let _ = socket.close().await;
            return Err(failed("nobody answered in time".into()));
        }
    };
    let closed = CancellationToken::new();
    let outbox = Outbox::start(Wire::Dealer(socket.clone()), closed.clone());
    let session = Session::new(outbox, None, closed);
    let speaker = Speaker {
        identity: Identity::new(&welcome.identity),
        epoch: welcome.epoch,
        ids: Arc::new(IdSource::new()),
    };
    let uplink = Uplink::new(speaker, session);
    tokio::spawn(read(socket, uplink.clone()));
    Ok(Client::new(Arc::new(UplinkPort::new(uplink))))
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
    let refused = async {
        loop {
            match monitor.recv().await {
                Ok(MonitorEvent::HandshakeFailed { reason, .. }) => return reason,
                Ok(MonitorEvent::ConnectStopped { reason, .. }) => return format!("{reason:?}"),
                Ok(MonitorEvent::Disconnected { reason, .. }) => return format!("{reason:?}"),
                Err(omq_tokio::MonitorRecvError::Closed) => return "closed".to_owned(),
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
        reason = refused => Err(failed(reason)),
    }
}

/// The next message, when it is one part.
async fn receive(socket: &Socket) -> Result<Option<Bytes>, omq_tokio::Error> {
    Ok(socket.recv().await?.into_bytes().ok())
}

/// Reads until the connection or the session ends.
async fn read(socket: Socket, uplink: Arc<Uplink>) {
    let closed = uplink.closed();
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
                    received = receive(&socket) => match received {
                        Ok(Some(bytes)) => {
                            if let Err(reason) = uplink.take(bytes) {
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
        () = closed.cancelled() => {}
    }
    uplink.close();
    let _ = socket.close().await;
}
