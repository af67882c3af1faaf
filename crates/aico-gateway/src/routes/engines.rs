//! Other programs that run models: which there are, whether one's words may go there, and what
//! went.

use std::sync::Arc;
use std::time::Duration;

use aico_access::Action;
use aico_contracts::topics;
use aico_contracts::v1;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::Items;
use crate::api::engine::{CheckedEngine, Egress, EgressParams, Engine, EngineConsent};
use crate::app::App;
use crate::caller::Caller;
use crate::convert::engines as convert;
use crate::input::{Asked, Ids, Input};
use crate::problem::{Code, Problem};

/// For asking one what it has: connecting, and its own time.
const CHECK: Duration = Duration::from_secs(40);
/// Of what left, when nobody said how much.
const PAGE: u32 = 50;

/// All of them, and whether one's own words may go there. Nobody is asked for it.
#[utoipa::path(get, path = "/api/v1/engines", tag = "engines", operation_id = "list_engines",
    responses((status = 200, description = "By their names.", body = Items<Engine>)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Items<Engine>>, Problem> {
    let me = caller.may_own(Action::ListEngines)?;
    let consents = app.home.engine_consents(me).await?;
    let all = engines(&app).await?;
    let all = all.into_iter();
    let items = all.map(|one| convert::engine(one, &consents)).collect();
    Ok(Json(Items { items }))
}

/// Asks one what it has. That it fails is no error of this request: the answer tells why.
#[utoipa::path(post, path = "/api/v1/engines/{name}/check", tag = "engines",
    operation_id = "check_engine",
    params(("name" = String, Path, description = "As the configuration names it.")),
    responses((status = 200, description = "How it is.", body = CheckedEngine)))]
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<Json<CheckedEngine>, Problem> {
    let me = caller.may_own(Action::CheckEngine)?;
    let consents = app.home.engine_consents(me).await?;
    let question = v1::CheckEngine {
        name: ids.get("name")?,
    };
    let mut found: v1::Engine = app
        .ask_models(topics::MODELS_CHECK_ENGINE, &question, CHECK)
        .await?;
    Ok(Json(CheckedEngine {
        models: std::mem::take(&mut found.models),
        engine: convert::engine(found, &consents),
    }))
}

/// Lets one's own words go to a server, at the address that was shown.
#[utoipa::path(put, path = "/api/v1/engines/{name}/consent", tag = "engines",
    operation_id = "allow_engine", request_body = EngineConsent,
    params(("name" = String, Path, description = "As the configuration names it.")),
    responses((status = 204, description = "They may go there.")))]
pub(crate) async fn allow(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    input: Input,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::ConsentToEngine)?;
    let name: String = ids.get("name")?;
    let form: EngineConsent = input.json().await?;
    let engine = engines(&app)
        .await?
        .into_iter()
        .find(|one| one.name == name)
        .ok_or(Code::NotFound)?;
    if !engine.network {
        return Err(Problem::from(Code::Conflict)
            .with_detail("It runs on this machine: nothing leaves it, and nothing is to allow."));
    }
    if engine.address != form.address {
        return Err(Problem::from(Code::Conflict)
            .with_detail("Its address is another one by now. Look at it again."));
    }
    app.home.allow_engine(me, &name, &engine.address).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets them go there no longer, from the next question on.
#[utoipa::path(delete, path = "/api/v1/engines/{name}/consent", tag = "engines",
    operation_id = "forbid_engine",
    params(("name" = String, Path, description = "As the configuration named it.")),
    responses((status = 204, description = "They go there no longer.")))]
pub(crate) async fn forbid(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::ConsentToEngine)?;
    let name: String = ids.get("name")?;
    app.home.forbid_engine(me, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What of one's own words left this machine, and whereto; how much, and no word of it.
#[utoipa::path(get, path = "/api/v1/egress", tag = "engines", operation_id = "list_egress",
    params(EgressParams),
    responses((status = 200, description = "The newest first.", body = Items<Egress>)))]
pub(crate) async fn egress(
    State(app): State<Arc<App>>,
    caller: Caller,
    asked: Asked,
) -> Result<Json<Items<Egress>>, Problem> {
    let me = caller.may_own(Action::ListEgress)?;
    let query: EgressParams = asked.get()?;
    let limit = query.limit.unwrap_or(PAGE);
    let found = app.home.egress(me, query.before, limit).await?;
    let items = found.into_iter().map(Egress::from).collect();
    Ok(Json(Items { items }))
}

async fn engines(app: &App) -> Result<Vec<v1::Engine>, Problem> {
    let time = app.limits.module_time;
    let found: v1::EngineList = app
        .ask_models(topics::MODELS_ENGINES, &v1::Empty {}, time)
        .await?;
    Ok(found.items)
}
