//! The envelope that is written by hand is the one of `envelope.proto`.

#![expect(clippy::unwrap_used, reason = "tests")]

use aico_contracts::Bytes;
use aico_contracts::v1::{Envelope, Exchange};
use proptest::prelude::*;
use prost::Message as _;
use protox::prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

fn descriptor() -> MessageDescriptor {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let files = protox::compile(["aico/v1/envelope.proto"], [root]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    pool.get_message_by_name("aico.v1.Envelope").unwrap()
}

fn by_the_file(descriptor: &MessageDescriptor, bytes: &[u8]) -> Option<DynamicMessage> {
    DynamicMessage::decode(descriptor.clone(), bytes).ok()
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let blobs = prop::array::uniform6(prop::collection::vec(any::<u8>(), 0..300));
    let texts = prop::array::uniform5("[a-zü.]{0,20}");
    let numbers = prop::array::uniform4(prop_oneof![Just(0), 0..300_u64, any::<u64>()]);
    let priority = prop_oneof![Just(0), -2..4_i32];
    let exchange = prop::option::of((0..6_i32, 0..300_u64));
    (blobs, texts, numbers, priority, 0..3_u32, exchange).prop_map(
        |(blobs, texts, numbers, priority, schema_version, exchange)| {
            let [id, person, correlation, trace, payload, epoch] = blobs.map(Bytes::from);
            let [topic, purpose, origin_device, payload_type, sender] = texts.map(Into::into);
            let [time_unix_ns, deadline_unix_ns, sequence, stamped_unix_ns] = numbers;
            Envelope {
                id,
                topic,
                time_unix_ns,
                person,
                purpose,
                priority,
                origin_device,
                correlation,
                trace,
                schema_version,
                deadline_unix_ns,
                payload_type,
                payload,
                exchange: exchange.map(|(kind, index)| Exchange { kind, index }),
                sequence,
                epoch,
                sender,
                stamped_unix_ns,
            }
        },
    )
}

#[test]
fn no_field_of_the_file_is_left_out() {
    let full = Envelope {
        id: Bytes::from_static(b"i"),
        topic: "t".into(),
        time_unix_ns: 1,
        person: Bytes::from_static(b"p"),
        purpose: "u".into(),
        priority: 1,
        origin_device: "o".into(),
        correlation: Bytes::from_static(b"c"),
        trace: Bytes::from_static(b"r"),
        schema_version: 1,
        deadline_unix_ns: 1,
        payload_type: "y".into(),
        payload: Bytes::from_static(b"l"),
        exchange: Some(Exchange { kind: 1, index: 1 }),
        sequence: 1,
        epoch: Bytes::from_static(b"e"),
        sender: "s".into(),
        stamped_unix_ns: 1,
    };
    let descriptor = descriptor();
    let read = by_the_file(&descriptor, &full.encode_to_vec()).unwrap();
    for field in descriptor.fields() {
        assert!(read.has_field(&field), "{}", field.name());
    }
    assert_eq!(read.unknown_fields().count(), 0);
}

proptest! {
    #[test]
    fn it_writes_and_reads_what_the_file_says(envelope in envelopes()) {
        let bytes = envelope.encode_to_vec();
        prop_assert_eq!(bytes.len(), envelope.encoded_len());
        let read = by_the_file(&descriptor(), &bytes).unwrap();
        // In the order of their numbers, each only when it is set: what every writer makes of it.
        prop_assert_eq!(&read.encode_to_vec(), &bytes);
        let again = read.transcode_to::<Envelope>();
        prop_assert!(again.is_ok_and(|again| again == envelope));
    }

    #[test]
    fn it_reads_and_refuses_what_the_file_does(
        envelope in envelopes(),
        // Another envelope after it, whose fields win, and something that is none.
        behind in envelopes(),
        cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let descriptor = descriptor();
        let mut bytes = envelope.encode_to_vec();
        bytes.extend(behind.encode_to_vec());
        let check = |bytes: &[u8]| {
            let (ours, theirs) = (Envelope::decode(bytes), by_the_file(&descriptor, bytes));
            prop_assert_eq!(ours.is_ok(), theirs.is_some(), "{:?}", ours.err());
            if let (Ok(ours), Some(theirs)) = (ours, theirs) {
                prop_assert!(theirs.transcode_to::<Envelope>().is_ok_and(|theirs| theirs == ours));
            }
            Ok(())
        };
        check(&bytes)?;
        if !bytes.is_empty() {
            check(&bytes[..cut.index(bytes.len())])?;
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            check(&bytes)?;
        }
    }
}
