//! What may travel as the payload of an envelope.

/// A message of the contracts with its full protobuf name.
///
/// Implemented by the build for every message in `proto/`; the name goes into
/// `Envelope.payload_type`, and a receiver that expects another type is told so instead of
/// reading one message's bytes as another's.
pub trait Payload: prost::Message + Default + Send + Sync + 'static {
    /// The full protobuf name, `aico.v1.AnswerDelta`.
    const TYPE: &'static str;
}
