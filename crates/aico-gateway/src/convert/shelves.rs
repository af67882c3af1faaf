//! Models on the disk of another program, from the bus's messages.

use aico_contracts::ids::ModelId;
use aico_contracts::v1;

use super::{Told, text};
use crate::api::shelf::{EngineJob, EngineJobStatus, EngineModelDetails, EngineOffer};
use crate::problem::Problem;

pub(crate) fn offer(from: v1::EngineOffer) -> EngineOffer {
    EngineOffer {
        engine: from.engine,
        model: from.name,
        present: from.present,
        download: text(from.download),
        source: text(from.source),
        size_bytes: (from.size_bytes > 0).then_some(from.size_bytes),
        license: text(from.license),
        copied_bytes: from.copied_bytes,
        unknown: from.unknown.map(|fault| Problem::from(fault).document()),
    }
}

pub(crate) fn job(from: v1::EngineJob) -> Told<EngineJob> {
    use v1::engine_job::State;

    let status = match from.state() {
        State::Unspecified | State::Queued => EngineJobStatus::Queued,
        State::Running => EngineJobStatus::Running,
        State::Waiting => EngineJobStatus::Waiting,
        State::Done => EngineJobStatus::Done,
        State::Failed => EngineJobStatus::Failed,
    };
    let left = from.total_bytes.saturating_sub(from.done_bytes);
    let running = status == EngineJobStatus::Running;
    Ok(EngineJob {
        engine: from.engine,
        model: from.name,
        id: ModelId::from_slice(&from.model)?,
        created: from.created,
        status,
        step: text(from.step),
        done_bytes: from.done_bytes,
        total_bytes: from.total_bytes,
        bytes_per_second: from.bytes_per_second,
        seconds_left: left.checked_div(from.bytes_per_second).filter(|_| running),
        use_then: from.use_then,
        problem: from.fault.map(|fault| Problem::from(fault).document()),
        retry_in_seconds: (status == EngineJobStatus::Waiting)
            .then(|| from.retry_in_ms.div_ceil(1000)),
    })
}

pub(crate) fn details(from: v1::EngineModelDetails) -> EngineModelDetails {
    EngineModelDetails {
        engine: from.engine,
        model: from.name,
        license: text(from.license),
        template: text(from.template),
        system: text(from.system),
        parameters: text(from.parameters),
        architecture: text(from.architecture),
        parameter_count: from.parameter_count,
        quantization: text(from.quantization),
        context_length: from.context_length,
        capabilities: from.capabilities,
    }
}
