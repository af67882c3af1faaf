//! An envelope on its way, with the bytes it came in when it came over a link.

use std::sync::Arc;

use aico_contracts::v1::{Envelope, Exchange};
use bytes::{BufMut, Bytes, BytesMut};

use crate::encode::encode;

/// A shared envelope. `wire` holds its encoded form, stamp included, when a peer sent it: it is
/// passed on to other peers as it is, so that fields this build does not know survive.
#[derive(Clone)]
pub(crate) struct Parcel {
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) wire: Option<Bytes>,
}

impl Parcel {
    pub(crate) fn new(envelope: Envelope) -> Self {
        Self {
            envelope: Arc::new(envelope),
            wire: None,
        }
    }

    /// What it counts against a queue's bytes.
    pub(crate) fn size(&self) -> usize {
        size_of(&self.envelope)
    }

    /// The encoded form.
    pub(crate) fn encoded(&self) -> Bytes {
        match &self.wire {
            Some(bytes) => bytes.clone(),
            None => encode(&self.envelope),
        }
    }
}

/// What an envelope counts against a queue's bytes: its payload and about what the rest takes.
pub(crate) fn size_of(envelope: &Envelope) -> usize {
    envelope.payload.len() + envelope.topic.len() + 256
}

/// What the bus adds to an envelope. Only the bus makes these.
pub(crate) struct Stamp<'a> {
    pub(crate) sequence: u64,
    pub(crate) epoch: &'a Bytes,
    pub(crate) sender: &'a str,
    pub(crate) now_ns: u64,
}

impl Stamp<'_> {
    /// Overwrites whatever a publisher wrote there.
    pub(crate) fn set(&self, envelope: &mut Envelope) {
        envelope.sequence = self.sequence;
        envelope.epoch = self.epoch.clone();
        envelope.sender = self.sender.to_owned();
        envelope.stamped_unix_ns = self.now_ns;
    }

    /// Appends the same to an encoded envelope: in protobuf the last value of a scalar wins.
    /// Fields at their default are written too, for the same reason.
    pub(crate) fn append(&self, wire: &Bytes) -> Bytes {
        let mut out = BytesMut::with_capacity(wire.len() + self.sender.len() + 64);
        out.put_slice(wire);
        field_varint(&mut out, 100, self.sequence);
        field_bytes(&mut out, 101, self.epoch);
        field_bytes(&mut out, 102, self.sender.as_bytes());
        field_varint(&mut out, 103, self.now_ns);
        out.freeze()
    }
}

fn field_varint(out: &mut BytesMut, field: u64, value: u64) {
    prost::encoding::encode_varint(field << 3, out);
    prost::encoding::encode_varint(value, out);
}

fn field_bytes(out: &mut BytesMut, field: u64, value: &[u8]) {
    prost::encoding::encode_varint(field << 3 | 2, out);
    prost::encoding::encode_varint(value.len() as u64, out);
    out.put_slice(value);
}

/// Appends the person to an encoded envelope that left it out.
pub(crate) fn append_person(wire: &Bytes, person: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(wire.len() + person.len() + 2);
    out.put_slice(wire);
    field_bytes(&mut out, 4, person);
    out.freeze()
}

/// The role of an envelope in an exchange.
pub(crate) use aico_contracts::v1::exchange::Kind;

pub(crate) fn exchange(kind: Kind, index: u64) -> Option<Exchange> {
    Some(Exchange {
        kind: kind.into(),
        index,
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn an_appended_stamp_wins_over_a_forged_one_and_keeps_unknown_fields() {
        let forged = Envelope {
            topic: "a.b".into(),
            sender: "owner".into(),
            sequence: 7,
            epoch: Bytes::from_static(b"forged"),
            stamped_unix_ns: 1,
            ..Envelope::default()
        };
        let mut wire = forged.encode_to_vec();
        // Field 9999, length-delimited: "future".
        let mut unknown = BytesMut::new();
        field_bytes(&mut unknown, 9999, b"future");
        wire.extend_from_slice(&unknown);
        let stamp = Stamp {
            sequence: 0,
            epoch: &Bytes::from_static(b"epoch"),
            sender: "weather",
            now_ns: 42,
        };
        let stamped = stamp.append(&Bytes::from(wire));
        assert!(stamped.windows(6).any(|part| part == b"future"));
        let read = Envelope::decode(stamped).unwrap();
        let mut expected = forged;
        stamp.set(&mut expected);
        assert_eq!(read, expected);
        assert_eq!((read.sequence, read.sender.as_str()), (0, "weather"));
    }
}
