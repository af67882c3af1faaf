//! Frames: encoding them, and reading what a peer sent without trusting it.

use std::sync::Arc;

use aico_contracts::v1::{Control, Envelope, Frame, control};
use aico_contracts::{ByteString, Payload, SCHEMA_VERSION};
use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{
    DecodeContext, WireType, decode_key, encode_key, encode_varint, encoded_len_varint, key_len,
    skip_field,
};

use super::MAX_FRAME;
use crate::parcel::Parcel;
use crate::pattern::check_topic;

/// The topic of [`Control`]; no topic for anyone else (`$` is in none).
pub(super) const LINK_TOPIC: &str = "$link";

/// Most envelopes of one frame.
pub(super) const MAX_ENVELOPES: usize = 4096;

/// Longest frame of what the two ends tell each other. The longest that is sent, 1,024 receipts,
/// is a fifth of it; an empty element of a list is two bytes here and forty in memory.
pub(super) const MAX_CONTROL: usize = 256 * 1024;

/// `Frame.envelopes`.
const ENVELOPES: u32 = 3;

/// What can be wrong with a frame. Holds nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("it is not one message part")]
    Parts,
    #[error("it is larger than the limit")]
    TooLarge,
    #[error("it is no frame")]
    Frame,
    #[error("it is of a version that this build does not read")]
    Version,
    #[error("it holds no envelope, or too many")]
    Count,
    #[error("its topic is none")]
    Topic,
    #[error("an envelope in it can't be read")]
    Envelope,
    #[error("an envelope in it is of another topic")]
    OtherTopic,
    #[error("an id in it has not 16 bytes")]
    Id,
    #[error("a control message in it can't be read")]
    Control,
}

/// A frame that was read and checked.
pub(super) enum Read {
    Control(Vec<control::Say>),
    Parcels {
        receiver: u64,
        parcels: Vec<(Envelope, Bytes)>,
    },
}

/// Reads a frame. Envelopes are checked to be of the frame's topic and to have an id.
pub(super) fn read(bytes: Bytes) -> Result<Read, FrameError> {
    if bytes.len() > MAX_FRAME {
        return Err(FrameError::TooLarge);
    }
    // Before there is room for them: a frame full of empty envelopes is much larger in memory.
    if count_envelopes(&bytes)? > MAX_ENVELOPES {
        return Err(FrameError::Count);
    }
    let size = bytes.len();
    let frame = Frame::decode(bytes).map_err(|_| FrameError::Frame)?;
    if frame.version != SCHEMA_VERSION {
        return Err(FrameError::Version);
    }
    if frame.envelopes.is_empty() {
        return Err(FrameError::Count);
    }
    let control = frame.topic == LINK_TOPIC;
    if control && size > MAX_CONTROL {
        return Err(FrameError::TooLarge);
    }
    if !control {
        check_topic(&frame.topic).map_err(|_| FrameError::Topic)?;
    }
    let mut parcels = Vec::with_capacity(frame.envelopes.len());
    for wire in frame.envelopes {
        let envelope = Envelope::decode(wire.clone()).map_err(|_| FrameError::Envelope)?;
        if envelope.topic != frame.topic {
            return Err(FrameError::OtherTopic);
        }
        let id = |bytes: &Bytes| bytes.is_empty() || bytes.len() == 16;
        let ids = [&envelope.person, &envelope.correlation, &envelope.trace];
        if (!control && envelope.id.len() != 16) || !ids.into_iter().all(id) {
            return Err(FrameError::Id);
        }
        parcels.push((envelope, wire));
    }
    if !control {
        return Ok(Read::Parcels {
            receiver: frame.receiver,
            parcels,
        });
    }
    parcels
        .into_iter()
        .map(|(envelope, _)| {
            if envelope.payload_type != Control::TYPE {
                return Err(FrameError::Control);
            }
            let control = Control::decode(envelope.payload).map_err(|_| FrameError::Control)?;
            control.say.ok_or(FrameError::Control)
        })
        .collect::<Result<_, _>>()
        .map(Read::Control)
}

/// How many envelopes an encoded frame has.
fn count_envelopes(mut frame: &[u8]) -> Result<usize, FrameError> {
    let mut count = 0;
    while !frame.is_empty() {
        let (field, kind) = decode_key(&mut frame).map_err(|_| FrameError::Frame)?;
        count += usize::from(field == ENVELOPES);
        skip_field(kind, field, &mut frame, DecodeContext::default())
            .map_err(|_| FrameError::Frame)?;
    }
    Ok(count)
}

/// A frame of these parcels of one topic: a [`Frame`], written in one go.
pub(super) fn frame(parcels: &[Parcel], receiver: u64) -> Bytes {
    write(parcels, receiver, 0)
}

/// A frame of one parcel.
pub(super) fn frame_of(parcel: &Parcel, receiver: u64) -> Bytes {
    frame(std::slice::from_ref(parcel), receiver)
}

/// A frame for a SUB socket, which has no numbers and is told here what it missed.
pub(super) fn frame_after_gap(parcels: &[Parcel], missed: u64) -> Bytes {
    write(parcels, 0, missed)
}

fn write(parcels: &[Parcel], receiver: u64, missed: u64) -> Bytes {
    let head = Frame {
        version: SCHEMA_VERSION,
        topic: parcels
            .first()
            .map(|parcel| parcel.envelope.topic.to_string())
            .unwrap_or_default(),
        envelopes: Vec::new(),
        receiver,
        missed,
    };
    let lengths: Vec<_> = parcels.iter().map(Parcel::encoded_len).collect();
    let envelopes: usize = lengths
        .iter()
        .map(|&length| key_len(ENVELOPES) + encoded_len_varint(length as u64) + length)
        .sum();
    let mut out = Vec::with_capacity(head.encoded_len() + envelopes);
    // Its fields may stand in any order: those of the frame itself come first.
    head.encode_raw(&mut out);
    for (parcel, length) in parcels.iter().zip(lengths) {
        encode_key(ENVELOPES, WireType::LengthDelimited, &mut out);
        encode_varint(length as u64, &mut out);
        parcel.encode(&mut out);
    }
    out.into()
}

/// A frame of anything as envelopes.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn frame_of_bytes(topic: &str, envelopes: Vec<Bytes>, receiver: u64) -> Bytes {
    let frame = Frame {
        version: SCHEMA_VERSION,
        topic: topic.to_owned(),
        envelopes,
        receiver,
        missed: 0,
    };
    frame.encode_to_vec().into()
}

/// A frame that says something to the other end.
pub(super) fn control(say: control::Say) -> Bytes {
    let control = Control { say: Some(say) };
    let envelope = Envelope {
        topic: ByteString::from_static(LINK_TOPIC),
        schema_version: SCHEMA_VERSION,
        payload_type: ByteString::from_static(Control::TYPE),
        payload: Bytes::from(control.encode_to_vec()),
        ..Envelope::default()
    };
    frame_of(
        &Parcel {
            envelope: Arc::new(envelope),
            wire: None,
        },
        0,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope(topic: &str, payload: &[u8]) -> Envelope {
        Envelope {
            id: Bytes::from_static(&[1; 16]),
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload),
            ..Envelope::default()
        }
    }

    fn parcels(bytes: Bytes) -> (u64, Vec<Envelope>) {
        match read(bytes).unwrap() {
            Read::Parcels { receiver, parcels } => (
                receiver,
                parcels.into_iter().map(|(envelope, _)| envelope).collect(),
            ),
            Read::Control(_) => panic!("envelopes were expected"),
        }
    }

    fn long_control() -> Bytes {
        control(control::Say::Hello(control::Hello {
            version: 1,
            program: "x".repeat(MAX_CONTROL),
        }))
    }

    #[test]
    fn a_frame_of_several_envelopes_comes_back_whole_and_in_order() {
        let sent: Vec<Envelope> = (0..5).map(|n| envelope("a.b", &[n])).collect();
        let encoded = sent
            .iter()
            .map(|one| Bytes::from(one.encode_to_vec()))
            .collect();
        assert_eq!(parcels(frame_of_bytes("a.b", encoded, 9)), (9, sent));
    }

    #[test]
    fn a_frame_is_refused_for_what_is_wrong_with_it() {
        let good = |topic: &str| vec![Bytes::from(envelope(topic, b"x").encode_to_vec())];
        let short = Envelope {
            id: Bytes::from_static(b"short"),
            ..envelope("a.b", b"")
        };
        let person = Envelope {
            person: Bytes::from_static(b"x"),
            ..envelope("a.b", b"")
        };
        for (bytes, error) in [
            (frame_of_bytes("a.b", vec![], 0), FrameError::Count),
            (
                frame_of_bytes("a.b", vec![Bytes::new(); MAX_ENVELOPES + 1], 0),
                FrameError::Count,
            ),
            (frame_of_bytes("a.*", good("a.*"), 0), FrameError::Topic),
            (frame_of_bytes("", good(""), 0), FrameError::Topic),
            (
                frame_of_bytes("a.c", good("a.b"), 0),
                FrameError::OtherTopic,
            ),
            (
                frame_of_bytes("a.b", vec![Bytes::from_static(&[0xff])], 0),
                FrameError::Envelope,
            ),
            (
                frame_of_bytes("a.b", vec![short.encode_to_vec().into()], 0),
                FrameError::Id,
            ),
            (
                frame_of_bytes("a.b", vec![person.encode_to_vec().into()], 0),
                FrameError::Id,
            ),
            (
                frame_of_bytes(LINK_TOPIC, good(LINK_TOPIC), 0),
                FrameError::Control,
            ),
            (Bytes::from_static(&[0xff; 9]), FrameError::Frame),
            (Bytes::new(), FrameError::Version),
            (Bytes::from(vec![0; MAX_FRAME + 1]), FrameError::TooLarge),
            (long_control(), FrameError::TooLarge),
        ] {
            assert_eq!(read(bytes).err(), Some(error));
        }
    }

    #[test]
    fn a_length_that_is_not_there_allocates_nothing() {
        // Fields 1..=15 announcing up to 2^63 bytes.
        for field in 1..=15_u8 {
            for length in [0x7f_ff_ff_ff_u64, u64::MAX >> 1, u64::MAX] {
                let mut bytes = vec![field << 3 | 2];
                prost::encoding::encode_varint(length, &mut bytes);
                bytes.extend_from_slice(b"abc");
                assert!(read(Bytes::from(bytes.clone())).is_err());
                let inner = frame_of_bytes("a.b", vec![Bytes::from(bytes)], 0);
                assert_eq!(read(inner).err(), Some(FrameError::Envelope));
            }
        }
    }

    #[test]
    fn nesting_without_end_is_refused() {
        // Groups inside groups: field 1, wire type 3.
        assert!(read(Bytes::from(vec![0x0b; 100_000])).is_err());
        let inner = frame_of_bytes("a.b", vec![Bytes::from(vec![0x0b; 100_000])], 0);
        assert_eq!(read(inner).err(), Some(FrameError::Envelope));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail_otherwise_than_by_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let _ = read(Bytes::from(bytes.clone()));
            let _ = read(frame_of_bytes("a.b", vec![Bytes::from(bytes.clone())], 0));
            let _ = read(frame_of_bytes(LINK_TOPIC, vec![Bytes::from(bytes)], 0));
        }

        #[test]
        fn a_frame_with_flipped_cut_or_added_bytes_is_read_or_refused(
            at in any::<prop::sample::Index>(),
            flip in 1..=255_u8,
            cut in any::<prop::sample::Index>(),
            more in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let sent = envelope("a.b", b"payload");
            let good = frame_of_bytes("a.b", vec![sent.encode_to_vec().into()], 3);
            let mut flipped = good.to_vec();
            let place = at.index(flipped.len());
            flipped[place] ^= flip;
            let cut = good.slice(..cut.index(good.len()));
            let longer = [good.as_ref(), more.as_slice()].concat();
            for bytes in [flipped.into(), cut, longer.into()] {
                if let Ok(Read::Parcels { parcels, .. }) = read(bytes) {
                    for (envelope, _) in parcels {
                        prop_assert!(check_topic(&envelope.topic).is_ok());
                        prop_assert_eq!(envelope.id.len(), 16);
                    }
                }
            }
        }
    }
}
