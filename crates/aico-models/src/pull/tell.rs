//! What is told of the catalogue and of downloads.

use std::path::Path;
use std::time::Instant;

use aico_contracts::v1;

use super::catalogue::Catalogue;
use super::fit::{self, Fit, Machine};
use super::here::Here;
use super::meter::{Phase, Reading};
use super::partial;
use super::puller::Pull;
use crate::supervisor::memory;

/// What there is, what of it is here, and what fits this machine. Unfinished downloads lie in
/// `folder`; the pair is the context and the sequences that a model is run with. Blocks.
pub(super) fn catalogue(
    all: &Catalogue,
    here: &Here,
    folder: &Path,
    (context, sequences): (u32, u32),
    mirror: Option<String>,
) -> v1::Catalogue {
    use v1::catalogue_entry::Fit as Told;

    let machine = Machine::look();
    let best = fit::recommended(all, &machine, context, sequences);
    let held = here
        .known
        .iter()
        .find(|model| model.active)
        .map_or(0, |model| memory::need(model, context, sequences));
    let items = all.items.iter().map(|entry| {
        let need = fit::memory(entry, context, sequences);
        let model = here.model(entry);
        v1::CatalogueEntry {
            name: entry.name.clone(),
            title: entry.title.clone(),
            summary: entry.summary.clone(),
            purpose: entry.purpose.as_str().to_owned(),
            architecture: entry.architecture.clone(),
            parameters: entry.parameters,
            quantization: entry.quantization.clone(),
            context_length: entry.context_length,
            license: entry.license.clone(),
            license_url: entry.license_url.clone(),
            sources: entry.sources.iter().map(ToString::to_string).collect(),
            size_bytes: entry.total(),
            sha256: entry.sha256.to_vec(),
            memory_bytes: need,
            fit: match fit::fit(need, held, &machine) {
                Fit::Unknown => Told::Unspecified,
                Fit::Fits => Told::Fits,
                Fit::Tight => Told::Tight,
                Fit::TooLarge => Told::TooLarge,
            }
            .into(),
            recommended: best.is_some_and(|best| best.name == entry.name),
            model: model.map(|model| model.id.to_vec()).unwrap_or_default(),
            present: here.file(entry).is_some(),
            partial_bytes: partial::listed_bytes(folder, entry),
        }
    });
    v1::Catalogue {
        date: all.date.clone(),
        file: all
            .path
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        mirror: mirror.unwrap_or_default(),
        memory_bytes: machine.memory.unwrap_or_default(),
        available_bytes: machine.available.unwrap_or_default(),
        cores: machine.cores,
        items: items.collect(),
    }
}

/// How far a download is.
pub(super) fn pull(name: &str, pull: &Pull) -> v1::Pull {
    use v1::pull::State;

    let Reading {
        phase,
        done,
        total,
        kept,
        rate,
        source,
    } = pull.meter.read();
    let (state, fault, retry_in_ms) = match phase {
        Phase::Queued => (State::Queued, None, 0),
        Phase::Checking => (State::Checking, None, 0),
        Phase::Running => (State::Running, None, 0),
        Phase::Waiting(at, fault) => {
            let left = at.saturating_duration_since(Instant::now()).as_millis();
            let left = u64::try_from(left).unwrap_or(u64::MAX);
            (State::Waiting, Some(fault), left)
        }
        Phase::Verifying => (State::Verifying, None, 0),
        Phase::Done => (State::Done, None, 0),
        Phase::Failed(fault) => (State::Failed, Some(fault), 0),
    };
    v1::Pull {
        name: name.to_owned(),
        state: state.into(),
        done_bytes: done,
        total_bytes: total,
        kept_bytes: kept,
        bytes_per_second: rate,
        source,
        use_then: pull.use_then,
        model: pull.model.map(|id| id.to_vec()).unwrap_or_default(),
        fault,
        retry_in_ms,
    }
}
