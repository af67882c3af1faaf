//! Frames: encoding them, and reading what a peer sent without trusting it.

use std::sync::Arc;

use aico_contracts::v1::{Control, Envelope, Frame, control};
use aico_contracts::{Payload, SCHEMA_VERSION};
use bytes::Bytes;
use prost::Message as _;

use super::MAX_FRAME;
use crate::parcel::Parcel;
use crate::pattern::check_topic;

/// The topic of [`Control`]; no topic for anyone else (`$` is in none).
pub(super) const LINK_TOPIC: &str = "$link";

/// Most envelopes of one frame.
pub(super) const MAX_ENVELOPES: usize = 4096;

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
    let frame = Frame::decode(bytes).map_err(|_| FrameError::Frame)?;
    if frame.version != SCHEMA_VERSION {
        return Err(FrameError::Version);
    }
    if frame.envelopes.is_empty() || frame.envelopes.len() > MAX_ENVELOPES {
        return Err(FrameError::Count);
    }
    let control = frame.topic == LINK_TOPIC;
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

/// A frame of these encoded envelopes of one topic.
pub(super) fn frame(topic: &str, envelopes: Vec<Bytes>, receiver: u64) -> Bytes {
    let frame = Frame {
        version: SCHEMA_VERSION,
        topic: topic.to_owned(),
        envelopes,
        receiver,
    };
    Bytes::from(frame.encode_to_vec())
}

/// A frame of one parcel.
pub(super) fn frame_of(parcel: &Parcel, receiver: u64) -> Bytes {
    frame(&parcel.envelope.topic, vec![parcel.encoded()], receiver)
}

/// A frame that says something to the other end.
pub(super) fn control(say: control::Say) -> Bytes {
    let control = Control { say: Some(say) };
    let envelope = Envelope {
        topic: LINK_TOPIC.to_owned(),
        schema_version: SCHEMA_VERSION,
        payload_type: Control::TYPE.to_owned(),
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
