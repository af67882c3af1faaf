//! [`Envelope`], written by hand where every other message is generated.
//!
//! It is made and read for each message of the bus, and the generator's `String`s cost an
//! allocation each, made on one thread and freed on another. [`ByteString`] shares: the bus has
//! one copy of each topic and name, and what is read from a frame stays where it came in. The
//! bytes are those of `envelope.proto`; a test holds this to the file.

use bytes::{Buf, BufMut, Bytes};
use bytestring::ByteString;
use prost::encoding::{
    DecodeContext, WireType, encode_varint, encoded_len_varint, int32, key_len, message,
    skip_field, uint32, uint64,
};
use prost::{DecodeError, Message};

use crate::v1::{Exchange, Priority};

/// What travels on the bus; the fields are told in `envelope.proto`.
#[expect(missing_docs, reason = "the .proto file holds the comments")]
#[derive(Clone, Default, PartialEq)]
pub struct Envelope {
    pub id: Bytes,
    pub topic: ByteString,
    pub time_unix_ns: u64,
    pub person: Bytes,
    pub purpose: ByteString,
    pub priority: i32,
    pub origin_device: ByteString,
    pub correlation: Bytes,
    pub trace: Bytes,
    pub schema_version: u32,
    pub deadline_unix_ns: u64,
    pub payload_type: ByteString,
    pub payload: Bytes,
    pub exchange: Option<Exchange>,
    pub sequence: u64,
    pub epoch: Bytes,
    pub sender: ByteString,
    pub stamped_unix_ns: u64,
}

impl Envelope {
    /// How urgent it is; what this build does not know is unspecified.
    #[must_use]
    pub fn priority(&self) -> Priority {
        Priority::try_from(self.priority).unwrap_or(Priority::Unspecified)
    }

    /// Shows each field to `out`, in the order of their numbers.
    fn each(&self, out: &mut impl Fields) {
        // All of them: a field that is added does not compile until it stands here.
        let Self {
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
        } = self;
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
            out.message(14, exchange);
        }
        out.number(100, *sequence);
        out.bytes(101, epoch);
        out.bytes(102, sender.as_bytes());
        out.number(103, *stamped_unix_ns);
    }
}

/// Takes the fields that are set.
trait Fields {
    fn bytes(&mut self, field: u32, value: &[u8]);
    fn number(&mut self, field: u32, value: u64);
    fn message(&mut self, field: u32, value: &Exchange);
}

struct Writer<'a, B>(&'a mut B);

impl<B: BufMut> Fields for Writer<'_, B> {
    // Whether there is something is asked of its length. Prost compares with an empty `Bytes`, a
    // `memcmp` of no bytes at an address that is none: with AVX-512 a tenth of a microsecond.
    fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            encode_varint(
                u64::from(field << 3 | WireType::LengthDelimited as u32),
                self.0,
            );
            encode_varint(value.len() as u64, self.0);
            self.0.put_slice(value);
        }
    }

    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            encode_varint(u64::from(field << 3), self.0);
            encode_varint(value, self.0);
        }
    }

    fn message(&mut self, field: u32, value: &Exchange) {
        message::encode(field, value, self.0);
    }
}

struct Length(usize);

impl Fields for Length {
    fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.0 += key_len(field) + encoded_len_varint(value.len() as u64) + value.len();
        }
    }

    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.0 += key_len(field) + encoded_len_varint(value);
        }
    }

    fn message(&mut self, field: u32, value: &Exchange) {
        self.0 += message::encoded_len(field, value);
    }
}

impl Message for Envelope {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.each(&mut Writer(buf));
    }

    fn encoded_len(&self) -> usize {
        let mut length = Length(0);
        self.each(&mut length);
        length.0
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let in_field = |name: &'static str| {
            move |mut error: DecodeError| {
                error.push("Envelope", name);
                error
            }
        };
        match tag {
            1 => bytes(&mut self.id, wire, buf, context).map_err(in_field("id")),
            2 => text(&mut self.topic, wire, buf, context).map_err(in_field("topic")),
            3 => uint64::merge(wire, &mut self.time_unix_ns, buf, context)
                .map_err(in_field("time_unix_ns")),
            4 => bytes(&mut self.person, wire, buf, context).map_err(in_field("person")),
            5 => text(&mut self.purpose, wire, buf, context).map_err(in_field("purpose")),
            6 => int32::merge(wire, &mut self.priority, buf, context).map_err(in_field("priority")),
            7 => {
                text(&mut self.origin_device, wire, buf, context).map_err(in_field("origin_device"))
            }
            8 => bytes(&mut self.correlation, wire, buf, context).map_err(in_field("correlation")),
            9 => bytes(&mut self.trace, wire, buf, context).map_err(in_field("trace")),
            10 => uint32::merge(wire, &mut self.schema_version, buf, context)
                .map_err(in_field("schema_version")),
            11 => uint64::merge(wire, &mut self.deadline_unix_ns, buf, context)
                .map_err(in_field("deadline_unix_ns")),
            12 => {
                text(&mut self.payload_type, wire, buf, context).map_err(in_field("payload_type"))
            }
            13 => bytes(&mut self.payload, wire, buf, context).map_err(in_field("payload")),
            14 => message::merge(wire, self.exchange.get_or_insert_default(), buf, context)
                .map_err(in_field("exchange")),
            100 => {
                uint64::merge(wire, &mut self.sequence, buf, context).map_err(in_field("sequence"))
            }
            101 => bytes(&mut self.epoch, wire, buf, context).map_err(in_field("epoch")),
            102 => text(&mut self.sender, wire, buf, context).map_err(in_field("sender")),
            103 => uint64::merge(wire, &mut self.stamped_unix_ns, buf, context)
                .map_err(in_field("stamped_unix_ns")),
            _ => skip_field(wire, tag, buf, context),
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

fn bytes(
    value: &mut Bytes,
    wire: WireType,
    buf: &mut impl Buf,
    context: DecodeContext,
) -> Result<(), DecodeError> {
    prost::encoding::bytes::merge(wire, value, buf, context)
}

fn text(
    value: &mut ByteString,
    wire: WireType,
    buf: &mut impl Buf,
    context: DecodeContext,
) -> Result<(), DecodeError> {
    let mut read = Bytes::new();
    bytes(&mut read, wire, buf, context)?;
    *value = ByteString::try_from(read).map_err(|_| {
        #[expect(deprecated, reason = "the only way to make one outside of prost")]
        DecodeError::new("invalid string value: data is not UTF-8 encoded")
    })?;
    Ok(())
}
