//! Named tokens: what a person's other programs show on `/v1` and on Ollama's addresses.

use std::sync::Arc;

use aico_access::{Action, TOKEN_DAYS, TOKEN_DAYS_MOST};
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::Items;
use crate::api::token::{MadeToken, NewToken, Token};
use crate::app::App;
use crate::caller::Caller;
use crate::input::{Ids, Input};
use crate::problem::{Code, Problem};

/// One's own named tokens.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", operation_id = "list_tokens",
    responses((status = 200, description = "The newest first.", body = Items<Token>)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Items<Token>>, Problem> {
    let me = caller.may_own(Action::ListTokens)?;
    let all = app.home.tokens(me).await?;
    let items = all.into_iter().rev().map(Token::from).collect();
    Ok(Json(Items { items }))
}

/// Makes one. The answer is the only place where the token itself is ever told.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", operation_id = "create_token",
    request_body = NewToken,
    responses((status = 201, description = "Made.", body = MadeToken)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    let me = caller.may_own(Action::CreateToken)?;
    let form: NewToken = input.json().await?;
    let days = form.expires_days.unwrap_or(TOKEN_DAYS);
    if !(1..=TOKEN_DAYS_MOST).contains(&days) {
        let detail = format!("`expires_days` is 1 to {TOKEN_DAYS_MOST}.");
        return Err(Problem::from(Code::Invalid).with_detail(detail));
    }
    let made = app.home.create_token(me, &form.name, days).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Revokes one: it counts for nothing any more, and what it is being answered ends.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens",
    operation_id = "revoke_token",
    params(("id" = uuid::Uuid, Path, description = "The token's id.")),
    responses((status = 204, description = "Revoked.")))]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::RevokeToken)?;
    app.home.revoke_token(me, ids.get("id")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
