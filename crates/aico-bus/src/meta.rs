//! What a publisher or asker says about a message besides its payload.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aico_contracts::SCHEMA_VERSION;
use aico_contracts::ids::PersonId;
use aico_contracts::v1::{Envelope, Priority};
use bytes::Bytes;
use uuid::Uuid;

/// Whose data it is, what for, how urgent, until when. All optional.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    /// The message's id; left out, a fresh one. Who repeats a message repeats its id.
    pub id: Option<Uuid>,
    /// Whose data the payload is. On a personal topic it may be left out: the topic names it.
    pub person: Option<PersonId>,
    /// What the data is used for, for consent.
    pub purpose: String,
    /// How urgent.
    pub priority: Option<Priority>,
    /// The device the person used.
    pub origin_device: String,
    /// The id of the request this belongs to.
    pub correlation: Option<Uuid>,
    /// W3C trace id; left out, the one in whose [scope](crate::Trace::scope) this is sent.
    pub trace: Option<[u8; 16]>,
    /// When the answer is no longer wanted.
    pub deadline: Option<SystemTime>,
}

impl Meta {
    /// Nothing said.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// About data of this person.
    #[must_use]
    pub fn for_person(person: PersonId) -> Self {
        Self {
            person: Some(person),
            ..Self::default()
        }
    }

    /// Sets the id: of a message that is kept elsewhere until it is acknowledged.
    #[must_use]
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the person whose data it is.
    #[must_use]
    pub fn person(mut self, person: PersonId) -> Self {
        self.person = Some(person);
        self
    }

    /// Sets the purpose.
    #[must_use]
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = purpose.into();
        self
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets the device the person used.
    #[must_use]
    pub fn origin_device(mut self, device: impl Into<String>) -> Self {
        self.origin_device = device.into();
        self
    }

    /// Sets the request it belongs to.
    #[must_use]
    pub fn correlation(mut self, id: Uuid) -> Self {
        self.correlation = Some(id);
        self
    }

    /// Sets the trace id.
    #[must_use]
    pub fn trace(mut self, trace: [u8; 16]) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Sets the moment after which the answer is no longer wanted.
    #[must_use]
    pub fn deadline(mut self, at: SystemTime) -> Self {
        self.deadline = Some(at);
        self
    }

    /// Sets the deadline from now.
    #[must_use]
    pub fn deadline_in(self, from_now: Duration) -> Self {
        self.deadline(SystemTime::now() + from_now)
    }

    /// The envelope's fields that come from here.
    pub(crate) fn envelope(self) -> Envelope {
        Envelope {
            id: self
                .id
                .map(|id| Bytes::copy_from_slice(id.as_bytes()))
                .unwrap_or_default(),
            person: self
                .person
                .map(|id| Bytes::copy_from_slice(id.as_bytes()))
                .unwrap_or_default(),
            purpose: self.purpose.into(),
            priority: self.priority.unwrap_or_default().into(),
            origin_device: self.origin_device.into(),
            correlation: self
                .correlation
                .map(|id| Bytes::copy_from_slice(id.as_bytes()))
                .unwrap_or_default(),
            trace: self
                .trace
                .map(|id| Bytes::copy_from_slice(&id))
                .unwrap_or_default(),
            schema_version: SCHEMA_VERSION,
            deadline_unix_ns: self.deadline.map(to_ns).unwrap_or_default(),
            ..Envelope::default()
        }
    }
}

/// 0 means "none" on the wire, so a deadline before the epoch becomes 1: long past.
fn to_ns(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(1, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1)
    })
}

/// How long until an envelope's deadline: `None` when there is none, zero when it has passed.
pub(crate) fn time_left(envelope: &Envelope) -> Option<Duration> {
    (envelope.deadline_unix_ns != 0).then(|| {
        Duration::from_nanos(
            envelope
                .deadline_unix_ns
                .saturating_sub(crate::ids::now_ns()),
        )
    })
}
