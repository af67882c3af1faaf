//! Other programs that run models, from the bus's messages.

use aico_access::EngineConsent;
use aico_contracts::v1;
use jiff::Timestamp;

use super::text;
use crate::api::engine::{Engine, EngineStatus};

pub(crate) fn engine(from: v1::Engine, consents: &[EngineConsent]) -> Engine {
    let status = match from.state() {
        v1::engine::State::Unspecified => EngineStatus::Unknown,
        v1::engine::State::Ready => EngineStatus::Ready,
        v1::engine::State::Failed => EngineStatus::Failed,
    };
    let consent = consents.iter().find(|one| one.engine == from.name);
    let here = consent.is_some_and(|one| one.address == from.address);
    let seen = i64::try_from(from.seen_unix_ms).ok().filter(|ms| *ms > 0);
    let fault = from.fault.unwrap_or_default();
    Engine {
        status,
        allowed: !from.network || here,
        allowed_elsewhere: from.network && consent.is_some() && !here,
        seen_at: seen.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        name: from.name,
        kind: from.kind,
        address: from.address,
        network: from.network,
        version: text(from.version),
        code: text(fault.code),
        why: text(fault.title),
        detail: text(fault.detail),
        what_to_do: text(fault.what_to_do),
    }
}
