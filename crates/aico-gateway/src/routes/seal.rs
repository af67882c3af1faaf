//! Sealing oneself: nobody else can open one's data.

use std::sync::Arc;

use aico_access::Action;
use aico_vault::RecoveryPhrase;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::home::{given_password, guarded, new_password};
use crate::api::access::Session;
use crate::api::rotation as api;
use crate::app::App;
use crate::caller::Caller;
use crate::input::Input;
use crate::problem::{Code, Problem};

/// Seals oneself. From then on one's data opens only while one is signed in; without the password
/// and the phrase that is told here nobody recovers it.
#[utoipa::path(post, path = "/api/v1/me/seal", tag = "persons", operation_id = "seal_self",
    request_body = api::OwnProof,
    responses((status = 200, description = "Sealed. The phrase is shown this once.",
        body = api::Sealed)))]
pub(crate) async fn seal(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<api::Sealed>, Problem> {
    let me = caller.may_own(Action::SealSelf)?;
    let form: api::OwnProof = input.json().await?;
    let phrase = guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::WrongPassword)?;
        Ok(app.home.seal_person(me, &password, caller.source()).await?)
    })
    .await?;
    Ok(Json(api::Sealed {
        recovery_phrase: phrase.words(),
    }))
}

/// Lets AICO open one's data unattended again. The phrase of one's own opens nothing any more.
#[utoipa::path(delete, path = "/api/v1/me/seal", tag = "persons", operation_id = "unseal_self",
    request_body = api::OwnProof,
    responses((status = 204, description = "No longer sealed.")))]
pub(crate) async fn unseal(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::SealSelf)?;
    let form: api::OwnProof = input.json().await?;
    guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::WrongPassword)?;
        Ok(app
            .home
            .unseal_person(me, &password, caller.source())
            .await?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A sealed person sets a new password by their own phrase, and is signed in.
#[utoipa::path(post, path = "/api/v1/persons/recover", tag = "persons",
    operation_id = "recover_person", request_body = api::RecoverPerson,
    responses((status = 200, description = "The new password counts.", body = Session)))]
pub(crate) async fn recover(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<Session>, Problem> {
    caller.may(Action::RecoverPerson)?;
    let form: api::RecoverPerson = input.json().await?;
    let new = new_password(&form.new)?;
    let session = guarded(&app, &caller, async {
        let phrase =
            RecoveryPhrase::parse(form.phrase.as_str()).map_err(aico_access::HomeError::from)?;
        let source = caller.source();
        Ok(app
            .home
            .recover_person(&form.name, &phrase, &new, source)
            .await?)
    })
    .await?;
    Ok(Json(session.into()))
}
