//! A message's way in: whose it is, whether it may, the journal, and everybody's queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aico_contracts::ByteString;
use aico_contracts::ids::PersonId;
use aico_contracts::topics::{self, Class};
use aico_contracts::v1::Envelope;
use bytes::Bytes;

use super::{Hub, Member};
use crate::error::BusError;
use crate::follow::Pending;
use crate::identity::Direction;
use crate::ids::now_ns;
use crate::journal::{JournalFault, Message, Receipt};
use crate::parcel::{Parcel, Stamp, append_person};

/// Sequences, one for each class. Held while a message is put into the queues, so that every
/// subscriber sees one order.
#[derive(Default)]
pub(super) struct Order {
    live: u64,
    durable: u64,
}

impl Hub {
    /// Makes envelope and topic agree about the person. A personal topic names its person; the
    /// envelope may leave it out but not say otherwise.
    pub(super) fn settle_person(
        envelope: &mut Envelope,
        wire: &mut Option<Bytes>,
    ) -> Result<Option<PersonId>, BusError> {
        let wrong = || BusError::WrongPerson {
            topic: envelope.topic.to_string(),
        };
        let said = match envelope.person.len() {
            0 => None,
            _ => Some(PersonId::from_slice(&envelope.person).map_err(|_| wrong())?),
        };
        if !topics::is_personal(&envelope.topic) {
            return Ok(said);
        }
        let person = topics::person_of(&envelope.topic).ok_or_else(wrong)?;
        match said {
            None => {
                envelope.person = Bytes::copy_from_slice(person.as_bytes());
                *wire = wire
                    .take()
                    .map(|wire| append_person(&wire, person.as_bytes()));
            }
            Some(said) if said == person => {}
            Some(_) => return Err(wrong()),
        }
        Ok(Some(person))
    }

    /// Publishes for a member. `wire` is the encoded form it came in over a link.
    pub(crate) fn publish(
        &self,
        from: &Member,
        mut envelope: Envelope,
        mut wire: Option<Bytes>,
    ) -> Result<(), BusError> {
        let who = &from.speaker.identity;
        let person = Self::settle_person(&mut envelope, &mut wire)?;
        self.authorize(who, Direction::Publish, &envelope.topic, person)?;
        self.count_published(from, &envelope);
        if topics::class(&envelope.topic) == Class::Durable
            && let Some(journal) = self.journal()
        {
            // The store is the truth: what the journal can't keep now, others read again there.
            let done = |outcome: Result<Receipt, JournalFault>| {
                if let Err(error) = outcome {
                    tracing::warn!(%error, "A message is not in the journal.");
                }
            };
            match Message::new(from.name(), person, &envelope, wire.as_ref()) {
                Ok(message) => journal.keep(message, Some(Box::new(done))),
                Err(error) => done(Err(error)),
            }
        }
        self.fan_out(from.name(), person, envelope, wire);
        Ok(())
    }

    fn count_published(&self, from: &Member, envelope: &Envelope) {
        self.counters.published.fetch_add(1, Ordering::Relaxed);
        from.traffic.published(envelope.payload.len());
    }

    /// Puts a message into the queues of all who subscribed.
    fn fan_out(
        &self,
        sender: &ByteString,
        person: Option<PersonId>,
        mut envelope: Envelope,
        wire: Option<Bytes>,
    ) {
        let lane = self.lane(&envelope.topic);
        let mut wakers = Vec::new();
        let (mut delivered, mut dropped) = (0, 0);
        // What was made in this process a moment ago has the time already.
        let now_ns = if wire.is_some() {
            now_ns()
        } else {
            envelope.time_unix_ns
        };
        {
            let mut order = self.order.lock();
            let sequence = match lane.class {
                Class::Live => &mut order.live,
                Class::Durable => &mut order.durable,
            };
            *sequence += 1;
            if lane.routes.is_empty() {
                return;
            }
            let stamp = Stamp {
                sequence: *sequence,
                epoch: &self.epoch_bytes,
                sender,
                now_ns,
            };
            stamp.set(&mut envelope);
            let bytes = envelope.payload.len();
            let parcel = Parcel {
                envelope: Arc::new(envelope),
                wire,
            };
            for route in &lane.routes {
                if person.is_some_and(|person| !self.policy.sees(&route.identity, person)) {
                    continue;
                }
                delivered += 1;
                let pushed = route.mailbox.push(parcel.clone());
                route.traffic.received(bytes, pushed.dropped);
                dropped += pushed.dropped;
                wakers.extend(pushed.waker);
            }
        }
        self.counters
            .delivered
            .fetch_add(delivered, Ordering::Relaxed);
        if dropped > 0 {
            self.counters.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    /// Publishes on a durable topic for a module of the daemon: delivered here at once.
    pub(super) fn publish_durably(
        &self,
        from: &Member,
        mut envelope: Envelope,
    ) -> Result<Pending, BusError> {
        let who = &from.speaker.identity;
        let person = Self::settle_person(&mut envelope, &mut None)?;
        self.authorize(who, Direction::Publish, &envelope.topic, person)?;
        let journal = self.journal();
        let journal = journal.ok_or(BusError::Journal(JournalFault::Locked))?;
        let message = Message::new(from.name(), person, &envelope, None);
        let message = message.map_err(BusError::Journal)?;
        self.count_published(from, &envelope);
        let (done, pending) = Pending::new();
        journal.keep(message, Some(done));
        self.fan_out(from.name(), person, envelope, None);
        Ok(pending)
    }

    /// Publishes on a durable topic for a peer: delivered here once it is in the journal, so that
    /// a peer that repeats what nobody answered for is not heard twice.
    pub(crate) fn publish_from_peer(
        self: &Arc<Self>,
        from: &Member,
        mut envelope: Envelope,
        wire: Bytes,
        answer: impl FnOnce(Result<Receipt, JournalFault>) + Send + 'static,
    ) -> Result<(), BusError> {
        let mut wire = Some(wire);
        let who = &from.speaker.identity;
        let person = Self::settle_person(&mut envelope, &mut wire)?;
        self.authorize(who, Direction::Publish, &envelope.topic, person)?;
        let journal = self.journal();
        let journal = journal.ok_or(BusError::Journal(JournalFault::Locked))?;
        let message = Message::new(from.name(), person, &envelope, wire.as_ref());
        let message = message.map_err(BusError::Journal)?;
        self.count_published(from, &envelope);
        let (hub, sender) = (Arc::downgrade(self), from.name().clone());
        let done = move |outcome: Result<Receipt, JournalFault>| {
            if outcome.as_ref().is_ok_and(|receipt| !receipt.repeated)
                && let Some(hub) = hub.upgrade()
            {
                hub.fan_out(&sender, person, envelope, wire);
            }
            answer(outcome);
        };
        journal.keep(message, Some(Box::new(done)));
        Ok(())
    }
}
