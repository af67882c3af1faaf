//! Encoding an envelope.

use aico_contracts::v1::Envelope;
use bytes::{BufMut as _, Bytes};
use prost::encoding::{encode_varint, message};

/// The bytes that `prost` makes of it.
///
/// Prost asks each field whether it equals nothing. For `Bytes` that is a `memcmp` of no bytes at
/// an address that is none; glibc's for AVX-512 loads from there under an empty mask, and the
/// processor takes a tenth of a microsecond to find that nothing was read. An envelope has four
/// such fields, each asked twice: most of the time that encoding took.
pub(crate) fn encode(envelope: &Envelope) -> Bytes {
    // All of them: a field that is added does not compile until it is written here.
    let Envelope {
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
        exchange,
        sequence,
        epoch,
        sender,
        stamped_unix_ns,
    } = envelope;
    let texts = topic.len() + purpose.len() + origin_device.len() + payload_type.len();
    let mut out = Writer(Vec::with_capacity(
        // Ids, numbers and keys of fields take less than the rest.
        payload.len() + texts + sender.len() + 192,
    ));
    out.bytes(1, id);
    out.bytes(2, topic.as_bytes());
    out.number(3, *time_unix_ns);
    out.bytes(4, person);
    out.bytes(5, purpose.as_bytes());
    out.number(6, i64::from(*priority) as u64);
    out.bytes(7, origin_device.as_bytes());
    out.bytes(8, correlation);
    out.bytes(9, trace);
    out.number(10, u64::from(*schema_version));
    out.number(11, *deadline_unix_ns);
    out.bytes(12, payload_type.as_bytes());
    out.bytes(13, payload);
    if let Some(exchange) = exchange {
        message::encode(14, exchange, &mut out.0);
    }
    out.number(100, *sequence);
    out.bytes(101, epoch);
    out.bytes(102, sender.as_bytes());
    out.number(103, *stamped_unix_ns);
    Bytes::from(out.0)
}

/// Writes fields that are set.
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, field: u64, value: &[u8]) {
        if !value.is_empty() {
            encode_varint(field << 3 | 2, &mut self.0);
            encode_varint(value.len() as u64, &mut self.0);
            self.0.put_slice(value);
        }
    }

    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            encode_varint(field << 3, &mut self.0);
            encode_varint(value, &mut self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use aico_contracts::v1::Exchange;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn it_makes_the_bytes_that_prost_makes(
            blobs in prop::array::uniform6(prop::collection::vec(any::<u8>(), 0..300)),
            texts in prop::array::uniform5("[a-zü.]{0,20}"),
            numbers in prop::array::uniform4(prop_oneof![Just(0), 0..300_u64, any::<u64>()]),
            priority in prop_oneof![Just(0), -2..4_i32],
            schema_version in 0..3_u32,
            exchange in prop::option::of((0..6_i32, 0..300_u64)),
        ) {
            let [id, person, correlation, trace, payload, epoch] = blobs.map(Bytes::from);
            let [topic, purpose, origin_device, payload_type, sender] = texts;
            let [time_unix_ns, deadline_unix_ns, sequence, stamped_unix_ns] = numbers;
            let envelope = Envelope {
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
            };
            prop_assert_eq!(encode(&envelope), envelope.encode_to_vec());
        }
    }
}
