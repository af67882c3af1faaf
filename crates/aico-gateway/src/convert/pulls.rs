//! The catalogue and downloads, from the bus's messages.

use aico_contracts::ids::ModelId;
use aico_contracts::v1;

use super::{Told, maybe, text};
use crate::api::model::{Catalogue, CatalogueEntry, Fit, Pull, PullStatus};
use crate::problem::Problem;

pub(crate) fn catalogue(from: v1::Catalogue) -> Told<Catalogue> {
    let known = |bytes: u64| (bytes > 0).then_some(bytes);
    Ok(Catalogue {
        date: from.date,
        file: text(from.file),
        mirror: text(from.mirror),
        memory_bytes: known(from.memory_bytes),
        available_bytes: known(from.available_bytes),
        cores: from.cores,
        items: from.items.into_iter().map(entry).collect::<Told<_>>()?,
    })
}

fn entry(from: v1::CatalogueEntry) -> Told<CatalogueEntry> {
    let fit = match from.fit() {
        v1::catalogue_entry::Fit::Unspecified => Fit::Unknown,
        v1::catalogue_entry::Fit::Fits => Fit::Fits,
        v1::catalogue_entry::Fit::Tight => Fit::Tight,
        v1::catalogue_entry::Fit::TooLarge => Fit::TooLarge,
    };
    Ok(CatalogueEntry {
        name: from.name,
        title: from.title,
        summary: from.summary,
        purpose: from.purpose,
        architecture: from.architecture,
        parameters: from.parameters,
        quantization: from.quantization,
        context_length: from.context_length,
        license: from.license,
        license_url: from.license_url,
        sources: from.sources,
        size_bytes: from.size_bytes,
        sha256: from
            .sha256
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        memory_bytes: from.memory_bytes,
        fit,
        recommended: from.recommended,
        model: maybe(&from.model, ModelId::from_slice)?,
        present: from.present,
        partial_bytes: from.partial_bytes,
    })
}

pub(crate) fn pull(from: v1::Pull) -> Told<Pull> {
    use v1::pull::State;

    let status = match from.state() {
        State::Unspecified | State::Queued => PullStatus::Queued,
        State::Checking => PullStatus::Checking,
        State::Running => PullStatus::Running,
        State::Waiting => PullStatus::Waiting,
        State::Verifying => PullStatus::Verifying,
        State::Done => PullStatus::Done,
        State::Failed => PullStatus::Failed,
    };
    let left = from.total_bytes.saturating_sub(from.done_bytes);
    let running = status == PullStatus::Running;
    Ok(Pull {
        name: from.name,
        status,
        done_bytes: from.done_bytes,
        total_bytes: from.total_bytes,
        kept_bytes: from.kept_bytes,
        bytes_per_second: from.bytes_per_second,
        seconds_left: left.checked_div(from.bytes_per_second).filter(|_| running),
        source: text(from.source),
        use_then: from.use_then,
        model: maybe(&from.model, ModelId::from_slice)?,
        problem: from.fault.map(|fault| Problem::from(fault).document()),
        retry_in_seconds: (status == PullStatus::Waiting).then(|| from.retry_in_ms.div_ceil(1000)),
    })
}
