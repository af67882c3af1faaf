//! What a peer is told of its messages on durable topics, many in one frame.
//!
//! The journal's thread answers for each message; a task of the peer says what has gathered.

use std::sync::Arc;

use aico_contracts::v1::{Fault, control};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::session::Session;
use crate::journal::{JournalFault, Place, Receipt};

/// Most ids in one control message.
const MOST: usize = 1024;

#[derive(Default)]
pub(super) struct Receipts {
    waiting: Mutex<Vec<(Bytes, Result<Receipt, Fault>)>>,
    more: Notify,
}

impl Receipts {
    /// Tells the peer of this session until it is closed.
    pub(super) fn start(session: &Arc<Session>) -> Arc<Self> {
        let receipts = Arc::new(Self::default());
        let (told, session) = (receipts.clone(), session.clone());
        tokio::spawn(async move {
            let closed = session.closed.clone();
            tokio::select! {
                () = told.tell(&session) => {}
                () = closed.cancelled() => {}
            }
        });
        receipts
    }

    pub(super) fn add(&self, id: Bytes, outcome: Result<Receipt, JournalFault>) {
        self.add_told(id, outcome.map_err(|fault| fault.to_fault()));
    }

    pub(super) fn add_told(&self, id: Bytes, outcome: Result<Receipt, Fault>) {
        let mut waiting = self.waiting.lock();
        waiting.push((id, outcome));
        let first = waiting.len() == 1;
        drop(waiting);
        if first {
            self.more.notify_one();
        }
    }

    async fn tell(&self, session: &Session) {
        loop {
            self.more.notified().await;
            let waiting = std::mem::take(&mut *self.waiting.lock());
            for published in messages(waiting) {
                session.say(control::Say::Published(published));
            }
        }
    }
}

/// As few messages as say it all, in order.
fn messages(outcomes: Vec<(Bytes, Result<Receipt, Fault>)>) -> Vec<control::Published> {
    let mut out: Vec<control::Published> = Vec::new();
    for (id, outcome) in outcomes {
        let (place, fault) = match outcome {
            Ok(receipt) => (Some(place(receipt.place)), None),
            Err(fault) => (None, Some(fault)),
        };
        match out.last_mut() {
            Some(last) if last.fault == fault && last.ids.len() < MOST => {
                last.ids.push(id);
                last.places.extend(place);
            }
            _ => out.push(control::Published {
                ids: vec![id],
                places: place.into_iter().collect(),
                fault,
            }),
        }
    }
    out
}

pub(super) fn place(place: Place) -> control::Place {
    control::Place {
        epoch: Bytes::copy_from_slice(&place.epoch),
        sequence: place.sequence,
    }
}

/// `None`: its epoch is none.
pub(super) fn read_place(place: &control::Place) -> Option<Place> {
    let epoch = match place.epoch.len() {
        // Before the first message there is no epoch to be told.
        0 if place.sequence == 0 => [0; 16],
        _ => place.epoch.as_ref().try_into().ok()?,
    };
    Some(Place {
        epoch,
        sequence: place.sequence,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_in_order_and_faults_apart() {
        let kept = |sequence| {
            Ok(Receipt {
                place: Place {
                    epoch: [1; 16],
                    sequence,
                },
                repeated: false,
            })
        };
        let id = |n: u8| Bytes::copy_from_slice(&[n; 16]);
        let told = messages(vec![
            (id(1), kept(1)),
            (id(2), kept(2)),
            (id(3), Err(Fault::locked())),
            (id(4), Err(Fault::locked())),
            (id(5), kept(3)),
        ]);
        let shape: Vec<_> = told
            .iter()
            .map(|one| (one.ids.len(), one.places.len(), one.fault.is_some()))
            .collect();
        assert_eq!(shape, [(2, 2, false), (2, 0, true), (1, 1, false)]);
    }
}
