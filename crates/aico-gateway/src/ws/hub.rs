//! One person's stream of events: fed by one subscription on the bus, read by any number of
//! connections.

use std::sync::Arc;

use aico_bus::{Delivery, Subscription};
use aico_contracts::ids::PersonId;
use axum::extract::ws::Utf8Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ring::{Next, Ring};
use crate::config::Limits;
use crate::convert::{self, Untold};

/// See the module's head.
pub(crate) struct Hub {
    person: PersonId,
    ring: Mutex<Ring>,
    /// Number of the last event.
    last: watch::Sender<u64>,
    pub(super) members: watch::Sender<usize>,
    /// The stream has ended: a gap, the person is gone, or the bus is.
    over: CancellationToken,
}

impl Hub {
    pub(super) fn new(person: PersonId, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            person,
            ring: Mutex::new(Ring::new(limits.ring_events, limits.ring_bytes)),
            last: watch::Sender::new(0),
            members: watch::Sender::new(0),
            over: CancellationToken::new(),
        })
    }

    pub(super) fn end(&self) {
        self.over.cancel();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Gathers events until the stream can't be continued without a gap.
    pub(super) async fn feed(&self, mut personal: Subscription, mut models: Subscription) {
        loop {
            let delivery = tokio::select! {
                delivery = personal.recv() => delivery,
                delivery = models.recv() => delivery,
                () = self.over.cancelled() => return,
            };
            match delivery {
                Some(Delivery::Message(envelope)) => {
                    // The bus has checked it; a mistake here would show one person's words
                    // to another.
                    let theirs = envelope.person.is_empty()
                        || envelope.person.as_ref() == self.person.as_bytes();
                    if !theirs {
                        tracing::error!("an event of another person reached a stream; dropped");
                        continue;
                    }
                    match convert::event(&envelope) {
                        Ok(event) => self.push(&event),
                        Err(Untold::Kind) => {}
                        Err(error) => {
                            tracing::error!(%error, topic_kind = kind(&envelope.topic),
                                "an event could not be told; clients are sent to read anew");
                            return;
                        }
                    }
                }
                Some(Delivery::Gap { missed }) => {
                    tracing::warn!(missed, "events were lost on the bus; clients read anew");
                    return;
                }
                // Over a link only; the same would follow from it.
                Some(Delivery::Interrupted { .. }) | None => return,
            }
        }
    }

    pub(super) fn push(&self, event: &impl serde::Serialize) {
        let Ok(json) = serde_json::to_string(event) else {
            return;
        };
        let last = {
            let mut ring = self.ring.lock();
            ring.push(&json);
            ring.last()
        };
        self.last.send_replace(last);
    }
}

fn kind(topic: &str) -> &str {
    topic.rsplit('.').next().unwrap_or_default()
}

/// A connection's view of a person's stream.
pub(crate) struct Member {
    hub: Arc<Hub>,
    changed: watch::Receiver<u64>,
    /// Number of the last event that was taken.
    seen: u64,
    /// What was there when it joined may wait longer: it is being caught up with.
    joined: u64,
    most_events: u64,
    most_bytes: u64,
}

/// Where a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) epoch: Uuid,
    /// Number of the last event before what follows.
    pub(crate) seq: u64,
    /// What follows continues what the client had.
    pub(crate) resumed: bool,
}

impl Member {
    /// Joins; counted by `Hubs::join`, which holds the registry's lock.
    pub(super) fn new(
        hub: Arc<Hub>,
        resume: Option<(Uuid, u64)>,
        limits: &Limits,
    ) -> (Self, Begin) {
        hub.members.send_modify(|members| *members += 1);
        let changed = hub.last.subscribe();
        let (begin, joined) = {
            let ring = hub.ring.lock();
            let epoch = ring.epoch();
            let begin = match resume {
                Some((known, seq)) if ring.knows(known, seq) => Begin {
                    epoch,
                    seq,
                    resumed: true,
                },
                _ => Begin {
                    epoch,
                    seq: ring.last(),
                    resumed: false,
                },
            };
            (begin, ring.last())
        };
        let member = Self {
            hub,
            changed,
            seen: begin.seq,
            joined,
            most_events: limits.waiting_events,
            most_bytes: limits.waiting_bytes,
        };
        (member, begin)
    }

    /// The next event that is there already; `Lost` when this client has fallen behind.
    pub(crate) fn take(&mut self) -> Next {
        if self.is_behind() {
            return Next::Lost;
        }
        let next = self.hub.ring.lock().next(self.seen);
        if let Next::Event(seq, _) = &next {
            self.seen = *seq;
        }
        next
    }

    /// The next event, when it comes; `None` when this client has fallen behind or the stream
    /// has ended. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Utf8Bytes> {
        loop {
            self.changed.mark_unchanged();
            match self.take() {
                Next::Event(_, frame) => return Some(frame),
                Next::Lost => return None,
                Next::Nothing => {}
            }
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                () = self.hub.over.cancelled() => return None,
            }
        }
    }

    /// More waits than may.
    fn is_behind(&self) -> bool {
        let ring = self.hub.ring.lock();
        let from = self.seen.max(self.joined);
        ring.last().saturating_sub(from) > self.most_events
            || ring.bytes_since(from) > self.most_bytes
    }

    /// The person's stream is over: locked, or the person is gone.
    pub(crate) fn is_over(&self) -> bool {
        self.hub.over.is_cancelled()
    }

    /// Returns once more waits than may, or the stream has ended. For use while a frame is
    /// being sent.
    pub(crate) async fn fallen_behind(&mut self) {
        loop {
            self.changed.mark_unchanged();
            if self.is_behind() {
                return;
            }
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return },
                () = self.hub.over.cancelled() => return,
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.hub.members.send_modify(|members| *members -= 1);
    }
}
