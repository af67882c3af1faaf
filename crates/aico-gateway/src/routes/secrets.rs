//! Secrets of the configuration: set, listed by name, removed; never told.

use std::sync::Arc;

use aico_access::Action;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::Items;
use crate::api::secret::{ConfigSecret, ConfigSecretName, NewConfigSecret};
use crate::app::App;
use crate::caller::Caller;
use crate::input::Input;
use crate::problem::Problem;

/// The names of the configuration's secrets.
#[utoipa::path(get, path = "/api/v1/config/secrets", tag = "system",
    operation_id = "list_config_secrets",
    responses((status = 200, description = "By name.", body = Items<ConfigSecret>)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Items<ConfigSecret>>, Problem> {
    caller.may(Action::ListSecrets)?;
    let all = app.home.secrets().await?;
    let items = all.into_iter().map(ConfigSecret::from).collect();
    Ok(Json(Items { items }))
}

/// Sets one, in the place of another of that name. It is kept sealed, and told by nothing.
#[utoipa::path(post, path = "/api/v1/config/secrets", tag = "system",
    operation_id = "set_config_secret", request_body = NewConfigSecret,
    responses((status = 204, description = "Kept.")))]
pub(crate) async fn set(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<StatusCode, Problem> {
    caller.may(Action::SetSecret)?;
    let form: NewConfigSecret = input.json().await?;
    app.home.set_secret(&form.name, form.value.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes one.
#[utoipa::path(post, path = "/api/v1/config/secrets/remove", tag = "system",
    operation_id = "remove_config_secret", request_body = ConfigSecretName,
    responses((status = 204, description = "Removed.")))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<StatusCode, Problem> {
    caller.may(Action::RemoveSecret)?;
    let form: ConfigSecretName = input.json().await?;
    app.home.remove_secret(&form.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
