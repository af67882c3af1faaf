//! Messages on durable topics that the daemon has not answered for.
//!
//! On a link that is kept they stay here, in order, until it has: whatever link they went over is
//! gone, they go again over the next one under the same ids, and the journal keeps each once.

use std::collections::{BTreeMap, HashMap};

use aico_contracts::v1::control;
use bytes::Bytes;
use parking_lot::Mutex;

use super::receipts::read_place;
use super::session::Session;
use crate::error::BusError;
use crate::journal::{Done, JournalFault, Receipt};
use crate::parcel::Parcel;

/// Most messages and bytes that a link which is kept holds for the next one. Sent at once they
/// are well below what a link may have waiting.
const MOST: usize = 8192;
const MOST_BYTES: usize = 16 * 1024 * 1024;

struct Entry {
    parcel: Parcel,
    waiting: Vec<Done>,
    /// Over how many links it went.
    links: u32,
    /// The daemon could not take it, and an earlier one may have: it goes again on this link.
    again: bool,
}

#[derive(Default)]
struct Entries {
    next: u64,
    by_number: BTreeMap<u64, Entry>,
    numbers: HashMap<Bytes, u64>,
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Unanswered {
    /// Whether another link may come.
    keeps: bool,
    entries: Mutex<Entries>,
}

impl Unanswered {
    pub(super) fn new(keeps: bool) -> Self {
        Self {
            keeps,
            entries: Mutex::default(),
        }
    }

    /// Notes a message and sends it, if there is a link. `session` is asked while no other link
    /// can take its place.
    pub(super) fn send(
        &self,
        id: Bytes,
        parcel: Parcel,
        done: Done,
        session: impl FnOnce() -> Option<std::sync::Arc<Session>>,
    ) -> Result<(), BusError> {
        let mut entries = self.entries.lock();
        let entries = &mut *entries;
        let session = session();
        if let Some(number) = entries.numbers.get(&id) {
            if let Some(entry) = entries.by_number.get_mut(number) {
                entry.waiting.push(done);
            }
        } else {
            let full =
                entries.by_number.len() >= MOST || entries.bytes + parcel.size() > MOST_BYTES;
            if self.keeps && full && !entries.by_number.is_empty() {
                return Err(BusError::Busy);
            }
            let number = entries.next;
            entries.next += 1;
            entries.bytes += parcel.size();
            entries.numbers.insert(id, number);
            let entry = Entry {
                parcel: parcel.clone(),
                waiting: vec![done],
                links: u32::from(session.is_some()),
                again: false,
            };
            entries.by_number.insert(number, entry);
        }
        if let Some(session) = session {
            session.outbox.publish(&parcel);
        }
        Ok(())
    }

    /// A new link, which `begin` puts in the place of the old one: everything goes again.
    pub(super) fn send_all(&self, begin: impl FnOnce() -> std::sync::Arc<Session>) {
        let mut entries = self.entries.lock();
        let session = begin();
        for entry in entries.by_number.values_mut() {
            entry.links += 1;
            entry.again = false;
            session.outbox.publish(&entry.parcel);
        }
    }

    /// Sends what the daemon could not take yet.
    pub(super) fn send_again(&self, session: &Session) {
        for entry in self.entries.lock().by_number.values_mut() {
            if std::mem::take(&mut entry.again) {
                session.outbox.publish(&entry.parcel);
            }
        }
    }

    /// The daemon says what became of some. `true`: some are to be sent again in a while.
    pub(super) fn take(&self, published: &control::Published) -> bool {
        let fault = published.fault.as_ref().map(super::follow::read_fault);
        // It was not taken now. Whether an earlier link's daemon took it is answered only once it
        // can be asked.
        let passing = matches!(fault, Some(JournalFault::Locked | JournalFault::Busy));
        let mut told = Vec::new();
        let mut later = false;
        {
            let mut entries = self.entries.lock();
            let entries = &mut *entries;
            for (index, id) in published.ids.iter().enumerate() {
                let Some(number) = entries.numbers.get(id).copied() else {
                    continue;
                };
                if let Some(entry) = entries.by_number.get_mut(&number)
                    && passing
                    && entry.links > 1
                {
                    entry.again = true;
                    later = true;
                    continue;
                }
                entries.numbers.remove(id);
                let Some(entry) = entries.by_number.remove(&number) else {
                    continue;
                };
                entries.bytes -= entry.parcel.size();
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
                told.push((entry.waiting, outcome));
            }
        }
        for (waiting, outcome) in told {
            for done in waiting {
                done(outcome.clone());
            }
        }
        later
    }

    /// The link is gone for good; nobody knows what became of them.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut *self.entries.lock());
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aico_contracts::v1::{Envelope, Fault};
    use omq_tokio::{Socket, SocketType};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::follow::Pending;
    use crate::journal::Place;
    use crate::link::options;
    use crate::link::outbox::{Outbox, Wire};

    fn session() -> Arc<Session> {
        let socket = Socket::try_new(SocketType::Dealer, options()).unwrap();
        let closed = CancellationToken::new();
        Session::new(
            Outbox::start(Wire::Dealer(socket), closed.clone()),
            None,
            closed,
        )
    }

    fn key(number: u8) -> Bytes {
        Bytes::copy_from_slice(&[number; 16])
    }

    /// One that counts so many bytes.
    fn parcel(bytes: usize) -> Parcel {
        let empty = Parcel::new(Envelope::default());
        Parcel::new(Envelope {
            payload: vec![0; bytes.saturating_sub(empty.size())].into(),
            ..Envelope::default()
        })
    }

    fn send(all: &Unanswered, number: u8, session: Option<Arc<Session>>) -> Pending {
        let (done, pending) = Pending::new();
        all.send(key(number), parcel(1), done, || session).unwrap();
        pending
    }

    fn refused(number: u8, fault: Fault) -> control::Published {
        control::Published {
            ids: vec![key(number)],
            fault: Some(fault),
            ..control::Published::default()
        }
    }

    fn kept(number: u8) -> control::Published {
        control::Published {
            ids: vec![key(number)],
            places: vec![control::Place {
                epoch: key(9),
                sequence: number.into(),
            }],
            fault: None,
        }
    }

    fn place(number: u8) -> Place {
        Place {
            epoch: [9; 16],
            sequence: number.into(),
        }
    }

    #[tokio::test]
    async fn what_an_earlier_link_may_have_carried_is_told_only_when_it_is_known() {
        let all = Unanswered::new(true);
        let early = send(&all, 1, Some(session()));
        let later = send(&all, 2, None);
        all.send_all(session);
        // The first may be in the journal of the run before; the second is in none.
        assert!(all.take(&refused(1, Fault::locked())));
        assert!(!all.take(&refused(2, Fault::locked())));
        let locked = Err(BusError::Journal(JournalFault::Locked));
        assert_eq!(later.await, locked);
        all.send_again(&session());
        assert!(all.take(&refused(1, Fault::busy("x"))));
        all.send_again(&session());
        assert!(!all.take(&kept(1)));
        assert_eq!(early.await.unwrap().place, place(1));
        assert_eq!(all.entries.lock().bytes, 0);
        assert!(all.entries.lock().numbers.is_empty());
    }

    #[tokio::test]
    async fn a_repetition_is_answered_with_the_first_and_a_link_for_once_keeps_nothing() {
        let all = Unanswered::new(false);
        let (one, two) = (
            send(&all, 1, Some(session())),
            send(&all, 1, Some(session())),
        );
        assert!(!all.take(&kept(1)));
        assert_eq!(
            (one.await.unwrap().place, two.await.unwrap().place),
            (place(1), place(1))
        );
        let gone = send(&all, 2, Some(session()));
        all.clear();
        assert_eq!(gone.await, Err(BusError::Closed));
    }

    #[tokio::test]
    async fn what_waits_for_a_link_is_bounded() {
        let all = Unanswered::new(true);
        let room = parcel(MOST_BYTES / 2);
        let try_send = |number: u8, parcel: Parcel| {
            let (done, pending) = Pending::new();
            all.send(key(number), parcel, done, || None)
                .map(|()| pending)
        };
        let first = try_send(1, room.clone()).unwrap();
        let second = try_send(2, room).unwrap();
        let small = parcel(1);
        assert_eq!(try_send(3, small.clone()).err(), Some(BusError::Busy));
        // A repetition takes no room.
        assert!(try_send(1, small.clone()).is_ok());
        assert!(!all.take(&kept(1)));
        assert!(first.await.is_ok());
        assert!(try_send(3, small).is_ok());
        drop(second);
    }
}
