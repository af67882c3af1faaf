//! The member's end of durable topics: what waits for the daemon's word, and who follows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aico_contracts::v1::control::{self, follow, skipped};
use aico_contracts::v1::{Empty, Envelope, Fault};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

use super::receipts::{place, read_place};
use crate::error::BusError;
use crate::follow::Followed;
use crate::journal::{Done, JournalFault, Place, Receipt, Skipped, Start, Why};
use crate::queue::Queue;

/// Room for what is told of missing messages, beside the messages that credit allows.
const NOTICES: usize = 64;

/// Messages on durable topics that the daemon has not answered for.
#[derive(Default)]
pub(super) struct Unanswered(Mutex<HashMap<Bytes, Vec<Done>>>);

impl Unanswered {
    pub(super) fn add(&self, id: Bytes, done: Done) {
        self.0.lock().entry(id).or_default().push(done);
    }

    /// The daemon says what became of some.
    pub(super) fn take(&self, published: control::Published) {
        let fault = published.fault.as_ref().map(read_fault);
        for (index, id) in published.ids.iter().enumerate() {
            let Some(waiting) = self.0.lock().remove(id) else {
                continue;
            };
            let place = published.places.get(index).and_then(read_place);
            let outcome = match (&fault, place) {
                (Some(fault), _) => Err(fault.clone()),
                (None, Some(place)) => Ok(Receipt {
                    place,
                    repeated: false,
                }),
                (None, None) => Err(JournalFault::Failed {
                    reason: "the daemon's answer can't be read".to_owned(),
                }),
            };
            for done in waiting {
                done(outcome.clone());
            }
        }
    }

    /// The link is gone; nobody knows what became of them.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

/// A refusal by the daemon that is not the journal's own keeps its words.
fn read_fault(fault: &Fault) -> JournalFault {
    JournalFault::from_fault(fault).unwrap_or_else(|| JournalFault::Failed {
        reason: fault.title.clone(),
    })
}

/// Why the daemon ended or refused one who follows.
pub(super) fn read_refusal(topic: String, refusal: Fault) -> BusError {
    match JournalFault::from_fault(&refusal) {
        Some(fault) => BusError::Journal(fault),
        None => BusError::RefusedByPeer {
            topic,
            reason: refusal.title,
        },
    }
}

/// One who follows, as the link's reader sees it.
pub(super) struct Target {
    items: mpsc::Sender<Followed>,
    head: watch::Sender<Option<Place>>,
    received: AtomicU64,
    next: Mutex<Place>,
}

/// The other ends of a [`Target`].
pub(super) type Ends = (mpsc::Receiver<Followed>, watch::Receiver<Option<Place>>);

impl Target {
    pub(super) fn new(queue: Queue) -> (Arc<Self>, Ends) {
        let (items, taken) = mpsc::channel(queue.messages.saturating_add(NOTICES).min(1 << 20));
        let (head, seen) = watch::channel(None);
        let next = Mutex::new(Place {
            epoch: [0; 16],
            sequence: 0,
        });
        let target = Arc::new(Self {
            items,
            head,
            received: AtomicU64::new(0),
            next,
        });
        (target, (taken, seen))
    }

    /// `Err`: the daemon sent more than there was credit for.
    pub(super) fn deliver(&self, envelope: Envelope) -> Result<(), ()> {
        self.received.fetch_add(1, Ordering::Relaxed);
        if let Ok(epoch) = envelope.epoch.as_ref().try_into() {
            *self.next.lock() = Place {
                epoch,
                sequence: envelope.sequence + 1,
            };
        }
        self.push(Followed::Message(Arc::new(envelope)))
    }

    pub(super) fn skipped(&self, told: &control::Skipped) -> Result<(), ()> {
        let next = told.next.as_ref().and_then(read_place).ok_or(())?;
        let why = match told.why() {
            skipped::Why::Expired => Why::Expired,
            skipped::Why::OtherEpoch => Why::OtherEpoch,
            skipped::Why::Locked => Why::Locked,
            skipped::Why::Damaged | skipped::Why::Unspecified => Why::Damaged,
        };
        self.push(Followed::Skipped(Skipped {
            why,
            missed: told.missed,
            next,
        }))
    }

    /// The daemon's heartbeat: what was sent and is not here was lost.
    pub(super) fn head(&self, head: &control::Head) -> Result<(), ()> {
        let last = head.last.as_ref().and_then(read_place);
        self.head.send_replace(last);
        let received = self.received.swap(head.sent, Ordering::Relaxed);
        if received >= head.sent {
            return Ok(());
        }
        self.push(Followed::Skipped(Skipped {
            why: Why::Lost,
            missed: head.sent - received,
            next: *self.next.lock(),
        }))
    }

    fn push(&self, item: Followed) -> Result<(), ()> {
        match self.items.try_send(item) {
            // Its follower has just been dropped.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(()),
        }
    }
}

pub(super) fn said_start(start: Start) -> follow::Start {
    match start {
        Start::Now => follow::Start::Now(Empty {}),
        Start::First => follow::Start::First(Empty {}),
        Start::After(after) => follow::Start::After(place(after)),
        Start::Cursor(name) => follow::Start::Cursor(name),
    }
}
