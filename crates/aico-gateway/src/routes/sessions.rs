//! Signing in and out.

use std::sync::Arc;

use aico_access::Action;
use aico_contracts::ids::SessionId;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::home::{given_password, guarded};
use crate::api::Items;
use crate::api::access::{Session, SessionInfo, SignIn};
use crate::app::App;
use crate::caller::Caller;
use crate::input::{Ids, Input};
use crate::problem::{Code, Problem};

/// A person signs in with name and password.
#[utoipa::path(post, path = "/api/v1/sessions", tag = "sessions", request_body = SignIn,
    responses((status = 201, description = "Signed in.", body = Session)))]
pub(crate) async fn sign_in(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<Session>), Problem> {
    caller.may(Action::SignIn)?;
    let form: SignIn = input.json().await?;
    let session = guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::SignInFailed)?;
        let (home, source) = (&app.home, caller.source());
        Ok(match form.takes_phrase {
            true => {
                home.sign_in_taking_phrase(&form.name, &password, source)
                    .await?
            }
            false => home.sign_in(&form.name, &password, source).await?,
        })
    })
    .await?;
    Ok((StatusCode::CREATED, Json(session.into())))
}

/// One's own sessions.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions", operation_id = "list_sessions",
    responses((status = 200, description = "One's own sessions.", body = Items<SessionInfo>)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Items<SessionInfo>>, Problem> {
    let me = caller.may_own(Action::ListSessions)?;
    let mut all = app.home.sessions(me).await?;
    all.sort_by_key(|session| std::cmp::Reverse(session.created_at));
    // It can be lost at any moment; the list can't.
    let there = app.home.presence_of(me).await.unwrap_or_default();
    let items = all
        .into_iter()
        .map(|session| {
            let of = there.iter().find(|one| one.session == Some(session.id));
            let connected = of.is_some_and(|one| one.since.is_some());
            SessionInfo {
                id: session.id,
                created_at: session.created_at,
                expires_at: session.expires_at,
                current: caller.session() == Some(session.id),
                client: session.client,
                connected,
                seen_at: of.filter(|_| !connected).map(|one| one.seen),
            }
        })
        .collect();
    Ok(Json(Items { items }))
}

/// Signs out everywhere.
#[utoipa::path(delete, path = "/api/v1/sessions", tag = "sessions",
    operation_id = "end_all_sessions",
    responses((status = 204, description = "All of one's own sessions have ended.")))]
pub(crate) async fn end_all(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::EndSession)?;
    app.home.end_all_sessions(me).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signs out here.
#[utoipa::path(delete, path = "/api/v1/sessions/current", tag = "sessions",
    operation_id = "end_current_session",
    responses((status = 204, description = "The session of this token has ended.")))]
pub(crate) async fn end_current(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::EndSession)?;
    // Over the local socket there is no session that could end.
    let session = caller.session().ok_or(Code::NotFound)?;
    app.home.end_session(me, session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends one of one's own sessions.
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", tag = "sessions",
    operation_id = "end_session",
    params(("id" = uuid::Uuid, Path, description = "The session.")),
    responses((status = 204, description = "It has ended.")))]
pub(crate) async fn end(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::EndSession)?;
    app.home
        .end_session(me, ids.get::<SessionId>("id")?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
