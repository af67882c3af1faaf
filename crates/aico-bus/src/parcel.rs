//! An envelope on its way, with the bytes it came in when it came over a link.

use std::sync::Arc;

use aico_contracts::ByteString;
use aico_contracts::v1::{Envelope, Exchange};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};

/// A shared envelope. `wire` holds the bytes it came in when a peer sent it: they are passed on to
/// other peers as they are, so that fields this build does not know survive, with this bus's stamp
/// behind them.
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

    /// Length of what [`encode`](Self::encode) writes.
    pub(crate) fn encoded_len(&self) -> usize {
        match &self.wire {
            Some(wire) => wire.len() + stamp_len(&self.envelope),
            None => self.envelope.encoded_len(),
        }
    }

    /// The encoded form, the stamp included.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match &self.wire {
            Some(wire) => {
                out.put_slice(wire);
                write_stamp(&self.envelope, out);
            }
            None => self.envelope.encode_raw(out),
        }
    }

    /// The same by itself.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn encoded(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        assert_eq!(out.len(), self.encoded_len());
        out.into()
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
    pub(crate) sender: &'a ByteString,
    pub(crate) now_ns: u64,
}

impl Stamp<'_> {
    /// Overwrites whatever a publisher wrote there.
    pub(crate) fn set(&self, envelope: &mut Envelope) {
        envelope.sequence = self.sequence;
        envelope.epoch = self.epoch.clone();
        envelope.sender = self.sender.clone();
        envelope.stamped_unix_ns = self.now_ns;
    }
}

/// Writes the stamp behind the bytes of an envelope: in protobuf the last value of a scalar wins.
/// Fields at their default are written too, for the same reason.
fn write_stamp(envelope: &Envelope, out: &mut Vec<u8>) {
    field_varint(out, 100, envelope.sequence);
    field_bytes(out, 101, &envelope.epoch);
    field_bytes(out, 102, envelope.sender.as_bytes());
    field_varint(out, 103, envelope.stamped_unix_ns);
}

fn stamp_len(envelope: &Envelope) -> usize {
    let varint = |value| 2 + encoded_len_varint(value);
    let bytes = |value: &[u8]| varint(value.len() as u64) + value.len();
    varint(envelope.sequence)
        + bytes(&envelope.epoch)
        + bytes(envelope.sender.as_bytes())
        + varint(envelope.stamped_unix_ns)
}

fn field_varint(out: &mut impl BufMut, field: u64, value: u64) {
    encode_varint(field << 3, out);
    encode_varint(value, out);
}

fn field_bytes(out: &mut impl BufMut, field: u64, value: &[u8]) {
    encode_varint(field << 3 | 2, out);
    encode_varint(value.len() as u64, out);
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
            sender: &"weather".into(),
            now_ns: 42,
        };
        let mut expected = forged.clone();
        stamp.set(&mut expected);
        let parcel = Parcel {
            envelope: Arc::new(expected.clone()),
            wire: Some(wire.into()),
        };
        let stamped = parcel.encoded();
        assert!(stamped.windows(6).any(|part| part == b"future"));
        let read = Envelope::decode(stamped).unwrap();
        assert_eq!(read, expected);
        assert_eq!((read.sequence, &*read.sender), (0, "weather"));
    }
}
