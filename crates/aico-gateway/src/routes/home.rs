//! Setting up, unlocking, locking.

use std::sync::Arc;
use std::time::Instant;

use aico_access::{Action, SetupProof};
use aico_vault::Password;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::access as api;
use crate::app::App;
use crate::caller::Caller;
use crate::input::{Input, Secret};
use crate::problem::{Code, Problem};

/// Where the installation stands.
#[utoipa::path(get, path = "/api/v1/state", tag = "home",
    responses((status = 200, description = "What anybody may know.", body = api::State)))]
pub(crate) async fn state(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<api::State>, Problem> {
    caller.may(Action::ReadState)?;
    Ok(Json(api::State {
        stage: app.stage().into(),
        version: env!("CARGO_PKG_VERSION"),
        keychain: app.home.waits().map(Into::into),
        updating: app
            .home
            .updating(caller.principal().person())
            .map(Into::into),
    }))
}

/// A generated passphrase, as a suggestion.
#[utoipa::path(get, path = "/api/v1/passphrase", tag = "home",
    responses((status = 200, description = "Five random words.", body = api::Passphrase)))]
pub(crate) async fn passphrase(caller: Caller) -> Result<Json<api::Passphrase>, Problem> {
    caller.may(Action::SuggestPassphrase)?;
    let passphrase = aico_vault::suggest_passphrase().as_str().to_owned();
    Ok(Json(api::Passphrase { passphrase }))
}

/// The first set-up: makes the vault and the owner, and signs them in.
#[utoipa::path(post, path = "/api/v1/setup", tag = "home", request_body = api::SetUp,
    responses((status = 201, description = "Set up and unlocked.", body = api::SetUpDone)))]
pub(crate) async fn set_up(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<api::SetUpDone>), Problem> {
    caller.may(Action::SetUp)?;
    let form: api::SetUp = input.json().await?;
    let password = new_password(&form.password)?;
    // Over the local socket the system has told who is there; a code adds nothing to that.
    let proof = if caller.is_local() {
        SetupProof::LocalSocket
    } else {
        SetupProof::Code(form.code.as_ref().map(Secret::as_str).unwrap_or_default())
    };
    let done = guarded(&app, &caller, async {
        Ok(app
            .home
            .set_up(proof, &form.name, &password, caller.source())
            .await?)
    })
    .await?;
    let body = api::SetUpDone {
        recovery_phrase: done.phrase.words(),
        session: done.session.into(),
    };
    Ok((StatusCode::CREATED, Json(body)))
}

/// Opens everything with the master password, which is the owner's own: it signs them in.
#[utoipa::path(post, path = "/api/v1/unlock", tag = "home", request_body = api::Unlock,
    responses((status = 200, description = "Unlocked.", body = api::Unlocked)))]
pub(crate) async fn unlock(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<api::Unlocked>, Problem> {
    caller.may(Action::Unlock)?;
    let form: api::Unlock = input.json().await?;
    let session = guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::WrongPassword)?;
        Ok(app
            .home
            .unlock_and_sign_in(&password, caller.source())
            .await?)
    })
    .await?;
    Ok(Json(api::Unlocked {
        session: session.into(),
    }))
}

/// Ends all sessions and forgets all keys.
#[utoipa::path(post, path = "/api/v1/lock", tag = "home",
    responses((status = 204, description = "Locked.")))]
pub(crate) async fn lock(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<StatusCode, Problem> {
    caller.may(Action::Lock)?;
    app.home.lock().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A password that somebody wants to have: what is wrong with it is told.
pub(crate) fn new_password(given: &Secret) -> Result<Password, Problem> {
    Password::new(given.as_str())
        .map_err(|error| Problem::from(Code::PasswordTooWeak).with_detail(error.to_string()))
}

/// A password that somebody proves themselves with. What can't be one is a wrong one, so that
/// there is one answer.
pub(crate) fn given_password(given: &Secret, wrong: Code) -> Result<Password, Problem> {
    Password::new(given.as_str()).map_err(|_| wrong.into())
}

/// Lets a source try a password or code, when it may, and counts what came of it.
pub(crate) async fn guarded<T>(
    app: &App,
    caller: &Caller,
    attempt: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let _under_way = app.tries.begin(caller.from(), Instant::now())?;
    let outcome = attempt.await;
    let code = outcome.as_ref().err().map(Problem::code);
    app.tries.note(caller.from(), code, Instant::now());
    outcome
}
