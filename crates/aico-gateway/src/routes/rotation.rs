//! Changing keys while everything runs.

use std::sync::Arc;

use aico_access::{Action, Rotate};
use aico_vault::Purpose;
use axum::Json;
use axum::extract::State;

use super::home::{given_password, guarded};
use crate::api::rotation as api;
use crate::app::App;
use crate::caller::Caller;
use crate::input::Input;
use crate::problem::{Code, Problem};

/// Begins to change keys. One that was not finished is gone on with; unless it is what is asked for,
/// this one is refused (409) and can be asked for again when the other is over.
///
/// A plain rotation makes a new root key and writes anew what is under it. It revokes nothing that
/// a person's own key or password opens, and no copy that was taken before. With `compromised`
/// each person, each database and what signs gets a new key too, and the data is rewritten.
#[utoipa::path(post, path = "/api/v1/vault/rotation", tag = "vault",
    operation_id = "rotate_vault", request_body = api::Rotate,
    responses((status = 200, description = "It has begun.", body = api::Begun)))]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<api::Begun>, Problem> {
    caller.may(Action::RotateVault)?;
    let form: api::Rotate = input.json().await?;
    let purposes = form.purposes.iter().map(|name| {
        let known = Purpose::ALL.iter().find(|purpose| purpose.as_str() == name);
        known.copied().ok_or_else(|| {
            Problem::from(Code::Invalid).with_detail("There is no key for that purpose.")
        })
    });
    let purposes: Vec<_> = purposes.collect::<Result<_, _>>()?;
    let what = Rotate {
        root: purposes.is_empty() && form.person.is_none(),
        compromised: form.compromised,
        purposes,
        person: form.person,
    };
    let begun = guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::WrongPassword)?;
        Ok(app
            .home
            .rotate(what, Some(&password), caller.source())
            .await?)
    })
    .await?;
    Ok(Json(begun.into()))
}

/// How far a change of keys is.
#[utoipa::path(get, path = "/api/v1/vault/rotation", tag = "vault",
    operation_id = "read_rotation",
    responses((status = 200, description = "How far it is.", body = api::Rotation)))]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<api::Rotation>, Problem> {
    caller.may(Action::ReadVault)?;
    let pending = app.home.pending_key_changes().await?;
    Ok(Json(api::Rotation::new(app.home.rotation(), pending)))
}
