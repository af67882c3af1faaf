//! What opens the vault: keychains, the recovery phrase.

use std::sync::Arc;

use aico_access::Action;
use aico_vault::RecoveryPhrase;
use axum::Json;
use axum::extract::State;

use super::home::{given_password, guarded, new_password};
use crate::api::vault as api;
use crate::app::App;
use crate::caller::Caller;
use crate::input::Input;
use crate::problem::{Code, Problem};

/// What opens the vault, each keychain tried.
#[utoipa::path(get, path = "/api/v1/vault", tag = "vault", operation_id = "vault",
    responses((status = 200, description = "Nothing in it is secret.", body = api::Vault)))]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<api::Vault>, Problem> {
    caller.may(Action::ReadVault)?;
    let info = app.home.vault_info().await?;
    Ok(Json(api::Vault {
        key_epoch: info.key_epoch,
        wraps: info.wraps.into_iter().map(Into::into).collect(),
    }))
}

/// Lets a keychain open the vault at a start, in the place of all that could before.
#[utoipa::path(post, path = "/api/v1/vault/remember", tag = "vault",
    request_body = api::Remember,
    responses((status = 200, description = "It does from now on.", body = api::Remembered)))]
pub(crate) async fn remember(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<api::Remembered>, Problem> {
    caller.may(Action::RememberVault)?;
    let form: api::Remember = input.json().await?;
    let done = guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::WrongPassword)?;
        let backend = form.backend.as_deref();
        Ok(app
            .home
            .remember(&password, backend, caller.source())
            .await?)
    })
    .await?;
    Ok(Json(api::Remembered {
        backend: done.backend,
        place: done.place,
        left: done.left,
    }))
}

/// Lets no keychain open the vault any more.
#[utoipa::path(post, path = "/api/v1/vault/forget", tag = "vault",
    request_body = api::MasterProof,
    responses((status = 200, description = "Only password and phrase do.", body = api::Forgotten)))]
pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<api::Forgotten>, Problem> {
    caller.may(Action::RememberVault)?;
    let form: api::MasterProof = input.json().await?;
    let done = guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::WrongPassword)?;
        Ok(app.home.forget(&password, caller.source()).await?)
    })
    .await?;
    Ok(Json(api::Forgotten {
        taken: done.taken,
        left: done.left,
    }))
}

/// A new recovery phrase; the old one opens nothing here any more.
#[utoipa::path(post, path = "/api/v1/vault/phrase", tag = "vault",
    request_body = api::MasterProof,
    responses((status = 200, description = "Shown this once.", body = api::NewPhrase)))]
pub(crate) async fn new_phrase(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<api::NewPhrase>, Problem> {
    caller.may(Action::ReissuePhrase)?;
    let form: api::MasterProof = input.json().await?;
    let phrase = guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::WrongPassword)?;
        Ok(app.home.new_phrase(&password, caller.source()).await?)
    })
    .await?;
    Ok(Json(api::NewPhrase {
        recovery_phrase: phrase.words(),
    }))
}

/// Sets a new master password on the strength of the recovery phrase, unlocks, and signs the
/// owner in. Their other sessions end.
#[utoipa::path(post, path = "/api/v1/recover", tag = "vault", request_body = api::Recover,
    responses((status = 200, description = "The new password counts.", body = api::Recovered)))]
pub(crate) async fn recover(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<api::Recovered>, Problem> {
    caller.may(Action::Recover)?;
    let form: api::Recover = input.json().await?;
    let new = new_password(&form.new)?;
    let session = guarded(&app, &caller, async {
        let phrase =
            RecoveryPhrase::parse(form.phrase.as_str()).map_err(aico_access::HomeError::from)?;
        Ok(app.home.recover(&phrase, &new, caller.source()).await?)
    })
    .await?;
    Ok(Json(api::Recovered {
        session: session.into(),
    }))
}
