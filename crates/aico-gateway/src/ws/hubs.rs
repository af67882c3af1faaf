//! The streams of all persons that are being followed.
//!
//! A stream begins with a person's first connection and goes on for a while after the last one
//! has gone, so that a lost connection finds its place again. When a stream can't be continued
//! (events were lost, it was idle for too long) it ends; the next connection begins a new one,
//! whose new epoch tells clients to read anew.

use std::collections::HashMap;
use std::sync::Arc;

use aico_bus::{BusError, Client, Queue};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use parking_lot::Mutex;
use uuid::Uuid;

use super::hub::{Begin, Hub, Member};
use crate::config::Limits;

/// See the module's head.
pub(crate) struct Hubs {
    bus: Client,
    limits: Limits,
    hubs: Mutex<HashMap<PersonId, Arc<Hub>>>,
}

impl Hubs {
    pub(crate) fn new(bus: Client, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            bus,
            limits,
            hubs: Mutex::default(),
        })
    }

    /// Follows a person's stream from where the client was, or from now.
    pub(crate) fn join(
        self: &Arc<Self>,
        person: PersonId,
        resume: Option<(Uuid, u64)>,
    ) -> Result<(Member, Begin), BusError> {
        let mut hubs = self.hubs.lock();
        let hub = match hubs.get(&person).filter(|hub| !hub.has_ended()) {
            Some(hub) => Arc::clone(hub),
            None => {
                let hub = self.start(person)?;
                hubs.insert(person, Arc::clone(&hub));
                hub
            }
        };
        Ok(Member::new(hub, resume, &self.limits))
    }

    fn start(self: &Arc<Self>, person: PersonId) -> Result<Arc<Hub>, BusError> {
        let queue = Queue::new(
            self.limits.ring_events,
            self.limits.ring_bytes.saturating_mul(2),
        );
        // Subscribed before anybody is told where the stream begins.
        let personal = self
            .bus
            .subscribe(&topics::conversation_events(person), queue)?;
        let models = self
            .bus
            .subscribe(topics::MODELS_STATE, Queue::new(64, 64 * 1024))?;
        let hub = Hub::new(person, &self.limits);
        let hubs = Arc::clone(self);
        let fed = Arc::clone(&hub);
        tokio::spawn(async move {
            tokio::select! {
                () = fed.feed(personal, models) => {}
                () = hubs.idle(person, &fed) => {}
            }
            fed.end();
            hubs.remove(person, &fed);
        });
        Ok(hub)
    }

    /// Returns once nobody has followed for the time of grace. The stream is out of the
    /// registry then: nobody joins in between.
    async fn idle(&self, person: PersonId, hub: &Arc<Hub>) {
        let mut members = hub.members.subscribe();
        loop {
            if members.wait_for(|members| *members == 0).await.is_err() {
                return;
            }
            let back = members.wait_for(|members| *members > 0);
            if tokio::time::timeout(self.limits.grace, back).await.is_ok() {
                continue;
            }
            let mut hubs = self.hubs.lock();
            if *hub.members.borrow() == 0 {
                if hubs
                    .get(&person)
                    .is_some_and(|known| Arc::ptr_eq(known, hub))
                {
                    hubs.remove(&person);
                }
                return;
            }
        }
    }

    fn remove(&self, person: PersonId, hub: &Arc<Hub>) {
        let mut hubs = self.hubs.lock();
        if hubs
            .get(&person)
            .is_some_and(|known| Arc::ptr_eq(known, hub))
        {
            hubs.remove(&person);
        }
    }

    /// Ends a person's stream and wipes what was kept of it.
    pub(crate) fn forget(&self, person: PersonId) {
        if let Some(hub) = self.hubs.lock().remove(&person) {
            hub.end();
        }
    }

    /// Ends all streams: nothing of anybody is kept while locked.
    pub(crate) fn forget_all(&self) {
        for (_, hub) in self.hubs.lock().drain() {
            hub.end();
        }
    }
}
