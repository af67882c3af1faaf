//! What the parts of AICO say to each other: message types, topic names, typed ids. No logic.
//!
//! The `.proto` files under `proto/` are the contract; [`v1`] is generated from them by the
//! build, without `protoc`. Modules in other languages get the same files ([`FILES`]).
//!
//! Messages that can carry a person's text, a name or a path have a [`Debug`](std::fmt::Debug)
//! that tells their type and nothing else, so that no log line can leak them.

#![forbid(unsafe_code)]

mod envelope;
mod fault;
pub mod ids;
pub mod metrics;
mod payload;
pub mod topics;

pub use bytes::Bytes;
pub use bytestring::ByteString;
pub use payload::Payload;

/// Version 1 of the contracts, generated from `proto/aico/v1`.
#[expect(missing_docs, reason = "generated; the .proto files hold the comments")]
pub mod v1 {
    pub use crate::envelope::Envelope;

    include!(concat!(env!("OUT_DIR"), "/aico.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/aico.v1.impls.rs"));
}

/// The version that this build writes into `Envelope.schema_version` and `Frame.version`.
pub const SCHEMA_VERSION: u32 = 1;

/// The contracts' source texts as (path under the export folder, text).
pub const FILES: &[(&str, &str)] = &[
    (
        "aico/v1/envelope.proto",
        include_str!("../proto/aico/v1/envelope.proto"),
    ),
    (
        "aico/v1/engines.proto",
        include_str!("../proto/aico/v1/engines.proto"),
    ),
    (
        "aico/v1/link.proto",
        include_str!("../proto/aico/v1/link.proto"),
    ),
    (
        "aico/v1/conversation.proto",
        include_str!("../proto/aico/v1/conversation.proto"),
    ),
    (
        "aico/v1/models.proto",
        include_str!("../proto/aico/v1/models.proto"),
    ),
    (
        "aico/v1/activity.proto",
        include_str!("../proto/aico/v1/activity.proto"),
    ),
    (
        "aico/v1/system.proto",
        include_str!("../proto/aico/v1/system.proto"),
    ),
    (
        "aico/v1/transformers.proto",
        include_str!("../proto/aico/v1/transformers.proto"),
    ),
];
