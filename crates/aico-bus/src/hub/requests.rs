//! Requests: who serves a topic, and who is asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aico_contracts::topics;
use aico_contracts::v1::{Envelope, Fault};
use bytes::Bytes;

use super::{Hub, Member};
use crate::error::{BusError, RequestError};
use crate::exchange::Requests;
use crate::identity::Direction;
use crate::ids::now_ns;
use crate::parcel::{Parcel, Stamp};
use crate::pattern::Pattern;
use crate::port::Speaker;
use crate::queue::Guard;
use crate::reply::{self, ReplyReceiver};
use crate::server::{Incoming, NotTaken, Server};

impl Hub {
    pub(super) fn serve(
        self: &Arc<Self>,
        speaker: &Speaker,
        pattern: Pattern,
        concurrency: usize,
    ) -> Result<Requests, BusError> {
        let who = &speaker.identity;
        let person = topics::person_of(pattern.as_str());
        self.authorize(who, Direction::Serve, pattern.as_str(), person)?;
        let (server, rx) = Server::new(who.clone(), pattern.clone(), concurrency);
        let places = server.places.clone();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.servers.write().insert(&pattern, id, server);
        let hub = Arc::downgrade(self);
        let guard = Guard::new(move || {
            if let Some(hub) = hub.upgrade() {
                hub.servers.write().remove(&pattern, id);
            }
        });
        self.end_if_closed();
        Ok(Requests::new(rx, places, speaker.clone(), guard))
    }

    /// Puts a request before the server that came last.
    pub(crate) fn ask(
        &self,
        from: &Member,
        mut envelope: Envelope,
        mut wire: Option<Bytes>,
    ) -> Result<(Arc<Envelope>, ReplyReceiver), RequestError> {
        let who = &from.speaker.identity;
        let person =
            Self::settle_person(&mut envelope, &mut wire).map_err(RequestError::Refused)?;
        self.authorize(who, Direction::Request, &envelope.topic, person)
            .map_err(RequestError::Refused)?;
        let mut servers = self.servers.read().matching(&envelope.topic);
        if let Some(person) = person {
            servers.retain(|(_, server)| self.policy.sees(&server.identity, person));
        }
        servers.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        let stamp = Stamp {
            sequence: 0,
            epoch: &self.epoch_bytes,
            sender: from.name(),
            now_ns: now_ns(),
        };
        stamp.set(&mut envelope);
        let topic = envelope.topic.clone();
        let parcel = Parcel {
            envelope: Arc::new(envelope),
            wire,
        };
        let (reply, receiver) = reply::channel();
        let request = parcel.envelope.clone();
        let mut incoming = Incoming { parcel, reply };
        for (_, server) in servers {
            match server.take(incoming) {
                Ok(()) => {
                    self.counters.requests.fetch_add(1, Ordering::Relaxed);
                    from.traffic.requested();
                    return Ok((request, receiver));
                }
                Err(NotTaken::Gone(back)) => incoming = back,
                Err(NotTaken::Full) => {
                    return Err(RequestError::Fault(Fault::busy("Too many requests wait")));
                }
            }
        }
        self.counters.unserved.fetch_add(1, Ordering::Relaxed);
        Err(RequestError::NobodyServes {
            topic: topic.to_string(),
        })
    }
}
