//! One SUB socket at the plain door: its handshake, what it wants, and what it is given.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use omq_tokio::proto::{Command, Connection, Event};
use omq_tokio::{Message, PeerPublicKey};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::OwnedSemaphorePermit;

use super::HANDSHAKE;
use super::listener::Key;
use super::live::{Admitted, Live};
use super::outbox::{FRAME_BYTES, FRAME_ENVELOPES};
use super::wire;
use crate::parcel::Parcel;
use crate::prefix::Prefixes;
use crate::queue::{Queue, Subscription, Taken};

/// How much is read at once.
const READ: usize = 8 * 1024;
/// Most pieces that are written at once.
const PIECES: usize = 64;
/// Most refused prefixes of one socket that are remembered and told of.
const MAX_TOLD: usize = 64;
/// How long a last word to somebody who is refused may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Takes a connection through its handshake and, when its key is listed, serves it until it ends.
/// `place` is given back after the handshake.
pub(super) async fn serve<S>(
    live: Arc<Live>,
    mut stream: S,
    from: String,
    place: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection::new(live.config());
    let handshake = tokio::time::timeout(HANDSHAKE, handshake(&mut stream, &mut connection));
    let key = tokio::select! {
        key = handshake => key.unwrap_or_else(|_| Err("it took too long".to_owned())),
        () = live.closed.cancelled() => return,
    };
    drop(place);
    let key = match key {
        Ok(key) => key,
        Err(reason) => {
            live.turned_away(&from, &reason);
            let _ = tokio::time::timeout(LAST_WORD, flush(&mut stream, &mut connection)).await;
            return;
        }
    };
    let Some(admitted) = live.admit(key) else {
        return live.turned_away(&from, "its key is not listed, or has too many sockets");
    };
    tracing::info!(who = %admitted.identity, "A SUB socket joined.");
    let prefixes = Arc::<Prefixes>::default();
    let who = &admitted.identity;
    let subscription = live
        .hub
        .subscribe_by_prefix(who, prefixes.clone(), Queue::default());
    let ended = admitted.ended.clone();
    let mut subscriber = Subscriber {
        live,
        admitted,
        connection,
        prefixes,
        useless: HashSet::new(),
        waiting: None,
        missed: 0,
    };
    tokio::select! {
        () = subscriber.run(stream, subscription) => {}
        () = ended.cancelled() => {}
    }
    tracing::info!(who = %subscriber.admitted.identity, "A SUB socket left.");
}

/// Until the peer's key is verified and listed. Nothing that was published is sent before.
async fn handshake<S>(stream: &mut S, connection: &mut Connection) -> Result<Key, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = BytesMut::new();
    loop {
        flush(stream, connection)
            .await
            .map_err(|error| error.to_string())?;
        if let Some(event) = connection.poll_event() {
            let Event::HandshakeSucceeded {
                peer_properties, ..
            } = event
            else {
                return Err("it spoke before the handshake".to_owned());
            };
            return match peer_properties.authentication.public_key {
                Some(PeerPublicKey::Curve(key)) => Ok(key),
                _ => Err("it proved no key".to_owned()),
            };
        }
        input.reserve(READ);
        match stream.read_buf(&mut input).await {
            Ok(0) => return Err("it left before the handshake was done".to_owned()),
            Ok(_) => connection
                .handle_input(input.split().freeze())
                .map_err(|error| error.to_string())?,
            Err(error) => return Err(error.to_string()),
        }
    }
}

async fn flush<S>(stream: &mut S, connection: &mut Connection) -> std::io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    while connection.has_pending_transmit() {
        let written = write(stream, connection).await?;
        connection.advance_transmit(written);
    }
    Ok(())
}

/// Writes some of what waits.
async fn write<W>(stream: &mut W, connection: &Connection) -> std::io::Result<usize>
where
    W: AsyncWrite + Unpin,
{
    let pieces = connection.transmit_chunks_capped(PIECES);
    match stream.write_vectored(&pieces).await? {
        0 => Err(std::io::ErrorKind::WriteZero.into()),
        written => Ok(written),
    }
}

struct Subscriber {
    live: Arc<Live>,
    admitted: Admitted,
    connection: Connection,
    prefixes: Arc<Prefixes>,
    /// Prefixes that were refused and told of.
    useless: HashSet<String>,
    /// Taken out of the queue, and not of the frame before.
    waiting: Option<Taken>,
    /// Dropped, and not yet told.
    missed: u64,
}

impl Subscriber {
    /// Until the peer is gone, says what can't be read, or the bus ends the subscription. One frame
    /// is on the way at a time: what comes meanwhile waits, and is dropped, in the queue.
    async fn run<S>(&mut self, stream: S, mut subscription: Subscription)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut input = BytesMut::new();
        loop {
            if let Err(reason) = self.take_input() {
                return self.malformed(&reason);
            }
            let writes = self.connection.has_pending_transmit();
            let reads = self.connection.accepts_input();
            input.reserve(READ);
            tokio::select! {
                read = reader.read_buf(&mut input), if reads => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {
                        if let Err(error) = self.connection.handle_input(input.split().freeze()) {
                            return self.malformed(&error.to_string());
                        }
                    }
                },
                written = write(&mut writer, &self.connection), if writes => match written {
                    Err(_) => return,
                    Ok(written) => {
                        self.connection.advance_transmit(written);
                        let resumes = self.connection.has_pending_input()
                            && !self.connection.input_blocked_on_output();
                        if resumes && let Err(error) = self.connection.resume_input() {
                            return self.malformed(&error.to_string());
                        }
                    }
                },
                taken = next(&mut self.waiting, &mut subscription), if !writes => match taken {
                    None => return,
                    Some(Taken::Gap(missed)) => self.missed += missed,
                    // There is no link between the hub and this queue that could break.
                    Some(Taken::Break(_)) => {}
                    Some(Taken::Parcel(parcel)) => self.give(parcel, &mut subscription),
                },
            }
        }
    }

    /// What the peer said: subscriptions, as commands or, before ZMTP 3.1, as messages.
    fn take_input(&mut self) -> Result<(), String> {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Command(Command::Subscribe(prefix)) => self.subscribe(&prefix),
                Event::Command(Command::Cancel(prefix)) => self.cancel(&prefix),
                _ => return Err("a SUB socket does not say that".to_owned()),
            }
        }
        while let Some(message) = self.connection.poll_message() {
            let body = message
                .into_bytes()
                .map_err(|_| "a subscription is one part")?;
            match body.split_first() {
                Some((1, prefix)) => self.subscribe(prefix),
                Some((0, prefix)) => self.cancel(prefix),
                _ => return Err("a SUB socket sends subscriptions only".to_owned()),
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, prefix: &[u8]) {
        let who = &self.admitted.identity;
        let refused = match self.prefixes.add(prefix) {
            Ok(text) => match self.live.hub.prefixes_changed(who, Some(&text)) {
                true => return,
                false => (
                    text,
                    "nothing of it was granted; see aico module list".to_owned(),
                ),
            },
            // Not shown: it can hold anything.
            Err(error) => (String::new(), error.to_string()),
        };
        let counter = &self.live.hub.counters.refused;
        counter.fetch_add(1, Ordering::Relaxed);
        // A flood must not become a flood of lines.
        let (prefix, reason) = refused;
        if self.useless.len() < MAX_TOLD && self.useless.insert(prefix.clone()) {
            tracing::warn!(%who, prefix, reason, "The bus refused a prefix of a SUB socket.");
        }
    }

    fn cancel(&mut self, prefix: &[u8]) {
        self.prefixes.remove(prefix);
        let who = &self.admitted.identity;
        self.live.hub.prefixes_changed(who, None);
    }

    /// Puts a message on the way, with those of its topic and person that wait behind it.
    fn give(&mut self, first: Parcel, subscription: &mut Subscription) {
        let who = &self.admitted.identity;
        if !self.live.hub.may_hear(who, &first.envelope) {
            return;
        }
        let mut bytes = first.size();
        let mut parcels = vec![first.clone()];
        while parcels.len() < FRAME_ENVELOPES && bytes < FRAME_BYTES {
            match subscription.try_take() {
                Some(Taken::Parcel(parcel))
                    if parcel.envelope.topic == first.envelope.topic
                        && parcel.envelope.person == first.envelope.person
                        && bytes + parcel.size() <= FRAME_BYTES =>
                {
                    bytes += parcel.size();
                    parcels.push(parcel);
                }
                other => {
                    self.waiting = other;
                    break;
                }
            }
        }
        let topic = &first.envelope.topic;
        let missed = std::mem::take(&mut self.missed);
        let parts = [
            Bytes::copy_from_slice(topic.as_bytes()),
            wire::frame_after_gap(&parcels, missed),
        ];
        if let Err(error) = self.connection.send_message(&Message::multipart(parts)) {
            tracing::warn!(%who, %error, "A message for a SUB socket could not be encoded.");
            self.admitted.ended.cancel();
        }
    }

    fn malformed(&self, reason: &str) {
        let counter = &self.live.hub.counters.malformed;
        counter.fetch_add(1, Ordering::Relaxed);
        let who = &self.admitted.identity;
        tracing::warn!(%who, reason, "A SUB socket sent what can't be read; it is closed.");
    }
}

/// What comes next; dropping the future loses nothing.
async fn next(waiting: &mut Option<Taken>, subscription: &mut Subscription) -> Option<Taken> {
    match waiting.take() {
        Some(taken) => Some(taken),
        None => subscription.take().await,
    }
}
