//! The exchanges between the two ends of one link, which is the same on both sides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use aico_contracts::v1::{Control, Envelope, Fault, control};
use aico_contracts::{ByteString, Payload};
use bytes::Bytes;
use control::failed::Reason;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use super::wire;
use crate::error::{BusError, RequestError};
use crate::ids::now_ns;
use crate::parcel::{Kind, Parcel, Stamp, exchange};
use crate::port::Speaker;
use crate::reply::{End, ReplyReceiver, ReplySender, Tap, WINDOW};
use crate::server::Place;

/// Most exchanges that one side of a link may have open.
const MAX_OPEN: usize = 4096;

/// An exchange in which the other end answers.
struct Asked {
    reply: ReplySender,
    request: Arc<Envelope>,
    next_index: u64,
    accepted: Option<oneshot::Sender<Result<(), RequestError>>>,
    /// Keeps the place among the server's requests in progress.
    _place: Option<Place>,
}

/// An exchange in which this end answers.
#[derive(Clone)]
struct Served {
    credit: Arc<Semaphore>,
    cancel: CancellationToken,
}

pub(super) struct Session {
    pub(super) outbox: Arc<Outbox>,
    /// Who the other end is, where this end stamps what it says: in the daemon.
    stamp: Option<Speaker>,
    asked: Mutex<HashMap<Bytes, Asked>>,
    served: Mutex<HashMap<Bytes, Served>>,
    pub(super) closed: CancellationToken,
}

impl Session {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        stamp: Option<Speaker>,
        closed: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            outbox,
            stamp,
            asked: Mutex::default(),
            served: Mutex::default(),
            closed,
        })
    }

    pub(super) fn say(&self, say: control::Say) {
        self.outbox.send(wire::control(say));
    }

    /// Puts a request to the other end; its answers go into `reply`.
    pub(super) fn ask(
        self: &Arc<Self>,
        parcel: Parcel,
        receiver: u64,
        reply: ReplySender,
        accepted: Option<oneshot::Sender<Result<(), RequestError>>>,
        place: Option<Place>,
    ) {
        let id = parcel.envelope.id.clone();
        let tapper = reply.tapper();
        let asked = Asked {
            reply,
            request: parcel.envelope.clone(),
            next_index: 0,
            accepted,
            _place: place,
        };
        {
            let mut open = self.asked.lock();
            if self.closed.is_cancelled() || open.len() >= MAX_OPEN || open.contains_key(&id) {
                drop(open);
                return asked.fail(self.gone());
            }
            open.insert(id, asked);
        }
        self.outbox.send(wire::frame_of(&parcel, receiver));
        // After the request, so that a cancel can't overtake it.
        tapper.tap(Box::new(WireTap {
            session: Arc::downgrade(self),
            request: parcel.envelope,
            credited: AtomicU64::new(0),
        }));
    }

    /// Sends what comes out of `receiver` to the other end, which asked with `request`.
    pub(super) fn answer(self: &Arc<Self>, request: Arc<Envelope>, receiver: ReplyReceiver) {
        let id = request.id.clone();
        let served = Served {
            credit: Arc::new(Semaphore::new(WINDOW)),
            cancel: CancellationToken::new(),
        };
        {
            let mut open = self.served.lock();
            if open.len() >= MAX_OPEN || open.contains_key(&id) {
                drop(open);
                let detail = "too many exchanges are open, or one has this id".to_owned();
                return self.fail(id, &RequestError::Malformed(detail));
            }
            open.insert(id.clone(), served.clone());
        }
        self.say(control::Say::Accepted(control::Taken {
            exchange: id.clone(),
        }));
        let session = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = session.pump(&request, receiver, served) => {}
                () = session.closed.cancelled() => {}
            }
            session.served.lock().remove(&id);
        });
    }

    async fn pump(&self, request: &Envelope, mut receiver: ReplyReceiver, served: Served) {
        loop {
            let received = tokio::select! {
                biased;
                received = receiver.recv() => received,
                () = served.cancel.cancelled(), if !receiver.is_cancelled() => {
                    receiver.cancel();
                    continue;
                }
            };
            match received {
                Some(Ok(parcel)) if kind_of(&parcel.envelope) == Kind::End => {
                    return self.outbox.send(wire::frame_of(&parcel, 0));
                }
                Some(Ok(parcel)) => {
                    let permit = loop {
                        tokio::select! {
                            biased;
                            permit = served.credit.acquire() => break permit,
                            () = served.cancel.cancelled(), if !receiver.is_cancelled() => {
                                receiver.cancel();
                            }
                        }
                    };
                    let Ok(permit) = permit else { return };
                    permit.forget();
                    self.outbox.send(wire::frame_of(&parcel, 0));
                }
                Some(Err(RequestError::Fault(fault))) => {
                    return self.send_part(request, Kind::Fault, Some(&fault));
                }
                Some(Err(error)) => return self.fail(request.id.clone(), &error),
                None => return self.send_part::<Fault>(request, Kind::End, None),
            }
        }
    }

    /// A part of an exchange that this end makes itself.
    fn send_part<M: Payload>(&self, request: &Envelope, kind: Kind, message: Option<&M>) {
        let envelope = Envelope {
            id: Bytes::copy_from_slice(uuid::Uuid::now_v7().as_bytes()),
            topic: request.topic.clone(),
            time_unix_ns: now_ns(),
            person: request.person.clone(),
            correlation: request.id.clone(),
            trace: request.trace.clone(),
            schema_version: aico_contracts::SCHEMA_VERSION,
            payload_type: message
                .map(|_| ByteString::from_static(M::TYPE))
                .unwrap_or_default(),
            payload: message
                .map(|m| Bytes::from(m.encode_to_vec()))
                .unwrap_or_default(),
            exchange: exchange(kind, 0),
            ..Envelope::default()
        };
        self.outbox.send(wire::frame_of(&Parcel::new(envelope), 0));
    }

    /// Answers a request that no server took. A fault keeps its code.
    pub(super) fn refuse(&self, topic: &str, id: Bytes, error: &RequestError) {
        match error {
            RequestError::Fault(fault) => {
                let request = Envelope {
                    id,
                    topic: topic.into(),
                    ..Envelope::default()
                };
                self.send_part(&request, Kind::Fault, Some(fault));
            }
            _ => self.fail(id, error),
        }
    }

    /// Tells the other end that its exchange came to nothing.
    pub(super) fn fail(&self, exchange: Bytes, error: &RequestError) {
        let (reason, detail) = match error {
            RequestError::Fault(_) | RequestError::Malformed(_) => {
                (Reason::Malformed, error.to_string())
            }
            RequestError::NobodyServes { .. } => (Reason::NobodyServes, String::new()),
            RequestError::DeadlinePassed => (Reason::DeadlinePassed, String::new()),
            RequestError::ServerGone | RequestError::LinkLost => {
                (Reason::ServerGone, String::new())
            }
            RequestError::Refused(error) => (Reason::Refused, error.to_string()),
        };
        let reason = reason.into();
        self.say(control::Say::Failed(control::Failed {
            exchange,
            reason,
            detail,
        }));
    }

    /// Takes a part of an exchange from the other end. `false` when it fits none: the other end
    /// is mistaken or lies.
    pub(super) fn take_part(&self, mut envelope: Envelope, bytes: Bytes) -> bool {
        let kind = kind_of(&envelope);
        let id = envelope.correlation.clone();
        if kind == Kind::Cancel {
            // An exchange that has just ended can still be cancelled: no mistake.
            if let Some(served) = self.served.lock().get(&id) {
                served.cancel.cancel();
            }
            return true;
        }
        let mut open = self.asked.lock();
        let Some(asked) = open.get_mut(&id) else {
            return false;
        };
        if envelope.topic != asked.request.topic {
            return false;
        }
        asked.accept();
        let index = envelope
            .exchange
            .as_ref()
            .map_or(0, |exchange| exchange.index);
        if kind == Kind::Item && index != asked.next_index {
            let asked = open.remove(&id);
            drop(open);
            if let Some(asked) = asked {
                asked.fail(RequestError::Malformed("items are missing".into()));
            }
            return false;
        }
        asked.next_index += 1;
        let wire = self.stamp.as_ref().map(|speaker| {
            envelope.person = asked.request.person.clone();
            let stamp = Stamp {
                sequence: 0,
                epoch: &speaker.epoch,
                sender: speaker.identity.name(),
                now_ns: now_ns(),
            };
            stamp.set(&mut envelope);
            crate::parcel::append_person(&bytes, &envelope.person)
        });
        match kind {
            Kind::Item => {
                let parcel = Parcel {
                    envelope: Arc::new(envelope),
                    wire,
                };
                if asked.reply.is_closed() {
                    // Thrown away, and the credit with it, so that the server can come to its end.
                    self.refill(&id);
                } else if asked.reply.try_send(parcel).is_err() && !asked.reply.is_closed() {
                    let asked = open.remove(&id);
                    drop(open);
                    if let Some(asked) = asked {
                        let detail = "more items came than there was credit for".to_owned();
                        asked.fail(RequestError::Malformed(detail));
                    }
                    return false;
                }
            }
            Kind::End | Kind::Fault => {
                let asked = open.remove(&id);
                drop(open);
                if let Some(asked) = asked {
                    asked.end(kind, envelope, wire);
                }
            }
            Kind::Cancel | Kind::Request | Kind::Unspecified => return false,
        }
        true
    }

    /// Gives all credit of an exchange back.
    fn refill(&self, exchange: &Bytes) {
        self.say(control::Say::Credit(control::Credit {
            exchange: exchange.clone(),
            messages: WINDOW as u64,
            ..control::Credit::default()
        }));
    }

    /// Takes what the other end says about exchanges; gives back what is about something else.
    pub(super) fn take_control(&self, say: control::Say) -> Option<control::Say> {
        match say {
            control::Say::Accepted(taken) => {
                if let Some(asked) = self.asked.lock().get_mut(&taken.exchange) {
                    asked.accept();
                }
            }
            control::Say::Failed(failed) => {
                let asked = self.asked.lock().remove(&failed.exchange);
                if let Some(asked) = asked {
                    let topic = asked.request.topic.to_string();
                    asked.fail(read_failed(&failed, topic));
                }
            }
            control::Say::Credit(credit) if !credit.exchange.is_empty() => {
                if let Some(served) = self.served.lock().get(&credit.exchange) {
                    // More than the window can't be owed, whatever the other end says.
                    let room = WINDOW.saturating_sub(served.credit.available_permits());
                    let more = usize::try_from(credit.messages).unwrap_or(WINDOW).min(room);
                    served.credit.add_permits(more);
                }
            }
            other => return Some(other),
        }
        None
    }

    /// The link is gone: everything that waits for the other end is told.
    pub(super) fn close(&self) {
        self.closed.cancel();
        let asked = std::mem::take(&mut *self.asked.lock());
        for asked in asked.into_values() {
            asked.fail(self.gone());
        }
        self.served.lock().clear();
    }

    /// What the end of the link means to who asked: to the daemon the other end is a server, to a
    /// member it is the way to all of them.
    fn gone(&self) -> RequestError {
        match self.stamp {
            Some(_) => RequestError::ServerGone,
            None => RequestError::LinkLost,
        }
    }
}

impl Asked {
    fn accept(&mut self) {
        if let Some(accepted) = self.accepted.take() {
            let _ = accepted.send(Ok(()));
        }
    }

    fn fail(self, error: RequestError) {
        // Before the request was accepted its caller still waits for that, and learns it there.
        if let Some(accepted) = self.accepted {
            let _ = accepted.send(Err(error));
        } else {
            self.reply.end(End::Failed(error));
        }
    }

    fn end(self, kind: Kind, envelope: Envelope, wire: Option<Bytes>) {
        if kind == Kind::Fault {
            let fault = crate::decode::<Fault>(&envelope)
                .unwrap_or_else(|_| Fault::internal("A failure could not be read"));
            return self.reply.end(End::Failed(RequestError::Fault(fault)));
        }
        let last = (!envelope.payload_type.is_empty()).then(|| Parcel {
            envelope: Arc::new(envelope),
            wire,
        });
        self.reply.end(End::Done(last));
    }
}

pub(super) fn kind_of(envelope: &Envelope) -> Kind {
    envelope
        .exchange
        .as_ref()
        .and_then(|exchange| Kind::try_from(exchange.kind).ok())
        .unwrap_or(Kind::Unspecified)
}

fn read_failed(failed: &control::Failed, topic: String) -> RequestError {
    match Reason::try_from(failed.reason) {
        Ok(Reason::NobodyServes) => RequestError::NobodyServes { topic },
        Ok(Reason::DeadlinePassed) => RequestError::DeadlinePassed,
        Ok(Reason::ServerGone) => RequestError::ServerGone,
        Ok(Reason::Refused) => RequestError::Refused(BusError::RefusedByPeer {
            topic,
            reason: failed.detail.clone(),
        }),
        _ => RequestError::Malformed(failed.detail.clone()),
    }
}

/// Tells the answering end what the asker does.
struct WireTap {
    session: Weak<Session>,
    request: Arc<Envelope>,
    /// Items for which credit was given back.
    credited: AtomicU64,
}

impl Tap for WireTap {
    fn consumed(&self, in_all: u64) {
        // Credit goes back in halves of the window, not one by one.
        let half = (WINDOW / 2) as u64;
        let due = |credited| (in_all >= credited + half).then_some(in_all);
        if let Ok(credited) = self
            .credited
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, due)
            && let Some(session) = self.session.upgrade()
        {
            session.say(control::Say::Credit(control::Credit {
                exchange: self.request.id.clone(),
                messages: in_all - credited,
                ..control::Credit::default()
            }));
        }
    }

    fn cancelled(&self) {
        if let Some(session) = self.session.upgrade()
            && session.asked.lock().contains_key(&self.request.id)
        {
            session.send_part::<Control>(&self.request, Kind::Cancel, None);
        }
    }

    fn dropped(&self) {
        if let Some(session) = self.session.upgrade()
            && session.asked.lock().contains_key(&self.request.id)
        {
            session.refill(&self.request.id);
        }
    }
}
