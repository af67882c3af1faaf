//! What models do, from the bus's messages.

use aico_contracts::ids::ModelId;
use aico_contracts::v1;
use jiff::Timestamp;

use super::{Told, Untold, status, text, time};
use crate::api::activity::{
    ActivitySample, AskedOfModel, AskedOutcome, AskedTotals, Fallback, GraphicsDevice,
    ModelActivity, ModelSample, ModelsActivity,
};

fn known(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

#[expect(clippy::cast_precision_loss, reason = "durations of days are exact")]
fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

fn moment(unix_ms: u64) -> Told<Option<Timestamp>> {
    known(unix_ms).map(time).transpose()
}

pub(crate) fn activity(from: v1::ModelsActivity) -> Told<ModelsActivity> {
    Ok(ModelsActivity {
        at: time(from.at_unix_ms)?,
        sample_every_ms: from.sample_every_ms,
        memory_bytes: known(from.memory_bytes),
        available_bytes: known(from.available_bytes),
        most_loaded: from.most_loaded,
        models: from.models.into_iter().map(model).collect::<Told<_>>()?,
        samples: from.samples.into_iter().map(sample).collect::<Told<_>>()?,
        requests: from.requests.into_iter().map(asked).collect::<Told<_>>()?,
    })
}

fn model(from: v1::ModelActivity) -> Told<ModelActivity> {
    Ok(ModelActivity {
        status: status(from.status()),
        loading_percent: from.loading_percent,
        model: ModelId::from_slice(&from.model)?,
        name: from.name,
        engine: text(from.engine),
        active: from.active,
        pinned: from.pinned,
        memory_bytes: known(from.memory_bytes),
        idle_until: moment(from.idle_until_unix_ms)?,
        running: from.running,
        places: from.places,
        waiting: from.waiting,
        tokens_per_second: from.tokens_per_second,
        totals: totals(from.totals.unwrap_or_default()),
        resting_until: moment(from.resting_until_unix_ms)?,
        restarts: from.restarts,
        process_id: (from.process_id > 0).then_some(from.process_id),
        device: from.device.map(|device| GraphicsDevice {
            kind: device.kind,
            name: device.name,
            memory_bytes: device.memory_bytes,
            free_bytes: device.free_bytes,
            shared: device.shared,
        }),
        fallback: from.fallback.map(|fault| Fallback {
            code: fault.code,
            why: fault.title,
            detail: text(fault.detail),
            what_to_do: text(fault.what_to_do),
        }),
    })
}

fn totals(from: v1::AskedTotals) -> AskedTotals {
    AskedTotals {
        completed: from.completed,
        cancelled: from.cancelled,
        refused: from.refused,
        failed: from.failed,
        prompt_tokens: from.prompt_tokens,
        cached_tokens: from.cached_tokens,
        answer_tokens: from.answer_tokens,
        first_token_ms: known(from.first_token_us).map(ms),
        tokens_per_second: (from.tokens_per_second > 0.0).then_some(from.tokens_per_second),
    }
}

fn sample(from: v1::ActivitySample) -> Told<ActivitySample> {
    let models = from.models.into_iter().map(|from| {
        Ok(ModelSample {
            model: ModelId::from_slice(&from.model)?,
            running: from.running,
            waiting: from.waiting,
            tokens_per_second: from.tokens_per_second,
            memory_bytes: known(from.memory_bytes),
            processors: from.processors,
            completed: from.completed,
            failed: from.failed,
            first_token_ms: known(from.first_token_us).map(ms),
        })
    });
    Ok(ActivitySample {
        at: time(from.at_unix_ms)?,
        available_bytes: known(from.available_bytes),
        models: models.collect::<Told<_>>()?,
    })
}

fn asked(from: v1::AskedOfModel) -> Told<AskedOfModel> {
    use v1::asked_of_model::Outcome;

    let outcome = match from.outcome() {
        Outcome::Waiting => AskedOutcome::Waiting,
        Outcome::Running => AskedOutcome::Running,
        Outcome::Completed => AskedOutcome::Completed,
        Outcome::Cut => AskedOutcome::Cut,
        Outcome::Cancelled => AskedOutcome::Cancelled,
        Outcome::Refused => AskedOutcome::Refused,
        Outcome::Failed => AskedOutcome::Failed,
        Outcome::Unspecified => return Err(Untold::Unknown("the outcome of a question")),
    };
    Ok(AskedOfModel {
        request: uuid::Uuid::from_slice(&from.request)
            .map_err(|_| Untold::Missing("the id of a question"))?,
        model: ModelId::from_slice(&from.model)?,
        name: from.name,
        engine: text(from.engine),
        at: time(from.at_unix_ms)?,
        asker: from.asker,
        outcome,
        problem: text(from.fault),
        prompt_tokens: from.prompt_tokens,
        cached_tokens: from.cached_tokens,
        answer_tokens: from.answer_tokens,
        waited_ms: ms(from.waited_us),
        first_token_ms: known(from.first_token_us).map(ms),
        total_ms: known(from.total_us).map(ms),
        tokens_per_second: from.tokens_per_second,
    })
}
