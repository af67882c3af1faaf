//! How many tokens something is for a model.

use std::sync::Arc;
use std::time::Duration;

use aico_access::Action;
use aico_bus::{Meta, RequestError};
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::v1::turn::Role;
use aico_contracts::{topics, v1};
use axum::Json;
use axum::extract::State;

use crate::api::count::{CountTokens, CountedRole, TokenCount};
use crate::app::App;
use crate::caller::Caller;
use crate::input::Input;
use crate::problem::{Code, Problem};
use crate::programs::memory;
use crate::programs::models::{self, Askable, Known};
use crate::programs::question::{Extras, Question, Sampling};

/// A model that was just loaded may be gone again before it is asked.
const TRIES: u32 = 5;

/// Counts the tokens of a text, or of what was said, as a model of AICO's own engine reads them:
/// with what its chat template puts around each turn, and before its answer. The model is loaded
/// for that if it is not in memory. Models of other programs don't count beforehand
/// (`model-not-capable`).
#[utoipa::path(post, path = "/api/v1/models/count", tag = "models",
    operation_id = "count_tokens", request_body = CountTokens,
    responses((status = 200, description = "So many.", body = TokenCount)))]
pub(crate) async fn count(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<TokenCount>, Problem> {
    let me = caller.may_own(Action::CountTokens)?;
    let form: CountTokens = input.json().await?;
    let name = form.model.clone();
    let turns = turns(form)?;
    let model = match name {
        None => models::chosen(&app, me).await?.ok_or(Code::NoModel)?,
        Some(name) => match models::find(&app, me, &name).await? {
            Some(Askable::Model(known)) => *known,
            Some(Askable::Companion) | None => return Err(Code::NotFound.into()),
        },
    };
    if !model.chats() {
        return Err(Problem::from(Code::ModelNotCapable)
            .with_detail("It makes vectors, and has no place for what is said."));
    }
    let question = v1::CountTokens {
        turns,
        model: model.model.id.clone(),
    };
    let counted = ask(&app, me, &model, &question).await?;
    Ok(Json(TokenCount {
        model: ModelId::from_slice(&model.model.id).map_err(|_| Code::Internal)?,
        tokens: counted.tokens,
        context_length: counted.context_length,
    }))
}

/// What is counted, in the shape in which other programs' questions reach a model.
fn turns(form: CountTokens) -> Result<Vec<v1::Turn>, Problem> {
    let turn = |role: Role, text| v1::Turn {
        role: role.into(),
        text,
        ..v1::Turn::default()
    };
    let turns: Vec<_> = match (form.text, form.turns) {
        (Some(text), None) => vec![turn(Role::User, text)],
        (None, Some(said)) if !said.is_empty() => {
            let said = said.into_iter().map(|one| {
                let role = match one.role {
                    CountedRole::System => Role::System,
                    CountedRole::User => Role::User,
                    CountedRole::Assistant => Role::Assistant,
                };
                turn(role, one.text)
            });
            said.collect()
        }
        _ => {
            return Err(Problem::from(Code::Invalid)
                .with_detail("Give either a `text`, or `turns` with at least one turn."));
        }
    };
    let question = Question {
        turns,
        sampling: Sampling::default(),
        extras: Extras::default(),
    };
    Ok(question.merged())
}

async fn ask(
    app: &App,
    person: PersonId,
    model: &Known,
    question: &v1::CountTokens,
) -> Result<v1::TokenCount, Problem> {
    for attempt in 1..=TRIES {
        // One of another program has nothing to be loaded for: that it does not count is told.
        if model.model.engine.is_empty() {
            memory::ready(app, person, &model.id()).await?;
        }
        let meta = Meta::for_person(person)
            .priority(v1::Priority::Interactive)
            .deadline_in(app.limits.module_time);
        let asked = app.bus.request(topics::MODELS_COUNT, question, meta).await;
        match asked {
            Ok(counted) => return Ok(counted),
            Err(RequestError::Fault(fault)) if fault.code == "model-changed" => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(50) * attempt).await;
    }
    Err(Code::Unavailable.into())
}
