//! A message on its way into the journal, and one that is in it.

use std::sync::Arc;

use aico_contracts::ByteString;
use aico_contracts::ids::PersonId;
use aico_contracts::v1::Envelope;
use bytes::Bytes;
use prost::Message as _;

use super::error::JournalFault;
use super::format::{Head, MAX_BODY, MAX_NAME};
use crate::ids::now_ns;
use crate::parcel::{Parcel, Stamp};

/// Where a message lies in the journal. Say both back to go on after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which stretch of the journal; random, a new one with each opening.
    pub epoch: [u8; 16],
    /// Counts on over all of them, from 1.
    pub sequence: u64,
}

/// The journal has the message, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where.
    pub place: Place,
    /// It had been there before: this was a repetition.
    pub repeated: bool,
}

/// A message that is to be kept.
pub(crate) struct Message {
    pub(crate) id: [u8; 16],
    pub(crate) person: Option<PersonId>,
    pub(crate) sender: ByteString,
    pub(crate) topic: ByteString,
    pub(crate) payload_type: ByteString,
    pub(crate) stamped_ns: u64,
    /// The encoded envelope, without the stamp of this bus.
    pub(crate) body: Bytes,
}

impl Message {
    /// From an envelope whose person is settled; `wire` are the bytes that it came in.
    pub(crate) fn new(
        sender: &ByteString,
        person: Option<PersonId>,
        envelope: &Envelope,
        wire: Option<&Bytes>,
    ) -> Result<Self, JournalFault> {
        let body = match wire {
            Some(wire) => wire.clone(),
            None => Bytes::from(envelope.encode_to_vec()),
        };
        let names = [sender, &envelope.topic, &envelope.payload_type];
        if body.len() > MAX_BODY || names.iter().any(|name| name.len() > MAX_NAME) {
            return Err(JournalFault::TooLarge { bytes: body.len() });
        }
        Ok(Self {
            id: envelope.id.as_ref().try_into().unwrap_or([0; 16]),
            person,
            sender: sender.clone(),
            topic: envelope.topic.clone(),
            payload_type: envelope.payload_type.clone(),
            stamped_ns: now_ns(),
            body,
        })
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head {
            stamped_ns: self.stamped_ns,
            id: self.id,
            person: self.person,
            sender: &self.sender,
            topic: &self.topic,
            payload_type: &self.payload_type,
        }
    }

    /// What it counts against the bounds of a queue.
    pub(crate) fn size(&self) -> usize {
        self.body.len() + 512
    }
}

/// A message that is in the journal: the envelope with the journal's stamp, and its bytes.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) place: Place,
    pub(crate) person: Option<PersonId>,
    pub(crate) parcel: Parcel,
}

impl Kept {
    /// `None` when the body is no envelope, which one that was published always is.
    pub(crate) fn new(head: &Head<'_>, place: Place, body: &Bytes) -> Option<Self> {
        let epoch = Bytes::copy_from_slice(&place.epoch);
        let stamp = Stamp {
            sequence: place.sequence,
            epoch: &epoch,
            sender: &head.sender.into(),
            now_ns: head.stamped_ns,
        };
        // By itself: a body whose last field announces more than it has would swallow the stamp.
        let mut envelope = Envelope::decode(body.clone()).ok()?;
        stamp.set(&mut envelope);
        let parcel = Parcel {
            envelope: Arc::new(envelope),
            wire: Some(body.clone()),
        };
        Some(Self {
            place,
            person: head.person,
            parcel,
        })
    }

    pub(crate) fn topic(&self) -> &str {
        &self.parcel.envelope.topic
    }
}
