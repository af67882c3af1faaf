//! What the fuzz targets in `fuzz/` call: each takes any bytes at all and panics when a reader
//! breaks a promise. `tests/fuzz.rs` calls the same with the corpus that is kept.

use std::sync::Arc;

use aico_contracts::v1::Envelope;
use bytes::Bytes;
use prost::Message as _;

use crate::journal::{FileName, Head, Kept, Place};
use crate::parcel::{Parcel, Stamp, append_person};

pub use crate::link::fuzzing::{frame, peer, read, uplink};

/// Bytes as an encoded envelope: whatever they claim, the stamp that is appended is what is read,
/// and everything else stays.
pub fn stamp(data: &[u8]) {
    let wire = Bytes::copy_from_slice(data);
    let Ok(envelope) = Envelope::decode(wire.clone()) else {
        return;
    };
    check_stamp(&envelope, &wire);
    let person = [7; 16];
    let longer = append_person(&wire, &person);
    let expected = Envelope {
        person: Bytes::copy_from_slice(&person),
        ..envelope
    };
    assert!(Envelope::decode(longer.clone()).is_ok_and(|read| read == expected));
    check_stamp(&expected, &longer);
}

/// The stamp wins, in the envelope and in its bytes alike, and the bytes begin as they came.
pub(crate) fn check_stamp(envelope: &Envelope, wire: &Bytes) {
    let epoch = Bytes::from_static(&[9; 16]);
    for (sequence, sender) in [(0, ""), (u64::MAX, "module:weather")] {
        let stamp = Stamp {
            sequence,
            epoch: &epoch,
            sender: &sender.into(),
            now_ns: 42,
        };
        let mut expected = envelope.clone();
        stamp.set(&mut expected);
        let parcel = Parcel {
            envelope: Arc::new(expected.clone()),
            wire: Some(wire.clone()),
        };
        let stamped = parcel.encoded();
        assert!(
            stamped.starts_with(wire),
            "bytes of the sender were changed"
        );
        let read = Envelope::decode(stamped);
        assert!(
            read.as_ref().is_ok_and(|read| *read == expected),
            "bytes and envelope differ"
        );
        let read = read.unwrap_or_default();
        assert_eq!(
            (read.sequence, read.stamped_unix_ns, &*read.sender),
            (sequence, 42, sender)
        );
        assert_eq!(read.epoch, epoch);
    }
}

/// Bytes as a record of the journal, and as the name of a file of it.
pub fn record(data: &[u8]) {
    if let Ok(name) = std::str::from_utf8(data)
        && let Some(file) = FileName::parse(name)
    {
        assert_eq!(file.to_string(), name);
    }
    let Some((head, body)) = Head::decode(data) else {
        return;
    };
    assert!(body <= data.len());
    let mut again = Vec::new();
    head.encode(&mut again);
    assert_eq!(again, data[..body], "a head has one form");
    let place = Place {
        epoch: [9; 16],
        sequence: 7,
    };
    let body = Bytes::copy_from_slice(&data[body..]);
    let Some(kept) = Kept::new(&head, place, &body) else {
        assert!(Envelope::decode(body).is_err(), "an envelope was dropped");
        return;
    };
    let envelope = &kept.parcel.envelope;
    assert_eq!(envelope.sender, head.sender);
    assert_eq!(envelope.stamped_unix_ns, head.stamped_ns);
    assert_eq!((envelope.sequence, &envelope.epoch[..]), (7, &[9; 16][..]));
    assert!(kept.parcel.encoded().starts_with(&body));
}
