//! The messages of both sides.

use std::sync::Arc;

use aico_bus::{AllowAll, Bus, Delivery, Identity, Meta, Queue};
use aico_contracts::v1::{Envelope, Frame, SessionEnded};
use aico_contracts::{ByteString, Bytes, SCHEMA_VERSION};
use prost::Message as _;

/// Messages go to these in turn, or all to the first.
pub(crate) const TOPICS: [&str; 2] = ["bench.words.a", "bench.words.b"];
pub(crate) const PATTERN: &str = "bench.words.*";

/// Time and number stand at the beginning of the content.
pub(crate) const STAMP: usize = 16;

/// A payload that takes exactly this many bytes.
pub(crate) fn payload(size: usize) -> SessionEnded {
    let of = |content: usize| SessionEnded {
        sessions: vec![vec![0xa5; content]],
    };
    (STAMP..size)
        .rev()
        .map(of)
        .find(|message| message.encoded_len() == size)
        .unwrap()
}

pub(crate) fn write_stamp(message: &mut SessionEnded, time_ns: u64, number: u64) {
    let content = &mut message.sessions[0];
    content[..8].copy_from_slice(&time_ns.to_ne_bytes());
    content[8..STAMP].copy_from_slice(&number.to_ne_bytes());
}

pub(crate) fn read_stamp(message: &SessionEnded) -> (u64, u64) {
    let content = &message.sessions[0];
    let word = |at: usize| u64::from_ne_bytes(content[at..at + 8].try_into().unwrap());
    (word(0), word(8))
}

/// The envelope as our publisher sends it: as the bus gives it, without the bus's stamp.
fn envelope(topic: &str, size: usize) -> Envelope {
    let bus = Bus::new(Arc::new(AllowAll));
    let client = bus.join(Identity::new("bench"));
    let mut subscription = client.subscribe(PATTERN, Queue::default()).unwrap();
    client.publish(topic, &payload(size), Meta::new()).unwrap();
    let Some(Delivery::Message(envelope)) = subscription.try_recv() else {
        unreachable!("what was published is there");
    };
    Envelope {
        sequence: 0,
        epoch: Bytes::new(),
        sender: ByteString::new(),
        stamped_unix_ns: 0,
        ..(*envelope).clone()
    }
}

/// A ready frame, and where in it the first stamp stands.
pub(crate) fn frame(topic: &str, size: usize, envelopes: usize) -> (Vec<u8>, usize) {
    let encoded = Bytes::from(envelope(topic, size).encode_to_vec());
    let frame = Frame {
        version: SCHEMA_VERSION,
        topic: topic.to_owned(),
        envelopes: vec![encoded; envelopes],
        receiver: 0,
        missed: 0,
    };
    let bytes = frame.encode_to_vec();
    let mut places = bytes.windows(STAMP);
    let stamp = places.position(|place| place == [0xa5; STAMP]).unwrap();
    (bytes, stamp)
}

/// How every frame of [`TOPICS`] begins: version, and the topic as far as it is the same.
pub(crate) fn prefix() -> Vec<u8> {
    let (a, _) = frame(TOPICS[0], 64, 1);
    let (b, _) = frame(TOPICS[1], 64, 1);
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    a[..same].to_vec()
}
