//! Modules of other makers: who is admitted to the bus, for what and for whom.

use std::sync::Arc;

use aico_access::{Action, GrantError, HomeError, NewModule, TopicGrant};
use aico_bus::link::read_public_key;
use aico_contracts::ids::{ModuleId, PersonId};
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::Items;
use crate::api::module::{AddModule, Admitted, Module, NewKey};
use crate::app::App;
use crate::caller::Caller;
use crate::config::Door;
use crate::input::{Ids, Input};
use crate::problem::{Code, Problem};

/// All modules for the owner; for a member those that ask for their data.
#[utoipa::path(get, path = "/api/v1/modules", tag = "modules", operation_id = "list_modules",
    responses((status = 200, description = "The modules, by name.", body = Items<Module>)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Items<Module>>, Problem> {
    caller.may(Action::ListModules)?;
    let viewer = match caller.principal().is_owner() {
        true => None,
        false => caller.principal().person(),
    };
    let items = app
        .home
        .modules()
        .await?
        .into_iter()
        .map(|module| Module::new(module, viewer))
        .filter(|module| viewer.is_none() || !module.persons.is_empty())
        .collect();
    Ok(Json(Items { items }))
}

/// Admits a module. For the data of another person than the owner that person has to agree.
#[utoipa::path(post, path = "/api/v1/modules", tag = "modules", operation_id = "add_module",
    request_body = AddModule,
    responses((status = 201, description = "Admitted.", body = Admitted)))]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<Admitted>), Problem> {
    caller.may(Action::AddModule)?;
    let form: AddModule = input.json().await?;
    let mut topics = Vec::new();
    for (action, patterns) in [
        (Action::BusPublish, &form.publish),
        (Action::BusSubscribe, &form.subscribe),
        (Action::BusRequest, &form.request),
        (Action::BusServe, &form.serve),
    ] {
        for pattern in patterns {
            topics.push(TopicGrant::new(action, pattern).map_err(refused)?);
        }
    }
    let persons = form.persons.iter().map(|id| id.parse::<PersonId>());
    let new = NewModule {
        name: form.name,
        key: public_key(&form.public_key)?,
        topics,
        persons: persons
            .collect::<Result<_, _>>()
            .map_err(|_| Code::NotFound)?,
    };
    let module = app.home.add_module(new).await?;
    let admitted = Admitted {
        module: Module::new(module, None),
        door: door(&app).await?,
    };
    Ok((StatusCode::CREATED, Json(admitted)))
}

/// Gives a module another key. Whoever is connected with the one before is cut off.
#[utoipa::path(put, path = "/api/v1/modules/{id}/key", tag = "modules",
    operation_id = "rotate_module", request_body = NewKey,
    params(("id" = uuid::Uuid, Path, description = "The module.")),
    responses((status = 200, description = "The new key counts.", body = Admitted)))]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    input: Input,
) -> Result<Json<Admitted>, Problem> {
    caller.may(Action::RotateModule)?;
    let id: ModuleId = ids.get("id")?;
    let form: NewKey = input.json().await?;
    let key = public_key(&form.public_key)?;
    let module = app.home.rotate_module(id, key).await?;
    Ok(Json(Admitted {
        module: Module::new(module, None),
        door: door(&app).await?,
    }))
}

/// Cuts a module off and forgets what it was granted.
#[utoipa::path(delete, path = "/api/v1/modules/{id}", tag = "modules",
    operation_id = "revoke_module",
    params(("id" = uuid::Uuid, Path, description = "The module.")),
    responses((status = 204, description = "Cut off.")))]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    caller.may(Action::RevokeModule)?;
    app.home.revoke_module(ids.get("id")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a module that asks for it have one's own data.
#[utoipa::path(put, path = "/api/v1/modules/{id}/consent", tag = "modules",
    operation_id = "consent_to_module",
    params(("id" = uuid::Uuid, Path, description = "The module.")),
    responses((status = 204, description = "Agreed.")))]
pub(crate) async fn consent(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::ConsentToModule)?;
    app.home.consent_to_module(ids.get("id")?, me, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets it have them no longer, from now on.
#[utoipa::path(delete, path = "/api/v1/modules/{id}/consent", tag = "modules",
    operation_id = "withdraw_from_module",
    params(("id" = uuid::Uuid, Path, description = "The module.")),
    responses((status = 204, description = "Withdrawn.")))]
pub(crate) async fn withdraw(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::ConsentToModule)?;
    app.home
        .consent_to_module(ids.get("id")?, me, false)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn refused(error: GrantError) -> Problem {
    HomeError::from(error).into()
}

fn public_key(text: &str) -> Result<[u8; 32], Problem> {
    read_public_key(text).ok_or_else(|| {
        Problem::from(Code::GrantInvalid).with_detail("The public key is no CURVE key in Z85.")
    })
}

async fn door(app: &App) -> Result<Door, Problem> {
    app.broker.door().await.ok_or_else(|| {
        Problem::from(Code::Unavailable).with_detail(
            "The module is admitted, but the bus can't listen for it; the log says why.",
        )
    })
}
